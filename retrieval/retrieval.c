#include <stdlib.h>
#include <string.h>

#include "centroids.h"
#include "chunker.h"
#include "mutant.h"
#include "slots.h"

enum { STORES_OPEN_DEFAULT = 128 };
static const uint64_t DOCUMENT_MAX_DEFAULT = (uint64_t)64 << 20;
static const uint64_t STORE_MAX_DEFAULT = (uint64_t)16 << 30;

result retrieval_open(retrieval **out, const retrieval_options *o)
{
    char dir[4096];
    retrieval *r = mem_alloc(sizeof *r);
    r->keys = o->keys;
    r->stores_open_max = o->stores_open_max ? o->stores_open_max : STORES_OPEN_DEFAULT;
    r->document_max_bytes = o->document_max_bytes ? o->document_max_bytes : DOCUMENT_MAX_DEFAULT;
    r->store_max_bytes = o->store_max_bytes ? o->store_max_bytes : STORE_MAX_DEFAULT;
    r->chunk_target_bytes = o->chunk_target_bytes ? o->chunk_target_bytes : CHUNK_TARGET_DEFAULT;
    r->probe_chunks_min = o->probe_chunks_min ? o->probe_chunks_min : PROBE_CHUNKS_MIN_DEFAULT;
    r->probe_percent = o->probe_percent ? o->probe_percent : PROBE_PERCENT_DEFAULT;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->idle, NULL);
    result done = OK;
    if (r->chunk_target_bytes < CHUNK_TARGET_MIN)
        done = fail(E_INVALID, "chunks of less than %d bytes are not useful", CHUNK_TARGET_MIN);
    if (is_ok(done)) done = path_join(dir, sizeof dir, o->data_dir, "stores");
    if (is_ok(done)) done = dir_make(dir, 0700);
    if (is_ok(done)) done = embedder_open(&r->embedder, o->embedder_dir);
    if (is_ok(done)) done = centroids_open(&r->centroids, o->embedder_dir, embedder_dimensions(r->embedder));
    if (is_ok(done)) r->stores_dir = mem_strdup(dir);
    *out = r;
    if (!is_ok(done)) retrieval_close(out);
    return done;
}

void retrieval_close(retrieval **out)
{
    retrieval *r = *out;
    *out = NULL;
    if (r == NULL) return;
    pthread_mutex_lock(&r->lock);
    for (uint32_t i = 0; i < r->slot_count;) {
        if (r->slots[i]->users > 0) {
            pthread_cond_wait(&r->idle, &r->lock);
            i = 0;
        } else {
            i++;
        }
    }
    pthread_mutex_unlock(&r->lock);
    for (uint32_t i = 0; i < r->slot_count; i++) {
        slot_shut(r->slots[i]);
        pthread_rwlock_destroy(&r->slots[i]->lock);
        mem_free(r->slots[i]);
    }
    for (detached *d; (d = r->detached) != NULL;) {
        r->detached = d->next;
        detached_close(d);
    }
    embedder_close(&r->embedder);
    dense_close(&r->centroids);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->idle);
    mem_free(r->slots);
    mem_free(r->fences);
    mem_free(r->stores_dir);
    mem_free(r);
}

/* ---- documents ------------------------------------------------------------------------------- */

static void document_info(const slot *s, const holding_document *d, retrieval_document *info)
{
    memset(info, 0, sizeof *info);
    info->id = d->id;
    info->owner = s->owner;
    memcpy(info->path, d->path, strnlen(d->path, RETRIEVAL_PATH_MAX_BYTES));
    const char *type = holding_media_type(d);
    memcpy(info->media_type, type, strnlen(type, sizeof info->media_type - 1));
    info->label = d->home->label;
    info->size_bytes = d->size_bytes;
    info->chunk_count = d->chunk_count;
}

static result append_text(void *ctx, uint32_t number, const store_chunk *chunk)
{
    (void)number;
    buf_append(ctx, chunk->text.data, chunk->text.size);
    return OK;
}

static result read_text(slot *s, const holding_document *d, arena *a, const ifc_labeled **text)
{
    buf b;
    buf_init(&b, (size_t)d->size_bytes);
    result done = store_each_chunk(s->disk, d->id, 0, d->chunk_count, append_text, &b);
    if (is_ok(done)) done = buf_check(&b);
    if (is_ok(done)) {
        *text = ifc_labeled_make(a, &d->home->label, buf_bytes(&b));
        if (*text == NULL) done = fail(E_EXHAUSTED, "the document is too large for this request");
    }
    buf_free(&b);
    return done;
}

/* One owner's part of retrieval_get; E_NOT_FOUND alike when absent or denied, by the clock, too: where the document
 * is absent, a neighbour's label is checked in its place (tests/bench/bench_timing.c). */
static result get_from(retrieval *r, const retrieval_scope *scope, id128 owner, id128 document,
                       arena *a, retrieval_document *info, const ifc_labeled **text)
{
    slot *s;
    TRY(slot_acquire(r, scope->context->tenant, owner, false, false, &s));
    bool present;
    const holding_document *d = holding_near(&s->memory, document, &present);
    bool permitted = d != NULL && ifc_context_permits(scope->context, &d->home->label);
    result done = OK;
    if (!(present & permitted))
        done = fail(present && MUTANT(denied_told) ? E_DENIED : E_NOT_FOUND, "%s", IFC_NOT_FOUND);
    if (is_ok(done) && text != NULL) done = read_text(s, d, a, text);
    if (is_ok(done) && info != NULL) document_info(s, d, info);
    slot_release(r, &s);
    return done;
}

result retrieval_get(retrieval *r, const retrieval_scope *scope, id128 document, arena *a,
                     retrieval_document *info, const ifc_labeled **text)
{
    for (size_t i = 0; i < scope->owner_count; i++) {
        TRY(ifc_context_alive(scope->context));
        result done = get_from(r, scope, scope->owners[i], document, a, info, text);
        if (done.code != E_NOT_FOUND) return done;
    }
    return fail(E_NOT_FOUND, "%s", IFC_NOT_FOUND);
}

typedef struct { id128 id, owner; } listed;

static int by_id(const void *a, const void *b)
{
    return id_compare(((const listed *)a)->id, ((const listed *)b)->id);
}

/* Ids first, each document in its turn: the visitor runs without a lock, and may call back. */
result retrieval_list(retrieval *r, const retrieval_scope *scope,
                      result (*visit)(void *ctx, const retrieval_document *document), void *ctx)
{
    buf ids;
    buf_init(&ids, SIZE_MAX);
    result done = OK;
    for (size_t i = 0; i < scope->owner_count && is_ok(done); i++) {
        slot *s;
        if (!is_ok(done = ifc_context_alive(scope->context))) break;
        done = slot_acquire(r, scope->context->tenant, scope->owners[i], false, false, &s);
        if (done.code == E_NOT_FOUND) done = OK;
        if (!is_ok(done) || s == NULL) continue;
        for (uint32_t d = 0; d < s->memory.document_count; d++) {
            const holding_document *doc = &s->memory.documents[d];
            listed entry = {doc->id, s->owner};
            if (ifc_context_permits(scope->context, &doc->home->label))
                buf_append(&ids, &entry, sizeof entry);
        }
        slot_release(r, &s);
    }
    size_t count = ids.size / sizeof(listed);
    listed *all = (listed *)(void *)ids.data;
    if (count > 1) qsort(all, count, sizeof *all, by_id);
    retrieval_document *info = mem_alloc(sizeof *info);
    for (size_t i = 0; i < count && is_ok(done); i++) {
        if (i > 0 && id_equal(all[i].id, all[i - 1].id)) continue;    /* an owner named twice */
        if (!is_ok(done = ifc_context_alive(scope->context))) break;
        done = get_from(r, scope, all[i].owner, all[i].id, NULL, info, NULL);
        if (is_ok(done)) done = visit(ctx, info);
        else if (done.code == E_NOT_FOUND) done = OK;                 /* gone in between */
    }
    mem_wipe(info, sizeof *info);
    mem_free(info);
    buf_free(&ids);
    return done;
}

result retrieval_find_path(retrieval *r, id128 tenant, id128 owner, const char *path,
                           id128 *document)
{
    slot *s;
    TRY(slot_acquire(r, tenant, owner, false, false, &s));
    const holding_document *found = NULL;
    for (uint32_t i = 0; i < s->memory.document_count && found == NULL; i++)
        if (strcmp(s->memory.documents[i].path, path) == 0) found = &s->memory.documents[i];
    if (found != NULL) *document = found->id;
    slot_release(r, &s);
    return found != NULL ? OK : fail(E_NOT_FOUND, "%s", IFC_NOT_FOUND);
}

/* Durable first, then out of the old compartment, then into the new one. If that last step fails
 * the store's memory is dropped, and read again by its next user: never left under the old
 * label. */
static result relabel_locked(slot *s, id128 document, const ifc_label *label)
{
    const holding_document *d = holding_find(&s->memory, document);
    if (d == NULL) return fail(E_NOT_FOUND, "%s", IFC_NOT_FOUND);
    if (ifc_label_equal(&d->home->label, label)) return OK;
    bool ignored = MUTANT(unshare_ignored) && !ifc_flows(label, &d->home->label);
    store_header *header = mem_alloc(sizeof *header);
    result done = store_get_header(s->disk, document, header);
    header->label = *label;
    if (is_ok(done)) done = store_put_header(s->disk, header);
    if (is_ok(done) && !ignored) {
        holding_remove(&s->memory, document);
        done = holding_load_document(&s->memory, s->disk, header);
        if (is_ok(done)) slot_measure(s);
        else slot_shut(s);
    }
    mem_wipe(header, sizeof *header);
    mem_free(header);
    return done;
}

result retrieval_relabel(retrieval *r, id128 tenant, id128 owner, id128 document,
                         const ifc_label *label)
{
    slot *s;
    TRY(slot_acquire(r, tenant, owner, true, false, &s));
    result done = relabel_locked(s, document, label);
    slot_release(r, &s);
    return done;
}

result retrieval_usage_of(retrieval *r, id128 tenant, id128 owner, retrieval_usage *out)
{
    slot *s;
    *out = (retrieval_usage){0};
    result done = slot_acquire(r, tenant, owner, false, false, &s);
    if (done.code == E_NOT_FOUND) return OK;                          /* nothing was put yet */
    TRY(done);
    *out = (retrieval_usage){s->memory.document_count, s->memory.chunks, s->memory.text_bytes};
    slot_release(r, &s);
    return OK;
}

void retrieval_memory_now(retrieval *r, retrieval_memory *out)
{
    *out = (retrieval_memory){0};
    pthread_mutex_lock(&r->lock);
    for (uint32_t i = 0; i < r->slot_count; i++) {
        out->stores_open++;
        out->vectors_bytes += atomic_load(&r->slots[i]->vectors_bytes);
        out->lexical_bytes += atomic_load(&r->slots[i]->lexical_bytes);
    }
    pthread_mutex_unlock(&r->lock);
}
