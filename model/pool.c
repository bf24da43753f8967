/* A piece is cut into more parts than there are threads, which take them one by one; the caller takes
 * whatever no helper has come for. So a helper that the machine runs late costs nothing but its help.
 *
 * The helpers spin for some tens of microseconds between pieces (a token has about a hundred of
 * them) and sleep after that, so that an idle server costs nothing. */
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { SPIN_ROUNDS = 1000, PARTS_PER_THREAD = 2 };

struct pool {
    uint32_t threads, started, parts;
    pthread_mutex_t user;                 /* held by the one caller whose piece is under way */
    /* Piece number << 32 | next part. Whoever takes a part below parts may read work and ctx: the
     * caller changes them only when every part is done. */
    _Atomic uint64_t ticket;
    atomic_uint done, sleepers;
    atomic_bool stop;
    void (*work)(void *ctx, uint32_t part, uint32_t parts);
    void *ctx;
    pthread_mutex_t lock;                 /* guards sleeping on wake */
    pthread_cond_t wake;
    pthread_t helpers[POOL_THREADS_MAX];
};

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static uint32_t piece_of(uint64_t ticket) { return (uint32_t)(ticket >> 32); }

static void take_parts(pool *p)
{
    for (;;) {
        uint32_t part = (uint32_t)atomic_fetch_add(&p->ticket, 1);
        if (part >= p->parts) return;
        p->work(p->ctx, part, p->parts);
        atomic_fetch_add(&p->done, 1);
    }
}

/* Returns once the piece is no longer the one that was seen. */
static void wait_for_piece(pool *p, uint32_t seen)
{
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (piece_of(atomic_load(&p->ticket)) != seen) return;
        relax();
    }
    stack_wipe(POOL_STACK_WIPED);
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleepers, 1);
    while (piece_of(atomic_load(&p->ticket)) == seen) pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->lock);
}

static void *helper_main(void *arg)
{
    pool *p = arg;
    for (uint32_t seen = 0;;) {
        wait_for_piece(p, seen);
        seen = piece_of(atomic_load(&p->ticket));
        if (atomic_load(&p->stop)) {
            stack_wipe(POOL_STACK_WIPED);
            return NULL;
        }
        take_parts(p);
    }
}

/* The next piece, at its given part; wakes who sleeps. A helper counts itself among the sleepers
 * before it looks at the ticket again, so it is either seen here or sees the new piece. */
static void publish(pool *p, uint32_t first_part)
{
    uint64_t piece = piece_of(atomic_load(&p->ticket)) + 1u;
    atomic_store(&p->ticket, (uint64_t)(uint32_t)piece << 32 | first_part);
    if (atomic_load(&p->sleepers) == 0) return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

result pool_open(pool **out, uint32_t threads)
{
    *out = NULL;
    ASSERT(threads >= 1 && threads <= POOL_THREADS_MAX);
    pool *p = mem_alloc(sizeof *p);
    p->threads = threads;
    p->parts = threads * PARTS_PER_THREAD;
    atomic_store(&p->ticket, p->parts);   /* piece 0 has nothing left to take */
    pthread_mutex_init(&p->user, NULL);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    for (; p->started + 1 < threads; p->started++)
        if (pthread_create(&p->helpers[p->started], NULL, helper_main, p) != 0) {
            pool_close(&p);
            return fail(E_UNAVAILABLE, "cannot start the engine's threads");
        }
    *out = p;
    return OK;
}

void pool_close(pool **pp)
{
    pool *p = *pp;
    if (p == NULL) return;
    atomic_store(&p->stop, true);
    publish(p, p->parts);
    for (uint32_t i = 0; i < p->started; i++) pthread_join(p->helpers[i], NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->user);
    mem_free(p);
    *pp = NULL;
}

uint32_t pool_parts(const pool *p) { return p->parts; }

void pool_run(pool *p, void (*work)(void *ctx, uint32_t part, uint32_t parts), void *ctx)
{
    if (p->threads == 1 || pthread_mutex_trylock(&p->user) != 0) {
        work(ctx, 0, 1);
        return;
    }
    p->work = work;
    p->ctx = ctx;
    atomic_store(&p->done, 0);
    publish(p, 0);
    take_parts(p);
    for (int i = 0; atomic_load(&p->done) < p->parts; i++) {
        if (i < SPIN_ROUNDS) relax();
        else sched_yield();
    }
    pthread_mutex_unlock(&p->user);
}
