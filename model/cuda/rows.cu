/* What is done row by row: embeddings and norms. Both are bound by memory. */
#include "kernels.h"

constexpr uint32_t ROW_THREADS = 256, ROW_WARPS = ROW_THREADS / 32;

/* ---- embeddings: reads 2 (4) and writes 4 bytes a value ------------------------------------------------- */

template <typename T> __device__ inline float weight_at(const Matrix &e, uint32_t output, uint32_t input);
template <> __device__ inline float weight_at<float>(const Matrix &e, uint32_t output, uint32_t input)
{
    return ((const float *)e.w)[(size_t)output * e.in + input];
}
template <> __device__ inline float weight_at<bf16>(const Matrix &e, uint32_t output, uint32_t input)
{
    return float_of(((const bf16 *)e.w)[layout_fragment(output, input, e.in)]);
}

template <typename T>
__global__ void __launch_bounds__(ROW_THREADS) embed_rows(const Segments *s, const Matrix e, const uint32_t *tokens,
                                                          uint32_t d_model, float *hidden, uint32_t stride)
{
    grid_begin();
    grid_wait();
    const uint32_t row = blockIdx.x;
    if (row >= s->rows) return;
    const uint32_t token = tokens[row];
    for (uint32_t i = threadIdx.x; i < d_model; i += ROW_THREADS)
        hidden[(size_t)row * stride + i] = weight_at<T>(e, token, i);
}

void embed(Launcher &l, bool f32, const Segments *s, const Matrix &e, const uint32_t *tokens, uint32_t rows,
           uint32_t d_model, float *hidden, uint32_t stride)
{
    if (f32) launch(l, embed_rows<float>, dim3(rows), ROW_THREADS, 0, s, e, tokens, d_model, hidden, stride);
    else launch(l, embed_rows<bf16>, dim3(rows), ROW_THREADS, 0, s, e, tokens, d_model, hidden, stride);
}

/* ---- norms: read 4 (2) bytes a value, mostly from a cache the second time, write 2 (4) ------------------ */

/* The sum over the block's threads, in each of them: lanes as a tree, then the warps in order. */
__device__ inline float block_sum(float x, float *shared)
{
    const float sum = lanes_sum(x, 32);
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = sum;
    __syncthreads();
    float all = shared[0];
    for (uint32_t w = 1; w < ROW_WARPS; w++) all += shared[w];
    return all;
}

template <typename X, typename T>
__global__ void __launch_bounds__(ROW_THREADS) norm_rows(const Segments *s, const Norm p)
{
    SHARED_MEMORY(shared);
    grid_begin();
    grid_wait();
    if (blockIdx.x >= s->rows) return;
    const uint32_t first = blockIdx.y * p.n;
    const X *x = (const X *)p.x + (size_t)blockIdx.x * p.x_stride + first;
    T *y = (T *)p.y + (size_t)blockIdx.x * p.y_stride + first;
    float sum = 0.0f;
    for (uint32_t i = threadIdx.x; i < p.n; i += ROW_THREADS) sum = fmaf(float_of(x[i]), float_of(x[i]), sum);
    const float scale = 1.0f / sqrtf(block_sum(sum, (float *)shared) / (float)p.n + p.epsilon);
    for (uint32_t i = threadIdx.x; i < p.n; i += ROW_THREADS)
        y[i] = value_of<T>(p.weight[first + i] * (float_of(x[i]) * scale));
}

void norm(Launcher &l, bool f32, const Segments *s, const Norm &n, uint32_t rows)
{
    const dim3 grid(rows, n.groups);
    const size_t shared = ROW_WARPS * sizeof(float);
    if (f32) launch(l, norm_rows<float, float>, grid, ROW_THREADS, shared, s, n);
    else if (n.x_wide) launch(l, norm_rows<float, bf16>, grid, ROW_THREADS, shared, s, n);
    else launch(l, norm_rows<bf16, bf16>, grid, ROW_THREADS, shared, s, n);
}
