/* Erasure in memory and in the stores: steps 2, 3 and 7 of the protocol. */
#include "mutant.h"
#include "slots.h"

static const id128 WHOLE = {{0}};

/* Out of an open store's memory; its write lock is held. */
static void forget_locked(slot *s, const id128 *documents, size_t count)
{
    if (MUTANT(erase_keeps_index)) return;
    if (count == 0) slot_shut(s);
    for (size_t i = 0; i < count; i++) holding_remove(&s->memory, documents[i]);
    slot_measure(s);
}

static void tell_labels(const slot *s, const id128 *documents, size_t count, retrieval_label_fn *visit, void *ctx)
{
    for (uint32_t c = 0; count == 0 && c < s->memory.compartment_count; c++)
        visit(ctx, s->owner, &s->memory.compartments[c]->label);
    const compartment **told = mem_alloc_array(count, sizeof *told);
    size_t n = 0, t;
    for (size_t i = 0; i < count; i++) {
        const holding_document *d = holding_find(&s->memory, documents[i]);
        if (d == NULL) continue;
        for (t = 0; t < n && told[t] != d->home; t++) {}
        if (t < n) continue;
        told[n++] = d->home;
        visit(ctx, s->owner, &d->home->label);
    }
    mem_free(told);
}

/* A store that is not open is opened for its labels: who searched it before it was closed may still be answering.
 * Labels, fence and memory change under one lock, so that nobody reads the targets under a label not told. */
result retrieval_fence(retrieval *r, id128 tenant, id128 owner, const id128 *documents, size_t count,
                       retrieval_label_fn *visit, void *ctx)
{
    slot *s = NULL;
    if (visit != NULL) {
        result opened = slot_acquire(r, tenant, owner, true, false, &s);   /* waits for the readers under way */
        if (is_ok(opened)) tell_labels(s, documents, count, visit, ctx);
        else if (opened.code != E_NOT_FOUND) visit(ctx, owner, NULL);
    }
    if (!MUTANT(erase_keeps_index)) {
        if (count == 0) fence_add(r, tenant, owner, WHOLE);
        for (size_t i = 0; i < count; i++) fence_add(r, tenant, owner, documents[i]);
    }
    if (s == NULL) slot_acquire_open(r, tenant, owner, &s);
    if (s == NULL) return OK;
    forget_locked(s, documents, count);
    slot_release(r, &s);
    return OK;
}

/* What the fence took out is wiped with it; this makes sure once more, after a restart for
 * instance. */
result retrieval_wipe(retrieval *r, id128 tenant, id128 owner, const id128 *documents, size_t count)
{
    slot *s;
    slot_acquire_open(r, tenant, owner, &s);
    if (s == NULL) return OK;
    forget_locked(s, documents, count);
    slot_release(r, &s);
    return OK;
}

static result drop_whole(retrieval *r, id128 tenant, id128 owner)
{
    char path[4096];
    slot *s;
    TRY(slot_path(r, owner, path, sizeof path));
    fence_add(r, tenant, owner, WHOLE);           /* nobody opens the file while it goes */
    slot_acquire_open(r, tenant, owner, &s);
    if (s != NULL) slot_shut(s);
    result done = kv_unlink(path);
    slot_release(r, &s);
    if (is_ok(done)) done = file_fsync_dir(r->stores_dir);
    if (is_ok(done)) fence_remove(r, tenant, owner, WHOLE);
    return done;
}

result retrieval_drop(retrieval *r, id128 tenant, id128 owner, const id128 *documents,
                      const uint32_t *chunk_counts, size_t count)
{
    slot *s;
    if (count == 0) return drop_whole(r, tenant, owner);
    result done = slot_acquire(r, tenant, owner, true, false, &s);
    if (done.code == E_NOT_FOUND) done = OK;      /* no store, no records */
    if (is_ok(done) && s != NULL) {
        done = store_drop(s->disk, documents, chunk_counts, count);
        slot_release(r, &s);
    }
    for (size_t i = 0; i < count && is_ok(done); i++) fence_remove(r, tenant, owner, documents[i]);
    return done;
}
