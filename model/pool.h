/* pool: a few threads that share one piece of work after the other.
 *
 * The parts of a piece are independent outputs, so that how many there are changes no bit. */
#ifndef LETHE_MODEL_POOL_H
#define LETHE_MODEL_POOL_H

#include "base.h"

enum {
    POOL_THREADS_MAX = 64,
    POOL_STACK_WIPED = 64 << 10            /* more than the kernels leave of a sequence on a thread's stack */
};

typedef struct pool pool;

/* threads counts the caller: 1 starts none. E_UNAVAILABLE when threads cannot be started. */
MUST_USE result pool_open(pool **out, uint32_t threads);
void pool_close(pool **p);                 /* a helper wipes its stack before it sleeps or ends */
uint32_t pool_parts(const pool *p);          /* at most so many parts has a piece */
/* Calls work(ctx, part, parts) once for every part below parts, and returns when all are done. When
 * another thread is using the pool, the caller does it alone as part 0 of 1. */
void pool_run(pool *p, void (*work)(void *ctx, uint32_t part, uint32_t parts), void *ctx);

#endif
