/* The settings as one table: name, kind, place, range, default and meaning stand together. */
#include "config.h"

#include "model.h"

#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>

#ifndef LETHE_EMBEDDER_DIR
#define LETHE_EMBEDDER_DIR ""
#endif

typedef enum { KIND_TEXT, KIND_U32, KIND_U64, KIND_BOOL } setting_kind;

typedef struct {
    const char *key;
    setting_kind kind;
    size_t offset, size;
    uint64_t least, most, initial;
    const char *initial_text, *meaning;
} setting;

#define TEXT(field, initial, meaning) \
    {#field, KIND_TEXT, offsetof(config, field), sizeof ((config *)0)->field, 0, 0, 0, initial, meaning}
#define U32(key, field, least, most, initial, meaning) \
    {key, KIND_U32, offsetof(config, field), 4, least, most, initial, NULL, meaning}
#define U64(key, field, least, most, initial, meaning) \
    {key, KIND_U64, offsetof(config, field), 8, least, most, initial, NULL, meaning}

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

static const setting settings[] = {
    TEXT(data, "", "data folder"),
    TEXT(root, "", "root key folder; empty: the data folder's name with .root"),
    TEXT(root_holder, "file", "who holds the root key: file (in root), or pkcs11 (a token)"),
    TEXT(pkcs11_module, "", "PKCS#11 library of the token, absolute"),
    TEXT(pkcs11_token, "", "the token's label"),
    TEXT(pkcs11_pin_file, "", "file with the token's PIN, absolute, mode 0600"),
    TEXT(pkcs11_state, "", "folder that the PKCS#11 library writes to (SoftHSM's tokens); empty: none"),
    TEXT(keeper, "", "the program that holds the root key; empty: lethe-keeper beside this one"),
    TEXT(sandbox, "enforce", "enforce: files and system calls that are not needed are given up; or off"),
    TEXT(keytree_mirror, "", "folder for a synchronous second copy of the key tree"),
    TEXT(backup_dir, "", "folder below which the operator's backups are made; empty: none are"),
    TEXT(model, "", "generator (Hugging Face folder); empty: extractive answers"),
    TEXT(model_precision, "stored", "what its weights are held in: stored (as the file has them), f32, bf16, q8 or q4"),
    {"model_bf16_products", KIND_BOOL, offsetof(config, model_bf16_products), sizeof(bool), 0, 1, 0, NULL,
     "where the processor has AVX512-BF16: faster reading; bits are then not those of other processors"},
    TEXT(model_backend, "cpu", "where it computes: cpu, cuda, or cuda-or-cpu (the CPU where there is no usable GPU); a GPU needs "
         "sandbox = off"),
    TEXT(embedder, LETHE_EMBEDDER_DIR, "static embedder (token vectors)"),
    TEXT(listen, "127.0.0.1:7443", "host:port, or unix:/path"),
    {"plaintext", KIND_BOOL, offsetof(config, plaintext), sizeof(bool), 0, 1, 0, NULL,
     "no TLS; loopback or unix socket only"},
    U32("threads_max", threads_max, 4, 16384, 512, "calls in progress, all principals together"),
    U32("message_max_bytes", message_max_bytes, 65536, 64 * MIB, 4 * MIB, "one gRPC message"),
    U32("keepalive_ms", keepalive_ms, 1000, 7200000, 120000, "keepalive ping interval"),
    U32("connection_age_ms", connection_age_ms, 1000, 86400000, 900000,
        "age at which a connection is replaced by a new one; its calls end first"),
    U32("grace_ms", grace_ms, 0, 600000, 10000, "time that calls get to end at shutdown"),
    U32("stores_open_max", stores_open_max, 1, 100000, 128, "stores open (and in memory) at once"),
    U32("probe_chunks_min", probe_chunks_min, 1, UINT32_MAX, 32768,
        "chunks that the asker may read, from which on a dense search reads the nearest lists alone"),
    U32("probe_percent", probe_percent, 1, 100, 20, "of the chunks it then reads, at least; 100: all, exactly"),
    U64("document_max_bytes", document_max_bytes, 1024, GIB, 64 * MIB, "one document"),
    U64("store_max_bytes", store_max_bytes, 16 * MIB, 1024 * GIB, 16 * GIB, "one owner's store"),
    U64("quota_documents", quota.documents_max, 0, 1u << 30, 100000, "documents of one owner"),
    U64("quota_bytes", quota.bytes_max, 0, 1024 * GIB, 4 * GIB, "bytes of text of one owner"),
    U32("quota_requests_per_second", quota.requests_per_second, 0, 1000000, 100,
        "calls a second of one principal"),
    U32("quota_concurrent_answers", quota.concurrent_answers_max, 0, 10000, 16,
        "answers at once of one principal"),
    U32("quota_concurrent_calls", quota.concurrent_calls_max, 0, 10000, 32,
        "calls at once of one principal"),
    U64("quota_tokens_per_minute", quota.tokens_per_minute, 0, 1u << 30, 1000000,
        "tokens read and written for one principal"),
    U32("passages_default", passages_default, 1, 32, 5, "passages an answer reads"),
    U32("passages_max", passages_max, 1, 32, 32, "most that a request may ask for"),
    U32("repeats_default", repeats_default, 1, 4, 2, "how often the passages are read"),
    U32("tokens_default", tokens_default, 1, 65536, 64, "longest answer"),
    U32("tokens_max", tokens_max, 1, 65536, 1024, "most that a request may ask for"),
    U32("context_tokens_max", context_tokens_max, 16, 1u << 20, 950,
        "tokens of passages in one reading"),
    U32("not_found_percent", not_found_percent, 0, 1000000, 100,
        "weight of no answer's likelihood against the best answer's, in percent; 0: an answer if there are words to answer with"),
    U32("batch_max", batch_max, 1, 64, 16, "sequences in one decoding step"),
    U32("sequences_max", sequences_max, 1, 4096, 64,
        "answers in the engine at once, all principals together, a state each, and 8 more while a grounded one is "
        "written; more wait"),
    U32("share_sequences", share_sequences, 1, 4096, 4, "of those, one principal's at most"),
    U32("share_waiting", share_waiting, 0, 10000, 12, "answers of one principal that wait for one of these"),
    U32("chunk_tokens", chunk_tokens, 8, 128, 128, "of a prompt, read at once while nobody writes"),
    U32("chunk_hold_percent", chunk_hold_percent, 1, 10000, 100,
        "how much longer a prompt that is read makes a decoding step of others; 8 tokens at least"),
    U32("model_threads", model_threads, 1, 256, 2, "threads of the engine"),
    U32("model_device", model_device, 0, 63, 0, "which GPU, as nvidia-smi counts them"),
    U64("state_cache_bytes", state_cache_bytes, 0, 64 * GIB, 64 * MIB,
        "cached states of one principal; 0: off"),
    U32("log_level", log_level, 0, 3, 1, "0 debug, 1 info, 2 warnings, 3 errors"),
};
enum { SETTING_COUNT = sizeof settings / sizeof settings[0] };

static void setting_store(config *c, const setting *s, uint64_t number)
{
    char *place = (char *)c + s->offset;
    if (s->kind == KIND_U32) *(uint32_t *)(void *)place = (uint32_t)number;
    else if (s->kind == KIND_U64) *(uint64_t *)(void *)place = number;
    else *(bool *)(void *)place = number != 0;
}

void config_defaults(config *c)
{
    memset(c, 0, sizeof *c);
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const setting *s = &settings[i];
        if (s->kind == KIND_TEXT) strncpy((char *)c + s->offset, s->initial_text, s->size - 1);
        else setting_store(c, s, s->initial);
    }
}

static result setting_parse(config *c, const setting *s, const char *value)
{
    if (s->kind == KIND_TEXT) {
        if (strlen(value) >= s->size)
            return fail(E_INVALID, "%s: longer than %zu bytes", s->key, s->size - 1);
        strcpy((char *)c + s->offset, value);
        return OK;
    }
    if (s->kind == KIND_BOOL) {
        bool yes = strcmp(value, "true") == 0 || strcmp(value, "yes") == 0 || strcmp(value, "1") == 0;
        bool no = strcmp(value, "false") == 0 || strcmp(value, "no") == 0 || strcmp(value, "0") == 0;
        if (!yes && !no) return fail(E_INVALID, "%s: neither true nor false", s->key);
        setting_store(c, s, yes);
        return OK;
    }
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != 0 || errno != 0 || number < s->least ||
        number > s->most)
        return fail(E_INVALID, "%s: must be a whole number from %llu to %llu", s->key,
                    (unsigned long long)s->least, (unsigned long long)s->most);
    setting_store(c, s, number);
    return OK;
}

result config_set(config *c, const char *key, const char *value)
{
    for (size_t i = 0; i < SETTING_COUNT; i++)
        if (strcmp(settings[i].key, key) == 0) return setting_parse(c, &settings[i], value);
    return fail(E_INVALID, "no setting is named '%.64s'", key);
}

typedef struct { config *c; result first; char message[256]; } parse_state;

static int on_pair(void *user, const char *section, const char *name, const char *value)
{
    parse_state *state = user;
    (void)section;
    result r = config_set(state->c, name, value);
    if (is_ok(r)) return 1;
    if (is_ok(state->first)) {
        strncpy(state->message, r.message, sizeof state->message - 1);
        state->first = r;
    }
    return 0;
}

result config_parse(config *c, const char *text)
{
    parse_state state = {.c = c, .first = OK};
    int line = ini_parse_string(text, on_pair, &state);
    if (line > 0)
        return fail(E_INVALID, "configuration, line %d: %s", line,
                    is_ok(state.first) ? "neither a comment, a [section] nor key = value"
                                       : state.message);
    return line == 0 ? OK : fail(E_INVALID, "configuration: cannot be read");
}

result config_load(config *c, const char *path)
{
    buf text;
    buf_init(&text, MIB);
    result r = file_read(path, MIB, &text);
    if (is_ok(r)) {
        buf_append_u8(&text, 0);
        r = config_parse(c, (const char *)text.data);
    }
    buf_free(&text);
    return r;
}

static bool within(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    return strncmp(path, folder, n) == 0 && (path[n] == '/' || path[n] == 0);
}

static result holder_check(const config *c)
{
    if (strcmp(c->sandbox, "enforce") != 0 && strcmp(c->sandbox, "off") != 0)
        return fail(E_INVALID, "sandbox: neither enforce nor off");
    if (strcmp(c->root_holder, "file") == 0) return OK;
    if (strcmp(c->root_holder, "pkcs11") != 0) return fail(E_INVALID, "root_holder: neither file nor pkcs11");
    if (c->pkcs11_module[0] != '/' || c->pkcs11_pin_file[0] != '/' || c->pkcs11_token[0] == 0)
        return fail(E_INVALID, "root_holder = pkcs11 needs pkcs11_module and pkcs11_pin_file (absolute paths) and "
                    "pkcs11_token");
    if (within(c->pkcs11_pin_file, c->data))
        return fail(E_INVALID, "pkcs11_pin_file: must lie outside the data folder: whoever copies that must not "
                    "get the PIN");
    return OK;
}

/* The driver opens devices and files of its own, at any time. */
static result backend_check(const config *c)
{
    model_backend backend;
    if (!model_backend_parse(c->model_backend, &backend))
        return fail(E_INVALID, "model_backend: none of cpu, cuda, cuda-or-cpu");
    if (backend != MODEL_CPU && strcmp(c->sandbox, "off") != 0)
        return fail(E_INVALID, "model_backend: a GPU's driver does not work in the sandbox: set sandbox = off, or cpu");
    return OK;
}

result config_finish(config *c)
{
    if (c->data[0] == 0) return fail(E_INVALID, "no data folder: pass --data DIR");
    size_t n = strlen(c->data);
    while (n > 1 && c->data[n - 1] == '/') c->data[--n] = 0;
    if (c->root[0] == 0) {
        if (n + sizeof ".root" > sizeof c->root) return fail(E_INVALID, "data: path too long");
        memcpy(c->root, c->data, n);
        strcpy(c->root + n, ".root");
    }
    TRY(holder_check(c));
    model_precision precision;
    if (!model_precision_parse(c->model_precision, &precision))
        return fail(E_INVALID, "model_precision: none of stored, f32, bf16, q8, q4");
    TRY(backend_check(c));
    if (within(c->root, c->data))
        return fail(E_INVALID, "root: must lie outside the data folder: whoever copies that must not "
                    "get its root key");
    size_t b = strlen(c->backup_dir);
    while (b > 1 && c->backup_dir[b - 1] == '/') c->backup_dir[--b] = 0;
    if (b > 0 && c->backup_dir[0] != '/') return fail(E_INVALID, "backup_dir: an absolute path");
    if (within(c->backup_dir, c->data) || within(c->backup_dir, c->root))
        return fail(E_INVALID, "backup_dir: must lie outside the data folder and the root folder");
    if (c->share_sequences > c->sequences_max)
        return fail(E_INVALID, "share_sequences: more than sequences_max, which all principals have together");
    if (c->passages_default > c->passages_max || c->tokens_default > c->tokens_max)
        return fail(E_INVALID, "passages_default and tokens_default must not exceed their maxima");
    return OK;
}

void config_describe(buf *out)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const setting *s = &settings[i];
        if (s->kind == KIND_TEXT)
            buf_printf(out, "| `%s` | %s | | %s |\n", s->key, s->initial_text, s->meaning);
        else if (s->kind == KIND_BOOL)
            buf_printf(out, "| `%s` | false | true, false | %s |\n", s->key, s->meaning);
        else
            buf_printf(out, "| `%s` | %llu | %llu to %llu | %s |\n", s->key,
                       (unsigned long long)s->initial, (unsigned long long)s->least,
                       (unsigned long long)s->most, s->meaning);
    }
}
