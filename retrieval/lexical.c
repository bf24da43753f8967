#include "lexical.h"
#include "blocks.h"
#include "mutant.h"

#include <math.h>
#include <string.h>

typedef struct { uint32_t row, times; } posting;

typedef struct {
    uint64_t hash;
    uint8_t *text;                 /* (size), a block; NULL: a free slot */
    uint32_t size, count, capacity;
    posting *postings;             /* (count), a block, ascending rows */
} entry;

typedef struct { id128 id; uint32_t first, count; uint64_t length; } document;
typedef struct { uint32_t document, length; } row;

struct lexical {
    blocks blocks;                 /* the terms and their postings */
    entry *table;                  /* open addressing; slots is a power of two, at most 3/4 used */
    uint32_t slots, used;
    document *documents;           /* ascending ids */
    uint32_t document_count, document_capacity;
    row *rows;
    uint32_t row_count, row_capacity;
    uint64_t length;
    uint64_t seed;                 /* random: nobody's words can be chosen to collide */
};

enum { SLOTS_MIN = 64, PREFETCH_SLOTS = 24 };

/* Grows an array, wiping the old one: freed words would stay readable. */
static void *grown(void *old, size_t count, size_t capacity, size_t size)
{
    void *p = mem_alloc_array(capacity, size);
    if (count) memcpy(p, old, count * size);
    if (old != NULL) mem_wipe(old, count * size);
    mem_free(old);
    return p;
}

static void wipe_free(void *p, size_t size)
{
    if (p != NULL) mem_wipe(p, size);
    mem_free(p);
}

/* FNV-1a with a final mix; no output depends on the order in the table. */
static uint64_t term_hash(uint64_t seed, bytes term)
{
    uint64_t h = 14695981039346656037u ^ seed;
    for (size_t i = 0; i < term.size; i++) h = (h ^ term.data[i]) * 1099511628211u;
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    return h ^ (h >> 32);
}

void lexical_open(lexical **out)
{
    lexical *lx = mem_alloc(sizeof *lx);
    random_bytes(&lx->seed, sizeof lx->seed);
    lx->slots = SLOTS_MIN;
    lx->table = mem_alloc_array(lx->slots, sizeof *lx->table);
    *out = lx;
}

static void entry_free(lexical *lx, entry *e)
{
    block_free(&lx->blocks, e->postings, e->capacity * sizeof *e->postings);
    block_free(&lx->blocks, e->text, e->size);
    memset(e, 0, sizeof *e);
}

/* What a pass over the table comes to soon lies anywhere in memory: it is asked for ahead. */
static void prefetch(const lexical *lx, uint32_t slot)
{
    if (slot + PREFETCH_SLOTS >= lx->slots) return;
    __builtin_prefetch(lx->table[slot + PREFETCH_SLOTS].postings, 1);
    __builtin_prefetch(lx->table[slot + PREFETCH_SLOTS].text, 1);
}

/* What is unused of an array is zeros: never written, or wiped when it was vacated. */
void lexical_wipe(lexical *lx)
{
    blocks_wipe(&lx->blocks);
    mem_wipe(lx->table, lx->slots * sizeof *lx->table);
    mem_wipe(lx->documents, lx->document_count * sizeof *lx->documents);
    mem_wipe(lx->rows, lx->row_count * sizeof *lx->rows);
    lx->document_count = lx->row_count = lx->used = 0;
    lx->length = lx->seed = 0;
}

static void lexical_empty(lexical *lx)
{
    blocks_close(&lx->blocks);
    wipe_free(lx->table, lx->slots * sizeof *lx->table);
    wipe_free(lx->documents, lx->document_count * sizeof *lx->documents);
    wipe_free(lx->rows, lx->row_count * sizeof *lx->rows);
    memset(lx, 0, sizeof *lx);
}

void lexical_close(lexical **lx)
{
    if (*lx == NULL) return;
    lexical_empty(*lx);
    mem_free(*lx);
    *lx = NULL;
}

static entry *table_find(const lexical *lx, uint64_t hash, bytes term)
{
    for (uint32_t i = (uint32_t)hash & (lx->slots - 1);; i = (i + 1) & (lx->slots - 1)) {
        entry *e = &lx->table[i];
        if (e->text == NULL) return e;
        if (e->hash == hash && bytes_equal(bytes_of(e->text, e->size), term)) return e;
    }
}

static void table_resize(lexical *lx, uint32_t slots)
{
    entry *old = lx->table;
    uint32_t old_slots = lx->slots;
    lx->table = mem_alloc_array(slots, sizeof *lx->table);
    lx->slots = slots;
    for (uint32_t i = 0; i < old_slots; i++)
        if (old[i].text != NULL)
            *table_find(lx, old[i].hash, bytes_of(old[i].text, old[i].size)) = old[i];
    wipe_free(old, old_slots * sizeof *old);
}

static entry *table_add(lexical *lx, bytes term)
{
    if ((lx->used + 1) * 4 > lx->slots * 3) table_resize(lx, lx->slots * 2);
    uint64_t hash = term_hash(lx->seed, term);
    entry *e = table_find(lx, hash, term);
    if (e->text == NULL) {
        size_t size = term.size;
        e->hash = hash;
        e->text = block_alloc(&lx->blocks, &size);
        memcpy(e->text, term.data, term.size);
        e->size = (uint32_t)term.size;
        lx->used++;
    }
    return e;
}

static void entry_reserve(lexical *lx, entry *e, uint32_t count)
{
    if (count <= e->capacity) return;
    size_t size = count * sizeof *e->postings;
    posting *postings = block_alloc(&lx->blocks, &size);
    if (e->count) memcpy(postings, e->postings, e->count * sizeof *postings);
    block_free(&lx->blocks, e->postings, e->capacity * sizeof *postings);
    e->postings = postings;
    e->capacity = (uint32_t)(size / sizeof *postings);
}

typedef struct { lexical *lx; uint32_t row; } appending;

static void append_term(void *ctx, bytes term, bytes word)
{
    (void)word;
    appending *a = ctx;
    entry *e = table_add(a->lx, term);
    a->lx->rows[a->row].length++;
    if (e->count && e->postings[e->count - 1].row == a->row) {
        e->postings[e->count - 1].times++;
        return;
    }
    entry_reserve(a->lx, e, e->count + 1);
    e->postings[e->count++] = (posting){a->row, 1};
}

void lexical_append(lexical *lx, terms *t, id128 id, const bytes *chunks, uint32_t count)
{
    ASSERT(lx->document_count == 0 ||
           id_compare(lx->documents[lx->document_count - 1].id, id) < 0);
    if (lx->slots == 0) table_resize(lx, SLOTS_MIN);
    if (lx->document_count == lx->document_capacity) {
        lx->document_capacity = lx->document_capacity * 2 + 4;
        lx->documents = grown(lx->documents, lx->document_count, lx->document_capacity,
                              sizeof *lx->documents);
    }
    if (lx->row_capacity - lx->row_count < count) {
        lx->row_capacity = (lx->row_count + count) * 3 / 2 + 4;
        lx->rows = grown(lx->rows, lx->row_count, lx->row_capacity, sizeof *lx->rows);
    }
    document *d = &lx->documents[lx->document_count];
    *d = (document){id, lx->row_count, count, 0};
    for (uint32_t i = 0; i < count; i++) {
        appending a = {lx, lx->row_count++};
        lx->rows[a.row] = (row){lx->document_count, 0};
        terms_each(t, chunks[i], append_term, &a);
        d->length += lx->rows[a.row].length;
    }
    lx->length += d->length;
    lx->document_count++;
}

/* ---- merging --------------------------------------------------------------------------------- */

/* Interleaves the documents of both by id and says where each row goes. */
static void merge_documents(lexical *dst, const lexical *src, uint32_t *dst_rows,
                            uint32_t *src_rows)
{
    uint32_t count = dst->document_count + src->document_count;
    uint32_t rows_count = dst->row_count + src->row_count, i = 0, j = 0, at = 0;
    document *documents = mem_alloc_array(count, sizeof *documents);
    row *rows = mem_alloc_array(rows_count, sizeof *rows);
    for (uint32_t k = 0; k < count; k++) {
        bool from_src = i == dst->document_count ||
            (j < src->document_count && id_compare(src->documents[j].id, dst->documents[i].id) < 0);
        const lexical *from = from_src ? src : dst;
        uint32_t *map = from_src ? src_rows : dst_rows;
        documents[k] = from_src ? src->documents[j++] : dst->documents[i++];
        uint32_t first = documents[k].first;
        documents[k].first = at;
        for (uint32_t c = 0; c < documents[k].count; c++, at++) {
            map[first + c] = at;
            rows[at] = (row){k, from->rows[first + c].length};
        }
    }
    wipe_free(dst->documents, dst->document_capacity * sizeof *documents);
    wipe_free(dst->rows, dst->row_capacity * sizeof *rows);
    dst->documents = documents;
    dst->document_count = dst->document_capacity = count;
    dst->rows = rows;
    dst->row_count = dst->row_capacity = rows_count;
    dst->length += src->length;
}

/* Merges one term's postings (already renumbered) from the back, in place. */
static void merge_postings(lexical *dst, entry *e, const posting *more, uint32_t count,
                           const uint32_t *map)
{
    entry_reserve(dst, e, e->count + count);
    uint32_t i = e->count, j = count, to = e->count + count;
    while (j > 0) {
        posting next = {map[more[j - 1].row], more[j - 1].times};
        if (i > 0 && e->postings[i - 1].row > next.row) {
            e->postings[--to] = e->postings[--i];
        } else {
            e->postings[--to] = next;
            j--;
        }
    }
    e->count += count;
}

void lexical_merge(lexical *dst, lexical *src)
{
    if (src->document_count == 0) return;
    if (dst->slots == 0) table_resize(dst, SLOTS_MIN);
    bool behind = dst->document_count == 0 ||
        id_compare(dst->documents[dst->document_count - 1].id, src->documents[0].id) < 0;
    uint32_t *dst_rows = mem_alloc_array(dst->row_count, sizeof *dst_rows);
    uint32_t *src_rows = mem_alloc_array(src->row_count, sizeof *src_rows);
    merge_documents(dst, src, dst_rows, src_rows);
    for (uint32_t i = 0; !behind && i < dst->slots; i++)
        for (uint32_t p = 0; p < dst->table[i].count; p++)
            dst->table[i].postings[p].row = dst_rows[dst->table[i].postings[p].row];
    for (uint32_t i = 0; i < src->slots; i++) {
        const entry *e = &src->table[i];
        if (e->text != NULL)
            merge_postings(dst, table_add(dst, bytes_of(e->text, e->size)), e->postings, e->count,
                           src_rows);
    }
    mem_free(dst_rows);
    mem_free(src_rows);
    lexical_empty(src);
}

/* ---- removal --------------------------------------------------------------------------------- */

static bool find_document(const lexical *lx, id128 id, uint32_t *at)
{
    uint32_t low = 0, high = lx->document_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (id_compare(lx->documents[middle].id, id) < 0) low = middle + 1;
        else high = middle;
    }
    *at = low;
    return low < lx->document_count && id_equal(lx->documents[low].id, id);
}

/* Rows that go, [first, end), ascending; gone: how many up to the end of this one. */
typedef struct { uint32_t first, end, gone; } cut;

#define ROW_GONE UINT32_MAX

/* Where the rows from the first cut on go, or ROW_GONE: (row_count - cuts[0].first). */
static uint32_t *rows_map(const lexical *lx, const cut *cuts, size_t count)
{
    uint32_t first = cuts[0].first, at = first;
    uint32_t *map = mem_alloc_array(lx->row_count - first, sizeof *map);
    for (size_t c = 0; c < count; c++) {
        uint32_t next = c + 1 < count ? cuts[c + 1].first : lx->row_count;
        for (; at < cuts[c].end; at++) map[at - first] = ROW_GONE;
        for (; at < next; at++) map[at - first] = at - cuts[c].gone;
    }
    return map;
}

/* The first posting whose row is not below the given one. */
static uint32_t entry_lower(const entry *e, uint32_t least)
{
    uint32_t low = 0, high = e->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (e->postings[middle].row < least) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Takes the rows that go out of a term; later rows move down. map: of the rows from first on. */
static void entry_cut(entry *e, uint32_t first, const uint32_t *map)
{
    uint32_t at = entry_lower(e, first), kept = at;
    for (; at < e->count; at++) {
        uint32_t to = map[e->postings[at].row - first];
        if (to != ROW_GONE) e->postings[kept++] = (posting){to, e->postings[at].times};
    }
    if (kept < e->count) mem_wipe(e->postings + kept, (e->count - kept) * sizeof *e->postings);
    e->count = kept;
}

/* Every term. emptied: the slots of the terms without postings, (used); returns how many. */
static uint32_t table_cut(lexical *lx, uint32_t first, const uint32_t *map, uint32_t *emptied)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < lx->slots; i++) {
        prefetch(lx, i);
        entry *e = &lx->table[i];
        if (e->count == 0) continue;
        entry_cut(e, first, map);
        if (e->count == 0) emptied[n++] = i;
    }
    return n;
}

/* Frees a slot of the table; what a search would no longer find from its own place moves up. */
static void table_close(lexical *lx, uint32_t hole)
{
    uint32_t mask = lx->slots - 1;
    entry_free(lx, &lx->table[hole]);
    for (uint32_t i = (hole + 1) & mask; lx->table[i].text != NULL; i = (i + 1) & mask) {
        uint32_t own = (uint32_t)lx->table[i].hash & mask;
        if (((i - own) & mask) < ((i - hole) & mask)) continue;
        lx->table[hole] = lx->table[i];
        mem_wipe(&lx->table[i], sizeof lx->table[i]);
        hole = i;
    }
}

static void table_drop(lexical *lx, uint32_t slot)
{
    lx->used--;
    table_close(lx, slot);
}

/* Drops the terms without postings, last slot first: what moves up comes from behind. Only from the table's beginning
 * may one have moved to its end. The table has the size that its count asks for. */
static void table_prune(lexical *lx, const uint32_t *emptied, uint32_t count)
{
    uint32_t slots = SLOTS_MIN, left = count;
    for (uint32_t i = count; i-- > 0;) {
        const entry *e = &lx->table[emptied[i]];
        if (e->text == NULL || e->count > 0) continue;
        table_drop(lx, emptied[i]);
        left--;
    }
    for (uint32_t i = 0; left > 0;) {
        const entry *e = &lx->table[i];
        if (e->text == NULL || e->count > 0) {
            i++;
            continue;
        }
        table_drop(lx, i);       /* and looks here once more */
        left--;
    }
    while (lx->used * 4 > slots * 3) slots *= 2;
    if (slots != lx->slots) table_resize(lx, slots);
}

/* Where the documents' rows stand, ascending, neighbours joined; the documents close ranks. */
static size_t documents_cut(lexical *lx, const id128 *ids, size_t count, cut *cuts)
{
    size_t n = 0;
    uint32_t kept = 0, from = 0, gone = 0, total = lx->document_count;
    for (size_t i = 0; i <= count; i++) {
        uint32_t at = total;
        bool found = i < count && find_document(lx, ids[i], &at);
        if (i < count && !found) continue;
        for (; from < at; from++, kept++) {
            lx->documents[kept] = lx->documents[from];
            lx->documents[kept].first -= gone;
        }
        if (!found) break;
        const document *d = &lx->documents[from++];
        gone += d->count;
        if (!MUTANT(erase_keeps_statistics)) lx->length -= d->length;
        if (n > 0 && cuts[n - 1].end == d->first) n--;
        else cuts[n].first = d->first;
        cuts[n].end = d->first + d->count;
        cuts[n++].gone = gone;
    }
    mem_wipe(lx->documents + kept, (total - kept) * sizeof *lx->documents);
    lx->document_count = kept;
    return n;
}

/* The rows close ranks, and know their documents' new places. */
static void rows_close(lexical *lx, const cut *cuts, size_t count)
{
    if (count == 0) return;
    uint32_t kept = cuts[0].first;
    for (size_t c = 0; c < count; c++) {
        uint32_t end = c + 1 < count ? cuts[c + 1].first : lx->row_count;
        memmove(lx->rows + kept, lx->rows + cuts[c].end, (end - cuts[c].end) * sizeof *lx->rows);
        kept += end - cuts[c].end;
    }
    mem_wipe(lx->rows + kept, (lx->row_count - kept) * sizeof *lx->rows);
    lx->row_count = kept;
    for (uint32_t d = 0; d < lx->document_count; d++)
        for (uint32_t r = 0; r < lx->documents[d].count; r++)
            lx->rows[lx->documents[d].first + r].document = d;
}

void lexical_remove_many(lexical *lx, const id128 *ids, size_t count)
{
    cut *cuts = mem_alloc_array(count, sizeof *cuts);
    uint32_t documents = lx->document_count;
    size_t n = documents_cut(lx, ids, count, cuts);
    if (documents > lx->document_count) {
        uint32_t *map = n > 0 ? rows_map(lx, cuts, n) : NULL;
        uint32_t *emptied = mem_alloc_array(lx->used, sizeof *emptied);
        table_prune(lx, emptied, n > 0 ? table_cut(lx, cuts[0].first, map, emptied) : 0);
        rows_close(lx, cuts, n);
        mem_free(map);
        mem_free(emptied);
    }
    mem_free(cuts);
}

void lexical_remove(lexical *lx, id128 id) { lexical_remove_many(lx, &id, 1); }

/* ---- division -------------------------------------------------------------------------------- */

/* A term's postings from the given row on go to the other index, whose first row it becomes. */
static void entry_split(entry *e, uint32_t first, lexical *upper)
{
    uint32_t at = entry_lower(e, first), count = e->count - at;
    if (count == 0) return;
    entry *to = table_add(upper, bytes_of(e->text, e->size));
    entry_reserve(upper, to, count);
    for (uint32_t p = 0; p < count; p++)
        to->postings[p] = (posting){e->postings[at + p].row - first, e->postings[at + p].times};
    to->count = count;
    mem_wipe(e->postings + at, count * sizeof *e->postings);
    e->count = at;
}

static uint32_t table_split(lexical *lx, uint32_t first, lexical *upper, uint32_t *emptied)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < lx->slots; i++) {
        prefetch(lx, i);
        entry *e = &lx->table[i];
        if (e->count == 0) continue;
        entry_split(e, first, upper);
        if (e->count == 0) emptied[n++] = i;
    }
    return n;
}

/* Documents from the given one on, and their rows. */
static void documents_split(lexical *lx, uint32_t at, uint32_t first, lexical *upper)
{
    uint32_t documents = lx->document_count - at, rows = lx->row_count - first;
    upper->documents = mem_alloc_array(documents, sizeof *upper->documents);
    upper->rows = mem_alloc_array(rows, sizeof *upper->rows);
    for (uint32_t i = 0; i < documents; i++) {
        upper->documents[i] = lx->documents[at + i];
        upper->documents[i].first -= first;
        upper->length += upper->documents[i].length;
    }
    for (uint32_t i = 0; i < rows; i++)
        upper->rows[i] = (row){lx->rows[first + i].document - at, lx->rows[first + i].length};
    upper->document_count = upper->document_capacity = documents;
    upper->row_count = upper->row_capacity = rows;
    mem_wipe(lx->documents + at, documents * sizeof *lx->documents);
    mem_wipe(lx->rows + first, rows * sizeof *lx->rows);
    lx->document_count = at;
    lx->row_count = first;
    lx->length -= upper->length;
}

void lexical_split(lexical *lx, id128 first_id, lexical *upper)
{
    uint32_t at;
    ASSERT(upper->document_count == 0 && upper->slots > 0);
    (void)find_document(lx, first_id, &at);
    if (at == lx->document_count) return;
    uint32_t *emptied = mem_alloc_array(lx->used, sizeof *emptied), first = lx->documents[at].first;
    table_prune(lx, emptied, table_split(lx, first, upper, emptied));
    documents_split(lx, at, first, upper);
    mem_free(emptied);
}

uint32_t lexical_rows(const lexical *lx) { return lx->row_count; }

uint64_t lexical_bytes(const lexical *lx)
{
    return lx->blocks.bytes + lx->slots * sizeof *lx->table +
        lx->row_capacity * sizeof *lx->rows +
           lx->document_capacity * sizeof *lx->documents;
}

/* Sum of the digests of the terms (their order in the table says nothing) and of the rows. */
uint64_t lexical_digest(const lexical *lx)
{
    uint64_t sum = lx->length * 31 + lx->row_count;
    for (uint32_t i = 0; i < lx->slots; i++) {
        const entry *e = &lx->table[i];
        if (e->text == NULL) continue;
        sum += term_hash(0, bytes_of(e->text, e->size)) ^
               (term_hash(0, bytes_of(e->postings, e->count * sizeof *e->postings)) * 3);
    }
    for (uint32_t d = 0; d < lx->document_count; d++)
        sum += term_hash(0, bytes_of(&lx->documents[d].id, ID_BYTES)) *
               (lx->documents[d].first + 1);
    return sum + term_hash(0, bytes_of(lx->rows, lx->row_count * sizeof *lx->rows));
}

/* ---- queries --------------------------------------------------------------------------------- */

uint32_t lexical_query_find(const lexical_query *q, bytes term)
{
    uint32_t i = 0;
    while (i < q->count && !bytes_equal(bytes_of(q->terms[i], q->sizes[i]), term)) i++;
    return i;
}

void lexical_query_add(lexical_query *q, bytes term, float times)
{
    uint32_t i = lexical_query_find(q, term);
    ASSERT(term.size <= TERM_MAX_BYTES);
    if (i == LEXICAL_QUERY_TERMS_MAX) return;
    if (i == q->count) {
        memcpy(q->terms[i], term.data, term.size);
        q->sizes[i] = (uint8_t)term.size;
        q->count++;
    }
    q->times[i] += times;
}

static void query_term(void *ctx, bytes term, bytes word)
{
    (void)word;
    lexical_query_add(ctx, term, 1);
}

void lexical_query_init(lexical_query *q, terms *t, bytes text)
{
    memset(q, 0, sizeof *q);
    terms_each(t, text, query_term, q);
}

static const entry *term_entry(const lexical *lx, bytes term)
{
    if (lx->slots == 0) return NULL;
    const entry *e = table_find(lx, term_hash(lx->seed, term), term);
    return e->text == NULL ? NULL : e;
}

static const entry *query_entry(const lexical *lx, const lexical_query *q, uint32_t term)
{
    return term_entry(lx, bytes_of(q->terms[term], q->sizes[term]));
}

uint64_t lexical_chunks_with(const lexical *lx, bytes term)
{
    const entry *e = term_entry(lx, term);
    return e == NULL ? 0 : e->count;
}

void lexical_totals_add(const lexical *lx, const lexical_query *q, lexical_totals *totals)
{
    totals->chunks += lx->row_count;
    totals->documents += lx->document_count;
    totals->length += lx->length;
    for (uint32_t i = 0; i < q->count; i++) {
        const entry *e = query_entry(lx, q, i);
        if (e == NULL) continue;
        totals->chunks_with[i] += e->count;
        uint32_t last = UINT32_MAX;
        for (uint32_t p = 0; p < e->count; p++) {
            uint32_t d = lx->rows[e->postings[p].row].document;
            totals->documents_with[i] += d != last;
            last = d;
        }
    }
}

float lexical_idf_of(uint64_t all, uint64_t with)
{
    return (float)log(1.0 + ((double)(all - with) + 0.5) / ((double)with + 0.5));
}

float lexical_idf(const lexical_totals *totals, uint32_t term)
{
    return lexical_idf_of(totals->chunks, totals->chunks_with[term]);
}

/* BM25's saturation of tf occurrences in a text of a length against the mean length. */
static float saturation(float tf, float length, float mean, const lexical_weights *w)
{
    return tf * (w->k1 + 1) / (tf + w->k1 * (1 - w->b + w->b * length / mean));
}

void lexical_score(const lexical *lx, const lexical_query *q, const lexical_totals *totals,
                   const lexical_weights *w, float *scores)
{
    if (totals->length == 0) return;
    float mean_chunk = (float)((double)totals->length / (double)totals->chunks);
    float mean_document = (float)((double)totals->length / (double)totals->documents);
    for (uint32_t i = 0; i < q->count; i++) {
        const entry *e = query_entry(lx, q, i);
        if (e == NULL) continue;
        float times = q->times[i];
        float chunk_idf = times * (1 - w->document_share) * lexical_idf(totals, i);
        float document_idf =
            times * w->document_share *
            lexical_idf_of(totals->documents, totals->documents_with[i]);
        for (uint32_t p = 0; p < e->count;) {
            const document *d = &lx->documents[lx->rows[e->postings[p].row].document];
            uint32_t end = d->first + d->count, tf = 0;
            for (; p < e->count && e->postings[p].row < end; p++) {
                uint32_t r = e->postings[p].row;
                tf += e->postings[p].times;
                scores[r] += chunk_idf * saturation((float)e->postings[p].times,
                                                    (float)lx->rows[r].length, mean_chunk, w);
            }
            float shared = document_idf * saturation((float)tf, (float)d->length, mean_document, w);
            for (uint32_t r = d->first; shared > 0 && r < end; r++) scores[r] += shared;
        }
    }
}
