/* extractive: ranks the sentences of the passages by how well they support an answer. Without a generator the best is the
 * answer; a generator may be made to read the best alone. Label-blind: session.c gives it bytes and labels what it picks.
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
    size_t passage, start, end;            /* byte span in that passage, white space trimmed */
    float score;
} extractive_pick;

/* Those that share a word with the question, best first, in the arena; ties go to the first. Deterministic. Of all passages'
 * sentences the first 512 are looked at. */
MUST_USE result extractive_rank(const extractive_input *input, arena *mem, extractive_pick **out, size_t *count);

#endif
