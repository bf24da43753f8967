/* Sequences: a recurrent state and how many tokens it has read. States are as private as the text
 * that made them: they are wiped when they end. */
#include "engine.h"
#include "mutant.h"

#include <assert.h>
#include <string.h>

enum { SNAPSHOT_VERSION = 1, SEQUENCES_MAX = 128 };   /* of one pass */
static const uint8_t SNAPSHOT_MAGIC[8] = {'L', 'E', 'T', 'H', 'E', 'S', 'E', 'Q'};

static_assert((int)SEQUENCES_MAX <= (int)MATMUL_ROWS_MAX, "a step of so many sequences is one pass");
static_assert(sizeof(float) == 4, "the snapshot holds IEEE float32, little-endian");

result model_seq_open(model_seq **out, const model *m)
{
    *out = NULL;
    model_seq *s = mem_alloc(sizeof *s);
    s->model = m;
    result r = m->backend->state_open(s);
    if (is_ok(r)) *out = s;
    else mem_free(s);
    return r;
}

void model_seq_close(model_seq **seq)
{
    if (*seq == NULL) return;
    (*seq)->model->backend->state_close(*seq);
    mem_free(*seq);
    *seq = NULL;
}

void model_seq_wipe(model_seq *seq)
{
    seq->model->backend->state_wipe(seq);
    seq->length = 0;
}

uint64_t model_seq_length(const model_seq *seq) { return seq->length; }

static result check_ids(const model *m, const uint32_t *tokens, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (tokens[i] >= m->config.vocab_size)
            return fail(E_INVALID, "a token id is past the vocabulary of %u",
                        m->config.vocab_size);
    return OK;
}

static void check_seqs(const model *m, model_seq *const *seqs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ASSERT(seqs[i]->model == m);
        for (size_t j = 0; j < i; j++) ASSERT(seqs[i] != seqs[j]);
    }
}

/* Whole passes first, the rest last: how it is cut changes no bit. An error leaves the
 * sequence wiped: half a prompt is of no use to anybody. */
result model_prefill(model_seq *seq, const uint32_t *tokens, size_t count, float *logits,
                     result (*alive)(void *ctx), void *alive_ctx)
{
    const model *m = seq->model;
    TRY(check_ids(m, tokens, count));
    if (count == 0 && logits != NULL) return fail(E_INVALID, "no tokens to read");
    const size_t most = m->backend->rows_max;
    result r = OK;
    for (size_t at = 0; at < count;) {
        if (at > 0 && alive != NULL) TRY_TO(r, alive(alive_ctx), out);
        size_t rows = count - at < most ? count - at : most;
        bool last = at + rows == count && logits != NULL;
        segment g = {.state = seq->state, .row = 0, .rows = rows};
        TRY_TO(r, m->backend->forward(m, &g, 1, tokens + at, rows, last ? rows - 1 : rows, logits), out);
        at += rows;
        seq->length += rows;
    }
out:
    if (!is_ok(r)) model_seq_wipe(seq);
    return r;
}

/* The prompt is rows [0, prompt->count) of the pass. */
static void watch_rows(const model_prompt *prompt, const float *rows, size_t vocab_size)
{
    const model_watch *w = &prompt->watch;
    for (size_t i = 0; i < prompt->count; i++) {
        const float *row = rows + (MUTANT(watch_late) && i > 0 ? i - 1 : i) * vocab_size;
        for (size_t k = 0; k < w->token_count; k++) w->scores[i * w->token_count + k] = row[w->tokens[k]];
    }
}

/* A pass of a prompt that is watched: the logits of all rows, and of them those that are asked for. */
static result forward_watched(const model *m, const model_prompt *prompt, const segment *g, const uint32_t *ids, size_t rows,
                              float *logits)
{
    const size_t vocab = m->config.vocab_size, read = prompt->count, steps = rows - read;
    float *all = prompt->watch.room;
    if (all == NULL) TRY(model_logits_open(&all, m, rows * vocab));
    result r = m->backend->forward(m, g, 1 + steps, ids, rows, 0, all);
    if (is_ok(r)) {
        watch_rows(prompt, all, vocab);
        if (prompt->wants_logits) memcpy(logits, all + (read - 1) * vocab, vocab * sizeof *all);
        if (steps > 0) memcpy(logits + vocab, all + read * vocab, steps * vocab * sizeof *all);
    }
    if (prompt->watch.room == NULL) model_logits_close(m, &all, rows * vocab);
    else mem_wipe(all, rows * vocab * sizeof *all);
    return r;
}

static result forward_beside(const model *m, const model_prompt *prompt, const segment *g, const uint32_t *ids, size_t rows,
                             float *logits)
{
    if (prompt->watch.token_count > 0) return forward_watched(m, prompt, g, ids, rows, logits);
    size_t read = prompt->count;
    return m->backend->forward(m, g, 1 + rows - read, ids, rows, prompt->wants_logits ? read - 1 : read,
                               prompt->wants_logits ? logits : logits + m->config.vocab_size);
}

result model_decode_beside(const model *m, const model_prompt *prompt, model_seq *const *seqs, const uint32_t *tokens,
                           size_t count, float *logits)
{
    size_t read = prompt->count, rows = read + count;
    ASSERT(read >= 1 && rows <= SEQUENCES_MAX && prompt->seq->model == m);
    TRY(check_ids(m, prompt->tokens, read));
    TRY(check_ids(m, prompt->watch.tokens, prompt->watch.token_count));
    TRY(check_ids(m, tokens, count));
    check_seqs(m, seqs, count);
    uint32_t ids[SEQUENCES_MAX];
    segment g[SEQUENCES_MAX] = {{.state = prompt->seq->state, .row = 0, .rows = read}};
    memcpy(ids, prompt->tokens, read * sizeof *ids);
    if (count > 0) memcpy(ids + read, tokens, count * sizeof *ids);
    for (size_t i = 0; i < count; i++) {
        ASSERT(seqs[i] != prompt->seq);
        g[1 + i] = (segment){.state = seqs[i]->state, .row = read + i, .rows = 1};
    }
    result r = forward_beside(m, prompt, g, ids, rows, logits);
    mem_wipe(ids, sizeof ids);
    TRY(r);
    prompt->seq->length += read;
    for (size_t i = 0; i < count; i++) seqs[i]->length++;
    return OK;
}

result model_decode(const model *m, model_seq *const *seqs, const uint32_t *tokens, size_t count,
                    float *logits)
{
    TRY(check_ids(m, tokens, count));
    check_seqs(m, seqs, count);
    for (size_t at = 0; at < count; at += SEQUENCES_MAX) {
        segment g[SEQUENCES_MAX];
        size_t rows = count - at < SEQUENCES_MAX ? count - at : SEQUENCES_MAX;
        for (size_t i = 0; i < rows; i++)
            g[i] = (segment){.state = seqs[at + i]->state, .row = i, .rows = 1};
        TRY(m->backend->forward(m, g, rows, tokens + at, rows, 0, logits + at * (size_t)m->config.vocab_size));
        for (size_t i = 0; i < rows; i++) seqs[at + i]->length++;
    }
    return OK;
}

result model_logits_open(float **out, const model *m, size_t count) { return m->backend->logits_open(m, count, out); }

void model_logits_close(const model *m, float **logits, size_t count)
{
    if (*logits != NULL) m->backend->logits_close(m, *logits, count);
    *logits = NULL;
}

result model_seq_snapshot(const model_seq *seq, buf *out)
{
    buf_append(out, SNAPSHOT_MAGIC, sizeof SNAPSHOT_MAGIC);
    buf_append_u32(out, SNAPSHOT_VERSION);
    buf_append(out, seq->model->info.identity, 32);
    buf_append_u64(out, seq->length);
    return seq->model->backend->state_read(seq, out);
}

/* Nothing changes unless everything is right. */
result model_seq_restore(model_seq *seq, bytes snapshot)
{
    const model_info *info = &seq->model->info;
    reader r = reader_of(snapshot);
    const uint8_t *magic = reader_take(&r, sizeof SNAPSHOT_MAGIC);
    uint32_t version = reader_u32(&r);
    const uint8_t *identity = reader_take(&r, 32);
    uint64_t length = reader_u64(&r);
    if (magic == NULL || identity == NULL || r.bad ||
        memcmp(magic, SNAPSHOT_MAGIC, sizeof SNAPSHOT_MAGIC) != 0 || version != SNAPSHOT_VERSION)
        return fail(E_DATA_LOSS, "not a snapshot of a sequence");
    if (memcmp(identity, info->identity, 32) != 0)
        return fail(E_INVALID, "the snapshot belongs to another model");
    const uint8_t *state = reader_take(&r, info->state_bytes);
    TRY(reader_done(&r, "snapshot of a sequence"));
    TRY(seq->model->backend->state_write(seq, state));
    seq->length = length;
    return OK;
}
