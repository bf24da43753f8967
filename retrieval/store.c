/* store: sealed records of one owner's documents in one LMDB environment. What a record's value is:
 *   header   version u64 (in the clear, and associated data), sealed header
 *   chunk    sealed chunk
 * A document's keys come from its key-tree secret: once that is gone its records are noise, and
 * dropping them is tidiness. They are still found, because LMDB keys hang on the owner's secret. */
#include "store_record.h"

#include "mutant.h"

#include <stdlib.h>
#include <string.h>

enum { INDEX_KEY_BYTES = HASH_BYTES, COLLECT_BLOCK = 1024, AD_BYTES = 128 };

struct store {
    kv *db;
    keytree *kt;                  /* borrowed */
    id128 tenant, owner;
    uint32_t dimensions;
    uint8_t *index_key;           /* secure: hashes ids into LMDB keys */
    buf delayed;                  /* the broken variant ack_before_commit only */
};

/* ---- names and keys ---- */
typedef struct { uint8_t b[INDEX_KEY_BYTES]; } index_key;

/* kind 'h': number 0. */
static index_key index_key_of(const store *s, char kind, id128 document, uint32_t number)
{
    index_key key;
    uint8_t data[1 + ID_BYTES + 4];
    data[0] = (uint8_t)kind;
    memcpy(data + 1, document.b, ID_BYTES);
    for (size_t i = 0; i < 4; i++) data[1 + ID_BYTES + i] = (uint8_t)(number >> (8 * i));
    hash_keyed(s->index_key, "lethe store key", bytes_of(data, sizeof data), key.b);
    return key;
}

static bytes key_bytes(const index_key *key)
{
    return bytes_of(key->b, sizeof key->b);
}

static bytes associated(const store *s, char kind, id128 document, uint32_t number,
                        uint64_t version, uint8_t ad[AD_BYTES])
{
    static const char DOMAIN[] = "lethe store record 1";
    uint8_t *at = ad;
    memcpy(at, DOMAIN, sizeof DOMAIN);
    at += sizeof DOMAIN;
    memcpy(at, s->tenant.b, ID_BYTES);
    memcpy(at + ID_BYTES, s->owner.b, ID_BYTES);
    memcpy(at + 2 * ID_BYTES, document.b, ID_BYTES);
    at += 3 * ID_BYTES;
    *at++ = (uint8_t)kind;
    for (size_t i = 0; i < 4; i++) *at++ = (uint8_t)(number >> (8 * i));
    for (size_t i = 0; i < 8; i++) *at++ = (uint8_t)(version >> (8 * i));
    ASSERT(at <= ad + AD_BYTES);
    return bytes_of(ad, (size_t)(at - ad));
}

typedef struct { uint8_t secret[KEY_BYTES], header[KEY_BYTES], chunk[KEY_BYTES]; } document_keys;

static void keys_derive(document_keys *keys)
{
    key_derive(keys->secret, "header", bytes_of(NULL, 0), keys->header);
    key_derive(keys->secret, "chunk", bytes_of(NULL, 0), keys->chunk);
}

/* Free with secure_free. E_NOT_FOUND: no key, so no document. */
static result keys_open(const store *s, id128 document, document_keys **out)
{
    document_keys *keys = secure_alloc(sizeof *keys);
    result r = keytree_secret(s->kt, keytree_document(s->tenant, s->owner, document), keys->secret);
    if (!is_ok(r)) {
        secure_free(keys);
        return r;
    }
    keys_derive(keys);
    *out = keys;
    return OK;
}

/* ---- opening ---- */
result store_open(store **out, const char *path, keytree *kt, id128 tenant, id128 owner,
                  uint32_t dimensions, size_t map_max_bytes, bool create)
{
    *out = NULL;
    store *s = mem_alloc(sizeof *s);
    uint8_t *secret = secure_alloc(KEY_BYTES);
    *s = (store){.kt = kt, .tenant = tenant, .owner = owner, .dimensions = dimensions};
    s->index_key = secure_alloc(KEY_BYTES);
    buf_init(&s->delayed, SIZE_MAX);
    result r;
    TRY_TO(r, keytree_secret(kt, keytree_owner(tenant, owner), secret), out);
    key_derive(secret, "store index", bytes_of(NULL, 0), s->index_key);
    TRY_TO(r, kv_open(&s->db, path, &(kv_options){map_max_bytes, create}), out);
    *out = s;
    s = NULL;
out:
    secure_free(secret);
    store_close(&s);
    return r;
}

/* ---- writing ---- */
/* Of the broken variant: writes what was acknowledged too early. */
static result delayed_flush(store *s)
{
    if (s->delayed.size == 0) return OK;
    kv_txn *txn;
    TRY(kv_begin(s->db, true, &txn));
    reader in = reader_of(buf_bytes(&s->delayed));
    result r = OK;
    while (is_ok(r) && in.at < in.size) {
        const uint8_t *key = reader_take(&in, INDEX_KEY_BYTES);
        uint32_t size = reader_u32(&in);
        const uint8_t *value = reader_take(&in, size);
        ASSERT(key != NULL && value != NULL);
        r = kv_put(txn, bytes_of(key, INDEX_KEY_BYTES), bytes_of(value, size));
    }
    buf_clear(&s->delayed);
    if (is_ok(r)) return kv_commit(&txn);
    kv_abort(&txn);
    return r;
}

void store_close(store **out)
{
    store *s = *out;
    *out = NULL;
    if (s == NULL) return;
    if (MUTANT(ack_before_commit) && s->db != NULL && !is_ok(delayed_flush(s)))
        log_event(LOG_ERROR, "delayed_commit_failed");
    kv_close(&s->db);
    secure_free(s->index_key);
    buf_free(&s->delayed);
    mem_free(s);
}

void store_forget(store *s)
{
    secure_free(s->index_key);
    s->index_key = NULL;
}

static result put_value(store *s, kv_txn *txn, index_key key, bytes value)
{
    if (!MUTANT(ack_before_commit)) return kv_put(txn, key_bytes(&key), value);
    buf_append(&s->delayed, key.b, sizeof key.b);
    buf_append_u32(&s->delayed, (uint32_t)value.size);
    buf_append(&s->delayed, value.data, value.size);
    return OK;
}

/* plain and sealed are scratch buffers. */
static result put_header(store *s, kv_txn *txn, const document_keys *keys,
                         const store_header *header, buf *plain, buf *sealed)
{
    uint8_t ad[AD_BYTES];
    buf_clear(plain);
    buf_clear(sealed);
    TRY(store_header_encode(header, plain));
    buf_append_u64(sealed, header->version);
    TRY(seal_value(keys->header, associated(s, 'h', header->id, 0, header->version, ad),
                   buf_bytes(plain), sealed));
    return put_value(s, txn, index_key_of(s, 'h', header->id, 0), buf_bytes(sealed));
}

static result put_chunk(store *s, kv_txn *txn, const document_keys *keys, id128 document,
                        uint32_t number, const store_chunk *chunk, buf *plain, buf *sealed)
{
    uint8_t ad[AD_BYTES];
    buf_clear(plain);
    buf_clear(sealed);
    TRY(store_chunk_encode(chunk, s->dimensions, plain));
    TRY(seal_value(keys->chunk, associated(s, 'c', document, number, 0, ad), buf_bytes(plain),
                   sealed));
    return put_value(s, txn, index_key_of(s, 'c', document, number), buf_bytes(sealed));
}

/* Chunks from first on, as far as there are any and at least to number least. */
static result delete_chunks(store *s, kv_txn *txn, id128 document, uint32_t first, uint32_t least)
{
    for (uint32_t n = first;; n++) {
        index_key key = index_key_of(s, 'c', document, n);
        bytes value;
        result r = kv_get(txn, key_bytes(&key), &value);
        if (r.code == E_NOT_FOUND && n >= least) return OK;
        if (r.code == E_NOT_FOUND) continue;
        TRY(r);
        TRY(kv_delete(txn, key_bytes(&key)));
    }
}

static result put_document(store *s, kv_txn *txn, const store_document *document, buf *plain,
                           buf *sealed)
{
    const store_header *header = &document->header;
    document_keys *keys;
    TRY(keys_open(s, header->id, &keys));
    result r = put_header(s, txn, keys, header, plain, sealed);
    for (uint32_t i = 0; is_ok(r) && i < header->chunk_count; i++)
        r = put_chunk(s, txn, keys, header->id, i, &document->chunks[i], plain, sealed);
    if (is_ok(r)) r = delete_chunks(s, txn, header->id, header->chunk_count, header->chunk_count);
    secure_free(keys);
    return r;
}

static result finish(kv_txn **txn, result r)
{
    if (is_ok(r)) return kv_commit(txn);
    kv_abort(txn);
    return r;
}

result store_put(store *s, const store_document *documents, size_t count)
{
    kv_txn *txn;
    buf plain, sealed;
    if (MUTANT(ack_before_commit)) TRY(delayed_flush(s));
    TRY(kv_begin(s->db, true, &txn));
    buf_init(&plain, STORE_RECORD_MAX_BYTES);
    buf_init(&sealed, STORE_RECORD_MAX_BYTES + STORE_RECORD_MAX_BYTES / 4);
    result r = OK;
    for (size_t i = 0; i < count && is_ok(r); i++)
        r = put_document(s, txn, &documents[i], &plain, &sealed);
    r = finish(&txn, r);
    buf_free(&plain);
    buf_free(&sealed);
    return r;
}

result store_put_header(store *s, store_header *header)
{
    store_header *old = mem_alloc(sizeof *old);
    document_keys *keys = NULL;
    kv_txn *txn = NULL;
    buf plain, sealed;
    buf_init(&plain, STORE_RECORD_MAX_BYTES);
    buf_init(&sealed, STORE_RECORD_MAX_BYTES);
    result r = OK;
    if (MUTANT(ack_before_commit)) TRY_TO(r, delayed_flush(s), out);
    TRY_TO(r, store_get_header(s, header->id, old), out);
    if (header->version < old->version) header->version = old->version;
    header->version++;
    TRY_TO(r, keys_open(s, header->id, &keys), out);
    TRY_TO(r, kv_begin(s->db, true, &txn), out);
    r = finish(&txn, put_header(s, txn, keys, header, &plain, &sealed));
out:
    secure_free(keys);
    buf_free(&plain);
    buf_free(&sealed);
    mem_wipe(old, sizeof *old);
    mem_free(old);
    return r;
}

result store_drop(store *s, const id128 *documents, const uint32_t *chunk_counts, size_t count)
{
    kv_txn *txn;
    if (MUTANT(ack_before_commit)) TRY(delayed_flush(s));
    TRY(kv_begin(s->db, true, &txn));
    result r = OK;
    for (size_t i = 0; i < count && is_ok(r); i++) {
        index_key key = index_key_of(s, 'h', documents[i], 0);
        r = kv_delete(txn, key_bytes(&key));
        if (is_ok(r))
            r = delete_chunks(s, txn, documents[i], 0, chunk_counts != NULL ? chunk_counts[i] : 0);
    }
    return finish(&txn, r);
}

/* ---- reading ---- */
/* Copies a value out of its own short transaction, so that visitors may read on. */
static result value_copy(store *s, char kind, id128 document, uint32_t number, buf *out)
{
    index_key key = index_key_of(s, kind, document, number);
    kv_txn *txn;
    bytes value;
    buf_clear(out);
    TRY(kv_begin(s->db, false, &txn));
    result r = kv_get(txn, key_bytes(&key), &value);
    if (is_ok(r)) buf_append(out, value.data, value.size);
    kv_abort(&txn);
    if (r.code == E_NOT_FOUND) return fail(E_NOT_FOUND, "%s", IFC_NOT_FOUND);
    return is_ok(r) ? buf_check(out) : r;
}

static result header_load(store *s, const document_keys *keys, id128 document, buf *sealed,
                          buf *plain, store_header *out)
{
    uint8_t ad[AD_BYTES];
    TRY(value_copy(s, 'h', document, 0, sealed));
    if (sealed->size < 8) return fail(E_DATA_LOSS, "a document's header is too short");
    reader in = reader_of(buf_bytes(sealed));
    uint64_t version = reader_u64(&in);
    buf_clear(plain);
    TRY(seal_open(keys->header, associated(s, 'h', document, 0, version, ad),
                  bytes_of(sealed->data + 8, sealed->size - 8), plain));
    memset(out, 0, sizeof *out);
    TRY(store_header_decode(buf_bytes(plain), out));
    out->id = document;
    out->version = version;
    return OK;
}

result store_get_header(store *s, id128 document, store_header *out)
{
    document_keys *keys;
    buf sealed, plain;
    TRY(keys_open(s, document, &keys));
    buf_init(&sealed, SIZE_MAX);
    buf_init(&plain, SIZE_MAX);
    result r = header_load(s, keys, document, &sealed, &plain, out);
    secure_free(keys);
    buf_free(&sealed);
    buf_free(&plain);
    return r;
}

/* A chunk that the header promises and that is not there is damage, not absence. */
static result chunk_absent(store *s, id128 document, uint32_t number)
{
    store_header *header = mem_alloc(sizeof *header);
    result r = store_get_header(s, document, header);
    bool promised = is_ok(r) && number < header->chunk_count;
    mem_wipe(header, sizeof *header);
    mem_free(header);
    if (promised) return fail(E_DATA_LOSS, "a document's chunk is missing");
    return is_ok(r) ? fail(E_NOT_FOUND, "%s", IFC_NOT_FOUND) : r;
}

result store_each_chunk(store *s, id128 document, uint32_t first, uint32_t count,
                        result (*visit)(void *ctx, uint32_t number, const store_chunk *chunk),
                        void *ctx)
{
    document_keys *keys;
    uint8_t ad[AD_BYTES];
    buf sealed, plain;
    TRY(keys_open(s, document, &keys));
    float *vector = mem_alloc_array(s->dimensions, sizeof *vector);
    buf_init(&sealed, SIZE_MAX);
    buf_init(&plain, SIZE_MAX);
    result r = OK;
    for (uint32_t i = 0; i < count && is_ok(r); i++) {
        store_chunk chunk = {0};
        uint32_t number = first + i;
        r = value_copy(s, 'c', document, number, &sealed);
        if (r.code == E_NOT_FOUND) r = chunk_absent(s, document, number);
        if (!is_ok(r)) goto out;
        buf_clear(&plain);
        TRY_TO(r, seal_open(keys->chunk, associated(s, 'c', document, number, 0, ad),
                            buf_bytes(&sealed), &plain), out);
        TRY_TO(r, store_chunk_decode(buf_bytes(&plain), s->dimensions, vector, &chunk), out);
        r = visit(ctx, number, &chunk);
    }
out:
    secure_free(keys);
    buf_free(&sealed);
    buf_free(&plain);
    mem_wipe(vector, s->dimensions * sizeof *vector);
    mem_free(vector);
    return r;
}

/* ---- all documents ---- */
/* The key tree's lock must not be held while a visitor runs: ids and secrets are collected
 * first. */
typedef struct block {
    struct block *next;
    size_t count;
    struct { id128 id; uint8_t secret[KEY_BYTES]; } at[COLLECT_BLOCK];
} block;
typedef struct { block *first, *last; } collected;

static result collect(void *ctx, id128 id, const uint8_t secret[KEY_BYTES])
{
    collected *all = ctx;
    block *b = all->last;
    if (b == NULL || b->count == COLLECT_BLOCK) {
        b = secure_alloc(sizeof *b);
        if (all->last != NULL) all->last->next = b;
        else all->first = b;
        all->last = b;
    }
    b->at[b->count].id = id;
    memcpy(b->at[b->count++].secret, secret, KEY_BYTES);
    return OK;
}

result store_each_document(store *s, result (*visit)(void *ctx, const store_header *header),
                           void *ctx)
{
    collected all = {NULL, NULL};
    document_keys *keys = secure_alloc(sizeof *keys);
    store_header *header = mem_alloc(sizeof *header);
    buf sealed, plain;
    buf_init(&sealed, SIZE_MAX);
    buf_init(&plain, SIZE_MAX);
    result r = keytree_each(s->kt, keytree_owner(s->tenant, s->owner), collect, &all);
    for (const block *b = all.first; b != NULL && is_ok(r); b = b->next) {
        for (size_t i = 0; i < b->count && is_ok(r); i++) {
            memcpy(keys->secret, b->at[i].secret, KEY_BYTES);
            keys_derive(keys);
            r = header_load(s, keys, b->at[i].id, &sealed, &plain, header);
            if (r.code == E_NOT_FOUND) r = OK;      /* a put that was cut off: a key, no header */
            else if (is_ok(r)) r = visit(ctx, header);
        }
    }
    while (all.first != NULL) {
        block *b = all.first;
        all.first = b->next;
        secure_free(b);
    }
    secure_free(keys);
    mem_wipe(header, sizeof *header);
    mem_free(header);
    buf_free(&sealed);
    buf_free(&plain);
    return r;
}

/* ---- tombstones ---- */
static const id128 NO_DOCUMENT = {{0}};

static result tombstones_seal_key(const store *s, uint8_t key[KEY_BYTES])
{
    uint8_t *secret = secure_alloc(KEY_BYTES);
    result r = keytree_secret(s->kt, keytree_owner(s->tenant, s->owner), secret);
    if (is_ok(r)) key_derive(secret, "tombstones record", bytes_of(NULL, 0), key);
    secure_free(secret);
    return r;
}

result store_get_tombstones(store *s, buf *plain)
{
    uint8_t ad[AD_BYTES], *key = secure_alloc(KEY_BYTES);
    buf sealed;
    buf_init(&sealed, SIZE_MAX);
    result r = value_copy(s, 't', NO_DOCUMENT, 0, &sealed);
    if (is_ok(r)) r = tombstones_seal_key(s, key);
    if (is_ok(r)) r = seal_open(key, associated(s, 't', NO_DOCUMENT, 0, 0, ad), buf_bytes(&sealed), plain);
    secure_free(key);
    buf_free(&sealed);
    return r;
}

result store_put_tombstones(store *s, bytes plain)
{
    uint8_t ad[AD_BYTES], *key = secure_alloc(KEY_BYTES);
    const index_key at = index_key_of(s, 't', NO_DOCUMENT, 0);
    kv_txn *txn = NULL;
    buf sealed;
    buf_init(&sealed, STORE_RECORD_MAX_BYTES);
    result r = plain.size ? tombstones_seal_key(s, key) : OK;
    if (is_ok(r) && plain.size)
        r = seal_value(key, associated(s, 't', NO_DOCUMENT, 0, 0, ad), plain, &sealed);
    if (is_ok(r)) r = kv_begin(s->db, true, &txn);
    if (is_ok(r))
        r = finish(&txn, plain.size ? kv_put(txn, key_bytes(&at), buf_bytes(&sealed))
                                    : kv_delete(txn, key_bytes(&at)));
    secure_free(key);
    buf_free(&sealed);
    return r;
}

/* ---- copies ---- */
result store_copy(store *s, const char *path)
{
    return kv_copy(s->db, path);
}

static int by_key(const void *a, const void *b)
{
    return memcmp(a, b, INDEX_KEY_BYTES);
}

typedef struct { store *s; buf kept, dead; } pruning;

static result keep_document(void *ctx, const store_header *header)
{
    pruning *p = ctx;
    index_key key = index_key_of(p->s, 'h', header->id, 0);
    buf_append(&p->kept, key.b, sizeof key.b);
    for (uint32_t i = 0; i < header->chunk_count; i++) {
        key = index_key_of(p->s, 'c', header->id, i);
        buf_append(&p->kept, key.b, sizeof key.b);
    }
    return buf_check(&p->kept);
}

static result find_dead(void *ctx, bytes key, bytes value)
{
    pruning *p = ctx;
    (void)value;
    if (key.size != INDEX_KEY_BYTES) return fail(E_DATA_LOSS, "a store's key has a wrong size");
    if (bsearch(key.data, p->kept.data, p->kept.size / INDEX_KEY_BYTES, INDEX_KEY_BYTES, by_key) == NULL)
        buf_append(&p->dead, key.data, key.size);
    return buf_check(&p->dead);
}

result store_prune(store *s)
{
    pruning p = {.s = s};
    kv_txn *txn = NULL;
    buf_init(&p.kept, SIZE_MAX);
    buf_init(&p.dead, SIZE_MAX);
    const index_key tombstones = index_key_of(s, 't', NO_DOCUMENT, 0);
    buf_append(&p.kept, tombstones.b, sizeof tombstones.b);
    result r = store_each_document(s, keep_document, &p);
    if (is_ok(r)) qsort(p.kept.data, p.kept.size / INDEX_KEY_BYTES, INDEX_KEY_BYTES, by_key);
    if (is_ok(r)) r = kv_begin(s->db, true, &txn);
    if (is_ok(r)) {
        r = kv_each(txn, find_dead, &p);
        for (size_t at = 0; is_ok(r) && at < p.dead.size; at += INDEX_KEY_BYTES)
            r = kv_delete(txn, bytes_of(p.dead.data + at, INDEX_KEY_BYTES));
        r = finish(&txn, r);
    }
    buf_free(&p.kept);
    buf_free(&p.dead);
    return r;
}
