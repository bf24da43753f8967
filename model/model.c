/* Opening a model folder. */
#include "engine.h"
#include "seal.h"

#include <math.h>
#include <string.h>

enum { TOKENIZER_FILE_MAX_BYTES = 64 << 20 };

static const char *const PRECISIONS[] = {"stored", "f32", "bf16", "q8", "q4"};

const char *model_precision_name(model_precision p) { return PRECISIONS[p]; }

bool model_precision_parse(const char *name, model_precision *out)
{
    for (int i = MODEL_AS_STORED; i <= MODEL_Q4; i++)
        if (strcmp(name, PRECISIONS[i]) == 0) {
            *out = (model_precision)i;
            return true;
        }
    return false;
}

static result read_part(const char *dir, const char *name, size_t limit, buf *out)
{
    char path[4096];
    TRY(path_join(path, sizeof path, dir, name));
    result r = file_read(path, limit, out);
    if (r.code == E_NOT_FOUND) return fail(E_NOT_FOUND, "the model folder has no %s", name);
    return r;
}

static result open_tokenizer(model *m, const char *dir)
{
    buf json;
    buf_init(&json, TOKENIZER_FILE_MAX_BYTES);
    result r = read_part(dir, "tokenizer.json", TOKENIZER_FILE_MAX_BYTES, &json);
    if (is_ok(r)) r = tokenizer_open(&m->tokenizer, buf_bytes(&json));
    if (is_ok(r) && tokenizer_size(m->tokenizer) > m->config.vocab_size)
        r = fail(E_INVALID, "tokenizer.json has ids up to %u, config.json a vocabulary of %u",
                 tokenizer_size(m->tokenizer) - 1, m->config.vocab_size);
    buf_free(&json);
    return r;
}

static result open_weights(model *m, model_precision precision, const char *dir)
{
    buf json;
    buf_init(&json, CONFIG_FILE_MAX_BYTES);
    result r = read_part(dir, "config.json", CONFIG_FILE_MAX_BYTES, &json);
    if (is_ok(r)) r = model_config_parse(&m->config, buf_bytes(&json));
    /* The tokenizer first: it is quick to refuse. */
    if (is_ok(r)) r = open_tokenizer(m, dir);
    if (is_ok(r)) r = weights_load(&m->weights, &m->config, precision, dir, buf_bytes(&json));
    buf_free(&json);
    return r;
}

/* The end of text and special tokens have no bytes in it: text that looks like one is read as text. */
static void open_vocabulary(model *m)
{
    uint32_t count = m->config.vocab_size;
    bytes *tokens = mem_alloc_array(count, sizeof *tokens);
    for (uint32_t i = 0; i < count; i++)
        if ((int64_t)i != m->config.eos_token && !tokenizer_is_special(m->tokenizer, i))
            tokens[i] = tokenizer_token(m->tokenizer, i);
    vocabulary_open(&m->vocabulary, tokens, count);
    mem_free(tokens);
}

static const char *held_as(matrix_type type)
{
    static const model_precision OF[] = {[MATRIX_F32] = MODEL_F32, [MATRIX_BF16] = MODEL_BF16, [MATRIX_Q8] = MODEL_Q8,
                                         [MATRIX_Q4] = MODEL_Q4};
    return model_precision_name(OF[type]);
}

static void describe(model *m)
{
    const model_config *c = &m->config;
    /* States of other bits than the common ones are another model's. */
    const bool own_bits = m->kernels->bf16_products && m->weights.layers[0].out_proj.type != MATRIX_F32;
    m->layer_floats = (size_t)config_conv_channels(c) * (c->d_conv - 1) + (size_t)c->d_inner * c->d_state;
    m->info = (model_info){
        .architecture = architecture_name(c->architecture),
        .kernel = m->kernels->bf16_products && !own_bits ? "avx512" : m->kernels->name, .precision = held_as(m->weights.layers[0].out_proj.type),
        .vocab_size = c->vocab_size, .d_model = c->d_model, .d_inner = c->d_inner,
        .d_state = c->d_state, .d_conv = c->d_conv, .dt_rank = c->dt_rank, .layers = c->layers,
        .eos_token = c->eos_token,
        .state_bytes = (uint64_t)c->layers * m->layer_floats * sizeof(float),
        .weight_bytes = m->weights.bytes};
    if (own_bits)
        hash_plain("lethe-model-bf16-products", bytes_of(m->weights.identity, sizeof m->weights.identity),
                   m->info.identity);
    else
        memcpy(m->info.identity, m->weights.identity, sizeof m->info.identity);
}

result model_open(model **out, const char *dir, const model_options *options)
{
    *out = NULL;
    uint32_t threads = options == NULL || options->threads == 0 ? 1 : options->threads;
    if (threads > POOL_THREADS_MAX)
        return fail(E_INVALID, "the engine takes at most %d threads", POOL_THREADS_MAX);
    model *m = mem_alloc(sizeof *m);
    m->kernels = kernels_pick(options != NULL && options->bf16_products);
    result r = open_weights(m, options == NULL ? MODEL_AS_STORED : options->precision, dir);
    if (is_ok(r)) r = pool_open(&m->pool, threads);
    if (!is_ok(r)) {
        model_close(&m);
        return r;
    }
    open_vocabulary(m);
    describe(m);
    *out = m;
    return OK;
}

void model_close(model **mp)
{
    model *m = *mp;
    if (m == NULL) return;
    pool_close(&m->pool);
    weights_free(&m->weights);
    vocabulary_close(&m->vocabulary);
    tokenizer_close(&m->tokenizer);
    mem_free(m);
    *mp = NULL;
}

const model_info *model_describe(const model *m) { return &m->info; }

const tokenizer *model_tokenizer(const model *m) { return m->tokenizer; }

const vocabulary *model_vocabulary(const model *m) { return m->vocabulary; }

double model_log_prob(const float *logits, uint32_t vocab_size, uint32_t token)
{
    if (token >= vocab_size) return -(double)INFINITY;
    double most = -(double)INFINITY, sum = 0;
    for (uint32_t i = 0; i < vocab_size; i++)
        if ((double)logits[i] > most) most = (double)logits[i];
    for (uint32_t i = 0; i < vocab_size; i++) sum += exp((double)logits[i] - most);
    return (double)logits[token] - most - log(sum);
}
