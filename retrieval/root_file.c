/* root_file: the root holder that keeps the root key in a file, ROOT/root.<epoch>, 32 bytes, 0600.
 * Destroying overwrites, syncs and unlinks. How well the medium forgets is the medium's affair, and
 * a copy of ROOT from before is not noticed: receipts call this assurance "file". */
#include "keytree_private.h"

#include "mutant.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static result key_path(const root_holder *h, uint64_t epoch, char path[KT_PATH_MAX_BYTES])
{
    char name[32];
    snprintf(name, sizeof name, "root.%" PRIu64, epoch);
    return path_join(path, KT_PATH_MAX_BYTES, h->dir, name);
}

static result private_only(const char *path, const char *mode)
{
    struct stat st;
    if (stat(path, &st) != 0) return fail_errno("cannot look at the root key's place %s", path);
    if ((st.st_mode & 077) != 0)
        return fail(E_PRECONDITION, "%s is open to other users; run: chmod %s %s", path, mode,
                    path);
    return OK;
}

static result file_read_key(root_holder *h, uint64_t epoch, uint8_t key[KEY_BYTES])
{
    char path[KT_PATH_MAX_BYTES];
    TRY(key_path(h, epoch, path));
    buf content;
    buf_init(&content, 64);
    result r = file_read(path, 63, &content);
    if (r.code == E_INVALID) r = fail(E_DATA_LOSS, "a root key file has the wrong size");
    if (!is_ok(r)) goto out;
    TRY_TO(r, private_only(path, "600"), out);
    if (content.size != KEY_BYTES) r = fail(E_DATA_LOSS, "a root key file has the wrong size");
    else memcpy(key, content.data, KEY_BYTES);
out:
    buf_free(&content);
    return r;
}

static result file_create_key(root_holder *h, uint64_t epoch)
{
    char path[KT_PATH_MAX_BYTES];
    TRY(key_path(h, epoch, path));
    uint8_t *key = secure_alloc(KEY_BYTES);
    result r = OK;
    random_bytes(key, KEY_BYTES);
    if (MUTANT(erase_keeps_path) && epoch > 1)
        TRY_TO(r, file_read_key(h, epoch - 1, key), out);
    r = file_write_atomic(path, bytes_of(key, KEY_BYTES), 0600);
out:
    secure_free(key);
    return r;
}

static result file_destroy_key(root_holder *h, uint64_t epoch)
{
    char path[KT_PATH_MAX_BYTES];
    TRY(key_path(h, epoch, path));
    return file_destroy(path);
}

static result file_epochs(root_holder *h, uint64_t *out, size_t max, size_t *count)
{
    return kt_scan(h->dir, "root.", out, max, count);
}

static void file_close(root_holder *h)
{
    mem_free(h->dir);
    mem_free(h);
}

static const root_holder_ops FILE_OPS = {"file", file_create_key, file_read_key, file_destroy_key,
                                         file_epochs, file_close};

result root_file_open(root_holder **out, const char *dir, bool create)
{
    *out = NULL;
    if (dir == NULL || dir[0] == '\0') return fail(E_INVALID, "the root holder needs a folder");
    if (create) TRY(dir_make(dir, 0700));
    struct stat st;
    if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode))
        return fail(E_NOT_FOUND, "there is no root folder %s", dir);
    TRY(private_only(dir, "700"));
    root_holder *h = mem_alloc(sizeof *h);
    h->ops = &FILE_OPS;
    h->dir = mem_strdup(dir);
    *out = h;
    return OK;
}

void root_holder_close(root_holder **holder)
{
    if (*holder == NULL) return;
    (*holder)->ops->close(*holder);
    *holder = NULL;
}

const char *root_holder_assurance(const root_holder *holder)
{
    return holder->ops->assurance;
}
