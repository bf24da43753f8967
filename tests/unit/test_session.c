/* Prompts, the scheduler, sessions and the state cache, on a random model with the real tokenizer. */
#include "server/prompt.h"
#include "server/session.h"

#include "golden/random_model.h"
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>

static char folder[256];
static model *engine, *endless, *marking;            /* the second ends no answer by itself */
static scheduler *steps, *endless_steps, *marking_steps;
static keytree *keys;
static root_holder *holder;
static id128 tenant, ada, bob;

/* marks: NULL, or what config.json says of them. */
static void open_model(const char *name, bool ends, const char *marks, model **m, scheduler **s)
{
    char path[300];
    gen_config c = {.d_model = 32, .d_inner = 64, .d_state = 8, .d_conv = 4, .dt_rank = 2,
                    .use_conv_bias = true, .tied = true, .type = GEN_F32, .seed = 5, .layers = 2,
                    .vocab = RANDOM_MODEL_TOKENS, .endless = !ends};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    ASSERT(is_ok(dir_make(path, 0700)) && random_model_write(path, &c));
    ASSERT(marks == NULL || random_model_declare(path, marks));
    const model_options options = {.threads = 1};
    result r = model_open(m, path, &options);
    if (!is_ok(r)) { printf("# %s\n", r.message); exit(1); }
    const scheduler_limits limits = {4, 16, 8, 8, 64, 100};
    ASSERT(is_ok(scheduler_open(s, *m, &limits)));
}

static void setup(void)
{
    char path[300];
    test_tmpdir(folder);
    open_model("model", true, NULL, &engine, &steps);
    open_model("endless", false, NULL, &endless, &endless_steps);
    open_model("marking", true, "\"lethe\": {\"start\": 60, \"stop\": 61, \"none\": 62, \"seen\": 63, \"writes\": false}",
               &marking, &marking_steps);
    snprintf(path, sizeof path, "%s/root", folder);
    ASSERT(is_ok(root_file_open(&holder, path, true)));
    snprintf(path, sizeof path, "%s/keytree", folder);
    ASSERT(is_ok(dir_make(path, 0700)) && is_ok(keytree_create(&keys, path, NULL, holder)));
    tenant = id_random();
    ada = id_random();
    bob = id_random();
    const keytree_node nodes[] = {keytree_tenant(tenant), keytree_owner(tenant, ada),
                                  keytree_owner(tenant, bob)};
    ASSERT(is_ok(keytree_add(keys, nodes, 3)));
}

/* ---- prompts ------------------------------------------------------------------------------------------- */
static void prompt_orders(void)
{
    arena *a;
    arena_open(&a, 16 << 20);
    const bytes passages[] = {bytes_str("The mill burned in 1871."), bytes_str("It was rebuilt.")};
    const bytes question = bytes_str("When did the mill burn?");
    prompt once, twice, first;
    prompt_options o = {false, 1, 950};
    CHECK_OK(prompt_build(model_tokenizer(engine), passages, 2, question, &o, a, &once));
    o.repeats = 2;
    CHECK_OK(prompt_build(model_tokenizer(engine), passages, 2, question, &o, a, &twice));
    o.question_first = true;
    CHECK_OK(prompt_build(model_tokenizer(engine), passages, 2, question, &o, a, &first));
    CHECK(twice.count == once.count + once.context_count);
    CHECK(twice.prefix_count == 2 * once.context_count && first.prefix_count == 0);
    /* The second copy is the first again; what follows is as without it. */
    CHECK(memcmp(twice.tokens, twice.tokens + once.context_count,
                 once.context_count * sizeof *twice.tokens) == 0);
    CHECK(memcmp(twice.tokens + once.context_count, once.tokens,
                 once.count * sizeof *once.tokens) == 0);
    CHECK(first.count > twice.count);
    arena_close(&a);
}

/* Cut per copy, before repeating: every copy is the same. */
static void prompt_truncates_each_copy(void)
{
    arena *a;
    arena_open(&a, 16 << 20);
    char text[2001];
    memset(text, 'x', 2000);
    text[2000] = 0;
    const bytes passages[] = {bytes_str(text)};
    prompt p;
    const prompt_options o = {false, 3, 50};
    CHECK_OK(prompt_build(model_tokenizer(engine), passages, 1, bytes_str("q"), &o, a, &p));
    CHECK(p.truncated && p.context_count == 50 && p.prefix_count == 150);
    CHECK(memcmp(p.tokens, p.tokens + 50, 50 * sizeof *p.tokens) == 0);
    /* Text that looks like the end-of-text token is text. */
    const bytes special[] = {bytes_str("<|endoftext|>")};
    CHECK_OK(prompt_build(model_tokenizer(engine), special, 1, bytes_str("q"), &o, a, &p));
    int64_t eos = tokenizer_find(model_tokenizer(engine), "<|endoftext|>");
    for (size_t i = 0; i < p.count; i++) CHECK((int64_t)p.tokens[i] != eos);
    arena_close(&a);
}

/* ---- sessions ------------------------------------------------------------------------------------------ */
typedef struct {
    arena *mem;
    ifc_context *context;
    retrieval_hit hits[2];
    session_request request;
    buf streamed;
    int pieces, cancel_after;
} asked;

static result take_piece(void *ctx, const ifc_labeled *piece)
{
    asked *q = ctx;
    q->pieces++;
    return ifc_gate_release(q->context, piece, &q->streamed);
}

static bool cancelled_after(void *ctx)
{
    asked *q = ctx;
    return q->cancel_after >= 0 && q->pieces >= q->cancel_after;
}

static asked *ask_begin(id128 who, const char *question)
{
    asked *q = mem_alloc(sizeof *q);
    arena_open(&q->mem, 64 << 20);
    q->context = arena_alloc(q->mem, sizeof *q->context);
    q->cancel_after = -1;
    buf_init(&q->streamed, 1 << 20);
    ASSERT(is_ok(ifc_context_init(q->context, tenant, who, &who, 1)));
    q->context->cancelled = cancelled_after;
    q->context->cancelled_ctx = q;
    static const char *const texts[] = {"The mill at Osten burned in 1871; the miller was Jorn.",
                                        "Rebuilding took four years and cost 900 crowns."};
    ifc_label *label = arena_alloc(q->mem, sizeof *label);
    ifc_label_public(label);
    ASSERT(is_ok(ifc_label_secrecy_add(label, &who, 1)));
    for (int i = 0; i < 2; i++) {
        q->hits[i] = (retrieval_hit){.owner = who, .chunk = (uint32_t)i};
        q->hits[i].document.b[0] = (uint8_t)(i + 1);
        q->hits[i].text = ifc_labeled_make(q->mem, label, bytes_str(texts[i]));
    }
    q->request = (session_request){.context = q->context, .hits = q->hits, .hit_count = 2,
        .question = question, .repeats = 2, .tokens_max = 24, .context_tokens_max = 950,
        .emit = take_piece, .emit_ctx = q, .free_text = true};
    return q;
}

static void ask_end(asked *q)
{
    buf_free(&q->streamed);
    arena_close(&q->mem);
    mem_free(q);
}

static bool same(const asked *a, const asked *b)
{
    return a->streamed.size > 0 && bytes_equal(buf_bytes(&a->streamed), buf_bytes(&b->streamed));
}

/* The whole is what was streamed, valid UTF-8, under the join of the labels. */
static void answer_is_its_pieces(void)
{
    asked *q = ask_begin(ada, "Who was the miller?");
    session_answer answer;
    CHECK_OK(session_generate(engine, steps, NULL, keys, &q->request, q->mem, &answer));
    buf whole;
    buf_init(&whole, 1 << 20);
    CHECK_OK(ifc_gate_release(q->context, answer.answer, &whole));
    CHECK(bytes_equal(buf_bytes(&whole), buf_bytes(&q->streamed)) && whole.size > 0);
    CHECK(utf8_valid(buf_bytes(&whole)));
    CHECK(ifc_label_equal(ifc_labeled_label(answer.answer), ifc_labeled_label(q->hits[0].text)));
    CHECK(answer.output_tokens >= 1 && answer.output_tokens <= 24 && answer.input_tokens > 40);
    buf_free(&whole);
    ask_end(q);
}

static void cache_hit_equals_miss(void)
{
    state_cache *cache;
    state_cache_figures figures;
    session_answer answer;
    state_cache_open(&cache, 1 << 20);
    asked *none = ask_begin(ada, "Who?"), *miss = ask_begin(ada, "Who?"), *hit = ask_begin(ada, "Who?");
    CHECK_OK(session_generate(engine, steps, NULL, keys, &none->request, none->mem, &answer));
    CHECK_OK(session_generate(engine, steps, cache, keys, &miss->request, miss->mem, &answer));
    CHECK_OK(session_generate(engine, steps, cache, keys, &hit->request, hit->mem, &answer));
    state_cache_figures_now(cache, &figures);
    CHECK(figures.hits == 1 && figures.misses == 1 && figures.entries == 1);
    CHECK(same(none, miss) && same(none, hit));
    /* Another principal with the same tokens shares nothing. */
    asked *other = ask_begin(bob, "Who?");
    CHECK_OK(session_generate(engine, steps, cache, keys, &other->request, other->mem, &answer));
    state_cache_figures_now(cache, &figures);
    CHECK(figures.hits == 1 && figures.misses == 2 && figures.entries == 2);
    ask_end(none);
    ask_end(miss);
    ask_end(hit);
    ask_end(other);
    state_cache_close(&cache);
}

/* Erasing or unsharing a source takes the state away, and an answer under way does not bring it back. */
static void cache_forgets_sources(void)
{
    state_cache *cache;
    state_cache_figures figures;
    session_answer answer;
    state_cache_open(&cache, 1 << 20);
    asked *q = ask_begin(ada, "Who?"), *late = ask_begin(ada, "Who?");
    CHECK_OK(session_generate(engine, steps, cache, keys, &q->request, q->mem, &answer));
    state_cache_drop_source(cache, ada, (id128){{9}});
    state_cache_figures_now(cache, &figures);
    CHECK(figures.entries == 1 && figures.generation == 1);
    state_cache_drop_source(cache, ada, q->hits[1].document);
    state_cache_figures_now(cache, &figures);
    CHECK(figures.entries == 0);
    late->request.cache_generation = figures.generation - 1;      /* searched before the drop */
    CHECK_OK(session_generate(engine, steps, cache, keys, &late->request, late->mem, &answer));
    state_cache_figures_now(cache, &figures);
    CHECK(figures.entries == 0);
    ask_end(q);
    ask_end(late);
    state_cache_close(&cache);
}

/* A share holds what fits; one principal's entries push out its own only. */
static void cache_shares_are_static(void)
{
    state_cache *cache;
    state_cache_figures figures;
    uint8_t key[KEY_BYTES] = {1}, name[HASH_BYTES] = {0}, state[2000] = {3};
    state_cache_open(&cache, 10000);
    buf out;
    buf_init(&out, 1 << 20);
    name[0] = 100;
    state_cache_put(cache, 0, bob, key, name, bytes_of(state, sizeof state), NULL, 0);
    for (uint8_t i = 0; i < 20; i++) {
        name[0] = i;
        state_cache_put(cache, 0, ada, key, name, bytes_of(state, sizeof state), NULL, 0);
    }
    state_cache_figures_now(cache, &figures);
    CHECK(figures.entries >= 4 && figures.entries <= 6);
    name[0] = 100;
    CHECK_OK(state_cache_find(cache, bob, key, name, &out));
    name[0] = 19;
    CHECK_OK(state_cache_find(cache, ada, key, name, &out));
    name[0] = 0;
    CHECK_FAILS(state_cache_find(cache, ada, key, name, &out), E_NOT_FOUND);
    name[0] = 100;
    CHECK_FAILS(state_cache_find(cache, ada, key, name, &out), E_NOT_FOUND);
    buf_free(&out);
    state_cache_close(&cache);
}

/* Cancelled while a piece goes out: not one step more is begun. */
static void cancel_stops_within_a_step(void)
{
    asked *q = ask_begin(ada, "Who?"), *whole = ask_begin(ada, "Who?");
    session_answer answer;
    CHECK_OK(session_generate(engine, steps, NULL, keys, &whole->request, whole->mem, &answer));
    NEED(whole->pieces > 3);
    scheduler_figures before, after;
    q->cancel_after = 3;
    scheduler_figures_now(steps, &before);
    CHECK_FAILS(session_generate(engine, steps, NULL, keys, &q->request, q->mem, &answer), E_CANCELLED);
    scheduler_figures_now(steps, &after);
    CHECK(q->pieces == 3 && answer.output_tokens >= 3);
    CHECK(after.decode_steps - before.decode_steps <= answer.output_tokens - 1);
    CHECK(after.sequences_active == 0);
    ask_end(q);
    ask_end(whole);
}

static void stop_sequences_cut(void)
{
    asked *plain = ask_begin(ada, "Who?");
    session_answer answer;
    CHECK_OK(session_generate(engine, steps, NULL, keys, &plain->request, plain->mem, &answer));
    NEED(plain->streamed.size > 12);
    /* Two characters of the middle of the answer, at a character's boundary. */
    size_t at = plain->streamed.size / 2, end;
    while ((plain->streamed.data[at] & 0xC0) == 0x80) at++;
    end = at;
    (void)utf8_next(buf_bytes(&plain->streamed), &end);
    (void)utf8_next(buf_bytes(&plain->streamed), &end);
    char word[16] = {0};
    memcpy(word, plain->streamed.data + at, end - at);
    const uint8_t *first = memmem(plain->streamed.data, plain->streamed.size, word, end - at);
    const char *stop[] = {word};
    asked *cut = ask_begin(ada, "Who?");
    cut->request.stop = stop;
    cut->request.stop_count = 1;
    CHECK_OK(session_generate(engine, steps, NULL, keys, &cut->request, cut->mem, &answer));
    CHECK(strcmp(answer.end_reason, "stop") == 0);
    CHECK(cut->streamed.size == (size_t)(first - plain->streamed.data));
    CHECK(memcmp(cut->streamed.data, plain->streamed.data, cut->streamed.size) == 0);
    ask_end(plain);
    ask_end(cut);
}

/* Of several, the one that comes first in the text counts, in whatever order they were asked for and
 * even if one token brings them all. */
static void earliest_stop_cuts(void)
{
    asked *plain = ask_begin(ada, "Who?");
    session_answer answer;
    CHECK_OK(session_generate(engine, steps, NULL, keys, &plain->request, plain->mem, &answer));
    bytes text = buf_bytes(&plain->streamed);
    for (size_t at = 0, tried = 0; at < text.size && tried < 16; tried++) {
        char early[8] = {0}, late[8] = {0};
        size_t from = at, middle = at;
        (void)utf8_next(text, &middle);
        size_t end = middle;
        if (middle >= text.size) break;
        (void)utf8_next(text, &end);
        memcpy(early, text.data + from, middle - from);
        memcpy(late, text.data + middle, end - middle);
        at = middle;
        const uint8_t *a = memmem(text.data, text.size, early, strlen(early));
        const uint8_t *b = memmem(text.data, text.size, late, strlen(late));
        const char *stop[] = {late, early};
        asked *cut = ask_begin(ada, "Who?");
        cut->request.stop = stop;
        cut->request.stop_count = 2;
        CHECK_OK(session_generate(engine, steps, NULL, keys, &cut->request, cut->mem, &answer));
        CHECK(cut->streamed.size == (size_t)((a < b ? a : b) - text.data));
        ask_end(cut);
    }
    ask_end(plain);
}

/* Sixteen at once give the bytes that each gives alone. */
static asked *crowd[16];
static void *crowd_run(void *arg)
{
    asked *q = arg;
    session_answer answer;
    result r = session_generate(engine, steps, NULL, keys, &q->request, q->mem, &answer);
    return is_ok(r) ? NULL : arg;
}

static void together_as_alone(void)
{
    static const char *const questions[] = {"Who?", "When did it burn?", "What did it cost?", "Why?"};
    pthread_t threads[16];
    for (int i = 0; i < 16; i++) {
        crowd[i] = ask_begin(i % 2 ? ada : bob, questions[i % 4]);
        crowd[i]->request.sampling = (sampler_options){.temperature = i % 3 ? 0.8f : 0, .top_p = 0.9f,
                                                       .seed = (uint64_t)i};
    }
    for (int i = 0; i < 16; i++)
        ASSERT(pthread_create(&threads[i], NULL, crowd_run, crowd[i]) == 0);
    for (int i = 0; i < 16; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        CHECK(failed == NULL);
    }
    for (int i = 0; i < 16; i++) {
        asked *alone = ask_begin(i % 2 ? ada : bob, questions[i % 4]);
        alone->request.sampling = crowd[i]->request.sampling;
        CHECK(crowd_run(alone) == NULL);
        CHECK(same(alone, crowd[i]));
        ask_end(alone);
        ask_end(crowd[i]);
    }
}

/* ---- grounded answers ------------------------------------------------------------------------------------ */
static asked *ground_begin(id128 who, const char *question)
{
    asked *q = ask_begin(who, question);
    q->request.free_text = false;
    q->hits[0].start = 1000;               /* bytes of its document */
    q->hits[1].start = 70;
    return q;
}

/* From now on, and back. */
static void swap_models(model **other, scheduler **other_steps)
{
    model *m = engine;
    scheduler *s = steps;
    engine = *other;
    steps = *other_steps;
    *other = m;
    *other_steps = s;
}

static void ground(asked *q, session_answer *answer, session_grounding *g, buf *texts)
{
    memset(g, 0, sizeof *g);
    CHECK_OK(session_generate(engine, steps, NULL, keys, &q->request, q->mem, answer));
    if (answer->grounding == NULL) return;
    CHECK_OK(ifc_gate_release(q->context, answer->grounding, texts));
    if (texts->size >= sizeof *g) memcpy(g, texts->data, sizeof *g);
}

/* The spans' bytes, joined. */
static void spans_text(const asked *q, const session_span *spans, size_t count, buf *out)
{
    for (size_t i = 0; i < count; i++) {
        const retrieval_hit *hit = &q->hits[spans[i].hit];
        bytes text = ifc_labeled_compute(hit->text);
        if (i > 0) buf_append_str(out, CONSTRAINT_SEPARATOR);
        NEED(spans[i].start >= hit->start && spans[i].end <= hit->start + text.size && spans[i].start < spans[i].end);
        buf_append(out, text.data + (spans[i].start - hit->start), spans[i].end - spans[i].start);
    }
}

/* Whatever is sampled: the answer is its spans, and each passage's own is that passage's. */
static void grounded_answers_are_spans(void)
{
    size_t found = 0;
    for (uint32_t seed = 0; seed < 24; seed++) {
        asked *q = ground_begin(ada, seed % 2 ? "Who was the miller?" : "What did it cost?");
        session_answer answer;
        session_grounding g;
        buf texts, joined;
        buf_init(&texts, 1 << 20);
        buf_init(&joined, 1 << 20);
        q->request.sampling = (sampler_options){.temperature = seed ? 2.0f : 0, .seed = seed};
        q->request.tokens_max = 1 + seed * 2;
        ground(q, &answer, &g, &texts);
        NEED(answer.grounding != NULL && g.span_count >= 1 && g.reading_count == 2);
        spans_text(q, g.spans, g.span_count, &joined);
        CHECK(joined.size > 0 && bytes_equal(buf_bytes(&joined), buf_bytes(&q->streamed)));
        CHECK(ifc_label_equal(ifc_labeled_label(answer.grounding), ifc_labeled_label(q->hits[0].text)));
        CHECK(g.confidence > 0 && g.confidence <= 1 && g.likelihood < 0 && g.nothing < 0);
        for (uint32_t i = 0; i < g.reading_count; i++) {
            const session_reading *r = &g.readings[i];
            buf_clear(&joined);
            spans_text(q, r->spans, r->span_count, &joined);
            CHECK(r->span_count > 0 && r->spans[0].hit == i);
            CHECK(bytes_equal(buf_bytes(&joined), bytes_of(texts.data + r->text_at, r->text_size)));
            CHECK(!(r->agrees && r->contradicts));
        }
        found += answer.output_tokens > 0 && answer.output_tokens <= q->request.tokens_max;
        buf_free(&texts);
        buf_free(&joined);
        ask_end(q);
    }
    CHECK(found == 24);
}

/* The words for nothing found, and their likelihood, which is what session_score finds. */
static void nothing_found(void)
{
    asked *q = ground_begin(ada, "Who?"), *scored = ask_begin(ada, "Who?");
    session_answer answer;
    session_grounding g;
    session_scores scores;
    buf texts, raw;
    buf_init(&texts, 1 << 20);
    buf_init(&raw, 1 << 20);
    swap_models(&endless, &endless_steps);
    q->request.not_found_percent = 1;      /* an answer of 24 tokens is unlikelier by far */
    ground(q, &answer, &g, &texts);
    CHECK(g.span_count == 0 && strcmp(answer.end_reason, "none") == 0);
    CHECK(bytes_equal(buf_bytes(&q->streamed), bytes_str(SESSION_NOT_FOUND)));
    CHECK(ifc_label_equal(ifc_labeled_label(answer.answer), ifc_labeled_label(q->hits[0].text)));
    CHECK_OK(session_score(engine, steps, NULL, keys, &scored->request, bytes_str(" not found"), 64, scored->mem, &scores));
    CHECK_OK(ifc_gate_release(scored->context, scores.scores, &raw));
    double sum = 0;
    for (size_t i = 0; i < scores.count; i++) sum += (double)((session_token_score *)(void *)raw.data)[i].log_prob;
    CHECK(sum - g.nothing < 1e-4 && g.nothing - sum < 1e-4);
    swap_models(&endless, &endless_steps);
    buf_free(&texts);
    buf_free(&raw);
    ask_end(q);
    ask_end(scored);
}

/* Where the model marks: one span, with the passages' label, of the document's bytes, or the words for nothing found.
 * Mutants: spans_unlabelled, span_of_chunk, not_found_differs. */
static void marked_answers_are_spans(void)
{
    static const char *const questions[] = {"Who was the miller?", "What did it cost?", " When did the mill burn?\n", "?"};
    swap_models(&marking, &marking_steps);
    for (uint32_t n = 0; n < 16; n++) {
        asked *q = ground_begin(ada, questions[n % 4]), *other = ask_begin(bob, "Who?");
        session_answer answer;
        session_grounding g;
        buf texts, joined;
        buf_init(&texts, 1 << 20);
        buf_init(&joined, 1 << 20);
        q->request.tokens_max = 1 + n;
        q->request.repeats = 1 + n / 4 % 2;
        q->request.not_found_percent = n < 8 ? 0 : UINT32_MAX;
        ground(q, &answer, &g, &texts);
        NEED(answer.grounding != NULL && g.span_count == (n < 8) && g.reading_count == 2 && answer.input_tokens > 40);
        spans_text(q, g.spans, g.span_count, &joined);
        CHECK(bytes_equal(buf_bytes(&q->streamed), n < 8 ? buf_bytes(&joined) : bytes_str(SESSION_NOT_FOUND)));
        CHECK(strcmp(answer.end_reason, n < 8 ? "stop" : "none") == 0);
        CHECK(ifc_label_equal(ifc_labeled_label(answer.grounding), ifc_labeled_label(q->hits[0].text)));
        CHECK(ifc_label_equal(ifc_labeled_label(answer.answer), ifc_labeled_label(q->hits[0].text)));
        CHECK(!is_ok(ifc_gate_release(other->context, answer.grounding, &other->streamed)) && other->streamed.size == 0);
        buf_free(&texts);
        buf_free(&joined);
        ask_end(q);
        ask_end(other);
    }
    swap_models(&marking, &marking_steps);
}

/* An answer ends before a stop sequence, at a whole word. */
static void grounded_stops(void)
{
    asked *plain = ground_begin(ada, "Who?"), *cut = ground_begin(ada, "Who?");
    session_answer answer;
    session_grounding g;
    buf texts, joined;
    buf_init(&texts, 1 << 20);
    buf_init(&joined, 1 << 20);
    swap_models(&endless, &endless_steps);
    ground(plain, &answer, &g, &texts);
    NEED(plain->streamed.size > 8);
    char word[8] = {0};
    memcpy(word, plain->streamed.data + plain->streamed.size / 2, 3);
    const char *stop[] = {word};
    cut->request.stop = stop;
    cut->request.stop_count = 1;
    buf_clear(&texts);
    ground(cut, &answer, &g, &texts);
    spans_text(cut, g.spans, g.span_count, &joined);
    CHECK(g.span_count == 0 || bytes_equal(buf_bytes(&joined), buf_bytes(&cut->streamed)));
    CHECK(memmem(cut->streamed.data, cut->streamed.size, word, 3) == NULL);
    swap_models(&endless, &endless_steps);
    buf_free(&texts);
    buf_free(&joined);
    ask_end(plain);
    ask_end(cut);
}

static void *ground_run(void *arg)
{
    asked *q = arg;
    session_answer answer;
    if (!is_ok(session_generate(engine, steps, NULL, keys, &q->request, q->mem, &answer)) || !answer.grounding) return arg;
    return is_ok(ifc_gate_release(q->context, answer.grounding, &q->streamed)) ? NULL : arg;
}

/* Bit by bit the same alone and among fifteen others: text, spans and likelihoods. */
static void grounded_together_as_alone(void)
{
    pthread_t threads[16];
    for (int i = 0; i < 16; i++) {
        crowd[i] = ground_begin(i % 4 ? bob : ada, i % 4 ? "When did it burn, and what did it cost?" : "Who?");
        crowd[i]->request.free_text = i % 2;
        ASSERT(pthread_create(&threads[i], NULL, i % 2 ? crowd_run : ground_run, crowd[i]) == 0);
    }
    for (int i = 0; i < 16; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        CHECK(failed == NULL);
    }
    asked *alone = ground_begin(ada, "Who?");
    CHECK(ground_run(alone) == NULL && same(alone, crowd[0]) && same(alone, crowd[4]));
    ask_end(alone);
    for (int i = 0; i < 16; i++) ask_end(crowd[i]);
}

/* ---- scores ---------------------------------------------------------------------------------------------- */
static const char CONTINUATION[] = " Jorn, who died in 1871.";

static result score(asked *q, session_scores *out)
{
    return session_score(engine, steps, NULL, keys, &q->request, bytes_str(CONTINUATION), 64, q->mem, out);
}

/* The scores as they come through the gate; in q's buffer. */
static const session_token_score *released(asked *q, const session_scores *scores)
{
    buf_clear(&q->streamed);
    CHECK_OK(ifc_gate_release(q->context, scores->scores, &q->streamed));
    CHECK(q->streamed.size == scores->count * sizeof(session_token_score));
    return (const session_token_score *)(const void *)q->streamed.data;
}

/* Token by token what the engine gives when it is asked directly, with no scheduler and no decoding. */
static void scores_are_the_engines(void)
{
    asked *q = ask_begin(ada, "Who was the miller?");
    uint32_t vocab = model_describe(engine)->vocab_size, *tokens;
    float *logits = arena_alloc_array(q->mem, vocab, sizeof *logits);
    bytes passages[2] = {ifc_labeled_compute(q->hits[0].text), ifc_labeled_compute(q->hits[1].text)};
    const prompt_options o = {false, 2, 950};
    size_t count;
    prompt p;
    session_scores scores;
    CHECK_OK(score(q, &scores));
    CHECK_OK(prompt_build(model_tokenizer(engine), passages, 2, bytes_str(q->request.question), &o, q->mem, &p));
    CHECK_OK(tokenizer_encode(model_tokenizer(engine), bytes_str(CONTINUATION), false, q->mem, &tokens, &count));
    NEED(count == scores.count && count > 3 && scores.input_tokens == p.count);
    const session_token_score *got = released(q, &scores);
    double sum = 0, direct = 0;
    for (size_t i = 0; i < count; i++) {
        model_seq *seq;
        CHECK_OK(model_seq_open(&seq, engine));
        uint32_t *all = arena_alloc_array(q->mem, p.count + i, sizeof *all);
        memcpy(all, p.tokens, p.count * sizeof *all);
        memcpy(all + p.count, tokens, i * sizeof *all);
        CHECK_OK(model_prefill(seq, all, p.count + i, logits, NULL, NULL));
        float one = (float)model_log_prob(logits, vocab, tokens[i]);
        CHECK(memcmp(&one, &got[i].log_prob, sizeof one) == 0);
        CHECK(got[i].log_prob <= 0 && got[i].mean < 0 && got[i].deviation > 0);
        sum += (double)got[i].log_prob;
        direct += (double)one;
        model_seq_close(&seq);
    }
    CHECK(memcmp(&sum, &direct, sizeof sum) == 0 && sum < 0);
    /* A continuation that is none, and one that is too long. */
    CHECK_FAILS(session_score(engine, steps, NULL, keys, &q->request, bytes_str(""), 64, q->mem, &scores), E_INVALID);
    CHECK_FAILS(session_score(engine, steps, NULL, keys, &q->request, bytes_str(CONTINUATION), count - 1, q->mem,
                              &scores), E_INVALID);
    ask_end(q);
}

/* Scores bear the passages' labels: they go where the text may go, and nowhere else. */
static void scores_are_labelled(void)
{
    asked *q = ask_begin(ada, "Who?"), *other = ask_begin(bob, "Who?");
    session_scores scores;
    CHECK_OK(score(q, &scores));
    CHECK(ifc_label_equal(ifc_labeled_label(scores.scores), ifc_labeled_label(q->hits[0].text)));
    CHECK(!is_ok(ifc_gate_release(other->context, scores.scores, &other->streamed)) && other->streamed.size == 0);
    /* Closed book: nothing was read, anybody may see it. */
    q->request.hit_count = 0;
    CHECK_OK(score(q, &scores));
    CHECK_OK(ifc_gate_release(other->context, scores.scores, &other->streamed));
    ask_end(q);
    ask_end(other);
}

static void *score_run(void *arg)
{
    asked *q = arg;
    session_scores scores;
    if (!is_ok(score(q, &scores))) return arg;
    buf_clear(&q->streamed);
    return is_ok(ifc_gate_release(q->context, scores.scores, &q->streamed)) ? NULL : arg;
}

/* Bit by bit the same alone and among fifteen others; and from a cached state. */
static void scores_together_as_alone(void)
{
    pthread_t threads[16];
    for (int i = 0; i < 16; i++) {
        crowd[i] = ask_begin(i % 4 ? bob : ada, i % 4 ? "When did it burn, and what did it cost?" : "Who?");
        ASSERT(pthread_create(&threads[i], NULL, i % 2 ? crowd_run : score_run, crowd[i]) == 0);
    }
    for (int i = 0; i < 16; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        CHECK(failed == NULL);
    }
    state_cache *cache;
    state_cache_open(&cache, 1 << 20);
    for (int i = 0; i < 3; i++) {
        asked *alone = ask_begin(ada, "Who?");
        session_scores scores;
        CHECK_OK(session_score(engine, steps, i ? cache : NULL, keys, &alone->request, bytes_str(CONTINUATION), 64,
                               alone->mem, &scores));
        (void)released(alone, &scores);
        CHECK(same(alone, crowd[0]) && same(alone, crowd[4]));
        ask_end(alone);
    }
    state_cache_figures figures;
    state_cache_figures_now(cache, &figures);
    CHECK(figures.hits == 1);
    state_cache_close(&cache);
    for (int i = 0; i < 16; i++) ask_end(crowd[i]);
}

int main(void)
{
    setup();
    RUN(prompt_orders);
    RUN(prompt_truncates_each_copy);
    RUN(answer_is_its_pieces);
    RUN(cache_hit_equals_miss);
    RUN(cache_forgets_sources);
    RUN(cache_shares_are_static);
    RUN(cancel_stops_within_a_step);
    RUN(stop_sequences_cut);
    RUN(earliest_stop_cuts);
    RUN(together_as_alone);
    RUN(grounded_answers_are_spans);
    RUN(nothing_found);
    RUN(marked_answers_are_spans);
    RUN(grounded_stops);
    RUN(grounded_together_as_alone);
    RUN(scores_are_the_engines);
    RUN(scores_are_labelled);
    RUN(scores_together_as_alone);
    scheduler_close(&steps);
    scheduler_close(&endless_steps);
    scheduler_close(&marking_steps);
    model_close(&engine);
    model_close(&marking);
    model_close(&endless);
    keytree_close(&keys);
    root_holder_close(&holder);
    test_tmpdir_remove(folder);
    return DONE();
}
