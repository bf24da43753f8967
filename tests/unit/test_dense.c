#include "retrieval/dense_bench.h"
#include "test.h"

#include <math.h>

enum { DIM = 100, DOCS = 40, MAX_CHUNKS = 7 };

static uint64_t state = 88172645463325252u;
static uint32_t next(void)
{
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return (uint32_t)(state >> 32);
}
static float unit(void) { return (float)(int32_t)next() / 2147483648.0f; }
static void fill(float *v, size_t n) { for (size_t i = 0; i < n; i++) v[i] = unit(); }

static float vectors[DOCS][MAX_CHUNKS * DIM];
static id128 ids[DOCS];
static uint32_t counts[DOCS];

static void make_documents(void)
{
    for (size_t d = 0; d < DOCS; d++) {
        for (size_t i = 0; i < ID_BYTES; i++) ids[d].b[i] = (uint8_t)next();
        counts[d] = 1 + next() % MAX_CHUNKS;
        fill(vectors[d], MAX_CHUNKS * DIM);
    }
}

static bool equal(const dense *a, const dense *b)
{
    if (dense_rows(a) != dense_rows(b)) return false;
    for (uint32_t r = 0; r < dense_rows(a); r++) {
        dense_key x = dense_key_of(a, r), y = dense_key_of(b, r);
        if (!id_equal(x.document, y.document) || x.chunk != y.chunk) return false;
        if (memcmp(dense_vector(a, r), dense_vector(b, r), DIM * sizeof(float)) != 0) return false;
    }
    return true;
}

static void history_leaves_no_trace(void)
{
    dense *mixed = NULL, *fresh = NULL;
    NEED(is_ok(dense_open(&mixed, DIM)) && is_ok(dense_open(&fresh, DIM)));
    bool in[DOCS] = {false};
    for (int step = 0; step < 2000; step++) {
        size_t d = next() % DOCS;
        if (in[d]) dense_remove(mixed, ids[d]);
        else CHECK_OK(dense_add(mixed, ids[d], counts[d], vectors[d]));
        in[d] = !in[d];
    }
    for (size_t d = 0; d < DOCS; d++)
        if (in[d]) CHECK_OK(dense_add(fresh, ids[d], counts[d], vectors[d]));
    CHECK(dense_rows(fresh) > 0 && equal(mixed, fresh));
    for (uint32_t r = 1; r < dense_rows(mixed); r++) {
        dense_key x = dense_key_of(mixed, r - 1), y = dense_key_of(mixed, r);
        int order = id_compare(x.document, y.document);
        CHECK(order < 0 || (order == 0 && x.chunk < y.chunk));
    }
    dense_close(&mixed);
    dense_close(&fresh);
    CHECK(mixed == NULL);
}

static void removed_rows_are_zeroed(void)
{
    dense *d = NULL;
    NEED(is_ok(dense_open(&d, DIM)));
    CHECK_OK(dense_add(d, ids[0], counts[0], vectors[0]));
    CHECK_OK(dense_add(d, ids[1], counts[1], vectors[1]));
    size_t before = dense_rows(d);
    const float *rows = dense_vector(d, 0);
    dense_remove(d, ids[1]);
    CHECK(dense_rows(d) == counts[0]);
    for (size_t i = counts[0] * DIM; i < before * DIM; i++) CHECK(rows[i] == 0);
    dense_remove(d, ids[1]);                     /* absent is fine */
    dense_close(&d);
}

static int by_id(const void *a, const void *b)
{
    return id_compare(((const dense_document *)a)->document, ((const dense_document *)b)->document);
}

static void many_at_once_equal_one_by_one(void)
{
    dense *many = NULL, *single = NULL;
    dense_document list[DOCS];
    NEED(is_ok(dense_open(&many, DIM)) && is_ok(dense_open(&single, DIM)));
    for (size_t half = 0; half < 2; half++) {
        size_t n = 0;
        for (size_t d = half; d < DOCS; d += 2)
            list[n++] = (dense_document){ids[d], counts[d], vectors[d]};
        qsort(list, n, sizeof *list, by_id);
        CHECK_OK(dense_add_many(many, list, n));
        for (size_t d = half; d < DOCS; d += 2)
            CHECK_OK(dense_add(single, ids[d], counts[d], vectors[d]));
        CHECK(equal(many, single));
    }
    uint32_t row;
    CHECK(dense_find(many, ids[3], 0, &row) && id_equal(dense_key_of(many, row).document, ids[3]));
    CHECK(!dense_find(many, ids[3], counts[3], &row));
    dense_close(&many);
    dense_close(&single);
}

static void paths_agree_bit_for_bit(void)
{
    static const uint32_t dims[] = {1, 7, 63, 64, 65, 100, 256, 300};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        enum { ROWS = 300, K = 25 };
        uint32_t dim = dims[i], n[2] = {0, 0};
        float *rows = mem_alloc_array(ROWS * dim, sizeof *rows), *query = mem_alloc_array(dim,
                sizeof *query);
        fill(rows, ROWS * dim);
        fill(query, dim);
        dense *d[2] = {NULL, NULL};
        dense_hit hits[2][K];
        CHECK_OK(dense_open_path(&d[0], dim, NULL, DENSE_PORTABLE));
        if (!is_ok(dense_open_path(&d[1], dim, NULL, DENSE_AVX2))) CHECK_OK(dense_open(&d[1], dim));
        for (int p = 0; p < 2; p++) {
            CHECK_OK(dense_add(d[p], ids[0], ROWS, rows));
            CHECK_OK(dense_search(d[p], query, K, hits[p], &n[p]));
            CHECK(n[p] == K);
        }
        for (uint32_t h = 0; h < K; h++) {
            CHECK(hits[0][h].row == hits[1][h].row && hits[0][h].score == hits[1][h].score);
            CHECK(dense_dot(d[0], hits[0][h].row, query) == hits[0][h].score);
            double sum = 0;
            for (uint32_t j = 0; j < dim; j++)
                sum += (double)rows[hits[0][h].row * dim + j] * (double)query[j];
            CHECK(fabs(sum - (double)hits[0][h].score) <= 1e-5 * (1 + fabs(sum)));
            CHECK(h == 0 || hits[0][h - 1].score >= hits[0][h].score);
        }
        uint32_t better = 0;                      /* nothing better was left out */
        for (uint32_t r = 0; r < ROWS; r++)
            better += dense_dot(d[0], r, query) > hits[0][K - 1].score;
        CHECK(better <= K - 1);
        dense_close(&d[0]);
        dense_close(&d[1]);
        mem_free(rows);
        mem_free(query);
    }
}

static void ties_go_to_the_lower_key(void)
{
    dense *d = NULL;
    float same[DIM];
    fill(same, DIM);
    NEED(is_ok(dense_open(&d, DIM)));
    for (size_t i = DOCS; i-- > 0;) CHECK_OK(dense_add(d, ids[i], 1, same));
    dense_hit hits[5];
    uint32_t n;
    CHECK_OK(dense_search(d, same, 5, hits, &n));
    CHECK(n == 5);
    for (uint32_t i = 0; i < n; i++) CHECK(hits[i].row == i);
    dense_close(&d);
}

static void small_and_empty(void)
{
    dense *d = NULL;
    dense_hit hits[10];
    uint32_t n = 9;
    NEED(is_ok(dense_open(&d, DIM)));
    CHECK_OK(dense_search(d, vectors[0], 10, hits, &n));
    CHECK(n == 0);
    CHECK_OK(dense_add(d, ids[0], 0, NULL));
    CHECK_OK(dense_add(d, ids[1], 2, vectors[1]));
    CHECK_OK(dense_search(d, vectors[0], 10, hits, &n));
    CHECK(n == 2 && dense_bytes(d) > 0);
    dense_close(&d);
}

int main(void)
{
    make_documents();
    RUN(history_leaves_no_trace);
    RUN(removed_rows_are_zeroed);
    RUN(many_at_once_equal_one_by_one);
    RUN(paths_agree_bit_for_bit);
    RUN(ties_go_to_the_lower_key);
    RUN(small_and_empty);
    return DONE();
}
