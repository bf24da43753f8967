/* bench_model MODEL_DIR: tokens a second of prefill and decode, one CSV line a measurement. */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>

static void need(result r)
{
    if (is_ok(r)) return;
    fprintf(stderr, "bench_model: %s\n", r.message);
    exit(1);
}

/* Best of three, tokens a second. */
static double prefill_speed(model *m, size_t count, float *logits)
{
    uint32_t *tokens = mem_alloc_array(count, sizeof *tokens);
    for (size_t i = 0; i < count; i++)
        tokens[i] = (uint32_t)(i * 7919 % model_describe(m)->vocab_size);
    double best = 0;
    for (int round = 0; round < 3; round++) {
        model_seq *s = NULL;
        need(model_seq_open(&s, m));
        uint64_t start = clock_mono_ms();
        need(model_prefill(s, tokens, count, logits, NULL, NULL));
        double speed = 1e3 * (double)count / (double)(clock_mono_ms() - start + 1);
        if (speed > best) best = speed;
        model_seq_close(&s);
    }
    mem_free(tokens);
    return best;
}

static double decode_speed(model *m, size_t batch, size_t steps, float *logits)
{
    model_seq *seqs[64] = {NULL};
    uint32_t tokens[64];
    double best = 0;
    for (size_t i = 0; i < batch; i++) {
        need(model_seq_open(&seqs[i], m));
        tokens[i] = (uint32_t)i;
    }
    for (int round = 0; round < 3; round++) {
        uint64_t start = clock_mono_ms();
        for (size_t i = 0; i < steps; i++) need(model_decode(m, seqs, tokens, batch, logits));
        double speed = 1e3 * (double)(steps * batch) / (double)(clock_mono_ms() - start + 1);
        if (speed > best) best = speed;
    }
    for (size_t i = 0; i < batch; i++) model_seq_close(&seqs[i]);
    return best;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fputs("usage: bench_model MODEL_DIR\n", stderr);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("kernel,threads,what,batch,tokens_per_s");
    for (uint32_t threads = 1; threads <= 2; threads++) {
        model *m = NULL;
        uint64_t start = clock_mono_ms();
        need(model_open(&m, argv[1], &(model_options){.threads = threads}));
        const model_info *info = model_describe(m);
        fprintf(stderr, "opened in %llu ms: %llu bytes of weights, %llu of state\n",
                (unsigned long long)(clock_mono_ms() - start),
                (unsigned long long)info->weight_bytes, (unsigned long long)info->state_bytes);
        float *logits = mem_alloc_array((size_t)64 * info->vocab_size, sizeof *logits);
        printf("%s,%u,prefill,1,%.1f\n", info->kernel, threads, prefill_speed(m, 256, logits));
        for (size_t batch = 1; batch <= 64; batch *= 4)
            printf("%s,%u,decode,%zu,%.1f\n", info->kernel, threads, batch,
                   decode_speed(m, batch, 32 / batch + 8, logits));
        fflush(stdout);
        mem_free(logits);
        model_close(&m);
    }
    return 0;
}
