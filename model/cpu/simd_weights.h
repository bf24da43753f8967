/* The weights of a panel as vectors of floats. Included once for each path, behind simd_matmul.h's definitions. */

enum { VECTORS = PANEL / WIDTH, SCALES = GROUP * 2, Q8_GROUP = SCALES + GROUP * PANEL,
       Q4_GROUP = SCALES + GROUP * PANEL / 2 };

typedef struct { vec scale[VECTORS], offset[VECTORS]; } FN(scales);

/* 4 bits stand for 0..15, of which 8 is zero: u s - 8 s, rounded once, is (u - 8) s. */
INLINE void FN(scales_of)(const matrix_type type, const uint8_t *group, FN(scales) *s)
{
    for (int v = 0; v < VECTORS; v++) {
        s->scale[v] = v_halves(group + 2 * v * WIDTH);
        if (type == MATRIX_Q8) continue;
        s->offset[v] = v_mul(s->scale[v], v_all(&(float){-8.0f}));
        s->scale[v] = v_mul(s->scale[v], v_q4_unit(v));
    }
}

/* Vector v of input k of a panel (MATRIX_F32, MATRIX_BF16). */
INLINE vec FN(plain_weight)(const matrix_type type, const uint8_t *panel, size_t k, const int v)
{
    if (type == MATRIX_F32) return v_load((const float *)(const void *)(panel + k * PANEL * 4) + v * WIDTH);
    return v_bf16(panel + k * PANEL * 2, v);
}

/* Input k of a group; parity is k % 2, known when compiled. */
INLINE void FN(group_weights)(const matrix_type type, const uint8_t *group, size_t k, const int parity,
                              const FN(scales) *s, vec out[VECTORS])
{
    if (type == MATRIX_Q8) {
        for (int v = 0; v < VECTORS; v++) out[v] = v_mul(v_q8(group + SCALES + k * PANEL, v), s->scale[v]);
        return;
    }
    words all = v_words(group + SCALES + k / 2 * PANEL, parity);
    for (int v = 0; v < VECTORS; v++) out[v] = v_fma(v_q4(all, v), s->scale[v], s->offset[v]);
}
