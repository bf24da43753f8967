/* shim: an LD_PRELOAD library for the crash tests. Below the folders of SHIM_PREFIX it numbers every
 * operation that changes the file system, writes it with its data to SHIM_JOURNAL, and kills the process
 * instead of carrying out number SHIM_KILL. The journal is what crash/images.py rebuilds a disk from on
 * which writes that were never synced got lost or torn.
 *
 * Record: u32 length of what follows the operation, u32 operation, u64 offset, u32 path length, path, data
 * (or the second path). Little-endian. The counter stands in the shared file SHIM_JOURNAL.count, so that
 * all processes of one server count together.
 *
 * Tests only: not linked into anything that ships. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OP_CREATE = 1, OP_WRITE, OP_TRUNCATE, OP_SYNC, OP_SYNC_DIR, OP_RENAME, OP_UNLINK, OP_MKDIR,
       OP_RMDIR, OP_WRITE_SYNC, OP_KILLED };
enum { FDS_MAX = 65536 };

typedef struct { char *path; bool synchronous, directory; } watched;
typedef struct { _Atomic uint64_t count, lock; } shared_state;

static watched fds[FDS_MAX];
static char prefix[PATH_MAX];
static int journal = -1;
static shared_state *shared;
static uint64_t kill_at;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static long real(long number, long a, long b, long c, long d, long e)
{
    return syscall(number, a, b, c, d, e);
}

static void start(void)
{
    const char *where = getenv("SHIM_PREFIX"), *to = getenv("SHIM_JOURNAL"), *at = getenv("SHIM_KILL");
    if (where == NULL || to == NULL) return;
    snprintf(prefix, sizeof prefix, "%s", where);
    kill_at = at ? strtoull(at, NULL, 10) : 0;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s.count", to);
    int fd = (int)real(SYS_openat, AT_FDCWD, (long)path, O_RDWR | O_CREAT | O_CLOEXEC, 0600, 0);
    real(SYS_ftruncate, fd, sizeof(shared_state), 0, 0, 0);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    real(SYS_close, fd, 0, 0, 0, 0);
    journal = (int)real(SYS_openat, AT_FDCWD, (long)to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600, 0);
    if (shared == MAP_FAILED || journal < 0) _exit(99);
}

static bool below(const char *path)
{
    pthread_once(&once, start);
    return journal >= 0 && path != NULL && strncmp(path, prefix, strlen(prefix)) == 0;
}

static void put32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }
static void put64(uint8_t *p, uint64_t v) { memcpy(p, &v, 8); }

static void record(uint32_t op, uint64_t offset, const char *path, const void *data, size_t size)
{
    uint32_t path_size = (uint32_t)strlen(path), length = 4 + 8 + 4 + path_size + (uint32_t)size;
    uint8_t head[4 + 4 + 8 + 4];
    put32(head, length);
    put32(head + 4, op);
    put64(head + 8, offset);
    put32(head + 16, path_size);
    struct iovec parts[3] = {{head, sizeof head}, {(void *)path, path_size}, {(void *)data, size}};
    if (real(SYS_writev, journal, (long)parts, 3, 0, 0) != (long)(sizeof head + path_size + size)) _exit(98);
}

/* Operations happen one at a time, in the order in which they are numbered. */
static void enter(uint32_t op, uint64_t offset, const char *path, const void *data, size_t size)
{
    uint64_t free_ = 0;
    while (!atomic_compare_exchange_weak(&shared->lock, &free_, 1)) {
        free_ = 0;
        real(SYS_sched_yield, 0, 0, 0, 0, 0);
    }
    if (++shared->count == kill_at) {
        record(OP_KILLED, op, path, NULL, 0);
        long parent = getppid();
        const char *both = getenv("SHIM_KILL_PARENT");      /* a child's step ends its server, too */
        if (both && strstr(both, program_invocation_short_name)) real(SYS_kill, parent, SIGKILL, 0, 0, 0);
        real(SYS_kill, getpid(), SIGKILL, 0, 0, 0);
        for (;;) pause();
    }
    record(op, offset, path, data, size);
}

static void leave(void) { atomic_store(&shared->lock, 0); }

/* ---- opening ---- */
static void watch(int fd, const char *path, int flags)
{
    if (fd < 0 || fd >= FDS_MAX) return;
    struct stat st;
    free(fds[fd].path);
    fds[fd] = (watched){strdup(path), (flags & O_DSYNC) != 0,
                        fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)};
}

static int open_any(int dir, const char *path, int flags, mode_t mode)
{
    if (!below(path)) return (int)real(SYS_openat, dir, (long)path, flags, mode, 0);
    struct stat st;
    bool creates = (flags & O_CREAT) && stat(path, &st) != 0;
    bool cuts = (flags & O_TRUNC) && !creates;
    if (creates) enter(OP_CREATE, 0, path, NULL, 0);
    else if (cuts) enter(OP_TRUNCATE, 0, path, NULL, 0);
    int fd = (int)real(SYS_openat, dir, (long)path, flags, mode, 0);
    int kept = errno;
    if (creates || cuts) leave();
    watch(fd, path, flags);
    errno = kept;
    return fd;
}

#define MODE_ARGUMENT \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list args; \
        va_start(args, flags); \
        mode = va_arg(args, mode_t); \
        va_end(args); \
    }
int open(const char *path, int flags, ...) { MODE_ARGUMENT return open_any(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_ARGUMENT return open_any(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE_ARGUMENT return open_any(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE_ARGUMENT return open_any(dir, path, flags, mode); }

int close(int fd)
{
    if (fd >= 0 && fd < FDS_MAX && fds[fd].path) {
        free(fds[fd].path);
        fds[fd].path = NULL;
    }
    return (int)real(SYS_close, fd, 0, 0, 0, 0);
}

static const watched *watching(int fd)
{
    return journal >= 0 && fd >= 0 && fd < FDS_MAX && fds[fd].path ? &fds[fd] : NULL;
}

/* ---- writing ---- */
static ssize_t write_at(int fd, const void *data, size_t size, off_t offset, bool positioned)
{
    const watched *w = watching(fd);
    off_t at = positioned ? offset : lseek(fd, 0, SEEK_CUR);
    if (w && !positioned && (fcntl(fd, F_GETFL) & O_APPEND)) at = lseek(fd, 0, SEEK_END);
    if (w) enter(w->synchronous ? OP_WRITE_SYNC : OP_WRITE, (uint64_t)at, w->path, data, size);
    ssize_t n = positioned ? real(SYS_pwrite64, fd, (long)data, (long)size, offset, 0)
                           : real(SYS_write, fd, (long)data, (long)size, 0, 0);
    int kept = errno;
    if (w) leave();
    errno = kept;
    return n;
}

ssize_t write(int fd, const void *data, size_t size) { return write_at(fd, data, size, 0, false); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) { return write_at(fd, data, n, at, true); }
ssize_t pwrite64(int fd, const void *data, size_t n, off_t at) { return write_at(fd, data, n, at, true); }

/* In pieces: between them the process may die, as it may in the kernel's loop. */
static ssize_t write_vector(int fd, const struct iovec *parts, int count, off_t at, bool positioned)
{
    ssize_t done = 0;
    for (int i = 0; i < count; i++) {
        ssize_t n = write_at(fd, parts[i].iov_base, parts[i].iov_len, at + done, positioned);
        if (n < 0) return done > 0 ? done : n;
        done += n;
        if ((size_t)n < parts[i].iov_len) break;
    }
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    if (!watching(fd)) return real(SYS_writev, fd, (long)parts, count, 0, 0);
    return write_vector(fd, parts, count, 0, false);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    return write_vector(fd, parts, count, at, true);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at)
{
    return write_vector(fd, parts, count, at, true);
}

int ftruncate(int fd, off_t size)
{
    const watched *w = watching(fd);
    if (w) enter(OP_TRUNCATE, (uint64_t)size, w->path, NULL, 0);
    int rc = (int)real(SYS_ftruncate, fd, size, 0, 0, 0), kept = errno;
    if (w) leave();
    errno = kept;
    return rc;
}
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

static int sync_any(int fd, long number)
{
    const watched *w = watching(fd);
    if (w) enter(w->directory ? OP_SYNC_DIR : OP_SYNC, 0, w->path, NULL, 0);
    /* Nothing is lost with the process alone; a disk's delay is not what is tested. */
    int rc = w ? 0 : (int)real(number, fd, 0, 0, 0, 0), kept = errno;
    if (w) leave();
    errno = kept;
    return rc;
}
int fsync(int fd) { return sync_any(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_any(fd, SYS_fdatasync); }

/* ---- names ---- */
static int named(uint32_t op, const char *path, const char *second, long number, long a, long b, long c, long d)
{
    bool watched_ = below(path);
    if (watched_) enter(op, 0, path, second, second ? strlen(second) : 0);
    int rc = (int)real(number, a, b, c, d, 0), kept = errno;
    if (watched_) leave();
    errno = kept;
    return rc;
}

int rename(const char *from, const char *to)
{
    return named(OP_RENAME, from, to, SYS_renameat, AT_FDCWD, (long)from, AT_FDCWD, (long)to);
}
int unlink(const char *path)
{
    return named(OP_UNLINK, path, NULL, SYS_unlinkat, AT_FDCWD, (long)path, 0, 0);
}
int unlinkat(int dir, const char *path, int flags)
{
    return named(flags & AT_REMOVEDIR ? OP_RMDIR : OP_UNLINK, path, NULL, SYS_unlinkat, dir, (long)path, flags, 0);
}
int mkdir(const char *path, mode_t mode)
{
    return named(OP_MKDIR, path, NULL, SYS_mkdirat, AT_FDCWD, (long)path, mode, 0);
}
int rmdir(const char *path)
{
    return named(OP_RMDIR, path, NULL, SYS_unlinkat, AT_FDCWD, (long)path, AT_REMOVEDIR, 0);
}

/* What _FORTIFY_SOURCE calls instead. */
int __open_2(const char *path, int flags) { return open_any(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_any(AT_FDCWD, path, flags, 0); }
int __openat_2(int dir, const char *path, int flags) { return open_any(dir, path, flags, 0); }
