#include "compartment.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void holding_init(holding *h, uint32_t dimensions) { *h = (holding){.dimensions = dimensions}; }

static void compartment_free(compartment *c)
{
    dense_close(&c->vectors);
    lexical_close(&c->words);
    mem_wipe(c, sizeof *c);
    mem_free(c);
}

static void document_free(holding_document *d)
{
    mem_wipe(d->path, strlen(d->path));
    mem_free(d->path);
    mem_wipe(d, sizeof *d);
}

void holding_wipe(holding *h)
{
    for (uint32_t i = 0; i < h->compartment_count; i++) {
        compartment *c = h->compartments[i];
        dense_wipe(c->vectors);
        lexical_wipe(c->words);
        mem_wipe(&c->label, sizeof c->label);
    }
    for (uint32_t i = 0; i < h->document_count; i++) document_free(&h->documents[i]);
    h->document_count = 0;
}

void holding_clear(holding *h)
{
    for (uint32_t i = 0; i < h->compartment_count; i++) compartment_free(h->compartments[i]);
    for (uint32_t i = 0; i < h->document_count; i++) document_free(&h->documents[i]);
    mem_free(h->compartments);
    mem_free(h->documents);
    holding_init(h, h->dimensions);
}

static uint64_t id_half(id128 id, size_t half)
{
    uint64_t v;
    memcpy(&v, id.b + 8 * half, sizeof v);
    return __builtin_bswap64(v);
}

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "ids are compared as big-endian halves");

/* As id_compare(a, b) < 0, and id_equal, but without a branch. */
static uint32_t id_before(id128 a, id128 b)
{
    uint64_t a0 = id_half(a, 0), a1 = id_half(a, 1), b0 = id_half(b, 0), b1 = id_half(b, 1);
    return (uint32_t)(a0 < b0) | ((uint32_t)(a0 == b0) & (uint32_t)(a1 < b1));
}

static bool id_same(id128 a, id128 b)
{
    return ((id_half(a, 0) ^ id_half(b, 0)) | (id_half(a, 1) ^ id_half(b, 1))) == 0;
}

/* Where the id stands or would stand. The steps depend on the count alone: ids that are not the caller's steer no
 * branch (tests/bench/bench_timing.c). */
static uint32_t position_of(const holding *h, id128 id)
{
    uint32_t at = 0;
    for (uint32_t n = h->document_count; n > 0;) {
        uint32_t half = (n + 1) / 2;
        at += half * id_before(h->documents[at + half - 1].id, id);
        n -= half;
    }
    return at;
}

holding_document *holding_find(const holding *h, id128 id)
{
    uint32_t at = position_of(h, id);
    return at < h->document_count && id_equal(h->documents[at].id, id) ? &h->documents[at] : NULL;
}

const holding_document *holding_near(const holding *h, id128 id, bool *present)
{
    uint32_t at = position_of(h, id), last = h->document_count - 1;
    *present = false;
    if (h->document_count == 0) return NULL;
    const holding_document *d = &h->documents[at < last ? at : last];
    *present = id_same(d->id, id);
    return d;
}

static int by_id(const void *a, const void *b)
{
    return id_compare(*(const id128 *)a, *(const id128 *)b);
}

static int by_home_then_id(const void *a_, const void *b_)
{
    const holding_document *a = *(holding_document *const *)a_, *b = *(holding_document *const *)b_;
    if (a->home != b->home) return a->home < b->home ? -1 : 1;
    return id_compare(a->id, b->id);
}

/* Those of the targets that are there, sorted by compartment and then by id. */
static size_t documents_find(const holding *h, const id128 *ids, size_t count, holding_document **out)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && id_equal(ids[i], ids[i - 1])) continue;
        out[n] = holding_find(h, ids[i]);
        n += out[n] != NULL;
    }
    if (n > 1) qsort(out, n, sizeof *out, by_home_then_id);
    return n;
}

/* The rows of each compartment in one pass. ids: room for count. */
static void rows_remove(holding_document *const *gone, size_t count, id128 *ids)
{
    for (size_t from = 0, end; from < count; from = end) {
        compartment *c = gone[from]->home;
        for (end = from; end < count && gone[end]->home == c; end++) ids[end - from] = gone[end]->id;
        c->documents -= (uint32_t)(end - from);
        if (c->documents == 0) continue;         /* all of it goes */
        dense_remove_many(c->vectors, ids, end - from);
        lexical_remove_many(c->words, ids, end - from);
    }
}

/* The gaps in the list of documents close; what has become free behind it is wiped. */
static void documents_close(holding *h)
{
    uint32_t kept = 0, end;
    for (uint32_t i = 0; i < h->document_count; i = end) {
        for (; i < h->document_count && h->documents[i].home == NULL;) i++;
        for (end = i; end < h->document_count && h->documents[end].home != NULL;) end++;
        if (kept < i) memmove(h->documents + kept, h->documents + i, (end - i) * sizeof *h->documents);
        kept += end - i;
    }
    mem_wipe(h->documents + kept, (h->document_count - kept) * sizeof *h->documents);
    h->document_count = kept;
}

static void compartments_close(holding *h)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < h->compartment_count; i++) {
        if (h->compartments[i]->documents > 0) h->compartments[kept++] = h->compartments[i];
        else compartment_free(h->compartments[i]);
    }
    h->compartment_count = kept;
}

void holding_remove_many(holding *h, const id128 *ids, size_t count)
{
    if (count == 0) return;
    id128 *sorted = mem_alloc_array(count, sizeof *sorted);
    holding_document **gone = mem_alloc_array(count, sizeof(holding_document *));
    memcpy(sorted, ids, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_id);
    size_t n = documents_find(h, sorted, count, gone);
    rows_remove(gone, n, sorted);
    for (size_t i = 0; i < n; i++) {
        h->chunks -= gone[i]->chunk_count;
        h->text_bytes -= gone[i]->size_bytes;
        document_free(gone[i]);                  /* zeros: without a home */
    }
    if (n > 0) {
        documents_close(h);
        compartments_close(h);
    }
    mem_free(sorted);
    mem_free(gone);
}

void holding_remove(holding *h, id128 id) { holding_remove_many(h, &id, 1); }

static result compartment_of(holding *h, const ifc_label *label, compartment **out)
{
    for (uint32_t i = 0; i < h->compartment_count; i++)
        if (ifc_label_equal(&h->compartments[i]->label, label)) {
            *out = h->compartments[i];
            return OK;
        }
    compartment *c = mem_alloc(sizeof *c);
    c->label = *label;
    result r = dense_open(&c->vectors, h->dimensions);
    if (!is_ok(r)) {
        mem_free(c);
        return r;
    }
    lexical_open(&c->words);
    if (h->compartment_count == h->compartment_capacity) {
        h->compartment_capacity = h->compartment_capacity * 2 + 4;
        h->compartments =
            mem_realloc(h->compartments, h->compartment_capacity * sizeof *h->compartments);
    }
    h->compartments[h->compartment_count++] = c;
    *out = c;
    return OK;
}

static void document_insert(holding *h, const store_header *header, compartment *home)
{
    if (h->document_count == h->document_capacity) {
        h->document_capacity = h->document_capacity * 2 + 16;
        h->documents = mem_realloc(h->documents, h->document_capacity * sizeof *h->documents);
    }
    uint32_t at = position_of(h, header->id);
    holding_document *d = &h->documents[at];
    memmove(d + 1, d, (h->document_count - at) * sizeof *d);
    *d = (holding_document){.id = header->id, .home = home, .path = mem_strdup(header->path),
                            .size_bytes = header->size_bytes, .chunk_count = header->chunk_count};
    memcpy(d->media_type, header->media_type, sizeof d->media_type);
    h->document_count++;
    h->chunks += header->chunk_count;
    h->text_bytes += header->size_bytes;
    home->documents++;
}

static int by_group_then_id(const void *a, const void *b)
{
    const holding_addition *x = a, *y = b;
    if (x->group != y->group) return x->group < y->group ? -1 : 1;
    return id_compare(x->header->id, y->header->id);
}

/* Additions of one label, ascending ids. */
static result add_to_compartment(holding *h, const holding_addition *additions, size_t count)
{
    compartment *c;
    terms *t;
    lexical *words;
    TRY(compartment_of(h, &additions[0].header->label, &c));
    dense_document *rows = mem_alloc_array(count, sizeof *rows);
    for (size_t i = 0; i < count; i++)
        rows[i] = (dense_document){additions[i].header->id, additions[i].header->chunk_count,
                                   additions[i].vectors};
    result r = dense_add_many(c->vectors, rows, count);
    mem_free(rows);
    if (!is_ok(r)) return r;
    terms_open(&t);
    lexical_open(&words);
    for (size_t i = 0; i < count; i++)
        lexical_append(words, t, additions[i].header->id, additions[i].texts,
                       additions[i].header->chunk_count);
    lexical_merge(c->words, words);
    lexical_close(&words);
    terms_close(&t);
    for (size_t i = 0; i < count; i++) document_insert(h, additions[i].header, c);
    return OK;
}

result holding_add(holding *h, holding_addition *additions, size_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t first = 0;
        while (!ifc_label_equal(&additions[first].header->label, &additions[i].header->label))
            first++;
        additions[i].group = first;
    }
    if (count > 1) qsort(additions, count, sizeof *additions, by_group_then_id);
    for (size_t from = 0; from < count;) {
        size_t end = from + 1;
        while (end < count && additions[end].group == additions[from].group) end++;
        TRY(add_to_compartment(h, additions + from, end - from));
        from = end;
    }
    return OK;
}

/* ---- from the store -------------------------------------------------------------------------- */

/* The chunks of one document: texts in one buffer, found by their ends. */
typedef struct { buf text, vectors, ends; uint32_t dimensions; } loaded;

static void loaded_init(loaded *l, uint32_t dimensions)
{
    l->dimensions = dimensions;
    buf_init(&l->text, SIZE_MAX);
    buf_init(&l->vectors, SIZE_MAX);
    buf_init(&l->ends, SIZE_MAX);
}

static void loaded_free(loaded *l)
{
    buf_free(&l->text);
    buf_free(&l->vectors);
    buf_free(&l->ends);
}

static result load_chunk(void *ctx, uint32_t number, const store_chunk *chunk)
{
    loaded *l = ctx;
    (void)number;
    buf_append(&l->text, chunk->text.data, chunk->text.size);
    buf_append(&l->vectors, chunk->vector, l->dimensions * sizeof *chunk->vector);
    buf_append_u64(&l->ends, l->text.size);
    return OK;
}

static bytes *loaded_texts(const loaded *l, uint32_t count)
{
    bytes *texts = mem_alloc_array(count, sizeof *texts);
    uint64_t start = 0, end;
    for (uint32_t i = 0; i < count; i++, start = end) {
        memcpy(&end, l->ends.data + i * sizeof end, sizeof end);
        texts[i] = bytes_of(l->text.data + start, (size_t)(end - start));
    }
    return texts;
}

result holding_load_document(holding *h, store *disk, const store_header *header)
{
    loaded l;
    loaded_init(&l, h->dimensions);
    result r = store_each_chunk(disk, header->id, 0, header->chunk_count, load_chunk, &l);
    if (is_ok(r)) {
        bytes *texts = loaded_texts(&l, header->chunk_count);
        holding_addition one = {header, texts, (const float *)(const void *)l.vectors.data, 0};
        r = holding_add(h, &one, 1);
        mem_free(texts);
    }
    loaded_free(&l);
    return r;
}

/* Documents come in id order, so each goes to the end of its compartment. */
typedef struct {
    holding *h;
    store *disk;
    terms *t;
    loaded chunks;
    bool (*skip)(void *ctx, id128 id);
    void *ctx;
} loading;

static result load_document(void *ctx, const store_header *header)
{
    loading *l = ctx;
    compartment *c;
    if (l->skip(l->ctx, header->id)) return OK;
    buf_clear(&l->chunks.text);
    buf_clear(&l->chunks.vectors);
    buf_clear(&l->chunks.ends);
    TRY(store_each_chunk(l->disk, header->id, 0, header->chunk_count, load_chunk, &l->chunks));
    TRY(compartment_of(l->h, &header->label, &c));
    TRY(dense_add(c->vectors, header->id, header->chunk_count,
                  (const float *)(const void *)l->chunks.vectors.data));
    bytes *texts = loaded_texts(&l->chunks, header->chunk_count);
    lexical_append(c->words, l->t, header->id, texts, header->chunk_count);
    mem_free(texts);
    document_insert(l->h, header, c);
    return OK;
}

result holding_load(holding *h, store *disk, bool (*skip)(void *ctx, id128 id), void *ctx)
{
    loading l = {.h = h, .disk = disk, .skip = skip, .ctx = ctx};
    terms_open(&l.t);
    loaded_init(&l.chunks, h->dimensions);
    result r = store_each_document(disk, load_document, &l);
    loaded_free(&l.chunks);
    terms_close(&l.t);
    if (!is_ok(r)) holding_clear(h);
    return r;
}

uint64_t holding_vectors_bytes(const holding *h)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < h->compartment_count; i++)
        sum += dense_bytes(h->compartments[i]->vectors);
    return sum;
}

uint64_t holding_lexical_bytes(const holding *h)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < h->compartment_count; i++)
        sum += lexical_bytes(h->compartments[i]->words);
    return sum;
}
