/* The walk over a product, which each instruction set compiles with its own tiles. Internal to matmul.c and simd_*.c.
 *
 * A panel's inputs are taken in blocks that fit the first-level cache as float32, and every row meets a block while it
 * is there; sums wait in memory between blocks. A row's chain of multiply-adds is the same alone and among others. */
#ifndef LETHE_MODEL_MATMUL_BODY_H
#define LETHE_MODEL_MATMUL_BODY_H

#include "matmul.h"

#include "mutant.h"

#include <string.h>

enum { BLOCK_STEPS = 128, LINE_BYTES = 64 };

/* A step of a chain is one input as float32, or a pair of inputs as bfloat16 in one word, the first in its low half. */
typedef struct {
    /* sums (rows,32) += x[:, :count] w (count,32), from step 0 upwards; first: from zero. */
    void (*tile)(const float *w, size_t count, const float *x, size_t x_stride, float *sums, bool first, size_t rows);
    size_t tile_rows;                      /* the tallest tile */
    /* The steps of inputs [k0,k1) of a panel, (steps,32). */
    void (*unpack)(const matrix *m, uint32_t panel, size_t k0, size_t k1, float *out);
    /* One row against panels [p, p+count), count at most 2: sums (count,32). NULL: as any other number of rows. */
    void (*row)(const matrix *m, uint32_t p, uint32_t count, const float *x, float *sums);
    /* The steps of a row of inputs, with zeros behind them; NULL: a step is one input. */
    void (*pair)(const float *x, size_t in, float *steps);
} matmul_path;

static inline const uint8_t *panel_at(const matrix *m, uint32_t panel)
{
    return (const uint8_t *)m->w + (size_t)panel * panel_bytes(m->type, m->in);
}

/* Puts a finished row where it belongs. */
static inline void store_row(const matrix *m, uint32_t panel, const float *sums, size_t r, const matmul_io *io)
{
    size_t first = (size_t)panel * PANEL, n = PANEL;
    if (io->exact_width && first + PANEL > m->out) n = m->out - first;
    float *restrict to = io->y + r * io->y_stride + first;
    float row[PANEL];
    for (size_t i = 0; i < PANEL; i++) row[i] = sums[i];
    if (m->bias != NULL)
        for (size_t i = 0; i < PANEL; i++) row[i] += m->bias[first + i];
    if (io->add)
        for (size_t i = 0; i < n; i++) to[i] += row[i];
    else
        for (size_t i = 0; i < n; i++) to[i] = row[i];
}

/* What comes next, asked for a few lines at a time between the tiles. */
typedef struct { const uint8_t *at, *end; size_t step; } ahead;

static inline void ahead_some(ahead *a)
{
    for (size_t i = 0; i < a->step && a->at < a->end; i += LINE_BYTES, a->at += LINE_BYTES)
        __builtin_prefetch(a->at, 0, 2);
}

static inline void rows_product(const matrix *m, uint32_t panel, const matmul_io *io, const matmul_path *path)
{
    float sums[MATMUL_ROWS_MAX * PANEL] __attribute__((aligned(64)));
    float block[BLOCK_STEPS * PANEL] __attribute__((aligned(64)));
    size_t tiles = (io->rows + path->tile_rows - 1) / path->tile_rows, inputs = path->pair != NULL ? 2 : 1;
    const uint8_t *packed = panel_at(m, panel);
    size_t size = panel_bytes(m->type, m->in);
    for (size_t k = 0; k < m->in; k += BLOCK_STEPS * inputs) {
        size_t count = m->in - k < BLOCK_STEPS * inputs ? m->in - k : BLOCK_STEPS * inputs;
        const float *w = block, *x = io->x + k / inputs;
        if (m->type == MATRIX_F32) w = (const float *)(const void *)packed + k * PANEL;
        else path->unpack(m, panel, k, k + count, block);
        /* The next block of this panel, or the next panel's first, which stands behind it. */
        size_t share = size * count / m->in;
        ahead next = {packed + size * (k + count) / m->in, NULL, share / tiles + LINE_BYTES};
        next.end = next.at + share;
        for (size_t r = 0; r < io->rows; r += path->tile_rows) {
            size_t n = io->rows - r < path->tile_rows ? io->rows - r : path->tile_rows;
            ahead_some(&next);
            path->tile(w, (count + inputs - 1) / inputs, x + r * io->x_stride, io->x_stride, sums + r * PANEL, k == 0,
                       n);
        }
    }
    for (size_t r = 0; r < io->rows; r++) store_row(m, panel, sums + r * PANEL, r, io);
}

/* The broken variant reduction_depends_on_batch: several rows are summed in two halves. */
static inline void rows_product_halved(const matrix *m, uint32_t panel, const matmul_io *io, const matmul_path *path)
{
    float *w = mem_alloc_array((size_t)m->in * PANEL, sizeof *w), sums[2 * PANEL];
    size_t steps = path->pair != NULL ? (m->in + 1) / 2 : m->in, half = steps / 2;
    path->unpack(m, panel, 0, m->in, w);
    for (size_t r = 0; r < io->rows; r++) {
        const float *x = io->x + r * io->x_stride;
        path->tile(w, half, x, io->x_stride, sums, true, 1);
        path->tile(w + half * PANEL, steps - half, x + half, io->x_stride, sums + PANEL, true, 1);
        for (size_t i = 0; i < PANEL; i++) sums[i] += sums[PANEL + i];
        store_row(m, panel, sums, r, io);
    }
    mem_free(w);
}

/* The inputs as steps, in the room that the caller gave. */
static inline matmul_io paired(const matrix *m, const matmul_io *io, const matmul_path *path)
{
    matmul_io steps = *io;
    if (path->pair == NULL) return steps;
    ASSERT(io->room != NULL);
    steps.x = io->room;
    steps.x_stride = matmul_room(1, m->in);
    for (size_t r = 0; r < io->rows; r++)
        path->pair(io->x + r * io->x_stride, m->in, io->room + r * steps.x_stride);
    return steps;
}

static inline void matmul_body(const matrix *m, uint32_t p0, uint32_t p1, const matmul_io *given, const matmul_path *path)
{
    ASSERT(given->rows <= MATMUL_ROWS_MAX);
    matmul_io steps = paired(m, given, path), *io = &steps;
    for (uint32_t p = p0; p < p1;) {
        uint32_t n = 1;
        if (io->rows == 1 && path->row != NULL) {
            float sums[2 * PANEL] __attribute__((aligned(64)));
            n = p1 - p < 2 ? 1 : 2;
            path->row(m, p, n, io->x, sums);
            for (uint32_t i = 0; i < n; i++) store_row(m, p + i, sums + i * PANEL, 0, io);
        } else if (MUTANT(reduction_depends_on_batch) && io->rows > 1) {
            rows_product_halved(m, p, io, path);
        } else {
            rows_product(m, p, io, path);
        }
        p += n;
    }
}

#endif
