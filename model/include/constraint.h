/* constraint: keeps what a generator writes to spans of given passages. Label-blind.
 *
 * What it lets through is at most CONSTRAINT_SPANS_MAX spans, joined by CONSTRAINT_SEPARATOR, behind one space that is
 * not part of them (as a generator begins an answer). A span is contiguous bytes of one passage and whole words: it holds
 * a word character, neither begins nor ends with white space, and neither of its ends lies inside a word (a run of word
 * characters: letters, marks, digits, connectors) or inside a number (a point, comma or colon between two digits).
 *
 * It is an automaton over bytes, since tokens end inside words and characters. Its state is every way of reading what was
 * written so far: for S starts of words in the passages, at most a few times S. The tokens that may come next are found by
 * walking the passages' bytes through the sorted vocabulary: O(K L log V) for K ways to go on, tokens of at most L bytes, V
 * tokens; K is S at a span's beginning and the number of places where the span so far occurs behind it. Measured by
 * lethe-bench constraint.
 *
 * Threads: a vocabulary is immutable and shared; a constraint belongs to one thread at a time. */
#ifndef LETHE_CONSTRAINT_H
#define LETHE_CONSTRAINT_H

#include "model.h"

enum { CONSTRAINT_SPANS_MAX = 3 };
#define CONSTRAINT_SEPARATOR " ... "

/* The tokens' bytes in sorted order. Ids are 0..count-1; a token of no bytes is never let through. The bytes are borrowed
 * as long as the vocabulary lives. */
typedef struct vocabulary vocabulary;
void vocabulary_open(vocabulary **out, const bytes *tokens, uint32_t count);
void vocabulary_close(vocabulary **v);
/* A model's own, without its special tokens. */
const vocabulary *model_vocabulary(const model *m);

/* Where spans of a passage (less than 2 GiB) may begin and end: bits of flags (size + 1), a place being the bytes before it.
 * word_end (size + 1): behind the first word character at or behind a place, UINT32_MAX if there is none. [b, e) is a span where b
 * begins, e ends one and word_end[b] <= e. */
enum { CONSTRAINT_BEGINS = 1, CONSTRAINT_ENDS = 2 };
void constraint_edges(bytes passage, uint8_t *flags, uint32_t *word_end);

typedef struct constraint constraint;
/* Bytes [start, end) of a passage. */
typedef struct { size_t passage, start, end; } constraint_span;

/* Copies the passages (less than 2 GiB, together). end_token: what ends an answer; -1: none. */
void constraint_open(constraint **out, const vocabulary *v, const bytes *passages, size_t count, int64_t end_token);
void constraint_close(constraint **c);                  /* wipes */
/* Ids of the tokens that may come next, ascending; the end token's where an answer may end here. None are left when the
 * vocabulary lacks a byte that would have to come, or no passage has a word. Borrowed until the next call. */
const uint32_t *constraint_allowed(constraint *c, size_t *count);
/* Reads the bytes of a token that is allowed. */
void constraint_advance(constraint *c, bytes token);
/* The spans that what was written so far stands for; 0 if none was begun. Of several readings the one with the fewest
 * spans, then the earliest place. A separator that no span follows is left out; an unfinished word is read to its end. */
size_t constraint_spans(const constraint *c, constraint_span out[CONSTRAINT_SPANS_MAX]);
/* Shortens spans of these passages so that joined they have at most `size` bytes: the number of those left. */
size_t constraint_cut(const constraint *c, constraint_span *spans, size_t count, size_t size);

#endif
