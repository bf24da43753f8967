/* Variants of a subject's name, and matching. Scores: 1 the whole name in any order; 0.95 without its middle;
 * 0.85 initials and the surname; 0.8 one letter wrong, or an alias; 0.75 an identifier; 0.6 the surname alone;
 * 0.4 the given name alone; 0.5 a title that documents about the subject name. */
#include "names_private.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { FUZZY_MIN_BYTES = 8, ALONE_MIN_BYTES = 3, NAME_WORDS_MAX = 6 };

const char *const NAMES_SMALL_WORDS[] = {
    "a", "an", "and", "are", "as", "at", "by", "can", "could", "did", "do", "does", "for", "from", "has", "have",
    "how", "if", "in", "is", "it", "of", "on", "or", "that", "the", "this", "to", "was", "were", "what", "when",
    "where", "which", "while", "who", "whose", "why", "with", "would", "yes", "no", "certainly", "author", "about",
    "after", "although", "before", "both", "but", "during", "he", "her", "his", "she", "they", "their", "dear",
    "hello", "hi", "ask", "tell", "call", "also", "some", "like", "s", NULL};
const char *const NAMES_HONORIFICS[] = {"mr", "mrs", "ms", "miss", "mx", "dr", "prof", "professor", "doctor", "sir",
                                        "dame", "lady", "lord", "rev", "fr", "herr", "frau", "mme", "madame",
                                        "monsieur", "senor", "senora", "captain", "judge", NULL};
static const char *const PARTICLES[] = {"al", "el", "van", "von", "de", "der", "den", "la", "le", "di", "da", "bin",
                                        "ibn", "ben", "dos", "del", "st", "ter", "du", NULL};

/* ---- words ---------------------------------------------------------------------------------------------- */
static bool in_word(utf8proc_int32_t cp)
{
    switch (utf8proc_category(cp)) {
    case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT: case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: case UTF8PROC_CATEGORY_MN: case UTF8PROC_CATEGORY_MC: case UTF8PROC_CATEGORY_ND:
        return true;
    default:
        return false;
    }
}

/* Folds one code point as it stands; what it decomposes to never depends on its neighbours once marks go. */
static void fold(utf8proc_int32_t cp, buf *out)
{
    utf8proc_int32_t parts[32];
    int boundary = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char(
        cp, parts, 32, UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE | UTF8PROC_CASEFOLD | UTF8PROC_STRIPMARK, &boundary);
    for (utf8proc_ssize_t i = 0; i < n && i < 32; i++) {
        uint8_t bytes4[4];
        if (in_word(parts[i]))
            buf_append(out, bytes4, (size_t)utf8proc_encode_char(parts[i], bytes4));
    }
}

static names_word *word_new(names_words *w, size_t start)
{
    if (w->count == w->capacity) {
        w->capacity = w->capacity ? 2 * w->capacity : 256;
        w->words = mem_realloc(w->words, w->capacity * sizeof *w->words);
    }
    names_word *word = &w->words[w->count++];
    *word = (names_word){.start = (uint32_t)start, .folded = (uint32_t)w->folded.size};
    return word;
}

void names_words_of(bytes text, names_words *out)
{
    memset(out, 0, sizeof *out);
    buf_init(&out->folded, SIZE_MAX);
    names_word *open = NULL;
    for (size_t at = 0; at < text.size && text.size < UINT32_MAX;) {
        utf8proc_int32_t cp;
        utf8proc_ssize_t n = utf8proc_iterate(text.data + at, (utf8proc_ssize_t)(text.size - at), &cp);
        if (n <= 0) { n = 1; cp = ' '; }
        bool soft = cp == 0xAD || cp == 0x200B;
        if (in_word(cp)) {
            if (open == NULL) {
                open = word_new(out, at);
                utf8proc_category_t kind = utf8proc_category(cp);
                open->capital = kind == UTF8PROC_CATEGORY_LU || kind == UTF8PROC_CATEGORY_LT ||
                                kind == UTF8PROC_CATEGORY_LO;
            }
            fold(cp, &out->folded);
            open->end = (uint32_t)(at + (size_t)n);
            open->folded_size = (uint32_t)out->folded.size - open->folded;
        } else if (!soft) {
            open = NULL;
        }
        at += (size_t)n;
    }
}

void names_words_free(names_words *w)
{
    if (w->words) mem_wipe(w->words, w->count * sizeof *w->words);
    mem_free(w->words);
    buf_free(&w->folded);
}

bool names_folded_is(const names_words *w, size_t word, const char *folded)
{
    const names_word *one = &w->words[word];
    return strlen(folded) == one->folded_size && memcmp(w->folded.data + one->folded, folded, one->folded_size) == 0;
}

bool names_in_list(const names_words *w, size_t word, const char *const *list)
{
    for (; *list; list++)
        if (names_folded_is(w, word, *list)) return true;
    return false;
}

bool names_join(const names_words *w, size_t first, size_t end, char out[NAMES_PATTERN_MAX_BYTES])
{
    size_t size = 0;
    for (size_t i = first; i < end; i++) {
        const names_word *one = &w->words[i];
        if (size + one->folded_size >= NAMES_PATTERN_MAX_BYTES) return false;
        memcpy(out + size, w->folded.data + one->folded, one->folded_size);
        size += one->folded_size;
    }
    out[size] = 0;
    return size > 0;
}

/* ---- patterns -------------------------------------------------------------------------------------------- */
bool names_add(names *n, const names_pattern *pattern)
{
    if (pattern->folded[0] == 0 || n->count == NAMES_PATTERNS_MAX) return false;
    for (size_t i = 0; i < n->count; i++)
        if (strcmp(n->patterns[i].folded, pattern->folded) == 0) return false;
    n->patterns[n->count] = *pattern;
    n->patterns[n->count++].size = strlen(pattern->folded);
    return true;
}

static void add_joined(names *n, const char *const *parts, size_t count, const char *shown, names_pattern like)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        size_t more = strlen(parts[i]);
        if (size + more >= sizeof like.folded) return;
        memcpy(like.folded + size, parts[i], more + 1);
        size += more;
    }
    size_t shown_size = strnlen(shown, sizeof like.shown - 1);
    memcpy(like.shown, shown, shown_size);
    like.shown[shown_size] = 0;
    like.kind = EVIDENCE_NAME;
    names_add(n, &like);
}

/* The first character, which may have several bytes. */
static void initial_of(const char *word, char out[8])
{
    size_t size = 1;
    while (size < 7 && ((uint8_t)word[size] & 0xC0) == 0x80) size++;
    memcpy(out, word, size);
    out[size] = 0;
}

typedef char name_part[NAMES_PATTERN_MAX_BYTES];

static void variants_add(names *n, name_part *parts, size_t count, const char *subject)
{
    const char *forward[NAME_WORDS_MAX], *inverted[NAME_WORDS_MAX], *short_form[2];
    char initials[NAME_WORDS_MAX][8];
    const char *initialled[NAME_WORDS_MAX];
    for (size_t i = 0; i < count; i++) {
        forward[i] = parts[i];
        inverted[i] = i == 0 ? parts[count - 1] : parts[i - 1];
        initial_of(parts[i], initials[i]);
        initialled[i] = i + 1 < count ? initials[i] : parts[i];
    }
    const char *surname = parts[count - 1];
    bool person = count > 1;
    add_joined(n, forward, count, subject, (names_pattern){.score = 1, .full = true, .fuzzy = true});
    if (!person) return;
    strcpy(n->given, parts[0]);
    strcpy(n->surname, surname);
    add_joined(n, inverted, count, subject, (names_pattern){.score = 1, .full = true});
    short_form[0] = parts[0], short_form[1] = surname;
    add_joined(n, short_form, 2, subject, (names_pattern){.score = 0.95f, .full = true, .fuzzy = true});
    short_form[0] = surname, short_form[1] = parts[0];
    add_joined(n, short_form, 2, subject, (names_pattern){.score = 0.95f, .full = true});
    add_joined(n, initialled, count, "initials", (names_pattern){.score = 0.85f, .capital = true});
    short_form[0] = initials[0], short_form[1] = surname;
    add_joined(n, short_form, 2, "initials", (names_pattern){.score = 0.85f, .capital = true});
    short_form[0] = surname, short_form[1] = initials[0];
    add_joined(n, short_form, 2, "initials", (names_pattern){.score = 0.8f, .capital = true});
    add_joined(n, &surname, 1, "the surname alone",
               (names_pattern){.score = 0.6f, .capital = true, .surname = true});
    add_joined(n, forward, 1, "the given name alone", (names_pattern){.score = 0.4f, .capital = true});
}

static bool hyphen_between(bytes text, const names_word *a, const names_word *b)
{
    for (size_t at = a->end; at < b->start; at++)
        if (text.data[at] == ' ' || text.data[at] == '\t' || text.data[at] == '\n' || text.data[at] == ',') return false;
    return true;
}

/* Words between white space, honorifics dropped, particles with what follows; "Smith, John" turned round. */
static size_t parts_of(bytes text, const names_words *w, name_part *parts)
{
    size_t count = 0, turn = 0;
    bool joined = false;
    for (size_t i = 0; i < w->count; i++) {
        bool last = i + 1 == w->count;
        if (!joined && !last && names_in_list(w, i, NAMES_HONORIFICS)) continue;
        if (!joined) {
            if (count == NAME_WORDS_MAX) return 0;
            parts[count++][0] = 0;
        }
        char *part = parts[count - 1];
        size_t size = strlen(part), more = w->words[i].folded_size;
        if (size + more >= NAMES_PATTERN_MAX_BYTES) return 0;
        memcpy(part + size, w->folded.data + w->words[i].folded, more);
        part[size + more] = 0;
        joined = !last && (hyphen_between(text, &w->words[i], &w->words[i + 1]) ||
                           (count > 1 && names_in_list(w, i, PARTICLES)));
        for (size_t at = w->words[i].end; !last && at < w->words[i + 1].start; at++)
            if (text.data[at] == ',' && turn == 0) turn = count;
    }
    for (; turn > 0 && turn < count; turn--) {          /* the surname goes behind the given names */
        name_part first;
        memcpy(first, parts[0], sizeof first);
        memmove(parts, parts + 1, (count - 1) * sizeof *parts);
        memcpy(parts[count - 1], first, sizeof first);
    }
    return count;
}

static result names_fill(names *n, const char *subject, const names_words *w)
{
    name_part parts[NAME_WORDS_MAX] = {{0}};
    names_pattern whole = {.kind = EVIDENCE_NAME, .score = 1, .full = true, .fuzzy = true};
    if (!names_join(w, 0, w->count, whole.folded) || strlen(whole.folded) < 2)
        return fail(E_INVALID, "a subject has at least two letters or digits, and at most %d",
                    NAMES_PATTERN_MAX_BYTES - 1);
    size_t capitals = 0, count = parts_of(bytes_str(subject), w, parts);
    for (size_t i = 0; i < w->count; i++) capitals += w->words[i].capital || names_in_list(w, i, PARTICLES);
    if (strchr(subject, '@') == NULL && count > 0 && (count == 1 || capitals == w->count)) {
        variants_add(n, parts, count, subject);
    } else {                                            /* a topic, an address: as it stands */
        size_t size = strnlen(subject, sizeof whole.shown - 1);
        memcpy(whole.shown, subject, size);
        names_add(n, &whole);
    }
    n->own = n->count;
    return OK;
}

result names_open(names **out, const char *subject)
{
    *out = NULL;
    size_t size = strlen(subject);
    if (size == 0 || size > NAMES_SUBJECT_MAX_BYTES)
        return fail(E_INVALID, "subject: 1 to %d bytes", NAMES_SUBJECT_MAX_BYTES);
    names_words w;
    names *n = mem_alloc(sizeof *n);
    names_words_of(bytes_str(subject), &w);
    result r = names_fill(n, subject, &w);
    names_words_free(&w);
    if (!is_ok(r)) names_close(&n);
    *out = n;
    return r;
}

void names_close(names **n)
{
    if (*n == NULL) return;
    mem_wipe(*n, sizeof **n);
    mem_free(*n);
    *n = NULL;
}

const char *names_mined(const names *n, size_t index)
{
    return n->own + index < n->count ? n->patterns[n->own + index].shown : NULL;
}

/* ---- matching --------------------------------------------------------------------------------------------- */
/* At most one letter more, less, other, or two beside each other exchanged. */
static bool nearly(const char *a, size_t n, const char *b, size_t m)
{
    if (n > m) return nearly(b, m, a, n);
    if (m - n > 1) return false;
    size_t i = 0;
    while (i < n && a[i] == b[i]) i++;
    if (n < m) return memcmp(a + i, b + i + 1, n - i) == 0;
    if (i == n || memcmp(a + i + 1, b + i + 1, n - i - 1) == 0) return true;
    return i + 1 < n && a[i] == b[i + 1] && a[i + 1] == b[i] && memcmp(a + i + 2, b + i + 2, n - i - 2) == 0;
}

/* Where a pattern that begins at this word ends; 0: it does not. exact: not one letter wrong. */
static size_t match_at(const names_words *w, size_t first, const names_pattern *p, bool *exact)
{
    const char *joined = (const char *)w->folded.data + w->words[first].folded;
    size_t near = 0;
    for (size_t end = first; end < w->count; end++) {
        size_t size = w->words[end].folded + w->words[end].folded_size - w->words[first].folded;
        if (size > p->size + 1) break;
        if (size == p->size && memcmp(joined, p->folded, size) == 0) {
            *exact = true;
            return end + 1;
        }
        if (near == 0 && p->fuzzy && p->size >= FUZZY_MIN_BYTES && nearly(joined, size, p->folded, p->size))
            near = end + 1;
    }
    *exact = false;
    return near;
}

/* "Anna Smith" is not the surname of John Smith standing alone. */
static bool another_person(const names *n, const names_words *w, size_t word)
{
    if (word == 0 || !w->words[word - 1].capital) return false;
    if (w->words[word].start - w->words[word - 1].end > 2) return false;
    return !names_in_list(w, word - 1, NAMES_SMALL_WORDS) && !names_in_list(w, word - 1, NAMES_HONORIFICS) &&
           !names_folded_is(w, word - 1, n->given);
}

/* "John Miller" is not the given name of John Smith standing alone. */
static bool another_surname(const names_words *w, size_t next)
{
    return next < w->count && w->words[next].capital && w->words[next].start - w->words[next - 1].end <= 1 &&
           !names_in_list(w, next, NAMES_SMALL_WORDS);
}

static void span_add(names_match *m, names_span span)
{
    if (m->span_count == NAMES_SPANS_MAX) return;
    for (size_t i = 0; i < m->span_count; i++)
        if (m->spans[i].start <= span.start && span.end <= m->spans[i].end) return;
    size_t at = m->span_count++;
    for (; at > 0 && m->spans[at - 1].start > span.start; at--) m->spans[at] = m->spans[at - 1];
    m->spans[at] = span;
}

void names_find(names *n, bytes text, names_match *out)
{
    names_words w;
    memset(out, 0, sizeof *out);
    names_words_of(text, &w);
    for (size_t i = 0; i < w.count; i++) {
        for (size_t p = 0; p < n->count; p++) {
            const names_pattern *one = &n->patterns[p];
            bool exact;
            if (one->capital && !w.words[i].capital) continue;
            size_t end = match_at(&w, i, one, &exact);
            if (end == 0) continue;
            bool alone = one->kind == EVIDENCE_NAME && one->score <= 0.6f && n->surname[0];
            if (alone && (one->size < ALONE_MIN_BYTES || (one->surname && another_person(n, &w, i)) ||
                          (!one->surname && another_surname(&w, end)))) continue;
            float score = exact ? one->score : one->score - 0.2f;
            if (score > out->score) {
                out->score = score;
                out->kind = one->kind;
                out->what = one->shown;
            }
            out->full = out->full || (one->full && exact) || one->kind == EVIDENCE_ALIAS;
            span_add(out, (names_span){w.words[i].start, w.words[end - 1].end});
        }
    }
    names_words_free(&w);
}
