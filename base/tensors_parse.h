/* The parsing half of tensors: bytes in, checked entries out. */
#ifndef LETHE_BASE_TENSORS_PARSE_H
#define LETHE_BASE_TENSORS_PARSE_H

#include "tensors.h"

enum { TENSORS_MAX = 16384, TENSORS_SHARDS_MAX = 1024, TENSORS_HEADER_MAX = 100 * 1000 * 1000 };
#define TENSORS_INDEX "model.safetensors.index.json"

typedef struct {
    tensor view;
    char *name;                /* owned; view.name */
    uint32_t shard;
    uint64_t begin, end;       /* within the data section of its file */
} tensors_item;

struct tensors {
    tensors_item *items;       /* sorted by name after tensors_sort */
    size_t count, capacity;
    bytes maps[TENSORS_SHARDS_MAX];
    size_t map_count;
};

/* Adds the file's tensors to t. what names the file in messages. */
MUST_USE result tensors_parse(tensors *t, bytes file, const char *what, uint32_t shard);
/* Sorts by name; E_INVALID if a name occurs twice. */
MUST_USE result tensors_sort(tensors *t, const char *what);

/* model.safetensors.index.json: which shard each tensor is in. */
typedef struct {
    struct cJSON *json;
    const struct cJSON *map;
    char *files[TENSORS_SHARDS_MAX];       /* owned, in order of first mention */
    uint32_t file_count;
} tensors_index;
MUST_USE result tensors_index_parse(tensors_index *index, bytes text);
void tensors_index_free(tensors_index *index);
/* Exactly the mapped tensors, each in its file. */
MUST_USE result tensors_index_check(const tensors_index *index, const tensors *t);

#endif
