/* keytree_erase: steps 4 to 6 of an erasure. Drawn once:
 *
 *   4  holder:  RK_e | RK_(e+1)
 *   5  pages:   the targets' paths, copied under fresh keys      head.(e+1) under RK_(e+1)
 *      verify:  read all of it back from the disk, opened by the holder
 *   6  holder:  RK_(e+1)                                         <- the commit point
 *      then head.e goes
 *
 * Until 6 the durable tree of epoch e is whole, and any failure returns to it. What the copied
 * pages replace stays readable on the disk for whoever holds head.e and RK_e; the latter is
 * gone. */
#include "keytree_private.h"

#include "mutant.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    keytree *kt;
    keytree_node *targets;          /* sorted */
    size_t count;
    kt_secrets *next;               /* secure */
    kt_txn txn;
    keytree_step_fn *step;
    void *step_ctx;
} erasure;

static void step_done(const erasure *e, int step, const char *what)
{
    if (e->step != NULL) e->step(e->step_ctx, step, what);
}

/* ---- commitment to a tenant's subtree: zeros when the tenant is absent ---- */
static result commit_tenant(keytree *kt, const kt_ref *root, id128 tenant, uint8_t out[HASH_BYTES])
{
    kt_entry entry = {0};
    memset(out, 0, HASH_BYTES);
    result r = kt_find(kt, kt->folders[0].fd, root, 0, tenant, &entry);
    if (is_ok(r)) kt_tenant_root(tenant, entry.sub.hash, out);
    mem_wipe(&entry, sizeof entry);
    return r.code == E_NOT_FOUND || r.code == E_DATA_LOSS ? OK : r;   /* damage must be erasable, too */
}

/* ---- verification: from the disk, as a restart would see it ---- */
enum { CACHE_PAGE_BYTES = 4096 };

typedef struct {
    const erasure *e;
    int fd;
    uint64_t *written;              /* sorted */
    size_t written_seen;
    bool sibling_seen, sibling_opened;
} verifier;

static int compare_numbers(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static result verify_page(verifier *v, const kt_ref *ref, uint8_t level, uint8_t step,
                          const keytree_node *nodes, size_t count);

static result verify_branch(verifier *v, const kt_page *page, const keytree_node *nodes, size_t count)
{
    for (uint32_t slot = 0; slot < KT_FANOUT; slot++) {
        bool here = count > 0 && kt_slot_of(kt_node_id(nodes, page->level), page->step) == slot;
        size_t n = here ? kt_same_slot(nodes, count, page->level, page->step) : 0;
        TRY(verify_page(v, &page->children[slot], page->level, (uint8_t)(page->step + 1), nodes, n));
        nodes += n;
        count -= n;
    }
    return OK;
}

static result verify_bucket(verifier *v, const kt_page *page, const keytree_node *nodes, size_t count)
{
    uint8_t level = page->level;
    for (uint32_t i = 0; i < page->count; i++) {
        const kt_entry *entry = &page->entries[i];
        while (count > 0 && id_compare(kt_node_id(nodes, level), entry->id) < 0) nodes++, count--;
        size_t n = 0;
        for (; n < count && id_equal(kt_node_id(&nodes[n], level), entry->id); n++)
            if (nodes[n].depth == level + 1)
                return fail(E_INTERNAL, "an erased key is still in the new key tree");
        TRY(verify_page(v, &entry->sub, (uint8_t)(level + 1), 0, nodes, n));
    }
    return OK;
}

/* One walk over what was written and over the places of the targets, nodes (sorted), which must be
 * empty. */
static result verify_page(verifier *v, const kt_ref *ref, uint8_t level, uint8_t step,
                          const keytree_node *nodes, size_t count)
{
    if (ref->page == 0) return OK;
    keytree *kt = v->e->kt;
    bool fresh = bsearch(&ref->page, v->written, v->e->txn.written_count, sizeof *v->written,
                         compare_numbers) != NULL;
    if (!fresh && count == 0 && v->sibling_opened) return OK;
    kt_page *page = kt_page_take(kt);
    result r = kt_page_read(v->fd, ref, level, step, page);
    if (!fresh) {
        v->sibling_seen = true;
        v->sibling_opened = v->sibling_opened || is_ok(r);
        if (count == 0) r = OK;     /* one may be damaged from before; not all */
    } else if (is_ok(r)) {
        v->written_seen++;
    }
    if (is_ok(r) && (fresh || count > 0))
        r = page->kind == KT_BRANCH ? verify_branch(v, page, nodes, count)
                                    : verify_bucket(v, page, nodes, count);
    kt_page_give(kt, &page);
    return r;
}

static result verify_tree(verifier *v, const kt_head *head)
{
    TRY(verify_page(v, &head->root, 0, 0, v->e->targets, v->e->count));
    if (v->written_seen != v->e->txn.written_count)
        return fail(E_DATA_LOSS, "the new key tree lacks a page that was written");
    if (v->sibling_seen && !v->sibling_opened)
        return fail(E_DATA_LOSS, "the new key tree opens no page that it kept");
    return OK;
}

/* What was written (and synced) leaves the page cache, so that it is read from the disk: in whole runs of slots, since
 * one read waits no longer than another. The rest stays cached. */
static void written_from_disk(const verifier *v)
{
    const size_t count = v->e->txn.written_count;
    for (size_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && v->written[end] == v->written[end - 1] + 1;) end++;
        uint64_t from = (v->written[i] - 1) * KT_SLOT_BYTES / CACHE_PAGE_BYTES * CACHE_PAGE_BYTES;
        uint64_t size = (v->written[end - 1] * KT_SLOT_BYTES - from + CACHE_PAGE_BYTES - 1) / CACHE_PAGE_BYTES *
                        CACHE_PAGE_BYTES;
        (void)posix_fadvise(v->fd, (off_t)from, (off_t)size, POSIX_FADV_DONTNEED);
        (void)posix_fadvise(v->fd, (off_t)from, (off_t)size, POSIX_FADV_WILLNEED);
    }
}

static result verify_folder(const erasure *e, const kt_folder *folder)
{
    char path[KT_PATH_MAX_BYTES];
    kt_secrets *disk = secure_alloc(sizeof *disk);
    verifier v = {.e = e, .fd = -1};
    uint64_t epoch = e->next->head.epoch;
    size_t written_bytes = e->txn.written_count * sizeof *v.written;
    v.written = mem_alloc(written_bytes);
    if (written_bytes > 0) memcpy(v.written, e->txn.written, written_bytes);
    qsort(v.written, e->txn.written_count, sizeof *v.written, compare_numbers);
    result r;
    TRY_TO(r, kt_head_read(folder, epoch, e->kt->holder, &disk->head), out);
    if (!kt_ref_equal(&disk->head.root, &e->next->head.root) ||
        disk->head.commit != e->next->head.commit) {
        r = fail(E_DATA_LOSS, "the new key tree's head is not the one written");
        goto out;
    }
    TRY_TO(r, path_join(path, sizeof path, folder->dir, "pages"), out);
    v.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (v.fd < 0) {
        r = fail_errno("cannot reopen the key tree");
        goto out;
    }
    written_from_disk(&v);
    r = verify_tree(&v, &disk->head);
out:
    if (v.fd >= 0) close(v.fd);
    mem_free(v.written);
    secure_free(disk);
    return r;
}

/* ---- the steps ---- */
static result discard_next(keytree *kt, uint64_t epoch)
{
    TRY(kt_head_remove(kt, epoch));
    return root_destroy(kt->holder, epoch);
}

static result write_tree(erasure *e)
{
    keytree *kt = e->kt;
    kt_head *head = &e->next->head;
    bool changed;
    TRY(kt_txn_apply(&e->txn, &kt->now->head.root, e->targets, e->count, &head->root, &changed));
    if (!changed) TRY(kt_txn_touch(&e->txn, &head->root));
    TRY(kt_slots_sync(kt));
    head->page_count = kt->page_count;
    head->commit++;
    TRY(kt_head_write(kt, head));
    for (uint32_t i = 0; i < kt->folder_count; i++) TRY(verify_folder(e, &kt->folders[i]));
    return OK;
}

/* The commit point. When destroying fails, the key itself tells on which side it failed: whether it
 * still opens a probe that it sealed while it lived. */
static result destroy_root(erasure *e)
{
    static const char WORD[] = "lethe keytree probe 1";
    keytree *kt = e->kt;
    uint64_t epoch = kt->now->head.epoch;
    if (MUTANT(erase_keeps_root)) return OK;
    buf probe, opened;
    buf_init(&probe, ROOT_SEALED_MAX_BYTES);
    buf_init(&opened, ROOT_PLAIN_MAX_BYTES);
    error_code code = E_OK;
    bool dead = false;
    result r;
    TRY_TO(r, root_seal(kt->holder, epoch, bytes_str(WORD), bytes_str(WORD), &probe), out);
    code = root_destroy(kt->holder, epoch).code;
    if (code == E_OK) goto out;
    r = root_open(kt->holder, epoch, bytes_str(WORD), buf_bytes(&probe), &opened);
    dead = r.code == E_NOT_FOUND || r.code == E_DATA_LOSS;
    kt->broken = !dead && !is_ok(r);
out:
    buf_free(&probe);
    buf_free(&opened);
    if (code == E_OK) return r;
    if (!dead) return fail(code, "the old root key could not be destroyed");
    log_event(LOG_WARN, "root_key_file_left", LOG_NUMBER("epoch", epoch));
    return OK;
}

static result prepare(erasure *e, keytree_erasure *out)
{
    keytree *kt = e->kt;
    TRY(kt_ready(kt));
    uint64_t epoch = kt->now->head.epoch + 1;
    out->epoch_before = out->epoch_after = kt->now->head.epoch;
    uint64_t roots[3];
    size_t count;
    TRY(root_epochs(kt->holder, roots, 3, &count));
    for (size_t i = 0; i < count; i++)      /* what an attempt that failed left behind */
        if (roots[i] == epoch) TRY(discard_next(kt, epoch));
    TRY(root_create(kt->holder, epoch));
    e->next->head = kt->now->head;
    e->next->head.epoch = epoch;
    step_done(e, 4, "new root key created");
    return OK;
}

/* Back to epoch e; where nobody knows whether RK_e lives, both stay, and the next start decides. */
static void back_out(erasure *e)
{
    if (e->kt->broken) {
        kt_txn_forget(&e->txn);
        return;
    }
    result r = discard_next(e->kt, e->kt->now->head.epoch + 1);
    if (!is_ok(r)) log_event(LOG_WARN, "keytree_epoch_left", LOG_TEXT("code",
                             error_code_name(r.code)));
    kt_txn_abort(&e->txn);
}

static result erase_locked(erasure *e, id128 tenant, keytree_erasure *out)
{
    keytree *kt = e->kt;
    result r;
    kt_txn_begin(&e->txn, kt, true);
    TRY_TO(r, prepare(e, out), out);
    if (e->count > 0)
        TRY_TO(r, commit_tenant(kt, &kt->now->head.root, tenant, out->subtree_before), out);
    if (MUTANT(root_destroyed_early)) TRY_TO(r, destroy_root(e), out);
    TRY_TO(r, write_tree(e), out);
    if (e->count > 0)
        TRY_TO(r, commit_tenant(kt, &e->next->head.root, tenant, out->subtree_after), out);
    out->pages_written = (uint32_t)e->txn.written_count;
    step_done(e, 5, "new key tree written and verified");
    if (!MUTANT(root_destroyed_early)) TRY_TO(r, destroy_root(e), out);
    *kt->now = *e->next;
    kt_txn_commit(&e->txn);
    out->epoch_after = kt->now->head.epoch;
    step_done(e, 6, "old root key destroyed");
    if (!is_ok(kt_head_remove(kt, out->epoch_before)))      /* the next start removes it */
        log_event(LOG_WARN, "keytree_old_head_left", LOG_NUMBER("epoch", out->epoch_before));
    return OK;
out:
    {
        char message[256];          /* backing out may fail, too, and would take its place */
        snprintf(message, sizeof message, "%s", r.message);
        back_out(e);
        return fail(r.code, "%s", message);
    }
}

result keytree_erase(keytree *kt, const keytree_node *targets, size_t count, keytree_step_fn *step,
                     void *step_ctx, keytree_erasure *out)
{
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < count; i++)
        if (targets[i].depth < 1 || targets[i].depth > KT_LEVELS)
            return fail(E_INVALID, "a key node's depth is 1 to 3");
    erasure e = {.kt = kt, .count = count, .step = step, .step_ctx = step_ctx};
    e.targets = mem_alloc_array(count, sizeof *e.targets);
    if (count > 0) memcpy(e.targets, targets, count * sizeof *e.targets);
    e.next = secure_alloc(sizeof *e.next);
    pthread_rwlock_wrlock(&kt->lock);
    result r = erase_locked(&e, count > 0 ? targets[0].tenant : (id128){{0}}, out);
    pthread_rwlock_unlock(&kt->lock);
    secure_free(e.next);
    mem_free(e.targets);
    return r;
}
