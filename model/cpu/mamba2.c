/* The mixer of Mamba-2 (source: Transformers are SSMs, section 7.1 and figure 6).
 *
 *        1       z, (x B C), dt = in_proj(n);  (x B C) = silu(conv(x B C))    by channels
 *        2       x = ssd(x, dt, B, C) silu(z)                                 by heads
 *        3       x = norm(x), each group by itself                            by rows
 *        4       h += out_proj(x)                                             by outputs
 *
 * Each numbered step is one piece of work for the pool. The recurrent form throughout: the chunked one of
 * the paper adds in an order that depends on where chunks begin. */
#include "pass.h"

static void step_in(void *ctx, uint32_t part, uint32_t parts)
{
    const pass *s = ctx;
    const model_config *c = &s->m->config;
    const size_t channels = config_conv_channels(c), wide = s->conv_width;
    matmul_io io = {.x = s->normed, .x_stride = s->narrow, .rows = s->rows, .y = s->z, .y_stride = s->wide,
                    .room = pass_room(s, part)};
    pass_matmul(s, &s->l->in_z, part, parts, &io);
    io.y = s->dt;
    io.y_stride = s->dt_width;
    pass_matmul(s, &s->l->in_dt, part, parts, &io);
    io.y = s->x;
    io.y_stride = wide;
    pass_matmul(s, &s->l->in_x, part, parts, &io);
    uint32_t p0, p1;
    share_panels(matrix_panels(&s->l->in_x), part, parts, &p0, &p1);
    if (p0 == p1) return;
    const size_t end = (size_t)p1 * PANEL;
    for (size_t i = 0; i < s->segment_count; i++) {
        const segment *g = &s->segments[i];
        mixer_io conv = {.rows = g->rows, .stride = wide, .d0 = (size_t)p0 * PANEL,
                         .d1 = end < channels ? end : channels, .d_inner = channels, .d_conv = c->d_conv,
                         .x = s->x + g->row * wide, .u = s->u + g->row * wide, .conv_w = s->l->conv_w,
                         .conv_b = s->l->conv_b, .conv_state = g->state + s->layer_index * s->m->layer_floats};
        s->m->kernels->conv(&conv);
    }
}

static void step_ssd(void *ctx, uint32_t part, uint32_t parts)
{
    const pass *s = ctx;
    const model_config *c = &s->m->config;
    const size_t conv_floats = (size_t)(c->d_conv - 1) * config_conv_channels(c);
    uint32_t h0, h1;
    share_panels(c->heads, part, parts, &h0, &h1);
    for (size_t i = 0; i < s->segment_count; i++) {
        const segment *g = &s->segments[i];
        float *u = s->u + g->row * s->conv_width;
        ssd_io io = {.rows = g->rows, .h0 = h0, .h1 = h1, .head_dim = c->head_dim, .d_state = c->d_state,
                     .group_heads = c->heads / c->groups, .x = u, .b = u + c->d_inner,
                     .c = u + c->d_inner + c->groups * c->d_state, .stride = s->conv_width,
                     .z = s->z + g->row * s->wide, .z_stride = s->wide, .dt = s->dt + g->row * s->dt_width,
                     .dt_stride = s->dt_width, .dt_min = c->dt_min, .dt_max = c->dt_max, .a = s->l->a, .d = s->l->d,
                     .state = g->state + s->layer_index * s->m->layer_floats + conv_floats};
        s->m->kernels->ssd(&io);
    }
}

/* Out of u into x: the convolution's input is needed no more. */
static void step_norm(void *ctx, uint32_t part, uint32_t parts)
{
    const pass *s = ctx;
    const model_config *c = &s->m->config;
    const size_t n = c->d_inner / c->groups;
    uint32_t r0, r1;
    share_panels((uint32_t)s->rows, part, parts, &r0, &r1);
    for (size_t r = r0; r < r1; r++)
        for (size_t g = 0; g < c->d_inner; g += n)
            s->m->kernels->rms_norm(s->u + r * s->conv_width + g, s->l->gated_norm + g, n, c->norm_epsilon,
                                    s->x + r * s->conv_width + g);
}

static void step_out(void *ctx, uint32_t part, uint32_t parts)
{
    const pass *s = ctx;
    matmul_io io = {.x = s->x, .x_stride = s->conv_width, .rows = s->rows, .y = s->hidden, .y_stride = s->narrow,
                    .add = true, .room = pass_room(s, part)};
    pass_matmul(s, &s->l->out_proj, part, parts, &io);
}

void mamba2_mixer(pass *s)
{
    pool *p = s->m->pool;
    pool_run(p, step_in, s);
    pool_run(p, step_ssd, s);
    pool_run(p, step_norm, s);
    pool_run(p, step_out, s);
}
