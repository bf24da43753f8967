/* The label algebra against an independent oracle: a formula over four principals is its truth table, 16 bits, one
 * for each set of principals that are "true". There are 168 monotone tables; every one, every pair of them, and
 * random labels with integrity are compared. Beyond four principals, up to the caps: the laws of a lattice on
 * random labels. And declassification, by what the same tables say. */
#include "ifc.h"
#include "ifc/formula.h"
#include "test.h"

#include <string.h>

enum { PEOPLE = 4, SETS = 1 << PEOPLE, TABLES = 168, FLOWS = 300000, BEYOND = 4000 };

static id128 people[PEOPLE];
static uint16_t tables[TABLES];
static ifc_formula formulas[TABLES];
static uint64_t random_state = 11;

static uint32_t draw(uint32_t below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % below;
}

static bool monotone(uint16_t table)
{
    for (uint32_t s = 0; s < SETS; s++)
        for (uint32_t p = 0; p < PEOPLE; p++)
            if ((table >> s & 1) && !(table >> (s | 1u << p) & 1)) return false;
    return true;
}

/* Evaluated from the canonical clauses, under the assignment s. */
static bool holds(const ifc_formula *f, uint32_t s)
{
    for (size_t c = 0; c < f->clause_count; c++) {
        bool any = false;
        for (size_t i = c ? f->ends[c - 1] : 0; i < f->ends[c]; i++)
            for (uint32_t p = 0; p < PEOPLE; p++)
                if (id_equal(f->principals[i], people[p]) && (s >> p & 1)) any = true;
        if (!any) return false;
    }
    return true;
}

static uint16_t table_of(const ifc_formula *f)
{
    uint16_t table = 0;
    for (uint32_t s = 0; s < SETS; s++) table = (uint16_t)(table | (uint16_t)holds(f, s) << s);
    return table;
}

/* All clauses that the table implies, not the least ones only, in random order. */
static void formula_from(uint16_t table, ifc_label *label)
{
    uint32_t order[SETS];
    ifc_label_public(label);
    for (uint32_t s = 0; s < SETS; s++) order[s] = s;
    for (uint32_t s = SETS; s-- > 1;) {
        uint32_t other = draw(s + 1), kept = order[s];
        order[s] = order[other];
        order[other] = kept;
    }
    for (uint32_t i = 0; i < SETS; i++) {
        uint32_t s = order[i];               /* false where exactly s is true: the clause of the others holds */
        id128 clause[PEOPLE];
        size_t n = 0;
        if (table >> s & 1) continue;
        for (uint32_t p = PEOPLE; p-- > 0;)
            if (!(s >> p & 1)) clause[n++] = people[p];
        CHECK_OK(ifc_label_secrecy_add(label, clause, n));
    }
}

static void every_function_has_one_form(void)
{
    size_t n = 0;
    for (uint32_t p = 0; p < PEOPLE; p++) people[p] = id_random();
    for (uint32_t table = 0; table < 1u << SETS; table++) {
        ifc_label label, again;
        if (!monotone((uint16_t)table)) continue;
        NEED(n < TABLES);
        formula_from((uint16_t)table, &label);
        formula_from((uint16_t)table, &again);
        CHECK(table_of(&label.secrecy) == table && ifc_label_equal(&label, &again));
        CHECK(memcmp(&label, &again, sizeof label) == 0);
        tables[n] = (uint16_t)table;
        formulas[n++] = label.secrecy;
    }
    CHECK(n == TABLES);
}

static void every_pair_agrees(void)
{
    size_t wrong = 0, pairs = 0;
    ifc_formula both;
    for (size_t a = 0; a < TABLES; a++)
        for (size_t b = 0; b < TABLES; b++, pairs++) {
            wrong += formula_implies(&formulas[a], &formulas[b]) != ((tables[a] & ~tables[b]) == 0);
            wrong += formula_equal(&formulas[a], &formulas[b]) != (a == b);
            wrong += !formula_and(&formulas[a], &formulas[b], &both) || table_of(&both) != (tables[a] & tables[b]);
            wrong += !formula_or(&formulas[a], &formulas[b], &both) || table_of(&both) != (tables[a] | tables[b]);
        }
    CHECK(wrong == 0 && pairs == TABLES * TABLES);
}

static ifc_label label_at(size_t secrecy, size_t integrity)
{
    return (ifc_label){formulas[secrecy], formulas[integrity]};
}

static bool table_flows(size_t s1, size_t i1, size_t s2, size_t i2)
{
    return (tables[s2] & ~tables[s1]) == 0 && (tables[i1] & ~tables[i2]) == 0;
}

static void flows_join_meet_over_labels(void)
{
    size_t wrong = 0, flowing = 0;
    for (size_t n = 0; n < FLOWS; n++) {
        size_t s1 = draw(TABLES), i1 = draw(TABLES), s2 = draw(TABLES), i2 = draw(TABLES);
        ifc_label a = label_at(s1, i1), b = label_at(s2, i2), join, meet;
        bool flows = table_flows(s1, i1, s2, i2);
        flowing += flows;
        wrong += ifc_flows(&a, &b) != flows || !ifc_flows(&a, &a);
        wrong += !is_ok(ifc_join(&a, &b, &join)) || table_of(&join.secrecy) != (tables[s1] & tables[s2]) ||
                 table_of(&join.integrity) != (tables[i1] | tables[i2]);
        wrong += !is_ok(ifc_meet(&a, &b, &meet)) || table_of(&meet.secrecy) != (tables[s1] | tables[s2]) ||
                 table_of(&meet.integrity) != (tables[i1] & tables[i2]);
    }
    CHECK(wrong == 0 && flowing > 1000 && flowing < FLOWS / 2);
}

/* Taking p out of a secrecy formula: the most that follows without p; out of an integrity: less is claimed. */
static void pruning_by_tables(void)
{
    size_t wrong = 0;
    for (size_t s = 0; s < TABLES; s++)
        for (size_t i = 0; i < TABLES; i++)
            for (uint32_t p = 0; p < PEOPLE; p++) {
                ifc_label label = label_at(s, i), before = label;
                ifc_label_prune(&label, people[p]);
                uint16_t secrecy = table_of(&label.secrecy), integrity = table_of(&label.integrity);
                for (uint32_t set = 0; set < SETS; set++)   /* p can no longer make it true */
                    wrong += (secrecy >> set & 1) != (tables[s] >> (set & ~(1u << p)) & 1);
                wrong += (tables[i] & ~integrity) != 0;
                wrong += !ifc_flows(&before, &label);
                for (size_t k = 0; k < label.integrity.clause_count; k++)
                    for (size_t x = k ? label.integrity.ends[k - 1] : 0; x < label.integrity.ends[k]; x++)
                        wrong += id_equal(label.integrity.principals[x], people[p]);
            }
    CHECK(wrong == 0);
}

/* ---- beyond: laws on random labels, up to the caps ---- */
static id128 crowd[40];

static void random_label(ifc_label *label, uint32_t clauses, uint32_t width)
{
    ifc_label_public(label);
    for (uint32_t part = 0; part < 2; part++)
        for (uint32_t c = draw(clauses + 1); c > 0; c--) {
            id128 clause[IFC_CLAUSE_PRINCIPALS_MAX];
            uint32_t n = draw(width + 1);
            for (uint32_t i = 0; i < n; i++) clause[i] = crowd[draw(40)];
            result r = part == 0 ? ifc_label_secrecy_add(label, clause, n)
                                 : ifc_label_integrity_add(label, clause, n);
            CHECK_OK(r);
        }
}

static void lattice_laws_beyond(void)
{
    size_t wrong = 0, capped = 0;
    for (size_t i = 0; i < 40; i++) crowd[i] = id_random();
    for (size_t n = 0; n < BEYOND; n++) {
        ifc_label a, b, c, ab, ba, abc, bc, other, nowhere;
        uint32_t clauses = n % 4 == 0 ? 12 : 4, width = n % 4 == 0 ? 12 : 5;
        random_label(&a, clauses, width);
        random_label(&b, clauses, width);
        random_label(&c, clauses, width);
        wrong += !ifc_flows(&a, &a) || (ifc_flows(&a, &b) && ifc_flows(&b, &a) && !ifc_label_equal(&a, &b));
        wrong += ifc_flows(&a, &b) && ifc_flows(&b, &c) && !ifc_flows(&a, &c);
        if (!is_ok(ifc_join(&a, &b, &ab))) {       /* past a cap: flows nowhere but to itself */
            capped++;
            ifc_label_public(&nowhere);
            CHECK_OK(ifc_label_secrecy_add(&nowhere, NULL, 0));
            wrong += !ifc_label_equal(&ab, &nowhere) || ifc_flows(&ab, &a) || is_ok(ifc_join(&b, &a, &ba));
            continue;
        }
        wrong += !is_ok(ifc_join(&b, &a, &ba)) || !ifc_label_equal(&ab, &ba);
        wrong += !ifc_flows(&a, &ab) || !ifc_flows(&b, &ab);
        if (is_ok(ifc_join(&ab, &c, &abc)) && is_ok(ifc_join(&b, &c, &bc))) {
            /* abc is an upper bound of a and b: the join is below it. */
            wrong += !ifc_flows(&ab, &abc) || !ifc_flows(&a, &abc);
            wrong += is_ok(ifc_join(&a, &bc, &other)) && !ifc_label_equal(&abc, &other);
        }
        if (is_ok(ifc_meet(&a, &b, &other))) {
            wrong += !ifc_flows(&other, &a) || !ifc_flows(&other, &b);
            wrong += is_ok(ifc_join(&a, &other, &ba)) && !ifc_label_equal(&ba, &a);     /* absorption */
        }
        buf text;
        ifc_label back;
        buf_init(&text, 1 << 20);
        ifc_label_encode(&ab, &text);
        wrong += !is_ok(ifc_label_decode(buf_bytes(&text), &back)) || !ifc_label_equal(&ab, &back);
        buf_free(&text);
    }
    CHECK(wrong == 0 && capped > 20 && capped < BEYOND / 2);
}

/* ---- declassification ---- */
typedef struct { size_t calls; bool fails; } recorder;

static result note(void *ctx, const ifc_label *from, const ifc_label *to)
{
    recorder *r = ctx;
    (void)from;
    (void)to;
    r->calls++;
    return r->fails ? fail(E_UNAVAILABLE, "no room") : OK;
}

static void authority_decides(void)
{
    size_t wrong = 0, allowed = 0, refused = 0;
    ifc_context ctx;
    const id128 mine[] = {people[0], people[1]};     /* the caller is 0, in group 1 */
    CHECK_OK(ifc_context_init(&ctx, id_random(), people[0], mine, 2));
    for (size_t n = 0; n < 200000; n++) {
        size_t s1 = draw(TABLES), i1 = draw(TABLES), s2 = draw(TABLES), i2 = n % 3 ? i1 : draw(TABLES);
        ifc_label from = label_at(s1, i1), to = label_at(s2, i2), out = from;
        size_t count = draw(3);
        id128 authority[2] = {people[draw(3)], people[draw(3)]};
        recorder r = {0, false};
        uint16_t held = 0xffff;
        bool owned = true;
        for (size_t k = 0; k < count; k++) {
            uint16_t says = 0;
            uint32_t who = 0;
            while (!id_equal(people[who], authority[k])) who++;
            for (uint32_t set = 0; set < SETS; set++) says = (uint16_t)(says | (uint16_t)(set >> who & 1) << set);
            held &= says;
            owned = owned && who < 2;
        }
        bool seen = ifc_flows(&from, &ctx.clearance);
        bool may = seen && owned && (tables[s2] & held & ~tables[s1]) == 0 && (tables[i1] & ~tables[i2]) == 0 &&
                   (tables[i1] & ~held & 0xffff) == 0;
        result got = ifc_declassify(&ctx, authority, count, &from, &to, note, &r, &out);
        wrong += is_ok(got) != may || r.calls != (size_t)may || !ifc_label_equal(&out, may ? &to : &from);
        wrong += !seen && got.code != E_NOT_FOUND;
        allowed += may && !ifc_flows(&from, &to);
        refused += !may;
    }
    CHECK(wrong == 0 && allowed > 100 && refused > 1000);
}

static void unrecorded_is_not_done(void)
{
    ifc_context ctx;
    ifc_label from, to, out;
    recorder r = {0, true};
    CHECK_OK(ifc_context_init(&ctx, id_random(), people[0], people, 1));
    ifc_label_public(&from);
    CHECK_OK(ifc_label_secrecy_add(&from, people, 1));
    CHECK_OK(ifc_label_integrity_add(&from, people, 1));
    to = from;
    ifc_label_public(&to);
    CHECK_OK(ifc_label_secrecy_add(&to, people, 2));
    CHECK_OK(ifc_label_integrity_add(&to, people, 1));
    out = from;
    CHECK_FAILS(ifc_declassify(&ctx, people, 1, &from, &to, note, &r, &out), E_UNAVAILABLE);
    CHECK(r.calls == 1 && ifc_label_equal(&out, &from));
    r.fails = false;
    CHECK_OK(ifc_declassify(&ctx, people, 1, &from, &to, note, &r, &out));
    CHECK(r.calls == 2 && ifc_label_equal(&out, &to));
}

int main(void)
{
    printf("# %d principals: %d formulas, %d pairs; %d pairs of labels, %d beyond (seed 11)\n", PEOPLE, TABLES,
           TABLES * TABLES, FLOWS, BEYOND);
    RUN(every_function_has_one_form);
    RUN(every_pair_agrees);
    RUN(flows_join_meet_over_labels);
    RUN(pruning_by_tables);
    RUN(lattice_laws_beyond);
    RUN(authority_decides);
    RUN(unrecorded_is_not_done);
    return DONE();
}
