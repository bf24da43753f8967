/* The answers that a model marks, for comparison with another implementation.
 *
 * usage: model_marks MODEL_DIR REPEATS < FILE
 * FILE: for each question a u32 count, and count texts, each a u32 size and its bytes: the question and the sentences, which
 * are read in that order. Writes a line for each: likelihood, no answer's, the sentence's number, first byte, last byte + 1 */
#include "server/marks.h"

#include <stdio.h>
#include <stdlib.h>

enum { TEXTS_MAX = 256, TEXT_MAX_BYTES = 1 << 20 };

static bool read_text(char **out, size_t *size)
{
    uint32_t n;
    if (fread(&n, sizeof n, 1, stdin) != 1 || n > TEXT_MAX_BYTES) return false;
    *out = mem_alloc(n + 1);
    *size = n;
    return fread(*out, 1, n, stdin) == n;
}

static result answer(const model *m, scheduler *s, uint32_t repeats, char **texts, const size_t *sizes, size_t count)
{
    bytes passages[TEXTS_MAX];
    extractive_pick sentences[TEXTS_MAX];
    for (size_t i = 1; i < count; i++) {
        passages[i - 1] = bytes_of(texts[i], sizes[i]);
        sentences[i - 1] = (extractive_pick){.passage = i - 1, .end = sizes[i]};
    }
    arena *a;
    arena_open(&a, 64 << 20);
    seat *place = NULL;
    grounded_answer got = {0};
    uint64_t tokens;
    result r = seat_open(&place, s, (id128){{1}}, NULL, NULL);
    const marks_input in = {.engine = m, .place = place, .question = texts[0], .passages = passages, .count = count - 1,
                            .sentences = sentences, .sentence_count = count - 1, .repeats = repeats, .tokens_max = 256,
                            .context_tokens_max = 4096};
    if (is_ok(r)) r = marks_read(&in, a, &got, &tokens);
    const constraint_span *span = got.answer.spans;
    if (is_ok(r)) printf("%.6f %.6f %zu %zu %zu\n", got.answer.likelihood, got.nothing, span->passage, span->start, span->end);
    seat_close(&place);
    arena_close(&a);
    return r;
}

static result answers(const model *m, scheduler *s, uint32_t repeats)
{
    uint32_t count;
    result r = OK;
    while (is_ok(r) && fread(&count, sizeof count, 1, stdin) == 1) {
        char *texts[TEXTS_MAX] = {0};
        size_t sizes[TEXTS_MAX];
        bool whole = count >= 2 && count <= TEXTS_MAX;
        for (uint32_t i = 0; whole && i < count; i++) whole = read_text(&texts[i], &sizes[i]);
        r = whole ? answer(m, s, repeats, texts, sizes, count) : fail(E_INVALID, "a question is cut off");
        for (uint32_t i = 0; whole && i < count; i++) mem_free(texts[i]);
    }
    return r;
}

int main(int argc, char **argv)
{
    model *m = NULL;
    scheduler *s = NULL;
    const model_options options = {.threads = 2};
    const scheduler_limits limits = {4, 16, 8, 8, 128, 100};
    result r = argc == 3 ? model_open(&m, argv[1], &options) : fail(E_INVALID, "usage: model_marks MODEL_DIR REPEATS < FILE");
    if (is_ok(r) && model_marks_of(m) == NULL) r = fail(E_INVALID, "the model marks nothing");
    if (is_ok(r)) r = scheduler_open(&s, m, &limits);
    if (is_ok(r)) r = answers(m, s, (uint32_t)strtoul(argv[2], NULL, 10));
    if (!is_ok(r)) fprintf(stderr, "model_marks: %s\n", r.message);
    scheduler_close(&s);
    model_close(&m);
    return is_ok(r) ? 0 : 1;
}
