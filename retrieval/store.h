/* store: one owner's encrypted documents in one LMDB environment (through kv). Internal to retrieval/.
 *
 * Records, all sealed (seal.h) under keys derived from the document's key-tree secret; LMDB keys are
 * hash_keyed(owner secret, ...) so that nothing in the file names anything:
 *   header  "h" || document            version, label, path, media type, bytes, chunk count
 *   chunk   "c" || document || number  span, text, vector (f32 x dimensions)
 *   tombstones  "t"                 what tombstones.h says; sealed under a key of the owner's
 * Associated data bind tenant, owner, document, record kind, chunk number and (header) version.
 * Chunks partition the document's text: their texts in order are the text.
 *
 * Threads: many readers, one writer; the caller (retrieval.c) holds the store's own lock. */
#ifndef LETHE_STORE_H
#define LETHE_STORE_H

#include "keytree.h"
#include "kv.h"

typedef struct store store;

typedef struct {
    id128 id;
    ifc_label label;
    char path[1024];              /* UTF-8, as given at put; personal data */
    char media_type[64];
    uint64_t size_bytes;          /* of the UTF-8 text */
    uint32_t chunk_count;
    uint64_t version;             /* grows with each re-sealing of the header */
} store_header;

typedef struct { uint64_t start, end; bytes text; const float *vector; } store_chunk;

/* path: stores/<owner hex>.mdb. create: make it when absent. */
MUST_USE result store_open(store **out, const char *path, keytree *kt, id128 tenant, id128 owner,
                           uint32_t dimensions, size_t map_max_bytes, bool create);
void store_close(store **s);
/* Wipes its key: from now on it can only be closed. */
void store_forget(store *s);
/* Durably writes documents (header and chunks each) in one transaction; keys must be in the tree.
 * Overwrites a document of the same id (an interrupted or repeated put). */
typedef struct { store_header header; const store_chunk *chunks; } store_document;
MUST_USE result store_put(store *s, const store_document *documents, size_t count);
/* Re-seals one header (label change); bumps version. */
MUST_USE result store_put_header(store *s, store_header *header);
MUST_USE result store_get_header(store *s, id128 document, store_header *out);   /* E_NOT_FOUND */
/* Visits chunks first..first+count-1 of one document; text and vector borrowed within the visit. */
MUST_USE result store_each_chunk(store *s, id128 document, uint32_t first, uint32_t count,
                                 result (*visit)(void *ctx, uint32_t number, const store_chunk *chunk),
                                 void *ctx);
/* Visits all documents that have both a key and a header, in id order. */
MUST_USE result store_each_document(store *s, result (*visit)(void *ctx, const store_header *header),
                                    void *ctx);
/* Removes the records of documents whose keys may already be gone (by hashed key); durable. */
MUST_USE result store_drop(store *s, const id128 *documents, const uint32_t *chunk_counts,
                           size_t count);
/* The owner's tombstones, as bytes. E_NOT_FOUND: none. Put is durable; empty: takes them away. */
MUST_USE result store_get_tombstones(store *s, buf *plain);
MUST_USE result store_put_tombstones(store *s, bytes plain);
/* A consistent copy of the file. */
MUST_USE result store_copy(store *s, const char *path);
/* Removes every record that is no document's, but the tombstones; one transaction. */
MUST_USE result store_prune(store *s);

#endif
