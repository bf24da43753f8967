#include "feedback.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    float p, value;                /* value: p x IDF */
    uint32_t order;                /* as read: sums have one order */
    uint8_t passage, size, term[TERM_MAX_BYTES];
} word;

struct feedback {
    uint32_t count, passages;
    float weights[FEEDBACK_PASSAGES_MAX];
    uint32_t lengths[FEEDBACK_PASSAGES_MAX];
    word words[FEEDBACK_PASSAGES_MAX * FEEDBACK_PASSAGE_WORDS_MAX];
};

void feedback_open(feedback **out) { *out = mem_alloc(sizeof **out); }

void feedback_close(feedback **f)
{
    if (*f == NULL) return;
    mem_wipe(*f, sizeof **f);
    mem_free(*f);
    *f = NULL;
}

void feedback_passage(feedback *f, float weight)
{
    ASSERT(f->passages < FEEDBACK_PASSAGES_MAX);
    f->weights[f->passages++] = weight;
}

static void read_word(void *ctx, bytes term, bytes source)
{
    (void)source;
    feedback *f = ctx;
    uint32_t passage = f->passages - 1;
    if (f->lengths[passage] == FEEDBACK_PASSAGE_WORDS_MAX) return;
    f->lengths[passage]++;
    word *w = &f->words[f->count];
    w->order = f->count++;
    w->passage = (uint8_t)passage;
    w->size = (uint8_t)term.size;
    memcpy(w->term, term.data, term.size);
}

void feedback_read(feedback *f, terms *t, bytes text)
{
    ASSERT(f->passages > 0);
    terms_each(t, text, read_word, f);
}

static int compare_terms(const word *x, const word *y)
{
    int order = memcmp(x->term, y->term, x->size < y->size ? x->size : y->size);
    return order != 0 ? order : (int)x->size - (int)y->size;
}

static int by_term(const void *a, const void *b)
{
    const word *x = a, *y = b;
    int order = compare_terms(x, y);
    return order != 0 ? order : (x->order > y->order) - (x->order < y->order);
}

static int by_value(const void *a, const void *b)
{
    const word *x = a, *y = b;
    if (x->value != y->value) return x->value > y->value ? -1 : 1;
    return compare_terms(x, y);
}

/* One entry a word. */
static void merge_words(feedback *f)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < f->count; i++) {
        word *w = &f->words[i];
        w->p = f->weights[w->passage] / (float)f->lengths[w->passage];
    }
    qsort(f->words, f->count, sizeof *f->words, by_term);
    for (uint32_t i = 0; i < f->count; i++) {
        if (kept > 0 && compare_terms(&f->words[kept - 1], &f->words[i]) == 0)
            f->words[kept - 1].p += f->words[i].p;
        else f->words[kept++] = f->words[i];
    }
    f->count = kept;
}

void feedback_query(feedback *f, uint32_t words, float times, feedback_idf *idf, void *ctx, lexical_query *query)
{
    float sum = 0;
    ASSERT(query->count == 0 && words <= LEXICAL_QUERY_TERMS_MAX);
    if (f->count == 0) return;
    merge_words(f);
    for (uint32_t i = 0; i < f->count; i++)
        f->words[i].value = f->words[i].p * idf(ctx, bytes_of(f->words[i].term, f->words[i].size));
    qsort(f->words, f->count, sizeof *f->words, by_value);
    if (words > f->count) words = f->count;
    for (uint32_t i = 0; i < words; i++) sum += f->words[i].p;
    for (uint32_t i = 0; i < words; i++)
        lexical_query_add(query, bytes_of(f->words[i].term, f->words[i].size), times * f->words[i].p / sum);
}
