/* The files of a backup: copying, hashing, and which there may be. */
#include "backup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mutant.h"

enum { BLOCK_BYTES = 4 << 20 };

/* hash = H(hash so far || block), block after block: a file need not fit in memory. */
static result copy_blocks(int in, int out, uint8_t hash[HASH_BYTES], uint64_t *size)
{
    uint8_t *block = mem_alloc(HASH_BYTES + BLOCK_BYTES);
    result r = OK;
    *size = 0;
    memset(hash, 0, HASH_BYTES);
    for (;;) {
        size_t have = 0;
        ssize_t n = 0;
        while (have < BLOCK_BYTES && (n = read(in, block + HASH_BYTES + have, BLOCK_BYTES - have)) != 0) {
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) { r = fail_errno("cannot read a file"); goto out; }
            have += (size_t)n;
        }
        if (have == 0) break;
        memcpy(block, hash, HASH_BYTES);
        hash_plain("lethe backup file", bytes_of(block, HASH_BYTES + have), hash);
        for (size_t done = 0; out >= 0 && done < have;) {
            ssize_t w = write(out, block + HASH_BYTES + done, have - done);
            if (w < 0 && errno == EINTR) continue;
            if (w < 0) { r = fail_errno("cannot write a copy"); goto out; }
            done += (size_t)w;
        }
        *size += have;
    }
    if (out >= 0 && fsync(out) != 0) r = fail_errno("cannot sync a copy");
out:
    mem_free(block);
    return r;
}

result backup_copy(const char *from, const char *to, uint8_t hash[HASH_BYTES], uint64_t *size)
{
    int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), out = -1;
    if (in < 0 && errno == ENOENT) return fail(E_NOT_FOUND, "a file is missing");
    if (in < 0) return fail_errno("cannot open a file");
    result r = OK;
    if (to != NULL && (out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) < 0)
        r = fail_errno("cannot create a copy");
    if (is_ok(r)) r = copy_blocks(in, out, hash, size);
    close(in);
    if (out >= 0 && close(out) != 0 && is_ok(r)) r = fail_errno("cannot close a copy");
    if (out >= 0 && !is_ok(r)) (void)unlink(to);
    return r;
}

result backup_below(const char *dir, const char *path, bool make, char out[CONFIG_PATH_MAX])
{
    TRY(path_join(out, CONFIG_PATH_MAX, dir, path));
    char *from = out + strlen(dir) + 1;
    for (char *slash = strchr(from, '/'); make && slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        result r = dir_make(out, 0700);
        *slash = '/';
        TRY(r);
    }
    return OK;
}

static bool hex_name(const char *text, const char *end)
{
    size_t n = ID_TEXT_BYTES - 1;
    return strspn(text, "0123456789abcdef") == n && strcmp(text + n, end) == 0;
}

bool backup_path_known(const char *path)
{
    static const char *const fixed[] = {"acl.mdb", "sign/secret.sealed", "sign/public.key", "tls/key.sealed",
                                        "tls/certificate.pem"};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (strcmp(path, fixed[i]) == 0) return true;
    if (strncmp(path, "stores/", 7) == 0) return hex_name(path + 7, ".mdb");
    if (MUTANT(restore_takes_keytree) && strncmp(path, "keytree/", 8) == 0) return true;
    if (MUTANT(backup_includes_root) && strncmp(path, "root/", 5) == 0) return true;
    const size_t n = ID_TEXT_BYTES - 1;
    if (strncmp(path, "log/", 4) != 0 || strspn(path + 4, "0123456789abcdef") != n || path[4 + n] != '/') return false;
    const char *rest = path + 5 + n;
    if (strcmp(rest, "entries") == 0 || strcmp(rest, "head") == 0) return true;
    return strncmp(rest, "receipts/", 9) == 0 && hex_name(rest + 9, ".json");
}
