/* Stores, compartments and search together, on real files: a key tree, LMDB, a tiny embedder. */
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>

#include "retrieval_house.h"

static retrieval_options options_of(const house *h, uint32_t stores_open_max)
{
    return (retrieval_options){.data_dir = h->f.data, .embedder_dir = h->f.embedder, .keys = h->f.keys,
                               .stores_open_max = stores_open_max, .document_max_bytes = 1 << 20,
                               .store_max_bytes = 64 << 20};
}

static void house_open(house *h)
{
    house_make(h, 16 << 20);
    retrieval_options o = options_of(h, 0);
    CHECK_OK(retrieval_open(&h->r, &o));
}

static ifc_label for_one(id128 who)
{
    ifc_label label;
    ifc_label_public(&label);
    CHECK_OK(ifc_label_secrecy_add(&label, &who, 1));
    return label;
}

static ifc_label for_either(id128 a, id128 b)
{
    ifc_label label;
    ifc_label_public(&label);
    CHECK_OK(ifc_label_secrecy_add(&label, (id128[]){a, b}, 2));
    return label;
}

static retrieval_input input_of(const char *path, const char *text, uint8_t nonce, ifc_label label)
{
    return (retrieval_input){.path = path, .media_type = "text/plain", .content = bytes_str(text),
                             .nonce = {nonce}, .label = label};
}

static id128 put(house *h, id128 owner, const char *path, const char *text, uint8_t nonce,
                 ifc_label label)
{
    retrieval_input input = input_of(path, text, nonce, label);
    retrieval_stored stored;
    CHECK_OK(retrieval_put(h->r, h->tenant, owner, &input, 1, &stored));
    CHECK(stored.code == E_OK);
    return stored.id;
}

static retrieval_hit *find(house *h, const ifc_context *who, const char *query, search_mode mode,
                           size_t *n)
{
    const id128 owners[] = {h->bob, h->ada, h->team};
    retrieval_scope scope = {who, owners, 3};
    retrieval_hit *hits = NULL;
    CHECK_OK(retrieval_search(h->r, &scope, query, 20, mode, h->a, &hits, n));
    return hits;
}

static bool hit_has(const retrieval_hit *hits, size_t n, id128 document)
{
    for (size_t i = 0; i < n; i++)
        if (id_equal(hits[i].document, document)) return true;
    return false;
}

/* Everything a reader receives, as bytes. */
static uint64_t observe(house *h, const ifc_context *who)
{
    static const char *const queries[] = {"the river under the bridge", "secret garden", "copper",
        "unknownword"};
    buf b;
    uint8_t hash[HASH_BYTES];
    buf_init(&b, 1 << 20);
    for (size_t q = 0; q < 4; q++)
        for (int mode = 0; mode < 3; mode++) {
            size_t n;
            retrieval_hit *hits = find(h, who, queries[q], (search_mode)mode, &n);
            for (size_t i = 0; i < n; i++) {
                buf_append(&b, &hits[i].document, ID_BYTES);
                buf_append_u32(&b, hits[i].chunk);
                buf_append(&b, &hits[i].score, 4);
                buf_append(&b, &hits[i].dense, 4);
                buf_append(&b, &hits[i].lexical, 4);
                bytes text = ifc_labeled_compute(hits[i].text);
                buf_append(&b, text.data, text.size);
            }
            buf_append_u32(&b, (uint32_t)n);
        }
    hash_plain("observation", buf_bytes(&b), hash);
    buf_free(&b);
    uint64_t out;
    memcpy(&out, hash, sizeof out);
    return out;
}

static void put_search_get(void)
{
    house h;
    house_open(&h);
    id128 river = put(&h, h.ada, "river.txt", "The river flows under the bridge. It is blue.", 1,
                      for_one(h.ada));
    id128 copper = put(&h, h.ada, "copper.txt", "Copper is a red metal.", 2, for_one(h.ada));
    CHECK(!id_equal(river, copper));
    for (int mode = 0; mode < 3; mode++) {
        size_t n;
        retrieval_hit *hits = find(&h, &h.as_ada, "river bridge", (search_mode)mode, &n);
        CHECK(n >= 1 && id_equal(hits[0].document, river) && id_equal(hits[0].owner, h.ada));
        CHECK(hits[0].start == 0 && hits[0].end == 45);
        CHECK(bytes_equal(ifc_labeled_compute(hits[0].text),
                          bytes_str("The river flows under the bridge. It is blue.")));
        ifc_label label = for_one(h.ada);
        CHECK(ifc_label_equal(ifc_labeled_label(hits[0].text), &label));
    }
    retrieval_scope scope = {&h.as_ada, &h.ada, 1};
    static retrieval_document info;
    const ifc_labeled *text;
    CHECK_OK(retrieval_get(h.r, &scope, copper, h.a, &info, &text));
    CHECK(strcmp(info.path, "copper.txt") == 0 && info.size_bytes == 22 && info.chunk_count == 1);
    CHECK(bytes_equal(ifc_labeled_compute(text), bytes_str("Copper is a red metal.")));
    id128 found;
    CHECK_OK(retrieval_find_path(h.r, h.tenant, h.ada, "river.txt", &found));
    CHECK(id_equal(found, river));
    CHECK_FAILS(retrieval_find_path(h.r, h.tenant, h.ada, "none.txt", &found), E_NOT_FOUND);
    retrieval_usage usage;
    CHECK_OK(retrieval_usage_of(h.r, h.tenant, h.ada, &usage));
    CHECK(usage.documents == 2 && usage.chunks == 2 && usage.text_bytes == 67);
    CHECK_OK(retrieval_usage_of(h.r, h.tenant, h.bob, &usage));
    CHECK(usage.documents == 0);
    retrieval_hit *hits;
    size_t n;
    CHECK_FAILS(retrieval_search(h.r, &scope, "x", 0, SEARCH_HYBRID, h.a, &hits, &n), E_INVALID);
    CHECK_FAILS(retrieval_search(h.r, &scope, "x", 101, SEARCH_HYBRID, h.a, &hits, &n), E_INVALID);
    CHECK_FAILS(retrieval_search(h.r, &scope, "\xFF", 5, SEARCH_HYBRID, h.a, &hits, &n), E_INVALID);
    CHECK(retrieval_similarity(h.r, bytes_str("river"), bytes_str("the river")) > 0);
    CHECK(retrieval_similarity(h.r, bytes_str("river"), bytes_str("zzz")) == 0);
    float scores[2];
    bytes sentences[] = {bytes_str("The river is blue."), bytes_str("Nothing here.")};
    CHECK_OK(retrieval_overlap(h.r, &scope, "blue river", sentences, 2, scores));
    CHECK(scores[0] > 0.99f && scores[1] == 0);
    house_close(&h);
}

static void bad_documents_are_refused_alone(void)
{
    house h;
    house_open(&h);
    retrieval_input inputs[] = {
        input_of("good.txt", "The river.", 1, for_one(h.ada)), input_of("", "x", 2, for_one(h.ada)),
        input_of("empty.txt", "", 3, for_one(h.ada)), input_of("bad.txt", "\xFF", 4,
                                                               for_one(h.ada)),
        input_of("same.txt", "The stone.", 1, for_one(h.ada)), input_of("m.txt", "music", 6,
                                                                        for_one(h.ada))};
    inputs[5].media_type = "image/png";
    static retrieval_stored stored[6];
    CHECK_OK(retrieval_put(h.r, h.tenant, h.ada, inputs, 6, stored));
    CHECK(stored[0].code == E_OK);
    for (int i = 1; i < 6; i++) CHECK(stored[i].code == E_INVALID && stored[i].reason[0] != 0);
    retrieval_usage usage;
    CHECK_OK(retrieval_usage_of(h.r, h.tenant, h.ada, &usage));
    CHECK(usage.documents == 1);
    CHECK_FAILS(retrieval_put(h.r, h.tenant, h.ada, inputs, 0, stored), E_INVALID);
    CHECK_FAILS(retrieval_put(h.r, h.tenant, id_random(), inputs, 1, stored), E_NOT_FOUND);
    house_close(&h);
}

static void repeated_puts_replace(void)
{
    house h;
    house_open(&h);
    id128 first = put(&h, h.ada, "a.txt", "The river. Anchor and cloud.", 1, for_one(h.ada));
    id128 again = put(&h, h.ada, "b.txt", "The stone garden.", 1, for_either(h.ada, h.team));
    CHECK(id_equal(first, again));
    size_t n;
    (void)find(&h, &h.as_ada, "anchor", SEARCH_LEXICAL, &n);
    CHECK(n == 0);
    retrieval_hit *hits = find(&h, &h.as_bob, "stone", SEARCH_LEXICAL, &n);
    CHECK(n == 1 && hit_has(hits, n, again));
    retrieval_usage usage;
    CHECK_OK(retrieval_usage_of(h.r, h.tenant, h.ada, &usage));
    CHECK(usage.documents == 1 && usage.text_bytes == 17);
    house_close(&h);
}

/* Absent, denied and malformed are one answer, to the byte. */
static void denied_looks_absent(void)
{
    house h;
    house_open(&h);
    id128 secret = put(&h, h.ada, "s.txt", "The secret river.", 1, for_one(h.ada));
    retrieval_scope scope = {&h.as_bob, (id128[]){h.ada, h.bob}, 2};
    char words[2][600];
    result r = retrieval_get(h.r, &scope, secret, h.a, NULL, NULL);
    CHECK(r.code == E_NOT_FOUND);
    snprintf(words[0], sizeof words[0], "%s", r.message);
    r = retrieval_get(h.r, &scope, id_random(), h.a, NULL, NULL);
    CHECK(r.code == E_NOT_FOUND);
    snprintf(words[1], sizeof words[1], "%s", r.message);
    CHECK(strcmp(words[0], words[1]) == 0 && strcmp(words[0], IFC_NOT_FOUND) == 0);
    size_t n;
    (void)find(&h, &h.as_bob, "secret river", SEARCH_HYBRID, &n);
    CHECK(n == 0);
    house_close(&h);
}

/* What others hold, in the same store too, moves no bit of what a reader receives. */
static void others_documents_move_nothing(void)
{
    house h;
    house_open(&h);
    put(&h, h.ada, "1", "The river flows under the bridge.", 1, for_one(h.ada));
    put(&h, h.team, "2", "The shared garden has a copper mirror.", 2, for_one(h.team));
    put(&h, h.bob, "3", "A public river, shared with ada.", 3, for_either(h.ada, h.bob));
    uint64_t before = observe(&h, &h.as_ada);
    char text[600] = "secret river garden bridge copper under the ";
    for (uint8_t i = 0; i < 20; i++) {
        strcat(text, i % 2 ? "bob river " : "copper cloud ");
        put(&h, h.bob, "more", text, (uint8_t)(10 + i), for_one(h.bob));
        put(&h, h.team, "more", text, (uint8_t)(50 + i), for_one(h.bob));
    }
    CHECK(observe(&h, &h.as_ada) == before);
    size_t n;
    retrieval_hit *hits = find(&h, &h.as_ada, "bob river", SEARCH_HYBRID, &n);
    for (size_t i = 0; i < n; i++)
        CHECK(ifc_context_permits(&h.as_ada, ifc_labeled_label(hits[i].text)));
    CHECK(observe(&h, &h.as_bob) != before);
    house_close(&h);
}

static const retrieval_hit *hit_of(const retrieval_hit *hits, size_t n, id128 document)
{
    for (size_t i = 0; i < n; i++)
        if (id_equal(hits[i].document, document)) return &hits[i];
    return NULL;
}

/* A document without the query's word counts as one with it where a passage that was found has its
 * words; words that only a hidden passage has beside it lead nowhere. */
static void found_words_find_more(void)
{
    house h;
    size_t n;
    house_open(&h);
    put(&h, h.ada, "1", "Copper turns to verdigris.", 1, for_one(h.ada));
    id128 near = put(&h, h.ada, "2", "Verdigris was a pigment.", 2, for_one(h.ada));
    id128 far = put(&h, h.ada, "3", "A quokka is a beta.", 3, for_one(h.ada));
    find(&h, &h.as_ada, "copper", SEARCH_LEXICAL, &n);
    CHECK(n == 1);
    const retrieval_hit *hits = find(&h, &h.as_ada, "copper", SEARCH_HYBRID, &n);
    const retrieval_hit *led = hit_of(hits, n, near), *left = hit_of(hits, n, far);
    NEED(led != NULL && left != NULL);
    CHECK(led->lexical > 2 * left->lexical);
    float before = left->lexical;
    hits = find(&h, &h.as_ada, "copper", SEARCH_QUESTION, &n);
    led = hit_of(hits, n, near);           /* ranked once: its words lead nowhere */
    CHECK(led == NULL || led->lexical == 0);
    put(&h, h.ada, "4", "Copper! Copper copper quokka.", 4, for_one(h.bob));
    hits = find(&h, &h.as_ada, "copper", SEARCH_HYBRID, &n);
    left = hit_of(hits, n, far);
    NEED(left != NULL);
    CHECK(left->lexical == before);
    house_close(&h);
}

/* Which of more words than are taken depends on how rare they are in what may be read, and on nothing
 * else. */
static void found_words_are_counted_among_the_permitted(void)
{
    house h;
    house_open(&h);
    put(&h, h.ada, "1", "Copper apple badge cabin dairy eagle fable gable habit icing jelly kayak label "
        "mango nacho oasis paddle quail radar sable table udder vapor wagon xenon yacht zebra acorn bison.", 1,
        for_one(h.ada));
    put(&h, h.ada, "2", "Apple eagle icing mango quail udder yacht and a river.", 2, for_one(h.ada));
    put(&h, h.ada, "3", "Wagon xenon zebra acorn bison and a stone.", 3, for_one(h.ada));
    uint64_t before = observe(&h, &h.as_ada);
    for (uint8_t i = 0; i < 20; i++)
        put(&h, h.ada, "hidden", "Wagon xenon apple badge cabin dairy eagle fable gable.", (uint8_t)(10 + i),
            for_one(h.bob));
    CHECK(observe(&h, &h.as_ada) == before);
    for (uint8_t i = 0; i < 20; i++)
        put(&h, h.ada, "open", "Wagon xenon apple badge cabin dairy eagle fable gable.", (uint8_t)(40 + i),
            for_one(h.ada));
    CHECK(observe(&h, &h.as_ada) != before);
    house_close(&h);
}

static void other_tenants_see_nothing(void)
{
    house h;
    house_open(&h);
    put(&h, h.ada, "1", "The river flows under the bridge.", 1, for_one(h.ada));
    ifc_label open;
    ifc_label_public(&open);
    put(&h, h.ada, "2", "A public river.", 2, open);
    id128 tenant = id_random(), eve = id_random();
    keytree_node nodes[] = {keytree_tenant(tenant), keytree_owner(tenant, eve)};
    CHECK_OK(keytree_add(h.f.keys, nodes, 2));
    ifc_context as_eve;
    CHECK_OK(ifc_context_init(&as_eve, tenant, eve, &eve, 1));
    retrieval_scope scope = {&as_eve, (id128[]){eve, h.ada}, 2};
    retrieval_hit *hits;
    size_t n = 1;
    result r = retrieval_search(h.r, &scope, "river", 10, SEARCH_HYBRID, h.a, &hits, &n);
    CHECK(is_ok(r) && n == 0);
    CHECK_FAILS(retrieval_get(h.r, &scope, id_random(), h.a, NULL, NULL), E_NOT_FOUND);
    house_close(&h);
}

static void labels_change_at_once(void)
{
    house h;
    house_open(&h);
    id128 id = put(&h, h.ada, "1", "The river flows under the bridge.", 1, for_one(h.ada));
    put(&h, h.ada, "2", "The garden of the river.", 2, for_one(h.ada));
    uint64_t bob_before = observe(&h, &h.as_bob), ada_before = observe(&h, &h.as_ada);
    ifc_label shared = for_either(h.ada, h.bob), mine = for_one(h.ada);
    size_t n;
    CHECK_OK(retrieval_relabel(h.r, h.tenant, h.ada, id, &shared));
    retrieval_hit *hits = find(&h, &h.as_bob, "river", SEARCH_HYBRID, &n);
    CHECK(n == 1 && hit_has(hits, n, id));
    CHECK_OK(retrieval_relabel(h.r, h.tenant, h.ada, id, &mine));
    (void)find(&h, &h.as_bob, "river", SEARCH_HYBRID, &n);
    CHECK(n == 0);
    CHECK(observe(&h, &h.as_bob) == bob_before && observe(&h, &h.as_ada) == ada_before);
    retrieval_scope scope = {&h.as_bob, &h.ada, 1};
    CHECK_FAILS(retrieval_get(h.r, &scope, id, h.a, NULL, NULL), E_NOT_FOUND);
    CHECK_FAILS(retrieval_relabel(h.r, h.tenant, h.ada, id_random(), &mine), E_NOT_FOUND);
    house_close(&h);
}

static void restarts_and_evictions_change_nothing(void)
{
    house h;
    house_open(&h);
    for (uint8_t i = 0; i < 30; i++) {
        char text[200];
        snprintf(text, sizeof text, "The %s of the %s flows under the %s. Blue alpha %d.",
                 TINY_WORDS[3 + i % 20], TINY_WORDS[3 + i * 7 % 20], TINY_WORDS[3 + i * 3 % 20], i);
        put(&h, i % 3 == 0 ? h.ada : i % 3 == 1 ? h.bob : h.team, "x", text, i,
            i % 2 ? for_one(h.team) : for_one(h.ada));
    }
    uint64_t before = observe(&h, &h.as_ada);
    retrieval_close(&h.r);
    retrieval_options o = options_of(&h, 1);
    CHECK_OK(retrieval_open(&h.r, &o));
    CHECK(observe(&h, &h.as_ada) == before);
    retrieval_memory memory;
    retrieval_memory_now(h.r, &memory);
    CHECK(memory.stores_open >= 1 && memory.vectors_bytes > 0 && memory.lexical_bytes > 0);
    retrieval_usage usage;
    CHECK_OK(retrieval_usage_of(h.r, h.tenant, h.bob, &usage));
    CHECK_OK(retrieval_usage_of(h.r, h.tenant, h.ada, &usage));
    CHECK(usage.documents == 10);
    CHECK(observe(&h, &h.as_ada) == before);
    house_close(&h);
}

typedef struct { id128 last; size_t count; } listing;
static result count_document(void *ctx, const retrieval_document *d)
{
    listing *l = ctx;
    CHECK(l->count == 0 || id_compare(l->last, d->id) < 0);
    l->last = d->id;
    l->count++;
    return OK;
}

static void lists_hold_what_may_be_read(void)
{
    house h;
    house_open(&h);
    for (uint8_t i = 0; i < 12; i++)
        put(&h, i % 2 ? h.ada : h.team, "x", "The river.", i, i % 3 ? for_one(h.team) :
            for_one(h.ada));
    listing ada = {{{0}}, 0}, bob = {{{0}}, 0};
    id128 owners[] = {h.team, h.ada, h.bob, h.ada};
    CHECK_OK(retrieval_list(h.r, &(retrieval_scope){&h.as_ada, owners, 4}, count_document, &ada));
    CHECK_OK(retrieval_list(h.r, &(retrieval_scope){&h.as_bob, owners, 4}, count_document, &bob));
    CHECK(ada.count == 12 && bob.count == 8);
    house_close(&h);
}

/* fence, keys, wipe, drop: afterwards as if the document had never been. */
static void erasing_a_document(void)
{
    house h;
    house_open(&h);
    put(&h, h.ada, "1", "The river flows under the bridge.", 1, for_one(h.ada));
    uint64_t before = observe(&h, &h.as_ada);
    id128 gone = put(&h, h.ada, "2", "Copper river bridge in the secret garden.", 2,
                     for_one(h.ada));
    CHECK(observe(&h, &h.as_ada) != before);
    uint32_t chunks = 1;
    CHECK_OK(retrieval_fence(h.r, h.tenant, h.ada, &gone, 1, false, NULL, NULL));
    CHECK(observe(&h, &h.as_ada) == before);
    retrieval_input again = input_of("2", "Copper.", 2, for_one(h.ada));
    retrieval_stored stored;
    CHECK_OK(retrieval_put(h.r, h.tenant, h.ada, &again, 1, &stored));
    CHECK(stored.code != E_OK);                 /* not while it is being erased */
    CHECK_OK(retrieval_wipe(h.r, h.tenant, h.ada, &gone, 1));
    CHECK_OK(retrieval_wipe(h.r, h.tenant, h.ada, &gone, 1));
    size_t n;
    retrieval_hit *hits = find(&h, &h.as_ada, "copper", SEARCH_LEXICAL, &n);
    CHECK(!hit_has(hits, n, gone));
    keytree_erasure done;
    keytree_node target = keytree_document(h.tenant, h.ada, gone);
    CHECK_OK(keytree_erase(h.f.keys, &target, 1, NULL, NULL, &done));
    CHECK_OK(retrieval_drop(h.r, h.tenant, h.ada, &gone, &chunks, 1));
    CHECK_OK(retrieval_drop(h.r, h.tenant, h.ada, &gone, &chunks, 1));
    CHECK(observe(&h, &h.as_ada) == before);
    retrieval_close(&h.r);
    retrieval_options o = options_of(&h, 0);
    CHECK_OK(retrieval_open(&h.r, &o));
    CHECK(observe(&h, &h.as_ada) == before);
    CHECK_OK(retrieval_put(h.r, h.tenant, h.ada, &again, 1, &stored));
    CHECK(stored.code == E_OK);
    house_close(&h);
}

static void erasing_an_owner(void)
{
    house h;
    house_open(&h);
    put(&h, h.team, "t", "The team's garden.", 1, for_one(h.team));
    uint64_t before = observe(&h, &h.as_bob);
    put(&h, h.bob, "b", "The river of bob.", 2, for_one(h.bob));
    CHECK_OK(retrieval_fence(h.r, h.tenant, h.bob, NULL, 0, false, NULL, NULL));
    CHECK(observe(&h, &h.as_bob) == before);
    retrieval_input again = input_of("b", "Copper.", 3, for_one(h.bob));
    retrieval_stored stored;
    CHECK_FAILS(retrieval_put(h.r, h.tenant, h.bob, &again, 1, &stored), E_NOT_FOUND);
    CHECK_OK(retrieval_wipe(h.r, h.tenant, h.bob, NULL, 0));
    keytree_erasure done;
    keytree_node target = keytree_owner(h.tenant, h.bob);
    CHECK_OK(keytree_erase(h.f.keys, &target, 1, NULL, NULL, &done));
    CHECK_OK(retrieval_drop(h.r, h.tenant, h.bob, NULL, NULL, 0));
    CHECK_OK(retrieval_drop(h.r, h.tenant, h.bob, NULL, NULL, 0));
    CHECK(observe(&h, &h.as_bob) == before);
    CHECK_FAILS(retrieval_put(h.r, h.tenant, h.bob, &again, 1, &stored), E_NOT_FOUND);
    house_close(&h);
}

typedef struct {
    house *h;
    id128 gone;
    _Atomic bool stop, fenced;
    _Atomic uint32_t seen_after;
} race;

static void *reader_main(void *ctx)
{
    race *x = ctx;
    arena *a;
    arena_open(&a, 4 << 20);
    while (!atomic_load(&x->stop)) {
        retrieval_scope scope = {&x->h->as_ada, (id128[]){x->h->ada, x->h->team, x->h->bob}, 3};
        retrieval_hit *hits;
        size_t n;
        bool was_fenced = atomic_load(&x->fenced);
        result r = retrieval_search(x->h->r, &scope, "river copper", 10, SEARCH_HYBRID, a, &hits,
                                    &n);
        if (!is_ok(r) || (was_fenced && hit_has(hits, n, x->gone)))
            atomic_fetch_add(&x->seen_after, 1);
        arena_reset(a);
    }
    arena_close(&a);
    return NULL;
}

/* Readers, writers and evictions side by side; from the fence's return on nobody sees the
 * document. */
static void threads_and_fences(void)
{
    house h;
    house_open(&h);
    retrieval_close(&h.r);
    retrieval_options o = options_of(&h, 2);
    CHECK_OK(retrieval_open(&h.r, &o));
    race x = {.h = &h};
    for (uint8_t i = 0; i < 5; i++)
        put(&h, h.team, "t", "The river of copper.", i, for_one(h.team));
    x.gone = put(&h, h.ada, "g", "River river copper.", 9, for_one(h.ada));
    pthread_t readers[3];
    for (int i = 0; i < 3; i++) pthread_create(&readers[i], NULL, reader_main, &x);
    for (uint8_t i = 20; i < 40; i++)
        put(&h, i % 2 ? h.bob : h.ada, "w", "A river under the bridge.", i, for_one(i % 2 ? h.bob :
                                                                                    h.ada));
    CHECK_OK(retrieval_fence(h.r, h.tenant, h.ada, &x.gone, 1, false, NULL, NULL));
    atomic_store(&x.fenced, true);
    for (uint8_t i = 40; i < 50; i++) put(&h, h.bob, "w", "A river.", i, for_one(h.bob));
    atomic_store(&x.stop, true);
    for (int i = 0; i < 3; i++) pthread_join(readers[i], NULL);
    CHECK(atomic_load(&x.seen_after) == 0);
    house_close(&h);
}

static bool always(void *ctx)
{
    (void)ctx;
    return true;
}

static void cancelled_requests_stop(void)
{
    house h;
    house_open(&h);
    put(&h, h.ada, "1", "The river.", 1, for_one(h.ada));
    h.as_ada.cancelled = always;
    retrieval_scope scope = {&h.as_ada, &h.ada, 1};
    retrieval_hit *hits;
    size_t n;
    CHECK_FAILS(retrieval_search(h.r, &scope, "river", 5, SEARCH_HYBRID, h.a, &hits, &n),
                E_CANCELLED);
    house_close(&h);
}

int main(void)
{
    RUN(put_search_get);
    RUN(bad_documents_are_refused_alone);
    RUN(repeated_puts_replace);
    RUN(denied_looks_absent);
    RUN(others_documents_move_nothing);
    RUN(found_words_find_more);
    RUN(found_words_are_counted_among_the_permitted);
    RUN(other_tenants_see_nothing);
    RUN(labels_change_at_once);
    RUN(restarts_and_evictions_change_nothing);
    RUN(lists_hold_what_may_be_read);
    RUN(erasing_a_document);
    RUN(erasing_an_owner);
    RUN(threads_and_fences);
    RUN(cancelled_requests_stop);
    return DONE();
}
