/* scanner: what a thief can read of erased documents, who holds every image of the data folder that ever was, the
 * root folder of now, and the memory of the server of now.
 *
 * usage: scanner --secrets DATA ROOT OUT DOCUMENT...
 *        scanner DATA ROOT OUT DOCUMENT... -- [--image KEYTREE_DIR | --root FILE | --files FILE | --memory FILE]...
 *
 * DATA, ROOT: copies of before the erasure (they are opened, so changed). From them come the sealed values that are to
 * be read, and nothing else. Behind --: the thief's. Tried as key of every head, page and value: each root file, each
 * 32 bytes of memory (4-aligned) and files (8-aligned) that may be a key (at least 22 different bytes; a random key has
 * fewer once in 10^5). What a head or page that opens leads to is followed. OUT: the text recovered of all documents,
 * in their order; standard output: one JSON object of figures. Exit code 0 whatever was found.
 *
 * --secrets: OUT is JSON, for residue.py to look for: of each document the hex of its secret, of its owner's, of the two
 * keys derived from it, and of its vectors (f32, as stored). */
#include "retrieval/keytree_private.h"
#include "retrieval/store_record.h"

#include <dirent.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DOCUMENTS_MAX = 64, VALUES_MAX = 4096, NONCE_BYTES = 24, DIMENSIONS_MAX = 4096, FILE_MAX = 1 << 30,
       DISTINCT_LEAST = 22, HEAD_PLAIN_BYTES = 8 * 3 + KT_REF_BYTES };

typedef struct { uint8_t ad[128]; size_t ad_size; char kind; uint32_t number; bytes sealed; bool open; buf text, vector; } value;
typedef struct {
    id128 tenant, owner, id;
    uint8_t secret[KEY_BYTES], owner_secret[KEY_BYTES];
    bool found;
    value *values;
    size_t count;
} document;
typedef struct { uint64_t number; bytes sealed; bool open; } part;       /* a head (epoch) or a page */
typedef struct { part *items; size_t count, capacity; } parts;

static document documents[DOCUMENTS_MAX];
static size_t document_count;
static parts heads, pages;
static uint64_t keys_tried, openings_tried, heads_opened, pages_opened, values_opened;
static uint8_t (*seen)[16];
static size_t seen_size, seen_count;

static void must(result r)
{
    if (is_ok(r)) return;
    fprintf(stderr, "scanner: %s\n", r.message);
    exit(1);
}

static bytes keep(bytes b)
{
    uint8_t *p = mem_alloc(b.size + 1);
    if (b.size) memcpy(p, b.data, b.size);
    return bytes_of(p, b.size);
}

static bytes slurp(const char *path)
{
    buf b;
    buf_init(&b, FILE_MAX);
    must(file_read(path, FILE_MAX, &b));
    return buf_bytes(&b);
}

static void part_add(parts *all, uint64_t number, bytes sealed)
{
    for (size_t i = 0; i < all->count; i++)
        if (all->items[i].number == number && bytes_equal(all->items[i].sealed, sealed)) return;
    if (all->count == all->capacity) {
        all->capacity = all->capacity ? 2 * all->capacity : 256;
        all->items = mem_realloc(all->items, all->capacity * sizeof *all->items);
    }
    all->items[all->count++] = (part){.number = number, .sealed = keep(sealed)};
}

/* ---- what is to be read: the values of before -------------------------------------------------------- */
static size_t associated(const document *d, char kind, uint32_t number, uint64_t version, uint8_t ad[128])
{
    static const char DOMAIN[] = "lethe store record 1";
    uint8_t *at = ad;
    memcpy(at, DOMAIN, sizeof DOMAIN);
    at += sizeof DOMAIN;
    memcpy(at, d->tenant.b, ID_BYTES);
    memcpy(at + ID_BYTES, d->owner.b, ID_BYTES);
    memcpy(at + 2 * ID_BYTES, d->id.b, ID_BYTES);
    at += 3 * ID_BYTES;
    *at++ = (uint8_t)kind;
    for (size_t i = 0; i < 4; i++) *at++ = (uint8_t)(number >> (8 * i));
    for (size_t i = 0; i < 8; i++) *at++ = (uint8_t)(version >> (8 * i));
    return (size_t)(at - ad);
}

static bool value_take(kv_txn *txn, const uint8_t index[KEY_BYTES], document *d, char kind, uint32_t number)
{
    uint8_t data[1 + ID_BYTES + 4], key[HASH_BYTES];
    bytes got;
    data[0] = (uint8_t)kind;
    memcpy(data + 1, d->id.b, ID_BYTES);
    for (size_t i = 0; i < 4; i++) data[1 + ID_BYTES + i] = (uint8_t)(number >> (8 * i));
    hash_keyed(index, "lethe store key", bytes_of(data, sizeof data), key);
    if (!is_ok(kv_get(txn, bytes_of(key, sizeof key), &got))) return false;
    value *v = &d->values[d->count++];
    uint64_t version = 0;
    if (kind == 'h') {
        reader in = reader_of(got);
        version = reader_u64(&in);
        got = bytes_of(got.data + 8, got.size - 8);
    }
    *v = (value){.kind = kind, .number = number, .sealed = keep(got)};
    v->ad_size = associated(d, kind, number, version, v->ad);
    buf_init(&v->text, FILE_MAX);
    buf_init(&v->vector, FILE_MAX);
    return true;
}

static void values_collect(keytree *kt, const char *data, document *d)
{
    char path[4096], owner[ID_TEXT_BYTES];
    uint8_t secret[KEY_BYTES], index[KEY_BYTES];
    kv *db;
    kv_txn *txn;
    must(keytree_secret(kt, keytree_owner(d->tenant, d->owner), secret));
    key_derive(secret, "store index", bytes_of(NULL, 0), index);
    id_text(d->owner, owner);
    snprintf(path, sizeof path, "%s/stores/%s.mdb", data, owner);
    must(kv_open(&db, path, &(kv_options){0}));
    must(kv_begin(db, false, &txn));
    d->values = mem_alloc_array(VALUES_MAX, sizeof *d->values);
    bool any = value_take(txn, index, d, 'h', 0);
    for (uint32_t n = 0; any && n + 1 < VALUES_MAX && value_take(txn, index, d, 'c', n);) n++;
    kv_abort(&txn);
    kv_close(&db);
    if (d->count < 2) must(fail(E_NOT_FOUND, "a document has no values in the folder of before"));
}

typedef struct { id128 ids[512]; size_t count; } id_list;

static result id_visit(void *ctx, id128 id, const uint8_t secret[KEY_BYTES])
{
    (void)secret;
    id_list *list = ctx;
    if (list->count < 512) list->ids[list->count++] = id;
    return OK;
}

static void documents_find(const char *data, const char *root)
{
    char path[4096];
    root_holder *holder;
    keytree *kt;
    snprintf(path, sizeof path, "%s/keytree", data);
    must(root_file_open(&holder, root, false));
    must(keytree_open(&kt, path, NULL, holder));
    static id_list tenants, owners;
    must(keytree_each(kt, (keytree_node){0}, id_visit, &tenants));
    for (size_t t = 0; t < tenants.count; t++) {
        owners.count = 0;
        must(keytree_each(kt, keytree_tenant(tenants.ids[t]), id_visit, &owners));
        for (size_t o = 0; o < owners.count; o++)
            for (size_t d = 0; d < document_count; d++) {
                uint8_t secret[KEY_BYTES];
                document *doc = &documents[d];
                if (!is_ok(keytree_secret(kt, keytree_document(tenants.ids[t], owners.ids[o], doc->id), secret)))
                    continue;
                doc->tenant = tenants.ids[t];
                doc->owner = owners.ids[o];
                doc->found = true;
                memcpy(doc->secret, secret, KEY_BYTES);
                must(keytree_secret(kt, keytree_owner(doc->tenant, doc->owner), doc->owner_secret));
                values_collect(kt, data, doc);
            }
    }
    for (size_t d = 0; d < document_count; d++)
        if (!documents[d].found) must(fail(E_NOT_FOUND, "a document was not there before the erasure"));
    keytree_close(&kt);
    root_holder_close(&holder);
}

/* ---- trying ----------------------------------------------------------------------------------------- */
/* The plaintext's length, which its first four bytes tell, without paying for the rest. */
static uint32_t length_under(const uint8_t key[KEY_BYTES], bytes sealed)
{
    uint8_t subkey[32], nonce[12] = {0}, first[4];
    crypto_core_hchacha20(subkey, sealed.data, key, NULL);
    memcpy(nonce + 4, sealed.data + 16, 8);
    crypto_stream_chacha20_ietf_xor_ic(first, sealed.data + NONCE_BYTES, sizeof first, nonce, 1, subkey);
    openings_tried++;
    return (uint32_t)first[0] | (uint32_t)first[1] << 8 | (uint32_t)first[2] << 16 | (uint32_t)first[3] << 24;
}

static void value_try(value *v, const uint8_t key[KEY_BYTES])
{
    uint32_t n = v->open ? UINT32_MAX : length_under(key, v->sealed);
    if (n > v->sealed.size || seal_padded_size(n) != v->sealed.size - NONCE_BYTES - 16) return;
    buf plain;
    buf_init(&plain, FILE_MAX);
    if (is_ok(seal_open(key, bytes_of(v->ad, v->ad_size), v->sealed, &plain))) {
        static float vector[DIMENSIONS_MAX];
        store_chunk chunk;
        reader in = reader_of(buf_bytes(&plain));
        v->open = true;
        values_opened++;
        if (v->kind == 'c') {
            (void)reader_take(&in, 1 + 8 + 8);
            uint32_t dimensions = reader_u32(&in);
            if (dimensions <= DIMENSIONS_MAX) {
                must(store_chunk_decode(buf_bytes(&plain), dimensions, vector, &chunk));
                buf_append(&v->text, chunk.text.data, chunk.text.size);
                buf_append(&v->vector, vector, dimensions * sizeof *vector);
            }
        }
    }
    buf_free(&plain);
}

/* As the document's secret, and as what is derived from it. all: every value, not one of each kind. */
static void document_try(document *d, const uint8_t key[KEY_BYTES], bool all)
{
    uint8_t header[KEY_BYTES], chunk[KEY_BYTES];
    key_derive(key, "header", bytes_of(NULL, 0), header);
    key_derive(key, "chunk", bytes_of(NULL, 0), chunk);
    for (size_t i = 0; i < d->count && (all || i < 2); i++) {
        value *v = &d->values[i];
        bool was = v->open;
        value_try(v, v->kind == 'h' ? header : chunk);
        value_try(v, key);
        if (v->open && !was && !all) document_try(d, key, true);
    }
}

static void follow(const kt_ref *ref, uint8_t level, uint8_t step);

static void page_read(part *p, uint8_t level, uint8_t step, const uint8_t key[KEY_BYTES])
{
    static const size_t LEAST = KT_SLOT_BYTES;
    if (p->open || p->sealed.size != LEAST || length_under(key, p->sealed) != KT_PLAIN_BYTES) return;
    kt_page *page = mem_alloc(sizeof *page);
    bool known = level < KT_LEVELS, good = false;
    for (uint8_t l = known ? level : 0; !good && l < (known ? level + 1 : KT_LEVELS); l++)
        for (uint8_t s = known ? step : 0; !good && s < (known ? step + 1 : KT_STEPS_MAX); s++)
            good = is_ok(kt_page_unseal(p->sealed.data, p->number, l, s, key, page));
    if (good) {
        p->open = true;
        pages_opened++;
        if (page->kind == KT_BRANCH)
            for (size_t i = 0; i < KT_FANOUT; i++)
                follow(&page->children[i], page->level, (uint8_t)(page->step + 1));
        for (size_t i = 0; page->kind == KT_BUCKET && i < page->count; i++) {
            const kt_entry *e = &page->entries[i];
            follow(&e->sub, (uint8_t)(page->level + 1), 0);
            for (size_t d = 0; page->level + 1 == KT_LEVELS && d < document_count; d++)
                if (id_equal(documents[d].id, e->id)) document_try(&documents[d], e->secret, true);
        }
    }
    mem_free(page);
}

static void follow(const kt_ref *ref, uint8_t level, uint8_t step)
{
    for (size_t i = 0; ref->page != 0 && i < pages.count; i++)
        if (pages.items[i].number == ref->page) page_read(&pages.items[i], level, step, ref->key);
}

static bool tried_before(const uint8_t key[KEY_BYTES])
{
    uint8_t name[16] = {0};
    for (size_t i = 0; i < 16; i++) name[i] = (uint8_t)(key[i] ^ (key[16 + i] * 167));
    if (seen_count * 2 >= seen_size) {
        size_t old = seen_size;
        uint8_t (*before)[16] = seen;
        seen_size = old ? old * 2 : (size_t)1 << 20;
        seen = mem_alloc_array(seen_size, sizeof *seen);
        seen_count = 0;
        for (size_t i = 0; i < old; i++) {
            static const uint8_t none[16];
            if (memcmp(before[i], none, 16) == 0) continue;
            uint64_t at;
            memcpy(&at, before[i], 8);
            while (memcmp(seen[at % seen_size], none, 16) != 0) at++;
            memcpy(seen[at % seen_size], before[i], 16);
            seen_count++;
        }
        mem_free(before);
    }
    uint64_t at;
    memcpy(&at, name, 8);
    static const uint8_t none[16];
    for (;; at++) {
        if (memcmp(seen[at % seen_size], name, 16) == 0) return true;
        if (memcmp(seen[at % seen_size], none, 16) == 0) break;
    }
    memcpy(seen[at % seen_size], name, 16);
    seen_count++;
    return false;
}

/* A holder that is one key, which is tried for every epoch. */
typedef struct { root_holder base; const uint8_t *key; } one_key;

static result one_key_open(root_holder *h, uint64_t epoch, bytes associated, bytes sealed, buf *out)
{
    (void)epoch;
    return seal_open(((const one_key *)h)->key, associated, sealed, out);
}

static void key_try(const uint8_t key[KEY_BYTES])
{
    static const root_holder_ops OPS = {.open = one_key_open};
    one_key holder = {.base = {.ops = &OPS}, .key = key};
    if (tried_before(key)) return;
    keys_tried++;
    for (size_t i = 0; i < heads.count; i++) {
        part *p = &heads.items[i];
        kt_head head;
        if (p->open || length_under(key, p->sealed) != HEAD_PLAIN_BYTES) continue;
        if (!is_ok(kt_head_unseal(p->sealed, p->number, &holder.base, &head))) continue;
        p->open = true;
        heads_opened++;
        follow(&head.root, 0, 0);
    }
    for (size_t i = 0; i < pages.count; i++) page_read(&pages.items[i], KT_LEVELS, 0, key);
    for (size_t d = 0; d < document_count; d++) document_try(&documents[d], key, false);
}

static bool may_be_key(const uint8_t *p)
{
    uint64_t bits[4] = {0};
    for (size_t i = 0; i < KEY_BYTES; i++) bits[p[i] >> 6] |= 1ull << (p[i] & 63);
    int n = 0;
    for (size_t i = 0; i < 4; i++) n += __builtin_popcountll(bits[i]);
    return n >= DISTINCT_LEAST;
}

static void windows_try(const char *path, size_t step)
{
    bytes all = slurp(path);
    for (size_t at = 0; at + KEY_BYTES <= all.size; at += step)
        if (may_be_key(all.data + at)) key_try(all.data + at);
    mem_free((void *)(uintptr_t)all.data);
}

static void image_add(const char *dir)
{
    char path[4096];
    DIR *d = opendir(dir);
    if (d == NULL) must(fail_errno("cannot read an image"));
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        bool head = strncmp(e->d_name, "head.", 5) == 0, slots = strcmp(e->d_name, "pages") == 0;
        if (!head && !slots) continue;
        bytes all = slurp(path);
        if (head && all.size > NONCE_BYTES + 16 + 64) part_add(&heads, strtoull(e->d_name + 5, NULL, 10), all);
        for (size_t n = 0; slots && (n + 1) * KT_SLOT_BYTES <= all.size; n++)
            part_add(&pages, n + 1, bytes_of(all.data + n * KT_SLOT_BYTES, KT_SLOT_BYTES));
        mem_free((void *)(uintptr_t)all.data);
    }
    closedir(d);
}

static void report(const char *out)
{
    buf text;
    size_t values = 0;
    buf_init(&text, FILE_MAX);
    for (size_t d = 0; d < document_count; d++)
        for (size_t i = 0; i < documents[d].count; i++, values++)
            buf_append(&text, documents[d].values[i].text.data, documents[d].values[i].text.size);
    must(file_write_atomic(out, buf_bytes(&text), 0600));
    printf("{\"heads\":%zu,\"pages\":%zu,\"values\":%zu,\"keys\":%llu,\"openings\":%llu,\"heads_opened\":%llu,"
           "\"pages_opened\":%llu,\"values_opened\":%llu}\n", heads.count, pages.count, values,
           (unsigned long long)keys_tried, (unsigned long long)openings_tried, (unsigned long long)heads_opened,
           (unsigned long long)pages_opened, (unsigned long long)values_opened);
}

static void hex_put(buf *out, const char *name, bytes b)
{
    buf_printf(out, "\"%s\":\"", name);
    for (size_t i = 0; i < b.size; i++) buf_printf(out, "%02x", b.data[i]);
    buf_append_str(out, "\"");
}

static void secrets_tell(const char *out)
{
    buf text;
    buf_init(&text, FILE_MAX);
    buf_append_str(&text, "[");
    for (size_t i = 0; i < document_count; i++) {
        document *d = &documents[i];
        uint8_t key[KEY_BYTES];
        document_try(d, d->secret, true);
        buf_append_str(&text, i == 0 ? "{" : ",{");
        hex_put(&text, "secret", bytes_of(d->secret, KEY_BYTES));
        key_derive(d->secret, "header", bytes_of(NULL, 0), key);
        buf_append_str(&text, ",");
        hex_put(&text, "header_key", bytes_of(key, KEY_BYTES));
        key_derive(d->secret, "chunk", bytes_of(NULL, 0), key);
        buf_append_str(&text, ",");
        hex_put(&text, "chunk_key", bytes_of(key, KEY_BYTES));
        buf_append_str(&text, ",");
        hex_put(&text, "owner_secret", bytes_of(d->owner_secret, KEY_BYTES));
        for (size_t v = 0; v < d->count; v++) {
            char name[32];
            if (!d->values[v].open) must(fail(E_DATA_LOSS, "a value does not open with its own key"));
            if (d->values[v].kind != 'c') continue;
            snprintf(name, sizeof name, "vector%u", d->values[v].number);
            buf_append_str(&text, ",");
            hex_put(&text, name, buf_bytes(&d->values[v].vector));
        }
        buf_append_str(&text, "}");
    }
    buf_append_str(&text, "]");
    must(file_write_atomic(out, buf_bytes(&text), 0600));
}

int main(int argc, char **argv)
{
    if (argc < 6) return 2;
    bool secrets = strcmp(argv[1], "--secrets") == 0;
    if (secrets) argv++, argc--;
    int a = 4;
    for (; a < argc && strcmp(argv[a], "--") != 0 && document_count < DOCUMENTS_MAX; a++)
        must(id_parse(argv[a], &documents[document_count++].id));
    documents_find(argv[1], argv[2]);
    if (secrets) {
        secrets_tell(argv[3]);
        return 0;
    }
    for (int pass = 0; pass < 2; pass++)             /* the images first: keys are tried on all of them */
        for (int i = a + 1; i + 1 < argc; i += 2) {
            bool image = strcmp(argv[i], "--image") == 0;
            if (image && pass == 0) image_add(argv[i + 1]);
            if (image || pass == 0) continue;
            size_t step = strcmp(argv[i], "--memory") == 0 ? 4 : strcmp(argv[i], "--files") == 0 ? 8 : 1;
            windows_try(argv[i + 1], step);
        }
    report(argv[3]);
    return 0;
}
