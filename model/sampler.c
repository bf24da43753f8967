/* Sampling. The generator is counter-based: SplitMix64's finisher over seed and counter, so step n
 * of a seed is the same number wherever and however often it is asked for. Everything is float64
 * with an exponential of its own, because the C library's differs between machines in the last bit.
 *
 * Logits that are NaN are never chosen (all of them: id 0). */
#include "model.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 256 };                  /* ids whose weights are summed apart; even */

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

/* Two at a time: what the narrowest of the machines that this runs on does in one instruction. */
typedef double pair __attribute__((vector_size(16)));
typedef uint64_t pair_bits __attribute__((vector_size(16)));

/* e^x for x <= 0, from additions and multiplications alone (no contraction): the same bits on every
 * IEEE machine. Taylor to r^9 for |r| <= ln2/2: rel <= 1e-11. 0 below -700, and for NaN. */
static pair exp_fixed(pair x)
{
    const double to_whole = 0x1.8p52;      /* added to a number, it leaves the nearest whole one in the low bits */
    pair shifted = x * 1.4426950408889634 + to_whole, n = shifted - to_whole;
    pair r = (x - n * 0.693145751953125) - n * 1.42860682030941723212e-6;
    pair p = 1.0 / 40320 + r * (1.0 / 362880);
    p = 1.0 / 720 + r * (1.0 / 5040 + r * p);
    p = 1.0 / 24 + r * (1.0 / 120 + r * p);
    p = 1.0 + r * (1.0 + r * (1.0 / 2 + r * (1.0 / 6 + r * p)));
    pair_bits power = ((pair_bits)shifted << 52) + ((uint64_t)1023 << 52);
    return (pair)((pair_bits)(p * (pair)power) & (pair_bits)(x > -700.0));
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

typedef struct { const float *logits; uint32_t n; double most, per_degree; } scaled;

/* What is exponentiated; NaN stays. */
static double exponent_of(const scaled *s, float logit) { return ((double)logit - s->most) * s->per_degree; }

static double weight_of(const scaled *s, float logit)
{
    double x = exponent_of(s, logit);
    return exp_fixed((pair){x, x})[0];
}

/* Ids [first, first + count) of one block: their weights (padded with zeros to an even number) and those together. */
static double block_weights(const scaled *s, uint32_t first, uint32_t count, double w[BLOCK])
{
    pair sum = {0, 0};
    for (uint32_t i = 0; i < count; i += 2) {
        pair x = {exponent_of(s, s->logits[first + i]),
                  i + 1 < count ? exponent_of(s, s->logits[first + i + 1]) : -(double)INFINITY};
        pair e = exp_fixed(x);
        memcpy(w + i, &e, sizeof e);
        sum += e;
    }
    return sum[0] + sum[1];
}

static uint32_t block_size(const scaled *s, uint32_t first) { return s->n - first < BLOCK ? s->n - first : BLOCK; }

/* The id at which the running sum, in id order, passes u of the total. sums: of each block. */
static uint32_t draw_all(const scaled *s, const double *sums, double total, double u, uint32_t otherwise)
{
    double sum = 0, want = u * total, w[BLOCK];
    uint32_t first = 0, last = otherwise;
    for (; first < s->n; first += BLOCK) {
        if (sum + sums[first / BLOCK] > want) break;
        sum += sums[first / BLOCK];
    }
    if (first >= s->n) return otherwise;
    uint32_t count = block_size(s, first);
    (void)block_weights(s, first, count, w);
    for (uint32_t i = 0; i < count; i++) {
        if (w[i] > 0) last = first + i;
        sum += w[i];
        if (w[i] > 0 && sum > want) break;
    }
    mem_wipe(w, sizeof w);
    return last;
}

/* The same among the fewest most probable ids that hold top_p of the total; ties: lower id. Ids so improbable that all n
 * of them would not make up the rest are left out from the start (e times less, for the rounding). */
static uint32_t draw_nucleus(const scaled *s, double total, double top_p, double u)
{
    candidate *heap = mem_alloc_array(s->n, sizeof *heap);
    uint32_t n = 0, taken = 0;
    double least = fmax(log((1 - top_p) * total / s->n) - 1, -700.0);
    for (uint32_t i = 0; i < s->n; i++)
        if (exponent_of(s, s->logits[i]) > least) heap[n++] = (candidate){s->logits[i], i};
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
    scaled sc = {logits, vocab_size, (double)logits[top], 1 / temperature};
    double total = 0, w[BLOCK], *sums = mem_alloc_array(vocab_size / BLOCK + 1, sizeof *sums);
    for (uint32_t first = 0; first < vocab_size; first += BLOCK)
        total += sums[first / BLOCK] = block_weights(&sc, first, block_size(&sc, first), w);
    uint32_t drawn = top_p > 0 && top_p < 1 ? draw_nucleus(&sc, total, top_p, u) : draw_all(&sc, sums, total, u, top);
    mem_wipe(w, sizeof w);
    mem_wipe(sums, (vocab_size / BLOCK + 1) * sizeof *sums);
    mem_free(sums);
    return drawn;
}
