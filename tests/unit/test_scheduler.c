/* The scheduler's promises, on a random model: shares of one's own, turns, chunks, cancellation, and the same bits as
 * alone. What is counted is counted by the scheduler under its lock, so that no check depends on how fast threads are. */
#include "server/scheduler.h"

#include "golden/random_model.h"
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { VOCAB = RANDOM_MODEL_TOKENS, ENDLESS = 1 << 20, WAIT_STEPS = 20000 };

static char folder[256];
static model *engine;
static const id128 ada = {{1}}, bob = {{2}}, cay = {{3}};
static uint32_t tokens[ENDLESS];

static void setup(void)
{
    char path[300];
    test_tmpdir(folder);
    gen_config c = {.d_model = 32, .d_inner = 64, .d_state = 8, .d_conv = 4, .dt_rank = 2, .use_conv_bias = true,
                    .tied = true, .type = GEN_F32, .seed = 5, .layers = 2, .vocab = VOCAB};
    snprintf(path, sizeof path, "%s/model", folder);
    ASSERT(is_ok(dir_make(path, 0700)) && random_model_write(path, &c));
    const model_options options = {.threads = 1};
    ASSERT(is_ok(model_open(&engine, path, &options)));
    for (uint32_t i = 0; i < ENDLESS; i++) tokens[i] = i * 7919 % VOCAB;
}

static scheduler *begin(scheduler_limits limits)
{
    scheduler *s;
    ASSERT(is_ok(scheduler_open(&s, engine, &limits)));
    return s;
}

static scheduler_figures figures(scheduler *s)
{
    scheduler_figures f;
    scheduler_figures_now(s, &f);
    return f;
}

/* ---- one asker on a thread of its own ---------------------------------------------------------------------- */
typedef struct {
    scheduler *s;
    id128 who;
    size_t prompt, steps;              /* tokens read, tokens written */
    uint32_t first;                    /* of tokens, where its prompt begins */
    atomic_int *stop;                  /* set: cancelled; NULL: never */
    seat *seat;
    bool keep;                         /* leave the seat open */
    error_code code;
    scheduler_turns prompt_held_up, step_held_up;   /* of its steps, the most */
    float logits[VOCAB];               /* the last */
    uint32_t written[64];
    pthread_t thread;
} asker;

static result stopped(void *ctx)
{
    return atomic_load((atomic_int *)ctx) ? fail(E_CANCELLED, "stopped") : OK;
}

static uint32_t best_of(const float *logits)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < VOCAB; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static result ask(asker *a)
{
    TRY(seat_open(&a->seat, a->s, a->who, a->stop ? stopped : NULL, a->stop));
    if (a->prompt == 0) return OK;
    TRY(seat_prefill(a->seat, tokens + a->first, a->prompt, a->logits));
    a->prompt_held_up = seat_held_up(a->seat);
    for (size_t i = 0; i < a->steps; i++) {
        a->written[i] = best_of(a->logits);
        TRY(seat_decode(a->seat, a->written[i], a->logits));
        scheduler_turns t = seat_held_up(a->seat);
        if (t.chunks > a->step_held_up.chunks) a->step_held_up.chunks = t.chunks;
        if (t.steps > a->step_held_up.steps) a->step_held_up.steps = t.steps;
    }
    return OK;
}

static void *ask_run(void *arg)
{
    asker *a = arg;
    a->code = ask(a).code;
    if (!a->keep) seat_close(&a->seat);
    return NULL;
}

static void ask_start(asker *a) { ASSERT(pthread_create(&a->thread, NULL, ask_run, a) == 0); }

static error_code ask_join(asker *a)
{
    pthread_join(a->thread, NULL);
    return a->code;
}

static asker seat_for(scheduler *s, id128 who) { return (asker){.s = s, .who = who, .keep = true}; }

/* Until so many wait for a seat. */
static bool await_waiting(scheduler *s, uint32_t count)
{
    for (int i = 0; i < WAIT_STEPS && figures(s).sequences_waiting != count; i++) usleep(500);
    return figures(s).sequences_waiting == count;
}

/* Until so many sit and some chunks have been read. */
static bool await_readers(scheduler *s, uint32_t count)
{
    for (int i = 0; i < WAIT_STEPS && (figures(s).sequences_active < count || figures(s).turns.chunks < 8); i++)
        usleep(100);
    return figures(s).sequences_active == count && figures(s).turns.chunks >= 8;
}

/* ---- shares --------------------------------------------------------------------------------------------------- */
/* Seats and places to wait are each principal's own: who has used them up is refused, and nobody else is. */
static void refused_by_ones_own_share_alone(void)
{
    scheduler *s = begin((scheduler_limits){4, 8, 2, 1, 64, 100});
    asker a[3] = {seat_for(s, ada), seat_for(s, ada), seat_for(s, ada)}, b = seat_for(s, bob);
    seat *more;
    for (int i = 0; i < 2; i++) {
        (void)ask_run(&a[i]);
        CHECK(a[i].code == E_OK);
    }
    ask_start(&a[2]);
    CHECK(await_waiting(s, 1));
    CHECK_FAILS(seat_open(&more, s, ada, NULL, NULL), E_EXHAUSTED);
    CHECK(more == NULL);
    /* All of ada's are used up; bob's are not. */
    (void)ask_run(&b);
    CHECK(b.code == E_OK && figures(s).sequences_waiting == 1);
    seat_close(&a[0].seat);
    CHECK(ask_join(&a[2]) == E_OK && figures(s).sequences_waiting == 0);
    for (int i = 1; i < 3; i++) seat_close(&a[i].seat);
    seat_close(&b.seat);
    CHECK(figures(s).sequences_active == 0);
    scheduler_close(&s);
}

/* Where others have all seats, one waits within one's share, even with no places to wait; never is it an error. */
static void others_seats_cost_time_alone(void)
{
    scheduler *s = begin((scheduler_limits){4, 2, 2, 0, 64, 100});
    asker a[2] = {seat_for(s, ada), seat_for(s, ada)}, b[2] = {seat_for(s, bob), seat_for(s, bob)}, c = seat_for(s, cay);
    seat *more;
    for (int i = 0; i < 2; i++) (void)ask_run(&a[i]);
    for (int i = 0; i < 2; i++) ask_start(&b[i]);
    CHECK(await_waiting(s, 2));
    CHECK_FAILS(seat_open(&more, s, bob, NULL, NULL), E_EXHAUSTED);
    ask_start(&c);
    CHECK(await_waiting(s, 3));
    /* Both free seats are not bob's, who came first: one each. */
    seat_close(&a[0].seat);
    CHECK(await_waiting(s, 2));
    seat_close(&a[1].seat);
    CHECK(ask_join(&c) == E_OK && await_waiting(s, 1));
    seat_close(&c.seat);
    for (int i = 0; i < 2; i++) {
        CHECK(ask_join(&b[i]) == E_OK);
        seat_close(&b[i].seat);
    }
    scheduler_close(&s);
}

/* ---- turns ------------------------------------------------------------------------------------------------------ */
/* Four prompts of ada's without end: bob's short ones wait for one chunk, and so do his steps. */
static void long_prompts_of_one_hold_up_a_chunk(void)
{
    scheduler *s = begin((scheduler_limits){8, 8, 4, 0, 16, 100});
    atomic_int stop = 0;
    asker a[4];
    for (int i = 0; i < 4; i++) {
        a[i] = (asker){.s = s, .who = ada, .prompt = ENDLESS, .stop = &stop};
        ask_start(&a[i]);
    }
    CHECK(await_readers(s, 4));
    for (int i = 0; i < 8; i++) {
        asker b = {.s = s, .who = bob, .prompt = 8, .steps = 8};
        (void)ask_run(&b);
        CHECK(b.code == E_OK && b.prompt_held_up.chunks <= 1 && b.step_held_up.chunks <= 1);
    }
    /* A long one of his own takes turns with hers, chunk by chunk of 8 to 16 tokens. */
    asker b = {.s = s, .who = bob, .prompt = 16 * 12};
    (void)ask_run(&b);
    CHECK(b.code == E_OK && b.prompt_held_up.chunks >= 8 && b.prompt_held_up.chunks <= 24);
    CHECK(figures(s).sequences_active == 4);
    atomic_store(&stop, 1);
    for (int i = 0; i < 4; i++) CHECK(ask_join(&a[i]) == E_CANCELLED);
    scheduler_close(&s);
}

/* Of more who write than a step takes, each principal has its turn in each: bob is in the next one that begins. */
static void steps_are_shared_out(void)
{
    scheduler *s = begin((scheduler_limits){2, 8, 6, 0, 64, 100});
    asker a[7];
    for (int i = 0; i < 7; i++) {
        a[i] = (asker){.s = s, .who = i < 6 ? ada : bob, .prompt = 1, .steps = 60};
        ask_start(&a[i]);
    }
    for (int i = 0; i < 7; i++) CHECK(ask_join(&a[i]) == E_OK);
    CHECK(a[6].step_held_up.steps <= 1);
    CHECK(figures(s).decode_steps == 7 * 60 && figures(s).turns.steps >= 7 * 60 / 2);
    scheduler_close(&s);
}

/* ---- cancellation --------------------------------------------------------------------------------------------- */
static void cancelled_while_waiting_for_a_seat(void)
{
    scheduler *s = begin((scheduler_limits){4, 1, 1, 1, 64, 100});
    atomic_int stop = 0;
    asker a = seat_for(s, ada), b = {.s = s, .who = bob, .stop = &stop};
    (void)ask_run(&a);
    ask_start(&b);
    CHECK(await_waiting(s, 1));
    atomic_store(&stop, 1);
    CHECK(ask_join(&b) == E_CANCELLED && figures(s).sequences_waiting == 0);
    seat_close(&a.seat);
    asker c = seat_for(s, bob);
    (void)ask_run(&c);
    CHECK(c.code == E_OK);
    seat_close(&c.seat);
    scheduler_close(&s);
}

/* A prompt that is no longer wanted is read no further; others are not touched. */
static void cancelled_while_reading(void)
{
    scheduler *s = begin((scheduler_limits){4, 4, 2, 0, 16, 100});
    atomic_int stop = 0;
    asker a = {.s = s, .who = ada, .prompt = 900}, b = {.s = s, .who = bob, .prompt = ENDLESS, .stop = &stop, .keep = true};
    ask_start(&b);
    CHECK(await_readers(s, 1));
    ask_start(&a);
    atomic_store(&stop, 1);
    CHECK(ask_join(&b) == E_CANCELLED && ask_join(&a) == E_OK);
    CHECK(model_seq_length(seat_seq(b.seat)) >= 64 && model_seq_length(seat_seq(b.seat)) < ENDLESS);
    seat_close(&b.seat);
    CHECK(figures(s).sequences_active == 0);
    scheduler_close(&s);
}

/* ---- the same bits ------------------------------------------------------------------------------------------------ */
static bool as_alone(const asker *a)
{
    static float logits[VOCAB];
    model_seq *seq;
    ASSERT(is_ok(model_seq_open(&seq, engine)));
    ASSERT(is_ok(model_prefill(seq, tokens + a->first, a->prompt, logits, NULL, NULL)));
    bool same = true;
    for (size_t i = 0; i < a->steps; i++) {
        same &= best_of(logits) == a->written[i];
        ASSERT(is_ok(model_decode(engine, &seq, &a->written[i], 1, logits)));
    }
    model_seq_close(&seq);
    return same && memcmp(logits, a->logits, sizeof logits) == 0;
}

/* Sequences that join and leave between steps, of several principals, more than there are seats. */
static void together_as_alone(void)
{
    enum { ASKERS = 24 };
    static asker a[ASKERS];
    const id128 whose[] = {ada, bob, cay};
    for (uint32_t round = 0; round < 4; round++) {
        scheduler *s = begin((scheduler_limits){1 + round * 3, 6, 3, 8, 16 + 37 * round, 100});
        for (uint32_t i = 0; i < ASKERS; i++) {
            a[i] = (asker){.s = s, .who = whose[i % 3], .prompt = 1 + (i * 131 + round * 17) % 400,
                           .steps = (i * 29 + round) % 64, .first = i * 11};
            ask_start(&a[i]);
            if (i % 5 == 0) usleep(300);
        }
        for (uint32_t i = 0; i < ASKERS; i++) CHECK(ask_join(&a[i]) == E_OK && as_alone(&a[i]));
        CHECK(figures(s).sequences_active == 0 && figures(s).sequences_waiting == 0);
        scheduler_close(&s);
    }
}

/* ---- watched prompts ----------------------------------------------------------------------------------------------- */
enum { WATCHED_PROMPT = 500, WATCHED = 3 };
static const uint32_t watched[WATCHED] = {VOCAB - 1, 0, 77};

/* Of tokens from first on, read one by one: the scores, and the last logits. */
static void watch_alone(uint32_t first, size_t count, float *scores, float *logits)
{
    model_seq *seq;
    ASSERT(is_ok(model_seq_open(&seq, engine)));
    for (size_t i = 0; i < count; i++) {
        ASSERT(is_ok(model_decode(engine, &seq, &tokens[first + i], 1, logits)));
        for (size_t k = 0; scores != NULL && k < WATCHED; k++) scores[i * WATCHED + k] = logits[watched[k]];
    }
    model_seq_close(&seq);
}

/* Reads on, a token a step, until it is stopped. */
typedef struct { seat *seat; atomic_int stop; size_t steps; float logits[VOCAB]; pthread_t thread; error_code code; } writer;

static void *write_on(void *arg)
{
    writer *w = arg;
    while (!atomic_load(&w->stop) && w->steps < ENDLESS && w->code == E_OK)
        w->code = seat_decode(w->seat, tokens[w->steps++], w->logits).code;
    return NULL;
}

/* Whether steps were made meanwhile. */
static bool watch_beside(scheduler *s, uint32_t first, bool wants_logits)
{
    static float got[WATCHED_PROMPT * WATCHED], want[WATCHED_PROMPT * WATCHED], logits[VOCAB], last[VOCAB];
    seat *t;
    ASSERT(is_ok(seat_open(&t, s, ada, NULL, NULL)));
    const model_watch watch = {watched, WATCHED, got, NULL};
    uint64_t chunks = figures(s).turns.chunks, steps = figures(s).turns.steps;
    for (size_t i = 0; i < WATCHED_PROMPT * WATCHED; i++) got[i] = -1;
    CHECK_OK(seat_prefill_watched(t, tokens + first, WATCHED_PROMPT, &watch, wants_logits ? logits : NULL));
    CHECK(figures(s).turns.chunks - chunks >= WATCHED_PROMPT / 64);
    steps = figures(s).turns.steps - steps;
    watch_alone(first, WATCHED_PROMPT, want, last);
    CHECK(memcmp(got, want, sizeof got) == 0);
    CHECK(!wants_logits || memcmp(logits, last, sizeof last) == 0);
    /* What it reads then without one is not watched, and goes on from there. */
    CHECK_OK(seat_prefill(t, tokens + first + WATCHED_PROMPT, 70, logits));
    CHECK(memcmp(got, want, sizeof got) == 0);
    watch_alone(first, WATCHED_PROMPT + 70, NULL, last);
    CHECK(memcmp(logits, last, sizeof last) == 0);
    seat_close(&t);
    return steps > 0;
}

/* Over several chunks, alone and beside somebody's steps. Mutant: watch_restarts. */
static void watched_in_chunks(void)
{
    scheduler *s = begin((scheduler_limits){4, 4, 2, 0, 64, 100});
    static writer w;
    static float last[VOCAB];
    CHECK(!watch_beside(s, 3, true));
    CHECK_OK(seat_open(&w.seat, s, bob, NULL, NULL));
    ASSERT(pthread_create(&w.thread, NULL, write_on, &w) == 0);
    uint32_t beside = 0;
    for (uint32_t i = 0; i < WAIT_STEPS && beside < 4; i++) beside += watch_beside(s, 11 * i, i % 2 == 0);
    CHECK(beside == 4);
    atomic_store(&w.stop, 1);
    pthread_join(w.thread, NULL);
    CHECK(w.code == E_OK && w.steps > 0);
    watch_alone(0, w.steps, NULL, last);
    CHECK(memcmp(w.logits, last, sizeof last) == 0);
    seat_close(&w.seat);
    scheduler_close(&s);
}

/* A bad id is its caller's alone: nothing is read, and no turn is spent. */
static void watched_ids_are_checked(void)
{
    scheduler *s = begin((scheduler_limits){4, 4, 2, 0, 64, 100});
    const uint32_t past[2] = {0, VOCAB};
    float scores[20], logits[VOCAB];
    seat *t;
    CHECK_OK(seat_open(&t, s, ada, NULL, NULL));
    CHECK_FAILS(seat_prefill_watched(t, tokens, 10, &(model_watch){past, 2, scores, NULL}, logits), E_INVALID);
    CHECK(model_seq_length(seat_seq(t)) == 0 && figures(s).turns.chunks == 0);
    CHECK_OK(seat_prefill_watched(t, tokens, 10, &(model_watch){past, 1, scores, NULL}, NULL));
    CHECK(model_seq_length(seat_seq(t)) == 10);
    seat_close(&t);
    scheduler_close(&s);
}

/* ---- steps together ---------------------------------------------------------------------------------------------- */
/* One that does not come back holds nobody up for long, and is in no step. */
static void who_stays_away_is_not_waited_for(void)
{
    scheduler *s = begin((scheduler_limits){4, 4, 4, 0, 64, 100});
    asker away = {.s = s, .who = ada, .prompt = 5, .steps = 1, .keep = true}, b = {.s = s, .who = bob, .prompt = 5, .steps = 60};
    (void)ask_run(&away);
    (void)ask_run(&b);
    CHECK(away.code == E_OK && b.code == E_OK && as_alone(&b));
    CHECK(figures(s).decode_steps == 61 && figures(s).turns.steps == 61);
    seat_close(&away.seat);
    scheduler_close(&s);
}

/* More sequences of one seat than a step has place for, beside another who writes: each reads its token once, and gives
 * the bits that it gives alone. */
static void a_seats_sequences_together(void)
{
    enum { COUNT = SCHEDULER_TOGETHER_MAX };
    scheduler *s = begin((scheduler_limits){3, 4, 2, 0, 64, 100});
    static float got[COUNT][VOCAB], alone[VOCAB];
    model_seq *seqs[COUNT], *one;
    float *logits[COUNT];
    asker a = {.s = s, .who = ada, .prompt = 9, .keep = true}, b = {.s = s, .who = bob, .prompt = 5, .steps = 60};
    (void)ask_run(&a);
    NEED(a.code == E_OK);
    buf state;
    buf_init(&state, 1 << 20);
    CHECK_OK(model_seq_snapshot(seat_seq(a.seat), &state));
    for (int i = 0; i < COUNT; i++) {
        CHECK_OK(model_seq_open(&seqs[i], engine));
        CHECK_OK(model_seq_restore(seqs[i], buf_bytes(&state)));
        logits[i] = got[i];
    }
    ask_start(&b);
    for (int step = 0; step < 5; step++) CHECK_OK(seat_decode_together(a.seat, seqs, tokens + 50 * step, logits, COUNT));
    CHECK(ask_join(&b) == E_OK && as_alone(&b));
    CHECK(figures(s).decode_steps == 60 + 5 * COUNT);
    for (int i = 0; i < COUNT; i++) {
        CHECK_OK(model_seq_open(&one, engine));
        CHECK_OK(model_seq_restore(one, buf_bytes(&state)));
        for (int step = 0; step < 5; step++) CHECK_OK(model_decode(engine, &one, tokens + 50 * step + i, 1, alone));
        CHECK(memcmp(alone, got[i], sizeof alone) == 0);
        model_seq_close(&one);
        model_seq_close(&seqs[i]);
    }
    buf_free(&state);
    seat_close(&a.seat);
    scheduler_close(&s);
}

/* Back after a pause so long that prompts are read in the longest chunks again: the step finds room beside one. */
static void back_after_a_pause(void)
{
    scheduler *s = begin((scheduler_limits){4, 4, 4, 0, SCHEDULER_CHUNK_MAX, 100});
    atomic_int stop = 0;
    asker a = {.s = s, .who = ada, .prompt = ENDLESS, .stop = &stop};
    asker b = {.s = s, .who = bob, .prompt = 5, .keep = true};
    (void)ask_run(&b);
    sleep(2);
    ask_start(&a);
    CHECK(b.code == E_OK && await_readers(s, 2));
    for (; b.steps < 3; b.steps++) {
        b.written[b.steps] = best_of(b.logits);
        CHECK_OK(seat_decode(b.seat, b.written[b.steps], b.logits));
    }
    CHECK(as_alone(&b));
    seat_close(&b.seat);
    atomic_store(&stop, 1);
    CHECK(ask_join(&a) == E_CANCELLED);
    scheduler_close(&s);
}

int main(void)
{
    setup();
    RUN(refused_by_ones_own_share_alone);
    RUN(others_seats_cost_time_alone);
    RUN(long_prompts_of_one_hold_up_a_chunk);
    RUN(steps_are_shared_out);
    RUN(cancelled_while_waiting_for_a_seat);
    RUN(cancelled_while_reading);
    RUN(together_as_alone);
    RUN(watched_in_chunks);
    RUN(watched_ids_are_checked);
    RUN(who_stays_away_is_not_waited_for);
    RUN(a_seats_sequences_together);
    RUN(back_after_a_pause);
    model_close(&engine);
    test_tmpdir_remove(folder);
    return DONE();
}
