#include "retrieval/lexical.h"
#include "test.h"

#include <math.h>

enum { DOCS = 30, CHUNKS = 4 };

static uint64_t state = 424242;
static uint32_t next(void)
{
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return (uint32_t)(state >> 32);
}

static const char *const WORDS[] = {"river", "bank", "stone", "light", "garden", "music", "engine",
    "winter", "paper", "harbour", "copper", "valley", "signal", "mirror", "anchor", "cloud"};
enum { WORD_COUNT = sizeof WORDS / sizeof *WORDS };

static id128 ids[DOCS];                          /* ascending */
static char texts[DOCS][CHUNKS][400];
static uint8_t bag[DOCS][CHUNKS][WORD_COUNT];
static bytes chunks[DOCS][CHUNKS];
static uint32_t counts[DOCS];
static terms *stemmer;

static void make_documents(void)
{
    for (size_t d = 0; d < DOCS; d++) {
        ids[d].b[0] = (uint8_t)(d * 3 + 1);
        counts[d] = 1 + next() % CHUNKS;
        for (size_t c = 0; c < counts[d]; c++) {
            for (uint32_t n = 3 + next() % 20; n > 0; n--) {
                uint32_t w = (next() % WORD_COUNT) * (next() % 100) / 100;
                bag[d][c][w]++;
                strcat(texts[d][c], WORDS[w]);
                strcat(texts[d][c], next() % 5 ? " " : ", the ");
            }
            chunks[d][c] = bytes_str(texts[d][c]);
        }
    }
}

static lexical *built(const bool in[DOCS])
{
    lexical *lx;
    lexical_open(&lx);
    for (size_t d = 0; d < DOCS; d++)
        if (in == NULL || in[d]) lexical_append(lx, stemmer, ids[d], chunks[d], counts[d]);
    return lx;
}

static double idf(double n, double with) { return log(1 + (n - with + 0.5) / (with + 0.5)); }

/* BM25 as its formula stands, over the bags of words. */
static double naive(size_t doc, size_t chunk, const int *query, size_t query_size,
                    const lexical_weights *w)
{
    double chunk_count = 0, length = 0, sum = 0, own[2] = {0, 0};
    for (size_t d = 0; d < DOCS; d++)
        for (size_t c = 0; c < counts[d]; c++, chunk_count++)
            for (size_t i = 0; i < WORD_COUNT; i++) length += bag[d][c][i];
    for (size_t c = 0; c < counts[doc]; c++)
        for (size_t i = 0; i < WORD_COUNT; i++) {
            own[1] += bag[doc][c][i];
            if (c == chunk) own[0] += bag[doc][c][i];
        }
    for (size_t q = 0; q < query_size; q++) {
        double with_chunk = 0, with_document = 0, tf = bag[doc][chunk][query[q]], tf_document = 0;
        for (size_t d = 0; d < DOCS; d++) {
            bool any = false;
            for (size_t c = 0; c < counts[d]; c++) {
                with_chunk += bag[d][c][query[q]] > 0;
                any = any || bag[d][c][query[q]] > 0;
                if (d == doc) tf_document += bag[d][c][query[q]];
            }
            with_document += any;
        }
        double k1 = (double)w->k1, b = (double)w->b, share = (double)w->document_share;
        sum += (1 - share) * idf(chunk_count, with_chunk) * tf * (k1 + 1) /
               (tf + k1 * (1 - b + b * own[0] / (length / chunk_count)));
        sum += share * idf(DOCS, with_document) * tf_document * (k1 + 1) /
               (tf_document + k1 * (1 - b + b * own[1] / (length / DOCS)));
    }
    return sum;
}

static void scores_are_bm25(void)
{
    static const int query[] = {0, 5, 9};
    static const lexical_weights weights[] = {{1.2f, 0.75f, 0}, {0.9f, 0.4f, 0.5f}, {2, 0, 1}};
    lexical *lx = built(NULL);
    lexical_query *q = mem_alloc(sizeof *q);
    lexical_totals *totals = mem_alloc(sizeof *totals);
    lexical_query_init(q, stemmer, bytes_str("The River's? musics and HARBOURS!"));
    CHECK(q->count == 3);
    lexical_totals_add(lx, q, totals);
    CHECK(totals->documents == DOCS && totals->chunks == lexical_rows(lx));
    for (size_t w = 0; w < 3; w++) {
        float *scores = mem_alloc_array(lexical_rows(lx), sizeof *scores);
        lexical_score(lx, q, totals, &weights[w], scores);
        uint32_t row = 0;
        for (size_t d = 0; d < DOCS; d++)
            for (size_t c = 0; c < counts[d]; c++, row++)
                CHECK(fabs((double)scores[row] - naive(d, c, query, 3, &weights[w])) < 1e-4);
        mem_free(scores);
    }
    mem_free(q);
    mem_free(totals);
    lexical_close(&lx);
}

static void history_leaves_no_trace(void)
{
    lexical *mixed;
    bool in[DOCS] = {false};
    lexical_open(&mixed);
    for (int step = 0; step < 600; step++) {
        size_t d = next() % DOCS;
        if (in[d]) {
            lexical_remove(mixed, ids[d]);
        } else {
            lexical *one;
            lexical_open(&one);
            lexical_append(one, stemmer, ids[d], chunks[d], counts[d]);
            lexical_merge(mixed, one);
            lexical_close(&one);
        }
        in[d] = !in[d];
        if (step % 50 == 49) {
            lexical *fresh = built(in);
            CHECK(lexical_rows(fresh) == lexical_rows(mixed));
            CHECK(lexical_digest(fresh) == lexical_digest(mixed));
            lexical_close(&fresh);
        }
    }
    for (size_t d = 0; d < DOCS; d++) lexical_remove(mixed, ids[d]);
    lexical *empty;
    lexical_open(&empty);
    CHECK(lexical_rows(mixed) == 0 && lexical_digest(mixed) == lexical_digest(empty));
    lexical_close(&empty);
    lexical_close(&mixed);
}

static const lexical_weights half = {1.2f, 0.75f, 0.5f};

static void parts_add_up_to_the_whole(void)
{
    bool even[DOCS], odd[DOCS];
    for (size_t d = 0; d < DOCS; d++) {
        even[d] = d % 2 == 0;
        odd[d] = !even[d];
    }
    lexical *a = built(even), *b = built(odd), *all = built(NULL);
    lexical_query *q = mem_alloc(sizeof *q);
    lexical_totals *parts = mem_alloc(sizeof *parts), *whole = mem_alloc(sizeof *whole);
    lexical_query_init(q, stemmer, bytes_str("stone light stone"));
    CHECK(q->count == 2 && q->times[0] == 2);
    lexical_totals_add(b, q, parts);
    lexical_totals_add(a, q, parts);
    lexical_totals_add(all, q, whole);
    CHECK(memcmp(parts, whole, sizeof *parts) == 0);
    float *x = mem_alloc_array(lexical_rows(a), sizeof *x), *y = mem_alloc_array(lexical_rows(all),
                                                                                 sizeof *y);
    lexical_score(a, q, parts, &half, x);
    lexical_score(all, q, whole, &half, y);
    uint32_t row = 0, row_all = 0;
    for (size_t d = 0; d < DOCS; d++)
        for (size_t c = 0; c < counts[d]; c++, row_all++)
            if (even[d]) {
                CHECK(x[row] == y[row_all]);
                row++;
            }
    CHECK(row == lexical_rows(a));
    lexical_merge(a, b);
    CHECK(lexical_digest(a) == lexical_digest(all));
    mem_free(x);
    mem_free(y);
    mem_free(q);
    mem_free(parts);
    mem_free(whole);
    lexical_close(&a);
    lexical_close(&b);
    lexical_close(&all);
}

static char seen[2000];
static void note(void *ctx, bytes term, bytes word)
{
    (void)ctx;
    (void)word;
    strncat(seen, (const char *)term.data, term.size);
    strcat(seen, " ");
}

static void words_become_terms(void)
{
    static const struct { const char *text, *terms; } cases[] = {
        {"Running runners ran", "run runner ran "},
        {"the of and", ""},
        {"Caf\xC3\xA9 CAFE\xCC\x81 cafe", "cafe cafe cafe "},
        {"\xEF\xAC\x81le \xEF\xBC\xA1\xEF\xBC\xA2", "file ab "},
        {"state-of-the-art 3.14", "state art 3 14 "},
        {"Stra\xC3\x9F" "e", "strass "},
        {"\xE4\xBD\xA0\xE5\xA5\xBD ok", "\xE4\xBD\xA0 \xE5\xA5\xBD ok "},
        {"\xF0\x9F\x98\x80!", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        seen[0] = 0;
        terms_each(stemmer, bytes_str(cases[i].text), note, NULL);
        CHECK(strcmp(seen, cases[i].terms) == 0);
        if (strcmp(seen, cases[i].terms) != 0) printf("# case %zu: %s\n", i, seen);
    }
    char longest[5000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    seen[0] = 0;
    terms_each(stemmer, bytes_str(longest), note, NULL);
    CHECK(strlen(seen) <= TERM_MAX_BYTES + 1);
    terms_each(stemmer, bytes_of("\xFF\xFE broken \xC3", 11), note, NULL);
}

int main(void)
{
    terms_open(&stemmer);
    make_documents();
    RUN(scores_are_bm25);
    RUN(history_leaves_no_trace);
    RUN(parts_add_up_to_the_whole);
    RUN(words_become_terms);
    terms_close(&stemmer);
    return DONE();
}
