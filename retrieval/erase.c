/* Erasure in memory and in the stores: steps 2, 3 and 7 of the protocol.
 *
 * A whole owner's memory is detached by the fence, wiped by the wipe and its file closed by the drop, so that
 * nothing but the wipe and the drop takes time by how much there was. Single documents leave memory in the
 * fence, all in one pass: what stays closes ranks. */
#include "mutant.h"
#include "slots.h"

static const id128 WHOLE = {{0}};

/* Takes the targets out of an open store's memory. The fence stands already, so that a store
 * which is not open, or opens later, never holds them. */
static void forget(retrieval *r, id128 tenant, id128 owner, const id128 *documents, size_t count)
{
    slot *s;
    slot_acquire_open(r, tenant, owner, &s);      /* waits for the readers under way */
    if (s == NULL) return;
    if (!MUTANT(erase_keeps_index)) {
        if (count == 0) slot_detach(r, s);
        else {
            holding_remove_many(&s->memory, documents, count);
            slot_measure(s);
        }
    }
    slot_release(r, &s);
}

result retrieval_fence(retrieval *r, id128 tenant, id128 owner, const id128 *documents,
                       size_t count)
{
    if (!MUTANT(erase_keeps_index))
        fences_add(r, tenant, owner, count == 0 ? &WHOLE : documents, count == 0 ? 1 : count);
    forget(r, tenant, owner, documents, count);
    return OK;
}

result retrieval_wipe(retrieval *r, id128 tenant, id128 owner, const id128 *documents, size_t count)
{
    if (count > 0) {               /* the fence did it; this makes sure once more, after a restart for instance */
        forget(r, tenant, owner, documents, count);
        return OK;
    }
    detached *d = detached_take(r, tenant, owner);
    if (d == NULL) return OK;
    if (!MUTANT(wipe_skipped)) detached_wipe(d);
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
