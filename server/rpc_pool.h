/* rpc_pool: threads for calls. They start on demand, up to a limit; an idle one ends after a while. */
#ifndef LETHE_RPC_POOL_H
#define LETHE_RPC_POOL_H

#include "base.h"

typedef struct rpc_pool rpc_pool;

void rpc_pool_open(rpc_pool **out, uint32_t threads_max);
/* Runs fn(arg) on a thread of the pool. False, at once, when all threads_max are busy or the machine
 * gives no more threads; nothing has happened then. */
bool rpc_pool_run(rpc_pool *pool, void (*fn)(void *arg), void *arg);
/* Waits for everything that runs, joins the threads, frees. Nothing may be started meanwhile. */
void rpc_pool_close(rpc_pool **pool);

#endif
