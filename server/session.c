/* Recurrent state meets labels: the engine computes on passages that all flow to one request, and what
 * comes out carries the join of their labels. This file and retrieval/ alone compute on labelled bytes. */
#include "session.h"

#include "extractive.h"
#include "grounded.h"
#include "marks.h"
#include "prompt.h"

#include "mutant.h"

#include <math.h>
#include <string.h>

const char SESSION_NOT_FOUND[] = "not found in the documents you can read";

result session_label(const retrieval_hit *hits, size_t count, ifc_label *out)
{
    ifc_label_public(out);
    for (size_t i = 0; i < count; i++) {
        ifc_label joined;
        TRY(ifc_join(out, ifc_labeled_label(hits[i].text), &joined));
        *out = joined;
    }
    return OK;
}

/* ---- text that goes out: whole valid characters, nothing of a stop sequence ---------------------- */
typedef struct {
    const session_request *request;
    const ifc_label *label;
    arena *scratch;            /* one piece at a time */
    buf answer;                /* sanitised bytes so far */
    uint8_t partial[4];        /* the start of a character */
    size_t partial_size;
    size_t emitted;
} outlet;

static result outlet_emit(outlet *o, size_t upto)
{
    if (upto <= o->emitted) return OK;
    arena_reset(o->scratch);
    bytes piece = bytes_of(o->answer.data + o->emitted, upto - o->emitted);
    const ifc_labeled *labeled = ifc_labeled_make(o->scratch, o->label, piece);
    if (labeled == NULL) return arena_check(o->scratch);
    o->emitted = upto;
    return o->request->emit(o->request->emit_ctx, labeled);
}

/* How many bytes the character that starts with b needs; 0 if none starts so. */
static size_t character_size(uint8_t b)
{
    return b < 0x80 ? 1 : b >= 0xC2 && b < 0xE0 ? 2 : b >= 0xE0 && b < 0xF0 ? 3
         : b >= 0xF0 && b < 0xF5 ? 4 : 0;
}

/* Appends bytes; what is no UTF-8 becomes U+FFFD, the start of a character waits for its rest. */
static void outlet_append(outlet *o, bytes token)
{
    static const char replacement[] = "\xEF\xBF\xBD";
    for (size_t i = 0; i < token.size; i++) {
        uint8_t b = token.data[i];
        if (o->partial_size > 0 && (b & 0xC0) != 0x80) {
            buf_append_str(&o->answer, replacement);
            o->partial_size = 0;
        }
        if (o->partial_size == 0 && (character_size(b) == 0 || b == 0)) {
            buf_append_str(&o->answer, replacement);
            continue;
        }
        o->partial[o->partial_size++] = b;
        if (o->partial_size < character_size(o->partial[0])) continue;
        if (utf8_valid(bytes_of(o->partial, o->partial_size)))
            buf_append(&o->answer, o->partial, o->partial_size);
        else
            buf_append_str(&o->answer, replacement);
        o->partial_size = 0;
    }
}

/* Cuts the answer before the first stop sequence in it. Else says how many bytes can go out: all but a tail that
 * might yet become one. */
static bool outlet_stopped(outlet *o, size_t *safe)
{
    const session_request *q = o->request;
    uint8_t *first = NULL;
    *safe = o->answer.size;
    for (size_t i = 0; i < q->stop_count; i++) {
        size_t n = strlen(q->stop[i]);
        size_t from = o->emitted > n ? o->emitted - n : 0;
        uint8_t *found = o->answer.size > from
            ? memmem(o->answer.data + from, o->answer.size - from, q->stop[i], n) : NULL;
        if (found && (first == NULL || found < first)) first = found;
        for (size_t tail = n - 1; tail > 0; tail--)
            if (tail <= o->answer.size &&
                memcmp(o->answer.data + o->answer.size - tail, q->stop[i], tail) == 0) {
                if (o->answer.size - tail < *safe) *safe = o->answer.size - tail;
                break;
            }
    }
    if (first == NULL) return false;
    o->answer.size = (size_t)(first - o->answer.data);
    *safe = o->answer.size;
    return true;
}

/* ---- reading the prompt ---------------------------------------------------------------------------- */
static result context_alive(void *ctx) { return ifc_context_alive(ctx); }

typedef struct {
    const model *engine;
    scheduler *steps;
    state_cache *cache;
    keytree *keys;
    const session_request *request;
} reading;

static result read_tokens(seat *place, const uint32_t *tokens, size_t count, float *logits)
{
    return count == 0 ? OK : seat_prefill(place, tokens, count, logits);
}

static void cache_key(const model *m, const uint32_t *tokens, size_t count, uint8_t key[HASH_BYTES])
{
    uint8_t tokens_hash[HASH_BYTES];
    hash_plain("tokens", bytes_of(tokens, count * sizeof *tokens), tokens_hash);
    hash_keyed(model_describe(m)->identity, "state", bytes_of(tokens_hash, HASH_BYTES), key);
}

/* The state behind the passages' last reading: restored if this principal has it, else read and kept. */
static result read_prefix(const reading *g, seat *place, const prompt *p)
{
    const ifc_context *context = g->request->context;
    uint8_t secret[KEY_BYTES], seal_key[KEY_BYTES], key[HASH_BYTES];
    buf state;
    buf_init(&state, model_describe(g->engine)->state_bytes + 65536);
    result r;
    TRY_TO(r, keytree_secret(g->keys, keytree_owner(context->tenant, context->principal), secret), out);
    key_derive(secret, "state", bytes_of("", 0), seal_key);
    id128 whose = context->principal;
    if (MUTANT(state_cache_shared)) {
        whose = context->tenant;
        memset(seal_key, 0, sizeof seal_key);
    }
    cache_key(g->engine, p->tokens, p->prefix_count, key);
    r = state_cache_find(g->cache, whose, seal_key, key, &state);
    if (is_ok(r)) {
        r = model_seq_restore(seat_seq(place), buf_bytes(&state));
        goto out;
    }
    TRY_TO(r, read_tokens(place, p->tokens, p->prefix_count, NULL), out);
    TRY_TO(r, model_seq_snapshot(seat_seq(place), &state), out);
    state_source sources[SEARCH_K_MAX];
    for (size_t i = 0; i < g->request->hit_count; i++)
        sources[i] = (state_source){g->request->hits[i].owner, g->request->hits[i].document};
    state_cache_put(g->cache, g->request->cache_generation, whose, seal_key, key,
                    buf_bytes(&state), sources, g->request->hit_count);
out:
    buf_free(&state);
    mem_wipe(secret, sizeof secret);
    mem_wipe(seal_key, sizeof seal_key);
    return r;
}

static result read_prompt(const reading *g, seat *place, const prompt *p, float *logits)
{
    size_t done = 0;
    if (g->cache && p->prefix_count > 0) {
        TRY(read_prefix(g, place, p));
        done = p->prefix_count;
    }
    return read_tokens(place, p->tokens + done, p->count - done, logits);
}

/* ---- sentences, best first --------------------------------------------------------------------------- */
typedef struct { retrieval *r; const retrieval_scope *scope; const char *question; } looking;

static result look_overlap(void *ctx, const bytes *texts, size_t count, float *out)
{
    const looking *l = ctx;
    return retrieval_overlap(l->r, l->scope, l->question, texts, count, out);
}

static float look_similarity(void *ctx, bytes a, bytes b)
{
    return retrieval_similarity(((const looking *)ctx)->r, a, b);
}

static result sentences_rank(looking *of, const bytes *passages, const retrieval_hit *hits, size_t count, arena *a,
                             extractive_pick **out, size_t *out_count)
{
    float *ranks = arena_alloc_array(a, count + 1, sizeof *ranks);
    if (ranks == NULL) return arena_check(a);
    for (size_t i = 0; i < count; i++) ranks[i] = hits[i].score;
    const extractive_input input = {of->question, passages, ranks, count, text_sentences, look_overlap,
                                    look_similarity, of};
    return extractive_rank(&input, a, out, out_count);
}

/* ---- writing the answer ------------------------------------------------------------------------------ */
static result write_answer(const reading *g, seat *place, float *logits, outlet *o,
                           session_answer *out)
{
    const model_info *info = model_describe(g->engine);
    const tokenizer *t = model_tokenizer(g->engine);
    sampler pick;
    sampler_init(&pick, &g->request->sampling);
    out->end_reason = "length";
    for (uint32_t i = 0; i < g->request->tokens_max; i++) {
        uint32_t token = sampler_next(&pick, logits, info->vocab_size);
        if ((int64_t)token == info->eos_token) { out->end_reason = "stop"; break; }
        out->output_tokens++;
        outlet_append(o, tokenizer_token(t, token));
        TRY(buf_check(&o->answer));
        size_t safe;
        bool stopped = outlet_stopped(o, &safe);
        TRY(outlet_emit(o, safe));
        if (stopped) { out->end_reason = "stop"; break; }
        if (i + 1 == g->request->tokens_max) break;
        TRY(ifc_context_alive(g->request->context));
        TRY(seat_decode(place, token, logits));
    }
    return outlet_emit(o, o->answer.size);
}

/* The prompt read: the state behind it, its last logits, the passages in it, and the label of all that. */
typedef struct { ifc_label *label; prompt prompt; seat *place; float *logits; bytes *passages; } started;

static result passages_join(const reading *g, arena *a, started *out)
{
    const session_request *request = g->request;
    memset(out, 0, sizeof *out);
    ASSERT(request->hit_count <= SEARCH_K_MAX);
    out->label = arena_alloc(a, sizeof *out->label);
    out->passages = arena_alloc_array(a, request->hit_count + 1, sizeof *out->passages);
    if (out->label == NULL || out->passages == NULL) return arena_check(a);
    for (size_t i = 0; i < request->hit_count; i++)
        out->passages[i] = ifc_labeled_compute(request->hits[i].text);
    return session_label(request->hits, request->hit_count, out->label);
}

/* The place is the caller's to close. */
static result place_take(const reading *g, started *out)
{
    return seat_open(&out->place, g->steps, g->request->context->principal, context_alive, (void *)g->request->context);
}

/* Whatever it returns, the place is the caller's to close. */
static result read_start(const reading *g, arena *a, started *out)
{
    const session_request *request = g->request;
    TRY(passages_join(g, a, out));
    out->logits = arena_alloc_array(a, model_describe(g->engine)->vocab_size, sizeof *out->logits);
    if (out->logits == NULL) return arena_check(a);
    const prompt_options options = {request->question_first, request->repeats,
                                    request->context_tokens_max};
    TRY(prompt_build(model_tokenizer(g->engine), out->passages, request->hit_count,
                     bytes_str(request->question), &options, a, &out->prompt));
    TRY(place_take(g, out));
    return read_prompt(g, out->place, &out->prompt, out->logits);
}

static void spans_place(const session_request *q, const constraint_span *in, size_t count, session_span *out)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t base = MUTANT(span_of_chunk) ? 0 : q->hits[in[i].passage].start;
        out[i] = (session_span){(uint32_t)in[i].passage, base + in[i].start, base + in[i].end};
    }
}

/* Numbers and texts as one labelled value: all of it was computed on the passages. */
static result grounding_label(const session_request *q, const grounded_answer *got, size_t count, const ifc_label *label,
                              arena *a, const ifc_labeled **out)
{
    session_grounding *g = arena_alloc(a, sizeof *g);
    if (g == NULL) return arena_check(a);
    g->span_count = got->found ? (uint32_t)got->answer.span_count : 0;
    spans_place(q, got->answer.spans, g->span_count, g->spans);
    g->likelihood = got->answer.likelihood;
    g->nothing = got->nothing;
    g->confidence = got->found ? got->confidence : 0;
    g->reading_count = (uint32_t)count;
    buf texts;
    buf_init(&texts, 64 << 20);
    buf_append(&texts, g, sizeof *g);
    for (size_t i = 0; i < count; i++) {
        const grounded_reading *from = &got->readings[i];
        session_reading *to = &g->readings[i];
        *to = (session_reading){.span_count = (uint32_t)from->span_count, .likelihood = from->likelihood,
                                .agrees = got->found && from->agrees, .contradicts = got->found && from->contradicts,
                                .text_at = texts.size, .text_size = from->text.size};
        spans_place(q, from->spans, from->span_count, to->spans);
        buf_append(&texts, from->text.data, from->text.size);
    }
    result r = buf_check(&texts);
    if (is_ok(r)) {
        memcpy(texts.data, g, sizeof *g);
        ifc_label none;
        ifc_label_public(&none);
        *out = ifc_labeled_make(a, MUTANT(spans_unlabelled) ? &none : label, buf_bytes(&texts));
        if (*out == NULL) r = arena_check(a);
    }
    buf_free(&texts);
    return r;
}

/* count: of the passages, those that may have been read. */
static result grounded_send(const reading *g, const started *begun, const grounded_answer *got, size_t count, arena *a,
                            session_answer *out)
{
    const session_request *q = g->request;
    TRY(grounding_label(q, got, count, begun->label, a, &out->grounding));
    out->end_reason = !got->found ? "none" : got->answer.stopped ? "stop" : "length";
    out->output_tokens = got->found ? got->answer.tokens : 0;
    bytes nothing = bytes_str(MUTANT(not_found_differs) ? "the passages do not say" : SESSION_NOT_FOUND);
    out->answer = ifc_labeled_make(a, begun->label, got->found ? got->answer.text : nothing);
    return out->answer ? q->emit(q->emit_ctx, out->answer) : arena_check(a);
}

static result write_grounded(const reading *g, const started *begun, arena *a, session_answer *out)
{
    const session_request *q = g->request;
    const grounded_input in = {
        .engine = g->engine, .place = begun->place, .logits = begun->logits,
        .passages = begun->passages, .count = begun->prompt.passage_count,
        .tokens_max = q->tokens_max, .sampling = q->sampling, .stop = q->stop, .stop_count = q->stop_count,
        .not_found_percent = q->not_found_percent, .alive = context_alive, .alive_ctx = (void *)q->context};
    grounded_answer got;
    TRY(grounded_read(&in, a, &got));
    return grounded_send(g, begun, &got, in.count, a, out);
}

static result write_free(const reading *g, const started *begun, arena *a, session_answer *out)
{
    outlet o = {.request = g->request, .label = begun->label};
    arena_open(&o.scratch, 256 << 10);
    buf_init(&o.answer, (size_t)g->request->tokens_max * 256 + 4096);
    result r = write_answer(g, begun->place, begun->logits, &o, out);
    if (is_ok(r)) {
        out->answer = ifc_labeled_make(a, begun->label, buf_bytes(&o.answer));
        if (out->answer == NULL) r = arena_check(a);
    }
    buf_free(&o.answer);
    arena_close(&o.scratch);
    return r;
}

/* The model marks a span of what it reads, and writes nothing. */
static result mark_grounded(const reading *g, started *begun, arena *a, session_answer *out)
{
    const session_request *q = g->request;
    extractive_pick *sentences = NULL;
    size_t sentence_count = 0;
    looking of = {q->stores, q->scope, q->question};
    TRY(passages_join(g, a, begun));
    if (model_marks_of(g->engine)->sentences_tokens > 0)
        TRY(sentences_rank(&of, begun->passages, q->hits, q->hit_count, a, &sentences, &sentence_count));
    TRY(place_take(g, begun));
    const marks_input in = {
        .engine = g->engine, .place = begun->place, .question = q->question,
        .passages = begun->passages, .count = q->hit_count, .sentences = sentences, .sentence_count = sentence_count,
        .repeats = q->repeats, .tokens_max = q->tokens_max, .context_tokens_max = q->context_tokens_max,
        .stop = q->stop, .stop_count = q->stop_count, .not_found_percent = q->not_found_percent};
    grounded_answer got;
    TRY(marks_read(&in, a, &got, &out->input_tokens));
    got.answer.tokens = 0;
    return grounded_send(g, begun, &got, in.count, a, out);
}

static result generate_marked(const reading *g, arena *a, session_answer *out)
{
    started begun = {0};
    result r = mark_grounded(g, &begun, a, out);
    seat_close(&begun.place);
    return r;
}

result session_generate(const model *m, scheduler *s, state_cache *cache, keytree *keys,
                        const session_request *request, arena *a, session_answer *out)
{
    const reading g = {m, s, cache, keys, request};
    started begun;
    memset(out, 0, sizeof *out);
    const model_marks *marks = model_marks_of(m);
    const bool free_text = request->free_text || MUTANT(constraint_off);
    if (marks && !free_text) return generate_marked(&g, a, out);
    result r = read_start(&g, a, &begun);
    out->input_tokens = begun.prompt.count;
    if (is_ok(r)) r = free_text ? write_free(&g, &begun, a, out) : write_grounded(&g, &begun, a, out);
    seat_close(&begun.place);
    return r;
}

/* ---- scoring a given continuation -------------------------------------------------------------------- */
/* In float64 and in the vocabulary's order: the same bits every time. */
static session_token_score score_of(const float *logits, uint32_t vocab, uint32_t token)
{
    double most = -INFINITY, sum = 0, mean = 0, square = 0;
    for (uint32_t i = 0; i < vocab; i++)
        if ((double)logits[i] > most) most = (double)logits[i];
    for (uint32_t i = 0; i < vocab; i++) sum += exp((double)logits[i] - most);
    double norm = most + log(sum);
    for (uint32_t i = 0; i < vocab; i++) {
        double l = (double)logits[i] - norm, p = exp(l);
        if (p > 0) {
            mean += p * l;
            square += p * l * l;
        }
    }
    double variance = square - mean * mean;
    return (session_token_score){(float)model_log_prob(logits, vocab, token), (float)mean,
                                 (float)sqrt(variance > 0 ? variance : 0)};
}

static result score_tokens(const reading *g, const started *begun, const uint32_t *tokens, size_t count,
                           session_token_score *out)
{
    const model_info *info = model_describe(g->engine);
    for (size_t i = 0; i < count; i++) {
        out[i] = score_of(begun->logits, info->vocab_size, tokens[i]);
        if (i + 1 == count) break;
        TRY(ifc_context_alive(g->request->context));
        TRY(seat_decode(begun->place, tokens[i], begun->logits));
    }
    return OK;
}

result session_score(const model *m, scheduler *s, state_cache *cache, keytree *keys,
                     const session_request *request, bytes continuation, size_t tokens_max, arena *a,
                     session_scores *out)
{
    const reading g = {m, s, cache, keys, request};
    started begun;
    uint32_t *tokens;
    memset(out, 0, sizeof *out);
    TRY(tokenizer_encode(model_tokenizer(m), continuation, false, a, &tokens, &out->count));
    if (out->count == 0 || out->count > tokens_max)
        return fail(E_INVALID, "continuation: 1 to %zu tokens", tokens_max);
    session_token_score *scores = arena_alloc_array(a, out->count, sizeof *scores);
    if (scores == NULL) return arena_check(a);
    result r = read_start(&g, a, &begun);
    out->input_tokens = begun.prompt.count;
    if (is_ok(r)) r = score_tokens(&g, &begun, tokens, out->count, scores);
    if (is_ok(r)) {
        if (MUTANT(scores_unlabelled)) ifc_label_public(begun.label);
        out->scores = ifc_labeled_make(a, begun.label, bytes_of(scores, out->count * sizeof *scores));
        if (out->scores == NULL) r = arena_check(a);
    }
    seat_close(&begun.place);
    return r;
}

/* ---- the extractive reader --------------------------------------------------------------------------- */
result session_extract(retrieval *r, const retrieval_scope *scope, const char *question,
                       const retrieval_hit *hits, size_t count, arena *a, session_extract_answer *out)
{
    memset(out, 0, sizeof *out);
    ifc_label *label = arena_alloc(a, sizeof *label);
    bytes *passages = arena_alloc_array(a, count + 1, sizeof *passages);
    if (!label || !passages) return arena_check(a);
    TRY(session_label(hits, count, label));
    for (size_t i = 0; i < count; i++) passages[i] = ifc_labeled_compute(hits[i].text);
    looking of = {r, scope, question};
    extractive_pick *ranked;
    size_t found;
    TRY(sentences_rank(&of, passages, hits, count, a, &ranked, &found));
    if (found == 0) {
        out->answer = ifc_labeled_make(a, label, bytes_str(SESSION_NOT_FOUND));
        return out->answer ? OK : arena_check(a);
    }
    const extractive_pick *best = &ranked[0];
    out->supported = true;
    out->hit = best->passage;
    out->start = hits[best->passage].start + best->start;
    out->end = hits[best->passage].start + best->end;
    out->score = best->score;
    out->answer = ifc_labeled_make(a, label, bytes_of(passages[best->passage].data + best->start, best->end - best->start));
    return out->answer ? OK : arena_check(a);
}
