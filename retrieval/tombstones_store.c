/* Tombstones in their owner's store: read, changed and looked up under the store's lock. */
#include "tombstones.h"

#include "mutant.h"
#include "slots.h"

#include <string.h>

#ifdef LETHE_MUTANTS
static id128 shared_owner;               /* of the broken variant tombstones_shared: whoever set a policy last */
#endif

/* E_NOT_FOUND: there are none. */
static result load(store *disk, tombstones *out)
{
    buf plain;
    buf_init(&plain, SIZE_MAX);
    result r = store_get_tombstones(disk, &plain);
    if (is_ok(r)) r = tombstones_decode(buf_bytes(&plain), out);
    buf_free(&plain);
    return r;
}

static result save(store *disk, const tombstones *t)
{
    buf plain;
    buf_init(&plain, SIZE_MAX);
    if (t->policy != TOMBSTONES_OFF) tombstones_encode(t, &plain);
    result r = buf_check(&plain);
    if (is_ok(r)) r = store_put_tombstones(disk, buf_bytes(&plain));
    buf_free(&plain);
    return r;
}

static result key_open(retrieval *r, id128 tenant, id128 owner, const tombstones *t, uint8_t **out)
{
    uint8_t *secret = secure_alloc(KEY_BYTES), *key = secure_alloc(KEY_BYTES);
    result done = keytree_secret(r->keys, keytree_owner(tenant, owner), secret);
    if (is_ok(done)) tombstones_key(secret, t->salt, key);
    secure_free(secret);
    if (is_ok(done)) *out = key;
    else secure_free(key);
    return done;
}

result tombstones_open(retrieval *r, id128 tenant, id128 owner, tombstones_own *out)
{
    *out = (tombstones_own){0};
#ifdef LETHE_MUTANTS
    if (MUTANT(tombstones_shared) && !id_is_zero(shared_owner)) owner = shared_owner;
#endif
    slot *s;
    result done = slot_acquire(r, tenant, owner, false, false, &s);
    if (is_ok(done)) {
        done = load(s->disk, &out->all);
        slot_release(r, &s);
    }
    if (done.code == E_NOT_FOUND) return OK;
    if (is_ok(done)) done = key_open(r, tenant, owner, &out->all, &out->key);
    if (!is_ok(done)) tombstones_free(&out->all);
    return done;
}

void tombstones_close(tombstones_own *own)
{
    tombstones_free(&own->all);
    secure_free(own->key);
    own->key = NULL;
}

result tombstones_check(const tombstones_own *own, bytes text, bool *repeats)
{
    *repeats = false;
    if (own->all.policy == TOMBSTONES_OFF || !tombstones_repeated(&own->all, own->key, text)) return OK;
    if (own->all.policy == TOMBSTONES_REFUSE) return fail(E_PRECONDITION, RETRIEVAL_REPEATS);
    *repeats = true;
    return OK;
}

result retrieval_tombstones_check(retrieval *r, id128 tenant, id128 owner, bytes text, bool *repeats)
{
    tombstones_own own;
    result done = tombstones_open(r, tenant, owner, &own);
    if (is_ok(done)) done = tombstones_check(&own, text, repeats);
    tombstones_close(&own);
    return done;
}

result retrieval_tombstones_get(retrieval *r, id128 tenant, id128 owner, retrieval_tombstones *out)
{
    tombstones_own own;
    result done = tombstones_open(r, tenant, owner, &own);
    *out = (retrieval_tombstones){own.all.policy, own.all.document_count, own.all.mark_count};
    tombstones_close(&own);
    return done;
}

result retrieval_tombstones_set(retrieval *r, id128 tenant, id128 owner, tombstones_policy policy)
{
    slot *s;
    tombstones t = {0};
    result done = slot_acquire(r, tenant, owner, true, policy != TOMBSTONES_OFF, &s);
    if (done.code == E_NOT_FOUND && policy == TOMBSTONES_OFF) return OK;
    TRY(done);
    /* Off does not look at what it takes away: so it mends a damaged record, too. */
    if (policy != TOMBSTONES_OFF) done = load(s->disk, &t);
    if (done.code == E_NOT_FOUND) {
        random_bytes(t.salt, sizeof t.salt);
        done = OK;
    }
    t.policy = policy;
    if (is_ok(done)) done = save(s->disk, &t);
    slot_release(r, &s);
    tombstones_free(&t);
#ifdef LETHE_MUTANTS
    shared_owner = owner;
#endif
    return done;
}

/* ---- leaving ---------------------------------------------------------------------------------------------- */
static result append_text(void *ctx, uint32_t number, const store_chunk *chunk)
{
    (void)number;
    buf_append(ctx, chunk->text.data, chunk->text.size);
    return OK;
}

/* Without a key it is erased already, and was taken up then; damage must not stop an erasure. */
static result leave_one(store *disk, tombstones *t, const uint8_t *key, id128 document)
{
    store_header *header = mem_alloc(sizeof *header);
    uint64_t *marks = mem_alloc_array(TOMBSTONES_OF_DOCUMENT_MAX, sizeof *marks);
    size_t count = 0;
    buf text;
    buf_init(&text, SIZE_MAX);
    result r = store_get_header(disk, document, header);
    if (is_ok(r)) r = store_each_chunk(disk, document, 0, header->chunk_count, append_text, &text);
    if (is_ok(r)) r = buf_check(&text);
    if (is_ok(r)) {
        tombstones_of(key, buf_bytes(&text), marks, &count);
        tombstones_add(t, document, marks, count);
    }
    if (r.code == E_DATA_LOSS) log_event(LOG_WARN, "tombstone_not_left", LOG_TEXT("why", r.message));
    buf_free(&text);
    mem_wipe(marks, TOMBSTONES_OF_DOCUMENT_MAX * sizeof *marks);
    mem_free(marks);
    mem_wipe(header, sizeof *header);
    mem_free(header);
    return r.code == E_NOT_FOUND || r.code == E_DATA_LOSS ? OK : r;
}

static result leave_locked(retrieval *r, const slot *s, const id128 *documents, size_t count, tombstones *t)
{
    uint8_t *key = NULL;
    result done = load(s->disk, t);
    if (done.code == E_NOT_FOUND) return OK;
    TRY(done);
    ASSERT(t->policy != TOMBSTONES_OFF);
    size_t before = t->document_count;
    TRY(key_open(r, s->tenant, s->owner, t, &key));
    id128 last = before ? t->documents[before - 1] : (id128){{0}};
    for (size_t i = 0; is_ok(done) && i < count; i++)
        if (!tombstones_hold(t, documents[i])) done = leave_one(s->disk, t, key, documents[i]);
    secure_free(key);
    bool changed = t->document_count > 0 &&
                   (before == 0 || !id_equal(last, t->documents[t->document_count - 1]));
    return is_ok(done) && changed ? save(s->disk, t) : done;
}

result retrieval_tombstones_leave(retrieval *r, id128 tenant, id128 owner, const id128 *documents, size_t count)
{
    slot *s;
    tombstones t = {0};
    result done = slot_acquire(r, tenant, owner, true, false, &s);
    if (done.code == E_NOT_FOUND) return OK;
    TRY(done);
    done = leave_locked(r, s, documents, count, &t);
    slot_release(r, &s);
    tombstones_free(&t);
    return done;
}

result retrieval_tombstones_hold(retrieval *r, id128 tenant, id128 owner, const id128 *documents, size_t count,
                                 bool *out)
{
    tombstones_own own;
    *out = false;
    result done = tombstones_open(r, tenant, owner, &own);
    for (size_t i = 0; is_ok(done) && i < count; i++) *out = *out || tombstones_hold(&own.all, documents[i]);
    tombstones_close(&own);
    return done;
}
