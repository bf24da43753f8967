#include "keeper_wire.h"

static const uint32_t REQUEST_MAGIC = 0x3151534bu, REPLY_MAGIC = 0x3150524bu;

void keeper_request_encode(const keeper_request *request, buf *out)
{
    ASSERT(request->associated.size <= UINT16_MAX && request->body.size <= UINT16_MAX);
    buf_append_u32(out, REQUEST_MAGIC);
    buf_append_u8(out, (uint8_t)request->verb);
    buf_append_u64(out, request->epoch);
    buf_append_u16(out, (uint16_t)request->associated.size);
    buf_append_u16(out, (uint16_t)request->body.size);
    buf_append(out, request->associated.data, request->associated.size);
    buf_append(out, request->body.data, request->body.size);
}

void keeper_reply_encode(const keeper_reply *reply, buf *out)
{
    ASSERT(reply->body.size <= UINT16_MAX);
    buf_append_u32(out, REPLY_MAGIC);
    buf_append_u8(out, (uint8_t)reply->verb);
    buf_append_u8(out, (uint8_t)reply->code);
    buf_append_u16(out, (uint16_t)reply->body.size);
    buf_append(out, reply->body.data, reply->body.size);
}

/* What each verb may carry. */
static bool request_allowed(const keeper_request *q)
{
    bool numbered = q->epoch >= 1 && q->epoch <= INT64_MAX;
    bool bare = q->associated.size == 0 && q->body.size == 0;
    switch (q->verb) {
    case KEEPER_CREATE:
    case KEEPER_DESTROY: return numbered && bare;
    case KEEPER_EPOCHS: return q->epoch == 0 && bare;
    case KEEPER_SEAL:
        return numbered && q->associated.size <= ROOT_ASSOCIATED_MAX_BYTES &&
               q->body.size <= ROOT_PLAIN_MAX_BYTES;
    case KEEPER_OPEN:
        return numbered && q->associated.size <= ROOT_ASSOCIATED_MAX_BYTES &&
               q->body.size <= ROOT_SEALED_MAX_BYTES;
    case KEEPER_HELLO: return false;
    }
    return false;
}

static bytes take(reader *in, size_t size)
{
    const uint8_t *p = reader_take(in, size);
    return bytes_of(p, p != NULL ? size : 0);
}

result keeper_request_decode(bytes message, keeper_request *out)
{
    if (message.size > KEEPER_MESSAGE_MAX_BYTES) return fail(E_DATA_LOSS, "request: too long");
    reader in = reader_of(message);
    if (reader_u32(&in) != REQUEST_MAGIC) return fail(E_DATA_LOSS, "request: not one");
    out->verb = reader_u8(&in);
    out->epoch = reader_u64(&in);
    size_t associated = reader_u16(&in), body = reader_u16(&in);
    out->associated = take(&in, associated);
    out->body = take(&in, body);
    TRY(reader_done(&in, "request"));
    return request_allowed(out) ? OK : fail(E_DATA_LOSS, "request: not allowed to say that");
}

static bool code_known(uint8_t code)
{
    switch ((error_code)code) {
    case E_OK: case E_CANCELLED: case E_INTERNAL: case E_INVALID: case E_DEADLINE: case E_NOT_FOUND:
    case E_EXISTS: case E_DENIED: case E_EXHAUSTED: case E_PRECONDITION: case E_UNIMPLEMENTED:
    case E_UNAVAILABLE: case E_DATA_LOSS: case E_UNAUTHENTICATED: return true;
    }
    return false;
}

static bool reply_allowed(const keeper_reply *p)
{
    if (p->code != E_OK) return p->body.size <= KEEPER_SENTENCE_MAX_BYTES && utf8_valid(p->body);
    switch (p->verb) {
    case KEEPER_HELLO:
        return p->body.size <= 2 + ROOT_ASSURANCE_MAX_BYTES + ROOT_NOTE_MAX_BYTES;
    case KEEPER_CREATE:
    case KEEPER_DESTROY: return p->body.size == 0;
    case KEEPER_SEAL: return p->body.size <= ROOT_SEALED_MAX_BYTES;
    case KEEPER_OPEN: return p->body.size <= ROOT_PLAIN_MAX_BYTES;
    case KEEPER_EPOCHS: return p->body.size % 8 == 0 && p->body.size / 8 <= ROOT_EPOCHS_MAX;
    }
    return false;
}

result keeper_reply_decode(bytes message, keeper_verb expected, keeper_reply *out)
{
    if (message.size > KEEPER_MESSAGE_MAX_BYTES) return fail(E_DATA_LOSS, "reply: too long");
    reader in = reader_of(message);
    if (reader_u32(&in) != REPLY_MAGIC) return fail(E_DATA_LOSS, "reply: not one");
    out->verb = reader_u8(&in);
    uint8_t code = reader_u8(&in);
    size_t body = reader_u16(&in);
    out->body = take(&in, body);
    TRY(reader_done(&in, "reply"));
    if (out->verb != expected || !code_known(code)) return fail(E_DATA_LOSS, "reply: not to that");
    out->code = (error_code)code;
    return reply_allowed(out) ? OK : fail(E_DATA_LOSS, "reply: not allowed to say that");
}
