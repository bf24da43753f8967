/* The kernels with AVX-512. */
#define FN(name) CAT(name, avx512)
#define CAT(name, path) name##_##path
#include "simd_avx512.h"
#include "ssd.h"

#include "simd_matmul.h"
#include "simd_scan.h"

void FN(conv)(const mixer_io *io) { conv_body(io); }
void FN(ssd)(const ssd_io *io) { ssd_body(io); }
void FN(rms_norm)(const float *x, const float *weight, size_t n, float eps, float *y)
{
    rms_norm_body(x, weight, n, eps, y);
}

const kernels FN(kernels) = {"avx512", false, FN(matmul), FN(conv), FN(scan), FN(rms_norm), FN(ssd)};
