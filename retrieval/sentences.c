/* Where sentences end. A sentence ends at . ! ? and their like followed by white space, at a blank
 * line, and at the end of a line that stands by itself (a heading, a list item, a row of a table).
 * No statistics, one pass, bounded looks back and ahead. */
#include <string.h>

#include "chunker.h"
#include "retrieval.h"

/* Never end a sentence: a name or a number follows. Sorted, lower case, without the full stop. */
static const char *const BEFORE_NAMES[] = {
    "adm", "approx", "art", "ca", "capt", "cf", "ch", "cmdr", "col", "dr", "e.g", "ed", "eds", "eq",
    "eqs", "esp", "fig", "figs", "gen", "gov", "hon", "i.e", "lt", "maj", "messrs", "mme", "mr",
    "mrs", "ms", "mt", "no", "nos", "op", "p", "pp", "pres", "prof", "pt", "ref", "refs", "rep",
    "rev", "sec", "sen", "sgt", "st", "viz", "vol", "vols", "vs",
};
/* End a sentence only before a capital letter. */
static const char *const BEFORE_ANYTHING[] = {
    "a.m", "al", "apr", "aug", "ave", "b.c", "blvd", "co", "corp", "dec", "dept", "est", "etc",
    "feb", "hr", "hrs", "inc", "jan", "jr", "jul", "jun", "ltd", "mar", "min", "nov", "oct", "p.m",
    "sep", "sept", "sq", "sr", "tel",
};
/* After a dotted abbreviation ("U.S.") only these begin a new sentence. */
static const char *const STARTERS[] = {
    "A", "After", "An", "And", "As", "At", "But", "By", "For", "He", "However", "I", "If", "In",
    "It", "Its", "On", "She", "Since", "That", "The", "Their", "There", "These", "They", "This",
    "Those", "To", "We", "When", "While", "You",
};

enum { WORD_LOOK_MAX = 16, SHORT_LINE_BYTES = 48 };

static bool in_list(const char *const *list, size_t count, const char *word)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(list[middle], word);
        if (order == 0) return true;
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return false;
}
#define IN(list, word) in_list(list, sizeof(list) / sizeof *(list), word)

static bool is_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
static bool is_upper(uint8_t c) { return c >= 'A' && c <= 'Z'; }
static bool is_lower(uint8_t c) { return c >= 'a' && c <= 'z'; }
static bool is_digit(uint8_t c) { return c >= '0' && c <= '9'; }
static bool is_letter(uint8_t c) { return is_upper(c) || is_lower(c); }

static size_t skip_space(bytes t, size_t at)
{
    while (at < t.size && is_space(t.data[at])) at++;
    return at;
}

/* Closing quotes and brackets that belong to the sentence before them. */
static size_t skip_closers(bytes t, size_t at)
{
    for (;;) {
        if (at < t.size && strchr("\"')]}*_", t.data[at]) != NULL && t.data[at] != 0) at++;
        else if (at + 2 < t.size && t.data[at] == 0xE2 && t.data[at + 1] == 0x80 &&
                 (t.data[at + 2] == 0x99 || t.data[at + 2] == 0x9D)) at += 3;      /* ’ ” */
        else return at;
    }
}

/* The word that stands directly before a full stop at `dot`: letters and inner full stops, its
 * size; 0 when it is none or longer than an abbreviation. */
static size_t word_before(bytes t, size_t from, size_t dot, char word[WORD_LOOK_MAX + 1])
{
    size_t start = dot;
    while (start > from && dot - start <= WORD_LOOK_MAX &&
           (is_letter(t.data[start - 1]) || t.data[start - 1] == '.' || t.data[start - 1] >= 0x80))
        start--;
    size_t size = dot - start;
    if (size == 0 || size > WORD_LOOK_MAX) return 0;
    memcpy(word, t.data + start, size);
    word[size] = 0;
    return size;
}

static bool starts_sentence(bytes t, size_t at)
{
    char word[WORD_LOOK_MAX + 1];
    size_t size = 0;
    while (at + size < t.size && size < WORD_LOOK_MAX && is_letter(t.data[at + size])) {
        word[size] = (char)t.data[at + size];
        size++;
    }
    word[size] = 0;
    return IN(STARTERS, word);
}

/* Is the full stop at `dot` an abbreviation's? White space follows it, then a word at next. */
static bool is_abbreviation(bytes t, size_t from, size_t dot, size_t next)
{
    char word[WORD_LOOK_MAX + 1];
    size_t size = word_before(t, from, dot, word);
    if (size == 0) {            /* "12. Something" at the beginning: a list's number */
        size_t start = dot;
        while (start > from && dot - start < 4 && is_digit(t.data[start - 1])) start--;
        return start < dot && start == skip_space(t, from);
    }
    if (size == 1) return is_upper((uint8_t)word[0]) && word[0] != 'I';     /* an initial */
    bool dotted = size >= 3 && word[1] == '.';
    char lower[WORD_LOOK_MAX + 1];
    for (size_t i = 0; i <= size; i++)
        lower[i] = (char)(is_upper((uint8_t)word[i]) ? word[i] + 32 : word[i]);
    if (IN(BEFORE_NAMES, lower)) return true;
    bool capital = next < t.size && (is_upper(t.data[next]) || t.data[next] >= 0x80);
    if (IN(BEFORE_ANYTHING, lower)) return !capital;
    if (dotted) return !starts_sentence(t, next);
    return false;
}

/* Width of a terminator at `at`: 1 in ASCII, 3 for ideographic ones and the ellipsis; else 0. */
static size_t terminator(bytes t, size_t at, bool *wide)
{
    uint8_t c = t.data[at];
    *wide = false;
    if (c == '.' || c == '!' || c == '?') return 1;
    if (at + 2 >= t.size || (c != 0xE2 && c != 0xE3 && c != 0xEF)) return 0;
    if (memcmp(t.data + at, "\xE2\x80\xA6", 3) == 0) return 3;               /* … */
    *wide = memcmp(t.data + at, "\xE3\x80\x82", 3) == 0 ||                   /* 。 */
            memcmp(t.data + at, "\xEF\xBC\x81", 3) == 0 ||                   /* ！ */
            memcmp(t.data + at, "\xEF\xBC\x9F", 3) == 0;                     /* ？ */
    return *wide ? 3 : 0;
}

/* A run of terminators at `at` ends the sentence: sets *behind to where the next one begins.
 * *run is set behind the run either way. */
static bool ends_at_terminator(bytes t, size_t from, size_t at, size_t *run, size_t *behind)
{
    bool wide = false, any_wide = false;
    size_t first = at, width, count = 0;
    while (at < t.size && (width = terminator(t, at, &wide)) > 0) {
        at += width;
        any_wide = any_wide || wide;
        count++;
    }
    *run = at;
    at = skip_closers(t, at);
    size_t next = skip_space(t, at);
    *behind = next;
    if (any_wide) return true;
    if (next == at) return false;                        /* 3.14, example.com */
    if (next == t.size) return true;
    if (is_lower(t.data[next])) return false;
    if (count == 1 && t.data[first] == '.' && is_abbreviation(t, from, first, next)) return false;
    return true;
}

/* Does the line break at `at` end a sentence? line: where its line begins. */
static bool ends_at_newline(bytes t, size_t line, size_t at, size_t *behind)
{
    size_t next = skip_space(t, at);
    *behind = next;
    if (next == t.size) return true;
    size_t breaks = 0, indent = 0;
    for (size_t i = at; i < next; i++) {
        breaks += t.data[i] == '\n';
        indent = t.data[i] == '\n' ? 0 : indent + 1;
    }
    if (breaks > 1 || indent >= 4) return true;
    if (at - line < SHORT_LINE_BYTES) return true;
    uint8_t c = t.data[next];
    if ((c == '-' || c == '*' || c == '+') && next + 1 < t.size && t.data[next + 1] == ' ')
        return true;
    if (c == '#' || c == '|') return true;
    size_t digits = next;
    while (digits < t.size && digits - next < 4 && is_digit(t.data[digits])) digits++;
    return digits > next && digits + 1 < t.size &&
           (t.data[digits] == '.' || t.data[digits] == ')') && t.data[digits + 1] == ' ';
}

size_t sentence_end(bytes text, size_t from, size_t max_bytes)
{
    size_t limit = text.size - from > max_bytes ? from + max_bytes : text.size;
    while (limit < text.size && limit > from && (text.data[limit] & 0xC0) == 0x80) limit--;
    /* Nothing looks further: a text is read in linear time. */
    bytes t = {text.data, limit};
    size_t line = from, space = 0, at = skip_space(t, from), behind = from;
    while (at < limit) {
        uint8_t c = t.data[at];
        bool wide;
        if (c == '\n') {
            if (ends_at_newline(t, line, at, &behind)) return behind;
            line = at + 1;
        } else if (c < 0x80 ? c == '.' || c == '!' || c == '?' : terminator(t, at, &wide) > 0) {
            size_t run;
            if (ends_at_terminator(t, from, at, &run, &behind)) return behind;
            at = run;
            continue;
        }
        at++;
        if (is_space(c)) space = at;
    }
    return limit < text.size && space > from ? space : limit;
}

size_t text_sentences(bytes text, size_t *ends, size_t max)
{
    size_t count = 0;
    for (size_t at = 0; at < text.size && count < max;) {
        at = sentence_end(text, at, 2 * CHUNK_TARGET_DEFAULT);
        ends[count++] = at;
    }
    return count;
}
