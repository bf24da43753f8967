#include "reference.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static double silu(double x) { return x / (1 + exp(-x)); }

void reference_matmul(const double *w, const double *bias, size_t out, size_t in, const double *x,
                      size_t rows, double *y)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t o = 0; o < out; o++) {
            double sum = bias == NULL ? 0 : bias[o];
            for (size_t k = 0; k < in; k++) sum += x[r * in + k] * w[o * in + k];
            y[r * out + o] = sum;
        }
}

void reference_rms_norm(const double *x, const double *weight, size_t n, double epsilon, double *y)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] * x[i];
    for (size_t i = 0; i < n; i++) y[i] = x[i] / sqrt(sum / (double)n + epsilon) * weight[i];
}

void reference_conv(const double *x, const double *w, const double *b, size_t rows, size_t d,
                    size_t k, double *u)
{
    for (size_t t = 0; t < rows; t++)
        for (size_t i = 0; i < d; i++) {
            double sum = b == NULL ? 0 : b[i];
            for (size_t j = 0; j < k; j++)
                if (t + j + 1 >= k) sum += w[i * k + j] * x[(t + j + 1 - k) * d + i];
            u[t * d + i] = silu(sum);
        }
}

void reference_scan(const double *u, const double *dt, const double *z, const double *bc,
                    const double *a_log, const double *d_skip, size_t rows, size_t d, size_t n,
                    double *y)
{
    double *h = mem_alloc_array(d * n, sizeof *h);
    for (size_t t = 0; t < rows; t++)
        for (size_t i = 0; i < d; i++) {
            double step = log1p(exp(dt[t * d + i])), sum = 0;
            for (size_t s = 0; s < n; s++) {
                double *state = &h[i * n + s];
                *state = exp(step * -exp(a_log[i * n + s])) * *state +
                         step * bc[t * 2 * n + s] * u[t * d + i];
                sum += bc[t * 2 * n + n + s] * *state;
            }
            y[t * d + i] = (sum + d_skip[i] * u[t * d + i]) * silu(z[t * d + i]);
        }
    mem_free(h);
}

void reference_ssd(const model_config *config, const double *x, const double *b, const double *c, const double *dt,
                   const double *z, const double *a_log, const double *d_skip, size_t rows, double *y)
{
    size_t heads = config->heads, p = config->head_dim, n = config->d_state, groups = config->groups;
    double *h = mem_alloc_array(heads * p * n, sizeof *h);
    for (size_t t = 0; t < rows; t++)
        for (size_t head = 0; head < heads; head++) {
            size_t group = head * groups / heads;
            double step = log1p(exp(dt[t * heads + head]));
            step = fmin(fmax(step, (double)config->dt_min), (double)config->dt_max);
            for (size_t i = 0; i < p; i++) {
                size_t at = (t * heads + head) * p + i;
                double sum = 0;
                for (size_t s = 0; s < n; s++) {
                    double *state = &h[(head * p + i) * n + s];
                    *state = exp(step * -exp(a_log[head])) * *state + step * b[(t * groups + group) * n + s] * x[at];
                    sum += c[(t * groups + group) * n + s] * *state;
                }
                y[at] = (sum + d_skip[head] * x[at]) * silu(z[at]);
            }
        }
    mem_free(h);
}

/* ---- the whole model ------------------------------------------------------------------------- */

/* A tensor as float64; freed by the caller. NULL where the file has none. */
static double *load(const tensors *file, const char *format, uint32_t index)
{
    char name[96];
    snprintf(name, sizeof name, "%s%u%s", "backbone.layers.", index, format);
    const tensor *t = tensors_find(file, format[0] == '.' ? name : format);
    if (t == NULL) return NULL;
    size_t n = tensor_elements(t);
    float *narrow = mem_alloc_array(n, sizeof *narrow);
    double *wide = mem_alloc_array(n, sizeof *wide);
    result r = tensor_to_f32(t, narrow);
    ASSERT(is_ok(r));
    for (size_t i = 0; i < n; i++) wide[i] = (double)narrow[i];
    mem_free(narrow);
    return wide;
}

/* h (T,d_model) += mixer(norm(h)). */
static void reference_layer(const tensors *file, const model_config *c, uint32_t l, size_t rows,
                            double *h)
{
    size_t m = c->d_model, d = c->d_inner, n = c->d_state, k = c->dt_rank;
    static const char *const parts[11] = {
        ".norm.weight", ".mixer.in_proj.weight", ".mixer.in_proj.bias", ".mixer.conv1d.weight",
        ".mixer.conv1d.bias", ".mixer.x_proj.weight", ".mixer.dt_proj.weight",
        ".mixer.dt_proj.bias", ".mixer.A_log", ".mixer.D", ".mixer.out_proj.weight"};
    double *w[12];
    for (int i = 0; i < 11; i++) w[i] = load(file, parts[i], l);
    w[11] = load(file, ".mixer.out_proj.bias", l);
    double *normed = mem_alloc_array(rows * m, sizeof *normed);
    double *xz = mem_alloc_array(rows * 2 * d, sizeof *xz);
    double *x = mem_alloc_array(rows * d, sizeof *x), *z = mem_alloc_array(rows * d, sizeof *z);
    double *u = mem_alloc_array(rows * d, sizeof *u), *dt = mem_alloc_array(rows * d, sizeof *dt);
    double *params = mem_alloc_array(rows * (k + 2 * n), sizeof *params);
    double *rank = mem_alloc_array(rows * k, sizeof *rank);
    double *bc = mem_alloc_array(rows * 2 * n, sizeof *bc);
    for (size_t t = 0; t < rows; t++)
        reference_rms_norm(h + t * m, w[0], m, (double)c->norm_epsilon, normed + t * m);
    reference_matmul(w[1], w[2], 2 * d, m, normed, rows, xz);
    for (size_t t = 0; t < rows; t++) {
        memcpy(x + t * d, xz + t * 2 * d, d * sizeof *x);
        memcpy(z + t * d, xz + t * 2 * d + d, d * sizeof *z);
    }
    reference_conv(x, w[3], w[4], rows, d, c->d_conv, u);
    reference_matmul(w[5], NULL, k + 2 * n, d, u, rows, params);
    for (size_t t = 0; t < rows; t++) {
        memcpy(rank + t * k, params + t * (k + 2 * n), k * sizeof *rank);
        memcpy(bc + t * 2 * n, params + t * (k + 2 * n) + k, 2 * n * sizeof *bc);
    }
    reference_matmul(w[6], w[7], d, k, rank, rows, dt);
    reference_scan(u, dt, z, bc, w[8], w[9], rows, d, n, x);
    reference_matmul(w[10], w[11], m, d, x, rows, normed);
    for (size_t i = 0; i < rows * m; i++) h[i] += normed[i];
    double *all[] = {normed, xz, x, z, u, dt, params, rank, bc};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) mem_free(all[i]);
    for (int i = 0; i < 12; i++) mem_free(w[i]);
}

/* Columns [first, first+n) of x (rows,all). */
static double *columns(const double *x, size_t rows, size_t all, size_t first, size_t n)
{
    double *part = mem_alloc_array(rows * n, sizeof *part);
    for (size_t t = 0; t < rows; t++) memcpy(part + t * n, x + t * all + first, n * sizeof *part);
    return part;
}

/* As reference_layer, of Mamba-2. */
static void reference_layer_mamba2(const tensors *file, const model_config *c, uint32_t l, size_t rows, double *h)
{
    size_t m = c->d_model, d = c->d_inner, gn = (size_t)c->groups * c->d_state, heads = c->heads;
    size_t channels = d + 2 * gn, all = d + channels + heads, width = d / c->groups;
    static const char *const parts[11] = {
        ".norm.weight", ".mixer.in_proj.weight", ".mixer.in_proj.bias", ".mixer.conv1d.weight",
        ".mixer.conv1d.bias", ".mixer.dt_bias", ".mixer.A_log", ".mixer.D", ".mixer.norm.weight",
        ".mixer.out_proj.weight", ".mixer.out_proj.bias"};
    double *w[11];
    for (int i = 0; i < 11; i++) w[i] = load(file, parts[i], l);
    double *normed = mem_alloc_array(rows * m, sizeof *normed);
    double *in = mem_alloc_array(rows * all, sizeof *in), *u = mem_alloc_array(rows * channels, sizeof *u);
    double *y = mem_alloc_array(rows * d, sizeof *y), *gated = mem_alloc_array(rows * d, sizeof *gated);
    for (size_t t = 0; t < rows; t++)
        reference_rms_norm(h + t * m, w[0], m, (double)c->norm_epsilon, normed + t * m);
    reference_matmul(w[1], w[2], all, m, normed, rows, in);
    double *z = columns(in, rows, all, 0, d), *conv = columns(in, rows, all, d, channels);
    double *dt = columns(in, rows, all, d + channels, heads);
    for (size_t i = 0; i < rows * heads; i++) dt[i] += w[5][i % heads];
    reference_conv(conv, w[3], w[4], rows, channels, c->d_conv, u);
    double *x = columns(u, rows, channels, 0, d), *b = columns(u, rows, channels, d, gn);
    double *cc = columns(u, rows, channels, d + gn, gn);
    reference_ssd(c, x, b, cc, dt, z, w[6], w[7], rows, y);
    for (size_t i = 0; i < rows * d; i += width)
        reference_rms_norm(y + i, w[8] + i % d, width, (double)c->norm_epsilon, gated + i);
    reference_matmul(w[9], w[10], m, d, gated, rows, normed);
    for (size_t i = 0; i < rows * m; i++) h[i] += normed[i];
    double *scratch[] = {normed, in, u, y, gated, z, conv, dt, x, b, cc};
    for (size_t i = 0; i < sizeof scratch / sizeof scratch[0]; i++) mem_free(scratch[i]);
    for (int i = 0; i < 11; i++) mem_free(w[i]);
}

result reference_forward(const tensors *file, const model_config *c, const uint32_t *tokens,
                         size_t count, double *logits)
{
    size_t m = c->d_model;
    double *e = load(file, "backbone.embeddings.weight", 0);
    double *norm = load(file, "backbone.norm_f.weight", 0);
    double *head = c->tied ? NULL : load(file, "lm_head.weight", 0);
    if (e == NULL || norm == NULL) {
        mem_free(e);
        mem_free(norm);
        mem_free(head);
        return fail(E_INVALID, "a tensor is missing");
    }
    double *h = mem_alloc_array(count * m, sizeof *h), *row = mem_alloc_array(m, sizeof *row);
    for (size_t t = 0; t < count; t++) memcpy(h + t * m, e + tokens[t] * m, m * sizeof *h);
    for (uint32_t l = 0; l < c->layers; l++) {
        if (c->architecture == ARCHITECTURE_MAMBA2) reference_layer_mamba2(file, c, l, count, h);
        else reference_layer(file, c, l, count, h);
    }
    for (size_t t = 0; t < count; t++) {
        reference_rms_norm(h + t * m, norm, m, (double)c->norm_epsilon, row);
        reference_matmul(head == NULL ? e : head, NULL, c->vocab_size, m, row, 1,
                         logits + t * c->vocab_size);
    }
    double *all[] = {e, norm, head, h, row};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) mem_free(all[i]);
    return OK;
}
