/* search: how the two rankings become one. Internal to retrieval/; the evaluation tool tries
 * others. */
#ifndef LETHE_SEARCH_H
#define LETHE_SEARCH_H

#include "feedback.h"
#include "retrieval.h"

/* A hybrid search is made twice, the second time with feedback's words beside the query's own.
 * A hybrid score is dense_share x dense + (1 - dense_share) x lexical, each scaled over the
 * candidates: dense from the lowest to the highest, lexical from 0 to the highest. */
typedef struct {
    lexical_weights lexical;
    float dense_share;
    float window_share;            /* part of a chunk's dense score that is its surroundings' */
    float rarity;                  /* a query's word counts as IDF^rarity in its vector */
    feedback_weights feedback;
} search_weights;

extern const search_weights SEARCH_WEIGHTS;

MUST_USE result search_with(retrieval *r, const retrieval_scope *scope, const char *query,
                            uint32_t k, search_mode mode, const search_weights *weights, arena *a,
                            retrieval_hit **hits, size_t *hit_count);

#endif
