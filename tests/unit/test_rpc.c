/* rpc over real sockets: server and client of this process talk TLS on loopback and plaintext on a
 * Unix socket. Where a test waits for another thread, a hang is the failure (ctest's timeout). */
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

static void world_reset(void)
{
    pthread_mutex_lock(&w.mutex);
    w.open = w.saw_cancelled = w.saw_end = false;
    w.left = 0;
    w.last = E_OK;
    w.deadline = 0;
    pthread_mutex_unlock(&w.mutex);
}

static void leave(rpc_call *call, error_code code, bool end)
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

static void wait_left(int count)
{
    pthread_mutex_lock(&w.mutex);
    while (w.left < count) pthread_cond_wait(&w.cond, &w.mutex);
    pthread_mutex_unlock(&w.mutex);
}

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = 0, .tv_nsec = ms * 1000000}, NULL);
}

static result chat(void *ctx, rpc_call *call)
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
static result count(void *ctx, rpc_call *call)
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
static result repeat(void *ctx, rpc_call *call)
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
static result fails(void *ctx, rpc_call *call)
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
static result spin(void *ctx, rpc_call *call)
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

static result gate(void *ctx, rpc_call *call)
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

static result metadata(void *ctx, rpc_call *call)
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

static rpc_server_options options_of(const char *listen, bool tls)
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
static pair pair_open(bool tls, uint32_t threads_max)
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

static void pair_close(pair *p)
{
    rpc_client_close(&p->client);
    rpc_server_stop(&p->server, STOP_MS);
}

static bool text_is(const buf *b, const char *text)
{
    return bytes_equal(buf_bytes(b), bytes_str(text));
}

/* Opens a stream and waits for its first message, so that its handler is known to run. */
static rpc_stream *stream_running(rpc_client *c, const char *path, uint32_t deadline_ms)
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

/* ---- shapes of calls ------------------------------------------------------------------------- */

static void shapes(bool tls)
{
    pair p = pair_open(tls, 0);
    NEED(p.client != NULL);
    CHECK((rpc_server_port(p.server) == 0) == !tls);
    buf b;
    buf_init(&b, 1 << 20);
    bool end;
    CHECK_OK(rpc_unary(p.client, "/test.Test/Chat", bytes_str("hello"), &b, CALL_MS));
    CHECK(text_is(&b, "hello"));
    CHECK_OK(rpc_unary(p.client, "/test.Test/Chat", bytes_of("", 0), &b, CALL_MS));
    CHECK(b.size == 0);

    rpc_stream *s = stream_running(p.client, "/test.Test/Count", CALL_MS);
    uint8_t big[60000] = {1};
    for (size_t i = 1; i <= 20; i++) CHECK_OK(rpc_stream_send(s, bytes_of(big, 3000 * i)));
    CHECK_OK(rpc_stream_half_close(s));
    CHECK_OK(rpc_stream_receive(s, &b, &end));
    reader r = reader_of(buf_bytes(&b));
    CHECK(!end && reader_u32(&r) == 20 && reader_u64(&r) == 630000);
    CHECK_OK(rpc_stream_receive(s, &b, &end));
    CHECK(end);
    CHECK_OK(rpc_stream_finish(&s));
    CHECK(s == NULL);

    CHECK_OK(rpc_stream_open(&s, p.client, "/test.Test/Repeat", CALL_MS));
    CHECK_OK(rpc_stream_send(s, bytes_of(big, 200)));
    CHECK_OK(rpc_stream_half_close(s));
    for (size_t i = 0; i < 200; i++) {
        CHECK_OK(rpc_stream_receive(s, &b, &end));
        CHECK(!end && b.size == i);
    }
    CHECK_OK(rpc_stream_receive(s, &b, &end));
    CHECK(end);
    CHECK_OK(rpc_stream_finish(&s));

    CHECK_OK(rpc_stream_open(&s, p.client, "/test.Test/Chat", CALL_MS));
    for (size_t i = 0; i < 20; i++) {
        CHECK_OK(rpc_stream_send(s, bytes_of(big, i * 1000)));
        CHECK_OK(rpc_stream_receive(s, &b, &end));
        CHECK(!end && b.size == i * 1000);
    }
    CHECK_OK(rpc_stream_send(s, bytes_str("never read")));
    CHECK_OK(rpc_stream_finish(&s));
    buf_free(&b);
    pair_close(&p);
}

static void shapes_over_tls(void) { shapes(true); }
static void shapes_over_unix(void) { shapes(false); }

static void statuses_and_sentences(void)
{
    pair p = pair_open(false, 0);
    NEED(p.client != NULL);
    buf b;
    buf_init(&b, 4096);
    static const error_code codes[] = {E_CANCELLED, E_INTERNAL, E_INVALID, E_DEADLINE, E_NOT_FOUND,
        E_EXISTS, E_DENIED, E_EXHAUSTED, E_PRECONDITION, E_UNIMPLEMENTED, E_UNAVAILABLE, E_DATA_LOSS,
        E_UNAUTHENTICATED};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        uint8_t request[] = {(uint8_t)codes[i], 'n', 'o', ':', 0xc3, 0xa9, '%', 'd'};
        result r = rpc_unary(p.client, "/test.Test/Fail", bytes_of(request, sizeof request), &b,
                             CALL_MS);
        CHECK(r.code == codes[i]);
        CHECK(strcmp(r.message, "no:\xc3\xa9%d") == 0);
    }
    char longer[1200];
    for (size_t i = 0; i < sizeof longer; i += 2) memcpy(longer + i, "\xc3\xa9", 2);
    longer[0] = E_INVALID;
    longer[1] = 'x';
    result r = rpc_unary(p.client, "/test.Test/Fail", bytes_of(longer, sizeof longer), &b, CALL_MS);
    CHECK(r.code == E_INVALID && strlen(r.message) > 400 && strlen(r.message) <= 512);
    CHECK(utf8_valid(bytes_str(r.message)));
    uint8_t broken[] = {E_INVALID, 'a', 0xff, 0xfe, 'b'};
    r = rpc_unary(p.client, "/test.Test/Fail", bytes_of(broken, sizeof broken), &b, CALL_MS);
    CHECK(r.code == E_INVALID && utf8_valid(bytes_str(r.message)));
    buf_free(&b);
    pair_close(&p);
}

static void unknown_method_is_unimplemented_at_once(void)
{
    pair p = pair_open(true, 0);
    NEED(p.client != NULL);
    buf b;
    buf_init(&b, 4096);
    /* No deadline: an answer must come by itself. More calls than there are request slots. */
    for (int i = 0; i < 150; i++)
        CHECK_FAILS(rpc_unary(p.client, "/lethe.v1.Nothing/At", bytes_str("x"), &b, 0),
                    E_UNIMPLEMENTED);
    CHECK_FAILS(rpc_unary(p.client, "/test.Test/Cha", bytes_str("x"), &b, 0), E_UNIMPLEMENTED);
    CHECK_FAILS(rpc_unary(p.client, "/test.Test/Chatt", bytes_str("x"), &b, 0), E_UNIMPLEMENTED);
    buf_free(&b);
    pair_close(&p);
}

static void metadata_reaches_the_handler(void)
{
    pair p = pair_open(true, 0);
    NEED(p.client != NULL);
    buf b;
    buf_init(&b, 4096);
    CHECK_OK(rpc_unary(p.client, "/test.Test/Metadata", bytes_str(""), &b, CALL_MS));
    CHECK(text_is(&b, "Bearer secret"));
    /* The handler answers without reading: now and then before the request is under way. */
    for (int i = 0; i < 500; i++)
        CHECK_OK(rpc_unary(p.client, "/test.Test/Metadata", bytes_str(""), &b, CALL_MS));
    rpc_client *anonymous = NULL, *odd = NULL, *huge = NULL;
    CHECK_OK(rpc_client_open(&anonymous, &(rpc_client_options){
        .server = p.address, .ca_pem = (const char *)cert.data}));
    CHECK_FAILS(rpc_unary(anonymous, "/test.Test/Metadata", bytes_str(""), &b, CALL_MS),
                E_UNAUTHENTICATED);
    CHECK_OK(rpc_client_open(&odd, &(rpc_client_options){
        .server = p.address, .ca_pem = (const char *)cert.data, .token = "a\nb"}));
    CHECK_FAILS(rpc_unary(odd, "/test.Test/Metadata", bytes_str(""), &b, CALL_MS), E_INVALID);
    char token[40000];
    memset(token, 'a', sizeof token);
    token[sizeof token - 1] = '\0';
    CHECK_OK(rpc_client_open(&huge, &(rpc_client_options){
        .server = p.address, .ca_pem = (const char *)cert.data, .token = token}));
    result r = rpc_unary(huge, "/test.Test/Metadata", bytes_str(""), &b, CALL_MS);
    CHECK(!is_ok(r));
    CHECK_OK(rpc_unary(p.client, "/test.Test/Metadata", bytes_str(""), &b, CALL_MS));
    rpc_client_close(&anonymous);
    rpc_client_close(&odd);
    rpc_client_close(&huge);
    buf_free(&b);
    pair_close(&p);
}

/* ---- ends of calls --------------------------------------------------------------------------- */

static void deadline_ends_client_and_handler(void)
{
    pair p = pair_open(true, 0);
    NEED(p.client != NULL);
    rpc_stream *s = NULL;
    CHECK_OK(rpc_stream_open(&s, p.client, "/test.Test/Spin", 300));
    CHECK_FAILS(rpc_stream_finish(&s), E_DEADLINE);
    wait_left(1);
    CHECK(w.saw_cancelled && w.deadline != 0);
    CHECK(w.last == E_DEADLINE || w.last == E_CANCELLED);   /* the client's reset may come first */
    world_reset();
    CHECK_OK(rpc_stream_open(&s, p.client, "/test.Test/Count", 300));   /* waits for a message */
    bool end = false;
    buf b;
    buf_init(&b, 64);
    while (!end) CHECK_OK(rpc_stream_receive(s, &b, &end));
    buf_free(&b);
    CHECK_FAILS(rpc_stream_finish(&s), E_DEADLINE);
    wait_left(1);
    CHECK(!w.saw_end && (w.last == E_DEADLINE || w.last == E_CANCELLED));
    pair_close(&p);
}

static void client_cancel_reaches_the_handler(void)
{
    pair p = pair_open(true, 0);
    NEED(p.client != NULL);
    for (int i = 0; i < 10; i++) {
        world_reset();
        rpc_stream *s = stream_running(p.client, "/test.Test/Spin", 0);
        rpc_stream_cancel(s);
        CHECK_FAILS(rpc_stream_finish(&s), E_CANCELLED);
        wait_left(1);
        CHECK(w.saw_cancelled && w.last == E_CANCELLED && w.deadline == 0);
        if (!w.saw_cancelled) break;
    }
    pair_close(&p);
}

/* The end of a cancelled upload must not be taken for its completion. */
static void cancelled_upload_is_not_complete(void)
{
    pair p = pair_open(true, 0);
    NEED(p.client != NULL);
    uint8_t piece[10000] = {0};
    for (int i = 0; i < 100; i++) {
        world_reset();
        rpc_stream *s = stream_running(p.client, "/test.Test/Count", 0);
        for (int k = 0; k < i % 4; k++) CHECK_OK(rpc_stream_send(s, bytes_of(piece, sizeof piece)));
        rpc_stream_cancel(s);
        CHECK_FAILS(rpc_stream_finish(&s), E_CANCELLED);
        wait_left(1);
        CHECK(!w.saw_end && w.last == E_CANCELLED && w.saw_cancelled);
    }
    pair_close(&p);
}

/* As above, when the client's connection is simply gone. */
static void lost_connection_is_not_complete(void)
{
    pair p = pair_open(false, 0);
    NEED(p.client != NULL);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(fd >= 0);
    close(fd);
    rpc_stream *s = stream_running(p.client, "/test.Test/Count", 0);
    CHECK_OK(rpc_stream_send(s, bytes_str("x")));
    rpc_stream_cancel(s);
    CHECK_FAILS(rpc_stream_finish(&s), E_CANCELLED);
    rpc_client_close(&p.client);
    wait_left(1);
    CHECK(!w.saw_end && w.last == E_CANCELLED);
    pair_close(&p);
}

static void oversize_messages(void)
{
    pair p = pair_open(true, 0);
    NEED(p.client != NULL);
    static uint8_t big[200000];
    buf b;
    buf_init(&b, 1 << 20);
    CHECK_OK(rpc_unary(p.client, "/test.Test/Chat", bytes_of(big, 64 << 10), &b, CALL_MS));
    result r = rpc_unary(p.client, "/test.Test/Chat", bytes_of(big, (64 << 10) + 1), &b, CALL_MS);
    CHECK(r.code == E_EXHAUSTED);
    CHECK(strstr(r.message, "larger than") != NULL && strstr(r.message, "65536") != NULL);
    if (r.code != E_EXHAUSTED) printf("# %s\n", r.message);

    rpc_stream *s = stream_running(p.client, "/test.Test/Count", CALL_MS);
    (void)!is_ok(rpc_stream_send(s, bytes_of(big, sizeof big)));
    r = rpc_stream_finish(&s);
    CHECK(r.code == E_EXHAUSTED && strstr(r.message, "larger than") != NULL);
    wait_left(1);
    CHECK(w.last == E_EXHAUSTED && !w.saw_end);

    rpc_client *small = NULL;
    CHECK_OK(rpc_client_open(&small, &(rpc_client_options){
        .server = p.address, .ca_pem = (const char *)cert.data, .message_max_bytes = 1000}));
    CHECK_OK(rpc_unary(small, "/test.Test/Chat", bytes_of(big, 1000), &b, CALL_MS));
    CHECK_FAILS(rpc_unary(small, "/test.Test/Chat", bytes_of(big, 1001), &b, CALL_MS), E_EXHAUSTED);
    buf tiny;
    buf_init(&tiny, 10);
    CHECK_FAILS(rpc_unary(p.client, "/test.Test/Chat", bytes_of(big, 11), &tiny, CALL_MS),
                E_EXHAUSTED);
    buf_free(&tiny);
    rpc_client_close(&small);
    buf_free(&b);
    pair_close(&p);
}

/* ---- many calls ------------------------------------------------------------------------------ */

static void two_hundred_at_once(void)
{
    enum { STREAMS = 200 };
    pair p = pair_open(true, 0);
    NEED(p.client != NULL);
    static rpc_stream *s[STREAMS];
    buf b;
    buf_init(&b, 4096);
    char text[32];
    bool end;
    for (int i = 0; i < STREAMS; i++) CHECK_OK(rpc_stream_open(&s[i], p.client, "/test.Test/Chat",
                                                               0));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < STREAMS; i++) {
            snprintf(text, sizeof text, "%d of round %d", i, round);
            CHECK_OK(rpc_stream_send(s[i], bytes_str(text)));
        }
        for (int i = STREAMS - 1; i >= 0; i--) {
            snprintf(text, sizeof text, "%d of round %d", i, round);
            CHECK_OK(rpc_stream_receive(s[i], &b, &end));
            CHECK(!end && text_is(&b, text));
        }
    }
    for (int i = 0; i < STREAMS; i++) CHECK_OK(rpc_stream_finish(&s[i]));
    buf_free(&b);
    pair_close(&p);
}

static void too_many_calls_are_refused(void)
{
    pair p = pair_open(true, 2);
    NEED(p.client != NULL);
    buf b;
    buf_init(&b, 4096);
    rpc_stream *first = stream_running(p.client, "/test.Test/Gate", 0);
    rpc_stream *second = stream_running(p.client, "/test.Test/Gate", 0);
    for (int i = 0; i < 100; i++)
        CHECK_FAILS(rpc_unary(p.client, "/test.Test/Chat", bytes_str("x"), &b, 0), E_UNAVAILABLE);
    CHECK_OK(rpc_unary(p.client, "/grpc.health.v1.Health/Check", bytes_str(""), &b, 0));
    pthread_mutex_lock(&w.mutex);
    w.open = true;
    pthread_cond_broadcast(&w.cond);
    pthread_mutex_unlock(&w.mutex);
    CHECK_OK(rpc_stream_finish(&first));
    CHECK_OK(rpc_stream_finish(&second));
    for (int i = 0; i < 100; i++)
        CHECK_OK(rpc_unary(p.client, "/test.Test/Chat", bytes_str("x"), &b, 0));
    buf_free(&b);
    pair_close(&p);
}

static void *caller_main(void *arg)
{
    rpc_client *c = arg;
    buf b;
    buf_init(&b, 4096);
    intptr_t good = 0;
    for (int i = 0; i < 100; i++) {
        char text[32];
        snprintf(text, sizeof text, "%d", i);
        good += is_ok(rpc_unary(c, "/test.Test/Chat", bytes_str(text), &b, 0)) && text_is(&b, text);
        if (i % 10 != 0) continue;
        rpc_stream *s = NULL;
        if (!is_ok(rpc_stream_open(&s, c, "/test.Test/Chat", 0))) continue;
        rpc_stream_cancel(s);
        (void)!is_ok(rpc_stream_finish(&s));
    }
    buf_free(&b);
    return (void *)good;
}

static void callers_in_threads(void)
{
    enum { CALLERS = 8 };
    pair p = pair_open(false, 0);
    NEED(p.client != NULL);
    pthread_t threads[CALLERS];
    for (int i = 0; i < CALLERS; i++) pthread_create(&threads[i], NULL, caller_main, p.client);
    for (int i = 0; i < CALLERS; i++) {
        void *good;
        pthread_join(threads[i], &good);
        CHECK((intptr_t)good == 100);
    }
    pair_close(&p);
}

/* ---- the server's own ends ------------------------------------------------------------------- */

static bool mark_is(void *ctx, const void *mark)
{
    return ctx == mark;
}

static void server_cancels_by_mark(void)
{
    pair p = pair_open(true, 0);
    NEED(p.client != NULL);
    int other;
    rpc_stream *s[3];
    for (int i = 0; i < 3; i++) s[i] = stream_running(p.client, "/test.Test/Spin", 0);
    rpc_stream *unmarked = stream_running(p.client, "/test.Test/Count", 0);
    rpc_server_cancel(p.server, mark_is, &other);
    CHECK(w.left == 0);
    rpc_server_cancel(p.server, mark_is, &w.mark);
    pthread_mutex_lock(&w.mutex);
    CHECK(w.left == 3 && w.saw_cancelled && w.last == E_CANCELLED);   /* they have all returned */
    pthread_mutex_unlock(&w.mutex);
    for (int i = 0; i < 3; i++) CHECK_FAILS(rpc_stream_finish(&s[i]), E_CANCELLED);
    CHECK_OK(rpc_stream_finish(&unmarked));
    pair_close(&p);
}

static void *stop_main(void *arg)
{
    rpc_server_stop(arg, STOP_MS);
    return NULL;
}

/* Reads the status out of the next HealthCheckResponse; 0 at the end. */
static uint64_t watch_next(rpc_stream *s)
{
    buf b;
    buf_init(&b, 64);
    bool end;
    wire_field f = {.value = 0};
    CHECK_OK(rpc_stream_receive(s, &b, &end));
    reader r = reader_of(buf_bytes(&b));
    if (!end) (void)wire_next(&r, &f);
    buf_free(&b);
    return f.value;
}

static rpc_stream *watch_open(rpc_client *c, const char *service)
{
    rpc_stream *s = NULL;
    buf b;
    buf_init(&b, 64);
    wire_put_bytes(&b, 1, bytes_str(service));
    CHECK_OK(rpc_stream_open(&s, c, "/grpc.health.v1.Health/Watch", 0));
    CHECK_OK(rpc_stream_send(s, buf_bytes(&b)));
    CHECK_OK(rpc_stream_half_close(s));
    buf_free(&b);
    return s;
}

static void health(void)
{
    pair p = pair_open(true, 0);
    NEED(p.client != NULL);
    static const char *const known[] = {"", "test.Test"};
    buf b, request;
    buf_init(&b, 64);
    buf_init(&request, 64);
    for (int i = 0; i < 2; i++) {
        buf_clear(&request);
        wire_put_bytes(&request, 1, bytes_str(known[i]));
        CHECK_OK(rpc_unary(p.client, "/grpc.health.v1.Health/Check", buf_bytes(&request), &b,
                           CALL_MS));
        CHECK(b.size == 2 && b.data[0] == 0x08 && b.data[1] == 1);
    }
    buf_clear(&request);
    wire_put_bytes(&request, 1, bytes_str("test.Tes"));
    CHECK_FAILS(rpc_unary(p.client, "/grpc.health.v1.Health/Check", buf_bytes(&request), &b,
                          CALL_MS),
                E_NOT_FOUND);
    CHECK_FAILS(rpc_unary(p.client, "/grpc.health.v1.Health/Check", bytes_str("\x0a\xff"), &b,
                          CALL_MS),
                E_INVALID);
    buf_free(&request);
    buf_free(&b);
    rpc_stream *watch = watch_open(p.client, ""), *unknown = watch_open(p.client, "nobody");
    CHECK(watch_next(watch) == 1);
    CHECK(watch_next(unknown) == 3);
    rpc_server_stop(&p.server, STOP_MS);    /* would wait for them, did they not end */
    CHECK(watch_next(watch) == 2);
    CHECK(watch_next(watch) == 0);
    CHECK_OK(rpc_stream_finish(&watch));
    CHECK(watch_next(unknown) == 0);
    CHECK_OK(rpc_stream_finish(&unknown));
    pair_close(&p);
}

static void stop_lets_calls_end_and_refuses_new_ones(void)
{
    pair p = pair_open(true, 0);
    NEED(p.client != NULL);
    buf b;
    buf_init(&b, 64);
    bool end;
    rpc_stream *s = stream_running(p.client, "/test.Test/Gate", 0);
    rpc_stream *watch = watch_open(p.client, "");
    CHECK(watch_next(watch) == 1);
    pthread_t stopper;
    pthread_create(&stopper, NULL, stop_main, &p.server);
    CHECK(watch_next(watch) == 2);          /* now the stop has begun */
    CHECK_OK(rpc_stream_finish(&watch));
    CHECK_FAILS(rpc_unary(p.client, "/test.Test/Chat", bytes_str("x"), &b, CALL_MS), E_UNAVAILABLE);
    pthread_mutex_lock(&w.mutex);
    w.open = true;
    pthread_cond_broadcast(&w.cond);
    pthread_mutex_unlock(&w.mutex);
    CHECK_OK(rpc_stream_receive(s, &b, &end));
    CHECK(!end && text_is(&b, "passed"));
    CHECK_OK(rpc_stream_finish(&s));
    pthread_join(stopper, NULL);
    CHECK(p.server == NULL);
    buf_free(&b);
    pair_close(&p);
}

/* Asks one thing; *out is the answer's field of this number (empty: another answer came). */
static void reflect(rpc_stream *s, uint32_t ask, const char *what, uint32_t tell, buf *out)
{
    buf request, response;
    buf_init(&request, 4096);
    buf_init(&response, 1 << 20);
    wire_put_bytes(&request, 1, bytes_str("somewhere"));
    wire_put_bytes(&request, ask, bytes_str(what));
    bool end = true;
    CHECK_OK(rpc_stream_send(s, buf_bytes(&request)));
    CHECK_OK(rpc_stream_receive(s, &response, &end));
    CHECK(!end && wire_valid(buf_bytes(&response)));
    CHECK(bytes_equal(wire_find(buf_bytes(&response), 1), bytes_str("somewhere")));
    CHECK(bytes_equal(wire_find(buf_bytes(&response), 2), buf_bytes(&request)));
    buf_clear(out);
    bytes answer = wire_find(buf_bytes(&response), tell);
    buf_append(out, answer.data, answer.size);
    buf_free(&request);
    buf_free(&response);
}

/* A stream whose handler is known to run. version 0: v1alpha. */
static rpc_stream *reflection_open(rpc_client *c, int version)
{
    static const char *const paths[] = {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                                        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"};
    rpc_stream *s = NULL;
    buf b;
    buf_init(&b, 4096);
    CHECK_OK(rpc_stream_open(&s, c, paths[version], 0));
    reflect(s, 7, "", 6, &b);
    CHECK(b.size > 0);
    buf_free(&b);
    return s;
}

/* A running call, a client that only sits there, a reflection stream, a connection that never speaks. */
static void stop_without_grace(bool tls)
{
    pair p = pair_open(tls, 0);
    NEED(p.client != NULL);
    rpc_client *idle = NULL;
    CHECK_OK(rpc_client_open(&idle, &(rpc_client_options){
        .server = p.address, .ca_pem = tls ? (const char *)cert.data : NULL}));
    rpc_stream *s = stream_running(p.client, "/test.Test/Spin", 0);
    rpc_stream *reflection = reflection_open(p.client, 1);
    rpc_stream *waiting = stream_running(p.client, "/test.Test/Count", 0);
    rpc_server_stop(&p.server, 0);
    CHECK(w.left == 2 && w.saw_cancelled && w.last == E_CANCELLED && !w.saw_end);
    CHECK_FAILS(rpc_stream_finish(&s), E_UNAVAILABLE);
    CHECK_FAILS(rpc_stream_finish(&waiting), E_UNAVAILABLE);
    CHECK_FAILS(rpc_stream_finish(&reflection), E_UNAVAILABLE);
    buf b;
    buf_init(&b, 64);
    CHECK_FAILS(rpc_unary(idle, "/test.Test/Chat", bytes_str("x"), &b, CALL_MS), E_UNAVAILABLE);
    buf_free(&b);
    rpc_client_close(&idle);
    pair_close(&p);
}

static void stop_without_grace_tls(void) { stop_without_grace(true); }
static void stop_without_grace_unix(void) { stop_without_grace(false); }

/* With ten minutes of grace, and nobody in a call: must not wait. */
static void stop_ignores_idle_connections(void)
{
    pair p = pair_open(true, 0);
    NEED(p.client != NULL);
    struct sockaddr_in to = {.sin_family = AF_INET,
        .sin_port = htons((uint16_t)rpc_server_port(p.server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int silent = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(silent, (const struct sockaddr *)&to, sizeof to) == 0);
    rpc_stream *reflection = reflection_open(p.client, 0);
    rpc_server_stop(&p.server, STOP_MS);
    CHECK_FAILS(rpc_stream_finish(&reflection), E_UNAVAILABLE);
    close(silent);
    pair_close(&p);
}

/* ---- reflection ------------------------------------------------------------------------------ */

/* Whether a repeated sub-message of field 1 has this name in its own field 1. */
static bool has_name(const buf *b, const char *name, bool only_first)
{
    reader r = reader_of(buf_bytes(b));
    wire_field f;
    while (wire_next(&r, &f)) {
        if (bytes_equal(wire_find(f.data, 1), bytes_str(name))) return true;
        if (only_first) return false;
    }
    return false;
}

static void reflection(void)
{
    pair p = pair_open(true, 0);
    NEED(p.client != NULL);
    static const char *const symbols[] = {"lethe.v1.Answers", "lethe.v1.Answers.Ask",
        "lethe.v1.AskRequest", "lethe.v1.AskRequest.question", "lethe.v1.PromptOrder",
        "lethe.v1.PROMPT_ORDER_PASSAGES_FIRST", "lethe.v1.AskFrame.frame"};
    static const char *const absent[] = {"", ".", "lethe", "lethe.v1", "lethe.v1.",
        "lethe.v1.Answer",
        "lethe.v1.Answers.", "lethe.v1.Answers.Ask.", "lethe.v1.Answers.Ask.x", "Answers",
        "lethe.v1.PromptOrder.PROMPT_ORDER_PASSAGES_FIRST.x", "lethe.v2.Answers"};
    buf b;
    buf_init(&b, 1 << 20);
    for (int version = 0; version < 2; version++) {
        rpc_stream *s = reflection_open(p.client, version);
        reflect(s, 7, "", 6, &b);
        CHECK(has_name(&b, "test.Test", false) && has_name(&b, "grpc.health.v1.Health", false));
        CHECK(has_name(&b, "grpc.reflection.v1.ServerReflection", false));
        CHECK(has_name(&b, "grpc.reflection.v1alpha.ServerReflection", false));
        CHECK(!has_name(&b, "lethe.v1.Answers", false));    /* not among this server's methods */
        reflect(s, 3, "lethe/v1/documents.proto", 4, &b);
        CHECK(has_name(&b, "lethe/v1/documents.proto", true));
        for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
            reflect(s, 4, symbols[i], 4, &b);
            CHECK(has_name(&b, "lethe/v1/answers.proto", true));
        }
        reflect(s, 4, "grpc.health.v1.HealthCheckResponse.ServingStatus", 4, &b);
        CHECK(has_name(&b, "grpc/health/v1/health.proto", true));
        reflect(s, 4, "grpc.health.v1.HealthCheckResponse.SERVING", 4, &b);
        CHECK(has_name(&b, "grpc/health/v1/health.proto", true));
        for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++) {
            reflect(s, 4, absent[i], 7, &b);
            CHECK(b.size > 2 && b.data[0] == 0x08 && b.data[1] == E_NOT_FOUND);
        }
        reflect(s, 3, "lethe/v1/nothing.proto", 7, &b);
        CHECK(b.size > 2 && b.data[1] == E_NOT_FOUND);
        reflect(s, 6, "lethe.v1.AskRequest", 5, &b);
        CHECK(bytes_equal(wire_find(buf_bytes(&b), 1), bytes_str("lethe.v1.AskRequest")));
        reflect(s, 6, "lethe.v1.Answers", 7, &b);
        CHECK(b.size > 2 && b.data[1] == E_NOT_FOUND);
        CHECK_OK(rpc_stream_finish(&s));
    }
    buf_free(&b);
    pair_close(&p);
}

static void wire_refuses_malformed_bytes(void)
{
    static const struct { const char *data; size_t size; bool valid; } cases[] = {
        {"", 0, true}, {"\x08\x01", 2, true}, {"\x0a\x00", 2, true}, {"\x0a", 1, false},
        {"\x0a\x01", 2, false}, {"\x00\x01", 2, false}, {"\x0b", 1, false}, {"\x0f", 1, false},
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, false},
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, false}, {"\x0d\x01\x02\x03", 4,
            false},
        {"\x09\x01\x02\x03\x04\x05\x06\x07\x08", 9, true}, {"\x08\x80", 2, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        CHECK(wire_valid(bytes_of(cases[i].data, cases[i].size)) == cases[i].valid);
}

/* ---- addresses and TLS ----------------------------------------------------------------------- */

static void addresses(void)
{
    static const struct { const char *text; error_code code; bool local; } cases[] = {
        {"127.0.0.1:0", E_OK, true}, {"127.9.9.9:65535", E_OK, true}, {"localhost:1", E_OK, true},
        {"[::1]:443", E_OK, true}, {"unix:/x", E_OK, true}, {"unix:///x", E_OK, true},
        {"0.0.0.0:1", E_OK, false}, {"[::]:1", E_OK, false}, {"example.org:443", E_OK, false},
        {"128.0.0.1:1", E_OK, false}, {"127.0.0.1.example.org:1", E_OK, false},
        {"localhost.example.org:1", E_OK, false}, {"[::ffff:1.2.3.4]:1", E_OK, false},
        {"", E_INVALID, false}, {":1", E_INVALID, false}, {"a", E_INVALID, false}, {"a:",
            E_INVALID, false},
        {"a:b", E_INVALID, false}, {"a:65536", E_INVALID, false}, {"a:-1", E_INVALID, false},
        {"::1:80", E_INVALID, false}, {"[::1:80", E_INVALID, false}, {"[]:80", E_INVALID, false},
        {"unix:", E_INVALID, false}, {"a:1 ", E_INVALID, false}, {"dns:///localhost:1", E_INVALID,
            false},
        {"]:1", E_INVALID, false}, {"[:1", E_INVALID, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool local;
        result r = rpc_address_check(cases[i].text, &local);
        if (r.code != cases[i].code || (is_ok(r) && local != cases[i].local)) printf("# %s\n",
                                                                                     cases[i].text);
        CHECK(r.code == cases[i].code);
        if (is_ok(r)) CHECK(local == cases[i].local);
    }
    char path[200] = "unix:/";
    memset(path + 6, 'x', 150);
    bool local;
    CHECK_FAILS(rpc_address_check(path, &local), E_INVALID);
}

static void plaintext_stays_on_the_machine(void)
{
    rpc_server *s = NULL;
    rpc_client *c = NULL;
    rpc_server_options o = options_of("0.0.0.0:0", false);
    CHECK_FAILS(rpc_server_start(&s, &o), E_INVALID);
    o.listen = "[::]:0";
    CHECK_FAILS(rpc_server_start(&s, &o), E_INVALID);
    o.listen = "127.0.0.1:0";
    o.tls_key_pem = (const char *)key.data;
    CHECK_FAILS(rpc_server_start(&s, &o), E_INVALID);
    CHECK_FAILS(rpc_client_open(&c, &(rpc_client_options){.server = "192.0.2.1:1"}), E_INVALID);
    CHECK_FAILS(rpc_client_open(&c, &(rpc_client_options){.server = "example.org:1"}), E_INVALID);
    o.tls_key_pem = NULL;
    o.listen = "127.0.0.1:0";
    CHECK_OK(rpc_server_start(&s, &o));
    char address[64];
    snprintf(address, sizeof address, "127.0.0.1:%d", rpc_server_port(s));
    CHECK_OK(rpc_client_open(&c, &(rpc_client_options){.server = address}));
    rpc_client_close(&c);
    CHECK(s != NULL);
    rpc_server_stop(&s, STOP_MS);
}

static void busy_address_is_an_error(void)
{
    pair p = pair_open(true, 0), q = pair_open(false, 0);
    NEED(p.client != NULL && q.client != NULL);
    char address[64];
    snprintf(address, sizeof address, "127.0.0.1:%d", rpc_server_port(p.server));
    rpc_server_options o = options_of(address, true);
    rpc_server *s = NULL;
    result r = rpc_server_start(&s, &o);
    CHECK(r.code == E_UNAVAILABLE && strstr(r.message, "already in use") != NULL && s == NULL);
    snprintf(address, sizeof address, "localhost:%d", rpc_server_port(p.server));
    r = rpc_server_start(&s, &o);
    CHECK(r.code == E_UNAVAILABLE && strstr(r.message, "already in use") != NULL && s == NULL);
    o.listen = unix_same;
    r = rpc_server_start(&s, &o);
    CHECK(r.code == E_UNAVAILABLE && strstr(r.message, "already in use") != NULL && s == NULL);
    o.listen = "192.0.2.1:0";
    CHECK_FAILS(rpc_server_start(&s, &o), E_UNAVAILABLE);
    buf b;
    buf_init(&b, 64);
    CHECK_OK(rpc_unary(q.client, "/test.Test/Chat", bytes_str("x"), &b, CALL_MS));  /* still there */
    buf_free(&b);
    pair_close(&p);
    pair_close(&q);
}

static bool client_says(const char *address, const char *ca, const char *words)
{
    rpc_client *c = NULL;
    result r = rpc_client_open(&c, &(rpc_client_options){.server = address, .ca_pem = ca});
    bool said = r.code == E_UNAVAILABLE && strstr(r.message, words) != NULL;
    if (!said) printf("# %s: %s\n", address, r.message);
    rpc_client_close(&c);
    return said;
}

static void tls_errors_are_told(void)
{
    pair p = pair_open(true, 0);
    NEED(p.client != NULL);
    buf other_cert, other_key;
    buf_init(&other_cert, 8192);
    buf_init(&other_key, 8192);
    CHECK_OK(tls_make_certificate(&other_cert, &other_key, NULL, 0));
    CHECK(client_says(p.address, (const char *)other_cert.data, "not trusted"));
    CHECK(client_says(p.address, NULL, "cannot reach"));
    CHECK(client_says("127.0.0.1:1", (const char *)cert.data, "cannot reach"));
    CHECK(client_says("unix:/nonexistent/socket", NULL, "cannot reach"));
    char address[64];
    rpc_client *c = NULL;
    result r = rpc_client_open(&c, &(rpc_client_options){.server = p.address, .ca_pem = "no PEM"});
    CHECK(!is_ok(r));

    rpc_server *s = NULL;
    rpc_server_options o = options_of("127.0.0.2:0", true);
    CHECK_OK(rpc_server_start(&s, &o));
    snprintf(address, sizeof address, "127.0.0.2:%d", s ? rpc_server_port(s) : 0);
    CHECK(client_says(address, (const char *)cert.data, "other names"));
    rpc_server_stop(&s, STOP_MS);

    o.tls_key_pem = (const char *)other_key.data;
    CHECK_FAILS(rpc_server_start(&s, &o), E_INVALID);       /* another certificate's key */
    o.tls_key_pem = "no PEM";
    CHECK_FAILS(rpc_server_start(&s, &o), E_INVALID);
    buf_free(&other_cert);
    buf_free(&other_key);
    pair_close(&p);
}

static void certificate_names(void)
{
    static const char *const names[] = {"127.0.0.2", "server.example", "*.svc.example",
        "2001:db8::1"};
    static const char *const bad[] = {"", "a b", "x,DNS:evil", "a\nb", "-a", ".", "*.", "a_b",
        "@x"};
    buf c, k;
    buf_init(&c, 8192);
    buf_init(&k, 8192);
    CHECK_OK(tls_make_certificate(&c, &k, names, 4));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK_FAILS(tls_make_certificate(&c, &k, &bad[i], 1), E_INVALID);
    rpc_server *s = NULL;
    rpc_server_options o = options_of("127.0.0.2:0", true);
    o.tls_certificate_pem = (const char *)c.data;
    o.tls_key_pem = (const char *)k.data;
    CHECK_OK(rpc_server_start(&s, &o));
    NEED(s != NULL);
    char address[64];
    snprintf(address, sizeof address, "127.0.0.2:%d", rpc_server_port(s));
    rpc_client *client = NULL;
    CHECK_OK(rpc_client_open(&client, &(rpc_client_options){
        .server = address, .ca_pem = (const char *)c.data}));
    rpc_client_close(&client);
    rpc_server_stop(&s, STOP_MS);
    o.listen = "[::1]:0";
    if (is_ok(rpc_server_start(&s, &o))) {                  /* a machine without IPv6 has no ::1 */
        snprintf(address, sizeof address, "[::1]:%d", rpc_server_port(s));
        CHECK_OK(rpc_client_open(&client, &(rpc_client_options){
            .server = address, .ca_pem = (const char *)c.data}));
        rpc_client_close(&client);
        rpc_server_stop(&s, STOP_MS);
    }
    buf_free(&c);
    buf_free(&k);
}

int main(void)
{
    pthread_mutex_init(&w.mutex, NULL);
    pthread_cond_init(&w.cond, NULL);
    test_tmpdir(dir);
    snprintf(unix_address, sizeof unix_address, "unix:%s/socket", dir);
    snprintf(unix_same, sizeof unix_same, "unix://%s/socket", dir);
    buf_init(&cert, 8192);
    buf_init(&key, 8192);
    if (!is_ok(tls_make_certificate(&cert, &key, NULL, 0))) return 1;
    RUN(shapes_over_tls);
    RUN(shapes_over_unix);
    RUN(statuses_and_sentences);
    RUN(unknown_method_is_unimplemented_at_once);
    RUN(metadata_reaches_the_handler);
    RUN(deadline_ends_client_and_handler);
    RUN(client_cancel_reaches_the_handler);
    RUN(cancelled_upload_is_not_complete);
    RUN(lost_connection_is_not_complete);
    RUN(oversize_messages);
    RUN(two_hundred_at_once);
    RUN(too_many_calls_are_refused);
    RUN(callers_in_threads);
    RUN(server_cancels_by_mark);
    RUN(health);
    RUN(stop_lets_calls_end_and_refuses_new_ones);
    RUN(stop_without_grace_tls);
    RUN(stop_without_grace_unix);
    RUN(stop_ignores_idle_connections);
    RUN(reflection);
    RUN(wire_refuses_malformed_bytes);
    RUN(addresses);
    RUN(plaintext_stays_on_the_machine);
    RUN(busy_address_is_an_error);
    RUN(tls_errors_are_told);
    RUN(certificate_names);
    buf_free(&cert);
    buf_free(&key);
    test_tmpdir_remove(dir);
    return DONE();
}
