/* centroids: frozen public points that divide the space of vectors into lists, so that a dense search over many chunks
 * reads the nearest lists instead of all rows. Internal to retrieval/.
 *
 * They ship with the embedder (model/train/centroids.py) and were fitted to public text alone. A row's list is the
 * number of its nearest centroid (greatest inner product, the lowest number on ties): a function of the row's vector,
 * kept as one byte beside it (dense.h). There are no lists in memory beyond that byte. A list is the rows that carry its
 * number, found by reading the bytes, so that nothing of a row stays when the row goes, and nothing is to be rebuilt.
 *
 * When a search probes, and what. A compartment is permitted as a whole or not at all, and whatever is not permitted is
 * left out before anything is counted (search.c). The search then adds up, over the permitted parts alone, how many rows
 * each list has; it probes iff their sum reaches the setting, and reads the lists that centroids_choose picks from those
 * sizes and the query. So whether it probes, and which rows it reads, are functions of the query, the rows that
 * the asker may read, the frozen centroids and the settings. A threshold by store, by the process's memory or by a part
 * that somebody else also fills would not be: an asker could see from what is found on which side of it the rows of
 * others stand. One by compartment would be as safe, but relabelling a document within what the asker reads, or
 * another division into parts, could then change what is found; a sum over all of them does not see how rows fall into
 * compartments and parts. After an erasure the sizes are those of a history without what was erased, and so is the
 * search.
 *
 * Searching by subject (subject.c) reads everything and never probes. */
#ifndef LETHE_CENTROIDS_H
#define LETHE_CENTROIDS_H

#include "dense.h"

/* From how many permitted chunks on a dense search probes, and how many of them it then reads at least, in percent. By
 * tests/bench/bench_probe: below the former reading all takes at most a millisecond, and with the latter 0.95 of the best
 * ten are found. Lost: a fixed number of lists. Of a collection about one subject, which fills half as many lists, 48 are
 * 42 % of the rows. */
enum { PROBE_CHUNKS_MIN_DEFAULT = 32768, PROBE_PERCENT_DEFAULT = 20 };

/* Reads DIR/centroids.safetensors: "centroids" I8 (n, dimensions), n at most DENSE_LISTS_MAX, and "scales" F32 (n), by
 * which its rows are multiplied. *out NULL when there is no such file: nothing is probed. Closed by dense_close.
 * E_INVALID: not of this shape, or a number that is not finite. */
MUST_USE result centroids_open(dense **out, const char *dir, uint32_t dimensions);
/* Which lists to read: those nearest to the query, the lower number first on ties, as many as it takes to have
 * least_rows rows, or all that are not empty. sizes, chosen: (DENSE_LISTS_MAX). */
MUST_USE result centroids_choose(const dense *centroids, const float *query, const uint64_t *sizes, uint64_t least_rows,
                                 bool *chosen);

#endif
