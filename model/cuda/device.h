/* device: the instructions that the kernels use, each behind a small function, so that a build without a device can
 * stand in for them (tests/emulation). */
#ifndef LETHE_MODEL_CUDA_DEVICE_H
#define LETHE_MODEL_CUDA_DEVICE_H

#include "layout.h"

#include <cuda_runtime.h>
#include <math.h>

struct bf16 { uint16_t bits; };

#ifdef __CUDACC__

#define SHARED_MEMORY(name) extern __shared__ __align__(1024) unsigned char name[]

/* d (16 outputs, 8 rows) += a (16 outputs, 16 inputs) b (16 inputs, 8 rows). */
__device__ inline void tensor_multiply(float d[4], const uint4 &a, const uint2 &b)
{
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));
}

/* Four 8x8 blocks of 16 bits; lane l names row l%8 of block l/8, and gets of each block row l/4, columns 2(l%4), +1. */
__device__ inline uint4 load_blocks(const void *row)
{
    uint4 r;
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w) : "r"(at) : "memory");
    return r;
}

/* 16 bytes to shared memory, both 16-aligned; there after copy_wait and a barrier. */
__device__ inline void copy_16(void *shared, const void *global)
{
    const uint32_t to = (uint32_t)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(global) : "memory");
}

__device__ inline void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* All of this thread's groups but the last left. */
template <int left> __device__ inline void copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
}

/* What copy_16 brought is seen by group_multiply, after the next barrier. */
__device__ inline void copy_publish()
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

#define GROUP_4(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define GROUP_16(i) GROUP_4(i), GROUP_4(i + 1), GROUP_4(i + 2), GROUP_4(i + 3)

/* Four warps, first of them a multiple of four: d (64 outputs, 128 rows) += a x over 64 inputs. Each warp has 16 outputs, their
 * fragments a in registers; x stands in shared memory, 1024-aligned, rows of 128 bytes whose chunks of 16 are swapped by the
 * row's number in eights ("128-byte swizzle"). d and a are as tensor_multiply has them. It only begins: d, a and x are its own
 * until group_wait. sm_90 alone. */
__device__ inline void group_multiply(float (&d)[16][4], const uint4 (&a)[4], const unsigned char *x)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    /* Address / 16; the distance of eight rows, 1024 / 16; the swizzle. */
    const uint64_t start = (uint64_t)__cvta_generic_to_shared(x) / 16,
                   matrix = start | 1ull << 16 | 64ull << 32 | 1ull << 62;
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int s = 0; s < 4; s++)            /* 16 inputs are 32 bytes */
        asm volatile("{.reg .pred add; setp.ne.b32 add, 1, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,"
                     "%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,"
                     "%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, "
                     "{%64,%65,%66,%67}, %68, add, 1, 1, 0;}"
                     : GROUP_16(0), GROUP_16(4), GROUP_16(8), GROUP_16(12)
                     : "r"(a[s].x), "r"(a[s].y), "r"(a[s].z), "r"(a[s].w), "l"(matrix + 2 * s));
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#else
    __trap();
#endif
}

__device__ inline void group_wait()
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#endif
}

/* The next kernel may start; and: the one before has ended. What comes before grid_wait reads weights only. */
__device__ inline void grid_begin()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ inline void grid_wait()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* 2^x; rel <= 2^-22, results below 2^-126 are zero. */
__device__ inline float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ inline bf16 bf16_of(float x)
{
    bf16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}

#endif

__device__ inline float float_of(float x) { return x; }
__device__ inline float float_of(bf16 x) { return __uint_as_float((uint32_t)x.bits << 16); }
template <typename T> __device__ inline T value_of(float x);
template <> __device__ inline float value_of<float>(float x) { return x; }
template <> __device__ inline bf16 value_of<bf16>(float x) { return bf16_of(x); }

__device__ inline float silu(float x) { return __fdividef(x, 1.0f + exp2_fast(-1.44269504f * x)); }

/* max(x,0) + log(1+e^-|x|) as model/cpu/elementwise.h has it: a small step is as exact as a large one. */
__device__ inline float softplus(float x)
{
    const float v = exp2_fast(-1.44269504f * fabsf(x)), s = v / (2.0f + v), q = s * s;
    float p = 2.0f / 17.0f;
    p = fmaf(p, q, 2.0f / 15.0f);
    p = fmaf(p, q, 2.0f / 13.0f);
    p = fmaf(p, q, 2.0f / 11.0f);
    p = fmaf(p, q, 2.0f / 9.0f);
    p = fmaf(p, q, 2.0f / 7.0f);
    p = fmaf(p, q, 2.0f / 5.0f);
    p = fmaf(p, q, 2.0f / 3.0f);
    p = fmaf(p, q, 2.0f);
    return fmaf(p, s, x < 0.0f ? 0.0f : x);
}

/* The sum over the lanes of a warp whose numbers agree but for the bits below width, in each of them: a tree. */
__device__ inline float lanes_sum(float x, uint32_t width)
{
    for (uint32_t m = 1; m < width; m *= 2) x += __shfl_xor_sync(0xffffffffu, x, (int)m);
    return x;
}

#endif
