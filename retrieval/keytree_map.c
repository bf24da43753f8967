/* keytree_map: reading the radix maps, and the walk that finds which slots are free. Nothing is
 * cached: a lookup opens the pages of its path (3 to 6 for millions of ids) and wipes them. */
#include "keytree_private.h"

#include <string.h>
#include <sys/stat.h>

/* Guarded pages are costly to make, so a few are kept, wiped. */
kt_page *kt_page_take(keytree *kt)
{
    pthread_mutex_lock(&kt->pool_lock);
    kt_page *page = kt->pool;
    if (page != NULL) {
        kt->pool = page->next;
        kt->pool_count--;
    }
    pthread_mutex_unlock(&kt->pool_lock);
    if (page == NULL) page = secure_alloc(sizeof *page);
    page->next = NULL;
    return page;
}

void kt_page_give(keytree *kt, kt_page **page)
{
    kt_page *p = *page;
    *page = NULL;
    if (p == NULL) return;
    mem_wipe(p, sizeof *p);
    pthread_mutex_lock(&kt->pool_lock);
    bool keep = kt->pool_count < KT_POOL_MAX;
    if (keep) {
        p->next = kt->pool;
        kt->pool = p;
        kt->pool_count++;
    }
    pthread_mutex_unlock(&kt->pool_lock);
    if (!keep) secure_free(p);
}

/* What a lookup's path holds when it does not lead to the id: absent, denied and erased alike. */
static result absent(void)
{
    return fail(E_NOT_FOUND, "%s", IFC_NOT_FOUND);
}

static const kt_entry *bucket_search(const kt_page *page, id128 id)
{
    size_t low = 0, high = page->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = id_compare(page->entries[middle].id, id);
        if (order == 0) return &page->entries[middle];
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

result kt_find(keytree *kt, int fd, const kt_ref *map, uint8_t level, id128 id, kt_entry *out)
{
    kt_page *page = kt_page_take(kt);
    kt_ref at = *map;
    result r = OK;
    for (uint8_t step = 0;; step++) {
        if (at.page == 0) {
            r = absent();
            break;
        }
        TRY_TO(r, kt_page_read(fd, &at, level, step, page), out);
        if (page->kind == KT_BRANCH) {
            at = page->children[kt_slot_of(id, step)];
            continue;
        }
        const kt_entry *entry = bucket_search(page, id);
        if (entry != NULL) *out = *entry;
        else r = absent();
        break;
    }
out:
    mem_wipe(&at, sizeof at);
    kt_page_give(kt, &page);
    return r;
}

result kt_lookup(keytree *kt, int fd, const kt_ref *root, keytree_node node, kt_entry *out)
{
    ASSERT(node.depth >= 1 && node.depth <= KT_LEVELS);
    const id128 ids[KT_LEVELS] = {node.tenant, node.owner, node.document};
    kt_ref map = *root;
    result r = OK;
    for (uint8_t level = 0; level < node.depth && is_ok(r); level++) {
        r = kt_find(kt, fd, &map, level, ids[level], out);
        if (is_ok(r)) map = out->sub;
    }
    mem_wipe(&map, sizeof map);
    return r;
}

result kt_each(keytree *kt, int fd, const kt_ref *map, uint8_t level, uint8_t step,
               kt_visit_fn *visit, void *ctx)
{
    if (map->page == 0) return OK;
    kt_page *page = kt_page_take(kt);
    result r;
    TRY_TO(r, kt_page_read(fd, map, level, step, page), out);
    if (page->kind == KT_BRANCH)
        for (size_t i = 0; i < KT_FANOUT && is_ok(r); i++)
            r = kt_each(kt, fd, &page->children[i], level, (uint8_t)(step + 1), visit, ctx);
    else
        for (size_t i = 0; i < page->count && is_ok(r); i++) r = visit(ctx, &page->entries[i]);
out:
    kt_page_give(kt, &page);
    return r;
}

/* ---- free slots ---- */
void kt_free_push(keytree *kt, uint64_t number)
{
    ASSERT(number >= 1 && number <= kt->page_count);
    if (kt->free_count == kt->free_capacity) {
        kt->free_capacity = kt->free_capacity ? kt->free_capacity * 2 : 64;
        kt->free_pages = mem_realloc(kt->free_pages, kt->free_capacity * sizeof *kt->free_pages);
    }
    kt->free_pages[kt->free_count++] = number;
}

typedef struct { uint8_t *used; uint64_t page_count, bad; } marks;

/* A page that does not open here but does in the mirror is put back: its key fits one content. */
static result read_or_repair(keytree *kt, const kt_ref *ref, uint8_t level, uint8_t step,
                             kt_page *page)
{
    result r = kt_page_read(kt->folders[0].fd, ref, level, step, page);
    if (r.code != E_DATA_LOSS || kt->folder_count < 2) return r;
    if (!is_ok(kt_page_read(kt->folders[1].fd, ref, level, step, page))) return r;
    TRY(kt_slot_repair(kt, ref->page));
    log_event(LOG_WARN, "keytree_page_repaired", LOG_NUMBER("page", ref->page));
    return OK;
}

static result mark(keytree *kt, marks *m, const kt_ref *ref, uint8_t level, uint8_t step)
{
    if (ref->page == 0) return OK;
    if (ref->page > m->page_count || m->used[ref->page - 1]) {
        m->bad++;
        return OK;
    }
    m->used[ref->page - 1] = 1;
    kt_page *page = kt_page_take(kt);
    result r = read_or_repair(kt, ref, level, step, page);
    if (r.code == E_DATA_LOSS) {
        log_event(LOG_ERROR, "keytree_page_damaged", LOG_NUMBER("page", ref->page));
        m->bad++;
        r = OK;
    } else if (is_ok(r) && page->kind == KT_BRANCH) {
        for (size_t i = 0; i < KT_FANOUT && is_ok(r); i++)
            r = mark(kt, m, &page->children[i], level, (uint8_t)(step + 1));
    } else if (is_ok(r)) {
        for (size_t i = 0; i < page->count && is_ok(r); i++)
            r = mark(kt, m, &page->entries[i].sub, (uint8_t)(level + 1), 0);
    }
    kt_page_give(kt, &page);
    return r;
}

/* A damaged page hides which slots its subtree uses; then none is reused, and the rest is
 * served. */
result kt_free_rebuild(keytree *kt)
{
    struct stat st;
    if (fstat(kt->folders[0].fd, &st) != 0) return fail_errno("cannot look at the key tree");
    uint64_t slots = ((uint64_t)st.st_size + KT_SLOT_BYTES - 1) / KT_SLOT_BYTES;
    if (slots < kt->now->head.page_count) slots = kt->now->head.page_count;
    marks m = {mem_alloc((size_t)slots), slots, 0};
    kt->page_count = slots;
    kt->free_count = 0;
    result r = mark(kt, &m, &kt->now->head.root, 0, 0);
    kt->damaged = m.bad > 0;
    for (uint64_t n = slots; is_ok(r) && !kt->damaged && n >= 1; n--)
        if (!m.used[n - 1]) kt_free_push(kt, n);
    mem_free(m.used);
    return r;
}

result kt_ready(keytree *kt)
{
    if (kt->broken)
        return fail(E_UNAVAILABLE, "the root holder failed during an erasure: start again");
    if (!kt->reload) return OK;
    TRY(kt_head_read(&kt->folders[0], kt->now->head.epoch, kt->holder, &kt->now->head));
    TRY(kt_free_rebuild(kt));
    TRY(kt_mirror_sync(kt));
    kt->reload = false;
    return OK;
}
