#include "audit_stats.h"

#include <stdlib.h>
#include <zlib.h>

enum { LEAST_SHARE = 5 };                                  /* one in five tokens: Min-20% */

static double sum_of(const token_scores *t)
{
    double sum = 0;
    for (size_t i = 0; i < t->count; i++) sum += (double)t->log_probs[i];
    return sum;
}

double audit_loss(const token_scores *t) { return sum_of(t) / (double)t->count; }

double audit_zlib(const token_scores *t, bytes text)
{
    uLongf size = compressBound(text.size);
    uint8_t *packed = mem_alloc(size);
    int done = compress2(packed, &size, text.data, text.size, 9);
    mem_free(packed);
    ASSERT(done == Z_OK);
    return sum_of(t) / (double)size;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double least(const token_scores *t, bool scaled)
{
    size_t k = t->count / LEAST_SHARE ? t->count / LEAST_SHARE : 1;
    double *all = mem_alloc_array(t->count, sizeof *all), sum = 0;
    for (size_t i = 0; i < t->count; i++) {
        all[i] = (double)t->log_probs[i];
        if (scaled && t->deviations[i] > 0)
            all[i] = (all[i] - (double)t->means[i]) / (double)t->deviations[i];
    }
    qsort(all, t->count, sizeof *all, by_value);
    for (size_t i = 0; i < k; i++) sum += all[i];
    mem_free(all);
    return sum / (double)k;
}

double audit_min_k(const token_scores *t) { return least(t, false); }
double audit_min_k_plus(const token_scores *t) { return least(t, true); }

double audit_auc(const double *members, size_t member_count, const double *others, size_t other_count)
{
    double won = 0;
    if (member_count == 0 || other_count == 0) return 0.5;
    for (size_t i = 0; i < member_count; i++)
        for (size_t j = 0; j < other_count; j++)
            won += members[i] > others[j] ? 1 : members[i] < others[j] ? 0 : 0.5;
    return won / ((double)member_count * (double)other_count);
}

static double share_from(const double *all, size_t count, double threshold)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) n += all[i] >= threshold;
    return count ? (double)n / (double)count : 0;
}

double audit_advantage(const double *members, size_t member_count, const double *others, size_t other_count)
{
    double most = 0;
    for (size_t i = 0; i < member_count + other_count; i++) {
        double at = i < member_count ? members[i] : others[i - member_count];
        double gain = share_from(members, member_count, at) - share_from(others, other_count, at);
        if (gain > most) most = gain;
    }
    return most;
}
