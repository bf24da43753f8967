#include "confine.h"

#include "house.h"
#include "mutant.h"
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATHS_MAX = 64 };
static const char BEHIND[] = "LETHE_BEHIND";        /* in the environment of the second start: fd:pid */

/* What the C library, OpenBLAS, gRPC and pdftotext read. None of it is secret. */
static const sandbox_path SYSTEM_PATHS[] = {
    {"/usr", SANDBOX_READ}, {"/lib", SANDBOX_READ}, {"/lib64", SANDBOX_READ},
    {"/lib64/ld-linux-x86-64.so.2", SANDBOX_READ | SANDBOX_EXECUTE},
    {"/lib/ld-linux-aarch64.so.1", SANDBOX_READ | SANDBOX_EXECUTE},
    {"/usr/bin/pdftotext", SANDBOX_READ | SANDBOX_EXECUTE},
    {"/usr/local/bin/pdftotext", SANDBOX_READ | SANDBOX_EXECUTE},
    {"/etc/ld.so.cache", SANDBOX_READ}, {"/etc/ld.so.preload", SANDBOX_READ}, {"/etc/localtime", SANDBOX_READ},
    {"/etc/hosts", SANDBOX_READ}, {"/etc/host.conf", SANDBOX_READ}, {"/etc/resolv.conf", SANDBOX_READ},
    {"/etc/nsswitch.conf", SANDBOX_READ}, {"/etc/gai.conf", SANDBOX_READ}, {"/etc/services", SANDBOX_READ},
    {"/etc/protocols", SANDBOX_READ}, {"/etc/ssl/openssl.cnf", SANDBOX_READ}, {"/etc/fonts", SANDBOX_READ},
    {"/dev/null", SANDBOX_READ | SANDBOX_WRITE}, {"/dev/urandom", SANDBOX_READ}, {"/dev/random", SANDBOX_READ},
    {"/proc/self", SANDBOX_READ}, {"/proc/cpuinfo", SANDBOX_READ}, {"/proc/meminfo", SANDBOX_READ},
    {"/proc/stat", SANDBOX_READ}, {"/proc/sys", SANDBOX_READ}, {"/sys/devices/system", SANDBOX_READ},
    {"/sys/fs/cgroup", SANDBOX_READ},
};

/* "host:port": the port; "unix:/path": -1, and the folder of the path. */
static int port_of(const char *listen, char folder[CONFIG_PATH_MAX])
{
    folder[0] = 0;
    if (strncmp(listen, "unix:", 5) == 0) {
        snprintf(folder, CONFIG_PATH_MAX, "%s", listen + 5);
        char *slash = strrchr(folder, '/');
        if (slash != NULL) slash[slash == folder] = 0;
        else strcpy(folder, ".");
        return -1;
    }
    const char *colon = strrchr(listen, ':');
    return colon != NULL ? atoi(colon + 1) : 0;
}

static result give_up_files(const config *c, const char *config_file, const char *self)
{
    char folder[CONFIG_PATH_MAX];
    int port = port_of(c->listen, folder);
    const unsigned all = SANDBOX_READ | SANDBOX_WRITE;
    const sandbox_path ours[] = {
        {c->data, all}, {c->keytree_mirror, all}, {c->backup_dir, all}, {c->model, SANDBOX_READ},
        {c->embedder, SANDBOX_READ}, {folder, SANDBOX_SOCKET}, {config_file ? config_file : "", SANDBOX_READ},
        {self, SANDBOX_READ | SANDBOX_EXECUTE},
    };
    sandbox_path paths[PATHS_MAX];
    size_t count = 0;
    /* Rights are given to what is there: what the house would make later is made now. */
    if (c->keytree_mirror[0] != 0) TRY(dir_make(c->keytree_mirror, 0700));
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (ours[i].path[0] != 0) paths[count++] = ours[i];
    for (size_t i = 0; i < sizeof SYSTEM_PATHS / sizeof *SYSTEM_PATHS; i++) paths[count++] = SYSTEM_PATHS[i];
    const sandbox_options options = {.profile = SANDBOX_SERVER, .paths = paths, .path_count = count, .port = port};
    return sandbox_files(&options);
}

static result start_again(const config *c, const char *config_file, char **argv, const root_keeper_process *keeper)
{
    char self[CONFIG_PATH_MAX], behind[64];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) return fail_errno("cannot tell where this program lies");
    self[n] = 0;
    TRY(give_up_files(c, config_file, self));
    if (sandbox_landlock_abi() == 0) return OK;
    snprintf(behind, sizeof behind, "%d:%d", keeper->fd, (int)keeper->pid);
    if (setenv(BEHIND, behind, 1) != 0 || fcntl(keeper->fd, F_SETFD, 0) != 0)
        return fail_errno("cannot start again in the sandbox");
    execv(self, argv);
    return fail_errno("cannot start again in the sandbox");
}

static bool behind_read(root_keeper_process *keeper)
{
    const char *text = getenv(BEHIND);
    int fd, pid;
    if (text == NULL || sscanf(text, "%d:%d", &fd, &pid) != 2) return false;
    *keeper = (root_keeper_process){fd, pid};
    (void)unsetenv(BEHIND);
    return fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

result confine_start(const config *settings, const char *config_file, char **argv, root_keeper_process *keeper)
{
    bool enforce = strcmp(settings->sandbox, "enforce") == 0 && !MUTANT(sandbox_off);
    if (!behind_read(keeper)) {
        TRY(house_keeper_start(settings, false, keeper));
        if (enforce) TRY(start_again(settings, config_file, argv, keeper));
    }
    if (!enforce) {
        log_event(LOG_WARN, "sandbox_off", LOG_TEXT("note", "files and system calls are not limited"));
        return OK;
    }
    return sandbox_calls(SANDBOX_SERVER);
}
