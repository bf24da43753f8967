/* keytree_private: what the key tree's own files share (keytree.c, keytree_page.c, keytree_file.c,
 * keytree_map.c, keytree_txn.c, keytree_erase.c). Nobody else includes it but tests.
 *
 * Page n (from 1; 0 means none) is the slot of 8704 bytes at offset (n-1)*8704 of the file `pages`:
 * one sealed value of constant size, the rest zeros. Its plaintext is a bucket (up to 64 entries in
 * id order) or a branch (64 children, by the next 6 bits of the id). A page is never changed in
 * place: each write takes a free slot and a fresh random key, which the parent (at last the head)
 * holds. So a key belongs to exactly one content, and whoever cannot open the head of the moment
 * cannot open what was removed before it. */
#ifndef LETHE_KEYTREE_PRIVATE_H
#define LETHE_KEYTREE_PRIVATE_H

#include "keytree.h"

#include <pthread.h>

enum { KT_FANOUT = 64, KT_STEP_BITS = 6, KT_STEPS_MAX = 22, KT_LEVELS = 3, KT_SLOT_BYTES = 8704,
       KT_PLAIN_BYTES = 7944, KT_PATH_MAX_BYTES = 4096,
       KT_REF_BYTES = 8 + 4 + KEY_BYTES + HASH_BYTES,
       KT_ENTRY_BYTES = ID_BYTES + KEY_BYTES + KT_REF_BYTES, KT_POOL_MAX = 32 };
enum { KT_BUCKET = 1, KT_BRANCH = 2 };

/* Where a map or a part of it lies, and the hash of what ids it holds. All zero: empty. */
typedef struct { uint64_t page; uint32_t count; uint8_t key[KEY_BYTES], hash[HASH_BYTES]; } kt_ref;
typedef struct { id128 id; uint8_t secret[KEY_BYTES]; kt_ref sub; } kt_entry;
typedef struct { uint64_t epoch, page_count, commit; kt_ref root; } kt_head;

/* Lives in secure memory only (the pool). count: ids below, for both kinds. */
typedef struct kt_page {
    uint8_t kind, level, step;
    uint32_t count;
    union { kt_entry entries[KT_FANOUT]; kt_ref children[KT_FANOUT]; };
    uint8_t plain[KT_PLAIN_BYTES];
    struct kt_page *next;
} kt_page;

typedef struct { char *dir; int fd; } kt_folder;
typedef struct { kt_head head; } kt_secrets;

struct keytree {
    pthread_rwlock_t lock;              /* all below but the pool */
    pthread_mutex_t pool_lock;          /* pool, pool_count */
    kt_page *pool;
    uint32_t pool_count;
    root_holder *holder;                /* borrowed */
    kt_folder folders[2];               /* the tree; its mirror */
    uint32_t folder_count;
    kt_secrets *now;                    /* secure: the durable head */
    uint64_t page_count;                /* slots handed out so far, free or not */
    uint64_t *free_pages;               /* slots that the durable head does not refer to */
    size_t free_count, free_capacity;
    bool reload;                        /* a head's write failed: read anew what is durable */
    bool broken;                        /* the holder failed at the commit point: no more writes */
    bool damaged;                       /* a page does not open: no slot is reused */
};

/* ---- keytree_page.c: layouts; pure ---- */
uint32_t kt_slot_of(id128 id, uint32_t step);               /* 0..63 */
bool kt_ref_equal(const kt_ref *a, const kt_ref *b);
void kt_page_encode(kt_page *page);                         /* into page->plain */
MUST_USE result kt_page_decode(bytes plain, uint8_t level, uint8_t step, kt_page *page);
MUST_USE result kt_page_seal(kt_page *page, uint64_t number, const uint8_t key[KEY_BYTES],
                             uint8_t slot[KT_SLOT_BYTES]);
MUST_USE result kt_page_unseal(const uint8_t slot[KT_SLOT_BYTES], uint64_t number, uint8_t level,
                               uint8_t step, const uint8_t key[KEY_BYTES], kt_page *page);
/* A head is sealed and opened by the holder under RK of its epoch. */
MUST_USE result kt_head_seal(const kt_head *head, root_holder *holder, buf *out);
MUST_USE result kt_head_unseal(bytes sealed, uint64_t epoch, root_holder *holder, kt_head *head);

/* ---- keytree_proof.c: the Merkle tree over the ids; see there ---- */
void kt_page_hash(const kt_page *page, uint8_t hash[HASH_BYTES]);
/* hash: of the tenant's map of owners. */
void kt_tenant_root(id128 tenant, const uint8_t hash[HASH_BYTES], uint8_t root[HASH_BYTES]);
int kt_node_compare(const void *a, const void *b);   /* by id level for level, a parent first */
id128 kt_node_id(const keytree_node *node, uint8_t level);
/* How many of the nodes [0, count), from the first on, lie in its child of a branch: contiguous, since sorted. */
size_t kt_same_slot(const keytree_node *nodes, size_t count, uint8_t level, uint8_t step);

/* ---- keytree_file.c: folders, slots, heads, mirror ---- */
MUST_USE result kt_folder_open(kt_folder *folder, const char *dir, bool create);
void kt_folder_close(kt_folder *folder);
MUST_USE result kt_slot_write(keytree *kt, uint64_t number, const uint8_t slot[KT_SLOT_BYTES]);
MUST_USE result kt_slots_sync(keytree *kt);
MUST_USE result kt_slot_repair(keytree *kt, uint64_t number);      /* copies it from the mirror */
/* Reads and opens the page of a ref; its count must be the ref's. Any fd of a pages file. */
MUST_USE result kt_page_read(int fd, const kt_ref *ref, uint8_t level, uint8_t step, kt_page *page);
/* Durably, in the mirror first: a failure there leaves the tree itself as it was. */
MUST_USE result kt_head_write(keytree *kt, const kt_head *head);
/* E_NOT_FOUND (no head, or no root key), E_DATA_LOSS. */
MUST_USE result kt_head_read(const kt_folder *folder, uint64_t epoch, root_holder *holder,
                             kt_head *head);
MUST_USE result kt_head_remove(keytree *kt, uint64_t epoch);       /* absent is fine */
MUST_USE result kt_heads_keep(keytree *kt, uint64_t epoch);        /* removes all others */
MUST_USE result kt_mirror_sync(keytree *kt);                       /* makes the mirror equal */

/* ---- keytree_map.c: reading ---- */
kt_page *kt_page_take(keytree *kt);
void kt_page_give(keytree *kt, kt_page **page);                    /* wipes; NULL is fine */
MUST_USE result kt_find(keytree *kt, int fd, const kt_ref *map, uint8_t level, id128 id,
                        kt_entry *out);                            /* E_NOT_FOUND */
MUST_USE result kt_lookup(keytree *kt, int fd, const kt_ref *root, keytree_node node,
                          kt_entry *out);                          /* E_NOT_FOUND */
typedef result kt_visit_fn(void *ctx, const kt_entry *entry);
MUST_USE result kt_each(keytree *kt, int fd, const kt_ref *map, uint8_t level, uint8_t step,
                        kt_visit_fn *visit, void *ctx);
/* Finds which slots are free by walking the whole tree; repairs pages from the mirror. */
MUST_USE result kt_free_rebuild(keytree *kt);
void kt_free_push(keytree *kt, uint64_t number);
/* After a failed head write: reads what is durable. */
MUST_USE result kt_ready(keytree *kt);

/* ---- keytree_txn.c: one change of the tree, page by page copied ---- */
typedef struct {
    keytree *kt;
    bool removing, keep_keys;           /* keep_keys: the broken variant only */
    uint64_t *written, *retired, *discarded;
    size_t written_count, retired_count, discarded_count;
    size_t written_capacity, retired_capacity, discarded_capacity;
} kt_txn;
void kt_txn_begin(kt_txn *txn, keytree *kt, bool removing);
/* nodes are sorted in place. changed: whether *out differs from *in. */
MUST_USE result kt_txn_apply(kt_txn *txn, const kt_ref *in, keytree_node *nodes, size_t count,
                             kt_ref *out, bool *changed);
/* Rewrites the page of *ref under a fresh key. */
MUST_USE result kt_txn_touch(kt_txn *txn, kt_ref *ref);
void kt_txn_commit(kt_txn *txn);        /* the new head is durable: what it left is free */
void kt_txn_abort(kt_txn *txn);         /* nothing refers to what was written */
void kt_txn_forget(kt_txn *txn);        /* unknown which: the free list is rebuilt later */

#endif
