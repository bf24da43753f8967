/* config: the numbers of a model folder's config.json, every one within its bounds. */
#ifndef LETHE_MODEL_CONFIG_H
#define LETHE_MODEL_CONFIG_H

#include "base.h"

enum {
    CONFIG_D_MODEL_MAX = 16384, CONFIG_D_INNER_MAX = 65536, CONFIG_STATE_MAX = 256,
    CONFIG_CONV_MIN = 2, CONFIG_CONV_MAX = 8, CONFIG_LAYERS_MAX = 256,
    CONFIG_VOCAB_MAX = 1048576, CONFIG_FILE_MAX_BYTES = 1 << 20
};

typedef struct {
    uint32_t vocab_size, d_model, d_inner, d_state, d_conv, dt_rank, layers;
    int32_t eos_token;                    /* -1: none */
    float norm_epsilon;
    bool use_bias, use_conv_bias;
    bool tied;                            /* tie_word_embeddings is true */
    bool untied;                          /* it is false; neither: whatever tensors there are */
} model_config;

/* Parses config.json of a Mamba-1 model in the transformers layout. Unknown keys are ignored.
 * E_INVALID: not JSON, a number missing or out of bounds. E_UNIMPLEMENTED: another architecture. */
MUST_USE result model_config_parse(model_config *out, bytes json);

#endif
