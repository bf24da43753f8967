/* Search within a clearance: collect the permitted compartments, add up their statistics, score,
 * fuse, and in hybrid mode once more with the words of what was found.
 *
 * Non-interference rests on the order of the steps: what the context does not permit is left out
 * before anything is counted or scored, so that every number below is a function of the
 * permitted compartments and the query. Nothing is filtered after it. Candidates are the best
 * POOL of each ranking over all permitted compartments together, so that how documents fall into
 * compartments moves nothing. */
#include "search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "centroids.h"
#include "mutant.h"
#include "slots.h"

enum { POOL = 200, WINDOW = 3 };

/* Fixed on the development questions (lethe_eval_retrieval --qa), where all are flat near their optimum.
 * The dense share is the best there. Of lexical's k1 and b the best were 0.9 and 0.6; their neighbours
 * here were preferred with an eye on a second collection. Lost there: reciprocal rank fusion (recall@1
 * of the passage 0.79-0.80 against 0.83), moving the query's vector towards the first ranking's best chunks
 * (no gain), chunk-level evidence alone (lexical recall@1 0.80 against 0.82).
 *
 * Feedback's were chosen on training passages and MedQuAD (tests/bench/make_topics.py), so that the development
 * questions lose little. nDCG@10 of the sentences there, recall@5 and @1 of the development questions' passages: without
 * 0.324, 0.962, 0.833; these 0.374, 0.959, 0.831; share 0.5 0.401, 0.954, 0.829; passages of equal weight 0.365, 0.961,
 * 0.820. Lost: words that two passages must have, a share by how much of the query the best passage covers. */
const search_weights SEARCH_WEIGHTS = {
    .lexical = {.k1 = 1.0f, .b = 0.65f, .document_share = 0.7f},
    .dense_share = 0.3f, .window_share = 0.3f, .rarity = 1.0f,
    .feedback = {.passages = 5, .words = 20, .share = 0.25f, .sharpness = 10},
};

typedef struct { slot *s; part *p; float *lexical; } view;

typedef struct {
    uint32_t view, row, chunk;
    id128 document;
    float dense, lexical, score;
    float nearness;                /* what fusion takes for dense: the surroundings count too */
} candidate;

typedef struct {
    retrieval *r;
    const retrieval_scope *scope;
    const search_weights *weights;
    slot **slots;
    size_t slot_count;
    view *views;
    uint32_t view_count;
    terms *terms;
    lexical_query *query;
    lexical_totals *totals;
    float *vector;                 /* (dimensions) */
    candidate *candidates;
    size_t candidate_count, candidate_capacity;
} search;

/* ---- what may be used ------------------------------------------------------------------------ */

static int by_owner(const void *a, const void *b)
{
    return id_compare(*(const id128 *)a, *(const id128 *)b);
}

#ifdef LETHE_MUTANTS
/* The broken variant tenant_unchecked: every store that is open, whoever's it is. */
static void pin_everything(search *q)
{
    pthread_mutex_lock(&q->r->lock);
    q->slots = mem_alloc_array(q->r->slot_count, sizeof *q->slots);
    for (uint32_t i = 0; i < q->r->slot_count; i++) {
        q->slots[q->slot_count++] = q->r->slots[i];
        q->r->slots[i]->users++;
    }
    pthread_mutex_unlock(&q->r->lock);
    for (size_t i = 0; i < q->slot_count; i++) pthread_rwlock_rdlock(&q->slots[i]->lock);
}
#endif

/* Locks the scope's stores for reading, in ascending order, each once; those that do not exist are
 * simply empty. */
static result pin_scope(search *q)
{
#ifdef LETHE_MUTANTS
    if (MUTANT(tenant_unchecked)) {
        pin_everything(q);
        return OK;
    }
#endif
    size_t count = q->scope->owner_count;
    id128 *owners = mem_alloc_array(count, sizeof *owners);
    if (count) memcpy(owners, q->scope->owners, count * sizeof *owners);
    if (count > 1) qsort(owners, count, sizeof *owners, by_owner);
    q->slots = mem_alloc_array(count, sizeof *q->slots);
    result done = OK;
    for (size_t i = 0; i < count && is_ok(done); i++) {
        slot *s;
        if (i > 0 && id_equal(owners[i], owners[i - 1])) continue;
        if (!is_ok(done = ifc_context_alive(q->scope->context))) break;
        done = slot_acquire(q->r, q->scope->context->tenant, owners[i], false, false, &s);
        if (is_ok(done)) q->slots[q->slot_count++] = s;
        else if (done.code == E_NOT_FOUND) done = OK;
    }
    mem_free(owners);
    return done;
}

static bool may_use(const search *q, const ifc_label *label)
{
    if (MUTANT(filter_after_search) || MUTANT(tenant_unchecked)) return true;
    return ifc_context_permits(q->scope->context, label);
}

static void collect_views(search *q)
{
    size_t most = 0;
    for (size_t i = 0; i < q->slot_count; i++) most += q->slots[i]->memory.part_count;
    q->views = mem_alloc_array(most, sizeof *q->views);
    for (size_t i = 0; i < q->slot_count; i++)
        for (uint32_t c = 0; c < q->slots[i]->memory.part_count; c++) {
            part *home = q->slots[i]->memory.parts[c];
            if (may_use(q, &home->label))
                q->views[q->view_count++] = (view){q->slots[i], home, NULL};
            else if (MUTANT(statistics_shared))
                lexical_totals_add(home->words, q->query, q->totals);
        }
}

/* Opens the search: stores locked, permitted compartments known, statistics summed. */
static result search_begin(search *q, retrieval *r, const retrieval_scope *scope, bytes query)
{
    *q = (search){.r = r, .scope = scope, .weights = &SEARCH_WEIGHTS};
    q->query = mem_alloc(sizeof *q->query);
    q->totals = mem_alloc(sizeof *q->totals);
    q->vector = mem_alloc_array(embedder_dimensions(r->embedder), sizeof *q->vector);
    terms_open(&q->terms);
    lexical_query_init(q->query, q->terms, query);
    TRY(pin_scope(q));
    collect_views(q);
    for (uint32_t v = 0; v < q->view_count; v++)
        lexical_totals_add(q->views[v].p->words, q->query, q->totals);
    return OK;
}

static void wipe_free(void *p, size_t size)
{
    if (p != NULL) mem_wipe(p, size);
    mem_free(p);
}

static void search_end(search *q)
{
    for (uint32_t v = 0; v < q->view_count; v++)
        wipe_free(q->views[v].lexical, lexical_rows(q->views[v].p->words) * sizeof(float));
    for (size_t i = 0; i < q->slot_count; i++) slot_release(q->r, &q->slots[i]);
    wipe_free(q->candidates, q->candidate_capacity * sizeof *q->candidates);
    terms_close(&q->terms);
    wipe_free(q->query, sizeof *q->query);
    wipe_free(q->totals, sizeof *q->totals);
    wipe_free(q->vector, embedder_dimensions(q->r->embedder) * sizeof *q->vector);
    mem_free(q->views);
    mem_free(q->slots);
}

typedef struct { search *q; uint32_t known; } weighing;

static void weigh_word(void *ctx, bytes term, bytes word)
{
    weighing *w = ctx;
    uint32_t i = lexical_query_find(w->q->query, term);
    if (i == w->q->query->count) return;
    float weight = powf(lexical_idf(w->q->totals, i), w->q->weights->rarity);
    w->known += embedder_add(w->q->r->embedder, word, weight, w->q->vector);
}

/* The query's vector: its words weighted by how rare they are in what the reader may read, where
 * a collection's own common words say little. Function words are left out, unless there is
 * nothing else. */
static bool embed_query(search *q, bytes query)
{
    weighing w = {q, 0};
    if (q->weights->rarity <= 0) return embedder_embed(q->r->embedder, query, q->vector);
    terms_each(q->terms, query, weigh_word, &w);
    if (w.known == 0) return embedder_embed(q->r->embedder, query, q->vector);
    return embedder_finish(q->r->embedder, w.known, q->vector);
}

/* ---- candidates ------------------------------------------------------------------------------ */

static int by_identity(const candidate *a, const candidate *b)
{
    int order = id_compare(a->document, b->document);
    return order != 0 ? order : (a->chunk > b->chunk) - (a->chunk < b->chunk);
}

static int best_first(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return by_identity(x, y);
}

static int identity_order(const void *a, const void *b) { return by_identity(a, b); }

static void push(search *q, uint32_t v, uint32_t row, float score)
{
    if (q->candidate_count == q->candidate_capacity) {
        size_t capacity = q->candidate_capacity * 2 + 2 * POOL;
        candidate *grown = mem_alloc_array(capacity, sizeof *grown);
        if (q->candidate_count)
            memcpy(grown, q->candidates, q->candidate_count * sizeof *grown);
        wipe_free(q->candidates, q->candidate_capacity * sizeof *grown);
        q->candidates = grown;
        q->candidate_capacity = capacity;
    }
    dense_key key = dense_key_of(q->views[v].p->vectors, row);
    q->candidates[q->candidate_count++] =
        (candidate){.view = v, .row = row, .chunk = key.chunk, .document = key.document,
                    .score = score};
}

/* Keeps the best POOL of those from `first` on. */
static void cut_pool(search *q, size_t first)
{
    size_t count = q->candidate_count - first;
    if (count > 1) qsort(q->candidates + first, count, sizeof *q->candidates, best_first);
    if (count > POOL) q->candidate_count = first + POOL;
}

#ifdef LETHE_MUTANTS
/* The broken variants probe_switch_counts_all and probe_sizes_count_all: what the asker may not read counts too. */
static uint64_t count_all(const search *q, uint64_t *sizes)
{
    uint64_t rows = 0;
    for (size_t i = 0; i < q->slot_count; i++)
        for (uint32_t p = 0; p < q->slots[i]->memory.part_count; p++) {
            const dense *vectors = q->slots[i]->memory.parts[p]->vectors;
            rows += dense_rows(vectors);
            if (sizes != NULL) dense_count_lists(vectors, sizes);
        }
    return rows;
}
#endif

/* Does the search read some lists alone, and which? By what is permitted, see centroids.h. */
static result choose_lists(const search *q, bool *chosen, bool *probes)
{
    uint64_t rows = 0, sizes[DENSE_LISTS_MAX] = {0};
    for (uint32_t v = 0; v < q->view_count; v++) rows += dense_rows(q->views[v].p->vectors);
#ifdef LETHE_MUTANTS
    if (MUTANT(probe_switch_counts_all)) rows = count_all(q, NULL);
#endif
    *probes = q->r->centroids != NULL && rows >= q->r->probe_chunks_min;
    if (!*probes) return OK;
    for (uint32_t v = 0; v < q->view_count; v++) dense_count_lists(q->views[v].p->vectors, sizes);
#ifdef LETHE_MUTANTS
    if (MUTANT(probe_sizes_count_all)) {
        memset(sizes, 0, sizeof sizes);
        (void)count_all(q, sizes);
    }
#endif
    uint64_t least = (rows * q->r->probe_percent + 99) / 100;
    return centroids_choose(q->r->centroids, q->vector, sizes, least > POOL ? least : POOL, chosen);
}

/* The pool is cut now and then, and what is worse than the cut never enters: as if cut once at the end. */
static result dense_pool(search *q)
{
    size_t first = q->candidate_count;
    dense_hit *hits = mem_alloc_array(POOL, sizeof *hits);
    bool chosen[DENSE_LISTS_MAX], probes = false;
    float floor = -INFINITY;
    result done = choose_lists(q, chosen, &probes);
    for (uint32_t v = 0; v < q->view_count && is_ok(done); v++) {
        uint32_t count = 0;
        done = ifc_context_alive(q->scope->context);
        if (is_ok(done)) done = dense_search_some(q->views[v].p->vectors, q->vector, probes ? chosen : NULL, floor, POOL,
                                                  hits, &count);
        for (uint32_t i = 0; i < count; i++) push(q, v, hits[i].row, hits[i].score);
        if (q->candidate_count - first < 2 * POOL) continue;
        cut_pool(q, first);
        floor = q->candidates[q->candidate_count - 1].score;
    }
    mem_free(hits);
    cut_pool(q, first);
    return done;
}

/* Every row of every view by the query's own words. */
static result lexical_rank(search *q)
{
    for (uint32_t v = 0; v < q->view_count; v++) {
        view *w = &q->views[v];
        TRY(ifc_context_alive(q->scope->context));
        w->lexical = mem_alloc_array(lexical_rows(w->p->words), sizeof *w->lexical);
        lexical_score(w->p->words, q->query, q->totals, &q->weights->lexical, w->lexical);
    }
    return OK;
}

/* Rows with a score go through a pool that is cut whenever it is full. */
static result lexical_pool(search *q)
{
    size_t first = q->candidate_count;
    for (uint32_t v = 0; v < q->view_count; v++) {
        const view *w = &q->views[v];
        uint32_t rows = lexical_rows(w->p->words);
        float floor = 0;
        TRY(ifc_context_alive(q->scope->context));
        for (uint32_t row = 0; row < rows; row++) {
            if (w->lexical[row] <= 0 || w->lexical[row] < floor) continue;
            push(q, v, row, w->lexical[row]);
            if (q->candidate_count - first < 8 * POOL) continue;
            cut_pool(q, first);
            floor = q->candidates[q->candidate_count - 1].score;
        }
    }
    cut_pool(q, first);
    return OK;
}

/* Inner product with the chunk, and in part with the mean of what stands around it in its
 * document (up to WINDOW chunks to each side): a passage is about what its section is about. */
static float nearness(const search *q, const candidate *c)
{
    const float *vector = q->vector;
    const dense *vectors = q->views[c->view].p->vectors;
    float share = q->weights->window_share, own = c->dense;
    if (share <= 0) return own;
    uint32_t dimensions = embedder_dimensions(q->r->embedder), rows = dense_rows(vectors);
    uint32_t first = c->row - (c->chunk < WINDOW ? c->chunk : WINDOW);
    double dot = 0, square = 0;
    float sum[dimensions];
    memset(sum, 0, sizeof sum);
    for (uint32_t row = first; row < rows && row <= c->row + WINDOW; row++) {
        if (!id_equal(dense_key_of(vectors, row).document, c->document)) break;
        const float *v = dense_vector(vectors, row);
        for (uint32_t d = 0; d < dimensions; d++) sum[d] += v[d];
    }
    for (uint32_t d = 0; d < dimensions; d++) {
        dot += (double)sum[d] * (double)vector[d];
        square += (double)sum[d] * (double)sum[d];
    }
    return (1 - share) * own + share * (square > 0 ? (float)(dot / sqrt(square)) : 0);
}

/* One entry a chunk, with both scores. */
static void complete_candidates(search *q, bool with_vector)
{
    size_t kept = 0;
    if (q->candidate_count > 1)
        qsort(q->candidates, q->candidate_count, sizeof *q->candidates, identity_order);
    for (size_t i = 0; i < q->candidate_count; i++) {
        candidate *c = &q->candidates[i];
        if (kept > 0 && by_identity(&q->candidates[kept - 1], c) == 0) continue;
        const view *w = &q->views[c->view];
        c->dense = with_vector ? dense_dot(w->p->vectors, c->row, q->vector) : 0;
        c->nearness = with_vector ? nearness(q, c) : 0;
        c->lexical = w->lexical != NULL ? w->lexical[c->row] : 0;
        q->candidates[kept++] = *c;
    }
    q->candidate_count = kept;
}

/* ---- fusion ---------------------------------------------------------------------------------- */

static void fuse_scaled(search *q)
{
    float low = INFINITY, high = -INFINITY, top = 0, w = q->weights->dense_share;
    for (size_t i = 0; i < q->candidate_count; i++) {
        low = fminf(low, q->candidates[i].nearness);
        high = fmaxf(high, q->candidates[i].nearness);
        top = fmaxf(top, q->candidates[i].lexical);
    }
    for (size_t i = 0; i < q->candidate_count; i++) {
        candidate *c = &q->candidates[i];
        float d = high > low ? (c->nearness - low) / (high - low) : 0;
        float l = top > 0 ? c->lexical / top : 0;
        c->score = w * d + (1 - w) * l;
    }
}

static void fuse(search *q, search_mode mode)
{
    for (size_t i = 0; i < q->candidate_count; i++) {
        candidate *c = &q->candidates[i];
        c->score = mode == SEARCH_DENSE ? c->dense : mode == SEARCH_LEXICAL ? c->lexical : 0;
    }
    if (mode == SEARCH_HYBRID) fuse_scaled(q);
    if (q->candidate_count > 1)
        qsort(q->candidates, q->candidate_count, sizeof *q->candidates, best_first);
}

/* ---- feedback -------------------------------------------------------------------------------- */

typedef struct { search *q; feedback *f; } feeding;

static result read_chunk(void *ctx, uint32_t number, const store_chunk *chunk)
{
    feeding *into = ctx;
    (void)number;
    feedback_read(into->f, into->q->terms, chunk->text);
    return OK;
}

/* The chunk with the one before and the one behind it, as far as the document has them. */
static result read_passage(search *q, const candidate *c, feedback *f)
{
    const view *w = &q->views[c->view];
    uint32_t first = c->chunk - (c->chunk > 0), count = c->chunk - first + 1;
    bool more = c->row + 1 < dense_rows(w->p->vectors) &&
                id_equal(dense_key_of(w->p->vectors, c->row + 1).document, c->document);
    feeding into = {q, f};
    feedback_passage(f, expf(q->weights->feedback.sharpness * (c->score - q->candidates[0].score)));
    return store_each_chunk(w->s->disk, c->document, first, count + more, read_chunk, &into);
}

/* Is it its document's best? Only the best of each is read. */
static bool leads(const search *q, size_t at)
{
    size_t i = 0;
    while (!id_equal(q->candidates[i].document, q->candidates[at].document)) i++;
    return i == at;
}

/* A word's over the permitted compartments together. */
static float permitted_idf(void *ctx, bytes term)
{
    const search *q = ctx;
    uint64_t all = q->totals->chunks, with = 0;
    for (uint32_t v = 0; v < q->view_count; v++) with += lexical_chunks_with(q->views[v].p->words, term);
    if (MUTANT(feedback_counts_all)) {
        all = with = 0;
        for (size_t i = 0; i < q->slot_count; i++)
            for (uint32_t p = 0; p < q->slots[i]->memory.part_count; p++) {
                all += lexical_rows(q->slots[i]->memory.parts[p]->words);
                with += lexical_chunks_with(q->slots[i]->memory.parts[p]->words, term);
            }
    }
    return lexical_idf_of(all, with);
}

/* How often the query's words occur in it that some permitted chunk has. */
static float times_known(const search *q)
{
    float sum = 0;
    for (uint32_t i = 0; i < q->query->count; i++)
        if (q->totals->chunks_with[i] > 0) sum += q->query->times[i];
    return sum;
}

/* The further words of the query, from the best of the candidates; none where none of its own is known. */
static result find_more(search *q, lexical_query *more)
{
    const feedback_weights *w = &q->weights->feedback;
    feedback *f;
    result done = OK;
    uint32_t read = 0;
    float times = times_known(q);
    if (times <= 0) return OK;
    feedback_open(&f);
    for (size_t i = 0; i < q->candidate_count && read < w->passages && is_ok(done); i++) {
        if (!leads(q, i)) continue;
        if (is_ok(done = ifc_context_alive(q->scope->context))) done = read_passage(q, &q->candidates[i], f);
        read++;
    }
    if (is_ok(done)) feedback_query(f, w->words, times, permitted_idf, q, more);
    feedback_close(&f);
    return done;
}

/* Lexical scores become a mixture of those by the query's own words and by the further ones. */
static void mix_lexical(search *q, lexical_query *more)
{
    float share = q->weights->feedback.share;
    lexical_totals *totals = mem_alloc(sizeof *totals);
    for (uint32_t i = 0; i < more->count; i++) more->times[i] *= share;
    for (uint32_t v = 0; v < q->view_count; v++)
        lexical_totals_add(q->views[v].p->words, more, totals);
    for (uint32_t v = 0; v < q->view_count; v++) {
        view *w = &q->views[v];
        for (uint32_t row = 0; row < lexical_rows(w->p->words); row++) w->lexical[row] *= 1 - share;
        lexical_score(w->p->words, more, totals, &q->weights->lexical, w->lexical);
    }
    wipe_free(totals, sizeof *totals);
}

/* Ranks once more, with further words. The candidates of the first time stay among them. */
static result search_again(search *q, bool with_vector)
{
    lexical_query *more = mem_alloc(sizeof *more);
    result done = find_more(q, more);
    if (is_ok(done) && more->count > 0) {
        mix_lexical(q, more);
        done = lexical_pool(q);
        complete_candidates(q, with_vector);
        fuse(q, SEARCH_HYBRID);
    }
    wipe_free(more, sizeof *more);
    return done;
}

/* ---- hits ------------------------------------------------------------------------------------ */

typedef struct { arena *a; const ifc_label *label; retrieval_hit *hit; } reading;

static result read_hit(void *ctx, uint32_t number, const store_chunk *chunk)
{
    reading *into = ctx;
    (void)number;
    into->hit->start = chunk->start;
    into->hit->end = chunk->end;
    into->hit->text = ifc_labeled_make(into->a, into->label, chunk->text);
    if (into->hit->text != NULL) return OK;
    return fail(E_EXHAUSTED, "the passages are too large for this request");
}

static result make_hits(search *q, uint32_t k, arena *a, retrieval_hit **hits, size_t *hit_count)
{
    retrieval_hit *all = arena_alloc_array(a, k, sizeof *all);
    size_t count = 0;
    if (all == NULL) return arena_check(a);
    for (size_t i = 0; i < q->candidate_count && count < k; i++) {
        const candidate *c = &q->candidates[i];
        const view *w = &q->views[c->view];
        if (MUTANT(filter_after_search) && !ifc_context_permits(q->scope->context, &w->p->label))
            continue;
        TRY(ifc_context_alive(q->scope->context));
        retrieval_hit *hit = &all[count++];
        hit->document = c->document;
        hit->owner = w->s->owner;
        hit->chunk = c->chunk;
        hit->score = c->score;
        hit->dense = c->dense;
        hit->lexical = c->lexical;
        reading into = {a, &w->p->label, hit};
        TRY(store_each_chunk(w->s->disk, c->document, c->chunk, 1, read_hit, &into));
    }
    *hits = all;
    *hit_count = count;
    return OK;
}

static result check_query(const char *query)
{
    size_t size = strnlen(query, SEARCH_QUERY_MAX_BYTES + 1);
    if (size > SEARCH_QUERY_MAX_BYTES)
        return fail(E_INVALID, "a query has at most %d bytes", SEARCH_QUERY_MAX_BYTES);
    if (!utf8_valid(bytes_of(query, size))) return fail(E_INVALID, "the query is not valid UTF-8");
    return OK;
}

result search_with(retrieval *r, const retrieval_scope *scope, const char *query, uint32_t k,
                   search_mode mode, const search_weights *weights, arena *a, retrieval_hit **hits,
                   size_t *hit_count)
{
    search q;
    const bool again = mode == SEARCH_HYBRID && weights->feedback.passages > 0;
    if (mode == SEARCH_QUESTION) mode = SEARCH_HYBRID;
    *hits = NULL;
    *hit_count = 0;
    if (k == 0 || k > SEARCH_K_MAX) return fail(E_INVALID, "k is not 1 to %d", SEARCH_K_MAX);
    TRY(check_query(query));
    result done = search_begin(&q, r, scope, bytes_str(query));
    q.weights = weights;
    /* A query without a known token has no direction: nothing is near to it. */
    bool with_vector = is_ok(done) && embed_query(&q, bytes_str(query));
    if (is_ok(done) && with_vector && mode != SEARCH_LEXICAL) done = dense_pool(&q);
    if (is_ok(done) && mode != SEARCH_DENSE) done = lexical_rank(&q);
    if (is_ok(done) && mode != SEARCH_DENSE) done = lexical_pool(&q);
    if (is_ok(done)) {
        complete_candidates(&q, with_vector);
        fuse(&q, mode);
        if (again) done = search_again(&q, with_vector);
    }
    if (is_ok(done)) done = make_hits(&q, k, a, hits, hit_count);
    search_end(&q);
    return done;
}

result retrieval_search(retrieval *r, const retrieval_scope *scope, const char *query, uint32_t k,
                        search_mode mode, arena *a, retrieval_hit **hits, size_t *hit_count)
{
    return search_with(r, scope, query, k, mode, &SEARCH_WEIGHTS, a, hits, hit_count);
}

/* ---- for the extractive reader --------------------------------------------------------------- */

float retrieval_similarity(retrieval *r, bytes a, bytes b)
{
    uint32_t dimensions = embedder_dimensions(r->embedder);
    float *x = mem_alloc_array(2 * (size_t)dimensions, sizeof *x), *y = x + dimensions;
    double dot = 0, xx = 0, yy = 0;
    bool known = embedder_embed(r->embedder, a, x);
    known = embedder_embed(r->embedder, b, y) && known;
    for (uint32_t d = 0; d < dimensions; d++) {
        dot += (double)x[d] * (double)y[d];
        xx += (double)x[d] * (double)x[d];
        yy += (double)y[d] * (double)y[d];
    }
    wipe_free(x, 2 * (size_t)dimensions * sizeof *x);
    return known && xx > 0 && yy > 0 ? (float)(dot / sqrt(xx * yy)) : 0;
}

typedef struct { const lexical_query *query; bool seen[LEXICAL_QUERY_TERMS_MAX]; } overlapping;

static void overlap_term(void *ctx, bytes term, bytes word)
{
    (void)word;
    overlapping *o = ctx;
    uint32_t i = lexical_query_find(o->query, term);
    if (i < o->query->count) o->seen[i] = true;
}

/* Share of the query's IDF that a sentence covers, 0 to 1. */
static void overlap_scores(const search *q, const bytes *sentences, size_t count, float *scores)
{
    float all = 0;
    for (uint32_t i = 0; i < q->query->count; i++) all += lexical_idf(q->totals, i);
    for (size_t s = 0; s < count; s++) {
        overlapping o = {.query = q->query};
        float sum = 0;
        terms_each(q->terms, sentences[s], overlap_term, &o);
        for (uint32_t i = 0; i < q->query->count; i++)
            if (o.seen[i]) sum += lexical_idf(q->totals, i);
        scores[s] = all > 0 ? sum / all : 0;
    }
}

result retrieval_overlap(retrieval *r, const retrieval_scope *scope, const char *query,
                         const bytes *sentences, size_t count, float *scores)
{
    search q;
    TRY(check_query(query));
    result done = search_begin(&q, r, scope, bytes_str(query));
    if (is_ok(done)) overlap_scores(&q, sentences, count, scores);
    search_end(&q);
    return done;
}
