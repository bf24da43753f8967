/* grpc.health.v1.Health; see proto/grpc/health/v1/health.proto. */
#include "rpc_builtin.h"
#include "rpc_wire.h"

enum { SERVING = 1, NOT_SERVING = 2, SERVICE_UNKNOWN = 3, REQUEST_MAX_BYTES = 1024 };

/* Reads the request; *status is what to tell about its service. */
static result health_request(const rpc_builtin *b, rpc_call *call, int *status)
{
    buf in;
    buf_init(&in, REQUEST_MAX_BYTES);
    bool end;
    result r = rpc_call_receive(call, &in, &end);
    if (is_ok(r) && (end || !wire_valid(buf_bytes(&in))))
        r = fail(E_INVALID, "a HealthCheckRequest is expected");
    if (is_ok(r)) {
        bytes service = wire_find(buf_bytes(&in), 1);
        bool known = service.size == 0;
        for (size_t i = 0; b->services != NULL && b->services[i] != NULL; i++)
            known |= bytes_equal(service, bytes_str(b->services[i]));
        int up = rpc_call_stopping(call) ? NOT_SERVING : SERVING;
        *status = known ? up : SERVICE_UNKNOWN;
    }
    buf_free(&in);
    return r;
}

static result health_send(rpc_call *call, int status)
{
    buf out;
    buf_init(&out, 16);
    wire_put_number(&out, 1, (uint64_t)status);
    result r = rpc_call_send(call, buf_bytes(&out));
    buf_free(&out);
    return r;
}

result health_check(void *ctx, rpc_call *call)
{
    int status;
    TRY(health_request(ctx, call, &status));
    if (status == SERVICE_UNKNOWN) return fail(E_NOT_FOUND, "unknown service");
    return health_send(call, status);
}

/* The status changes once in a server's life: when it stops. The stream ends there by itself, else it
 * would hold up the shutdown. */
result health_watch(void *ctx, rpc_call *call)
{
    int status;
    TRY(health_request(ctx, call, &status));
    TRY(health_send(call, status));
    rpc_call_wait_stopping(call);
    if (rpc_call_cancelled(call)) return fail(E_CANCELLED, "the call was cancelled");
    return status == SERVING ? health_send(call, NOT_SERVING) : OK;
}
