/* Making a backup while serving. Each store is one LMDB snapshot; an audit log's head is copied before its entries,
 * so that there are never fewer than it says. */
#include "backup.h"

#include "canonical.h"
#include "mutant.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH_MAX = 4, NAMES_MAX = 1 << 20 };

typedef struct {
    house *h;
    char dir[CONFIG_PATH_MAX];           /* <name>.partial */
    buf files;
    backup_made *out;
} making;

static result file_note(making *m, const char *path, const uint8_t hash[HASH_BYTES], uint64_t size)
{
    char hex[2 * HASH_BYTES + 1];
    hex_encode(hash, HASH_BYTES, hex);
    buf_printf(&m->files, "%s %llu %s\n", hex, (unsigned long long)size, path);
    m->out->files++;
    m->out->bytes += size;
    return buf_check(&m->files);
}

static result file_take(making *m, const char *from, const char *path)
{
    char to[CONFIG_PATH_MAX];
    uint8_t hash[HASH_BYTES];
    uint64_t size;
    TRY(backup_below(m->dir, path, true, to));
    result r = backup_copy(from, to, hash, &size);
    if (r.code == E_NOT_FOUND) return OK;                  /* gone in between: nothing of it to keep */
    TRY(r);
    return file_note(m, path, hash, size);
}

/* ---- folders --------------------------------------------------------------------------------------------- */
static int backwards(const void *a, const void *b)
{
    return -strcmp(*(char *const *)a, *(char *const *)b);
}

static result names_of(const char *dir, char ***out, size_t *count)
{
    DIR *d = opendir(dir);
    *out = NULL;
    *count = 0;
    if (d == NULL) return errno == ENOENT ? OK : fail_errno("cannot read a folder");
    size_t capacity = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL && *count < NAMES_MAX;) {
        if (e->d_name[0] == '.') continue;
        if (*count == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            *out = mem_realloc(*out, capacity * sizeof **out);
        }
        (*out)[(*count)++] = mem_strdup(e->d_name);
    }
    closedir(d);
    if (*count > 1) qsort(*out, *count, sizeof **out, backwards);      /* receipts, head, entries */
    return OK;
}

static result folder_take(making *m, const char *base, const char *path, int depth)
{
    char dir[CONFIG_PATH_MAX], **names;
    size_t count;
    TRY(path_join(dir, sizeof dir, base, path));
    TRY(names_of(dir, &names, &count));
    result r = OK;
    for (size_t i = 0; i < count; i++) {
        char below[CONFIG_PATH_MAX], full[CONFIG_PATH_MAX];
        struct stat st;
        if (is_ok(r)) r = path_join(below, sizeof below, path, names[i]);
        if (is_ok(r)) r = path_join(full, sizeof full, base, below);
        if (is_ok(r) && lstat(full, &st) == 0) {
            if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX) r = folder_take(m, base, below, depth + 1);
            else if (S_ISREG(st.st_mode) && backup_path_known(below)) r = file_take(m, full, below);
        }
        mem_free(names[i]);
    }
    mem_free(names);
    return r;
}

/* ---- stores ------------------------------------------------------------------------------------------------ */
static result snapshot_note(making *m, const char *path, const char *to)
{
    uint8_t hash[HASH_BYTES];
    uint64_t size;
    TRY(backup_copy(to, NULL, hash, &size));
    return file_note(m, path, hash, size);
}

static result store_take(void *ctx, id128 tenant, id128 principal, acl_kind kind)
{
    making *m = ctx;
    char path[64], to[CONFIG_PATH_MAX], owner[ID_TEXT_BYTES];
    (void)kind;
    id_text(principal, owner);
    snprintf(path, sizeof path, "stores/%s.mdb", owner);
    TRY(backup_below(m->dir, path, true, to));
    result r = retrieval_copy(m->h->stores, tenant, principal, to);
    if (r.code == E_NOT_FOUND) return OK;
    if (r.code == E_DATA_LOSS) {
        m->out->stores_left_out++;
        log_event(LOG_ERROR, "backup_left_out", LOG_TEXT("store", owner), LOG_TEXT("why", r.message));
        return OK;
    }
    TRY(r);
    return snapshot_note(m, path, to);
}

static result access_take(making *m)
{
    char to[CONFIG_PATH_MAX];
    TRY(backup_below(m->dir, "acl.mdb", true, to));
    TRY(acl_copy(m->h->access, to));
    return snapshot_note(m, "acl.mdb", to);
}

/* ---- the manifest ------------------------------------------------------------------------------------------ */
static result manifest_write(making *m)
{
    char path[CONFIG_PATH_MAX];
    uint8_t hash[HASH_BYTES];
    buf text;
    TRY(path_join(path, sizeof path, m->dir, "files"));
    TRY(file_write_atomic(path, buf_bytes(&m->files), 0600));
    hash_plain("lethe backup files", buf_bytes(&m->files), hash);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "type", "lethe.backup.1");
    cJSON_AddNumberToObject(o, "time_ms", (double)clock_wall_ms());
    cJSON_AddNumberToObject(o, "files", (double)m->out->files);
    canonical_add_hex(o, "hash", hash, HASH_BYTES);
    buf_init(&text, 1 << 16);
    result r = canonical_sign(o, m->h->sign_public, m->h->sign_secret, &text);
    cJSON_Delete(o);
    if (is_ok(r)) r = path_join(path, sizeof path, m->dir, "manifest");
    if (is_ok(r)) r = file_write_atomic(path, buf_bytes(&text), 0600);
    buf_free(&text);
    return r;
}

/* With h->erasing held: no document goes, half copied. */
static result make_steps(making *m)
{
    house *h = m->h;
    if (h->unfinished) return fail(E_PRECONDITION, "an erasure is unfinished; back up when it is through");
    TRY(dir_make(m->dir, 0700));
    TRY(acl_each(h->access, (id128){{0}}, store_take, m));
    TRY(access_take(m));
    TRY(folder_take(m, h->settings.data, "log", 1));
    TRY(folder_take(m, h->settings.data, "sign", 1));
    TRY(folder_take(m, h->settings.data, "tls", 1));
    if (MUTANT(restore_takes_keytree)) TRY(folder_take(m, h->settings.data, "keytree", 1));
    if (MUTANT(backup_includes_root)) {
        char to[CONFIG_PATH_MAX];
        uint8_t hash[HASH_BYTES];
        uint64_t size;
        char from[CONFIG_PATH_MAX + 32];
        snprintf(from, sizeof from, "%s/root.%llu", h->settings.root, (unsigned long long)keytree_epoch(h->keys));
        TRY(backup_below(m->dir, "root/key", true, to));
        TRY(backup_copy(from, to, hash, &size));
    }
    return manifest_write(m);
}

static bool name_good(const char *name)
{
    size_t n = strlen(name);
    return n >= 1 && n <= BACKUP_NAME_MAX_BYTES && name[0] != '.' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

result backup_make(house *h, const char *name, backup_made *out)
{
    const char *base = h->settings.backup_dir;
    size_t n = strlen(base);
    struct stat st;
    memset(out, 0, sizeof *out);
    if (n == 0) return fail(E_PRECONDITION, "the server has no backup folder: set backup_dir");
    if (strncmp(name, base, n) == 0 && name[n] == '/') name += n + 1;
    if (!name_good(name))
        return fail(E_INVALID, "a backup is a new folder below the server's backup_dir: 1 to %d of a-z 0-9 . _ -",
                    BACKUP_NAME_MAX_BYTES);
    making *m = mem_alloc(sizeof *m);
    m->h = h;
    m->out = out;
    buf_init(&m->files, BACKUP_FILES_MAX_BYTES);
    char partial[BACKUP_NAME_MAX_BYTES + 16];
    snprintf(partial, sizeof partial, "%s.partial", name);
    pthread_mutex_lock(&h->erasing);
    result r = path_join(out->path, sizeof out->path, base, name);
    if (is_ok(r)) r = path_join(m->dir, sizeof m->dir, base, partial);
    if (is_ok(r) && (lstat(out->path, &st) == 0 || lstat(m->dir, &st) == 0))
        r = fail(E_EXISTS, "there is a backup of that name, or what is left of one");
    if (is_ok(r)) r = make_steps(m);
    if (is_ok(r) && rename(m->dir, out->path) != 0) r = fail_errno("cannot name the backup");
    if (is_ok(r)) r = file_fsync_dir(base);
    pthread_mutex_unlock(&h->erasing);
    buf_free(&m->files);
    mem_free(m);
    log_event(is_ok(r) ? LOG_INFO : LOG_ERROR, "backup", LOG_TEXT("status", error_code_name(r.code)),
              LOG_NUMBER("files", out->files), LOG_NUMBER("bytes", out->bytes));
    return r;
}
