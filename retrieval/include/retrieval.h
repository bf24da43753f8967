/* retrieval: encrypted stores, one index a compartment, hybrid search within a clearance.
 *
 * A store is opened lazily and closed, its memory wiped, under options.stores_open_max. All documents
 * of one store with one label form a compartment: FAISS indexes and lexical ones. A search
 * touches the compartments that the context permits and no other byte; nothing is filtered after it.
 *
 * Threads: every function may be called from any thread; a lock per store (readers/writer) inside. */
#ifndef LETHE_RETRIEVAL_H
#define LETHE_RETRIEVAL_H

#include "ifc.h"
#include "keytree.h"

typedef struct retrieval retrieval;

typedef struct {
    const char *data_dir;             /* stores go to data_dir/stores */
    const char *embedder_dir;         /* model.safetensors, tokenizer.json (static token vectors); centroids.safetensors */
    keytree *keys;                    /* borrowed for the life of the handle */
    uint32_t stores_open_max;         /* 0: 128 */
    uint64_t document_max_bytes;      /* 0: 64 MiB, before and after text extraction */
    uint64_t store_max_bytes;         /* LMDB map per store; 0: 16 GiB */
    uint32_t chunk_target_bytes;      /* 0: the default, 600; whole sentences up to this */
    /* A dense search over at least so many permitted chunks (0: 32,768) reads only those near the embedder's frozen
     * centroids that are nearest to the query, so many percent of them (0: 20; 100 or more: all, exactly): what it finds
     * is a function of what may be read all the same. Without centroids every search reads all. */
    uint32_t probe_chunks_min, probe_percent;
} retrieval_options;

MUST_USE result retrieval_open(retrieval **out, const retrieval_options *options);
void retrieval_close(retrieval **r);                      /* waits for users, wipes, closes */

/* ---- documents --------------------------------------------------------------------------------- */
enum { RETRIEVAL_PATH_MAX_BYTES = 1023, RETRIEVAL_BATCH_MAX = 256 };

typedef struct {
    const char *path;                 /* as the client names it; valid UTF-8, no NUL, 1..1023 bytes */
    const char *media_type;           /* "text/plain", "text/markdown", "text/html",
                                         "application/pdf", or "" to decide by path and content */
    bytes content;                    /* raw bytes */
    uint8_t nonce[16];                /* the client's put nonce: same owner and nonce, same id */
    ifc_label label;
} retrieval_input;

typedef struct {
    id128 id;
    uint32_t chunk_count;
    uint64_t size_bytes;              /* of the text */
    bool repeats;                     /* stored, and repeats what its owner had erased (tombstones: flag) */
    error_code code;                  /* of this document alone; the others are stored all the same */
    char reason[256];
} retrieval_stored;

/* Stores a batch for one owner: extract text, chunk, embed, one key-tree commit, one LMDB commit.
 * When it returns OK every document with code E_OK is durable and searchable by the next request. A
 * failing batch (disk full: E_UNAVAILABLE) stores nothing. */
MUST_USE result retrieval_put(retrieval *r, id128 tenant, id128 owner, const retrieval_input *inputs,
                              size_t count, retrieval_stored *stored);

/* The id that a put of this owner with this nonce gives. */
MUST_USE result retrieval_document_id(retrieval *r, id128 tenant, id128 owner, const uint8_t nonce[16],
                                      id128 *id);

/* Which stores a request may look into: its own, its groups', and those that shared something with
 * it (acl knows). Order does not matter. What is used is decided by labels alone. */
typedef struct { const ifc_context *context; const id128 *owners; size_t owner_count; } retrieval_scope;

typedef struct {
    id128 id, owner;
    char path[RETRIEVAL_PATH_MAX_BYTES + 1];
    char media_type[64];
    ifc_label label;
    uint64_t size_bytes;
    uint32_t chunk_count;
} retrieval_document;

/* E_NOT_FOUND alike when absent, denied or erased. text (may be NULL) is labelled, in the arena;
 * document (may be NULL) is filled. */
MUST_USE result retrieval_get(retrieval *r, const retrieval_scope *scope, id128 document, arena *a,
                              retrieval_document *info, const ifc_labeled **text);
/* Visits permitted documents in id order, across stores. */
MUST_USE result retrieval_list(retrieval *r, const retrieval_scope *scope,
                               result (*visit)(void *ctx, const retrieval_document *document),
                               void *ctx);
/* The owner's own document whose path equals (for --replace), or E_NOT_FOUND. */
MUST_USE result retrieval_find_path(retrieval *r, id128 tenant, id128 owner, const char *path,
                                    id128 *document);
/* Replaces the label of an owner's document: re-seals one header, moves it between compartments. */
MUST_USE result retrieval_relabel(retrieval *r, id128 tenant, id128 owner, id128 document,
                                  const ifc_label *label);
typedef struct { uint64_t documents, chunks, text_bytes; } retrieval_usage;
MUST_USE result retrieval_usage_of(retrieval *r, id128 tenant, id128 owner, retrieval_usage *out);

/* ---- search ------------------------------------------------------------------------------------ */
/* HYBRID ranks a second time with words of what the first ranking found: better for a topic. QUESTION is the first
 * ranking alone, for when one passage is to hold an answer. */
typedef enum { SEARCH_HYBRID, SEARCH_DENSE, SEARCH_LEXICAL, SEARCH_QUESTION } search_mode;

typedef struct {
    id128 document, owner;
    uint32_t chunk;
    uint64_t start, end;              /* byte span in the document's text */
    float score;                      /* fused; comparable within one answer only */
    float dense, lexical;             /* cosine; BM25, in hybrid mode in part by words of what was found */
    const ifc_labeled *text;          /* the chunk's text, labelled */
} retrieval_hit;

enum { SEARCH_K_MAX = 100, SEARCH_QUERY_MAX_BYTES = 16384 };

/* hits: in the arena, best first, ties by (document id, chunk). The scores are functions of the
 * permitted compartments and the query alone. E_INVALID: k of 0 or over the maximum, bad UTF-8. */
MUST_USE result retrieval_search(retrieval *r, const retrieval_scope *scope, const char *query,
                                 uint32_t k, search_mode mode, arena *a,
                                 retrieval_hit **hits, size_t *hit_count);
/* Cosine of two texts by the embedder, 0 if either has no known token (the extractive reader). */
float retrieval_similarity(retrieval *r, bytes a, bytes b);
/* IDF-weighted overlap of the query's stemmed words with each of n sentences of permitted passages;
 * document frequencies from the permitted compartments. For the extractive reader. */
MUST_USE result retrieval_overlap(retrieval *r, const retrieval_scope *scope, const char *query,
                                  const bytes *sentences, size_t count, float *scores);
/* Splits text into sentences as the chunker does: ends[i] is the byte offset behind sentence i
 * (including trailing white space). Returns how many (at most max). Never splits a character. */
size_t text_sentences(bytes text, size_t *ends, size_t max);

/* ---- subjects ---------------------------------------------------------------------------------- */
enum { SUBJECT_MAX_BYTES = 256, SUBJECT_CANDIDATES_MAX = 1024, SUBJECT_SPANS_MAX = 16 };
typedef enum { SUBJECT_NEIGHBOUR = 1, SUBJECT_IDENTIFIER, SUBJECT_ALIAS, SUBJECT_NAME } subject_class;
typedef struct { uint64_t start, end; } subject_span;
typedef struct {
    id128 document, owner;
    const char *path;
    uint32_t chunk_count;
    subject_class kind;
    float score;                      /* 0 to 1 */
    bool likely;                      /* false: a weak neighbour, to be looked at by a person */
    const char *reason;               /* tells the caller of its own documents' text */
    subject_span spans[SUBJECT_SPANS_MAX];    /* bytes of the document's text */
    size_t span_count;
} subject_candidate;

/* Everything about a person or topic among the documents that the scope's owners themselves own, and of
 * nobody else's: by name and its variants, by what those documents call it besides, and by likeness of
 * what they say. Best first, ties by id; at most SUBJECT_CANDIDATES_MAX (truncated: there was more). In
 * the arena. Reads every such document up to four times. E_INVALID: a bad subject. */
MUST_USE result retrieval_subject(retrieval *r, const retrieval_scope *scope, const char *subject,
                                  arena *a, subject_candidate **out, size_t *count, bool *truncated);

/* ---- erasure (steps 2, 3 and 7; the keys are keytree_erase's) ------------------------------------- */
/* Whole owner: document_count 0. Fence: from its return no new read sees the targets, and reads under
 * way have drained. Then wipe: keys, index, lexical structures in memory. Then drop: records or file.
 * Each is idempotent; drop works when keys are gone (after a crash). */
typedef void retrieval_label_fn(void *ctx, id128 owner, const ifc_label *label);
/* visit (or NULL) is told each label under which the targets were held until now: searches that it permitted may
 * have counted them. NULL for a label: a store that cannot be opened; nobody knows. in_use: a call under way may have
 * read the store, so that it is opened for its labels where it is not open; else nothing is read from the disk. */
MUST_USE result retrieval_fence(retrieval *r, id128 tenant, id128 owner, const id128 *documents,
                                size_t document_count, bool in_use, retrieval_label_fn *visit, void *ctx);
MUST_USE result retrieval_wipe(retrieval *r, id128 tenant, id128 owner, const id128 *documents,
                               size_t document_count);
MUST_USE result retrieval_drop(retrieval *r, id128 tenant, id128 owner, const id128 *documents,
                               const uint32_t *chunk_counts, size_t document_count);

/* ---- tombstones (opt-in, per owner) --------------------------------------------------------------- */
/* While an owner's policy is not off, erased documents of it leave keyed marks in its own store, by which the same
 * content is recognised in its own puts and prompts (how much of it: tombstones.h). Nobody else's are looked at. */
typedef enum { TOMBSTONES_OFF, TOMBSTONES_FLAG, TOMBSTONES_REFUSE } tombstones_policy;
typedef struct { tombstones_policy policy; uint64_t documents, marks; } retrieval_tombstones;
/* With E_PRECONDITION, where the policy is refuse. */
#define RETRIEVAL_REPEATS "this repeats content that you had erased; change the tombstones policy to allow it"
MUST_USE result retrieval_tombstones_get(retrieval *r, id128 tenant, id128 owner, retrieval_tombstones *out);
/* Durable. Off takes all marks away. */
MUST_USE result retrieval_tombstones_set(retrieval *r, id128 tenant, id128 owner, tombstones_policy policy);
/* Of documents that are about to be erased, while their keys live; those without keys, or with damage, are passed
 * over. Idempotent, durable. Nothing where the policy is off. */
MUST_USE result retrieval_tombstones_leave(retrieval *r, id128 tenant, id128 owner, const id128 *documents,
                                           size_t count);
/* Have any of these left some? */
MUST_USE result retrieval_tombstones_hold(retrieval *r, id128 tenant, id128 owner, const id128 *documents,
                                          size_t count, bool *out);
/* A prompt of the owner's: E_PRECONDITION as above; *repeats where the policy is flag. */
MUST_USE result retrieval_tombstones_check(retrieval *r, id128 tenant, id128 owner, bytes text, bool *repeats);

/* ---- backup -------------------------------------------------------------------------------------- */
/* A consistent copy of an owner's store, as ciphertext, to a path that must not exist. E_NOT_FOUND: none. */
MUST_USE result retrieval_copy(retrieval *r, id128 tenant, id128 owner, const char *path);
/* Removes the records that belong to no document of the owner: what an older copy still had. */
MUST_USE result retrieval_prune(retrieval *r, id128 tenant, id128 owner);

typedef struct { uint32_t stores_open; uint64_t vectors_bytes, lexical_bytes; } retrieval_memory;
void retrieval_memory_now(retrieval *r, retrieval_memory *out);

#endif
