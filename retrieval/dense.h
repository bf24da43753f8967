/* dense: one exact inner-product index of a part of a compartment. Internal to retrieval/; dense.c is the
 * only file that sees FAISS's C headers. Rows are kept in canonical order (by key), so that
 * neither bytes nor results depend on how the set came about; removed rows are zeroed. Beside each row may
 * stand the number of its list, the nearest of frozen centroids (centroids.h), by which a search can read
 * some lists alone. */
#ifndef LETHE_DENSE_H
#define LETHE_DENSE_H

#include "ifc.h"

typedef struct { id128 document; uint32_t chunk; } dense_key;
typedef struct dense dense;
typedef struct { uint32_t row; float score; } dense_hit;

MUST_USE result dense_open(dense **out, uint32_t dimensions);
/* With lists. centroids: at most DENSE_LISTS_MAX rows, borrowed, to outlive it and never to change. */
enum { DENSE_LISTS_MAX = 256 };
MUST_USE result dense_open_listed(dense **out, const dense *centroids);
void dense_close(dense **d);                              /* wipes */
void dense_wipe(dense *d);                                /* leaves it empty; the memory is given back by dense_close */
/* Rows of one document, ascending chunk. Inserted at their canonical place. */
MUST_USE result dense_add(dense *d, id128 document, uint32_t count, const float *vectors);
/* Many documents at once: ids strictly ascending, none of them present; each row moves at most
 * once. */
typedef struct { id128 document; uint32_t count; const float *vectors; } dense_document;
MUST_USE result dense_add_many(dense *d, const dense_document *documents, size_t count);
void dense_remove(dense *d, id128 document);              /* absent is fine */
/* Many at once, ids strictly ascending: each row that stays moves at most once. */
void dense_remove_many(dense *d, const id128 *documents, size_t count);
/* Moves the documents from the given id on into an empty index; after an error both are as before. */
MUST_USE result dense_split(dense *d, id128 first, dense *upper);
/* Moves all of upper, whose ids are above all of d, into d; after an error both are as before. */
MUST_USE result dense_join(dense *d, dense *upper);
uint32_t dense_rows(const dense *d);
dense_key dense_key_of(const dense *d, uint32_t row);
const float *dense_vector(const dense *d, uint32_t row);
/* Best k rows by inner product, descending, ties by key. One query at a time, one thread, one
 * reduction order. Returns how many. */
MUST_USE result dense_search(const dense *d, const float *query, uint32_t k, dense_hit *hits,
                             uint32_t *hit_count);
/* As dense_search, with the same bits, but of the rows alone whose lists are chosen (DENSE_LISTS_MAX; NULL: all rows,
 * with lists or without), and of scores from floor on. */
MUST_USE result dense_search_some(const dense *d, const float *query, const bool *chosen, float floor, uint32_t k,
                                  dense_hit *hits, uint32_t *hit_count);
/* Adds the number of rows of each list to sizes (DENSE_LISTS_MAX). Only with lists, as dense_list. */
void dense_count_lists(const dense *d, uint64_t *sizes);
uint8_t dense_list(const dense *d, uint32_t row);
/* The inner product as dense_search computes it, bit for bit. */
float dense_dot(const dense *d, uint32_t row, const float *query);
/* The row of one chunk; false when it is not here. */
bool dense_find(const dense *d, id128 document, uint32_t chunk, uint32_t *row);
uint64_t dense_bytes(const dense *d);

#endif
