#include "centroids.h"

#include <math.h>
#include <string.h>

#include "tensors.h"

static result rows_read(const tensors *file, uint32_t dimensions, float **out, uint32_t *count)
{
    const tensor *t = tensors_find(file, "centroids"), *s;
    if (t == NULL || t->type != TENSOR_I8 || t->rank != 2 || t->shape[0] == 0 || t->shape[0] > DENSE_LISTS_MAX ||
        t->shape[1] != dimensions)
        return fail(E_INVALID, "centroids.safetensors: centroids is not an I8 table of 1 to %d rows and %u columns",
                    DENSE_LISTS_MAX, dimensions);
    TRY(tensors_expect(file, "scales", 1, t->shape, &s));
    if (s->type != TENSOR_F32) return fail(E_INVALID, "centroids.safetensors: scales are not F32");
    float scales[DENSE_LISTS_MAX];
    TRY(tensor_to_f32(s, scales));
    *count = (uint32_t)t->shape[0];
    float *rows = mem_alloc_array((size_t)*count * dimensions, sizeof *rows);
    bool finite = true;
    for (size_t i = 0; i < (size_t)*count * dimensions; i++) {
        rows[i] = (float)(int8_t)t->data[i] * scales[i / dimensions];
        finite = finite && isfinite(rows[i]);
    }
    *out = rows;
    return finite ? OK : fail(E_INVALID, "centroids.safetensors: a number is not finite");
}

result centroids_open(dense **out, const char *dir, uint32_t dimensions)
{
    char path[4096];
    tensors *file = NULL;
    dense *d = NULL;
    float *rows = NULL;
    uint32_t count = 0;
    *out = NULL;
    TRY(path_join(path, sizeof path, dir, "centroids.safetensors"));
    result r = tensors_open(&file, path);
    if (r.code == E_NOT_FOUND) return OK;
    if (is_ok(r)) r = rows_read(file, dimensions, &rows, &count);
    if (is_ok(r)) r = dense_open(&d, dimensions);
    if (is_ok(r)) r = dense_add(d, (id128){{0}}, count, rows);
    if (!is_ok(r)) dense_close(&d);
    if (file != NULL) tensors_close(&file);
    mem_free(rows);
    *out = d;
    return r;
}

result centroids_choose(const dense *centroids, const float *query, const uint64_t *sizes, uint64_t least_rows,
                        bool *chosen)
{
    dense_hit order[DENSE_LISTS_MAX];
    uint32_t count = 0;
    uint64_t rows = 0;
    memset(chosen, 0, DENSE_LISTS_MAX * sizeof *chosen);
    TRY(dense_search(centroids, query, DENSE_LISTS_MAX, order, &count));
    for (uint32_t i = 0; i < count && rows < least_rows; i++) {
        chosen[order[i].row] = sizes[order[i].row] > 0;
        rows += sizes[order[i].row];
    }
    mem_wipe(order, sizeof order);
    return OK;
}
