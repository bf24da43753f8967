/* config.json: whatever the bytes, an error or numbers within their bounds. */
#include "model/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    model_config c;
    result r = model_config_parse(&c, bytes_of(data, size));
    if (!is_ok(r)) {
        ASSERT(r.code == E_INVALID || r.code == E_UNIMPLEMENTED);
        return 0;
    }
    ASSERT(c.d_model >= 1 && c.d_model <= CONFIG_D_MODEL_MAX);
    ASSERT(c.d_inner >= 1 && c.d_inner <= CONFIG_D_INNER_MAX);
    ASSERT(c.d_state >= 1 && c.d_state <= CONFIG_STATE_MAX);
    ASSERT(c.d_conv >= CONFIG_CONV_MIN && c.d_conv <= CONFIG_CONV_MAX);
    if (c.architecture == ARCHITECTURE_MAMBA2) {
        ASSERT(c.heads >= 1 && c.heads <= CONFIG_HEADS_MAX && c.head_dim >= 1 && c.heads * c.head_dim == c.d_inner);
        ASSERT(c.groups >= 1 && c.groups <= CONFIG_GROUPS_MAX && c.heads % c.groups == 0);
        ASSERT(c.dt_min >= 0 && c.dt_min <= c.dt_max && c.dt_rank == 0);
    } else {
        ASSERT(c.dt_rank >= 1 && c.dt_rank <= CONFIG_D_MODEL_MAX && c.heads == 0 && c.groups == 0);
    }
    ASSERT(c.layers >= 1 && c.layers <= CONFIG_LAYERS_MAX);
    ASSERT(c.vocab_size >= 1 && c.vocab_size <= CONFIG_VOCAB_MAX);
    ASSERT(c.eos_token >= -1 && c.eos_token < (int64_t)c.vocab_size);
    ASSERT(c.norm_epsilon > 0 && !(c.tied && c.untied));
    return 0;
}
