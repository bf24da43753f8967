/* keytree_proof: the Merkle tree over the key tree's ids, and proofs that an id is not in it.
 *
 *   bucket  H("bucket", level, step, count, for each entry: short hash of its id, hash of the map below)
 *   branch  H("branch", level, step, the 64 children's hashes)      an empty map: zeros
 *   tenant  H("tenant", its id, hash of its map of owners)
 *
 * Maps have canonical shape, so an id has one place, and a path of pages that ends there without it proves that
 * it is absent. A proof is that part of the tree, depth first; a node is a byte and
 *   0 empty   1 hash (32)   2 bucket: count, for each entry short hash, and above the documents a node
 *   3 branch: 64 nodes
 * Hashes are in every reference (kt_ref) and kept up as pages are written, so that nothing is walked but paths.
 */
#include "keytree_private.h"

#include "mutant.h"

#include <stdlib.h>
#include <string.h>

enum { SHORT_BYTES = 16, NODE_EMPTY = 0, NODE_HASH = 1, NODE_BUCKET = 2, NODE_BRANCH = 3 };
static const char BUCKET[] = "lethe key bucket", BRANCH[] = "lethe key branch", TENANT[] = "lethe key tenant",
                  ID[] = "lethe key id";

id128 kt_node_id(const keytree_node *node, uint8_t level)
{
    return level == 0 ? node->tenant : level == 1 ? node->owner : node->document;
}

int kt_node_compare(const void *left, const void *right)
{
    const keytree_node *a = left, *b = right;
    for (uint8_t level = 0; level < KT_LEVELS; level++) {
        bool has_a = level < a->depth, has_b = level < b->depth;
        if (!has_a || !has_b) return (int)has_a - (int)has_b;
        int order = id_compare(kt_node_id(a, level), kt_node_id(b, level));
        if (order != 0) return order;
    }
    return 0;
}

static void short_hash(id128 id, uint8_t out[SHORT_BYTES])
{
    uint8_t whole[HASH_BYTES];
    hash_plain(ID, bytes_of(id.b, ID_BYTES), whole);
    memcpy(out, whole, SHORT_BYTES);
}

/* ---- hashes ---- */
typedef struct { uint8_t data[3 + KT_FANOUT * (SHORT_BYTES + HASH_BYTES)]; size_t size; } preimage;

static void add(preimage *p, const void *data, size_t size)
{
    ASSERT(size <= sizeof p->data - p->size);
    memcpy(p->data + p->size, data, size);
    p->size += size;
}

static void begin(preimage *p, uint8_t level, uint8_t step, uint8_t count)
{
    const uint8_t head[3] = {level, step, count};
    p->size = 0;
    add(p, head, sizeof head);
}

void kt_page_hash(const kt_page *page, uint8_t hash[HASH_BYTES])
{
    preimage p;
    bool branch = page->kind == KT_BRANCH;
    begin(&p, page->level, page->step, branch ? KT_FANOUT : (uint8_t)page->count);
    for (size_t i = 0; i < (branch ? KT_FANOUT : page->count); i++) {
        uint8_t brief[SHORT_BYTES];
        if (branch) {
            add(&p, page->children[i].hash, HASH_BYTES);
            continue;
        }
        short_hash(page->entries[i].id, brief);
        add(&p, brief, sizeof brief);
        if (page->level + 1 < KT_LEVELS) add(&p, page->entries[i].sub.hash, HASH_BYTES);
    }
    hash_plain(branch ? BRANCH : BUCKET, bytes_of(p.data, p.size), hash);
}

void kt_tenant_root(id128 tenant, const uint8_t hash[HASH_BYTES], uint8_t root[HASH_BYTES])
{
    uint8_t both[ID_BYTES + HASH_BYTES];
    memcpy(both, tenant.b, ID_BYTES);
    memcpy(both + ID_BYTES, hash, HASH_BYTES);
    hash_plain(TENANT, bytes_of(both, sizeof both), root);
}

/* ---- proving ---- */
size_t kt_same_slot(const keytree_node *nodes, size_t count, uint8_t level, uint8_t step)
{
    size_t n = 1;
    uint32_t slot = kt_slot_of(kt_node_id(&nodes[0], level), step);
    while (n < count && kt_slot_of(kt_node_id(&nodes[n], level), step) == slot) n++;
    return n;
}

static void put_hash(buf *proof, const kt_ref *ref)
{
    buf_append_u8(proof, ref->page == 0 ? NODE_EMPTY : NODE_HASH);
    if (ref->page != 0) buf_append(proof, ref->hash, HASH_BYTES);
}

typedef struct { keytree *kt; buf *proof; bool present; } proving;

static result prove(proving *v, const kt_ref *map, uint8_t level, uint8_t step, const keytree_node *nodes,
                    size_t count);

static result prove_branch(proving *v, const kt_page *page, const keytree_node *nodes, size_t count)
{
    buf_append_u8(v->proof, NODE_BRANCH);
    for (uint32_t slot = 0; slot < KT_FANOUT; slot++) {
        bool here = count > 0 && kt_slot_of(kt_node_id(nodes, page->level), page->step) == slot;
        if (!here) {
            put_hash(v->proof, &page->children[slot]);
            continue;
        }
        size_t n = kt_same_slot(nodes, count, page->level, page->step);
        TRY(prove(v, &page->children[slot], page->level, (uint8_t)(page->step + 1), nodes, n));
        nodes += n;
        count -= n;
    }
    return OK;
}

static result prove_bucket(proving *v, const kt_page *page, const keytree_node *nodes, size_t count)
{
    uint8_t brief[SHORT_BYTES], level = page->level;
    buf_append_u8(v->proof, NODE_BUCKET);
    buf_append_u8(v->proof, (uint8_t)page->count);
    for (size_t i = 0; i < page->count; i++) {
        const kt_entry *entry = &page->entries[i];
        short_hash(entry->id, brief);
        buf_append(v->proof, brief, sizeof brief);
        while (count > 0 && id_compare(kt_node_id(nodes, level), entry->id) < 0) nodes++, count--;
        size_t n = 0;
        for (; n < count && id_equal(kt_node_id(&nodes[n], level), entry->id); n++)
            if (nodes[n].depth == level + 1) v->present = true;
        if (level + 1 == KT_LEVELS) continue;
        if (n == 0) put_hash(v->proof, &entry->sub);
        else TRY(prove(v, &entry->sub, (uint8_t)(level + 1), 0, nodes, n));
    }
    return OK;
}

static result prove(proving *v, const kt_ref *map, uint8_t level, uint8_t step, const keytree_node *nodes,
                    size_t count)
{
    if (map->page == 0) {
        buf_append_u8(v->proof, NODE_EMPTY);
        return OK;
    }
    kt_page *page = kt_page_take(v->kt);
    result r = kt_page_read(v->kt->folders[0].fd, map, level, step, page);
    if (is_ok(r))
        r = page->kind == KT_BRANCH ? prove_branch(v, page, nodes, count)
                                    : prove_bucket(v, page, nodes, count);
    kt_page_give(v->kt, &page);
    return r;
}

static keytree_node *sorted(const keytree_node *targets, size_t count)
{
    keytree_node *nodes = mem_alloc_array(count, sizeof *nodes);
    memcpy(nodes, targets, count * sizeof *nodes);
    qsort(nodes, count, sizeof *nodes, kt_node_compare);
    return nodes;
}

result keytree_absence_prove(keytree *kt, const keytree_node *targets, size_t count, uint8_t root[HASH_BYTES],
                             buf *proof)
{
    ASSERT(count > 0);
    memset(root, 0, HASH_BYTES);
    keytree_node *nodes = sorted(targets, count);
    kt_entry tenant = {0};
    proving v = {kt, proof, false};
    pthread_rwlock_rdlock(&kt->lock);
    result r = kt_find(kt, kt->folders[0].fd, &kt->now->head.root, 0, nodes[0].tenant, &tenant);
    if (is_ok(r)) {
        kt_tenant_root(nodes[0].tenant, tenant.sub.hash, root);
        v.present = nodes[0].depth == 1;
        if (!v.present) r = prove(&v, &tenant.sub, 1, 0, nodes, count);
    } else if (r.code == E_NOT_FOUND) {
        r = OK;
    }
    pthread_rwlock_unlock(&kt->lock);
    mem_wipe(&tenant, sizeof tenant);
    mem_free(nodes);
    TRY(r);
    if (v.present) return fail(E_PRECONDITION, "a key that is to be proven absent is there");
    return buf_check(proof);
}

/* ---- verifying ---- */
/* Reads one node, gives its hash. False: malformed, or a target is there or not shown to be absent. */
static bool verify(reader *in, uint8_t level, uint8_t step, const keytree_node *nodes, size_t count,
                   uint8_t hash[HASH_BYTES]);

static bool verify_branch(reader *in, uint8_t level, uint8_t step, const keytree_node *nodes, size_t count,
                          uint8_t hash[HASH_BYTES])
{
    preimage p;
    if (step + 1 >= KT_STEPS_MAX) return false;
    begin(&p, level, step, KT_FANOUT);
    for (uint32_t slot = 0; slot < KT_FANOUT; slot++) {
        uint8_t child[HASH_BYTES];
        bool here = count > 0 && kt_slot_of(kt_node_id(nodes, level), step) == slot;
        size_t n = here ? kt_same_slot(nodes, count, level, step) : 0;
        if (!verify(in, level, (uint8_t)(step + 1), nodes, n, child)) return false;
        nodes += n;
        count -= n;
        add(&p, child, HASH_BYTES);
    }
    hash_plain(BRANCH, bytes_of(p.data, p.size), hash);
    return true;
}

static bool verify_bucket(reader *in, uint8_t level, uint8_t step, const keytree_node *nodes, size_t count,
                          uint8_t hash[HASH_BYTES])
{
    preimage p;
    uint8_t entries = reader_u8(in);
    if (in->bad || entries < 1 || entries > KT_FANOUT) return false;
    begin(&p, level, step, entries);
    for (size_t i = 0; i < entries; i++) {
        uint8_t child[HASH_BYTES], own[SHORT_BYTES];
        const uint8_t *brief = reader_take(in, SHORT_BYTES);
        if (brief == NULL) return false;
        add(&p, brief, SHORT_BYTES);
        size_t first = 0, n = 0;               /* the targets of this entry's id: contiguous */
        for (size_t t = 0; t < count; t++) {
            short_hash(kt_node_id(&nodes[t], level), own);
            if (memcmp(own, brief, SHORT_BYTES) != 0) continue;
            if (nodes[t].depth == level + 1 && !MUTANT(absence_unchecked)) return false;
            if (n++ == 0) first = t;
        }
        if (level + 1 == KT_LEVELS) continue;
        if (!verify(in, (uint8_t)(level + 1), 0, nodes + first, n, child)) return false;
        add(&p, child, HASH_BYTES);
    }
    hash_plain(BUCKET, bytes_of(p.data, p.size), hash);
    return true;
}

static bool verify(reader *in, uint8_t level, uint8_t step, const keytree_node *nodes, size_t count,
                   uint8_t hash[HASH_BYTES])
{
    switch (reader_u8(in)) {
    case NODE_EMPTY:
        memset(hash, 0, HASH_BYTES);
        return !in->bad;
    case NODE_HASH: {
        const uint8_t *given = reader_take(in, HASH_BYTES);
        if (given == NULL || count > 0) return false;
        memcpy(hash, given, HASH_BYTES);
        for (size_t i = 0; i < HASH_BYTES; i++)
            if (given[i] != 0) return true;
        return false;                          /* empty has one spelling */
    }
    case NODE_BUCKET: return verify_bucket(in, level, step, nodes, count, hash);
    case NODE_BRANCH: return verify_branch(in, level, step, nodes, count, hash);
    default: return false;
    }
}

bool keytree_absence_verify(bytes proof, const keytree_node *targets, size_t count,
                            const uint8_t root[HASH_BYTES])
{
    static const uint8_t gone[HASH_BYTES];
    if (count == 0) return false;
    for (size_t i = 0; i < count; i++)
        if (targets[i].depth < 1 || targets[i].depth > KT_LEVELS ||
            !id_equal(targets[i].tenant, targets[0].tenant))
            return false;
    if (memcmp(root, gone, HASH_BYTES) == 0) return proof.size == 0;
    keytree_node *nodes = sorted(targets, count);
    uint8_t hash[HASH_BYTES], computed[HASH_BYTES];
    reader in = reader_of(proof);
    bool good = nodes[0].depth > 1 && verify(&in, 1, 0, nodes, count, hash) && is_ok(reader_done(&in, "proof"));
    if (good) kt_tenant_root(nodes[0].tenant, hash, computed);
    mem_free(nodes);
    return good && memcmp(computed, root, HASH_BYTES) == 0;
}
