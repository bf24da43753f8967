/* merkle: an append-only Merkle tree over log entries, as RFC 6962 (section 2.1) defines it, with SHA-256.
 * Hashes of complete subtrees are kept, so that appending costs O(1) amortised and a proof O(log n).
 * Verification is that of RFC 9162, sections 2.1.3.2 and 2.1.4.2; pure. */
#ifndef LETHE_MERKLE_H
#define LETHE_MERKLE_H

#include "base.h"

enum { MERKLE_BYTES = 32, MERKLE_LEVELS = 48, MERKLE_PATH_MAX = 2 * MERKLE_LEVELS };

typedef struct { uint8_t b[MERKLE_BYTES]; } merkle_hash;
typedef struct {
    uint64_t size;
    struct { merkle_hash *at; size_t count, capacity; } levels[MERKLE_LEVELS];
} merkle;

void merkle_free(merkle *t);
merkle_hash merkle_leaf(bytes entry);                           /* SHA-256(0x00 || entry) */
void merkle_append(merkle *t, merkle_hash leaf);
/* Root of the first size leaves; size <= t->size. Of none: SHA-256 of nothing. */
merkle_hash merkle_root(const merkle *t, uint64_t size);
/* Audit path of leaf index in the first size leaves, lowest first. Returns its length. */
size_t merkle_inclusion(const merkle *t, uint64_t index, uint64_t size, merkle_hash path[MERKLE_PATH_MAX]);
bool merkle_inclusion_verify(merkle_hash leaf, uint64_t index, uint64_t size, const merkle_hash *path,
                             size_t count, merkle_hash root);
/* That the first `first` leaves are a prefix of the first `second`; 0 < first <= second. */
size_t merkle_consistency(const merkle *t, uint64_t first, uint64_t second,
                          merkle_hash path[MERKLE_PATH_MAX]);
bool merkle_consistency_verify(uint64_t first, uint64_t second, merkle_hash first_root,
                               merkle_hash second_root, const merkle_hash *path, size_t count);

#endif
