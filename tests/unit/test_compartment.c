/* What is held of a store, in parts: whatever came and went, and wherever the parts end, the same as if built at
 * once. */
#include "retrieval/compartment.h"
#include "test.h"

#include <stdlib.h>

enum { DIM = 32, DOCS = 160, CHUNKS_MAX = 5, QUERIES = 6, STEPS = 120, SMALL = 12, LABELS = 2, LISTS = 16 };

static uint64_t state = 2463534242u;
static uint32_t next(void)
{
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return (uint32_t)(state >> 32);
}

static const char *const WORDS[] = {"river", "bank", "stone", "light", "garden", "music", "engine", "winter", "paper",
    "harbour", "copper", "valley", "signal", "mirror", "anchor", "cloud"};
enum { WORD_COUNT = sizeof WORDS / sizeof *WORDS };

static store_header headers[DOCS];
static char texts[DOCS][CHUNKS_MAX][200];
static bytes chunks[DOCS][CHUNKS_MAX];
static float vectors[DOCS][CHUNKS_MAX * DIM];
static ifc_label labels[LABELS];
static terms *stemmer;
static dense *centroids;

/* Some ids share long beginnings, some documents have no chunks, one has more than a part holds. */
static void make_documents(void)
{
    for (uint8_t i = 0; i < LABELS; i++) {
        ifc_label_public(&labels[i]);
        CHECK_OK(ifc_label_secrecy_add(&labels[i], &(id128){{(uint8_t)(i + 1)}}, 1));
    }
    for (size_t d = 0; d < DOCS; d++) {
        store_header *h = &headers[d];
        for (size_t i = 0; i < ID_BYTES; i++) h->id.b[i] = (uint8_t)next();
        if (d % 3 == 0) memset(h->id.b, 0xa5, 1 + d % 9);
        snprintf(h->path, sizeof h->path, "notes/%zu.txt", d);
        snprintf(h->media_type, sizeof h->media_type, "text/plain");
        h->label = labels[next() % 4 == 0];
        h->chunk_count = d % 17 == 3 ? 0 : 1 + next() % CHUNKS_MAX;
        for (size_t c = 0; c < h->chunk_count; c++) {
            for (uint32_t n = 3 + next() % 12; n > 0; n--) {
                strcat(texts[d][c], WORDS[(next() % WORD_COUNT) * (next() % 100) / 100]);
                strcat(texts[d][c], " ");
            }
            chunks[d][c] = bytes_str(texts[d][c]);
        }
        for (size_t i = 0; i < CHUNKS_MAX * DIM; i++) vectors[d][i] = (float)(int32_t)next() / 2147483648.0f;
    }
    CHECK_OK(dense_open(&centroids, DIM));
    for (uint8_t i = 0; i < LISTS; i++) CHECK_OK(dense_add(centroids, (id128){{i}}, 1, vectors[7 * i]));
}

static holding_addition addition_of(size_t d) { return (holding_addition){&headers[d], chunks[d], vectors[d], 0}; }

static void build(holding *h, const bool in[DOCS], uint32_t part_rows_max)
{
    holding_addition all[DOCS];
    size_t n = 0;
    holding_init(h, DIM, centroids);
    h->part_rows_max = part_rows_max;
    for (size_t d = 0; d < DOCS; d++)
        if (in[d]) all[n++] = addition_of(d);
    if (n > 0) CHECK_OK(holding_add(h, all, n));
}

/* ---- comparing ---- */
static int by_place(const void *a_, const void *b_)
{
    const part *a = *(part *const *)a_, *b = *(part *const *)b_;
    int labels_differ = memcmp(&a->label, &b->label, sizeof a->label);
    return labels_differ ? labels_differ : id_compare(a->prefix, b->prefix);
}

static bool same_rows(const dense *a, const dense *b)
{
    if (dense_rows(a) != dense_rows(b)) return false;
    for (uint32_t r = 0; r < dense_rows(a); r++) {
        dense_key x = dense_key_of(a, r), y = dense_key_of(b, r);
        if (!id_equal(x.document, y.document) || x.chunk != y.chunk ||
            memcmp(dense_vector(a, r), dense_vector(b, r), DIM * sizeof(float)) != 0 ||
            dense_list(a, r) != dense_list(b, r)) return false;
    }
    return true;
}

/* The same parts with the same bytes in them. */
static bool same_parts(holding *a, holding *b)
{
    if (a->part_count != b->part_count || a->document_count != b->document_count || a->chunks != b->chunks) return false;
    if (a->part_count == 0) return true;
    qsort(a->parts, a->part_count, sizeof(part *), by_place);
    qsort(b->parts, b->part_count, sizeof(part *), by_place);
    for (uint32_t i = 0; i < a->part_count; i++) {
        const part *x = a->parts[i], *y = b->parts[i];
        if (by_place(&a->parts[i], &b->parts[i]) != 0 || x->bits != y->bits || x->documents != y->documents ||
            !same_rows(x->vectors, y->vectors) || lexical_digest(x->words) != lexical_digest(y->words)) return false;
    }
    return true;
}

static bool in_own_parts(const holding *h)
{
    for (uint32_t i = 0; i < h->document_count; i++) {
        const holding_document *d = &h->documents[i];
        uint32_t row, p = 0;
        while (p < h->part_count && h->parts[p] != d->home) p++;
        if (p == h->part_count) return false;
        if (d->chunk_count > 0 && !dense_find(d->home->vectors, d->id, d->chunk_count - 1, &row)) return false;
    }
    for (uint32_t i = 0; i < h->part_count; i++)
        if (dense_rows(h->parts[i]->vectors) > h->part_rows_max && h->parts[i]->documents > 1) return false;
    return true;
}

/* Each document's chunks' BM25, as search adds it up over all parts; (DOCS, CHUNKS_MAX). */
static void scores_of(const holding *h, const lexical_query *q, float *out)
{
    static const lexical_weights WEIGHTS = {1.0f, 0.65f, 0.7f};
    lexical_totals *totals = mem_alloc(sizeof *totals);
    memset(out, 0, DOCS * CHUNKS_MAX * sizeof *out);
    for (uint32_t i = 0; i < h->part_count; i++) lexical_totals_add(h->parts[i]->words, q, totals);
    for (uint32_t i = 0; i < h->part_count; i++) {
        const part *p = h->parts[i];
        float *scores = mem_alloc_array(lexical_rows(p->words) + 1, sizeof *scores);
        lexical_score(p->words, q, totals, &WEIGHTS, scores);
        for (size_t d = 0; d < DOCS; d++)
            for (uint32_t c = 0, row; c < headers[d].chunk_count; c++)
                if (dense_find(p->vectors, headers[d].id, c, &row)) out[d * CHUNKS_MAX + c] = scores[row];
        mem_free(scores);
    }
    mem_free(totals);
}

static bool same_scores(const holding *a, const holding *b)
{
    static float x[DOCS * CHUNKS_MAX], y[DOCS * CHUNKS_MAX];
    lexical_query *q = mem_alloc(sizeof *q);
    bool same = true;
    for (int i = 0; i < QUERIES; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s %s", WORDS[next() % WORD_COUNT], WORDS[next() % WORD_COUNT]);
        lexical_query_init(q, stemmer, bytes_str(text));
        scores_of(a, q, x);
        scores_of(b, q, y);
        same = same && memcmp(x, y, sizeof x) == 0;
    }
    mem_free(q);
    return same;
}

/* ---- the tests ---- */
static void change(holding *h, bool in[DOCS])
{
    holding_addition more[DOCS];
    id128 gone[DOCS];
    size_t added = 0, removed = 0;
    uint32_t share = 1 + next() % 8;
    bool adds = next() % 2 == 0;
    for (size_t d = 0; d < DOCS; d++) {
        if (next() % share != 0 || in[d] == adds) continue;
        if (adds) more[added++] = addition_of(d);
        else gone[removed++] = headers[d].id;
        in[d] = adds;
    }
    if (added > 0) CHECK_OK(holding_add(h, more, added));
    holding_remove_many(h, gone, removed);
}

/* Mutants: parts_stay_divided, list_keeps_erased. */
static void histories_leave_no_trace(void)
{
    bool in[DOCS] = {false};
    holding lived, fresh, whole;
    holding_init(&lived, DIM, centroids);
    lived.part_rows_max = SMALL;
    uint32_t most = 0;
    for (int step = 0; step < STEPS; step++) {
        change(&lived, in);
        build(&fresh, in, SMALL);
        build(&whole, in, PART_ROWS_MAX);
        most = lived.part_count > most ? lived.part_count : most;
        CHECK(in_own_parts(&lived) && in_own_parts(&fresh));
        CHECK(same_parts(&lived, &fresh));
        CHECK(whole.part_count <= LABELS && same_scores(&lived, &whole));
        holding_clear(&fresh);
        holding_clear(&whole);
    }
    CHECK(most > 20);
    for (size_t d = 0; d < DOCS; d++) holding_remove(&lived, headers[d].id);
    CHECK(lived.part_count == 0 && lived.document_count == 0 && lived.chunks == 0);
    holding_clear(&lived);
}

/* A document larger than a part has one for itself, as short of bits as its neighbours allow. */
static void one_large_document_is_one_part(void)
{
    bool in[DOCS] = {false};
    holding h;
    size_t d = 0;
    while (headers[d].chunk_count < 2) d++;
    in[d] = true;
    build(&h, in, 1);
    CHECK(h.part_count == 1 && h.parts[0]->bits == 0 && in_own_parts(&h));
    holding_clear(&h);
}

int main(void)
{
    make_documents();
    terms_open(&stemmer);
    RUN(histories_leave_no_trace);
    RUN(one_large_document_is_one_part);
    terms_close(&stemmer);
    dense_close(&centroids);
    return DONE();
}
