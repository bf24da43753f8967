/* What names.c (patterns, matching) and names_mine.c (what texts add) share. */
#ifndef LETHE_NAMES_PRIVATE_H
#define LETHE_NAMES_PRIVATE_H

#include "names.h"

typedef struct { uint32_t start, end, folded, folded_size; bool capital; } names_word;

/* A text's words; folded: one buffer of all of them. */
typedef struct { names_word *words; size_t count, capacity; buf folded; } names_words;

typedef struct {
    char folded[NAMES_PATTERN_MAX_BYTES];
    size_t size;
    char shown[NAMES_PATTERN_MAX_BYTES];
    evidence_class kind;
    float score;
    bool full, capital, fuzzy, surname, mined;
} names_pattern;

struct names {
    names_pattern patterns[NAMES_PATTERNS_MAX];
    size_t count, own;                   /* own: the subject's variants come first */
    char given[NAMES_PATTERN_MAX_BYTES], surname[NAMES_PATTERN_MAX_BYTES];    /* folded; "" for a topic */
};

void names_words_of(bytes text, names_words *out);
void names_words_free(names_words *w);
bool names_folded_is(const names_words *w, size_t word, const char *folded);
bool names_in_list(const names_words *w, size_t word, const char *const *list);
extern const char *const NAMES_SMALL_WORDS[], *const NAMES_HONORIFICS[];

/* The words first..end-1 joined; false: too long or empty. */
bool names_join(const names_words *w, size_t first, size_t end, char out[NAMES_PATTERN_MAX_BYTES]);
/* Adds a pattern unless there is one of the same text; true: added. */
bool names_add(names *n, const names_pattern *pattern);

#endif
