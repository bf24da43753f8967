/* lexical: an inverted index of one part of a compartment, in memory only. Internal to retrieval/.
 *
 * Rows are the part's chunks in canonical order (document id, chunk), the same rows as in
 * dense.h; postings are kept in row order and empty terms go, so that what is held is a function
 * of the documents that are there and not of how they came. Removed memory is wiped.
 *
 * Statistics are sums: a search adds them up over what it may use and computes
 * BM25 from the totals, so that nothing else moves a score. Evidence of a chunk is taken
 * at two levels, the chunk and its whole document: a short passage seldom repeats what its
 * document is about.
 *
 * Threads: readers in parallel, one writer; the caller holds the store's lock. */
#ifndef LETHE_LEXICAL_H
#define LETHE_LEXICAL_H

#include "ifc.h"
#include "terms.h"

typedef struct lexical lexical;

void lexical_open(lexical **out);
void lexical_close(lexical **lx);                        /* wipes */
/* Zeros all of it and frees nothing: only lexical_close may follow. Takes the time that writing takes. */
void lexical_wipe(lexical *lx);
/* A document behind all present ones (its id is the greatest). chunks: (count) texts. */
void lexical_append(lexical *lx, terms *t, id128 document, const bytes *chunks, uint32_t count);
/* Moves all of src, which shares no document with dst, into dst; src is left empty. Rows are
 * renumbered once, whatever the number of documents. */
void lexical_merge(lexical *dst, lexical *src);
void lexical_remove(lexical *lx, id128 document);        /* absent is fine */
/* Many at once, ids strictly ascending, in one pass over the postings. */
void lexical_remove_many(lexical *lx, const id128 *documents, size_t count);
/* Moves the documents from the given id on into an empty index. */
void lexical_split(lexical *lx, id128 first, lexical *upper);
uint32_t lexical_rows(const lexical *lx);
uint64_t lexical_bytes(const lexical *lx);
/* The same documents give the same digest, whatever the history (tests). */
uint64_t lexical_digest(const lexical *lx);

/* A query: its distinct terms in order of first occurrence, and how often each occurs; a fraction in a query that
 * feedback makes. */
enum { LEXICAL_QUERY_TERMS_MAX = 256 };
typedef struct {
    uint32_t count;
    float times[LEXICAL_QUERY_TERMS_MAX];
    uint8_t sizes[LEXICAL_QUERY_TERMS_MAX];
    uint8_t terms[LEXICAL_QUERY_TERMS_MAX][TERM_MAX_BYTES];
} lexical_query;
/* Further distinct terms than the maximum are ignored. */
void lexical_query_init(lexical_query *q, terms *t, bytes text);
void lexical_query_add(lexical_query *q, bytes term, float times);
/* Index of a term in the query, or count. */
uint32_t lexical_query_find(const lexical_query *q, bytes term);

/* Sums over indexes; zeroed by the caller before the first. Lengths are in terms. */
typedef struct {
    uint64_t chunks, documents, length;
    uint64_t chunks_with[LEXICAL_QUERY_TERMS_MAX], documents_with[LEXICAL_QUERY_TERMS_MAX];
} lexical_totals;
void lexical_totals_add(const lexical *lx, const lexical_query *q, lexical_totals *totals);
/* In how many chunks a term occurs: also a sum over indexes. */
uint64_t lexical_chunks_with(const lexical *lx, bytes term);

typedef struct { float k1, b, document_share; } lexical_weights;
/* scores (rows) += BM25 of each chunk: (1 - share) x chunk level + share x document level. Added up
 * in query-term order. A row in which (document and all) no term occurs keeps 0. */
void lexical_score(const lexical *lx, const lexical_query *q, const lexical_totals *totals,
                   const lexical_weights *weights, float *scores);
/* ln(1 + (all - with + 0.5) / (with + 0.5)); of a query term at chunk level. */
float lexical_idf_of(uint64_t all, uint64_t with);
float lexical_idf(const lexical_totals *totals, uint32_t term);

#endif
