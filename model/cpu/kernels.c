/* Three builds of the same arithmetic (see kernels.h) and the choice among them at run time.
 *
 * The matrix product keeps a tile of rows x 32 outputs in registers and walks k once: AVX-512 8
 * rows (16 accumulators), AVX2 2 rows (8 accumulators), which hides the multiply-add's latency. A
 * row's chain is the same in a tile of any height. */
#include "elementwise.h"
#include "ssd.h"

#include "mutant.h"

#include <stdlib.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")))
#endif

typedef void (*tile_fn)(const float *w, size_t in, const float *x, size_t x_stride, float *out);

float kernel_exp(float x) { return exp_body(x); }

/* Puts one row of a finished tile where it belongs. */
BODY void store_row(const matrix *m, uint32_t panel, const float *tile, float *y, bool add,
                    bool exact_width)
{
    size_t first = (size_t)panel * PANEL, n = PANEL;
    if (exact_width && first + PANEL > m->out) n = m->out - first;
    float *restrict to = y + first;
    float row[PANEL];
    for (size_t i = 0; i < PANEL; i++) row[i] = tile[i];
    if (m->bias != NULL)
        for (size_t i = 0; i < PANEL; i++) row[i] += m->bias[first + i];
    if (add)
        for (size_t i = 0; i < n; i++) to[i] += row[i];
    else
        for (size_t i = 0; i < n; i++) to[i] = row[i];
}

/* Mutant: sums downwards when there is more than one row. */
static void tile_downwards(const float *w, size_t in, const float *x, float *out)
{
    memset(out, 0, PANEL * sizeof(float));
    for (size_t k = in; k-- > 0;)
        for (size_t i = 0; i < PANEL; i++) out[i] = fmaf(x[k], w[k * PANEL + i], out[i]);
}

/* tile[log2 h] computes h = 1, 2, 4, 8 rows into (h,32); the heights up to tallest exist. */
BODY void matmul_body(const matrix *m, uint32_t p0, uint32_t p1, const matmul_io *io,
                      const tile_fn tile[4], size_t tallest)
{
    float out[8 * PANEL] __attribute__((aligned(64)));
    for (uint32_t p = p0; p < p1; p++) {
        const float *w = m->w + (size_t)p * m->in * PANEL;
        size_t height = tallest;
        for (size_t r = 0; r < io->rows; r += height) {
            while (height > io->rows - r) height /= 2;
            const float *x = io->x + r * io->x_stride;
            tile[height == 8 ? 3 : height / 2](w, m->in, x, io->x_stride, out);
            for (size_t i = 0; i < height; i++) {
                if (MUTANT(reduction_depends_on_batch) && io->rows > 1)
                    tile_downwards(w, m->in, x + i * io->x_stride, out + i * PANEL);
                store_row(m, p, out + i * PANEL, io->y + (r + i) * io->y_stride, io->add,
                          io->exact_width);
            }
        }
    }
}

/* ---- portable -------------------------------------------------------------------------------- */

static void tile_portable(const float *w, size_t in, const float *x, size_t x_stride, float *out)
{
    (void)x_stride;
    memset(out, 0, PANEL * sizeof(float));
    for (size_t k = 0; k < in; k++)
        for (size_t i = 0; i < PANEL; i++)
            out[i] = __builtin_fmaf(x[k], w[k * PANEL + i], out[i]);
}

static void matmul_portable(const matrix *m, uint32_t p0, uint32_t p1, const matmul_io *io)
{
    static const tile_fn tiles[4] = {tile_portable, NULL, NULL, NULL};
    matmul_body(m, p0, p1, io, tiles, 1);
}

static void conv_portable(const mixer_io *io) { conv_body(io); }
static void scan_portable(const mixer_io *io) { scan_body(io); }
static void ssd_portable(const ssd_io *io) { ssd_body(io); }
static void rms_norm_portable(const float *x, const float *weight, size_t n, float eps, float *y)
{
    rms_norm_body(x, weight, n, eps, y);
}

static const kernels portable = {"portable", matmul_portable, conv_portable, scan_portable,
                                 rms_norm_portable, ssd_portable};

#if defined(__x86_64__)
/* ---- AVX2 ------------------------------------------------------------------------------------ */

AVX2 BODY void tile_avx2(const float *w, size_t in, const float *x, size_t x_stride, float *out,
                         const int rows)
{
    __m256 acc[2][4];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 4; v++) acc[r][v] = _mm256_setzero_ps();
    for (size_t k = 0; k < in; k++) {
        __m256 wk[4];
        for (int v = 0; v < 4; v++) wk[v] = _mm256_loadu_ps(w + k * PANEL + v * 8);
        for (int r = 0; r < rows; r++) {
            __m256 xk = _mm256_broadcast_ss(x + (size_t)r * x_stride + k);
            for (int v = 0; v < 4; v++) acc[r][v] = _mm256_fmadd_ps(xk, wk[v], acc[r][v]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 4; v++) _mm256_storeu_ps(out + r * PANEL + v * 8, acc[r][v]);
}

AVX2 static void tile_avx2_1(const float *w, size_t in, const float *x, size_t xs, float *out)
{
    tile_avx2(w, in, x, xs, out, 1);
}
AVX2 static void tile_avx2_2(const float *w, size_t in, const float *x, size_t xs, float *out)
{
    tile_avx2(w, in, x, xs, out, 2);
}

AVX2 static void matmul_avx2(const matrix *m, uint32_t p0, uint32_t p1, const matmul_io *io)
{
    static const tile_fn tiles[4] = {tile_avx2_1, tile_avx2_2, NULL, NULL};
    matmul_body(m, p0, p1, io, tiles, 2);
}

AVX2 static void conv_avx2(const mixer_io *io) { conv_body(io); }
AVX2 static void scan_avx2(const mixer_io *io) { scan_body(io); }
AVX2 static void ssd_avx2(const ssd_io *io) { ssd_body(io); }
AVX2 static void rms_norm_avx2(const float *x, const float *weight, size_t n, float eps, float *y)
{
    rms_norm_body(x, weight, n, eps, y);
}

static const kernels avx2 = {"avx2", matmul_avx2, conv_avx2, scan_avx2, rms_norm_avx2, ssd_avx2};

/* ---- AVX-512 --------------------------------------------------------------------------------- */

AVX512 BODY void tile_avx512(const float *w, size_t in, const float *x, size_t x_stride, float *out,
                             const int rows)
{
    __m512 acc[8][2];
    _Pragma("GCC unroll 8")
    for (int r = 0; r < rows; r++) acc[r][0] = acc[r][1] = _mm512_setzero_ps();
    for (size_t k = 0; k < in; k++) {
        __m512 w0 = _mm512_loadu_ps(w + k * PANEL), w1 = _mm512_loadu_ps(w + k * PANEL + 16);
        _Pragma("GCC unroll 8")
        for (int r = 0; r < rows; r++) {
            __m512 xk = _mm512_set1_ps(x[(size_t)r * x_stride + k]);
            acc[r][0] = _mm512_fmadd_ps(xk, w0, acc[r][0]);
            acc[r][1] = _mm512_fmadd_ps(xk, w1, acc[r][1]);
        }
    }
    _Pragma("GCC unroll 8")
    for (int r = 0; r < rows; r++) {
        _mm512_storeu_ps(out + r * PANEL, acc[r][0]);
        _mm512_storeu_ps(out + r * PANEL + 16, acc[r][1]);
    }
}

#define TILE_AVX512(rows) \
    AVX512 static void tile_avx512_##rows(const float *w, size_t in, const float *x, size_t xs, \
                                          float *out) \
    { \
        tile_avx512(w, in, x, xs, out, rows); \
    }
TILE_AVX512(1)
TILE_AVX512(2)
TILE_AVX512(4)
TILE_AVX512(8)

AVX512 static void matmul_avx512(const matrix *m, uint32_t p0, uint32_t p1, const matmul_io *io)
{
    static const tile_fn tiles[4] = {tile_avx512_1, tile_avx512_2, tile_avx512_4, tile_avx512_8};
    matmul_body(m, p0, p1, io, tiles, 8);
}

AVX512 static void conv_avx512(const mixer_io *io) { conv_body(io); }
AVX512 static void scan_avx512(const mixer_io *io) { scan_body(io); }
AVX512 static void ssd_avx512(const ssd_io *io) { ssd_body(io); }
AVX512 static void rms_norm_avx512(const float *x, const float *weight, size_t n, float eps,
                                   float *y)
{
    rms_norm_body(x, weight, n, eps, y);
}

static const kernels avx512 = {"avx512", matmul_avx512, conv_avx512, scan_avx512, rms_norm_avx512,
                               ssd_avx512};
#endif

/* ---- choice ---------------------------------------------------------------------------------- */

size_t kernels_all(const kernels *out[3])
{
    size_t n = 0;
    out[n++] = &portable;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        out[n++] = &avx2;
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
            out[n++] = &avx512;
    }
#endif
    return n;
}

const kernels *kernels_pick(void)
{
    const kernels *all[3];
    size_t n = kernels_all(all);
    const char *want = getenv("LETHE_KERNEL");
    for (size_t i = 0; want != NULL && i < n; i++)
        if (strcmp(all[i]->name, want) == 0) return all[i];
    return all[n - 1];
}
