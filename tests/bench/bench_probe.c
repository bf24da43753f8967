/* Probing against reading everything: dense search over one asker's chunks, held in parts as the server holds them.
 *
 *   bench_probe [--embedder DIR] [--rows N] [--queries N] [--text FILE [--ask FILE]] [--csv FILE]
 *
 * With --text the vectors are those of a text's chunks, cut and embedded as the server does, and the queries those of
 * the lines of another file (or sentences of the text). Without, they are made up: around the centroids at the
 * distances that text has (cosine 0.75), queries around a row. For growing numbers of rows, and 5 to 100 percent of
 * them: medians of the thread's processor time over the queries, flat and probing in turn, what share of the rows is
 * read, how many of the ten best are found, and what adding a row costs, which is mostly finding its list. Exits with 1
 * where all lists find anything else than the flat search. */
#include <math.h>
#include <string.h>
#include <time.h>

#include "bench.h"
#include "centroids.h"
#include "chunker.h"
#include "embedder.h"

enum { PART_ROWS = 6144, POOL = 200, BEST = 10, QUERIES_MAX = 1000, CHOICES = 6, SIZES_MAX = 16 };
static const uint32_t CHOICE[CHOICES] = {5, 10, 15, 20, 30, 100};         /* percent */

typedef struct {
    const char *dir, *text, *ask, *csv;
    uint32_t rows, queries;
    embedder *e;
    dense *centroids;
    uint32_t dimensions;
    float *vectors, *asked;        /* (rows, dimensions), (queries, dimensions) */
    double list_us;                /* to give one row its list */
} bench;

typedef struct { uint64_t row; float score; } found;
typedef struct { dense **parts; uint32_t count, rows; } index_of;

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return v[n / 2];
}

/* ---- vectors --------------------------------------------------------------------------------- */

static float normal(uint64_t *seed)
{
    float u = ((float)(random_next(seed) >> 40) + 1) / 16777217.0f, v = (float)(random_next(seed) >> 40) / 16777216.0f;
    return sqrtf(-2 * logf(u)) * cosf(6.2831853f * v);
}

/* at, moved by about so much in a random direction, of length 1. */
static void around(const float *at, float far, uint32_t dimensions, uint64_t *seed, float *out)
{
    double square = 0;
    for (uint32_t d = 0; d < dimensions; d++) {
        out[d] = at[d] + far / sqrtf((float)dimensions) * normal(seed);
        square += (double)out[d] * (double)out[d];
    }
    for (uint32_t d = 0; d < dimensions; d++) out[d] *= (float)(1 / sqrt(square));
}

static void make_up(bench *b)
{
    uint64_t seed = 1;
    uint32_t lists = dense_rows(b->centroids);
    b->vectors = mem_alloc_array((size_t)b->rows * b->dimensions, sizeof *b->vectors);
    for (size_t i = 0; i < b->rows; i++)
        around(dense_vector(b->centroids, (uint32_t)(random_next(&seed) % lists)), 0.88f, b->dimensions, &seed,
               b->vectors + i * b->dimensions);
    for (size_t i = 0; i < b->queries; i++)
        around(b->vectors + random_next(&seed) % b->rows * b->dimensions, 0.8f, b->dimensions, &seed,
               b->asked + i * b->dimensions);
}

static void embed_lines(bench *b, bytes text)
{
    uint32_t n = 0;
    for (size_t at = 0, end; at < text.size && n < b->queries; at = end + 1) {
        for (end = at; end < text.size && text.data[end] != '\n';) end++;
        n += embedder_embed(b->e, bytes_of(text.data + at, end - at), b->asked + (size_t)n * b->dimensions);
    }
    b->queries = n;
}

static void embed_sentences(bench *b, bytes text)
{
    uint32_t n = 0;
    for (size_t at = 0; at < text.size && n < b->queries; at += text.size / b->queries) {
        while (at < text.size && (text.data[at] & 0xC0) == 0x80) at++;
        size_t start = sentence_end(text, at, 4096);
        if (start == text.size) break;
        n += embedder_embed(b->e, bytes_of(text.data + start, sentence_end(text, start, 4096) - start),
                            b->asked + (size_t)n * b->dimensions);
    }
    b->queries = n;
}

static void read_text(bench *b)
{
    buf text, ask;
    size_t *ends, start = 0;
    uint32_t count;
    buf_init(&text, (size_t)1 << 30);
    buf_init(&ask, (size_t)1 << 30);
    must(file_read(b->text, (size_t)1 << 30, &text));
    chunker_cut(buf_bytes(&text), CHUNK_TARGET_DEFAULT, &ends, &count);
    if (count < b->rows) b->rows = count;
    b->vectors = mem_alloc_array((size_t)b->rows * b->dimensions, sizeof *b->vectors);
    for (uint32_t i = 0; i < b->rows; start = ends[i++])
        (void)embedder_embed(b->e, bytes_of(text.data + start, ends[i] - start), b->vectors + (size_t)i * b->dimensions);
    if (b->ask == NULL) {
        embed_sentences(b, buf_bytes(&text));
    } else {
        must(file_read(b->ask, (size_t)1 << 30, &ask));
        embed_lines(b, buf_bytes(&ask));
    }
    buf_free(&text);
    buf_free(&ask);
    mem_free(ends);
}

/* ---- the index ------------------------------------------------------------------------------- */

static void index_open(bench *b, uint32_t rows, index_of *x)
{
    double start = now_us();
    *x = (index_of){.rows = rows, .count = (rows + PART_ROWS - 1) / PART_ROWS};
    x->parts = mem_alloc_array(x->count, sizeof *x->parts);
    for (uint32_t p = 0; p < x->count; p++) {
        uint32_t first = p * PART_ROWS, n = rows - first < PART_ROWS ? rows - first : PART_ROWS;
        must(dense_open_listed(&x->parts[p], b->centroids));
        must(dense_add(x->parts[p], (id128){{1}}, n, b->vectors + (size_t)first * b->dimensions));
    }
    b->list_us = (now_us() - start) / rows;
}

static void index_close(index_of *x)
{
    for (uint32_t p = 0; p < x->count; p++) dense_close(&x->parts[p]);
    mem_free(x->parts);
}

static int best_first(const void *a_, const void *b_)
{
    const found *a = a_, *b = b_;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

static result choose(const bench *b, const float *query, const uint64_t *sizes, uint32_t rows, uint32_t percent,
                     bool *chosen)
{
    uint64_t least = ((uint64_t)rows * percent + 99) / 100;
    return centroids_choose(b->centroids, query, sizes, least > POOL ? least : POOL, chosen);
}

/* As the server's dense_pool (search.c); percent 0: flat. Returns how many, best first; *read: the rows that were. */
static uint32_t search(const bench *b, const index_of *x, const float *query, uint32_t percent, found *out,
                       uint64_t *read)
{
    static dense_hit hits[POOL];
    uint64_t sizes[DENSE_LISTS_MAX] = {0};
    bool chosen[DENSE_LISTS_MAX];
    uint32_t count = 0, n;
    float floor = -INFINITY;
    for (uint32_t p = 0; percent > 0 && p < x->count; p++) dense_count_lists(x->parts[p], sizes);
    if (percent > 0) must(choose(b, query, sizes, x->rows, percent, chosen));
    *read = percent > 0 ? 0 : x->rows;
    for (uint32_t i = 0; percent > 0 && i < DENSE_LISTS_MAX; i++) *read += chosen[i] ? sizes[i] : 0;
    for (uint32_t p = 0; p < x->count; p++) {
        must(dense_search_some(x->parts[p], query, percent > 0 ? chosen : NULL, floor, POOL, hits, &n));
        for (uint32_t i = 0; i < n; i++)
            out[count++] = (found){(uint64_t)p * PART_ROWS + hits[i].row, hits[i].score};
        if (count < 2 * POOL) continue;
        qsort(out, count, sizeof *out, best_first);
        count = POOL;
        floor = out[count - 1].score;
    }
    qsort(out, count, sizeof *out, best_first);
    return count < POOL ? count : POOL;
}

static uint32_t in_common(const found *a, const found *b, uint32_t n)
{
    uint32_t common = 0;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++) common += a[i].row == b[j].row;
    return common;
}

/* One number of rows. */
static bool measure(bench *b, uint32_t rows, FILE *csv)
{
    static double flat_us[QUERIES_MAX], us[CHOICES][QUERIES_MAX];
    static found flat[6 * POOL], probed[6 * POOL];
    uint64_t read[CHOICES] = {0}, common[CHOICES] = {0}, one;
    bool same = true;
    index_of x;
    index_open(b, rows, &x);
    for (uint32_t q = 0; q < b->queries; q++) {
        const float *query = b->asked + (size_t)q * b->dimensions;
        double start = now_us();
        uint32_t n = search(b, &x, query, 0, flat, &one);
        flat_us[q] = now_us() - start;
        for (int c = 0; c < CHOICES; c++) {
            start = now_us();
            uint32_t m = search(b, &x, query, CHOICE[c], probed, &one);
            us[c][q] = now_us() - start;
            read[c] += one;
            common[c] += in_common(flat, probed, BEST < m ? BEST : m);
            for (uint32_t i = 0; CHOICE[c] == 100 && i < n; i++)
                same = same && m == n && flat[i].row == probed[i].row && flat[i].score == probed[i].score;
        }
    }
    index_close(&x);
    double all = median(flat_us, b->queries);
    printf("%u rows: flat %.0f us a search; %.1f us to add a row\n", rows, all, b->list_us);
    for (int c = 0; c < CHOICES; c++) {
        double part = median(us[c], b->queries), recall = (double)common[c] / b->queries / BEST;
        double share = (double)read[c] / b->queries / rows;
        printf("  %3u percent %8.0f us, %5.2f times as fast, %5.1f %% of the rows, recall@%d %.4f\n", CHOICE[c], part,
               all / part, share * 100, BEST, recall);
        if (csv) fprintf(csv, "%u,%u,%.1f,%.1f,%.4f,%.4f\n", rows, CHOICE[c], all, part, share, recall);
    }
    return same;
}

static bool parse(int argc, char **argv, bench *b)
{
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (value == NULL) return false;
        else if (strcmp(name, "--embedder") == 0) b->dir = value;
        else if (strcmp(name, "--text") == 0) b->text = value;
        else if (strcmp(name, "--ask") == 0) b->ask = value;
        else if (strcmp(name, "--csv") == 0) b->csv = value;
        else if (strcmp(name, "--rows") == 0) b->rows = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(name, "--queries") == 0) b->queries = (uint32_t)strtoul(value, NULL, 10);
        else return false;
    }
    return b->rows >= 1024 && b->queries > 0 && b->queries <= QUERIES_MAX;
}

int main(int argc, char **argv)
{
    bench b = {.dir = "model/bundled/embedder", .rows = 200000, .queries = 60};
    if (!parse(argc, argv, &b)) {
        fprintf(stderr, "usage: bench_probe [--embedder DIR] [--rows N] [--queries N] [--text FILE [--ask FILE]] "
                "[--csv FILE]\n");
        return 2;
    }
    must(embedder_open(&b.e, b.dir));
    b.dimensions = embedder_dimensions(b.e);
    must(centroids_open(&b.centroids, b.dir, b.dimensions));
    if (b.centroids == NULL) must(fail(E_NOT_FOUND, "the embedder has no centroids"));
    b.asked = mem_alloc_array((size_t)b.queries * b.dimensions, sizeof *b.asked);
    if (b.text) read_text(&b);
    else make_up(&b);
    FILE *csv = b.csv ? fopen(b.csv, "w") : NULL;
    if (csv) fprintf(csv, "rows,percent,flat_us,probe_us,share_read,recall\n");
    bool same = true;
    uint32_t sizes[SIZES_MAX], count = 0;
    for (uint32_t rows = b.rows; rows >= 1024 && count < SIZES_MAX; rows /= 2) sizes[count++] = rows;
    while (count > 0) same = measure(&b, sizes[--count], csv) && same;
    printf("all lists find what the flat search finds, bit for bit: %s\n", same ? "yes" : "NO");
    if (csv) fclose(csv);
    mem_free(b.vectors);
    mem_free(b.asked);
    dense_close(&b.centroids);
    embedder_close(&b.e);
    return same ? 0 : 1;
}
