/* kernels: the arithmetic of a pass on a device. Rows are tokens, as in cpu/pass.h.
 *
 * The rule of the one order: a row's bits depend on that row and its sequence alone, never on how many rows there are,
 * which of them it is, or which kernel's shape runs.
 *   Products: inputs are cut into blocks of 256; a block is one chain of tensor-core instructions from zero, 16 inputs
 *   each; blocks are added in order. Every shape of kernel does just that, one row or 8192.
 *   The recurrence goes row by row, whether a prompt is read or a token written. Its parallelism is channels and states,
 *   which fill a device at the published widths; splitting the time would add in an order that depends on the cuts.
 *   Sums over a row (norms) and over states are trees of fixed shape. */
#ifndef LETHE_MODEL_CUDA_KERNELS_H
#define LETHE_MODEL_CUDA_KERNELS_H

#include "cuda.h"
#include "device.h"

constexpr uint32_t BLOCK_INPUTS = 256, SHARED_PLAIN_MAX = 48 << 10;

/* What is launched goes to one stream; the first error stays. overlap: each kernel but the first may start before the
 * one before has ended (it waits for it by grid_wait). */
struct Launcher {
    cudaStream_t stream;
    bool overlap;
    cudaError_t error;
};

template <typename... E, typename... A>
void launch(Launcher &l, void (*kernel)(E...), dim3 grid, uint32_t threads, size_t shared, const A &...args)
{
    cudaLaunchAttribute attribute = {};
    cudaLaunchConfig_t config = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared;
    config.stream = l.stream;
    config.attrs = &attribute;
    config.numAttrs = l.overlap ? 1 : 0;
    if (l.error == cudaSuccess && shared > SHARED_PLAIN_MAX)
        l.error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    if (l.error == cudaSuccess) l.error = cudaLaunchKernelEx(&config, kernel, E(args)...);
}

/* The sequences of a pass, in device memory. A kernel that was captured for more rows than there are leaves the rest. */
struct Segments {
    uint32_t rows, count;
    uint32_t row[CUDA_STEPS_MAX], length[CUDA_STEPS_MAX];
    float *state[CUDA_STEPS_MAX];
};

/* ---- products (product.cu) ---- */

struct Matrix {
    const void *w;                         /* layout.h */
    const float *bias;                     /* (out padded) */
    uint32_t out, in;                      /* outputs that count; inputs padded */
};

/* Where outputs go. STORE: those below split to narrow (activations), the others from split on to wide. ADD: wide +=.
 * SOFTPLUS: wide = softplus. */
enum OutputKind { STORE, ADD, SOFTPLUS };
struct Output {
    OutputKind kind;
    void *narrow;
    uint32_t narrow_stride, split;
    float *wide;
    uint32_t wide_stride;
};

/* Which kernel; all but the first have the same bits. PLAIN is float32; the SKINNY take 8 and 16 rows at most; GROUP is sm_90's. */
enum ProductShape { PLAIN, SKINNY_8, SKINNY_16, SMALL, MEDIUM, LARGE, GROUP };
ProductShape product_shape(bool f32, bool group, uint32_t rows);
/* y = x W^T + bias; x (rows, in) activations. halved: a broken variant, whose large shapes end a block after 128 inputs. */
void product(Launcher &l, ProductShape shape, const Matrix &w, const void *x, uint32_t x_stride, uint32_t rows,
             const Output &y, bool halved = false);
/* Whether all shapes but GROUP give the same bits on this device, as they must; and whether GROUP does (grouped: try it). */
struct Agreement { bool same, group; };
cudaError_t product_probe(cudaStream_t stream, bool grouped, Agreement *out);

/* ---- rows (rows.cu) ---- */

/* hidden (rows, stride) = the tokens' embeddings. */
void embed(Launcher &l, bool f32, const Segments *s, const Matrix &e, const uint32_t *tokens, uint32_t rows,
           uint32_t d_model, float *hidden, uint32_t stride);
/* y (rows, ·) activations = x / sqrt(mean(x^2) + epsilon) * weight, over n columns of each of so many groups. x is
 * float32, or activations too. */
struct Norm {
    const void *x;
    bool x_wide;
    uint32_t x_stride, n, groups;
    const float *weight;
    float epsilon;
    void *y;
    uint32_t y_stride;
};
void norm(Launcher &l, bool f32, const Segments *s, const Norm &n, uint32_t rows);

/* ---- mixers (conv.cu, scan.cu) ---- */

/* u = silu(causal depthwise convolution of x with the state before it). Channels up to d_inner go to u; the others, B
 * and C of Mamba-2, to bc, states_padded apart. */
struct Conv {
    const void *x;
    uint32_t x_stride, channels, d_inner, d_conv, d_state, states_padded;
    const float *w, *b;                    /* (K, w_stride), (channels) */
    uint32_t w_stride;
    size_t state_at;                       /* of the layer, in a state */
    void *u;
    uint32_t u_stride;
    float *bc;
    uint32_t bc_stride;
};
void conv(Launcher &l, bool f32, const Segments *s, const Conv &c, uint32_t rows);

/* The recurrence and the gate; u becomes y. At the end the convolution's state becomes its last K-1 inputs. */
struct Scan {
    Conv conv;
    const void *z;
    uint32_t z_stride;
    const float *dt;                       /* Mamba-1: (rows,D) steps; Mamba-2: (rows,heads) before softplus */
    uint32_t dt_stride;
    const float *a, *d;                    /* Mamba-1: (N, a_stride), (D); Mamba-2: (heads), (heads) */
    uint32_t a_stride;
    uint32_t heads, head_dim, groups;      /* Mamba-2; else heads is 0 */
    float dt_min, dt_max;
};
void scan(Launcher &l, bool f32, const Segments *s, const Scan &c, uint32_t segments);
/* How many states a channel has in memory: what B and C are padded to, by zeros. */
uint32_t scan_states(bool mamba2, uint32_t d_state);

#endif
