/* What tests and benchmarks see of dense.c beyond dense.h: the choice of the scan. */
#ifndef LETHE_DENSE_BENCH_H
#define LETHE_DENSE_BENCH_H

#include "dense.h"

/* DENSE_PLAIN_FAISS: the library's own IndexFlatIP, to measure against; its ties and its adding
 * order are its own. The others are one index class with the same bits on every path. */
typedef enum { DENSE_AUTO, DENSE_PORTABLE, DENSE_AVX2, DENSE_PLAIN_FAISS } dense_path;

/* E_UNIMPLEMENTED when the CPU lacks it. */
MUST_USE result dense_open_path(dense **out, uint32_t dimensions, dense_path path);

#endif
