/* house: everything a running server holds, opened in order and closed in reverse. */
#ifndef LETHE_HOUSE_H
#define LETHE_HOUSE_H

#include "acl.h"
#include "audit_log.h"
#include "config.h"
#include "keytree.h"
#include "model.h"
#include "retrieval.h"
#include "rpc.h"

#include <pthread.h>

typedef struct scheduler scheduler;
typedef struct state_cache state_cache;

typedef struct house {
    config settings;
    int lock_fd;                       /* holds the data folder for this process; -1: not held */
    root_holder *holder;
    keytree *keys;
    acl *access;
    audit_log *audit;
    retrieval *stores;
    model *generator;                  /* NULL: extractive answers */
    scheduler *steps;                  /* NULL without a generator */
    state_cache *states;               /* NULL without a generator or with the cache off */
    rpc_server *rpc;                   /* set while serving */
    uint8_t sign_public[SIGN_PUBLIC_BYTES];
    uint8_t *sign_secret;              /* SIGN_SECRET_BYTES, guarded */
    char *tls_certificate;
    char *tls_key;                     /* guarded memory */
    pthread_mutex_t erasing;           /* one erasure at a time; taken before sharing */
    bool unfinished;                   /* under erasing: an erasure failed on its way */
    pthread_mutex_t sharing;           /* label changes: read, change, write */
} house;

/* A fresh data folder: root key, key tree, certificate, signing key, tenant and its admin. E_EXISTS if
 * there is one. Tokens are written to the buffers given (shown once). */
typedef struct {
    char tenant[ACL_NAME_MAX_BYTES + 1], user[ACL_NAME_MAX_BYTES + 1];
    char token[ACL_TOKEN_TEXT_BYTES], operator_token[ACL_TOKEN_TEXT_BYTES];
    char certificate_path[CONFIG_PATH_MAX], key_path[CONFIG_PATH_MAX];
} house_created;
MUST_USE result house_create(const config *settings, const char *tenant, house_created *out);

/* Starts the process that holds the root key: before threads, and before this process gives anything
 * up; it lives no longer than the thread that called this. */
MUST_USE result house_keeper_start(const config *settings, bool create, root_keeper_process *out);
/* Opens everything and carries cut-off erasures to their end before anything is served. Takes over the
 * keeper; NULL: starts one. */
MUST_USE result house_open(house **out, const config *settings, const root_keeper_process *keeper);
/* Lock, root key, key tree and folders alone: for work while nothing is served. */
MUST_USE result house_open_keys(house **out, const config *settings);
/* The signing key out of a sealed file, wherever that lies; only this house's key tree opens it. */
MUST_USE result house_sign_load(house *h, const char *path);
void house_close(house **h);

/* DATA/a or DATA/a/b. */
MUST_USE result house_path(const config *settings, const char *a, const char *b,
                           char out[CONFIG_PATH_MAX]);

#endif
