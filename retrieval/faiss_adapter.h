/* The FAISS index class that Lethe brings along, behind FAISS's own C types. Internal: dense.c
 * only.
 *
 * The adapter also defines those functions of FAISS's C API that dense.c calls, for builds whose
 * FAISS library carries the C headers without the symbols (Debian 12). */
#ifndef LETHE_FAISS_ADAPTER_H
#define LETHE_FAISS_ADAPTER_H

#include <faiss/c_api/IndexFlat_c.h>
#include <faiss/c_api/Index_c.h>
#include <faiss/c_api/impl/AuxIndexStructures_c.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { SCAN_AUTO, SCAN_PORTABLE, SCAN_AVX2 } lethe_scan_path;

/* An exact inner-product index whose search() reads the rows at the speed of memory, whose ties
 * go to the lower row, and whose memory is wiped when it grows, shrinks or dies. Every path adds
 * in the same order and gives the same bits. path: SCAN_AUTO picks the widest that the CPU has;
 * one that it lacks is an error (non-zero). Zero on success, as everywhere in FAISS's C API. */
int lethe_faiss_IndexFlatIP_new(FaissIndexFlatIP **out, faiss_idx_t dimensions,
                                lethe_scan_path path);
/* The rows (ntotal, d) of such an index or of FAISS's own IndexFlatIP; NULL or stale after the next
 * addition or removal. */
float *lethe_faiss_rows(const FaissIndexFlatIP *index);
/* Zeros the rows of such an index or of FAISS's own IndexFlatIP, and leaves it empty. */
void lethe_faiss_wipe(FaissIndexFlatIP *index);
/* As faiss_Index_search of such an index with one query, with the same bits, but of the given rows alone (ascending;
 * NULL: all, whatever the count), and of scores from floor on. */
int lethe_faiss_search_some(const FaissIndexFlatIP *index, const uint32_t *rows, size_t count, float floor,
                            const float *query, faiss_idx_t k, float *scores, faiss_idx_t *labels);
/* One inner product, with the bits that the index gives. */
float lethe_faiss_dot(const float *x, const float *y, size_t dimensions);

#ifdef __cplusplus
}
#endif
#endif
