/* formula: conjunctions of clauses over positive literals, kept canonical. Inside ifc/ only. */
#ifndef LETHE_IFC_FORMULA_H
#define LETHE_IFC_FORMULA_H

#include "ifc.h"

typedef struct { const id128 *principals; size_t count; } ifc_clause;

/* The contracts below (ACSL) are proven of the code in formula.c by tests/proof/run. They speak of an id as a
 * number, as memcmp orders it, and of a clause as an ascending array of ids.
 *
 * subset(a, n, b, m): every id of a[0..n) is in b[0..m). covers(f, c, n): some clause of f is a subset of c,
 * which is when f implies c, over positive literals. */
/*@ axiomatic Ids {
      logic integer id_value(id128 x) reads \nothing;
    }
    predicate ascending(id128 *p, integer n) =
      \forall integer i, j; 0 <= i < j < n ==> id_value(p[i]) < id_value(p[j]);
    predicate member(integer v, id128 *p, integer n) = \exists integer j; 0 <= j < n && id_value(p[j]) == v;
    predicate subset(id128 *a, integer n, id128 *b, integer m) =
      \forall integer i; 0 <= i < n ==> member(id_value(a[i]), b, m);

    logic integer start(ifc_formula *f, integer i) = i == 0 ? 0 : f->ends[i - 1];
    logic integer size(ifc_formula *f, integer i) = f->ends[i] - start(f, i);
    logic id128 *at(ifc_formula *f, integer i) = &f->principals[start(f, i)];
    // what memory safety needs of a formula
    predicate bounded(ifc_formula *f) =
      f->clause_count <= IFC_CLAUSES_MAX &&
      (\forall integer i; 0 <= i < f->clause_count ==> f->ends[i] <= IFC_PRINCIPALS_MAX) &&
      (\forall integer i, j; 0 <= i <= j < f->clause_count ==> f->ends[i] <= f->ends[j]);
    predicate shaped(ifc_formula *f) =
      bounded(f) && (\forall integer i; 0 <= i < f->clause_count ==> ascending(at(f, i), size(f, i)));
    predicate covers(ifc_formula *f, id128 *c, integer n) =
      \exists integer k; 0 <= k < f->clause_count && subset(at(f, k), size(f, k), c, n);
    predicate implies(ifc_formula *a, ifc_formula *b) =
      \forall integer i; 0 <= i < b->clause_count ==> covers(a, at(b, i), size(b, i));

    lemma subset_reflexive: \forall id128 *a, integer n; subset(a, n, a, n);
    lemma subset_transitive: \forall id128 *a, *b, *c, integer n, m, o;
      subset(a, n, b, m) ==> subset(b, m, c, o) ==> subset(a, n, c, o);
    lemma covers_upwards: \forall ifc_formula *f, id128 *a, *b, integer n, m;
      covers(f, a, n) ==> subset(a, n, b, m) ==> covers(f, b, m);
    lemma implies_reflexive: \forall ifc_formula *a; implies(a, a);
    lemma implies_covers: \forall ifc_formula *a, *b, id128 *c, integer n;
      implies(a, b) ==> covers(b, c, n) ==> covers(a, c, n);
    lemma implies_transitive: \forall ifc_formula *a, *b, *c; implies(a, b) ==> implies(b, c) ==> implies(a, c);

    predicate flows(ifc_label *a, ifc_label *b) =
      implies(&b->secrecy, &a->secrecy) && implies(&a->integrity, &b->integrity);
    lemma flows_reflexive: \forall ifc_label *a; flows(a, a);
    lemma flows_transitive: \forall ifc_label *a, *b, *c; flows(a, b) ==> flows(b, c) ==> flows(a, c);

    // out says what a and b say together: it covers just what one of them covers. And: what either says.
    predicate conjunction(ifc_formula *out, ifc_formula *a, ifc_formula *b) =
      \forall id128 *c, integer n; covers(out, c, n) <==> covers(a, c, n) || covers(b, c, n);
    predicate disjunction(ifc_formula *out, ifc_formula *a, ifc_formula *b) =
      \forall id128 *c, integer n; covers(out, c, n) <==> covers(a, c, n) && covers(b, c, n);
    lemma own_clause_covered: \forall ifc_formula *f, integer i;
      0 <= i < f->clause_count ==> covers(f, at(f, i), size(f, i));
    lemma conjunction_upper: \forall ifc_formula *o, *a, *b; conjunction(o, a, b) ==> implies(o, a) && implies(o, b);
    lemma conjunction_least: \forall ifc_formula *o, *a, *b, *u;
      conjunction(o, a, b) ==> implies(u, a) ==> implies(u, b) ==> implies(u, o);
    lemma disjunction_upper: \forall ifc_formula *o, *a, *b; disjunction(o, a, b) ==> implies(a, o) && implies(b, o);
    lemma disjunction_least: \forall ifc_formula *o, *a, *b, *u;
      disjunction(o, a, b) ==> implies(a, u) ==> implies(b, u) ==> implies(o, u);
    predicate join_of(ifc_label *o, ifc_label *a, ifc_label *b) =
      conjunction(&o->secrecy, &a->secrecy, &b->secrecy) && disjunction(&o->integrity, &a->integrity, &b->integrity);
    lemma join_is_upper_bound: \forall ifc_label *o, *a, *b; join_of(o, a, b) ==> flows(a, o) && flows(b, o);
    lemma join_is_least: \forall ifc_label *o, *a, *b, *u;
      join_of(o, a, b) ==> flows(a, u) ==> flows(b, u) ==> flows(o, u);
*/

/*@ requires \valid_read(f) && bounded(f) && index < f->clause_count;
    assigns \nothing;
    ensures \result.count == size(f, index);
    ensures \result.principals == at(f, index);
*/
ifc_clause formula_clause(const ifc_formula *f, size_t index);
void formula_set_true(ifc_formula *f);
void formula_set_false(ifc_formula *f);
/* Sorts in place and drops what occurs twice; returns the new count. */
size_t clause_sort(id128 *principals, size_t count);
/*@ requires \valid_read(a.principals + (0 .. a.count - 1)) && \valid_read(b.principals + (0 .. b.count - 1));
    requires ascending(a.principals, a.count) && ascending(b.principals, b.count);
    assigns \nothing;
    ensures \result ==> subset(a.principals, a.count, b.principals, b.count);
    ensures !\result ==> !subset(a.principals, a.count, b.principals, b.count);
*/
bool clause_subset(ifc_clause a, ifc_clause b);
/* < 0, 0, > 0: by principals, a prefix first. */
/*@ requires \valid_read(a.principals + (0 .. a.count - 1)) && \valid_read(b.principals + (0 .. b.count - 1));
    assigns \nothing;
*/
int clause_compare(ifc_clause a, ifc_clause b);
/* f and clause. The clause is sorted, unique and not part of f. False: past a cap, f unchanged
 * but for clauses that the new one implies. */
bool formula_insert(ifc_formula *f, ifc_clause clause);
/*@ requires \valid_read(a) && \valid_read(b) && shaped(a) && shaped(b);
    assigns \nothing;
    ensures \result <==> implies(a, b);
*/
bool formula_implies(const ifc_formula *a, const ifc_formula *b);
bool formula_equal(const ifc_formula *a, const ifc_formula *b);
/* out is neither a nor b. False past a cap, whatever the order of a and b: what is counted is the
 * canonical result. */
bool formula_and(const ifc_formula *a, const ifc_formula *b, ifc_formula *out);
bool formula_or(const ifc_formula *a, const ifc_formula *b, ifc_formula *out);

#endif
