/* Probing in a search: whether it happens, what it reads and what it finds are functions of what the asker may read. On
 * real files: a key tree, LMDB, a tiny embedder with centroids. */
#include "test.h"

#include "retrieval_house.h"

enum { LISTS = 8, SENTENCES = 20, OWN = 25, OTHERS = 20, K = 100, NEVER = 1 << 30 };

static uint64_t state = 88172645463325252u;
static uint32_t next(void)
{
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return (uint32_t)(state >> 32);
}

/* The vectors of some words. */
static void centroids_write(const char *dir)
{
    char path[400], header[300];
    float scale = 1.0f / 127;
    buf b;
    buf_init(&b, 1 << 20);
    snprintf(header, sizeof header, "{\"centroids\":{\"dtype\":\"I8\",\"shape\":[%d,%d],\"data_offsets\":[0,%d]},"
             "\"scales\":{\"dtype\":\"F32\",\"shape\":[%d],\"data_offsets\":[%d,%d]}}", LISTS, TINY_DIM, LISTS * TINY_DIM,
             LISTS, LISTS * TINY_DIM, LISTS * TINY_DIM + 4 * LISTS);
    buf_append_u64(&b, strlen(header));
    buf_append_str(&b, header);
    for (uint32_t i = 0; i < LISTS; i++)
        for (uint32_t d = 0; d < TINY_DIM; d++) buf_append_u8(&b, (uint8_t)(int8_t)(tiny_value(3 * (i + 1), d) * 127));
    for (uint32_t i = 0; i < LISTS; i++) buf_append(&b, &scale, sizeof scale);
    snprintf(path, sizeof path, "%s/centroids.safetensors", dir);
    CHECK_OK(file_write_atomic(path, buf_bytes(&b), 0600));
    buf_free(&b);
}

/* Closes what is open and opens it with other settings: what is in memory is then as if it had never been otherwise. */
static void reopen(house *h, uint32_t chunks_min, uint32_t percent)
{
    const retrieval_options o = {.data_dir = h->f.data, .embedder_dir = h->f.embedder, .keys = h->f.keys,
                                 .store_max_bytes = 64 << 20, .chunk_target_bytes = 64,
                                 .probe_chunks_min = chunks_min, .probe_percent = percent};
    retrieval_close(&h->r);
    CHECK_OK(retrieval_open(&h->r, &o));
}

static void house_open(house *h)
{
    house_make(h, 64 << 20);
    centroids_write(h->f.embedder);
    reopen(h, NEVER, 1);
}

/* Sentences of one chunk each, mostly of one topic's few words. */
static void text_make(char *out, size_t size)
{
    uint32_t topic = next() % LISTS;
    size_t at = 0;
    for (int s = 0; s < SENTENCES; s++) {
        for (int w = 0; w < 8; w++) {
            uint32_t word = next() % 3 ? 3 * (topic + 1) + next() % 2 : 2 + next() % (TINY_COUNT - 2);
            at += (size_t)snprintf(out + at, size - at, "%s%s", w ? " " : "W", TINY_WORDS[word % TINY_COUNT]);
        }
        at += (size_t)snprintf(out + at, size - at, " %08x yes. ", next());
    }
}

/* count documents in an owner's store that one principal may read; ids may be NULL. Returns how many chunks. */
static uint32_t put(house *h, id128 owner, id128 who, uint8_t kind, size_t count, id128 *ids)
{
    static char texts[OWN + OTHERS][SENTENCES * 120];
    static retrieval_stored stored[OWN + OTHERS];
    retrieval_input inputs[OWN + OTHERS];
    uint32_t chunks = 0;
    ifc_label label;
    ifc_label_public(&label);
    CHECK_OK(ifc_label_secrecy_add(&label, &who, 1));
    for (size_t i = 0; i < count; i++) {
        text_make(texts[i], sizeof texts[i]);
        inputs[i] = (retrieval_input){.path = "a.txt", .media_type = "text/plain", .content = bytes_str(texts[i]),
                                      .nonce = {kind, (uint8_t)i}, .label = label};
    }
    CHECK_OK(retrieval_put(h->r, h->tenant, owner, inputs, count, stored));
    for (size_t i = 0; i < count; i++) {
        CHECK(stored[i].code == E_OK);
        chunks += stored[i].chunk_count;
        if (ids != NULL) ids[i] = stored[i].id;
    }
    return chunks;
}

static void erase(house *h, id128 owner, const id128 *ids, size_t count)
{
    uint32_t chunks[OWN + OTHERS];
    for (size_t i = 0; i < count; i++) chunks[i] = SENTENCES;
    CHECK_OK(retrieval_fence(h->r, h->tenant, owner, ids, count, true, NULL, NULL));
    CHECK_OK(retrieval_wipe(h->r, h->tenant, owner, ids, count));
    CHECK_OK(retrieval_drop(h->r, h->tenant, owner, ids, chunks, count));
}

/* All that a reader receives, as a number. */
static uint64_t observe(house *h, const ifc_context *who)
{
    static const char *const QUERIES[] = {"river garden", "copper signal cloud", "the secret", "engine", "bridge blue red"};
    const id128 owners[] = {h->bob, h->ada, h->team};
    const retrieval_scope scope = {who, owners, 3};
    uint8_t hash[HASH_BYTES];
    uint64_t out;
    buf b;
    buf_init(&b, 16 << 20);
    for (size_t q = 0; q < sizeof QUERIES / sizeof *QUERIES; q++)
        for (int mode = SEARCH_HYBRID; mode <= SEARCH_QUESTION; mode++) {
            retrieval_hit *hits = NULL;
            size_t n = 0;
            CHECK_OK(retrieval_search(h->r, &scope, QUERIES[q], K, (search_mode)mode, h->a, &hits, &n));
            CHECK(n == K);
            for (size_t i = 0; i < n; i++) {
                buf_append(&b, &hits[i].document, ID_BYTES);
                buf_append_u32(&b, hits[i].chunk);
                buf_append(&b, &hits[i].score, 4);
                buf_append(&b, &hits[i].dense, 4);
                bytes text = ifc_labeled_compute(hits[i].text);
                buf_append(&b, text.data, text.size);
            }
        }
    hash_plain("observation", buf_bytes(&b), hash);
    buf_free(&b);
    arena_reset(h->a);
    memcpy(&out, hash, sizeof out);
    return out;
}

/* At each side of the border, what others put into the same stores and other ones, and what of it goes again, moves no
 * bit. Mutants: probe_switch_counts_all, probe_sizes_count_all. */
static void others_move_nothing_at_the_border(void)
{
    house h;
    house_open(&h);
    uint32_t own = put(&h, h.ada, h.ada, 1, OWN, NULL) + put(&h, h.team, h.team, 1, 5, NULL);
    uint64_t flat = observe(&h, &h.as_ada);
    const uint32_t borders[] = {own + 1, own, own - 1, own / 2, 1};
    for (size_t i = 0; i < sizeof borders / sizeof *borders; i++) {
        id128 hidden[OTHERS];
        reopen(&h, borders[i], 1);
        uint64_t before = observe(&h, &h.as_ada);
        CHECK((before == flat) == (borders[i] > own));
        put(&h, h.team, h.bob, 2, OTHERS, hidden);
        CHECK(observe(&h, &h.as_ada) == before);
        put(&h, h.ada, h.bob, 3, OTHERS / 2, NULL);
        put(&h, h.bob, h.bob, 4, OTHERS, NULL);
        CHECK(observe(&h, &h.as_ada) == before);
        erase(&h, h.team, hidden, OTHERS / 2);
        CHECK(observe(&h, &h.as_ada) == before);
        CHECK(observe(&h, &h.as_bob) != before);
    }
    house_close(&h);
}

static void all_lists_are_the_flat_search(void)
{
    house h;
    house_open(&h);
    put(&h, h.ada, h.ada, 1, OWN, NULL);
    uint64_t flat = observe(&h, &h.as_ada);
    reopen(&h, 1, 100);
    CHECK(observe(&h, &h.as_ada) == flat);
    reopen(&h, 1, 20);
    CHECK(observe(&h, &h.as_ada) != flat);
    house_close(&h);
}

/* After an erasure a search finds what it finds where the store was read from the disk, and, from below the border, what
 * the flat search finds. Mutant: list_keeps_erased. */
static void erased_documents_leave_no_trace(void)
{
    house h;
    id128 ids[OWN];
    house_open(&h);
    uint32_t own = put(&h, h.ada, h.ada, 1, OWN, ids);
    for (uint32_t border = own - 3 * SENTENCES; border <= own; border += 3 * SENTENCES) {
        reopen(&h, border, 1);
        put(&h, h.ada, h.ada, 1, OWN, ids);
        uint64_t before = observe(&h, &h.as_ada);
        erase(&h, h.ada, ids, 2);
        uint64_t after = observe(&h, &h.as_ada);
        CHECK(after != before);
        reopen(&h, border, 1);
        CHECK(observe(&h, &h.as_ada) == after);
        reopen(&h, NEVER, 1);
        CHECK((observe(&h, &h.as_ada) == after) == (border == own));
    }
    house_close(&h);
}

int main(void)
{
    RUN(others_move_nothing_at_the_border);
    RUN(all_lists_are_the_flat_search);
    RUN(erased_documents_leave_no_trace);
    return DONE();
}
