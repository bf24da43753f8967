/* Sampling. The generator is counter-based: SplitMix64's finisher over seed and counter, so step n
 * of a seed is the same number wherever and however often it is asked for. Everything is float64
 * with an exponential of its own, because the C library's differs between machines in the last bit.
 *
 * Logits that are NaN are never chosen (all of them: id 0). */
#include "model.h"

#include <math.h>

typedef struct { float logit; uint32_t id; } candidate;

static uint64_t mix64(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Uniform in [0, 1), 53 bits. */
static double uniform(uint64_t seed, uint64_t counter)
{
    uint64_t key = mix64(seed + 0x9e3779b97f4a7c15u);
    uint64_t bits = mix64(key + (counter + 1) * 0x9e3779b97f4a7c15u);
    return (double)(bits >> 11) * 0x1p-53;
}

/* e^x for x <= 0, from additions and multiplications alone (no contraction): the same bits on every
 * IEEE machine. Taylor to r^13 for |r| <= ln2/2: rel <= 1e-15. */
static double exp_fixed(double x)
{
    if (!(x > -700.0)) return 0.0;
    double n = floor(x * 1.4426950408889634 + 0.5);
    double r = (x - n * 0.693145751953125) - n * 1.42860682030941723212e-6;
    double p = 1.0;
    for (int i = 13; i > 0; i--) p = 1.0 + p * r / i;
    return ldexp(p, (int)n);
}

/* The largest logit's lowest id; NaN loses against everything. */
static uint32_t best(const float *logits, uint32_t n)
{
    uint32_t at = 0;
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[at] || (isnan(logits[at]) && !isnan(logits[i]))) at = i;
    return at;
}

static bool before(candidate a, candidate b)
{
    return a.logit > b.logit || (!(a.logit < b.logit) && a.id < b.id);
}

static void sift_down(candidate *heap, uint32_t n, uint32_t at)
{
    for (uint32_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && before(heap[child + 1], heap[child])) child++;
        if (before(heap[at], heap[child])) return;
        candidate swap = heap[at];
        heap[at] = heap[child];
        heap[child] = swap;
    }
}

typedef struct { const float *logits; uint32_t n; double most, temperature; } scaled;

static double weight_of(const scaled *s, float logit)
{
    return isnan(logit) ? 0.0 : exp_fixed(((double)logit - s->most) / s->temperature);
}

/* The id at which the running sum, in id order, passes u of the total. */
static uint32_t draw_all(const scaled *s, double total, double u, uint32_t otherwise)
{
    double sum = 0, want = u * total;
    uint32_t last = otherwise;
    for (uint32_t i = 0; i < s->n; i++) {
        double w = weight_of(s, s->logits[i]);
        if (w > 0) last = i;
        sum += w;
        if (w > 0 && sum > want) return i;
    }
    return last;
}

/* The same among the fewest most probable ids that hold top_p of the total; ties: lower id. */
static uint32_t draw_nucleus(const scaled *s, double total, double top_p, double u)
{
    candidate *heap = mem_alloc_array(s->n, sizeof *heap);
    uint32_t n = 0, taken = 0;
    for (uint32_t i = 0; i < s->n; i++)
        if (weight_of(s, s->logits[i]) > 0) heap[n++] = (candidate){s->logits[i], i};
    ASSERT(n > 0);
    for (uint32_t i = n / 2; i-- > 0;) sift_down(heap, n, i);
    /* Popped candidates gather behind the shrinking heap, the best one last in the array. */
    double held = 0;
    while (taken < n && (taken == 0 || held < top_p * total)) {
        candidate top = heap[0];
        held += weight_of(s, top.logit);
        uint32_t end = n - 1 - taken++;
        heap[0] = heap[end];
        heap[end] = top;
        sift_down(heap, end, 0);
    }
    double sum = 0;
    uint32_t id = heap[n - taken].id;
    for (uint32_t i = 0; i < taken; i++) {
        sum += weight_of(s, heap[n - 1 - i].logit);
        if (sum > u * held) {
            id = heap[n - 1 - i].id;
            break;
        }
    }
    mem_wipe(heap, s->n * sizeof *heap);
    mem_free(heap);
    return id;
}

/* temperature not above 0 (or NaN): greedy. top_p not within (0, 1): no cut. */
void sampler_init(sampler *s, const sampler_options *options)
{
    *s = (sampler){.options = *options, .counter = 0};
}

uint32_t sampler_next(sampler *s, const float *logits, uint32_t vocab_size)
{
    ASSERT(vocab_size > 0);
    double u = uniform(s->options.seed, s->counter++);
    uint32_t top = best(logits, vocab_size);
    double temperature = (double)s->options.temperature, top_p = (double)s->options.top_p;
    if (!(temperature > 0) || !isfinite(logits[top])) return top;
    scaled sc = {logits, vocab_size, (double)logits[top], temperature};
    double total = 0;
    for (uint32_t i = 0; i < vocab_size; i++) total += weight_of(&sc, logits[i]);
    if (top_p > 0 && top_p < 1) return draw_nucleus(&sc, total, top_p, u);
    return draw_all(&sc, total, u, top);
}
