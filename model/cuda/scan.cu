/* The recurrence of Mamba-1 (Mamba, Algorithm 2) and of Mamba-2 (Transformers are SSMs, section 6), and the gate.
 *
 *   h = 2^(dt a) h + dt B u;   y = (C h + D u) silu(z)
 *
 * A block of threads has 16 channels (32, 64 where there are few states) of one sequence and walks down all its rows, 16
 * at a time, four such tiles of dt, u, z, B and C under way to shared memory. A channel's states stand in the registers
 * of `lanes` threads, `S` each (padded: a state without B and without a past stays zero); what they have of y is added as
 * a tree. Mamba-2 has a decay for each head in place of
 * each channel and state.
 *
 * Reads dt 4, u 2, z 2 and writes 2 bytes a channel and row, B and C 8 N bytes a row and 16 channels. An exponential a state
 * (Mamba-1) at 16 a clock and processor bounds it: 39 clocks a row at 2.8b on 132 processors, whatever the batch. */
#include "kernels.h"

constexpr uint32_t TILE_ROWS = 16, TILES = 4, CHUNK = 16;

/* How a block's threads share channels and states. */
struct Share {
    uint32_t lanes, channels;              /* threads of a channel (a power of two), channels of a block */
    uint32_t head_tiles;                   /* Mamba-2: blocks of a head */
};

/* What one tile has in shared memory, in bytes from its start. */
struct TileAt { uint32_t u, z, dt, bc, size; };

template <typename T> __host__ __device__ inline TileAt tile_at(const Share &h, uint32_t states_padded, bool heads)
{
    TileAt t;
    t.u = 0;
    t.z = t.u + TILE_ROWS * h.channels * (uint32_t)sizeof(T);
    t.dt = t.z + TILE_ROWS * h.channels * (uint32_t)sizeof(T);
    t.bc = t.dt + TILE_ROWS * (heads ? 4 : h.channels) * (uint32_t)sizeof(float);
    t.size = t.bc + TILE_ROWS * 2 * states_padded * (uint32_t)sizeof(float);
    return t;
}

/* A block's place. */
struct Place {
    const Share share;
    uint32_t channel, count;               /* first channel; how many there are */
    uint32_t head, group;                  /* Mamba-2 */
    uint32_t row, rows;
};

__device__ inline Place place_of(const Segments *s, const Scan &p, const Share &share)
{
    Place a = {share, blockIdx.x * share.channels, share.channels, 0, 0, s->row[blockIdx.y], s->length[blockIdx.y]};
    uint32_t end = p.conv.d_inner;
    if (p.heads > 0) {
        a.head = blockIdx.x / share.head_tiles;
        a.group = a.head / (p.heads / p.groups);
        a.channel = a.head * p.head_dim + blockIdx.x % share.head_tiles * share.channels;
        end = (a.head + 1) * p.head_dim;
    }
    if (end - a.channel < a.count) a.count = end - a.channel;
    return a;
}

/* count values to shared memory: 16 bytes at a time where they lie so, else one by one. */
template <typename T> __device__ inline void fetch(T *shared, const T *global, uint32_t i, uint32_t count)
{
    const uint32_t per = CHUNK / sizeof(T);
    if (((size_t)global | (count * sizeof(T))) % CHUNK == 0) {
        if (i < count / per) copy_16(shared + i * per, global + i * per);
    } else if (i < count / per + (count % per != 0)) {
        for (uint32_t k = i * per; k < count && k < (i + 1) * per; k++) shared[k] = global[k];
    }
}

/* One tile's rows, from row on; each row's pieces are shared out in units of 16 bytes. */
template <typename T>
__device__ inline void fetch_tile(const Scan &p, const Place &a, uint32_t row, uint32_t rows, unsigned char *tile)
{
    const uint32_t n = p.conv.states_padded, c = a.share.channels, u_units = c * sizeof(T) / CHUNK,
                   bc_units = n * 4 / CHUNK;
    const uint32_t dt_units = p.heads > 0 ? 0 : c * 4 / CHUNK, units = 2 * u_units + dt_units + 2 * bc_units;
    const TileAt at = tile_at<T>(a.share, n, p.heads > 0);
    for (uint32_t i = threadIdx.x; i < rows * units; i += blockDim.x) {
        const uint32_t t = i / units;
        const size_t r = row + t;
        uint32_t unit = i % units;
        const float *bc = p.conv.bc + r * p.conv.bc_stride;
        float *to = (float *)(tile + at.bc) + t * 2 * n;
        if (unit < u_units)
            fetch((T *)(tile + at.u) + t * c, (const T *)p.conv.u + r * p.conv.u_stride + a.channel, unit, a.count);
        else if ((unit -= u_units) < u_units)
            fetch((T *)(tile + at.z) + t * c, (const T *)p.z + r * p.z_stride + a.channel, unit, a.count);
        else if ((unit -= u_units) < dt_units)
            fetch((float *)(tile + at.dt) + t * c, p.dt + r * p.dt_stride + a.channel, unit, a.count);
        else if ((unit -= dt_units) < bc_units) fetch(to, bc + a.group * n, unit, n);
        else fetch(to + n, bc + ((p.heads > 0 ? p.groups : 1) + a.group) * n, unit - bc_units, n);
    }
    if (p.heads > 0 && threadIdx.x < rows)
        ((float *)(tile + at.dt))[threadIdx.x] = p.dt[(size_t)(row + threadIdx.x) * p.dt_stride + a.head];
}

/* Mamba-2: a head's steps, in place, and behind them its decays. */
__device__ inline void head_steps(const Scan &p, const Place &a, uint32_t rows, float *dt)
{
    if (threadIdx.x < rows) {
        const float step = fminf(fmaxf(softplus(dt[threadIdx.x]), p.dt_min), p.dt_max);
        dt[threadIdx.x] = step;
        dt[TILE_ROWS + threadIdx.x] = exp2_fast(step * p.a[a.head]);
    }
    __syncthreads();
}

/* A thread's states, [first, first + S) of its channel, and where they are kept: one every stride floats. */
template <uint32_t S> struct States {
    float h[S], a[S];
    uint32_t first, stride;
    float *kept;
};

/* The rows of one tile; y, (rows, channels), before D and the gate. */
template <typename T, bool heads, uint32_t S>
__device__ inline void scan_tile(const Place &a, uint32_t n, uint32_t rows, const unsigned char *tile, States<S> &x,
                                 float *y)
{
    const TileAt at = tile_at<T>(a.share, n, heads);
    const uint32_t c = a.share.channels, channel = threadIdx.x / a.share.lanes;
    const T *u = (const T *)(tile + at.u);
    const float *dt = (const float *)(tile + at.dt), *bc = (const float *)(tile + at.bc);
    for (uint32_t t = 0; t < rows; t++) {
        const float *b = bc + t * 2 * n + x.first, *out = b + n;
        const float step = heads ? dt[t] : dt[t * c + channel], du = step * float_of(u[t * c + channel]);
        const float decay = heads ? dt[TILE_ROWS + t] : 0.0f;
        float sum = 0.0f;
#pragma unroll
        for (uint32_t i = 0; i < S; i++) {
            x.h[i] = fmaf(heads ? decay : exp2_fast(step * x.a[i]), x.h[i], du * b[i]);
            sum = fmaf(x.h[i], out[i], sum);
        }
        sum = lanes_sum(sum, a.share.lanes);
        if (threadIdx.x % a.share.lanes == 0) y[t * c + channel] = sum;
    }
}

/* u of the tile's rows becomes (y + D u) silu(z), in global memory. */
template <typename T>
__device__ inline void gate_tile(const Scan &p, const Place &a, uint32_t row, uint32_t rows, const unsigned char *tile,
                                 const float *y)
{
    const TileAt at = tile_at<T>(a.share, p.conv.states_padded, p.heads > 0);
    const uint32_t c = a.share.channels;
    for (uint32_t i = threadIdx.x; i < rows * c; i += blockDim.x) {
        const uint32_t t = i / c, channel = a.channel + i % c;
        if (i % c >= a.count) continue;
        const float u = float_of(((const T *)(tile + at.u))[i]), z = float_of(((const T *)(tile + at.z))[i]);
        const float v = fmaf(p.d[p.heads > 0 ? a.head : channel], u, y[i]) * silu(z);
        ((T *)p.conv.u)[(size_t)(row + t) * p.conv.u_stride + channel] = value_of<T>(v);
    }
}

/* The convolution's state becomes the last K-1 rows of (state, x): this block's share of the channels. Ascending, so
 * that none is overwritten before it has moved. */
template <typename T> __device__ inline void keep_inputs(const Conv &p, const Place &a, float *state)
{
    const uint32_t share = (p.channels + gridDim.x - 1) / gridDim.x, first = blockIdx.x * share, k = p.d_conv - 1;
    for (uint32_t c = first + threadIdx.x; c < first + share && c < p.channels; c += blockDim.x)
        for (uint32_t j = 0; j < k; j++) {
            const uint32_t from = j + a.rows;
            state[(size_t)j * p.channels + c] =
                from < k ? state[(size_t)from * p.channels + c]
                         : float_of(((const T *)p.x)[(size_t)(a.row + from - k) * p.x_stride + c]);
        }
}

/* Those past the channel's states or past the block's channels have zeros, and keep nothing. */
template <uint32_t S> __device__ inline void load_states(const Scan &p, const Place &a, float *state, States<S> &x)
{
    const uint32_t n = p.conv.d_state, inside = threadIdx.x / a.share.lanes, channel = a.channel + inside;
    x.first = threadIdx.x % a.share.lanes * S;
    x.stride = p.heads > 0 ? p.head_dim : p.conv.d_inner;
    x.kept = inside < a.count ? state + (size_t)(p.conv.d_conv - 1) * p.conv.channels : NULL;
    if (x.kept != NULL)
        x.kept += p.heads > 0 ? (size_t)a.head * n * p.head_dim + (channel - a.head * p.head_dim) : channel;
    for (uint32_t i = 0; i < S; i++) {
        const bool there = x.kept != NULL && x.first + i < n;
        x.h[i] = there ? x.kept[(size_t)(x.first + i) * x.stride] : 0.0f;
        x.a[i] = there && p.heads == 0 ? p.a[(size_t)(x.first + i) * p.a_stride + channel] : 0.0f;
    }
}

template <typename T, bool heads, uint32_t S>
__global__ void scan_rows(const Segments *s, const Scan p, const Share share)
{
    SHARED_MEMORY(memory);
    grid_begin();
    grid_wait();
    if (blockIdx.y >= s->count) return;
    const Place a = place_of(s, p, share);
    const uint32_t n = p.conv.states_padded, size = tile_at<T>(share, n, heads).size,
                   tiles = (a.rows + TILE_ROWS - 1) / TILE_ROWS;
    float *y = (float *)(memory + TILES * size), *state = s->state[blockIdx.y] + p.conv.state_at;
    States<S> x;
    load_states<S>(p, a, state, x);
    for (uint32_t k = 0; k < TILES - 1; k++) {
        const uint32_t t = k * TILE_ROWS;
        if (k < tiles) fetch_tile<T>(p, a, a.row + t, a.rows - t < TILE_ROWS ? a.rows - t : TILE_ROWS, memory + k * size);
        copy_commit();
    }
    for (uint32_t k = 0; k < tiles; k++) {
        const uint32_t t = k * TILE_ROWS, rows = a.rows - t < TILE_ROWS ? a.rows - t : TILE_ROWS;
        unsigned char *tile = memory + k % TILES * size;
        copy_wait<TILES - 2>();
        __syncthreads();                   /* tile k is there, and nobody reads k - 1 any more */
        if (k + TILES - 1 < tiles) {
            const uint32_t ahead = (k + TILES - 1) * TILE_ROWS;
            fetch_tile<T>(p, a, a.row + ahead, a.rows - ahead < TILE_ROWS ? a.rows - ahead : TILE_ROWS,
                          memory + (k + TILES - 1) % TILES * size);
        }
        copy_commit();
        if (heads) head_steps(p, a, rows, (float *)(tile + tile_at<T>(share, n, heads).dt));
        scan_tile<T, heads, S>(a, n, rows, tile, x, y);
        __syncthreads();
        gate_tile<T>(p, a, a.row + t, rows, tile, y);
    }
    for (uint32_t i = 0; i < S; i++)
        if (x.kept != NULL && x.first + i < p.conv.d_state) x.kept[(size_t)(x.first + i) * x.stride] = x.h[i];
    keep_inputs<T>(p.conv, a, state);
}

/* S states a thread; 64 threads at least, so that warps are whole. */
template <typename T, bool heads, uint32_t S>
static void run(Launcher &l, const Segments *s, const Scan &c, uint32_t segments)
{
    Share h = {c.conv.states_padded / S, 0, 1};
    h.channels = h.lanes >= 4 ? 16 : 64 / h.lanes;
    if (heads) h.head_tiles = (c.head_dim + h.channels - 1) / h.channels;
    const uint32_t blocks = heads ? c.heads * h.head_tiles : (c.conv.d_inner + h.channels - 1) / h.channels;
    const size_t shared =
        TILES * tile_at<T>(h, c.conv.states_padded, heads).size + TILE_ROWS * h.channels * sizeof(float);
    launch(l, scan_rows<T, heads, S>, dim3(blocks, segments), h.lanes * h.channels, shared, s, c, h);
}

uint32_t scan_states(bool mamba2, uint32_t d_state)
{
    uint32_t padded = mamba2 ? 16 : d_state <= 128 ? 4 : 8;
    while (padded < d_state) padded *= 2;
    return padded;
}

template <typename T> static void run_type(Launcher &l, const Segments *s, const Scan &c, uint32_t segments)
{
    if (c.heads > 0) run<T, true, 16>(l, s, c, segments);
    else if (c.conv.states_padded <= 32 * 4) run<T, false, 4>(l, s, c, segments);
    else run<T, false, 8>(l, s, c, segments);
}

void scan(Launcher &l, bool f32, const Segments *s, const Scan &c, uint32_t segments)
{
    if (f32) run_type<float>(l, s, c, segments);
    else run_type<bf16>(l, s, c, segments);
}
