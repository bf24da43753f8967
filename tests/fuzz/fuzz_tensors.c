/* Any bytes as a safetensors file: refused, or read without a byte outside it. */
#include "tensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tensors *t;
    result r = tensors_open_memory(&t, bytes_of(data, size));
    ASSERT(is_ok(r) == (t != NULL));
    if (t == NULL) {
        ASSERT(r.code == E_INVALID && utf8_valid(bytes_str(r.message)));
        return 0;
    }
    uint64_t total = 0;
    for (size_t i = 0; i < tensors_count(t); i++) {
        const tensor *item = tensors_at(t, i), *found;
        ASSERT(tensors_find(t, item->name) == item);
        ASSERT(is_ok(tensors_expect(t, item->name, item->rank, item->shape, &found)));
        ASSERT(item->data >= data + 8 && item->size_bytes <= (size_t)(data + size - item->data));
        total += item->size_bytes;
        float *values = mem_alloc_array(tensor_elements(item), sizeof *values);
        r = tensor_to_f32(item, values);
        ASSERT(is_ok(r) == (item->type != TENSOR_I64 && item->type != TENSOR_OTHER));
        mem_free(values);
    }
    ASSERT(total <= size);
    tensors_close(&t);
    return 0;
}
