/* One pass from tokens to logits: what is the same whatever the mixers are (pass.h). */
#include "pass.h"

static void step_head(void *ctx, uint32_t part, uint32_t parts)
{
    const pass *s = ctx;
    matmul_io io = {.x = s->normed + s->first_logit * s->narrow, .x_stride = s->narrow,
                    .rows = s->rows - s->first_logit, .y = s->logits,
                    .y_stride = s->m->config.vocab_size, .exact_width = true};
    pass_matmul(s, &s->m->weights.head, part, parts, &io);
}

static void embed(const pass *s, const uint32_t *tokens)
{
    const matrix *e = &s->m->weights.embeddings;
    for (size_t r = 0; r < s->rows; r++) {
        const float *w = e->w + (size_t)(tokens[r] / PANEL) * e->in * PANEL + tokens[r] % PANEL;
        for (size_t k = 0; k < e->in; k++) s->hidden[r * s->narrow + k] = w[k * PANEL];
    }
}

static void norm_rows(const pass *s, const float *weight, size_t first)
{
    const model_config *c = &s->m->config;
    for (size_t r = first; r < s->rows; r++)
        s->m->kernels->rms_norm(s->hidden + r * s->narrow, weight, c->d_model, c->norm_epsilon,
                                s->normed + r * s->narrow);
}

static void set_widths(pass *s)
{
    const model_config *c = &s->m->config;
    bool mamba2 = c->architecture == ARCHITECTURE_MAMBA2;
    s->narrow = panel_pad(c->d_model);
    s->wide = panel_pad(c->d_inner);
    s->conv_width = panel_pad(config_conv_channels(c));
    s->dt_width = panel_pad(mamba2 ? c->heads : c->d_inner);
    s->param_width = mamba2 ? 0 : panel_pad(c->dt_rank + 2 * (size_t)c->d_state);
}

void mamba_forward(const model *m, const segment *segments, size_t segment_count,
                   const uint32_t *tokens, size_t rows, size_t first_logit, float *logits)
{
    ASSERT(rows >= 1 && rows <= MODEL_CHUNK);
    pass s = {.m = m, .segments = segments, .segment_count = segment_count, .rows = rows,
              .first_logit = first_logit, .logits = logits};
    set_widths(&s);
    size_t count = rows * (2 * s.narrow + 2 * s.conv_width + s.wide + s.dt_width + s.param_width);
    void *memory = NULL;
    float *at = floats_alloc(count, &memory);
    s.hidden = at;
    s.normed = s.hidden + rows * s.narrow;
    s.x = s.normed + rows * s.narrow;
    s.u = s.x + rows * s.conv_width;
    s.z = s.u + rows * s.conv_width;
    s.dt = s.z + rows * s.wide;
    s.params = s.dt + rows * s.dt_width;
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
    mem_wipe(at, count * sizeof(float));
    mem_free(memory);
}
