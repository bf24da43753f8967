#include "tensors_parse.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

enum { JSON_DEPTH_MAX = 8, JSON_NODES_MAX = 1 << 19 };
#define EXACT_MAX 9007199254740992.0       /* 2^53: cJSON's numbers are doubles */

/* cJSON takes about 70 bytes a value and one stack frame a level: both are bounded by this scan
 * before it allocates anything. It does not otherwise judge the text. */
static bool json_bounded(bytes text)
{
    size_t depth = 0, nodes = 1;
    bool quoted = false;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (quoted) {
            if (c == '\\') i++;
            else if (c == '"') quoted = false;
            continue;
        }
        if (c == '"') quoted = true;
        if (c == '[' || c == '{' || c == ',') nodes++;
        if (c == '[' || c == '{') depth++;
        if ((c == ']' || c == '}') && depth > 0) depth--;
        if (depth > JSON_DEPTH_MAX || nodes > JSON_NODES_MAX) return false;
    }
    return true;
}

/* NULL unless the text is one JSON object and white space. */
static cJSON *json_object(bytes text)
{
    if (!utf8_valid(text) || !json_bounded(text)) return NULL;
    const char *end = NULL, *start = (const char *)text.data;
    cJSON *json = cJSON_ParseWithLengthOpts(start, text.size, &end, false);
    size_t at = json != NULL ? (size_t)(end - start) : 0;
    while (json != NULL && at < text.size && strchr(" \t\r\n", start[at]) != NULL) at++;
    if (json != NULL && (at != text.size || !cJSON_IsObject(json))) {
        cJSON_Delete(json);
        json = NULL;
    }
    return json;
}

static bool whole_number(const cJSON *node, uint64_t *out)
{
    if (!cJSON_IsNumber(node) || !(node->valuedouble >= 0) || node->valuedouble > EXACT_MAX)
        return false;
    *out = (uint64_t)node->valuedouble;
    return (double)*out == node->valuedouble;
}

static size_t type_of(const char *name, tensor_type *type)
{
    static const struct { const char *name; tensor_type type; size_t size_bytes; } known[] = {
        {"F32", TENSOR_F32, 4}, {"F16", TENSOR_F16, 2}, {"BF16", TENSOR_BF16, 2},
        {"I8", TENSOR_I8, 1}, {"U8", TENSOR_U8, 1}, {"I64", TENSOR_I64, 8},
        {"F64", TENSOR_OTHER, 8}, {"I32", TENSOR_OTHER, 4}, {"U32", TENSOR_OTHER, 4},
        {"U64", TENSOR_OTHER, 8}, {"I16", TENSOR_OTHER, 2}, {"U16", TENSOR_OTHER, 2},
        {"BOOL", TENSOR_OTHER, 1}, {"F8_E4M3", TENSOR_OTHER, 1}, {"F8_E5M2", TENSOR_OTHER, 1},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(name, known[i].name) == 0) {
            *type = known[i].type;
            return known[i].size_bytes;
        }
    }
    return 0;
}

/* A member that occurs once; NULL when absent or repeated. */
static const cJSON *member(const cJSON *object, const char *name)
{
    const cJSON *found = NULL, *child;
    cJSON_ArrayForEach(child, object) {
        if (strcmp(child->string, name) != 0) continue;
        if (found != NULL) return NULL;
        found = child;
    }
    return found;
}

static const char *read_shape(const cJSON *shape, tensor *view, uint64_t *size_bytes)
{
    const cJSON *dimension;
    if (!cJSON_IsArray(shape)) return "has no shape";
    cJSON_ArrayForEach(dimension, shape) {
        if (view->rank == 8) return "has more than 8 dimensions";
        uint64_t n;
        if (!whole_number(dimension, &n)) return "has a dimension that is no whole number";
        if (__builtin_mul_overflow(*size_bytes, n, size_bytes)) return "is too large";
        view->shape[view->rank++] = n;
    }
    /* Also with a zero among them the product of the others must fit: callers multiply. */
    uint64_t product = 1;
    for (uint32_t i = 0; i < view->rank; i++) {
        uint64_t n = view->shape[i] ? view->shape[i] : 1;
        if (__builtin_mul_overflow(product, n, &product)) return "is too large";
    }
    return NULL;
}

/* What is wrong with one header entry, or NULL. */
static const char *read_item(const cJSON *node, uint64_t data_size, tensors_item *item)
{
    uint64_t size_bytes;
    if (!cJSON_IsObject(node)) return "is not an object";
    const cJSON *type = member(node, "dtype"), *offsets = member(node, "data_offsets");
    if (!cJSON_IsString(type)) return "has no dtype";
    size_bytes = type_of(type->valuestring, &item->view.type);
    if (size_bytes == 0) return "has an unknown dtype";
    const char *wrong = read_shape(member(node, "shape"), &item->view, &size_bytes);
    if (wrong != NULL) return wrong;
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 ||
        !whole_number(offsets->child, &item->begin) ||
        !whole_number(offsets->child->next, &item->end))
        return "has no data_offsets of two whole numbers";
    if (cJSON_GetArraySize(node) != 3) return "has unknown members";
    if (item->begin > item->end || item->end > data_size) return "lies outside the file";
    if (item->end - item->begin != size_bytes) return "has offsets that do not match its shape";
    return NULL;
}

static tensors_item *item_add(tensors *t, const char *name)
{
    if (t->count == t->capacity) {
        t->capacity = t->capacity ? 2 * t->capacity : 64;
        t->items = mem_realloc(t->items, t->capacity * sizeof *t->items);
    }
    tensors_item *item = &t->items[t->count++];
    memset(item, 0, sizeof *item);
    item->name = mem_strdup(name);
    item->view.name = item->name;
    return item;
}

static int by_place(const void *a, const void *b)
{
    const tensors_item *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* The file's tensors, in the order of their offsets, fill the data section exactly. */
static result check_tiles(tensors *t, size_t first, uint64_t data_size, const char *what)
{
    uint64_t at = 0;
    if (t->count > first) qsort(t->items + first, t->count - first, sizeof *t->items, by_place);
    for (size_t i = first; i < t->count; i++) {
        const tensors_item *item = &t->items[i];
        if (item->begin != at)
            return fail(E_INVALID, "%.100s: tensor %.100s %s", what, item->name,
                        item->begin < at ? "overlaps another" : "leaves a hole before it");
        at = item->end;
    }
    if (at != data_size) return fail(E_INVALID, "%.100s: bytes after the last tensor", what);
    return OK;
}

static result read_items(tensors *t, const cJSON *json, bytes data, const char *what,
                         uint32_t shard)
{
    const cJSON *node;
    size_t first = t->count;
    bool metadata = false;
    cJSON_ArrayForEach(node, json) {
        if (strcmp(node->string, "__metadata__") == 0) {
            if (metadata || !cJSON_IsObject(node))
                return fail(E_INVALID, "%.100s: __metadata__ is not one object", what);
            metadata = true;
            continue;
        }
        if (t->count == TENSORS_MAX)
            return fail(E_INVALID, "%.100s: more than %d tensors", what, TENSORS_MAX);
        tensors_item *item = item_add(t, node->string);
        item->shard = shard;
        const char *wrong = read_item(node, data.size, item);
        if (wrong != NULL)
            return fail(E_INVALID, "%.100s: tensor %.100s %s", what, item->name, wrong);
        item->view.data = data.data + item->begin;
        item->view.size_bytes = (size_t)(item->end - item->begin);
    }
    return check_tiles(t, first, data.size, what);
}

result tensors_parse(tensors *t, bytes file, const char *what, uint32_t shard)
{
    reader r = reader_of(file);
    uint64_t header = reader_u64(&r);
    if (r.bad) return fail(E_INVALID, "%.100s is too short for a header", what);
    if (header > TENSORS_HEADER_MAX || header > file.size - 8)
        return fail(E_INVALID, "%.100s: the header claims %llu bytes", what,
                    (unsigned long long)header);
    bytes text = bytes_of(reader_take(&r, (size_t)header), (size_t)header);
    bytes data = bytes_of(file.data + 8 + header, file.size - 8 - (size_t)header);
    cJSON *json = text.size > 0 && text.data[0] == '{' ? json_object(text) : NULL;
    if (json == NULL) return fail(E_INVALID, "%.100s: the header is not a JSON object", what);
    result bad = read_items(t, json, data, what, shard);
    cJSON_Delete(json);
    return bad;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const tensors_item *)a)->name, ((const tensors_item *)b)->name);
}

result tensors_sort(tensors *t, const char *what)
{
    if (t->count > 1) qsort(t->items, t->count, sizeof *t->items, by_name);
    for (size_t i = 1; i < t->count; i++)
        if (by_name(&t->items[i - 1], &t->items[i]) == 0)
            return fail(E_INVALID, "%.100s: tensor %.100s occurs twice", what, t->items[i].name);
    return OK;
}

/* A name inside the folder itself. */
static bool plain_file_name(const char *name)
{
    size_t n = strlen(name);
    return n >= 1 && n <= 255 && name[0] != '.' && strchr(name, '/') == NULL;
}

static result index_file(tensors_index *index, const char *name)
{
    for (uint32_t i = 0; i < index->file_count; i++)
        if (strcmp(index->files[i], name) == 0) return OK;
    if (!plain_file_name(name))
        return fail(E_INVALID, TENSORS_INDEX ": a shard is no plain file name");
    if (index->file_count == TENSORS_SHARDS_MAX)
        return fail(E_INVALID, TENSORS_INDEX ": too many shards");
    index->files[index->file_count++] = mem_strdup(name);
    return OK;
}

result tensors_index_parse(tensors_index *index, bytes text)
{
    *index = (tensors_index){.json = text.size > 0 ? json_object(text) : NULL};
    if (index->json == NULL) return fail(E_INVALID, TENSORS_INDEX " is not a JSON object");
    index->map = member(index->json, "weight_map");
    if (!cJSON_IsObject(index->map)) return fail(E_INVALID, TENSORS_INDEX ": no weight_map");
    const cJSON *node;
    size_t count = 0;
    cJSON_ArrayForEach(node, index->map) {
        if (++count > TENSORS_MAX)
            return fail(E_INVALID, TENSORS_INDEX ": more than %d tensors", TENSORS_MAX);
        if (!cJSON_IsString(node))
            return fail(E_INVALID, TENSORS_INDEX ": a shard is not a string");
        TRY(index_file(index, node->valuestring));
    }
    return OK;
}

void tensors_index_free(tensors_index *index)
{
    for (uint32_t i = 0; i < index->file_count; i++) mem_free(index->files[i]);
    cJSON_Delete(index->json);
    *index = (tensors_index){0};
}

result tensors_index_check(const tensors_index *index, const tensors *t)
{
    const cJSON *node;
    size_t count = 0;
    cJSON_ArrayForEach(node, index->map) {
        /* the view is an item's first member */
        const tensors_item *item = (const void *)tensors_find(t, node->string);
        if (item == NULL || strcmp(index->files[item->shard], node->valuestring) != 0)
            return fail(E_INVALID, TENSORS_INDEX ": tensor %.100s is not in its shard",
                        node->string);
        count++;
    }
    if (count != t->count) return fail(E_INVALID, TENSORS_INDEX ": the shards hold other tensors");
    return OK;
}
