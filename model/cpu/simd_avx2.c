/* The kernels with AVX2, FMA and F16C: tiles of 6 rows x 16 outputs are 12 sums of 16 registers, and two loads of
 * weights serve 12 multiply-adds. */
#include "elementwise.h"
#include "matmul_body.h"
#include "ssd.h"

#include <immintrin.h>

#define FN(name) CAT(name, avx2)
#define CAT(name, path) name##_##path
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

typedef __m256 vec;
enum { WIDTH = 8, TILE_ROWS = 6, ROW_PANELS = 1 };
#define TILE_CASES TILE_CASE(1) TILE_CASE(2) TILE_CASE(3) TILE_CASE(4) TILE_CASE(5) TILE_CASE(6)

INLINE vec v_zero(void) { return _mm256_setzero_ps(); }
INLINE vec v_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void v_store(float *p, vec v) { _mm256_storeu_ps(p, v); }
INLINE vec v_all(const float *p) { return _mm256_broadcast_ss(p); }
INLINE vec v_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vec v_add(vec a, vec b) { return _mm256_add_ps(a, b); }
INLINE vec v_sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
INLINE vec v_max(vec a, vec b) { return _mm256_max_ps(a, b); }
INLINE vec v_mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
INLINE vec v_scale(vec p, vec n)
{
    __m256i up = _mm256_slli_epi32(_mm256_castps_si256(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), up));
}
INLINE vec v_halves(const uint8_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)); }

INLINE vec v_bf16(const uint8_t *row, const int v)
{
    __m256i words = _mm256_loadu_si256((const __m256i *)(const void *)(row + v / 2 * 32));
    words = v % 2 ? _mm256_and_si256(words, _mm256_set1_epi32((int)0xffff0000u)) : _mm256_slli_epi32(words, 16);
    return _mm256_castsi256_ps(words);
}

INLINE vec v_q8(const uint8_t *row, const int v)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(row + v * 8))));
}

typedef __m256i words;
INLINE words v_words(const uint8_t *p, const int parity)
{
    words all = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return parity ? _mm256_srli_epi32(all, 16) : all;
}
/* Where they stand: 16^v times too large. */
INLINE vec v_q4(words all, const int v)
{
    return _mm256_cvtepi32_ps(_mm256_and_si256(all, _mm256_set1_epi32(15 << 4 * v)));
}
INLINE vec v_q4_unit(const int v) { return _mm256_set1_ps(1.0f / (float)(1 << 4 * v)); }

#include "simd_matmul.h"
#include "simd_scan.h"

void FN(conv)(const mixer_io *io) { conv_body(io); }
void FN(ssd)(const ssd_io *io) { ssd_body(io); }
void FN(rms_norm)(const float *x, const float *weight, size_t n, float eps, float *y)
{
    rms_norm_body(x, weight, n, eps, y);
}

const kernels FN(kernels) = {"avx2", false, FN(matmul), FN(conv), FN(scan), FN(rms_norm), FN(ssd)};
