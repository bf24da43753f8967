/* slots: the table of open stores. Internal to retrieval/.
 *
 * A slot is pinned while somebody uses it; at most stores_open_max unpinned and pinned ones are
 * kept, the least recently used unpinned one goes first. When all are pinned the table exceeds its
 * size for as long as that lasts: one request's load never turns into another's error.
 *
 * Locks: slot locks are taken in ascending (tenant, owner) order, and never while the table's
 * own lock is held. Writers come before readers, so that an erasure need not wait for a quiet
 * moment. */
#ifndef LETHE_SLOTS_H
#define LETHE_SLOTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "compartment.h"
#include "embedder.h"
#include "retrieval.h"

typedef struct {
    id128 tenant, owner;
    uint32_t users;                /* under retrieval.lock, as used */
    uint64_t used;
    pthread_rwlock_t lock;         /* the rest */
    store *disk;                   /* NULL: not open */
    holding memory;
    _Atomic uint64_t vectors_bytes, lexical_bytes;
} slot;

/* The store of an owner that is being erased, between the fence, which takes it out of the table in no time, and the
 * drop: its memory is to be wiped, its file closed and unlinked. */
typedef struct detached {
    struct detached *next;
    id128 tenant, owner;
    store *disk;
    holding memory;
} detached;

/* What is being erased: from the fence until the records are dropped. document zero: the whole
 * owner. */
typedef struct { id128 tenant, owner, document; } fence;

struct retrieval {
    char *stores_dir;
    keytree *keys;
    embedder *embedder;
    dense *centroids;              /* NULL: the embedder has none */
    uint32_t stores_open_max, chunk_target_bytes, probe_chunks_min, probe_percent;
    uint64_t document_max_bytes, store_max_bytes;
    pthread_mutex_t lock;          /* the table, the fences, each slot's users */
    pthread_cond_t idle;
    slot **slots;
    uint32_t slot_count, slot_capacity;
    uint64_t clock;
    fence *fences;
    uint32_t fence_count, fence_capacity;
    detached *detached;
};

/* Pins and locks the store of an owner, opening it when it is not. E_NOT_FOUND: there is none
 * (create unset), or the owner is being erased. */
MUST_USE result slot_acquire(retrieval *r, id128 tenant, id128 owner, bool write, bool create,
                             slot **out);
void slot_release(retrieval *r, slot **s);
/* As slot_acquire for writing, but opens nothing: *out NULL when the store is not open. Fences
 * do not matter. */
void slot_acquire_open(retrieval *r, id128 tenant, id128 owner, slot **out);
/* Closes a slot's store and wipes its memory; its write lock is held. */
void slot_shut(slot *s);
/* Publishes the sizes after a change; the write lock is held. */
void slot_measure(slot *s);
MUST_USE result slot_path(const retrieval *r, id128 owner, char *path, size_t size);

bool fence_stands(retrieval *r, id128 tenant, id128 owner, id128 document);
/* Adding what stands and removing what does not are fine. */
void fences_add(retrieval *r, id128 tenant, id128 owner, const id128 *documents, size_t count);
void fences_remove(retrieval *r, id128 tenant, id128 owner, const id128 *documents, size_t count);

/* Moves what the slot holds to the list of the detached; its write lock is held. Takes no time by how much it is. */
void slot_detach(retrieval *r, slot *s);
/* Off the list, and the caller's; NULL: none. */
detached *detached_take(retrieval *r, id128 tenant, id128 owner);
void detached_put(retrieval *r, detached *d);
void detached_wipe(detached *d);                 /* vectors, words, keys; file and memory stay */
void detached_close(detached *d);                /* wipes, closes, frees */

#endif
