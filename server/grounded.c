#include "grounded.h"

#include "mutant.h"

#include <math.h>
#include <string.h>

enum { ANSWER_MAX_BYTES = 16 << 20 };
static const double RIVAL_SHARE = 0.25, LENGTH_BASE = 5, LENGTH_POWER = 0.6;

/* ---- writing several answers side by side ---------------------------------------------------------------- */
typedef struct {
    model_seq *seq;
    constraint *limits;
    sampler pick;
    float *logits;
    uint32_t token;                        /* to be read next */
    bool done;
    grounded_reading *out;
} track;

static result track_open(const grounded_input *in, bytes state, const bytes *passages, size_t count, track *t)
{
    uint32_t vocab = model_describe(in->engine)->vocab_size;
    TRY(model_seq_open(&t->seq, in->engine));
    constraint_open(&t->limits, model_vocabulary(in->engine), passages, count, model_describe(in->engine)->eos_token);
    t->logits = mem_alloc_array(vocab, sizeof *t->logits);
    memcpy(t->logits, in->logits, vocab * sizeof *t->logits);
    sampler_init(&t->pick, &in->sampling);
    return model_seq_restore(t->seq, state);
}

static void track_close(const grounded_input *in, track *t)
{
    if (t->logits) mem_wipe(t->logits, model_describe(in->engine)->vocab_size * sizeof *t->logits);
    mem_free(t->logits);
    constraint_close(&t->limits);
    model_seq_close(&t->seq);
}

static void spans_join(const bytes *passages, const constraint_span *spans, size_t count, buf *out)
{
    for (size_t i = 0; i < count; i++) {
        if (i > 0) buf_append_str(out, CONSTRAINT_SEPARATOR);
        buf_append(out, passages[spans[i].passage].data + spans[i].start, spans[i].end - spans[i].start);
    }
}

/* The spans so far. True when a stop sequence is in them; then they end before it. */
static bool spans_so_far(const grounded_input *in, const bytes *passages, track *t)
{
    grounded_reading *g = t->out;
    size_t first = SIZE_MAX;
    buf text;
    buf_init(&text, ANSWER_MAX_BYTES);
    g->span_count = constraint_spans(t->limits, g->spans);
    if (in->stop_count > 0) spans_join(passages, g->spans, g->span_count, &text);
    for (size_t i = 0; i < in->stop_count; i++) {
        const uint8_t *found = text.size ? memmem(text.data, text.size, in->stop[i], strlen(in->stop[i])) : NULL;
        if (found && (size_t)(found - text.data) < first) first = (size_t)(found - text.data);
    }
    buf_free(&text);
    if (first == SIZE_MAX) return false;
    g->span_count = constraint_cut(t->limits, g->spans, g->span_count, first);
    return true;
}

/* Chooses the next token among those allowed, and reads its bytes. */
static void track_choose(const grounded_input *in, const bytes *passages, float *chances, track *t)
{
    const model_info *info = model_describe(in->engine);
    size_t count;
    const uint32_t *ids = constraint_allowed(t->limits, &count);
    if (count == 0) {
        t->done = true;
        return;
    }
    for (size_t i = 0; i < count; i++) chances[i] = t->logits[ids[i]];
    t->token = ids[sampler_next(&t->pick, chances, (uint32_t)count)];
    t->out->likelihood += model_log_prob(t->logits, info->vocab_size, t->token);
    t->out->tokens++;
    t->out->stopped = (int64_t)t->token == info->eos_token;
    if (!t->out->stopped) {
        constraint_advance(t->limits, tokenizer_token(model_tokenizer(in->engine), t->token));
        t->out->stopped = spans_so_far(in, passages, t);
    }
    t->done = t->out->stopped || t->out->tokens == in->tokens_max;
}

static result tracks_run(const grounded_input *in, const bytes *const *passages, float *chances, track *tracks,
                         size_t count)
{
    for (;;) {
        model_seq *seqs[SCHEDULER_TOGETHER_MAX];
        uint32_t tokens[SCHEDULER_TOGETHER_MAX];
        float *logits[SCHEDULER_TOGETHER_MAX];
        size_t n = 0;
        for (size_t i = 0; i < count; i++) {
            if (!tracks[i].done) track_choose(in, passages[i], chances, &tracks[i]);
            if (tracks[i].done) continue;
            seqs[n] = tracks[i].seq;
            tokens[n] = tracks[i].token;
            logits[n++] = tracks[i].logits;
        }
        if (n == 0) return OK;
        TRY(in->alive(in->alive_ctx));
        TRY(seat_decode_together(in->place, seqs, tokens, logits, n));
    }
}

static result text_keep(const grounded_input *in, arena *a, grounded_reading *g)
{
    buf text;
    buf_init(&text, ANSWER_MAX_BYTES);
    spans_join(in->passages, g->spans, g->span_count, &text);
    result r = buf_check(&text);
    if (is_ok(r)) {
        char *copy = arena_strndup(a, text.data ? (const char *)text.data : "", text.size);
        g->text = bytes_of(copy, text.size);
        if (copy == NULL) r = arena_check(a);
    }
    buf_free(&text);
    return r;
}

/* From `first` on, at most SCHEDULER_TOGETHER_MAX of: all passages (number 0), each passage (number 1 on). */
static result tracks_write(const grounded_input *in, bytes state, size_t first, size_t count, grounded_reading *all,
                           arena *a)
{
    track tracks[SCHEDULER_TOGETHER_MAX] = {0};
    const bytes *passages[SCHEDULER_TOGETHER_MAX];
    float *chances = mem_alloc_array(model_describe(in->engine)->vocab_size, sizeof *chances);
    result r = OK;
    for (size_t i = 0; i < count && is_ok(r); i++) {
        size_t number = first + i;
        tracks[i].out = &all[number];
        passages[i] = number == 0 ? in->passages : &in->passages[number - 1];
        r = track_open(in, state, passages[i], number == 0 ? in->count : 1, &tracks[i]);
    }
    if (is_ok(r)) r = tracks_run(in, passages, chances, tracks, count);
    for (size_t i = 0; i < count && is_ok(r); i++) {
        for (size_t s = 0; s < tracks[i].out->span_count && first + i > 0; s++)
            tracks[i].out->spans[s].passage = first + i - 1;
        r = text_keep(in, a, tracks[i].out);
    }
    for (size_t i = 0; i < count; i++) track_close(in, &tracks[i]);
    mem_wipe(chances, model_describe(in->engine)->vocab_size * sizeof *chances);
    mem_free(chances);
    return r;
}

/* ---- no answer -------------------------------------------------------------------------------------------------- */
static result nothing_tokens(const tokenizer *t, arena *a, uint32_t **ids, size_t *count)
{
    int64_t special = tokenizer_find(t, GROUNDED_NOTHING_TOKEN);
    if (special < 0 || !tokenizer_is_special(t, (uint32_t)special))
        return tokenizer_encode(t, bytes_str(GROUNDED_NOTHING), false, a, ids, count);
    *ids = arena_alloc_array(a, 1, sizeof **ids);
    if (*ids == NULL) return arena_check(a);
    **ids = (uint32_t)special;
    *count = 1;
    return OK;
}

static result nothing_score(const grounded_input *in, bytes state, arena *a, double *out)
{
    uint32_t vocab = model_describe(in->engine)->vocab_size, *ids;
    size_t count;
    track t = {0};
    TRY(nothing_tokens(model_tokenizer(in->engine), a, &ids, &count));
    result r = track_open(in, state, NULL, 0, &t);
    *out = 0;
    for (size_t i = 0; i < count && is_ok(r); i++) {
        *out += model_log_prob(t.logits, vocab, ids[i]);
        if (i + 1 == count) break;
        r = in->alive(in->alive_ctx);
        if (is_ok(r)) r = seat_decode_together(in->place, &t.seq, &ids[i], &t.logits, 1);
    }
    track_close(in, &t);
    return r;
}

/* ---- choosing, agreement, confidence ------------------------------------------------------------------------------- */
static double score_of(const grounded_reading *g)
{
    return g->likelihood / pow((LENGTH_BASE + g->tokens) / (LENGTH_BASE + 1), LENGTH_POWER);
}

static bool is_article(const uint8_t *word, size_t size)
{
    return (size == 1 && word[0] == 'a') || (size == 2 && memcmp(word, "an", 2) == 0) ||
           (size == 3 && memcmp(word, "the", 3) == 0);
}

/* " word word ": lower case, without punctuation and articles. */
static void plain_words(bytes text, buf *out)
{
    buf_append_u8(out, ' ');
    size_t start = 1;
    for (size_t i = 0; i <= text.size; i++) {
        uint8_t b = i < text.size ? text.data[i] : ' ';
        if (b >= 'A' && b <= 'Z') b = (uint8_t)(b + 32);
        bool word = (b >= 'a' && b <= 'z') || (b >= '0' && b <= '9') || b >= 0x80;
        if (word) buf_append_u8(out, b);
        if (word || out->size == start) continue;
        if (is_article(out->data + start, out->size - start)) out->size = start;
        else buf_append_u8(out, ' ');
        start = out->size;
    }
}

static bool agree(bytes a, bytes b)
{
    buf x, y;
    buf_init(&x, ANSWER_MAX_BYTES);
    buf_init(&y, ANSWER_MAX_BYTES);
    plain_words(a, &x);
    plain_words(b, &y);
    bool same = bytes_equal(buf_bytes(&x), buf_bytes(&y));
    if (!same && x.size > 1 && y.size > 1)
        same = memmem(x.data, x.size, y.data, y.size) || memmem(y.data, y.size, x.data, x.size);
    buf_free(&x);
    buf_free(&y);
    return same;
}

/* all: the answer from all passages, then each passage's own. */
static void confidence_set(const grounded_reading *all, size_t count, grounded_answer *out)
{
    double most = out->nothing > out->answer.likelihood ? out->nothing : out->answer.likelihood;
    for (size_t i = 0; i < count; i++)
        if (all[i].span_count > 0 && all[i].likelihood > most) most = all[i].likelihood;
    double whole = exp(out->nothing - most), agreeing = 0;
    for (size_t i = 0; i < count; i++) {
        bool again = all[i].span_count == 0;
        for (size_t j = 0; j < i && !again; j++) again = bytes_equal(all[j].text, all[i].text);
        if (again) continue;
        double share = exp(all[i].likelihood - most);
        whole += share;
        if (agree(all[i].text, out->answer.text)) agreeing += share;
    }
    out->confidence = whole > 0 ? agreeing / whole : 0;
}

void grounded_choose(grounded_reading *all, size_t count, uint32_t not_found_percent, grounded_answer *out)
{
    const grounded_reading *best = NULL;
    out->readings = all + 1;
    for (size_t i = 0; i < count; i++)
        if (all[i].span_count > 0 && (best == NULL || score_of(&all[i]) > score_of(best))) best = &all[i];
    if (best == NULL) return;
    out->answer = *best;
    out->found = not_found_percent == 0 || out->nothing <= best->likelihood - log((double)not_found_percent / 100);
    for (size_t i = 1; i < count; i++) {
        all[i].agrees = all[i].span_count > 0 && agree(all[i].text, best->text);
        all[i].contradicts = all[i].span_count > 0 && !all[i].agrees && !MUTANT(contradiction_hidden) &&
                             all[i].likelihood >= out->answer.likelihood + log(RIVAL_SHARE);
    }
    confidence_set(all, count, out);
}

result grounded_read(const grounded_input *in, arena *a, grounded_answer *out)
{
    memset(out, 0, sizeof *out);
    grounded_reading *all = arena_alloc_array(a, in->count + 1, sizeof *all);
    if (all == NULL) return arena_check(a);
    buf state;
    buf_init(&state, model_describe(in->engine)->state_bytes + 65536);
    result r = model_seq_snapshot(seat_seq(in->place), &state);
    if (is_ok(r)) r = nothing_score(in, buf_bytes(&state), a, &out->nothing);
    /* One passage's own answer is the answer from all. */
    size_t count = in->count == 1 ? 1 : in->count + 1;
    for (size_t first = 0; first < count && is_ok(r); first += SCHEDULER_TOGETHER_MAX) {
        size_t n = count - first < SCHEDULER_TOGETHER_MAX ? count - first : SCHEDULER_TOGETHER_MAX;
        r = tracks_write(in, buf_bytes(&state), first, n, all, a);
    }
    buf_free(&state);
    TRY(r);
    if (in->count == 1) all[1] = all[0];
    grounded_choose(all, in->count + 1, in->not_found_percent, out);
    return OK;
}
