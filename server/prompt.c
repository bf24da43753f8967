#include "prompt.h"

#include <string.h>

typedef struct { uint32_t *ids; size_t count; } ids;

static result encode(const tokenizer *t, bytes text, arena *a, ids *out)
{
    return tokenizer_encode(t, text, false, a, &out->ids, &out->count);
}

/* One copy of the context: each passage on its own lines, cut to the token limit. */
static result context_encode(const tokenizer *t, const bytes *passages, size_t count, uint32_t limit,
                             arena *a, ids *out, prompt *p)
{
    out->ids = arena_alloc_array(a, limit, sizeof *out->ids);
    out->count = 0;
    if (out->ids == NULL) return arena_check(a);
    ids gap;
    TRY(encode(t, bytes_str("\n\n"), a, &gap));
    for (size_t i = 0; i < count && !p->truncated; i++) {
        ids passage;
        size_t before = out->count;
        TRY(encode(t, passages[i], a, &passage));
        const ids parts[] = {passage, gap};
        for (size_t k = 0; k < 2; k++) {
            size_t n = parts[k].count, room = limit - out->count;
            if (n > room) { n = room; p->truncated = true; }
            if (n) memcpy(out->ids + out->count, parts[k].ids, n * sizeof *out->ids);
            out->count += n;
        }
        if (out->count > before) p->passage_count = i + 1;
    }
    return OK;
}

result prompt_build(const tokenizer *t, const bytes *passages, size_t passage_count, bytes question,
                    const prompt_options *options, arena *a, prompt *out)
{
    ASSERT(options->repeats >= 1 && options->repeats <= PROMPT_REPEATS_MAX);
    memset(out, 0, sizeof *out);
    ids context, before, text, cue;
    TRY(context_encode(t, passages, passage_count, options->context_tokens_max, a, &context, out));
    TRY(encode(t, bytes_str("Question: "), a, &before));
    TRY(encode(t, question, a, &text));
    TRY(encode(t, bytes_str("\nAnswer:"), a, &cue));

    ids parts[2 + 2 + PROMPT_REPEATS_MAX + 3];
    size_t n = 0;
    if (options->question_first) {
        ids gap;
        TRY(encode(t, bytes_str("\n\n"), a, &gap));
        parts[n++] = before;
        parts[n++] = text;
        parts[n++] = gap;
    }
    for (uint32_t i = 0; i < options->repeats; i++) parts[n++] = context;
    if (!options->question_first) out->prefix_count = context.count * options->repeats;
    parts[n++] = before;
    parts[n++] = text;
    parts[n++] = cue;

    size_t total = 0;
    for (size_t i = 0; i < n; i++) total += parts[i].count;
    uint32_t *tokens = arena_alloc_array(a, total, sizeof *tokens);
    if (tokens == NULL) return arena_check(a);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (parts[i].count) memcpy(tokens + at, parts[i].ids, parts[i].count * sizeof *tokens);
        at += parts[i].count;
    }
    out->tokens = tokens;
    out->count = total;
    out->context_count = context.count;
    return OK;
}
