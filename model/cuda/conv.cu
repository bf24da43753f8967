/* The causal convolution over a few rows, and SiLU.
 *
 * A thread has one channel and walks down 16 rows, the last K-1 inputs in registers. Bound by memory: reads 2 (4) and
 * writes 2 (4) bytes a value, and K-1 rows more for each 16. */
#include "kernels.h"

constexpr uint32_t CONV_THREADS = 128, CONV_ROWS = 16, CONV_K_MAX = 8;

/* Which sequence a row belongs to. */
__device__ inline uint32_t segment_of(const Segments *s, uint32_t row)
{
    uint32_t low = 0, high = s->count;
    while (high - low > 1) {
        const uint32_t middle = (low + high) / 2;
        if (s->row[middle] <= row) low = middle;
        else high = middle;
    }
    return low;
}

/* The K-1 inputs before a row: of the pass, or of the state (K-1, channels), oldest first. */
template <typename T, uint32_t K>
__device__ inline void load_window(const Segments *s, const Conv &p, uint32_t segment, uint32_t row, uint32_t channel,
                                   float (&window)[K])
{
    const uint32_t at = row - s->row[segment];
    const float *state = s->state[segment] + p.state_at;
#pragma unroll
    for (uint32_t j = 0; j < K - 1; j++) {
        const uint32_t back = K - 1 - j;
        window[j] = back <= at ? float_of(((const T *)p.x)[(size_t)(row - back) * p.x_stride + channel])
                               : state[(size_t)(j + at) * p.channels + channel];
    }
}

template <typename T> __device__ inline void put_conv(const Conv &p, uint32_t row, uint32_t channel, float v)
{
    if (channel < p.d_inner) {
        ((T *)p.u)[(size_t)row * p.u_stride + channel] = value_of<T>(v);
        return;
    }
    const uint32_t i = channel - p.d_inner;
    p.bc[(size_t)row * p.bc_stride + i / p.d_state * p.states_padded + i % p.d_state] = v;
}

template <typename T, uint32_t K>
__global__ void __launch_bounds__(CONV_THREADS) conv_rows(const Segments *s, const Conv p)
{
    grid_begin();
    const uint32_t channel = blockIdx.y * CONV_THREADS + threadIdx.x;
    float w[K], window[K], bias = 0.0f;
    if (channel < p.channels) {
        bias = p.b[channel];
        for (uint32_t j = 0; j < K; j++) w[j] = p.w[(size_t)j * p.w_stride + channel];
    }
    grid_wait();
    const uint32_t first = blockIdx.x * CONV_ROWS;
    if (channel >= p.channels || first >= s->rows) return;
    const uint32_t end = first + CONV_ROWS < s->rows ? first + CONV_ROWS : s->rows;
    uint32_t segment = segment_of(s, first);
    load_window<T, K>(s, p, segment, first, channel, window);
    for (uint32_t row = first; row < end; row++) {
        if (row == s->row[segment] + s->length[segment]) load_window<T, K>(s, p, ++segment, row, channel, window);
        window[K - 1] = float_of(((const T *)p.x)[(size_t)row * p.x_stride + channel]);
        float sum = bias;
#pragma unroll
        for (uint32_t j = 0; j < K; j++) sum = fmaf(w[j], window[j], sum);
        put_conv<T>(p, row, channel, silu(sum));
#pragma unroll
        for (uint32_t j = 0; j + 1 < K; j++) window[j] = window[j + 1];
    }
}

template <typename T> static void run(Launcher &l, const Segments *s, const Conv &c, uint32_t rows)
{
    static void (*const KERNELS[])(const Segments *, const Conv) = {
        conv_rows<T, 2>, conv_rows<T, 3>, conv_rows<T, 4>,         conv_rows<T, 5>,
        conv_rows<T, 6>, conv_rows<T, 7>, conv_rows<T, CONV_K_MAX>};
    const dim3 grid((rows + CONV_ROWS - 1) / CONV_ROWS, (c.channels + CONV_THREADS - 1) / CONV_THREADS);
    launch(l, KERNELS[c.d_conv - 2], grid, CONV_THREADS, 0, s, c);
}

void conv(Launcher &l, bool f32, const Segments *s, const Conv &c, uint32_t rows)
{
    if (f32) run<float>(l, s, c, rows);
    else run<bf16>(l, s, c, rows);
}
