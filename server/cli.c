#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char USAGE[] =
    "usage: lethe VERB [ARGUMENT]... [OPTION]...\n"
    "\n"
    "  init --data DIR [--root DIR] [--config FILE] [--tenant NAME]     a fresh data folder (offline)\n"
    "  tenant add NAME                                   with the operator's token\n"
    "  user add NAME | group add NAME                    with a tenant admin's token\n"
    "  group join GROUP NAME | group leave GROUP NAME    NAME: a user, or group:NAME to nest\n"
    "  token issue NAME | token revoke ID | whoami\n"
    "  put PATH... [--owner group:NAME] [--share group:NAME|user:NAME]... [--replace]\n"
    "  ls | get DOC | share DOC WHO | unshare DOC WHO\n"
    "  search TEXT [-k N] [--mode hybrid|dense|lexical] [--audience group:NAME]\n"
    "  ask TEXT [--audience group:NAME] [--passages N] [--repeats N] [--seed N] [--max-tokens N]\n"
    "           [--temperature T] [--top-p P] [--stop TEXT] [--order passages-first|question-first] [--free]\n"
    "  erase doc ID | erase user NAME | erase tenant NAME [--receipt FILE]\n"
    "  erase subject TEXT [--yes] [--include-similar] [--receipt FILE]   without --yes: shows, then asks\n"
    "  tombstones [off|flag|refuse] [--owner group:NAME] what erased documents leave, to tell when they come back\n"
    "  verify FILE [--key PUB] [--opening FILE]          a receipt or a report, offline; PUB: file or hex\n"
    "  log head | log ls | log witness FILE [--key PUB]  the tenant's audit log; FILE: the head seen last\n"
    "  audit [--subjects N] [--seed N] [--report FILE] [--owner group:NAME] [--data DIR] [--log FILE]\n"
    "                                                    plants, probes, erases, probes again; 0: nothing is left\n"
    "  backup NAME                                       the operator: below the server's backup_dir\n"
    "  restore BACKUP --data DIR [--root DIR] [--config FILE]           offline: puts back what is missing\n"
    "  stats | quota NAME KEY=NUMBER...\n"
    "\n"
    "Every verb takes --json: one JSON object on standard output.\n"
    "Connection: --server HOST:PORT (LETHE_SERVER, else 127.0.0.1:7443), --ca FILE (LETHE_CA), or\n"
    "--plaintext for a loopback or unix:/path address; --token-file FILE or LETHE_TOKEN (the token).\n"
    "Exit codes: 0 done, 1 refused, not found, invalid or partly failed, 2 usage, 3 not reachable.\n";

static const struct { const char *name; cli_verb_fn *run; bool online; } verbs[] = {
    {"init", cli_init, false}, {"verify", cli_verify, false}, {"backup", cli_backup, true},
    {"restore", cli_restore, false}, {"put", cli_put, true},
    {"get", cli_get, true}, {"ls", cli_ls, true}, {"share", cli_share, true},
    {"unshare", cli_unshare, true}, {"erase", cli_erase, true}, {"audit", cli_audit, true},
    {"search", cli_search, true},
    {"ask", cli_ask, true}, {"tenant", cli_tenant, true}, {"user", cli_user, true},
    {"group", cli_group, true}, {"token", cli_token, true}, {"whoami", cli_whoami, true},
    {"tombstones", cli_tombstones, true}, {"log", cli_log, true}, {"stats", cli_stats, true}, {"quota", cli_quota, true},
};

/* ---- output ---------------------------------------------------------------------------------------------- */
void cli_print_json(cJSON *object)
{
    char *text = cJSON_PrintUnformatted(object);
    puts(text);
    cJSON_free(text);
    cJSON_Delete(object);
}

int cli_usage(const char *words)
{
    fprintf(stderr, "usage: lethe %s\n(lethe --help lists all)\n", words);
    return CLI_USAGE;
}

bool cli_args(const cli *c, int n) { return c->arg_count == n; }

static int failure(cli *c, result r, int code)
{
    fprintf(stderr, "lethe: %s (%s)\n", r.message, error_code_name(r.code));
    if (c->json) {
        cJSON *o = cJSON_CreateObject(), *e = cJSON_AddObjectToObject(o, "error");
        cJSON_AddStringToObject(e, "code", error_code_name(r.code));
        cJSON_AddStringToObject(e, "message", r.message);
        cli_print_json(o);
    }
    return code;
}

int cli_fail(cli *c, result r) { return failure(c, r, CLI_REFUSED); }

/* ---- the connection ---------------------------------------------------------------------------------------- */
/* The token: a file's first line, or the environment. Borrowed from the buffer. */
static result token_read(const cli *c, buf *out)
{
    const char *token = getenv("LETHE_TOKEN");
    if (c->token_file) {
        TRY(file_read(c->token_file, 4096, out));
        while (out->size > 0 && (out->data[out->size - 1] == '\n' || out->data[out->size - 1] == ' '))
            out->size--;
    } else if (token) {
        buf_append_str(out, token);
    }
    buf_append_u8(out, 0);
    return buf_check(out);
}

static result connect_steps(cli *c, buf *token, buf *ca)
{
    TRY(token_read(c, token));
    if (c->ca) {
        TRY(file_read(c->ca, 1 << 20, ca));
        buf_append_u8(ca, 0);
    }
    const rpc_client_options options = {
        .server = c->server,
        .ca_pem = c->ca ? (const char *)ca->data : NULL,
        .token = token->size > 1 ? (const char *)token->data : NULL,
    };
    return rpc_client_open(&c->client, &options);
}

int cli_connect(cli *c)
{
    if (c->client) return CLI_DONE;
    if (c->plaintext) c->ca = NULL;
    else if (c->ca == NULL || c->ca[0] == 0) {
        fputs("lethe: which certificate is to be trusted? Pass --ca FILE (or LETHE_CA); lethe init "
              "names it.\n", stderr);
        return CLI_USAGE;
    }
    buf token, ca;
    buf_init(&token, 8192);
    buf_init(&ca, 2 << 20);
    result r = connect_steps(c, &token, &ca);
    buf_free(&token);
    buf_free(&ca);
    if (is_ok(r)) return CLI_DONE;
    return failure(c, r, r.code == E_UNAVAILABLE ? CLI_UNREACHABLE : CLI_REFUSED);
}

result cli_send(rpc_stream *s, const ProtobufCMessage *message)
{
    buf packed;
    buf_init(&packed, 64 << 20);
    message_pack(message, &packed);
    result r = buf_check(&packed);
    if (is_ok(r)) r = rpc_stream_send(s, buf_bytes(&packed));
    buf_free(&packed);
    return r;
}

int cli_call(cli *c, const char *path, const ProtobufCMessage *message,
             const ProtobufCMessageDescriptor *response_type, void *out_response)
{
    int code = cli_connect(c);
    if (code != CLI_DONE) return code;
    buf request, response;
    buf_init(&request, 64 << 20);
    buf_init(&response, 64 << 20);
    message_pack(message, &request);
    result r = buf_check(&request);
    if (is_ok(r)) r = rpc_unary(c->client, path, buf_bytes(&request), &response, 0);
    if (is_ok(r)) r = message_unpack(c->mem, response_type, buf_bytes(&response), out_response);
    buf_free(&request);
    buf_free(&response);
    return is_ok(r) ? CLI_DONE : cli_fail(c, r);
}

/* ---- arguments ------------------------------------------------------------------------------------------------ */
typedef struct { const char *name; size_t offset; char kind; } flag;   /* s text, n number, d real, b */
#define FLAG(name, field, kind) {name, offsetof(cli, field), kind}
static const flag flags[] = {
    FLAG("--json", json, 'b'), FLAG("--replace", replace, 'b'), FLAG("--yes", yes, 'b'),
    FLAG("--include-similar", include_similar, 'b'), FLAG("--free", free_text, 'b'),
    FLAG("--plaintext", plaintext, 'b'), FLAG("--server", server, 's'), FLAG("--ca", ca, 's'),
    FLAG("--token-file", token_file, 's'), FLAG("--owner", owner, 's'),
    FLAG("--audience", audience, 's'), FLAG("--receipt", receipt, 's'), FLAG("--key", key, 's'),
    FLAG("--opening", opening, 's'), FLAG("--report", report, 's'), FLAG("--log", log, 's'),
    FLAG("--subjects", subjects, 'n'),
    FLAG("--data", data, 's'), FLAG("--root", root, 's'), FLAG("--config", config, 's'), FLAG("--tenant", tenant, 's'),
    FLAG("--order", order, 's'), FLAG("--mode", mode, 's'), FLAG("--type", media_type, 's'),
    FLAG("--stop", stop, 's'), FLAG("-k", k, 'n'), FLAG("--passages", passages, 'n'),
    FLAG("--repeats", repeats, 'n'), FLAG("--seed", seed, 'n'),
    FLAG("--max-tokens", max_tokens, 'n'), FLAG("--temperature", temperature, 'd'),
    FLAG("--top-p", top_p, 'd'),
};

static bool flag_store(cli *c, const flag *f, const char *value)
{
    char *place = (char *)c + f->offset, *end = NULL;
    errno = 0;
    if (f->kind == 's') {
        *(const char **)(void *)place = value;
        return true;
    }
    if (f->kind == 'n') {
        *(uint64_t *)(void *)place = strtoull(value, &end, 10);
        return value[0] >= '0' && value[0] <= '9' && *end == 0 && errno == 0 &&
               (f->offset == offsetof(cli, seed) || *(uint64_t *)(void *)place <= UINT32_MAX);
    }
    *(double *)(void *)place = strtod(value, &end);
    return end != value && *end == 0 && errno == 0;
}

/* One option at argv[*i]; false: wrong, and said so. */
static bool option_read(cli *c, int argc, char **argv, int *i)
{
    const char *name = argv[*i];
    if (strcmp(name, "--share") == 0 && *i + 1 < argc && c->share_count < CLI_SHARES_MAX) {
        c->share[c->share_count++] = argv[++*i];
        return true;
    }
    for (size_t f = 0; f < sizeof flags / sizeof flags[0]; f++) {
        if (strcmp(flags[f].name, name) != 0) continue;
        if (flags[f].kind == 'b') {
            *(bool *)((char *)c + flags[f].offset) = true;
            return true;
        }
        if (*i + 1 < argc && flag_store(c, &flags[f], argv[*i + 1])) {
            ++*i;
            return true;
        }
        fprintf(stderr, "lethe: %s needs a %s\n", name, flags[f].kind == 's' ? "value" : "number");
        return false;
    }
    fprintf(stderr, "lethe: no option %s here (lethe --help)\n", name);
    return false;
}

static int run(cli *c, int argc, char **argv)
{
    bool plain = false;                  /* after "--" everything is an argument */
    for (int i = 1; i < argc; i++) {
        if (!plain && strcmp(argv[i], "--") == 0) plain = true;
        else if (!plain && argv[i][0] == '-' && argv[i][1] != 0) {
            if (!option_read(c, argc, argv, &i)) return CLI_USAGE;
        } else if (c->verb == NULL) c->verb = argv[i];
        else c->args[c->arg_count++] = argv[i];
    }
    if (c->verb == NULL) {
        fputs(USAGE, stderr);
        return CLI_USAGE;
    }
    for (size_t v = 0; v < sizeof verbs / sizeof verbs[0]; v++)
        if (strcmp(verbs[v].name, c->verb) == 0) return verbs[v].run(c);
    fprintf(stderr, "lethe: no verb '%s' (lethe --help)\n", c->verb);
    return CLI_USAGE;
}

int cli_main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(USAGE, stdout);
        return CLI_DONE;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("lethe %s\n", LETHE_VERSION);
        return CLI_DONE;
    }
    process_harden();
    const char *server = getenv("LETHE_SERVER");
    cli *c = mem_alloc(sizeof *c);
    c->args = mem_alloc_array((size_t)argc + 1, sizeof *c->args);
    c->server = server ? server : "127.0.0.1:7443";
    c->ca = getenv("LETHE_CA");
    arena_open(&c->mem, (size_t)1 << 30);
    int code = run(c, argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {         /* a full disk behind a redirection */
        fputs("lethe: the output could not be written\n", stderr);
        if (code == CLI_DONE) code = CLI_REFUSED;
    }
    rpc_client_close(&c->client);
    arena_close(&c->mem);
    mem_free(c->args);
    mem_free(c);
    return code;
}
