/* The portable kernels, and the choice at run time among them and those of simd_*.c. */
#include "elementwise.h"
#include "ssd.h"

#include <stdlib.h>

float kernel_exp(float x) { return exp_body(x); }

static void conv_portable(const mixer_io *io) { conv_body(io); }
static void scan_portable(const mixer_io *io) { scan_body(io); }
static void ssd_portable(const ssd_io *io) { ssd_body(io); }
static void rms_norm_portable(const float *x, const float *weight, size_t n, float eps, float *y)
{
    rms_norm_body(x, weight, n, eps, y);
}

static const kernels portable = {"portable", false, matmul_portable, conv_portable, scan_portable,
                                 rms_norm_portable, ssd_portable};

/* ---- choice ---------------------------------------------------------------------------------- */

size_t kernels_all(const kernels *out[KERNEL_PATHS])
{
    size_t n = 0;
    out[n++] = &portable;
#if defined(__x86_64__)
    __builtin_cpu_init();                  /* what has AVX2 has F16C too */
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        out[n++] = &kernels_avx2;
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
            out[n++] = &kernels_avx512;
            if (__builtin_cpu_supports("avx512bf16")) out[n++] = &kernels_avx512bf16;
        }
    }
#endif
    return n;
}

const kernels *kernels_pick(bool bf16_products)
{
    const kernels *all[KERNEL_PATHS];
    size_t n = kernels_all(all);
    const char *want = getenv("LETHE_KERNEL");
    for (size_t i = 0; want != NULL && i < n; i++)
        if (strcmp(all[i]->name, want) == 0) return all[i];
    while (all[n - 1]->bf16_products && !bf16_products) n--;
    return all[n - 1];
}
