#include "internal.h"

#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

static pthread_once_t sodium_once = PTHREAD_ONCE_INIT;

static void sodium_start(void)
{
    if (sodium_init() < 0) {
        fprintf(stderr, "libsodium cannot start\n");
        abort();
    }
}

void sodium_ready(void)
{
    if (pthread_once(&sodium_once, sodium_start) != 0) abort();
}

void *secure_alloc(size_t size)
{
    static atomic_flag warned = ATOMIC_FLAG_INIT;
    sodium_ready();
    ASSERT(size <= SIZE_MAX / 2);
    /* sodium_malloc places the end at the guard page, so an odd size gives an odd address. */
    size_t rounded = size == 0 ? 16 : (size + 15) / 16 * 16;
    void *p = sodium_malloc(rounded);
    if (p == NULL) {
        fprintf(stderr, "out of guarded memory: %zu bytes\n", size);
        abort();
    }
    /* It ignores a failing mlock; locking again is idempotent and tells. */
    if (mlock(p, rounded) != 0 && !atomic_flag_test_and_set(&warned))
        log_event(LOG_WARN, "secure_memory_not_locked",
                  LOG_TEXT("hint", "raise RLIMIT_MEMLOCK; keys may reach swap"));
    memset(p, 0, rounded);
    return p;
}

void secure_free(void *p)
{
    if (p != NULL) sodium_free(p);
}

bool secure_equal(const void *a, const void *b, size_t size)
{
    return size == 0 || sodium_memcmp(a, b, size) == 0;
}

void random_bytes(void *out, size_t size)
{
    sodium_ready();
    if (size > 0) randombytes_buf(out, size);
}

void process_harden(void)
{
    const struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0)
        log_event(LOG_WARN, "harden_failed", LOG_TEXT("what", "core limit"));
#if !ADDRESS_SANITIZED
    /* LeakSanitizer attaches to its own process, so a sanitized build stays dumpable. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        log_event(LOG_WARN, "harden_failed", LOG_TEXT("what", "dumpable"));
#endif
    umask(077);
}

void memory_lock_all(void)
{
#if !ADDRESS_SANITIZED
    struct rlimit limit;
    bool unlimited = getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY;
    /* Locking what comes later makes allocations fail at the limit: only without one. */
    if (mlockall(MCL_CURRENT | (unlimited ? MCL_FUTURE : 0)) != 0)
        log_event(LOG_WARN, "memory_not_locked", LOG_TEXT("hint", "raise RLIMIT_MEMLOCK"));
#endif
}
