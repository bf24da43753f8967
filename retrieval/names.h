/* names: what a subject is called, and where a text calls it so. Pure: no store, no clock.
 *
 * A text's words are runs of letters, marks and digits, folded (NFKD, case folded, marks dropped). A pattern is
 * words joined without what stood between them, so that "Al-Mansour", "Al Mansour" and a word hyphenated over two
 * lines are one; a match begins and ends with a word. Names come from the subject (variants, one letter wrong),
 * and from what documents say of it (aliases, e-mail addresses, telephone numbers, handles, titles).
 *
 * Threads: a `names` belongs to one thread at a time. */
#ifndef LETHE_NAMES_H
#define LETHE_NAMES_H

#include "base.h"

enum {
    NAMES_SUBJECT_MAX_BYTES = 256,
    NAMES_PATTERNS_MAX = 96,             /* variants and what was mined, together */
    NAMES_PATTERN_MAX_BYTES = 128,       /* folded */
    NAMES_SPANS_MAX = 16,                /* told of one document */
};

typedef enum { EVIDENCE_NONE, EVIDENCE_NEIGHBOUR, EVIDENCE_IDENTIFIER, EVIDENCE_ALIAS, EVIDENCE_NAME } evidence_class;

typedef struct { uint64_t start, end; } names_span;

typedef struct {
    evidence_class kind;                 /* of the strongest match; EVIDENCE_NONE: nothing found */
    float score;                         /* 0 to 1, of the strongest match; the classes' scales are stated in names.c */
    bool full;                           /* the whole name stands there: what is near it may be mined */
    const char *what;                    /* which name it was, as shown to people; lives as long as the names */
    names_span spans[NAMES_SPANS_MAX];   /* bytes of the text, ascending */
    size_t span_count;
} names_match;

typedef struct names names;

/* subject: UTF-8, 1 to NAMES_SUBJECT_MAX_BYTES. E_INVALID: longer, or without two letters or digits. */
MUST_USE result names_open(names **out, const char *subject);
void names_close(names **n);             /* wipes */
/* The strongest match of any name in a text; deterministic. */
void names_find(names *n, bytes text, names_match *out);
/* Takes up what a text that names the subject in full calls it besides. Returns how many names are new. */
size_t names_mine(names *n, bytes text, const names_match *match);
/* What was mined, for people; NULL past the last. */
const char *names_mined(const names *n, size_t index);

#endif
