/* Answers: Ask, Search and Score. Data flows one way: question -> passages (labelled) -> answer (labelled) ->
 * gate -> frames. */
#include "service.h"

#include "lethe/v1/answers.pb-c.h"

#include <string.h>

/* text and padding of a token's frame together; never all of one, so that both fields are present. */
enum { FRAME_BYTES = 64, FRAME_TEXT_MAX = 60, STOP_COUNT_MAX = 8, STOP_MAX = 64, SEARCH_TRIES = 5 };

/* What one request reads: the hits, and their documents' paths. */
typedef struct { retrieval_hit *hits; char **paths; size_t count; } passages;

/* ---- passages ------------------------------------------------------------------------------------------ */
/* Marked first with all that may count, and then with what was read: an erasure that comes later cancels the call,
 * and one that came earlier has taken its documents out before the search. */
static result search_marked(request *q, const char *query, uint32_t k, search_mode mode,
                            passages *out)
{
    retrieval_hit **hits = &out->hits;
    size_t *count = &out->count;
    state_source *sources = arena_alloc_array(q->mem, SEARCH_K_MAX, sizeof *sources);
    retrieval_document *info = arena_alloc(q->mem, sizeof *info);
    if (sources == NULL || info == NULL) return arena_check(q->mem);
    for (int attempt = 0; attempt < SEARCH_TRIES; attempt++) {
        TRY(request_search_mark(q, &q->scope));
        TRY(retrieval_search(q->h->stores, &q->scope, query, k, mode, q->mem, hits, count));
        for (size_t i = 0; i < *count; i++)
            sources[i] = (state_source){(*hits)[i].owner, (*hits)[i].document};
        TRY(request_mark(q, sources, *count));
        bool whole = true;
        out->paths = arena_alloc_array(q->mem, *count + 1, sizeof *out->paths);
        if (out->paths == NULL) return arena_check(q->mem);
        for (size_t i = 0; i < *count && whole; i++) {
            result r = retrieval_get(q->h->stores, &q->scope, (*hits)[i].document, q->mem, info, NULL);
            if (r.code == E_NOT_FOUND) whole = false;
            else TRY(r);
            out->paths[i] = request_text(q, "%s", info->path);
        }
        if (whole) return OK;
    }
    return fail(E_UNAVAILABLE, "documents are being erased; ask again");
}

/* A passage as it goes out, its text through the gate. */
static result passage_make(request *q, const retrieval_hit *hit, char *path,
                           Lethe__V1__Passage **out)
{
    Lethe__V1__Passage *p = arena_alloc(q->mem, sizeof *p);
    if (p == NULL) return arena_check(q->mem);
    lethe__v1__passage__init(p);
    p->document = request_id(q, hit->document);
    p->chunk = hit->chunk;
    p->start = hit->start;
    p->end = hit->end;
    p->score = hit->score;
    p->path = path;
    buf text;
    buf_init(&text, 1 << 20);
    result r = ifc_gate_release(q->context, hit->text, &text);
    if (is_ok(r)) r = buf_check(&text);
    if (is_ok(r)) {
        p->text = arena_strndup(q->mem, (const char *)text.data, text.size);
        if (p->text == NULL) r = arena_check(q->mem);
    }
    buf_free(&text);
    *out = p;
    return r;
}

static result passages_make(request *q, const passages *read, Lethe__V1__Passage ***out)
{
    *out = arena_alloc_array(q->mem, read->count + 1, sizeof **out);
    if (*out == NULL) return arena_check(q->mem);
    for (size_t i = 0; i < read->count; i++)
        TRY(passage_make(q, &read->hits[i], read->paths[i], &(*out)[i]));
    return OK;
}

result answers_search(request *q)
{
    Lethe__V1__SearchRequest *m;
    TRY(request_receive(q, &lethe__v1__search_request__descriptor, &m));
    static const search_mode modes[] = {SEARCH_HYBRID, SEARCH_DENSE, SEARCH_LEXICAL};
    size_t size = strlen(m->query);
    if (size == 0 || size > SEARCH_QUERY_MAX_BYTES)
        return fail(E_INVALID, "query: 1 to %d bytes", SEARCH_QUERY_MAX_BYTES);
    if ((unsigned)m->mode > 2) return fail(E_INVALID, "mode: 0 hybrid, 1 dense, 2 lexical");
    TRY(request_audience(q, m->audience));
    passages read;
    TRY(search_marked(q, m->query, m->k ? m->k : 10, modes[m->mode], &read));
    Lethe__V1__SearchResponse response = LETHE__V1__SEARCH_RESPONSE__INIT;
    TRY(passages_make(q, &read, &response.hits));
    response.n_hits = read.count;
    return request_send(q, &response.base);
}

/* ---- frames ----------------------------------------------------------------------------------------------- */
static result frame_send(request *q, Lethe__V1__AskFrame *frame)
{
    return request_send(q, &frame->base);
}

/* The gate's sink: pieces of text as frames of one size. */
static result token_sink(void *ctx, bytes content)
{
    static const uint8_t zeros[FRAME_BYTES];
    request *q = ctx;
    for (size_t at = 0; at < content.size;) {
        size_t n = content.size - at < FRAME_TEXT_MAX ? content.size - at : FRAME_TEXT_MAX;
        Lethe__V1__AskToken token = LETHE__V1__ASK_TOKEN__INIT;
        token.text = (ProtobufCBinaryData){n, (uint8_t *)content.data + at};
        token.padding = (ProtobufCBinaryData){FRAME_BYTES - n, (uint8_t *)zeros};
        Lethe__V1__AskFrame frame = LETHE__V1__ASK_FRAME__INIT;
        frame.frame_case = LETHE__V1__ASK_FRAME__FRAME_TOKEN;
        frame.token = &token;
        TRY(frame_send(q, &frame));
        at += n;
    }
    return OK;
}

static result emit_piece(void *ctx, const ifc_labeled *piece)
{
    request *q = ctx;
    const ifc_gate gate = {q->context, token_sink, q};
    return ifc_gate_emit(&gate, piece);
}

static result passages_frame(request *q, const passages *read)
{
    Lethe__V1__AskPassages message = LETHE__V1__ASK_PASSAGES__INIT;
    TRY(passages_make(q, read, &message.passages));
    message.n_passages = read->count;
    Lethe__V1__AskFrame frame = LETHE__V1__ASK_FRAME__INIT;
    frame.frame_case = LETHE__V1__ASK_FRAME__FRAME_PASSAGES;
    frame.passages = &message;
    return frame_send(q, &frame);
}

static result final_frame(request *q, Lethe__V1__AskFinal *final, const ifc_labeled *answer)
{
    buf text;
    buf_init(&text, 16 << 20);
    result r = answer ? ifc_gate_release(q->context, answer, &text) : OK;
    buf_append_u8(&text, 0);
    if (is_ok(r)) r = buf_check(&text);
    if (is_ok(r)) {
        final->answer = (char *)text.data;
        if (answer) final->label = request_label(q, ifc_labeled_label(answer));
        Lethe__V1__AskFrame frame = LETHE__V1__ASK_FRAME__INIT;
        frame.frame_case = LETHE__V1__ASK_FRAME__FRAME_FINAL;
        frame.final = final;
        r = frame_send(q, &frame);
    }
    buf_free(&text);
    return r;
}

static result citation_make(request *q, const passages *read, size_t index, uint64_t start, uint64_t end,
                            Lethe__V1__Citation **out)
{
    const retrieval_hit *hit = &read->hits[index];
    Lethe__V1__Citation *c = *out = arena_alloc(q->mem, sizeof *c);
    if (c == NULL) return arena_check(q->mem);
    lethe__v1__citation__init(c);
    c->document = request_id(q, hit->document);
    c->chunk = hit->chunk;
    c->start = start;
    c->end = end;
    c->score = hit->score;
    c->path = read->paths[index];
    return OK;
}

static result citation_add(request *q, Lethe__V1__AskFinal *final, const passages *read, size_t index,
                           uint64_t start, uint64_t end)
{
    return citation_make(q, read, index, start, end, &final->citations[final->n_citations++]);
}

/* ---- Ask ------------------------------------------------------------------------------------------------------ */
/* Whether the generator writes text, and not only marks it. */
static bool writes(const house *h)
{
    const model_marks *marks = model_marks_of(h->generator);
    return marks == NULL || marks->writes;
}

static result check_request(request *q, Lethe__V1__AskRequest *m)
{
    const config *c = &q->h->settings;
    if (m->free_text && q->h->generator && !writes(q->h))
        return fail(E_PRECONDITION, "this server's model marks answers in the documents; it does not write free text");
    size_t size = strlen(m->question);
    if (size == 0 || size > SEARCH_QUERY_MAX_BYTES)
        return fail(E_INVALID, "question: 1 to %d bytes", SEARCH_QUERY_MAX_BYTES);
    if (m->passages == 0) m->passages = c->passages_default;
    if (m->repeats == 0) m->repeats = c->repeats_default;
    if (m->max_tokens == 0) m->max_tokens = c->tokens_default;
    if (m->passages > c->passages_max)
        return fail(E_INVALID, "passages: at most %u", c->passages_max);
    if (m->repeats > 4) return fail(E_INVALID, "repeats: 1 to 4");
    if (m->max_tokens > c->tokens_max)
        return fail(E_INVALID, "max_tokens: at most %u", c->tokens_max);
    if (!(m->temperature >= 0 && m->temperature <= 10) || !(m->top_p >= 0 && m->top_p <= 1))
        return fail(E_INVALID, "temperature: 0 to 10; top_p: 0 to 1");
    if ((unsigned)m->order > 2) return fail(E_INVALID, "order: 0, 1 or 2");
    if (m->n_stop > STOP_COUNT_MAX)
        return fail(E_INVALID, "stop: at most %d sequences", STOP_COUNT_MAX);
    for (size_t i = 0; i < m->n_stop; i++)
        if (m->stop[i][0] == 0 || strlen(m->stop[i]) > STOP_MAX)
            return fail(E_INVALID, "stop: sequences of 1 to %d bytes", STOP_MAX);
    return OK;
}

static result answer_extractive(request *q, const Lethe__V1__AskRequest *m, const passages *read,
                                Lethe__V1__AskFinal *final, const ifc_labeled **answer)
{
    session_extract_answer found;
    TRY(session_extract(q->h->stores, &q->scope, m->question, read->hits, read->count, q->mem,
                        &found));
    *answer = found.answer;
    TRY(emit_piece(q, found.answer));
    if (!found.supported) return OK;
    final->mode = (char *)"extractive";
    final->end_reason = (char *)"stop";
    return citation_add(q, final, read, found.hit, found.start, found.end);
}

/* Nothing was read: what is said says nothing of anybody's documents. */
static result answer_none(request *q, const ifc_labeled **answer)
{
    ifc_label *open = arena_alloc(q->mem, sizeof *open);
    if (open == NULL) return arena_check(q->mem);
    ifc_label_public(open);
    *answer = ifc_labeled_make(q->mem, open, bytes_str(SESSION_NOT_FOUND));
    return *answer ? emit_piece(q, *answer) : arena_check(q->mem);
}

static result spans_cite(request *q, const passages *read, const session_span *spans, size_t count,
                         Lethe__V1__Citation ***out, size_t *out_count)
{
    *out = arena_alloc_array(q->mem, count + 1, sizeof **out);
    if (*out == NULL) return arena_check(q->mem);
    for (*out_count = 0; *out_count < count; (*out_count)++) {
        const session_span *s = &spans[*out_count];
        TRY(citation_make(q, read, s->hit, s->start, s->end, &(*out)[*out_count]));
    }
    return OK;
}

static result reading_make(request *q, const passages *read, const session_reading *from, const uint8_t *texts,
                           Lethe__V1__Reading **out)
{
    Lethe__V1__Reading *to = *out = arena_alloc(q->mem, sizeof *to);
    if (to == NULL) return arena_check(q->mem);
    lethe__v1__reading__init(to);
    to->text = arena_strndup(q->mem, (const char *)texts + from->text_at, from->text_size);
    if (to->text == NULL) return arena_check(q->mem);
    to->log_likelihood = from->likelihood;
    to->agrees = from->agrees;
    to->contradicts = from->contradicts;
    return spans_cite(q, read, from->spans, from->span_count, &to->spans, &to->n_spans);
}

/* What a grounded answer rests on, through the gate and into the final frame. */
static result grounding_fill(request *q, const passages *read, const ifc_labeled *labeled, Lethe__V1__AskFinal *final)
{
    session_grounding *g = arena_alloc(q->mem, sizeof *g);
    if (g == NULL) return arena_check(q->mem);
    buf raw;
    buf_init(&raw, 64 << 20);
    result r = ifc_gate_release(q->context, labeled, &raw);
    if (is_ok(r)) r = buf_check(&raw);
    if (is_ok(r)) memcpy(g, raw.data, sizeof *g);
    if (is_ok(r)) r = spans_cite(q, read, g->spans, g->span_count, &final->citations, &final->n_citations);
    final->readings = arena_alloc_array(q->mem, g->reading_count + 1, sizeof *final->readings);
    if (is_ok(r) && final->readings == NULL) r = arena_check(q->mem);
    for (size_t i = 0; is_ok(r) && i < g->reading_count; i++)
        if (g->readings[i].span_count > 0)
            r = reading_make(q, read, &g->readings[i], raw.data, &final->readings[final->n_readings++]);
    final->confidence = g->confidence;
    final->log_likelihood = g->likelihood;
    final->log_likelihood_none = g->nothing;
    buf_free(&raw);
    return r;
}

/* What an answer may take. A token has at least a byte; the question is read once or twice, by the order. A grounded
 * answer is the best of one from all passages and one from each. Where it is marked nothing is written; what stands in
 * front of looked-up words counts as context, and in the question has places as a second reading would. */
static uint64_t tokens_at_most(const house *h, const Lethe__V1__AskRequest *m, size_t count)
{
    const model_marks *marks = model_marks_of(h->generator);
    const uint64_t context = h->settings.context_tokens_max, asked = 2 * strlen(m->question);
    if (m->free_text) return m->repeats * context + m->max_tokens + asked;
    if (marks) return (m->repeats < marks->repeats ? m->repeats : marks->repeats) * context + asked;
    return m->repeats * context + (uint64_t)m->max_tokens * (count + 1) + asked;
}

static result answer_generative(request *q, const Lethe__V1__AskRequest *m, const passages *read,
                                uint64_t generation, Lethe__V1__AskFinal *final,
                                const ifc_labeled **answer)
{
    house *h = q->h;
    TRY(acl_tokens_take(h->access, q->who.principal, tokens_at_most(h, m, read->count), clock_mono_ms()));
    const session_request s = {
        .context = q->context,
        .hits = read->hits,
        .hit_count = read->count,
        .question = m->question,
        .question_first = m->order == LETHE__V1__PROMPT_ORDER__PROMPT_ORDER_QUESTION_FIRST,
        .repeats = m->repeats,
        .tokens_max = m->max_tokens,
        .context_tokens_max = h->settings.context_tokens_max,
        .cache_generation = generation,
        .sampling = {m->temperature, m->top_p, m->seed},
        .stop = (const char *const *)m->stop,
        .stop_count = m->n_stop,
        .free_text = m->free_text,
        .stores = h->stores,
        .scope = &q->scope,
        .not_found_percent = h->settings.not_found_percent,
        .emit = emit_piece,
        .emit_ctx = q,
    };
    session_answer out;
    result r = session_generate(h->generator, h->steps, h->states, h->keys, &s, q->mem, &out);
    log_event(LOG_INFO, "answer", LOG_TEXT("status", error_code_name(r.code)),
              LOG_NUMBER("tokens", out.output_tokens));
    TRY(r);
    final->end_reason = (char *)out.end_reason;
    final->usage->input_tokens = out.input_tokens;
    final->usage->output_tokens = out.output_tokens;
    *answer = out.answer;
    if (out.grounding) TRY(grounding_fill(q, read, out.grounding, final));
    for (size_t i = 0; out.grounding == NULL && i < read->count; i++)
        TRY(citation_add(q, final, read, i, read->hits[i].start, read->hits[i].end));
    if (out.grounding == NULL || final->n_citations > 0) final->mode = (char *)"generative";
    return OK;
}

static result ask_admitted(request *q, Lethe__V1__AskRequest *m, bool repeats)
{
    state_cache_figures figures = {0};
    if (q->h->states) state_cache_figures_now(q->h->states, &figures);
    passages read;
    TRY(search_marked(q, m->question, m->passages, SEARCH_QUESTION, &read));
    TRY(passages_frame(q, &read));

    Lethe__V1__AskFinal final = LETHE__V1__ASK_FINAL__INIT;
    Lethe__V1__Usage usage = LETHE__V1__USAGE__INIT;
    final.usage = &usage;
    final.mode = (char *)"none";
    final.end_reason = (char *)"none";
    if (repeats) final.notice = (char *)REPEATS_NOTICE;
    final.citations = arena_alloc_array(q->mem, read.count + 1, sizeof *final.citations);
    if (final.citations == NULL) return arena_check(q->mem);
    const ifc_labeled *answer = NULL;
    if (read.count > 0 && q->h->generator)
        TRY(answer_generative(q, m, &read, figures.generation, &final, &answer));
    else if (read.count > 0)
        TRY(answer_extractive(q, m, &read, &final, &answer));
    else
        TRY(answer_none(q, &answer));
    return final_frame(q, &final, answer);
}

result answers_ask(request *q)
{
    Lethe__V1__AskRequest *m;
    TRY(request_receive(q, &lethe__v1__ask_request__descriptor, &m));
    TRY(check_request(q, m));
    TRY(request_audience(q, m->audience));
    bool repeats;
    TRY(retrieval_tombstones_check(q->h->stores, q->who.tenant, q->who.principal, bytes_str(m->question), &repeats));
    TRY(acl_admit(q->h->access, q->who.principal, ACL_ANSWER, clock_mono_ms()));
    result r = ask_admitted(q, m, repeats);
    acl_leave(q->h->access, q->who.principal, ACL_ANSWER);
    return r;
}

/* ---- Score ---------------------------------------------------------------------------------------------------- */
/* The prompt's part of the request is checked as Ask's is. */
static result score_check(request *q, Lethe__V1__ScoreRequest *m)
{
    Lethe__V1__AskRequest as = LETHE__V1__ASK_REQUEST__INIT;
    as.question = m->question;
    as.passages = m->passages;
    as.repeats = m->repeats;
    as.order = m->order;
    size_t size = strlen(m->continuation);
    if (size == 0 || size > SEARCH_QUERY_MAX_BYTES)
        return fail(E_INVALID, "continuation: 1 to %d bytes", SEARCH_QUERY_MAX_BYTES);
    TRY(check_request(q, &as));
    m->passages = as.passages;
    m->repeats = as.repeats;
    return OK;
}

/* Through the gate, then apart into the response's fields. */
static result score_response(request *q, const session_scores *scores)
{
    Lethe__V1__ScoreResponse response = LETHE__V1__SCORE_RESPONSE__INIT;
    float *all = arena_alloc_array(q->mem, 3 * scores->count, sizeof *all);
    if (all == NULL) return arena_check(q->mem);
    response.log_probs = all;
    response.means = all + scores->count;
    response.deviations = all + 2 * scores->count;
    response.n_log_probs = response.n_means = response.n_deviations = scores->count;
    response.tokens = (uint32_t)scores->count;
    response.input_tokens = scores->input_tokens;
    response.label = request_label(q, ifc_labeled_label(scores->scores));
    buf raw;
    buf_init(&raw, 16 << 20);
    result r = ifc_gate_release(q->context, scores->scores, &raw);
    if (is_ok(r)) r = buf_check(&raw);
    for (size_t i = 0; is_ok(r) && i < scores->count; i++) {
        session_token_score one;
        memcpy(&one, raw.data + i * sizeof one, sizeof one);
        response.log_probs[i] = one.log_prob;
        response.means[i] = one.mean;
        response.deviations[i] = one.deviation;
    }
    buf_free(&raw);
    TRY(r);
    return request_send(q, &response.base);
}

static result score_admitted(request *q, Lethe__V1__ScoreRequest *m)
{
    house *h = q->h;
    state_cache_figures figures = {0};
    if (h->states) state_cache_figures_now(h->states, &figures);
    passages read = {0};
    if (!m->closed_book) TRY(search_marked(q, m->question, m->passages, SEARCH_QUESTION, &read));
    uint64_t most = (uint64_t)m->repeats * h->settings.context_tokens_max +
                    2 * strlen(m->question) + strlen(m->continuation);
    TRY(acl_tokens_take(h->access, q->who.principal, most, clock_mono_ms()));
    const session_request s = {
        .context = q->context,
        .hits = read.hits,
        .hit_count = read.count,
        .question = m->question,
        .question_first = m->order == LETHE__V1__PROMPT_ORDER__PROMPT_ORDER_QUESTION_FIRST,
        .repeats = m->repeats,
        .context_tokens_max = h->settings.context_tokens_max,
        .cache_generation = figures.generation,
    };
    session_scores scores;
    TRY(session_score(h->generator, h->steps, h->states, h->keys, &s, bytes_str(m->continuation),
                      h->settings.tokens_max, q->mem, &scores));
    return score_response(q, &scores);
}

result answers_score(request *q)
{
    Lethe__V1__ScoreRequest *m;
    TRY(request_receive(q, &lethe__v1__score_request__descriptor, &m));
    if (q->h->generator == NULL)
        return fail(E_PRECONDITION, "scores need a generator: this server answers extractively");
    if (!writes(q->h))
        return fail(E_PRECONDITION, "scores need a generator that writes: this server's marks answers in the documents");
    TRY(score_check(q, m));
    TRY(request_audience(q, m->audience));
    TRY(acl_admit(q->h->access, q->who.principal, ACL_ANSWER, clock_mono_ms()));
    result r = score_admitted(q, m);
    acl_leave(q->h->access, q->who.principal, ACL_ANSWER);
    return r;
}
