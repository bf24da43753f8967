/* rpc over real sockets: how a server ends, reflection, addresses and TLS. A hang is a failure (ctest's timeout). */
#include "rpc_house.h"

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
    world_open();
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
    world_close();
    return DONE();
}
