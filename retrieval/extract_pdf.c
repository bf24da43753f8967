/* PDF by poppler's pdftotext in a child: no environment, no files but its three, bounded memory,
 * time and output, no new privileges. The document reaches it through an anonymous file in
 * memory. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "extract.h"

enum { TIMEOUT_MS = 60000, CPU_SECONDS = 60 };
static const rlim_t CHILD_MEMORY_BYTES = (rlim_t)2 << 30;
static const char *const PROGRAMS[] = {"/usr/bin/pdftotext", "/usr/local/bin/pdftotext"};

static result content_file(bytes content, int *fd)
{
    *fd = memfd_create("document", MFD_CLOEXEC);
    if (*fd < 0) return fail_errno("cannot hold the PDF in memory");
    for (size_t at = 0; at < content.size;) {
        ssize_t n = write(*fd, content.data + at, content.size - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            result r = fail_errno("cannot hold the PDF in memory");
            close(*fd);
            return r;
        }
        at += (size_t)n;
    }
    (void)lseek(*fd, 0, SEEK_SET);
    return OK;
}

/* Runs in the child between vfork and exec: system calls only. vfork, because the parent may be
 * large, and because fork would run the handlers of libraries with threads of their own. */
static _Noreturn void child(const char *program, int in, int out, int null)
{
    static char *const argv[] = {"pdftotext", "-q", "-enc", "UTF-8", "-", "-", NULL};
    static char *const empty[] = {NULL};
    const struct rlimit memory = {CHILD_MEMORY_BYTES, CHILD_MEMORY_BYTES};
    const struct rlimit cpu = {CPU_SECONDS, CPU_SECONDS}, none = {0, 0};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (setrlimit(RLIMIT_AS, &memory) != 0 || setrlimit(RLIMIT_CPU, &cpu) != 0 ||
        setrlimit(RLIMIT_FSIZE, &none) != 0 || setrlimit(RLIMIT_CORE, &none) != 0 ||
        dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(null, 2) < 0)
        _exit(126);
    (void)syscall(SYS_close_range, 3u, ~0u, 0u);
    execve(program, argv, empty);
    _exit(127);
}

static pid_t start(const char *program, int in, int out, int null)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);       /* no handler runs on the borrowed stack */
    pid_t pid = vfork();
    if (pid == 0) {
        sigset_t nothing;
        sigemptyset(&nothing);
        pthread_sigmask(SIG_SETMASK, &nothing, NULL);
        child(program, in, out, null);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pid;
}

/* Reads until the child closes its output; E_INVALID past the time. */
static result collect(int fd, buf *out)
{
    uint64_t deadline = clock_mono_ms() + TIMEOUT_MS;
    uint8_t block[65536];
    result r = OK;
    while (is_ok(r)) {
        uint64_t now = clock_mono_ms();
        struct pollfd p = {fd, POLLIN, 0};
        int ready = now >= deadline ? 0 : poll(&p, 1, (int)(deadline - now));
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) {
            r = fail(E_INVALID, "reading the PDF takes too long");
            break;
        }
        ssize_t n = read(fd, block, sizeof block);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        for (ssize_t i = 0; i < n; i++)
            if (block[i] == '\f') block[i] = '\n';   /* between pages */
        buf_append(out, block, (size_t)n);
        if (out->bad) r = fail(E_INVALID, "the text has more than %zu bytes", out->limit);
    }
    mem_wipe(block, sizeof block);
    return r;
}

static result run(const char *program, int in, buf *out)
{
    int pipe_fds[2], null = open("/dev/null", O_RDWR | O_CLOEXEC), status = 0;
    if (null < 0 || pipe2(pipe_fds, O_CLOEXEC) != 0) {
        result r = fail_errno("cannot start pdftotext");
        if (null >= 0) close(null);
        return r;
    }
    pid_t pid = start(program, in, pipe_fds[1], null);
    result r = pid < 0 ? fail_errno("cannot start pdftotext") : OK;
    close(null);
    close(pipe_fds[1]);
    if (is_ok(r)) {
        r = collect(pipe_fds[0], out);
        if (!is_ok(r)) kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
        if (is_ok(r) && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
            r = fail(E_INVALID, "the PDF could not be read (damaged, encrypted or too complex)");
    }
    close(pipe_fds[0]);
    return r;
}

result extract_pdf(bytes content, buf *out)
{
    const char *program = NULL;
    if (content.size < 5 || memcmp(content.data, "%PDF-", 5) != 0)
        return fail(E_INVALID, "not a PDF document");
    for (size_t i = 0; i < sizeof PROGRAMS / sizeof *PROGRAMS && program == NULL; i++)
        if (access(PROGRAMS[i], X_OK) == 0) program = PROGRAMS[i];
    if (program == NULL)
        return fail(E_PRECONDITION, "PDF needs pdftotext on the server (package poppler-utils)");
    int in;
    TRY(content_file(content, &in));
    result r = run(program, in, out);
    close(in);
    return r;
}
