/* Opening and closing a house; making a new one. */
#include "house.h"

#include "erasure.h"
#include "mutant.h"
#include "scheduler.h"
#include "session.h"
#include "tls.h"

#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

static const id128 SYSTEM = {{0}};

result house_path(const config *settings, const char *a, const char *b, char out[CONFIG_PATH_MAX])
{
    TRY(path_join(out, CONFIG_PATH_MAX, settings->data, a));
    if (b == NULL) return OK;
    char parent[CONFIG_PATH_MAX];
    strcpy(parent, out);
    return path_join(out, CONFIG_PATH_MAX, parent, b);
}

/* ---- acl's way to the key tree --------------------------------------------------------------- */
static result key_create(void *ctx, id128 tenant, id128 owner)
{
    const keytree_node nodes[] = {keytree_tenant(tenant), keytree_owner(tenant, owner)};
    return keytree_add(ctx, nodes, 2);
}

static result key_secret(void *ctx, id128 tenant, id128 owner, uint8_t secret[KEY_BYTES])
{
    return keytree_secret(ctx, keytree_owner(tenant, owner), secret);
}

static result access_open(house *h)
{
    char path[CONFIG_PATH_MAX];
    TRY(house_path(&h->settings, "acl.mdb", NULL, path));
    const acl_options options = {
        .path = path,
        .keys = {.key_create = key_create, .key_secret = key_secret, .ctx = h->keys},
        .quota_default = h->settings.quota,
    };
    return acl_open(&h->access, &options);
}

/* ---- secrets of the system, sealed under its key-tree secret ---------------------------------- */
static result system_seal(house *h, const char *path, const char *word, bytes plain)
{
    uint8_t secret[KEY_BYTES], key[KEY_BYTES];
    TRY(keytree_secret(h->keys, keytree_owner(SYSTEM, SYSTEM), secret));
    key_derive(secret, word, bytes_of("", 0), key);
    buf sealed;
    buf_init(&sealed, 1 << 20);
    result r = seal_value(key, bytes_str(word), plain, &sealed);
    if (is_ok(r)) r = file_write_atomic(path, buf_bytes(&sealed), 0600);
    buf_free(&sealed);
    mem_wipe(secret, sizeof secret);
    mem_wipe(key, sizeof key);
    return r;
}

static result system_open(house *h, const char *path, const char *word, buf *plain)
{
    uint8_t secret[KEY_BYTES], key[KEY_BYTES];
    TRY(keytree_secret(h->keys, keytree_owner(SYSTEM, SYSTEM), secret));
    key_derive(secret, word, bytes_of("", 0), key);
    buf sealed;
    buf_init(&sealed, 1 << 20);
    result r = file_read(path, 1 << 20, &sealed);
    if (is_ok(r)) r = seal_open(key, bytes_str(word), buf_bytes(&sealed), plain);
    buf_free(&sealed);
    mem_wipe(secret, sizeof secret);
    mem_wipe(key, sizeof key);
    return r;
}

static result signing_create(house *h, char public_path[CONFIG_PATH_MAX])
{
    char path[CONFIG_PATH_MAX], hex[2 * SIGN_PUBLIC_BYTES + 2];
    TRY(house_path(&h->settings, "sign", "public.key", public_path));
    TRY(house_path(&h->settings, "sign", "secret.sealed", path));
    sign_keypair(h->sign_public, h->sign_secret);
    TRY(system_seal(h, path, "signing", bytes_of(h->sign_secret, SIGN_SECRET_BYTES)));
    hex_encode(h->sign_public, SIGN_PUBLIC_BYTES, hex);
    strcat(hex, "\n");
    return file_write_atomic(public_path, bytes_str(hex), 0644);
}

static result tls_create(house *h, char certificate_path[CONFIG_PATH_MAX])
{
    char path[CONFIG_PATH_MAX];
    buf certificate, key;
    buf_init(&certificate, 1 << 16);
    buf_init(&key, 1 << 16);
    result r = tls_make_certificate(&certificate, &key, NULL, 0);
    if (is_ok(r)) r = house_path(&h->settings, "tls", "key.sealed", path);
    if (is_ok(r)) r = system_seal(h, path, "tls", buf_bytes(&key));
    if (is_ok(r)) r = house_path(&h->settings, "tls", "certificate.pem", certificate_path);
    if (is_ok(r)) r = file_write_atomic(certificate_path, buf_bytes(&certificate), 0644);
    buf_free(&certificate);
    buf_free(&key);
    return r;
}

result house_sign_load(house *h, const char *path)
{
    buf plain;
    buf_init(&plain, 1 << 20);
    result r = system_open(h, path, "signing", &plain);
    if (is_ok(r) && plain.size != SIGN_SECRET_BYTES) r = fail(E_DATA_LOSS, "signing key: bad length");
    if (is_ok(r)) {
        memcpy(h->sign_secret, plain.data, SIGN_SECRET_BYTES);
        /* Ed25519's secret form ends with the public key. */
        memcpy(h->sign_public, plain.data + SIGN_SECRET_BYTES - SIGN_PUBLIC_BYTES, SIGN_PUBLIC_BYTES);
    }
    buf_free(&plain);
    return r;
}

static result identity_load(house *h)
{
    char path[CONFIG_PATH_MAX];
    buf plain;
    buf_init(&plain, 1 << 20);
    result r;
    TRY_TO(r, house_path(&h->settings, "sign", "secret.sealed", path), out);
    TRY_TO(r, house_sign_load(h, path), out);
    TRY_TO(r, house_path(&h->settings, "tls", "key.sealed", path), out);
    TRY_TO(r, system_open(h, path, "tls", &plain), out);
    h->tls_key = secure_alloc(plain.size + 1);
    memcpy(h->tls_key, plain.data, plain.size);
    h->tls_key[plain.size] = 0;
    buf_clear(&plain);
    TRY_TO(r, house_path(&h->settings, "tls", "certificate.pem", path), out);
    TRY_TO(r, file_read(path, 1 << 20, &plain), out);
    buf_append_u8(&plain, 0);
    h->tls_certificate = mem_strdup((const char *)plain.data);
out:
    buf_free(&plain);
    return r;
}

static result audit_open(house *h)
{
    char path[CONFIG_PATH_MAX];
    TRY(house_path(&h->settings, "log", NULL, path));
    audit_log_open(&h->audit, path, h->sign_public, h->sign_secret);
    return OK;
}

/* ---- the folder --------------------------------------------------------------------------------- */
static result folders_make(const config *settings)
{
    static const char *const names[] = {"keytree", "stores", "log", "tls", "sign", "intents"};
    TRY(dir_make(settings->data, 0700));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[CONFIG_PATH_MAX];
        TRY(house_path(settings, names[i], NULL, path));
        TRY(dir_make(path, 0700));
    }
    return OK;
}

/* One process a data folder: LMDB and the key tree assume it. The lock goes with the house. */
static result folder_lock(house *h)
{
    char path[CONFIG_PATH_MAX];
    TRY(house_path(&h->settings, "lock", NULL, path));
    h->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (h->lock_fd < 0) return fail_errno("cannot open the data folder's lock file");
    if (flock(h->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return fail(E_UNAVAILABLE, "another process is using this data folder");
    return OK;
}

static house *house_new(const config *settings)
{
    house *h = mem_alloc(sizeof *h);
    h->settings = *settings;
    h->lock_fd = -1;
    h->sign_secret = secure_alloc(SIGN_SECRET_BYTES);
    pthread_mutex_init(&h->erasing, NULL);
    pthread_mutex_init(&h->sharing, NULL);
    return h;
}

static const char *mirror_of(const config *settings)
{
    return settings->keytree_mirror[0] ? settings->keytree_mirror : NULL;
}

static result data_there(const config *c)
{
    struct stat st;
    if (stat(c->data, &st) != 0)
        return fail(E_NOT_FOUND, "no data folder there; make one with: lethe init --data DIR");
    return OK;
}

result house_keeper_start(const config *c, bool create, root_keeper_process *out)
{
    if (!create) TRY(data_there(c));
    bool token = strcmp(c->root_holder, "pkcs11") == 0;
    const root_keeper_options options = {
        .program = c->keeper, .create = create, .sandbox = strcmp(c->sandbox, "enforce") == 0, .root = c->root,
        .module = token ? c->pkcs11_module : NULL, .token = c->pkcs11_token, .pin_file = c->pkcs11_pin_file,
        .module_state = c->pkcs11_state,
    };
    return root_keeper_spawn(&options, out);
}

static result holder_open(house *h, bool create, const root_keeper_process *keeper)
{
    root_keeper_process started;
    if (MUTANT(keeper_key_in_server)) {
        if (keeper != NULL) close(keeper->fd);
        return root_file_open(&h->holder, h->settings.root, create);
    }
    if (keeper == NULL) TRY(house_keeper_start(&h->settings, create, &started));
    return root_keeper_open(&h->holder, keeper != NULL ? keeper : &started);
}

static result create_steps(house *h, const char *tenant, house_created *out)
{
    char path[CONFIG_PATH_MAX];
    TRY(house_path(&h->settings, "keytree", NULL, path));
    TRY(folders_make(&h->settings));
    TRY(folder_lock(h));
    TRY(holder_open(h, true, NULL));
    TRY(keytree_create(&h->keys, path, mirror_of(&h->settings), h->holder));
    TRY(key_create(h->keys, SYSTEM, SYSTEM));
    TRY(signing_create(h, out->key_path));
    TRY(tls_create(h, out->certificate_path));
    TRY(access_open(h));
    id128 id, admin, token_id;
    TRY(acl_operator_token_issue(h->access, out->operator_token, &token_id));
    TRY(acl_tenant_add(h->access, tenant, "admin", &id, &admin));
    TRY(acl_token_issue(h->access, id, admin, out->token, &token_id));
    snprintf(out->tenant, sizeof out->tenant, "%s", tenant);
    snprintf(out->user, sizeof out->user, "admin");
    return OK;
}

/* acl's rule, asked before anything is made: acl itself comes last, and a folder half made is in the way. */
static bool tenant_named_well(const char *name)
{
    size_t n = strlen(name);
    return n >= 1 && n <= ACL_NAME_MAX_BYTES && name[0] != '.' && name[0] != '_' && name[0] != '-' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

result house_create(const config *settings, const char *tenant, house_created *out)
{
    char path[CONFIG_PATH_MAX];
    struct stat st;
    if (!tenant_named_well(tenant))
        return fail(E_INVALID, "a tenant's name has 1 to %d of a-z 0-9 . _ - and begins with a letter or "
                    "digit", ACL_NAME_MAX_BYTES);
    TRY(house_path(settings, "keytree", "pages", path));
    if (stat(path, &st) == 0)
        return fail(E_EXISTS, "there is a data folder already; choose another or remove it");
    house *h = house_new(settings);
    memset(out, 0, sizeof *out);
    result r = create_steps(h, tenant, out);
    house_close(&h);
    return r;
}

static result generator_open(house *h)
{
    if (h->settings.model[0] == 0) return OK;
    model_options options = {.threads = h->settings.model_threads, .device = h->settings.model_device,
                             .bf16_products = h->settings.model_bf16_products};
    bool known = model_precision_parse(h->settings.model_precision, &options.precision) &&
                 model_backend_parse(h->settings.model_backend, &options.backend);
    ASSERT(known);                         /* config_finish saw to it */
    TRY(model_open(&h->generator, h->settings.model, &options));
    const config *c = &h->settings;
    const scheduler_limits limits = {c->batch_max, c->sequences_max, c->share_sequences, c->share_waiting,
                                     c->chunk_tokens, c->chunk_hold_percent};
    TRY(scheduler_open(&h->steps, h->generator, &limits));
    if (h->settings.state_cache_bytes > 0)
        state_cache_open(&h->states, h->settings.state_cache_bytes);
    return OK;
}

static result keys_open(house *h, const root_keeper_process *keeper)
{
    char path[CONFIG_PATH_MAX];
    TRY(house_path(&h->settings, "keytree", NULL, path));
    TRY(data_there(&h->settings));
    TRY(folder_lock(h));
    TRY(holder_open(h, false, keeper));
    TRY(keytree_open(&h->keys, path, mirror_of(&h->settings), h->holder));
    return folders_make(&h->settings);
}

result house_open_keys(house **out, const config *settings)
{
    *out = house_new(settings);
    result r = keys_open(*out, NULL);
    if (!is_ok(r)) house_close(out);
    return r;
}

static result open_steps(house *h, const root_keeper_process *keeper)
{
    char path[CONFIG_PATH_MAX];
    struct stat st;
    TRY(keys_open(h, keeper));
    TRY(identity_load(h));
    TRY(audit_open(h));
    TRY(house_path(&h->settings, "acl.mdb", NULL, path));
    /* An empty one in its place would lock everybody out, and stand in a restore's way. */
    if (stat(path, &st) != 0)
        return fail(E_DATA_LOSS, "acl.mdb is missing; put it back with: lethe restore BACKUP --data DIR");
    TRY(access_open(h));
    const retrieval_options options = {
        .data_dir = h->settings.data,
        .embedder_dir = h->settings.embedder,
        .keys = h->keys,
        .stores_open_max = h->settings.stores_open_max,
        .document_max_bytes = h->settings.document_max_bytes,
        .store_max_bytes = h->settings.store_max_bytes,
        .probe_chunks_min = h->settings.probe_chunks_min,
        .probe_percent = h->settings.probe_percent,
    };
    TRY(retrieval_open(&h->stores, &options));
    TRY(erasure_recover(h));
    return generator_open(h);
}

result house_open(house **out, const config *settings, const root_keeper_process *keeper)
{
    *out = NULL;
    house *h = house_new(settings);
    result r = open_steps(h, keeper);
    if (!is_ok(r)) house_close(&h);
    *out = h;
    return r;
}

void house_close(house **h_)
{
    house *h = *h_;
    if (h == NULL) return;
    scheduler_close(&h->steps);
    state_cache_close(&h->states);
    model_close(&h->generator);
    retrieval_close(&h->stores);
    acl_close(&h->access);
    audit_log_close(&h->audit);
    keytree_close(&h->keys);
    root_holder_close(&h->holder);
    secure_free(h->sign_secret);
    secure_free(h->tls_key);
    mem_free(h->tls_certificate);
    if (h->lock_fd >= 0) close(h->lock_fd);
    pthread_mutex_destroy(&h->erasing);
    pthread_mutex_destroy(&h->sharing);
    mem_free(h);
    *h_ = NULL;
}
