/* Stands in for CUDA where there is no device, so that tests run the kernels of model/cuda as they are, on a CPU.
 *
 * A block's threads are coroutines. They stop where CUDA's would wait: at barriers and where a warp's lanes exchange
 * values. What real hardware makes likely here happens always:
 *   the order of blocks, and of threads between two barriers, is shuffled with each launch (a missing barrier shows)
 *   shared memory and what cudaMalloc gives is filled with 0xff, which is NaN (a read of what was never written shows)
 *   asynchronous copies happen when they are waited for, not before (a missing wait shows)
 *   a barrier that not all threads reach is a deadlock, which is told, and aborts
 * With AddressSanitizer each block's shared memory and each allocation has its own bounds.
 *
 * Not shown: the hardware's own arithmetic (tensor cores round otherwise; exponentials are approximate), its memory model,
 * coalescing, and whether ptxas agrees. */
#ifndef LETHE_EMULATED_CUDA_RUNTIME_H
#define LETHE_EMULATED_CUDA_RUNTIME_H

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)

struct dim3 {
    uint32_t x, y, z;
    dim3(uint32_t x_ = 1, uint32_t y_ = 1, uint32_t z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) uint2 { uint32_t x, y; };
struct alignas(16) uint4 { uint32_t x, y, z, w; };
static inline uint2 make_uint2(uint32_t x, uint32_t y) { return uint2{x, y}; }

/* ---- inside a kernel ---- */

extern dim3 threadIdx, blockIdx, blockDim, gridDim;        /* of the thread whose turn it is */

namespace emulation {
unsigned char *shared_memory();
void block_barrier();
float shuffle_xor(float x, int mask);
void tensor_multiply(float d[4], const uint4 &a, const uint2 &b);
uint4 load_blocks(const void *row);
void group_multiply(float (&d)[16][4], const uint4 (&a)[4], const unsigned char *x);
void copy_16(void *shared, const void *global);
void copy_commit();
void copy_wait(uint32_t left);
}

#define SHARED_MEMORY(name) unsigned char *name = emulation::shared_memory()

static inline void __syncthreads() { emulation::block_barrier(); }
static inline float __shfl_xor_sync(uint32_t, float x, int mask) { return emulation::shuffle_xor(x, mask); }
static inline float __fdividef(float x, float y) { return x / y; }
static inline float __uint_as_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

struct bf16;
static inline void tensor_multiply(float d[4], const uint4 &a, const uint2 &b) { emulation::tensor_multiply(d, a, b); }
static inline uint4 load_blocks(const void *row) { return emulation::load_blocks(row); }
static inline void copy_16(void *shared, const void *global) { emulation::copy_16(shared, global); }
static inline void copy_commit() { emulation::copy_commit(); }
template <int left> static inline void copy_wait() { emulation::copy_wait(left); }
static inline void copy_publish() {}
static inline void group_multiply(float (&d)[16][4], const uint4 (&a)[4], const unsigned char *x)
{
    emulation::group_multiply(d, a, x);
}
static inline void group_wait() {}
static inline void grid_begin() {}
static inline void grid_wait() {}
static inline float exp2_fast(float x) { return x < -126.0f ? 0.0f : exp2f(x); }
bf16 bf16_of(float x);

/* ---- the runtime's calls, as far as they are used ---- */

enum cudaError_t {
    cudaSuccess,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorNoDevice = 100,
    cudaErrorLaunchFailure = 719
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
enum cudaDeviceAttr { cudaDevAttrComputeCapabilityMajor = 75, cudaDevAttrComputeCapabilityMinor = 76 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed = 2 };
enum { cudaStreamNonBlocking = 1 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaLaunchAttributeID { cudaLaunchAttributeProgrammaticStreamSerialization = 6 };
struct cudaLaunchAttribute {
    cudaLaunchAttributeID id;
    struct { int programmaticStreamSerializationAllowed; } val;
};
typedef struct emulated_stream *cudaStream_t;
typedef struct emulated_graph *cudaGraph_t, *cudaGraphExec_t;
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute *attrs;
    unsigned numAttrs;
};

const char *cudaGetErrorString(cudaError_t r);
cudaError_t cudaGetLastError();
cudaError_t cudaDriverGetVersion(int *out);
cudaError_t cudaGetDeviceCount(int *out);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceGetAttribute(int *out, cudaDeviceAttr attribute, int device);
cudaError_t cudaMalloc(void **out, size_t size);
cudaError_t cudaFree(void *p);
cudaError_t cudaMallocHost(void **out, size_t size);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind, cudaStream_t s);
cudaError_t cudaMemsetAsync(void *to, int value, size_t size, cudaStream_t s);
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *out);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t s);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph);

namespace emulation {
/* On the stream, or into the graph that is being captured. */
cudaError_t submit(cudaStream_t s, const std::function<void()> &work);
void run_grid(const cudaLaunchConfig_t &c, const std::function<void()> &kernel);
cudaError_t allow_shared(const void *kernel, size_t size);
bool shared_allowed(const void *kernel, size_t size);
}

template <typename F> cudaError_t cudaFuncSetAttribute(F *kernel, cudaFuncAttribute, int value)
{
    return emulation::allow_shared((const void *)kernel, (size_t)value);
}

template <typename... E, typename... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(E...), A &&...args)
{
    const cudaLaunchConfig_t c = *config;
    const std::tuple<E...> kept(std::forward<A>(args)...);
    if (!emulation::shared_allowed((const void *)kernel, c.dynamicSmemBytes) || c.blockDim.x == 0 ||
        c.blockDim.x > 1024 || c.gridDim.x == 0 || c.gridDim.y == 0 || c.gridDim.y > 65535)
        return cudaErrorInvalidValue;
    return emulation::submit(c.stream, [c, kernel, kept] { emulation::run_grid(c, [&] { std::apply(kernel, kept); }); });
}

#endif
