/* Putting a backup back, beside the live key tree. What was erased since has no keys and cannot come back. What was
 * only forbidden since could, and so what a backup says of access is not believed:
 *   a store put back    every document is its owner's alone again: whom it was shared with must be told anew
 *   acl.mdb put back    no token and no membership in it counts; new tokens for the operator and the admins
 * Whatever is still there is never replaced by something older. */
#include "backup.h"

#include "canonical.h"
#include "mutant.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct { char path[128]; uint8_t hash[HASH_BYTES]; uint64_t size; id128 tenant, owner; bool staged; } entry;

typedef struct {
    house *h;
    const char *dir;
    entry *entries;
    size_t count;
    char stage[CONFIG_PATH_MAX];         /* DATA/restoring */
    restore_report *out;
    restore_issued_fn *issued;
    void *ctx;
} restoring;

static bool exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

/* ---- is it whole, and ours? ------------------------------------------------------------------------------------ */
static result manifest_check(restoring *s, bytes files)
{
    char path[CONFIG_PATH_MAX];
    uint8_t hash[HASH_BYTES], want[HASH_BYTES], signer[SIGN_PUBLIC_BYTES];
    buf text;
    TRY(path_join(path, sizeof path, s->dir, "manifest"));
    buf_init(&text, 1 << 16);
    result r = file_read(path, 1 << 16, &text);
    cJSON *o = is_ok(r) ? canonical_parse(buf_bytes(&text), 1 << 16) : NULL;
    hash_plain("lethe backup files", files, hash);
    if (is_ok(r) && (o == NULL || strcmp(canonical_text(o, "type"), "lethe.backup.1") != 0 ||
                     !canonical_signed(o, signer) || memcmp(signer, s->h->sign_public, sizeof signer) != 0))
        r = fail(E_DENIED, "this server did not make that backup");
    if (is_ok(r) && (!canonical_get_hex(o, "hash", HASH_BYTES, want) || memcmp(hash, want, HASH_BYTES) != 0))
        r = fail(E_DATA_LOSS, "the backup's list of files is damaged; nothing was changed");
    cJSON_Delete(o);
    buf_free(&text);
    return r;
}

static bool line_read(char *line, entry *e)
{
    char *end;
    if (strlen(line) < 2 * HASH_BYTES + 4 || line[2 * HASH_BYTES] != ' ') return false;
    line[2 * HASH_BYTES] = 0;
    if (!hex_decode(line, 2 * HASH_BYTES, e->hash)) return false;
    e->size = strtoull(line + 2 * HASH_BYTES + 1, &end, 10);
    if (*end != ' ' || strlen(end + 1) >= sizeof e->path) return false;
    strcpy(e->path, end + 1);
    return backup_path_known(e->path);
}

static result entries_read(restoring *s)
{
    char path[CONFIG_PATH_MAX];
    buf text;
    TRY(path_join(path, sizeof path, s->dir, "files"));
    buf_init(&text, BACKUP_FILES_MAX_BYTES);
    result r = file_read(path, BACKUP_FILES_MAX_BYTES, &text);
    if (is_ok(r)) r = manifest_check(s, buf_bytes(&text));
    size_t lines = 0;
    for (size_t i = 0; is_ok(r) && i < text.size; i++) lines += text.data[i] == '\n';
    s->entries = mem_alloc_array(lines + 1, sizeof *s->entries);
    buf_append_u8(&text, 0);
    char *line = (char *)text.data;
    for (size_t i = 0; is_ok(r) && i < lines; i++) {
        char *end = strchr(line, '\n');
        if (end == NULL) break;
        *end = 0;
        if (!line_read(line, &s->entries[s->count++])) r = fail(E_DATA_LOSS, "the backup's list of files is malformed");
        line = end + 1;
    }
    buf_free(&text);
    return r;
}

static result all_check(restoring *s)
{
    for (size_t i = 0; i < s->count; i++) {
        char path[CONFIG_PATH_MAX];
        uint8_t hash[HASH_BYTES];
        uint64_t size;
        TRY(backup_below(s->dir, s->entries[i].path, false, path));
        result r = backup_copy(path, NULL, hash, &size);
        if (!is_ok(r) || size != s->entries[i].size || memcmp(hash, s->entries[i].hash, HASH_BYTES) != 0)
            return fail(E_DATA_LOSS, "the backup is damaged at %s; nothing was changed", s->entries[i].path);
    }
    return OK;
}

/* Copies one file of the backup, which may have changed since it was checked. */
static result put_back(restoring *s, const entry *e, const char *base, const char *as)
{
    char from[CONFIG_PATH_MAX], to[CONFIG_PATH_MAX];
    uint8_t hash[HASH_BYTES];
    uint64_t size;
    TRY(backup_below(s->dir, e->path, false, from));
    TRY(backup_below(base, as, true, to));
    TRY(backup_copy(from, to, hash, &size));
    if (memcmp(hash, e->hash, HASH_BYTES) == 0) return OK;
    (void)unlink(to);
    return fail(E_DATA_LOSS, "the backup is damaged at %s", e->path);
}

static result missing_put(restoring *s, const char *folder)
{
    for (size_t i = 0; i < s->count; i++) {
        char live[CONFIG_PATH_MAX];
        if (strncmp(s->entries[i].path, folder, strlen(folder)) != 0) continue;
        TRY(backup_below(s->h->settings.data, s->entries[i].path, false, live));
        if (MUTANT(restore_takes_keytree) && strcmp(folder, "keytree/") == 0) (void)unlink(live);
        if (exists(live)) continue;
        TRY(put_back(s, &s->entries[i], s->h->settings.data, s->entries[i].path));
        s->out->files_restored++;
    }
    return OK;
}

/* ---- stores -------------------------------------------------------------------------------------------------------- */
typedef struct { id128 *ids; size_t count, capacity; } id_list;

static result id_add(void *ctx, id128 id, const uint8_t secret[KEY_BYTES])
{
    id_list *list = ctx;
    (void)secret;
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 64;
        list->ids = mem_realloc(list->ids, list->capacity * sizeof *list->ids);
    }
    list->ids[list->count++] = id;
    return OK;
}

/* Whose tenant is an owner's? id zero: nobody's any more. */
static result tenants_find(restoring *s)
{
    id_list tenants = {0};
    result r = keytree_each(s->h->keys, (keytree_node){0}, id_add, &tenants);
    for (size_t t = 0; is_ok(r) && t < tenants.count; t++) {
        id_list owners = {0};
        r = keytree_each(s->h->keys, keytree_tenant(tenants.ids[t]), id_add, &owners);
        for (size_t i = 0; is_ok(r) && i < s->count; i++)
            if (strncmp(s->entries[i].path, "stores/", 7) == 0)
                for (size_t o = 0; o < owners.count; o++)
                    if (id_equal(owners.ids[o], s->entries[i].owner)) s->entries[i].tenant = tenants.ids[t];
        mem_free(owners.ids);
    }
    mem_free(tenants.ids);
    return r;
}

static result stores_stage(restoring *s)
{
    for (size_t i = 0; i < s->count; i++) {
        entry *e = &s->entries[i];
        char text[ID_TEXT_BYTES];
        if (strncmp(e->path, "stores/", 7) != 0) continue;
        memcpy(text, e->path + 7, ID_TEXT_BYTES - 1);
        text[ID_TEXT_BYTES - 1] = 0;
        TRY(id_parse(text, &e->owner));
    }
    TRY(tenants_find(s));
    for (size_t i = 0; i < s->count; i++) {
        entry *e = &s->entries[i];
        char live[CONFIG_PATH_MAX];
        if (strncmp(e->path, "stores/", 7) != 0) continue;
        TRY(backup_below(s->h->settings.data, e->path, false, live));
        if (exists(live)) { s->out->stores_kept++; continue; }
        if (id_is_zero(e->tenant)) { s->out->stores_erased++; continue; }
        TRY(put_back(s, e, s->stage, e->path));
        e->staged = true;
    }
    return OK;
}

typedef struct { id_list shared; id128 owner; ifc_label own; } narrowing;

static result shared_note(void *ctx, const retrieval_document *info)
{
    narrowing *n = ctx;
    const uint8_t none[KEY_BYTES] = {0};
    return ifc_label_equal(&info->label, &n->own) ? OK : id_add(&n->shared, info->id, none);
}

static result store_narrow(restoring *s, retrieval *stores, const entry *e)
{
    ifc_context *owner = mem_alloc(sizeof *owner);
    narrowing *n = mem_alloc(sizeof *n);
    n->owner = e->owner;
    ifc_label_public(&n->own);
    result r = ifc_label_secrecy_add(&n->own, &e->owner, 1);
    if (is_ok(r)) r = ifc_label_integrity_add(&n->own, &e->owner, 1);
    if (is_ok(r)) r = ifc_context_init(owner, e->tenant, e->owner, &e->owner, 1);
    const retrieval_scope scope = {owner, &e->owner, 1};
    if (is_ok(r)) r = retrieval_list(stores, &scope, shared_note, n);
    if (MUTANT(restore_keeps_shares)) n->shared.count = 0;
    for (size_t i = 0; is_ok(r) && i < n->shared.count; i++)
        r = retrieval_relabel(stores, e->tenant, e->owner, n->shared.ids[i], &n->own);
    if (is_ok(r)) r = retrieval_prune(stores, e->tenant, e->owner);
    s->out->shares_withdrawn += n->shared.count;
    mem_free(n->shared.ids);
    mem_free(n);
    mem_free(owner);
    return r;
}

/* Narrowed beside the live stores, then moved among them: a crash leaves nothing that is too open. */
static result stores_restore(restoring *s)
{
    TRY(stores_stage(s));
    retrieval *stores;
    const retrieval_options options = {.data_dir = s->stage, .embedder_dir = s->h->settings.embedder,
                                       .keys = s->h->keys, .store_max_bytes = s->h->settings.store_max_bytes};
    TRY(retrieval_open(&stores, &options));
    result r = OK;
    for (size_t i = 0; is_ok(r) && i < s->count; i++)
        if (s->entries[i].staged) r = store_narrow(s, stores, &s->entries[i]);
    retrieval_close(&stores);
    for (size_t i = 0; is_ok(r) && i < s->count; i++) {
        char from[CONFIG_PATH_MAX], to[CONFIG_PATH_MAX];
        if (!s->entries[i].staged) continue;
        r = backup_below(s->stage, s->entries[i].path, false, from);
        if (is_ok(r)) r = backup_below(s->h->settings.data, s->entries[i].path, false, to);
        if (is_ok(r) && rename(from, to) != 0) r = fail_errno("cannot put a store back");
        s->out->stores_restored += is_ok(r);
    }
    return r;
}

/* ---- audit logs ----------------------------------------------------------------------------------------------------- */
static uint64_t log_size(const char *folder)
{
    char path[CONFIG_PATH_MAX];
    audit_head head = {0};
    id128 tenant;
    uint8_t signer[SIGN_PUBLIC_BYTES];
    buf text;
    buf_init(&text, 1 << 16);
    result r = path_join(path, sizeof path, folder, "head");
    if (is_ok(r)) r = file_read(path, 1 << 16, &text);
    bool good = is_ok(r) && audit_head_verify(buf_bytes(&text), &head, &tenant, signer);
    buf_free(&text);
    return good ? head.size : 0;
}

static uint64_t file_size(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* The longer one counts; receipts are added. A log that is there is never cut. */
static result logs_restore(restoring *s)
{
    for (size_t i = 0; i < s->count; i++) {
        const entry *e = &s->entries[i];
        char live[CONFIG_PATH_MAX], old[CONFIG_PATH_MAX], *end;
        if (strncmp(e->path, "log/", 4) != 0 || (end = strstr(e->path, "/entries")) == NULL) continue;
        char folder[CONFIG_PATH_MAX], head_path[CONFIG_PATH_MAX], entries_path[CONFIG_PATH_MAX];
        snprintf(folder, sizeof folder, "%.*s", (int)(end - e->path), e->path);
        TRY(backup_below(s->dir, folder, false, old));
        TRY(backup_below(s->h->settings.data, folder, false, live));
        TRY(path_join(entries_path, sizeof entries_path, live, "entries"));
        if (log_size(live) >= log_size(old) || file_size(entries_path) > e->size) continue;
        TRY(path_join(head_path, sizeof head_path, live, "head"));
        (void)unlink(head_path);
        (void)unlink(entries_path);
        s->out->logs_restored++;
    }
    return missing_put(s, "log/");
}

/* ---- who may what ---------------------------------------------------------------------------------------------------- */
static result key_secret(void *ctx, id128 tenant, id128 owner, uint8_t secret[KEY_BYTES])
{
    return keytree_secret(ctx, keytree_owner(tenant, owner), secret);
}

static result key_create(void *ctx, id128 tenant, id128 owner)
{
    (void)ctx, (void)tenant, (void)owner;
    return fail(E_INTERNAL, "no keys are made while restoring");
}

typedef struct { restoring *s; acl *access; } issuing;

static result admin_token(void *ctx, id128 tenant, id128 principal, acl_kind kind)
{
    issuing *i = ctx;
    char token[ACL_TOKEN_TEXT_BYTES], town[ACL_NAME_MAX_BYTES + 1], name[ACL_NAME_MAX_BYTES + 1];
    id128 id;
    if (kind != ACL_USER || !acl_is_admin(i->access, tenant, principal)) return OK;
    TRY(acl_name_of(i->access, tenant, town, NULL));
    TRY(acl_name_of(i->access, principal, name, NULL));
    TRY(acl_token_issue(i->access, tenant, principal, token, &id));
    if (i->s->issued) i->s->issued(i->s->ctx, town, name, token);
    mem_wipe(token, sizeof token);
    return OK;
}

static result access_restore(restoring *s)
{
    char live[CONFIG_PATH_MAX], staged[CONFIG_PATH_MAX];
    id128 id;
    const entry *e = NULL;
    TRY(house_path(&s->h->settings, "acl.mdb", NULL, live));
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->entries[i].path, "acl.mdb") == 0) e = &s->entries[i];
    if (exists(live) || e == NULL) return OK;
    TRY(put_back(s, e, s->stage, "acl.mdb"));
    TRY(backup_below(s->stage, "acl.mdb", false, staged));
    const acl_options options = {.path = staged, .keys = {key_create, key_secret, s->h->keys},
                                 .quota_default = s->h->settings.quota};
    issuing i = {s, NULL};
    TRY(acl_open(&i.access, &options));
    result r = MUTANT(restore_keeps_tokens) ? OK : acl_distrust(i.access);
    if (is_ok(r)) r = acl_operator_token_issue(i.access, s->out->operator_token, &id);
    if (is_ok(r)) r = acl_each(i.access, (id128){{0}}, admin_token, &i);
    acl_close(&i.access);
    if (is_ok(r) && rename(staged, live) != 0) r = fail_errno("cannot put acl.mdb back");
    s->out->access_restored = is_ok(r);
    return r;
}

/* ---- the whole --------------------------------------------------------------------------------------------------------- */
static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static result stage_clear(const restoring *s)
{
    if (!exists(s->stage)) return OK;
    return nftw(s->stage, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 ? OK : fail_errno("cannot remove what was staged");
}

static result restore_steps(restoring *s)
{
    char sealed[CONFIG_PATH_MAX];
    TRY(backup_below(s->h->settings.data, "sign/secret.sealed", false, sealed));
    if (!exists(sealed)) TRY(backup_below(s->dir, "sign/secret.sealed", false, sealed));
    TRY(house_sign_load(s->h, sealed));
    TRY(entries_read(s));
    TRY(all_check(s));
    TRY(house_path(&s->h->settings, "restoring", NULL, s->stage));
    TRY(stage_clear(s));
    TRY(dir_make(s->stage, 0700));
    TRY(missing_put(s, "sign/"));
    TRY(missing_put(s, "tls/"));
    if (MUTANT(restore_takes_keytree)) TRY(missing_put(s, "keytree/"));
    TRY(stores_restore(s));
    TRY(logs_restore(s));
    TRY(access_restore(s));
    TRY(stage_clear(s));
    static const char *const folders[] = {"stores", "sign", "tls", "log"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char path[CONFIG_PATH_MAX];
        TRY(house_path(&s->h->settings, folders[i], NULL, path));
        TRY(file_fsync_dir(path));
    }
    return file_fsync_dir(s->h->settings.data);
}

result backup_restore(const config *settings, const char *dir, restore_issued_fn *issued, void *ctx,
                      restore_report *out)
{
    restoring *s = mem_alloc(sizeof *s);
    memset(out, 0, sizeof *out);
    s->dir = dir;
    s->out = out;
    s->issued = issued;
    s->ctx = ctx;
    result r = house_open_keys(&s->h, settings);
    if (is_ok(r)) r = restore_steps(s);
    house_close(&s->h);
    mem_free(s->entries);
    mem_free(s);
    return r;
}
