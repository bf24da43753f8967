#include "blocks.h"

#include "mutant.h"

#include <string.h>

enum { SIZE_MIN = 16, PIECE_FIRST = 4 * 1024, PIECE_LARGEST = 256 * 1024, SHARED_MAX = 4 * 1024 };

struct block_piece {
    block_piece *next, *previous;
    size_t size, used;             /* of data */
    uint8_t data[];
};
_Static_assert(sizeof(block_piece) % 16 == 0, "blocks are aligned as memory from mem_alloc is");
_Static_assert((int)SHARED_MAX <= (int)PIECE_FIRST, "every piece has room for a block that shares it");

/* The smallest size that holds need, and its number. */
static size_t size_of(size_t need, uint32_t *number)
{
    size_t size = SIZE_MIN;
    *number = 0;
    for (; size < need; size *= 2, *number += 2)
        if (size + size / 2 >= need) {
            (*number)++;
            return size + size / 2;
        }
    return size;
}

static bool separate(size_t size) { return ADDRESS_SANITIZED || size > SHARED_MAX; }

static block_piece *piece_add(blocks *b, size_t size)
{
    block_piece *p = mem_alloc(sizeof *p + size);
    p->size = size;
    p->next = b->pieces;
    if (p->next != NULL) p->next->previous = p;
    b->pieces = p;
    b->bytes += size;
    return p;
}

static void piece_remove(blocks *b, block_piece *p)
{
    if (p->previous != NULL) p->previous->next = p->next;
    else b->pieces = p->next;
    if (p->next != NULL) p->next->previous = p->previous;
    b->bytes -= p->size;
    mem_wipe(p->data, p->used);
    mem_free(p);
}

static void *block_cut(blocks *b, size_t size)
{
    block_piece *p = b->cut;
    if (p == NULL || p->size - p->used < size) {
        size_t grown = b->bytes < PIECE_FIRST ? PIECE_FIRST : b->bytes;
        if (grown > PIECE_LARGEST) grown = PIECE_LARGEST;
        p = b->cut = piece_add(b, grown / SIZE_MIN * SIZE_MIN);
    }
    void *at = p->data + p->used;
    p->used += size;
    return at;
}

void *block_alloc(blocks *b, size_t *size)
{
    uint32_t number;
    ASSERT(*size > 0);
    *size = size_of(*size, &number);
    if (separate(*size)) {
        block_piece *p = piece_add(b, *size);
        p->used = *size;
        return p->data;
    }
    void *at = b->unused[number];
    if (at == NULL) return block_cut(b, *size);
    memcpy(&b->unused[number], at, sizeof at);
    memcpy(at, &(void *){NULL}, sizeof at);
    return at;
}

void block_free(blocks *b, void *p, size_t size)
{
    uint32_t number;
    if (p == NULL) return;
    size = size_of(size, &number);
    if (separate(size)) {
        piece_remove(b, (block_piece *)((uint8_t *)p - offsetof(block_piece, data)));
        return;
    }
    if (!MUTANT(block_unwiped)) mem_wipe(p, size);
    memcpy(p, &b->unused[number], sizeof p);
    b->unused[number] = p;
}

void blocks_wipe(blocks *b)
{
    for (block_piece *p = b->pieces; p != NULL; p = p->next) mem_wipe(p->data, p->used);
    memset(b->unused, 0, sizeof b->unused);
}

void blocks_close(blocks *b)
{
    for (block_piece *p = b->pieces, *next; p != NULL; p = next) {
        next = p->next;
        mem_wipe(p->data, p->used);
        mem_free(p);
    }
    *b = (blocks){.pieces = NULL};
}
