/* reference: Mamba-1 and Mamba-2 written to be obviously right: one loop an index, float64 sums, no packing, no
 * chunks, no batch. Tests hold the kernels and the engine against it; nothing else calls it. */
#ifndef LETHE_MODEL_REFERENCE_H
#define LETHE_MODEL_REFERENCE_H

#include "../config.h"
#include "tensors.h"

/* y (rows,out) = x (rows,in) W^T + bias; W (out,in) row-major; bias (out) or NULL. */
void reference_matmul(const double *w, const double *bias, size_t out, size_t in, const double *x,
                      size_t rows, double *y);
/* y (n) = x / sqrt(mean(x^2) + epsilon) * weight. */
void reference_rms_norm(const double *x, const double *weight, size_t n, double epsilon, double *y);
/* u (T,D) = silu(conv(x)), zero before the first row; w (D,K), b (D) or NULL. */
void reference_conv(const double *x, const double *w, const double *b, size_t rows, size_t d,
                    size_t k, double *u);
/* y (T,D) from u, dt (before softplus), z (T,D), bc (T, B(N) C(N)), a_log (D,N), d_skip (D); from
 * the zero state. */
void reference_scan(const double *u, const double *dt, const double *z, const double *bc,
                    const double *a_log, const double *d_skip, size_t rows, size_t d, size_t n,
                    double *y);
/* y (T,heads*P) from x, z (T,heads*P), b, c (T,groups*N), dt (T,heads, before softplus), a_log, d_skip (heads);
 * from the zero state. Sizes and the bounds of the step are the configuration's. */
void reference_ssd(const model_config *config, const double *x, const double *b, const double *c, const double *dt,
                   const double *z, const double *a_log, const double *d_skip, size_t rows, double *y);
/* logits (count,vocab) of every position, weights straight from the file. */
MUST_USE result reference_forward(const tensors *file, const model_config *c,
                                  const uint32_t *tokens, size_t count, double *logits);

#endif
