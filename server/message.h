/* message: protobuf-c messages from and to bytes, for the server and the client. */
#ifndef LETHE_MESSAGE_H
#define LETHE_MESSAGE_H

#include "base.h"

#include <protobuf-c/protobuf-c.h>

/* Unpacks into the arena, which bounds what a hostile message can make grow. Every string must be valid
 * UTF-8. out_message: a pointer to the message type's pointer. E_INVALID, E_EXHAUSTED. */
MUST_USE result message_unpack(arena *mem, const ProtobufCMessageDescriptor *type, bytes packed,
                               void *out_message);
void message_pack(const ProtobufCMessage *message, buf *out);

#endif
