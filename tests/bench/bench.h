/* What the benchmarks share. */
#ifndef LETHE_BENCH_H
#define LETHE_BENCH_H

#include "base.h"

#include <stdio.h>
#include <stdlib.h>

static inline void must(result r)
{
    if (is_ok(r)) return;
    fprintf(stderr, "%s %s\n", error_code_name(r.code), r.message);
    exit(2);
}

/* splitmix64: the next of the numbers that seed gives. */
static inline uint64_t random_next(uint64_t *seed)
{
    uint64_t x = *seed += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

#endif
