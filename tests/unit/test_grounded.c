/* The rules by which a grounded answer is chosen, told apart from nothing, and compared with what each passage says:
 * worked out again from the numbers, on a generator with random weights. */
#include "server/grounded.h"

#include "golden/random_model.h"
#include "test.h"

#include <ctype.h>
#include <math.h>

static char folder[256];
static model *engine;
static scheduler *steps;
static seat *place;
static float *logits;
static const char *const TEXTS[] = {"The mill burned in 1871.", "Fire took a mill: 1871, they say.", "It burned in 1902.",
                                    "", "The miller was Jorn; 1871 was his last year."};
enum { COUNT = sizeof TEXTS / sizeof *TEXTS };
static bytes passages[COUNT];

static result alive(void *ctx) { return ctx ? fail(E_CANCELLED, "cancelled") : OK; }

static void setup(void)
{
    test_tmpdir(folder);
    gen_config c = {.d_model = 32, .d_inner = 64, .d_state = 8, .d_conv = 4, .dt_rank = 2,
                    .use_conv_bias = true, .tied = true, .type = GEN_F32, .seed = 9, .layers = 2,
                    .vocab = RANDOM_MODEL_TOKENS};
    const model_options options = {.threads = 1};
    ASSERT(random_model_write(folder, &c) && is_ok(model_open(&engine, folder, &options)));
    const scheduler_limits limits = {4, 16, 8, 8, 64, 100};
    ASSERT(is_ok(scheduler_open(&steps, engine, &limits)));
    ASSERT(is_ok(seat_open(&place, steps, (id128){{1}}, NULL, NULL)));
    logits = mem_alloc_array(RANDOM_MODEL_TOKENS, sizeof *logits);
    for (size_t i = 0; i < COUNT; i++) passages[i] = bytes_str(TEXTS[i]);
    arena *a;
    uint32_t *ids;
    size_t count;
    arena_open(&a, 1 << 20);
    ASSERT(is_ok(tokenizer_encode(model_tokenizer(engine), bytes_str("When did the mill burn?\nAnswer:"), false, a, &ids, &count)));
    ASSERT(is_ok(seat_prefill(place, ids, count, logits)));
    arena_close(&a);
}

static grounded_input input(uint32_t tokens_max, uint64_t seed)
{
    return (grounded_input){.engine = engine, .place = place, .logits = logits, .passages = passages,
                            .count = COUNT, .tokens_max = tokens_max, .not_found_percent = 100, .alive = alive,
                            .sampling = {.temperature = seed ? 1.5f : 0, .seed = seed}};
}

static double score(const grounded_reading *g)
{
    return g->likelihood / pow((5.0 + g->tokens) / 6.0, 0.6);
}

/* The words of a text, each behind a space, a space behind the last. */
static void words_of(bytes text, buf *out)
{
    char word[512];
    size_t n = 0;
    buf_init(out, 4096);
    buf_append_str(out, " ");
    for (size_t i = 0; i <= text.size; i++) {
        int c = i < text.size ? text.data[i] : ' ';
        if (isalnum(c)) {
            word[n++] = (char)tolower(c);
            continue;
        }
        word[n] = 0;
        if (n > 0 && strcmp(word, "a") && strcmp(word, "an") && strcmp(word, "the"))
            buf_printf(out, "%s ", word);
        n = 0;
    }
}

static bool alike(bytes a, bytes b)
{
    buf x, y;
    words_of(a, &x);
    words_of(b, &y);
    const char *one = (const char *)x.data, *other = (const char *)y.data;
    bool same = x.size == 1 || y.size == 1 ? x.size == y.size : strstr(one, other) || strstr(other, one);
    buf_free(&x);
    buf_free(&y);
    return same;
}

typedef struct { size_t found, agreeing, contradicting, of_several; } seen;

static void look(const grounded_input *in, const grounded_answer *got, seen *sum)
{
    const grounded_reading *best = &got->answer;
    bool is_one = false;
    double whole = exp(got->nothing), share = 0;
    /* Of one token, a space may be all that was written. */
    if (in->tokens_max == 1 && best->span_count == 0) return;
    CHECK(got->found == (got->nothing <= best->likelihood) && best->span_count >= 1);
    for (size_t i = 0; i < COUNT; i++) {
        const grounded_reading *r = &got->readings[i];
        CHECK((r->span_count == 0) == (TEXTS[i][0] == 0) || in->tokens_max == 1);
        if (r->span_count == 0) continue;
        is_one = is_one || bytes_equal(r->text, best->text);
        CHECK(score(r) <= score(best) && r->tokens <= in->tokens_max && r->spans[0].passage == i);
        CHECK(r->agrees == alike(r->text, best->text));
        CHECK(r->contradicts == (!r->agrees && r->likelihood >= best->likelihood + log(0.25)));
        bool again = false;
        for (size_t k = 0; k < i; k++) again = again || bytes_equal(got->readings[k].text, r->text);
        if (!again) whole += exp(r->likelihood);
        if (!again && r->agrees) share += exp(r->likelihood);
        sum->agreeing += r->agrees;
        sum->contradicting += r->contradicts;
    }
    sum->found += got->found;
    sum->of_several += !is_one;
    /* The answer from all passages counts too: it is known here only where it was chosen. */
    if (is_one) CHECK(got->confidence > 0 && got->confidence <= 1);
    else {
        whole += exp(best->likelihood);
        share += exp(best->likelihood);
        CHECK(fabs(got->confidence - share / whole) < 1e-9);
    }
}

static void rules_hold(void)
{
    seen sum = {0};
    for (uint32_t n = 0; n < 300; n++) {
        arena *a;
        grounded_answer got;
        grounded_input in = input(1 + n % 6, n);
        arena_open(&a, 1 << 20);
        CHECK_OK(grounded_read(&in, a, &got));
        look(&in, &got, &sum);
        arena_close(&a);
    }
    printf("# 300 answers: %zu found, %zu readings agree, %zu contradict, %zu answers are no passage's own\n", sum.found,
           sum.agreeing, sum.contradicting, sum.of_several);
    CHECK(sum.found > 20 && sum.agreeing > 20 && sum.contradicting > 20 && sum.of_several > 20);
}

/* The border moves with the weight of no answer; at 0 there is none. */
static void weight_of_nothing(void)
{
    arena *a;
    grounded_answer got;
    grounded_input in = input(3, 0);
    arena_open(&a, 4 << 20);
    CHECK_OK(grounded_read(&in, a, &got));
    double margin = got.nothing - got.answer.likelihood;
    for (uint32_t percent = 1; percent < 4000000000u; percent = percent * 3) {
        in.not_found_percent = percent;
        CHECK_OK(grounded_read(&in, a, &got));
        CHECK(got.found == (margin + log((double)percent / 100) <= 0));
        if (percent > 1000000000u) break;
    }
    in.not_found_percent = 0;
    CHECK_OK(grounded_read(&in, a, &got));
    CHECK(got.found);
    arena_close(&a);
}

/* Of one token: the likeliest of those that may begin. The prompt's state and logits stay as they are. */
static void one_token(void)
{
    arena *a;
    grounded_answer got;
    grounded_input in = input(1, 0);
    constraint *c;
    size_t count;
    double most = -INFINITY;
    arena_open(&a, 1 << 20);
    CHECK_OK(grounded_read(&in, a, &got));
    constraint_open(&c, model_vocabulary(engine), passages, COUNT, 0);
    const uint32_t *ids = constraint_allowed(c, &count);
    for (size_t i = 0; i < count; i++) most = fmax(most, model_log_prob(logits, RANDOM_MODEL_TOKENS, ids[i]));
    CHECK(memcmp(&most, &got.answer.likelihood, sizeof most) == 0 && got.answer.tokens == 1 && !got.answer.stopped);
    constraint_close(&c);
    arena_close(&a);
}

static void cancelled(void)
{
    arena *a;
    grounded_answer got;
    grounded_input in = input(6, 0);
    in.alive_ctx = &in;
    arena_open(&a, 1 << 20);
    CHECK_FAILS(grounded_read(&in, a, &got), E_CANCELLED);
    arena_close(&a);
}

int main(void)
{
    setup();
    RUN(rules_hold);
    RUN(weight_of_nothing);
    RUN(one_token);
    RUN(cancelled);
    seat_close(&place);
    scheduler_close(&steps);
    model_close(&engine);
    mem_free(logits);
    test_tmpdir_remove(folder);
    return DONE();
}
