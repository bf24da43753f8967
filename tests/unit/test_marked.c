/* Answers that a model marks: the prompt, the sums of both readings and the choice of spans, worked out again token by token
 * from the rules in server/marks.h, on a generator with random weights. */
#include "server/marks.h"

#include "golden/random_model.h"
#include "test.h"

#include <ctype.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

enum { START = 60, STOP = 61, NONE = 62, SEEN = 63 };
enum { PASSAGES = 4, SENTENCES = 12, IDS_MAX = 16384, TEXT_MAX = 4096, SPAN_MAX = 24 };
#define BIAS 0.25
#define LETHE "\"lethe\": {\"start\": 60, \"stop\": 61, \"none\": 62, \"none_bias\": 0.25, \"stem_letters\": 4, " \
              "\"span_tokens_max\": 24, \"frequent\": [\"the\", \"and\"], "
/* With characters that NFC changes: CHANGED. */
static const char *const WORDS[] = {
    "mill", "Mill", "miller", "burned", "the", "and", "1871", "fire", "caf\303\251", "(old)", "red-brick", "Jorn's",
    "a", "\"", "--", "harbourmaster", "in", "x.", "burn", "3.5", "1,200", "7:45", "1.", ",2", "mill_race",
    "\342\200\234Gull\342\200\235", "90\302\240kg", "cafe\314\201", "cafe\314\201s", "e\314\201cole", "Mu\314\210hle",
    "\342\204\253ngstro\314\210m", "a\314\202\314\243", "\341\204\200\341\205\241", "(e\314\201)", "x\315\276y",
    "\346\227\245\346\234\254", "mu\314\210", "--e\314\201"};
enum { WORD_COUNT = sizeof WORDS / sizeof *WORDS };
static const char *const CHANGED[][2] = {
    {"e\314\201", "\303\251"}, {"u\314\210", "\303\274"}, {"o\314\210", "\303\266"}, {"\342\204\253", "\303\205"},
    {"a\314\202\314\243", "\341\272\255"}, {"\341\204\200\341\205\241", "\352\260\200"}, {"\315\276", ";"}};
static const char *const STOPS[] = {"ill", " b", "ed", "71", "burn", "\n", "e", "r "};
static char folder[256];
static uint64_t random_state = 1;

static uint32_t below(uint32_t n)
{
    random_state += 0x9e3779b97f4a7c15u;
    return (uint32_t)(gen_mix(random_state) % n);
}

/* ---- the model ---------------------------------------------------------------------------------------------------- */
enum { VOCABULARY = RANDOM_MODEL_TOKENS + 1 };
typedef struct { model *engine; scheduler *steps; uint32_t repeats, measure; bool seen, prefix; } house;

/* In tokenizer.json, wherever it stands. */
static void tokenizer_change(const char *from, const char *to)
{
    char path[300];
    buf old, new;
    buf_init(&old, 1 << 20);
    buf_init(&new, 1 << 20);
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    ASSERT(is_ok(file_read(path, 1 << 20, &old)));
    for (const char *at = (const char *)old.data, *end = at + old.size, *next; at < end; at = next) {
        const char *found = memmem(at, (size_t)(end - at), from, strlen(from));
        buf_append(&new, at, (size_t)((found ? found : end) - at));
        if (found) buf_append_str(&new, to);
        next = found ? found + strlen(from) : end;
    }
    ASSERT(is_ok(buf_check(&new)) && new.size != old.size && is_ok(file_write_atomic(path, buf_bytes(&new), 0600)));
    buf_free(&old);
    buf_free(&new);
}

typedef enum { AS_IT_IS, PREFIXED, SWALLOWING } tokenizing;

static void house_open(house *h, uint32_t repeats, uint32_t measure, bool seen, tokenizing how)
{
    gen_config c = {.d_model = 32, .d_inner = 64, .d_state = 8, .d_conv = 4, .dt_rank = 2, .use_conv_bias = true,
                    .tied = true, .type = GEN_F32, .seed = 9, .layers = 2, .vocab = VOCABULARY};
    char marks[512];
    snprintf(marks, sizeof marks, LETHE "%s\"repeats\": %u, \"sentences_tokens\": %u}", seen ? "\"seen\": 63, " : "", repeats,
             measure);
    ASSERT(random_model_write(folder, &c) && random_model_declare(folder, marks));
    if (how == PREFIXED) tokenizer_change("\"add_prefix_space\":false", "\"add_prefix_space\":true");
    if (how == SWALLOWING)
        tokenizer_change("\"special\":true}]", "\"special\":true},{\"id\":291,\"content\":\"Mill\",\"single_word\":false,"
                         "\"lstrip\":false,\"rstrip\":true,\"normalized\":false,\"special\":false}]");
    const scheduler_limits limits = {4, 16, 8, 8, 64, 100};
    *h = (house){.repeats = repeats, .measure = measure, .seen = seen, .prefix = how == PREFIXED};
    ASSERT(is_ok(model_open(&h->engine, folder, &(model_options){.threads = 1})));
    ASSERT(is_ok(scheduler_open(&h->steps, h->engine, &limits)));
}

static void house_close(house *h)
{
    scheduler_close(&h->steps);
    model_close(&h->engine);
}

/* ---- questions ---------------------------------------------------------------------------------------------------- */
typedef struct {
    char question[TEXT_MAX], texts[PASSAGES][TEXT_MAX];
    bytes passages[PASSAGES];
    extractive_pick sentences[SENTENCES];
    size_t sentence_count, stop_count;
    const char *stop[2];
    uint32_t repeats, tokens_max, limit, not_found_percent;
} paper;

static void words_append(char *out, uint32_t words)
{
    for (uint32_t i = 0; i < words; i++) {
        if (i > 0) strcat(out, below(9) ? " " : below(2) ? "  " : below(2) ? "\r\n" : "\n");
        strcat(out, WORDS[below(WORD_COUNT)]);
    }
    if (below(40) == 0)
        for (int i = 0; i < 20; i++) strcat(out, "harbourmaster");
}

static void passage_make(paper *p, size_t number)
{
    char *text = p->texts[number];
    for (uint32_t i = 0, sentences = below(4); i < sentences; i++) {
        if (i > 0) strcat(text, below(2) ? " " : "\r\n\r\n");
        size_t start = strlen(text);
        words_append(text, 1 + below(12));
        p->sentences[p->sentence_count++] = (extractive_pick){.passage = number, .start = start, .end = strlen(text)};
    }
    if (text[0] == 0 && below(2)) strcpy(text, " \r\n\t ");
    p->passages[number] = bytes_str(text);
}

static void paper_make(paper *p)
{
    memset(p, 0, sizeof *p);
    if (below(4) == 0) strcpy(p->question, " \n");
    if (below(12) == 0) strcat(p->question, "?!");
    else words_append(p->question, 1 + below(9));
    if (below(4) == 0) strcat(p->question, "\t ");
    for (size_t i = 0; i < PASSAGES; i++) passage_make(p, i);
    for (size_t i = p->sentence_count; i-- > 1;) {
        size_t other = below((uint32_t)i + 1);
        extractive_pick held = p->sentences[i];
        p->sentences[i] = p->sentences[other];
        p->sentences[other] = held;
    }
    p->repeats = 1 + below(4);
    p->tokens_max = below(3) ? 64 : 1 + below(4);
    p->limit = below(3) ? 2048 : 1 + below(90);
    p->not_found_percent = below(4) ? 100 : below(2) ? 0 : 1 + below(100000);
    if (below(3) == 0) p->stop_count = 1 + below(2);
    for (size_t i = 0; i < p->stop_count; i++) p->stop[i] = STOPS[below(sizeof STOPS / sizeof *STOPS)];
}

static result mark(const house *h, const paper *p, arena *a, grounded_answer *got, uint64_t *tokens)
{
    seat *place;
    TRY(seat_open(&place, h->steps, (id128){{1}}, NULL, NULL));
    const marks_input in = {.engine = h->engine, .place = place, .question = p->question, .passages = p->passages,
                            .count = PASSAGES, .sentences = p->sentences, .sentence_count = p->sentence_count,
                            .repeats = p->repeats, .tokens_max = p->tokens_max, .context_tokens_max = p->limit, .stop = p->stop,
                            .stop_count = p->stop_count, .not_found_percent = p->not_found_percent};
    result r = marks_read(&in, a, got, tokens);
    seat_close(&place);
    return r;
}

/* ---- the prompt once more ----------------------------------------------------------------------------------------- */
enum { INSIDE = -1 };
/* A text in NFC, and where each place of it is in the text: INSIDE of a changed character. */
typedef struct { char text[TEXT_MAX]; int of[TEXT_MAX + 1]; size_t size; } plain;
/* Bytes [start, end) of pages[number]. */
typedef struct { uint32_t id; bool seen; int number; size_t start, end; int place[2]; } token;
typedef struct {
    plain pages[SENTENCES + 1];
    extractive_pick what[SENTENCES + 1];                  /* of each page */
    size_t page_count;
    token tokens[IDS_MAX];
    uint32_t ids[IDS_MAX];
    size_t count, id_count;
    char met[PASSAGES * TEXT_MAX];                        /* the words that were read */
} oracle;

static void plain_make(const char *text, size_t size, plain *out)
{
    out->size = 0;
    for (size_t i = 0, n = 1; i < size; i += n) {
        const char *nfc = NULL;
        for (size_t k = 0; k < sizeof CHANGED / sizeof *CHANGED; k++)
            if (strncmp(text + i, CHANGED[k][0], strlen(CHANGED[k][0])) == 0) {
                nfc = CHANGED[k][1];
                n = strlen(CHANGED[k][0]);
            }
        out->of[out->size] = (int)i;
        if (nfc == NULL) {
            n = 1;
            out->text[out->size++] = text[i];
            continue;
        }
        for (size_t k = 1; k < strlen(nfc); k++) out->of[out->size + k] = INSIDE;
        memcpy(out->text + out->size, nfc, strlen(nfc));
        out->size += strlen(nfc);
    }
    out->text[out->size] = 0;
    out->of[out->size] = (int)size;
}

static bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

/* Of WORDS' characters, the one that begins at or in front of a place. */
static bool is_letter(const char *text, size_t at)
{
    while (at > 0 && (text[at] & 0xC0) == 0x80) at--;
    if ((unsigned char)text[at] < 0x80) return isalnum((unsigned char)text[at]);
    return strncmp(text + at, "\342\200", 2) != 0 && strncmp(text + at, "\302\240", 2) != 0;
}

static bool word_begins(const char *text, size_t at) { return is_letter(text, at) && (at == 0 || !is_letter(text, at - 1)); }
static bool is_word(const char *text, size_t at) { return text[at] == '_' || is_letter(text, at); }
static bool is_space(const char *text, size_t at) { return is_blank(text[at]) || strncmp(text + at, "\302\240", 2) == 0; }

static void stem_of(const char *text, char out[32])
{
    size_t n = 0, letters = 0;
    for (size_t i = 0; text[i] && is_letter(text, i); i++) {
        if ((text[i] & 0xC0) != 0x80 && ++letters > 4) break;
        out[n++] = (char)((unsigned char)text[i] < 0x80 ? tolower((unsigned char)text[i]) : text[i]);
    }
    out[n] = 0;
}

/* Does the other text have a word that begins with the same four letters? Frequent ones do not count. */
static bool looked_up(const char *text, const char *other)
{
    char stem[32], one[32];
    stem_of(text, stem);
    if (strcmp(stem, "the") == 0 || strcmp(stem, "and") == 0) return false;
    for (size_t i = 0; other[i]; i++) {
        if (!word_begins(other, i)) continue;
        stem_of(other + i, one);
        if (strcmp(one, stem) == 0) return true;
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

static bytes token_text(const house *h, uint32_t id) { return tokenizer_token(model_tokenizer(h->engine), id); }

/* other: the text whose words are looked up. */
static size_t tokens_make(const house *h, const plain *t, bool blank, int number, const char *other, token *out)
{
    static uint32_t ids[IDS_MAX];
    char spaced[TEXT_MAX + 1];
    snprintf(spaced, sizeof spaced, "%s%s", blank ? " " : "", t->text);
    size_t count = encode(h, spaced, ids), at = 0;
    const bool lead = blank || (h->prefix && t->text[0] != ' ');
    for (size_t i = 0; i < count; i++) {
        size_t end = at + token_text(h, ids[i]).size;
        out[i] = (token){.id = ids[i], .number = number, .start = at - (at > 0 && lead), .end = end - lead};
        for (size_t b = out[i].start; h->seen && b < out[i].end; b++)
            if (word_begins(t->text, b) && looked_up(t->text + b, other)) out[i].seen = true;
        at = end;
    }
    return count;
}

/* As many tokens as there are places, with a gap; *room is what is left. */
static void piece_read(oracle *o, const token *all, size_t count, const uint32_t *gap, size_t gap_count, size_t *room)
{
    size_t left = *room, before = o->count;
    if (left <= gap_count) return;
    left -= gap_count;
    for (size_t i = 0; i < count && 1u + all[i].seen <= left; i++) {
        const char *text = o->pages[all[i].number].text;
        o->tokens[o->count++] = all[i];
        left -= 1u + all[i].seen;
        for (size_t b = all[i].start; b < all[i].end; b++) {
            char stem[32];
            if (!word_begins(text, b)) continue;
            stem_of(text + b, stem);
            strcat(strcat(o->met, " "), stem);
        }
    }
    if (o->count == before) return;
    for (size_t k = 0; k < gap_count; k++) o->tokens[o->count++] = (token){.id = gap[k], .number = -1};
    *room = left;
}

static void push(oracle *o, uint32_t id) { o->ids[o->id_count++] = id; }

static void push_token(oracle *o, token *t, int reading)
{
    if (t->seen) push(o, SEEN);
    t->place[reading] = (int)o->id_count;
    push(o, t->id);
}

static void push_backward(const house *h, oracle *o)
{
    for (size_t end = o->count; end > 0;) {
        size_t start = end - 1;
        while (start > 0 && !is_blank((char)token_text(h, o->tokens[start].id).data[0])) start--;
        for (size_t i = start; i < end; i++) push_token(o, &o->tokens[i], 1);
        end = start;
    }
}

static uint32_t readings_of(const house *h, const paper *p) { return p->repeats < h->repeats ? p->repeats : h->repeats; }

static void oracle_read(const house *h, const paper *p, oracle *o)
{
    static token some[IDS_MAX];
    static plain question;
    uint32_t gap[8], cue[32];
    size_t gap_count = encode(h, "\n\n", gap), cue_count = encode(h, "Question: ", cue), used = 0, room = p->limit;
    size_t from = 0, to = strlen(p->question);
    while (to > 0 && is_blank(p->question[to - 1])) to--;
    while (from < to && is_blank(p->question[from])) from++;
    plain_make(p->question + from, to - from, &question);
    o->count = o->id_count = o->page_count = 0;
    o->met[0] = 0;
    for (size_t i = 0; i < (h->measure ? p->sentence_count : PASSAGES); i++) {
        extractive_pick what = p->sentences[i];
        if (h->measure == 0) what = (extractive_pick){.passage = i, .end = strlen(p->texts[i])};
        o->what[o->page_count] = what;
        plain_make(p->texts[what.passage] + what.start, what.end - what.start, &o->pages[o->page_count]);
        size_t count = tokens_make(h, &o->pages[o->page_count], h->measure > 0, (int)o->page_count, question.text, some);
        o->page_count++;
        if (h->measure > 0 && o->count > 0 && used + count > h->measure) continue;
        used += count;
        piece_read(o, some, count, gap, gap_count, &room);
    }
    for (size_t i = 0; i < cue_count; i++) push(o, cue[i]);
    size_t asked = tokens_make(h, &question, false, -1, o->met, some);
    for (size_t i = 0; i < asked; i++) push_token(o, &some[i], 0);
    for (size_t i = 0; i < gap_count; i++) push(o, gap[i]);
    for (size_t i = 0; i < o->count; i++) push_token(o, &o->tokens[i], 0);
    if (readings_of(h, p) == 1 || o->count == 0) return;
    push_backward(h, o);
    for (size_t i = 0; i < gap_count; i++) push(o, gap[i]);
    o->tokens[o->count - 1].place[1] = (int)o->id_count - 1;
}

/* ---- the choice once more ----------------------------------------------------------------------------------------- */
typedef struct { double likelihood; bool is; size_t start, end; } choice;

static bool is_point(char c) { return c == '.' || c == ',' || c == ':'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_edge(const char *t, size_t at)
{
    if (at == 0 || !t[at]) return true;
    if ((t[at] & 0xC0) == 0x80 || (is_word(t, at - 1) && is_word(t, at))) return false;
    if (is_digit(t[at - 1]) && is_point(t[at]) && is_digit(t[at + 1])) return false;
    return !(at > 1 && is_digit(t[at - 2]) && is_point(t[at - 1]) && is_digit(t[at]));
}

static bool has_word(const char *t, size_t start, size_t end)
{
    for (size_t i = start; i < end; i++)
        if (is_word(t, i)) return true;
    return false;
}

/* What a passage has behind the page counts too where it is asked whether a word follows. */
static bool may_begin(const char *t, size_t at) { return t[at] && is_edge(t, at) && !is_space(t, at); }

static bool may_end(const char *t, size_t at)
{
    size_t last = at - 1;
    while (last > 0 && (t[last] & 0xC0) == 0x80) last--;
    return is_edge(t, at) && !is_space(t, last);
}

static double sum_of(const house *h, const paper *p, const token *t, const float *logits, uint32_t id)
{
    double sum = 0;
    for (uint32_t k = 0; k < readings_of(h, p); k++) sum += (double)logits[(size_t)t->place[k] * VOCABULARY + id];
    return sum;
}

static size_t begin_of(const token *t, const char *text)
{
    size_t at = t->start;
    while (at < t->end && is_blank(text[at])) at++;
    return at;
}

/* Is there a word at or behind the place, in the page or in what its passage has behind it? */
static bool word_follows(const paper *p, const oracle *o, int number, size_t at)
{
    const extractive_pick *w = &o->what[number];
    const char *t = o->pages[number].text, *text = p->texts[w->passage];
    return has_word(t, at, strlen(t)) || has_word(text, w->end, strlen(text));
}

/* -> the likelihood of no answer. */
static double choices_make(const house *h, const paper *p, const oracle *o, const float *logits, choice *best)
{
    static bool opens[IDS_MAX], closes[IDS_MAX];
    double starts = 0, stops = 0, none = sum_of(h, p, &o->tokens[o->count - 1], logits, NONE) + BIAS;
    for (size_t i = 0; i < o->count; i++) {
        const token *t = &o->tokens[i];
        opens[i] = closes[i] = false;
        if (t->number < 0) continue;
        const plain *page = &o->pages[t->number];
        size_t from = begin_of(t, page->text);
        opens[i] = from < t->end && page->of[from] != INSIDE && may_begin(page->text, from) &&
                   word_follows(p, o, t->number, from);
        closes[i] = t->end > t->start && page->of[t->end] != INSIDE && may_end(page->text, t->end);
        if (opens[i]) starts += exp(sum_of(h, p, t, logits, START) - none);
        if (closes[i]) stops += exp(sum_of(h, p, t, logits, STOP) - none);
    }
    starts = none + log(starts + 1);
    stops = none + log(stops + 1);
    for (int k = 0; k < PASSAGES; k++) best[k] = (choice){.likelihood = -INFINITY};
    for (size_t i = 0; i < o->count; i++)
        for (size_t j = i; opens[i] && j < o->count && o->tokens[j].number == o->tokens[i].number; j++) {
            const token *a = &o->tokens[i], *b = &o->tokens[j];
            const plain *page = &o->pages[a->number];
            const extractive_pick *w = &o->what[a->number];
            size_t from = begin_of(a, page->text), spent = j - i + 1;
            double l = sum_of(h, p, a, logits, START) - starts + sum_of(h, p, b, logits, STOP) - stops;
            choice *c = &best[w->passage];
            if (!closes[j] || spent > SPAN_MAX || spent > p->tokens_max) continue;
            if (has_word(page->text, from, b->end) && l > c->likelihood)
                *c = (choice){l, true, w->start + (size_t)page->of[from], w->start + (size_t)page->of[b->end]};
        }
    return 2 * none - starts - stops;
}

/* Before the first stop sequence, at the end of a word. */
static void choice_stop(const paper *p, size_t number, choice *c)
{
    static plain all;
    const char *text = p->texts[number];
    size_t end = c->end;
    plain_make(text, strlen(text), &all);
    for (size_t at = c->end; at-- > c->start;)
        for (size_t i = 0; i < p->stop_count; i++)
            if (at + strlen(p->stop[i]) <= c->end && strncmp(text + at, p->stop[i], strlen(p->stop[i])) == 0) end = at;
    if (!c->is || end == c->end) return;
    size_t first = 0, last = 0;
    for (size_t i = 0; i <= all.size; i++) {
        if (all.of[i] == (int)c->start) first = i;
        if (all.of[i] <= (int)c->start || all.of[i] > (int)end) continue;
        if (may_end(all.text, i) && has_word(all.text, first, i)) last = i;
    }
    c->is = last > 0;
    c->end = (size_t)all.of[last];
}

/* ---- agreement once more ------------------------------------------------------------------------------------------ */
/* " word word ": of ASCII in lower case and all other characters, without articles. */
static void words_of(bytes text, char *out)
{
    char word[TEXT_MAX];
    size_t n = 0;
    strcpy(out, " ");
    for (size_t i = 0; i <= text.size; i++) {
        int c = i < text.size ? text.data[i] : ' ';
        if (c >= 0x80 || isalnum(c)) {
            word[n++] = (char)(c < 0x80 ? tolower(c) : c);
            continue;
        }
        word[n] = 0;
        if (n > 0 && strcmp(word, "a") && strcmp(word, "an") && strcmp(word, "the")) strcat(strcat(out, word), " ");
        n = 0;
    }
}

static bool alike(bytes a, bytes b)
{
    char x[TEXT_MAX + 2], y[TEXT_MAX + 2];
    words_of(a, x);
    words_of(b, y);
    return strcmp(x, y) == 0 || (x[1] && y[1] && (strstr(x, y) || strstr(y, x)));
}

/* ---- cases -------------------------------------------------------------------------------------------------------- */
typedef struct { size_t answers, found, agreeing, contradicting, stopped, cut, changed, none; } tally;

static float *logits_of(const house *h, const oracle *o)
{
    float *all = mem_alloc_array(o->id_count * VOCABULARY, sizeof *all);
    model_seq *s;
    ASSERT(is_ok(model_seq_open(&s, h->engine)));
    for (size_t i = 0; i < o->id_count; i++)
        ASSERT(is_ok(model_prefill(s, &o->ids[i], 1, all + i * VOCABULARY, NULL, NULL)));
    model_seq_close(&s);
    return all;
}

/* The document's bytes, whole words of one sentence. */
static void check_quoted(const house *h, const paper *p, const grounded_reading *r)
{
    static uint8_t flags[TEXT_MAX + 1];
    static uint32_t word_end[TEXT_MAX + 1];
    const constraint_span *s = r->spans;
    bytes text = p->passages[s->passage];
    constraint_edges(text, flags, word_end);
    CHECK(s->start < s->end && s->end <= text.size);
    CHECK(bytes_equal(r->text, bytes_of(text.data + s->start, s->end - s->start)));
    CHECK((flags[s->start] & CONSTRAINT_BEGINS) && (flags[s->end] & CONSTRAINT_ENDS) && word_end[s->start] <= s->end);
    bool within = h->measure == 0;
    for (size_t i = 0; i < p->sentence_count; i++) {
        const extractive_pick *w = &p->sentences[i];
        within = within || (w->passage == s->passage && w->start <= s->start && s->end <= w->end);
    }
    CHECK(within);
}

static void look_at_agreement(const grounded_answer *got, tally *sum)
{
    double whole = exp(got->nothing), share = 0;
    for (int i = 0; i < PASSAGES; i++) {
        const grounded_reading *r = &got->readings[i];
        if (r->span_count == 0) continue;
        CHECK(r->agrees == alike(r->text, got->answer.text));
        CHECK(r->contradicts == (!r->agrees && r->likelihood >= got->answer.likelihood + log(0.25)));
        bool again = false;
        for (int k = 0; k < i; k++)
            again = again || (got->readings[k].span_count > 0 && bytes_equal(got->readings[k].text, r->text));
        whole += again ? 0 : exp(r->likelihood);
        share += again || !r->agrees ? 0 : exp(r->likelihood);
        sum->agreeing += r->agrees;
        sum->contradicting += r->contradicts;
    }
    CHECK(fabs(got->confidence - share / whole) < 1e-9);
}

static void look_at_choices(const house *h, const paper *p, const grounded_answer *got, choice *best, tally *sum)
{
    const choice *top = NULL;
    for (size_t i = 0; i < PASSAGES; i++) {
        const grounded_reading *r = &got->readings[i];
        size_t end = best[i].end;
        choice_stop(p, i, &best[i]);
        sum->stopped += best[i].end < end;
        CHECK((r->span_count == 1) == best[i].is && r->span_count <= 1);
        if (!best[i].is || r->span_count != 1) continue;
        if (top == NULL || best[i].likelihood > top->likelihood) top = &best[i];
        CHECK(fabs(r->likelihood - best[i].likelihood) < 1e-9 && r->spans[0].passage == i);
        CHECK(r->spans[0].start == best[i].start && r->spans[0].end == best[i].end && r->stopped);
        for (size_t k = 0; k < r->text.size; k++)
            if (r->text.data[k] == 0xCC) { sum->changed++; break; }
        check_quoted(h, p, r);
    }
    double border = p->not_found_percent ? log(p->not_found_percent / 100.0) : -INFINITY;
    CHECK(got->found == (top != NULL && got->nothing + border <= top->likelihood));
    sum->found += got->found;
    sum->none += top == NULL;
    if (top == NULL) return;
    sum->answers++;
    const size_t number = (size_t)(top - best);
    CHECK(got->answer.likelihood == got->readings[number].likelihood && got->answer.spans[0].passage == number);
    look_at_agreement(got, sum);
}

static void look(const house *h, const paper *p, tally *sum)
{
    static oracle o;
    grounded_answer got;
    uint64_t tokens;
    choice best[PASSAGES];
    arena *a;
    arena_open(&a, 16 << 20);
    CHECK_OK(mark(h, p, a, &got, &tokens));
    oracle_read(h, p, &o);
    if (o.count == 0) CHECK(!got.found && tokens == 0 && got.readings[PASSAGES - 1].span_count == 0);
    else {
        float *logits = logits_of(h, &o);
        CHECK(tokens == o.id_count);
        double nothing = choices_make(h, p, &o, logits, best);
        CHECK(fabs(got.nothing - nothing) < 1e-9);
        look_at_choices(h, p, &got, best, sum);
        sum->cut += p->limit < 90;
        mem_free(logits);
    }
    arena_close(&a);
}

/* Mutants: second_reading_lost, marks_whole_words_off, marked_places_drift, seen_costs_nothing, contradiction_hidden,
 * span_mid_word. */
static void as_the_rules_say(void)
{
    tally sum = {0};
    for (uint32_t kind = 0; kind < 10; kind++) {
        house h;
        house_open(&h, 1 + (kind & 1), kind & 2 ? 32 : 0, kind & 4 || kind == 9, kind < 8 ? AS_IT_IS : PREFIXED);
        for (int i = 0; i < 60; i++) {
            paper p;
            paper_make(&p);
            look(&h, &p, &sum);
        }
        house_close(&h);
    }
    printf("# %zu answers, %zu found; of the readings %zu agree, %zu contradict, %zu stopped, %zu with characters that NFC "
           "changes; %zu prompts cut, %zu without an answer\n", sum.answers, sum.found, sum.agreeing, sum.contradicting,
           sum.stopped, sum.changed, sum.cut, sum.none);
    CHECK(sum.answers > 200 && sum.found > 20 && sum.found < sum.answers && sum.agreeing > 200 && sum.contradicting > 20);
    CHECK(sum.stopped > 20 && sum.changed > 20 && sum.cut > 20 && sum.none > 5);
}

/* A reading is cut at the limit, looked-up words' places counted, and still answers. */
static void longer_than_the_limit(void)
{
    static char text[64 << 10];
    house h;
    house_open(&h, 2, 0, true, AS_IT_IS);
    paper p;
    arena *a;
    grounded_answer got;
    uint64_t tokens;
    paper_make(&p);
    strcpy(p.question, "mill harbour");
    p.limit = 512;
    p.repeats = 2;
    p.tokens_max = 64;
    p.stop_count = 0;
    while (strlen(text) < sizeof text - 64) strcat(text, below(2) ? " mill" : " harbourmaster");
    p.passages[0] = bytes_str("");
    p.passages[1] = bytes_str(text);
    arena_open(&a, 16 << 20);
    CHECK_OK(mark(&h, &p, a, &got, &tokens));
    CHECK(got.readings[1].span_count == 1 && tokens > 900 && tokens <= 2 * 512 + 2 * strlen(p.question) + 16);
    arena_close(&a);
    house_close(&h);
}

/* Of a text whose bytes its tokens do not tell nothing is quoted; of the others, as ever. */
static void tokens_that_swallow(void)
{
    house h;
    size_t quoted = 0, swallowed = 0;
    house_open(&h, 2, 0, true, SWALLOWING);
    for (int n = 0; n < 40; n++) {
        paper p;
        arena *a;
        grounded_answer got;
        uint64_t tokens;
        paper_make(&p);
        arena_open(&a, 16 << 20);
        CHECK_OK(mark(&h, &p, a, &got, &tokens));
        for (int i = 0; i < PASSAGES; i++) {
            const char *text = strstr(p.texts[i], "Mill");
            while (text && !is_blank(text[4])) text = strstr(text + 1, "Mill");
            CHECK(text == NULL || got.readings[i].span_count == 0);
            if (got.readings[i].span_count > 0) check_quoted(&h, &p, &got.readings[i]);
            quoted += got.readings[i].span_count;
            swallowed += text != NULL;
        }
        arena_close(&a);
    }
    CHECK(quoted > 20 && swallowed > 5);
    house_close(&h);
}

/* ---- beside others ------------------------------------------------------------------------------------------------ */
enum { PAPERS = 24 };
typedef struct { const house *h; const paper *papers; grounded_answer *want; uint64_t *tokens; uint32_t whose; } asker;
static atomic_bool over;

static bool same_answer(const grounded_answer *a, const grounded_answer *b)
{
    bool same = a->found == b->found && memcmp(&a->nothing, &b->nothing, sizeof a->nothing) == 0 &&
                memcmp(&a->confidence, &b->confidence, sizeof a->confidence) == 0;
    for (int i = 0; i < PASSAGES && same; i++) {
        const grounded_reading *x = &a->readings[i], *y = &b->readings[i];
        same = x->span_count == y->span_count && memcmp(&x->likelihood, &y->likelihood, sizeof x->likelihood) == 0 &&
               x->agrees == y->agrees && x->contradicts == y->contradicts &&
               (x->span_count == 0 || memcmp(x->spans, y->spans, sizeof *x->spans) == 0);
    }
    return same;
}

static void *decode_beside(void *ctx)
{
    const asker *k = ctx;
    seat *place;
    float logits[VOCABULARY];
    ASSERT(is_ok(seat_open(&place, k->h->steps, (id128){{(uint8_t)(2 + k->whose)}}, NULL, NULL)));
    for (uint32_t i = 0; !over; i++) ASSERT(is_ok(seat_decode(place, (i * 31 + k->whose) % VOCABULARY, logits)));
    seat_close(&place);
    return NULL;
}

static void *ask_beside(void *ctx)
{
    const asker *k = ctx;
    size_t wrong = 0;
    for (size_t i = 0; i < PAPERS; i++) {
        const size_t n = (i + 7 * k->whose) % PAPERS;
        arena *a;
        grounded_answer got;
        uint64_t tokens;
        arena_open(&a, 16 << 20);
        wrong += !is_ok(mark(k->h, &k->papers[n], a, &got, &tokens)) || tokens != k->tokens[n] ||
                 !same_answer(&got, &k->want[n]);
        arena_close(&a);
    }
    return wrong ? ctx : NULL;
}

/* The same bits alone, and beside others who decode and ask. */
static void others_change_nothing(void)
{
    static paper papers[PAPERS];
    grounded_answer want[PAPERS];
    uint64_t tokens[PAPERS];
    pthread_t threads[5];
    asker who[5];
    house h;
    arena *a;
    arena_open(&a, 256 << 20);
    house_open(&h, 2, 0, true, AS_IT_IS);
    for (size_t i = 0; i < PAPERS; i++) {
        paper_make(&papers[i]);
        CHECK_OK(mark(&h, &papers[i], a, &want[i], &tokens[i]));
    }
    over = false;
    for (uint32_t i = 0; i < 5; i++) {
        who[i] = (asker){&h, papers, want, tokens, i};
        ASSERT(pthread_create(&threads[i], NULL, i < 3 ? decode_beside : ask_beside, &who[i]) == 0);
    }
    for (int i = 4; i >= 0; i--) {
        void *wrong;
        over = i < 3;
        pthread_join(threads[i], &wrong);
        CHECK(wrong == NULL);
    }
    house_close(&h);
    arena_close(&a);
}

int main(void)
{
    test_tmpdir(folder);
    RUN(as_the_rules_say);
    RUN(longer_than_the_limit);
    RUN(tokens_that_swallow);
    RUN(others_change_nothing);
    test_tmpdir_remove(folder);
    return DONE();
}
