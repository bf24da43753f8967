/* keytree: every key of the house, wrapped along tenant / owner / document under one root key that
 * lives elsewhere (the root holder). Erasing re-keys the path from leaf to root and destroys the old
 * root key, so that whatever older image of the disk exists is wrapped under a dead key.
 *
 *   DATA/keytree/pages          copy-on-write pages; a page is one sealed map of up to 64 entries
 *   DATA/keytree/head.<epoch>   root page number and the like, sealed under RK_<epoch>
 *
 * The root key never leaves its holder (holder.h), which seals and opens the head.
 *
 * Each level (tenants, owners of a tenant, documents of an owner) is a radix map of 6 bits a step
 * over the 16-byte ids, in canonical shape (a bucket splits past 64 entries and merges back at 64):
 * the shape is a function of the set of ids, not of its history. An entry holds a random `secret`,
 * stable for its life, and the wrapping key and page of its subtree, renewed at each erasure below.
 *
 * Threads: readers run in parallel; writers exclude each other and readers (one lock inside). */
#ifndef LETHE_KEYTREE_H
#define LETHE_KEYTREE_H

#include "holder.h"
#include "ifc.h"
#include "seal.h"

/* ---- tree ------------------------------------------------------------------------------------- */
typedef struct keytree keytree;

/* dir: DATA/keytree. mirror: second folder written synchronously, or NULL. create makes epoch 1 and
 * its root key; E_EXISTS if there is a tree. Open: E_NOT_FOUND (no tree), E_PRECONDITION (the tree is
 * older than the holder, or the holder has no key for it), E_DATA_LOSS. An epoch change that was cut
 * off is carried to whichever side of the commit point it stood on: while both roots live the older
 * tree is used and the newer discarded (the caller replays its intent). */
MUST_USE result keytree_create(keytree **out, const char *dir, const char *mirror,
                               root_holder *holder);
MUST_USE result keytree_open(keytree **out, const char *dir, const char *mirror,
                             root_holder *holder);
void keytree_close(keytree **kt);
uint64_t keytree_epoch(keytree *kt);

/* A node: tenant alone, tenant/owner, or tenant/owner/document. The all-zero tenant is the system's
 * own (operator's records, TLS and signing keys); an owner id may equal its tenant's id (the tenant's
 * own records). depth says how many of the ids are used. */
typedef struct { uint8_t depth; id128 tenant, owner, document; } keytree_node;
keytree_node keytree_tenant(id128 tenant);
keytree_node keytree_owner(id128 tenant, id128 owner);
keytree_node keytree_document(id128 tenant, id128 owner, id128 document);

/* Adds nodes with fresh secrets in one durable commit; parents must exist or come earlier in the
 * list. A node that exists is left alone (idempotent). */
MUST_USE result keytree_add(keytree *kt, const keytree_node *nodes, size_t count);
/* The node's stable secret. The caller wipes it. E_NOT_FOUND. */
MUST_USE result keytree_secret(keytree *kt, keytree_node node, uint8_t secret[KEY_BYTES]);
/* Visits the ids directly below (owners of a tenant, documents of an owner; depth 0 node = tenants)
 * in id order. The visitor must not call back into the tree. */
MUST_USE result keytree_each(keytree *kt, keytree_node parent,
                             result (*visit)(void *ctx, id128 id, const uint8_t secret[KEY_BYTES]),
                             void *ctx);
MUST_USE result keytree_count(keytree *kt, keytree_node parent, uint64_t *count);

/* The numbered steps of DESIGN section 6, for crash tests and progress: called after each one. */
typedef void keytree_step_fn(void *ctx, int step, const char *what);
typedef struct {
    uint64_t epoch_before, epoch_after;
    uint8_t subtree_before[HASH_BYTES];    /* Merkle root over the ids below the first target's */
    uint8_t subtree_after[HASH_BYTES];     /* tenant: owners and their documents; zeros when gone */
    uint32_t pages_written;
} keytree_erasure;
/* Steps 4 to 6: new root key, new path pages and head, fsync, verify by reopening, then destroy the
 * old root key (the commit point). Targets that are absent are skipped (idempotent replay); with
 * none present the epoch is advanced all the same. On error before 6 the old epoch stands. */
MUST_USE result keytree_erase(keytree *kt, const keytree_node *targets, size_t count,
                              keytree_step_fn *step, void *step_ctx, keytree_erasure *out);

/* ---- proof of absence ------------------------------------------------------------------------- */
enum { KEYTREE_PROOF_MAX_BYTES = 8 << 20 };
/* Appends a proof that no target is below its tenant (of a tenant: that it is gone; an empty proof), and
 * gives the tenant's Merkle root that it goes with (zeros: gone). All targets are of one tenant.
 * E_PRECONDITION: one of them is there. What a proof tells of others: how many ids stand beside the
 * targets' places, as hashes (ids are 128 random bits), and nothing of keys. */
MUST_USE result keytree_absence_prove(keytree *kt, const keytree_node *targets, size_t count,
                                      uint8_t root[HASH_BYTES], buf *proof);
/* Pure; any bytes. True: with this root, none of the targets is below the tenant. */
bool keytree_absence_verify(bytes proof, const keytree_node *targets, size_t count,
                            const uint8_t root[HASH_BYTES]);

#endif
