/* audit_stats: the attacks of membership inference, and how well they do. Pure. Every attack gives one number a
 * text, higher for "was there". Sources: loss (Yeom et al., 2018), zlib (Carlini et al., 2021), Min-K% (Shi et al.,
 * 2024), Min-K%++ (Zhang et al., 2024). */
#ifndef LETHE_AUDIT_STATS_H
#define LETHE_AUDIT_STATS_H

#include "base.h"

/* Of n > 0 tokens: log-probability, and its mean and deviation over the vocabulary. */
typedef struct { const float *log_probs, *means, *deviations; size_t count; } token_scores;

double audit_loss(const token_scores *t);                  /* mean log-probability */
double audit_zlib(const token_scores *t, bytes text);      /* summed, over the bytes of the compressed text */
double audit_min_k(const token_scores *t);                 /* mean of the fifth that is least likely */
double audit_min_k_plus(const token_scores *t);            /* the same of (log-probability - mean) / deviation */

/* Area under the ROC curve: the chance that a member scores above a non-member, ties half. 0.5 for none of either. */
double audit_auc(const double *members, size_t member_count, const double *others, size_t other_count);
/* The most that the true positive rate exceeds the false positive rate at any threshold. */
double audit_advantage(const double *members, size_t member_count, const double *others, size_t other_count);

#endif
