/* matmul: packed matrices and their products. See kernels.h for the rule of the one order.
 *
 * A matrix is kept as panels of 32 outputs, in one of four types. Whatever the type, the weight that enters a product
 * is one float32: w, or bfloat16 widened, or q times its group's scale, rounded once. So a product's bits depend on
 * what is stored and on nothing else. A path that multiplies bfloat16 rounds the inputs, and what q times the scale is,
 * once more; it takes inputs by two, 2p and 2p+1, one chain per output over the pairs. */
#ifndef LETHE_MODEL_MATMUL_H
#define LETHE_MODEL_MATMUL_H

#include "base.h"

enum {
    PANEL = 32,                            /* outputs that are interleaved in a packed matrix */
    GROUP = 32,                            /* inputs that share a scale, for each output */
    MATMUL_ROWS_MAX = 128
};

static inline size_t panel_pad(size_t n) { return (n + PANEL - 1) / PANEL * PANEL; }

/* A panel is, little-endian:
 *   F32   [in][32] f32
 *   BF16  [in][16] u32: word 8h+j holds output 16h+j in its low half, 16h+8+j in its high half
 *   Q8    [ceil(in/32)] groups of { [32] f16 scales, [32][32] i8 }
 *   Q4    [ceil(in/32)] groups of { [32] f16 scales, [16][8] u32 }: word j of pair p holds, 4 bits each from the lowest
 *         on, outputs j, 8+j, 16+j, 24+j of input 2p and then of 2p+1, each plus 8
 * What is past out is zero; so are the bytes of what is past in. */
typedef enum { MATRIX_F32, MATRIX_BF16, MATRIX_Q8, MATRIX_Q4 } matrix_type;

typedef struct {
    uint32_t out, in;
    matrix_type type;
    const void *w;                         /* panels, 64-aligned */
    const float *bias;                     /* (out padded) or NULL */
} matrix;

static inline uint32_t matrix_panels(const matrix *m) { return (m->out + PANEL - 1) / PANEL; }

size_t panel_bytes(matrix_type type, size_t in);
/* Packs up to 32 rows of a matrix, w (n,in), as one panel. The quantised types round to the nearest of the steps that
 * quantise_group chose. */
void panel_pack(matrix_type type, const float *w, size_t n, size_t in, void *panel);
/* q[i] * the value of *scale (f16 bits) is near w[i], i < n <= 32; q within [-8,7] (MATRIX_Q4) or [-127,127]. The scale
 * is, of some, the one with the least sum of squared errors. */
void quantise_group(matrix_type type, const float *w, size_t n, int8_t *q, uint16_t *scale);
/* The panel of a quantised matrix: q (n,in), scales (n,ceil(in/32)) as f16 bits. */
void panel_pack_quantised(matrix_type type, const int8_t *q, const uint16_t *scales, size_t n, size_t in, void *panel);
/* Weights [k0,k1) of a panel as they enter a product, (k1-k0,32). */
void panel_unpack(const matrix *m, uint32_t panel, size_t k0, size_t k1, float *out);

/* The weights of one output, (in). */
void matrix_output(const matrix *m, uint32_t output, float *w);

uint16_t bfloat_from_float(float x);       /* to nearest, ties to even */
uint16_t half_from_float(float x);         /* to nearest, ties to even; past the largest: infinity */

/* What a matrix product reads and writes. x (rows,in) with row distance x_stride, y likewise. */
typedef struct {
    const float *x;
    size_t x_stride, rows;                 /* rows <= MATMUL_ROWS_MAX */
    float *y;
    size_t y_stride;
    bool add;                              /* y += the product (after its bias) instead of y = */
    bool exact_width;                      /* y has no room past out: the last panel is cut */
    float *room;                           /* matmul_room(rows, in) floats of scratch memory for this call */
} matmul_io;

/* What a product may need for its inputs in another form. */
static inline size_t matmul_room(size_t rows, size_t in) { return rows * ((in + 31) / 32 * 16); }

/* y = x W^T + bias for panels [p0, p1). Error: rel <= 4e-6 sqrt(in/256) of sum |x||w|. */
typedef void matmul_fn(const matrix *m, uint32_t p0, uint32_t p1, const matmul_io *io);
matmul_fn matmul_portable;

#endif
