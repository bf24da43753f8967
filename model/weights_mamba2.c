/* The tensors that are Mamba-2's own. in_proj's rows are z (d_inner), x (d_inner), B and C (groups*N each),
 * dt (heads); x, B and C go through the convolution together and are one matrix. */
#include "loader.h"

#include <math.h>

static result load_in_bias(const loader *l, uint32_t index, size_t all, layer *y, float *step_bias)
{
    char name[NAME_MAX_CHARS];
    const uint32_t d = l->c->d_inner, channels = config_conv_channels(l->c), heads = l->c->heads;
    float *z = NULL, *x = NULL, *step = NULL;
    load_name(name, index, "mixer.in_proj.bias");
    TRY(load_vector_part(l, name, all, 0, d, &z));
    TRY(load_vector_part(l, name, all, d, channels, &x));
    TRY(load_vector_part(l, name, all, (size_t)d + channels, heads, &step));
    y->in_z.bias = z;
    y->in_x.bias = x;
    for (uint32_t i = 0; i < heads; i++) step_bias[i] += step[i];
    return OK;
}

static result load_in_proj(const loader *l, uint32_t index, layer *y)
{
    char name[NAME_MAX_CHARS];
    const uint32_t m = l->c->d_model, d = l->c->d_inner, channels = config_conv_channels(l->c), heads = l->c->heads;
    const size_t all = (size_t)d + channels + heads;
    float *step_bias = NULL;
    load_name(name, index, "mixer.in_proj.weight");
    TRY(load_matrix_part(l, name, LARGE, all, 0, d, m, &y->in_z));
    TRY(load_matrix_part(l, name, LARGE, all, d, channels, m, &y->in_x));
    TRY(load_matrix_part(l, name, LARGE, all, (size_t)d + channels, heads, m, &y->in_dt));
    TRY(load_vector(l, load_name(name, index, "mixer.dt_bias"), heads, &step_bias));
    y->in_dt.bias = step_bias;
    return l->c->use_bias ? load_in_bias(l, index, all, y, step_bias) : OK;
}

result load_mixer_mamba2(const loader *l, uint32_t index, layer *y)
{
    char name[NAME_MAX_CHARS];
    const uint32_t heads = l->c->heads;
    TRY(load_in_proj(l, index, y));
    TRY(load_vector(l, load_name(name, index, "mixer.A_log"), heads, &y->a));
    for (uint32_t i = 0; i < heads; i++) y->a[i] = -expf(y->a[i]);
    TRY(load_vector(l, load_name(name, index, "mixer.D"), heads, &y->d));
    return load_vector(l, load_name(name, index, "mixer.norm.weight"), l->c->d_inner, &y->gated_norm);
}
