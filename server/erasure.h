/* erasure: the protocol of forgetting, step by step, each durable before the next. */
#ifndef LETHE_ERASURE_H
#define LETHE_ERASURE_H

#include "house.h"

typedef enum { ERASE_DOCUMENTS = 1, ERASE_OWNER = 2, ERASE_TENANT = 3 } erasure_kind;

/* Why documents are erased: one by one, as what was found about a subject, or because newer ones took their place.
 * The last leave no tombstones: their owner goes on with that content. */
typedef enum { ERASURE_ASKED, ERASURE_SUBJECT, ERASURE_REPLACED } erasure_cause;

typedef struct { id128 owner, document; uint32_t chunk_count; } erasure_item;

typedef struct {
    erasure_kind kind;
    erasure_cause cause;                 /* of ERASE_DOCUMENTS */
    id128 tenant, owner;                 /* owner: the principal to erase (ERASE_OWNER) */
    const erasure_item *items;           /* ERASE_DOCUMENTS: of one tenant, of any owners */
    size_t item_count;                   /* at most ERASURE_DOCUMENTS_MAX */
    id128 requester;                     /* zero: the operator */
    const char *target;                  /* what the commitment names: ids, or a name */
} erasure_request;

enum { ERASURE_DOCUMENTS_MAX = 1024 };

/* Returns when COMPLETE. receipt: the signed JSON; salt: 64 hex digits, kept nowhere else. An error
 * behind step 1 leaves the target fenced and the erasure to erasure_retry or the next start. The caller's
 * rpc mark must not match (request_unmark). */
MUST_USE result erasure_run(house *h, const erasure_request *request, buf *receipt, char salt[65]);
/* At start: carries every intent found to its end, forward. */
MUST_USE result erasure_recover(house *h);
/* While serving: takes up what failed on its way (a full disk). Does nothing when nothing did. */
void erasure_retry(house *h);

/* Erasures of a tenant, oldest first; requester zero: all. */
typedef struct { const char *id, *kind; uint64_t epoch, time_ms; } erasure_summary;
MUST_USE result erasure_each(house *h, id128 tenant, id128 requester,
                             result (*visit)(void *ctx, const erasure_summary *summary), void *ctx);
/* E_NOT_FOUND unless this requester's (zero: anybody's of the tenant). */
MUST_USE result erasure_find(house *h, id128 tenant, id128 requester, const char *id, buf *receipt);

/* Test hook: called after each numbered step (1 to 8) when set; a crash test kills the process there. */
extern void (*erasure_step_hook)(int step, const char *what);

#endif
