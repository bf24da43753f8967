/* Byte-pair merging of one word, with a heap of candidate merges over a linked list of symbols.
 *
 * Order as the reference's: the lowest rank first, then the leftmost. A candidate is stale when its
 * pair no longer merges into the token it was queued for; as there, its rank is not looked at. */
#include "tokenizer_internal.h"

typedef struct { uint32_t id; int32_t prev, next; } symbol;   /* id SYMBOL_GONE: merged away */
typedef struct { uint32_t rank, at, id; } candidate;
#define SYMBOL_GONE UINT32_MAX

struct bpe_scratch {
    symbol *symbols;
    uint32_t *ids;
    candidate *heap;                       /* each merge adds two: at most 3n */
    size_t capacity, heap_count;
};

void bpe_open(bpe_scratch **out)
{
    *out = mem_alloc(sizeof **out);
}

static void scratch_free(bpe_scratch *s)
{
    if (s->capacity > 0) {
        mem_wipe(s->symbols, s->capacity * sizeof *s->symbols);
        mem_wipe(s->ids, s->capacity * sizeof *s->ids);
        mem_wipe(s->heap, 3 * s->capacity * sizeof *s->heap);
    }
    mem_free(s->symbols);
    mem_free(s->ids);
    mem_free(s->heap);
    *s = (bpe_scratch){0};
}

void bpe_close(bpe_scratch **s)
{
    if (*s == NULL) return;
    scratch_free(*s);
    mem_free(*s);
    *s = NULL;
}

static void scratch_reserve(bpe_scratch *s, size_t count)
{
    if (count <= s->capacity) return;
    size_t capacity = s->capacity * 2 > count ? s->capacity * 2 : count + 64;
    scratch_free(s);
    s->symbols = mem_alloc_array(capacity, sizeof *s->symbols);
    s->ids = mem_alloc_array(capacity, sizeof *s->ids);
    s->heap = mem_alloc_array(capacity, 3 * sizeof *s->heap);
    s->capacity = capacity;
}

static size_t merge_hash(uint32_t left, uint32_t right)
{
    uint64_t x = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;
    return (size_t)(x ^ x >> 32);
}

const merge_slot *bpe_merge_find(const tokenizer *t, uint32_t left, uint32_t right)
{
    size_t mask = t->merge_slots - 1;
    for (size_t i = merge_hash(left, right) & mask;; i = (i + 1) & mask) {
        const merge_slot *slot = &t->merges[i];
        if (slot->rank == MERGE_EMPTY || (slot->left == left && slot->right == right)) return slot;
    }
}

static bool candidate_before(candidate a, candidate b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static void heap_push(bpe_scratch *s, candidate c)
{
    ASSERT(s->heap_count < 3 * s->capacity);
    size_t i = s->heap_count++;
    for (; i > 0 && candidate_before(c, s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = c;
}

static candidate heap_pop(bpe_scratch *s)
{
    candidate top = s->heap[0], last = s->heap[--s->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= s->heap_count) break;
        bool second = child + 1 < s->heap_count;
        if (second && candidate_before(s->heap[child + 1], s->heap[child])) child++;
        if (!candidate_before(s->heap[child], last)) break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    if (s->heap_count > 0) s->heap[i] = last;
    return top;
}

/* Queues the merge of the symbol at a position with its right neighbour, if there is one. */
static void consider(const tokenizer *t, bpe_scratch *s, int32_t at)
{
    if (at < 0 || s->symbols[at].next < 0) return;
    const merge_slot *m = bpe_merge_find(t, s->symbols[at].id, s->symbols[s->symbols[at].next].id);
    if (m->rank != MERGE_EMPTY) heap_push(s, (candidate){m->rank, (uint32_t)at, m->id});
}

size_t bpe_word(const tokenizer *t, bpe_scratch *s, bytes word, const uint32_t **ids)
{
    ASSERT(word.size <= INT32_MAX / 4);
    scratch_reserve(s, word.size);
    int32_t n = (int32_t)word.size;
    for (int32_t i = 0; i < n; i++)
        s->symbols[i] = (symbol){t->byte_ids[word.data[i]], i - 1, i + 1 < n ? i + 1 : -1};
    s->heap_count = 0;
    for (int32_t i = 0; i + 1 < n; i++) consider(t, s, i);
    while (s->heap_count > 0) {
        candidate c = heap_pop(s);
        symbol *left = &s->symbols[c.at];
        if (left->id == SYMBOL_GONE || left->next < 0) continue;
        symbol *right = &s->symbols[left->next];
        const merge_slot *m = bpe_merge_find(t, left->id, right->id);
        if (m->rank == MERGE_EMPTY || m->id != c.id) continue;
        left->id = c.id;
        left->next = right->next;
        right->id = SYMBOL_GONE;
        if (left->next >= 0) s->symbols[left->next].prev = (int32_t)c.at;
        consider(t, s, left->prev);
        consider(t, s, (int32_t)c.at);
    }
    size_t count = 0;
    for (int32_t i = 0; i < n; i++)
        if (s->symbols[i].id != SYMBOL_GONE) s->ids[count++] = s->symbols[i].id;
    *ids = s->ids;
    return count;
}
