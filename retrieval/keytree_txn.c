/* keytree_txn: one change of the tree. Nodes are sorted, so that a page on several paths is written
 * once. Every page written gets a free slot and a fresh key; the durable tree stays as it is until
 * a head refers to the new root. The shape is canonical: up to 64 ids are a bucket, more a
 * branch. */
#include "keytree_private.h"

#include "mutant.h"

#include <stdlib.h>
#include <string.h>

/* Entries in guarded memory: a pooled page's where they fit. */
typedef struct { kt_entry *at; size_t count, capacity; kt_page *page; } entry_list;
/* A part of one map: its place, and the nodes that concern it (sorted, all deeper than level). */
typedef struct { uint8_t level, step; const keytree_node *nodes; size_t count; } part;

static result apply(kt_txn *txn, const kt_ref *in, part p, kt_ref *out, bool *changed);

void kt_txn_begin(kt_txn *txn, keytree *kt, bool removing)
{
    *txn = (kt_txn){.kt = kt, .removing = removing,
                    .keep_keys = removing && MUTANT(erase_keeps_path)};
}

static void push(uint64_t **list, size_t *count, size_t *capacity, uint64_t number)
{
    if (*count == *capacity) {
        *capacity = *capacity ? *capacity * 2 : 64;
        *list = mem_realloc(*list, *capacity * sizeof **list);
    }
    (*list)[(*count)++] = number;
}

static void retire(kt_txn *txn, uint64_t number)
{
    if (number != 0) push(&txn->retired, &txn->retired_count, &txn->retired_capacity, number);
}

/* A page that this transaction wrote and no longer needs; lately written, so near the end. */
static void discard(kt_txn *txn, uint64_t number)
{
    size_t i = txn->written_count;
    while (i > 0 && txn->written[i - 1] != number) i--;
    ASSERT(i > 0);
    txn->written[i - 1] = txn->written[--txn->written_count];
    push(&txn->discarded, &txn->discarded_count, &txn->discarded_capacity, number);
}

/* Page: filled but for what the slot tells. previous: what it replaces, or NULL. */
static result page_write(kt_txn *txn, kt_page *page, const kt_ref *previous, kt_ref *out)
{
    keytree *kt = txn->kt;
    uint64_t number = kt->free_count > 0 ? kt->free_pages[--kt->free_count] : ++kt->page_count;
    push(&txn->written, &txn->written_count, &txn->written_capacity, number);
    kt_ref ref = {.page = number, .count = page->count};
    if (txn->keep_keys && previous != NULL && previous->page != 0)
        memcpy(ref.key, previous->key, KEY_BYTES);
    else random_bytes(ref.key, KEY_BYTES);
    kt_page_hash(page, ref.hash);
    uint8_t slot[KT_SLOT_BYTES];
    result r = kt_page_seal(page, number, ref.key, slot);
    if (is_ok(r)) r = kt_slot_write(kt, number, slot);
    if (is_ok(r)) *out = ref;
    mem_wipe(&ref, sizeof ref);
    return r;
}

/* The canonical map of entries in id order. */
static result build(kt_txn *txn, uint8_t level, uint8_t step, const kt_entry *entries, size_t count,
                    const kt_ref *previous, kt_ref *out)
{
    if (count == 0) {
        *out = (kt_ref){0};
        return OK;
    }
    if (count > UINT32_MAX) return fail(E_EXHAUSTED, "the key tree is full");
    kt_page *page = kt_page_take(txn->kt);
    page->level = level;
    page->step = step;
    page->count = (uint32_t)count;
    page->kind = count <= KT_FANOUT ? KT_BUCKET : KT_BRANCH;
    result r = OK;
    if (page->kind == KT_BUCKET) memcpy(page->entries, entries, count * sizeof *entries);
    for (size_t i = 0, end; page->kind == KT_BRANCH && i < count; i = end) {
        uint32_t slot = kt_slot_of(entries[i].id, step);
        for (end = i + 1; end < count && kt_slot_of(entries[end].id, step) == slot;) end++;
        TRY_TO(r, build(txn, level, (uint8_t)(step + 1), entries + i, end - i, NULL,
                        &page->children[slot]), out);
    }
    r = page_write(txn, page, previous, out);
out:
    kt_page_give(txn->kt, &page);
    return r;
}

static void list_open(entry_list *list, keytree *kt, size_t capacity)
{
    *list = (entry_list){.capacity = capacity};
    if (capacity <= KT_FANOUT) list->page = kt_page_take(kt);
    list->at = list->page != NULL ? list->page->entries : secure_alloc(capacity * sizeof *list->at);
}

static void list_close(entry_list *list, keytree *kt)
{
    if (list->page == NULL) secure_free(list->at);
    kt_page_give(kt, &list->page);
}

/* ---- buckets ---- */
/* The nodes of one id: `own` first (perhaps twice the same), then deeper ones. */
static result change_entry(kt_txn *txn, uint8_t level, const keytree_node *nodes, size_t count,
                           const kt_entry *existing, entry_list *list, bool *changed)
{
    size_t own = 0;
    while (own < count && nodes[own].depth == level + 1) own++;
    if (txn->removing && (existing == NULL || own > 0)) {
        if (existing == NULL) return OK;
        /* The pages below lose their keys with this entry. Their slots, but the first, are found
         * free at the next start: walking them would take time by how much there was. */
        retire(txn, existing->sub.page);
        *changed = true;
        return OK;
    }
    if (existing == NULL && own == 0)
        return fail(E_NOT_FOUND, "a key's parent does not exist");
    ASSERT(list->count < list->capacity);
    kt_entry *entry = &list->at[list->count++];
    if (existing != NULL) *entry = *existing;
    else {
        *entry = (kt_entry){.id = kt_node_id(nodes, level)};
        random_bytes(entry->secret, KEY_BYTES);
        *changed = true;
    }
    if (own == count) return OK;
    part below = {(uint8_t)(level + 1), 0, nodes + own, count - own};
    kt_ref sub = {0};
    bool sub_changed = false;
    result r = apply(txn, &entry->sub, below, &sub, &sub_changed);
    if (is_ok(r) && sub_changed) {
        entry->sub = sub;
        *changed = true;
    }
    mem_wipe(&sub, sizeof sub);
    return r;
}

static size_t distinct_ids(const part *p)
{
    size_t n = 0;
    for (size_t i = 0; i < p->count; i++)
        n += i == 0 || !id_equal(kt_node_id(&p->nodes[i - 1], p->level), kt_node_id(&p->nodes[i], p->level));
    return n;
}

/* Merges the bucket's entries with the nodes. page: NULL for an empty map. */
static result apply_bucket(kt_txn *txn, const kt_ref *in, const kt_page *page, part p, kt_ref *out,
                           bool *changed)
{
    size_t old = page != NULL ? page->count : 0, i = 0, j = 0;
    size_t capacity = old + (txn->removing ? 0 : distinct_ids(&p));
    if (capacity > SIZE_MAX / 2 / sizeof(kt_entry)) return fail(E_INVALID, "too many nodes");
    entry_list list;
    list_open(&list, txn->kt, capacity);
    result r = OK;
    while (i < old || j < p.count) {
        int order = i == old ? 1 : j == p.count ? -1
                  : id_compare(page->entries[i].id, kt_node_id(&p.nodes[j], p.level));
        if (order < 0) {
            list.at[list.count++] = page->entries[i++];
            continue;
        }
        id128 id = kt_node_id(&p.nodes[j], p.level);
        size_t end = j + 1;
        while (end < p.count && id_equal(kt_node_id(&p.nodes[end], p.level), id)) end++;
        TRY_TO(r, change_entry(txn, p.level, p.nodes + j, end - j,
                               order == 0 ? &page->entries[i] : NULL, &list, changed), out);
        if (order == 0) i++;
        j = end;
    }
    if (!*changed) *out = *in;
    else {
        retire(txn, in->page);
        r = build(txn, p.level, p.step, list.at, list.count, in, out);
    }
out:
    list_close(&list, txn->kt);
    return r;
}

/* ---- branches ---- */
/* A branch that fell to 64 ids becomes a bucket again. fresh: bit i: child i was just written. */
static result merge(kt_txn *txn, const kt_ref *in, const kt_page *branch, uint32_t total,
                    uint64_t fresh, part p, kt_ref *out)
{
    entry_list list;
    list_open(&list, txn->kt, total);
    kt_page *child = kt_page_take(txn->kt);
    result r = OK;
    for (size_t slot = 0; slot < KT_FANOUT; slot++) {
        const kt_ref *ref = &branch->children[slot];
        if (ref->page == 0) continue;
        TRY_TO(r, kt_page_read(txn->kt->folders[0].fd, ref, p.level, (uint8_t)(p.step + 1), child),
               out);
        if (child->kind != KT_BUCKET || child->count > list.capacity - list.count) {
            r = fail(E_DATA_LOSS, "the key tree's shape is wrong");
            goto out;
        }
        memcpy(list.at + list.count, child->entries, child->count * sizeof *list.at);
        list.count += child->count;
        if (fresh >> slot & 1) discard(txn, ref->page);
        else retire(txn, ref->page);
    }
    r = build(txn, p.level, p.step, list.at, list.count, in, out);
out:
    kt_page_give(txn->kt, &child);
    list_close(&list, txn->kt);
    return r;
}

static result apply_branch(kt_txn *txn, const kt_ref *in, kt_page *page, part p, kt_ref *out,
                           bool *changed)
{
    uint64_t fresh = 0, total = 0;
    for (size_t i = 0, end; i < p.count; i = end) {
        uint32_t slot = kt_slot_of(kt_node_id(&p.nodes[i], p.level), p.step);
        for (end = i + 1; end < p.count; end++)
            if (kt_slot_of(kt_node_id(&p.nodes[end], p.level), p.step) != slot) break;
        part child = {p.level, (uint8_t)(p.step + 1), p.nodes + i, end - i};
        bool child_changed = false;
        kt_ref ref = {0};
        result r = apply(txn, &page->children[slot], child, &ref, &child_changed);
        if (is_ok(r) && child_changed) {
            page->children[slot] = ref;
            fresh |= (uint64_t)1 << slot;
        }
        mem_wipe(&ref, sizeof ref);
        TRY(r);
    }
    if (fresh == 0) {
        *out = *in;
        return OK;
    }
    *changed = true;
    retire(txn, in->page);
    for (size_t slot = 0; slot < KT_FANOUT; slot++) total += page->children[slot].count;
    if (total > UINT32_MAX) return fail(E_EXHAUSTED, "the key tree is full");
    if (total <= KT_FANOUT) return merge(txn, in, page, (uint32_t)total, fresh, p, out);
    page->count = (uint32_t)total;
    return page_write(txn, page, in, out);
}

static result apply(kt_txn *txn, const kt_ref *in, part p, kt_ref *out, bool *changed)
{
    ASSERT(p.level < KT_LEVELS && p.step < KT_STEPS_MAX && p.count > 0);
    if (in->page == 0) return apply_bucket(txn, in, NULL, p, out, changed);
    kt_page *page = kt_page_take(txn->kt);
    result r = kt_page_read(txn->kt->folders[0].fd, in, p.level, p.step, page);
    if (is_ok(r) && page->kind == KT_BRANCH) r = apply_branch(txn, in, page, p, out, changed);
    else if (is_ok(r)) r = apply_bucket(txn, in, page, p, out, changed);
    kt_page_give(txn->kt, &page);
    return r;
}

result kt_txn_apply(kt_txn *txn, const kt_ref *in, keytree_node *nodes, size_t count, kt_ref *out,
                    bool *changed)
{
    *changed = false;
    *out = *in;
    if (count == 0) return OK;
    qsort(nodes, count, sizeof *nodes, kt_node_compare);
    return apply(txn, in, (part){0, 0, nodes, count}, out, changed);
}

result kt_txn_touch(kt_txn *txn, kt_ref *ref)
{
    if (ref->page == 0) return OK;
    kt_page *page = kt_page_take(txn->kt);
    kt_ref old = *ref;
    result r;
    TRY_TO(r, kt_page_read(txn->kt->folders[0].fd, &old, 0, 0, page), out);
    TRY_TO(r, page_write(txn, page, &old, ref), out);
    retire(txn, old.page);
out:
    mem_wipe(&old, sizeof old);
    kt_page_give(txn->kt, &page);
    return r;
}

/* ---- endings ---- */
static void give_back(kt_txn *txn, const uint64_t *list, size_t count)
{
    for (size_t i = 0; i < count && !txn->kt->damaged; i++) kt_free_push(txn->kt, list[i]);
}

void kt_txn_forget(kt_txn *txn)
{
    mem_free(txn->written);
    mem_free(txn->retired);
    mem_free(txn->discarded);
    *txn = (kt_txn){.kt = txn->kt};
}

void kt_txn_commit(kt_txn *txn)
{
    give_back(txn, txn->retired, txn->retired_count);
    give_back(txn, txn->discarded, txn->discarded_count);
    kt_txn_forget(txn);
}

void kt_txn_abort(kt_txn *txn)
{
    give_back(txn, txn->written, txn->written_count);
    give_back(txn, txn->discarded, txn->discarded_count);
    kt_txn_forget(txn);
}
