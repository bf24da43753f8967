/* feedback: further words for a query, out of the passages that a first search found. Internal to retrieval/.
 *
 * A relevance model: p(word) = sum over the passages of weight x share of the passage's words that it makes up, cut
 * to the words with the greatest p(word) x IDF. Nothing is read but what it is given: the caller's passages are
 * permitted ones, and the IDF is the caller's too.
 * Source: Lavrenko and Croft, Relevance-based language models (SIGIR 2001), and its mixture with the query, RM3:
 * Abdul-Jaleel et al., UMass at TREC 2004. Departures: a passage counts by the exponential of its fused score, words are
 * chosen by p x IDF, and both queries are scored by BM25 (search.c).
 *
 * Threads: one at a time. */
#ifndef LETHE_FEEDBACK_H
#define LETHE_FEEDBACK_H

#include "lexical.h"

/* Of one passage the first FEEDBACK_PASSAGE_WORDS_MAX words count. */
enum { FEEDBACK_PASSAGES_MAX = 8, FEEDBACK_PASSAGE_WORDS_MAX = 512 };

typedef struct {
    uint32_t passages;             /* the best so many are read, at most FEEDBACK_PASSAGES_MAX; 0: no feedback */
    uint32_t words;                /* and yield so many, at most LEXICAL_QUERY_TERMS_MAX */
    float share;                   /* of the words found in the lexical score; the rest is the query's own */
    float sharpness;               /* a passage counts as exp(sharpness x (its score - the best one's)) */
} feedback_weights;

typedef struct feedback feedback;
void feedback_open(feedback **out);
void feedback_close(feedback **f);                       /* wipes */
/* Begins a passage; at most FEEDBACK_PASSAGES_MAX times. */
void feedback_passage(feedback *f, float weight);
/* More of the passage. */
void feedback_read(feedback *f, terms *t, bytes text);
/* Adds the best words to an empty query, best first, ties by their bytes. Their times are as their p and sum to
 * `times`; none where nothing was read. Once, and last. */
typedef float feedback_idf(void *ctx, bytes term);
void feedback_query(feedback *f, uint32_t words, float times, feedback_idf *idf, void *ctx, lexical_query *query);

#endif
