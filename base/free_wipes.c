/* The programs' own free and realloc: what anybody gives back to the heap, in this code or in a library (gRPC, OpenSSL,
 * FAISS, the C++ runtime), is wiped first, so that memory which no object owns holds no text, vector or key.
 * Compiled into each program, which exports them to its libraries (cmake/lethe.cmake); not with the sanitizers, whose
 * allocator is their own. glibc lets a program replace these (its manual: "Replacing malloc"); the allocator behind
 * stays its own. Elsewhere only base/'s own types wipe. */
#include "base.h"
#include "mutant.h"

#include <stdlib.h>

#ifdef __GLIBC__
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <string.h>

extern void __libc_free(void *p);

/* Shrinking in place must be worth a smaller block, or the old one is kept. */
enum { SLACK_BYTES = 4096 };

static bool keeps(void)
{
#ifdef LETHE_MUTANTS
    static int known;                /* racing writers write the same */
    int now = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (now == 0) {
        now = MUTANT(free_unwiped) ? 2 : 1;
        __atomic_store_n(&known, now, __ATOMIC_RELAXED);
    }
    return now == 2;
#else
    return false;
#endif
}

void free(void *p)
{
    if (p == NULL) return;
    int before = errno;
    if (!keeps()) explicit_bzero(p, malloc_usable_size(p));
    __libc_free(p);
    errno = before;
}

/* Never in place at another place: the allocator would move the bytes and leave the old ones. */
void *realloc(void *p, size_t size)
{
    if (p == NULL) return malloc(size);
    if (size == 0) {
        free(p);
        return NULL;
    }
    size_t usable = malloc_usable_size(p);
    if (size <= usable && (usable - size <= SLACK_BYTES || usable - size <= usable / 2)) {
        if (!keeps()) explicit_bzero((char *)p + size, usable - size);
        return p;
    }
    void *moved = malloc(size);
    if (moved == NULL) return NULL;
    memcpy(moved, p, size < usable ? size : usable);
    free(p);
    return moved;
}

void *reallocarray(void *p, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(p, total);
}
#endif
