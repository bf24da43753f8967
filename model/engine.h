/* engine: what the parts of model/ share. Everything in a model is fixed once it is open. */
#ifndef LETHE_MODEL_ENGINE_H
#define LETHE_MODEL_ENGINE_H

#include "config.h"
#include "constraint.h"
#include "cpu/kernels.h"
#include "model.h"
#include "pool.h"
#include "tensors.h"

#include <assert.h>

enum {
    /* Part of the identity: rises when the arithmetic changes, so that states of different bits
     * never mix. */
    MODEL_NUMERICS = 2
};

typedef struct {
    float *norm;                           /* (d_model) */
    matrix in_x, in_z;                     /* parts of in_proj: (conv channels,d_model), (d_inner,d_model) */
    matrix out_proj;
    float *conv_w, *conv_b;                /* (K,C) for C conv channels; (C), zero where the file has none */
    matrix x_proj, dt_proj;                /* Mamba-1 */
    float *a, *d;                          /* Mamba-1: (N,D) = -exp(A_log) log2(e), (D); Mamba-2: (heads) = -exp(A_log), (heads) */
    matrix in_dt;                          /* Mamba-2: in_proj's part (heads,d_model), its bias with dt_bias */
    float *gated_norm;                     /* Mamba-2: (d_inner) */
} layer;

typedef struct {
    layer *layers;                         /* [config.layers] */
    float *norm_f;                         /* (d_model) */
    matrix embeddings, head;               /* (vocab,d_model); head.w is embeddings.w when tied */
    void **blocks;                         /* every allocation behind the above */
    size_t block_count, block_capacity;
    uint64_t bytes;
    uint8_t identity[32];
} weights;

/* Rows [row, row+rows) of a pass belong to one sequence. */
typedef struct { float *state; size_t row, rows; } segment;

/* What computes: cpu/forward.c, cuda/engine.cu. Loading packs the weights for the CPU in any case. */
typedef struct {
    model_backend backend;
    size_t rows_max;                       /* rows of one pass through the layers, at most */
    /* Before anything is read: finds what it runs on, and names it in m->info.kernel. */
    result (*open)(model *m, const model_options *options);
    /* Once the weights are there: takes what it needs of them. */
    result (*load)(model *m);
    void (*close)(model *m);               /* whatever of open and load has happened */
    /* One pass of at most rows_max rows; the segments cover the rows in order. Ids are within the vocabulary.
     * Logits (rows - first_logit, vocab) are written for rows from first_logit on. What it leaves of the sequences
     * anywhere but in their states it wipes. */
    result (*forward)(const model *m, const segment *segments, size_t segment_count, const uint32_t *tokens, size_t rows,
                      size_t first_logit, float *logits);
    /* Memory for logits, as model_logits_open has it. */
    result (*logits_open)(const model *m, size_t count, float **out);
    void (*logits_close)(const model *m, float *logits, size_t count);
    /* A sequence's state of info.state_bytes: made as zeros; wiped and freed; wiped to zeros; its bytes read and
     * replaced. */
    result (*state_open)(model_seq *seq);
    void (*state_close)(model_seq *seq);
    void (*state_wipe)(model_seq *seq);
    result (*state_read)(const model_seq *seq, buf *out);
    result (*state_write)(model_seq *seq, const uint8_t *from);
} backend;

extern const backend backend_cpu;
#ifdef LETHE_WITH_CUDA
extern const backend backend_cuda;
#endif

struct model {
    model_config config;
    model_marks *marks;                    /* NULL: it does not mark */
    model_info info;
    weights weights;
    tokenizer *tokenizer;
    vocabulary *vocabulary;
    pool *pool;
    const backend *backend;
    const kernels *kernels;                /* the CPU's */
    void *device;                          /* the GPU's engine; else NULL */
    size_t layer_floats;                   /* state of one layer: conv (K-1,C), then SSM: Mamba-1 (N,D),
                                              Mamba-2 (heads,N,head_dim) */
};

struct model_seq {
    const model *model;
    uint64_t length;
    void *memory;                          /* the CPU's: what to free */
    float *state;                          /* (layers, layer_floats), 64-aligned; on a GPU an address there */
};

/* Reads every tensor and packs it. E_INVALID names what is missing or misshapen. */
MUST_USE result weights_load(weights *w, const model_config *c, model_precision precision, const char *dir,
                             bytes config_json);
void weights_free(weights *w);

/* count floats, zeroed, 64-aligned; *memory is what to free. */
float *floats_alloc(size_t count, void **memory);

#endif
