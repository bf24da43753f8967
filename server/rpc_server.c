/* The server's side: one completion queue, drained by EVENT_THREADS. A request slot is an rpc_call posted with
 * grpc_server_request_call; when it fills, another is posted, the end-of-call notice (RECV_CLOSE) is
 * asked for first of all, and the call goes to a thread of the pool or is refused at once. Handlers
 * post a receive and sleep on the call's condition variable until its tag comes back; a send is on its way while they go on,
 * until the next.
 * A call is freed when its last reference goes: the handler's, the close tag's, the status tag's.
 *
 * Locks: server->mutex before call->mutex. gRPC is called under both; it never calls back. */
#include "rpc.h"
#include "mutant.h"
#include "rpc_address.h"
#include "rpc_builtin.h"
#include "rpc_core.h"
#include "rpc_pool.h"
#include "rpc_text.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum {
    EVENT_THREADS = 2,
    REQUEST_SLOTS = 64,
    THREADS_DEFAULT = 512,
    BUILTIN_CALLS_MAX = 32,         /* beside threads_max, so that probes work under load */
    THREADS_SPARE = 32,             /* workers that have answered and are about to be idle */
    MESSAGE_DEFAULT = 4 << 20,
    KEEPALIVE_DEFAULT_MS = 120000,
    PING_INTERVAL_MIN_MS = 10000,   /* who pings an idle connection more often is dropped */
    HANDSHAKE_MS = 10000,
};

static grpc_status_code status_of(error_code code)
{
    return code == E_INTERNAL ? GRPC_STATUS_INTERNAL : (grpc_status_code)code;
}

static uint64_t time_to_mono_ms(gpr_timespec t)
{
    if (gpr_time_cmp(t, gpr_inf_future(t.clock_type)) == 0) return 0;
    int32_t left = gpr_time_to_millis(gpr_time_sub(t, gpr_now(t.clock_type)));
    uint64_t now = clock_mono_ms();
    if (left < 0) return now > (uint64_t)-(int64_t)left ? now - (uint64_t)-(int64_t)left : 1;
    return now + (uint64_t)left;
}

/* ---- calls ----------------------------------------------------------------------------------- */

typedef enum {
    TAG_NEW, TAG_CLOSE, TAG_STATUS, TAG_RECEIVE, TAG_SEND, TAG_SHUTDOWN, TAG_COUNT
} tag_kind;

typedef struct {
    tag_kind kind;
    rpc_call *call;                 /* NULL for TAG_SHUTDOWN */
    atomic_bool posted;             /* hands the call's fields over to the event thread */
    bool done, ok;                  /* call->mutex */
} tag;

struct rpc_call {
    rpc_server *server;
    grpc_call *core;
    grpc_call_details details;
    grpc_metadata_array metadata;
    char **metadata_text;           /* NUL-terminated copies, made when asked for */
    uint64_t deadline_mono_ms;
    const rpc_method *method;
    const rpc_builtin_method *builtin;  /* else NULL */
    atomic_uint refs;
    atomic_bool cancelled;
    atomic_bool ended;              /* by this server: rpc_server_cancel or stop */
    tag tags[TAG_COUNT];
    int close_cancelled;            /* written by gRPC before TAG_CLOSE */
    grpc_byte_buffer *received;     /* written by gRPC before TAG_RECEIVE */
    bool headers_sent, receive_ended;   /* the handler's, as the next */
    grpc_byte_buffer *sending;      /* the message on its way; NULL: none */
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    /* server->mutex: */
    const void *mark;
    bool fenced;                    /* rpc_server_cancel waits for it */
    bool awaited;                   /* stop waits for it */
    rpc_call *prev, *next;          /* in live */
};

struct rpc_server {
    grpc_server *core;
    grpc_completion_queue *queue;
    pthread_t events[EVENT_THREADS];
    rpc_pool *pool;
    rpc_builtin builtin;
    void *handler_ctx;
    uint32_t threads_max, message_max_bytes;
    int port;
    tag shutdown;
    atomic_bool stopping;           /* set under the mutex */
    pthread_mutex_t mutex;
    pthread_cond_t cond;            /* monotonic; any change of what follows */
    rpc_call *live;                 /* handlers that have not returned */
    uint32_t busy, busy_builtin;    /* handlers in progress */
    size_t slots, calls;            /* posted requests; calls not yet freed */
    size_t awaited;                 /* of the calls, those that began before the stop */
    bool closing, shutdown_done;
};

static rpc_call *call_new(rpc_server *s)
{
    rpc_call *call = mem_alloc(sizeof *call);
    call->server = s;
    grpc_call_details_init(&call->details);
    grpc_metadata_array_init(&call->metadata);
    atomic_init(&call->refs, 1);
    atomic_init(&call->cancelled, false);
    atomic_init(&call->ended, false);
    for (size_t i = 0; i < TAG_COUNT; i++) {
        call->tags[i].kind = (tag_kind)i;
        call->tags[i].call = call;
        atomic_init(&call->tags[i].posted, false);
    }
    pthread_mutex_init(&call->mutex, NULL);
    pthread_cond_init(&call->cond, NULL);
    return call;
}

static void call_free(rpc_call *call)
{
    for (size_t i = 0; call->metadata_text != NULL && i < call->metadata.count; i++) {
        if (call->metadata_text[i] == NULL) continue;
        mem_wipe(call->metadata_text[i], strlen(call->metadata_text[i]));
        mem_free(call->metadata_text[i]);
    }
    mem_free(call->metadata_text);
    grpc_metadata_array_destroy(&call->metadata);
    grpc_call_details_destroy(&call->details);
    if (call->core != NULL) grpc_call_unref(call->core);
    pthread_cond_destroy(&call->cond);
    pthread_mutex_destroy(&call->mutex);
    mem_free(call);
}

static void call_unref(rpc_call *call)
{
    if (atomic_fetch_sub_explicit(&call->refs, 1, memory_order_acq_rel) != 1) return;
    rpc_server *s = call->server;
    bool awaited = call->awaited;
    call_free(call);
    pthread_mutex_lock(&s->mutex);
    s->calls--;
    s->awaited -= awaited;
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->mutex);
}

static void call_wake(rpc_call *call)
{
    pthread_mutex_lock(&call->mutex);
    pthread_cond_broadcast(&call->cond);
    pthread_mutex_unlock(&call->mutex);
}

static void call_post(rpc_call *call, tag_kind kind, const grpc_op *ops, size_t count)
{
    tag *t = &call->tags[kind];
    atomic_store_explicit(&t->posted, true, memory_order_release);
    grpc_call_error error = grpc_call_start_batch(call->core, ops, count, t, NULL);
    ASSERT(error == GRPC_CALL_OK);  /* else two sends or receives at once: the handler's bug */
}

/* Waits for what was posted. False: the operation failed, which only a call that is over does. */
static bool call_wait(rpc_call *call, tag_kind kind)
{
    tag *t = &call->tags[kind];
    pthread_mutex_lock(&call->mutex);
    while (!t->done) pthread_cond_wait(&call->cond, &call->mutex);
    t->done = false;
    bool ok = t->ok;
    pthread_mutex_unlock(&call->mutex);
    return ok;
}

/* Sends the status without waiting for it: the tag holds a reference. */
static void call_status(rpc_call *call, error_code code, const char *message)
{
    char words[RPC_STATUS_MAX_BYTES + 1];
    grpc_slice text = grpc_slice_from_copied_buffer(words, rpc_status_text(message, words));
    grpc_op ops[2] = {0};
    size_t count = 0;
    if (!call->headers_sent) ops[count++].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[count].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    ops[count].data.send_status_from_server.status = status_of(code);
    ops[count].data.send_status_from_server.status_details = code == E_OK ? NULL : &text;
    atomic_fetch_add(&call->refs, 1);
    call_post(call, TAG_STATUS, ops, count + 1);
    grpc_slice_unref(text);
}

static void call_cancel(rpc_call *call, error_code code, const char *words)
{
    atomic_store(&call->ended, true);
    atomic_store(&call->cancelled, true);
    (void)grpc_call_cancel_with_status(call->core, status_of(code), words, NULL);
    call_wake(call);
}

static result call_over(const rpc_call *call)
{
    if (call->deadline_mono_ms != 0 && clock_mono_ms() >= call->deadline_mono_ms)
        return fail(E_DEADLINE, "the deadline has passed");
    return fail(E_CANCELLED, "the call was cancelled");
}

bool rpc_call_cancelled(const rpc_call *call)
{
    if (MUTANT(cancel_ignored)) return false;
    return atomic_load_explicit(&call->cancelled, memory_order_relaxed);
}

uint64_t rpc_call_deadline_mono_ms(const rpc_call *call)
{
    return call->deadline_mono_ms;
}

void rpc_call_mark(rpc_call *call, const void *mark)
{
    pthread_mutex_lock(&call->server->mutex);
    call->mark = mark;
    pthread_mutex_unlock(&call->server->mutex);
}

const char *rpc_call_metadata(const rpc_call *call_, const char *key)
{
    rpc_call *call = (rpc_call *)call_;     /* the copies are a cache */
    for (size_t i = 0; i < call->metadata.count; i++) {
        const grpc_metadata *m = &call->metadata.metadata[i];
        if (grpc_slice_str_cmp(m->key, key) != 0) continue;
        if (call->metadata_text == NULL)
            call->metadata_text = mem_alloc_array(call->metadata.count, sizeof(char *));
        if (call->metadata_text[i] == NULL) {
            size_t size = GRPC_SLICE_LENGTH(m->value);
            call->metadata_text[i] = mem_alloc(size + 1);
            memcpy(call->metadata_text[i], GRPC_SLICE_START_PTR(m->value), size);
        }
        return call->metadata_text[i];
    }
    return NULL;
}

/* No message came: the client's half-close, or the end of the call? The notice of the end may still
 * be on its way, so gRPC is asked: a cancelled upload must never look complete. A receive that failed
 * (ok is false) was too large a message, unless this server or the deadline ended the call. */
static result receive_none(rpc_call *call, bool ok, bool *end)
{
    bool broken = !ok || grpc_call_failed_before_recv_message(call->core) != 0;
    if ((broken || rpc_call_cancelled(call)) && !MUTANT(cancel_ignored)) {
        atomic_store(&call->cancelled, true);
        result over = call_over(call);
        if (ok || over.code == E_DEADLINE || atomic_load(&call->ended)) return over;
        return fail(E_EXHAUSTED, "a message is larger than %u bytes",
                    call->server->message_max_bytes);
    }
    call->receive_ended = *end = true;
    return OK;
}

result rpc_call_receive(rpc_call *call, buf *out, bool *end)
{
    buf_clear(out);
    *end = call->receive_ended;
    if (*end) return OK;
    if (rpc_call_cancelled(call)) return call_over(call);
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &call->received;
    call_post(call, TAG_RECEIVE, &op, 1);
    bool ok = call_wait(call, TAG_RECEIVE);
    if (call->received == NULL) return receive_none(call, ok, end);
    grpc_byte_buffer *message = call->received;
    call->received = NULL;
    return rpc_message_take(message, out);
}

/* Waits until the last message has left. */
static result send_settle(rpc_call *call)
{
    if (call->sending == NULL) return OK;
    bool ok = call_wait(call, TAG_SEND);
    grpc_byte_buffer_destroy(call->sending);
    call->sending = NULL;
    if (ok || MUTANT(cancel_ignored)) return OK;
    atomic_store(&call->cancelled, true);
    return call_over(call);
}

result rpc_call_send(rpc_call *call, bytes message)
{
    TRY(send_settle(call));
    if (rpc_call_cancelled(call)) return call_over(call);
    if (message.size > call->server->message_max_bytes)
        return fail(E_EXHAUSTED, "the response is larger than %u bytes",
                    call->server->message_max_bytes);
    call->sending = rpc_message_make(message);
    grpc_op ops[2] = {0};
    size_t count = 0;
    if (!call->headers_sent) ops[count++].op = GRPC_OP_SEND_INITIAL_METADATA;
    call->headers_sent = true;
    ops[count].op = GRPC_OP_SEND_MESSAGE;
    ops[count].data.send_message.send_message = call->sending;
    call_post(call, TAG_SEND, ops, count + 1);
    return OK;
}

bool rpc_call_stopping(const rpc_call *call)
{
    return atomic_load(&call->server->stopping);
}

void rpc_call_wait_stopping(rpc_call *call)
{
    pthread_mutex_lock(&call->mutex);
    while (!rpc_call_stopping(call) && !atomic_load(&call->cancelled))
        pthread_cond_wait(&call->cond, &call->mutex);
    pthread_mutex_unlock(&call->mutex);
}

/* ---- accepting ------------------------------------------------------------------------------- */

static void call_leave(rpc_call *call)
{
    rpc_server *s = call->server;
    pthread_mutex_lock(&s->mutex);
    if (call->prev) call->prev->next = call->next; else s->live = call->next;
    if (call->next) call->next->prev = call->prev;
    call->mark = NULL;
    *(call->builtin ? &s->busy_builtin : &s->busy) -= 1;
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->mutex);
}

/* On a thread of the pool. The call leaves before its status goes out, so that a client that has its
 * answer finds the place free. */
static void call_run(void *arg)
{
    rpc_call *call = arg;
    void *ctx = call->builtin ? &call->server->builtin : call->server->handler_ctx;
    result r = call->method->handler(ctx, call);
    result sent = send_settle(call);
    if (is_ok(r)) r = sent;
    call_leave(call);
    call_status(call, r.code, r.message);
    call_unref(call);
}

static void call_refuse(rpc_call *call, error_code code, const char *words)
{
    call_status(call, code, words);
    call_unref(call);
}

static void call_find_method(rpc_call *call)
{
    const rpc_builtin *b = &call->server->builtin;
    for (size_t i = 0; i < b->method_count; i++) {
        if (grpc_slice_str_cmp(call->details.method, b->methods[i].path) == 0)
            call->method = &b->methods[i];
    }
    for (size_t i = 0; i < rpc_builtin_method_count && call->method == NULL; i++) {
        const rpc_builtin_method *m = &rpc_builtin_methods[i];
        if (grpc_slice_str_cmp(call->details.method, m->method.path) != 0) continue;
        call->builtin = m;
        call->method = &call->builtin->method;
    }
}

/* Counts the call in, unless there are too many or the server stops, when health alone is served. */
static bool call_enter(rpc_call *call, const char **why)
{
    rpc_server *s = call->server;
    pthread_mutex_lock(&s->mutex);
    bool stopping = atomic_load(&s->stopping);
    bool refused = stopping && (s->closing || call->builtin == NULL || call->builtin->ends_at_stop);
    uint32_t *busy = call->builtin ? &s->busy_builtin : &s->busy;
    bool enter = !refused && *busy < (call->builtin ? BUILTIN_CALLS_MAX : s->threads_max);
    if (enter) {
        *busy += 1;
        call->awaited = !stopping;
        s->awaited += call->awaited;
        call->next = s->live;
        if (s->live) s->live->prev = call;
        s->live = call;
    }
    pthread_mutex_unlock(&s->mutex);
    *why = refused ? "the server is shutting down"
                   : "the server is busy: too many calls in progress";
    return enter;
}

static void slot_post(rpc_server *s)
{
    pthread_mutex_lock(&s->mutex);
    bool post = !s->closing;
    s->slots += post;
    pthread_mutex_unlock(&s->mutex);
    if (!post) return;
    rpc_call *call = call_new(s);
    tag *t = &call->tags[TAG_NEW];
    atomic_store_explicit(&t->posted, true, memory_order_release);
    grpc_call_error error = grpc_server_request_call(s->core, &call->core, &call->details,
                                                     &call->metadata, s->queue, s->queue, t);
    ASSERT(error == GRPC_CALL_OK);
}

static void slot_filled(rpc_call *call, bool ok)
{
    rpc_server *s = call->server;
    slot_post(s);
    pthread_mutex_lock(&s->mutex);
    s->slots--;
    s->calls += ok;
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->mutex);
    if (!ok) {                      /* the server stops */
        call_free(call);
        return;
    }
    call->deadline_mono_ms = time_to_mono_ms(call->details.deadline);
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    op.data.recv_close_on_server.cancelled = &call->close_cancelled;
    atomic_fetch_add(&call->refs, 1);
    call_post(call, TAG_CLOSE, &op, 1);
    call_find_method(call);
    const char *why;
    if (call->method == NULL) {
        call_refuse(call, E_UNIMPLEMENTED, "unknown method");
    } else if (!call_enter(call, &why)) {
        call_refuse(call, E_UNAVAILABLE, why);
    } else if (!rpc_pool_run(s->pool, call_run, call)) {
        call_leave(call);
        call_refuse(call, E_UNAVAILABLE, "the server is busy: no more threads");
    }
}

static void event_handle(rpc_server *s, tag *t, bool ok)
{
    (void)atomic_load_explicit(&t->posted, memory_order_acquire);
    rpc_call *call = t->call;
    switch (t->kind) {
    case TAG_NEW:
        slot_filled(call, ok);
        break;
    case TAG_CLOSE:
        if (call->close_cancelled) {
            atomic_store(&call->cancelled, true);
            call_wake(call);
        }
        call_unref(call);
        break;
    case TAG_STATUS:
        call_unref(call);
        break;
    case TAG_SHUTDOWN:
        pthread_mutex_lock(&s->mutex);
        s->shutdown_done = true;
        pthread_cond_broadcast(&s->cond);
        pthread_mutex_unlock(&s->mutex);
        break;
    default:
        pthread_mutex_lock(&call->mutex);
        t->done = true;
        t->ok = ok;
        pthread_cond_broadcast(&call->cond);
        pthread_mutex_unlock(&call->mutex);
    }
}

static void *event_main(void *arg)
{
    rpc_server *s = arg;
    for (;;) {
        gpr_timespec never = gpr_inf_future(GPR_CLOCK_MONOTONIC);
        grpc_event e = grpc_completion_queue_next(s->queue, never, NULL);
        if (e.type == GRPC_QUEUE_SHUTDOWN) return NULL;
        if (e.type == GRPC_OP_COMPLETE) event_handle(s, e.tag, e.success != 0);
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

static result options_check(const rpc_server_options *o)
{
    bool local;
    TRY(rpc_address_check(o->listen, &local));
    if ((o->tls_certificate_pem == NULL) != (o->tls_key_pem == NULL))
        return fail(E_INVALID, "TLS needs both a certificate and its key");
    if (o->tls_certificate_pem == NULL && !local)
        return fail(E_INVALID,
                    "without TLS the server listens only on a loopback address (127.0.0.1, "
                               "[::1], localhost) or unix:/PATH: give a certificate and key");
    return rpc_address_usable(o->listen);
}

static grpc_server *core_make(const rpc_server *s, const rpc_server_options *o)
{
    rpc_arg_list a = {.count = 0};
    rpc_args_common(&a, s->message_max_bytes);
    uint32_t keepalive_ms = o->keepalive_ms ? o->keepalive_ms : KEEPALIVE_DEFAULT_MS;
    rpc_arg_number(&a, GRPC_ARG_KEEPALIVE_TIME_MS, keepalive_ms);
    if (o->connection_age_ms > 0) rpc_arg_number(&a, GRPC_ARG_MAX_CONNECTION_AGE_MS, o->connection_age_ms);
    rpc_arg_number(&a, GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    rpc_arg_number(&a, GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, PING_INTERVAL_MIN_MS);
    rpc_arg_number(&a, GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, HANDSHAKE_MS);
    rpc_arg_number(&a, GRPC_ARG_ALLOW_REUSEPORT, 0);
    /* Past threads_max a call is refused, not held back by the client. */
    rpc_arg_number(&a, GRPC_ARG_MAX_CONCURRENT_STREAMS, s->threads_max + BUILTIN_CALLS_MAX + 256);
    const grpc_channel_args args = {a.count, a.list};
    return grpc_server_create(&args, NULL);
}

static result core_listen(rpc_server *s, const rpc_server_options *o)
{
    grpc_server_credentials *credentials;
    if (o->tls_certificate_pem != NULL) {
        grpc_ssl_pem_key_cert_pair pair = {o->tls_key_pem, o->tls_certificate_pem};
        credentials = grpc_ssl_server_credentials_create_ex(
            NULL, &pair, 1, GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE, NULL);
    } else {
        credentials = grpc_insecure_server_credentials_create();
    }
    if (credentials == NULL) return fail(E_INVALID, "the TLS certificate or key cannot be read");
    int port = grpc_server_add_http2_port(s->core, o->listen, credentials);
    grpc_server_credentials_release(credentials);
    if (port == 0 && o->tls_certificate_pem != NULL)
        return fail(E_INVALID, "cannot listen: the TLS certificate and key are malformed or do not "
                               "belong together");
    if (port == 0) return fail(E_UNAVAILABLE, "cannot listen on the address");
    s->port = strncmp(o->listen, "unix:", 5) == 0 ? 0 : port;
    return OK;
}

static void server_settings(rpc_server *s, const rpc_server_options *o)
{
    s->builtin = (rpc_builtin){o->services, o->methods, o->method_count, o->descriptor_set};
    s->handler_ctx = o->handler_ctx;
    s->threads_max = o->threads_max ? o->threads_max : THREADS_DEFAULT;
    s->message_max_bytes = o->message_max_bytes ? o->message_max_bytes : MESSAGE_DEFAULT;
    s->shutdown.kind = TAG_SHUTDOWN;
    pthread_mutex_init(&s->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

/* Shuts the queue down, whose threads drain it, and frees. */
static void server_free(rpc_server *s, size_t event_threads)
{
    grpc_completion_queue_shutdown(s->queue);
    for (size_t i = 0; i < event_threads; i++) pthread_join(s->events[i], NULL);
    grpc_completion_queue_destroy(s->queue);
    grpc_shutdown_blocking();
    rpc_pool_close(&s->pool);
    pthread_cond_destroy(&s->cond);
    pthread_mutex_destroy(&s->mutex);
    mem_free(s);
}

result rpc_server_start(rpc_server **out, const rpc_server_options *o)
{
    *out = NULL;
    TRY(options_check(o));
    sigset_t before;
    rpc_signals_block(&before);
    rpc_server *s = mem_alloc(sizeof *s);
    server_settings(s, o);
    rpc_core_init();
    s->queue = grpc_completion_queue_create_for_next(NULL);
    s->core = core_make(s, o);
    grpc_server_register_completion_queue(s->core, s->queue, NULL);
    result r = core_listen(s, o);
    grpc_server_start(s->core);     /* also when it failed: a server is shut down to be destroyed */
    for (size_t i = 0; i < EVENT_THREADS; i++)
        ASSERT(pthread_create(&s->events[i], NULL, event_main, s) == 0);
    rpc_pool_open(&s->pool, s->threads_max + BUILTIN_CALLS_MAX + THREADS_SPARE);
    for (size_t i = 0; is_ok(r) && i < REQUEST_SLOTS; i++) slot_post(s);
    rpc_signals_restore(&before);
    *out = s;
    if (!is_ok(r)) rpc_server_stop(out, 0);
    return r;
}

int rpc_server_port(const rpc_server *s)
{
    return s->port;
}

/* Under the mutex; false when until_ms (monotonic) has passed. */
static bool server_wait(rpc_server *s, uint64_t until_ms)
{
    if (clock_mono_ms() >= until_ms) return false;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t left_ms = until_ms - clock_mono_ms() + 1;
    if (left_ms > 1000) left_ms = 1000;     /* whatever the clock of base starts at */
    until.tv_nsec += (long)(left_ms % 1000) * 1000000;
    until.tv_sec += (time_t)(left_ms / 1000) + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)pthread_cond_timedwait(&s->cond, &s->mutex, &until);
    return true;
}

void rpc_server_stop(rpc_server **server, uint32_t grace_ms)
{
    rpc_server *s = *server;
    if (s == NULL) return;
    uint64_t until_ms = clock_mono_ms() + grace_ms;
    pthread_mutex_lock(&s->mutex);
    atomic_store(&s->stopping, true);
    for (rpc_call *c = s->live; c != NULL; c = c->next) {
        if (c->builtin && c->builtin->ends_at_stop)
            call_cancel(c, E_UNAVAILABLE, "the server is shutting down");
        else
            call_wake(c);           /* health's watchers say goodbye themselves */
    }
    while (s->awaited > 0 && server_wait(s, until_ms)) { }
    s->closing = true;
    for (rpc_call *c = s->live; c != NULL; c = c->next)
        call_cancel(c, E_UNAVAILABLE, "the server is shutting down");
    pthread_mutex_unlock(&s->mutex);
    atomic_store_explicit(&s->shutdown.posted, true, memory_order_release);
    grpc_server_shutdown_and_notify(s->core, s->queue, &s->shutdown);
    grpc_server_cancel_all_calls(s->core);  /* closes idle connections too */

    pthread_mutex_lock(&s->mutex);
    while (s->calls > 0 || s->slots > 0 || !s->shutdown_done)
        pthread_cond_wait(&s->cond, &s->mutex);
    pthread_mutex_unlock(&s->mutex);
    grpc_server_destroy(s->core);
    server_free(s, EVENT_THREADS);
    *server = NULL;
}

void rpc_server_cancel(rpc_server *s, bool (*match)(void *ctx, const void *mark), void *ctx)
{
    pthread_mutex_lock(&s->mutex);
    for (rpc_call *c = s->live; c != NULL; c = c->next) {
        if (c->mark == NULL || c->fenced || !match(ctx, c->mark)) continue;
        c->fenced = true;
        call_cancel(c, E_CANCELLED, "the server ended this call; ask again");
    }
    for (;;) {
        bool waiting = false;
        for (const rpc_call *c = s->live; c != NULL; c = c->next) waiting |= c->fenced;
        if (!waiting) break;
        pthread_cond_wait(&s->cond, &s->mutex);
    }
    pthread_mutex_unlock(&s->mutex);
}
