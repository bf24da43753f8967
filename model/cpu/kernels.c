/* Three builds of the same arithmetic (see kernels.h) and the choice among them at run time. */
#include "elementwise.h"

#include <stdlib.h>

#if defined(__x86_64__)
#define AVX2 __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")))
#endif

float kernel_exp(float x) { return exp_body(x); }

static void conv_portable(const mixer_io *io) { conv_body(io); }
static void scan_portable(const mixer_io *io) { scan_body(io); }
static void rms_norm_portable(const float *x, const float *weight, size_t n, float eps, float *y)
{
    rms_norm_body(x, weight, n, eps, y);
}

static const kernels portable = {"portable", matmul_portable, conv_portable, scan_portable,
                                 rms_norm_portable};

#if defined(__x86_64__)
/* ---- AVX2 ------------------------------------------------------------------------------------ */

AVX2 static void conv_avx2(const mixer_io *io) { conv_body(io); }
AVX2 static void scan_avx2(const mixer_io *io) { scan_body(io); }
AVX2 static void rms_norm_avx2(const float *x, const float *weight, size_t n, float eps, float *y)
{
    rms_norm_body(x, weight, n, eps, y);
}

static const kernels avx2 = {"avx2", matmul_avx2, conv_avx2, scan_avx2, rms_norm_avx2};

/* ---- AVX-512 --------------------------------------------------------------------------------- */

AVX512 static void conv_avx512(const mixer_io *io) { conv_body(io); }
AVX512 static void scan_avx512(const mixer_io *io) { scan_body(io); }
AVX512 static void rms_norm_avx512(const float *x, const float *weight, size_t n, float eps,
                                   float *y)
{
    rms_norm_body(x, weight, n, eps, y);
}

static const kernels avx512 = {"avx512", matmul_avx512, conv_avx512, scan_avx512, rms_norm_avx512};
#endif

/* ---- choice ---------------------------------------------------------------------------------- */

size_t kernels_all(const kernels *out[3])
{
    size_t n = 0;
    out[n++] = &portable;
#if defined(__x86_64__)
    __builtin_cpu_init();                  /* what has AVX2 has F16C too */
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        out[n++] = &avx2;
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
            out[n++] = &avx512;
    }
#endif
    return n;
}

const kernels *kernels_pick(void)
{
    const kernels *all[3];
    size_t n = kernels_all(all);
    const char *want = getenv("LETHE_KERNEL");
    for (size_t i = 0; want != NULL && i < n; i++)
        if (strcmp(all[i]->name, want) == 0) return all[i];
    return all[n - 1];
}
