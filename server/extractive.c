#include "extractive.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { SENTENCES_MAX = 512, WORDS_MAX = 64, WINDOW_BEFORE = 2 };

/* Chosen on validation questions (qa-dev), with tests/bench/lethe_eval.py. */
static const float WEIGHT_SELF = 1.0f, WEIGHT_WINDOW = 0.8f, WEIGHT_SIMILARITY = 0.5f,
                   WEIGHT_PASSAGE = 0.3f, WEIGHT_KIND = 0.35f;

typedef struct { bytes text, window; size_t passage, start; } sentence;

static bool is_space(uint8_t b) { return b == ' ' || (b >= '\t' && b <= '\r'); }
static bool is_digit(uint8_t b) { return b >= '0' && b <= '9'; }
static bool is_upper(uint8_t b) { return b >= 'A' && b <= 'Z'; }
static bool is_word(uint8_t b)
{
    return is_digit(b) || is_upper(b) || (b >= 'a' && b <= 'z') || b >= 0x80;
}

/* ---- sentences --------------------------------------------------------------------------------------- */
/* Adds a passage's sentences, trimmed; a window reaches back over the sentences before. */
static void sentences_add(const extractive_input *in, size_t passage, sentence *all, size_t *count)
{
    size_t ends[SENTENCES_MAX], starts[SENTENCES_MAX];
    bytes text = in->passages[passage];
    size_t n = in->sentences(text, ends, SENTENCES_MAX), kept = 0;
    for (size_t i = 0, from = 0; i < n && *count < SENTENCES_MAX; from = ends[i++]) {
        size_t a = from, b = ends[i];
        while (a < b && is_space(text.data[a])) a++;
        while (b > a && is_space(text.data[b - 1])) b--;
        if (a == b) continue;
        starts[kept] = a;
        size_t back = kept >= WINDOW_BEFORE ? starts[kept - WINDOW_BEFORE] : starts[0];
        kept++;
        all[(*count)++] = (sentence){bytes_of(text.data + a, b - a),
                                     bytes_of(text.data + back, b - back), passage, a};
    }
}

/* ---- what a question asks for --------------------------------------------------------------------------- */
typedef enum { KIND_ANY, KIND_NUMBER, KIND_TIME, KIND_NAME } kind;

/* Is `phrase` in the text as whole words, whatever the case? */
static bool has_phrase(const char *text, const char *phrase)
{
    size_t n = strlen(phrase);
    for (const char *p = text; *p; p++) {
        bool begins = p == text || !is_word((uint8_t)p[-1]);
        if (begins && strncasecmp(p, phrase, n) == 0 && !is_word((uint8_t)p[n])) return true;
    }
    return false;
}

static kind kind_of(const char *question)
{
    static const struct { const char *phrase; kind is; } phrases[] = {
        {"when", KIND_TIME}, {"what year", KIND_TIME}, {"which year", KIND_TIME},
        {"what date", KIND_TIME}, {"which day", KIND_TIME}, {"what day", KIND_TIME},
        {"what time", KIND_TIME}, {"which month", KIND_TIME}, {"how many", KIND_NUMBER},
        {"how much", KIND_NUMBER}, {"how long", KIND_NUMBER}, {"how old", KIND_NUMBER},
        {"how far", KIND_NUMBER}, {"how often", KIND_NUMBER}, {"how high", KIND_NUMBER},
        {"how tall", KIND_NUMBER}, {"how big", KIND_NUMBER}, {"how large", KIND_NUMBER},
        {"how hot", KIND_NUMBER}, {"how fast", KIND_NUMBER}, {"how deep", KIND_NUMBER},
        {"how recent", KIND_NUMBER}, {"what temperature", KIND_NUMBER},
        {"what percentage", KIND_NUMBER}, {"fee", KIND_NUMBER}, {"price", KIND_NUMBER},
        {"who", KIND_NAME}, {"whom", KIND_NAME}, {"whose", KIND_NAME}, {"where", KIND_NAME},
        {"called", KIND_NAME}, {"name of", KIND_NAME},
    };
    for (size_t i = 0; i < sizeof phrases / sizeof phrases[0]; i++)
        if (has_phrase(question, phrases[i].phrase)) return phrases[i].is;
    return KIND_ANY;
}

/* A word of the sentence, at [*at, end); false when there is none left. */
static bool next_word(bytes text, size_t *at, bytes *word)
{
    size_t i = *at;
    while (i < text.size && !is_word(text.data[i])) i++;
    size_t from = i;
    while (i < text.size && is_word(text.data[i])) i++;
    *at = i;
    *word = bytes_of(text.data + from, i - from);
    return i > from;
}

static bool one_of(bytes word, const char *const *list)
{
    for (; *list; list++)
        if (strlen(*list) == word.size &&
            strncasecmp((const char *)word.data, *list, word.size) == 0)
            return true;
    return false;
}

/* Does the question have the word, or one that begins alike (a stem of at least four letters)? */
static bool in_question(const char *question, bytes word)
{
    size_t n = word.size > 5 ? word.size - 2 : word.size;
    if (n > 4 && word.size > 6) n = word.size - 3;
    for (const char *p = question; *p; p++)
        if ((p == question || !is_word((uint8_t)p[-1])) &&
            strncasecmp(p, (const char *)word.data, n) == 0)
            return true;
    return false;
}

typedef struct { size_t fresh; bool number, time, name; } contents;

/* What the sentence has that the question has not. */
static contents contents_of(const char *question, bytes text)
{
    static const char *const numbers[] = {"one", "two", "three", "four", "five", "six", "seven", "eight",
        "nine", "ten", "eleven", "twelve", "fifteen", "twenty", "thirty", "forty", "fifty", "sixty",
        "hundred", "thousand", "million", "half", "twice", "once", NULL};
    static const char *const times[] = {"january", "february", "march", "april", "june", "july",
        "august", "september", "october", "november", "december", "monday", "tuesday", "wednesday",
        "thursday", "friday", "saturday", "sunday", "morning", "noon", "evening", "midnight",
        "century", "spring", "summer", "autumn", "winter", NULL};
    static const char *const small[] = {"the", "and", "was", "were", "are", "for", "with", "that", "this",
        "has", "had", "its", "from", "not", "but", "which", "who", "his", "her", "their", "our", NULL};
    contents out = {0};
    bytes word;
    bool first = true;
    for (size_t at = 0; next_word(text, &at, &word); first = false) {
        if (in_question(question, word)) continue;
        bool digit = is_digit(word.data[0]);
        bool time = one_of(word, times);
        bool may = word.size == 3 && memcmp(word.data, "May", 3) == 0 && !first;
        if (digit || one_of(word, numbers)) out.number = true;
        if (time || may || (digit && word.size == 4)) out.time = true;
        if (is_upper(word.data[0]) && !first && word.size > 1 && !time) out.name = true;
        if (digit || (word.size > 2 && !one_of(word, small))) out.fresh++;
    }
    return out;
}

/* Sentences end in a mark; headings and table cells do not. */
static bool is_sentence(bytes text)
{
    size_t n = text.size;
    while (n > 1 && (text.data[n - 1] == '"' || text.data[n - 1] == ')' || text.data[n - 1] == '\'' ||
                     text.data[n - 1] >= 0x80))
        n--;
    uint8_t last = text.data[n - 1];
    return last == '.' || last == '!' || last == '?' || last == ';';
}

static float kind_score(kind wanted, const contents *c)
{
    switch (wanted) {
    case KIND_ANY: return 0;
    case KIND_NUMBER: return c->number ? 1 : 0;
    case KIND_TIME: return c->time ? 1 : c->number ? 0.5f : 0;
    case KIND_NAME: return c->name ? 1 : 0;
    }
    return 0;
}

static int better_first(const void *a_, const void *b_)
{
    const extractive_pick *a = a_, *b = b_;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    if (a->passage != b->passage) return a->passage < b->passage ? -1 : 1;
    return a->start < b->start ? -1 : a->start > b->start;
}

/* n sentences, their overlap and then that of their windows -> those that have something of the question. */
static size_t sentences_score(const extractive_input *in, const sentence *all, size_t n, const float *overlap,
                              extractive_pick *out)
{
    kind wanted = kind_of(in->question);
    bytes question = bytes_str(in->question);
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (overlap[i] <= 0 && overlap[n + i] <= 0) continue;
        contents c = contents_of(in->question, all[i].text);
        float score = WEIGHT_SELF * overlap[i] + WEIGHT_WINDOW * overlap[n + i] +
                      WEIGHT_SIMILARITY * in->similarity(in->ctx, question, all[i].text) +
                      WEIGHT_PASSAGE * in->ranks[all[i].passage] + WEIGHT_KIND * kind_score(wanted, &c);
        if (!is_sentence(all[i].text)) score *= 0.6f;
        if (c.fresh < 2 && !(wanted != KIND_ANY && kind_score(wanted, &c) > 0)) score *= 0.4f;
        out[count++] = (extractive_pick){all[i].passage, all[i].start, all[i].start + all[i].text.size, score};
    }
    return count;
}

result extractive_rank(const extractive_input *in, arena *mem, extractive_pick **out, size_t *count)
{
    *count = 0;
    sentence *all = arena_alloc_array(mem, SENTENCES_MAX, sizeof *all);
    bytes *texts = arena_alloc_array(mem, 2 * SENTENCES_MAX, sizeof *texts);
    float *overlap = arena_alloc_array(mem, 2 * SENTENCES_MAX, sizeof *overlap);
    *out = arena_alloc_array(mem, SENTENCES_MAX, sizeof **out);
    if (!all || !texts || !overlap || !*out) return arena_check(mem);
    size_t n = 0;
    for (size_t i = 0; i < in->count; i++) sentences_add(in, i, all, &n);
    for (size_t i = 0; i < n; i++) {
        texts[i] = all[i].text;
        texts[n + i] = all[i].window;
    }
    TRY(in->overlap(in->ctx, texts, 2 * n, overlap));
    *count = sentences_score(in, all, n, overlap, *out);
    qsort(*out, *count, sizeof **out, better_first);
    return OK;
}
