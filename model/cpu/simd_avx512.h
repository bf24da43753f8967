/* Vectors of 16 floats, for simd_matmul.h and simd_scan.h: what the AVX-512 paths share. Tiles of 12 rows x 32 outputs are
 * 24 sums of 32 registers. */
#include "elementwise.h"
#include "matmul_body.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef __m512 vec;
enum { WIDTH = 16, TILE_ROWS = 12, ROW_PANELS = 2 };
#define TILE_CASES \
    TILE_CASE(1) TILE_CASE(2) TILE_CASE(3) TILE_CASE(4) TILE_CASE(5) TILE_CASE(6) TILE_CASE(7) TILE_CASE(8) \
    TILE_CASE(9) TILE_CASE(10) TILE_CASE(11) TILE_CASE(12)

INLINE vec v_zero(void) { return _mm512_setzero_ps(); }
INLINE vec v_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void v_store(float *p, vec v) { _mm512_storeu_ps(p, v); }
INLINE vec v_all(const float *p) { return _mm512_set1_ps(*p); }
INLINE vec v_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vec v_add(vec a, vec b) { return _mm512_add_ps(a, b); }
INLINE vec v_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
INLINE vec v_max(vec a, vec b) { return _mm512_max_ps(a, b); }
INLINE vec v_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
INLINE vec v_scale(vec p, vec n)
{
    __m512i up = _mm512_slli_epi32(_mm512_castps_si512(n), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), up));
}
INLINE vec v_halves(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p)); }

/* The same 8 words in both halves, of which each takes its own bits. */
INLINE __m512i twice(const uint8_t *p)
{
    return _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

INLINE __m512i by_halves(int low, int high)
{
    return _mm512_inserti64x4(_mm512_set1_epi32(low), _mm256_set1_epi32(high), 1);
}

INLINE vec v_bf16(const uint8_t *row, const int v)
{
    __m512i words = _mm512_sllv_epi32(twice(row + v * 32), by_halves(16, 0));
    return _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32((int)0xffff0000u)));
}

INLINE vec v_q8(const uint8_t *row, const int v)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(row + v * 16))));
}

typedef __m512i words;
INLINE words v_words(const uint8_t *p, const int parity)
{
    words all = twice(p);
    return parity ? _mm512_srli_epi32(all, 16) : all;
}
/* Where they stand: 16^(2v) times too large in the lower half, 16^(2v+1) in the upper. */
INLINE vec v_q4(words all, const int v)
{
    return _mm512_cvtepi32_ps(_mm512_and_si512(all, by_halves(15 << 8 * v, 240 << 8 * v)));
}
INLINE vec v_q4_unit(const int v)
{
    float unit = 1.0f / (float)(1 << 8 * v);
    __m512i bits = _mm512_castps_si512(_mm512_set1_ps(unit));
    return _mm512_castsi512_ps(_mm512_inserti64x4(bits, _mm256_castps_si256(_mm256_set1_ps(unit / 16)), 1));
}
