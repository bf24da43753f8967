#include "message.h"

#include "rpc_wire.h"

#include <string.h>

static void *unpack_alloc(void *mem, size_t size) { return arena_alloc(mem, size); }
static void unpack_free(void *mem, void *p) { (void)mem; (void)p; }

static bool string_valid(const char *s) { return s == NULL || utf8_valid(bytes_str(s)); }

/* Every string of the message, submessages included (our types nest at most three deep). */
static bool strings_valid(const ProtobufCMessage *m)
{
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        const char *place = (const char *)m + f->offset;
        if (f->type != PROTOBUF_C_TYPE_STRING && f->type != PROTOBUF_C_TYPE_MESSAGE) continue;
        if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
            *(const uint32_t *)(const void *)((const char *)m + f->quantifier_offset) != f->id)
            continue;
        size_t n = 1;
        void *const *items = (void *const *)(const void *)place;
        if (f->label == PROTOBUF_C_LABEL_REPEATED) {
            n = *(const size_t *)(const void *)((const char *)m + f->quantifier_offset);
            items = *(void *const *const *)(const void *)place;
        }
        for (size_t k = 0; k < n; k++) {
            if (f->type == PROTOBUF_C_TYPE_STRING ? !string_valid(items[k])
                                                  : items[k] && !strings_valid(items[k]))
                return false;
        }
    }
    return true;
}

/* protobuf-c's strings end at their first NUL: text with one in it would be cut without a word. */
static bool has_nul(const ProtobufCMessageDescriptor *type, bytes packed)
{
    reader r = reader_of(packed);
    wire_field f;
    while (wire_next(&r, &f)) {
        const ProtobufCFieldDescriptor *d =
            f.delimited ? protobuf_c_message_descriptor_get_field(type, f.number) : NULL;
        if (d == NULL || f.data.size == 0) continue;
        if (d->type == PROTOBUF_C_TYPE_STRING && memchr(f.data.data, 0, f.data.size)) return true;
        if (d->type == PROTOBUF_C_TYPE_MESSAGE && has_nul(d->descriptor, f.data)) return true;
    }
    return false;
}

result message_unpack(arena *mem, const ProtobufCMessageDescriptor *type, bytes packed,
                      void *out_message)
{
    ProtobufCAllocator allocator = {unpack_alloc, unpack_free, mem};
    ProtobufCMessage *m = protobuf_c_message_unpack(type, &allocator, packed.size, packed.data);
    if (m == NULL) {
        TRY(arena_check(mem));
        return fail(E_INVALID, "not a well-formed %s", type->name);
    }
    if (!strings_valid(m)) return fail(E_INVALID, "a string of the message is not valid UTF-8");
    if (has_nul(type, packed)) return fail(E_INVALID, "a string of the message has a NUL character");
    *(ProtobufCMessage **)out_message = m;
    return OK;
}

typedef struct { ProtobufCBuffer base; buf *out; } buf_sink;

static void append(ProtobufCBuffer *sink, size_t size, const uint8_t *data)
{
    buf_append(((buf_sink *)(void *)sink)->out, data, size);
}

void message_pack(const ProtobufCMessage *message, buf *out)
{
    buf_sink sink = {{append}, out};
    protobuf_c_message_pack_to_buffer(message, &sink.base);
}
