/* Erasure by subject: FindSubject, and Erase of what was confirmed. */
#include "service.h"

#include "lethe/v1/erasure.pb-c.h"

#include "mutant.h"

#include <stdlib.h>
#include <string.h>

typedef struct { subject_candidate *all; size_t count; bool truncated; } findings;

/* Among what the caller's principals own, and nothing else. */
static result find(request *q, const char *text, findings *out)
{
    retrieval_scope *own = arena_alloc(q->mem, sizeof *own);
    if (own == NULL) return arena_check(q->mem);
    *own = (retrieval_scope){q->context, q->principals, q->principal_count};
    if (MUTANT(subject_reads_shared)) *own = q->scope;
    TRY(request_search_mark(q, own));
    return retrieval_subject(q->h->stores, own, text, q->mem, &out->all, &out->count,
                             &out->truncated);
}

/* Marked with what was found, then looked at again: an erasure either cancels this call or shows here. */
static result findings_mark(request *q, findings *found)
{
    state_source *sources = arena_alloc_array(q->mem, found->count + 1, sizeof *sources);
    if (sources == NULL) return arena_check(q->mem);
    for (size_t i = 0; i < found->count; i++)
        sources[i] = (state_source){found->all[i].owner, found->all[i].document};
    TRY(request_mark(q, sources, found->count));
    size_t kept = 0;
    for (size_t i = 0; i < found->count; i++) {
        const retrieval_scope one = {q->context, &found->all[i].owner, 1};
        result r = retrieval_get(q->h->stores, &one, found->all[i].document, q->mem, NULL, NULL);
        if (is_ok(r)) found->all[kept++] = found->all[i];
        else if (r.code != E_NOT_FOUND) return r;
    }
    found->count = kept;
    return OK;
}

static result candidate_fill(request *q, const subject_candidate *from, Lethe__V1__SubjectCandidate *out)
{
    lethe__v1__subject_candidate__init(out);
    out->document = request_id(q, from->document);
    out->path = (char *)from->path;
    out->owner = request_name(q, from->owner);
    out->reason = (Lethe__V1__SubjectReason)from->kind;
    out->words = (char *)from->reason;
    out->score = from->score;
    out->likely = from->likely;
    out->spans = arena_alloc_array(q->mem, from->span_count + 1, sizeof *out->spans);
    Lethe__V1__SubjectSpan *spans = arena_alloc_array(q->mem, from->span_count + 1, sizeof *spans);
    if (out->spans == NULL || spans == NULL) return arena_check(q->mem);
    for (size_t i = 0; i < from->span_count; i++) {
        lethe__v1__subject_span__init(&spans[i]);
        spans[i].start = from->spans[i].start;
        spans[i].end = from->spans[i].end;
        out->spans[out->n_spans++] = &spans[i];
    }
    return arena_check(q->mem);
}

result subject_find(request *q)
{
    Lethe__V1__FindSubjectRequest *m;
    findings found;
    TRY(request_receive(q, &lethe__v1__find_subject_request__descriptor, &m));
    TRY(find(q, m->text, &found));
    TRY(findings_mark(q, &found));
    Lethe__V1__FindSubjectResponse response = LETHE__V1__FIND_SUBJECT_RESPONSE__INIT;
    Lethe__V1__SubjectCandidate *all = arena_alloc_array(q->mem, found.count + 1, sizeof *all);
    response.candidates = arena_alloc_array(q->mem, found.count + 1, sizeof *response.candidates);
    if (all == NULL || response.candidates == NULL) return arena_check(q->mem);
    for (size_t i = 0; i < found.count; i++) {
        TRY(candidate_fill(q, &found.all[i], &all[i]));
        response.candidates[response.n_candidates++] = &all[i];
    }
    response.truncated = found.truncated;
    return request_send(q, &response.base);
}

/* ---- what was confirmed ------------------------------------------------------------------------------------- */
/* Those still the caller's; a document gone or never its own is passed over alike. */
static result confirmed_items(request *q, const Lethe__V1__ConfirmedSubject *m, erasure_item *items, size_t *count)
{
    *count = 0;
    for (size_t i = 0; i < m->n_documents; i++) {
        retrieval_document *info;
        result r = request_document(q, m->documents[i], true, &info);
        if (r.code == E_NOT_FOUND || r.code == E_DENIED) continue;
        TRY(r);
        bool twice = false;
        for (size_t n = 0; n < *count; n++) twice = twice || id_equal(items[n].document, info->id);
        if (!twice) items[(*count)++] = (erasure_item){info->owner, info->id, info->chunk_count};
    }
    return *count > 0 ? OK : fail(E_NOT_FOUND, "none of the documents confirmed is yours any more");
}

static bool listed(const erasure_item *items, size_t count, id128 document)
{
    for (size_t i = 0; i < count; i++)
        if (id_equal(items[i].document, document)) return true;
    return false;
}

result request_erase_subject(request *q, const Lethe__V1__ConfirmedSubject *m, buf *receipt, char salt[65],
                             char **target, Lethe__V1__EraseResponse *response)
{
    findings found;
    size_t count;
    if (m->n_documents == 0 || m->n_documents > ERASURE_DOCUMENTS_MAX)
        return fail(E_INVALID, "documents: 1 to %d that FindSubject showed", ERASURE_DOCUMENTS_MAX);
    erasure_item *items = arena_alloc_array(q->mem, m->n_documents, sizeof *items);
    if (items == NULL) return arena_check(q->mem);
    TRY(find(q, m->text, &found));           /* while it can be found: what is not confirmed is told */
    TRY(confirmed_items(q, m, items, &count));
    response->documents = arena_alloc_array(q->mem, count + 1, sizeof *response->documents);
    response->remaining = arena_alloc_array(q->mem, found.count + 1, sizeof *response->remaining);
    if (response->documents == NULL || response->remaining == NULL) return arena_check(q->mem);
    for (size_t i = 0; i < count; i++)
        response->documents[response->n_documents++] = request_id(q, items[i].document);
    for (size_t i = 0; i < found.count; i++)
        if (found.all[i].likely && !listed(items, count, found.all[i].document))
            response->remaining[response->n_remaining++] = request_id(q, found.all[i].document);
    if (MUTANT(subject_erases_first_only)) count = 1;
    return request_erase_documents(q, items, count, ERASURE_SUBJECT, receipt, salt, target);
}
