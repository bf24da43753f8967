#include "dense.h"
#include "mutant.h"

#include <string.h>

#include "dense_bench.h"
#include "faiss_adapter.h"

struct dense {
    FaissIndexFlatIP *index;
    uint32_t dimensions;
    uint32_t rows, capacity;
    dense_key *keys;               /* (rows): strictly ascending by (document, chunk) */
};

static const char *const SCAN_NAMES[] = {"auto", "portable", "avx2", "faiss"};

result dense_open_path(dense **out, uint32_t dimensions, dense_path path)
{
    ASSERT(dimensions > 0);
    FaissIndexFlatIP *index = NULL;
    int failed = path == DENSE_PLAIN_FAISS
        ? faiss_IndexFlatIP_new_with(&index, dimensions)
        : lethe_faiss_IndexFlatIP_new(&index, dimensions, (lethe_scan_path)path);
    if (failed)
        return fail(E_UNIMPLEMENTED, "this machine has no %s vector scan", SCAN_NAMES[path]);
    dense *d = mem_alloc(sizeof *d);
    d->index = index;
    d->dimensions = dimensions;
    *out = d;
    return OK;
}

result dense_open(dense **out, uint32_t dimensions)
{
    return dense_open_path(out, dimensions, DENSE_AUTO);
}

/* Of the keys what is unused is zeros: never written, or wiped when it was vacated. */
void dense_wipe(dense *d)
{
    lethe_faiss_wipe(d->index);
    mem_wipe(d->keys, d->rows * sizeof *d->keys);
    d->rows = 0;
}

void dense_close(dense **d)
{
    if (*d == NULL) return;
    dense_wipe(*d);
    faiss_Index_free((*d)->index);
    mem_free((*d)->keys);
    mem_free(*d);
    *d = NULL;
}

/* First row below end whose document is not below the given one. */
static uint32_t lower_bound_below(const dense *d, id128 document, uint32_t end)
{
    uint32_t low = 0, high = end;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (id_compare(d->keys[middle].document, document) < 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

static uint32_t lower_bound(const dense *d, id128 document)
{
    return lower_bound_below(d, document, d->rows);
}

static uint32_t rows_of_document(const dense *d, uint32_t first, id128 document)
{
    uint32_t end = first;
    while (end < d->rows && id_equal(d->keys[end].document, document)) end++;
    return end - first;
}

static float *rows_of(const dense *d)
{
    ASSERT(faiss_Index_ntotal(d->index) == (faiss_idx_t)d->rows);
    return lethe_faiss_rows(d->index);
}

static void keys_reserve(dense *d, uint32_t rows)
{
    if (rows <= d->capacity) return;
    uint32_t capacity = rows + rows / 2;
    dense_key *grown = mem_alloc_array(capacity, sizeof *grown);
    if (d->rows) memcpy(grown, d->keys, d->rows * sizeof *grown);
    mem_wipe(d->keys, d->capacity * sizeof *d->keys);
    mem_free(d->keys);
    d->keys = grown;
    d->capacity = capacity;
}

static void index_shorten(dense *d, uint32_t rows)
{
    faiss_idx_t total = faiss_Index_ntotal(d->index);
    if (total == (faiss_idx_t)rows) return;
    FaissIDSelectorRange *range = NULL;
    size_t removed = 0;
    int failed = faiss_IDSelectorRange_new(&range, rows, total);
    ASSERT(!failed);
    failed = faiss_Index_remove_ids(d->index, (FaissIDSelector *)range, &removed);
    faiss_IDSelector_free((FaissIDSelector *)range);
    ASSERT(!failed && faiss_Index_ntotal(d->index) == (faiss_idx_t)rows);
}

/* Rows [from, from + count) become the rows [to, ...). */
static void rows_move(dense *d, float *rows, uint32_t to, uint32_t from, uint32_t count)
{
    size_t dim = d->dimensions;
    if (to == from || count == 0) return;
    memmove(rows + to * dim, rows + from * dim, count * dim * sizeof *rows);
    memmove(d->keys + to, d->keys + from, count * sizeof *d->keys);
}

result dense_add_many(dense *d, const dense_document *documents, size_t count)
{
    uint64_t added = 0;
    for (size_t i = 0; i < count; i++) {
        ASSERT(i == 0 || id_compare(documents[i - 1].document, documents[i].document) < 0);
        added += documents[i].count;
    }
    if (added > UINT32_MAX / 2 - d->rows)
        return fail(E_EXHAUSTED, "the index holds too many chunks");
    keys_reserve(d, d->rows + (uint32_t)added);
    /* Makes the room; the order does not matter yet. */
    for (size_t i = 0; i < count; i++) {
        if (documents[i].count == 0 ||
            faiss_Index_add(d->index, documents[i].count, documents[i].vectors) == 0) continue;
        index_shorten(d, d->rows);
        return fail(E_UNAVAILABLE, "the vector index could not grow");
    }
    /* From the last document to the first: what stands behind it moves to its final place. */
    float *rows = lethe_faiss_rows(d->index);
    uint32_t end = d->rows, to = d->rows + (uint32_t)added;
    for (size_t i = count; i-- > 0;) {
        const dense_document *doc = &documents[i];
        uint32_t at = lower_bound_below(d, doc->document, end);
        rows_move(d, rows, to - (end - at), at, end - at);
        to -= end - at + doc->count;
        end = at;
        if (doc->count)
            memcpy(rows + (size_t)to * d->dimensions, doc->vectors,
                   (size_t)doc->count * d->dimensions * sizeof *rows);
        for (uint32_t c = 0; c < doc->count; c++) d->keys[to + c] = (dense_key){doc->document, c};
    }
    d->rows += (uint32_t)added;
    return OK;
}

result dense_add(dense *d, id128 document, uint32_t count, const float *vectors)
{
    ASSERT(rows_of_document(d, lower_bound(d, document), document) == 0);
    return dense_add_many(d, &(dense_document){document, count, vectors}, 1);
}

/* Closes the gaps, zeroes the rows that fell off the end, and only then shortens the index: what
 * FAISS leaves behind its vector's end is zeros. What stays between two gaps moves once. */
void dense_remove_many(dense *d, const id128 *documents, size_t count)
{
    size_t dim = d->dimensions;
    float *rows = rows_of(d);
    uint32_t kept = 0, from = 0;
    for (size_t i = 0; i <= count; i++) {
        ASSERT(i == 0 || i == count || id_compare(documents[i - 1], documents[i]) < 0);
        uint32_t at = i < count ? lower_bound(d, documents[i]) : d->rows;
        rows_move(d, rows, kept, from, at - from);
        kept += at - from;
        from = i < count ? at + rows_of_document(d, at, documents[i]) : at;
    }
    if (kept == d->rows) return;
    if (MUTANT(erase_leaves_order)) rows_move(d, rows, 0, d->rows - 1, 1);     /* as a swap with the last does */
    mem_wipe(rows + kept * dim, (d->rows - kept) * dim * sizeof *rows);
    mem_wipe(d->keys + kept, (d->rows - kept) * sizeof *d->keys);
    index_shorten(d, kept);
    d->rows = kept;
}

void dense_remove(dense *d, id128 document) { dense_remove_many(d, &document, 1); }

/* Copies the rows from the given one on behind all of another. */
static result rows_append(const dense *from, uint32_t first, dense *to)
{
    uint32_t count = from->rows - first;
    if (count == 0) return OK;
    if (faiss_Index_add(to->index, count, rows_of(from) + (size_t)first * from->dimensions) != 0) {
        index_shorten(to, to->rows);
        return fail(E_UNAVAILABLE, "the vector index could not grow");
    }
    keys_reserve(to, to->rows + count);
    memcpy(to->keys + to->rows, from->keys + first, count * sizeof *to->keys);
    to->rows += count;
    return OK;
}

result dense_split(dense *d, id128 first, dense *upper)
{
    ASSERT(upper->rows == 0 && upper->dimensions == d->dimensions);
    uint32_t at = lower_bound(d, first);
    TRY(rows_append(d, at, upper));
    mem_wipe(d->keys + at, (d->rows - at) * sizeof *d->keys);
    mem_wipe(rows_of(d) + (size_t)at * d->dimensions, (size_t)(d->rows - at) * d->dimensions * sizeof(float));
    index_shorten(d, at);
    d->rows = at;
    return OK;
}

result dense_join(dense *d, dense *upper)
{
    ASSERT(d->rows == 0 || upper->rows == 0 ||
           id_compare(d->keys[d->rows - 1].document, upper->keys[0].document) < 0);
    TRY(rows_append(upper, 0, d));
    dense_wipe(upper);
    return OK;
}

uint32_t dense_rows(const dense *d) { return d->rows; }

dense_key dense_key_of(const dense *d, uint32_t row)
{
    ASSERT(row < d->rows);
    return d->keys[row];
}

const float *dense_vector(const dense *d, uint32_t row)
{
    ASSERT(row < d->rows);
    return rows_of(d) + (size_t)row * d->dimensions;
}

float dense_dot(const dense *d, uint32_t row, const float *query)
{
    return lethe_faiss_dot(dense_vector(d, row), query, d->dimensions);
}

bool dense_find(const dense *d, id128 document, uint32_t chunk, uint32_t *row)
{
    uint32_t at = lower_bound(d, document);
    if (chunk >= d->rows - at) return false;
    *row = at + chunk;
    return id_equal(d->keys[*row].document, document) && d->keys[*row].chunk == chunk;
}

result dense_search(const dense *d, const float *query, uint32_t k, dense_hit *hits,
                    uint32_t *hit_count)
{
    *hit_count = 0;
    if (k > d->rows) k = d->rows;
    if (k == 0) return OK;
    float *scores = mem_alloc_array(k, sizeof *scores);
    faiss_idx_t *labels = mem_alloc_array(k, sizeof *labels);
    int failed = faiss_Index_search(d->index, 1, query, k, scores, labels);
    for (uint32_t i = 0; !failed && i < k && labels[i] >= 0; i++) {
        hits[i] = (dense_hit){(uint32_t)labels[i], scores[i]};
        *hit_count = i + 1;
    }
    mem_free(scores);
    mem_free(labels);
    return failed ? fail(E_INTERNAL, "the vector search failed (%d)", failed) : OK;
}

uint64_t dense_bytes(const dense *d)
{
    return (uint64_t)d->rows * (d->dimensions * sizeof(float) + sizeof *d->keys);
}
