/* Packing, and the product's portable path. */
#include "matmul_body.h"
#include "tensors.h"

#include <assert.h>
#include <math.h>

enum { SCALES_BYTES = GROUP * 2, Q8_BYTES = SCALES_BYTES + GROUP * PANEL, Q4_BYTES = SCALES_BYTES + GROUP * PANEL / 2,
       SCALE_TRIALS = 20 };

static_assert(GROUP == PANEL, "a group's scales are a panel's row");

/* ---- half precision --------------------------------------------------------------------------- */

uint16_t half_from_float(float x)
{
    uint16_t sign = signbit(x) ? 0x8000u : 0;
    float a = fabsf(x);
    if (isnan(x)) return 0x7e00u;
    if (a >= 65520.0f) return sign | 0x7c00u;
    if (a < 0x1p-14f) return sign | (uint16_t)rintf(a * 0x1p24f);      /* may carry into the exponent, rightly */
    uint32_t bits;
    memcpy(&bits, &a, sizeof bits);
    bits += 0xfffu + ((bits >> 13) & 1u);
    return sign | (uint16_t)((bits - (112u << 23)) >> 13);
}

/* ---- packing ---------------------------------------------------------------------------------- */

static size_t groups_of(size_t in) { return (in + GROUP - 1) / GROUP; }

size_t panel_bytes(matrix_type type, size_t in)
{
    switch (type) {
    case MATRIX_F32: return in * PANEL * sizeof(float);
    case MATRIX_BF16: return in * PANEL * 2;
    case MATRIX_Q8: return groups_of(in) * Q8_BYTES;
    case MATRIX_Q4: return groups_of(in) * Q4_BYTES;
    }
    return 0;
}

uint16_t bfloat_from_float(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (isnan(x)) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static void pack_f32(const float *w, size_t n, size_t in, float *to)
{
    for (size_t k = 0; k < in; k++)
        for (size_t i = 0; i < n; i++) to[k * PANEL + i] = w[i * in + k];
}

/* Where in the words of one input's row an output's 16 bits are, and how far up. */
static size_t bf16_word(size_t output) { return output / 16 * 8 + output % 8; }
static uint32_t bf16_shift(size_t output) { return output % 16 < 8 ? 0 : 16; }

static void pack_bf16(const float *w, size_t n, size_t in, uint32_t *to)
{
    for (size_t k = 0; k < in; k++)
        for (size_t i = 0; i < n; i++)
            to[k * PANEL / 2 + bf16_word(i)] |= (uint32_t)bfloat_from_float(w[i * in + k]) << bf16_shift(i);
}

/* Input k of a group, an output: the word of the group's words, and how far up its 4 bits are. */
static size_t q4_word(size_t k, size_t output) { return k / 2 * 8 + output % 8; }
static uint32_t q4_shift(size_t k, size_t output) { return (uint32_t)(16 * (k % 2) + 4 * (output / 8)); }

static void put_quantised(matrix_type type, uint8_t *group, size_t k, size_t output, int8_t q)
{
    uint8_t *values = group + SCALES_BYTES;
    if (type == MATRIX_Q8) {
        memcpy(values + k * PANEL + output, &q, 1);
        return;
    }
    uint32_t word;
    memcpy(&word, values + 4 * q4_word(k, output), sizeof word);
    word |= (uint32_t)(q + 8) << q4_shift(k, output);
    memcpy(values + 4 * q4_word(k, output), &word, sizeof word);
}

static int8_t get_quantised(matrix_type type, const uint8_t *group, size_t k, size_t output)
{
    const uint8_t *values = group + SCALES_BYTES;
    int8_t q;
    uint32_t word;
    if (type == MATRIX_Q8) {
        memcpy(&q, values + k * PANEL + output, 1);
        return q;
    }
    memcpy(&word, values + 4 * q4_word(k, output), sizeof word);
    return (int8_t)((int)(word >> q4_shift(k, output) & 15u) - 8);
}

void panel_pack_quantised(matrix_type type, const int8_t *q, const uint16_t *scales, size_t n, size_t in, void *panel)
{
    size_t groups = groups_of(in), size = type == MATRIX_Q8 ? Q8_BYTES : Q4_BYTES;
    memset(panel, 0, groups * size);
    for (size_t g = 0; g < groups; g++) {
        uint8_t *group = (uint8_t *)panel + g * size;
        for (size_t i = 0; i < n; i++) {
            memcpy(group + 2 * i, &scales[i * groups + g], 2);
            for (size_t k = g * GROUP; k < in && k < (g + 1) * GROUP; k++)
                put_quantised(type, group, k % GROUP, i, q[i * in + k]);
        }
    }
}

/* The sum of squared errors with one scale, whose nearest steps become q. */
static double group_error(const float *w, size_t n, float scale, int least, int most, int8_t *q)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        float step = scale == 0 ? 0 : rintf(w[i] / scale);
        step = step < (float)least ? (float)least : step > (float)most ? (float)most : step;
        q[i] = (int8_t)step;
        double error = (double)w[i] - (double)scale * q[i];
        sum += error * error;
    }
    return sum;
}

void quantise_group(matrix_type type, const float *w, size_t n, int8_t *q, uint16_t *scale)
{
    float extreme = 0;
    int8_t trial[GROUP];
    int least = type == MATRIX_Q8 ? -127 : -8, most = type == MATRIX_Q8 ? 127 : 7;
    for (size_t i = 0; i < n; i++)
        if (fabsf(w[i]) > fabsf(extreme)) extreme = w[i];
    double best = (double)INFINITY;
    /* The extreme near the end that reaches further (its sign is the scale's), give or take. */
    for (int t = 0; t < (type == MATRIX_Q8 ? 1 : SCALE_TRIALS); t++) {
        float reach = (float)least * (1.0f + 0.02f * (float)(t % 2 ? (t + 1) / 2 : -t / 2));
        uint16_t half = half_from_float(extreme / reach);
        double error = group_error(w, n, half_to_float(half), least, most, trial);
        if (!(error < best)) continue;
        best = error;
        *scale = half;
        memcpy(q, trial, n);
    }
}

static void pack_quantising(matrix_type type, const float *w, size_t n, size_t in, void *panel)
{
    size_t groups = groups_of(in);
    int8_t *q = mem_alloc(n * in);
    uint16_t *scales = mem_alloc_array(n * groups, sizeof *scales);
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < groups; g++) {
            size_t k = g * GROUP, count = in - k < GROUP ? in - k : GROUP;
            quantise_group(type, w + i * in + k, count, q + i * in + k, &scales[i * groups + g]);
        }
    panel_pack_quantised(type, q, scales, n, in, panel);
    mem_free(q);
    mem_free(scales);
}

void panel_pack(matrix_type type, const float *w, size_t n, size_t in, void *panel)
{
    memset(panel, 0, panel_bytes(type, in));
    if (type == MATRIX_F32) pack_f32(w, n, in, panel);
    else if (type == MATRIX_BF16) pack_bf16(w, n, in, panel);
    else pack_quantising(type, w, n, in, panel);
}

static float weight_at(matrix_type type, const uint8_t *panel, size_t k, size_t output)
{
    uint32_t bits;
    float w;
    if (type == MATRIX_Q8 || type == MATRIX_Q4) {
        const uint8_t *group = panel + k / GROUP * (type == MATRIX_Q8 ? Q8_BYTES : Q4_BYTES);
        uint16_t scale;
        memcpy(&scale, group + 2 * output, sizeof scale);
        return (float)get_quantised(type, group, k % GROUP, output) * half_to_float(scale);
    }
    if (type == MATRIX_F32) {
        memcpy(&bits, panel + 4 * (k * PANEL + output), sizeof bits);
    } else {
        memcpy(&bits, panel + 4 * (k * PANEL / 2 + bf16_word(output)), sizeof bits);
        bits = bits >> bf16_shift(output) << 16;
    }
    memcpy(&w, &bits, sizeof w);
    return w;
}

void panel_unpack(const matrix *m, uint32_t panel, size_t k0, size_t k1, float *out)
{
    const uint8_t *packed = panel_at(m, panel);
    for (size_t k = k0; k < k1; k++)
        for (size_t i = 0; i < PANEL; i++) *out++ = weight_at(m->type, packed, k, i);
}

void matrix_output(const matrix *m, uint32_t output, float *w)
{
    const uint8_t *packed = panel_at(m, output / PANEL);
    for (size_t k = 0; k < m->in; k++) w[k] = weight_at(m->type, packed, k, output % PANEL);
}

/* ---- the portable path ------------------------------------------------------------------------ */

static void tile(const float *w, size_t count, const float *x, size_t x_stride, float *sums, bool first, size_t rows)
{
    for (size_t r = 0; r < rows; r++) {
        float *sum = sums + r * PANEL;
        if (first) memset(sum, 0, PANEL * sizeof *sum);
        for (size_t k = 0; k < count; k++)
            for (size_t i = 0; i < PANEL; i++)
                sum[i] = __builtin_fmaf(x[r * x_stride + k], w[k * PANEL + i], sum[i]);
    }
}

void matmul_portable(const matrix *m, uint32_t p0, uint32_t p1, const matmul_io *io)
{
    static const matmul_path PATH = {.tile = tile, .tile_rows = 8, .unpack = panel_unpack};
    matmul_body(m, p0, p1, io, &PATH);
}
