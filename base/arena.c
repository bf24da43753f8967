#include "base.h"

#include <string.h>

enum { CHUNK_FIRST = 16 * 1024, CHUNK_LARGEST = 1024 * 1024 };

typedef struct chunk {
    struct chunk *next;
    size_t size, used;
    size_t unused;             /* keeps data 16-aligned */
    uint8_t data[];
} chunk;
_Static_assert(sizeof(chunk) % 16 == 0, "arena allocations are 16-aligned");

struct arena {
    chunk *chunks;             /* newest first */
    size_t limit, used;        /* used: rounded sizes handed out, alike in every build */
    size_t next_chunk;
    bool bad;
};

void arena_open(arena **out, size_t limit_bytes)
{
    arena *a = mem_alloc(sizeof *a);
    a->limit = limit_bytes;
    a->next_chunk = CHUNK_FIRST;
    *out = a;
}

static void chunks_drop(chunk *c)
{
    while (c != NULL) {
        chunk *next = c->next;
        mem_wipe(c->data, c->used);
        mem_free(c);
        c = next;
    }
}

void arena_close(arena **a)
{
    if (*a == NULL) return;
    chunks_drop((*a)->chunks);
    mem_free(*a);
    *a = NULL;
}

/* Keeps the newest, that is the largest, chunk for the next request. */
void arena_reset(arena *a)
{
    chunk *kept = ADDRESS_SANITIZED ? NULL : a->chunks;
    chunks_drop(kept != NULL ? kept->next : a->chunks);
    if (kept != NULL) {
        kept->next = NULL;
        mem_wipe(kept->data, kept->used);
        kept->used = 0;
    }
    a->chunks = kept;
    a->used = 0;
    a->bad = false;
}

static chunk *chunk_add(arena *a, size_t exact, size_t rounded)
{
    size_t size = ADDRESS_SANITIZED ? exact : rounded;
    if (!ADDRESS_SANITIZED && size < a->next_chunk) {
        size = a->next_chunk;
        if (a->next_chunk < CHUNK_LARGEST) a->next_chunk *= 2;
    }
    chunk *c = mem_alloc(sizeof *c + size);
    c->size = size;
    c->next = a->chunks;
    a->chunks = c;
    return c;
}

void *arena_alloc(arena *a, size_t size)
{
    size_t exact = size ? size : 1;
    size_t rounded = (exact + 15) / 16 * 16;
    if (a->bad || exact > SIZE_MAX - 15 || rounded > a->limit - a->used) {
        a->bad = true;
        return NULL;
    }
    chunk *c = a->chunks;
    if (ADDRESS_SANITIZED || c == NULL || rounded > c->size - c->used)
        c = chunk_add(a, exact, rounded);
    void *p = c->data + c->used;
    c->used += ADDRESS_SANITIZED ? exact : rounded;
    a->used += rounded;
    return p;
}

void *arena_alloc_array(arena *a, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) {
        a->bad = true;
        return NULL;
    }
    return arena_alloc(a, total);
}

char *arena_strndup(arena *a, const char *s, size_t n)
{
    char *copy = n < SIZE_MAX ? arena_alloc(a, n + 1) : NULL;
    if (copy != NULL && n > 0) memcpy(copy, s, n);
    return copy;
}

result arena_check(const arena *a)
{
    return a->bad ? fail(E_EXHAUSTED, "the request needs more than %zu bytes", a->limit) : OK;
}
