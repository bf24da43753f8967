/* Copies of stores, and what an older copy has too much. */
#include "slots.h"

result retrieval_copy(retrieval *r, id128 tenant, id128 owner, const char *path)
{
    slot *s;
    TRY(slot_acquire(r, tenant, owner, false, false, &s));
    result done = store_copy(s->disk, path);
    slot_release(r, &s);
    return done;
}

result retrieval_prune(retrieval *r, id128 tenant, id128 owner)
{
    slot *s;
    TRY(slot_acquire(r, tenant, owner, true, false, &s));
    result done = store_prune(s->disk);
    slot_release(r, &s);
    return done;
}
