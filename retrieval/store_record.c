#include "store_record.h"

#include <math.h>
#include <string.h>

enum { RECORD_FORMAT = 1 };
_Static_assert(sizeof(float) == 4, "vectors are stored as f32");

result store_header_encode(const store_header *h, buf *out)
{
    size_t path = strnlen(h->path, sizeof h->path), media = strnlen(h->media_type,
                                                                    sizeof h->media_type);
    if (path == sizeof h->path || media == sizeof h->media_type)
        return fail(E_INVALID, "a document's path or media type is too long");
    buf label;
    buf_init(&label, STORE_RECORD_MAX_BYTES);
    ifc_label_encode(&h->label, &label);
    result r = buf_check(&label);
    buf_append_u8(out, RECORD_FORMAT);
    buf_append_u32(out, h->chunk_count);
    buf_append_u64(out, h->size_bytes);
    buf_append_u8(out, (uint8_t)media);
    buf_append(out, h->media_type, media);
    buf_append_u16(out, (uint16_t)path);
    buf_append(out, h->path, path);
    buf_append_u32(out, (uint32_t)label.size);
    buf_append(out, label.data, label.size);
    buf_free(&label);
    return is_ok(r) ? buf_check(out) : r;
}

/* Copies a string field; no NUL inside, and it must leave room for one behind. */
static bool take_text(reader *in, size_t size, char *out, size_t out_size)
{
    const uint8_t *p = reader_take(in, size);
    if (p == NULL || size >= out_size || memchr(p, 0, size) != NULL) return false;
    memcpy(out, p, size);
    memset(out + size, 0, out_size - size);
    return true;
}

result store_header_decode(bytes plain, store_header *out)
{
    reader in = reader_of(plain);
    uint8_t format = reader_u8(&in);
    out->chunk_count = reader_u32(&in);
    out->size_bytes = reader_u64(&in);
    bool good = format == RECORD_FORMAT;
    good = good && take_text(&in, reader_u8(&in), out->media_type, sizeof out->media_type);
    good = good && take_text(&in, reader_u16(&in), out->path, sizeof out->path);
    uint32_t size = good ? reader_u32(&in) : 0;
    const uint8_t *label = good ? reader_take(&in, size) : NULL;
    if (label == NULL) return fail(E_DATA_LOSS, "a document's header is malformed");
    TRY(ifc_label_decode(bytes_of(label, size), &out->label));
    return reader_done(&in, "a document's header");
}

result store_chunk_encode(const store_chunk *chunk, uint32_t dimensions, buf *out)
{
    if (chunk->end < chunk->start || chunk->end - chunk->start != chunk->text.size)
        return fail(E_INVALID, "a chunk's span is not its text's size");
    buf_append_u8(out, RECORD_FORMAT);
    buf_append_u64(out, chunk->start);
    buf_append_u64(out, chunk->end);
    buf_append_u32(out, dimensions);
    for (uint32_t i = 0; i < dimensions; i++) {
        uint32_t raw;
        if (!isfinite(chunk->vector[i])) return fail(E_INVALID, "a chunk's vector is not finite");
        memcpy(&raw, &chunk->vector[i], sizeof raw);
        buf_append_u32(out, raw);
    }
    buf_append(out, chunk->text.data, chunk->text.size);
    return buf_check(out);
}

result store_chunk_decode(bytes plain, uint32_t dimensions, float *vector, store_chunk *out)
{
    reader in = reader_of(plain);
    uint8_t format = reader_u8(&in);
    out->start = reader_u64(&in);
    out->end = reader_u64(&in);
    if (reader_u32(&in) != dimensions || format != RECORD_FORMAT || out->end < out->start)
        return fail(E_DATA_LOSS, "a chunk is malformed");
    for (uint32_t i = 0; i < dimensions; i++) {
        uint32_t raw = reader_u32(&in);
        memcpy(&vector[i], &raw, sizeof raw);
        if (!isfinite(vector[i])) return fail(E_DATA_LOSS, "a chunk's vector is malformed");
    }
    uint64_t size = out->end - out->start;
    const uint8_t *text = size <= plain.size ? reader_take(&in, (size_t)size) : NULL;
    if (text == NULL) return fail(E_DATA_LOSS, "a chunk is malformed");
    out->text = bytes_of(text, (size_t)size);
    out->vector = vector;
    return reader_done(&in, "a chunk");
}
