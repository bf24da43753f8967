/* The mixer of Mamba-1 (source: Mamba, section 3.4 and Algorithm 2).
 *
 *        1       x, z = in_proj(n);  u = silu(conv(x))          by channels
 *        2       dt, B, C = x_proj(u)                           by outputs
 *        3       dt = dt_proj(dt);  u = scan(u, dt, B, C) silu(z)   by channels
 *        4       h += out_proj(u)                               by outputs
 *
 * Each numbered step is one piece of work for the pool: its parts write outputs of their own, in
 * whole panels of 32. */
#include "pass.h"

enum { ROWS_SHARED = 6 };                  /* at least so many rows a part, or the panels are shared */

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
                    .y_stride = s->wide, .room = pass_room(s, part)};
    s->m->kernels->matmul(&s->l->in_x, p0, p1, &io);
    io.y = s->z;
    s->m->kernels->matmul(&s->l->in_z, p0, p1, &io);
    for (size_t i = 0; i < s->segment_count; i++) {
        mixer_io mixer = mixer_of(s, &s->segments[i], p0, p1);
        s->m->kernels->conv(&mixer);
    }
}

/* It has few panels: the rows are shared where there are enough of them. */
static void step_params(void *ctx, uint32_t part, uint32_t parts)
{
    const pass *s = ctx;
    const matrix *w = &s->l->x_proj;
    matmul_io io = {.x = s->u, .x_stride = s->wide, .rows = s->rows, .y = s->params,
                    .y_stride = s->param_width, .room = pass_room(s, part)};
    if (s->rows < ROWS_SHARED * parts) {
        pass_matmul(s, w, part, parts, &io);
        return;
    }
    size_t first = s->rows * part / parts;
    io.rows = s->rows * (part + 1) / parts - first;
    io.x += first * io.x_stride;
    io.y += first * io.y_stride;
    s->m->kernels->matmul(w, 0, matrix_panels(w), &io);
}

static void step_scan(void *ctx, uint32_t part, uint32_t parts)
{
    const pass *s = ctx;
    uint32_t p0, p1;
    share_panels(matrix_panels(&s->l->dt_proj), part, parts, &p0, &p1);
    if (p0 == p1) return;
    matmul_io io = {.x = s->params, .x_stride = s->param_width, .rows = s->rows, .y = s->dt,
                    .y_stride = s->wide, .room = pass_room(s, part)};
    s->m->kernels->matmul(&s->l->dt_proj, p0, p1, &io);
    for (size_t i = 0; i < s->segment_count; i++) {
        mixer_io mixer = mixer_of(s, &s->segments[i], p0, p1);
        s->m->kernels->scan(&mixer);
    }
}

static void step_out(void *ctx, uint32_t part, uint32_t parts)
{
    const pass *s = ctx;
    matmul_io io = {.x = s->u, .x_stride = s->wide, .rows = s->rows, .y = s->hidden,
                    .y_stride = s->narrow, .add = true, .room = pass_room(s, part)};
    pass_matmul(s, &s->l->out_proj, part, parts, &io);
}

void mamba_mixer(pass *s)
{
    pool *p = s->m->pool;
    pool_run(p, step_in, s);
    pool_run(p, step_params, s);
    pool_run(p, step_scan, s);
    pool_run(p, step_out, s);
}
