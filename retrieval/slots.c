#include "slots.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

result slot_path(const retrieval *r, id128 owner, char *path, size_t size)
{
    char name[ID_TEXT_BYTES + 4];
    id_text(owner, name);
    memcpy(name + ID_TEXT_BYTES - 1, ".mdb", 5);
    return path_join(path, size, r->stores_dir, name);
}

void slot_shut(slot *s)
{
    holding_clear(&s->memory);
    store_close(&s->disk);
    slot_measure(s);
}

void slot_measure(slot *s)
{
    atomic_store(&s->vectors_bytes, holding_vectors_bytes(&s->memory));
    atomic_store(&s->lexical_bytes, holding_lexical_bytes(&s->memory));
}

/* ---- fences (the table's lock is taken inside) ----------------------------------------------- */

static bool fence_equal(const fence *f, id128 tenant, id128 owner, id128 document)
{
    return id_equal(f->tenant, tenant) && id_equal(f->owner, owner) &&
           id_equal(f->document, document);
}

static bool fence_stands_locked(const retrieval *r, id128 tenant, id128 owner, id128 document)
{
    for (uint32_t i = 0; i < r->fence_count; i++)
        if (fence_equal(&r->fences[i], tenant, owner, document) ||
            fence_equal(&r->fences[i], tenant, owner, (id128){{0}})) return true;
    return false;
}

bool fence_stands(retrieval *r, id128 tenant, id128 owner, id128 document)
{
    pthread_mutex_lock(&r->lock);
    bool stands = fence_stands_locked(r, tenant, owner, document);
    pthread_mutex_unlock(&r->lock);
    return stands;
}

static int by_id(const void *a, const void *b)
{
    return id_compare(*(const id128 *)a, *(const id128 *)b);
}

static void fences_drop_locked(retrieval *r, id128 tenant, id128 owner, const id128 *sorted, size_t count)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->fence_count; i++) {
        const fence *f = &r->fences[i];
        if (!id_equal(f->owner, owner) || !id_equal(f->tenant, tenant) ||
            bsearch(&f->document, sorted, count, sizeof *sorted, by_id) == NULL)
            r->fences[kept++] = *f;
    }
    r->fence_count = kept;
}

/* Each document's fence stands once, whatever stood before. */
static void fences_put_locked(retrieval *r, id128 tenant, id128 owner, const id128 *sorted, size_t count)
{
    fences_drop_locked(r, tenant, owner, sorted, count);
    if (r->fence_capacity - r->fence_count < count) {
        r->fence_capacity = r->fence_count * 2 + (uint32_t)count + 16;
        r->fences = mem_realloc(r->fences, r->fence_capacity * sizeof *r->fences);
    }
    for (size_t i = 0; i < count; i++)
        if (i == 0 || !id_equal(sorted[i], sorted[i - 1]))
            r->fences[r->fence_count++] = (fence){tenant, owner, sorted[i]};
}

static void fences_change(retrieval *r, id128 tenant, id128 owner, const id128 *documents, size_t count,
                          void (*change)(retrieval *, id128, id128, const id128 *, size_t))
{
    id128 *sorted = mem_alloc_array(count, sizeof *sorted);
    memcpy(sorted, documents, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_id);
    pthread_mutex_lock(&r->lock);
    change(r, tenant, owner, sorted, count);
    pthread_mutex_unlock(&r->lock);
    mem_free(sorted);
}

void fences_add(retrieval *r, id128 tenant, id128 owner, const id128 *documents, size_t count)
{
    fences_change(r, tenant, owner, documents, count, fences_put_locked);
}

void fences_remove(retrieval *r, id128 tenant, id128 owner, const id128 *documents, size_t count)
{
    fences_change(r, tenant, owner, documents, count, fences_drop_locked);
}

/* ---- detached stores: the list is under the table's lock, what is taken from it is the caller's ---- */

void detached_put(retrieval *r, detached *d)
{
    pthread_mutex_lock(&r->lock);
    d->next = r->detached;
    r->detached = d;
    pthread_mutex_unlock(&r->lock);
}

void slot_detach(retrieval *r, slot *s)
{
    if (s->disk == NULL) return;
    detached *d = mem_alloc(sizeof *d);
    *d = (detached){.tenant = s->tenant, .owner = s->owner, .disk = s->disk, .memory = s->memory};
    s->disk = NULL;
    holding_init(&s->memory, d->memory.dimensions, d->memory.centroids);
    slot_measure(s);
    detached_put(r, d);
}

detached *detached_take(retrieval *r, id128 tenant, id128 owner)
{
    pthread_mutex_lock(&r->lock);
    detached **at = &r->detached;
    while (*at != NULL && !(id_equal((*at)->owner, owner) && id_equal((*at)->tenant, tenant)))
        at = &(*at)->next;
    detached *d = *at;
    if (d != NULL) *at = d->next;
    pthread_mutex_unlock(&r->lock);
    return d;
}

void detached_wipe(detached *d)
{
    holding_wipe(&d->memory);
    store_forget(d->disk);
}

void detached_close(detached *d)
{
    detached_wipe(d);
    holding_clear(&d->memory);
    store_close(&d->disk);
    mem_free(d);
}

/* ---- the table ------------------------------------------------------------------------------- */

static slot *table_find(const retrieval *r, id128 tenant, id128 owner)
{
    for (uint32_t i = 0; i < r->slot_count; i++)
        if (id_equal(r->slots[i]->owner, owner) && id_equal(r->slots[i]->tenant, tenant))
            return r->slots[i];
    return NULL;
}

static void table_remove(retrieval *r, slot *s)
{
    uint32_t i = 0;
    while (r->slots[i] != s) i++;
    r->slots[i] = r->slots[--r->slot_count];
    slot_shut(s);
    pthread_rwlock_destroy(&s->lock);
    mem_free(s);
}

/* Makes room for one more, if an unpinned one can go. */
static void table_evict(retrieval *r)
{
    while (r->slot_count >= r->stores_open_max) {
        slot *oldest = NULL;
        for (uint32_t i = 0; i < r->slot_count; i++) {
            slot *s = r->slots[i];
            if (s->users == 0 && (oldest == NULL || s->used < oldest->used)) oldest = s;
        }
        if (oldest == NULL) return;
        table_remove(r, oldest);
    }
}

static slot *table_add(retrieval *r, id128 tenant, id128 owner)
{
    table_evict(r);
    if (r->slot_count == r->slot_capacity) {
        r->slot_capacity = r->slot_capacity * 2 + 16;
        r->slots = mem_realloc(r->slots, r->slot_capacity * sizeof *r->slots);
    }
    slot *s = mem_alloc(sizeof *s);
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&s->lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    s->tenant = tenant;
    s->owner = owner;
    holding_init(&s->memory, embedder_dimensions(r->embedder), r->centroids);
    r->slots[r->slot_count++] = s;
    return s;
}

static void unpin(retrieval *r, slot *s)
{
    pthread_mutex_lock(&r->lock);
    s->used = ++r->clock;
    if (--s->users == 0) {
        if (s->disk == NULL) table_remove(r, s);
        pthread_cond_broadcast(&r->idle);
    }
    pthread_mutex_unlock(&r->lock);
}

typedef struct { retrieval *r; slot *s; } skipping;

static bool skip_fenced(void *ctx, id128 id)
{
    skipping *k = ctx;
    return fence_stands(k->r, k->s->tenant, k->s->owner, id);
}

/* The write lock is held. */
static result slot_open(retrieval *r, slot *s, bool create)
{
    char path[4096];
    if (s->disk != NULL) return OK;
    TRY(slot_path(r, s->owner, path, sizeof path));
    TRY(store_open(&s->disk, path, r->keys, s->tenant, s->owner, s->memory.dimensions,
                   (size_t)r->store_max_bytes, create));
    skipping k = {r, s};
    result loaded = holding_load(&s->memory, s->disk, skip_fenced, &k);
    if (!is_ok(loaded)) store_close(&s->disk);
    slot_measure(s);
    return loaded;
}

result slot_acquire(retrieval *r, id128 tenant, id128 owner, bool write, bool create, slot **out)
{
    *out = NULL;
    pthread_mutex_lock(&r->lock);
    if (fence_stands_locked(r, tenant, owner, (id128){{0}})) {
        pthread_mutex_unlock(&r->lock);
        return fail(E_NOT_FOUND, "%s", IFC_NOT_FOUND);
    }
    slot *s = table_find(r, tenant, owner);
    if (s == NULL) s = table_add(r, tenant, owner);
    s->users++;
    pthread_mutex_unlock(&r->lock);
    result opened = OK;
    if (!write) {
        pthread_rwlock_rdlock(&s->lock);
        if (s->disk == NULL) {
            pthread_rwlock_unlock(&s->lock);
            write = true;          /* opened under the write lock, and then used under it: once */
        } else {
            *out = s;
            return OK;
        }
    }
    pthread_rwlock_wrlock(&s->lock);
    /* A fence may have gone up, and the store away, while this waited. */
    opened = fence_stands(r, tenant, owner, (id128){{0}}) ? fail(E_NOT_FOUND, "%s", IFC_NOT_FOUND)
                                                          : slot_open(r, s, create);
    if (!is_ok(opened)) {
        pthread_rwlock_unlock(&s->lock);
        unpin(r, s);
        return opened;
    }
    *out = s;
    return OK;
}

void slot_release(retrieval *r, slot **s)
{
    if (*s == NULL) return;
    pthread_rwlock_unlock(&(*s)->lock);
    unpin(r, *s);
    *s = NULL;
}

void slot_acquire_open(retrieval *r, id128 tenant, id128 owner, slot **out)
{
    pthread_mutex_lock(&r->lock);
    slot *s = table_find(r, tenant, owner);
    if (s != NULL) s->users++;
    pthread_mutex_unlock(&r->lock);
    if (s != NULL) pthread_rwlock_wrlock(&s->lock);
    *out = s;
}
