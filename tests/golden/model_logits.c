/* The engine's logits for sequences of ids, for comparison with another implementation.
 *
 * usage: model_logits MODEL_DIR < FILE       FILE: u32 count, count u32 ids, again and again
 * Writes f32 (count, vocab_size) for each, the logits behind every token. Little-endian. */
#include "model.h"

#include <stdio.h>

enum { COUNT_MAX = 65536 };

static result sequence(const model *m, const uint32_t *ids, uint32_t count, float *logits)
{
    model_seq *seq = NULL;
    TRY(model_seq_open(&seq, m));
    result r = OK;
    size_t vocabulary = model_describe(m)->vocab_size;
    for (uint32_t i = 0; i < count && is_ok(r); i++) {
        r = model_prefill(seq, ids + i, 1, logits, NULL, NULL);
        if (is_ok(r) && fwrite(logits, sizeof *logits, vocabulary, stdout) != vocabulary)
            r = fail(E_INTERNAL, "cannot write");
    }
    model_seq_close(&seq);
    return r;
}

int main(int argc, char **argv)
{
    model *m = NULL;
    const model_options options = {.threads = 1};
    result r = argc == 2 ? model_open(&m, argv[1], &options) : fail(E_INVALID, "usage: model_logits MODEL_DIR < FILE");
    float *logits = is_ok(r) ? mem_alloc_array(model_describe(m)->vocab_size, sizeof *logits) : NULL;
    uint32_t *ids = mem_alloc_array(COUNT_MAX, sizeof *ids), count;
    while (is_ok(r) && fread(&count, sizeof count, 1, stdin) == 1) {
        if (count > COUNT_MAX || fread(ids, sizeof *ids, count, stdin) != count) r = fail(E_INVALID, "a sequence is cut off");
        else r = sequence(m, ids, count, logits);
    }
    if (!is_ok(r)) fprintf(stderr, "model_logits: %s\n", r.message);
    mem_free(ids);
    mem_free(logits);
    model_close(&m);
    return is_ok(r) ? 0 : 1;
}
