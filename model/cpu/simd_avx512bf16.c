/* The kernels with AVX-512 and its bfloat16 products: a step multiplies two inputs by their weights. What multiplies
 * float32 is AVX-512's. */
#define FN(name) CAT(name, avx512bf16)
#define CAT(name, path) name##_##path
#include "simd_avx512.h"
#include "kernels.h"

matmul_fn matmul_avx512;
mixer_fn conv_avx512, scan_avx512;
rms_norm_fn rms_norm_avx512;
ssd_fn ssd_avx512;

INLINE __m512bh bf16_of(vec v) { return (__m512bh)_mm512_castps_si512(v); }
INLINE vec v_step(vec x, vec w, vec sum) { return _mm512_dpbf16_ps(sum, bf16_of(x), bf16_of(w)); }

#include "simd_tile.h"
#include "simd_weights.h"

static void FN(pair)(const float *x, size_t in, float *steps)
{
    uint16_t *to = (uint16_t *)(void *)steps;
    for (size_t k = 0; k < in; k += 32) {
        __m512 v[2];
        for (size_t h = 0; h < 2; h++) {
            size_t at = k + h * WIDTH, left = at < in ? in - at : 0;
            unsigned mask = left >= WIDTH ? 0xffffu : (1u << left) - 1;
            v[h] = _mm512_maskz_loadu_ps((__mmask16)mask, x + at);
        }
        _mm512_storeu_si512(to + k, (__m512i)_mm512_cvtne2ps_pbh(v[1], v[0]));
    }
}

/* ---- weights to pairs ------------------------------------------------------------------------- */

/* Word 8h+j of an input's row holds outputs 16h+j and 16h+8+j (MATRIX_BF16): both inputs of output 16v+i. */
INLINE __m512i plain_index(const int v)
{
    uint16_t at[32];
    for (int i = 0; i < 16; i++) {
        at[2 * i] = (uint16_t)(16 * v + 2 * (i % 8) + i / 8);
        at[2 * i + 1] = at[2 * i] + 32;
    }
    return _mm512_loadu_si512(at);
}

INLINE void plain_pair(const uint8_t *row, const bool both, vec out[VECTORS])
{
    __m512i first = _mm512_loadu_si512(row), second = both ? _mm512_loadu_si512(row + PANEL * 2) : _mm512_setzero_si512();
    for (int v = 0; v < VECTORS; v++)
        out[v] = _mm512_castsi512_ps(_mm512_permutex2var_epi16(first, plain_index(v), second));
}

/* 16 outputs of the first input stand before those of the second. */
INLINE __m512i group_index(void)
{
    uint16_t at[32];
    for (int i = 0; i < 32; i++) at[i] = (uint16_t)(i / 2 + i % 2 * 16);
    return _mm512_loadu_si512(at);
}

INLINE void group_pair(const matrix_type type, const uint8_t *group, size_t k, const bool both, const FN(scales) *s,
                       vec out[VECTORS])
{
    vec w[2][VECTORS];
    FN(group_weights)(type, group, k, 0, s, w[0]);
    if (both) FN(group_weights)(type, group, k + 1, 1, s, w[1]);
    for (int v = 0; v < VECTORS; v++) {
        __m512i halves = (__m512i)_mm512_cvtne2ps_pbh(both ? w[1][v] : v_zero(), w[0][v]);
        out[v] = _mm512_castsi512_ps(_mm512_permutexvar_epi16(group_index(), halves));
    }
}

INLINE size_t group_bytes(const matrix_type type) { return type == MATRIX_Q8 ? Q8_GROUP : Q4_GROUP; }

INLINE void unpack_groups(const matrix_type type, const uint8_t *panel, size_t k0, size_t k1, float *out)
{
    ASSERT(k0 % GROUP == 0);
    for (size_t k = k0; k < k1; k += GROUP) {
        const uint8_t *group = panel + k / GROUP * group_bytes(type);
        size_t count = k1 - k < GROUP ? k1 - k : GROUP;
        FN(scales) s;
        FN(scales_of)(type, group, &s);
        for (size_t i = 0; i < count; i += 2, out += PANEL) {
            vec w[VECTORS];
            group_pair(type, group, i, i + 1 < count, &s, w);
            for (int v = 0; v < VECTORS; v++) v_store(out + v * WIDTH, w[v]);
        }
    }
}

static void FN(unpack)(const matrix *m, uint32_t panel, size_t k0, size_t k1, float *out)
{
    const uint8_t *packed = panel_at(m, panel);
    if (m->type == MATRIX_Q8) unpack_groups(MATRIX_Q8, packed, k0, k1, out);
    if (m->type == MATRIX_Q4) unpack_groups(MATRIX_Q4, packed, k0, k1, out);
    for (size_t k = k0; m->type == MATRIX_BF16 && k < k1; k += 2, out += PANEL) {
        vec w[VECTORS];
        plain_pair(packed + k * PANEL * 2, k + 1 < k1, w);
        for (int v = 0; v < VECTORS; v++) v_store(out + v * WIDTH, w[v]);
    }
}

/* ---- one row ---------------------------------------------------------------------------------- */

INLINE void row_step(const float *x, const vec w[VECTORS], vec sum[VECTORS])
{
    for (int v = 0; v < VECTORS; v++) sum[v] = v_step(v_all(x), w[v], sum[v]);
}

/* Two panels at once, to hide the latency. */
INLINE void row_plain(const matrix *m, uint32_t p, const int panels, const float *x, float *sums)
{
    const uint8_t *at[2] = {panel_at(m, p), panels > 1 ? panel_at(m, p + 1) : NULL};
    vec acc[2][VECTORS], w[VECTORS];
    for (int i = 0; i < panels; i++)
        for (int v = 0; v < VECTORS; v++) acc[i][v] = v_zero();
    size_t k = 0;
    for (; k + 2 <= m->in; k += 2)
        UNROLL
        for (int i = 0; i < panels; i++) {
            plain_pair(at[i] + k * PANEL * 2, true, w);
            row_step(x + k / 2, w, acc[i]);
        }
    for (int i = 0; i < panels && k < m->in; i++) {
        plain_pair(at[i] + k * PANEL * 2, false, w);
        row_step(x + k / 2, w, acc[i]);
    }
    for (int i = 0; i < panels; i++)
        for (int v = 0; v < VECTORS; v++) v_store(sums + i * PANEL + v * WIDTH, acc[i][v]);
}

INLINE void group_products(const matrix_type type, const uint8_t *group, const float *x, size_t count,
                           vec acc[VECTORS])
{
    FN(scales) s;
    vec w[VECTORS];
    FN(scales_of)(type, group, &s);
    size_t k = 0;
    _Pragma("GCC unroll 4")
    for (; k + 2 <= count; k += 2) {
        group_pair(type, group, k, true, &s, w);
        row_step(x + k / 2, w, acc);
    }
    if (k == count) return;
    group_pair(type, group, k, false, &s, w);
    row_step(x + k / 2, w, acc);
}

INLINE void row_groups(const matrix_type type, const matrix *m, uint32_t p, const float *x, float *sums)
{
    const uint8_t *group = panel_at(m, p);
    vec acc[VECTORS];
    for (int v = 0; v < VECTORS; v++) acc[v] = v_zero();
    for (size_t k = 0; k < m->in; k += GROUP, group += group_bytes(type)) {
        /* A constant count unrolls. */
        if (m->in - k >= GROUP) group_products(type, group, x + k / 2, GROUP, acc);
        else group_products(type, group, x + k / 2, m->in - k, acc);
    }
    for (int v = 0; v < VECTORS; v++) v_store(sums + v * WIDTH, acc[v]);
}

static void FN(row)(const matrix *m, uint32_t p, uint32_t count, const float *x, float *sums)
{
    for (uint32_t i = 0; i < count && (m->type == MATRIX_Q8 || m->type == MATRIX_Q4); i++) {
        if (m->type == MATRIX_Q8) row_groups(MATRIX_Q8, m, p + i, x, sums + i * PANEL);
        else row_groups(MATRIX_Q4, m, p + i, x, sums + i * PANEL);
    }
    if (m->type == MATRIX_BF16 && count == 1) row_plain(m, p, 1, x, sums);
    if (m->type == MATRIX_BF16 && count == 2) row_plain(m, p, 2, x, sums);
}

static void FN(matmul)(const matrix *m, uint32_t p0, uint32_t p1, const matmul_io *io)
{
    static const matmul_path PATH = {.tile = FN(tile), .tile_rows = TILE_ROWS, .unpack = FN(unpack), .row = FN(row),
                                     .pair = FN(pair)};
    if (m->type == MATRIX_F32) matmul_avx512(m, p0, p1, io);
    else matmul_body(m, p0, p1, io, &PATH);
}

const kernels FN(kernels) = {"avx512bf16", true, FN(matmul), conv_avx512, scan_avx512, rms_norm_avx512, ssd_avx512};
