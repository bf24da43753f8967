/* ifc: labels against truth tables, the lattice laws, the encoding, the context and the gate. */
#include "ifc.h"
#include "test.h"

static id128 principal(size_t i)
{
    id128 id = {{0}};
    id.b[0] = (uint8_t)(0x80 ^ (i * 73));             /* order unlike i's */
    id.b[15] = (uint8_t)(i + 1);
    id.b[14] = (uint8_t)((i + 1) >> 8);
    return id;
}

/* ---- the oracle: a formula over n <= 6 principals is the set of assignments it holds in ---- */

static uint64_t table(const ifc_formula *f, size_t n)
{
    uint64_t t = 0;
    for (uint32_t m = 0; m < 1u << n; m++) {
        bool all = true;
        for (size_t c = 0, at = 0; c < f->clause_count; c++) {
            bool any = false;
            for (; at < f->ends[c]; at++)
                for (size_t p = 0; p < n; p++)
                    any |= (m >> p & 1) && id_equal(f->principals[at], principal(p));
            all &= any;
        }
        t |= (uint64_t)all << m;
    }
    return t;
}

static bool oracle_flows(const ifc_label *a, const ifc_label *b, size_t n)
{
    return (table(&b->secrecy, n) & ~table(&a->secrecy, n)) == 0 &&
           (table(&a->integrity, n) & ~table(&b->integrity, n)) == 0;
}

/* clauses: bit c set adds the clause of the principals in the bits of c. */
static void build(ifc_label *label, uint32_t secrecy, uint32_t integrity, bool backwards)
{
    ifc_label_public(label);
    for (uint32_t k = 0; k < 8; k++) {
        uint32_t c = backwards ? 7 - k : k;
        id128 members[3];
        size_t count = 0;
        for (size_t p = 0; p < 3; p++)
            if (c >> p & 1) members[count++] = principal(p);
        for (size_t i = 0; backwards && i < count / 2; i++) {
            id128 swap = members[i];
            members[i] = members[count - 1 - i];
            members[count - 1 - i] = swap;
        }
        if (secrecy >> c & 1) CHECK_OK(ifc_label_secrecy_add(label, members, count));
        if (integrity >> c & 1) CHECK_OK(ifc_label_integrity_add(label, members, count));
    }
}

static bool same_bytes(const ifc_label *a, const ifc_label *b)
{
    buf x, y;
    buf_init(&x, 1 << 16);
    buf_init(&y, 1 << 16);
    ifc_label_encode(a, &x);
    ifc_label_encode(b, &y);
    bool same = bytes_equal(buf_bytes(&x), buf_bytes(&y));
    buf_free(&x);
    buf_free(&y);
    return same;
}

/* All 256 conjunctions of clauses over three principals; 20 different functions (Dedekind). */
static ifc_label functions[20];
static size_t function_count;

static void canonical_means_one_form_a_function(void)
{
    static ifc_label all[256];
    static uint64_t tables[256];
    size_t wrong = 0;
    for (uint32_t s = 0; s < 256; s++) {
        ifc_label other;
        build(&all[s], s, 0, false);
        build(&other, s, 0, true);
        wrong += !ifc_label_equal(&all[s], &other) || !same_bytes(&all[s], &other);
        tables[s] = table(&all[s].secrecy, 3);
        bool seen = false;
        for (uint32_t t = 0; t < s; t++) {
            bool same = tables[s] == tables[t];
            seen |= same;
            wrong += same != ifc_label_equal(&all[s], &all[t]);
            wrong += same != same_bytes(&all[s], &all[t]);
        }
        if (!seen && function_count < 20) functions[function_count++] = all[s];
        else wrong += !seen;
    }
    CHECK(wrong == 0);
    CHECK(function_count == 20);
}

static void label_of(size_t k, ifc_label *out)
{
    out->secrecy = functions[k / 20].secrecy;
    out->integrity = functions[k % 20].secrecy;
}

/* All 160,000 pairs of labels over three principals. */
static void flows_join_and_meet_agree_with_truth_tables(void)
{
    static uint64_t t[20];
    size_t wrong = 0;
    for (size_t i = 0; i < 20; i++) t[i] = table(&functions[i].secrecy, 3);
    for (size_t i = 0; i < 400; i++) {
        ifc_label a, b, join, meet;
        label_of(i, &a);
        for (size_t k = 0; k < 400; k++) {
            label_of(k, &b);
            uint64_t as = t[i / 20], ai = t[i % 20], bs = t[k / 20], bi = t[k % 20];
            wrong += ifc_flows(&a, &b) != ((bs & ~as) == 0 && (ai & ~bi) == 0);
            if ((i * 7 + k) % 9 != 0) continue;       /* joins of every ninth pair: time */
            wrong += !is_ok(ifc_join(&a, &b, &join)) || !is_ok(ifc_meet(&a, &b, &meet));
            wrong += table(&join.secrecy, 3) != (as & bs) || table(&join.integrity, 3) != (ai | bi);
            wrong += table(&meet.secrecy, 3) != (as | bs) || table(&meet.integrity, 3) != (ai & bi);
        }
    }
    CHECK(wrong == 0);
}

/* For all triples over the 20 functions (integrity mirrors secrecy). */
static void the_lattice_laws_hold(void)
{
    size_t wrong = 0;
    for (size_t i = 0; i < 20; i++) {
        for (size_t k = 0; k < 20; k++) {
            ifc_label a, b, c, join, meet, back;
            label_of(i * 20 + (19 - i), &a);
            label_of(k * 20 + (19 - k), &b);
            CHECK_OK(ifc_join(&a, &b, &join));
            CHECK_OK(ifc_meet(&a, &b, &meet));
            CHECK_OK(ifc_join(&b, &a, &back));
            wrong += !ifc_label_equal(&join, &back);
            CHECK_OK(ifc_join(&a, &meet, &back));     /* absorption */
            wrong += !ifc_label_equal(&back, &a);
            wrong += !ifc_flows(&a, &a) || !ifc_flows(&a, &join) || !ifc_flows(&b, &join);
            wrong += !ifc_flows(&meet, &a) || !ifc_flows(&meet, &b);
            wrong += ifc_flows(&a, &b) && ifc_flows(&b, &a) && !ifc_label_equal(&a, &b);
            for (size_t m = 0; m < 20; m++) {
                label_of(m * 20 + (m * 3 + i) % 20, &c);
                wrong += ifc_flows(&join, &c) != (ifc_flows(&a, &c) && ifc_flows(&b, &c));
                wrong += ifc_flows(&c, &meet) != (ifc_flows(&c, &a) && ifc_flows(&c, &b));
                wrong += ifc_flows(&a, &b) && ifc_flows(&b, &c) && !ifc_flows(&a, &c);
            }
        }
    }
    CHECK(wrong == 0);
}

static uint64_t random_state = 88172645463325252u;
static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

static void random_label(ifc_label *label, size_t n, size_t clauses)
{
    ifc_label_public(label);
    for (size_t i = 0; i < 2 * clauses; i++) {
        id128 members[64];
        size_t count = 0;
        uint64_t bits = next_random() & next_random();
        for (size_t p = 0; p < n && p < 64; p++)
            if (bits >> p & 1) members[count++] = principal(p);
        if (count == 0) continue;
        CHECK_OK(i % 2 ? ifc_label_secrecy_add(label, members, count)
                       : ifc_label_integrity_add(label, members, count));
    }
}

static void random_labels_over_six_principals(void)
{
    size_t wrong = 0, flowing = 0;
    for (int i = 0; i < 4000; i++) {
        ifc_label a, b, join, meet;
        random_label(&a, 6, 1 + (size_t)(i % 5));
        random_label(&b, 6, 1 + (size_t)(i / 5 % 3));
        CHECK_OK(ifc_join(&a, &b, &join));
        CHECK_OK(ifc_meet(&a, &b, &meet));
        wrong += ifc_flows(&a, &b) != oracle_flows(&a, &b, 6);
        wrong += table(&join.secrecy, 6) != (table(&a.secrecy, 6) & table(&b.secrecy, 6));
        wrong += table(&join.integrity, 6) != (table(&a.integrity, 6) | table(&b.integrity, 6));
        wrong += table(&meet.secrecy, 6) != (table(&a.secrecy, 6) | table(&b.secrecy, 6));
        wrong += table(&meet.integrity, 6) != (table(&a.integrity, 6) & table(&b.integrity, 6));
        flowing += ifc_flows(&a, &b);
        CHECK_OK(ifc_join(&a, &b, &a));               /* in place */
        wrong += !ifc_label_equal(&a, &join);
    }
    CHECK(wrong == 0);
    CHECK(flowing > 20);
}

/* ---- caps ---------------------------------------------------------------------------------- */

static bool is_nowhere(const ifc_label *label)
{
    ifc_label everyone;
    id128 one = principal(0);
    ifc_label_public(&everyone);
    bool nowhere = !ifc_flows(label, &everyone);
    CHECK_OK(ifc_label_secrecy_add(&everyone, &one, 1));
    return nowhere && !ifc_flows(label, &everyone) && label->integrity.clause_count == 0;
}

static void past_a_cap_it_flows_nowhere(void)
{
    ifc_label label, other, out;
    id128 many[300];
    for (size_t i = 0; i < 300; i++) many[i] = principal(i);
    ifc_label_public(&label);
    for (size_t i = 0; i < 64; i++) CHECK_OK(ifc_label_secrecy_add(&label, &many[i], 1));
    CHECK_OK(ifc_label_secrecy_add(&label, many, 64));            /* implied: no new clause */
    CHECK(label.secrecy.clause_count == 64);
    ifc_label_public(&other);
    CHECK_OK(ifc_label_secrecy_add(&other, &many[64], 1));
    CHECK_FAILS(ifc_join(&label, &other, &out), E_EXHAUSTED);
    CHECK(is_nowhere(&out));
    CHECK_FAILS(ifc_label_secrecy_add(&label, &many[64], 1), E_EXHAUSTED);
    CHECK(is_nowhere(&label));
    ifc_label_public(&label);
    CHECK_FAILS(ifc_label_secrecy_add(&label, many, 65), E_EXHAUSTED);
    CHECK(is_nowhere(&label));
    ifc_label_public(&label);
    CHECK_FAILS(ifc_label_integrity_add(&label, many, 300), E_EXHAUSTED);
    CHECK(is_nowhere(&label));
    ifc_label_public(&label);
    for (size_t i = 0; i < 4; i++) CHECK_OK(ifc_label_secrecy_add(&label, many + 64 * i, 64));
    CHECK_FAILS(ifc_label_secrecy_add(&label, many + 256, 1), E_EXHAUSTED);
    for (size_t i = 0; i < 64; i++) many[i] = principal(i / 2);   /* twice each: 32 */
    ifc_label_public(&label);
    CHECK_OK(ifc_label_secrecy_add(&label, many, 64));
    CHECK(label.secrecy.ends[0] == 32);
}

static void cross_products_count_their_canonical_result(void)
{
    ifc_label a, b, out, back;
    ifc_label_public(&a);
    ifc_label_public(&b);
    for (size_t i = 0; i < 64; i++) {
        id128 one = principal(i);
        CHECK_OK(ifc_label_integrity_add(&a, &one, 1));
        CHECK_OK(ifc_label_integrity_add(&b, &one, 1));
    }
    CHECK_OK(ifc_join(&a, &b, &out));                 /* 4096 pairs, 64 clauses */
    CHECK(ifc_label_equal(&out, &a));
    ifc_label_public(&a);
    ifc_label_public(&b);
    for (size_t i = 0; i < 9; i++) {
        id128 one = principal(i), two = principal(100 + i);
        CHECK_OK(ifc_label_integrity_add(&a, &one, 1));
        CHECK_OK(ifc_label_integrity_add(&b, &two, 1));
        if (i == 7) CHECK_OK(ifc_join(&a, &b, &out)); /* 64 clauses */
    }
    CHECK(out.integrity.clause_count == 64);
    CHECK_FAILS(ifc_join(&a, &b, &out), E_EXHAUSTED);
    CHECK(is_nowhere(&out));
    size_t failed = 0, wrong = 0;
    for (int i = 0; i < 60; i++) {
        random_label(&a, 24, 1 + (size_t)i % 6);
        random_label(&b, 24, 1 + (size_t)i / 10);
        result x = ifc_join(&a, &b, &out), y = ifc_join(&b, &a, &back);
        failed += !is_ok(x);
        wrong += x.code != y.code || !ifc_label_equal(&out, &back);
    }
    CHECK(wrong == 0 && failed > 0 && failed < 60);
}

static void pruning_never_widens(void)
{
    size_t wrong = 0;
    for (size_t k = 0; k < 400; k++) {
        ifc_label label, pruned;
        label_of(k, &label);
        pruned = label;
        ifc_label_prune(&pruned, principal(1));
        wrong += !ifc_flows(&label, &pruned);         /* more secret, less trusted */
        buf text;
        char id[ID_TEXT_BYTES];
        id_text(principal(1), id);
        buf_init(&text, 10000);
        ifc_label_text(&pruned, NULL, NULL, &text);
        wrong += strstr((char *)text.data, id) != NULL;
        buf_free(&text);
    }
    CHECK(wrong == 0);
    ifc_label label, who;
    id128 ada = principal(1), bob = principal(2);
    ifc_label_public(&label);
    ifc_label_public(&who);
    CHECK_OK(ifc_label_secrecy_add(&label, &ada, 1));
    ifc_label_prune(&label, ada);
    CHECK_OK(ifc_label_secrecy_add(&who, &ada, 1));
    CHECK(!ifc_flows(&label, &who));
    id128 both[] = {ada, bob};
    ifc_label_public(&label);
    CHECK_OK(ifc_label_integrity_add(&label, both, 2));
    ifc_label_prune(&label, ada);
    CHECK(label.integrity.clause_count == 0);         /* not: bob endorsed it */
}

/* ---- encoding and text --------------------------------------------------------------------- */

static void encodings_go_both_ways(void)
{
    size_t wrong = 0;
    for (size_t k = 0; k < 400; k++) {
        ifc_label label, back;
        buf b;
        buf_init(&b, 1 << 16);
        label_of(k, &label);
        ifc_label_encode(&label, &b);
        wrong += !is_ok(ifc_label_decode(buf_bytes(&b), &back)) || !ifc_label_equal(&label, &back);
        for (size_t n = 0; n < b.size; n++) {
            uint8_t *exact = mem_alloc(n);
            memcpy(exact, b.data, n);
            wrong += ifc_label_decode(bytes_of(exact, n), &back).code != E_DATA_LOSS;
            wrong += ifc_flows(&back, &label) && label.secrecy.clause_count == 0;
            mem_free(exact);
        }
        buf_append_u8(&b, 0);
        wrong += ifc_label_decode(buf_bytes(&b), &back).code != E_DATA_LOSS;
        buf_free(&b);
    }
    CHECK(wrong == 0);
}

/* Clauses as strings, a character a principal; "-" for the empty one. */
static error_code decode_of(const char *const *clauses, size_t count)
{
    buf b;
    ifc_label label;
    buf_init(&b, 1 << 16);
    buf_append_u8(&b, 1);
    buf_append_u16(&b, (uint16_t)count);
    for (size_t i = 0; i < count; i++) {
        size_t n = clauses[i][0] == '-' ? 0 : strlen(clauses[i]);
        buf_append_u16(&b, (uint16_t)n);
        for (size_t k = 0; k < n; k++) {
            id128 id = {{0}};
            id.b[0] = (uint8_t)clauses[i][k];
            buf_append(&b, id.b, ID_BYTES);
        }
    }
    buf_append_u16(&b, 0);
    result r = ifc_label_decode(buf_bytes(&b), &label);
    buf_free(&b);
    return r.code;
}

static void only_the_canonical_form_is_decoded(void)
{
#define DECODE(...) decode_of((const char *const[]){__VA_ARGS__}, \
    sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))
    CHECK(DECODE("12", "3") == E_OK);
    CHECK(DECODE("-") == E_OK);
    CHECK(DECODE("12", "13", "2x") == E_OK);
    CHECK(DECODE("21") == E_DATA_LOSS);               /* principals out of order */
    CHECK(DECODE("11") == E_DATA_LOSS);
    CHECK(DECODE("3", "12") == E_DATA_LOSS);          /* clauses out of order */
    CHECK(DECODE("3", "3") == E_DATA_LOSS);
    CHECK(DECODE("1", "12") == E_DATA_LOSS);          /* implied */
    CHECK(DECODE("12", "2") == E_DATA_LOSS);
    CHECK(DECODE("-", "1") == E_DATA_LOSS);
    ifc_label label;
    const uint8_t lying[] = {1, 0xff, 0xff, 0xff, 0xff}, version[] = {2, 0, 0, 0, 0};
    CHECK_FAILS(ifc_label_decode(bytes_of(lying, 5), &label), E_DATA_LOSS);
    CHECK(is_nowhere(&label));
    CHECK_FAILS(ifc_label_decode(bytes_of(version, 5), &label), E_DATA_LOSS);
    CHECK_FAILS(ifc_label_decode((bytes){NULL, 0}, &label), E_DATA_LOSS);
}

static void name_it(void *ctx, id128 id, buf *out)
{
    buf_append_str(out, id_equal(id, principal(*(size_t *)ctx)) ? "ada" : "oncall");
}

static void labels_and_ids_as_text(void)
{
    ifc_label label;
    buf b;
    size_t ada = 0;
    id128 both[] = {principal(0), principal(1)}, id;
    buf_init(&b, 1000);
    ifc_label_public(&label);
    ifc_label_text(&label, name_it, &ada, &b);
    CHECK(strcmp((char *)b.data, "public") == 0);
    buf_clear(&b);
    CHECK_OK(ifc_label_secrecy_add(&label, both, 2));
    ifc_label_text(&label, name_it, &ada, &b);
    CHECK(strcmp((char *)b.data, "{ada|oncall}") == 0 ||
          strcmp((char *)b.data, "{oncall|ada}") == 0);
    buf_free(&b);
    char text[ID_TEXT_BYTES];
    id128 random = id_random();
    id_text(random, text);
    CHECK(strlen(text) == 32);
    CHECK_OK(id_parse(text, &id));
    CHECK(id_equal(id, random) && !id_is_zero(id) && id_compare(id, random) == 0);
    static const char *const bad[] = {"", "0123", "0123456789abcdef0123456789abcdeg",
        "0123456789abcdef0123456789abcdef0", " 123456789abcdef0123456789abcdef", NULL};
    for (size_t i = 0; i < 6; i++) {
        result r = id_parse(bad[i], &id);
        CHECK(r.code == E_NOT_FOUND && strcmp(r.message, IFC_NOT_FOUND) == 0 && id_is_zero(id));
    }
}

/* ---- context, labelled bytes, gate --------------------------------------------------------- */

static const id128 *set(id128 out[4], size_t a, size_t b)
{
    out[0] = principal(a);
    out[1] = principal(b);
    return out;
}

static void readable_by(ifc_label *label, size_t a, size_t b)
{
    id128 who[4];
    ifc_label_public(label);
    CHECK_OK(ifc_label_secrecy_add(label, set(who, a, b), a == b ? 1 : 2));
}

enum { ADA, BOB, ONCALL, EVE };

static void the_clearance_decides(void)
{
    ifc_context ctx;
    ifc_label label, mine, yours;
    id128 who[4];
    CHECK_OK(ifc_context_init(&ctx, principal(9), principal(ADA), set(who, ADA, ONCALL), 2));
    readable_by(&label, ADA, ADA);
    CHECK(ifc_context_permits(&ctx, &label));
    readable_by(&label, BOB, ONCALL);
    CHECK(ifc_context_permits(&ctx, &label));
    readable_by(&label, BOB, EVE);
    CHECK(!ifc_context_permits(&ctx, &label));
    readable_by(&mine, ADA, ADA);
    readable_by(&yours, BOB, BOB);
    CHECK_OK(ifc_join(&mine, &yours, &label));
    CHECK(!ifc_context_permits(&ctx, &label));        /* mixed: neither alone */
    ifc_label_public(&label);
    CHECK(ifc_context_permits(&ctx, &label));
    CHECK_OK(ifc_label_secrecy_add(&label, NULL, 0));
    CHECK(!ifc_context_permits(&ctx, &label));
    CHECK_OK(ifc_context_init(&ctx, principal(9), principal(ADA), NULL, 0));
    CHECK(!ifc_context_permits(&ctx, &mine));
}

static void an_audience_narrows(void)
{
    ifc_context ctx;
    ifc_label mine, shared;
    id128 who[4], many[65];
    CHECK_OK(ifc_context_init(&ctx, principal(9), principal(ADA), set(who, ADA, ONCALL), 2));
    CHECK_OK(ifc_context_narrow(&ctx, set(who, ONCALL, ONCALL), 1));
    readable_by(&mine, ADA, ADA);
    readable_by(&shared, ADA, ONCALL);
    CHECK(!ifc_context_permits(&ctx, &mine));
    CHECK(ifc_context_permits(&ctx, &shared));
    /* to a group one is not in: still never more than one's own clearance */
    CHECK_OK(ifc_context_narrow(&ctx, set(who, BOB, BOB), 1));
    readable_by(&mine, BOB, BOB);
    CHECK(!ifc_context_permits(&ctx, &mine));
    for (size_t i = 0; i < 65; i++) many[i] = principal(i);
    CHECK_FAILS(ifc_context_narrow(&ctx, many, 65), E_EXHAUSTED);
    readable_by(&mine, ADA, ADA);
    CHECK(!ifc_context_permits(&ctx, &mine));         /* fails closed */
    CHECK_FAILS(ifc_context_init(&ctx, principal(9), principal(ADA), many, 65), E_EXHAUSTED);
    CHECK(!ifc_context_permits(&ctx, &mine));
}

static bool yes(void *ctx) { return *(bool *)ctx; }

static void requests_end(void)
{
    ifc_context ctx;
    bool cancelled = false;
    CHECK_OK(ifc_context_init(&ctx, principal(9), principal(ADA), NULL, 0));
    CHECK_OK(ifc_context_alive(&ctx));
    ctx.cancelled = yes;
    ctx.cancelled_ctx = &cancelled;
    ctx.deadline_mono_ms = clock_mono_ms() + 3600000;
    CHECK_OK(ifc_context_alive(&ctx));
    ctx.deadline_mono_ms = 1;
    CHECK_FAILS(ifc_context_alive(&ctx), E_DEADLINE);
    cancelled = true;
    CHECK_FAILS(ifc_context_alive(&ctx), E_CANCELLED);
}

static result collect(void *ctx, bytes content)
{
    buf_append(ctx, content.data, content.size);
    return buf_check(ctx);
}

static void the_gate_lets_through_what_flows(void)
{
    ifc_context ctx;
    ifc_label mine, yours;
    id128 who[4];
    arena *a;
    buf out;
    arena_open(&a, 1 << 20);
    buf_init(&out, 6);
    CHECK_OK(ifc_context_init(&ctx, principal(9), principal(ADA), set(who, ADA, ADA), 1));
    readable_by(&mine, ADA, BOB);
    readable_by(&yours, BOB, BOB);
    char source[] = "hello";
    const ifc_labeled *good = ifc_labeled_make(a, &mine, bytes_str(source));
    const ifc_labeled *bad = ifc_labeled_make(a, &yours, bytes_str("secret"));
    const ifc_labeled *empty = ifc_labeled_make(a, &mine, (bytes){NULL, 0});
    NEED(good != NULL && bad != NULL && empty != NULL);
    source[0] = 'j';                                  /* it was copied */
    CHECK(ifc_labeled_size(good) == 5 && ifc_label_equal(ifc_labeled_label(good), &mine));
    CHECK(bytes_equal(ifc_labeled_compute(good), bytes_str("hello")));
    ifc_gate gate = {&ctx, collect, &out};
    result r = ifc_gate_emit(&gate, bad);
    CHECK(r.code == E_NOT_FOUND && strcmp(r.message, IFC_NOT_FOUND) == 0);
    CHECK_FAILS(ifc_gate_release(&ctx, bad, &out), E_NOT_FOUND);
    CHECK(out.size == 0);
    CHECK_OK(ifc_gate_emit(&gate, good));
    CHECK_OK(ifc_gate_emit(&gate, empty));
    CHECK(bytes_equal(buf_bytes(&out), bytes_str("hello")));
    buf_clear(&out);
    CHECK_OK(ifc_gate_release(&ctx, good, &out));
    CHECK(bytes_equal(buf_bytes(&out), bytes_str("hello")));
    CHECK_FAILS(ifc_gate_emit(&gate, good), E_EXHAUSTED);         /* the sink's error comes back */
    buf_free(&out);
    arena_close(&a);
    arena_open(&a, 100);
    CHECK(ifc_labeled_make(a, &mine, bytes_str("x")) == NULL);
    arena_close(&a);
}

int main(void)
{
    RUN(canonical_means_one_form_a_function);
    RUN(flows_join_and_meet_agree_with_truth_tables);
    RUN(the_lattice_laws_hold);
    RUN(random_labels_over_six_principals);
    RUN(past_a_cap_it_flows_nowhere);
    RUN(cross_products_count_their_canonical_result);
    RUN(pruning_never_widens);
    RUN(encodings_go_both_ways);
    RUN(only_the_canonical_form_is_decoded);
    RUN(labels_and_ids_as_text);
    RUN(the_clearance_decides);
    RUN(an_audience_narrows);
    RUN(requests_end);
    RUN(the_gate_lets_through_what_flows);
    return DONE();
}
