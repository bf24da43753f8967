/* Products on the tensor cores, and in float32 for comparison. See kernels.h for the one order.
 *
 * tile:   reading prompts, and steps of many sequences. A block of threads has 128 outputs and 128 rows (or 64 and 64, 64
 *         and 32), four stages of 64 inputs in shared memory. Arithmetic bound from some 200 rows on.
 *         On sm_90 the large one by wgmma, where probe.cu finds that it has the same bits.
 *         Per launch: 2 out in rows FLOP; reads out in 2 bytes once for each 128 rows, and rows in 2 for each 128 outputs.
 * skinny: up to 16 rows. Bound by reading W: each warp streams one block of 256 inputs of 16 outputs through
 *         registers, 8 KB at a time; the sums of a round's blocks are added in shared memory.
 * plain:  float32; a chain of multiply-adds over all inputs. Slow. */
#include "kernels.h"

constexpr uint32_t STAGES = 4, TILE_INPUTS = 64, TILE_STEPS = TILE_INPUTS / FRAGMENT_SIDE, ROW_BYTES = TILE_INPUTS * 2,
                   CHUNK = 16, STAGE_BLOCKS_PAD = 4, SKINNY_WARPS = 8, SKINNY_STEPS = BLOCK_INPUTS / FRAGMENT_SIDE,
                   PLAIN_SIDE = 32;

struct Operands {
    Matrix w;
    const void *x;
    uint32_t x_stride, rows, block_inputs;
};

template <OutputKind kind, typename T>
__device__ inline void put(const Matrix &w, const Output &y, uint32_t row, uint32_t output, float sum)
{
    if (output >= w.out) return;
    const float v = sum + w.bias[output];
    if (kind == STORE && output < y.split) {
        ((T *)y.narrow)[(size_t)row * y.narrow_stride + output] = value_of<T>(v);
        return;
    }
    float *to = y.wide + (size_t)row * y.wide_stride + (output - (kind == STORE ? y.split : 0));
    *to = kind == ADD ? *to + v : kind == SOFTPLUS ? softplus(v) : v;
}

/* ---- tile ---------------------------------------------------------------------------------------------- */

/* Warps stand out_warps by row_warps; each has fragments of 16 outputs by 8 rows, out_fragments by row_fragments. */
template <uint32_t out_warps_, uint32_t row_warps_, uint32_t out_fragments_, uint32_t row_fragments_> struct Tile {
    static const uint32_t out_warps = out_warps_, row_warps = row_warps_, out_fragments = out_fragments_,
                          row_fragments = row_fragments_;
    static const uint32_t outputs = out_warps * out_fragments * 16, rows = row_warps * row_fragments * 8,
                          threads = 32 * out_warps * row_warps;
    static const bool grouped = out_fragments == 1;
    static const uint32_t w_bytes = outputs * ROW_BYTES, x_bytes = rows * ROW_BYTES, stage_bytes = w_bytes + x_bytes;
    static const uint32_t sums_stride = outputs + STAGE_BLOCKS_PAD;   /* a warp's stores meet 32 banks */
    static const uint32_t shared = STAGES * stage_bytes > rows * sums_stride * 4 ? STAGES * stage_bytes
                                                                                 : rows * sums_stride * 4;
};
typedef Tile<2, 4, 4, 4> Large;
typedef Tile<8, 1, 1, 16> Group;           /* as large, by the instructions of four warps together */
typedef Tile<2, 2, 2, 4> Medium;
typedef Tile<2, 2, 2, 2> Small;

/* Fragments of W for inputs [64 k, 64 k + 64), as they are. */
template <typename Shape>
__device__ inline void fetch_w(const Operands &o, uint32_t first_output, uint32_t k, unsigned char *stage)
{
    const uint32_t steps = o.w.in / FRAGMENT_SIDE, per = TILE_STEPS * FRAGMENT_BYTES / CHUNK;
#pragma unroll
    for (uint32_t i = threadIdx.x; i < Shape::w_bytes / CHUNK; i += Shape::threads) {
        const size_t fragment = (size_t)(first_output / FRAGMENT_SIDE + i / per) * steps + k * TILE_STEPS;
        copy_16(stage + i * CHUNK, (const unsigned char *)o.w.w + fragment * FRAGMENT_BYTES + i % per * CHUNK);
    }
}

/* Rows of x, 128 bytes each; chunk c of row r stands at c ^ (r % 8), so that 8 rows' same chunk meets all banks. Past the
 * last row: the last again, whose sums nobody takes. */
template <typename Shape>
__device__ inline void fetch_x(const Operands &o, uint32_t first_row, uint32_t k, unsigned char *stage)
{
#pragma unroll
    for (uint32_t i = threadIdx.x; i < Shape::x_bytes / CHUNK; i += Shape::threads) {
        const uint32_t r = i / 8, c = i % 8, row = first_row + r < o.rows ? first_row + r : o.rows - 1;
        const bf16 *from = (const bf16 *)o.x + (size_t)row * o.x_stride + k * TILE_INPUTS + c * 8;
        copy_16(stage + Shape::w_bytes + r * ROW_BYTES + (c ^ (r % 8)) * CHUNK, from);
    }
}

/* sums += one stage's 64 inputs. */
template <typename Shape>
__device__ inline void multiply_stage(const unsigned char *stage,
                                      float (&sums)[Shape::out_fragments][Shape::row_fragments][4])
{
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t out0 = warp / Shape::row_warps * Shape::out_fragments,
                   row0 = warp % Shape::row_warps * Shape::row_fragments * 8;
    const unsigned char *x = stage + Shape::w_bytes;
#pragma unroll
    for (uint32_t s = 0; s < TILE_STEPS; s++) {
        uint4 a[Shape::out_fragments];
        uint2 b[Shape::row_fragments];
#pragma unroll
        for (uint32_t i = 0; i < Shape::out_fragments; i++)
            a[i] = *(const uint4 *)(stage + ((out0 + i) * TILE_STEPS + s) * FRAGMENT_BYTES + lane * CHUNK);
#pragma unroll
        for (uint32_t j = 0; j < Shape::row_fragments; j += 2) {
            /* Blocks: rows 0-7 at inputs 0-7 and 8-15, rows 8-15 likewise. */
            const uint32_t r = row0 + j * 8 + lane / 16 * 8 + lane % 8, c = s * 2 + lane / 8 % 2;
            const uint4 blocks = load_blocks(x + r * ROW_BYTES + (c ^ (r % 8)) * CHUNK);
            b[j] = make_uint2(blocks.x, blocks.y);
            b[j + 1] = make_uint2(blocks.z, blocks.w);
        }
#pragma unroll
        for (uint32_t i = 0; i < Shape::out_fragments; i++)
#pragma unroll
            for (uint32_t j = 0; j < Shape::row_fragments; j++) tensor_multiply(sums[i][j], a[i], b[j]);
    }
}

template <>
__device__ inline void multiply_stage<Group>(const unsigned char *stage,
                                             float (&sums)[Group::out_fragments][Group::row_fragments][4])
{
    uint4 a[TILE_STEPS];
#pragma unroll
    for (uint32_t s = 0; s < TILE_STEPS; s++)
        a[s] = *(const uint4 *)(stage + (threadIdx.x / 32 * TILE_STEPS + s) * FRAGMENT_BYTES + threadIdx.x % 32 * CHUNK);
    group_multiply(sums[0], a, stage + Group::w_bytes);
}

/* total += sums, sums = 0. */
template <typename Shape>
__device__ inline void end_block(float (&total)[Shape::out_fragments][Shape::row_fragments][4],
                                 float (&sums)[Shape::out_fragments][Shape::row_fragments][4])
{
#pragma unroll
    for (uint32_t i = 0; i < Shape::out_fragments; i++)
#pragma unroll
        for (uint32_t j = 0; j < Shape::row_fragments; j++)
#pragma unroll
            for (uint32_t v = 0; v < 4; v++) {
                total[i][j][v] += sums[i][j][v];
                sums[i][j][v] = 0.0f;
            }
}

/* Through shared memory, so that what is stored together lies together. */
template <typename Shape, OutputKind kind>
__device__ inline void put_tile(const Operands &o, const Output &y, uint32_t first_output, uint32_t first_row,
                                float *shared, const float (&total)[Shape::out_fragments][Shape::row_fragments][4])
{
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t out0 = warp / Shape::row_warps * Shape::out_fragments * 16,
                   row0 = warp % Shape::row_warps * Shape::row_fragments * 8;
    __syncthreads();
#pragma unroll
    for (uint32_t i = 0; i < Shape::out_fragments; i++)
#pragma unroll
        for (uint32_t j = 0; j < Shape::row_fragments; j++)
#pragma unroll
            for (uint32_t v = 0; v < 4; v++) {
                const uint32_t output = out0 + i * 16 + v / 2 * 8 + lane / 4, row = row0 + j * 8 + lane % 4 * 2 + v % 2;
                shared[row * Shape::sums_stride + output] = total[i][j][v];
            }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < Shape::rows * Shape::outputs; i += Shape::threads) {
        const uint32_t row = i / Shape::outputs, output = i % Shape::outputs;
        if (first_row + row < o.rows)
            put<kind, bf16>(o.w, y, first_row + row, first_output + output, shared[row * Shape::sums_stride + output]);
    }
}

template <typename Shape, OutputKind kind>
__global__ void __launch_bounds__(Shape::threads) product_tile(const Operands o, const Output y)
{
    SHARED_MEMORY(shared);
    /* Eight neighbours in the order of launching share rows of x, and all of them stay near in W. */
    const uint32_t out_tiles = (o.w.out + Shape::outputs - 1) / Shape::outputs,
                   row_tiles = (o.rows + Shape::rows - 1) / Shape::rows;
    const uint32_t band = blockIdx.x / (8 * row_tiles), band_tiles = out_tiles - band * 8 < 8 ? out_tiles - band * 8 : 8;
    const uint32_t in_band = blockIdx.x - band * 8 * row_tiles;
    const uint32_t first_output = (band * 8 + in_band % band_tiles) * Shape::outputs,
                   first_row = in_band / band_tiles * Shape::rows;
    const uint32_t count = o.w.in / TILE_INPUTS, block = o.block_inputs / TILE_INPUTS;
    float total[Shape::out_fragments][Shape::row_fragments][4] = {},
          sums[Shape::out_fragments][Shape::row_fragments][4] = {};
    grid_begin();
    for (uint32_t k = 0; k < STAGES - 1 && k < count; k++)
        fetch_w<Shape>(o, first_output, k, shared + k * Shape::stage_bytes);
    grid_wait();
    for (uint32_t k = 0; k < STAGES - 1; k++) {
        if (k < count) fetch_x<Shape>(o, first_row, k, shared + k * Shape::stage_bytes);
        copy_commit();
    }
    for (uint32_t k = 0; k < count; k++) {
        copy_wait<STAGES - 2>();
        copy_publish();
        __syncthreads();                   /* stage k is there, and nobody reads k - 1 any more */
        /* The tensor cores of a group work by themselves meanwhile. */
        if (Shape::grouped) multiply_stage<Shape>(shared + k % STAGES * Shape::stage_bytes, sums);
        const uint32_t next = k + STAGES - 1;
        if (next < count) {
            fetch_w<Shape>(o, first_output, next, shared + next % STAGES * Shape::stage_bytes);
            fetch_x<Shape>(o, first_row, next, shared + next % STAGES * Shape::stage_bytes);
        }
        copy_commit();
        if (Shape::grouped) group_wait();
        else multiply_stage<Shape>(shared + k % STAGES * Shape::stage_bytes, sums);
        if ((k + 1) % block == 0 || k + 1 == count) end_block<Shape>(total, sums);
    }
    put_tile<Shape, kind>(o, y, first_output, first_row, (float *)shared, total);
}

/* ---- skinny -------------------------------------------------------------------------------------------- */

/* One block's inputs: 16 outputs by 8 row_fragments rows. */
template <uint32_t row_fragments>
__device__ inline void multiply_block(const Operands &o, const uint4 (&a)[SKINNY_STEPS], uint32_t first_step,
                                      uint32_t steps, float (&sums)[row_fragments][4])
{
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t *x[row_fragments];
    for (uint32_t j = 0; j < row_fragments; j++) {
        const uint32_t r = j * 8 + lane / 4, row = r < o.rows ? r : o.rows - 1;
        x[j] = (const uint32_t *)((const bf16 *)o.x + (size_t)row * o.x_stride) + first_step * 8 + lane % 4;
    }
#pragma unroll
    for (uint32_t s = 0; s < SKINNY_STEPS; s++) {
        if (s >= steps) break;
#pragma unroll
        for (uint32_t j = 0; j < row_fragments; j++)
            tensor_multiply(sums[j], a[s], make_uint2(x[j][s * 8], x[j][s * 8 + 4]));
    }
}

template <uint32_t row_fragments>
__device__ inline void keep_sums(float *shared, const float (&sums)[row_fragments][4])
{
    const uint32_t lane = threadIdx.x % 32;
    for (uint32_t j = 0; j < row_fragments; j++)
        for (uint32_t v = 0; v < 4; v++)
            shared[(j * 8 + lane % 4 * 2 + v % 2) * FRAGMENT_SIDE + v / 2 * 8 + lane / 4] = sums[j][v];
}

/* A round: each warp one block of inputs; then the blocks' sums are added in order to the totals in front. */
template <uint32_t row_fragments, OutputKind kind>
__global__ void __launch_bounds__(32 * SKINNY_WARPS) product_skinny(const Operands o, const Output y)
{
    SHARED_MEMORY(memory);
    const uint32_t size = row_fragments * 8 * FRAGMENT_SIDE;
    float *total = (float *)memory, *parts = total + size;
    const uint32_t warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32;
    const uint32_t all = o.w.in / FRAGMENT_SIDE, blocks = (all + SKINNY_STEPS - 1) / SKINNY_STEPS;
    const uint4 *w = (const uint4 *)o.w.w + (size_t)blockIdx.x * all * 32 + lane;
    grid_begin();
    for (uint32_t i = threadIdx.x; i < size; i += blockDim.x) total[i] = 0.0f;
    for (uint32_t first = 0; first < blocks; first += warps) {
        const uint32_t block = first + warp, step = block * SKINNY_STEPS;
        const uint32_t steps = block >= blocks ? 0 : all - step < SKINNY_STEPS ? all - step : SKINNY_STEPS;
        uint4 a[SKINNY_STEPS];
        float sums[row_fragments][4] = {};
#pragma unroll
        for (uint32_t s = 0; s < SKINNY_STEPS; s++)
            if (s < steps) a[s] = w[(size_t)(step + s) * 32];
        if (first == 0) grid_wait();
        multiply_block<row_fragments>(o, a, step, steps, sums);
        keep_sums<row_fragments>(parts + warp * size, sums);
        __syncthreads();
        const uint32_t round = blocks - first < warps ? blocks - first : warps;
        for (uint32_t i = threadIdx.x; i < size; i += blockDim.x)
            for (uint32_t p = 0; p < round; p++) total[i] += parts[p * size + i];
        __syncthreads();
    }
    for (uint32_t i = threadIdx.x; i < size; i += blockDim.x)
        if (i / FRAGMENT_SIDE < o.rows)
            put<kind, bf16>(o.w, y, i / FRAGMENT_SIDE, blockIdx.x * FRAGMENT_SIDE + i % FRAGMENT_SIDE, total[i]);
}

/* ---- plain --------------------------------------------------------------------------------------------- */

/* 32 outputs by 32 rows, 256 threads of one output and four rows. */
template <OutputKind kind> __global__ void __launch_bounds__(256) product_plain(const Operands o, const Output y)
{
    SHARED_MEMORY(memory);
    float(*w)[PLAIN_SIDE + 1] = (float(*)[PLAIN_SIDE + 1])memory, (*x)[PLAIN_SIDE + 1] = w + PLAIN_SIDE;
    const uint32_t first_output = blockIdx.x * PLAIN_SIDE, first_row = blockIdx.y * PLAIN_SIDE;
    const uint32_t column = threadIdx.x % PLAIN_SIDE, line = threadIdx.x / PLAIN_SIDE;
    float sums[4] = {};
    uint32_t count = 0;
    while (count < 4 && first_row + line + 8 * count < o.rows) count++;
    grid_begin();
    grid_wait();
    for (uint32_t k = 0; k < o.w.in; k += PLAIN_SIDE) {
        for (uint32_t i = line; i < PLAIN_SIDE; i += 8) {
            const uint32_t row = first_row + i < o.rows ? first_row + i : o.rows - 1;
            w[i][column] = ((const float *)o.w.w)[(size_t)(first_output + i) * o.w.in + k + column];
            x[i][column] = ((const float *)o.x)[(size_t)row * o.x_stride + k + column];
        }
        __syncthreads();
        for (uint32_t i = 0; i < PLAIN_SIDE; i++)
            for (uint32_t r = 0; r < count; r++) sums[r] = fmaf(x[line + 8 * r][i], w[column][i], sums[r]);
        __syncthreads();
    }
    for (uint32_t r = 0; r < count; r++)
        put<kind, float>(o.w, y, first_row + line + 8 * r, first_output + column, sums[r]);
}

/* ---- choice -------------------------------------------------------------------------------------------- */

static uint32_t tiles(uint32_t n, uint32_t of) { return (n + of - 1) / of; }

template <typename Shape, OutputKind kind> static void run_tile(Launcher &l, const Operands &o, const Output &y)
{
    launch(l, product_tile<Shape, kind>, dim3(tiles(o.w.out, Shape::outputs) * tiles(o.rows, Shape::rows)),
           Shape::threads, Shape::shared, o, y);
}

/* As many warps as let each have the same number of blocks, nearly. */
template <uint32_t row_fragments, OutputKind kind> static void run_skinny(Launcher &l, const Operands &o, const Output &y)
{
    const uint32_t blocks = tiles(o.w.in, BLOCK_INPUTS), warps = tiles(blocks, tiles(blocks, SKINNY_WARPS));
    const size_t shared = sizeof(float) * row_fragments * 8 * FRAGMENT_SIDE * (warps + 1);
    launch(l, product_skinny<row_fragments, kind>, dim3(tiles(o.w.out, FRAGMENT_SIDE)), 32 * warps, shared, o, y);
}

ProductShape product_shape(bool f32, bool group, uint32_t rows)
{
    if (f32) return PLAIN;
    return rows <= 8     ? SKINNY_8
           : rows <= 16  ? SKINNY_16
           : rows <= 32  ? SMALL
           : rows <= 128 ? MEDIUM
           : group       ? GROUP
                         : LARGE;
}

template <OutputKind kind> static void run(Launcher &l, ProductShape shape, const Operands &o, const Output &y)
{
    switch (shape) {
    case PLAIN:
        launch(l, product_plain<kind>, dim3(tiles(o.w.out, PLAIN_SIDE), tiles(o.rows, PLAIN_SIDE)), 256,
               2 * PLAIN_SIDE * (PLAIN_SIDE + 1) * sizeof(float), o, y);
        return;
    case SKINNY_8: return run_skinny<1, kind>(l, o, y);
    case SKINNY_16: return run_skinny<2, kind>(l, o, y);
    case SMALL: return run_tile<Small, kind>(l, o, y);
    case MEDIUM: return run_tile<Medium, kind>(l, o, y);
    case LARGE: return run_tile<Large, kind>(l, o, y);
    case GROUP: return run_tile<Group, kind>(l, o, y);
    }
}

void product(Launcher &l, ProductShape shape, const Matrix &w, const void *x, uint32_t x_stride, uint32_t rows,
             const Output &y, bool halved)
{
    const Operands o = {w, x, x_stride, rows, halved ? BLOCK_INPUTS / 2 : BLOCK_INPUTS};
    if (y.kind == ADD) run<ADD>(l, shape, o, y);
    else if (y.kind == SOFTPLUS) run<SOFTPLUS>(l, shape, o, y);
    else run<STORE>(l, shape, o, y);
}
