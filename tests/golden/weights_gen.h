/* Weights from a counter, so that no weight file is stored: element i of a tensor is
 *
 *   key   = mix(seed) ^ fnv1a64(name)                mix: SplitMix64's finisher
 *   bits  = mix(key + (i + 1) * 0x9e3779b97f4a7c15)
 *   u     = (bits >> 40) * 2^-23 - 1                 in [-1, 1), exact in float32
 *   value = center + scale * u                       one float32 product, one float32 sum
 *
 * and, for F16 and BF16 files, cut (not rounded) to what the type holds. make_mamba_golden.py does
 * the same; both sides use nothing but exact or correctly rounded operations. */
#ifndef LETHE_WEIGHTS_GEN_H
#define LETHE_WEIGHTS_GEN_H

#include "base.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef enum { GEN_F32, GEN_F16, GEN_BF16 } gen_type;

typedef struct {
    uint32_t d_model, d_inner, d_state, d_conv, dt_rank, layers, vocab;
    uint32_t heads, groups;                /* Mamba-2; 0 heads: Mamba-1 */
    float dt_min, dt_max;                  /* Mamba-2's time_step_limit; both 0: none */
    bool use_bias, use_conv_bias, tied;
    gen_type type;
    uint64_t seed;
    bool endless;                          /* no end-of-text token: what it writes ends at a limit only */
} gen_config;

typedef struct {
    char name[96];
    uint32_t rank;
    uint64_t shape[3];
    float center, scale;
} gen_tensor;

static inline uint64_t gen_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static inline uint64_t gen_key(uint64_t seed, const char *name)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *name != '\0'; name++) h = (h ^ (uint8_t)*name) * 0x100000001b3u;
    return gen_mix(seed) ^ h;
}

static inline uint64_t gen_bits(uint64_t key, uint64_t i)
{
    return gen_mix(key + (i + 1) * 0x9e3779b97f4a7c15u);
}

static inline float gen_value(uint64_t key, uint64_t i, float center, float scale, gen_type type)
{
    float u = (float)(uint32_t)(gen_bits(key, i) >> 40) * 0x1p-23f - 1.0f;
    float product = scale * u;
    float value = center + product;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (type == GEN_BF16) bits &= 0xffff0000u;
    if (type == GEN_F16) bits = fabsf(value) < 0x1p-14f ? 0 : bits & 0xffffe000u;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint64_t gen_elements(const gen_tensor *t)
{
    uint64_t n = 1;
    for (uint32_t i = 0; i < t->rank; i++) n *= t->shape[i];
    return n;
}

/* Uniform weights whose products with unit inputs have unit variance. That keeps 24 layers well
 * conditioned: PyTorch's float32 is then within 4e-6 of its float64 at mamba-130m's shape (with
 * three times as much in x_proj, 7e-5: a test of rounding, not of code). */
static inline float gen_fan(uint32_t fan_in) { return sqrtf(3.0f / (float)fan_in); }

enum { GEN_LAYER_TENSORS = 12 };

typedef struct {
    const char *name;
    uint32_t rank;
    uint64_t shape[3];
    float center, scale;
} gen_part;

/* The tensors of layer l among all; a rank of 0 is none. Returns how many. */
static inline size_t gen_named(uint32_t l, const gen_part all[GEN_LAYER_TENSORS], gen_tensor out[GEN_LAYER_TENSORS])
{
    size_t count = 0;
    for (size_t i = 0; i < GEN_LAYER_TENSORS; i++) {
        if (all[i].rank == 0) continue;
        gen_tensor *t = &out[count++];
        *t = (gen_tensor){.rank = all[i].rank, .center = all[i].center, .scale = all[i].scale};
        memcpy(t->shape, all[i].shape, sizeof t->shape);
        snprintf(t->name, sizeof t->name, "backbone.layers.%u.%s", l, all[i].name);
    }
    return count;
}

static inline size_t gen_layer(const gen_config *c, uint32_t l, gen_tensor out[GEN_LAYER_TENSORS])
{
    const uint32_t m = c->d_model, d = c->d_inner, n = c->d_state, k = c->d_conv, r = c->dt_rank;
    const uint32_t conv_bias = c->use_conv_bias, bias = c->use_bias;
    return gen_named(l, (const gen_part[GEN_LAYER_TENSORS]){
        {"norm.weight", 1, {m}, 1.0f, 0.25f},
        {"mixer.A_log", 2, {d, n}, 1.375f, 1.375f},
        {"mixer.D", 1, {d}, 1.0f, 0.5f},
        {"mixer.conv1d.weight", 3, {d, 1, k}, 0.0f, gen_fan(k)},
        {"mixer.in_proj.weight", 2, {2 * (uint64_t)d, m}, 0.0f, gen_fan(m)},
        {"mixer.x_proj.weight", 2, {r + 2 * (uint64_t)n, d}, 0.0f, gen_fan(d)},
        {"mixer.dt_proj.weight", 2, {d, r}, 0.0f, 0.5f * gen_fan(r)},
        {"mixer.dt_proj.bias", 1, {d}, -2.5f, 2.0f},
        {"mixer.out_proj.weight", 2, {m, d}, 0.0f, gen_fan(d)},
        {"mixer.conv1d.bias", conv_bias, {d}, 0.0f, 0.25f},
        {"mixer.in_proj.bias", bias, {2 * (uint64_t)d}, 0.0f, 0.25f},
        {"mixer.out_proj.bias", bias, {m}, 0.0f, 0.25f}}, out);
}

static inline size_t gen_layer_mamba2(const gen_config *c, uint32_t l, gen_tensor out[GEN_LAYER_TENSORS])
{
    const uint32_t m = c->d_model, d = c->d_inner, k = c->d_conv, h = c->heads;
    const uint32_t channels = d + 2 * c->groups * c->d_state, conv_bias = c->use_conv_bias, bias = c->use_bias;
    const uint64_t all = (uint64_t)d + channels + h;
    return gen_named(l, (const gen_part[GEN_LAYER_TENSORS]){
        {"norm.weight", 1, {m}, 1.0f, 0.25f},
        {"mixer.A_log", 1, {h}, 1.375f, 1.375f},
        {"mixer.D", 1, {h}, 1.0f, 0.5f},
        {"mixer.dt_bias", 1, {h}, -2.5f, 2.0f},
        {"mixer.norm.weight", 1, {d}, 1.0f, 0.25f},
        {"mixer.conv1d.weight", 3, {channels, 1, k}, 0.0f, gen_fan(k)},
        {"mixer.in_proj.weight", 2, {all, m}, 0.0f, gen_fan(m)},
        {"mixer.out_proj.weight", 2, {m, d}, 0.0f, gen_fan(d)},
        {"mixer.conv1d.bias", conv_bias, {channels}, 0.0f, 0.25f},
        {"mixer.in_proj.bias", bias, {all}, 0.0f, 0.25f},
        {"mixer.out_proj.bias", bias, {m}, 0.0f, 0.25f}}, out);
}

/* All tensors of a model; out has room for 3 + layers * GEN_LAYER_TENSORS. */
static inline size_t gen_tensors(const gen_config *c, gen_tensor *out)
{
    size_t count = 0;
    float embedding = c->tied ? 0.125f : 0.5f;
    out[count++] = (gen_tensor){"backbone.embeddings.weight", 2, {c->vocab, c->d_model}, 0,
                                embedding};
    for (uint32_t l = 0; l < c->layers; l++)
        count += c->heads != 0 ? gen_layer_mamba2(c, l, out + count) : gen_layer(c, l, out + count);
    out[count++] = (gen_tensor){"backbone.norm_f.weight", 1, {c->d_model}, 1.0f, 0.25f};
    if (!c->tied)
        out[count++] = (gen_tensor){"lm_head.weight", 2, {c->vocab, c->d_model}, 0,
                                    4.0f * gen_fan(c->d_model)};
    return count;
}

#endif
