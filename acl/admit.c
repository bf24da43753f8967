/* Quotas: static shares per principal. Nothing here depends on anybody else's load: each principal
 * has counters and buckets of its own, and time comes from the caller.
 *
 * requests_per_second is a token bucket with a burst of two seconds; it is charged once a call
 * (ACL_CALL), not again for the answer within it (ACL_ANSWER). tokens_per_minute is a bucket that
 * holds one minute's worth. The operator (principal zero) has the defaults. */
#include "state.h"

#include <inttypes.h>

/* A bucket counts in fractions so that its refill per millisecond is a whole number. */
enum { REQUEST_UNITS = 1000, REQUEST_BURST = 2, TOKEN_UNITS = 60000 };
static const uint64_t TOKENS_RATE_MAX = 1000000000000u;    /* times TOKEN_UNITS fits in 64 bits */

/* rate and capacity in units per ms and units. False: wait_ms says until when to wait. */
static bool bucket_take(acl_bucket *b, uint64_t rate, uint64_t capacity, uint64_t cost,
                        uint64_t now_ms, uint64_t *wait_ms)
{
    ASSERT(rate > 0 && cost <= capacity);
    uint64_t elapsed = b->started && now_ms > b->at_ms ? now_ms - b->at_ms : 0;
    if (!b->started || elapsed > capacity / rate)
        b->level = capacity;
    else
        b->level += elapsed * rate;
    if (b->level > capacity)
        b->level = capacity;
    b->started = true;
    b->at_ms = now_ms;
    if (b->level < cost) {
        *wait_ms = (cost - b->level + rate - 1) / rate;
        return false;
    }
    b->level -= cost;
    return true;
}

/* Whose counters, under which limits. lock held; false when there is no such live principal. */
static bool admission(acl *a, id128 principal, acl_use **use, acl_quota *quota)
{
    *quota = a->quota_default;
    *use = &a->operator_use;
    if (!id_is_zero(principal)) {
        acl_principal *p = acl_map_get(&a->principals, principal);
        if (p == NULL || p->fenced)
            return false;
        *use = &p->use;
        if (p->profile.quota_own)
            *quota = p->profile.quota;
    }
    if (MUTANT(quota_shared))
        *use = &a->shared_use;
    return true;
}

static result admit_call(acl_use *use, const acl_quota *q, uint64_t now_ms)
{
    if (q->concurrent_calls_max > 0 && use->calls >= q->concurrent_calls_max)
        return fail(E_EXHAUSTED, "your limit of %" PRIu32
                    " concurrent calls is reached; wait for one to end", q->concurrent_calls_max);
    uint64_t rate = q->requests_per_second, wait_ms = 0;
    if (rate > 0 && !bucket_take(&use->requests, rate, rate * REQUEST_UNITS * REQUEST_BURST,
                                 REQUEST_UNITS, now_ms, &wait_ms))
        return fail(E_EXHAUSTED, "your limit of %" PRIu32
                    " requests a second is reached; try again in %" PRIu64 " ms",
                    q->requests_per_second, wait_ms);
    use->calls++;
    return OK;
}

static result admit_answer(acl_use *use, const acl_quota *q)
{
    if (q->concurrent_answers_max > 0 && use->answers >= q->concurrent_answers_max)
        return fail(E_EXHAUSTED, "your limit of %" PRIu32
                    " concurrent answers is reached; wait for one to end",
                    q->concurrent_answers_max);
    use->answers++;
    return OK;
}

result acl_admit(acl *a, id128 principal, acl_share share, uint64_t now_ms)
{
    acl_use *use;
    acl_quota quota;
    result r;
    pthread_rwlock_rdlock(&a->lock);
    if (!admission(a, principal, &use, &quota)) {
        r = acl_not_found();
    } else {
        pthread_mutex_lock(&a->admit_lock);
        r = share == ACL_CALL ? admit_call(use, &quota, now_ms) : admit_answer(use, &quota);
        pthread_mutex_unlock(&a->admit_lock);
    }
    pthread_rwlock_unlock(&a->lock);
    return r;
}

void acl_leave(acl *a, id128 principal, acl_share share)
{
    pthread_rwlock_rdlock(&a->lock);
    acl_principal *p = acl_map_get(&a->principals, principal);
    acl_use *use = id_is_zero(principal) ? &a->operator_use : p != NULL ? &p->use : NULL;
    if (MUTANT(quota_shared))
        use = &a->shared_use;
    if (use != NULL) {                        /* else it was erased meanwhile, its counters too */
        pthread_mutex_lock(&a->admit_lock);
        uint32_t *count = share == ACL_CALL ? &use->calls : &use->answers;
        ASSERT(*count > 0);
        (*count)--;
        pthread_mutex_unlock(&a->admit_lock);
    }
    pthread_rwlock_unlock(&a->lock);
}

static result take_tokens(acl_use *use, uint64_t limit, uint64_t tokens, uint64_t now_ms)
{
    if (limit == 0)
        return OK;
    uint64_t rate = limit < TOKENS_RATE_MAX ? limit : TOKENS_RATE_MAX, wait_ms = 0;
    if (tokens > rate)
        return fail(E_EXHAUSTED, "this needs more tokens than your limit of %" PRIu64 " a minute",
                    limit);
    if (!bucket_take(&use->tokens, rate, rate * TOKEN_UNITS, tokens * TOKEN_UNITS, now_ms,
                     &wait_ms))
        return fail(E_EXHAUSTED, "your limit of %" PRIu64
                    " tokens a minute is reached; try again in %" PRIu64 " s", limit,
                    (wait_ms + 999) / 1000);
    return OK;
}

result acl_tokens_take(acl *a, id128 principal, uint64_t tokens, uint64_t now_ms)
{
    acl_use *use;
    acl_quota quota;
    result r;
    pthread_rwlock_rdlock(&a->lock);
    if (!admission(a, principal, &use, &quota)) {
        r = acl_not_found();
    } else {
        pthread_mutex_lock(&a->admit_lock);
        r = take_tokens(use, quota.tokens_per_minute, tokens, now_ms);
        pthread_mutex_unlock(&a->admit_lock);
    }
    pthread_rwlock_unlock(&a->lock);
    return r;
}

result acl_quota_get(acl *a, id128 tenant, id128 principal, acl_quota *out)
{
    result r = OK;
    pthread_rwlock_rdlock(&a->lock);
    const acl_principal *p = acl_state_live(a, tenant, principal);
    if (p != NULL)
        *out = p->profile.quota_own ? p->profile.quota : a->quota_default;
    else
        r = acl_not_found();
    pthread_rwlock_unlock(&a->lock);
    return r;
}
