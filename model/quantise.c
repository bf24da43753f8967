/* Quantising a model folder offline. What is written opens as it is, and computes the same bits as the original opened
 * with that precision: both round by quantise_group.
 *
 * A quantised tensor NAME (out,in) is NAME, I8 (out,in) or U8 (out,ceil(in/2)) with two inputs a byte, the lower in the
 * low bits, each plus 8; and NAME.scale, F16 (out,ceil(in/32)). */
#include "loader.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_ALIGN = 64, COPY_MAX_BYTES = 64 << 20 };

typedef enum { KEEP, TO_BF16, TO_Q8, TO_Q4 } treatment;

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

static treatment treatment_of(const tensor *t, model_precision precision)
{
    static const char *const LARGE_ONES[] = {"in_proj.weight", "out_proj.weight", "embeddings.weight", "lm_head.weight"};
    static const char *const SMALL_ONES[] = {"x_proj.weight", "dt_proj.weight"};
    for (size_t i = 0; t->rank == 2 && i < sizeof LARGE_ONES / sizeof *LARGE_ONES; i++)
        if (ends_with(t->name, LARGE_ONES[i]))
            return precision == MODEL_Q8 ? TO_Q8 : precision == MODEL_Q4 ? TO_Q4 : TO_BF16;
    for (size_t i = 0; t->rank == 2 && i < sizeof SMALL_ONES / sizeof *SMALL_ONES; i++)
        if (ends_with(t->name, SMALL_ONES[i])) return TO_BF16;
    return KEEP;
}

static uint64_t groups_of(const tensor *t) { return (t->shape[1] + GROUP - 1) / GROUP; }

static uint64_t row_bytes(const tensor *t, treatment to)
{
    return to == TO_BF16 ? 2 * t->shape[1] : to == TO_Q8 ? t->shape[1] : (t->shape[1] + 1) / 2;
}

/* ---- the header ------------------------------------------------------------------------------- */

static void header_add(cJSON *header, const char *name, const char *type, uint32_t rank, const uint64_t *shape,
                       uint64_t size, uint64_t *at)
{
    cJSON *entry = cJSON_AddObjectToObject(header, name);
    cJSON_AddStringToObject(entry, "dtype", type);
    cJSON *dims = cJSON_AddArrayToObject(entry, "shape"), *offsets = cJSON_AddArrayToObject(entry, "data_offsets");
    for (uint32_t i = 0; i < rank; i++) cJSON_AddItemToArray(dims, cJSON_CreateNumber((double)shape[i]));
    cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)*at));
    *at += size;
    cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)*at));
}

static result header_of(const tensors *file, model_precision precision, cJSON *header)
{
    static const char *const TYPES[] = {[TENSOR_F32] = "F32", [TENSOR_F16] = "F16", [TENSOR_BF16] = "BF16"};
    uint64_t at = 0;
    for (size_t i = 0; i < tensors_count(file); i++) {
        const tensor *t = tensors_at(file, i);
        treatment to = treatment_of(t, precision);
        if (t->type > TENSOR_BF16)
            return fail(E_INVALID, "tensor %s is not F32, F16 or BF16: is the model quantised already?", t->name);
        if (to == KEEP) {
            header_add(header, t->name, TYPES[t->type], t->rank, t->shape, t->size_bytes, &at);
            continue;
        }
        uint64_t shape[2] = {t->shape[0], to == TO_Q4 ? row_bytes(t, to) : t->shape[1]};
        header_add(header, t->name, to == TO_BF16 ? "BF16" : to == TO_Q8 ? "I8" : "U8", 2, shape,
                   t->shape[0] * row_bytes(t, to), &at);
        if (to == TO_BF16) continue;
        char name[TENSOR_SCALE_NAME];
        TRY(scale_name(name, t->name));
        header_add(header, name, "F16", 2, (uint64_t[]){t->shape[0], groups_of(t)}, 2 * t->shape[0] * groups_of(t), &at);
    }
    return OK;
}

/* ---- the data --------------------------------------------------------------------------------- */

static result put(FILE *f, const void *data, size_t size)
{
    return size == 0 || fwrite(data, 1, size, f) == size ? OK : fail_errno("cannot write the weights");
}

static result put_bf16(FILE *f, const float *row, size_t in, uint8_t *out)
{
    for (size_t k = 0; k < in; k++) {
        uint16_t bits = bfloat_from_float(row[k]);
        memcpy(out + 2 * k, &bits, 2);
    }
    return put(f, out, 2 * in);
}

static void pack_nibbles(const int8_t *q, size_t in, uint8_t *out)
{
    for (size_t k = 0; k < in; k += 2)
        out[k / 2] = (uint8_t)((q[k] + 8) | (k + 1 < in ? q[k + 1] + 8 : 8) << 4);
}

/* One row; out has room for it. scales: (groups). */
static result put_row(FILE *f, treatment to, const float *row, size_t in, uint8_t *out, int8_t *q, uint16_t *scales)
{
    if (to == TO_BF16) return put_bf16(f, row, in, out);
    matrix_type type = to == TO_Q8 ? MATRIX_Q8 : MATRIX_Q4;
    for (size_t k = 0; k < in; k += GROUP)
        quantise_group(type, row + k, in - k < GROUP ? in - k : GROUP, q + k, &scales[k / GROUP]);
    if (to == TO_Q8) return put(f, q, in);
    pack_nibbles(q, in, out);
    return put(f, out, (in + 1) / 2);
}

static result put_matrix(FILE *f, const tensor *t, treatment to)
{
    size_t rows = (size_t)t->shape[0], in = (size_t)t->shape[1], groups = (size_t)groups_of(t);
    float *row = mem_alloc_array(in + 1, sizeof *row);
    uint8_t *out = mem_alloc_array(in + 1, 2);
    int8_t *q = mem_alloc(in + 1);
    uint16_t *scales = mem_alloc_array(rows * groups + 1, sizeof *scales);
    result r = OK;
    for (size_t i = 0; i < rows && is_ok(r); i++) {
        tensor one = tensor_rows(t, i, 1);
        r = tensor_to_f32(&one, row);
        if (is_ok(r)) r = put_row(f, to, row, in, out, q, scales + i * groups);
    }
    if (is_ok(r) && to != TO_BF16) r = put(f, scales, rows * groups * sizeof *scales);
    mem_free(row);
    mem_free(out);
    mem_free(q);
    mem_free(scales);
    return r;
}

static result put_all(FILE *f, const tensors *file, model_precision precision, const char *header)
{
    size_t size = strlen(header), padded = (8 + size + HEADER_ALIGN - 1) / HEADER_ALIGN * HEADER_ALIGN - 8;
    uint64_t declared = padded;
    TRY(put(f, &declared, sizeof declared));
    TRY(put(f, header, size));
    for (; size < padded; size++) TRY(put(f, " ", 1));
    for (size_t i = 0; i < tensors_count(file); i++) {
        const tensor *t = tensors_at(file, i);
        treatment to = treatment_of(t, precision);
        TRY(to == KEEP ? put(f, t->data, t->size_bytes) : put_matrix(f, t, to));
        tensors_release(file);
    }
    return fflush(f) == 0 && fsync(fileno(f)) == 0 ? OK : fail_errno("cannot write the weights");
}

static result write_weights(const tensors *file, model_precision precision, const char *header, const char *to)
{
    char path[4096];
    TRY(path_join(path, sizeof path, to, "model.safetensors"));
    FILE *f = fopen(path, "wbx");
    if (f == NULL) return fail_errno("cannot make the file of weights");
    result r = put_all(f, file, precision, header);
    if (fclose(f) != 0 && is_ok(r)) r = fail_errno("cannot write the weights");
    if (!is_ok(r)) (void)unlink(path);     /* nothing half written stays */
    return r;
}

static result copy_part(const char *from, const char *to, const char *name, bool needed)
{
    char path[4096];
    buf content;
    buf_init(&content, COPY_MAX_BYTES);
    result r = path_join(path, sizeof path, from, name);
    if (is_ok(r)) r = file_read(path, COPY_MAX_BYTES, &content);
    if (is_ok(r)) r = path_join(path, sizeof path, to, name);
    if (is_ok(r)) r = file_write_atomic(path, buf_bytes(&content), 0644);
    buf_free(&content);
    return r.code == E_NOT_FOUND && !needed ? OK : r;
}

static result make_folder(const char *path)
{
    if (mkdir(path, 0755) == 0) return OK;
    if (errno == EEXIST) return fail(E_PRECONDITION, "the folder to write is there already; give a new one");
    if (errno == ENOENT) return fail(E_NOT_FOUND, "there is no folder to make the new one in");
    return fail_errno("cannot make the folder to write");
}

result model_quantise(const char *from, const char *to, model_precision precision)
{
    if (precision != MODEL_BF16 && precision != MODEL_Q8 && precision != MODEL_Q4)
        return fail(E_INVALID, "the precision to write is bf16, q8 or q4");
    tensors *file = NULL;
    TRY(tensors_open(&file, from));
    cJSON *header = cJSON_CreateObject();
    result r = header_of(file, precision, header);
    char *text = cJSON_PrintUnformatted(header);
    if (is_ok(r) && text == NULL) r = fail(E_INTERNAL, "the header of the weights could not be made");
    if (is_ok(r)) r = make_folder(to);
    if (is_ok(r)) r = copy_part(from, to, "config.json", true);
    if (is_ok(r)) r = copy_part(from, to, "tokenizer.json", true);
    if (is_ok(r)) r = copy_part(from, to, "LICENSE", false);
    if (is_ok(r)) r = write_weights(file, precision, text, to);
    cJSON_free(text);
    cJSON_Delete(header);
    tensors_close(&file);
    return r;
}
