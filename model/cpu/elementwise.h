/* The elementwise part of the kernels, as bodies that each instruction set compiles for itself:
 * plain loops over independent channels, which compilers turn into vectors without changing a bit
 * (no reassociation; __builtin_fmaf is one rounding everywhere). */
#ifndef LETHE_MODEL_ELEMENTWISE_H
#define LETHE_MODEL_ELEMENTWISE_H

#include "kernels.h"

#include <math.h>
#include <string.h>

#define BODY static inline __attribute__((always_inline))

enum { BLOCK = 64, NORM_LANES = 16 };

/* e^x = 2^n e^r, |r| <= ln2/2, n by adding 1.5*2^23 (its low bits then hold n). The polynomial is
 * Taylor's to r^7, whose remainder is below 6e-9. Source: Cody and Waite's two-part ln2. */
BODY float exp_body(float x)
{
    float c = x < -87.0f ? -87.0f : x;
    c = c > 87.0f ? 87.0f : c;
    float shifted = __builtin_fmaf(c, 1.44269504f, 12582912.0f);
    float n = shifted - 12582912.0f;
    float r = __builtin_fmaf(n, -0.693359375f, c);
    r = __builtin_fmaf(n, 2.12194440e-4f, r);
    float p = 1.0f / 5040.0f;
    p = __builtin_fmaf(p, r, 1.0f / 720.0f);
    p = __builtin_fmaf(p, r, 1.0f / 120.0f);
    p = __builtin_fmaf(p, r, 1.0f / 24.0f);
    p = __builtin_fmaf(p, r, 1.0f / 6.0f);
    p = __builtin_fmaf(p, r, 0.5f);
    p = __builtin_fmaf(p, r, 1.0f);
    p = __builtin_fmaf(p, r, 1.0f);
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + 0x3f800000u;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

#define EXP2_1 6.93147182e-1f
#define EXP2_2 2.40226477e-1f
#define EXP2_3 5.55033237e-2f
#define EXP2_4 9.61843692e-3f
#define EXP2_5 1.33988750e-3f
#define EXP2_6 1.53533605e-4f

/* 2^x for x < 127.5, 2^-126 below -126; NaN stays NaN. rel <= 1.2e-7: 2^n by the exponent's bits, 2^(x-n) by a
 * polynomial of degree 6 that was fitted for the least largest relative error, which is 2e-9. */
BODY float exp2_body(float x)
{
    float c = x < -126.0f ? -126.0f : x;
    float shifted = c + 12582912.0f, f = c - (shifted - 12582912.0f);
    float p = EXP2_6;
    p = __builtin_fmaf(p, f, EXP2_5);
    p = __builtin_fmaf(p, f, EXP2_4);
    p = __builtin_fmaf(p, f, EXP2_3);
    p = __builtin_fmaf(p, f, EXP2_2);
    p = __builtin_fmaf(p, f, EXP2_1);
    p = __builtin_fmaf(p, f, 1.0f);
    uint32_t n, bits;
    memcpy(&n, &shifted, sizeof n);
    memcpy(&bits, &p, sizeof bits);
    bits += n << 23;
    memcpy(&p, &bits, sizeof p);
    return p;
}

/* max(x,0) + log(1+e^-|x|); log(1+v) = 2 atanh(v/(2+v)), whose series to the 17th power is cut at
 * 1e-9 since v <= 1. rel <= 1e-6. */
BODY float softplus_body(float x)
{
    float v = exp_body(x < 0.0f ? x : -x);
    float s = v / (2.0f + v), q = s * s;
    float p = 2.0f / 17.0f;
    p = __builtin_fmaf(p, q, 2.0f / 15.0f);
    p = __builtin_fmaf(p, q, 2.0f / 13.0f);
    p = __builtin_fmaf(p, q, 2.0f / 11.0f);
    p = __builtin_fmaf(p, q, 2.0f / 9.0f);
    p = __builtin_fmaf(p, q, 2.0f / 7.0f);
    p = __builtin_fmaf(p, q, 2.0f / 5.0f);
    p = __builtin_fmaf(p, q, 2.0f / 3.0f);
    p = __builtin_fmaf(p, q, 2.0f);
    return __builtin_fmaf(p, s, x > 0.0f ? x : (x < 0.0f ? 0.0f : x));
}

BODY float silu_body(float x)
{
    return x / (1.0f + exp_body(-x));
}

/* The row at distance back before row t: one of x, or of the state (oldest first). */
BODY const float *conv_row(const mixer_io *io, size_t t, size_t back)
{
    if (t >= back) return io->x + (t - back) * io->stride;
    return io->conv_state + (io->d_conv - 1 + t - back) * io->d_inner;
}

BODY void conv_body(const mixer_io *io)
{
    size_t k = io->d_conv, n = io->d1 - io->d0;
    for (size_t t = 0; t < io->rows; t++) {
        float *restrict u = io->u + t * io->stride + io->d0;
        const float *restrict b = io->conv_b + io->d0;
        for (size_t i = 0; i < n; i++) u[i] = b[i];
        for (size_t j = 0; j < k; j++) {
            const float *restrict in = conv_row(io, t, k - 1 - j) + io->d0;
            const float *restrict w = io->conv_w + j * io->d_inner + io->d0;
            for (size_t i = 0; i < n; i++) u[i] = __builtin_fmaf(w[i], in[i], u[i]);
        }
        for (size_t i = 0; i < n; i++) u[i] = silu_body(u[i]);
    }
    /* The state becomes the last K-1 rows of (state, x); ascending, so that none is overwritten
     * before it has moved. */
    for (size_t j = 0; j + 1 < k; j++) {
        size_t from = j + io->rows;
        const float *row = from < k - 1 ? io->conv_state + from * io->d_inner
                                        : io->x + (from - (k - 1)) * io->stride;
        memmove(io->conv_state + j * io->d_inner + io->d0, row + io->d0, n * sizeof(float));
    }
}

/* Of row t, n channels from c on: dt after softplus, and dt u. */
BODY void scan_before(const mixer_io *io, size_t t, size_t c, size_t n, float *restrict dt, float *restrict dtu)
{
    const float *restrict u = io->u + t * io->stride + c, *restrict raw = io->dt + t * io->stride + c;
    for (size_t i = 0; i < n; i++) {
        dt[i] = softplus_body(raw[i]);
        dtu[i] = dt[i] * u[i];
    }
}

/* u becomes the gated output, y being C h. */
BODY void scan_after(const mixer_io *io, size_t t, size_t c, size_t n, const float *restrict y)
{
    float *restrict u = io->u + t * io->stride + c;
    const float *restrict z = io->z + t * io->stride + c, *restrict d = io->d + c;
    for (size_t i = 0; i < n; i++) u[i] = __builtin_fmaf(d[i], u[i], y[i]) * silu_body(z[i]);
}

/* One row for one block of n <= BLOCK channels from c. */
BODY void scan_row(const mixer_io *io, size_t t, size_t c, size_t n)
{
    float dt[BLOCK], dtu[BLOCK], y[BLOCK];
    const float *restrict bt = io->bc + t * io->bc_stride, *restrict ct = bt + io->d_state;
    scan_before(io, t, c, n, dt, dtu);
    for (size_t i = 0; i < n; i++) y[i] = 0.0f;
    for (size_t s = 0; s < io->d_state; s++) {
        float *restrict h = io->ssm_state + s * io->d_inner + c;
        const float *restrict a = io->a + s * io->d_inner + c;
        float b = bt[s], cs = ct[s];
        for (size_t i = 0; i < n; i++) {
            float next = __builtin_fmaf(exp2_body(dt[i] * a[i]), h[i], dtu[i] * b);
            h[i] = next;
            y[i] = __builtin_fmaf(next, cs, y[i]);
        }
    }
    scan_after(io, t, c, n, y);
}

BODY void scan_body(const mixer_io *io)
{
    for (size_t c = io->d0; c < io->d1; c += BLOCK) {
        size_t n = io->d1 - c < BLOCK ? io->d1 - c : BLOCK;
        for (size_t t = 0; t < io->rows; t++) {
            /* A constant length lets the compiler keep whole blocks in registers. */
            if (n == BLOCK) scan_row(io, t, c, BLOCK);
            else scan_row(io, t, c, n);
        }
    }
}

/* The squares are summed in 16 interleaved chains, which are then added in a fixed tree. */
BODY void rms_norm_body(const float *restrict x, const float *restrict weight, size_t n,
                        float epsilon, float *restrict y)
{
    float sum[NORM_LANES] = {0};
    size_t whole = n / NORM_LANES * NORM_LANES;
    for (size_t i = 0; i < whole; i += NORM_LANES)
        for (size_t l = 0; l < NORM_LANES; l++)
            sum[l] = __builtin_fmaf(x[i + l], x[i + l], sum[l]);
    for (size_t l = 0; l < n - whole; l++)
        sum[l] = __builtin_fmaf(x[whole + l], x[whole + l], sum[l]);
    for (size_t half = NORM_LANES / 2; half > 0; half /= 2)
        for (size_t l = 0; l < half; l++) sum[l] += sum[l + half];
    float scale = 1.0f / sqrtf(sum[0] / (float)n + epsilon);
    for (size_t i = 0; i < n; i++) y[i] = weight[i] * (x[i] * scale);
}

#endif
