/* root_file: the root holder that keeps the root key in a file, ROOT/root.<epoch>, 32 bytes, 0600.
 * Destroying overwrites, syncs and unlinks. How well the medium forgets is the medium's affair, and
 * a copy of ROOT from before is not noticed: receipts call this assurance "file".
 *
 * Each operation reads the key anew and wipes it: what counts is what is on the medium. */
#include "holder.h"

#include "holder_lock.h"
#include "mutant.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_MAX_BYTES = 4096 };

static const char NOTE[] =
    "root key overwritten and unlinked in a file system; a copy of that medium made before is not "
    "ruled out";

typedef struct { root_holder head; char *dir; int lock_fd; } file_holder;

static file_holder *self(root_holder *h) { return (file_holder *)h; }

static result key_path(root_holder *h, uint64_t epoch, char path[PATH_MAX_BYTES])
{
    char name[32];
    snprintf(name, sizeof name, "root.%" PRIu64, epoch);
    return path_join(path, PATH_MAX_BYTES, self(h)->dir, name);
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

static result key_read(root_holder *h, uint64_t epoch, uint8_t key[KEY_BYTES])
{
    char path[PATH_MAX_BYTES];
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

static result file_create(root_holder *h, uint64_t epoch)
{
    char path[PATH_MAX_BYTES];
    TRY(key_path(h, epoch, path));
    if (access(path, F_OK) == 0) return fail(E_EXISTS, "there is a root key of that epoch");
    uint8_t *key = secure_alloc(KEY_BYTES);
    result r = OK;
    random_bytes(key, KEY_BYTES);
    if (MUTANT(erase_keeps_path) && epoch > 1)
        TRY_TO(r, key_read(h, epoch - 1, key), out);
    r = file_write_atomic(path, bytes_of(key, KEY_BYTES), 0600);
out:
    secure_free(key);
    return r;
}

static result file_seal(root_holder *h, uint64_t epoch, bytes associated, bytes plain, buf *out)
{
    if (plain.size > ROOT_PLAIN_MAX_BYTES || associated.size > ROOT_ASSOCIATED_MAX_BYTES)
        return fail(E_INVALID, "too long for the root key to seal");
    uint8_t *key = secure_alloc(KEY_BYTES);
    result r = key_read(h, epoch, key);
    if (is_ok(r)) r = seal_value(key, associated, plain, out);
    secure_free(key);
    return r;
}

static result file_open(root_holder *h, uint64_t epoch, bytes associated, bytes sealed, buf *out)
{
    if (sealed.size > ROOT_SEALED_MAX_BYTES || associated.size > ROOT_ASSOCIATED_MAX_BYTES)
        return fail(E_INVALID, "too long for the root key to open");
    uint8_t *key = secure_alloc(KEY_BYTES);
    result r = key_read(h, epoch, key);
    if (is_ok(r)) r = seal_open(key, associated, sealed, out);
    secure_free(key);
    return r;
}

static result file_destroy_key(root_holder *h, uint64_t epoch)
{
    char path[PATH_MAX_BYTES];
    TRY(key_path(h, epoch, path));
    return file_destroy(path);
}

static result file_epochs(root_holder *h, uint64_t *out, size_t max, size_t *count)
{
    return dir_numbers(self(h)->dir, "root.", out, max, count);
}

static void file_close(root_holder *h)
{
    if (self(h)->lock_fd >= 0) close(self(h)->lock_fd);
    mem_free(self(h)->dir);
    mem_free(h);
}

static const root_holder_ops FILE_OPS = {file_create, file_seal, file_open, file_destroy_key,
                                         file_epochs, file_close};

/* One process a root folder: two would each believe in their own newest epoch. The folder itself is
 * locked: no file more in it. */
static result folder_lock(file_holder *f)
{
    f->lock_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->lock_fd < 0) return fail_errno("cannot open the root folder");
    if (!holder_lock(f->lock_fd))
        return fail(E_PRECONDITION, "the root folder is in use by another process");
    return OK;
}

result root_file_open(root_holder **out, const char *dir, bool create)
{
    *out = NULL;
    if (dir == NULL || dir[0] == '\0') return fail(E_INVALID, "the root holder needs a folder");
    if (create) TRY(dir_make(dir, 0700));
    struct stat st;
    if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode))
        return fail(E_NOT_FOUND, "there is no root folder %s", dir);
    TRY(private_only(dir, "700"));
    file_holder *f = mem_alloc(sizeof *f);
    f->head.ops = &FILE_OPS;
    snprintf(f->head.assurance, sizeof f->head.assurance, "file");
    snprintf(f->head.note, sizeof f->head.note, "%s", NOTE);
    f->dir = mem_strdup(dir);
    f->lock_fd = -1;
    result r = folder_lock(f);
    if (is_ok(r)) r = dir_sweep(dir, "root.");
    if (is_ok(r)) *out = &f->head;
    else file_close(&f->head);
    return r;
}
