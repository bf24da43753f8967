/* Rows x 2 vectors of sums in registers. Included once for each path, behind simd_matmul.h's definitions and
 *   v_step(x, w, sum)               one step of the chain: v_fma, or two inputs at once */

enum { TILE_VECTORS = 2 };

INLINE void FN(tile_of)(const float *w, size_t count, const float *x, size_t x_stride, float *sums, bool first,
                        const int rows)
{
    for (size_t half = 0; half < PANEL; half += TILE_VECTORS * WIDTH) {
        vec acc[TILE_ROWS][TILE_VECTORS];
        UNROLL
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < TILE_VECTORS; v++)
                acc[r][v] = first ? v_zero() : v_load(sums + r * PANEL + half + v * WIDTH);
        const float *wk = w + half;
        _Pragma("GCC unroll 4")
        for (size_t k = 0; k < count; k++, wk += PANEL) {
            vec w0 = v_load(wk), w1 = v_load(wk + WIDTH);
            UNROLL
            for (int r = 0; r < rows; r++) {
                vec xk = v_all(x + (size_t)r * x_stride + k);
                acc[r][0] = v_step(xk, w0, acc[r][0]);
                acc[r][1] = v_step(xk, w1, acc[r][1]);
            }
        }
        UNROLL
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < TILE_VECTORS; v++) v_store(sums + r * PANEL + half + v * WIDTH, acc[r][v]);
    }
}

#define TILE_CASE(n) case n: FN(tile_of)(w, count, x, x_stride, sums, first, n); break;

static void FN(tile)(const float *w, size_t count, const float *x, size_t x_stride, float *sums, bool first,
                     size_t rows)
{
    switch (rows) {
    TILE_CASES
    default: ASSERT(false);
    }
}
