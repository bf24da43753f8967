/* Seats that stand in the lines of their principal's party, and one worker that serves the parties in turn. */
#include "scheduler.h"

#include "mutant.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* ALIVE_POLL_MS: how often who waits looks whether it is still wanted. STEPS_A_MEASURE: of so many steps one goes without a
 * prompt. */
enum { ALIVE_POLL_MS = 25, STEPS_A_MEASURE = 32 };
/* How long a step waits for those of the last who are not back yet: a part of that one's time, or a little if that is
 * more. */
static const double GATHER_PART = 0.25, GATHER_LEAST_S = 1e-3;
/* So long after a step, somebody is held to be writing still: clients and their machines have pauses. */
static const double WRITING_S = 1;

typedef enum { FOR_SEAT, FOR_PROMPT, FOR_STEP, LINES } line_kind;

typedef struct { seat *first, *last; } line;

/* A principal that has a seat or waits for one. */
typedef struct party party;
struct party {
    party *next;                       /* that came before it */
    id128 principal;
    uint32_t seats, waiting;
    line lines[LINES];
    uint64_t served[LINES];            /* when last, by the scheduler's clock of that, or when it came */
};

struct seat {
    scheduler *s;
    model_seq *seq;
    result (*alive)(void *ctx);
    void *alive_ctx;
    pthread_cond_t wake;
    /* The scheduler's lock: */
    party *whose;
    seat *next;                        /* in its line */
    enum { SEAT_RESTING, SEAT_STANDING, SEAT_RUNNING } state;
    enum { PLACE_NONE, PLACE_WAITING, PLACE_SEAT } place;
    line_kind stands_in;
    const uint32_t *tokens;            /* of the prompt; or one of each sequence */
    size_t count, done;
    float *logits;                     /* the prompt's */
    model_watch watch;                 /* of the whole prompt */
    model_seq *const *seqs;            /* those that decode, and where their logits go */
    float *const *steps_logits;
    uint64_t step;                     /* the last step that it was in */
    scheduler_turns turns;             /* when its job came; then, others' while it was there */
    bool unwanted;                     /* its caller is gone: end after the chunk */
    error_code code;                   /* a result's message belongs to the worker's thread: copied */
    char message[256];
};

struct scheduler {
    model *engine;
    scheduler_limits limits;
    uint32_t vocab_size;
    pthread_t thread;
    float *logits;                     /* (1 + batch_max, vocab_size), the worker's own: a prompt's, the steps' */
    float *watched;                    /* (SCHEDULER_CHUNK_MAX, vocab_size) where the model marks, else NULL */
    pthread_mutex_t lock;              /* guards all below, and parties and seats */
    pthread_cond_t work;               /* monotonic */
    party *parties;
    uint32_t standing[LINES];          /* all parties together */
    uint32_t seats;
    uint64_t served[LINES];            /* the clock of who was served when: odd; between its ticks parties come */
    scheduler_turns turns;             /* all so far */
    uint64_t decode_steps;
    /* Who of the last turn is not back, until when it is worth waiting for them, what a step without a prompt takes, and
     * until when somebody is held to be writing. */
    uint32_t due;
    double due_until_s, step_s, writing_until_s;
    double token_s;                    /* of the last chunk: how much longer a token of it made the turn */
    bool stopping;
};

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static struct timespec at_s(double s)
{
    time_t whole = (time_t)s;
    return (struct timespec){whole, (long)((s - (double)whole) * 1e9)};
}

static void cond_init_monotonic(pthread_cond_t *cond)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

/* ---- lines and parties; all with the lock held ---------------------------------------------------------- */
static void line_join(seat *t, line_kind kind)
{
    line *l = &t->whose->lines[kind];
    t->next = NULL;
    if (l->last) l->last->next = t; else l->first = t;
    l->last = t;
    t->state = SEAT_STANDING;
    t->stands_in = kind;
    t->s->standing[kind]++;
}

static void line_leave(seat *t)
{
    line *l = &t->whose->lines[t->stands_in];
    seat *before = NULL;
    for (seat *at = l->first; at != t; at = at->next) before = at;
    if (before) before->next = t->next; else l->first = t->next;
    if (l->last == t) l->last = before;
    t->s->standing[t->stands_in]--;
}

static bool may_be_served(const scheduler *s, const party *p, line_kind kind)
{
    return p->lines[kind].first != NULL && (kind != FOR_SEAT || p->seats < s->limits.share_seats);
}

/* The first in line of the party that was served longest ago, or came then; NULL: nobody stands there. */
static seat *serve_next(scheduler *s, line_kind kind)
{
    party *next = NULL;
    for (party *p = s->parties; p != NULL; p = p->next)
        if (may_be_served(s, p, kind) &&
            (next == NULL || (p->served[kind] <= next->served[kind] && !MUTANT(turns_forgotten))))
            next = p;
    if (next == NULL) return NULL;
    next->served[kind] = s->served[kind] += 2;
    seat *t = next->lines[kind].first;
    line_leave(t);
    t->state = SEAT_RUNNING;
    return t;
}

/* Who comes anew comes behind all who wait and before who has just been served, however often it comes. */
static party *party_of(scheduler *s, id128 principal)
{
    if (MUTANT(shares_are_common)) principal = (id128){{0}};
    for (party *p = s->parties; p != NULL; p = p->next)
        if (id_equal(p->principal, principal)) return p;
    party *p = mem_alloc(sizeof *p);
    p->principal = principal;
    for (int i = 0; i < LINES; i++) p->served[i] = s->served[i] - 1;
    p->next = s->parties;
    return s->parties = p;
}

static void party_leave(scheduler *s, party *p)
{
    if (p->seats > 0 || p->waiting > 0) return;
    party **at = &s->parties;
    while (*at != p) at = &(*at)->next;
    *at = p->next;
    mem_free(p);
}

/* ---- jobs ---------------------------------------------------------------------------------------------------- */
/* With the lock held. */
static void seat_finish(seat *t, result r)
{
    scheduler *s = t->s;
    t->turns.chunks = s->turns.chunks - t->turns.chunks;
    t->turns.steps = s->turns.steps - t->turns.steps;
    t->code = r.code;
    snprintf(t->message, sizeof t->message, "%s", is_ok(r) ? "" : r.message);
    t->state = SEAT_RESTING;
    pthread_cond_signal(&t->wake);
}

/* Gives free seats away. With the lock held. */
static void seats_fill(scheduler *s)
{
    seat *t;
    while (s->seats < s->limits.seats_max && (t = serve_next(s, FOR_SEAT)) != NULL) {
        s->seats++;
        t->whose->seats++;
        t->whose->waiting--;
        t->place = PLACE_SEAT;
        seat_finish(t, OK);
    }
}

/* The seat is back from the last step, with another job or for good. With the lock held. */
static void seat_is_back(seat *t)
{
    scheduler *s = t->s;
    if (t->step != s->turns.steps || s->due == 0) return;
    t->step = 0;
    if (--s->due == 0) pthread_cond_signal(&s->work);
}

/* Waits until the seat's job is done or no longer wanted. Called and left with the lock held. */
static result seat_wait(seat *t)
{
    scheduler *s = t->s;
    result stop = OK;
    while (t->state != SEAT_RESTING) {
        struct timespec until = at_s(now_s() + ALIVE_POLL_MS * 1e-3);
        int waited = pthread_cond_timedwait(&t->wake, &s->lock, &until);
        if (waited != ETIMEDOUT || t->alive == NULL || t->unwanted) continue;
        pthread_mutex_unlock(&s->lock);
        stop = t->alive(t->alive_ctx);
        pthread_mutex_lock(&s->lock);
        t->unwanted = !is_ok(stop);
        if (!t->unwanted || t->state != SEAT_STANDING) continue;   /* if it runs, the worker sees it */
        line_leave(t);
        t->state = SEAT_RESTING;
    }
    if (t->unwanted) return stop;
    return t->code == E_OK ? OK : fail(t->code, "%s", t->message);
}

static result seat_run(seat *t, line_kind kind, const uint32_t *tokens, size_t count)
{
    scheduler *s = t->s;
    pthread_mutex_lock(&s->lock);
    ASSERT(t->state == SEAT_RESTING && t->place == PLACE_SEAT && !t->unwanted);
    t->tokens = tokens;
    t->count = count;
    t->done = 0;
    t->turns = s->turns;
    line_join(t, kind);
    seat_is_back(t);
    if (s->due == 0) pthread_cond_signal(&s->work);
    result r = seat_wait(t);
    pthread_mutex_unlock(&s->lock);
    return r;
}

result seat_prefill(seat *t, const uint32_t *tokens, size_t count, float *logits)
{
    return seat_prefill_watched(t, tokens, count, &(model_watch){0}, logits);
}

/* Watched tokens are checked here: the pass that they would spoil is others', too. */
result seat_prefill_watched(seat *t, const uint32_t *tokens, size_t count, const model_watch *watch, float *logits)
{
    ASSERT(count > 0);
    for (size_t i = 0; i < watch->token_count; i++)
        if (watch->tokens[i] >= t->s->vocab_size) return fail(E_INVALID, "a watched token's id is past the vocabulary");
    t->logits = logits;
    t->watch = *watch;
    return seat_run(t, FOR_PROMPT, tokens, count);
}

result seat_decode(seat *t, uint32_t token, float *logits)
{
    return seat_decode_together(t, &t->seq, &token, &logits, 1);
}

result seat_decode_together(seat *t, model_seq *const *seqs, const uint32_t *tokens, float *const *logits, size_t count)
{
    ASSERT(count > 0 && count <= SCHEDULER_TOGETHER_MAX);
    t->seqs = seqs;
    t->steps_logits = logits;
    return seat_run(t, FOR_STEP, tokens, count);
}

/* ---- seats ------------------------------------------------------------------------------------------------- */
/* With the lock held. */
static result seat_take(seat *t, id128 principal)
{
    scheduler *s = t->s;
    const scheduler_limits *l = &s->limits;
    party *p = t->whose = party_of(s, principal);
    if (p->seats + p->waiting >= (uint64_t)l->share_seats + l->share_waiting)
        return fail(E_EXHAUSTED, "your share of %u answers at once and %u waiting is used up; wait for one to end",
                    l->share_seats, l->share_waiting);
    p->waiting++;
    t->place = PLACE_WAITING;
    line_join(t, FOR_SEAT);
    seats_fill(s);
    return seat_wait(t);
}

result seat_open(seat **out, scheduler *s, id128 principal, result (*alive)(void *ctx), void *alive_ctx)
{
    seat *t = *out = mem_alloc(sizeof *t);
    t->s = s;
    t->alive = alive;
    t->alive_ctx = alive_ctx;
    cond_init_monotonic(&t->wake);
    pthread_mutex_lock(&s->lock);
    result r = seat_take(t, principal);
    pthread_mutex_unlock(&s->lock);
    if (is_ok(r)) r = model_seq_open(&t->seq, s->engine);
    if (!is_ok(r)) seat_close(out);
    return r;
}

void seat_close(seat **seat_)
{
    seat *t = *seat_;
    if (t == NULL) return;
    scheduler *s = t->s;
    model_seq_close(&t->seq);
    pthread_mutex_lock(&s->lock);
    ASSERT(t->state == SEAT_RESTING);
    seat_is_back(t);
    t->whose->waiting -= t->place == PLACE_WAITING;
    t->whose->seats -= t->place == PLACE_SEAT;
    s->seats -= t->place == PLACE_SEAT;
    party_leave(s, t->whose);
    seats_fill(s);
    pthread_mutex_unlock(&s->lock);
    pthread_cond_destroy(&t->wake);
    mem_free(t);
    *seat_ = NULL;
}

model_seq *seat_seq(seat *t) { return t->seq; }

scheduler_turns seat_held_up(const seat *t) { return t->turns; }

/* ---- the worker; its turns are called and left with the lock held --------------------------------------------- */
/* What one pass of the engine reads: a token of each sequence that decodes, and a piece of a prompt. */
typedef struct {
    struct { seat *seat; uint32_t count; } parts[SCHEDULER_BATCH_MAX];      /* how many sequences of each seat, in order */
    uint32_t part_count;
    model_seq *seqs[SCHEDULER_BATCH_MAX];
    uint32_t tokens[SCHEDULER_BATCH_MAX];
    float *logits[SCHEDULER_BATCH_MAX];
    uint32_t count;
    seat *reads;                       /* NULL: no prompt */
    model_prompt prompt;
} turn;

/* How many tokens of a prompt this turn reads. While somebody writes no more than can be waited for; 0 now and then, for
 * the time of a step without any is what that is measured by. */
static size_t chunk_size(const scheduler *s, uint32_t decoding)
{
    const scheduler_limits *l = &s->limits;
    if (decoding == 0 && now_s() > s->writing_until_s) return l->chunk_tokens;
    if (decoding > 0 && s->turns.steps % STEPS_A_MEASURE == 0) return 0;
    double tokens = s->token_s > 0 ? s->step_s * l->chunk_hold_percent / 100 / s->token_s : 0;
    size_t most = SCHEDULER_CHUNK_MAX - decoding, n = l->chunk_tokens;
    if (tokens < (double)n) n = (size_t)tokens / SCHEDULER_CHUNK_LEAST * SCHEDULER_CHUNK_LEAST;
    if (n < SCHEDULER_CHUNK_LEAST) n = SCHEDULER_CHUNK_LEAST;
    return n < most ? n : most;
}

static void turn_choose(scheduler *s, turn *t)
{
    t->count = t->part_count = 0;
    t->reads = NULL;
    for (seat *next; t->count < s->limits.batch_max && (next = serve_next(s, FOR_STEP)) != NULL; t->part_count++) {
        uint32_t before = t->count;
        for (size_t i = next->done; i < next->count && t->count < s->limits.batch_max; i++, t->count++) {
            t->seqs[t->count] = next->seqs[i];
            t->tokens[t->count] = next->tokens[i];
            t->logits[t->count] = next->steps_logits[i];
        }
        t->parts[t->part_count].seat = next;
        t->parts[t->part_count].count = t->count - before;
    }
    size_t most = chunk_size(s, t->count);
    if (most == 0 || (t->reads = serve_next(s, FOR_PROMPT)) == NULL) return;
    const seat *r = t->reads;
    size_t left = r->count - r->done, n = left < most ? left : most;
    t->prompt = (model_prompt){r->seq, r->tokens + r->done, n, n == left && r->logits != NULL, r->watch};
    t->prompt.watch.room = s->watched;
    if (r->watch.token_count > 0 && !MUTANT(watch_restarts)) t->prompt.watch.scores += r->done * r->watch.token_count;
}

/* Without the lock. */
static result turn_run(scheduler *s, const turn *t)
{
    float *steps = s->logits + s->vocab_size;
    result r = t->reads == NULL ? model_decode(s->engine, t->seqs, t->tokens, t->count, steps)
                                 : model_decode_beside(s->engine, &t->prompt, t->seqs, t->tokens, t->count, s->logits);
    if (!is_ok(r)) return r;
    size_t size = s->vocab_size * sizeof(float);
    if (t->reads != NULL && t->prompt.wants_logits) memcpy(t->reads->logits, s->logits, size);
    for (uint32_t i = 0; i < t->count; i++) memcpy(t->logits[i], steps + (size_t)i * s->vocab_size, size);
    return OK;
}

static void turn_measure(scheduler *s, const turn *t, double took_s)
{
    if (t->reads == NULL) s->step_s = s->step_s > 0 ? (s->step_s + took_s) / 2 : took_s;
    else if (t->prompt.count >= SCHEDULER_CHUNK_LEAST)
        s->token_s = fmax(took_s - s->step_s, took_s / 8) / (double)t->prompt.count;
}

static void turn_end(scheduler *s, const turn *t, result r)
{
    if (t->reads != NULL) s->turns.chunks++;
    if (t->count > 0) s->turns.steps++;
    s->decode_steps += t->count;
    s->due = 0;
    for (uint32_t i = 0; i < t->part_count; i++) {
        seat *one = t->parts[i].seat;
        one->turns.steps++;
        one->turns.chunks += t->reads != NULL;
        one->done += t->parts[i].count;
        if (one->done < one->count && !one->unwanted && is_ok(r)) {     /* the step was full */
            line_join(one, FOR_STEP);
            continue;
        }
        one->step = s->turns.steps;
        s->due++;
        seat_finish(one, r);
    }
    seat *reads = t->reads;
    if (reads == NULL) return;
    reads->turns.chunks++;
    reads->turns.steps += t->count > 0;
    reads->done += t->prompt.count;
    if (reads->done == reads->count || reads->unwanted || !is_ok(r)) seat_finish(reads, r);
    else line_join(reads, FOR_PROMPT);
}

static void take_turn(scheduler *s)
{
    turn t;
    turn_choose(s, &t);
    pthread_mutex_unlock(&s->lock);
    double start = now_s();
    result r = turn_run(s, &t);
    double end = now_s(), took = end - start;
    pthread_mutex_lock(&s->lock);
    turn_measure(s, &t, took);
    s->due_until_s = end + fmax(took * GATHER_PART, GATHER_LEAST_S);
    if (t.count > 0 || (t.reads != NULL && t.prompt.wants_logits)) s->writing_until_s = end + WRITING_S;
    turn_end(s, &t, r);
}

/* Waits for work and then, a little, for those of the last step who are not back: one step of all is cheaper than two
 * of some each. False: the scheduler closes. */
static bool await_work(scheduler *s)
{
    while (!s->stopping && (s->due > 0 || s->standing[FOR_STEP] + s->standing[FOR_PROMPT] == 0)) {
        struct timespec until = at_s(s->due_until_s);
        if (s->due == 0) pthread_cond_wait(&s->work, &s->lock);
        else if (pthread_cond_timedwait(&s->work, &s->lock, &until) == ETIMEDOUT) s->due = 0;
    }
    return !s->stopping;
}

static void *worker(void *arg)
{
    scheduler *s = arg;
    pthread_mutex_lock(&s->lock);
    while (await_work(s)) take_turn(s);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */
static size_t logits_count(const scheduler *s) { return (1 + (size_t)s->limits.batch_max) * s->vocab_size; }
static size_t watched_count(const scheduler *s) { return (size_t)SCHEDULER_CHUNK_MAX * s->vocab_size; }

static result logits_open(scheduler *s)
{
    TRY(model_logits_open(&s->logits, s->engine, logits_count(s)));
    return model_marks_of(s->engine) ? model_logits_open(&s->watched, s->engine, watched_count(s)) : OK;
}

static void logits_close(scheduler *s)
{
    model_logits_close(s->engine, &s->logits, logits_count(s));
    model_logits_close(s->engine, &s->watched, watched_count(s));
}

result scheduler_open(scheduler **out, model *m, const scheduler_limits *limits)
{
    ASSERT(limits->batch_max >= 1 && limits->batch_max <= SCHEDULER_BATCH_MAX);
    ASSERT(limits->share_seats >= 1 && limits->seats_max >= limits->share_seats);
    ASSERT(limits->chunk_tokens >= SCHEDULER_CHUNK_LEAST && limits->chunk_tokens <= SCHEDULER_CHUNK_MAX);
    scheduler *s = mem_alloc(sizeof *s);
    s->engine = m;
    s->limits = *limits;
    for (int i = 0; i < LINES; i++) s->served[i] = 1;
    s->vocab_size = model_describe(m)->vocab_size;
    *out = NULL;
    result r = logits_open(s);
    if (!is_ok(r)) {
        logits_close(s);
        mem_free(s);
        return r;
    }
    pthread_mutex_init(&s->lock, NULL);
    cond_init_monotonic(&s->work);
    if (pthread_create(&s->thread, NULL, worker, s) != 0) {
        logits_close(s);
        mem_free(s);
        return fail(E_UNAVAILABLE, "cannot start the engine's thread");
    }
    *out = s;
    return OK;
}

void scheduler_close(scheduler **s_)
{
    scheduler *s = *s_;
    if (s == NULL) return;
    pthread_mutex_lock(&s->lock);
    ASSERT(s->parties == NULL);
    s->stopping = true;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->lock);
    logits_close(s);
    mem_free(s);
    *s_ = NULL;
}

void scheduler_figures_now(scheduler *s, scheduler_figures *out)
{
    pthread_mutex_lock(&s->lock);
    out->decode_steps = s->decode_steps;
    out->turns = s->turns;
    out->sequences_active = s->seats;
    out->sequences_waiting = s->standing[FOR_SEAT];
    pthread_mutex_unlock(&s->lock);
}
