/* kernels: the arithmetic of Mamba-1 and Mamba-2 on a CPU, float32, in one order.
 *
 * Every output element is a chain of operations of its own: sums run over k from 0 upwards with one
 * fused multiply-add each, whatever the number of rows, and vector lanes hold different outputs,
 * never parts of one. So the bits depend neither on the batch nor on the chunking, the threads or
 * the instruction set: AVX-512, AVX2 and the portable path give the same. The path with bfloat16 products
 * (matmul.h) keeps the rule with bits of its own wherever matrices are not held as float32. */
#ifndef LETHE_MODEL_KERNELS_H
#define LETHE_MODEL_KERNELS_H

#include "matmul.h"

/* One sequence's rows of a step, for channels [d0, d1). Matrices named (rows,D) have row distance
 * stride; conv_state is (K-1,D) and ssm_state (N,D), both D = d_inner apart. */
typedef struct {
    size_t rows, stride, d0, d1, d_inner, d_conv, d_state;
    const float *x;                        /* (rows,D) input of the convolution */
    const float *z;                        /* (rows,D) gate */
    float *u;                              /* (rows,D) out of the convolution; then the mixer's y */
    const float *dt;                       /* (rows,D) before softplus, with its bias */
    const float *bc;                       /* (rows, B(N) then C(N)), row distance bc_stride */
    size_t bc_stride;
    const float *conv_w;                   /* (K,D) */
    const float *conv_b;                   /* (D) */
    const float *a;                        /* (N,D) = -exp(A_log) log2(e) */
    const float *d;                        /* (D) */
    float *conv_state, *ssm_state;
} mixer_io;

/* One sequence's rows of Mamba-2's state space, for heads [h0, h1). x, b and c stand in rows of the
 * convolution's output; heads come in groups of group_heads, which share B and C. P = head_dim, N = d_state. */
typedef struct {
    size_t rows, h0, h1, head_dim, d_state, group_heads;
    float *x;                              /* (rows, heads*P), row distance stride; becomes y */
    const float *b, *c;                    /* (rows, groups*N), row distance stride */
    size_t stride;
    const float *z;                        /* (rows, heads*P) gate */
    size_t z_stride;
    const float *dt;                       /* (rows, heads) before softplus, with its bias */
    size_t dt_stride;
    float dt_min, dt_max;                  /* bounds after softplus */
    const float *a, *d;                    /* (heads) = -exp(A_log); (heads) */
    float *state;                          /* (heads,N,P) */
} ssd_io;

typedef void mixer_fn(const mixer_io *io);
typedef void rms_norm_fn(const float *x, const float *weight, size_t n, float epsilon, float *y);
typedef void ssd_fn(const ssd_io *io);

typedef struct {
    const char *name;
    bool bf16_products;                    /* other bits, unless a matrix is held as float32 */
    matmul_fn *matmul;
    /* u = silu(causal depthwise convolution of x with conv_state before it); conv_state becomes the
     * last K-1 rows. Error: rel <= 1e-6 of the sum of magnitudes. */
    mixer_fn *conv;
    /* Selective scan: h = 2^(softplus(dt) a) h + softplus(dt) B u; y = C h + D u, times silu(z).
     * u becomes y. Source: Mamba, Algorithm 2. Error: rel <= 1e-5 of the sum of magnitudes. */
    mixer_fn *scan;
    /* y (n) = x / sqrt(mean(x^2) + epsilon) * weight. Error: rel <= 1e-6. */
    rms_norm_fn *rms_norm;
    /* A head's step dt = softplus(dt) within its bounds: h = exp(dt A) h + dt B x; y = C h + D x, times
     * silu(z). x becomes y. Source: Transformers are SSMs, section 6. Error: as scan. */
    ssd_fn *ssd;
} kernels;

#if defined(__x86_64__)
extern const kernels kernels_avx2, kernels_avx512, kernels_avx512bf16;
#endif
enum { KERNEL_PATHS = 4 };
/* The widest path that this CPU runs, of those with common bits or of all. LETHE_KERNEL=portable|avx2|avx512|avx512bf16
 * asks for another. */
const kernels *kernels_pick(bool bf16_products);
/* All paths that this CPU runs, the portable one first; their number. */
size_t kernels_all(const kernels *out[KERNEL_PATHS]);

/* exp for |x| <= 87, else 2^-126 or about 2^127; rel <= 2.5e-7. NaN stays NaN. */
float kernel_exp(float x);

#endif
