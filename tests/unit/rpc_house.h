/* The server under test, its handlers, and a client for it. */
#ifndef LETHE_RPC_HOUSE_H
#define LETHE_RPC_HOUSE_H

#include "server/rpc.h"
#include "server/rpc_address.h"
#include "server/rpc_wire.h"
#include "server/tls.h"
#include "test.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

extern const unsigned char lethe_descriptor_set[];
extern const size_t lethe_descriptor_set_size;

enum { CALL_MS = 60000, STOP_MS = 600000, SPIN_STEPS_MAX = 10000 };

/* ---- the server under test ------------------------------------------------------------------- */

typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool open;                      /* lets Gate's handlers go */
    int left;                       /* handlers of Spin, Count and Gate that have returned */
    error_code last;                /* what the last of them saw */
    bool saw_cancelled, saw_end;
    uint64_t deadline;
    int mark;
} world;

static world w;
static char dir[256], unix_address[300], unix_same[300];
static buf cert, key;

static inline void world_reset(void)
{
    pthread_mutex_lock(&w.mutex);
    w.open = w.saw_cancelled = w.saw_end = false;
    w.left = 0;
    w.last = E_OK;
    w.deadline = 0;
    pthread_mutex_unlock(&w.mutex);
}

static inline void leave(rpc_call *call, error_code code, bool end)
{
    rpc_call_mark(call, NULL);
    pthread_mutex_lock(&w.mutex);
    w.left++;
    w.last = code;
    w.saw_cancelled = rpc_call_cancelled(call);
    w.saw_end = end;
    w.deadline = rpc_call_deadline_mono_ms(call);
    pthread_cond_broadcast(&w.cond);
    pthread_mutex_unlock(&w.mutex);
}

static inline void wait_left(int count)
{
    pthread_mutex_lock(&w.mutex);
    while (w.left < count) pthread_cond_wait(&w.cond, &w.mutex);
    pthread_mutex_unlock(&w.mutex);
}

static inline void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = 0, .tv_nsec = ms * 1000000}, NULL);
}

static inline result chat(void *ctx, rpc_call *call)
{
    (void)ctx;
    buf b;
    buf_init(&b, 32 << 20);
    result r;
    for (;;) {
        bool end;
        r = rpc_call_receive(call, &b, &end);
        if (!is_ok(r) || end) break;
        r = rpc_call_send(call, buf_bytes(&b));
        if (!is_ok(r)) break;
    }
    buf_free(&b);
    return r;
}

/* Answers with the number of messages and of bytes. */
static inline result count(void *ctx, rpc_call *call)
{
    (void)ctx;
    buf b;
    buf_init(&b, 32 << 20);
    uint32_t messages = 0;
    uint64_t size = 0;
    bool end = false;
    result r = rpc_call_send(call, bytes_str("ready"));
    while (is_ok(r)) {
        r = rpc_call_receive(call, &b, &end);
        if (end) break;
        messages++;
        size += b.size;
    }
    leave(call, r.code, end);
    buf_clear(&b);
    buf_append_u32(&b, messages);
    buf_append_u64(&b, size);
    if (is_ok(r)) r = rpc_call_send(call, buf_bytes(&b));
    buf_free(&b);
    return r;
}

/* As many messages as the request has bytes, each one byte longer than the one before. */
static inline result repeat(void *ctx, rpc_call *call)
{
    (void)ctx;
    uint8_t zeros[256] = {0};
    buf b;
    buf_init(&b, 256);
    bool end;
    result r = rpc_call_receive(call, &b, &end);
    for (size_t i = 0; is_ok(r) && i < b.size; i++) r = rpc_call_send(call, bytes_of(zeros, i));
    buf_free(&b);
    return r;
}

/* The request: a code, then the sentence. */
static inline result fails(void *ctx, rpc_call *call)
{
    (void)ctx;
    buf b;
    buf_init(&b, 4096);
    bool end;
    result r = rpc_call_receive(call, &b, &end);
    if (is_ok(r)) r = fail((error_code)b.data[0], "%s", (const char *)b.data + 1);
    buf_free(&b);
    return r;
}

/* Works until cancelled, as a decoder does, asking at each step. */
static inline result spin(void *ctx, rpc_call *call)
{
    (void)ctx;
    rpc_call_mark(call, &w.mark);
    result r = rpc_call_send(call, bytes_str("started"));
    for (int i = 0; is_ok(r) && i < SPIN_STEPS_MAX && !rpc_call_cancelled(call); i++) sleep_ms(1);
    buf b;
    buf_init(&b, 64);
    bool end = false;
    if (is_ok(r) && rpc_call_cancelled(call)) r = rpc_call_receive(call, &b, &end);
    buf_free(&b);
    leave(call, r.code, end);
    return r;
}

static inline result gate(void *ctx, rpc_call *call)
{
    (void)ctx;
    result r = rpc_call_send(call, bytes_str("started"));
    pthread_mutex_lock(&w.mutex);
    while (!w.open) pthread_cond_wait(&w.cond, &w.mutex);
    pthread_mutex_unlock(&w.mutex);
    if (is_ok(r)) r = rpc_call_send(call, bytes_str("passed"));
    leave(call, r.code, false);
    return r;
}

static inline result metadata(void *ctx, rpc_call *call)
{
    const char *value = rpc_call_metadata(call, "authorization");
    if (value != rpc_call_metadata(call, "authorization")) return fail(E_INTERNAL, "moved");
    if (rpc_call_metadata(call, "absent") != NULL) return fail(E_INTERNAL, "invented");
    if (ctx != &w) return fail(E_INTERNAL, "another context");
    if (value == NULL) return fail(E_UNAUTHENTICATED, "no token");
    const char *agent = rpc_call_metadata(call, "user-agent");
    if (agent == NULL || strncmp(agent, "lethe/", 6) != 0) return fail(E_INTERNAL, "user agent");
    return rpc_call_send(call, bytes_str(value));
}

static const rpc_method methods[] = {
    {"/test.Test/Chat", chat}, {"/test.Test/Count", count}, {"/test.Test/Repeat", repeat},
    {"/test.Test/Fail", fails}, {"/test.Test/Spin", spin}, {"/test.Test/Gate", gate},
    {"/test.Test/Metadata", metadata},
};
static const char *const services[] = {"test.Test", NULL};

static inline rpc_server_options options_of(const char *listen, bool tls)
{
    return (rpc_server_options){
        .listen = listen, .methods = methods, .method_count = sizeof methods / sizeof methods[0],
        .handler_ctx = &w, .services = services, .message_max_bytes = 64 << 10,
        .tls_certificate_pem = tls ? (const char *)cert.data : NULL,
        .tls_key_pem = tls ? (const char *)key.data : NULL,
        .descriptor_set = bytes_of(lethe_descriptor_set, lethe_descriptor_set_size),
    };
}

typedef struct { rpc_server *server; rpc_client *client; char address[300]; } pair;

/* A server and a client for it; NULLs if that failed. */
static inline pair pair_open(bool tls, uint32_t threads_max)
{
    pair p = {NULL, NULL, ""};
    world_reset();
    rpc_server_options o = options_of(tls ? "127.0.0.1:0" : unix_address, tls);
    o.threads_max = threads_max;
    CHECK_OK(rpc_server_start(&p.server, &o));
    if (p.server == NULL) return p;
    if (tls) snprintf(p.address, sizeof p.address, "localhost:%d", rpc_server_port(p.server));
    else snprintf(p.address, sizeof p.address, "%s", unix_address);
    CHECK_OK(rpc_client_open(&p.client, &(rpc_client_options){
        .server = p.address, .ca_pem = tls ? (const char *)cert.data : NULL, .token = "secret"}));
    return p;
}

static inline void pair_close(pair *p)
{
    rpc_client_close(&p->client);
    rpc_server_stop(&p->server, STOP_MS);
}

static inline bool text_is(const buf *b, const char *text)
{
    return bytes_equal(buf_bytes(b), bytes_str(text));
}

/* Opens a stream and waits for its first message, so that its handler is known to run. */
static inline rpc_stream *stream_running(rpc_client *c, const char *path, uint32_t deadline_ms)
{
    rpc_stream *s = NULL;
    buf b;
    buf_init(&b, 64);
    bool end = true;
    CHECK_OK(rpc_stream_open(&s, c, path, deadline_ms));
    CHECK_OK(rpc_stream_receive(s, &b, &end));
    CHECK(!end);
    buf_free(&b);
    return s;
}

static inline void world_open(void)
{
    pthread_mutex_init(&w.mutex, NULL);
    pthread_cond_init(&w.cond, NULL);
    test_tmpdir(dir);
    snprintf(unix_address, sizeof unix_address, "unix:%s/socket", dir);
    snprintf(unix_same, sizeof unix_same, "unix://%s/socket", dir);
    buf_init(&cert, 8192);
    buf_init(&key, 8192);
    CHECK_OK(tls_make_certificate(&cert, &key, NULL, 0));
}

static inline void world_close(void)
{
    buf_free(&cert);
    buf_free(&key);
    test_tmpdir_remove(dir);
}

#endif
