#include "rpc_pool.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

/* POOL_STACK_BYTES: what a call may have left on its stack below this, wiped after each. */
enum { POOL_IDLE_SECONDS = 20, POOL_STACK_BYTES = 64 << 10 };

typedef struct worker worker;
struct worker {
    rpc_pool *pool;
    pthread_t thread;
    enum { WORKER_ABSENT, WORKER_IDLE, WORKER_BUSY, WORKER_ENDED } state;   /* pool->mutex */
    void (*fn)(void *arg);
    void *arg;
    pthread_cond_t work;
    worker *next_idle;              /* most recently used first, so that the others may end */
};

struct rpc_pool {
    pthread_mutex_t mutex;
    worker *workers;
    size_t worker_max;
    worker *idle;
    bool closing;
};

void rpc_pool_open(rpc_pool **out, uint32_t threads_max)
{
    ASSERT(threads_max > 0);
    rpc_pool *pool = mem_alloc(sizeof *pool);
    pool->workers = mem_alloc_array(threads_max, sizeof *pool->workers);
    pool->worker_max = threads_max;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    for (size_t i = 0; i < pool->worker_max; i++) {
        pool->workers[i].pool = pool;
        pthread_cond_init(&pool->workers[i].work, &monotonic);
    }
    pthread_condattr_destroy(&monotonic);
    *out = pool;
}

static void idle_remove(rpc_pool *pool, const worker *w)
{
    for (worker **at = &pool->idle; *at != NULL; at = &(*at)->next_idle) {
        if (*at == w) {
            *at = w->next_idle;
            return;
        }
    }
}

/* Waits, idle and under the mutex, for work. False: the thread shall end. */
static bool worker_wait(worker *w)
{
    rpc_pool *pool = w->pool;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += POOL_IDLE_SECONDS;
    int waited = 0;
    while (w->state == WORKER_IDLE && !pool->closing && waited != ETIMEDOUT)
        waited = pthread_cond_timedwait(&w->work, &pool->mutex, &until);
    if (w->state == WORKER_BUSY) return true;
    idle_remove(pool, w);
    return false;
}

static void *worker_main(void *arg)
{
    worker *w = arg;
    rpc_pool *pool = w->pool;
    pthread_mutex_lock(&pool->mutex);
    do {
        pthread_mutex_unlock(&pool->mutex);
        w->fn(w->arg);
        stack_wipe(POOL_STACK_BYTES);
        pthread_mutex_lock(&pool->mutex);
        w->state = WORKER_IDLE;
        w->next_idle = pool->idle;
        pool->idle = w;
    } while (worker_wait(w));
    w->state = WORKER_ENDED;
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

static bool worker_start(rpc_pool *pool, void (*fn)(void *arg), void *arg)
{
    for (size_t i = 0; i < pool->worker_max; i++) {
        worker *w = &pool->workers[i];
        if (w->state == WORKER_IDLE || w->state == WORKER_BUSY) continue;
        if (w->state == WORKER_ENDED) pthread_join(w->thread, NULL);
        w->fn = fn;
        w->arg = arg;
        bool started = pthread_create(&w->thread, NULL, worker_main, w) == 0;
        w->state = started ? WORKER_BUSY : WORKER_ABSENT;
        return started;
    }
    return false;
}

bool rpc_pool_run(rpc_pool *pool, void (*fn)(void *arg), void *arg)
{
    pthread_mutex_lock(&pool->mutex);
    ASSERT(!pool->closing);
    worker *w = pool->idle;
    bool running = true;
    if (w != NULL) {
        pool->idle = w->next_idle;
        w->fn = fn;
        w->arg = arg;
        w->state = WORKER_BUSY;
        pthread_cond_signal(&w->work);
    } else {
        running = worker_start(pool, fn, arg);
    }
    pthread_mutex_unlock(&pool->mutex);
    return running;
}

void rpc_pool_close(rpc_pool **pool_)
{
    rpc_pool *pool = *pool_;
    if (pool == NULL) return;
    pthread_mutex_lock(&pool->mutex);
    pool->closing = true;
    for (size_t i = 0; i < pool->worker_max; i++) pthread_cond_signal(&pool->workers[i].work);
    pthread_mutex_unlock(&pool->mutex);
    for (size_t i = 0; i < pool->worker_max; i++) {
        worker *w = &pool->workers[i];
        pthread_mutex_lock(&pool->mutex);
        bool present = w->state != WORKER_ABSENT;
        pthread_mutex_unlock(&pool->mutex);
        if (present) pthread_join(w->thread, NULL);
        pthread_cond_destroy(&w->work);
    }
    pthread_mutex_destroy(&pool->mutex);
    mem_free(pool->workers);
    mem_free(pool);
    *pool_ = NULL;
}
