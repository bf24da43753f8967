/* The parts of a Mamba mixer that are no matrix product, forward and backward, for training on a CPU. Built and called
 * by generator_model.py; no part of the product.
 *
 * Activations are bfloat16, (B,T,D) with D a multiple of 16; sums and states are float32. The decay of state n is
 * exp(-(n+1) dt) (S4D-real, kept as it starts), so one exponential a channel gives all N by multiplying.
 *
 *   conv:  u = silu(bias + sum_k w[k] x[t-K+1+k])
 *   scan:  dt = softplus(raw + dt_bias); h[n] = exp(-(n+1) dt) h[n] + dt u B[t,n]
 *          out = (sum_n h[n] C[t,n] + skip u) silu(z)
 *
 * Source: Mamba, Algorithm 2. The backward pass keeps h at the start of every CHUNK steps and computes the rest again,
 * as the paper does. Error: relative 1e-2 of bfloat16; 1e-5 against the plain recurrence on the same rounded inputs. */
#include <stdint.h>
#include <string.h>

enum { LANES = 16, CHUNK = 32, STATES_MAX = 64, TAPS_MAX = 8 };

typedef float vec __attribute__((vector_size(64)));
typedef int32_t ints __attribute__((vector_size(64)));
typedef uint32_t words __attribute__((vector_size(64)));
typedef uint16_t halves __attribute__((vector_size(32), aligned(2)));
typedef float loose __attribute__((vector_size(64), aligned(4)));
typedef uint16_t bf16;

#define INLINED static inline __attribute__((always_inline))

static inline vec load(const bf16 *p)
{
    return (vec)(__builtin_convertvector(*(const halves *)p, words) << 16);
}

static inline void store(bf16 *p, vec v)
{
    words w = (words)v;
    *(halves *)p = __builtin_convertvector((w + 0x7FFF + ((w >> 16) & 1)) >> 16, halves);
}

static inline vec load_f(const float *p) { return *(const loose *)p; }
static inline void store_f(float *p, vec v) { *(loose *)p = v; }

static inline vec choose(ints mask, vec yes, vec no)
{
    return (vec)((mask & (ints)yes) | (~mask & (ints)no));
}

/* Cephes' expf: relative error below 2e-7 within [-87, 87], clamped outside. */
static inline vec vexp(vec x)
{
    x = choose(x < -87.0f, (vec){0} - 87.0f, x);
    x = choose(x > 87.0f, (vec){0} + 87.0f, x);
    vec shifted = x * 1.44269504f + 12582912.0f;           /* rounds to the nearest whole number */
    vec n = shifted - 12582912.0f;
    vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = (vec){0} + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return (vec)((ints)p + (__builtin_convertvector(n, ints) << 23));
}

/* log(1 + e) for e in [0, 1]: 2 artanh(e / (2 + e)), whose argument is at most 1/3. */
static inline vec log1p_unit(vec e)
{
    vec s = e / (e + 2.0f), q = s * s;
    vec p = (vec){0} + 1.0f / 13;
    p = p * q + 1.0f / 11;
    p = p * q + 1.0f / 9;
    p = p * q + 1.0f / 7;
    p = p * q + 1.0f / 5;
    p = p * q + 1.0f / 3;
    p = p * q + 1.0f;
    return 2.0f * s * p;
}

static inline vec sigmoid(vec x) { return 1.0f / (1.0f + vexp(-x)); }

static inline vec softplus(vec x)
{
    vec away = choose(x > 0.0f, -x, x);
    return choose(x > 0.0f, x, (vec){0}) + log1p_unit(vexp(away));
}

static inline float sum(vec v)
{
    float s = 0;
    for (int i = 0; i < LANES; i++) s += v[i];
    return s;
}

/* ---- convolution ------------------------------------------------------------------------------ */

/* w: (K,D), taps of the past first. */
static inline vec conv_at(const bf16 *x, const float *w, const float *bias, int t, int d, int D, int K)
{
    vec a = load_f(bias + d);
    for (int k = 0; k < K; k++) {
        int s = t - K + 1 + k;
        if (s >= 0) a += load_f(w + k * D + d) * load(x + (size_t)s * D + d);
    }
    return a;
}

void conv_forward(const bf16 *x, const float *w, const float *bias, bf16 *u, int B, int T, int D, int K)
{
    #pragma omp parallel for
    for (int b = 0; b < B; b++) {
        const bf16 *xb = x + (size_t)b * T * D;
        bf16 *ub = u + (size_t)b * T * D;
        for (int t = 0; t < T; t++)
            for (int d = 0; d < D; d += LANES) {
                vec a = conv_at(xb, w, bias, t, d, D, K);
                store(ub + (size_t)t * D + d, a * sigmoid(a));
            }
    }
}

/* dw (K,D) and dbias (D) are added to: of the caller, zeroed. */
void conv_backward(const bf16 *x, const float *w, const float *bias, const bf16 *du, bf16 *dx, float *dw, float *dbias,
                   int B, int T, int D, int K)
{
    #pragma omp parallel for
    for (int d = 0; d < D; d += LANES) {
        vec sw[TAPS_MAX], sb = {0};
        memset(sw, 0, sizeof sw);
        for (int b = 0; b < B; b++) {
            const bf16 *xb = x + (size_t)b * T * D, *db = du + (size_t)b * T * D;
            vec later[TAPS_MAX];                           /* the slopes at t, t+1, ... */
            memset(later, 0, sizeof later);
            for (int t = T - 1; t >= 0; t--) {
                vec a = conv_at(xb, w, bias, t, d, D, K), s = sigmoid(a);
                vec g = load(db + (size_t)t * D + d) * s * (1.0f + a * (1.0f - s));
                for (int k = K - 1; k > 0; k--) later[k] = later[k - 1];
                later[0] = g;
                vec dxt = {0};
                for (int k = 0; k < K; k++) {
                    dxt += load_f(w + (K - 1 - k) * D + d) * later[k];
                    int s0 = t - K + 1 + k;
                    if (s0 >= 0) sw[k] += g * load(xb + (size_t)s0 * D + d);
                }
                sb += g;
                store(dx + (size_t)b * T * D + (size_t)t * D + d, dxt);
            }
        }
        for (int k = 0; k < K; k++) store_f(dw + k * D + d, load_f(dw + k * D + d) + sw[k]);
        store_f(dbias + d, load_f(dbias + d) + sb);
    }
}

/* ---- scan ------------------------------------------------------------------------------------- */

typedef struct {
    const bf16 *u, *raw, *z, *bc;       /* (B,T,D) three times; bc (B,T,2N): B then C */
    const float *dt_bias, *skip;        /* (D) */
    int B, T, D, N;
} scan_input;

static size_t chunks_of(int T) { return ((size_t)T + CHUNK - 1) / CHUNK; }

static inline void widen(const bf16 *bc, float *out, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t w = (uint32_t)bc[i] << 16;
        memcpy(out + i, &w, 4);
    }
}

/* One step of LANES channels; h (N) is updated. -> sum_n h C */
INLINED vec step(vec *h, vec p, vec x, const float *b, const float *c, int N)
{
    vec y0 = {0}, y1 = {0}, p2 = p * p, odd = p, even = p2;
    for (int n = 0; n < N; n += 2) {
        h[n] = odd * h[n] + x * b[n];
        y0 += h[n] * c[n];
        h[n + 1] = even * h[n + 1] + x * b[n + 1];
        y1 += h[n + 1] * c[n + 1];
        odd *= p2;
        even *= p2;
    }
    return y0 + y1;
}

/* states: (B, chunks, D/16, N, 16), h at the start of each chunk; work: (B,D,N), the caller's. N even. */
INLINED void forward_one(const scan_input *in, bf16 *out, float *states, float *work, int b, int N)
{
    const int T = in->T, D = in->D, blocks = D / LANES;
    size_t base = (size_t)b * T * D;
    float bc[CHUNK][2 * STATES_MAX];
    vec *h = (vec *)(work + (size_t)b * D * N);
    memset(h, 0, sizeof(vec) * (size_t)blocks * N);
    for (int t0 = 0; t0 < T; t0 += CHUNK) {
        int t1 = t0 + CHUNK < T ? t0 + CHUNK : T;
        memcpy(states + ((size_t)b * chunks_of(T) + t0 / CHUNK) * D * N, h, sizeof(float) * (size_t)D * N);
        for (int t = t0; t < t1; t++) widen(in->bc + ((size_t)b * T + t) * 2 * N, bc[t - t0], 2 * N);
        for (int k = 0; k < blocks; k++) {
            int d = k * LANES;
            vec bias = load_f(in->dt_bias + d), skip = load_f(in->skip + d), held[STATES_MAX];
            for (int n = 0; n < N; n++) held[n] = h[k * N + n];
            for (int t = t0; t < t1; t++) {
                size_t at = base + (size_t)t * D + d;
                vec u = load(in->u + at), z = load(in->z + at), dt = softplus(load(in->raw + at) + bias);
                vec y = step(held, vexp(-dt), dt * u, bc[t - t0], bc[t - t0] + N, N);
                store(out + at, (y + skip * u) * z * sigmoid(z));
            }
            for (int n = 0; n < N; n++) h[k * N + n] = held[n];
        }
    }
}

typedef struct {
    const bf16 *dout;
    bf16 *du, *draw, *dz, *dbc;         /* as their inputs */
    float *dt_bias, *skip;              /* (B,D): a row for each b */
} scan_slopes;

typedef struct {
    float bc[CHUNK][2 * STATES_MAX];
    vec h[CHUNK + 1][STATES_MAX], db[CHUNK][STATES_MAX], dc[CHUNK][STATES_MAX];
    vec dt[CHUNK], p[CHUNK], slope[CHUNK], y[CHUNK];
} scratch;

/* The chunk's states and outputs once more. */
INLINED void again(const scan_input *in, scratch *s, size_t at, int steps, int d, int N)
{
    vec bias = load_f(in->dt_bias + d);
    for (int i = 0; i < steps; i++, at += (size_t)in->D) {
        vec raw = load(in->raw + at) + bias;
        s->dt[i] = softplus(raw);
        s->p[i] = vexp(-s->dt[i]);
        s->slope[i] = sigmoid(raw);
        for (int n = 0; n < N; n++) s->h[i + 1][n] = s->h[i][n];
        s->y[i] = step(s->h[i + 1], s->p[i], s->dt[i] * load(in->u + at), s->bc[i], s->bc[i] + N, N);
    }
}

/* g (N): the slope of h behind the chunk, and then before it. */
INLINED void reverse(const scan_input *in, const scan_slopes *out, scratch *s, vec *g, size_t at, int steps, int d, int N,
                     vec *dskip, vec *dbias)
{
    vec skip = load_f(in->skip + d);
    at += (size_t)(steps - 1) * in->D;
    for (int i = steps - 1; i >= 0; i--, at -= (size_t)in->D) {
        vec u = load(in->u + at), z = load(in->z + at), dout = load(out->dout + at), sz = sigmoid(z);
        vec dt = s->dt[i], x = dt * u, dy = dout * z * sz;
        store(out->dz + at, dout * (s->y[i] + skip * u) * sz * (1.0f + z * (1.0f - sz)));
        *dskip += dy * u;
        vec dx = {0}, ddt = {0}, pn = s->p[i];
        for (int n = 0; n < N; n++) {
            vec gn = g[n] + dy * s->bc[i][N + n];
            s->dc[i][n] += dy * s->h[i + 1][n];
            s->db[i][n] += gn * x;
            dx += gn * s->bc[i][n];
            gn *= pn;
            ddt += gn * s->h[i][n] * (float)(n + 1);
            g[n] = gn;
            pn *= s->p[i];
        }
        store(out->du + at, dy * skip + dx * dt);
        vec draw = (dx * u - ddt) * s->slope[i];
        store(out->draw + at, draw);
        *dbias += draw;
    }
}

INLINED void backward_one(const scan_input *in, const scan_slopes *out, const float *states, float *work, int b, int N)
{
    const int T = in->T, D = in->D, blocks = D / LANES;
    scratch memory, *s = &memory;                          /* 420 KB */
    vec *g = (vec *)(work + (size_t)b * D * N);
    memset(g, 0, sizeof(vec) * (size_t)blocks * N);
    for (int c = (int)chunks_of(T) - 1; c >= 0; c--) {
        int t0 = c * CHUNK, steps = t0 + CHUNK < T ? CHUNK : T - t0;
        for (int i = 0; i < steps; i++) widen(in->bc + ((size_t)b * T + t0 + i) * 2 * N, s->bc[i], 2 * N);
        memset(s->db, 0, sizeof s->db);
        memset(s->dc, 0, sizeof s->dc);
        for (int k = 0; k < blocks; k++) {
            int d = k * LANES;
            size_t at = ((size_t)b * T + t0) * D + d;
            const float *kept = states + (((size_t)b * chunks_of(T) + c) * blocks + k) * N * LANES;
            for (int n = 0; n < N; n++) s->h[0][n] = load_f(kept + n * LANES);
            again(in, s, at, steps, d, N);
            vec dskip = load_f(out->skip + (size_t)b * D + d), dbias = load_f(out->dt_bias + (size_t)b * D + d);
            reverse(in, out, s, g + k * N, at, steps, d, N, &dskip, &dbias);
            store_f(out->skip + (size_t)b * D + d, dskip);
            store_f(out->dt_bias + (size_t)b * D + d, dbias);
        }
        for (int i = 0; i < steps; i++)
            for (int n = 0; n < 2 * N; n++) {
                float v = sum(n < N ? s->db[i][n] : s->dc[i][n - N]);
                uint32_t w;
                memcpy(&w, &v, 4);
                out->dbc[((size_t)b * T + t0 + i) * 2 * N + n] = (bf16)((w + 0x7FFF + ((w >> 16) & 1)) >> 16);
            }
    }
}

/* N = 16 is compiled for itself: its states stay in registers. */
void scan_forward(const bf16 *u, const bf16 *raw, const bf16 *z, const bf16 *bc, const float *dt_bias, const float *skip,
                  bf16 *out, float *states, float *work, int B, int T, int D, int N)
{
    const scan_input in = {u, raw, z, bc, dt_bias, skip, B, T, D, N};
    #pragma omp parallel for
    for (int b = 0; b < B; b++) {
        if (N == 16) forward_one(&in, out, states, work, b, 16);
        else forward_one(&in, out, states, work, b, N);
    }
}

/* dt_bias_rows and skip_rows: (B,D), of the caller, zeroed; to be summed over b. */
void scan_backward(const bf16 *u, const bf16 *raw, const bf16 *z, const bf16 *bc, const float *dt_bias, const float *skip,
                   const float *states, const bf16 *dout, bf16 *du, bf16 *draw, bf16 *dz, bf16 *dbc, float *dt_bias_rows,
                   float *skip_rows, float *work, int B, int T, int D, int N)
{
    const scan_input in = {u, raw, z, bc, dt_bias, skip, B, T, D, N};
    const scan_slopes slopes = {dout, du, draw, dz, dbc, dt_bias_rows, skip_rows};
    #pragma omp parallel for
    for (int b = 0; b < B; b++) {
        if (N == 16) backward_one(&in, &slopes, states, work, b, 16);
        else backward_one(&in, &slopes, states, work, b, N);
    }
}
