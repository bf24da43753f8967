#include "rpc.h"

/* A server may answer before it has read the request, when sending fails: what counts is what it
 * answered. */
result rpc_unary(rpc_client *c, const char *path, bytes request, buf *response,
                 uint32_t deadline_ms)
{
    rpc_stream *s;
    TRY(rpc_stream_open(&s, c, path, deadline_ms));
    result sent = rpc_stream_send(s, request);
    if (is_ok(sent)) sent = rpc_stream_half_close(s);
    (void)sent;
    bool end;
    bool fits = is_ok(rpc_stream_receive(s, response, &end));
    TRY(rpc_stream_finish(&s));
    if (!fits) return fail(E_EXHAUSTED,
                           "the response is larger than the %zu bytes there is room for",
                           response->limit);
    return end ? fail(E_INTERNAL, "the server answered without a message") : OK;
}
