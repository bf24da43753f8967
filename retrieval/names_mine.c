/* What a text that names the subject in full calls it besides: aliases ("also known as", "nicknamed", a name in
 * parentheses or quotation marks behind the full one), e-mail addresses, telephone numbers, handles near it, and
 * titles in quotation marks. */
#include "names_private.h"

#include <string.h>

enum { NEAR_BYTES = 160, ALIAS_WORDS_MAX = 3, ALIAS_MIN_BYTES = 3, PHONE_DIGITS_MIN = 7, TITLE_WORDS_MIN = 2,
       TITLE_WORDS_MAX = 10 };

/* Phrases that an alias follows, as folded words joined. */
static const char *const CUES[] = {"alsoknownas", "knownas", "aka", "nee", "nicknamed", "alias", "goesby",
                                   "wentby", "penname", "pennameof", "pseudonym", "writingas", "writesas", "bornas",
                                   "calledher", "calledhim", "callher", "callhim", "bettercalled", "nickname", NULL};

static bool adds_itself(const names *n, const char *folded)
{
    return strcmp(folded, n->given) == 0 || strcmp(folded, n->surname) == 0;
}

static bool mined_add(names *n, bytes text, size_t start, size_t end, const char *folded, names_pattern like)
{
    size_t size = end - start < sizeof like.shown ? end - start : 0;
    if (size == 0 || adds_itself(n, folded)) return false;
    memcpy(like.shown, text.data + start, size);
    like.shown[size] = 0;
    strcpy(like.folded, folded);
    like.mined = true;
    return names_add(n, &like);
}

/* A run of capitalised words from `first` on, at most three; returns its end. */
static size_t capitals_from(const names_words *w, size_t first)
{
    size_t end = first;
    while (end < w->count && end - first < ALIAS_WORDS_MAX && w->words[end].capital &&
           !names_in_list(w, end, NAMES_SMALL_WORDS) &&
           (end == first || w->words[end].start - w->words[end - 1].end <= 1)) end++;
    return end;
}

static size_t alias_add(names *n, bytes text, const names_words *w, size_t first)
{
    char folded[NAMES_PATTERN_MAX_BYTES];
    size_t end = capitals_from(w, first);
    if (end == first || !names_join(w, first, end, folded) || strlen(folded) < ALIAS_MIN_BYTES) return 0;
    const names_pattern like = {.kind = EVIDENCE_ALIAS, .score = 0.8f, .capital = true, .fuzzy = end - first > 1};
    return mined_add(n, text, w->words[first].start, w->words[end - 1].end, folded, like);
}

/* The words before `end`, joined, end with a cue. */
static bool cue_before(const names_words *w, size_t end)
{
    char folded[NAMES_PATTERN_MAX_BYTES];
    for (size_t words = 1; words <= 3 && words <= end; words++) {
        if (!names_join(w, end - words, end, folded)) continue;
        for (const char *const *cue = CUES; *cue; cue++)
            if (strcmp(folded, *cue) == 0) return true;
    }
    return false;
}

static bool near_span(const names_match *m, size_t at)
{
    for (size_t i = 0; i < m->span_count; i++)
        if (at + NEAR_BYTES >= m->spans[i].start && at <= m->spans[i].end + NEAR_BYTES) return true;
    return false;
}

/* "Full Name (Alias)": the bracket opens right behind a span. */
static bool in_bracket(bytes text, const names_match *m, size_t start)
{
    if (start == 0 || text.data[start - 1] != '(') return false;
    for (size_t i = 0; i < m->span_count; i++)
        if (m->spans[i].end + 2 >= start && m->spans[i].end < start) return true;
    return false;
}

static size_t aliases_mine(names *n, bytes text, const names_words *w, const names_match *m)
{
    size_t added = 0;
    for (size_t i = 1; i < w->count; i++) {
        if (!w->words[i].capital || !near_span(m, w->words[i].start)) continue;
        if (cue_before(w, i) || in_bracket(text, m, w->words[i].start)) added += alias_add(n, text, w, i);
    }
    return added;
}

/* ---- identifiers ------------------------------------------------------------------------------------------ */
static bool mail_byte(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-' || c == '+' || c >= 0x80;
}

static size_t identifier_add(names *n, bytes text, size_t start, size_t end)
{
    names_words w;
    char folded[NAMES_PATTERN_MAX_BYTES];
    names_words_of(bytes_of(text.data + start, end - start), &w);
    const names_pattern like = {.kind = EVIDENCE_IDENTIFIER, .score = 0.75f};
    bool added = names_join(&w, 0, w.count, folded) && strlen(folded) >= ALIAS_MIN_BYTES &&
                 mined_add(n, text, start, end, folded, like);
    names_words_free(&w);
    return added;
}

/* An address or a handle around the '@' at this place. */
static size_t address_at(names *n, bytes text, size_t at)
{
    size_t start = at, end = at + 1;
    while (start > 0 && mail_byte(text.data[start - 1])) start--;
    while (end < text.size && mail_byte(text.data[end])) end++;
    while (end > at + 1 && (text.data[end - 1] == '.' || text.data[end - 1] == '-')) end--;
    return end - at > 2 ? identifier_add(n, text, start, end) : 0;
}

static size_t phone_at(names *n, bytes text, size_t start, size_t *next)
{
    size_t end = start, digits = 0, last = start;
    for (; end < text.size && end - start < 32; end++) {
        uint8_t c = text.data[end];
        bool digit = c >= '0' && c <= '9';
        if (!digit && c != ' ' && c != '-' && c != '(' && c != ')' && c != '/' && !(c == '+' && end == start)) break;
        digits += digit;
        if (digit) last = end + 1;
    }
    *next = end > start ? end : start + 1;
    return digits >= PHONE_DIGITS_MIN ? identifier_add(n, text, start, last) : 0;
}

static size_t identifiers_mine(names *n, bytes text, const names_match *m)
{
    size_t added = 0;
    for (size_t at = 0; at < text.size;) {
        uint8_t c = text.data[at];
        size_t next = at + 1;
        if (c == '@' && near_span(m, at)) added += address_at(n, text, at);
        else if ((c == '+' || (c >= '0' && c <= '9')) && near_span(m, at)) added += phone_at(n, text, at, &next);
        at = next;
    }
    return added;
}

/* ---- titles ------------------------------------------------------------------------------------------------- */
static size_t quote_at(bytes text, size_t at, bool *opens)
{
    *opens = false;
    if (text.data[at] == '"') return *opens = true, 1;
    if (at + 3 <= text.size && text.data[at] == 0xE2 && text.data[at + 1] == 0x80 &&
        (text.data[at + 2] == 0x9C || text.data[at + 2] == 0x9D)) {
        *opens = text.data[at + 2] == 0x9C;
        return 3;
    }
    return 0;
}

static size_t title_add(names *n, bytes text, size_t start, size_t end)
{
    names_words w;
    char folded[NAMES_PATTERN_MAX_BYTES];
    size_t added = 0;
    names_words_of(bytes_of(text.data + start, end - start), &w);
    const names_pattern like = {.kind = EVIDENCE_NEIGHBOUR, .score = 0.5f};
    if (w.count >= TITLE_WORDS_MIN && w.count <= TITLE_WORDS_MAX && w.words[0].capital &&
        w.words[w.count - 1].capital && names_join(&w, 0, w.count, folded))
        added = mined_add(n, text, start, end, folded, like);
    names_words_free(&w);
    return added;
}

static size_t titles_mine(names *n, bytes text)
{
    size_t added = 0, open = 0;
    bool inside = false, opens;
    for (size_t at = 0; at < text.size;) {
        size_t size = quote_at(text, at, &opens);
        if (size == 0) { at++; continue; }
        if (inside && at - open < NAMES_PATTERN_MAX_BYTES) added += title_add(n, text, open, at);
        inside = !inside;
        at += size;
        open = at;
    }
    return added;
}

size_t names_mine(names *n, bytes text, const names_match *match)
{
    names_words w;
    if (!match->full) return 0;
    names_words_of(text, &w);
    size_t added = aliases_mine(n, text, &w, match);
    names_words_free(&w);
    added += identifiers_mine(n, text, match);
    return added + titles_mine(n, text);
}
