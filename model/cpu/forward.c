/* One pass from tokens to logits: what is the same whatever the mixers are (pass.h). */
#include "pass.h"

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

size_t mamba_scratch(const model *m, size_t rows)
{
    pass s = pass_of(m, rows);
    return rows * (2 * s.narrow + 2 * s.conv_width + s.wide + s.dt_width + s.param_width) +
           pool_parts(m->pool) * s.room_floats;
}

void mamba_forward(const model *m, const segment *segments, size_t segment_count, const uint32_t *tokens, size_t rows,
                   size_t first_logit, float *logits, float *scratch)
{
    ASSERT(rows >= 1 && rows <= MODEL_CHUNK);
    pass s = pass_of(m, rows);
    s.segments = segments;
    s.segment_count = segment_count;
    s.first_logit = first_logit;
    s.logits = logits;
    s.hidden = scratch;
    s.normed = s.hidden + rows * s.narrow;
    s.x = s.normed + rows * s.narrow;
    s.u = s.x + rows * s.conv_width;
    s.z = s.u + rows * s.conv_width;
    s.dt = s.z + rows * s.wide;
    s.params = s.dt + rows * s.dt_width;
    s.room = s.params + rows * s.param_width;
    embed(&s, tokens);
    for (uint32_t i = 0; i < m->config.layers; i++) {
        s.l = &m->weights.layers[i];
        s.layer_index = i;
        norm_rows(&s, s.l->norm, 0);
        if (m->config.architecture == ARCHITECTURE_MAMBA2) mamba2_mixer(&s);
        else mamba_mixer(&s);
    }
    if (first_logit < rows) {
        norm_rows(&s, m->weights.norm_f, first_logit);
        pool_run(m->pool, step_head, &s);
    }
}
