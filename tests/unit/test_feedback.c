/* The words that feedback finds, against its formula, and their order. */
#include "retrieval/feedback.h"
#include "test.h"

#include <math.h>

static terms *stemmer;

static float flat(void *ctx, bytes term)
{
    (void)ctx;
    (void)term;
    return 1;
}

/* Only what begins with z is rare. */
static float z_is_rare(void *ctx, bytes term)
{
    (void)ctx;
    return term.data[0] == 'z' ? 5.0f : 0.5f;
}

static bool is(const lexical_query *q, uint32_t at, const char *term, double times)
{
    return at < q->count && bytes_equal(bytes_of(q->terms[at], q->sizes[at]), bytes_str(term)) &&
           fabs((double)q->times[at] - times) < 1e-5;
}

/* river: 1 x 2/4 + 0.5 x 1/2; gold: 0.5 x 1/2; lamp and sand: 1/4 each. */
static void read_two(feedback *f)
{
    feedback_passage(f, 1);
    feedback_read(f, stemmer, bytes_str("The river, the lamp"));
    feedback_read(f, stemmer, bytes_str(" and sand of RIVERS."));
    feedback_passage(f, 0.5f);
    feedback_read(f, stemmer, bytes_str("gold river"));
}

static void words_are_the_model_s(void)
{
    feedback *f;
    lexical_query *q = mem_alloc(sizeof *q);
    feedback_open(&f);
    read_two(f);
    feedback_query(f, 10, 3, flat, NULL, q);
    CHECK(q->count == 4);
    CHECK(is(q, 0, "river", 3 * 0.75 / 1.5));
    CHECK(is(q, 1, "gold", 3 * 0.25 / 1.5) && is(q, 2, "lamp", 3 * 0.25 / 1.5) &&
          is(q, 3, "sand", 3 * 0.25 / 1.5));       /* equal ones by their bytes */
    feedback_close(&f);
    CHECK(f == NULL);
    mem_free(q);
}

static void the_rare_are_chosen_and_the_rest_left(void)
{
    feedback *f;
    lexical_query *q = mem_alloc(sizeof *q);
    feedback_open(&f);
    read_two(f);
    feedback_passage(f, 0.5f);
    feedback_read(f, stemmer, bytes_str("zinc gold gold gold"));
    feedback_query(f, 2, 1, z_is_rare, NULL, q);
    CHECK(q->count == 2);                          /* zinc 0.125 x 5, river 0.75 x 0.5 */
    CHECK(is(q, 0, "zinc", 0.125 / 0.875) && is(q, 1, "river", 0.75 / 0.875));
    feedback_close(&f);
    mem_free(q);
}

static void nothing_read_is_nothing_found(void)
{
    feedback *f;
    lexical_query *q = mem_alloc(sizeof *q);
    feedback_open(&f);
    feedback_passage(f, 1);
    feedback_read(f, stemmer, bytes_str("the of and"));
    feedback_query(f, 20, 1, flat, NULL, q);
    CHECK(q->count == 0);
    feedback_close(&f);
    feedback_close(&f);
    mem_free(q);
}

/* A passage counts by its first words, whatever its size; the most that can be asked for fits. */
static void long_passages_are_cut(void)
{
    feedback *f;
    buf text;
    lexical_query *q = mem_alloc(sizeof *q);
    buf_init(&text, 1 << 20);
    for (int i = 0; i < FEEDBACK_PASSAGE_WORDS_MAX; i++) buf_printf(&text, "w%d ", i);
    buf_append_str(&text, "behind behind behind");
    feedback_open(&f);
    for (int i = 0; i < FEEDBACK_PASSAGES_MAX; i++) {
        feedback_passage(f, 1);
        feedback_read(f, stemmer, buf_bytes(&text));
        feedback_read(f, stemmer, bytes_str("behind"));
    }
    feedback_query(f, LEXICAL_QUERY_TERMS_MAX, 1, flat, NULL, q);
    CHECK(q->count == LEXICAL_QUERY_TERMS_MAX);
    CHECK(lexical_query_find(q, bytes_str("behind")) == q->count);
    for (uint32_t i = 0; i < q->count; i++)
        CHECK(fabs((double)q->times[i] - 1.0 / LEXICAL_QUERY_TERMS_MAX) < 1e-5);
    feedback_close(&f);
    buf_free(&text);
    mem_free(q);
}

int main(void)
{
    terms_open(&stemmer);
    RUN(words_are_the_model_s);
    RUN(the_rare_are_chosen_and_the_rest_left);
    RUN(nothing_read_is_nothing_found);
    RUN(long_passages_are_cut);
    terms_close(&stemmer);
    return DONE();
}
