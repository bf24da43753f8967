/* The key tree on real files, and ids that are the same in every run. */
#ifndef LETHE_KEYTREE_HOUSE_H
#define LETHE_KEYTREE_HOUSE_H

#include "keytree.h"
#include "retrieval/keytree_private.h"
#include "test.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    char base[256], dir[320], mirror[320], root[320];
    root_holder *holder;
    keytree *kt;
} house;

static inline void paths(house *h)
{
    snprintf(h->dir, sizeof h->dir, "%s/keytree", h->base);
    snprintf(h->mirror, sizeof h->mirror, "%s/mirror", h->base);
    snprintf(h->root, sizeof h->root, "%s/root", h->base);
}

static inline result house_open(house *h, bool create, bool mirror)
{
    const char *second = mirror ? h->mirror : NULL;
    TRY(root_file_open(&h->holder, h->root, create));
    return create ? keytree_create(&h->kt, h->dir, second, h->holder)
                  : keytree_open(&h->kt, h->dir, second, h->holder);
}

static inline void house_close(house *h)
{
    keytree_close(&h->kt);
    root_holder_close(&h->holder);
}

static inline void house_new(house *h, bool mirror)
{
    memset(h, 0, sizeof *h);
    test_tmpdir(h->base);
    paths(h);
    CHECK_OK(house_open(h, true, mirror));
}

static inline void house_end(house *h)
{
    house_close(h);
    test_tmpdir_remove(h->base);
}

static inline void shell(const char *fmt, const char *a, const char *b)
{
    char command[1400];
    snprintf(command, sizeof command, fmt, a, b);
    CHECK(system(command) == 0);
}

/* Ids that are spread as hashes are, the same in every run. */
static inline id128 id_of(const char *kind, uint32_t n)
{
    uint8_t hash[HASH_BYTES];
    id128 id;
    hash_plain(kind, bytes_of(&n, sizeof n), hash);
    memcpy(id.b, hash, ID_BYTES);
    return id;
}

static id128 tenant_id(uint32_t n) { return id_of("tenant", n); }
static id128 owner_id(uint32_t n) { return id_of("owner", n); }
static id128 doc_id(uint32_t n) { return id_of("doc", n); }
static inline keytree_node doc(uint32_t owner, uint32_t n)
{
    return keytree_document(tenant_id(1), owner_id(owner), doc_id(n));
}

static inline result add_docs(keytree *kt, uint32_t owner, uint32_t from, uint32_t to)
{
    size_t n = 0;
    keytree_node *nodes = mem_alloc_array((size_t)(to - from) + 2, sizeof *nodes);
    nodes[n++] = keytree_tenant(tenant_id(1));
    nodes[n++] = keytree_owner(tenant_id(1), owner_id(owner));
    for (uint32_t i = from; i < to; i++) nodes[n++] = doc(owner, i);
    result r = keytree_add(kt, nodes, n);
    mem_free(nodes);
    return r;
}

static inline result erase(keytree *kt, const keytree_node *nodes, size_t count)
{
    keytree_erasure out;
    return keytree_erase(kt, nodes, count, NULL, NULL, &out);
}

/* Page numbers, levels and steps on the way to a node. */
static inline size_t path_of(keytree *kt, keytree_node node, kt_ref *refs, uint8_t (*where)[2])
{
    const id128 ids[] = {node.tenant, node.owner, node.document};
    kt_ref at = kt->now->head.root;
    size_t n = 0;
    kt_page *page = kt_page_take(kt);
    for (uint8_t level = 0, step = 0; level < node.depth;) {
        CHECK_OK(kt_page_read(kt->folders[0].fd, &at, level, step, page));
        refs[n] = at;
        where[n][0] = level;
        where[n++][1] = step;
        if (page->kind == KT_BRANCH) {
            at = page->children[kt_slot_of(ids[level], step++)];
            continue;
        }
        for (uint32_t i = 0; i < page->count; i++)
            if (id_equal(page->entries[i].id, ids[level])) at = page->entries[i].sub;
        level++;
        step = 0;
    }
    kt_page_give(kt, &page);
    return n;
}

#endif
