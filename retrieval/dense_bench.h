/* What tests and benchmarks see of dense.c beyond dense.h: the choice of the scan, the bytes of the lists. */
#ifndef LETHE_DENSE_BENCH_H
#define LETHE_DENSE_BENCH_H

#include "dense.h"

/* DENSE_PLAIN_FAISS: the library's own IndexFlatIP, to measure against; its ties and its adding
 * order are its own. The others are one index class with the same bits on every path. */
typedef enum { DENSE_AUTO, DENSE_PORTABLE, DENSE_AVX2, DENSE_PLAIN_FAISS } dense_path;

/* E_UNIMPLEMENTED when the CPU lacks it. centroids: as dense_open_listed takes them, or NULL. */
MUST_USE result dense_open_path(dense **out, uint32_t dimensions, const dense *centroids, dense_path path);
/* The list of each row, and behind the last one what is left of those that went; stale after an addition. */
const uint8_t *dense_lists(const dense *d);

#endif
