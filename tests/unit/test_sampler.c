/* The sampler: greedy ties, fixed numbers, distributions, the nucleus, odd logits. */
#include "model.h"
#include "test.h"

#include <math.h>

#define DRAWS_HASH 0xa0108578a326018cu   /* computed apart, in Python */

static sampler make(float temperature, float top_p, uint64_t seed)
{
    sampler s;
    sampler_init(&s, &(sampler_options){temperature, top_p, seed});
    return s;
}

static void greedy_takes_the_lowest_tie(void)
{
    float logits[6] = {-1, 3, 2, 3, NAN, 3};
    sampler s = make(0, 0.5f, 1);
    CHECK(sampler_next(&s, logits, 6) == 1);
    s = make(NAN, 1, 1);
    CHECK(sampler_next(&s, logits, 6) == 1);
    s = make(-1, 1, 1);
    CHECK(sampler_next(&s, logits, 6) == 1);
    float negative[3] = {-INFINITY, -INFINITY, -5};
    CHECK(sampler_next(&s, negative, 3) == 2);
}

/* Written down once: the same tokens on every machine. */
static void draws_are_fixed(void)
{
    float logits[64];
    uint64_t hash = 14695981039346656037u;
    for (int i = 0; i < 64; i++) logits[i] = (float)((i * 37) % 64) * 0.125f - 4;
    for (int variant = 0; variant < 3; variant++) {
        sampler s = make(0.5f + (float)variant * 0.25f, variant == 0 ? 1 : 0.8f, 42 + variant);
        for (int i = 0; i < 200; i++)
            hash = (hash ^ sampler_next(&s, logits, 64)) * 1099511628211u;
    }
    printf("# hash of 600 draws: %llx\n", (unsigned long long)hash);
    CHECK(hash == DRAWS_HASH);
}

static void a_step_depends_on_its_number_alone(void)
{
    float logits[32];
    uint32_t tokens[50];
    for (int i = 0; i < 32; i++) logits[i] = (float)(i % 7);
    sampler s = make(1, 0.95f, 9);
    for (int i = 0; i < 50; i++) tokens[i] = sampler_next(&s, logits, 32);
    int different = 0;
    for (int i = 49; i >= 0; i--) {
        sampler again = make(1, 0.95f, 9);
        again.counter = (uint64_t)i;
        CHECK(sampler_next(&again, logits, 32) == tokens[i]);
        sampler other = make(1, 0.95f, 10);
        other.counter = (uint64_t)i;
        different += sampler_next(&other, logits, 32) != tokens[i];
    }
    CHECK(different > 20);
}

/* Chi-square of 20,000 draws against softmax, 7 degrees of freedom: 0.1 % is 24.3; fixed seeds. */
static void check_distribution(float temperature, float top_p, const double *want, uint64_t seed)
{
    enum { N = 8, DRAWS = 20000 };
    float logits[N];
    int count[N] = {0};
    double chi = 0;
    for (int i = 0; i < N; i++) logits[i] = (float)i * 0.5f;
    sampler s = make(temperature, top_p, seed);
    for (int i = 0; i < DRAWS; i++) {
        uint32_t id = sampler_next(&s, logits, N);
        NEED(id < N);
        count[id]++;
    }
    for (int i = 0; i < N; i++) {
        if (want[i] <= 0) {
            CHECK(count[i] == 0);
            continue;
        }
        chi += (count[i] - DRAWS * want[i]) * (count[i] - DRAWS * want[i]) / (DRAWS * want[i]);
    }
    printf("# chi-square %.2f\n", chi);
    CHECK(chi < 24.3);
}

static void distributions_are_right(void)
{
    for (int t = 1; t <= 3; t++) {
        double want[8], sum = 0, cut[8], held = 0;
        for (int i = 0; i < 8; i++) sum += want[i] = exp(i * 0.5 / (t * 0.5));
        for (int i = 0; i < 8; i++) want[i] /= sum;
        check_distribution((float)t * 0.5f, 1, want, (uint64_t)t);
        check_distribution((float)t * 0.5f, 0, want, (uint64_t)t + 50);      /* 0: no cut */
        check_distribution((float)t * 0.5f, NAN, want, (uint64_t)t + 60);
        memset(cut, 0, sizeof cut);
        int i = 7;
        for (; i >= 0 && held < 0.7; i--) held += want[i];
        for (int j = 7; j > i; j--) cut[j] = want[j] / held;
        check_distribution((float)t * 0.5f, 0.7f, cut, (uint64_t)t + 100);
    }
}

static void the_nucleus_breaks_ties_by_id(void)
{
    float logits[10];
    for (int i = 0; i < 10; i++) logits[i] = 1;
    sampler s = make(1, 0.35f, 3);           /* four of ten equal ones: ids 0 to 3 */
    bool seen[10] = {false};
    for (int i = 0; i < 500; i++) seen[sampler_next(&s, logits, 10)] = true;
    for (int i = 0; i < 10; i++) CHECK(seen[i] == (i < 4));
    s = make(1, 1e-9f, 3);                  /* at least one */
    for (int i = 0; i < 20; i++) CHECK(sampler_next(&s, logits, 10) == 0);
}

static void odd_logits_are_survived(void)
{
    float logits[5] = {NAN, -INFINITY, 1, NAN, 1};
    sampler plain = make(1, 1, 4), nucleus = make(1, 0.9f, 4);
    for (int i = 0; i < 200; i++) {
        uint32_t a = sampler_next(&plain, logits, 5), b = sampler_next(&nucleus, logits, 5);
        CHECK((a == 2 || a == 4) && (b == 2 || b == 4));
    }
    float all_nan[3] = {NAN, NAN, NAN}, minus[3] = {-INFINITY, -INFINITY, -INFINITY};
    float plus[4] = {0, INFINITY, INFINITY, NAN}, huge[3] = {3e38f, -3e38f, 3e38f};
    CHECK(sampler_next(&plain, all_nan, 3) == 0 && sampler_next(&nucleus, all_nan, 3) == 0);
    CHECK(sampler_next(&plain, minus, 3) == 0 && sampler_next(&nucleus, minus, 3) == 0);
    CHECK(sampler_next(&plain, plus, 4) == 1 && sampler_next(&nucleus, plus, 4) == 1);
    for (int i = 0; i < 50; i++) CHECK(sampler_next(&nucleus, huge, 3) != 1);
    sampler cold = make(1e-30f, 0.9f, 4);
    float near[3] = {1, 1.0000001f, 0};
    CHECK(sampler_next(&cold, near, 3) == 1);
    CHECK(sampler_next(&plain, near, 1) == 0);
}

int main(void)
{
    RUN(greedy_takes_the_lowest_tie);
    RUN(draws_are_fixed);
    RUN(a_step_depends_on_its_number_alone);
    RUN(distributions_are_right);
    RUN(the_nucleus_breaks_ties_by_id);
    RUN(odd_logits_are_survived);
    return DONE();
}
