/* cuda_compare MODEL_DIR [READ [WRITE]]: the engine on a GPU against the one on the CPU in float32, both with the file's
 * weights. For each of f32 and bf16: the largest difference of a logit as a share of the largest logit, over a prompt of READ
 * tokens (64) and WRITE (16) greedily chosen ones, fed alike to both; how many of those the GPU would have chosen too; and
 * whether a step among 128 (f32: 4) has the bits of a step alone. Prints a line of CSV each; 1: a limit is missed (2e-2 in bf16,
 * 1e-4 and the same choices in f32). */
#include "bench.h"
#include "model.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

enum { TOKENS_MAX = 4096, BATCH = 128, SLOW_BATCH = 4, LOGITS_STEPS_MAX = 256 };

typedef struct {
    uint32_t vocab, read, write;
    uint32_t tokens[TOKENS_MAX];
    float *logits;                         /* (write + 1, vocab) of the CPU */
} run;

static model *open_one(const char *dir, model_backend backend, model_precision precision)
{
    model *m = NULL;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    must(model_open(&m, dir, &(model_options){.threads = processors > 64 ? 64 : (uint32_t)processors, .backend = backend, .precision = precision}));
    return m;
}

static void run_cpu(run *r, const char *dir)
{
    model *m = open_one(dir, MODEL_CPU, MODEL_F32);
    model_seq *s = NULL;
    sampler greedy;
    uint64_t seed = 7;
    sampler_init(&greedy, &(sampler_options){.temperature = 0});
    r->vocab = model_describe(m)->vocab_size;
    r->logits = mem_alloc_array((size_t)(r->write + 1) * r->vocab, sizeof(float));
    for (uint32_t i = 0; i < r->read; i++) r->tokens[i] = (uint32_t)(random_next(&seed) % r->vocab);
    must(model_seq_open(&s, m));
    must(model_prefill(s, r->tokens, r->read, r->logits, NULL, NULL));
    for (uint32_t i = 0; i < r->write; i++) {
        uint32_t *token = &r->tokens[r->read + i];
        *token = sampler_next(&greedy, r->logits + (size_t)i * r->vocab, r->vocab);
        must(model_decode(m, &s, token, 1, r->logits + (size_t)(i + 1) * r->vocab));
    }
    model_seq_close(&s);
    model_close(&m);
}

/* So many sequences with the same past: all their logits are want's. */
static bool batch_is_the_same(const model *m, const run *r, uint32_t batch)
{
    model_seq *seqs[BATCH], *one = NULL;
    uint32_t tokens[BATCH];
    float *all = mem_alloc_array((size_t)BATCH * r->vocab, sizeof(float)),
          *want = mem_alloc_array(r->vocab, sizeof(float));
    bool same = true;
    must(model_seq_open(&one, m));
    must(model_prefill(one, r->tokens, r->read, NULL, NULL, NULL));
    for (uint32_t i = 0; i < batch; i++) {
        must(model_seq_open(&seqs[i], m));
        tokens[i] = r->tokens[r->read];
        must(model_prefill(seqs[i], r->tokens, i % r->read, NULL, NULL, NULL));                    /* in two pieces */
        must(model_prefill(seqs[i], r->tokens + i % r->read, r->read - i % r->read, NULL, NULL, NULL));
    }
    must(model_decode(m, &one, tokens, 1, want));
    must(model_decode(m, seqs, tokens, batch, all));
    for (uint32_t i = 0; i < batch; i++) {
        same = same && memcmp(all + (size_t)i * r->vocab, want, r->vocab * sizeof *want) == 0;
        model_seq_close(&seqs[i]);
    }
    model_seq_close(&one);
    mem_free(all);
    mem_free(want);
    return same;
}

static bool compare(const run *r, const char *dir, model_precision precision)
{
    model *m = open_one(dir, MODEL_CUDA, precision);
    model_seq *s = NULL;
    sampler greedy;
    double worst = 0, most = 0;
    uint32_t agree = 0;
    float *logits = mem_alloc_array(r->vocab, sizeof *logits);
    sampler_init(&greedy, &(sampler_options){.temperature = 0});
    must(model_seq_open(&s, m));
    must(model_prefill(s, r->tokens, r->read, logits, NULL, NULL));
    for (uint32_t i = 0;; i++) {
        const float *want = r->logits + (size_t)i * r->vocab;
        for (uint32_t j = 0; j < r->vocab; j++) {
            worst = fmax(worst, fabs((double)want[j] - (double)logits[j]));
            most = fmax(most, fabs((double)want[j]));
        }
        if (i == r->write) break;
        agree += sampler_next(&greedy, logits, r->vocab) == r->tokens[r->read + i];
        must(model_decode(m, &s, &r->tokens[r->read + i], 1, logits));
    }
    const bool same = batch_is_the_same(m, r, precision == MODEL_F32 ? SLOW_BATCH : BATCH),
               good = same && worst / most <= (precision == MODEL_F32 ? 1e-4 : 2e-2) &&
                      (precision != MODEL_F32 || agree == r->write);
    printf("%s,%s,%s,%.3g,%u of %u,%s,%s\n", dir, model_describe(m)->kernel, model_describe(m)->precision, worst / most,
           agree, r->write, same ? "same bits" : "OTHER BITS", good ? "ok" : "MISSED");
    fflush(stdout);
    model_seq_close(&s);
    model_close(&m);
    mem_free(logits);
    return good;
}

int main(int argc, char **argv)
{
    run r = {.read = argc > 2 ? (uint32_t)atoi(argv[2]) : 64, .write = argc > 3 ? (uint32_t)atoi(argv[3]) : 16};
    if (argc < 2 || r.read < 1 || r.write < 1 || r.write > LOGITS_STEPS_MAX || r.read + r.write > TOKENS_MAX) {
        fprintf(stderr, "usage: cuda_compare MODEL_DIR [READ [WRITE]]\n");
        return 2;
    }
    puts("model,kernel,precision,relative error,greedy choices,batch,verdict");
    run_cpu(&r, argv[1]);
    bool good = compare(&r, argv[1], MODEL_BF16);
    good = compare(&r, argv[1], MODEL_F32) && good;
    mem_free(r.logits);
    return good ? 0 : 1;
}
