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

static const char *const BACKENDS[] = {"cpu", "cuda", "cuda-or-cpu"};

const char *model_backend_name(model_backend b) { return BACKENDS[b]; }

bool model_backend_parse(const char *name, model_backend *out)
{
    for (int i = MODEL_CPU; i <= MODEL_CUDA_OR_CPU; i++)
        if (strcmp(name, BACKENDS[i]) == 0) {
            *out = (model_backend)i;
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
    if (is_ok(r)) r = model_marks_parse(&m->marks, buf_bytes(&json), m->config.vocab_size);
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
    const bool on_products = m->backend->backend == MODEL_CPU && m->kernels->bf16_products;
    const bool own_bits = on_products && m->weights.layers[0].out_proj.type != MATRIX_F32;
    m->layer_floats = (size_t)config_conv_channels(c) * (c->d_conv - 1) + (size_t)c->d_inner * c->d_state;
    m->info = (model_info){
        .architecture = architecture_name(c->architecture),
        .kernel = own_bits || !on_products ? m->info.kernel : "avx512", .backend = m->backend->backend,
        .precision = held_as(m->weights.layers[0].out_proj.type),
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

static result start_cuda(model *m, const model_options *options)
{
#ifdef LETHE_WITH_CUDA
    m->backend = &backend_cuda;
    return backend_cuda.open(m, options);
#else
    (void)m;
    (void)options;
    return fail(E_UNIMPLEMENTED, "this build has no CUDA: configure it with -DLETHE_CUDA=ON, or choose the backend cpu");
#endif
}

/* Whether an error of the GPU means the CPU instead. */
static bool falls_back(const model_options *options, result r)
{
    return options->backend == MODEL_CUDA_OR_CPU && (r.code == E_UNIMPLEMENTED || r.code == E_UNAVAILABLE);
}

static result start_cpu(model *m, const model_options *options, result why)
{
    if (!is_ok(why)) log_event(LOG_WARN, "model_on_cpu", LOG_TEXT("why", why.message));
    if (m->backend != NULL) m->backend->close(m);
    m->backend = &backend_cpu;
    return backend_cpu.open(m, options);
}

/* Finds what computes, has the folder read, and gives it the weights. */
static result open_all(model *m, const char *dir, const model_options *options)
{
    result r = options->backend == MODEL_CPU ? start_cpu(m, options, OK) : start_cuda(m, options);
    if (falls_back(options, r)) r = start_cpu(m, options, r);
    TRY(r);
    TRY(open_weights(m, options->precision, dir));
    TRY(pool_open(&m->pool, options->threads == 0 ? 1 : options->threads));
    open_vocabulary(m);
    describe(m);
    r = m->backend->load(m);
    if (!falls_back(options, r)) return r;
    TRY(start_cpu(m, options, r));
    describe(m);
    return m->backend->load(m);
}

result model_open(model **out, const char *dir, const model_options *options)
{
    static const model_options DEFAULTS = {.threads = 1};
    *out = NULL;
    if (options == NULL) options = &DEFAULTS;
    if (options->threads > POOL_THREADS_MAX)
        return fail(E_INVALID, "the engine takes at most %d threads", POOL_THREADS_MAX);
    model *m = mem_alloc(sizeof *m);
    result r = open_all(m, dir, options);
    if (is_ok(r)) *out = m;
    else model_close(&m);
    return r;
}

void model_close(model **mp)
{
    model *m = *mp;
    if (m == NULL) return;
    if (m->backend != NULL) m->backend->close(m);
    pool_close(&m->pool);
    weights_free(&m->weights);
    vocabulary_close(&m->vocabulary);
    tokenizer_close(&m->tokenizer);
    mem_free(m->marks);
    mem_free(m);
    *mp = NULL;
}

const model_info *model_describe(const model *m) { return &m->info; }

const model_marks *model_marks_of(const model *m) { return m->marks; }

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
