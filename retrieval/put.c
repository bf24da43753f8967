/* Putting documents: text, chunks and vectors outside the locks; then the keys, the records and the
 * memory, in this order, each step durable before the next. */
#include <stdio.h>
#include <string.h>

#include "chunker.h"
#include "extract.h"
#include "mutant.h"
#include "slots.h"
#include "tombstones.h"

typedef struct {
    bool good;
    store_header header;
    buf text;
    size_t *ends;
    float *vectors;                /* (chunk_count, dimensions) */
    store_chunk *chunks;
    bytes *texts;
} prepared;

static result check_path(const char *path)
{
    size_t size = path == NULL ? 0 : strnlen(path, RETRIEVAL_PATH_MAX_BYTES + 1);
    if (size == 0 || size > RETRIEVAL_PATH_MAX_BYTES)
        return fail(E_INVALID, "a path has 1 to %d bytes", RETRIEVAL_PATH_MAX_BYTES);
    if (!utf8_valid(bytes_of(path, size))) return fail(E_INVALID, "the path is not valid UTF-8");
    return OK;
}

static void cut_and_embed(const retrieval *r, prepared *p)
{
    size_t dimensions = embedder_dimensions(r->embedder), start = 0;
    uint32_t count;
    bytes text = buf_bytes(&p->text);
    chunker_cut(text, r->chunk_target_bytes, &p->ends, &count);
    p->header.chunk_count = count;
    p->header.size_bytes = text.size;
    p->vectors = mem_alloc_array(count * dimensions, sizeof *p->vectors);
    p->chunks = mem_alloc_array(count, sizeof *p->chunks);
    p->texts = mem_alloc_array(count, sizeof *p->texts);
    for (uint32_t i = 0; i < count; i++) {
        float *vector = p->vectors + i * dimensions;
        p->texts[i] = bytes_of(text.data + start, p->ends[i] - start);
        (void)embedder_embed(r->embedder, p->texts[i], vector);
        p->chunks[i] = (store_chunk){start, p->ends[i], p->texts[i], vector};
        start = p->ends[i];
    }
}

static result prepare(const retrieval *r, const retrieval_input *input, id128 id, prepared *p)
{
    extract_format format;
    buf_init(&p->text, (size_t)r->document_max_bytes);
    TRY(check_path(input->path));
    if (input->content.size > r->document_max_bytes)
        return fail(E_INVALID, "the document has more than %llu bytes",
                    (unsigned long long)r->document_max_bytes);
    TRY(extract_detect(input->media_type, input->path, input->content, &format));
    TRY(extract_text(format, input->content, &p->text));
    p->header = (store_header){.id = id, .label = input->label, .version = 1};
    snprintf(p->header.path, sizeof p->header.path, "%s", input->path);
    snprintf(p->header.media_type, sizeof p->header.media_type, "%s", extract_media_type(format));
    cut_and_embed(r, p);
    p->good = true;
    return OK;
}

static void prepared_free(const retrieval *r, prepared *p)
{
    if (p->vectors != NULL)
        mem_wipe(p->vectors, p->header.chunk_count * embedder_dimensions(r->embedder) *
                             sizeof *p->vectors);
    buf_free(&p->text);
    mem_free(p->ends);
    mem_free(p->vectors);
    mem_free(p->chunks);
    mem_free(p->texts);
    mem_wipe(p, sizeof *p);
}

static result id_key(const retrieval *r, id128 tenant, id128 owner, uint8_t key[KEY_BYTES])
{
    uint8_t *secret = secure_alloc(KEY_BYTES);
    result done = keytree_secret(r->keys, keytree_owner(tenant, owner), secret);
    if (is_ok(done)) key_derive(secret, "document id", bytes_of(NULL, 0), key);
    secure_free(secret);
    return done;
}

static id128 id_from(const uint8_t key[KEY_BYTES], const uint8_t nonce[16])
{
    uint8_t hash[HASH_BYTES];
    id128 id;
    hash_keyed(key, "document", bytes_of(nonce, 16), hash);
    memcpy(id.b, hash, ID_BYTES);
    return id;
}

result retrieval_document_id(retrieval *r, id128 tenant, id128 owner, const uint8_t nonce[16], id128 *id)
{
    uint8_t key[KEY_BYTES];
    TRY(id_key(r, tenant, owner, key));
    *id = id_from(key, nonce);
    mem_wipe(key, sizeof key);
    return OK;
}

static result document_ids(const retrieval *r, id128 tenant, id128 owner,
                           const retrieval_input *inputs, size_t count, retrieval_stored *stored)
{
    uint8_t key[KEY_BYTES];
    TRY(id_key(r, tenant, owner, key));
    for (size_t i = 0; i < count; i++) {
        stored[i].id = id_from(key, inputs[i].nonce);
        if (MUTANT(ids_from_counter)) {
            static _Atomic uint64_t counter;
            uint64_t next = ++counter;
            memcpy(stored[i].id.b, &next, sizeof next);
        }
    }
    mem_wipe(key, sizeof key);
    return OK;
}

static void refuse(retrieval_stored *s, result why)
{
    s->code = why.code;
    snprintf(s->reason, sizeof s->reason, "%s", why.message);
}

/* Extracts each document; what fails is refused alone. A path never gets into a reason. */
static void prepare_all(retrieval *r, id128 tenant, id128 owner, const retrieval_input *inputs,
                        size_t count, const tombstones_own *left, retrieval_stored *stored, prepared *all)
{
    for (size_t i = 0; i < count; i++) {
        result done = OK;
        for (size_t j = 0; j < i && is_ok(done); j++)
            if (id_equal(stored[i].id, stored[j].id))
                done = fail(E_INVALID, "two documents of one batch have the same nonce");
        if (is_ok(done) && fence_stands(r, tenant, owner, stored[i].id))
            done = fail(E_PRECONDITION, "the document is being erased");
        if (is_ok(done)) done = prepare(r, &inputs[i], stored[i].id, &all[i]);
        if (is_ok(done)) done = tombstones_check(left, buf_bytes(&all[i].text), &stored[i].repeats);
        if (!is_ok(done)) {
            all[i].good = false;
            refuse(&stored[i], done);
            continue;
        }
        stored[i].code = E_OK;
        stored[i].chunk_count = all[i].header.chunk_count;
        stored[i].size_bytes = all[i].header.size_bytes;
    }
}

/* Fences are looked at again under the lock: one that went up in the meantime refuses the
 * document. */
static void refuse_fenced(retrieval *r, slot *s, size_t count, retrieval_stored *stored,
                          prepared *all)
{
    for (size_t i = 0; i < count; i++)
        if (all[i].good && fence_stands(r, s->tenant, s->owner, stored[i].id)) {
            all[i].good = false;
            refuse(&stored[i], fail(E_PRECONDITION, "the document is being erased"));
        }
}

/* Records, then memory; the write lock is held. A repeated put keeps its version growing. */
static result write_all(slot *s, size_t count, prepared *all)
{
    store_document *documents = mem_alloc_array(count, sizeof *documents);
    holding_addition *additions = mem_alloc_array(count, sizeof *additions);
    store_header *old = mem_alloc(sizeof *old);
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        prepared *p = &all[i];
        if (!p->good) continue;
        if (holding_find(&s->memory, p->header.id) != NULL &&
            is_ok(store_get_header(s->disk, p->header.id, old)))
            p->header.version = old->version + 1;
        documents[n] = (store_document){p->header, p->chunks};
        additions[n++] = (holding_addition){&p->header, p->texts, p->vectors, 0};
    }
    result done = n == 0 ? OK : store_put(s->disk, documents, n);
    if (is_ok(done) && n > 0) {
        id128 *ids = mem_alloc_array(n, sizeof *ids);
        for (size_t i = 0; i < n; i++) ids[i] = additions[i].header->id;
        holding_remove_many(&s->memory, ids, n);
        mem_free(ids);
        /* Should the memory fail, what is durable stays so: the store is read again when next
         * used. */
        if (is_ok(holding_add(&s->memory, additions, n))) slot_measure(s);
        else slot_shut(s);
    }
    mem_wipe(documents, count * sizeof *documents);
    mem_wipe(old, sizeof *old);
    mem_free(documents);
    mem_free(additions);
    mem_free(old);
    return done;
}

static result add_keys(retrieval *r, id128 tenant, id128 owner, size_t count, const prepared *all)
{
    keytree_node *nodes = mem_alloc_array(count, sizeof *nodes);
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        if (all[i].good) nodes[n++] = keytree_document(tenant, owner, all[i].header.id);
    result done = n == 0 ? OK : keytree_add(r->keys, nodes, n);
    mem_free(nodes);
    return done;
}

result retrieval_put(retrieval *r, id128 tenant, id128 owner, const retrieval_input *inputs,
                     size_t count, retrieval_stored *stored)
{
    if (count == 0 || count > RETRIEVAL_BATCH_MAX)
        return fail(E_INVALID, "a batch has 1 to %d documents", RETRIEVAL_BATCH_MAX);
    memset(stored, 0, count * sizeof *stored);
    TRY(document_ids(r, tenant, owner, inputs, count, stored));
    prepared *all = mem_alloc_array(count, sizeof *all);
    tombstones_own left;
    slot *s = NULL;
    result done = tombstones_open(r, tenant, owner, &left);
    if (is_ok(done)) {
        prepare_all(r, tenant, owner, inputs, count, &left, stored, all);
        done = slot_acquire(r, tenant, owner, true, true, &s);
    }
    tombstones_close(&left);
    if (s != NULL) {
        refuse_fenced(r, s, count, stored, all);
        done = add_keys(r, tenant, owner, count, all);
        if (is_ok(done)) done = write_all(s, count, all);
        slot_release(r, &s);
    }
    for (size_t i = 0; i < count; i++) prepared_free(r, &all[i]);
    mem_free(all);
    return done;
}
