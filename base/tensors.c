#include "tensors.h"

#include "internal.h"
#include "tensors_parse.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file that somebody shortens while it is mapped ends in SIGBUS: model folders are the operator's
 * and are replaced by renaming. */
static result map_file(tensors *t, const char *path, bytes *out)
{
    struct stat st;
    const char *name = path_name(path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return fail(E_NOT_FOUND, "no file %.100s", name);
    if (fd < 0) return fail_errno("cannot open %.100s", name);
    result r = OK;
    if (fstat(fd, &st) != 0) r = fail_errno("cannot look at %.100s", name);
    else if (!S_ISREG(st.st_mode)) r = fail(E_INVALID, "%.100s is not a regular file", name);
    else if (st.st_size < 8) r = fail(E_INVALID, "%.100s is too short for a header", name);
    if (is_ok(r)) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) r = fail_errno("cannot map %.100s", name);
        else {
            *out = bytes_of(p, (size_t)st.st_size);
            t->maps[t->map_count++] = *out;
        }
    }
    close(fd);
    return r;
}

static result open_file(tensors *t, const char *path, uint32_t shard)
{
    bytes file;
    ASSERT(t->map_count < TENSORS_SHARDS_MAX);
    TRY(map_file(t, path, &file));
    return tensors_parse(t, file, path_name(path), shard);
}

static result open_folder(tensors *t, const char *dir)
{
    char path[PATH_MAX];
    TRY(path_join(path, sizeof path, dir, "model.safetensors"));
    if (access(path, F_OK) == 0) {
        TRY(open_file(t, path, 0));
        return tensors_sort(t, "model.safetensors");
    }
    TRY(path_join(path, sizeof path, dir, TENSORS_INDEX));
    buf text;
    buf_init(&text, TENSORS_HEADER_MAX);
    result r = file_read(path, TENSORS_HEADER_MAX, &text);
    if (r.code == E_NOT_FOUND)
        r = fail(E_NOT_FOUND, "the folder has neither model.safetensors nor " TENSORS_INDEX);
    tensors_index index = {0};
    if (is_ok(r)) r = tensors_index_parse(&index, buf_bytes(&text));
    for (uint32_t i = 0; is_ok(r) && i < index.file_count; i++) {
        r = path_join(path, sizeof path, dir, index.files[i]);
        if (is_ok(r)) r = open_file(t, path, i);
    }
    if (is_ok(r)) r = tensors_sort(t, TENSORS_INDEX);
    if (is_ok(r)) r = tensors_index_check(&index, t);
    tensors_index_free(&index);
    buf_free(&text);
    return r;
}

result tensors_open(tensors **out, const char *dir_or_file)
{
    struct stat st;
    *out = NULL;
    if (stat(dir_or_file, &st) != 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return fail(E_NOT_FOUND, "no such file or folder: %.100s", path_name(dir_or_file));
        return fail_errno("cannot look at %.100s", path_name(dir_or_file));
    }
    tensors *t = mem_alloc(sizeof *t);
    result r;
    if (S_ISDIR(st.st_mode)) r = open_folder(t, dir_or_file);
    else {
        r = open_file(t, dir_or_file, 0);
        if (is_ok(r)) r = tensors_sort(t, path_name(dir_or_file));
    }
    if (!is_ok(r)) tensors_close(&t);
    *out = t;
    return r;
}

result tensors_open_memory(tensors **out, bytes file)
{
    tensors *t = mem_alloc(sizeof *t);
    result r = tensors_parse(t, file, "memory", 0);
    if (is_ok(r)) r = tensors_sort(t, "memory");
    if (!is_ok(r)) tensors_close(&t);
    *out = t;
    return r;
}

void tensors_close(tensors **t)
{
    if (*t == NULL) return;
    for (size_t i = 0; i < (*t)->map_count; i++)
        munmap((void *)(uintptr_t)(*t)->maps[i].data, (*t)->maps[i].size);
    for (size_t i = 0; i < (*t)->count; i++) mem_free((*t)->items[i].name);
    mem_free((*t)->items);
    mem_free(*t);
    *t = NULL;
}

const tensor *tensors_find(const tensors *t, const char *name)
{
    size_t low = 0, high = t->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, t->items[middle].name);
        if (order == 0) return &t->items[middle].view;
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

size_t tensors_count(const tensors *t)
{
    return t->count;
}

const tensor *tensors_at(const tensors *t, size_t index)
{
    ASSERT(index < t->count);
    return &t->items[index].view;
}

static void shape_text(uint32_t rank, const uint64_t *shape, char out[200])
{
    buf b;
    buf_init(&b, 199);
    buf_append_u8(&b, '[');
    for (uint32_t i = 0; i < rank; i++)
        buf_printf(&b, "%s%llu", i ? ", " : "", (unsigned long long)shape[i]);
    buf_append_u8(&b, ']');
    memcpy(out, b.data, b.size + 1);
    buf_free(&b);
}

result tensors_expect(const tensors *t, const char *name, uint32_t rank, const uint64_t *shape,
                      const tensor **out)
{
    char want[200], have[200];
    const tensor *found = tensors_find(t, name);
    ASSERT(rank <= 8);
    *out = NULL;
    shape_text(rank, shape, want);
    if (found == NULL)
        return fail(E_INVALID, "tensor %.100s is missing (expected shape %s)", name, want);
    bool same = found->rank == rank;
    for (uint32_t i = 0; same && i < rank; i++) same = found->shape[i] == shape[i];
    if (!same) {
        shape_text(found->rank, found->shape, have);
        return fail(E_INVALID, "tensor %.100s has shape %s, expected %s", name, have, want);
    }
    *out = found;
    return OK;
}

uint64_t tensor_elements(const tensor *t)
{
    uint64_t n = 1;
    for (uint32_t i = 0; i < t->rank; i++) n *= t->shape[i];      /* checked when parsed */
    return n;
}

float half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = half >> 10 & 31u, fraction = half & 0x3ffu, bits;
    float x = (float)fraction * 0x1p-24f;      /* what an exponent of 0 stands for */
    memcpy(&bits, &x, sizeof bits);
    if (exponent == 31) bits = 0x7f800000u | fraction << 13;
    else if (exponent != 0) bits = (exponent + 112) << 23 | fraction << 13;
    bits |= sign;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* All of them: reading a page may map others around it, behind as well as ahead. */
void tensors_release(const tensors *t)
{
    for (size_t i = 0; i < t->map_count; i++)
        (void)madvise((void *)(uintptr_t)t->maps[i].data, t->maps[i].size, MADV_DONTNEED);
}

result tensor_to_f32(const tensor *t, float *out)
{
    uint64_t n = tensor_elements(t);
    if (t->type == TENSOR_I64 || t->type == TENSOR_OTHER)
        return fail(E_INVALID, "tensor %.100s is not of a type that converts to F32", t->name);
    if (t->type == TENSOR_F32 && n > 0) memcpy(out, t->data, (size_t)n * sizeof *out);
    for (uint64_t i = 0; i < n && t->type != TENSOR_F32; i++) {
        uint16_t half;
        if (t->type == TENSOR_I8) {
            out[i] = (float)(int8_t)t->data[i];
        } else if (t->type == TENSOR_U8) {
            out[i] = (float)t->data[i];
        } else {
            memcpy(&half, t->data + 2 * i, 2);
            uint32_t wide = (uint32_t)half << 16;
            if (t->type == TENSOR_F16) out[i] = half_to_float(half);
            else memcpy(&out[i], &wide, 4);
        }
    }
    return OK;
}
