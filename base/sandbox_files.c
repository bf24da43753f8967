/* Landlock by its system calls: Debian 12 has neither a library for it nor all of the kernel's words. */
#include "sandbox.h"

#include "internal.h"
#include "sandbox_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As in linux/landlock.h of 6.7; the size passed tells the kernel how much of it counts. */
typedef struct { uint64_t files, net, scoped; } ruleset_attr;
typedef struct __attribute__((packed)) { uint64_t allowed; int32_t parent; } beneath_attr;
typedef struct { uint64_t allowed, port; } port_attr;
enum { CREATE_VERSION = 1, RULE_BENEATH = 1, RULE_PORT = 2, NET_BIND = 1, NET_CONNECT = 2,
       SCOPE_ABSTRACT_SOCKET = 1, SCOPE_SIGNAL = 2 };
enum { F_EXECUTE = 1 << 0, F_WRITE_FILE = 1 << 1, F_READ_FILE = 1 << 2, F_READ_DIR = 1 << 3,
       F_REMOVE_DIR = 1 << 4, F_REMOVE_FILE = 1 << 5, F_MAKE_CHAR = 1 << 6, F_MAKE_DIR = 1 << 7,
       F_MAKE_REG = 1 << 8, F_MAKE_SOCK = 1 << 9, F_REFER = 1 << 13, F_TRUNCATE = 1 << 14,
       F_IOCTL_DEV = 1 << 15 };
enum { FILES_ABI1 = (1 << 13) - 1, ON_FILES = F_EXECUTE | F_WRITE_FILE | F_READ_FILE | F_TRUNCATE };

static uint64_t handled_files(int abi)
{
    return FILES_ABI1 | (abi >= 2 ? F_REFER : 0) | (abi >= 3 ? F_TRUNCATE : 0) |
           (abi >= 5 ? F_IOCTL_DEV : 0);
}

static uint64_t rights_of(unsigned rights)
{
    return (rights & SANDBOX_READ ? F_READ_FILE | F_READ_DIR : 0) |
           (rights & SANDBOX_WRITE ? F_WRITE_FILE | F_REMOVE_DIR | F_REMOVE_FILE | F_MAKE_DIR |
                                     F_MAKE_REG | F_REFER | F_TRUNCATE : 0) |
           (rights & SANDBOX_EXECUTE ? F_EXECUTE : 0) |
           (rights & SANDBOX_SOCKET ? F_MAKE_SOCK | F_REMOVE_FILE : 0);
}

int sandbox_landlock_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, CREATE_VERSION);
    return abi > 0 ? (int)abi : 0;
}

static result path_allow(int ruleset, int abi, const sandbox_path *p)
{
    struct stat st;
    int fd = open(p->path, O_PATH | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) return OK;
    if (fd < 0 || fstat(fd, &st) != 0) {
        result r = fail_errno("sandbox: cannot look at %s", p->path);
        if (fd >= 0) close(fd);
        return r;
    }
    beneath_attr rule = {rights_of(p->rights) & handled_files(abi), fd};
    if (!S_ISDIR(st.st_mode)) rule.allowed &= ON_FILES;
    result r = OK;
    if (rule.allowed != 0 && syscall(SYS_landlock_add_rule, ruleset, RULE_BENEATH, &rule, 0) != 0)
        r = fail_errno("sandbox: cannot allow %s", p->path);
    close(fd);
    return r;
}

/* -1 in *out without Landlock. */
static result ruleset_make(const sandbox_options *o, int *out)
{
    int abi = sandbox_landlock_abi();
    *out = -1;
    if (abi == 0) return OK;
    ruleset_attr attr = {handled_files(abi), NET_BIND | NET_CONNECT, SCOPE_ABSTRACT_SOCKET | SCOPE_SIGNAL};
    size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
    int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (fd < 0) return fail_errno("sandbox: Landlock refuses");
    result r = OK;
    for (size_t i = 0; i < o->path_count && is_ok(r); i++) r = path_allow(fd, abi, &o->paths[i]);
#ifdef UNDER_SANITIZER
    const sandbox_path self = {"/proc/self", SANDBOX_READ};
    if (is_ok(r)) r = path_allow(fd, abi, &self);
#endif
    /* Port 0 as well: gRPC binds it to see which protocols there are. */
    for (int i = 0; i < 2 && is_ok(r) && abi >= 4 && o->port >= 0; i++) {
        port_attr rule = {NET_BIND, i == 0 ? (uint64_t)o->port : 0};
        if (syscall(SYS_landlock_add_rule, fd, RULE_PORT, &rule, 0) != 0)
            r = fail_errno("sandbox: cannot allow the port");
    }
    if (is_ok(r)) *out = fd;
    else close(fd);
    return r;
}

result sandbox_files(const sandbox_options *options)
{
    int ruleset;
    TRY(ruleset_make(options, &ruleset));
    if (ruleset < 0) {
        log_event(LOG_WARN, "sandbox_no_landlock",
                  LOG_TEXT("hint", "this kernel has no Landlock: system calls are limited, files are not"));
        return OK;
    }
    result r = OK;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
        r = fail_errno("sandbox: Landlock cannot be entered");
    close(ruleset);
    return r;
}

result sandbox_enter(const sandbox_options *options)
{
    TRY(sandbox_files(options));
    return sandbox_calls(options->profile);
}

/* ---- a child's ---- */
result sandbox_child_prepare(sandbox_child *out, const sandbox_options *options)
{
    *out = (sandbox_child){.ruleset = -1};
    TRY(ruleset_make(options, &out->ruleset));
    result r = sandbox_filter_make(options->profile, &out->filter, &out->filter_length);
    if (!is_ok(r)) sandbox_child_close(out);
    return r;
}

bool sandbox_child_enter(const sandbox_child *child)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
    if (child->ruleset >= 0 && syscall(SYS_landlock_restrict_self, child->ruleset, 0) != 0) return false;
    return sandbox_filter_enter(child->filter, child->filter_length);
}

void sandbox_child_close(sandbox_child *child)
{
    if (child->ruleset >= 0) close(child->ruleset);
    mem_free(child->filter);
    *child = (sandbox_child){.ruleset = -1};
}
