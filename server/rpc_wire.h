/* rpc_wire: protobuf's wire format, as much as health and reflection need: one level at a time, no
 * recursion, every length checked. Source: protobuf's "Encoding" document. */
#ifndef LETHE_RPC_WIRE_H
#define LETHE_RPC_WIRE_H

#include "base.h"

typedef struct {
    uint32_t number;
    uint64_t value;                 /* varint and fixed fields */
    bytes data;                     /* length-delimited fields; borrowed; else empty */
    bool delimited;
} wire_field;

/* The next field. False at the end, and at malformed input, which sets r->bad. */
bool wire_next(reader *r, wire_field *out);
/* The last length-delimited field of this number (protobuf: the last one wins); empty if absent. */
bytes wire_find(bytes message, uint32_t number);
/* Whether the message's top level is well formed. */
bool wire_valid(bytes message);

void wire_put_number(buf *out, uint32_t number, uint64_t value);
void wire_put_bytes(buf *out, uint32_t number, bytes value);

#endif
