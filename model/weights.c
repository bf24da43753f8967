/* Weights: out of the file's tensors (F32, F16, BF16) into float32, packed for the kernels.
 *
 * A matrix is converted 32 rows at a time and the file's pages go as they are read, so that opening a model needs little
 * more than the packed weights. The identity hashes each tensor's raw bytes with its name, type and shape. */
#include "loader.h"
#include "mutant.h"
#include "seal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { IDENTITY_PIECE = 1 << 20 };

#define LOG2_E 1.4426950408889634

float *floats_alloc(size_t count, void **memory)
{
    ASSERT(count <= (SIZE_MAX - 64) / sizeof(float));
    *memory = mem_alloc(count * sizeof(float) + 64);
    return (float *)(((uintptr_t)*memory + 63) & ~(uintptr_t)63);
}

/* Memory that weights_free frees. */
static void *keep_bytes(weights *w, size_t count)
{
    if (w->block_count == w->block_capacity) {
        w->block_capacity = w->block_capacity == 0 ? 64 : 2 * w->block_capacity;
        w->blocks = mem_realloc(w->blocks, w->block_capacity * sizeof(void *));
    }
    w->bytes += count;
    return floats_alloc((count + sizeof(float) - 1) / sizeof(float), &w->blocks[w->block_count++]);
}

static float *keep_floats(weights *w, size_t count) { return keep_bytes(w, count * sizeof(float)); }

static result expect(const loader *l, const char *name, uint32_t rank, const uint64_t *shape,
                     const tensor **out)
{
    TRY(tensors_expect(l->file, name, rank, shape, out));
    tensor_type type = (*out)->type;
    if (type != TENSOR_F32 && type != TENSOR_F16 && type != TENSOR_BF16)
        return fail(E_INVALID, "tensor %s is not F32, F16 or BF16", name);
    return OK;
}

tensor tensor_rows(const tensor *t, uint64_t first, uint64_t count)
{
    tensor part = *t;
    size_t row_bytes = t->size_bytes / t->shape[0];
    part.shape[0] = count;
    part.data = t->data + first * row_bytes;
    part.size_bytes = count * row_bytes;
    return part;
}

result load_vector_part(const loader *l, const char *name, size_t all, size_t first, size_t n, float **out)
{
    const tensor *t = NULL;
    TRY(expect(l, name, 1, (uint64_t[]){all}, &t));
    tensor part = tensor_rows(t, first, n);
    *out = keep_floats(l->w, panel_pad(n));
    return tensor_to_f32(&part, *out);
}

result load_vector(const loader *l, const char *name, size_t n, float **out)
{
    return load_vector_part(l, name, n, 0, n, out);
}

/* What a matrix is held in. Those of few weights are held better: what they save would be nothing, and dt and B, C
 * steer the recurrence. */
static matrix_type type_of(const loader *l, const tensor *t, matrix_use use)
{
    static const matrix_type HELD[][2] = {[MODEL_F32] = {MATRIX_F32, MATRIX_F32},
        [MODEL_BF16] = {MATRIX_BF16, MATRIX_BF16}, [MODEL_Q8] = {MATRIX_Q8, MATRIX_BF16},
        [MODEL_Q4] = {MATRIX_Q4, MATRIX_BF16}};
    model_precision p = l->precision;
    if (p == MODEL_AS_STORED) p = t->type == TENSOR_BF16 ? MODEL_BF16 : MODEL_F32;
    return HELD[p][use == SMALL];
}

/* Packs rows [first, first+out) of t, whose rows have in elements, into m. */
static result pack_matrix(const loader *l, const tensor *t, matrix_use use, size_t first, uint32_t out, uint32_t in,
                          matrix *m)
{
    *m = (matrix){.out = out, .in = in, .type = type_of(l, t, use)};
    size_t size = panel_bytes(m->type, in);
    uint8_t *packed = keep_bytes(l->w, matrix_panels(m) * size);
    float *rows = mem_alloc_array((size_t)in * PANEL, sizeof(float));
    result r = OK;
    m->w = packed;
    for (size_t p = 0; p < out; p += PANEL) {
        size_t n = out - p < PANEL ? out - p : PANEL;
        tensor part = tensor_rows(t, first + p, n);
        TRY_TO(r, tensor_to_f32(&part, rows), out);
        panel_pack(m->type, rows, n, in, packed + p / PANEL * size);
        tensors_release(l->file);
    }
out:
    mem_free(rows);
    return r;
}

result scale_name(char out[TENSOR_SCALE_NAME], const char *name)
{
    int n = snprintf(out, TENSOR_SCALE_NAME, "%s.scale", name);
    return n < TENSOR_SCALE_NAME ? OK : fail(E_INVALID, "a tensor's name is too long");
}

/* Row i of a quantised tensor, (in). */
static void quantised_row(const tensor *t, size_t i, size_t in, int8_t *q)
{
    const uint8_t *row = t->data + i * (t->type == TENSOR_I8 ? in : (in + 1) / 2);
    if (t->type == TENSOR_I8) memcpy(q, row, in);
    for (size_t k = 0; t->type == TENSOR_U8 && k < in; k++)
        q[k] = (int8_t)((k % 2 ? row[k / 2] >> 4 : row[k / 2] & 15) - 8);
}

/* Rows [first, first+out) of a quantised tensor (all,in), as they are. */
static result load_quantised(const loader *l, const char *name, const tensor *t, size_t all, size_t first, uint32_t out,
                             uint32_t in, matrix *m)
{
    char of_scale[TENSOR_SCALE_NAME];
    const tensor *scale = NULL;
    const uint64_t groups = ((uint64_t)in + GROUP - 1) / GROUP, wide = t->type == TENSOR_I8 ? in : ((uint64_t)in + 1) / 2;
    if (l->precision != MODEL_AS_STORED)
        return fail(E_INVALID, "tensor %s is quantised already: the model opens as stored only", name);
    TRY(tensors_expect(l->file, name, 2, (uint64_t[]){all, wide}, &t));
    TRY(scale_name(of_scale, name));
    TRY(tensors_expect(l->file, of_scale, 2, (uint64_t[]){all, groups}, &scale));
    if (scale->type != TENSOR_F16) return fail(E_INVALID, "tensor %s is not F16", of_scale);
    *m = (matrix){.out = out, .in = in, .type = t->type == TENSOR_I8 ? MATRIX_Q8 : MATRIX_Q4};
    size_t size = panel_bytes(m->type, in);
    uint8_t *packed = keep_bytes(l->w, matrix_panels(m) * size);
    int8_t *q = mem_alloc((size_t)in * PANEL);
    uint16_t *scales = mem_alloc_array(groups * PANEL, sizeof *scales);
    m->w = packed;
    for (size_t p = 0; p < out; p += PANEL) {
        size_t n = out - p < PANEL ? out - p : PANEL;
        for (size_t i = 0; i < n; i++) quantised_row(t, first + p + i, in, q + i * in);
        memcpy(scales, scale->data + (first + p) * groups * sizeof *scales, n * groups * sizeof *scales);
        panel_pack_quantised(m->type, q, scales, n, in, packed + p / PANEL * size);
        tensors_release(l->file);
    }
    mem_free(q);
    mem_free(scales);
    return OK;
}

result load_matrix_part(const loader *l, const char *name, matrix_use use, size_t all, size_t first, uint32_t out,
                        uint32_t in, matrix *m)
{
    const tensor *t = tensors_find(l->file, name);
    if (t != NULL && (t->type == TENSOR_I8 || t->type == TENSOR_U8))
        return load_quantised(l, name, t, all, first, out, in, m);
    TRY(expect(l, name, 2, (uint64_t[]){all, in}, &t));
    return pack_matrix(l, t, use, first, out, in, m);
}

static result load_matrix(const loader *l, const char *name, matrix_use use, uint32_t out, uint32_t in, matrix *m)
{
    return load_matrix_part(l, name, use, out, 0, out, in, m);
}

/* out (columns,rows) = transposed t, a tensor of rows*columns elements. */
static result load_transposed(const loader *l, const tensor *t, size_t rows, size_t columns,
                              float **out)
{
    float *plain = mem_alloc_array(rows * columns, sizeof(float));
    result r = tensor_to_f32(t, plain);
    *out = keep_floats(l->w, rows * columns);
    for (size_t i = 0; is_ok(r) && i < rows; i++)
        for (size_t j = 0; j < columns; j++) (*out)[j * rows + i] = plain[i * columns + j];
    mem_free(plain);
    return r;
}

const char *load_name(char out[NAME_MAX_CHARS], uint32_t index, const char *part)
{
    snprintf(out, NAME_MAX_CHARS, "backbone.layers.%u.%s", index, part);
    return out;
}

static result load_in_proj(const loader *l, uint32_t index, layer *y)
{
    char name[NAME_MAX_CHARS];
    const uint32_t m = l->c->d_model, d = l->c->d_inner;
    float *x = NULL, *z = NULL;
    load_name(name, index, "mixer.in_proj.weight");
    TRY(load_matrix_part(l, name, LARGE, 2 * (size_t)d, 0, d, m, &y->in_x));
    TRY(load_matrix_part(l, name, LARGE, 2 * (size_t)d, d, d, m, &y->in_z));
    if (!l->c->use_bias) return OK;
    load_name(name, index, "mixer.in_proj.bias");
    TRY(load_vector_part(l, name, 2 * (size_t)d, 0, d, &x));
    TRY(load_vector_part(l, name, 2 * (size_t)d, d, d, &z));
    y->in_x.bias = x;
    y->in_z.bias = z;
    return OK;
}

static result load_conv(const loader *l, uint32_t index, layer *y)
{
    char name[NAME_MAX_CHARS];
    const uint32_t channels = config_conv_channels(l->c), k = l->c->d_conv;
    const tensor *t = NULL;
    load_name(name, index, "mixer.conv1d.weight");
    TRY(expect(l, name, 3, (uint64_t[]){channels, 1, k}, &t));
    TRY(load_transposed(l, t, channels, k, &y->conv_w));
    if (!l->c->use_conv_bias) {
        y->conv_b = keep_floats(l->w, channels);
        return OK;
    }
    return load_vector(l, load_name(name, index, "mixer.conv1d.bias"), channels, &y->conv_b);
}

static result load_ssm(const loader *l, uint32_t index, layer *y)
{
    char name[NAME_MAX_CHARS];
    const model_config *c = l->c;
    const tensor *t = NULL;
    float *bias = NULL;
    load_name(name, index, "mixer.A_log");
    TRY(expect(l, name, 2, (uint64_t[]){c->d_inner, c->d_state}, &t));
    TRY(load_transposed(l, t, c->d_inner, c->d_state, &y->a));
    for (size_t i = 0; i < (size_t)c->d_inner * c->d_state; i++) y->a[i] = (float)(-exp((double)y->a[i]) * LOG2_E);
    TRY(load_vector(l, load_name(name, index, "mixer.D"), c->d_inner, &y->d));
    TRY(load_matrix(l, load_name(name, index, "mixer.x_proj.weight"), SMALL,
                    c->dt_rank + 2 * c->d_state, c->d_inner, &y->x_proj));
    TRY(load_matrix(l, load_name(name, index, "mixer.dt_proj.weight"), SMALL, c->d_inner, c->dt_rank,
                    &y->dt_proj));
    TRY(load_vector(l, load_name(name, index, "mixer.dt_proj.bias"), c->d_inner, &bias));
    y->dt_proj.bias = bias;
    return OK;
}

static result load_layer(const loader *l, uint32_t index)
{
    char name[NAME_MAX_CHARS];
    const model_config *c = l->c;
    layer *y = &l->w->layers[index];
    TRY(load_vector(l, load_name(name, index, "norm.weight"), c->d_model, &y->norm));
    TRY(load_conv(l, index, y));
    if (c->architecture == ARCHITECTURE_MAMBA2) {
        TRY(load_mixer_mamba2(l, index, y));
    } else {
        TRY(load_in_proj(l, index, y));
        TRY(load_ssm(l, index, y));
    }
    TRY(load_matrix(l, load_name(name, index, "mixer.out_proj.weight"), LARGE, c->d_model, c->d_inner,
                    &y->out_proj));
    if (!c->use_bias) return OK;
    float *bias = NULL;
    TRY(load_vector(l, load_name(name, index, "mixer.out_proj.bias"), c->d_model, &bias));
    y->out_proj.bias = bias;
    return OK;
}

static result load_all(const loader *l)
{
    const model_config *c = l->c;
    TRY(load_matrix(l, "backbone.embeddings.weight", LARGE, c->vocab_size, c->d_model,
                    &l->w->embeddings));
    l->w->layers = mem_alloc_array(c->layers, sizeof(layer));
    for (uint32_t i = 0; i < c->layers; i++) TRY(load_layer(l, i));
    TRY(load_vector(l, "backbone.norm_f.weight", c->d_model, &l->w->norm_f));
    bool present = tensors_find(l->file, "lm_head.weight") != NULL;
    if (c->tied || (!present && !c->untied)) {
        l->w->head = l->w->embeddings;
        return OK;
    }
    return load_matrix(l, "lm_head.weight", LARGE, c->vocab_size, c->d_model, &l->w->head);
}

/* Appends the hashes of a tensor's bytes, piece by piece. */
static void identify_data(const tensors *file, const tensor *t, buf *all)
{
    uint8_t hash[32];
    for (size_t at = 0; at < t->size_bytes; at += IDENTITY_PIECE) {
        size_t size = t->size_bytes - at < IDENTITY_PIECE ? t->size_bytes - at : IDENTITY_PIECE;
        hash_plain("lethe-model-tensor", bytes_of(t->data + at, size), hash);
        buf_append(all, hash, sizeof hash);
        tensors_release(file);
    }
}

static result identify(weights *w, const tensors *file, model_precision precision, bytes config_json)
{
    buf all;
    buf_init(&all, (size_t)64 << 20);
    uint8_t hash[32];
    buf_append_u32(&all, MODEL_NUMERICS);
    if (!MUTANT(precisions_mixed)) buf_append_u32(&all, (uint32_t)precision);
    hash_plain("lethe-model-config", config_json, hash);
    buf_append(&all, hash, sizeof hash);
    for (size_t i = 0; i < tensors_count(file); i++) {
        const tensor *t = tensors_at(file, i);
        buf_append_u32(&all, (uint32_t)strlen(t->name));
        buf_append_str(&all, t->name);
        buf_append_u32(&all, (uint32_t)t->type);
        buf_append_u32(&all, t->rank);
        for (uint32_t d = 0; d < t->rank; d++) buf_append_u64(&all, t->shape[d]);
        identify_data(file, t, &all);
    }
    result r = buf_check(&all);
    if (is_ok(r)) hash_plain("lethe-model", buf_bytes(&all), w->identity);
    else r = fail(E_INVALID, "the tensors' names are too long");
    buf_free(&all);
    return r;
}

result weights_load(weights *w, const model_config *c, model_precision precision, const char *dir,
                    bytes config_json)
{
    *w = (weights){0};
    tensors *file = NULL;
    TRY(tensors_open(&file, dir));
    loader l = {w, c, file, precision};
    result r = load_all(&l);
    if (is_ok(r)) r = identify(w, file, precision, config_json);
    tensors_close(&file);
    if (!is_ok(r)) weights_free(w);
    return r;
}

void weights_free(weights *w)
{
    for (size_t i = 0; i < w->block_count; i++) mem_free(w->blocks[i]);
    mem_free(w->blocks);
    mem_free(w->layers);
    *w = (weights){0};
}
