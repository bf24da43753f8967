/* keeper_wire: the messages between the server and the process that holds the root key. Pure.
 *
 * One message is one packet of a SOCK_SEQPACKET pair, at most KEEPER_MESSAGE_MAX_BYTES, numbers
 * little-endian. Who may say what (anything else ends the keeper, or its client's trust in it):
 *
 *   verb     server says              keeper answers                       keeper says unasked
 *   HELLO    -                        -                                    once, first: assurance,
 *                                                                          note; or why not
 *   CREATE   epoch                    done
 *   SEAL     epoch, associated, plain done, sealed
 *   OPEN     epoch, associated, sealed done, plain
 *   DESTROY  epoch                    done
 *   EPOCHS   -                        done, u64 each, ascending
 *
 *   request  u32 magic | u8 verb | u64 epoch | u16 associated size | u16 body size | associated | body
 *   reply    u32 magic | u8 verb | u8 error code | u16 body size | body; when the code is not OK the
 *            body is a sentence
 *
 * There is no verb that tells a key. */
#ifndef LETHE_KEEPER_WIRE_H
#define LETHE_KEEPER_WIRE_H

#include "holder.h"

enum { KEEPER_MESSAGE_MAX_BYTES = 4096, KEEPER_SENTENCE_MAX_BYTES = 480 };
typedef enum { KEEPER_HELLO = 1, KEEPER_CREATE, KEEPER_SEAL, KEEPER_OPEN, KEEPER_DESTROY,
               KEEPER_EPOCHS } keeper_verb;

typedef struct {
    keeper_verb verb;
    uint64_t epoch;                         /* from 1; 0 with EPOCHS */
    bytes associated, body;                 /* decoded: borrowed from the message */
} keeper_request;

typedef struct { keeper_verb verb; error_code code; bytes body; } keeper_reply;

/* out is empty before. */
void keeper_request_encode(const keeper_request *request, buf *out);
void keeper_reply_encode(const keeper_reply *reply, buf *out);
/* E_DATA_LOSS for anything but a whole message that its sender may say. */
MUST_USE result keeper_request_decode(bytes message, keeper_request *out);
MUST_USE result keeper_reply_decode(bytes message, keeper_verb expected, keeper_reply *out);

#endif
