/* tensors: reader of safetensors files (one file or a sharded index), mapped read-only.
 *
 * Format: u64 header size, JSON header, data. Everything is checked before anything is believed:
 * header size against the file, JSON well-formed, offsets in order, within the file, without holes
 * or overlap, shape times element size equal to the byte range, at most 16,384 tensors, rank <= 8.
 * Errors are E_INVALID with the file name (not its folder) and the tensor's name. */
#ifndef LETHE_TENSORS_H
#define LETHE_TENSORS_H

#include "base.h"

typedef enum { TENSOR_F32, TENSOR_F16, TENSOR_BF16, TENSOR_I8, TENSOR_U8, TENSOR_I64, TENSOR_OTHER }
    tensor_type;

typedef struct {
    const char *name;          /* borrowed from the file handle, as data */
    tensor_type type;
    uint32_t rank;
    uint64_t shape[8];
    const uint8_t *data;       /* 1-aligned: read through memcpy or the converters below */
    size_t size_bytes;
} tensor;

typedef struct tensors tensors;

/* dir_or_file: a .safetensors file, or a folder with model.safetensors or
 * model.safetensors.index.json (shards). */
MUST_USE result tensors_open(tensors **out, const char *dir_or_file);
/* The same over memory (fuzzing, tests); the bytes must outlive the handle. */
MUST_USE result tensors_open_memory(tensors **out, bytes file);
void tensors_close(tensors **t);
const tensor *tensors_find(const tensors *t, const char *name);   /* NULL when absent */
size_t tensors_count(const tensors *t);
const tensor *tensors_at(const tensors *t, size_t index);
/* E_INVALID with both shapes in words unless the tensor exists with exactly this shape. */
MUST_USE result tensors_expect(const tensors *t, const char *name, uint32_t rank,
                               const uint64_t *shape, const tensor **out);
/* Converts F32, F16, BF16 (I8, U8: plain numbers) to F32; out holds the element count. */
MUST_USE result tensor_to_f32(const tensor *t, float *out);
float half_to_float(uint16_t half);        /* IEEE 754 binary16, exact */
/* The files' pages need not stay in memory; they are read again when needed. */
void tensors_release(const tensors *t);
uint64_t tensor_elements(const tensor *t);

#endif
