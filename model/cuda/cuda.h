/* cuda: the engine on one device, as backend.c drives it. Plain C, so that no CUDA header is seen outside model/cuda.
 *
 * Every function returns CUDA_FINE or what kind of error, and cuda_why says it in words (per thread, until the next
 * error). A device that faulted once answers nothing but CUDA_FAULT. Calls of several threads wait for each other. */
#ifndef LETHE_MODEL_CUDA_H
#define LETHE_MODEL_CUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CUDA_ROWS_MAX = 8192,                  /* rows of one pass */
    CUDA_STEPS_MAX = 128                   /* sequences of one pass, and rows that have logits */
};

typedef enum { CUDA_FINE, CUDA_ABSENT, CUDA_MEMORY, CUDA_FAULT } cuda_error;
const char *cuda_why(void);

typedef struct cuda_engine cuda_engine;

typedef struct {
    bool mamba2, f32;                      /* f32: weights and activations are float32, else bfloat16 */
    uint32_t vocab, d_model, d_inner, d_state, d_conv, dt_rank, layers, heads, head_dim, groups;
    float dt_min, dt_max, epsilon;
    size_t layer_floats;                   /* of a sequence's state in one layer: conv (K-1,C), then SSM (N,D), Mamba-2
                                              (heads,N,P) */
} cuda_shape;

/* Matrices (layout.h), their columns and rows padded as widths_of says:
 *   IN     x, then z, then Mamba-2's dt, each from a multiple of 64 on    (·,d_model)
 *   PARAMS dt's low rank, then from a multiple of 64 on B and C           (·,d_inner)     Mamba-1
 *   STEP   dt                                                             (d_inner,dt_rank) Mamba-1
 *   OUT                                                                   (d_model,d_inner)
 * Vectors, padded to 64: NORM, CONV_W (K,C padded), CONV_B, A (Mamba-1: (N,D padded), else heads; times log2 e), D, GATED_NORM. */
typedef enum { CUDA_IN, CUDA_PARAMS, CUDA_STEP, CUDA_OUT, CUDA_MATRICES } cuda_matrix;
typedef enum { CUDA_NORM, CUDA_CONV_W, CUDA_CONV_B, CUDA_A, CUDA_D, CUDA_GATED_NORM, CUDA_VECTORS } cuda_vector;

/* Widths in memory: what follows from a shape. */
typedef struct {
    uint32_t channels;                     /* of the convolution */
    uint32_t z_at, dt_at, in;              /* where IN's outputs z and dt begin; all of them */
    uint32_t states;                       /* N padded: the distance from B to C */
    uint32_t bc_at, params;                /* where PARAMS' B begins; all of them */
    uint32_t bc;                           /* floats of a row's B and C */
    uint32_t dt;                           /* of a row's steps */
} cuda_widths;
cuda_widths cuda_widths_of(const cuda_shape *s);

/* Finds the device. without: any of the words graphs, overlap (of a kernel with the one before), wgmma; no bit depends on them. */
cuda_error cuda_open(cuda_engine **out, uint32_t device, const char *without);
void cuda_close(cuda_engine **e);
const char *cuda_name(const cuda_engine *e);               /* "cuda sm_90": the arithmetic that runs */
/* Once: memory for passes, and the places for weights. */
cuda_error cuda_prepare(cuda_engine *e, const cuda_shape *s);
/* Copies packed weights there; bias (out padded to 128) or NULL. layer == layers: the embeddings (CUDA_IN) and, where it is
 * another matrix, the head (CUDA_OUT); the last norm (CUDA_NORM). */
cuda_error cuda_set_matrix(cuda_engine *e, uint32_t layer, cuda_matrix which, const void *packed, uint32_t out,
                           uint32_t in, const float *bias);
cuda_error cuda_set_vector(cuda_engine *e, uint32_t layer, cuda_vector which, const float *values, size_t count);
uint64_t cuda_weight_bytes(const cuda_engine *e);
bool cuda_graphed(const cuda_engine *e); /* steps are graphs: not refused, and none failed to be captured */

/* One pass: segment i is rows[i] rows of the sequence whose state is states[i]. Logits of rows from first_logit on,
 * CUDA_STEPS_MAX at most, to the host's memory. */
cuda_error cuda_forward(cuda_engine *e, float *const *states, const uint32_t *rows, size_t segments,
                        const uint32_t *tokens, size_t first_logit, float *logits);

/* Pinned memory of count floats, zeros, to which cuda_forward writes without a copy; wiped when closed. */
cuda_error cuda_pinned_open(cuda_engine *e, float **out, size_t count);
void cuda_pinned_close(cuda_engine *e, float *pinned, size_t count);

/* A state as zeros; wiped and freed; wiped; read; replaced. */
cuda_error cuda_state_open(cuda_engine *e, float **state);
void cuda_state_close(cuda_engine *e, float *state);
cuda_error cuda_state_wipe(cuda_engine *e, float *state);
cuda_error cuda_state_read(cuda_engine *e, const float *state, void *out, size_t at, size_t size);
cuda_error cuda_state_write(cuda_engine *e, float *state, const void *from, size_t at, size_t size);

/* For tests: bytes other than zero in whatever a pass has for its own, on the device and pinned. */
cuda_error cuda_residue(cuda_engine *e, uint64_t *out);

#ifdef __cplusplus
}
#endif

#endif
