#include "audit_scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE_BYTES = 4 << 20, DEPTH_MAX = 32 };

void audit_pattern_make(const char *text, audit_pattern out[2])
{
    size_t n = strlen(text);
    ASSERT(n > 0 && 2 * n <= AUDIT_PATTERN_MAX);
    memset(out, 0, 2 * sizeof *out);
    memcpy(out[0].data, text, n);
    out[0].size = n;
    for (size_t i = 0; i < n; i++) out[1].data[2 * i] = (uint8_t)text[i];
    out[1].size = 2 * n - 1;                        /* big-endian, too, but for its first zero */
}

/* Pieces overlap by the longest pattern; what begins in the overlap is counted in the next piece. */
static void piece_search(const uint8_t *data, size_t size, size_t upto, const audit_pattern *patterns, size_t count,
                         const char *path, audit_residue *out)
{
    for (size_t p = 0; p < count; p++)
        for (size_t at = 0; at < upto;) {
            const uint8_t *hit = memmem(data + at, size - at, patterns[p].data, patterns[p].size);
            if (hit == NULL || (size_t)(hit - data) >= upto) break;
            out->found++;
            if (out->first[0] == 0) snprintf(out->first, sizeof out->first, "%.255s", path);
            at = (size_t)(hit - data) + 1;
        }
}

static result file_scan(const char *path, const audit_pattern *patterns, size_t count, audit_residue *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return errno == ENOENT ? OK : fail_errno("cannot read %s", path);
    uint8_t *data = mem_alloc(PIECE_BYTES + AUDIT_PATTERN_MAX);
    size_t held = 0;
    result r = OK;
    out->files++;
    for (;;) {
        ssize_t n = read(fd, data + held, PIECE_BYTES + AUDIT_PATTERN_MAX - held);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) r = fail_errno("cannot read %s", path);
        if (n <= 0) break;
        held += (size_t)n;
        out->bytes += (uint64_t)n;
        if (held <= AUDIT_PATTERN_MAX) continue;
        size_t upto = held - AUDIT_PATTERN_MAX;
        piece_search(data, held, upto, patterns, count, path, out);
        memmove(data, data + upto, AUDIT_PATTERN_MAX);
        held = AUDIT_PATTERN_MAX;
    }
    piece_search(data, held, held, patterns, count, path, out);
    mem_wipe(data, PIECE_BYTES + AUDIT_PATTERN_MAX);
    mem_free(data);
    close(fd);
    return r;
}

static result scan(const char *path, const audit_pattern *patterns, size_t count, int depth, audit_residue *out)
{
    struct stat st;
    if (lstat(path, &st) != 0) {
        if (errno != ENOENT) return fail_errno("cannot read %s", path);
        return depth > 0 ? OK : fail(E_NOT_FOUND, "there is no %s", path);
    }
    if (S_ISREG(st.st_mode)) return file_scan(path, patterns, count, out);
    if (!S_ISDIR(st.st_mode)) return OK;
    if (depth > DEPTH_MAX) return fail(E_INVALID, "folders nested too deep");
    DIR *dir = opendir(path);
    if (dir == NULL) return errno == ENOENT ? OK : fail_errno("cannot read %s", path);
    result r = OK;
    for (struct dirent *e; is_ok(r) && (e = readdir(dir)) != NULL;) {
        char below[4096];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        r = path_join(below, sizeof below, path, e->d_name);
        if (is_ok(r)) r = scan(below, patterns, count, depth + 1, out);
    }
    closedir(dir);
    return r;
}

result audit_scan(const char *path, const audit_pattern *patterns, size_t count, audit_residue *out)
{
    return scan(path, patterns, count, 0, out);
}
