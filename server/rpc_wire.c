#include "rpc_wire.h"

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_DELIMITED = 2, WIRE_FIXED32 = 5 };

static uint64_t varint(reader *r)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = reader_u8(r);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) return value;
    }
    r->bad = true;
    return 0;
}

bool wire_next(reader *r, wire_field *out)
{
    *out = (wire_field){.number = 0};
    if (r->bad || r->at >= r->size) return false;
    uint64_t key = varint(r);
    if (key >> 3 == 0 || key >> 3 > 0x1fffffff) r->bad = true;
    out->number = (uint32_t)(key >> 3);
    switch (key & 7) {
    case WIRE_VARINT: out->value = varint(r); break;
    case WIRE_FIXED64: out->value = reader_u64(r); break;
    case WIRE_FIXED32: out->value = reader_u32(r); break;
    case WIRE_DELIMITED: {
        uint64_t size = varint(r);
        if (r->bad || size > r->size - r->at) {
            r->bad = true;
            break;
        }
        out->data = bytes_of(reader_take(r, (size_t)size), (size_t)size);
        out->delimited = true;
        break;
    }
    default: r->bad = true;         /* groups: in none of these messages */
    }
    return !r->bad;
}

bytes wire_find(bytes message, uint32_t number)
{
    bytes found = bytes_of(NULL, 0);
    reader r = reader_of(message);
    wire_field f;
    while (wire_next(&r, &f)) {
        if (f.number == number && f.delimited) found = f.data;
    }
    return found;
}

bool wire_valid(bytes message)
{
    reader r = reader_of(message);
    wire_field f;
    while (wire_next(&r, &f)) { }
    return !r.bad;
}

static void put_varint(buf *out, uint64_t value)
{
    for (; value >= 0x80; value >>= 7) buf_append_u8(out, (uint8_t)(value | 0x80));
    buf_append_u8(out, (uint8_t)value);
}

void wire_put_number(buf *out, uint32_t number, uint64_t value)
{
    put_varint(out, (uint64_t)number << 3 | WIRE_VARINT);
    put_varint(out, value);
}

void wire_put_bytes(buf *out, uint32_t number, bytes value)
{
    put_varint(out, (uint64_t)number << 3 | WIRE_DELIMITED);
    put_varint(out, value.size);
    buf_append(out, value.data, value.size);
}
