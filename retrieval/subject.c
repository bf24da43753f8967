/* Finding everything about a subject. Rounds: each reads the owners' documents and takes up what those that name
 * the subject in full call it besides, until nothing new is found (at most ROUNDS_MAX). Then the neighbours: chunks
 * close to those in which the subject was found (RealEra mines the neighbourhood of a concept the same way). */
#include <stdlib.h>
#include <string.h>

#include "names.h"
#include "slots.h"

enum { ROUNDS_MAX = 3, NEAR_CHUNKS_MAX = 256 };
/* Cosine of chunk vectors from which a document is shown as a neighbour, by eval_subject.py --split: of neighbours shown
 * 84 % are right at 0.80, 57 % at 0.72, 16 % at 0.65; all that is shown has recall 0.9688, 0.9700, 0.9719. */
static const float NEIGHBOUR_COSINE = 0.72f;
/* From this score on a candidate counts as found: all but given names alone, titles and neighbours. */
static const float LIKELY_SCORE = 0.45f;

typedef struct { id128 document, owner; char *path; uint32_t chunks; names_match match; float cosine; } seen;

typedef struct {
    retrieval *r;
    const retrieval_scope *scope;
    names *called;
    arena *text;
    seen *all;
    size_t count, capacity, mined;
    float *near;                         /* (near_count, dimensions) */
    size_t near_count;
    uint32_t dimensions;
} search;

static bool owned(const retrieval_scope *scope, id128 owner)
{
    for (size_t i = 0; i < scope->owner_count; i++)
        if (id_equal(scope->owners[i], owner)) return true;
    return false;
}

static seen *seen_add(search *s, const retrieval_document *info)
{
    if (s->count == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 256;
        s->all = mem_realloc(s->all, s->capacity * sizeof *s->all);
    }
    seen *one = &s->all[s->count++];
    *one = (seen){.document = info->id, .owner = info->owner, .path = mem_strdup(info->path),
                  .chunks = info->chunk_count};
    return one;
}

static void seen_clear(search *s)
{
    for (size_t i = 0; i < s->count; i++) {
        mem_wipe(s->all[i].path, strlen(s->all[i].path));
        mem_free(s->all[i].path);
    }
    if (s->count) mem_wipe(s->all, s->count * sizeof *s->all);
    s->count = 0;
}

static result visit_document(void *ctx, const retrieval_document *info)
{
    search *s = ctx;
    const ifc_labeled *text;
    const retrieval_scope one = {s->scope->context, &info->owner, 1};
    if (!owned(s->scope, info->owner)) return OK;
    arena_reset(s->text);
    result r = retrieval_get(s->r, &one, info->id, s->text, NULL, &text);
    if (r.code == E_NOT_FOUND) return OK;                  /* gone in between */
    TRY(r);
    seen *found = seen_add(s, info);
    names_find(s->called, ifc_labeled_compute(text), &found->match);
    s->mined += names_mine(s->called, ifc_labeled_compute(text), &found->match);
    return OK;
}

/* ---- neighbours --------------------------------------------------------------------------------------------- */
typedef struct { search *s; seen *of; bool gather; } chunks;

static result visit_chunk(void *ctx, uint32_t number, const store_chunk *chunk)
{
    chunks *c = ctx;
    search *s = c->s;
    (void)number;
    if (c->gather) {
        bool inside = false;
        for (size_t i = 0; i < c->of->match.span_count; i++)
            inside = inside || (c->of->match.spans[i].start < chunk->end && c->of->match.spans[i].end > chunk->start);
        if (!inside || s->near_count == NEAR_CHUNKS_MAX) return OK;
        memcpy(s->near + s->near_count++ * s->dimensions, chunk->vector, s->dimensions * sizeof *s->near);
        return OK;
    }
    for (size_t n = 0; n < s->near_count; n++) {
        float dot = 0;
        for (uint32_t d = 0; d < s->dimensions; d++) dot += s->near[n * s->dimensions + d] * chunk->vector[d];
        if (dot <= c->of->cosine) continue;
        c->of->cosine = dot;
        c->of->match.spans[0] = (names_span){chunk->start, chunk->end};
        c->of->match.span_count = 1;
    }
    return OK;
}

static result chunks_each(search *s, seen *of, bool gather)
{
    slot *open;
    result r = slot_acquire(s->r, s->scope->context->tenant, of->owner, false, false, &open);
    if (r.code == E_NOT_FOUND) return OK;
    TRY(r);
    chunks c = {s, of, gather};
    const holding_document *d = holding_find(&open->memory, of->document);
    if (d != NULL && ifc_context_permits(s->scope->context, &d->home->label))
        r = store_each_chunk(open->disk, of->document, 0, d->chunk_count, visit_chunk, &c);
    slot_release(s->r, &open);
    return r;
}

static result neighbours(search *s)
{
    s->dimensions = embedder_dimensions(s->r->embedder);
    s->near = mem_alloc_array((size_t)NEAR_CHUNKS_MAX * s->dimensions, sizeof *s->near);
    for (size_t i = 0; i < s->count; i++)
        if (s->all[i].match.score >= LIKELY_SCORE && s->all[i].match.kind >= EVIDENCE_IDENTIFIER)
            TRY(chunks_each(s, &s->all[i], true));
    for (size_t i = 0; s->near_count > 0 && i < s->count; i++) {
        TRY(ifc_context_alive(s->scope->context));
        if (s->all[i].match.kind == EVIDENCE_NONE) TRY(chunks_each(s, &s->all[i], false));
    }
    return OK;
}

/* ---- the outcome -------------------------------------------------------------------------------------------- */
static result candidate_make(const seen *from, arena *a, subject_candidate *out)
{
    static const char *const words[] = {"similar to what names the subject", "also names \"%s\"", "holds %s",
                                        "names it by the alias %s", "names it: %s"};
    char reason[NAMES_PATTERN_MAX_BYTES + 64];
    const names_match *m = &from->match;
    *out = (subject_candidate){.document = from->document, .owner = from->owner, .chunk_count = from->chunks,
                               .kind = m->kind == EVIDENCE_NONE ? SUBJECT_NEIGHBOUR : (subject_class)m->kind,
                               .score = m->kind == EVIDENCE_NONE ? from->cosine / 2 : m->score};
    out->likely = m->kind >= EVIDENCE_IDENTIFIER && m->score >= LIKELY_SCORE;
    size_t size = 0;
    const char *shape = words[m->kind], *value = m->what ? m->what : "";
    for (; *shape && size + 1 < sizeof reason; shape++) {
        if (shape[0] != '%' || shape[1] != 's') { reason[size++] = *shape; continue; }
        size_t more = strnlen(value, sizeof reason - 1 - size);
        memcpy(reason + size, value, more);
        size += more;
        shape++;
    }
    char *path = arena_alloc(a, strlen(from->path) + 1), *why = arena_alloc(a, size + 1);
    if (path == NULL || why == NULL) return arena_check(a);
    strcpy(path, from->path);
    memcpy(why, reason, size);
    why[size] = 0;
    out->path = path;
    out->reason = why;
    out->span_count = m->span_count;
    for (size_t i = 0; i < m->span_count; i++) out->spans[i] = (subject_span){m->spans[i].start, m->spans[i].end};
    return OK;
}

static int by_strength(const void *a_, const void *b_)
{
    const subject_candidate *a = a_, *b = b_;
    if (a->likely != b->likely) return a->likely ? -1 : 1;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return id_compare(a->document, b->document);
}

static result outcome(search *s, arena *a, subject_candidate **out, size_t *count, bool *truncated)
{
    size_t n = 0;
    subject_candidate *all = arena_alloc_array(a, s->count + 1, sizeof *all);
    if (all == NULL) return arena_check(a);
    bool tied = false;                   /* a given name alone says something where the whole one stands as well */
    for (size_t i = 0; i < s->count; i++) tied = tied || s->all[i].match.full;
    for (size_t i = 0; i < s->count; i++) {
        const names_match *m = &s->all[i].match;
        if (m->kind == EVIDENCE_NAME && m->score < LIKELY_SCORE && !tied) continue;
        if (m->kind != EVIDENCE_NONE || s->all[i].cosine >= NEIGHBOUR_COSINE)
            TRY(candidate_make(&s->all[i], a, &all[n++]));
    }
    if (n > 1) qsort(all, n, sizeof *all, by_strength);
    *truncated = n > SUBJECT_CANDIDATES_MAX;
    *count = *truncated ? SUBJECT_CANDIDATES_MAX : n;
    *out = all;
    return OK;
}

static result rounds(search *s)
{
    for (int round = 0; round < ROUNDS_MAX; round++) {
        seen_clear(s);
        s->mined = 0;
        TRY(retrieval_list(s->r, s->scope, visit_document, s));
        if (s->mined == 0) break;
    }
    return OK;
}

result retrieval_subject(retrieval *r, const retrieval_scope *scope, const char *subject, arena *a,
                         subject_candidate **out, size_t *count, bool *truncated)
{
    search s = {.r = r, .scope = scope};
    TRY(names_open(&s.called, subject));
    arena_open(&s.text, 2 * (size_t)r->document_max_bytes + (1 << 20));
    result done = rounds(&s);
    if (is_ok(done)) done = neighbours(&s);
    if (is_ok(done)) done = outcome(&s, a, out, count, truncated);
    seen_clear(&s);
    mem_free(s.all);
    if (s.near) mem_wipe(s.near, (size_t)NEAR_CHUNKS_MAX * s.dimensions * sizeof *s.near);
    mem_free(s.near);
    arena_close(&s.text);
    names_close(&s.called);
    return done;
}
