#include "embedder.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

#include "tensors.h"

enum { TOKENIZER_MAX_BYTES = 64 << 20, CONFIG_MAX_BYTES = 1 << 20, DIMENSIONS_MAX = 4096,
       IDS_PER_BYTE = 4 };

struct embedder {
    wordpiece *tokenizer;
    tensors *file;
    const int8_t *small;           /* (rows, D) in the mapped file when the table is I8 */
    float *table;                  /* (rows, D) otherwise */
    float *weights;                /* (ids) or NULL: all 1 */
    uint32_t *mapping;             /* (ids) or NULL: the id itself */
    uint32_t rows, dimensions, ids;
    bool normalize;
};

static result load_table(embedder *e)
{
    const tensor *t = tensors_find(e->file, "embeddings");
    if (t == NULL) t = tensors_find(e->file, "embedding.weight");
    if (t == NULL)
        return fail(E_INVALID, "the embedder has neither a tensor embeddings nor embedding.weight");
    if (t->rank != 2 || t->shape[0] == 0 || t->shape[0] > UINT32_MAX || t->shape[1] == 0 ||
        t->shape[1] > DIMENSIONS_MAX)
        return fail(E_INVALID, "the embedder's %s is not a table of at most %d columns", t->name,
                    DIMENSIONS_MAX);
    e->rows = (uint32_t)t->shape[0];
    e->dimensions = (uint32_t)t->shape[1];
    if (t->type == TENSOR_I8) {
        e->small = (const int8_t *)t->data;
        return OK;
    }
    if (t->type != TENSOR_F32 && t->type != TENSOR_F16 && t->type != TENSOR_BF16)
        return fail(E_UNIMPLEMENTED, "the embedder's %s is neither F32, F16, BF16 nor I8", t->name);
    size_t count = (size_t)tensor_elements(t);
    e->table = mem_alloc_array(count, sizeof *e->table);
    TRY(tensor_to_f32(t, e->table));
    for (size_t i = 0; i < count; i++)
        if (!isfinite(e->table[i]))
            return fail(E_INVALID, "the embedder's %s holds a number that is not finite", t->name);
    return OK;
}

/* "weights" (ids) F32 or F64 (which the reader of tensors knows only as raw bytes). */
static result load_weights(embedder *e)
{
    const tensor *t = tensors_find(e->file, "weights");
    if (t == NULL) return OK;
    size_t count = (size_t)tensor_elements(t);
    if (t->rank != 1 || count < e->ids || (t->type != TENSOR_F32 && t->size_bytes != count * 8))
        return fail(E_INVALID, "the embedder's weights are not one F32 or F64 for each token");
    e->weights = mem_alloc_array(count, sizeof *e->weights);
    for (size_t i = 0; i < count; i++) {
        if (t->type == TENSOR_F32) {
            memcpy(&e->weights[i], t->data + i * 4, 4);
        } else {
            double v;
            memcpy(&v, t->data + i * 8, 8);
            e->weights[i] = (float)v;
        }
        if (!isfinite(e->weights[i])) return fail(E_INVALID, "an embedder weight is not finite");
    }
    return OK;
}

static result load_mapping(embedder *e)
{
    const tensor *t = tensors_find(e->file, "mapping");
    if (t == NULL) {
        if (e->rows < e->ids)
            return fail(E_INVALID, "the embedder has %u rows for %u tokens", e->rows, e->ids);
        return OK;
    }
    size_t count = (size_t)tensor_elements(t);
    size_t width = count ? t->size_bytes / count : 0;
    if (t->rank != 1 || count < e->ids || (width != 4 && width != 8) || t->type == TENSOR_F32)
        return fail(E_INVALID, "the embedder's mapping is not one I64 for each token");
    e->mapping = mem_alloc_array(count, sizeof *e->mapping);
    for (size_t i = 0; i < count; i++) {
        uint64_t v = 0;
        memcpy(&v, t->data + i * width, width);            /* little-endian, as the file is */
        if (v >= e->rows) return fail(E_INVALID, "the embedder's mapping points past its rows");
        e->mapping[i] = (uint32_t)v;
    }
    return OK;
}

static result load_tokenizer(embedder *e, const char *dir)
{
    char path[4096];
    buf json;
    buf_init(&json, TOKENIZER_MAX_BYTES);
    result r = path_join(path, sizeof path, dir, "tokenizer.json");
    if (is_ok(r)) r = file_read(path, TOKENIZER_MAX_BYTES, &json);
    if (is_ok(r)) r = wordpiece_open(&e->tokenizer, buf_bytes(&json));
    buf_free(&json);
    if (is_ok(r)) e->ids = wordpiece_ids(e->tokenizer);
    return r;
}

static result load_config(embedder *e, const char *dir)
{
    char path[4096];
    buf json;
    buf_init(&json, CONFIG_MAX_BYTES);
    e->normalize = true;
    result r = path_join(path, sizeof path, dir, "config.json");
    if (is_ok(r)) r = file_read(path, CONFIG_MAX_BYTES, &json);
    if (is_ok(r)) {
        cJSON *root = cJSON_ParseWithLength((const char *)json.data, json.size);
        if (root == NULL) r = fail(E_INVALID, "the embedder's config.json is not well-formed JSON");
        e->normalize = !cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(root, "normalize"));
        cJSON_Delete(root);
    } else if (r.code == E_NOT_FOUND) {
        r = OK;
    }
    buf_free(&json);
    return r;
}

result embedder_open(embedder **out, const char *dir)
{
    embedder *e = mem_alloc(sizeof *e);
    result r;
    TRY_TO(r, load_tokenizer(e, dir), out);
    TRY_TO(r, load_config(e, dir), out);
    TRY_TO(r, tensors_open(&e->file, dir), out);
    TRY_TO(r, load_table(e), out);
    TRY_TO(r, load_weights(e), out);
    TRY_TO(r, load_mapping(e), out);
    if (e->small == NULL) tensors_close(&e->file);
    *out = e;
    return OK;
out:
    embedder_close(&e);
    return r;
}

void embedder_close(embedder **e)
{
    if (*e == NULL) return;
    wordpiece_close(&(*e)->tokenizer);
    if ((*e)->file != NULL) tensors_close(&(*e)->file);
    mem_free((*e)->table);
    mem_free((*e)->weights);
    mem_free((*e)->mapping);
    mem_free(*e);
    *e = NULL;
}

uint32_t embedder_dimensions(const embedder *e) { return e->dimensions; }

static void add_row(const embedder *e, uint32_t id, float weight, float *sum)
{
    size_t row = e->mapping ? e->mapping[id] : id;
    if (e->weights) weight *= e->weights[id];
    if (e->small != NULL) {
        const int8_t *v = e->small + row * e->dimensions;
        for (uint32_t d = 0; d < e->dimensions; d++) sum[d] += weight * (float)v[d];
    } else {
        const float *v = e->table + row * e->dimensions;
        for (uint32_t d = 0; d < e->dimensions; d++) sum[d] += weight * v[d];
    }
}

uint32_t embedder_add(const embedder *e, bytes text, float weight, float *vector)
{
    buf ids;
    /* Decomposition can lengthen a text; four ids a byte is more than it can yield. */
    buf_init(&ids, (text.size + 4) * IDS_PER_BYTE * sizeof(uint32_t));
    wordpiece_encode(e->tokenizer, text, &ids);
    uint32_t known = 0, unknown = wordpiece_unknown(e->tokenizer);
    for (size_t at = 0; at + 4 <= ids.size; at += 4)
        known += memcmp(ids.data + at, &unknown, 4) != 0;
    for (size_t at = 0; at + 4 <= ids.size; at += 4) {
        uint32_t id;
        memcpy(&id, ids.data + at, 4);
        if (id != unknown) add_row(e, id, weight, vector);
    }
    buf_free(&ids);
    return known;
}

bool embedder_finish(const embedder *e, uint32_t known, float *vector)
{
    double square = 0;
    for (uint32_t d = 0; d < e->dimensions; d++) square += (double)vector[d] * (double)vector[d];
    float scale = square > 0 ? (float)(1 / sqrt(square)) : 0;
    if (!e->normalize) scale = known > 0 ? 1 / (float)known : 0;
    for (uint32_t d = 0; d < e->dimensions; d++) vector[d] *= scale;
    return square > 0;
}

bool embedder_embed(const embedder *e, bytes text, float *vector)
{
    memset(vector, 0, e->dimensions * sizeof *vector);
    return embedder_finish(e, embedder_add(e, text, 1, vector), vector);
}
