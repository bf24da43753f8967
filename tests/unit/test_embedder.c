#include "retrieval/embedder.h"
#include "test.h"

#include <cjson/cJSON.h>
#include <math.h>

#include "tiny_embedder.h"

static char dir[256];

static cJSON *read_golden(void)
{
    char path[600];
    const char *source = getenv("LETHE_SOURCE");
    buf b;
    snprintf(path, sizeof path, "%s/tests/golden/wordpiece.json", source ? source : ".");
    buf_init(&b, 8 << 20);
    CHECK_OK(file_read(path, 8 << 20, &b));
    cJSON *root = cJSON_ParseWithLength((const char *)b.data, b.size);
    buf_free(&b);
    return root;
}

static void check_lines(const wordpiece *w, const cJSON *lines, const cJSON *ids, const char *kind)
{
    int wrong = 0, number = 0;
    const cJSON *line, *want = ids->child;
    cJSON_ArrayForEach(line, lines) {
        buf got;
        buf_init(&got, 1 << 20);
        wordpiece_encode(w, bytes_str(line->valuestring), &got);
        bool same = got.size / 4 == (size_t)cJSON_GetArraySize(want);
        const cJSON *id = want->child;
        for (size_t i = 0; same && i < got.size / 4; i++, id = id->next) {
            uint32_t v;
            memcpy(&v, got.data + 4 * i, 4);
            same = v == (uint32_t)id->valuedouble;
        }
        if (!same && ++wrong <= 5) {
            printf("# %s, line %d: %s got", kind, number, line->valuestring);
            for (size_t i = 0; i < got.size / 4; i++) {
                uint32_t v;
                memcpy(&v, got.data + 4 * i, 4);
                printf(" %u", v);
            }
            char *text = cJSON_PrintUnformatted(want);
            printf(" want %s\n", text);
            cJSON_free(text);
        }
        buf_free(&got);
        want = want->next;
        number++;
    }
    CHECK(wrong == 0 && number >= 500);
}

/* Every line, four kinds of normalizer, id for id as the tokenizers library has it. */
static void ids_equal_the_reference(void)
{
    cJSON *golden = read_golden();
    NEED(golden != NULL);
    const cJSON *kinds = cJSON_GetObjectItem(golden, "tokenizers"), *kind;
    int seen = 0;
    cJSON_ArrayForEach(kind, kinds) {
        cJSON *file = cJSON_Duplicate(kind, true), *vocab = cJSON_CreateObject(), *tail = NULL;
        const cJSON *token;
        int id = 0;
        cJSON_ArrayForEach(token, cJSON_GetObjectItem(golden, "vocab")) {
            /* linked by hand: adding walks the list */
            cJSON *n = cJSON_CreateNumber(id++);
            n->string = strdup(token->valuestring);
            if (tail == NULL) vocab->child = n;
            else { tail->next = n; n->prev = tail; }
            tail = n;
        }
        vocab->child->prev = tail;
        cJSON_ReplaceItemInObject(cJSON_GetObjectItem(file, "model"), "vocab", vocab);
        char *text = cJSON_PrintUnformatted(file);
        wordpiece *w = NULL;
        CHECK_OK(wordpiece_open(&w, bytes_str(text)));
        if (w != NULL)
            check_lines(w, cJSON_GetObjectItem(golden, "lines"),
                        cJSON_GetObjectItem(cJSON_GetObjectItem(golden, "ids"), kind->string),
                        kind->string);
        wordpiece_close(&w);
        cJSON_free(text);
        cJSON_Delete(file);
        seen++;
    }
    CHECK(seen == 4);
    cJSON_Delete(golden);
}

static void other_tokenizers_are_named(void)
{
    static const struct { const char *json; error_code code; const char *word; } cases[] = {
        {"", E_INVALID, "JSON"},
        {"[]", E_INVALID, "model"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", E_UNIMPLEMENTED, "Unigram"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{}}}", E_UNIMPLEMENTED, "BPE"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", E_INVALID, "vocabulary"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}", E_INVALID, "unk_token"},
        {"{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"a\",\"vocab\":{\"a\":-1}}}", E_INVALID,
            "id"},
        {"{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"a\",\"vocab\":{\"a\":1e99}}}",
            E_INVALID, "id"},
        {"{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"a\",\"vocab\":{\"a\":0}},"
         "\"normalizer\":{\"type\":\"NFC\"}}", E_UNIMPLEMENTED, "NFC"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        wordpiece *w = NULL;
        result r = wordpiece_open(&w, bytes_str(cases[i].json));
        CHECK(r.code == cases[i].code && strstr(r.message, cases[i].word) != NULL && w == NULL);
    }
}

static void a_text_is_the_mean_of_its_tokens(void)
{
    embedder *e = NULL;
    float v[TINY_DIM], a[TINY_DIM], b[TINY_DIM], sum = 0;
    tiny_embedder_write(dir, TINY_F32);
    CHECK_OK(embedder_open(&e, dir));
    NEED(e != NULL);
    CHECK(embedder_dimensions(e) == TINY_DIM);
    CHECK(embedder_embed(e, bytes_str("River"), a) && embedder_embed(e, bytes_str("garden!"), b));
    CHECK(embedder_embed(e, bytes_str("the-garden RIVER nonsenseword"), v));
    for (int d = 0; d < TINY_DIM; d++) sum += v[d] * v[d];
    CHECK(fabsf(sum - 1) < 1e-5f);
    float the[TINY_DIM], raw[TINY_DIM], norm = 0;
    tiny_row("the", the);
    float r[TINY_DIM], g[TINY_DIM];
    tiny_row("river", r);
    tiny_row("garden", g);
    for (int d = 0; d < TINY_DIM; d++) {
        raw[d] = the[d] + r[d] + g[d];
        norm += raw[d] * raw[d];
    }
    for (int d = 0; d < TINY_DIM; d++) CHECK(fabsf(v[d] - raw[d] / sqrtf(norm)) < 1e-5f);
    CHECK(!embedder_embed(e, bytes_str("nonsenseword"), v) && v[0] == 0 && v[TINY_DIM - 1] == 0);
    CHECK(!embedder_embed(e, bytes_str(""), v));
    embedder_close(&e);
}

/* Rounded to 8 bits the direction is nearly the same; with weights and a mapping it is another. */
static void other_layouts(void)
{
    float full[TINY_DIM], v[TINY_DIM], dot = 0;
    embedder *e = NULL;
    tiny_embedder_write(dir, TINY_F32);
    NEED(is_ok(embedder_open(&e, dir)));
    (void)embedder_embed(e, bytes_str("river garden"), full);
    embedder_close(&e);
    tiny_embedder_write(dir, TINY_I8);
    NEED(is_ok(embedder_open(&e, dir)));
    (void)embedder_embed(e, bytes_str("river garden"), v);
    for (int d = 0; d < TINY_DIM; d++) dot += v[d] * full[d];
    CHECK(dot > 0.999f);
    embedder_close(&e);
    tiny_embedder_write(dir, TINY_WEIGHTED);     /* weight 0 for all but "river", rows reversed */
    NEED(is_ok(embedder_open(&e, dir)));
    CHECK(embedder_embed(e, bytes_str("river garden"), v));
    (void)embedder_embed(e, bytes_str("river"), full);
    for (int d = 0; d < TINY_DIM; d++) CHECK(fabsf(v[d] - full[d]) < 1e-6f);
    embedder_close(&e);
}

static void damaged_files_are_refused(void)
{
    embedder *e = NULL;
    char path[400];
    CHECK_FAILS(embedder_open(&e, "/nonexistent"), E_NOT_FOUND);
    tiny_embedder_write(dir, TINY_SHORT);        /* fewer rows than tokens */
    CHECK_FAILS(embedder_open(&e, dir), E_INVALID);
    tiny_embedder_write(dir, TINY_F32);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    CHECK_OK(file_write_atomic(path, bytes_str("short"), 0600));
    CHECK_FAILS(embedder_open(&e, dir), E_INVALID);
    CHECK(e == NULL);
}

static void the_bundled_embedder_opens(void)
{
    char path[600];
    embedder *e = NULL;
    const char *source = getenv("LETHE_SOURCE");
    snprintf(path, sizeof path, "%s/model/bundled/embedder", source ? source : ".");
    CHECK_OK(embedder_open(&e, path));
    NEED(e != NULL);
    float *v = mem_alloc_array(3 * embedder_dimensions(e), sizeof *v), near = 0, far = 0;
    uint32_t dim = embedder_dimensions(e);
    CHECK(embedder_embed(e, bytes_str("The doctor treated the patient in the hospital."), v));
    CHECK(embedder_embed(e, bytes_str("A nurse gave medicine to sick people."), v + dim));
    CHECK(embedder_embed(e, bytes_str("The army marched across the frontier."), v + 2 * dim));
    for (uint32_t d = 0; d < dim; d++) {
        near += v[d] * v[dim + d];
        far += v[d] * v[2 * dim + d];
    }
    CHECK(near > far);
    mem_free(v);
    embedder_close(&e);
}

int main(void)
{
    test_tmpdir(dir);
    RUN(ids_equal_the_reference);
    RUN(other_tokenizers_are_named);
    RUN(a_text_is_the_mean_of_its_tokens);
    RUN(other_layouts);
    RUN(damaged_files_are_refused);
    RUN(the_bundled_embedder_opens);
    test_tmpdir_remove(dir);
    return DONE();
}
