#include "formula.h"
#include "mutant.h"

#include <string.h>

const char IFC_NOT_FOUND[] = "there is nothing by that id or name that you may see";
enum { ENCODING_VERSION = 1 };

bool id_equal(id128 a, id128 b)
{
    return memcmp(a.b, b.b, ID_BYTES) == 0;
}

int id_compare(id128 a, id128 b)
{
    return memcmp(a.b, b.b, ID_BYTES);
}

bool id_is_zero(id128 a)
{
    return id_equal(a, (id128){{0}});
}

id128 id_random(void)
{
    id128 id;
    do random_bytes(id.b, sizeof id.b);
    while (id_is_zero(id));
    return id;
}

void id_text(id128 a, char out[ID_TEXT_BYTES])
{
    hex_encode(a.b, ID_BYTES, out);
}

result id_parse(const char *text, id128 *out)
{
    *out = (id128){{0}};
    id128 id;
    if (text == NULL || strnlen(text, ID_TEXT_BYTES) != ID_TEXT_BYTES - 1 ||
        !hex_decode(text, ID_TEXT_BYTES - 1, id.b))
        return fail(E_NOT_FOUND, "%s", IFC_NOT_FOUND);
    *out = id;
    return OK;
}

void ifc_label_public(ifc_label *out)
{
    formula_set_true(&out->secrecy);
    formula_set_true(&out->integrity);
}

/* Where every failure ends: nobody may read it, nobody vouches for it. */
static void label_nowhere(ifc_label *out)
{
    formula_set_false(&out->secrecy);
    formula_set_true(&out->integrity);
}

static result exhausted(ifc_label *out)
{
    if (MUTANT(cap_fails_open)) ifc_label_public(out);
    else label_nowhere(out);
    return fail(E_EXHAUSTED, "a label has at most %d clauses and %d principals", IFC_CLAUSES_MAX,
                IFC_PRINCIPALS_MAX);
}

static result add(ifc_label *label, ifc_formula *f, const id128 *principals, size_t count)
{
    id128 sorted[IFC_PRINCIPALS_MAX];
    if (count > IFC_PRINCIPALS_MAX) return exhausted(label);
    if (count > 0) memcpy(sorted, principals, count * sizeof *sorted);
    count = clause_sort(sorted, count);
    return formula_insert(f, (ifc_clause){sorted, count}) ? OK : exhausted(label);
}

result ifc_label_secrecy_add(ifc_label *label, const id128 *principals, size_t count)
{
    return add(label, &label->secrecy, principals, count);
}

result ifc_label_integrity_add(ifc_label *label, const id128 *principals, size_t count)
{
    return add(label, &label->integrity, principals, count);
}

bool ifc_label_equal(const ifc_label *a, const ifc_label *b)
{
    return formula_equal(&a->secrecy, &b->secrecy) && formula_equal(&a->integrity, &b->integrity);
}

/*@ requires \valid_read(from) && shaped(&from->secrecy) && shaped(&from->integrity);
    requires \valid_read(to) && shaped(&to->secrecy) && shaped(&to->integrity);
    assigns \nothing;
    ensures \result <==> flows(from, to);
*/
bool ifc_flows(const ifc_label *from, const ifc_label *to)
{
    if (MUTANT(flows_always)) return true;
    if (MUTANT(integrity_reversed))
        return formula_implies(&to->secrecy, &from->secrecy) &&
               formula_implies(&to->integrity, &from->integrity);
    return formula_implies(&to->secrecy, &from->secrecy) &&
           formula_implies(&from->integrity, &to->integrity);
}

result ifc_join(const ifc_label *a, const ifc_label *b, ifc_label *out)
{
    ifc_label made;            /* out may be a or b */
    if (!formula_and(&a->secrecy, &b->secrecy, &made.secrecy) ||
        !formula_or(&a->integrity, &b->integrity, &made.integrity))
        return exhausted(out);
    if (MUTANT(join_forgets_integrity)) made.integrity = a->integrity;
    *out = made;
    return OK;
}

result ifc_meet(const ifc_label *a, const ifc_label *b, ifc_label *out)
{
    ifc_label made;
    if (!formula_or(&a->secrecy, &b->secrecy, &made.secrecy) ||
        !formula_and(&a->integrity, &b->integrity, &made.integrity))
        return exhausted(out);
    *out = made;
    return OK;
}

static bool holds(ifc_clause c, id128 principal)
{
    return clause_subset((ifc_clause){&principal, 1}, c);
}

/* The formula without the principal: taken out of its clauses, or its clauses dropped. */
static void prune(ifc_formula *f, id128 principal, bool drop_clause)
{
    ifc_formula old = *f;
    id128 left[IFC_CLAUSE_PRINCIPALS_MAX];
    formula_set_true(f);
    for (size_t i = 0; i < old.clause_count; i++) {
        ifc_clause c = formula_clause(&old, i);
        size_t n = 0;
        if (drop_clause && holds(c, principal)) continue;
        for (size_t k = 0; k < c.count; k++)
            if (!id_equal(c.principals[k], principal)) left[n++] = c.principals[k];
        if (n == 0 && MUTANT(prune_opens)) continue;
        bool fits = formula_insert(f, (ifc_clause){left, n});
        ASSERT(fits);          /* never more clauses or principals than before */
    }
}

void ifc_label_prune(ifc_label *label, id128 principal)
{
    prune(&label->secrecy, principal, false);
    /* Taking one name out of "p or q endorsed it" would claim that q did. */
    prune(&label->integrity, principal, true);
}

static void encode_formula(const ifc_formula *f, buf *out)
{
    buf_append_u16(out, f->clause_count);
    for (size_t i = 0; i < f->clause_count; i++) {
        ifc_clause c = formula_clause(f, i);
        buf_append_u16(out, (uint16_t)c.count);
        buf_append(out, c.principals, c.count * sizeof(id128));
    }
}

void ifc_label_encode(const ifc_label *label, buf *out)
{
    buf_append_u8(out, ENCODING_VERSION);
    encode_formula(&label->secrecy, out);
    encode_formula(&label->integrity, out);
}

/* Sorted, unique, and nothing implied by something else: the only form that encode writes. */
static bool canonical(const ifc_formula *f)
{
    for (size_t i = 0; i < f->clause_count; i++) {
        ifc_clause c = formula_clause(f, i);
        for (size_t k = 1; k < c.count; k++)
            if (id_compare(c.principals[k - 1], c.principals[k]) >= 0) return false;
        if (i > 0 && clause_compare(formula_clause(f, i - 1), c) >= 0) return false;
        for (size_t k = 0; k < f->clause_count; k++)
            if (k != i && clause_subset(formula_clause(f, k), c)) return false;
    }
    return true;
}

static bool decode_formula(reader *r, ifc_formula *f)
{
    size_t count = reader_u16(r), at = 0;
    formula_set_true(f);
    if (count > IFC_CLAUSES_MAX) return false;
    for (size_t i = 0; i < count; i++) {
        size_t n = reader_u16(r);
        if (n > IFC_CLAUSE_PRINCIPALS_MAX || n > IFC_PRINCIPALS_MAX - at) return false;
        const uint8_t *raw = reader_take(r, n * sizeof(id128));
        if (raw == NULL) return false;
        memcpy(f->principals + at, raw, n * sizeof(id128));
        at += n;
        f->ends[i] = (uint16_t)at;
        f->clause_count++;
    }
    return canonical(f);
}

result ifc_label_decode(bytes encoded, ifc_label *out)
{
    reader r = reader_of(encoded);
    if (reader_u8(&r) == ENCODING_VERSION && decode_formula(&r, &out->secrecy) &&
        decode_formula(&r, &out->integrity) && is_ok(reader_done(&r, "a label")))
        return OK;
    label_nowhere(out);
    return fail(E_DATA_LOSS, "a stored label is damaged");
}

static void formula_text(const ifc_formula *f, void (*name)(void *, id128, buf *), void *ctx,
                         buf *out)
{
    for (size_t i = 0; i < f->clause_count; i++) {
        ifc_clause c = formula_clause(f, i);
        buf_append_str(out, i > 0 ? "&{" : "{");
        for (size_t k = 0; k < c.count; k++) {
            char id[ID_TEXT_BYTES];
            id_text(c.principals[k], id);
            if (k > 0) buf_append_u8(out, '|');
            if (name != NULL) name(ctx, c.principals[k], out);
            else buf_append_str(out, id);
        }
        buf_append_u8(out, '}');
    }
}

void ifc_label_text(const ifc_label *label, void (*name)(void *ctx, id128 principal, buf *out),
                    void *ctx, buf *out)
{
    if (label->secrecy.clause_count == 0) buf_append_str(out, "public");
    formula_text(&label->secrecy, name, ctx, out);
    if (label->integrity.clause_count == 0) return;
    buf_append_str(out, ", endorsed by ");
    formula_text(&label->integrity, name, ctx, out);
}
