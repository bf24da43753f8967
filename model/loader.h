/* loader: what the architectures' loaders share. Every error is E_INVALID and names the tensor. */
#ifndef LETHE_MODEL_LOADER_H
#define LETHE_MODEL_LOADER_H

#include "engine.h"

enum { NAME_MAX_CHARS = 96, TENSOR_SCALE_NAME = 256 };

typedef struct {
    weights *w;                            /* owns whatever is loaded */
    const model_config *c;
    const tensors *file;
    model_precision precision;
} loader;

/* The small ones are held better than the rest: what they would save is nothing, and they steer the recurrence. */
typedef enum { LARGE, SMALL } matrix_use;

/* Rows [first, first+count) of a tensor as a tensor of its own. */
tensor tensor_rows(const tensor *t, uint64_t first, uint64_t count);
/* The name of the scales that belong to a quantised tensor (quantise.c). E_INVALID: too long. */
MUST_USE result scale_name(char out[TENSOR_SCALE_NAME], const char *name);
/* "backbone.layers.INDEX.PART"; returns out. */
const char *load_name(char out[NAME_MAX_CHARS], uint32_t index, const char *part);
/* A vector (n), padded to whole panels. */
MUST_USE result load_vector(const loader *l, const char *name, size_t n, float **out);
/* Elements [first, first+n) of a vector of all elements. */
MUST_USE result load_vector_part(const loader *l, const char *name, size_t all, size_t first, size_t n, float **out);
/* Rows [first, first+out) of a matrix (all,in), packed. */
MUST_USE result load_matrix_part(const loader *l, const char *name, matrix_use use, size_t all, size_t first,
                                 uint32_t out, uint32_t in, matrix *m);
/* What is Mamba-2's own in a layer: in_proj, the heads' parameters, the gated norm. */
MUST_USE result load_mixer_mamba2(const loader *l, uint32_t index, layer *y);

#endif
