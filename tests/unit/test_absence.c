/* Proofs of absence: what is there has none, what is not has one, whatever else the tree holds; and no byte of a
 * proof can be changed. The roots are compared with a plain computation over the set of ids. */
#include "keytree.h"
#include "retrieval/keytree_private.h"
#include "test.h"

#include <stdlib.h>

enum { OWNERS = 80, DOCUMENTS = 260 };

typedef struct {
    char base[256], dir[320], root[320];
    root_holder *holder;
    keytree *kt;
} house;

static uint64_t random_state = 4;

static uint32_t draw(uint32_t below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % below;
}

static id128 id_of(const char *kind, uint32_t n)
{
    uint8_t hash[HASH_BYTES];
    id128 id;
    hash_plain(kind, bytes_of(&n, sizeof n), hash);
    memcpy(id.b, hash, ID_BYTES);
    return id;
}

static id128 tenant(void) { return id_of("tenant", 1); }
static keytree_node owner(uint32_t o) { return keytree_owner(tenant(), id_of("owner", o)); }
static keytree_node doc(uint32_t o, uint32_t n)
{
    return keytree_document(tenant(), id_of("owner", o), id_of("doc", n));
}

static void house_new(house *h)
{
    memset(h, 0, sizeof *h);
    test_tmpdir(h->base);
    snprintf(h->dir, sizeof h->dir, "%s/keytree", h->base);
    snprintf(h->root, sizeof h->root, "%s/root", h->base);
    CHECK_OK(root_file_open(&h->holder, h->root, true));
    CHECK_OK(keytree_create(&h->kt, h->dir, NULL, h->holder));
}

static void house_end(house *h)
{
    keytree_close(&h->kt);
    root_holder_close(&h->holder);
    test_tmpdir_remove(h->base);
}

/* Owner 0 has `documents` documents, the others one each. */
static void fill(house *h, uint32_t owners, uint32_t documents)
{
    keytree_node *nodes = mem_alloc_array(2 * owners + documents + 1, sizeof *nodes);
    size_t n = 0;
    nodes[n++] = keytree_tenant(tenant());
    for (uint32_t o = 0; o < owners; o++) {
        nodes[n++] = owner(o);
        if (o > 0) nodes[n++] = doc(o, 0);
    }
    for (uint32_t d = 0; d < documents; d++) nodes[n++] = doc(0, d);
    CHECK_OK(keytree_add(h->kt, nodes, n));
    mem_free(nodes);
}

/* ---- the plain computation: from a sorted list of (id, hash below), level by level ---- */
typedef struct { id128 id; uint8_t below[HASH_BYTES]; } leaf;

static int by_id(const void *a, const void *b)
{
    return id_compare(((const leaf *)a)->id, ((const leaf *)b)->id);
}

static void plain_map(const leaf *all, size_t count, uint8_t level, uint8_t step, uint8_t out[HASH_BYTES])
{
    memset(out, 0, HASH_BYTES);
    if (count == 0) return;
    buf text;
    buf_init(&text, 1 << 16);
    buf_append_u8(&text, level);
    buf_append_u8(&text, step);
    buf_append_u8(&text, count <= 64 ? (uint8_t)count : 64);
    for (size_t i = 0; count <= 64 && i < count; i++) {
        uint8_t hash[HASH_BYTES];
        hash_plain("lethe key id", bytes_of(all[i].id.b, ID_BYTES), hash);
        buf_append(&text, hash, 16);
        if (level == 1) buf_append(&text, all[i].below, HASH_BYTES);
    }
    for (uint32_t slot = 0, i = 0; count > 64 && slot < 64; slot++) {
        uint8_t child[HASH_BYTES];
        size_t first = i;
        while (i < count && kt_slot_of(all[i].id, step) == slot) i++;
        plain_map(all + first, i - first, level, (uint8_t)(step + 1), child);
        buf_append(&text, child, HASH_BYTES);
    }
    hash_plain(count <= 64 ? "lethe key bucket" : "lethe key branch", buf_bytes(&text), out);
    buf_free(&text);
}

static void plain_root(uint32_t owners, const bool *documents, uint8_t out[HASH_BYTES])
{
    leaf *all = mem_alloc_array(DOCUMENTS + owners + 1, sizeof *all);
    leaf *mine = mem_alloc_array(owners + 1, sizeof *mine);
    for (uint32_t o = 0; o < owners; o++) {
        size_t n = 0;
        if (o > 0) all[n++].id = id_of("doc", 0);
        for (uint32_t d = 0; o == 0 && d < DOCUMENTS; d++)
            if (documents[d]) all[n++].id = id_of("doc", d);
        qsort(all, n, sizeof *all, by_id);
        mine[o].id = id_of("owner", o);
        plain_map(all, n, 2, 0, mine[o].below);
    }
    qsort(mine, owners, sizeof *mine, by_id);
    buf text;
    uint8_t hash[HASH_BYTES];
    plain_map(mine, owners, 1, 0, hash);
    buf_init(&text, 1024);
    buf_append(&text, tenant().b, ID_BYTES);
    buf_append(&text, hash, HASH_BYTES);
    hash_plain("lethe key tenant", buf_bytes(&text), out);
    buf_free(&text);
    mem_free(all);
    mem_free(mine);
}

/* ---- cases ---- */
static void root_is_of_the_ids_alone(void)
{
    house h;
    bool there[DOCUMENTS];
    uint8_t plain[HASH_BYTES];
    keytree_erasure out;
    house_new(&h);
    fill(&h, OWNERS, DOCUMENTS);
    for (uint32_t d = 0; d < DOCUMENTS; d++) there[d] = true;
    for (int round = 0; round < 12; round++) {
        keytree_node targets[40];
        size_t n = 1 + draw(40);
        plain_root(OWNERS, there, plain);
        for (size_t i = 0; i < n; i++) {
            uint32_t d = draw(DOCUMENTS);
            targets[i] = doc(0, d);
            there[d] = false;
        }
        CHECK_OK(keytree_erase(h.kt, targets, n, NULL, NULL, &out));
        CHECK(memcmp(out.subtree_before, plain, HASH_BYTES) == 0);
        plain_root(OWNERS, there, plain);
        CHECK(memcmp(out.subtree_after, plain, HASH_BYTES) == 0);
        buf proof;
        uint8_t root[HASH_BYTES];
        buf_init(&proof, KEYTREE_PROOF_MAX_BYTES);
        CHECK_OK(keytree_absence_prove(h.kt, targets, n, root, &proof));
        CHECK(memcmp(root, plain, HASH_BYTES) == 0);
        CHECK(keytree_absence_verify(buf_bytes(&proof), targets, n, root));
        buf_free(&proof);
    }
    house_end(&h);
}

static void the_present_has_none(void)
{
    house h;
    uint8_t root[HASH_BYTES];
    buf proof;
    int proven = 0, wrong = 0;
    house_new(&h);
    fill(&h, OWNERS, DOCUMENTS);
    buf_init(&proof, KEYTREE_PROOF_MAX_BYTES);
    CHECK_FAILS(keytree_absence_prove(h.kt, (keytree_node[]){doc(0, 3)}, 1, root, &proof), E_PRECONDITION);
    CHECK_FAILS(keytree_absence_prove(h.kt, (keytree_node[]){owner(3)}, 1, root, &proof), E_PRECONDITION);
    CHECK_FAILS(keytree_absence_prove(h.kt, (keytree_node[]){keytree_tenant(tenant())}, 1, root, &proof),
                E_PRECONDITION);
    /* A proof for one that is absent, taken for one that is there. */
    for (uint32_t i = 0; i < 400; i++) {
        keytree_node absent = i % 2 ? doc(0, DOCUMENTS + i) : owner(OWNERS + i);
        keytree_node present = i % 3 ? doc(0, draw(DOCUMENTS)) : owner(draw(OWNERS));
        buf_clear(&proof);
        CHECK_OK(keytree_absence_prove(h.kt, &absent, 1, root, &proof));
        proven += keytree_absence_verify(buf_bytes(&proof), &absent, 1, root);
        wrong += keytree_absence_verify(buf_bytes(&proof), &present, 1, root);
    }
    CHECK(proven == 400 && wrong == 0);
    buf_free(&proof);
    house_end(&h);
}

static void every_change_is_seen(void)
{
    house h;
    keytree_erasure out;
    uint8_t root[HASH_BYTES];
    buf proof;
    const keytree_node targets[] = {doc(0, 5), doc(0, 6), doc(7, 0)};
    house_new(&h);
    fill(&h, 5, 70);
    fill(&h, OWNERS, 70);
    CHECK_OK(keytree_erase(h.kt, targets, 3, NULL, NULL, &out));
    buf_init(&proof, KEYTREE_PROOF_MAX_BYTES);
    CHECK_OK(keytree_absence_prove(h.kt, targets, 3, root, &proof));
    int accepted = 0;
    for (size_t i = 0; i < proof.size; i++) {
        uint8_t bit = (uint8_t)(1u << draw(8));
        proof.data[i] ^= bit;
        accepted += keytree_absence_verify(buf_bytes(&proof), targets, 3, root);
        proof.data[i] ^= bit;
        accepted += keytree_absence_verify(bytes_of(proof.data, i), targets, 3, root);
    }
    buf_append_u8(&proof, 0);
    accepted += keytree_absence_verify(buf_bytes(&proof), targets, 3, root);
    proof.size--;
    CHECK(accepted == 0 && keytree_absence_verify(buf_bytes(&proof), targets, 3, root));
    root[0] ^= 1;
    CHECK(!keytree_absence_verify(buf_bytes(&proof), targets, 3, root));
    buf_free(&proof);
    house_end(&h);
}

static void owners_and_tenants(void)
{
    house h;
    keytree_erasure out;
    uint8_t root[HASH_BYTES];
    buf proof;
    const keytree_node whole = keytree_tenant(tenant()), one = owner(3);
    house_new(&h);
    fill(&h, OWNERS, 10);
    buf_init(&proof, KEYTREE_PROOF_MAX_BYTES);
    CHECK_OK(keytree_erase(h.kt, &one, 1, NULL, NULL, &out));
    CHECK_OK(keytree_absence_prove(h.kt, &one, 1, root, &proof));
    CHECK(keytree_absence_verify(buf_bytes(&proof), &one, 1, root));
    /* A document of an owner that is gone is gone as well. */
    CHECK(keytree_absence_verify(buf_bytes(&proof), (keytree_node[]){doc(3, 0)}, 1, root));
    CHECK(!keytree_absence_verify(buf_bytes(&proof), &whole, 1, root));
    buf_clear(&proof);
    CHECK_OK(keytree_erase(h.kt, &whole, 1, NULL, NULL, &out));
    CHECK_OK(keytree_absence_prove(h.kt, &whole, 1, root, &proof));
    CHECK(proof.size == 0 && memcmp(root, out.subtree_after, HASH_BYTES) == 0);
    CHECK(keytree_absence_verify(buf_bytes(&proof), &whole, 1, root));
    CHECK(memcmp(out.subtree_before, root, HASH_BYTES) != 0);
    buf_free(&proof);
    house_end(&h);
}

int main(void)
{
    RUN(root_is_of_the_ids_alone);
    RUN(the_present_has_none);
    RUN(every_change_is_seen);
    RUN(owners_and_tenants);
    return DONE();
}
