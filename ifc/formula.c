#include "formula.h"
#include "mutant.h"

#include <stdlib.h>
#include <string.h>

ifc_clause formula_clause(const ifc_formula *f, size_t index)
{
    size_t start = index == 0 ? 0 : f->ends[index - 1];
    return (ifc_clause){f->principals + start, f->ends[index] - start};
}

static size_t total(const ifc_formula *f)
{
    return f->clause_count == 0 ? 0 : f->ends[f->clause_count - 1];
}

void formula_set_true(ifc_formula *f)
{
    memset(f, 0, sizeof *f);
}

void formula_set_false(ifc_formula *f)
{
    memset(f, 0, sizeof *f);
    f->clause_count = 1;       /* one empty clause */
}

static int compare_ids(const void *a, const void *b)
{
    return id_compare(*(const id128 *)a, *(const id128 *)b);
}

size_t clause_sort(id128 *principals, size_t count)
{
    size_t kept = 0;
    if (count > 1) qsort(principals, count, sizeof *principals, compare_ids);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || !id_equal(principals[kept - 1], principals[i]))
            principals[kept++] = principals[i];
    return kept;
}

bool clause_subset(ifc_clause a, ifc_clause b)
{
    if (a.count > b.count) return false;
    size_t j = 0;
    for (size_t i = 0; i < a.count; i++, j++) {
        while (j < b.count && !id_equal(a.principals[i], b.principals[j])) j++;
        if (j == b.count) return false;
    }
    return true;
}

int clause_compare(ifc_clause a, ifc_clause b)
{
    size_t n = a.count < b.count ? a.count : b.count;
    for (size_t i = 0; i < n; i++) {
        int order = id_compare(a.principals[i], b.principals[i]);
        if (order != 0) return order;
    }
    return a.count < b.count ? -1 : a.count > b.count;
}

static bool implied(const ifc_formula *f, ifc_clause clause)
{
    for (size_t i = 0; i < f->clause_count; i++)
        if (clause_subset(formula_clause(f, i), clause)) return true;
    return false;
}

static void remove_clause(ifc_formula *f, size_t index)
{
    ifc_clause gone = formula_clause(f, index);
    size_t start = (size_t)(gone.principals - f->principals), end = start + gone.count;
    size_t old = total(f);
    memmove(f->principals + start, f->principals + end, (old - end) * sizeof(id128));
    memset(f->principals + old - gone.count, 0, gone.count * sizeof(id128));
    for (size_t i = index; i + 1 < f->clause_count; i++)
        f->ends[i] = (uint16_t)(f->ends[i + 1] - gone.count);
    f->clause_count--;
    f->ends[f->clause_count] = 0;
}

bool formula_insert(ifc_formula *f, ifc_clause clause)
{
    if (implied(f, clause)) return true;
    for (size_t i = f->clause_count; i-- > 0 && !MUTANT(subsumption_dropped);)
        if (clause_subset(clause, formula_clause(f, i))) remove_clause(f, i);
    size_t old = total(f);
    if (clause.count > IFC_CLAUSE_PRINCIPALS_MAX || f->clause_count == IFC_CLAUSES_MAX ||
        clause.count > IFC_PRINCIPALS_MAX - old)
        return false;
    size_t at = 0;
    while (at < f->clause_count && clause_compare(formula_clause(f, at), clause) < 0) at++;
    size_t start = at == 0 ? 0 : f->ends[at - 1];
    memmove(f->principals + start + clause.count, f->principals + start,
            (old - start) * sizeof(id128));
    if (clause.count > 0)
        memcpy(f->principals + start, clause.principals, clause.count * sizeof(id128));
    for (size_t i = f->clause_count; i > at; i--)
        f->ends[i] = (uint16_t)(f->ends[i - 1] + clause.count);
    f->ends[at] = (uint16_t)(start + clause.count);
    f->clause_count++;
    return true;
}

/* Over positive literals a implies b iff each clause of b has a subset among the clauses of a:
 * were there none, setting exactly that clause's literals false would satisfy a and not b. */
bool formula_implies(const ifc_formula *a, const ifc_formula *b)
{
    for (size_t i = 0; i < b->clause_count; i++)
        if (!implied(a, formula_clause(b, i))) return false;
    return true;
}

bool formula_equal(const ifc_formula *a, const ifc_formula *b)
{
    size_t n = a->clause_count;
    return n == b->clause_count && memcmp(a->ends, b->ends, n * sizeof a->ends[0]) == 0 &&
           memcmp(a->principals, b->principals, total(a) * sizeof a->principals[0]) == 0;
}

/* Shorter clauses first: then a later clause never evicts an earlier one, so that the caps are
 * counted on the canonical result alone. */
bool formula_and(const ifc_formula *a, const ifc_formula *b, ifc_formula *out)
{
    formula_set_true(out);
    for (size_t size = 0; size <= IFC_CLAUSE_PRINCIPALS_MAX; size++) {
        for (size_t i = 0; i < (size_t)a->clause_count + b->clause_count; i++) {
            ifc_clause c = i < a->clause_count ? formula_clause(a, i)
                                               : formula_clause(b, i - a->clause_count);
            if (c.count == size && !formula_insert(out, c)) return false;
        }
    }
    return true;
}

/* The sorted union of two clauses; returns its size. */
static size_t clause_union(ifc_clause a, ifc_clause b, id128 out[2 * IFC_CLAUSE_PRINCIPALS_MAX])
{
    size_t i = 0, j = 0, n = 0;
    while (i < a.count || j < b.count) {
        int order = i == a.count ? 1 : j == b.count ? -1
                                 : id_compare(a.principals[i], b.principals[j]);
        out[n++] = order <= 0 ? a.principals[i] : b.principals[j];
        if (order <= 0) i++;
        if (order >= 0) j++;
    }
    return n;
}

/* Every clause of a united with every clause of b, shorter ones first as above. */
bool formula_or(const ifc_formula *a, const ifc_formula *b, ifc_formula *out)
{
    id128 both[2 * IFC_CLAUSE_PRINCIPALS_MAX];
    uint8_t sizes[IFC_CLAUSES_MAX * IFC_CLAUSES_MAX];
    size_t pairs = (size_t)a->clause_count * b->clause_count, largest = 0;
    formula_set_true(out);
    for (size_t k = 0; k < pairs; k++) {
        sizes[k] = (uint8_t)clause_union(formula_clause(a, k / b->clause_count),
                                         formula_clause(b, k % b->clause_count), both);
        if (sizes[k] > largest) largest = sizes[k];
    }
    for (size_t size = 0; pairs > 0 && size <= largest; size++) {
        for (size_t k = 0; k < pairs; k++) {
            if (sizes[k] != size) continue;
            clause_union(formula_clause(a, k / b->clause_count),
                         formula_clause(b, k % b->clause_count), both);
            if (!formula_insert(out, (ifc_clause){both, size})) return false;
        }
    }
    return true;
}
