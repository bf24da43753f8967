/* cli: what the client's verbs share: arguments, the connection, output. The verbs stand in
 * cli_offline.c (init, verify), cli_documents.c, cli_answers.c, cli_access.c. */
#ifndef LETHE_CLI_H
#define LETHE_CLI_H

#include "rpc.h"

#include "config.h"
#include "message.h"

#include <cjson/cJSON.h>

enum { CLI_ARGS_MAX = 65536, CLI_SHARES_MAX = 32 };
/* Exit codes, on which scripts rely. */
enum { CLI_DONE = 0, CLI_REFUSED = 1, CLI_USAGE = 2, CLI_UNREACHABLE = 3 };

typedef struct {
    const char *verb;
    const char **args;                       /* positional, after the verb */
    int arg_count;
    bool json, replace, yes, plaintext, include_similar, free_text;
    const char *server, *ca, *token_file, *owner, *audience, *receipt, *opening, *key, *data, *root, *tenant,
        *order, *mode, *media_type, *stop, *report, *log, *config;
    const char *share[CLI_SHARES_MAX];
    uint32_t share_count;
    uint64_t k, repeats, seed, max_tokens, passages, subjects;
    double temperature, top_p;
    rpc_client *client;                      /* opened on first use */
    arena *mem;
} cli;

/* A verb returns its exit code and has printed everything. */
typedef int cli_verb_fn(cli *c);
cli_verb_fn cli_init, cli_verify, cli_backup, cli_restore;
cli_verb_fn cli_put, cli_get, cli_ls, cli_share, cli_unshare, cli_erase, cli_erase_subject, cli_audit;
cli_verb_fn cli_search, cli_ask, cli_log, cli_tombstones;
cli_verb_fn cli_tenant, cli_user, cli_group, cli_token, cli_whoami, cli_stats, cli_quota;

int cli_main(int argc, char **argv);

/* ---- for the verbs --------------------------------------------------------------------------------- */
/* One call with one message each way; the response is in the arena. On failure it prints the error and
 * returns the exit code; CLI_DONE otherwise. */
int cli_call(cli *c, const char *path, const ProtobufCMessage *request,
             const ProtobufCMessageDescriptor *response_type, void *out_response);
int cli_connect(cli *c);
/* Packs and sends on a stream. */
MUST_USE result cli_send(rpc_stream *s, const ProtobufCMessage *message);
/* Prints the error (an object with --json as well) and gives its exit code. */
int cli_fail(cli *c, result r);
int cli_usage(const char *words);
/* Prints and frees the object. */
void cli_print_json(cJSON *object);
/* The opening of a receipt's commitment, beside the receipt: with it, verify checks the very keys. */
MUST_USE result cli_receipt_write(const char *path, const char *receipt, const char *salt, const char *target);
/* A public key: 64 hex digits, or a file that holds them. */
MUST_USE result cli_key_read(const char *text, uint8_t key[32]);
/* For who opens a data folder: --config, then --data and --root. */
MUST_USE result cli_settings(const cli *c, config *out);
/* True when exactly n arguments follow the verb. */
bool cli_args(const cli *c, int n);

#endif
