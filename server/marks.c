#include "marks.h"

#include "mutant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { STEM_MAX_BYTES = 16 * 4, STEMS_MAX = 256, SENTENCES_TRIED = 64 };
/* The likelihood of an answer where there is none to read. */
static const double NOTHING_READ = -700;
/* Of the watched tokens. */
enum { START, STOP, NONE, MARKS };

/* ---- looked-up words: those whose stem the question has ---------------------------------------------------- */
typedef struct { char text[STEM_MAX_BYTES + 1]; } stem;
typedef struct { stem all[STEMS_MAX]; size_t count; } stems;
typedef struct { size_t start, end; } stretch;

static bool is_letter_or_digit(uint32_t c)
{
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT: case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: case UTF8PROC_CATEGORY_ND: case UTF8PROC_CATEGORY_NL: case UTF8PROC_CATEGORY_NO:
        return true;
    default:
        return false;
    }
}

/* The next run of letters and digits at or behind *at, and its stem. */
static bool word_next(const model_marks *m, bytes text, size_t *at, stretch *word, stem *out)
{
    uint32_t letters = 0;
    size_t size = 0;
    *word = (stretch){*at, *at};
    while (*at < text.size) {
        size_t here = *at;
        uint32_t c = utf8_next(text, at);
        if (!is_letter_or_digit(c)) {
            if (word->end > word->start) break;
            continue;
        }
        if (letters == 0) word->start = here;
        word->end = *at;
        if (letters++ < m->stem_letters)
            size += (size_t)utf8proc_encode_char(utf8proc_tolower((utf8proc_int32_t)c), (utf8proc_uint8_t *)out->text + size);
    }
    out->text[size] = '\0';
    return word->end > word->start;
}

static bool stems_have(const stems *s, const stem *one)
{
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->all[i].text, one->text) == 0) return true;
    return false;
}

static int compare_text(const void *key, const void *item) { return strcmp(key, *(const char *const *)item); }

/* The text's stems, without frequent ones. */
static void stems_add(const model_marks *m, bytes text, stems *out)
{
    stretch word;
    stem one;
    for (size_t at = 0; out->count < STEMS_MAX && word_next(m, text, &at, &word, &one);) {
        if (stems_have(out, &one)) continue;
        if (m->frequent_count > 0 &&
            bsearch(one.text, m->frequent, m->frequent_count, sizeof *m->frequent, compare_text)) continue;
        out->all[out->count++] = one;
    }
}

/* ---- what is read ---------------------------------------------------------------------------------------------- */
/* A token of the reading: bytes [start, end) of a passage, or of nothing (a gap: passage is none). */
typedef struct {
    uint32_t id;
    bool looked_up;
    size_t passage, piece, start, end;
} read_token;

typedef struct {
    const marks_input *in;
    const model_marks *marks;
    const tokenizer *words;
    arena *mem;
    bytes question;                    /* without the blanks around it */
    stems asked, met;                  /* the question's, and those of them that were read */
    uint32_t *gap;
    size_t gap_count;
    read_token *tokens;                /* one reading */
    size_t count, pieces, room;        /* room: places that are left in it */
    uint32_t *ids;                     /* all that goes into the engine */
    size_t id_count;
    size_t *places[2];                 /* of each token, in ids */
    uint32_t readings;
} page;

static bool is_blank(uint8_t b) { return b == ' ' || b == '\n' || b == '\t' || b == '\r'; }

/* A text's tokens. Their bytes, joined, are `read`: the text as the tokenizer changes it (NFC), maybe behind a blank. */
typedef struct {
    uint32_t *ids;
    size_t count;
    bytes read;
    size_t *place;                     /* (read.size + 1): where in the text each place of `read` is */
    bool *looked_up;                   /* [count] */
} encoded;

/* How many characters there are in the one at *at, taken apart: as many before NFC as after it. */
static int parts_next(bytes text, size_t *at)
{
    utf8proc_int32_t parts[8];
    int last = 0;
    return (int)utf8proc_decompose_char((utf8proc_int32_t)utf8_next(text, at), parts, 8, UTF8PROC_DECOMPOSE, &last);
}

/* Where no character of the text begins, `place` is inside of one, where no word begins or ends. Nothing is quoted of a text
 * that the tokenizer changes in another way. */
static void places_find(encoded *e, bytes text, size_t lead)
{
    int apart = 0;
    size_t at = 0;
    for (size_t i = lead, next = lead; i < e->read.size; i = next) {
        e->place[i] = apart == 0 ? at : at - 1;
        apart -= parts_next(e->read, &next);
        while (apart < 0 && at < text.size) apart += parts_next(text, &at);
        for (size_t inside = i + 1; inside < next; inside++) e->place[inside] = at - 1;
    }
    e->place[e->read.size] = text.size;
    for (size_t i = 0; i < e->read.size && (apart != 0 || at < text.size); i++) e->place[i] = text.size;
    for (size_t i = lead; i < e->read.size && i < text.size && MUTANT(marked_places_drift); i++) e->place[i] = i - lead;
}

/* blank: it is read behind a blank that is not its own. */
static result text_encode(const page *p, bytes text, bool blank, encoded *out)
{
    char *spaced = arena_alloc(p->mem, text.size + 2);
    if (spaced == NULL) return arena_check(p->mem);
    spaced[0] = ' ';
    if (text.size > 0) memcpy(spaced + blank, text.data, text.size);
    TRY(tokenizer_encode(p->words, bytes_of(spaced, text.size + blank), false, p->mem, &out->ids, &out->count));
    size_t size = 0, at = 0;
    for (size_t i = 0; i < out->count; i++) size += tokenizer_token(p->words, out->ids[i]).size;
    uint8_t *read = arena_alloc(p->mem, size);
    out->place = arena_alloc_array(p->mem, size + 1, sizeof *out->place);
    out->looked_up = arena_alloc_array(p->mem, out->count, sizeof *out->looked_up);
    if (read == NULL || out->place == NULL || out->looked_up == NULL) return arena_check(p->mem);
    for (size_t i = 0; i < out->count; i++) {
        bytes token = tokenizer_token(p->words, out->ids[i]);
        memcpy(read + at, token.data, token.size);
        at += token.size;
    }
    out->read = bytes_of(read, size);
    places_find(out, text, blank || (size > 0 && read[0] == ' ' && text.size > 0 && text.data[0] != ' '));
    return OK;
}

/* SEEN belongs in front of the token that holds the first letter of a word whose stem is among these; of the first `count`
 * tokens. met (may be NULL) gets the stems. */
static void words_find(const page *p, encoded *e, size_t count, const stems *among, stems *met)
{
    stretch word;
    stem one;
    size_t token = 0, end = count > 0 ? tokenizer_token(p->words, e->ids[0]).size : 0;
    for (size_t at = 0; word_next(p->marks, e->read, &at, &word, &one);) {
        while (token < count && end <= word.start)
            if (++token < count) end += tokenizer_token(p->words, e->ids[token]).size;
        if (token == count) return;
        if (!stems_have(among, &one)) continue;
        e->looked_up[token] = true;
        if (met && !stems_have(met, &one)) met->all[met->count++] = one;
    }
}

/* How many of the tokens, with SEEN, find places in the room; less what they take. */
static size_t tokens_fitting(const encoded *e, size_t *room)
{
    size_t n = 0;
    for (size_t cost; n < e->count; n++) {
        cost = 1 + (size_t)(e->looked_up[n] && !MUTANT(seen_costs_nothing));
        if (cost > *room) break;
        *room -= cost;
    }
    return n;
}

/* The piece, cut to what there is room for, and a gap behind it. start: of the piece, in the passage. */
static void piece_append(page *p, encoded *e, size_t passage, size_t start)
{
    if (p->room <= p->gap_count || e->count == 0) return;
    size_t room = p->room - p->gap_count;
    words_find(p, e, e->count, &p->asked, NULL);
    size_t count = tokens_fitting(e, &room);
    if (count == 0) return;
    words_find(p, e, count, &p->asked, &p->met);
    for (size_t i = 0, at = 0; i < count; i++) {
        size_t end = at + tokenizer_token(p->words, e->ids[i]).size;
        p->tokens[p->count++] = (read_token){e->ids[i], e->looked_up[i], passage, p->pieces, start + e->place[at],
                                             start + e->place[end]};
        at = end;
    }
    for (size_t i = 0; i < p->gap_count; i++)
        p->tokens[p->count++] = (read_token){p->gap[i], false, SIZE_MAX, p->pieces, 0, 0};
    p->room = room;
    p->pieces++;
}

/* The best sentences that find room in the model's measure, the first one in any case; or the passages. */
static result pieces_append(page *p)
{
    const marks_input *in = p->in;
    const size_t measure = p->marks->sentences_tokens;
    encoded one;
    size_t read = 0;
    for (size_t i = 0; measure > 0 && i < in->sentence_count && i < SENTENCES_TRIED; i++) {
        const extractive_pick *s = &in->sentences[i];
        if (s->end == s->start) continue;
        TRY(text_encode(p, bytes_of(in->passages[s->passage].data + s->start, s->end - s->start), true, &one));
        if (p->count > 0 && read + one.count > measure) continue;
        read += one.count;
        piece_append(p, &one, s->passage, s->start);
    }
    for (size_t i = 0; measure == 0 && i < in->count; i++) {
        TRY(text_encode(p, in->passages[i], false, &one));
        piece_append(p, &one, i, 0);
    }
    return OK;
}

/* ---- what goes into the engine ------------------------------------------------------------------------------------ */
static void id_append(page *p, uint32_t id, bool looked_up)
{
    if (looked_up && p->marks->seen >= 0) p->ids[p->id_count++] = (uint32_t)p->marks->seen;
    p->ids[p->id_count++] = id;
}

static void ids_append(page *p, const uint32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) id_append(p, ids[i], false);
}

static void reading_append(page *p)
{
    for (size_t i = 0; i < p->count; i++) {
        id_append(p, p->tokens[i].id, p->tokens[i].looked_up);
        p->places[0][i] = p->id_count - 1;
    }
}

/* A token that begins with a blank begins a word; the words from last to first. Behind them a gap, whose last token stands
 * for the first reading's. */
static void reading_append_backward(page *p)
{
    for (size_t end = p->count, start; end > 0; end = start) {
        for (start = end - 1; start > 0; start--) {
            bytes token = tokenizer_token(p->words, p->tokens[start].id);
            if (token.size > 0 && is_blank(token.data[0])) break;
        }
        for (size_t i = start; i < end; i++) {
            id_append(p, p->tokens[i].id, p->tokens[i].looked_up);
            p->places[1][i] = p->id_count - 1;
        }
    }
    ids_append(p, p->gap, p->gap_count);
    p->places[1][p->count - 1] = p->id_count - 1;
}

static result page_build(page *p)
{
    uint32_t *cue;
    size_t cue_count;
    encoded asked;
    TRY(tokenizer_encode(p->words, bytes_str("Question: "), false, p->mem, &cue, &cue_count));
    TRY(text_encode(p, p->question, false, &asked));
    TRY(tokenizer_encode(p->words, bytes_str("\n\n"), false, p->mem, &p->gap, &p->gap_count));
    p->room = p->in->context_tokens_max;
    p->tokens = arena_alloc_array(p->mem, p->room, sizeof *p->tokens);
    if (p->tokens == NULL) return arena_check(p->mem);
    if (p->marks->seen >= 0) stems_add(p->marks, asked.read, &p->asked);
    TRY(pieces_append(p));
    p->readings = p->in->repeats < p->marks->repeats ? p->in->repeats : p->marks->repeats;
    p->ids = arena_alloc_array(p->mem, cue_count + 2 * asked.count + 2 * p->gap_count + 4 * p->count, sizeof *p->ids);
    for (int i = 0; i < 2; i++) p->places[i] = arena_alloc_array(p->mem, p->count + 1, sizeof *p->places[i]);
    if (p->ids == NULL || p->places[0] == NULL || p->places[1] == NULL) return arena_check(p->mem);
    ids_append(p, cue, cue_count);
    words_find(p, &asked, asked.count, &p->met, NULL);
    for (size_t i = 0; i < asked.count; i++) id_append(p, asked.ids[i], asked.looked_up[i]);
    ids_append(p, p->gap, p->gap_count);
    reading_append(p);
    if (p->readings > 1 && p->count > 0) reading_append_backward(p);
    return OK;
}

/* ---- spans ---------------------------------------------------------------------------------------------------------- */
/* Of a token: whether a span may start and stop with it, where, and the logarithms of their shares. */
typedef struct { bool starts, stops; size_t from, least, to; double start, stop; } candidate;

static double sum_logs(double a, double b)
{
    if (a == -INFINITY) return b;
    double most = a > b ? a : b;
    return most + log(exp(a - most) + exp(b - most));
}

static double logit(const page *p, const float *scores, size_t token, int mark)
{
    double sum = (double)scores[p->places[0][token] * MARKS + (size_t)mark];
    if (p->readings > 1 && !MUTANT(second_reading_lost)) sum += (double)scores[p->places[1][token] * MARKS + (size_t)mark];
    return sum;
}

static result candidates_find(const page *p, const float *scores, candidate *all, double *nothing)
{
    uint8_t **flags = arena_alloc_array(p->mem, p->in->count, sizeof *flags);
    uint32_t **word = arena_alloc_array(p->mem, p->in->count, sizeof *word);
    if (flags == NULL || word == NULL) return arena_check(p->mem);
    const double none = logit(p, scores, p->count - 1, NONE) + p->marks->none_bias;
    double starts = none, stops = none;
    for (size_t i = 0; i < p->count; i++) {
        const read_token *t = &p->tokens[i];
        const size_t n = t->passage;
        if (n == SIZE_MAX) continue;
        bytes text = p->in->passages[n];
        if (flags[n] == NULL) {
            flags[n] = arena_alloc_array(p->mem, text.size + 1, sizeof *flags[n]);
            word[n] = arena_alloc_array(p->mem, text.size + 1, sizeof *word[n]);
            if (flags[n] == NULL || word[n] == NULL) return arena_check(p->mem);
            constraint_edges(text, flags[n], word[n]);
        }
        candidate *c = &all[i];
        for (c->from = t->start; c->from < t->end && is_blank(text.data[c->from]);) c->from++;
        c->to = t->end;
        c->least = word[n][c->from];
        c->starts = c->from < t->end && ((flags[n][c->from] & CONSTRAINT_BEGINS) || MUTANT(marks_whole_words_off));
        c->stops = t->start < t->end && ((flags[n][t->end] & CONSTRAINT_ENDS) || MUTANT(marks_whole_words_off));
        c->start = logit(p, scores, i, START);
        c->stop = logit(p, scores, i, STOP);
        if (c->starts) starts = sum_logs(starts, c->start);
        if (c->stops) stops = sum_logs(stops, c->stop);
    }
    for (size_t i = 0; i < p->count; i++) {
        all[i].start -= starts;
        all[i].stop -= stops;
    }
    *nothing = 2 * none - starts - stops;
    return OK;
}

/* Ends the text before the first of the stop sequences in it, at the last word that is whole by then; 0: nothing is left. */
static size_t stopped_at(const marks_input *in, bytes passage, size_t from, size_t to, arena *a)
{
    size_t end = to;
    for (size_t i = 0; i < in->stop_count; i++) {
        const uint8_t *found = memmem(passage.data + from, to - from, in->stop[i], strlen(in->stop[i]));
        if (found && (size_t)(found - passage.data) < end) end = (size_t)(found - passage.data);
    }
    if (end == to) return to;
    uint8_t *flags = arena_alloc_array(a, passage.size + 1, sizeof *flags);
    uint32_t *word = arena_alloc_array(a, passage.size + 1, sizeof *word);
    if (flags == NULL || word == NULL) return 0;
    constraint_edges(passage, flags, word);
    while (end > from && !((flags[end] & CONSTRAINT_ENDS) && word[from] <= end)) end--;
    return end > from ? end : 0;
}

/* The likeliest span of each passage, into all[1 + passage]. */
static void spans_choose(const page *p, const candidate *c, grounded_reading *all)
{
    uint32_t most = p->marks->span_tokens_max < p->in->tokens_max ? p->marks->span_tokens_max : p->in->tokens_max;
    for (size_t i = 0; i < p->count; i++) {
        if (!c[i].starts) continue;
        grounded_reading *best = &all[1 + p->tokens[i].passage];
        for (size_t j = i; j < p->count && j - i < most && p->tokens[j].piece == p->tokens[i].piece; j++) {
            if (!c[j].stops || c[i].least > c[j].to) continue;
            double likelihood = c[i].start + c[j].stop;
            if (best->span_count > 0 && likelihood <= best->likelihood) continue;
            best->span_count = 1;
            best->spans[0] = (constraint_span){p->tokens[i].passage, c[i].from, c[j].to};
            best->likelihood = likelihood;
            best->tokens = 1;              /* so that no length is in favour */
        }
    }
}

static result spans_read(const page *p, const float *scores, grounded_answer *out)
{
    const marks_input *in = p->in;
    grounded_reading *all = arena_alloc_array(p->mem, in->count + 1, sizeof *all);
    candidate *c = arena_alloc_array(p->mem, p->count, sizeof *c);
    if (all == NULL || c == NULL) return arena_check(p->mem);
    TRY(candidates_find(p, scores, c, &out->nothing));
    spans_choose(p, c, all);
    for (size_t i = 0; i < in->count; i++) {
        grounded_reading *g = &all[1 + i];
        if (g->span_count == 0) continue;
        g->stopped = true;
        g->spans[0].end = stopped_at(in, in->passages[i], g->spans[0].start, g->spans[0].end, p->mem);
        if (g->spans[0].end == 0) g->span_count = 0;
        else g->text = bytes_of(in->passages[i].data + g->spans[0].start, g->spans[0].end - g->spans[0].start);
    }
    grounded_choose(all, in->count + 1, in->not_found_percent, out);
    return arena_check(p->mem);
}

static bytes trimmed(bytes text)
{
    while (text.size > 0 && is_blank(text.data[text.size - 1])) text.size--;
    while (text.size > 0 && is_blank(text.data[0])) text = bytes_of(text.data + 1, text.size - 1);
    return text;
}

result marks_read(const marks_input *in, arena *a, grounded_answer *out, uint64_t *tokens_read)
{
    memset(out, 0, sizeof *out);
    *tokens_read = 0;
    page *p = arena_alloc(a, sizeof *p);
    if (p == NULL) return arena_check(a);
    p->in = in;
    p->question = trimmed(bytes_str(in->question));
    p->marks = model_marks_of(in->engine);
    p->words = model_tokenizer(in->engine);
    p->mem = a;
    TRY(page_build(p));
    if (p->count == 0) {
        out->answer.likelihood = NOTHING_READ;
        out->readings = arena_alloc_array(a, in->count + 1, sizeof *out->readings);
        return out->readings ? OK : arena_check(a);
    }
    const uint32_t watched[MARKS] = {[START] = p->marks->start, [STOP] = p->marks->stop, [NONE] = p->marks->none};
    float *scores = arena_alloc_array(a, p->id_count * MARKS, sizeof *scores);
    if (scores == NULL) return arena_check(a);
    const model_watch watch = {watched, MARKS, scores, NULL};
    TRY(seat_prefill_watched(in->place, p->ids, p->id_count, &watch, NULL));
    *tokens_read = p->id_count;
    return spans_read(p, scores, out);
}
