/* grounded: an answer made of spans of the passages (promise G6), chosen by the generator's likelihood, or none.
 * Label-blind: session.c gives it bytes and labels what comes out.
 *
 * Behind the read prompt these are written, each under a constraint (constraint.h): one answer from all passages, and
 * one from each passage alone. Their log-likelihood L sums what the generator, unconstrained, gives their n tokens, the one
 * that ends them included.
 *   The answer is the one with the largest L / ((5 + n) / 6)^0.6, the length normalisation of Wu et al. 2016 (arXiv
 *   1609.08144); the first of equals.
 *   No answer is found when the likelihood of GROUNDED_NOTHING (of the special token GROUNDED_NOTHING_TOKEN, where the
 *   tokenizer has it) in place of the answer, times not_found_percent / 100, is more than the answer's, exp(L).
 *   A passage agrees when its own answer and the answer given are the same or one has the other in it, as whole words:
 *   lower case (ASCII), without punctuation and articles. It contradicts when it does not agree, and its answer is at
 *   least a quarter as likely as the one given.
 *   Confidence is the share of the likelihoods of the agreeing ones in those of all (different texts, and nothing): the
 *   generator's belief among these, no probability of being right. */
#ifndef LETHE_GROUNDED_H
#define LETHE_GROUNDED_H

#include "constraint.h"
#include "scheduler.h"

#define GROUNDED_NOTHING " not found"
#define GROUNDED_NOTHING_TOKEN "<|none|>"

typedef struct {
    const model *engine;
    seat *place;                       /* its sequence stands behind the prompt, and stays there */
    const float *logits;               /* (vocab_size), of the prompt's last token */
    const bytes *passages;             /* what was read */
    size_t count;
    uint32_t tokens_max;
    sampler_options sampling;
    const char *const *stop;           /* an answer ends at the last whole word before the first of these */
    size_t stop_count;
    uint32_t not_found_percent;        /* 0: there is an answer, if a passage has a word and tokens_max lets one begin */
    result (*alive)(void *ctx);        /* asked at every step */
    void *alive_ctx;
} grounded_input;

typedef struct {
    constraint_span spans[CONSTRAINT_SPANS_MAX];
    size_t span_count;                 /* 0: nothing to say */
    bytes text;                        /* the spans, joined; in the arena */
    double likelihood;                 /* L */
    uint32_t tokens;                   /* n */
    bool stopped;                      /* ended by itself or by a stop sequence, not by tokens_max */
    bool agrees, contradicts;
} grounded_reading;

typedef struct {
    bool found;
    grounded_reading answer;           /* spans within passages */
    grounded_reading *readings;        /* [count], each passage's own */
    double nothing;                    /* log-likelihood of no answer */
    double confidence;                 /* 0..1 */
} grounded_answer;

/* Chooses the answer among what was read, and fills in all of out but `nothing`, which is given. all: the answer from all
 * passages (no span: there is none such), then each passage's own. */
void grounded_choose(grounded_reading *all, size_t count, uint32_t not_found_percent, grounded_answer *out);

/* Deterministic; the same bits whoever else is being served. */
MUST_USE result grounded_read(const grounded_input *in, arena *a, grounded_answer *out);

#endif
