#include "internal.h"
#include "mutant.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 64 * 1024 };
static const char TEMPORARY[] = ".tmp";

static result not_regular(const char *path)
{
    return fail(E_INVALID, "%.100s is not a regular file", path_name(path));
}

const char *path_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static result write_all(int fd, const uint8_t *p, size_t n, const char *path)
{
    while (n > 0) {
        ssize_t wrote = write(fd, p, n);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return fail_errno("cannot write %.100s", path_name(path));
        p += wrote;
        n -= (size_t)wrote;
    }
    return OK;
}

static result read_all(int fd, const char *path, size_t limit, buf *out)
{
    uint8_t block[BLOCK];
    size_t total = 0;
    result r = OK;
    for (;;) {
        ssize_t n = read(fd, block, sizeof block);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) r = fail_errno("cannot read %.100s", path_name(path));
        if (n <= 0) break;
        total += (size_t)n;
        if (total > limit) {
            r = fail(E_INVALID, "%.100s is larger than %zu bytes", path_name(path), limit);
            break;
        }
        buf_append(out, block, (size_t)n);
        if (out->bad) break;
    }
    mem_wipe(block, sizeof block);
    return is_ok(r) ? buf_check(out) : r;
}

result file_read(const char *path, size_t limit, buf *out)
{
    struct stat st;
    /* NONBLOCK: a FIFO must not hang the open. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return fail(E_NOT_FOUND, "no file %.100s", path_name(path));
    if (fd < 0) return fail_errno("cannot open %.100s", path_name(path));
    result r;
    if (fstat(fd, &st) != 0) r = fail_errno("cannot look at %.100s", path_name(path));
    else if (!S_ISREG(st.st_mode)) r = not_regular(path);
    else if ((uint64_t)st.st_size > limit)
        r = fail(E_INVALID, "%.100s is larger than %zu bytes", path_name(path), limit);
    else r = read_all(fd, path, limit, out);
    close(fd);
    return r;
}

result file_fsync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail_errno("cannot open folder %.100s", path_name(dir));
    result r = OK;
    /* EINVAL: the file system has no notion of it. */
    if (fsync(fd) != 0 && errno != EINVAL)
        r = fail_errno("cannot sync folder %.100s", path_name(dir));
    close(fd);
    return r;
}

result fsync_parent(const char *path)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (slash == NULL) return file_fsync_dir(".");
    size_t n = slash == path ? 1 : (size_t)(slash - path);
    if (n >= sizeof dir) return fail(E_INVALID, "the path is too long");
    memcpy(dir, path, n);
    dir[n] = '\0';
    return file_fsync_dir(dir);
}

static result write_temporary(const char *temporary, const char *path, bytes content, unsigned mode)
{
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return fail_errno("cannot create %.100s", path_name(path));
    result r = write_all(fd, content.data, content.size, path);
    if (is_ok(r) && fchmod(fd, mode) != 0)
        r = fail_errno("cannot set mode of %.100s", path_name(path));
    bool unsynced = MUTANT(head_unsynced) && strncmp(path_name(path), "head.", 5) == 0;
    if (is_ok(r) && !unsynced && fsync(fd) != 0) r = fail_errno("cannot sync %.100s", path_name(path));
    if (close(fd) != 0 && is_ok(r)) r = fail_errno("cannot close %.100s", path_name(path));
    return r;
}

result file_write_atomic(const char *path, bytes content, unsigned mode)
{
    char temporary[PATH_MAX], suffix[17];
    uint8_t random[8];
    random_bytes(random, sizeof random);
    hex_encode(random, sizeof random, suffix);
    int n = snprintf(temporary, sizeof temporary, "%s.%s%s", path, suffix, TEMPORARY);
    if (n < 0 || (size_t)n >= sizeof temporary) return fail(E_INVALID, "the path is too long");
    result r = write_temporary(temporary, path, content, mode);
    if (is_ok(r) && rename(temporary, path) != 0)
        r = fail_errno("cannot rename to %.100s", path_name(path));
    if (!is_ok(r)) {
        (void)unlink(temporary);
        return r;
    }
    return fsync_parent(path);
}

result dir_make(const char *path, unsigned mode)
{
    struct stat st;
    if (mkdir(path, mode) == 0) return fsync_parent(path);
    if (errno != EEXIST) return fail_errno("cannot make folder %.100s", path_name(path));
    if (stat(path, &st) != 0) return fail_errno("cannot look at folder %.100s", path_name(path));
    if (!S_ISDIR(st.st_mode)) return fail(E_INVALID, "%.100s is not a folder", path_name(path));
    return OK;
}

result path_join(char *out, size_t out_size, const char *a, const char *b)
{
    size_t n = strlen(a);
    const char *between = n > 0 && a[n - 1] == '/' ? "" : "/";
    int wrote = snprintf(out, out_size, "%s%s%s", a, between, b);
    if (wrote < 0 || (size_t)wrote >= out_size) return fail(E_INVALID, "the path is too long");
    return OK;
}

static result overwrite(int fd, const char *path)
{
    struct stat st;
    uint8_t block[BLOCK];
    if (fstat(fd, &st) != 0) return fail_errno("cannot look at %.100s", path_name(path));
    if (!S_ISREG(st.st_mode)) return not_regular(path);
    for (uint64_t left = (uint64_t)st.st_size; left > 0;) {
        size_t n = left < sizeof block ? (size_t)left : sizeof block;
        random_bytes(block, n);
        TRY(write_all(fd, block, n, path));
        left -= n;
    }
    if (fsync(fd) != 0) return fail_errno("cannot sync %.100s", path_name(path));
    return OK;
}

/* A file whose bytes could not be overwritten stays, so that a repetition tries again. */
result file_destroy(const char *path)
{
    int fd = open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) return fsync_parent(path);
    if (fd < 0) return fail_errno("cannot open %.100s", path_name(path));
    result r = overwrite(fd, path);
    close(fd);
    TRY(r);
    if (unlink(path) != 0 && errno != ENOENT)
        return fail_errno("cannot remove %.100s", path_name(path));
    return fsync_parent(path);
}

/* Plain decimal without leading zeros, from 1: other names (temporary files) are not ours. */
static uint64_t number_of(const char *name, const char *prefix)
{
    size_t skip = strlen(prefix), digits = 0;
    uint64_t value = 0;
    if (strncmp(name, prefix, skip) != 0 || name[skip] == '0') return 0;
    for (const char *at = name + skip; *at != '\0'; at++, digits++) {
        if (*at < '0' || *at > '9' || digits >= 18) return 0;
        value = value * 10 + (uint64_t)(*at - '0');
    }
    return value;
}

void numbers_keep(uint64_t *out, size_t max, size_t *count, uint64_t value)
{
    size_t at = *count;
    for (; at > 0 && out[at - 1] > value; at--)
        if (at < max) out[at] = out[at - 1];
    if (at < max) out[at] = value;
    if (*count < max) ++*count;
}

result dir_numbers(const char *dir, const char *prefix, uint64_t *out, size_t max, size_t *count)
{
    *count = 0;
    DIR *d = opendir(dir);
    if (d == NULL && (errno == ENOENT || errno == ENOTDIR))
        return fail(E_NOT_FOUND, "no such folder");
    if (d == NULL) return fail_errno("cannot list the folder %s", dir);
    const struct dirent *entry;
    while ((entry = readdir(d)) != NULL) {
        uint64_t value = number_of(entry->d_name, prefix);
        if (value > 0) numbers_keep(out, max, count, value);
    }
    closedir(d);
    return OK;
}

result dir_sweep(const char *dir, const char *prefix)
{
    DIR *d = opendir(dir);
    if (d == NULL) return fail_errno("cannot list the folder %s", dir);
    const struct dirent *entry;
    result r = OK;
    while (is_ok(r) && (entry = readdir(d)) != NULL) {
        char path[PATH_MAX];
        size_t n = strlen(entry->d_name), skip = strlen(prefix);
        if (n < skip + sizeof TEMPORARY - 1 || strncmp(entry->d_name, prefix, skip) != 0 ||
            strcmp(entry->d_name + n - (sizeof TEMPORARY - 1), TEMPORARY) != 0) continue;
        r = path_join(path, sizeof path, dir, entry->d_name);
        if (is_ok(r)) r = file_destroy(path);
    }
    closedir(d);
    return r;
}
