/* Tombstones: what is recognised as a repetition and what is not, whose it is, and how long it is kept. */
#include "retrieval/slots.h"
#include "retrieval/tombstones.h"
#include "test.h"

#include "store_folders.h"

enum { VOCABULARY = 3000, DOCUMENT_WORDS = 300, TEXTS = 1000, TRIALS = 200, SENTENCE = 12 };

/* ---- generated texts: words by Zipf's law, so that short runs recur as in a language ----------------------- */
static uint64_t state;

static uint32_t below(uint32_t n)
{
    state += 0x9E3779B97F4A7C15u;
    uint64_t z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (uint32_t)((z ^ (z >> 31)) % n);
}

static void word_add(buf *out, uint32_t number)
{
    static const char *const syllables[] = {"ka", "lo", "mi", "ren", "tus", "va", "shi", "per", "on", "dal"};
    for (uint32_t n = number + 10; n > 0; n /= 10) buf_append_str(out, syllables[n % 10]);
}

static uint32_t word_any(void)
{
    double u = (double)(1 + below(1u << 24)) / (double)(1u << 24);
    return (uint32_t)((VOCABULARY - 1) * u * u * u * u);
}

static void words_any(uint32_t *words, size_t count)
{
    for (size_t i = 0; i < count; i++) words[i] = word_any();
}

static void text_of(const uint32_t *words, size_t count, buf *out)
{
    for (size_t i = 0; i < count; i++) {
        word_add(out, words[i]);
        buf_append_str(out, i % 9 == 8 ? ".\n" : " ");
    }
}

/* ---- the marks alone -------------------------------------------------------------------------------------- */
static uint8_t key[KEY_BYTES];

static void remember(tombstones *t, id128 id, bytes text)
{
    uint64_t *marks = mem_alloc_array(TOMBSTONES_OF_DOCUMENT_MAX, sizeof *marks);
    size_t count;
    tombstones_of(key, text, marks, &count);
    tombstones_add(t, id, marks, count);
    mem_free(marks);
}

static bool repeats(const tombstones *t, const char *text)
{
    return tombstones_repeated(t, key, bytes_str(text));
}

static const char LETTER[] =
    "Dear Quentin, the brass key lies under the third step of the cellar stairs, and nobody but you and me knows "
    "that the ledger is behind the kiln. Burn this when you have read it.";

static void exact_copies(void)
{
    tombstones t = {.policy = TOMBSTONES_REFUSE};
    remember(&t, id_random(), bytes_str(LETTER));
    CHECK(repeats(&t, LETTER));
    CHECK(repeats(&t, "DEAR QUENTIN\xE2\x80\x94the brass key; lies under the THIRD step of the cellar-stairs!"));
    CHECK(!repeats(&t, "The brass key lies under the mat."));
    CHECK(!repeats(&t, ""));
    CHECK(!repeats(&t, "?! ..."));
    /* Fewer words than a mark has: all of it, or nothing. */
    remember(&t, id_random(), bytes_str("The PIN is 4711."));
    CHECK(repeats(&t, "the pin is: 4711"));
    CHECK(!repeats(&t, "the pin is: 4712"));
    CHECK(!repeats(&t, "pin is 4711"));
    size_t before = t.document_count;
    remember(&t, id_random(), bytes_str("\xF0\x9F\x94\x91 ?!"));
    CHECK(t.document_count == before);
    tombstones_free(&t);
}

static void takings(void)
{
    uint32_t words[DOCUMENT_WORDS], fresh[DOCUMENT_WORDS];
    size_t same = 0, sentence = 0, regular = 0;
    state = 4711;
    for (int trial = 0; trial < TRIALS; trial++) {
        tombstones t = {.policy = TOMBSTONES_FLAG};
        buf text;
        buf_init(&text, 1 << 20);
        words_any(words, DOCUMENT_WORDS);
        text_of(words, DOCUMENT_WORDS, &text);
        remember(&t, id_random(), buf_bytes(&text));
        /* 90 % the same: a word in ten is another, at random and each tenth. */
        for (size_t i = 0; i < DOCUMENT_WORDS; i++) fresh[i] = below(10) == 0 ? VOCABULARY + below(999) : words[i];
        buf_clear(&text);
        text_of(fresh, DOCUMENT_WORDS, &text);
        same += tombstones_repeated(&t, key, buf_bytes(&text));
        for (size_t i = 0; i < DOCUMENT_WORDS; i++) fresh[i] = i % 10 == 9 ? VOCABULARY + below(999) : words[i];
        buf_clear(&text);
        text_of(fresh, DOCUMENT_WORDS, &text);
        regular += tombstones_repeated(&t, key, buf_bytes(&text));
        /* One sentence of it in a text that is otherwise new. */
        words_any(fresh, DOCUMENT_WORDS);
        memcpy(fresh + 100, words + below(DOCUMENT_WORDS - SENTENCE), SENTENCE * sizeof *words);
        buf_clear(&text);
        text_of(fresh, DOCUMENT_WORDS, &text);
        sentence += tombstones_repeated(&t, key, buf_bytes(&text));
        buf_free(&text);
        tombstones_free(&t);
    }
    printf("# of %d: 90 %% the same %zu, each tenth word changed %zu, one sentence of %d words %zu\n", TRIALS, same,
           regular, SENTENCE, sentence);
    CHECK(sentence == TRIALS);
    CHECK(same == TRIALS);
    CHECK(regular == TRIALS);
}

static void unrelated(void)
{
    uint32_t words[DOCUMENT_WORDS];
    tombstones t = {.policy = TOMBSTONES_REFUSE};
    size_t hits = 0;
    buf text;
    buf_init(&text, 1 << 20);
    state = 815;
    for (int i = 0; i < 100; i++) {
        buf_clear(&text);
        words_any(words, DOCUMENT_WORDS);
        text_of(words, DOCUMENT_WORDS, &text);
        remember(&t, id_random(), buf_bytes(&text));
    }
    for (int i = 0; i < TEXTS; i++) {
        buf_clear(&text);
        words_any(words, DOCUMENT_WORDS);
        text_of(words, DOCUMENT_WORDS, &text);
        hits += tombstones_repeated(&t, key, buf_bytes(&text));
    }
    printf("# %zu marks, %zu of %d unrelated texts hit\n", t.mark_count, hits, TEXTS);
    CHECK(hits == 0);
    CHECK(t.mark_count > 100 * DOCUMENT_WORDS / 4);
    buf_free(&text);
    tombstones_free(&t);
}

static void marks_of_two_owners(void)
{
    static uint64_t mine[TOMBSTONES_OF_DOCUMENT_MAX], others[TOMBSTONES_OF_DOCUMENT_MAX];
    const uint8_t secrets[2][KEY_BYTES] = {{1}, {2}}, salts[2][TOMBSTONES_SALT_BYTES] = {{3}, {4}};
    uint8_t keys[3][KEY_BYTES];
    tombstones_key(secrets[0], salts[0], keys[0]);
    tombstones_key(secrets[1], salts[0], keys[1]);
    tombstones_key(secrets[0], salts[1], keys[2]);
    size_t n, m, shared = 0;
    tombstones_of(keys[0], bytes_str(LETTER), mine, &n);
    CHECK(n > 5);
    for (int k = 1; k < 3; k++) {
        tombstones_of(keys[k], bytes_str(LETTER), others, &m);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < m; j++) shared += mine[i] == others[j];
    }
    CHECK(shared == 0);
    tombstones_of(keys[0], bytes_str(LETTER), others, &m);
    CHECK(n == m && memcmp(mine, others, n * sizeof *mine) == 0);
}

static void limits(void)
{
    tombstones t = {.policy = TOMBSTONES_FLAG};
    uint64_t *marks = mem_alloc_array(TOMBSTONES_OF_DOCUMENT_MAX, sizeof *marks);
    const size_t most = TOMBSTONES_MAX / TOMBSTONES_OF_DOCUMENT_MAX;
    id128 first = {{0}}, second = {{0}}, id = {{0}};
    for (size_t d = 0; d < most + 1; d++) {
        for (size_t i = 0; i < TOMBSTONES_OF_DOCUMENT_MAX; i++) marks[i] = i * 1000 + d;
        id = id_random();
        if (d == 0) first = id;
        if (d == 1) second = id;
        tombstones_add(&t, id, marks, TOMBSTONES_OF_DOCUMENT_MAX);
    }
    CHECK(t.mark_count == TOMBSTONES_MAX && t.document_count == most);
    CHECK(!tombstones_hold(&t, first) && tombstones_hold(&t, second) && tombstones_hold(&t, id));
    tombstones_add(&t, id, (uint64_t[]){7}, 1);                /* twice: as it was */
    CHECK(t.mark_count == TOMBSTONES_MAX && t.document_count == most);
    for (size_t i = 1; i < t.mark_count; i++)
        CHECK(t.marks[i - 1].mark < t.marks[i].mark);
    tombstones_free(&t);
    /* A long text keeps the least of its marks, and long takings of it are found. */
    enum { LONG = 30000 };
    uint32_t *words = mem_alloc_array(LONG, sizeof *words);
    buf text;
    buf_init(&text, 1 << 20);
    state = 99;
    words_any(words, LONG);
    text_of(words, LONG, &text);
    t.policy = TOMBSTONES_FLAG;
    remember(&t, id, buf_bytes(&text));
    CHECK(t.mark_count == TOMBSTONES_OF_DOCUMENT_MAX);
    buf_clear(&text);
    text_of(words + 20000, 200, &text);
    CHECK(tombstones_repeated(&t, key, buf_bytes(&text)));
    buf_free(&text);
    mem_free(words);
    mem_free(marks);
    tombstones_free(&t);
}

static void as_bytes(void)
{
    tombstones t = {.policy = TOMBSTONES_REFUSE, .salt = {9}}, again;
    buf b;
    buf_init(&b, 1 << 20);
    remember(&t, id_random(), bytes_str(LETTER));
    remember(&t, id_random(), bytes_str("Two words"));
    tombstones_encode(&t, &b);
    CHECK_OK(tombstones_decode(buf_bytes(&b), &again));
    CHECK(again.policy == t.policy && again.document_count == 2 && again.mark_count == t.mark_count);
    CHECK(repeats(&again, LETTER) && repeats(&again, "two WORDS"));
    tombstones_free(&again);
    for (size_t cut = 0; cut < b.size; cut++)
        CHECK_FAILS(tombstones_decode(bytes_of(b.data, cut), &again), E_DATA_LOSS);
    b.data[1] = TOMBSTONES_OFF;
    CHECK_FAILS(tombstones_decode(buf_bytes(&b), &again), E_DATA_LOSS);
    buf_free(&b);
    tombstones_free(&t);
}

/* ---- in their owner's store ---------------------------------------------------------------------------------- */
typedef struct {
    store_folders f;
    retrieval *r;
    id128 tenant, ada, bob;
} house;

static void stores_open(house *h)
{
    const retrieval_options o = {.data_dir = h->f.data, .embedder_dir = h->f.embedder, .keys = h->f.keys,
                                 .store_max_bytes = 64 << 20};
    CHECK_OK(retrieval_open(&h->r, &o));
}

static void house_open(house *h)
{
    memset(h, 0, sizeof *h);
    store_folders_make(&h->f);
    h->tenant = id_random();
    h->ada = id_random();
    h->bob = id_random();
    const keytree_node nodes[] = {keytree_tenant(h->tenant), keytree_owner(h->tenant, h->ada),
                                  keytree_owner(h->tenant, h->bob)};
    CHECK_OK(keytree_add(h->f.keys, nodes, 3));
    stores_open(h);
}

static void house_close(house *h)
{
    retrieval_close(&h->r);
    store_folders_remove(&h->f);
}

static retrieval_stored put(house *h, id128 owner, const char *text)
{
    retrieval_input *input = mem_alloc(sizeof *input);
    retrieval_stored stored = {0};
    *input = (retrieval_input){.path = "letter", .media_type = "text/plain", .content = bytes_str(text)};
    random_bytes(input->nonce, sizeof input->nonce);
    ifc_label_public(&input->label);
    CHECK_OK(ifc_label_secrecy_add(&input->label, &owner, 1));
    CHECK_OK(retrieval_put(h->r, h->tenant, owner, input, 1, &stored));
    mem_free(input);
    return stored;
}

static void erase(house *h, id128 owner, id128 document)
{
    keytree_erasure done;
    const keytree_node node = keytree_document(h->tenant, owner, document);
    uint32_t chunks = 1;
    CHECK_OK(retrieval_tombstones_leave(h->r, h->tenant, owner, &document, 1));
    CHECK_OK(retrieval_tombstones_leave(h->r, h->tenant, owner, &document, 1));
    CHECK_OK(retrieval_fence(h->r, h->tenant, owner, &document, 1, false, NULL, NULL));
    CHECK_OK(keytree_erase(h->f.keys, &node, 1, NULL, NULL, &done));
    CHECK_OK(retrieval_tombstones_leave(h->r, h->tenant, owner, &document, 1));   /* as after a crash */
    CHECK_OK(retrieval_drop(h->r, h->tenant, owner, &document, &chunks, 1));
}

static retrieval_tombstones now(house *h, id128 owner)
{
    retrieval_tombstones t;
    CHECK_OK(retrieval_tombstones_get(h->r, h->tenant, owner, &t));
    return t;
}

static void policies(void)
{
    house h;
    bool found = false;
    house_open(&h);
    CHECK(now(&h, h.ada).policy == TOMBSTONES_OFF);
    CHECK_OK(retrieval_tombstones_set(h.r, h.tenant, h.ada, TOMBSTONES_OFF));      /* without a store */
    retrieval_stored one = put(&h, h.ada, LETTER);
    erase(&h, h.ada, one.id);
    CHECK(put(&h, h.ada, LETTER).code == E_OK && now(&h, h.ada).marks == 0);       /* off: nothing is left */
    CHECK_OK(retrieval_tombstones_set(h.r, h.tenant, h.ada, TOMBSTONES_FLAG));
    one = put(&h, h.ada, LETTER);
    CHECK(one.code == E_OK && !one.repeats);
    erase(&h, h.ada, one.id);
    CHECK_OK(retrieval_tombstones_hold(h.r, h.tenant, h.ada, &one.id, 1, &found));
    CHECK(found && now(&h, h.ada).documents == 1 && now(&h, h.ada).marks > 5);
    one = put(&h, h.ada, LETTER);
    CHECK(one.code == E_OK && one.repeats);
    CHECK(!put(&h, h.ada, "Something else, which was never in any letter to him.").repeats);
    CHECK_OK(retrieval_tombstones_set(h.r, h.tenant, h.ada, TOMBSTONES_REFUSE));
    one = put(&h, h.ada, LETTER);
    CHECK(one.code == E_PRECONDITION && strcmp(one.reason, RETRIEVAL_REPEATS) == 0);
    CHECK_FAILS(retrieval_tombstones_check(h.r, h.tenant, h.ada, bytes_str(LETTER), &found), E_PRECONDITION);
    CHECK_OK(retrieval_tombstones_check(h.r, h.tenant, h.ada, bytes_str("Where is the key?"), &found));
    /* Nobody else is answered. */
    CHECK(put(&h, h.bob, LETTER).code == E_OK);
    CHECK_OK(retrieval_tombstones_check(h.r, h.tenant, h.bob, bytes_str(LETTER), &found));
    CHECK(!found && now(&h, h.bob).policy == TOMBSTONES_OFF);
    /* Opened again, and what a restore does to a store. */
    retrieval_close(&h.r);
    stores_open(&h);
    CHECK_OK(retrieval_prune(h.r, h.tenant, h.ada));
    CHECK(put(&h, h.ada, LETTER).code == E_PRECONDITION);
    CHECK_OK(retrieval_tombstones_set(h.r, h.tenant, h.ada, TOMBSTONES_OFF));
    CHECK(put(&h, h.ada, LETTER).code == E_OK && now(&h, h.ada).marks == 0);
    CHECK_OK(retrieval_tombstones_set(h.r, h.tenant, h.ada, TOMBSTONES_REFUSE));
    CHECK(put(&h, h.ada, LETTER).code == E_OK);                                    /* they are gone for good */
    house_close(&h);
}

int main(void)
{
    static const uint8_t secret[KEY_BYTES] = {5}, salt[TOMBSTONES_SALT_BYTES] = {6};
    log_level_set(LOG_ERROR);
    tombstones_key(secret, salt, key);
    RUN(exact_copies);
    RUN(takings);
    RUN(unrelated);
    RUN(marks_of_two_owners);
    RUN(limits);
    RUN(as_bytes);
    RUN(policies);
    return DONE();
}
