/* seccomp: allow lists, found by running every test under them and under strace. What is not listed
 * fails with EPERM: ptrace, process_vm_*, connect, mount, setns, bpf, keyctl, io_uring and the rest. */
#include "sandbox.h"

#include "sandbox_internal.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Which profiles have a call. */
enum { S = 1 << SANDBOX_SERVER, K = 1 << SANDBOX_KEEPER, M = 1 << SANDBOX_KEEPER_MODULE,
       X = 1 << SANDBOX_EXTRACTOR, ALL = S | K | M | X, KEEPERS = K | M };

typedef struct { const char *name; unsigned profiles; } call;
static const call CALLS[] = {
    /* memory */
    {"brk", ALL}, {"mmap", ALL}, {"munmap", ALL}, {"mremap", ALL}, {"mprotect", ALL}, {"madvise", ALL},
    {"mlock", S | K | M}, {"mlock2", S | K | M}, {"munlock", S | K | M}, {"msync", S}, {"mincore", S},
    {"membarrier", S},
    /* descriptors and files */
    {"read", ALL}, {"write", ALL}, {"readv", ALL}, {"writev", ALL}, {"pread64", ALL}, {"pwrite64", S | K | M},
    {"preadv", S}, {"pwritev", S}, {"close", ALL}, {"lseek", ALL}, {"fstat", ALL}, {"stat", ALL},
    {"lstat", ALL}, {"newfstatat", ALL}, {"statx", ALL}, {"statfs", ALL}, {"fstatfs", ALL}, {"open", ALL},
    {"openat", ALL}, {"access", ALL}, {"faccessat", ALL}, {"faccessat2", ALL}, {"readlink", ALL},
    {"readlinkat", ALL}, {"getdents64", ALL}, {"getcwd", ALL}, {"fcntl", ALL}, {"dup", ALL}, {"dup2", S | X},
    {"dup3", S}, {"ioctl", ALL}, {"fadvise64", ALL}, {"flock", S | K | M}, {"fsync", S | K | M},
    {"fdatasync", S | K | M}, {"ftruncate", S | K | M}, {"fallocate", S | K | M}, {"sync_file_range", S},
    {"rename", S | K | M}, {"renameat", S | K | M}, {"renameat2", S | K | M}, {"unlink", S | K | M},
    {"unlinkat", S | K | M}, {"mkdir", S | K | M}, {"mkdirat", S | K | M}, {"rmdir", S | K | M},
    {"chmod", S | M}, {"fchmod", S | K | M}, {"fchmodat", S | M}, {"umask", S | K | M}, {"utimensat", S | M},
    {"close_range", S}, {"memfd_create", S}, {"pipe", S}, {"pipe2", S}, {"eventfd2", S}, {"copy_file_range", S},
    /* waiting */
    {"poll", ALL}, {"ppoll", ALL}, {"select", S | M}, {"pselect6", S | M}, {"epoll_create", S},
    {"epoll_create1", S}, {"epoll_ctl", S}, {"epoll_wait", S}, {"epoll_pwait", S}, {"epoll_pwait2", S},
    {"timerfd_create", S}, {"timerfd_settime", S}, {"nanosleep", ALL}, {"clock_nanosleep", ALL},
    {"clock_gettime", ALL}, {"clock_getres", ALL}, {"gettimeofday", ALL}, {"time", ALL}, {"futex", ALL},
    {"pause", S | K | M}, {"restart_syscall", ALL},
    /* sockets; none is connected */
    {"socketpair", S}, {"bind", S}, {"listen", S}, {"accept", S}, {"accept4", S}, {"getsockname", S},
    {"getpeername", S}, {"getsockopt", S | K | M}, {"setsockopt", S | K | M}, {"shutdown", S | M},
    {"sendto", S | K | M}, {"sendmsg", S | K | M}, {"recvfrom", S | K | M}, {"recvmsg", S | K | M},
    {"connect", M},
    /* this process */
    {"getpid", ALL}, {"getppid", ALL}, {"gettid", ALL}, {"getuid", ALL}, {"geteuid", ALL}, {"getgid", ALL},
    {"getegid", ALL}, {"getresuid", S}, {"getresgid", S}, {"getpgrp", S}, {"uname", ALL}, {"sysinfo", ALL},
    {"getrandom", ALL}, {"getrusage", ALL}, {"getrlimit", ALL}, {"getcpu", S}, {"sched_yield", ALL},
    {"sched_getaffinity", ALL}, {"sched_setaffinity", S}, {"sched_getparam", S}, {"sched_getscheduler", S},
    {"sched_get_priority_max", S}, {"sched_get_priority_min", S}, {"arch_prctl", ALL},
    {"set_tid_address", ALL}, {"set_robust_list", ALL}, {"rseq", ALL}, {"prctl", S}, {"prlimit64", ALL},
    {"setrlimit", S}, {"exit", ALL}, {"exit_group", ALL},
    /* signals; kill: the extractor that takes too long (Landlock keeps it below this process) */
    {"rt_sigaction", ALL}, {"rt_sigprocmask", ALL}, {"rt_sigreturn", ALL}, {"rt_sigtimedwait", S},
    {"sigaltstack", ALL}, {"tgkill", ALL}, {"kill", S},
    /* children: threads, and extractors with a sandbox of their own */
    {"vfork", S}, {"wait4", S | K | M}, {"waitid", S}, {"execve", S | X}, {"seccomp", S},
    {"landlock_create_ruleset", S}, {"landlock_add_rule", S}, {"landlock_restrict_self", S},
};

#ifdef UNDER_SANITIZER
static const char *const SANITIZER_CALLS[] = {"ptrace", "clone", "clone3", "fork", "wait4", "prctl", "kill",
                                              "process_vm_readv", "pipe", "pipe2", "personality",
                                              "sched_getaffinity", "getdents", "execve", "dup2",
                                              "mincore", "setrlimit"};
#else
static const char *const *const SANITIZER_CALLS = NULL;
#endif

static int allow(scmp_filter_ctx ctx, const char *name)
{
    int number = seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR) return -EINVAL;
    return number < 0 ? 0 : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, number, 0);    /* not on this machine */
}

/* Threads, not new namespaces; clone3 hides its flags in memory: the C library then uses clone. */
static int allow_threads(scmp_filter_ctx ctx)
{
    const scmp_datum_t spaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
                                CLONE_NEWPID | CLONE_NEWNET;
    const struct scmp_arg_cmp none = {.arg = 0, .op = SCMP_CMP_MASKED_EQ, .datum_a = spaces, .datum_b = 0};
    int bad = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, &none);
    return bad ? bad : seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
}

static int allow_family(scmp_filter_ctx ctx, int family)
{
    const struct scmp_arg_cmp first = {.arg = 0, .op = SCMP_CMP_EQ, .datum_a = (scmp_datum_t)family};
    return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, &first);
}

static int rules_add(scmp_filter_ctx ctx, sandbox_profile profile)
{
    int bad = 0;
    for (size_t i = 0; i < sizeof CALLS / sizeof *CALLS && bad == 0; i++)
        if (CALLS[i].profiles & (1u << profile)) bad = allow(ctx, CALLS[i].name);
    if (bad == 0 && (profile == SANDBOX_SERVER || profile == SANDBOX_KEEPER_MODULE)) {
        bad = allow_threads(ctx);
        if (bad == 0) bad = allow_family(ctx, AF_UNIX);
    }
    if (bad == 0 && profile == SANDBOX_SERVER) bad = allow_family(ctx, AF_INET);
    if (bad == 0 && profile == SANDBOX_SERVER) bad = allow_family(ctx, AF_INET6);
#ifdef UNDER_SANITIZER
    for (size_t i = 0; i < sizeof SANITIZER_CALLS / sizeof *SANITIZER_CALLS && bad == 0; i++)
        if (profile != SANDBOX_EXTRACTOR) bad = allow(ctx, SANITIZER_CALLS[i]);
#else
    (void)SANITIZER_CALLS;
#endif
    return bad;
}

static result filter_open(sandbox_profile profile, scmp_filter_ctx *out)
{
    *out = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (*out == NULL) return fail(E_UNAVAILABLE, "sandbox: seccomp does not start");
    int bad = rules_add(*out, profile);
    if (bad == 0) return OK;
    seccomp_release(*out);
    errno = -bad;
    return fail_errno("sandbox: seccomp's rules");
}

result sandbox_calls(sandbox_profile profile)
{
    scmp_filter_ctx ctx;
    TRY(filter_open(profile, &ctx));
    int bad = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
    if (bad == 0) bad = seccomp_load(ctx);
    seccomp_release(ctx);
    errno = -bad;
    return bad == 0 ? OK : fail_errno("sandbox: seccomp refuses");
}

result sandbox_filter_make(sandbox_profile profile, void **filter, unsigned short *length)
{
    scmp_filter_ctx ctx;
    *filter = NULL;
    TRY(filter_open(profile, &ctx));
    int fd = memfd_create("filter", MFD_CLOEXEC);
    int bad = fd < 0 ? -errno : seccomp_export_bpf(ctx, fd);
    off_t size = bad == 0 ? lseek(fd, 0, SEEK_END) : 0;
    if (size > 0) {
        *filter = mem_alloc((size_t)size);
        *length = (unsigned short)((size_t)size / sizeof(struct sock_filter));
        if (pread(fd, *filter, (size_t)size, 0) != size) bad = -EIO;
    }
    if (fd >= 0) close(fd);
    seccomp_release(ctx);
    errno = -bad;
    return bad == 0 ? OK : fail_errno("sandbox: seccomp's program");
}

bool sandbox_filter_enter(void *filter, unsigned short length)
{
    const struct sock_fprog program = {length, filter};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}
