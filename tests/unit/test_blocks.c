#include "retrieval/blocks.h"
#include "test.h"

#include <string.h>

enum { LIVE = 400, STEPS = 40000 };

typedef struct { uint8_t *at, fill; size_t size, need; } held;

static uint64_t state = 77;
static uint32_t next(void)
{
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return (uint32_t)(state >> 32);
}

static bool all(const uint8_t *p, size_t n, uint8_t value)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != value) return false;
    return true;
}

/* Sizes of words and of postings: mostly small, some larger than a piece. */
static size_t need(void)
{
    uint32_t kind = next() % 100;
    return 1 + next() % (kind < 70 ? 24 : kind < 95 ? 2000 : kind < 99 ? 60000 : 700000);
}

static bool take(blocks *b, held *h)
{
    h->need = h->size = need();
    h->at = block_alloc(b, &h->size);
    h->fill = (uint8_t)(1 + next() % 255);
    bool zeros = all(h->at, h->size, 0);
    memset(h->at, h->fill, h->size);
    return zeros && h->size >= h->need && h->size < 16 + h->need * 3 / 2 && (uintptr_t)h->at % 8 == 0;
}

static bool give(blocks *b, held *h)
{
    bool whole = all(h->at, h->size, h->fill);
    block_free(b, h->at, next() % 2 ? h->size : h->need);
    h->at = NULL;
    return whole;
}

static void blocks_hold_what_was_written_and_come_as_zeros(void)
{
    static held live[LIVE];
    blocks b = {.pieces = NULL};
    bool good = true;
    for (uint32_t i = 0; i < STEPS && good; i++) {
        held *h = &live[next() % LIVE];
        good = h->at == NULL ? take(&b, h) : give(&b, h);
    }
    CHECK(good);
    uint64_t total = b.bytes;
    for (uint32_t i = 0; i < LIVE; i++)
        if (live[i].at != NULL) good &= give(&b, &live[i]);
    CHECK(good && b.bytes <= total);
    blocks_close(&b);
    CHECK(b.pieces == NULL && b.bytes == 0);
}

static void memory_given_back_is_used_again(void)
{
    blocks b = {.pieces = NULL};
    uint64_t first = 0;
    for (uint32_t round = 0; round < 20; round++) {
        held live[100];
        state = 99;
        for (uint32_t i = 0; i < 100; i++) CHECK(take(&b, &live[i]));
        if (round == 0) first = b.bytes;
        CHECK(b.bytes == first);
        for (uint32_t i = 0; i < 100; i++) CHECK(give(&b, &live[i]));
    }
    blocks_close(&b);
}

static void wiping_zeros_all_and_frees_nothing(void)
{
    held live[200];
    blocks b = {.pieces = NULL};
    for (uint32_t i = 0; i < 200; i++) CHECK(take(&b, &live[i]));
    uint64_t total = b.bytes;
    blocks_wipe(&b);
    for (uint32_t i = 0; i < 200; i++) CHECK(all(live[i].at, live[i].size, 0));
    CHECK(b.bytes == total);
    blocks_close(&b);
}

int main(void)
{
    RUN(blocks_hold_what_was_written_and_come_as_zeros);
    RUN(memory_given_back_is_used_again);
    RUN(wiping_zeros_all_and_frees_nothing);
    return DONE();
}
