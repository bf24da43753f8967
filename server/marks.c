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

/* The text's stems, without frequent ones; `among`: only those that are there too. */
static void stems_add(const model_marks *m, bytes text, const stems *among, stems *out)
{
    stretch word;
    stem one;
    for (size_t at = 0; out->count < STEMS_MAX && word_next(m, text, &at, &word, &one);) {
        if (stems_have(out, &one) || (among && !stems_have(among, &one))) continue;
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
    bytes question;                    /* without blanks around it */
    stems asked, met;                  /* the question's, and those of them that were read */
    uint32_t *gap;
    size_t gap_count;
    read_token *tokens;                /* one reading */
    size_t count, pieces;
    uint32_t *ids;                     /* all that goes into the engine */
    size_t id_count;
    size_t *places[2];                 /* of each token, in ids */
    uint32_t readings;
} page;

static bool is_blank(uint8_t b) { return b == ' ' || b == '\n' || b == '\t' || b == '\r'; }

static bytes trimmed(bytes text)
{
    while (text.size > 0 && is_blank(text.data[0])) text = bytes_of(text.data + 1, text.size - 1);
    while (text.size > 0 && is_blank(text.data[text.size - 1])) text.size--;
    return text;
}

/* Appends tokens of a text that has `skip` bytes in front of the passage's from `start` on. False: the tokenizer normalises it,
 * so that its tokens' bytes are not the text's. */
static bool tokens_append(page *p, bytes text, size_t skip, const uint32_t *ids, size_t count, size_t passage, size_t start)
{
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        bytes token = tokenizer_token(p->words, ids[i]);
        if (token.size > text.size - at || memcmp(token.data, text.data + at, token.size) != 0) return false;
        size_t from = at > skip ? at - skip : 0, to = at + token.size - skip;
        p->tokens[p->count + i] = (read_token){ids[i], false, passage, p->pieces, start + from, start + to};
        at += token.size;
    }
    p->count += count;
    return true;
}

/* A text that the tokenizer changes is read run by run of what is not blank, each with the blanks in front of it. The tokens
 * of a changed run stand for it together. */
static result runs_append(page *p, bytes text, size_t skip, size_t room, size_t passage, size_t start)
{
    for (size_t at = 0, end; at < text.size; at = end) {
        for (end = at; end < text.size && is_blank(text.data[end]);) end++;
        while (end < text.size && !is_blank(text.data[end])) end++;
        bytes run = bytes_of(text.data + at, end - at);
        size_t count, left_out = at < skip ? skip - at : 0, from = start + at + left_out - skip, to = start + end - skip;
        uint32_t *ids;
        TRY(tokenizer_encode(p->words, run, false, p->mem, &ids, &count));
        if (count > room) return OK;
        room -= count;
        if (tokens_append(p, run, left_out, ids, count, passage, from)) continue;
        for (size_t i = 0; i < count; i++)
            p->tokens[p->count++] = (read_token){ids[i], false, passage, p->pieces, i == 0 ? from : to, to};
    }
    return OK;
}

/* SEEN belongs in front of the token that holds a looked-up word's first letter. */
static void look_up(page *p, size_t first, bytes passage, size_t start)
{
    stretch word;
    stem one;
    bytes read = bytes_of(passage.data, p->tokens[p->count - 1].end);
    for (size_t at = start, token = first; word_next(p->marks, read, &at, &word, &one);) {
        while (token < p->count && p->tokens[token].end <= word.start) token++;
        if (token < p->count && stems_have(&p->asked, &one)) p->tokens[token].looked_up = true;
    }
}

/* A piece's text as it is read, and its tokens. */
typedef struct { size_t passage; stretch at; size_t skip; bytes text; uint32_t *ids; size_t count; } piece;

/* blank: it is read behind a blank that is not the passage's. */
static result piece_encode(page *p, size_t passage, stretch at, bool blank, piece *out)
{
    bytes from = bytes_of(p->in->passages[passage].data + at.start, at.end - at.start);
    *out = (piece){.passage = passage, .at = at, .skip = blank};
    char *text = arena_alloc(p->mem, from.size + 2);
    if (text == NULL) return arena_check(p->mem);
    text[0] = ' ';
    if (from.size > 0) memcpy(text + blank, from.data, from.size);
    out->text = bytes_of(text, from.size + blank);
    return tokenizer_encode(p->words, out->text, false, p->mem, &out->ids, &out->count);
}

/* The piece, cut to what there is room for, and a gap behind it. */
static result piece_append(page *p, const piece *one, size_t room)
{
    const size_t first = p->count;
    if (room <= p->gap_count) return OK;
    room -= p->gap_count;
    bytes passage = p->in->passages[one->passage];
    if (!tokens_append(p, one->text, one->skip, one->ids, one->count < room ? one->count : room, one->passage, one->at.start))
        TRY(runs_append(p, one->text, one->skip, room, one->passage, one->at.start));
    if (p->count == first) return OK;
    look_up(p, first, passage, one->at.start);
    size_t end = p->tokens[p->count - 1].end;
    stems_add(p->marks, bytes_of(passage.data + one->at.start, end - one->at.start), &p->asked, &p->met);
    for (size_t i = 0; i < p->gap_count; i++)
        p->tokens[p->count++] = (read_token){p->gap[i], false, SIZE_MAX, p->pieces, 0, 0};
    p->pieces++;
    return OK;
}

/* The best sentences that find room in the model's measure, the first one in any case; or the passages. */
static result pieces_append(page *p)
{
    const marks_input *in = p->in;
    const size_t limit = in->context_tokens_max, measure = p->marks->sentences_tokens;
    piece one;
    size_t read = 0;
    for (size_t i = 0; measure > 0 && i < in->sentence_count && i < SENTENCES_TRIED; i++) {
        const extractive_pick *s = &in->sentences[i];
        if (s->end == s->start) continue;
        TRY(piece_encode(p, s->passage, (stretch){s->start, s->end}, true, &one));
        if (p->count > 0 && read + one.count > measure) continue;
        read += one.count;
        TRY(piece_append(p, &one, limit - p->count));
    }
    for (size_t i = 0; measure == 0 && i < in->count; i++) {
        TRY(piece_encode(p, i, (stretch){0, in->passages[i].size}, false, &one));
        TRY(piece_append(p, &one, limit - p->count));
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

/* The question, its words marked that were met in what is read. */
static result question_append(page *p, const uint32_t *ids, size_t count)
{
    bytes text = p->question;
    bool *met = arena_alloc_array(p->mem, count + 1, sizeof *met);
    if (met == NULL) return arena_check(p->mem);
    stretch word;
    stem one;
    size_t token = 0, end = count > 0 ? tokenizer_token(p->words, ids[0]).size : 0;
    for (size_t at = 0; word_next(p->marks, text, &at, &word, &one);) {
        while (token < count && end <= word.start)
            if (++token < count) end += tokenizer_token(p->words, ids[token]).size;
        if (token < count && stems_have(&p->met, &one)) met[token] = true;
    }
    for (size_t i = 0; i < count; i++) id_append(p, ids[i], met[i]);
    return OK;
}

static void reading_append(page *p)
{
    for (size_t i = 0; i < p->count; i++) {
        id_append(p, p->tokens[i].id, p->tokens[i].looked_up);
        p->places[0][i] = p->id_count - 1;
    }
}

/* A token that begins with a blank begins a word; the words from last to first. Behind them a gap, whose last token stands for
 * the first reading's. */
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
    uint32_t *cue, *asked;
    size_t cue_count, asked_count;
    TRY(tokenizer_encode(p->words, bytes_str("Question: "), false, p->mem, &cue, &cue_count));
    TRY(tokenizer_encode(p->words, p->question, false, p->mem, &asked, &asked_count));
    TRY(tokenizer_encode(p->words, bytes_str("\n\n"), false, p->mem, &p->gap, &p->gap_count));
    p->tokens = arena_alloc_array(p->mem, p->in->context_tokens_max + 1, sizeof *p->tokens);
    if (p->tokens == NULL) return arena_check(p->mem);
    if (p->marks->seen >= 0) stems_add(p->marks, p->question, NULL, &p->asked);
    TRY(pieces_append(p));
    p->readings = p->in->repeats < p->marks->repeats ? p->in->repeats : p->marks->repeats;
    p->ids = arena_alloc_array(p->mem, cue_count + 2 * asked_count + 2 * p->gap_count + 4 * p->count, sizeof *p->ids);
    for (int i = 0; i < 2; i++) p->places[i] = arena_alloc_array(p->mem, p->count + 1, sizeof *p->places[i]);
    if (p->ids == NULL || p->places[0] == NULL || p->places[1] == NULL) return arena_check(p->mem);
    ids_append(p, cue, cue_count);
    TRY(question_append(p, asked, asked_count));
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
        c->starts = c->from < t->end && (flags[n][c->from] & CONSTRAINT_BEGINS);
        c->stops = t->start < t->end && (flags[n][t->end] & CONSTRAINT_ENDS);
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
