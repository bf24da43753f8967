/* bench_serve SERVER CA_FILE < ASKS: askers of a running server, each with a connection and a thread of its own, that note
 * when each piece of their answers came. tests/bench/serve_generator.py makes the asks and reads the times.
 *
 * An ask is a line: TOKEN START_MS MAX_TOKENS PASSAGES REPEATS TEMPERATURE QUESTION. Everybody connects first; START_MS
 * counts from then. For each ask a line comes back: the status, when it was sent, the input tokens, and when each piece of
 * its answer came, in seconds from the same moment. */
#include "bench.h"

#include "message.h"
#include "rpc.h"

#include "lethe/v1/answers.pb-c.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

enum { ASKS_MAX = 256, LINE_MAX_BYTES = 20000, DEADLINE_MS = 600000 };

typedef struct {
    char line[LINE_MAX_BYTES];
    rpc_client *client;
    const char *question;
    double start_s, sent_s, temperature;
    uint32_t max_tokens, passages, repeats;
    uint64_t input_tokens;
    double *times_s;                   /* [max_tokens] */
    size_t count;
    error_code code;
    char message[256];
    pthread_t thread;
} ask;

static double began_s;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9 - began_s;
}

static void sleep_until(double s)
{
    for (double left = s - now_s(); left > 0; left = s - now_s()) {
        struct timespec t = {(time_t)left, (long)((left - (double)(time_t)left) * 1e9)};
        nanosleep(&t, NULL);
    }
}

static result send_ask(const ask *a, rpc_stream *s)
{
    Lethe__V1__AskRequest m = LETHE__V1__ASK_REQUEST__INIT;
    m.question = (char *)a->question;
    m.max_tokens = a->max_tokens;
    m.free_text = true;                    /* as many tokens as were asked for */
    m.passages = a->passages;
    m.repeats = a->repeats;
    m.temperature = (float)a->temperature;
    m.seed = a->max_tokens;
    buf packed;
    buf_init(&packed, 1 << 20);
    message_pack(&m.base, &packed);
    result r = rpc_stream_send(s, buf_bytes(&packed));
    if (is_ok(r)) r = rpc_stream_half_close(s);
    buf_free(&packed);
    return r;
}

static result take_frames(ask *a, rpc_stream *s, arena *mem)
{
    buf message;
    buf_init(&message, 64 << 20);
    result r = OK;
    for (bool end = false; is_ok(r);) {
        Lethe__V1__AskFrame *frame;
        r = rpc_stream_receive(s, &message, &end);
        if (!is_ok(r) || end) break;
        double came_s = now_s();
        arena_reset(mem);
        r = message_unpack(mem, &lethe__v1__ask_frame__descriptor, buf_bytes(&message), &frame);
        if (!is_ok(r)) break;
        if (frame->frame_case == LETHE__V1__ASK_FRAME__FRAME_TOKEN && a->count < a->max_tokens)
            a->times_s[a->count++] = came_s;
        if (frame->frame_case == LETHE__V1__ASK_FRAME__FRAME_FINAL) a->input_tokens = frame->final->usage->input_tokens;
    }
    buf_free(&message);
    return r;
}

static void *ask_run(void *arg)
{
    ask *a = arg;
    arena *mem;
    rpc_stream *s;
    arena_open(&mem, 64 << 20);
    sleep_until(a->start_s);
    a->sent_s = now_s();
    result r = rpc_stream_open(&s, a->client, "/lethe.v1.Answers/Ask", DEADLINE_MS);
    if (is_ok(r)) {
        r = send_ask(a, s);
        if (is_ok(r)) r = take_frames(a, s, mem);
        result status = rpc_stream_finish(&s);
        if (!is_ok(status)) r = status;
    }
    a->code = r.code;
    snprintf(a->message, sizeof a->message, "%s", is_ok(r) ? "" : r.message);
    arena_close(&mem);
    return NULL;
}

/* Connects as the line's token. */
static bool ask_parse(ask *a, const char *server, const char *ca)
{
    char token[256];
    int at = 0;
    a->line[strcspn(a->line, "\n")] = 0;
    if (sscanf(a->line, "%255s %lf %u %u %u %lf %n", token, &a->start_s, &a->max_tokens, &a->passages, &a->repeats,
               &a->temperature, &at) != 6 || at == 0 || a->max_tokens == 0 || a->max_tokens > 65536)
        return false;
    a->start_s /= 1e3;
    a->question = a->line + at;
    a->times_s = mem_alloc_array(a->max_tokens, sizeof *a->times_s);
    must(rpc_client_open(&a->client, &(rpc_client_options){.server = server, .ca_pem = ca, .token = token}));
    return true;
}

static int report(const ask *a)
{
    printf("%s %.6f %llu", error_code_name(a->code), a->sent_s, (unsigned long long)a->input_tokens);
    for (size_t i = 0; i < a->count; i++) printf(" %.6f", a->times_s[i]);
    putchar('\n');
    if (a->code != E_OK) fprintf(stderr, "bench_serve: %s\n", a->message);
    return a->code != E_OK;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fputs("usage: bench_serve SERVER CA_FILE < ASKS\n", stderr);
        return 2;
    }
    buf ca;
    buf_init(&ca, 1 << 20);
    must(file_read(argv[2], 1 << 20, &ca));
    buf_append_u8(&ca, 0);
    ask *asks = mem_alloc_array(ASKS_MAX, sizeof *asks);
    size_t count = 0;
    while (count < ASKS_MAX && fgets(asks[count].line, LINE_MAX_BYTES, stdin) != NULL)
        if (!ask_parse(&asks[count++], argv[1], (const char *)ca.data)) {
            fprintf(stderr, "bench_serve: line %zu is no ask\n", count);
            return 2;
        }
    began_s = now_s();
    for (size_t i = 0; i < count; i++) ASSERT(pthread_create(&asks[i].thread, NULL, ask_run, &asks[i]) == 0);
    int failed = 0;
    for (size_t i = 0; i < count; i++) {
        pthread_join(asks[i].thread, NULL);
        failed |= report(&asks[i]);
        rpc_client_close(&asks[i].client);
        mem_free(asks[i].times_s);
    }
    mem_free(asks);
    buf_free(&ca);
    return failed;
}
