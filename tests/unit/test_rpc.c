/* rpc over real sockets: shapes of calls, their ends, and many of them. Server and client of this process talk TLS on
 * loopback and plaintext on a Unix socket. Where a test waits for another thread, a hang is the failure (ctest's timeout). */
#include "rpc_house.h"

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

int main(void)
{
    world_open();
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
    world_close();
    return DONE();
}
