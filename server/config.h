/* config: every setting of the server, its default, and where it may come from (file, then flags). */
#ifndef LETHE_CONFIG_H
#define LETHE_CONFIG_H

#include "acl.h"

enum { CONFIG_PATH_MAX = 1024 };

typedef struct {
    char data[CONFIG_PATH_MAX];            /* data folder */
    char root[CONFIG_PATH_MAX];            /* root key folder; "": DATA.root beside the data folder */
    char root_holder[16];                  /* "file" (in root) or "pkcs11" */
    char pkcs11_module[CONFIG_PATH_MAX], pkcs11_token[64], pkcs11_pin_file[CONFIG_PATH_MAX];
    char pkcs11_state[CONFIG_PATH_MAX];    /* folder that the module writes to; "": none */
    char keeper[CONFIG_PATH_MAX];          /* lethe-keeper; "": beside the program that runs */
    char sandbox[16];                      /* "enforce" or "off" */
    char keytree_mirror[CONFIG_PATH_MAX];  /* second copy of the key tree; "": none */
    char backup_dir[CONFIG_PATH_MAX];      /* backups are new folders below it; "": none are made */
    char model[CONFIG_PATH_MAX];           /* generator; "": extractive answers */
    char model_precision[16];              /* as model_precision_parse takes it */
    bool model_bf16_products;              /* as in model_options */
    char model_backend[16];                /* as model_backend_parse takes it */
    char embedder[CONFIG_PATH_MAX];        /* static embedder */
    char listen[256];
    bool plaintext;                        /* no TLS; loopback or unix socket only */
    uint32_t threads_max, message_max_bytes, keepalive_ms, connection_age_ms, grace_ms;
    uint32_t stores_open_max, probe_chunks_min, probe_percent;        /* as in retrieval_options */
    uint64_t document_max_bytes, store_max_bytes;
    acl_quota quota;                       /* of a principal that has none of its own */
    uint32_t passages_default, passages_max, repeats_default;
    uint32_t tokens_default, tokens_max, context_tokens_max;
    uint32_t batch_max, model_threads, model_device;
    uint32_t not_found_percent;            /* as in grounded.h */
    uint32_t sequences_max, share_sequences, share_waiting, chunk_tokens, chunk_hold_percent;
    uint64_t state_cache_bytes;            /* per principal; 0: off */
    uint32_t log_level;                    /* 0 debug .. 3 error */
} config;

void config_defaults(config *c);
/* Reads an INI file ("key = value", sections for reading only). An unknown key, a bad number or one out
 * of range is E_INVALID with line, key and the permitted range. */
MUST_USE result config_load(config *c, const char *path);
MUST_USE result config_parse(config *c, const char *text);
/* One setting, as from a flag. */
MUST_USE result config_set(config *c, const char *key, const char *value);
/* Fills in what depends on other settings (root) and checks the whole. */
MUST_USE result config_finish(config *c);
/* Prints the table of settings (key, default, range, meaning), for --help and the README. */
void config_describe(buf *out);

#endif
