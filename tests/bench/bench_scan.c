/* Flat search against the memory: 100,000 vectors of 256 dimensions, one thread.
 *
 *   bench_scan [rows] [dimensions] [rounds] [csv-file]
 *
 * Measures, interleaved in each round so that all see the same machine: the widest plain read of
 * the same array (each byte loaded once and folded by one exclusive-or), Lethe's index, and
 * FAISS's own IndexFlatIP. Prints medians of the thread's processor time, GB/s and the share of
 * the plain read. Between any two measurements nothing but the array itself is touched; it is
 * larger than the caches. On a machine that others use, memory bandwidth comes and goes: repeat,
 * or take more rounds. */
#include <immintrin.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dense_bench.h"

#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum { ROUNDS_MAX = 1001, K = 10, PATHS = 4 };

static const char *const PATH_NAMES[PATHS] = {"lethe", "lethe portable", "lethe avx2",
                                              "faiss IndexFlatIP"};
static volatile uint64_t sink;

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);      /* others' time slices do not count */
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

__attribute__((target("avx512f"))) static uint64_t read_avx512(const uint8_t *p, size_t size)
{
    __m512i a[8];
    UNROLL
    for (int j = 0; j < 8; j++) a[j] = _mm512_setzero_si512();
    for (size_t i = 0; i + 512 <= size; i += 512)
        UNROLL
        for (int j = 0; j < 8; j++)
            a[j] = _mm512_xor_si512(a[j], _mm512_loadu_si512(p + i + 64 * (size_t)j));
    UNROLL
    for (int j = 1; j < 8; j++) a[0] = _mm512_xor_si512(a[0], a[j]);
    uint64_t out[8];
    memcpy(out, &a[0], sizeof out);
    return out[0] ^ out[1] ^ out[7];
}

__attribute__((target("avx2"))) static uint64_t read_avx2(const uint8_t *p, size_t size)
{
    __m256i a[8];
    UNROLL
    for (int j = 0; j < 8; j++) a[j] = _mm256_setzero_si256();
    for (size_t i = 0; i + 256 <= size; i += 256)
        UNROLL
        for (int j = 0; j < 8; j++)
            a[j] = _mm256_xor_si256(a[j],
                                    _mm256_loadu_si256((const __m256i *)(p + i + 32 * (size_t)j)));
    UNROLL
    for (int j = 1; j < 8; j++) a[0] = _mm256_xor_si256(a[0], a[j]);
    uint64_t out[4];
    memcpy(out, &a[0], sizeof out);
    return out[0] ^ out[1] ^ out[3];
}

static uint64_t read_words(const uint8_t *p, size_t size)
{
    uint64_t x = 0, w;
    for (size_t i = 0; i + 8 <= size; i += 8) {
        memcpy(&w, p + i, 8);
        x ^= w;
    }
    return x;
}

typedef uint64_t read_fn(const uint8_t *p, size_t size);
enum { READS = 3 };
static read_fn *const READ_FNS[READS] = {read_avx512, read_avx2, read_words};
static const char *const READ_NAMES[READS] = {"read avx512", "read avx2", "read u64"};

static bool read_possible(int i)
{
    if (i == 0) return __builtin_cpu_supports("avx512f");
    return i == 1 ? __builtin_cpu_supports("avx2") : true;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return v[n / 2];
}

/* Gaussian-free but dense: values of a small generator in [-1, 1), the same on each run. */
static void fill(float *v, size_t n)
{
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13; x ^= x >> 7; x ^= x << 17;
        v[i] = (float)(int32_t)(x >> 32) / 2147483648.0f;
    }
}

static void print_row(FILE *csv, const char *what, double ms, size_t size, double read_ms)
{
    double gb_s = (double)size / ms / 1e6, share = read_ms / ms;
    printf("%-22s %9.3f ms %8.2f GB/s %8.1f %%\n", what, ms, gb_s, share * 100);
    if (csv) fprintf(csv, "%s,%.4f,%.3f,%.4f\n", what, ms, gb_s, share);
}

static void report(FILE *csv, double reads[READS][ROUNDS_MAX], double searches[PATHS][ROUNDS_MAX],
                   dense *const index[PATHS], int rounds, size_t size)
{
    double read_ms = INFINITY, m[READS];
    for (int i = 0; i < READS; i++) {
        m[i] = read_possible(i) ? median(reads[i], (size_t)rounds) : INFINITY;
        if (m[i] < read_ms) read_ms = m[i];
    }
    printf("%-22s %12s %13s %10s\n", "", "median", "", "of read");
    if (csv) fprintf(csv, "what,median_ms,gb_per_s,share_of_read\n");
    for (int i = 0; i < READS; i++)
        if (read_possible(i)) print_row(csv, READ_NAMES[i], m[i], size, read_ms);
    double lethe_ms = 0;
    for (int p = 0; p < PATHS; p++) {
        if (index[p] == NULL) continue;
        double ms = median(searches[p], (size_t)rounds);
        if (p == 0) lethe_ms = ms;
        print_row(csv, PATH_NAMES[p], ms, size, read_ms);
    }
    printf("goal: lethe at least 70 %% of the widest plain read: %s\n",
           read_ms / lethe_ms >= 0.7 ? "met" : "missed");
}

int main(int argc, char **argv)
{
    uint32_t rows = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 100000;
    uint32_t dim = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 256;
    int rounds = argc > 3 ? atoi(argv[3]) : 61;
    FILE *csv = argc > 4 ? fopen(argv[4], "w") : NULL;
    if (rows == 0 || dim == 0 || rounds < 1 || rounds > ROUNDS_MAX) return 2;
    size_t count = (size_t)rows * dim, size = count * sizeof(float);
    float *vectors = mem_alloc_array(count, sizeof *vectors), *query = mem_alloc_array(dim,
            sizeof *query);
    fill(vectors, count);
    memcpy(query, vectors, dim * sizeof *query);
    dense *index[PATHS] = {NULL};
    id128 document = {{1}};
    for (int p = 0; p < PATHS; p++) {
        if (!is_ok(dense_open_path(&index[p], dim, NULL, (dense_path)p))) continue;
        if (!is_ok(dense_add(index[p], document, rows, vectors))) return 1;
    }
    mem_free(vectors);
    static double reads[READS][ROUNDS_MAX], searches[PATHS][ROUNDS_MAX];
    dense_hit hits[K];
    uint32_t found;
    for (int round = -1; round < rounds; round++) {            /* round -1 warms up */
        int at = round < 0 ? 0 : round;
        const uint8_t *array = (const uint8_t *)dense_vector(index[0], 0);
        for (int i = 0; i < READS; i++) {
            if (!read_possible(i)) continue;
            double t = now_ms();
            sink += READ_FNS[i](array, size);
            reads[i][at] = now_ms() - t;
        }
        for (int p = 0; p < PATHS; p++) {
            if (index[p] == NULL) continue;
            double t = now_ms();
            if (!is_ok(dense_search(index[p], query, K, hits, &found))) return 1;
            searches[p][at] = now_ms() - t;
        }
    }
    printf("%u x %u f32 (%.1f MB), %d rounds, one thread, best %d\n", rows, dim, (double)size / 1e6,
           rounds, K);
    report(csv, reads, searches, index, rounds, size);
    for (int p = 0; p < PATHS; p++) dense_close(&index[p]);
    if (csv) fclose(csv);
    mem_free(query);
    return 0;
}
