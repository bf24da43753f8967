/* The engine on a GPU as model/ sees it: packs the weights for it (layout.h), and gives its errors the house's codes. */
#include "cuda.h"
#include "engine.h"
#include "layout.h"
#include "mutant.h"
#include "seal.h"

#include <stdlib.h>
#include <string.h>

#define LOG2_E 1.44269504f

static result result_of(cuda_error r)
{
    return r == CUDA_FINE ? OK : fail(E_UNAVAILABLE, "%s", cuda_why());
}

/* ---- packing --------------------------------------------------------------------------------------------- */

/* Outputs [first, first+count) of m become outputs at and on of what is packed. */
typedef struct { const matrix *m; uint32_t first, count, at; } part;

typedef struct {
    const part *parts;
    size_t count;
    bool f32;
    uint32_t in_padded;
    void *packed;
    float *bias;
} packing;

static void pack_output(const packing *p, const part *from, uint32_t i, float *row)
{
    const uint32_t at = from->at + i;
    matrix_output(from->m, from->first + i, row);
    if (from->m->bias != NULL) p->bias[at] = from->m->bias[from->first + i];
    if (p->f32) {
        memcpy((float *)p->packed + (size_t)at * p->in_padded, row, from->m->in * sizeof *row);
        return;
    }
    uint16_t *to = p->packed;
    for (uint32_t k = 0; k < from->m->in; k++) to[layout_fragment(at, k, p->in_padded)] = bfloat_from_float(row[k]);
}

static void pack_share(void *ctx, uint32_t share, uint32_t shares)
{
    const packing *p = ctx;
    float *row = mem_alloc_array(p->in_padded, sizeof *row);
    for (size_t j = 0; j < p->count; j++) {
        const part *from = &p->parts[j];
        const uint32_t end = (uint32_t)((uint64_t)from->count * (share + 1) / shares);
        for (uint32_t i = (uint32_t)((uint64_t)from->count * share / shares); i < end; i++) pack_output(p, from, i, row);
    }
    mem_free(row);
}

/* out: all outputs, pads included. */
static result send_matrix(model *m, bool f32, uint32_t index, cuda_matrix which, uint32_t out, const part *parts,
                          size_t count)
{
    const uint32_t in = parts[0].m->in;
    packing p = {.parts = parts, .count = count, .f32 = f32, .in_padded = layout_width(in)};
    const size_t outputs = layout_pad(out, LAYOUT_OUTPUTS);
    p.packed = mem_alloc_array(outputs * p.in_padded, f32 ? sizeof(float) : sizeof(uint16_t));
    p.bias = mem_alloc_array(outputs, sizeof *p.bias);
    pool_run(m->pool, pack_share, &p);
    result r = result_of(cuda_set_matrix(m->device, index, which, p.packed, out, in, p.bias));
    mem_free(p.packed);
    mem_free(p.bias);
    return r;
}

/* values (rows,width) in rows of a padded width, each times scale. */
static result send_vector(model *m, uint32_t index, cuda_vector which, const float *values, size_t rows, size_t width,
                          float scale)
{
    const size_t padded = layout_width((uint32_t)width);
    float *all = mem_alloc_array(rows * padded, sizeof *all);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < width; i++) all[r * padded + i] = scale * values[r * width + i];
    result r = result_of(cuda_set_vector(m->device, index, which, all, rows * padded));
    mem_free(all);
    return r;
}

static result send_layer(model *m, const cuda_shape *s, uint32_t index)
{
    const layer *y = &m->weights.layers[index];
    const cuda_widths w = cuda_widths_of(s);
    const part in[] = {{&y->in_x, 0, w.channels, 0},
                       {&y->in_z, 0, s->d_inner, w.z_at},
                       {&y->in_dt, 0, s->heads, w.dt_at}};
    const part out = {&y->out_proj, 0, s->d_model, 0};
    TRY(send_matrix(m, s->f32, index, CUDA_IN, w.in, in, s->mamba2 ? 3 : 2));
    TRY(send_matrix(m, s->f32, index, CUDA_OUT, s->d_model, &out, 1));
    TRY(send_vector(m, index, CUDA_NORM, y->norm, 1, s->d_model, 1.0f));
    TRY(send_vector(m, index, CUDA_CONV_W, y->conv_w, s->d_conv, w.channels, 1.0f));
    TRY(send_vector(m, index, CUDA_CONV_B, y->conv_b, 1, w.channels, 1.0f));
    TRY(send_vector(m, index, CUDA_D, y->d, 1, s->mamba2 ? s->heads : s->d_inner, 1.0f));
    if (s->mamba2) {
        TRY(send_vector(m, index, CUDA_A, y->a, 1, s->heads, LOG2_E));
        return send_vector(m, index, CUDA_GATED_NORM, y->gated_norm, 1, s->d_inner, 1.0f);
    }
    const part params[] = {{&y->x_proj, 0, s->dt_rank, 0}, {&y->x_proj, s->dt_rank, s->d_state, w.bc_at},
                           {&y->x_proj, s->dt_rank + s->d_state, s->d_state, w.bc_at + w.states}};
    const part step = {&y->dt_proj, 0, s->d_inner, 0};
    TRY(send_matrix(m, s->f32, index, CUDA_PARAMS, w.params, params, 3));
    TRY(send_matrix(m, s->f32, index, CUDA_STEP, s->d_inner, &step, 1));
    return send_vector(m, index, CUDA_A, y->a, s->d_state, s->d_inner, 1.0f);
}

static result send_weights(model *m, const cuda_shape *s)
{
    const weights *w = &m->weights;
    const part embeddings = {&w->embeddings, 0, s->vocab, 0}, head = {&w->head, 0, s->vocab, 0};
    for (uint32_t i = 0; i < s->layers; i++) TRY(send_layer(m, s, i));
    TRY(send_matrix(m, s->f32, s->layers, CUDA_IN, s->vocab, &embeddings, 1));
    if (w->head.w != w->embeddings.w) TRY(send_matrix(m, s->f32, s->layers, CUDA_OUT, s->vocab, &head, 1));
    return send_vector(m, s->layers, CUDA_NORM, w->norm_f, 1, s->d_model, 1.0f);
}

/* ---- the seam -------------------------------------------------------------------------------------------- */

static cuda_shape shape_of(const model *m)
{
    const model_config *c = &m->config;
    return (cuda_shape){.mamba2 = c->architecture == ARCHITECTURE_MAMBA2,
                        .f32 = m->weights.layers[0].out_proj.type == MATRIX_F32,
                        .vocab = c->vocab_size,
                        .d_model = c->d_model,
                        .d_inner = c->d_inner,
                        .d_state = c->d_state,
                        .d_conv = c->d_conv,
                        .dt_rank = c->dt_rank,
                        .layers = c->layers,
                        .heads = c->heads,
                        .head_dim = c->head_dim,
                        .groups = c->groups,
                        .dt_min = c->dt_min,
                        .dt_max = c->dt_max,
                        .epsilon = c->norm_epsilon,
                        .layer_floats = m->layer_floats};
}

/* LETHE_CUDA_WITHOUT in the environment: some of graphs, overlap and wgmma, for debugging. */
static result gpu_open(model *m, const model_options *options)
{
    const char *without = getenv("LETHE_CUDA_WITHOUT");
    cuda_engine *e = NULL;
    TRY(result_of(cuda_open(&e, options->device, without == NULL ? "" : without)));
    m->device = e;
    m->info.kernel = cuda_name(e);
    return OK;
}

/* Other arithmetic, other states: the identity says so. */
static void identify(model *m)
{
    buf all;
    buf_init(&all, 256);
    buf_append(&all, m->weights.identity, sizeof m->weights.identity);
    buf_append_str(&all, m->info.kernel);
    hash_plain("lethe-model-cuda", buf_bytes(&all), m->info.identity);
    buf_free(&all);
}

static result gpu_load(model *m)
{
    const matrix_type held = m->weights.layers[0].out_proj.type;
    if (held != MATRIX_F32 && held != MATRIX_BF16)
        return fail(E_UNIMPLEMENTED, "on a GPU weights are held as f32 or bf16; this model's are %s", m->info.precision);
    const cuda_shape s = shape_of(m);
    TRY(result_of(cuda_prepare(m->device, &s)));
    TRY(send_weights(m, &s));
    identify(m);
    weights_free(&m->weights);             /* the host's copy is of no more use */
    m->info.weight_bytes = cuda_weight_bytes(m->device);
    return OK;
}

static void gpu_close(model *m)
{
    cuda_engine *e = m->device;
    cuda_close(&e);
    m->device = NULL;
}

static result gpu_forward(const model *m, const segment *segments, size_t segment_count, const uint32_t *tokens,
                          size_t rows, size_t first_logit, float *logits)
{
    float *states[CUDA_STEPS_MAX];
    uint32_t lengths[CUDA_STEPS_MAX];
    ASSERT(rows >= 1 && rows <= CUDA_ROWS_MAX && segment_count <= CUDA_STEPS_MAX && first_logit + CUDA_STEPS_MAX >= rows);
    for (size_t i = 0; i < segment_count; i++) {
        states[i] = segments[i].state;
        lengths[i] = (uint32_t)segments[i].rows;
    }
    const bool graphed = cuda_graphed(m->device);
    const result r = result_of(cuda_forward(m->device, states, lengths, segment_count, tokens, first_logit, logits));
    if (graphed && !cuda_graphed(m->device)) log_event(LOG_WARN, "gpu_without_graphs", LOG_TEXT("kernel", m->info.kernel));
    return r;
}

static result gpu_logits_open(const model *m, size_t count, float **out)
{
    return result_of(cuda_pinned_open(m->device, out, count));
}

static void gpu_logits_close(const model *m, float *logits, size_t count) { cuda_pinned_close(m->device, logits, count); }

static result gpu_state_open(model_seq *seq) { return result_of(cuda_state_open(seq->model->device, &seq->state)); }

static void gpu_state_close(model_seq *seq) { cuda_state_close(seq->model->device, seq->state); }

/* A device that failed has no memory that could be read. */
static void gpu_state_wipe(model_seq *seq)
{
    if (cuda_state_wipe(seq->model->device, seq->state) != CUDA_FINE)
        log_event(LOG_ERROR, "gpu_failed", LOG_TEXT("why", cuda_why()));
}

static result gpu_state_read(const model_seq *seq, buf *out)
{
    enum { PIECE = 1 << 20 };
    const size_t all = seq->model->info.state_bytes;
    uint8_t *piece = mem_alloc(PIECE);
    result r = OK;
    for (size_t at = 0; at < all && is_ok(r); at += PIECE) {
        const size_t n = all - at < PIECE ? all - at : PIECE;
        r = result_of(cuda_state_read(seq->model->device, seq->state, piece, at, n));
        if (is_ok(r)) buf_append(out, piece, n);
    }
    mem_wipe(piece, PIECE);
    mem_free(piece);
    return is_ok(r) ? buf_check(out) : r;
}

static result gpu_state_write(model_seq *seq, const uint8_t *from)
{
    return result_of(cuda_state_write(seq->model->device, seq->state, from, 0, seq->model->info.state_bytes));
}

const backend backend_cuda = {
    .backend = MODEL_CUDA, .rows_max = CUDA_ROWS_MAX, .open = gpu_open,
    .load = gpu_load, .close = gpu_close, .forward = gpu_forward, .logits_open = gpu_logits_open,
    .logits_close = gpu_logits_close, .state_open = gpu_state_open, .state_close = gpu_state_close,
    .state_wipe = gpu_state_wipe, .state_read = gpu_state_read, .state_write = gpu_state_write};
