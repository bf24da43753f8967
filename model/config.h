/* config: the numbers of a model folder's config.json, every one within its bounds. */
#ifndef LETHE_MODEL_CONFIG_H
#define LETHE_MODEL_CONFIG_H

#include "model.h"

enum {
    CONFIG_D_MODEL_MAX = 16384, CONFIG_D_INNER_MAX = 65536, CONFIG_STATE_MAX = 256,
    CONFIG_CONV_MIN = 2, CONFIG_CONV_MAX = 8, CONFIG_LAYERS_MAX = 256,
    CONFIG_HEADS_MAX = 4096, CONFIG_HEAD_DIM_MAX = 1024, CONFIG_GROUPS_MAX = 256,
    CONFIG_VOCAB_MAX = 1048576, CONFIG_FILE_MAX_BYTES = 1 << 20,
    CONFIG_STEM_LETTERS_MAX = 16, CONFIG_SPAN_TOKENS_MAX = 256, CONFIG_REPEATS_MAX = 2,
    CONFIG_SENTENCES_TOKENS_MIN = 16, CONFIG_SENTENCES_TOKENS_MAX = 4096, CONFIG_FREQUENT_MAX = 4096,
    CONFIG_NONE_BIAS_MAX = 100
};

typedef enum { ARCHITECTURE_MAMBA, ARCHITECTURE_MAMBA2 } architecture;

typedef struct {
    architecture architecture;
    uint32_t vocab_size, d_model, d_inner, d_state, d_conv, layers;
    uint32_t dt_rank;                     /* Mamba-1; else 0 */
    uint32_t heads, head_dim, groups;     /* Mamba-2; else 0. heads * head_dim = d_inner; groups divides heads */
    float dt_min, dt_max;                 /* Mamba-2: bounds of the step, time_step_limit; else 0 */
    int32_t eos_token;                    /* -1: none */
    float norm_epsilon;
    bool use_bias, use_conv_bias;
    bool tied;                            /* tie_word_embeddings is true */
    bool untied;                          /* it is false; neither: whatever tensors there are */
} model_config;

/* As transformers writes it: "MambaForCausalLM" and so on. */
const char *architecture_name(architecture a);

/* Channels that the convolution runs over: x, and with Mamba-2 B and C of each group. */
static inline uint32_t config_conv_channels(const model_config *c)
{
    return c->d_inner + 2 * c->groups * c->d_state;
}

/* Parses config.json of a Mamba-1 or Mamba-2 model in the transformers layout. Unknown keys are ignored.
 * E_INVALID: not JSON, a number missing or out of bounds. E_UNIMPLEMENTED: another architecture. */
MUST_USE result model_config_parse(model_config *out, bytes json);

/* Parses "lethe" of the same file; NULL where it has none. One piece, owned: mem_free. vocab_size: the same file's.
 * E_INVALID: no JSON object, a key missing or out of bounds. */
MUST_USE result model_marks_parse(model_marks **out, bytes json, uint32_t vocab_size);

#endif
