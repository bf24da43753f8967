/* Tiles, unpacking and the one-row product over vectors of WIDTH floats. Included once for each instruction set, which
 * defines before it, besides the name FN(x) of a function:
 *   vec, WIDTH, TILE_ROWS           the vector, its floats, rows of the tallest tile
 *   ROW_PANELS                      1 or 2: quantised panels whose sums and scales fit the registers
 *   v_zero, v_load, v_store, v_all(x), v_fma(a,b,c) = a b + c
 *   v_bf16(row, v)                  outputs [v WIDTH, ...) of one input's bfloat16 words
 *   v_q8(bytes, v)                  the same of 8-bit ones, as floats, without the scale
 *   words, v_words(p, parity)       a pair's 4-bit words, those of the second input moved down
 *   v_q4(words, v), v_q4_unit(v)    outputs [v WIDTH, ...) of them as floats, times a power of two, and what undoes it
 *   v_halves(p)                     WIDTH f16 as floats
 * Vector lanes hold different outputs, so that WIDTH changes no bit. */

INLINE vec v_step(vec x, vec w, vec sum) { return v_fma(x, w, sum); }

#include "simd_tile.h"
#include "simd_weights.h"

/* ---- weights to floats ------------------------------------------------------------------------ */

INLINE void FN(unpack_groups)(const matrix_type type, const uint8_t *panel, size_t k0, size_t k1, float *out)
{
    ASSERT(k0 % GROUP == 0);
    for (size_t k = k0; k < k1; k += GROUP) {
        const uint8_t *group = panel + k / GROUP * (type == MATRIX_Q8 ? Q8_GROUP : Q4_GROUP);
        size_t count = k1 - k < GROUP ? k1 - k : GROUP;
        FN(scales) s;
        FN(scales_of)(type, group, &s);
        for (size_t i = 0; i < count; i++, out += PANEL) {
            vec w[VECTORS];
            if (i % 2) FN(group_weights)(type, group, i, 1, &s, w);
            else FN(group_weights)(type, group, i, 0, &s, w);
            for (int v = 0; v < VECTORS; v++) v_store(out + v * WIDTH, w[v]);
        }
    }
}

static void FN(unpack)(const matrix *m, uint32_t panel, size_t k0, size_t k1, float *out)
{
    const uint8_t *packed = panel_at(m, panel);
    if (m->type == MATRIX_Q8) FN(unpack_groups)(MATRIX_Q8, packed, k0, k1, out);
    if (m->type == MATRIX_Q4) FN(unpack_groups)(MATRIX_Q4, packed, k0, k1, out);
    for (size_t k = k0; m->type == MATRIX_F32 && k < k1; k++, out += PANEL)
        for (int v = 0; v < VECTORS; v++) v_store(out + v * WIDTH, FN(plain_weight)(MATRIX_F32, packed, k, v));
    for (size_t k = k0; m->type == MATRIX_BF16 && k < k1; k++, out += PANEL)
        for (int v = 0; v < VECTORS; v++) v_store(out + v * WIDTH, FN(plain_weight)(MATRIX_BF16, packed, k, v));
}

/* ---- one row ---------------------------------------------------------------------------------- */

/* The memory is the limit here: weights are widened in registers, two panels at once to hide the latency. */
INLINE void FN(row_plain)(const matrix_type type, const matrix *m, uint32_t p, const int panels, const float *x,
                          float *sums)
{
    const uint8_t *at[2] = {panel_at(m, p), panels > 1 ? panel_at(m, p + 1) : NULL};
    vec acc[2][VECTORS];
    for (int i = 0; i < panels; i++)
        for (int v = 0; v < VECTORS; v++) acc[i][v] = v_zero();
    for (size_t k = 0; k < m->in; k++) {
        vec xk = v_all(x + k);
        UNROLL
        for (int i = 0; i < panels; i++)
            for (int v = 0; v < VECTORS; v++)
                acc[i][v] = v_fma(xk, FN(plain_weight)(type, at[i], k, v), acc[i][v]);
    }
    for (int i = 0; i < panels; i++)
        for (int v = 0; v < VECTORS; v++) v_store(sums + i * PANEL + v * WIDTH, acc[i][v]);
}

/* Groups at[i] of so many panels; count inputs. */
INLINE void FN(group_products)(const matrix_type type, const uint8_t *const at[], const int panels, const float *x,
                               size_t count, vec acc[][VECTORS])
{
    FN(scales) s[ROW_PANELS];
    vec w[VECTORS];
    for (int i = 0; i < panels; i++) FN(scales_of)(type, at[i], &s[i]);
    size_t k = 0;
    _Pragma("GCC unroll 2")
    for (; k + 2 <= count; k += 2)
        for (int parity = 0; parity < 2; parity++) {
            vec xk = v_all(x + k + (size_t)parity);
            UNROLL
            for (int i = 0; i < panels; i++) {
                FN(group_weights)(type, at[i], k + (size_t)parity, parity, &s[i], w);
                for (int v = 0; v < VECTORS; v++) acc[i][v] = v_fma(xk, w[v], acc[i][v]);
            }
        }
    for (int i = 0; i < panels && k < count; i++) {
        FN(group_weights)(type, at[i], k, 0, &s[i], w);
        for (int v = 0; v < VECTORS; v++) acc[i][v] = v_fma(v_all(x + k), w[v], acc[i][v]);
    }
}

INLINE void FN(row_groups)(const matrix_type type, const matrix *m, uint32_t p, const int panels, const float *x,
                           float *sums)
{
    const uint8_t *at[ROW_PANELS];
    vec acc[ROW_PANELS][VECTORS];
    for (int i = 0; i < panels; i++) {
        at[i] = panel_at(m, p + (uint32_t)i);
        for (int v = 0; v < VECTORS; v++) acc[i][v] = v_zero();
    }
    for (size_t k = 0; k < m->in; k += GROUP) {
        /* A constant count unrolls. */
        if (m->in - k >= GROUP) FN(group_products)(type, at, panels, x + k, GROUP, acc);
        else FN(group_products)(type, at, panels, x + k, m->in - k, acc);
        for (int i = 0; i < panels; i++) at[i] += type == MATRIX_Q8 ? Q8_GROUP : Q4_GROUP;
    }
    for (int i = 0; i < panels; i++)
        for (int v = 0; v < VECTORS; v++) v_store(sums + i * PANEL + v * WIDTH, acc[i][v]);
}

/* One or two panels, as many at once as there are registers for. */
INLINE void FN(row_quantised)(const matrix_type type, const matrix *m, uint32_t p, uint32_t count, const float *x,
                              float *sums)
{
    if (ROW_PANELS == 2 && count == 2) {
        FN(row_groups)(type, m, p, ROW_PANELS, x, sums);
        return;
    }
    for (uint32_t i = 0; i < count; i++) FN(row_groups)(type, m, p + i, 1, x, sums + i * PANEL);
}

static void FN(row)(const matrix *m, uint32_t p, uint32_t count, const float *x, float *sums)
{
    if (m->type == MATRIX_Q8) FN(row_quantised)(MATRIX_Q8, m, p, count, x, sums);
    if (m->type == MATRIX_Q4) FN(row_quantised)(MATRIX_Q4, m, p, count, x, sums);
    if (m->type == MATRIX_F32 && count == 1) FN(row_plain)(MATRIX_F32, m, p, 1, x, sums);
    if (m->type == MATRIX_F32 && count == 2) FN(row_plain)(MATRIX_F32, m, p, 2, x, sums);
    if (m->type == MATRIX_BF16 && count == 1) FN(row_plain)(MATRIX_BF16, m, p, 1, x, sums);
    if (m->type == MATRIX_BF16 && count == 2) FN(row_plain)(MATRIX_BF16, m, p, 2, x, sums);
}

void FN(matmul)(const matrix *m, uint32_t p0, uint32_t p1, const matmul_io *io)
{
    static const matmul_path PATH = {.tile = FN(tile), .tile_rows = TILE_ROWS, .unpack = FN(unpack), .row = FN(row)};
    matmul_body(m, p0, p1, io, &PATH);
}
