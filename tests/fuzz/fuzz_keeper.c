/* The messages between the server and the root key's keeper. Byte 0: 0 a request, else the verb that a reply
 * must belong to; the rest is the message. What decodes must encode to the same bytes. */
#include "holder/keeper_wire.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    bytes message = bytes_of(data + 1, size - 1);
    buf again;
    buf_init(&again, KEEPER_MESSAGE_MAX_BYTES);
    bool decoded;
    if (data[0] == 0) {
        keeper_request request = {0};
        decoded = is_ok(keeper_request_decode(message, &request));
        if (decoded) keeper_request_encode(&request, &again);
    } else {
        keeper_reply reply = {0};
        decoded = is_ok(keeper_reply_decode(message, (keeper_verb)data[0], &reply));
        if (decoded) keeper_reply_encode(&reply, &again);
    }
    if (decoded && !bytes_equal(buf_bytes(&again), message)) __builtin_trap();
    buf_free(&again);
    return 0;
}
