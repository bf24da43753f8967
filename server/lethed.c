/* lethed: the server. Settings from a file and flags, then serve until SIGTERM or SIGINT. */
#include "confine.h"
#include "erasure.h"
#include "house.h"
#include "mutant.h"
#include "service.h"

#include <semaphore.h>
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

extern const unsigned char lethe_descriptor_set[];
extern const size_t lethe_descriptor_set_size;

enum { RETRY_SECONDS = 30 };

static const char USAGE[] =
    "usage: lethed --data DIR [--root DIR] [--config FILE] [--model DIR] [--listen ADDR]\n"
    "              [--keytree-mirror DIR] [--plaintext] [--KEY VALUE]... [--help] [--version]\n"
    "\n"
    "Serves a data folder made by `lethe init`. Every setting of the configuration file is a flag as\n"
    "well (underscores or hyphens). The address served is printed as: listening ADDR.\n\n";

static int usage(FILE *out)
{
    buf text;
    buf_init(&text, 1 << 16);
    config_describe(&text);
    fprintf(out, "%s| setting | default | range | meaning |\n|---|---|---|---|\n%.*s", USAGE,
            (int)text.size, (const char *)text.data);
    buf_free(&text);
    return out == stdout ? 0 : 2;
}

/* Flags override the file, wherever --config stands. */
static result flags_read(int argc, char **argv, config *c, bool files, const char **file)
{
    for (int i = 1; i < argc; i++) {
        char key[64];
        if (strncmp(argv[i], "--", 2) != 0 || strlen(argv[i]) >= sizeof key)
            return fail(E_INVALID, "unexpected argument; see lethed --help");
        strcpy(key, argv[i] + 2);
        for (char *p = key; *p; p++) if (*p == '-') *p = '_';
        bool is_flag = strcmp(key, "plaintext") == 0;
        if (!is_flag && i + 1 == argc) return fail(E_INVALID, "--%s needs a value", argv[i] + 2);
        const char *value = is_flag ? "true" : argv[++i];
        if (strcmp(key, "config") == 0) {
            if (!files) continue;
            if (*file != NULL) return fail(E_INVALID, "--config: once only");
            *file = value;
            TRY(config_load(c, value));
        } else if (!files) {
            TRY(config_set(c, key, value));
        }
    }
    return OK;
}

static result settings_read(int argc, char **argv, config *c, const char **file)
{
    config_defaults(c);
    *file = NULL;
    TRY(flags_read(argc, argv, c, true, file));
    TRY(flags_read(argc, argv, c, false, file));
    return config_finish(c);
}

/* ---- stopping ------------------------------------------------------------------------------------------ */
/* A handler and a semaphore, not a blocked signal and sigwait: libraries start threads before main
 * (OpenBLAS), which do not inherit a mask, and a signal without a handler ends the process in any. */
static sem_t stop_wanted;
static volatile sig_atomic_t stop_signal;

static void on_stop(int number)
{
    stop_signal = number;
    sem_post(&stop_wanted);
}

static void stop_prepare(void)
{
    struct sigaction action = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sem_init(&stop_wanted, 0, 0);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    /* The threads that we start shall not be interrupted; main opens the mask when it waits. */
    pthread_sigmask(SIG_BLOCK, &stop, NULL);
}

/* Until a signal; meanwhile takes up erasures that failed on their way. */
static void stop_wait(house *h)
{
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    pthread_sigmask(SIG_UNBLOCK, &stop, NULL);
    struct timespec until;
    for (;;) {
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += RETRY_SECONDS;
        if (sem_timedwait(&stop_wanted, &until) == 0) return;
        if (errno == ETIMEDOUT) erasure_retry(h);
    }
}

static result serve(house *h)
{
    const config *c = &h->settings;
    const rpc_server_options options = {
        .listen = c->listen,
        .tls_certificate_pem = c->plaintext ? NULL : h->tls_certificate,
        .tls_key_pem = c->plaintext ? NULL : h->tls_key,
        .methods = service_methods,
        .method_count = service_method_count,
        .handler_ctx = h,
        .threads_max = c->threads_max,
        .message_max_bytes = c->message_max_bytes,
        .keepalive_ms = c->keepalive_ms,
        .connection_age_ms = c->connection_age_ms,
        .services = service_names,
        .descriptor_set = bytes_of(lethe_descriptor_set, lethe_descriptor_set_size),
    };
    TRY(rpc_server_start(&h->rpc, &options));
    int port = rpc_server_port(h->rpc);
    const char *colon = strrchr(c->listen, ':');
    if (port > 0 && colon)
        printf("listening %.*s:%d\n", (int)(colon - c->listen), c->listen, port);
    else
        printf("listening %s\n", c->listen);
    fflush(stdout);
    log_event(LOG_INFO, "serving", LOG_NUMBER("port", port), LOG_NUMBER("pid", getpid()),
              LOG_NUMBER("epoch", keytree_epoch(h->keys)),
              LOG_TEXT("answers", h->generator ? "generative" : "extractive"));
    stop_wait(h);
    log_event(LOG_INFO, "stopping", LOG_NUMBER("signal", stop_signal));
    rpc_server_stop(&h->rpc, c->grace_ms);
    return OK;
}

/* Every open store has 3 MB of LMDB's tables, which it takes zeroed and hardly touches: memory mapped for them costs what is
 * touched. glibc would raise the size from which it maps to that of the largest array ever freed. */
enum { MAPPED_FROM = 512 << 10 };

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--help") == 0) return usage(stdout);
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("lethed %s\n", LETHE_VERSION);
        return 0;
    }
    process_harden();
    (void)mallopt(M_MMAP_THRESHOLD, MAPPED_FROM);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);              /* a file size limit is an error, not the end */
    config *c = mem_alloc(sizeof *c);
    house *h = NULL;
    const char *file;
    result r = settings_read(argc, argv, c, &file);
    if (!is_ok(r)) {
        fprintf(stderr, "lethed: %s\n", r.message);
        mem_free(c);
        return 2;
    }
    log_level_set((log_level)c->log_level);
#ifdef LETHE_MUTANTS
    log_event(LOG_WARN, "mutant_build", LOG_TEXT("note", "deliberately breakable: for tests only"));
#endif
    root_keeper_process keeper;
    r = confine_start(c, file, argv, &keeper);
    stop_prepare();                        /* before any thread of ours starts */
    if (is_ok(r)) r = house_open(&h, c, &keeper);
    if (is_ok(r)) r = serve(h);
    if (!is_ok(r)) fprintf(stderr, "lethed: %s\n", r.message);
    house_close(&h);
    mem_free(c);
    return is_ok(r) ? 0 : 1;
}
