/* compartment: what is held in memory of one open store. Internal to retrieval/.
 *
 * The documents of a store, by id, each in the compartment of its label. A compartment is held in parts, each of the
 * documents whose ids begin with certain bits, with one dense and one lexical index over the same rows (chunks by
 * document id and number): so that adding and removing moves one part's rows and not all. A part of more than
 * part_rows_max rows (and one document) is two, one bit longer; two that fit into one are one. A part exists as long
 * as it has documents. All of it is a function of the documents that are there. Search does not see where the parts
 * end (search.c). Threads: the caller holds the store's lock. */
#ifndef LETHE_COMPARTMENT_H
#define LETHE_COMPARTMENT_H

#include "dense.h"
#include "lexical.h"
#include "store.h"

enum { PART_ROWS_MAX = 8192 };

typedef struct {
    ifc_label label;
    id128 prefix;                  /* of its documents' ids; zeros behind the first bits */
    uint32_t bits;
    dense *vectors;
    lexical *words;
    uint32_t documents;
} part;

typedef struct {
    id128 id;
    part *home;                    /* in holding.parts */
    char *path;                    /* owned: the path, NUL, the media type, NUL */
    uint64_t size_bytes;
    uint32_t chunk_count;
} holding_document;

typedef struct {
    uint32_t dimensions, part_rows_max;      /* the latter PART_ROWS_MAX, but for tests */
    const dense *centroids;        /* borrowed; NULL: rows have no lists */
    part **parts;
    uint32_t part_count, part_capacity;
    holding_document *documents;   /* ascending ids */
    uint32_t document_count, document_capacity;
    uint64_t chunks, text_bytes;
} holding;

void holding_init(holding *h, uint32_t dimensions, const dense *centroids);
void holding_clear(holding *h);                           /* wipes */
/* Zeros what is held; the memory is given back by holding_clear, which alone may follow. */
void holding_wipe(holding *h);
const char *holding_media_type(const holding_document *d);
holding_document *holding_find(const holding *h, id128 id);        /* NULL when absent */
/* The document, or where it is absent the one beside it in the order of ids; NULL when there is none. One path whether
 * it is there or not. */
const holding_document *holding_near(const holding *h, id128 id, bool *present);
/* Removes rows and words, wiping them. Absent is fine. */
void holding_remove(holding *h, id128 id);
/* Many at once, ids in any order: each row that stays moves at most once. */
void holding_remove_many(holding *h, const id128 *ids, size_t count);

/* Documents to add at once (at most 2^32); ids in any order, each one absent from the holding.
 * chunk texts are only read, vectors copied. */
typedef struct {
    const store_header *header;
    const bytes *texts;            /* (chunk_count) */
    const float *vectors;          /* (chunk_count, dimensions) */
    uint32_t group;                /* set inside: additions of one label share it */
} holding_addition;
/* After an error the holding is not to be used: the caller clears it and loads it again. */
MUST_USE result holding_add(holding *h, holding_addition *additions, size_t count);
/* Fills an empty holding from the store, leaving out the documents for which skip says true. */
MUST_USE result holding_load(holding *h, store *disk, bool (*skip)(void *ctx, id128 id), void *ctx);
/* Adds one document from the store (after a change of its label). */
MUST_USE result holding_load_document(holding *h, store *disk, const store_header *header);
uint64_t holding_vectors_bytes(const holding *h);
uint64_t holding_lexical_bytes(const holding *h);

#endif
