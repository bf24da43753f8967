/* The client's side: each stream has a completion queue of its own, which the caller's threads pluck. */
#include "rpc.h"
#include "rpc_address.h"
#include "rpc_core.h"
#include "rpc_text.h"

#include <string.h>
#include <time.h>

enum {
    MESSAGE_DEFAULT = 64 << 20,
    KEEPALIVE_MS = 30000,
    CONNECT_DEFAULT_MS = 5000,
    CONNECT_MORE = 2, CONNECT_PAUSE_MS = 50, CONNECT_QUICK_MS = 1500,
};

static error_code error_of(grpc_status_code status)
{
    switch (status) {
    case GRPC_STATUS_UNKNOWN: case GRPC_STATUS_INTERNAL: return E_INTERNAL;
    case GRPC_STATUS_ABORTED: return E_UNAVAILABLE;
    case GRPC_STATUS_OUT_OF_RANGE: return E_INVALID;
    default: return status <= GRPC_STATUS_UNAUTHENTICATED ? (error_code)status : E_INTERNAL;
    }
}

struct rpc_client {
    grpc_channel *channel;
    char *authorization;            /* NULL: none; wiped */
};

struct rpc_stream {
    grpc_call *core;
    grpc_completion_queue *queue;
    grpc_metadata_array headers, trailers;
    grpc_status_code status;
    grpc_slice status_text;
    grpc_byte_buffer *received;
    bool half_closed, ended;
};

/* Their addresses are the tags. */
static int tag_all, tag_send, tag_receive, tag_close, tag_state;

static bool pluck(grpc_completion_queue *queue, void *which)
{
    gpr_timespec never = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    grpc_event e = grpc_completion_queue_pluck(queue, which, never, NULL);
    return e.type == GRPC_OP_COMPLETE && e.success;
}

static void queue_close(grpc_completion_queue *queue)
{
    grpc_completion_queue_shutdown(queue);
    gpr_timespec never = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    grpc_event e;
    do e = grpc_completion_queue_pluck(queue, NULL, never, NULL);
    while (e.type != GRPC_QUEUE_SHUTDOWN);
    grpc_completion_queue_destroy(queue);
}

static gpr_timespec after_ms(uint32_t ms)
{
    gpr_timespec span = gpr_time_from_millis((int64_t)ms, GPR_TIMESPAN);
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), span);
}

static grpc_channel *channel_make(const rpc_client_options *o, bool local)
{
    rpc_arg_list a = {.count = 0};
    rpc_args_common(&a, o->message_max_bytes ? o->message_max_bytes : MESSAGE_DEFAULT);
    rpc_arg_number(&a, GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS);
    rpc_arg_number(&a, GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
    rpc_arg_number(&a, GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    if (local) rpc_arg_number(&a, GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    ASSERT(a.count < RPC_ARGS_MAX);
    a.list[a.count++] = (grpc_arg){GRPC_ARG_STRING, (char *)GRPC_ARG_PRIMARY_USER_AGENT_STRING,
                                   {.string = (char *)"lethe/" LETHE_VERSION}};
    const grpc_channel_args args = {a.count, a.list};
    grpc_channel_credentials *credentials = o->ca_pem
        ? grpc_ssl_credentials_create_ex(o->ca_pem, NULL, NULL, NULL)
        : grpc_insecure_credentials_create();
    if (credentials == NULL) return NULL;
    grpc_channel *channel = grpc_channel_create(o->server, credentials, &args);
    grpc_channel_credentials_release(credentials);
    return channel;
}

/* A refused connection tells its reason only to calls. */
static result connect_explain(rpc_client *c, const rpc_client_options *o)
{
    rpc_stream *s;
    TRY(rpc_stream_open(&s, c, "/grpc.health.v1.Health/Check", 1000));
    result r = rpc_stream_finish(&s);
    return rpc_connect_failed(o->server, r.message, o->ca_pem != NULL);
}

static result client_connect(rpc_client *c, const rpc_client_options *o)
{
    gpr_timespec deadline = after_ms(o->connect_ms ? o->connect_ms : CONNECT_DEFAULT_MS);
    grpc_completion_queue *queue = grpc_completion_queue_create_for_pluck(NULL);
    bool in_time = true;
    grpc_connectivity_state state = grpc_channel_check_connectivity_state(c->channel, 1);
    while (in_time && (state == GRPC_CHANNEL_IDLE || state == GRPC_CHANNEL_CONNECTING)) {
        grpc_channel_watch_connectivity_state(c->channel, state, deadline, queue, &tag_state);
        in_time = pluck(queue, &tag_state);
        state = grpc_channel_check_connectivity_state(c->channel, 1);
    }
    queue_close(queue);
    if (state == GRPC_CHANNEL_READY) return OK;
    if (in_time) return connect_explain(c, o);
    return fail(E_UNAVAILABLE, "cannot reach %s: no answer in time", o->server);
}

result rpc_client_open(rpc_client **out, const rpc_client_options *o)
{
    *out = NULL;
    bool local;
    TRY(rpc_address_check(o->server, &local));
    if (o->ca_pem == NULL && !local)
        return fail(E_INVALID,
                    "without TLS only a loopback address or unix:/PATH is talked to: pass the "
                               "server's certificate with --ca");
    sigset_t before;
    rpc_signals_block(&before);
    rpc_core_init();
    rpc_client *c = mem_alloc(sizeof *c);
    c->channel = channel_make(o, local);
    rpc_signals_restore(&before);
    if (o->token != NULL) {
        size_t size = strlen(o->token);
        c->authorization = mem_alloc(size + sizeof "Bearer ");
        memcpy(c->authorization, "Bearer ", 7);
        memcpy(c->authorization + 7, o->token, size);
    }
    uint64_t start_ms = clock_mono_ms();
    result r = c->channel ? client_connect(c, o)
                          : fail(E_INVALID, "the trusted certificate cannot be read");
    /* A first attempt may fail on a busy machine (seen: an errno that is not the connection's own, in
     * one of hundreds); the next one tells whether nobody is there. */
    for (int more = CONNECT_MORE; more > 0 && r.code == E_UNAVAILABLE &&
         clock_mono_ms() - start_ms < CONNECT_QUICK_MS; more--) {
        const struct timespec pause = {0, CONNECT_PAUSE_MS * 1000000};
        nanosleep(&pause, NULL);
        grpc_channel_destroy(c->channel);
        c->channel = channel_make(o, local);
        ASSERT(c->channel != NULL);
        r = client_connect(c, o);
    }
    if (is_ok(r)) *out = c;
    else rpc_client_close(&c);
    return r;
}

void rpc_client_close(rpc_client **client)
{
    rpc_client *c = *client;
    if (c == NULL) return;
    if (c->channel != NULL) grpc_channel_destroy(c->channel);
    if (c->authorization != NULL) mem_wipe(c->authorization, strlen(c->authorization));
    mem_free(c->authorization);
    mem_free(c);
    grpc_shutdown_blocking();
    *client = NULL;
}

static void stream_free(rpc_stream **stream)
{
    rpc_stream *s = *stream;
    grpc_call_unref(s->core);
    grpc_metadata_array_destroy(&s->headers);
    grpc_metadata_array_destroy(&s->trailers);
    grpc_slice_unref(s->status_text);
    queue_close(s->queue);
    mem_free(s);
    *stream = NULL;
}

result rpc_stream_open(rpc_stream **out, rpc_client *c, const char *path, uint32_t deadline_ms)
{
    rpc_stream *s = mem_alloc(sizeof *s);
    grpc_metadata_array_init(&s->headers);
    grpc_metadata_array_init(&s->trailers);
    s->status_text = grpc_empty_slice();
    s->queue = grpc_completion_queue_create_for_pluck(NULL);
    gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    if (deadline_ms != 0) deadline = after_ms(deadline_ms);
    grpc_slice method = grpc_slice_from_copied_string(path);
    s->core = grpc_channel_create_call(c->channel, NULL, GRPC_PROPAGATE_DEFAULTS, s->queue, method,
                                       NULL,
                                       deadline, NULL);
    grpc_slice_unref(method);
    const char *credential = c->authorization ? c->authorization : "";
    grpc_metadata token = {.key = grpc_slice_from_static_string("authorization"),
                           .value = grpc_slice_from_copied_string(credential)};
    grpc_op ops[3] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}, {.op = GRPC_OP_RECV_INITIAL_METADATA},
                      {.op = GRPC_OP_RECV_STATUS_ON_CLIENT}};
    ops[0].data.send_initial_metadata.count = c->authorization ? 1 : 0;
    ops[0].data.send_initial_metadata.metadata = &token;
    ops[1].data.recv_initial_metadata.recv_initial_metadata = &s->headers;
    ops[2].data.recv_status_on_client.trailing_metadata = &s->trailers;
    ops[2].data.recv_status_on_client.status = &s->status;
    ops[2].data.recv_status_on_client.status_details = &s->status_text;
    grpc_call_error error = grpc_call_start_batch(s->core, ops, 3, &tag_all, NULL);
    grpc_slice_unref(token.value);
    *out = s;
    if (error == GRPC_CALL_OK) return OK;
    stream_free(out);               /* the only input that can be wrong here is the token */
    return fail(E_INVALID, "the token holds characters that cannot be sent");
}

/* A send fails only when the call is over. Its status cannot be told yet: it comes after the messages
 * that the server sent before. */
static result stream_over(void)
{
    return fail(E_CANCELLED, "the server has ended the call");
}

result rpc_stream_send(rpc_stream *s, bytes message)
{
    ASSERT(!s->half_closed);
    grpc_byte_buffer *content = rpc_message_make(message);
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE};
    op.data.send_message.send_message = content;
    grpc_call_error error = grpc_call_start_batch(s->core, &op, 1, &tag_send, NULL);
    ASSERT(error == GRPC_CALL_OK);
    bool ok = pluck(s->queue, &tag_send);
    grpc_byte_buffer_destroy(content);
    return ok ? OK : stream_over();
}

result rpc_stream_half_close(rpc_stream *s)
{
    if (s->half_closed) return OK;
    s->half_closed = true;
    grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
    grpc_call_error error = grpc_call_start_batch(s->core, &op, 1, &tag_close, NULL);
    ASSERT(error == GRPC_CALL_OK);
    return pluck(s->queue, &tag_close) ? OK : stream_over();
}

result rpc_stream_receive(rpc_stream *s, buf *out, bool *end)
{
    buf_clear(out);
    *end = s->ended;
    if (s->ended) return OK;
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &s->received;
    grpc_call_error error = grpc_call_start_batch(s->core, &op, 1, &tag_receive, NULL);
    ASSERT(error == GRPC_CALL_OK);
    (void)pluck(s->queue, &tag_receive);
    if (s->received == NULL) {
        s->ended = *end = true;
        return OK;
    }
    grpc_byte_buffer *message = s->received;
    s->received = NULL;
    return rpc_message_take(message, out);
}

void rpc_stream_cancel(rpc_stream *s)
{
    (void)grpc_call_cancel(s->core, NULL);
}

result rpc_stream_finish(rpc_stream **stream)
{
    rpc_stream *s = *stream;
    result r = rpc_stream_half_close(s);
    buf rest;
    buf_init(&rest, SIZE_MAX);
    /* Trailers come after the messages: what nobody read is read here. */
    for (bool end = false; !end; r = rpc_stream_receive(s, &rest, &end)) { }
    buf_free(&rest);
    (void)pluck(s->queue, &tag_all);
    if (s->status != GRPC_STATUS_OK)
        r = fail(error_of(s->status), "%.*s", (int)GRPC_SLICE_LENGTH(s->status_text),
                 (const char *)GRPC_SLICE_START_PTR(s->status_text));
    else
        r = OK;
    stream_free(stream);
    return r;
}
