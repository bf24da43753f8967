/* The only callers of the C allocator. Out of memory aborts: nothing above can go on sensibly, and
 * what was acknowledged is on disk. */
#include "base.h"
#include "mutant.h"

#include <alloca.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *need(void *p, size_t size)
{
    if (p == NULL) {
        fprintf(stderr, "out of memory: %zu bytes\n", size);
        abort();
    }
    return p;
}

void *mem_alloc(size_t size)
{
    return need(calloc(1, size ? size : 1), size);
}

void *mem_alloc_array(size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) need(NULL, SIZE_MAX);
    return mem_alloc(total);
}

void *mem_realloc(void *p, size_t size)
{
    return need(realloc(p, size ? size : 1), size);
}

void mem_free(void *p)
{
    free(p);
}

char *mem_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = mem_alloc(n);
    memcpy(copy, s, n);
    return copy;
}

__attribute__((noinline)) void stack_wipe(size_t size)
{
    if (!MUTANT(stack_unwiped)) mem_wipe(alloca(size), size);
}

void mem_wipe(void *p, size_t size)
{
    if (size > 0) explicit_bzero(p, size);
}
