/* scheduler: the one thread that runs the engine. Sequences join and leave between steps; a step
 * decodes every waiting sequence (up to batch_max) at once, then reads one chunk of one waiting prefill,
 * in turn, so that nobody decoding waits for more than a chunk. Results do not depend on any of it: the
 * engine is batch-invariant.
 *
 * Callers block; each sequence has at most one job under way. */
#ifndef LETHE_SCHEDULER_H
#define LETHE_SCHEDULER_H

#include "model.h"

typedef struct scheduler scheduler;

MUST_USE result scheduler_open(scheduler **out, model *m, uint32_t batch_max);
void scheduler_close(scheduler **s);       /* no job may be under way */

/* Reads tokens into the sequence; logits of the last (vocab_size) may be NULL. alive is asked before
 * every chunk, on the scheduler's thread. */
MUST_USE result scheduler_prefill(scheduler *s, model_seq *seq, const uint32_t *tokens, size_t count,
                                  float *logits, result (*alive)(void *ctx), void *alive_ctx);
/* One step of one sequence, batched with whoever else is waiting. */
MUST_USE result scheduler_decode(scheduler *s, model_seq *seq, uint32_t token, float *logits);

typedef struct { uint64_t decode_steps; uint32_t sequences_active; } scheduler_figures;
void scheduler_figures_now(scheduler *s, scheduler_figures *out);   /* steps: of single sequences */

#endif
