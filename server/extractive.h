/* extractive: the reader for when there is no generator. Picks the sentence of the passages that best
 * supports an answer. Label-blind: session.c gives it bytes and labels what it picks.
 *
 * A sentence's score adds up: the share of the question's information (IDF) that its own words carry;
 * the same for it with the two sentences before it, for a subject is often named once; its likeness to the
 * question in the embedding; its passage's rank; and whether it has what the question asks for (a number,
 * a time, a name). A sentence that says nothing beyond the question (a heading) is no answer. */
#ifndef LETHE_EXTRACTIVE_H
#define LETHE_EXTRACTIVE_H

#include "base.h"

typedef struct {
    const char *question;
    const bytes *passages;                 /* best first */
    const float *ranks;                    /* score of each passage, at most about 1 */
    size_t count;
    /* Sentence ends of a text, as the chunker has them. */
    size_t (*sentences)(bytes text, size_t *ends, size_t max);
    /* For each text the share (0 to 1) of the question's information that it carries. */
    result (*overlap)(void *ctx, const bytes *texts, size_t count, float *out);
    float (*similarity)(void *ctx, bytes a, bytes b);    /* cosine */
    void *ctx;
} extractive_input;

typedef struct {
    bool found;                            /* false: no word of the question occurs anywhere */
    size_t passage, start, end;            /* byte span in that passage, white space trimmed */
    float score;
} extractive_pick;

/* Deterministic; ties go to the first. */
MUST_USE result extractive_read(const extractive_input *input, arena *mem, extractive_pick *out);

#endif
