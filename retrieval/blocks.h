/* blocks: the memory of one index in few large pieces, so that a million small arrays are wiped and freed at the
 * speed of memory. Internal to retrieval/.
 *
 * A block has one of a few sizes, 16 x 2^n or 24 x 2^n bytes, and goes back to those of its size; what it held is
 * wiped when it is given back. What is not in use is zeros and links. Pieces grow with the whole, from 4 to 256 KiB; a block
 * larger than 4 KiB is a piece of its own and is freed at once. Under AddressSanitizer every block is.
 *
 * Threads: one at a time. */
#ifndef LETHE_BLOCKS_H
#define LETHE_BLOCKS_H

#include "base.h"

typedef struct block_piece block_piece;
enum { BLOCK_SIZES = 32 };
typedef struct {
    block_piece *pieces;           /* newest first; blocks are cut from the newest that is not one block */
    block_piece *cut;
    void *unused[BLOCK_SIZES];     /* of each size, linked by their first bytes */
    uint64_t bytes;                /* of all pieces */
} blocks;                          /* zeroed: empty */

/* Zeroed, 8-aligned; freed by block_free or blocks_close. *size: in, what is needed, at least 1; out, what it has. */
void *block_alloc(blocks *b, size_t *size);
/* Wipes. size: the need or the size that block_alloc was called with or gave; p may be NULL. */
void block_free(blocks *b, void *p, size_t size);
/* Zeros all of it and frees nothing: only blocks_close may follow. */
void blocks_wipe(blocks *b);
void blocks_close(blocks *b);      /* wipes; leaves an empty one */

#endif
