/* config.json: whatever the bytes, an error or numbers within their bounds. */
#include "model/config.h"

#include <string.h>

enum { VOCAB = 300 };

/* What a model declares that marks: nothing, or all of it within its bounds. */
static void check_marks(bytes json)
{
    model_marks *m = NULL;
    result r = model_marks_parse(&m, json, VOCAB);
    ASSERT(is_ok(r) || (r.code == E_INVALID && m == NULL));
    if (m == NULL) return;
    ASSERT(m->none < VOCAB && m->start < VOCAB && m->stop < VOCAB && m->seen >= -1 && m->seen < VOCAB);
    ASSERT(m->none != m->start && m->none != m->stop && m->start != m->stop);
    ASSERT(m->seen != m->none && m->seen != m->start && m->seen != m->stop);
    ASSERT(m->stem_letters >= 1 && m->stem_letters <= CONFIG_STEM_LETTERS_MAX);
    ASSERT(m->span_tokens_max >= 1 && m->span_tokens_max <= CONFIG_SPAN_TOKENS_MAX);
    ASSERT(m->repeats >= 1 && m->repeats <= CONFIG_REPEATS_MAX && m->sentences_tokens <= CONFIG_SENTENCES_TOKENS_MAX);
    ASSERT(m->sentences_tokens == 0 || m->sentences_tokens >= CONFIG_SENTENCES_TOKENS_MIN);
    ASSERT(m->frequent_count <= CONFIG_FREQUENT_MAX);
    for (size_t i = 0; i < m->frequent_count; i++) {
        ASSERT(m->frequent[i][0] != '\0');
        ASSERT(i == 0 || strcmp(m->frequent[i - 1], m->frequent[i]) <= 0);
    }
    mem_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    model_config c;
    check_marks(bytes_of(data, size));
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
