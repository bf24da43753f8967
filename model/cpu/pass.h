/* pass: one pass of rows through the layers, as its parts share it. Rows are tokens of one sequence, one
 * token each of many, or both.
 *
 *   h = embedding
 *   each layer:  n = norm(h);  h += mixer(n)
 *   logits = head(norm_f(h))
 *
 * A mixer is a few pieces of work for the pool, each of whose parts writes outputs of its own. */
#ifndef LETHE_MODEL_PASS_H
#define LETHE_MODEL_PASS_H

#include "../engine.h"

typedef struct {
    const model *m;
    const layer *l;
    const segment *segments;
    size_t segment_count, rows, layer_index;
    /* scratch, (rows, width): */
    float *hidden, *normed;                /* d_model, padded */
    float *x, *u;                          /* conv channels, padded: the convolution's input and output */
    float *z;                              /* d_inner, padded */
    float *dt;                             /* Mamba-1: d_inner, Mamba-2: heads; padded */
    float *params;                         /* Mamba-1: dt_rank + 2 d_state, padded */
    size_t narrow, conv_width, wide, dt_width, param_width;
    float *room;                           /* (parts, room_floats): what a part's products need */
    size_t room_floats;
    size_t first_logit;
    float *logits;
} pass;

static inline float *pass_room(const pass *s, uint32_t part) { return s->room + part * s->room_floats; }

/* Panels [*p0, *p1) of all are this part's; so with heads. */
static inline void share_panels(uint32_t all, uint32_t part, uint32_t parts, uint32_t *p0, uint32_t *p1)
{
    *p0 = (uint32_t)((uint64_t)all * part / parts);
    *p1 = (uint32_t)((uint64_t)all * (part + 1) / parts);
}

/* This part's panels of y = x W^T over all rows. */
static inline void pass_matmul(const pass *s, const matrix *w, uint32_t part, uint32_t parts, const matmul_io *io)
{
    uint32_t p0, p1;
    share_panels(matrix_panels(w), part, parts, &p0, &p1);
    if (p0 < p1) s->m->kernels->matmul(w, p0, p1, io);
}

/* hidden += mixer(normed). */
void mamba_mixer(pass *s);
void mamba2_mixer(pass *s);

#endif
