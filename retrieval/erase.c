/* Erasure in memory and in the stores: steps 2, 3 and 7 of the protocol. */
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
        if (count == 0) slot_shut(s);
        for (size_t i = 0; i < count; i++) holding_remove(&s->memory, documents[i]);
        slot_measure(s);
    }
    slot_release(r, &s);
}

result retrieval_fence(retrieval *r, id128 tenant, id128 owner, const id128 *documents,
                       size_t count)
{
    if (!MUTANT(erase_keeps_index)) {
        if (count == 0) fence_add(r, tenant, owner, WHOLE);
        for (size_t i = 0; i < count; i++) fence_add(r, tenant, owner, documents[i]);
    }
    forget(r, tenant, owner, documents, count);
    return OK;
}

/* What the fence took out is wiped with it; this makes sure once more, after a restart for
 * instance. */
result retrieval_wipe(retrieval *r, id128 tenant, id128 owner, const id128 *documents, size_t count)
{
    forget(r, tenant, owner, documents, count);
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
