/* formula: conjunctions of clauses over positive literals, kept canonical. Inside ifc/ only. */
#ifndef LETHE_IFC_FORMULA_H
#define LETHE_IFC_FORMULA_H

#include "ifc.h"

typedef struct { const id128 *principals; size_t count; } ifc_clause;

ifc_clause formula_clause(const ifc_formula *f, size_t index);
void formula_set_true(ifc_formula *f);
void formula_set_false(ifc_formula *f);
/* Sorts in place and drops what occurs twice; returns the new count. */
size_t clause_sort(id128 *principals, size_t count);
bool clause_subset(ifc_clause a, ifc_clause b);
/* < 0, 0, > 0: by principals, a prefix first. */
int clause_compare(ifc_clause a, ifc_clause b);
/* f and clause. The clause is sorted, unique and not part of f. False: past a cap, f unchanged
 * but for clauses that the new one implies. */
bool formula_insert(ifc_formula *f, ifc_clause clause);
bool formula_implies(const ifc_formula *a, const ifc_formula *b);
bool formula_equal(const ifc_formula *a, const ifc_formula *b);
/* out is neither a nor b. False past a cap, whatever the order of a and b: what is counted is the
 * canonical result. */
bool formula_and(const ifc_formula *a, const ifc_formula *b, ifc_formula *out);
bool formula_or(const ifc_formula *a, const ifc_formula *b, ifc_formula *out);

#endif
