/* Mamba-2's state space as a body that each instruction set compiles for itself (see elementwise.h): a head's
 * channels are independent, so that vectors hold different channels and no bit depends on them. */
#ifndef LETHE_MODEL_SSD_H
#define LETHE_MODEL_SSD_H

#include "elementwise.h"

/* One row for channels [p, p+n) of a head, n <= BLOCK. */
BODY void ssd_row(const ssd_io *io, size_t t, size_t head, size_t p, size_t n, float dt, float decay)
{
    float dtx[BLOCK], y[BLOCK];
    const size_t at = head * io->head_dim + p, group = head / io->group_heads * io->d_state;
    float *restrict x = io->x + t * io->stride + at;
    const float *restrict z = io->z + t * io->z_stride + at;
    const float *restrict b = io->b + t * io->stride + group, *restrict c = io->c + t * io->stride + group;
    float *restrict state = io->state + head * io->d_state * io->head_dim + p;
    for (size_t i = 0; i < n; i++) {
        dtx[i] = dt * x[i];
        y[i] = 0.0f;
    }
    for (size_t s = 0; s < io->d_state; s++) {
        float *restrict h = state + s * io->head_dim;
        float bs = b[s], cs = c[s];
        for (size_t i = 0; i < n; i++) {
            float next = __builtin_fmaf(decay, h[i], dtx[i] * bs);
            h[i] = next;
            y[i] = __builtin_fmaf(next, cs, y[i]);
        }
    }
    float d = io->d[head];
    for (size_t i = 0; i < n; i++) x[i] = __builtin_fmaf(d, x[i], y[i]) * silu_body(z[i]);
}

/* Rows [t, t+rows), rows <= BLOCK, of one head: its steps and decays first, one exp for each. */
BODY void ssd_head(const ssd_io *io, size_t t, size_t rows, size_t head)
{
    float dt[BLOCK], decay[BLOCK];
    const float *restrict raw = io->dt + t * io->dt_stride + head;
    for (size_t i = 0; i < rows; i++) {
        float step = softplus_body(raw[i * io->dt_stride]);
        step = step < io->dt_min ? io->dt_min : step;
        dt[i] = step > io->dt_max ? io->dt_max : step;
        decay[i] = exp_body(dt[i] * io->a[head]);
    }
    for (size_t p = 0; p < io->head_dim; p += BLOCK) {
        size_t n = io->head_dim - p < BLOCK ? io->head_dim - p : BLOCK;
        for (size_t i = 0; i < rows; i++) {
            /* A constant length lets the compiler keep whole blocks in registers. */
            if (n == BLOCK) ssd_row(io, t + i, head, p, BLOCK, dt[i], decay[i]);
            else ssd_row(io, t + i, head, p, n, dt[i], decay[i]);
        }
    }
}

BODY void ssd_body(const ssd_io *io)
{
    for (size_t head = io->h0; head < io->h1; head++)
        for (size_t t = 0; t < io->rows; t += BLOCK)
            ssd_head(io, t, io->rows - t < BLOCK ? io->rows - t : BLOCK, head);
}

#endif
