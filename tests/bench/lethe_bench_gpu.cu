/* lethe-bench gpu: each kernel of model/cuda by itself, at the published shapes, beside what the device can do: copying, and
 * its matrix instruction on registers and shared memory alone. Random values; nothing is read from files. */
#include "lethe_bench_gpu.h"

#include "model/cuda/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <algorithm>
#include <vector>

constexpr uint32_t PEAK_ROUNDS = 4096, PEAK_BLOCKS_EACH = 1;

struct Shape {
    const char *name;
    uint32_t d_model, layers, heads;       /* heads: Mamba-2's */
};
static const Shape SHAPES[] = {{"130m", 768, 24, 0}, {"370m", 1024, 48, 0}, {"790m", 1536, 48, 0}, {"1.4b", 2048, 48, 0},
                               {"2.8b", 2560, 64, 0}, {"mamba2-2.7b", 2560, 64, 80}};

static void must(cudaError_t r, const char *what)
{
    if (r == cudaSuccess) return;
    fprintf(stderr, "lethe-bench gpu: %s: %s\n", what, cudaGetErrorString(r));
    exit(1);
}

/* ---- the device's limits --------------------------------------------------------------------------------- */

/* Two blocks of operands in shared memory, multiplied over and over. */
__global__ void __launch_bounds__(256) matrix_peak(float *out)
{
    SHARED_MEMORY(shared);
    for (uint32_t i = threadIdx.x; i < 16384 / 2; i += 256)
        ((uint16_t *)shared)[i] = (uint16_t)(0x3c00u + i * 2654435761u % 255);
    __syncthreads();
    copy_publish();
    __syncthreads();
    const uint4 one = *(const uint4 *)(shared + threadIdx.x % 32 * 16);
    const uint4 a[4] = {one, one, one, one};
    float d[16][4] = {};
    for (uint32_t round = 0; round < PEAK_ROUNDS; round++) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
        group_multiply(d, a, shared);
        group_wait();
#else
        for (int s = 0; s < 4; s++)
#pragma unroll
            for (int j = 0; j < 16; j++) tensor_multiply(d[j], a[s], make_uint2(one.x, one.y));
#endif
    }
    float sum = 0;
    for (int j = 0; j < 16; j++) sum += d[j][0] + d[j][1] + d[j][2] + d[j][3];
    if (sum == 1.0f) out[blockIdx.x] = sum;
}

template <typename F> static double seconds(cudaStream_t stream, uint32_t rounds, F work)
{
    std::vector<float> all;
    cudaEvent_t start, end;
    must(cudaEventCreate(&start), "events");
    must(cudaEventCreate(&end), "events");
    for (uint32_t i = 0; i < rounds + 2; i++) {
        float ms;
        must(cudaEventRecord(start, stream), "timing");
        work();
        must(cudaEventRecord(end, stream), "timing");
        must(cudaEventSynchronize(end), "timing");
        must(cudaEventElapsedTime(&ms, start, end), "timing");
        if (i >= 2) all.push_back(ms);
    }
    (void)cudaEventDestroy(start);
    (void)cudaEventDestroy(end);
    std::sort(all.begin(), all.end());
    return all[all.size() / 2] / 1e3;
}

bool gpu_limits_measure(uint32_t device, gpu_limits *out)
{
    const size_t size = (size_t)2 << 30;
    void *from = NULL, *to = NULL;
    cudaStream_t stream;
    int processors = 0;
    if (cudaSetDevice((int)device) != cudaSuccess || cudaMalloc(&from, size) != cudaSuccess ||
        cudaMalloc(&to, size) != cudaSuccess)
        return false;
    must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    must(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, (int)device), "device");
    must(cudaMemset(from, 0x3c, size), "memory");
    out->copy_bytes = 2.0 * (double)size / seconds(stream, 10, [&] {
                          must(cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToDevice, stream), "copy");
                      });
    /* A warp's round: 16 outputs, 128 rows, 64 inputs. */
    const double flop = 2.0 * 16 * 128 * 64 * 8 * PEAK_ROUNDS * PEAK_BLOCKS_EACH * processors;
    out->matrix_flop = flop / seconds(stream, 10, [&] {
        matrix_peak<<<PEAK_BLOCKS_EACH * processors, 256, 16384, stream>>>((float *)to);
        must(cudaGetLastError(), "matrix peak");
    });
    (void)cudaStreamDestroy(stream);
    (void)cudaFree(from);
    (void)cudaFree(to);
    return true;
}

/* ---- kernels --------------------------------------------------------------------------------------------- */

struct Bench {
    cudaStream_t stream;
    gpu_limits limits;
    FILE *csv;
    const char *shape;
    uint32_t rounds;
    std::vector<void *> memory;
};

/* Small random bf16 or float bits: the pattern repeats, the values are of both signs. */
__global__ void fill(uint32_t *p, size_t words, bool wide, float scale)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < words; i += (size_t)gridDim.x * blockDim.x) {
        uint32_t x = (uint32_t)i * 2654435761u ^ (uint32_t)(i >> 32);
        x ^= x >> 15;
        x *= 2246822519u;
        x ^= x >> 13;
        const float low = ((float)(x & 0xffffu) / 32768.0f - 1.0f) * scale,
                    high = ((float)(x >> 16) / 32768.0f - 1.0f) * scale;
        p[i] = wide ? __float_as_uint(low) : (uint32_t)bf16_of(low).bits | (uint32_t)bf16_of(high).bits << 16;
    }
}

static void *values(Bench &b, size_t count, bool wide, float scale)
{
    void *p = NULL;
    const size_t words = wide ? count : (count + 1) / 2;
    must(cudaMalloc(&p, words * 4), "memory");
    b.memory.push_back(p);
    fill<<<1024, 256, 0, b.stream>>>((uint32_t *)p, words, wide, scale);
    must(cudaGetLastError(), "filling");
    return p;
}

static void free_all(Bench &b)
{
    must(cudaStreamSynchronize(b.stream), "kernels");
    for (void *p : b.memory) (void)cudaFree(p);
    b.memory.clear();
}

static void report(Bench &b, const char *kernel, uint32_t rows, double s, double bytes, double flop)
{
    const double by_copy = bytes / s / b.limits.copy_bytes, by_matrix = flop / s / b.limits.matrix_flop;
    printf("  %-12s %-12s %8u rows %10.1f us %8.0f GB/s (%3.0f %%) %8.1f TFLOP/s (%3.0f %%)\n", b.shape, kernel, rows,
           s * 1e6, bytes / s / 1e9, 100 * by_copy, flop / s / 1e12, 100 * by_matrix);
    if (b.csv != NULL)
        fprintf(b.csv, "%s,%s,%u,%.2f,%.1f,%.4f,%.2f,%.4f\n", b.shape, kernel, rows, s * 1e6, bytes / s / 1e9, by_copy,
                flop / s / 1e12, by_matrix);
}

/* Several copies of W where it is small, so that it comes from memory as in a model, not from a cache. */
static void bench_product(Bench &b, const char *name, uint32_t out, uint32_t in, uint32_t rows, ProductShape shape,
                          OutputKind kind)
{
    const size_t size = (size_t)layout_pad(out, LAYOUT_OUTPUTS) * layout_width(in);
    const uint32_t copies = rows > 1024 ? 1 : (uint32_t)std::max<size_t>(1, ((size_t)256 << 20) / (2 * size));
    const bf16 *w = (const bf16 *)values(b, size * copies, false, 0.05f);
    const float *bias = (const float *)values(b, layout_pad(out, LAYOUT_OUTPUTS), true, 0.1f);
    const void *x = values(b, (size_t)rows * layout_width(in), false, 1.0f);
    float *y = (float *)values(b, (size_t)rows * layout_width(out), true, 0.0f);
    const Output to = {
        kind, y, kind == STORE ? layout_width(out) : 0, kind == STORE ? layout_width(out) : 0, y, layout_width(out)};
    Launcher l = {b.stream, false, cudaSuccess};
    const double s = seconds(b.stream, b.rounds, [&] {
        for (uint32_t c = 0; c < copies; c++) {
            const Matrix m = {w + c * size, bias, out, layout_width(in)};
            product(l, shape, m, x, layout_width(in), rows, to);
        }
    }) / copies;
    must(l.error, name);
    report(b, name, rows, s, 2.0 * out * in + 2.0 * rows * in + (kind == ADD ? 8.0 : 2.0) * rows * out,
           2.0 * out * in * rows);
    free_all(b);
}

static void *segments_of(Bench &b, uint32_t count, uint32_t rows, size_t state_floats)
{
    Segments s = {};
    s.rows = count * rows;
    s.count = count;
    float *states = (float *)values(b, state_floats * count, true, 0.1f);
    for (uint32_t i = 0; i < count; i++) {
        s.row[i] = i * rows;
        s.length[i] = rows;
        s.state[i] = states + i * state_floats;
    }
    void *p = NULL;
    must(cudaMalloc(&p, sizeof s), "memory");
    b.memory.push_back(p);
    must(cudaMemcpy(p, &s, sizeof s, cudaMemcpyHostToDevice), "memory");
    return p;
}

/* The mixer between the products: count sequences of so many rows. */
static void bench_mixer(Bench &b, const Shape &h, uint32_t count, uint32_t rows)
{
    cuda_shape s = {};
    s.mamba2 = h.heads > 0;
    s.d_model = h.d_model;
    s.d_inner = 2 * h.d_model;
    s.d_state = s.mamba2 ? 128 : 16;
    s.d_conv = 4;
    s.dt_rank = (h.d_model + 15) / 16;
    s.heads = h.heads;
    s.head_dim = s.mamba2 ? s.d_inner / h.heads : 0;
    s.groups = s.mamba2 ? 1 : 0;
    const cuda_widths w = cuda_widths_of(&s);
    const size_t all = (size_t)count * rows, state = (size_t)3 * w.channels + (size_t)s.d_inner * s.d_state;
    const uint32_t wide = layout_width(s.d_inner);
    Scan c = {};
    c.conv = {values(b, all * w.in, false, 1.0f), w.in, w.channels, s.d_inner, s.d_conv, s.d_state, w.states,
              (const float *)values(b, 4 * w.z_at, true, 0.5f), (const float *)values(b, w.z_at, true, 0.1f), w.z_at, 0,
              values(b, all * wide, false, 1.0f), wide, (float *)values(b, all * w.bc, true, 0.5f), w.bc};
    c.z = (const bf16 *)c.conv.x + w.z_at;
    c.z_stride = w.in;
    c.dt = (const float *)values(b, all * w.dt, true, 0.05f);
    c.dt_stride = w.dt;
    c.a = (const float *)values(b, (size_t)16 * wide, true, 1.0f);
    c.d = (const float *)values(b, wide, true, 1.0f);
    c.a_stride = wide;
    c.heads = h.heads;
    c.head_dim = s.head_dim;
    c.groups = s.groups;
    c.dt_max = 1.0f;
    const Segments *segments = (const Segments *)segments_of(b, count, rows, state);
    Launcher l = {b.stream, false, cudaSuccess};
    char name[64];
    const double conv_s = seconds(b.stream, b.rounds, [&] { conv(l, false, segments, c.conv, (uint32_t)all); });
    snprintf(name, sizeof name, "conv x%u", count);
    report(b, name, rows, conv_s, 4.0 * (double)all * w.channels, 0);
    const double scan_s = seconds(b.stream, b.rounds, [&] { scan(l, false, segments, c, count); });
    must(l.error, "mixer");
    const double dt = s.mamba2 ? 4.0 * s.heads : 4.0 * s.d_inner;
    snprintf(name, sizeof name, "scan x%u", count);
    report(b, name, rows, scan_s, (double)all * (6.0 * s.d_inner + dt + 4.0 * w.bc) + 8.0 * count * (double)state, 0);
    snprintf(name, sizeof name, "mixer x%u", count);
    report(b, name, rows, conv_s + scan_s, 0, 0);
    free_all(b);
}

static void bench_shape(Bench &b, const Shape &h, bool grouped, bool long_too)
{
    static const uint32_t ROWS[] = {1, 8, 16, 32, 64, 128, 2048, 8192};
    const uint32_t d = 2 * h.d_model, rank = (h.d_model + 15) / 16;
    b.shape = h.name;
    for (uint32_t rows : ROWS) {
        const ProductShape shape = product_shape(false, grouped, rows);
        bench_product(b, "in_proj", h.heads > 0 ? 2 * d + 256 + h.heads : 2 * d, h.d_model, rows, shape, STORE);
        bench_product(b, "out_proj", h.d_model, d, rows, shape, ADD);
        if (h.heads == 0) bench_product(b, "x_proj", layout_width(rank) + 64, d, rows, shape, STORE);
        if (h.heads == 0) bench_product(b, "dt_proj", d, rank, rows, shape, SOFTPLUS);
        if (rows <= 128) bench_product(b, "head", 50280, h.d_model, rows, shape, STORE);
    }
    bench_product(b, "in_proj mma", 2 * d, h.d_model, 8192, LARGE, STORE);
    if (grouped) bench_product(b, "in_proj wgmma", 2 * d, h.d_model, 8192, GROUP, STORE);
    for (uint32_t count : {1u, 128u}) bench_mixer(b, h, count, 1);
    bench_mixer(b, h, 1, 8192);
    for (uint32_t rows = 4096; long_too && rows <= 65536; rows *= 2)
        bench_mixer(b, h, 16, rows); /* 2k to 32k, read twice */
}

int lethe_bench_gpu(int argc, char **argv)
{
    const char *only = "2.8b", *csv = NULL;
    uint32_t device = 0;
    bool long_too = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--long") == 0) long_too = true;
        else if (strcmp(argv[i], "--shape") == 0 && i + 1 < argc) only = argv[++i];
        else if (strcmp(argv[i], "--csv") == 0 && i + 1 < argc) csv = argv[++i];
        else if (strcmp(argv[i], "--device") == 0 && i + 1 < argc) device = (uint32_t)strtoul(argv[++i], NULL, 10);
        else {
            fprintf(stderr, "usage: lethe-bench %s\n", LETHE_BENCH_GPU_USAGE);
            return 2;
        }
    }
    Bench b = {};
    Agreement agreement = {};
    int major = 0;
    b.rounds = 10;
    if (!gpu_limits_measure(device, &b.limits)) {
        fprintf(stderr, "lethe-bench gpu: no usable GPU\n");
        return 1;
    }
    must(cudaStreamCreateWithFlags(&b.stream, cudaStreamNonBlocking), "stream");
    must(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, (int)device), "device");
    must(product_probe(b.stream, major == 9, &agreement), "trial");
    printf("copy %.0f GB/s read and written, matrix instruction %.0f TFLOP/s; shapes of product agree to the bit: %s, "
           "wgmma too: %s\n",
           b.limits.copy_bytes / 1e9, b.limits.matrix_flop / 1e12, agreement.same ? "yes" : "NO",
           agreement.group ? "yes" : "no");
    if (csv != NULL && (b.csv = fopen(csv, "w")) == NULL) return 1;
    if (b.csv != NULL) fputs("shape,kernel,rows,us,gb_s,share_of_copy,tflop_s,share_of_matrix\n", b.csv);
    for (const Shape &h : SHAPES)
        if (strcmp(only, "all") == 0 || strcmp(only, h.name) == 0) bench_shape(b, h, major == 9, long_too);
    if (b.csv != NULL) fclose(b.csv);
    return agreement.same ? 0 : 1;
}
