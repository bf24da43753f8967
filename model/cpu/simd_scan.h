/* The selective scan over vectors; included like simd_matmul.h, behind it, with v_add, v_sub, v_max and v_scale(p, n):
 * p times two to the power in n's low bits. The same operations as scan_body's, in the same order. */

enum { SCAN_VECTORS = 2, SCAN_CHANNELS = SCAN_VECTORS * WIDTH };

INLINE vec v_const(const float x) { return v_all(&x); }

INLINE vec FN(exp2)(vec x)
{
    vec c = v_max(v_const(-126.0f), x), shifted = v_add(c, v_const(12582912.0f));
    vec f = v_sub(c, v_sub(shifted, v_const(12582912.0f))), p = v_const(EXP2_6);
    p = v_fma(p, f, v_const(EXP2_5));
    p = v_fma(p, f, v_const(EXP2_4));
    p = v_fma(p, f, v_const(EXP2_3));
    p = v_fma(p, f, v_const(EXP2_2));
    p = v_fma(p, f, v_const(EXP2_1));
    p = v_fma(p, f, v_const(1.0f));
    return v_scale(p, shifted);
}

/* One row of SCAN_CHANNELS channels from c. dt after softplus, dtu = dt u; y the sums over the states. */
INLINE void FN(scan_states)(const mixer_io *io, size_t t, size_t c, const float *dt, const float *dtu, float *y)
{
    const float *b = io->bc + t * io->bc_stride, *out = b + io->d_state;
    vec d[SCAN_VECTORS], du[SCAN_VECTORS], sum[SCAN_VECTORS];
    for (int v = 0; v < SCAN_VECTORS; v++) {
        d[v] = v_load(dt + v * WIDTH);
        du[v] = v_load(dtu + v * WIDTH);
        sum[v] = v_zero();
    }
    for (size_t s = 0; s < io->d_state; s++) {
        float *h = io->ssm_state + s * io->d_inner + c;
        const float *a = io->a + s * io->d_inner + c;
        vec bs = v_all(b + s), cs = v_all(out + s);
        UNROLL
        for (int v = 0; v < SCAN_VECTORS; v++) {
            vec decay = FN(exp2)(v_mul(d[v], v_load(a + v * WIDTH)));
            vec next = v_fma(decay, v_load(h + v * WIDTH), v_mul(du[v], bs));
            v_store(h + v * WIDTH, next);
            sum[v] = v_fma(next, cs, sum[v]);
        }
    }
    for (int v = 0; v < SCAN_VECTORS; v++) v_store(y + v * WIDTH, sum[v]);
}

void FN(scan)(const mixer_io *io)
{
    size_t c = io->d0;
    for (; c + SCAN_CHANNELS <= io->d1; c += SCAN_CHANNELS)
        for (size_t t = 0; t < io->rows; t++) {
            float dt[SCAN_CHANNELS], dtu[SCAN_CHANNELS], y[SCAN_CHANNELS];
            scan_before(io, t, c, SCAN_CHANNELS, dt, dtu);
            FN(scan_states)(io, t, c, dt, dtu, y);
            scan_after(io, t, c, SCAN_CHANNELS, y);
        }
    mixer_io rest = *io;
    rest.d0 = c;
    scan_body(&rest);
}
