/* erasure_intent: what is to be erased, durable from step 1 to the receipt. Ids only, and the salt of the receipt's
 * commitment. Under h->erasing. */
#ifndef LETHE_ERASURE_INTENT_H
#define LETHE_ERASURE_INTENT_H

#include "canonical.h"
#include "erasure.h"

enum { INTENT_MAX_BYTES = 256 << 20 };   /* a tenant's names all its owners */
/* Behind its name while it is being destroyed: what ends so is no intent any more. */
#define INTENT_DONE ".done"

typedef struct { id128 owner; bool known; ifc_label label; } fenced_label;

typedef struct {
    erasure_request request;
    id128 id;
    char salt[65], commitment[2 * HASH_BYTES + 1];
    id128 *owners;                       /* whose stores are touched: one, or all of a tenant */
    size_t owner_count, owner_capacity, owner_known;
    id128 *documents;                    /* the request's, sorted by owner */
    uint32_t *chunk_counts;
    id128 *document_owners;
    size_t document_count;
    fenced_label *labels;                /* what the fence took away stood under these; in memory only */
    size_t label_count;
    char path[CONFIG_PATH_MAX];          /* of the intent */
} intent;

/* In the order of owners, each document once: an owner's are one run, [first, first + count). */
void intent_documents_take(intent *i, const erasure_item *items, size_t count);
size_t intent_documents_of(const intent *i, id128 owner, size_t *count);
/* Adds the owners that are not yet known; E_NOT_FOUND: the tenant's keys are gone, what is known was all. */
MUST_USE result intent_owners_collect(house *h, intent *i);
/* Durable. */
MUST_USE result intent_write(house *h, intent *i);
/* E_DATA_LOSS. Free either way. */
MUST_USE result intent_parse(bytes text, intent *i);
MUST_USE result intent_destroy(house *h, const intent *i);
void intent_free(intent *i);

#endif
