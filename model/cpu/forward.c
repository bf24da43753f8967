/* The engine on a CPU: one pass from tokens to logits, what is the same whatever the mixers are (pass.h); and states,
 * which are plain memory. */
#include "pass.h"

#include <string.h>

static void step_head(void *ctx, uint32_t part, uint32_t parts)
{
    const pass *s = ctx;
    matmul_io io = {.x = s->normed + s->first_logit * s->narrow, .x_stride = s->narrow,
                    .rows = s->rows - s->first_logit, .y = s->logits,
                    .y_stride = s->m->config.vocab_size, .exact_width = true, .room = pass_room(s, part)};
    pass_matmul(s, &s->m->weights.head, part, parts, &io);
}

static void embed(const pass *s, const uint32_t *tokens)
{
    const matrix *e = &s->m->weights.embeddings;
    for (size_t r = 0; r < s->rows; r++) matrix_output(e, tokens[r], s->hidden + r * s->narrow);
}

static void norm_rows(const pass *s, const float *weight, size_t first)
{
    const model_config *c = &s->m->config;
    for (size_t r = first; r < s->rows; r++)
        s->m->kernels->rms_norm(s->hidden + r * s->narrow, weight, c->d_model, c->norm_epsilon,
                                s->normed + r * s->narrow);
}

static pass pass_of(const model *m, size_t rows)
{
    const model_config *c = &m->config;
    bool mamba2 = c->architecture == ARCHITECTURE_MAMBA2;
    const size_t widest = c->d_inner > c->d_model ? c->d_inner : c->d_model;
    return (pass){.m = m, .rows = rows, .narrow = panel_pad(c->d_model), .wide = panel_pad(c->d_inner),
                  .conv_width = panel_pad(config_conv_channels(c)),
                  .dt_width = panel_pad(mamba2 ? c->heads : c->d_inner),
                  .param_width = mamba2 ? 0 : panel_pad(c->dt_rank + 2 * (size_t)c->d_state),
                  .room_floats = m->kernels->bf16_products ? matmul_room(rows, widest) : 0};
}

/* Floats of scratch memory. */
static size_t scratch_of(const pass *s)
{
    return s->rows * (2 * s->narrow + 2 * s->conv_width + s->wide + s->dt_width + s->param_width) +
           pool_parts(s->m->pool) * s->room_floats;
}

static void place_scratch(pass *s, float *scratch)
{
    const size_t rows = s->rows;
    s->hidden = scratch;
    s->normed = s->hidden + rows * s->narrow;
    s->x = s->normed + rows * s->narrow;
    s->u = s->x + rows * s->conv_width;
    s->z = s->u + rows * s->conv_width;
    s->dt = s->z + rows * s->wide;
    s->params = s->dt + rows * s->dt_width;
    s->room = s->params + rows * s->param_width;
}

static void run_layers(pass *s, const uint32_t *tokens)
{
    const model *m = s->m;
    embed(s, tokens);
    for (uint32_t i = 0; i < m->config.layers; i++) {
        s->l = &m->weights.layers[i];
        s->layer_index = i;
        norm_rows(s, s->l->norm, 0);
        if (m->config.architecture == ARCHITECTURE_MAMBA2) mamba2_mixer(s);
        else mamba_mixer(s);
    }
    if (s->first_logit < s->rows) {
        norm_rows(s, m->weights.norm_f, s->first_logit);
        pool_run(m->pool, step_head, s);
    }
}

static result cpu_forward(const model *m, const segment *segments, size_t segment_count, const uint32_t *tokens,
                          size_t rows, size_t first_logit, float *logits)
{
    ASSERT(rows >= 1 && rows <= MATMUL_ROWS_MAX);
    pass s = pass_of(m, rows);
    s.segments = segments;
    s.segment_count = segment_count;
    s.first_logit = first_logit;
    s.logits = logits;
    void *memory;
    float *scratch = floats_alloc(scratch_of(&s), &memory);
    place_scratch(&s, scratch);
    run_layers(&s, tokens);
    mem_wipe(scratch, scratch_of(&s) * sizeof *scratch);
    stack_wipe(POOL_STACK_WIPED);
    mem_free(memory);
    return OK;
}

static result cpu_open(model *m, const model_options *options)
{
    m->kernels = kernels_pick(options->bf16_products);
    m->info.kernel = m->kernels->name;
    return OK;
}

static result cpu_load(model *m)
{
    (void)m;                               /* they are packed for it */
    return OK;
}

static void cpu_close(model *m) { (void)m; }

static result cpu_logits_open(const model *m, size_t count, float **out)
{
    (void)m;
    *out = mem_alloc_array(count, sizeof(float));
    return OK;
}

static void cpu_logits_close(const model *m, float *logits, size_t count)
{
    (void)m;
    mem_wipe(logits, count * sizeof *logits);
    mem_free(logits);
}

static result cpu_state_open(model_seq *seq)
{
    seq->state = floats_alloc(seq->model->info.state_bytes / sizeof(float), &seq->memory);
    return OK;
}

static void cpu_state_wipe(model_seq *seq)
{
    mem_wipe(seq->state, seq->model->info.state_bytes);
    memset(seq->state, 0, seq->model->info.state_bytes);
}

static void cpu_state_close(model_seq *seq)
{
    cpu_state_wipe(seq);
    mem_free(seq->memory);
}

static result cpu_state_read(const model_seq *seq, buf *out)
{
    buf_append(out, seq->state, seq->model->info.state_bytes);
    return buf_check(out);
}

static result cpu_state_write(model_seq *seq, const uint8_t *from)
{
    memcpy(seq->state, from, seq->model->info.state_bytes);
    return OK;
}

const backend backend_cpu = {
    .backend = MODEL_CPU, .rows_max = MATMUL_ROWS_MAX, .open = cpu_open, .load = cpu_load,
    .close = cpu_close, .forward = cpu_forward, .logits_open = cpu_logits_open, .logits_close = cpu_logits_close,
    .state_open = cpu_state_open, .state_close = cpu_state_close, .state_wipe = cpu_state_wipe,
    .state_read = cpu_state_read, .state_write = cpu_state_write};
