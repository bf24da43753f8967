/* Models that mark answers: a few tokens' logits behind every token that is read, and what config.json says of them. */
#include "model.h"
#include "model/config.h"
#include "test.h"
#include "tests/golden/random_model.h"

enum { VOCAB = 300, LENGTH = 260, STREAMS = 4, PASS_MAX = 128, WATCHED = 5 };

static const uint32_t watched[WATCHED] = {7, 0, VOCAB - 1, 7, 256};
static const gen_config shapes[] = {
    {.d_model = 60, .d_inner = 120, .d_state = 16, .d_conv = 4, .dt_rank = 4, .layers = 2, .vocab = VOCAB,
     .use_conv_bias = true, .tied = true, .type = GEN_F32, .seed = 15},
    {.d_model = 60, .d_inner = 120, .d_state = 16, .d_conv = 4, .heads = 10, .groups = 2, .layers = 2, .vocab = VOCAB,
     .use_conv_bias = true, .type = GEN_F32, .seed = 16}};
static char folder[256];
static uint64_t random_state;

static uint32_t below(uint32_t n)
{
    random_state += 0x9e3779b97f4a7c15u;
    return (uint32_t)(gen_mix(random_state) % n);
}

static uint32_t token_of(size_t stream, size_t i)
{
    return (uint32_t)(gen_bits(gen_key(7 + stream, "stream"), i) % VOCAB);
}

static model *open_model(const model_options *options)
{
    model *m = NULL;
    CHECK_OK(model_open(&m, folder, options));
    if (m == NULL) exit(1);
    return m;
}

static model_seq *open_seq(const model *m)
{
    model_seq *s = NULL;
    CHECK_OK(model_seq_open(&s, m));
    return s;
}

/* ---- watched prompts -------------------------------------------------------------------------------------------- */
/* (STREAMS, LENGTH, VOCAB): every stream read alone, token by token. */
static float *token_by_token(const model *m)
{
    float *all = mem_alloc_array((size_t)STREAMS * LENGTH * VOCAB, sizeof *all);
    for (size_t s = 0; s < STREAMS; s++) {
        model_seq *seq = open_seq(m);
        for (size_t i = 0; i < LENGTH; i++) {
            uint32_t token = token_of(s, i);
            CHECK_OK(model_decode(m, &seq, &token, 1, all + (s * LENGTH + i) * VOCAB));
        }
        model_seq_close(&seq);
    }
    return all;
}

/* Stream 0 is the prompt, read up to at; the others decode beside it. */
typedef struct {
    const model *m;
    const float *want;
    model_seq *seqs[STREAMS];
    size_t at[STREAMS];
    float scores[LENGTH * WATCHED];
} reading;

static const float *want_of(const reading *r, size_t stream, size_t i) { return r->want + (stream * LENGTH + i) * VOCAB; }

static bool same_row(const float *got, const float *want) { return memcmp(got, want, VOCAB * sizeof *got) == 0; }

static void read_piece(reading *r)
{
    static float logits[STREAMS * VOCAB], room[PASS_MAX * VOCAB];
    uint32_t piece[PASS_MAX], steps[STREAMS], beside = below(STREAMS), at = (uint32_t)r->at[0];
    uint32_t left = LENGTH - at, most = PASS_MAX - beside, count = 1 + below(left < most ? left : most);
    if (below(4) == 0) count = left < most ? left : most;
    bool wants = below(2) == 0;
    const float untouched = -12345;
    for (uint32_t i = 0; i < count; i++) piece[i] = token_of(0, at + i);
    for (uint32_t i = 0; i < beside; i++) steps[i] = token_of(1 + i, r->at[1 + i]);
    for (size_t i = 0; i < STREAMS * VOCAB; i++) logits[i] = untouched;
    const model_prompt prompt = {r->seqs[0], piece, count, wants, {watched, WATCHED, r->scores + at * WATCHED, below(2) ? room : NULL}};
    CHECK_OK(model_decode_beside(r->m, &prompt, r->seqs + 1, steps, beside, logits));
    for (size_t i = 0; i < PASS_MAX * VOCAB; i++) CHECK(room[i] == 0);
    r->at[0] += count;
    CHECK(model_seq_length(r->seqs[0]) == r->at[0]);
    if (wants) CHECK(same_row(logits, want_of(r, 0, r->at[0] - 1)));
    else for (size_t i = 0; i < VOCAB; i++) CHECK(logits[i] == untouched);
    for (uint32_t i = 0; i < beside; i++) CHECK(same_row(logits + (1 + i) * VOCAB, want_of(r, 1 + i, r->at[1 + i]++)));
    for (size_t i = (1 + (size_t)beside) * VOCAB; i < STREAMS * VOCAB; i++) CHECK(logits[i] == untouched);
}

static void read_watched(const model *m, const float *want, uint64_t seed)
{
    static reading r;
    r = (reading){.m = m, .want = want};
    random_state = seed;
    for (size_t s = 0; s < STREAMS; s++) r.seqs[s] = open_seq(m);
    while (r.at[0] < LENGTH) read_piece(&r);
    for (size_t i = 0; i < LENGTH; i++)
        for (size_t k = 0; k < WATCHED; k++)
            CHECK(memcmp(&r.scores[i * WATCHED + k], want_of(&r, 0, i) + watched[k], sizeof(float)) == 0);
    for (size_t s = 0; s < STREAMS; s++) model_seq_close(&r.seqs[s]);
}

/* Mutant: watch_late. */
static void watched_scores_are_the_logits(void)
{
    static const model_options HOW[] = {{.threads = 1}, {.threads = 2}, {.threads = 2, .precision = MODEL_BF16},
                                        {.threads = 1, .precision = MODEL_Q8},
                                        {.threads = 2, .precision = MODEL_Q4, .bf16_products = true}};
    for (size_t i = 0; i < sizeof HOW / sizeof *HOW; i++) {
        model *m = open_model(&HOW[i]);
        float *want = token_by_token(m);
        for (uint64_t seed = 0; seed < 6; seed++) read_watched(m, want, 100 * i + seed);
        mem_free(want);
        model_close(&m);
    }
}

/* Nothing is read and nothing written. */
static void watched_ids_are_checked(void)
{
    model *m = open_model(NULL);
    model_seq *s = open_seq(m), *other = open_seq(m), *fresh = open_seq(m);
    const uint32_t ids[2] = {1, 2}, past[2] = {3, VOCAB};
    float scores[4] = {5, 5, 5, 5};
    static float logits[2 * VOCAB];
    buf read, zero;
    buf_init(&read, 1 << 24);
    buf_init(&zero, 1 << 24);
    const model_prompt prompt = {s, ids, 2, true, {past, 2, scores, NULL}};
    CHECK_FAILS(model_decode_beside(m, &prompt, &other, ids, 1, logits), E_INVALID);
    CHECK_OK(model_seq_snapshot(s, &read));
    CHECK_OK(model_seq_snapshot(fresh, &zero));
    CHECK(bytes_equal(buf_bytes(&read), buf_bytes(&zero)) && model_seq_length(other) == 0);
    for (size_t i = 0; i < 4; i++) CHECK(scores[i] == 5);
    buf_free(&read);
    buf_free(&zero);
    model_seq_close(&s);
    model_seq_close(&other);
    model_seq_close(&fresh);
    model_close(&m);
}

/* ---- "lethe" ---------------------------------------------------------------------------------------------------- */
/* Of {"lethe": {...}}, with a vocabulary of 300. */
static result parse(model_marks **out, const char *inside)
{
    char json[2000];
    snprintf(json, sizeof json, "{\"model_type\": 7, \"lethe\": %s}", inside);
    return model_marks_parse(out, bytes_of(json, strlen(json)), VOCAB);
}

static void all_that_may_be_declared(void)
{
    model_marks *m = NULL;
    CHECK_OK(parse(&m, "{\"none\": 2, \"start\": 3, \"stop\": 299, \"seen\": 0, \"stem_letters\": 16,"
                       " \"span_tokens_max\": 256, \"repeats\": 1, \"sentences_tokens\": 80, \"none_bias\": -1.5, \"writes\": false,"
                       " \"another\": [1],"
                       " \"frequent\": [\"which\", \"a\", \"\\u00e9tat\", \"what\", \"wha\", \"a\"]}"));
    NEED(m != NULL);
    CHECK(m->none == 2 && m->start == 3 && m->stop == 299 && m->seen == 0 && m->stem_letters == 16);
    CHECK(m->none_bias == -1.5);
    CHECK(m->span_tokens_max == 256 && m->repeats == 1 && m->sentences_tokens == 80 && !m->writes);
    static const char *const SORTED[] = {"a", "a", "wha", "what", "which", "\303\251tat"};
    CHECK(m->frequent_count == 6);
    for (size_t i = 0; i < 6; i++) CHECK(strcmp(m->frequent[i], SORTED[i]) == 0);
    mem_free(m);
}

static void what_is_not_declared(void)
{
    model_marks *m = NULL;
    CHECK_OK(parse(&m, "{\"none\": 2, \"start\": 3, \"stop\": 4, \"seen\": null, \"writes\": null, \"frequent\": null}"));
    NEED(m != NULL);
    CHECK(m->seen == -1 && m->stem_letters == 5 && m->span_tokens_max == 24 && m->repeats == 2);
    CHECK(m->sentences_tokens == 0 && m->writes && m->frequent_count == 0);
    mem_free(m);
    CHECK_OK(parse(&m, "null"));
    CHECK(m == NULL);
    static const char PLAIN[] = "{\"vocab_size\": 300}";
    CHECK_OK(model_marks_parse(&m, bytes_of(PLAIN, sizeof PLAIN - 1), VOCAB));
    CHECK(m == NULL);
}

/* Mutant: marks_alike. */
static void bad_declarations(void)
{
    static const struct { const char *inside, *word; } BAD[] = {
        {"[]", "lethe"}, {"3", "lethe"}, {"true", "lethe"}, {"{}", "lethe.none"},
        {"{\"start\": 3, \"stop\": 4}", "lethe.none"}, {"{\"none\": 2, \"stop\": 4}", "lethe.start"},
        {"{\"none\": 2, \"start\": 3}", "lethe.stop"}, {"{\"none\": 2, \"start\": null, \"stop\": 4}", "lethe.start"},
        {"{\"none\": 300, \"start\": 3, \"stop\": 4}", "lethe.none"},
        {"{\"none\": 2, \"start\": -1, \"stop\": 4}", "lethe.start"},
        {"{\"none\": 2, \"start\": 3, \"stop\": 4.5}", "lethe.stop"},
        {"{\"none\": \"2\", \"start\": 3, \"stop\": 4}", "lethe.none"},
        {"{\"none\": 2, \"start\": 1e999, \"stop\": 4}", "lethe.start"},
        {"{\"none\": 2, \"start\": 2, \"stop\": 4}", "different"}, {"{\"none\": 2, \"start\": 3, \"stop\": 2}", "different"},
        {"{\"none\": 2, \"start\": 3, \"stop\": 3}", "different"}};
    static const struct { const char *more, *word; } MORE[] = {
        {"\"seen\": 2", "different"}, {"\"seen\": 3", "different"}, {"\"seen\": 4", "different"},
        {"\"seen\": 300", "lethe.seen"},
        {"\"seen\": -1", "lethe.seen"}, {"\"seen\": [5]", "lethe.seen"}, {"\"stem_letters\": 0", "lethe.stem_letters"},
        {"\"stem_letters\": 17", "lethe.stem_letters"}, {"\"stem_letters\": \"5\"", "lethe.stem_letters"},
        {"\"span_tokens_max\": 0", "lethe.span_tokens_max"}, {"\"span_tokens_max\": 257", "lethe.span_tokens_max"},
        {"\"span_tokens_max\": 2.5", "lethe.span_tokens_max"}, {"\"repeats\": 0", "lethe.repeats"},
        {"\"repeats\": 3", "lethe.repeats"}, {"\"repeats\": true", "lethe.repeats"},
        {"\"sentences_tokens\": 1", "lethe.sentences_tokens"}, {"\"sentences_tokens\": 15", "lethe.sentences_tokens"},
        {"\"sentences_tokens\": 4097", "lethe.sentences_tokens"},
        {"\"sentences_tokens\": {}", "lethe.sentences_tokens"},
        {"\"none_bias\": 101", "lethe.none_bias"}, {"\"none_bias\": \"0\"", "lethe.none_bias"},
        {"\"writes\": 1", "lethe.writes"}, {"\"writes\": \"no\"", "lethe.writes"},
        {"\"frequent\": \"what\"", "lethe.frequent"},
        {"\"frequent\": {\"a\": \"what\"}", "lethe.frequent"}, {"\"frequent\": [\"what\", 3]", "lethe.frequent"},
        {"\"frequent\": [\"\"]", "lethe.frequent"}, {"\"frequent\": [\"What\"]", "lethe.frequent"},
        {"\"frequent\": [\"\377\"]", "lethe.frequent"},
        {"\"frequent\": [[\"what\"]]", "lethe.frequent"}};
    char inside[400];
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD + sizeof MORE / sizeof *MORE; i++) {
        size_t k = i - sizeof BAD / sizeof *BAD;
        bool base = i < sizeof BAD / sizeof *BAD;
        model_marks *m = NULL;
        if (base) snprintf(inside, sizeof inside, "%s", BAD[i].inside);
        else snprintf(inside, sizeof inside, "{\"none\": 2, \"start\": 3, \"stop\": 4, %s}", MORE[k].more);
        result r = parse(&m, inside);
        CHECK(r.code == E_INVALID && m == NULL);
        if (is_ok(r) || strstr(r.message, base ? BAD[i].word : MORE[k].word) == NULL) {
            printf("# %s: %s\n", inside, is_ok(r) ? "taken" : r.message);
            CHECK(false);
        }
        mem_free(m);
    }
}

/* The bounds that are taken. */
static void just_within(void)
{
    static const char *const GOOD[] = {"\"stem_letters\": 1", "\"span_tokens_max\": 1", "\"repeats\": 2",
                                       "\"sentences_tokens\": 0", "\"sentences_tokens\": 16",
                                       "\"sentences_tokens\": 4096", "\"frequent\": []",
                                       "\"seen\": 299", "\"seen\": 0"};
    for (size_t i = 0; i < sizeof GOOD / sizeof *GOOD; i++) {
        char inside[400];
        model_marks *m = NULL;
        snprintf(inside, sizeof inside, "{\"none\": 2, \"start\": 3, \"stop\": 4, %s}", GOOD[i]);
        CHECK_OK(parse(&m, inside));
        CHECK(m != NULL);
        mem_free(m);
    }
}

static result parse_many(model_marks **out, uint32_t stems)
{
    buf json;
    buf_init(&json, 1 << 20);
    char text[80];
    static const char BEGIN[] = "{\"lethe\":{\"none\":2,\"start\":3,\"stop\":4,\"frequent\":[";
    buf_append(&json, BEGIN, sizeof BEGIN - 1);
    for (uint32_t i = 0; i < stems; i++)
        buf_append(&json, text, (size_t)snprintf(text, sizeof text, "%s\"w%u\"", i > 0 ? "," : "", i * 7919 % 65536));
    buf_append(&json, "]}}", 3);
    result r = buf_check(&json);
    if (is_ok(r)) r = model_marks_parse(out, buf_bytes(&json), VOCAB);
    buf_free(&json);
    return r;
}

static void as_many_stems_as_may_be(void)
{
    model_marks *m = NULL;
    CHECK_FAILS(parse_many(&m, CONFIG_FREQUENT_MAX + 1), E_INVALID);
    CHECK(m == NULL);
    CHECK_OK(parse_many(&m, CONFIG_FREQUENT_MAX));
    NEED(m != NULL && m->frequent_count == CONFIG_FREQUENT_MAX);
    for (size_t i = 1; i < m->frequent_count; i++) CHECK(strcmp(m->frequent[i - 1], m->frequent[i]) < 0);
    mem_free(m);
}

/* ---- folders ---------------------------------------------------------------------------------------------------- */
/* Adds an entry to a folder's config.json. */
static void declare(const char *dir, const char *lethe)
{
    char path[400];
    buf json;
    buf_init(&json, 1 << 20);
    snprintf(path, sizeof path, "%s/config.json", dir);
    CHECK_OK(file_read(path, 1 << 20, &json));
    uint8_t *end = memrchr(json.data, '}', json.size);
    if (end == NULL) exit(1);
    json.size = (size_t)(end - json.data);
    buf_append(&json, lethe, strlen(lethe));
    CHECK_OK(buf_check(&json));
    CHECK_OK(file_write_atomic(path, buf_bytes(&json), 0600));
    buf_free(&json);
}

static void check_declared(const char *dir)
{
    model *m = NULL;
    CHECK_OK(model_open(&m, dir, NULL));
    const model_marks *marks = m == NULL ? NULL : model_marks_of(m);
    CHECK(marks != NULL);
    if (marks != NULL) {
        CHECK(marks->none == 2 && marks->start == 3 && marks->stop == 4 && marks->seen == 5 && marks->frequent_count == 2);
        CHECK(strcmp(marks->frequent[0], "that") == 0 && strcmp(marks->frequent[1], "this") == 0);
    }
    model_close(&m);
}

static void folders_declare_it(void)
{
    char where[256], dir[300], narrow[300];
    model *m = open_model(NULL);
    CHECK(model_marks_of(m) == NULL);
    model_close(&m);
    test_tmpdir(where);
    snprintf(dir, sizeof dir, "%s/marks", where);
    snprintf(narrow, sizeof narrow, "%s/q8", where);
    CHECK_OK(dir_make(dir, 0700));
    CHECK(random_model_write(dir, &shapes[0]));
    declare(dir, ", \"lethe\": {\"none\": 2, \"start\": 3, \"stop\": 4, \"seen\": 5, \"frequent\": [\"this\", \"that\"]}}");
    check_declared(dir);
    CHECK_OK(model_quantise(dir, narrow, MODEL_Q8));
    check_declared(narrow);
    CHECK(random_model_write(dir, &shapes[0]));
    declare(dir, ", \"lethe\": {\"none\": 2, \"start\": 3, \"stop\": 300}}");     /* past this model's vocabulary */
    CHECK_FAILS(model_open(&m, dir, NULL), E_INVALID);
    CHECK(m == NULL);
    test_tmpdir_remove(where);
}

int main(void)
{
    for (size_t i = 0; i < 2; i++) {
        if (!random_model_write(test_tmpdir(folder), &shapes[i])) return 1;
        printf("# %s\n", shapes[i].heads != 0 ? "Mamba-2" : "Mamba-1");
        RUN(watched_scores_are_the_logits);
        RUN(watched_ids_are_checked);
        RUN(folders_declare_it);
        test_tmpdir_remove(folder);
    }
    RUN(all_that_may_be_declared);
    RUN(what_is_not_declared);
    RUN(bad_declarations);
    RUN(just_within);
    RUN(as_many_stems_as_may_be);
    return DONE();
}
