#include "lethe_bench_limits.h"

#include "bench.h"
#include "model/pool.h"

#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f,avx2,fma")))
#define AVX512BF16 __attribute__((target("avx512f,avx512bw,avx512bf16,avx2,fma")))
#endif

enum {
    BLOCK_BYTES = 1024,                /* what a round of the widest reader takes; slices are multiples */
    READ_PASSES = 2, PEAK_PASSES = 4, PEAK_ROUNDS = 1000000, PEAK_CHAINS = 12
};

/* All bytes of p combined, so that no load can be left out. n: a multiple of BLOCK_BYTES. */
typedef uint64_t (*read_fn)(const uint8_t *p, size_t n);
/* PEAK_ROUNDS rounds of PEAK_CHAINS independent multiply-adds; the sum of what they come to. */
typedef float (*peak_fn)(void);

struct limits {
    pool *pool;
    uint8_t *buffer;
    size_t size;
    read_fn read;
    peak_fn peak;                      /* NULL: none */
    uint32_t lanes;                    /* of one multiply-add */
    const char *instruction;
    uint64_t read_sum[4 * POOL_THREADS_MAX];
    float peak_sum[4 * POOL_THREADS_MAX];
    uint32_t parts;                    /* of the latest piece of work */
};

double bench_now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- one thread's work ------------------------------------------------------------------------------ */

/* Without wider instructions: whatever the compiler takes for 16 bytes. */
typedef uint64_t v16 __attribute__((vector_size(16)));

static uint64_t read_portable(const uint8_t *p, size_t n)
{
    const v16 *v = (const v16 *)(const void *)p;
    v16 sum[8] = {{0}};
    for (size_t i = 0; i < n / sizeof *v; i += 8)
        for (size_t j = 0; j < 8; j++) sum[j] ^= v[i + j];
    uint64_t all = 0;
    for (size_t j = 0; j < 8; j++) all ^= sum[j][0] ^ sum[j][1];
    return all;
}

#if defined(__x86_64__)
AVX2 static uint64_t read_avx2(const uint8_t *p, size_t n)
{
    const __m256i *v = (const __m256i *)(const void *)p;
    __m256i sum[8];
    for (size_t j = 0; j < 8; j++) sum[j] = _mm256_setzero_si256();
    for (size_t i = 0; i < n / sizeof *v; i += 8)
        for (size_t j = 0; j < 8; j++) sum[j] = _mm256_xor_si256(sum[j], _mm256_load_si256(v + i + j));
    for (size_t j = 1; j < 8; j++) sum[0] = _mm256_xor_si256(sum[0], sum[j]);
    uint64_t out[4];
    _mm256_storeu_si256((__m256i *)(void *)out, sum[0]);
    return out[0] ^ out[1] ^ out[2] ^ out[3];
}

AVX512 static uint64_t read_avx512(const uint8_t *p, size_t n)
{
    const __m512i *v = (const __m512i *)(const void *)p;
    __m512i sum[8];
    for (size_t j = 0; j < 8; j++) sum[j] = _mm512_setzero_si512();
    for (size_t i = 0; i < n / sizeof *v; i += 8)
        for (size_t j = 0; j < 8; j++) sum[j] = _mm512_xor_si512(sum[j], _mm512_load_si512(v + i + j));
    for (size_t j = 1; j < 8; j++) sum[0] = _mm512_xor_si512(sum[0], sum[j]);
    uint64_t out[8], all = 0;
    _mm512_storeu_si512(out, sum[0]);
    for (size_t j = 0; j < 8; j++) all ^= out[j];
    return all;
}

/* Twelve chains: two units of four cycles' latency need eight. The values tend to 1, without denormals. */
AVX2 static float peak_avx2(void)
{
    __m256 factor = _mm256_set1_ps(0.5f), term = _mm256_set1_ps(0.5f), chain[PEAK_CHAINS];
    for (int j = 0; j < PEAK_CHAINS; j++) chain[j] = _mm256_set1_ps((float)j);
    for (int i = 0; i < PEAK_ROUNDS; i++)
        for (int j = 0; j < PEAK_CHAINS; j++) chain[j] = _mm256_fmadd_ps(chain[j], factor, term);
    for (int j = 1; j < PEAK_CHAINS; j++) chain[0] = _mm256_add_ps(chain[0], chain[j]);
    float out[8];
    _mm256_storeu_ps(out, chain[0]);
    return out[0] + out[7];
}

AVX512 static float peak_avx512(void)
{
    __m512 factor = _mm512_set1_ps(0.5f), term = _mm512_set1_ps(0.5f), chain[PEAK_CHAINS];
    for (int j = 0; j < PEAK_CHAINS; j++) chain[j] = _mm512_set1_ps((float)j);
    for (int i = 0; i < PEAK_ROUNDS; i++)
        for (int j = 0; j < PEAK_CHAINS; j++) chain[j] = _mm512_fmadd_ps(chain[j], factor, term);
    for (int j = 1; j < PEAK_CHAINS; j++) chain[0] = _mm512_add_ps(chain[0], chain[j]);
    float out[16];
    _mm512_storeu_ps(out, chain[0]);
    return out[0] + out[15];
}

AVX512BF16 static float peak_avx512bf16(void)
{
    __m512bh half = (__m512bh)_mm512_set1_epi16(0x3f00);
    __m512 chain[PEAK_CHAINS];
    for (int j = 0; j < PEAK_CHAINS; j++) chain[j] = _mm512_set1_ps((float)j);
    for (int i = 0; i < PEAK_ROUNDS; i++)
        for (int j = 0; j < PEAK_CHAINS; j++) chain[j] = _mm512_dpbf16_ps(chain[j], half, half);
    for (int j = 1; j < PEAK_CHAINS; j++) chain[0] = _mm512_add_ps(chain[0], chain[j]);
    float out[16];
    _mm512_storeu_ps(out, chain[0]);
    return out[0] + out[15];
}
#endif

/* ---- all threads ------------------------------------------------------------------------------------- */

/* Part 0 counts them for the rest of us; every part has a sum of its own. */
static void read_part(void *ctx, uint32_t part, uint32_t parts)
{
    limits *l = ctx;
    ASSERT(parts <= 4 * POOL_THREADS_MAX);
    size_t blocks = l->size / BLOCK_BYTES;
    size_t first = blocks * part / parts, end = blocks * (part + 1) / parts;
    l->read_sum[part] = l->read(l->buffer + first * BLOCK_BYTES, (end - first) * BLOCK_BYTES);
    if (part == 0) l->parts = parts;
}

static void peak_part(void *ctx, uint32_t part, uint32_t parts)
{
    limits *l = ctx;
    ASSERT(parts <= 4 * POOL_THREADS_MAX);
    l->peak_sum[part] = l->peak();
    if (part == 0) l->parts = parts;
}

double limits_read(limits *l)
{
    double start = bench_now_s();
    for (int i = 0; i < READ_PASSES; i++) pool_run(l->pool, read_part, l);
    return READ_PASSES * (double)l->size / (bench_now_s() - start);
}

double limits_multiply_add(limits *l)
{
    if (l->peak == NULL) return 0;
    double start = bench_now_s();
    for (int i = 0; i < PEAK_PASSES; i++) pool_run(l->pool, peak_part, l);
    double seconds = bench_now_s() - start;
    return 2.0 * l->lanes * PEAK_CHAINS * PEAK_ROUNDS * PEAK_PASSES * l->parts / seconds;
}

const char *limits_instruction(const limits *l) { return l->instruction; }

static void choose(limits *l, const char *kernel)
{
    l->read = read_portable;
    l->instruction = "none";
#if defined(__x86_64__)
    if (strcmp(kernel, "avx512bf16") == 0) {
        l->read = read_avx512;
        l->peak = peak_avx512bf16;
        l->lanes = 32;
        l->instruction = "AVX512-BF16 dot product";
    } else if (strstr(kernel, "avx512") != NULL) {
        l->read = read_avx512;
        l->peak = peak_avx512;
        l->lanes = 16;
        l->instruction = "AVX-512 FMA";
    } else if (strstr(kernel, "avx2") != NULL) {
        l->read = read_avx2;
        l->peak = peak_avx2;
        l->lanes = 8;
        l->instruction = "AVX2 FMA";
    }
#else
    (void)kernel;
#endif
}

static size_t buffer_size(void)
{
    const size_t least = (size_t)256 << 20, most = (size_t)1 << 30;
    long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    size_t size = cache > 0 ? 4 * (size_t)cache : 0;
    return size < least ? least : size > most ? most : size;
}

limits *limits_open(uint32_t threads, const char *kernel)
{
    limits *l = mem_alloc(sizeof *l);
    must(pool_open(&l->pool, threads));
    choose(l, kernel);
    l->size = buffer_size();
    l->buffer = mmap(NULL, l->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (l->buffer == MAP_FAILED) must(fail_errno("no memory to read"));
    madvise(l->buffer, l->size, MADV_HUGEPAGE);            /* fewer misses of the page table's cache, where it can */
    memset(l->buffer, 1, l->size);                         /* untouched pages would all be the one zero page */
    return l;
}

void limits_close(limits **lp)
{
    limits *l = *lp;
    if (l == NULL) return;
    pool_close(&l->pool);
    munmap(l->buffer, l->size);
    mem_free(l);
    *lp = NULL;
}
