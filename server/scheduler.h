/* scheduler: the one thread that runs the engine, and the places in it. Sequences join and leave between turns; in one pass
 * a turn decodes the waiting sequences (up to batch_max), a token each, and reads one chunk of one waiting prompt, so that
 * nobody who decodes waits for more than a chunk. Results do not depend on any of it: the engine is batch-invariant.
 *
 * A sequence lives on a seat. Each principal has a static share of seats and of places to wait for one: E_EXHAUSTED
 * speaks of that share alone. What others do costs time and nothing else: where all seats are taken, who has not used
 * its share up waits. Seats, prompts and steps go to the principals in turn, whoever was served longest ago; within one
 * principal, prompts take turns as well.
 *
 * Callers block. A seat is one caller's at a time. */
#ifndef LETHE_SCHEDULER_H
#define LETHE_SCHEDULER_H

#include "ifc.h"
#include "model.h"

typedef struct scheduler scheduler;
typedef struct seat seat;

enum { SCHEDULER_BATCH_MAX = 64, SCHEDULER_TOGETHER_MAX = 8, SCHEDULER_CHUNK_LEAST = 8, SCHEDULER_CHUNK_MAX = 128 };

typedef struct {
    uint32_t batch_max;                /* sequences in one step: 1 to SCHEDULER_BATCH_MAX */
    uint32_t seats_max;                /* all principals together; at least share_seats */
    uint32_t share_seats;              /* of one principal, at least 1 */
    uint32_t share_waiting;            /* of one principal, beside its seats */
    uint32_t chunk_tokens;             /* CHUNK_LEAST to CHUNK_MAX, where nobody decodes */
    /* A chunk beside others' decoding makes the turn longer by about this part of a decoding step (and is at least
     * CHUNK_LEAST tokens). */
    uint32_t chunk_hold_percent;
} scheduler_limits;

MUST_USE result scheduler_open(scheduler **out, model *m, const scheduler_limits *limits);
void scheduler_close(scheduler **s);   /* no seat may be open */

/* A sequence at the zero state. Waits for a seat while the principal's own or all are taken; E_EXHAUSTED when its
 * places to wait are, too. alive (may be NULL) is asked every now and then, on the caller's thread, in every wait of this
 * seat: its error ends the wait at once where the seat's job has not begun, within a chunk where it has. */
MUST_USE result seat_open(seat **out, scheduler *s, id128 principal, result (*alive)(void *ctx), void *alive_ctx);
void seat_close(seat **seat);          /* wipes the sequence */
model_seq *seat_seq(seat *seat);       /* for snapshots; borrowed, while no job of it is under way */

/* Reads tokens into the sequence; logits of the last (vocab_size) may be NULL. After an error the sequence is good for
 * closing only. */
MUST_USE result seat_prefill(seat *seat, const uint32_t *tokens, size_t count, float *logits);
/* The same with the logits of a few tokens behind each: watch->scores is (count, watch->token_count). Its turns take
 * longer. E_INVALID, with nothing read: a watched id past the vocabulary. */
MUST_USE result seat_prefill_watched(seat *seat, const uint32_t *tokens, size_t count, const model_watch *watch,
                                     float *logits);
/* One step, batched with whoever else is waiting. */
MUST_USE result seat_decode(seat *seat, uint32_t token, float *logits);
/* The same for up to SCHEDULER_TOGETHER_MAX different sequences of the caller's own, which take turns as the seat's. */
MUST_USE result seat_decode_together(seat *seat, model_seq *const *seqs, const uint32_t *tokens, float *const *logits,
                                     size_t count);

typedef struct { uint64_t steps, chunks; } scheduler_turns;
/* Turns of others that passed while this seat's last job was there, those in which it had a part not counted. A step waits
 * for one at most, where all seats that decode find place in one; a prompt, for a chunk of each other principal with each
 * of its own. */
scheduler_turns seat_held_up(const seat *seat);

typedef struct {
    uint64_t decode_steps;             /* of single sequences */
    scheduler_turns turns;
    uint32_t sequences_active, sequences_waiting;
} scheduler_figures;
void scheduler_figures_now(scheduler *s, scheduler_figures *out);

#endif
