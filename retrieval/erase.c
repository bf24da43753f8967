/* Erasure in memory and in the stores: steps 2, 3 and 7 of the protocol.
 *
 * A whole owner's memory is detached by the fence, wiped by the wipe and its file closed by the drop, so that
 * nothing but the wipe and the drop takes time by how much there was. Single documents leave memory in the
 * fence, all in one pass: what stays closes ranks. */
#include "mutant.h"
#include "slots.h"

static const id128 WHOLE = {{0}};

/* Out of an open store's memory; its write lock is held. */
static void forget_locked(retrieval *r, slot *s, const id128 *documents, size_t count)
{
    if (MUTANT(erase_keeps_index)) return;
    if (count == 0) {
        slot_detach(r, s);
        return;
    }
    holding_remove_many(&s->memory, documents, count);
    slot_measure(s);
}

static void tell_labels(const slot *s, const id128 *documents, size_t count, retrieval_label_fn *visit, void *ctx)
{
    for (uint32_t p = 0; count == 0 && p < s->memory.part_count; p++)
        visit(ctx, s->owner, &s->memory.parts[p]->label);
    const part **told = mem_alloc_array(count, sizeof *told);
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

/* Labels, fence and memory change under one lock, so that nobody reads the targets under a label not told. A store
 * that is opened while the fence goes up is looked at behind it: what it holds was opened before. */
result retrieval_fence(retrieval *r, id128 tenant, id128 owner, const id128 *documents, size_t count, bool in_use,
                       retrieval_label_fn *visit, void *ctx)
{
    slot *s = NULL;
    if (visit != NULL && in_use) {
        result opened = slot_acquire(r, tenant, owner, true, false, &s);   /* waits for the readers under way */
        if (!is_ok(opened) && opened.code != E_NOT_FOUND) visit(ctx, owner, NULL);
    } else {
        slot_acquire_open(r, tenant, owner, &s);
    }
    if (s != NULL && visit != NULL) tell_labels(s, documents, count, visit, ctx);
    if (!MUTANT(erase_keeps_index))
        fences_add(r, tenant, owner, count == 0 ? &WHOLE : documents, count == 0 ? 1 : count);
    if (s == NULL) {
        slot_acquire_open(r, tenant, owner, &s);
        if (s != NULL && visit != NULL) tell_labels(s, documents, count, visit, ctx);
    }
    if (s == NULL) return OK;
    forget_locked(r, s, documents, count);
    slot_release(r, &s);
    return OK;
}

result retrieval_wipe(retrieval *r, id128 tenant, id128 owner, const id128 *documents, size_t count)
{
    if (count > 0) {               /* the fence did it; this makes sure once more, after a restart for instance */
        slot *s;
        slot_acquire_open(r, tenant, owner, &s);
        if (s == NULL) return OK;
        forget_locked(r, s, documents, count);
        slot_release(r, &s);
        return OK;
    }
    detached *d = detached_take(r, tenant, owner);
    if (d == NULL) return OK;
    detached_wipe(d);
    detached_put(r, d);
    return OK;
}

static result drop_whole(retrieval *r, id128 tenant, id128 owner)
{
    char path[4096];
    TRY(slot_path(r, owner, path, sizeof path));
    fences_add(r, tenant, owner, &WHOLE, 1);      /* nobody opens the file while it goes */
    slot *s;
    slot_acquire_open(r, tenant, owner, &s);
    if (s != NULL) slot_detach(r, s);
    slot_release(r, &s);
    for (detached *d; (d = detached_take(r, tenant, owner)) != NULL;) detached_close(d);
    result done = kv_unlink(path);
    if (is_ok(done)) done = file_fsync_dir(r->stores_dir);
    if (is_ok(done)) fences_remove(r, tenant, owner, &WHOLE, 1);
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
    if (is_ok(done)) fences_remove(r, tenant, owner, documents, count);
    return done;
}
