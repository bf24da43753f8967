/* keytree: opening, adding, reading. Erasure is in keytree_erase.c, the layout in
 * keytree_private.h.
 *
 * Opening settles an epoch change that was cut off. The holder's keys say where it stood: both
 * roots live before the commit point (the older tree counts, the newer is discarded), only the
 * newer lives after it. An older root that no longer opens its head was being destroyed: that is
 * after it, too. */
#include "keytree_private.h"

#include <inttypes.h>
#include <string.h>

/* ---- nodes ---- */
keytree_node keytree_tenant(id128 tenant)
{
    return (keytree_node){.depth = 1, .tenant = tenant};
}

keytree_node keytree_owner(id128 tenant, id128 owner)
{
    return (keytree_node){.depth = 2, .tenant = tenant, .owner = owner};
}

keytree_node keytree_document(id128 tenant, id128 owner, id128 document)
{
    return (keytree_node){3, tenant, owner, document};
}

/* ---- opening ---- */
static keytree *keytree_new(root_holder *holder)
{
    keytree *kt = mem_alloc(sizeof *kt);
    pthread_rwlock_init(&kt->lock, NULL);
    pthread_mutex_init(&kt->pool_lock, NULL);
    kt->holder = holder;
    kt->now = secure_alloc(sizeof *kt->now);
    return kt;
}

void keytree_close(keytree **out)
{
    keytree *kt = *out;
    *out = NULL;
    if (kt == NULL) return;
    for (uint32_t i = 0; i < 2; i++) kt_folder_close(&kt->folders[i]);
    while (kt->pool != NULL) {
        kt_page *page = kt->pool;
        kt->pool = page->next;
        secure_free(page);
    }
    secure_free(kt->now);
    mem_free(kt->free_pages);
    pthread_mutex_destroy(&kt->pool_lock);
    pthread_rwlock_destroy(&kt->lock);
    mem_free(kt);
}

static bool has_tree(const char *dir)
{
    uint64_t epoch;
    size_t count;
    return is_ok(dir_numbers(dir, "head.", &epoch, 1, &count)) && count > 0;
}

static result folders_open(keytree *kt, const char *dir, const char *mirror, bool create)
{
    kt->folder_count = 1;
    TRY(kt_folder_open(&kt->folders[0], dir, create));
    if (mirror == NULL) return OK;
    kt->folder_count = 2;
    return kt_folder_open(&kt->folders[1], mirror, true);
}

result keytree_create(keytree **out, const char *dir, const char *mirror, root_holder *holder)
{
    uint64_t epoch;
    size_t count;
    *out = NULL;
    if (has_tree(dir)) return fail(E_EXISTS, "there already is a key tree in %s", dir);
    if (mirror != NULL && has_tree(mirror))
        return fail(E_EXISTS, "there already is a key tree in the mirror %s", mirror);
    TRY(root_epochs(holder, &epoch, 1, &count));
    if (count > 0)
        return fail(E_PRECONDITION, "the root holder already has a root key, but there is no key "
                    "tree: restore the tree from its mirror, or take another root folder");
    keytree *kt = keytree_new(holder);
    result r;
    TRY_TO(r, folders_open(kt, dir, mirror, true), out);
    TRY_TO(r, root_create(holder, 1), out);
    kt->now->head.epoch = 1;
    TRY_TO(r, kt_head_write(kt, &kt->now->head), out);
    *out = kt;
    return OK;
out:
    keytree_close(&kt);
    return r;
}

static result no_tree(const char *dir, const char *mirror)
{
    if (mirror != NULL && has_tree(mirror))
        return fail(E_NOT_FOUND, "there is no key tree in %s, but its mirror %s has it: copy the "
                    "mirror's files there", dir, mirror);
    return fail(E_NOT_FOUND, "there is no key tree in %s", dir);
}

/* Loads the head of an epoch; both its key and its head must be whole. */
static result epoch_load(keytree *kt, uint64_t epoch)
{
    return kt_head_read(&kt->folders[0], epoch, kt->holder, &kt->now->head);
}

/* None of the holder's keys opened a head: say which of the two is behind. */
static result no_epoch(const keytree *kt, uint64_t newest_root)
{
    uint64_t heads[16];
    size_t count;
    TRY(dir_numbers(kt->folders[0].dir, "head.", heads, 16, &count));
    for (size_t i = 0; i < count; i++)
        if (heads[i] == newest_root)
            return fail(E_DATA_LOSS, "the key tree's head or its root key is damaged");
    uint64_t newest_head = count > 0 ? heads[count - 1] : 0;
    if (newest_head < newest_root)
        return fail(E_PRECONDITION, "the key tree is older than the root holder (epoch %" PRIu64
                    " against %" PRIu64 "): what was erased since cannot come back; use the live "
                    "tree or its mirror", newest_head, newest_root);
    return fail(E_PRECONDITION, "the root holder has no key for the key tree's epoch %" PRIu64,
                newest_head);
}

/* Chooses the epoch that counts, loads it, makes the mirror equal, and only then removes the
 * rest. */
static result settle(keytree *kt)
{
    uint64_t roots[3];
    size_t count, used = 0;
    TRY(root_epochs(kt->holder, roots, 3, &count));
    if (count == 0) return fail(E_PRECONDITION, "the root holder has no root key");
    if (count > 2 || (count == 2 && roots[1] != roots[0] + 1))
        return fail(E_PRECONDITION, "the root holder has several root keys that do not follow one "
                    "another");
    for (; used < count; used++) {
        result r = epoch_load(kt, roots[used]);
        if (is_ok(r)) break;
        if (r.code != E_DATA_LOSS && r.code != E_NOT_FOUND) return r;
    }
    if (used == count) return no_epoch(kt, roots[count - 1]);
    TRY(kt_free_rebuild(kt));
    TRY(kt_mirror_sync(kt));
    TRY(kt_heads_keep(kt, roots[used]));
    for (size_t i = 0; i < count; i++)
        if (i != used) TRY(root_destroy(kt->holder, roots[i]));
    return OK;
}

result keytree_open(keytree **out, const char *dir, const char *mirror, root_holder *holder)
{
    *out = NULL;
    if (!has_tree(dir)) return no_tree(dir, mirror);
    keytree *kt = keytree_new(holder);
    result r;
    TRY_TO(r, folders_open(kt, dir, mirror, false), out);
    TRY_TO(r, settle(kt), out);
    *out = kt;
    return OK;
out:
    keytree_close(&kt);
    return r;
}

uint64_t keytree_epoch(keytree *kt)
{
    pthread_rwlock_rdlock(&kt->lock);
    uint64_t epoch = kt->now->head.epoch;
    pthread_rwlock_unlock(&kt->lock);
    return epoch;
}

/* ---- adding ---- */
static result add_locked(keytree *kt, keytree_node *nodes, size_t count)
{
    TRY(kt_ready(kt));
    kt_head head = kt->now->head;
    kt_txn txn;
    bool changed = false;
    kt_txn_begin(&txn, kt, false);
    result r = kt_txn_apply(&txn, &kt->now->head.root, nodes, count, &head.root, &changed);
    if (is_ok(r) && changed) r = kt_slots_sync(kt);
    if (!is_ok(r) || !changed) {
        kt_txn_abort(&txn);
        goto out;
    }
    head.page_count = kt->page_count;
    head.commit++;
    r = kt_head_write(kt, &head);
    if (is_ok(r)) {
        kt->now->head = head;
        kt_txn_commit(&txn);
    } else {
        kt->reload = true;
        kt_txn_forget(&txn);
    }
out:
    mem_wipe(&head, sizeof head);
    return r;
}

result keytree_add(keytree *kt, const keytree_node *nodes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (nodes[i].depth < 1 || nodes[i].depth > KT_LEVELS)
            return fail(E_INVALID, "a key node's depth is 1 to 3");
    if (count == 0) return OK;
    keytree_node *sorted = mem_alloc_array(count, sizeof *sorted);
    memcpy(sorted, nodes, count * sizeof *sorted);
    pthread_rwlock_wrlock(&kt->lock);
    result r = add_locked(kt, sorted, count);
    pthread_rwlock_unlock(&kt->lock);
    mem_free(sorted);
    return r;
}

/* ---- reading ---- */
result keytree_secret(keytree *kt, keytree_node node, uint8_t secret[KEY_BYTES])
{
    if (node.depth < 1 || node.depth > KT_LEVELS)
        return fail(E_INVALID, "a key node's depth is 1 to 3");
    kt_entry entry = {0};
    pthread_rwlock_rdlock(&kt->lock);
    result r = kt_lookup(kt, kt->folders[0].fd, &kt->now->head.root, node, &entry);
    pthread_rwlock_unlock(&kt->lock);
    if (is_ok(r)) memcpy(secret, entry.secret, KEY_BYTES);
    mem_wipe(&entry, sizeof entry);
    return r;
}

/* The map below a node. The lock is held. */
static result map_below(keytree *kt, keytree_node parent, kt_ref *map)
{
    if (parent.depth >= KT_LEVELS) return fail(E_INVALID, "nothing lies below a document's key");
    if (parent.depth == 0) {
        *map = kt->now->head.root;
        return OK;
    }
    kt_entry entry = {0};
    result r = kt_lookup(kt, kt->folders[0].fd, &kt->now->head.root, parent, &entry);
    if (is_ok(r)) *map = entry.sub;
    mem_wipe(&entry, sizeof entry);
    return r;
}

typedef struct {
    result (*visit)(void *ctx, id128 id, const uint8_t secret[KEY_BYTES]);
    void *ctx;
} visitor;

static result visit_entry(void *ctx, const kt_entry *entry)
{
    const visitor *v = ctx;
    return v->visit(v->ctx, entry->id, entry->secret);
}

result keytree_each(keytree *kt, keytree_node parent,
                    result (*visit)(void *ctx, id128 id, const uint8_t secret[KEY_BYTES]),
                    void *ctx)
{
    kt_ref map = {0};
    visitor v = {visit, ctx};
    pthread_rwlock_rdlock(&kt->lock);
    result r = map_below(kt, parent, &map);
    if (is_ok(r)) r = kt_each(kt, kt->folders[0].fd, &map, parent.depth, 0, visit_entry, &v);
    pthread_rwlock_unlock(&kt->lock);
    mem_wipe(&map, sizeof map);
    return r;
}

result keytree_count(keytree *kt, keytree_node parent, uint64_t *count)
{
    kt_ref map = {0};
    *count = 0;
    pthread_rwlock_rdlock(&kt->lock);
    result r = map_below(kt, parent, &map);
    pthread_rwlock_unlock(&kt->lock);
    if (is_ok(r)) *count = map.count;
    mem_wipe(&map, sizeof map);
    return r;
}
