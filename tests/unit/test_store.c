/* The store of one owner: what comes back, what a swapped or damaged record does, what the file
 * shows and what survives a death right after the acknowledgement. */
#include "retrieval/store.h"
#include "retrieval/store_record.h"
#include "test.h"

#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DIMENSIONS = 8, MAP = 64 << 20 };

typedef struct {
    char base[256], tree[320], root[320], path[320];
    root_holder *holder;
    keytree *kt;
    store *s;
    id128 tenant, owner;
} house;

static id128 id_n(uint8_t kind, uint32_t n)
{
    id128 id = {{kind}};
    memcpy(id.b + 4, &n, sizeof n);
    return id;
}

static result house_open(house *h, bool create)
{
    TRY(root_file_open(&h->holder, h->root, create));
    TRY(create ? keytree_create(&h->kt, h->tree, NULL, h->holder)
               : keytree_open(&h->kt, h->tree, NULL, h->holder));
    keytree_node nodes[] = {keytree_tenant(h->tenant), keytree_owner(h->tenant, h->owner)};
    if (create) TRY(keytree_add(h->kt, nodes, 2));
    return store_open(&h->s, h->path, h->kt, h->tenant, h->owner, DIMENSIONS, MAP, create);
}

static void house_close(house *h)
{
    store_close(&h->s);
    keytree_close(&h->kt);
    root_holder_close(&h->holder);
}

static void house_paths(house *h)
{
    memset(h, 0, sizeof *h);
    test_tmpdir(h->base);
    snprintf(h->tree, sizeof h->tree, "%s/keytree", h->base);
    snprintf(h->root, sizeof h->root, "%s/root", h->base);
    snprintf(h->path, sizeof h->path, "%s/owner.mdb", h->base);
    h->tenant = id_n('t', 1);
    h->owner = id_n('o', 1);
}

static void house_new(house *h)
{
    house_paths(h);
    CHECK_OK(house_open(h, true));
}

static void house_end(house *h)
{
    house_close(h);
    test_tmpdir_remove(h->base);
}

/* ---- documents ---- */
static const char CANARY[] = "The heron waited by the weir until the quicksilver canary sang.";
enum { CHUNKS_MAX = 40 };

typedef struct {
    store_document d;
    store_chunk chunks[CHUNKS_MAX];
    float vectors[CHUNKS_MAX][DIMENSIONS];
} sample;

static sample *sample_make(uint32_t n, uint32_t chunk_count)
{
    sample *x = mem_alloc(sizeof *x);
    store_header *h = &x->d.header;
    id128 reader_ = id_n('p', n);
    h->id = id_n('d', n);
    ifc_label_public(&h->label);
    CHECK_OK(ifc_label_secrecy_add(&h->label, &reader_, 1));
    snprintf(h->path, sizeof h->path, "secret-folder/heron-%u.md", n);
    snprintf(h->media_type, sizeof h->media_type, "text/markdown");
    h->chunk_count = chunk_count;
    h->size_bytes = chunk_count * (uint64_t)strlen(CANARY);
    h->version = 1;
    for (uint32_t i = 0; i < chunk_count; i++) {
        uint64_t size = strlen(CANARY);
        for (uint32_t j = 0; j < DIMENSIONS; j++)
            x->vectors[i][j] = (float)(n * 100 + i) + 0.25f * (float)j;
        x->chunks[i] = (store_chunk){i * size, (i + 1) * size, bytes_str(CANARY), x->vectors[i]};
    }
    x->d.chunks = x->chunks;
    return x;
}

static result put(house *h, uint32_t n, uint32_t chunk_count)
{
    sample *x = sample_make(n, chunk_count);
    keytree_node node = keytree_document(h->tenant, h->owner, x->d.header.id);
    result r = keytree_add(h->kt, &node, 1);
    if (is_ok(r)) r = store_put(h->s, &x->d, 1);
    mem_free(x);
    return r;
}

typedef struct { uint32_t seen, next, wrong, n; } chunk_check;

static result check_chunk(void *ctx, uint32_t number, const store_chunk *chunk)
{
    chunk_check *c = ctx;
    c->wrong += number != c->next++ || !bytes_equal(chunk->text, bytes_str(CANARY));
    c->wrong +=
        chunk->start != number * (uint64_t)strlen(CANARY) || ((uintptr_t)chunk->vector & 3) != 0;
    for (uint32_t j = 0; j < DIMENSIONS; j++)
        c->wrong += chunk->vector[j] != (float)(c->n * 100 + number) + 0.25f * (float)j;
    c->seen++;
    return OK;
}

static void check_document(house *h, uint32_t n, uint32_t chunk_count)
{
    store_header *got = mem_alloc(sizeof *got);
    sample *want = sample_make(n, chunk_count);
    CHECK_OK(store_get_header(h->s, id_n('d', n), got));
    CHECK(id_equal(got->id, want->d.header.id) &&
          ifc_label_equal(&got->label, &want->d.header.label));
    CHECK(strcmp(got->path, want->d.header.path) == 0);
    CHECK(strcmp(got->media_type, "text/markdown") == 0);
    CHECK(got->chunk_count == chunk_count && got->size_bytes == want->d.header.size_bytes);
    chunk_check c = {.n = n};
    CHECK_OK(store_each_chunk(h->s, id_n('d', n), 0, chunk_count, check_chunk, &c));
    CHECK(c.seen == chunk_count && c.wrong == 0);
    mem_free(got);
    mem_free(want);
}

static void roundtrip_and_reopen(void)
{
    house h;
    house_new(&h);
    CHECK_OK(put(&h, 1, 3));
    CHECK_OK(put(&h, 2, 0));
    CHECK_OK(put(&h, 3, CHUNKS_MAX));
    check_document(&h, 1, 3);
    house_close(&h);
    CHECK_OK(house_open(&h, false));
    NEED(h.s != NULL);
    check_document(&h, 1, 3);
    check_document(&h, 2, 0);
    check_document(&h, 3, CHUNKS_MAX);
    chunk_check c = {.n = 3, .next = 7};
    CHECK_OK(store_each_chunk(h.s, id_n('d', 3), 7, 2, check_chunk, &c));
    CHECK(c.seen == 2 && c.wrong == 0);
    CHECK_FAILS(store_each_chunk(h.s, id_n('d', 3), CHUNKS_MAX, 1, check_chunk, &c), E_NOT_FOUND);
    store_header *header = mem_alloc(sizeof *header);
    CHECK_FAILS(store_get_header(h.s, id_n('d', 9), header), E_NOT_FOUND);
    mem_free(header);
    house_end(&h);
}

static void put_again_overwrites(void)
{
    house h;
    house_new(&h);
    CHECK_OK(put(&h, 1, 9));
    CHECK_OK(put(&h, 1, 4));
    check_document(&h, 1, 4);
    chunk_check c = {.n = 1, .next = 4};
    CHECK_FAILS(store_each_chunk(h.s, id_n('d', 1), 4, 1, check_chunk, &c), E_NOT_FOUND);
    house_end(&h);
}

static void batch_is_one_transaction(void)
{
    house h;
    house_new(&h);
    sample *a = sample_make(1, 2), *b = sample_make(2, 2);
    keytree_node nodes[] = {keytree_document(h.tenant, h.owner, id_n('d', 1)),
                            keytree_document(h.tenant, h.owner, id_n('d', 2))};
    CHECK_OK(keytree_add(h.kt, nodes, 2));
    store_document both[] = {a->d, b->d};
    b->vectors[1][3] = NAN;
    CHECK_FAILS(store_put(h.s, both, 2), E_INVALID);
    store_header *header = mem_alloc(sizeof *header);
    CHECK_FAILS(store_get_header(h.s, id_n('d', 1), header), E_NOT_FOUND);
    b->vectors[1][3] = 1;
    b->chunks[1].end++;
    CHECK_FAILS(store_put(h.s, both, 2), E_INVALID);
    b->chunks[1].end--;
    both[0].header.id = id_n('d', 3);                        /* no key for it */
    CHECK_FAILS(store_put(h.s, both, 2), E_NOT_FOUND);
    mem_free(header);
    mem_free(a);
    mem_free(b);
    house_end(&h);
}

typedef struct { house *h; uint32_t count, wrong; id128 last; } lister;

static result list_visit(void *ctx, const store_header *header)
{
    lister *l = ctx;
    chunk_check c = {0};
    memcpy(&c.n, header->id.b + 4, sizeof c.n);
    l->wrong += l->count > 0 && id_compare(l->last, header->id) >= 0;
    l->last = header->id;
    l->count++;
    /* A visitor may read on. */
    TRY(store_each_chunk(l->h->s, header->id, 0, header->chunk_count, check_chunk, &c));
    l->wrong += c.wrong + (c.seen != header->chunk_count);
    return OK;
}

static void each_document_skips_cut_off_puts(void)
{
    house h;
    house_new(&h);
    for (uint32_t i = 0; i < 90; i++) CHECK_OK(put(&h, i, i % 3));
    keytree_node half = keytree_document(h.tenant, h.owner, id_n('d', 500));
    CHECK_OK(keytree_add(h.kt, &half, 1));
    lister l = {.h = &h};
    CHECK_OK(store_each_document(h.s, list_visit, &l));
    CHECK(l.count == 90 && l.wrong == 0);
    house_end(&h);
}

static void relabel_bumps_the_version(void)
{
    house h;
    house_new(&h);
    CHECK_OK(put(&h, 1, 2));
    store_header *header = mem_alloc(sizeof *header), *got = mem_alloc(sizeof *got);
    CHECK_OK(store_get_header(h.s, id_n('d', 1), header));
    uint64_t version = header->version;
    ifc_label_public(&header->label);
    CHECK_OK(store_put_header(h.s, header));
    CHECK(header->version == version + 1);
    header->version = 0;                                     /* a caller that forgot */
    CHECK_OK(store_put_header(h.s, header));
    CHECK(header->version == version + 2);
    CHECK_OK(store_get_header(h.s, id_n('d', 1), got));
    CHECK(got->version == version + 2 && ifc_label_equal(&got->label, &header->label));
    chunk_check c = {.n = 1};
    CHECK_OK(store_each_chunk(h.s, id_n('d', 1), 0, 2, check_chunk, &c));
    CHECK(c.wrong == 0);
    header->id = id_n('d', 7);
    CHECK_FAILS(store_put_header(h.s, header), E_NOT_FOUND);
    mem_free(header);
    mem_free(got);
    house_end(&h);
}

/* ---- what the disk holds ---- */
typedef struct { size_t count; uint8_t key[64][64]; size_t key_size[64]; buf value[64]; } pairs;

static result collect_pair(void *ctx, bytes key, bytes value)
{
    pairs *p = ctx;
    if (p->count == 64 || key.size > 64) return fail(E_INTERNAL, "too many");
    memcpy(p->key[p->count], key.data, key.size);
    p->key_size[p->count] = key.size;
    buf_init(&p->value[p->count], SIZE_MAX);
    buf_append(&p->value[p->count++], value.data, value.size);
    return OK;
}

static bytes pair_key(const pairs *p, size_t i) { return bytes_of(p->key[i], p->key_size[i]); }

/* Reads header and chunks: all OK, or what went wrong. */
static result read_all_of(house *h, uint32_t n, uint32_t chunks)
{
    store_header *header = mem_alloc(sizeof *header);
    chunk_check c = {.n = n};
    result r = store_get_header(h->s, id_n('d', n), header);
    mem_free(header);
    TRY(r);
    return store_each_chunk(h->s, id_n('d', n), 0, chunks, check_chunk, &c);
}

static void write_pairs(house *h, const pairs *p, size_t i, bytes with)
{
    kv *db;
    kv_txn *txn;
    store_close(&h->s);
    CHECK_OK(kv_open(&db, h->path, &(kv_options){MAP, false}));
    CHECK_OK(kv_begin(db, true, &txn));
    CHECK_OK(kv_put(txn, pair_key(p, i), with));
    CHECK_OK(kv_commit(&txn));
    kv_close(&db);
    CHECK_OK(store_open(&h->s, h->path, h->kt, h->tenant, h->owner, DIMENSIONS, MAP, false));
}

/* Any record in another's place, cut or with a bit changed: damage, never other content. */
static void swapped_cut_and_flipped_records(void)
{
    house h;
    house_new(&h);
    CHECK_OK(put(&h, 1, 2));
    CHECK_OK(put(&h, 2, 2));
    pairs *p = mem_alloc(sizeof *p);
    kv *db;
    kv_txn *txn;
    store_close(&h.s);
    CHECK_OK(kv_open(&db, h.path, &(kv_options){MAP, false}));
    CHECK_OK(kv_begin(db, false, &txn));
    CHECK_OK(kv_each(txn, collect_pair, p));
    kv_abort(&txn);
    kv_close(&db);
    CHECK_OK(store_open(&h.s, h.path, h.kt, h.tenant, h.owner, DIMENSIONS, MAP, false));
    CHECK(p->count == 6);
    for (size_t i = 0; i < p->count; i++) {
        for (size_t j = 0; j < p->count; j++) {
            if (i == j) continue;
            write_pairs(&h, p, i, buf_bytes(&p->value[j]));
            result a = read_all_of(&h, 1, 2), b = a.code == E_OK ? read_all_of(&h, 2, 2) : a;
            CHECK(b.code == E_DATA_LOSS);
        }
        size_t cuts[] = {0, 3, 8, p->value[i].size - 1};
        for (size_t j = 0; j < 4; j++) {
            write_pairs(&h, p, i, bytes_of(p->value[i].data, cuts[j]));
            result a = read_all_of(&h, 1, 2), b = a.code == E_OK ? read_all_of(&h, 2, 2) : a;
            CHECK(b.code == E_DATA_LOSS);
        }
        for (size_t j = 0; j < p->value[i].size; j += 37) {  /* 0: a header's version */
            p->value[i].data[j] ^= 4;
            write_pairs(&h, p, i, buf_bytes(&p->value[i]));
            result a = read_all_of(&h, 1, 2), b = a.code == E_OK ? read_all_of(&h, 2, 2) : a;
            CHECK(b.code == E_DATA_LOSS);
            p->value[i].data[j] ^= 4;
        }
        write_pairs(&h, p, i, buf_bytes(&p->value[i]));
        CHECK_OK(read_all_of(&h, 1, 2));
        CHECK_OK(read_all_of(&h, 2, 2));
    }
    for (size_t i = 0; i < p->count; i++) buf_free(&p->value[i]);
    mem_free(p);
    house_end(&h);
}

static bool file_holds(const char *path, const void *what, size_t size)
{
    buf all;
    buf_init(&all, 256 << 20);
    CHECK_OK(file_read(path, 256 << 20, &all));
    bool found = all.size > 0 && memmem(all.data, all.size, what, size) != NULL;
    buf_free(&all);
    return found;
}

static void nothing_readable_in_the_file(void)
{
    house h;
    house_new(&h);
    for (uint32_t i = 0; i < 20; i++) CHECK_OK(put(&h, i, 10));
    sample *x = sample_make(3, 1);
    id128 ids[] = {h.tenant, h.owner, id_n('d', 3), id_n('p', 3)};
    char pages[400];
    snprintf(pages, sizeof pages, "%s/pages", h.tree);
    for (int i = 0; i < 2; i++) {
        const char *file = i == 0 ? h.path : pages;
        CHECK(!file_holds(file, "quicksilver", 11));
        CHECK(!file_holds(file, "heron", 5));
        CHECK(!file_holds(file, "markdown", 8));
        CHECK(!file_holds(file, x->vectors[0], sizeof x->vectors[0]));
        for (size_t j = 0; j < 4; j++) CHECK(!file_holds(file, ids[j].b, ID_BYTES));
    }
    char control[400];                                       /* the search can find */
    snprintf(control, sizeof control, "%s/control", h.base);
    CHECK_OK(file_write_atomic(control, bytes_str(CANARY), 0600));
    CHECK(file_holds(control, "quicksilver", 11));
    mem_free(x);
    house_end(&h);
}

/* ---- dropping ---- */
static uint64_t records(house *h)
{
    kv *db;
    kv_txn *txn;
    uint64_t count = 0;
    store_close(&h->s);
    CHECK_OK(kv_open(&db, h->path, &(kv_options){MAP, false}));
    CHECK_OK(kv_begin(db, false, &txn));
    CHECK_OK(kv_count(txn, &count));
    kv_abort(&txn);
    kv_close(&db);
    CHECK_OK(store_open(&h->s, h->path, h->kt, h->tenant, h->owner, DIMENSIONS, MAP, false));
    return count;
}

static void drop_works_when_the_keys_are_gone(void)
{
    house h;
    house_new(&h);
    for (uint32_t i = 1; i <= 3; i++) CHECK_OK(put(&h, i, 5));
    CHECK(records(&h) == 18);
    keytree_erasure out;
    keytree_node target = keytree_document(h.tenant, h.owner, id_n('d', 1));
    CHECK_OK(keytree_erase(h.kt, &target, 1, NULL, NULL, &out));
    store_header *header = mem_alloc(sizeof *header);
    CHECK_FAILS(store_get_header(h.s, id_n('d', 1), header), E_NOT_FOUND);
    lister l = {.h = &h};
    CHECK_OK(store_each_document(h.s, list_visit, &l));
    CHECK(l.count == 2 && l.wrong == 0);
    id128 ids[] = {id_n('d', 1), id_n('d', 2)};
    uint32_t counts[] = {5, 5};
    CHECK_OK(store_drop(h.s, ids, counts, 1));
    CHECK(records(&h) == 12);
    CHECK_OK(store_drop(h.s, ids, counts, 1));               /* idempotent */
    CHECK_OK(store_drop(h.s, ids + 1, NULL, 1));             /* the count is not needed */
    CHECK(records(&h) == 6);
    check_document(&h, 3, 5);
    mem_free(header);
    house_end(&h);
}

static void missing_record_is_damage(void)
{
    house h;
    house_new(&h);
    CHECK_OK(put(&h, 1, 3));
    kv *db;
    kv_txn *txn;
    pairs *p = mem_alloc(sizeof *p);
    store_close(&h.s);
    CHECK_OK(kv_open(&db, h.path, &(kv_options){MAP, false}));
    CHECK_OK(kv_begin(db, false, &txn));
    CHECK_OK(kv_each(txn, collect_pair, p));
    kv_abort(&txn);
    size_t least = 0;                                        /* a chunk: the header is larger */
    for (size_t i = 0; i < p->count; i++)
        if (p->value[i].size < p->value[least].size) least = i;
    CHECK_OK(kv_begin(db, true, &txn));
    CHECK_OK(kv_delete(txn, pair_key(p, least)));
    CHECK_OK(kv_commit(&txn));
    kv_close(&db);
    CHECK_OK(store_open(&h.s, h.path, h.kt, h.tenant, h.owner, DIMENSIONS, MAP, false));
    CHECK_FAILS(read_all_of(&h, 1, 3), E_DATA_LOSS);
    for (size_t i = 0; i < p->count; i++) buf_free(&p->value[i]);
    mem_free(p);
    house_end(&h);
}

/* The owner's key gone: its store does not open any more. */
static void no_owner_no_store(void)
{
    house h;
    house_new(&h);
    CHECK_OK(put(&h, 1, 1));
    store_close(&h.s);
    keytree_erasure out;
    keytree_node target = keytree_owner(h.tenant, h.owner);
    CHECK_OK(keytree_erase(h.kt, &target, 1, NULL, NULL, &out));
    CHECK_FAILS(store_open(&h.s, h.path, h.kt, h.tenant, h.owner, DIMENSIONS, MAP, false),
                E_NOT_FOUND);
    CHECK(h.s == NULL);
    house_end(&h);
}

/* ---- durability ---- */
/* A child stores a document and dies, without closing, as soon as that is acknowledged. */
static void acknowledged_is_durable(void)
{
    house h;
    house_paths(&h);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        bool good = is_ok(house_open(&h, true)) && is_ok(put(&h, 1, 3)) && is_ok(put(&h, 2, 3));
        _exit(good ? 0 : 1);
    }
    int status = 0;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_OK(house_open(&h, false));
    NEED(h.s != NULL);
    check_document(&h, 1, 3);
    check_document(&h, 2, 3);
    house_end(&h);
}

static void full_store_keeps_what_it_had(void)
{
    house h;
    house_new(&h);
    CHECK_OK(put(&h, 1, 3));
    store_close(&h.s);
    CHECK_OK(store_open(&h.s, h.path, h.kt, h.tenant, h.owner, DIMENSIONS, 128 << 10, false));
    NEED(h.s != NULL);
    result r = OK;
    uint32_t n = 2;
    for (; n < 200 && is_ok(r); n++) r = put(&h, n, CHUNKS_MAX);
    CHECK(r.code == E_UNAVAILABLE);
    check_document(&h, 1, 3);
    store_header *header = mem_alloc(sizeof *header);
    CHECK_FAILS(store_get_header(h.s, id_n('d', n - 1), header), E_NOT_FOUND);
    mem_free(header);
    house_end(&h);
}

static void too_long_fields_are_refused(void)
{
    store_header *header = mem_alloc(sizeof *header), *got = mem_alloc(sizeof *got);
    buf out;
    buf_init(&out, 1 << 20);
    ifc_label_public(&header->label);
    memset(header->path, 'p', 1023);
    memset(header->media_type, 'm', 63);
    CHECK_OK(store_header_encode(header, &out));
    CHECK_OK(store_header_decode(buf_bytes(&out), got));
    CHECK(strlen(got->path) == 1023 && strlen(got->media_type) == 63);
    CHECK_FAILS(store_header_decode(bytes_of(out.data, out.size - 1), got), E_DATA_LOSS);
    buf_append_u8(&out, 0);
    CHECK_FAILS(store_header_decode(buf_bytes(&out), got), E_DATA_LOSS);
    memset(header->path, 'p', 1024);
    CHECK_FAILS(store_header_encode(header, &out), E_INVALID);
    buf_free(&out);
    mem_free(header);
    mem_free(got);
}

int main(void)
{
    log_level_set(LOG_ERROR);
    RUN(roundtrip_and_reopen);
    RUN(put_again_overwrites);
    RUN(batch_is_one_transaction);
    RUN(each_document_skips_cut_off_puts);
    RUN(relabel_bumps_the_version);
    RUN(swapped_cut_and_flipped_records);
    RUN(nothing_readable_in_the_file);
    RUN(drop_works_when_the_keys_are_gone);
    RUN(missing_record_is_damage);
    RUN(no_owner_no_store);
    RUN(acknowledged_is_durable);
    RUN(full_store_keeps_what_it_had);
    RUN(too_long_fields_are_refused);
    return DONE();
}
