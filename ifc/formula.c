#include "formula.h"
#include "mutant.h"

#include <stdlib.h>
#include <string.h>

ifc_clause formula_clause(const ifc_formula *f, size_t index)
{
    size_t start = index == 0 ? 0 : f->ends[index - 1];
    return (ifc_clause){f->principals + start, f->ends[index] - start};
}

/*@ requires \valid_read(f) && bounded(f);
    assigns \nothing;
    ensures \result == (f->clause_count == 0 ? 0 : f->ends[f->clause_count - 1]);
    ensures \result <= IFC_PRINCIPALS_MAX;
    ensures \forall integer i; 0 <= i < f->clause_count ==> f->ends[i] <= \result;
*/
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
    size_t j = 0;
    /*@ loop invariant 0 <= i <= a.count && 0 <= j <= b.count;
        loop invariant subset(a.principals, i, b.principals, j);
        loop invariant i > 0 ==> j > 0 && id_value(b.principals[j - 1]) == id_value(a.principals[i - 1]);
        loop invariant i < a.count ==>
          (\forall integer k; 0 <= k < j ==> id_value(b.principals[k]) < id_value(a.principals[i]));
        loop assigns i, j;
        loop variant a.count - i;
    */
    for (size_t i = 0; i < a.count; i++, j++) {
        /*@ loop invariant 0 <= j <= b.count;
            loop invariant \forall integer k; 0 <= k < j ==>
                             id_value(b.principals[k]) != id_value(a.principals[i]);
            loop assigns j;
            loop variant b.count - j;
        */
        while (j < b.count && !id_equal(a.principals[i], b.principals[j])) j++;
        if (j == b.count) {
            //@ assert !member(id_value(a.principals[i]), b.principals, b.count);
            return false;
        }
    }
    return true;
}

int clause_compare(ifc_clause a, ifc_clause b)
{
    size_t n = a.count < b.count ? a.count : b.count;
    /*@ loop invariant 0 <= i <= n;
        loop assigns i;
        loop variant n - i;
    */
    for (size_t i = 0; i < n; i++) {
        int order = id_compare(a.principals[i], b.principals[i]);
        if (order != 0) return order;
    }
    return a.count < b.count ? -1 : a.count > b.count;
}

/*@ requires \valid_read(f) && shaped(f);
    requires \valid_read(clause.principals + (0 .. clause.count - 1));
    requires ascending(clause.principals, clause.count);
    assigns \nothing;
    ensures \result <==> covers(f, clause.principals, clause.count);
*/
static bool implied(const ifc_formula *f, ifc_clause clause)
{
    /*@ loop invariant 0 <= i <= f->clause_count;
        loop invariant \forall integer k; 0 <= k < i ==>
                         !subset(at(f, k), size(f, k), clause.principals, clause.count);
        loop assigns i;
        loop variant f->clause_count - i;
    */
    for (size_t i = 0; i < f->clause_count; i++)
        if (clause_subset(formula_clause(f, i), clause)) return true;
    return false;
}

/*@ requires \valid(f) && bounded(f) && index < f->clause_count;
    assigns *f;
    ensures bounded(f) && f->clause_count == \old(f->clause_count) - 1;
*/
static void remove_clause(ifc_formula *f, size_t index)
{
    static const id128 NO_ID;
    ifc_clause gone = formula_clause(f, index);
    size_t start = index == 0 ? 0 : f->ends[index - 1];
    size_t old = total(f);
    /*@ loop invariant start <= i <= old - gone.count;
        loop assigns i, f->principals[0 .. IFC_PRINCIPALS_MAX - 1];
        loop variant old - gone.count - i;
    */
    for (size_t i = start; i < old - gone.count; i++) f->principals[i] = f->principals[i + gone.count];
    /*@ loop invariant old - gone.count <= i <= old;
        loop assigns i, f->principals[0 .. IFC_PRINCIPALS_MAX - 1];
        loop variant old - i;
    */
    for (size_t i = old - gone.count; i < old; i++) f->principals[i] = NO_ID;
    /*@ loop invariant index <= i < f->clause_count;
        loop invariant \forall integer k; 0 <= k < index ==> f->ends[k] == \at(f->ends[k], LoopEntry);
        loop invariant \forall integer k; index <= k < i ==>
                         f->ends[k] == \at(f->ends[k + 1], LoopEntry) - gone.count;
        loop invariant \forall integer k; i <= k < f->clause_count ==> f->ends[k] == \at(f->ends[k], LoopEntry);
        loop assigns i, f->ends[0 .. IFC_CLAUSES_MAX - 1];
        loop variant f->clause_count - i;
    */
    for (size_t i = index; i + 1 < f->clause_count; i++)
        f->ends[i] = (uint16_t)(f->ends[i + 1] - gone.count);
    /*@ assert \forall integer k; 0 <= k < index ==> f->ends[k] <= start; */
    /*@ assert \forall integer k; index <= k < f->clause_count - 1 ==> start <= f->ends[k] <= IFC_PRINCIPALS_MAX; */
    /*@ assert \forall integer k, l; 0 <= k <= l < index ==> f->ends[k] <= f->ends[l]; */
    /*@ assert \forall integer k, l; index <= k <= l < f->clause_count - 1 ==> f->ends[k] <= f->ends[l]; */
    f->clause_count--;
    f->ends[f->clause_count] = 0;
}

/* Makes room for the clause at place index and puts it there. */
/*@ requires \valid(f) && bounded(f) && index <= f->clause_count < IFC_CLAUSES_MAX;
    requires \valid_read(clause.principals + (0 .. clause.count - 1));
    requires \separated(f, clause.principals + (0 .. clause.count - 1));
    requires clause.count <= IFC_PRINCIPALS_MAX - (f->clause_count == 0 ? 0 : f->ends[f->clause_count - 1]);
    assigns *f;
    ensures bounded(f) && f->clause_count == \old(f->clause_count) + 1;
*/
static void place_clause(ifc_formula *f, size_t index, ifc_clause clause)
{
    size_t old = total(f), start = index == 0 ? 0 : f->ends[index - 1];
    /*@ loop invariant start <= i <= old;
        loop assigns i, f->principals[0 .. IFC_PRINCIPALS_MAX - 1];
        loop variant i - start;
    */
    for (size_t i = old; i > start; i--) f->principals[i - 1 + clause.count] = f->principals[i - 1];
    /*@ loop invariant 0 <= i <= clause.count;
        loop assigns i, f->principals[0 .. IFC_PRINCIPALS_MAX - 1];
        loop variant clause.count - i;
    */
    for (size_t i = 0; i < clause.count; i++) f->principals[start + i] = clause.principals[i];
    /*@ loop invariant index <= i <= f->clause_count;
        loop invariant \forall integer k; 0 <= k < i ==> f->ends[k] == \at(f->ends[k], LoopEntry);
        loop invariant \forall integer k; i < k <= f->clause_count ==>
                         f->ends[k] == \at(f->ends[k - 1], LoopEntry) + clause.count;
        loop assigns i, f->ends[0 .. IFC_CLAUSES_MAX - 1];
        loop variant i - index;
    */
    for (size_t i = f->clause_count; i > index; i--)
        f->ends[i] = (uint16_t)(f->ends[i - 1] + clause.count);
    f->ends[index] = (uint16_t)(start + clause.count);
    /*@ assert \forall integer k; 0 <= k < index ==> f->ends[k] <= start; */
    /*@ assert \forall integer k; index <= k <= f->clause_count ==> start + clause.count <= f->ends[k] <= old + clause.count; */
    /*@ assert \forall integer k, l; 0 <= k <= l < index ==> f->ends[k] <= f->ends[l]; */
    /*@ assert \forall integer k, l; index <= k <= l <= f->clause_count ==> f->ends[k] <= f->ends[l]; */
    f->clause_count++;
}

bool formula_insert(ifc_formula *f, ifc_clause clause)
{
    if (implied(f, clause)) return true;
    for (size_t i = f->clause_count; i-- > 0 && !MUTANT(subsumption_dropped);)
        if (clause_subset(clause, formula_clause(f, i))) remove_clause(f, i);
    if (clause.count > IFC_CLAUSE_PRINCIPALS_MAX || f->clause_count == IFC_CLAUSES_MAX ||
        clause.count > IFC_PRINCIPALS_MAX - total(f))
        return false;
    size_t at = 0;
    while (at < f->clause_count && clause_compare(formula_clause(f, at), clause) < 0) at++;
    place_clause(f, at, clause);
    return true;
}

/* Over positive literals a implies b iff each clause of b has a subset among the clauses of a:
 * were there none, setting exactly that clause's literals false would satisfy a and not b. */
bool formula_implies(const ifc_formula *a, const ifc_formula *b)
{
    /*@ loop invariant 0 <= i <= b->clause_count;
        loop invariant \forall integer k; 0 <= k < i ==> covers(a, at(b, k), size(b, k));
        loop assigns i;
        loop variant b->clause_count - i;
    */
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
/*@ requires a.count <= IFC_CLAUSE_PRINCIPALS_MAX && b.count <= IFC_CLAUSE_PRINCIPALS_MAX;
    requires \valid_read(a.principals + (0 .. a.count - 1)) && \valid_read(b.principals + (0 .. b.count - 1));
    requires \valid(out + (0 .. 2 * IFC_CLAUSE_PRINCIPALS_MAX - 1));
    requires \separated(out + (0 .. 2 * IFC_CLAUSE_PRINCIPALS_MAX - 1), a.principals + (0 .. a.count - 1));
    requires \separated(out + (0 .. 2 * IFC_CLAUSE_PRINCIPALS_MAX - 1), b.principals + (0 .. b.count - 1));
    assigns out[0 .. a.count + b.count - 1];
    ensures \result <= a.count + b.count;
*/
static size_t clause_union(ifc_clause a, ifc_clause b, id128 out[2 * IFC_CLAUSE_PRINCIPALS_MAX])
{
    size_t i = 0, j = 0, n = 0;
    /*@ loop invariant 0 <= i <= a.count && 0 <= j <= b.count && n <= i + j;
        loop assigns i, j, n, out[0 .. a.count + b.count - 1];
        loop variant a.count - i + b.count - j;
    */
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
