/* free_wipes: what is freed, left behind by a move or cut off is zero, and realloc keeps what it must. Looks at memory
 * that was given back, which glibc leaves mapped: not with the sanitizers. */
#include "test.h"

#include <errno.h>
#include <malloc.h>
#include <stdint.h>

enum { FILL = 0x5a, LINKS_BYTES = 32 };      /* the allocator's own links at the front of what is free */

static uint8_t *launder(uintptr_t address)
{
    __asm__ volatile("" : "+r"(address) : : "memory");
    return (uint8_t *)address;
}

/* size bytes of FILL, and as much of the rest as is usable. */
static uintptr_t filled(size_t size)
{
    void *p = malloc(size);
    if (p == NULL) abort();
    uint8_t *all = launder((uintptr_t)p);
    memset(all, FILL, malloc_usable_size(all));
    return (uintptr_t)launder((uintptr_t)all);
}

static size_t remains(uintptr_t address, size_t from, size_t to)
{
    size_t found = 0;
    const uint8_t *p = launder(address);
    for (size_t i = from; i < to; i++) found += p[i] == FILL;
    return found;
}

static void what_is_freed_is_zero(void)
{
    static const size_t SIZES[] = {40, 100, 1000, 1040, 5000, 60000};
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        uintptr_t p = filled(SIZES[i]), fence = filled(64);     /* fence: so that p does not join the top */
        errno = EDOM;
        free(launder(p));
        CHECK(errno == EDOM);
        CHECK(remains(p, LINKS_BYTES, SIZES[i]) == 0);
        free(launder(fence));
    }
    free(NULL);
}

static void a_move_leaves_nothing(void)
{
    uintptr_t p = filled(3000), fence = filled(64);
    uint8_t *moved = realloc(launder(p), 30000);
    NEED(moved != NULL && (uintptr_t)moved != p);
    CHECK(remains(p, LINKS_BYTES, 3000) == 0);
    CHECK(remains((uintptr_t)moved, 0, 3000) == 3000);
    free(moved);
    free(launder(fence));
}

static void what_is_cut_off_is_zero(void)
{
    uintptr_t p = filled(3000);
    uint8_t *same = realloc(launder(p), 1000);
    NEED((uintptr_t)same == p);
    CHECK(remains(p, 0, 1000) == 1000 && remains(p, 1000, malloc_usable_size(same)) == 0);
    free(same);
    p = filled(100000);
    uint8_t *small = realloc(launder(p), 100);           /* worth a smaller block */
    NEED(small != NULL && malloc_usable_size(small) < 5000);
    CHECK(remains((uintptr_t)small, 0, 100) == 100);
    free(small);
}

static void realloc_is_as_the_standard_has_it(void)
{
    volatile size_t huge = SIZE_MAX / 2 + 1, none = 0;
    uint8_t *p = realloc(NULL, 10);
    NEED(p != NULL);
    memset(p, FILL, 10);
    errno = 0;
    CHECK(realloc(launder((uintptr_t)p), huge) == NULL && errno == ENOMEM);
    CHECK(remains((uintptr_t)p, 0, 10) == 10);           /* still there */
    errno = 0;
    CHECK(reallocarray(launder((uintptr_t)p), huge, 4) == NULL && errno == ENOMEM);
    p = reallocarray(p, 500, 8);
    NEED(p != NULL && malloc_usable_size(p) >= 4000);
    CHECK(remains((uintptr_t)p, 0, 10) == 10);
    CHECK(realloc(p, none) == NULL);
    void *aligned = aligned_alloc(4096, 8192);           /* freed as any other */
    NEED(aligned != NULL);
    free(aligned);
}

int main(void)
{
#ifdef __GLIBC__
    RUN(what_is_freed_is_zero);
    RUN(a_move_leaves_nothing);
    RUN(what_is_cut_off_is_zero);
    RUN(realloc_is_as_the_standard_has_it);
#endif
    return DONE();
}
