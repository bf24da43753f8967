/* timing: do two classes of input take equally long? The method of dudect (Reparaz, Balasch, Verbauwhede, 2017):
 * classes interleaved at random, Welch's t-test on all measurements and on those below each of several percentiles
 * (so that the long tail, which is the machine's, does not hide a small difference).
 *
 * |t| above 4.5: a difference. Below: none found with so many measurements, which is not the same as none. */
#ifndef LETHE_TIMING_H
#define LETHE_TIMING_H

#include "base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TIMING_CROPS = 20 };
#define TIMING_LIMIT 4.5

typedef struct { double ns; int class; } timing_sample;
typedef struct { double t, crop, mean[2]; size_t n; } timing_result;     /* crop: share kept, 1: all; mean: its */

static inline uint64_t timing_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline int timing_by_ns(const void *a, const void *b)
{
    double x = ((const timing_sample *)a)->ns, y = ((const timing_sample *)b)->ns;
    return (x > y) - (x < y);
}

/* Welch's t of the first n samples; 0 where there are too few of a class. */
static inline double timing_welch(const timing_sample *all, size_t n, double mean[2])
{
    double count[2] = {0, 0}, square[2] = {0, 0};
    mean[0] = mean[1] = 0;
    for (size_t i = 0; i < n; i++) {                        /* online (Welford) */
        int c = all[i].class;
        double delta = all[i].ns - mean[c];
        count[c]++;
        mean[c] += delta / count[c];
        square[c] += delta * (all[i].ns - mean[c]);
    }
    if (count[0] < 10 || count[1] < 10) return 0;
    double variance = square[0] / (count[0] - 1) / count[0] + square[1] / (count[1] - 1) / count[1];
    return variance > 0 ? (mean[0] - mean[1]) / sqrt(variance) : 0;
}

/* The largest |t| over the crops. Sorts the samples. */
static inline timing_result timing_test(timing_sample *all, size_t n)
{
    timing_result worst = {.crop = 1, .n = n};
    qsort(all, n, sizeof *all, timing_by_ns);
    worst.t = timing_welch(all, n, worst.mean);
    for (int i = 1; i <= TIMING_CROPS; i++) {
        double mean[2], keep = 1 - pow(0.5, 10.0 * i / TIMING_CROPS);
        /* All that are equally long stay together, or the sort's order would decide. */
        size_t m = (size_t)(keep * (double)n);
        while (m > 0 && m < n && all[m].ns <= all[m - 1].ns) m++;
        double t = timing_welch(all, m, mean);
        if (fabs(t) <= fabs(worst.t)) continue;
        worst = (timing_result){t, keep, {mean[0], mean[1]}, n};
    }
    return worst;
}

#endif
