/* One pass of rows through the layers of Mamba-1 (source: Mamba, section 3.4 and Algorithm 2).
 *
 *   h = embedding
 *   each layer:  n = norm(h)
 *        1       x, z = in_proj(n);  u = silu(conv(x))          by channels
 *        2       dt, B, C = x_proj(u)                           by outputs
 *        3       dt = dt_proj(dt);  u = scan(u, dt, B, C) silu(z)   by channels
 *        4       h += out_proj(u)                               by outputs
 *   logits = head(norm_f(h))
 *
 * Each numbered step is one piece of work for the pool: its parts write outputs of their own, in
 * whole panels of 32. Rows are tokens of one sequence, one token each of many, or both. */
#include "../engine.h"

#include <string.h>

enum { ROWS_SHARED = 6 };                  /* at least so many rows a part, or the panels are shared */

typedef struct {
    const model *m;
    const layer *l;
    const segment *segments;
    size_t segment_count, rows, layer_index;
    /* scratch, (rows, width): */
    float *hidden, *normed;                /* d_model, padded */
    float *x, *z, *u, *dt;                 /* d_inner, padded */
    float *params;                         /* dt_rank + 2 d_state, padded */
    size_t wide, narrow, param_width;      /* padded d_inner, d_model, dt_rank + 2 d_state */
    size_t first_logit;
    float *logits;
} pass;

/* Panels [*p0, *p1) of all are this part's. */
static void share_panels(uint32_t all, uint32_t part, uint32_t parts, uint32_t *p0, uint32_t *p1)
{
    *p0 = (uint32_t)((uint64_t)all * part / parts);
    *p1 = (uint32_t)((uint64_t)all * (part + 1) / parts);
}

static mixer_io mixer_of(const pass *s, const segment *g, uint32_t p0, uint32_t p1)
{
    const model_config *c = &s->m->config;
    size_t at = g->row * s->wide;
    float *state = g->state + s->layer_index * s->m->layer_floats;
    size_t d1 = (size_t)p1 * PANEL < c->d_inner ? (size_t)p1 * PANEL : c->d_inner;
    return (mixer_io){
        .rows = g->rows, .stride = s->wide, .d0 = (size_t)p0 * PANEL, .d1 = d1,
        .d_inner = c->d_inner, .d_conv = c->d_conv, .d_state = c->d_state,
        .x = s->x + at, .z = s->z + at, .u = s->u + at, .dt = s->dt + at,
        .bc = s->params + g->row * s->param_width + c->dt_rank, .bc_stride = s->param_width,
        .conv_w = s->l->conv_w, .conv_b = s->l->conv_b, .a = s->l->a, .d = s->l->d,
        .conv_state = state, .ssm_state = state + (size_t)(c->d_conv - 1) * c->d_inner};
}

static void step_in(void *ctx, uint32_t part, uint32_t parts)
{
    const pass *s = ctx;
    uint32_t p0, p1;
    share_panels(matrix_panels(&s->l->in_x), part, parts, &p0, &p1);
    if (p0 == p1) return;
    matmul_io io = {.x = s->normed, .x_stride = s->narrow, .rows = s->rows, .y = s->x,
                    .y_stride = s->wide};
    s->m->kernels->matmul(&s->l->in_x, p0, p1, &io);
    io.y = s->z;
    s->m->kernels->matmul(&s->l->in_z, p0, p1, &io);
    for (size_t i = 0; i < s->segment_count; i++) {
        mixer_io mixer = mixer_of(s, &s->segments[i], p0, p1);
        s->m->kernels->conv(&mixer);
    }
}

static void step_params(void *ctx, uint32_t part, uint32_t parts)
{
    const pass *s = ctx;
    uint32_t panels = matrix_panels(&s->l->x_proj), p0 = 0, p1 = panels;
    size_t r0 = 0, r1 = s->rows;
    /* It has few panels: the rows are shared where there are enough. */
    if (s->rows >= ROWS_SHARED * parts) {
        r0 = s->rows * part / parts;
        r1 = s->rows * (part + 1) / parts;
    } else {
        share_panels(panels, part, parts, &p0, &p1);
    }
    matmul_io io = {.x = s->u + r0 * s->wide, .x_stride = s->wide, .rows = r1 - r0,
                    .y = s->params + r0 * s->param_width, .y_stride = s->param_width};
    s->m->kernels->matmul(&s->l->x_proj, p0, p1, &io);
}

static void step_scan(void *ctx, uint32_t part, uint32_t parts)
{
    const pass *s = ctx;
    uint32_t p0, p1;
    share_panels(matrix_panels(&s->l->dt_proj), part, parts, &p0, &p1);
    if (p0 == p1) return;
    matmul_io io = {.x = s->params, .x_stride = s->param_width, .rows = s->rows, .y = s->dt,
                    .y_stride = s->wide};
    s->m->kernels->matmul(&s->l->dt_proj, p0, p1, &io);
    for (size_t i = 0; i < s->segment_count; i++) {
        mixer_io mixer = mixer_of(s, &s->segments[i], p0, p1);
        s->m->kernels->scan(&mixer);
    }
}

static void step_out(void *ctx, uint32_t part, uint32_t parts)
{
    const pass *s = ctx;
    uint32_t p0, p1;
    share_panels(matrix_panels(&s->l->out_proj), part, parts, &p0, &p1);
    matmul_io io = {.x = s->u, .x_stride = s->wide, .rows = s->rows, .y = s->hidden,
                    .y_stride = s->narrow, .add = true};
    s->m->kernels->matmul(&s->l->out_proj, p0, p1, &io);
}

static void step_head(void *ctx, uint32_t part, uint32_t parts)
{
    const pass *s = ctx;
    const matrix *head = &s->m->weights.head;
    uint32_t p0, p1;
    share_panels(matrix_panels(head), part, parts, &p0, &p1);
    matmul_io io = {.x = s->normed + s->first_logit * s->narrow, .x_stride = s->narrow,
                    .rows = s->rows - s->first_logit, .y = s->logits,
                    .y_stride = s->m->config.vocab_size, .exact_width = true};
    s->m->kernels->matmul(head, p0, p1, &io);
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
    return (pass){.m = m, .rows = rows, .wide = panel_pad(c->d_inner), .narrow = panel_pad(c->d_model),
                  .param_width = panel_pad(c->dt_rank + 2 * (size_t)c->d_state)};
}

size_t mamba_scratch(const model *m, size_t rows)
{
    pass s = pass_of(m, rows);
    return rows * (2 * s.narrow + 4 * s.wide + s.param_width);
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
    s.z = s.x + rows * s.wide;
    s.u = s.z + rows * s.wide;
    s.dt = s.u + rows * s.wide;
    s.params = s.dt + rows * s.wide;
    embed(&s, tokens);
    for (uint32_t i = 0; i < m->config.layers; i++) {
        s.l = &m->weights.layers[i];
        s.layer_index = i;
        norm_rows(&s, s.l->norm, 0);
        pool_run(m->pool, step_in, &s);
        pool_run(m->pool, step_params, &s);
        pool_run(m->pool, step_scan, &s);
        pool_run(m->pool, step_out, &s);
    }
    if (first_logit < rows) {
        norm_rows(&s, m->weights.norm_f, first_logit);
        pool_run(m->pool, step_head, &s);
    }
}
