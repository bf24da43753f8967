#include "tombstones.h"

#include "mutant.h"
#include "terms.h"

#include <stdlib.h>
#include <string.h>

enum { FORMAT = 1, GATHER_MAX = 2 * TOMBSTONES_OF_DOCUMENT_MAX };

void tombstones_free(tombstones *t)
{
    if (t->document_count) mem_wipe(t->documents, t->document_count * sizeof *t->documents);
    if (t->mark_count) mem_wipe(t->marks, t->mark_count * sizeof *t->marks);
    mem_free(t->documents);
    mem_free(t->marks);
    mem_wipe(t, sizeof *t);
}

void tombstones_key(const uint8_t secret[KEY_BYTES], const uint8_t salt[TOMBSTONES_SALT_BYTES],
                    uint8_t key[KEY_BYTES])
{
    key_derive(secret, "tombstones", bytes_of(salt, TOMBSTONES_SALT_BYTES), key);
    if (MUTANT(tombstones_unkeyed)) memset(key, 0, KEY_BYTES);
}

/* ---- marks of a text -------------------------------------------------------------------------------------- */
typedef struct {
    const uint8_t *key;
    void (*take)(void *ctx, uint64_t mark);
    void *ctx;
    uint8_t words[TOMBSTONE_WORDS][8];       /* hashes of the last ones, a ring */
    uint64_t count;
} shingles;

static uint64_t mark_of(const uint8_t key[KEY_BYTES], const char *domain, bytes data)
{
    uint8_t hash[HASH_BYTES];
    uint64_t mark;
    hash_keyed(key, domain, data, hash);
    memcpy(&mark, hash, sizeof mark);
    return mark;
}

/* Of the last n words, n at most TOMBSTONE_WORDS; n is hashed with them by their size. */
static void take_last(shingles *s, size_t n)
{
    uint8_t row[TOMBSTONE_WORDS * 8];
    for (size_t i = 0; i < n; i++) memcpy(row + i * 8, s->words[(s->count - n + i) % TOMBSTONE_WORDS], 8);
    s->take(s->ctx, mark_of(s->key, "tombstone", bytes_of(row, n * 8)));
    mem_wipe(row, sizeof row);
}

static void word_visit(void *ctx, bytes word, bytes raw)
{
    shingles *s = ctx;
    (void)raw;
    uint64_t hash = mark_of(s->key, "tombstone word", word);
    memcpy(s->words[s->count++ % TOMBSTONE_WORDS], &hash, sizeof hash);
    if (s->count >= TOMBSTONE_WORDS) take_last(s, TOMBSTONE_WORDS);
}

static void shingles_each(const uint8_t key[KEY_BYTES], bytes text, void (*take)(void *ctx, uint64_t mark), void *ctx)
{
    terms *t;
    shingles s = {.key = key, .take = take, .ctx = ctx};
    terms_open(&t);
    terms_each_word(t, text, word_visit, &s);
    if (s.count > 0 && s.count < TOMBSTONE_WORDS) take_last(&s, (size_t)s.count);
    terms_close(&t);
    mem_wipe(&s, sizeof s);
}

/* ---- winnowing -------------------------------------------------------------------------------------------- */
typedef struct {
    uint64_t window[TOMBSTONE_WINDOW], seen, chosen;   /* chosen: 1 + number of the shingle kept last; 0: none */
    uint64_t *kept;                                    /* (GATHER_MAX) */
    size_t count;
} winnowing;

static int by_value(const void *a_, const void *b_)
{
    uint64_t a, b;
    memcpy(&a, a_, sizeof a);
    memcpy(&b, b_, sizeof b);
    return (a > b) - (a < b);
}

/* Sorts, drops doubles, and keeps the least. */
static void kept_reduce(winnowing *w)
{
    size_t n = 0;
    if (w->count > 1) qsort(w->kept, w->count, sizeof *w->kept, by_value);
    for (size_t i = 0; i < w->count; i++)
        if (n == 0 || w->kept[n - 1] != w->kept[i]) w->kept[n++] = w->kept[i];
    w->count = n < TOMBSTONES_OF_DOCUMENT_MAX ? n : TOMBSTONES_OF_DOCUMENT_MAX;
}

/* The least of the window's last n, the rightmost among equals. */
static void window_choose(winnowing *w, uint64_t n)
{
    uint64_t best = w->seen - 1;
    for (uint64_t back = 2; back <= n; back++)
        if (w->window[(w->seen - back) % TOMBSTONE_WINDOW] < w->window[best % TOMBSTONE_WINDOW]) best = w->seen - back;
    if (w->chosen == best + 1) return;
    w->chosen = best + 1;
    if (w->count == GATHER_MAX) kept_reduce(w);
    w->kept[w->count++] = w->window[best % TOMBSTONE_WINDOW];
}

static void winnow_take(void *ctx, uint64_t mark)
{
    winnowing *w = ctx;
    w->window[w->seen++ % TOMBSTONE_WINDOW] = mark;
    if (w->seen >= TOMBSTONE_WINDOW) window_choose(w, TOMBSTONE_WINDOW);
}

void tombstones_of(const uint8_t key[KEY_BYTES], bytes text, uint64_t marks[TOMBSTONES_OF_DOCUMENT_MAX], size_t *count)
{
    winnowing w = {.kept = mem_alloc_array(GATHER_MAX, sizeof *w.kept)};
    shingles_each(key, text, winnow_take, &w);
    if (w.seen > 0 && w.seen < TOMBSTONE_WINDOW) window_choose(&w, w.seen);
    kept_reduce(&w);
    if (w.count) memcpy(marks, w.kept, w.count * sizeof *marks);
    *count = w.count;
    mem_wipe(w.kept, GATHER_MAX * sizeof *w.kept);
    mem_free(w.kept);
    mem_wipe(&w, sizeof w);
}

/* ---- looking up ------------------------------------------------------------------------------------------- */
/* The place of the first mark that is not less. */
static size_t place_of(const tombstones *t, uint64_t mark)
{
    size_t low = 0, high = t->mark_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (t->marks[middle].mark < mark) low = middle + 1;
        else high = middle;
    }
    return low;
}

typedef struct { const tombstones *in; bool found; } lookup;

static void lookup_take(void *ctx, uint64_t mark)
{
    lookup *l = ctx;
    size_t at = place_of(l->in, mark);
    l->found |= at < l->in->mark_count && l->in->marks[at].mark == mark;
}

bool tombstones_repeated(const tombstones *t, const uint8_t key[KEY_BYTES], bytes text)
{
    lookup l = {t, false};
    if (t->mark_count > 0) shingles_each(key, text, lookup_take, &l);
    return l.found;
}

bool tombstones_hold(const tombstones *t, id128 document)
{
    for (size_t i = 0; i < t->document_count; i++)
        if (id_equal(t->documents[i], document)) return true;
    return false;
}

/* ---- adding ----------------------------------------------------------------------------------------------- */
static void oldest_drop(tombstones *t, size_t gone)
{
    size_t kept = 0;
    for (size_t i = 0; i < t->mark_count; i++)
        if (t->marks[i].document >= gone)
            t->marks[kept++] = (tombstone){t->marks[i].mark, t->marks[i].document - (uint32_t)gone};
    mem_wipe(t->marks + kept, (t->mark_count - kept) * sizeof *t->marks);
    memmove(t->documents, t->documents + gone, (t->document_count - gone) * sizeof *t->documents);
    mem_wipe(t->documents + t->document_count - gone, gone * sizeof *t->documents);
    t->mark_count = kept;
    t->document_count -= gone;
}

/* Until both limits hold; the newest, which keeps to its own limit, always stays. */
static void limits_keep(tombstones *t)
{
    uint32_t *of = mem_alloc_array(t->document_count, sizeof *of);
    size_t gone = 0, marks = t->mark_count;
    for (size_t i = 0; i < t->mark_count; i++) of[t->marks[i].document]++;
    while (marks > TOMBSTONES_MAX || t->document_count - gone > TOMBSTONES_DOCUMENTS_MAX) marks -= of[gone++];
    mem_free(of);
    if (gone > 0) oldest_drop(t, gone);
}

void tombstones_add(tombstones *t, id128 document, const uint64_t *marks, size_t count)
{
    if (count == 0 || tombstones_hold(t, document)) return;
    uint32_t number = (uint32_t)t->document_count;
    id128 *documents = mem_alloc_array(t->document_count + 1, sizeof *documents);
    tombstone *all = mem_alloc_array(t->mark_count + count, sizeof *all);
    size_t n = 0, old = 0;
    for (size_t i = 0; i < count; i++) {               /* both ascend; of equal ones the newer counts */
        while (old < t->mark_count && t->marks[old].mark < marks[i]) all[n++] = t->marks[old++];
        if (old < t->mark_count && t->marks[old].mark == marks[i]) old++;
        all[n++] = (tombstone){marks[i], number};
    }
    while (old < t->mark_count) all[n++] = t->marks[old++];
    if (t->document_count) memcpy(documents, t->documents, t->document_count * sizeof *documents);
    documents[t->document_count] = document;
    tombstones grown = {.policy = t->policy, .documents = documents, .document_count = t->document_count + 1,
                        .marks = all, .mark_count = n};
    memcpy(grown.salt, t->salt, sizeof grown.salt);
    tombstones_free(t);
    *t = grown;
    limits_keep(t);
}

/* ---- as bytes --------------------------------------------------------------------------------------------- */
void tombstones_encode(const tombstones *t, buf *out)
{
    buf_append_u8(out, FORMAT);
    buf_append_u8(out, (uint8_t)t->policy);
    buf_append(out, t->salt, sizeof t->salt);
    buf_append_u32(out, (uint32_t)t->document_count);
    for (size_t i = 0; i < t->document_count; i++) buf_append(out, t->documents[i].b, ID_BYTES);
    buf_append_u32(out, (uint32_t)t->mark_count);
    for (size_t i = 0; i < t->mark_count; i++) {
        buf_append_u64(out, t->marks[i].mark);
        buf_append_u32(out, t->marks[i].document);
    }
}

static bool marks_take(reader *in, tombstones *out)
{
    for (size_t i = 0; i < out->mark_count; i++) {
        out->marks[i].mark = reader_u64(in);
        out->marks[i].document = reader_u32(in);
        if (out->marks[i].document >= out->document_count) return false;
        if (i > 0 && out->marks[i - 1].mark >= out->marks[i].mark) return false;
    }
    return true;
}

static bool fields_take(reader *in, tombstones *out)
{
    uint8_t format = reader_u8(in), policy = reader_u8(in);
    const uint8_t *salt = reader_take(in, sizeof out->salt);
    uint32_t documents = reader_u32(in);
    const uint8_t *ids = documents <= TOMBSTONES_DOCUMENTS_MAX ? reader_take(in, (size_t)documents * ID_BYTES) : NULL;
    uint32_t marks = ids ? reader_u32(in) : 0;
    bool policy_known = policy == TOMBSTONES_FLAG || policy == TOMBSTONES_REFUSE;
    if (format != FORMAT || !policy_known || salt == NULL || ids == NULL || marks > TOMBSTONES_MAX ||
        (in->size - in->at) / 12 < marks) return false;
    out->policy = (tombstones_policy)policy;
    memcpy(out->salt, salt, sizeof out->salt);
    out->documents = mem_alloc_array(documents, sizeof *out->documents);
    out->document_count = documents;
    if (documents) memcpy(out->documents, ids, (size_t)documents * ID_BYTES);
    out->marks = mem_alloc_array(marks, sizeof *out->marks);
    out->mark_count = marks;
    return marks_take(in, out);
}

result tombstones_decode(bytes plain, tombstones *out)
{
    reader in = reader_of(plain);
    *out = (tombstones){0};
    result r = fields_take(&in, out) ? reader_done(&in, "an owner's tombstones")
                                     : fail(E_DATA_LOSS, "an owner's tombstones are malformed");
    if (!is_ok(r)) tombstones_free(out);
    return r;
}
