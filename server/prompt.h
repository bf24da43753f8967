/* prompt: the JRT prompt as token sequences. Source: "Just read twice" (Arora et al., 2024).
 *
 *   passages first   (context) x repeats, question, cue      the state behind the contexts is cacheable
 *   question first   question, (context) x repeats, question, cue              the paper's order
 *
 * The context is cut to context_tokens_max before it is repeated, so that every copy is the same. No
 * padding token is ever part of it. Text is untrusted: special tokens in it are read as plain text. */
#ifndef LETHE_PROMPT_H
#define LETHE_PROMPT_H

#include "model.h"

enum { PROMPT_REPEATS_MAX = 4 };

typedef struct {
    bool question_first;
    uint32_t repeats;                 /* 1..4 */
    uint32_t context_tokens_max;
} prompt_options;

typedef struct {
    const uint32_t *tokens;           /* in the arena */
    size_t count;
    size_t prefix_count;              /* passages first: tokens before the question; else 0 */
    size_t context_count;             /* tokens of one copy */
    size_t passage_count;             /* passages of which there is a token, the first ones */
    bool truncated;
} prompt;

MUST_USE result prompt_build(const tokenizer *t, const bytes *passages, size_t passage_count,
                             bytes question, const prompt_options *options, arena *a, prompt *out);

#endif
