/* Documents: Put, Get, List, Share, Unshare. */
#include "service.h"

#include "receipt.h"

#include "lethe/v1/documents.pb-c.h"

#include <stdio.h>
#include <string.h>

enum { SHARES_MAX = 32, PIECE_BYTES = 256 << 10, BATCH_BYTES = 16 << 20, BATCH_DOCUMENTS = 64,
       STREAM_DOCUMENTS_MAX = 10000, PAGE_MAX = 1000, LIST_TRIES = 5 };

/* ---- labels ------------------------------------------------------------------------------------------------ */
static result grantee_find(request *q, const char *name, id128 *out)
{
    result r = acl_find(q->h->access, q->who.tenant, name, out, NULL);
    return is_ok(r) ? OK : fail(E_NOT_FOUND, "nobody of that name to share with: user:NAME or group:NAME");
}

/* A document's label: its owner or any of the grantees may read; its owner vouches for it. */
static result label_make(id128 owner, const id128 *grantees, size_t count, ifc_label *out)
{
    id128 readers[IFC_CLAUSE_PRINCIPALS_MAX];
    if (count + 1 > IFC_CLAUSE_PRINCIPALS_MAX)
        return fail(E_EXHAUSTED, "a document can be shared with at most %d principals",
                    IFC_CLAUSE_PRINCIPALS_MAX - 1);
    readers[0] = owner;
    if (count) memcpy(readers + 1, grantees, count * sizeof *grantees);
    ifc_label_public(out);
    TRY(ifc_label_secrecy_add(out, readers, count + 1));
    return ifc_label_integrity_add(out, &owner, 1);
}

/* ---- declassification: each is in the tenant's log before it happens ------------------------------------------------ */
typedef struct {
    request *q;
    const char *event;                     /* "grant", "revoke" */
    id128 owner;
    const id128 *documents;
    size_t document_count;
    const id128 *grantees;
    size_t grantee_count;
} release;

static char *id_list(request *q, const id128 *ids, size_t count)
{
    buf text;
    buf_init(&text, AUDIT_ENTRY_MAX_BYTES);
    for (size_t i = 0; i < count; i++) buf_printf(&text, "%s%s", i ? "," : "", request_id(q, ids[i]));
    char *out = request_text(q, "%.*s", (int)text.size, text.data ? (const char *)text.data : "");
    buf_free(&text);
    return out;
}

static result release_record(void *ctx, const ifc_label *from, const ifc_label *to)
{
    const release *r = ctx;
    (void)from;
    (void)to;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "by", request_id(r->q, r->q->who.principal));
    cJSON_AddStringToObject(o, "owner", request_id(r->q, r->owner));
    cJSON_AddStringToObject(o, "documents", id_list(r->q, r->documents, r->document_count));
    cJSON_AddStringToObject(o, "grantees", id_list(r->q, r->grantees, r->grantee_count));
    return audit_log_append(r->q->h->audit, r->q->who.tenant, r->event, o, NULL);
}

/* The owner's authority lets documents with label `from` out to `to`; recorded first. */
static result release_label(const release *r, const ifc_label *from, const ifc_label *to, ifc_label *out)
{
    return ifc_declassify(r->q->context, &r->owner, 1, from, to, release_record, (void *)r, out);
}

/* ---- Put ------------------------------------------------------------------------------------------------------ */
typedef struct {
    retrieval_input input;
    buf content;
    id128 owner;
    id128 grantees[SHARES_MAX];
    size_t grantee_count;
    bool replace, has_old;
    id128 old;
} pending;

typedef struct {
    request *q;
    pending *batch[BATCH_DOCUMENTS];
    size_t batch_count, batch_bytes, document_count;
    bool open;                           /* the last of the batch still receives data */
    Lethe__V1__PutResponse response;
    size_t capacity;
} putting;

static void pending_free(pending *p)
{
    buf_free(&p->content);
    mem_free(p);
}

static result put_failed(putting *p, const char *path, error_code code, const char *reason)
{
    Lethe__V1__PutFailure *f = arena_alloc(p->q->mem, sizeof *f);
    if (f == NULL) return arena_check(p->q->mem);
    lethe__v1__put_failure__init(f);
    f->path = (char *)path;
    f->reason = request_text(p->q, "%s", reason);
    f->code = code;
    p->response.failed[p->response.n_failed++] = f;
    return OK;
}

static result put_stored(putting *p, const pending *d, const retrieval_stored *s)
{
    Lethe__V1__PutDocument *out = arena_alloc(p->q->mem, sizeof *out);
    if (out == NULL) return arena_check(p->q->mem);
    lethe__v1__put_document__init(out);
    out->id = request_id(p->q, s->id);
    out->path = (char *)d->input.path;
    out->chunks = s->chunk_count;
    if (s->repeats) out->notice = (char *)REPEATS_NOTICE;
    p->response.documents[p->response.n_documents++] = out;
    return OK;
}

/* The owner's own limits, counted with what this batch would add. */
static result quota_check(request *q, id128 owner, size_t documents, size_t bytes_more)
{
    acl_quota quota;
    retrieval_usage used;
    TRY(acl_quota_get(q->h->access, q->who.tenant, owner, &quota));
    TRY(retrieval_usage_of(q->h->stores, q->who.tenant, owner, &used));
    if (quota.documents_max && used.documents + documents > quota.documents_max)
        return fail(E_EXHAUSTED, "your limit of %llu documents is reached; erase some or ask for more",
                    (unsigned long long)quota.documents_max);
    if (quota.bytes_max && used.text_bytes + bytes_more > quota.bytes_max)
        return fail(E_EXHAUSTED, "your limit of %llu bytes is reached; erase some or ask for more",
                    (unsigned long long)quota.bytes_max);
    return OK;
}

static result replace_old(putting *p, const pending *d, id128 now)
{
    if (!d->has_old || id_equal(d->old, now)) return OK;
    char id[ID_TEXT_BYTES], salt[65], *target;
    id_text(d->old, id);
    retrieval_document *info;
    result r = request_document(p->q, id, true, &info);
    if (r.code == E_NOT_FOUND) return OK;
    TRY(r);
    buf receipt;
    buf_init(&receipt, RECEIPT_MAX_BYTES);
    const erasure_item item = {d->owner, info->id, info->chunk_count};
    r = request_erase_documents(p->q, &item, 1, ERASURE_REPLACED, &receipt, salt, &target);
    buf_free(&receipt);
    TRY(r);
    /* Under the mark again; was the caller itself erased while there was none? */
    acl_quota own;
    TRY(request_mark(p->q, NULL, 0));
    return acl_quota_get(p->q->h->access, p->q->who.tenant, p->q->who.principal, &own);
}

typedef struct { retrieval_document info; ifc_context own; } granting;

/* A stored document's grants. A grantee who was erased since the header came goes out of the label again;
 * a document that was erased since it was stored keeps no grant. Under h->sharing, so that an erasure's
 * own look at labels and grants comes wholly before or behind. */
static result grants_add(request *q, const pending *d, id128 document, granting *work)
{
    retrieval_document *info = &work->info;
    TRY(ifc_context_init(&work->own, q->who.tenant, d->owner, &d->owner, 1));
    const retrieval_scope scope = {&work->own, &d->owner, 1};
    result r = retrieval_get(q->h->stores, &scope, document, q->mem, info, NULL);
    if (r.code == E_NOT_FOUND) return OK;
    TRY(r);
    bool pruned = false;
    for (size_t g = 0; g < d->grantee_count; g++) {
        r = acl_grant_add(q->h->access, q->who.tenant, (acl_grant){d->owner, document, d->grantees[g]});
        if (is_ok(r)) continue;
        if (r.code != E_NOT_FOUND) return r;
        ifc_label_prune(&info->label, d->grantees[g]);
        pruned = true;
    }
    if (!pruned) return OK;
    r = retrieval_relabel(q->h->stores, q->who.tenant, d->owner, document, &info->label);
    return r.code == E_NOT_FOUND ? OK : r;
}

static bool same_grantees(const pending *a, const pending *b)
{
    return a->grantee_count == b->grantee_count &&
           memcmp(a->grantees, b->grantees, a->grantee_count * sizeof a->grantees[0]) == 0;
}

/* What is shared from the start is let out by its owner, too: a record for those with the same readers. */
static result batch_release(putting *p, id128 owner)
{
    request *q = p->q;
    bool done[BATCH_DOCUMENTS] = {false};
    id128 *documents = arena_alloc_array(q->mem, BATCH_DOCUMENTS, sizeof *documents);
    ifc_label *labels = arena_alloc_array(q->mem, 2, sizeof *labels);
    if (documents == NULL || labels == NULL) return arena_check(q->mem);
    TRY(label_make(owner, NULL, 0, &labels[0]));
    for (size_t i = 0; i < p->batch_count; i++) {
        const pending *d = p->batch[i];
        if (done[i] || d->grantee_count == 0) continue;
        release r = {q, "grant", owner, documents, 0, d->grantees, d->grantee_count};
        for (size_t j = i; j < p->batch_count; j++) {
            if (done[j] || !same_grantees(d, p->batch[j])) continue;
            TRY(retrieval_document_id(q->h->stores, q->who.tenant, owner, p->batch[j]->input.nonce,
                                      &documents[r.document_count++]));
            done[j] = true;
        }
        TRY(release_label(&r, &labels[0], &d->input.label, &labels[1]));
    }
    return OK;
}

/* Stores the batch, which is all of one owner; then its grants, by which its readers find the store. */
static result batch_store(putting *p, retrieval_stored *stored)
{
    request *q = p->q;
    retrieval_input inputs[BATCH_DOCUMENTS];
    id128 owner = p->batch[0]->owner;
    for (size_t i = 0; i < p->batch_count; i++) {
        inputs[i] = p->batch[i]->input;
        inputs[i].content = buf_bytes(&p->batch[i]->content);
    }
    TRY(quota_check(q, owner, p->batch_count, p->batch_bytes));
    TRY(batch_release(p, owner));
    TRY(retrieval_put(q->h->stores, q->who.tenant, owner, inputs, p->batch_count, stored));
    granting *work = mem_alloc(sizeof *work);
    result r = OK;
    for (size_t i = 0; is_ok(r) && i < p->batch_count; i++) {
        if (stored[i].code != E_OK || p->batch[i]->grantee_count == 0) continue;
        pthread_mutex_lock(&q->h->sharing);
        r = grants_add(q, p->batch[i], stored[i].id, work);
        pthread_mutex_unlock(&q->h->sharing);
    }
    mem_wipe(work, sizeof *work);
    mem_free(work);
    return r;
}

static result batch_flush(putting *p)
{
    if (p->batch_count == 0) return OK;
    retrieval_stored *stored = mem_alloc_array(p->batch_count, sizeof *stored);
    result whole = batch_store(p, stored), r = OK;
    error_code code = whole.code;
    char reason[256];
    strncpy(reason, whole.message, sizeof reason - 1);
    reason[sizeof reason - 1] = 0;
    for (size_t i = 0; i < p->batch_count; i++) {
        pending *d = p->batch[i];
        if (is_ok(r) && code != E_OK) r = put_failed(p, d->input.path, code, reason);
        else if (is_ok(r) && stored[i].code != E_OK)
            r = put_failed(p, d->input.path, stored[i].code, stored[i].reason);
        else if (is_ok(r)) {
            r = put_stored(p, d, &stored[i]);
            if (is_ok(r) && d->replace) r = replace_old(p, d, stored[i].id);
        }
        pending_free(d);
    }
    p->batch_count = p->batch_bytes = 0;
    p->open = false;
    mem_free(stored);
    return r;
}

static result response_grow(putting *p)
{
    if (p->document_count < p->capacity) return OK;
    size_t more = p->capacity ? p->capacity * 2 : 64;
    void *documents = arena_alloc_array(p->q->mem, more, sizeof *p->response.documents);
    void *failed = arena_alloc_array(p->q->mem, more, sizeof *p->response.failed);
    if (documents == NULL || failed == NULL) return arena_check(p->q->mem);
    if (p->capacity) {
        memcpy(documents, p->response.documents,
               p->response.n_documents * sizeof *p->response.documents);
        memcpy(failed, p->response.failed, p->response.n_failed * sizeof *p->response.failed);
    }
    p->response.documents = documents;
    p->response.failed = failed;
    p->capacity = more;
    return OK;
}

/* What a header says, checked; an error concerns this document alone. */
static result header_read(request *q, const Lethe__V1__PutHeader *m, pending *d)
{
    size_t size = strlen(m->path);
    if (size == 0 || size > RETRIEVAL_PATH_MAX_BYTES)
        return fail(E_INVALID, "path: 1 to %d bytes", RETRIEVAL_PATH_MAX_BYTES);
    if (m->nonce.len != 0 && m->nonce.len != sizeof d->input.nonce)
        return fail(E_INVALID, "nonce: 16 bytes, or none");
    if (m->n_share > SHARES_MAX) return fail(E_INVALID, "share: at most %d", SHARES_MAX);
    TRY(request_owner(q, m->owner, &d->owner));
    for (size_t i = 0; i < m->n_share; i++) TRY(grantee_find(q, m->share[i], &d->grantees[i]));
    d->grantee_count = m->n_share;
    TRY(label_make(d->owner, d->grantees, d->grantee_count, &d->input.label));
    d->input.path = request_text(q, "%s", m->path);
    d->input.media_type = request_text(q, "%s", m->media_type);
    if (m->nonce.len) memcpy(d->input.nonce, m->nonce.data, m->nonce.len);
    else random_bytes(d->input.nonce, sizeof d->input.nonce);
    d->replace = m->replace;
    return OK;
}

/* Which document a replacing one takes the place of; after everything that came before it is stored. */
static result old_find(request *q, pending *d)
{
    if (!d->replace) return OK;
    result r = retrieval_find_path(q->h->stores, q->who.tenant, d->owner, d->input.path, &d->old);
    d->has_old = is_ok(r);
    return r.code == E_NOT_FOUND ? OK : r;
}

static bool batch_has_path(const putting *p, const char *path)
{
    for (size_t i = 0; i < p->batch_count; i++)
        if (strcmp(p->batch[i]->input.path, path) == 0) return true;
    return false;
}

static result put_header(putting *p, const Lethe__V1__PutHeader *m)
{
    if (++p->document_count > STREAM_DOCUMENTS_MAX)
        return fail(E_INVALID, "at most %d documents in one call", STREAM_DOCUMENTS_MAX);
    TRY(response_grow(p));
    pending *d = mem_alloc(sizeof *d);
    result r = header_read(p->q, m, d);
    if (!is_ok(r)) {
        mem_free(d);
        p->open = false;
        return put_failed(p, request_text(p->q, "%s", m->path), r.code, r.message);
    }
    bool flush = p->batch_count == BATCH_DOCUMENTS || p->batch_bytes >= BATCH_BYTES ||
                 (p->batch_count > 0 && !id_equal(p->batch[0]->owner, d->owner)) ||
                 (d->replace && batch_has_path(p, d->input.path));
    if (flush) r = batch_flush(p);
    if (is_ok(r)) r = old_find(p->q, d);
    if (!is_ok(r)) {
        mem_free(d);
        return r;
    }
    buf_init(&d->content, p->q->h->settings.document_max_bytes);
    p->batch[p->batch_count++] = d;
    p->open = true;
    return OK;
}

/* Data for the document whose header came last; one over the limit fails alone, its rest is skipped. */
static result put_data(putting *p, bytes data)
{
    if (p->document_count == 0) return fail(E_INVALID, "data came before any header");
    if (!p->open) return OK;
    pending *d = p->batch[p->batch_count - 1];
    buf_append(&d->content, data.data, data.size);
    p->batch_bytes += data.size;
    if (is_ok(buf_check(&d->content))) return OK;
    char reason[128];
    snprintf(reason, sizeof reason, "larger than the limit of %llu bytes",
             (unsigned long long)p->q->h->settings.document_max_bytes);
    result r = put_failed(p, d->input.path, E_INVALID, reason);
    pending_free(d);
    p->batch_count--;
    p->open = false;
    return r;
}

static result put_stream(putting *p)
{
    buf message;
    buf_init(&message, p->q->h->settings.message_max_bytes);
    arena *scratch;
    arena_open(&scratch, 4 * (size_t)p->q->h->settings.message_max_bytes + (1 << 20));
    bool end = false;
    result r = OK;
    while (is_ok(r)) {
        r = rpc_call_receive(p->q->call, &message, &end);
        if (!is_ok(r) || end) break;
        Lethe__V1__PutRequest *part;
        arena_reset(scratch);            /* the message lives for this turn only */
        r = message_unpack(scratch, &lethe__v1__put_request__descriptor, buf_bytes(&message), &part);
        if (!is_ok(r)) break;
        if (part->part_case == LETHE__V1__PUT_REQUEST__PART_HEADER) r = put_header(p, part->header);
        else if (part->part_case == LETHE__V1__PUT_REQUEST__PART_DATA)
            r = put_data(p, bytes_of(part->data.data, part->data.len));
        else r = fail(E_INVALID, "a message of the stream is neither header nor data");
    }
    if (is_ok(r)) r = batch_flush(p);
    arena_close(&scratch);
    buf_free(&message);
    return r;
}

result documents_put(request *q)
{
    putting *p = mem_alloc(sizeof *p);
    p->q = q;
    lethe__v1__put_response__init(&p->response);
    result r = put_stream(p);
    if (is_ok(r) && p->document_count == 0) r = fail(E_INVALID, "no document came");
    if (is_ok(r)) r = request_send(q, &p->response.base);
    for (size_t i = 0; i < p->batch_count; i++) pending_free(p->batch[i]);
    mem_free(p);
    return r;
}

/* ---- Get, List --------------------------------------------------------------------------------------------------- */
static result document_make(request *q, const retrieval_document *info, Lethe__V1__Document *out)
{
    lethe__v1__document__init(out);
    out->id = request_id(q, info->id);
    out->path = request_text(q, "%s", info->path);
    out->owner = request_name(q, info->owner);
    out->label = request_label(q, &info->label);
    out->bytes = info->size_bytes;
    return arena_check(q->mem);
}

/* The gate's sink: the text in pieces. */
static result text_sink(void *ctx, bytes content)
{
    request *q = ctx;
    for (size_t at = 0; at < content.size;) {
        size_t n = content.size - at < PIECE_BYTES ? content.size - at : PIECE_BYTES;
        Lethe__V1__GetResponse part = LETHE__V1__GET_RESPONSE__INIT;
        part.part_case = LETHE__V1__GET_RESPONSE__PART_TEXT;
        part.text = (ProtobufCBinaryData){n, (uint8_t *)content.data + at};
        TRY(request_send(q, &part.base));
        at += n;
    }
    return OK;
}

/* Marked, then looked at again: an erasure either cancels this call or shows here. */
static result document_marked(request *q, retrieval_document *info)
{
    state_source *source = arena_alloc(q->mem, sizeof *source);
    if (source == NULL) return arena_check(q->mem);
    *source = (state_source){info->owner, info->id};
    TRY(request_mark(q, source, 1));
    return retrieval_get(q->h->stores, &q->scope, source->document, q->mem, info, NULL);
}

result documents_get(request *q)
{
    Lethe__V1__GetRequest *m;
    TRY(request_receive(q, &lethe__v1__get_request__descriptor, &m));
    id128 id;
    TRY(request_document_id(m->id, &id));
    retrieval_document *info = arena_alloc(q->mem, sizeof *info);
    if (info == NULL) return arena_check(q->mem);
    const ifc_labeled *text;
    TRY(retrieval_get(q->h->stores, &q->scope, id, q->mem, info, &text));
    TRY(document_marked(q, info));
    Lethe__V1__Document document;
    TRY(document_make(q, info, &document));
    Lethe__V1__GetResponse head = LETHE__V1__GET_RESPONSE__INIT;
    head.part_case = LETHE__V1__GET_RESPONSE__PART_DOCUMENT;
    head.document = &document;
    TRY(request_send(q, &head.base));
    const ifc_gate gate = {q->context, text_sink, q};
    return ifc_gate_emit(&gate, text);
}

typedef struct {
    request *q;
    id128 after;
    size_t most, count, seen;
    bool more;
    Lethe__V1__Document **documents;
    state_source *sources;               /* which those are */
} listing;

static result list_visit(void *ctx, const retrieval_document *info)
{
    listing *l = ctx;
    if (l->more || id_compare(info->id, l->after) <= 0) return OK;
    if (l->count == l->most) { l->more = true; return OK; }
    Lethe__V1__Document *d = arena_alloc(l->q->mem, sizeof *d);
    if (d == NULL) return arena_check(l->q->mem);
    TRY(document_make(l->q, info, d));
    l->sources[l->count] = (state_source){info->owner, info->id};
    l->documents[l->count++] = d;
    return OK;
}

/* Ids ascend, on the page and here. */
static result list_look_again(void *ctx, const retrieval_document *info)
{
    listing *l = ctx;
    if (l->seen < l->count && id_equal(info->id, l->sources[l->seen].document)) l->seen++;
    return OK;
}

/* The page, marked with what stands on it, and then looked at again as a search's hits are. */
static result list_marked(request *q, listing *l)
{
    for (int attempt = 0; attempt < LIST_TRIES; attempt++) {
        TRY(request_search_mark(q, &q->scope));
        l->count = l->seen = 0;
        l->more = false;
        TRY(retrieval_list(q->h->stores, &q->scope, list_visit, l));
        TRY(request_mark(q, l->sources, l->count));
        TRY(retrieval_list(q->h->stores, &q->scope, list_look_again, l));
        if (l->seen == l->count) return OK;
    }
    return fail(E_UNAVAILABLE, "documents are being erased; ask again");
}

result documents_list(request *q)
{
    Lethe__V1__ListRequest *m;
    TRY(request_receive(q, &lethe__v1__list_request__descriptor, &m));
    listing l = {.q = q, .most = m->page_size ? m->page_size : PAGE_MAX};
    if (l.most > PAGE_MAX) return fail(E_INVALID, "page_size: at most %d", PAGE_MAX);
    if (m->page_token[0] && !is_ok(id_parse(m->page_token, &l.after)))
        return fail(E_INVALID, "page_token: pass the one of the previous page");
    l.documents = arena_alloc_array(q->mem, l.most, sizeof *l.documents);
    l.sources = arena_alloc_array(q->mem, l.most, sizeof *l.sources);
    if (l.documents == NULL || l.sources == NULL) return arena_check(q->mem);
    TRY(list_marked(q, &l));
    Lethe__V1__ListResponse response = LETHE__V1__LIST_RESPONSE__INIT;
    response.documents = l.documents;
    response.n_documents = l.count;
    if (l.more) response.next_page_token = request_id(q, l.sources[l.count - 1].document);
    return request_send(q, &response.base);
}

/* ---- Share, Unshare ------------------------------------------------------------------------------------------------- */
/* The grantees of a document's label: its one clause without the owner. */
static size_t label_grantees(const ifc_label *label, id128 owner, id128 out[IFC_CLAUSE_PRINCIPALS_MAX])
{
    size_t n = 0;
    for (size_t i = 0; label->secrecy.clause_count == 1 && i < label->secrecy.ends[0] &&
                       n < IFC_CLAUSE_PRINCIPALS_MAX; i++)
        if (!id_equal(label->secrecy.principals[i], owner)) out[n++] = label->secrecy.principals[i];
    return n;
}

/* With h->sharing held: nobody else changes a label in between. Sharing writes the grant before the
 * label, unsharing after it: the label alone decides, the grant says where to look. */
static result share_change(request *q, const Lethe__V1__ShareRequest *m, bool add,
                           retrieval_document **out)
{
    retrieval_document *info;
    id128 grantee, grantees[IFC_CLAUSE_PRINCIPALS_MAX + 1];
    TRY(request_document(q, m->document, true, &info));
    TRY(grantee_find(q, m->who, &grantee));
    size_t n = label_grantees(&info->label, info->owner, grantees), kept = 0;
    for (size_t i = 0; i < n; i++)
        if (!id_equal(grantees[i], grantee)) grantees[kept++] = grantees[i];
    if (add && !id_equal(grantee, info->owner)) grantees[kept++] = grantee;
    ifc_label *label = arena_alloc_array(q->mem, 2, sizeof *label);
    if (label == NULL) return arena_check(q->mem);
    TRY(label_make(info->owner, grantees, kept, &label[1]));
    const release letting = {q, add ? "grant" : "revoke", info->owner, &info->id, 1, &grantee, 1};
    TRY(release_label(&letting, &info->label, &label[1], label));
    const acl_grant grant = {info->owner, info->id, grantee};
    if (add) TRY(acl_grant_add(q->h->access, q->who.tenant, grant));
    TRY(retrieval_relabel(q->h->stores, q->who.tenant, info->owner, info->id, label));
    if (q->h->states) state_cache_drop_source(q->h->states, info->owner, info->id);
    if (!add) TRY(acl_grant_remove(q->h->access, q->who.tenant, grant));
    info->label = *label;
    *out = info;
    return OK;
}

static result share(request *q, bool add)
{
    Lethe__V1__ShareRequest *m;
    TRY(request_receive(q, &lethe__v1__share_request__descriptor, &m));
    retrieval_document *info = NULL;
    pthread_mutex_lock(&q->h->sharing);
    result r = share_change(q, m, add, &info);
    pthread_mutex_unlock(&q->h->sharing);
    TRY(r);
    TRY(document_marked(q, info));
    Lethe__V1__Document document;
    TRY(document_make(q, info, &document));
    Lethe__V1__ShareResponse response = LETHE__V1__SHARE_RESPONSE__INIT;
    response.document = &document;
    return request_send(q, &response.base);
}

result documents_share(request *q) { return share(q, true); }
result documents_unshare(request *q) { return share(q, false); }
