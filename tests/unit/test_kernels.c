/* The kernels of model/cpu: against the float64 reference, and bit against bit among the
 * instruction sets and the numbers of rows. */
#include "model/cpu/kernels.h"
#include "model/cpu/reference.h"
#include "test.h"
#include "tests/golden/weights_gen.h"

#include <math.h>

/* count values uniform in center +- scale. */
static float *fill(const char *name, size_t count, float center, float scale)
{
    float *v = mem_alloc_array(count, sizeof *v);
    for (size_t i = 0; i < count; i++)
        v[i] = gen_value(gen_key(7, name), i, center, scale, GEN_F32);
    return v;
}

static double *widen(const float *v, size_t count)
{
    double *w = mem_alloc_array(count, sizeof *w);
    for (size_t i = 0; i < count; i++) w[i] = (double)v[i];
    return w;
}

static float *copy(const float *v, size_t count)
{
    float *c = mem_alloc_array(count, sizeof *c);
    memcpy(c, v, count * sizeof *c);
    return c;
}

/* (out,in) row-major to panels. */
static void *pack(matrix_type type, const float *w, size_t out, size_t in)
{
    size_t size = panel_bytes(type, in);
    uint8_t *p = aligned_alloc(64, (size + 63) / 64 * 64 * (panel_pad(out) / PANEL) + 64);
    for (size_t o = 0; o < out; o += PANEL)
        panel_pack(type, w + o * in, out - o < PANEL ? out - o : PANEL, in, p + o / PANEL * size);
    return p;
}

static double worst(const float *a, const double *b, size_t rows, size_t stride, size_t n)
{
    double difference = 0, most = 0;
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++) {
            difference = fmax(difference, fabs((double)a[r * stride + i] - b[r * n + i]));
            most = fmax(most, fabs(b[r * n + i]));
        }
    return difference / most;
}

static void exp_is_accurate(void)
{
    double most = 0;
    for (int i = -86000; i <= 86000; i++) {
        float x = (float)i * 1e-3f;
        most = fmax(most, fabs((double)kernel_exp(x) / exp((double)x) - 1));
    }
    printf("# exp: largest relative error %.3g\n", most);
    CHECK(most <= 2.5e-7);
    CHECK(isnan(kernel_exp(NAN)));
    CHECK(kernel_exp(-INFINITY) < 1e-37f && kernel_exp(-INFINITY) >= 0);
    CHECK(isfinite(kernel_exp(INFINITY)) && kernel_exp(0) == 1.0f);
}

static void check_matmul(matrix_type type, size_t out, size_t in, bool with_bias)
{
    enum { ROWS = 64 };
    const kernels *all[KERNEL_PATHS];
    size_t paths = kernels_all(all), wide = panel_pad(out);
    float *w = fill("w", out * in, 0, 1), *x = fill("x", ROWS * in, 0, 1);
    float *bias = mem_alloc_array(wide, sizeof *bias);
    void *packed = pack(type, w, out, in);
    matrix m = {.out = (uint32_t)out, .in = (uint32_t)in, .type = type, .w = packed, .bias = with_bias ? bias : NULL};
    for (uint32_t o = 0; o < out; o++) matrix_output(&m, o, w + o * in);   /* what is held of them */
    for (size_t i = 0; i < out; i++) bias[i] = w[i];
    double *dw = widen(w, out * in), *dx = widen(x, ROWS * in), *db = widen(bias, out);
    double *want = mem_alloc_array(ROWS * out, sizeof *want);
    float *first = mem_alloc_array(ROWS * wide, sizeof *first);
    float *y = mem_alloc_array(ROWS * wide, sizeof *y), *room = mem_alloc_array(matmul_room(ROWS, in), sizeof *room);
    reference_matmul(dw, with_bias ? db : NULL, out, in, dx, ROWS, want);
    for (size_t p = 0; p < paths; p++) {
        bool own_bits = all[p]->bf16_products && type != MATRIX_F32;
        if (p == 0 || own_bits) {
            matmul_io io = {.x = x, .x_stride = in, .rows = ROWS, .y = first, .y_stride = wide, .room = room};
            all[p]->matmul(&m, 0, matrix_panels(&m), &io);
        }
        CHECK(worst(first, want, ROWS, wide, out) <= (own_bits ? 8e-3 : 4e-6));
        for (size_t rows = 1; rows <= ROWS; rows = rows < 19 ? rows + 1 : rows + 15) {
            memset(y, 0, ROWS * wide * sizeof *y);
            matmul_io io = {.x = x, .x_stride = in, .rows = rows, .y = y, .y_stride = wide, .room = room};
            all[p]->matmul(&m, 0, matrix_panels(&m), &io);
            CHECK(memcmp(y, first, rows * wide * sizeof *y) == 0);
        }
    }
    /* Cut to the exact width: the same values, nothing past them. The widest path was the last. */
    float *exact = mem_alloc_array(ROWS * out, sizeof *exact);
    matmul_io io = {.x = x, .x_stride = in, .rows = ROWS, .y = exact, .y_stride = out, .exact_width = true, .room = room};
    all[paths - 1]->matmul(&m, 0, matrix_panels(&m), &io);
    for (size_t r = 0; r < ROWS; r++)
        CHECK(memcmp(exact + r * out, first + r * wide, out * sizeof *exact) == 0);
    io.add = true;
    all[paths - 1]->matmul(&m, 0, matrix_panels(&m), &io);
    CHECK(exact[out - 1] == first[out - 1] + first[out - 1]);
    free(packed);
    void *free_all[] = {w, x, bias, dw, dx, db, want, first, y, room, exact};
    for (size_t i = 0; i < sizeof free_all / sizeof free_all[0]; i++) mem_free(free_all[i]);
}

static void matmul_matches_and_is_invariant(void)
{
    for (matrix_type type = MATRIX_F32; type <= MATRIX_Q4; type++) {
        check_matmul(type, 1, 1, true);
        check_matmul(type, 32, 64, false);
        check_matmul(type, 80, 1536, false);
        check_matmul(type, 300, 48, true);
        check_matmul(type, 97, 131, true);
    }
}

/* How far what is held is from what was given: half a step, and a half scale's rounding. */
static void packing_keeps_what_its_type_can(void)
{
    enum { OUT = 70, IN = 100 };
    static const double NEAR[] = {[MATRIX_F32] = 0, [MATRIX_BF16] = 1.0 / 256, [MATRIX_Q8] = 0.6 / 127,
                                  [MATRIX_Q4] = 1.1 / 8};
    for (matrix_type type = MATRIX_F32; type <= MATRIX_Q4; type++) {
        float *w = fill("w", OUT * IN, 0.1f, 1), held[IN], all[PANEL * IN];
        memset(w + 5 * IN, 0, IN * sizeof *w);                  /* a row of zeros, and one with one large value */
        w[6 * IN + 40] = -30;
        void *packed = pack(type, w, OUT, IN);
        matrix m = {.out = OUT, .in = IN, .type = type, .w = packed};
        for (uint32_t o = 0; o < OUT; o++) {
            matrix_output(&m, o, held);
            for (size_t k = 0; k < IN; k++) {
                double most = 0;
                for (size_t i = k / GROUP * GROUP; i < IN && i < (k / GROUP + 1) * GROUP; i++)
                    most = fmax(most, fabs((double)w[o * IN + i]));
                CHECK(fabs((double)held[k] - (double)w[o * IN + k]) <= NEAR[type] * most);
            }
            panel_unpack(&m, o / PANEL, 0, IN, all);
            for (size_t k = 0; k < IN; k++) CHECK(all[k * PANEL + o % PANEL] == held[k]);
        }
        CHECK(all[6] == all[6] && all[PANEL - 1] == 0);         /* past the last output */
        free(packed);
        mem_free(w);
    }
}

/* Every half goes there and back; what lies between two goes to the nearer, a tie to the even one. */
static void halves_convert(void)
{
    for (uint32_t h = 0; h < 0x10000u; h++) {
        float x = half_to_float((uint16_t)h);
        if ((h & 0x7c00u) == 0x7c00u && (h & 1023u) != 0) CHECK(isnan(x) && half_from_float(x) == 0x7e00u);
        else CHECK(half_from_float(x) == h);
    }
    for (uint32_t h = 0; h < 0x7bffu; h++) {
        float low = half_to_float((uint16_t)h), high = half_to_float((uint16_t)(h + 1)), middle = (low + high) / 2;
        CHECK(half_from_float(middle) == h + h % 2);
        CHECK(half_from_float(nextafterf(middle, 0)) == h && half_from_float(nextafterf(middle, high)) == h + 1);
    }
    CHECK(half_to_float(0x3c00) == 1.0f && half_to_float(0x7bff) == 65504.0f && half_from_float(65520.0f) == 0x7c00u &&
          half_from_float(65519.0f) == 0x7bffu);
}

static void rms_norm_matches(void)
{
    const kernels *all[KERNEL_PATHS];
    size_t paths = kernels_all(all);
    for (size_t n = 1; n < 200; n = n * 2 + 3) {
        float *x = fill("x", n, 0.5f, 3), *w = fill("w", n, 1, 0.5f), y[400], first[400];
        double *dx = widen(x, n), *dw = widen(w, n), want[400];
        reference_rms_norm(dx, dw, n, 1e-5, want);
        for (size_t p = 0; p < paths; p++) {
            all[p]->rms_norm(x, w, n, 1e-5f, y);
            if (p == 0) memcpy(first, y, sizeof y);
            CHECK(worst(y, want, 1, n, n) <= 1e-6);
            CHECK(memcmp(y, first, n * sizeof *y) == 0);
        }
        mem_free(x);
        mem_free(w);
        mem_free(dx);
        mem_free(dw);
    }
}

/* One sequence's mixer for given sizes: conv and scan over T rows. */
typedef struct { size_t rows, d, k, n, stride; float *x, *z, *dt, *bc, *cw, *cb, *alog, *a, *skip; }
    mixer_case;

static void mixer_run(const kernels *path, const mixer_case *c, size_t chunk, float *u)
{
    float *state = mem_alloc_array(c->d * (c->k - 1 + c->n), sizeof *state);
    for (size_t at = 0; at < c->rows; at += chunk) {
        size_t rows = c->rows - at < chunk ? c->rows - at : chunk;
        /* Two ranges of channels, as two threads would take them. */
        for (size_t half = 0; half < 2; half++) {
            size_t cut = c->d / 2;
            mixer_io io = {.rows = rows, .stride = c->stride, .d0 = half ? cut : 0,
                           .d1 = half ? c->d : cut, .d_inner = c->d, .d_conv = c->k,
                           .d_state = c->n, .x = c->x + at * c->stride, .z = c->z + at * c->stride,
                           .u = u + at * c->stride, .dt = c->dt + at * c->stride,
                           .bc = c->bc + at * 2 * c->n, .bc_stride = 2 * c->n, .conv_w = c->cw,
                           .conv_b = c->cb, .a = c->a, .d = c->skip, .conv_state = state,
                           .ssm_state = state + c->d * (c->k - 1)};
            path->conv(&io);
            path->scan(&io);
        }
    }
    mem_free(state);
}

static double *unpad(const float *v, size_t rows, size_t stride, size_t n)
{
    double *w = mem_alloc_array(rows * n, sizeof *w);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++) w[r * n + i] = (double)v[r * stride + i];
    return w;
}

static double *transposed(const float *v, size_t rows, size_t columns)
{
    double *w = mem_alloc_array(rows * columns, sizeof *w);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < columns; i++) w[i * rows + r] = (double)v[r * columns + i];
    return w;
}

static void mixer_reference(const mixer_case *c, double *y)
{
    double *x = unpad(c->x, c->rows, c->stride, c->d), *z = unpad(c->z, c->rows, c->stride, c->d);
    double *dt = unpad(c->dt, c->rows, c->stride, c->d), *bc = widen(c->bc, c->rows * 2 * c->n);
    double *cw = transposed(c->cw, c->k, c->d), *cb = widen(c->cb, c->d);
    double *alog = transposed(c->alog, c->n, c->d), *skip = widen(c->skip, c->d);
    double *u = mem_alloc_array(c->rows * c->d, sizeof *u);
    reference_conv(x, cw, cb, c->rows, c->d, c->k, u);
    reference_scan(u, dt, z, bc, alog, skip, c->rows, c->d, c->n, y);
    void *free_all[] = {x, z, dt, bc, cw, cb, alog, skip, u};
    for (size_t i = 0; i < sizeof free_all / sizeof free_all[0]; i++) mem_free(free_all[i]);
}

static void check_mixer(size_t rows, size_t d, size_t k, size_t n)
{
    size_t s = panel_pad(d);
    mixer_case c = {rows, d, k, n, s, fill("x", rows * s, 0, 2), fill("z", rows * s, 0, 3),
                    fill("dt", rows * s, -2, 4), fill("bc", rows * 2 * n, 0, 2),
                    fill("cw", k * d, 0, 1), fill("cb", d, 0, 1), fill("al", n * d, 1.375f, 1.375f),
                    NULL, fill("d", d, 1, 1)};
    c.a = copy(c.alog, n * d);
    for (size_t i = 0; i < n * d; i++) c.a[i] = (float)(-exp((double)c.alog[i]) * 1.4426950408889634);
    double *want = mem_alloc_array(rows * d, sizeof *want);
    float *first = mem_alloc_array(rows * s, sizeof *first);
    float *u = mem_alloc_array(rows * s, sizeof *u);
    mixer_reference(&c, want);
    const kernels *all[KERNEL_PATHS];
    size_t paths = kernels_all(all);
    for (size_t p = 0; p < paths; p++)
        for (size_t chunk = rows; chunk > 0; chunk /= 3) {
            memset(u, 0, rows * s * sizeof *u);
            mixer_run(all[p], &c, chunk, u);
            if (p == 0 && chunk == rows) memcpy(first, u, rows * s * sizeof *u);
            CHECK(worst(u, want, rows, s, d) <= 1e-5);
            CHECK(memcmp(u, first, rows * s * sizeof *u) == 0);
        }
    void *free_all[] = {c.x, c.z, c.dt, c.bc, c.cw, c.cb, c.alog, c.a, c.skip, want, first, u};
    for (size_t i = 0; i < sizeof free_all / sizeof free_all[0]; i++) mem_free(free_all[i]);
}

static void mixer_matches_and_is_invariant(void)
{
    check_mixer(1, 2, 2, 1);
    check_mixer(29, 64, 4, 16);
    check_mixer(50, 181, 3, 5);
    check_mixer(17, 250, 8, 33);
}

/* One sequence's state space of Mamba-2: T rows in pieces, the heads in two ranges. */
typedef struct { model_config sizes; size_t rows, stride; float *x, *z, *dt, *alog, *a, *skip; } ssd_case;

static void ssd_run(const kernels *path, const ssd_case *c, size_t chunk, float *u)
{
    const model_config *s = &c->sizes;
    float *state = mem_alloc_array((size_t)s->d_inner * s->d_state, sizeof *state);
    memcpy(u, c->x, c->rows * c->stride * sizeof *u);
    for (size_t at = 0; at < c->rows; at += chunk)
        for (size_t half = 0; half < 2; half++) {
            size_t cut = s->heads / 2;
            float *row = u + at * c->stride;
            ssd_io io = {.rows = c->rows - at < chunk ? c->rows - at : chunk, .h0 = half ? cut : 0,
                         .h1 = half ? s->heads : cut, .head_dim = s->head_dim, .d_state = s->d_state,
                         .group_heads = s->heads / s->groups, .x = row, .b = row + s->d_inner,
                         .c = row + s->d_inner + s->groups * s->d_state, .stride = c->stride,
                         .z = c->z + at * s->d_inner, .z_stride = s->d_inner, .dt = c->dt + at * s->heads,
                         .dt_stride = s->heads, .dt_min = s->dt_min, .dt_max = s->dt_max, .a = c->a, .d = c->skip,
                         .state = state};
            path->ssd(&io);
        }
    mem_free(state);
}

static void ssd_reference(const ssd_case *c, double *y)
{
    const size_t d = c->sizes.d_inner, gn = (size_t)c->sizes.groups * c->sizes.d_state, heads = c->sizes.heads;
    double *x = unpad(c->x, c->rows, c->stride, d), *b = unpad(c->x + d, c->rows, c->stride, gn);
    double *cc = unpad(c->x + d + gn, c->rows, c->stride, gn), *z = widen(c->z, c->rows * d);
    double *dt = widen(c->dt, c->rows * heads), *alog = widen(c->alog, heads), *skip = widen(c->skip, heads);
    reference_ssd(&c->sizes, x, b, cc, dt, z, alog, skip, c->rows, y);
    void *free_all[] = {x, b, cc, z, dt, alog, skip};
    for (size_t i = 0; i < sizeof free_all / sizeof free_all[0]; i++) mem_free(free_all[i]);
}

static void check_ssd(size_t rows, uint32_t heads, uint32_t p, uint32_t n, uint32_t groups, float dt_min, float dt_max)
{
    ssd_case c = {.sizes = {.heads = heads, .head_dim = p, .d_inner = heads * p, .d_state = n, .groups = groups,
                            .dt_min = dt_min, .dt_max = dt_max}, .rows = rows};
    const size_t d = c.sizes.d_inner, s = c.stride = panel_pad(config_conv_channels(&c.sizes));
    c.x = fill("x", rows * s, 0, 2);
    c.z = fill("z", rows * d, 0, 3);
    c.dt = fill("dt", rows * heads, -2, 4);
    c.alog = fill("al", heads, 1.375f, 1.375f);
    c.a = copy(c.alog, heads);
    for (size_t i = 0; i < heads; i++) c.a[i] = -expf(c.alog[i]);
    c.skip = fill("d", heads, 1, 1);
    double *want = mem_alloc_array(rows * d, sizeof *want);
    float *first = mem_alloc_array(rows * s, sizeof *first), *u = mem_alloc_array(rows * s, sizeof *u);
    ssd_reference(&c, want);
    const kernels *all[KERNEL_PATHS];
    size_t paths = kernels_all(all);
    for (size_t i = 0; i < paths; i++)
        for (size_t chunk = rows; chunk > 0; chunk /= 3) {
            ssd_run(all[i], &c, chunk, u);
            if (i == 0 && chunk == rows) memcpy(first, u, rows * s * sizeof *u);
            CHECK(worst(u, want, rows, s, d) <= 1e-5);
            CHECK(memcmp(u, first, rows * s * sizeof *u) == 0);
        }
    void *free_all[] = {c.x, c.z, c.dt, c.alog, c.a, c.skip, want, first, u};
    for (size_t i = 0; i < sizeof free_all / sizeof free_all[0]; i++) mem_free(free_all[i]);
}

static void ssd_matches_and_is_invariant(void)
{
    check_ssd(1, 1, 1, 1, 1, 0, INFINITY);
    check_ssd(29, 4, 64, 16, 1, 0, INFINITY);
    check_ssd(50, 12, 12, 20, 2, 0.03125f, 0.5f);
    check_ssd(130, 6, 70, 33, 3, 0, INFINITY);
    check_ssd(17, 3, 128, 128, 3, 0, 0.1f);
}

int main(void)
{
    RUN(exp_is_accurate);
    RUN(halves_convert);
    RUN(packing_keeps_what_its_type_can);
    RUN(matmul_matches_and_is_invariant);
    RUN(rms_norm_matches);
    RUN(mixer_matches_and_is_invariant);
    RUN(ssd_matches_and_is_invariant);
    return DONE();
}
