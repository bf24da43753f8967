/* The helpers spin for some microseconds between pieces (a token has about a hundred of them) and
 * sleep after that, so that an idle server costs nothing. */
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { SPIN_ROUNDS = 2000 };

typedef struct { pool *p; uint32_t part; pthread_t thread; } helper;

struct pool {
    uint32_t threads, started;
    pthread_mutex_t user;                 /* held by the one caller whose work is under way */
    pthread_mutex_t lock;                 /* guards sleeping on wake */
    pthread_cond_t wake;
    void (*work)(void *ctx, uint32_t part, uint32_t parts);   /* published by generation */
    void *ctx;
    atomic_uint generation, pending;
    atomic_bool stop;
    helper helpers[POOL_THREADS_MAX];
};

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void wait_for_work(pool *p, unsigned seen)
{
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (atomic_load_explicit(&p->generation, memory_order_acquire) != seen) return;
        relax();
    }
    pthread_mutex_lock(&p->lock);
    while (atomic_load_explicit(&p->generation, memory_order_acquire) == seen)
        pthread_cond_wait(&p->wake, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

static void *helper_main(void *arg)
{
    helper *h = arg;
    pool *p = h->p;
    for (unsigned seen = 0;; seen++) {
        wait_for_work(p, seen);
        if (atomic_load(&p->stop)) return NULL;
        p->work(p->ctx, h->part, p->threads);
        atomic_fetch_sub_explicit(&p->pending, 1, memory_order_release);
    }
}

static void publish(pool *p)
{
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add_explicit(&p->generation, 1, memory_order_release);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

result pool_open(pool **out, uint32_t threads)
{
    *out = NULL;
    ASSERT(threads >= 1 && threads <= POOL_THREADS_MAX);
    pool *p = mem_alloc(sizeof *p);
    p->threads = threads;
    pthread_mutex_init(&p->user, NULL);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    for (uint32_t i = 0; i + 1 < threads; i++) {
        p->helpers[i] = (helper){.p = p, .part = i + 1};
        if (pthread_create(&p->helpers[i].thread, NULL, helper_main, &p->helpers[i]) != 0) {
            pool_close(&p);
            return fail(E_UNAVAILABLE, "cannot start the engine's threads");
        }
        p->started++;
    }
    *out = p;
    return OK;
}

void pool_close(pool **pp)
{
    pool *p = *pp;
    if (p == NULL) return;
    atomic_store(&p->stop, true);
    publish(p);
    for (uint32_t i = 0; i < p->started; i++) pthread_join(p->helpers[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->user);
    mem_free(p);
    *pp = NULL;
}

void pool_run(pool *p, void (*work)(void *ctx, uint32_t part, uint32_t parts), void *ctx)
{
    if (p->threads == 1 || pthread_mutex_trylock(&p->user) != 0) {
        work(ctx, 0, 1);
        return;
    }
    p->work = work;
    p->ctx = ctx;
    atomic_store_explicit(&p->pending, p->started, memory_order_relaxed);
    publish(p);
    work(ctx, 0, p->threads);
    for (int i = 0; atomic_load_explicit(&p->pending, memory_order_acquire) != 0; i++) {
        if (i < SPIN_ROUNDS) relax();
        else sched_yield();
    }
    pthread_mutex_unlock(&p->user);
}
