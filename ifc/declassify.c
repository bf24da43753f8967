/* The one way out that relaxes a label (promise: one way out). Downgrading as DC labels define it, by the
 * authority of principals, and robust: whose authority it is must vouch for what is let out, so that nobody
 * can be made to release what somebody else put into their hands. */
#include "formula.h"
#include "mutant.h"

#include <string.h>

/* (p0) and (p1) and ... */
static result authority_formula(const id128 *principals, size_t count, ifc_formula *out)
{
    formula_set_true(out);
    for (size_t i = 0; i < count; i++)
        if (!formula_insert(out, (ifc_clause){&principals[i], 1}))
            return fail(E_EXHAUSTED, "at most %d principals can lend their authority", IFC_CLAUSES_MAX);
    return OK;
}

static bool all_held(const ifc_context *ctx, const id128 *principals, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool held = false;
        for (size_t c = 0; c < ctx->clearance.secrecy.clause_count && !held; c++) {
            ifc_clause clause = formula_clause(&ctx->clearance.secrecy, c);
            held = clause.count == 1 && id_equal(clause.principals[0], principals[i]);
        }
        if (!held) return false;
    }
    return true;
}

result ifc_declassify(const ifc_context *ctx, const id128 *authority, size_t count, const ifc_label *from,
                      const ifc_label *to, ifc_record_fn *record, void *record_ctx, ifc_label *out)
{
    ifc_formula held, with_authority;
    if (!ifc_flows(from, &ctx->clearance)) return fail(E_NOT_FOUND, "%s", IFC_NOT_FOUND);
    TRY(authority_formula(authority, count, &held));
    if (!MUTANT(declassify_unauthorised)) {
        if (!all_held(ctx, authority, count))
            return fail(E_DENIED, "only its owner may do that; it was shared with you");
        if (!formula_and(&to->secrecy, &held, &with_authority))
            return fail(E_EXHAUSTED, "a label has at most %d clauses and %d principals", IFC_CLAUSES_MAX,
                        IFC_PRINCIPALS_MAX);
        if (!formula_implies(&with_authority, &from->secrecy))
            return fail(E_DENIED, "that takes the authority of more than the one who asks");
    }
    if (!formula_implies(&from->integrity, &to->integrity))
        return fail(E_DENIED, "nobody vouches for a document by sharing it");
    if (!MUTANT(declassify_untrusted) && !formula_implies(&from->integrity, &held))
        return fail(E_DENIED, "what its owner does not vouch for cannot be shared");
    result recorded = record(record_ctx, from, to);
    if (!MUTANT(declassify_unaudited)) TRY(recorded);
    *out = *to;
    return OK;
}
