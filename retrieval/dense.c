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
    const dense *centroids;        /* NULL: no lists */
    uint8_t *lists;                /* (rows): the nearest centroid of each */
};

static const char *const SCAN_NAMES[] = {"auto", "portable", "avx2", "faiss"};

result dense_open_path(dense **out, uint32_t dimensions, const dense *centroids, dense_path path)
{
    ASSERT(dimensions > 0);
    ASSERT(centroids == NULL || (centroids->dimensions == dimensions && centroids->centroids == NULL &&
                                 centroids->rows > 0 && centroids->rows <= DENSE_LISTS_MAX));
    FaissIndexFlatIP *index = NULL;
    int failed = path == DENSE_PLAIN_FAISS
        ? faiss_IndexFlatIP_new_with(&index, dimensions)
        : lethe_faiss_IndexFlatIP_new(&index, dimensions, (lethe_scan_path)path);
    if (failed)
        return fail(E_UNIMPLEMENTED, "this machine has no %s vector scan", SCAN_NAMES[path]);
    dense *d = mem_alloc(sizeof *d);
    d->index = index;
    d->dimensions = dimensions;
    d->centroids = centroids;
    *out = d;
    return OK;
}

result dense_open(dense **out, uint32_t dimensions)
{
    return dense_open_path(out, dimensions, NULL, DENSE_AUTO);
}

result dense_open_listed(dense **out, const dense *centroids)
{
    return dense_open_path(out, centroids->dimensions, centroids, DENSE_AUTO);
}

/* What stands beside the rows from the given one on becomes zeros. */
static void beside_wipe(dense *d, uint32_t from)
{
    mem_wipe(d->keys + from, (d->rows - from) * sizeof *d->keys);
    if (d->centroids && !MUTANT(list_unwiped)) mem_wipe(d->lists + from, (d->rows - from) * sizeof *d->lists);
}

/* Of keys and lists what is unused is zeros: never written, or wiped when it was vacated. */
void dense_wipe(dense *d)
{
    lethe_faiss_wipe(d->index);
    if (d->rows) beside_wipe(d, 0);
    d->rows = 0;
}

void dense_close(dense **d)
{
    if (*d == NULL) return;
    dense_wipe(*d);
    faiss_Index_free((*d)->index);
    mem_free((*d)->keys);
    mem_free((*d)->lists);
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

/* A larger piece of memory with the same beginning; the old one is wiped. */
static void *grown(void *old, size_t used, size_t size, size_t wider, size_t width)
{
    uint8_t *p = mem_alloc_array(wider, width);
    if (used) memcpy(p, old, used * width);
    mem_wipe(old, size * width);
    mem_free(old);
    return p;
}

static void beside_reserve(dense *d, uint32_t rows)
{
    if (rows <= d->capacity) return;
    uint32_t capacity = rows + rows / 2;
    d->keys = grown(d->keys, d->rows, d->capacity, capacity, sizeof *d->keys);
    if (d->centroids) d->lists = grown(d->lists, d->rows, d->capacity, capacity, sizeof *d->lists);
    d->capacity = capacity;
}

/* The list of each of the vectors, each searched for alone: its bits do not depend on who comes with it. */
static void lists_find(const dense *d, const float *vectors, uint32_t count, uint8_t *lists)
{
    float *scores = mem_alloc_array(count, sizeof *scores);
    faiss_idx_t *labels = mem_alloc_array(count, sizeof *labels);
    int failed = faiss_Index_search(d->centroids->index, count, vectors, 1, scores, labels);
    ASSERT(!failed);
    for (uint32_t i = 0; i < count; i++) lists[i] = (uint8_t)labels[i];
    mem_wipe(scores, count * sizeof *scores);
    mem_wipe(labels, count * sizeof *labels);
    mem_free(scores);
    mem_free(labels);
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
    if (to < from && MUTANT(list_keeps_erased)) return;
    if (d->centroids) memmove(d->lists + to, d->lists + from, count * sizeof *d->lists);
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
    beside_reserve(d, d->rows + (uint32_t)added);
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
        if (d->centroids && doc->count) lists_find(d, doc->vectors, doc->count, d->lists + to);
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
    beside_wipe(d, kept);
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
    beside_reserve(to, to->rows + count);
    memcpy(to->keys + to->rows, from->keys + first, count * sizeof *to->keys);
    if (to->centroids) memcpy(to->lists + to->rows, from->lists + first, count * sizeof *to->lists);
    to->rows += count;
    return OK;
}

result dense_split(dense *d, id128 first, dense *upper)
{
    ASSERT(upper->rows == 0 && upper->dimensions == d->dimensions && upper->centroids == d->centroids);
    uint32_t at = lower_bound(d, first);
    TRY(rows_append(d, at, upper));
    mem_wipe(rows_of(d) + (size_t)at * d->dimensions, (size_t)(d->rows - at) * d->dimensions * sizeof(float));
    beside_wipe(d, at);
    index_shorten(d, at);
    d->rows = at;
    return OK;
}

result dense_join(dense *d, dense *upper)
{
    ASSERT(d->rows == 0 || upper->rows == 0 ||
           id_compare(d->keys[d->rows - 1].document, upper->keys[0].document) < 0);
    ASSERT(d->centroids == upper->centroids);
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

/* Fills hits from a search for the best k of the picked rows (NULL: of all; count of them). floor NULL: none. */
static result best_of(const dense *d, const float *query, const uint32_t *picked, uint32_t count, const float *floor,
                      uint32_t k, dense_hit *hits, uint32_t *hit_count)
{
    *hit_count = 0;
    if (k > count) k = count;
    if (k == 0) return OK;
    float *scores = mem_alloc_array(k, sizeof *scores);
    faiss_idx_t *labels = mem_alloc_array(k, sizeof *labels);
    int failed = floor == NULL
        ? faiss_Index_search(d->index, 1, query, k, scores, labels)
        : lethe_faiss_search_some(d->index, picked, count, *floor, query, k, scores, labels);
    for (uint32_t i = 0; !failed && i < k && labels[i] >= 0; i++) {
        hits[i] = (dense_hit){(uint32_t)labels[i], scores[i]};
        *hit_count = i + 1;
    }
    mem_free(scores);
    mem_free(labels);
    return failed ? fail(E_INTERNAL, "the vector search failed (%d)", failed) : OK;
}

result dense_search(const dense *d, const float *query, uint32_t k, dense_hit *hits,
                    uint32_t *hit_count)
{
    return best_of(d, query, NULL, d->rows, NULL, k, hits, hit_count);
}

result dense_search_some(const dense *d, const float *query, const bool *chosen, float floor, uint32_t k,
                         dense_hit *hits, uint32_t *hit_count)
{
    if (chosen == NULL) return best_of(d, query, NULL, d->rows, &floor, k, hits, hit_count);
    ASSERT(d->centroids != NULL);
    uint32_t *picked = mem_alloc_array(d->rows, sizeof *picked), count = 0;
    for (uint32_t r = 0; r < d->rows; r++) {
        picked[count] = r;
        count += chosen[d->lists[r]];
    }
    result done = best_of(d, query, picked, count, &floor, k, hits, hit_count);
    mem_free(picked);
    return done;
}

/* Four tables, since neighbours are often of one list: each would wait for the other's sum to be written. */
void dense_count_lists(const dense *d, uint64_t *sizes)
{
    ASSERT(d->centroids != NULL);
    uint32_t counts[4][DENSE_LISTS_MAX] = {{0}}, r = 0;
    for (; r + 4 <= d->rows; r += 4)
        for (uint32_t i = 0; i < 4; i++) counts[i][d->lists[r + i]]++;
    for (; r < d->rows; r++) counts[0][d->lists[r]]++;
    for (uint32_t i = 0; i < DENSE_LISTS_MAX; i++)
        sizes[i] += (uint64_t)counts[0][i] + counts[1][i] + counts[2][i] + counts[3][i];
}

const uint8_t *dense_lists(const dense *d) { return d->lists; }

uint8_t dense_list(const dense *d, uint32_t row)
{
    ASSERT(d->centroids != NULL && row < d->rows);
    return d->lists[row];
}

uint64_t dense_bytes(const dense *d)
{
    size_t list = d->centroids ? sizeof *d->lists : 0;
    return (uint64_t)d->rows * (d->dimensions * sizeof(float) + sizeof *d->keys + list);
}
