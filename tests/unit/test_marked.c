/* Answers that a model marks: the prompt, the sums of both readings and the choice of spans, worked out again token by token from the
 * rules in server/marks.h, on a generator with random weights. */
#include "server/marks.h"

#include "golden/random_model.h"
#include "test.h"

#include <ctype.h>
#include <math.h>

enum { START = 60, STOP = 61, NONE = 62, SEEN = 63, PASSAGES = 4, IDS_MAX = 4096, LIMIT = 512 };
#define LETHE "\"lethe\": {\"start\": 60, \"stop\": 61, \"none\": 62, \"none_bias\": 0.25, \"stem_letters\": 4, " \
              "\"span_tokens_max\": 24, \"frequent\": [\"the\", \"and\"], "
static const char *const WORDS[] = {"mill", "Mill", "miller", "burned", "the", "and", "1871", "fire", "caf\303\251", "(old)", "red-brick",
                                    "Jorn's", "a", "\"", "--", "harbourmaster", "in", "x.", "burn"};
enum { WORD_COUNT = sizeof WORDS / sizeof *WORDS };
static char folder[256];
static uint64_t random_state = 1;

static uint32_t below(uint32_t n)
{
    random_state += 0x9e3779b97f4a7c15u;
    return (uint32_t)(gen_mix(random_state) % n);
}

static void text_make(char *out, uint32_t words)
{
    out[0] = 0;
    for (uint32_t i = 0; i < words; i++) {
        if (i > 0) strcat(out, below(9) ? " " : below(2) ? "  " : "\n");
        strcat(out, WORDS[below(WORD_COUNT)]);
    }
}

/* ---- the model ------------------------------------------------------------------------------------------------------ */
typedef struct { model *engine; scheduler *steps; uint32_t repeats, measure; bool seen; } house;

static void house_open(house *h, uint32_t repeats, uint32_t measure, bool seen)
{
    gen_config c = {.d_model = 32, .d_inner = 64, .d_state = 8, .d_conv = 4, .dt_rank = 2, .use_conv_bias = true, .tied = true,
                    .type = GEN_F32, .seed = 9, .layers = 2, .vocab = RANDOM_MODEL_TOKENS};
    char path[300], text[4096], marks[512];
    ASSERT(random_model_write(folder, &c));
    snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *f = fopen(path, "r");
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    snprintf(marks, sizeof marks, "{" LETHE "%s\"repeats\": 2, \"sentences_tokens\": %u},", seen ? "\"seen\": 63, " : "", measure);
    f = fopen(path, "w");
    fprintf(f, "%s%s", marks, strchr(text, '{') + 1);
    fclose(f);
    const scheduler_limits limits = {4, 16, 8, 8, 64, 100};
    *h = (house){.repeats = repeats, .measure = measure, .seen = seen};
    ASSERT(is_ok(model_open(&h->engine, folder, &(model_options){.threads = 1})));
    ASSERT(is_ok(scheduler_open(&h->steps, h->engine, &limits)));
}

static void house_close(house *h)
{
    scheduler_close(&h->steps);
    model_close(&h->engine);
}

/* ---- the prompt once more ---------------------------------------------------------------------------------------------- */
typedef struct { uint32_t id; bool seen; int passage; size_t start, end; int place[2]; } token;
typedef struct {
    token tokens[IDS_MAX];
    uint32_t ids[IDS_MAX];
    size_t count, id_count;
} oracle;

static bool is_letter(char c) { return isalnum((unsigned char)c) || (unsigned char)c >= 0x80; }

/* Does the question have a word that begins with the same four letters? Frequent ones do not count. */
static bool looked_up(const char *text, size_t start, const char *question)
{
    char stem[2][32] = {{0}};
    const char *at[2] = {text + start, question};
    for (bool begun = false; *at[1]; begun = is_letter(*at[1]), at[1]++) {
        if (begun || !is_letter(*at[1])) continue;
        for (int k = 0; k < 2; k++) {
            size_t n = 0, letters = 0;
            for (const char *p = at[k]; is_letter(*p); p++) {
                if ((*p & 0xC0) != 0x80 && ++letters > 4) break;
                stem[k][n++] = (char)((unsigned char)*p < 0x80 ? tolower((unsigned char)*p) : *p);
            }
            stem[k][n] = 0;
        }
        if (strcmp(stem[0], stem[1]) == 0 && strcmp(stem[0], "the") && strcmp(stem[0], "and")) return true;
    }
    return false;
}

static size_t encode(const house *h, const char *text, uint32_t *ids)
{
    arena *a;
    uint32_t *got;
    size_t count;
    arena_open(&a, 1 << 20);
    ASSERT(is_ok(tokenizer_encode(model_tokenizer(h->engine), bytes_str(text), false, a, &got, &count)));
    memcpy(ids, got, count * sizeof *ids);
    arena_close(&a);
    return count;
}

static size_t size_of(const house *h, uint32_t id) { return tokenizer_token(model_tokenizer(h->engine), id).size; }

/* `text` behind a blank or not, as tokens of the passage; whose is -1: of the question. */
static void tokens_make(const house *h, const char *text, bool blank, int whose, const char *other, token *out, size_t *count)
{
    char spaced[4096];
    uint32_t ids[IDS_MAX];
    snprintf(spaced, sizeof spaced, "%s%s", blank ? " " : "", text);
    size_t n = encode(h, spaced, ids), at = 0;
    for (size_t i = 0; i < n; i++) {
        size_t end = at + size_of(h, ids[i]);
        token t = {.id = ids[i], .passage = whose, .start = at - (at > 0 && blank), .end = end - blank};
        for (size_t b = t.start; h->seen && b < t.end; b++)
            if (is_letter(text[b]) && (b == 0 || !is_letter(text[b - 1]))) t.seen = t.seen || looked_up(text, b, other);
        out[(*count)++] = t;
        at = end;
    }
}

static void push(oracle *o, uint32_t id) { o->ids[o->id_count++] = id; }

static void push_token(oracle *o, token *t, int reading)
{
    if (t->seen) push(o, SEEN);
    t->place[reading] = (int)o->id_count;
    push(o, t->id);
}

static void oracle_read(const house *h, const char *question, char texts[][1024], size_t count, oracle *o)
{
    uint32_t gap[8], cue[32];
    size_t gap_count = encode(h, "\n\n", gap), cue_count = encode(h, "Question: ", cue), used = 0, asked_count = 0;
    char all[PASSAGES * 1024 + 64] = "";
    token asked[IDS_MAX];
    o->count = o->id_count = 0;
    for (size_t i = 0; i < count; i++) {
        size_t before = o->count;
        if (texts[i][0] == 0) continue;
        tokens_make(h, texts[i], h->measure > 0, (int)i, question, o->tokens, &o->count);
        if (h->measure > 0 && used > 0 && used + o->count - before > h->measure) {
            o->count = before;
            continue;
        }
        used += o->count - before;
        strcat(strcat(all, " "), texts[i]);
        for (size_t k = 0; k < gap_count; k++) o->tokens[o->count++] = (token){.id = gap[k], .passage = -1};
    }
    tokens_make(h, question, false, -1, all, asked, &asked_count);
    for (size_t i = 0; i < cue_count; i++) push(o, cue[i]);
    for (size_t i = 0; i < asked_count; i++) push_token(o, &asked[i], 0);
    for (size_t i = 0; i < gap_count; i++) push(o, gap[i]);
    for (size_t i = 0; i < o->count; i++) push_token(o, &o->tokens[i], 0);
    if (h->repeats == 1) return;
    for (size_t end = o->count; end > 0;) {
        size_t start = end - 1;
        while (start > 0 && !strchr(" \n", tokenizer_token(model_tokenizer(h->engine), o->tokens[start].id).data[0])) start--;
        for (size_t i = start; i < end; i++) push_token(o, &o->tokens[i], 1);
        end = start;
    }
    for (size_t i = 0; i < gap_count; i++) push(o, gap[i]);
    o->tokens[o->count - 1].place[1] = (int)o->id_count - 1;
}

/* ---- the choice once more ------------------------------------------------------------------------------------------------ */
typedef struct { double likelihood, nothing; int passage; size_t start, end; } choice;

static bool is_edge(const char *text, size_t at)
{
    return at == 0 || !text[at] || !(is_letter(text[at - 1]) && is_letter(text[at]));
}

static double sum_of(const house *h, const token *t, const float *logits, uint32_t id)
{
    double sum = 0;
    for (uint32_t k = 0; k < h->repeats; k++) sum += (double)logits[(size_t)t->place[k] * RANDOM_MODEL_TOKENS + id];
    return sum;
}

static size_t begin_of(const token *t, const char *text)
{
    size_t at = t->start;
    while (at < t->end && strchr(" \n", text[at])) at++;
    return at;
}

static void choices_make(const house *h, char texts[][1024], const oracle *o, const float *logits, uint32_t tokens_max, choice *best)
{
    double starts = 0, stops = 0, none = sum_of(h, &o->tokens[o->count - 1], logits, NONE) + 0.25;
    bool opens[IDS_MAX] = {0}, closes[IDS_MAX] = {0};
    for (size_t i = 0; i < o->count; i++) {
        const token *t = &o->tokens[i];
        if (t->passage < 0) continue;
        const char *text = texts[t->passage];
        size_t from = begin_of(t, text), later = from;
        while (text[later] && !is_letter(text[later])) later++;
        opens[i] = from < t->end && is_edge(text, from) && text[later];
        closes[i] = t->end > t->start && is_edge(text, t->end) && !strchr(" \n", text[t->end - 1]);
        if (opens[i]) starts += exp(sum_of(h, t, logits, START) - none);
        if (closes[i]) stops += exp(sum_of(h, t, logits, STOP) - none);
    }
    starts = none + log(starts + 1);
    stops = none + log(stops + 1);
    for (int p = 0; p < PASSAGES; p++) best[p] = (choice){-INFINITY, 2 * none - starts - stops, -1, 0, 0};
    for (size_t i = 0; i < o->count; i++)
        for (size_t j = i; opens[i] && j < o->count && o->tokens[j].passage == o->tokens[i].passage; j++) {
            const token *a = &o->tokens[i], *b = &o->tokens[j];
            size_t from = begin_of(a, texts[a->passage]), letters = 0, spent = j - i + 1;
            for (size_t k = from; k < b->end; k++) letters += is_letter(texts[a->passage][k]);
            double l = sum_of(h, a, logits, START) - starts + sum_of(h, b, logits, STOP) - stops;
            choice *c = &best[a->passage];
            if (closes[j] && letters > 0 && spent <= 24 && spent <= tokens_max && l > c->likelihood)
                *c = (choice){l, c->nothing, a->passage, from, b->end};
        }
}

static float *logits_of(const house *h, const oracle *o)
{
    float *all = mem_alloc_array(o->id_count * RANDOM_MODEL_TOKENS, sizeof *all);
    model_seq *s;
    ASSERT(is_ok(model_seq_open(&s, h->engine)));
    for (size_t i = 0; i < o->id_count; i++)
        ASSERT(is_ok(model_prefill(s, &o->ids[i], 1, all + i * RANDOM_MODEL_TOKENS, NULL, NULL)));
    model_seq_close(&s);
    return all;
}

/* ---- cases ------------------------------------------------------------------------------------------------------------------ */
typedef struct { char question[1024], texts[PASSAGES][1024]; bytes passages[PASSAGES]; extractive_pick sentences[PASSAGES]; } paper;

static void paper_make(paper *p)
{
    text_make(p->question, 1 + below(9));
    for (size_t i = 0; i < PASSAGES; i++) {
        text_make(p->texts[i], below(30));
        p->passages[i] = bytes_str(p->texts[i]);
        p->sentences[i] = (extractive_pick){.passage = i, .end = p->passages[i].size};
    }
}

static result mark(const house *h, const paper *p, uint32_t tokens_max, const char *const *stop, size_t stops, arena *a,
                   grounded_answer *got, uint64_t *tokens)
{
    seat *place;
    TRY(seat_open(&place, h->steps, (id128){{1}}, NULL, NULL));
    const marks_input in = {.engine = h->engine, .place = place, .question = p->question, .passages = p->passages, .count = PASSAGES,
                            .sentences = p->sentences, .sentence_count = PASSAGES, .repeats = h->repeats, .tokens_max = tokens_max,
                            .context_tokens_max = LIMIT, .stop = stop, .stop_count = stops, .not_found_percent = 100};
    result r = marks_read(&in, a, got, tokens);
    seat_close(&place);
    return r;
}

static void look(const house *h, const paper *p, uint32_t tokens_max)
{
    static oracle o;
    grounded_answer got;
    uint64_t tokens;
    choice best[PASSAGES];
    arena *a;
    arena_open(&a, 16 << 20);
    CHECK_OK(mark(h, p, tokens_max, NULL, 0, a, &got, &tokens));
    oracle_read(h, p->question, (char (*)[1024])p->texts, PASSAGES, &o);
    if (o.count == 0) {
        CHECK(!got.found && tokens == 0);
        arena_close(&a);
        return;
    }
    CHECK(tokens == o.id_count);
    float *logits = logits_of(h, &o);
    choices_make(h, (char (*)[1024])p->texts, &o, logits, tokens_max, best);
    const choice *top = NULL;
    for (int i = 0; i < PASSAGES; i++) {
        const grounded_reading *r = &got.readings[i];
        CHECK((r->span_count == 1) == (best[i].passage == i));
        if (best[i].passage != i || r->span_count != 1) continue;
        if (top == NULL || best[i].likelihood > top->likelihood) top = &best[i];
        CHECK(fabs(r->likelihood - best[i].likelihood) < 1e-9 && r->spans[0].passage == (size_t)i);
        CHECK(r->spans[0].start == best[i].start && r->spans[0].end == best[i].end);
        CHECK(bytes_equal(r->text, bytes_of(p->texts[i] + best[i].start, best[i].end - best[i].start)));
    }
    CHECK(fabs(got.nothing - best[0].nothing) < 1e-9);
    CHECK(got.found == (top != NULL && got.nothing <= top->likelihood));
    if (top) CHECK(got.answer.likelihood == got.readings[top->passage].likelihood);
    mem_free(logits);
    arena_close(&a);
}

static void as_the_rules_say(void)
{
    for (uint32_t kind = 0; kind < 8; kind++) {
        house h;
        house_open(&h, 1 + (kind & 1), kind & 2 ? 32 : 0, kind & 4);
        for (int i = 0; i < 40; i++) {
            paper p;
            paper_make(&p);
            look(&h, &p, i % 4 == 0 ? 1 + below(4) : 64);
        }
        house_close(&h);
    }
}

/* What the tokenizer changes (NFC) is quoted as it stands; spans are whole words in any case. */
static void the_documents_bytes(void)
{
    static const char *const texts[PASSAGES] = {"e\314\201cole and cafe\314\201 burned in 1,871.5 pounds", "\r\n \t ", "", "Mu\314\210hle:12:30 mill"};
    house h;
    house_open(&h, 2, 64, true);
    for (uint32_t round = 0; round < 60; round++) {
        paper p;
        arena *a;
        grounded_answer got;
        uint64_t tokens;
        paper_make(&p);
        for (size_t i = 0; i < PASSAGES; i++) {
            strcpy(p.texts[i], texts[i]);
            if (below(2)) strcat(p.texts[i], " the e\314\201cole's (mill)");
            p.passages[i] = bytes_str(p.texts[i]);
            p.sentences[i].end = p.passages[i].size;
        }
        arena_open(&a, 16 << 20);
        CHECK_OK(mark(&h, &p, 64, NULL, 0, a, &got, &tokens));
        for (size_t i = 0; i < PASSAGES; i++) {
            uint8_t flags[1025];
            uint32_t word_end[1025];
            const grounded_reading *r = &got.readings[i];
            if (r->span_count == 0) continue;
            const constraint_span *s = r->spans;
            constraint_edges(p.passages[i], flags, word_end);
            CHECK((flags[s->start] & CONSTRAINT_BEGINS) && (flags[s->end] & CONSTRAINT_ENDS) && word_end[s->start] <= s->end);
            CHECK(bytes_equal(r->text, bytes_of(p.texts[i] + s->start, s->end - s->start)));
        }
        arena_close(&a);
    }
    house_close(&h);
}

/* An answer ends before the first stop sequence, at a whole word, or is none. */
static void stop_sequences(void)
{
    static const char *const stop[] = {"ill", " b"};
    size_t cut = 0, without = 0;
    house h;
    house_open(&h, 2, 64, true);
    for (int i = 0; i < 120; i++) {
        paper p;
        arena *a;
        grounded_answer whole, got;
        uint64_t tokens;
        paper_make(&p);
        arena_open(&a, 16 << 20);
        CHECK_OK(mark(&h, &p, 64, NULL, 0, a, &whole, &tokens));
        CHECK_OK(mark(&h, &p, 64, stop, 2, a, &got, &tokens));
        for (size_t k = 0; tokens > 0 && k < PASSAGES; k++) {
            const grounded_reading *w = &whole.readings[k], *g = &got.readings[k];
            if (g->span_count == 0) {
                without += w->span_count;
                continue;
            }
            CHECK(g->spans[0].start == w->spans[0].start && g->spans[0].end <= w->spans[0].end);
            for (int n = 0; n < 2; n++) CHECK(memmem(g->text.data, g->text.size, stop[n], strlen(stop[n])) == NULL);
            cut += g->spans[0].end < w->spans[0].end;
        }
        arena_close(&a);
    }
    CHECK(cut > 5 && without > 5);
    house_close(&h);
}

/* A reading is cut at the limit, and still answers. */
static void longer_than_the_limit(void)
{
    house h;
    house_open(&h, 2, 0, true);
    paper p;
    arena *a;
    grounded_answer got;
    uint64_t tokens;
    static char text[64 << 10];
    paper_make(&p);
    while (strlen(text) < sizeof text - 64) strcat(text, below(2) ? " mill" : " harbourmaster");
    p.passages[1] = bytes_str(text);
    arena_open(&a, 16 << 20);
    CHECK_OK(mark(&h, &p, 64, NULL, 0, a, &got, &tokens));
    CHECK(got.readings[1].span_count == 1 && tokens > LIMIT && tokens < 5 * LIMIT);
    arena_close(&a);
    house_close(&h);
}

int main(void)
{
    test_tmpdir(folder);
    RUN(as_the_rules_say);
    RUN(the_documents_bytes);
    RUN(stop_sequences);
    RUN(longer_than_the_limit);
    test_tmpdir_remove(folder);
    return DONE();
}
