/* Frozen centroids, the lists that they make, and searching some of them. */
#include "retrieval/centroids.h"
#include "retrieval/dense_bench.h"
#include "tensors.h"
#include "test.h"

#include <math.h>

enum { DIM = 100, LISTS = 12, DOCS = 60, MAX_CHUNKS = 9, K = 20, QUERIES = 20 };

static uint64_t state = 88172645463325252u;
static uint32_t next(void)
{
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return (uint32_t)(state >> 32);
}
static float one(void) { return (float)(int32_t)next() / 2147483648.0f; }
static void fill(float *v, size_t n) { for (size_t i = 0; i < n; i++) v[i] = one(); }

static dense *points;
static float vectors[DOCS][MAX_CHUNKS * DIM], queries[QUERIES][DIM];
static id128 ids[DOCS];
static uint32_t counts[DOCS];

/* Every third document repeats one chunk's vector, so that there are ties; centroids 3 and 7 are the same. */
static void make_documents(void)
{
    float centroids[LISTS * DIM];
    fill(centroids, LISTS * DIM);
    memcpy(centroids + 7 * DIM, centroids + 3 * DIM, DIM * sizeof *centroids);
    CHECK_OK(dense_open(&points, DIM));
    CHECK_OK(dense_add(points, (id128){{0}}, LISTS, centroids));
    for (size_t d = 0; d < DOCS; d++) {
        for (size_t i = 0; i < ID_BYTES; i++) ids[d].b[i] = (uint8_t)next();
        counts[d] = 1 + next() % MAX_CHUNKS;
        fill(vectors[d], MAX_CHUNKS * DIM);
        if (d % 3 == 0) memcpy(vectors[d], vectors[0], DIM * sizeof **vectors);
    }
    for (size_t q = 0; q < QUERIES; q++) fill(queries[q], DIM);
}

static dense *listed(const bool in[DOCS])
{
    dense *d = NULL;
    CHECK_OK(dense_open_listed(&d, points));
    for (size_t i = 0; i < DOCS; i++)
        if (in == NULL || in[i]) CHECK_OK(dense_add(d, ids[i], counts[i], vectors[i]));
    return d;
}

static bool same_hits(const dense_hit *a, uint32_t a_count, const dense_hit *b, uint32_t b_count)
{
    bool same = a_count == b_count;
    for (uint32_t i = 0; same && i < a_count; i++) same = a[i].row == b[i].row && a[i].score == b[i].score;
    return same;
}

static void a_list_is_the_nearest_centroid(void)
{
    uint64_t sizes[DENSE_LISTS_MAX] = {0}, seen[DENSE_LISTS_MAX] = {0};
    dense *d = listed(NULL);
    for (uint32_t r = 0; r < dense_rows(d); r++) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < LISTS; i++)
            if (dense_dot(points, i, dense_vector(d, r)) > dense_dot(points, best, dense_vector(d, r))) best = i;
        CHECK(dense_list(d, r) == best && best != 7);
        seen[best]++;
    }
    dense_count_lists(d, sizes);
    CHECK(memcmp(sizes, seen, sizeof sizes) == 0 && sizes[3] > 0);
    dense_close(&d);
}

/* What is searched through is the chosen lists' rows, whose scores are not below the floor: an oracle without lists. */
static void some_lists_are_searched_exactly(void)
{
    dense *d[2] = {NULL, NULL};
    CHECK_OK(dense_open_path(&d[0], DIM, points, DENSE_PORTABLE));
    if (!is_ok(dense_open_path(&d[1], DIM, points, DENSE_AVX2))) CHECK_OK(dense_open_listed(&d[1], points));
    for (size_t i = 0; i < 2 * DOCS; i++) CHECK_OK(dense_add(d[i % 2], ids[i / 2], counts[i / 2], vectors[i / 2]));
    uint32_t rows = dense_rows(d[0]), left_out = 0;
    dense_hit *all = mem_alloc_array(rows, sizeof *all), want[K], got[K];
    for (uint32_t q = 0; q < QUERIES; q++) {
        bool chosen[DENSE_LISTS_MAX] = {false};
        uint32_t n = 0, m = 0, k;
        for (uint32_t i = 0; i < LISTS; i++) chosen[i] = next() % 3 == 0;
        CHECK_OK(dense_search(d[0], queries[q], rows, all, &n));
        CHECK(n == rows);
        float floor = q % 2 ? all[rows / 6].score : -INFINITY;
        for (uint32_t i = 0; i < n && m < K; i++)
            if (chosen[dense_list(d[0], all[i].row)] && all[i].score >= floor) want[m++] = all[i];
            else left_out++;
        for (int p = 0; p < 2; p++) {
            CHECK_OK(dense_search_some(d[p], queries[q], chosen, floor, K, got, &k));
            CHECK(same_hits(got, k, want, m));
        }
    }
    CHECK(left_out > QUERIES);
    mem_free(all);
    dense_close(&d[0]);
    dense_close(&d[1]);
}

static void all_lists_are_the_flat_search(void)
{
    dense *d = listed(NULL), *plain = NULL;
    bool all[DENSE_LISTS_MAX];
    memset(all, 1, sizeof all);
    CHECK_OK(dense_open(&plain, DIM));
    for (size_t i = DOCS; i-- > 0;) CHECK_OK(dense_add(plain, ids[i], counts[i], vectors[i]));
    for (uint32_t q = 0; q < QUERIES; q++) {
        dense_hit flat[K], probed[K], floored[K];
        uint32_t n = 0, m = 0, f = 0;
        CHECK_OK(dense_search(plain, queries[q], K, flat, &n));
        CHECK_OK(dense_search_some(d, queries[q], all, -INFINITY, K, probed, &m));
        CHECK_OK(dense_search_some(plain, queries[q], NULL, flat[K - 1].score, K, floored, &f));
        CHECK(n == K && same_hits(flat, n, probed, m) && same_hits(flat, n, floored, f));
    }
    dense_close(&d);
    dense_close(&plain);
}

static bool equal(const dense *a, const dense *b)
{
    if (dense_rows(a) != dense_rows(b)) return false;
    return memcmp(dense_lists(a), dense_lists(b), dense_rows(a)) == 0 &&
           memcmp(dense_vector(a, 0), dense_vector(b, 0), dense_rows(a) * DIM * sizeof(float)) == 0;
}

static bool found_alike(const dense *a, const dense *b)
{
    bool alike = true;
    for (uint32_t q = 0; q < QUERIES; q++) {
        const dense *of[2] = {a, b};
        dense_hit hits[2][K];
        uint32_t n[2];
        for (int i = 0; i < 2; i++) {
            uint64_t sizes[DENSE_LISTS_MAX] = {0};
            bool chosen[DENSE_LISTS_MAX];
            dense_count_lists(of[i], sizes);
            CHECK_OK(centroids_choose(points, queries[q], sizes, dense_rows(of[i]) / 4, chosen));
            CHECK_OK(dense_search_some(of[i], queries[q], chosen, -INFINITY, K, hits[i], &n[i]));
        }
        alike = alike && same_hits(hits[0], n[0], hits[1], n[1]);
    }
    return alike;
}

/* Mutant: list_keeps_erased. */
static void history_leaves_no_trace(void)
{
    bool in[DOCS] = {false};
    dense *mixed = listed(in), *upper = NULL;
    CHECK_OK(dense_open_listed(&upper, points));
    for (int step = 0; step < 1500; step++) {
        size_t d = next() % DOCS;
        if (in[d]) dense_remove(mixed, ids[d]);
        else CHECK_OK(dense_add(mixed, ids[d], counts[d], vectors[d]));
        in[d] = !in[d];
        if (step % 50 == 0) {
            CHECK_OK(dense_split(mixed, ids[next() % DOCS], upper));
            CHECK_OK(dense_join(mixed, upper));
            CHECK(dense_rows(upper) == 0);
        }
        if (step % 100 != 99) continue;
        dense *fresh = listed(in);
        CHECK(dense_rows(fresh) > K && equal(mixed, fresh) && found_alike(mixed, fresh));
        dense_close(&fresh);
    }
    dense_close(&mixed);
    dense_close(&upper);
}

/* Mutant: list_unwiped. */
static void lists_of_removed_rows_are_zeroed(void)
{
    dense *d = listed(NULL), *upper = NULL;
    CHECK_OK(dense_open_listed(&upper, points));
    const uint8_t *lists = dense_lists(d);
    uint32_t before = dense_rows(d), was = 0;
    for (uint32_t r = 0; r < before; r++) was += lists[r] != 0;
    CHECK(was > before / 2);
    for (size_t i = 0; i < DOCS; i += 2) dense_remove(d, ids[i]);
    uint32_t kept = dense_rows(d);
    CHECK(kept < before && kept > 0);
    for (uint32_t r = kept; r < before; r++) CHECK(lists[r] == 0);
    CHECK_OK(dense_split(d, dense_key_of(d, kept / 2).document, upper));
    for (uint32_t r = dense_rows(d); r < before; r++) CHECK(lists[r] == 0);
    dense_wipe(d);
    for (uint32_t r = 0; r < before; r++) CHECK(lists[r] == 0);
    dense_close(&d);
    dense_close(&upper);
}

static void the_nearest_lists_are_chosen(void)
{
    dense_hit order[LISTS];
    bool chosen[DENSE_LISTS_MAX];
    uint64_t sizes[DENSE_LISTS_MAX] = {0};
    uint32_t n;
    CHECK_OK(dense_search(points, queries[0], LISTS, order, &n));
    CHECK(n == LISTS);
    for (uint32_t i = 0; i < LISTS; i++) sizes[order[i].row] = i % 2 ? 10 : 0;         /* the nearest is empty */
    for (uint64_t least = 0; least <= 70; least++) {
        CHECK_OK(centroids_choose(points, queries[0], sizes, least, chosen));
        for (uint32_t i = 0; i < LISTS; i++) CHECK(chosen[order[i].row] == (i % 2 == 1 && i / 2 < (least + 9) / 10));
    }
}

/* ---- the file -------------------------------------------------------------------------------- */

static void file_make(const char *dir, const char *header, size_t data_size, const float *scale)
{
    char path[400];
    buf b;
    buf_init(&b, 1 << 20);
    buf_append_u64(&b, strlen(header));
    buf_append_str(&b, header);
    for (size_t i = 0; i < data_size; i++) buf_append_u8(&b, (uint8_t)i);
    if (scale != NULL) memcpy(b.data + b.size - sizeof *scale, scale, sizeof *scale);
    snprintf(path, sizeof path, "%s/centroids.safetensors", dir);
    CHECK_OK(file_write_atomic(path, buf_bytes(&b), 0600));
    buf_free(&b);
}

static void files_are_checked(void)
{
    static const char TWO[] = "{\"centroids\":{\"dtype\":\"I8\",\"shape\":[2,4],\"data_offsets\":[0,8]},"
                              "\"scales\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}";
    static const struct { const char *header; size_t size; } bad[] = {
        {"{\"centroids\":{\"dtype\":\"I8\",\"shape\":[2,4],\"data_offsets\":[0,8]}}", 8},
        {"{\"centroids\":{\"dtype\":\"I8\",\"shape\":[2,4],\"data_offsets\":[0,8]},"
         "\"scales\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}", 12},
        {"{\"centroids\":{\"dtype\":\"U8\",\"shape\":[2,4],\"data_offsets\":[0,8]},"
         "\"scales\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", 16},
        {"{\"centroids\":{\"dtype\":\"I8\",\"shape\":[257,4],\"data_offsets\":[0,1028]},"
         "\"scales\":{\"dtype\":\"F32\",\"shape\":[257],\"data_offsets\":[1028,2056]}}", 2056},
        {"{\"centroids\":{\"dtype\":\"I8\",\"shape\":[2,4],\"data_offsets\":[0,8]},"
         "\"scales\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[8,12]}}", 12},
        {"not a header", 16},
    };
    char dir[256];
    dense *c = NULL;
    float scale = 0.5f, infinite = INFINITY;
    test_tmpdir(dir);
    CHECK_OK(centroids_open(&c, dir, 4));
    CHECK(c == NULL);
    file_make(dir, TWO, 16, &scale);
    CHECK_OK(centroids_open(&c, dir, 4));
    NEED(c != NULL);
    CHECK(dense_rows(c) == 2 && dense_vector(c, 1)[3] == 3.5f);
    dense_close(&c);
    CHECK_FAILS(centroids_open(&c, dir, 5), E_INVALID);
    file_make(dir, TWO, 16, &infinite);
    CHECK_FAILS(centroids_open(&c, dir, 4), E_INVALID);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        file_make(dir, bad[i].header, bad[i].size, NULL);
        CHECK_FAILS(centroids_open(&c, dir, 4), E_INVALID);
        CHECK(c == NULL);
    }
    test_tmpdir_remove(dir);
}

/* ---- what probing finds ---------------------------------------------------------------------- */

enum { ROWS = 12000, ASKED = 50, TOPICS = 150, TOPIC_TOKENS = 60, BEST = 10 };

typedef struct {
    const int8_t *table;
    uint32_t tokens, dimensions;
    dense *centroids, *rows;
    float *asked;
    dense_hit topics[TOPICS][TOPIC_TOKENS];      /* the tokens nearest to some token */
} recall;

static void make_topics(recall *x)
{
    dense *tokens = NULL;
    float *rows = mem_alloc_array((size_t)x->tokens * x->dimensions, sizeof *rows);
    uint32_t n;
    for (uint32_t t = 0; t < x->tokens; t++) {
        double square = 0;
        float *row = rows + (size_t)t * x->dimensions;
        for (uint32_t d = 0; d < x->dimensions; d++) row[d] = (float)x->table[(size_t)t * x->dimensions + d];
        for (uint32_t d = 0; d < x->dimensions; d++) square += (double)row[d] * (double)row[d];
        for (uint32_t d = 0; d < x->dimensions && square > 0; d++) row[d] *= (float)(1 / sqrt(square));
    }
    CHECK_OK(dense_open(&tokens, x->dimensions));
    CHECK_OK(dense_add(tokens, ids[0], x->tokens, rows));
    for (uint32_t i = 0; i < TOPICS; i++)
        CHECK_OK(dense_search(tokens, rows + (size_t)(next() % x->tokens) * x->dimensions, TOPIC_TOKENS, x->topics[i], &n));
    dense_close(&tokens);
    mem_free(rows);
}

/* The vector of some tokens, as the embedder makes it: some are any tokens, the others the topic's. */
static void text_vector(const recall *x, uint32_t topic, uint32_t length, float *out)
{
    double square = 0;
    memset(out, 0, x->dimensions * sizeof *out);
    for (uint32_t i = 0; i < length; i++) {
        uint32_t token = next() % 5 < 2 ? next() % x->tokens : x->topics[topic][next() % TOPIC_TOKENS].row;
        for (uint32_t d = 0; d < x->dimensions; d++) out[d] += (float)x->table[(size_t)token * x->dimensions + d];
    }
    for (uint32_t d = 0; d < x->dimensions; d++) square += (double)out[d] * (double)out[d];
    for (uint32_t d = 0; d < x->dimensions; d++) out[d] *= (float)(1 / sqrt(square));
}

static double recall_with(const recall *x, uint32_t percent, double *share)
{
    uint64_t sizes[DENSE_LISTS_MAX] = {0}, read = 0, found = 0;
    dense_count_lists(x->rows, sizes);
    for (uint32_t q = 0; q < ASKED; q++) {
        const float *query = x->asked + (size_t)q * x->dimensions;
        dense_hit flat[BEST], probed[BEST];
        bool chosen[DENSE_LISTS_MAX];
        uint32_t n, m;
        CHECK_OK(centroids_choose(x->centroids, query, sizes, ROWS * percent / 100, chosen));
        CHECK_OK(dense_search(x->rows, query, BEST, flat, &n));
        CHECK_OK(dense_search_some(x->rows, query, chosen, -INFINITY, BEST, probed, &m));
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t j = 0; j < m; j++) found += flat[i].row == probed[j].row;
        for (uint32_t i = 0; i < DENSE_LISTS_MAX; i++) read += chosen[i] ? sizes[i] : 0;
    }
    *share = (double)read / ASKED / ROWS;
    return (double)found / ASKED / BEST;
}

static void measure_recall(recall *x)
{
    float *rows = mem_alloc_array((size_t)ROWS * x->dimensions, sizeof *rows);
    x->asked = mem_alloc_array((size_t)ASKED * x->dimensions, sizeof *x->asked);
    for (uint32_t i = 0; i < ROWS; i++) text_vector(x, next() % TOPICS, 100, rows + (size_t)i * x->dimensions);
    for (uint32_t i = 0; i < ASKED; i++) text_vector(x, next() % TOPICS, 12, x->asked + (size_t)i * x->dimensions);
    CHECK_OK(dense_open_listed(&x->rows, x->centroids));
    CHECK_OK(dense_add(x->rows, ids[0], ROWS, rows));
    double share, last = 0;
    static const uint32_t percents[] = {5, PROBE_PERCENT_DEFAULT, 50, 100};
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        double got = recall_with(x, percents[i], &share);
        printf("# %u percent: recall@10 %.3f, %.1f %% of the rows\n", percents[i], got, share * 100);
        CHECK(got >= last);
        if (percents[i] == PROBE_PERCENT_DEFAULT) CHECK(got >= 0.95 && share <= 0.25);
        last = got;
    }
    CHECK(last == 1 && share == 1);
    dense_close(&x->rows);
    mem_free(rows);
    mem_free(x->asked);
}

/* Bags of the bundled embedder's own tokens, by topic: no text, but its geometry. */
static void the_bundled_centroids_find_most(void)
{
    char path[600];
    const char *source = getenv("LETHE_SOURCE");
    tensors *file = NULL;
    static recall x;
    snprintf(path, sizeof path, "%s/model/bundled/embedder", source ? source : ".");
    CHECK_OK(tensors_open(&file, path));
    NEED(file != NULL);
    const tensor *t = tensors_find(file, "embeddings");
    NEED(t != NULL && t->type == TENSOR_I8);
    x.table = (const int8_t *)t->data;
    x.tokens = (uint32_t)t->shape[0];
    x.dimensions = (uint32_t)t->shape[1];
    CHECK_OK(centroids_open(&x.centroids, path, x.dimensions));
    NEED(x.centroids != NULL);
    CHECK(dense_rows(x.centroids) == DENSE_LISTS_MAX);
    for (uint32_t i = 0; i < dense_rows(x.centroids); i++)
        CHECK(fabsf(dense_dot(x.centroids, i, dense_vector(x.centroids, i)) - 1) < 1e-5f);
    make_topics(&x);
    measure_recall(&x);
    dense_close(&x.centroids);
    tensors_close(&file);
}

int main(void)
{
    make_documents();
    RUN(a_list_is_the_nearest_centroid);
    RUN(some_lists_are_searched_exactly);
    RUN(all_lists_are_the_flat_search);
    RUN(history_leaves_no_trace);
    RUN(lists_of_removed_rows_are_zeroed);
    RUN(the_nearest_lists_are_chosen);
    RUN(files_are_checked);
    RUN(the_bundled_centroids_find_most);
    dense_close(&points);
    return DONE();
}
