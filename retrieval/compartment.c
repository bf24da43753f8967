#include "compartment.h"
#include "mutant.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void holding_init(holding *h, uint32_t dimensions, const dense *centroids)
{
    *h = (holding){.dimensions = dimensions, .part_rows_max = PART_ROWS_MAX, .centroids = centroids};
}

static void part_free(part *p)
{
    dense_close(&p->vectors);
    lexical_close(&p->words);
    mem_wipe(p, sizeof *p);
    mem_free(p);
}

const char *holding_media_type(const holding_document *d) { return d->path + strlen(d->path) + 1; }

static void document_free(holding_document *d)
{
    const char *last = holding_media_type(d);
    mem_wipe(d->path, (size_t)(last - d->path) + strlen(last));
    mem_free(d->path);
    mem_wipe(d, sizeof *d);
}

void holding_wipe(holding *h)
{
    for (uint32_t i = 0; i < h->part_count; i++) {
        part *p = h->parts[i];
        dense_wipe(p->vectors);
        lexical_wipe(p->words);
        mem_wipe(&p->label, sizeof p->label);
        mem_wipe(&p->prefix, sizeof p->prefix);
    }
    for (uint32_t i = 0; i < h->document_count; i++) document_free(&h->documents[i]);
    h->document_count = 0;
}

void holding_clear(holding *h)
{
    for (uint32_t i = 0; i < h->part_count; i++) part_free(h->parts[i]);
    for (uint32_t i = 0; i < h->document_count; i++) document_free(&h->documents[i]);
    mem_free(h->parts);
    mem_free(h->documents);
    *h = (holding){.dimensions = h->dimensions, .part_rows_max = h->part_rows_max, .centroids = h->centroids};
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

/* Those of the targets that are there, sorted by part and then by id. */
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

/* The rows of each part in one pass. ids: room for count. */
static void rows_remove(holding_document *const *gone, size_t count, id128 *ids)
{
    for (size_t from = 0, end; from < count; from = end) {
        part *p = gone[from]->home;
        for (end = from; end < count && gone[end]->home == p; end++) ids[end - from] = gone[end]->id;
        p->documents -= (uint32_t)(end - from);
        if (p->documents == 0) continue;         /* all of it goes */
        dense_remove_many(p->vectors, ids, end - from);
        lexical_remove_many(p->words, ids, end - from);
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

/* ---- parts ----------------------------------------------------------------------------------- */

static uint32_t id_bit(id128 id, uint32_t n) { return id.b[n / 8] >> (7 - n % 8) & 1u; }

static id128 id_with_bit(id128 id, uint32_t n, uint32_t bit)
{
    uint8_t mask = (uint8_t)(0x80u >> (n % 8));
    id.b[n / 8] = (uint8_t)(bit ? id.b[n / 8] | mask : id.b[n / 8] & ~mask);
    return id;
}

/* How many first bits two ids share, at most the given number. */
static uint32_t bits_shared(id128 a, id128 b, uint32_t most)
{
    uint32_t n = 0;
    while (n < most && n % 8 == 0 && most - n >= 8 && a.b[n / 8] == b.b[n / 8]) n += 8;
    while (n < most && id_bit(a, n) == id_bit(b, n)) n++;
    return n;
}

static bool part_holds(const part *p, id128 id) { return bits_shared(p->prefix, id, p->bits) == p->bits; }

static result part_add(holding *h, const ifc_label *label, id128 prefix, uint32_t bits, part **out)
{
    part *p = mem_alloc(sizeof *p);
    p->label = *label;
    p->bits = bits;
    memcpy(p->prefix.b, prefix.b, (bits + 7) / 8);
    for (uint32_t n = bits; n % 8 != 0; n++) p->prefix = id_with_bit(p->prefix, n, 0);
    result r = h->centroids ? dense_open_listed(&p->vectors, h->centroids) : dense_open(&p->vectors, h->dimensions);
    if (!is_ok(r)) {
        mem_free(p);
        return r;
    }
    lexical_open(&p->words);
    if (h->part_count == h->part_capacity) {
        h->part_capacity = h->part_capacity * 2 + 4;
        h->parts = mem_realloc(h->parts, h->part_capacity * sizeof(part *));
    }
    h->parts[h->part_count++] = p;
    *out = p;
    return OK;
}

/* The part where a document of that label and id stands or would stand; none: a new one, as long as the division that
 * its neighbours show. */
static result part_of(holding *h, const ifc_label *label, id128 id, part **out)
{
    uint32_t bits = 0;
    for (uint32_t i = 0; i < h->part_count; i++) {
        part *p = h->parts[i];
        uint32_t shared = bits_shared(p->prefix, id, p->bits);
        if ((shared < p->bits && shared < bits) || !ifc_label_equal(&p->label, label)) continue;
        *out = p;
        if (shared == p->bits) return OK;
        bits = shared + 1;
    }
    return part_add(h, label, id, bits, out);
}

/* The documents of one part become another's, from the given id on; how many. */
static uint32_t documents_rehome(holding *h, const part *from, part *to, id128 first)
{
    uint32_t n = 0;
    for (uint32_t i = position_of(h, first); i < h->document_count; i++) {
        holding_document *d = &h->documents[i];
        if (d->home == from) {
            d->home = to;
            n++;
        } else if (!part_holds(from, d->id)) {
            break;
        }
    }
    return n;
}

static bool part_fits(const holding *h, uint64_t rows, uint64_t documents)
{
    return rows <= h->part_rows_max || documents <= 1;
}

static void part_remove(holding *h, part *p)
{
    uint32_t i = 0;
    while (h->parts[i] != p) i++;
    h->parts[i] = h->parts[--h->part_count];
    part_free(p);
}

/* Divides a part until each fits; one of the halves may be empty, and goes. p may go. */
static result part_divide(holding *h, part *p)
{
    while (!part_fits(h, dense_rows(p->vectors), p->documents)) {
        part *upper;
        id128 middle = id_with_bit(p->prefix, p->bits, 1);
        TRY(part_add(h, &p->label, middle, p->bits + 1, &upper));
        TRY(dense_split(p->vectors, middle, upper->vectors));
        lexical_split(p->words, middle, upper->words);
        upper->documents = documents_rehome(h, p, upper, middle);
        p->documents -= upper->documents;
        p->bits++;
        if (upper->documents == 0) {
            part_remove(h, upper);
        } else if (p->documents == 0) {
            part_remove(h, p);
            p = upper;
        } else {
            TRY(part_divide(h, upper));
        }
    }
    return OK;
}

/* The part beside p, with which it would be one of a bit less. *divided: what is beside it is several. */
static part *part_beside(const holding *h, const part *p, bool *divided)
{
    part *found = NULL;
    id128 other = id_with_bit(p->prefix, p->bits - 1, !id_bit(p->prefix, p->bits - 1));
    *divided = false;
    for (uint32_t i = 0; i < h->part_count; i++) {
        part *q = h->parts[i];
        if (q->bits < p->bits || bits_shared(q->prefix, other, p->bits) < p->bits ||
            !ifc_label_equal(&q->label, &p->label)) continue;
        found = q;
        *divided = q->bits > p->bits;
        if (*divided) break;
    }
    return found;
}

/* Makes p and what is beside it one, if that fits; p may go. Should memory fail, they stay two. */
static bool part_unite(holding *h, part *p)
{
    bool divided;
    if (p->bits == 0 || MUTANT(parts_stay_divided)) return false;
    part *q = part_beside(h, p, &divided);
    if (divided || !part_fits(h, dense_rows(p->vectors) + (q ? dense_rows(q->vectors) : 0),
                              p->documents + (q ? q->documents : 0))) return false;
    part *low = q != NULL && id_bit(p->prefix, p->bits - 1) ? q : p, *high = low == p ? q : p;
    if (high != NULL) {
        if (!is_ok(dense_join(low->vectors, high->vectors))) return false;
        lexical_merge(low->words, high->words);
        low->documents += documents_rehome(h, high, low, high->prefix);
        part_remove(h, high);
    }
    low->bits--;
    low->prefix = id_with_bit(low->prefix, low->bits, 0);
    return true;
}

/* After removals: empty parts go, and those that fit into one unite. */
static void parts_close(holding *h)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < h->part_count; i++) {
        if (h->parts[i]->documents > 0) h->parts[kept++] = h->parts[i];
        else part_free(h->parts[i]);
    }
    h->part_count = kept;
    for (uint32_t i = 0; i < h->part_count;)
        i = part_unite(h, h->parts[i]) ? 0 : i + 1;
}

/* ---- removal --------------------------------------------------------------------------------- */

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
        parts_close(h);
    }
    mem_free(sorted);
    mem_free(gone);
}

void holding_remove(holding *h, id128 id) { holding_remove_many(h, &id, 1); }

/* ---- addition -------------------------------------------------------------------------------- */

static void document_insert(holding *h, const store_header *header, part *home)
{
    if (h->document_count == h->document_capacity) {
        h->document_capacity = h->document_capacity * 2 + 16;
        h->documents = mem_realloc(h->documents, h->document_capacity * sizeof *h->documents);
    }
    size_t path_size = strlen(header->path) + 1, type_size = strlen(header->media_type) + 1;
    char *path = mem_alloc(path_size + type_size);
    memcpy(path, header->path, path_size);
    memcpy(path + path_size, header->media_type, type_size);
    uint32_t at = position_of(h, header->id);
    holding_document *d = &h->documents[at];
    memmove(d + 1, d, (h->document_count - at) * sizeof *d);
    *d = (holding_document){.id = header->id, .home = home, .path = path,
                            .size_bytes = header->size_bytes, .chunk_count = header->chunk_count};
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

/* Additions to one part, ascending ids. */
static result add_to_part(holding *h, part *p, const holding_addition *additions, size_t count)
{
    terms *t;
    lexical *words;
    dense_document *rows = mem_alloc_array(count, sizeof *rows);
    for (size_t i = 0; i < count; i++)
        rows[i] = (dense_document){additions[i].header->id, additions[i].header->chunk_count,
                                   additions[i].vectors};
    result r = dense_add_many(p->vectors, rows, count);
    mem_free(rows);
    if (!is_ok(r)) return r;
    terms_open(&t);
    lexical_open(&words);
    for (size_t i = 0; i < count; i++)
        lexical_append(words, t, additions[i].header->id, additions[i].texts,
                       additions[i].header->chunk_count);
    lexical_merge(p->words, words);
    lexical_close(&words);
    terms_close(&t);
    for (size_t i = 0; i < count; i++) document_insert(h, additions[i].header, p);
    return part_divide(h, p);
}

/* Additions of one label, ascending ids. */
static result add_to_compartment(holding *h, const holding_addition *additions, size_t count)
{
    for (size_t from = 0, end; from < count; from = end) {
        part *p;
        TRY(part_of(h, &additions[from].header->label, additions[from].header->id, &p));
        for (end = from + 1; end < count && part_holds(p, additions[end].header->id); end++) {}
        TRY(add_to_part(h, p, additions + from, end - from));
    }
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

/* Documents come in id order, so each goes to the end of its part. */
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
    part *p;
    if (l->skip(l->ctx, header->id)) return OK;
    buf_clear(&l->chunks.text);
    buf_clear(&l->chunks.vectors);
    buf_clear(&l->chunks.ends);
    TRY(store_each_chunk(l->disk, header->id, 0, header->chunk_count, load_chunk, &l->chunks));
    TRY(part_of(l->h, &header->label, header->id, &p));
    TRY(dense_add(p->vectors, header->id, header->chunk_count,
                  (const float *)(const void *)l->chunks.vectors.data));
    bytes *texts = loaded_texts(&l->chunks, header->chunk_count);
    lexical_append(p->words, l->t, header->id, texts, header->chunk_count);
    mem_free(texts);
    document_insert(l->h, header, p);
    return part_divide(l->h, p);
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
    for (uint32_t i = 0; i < h->part_count; i++)
        sum += dense_bytes(h->parts[i]->vectors);
    return sum;
}

uint64_t holding_lexical_bytes(const holding *h)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < h->part_count; i++)
        sum += lexical_bytes(h->parts[i]->words);
    return sum;
}
