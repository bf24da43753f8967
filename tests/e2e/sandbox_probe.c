/* sandbox_probe: an LD_PRELOAD library for the end-to-end tests: it tries, from a thread within lethed, what code
 * that took the server over would try, and writes what succeeded to PROBE_OUT, a folder it may write to:
 * one word a line, then "done". Tests only. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(FILE *out, const char *word, int worked)
{
    if (worked) fprintf(out, "%s\n", word);
}

static int can_open(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

/* To the address that the test listens on. */
static int can_connect(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int worked = fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0;
    if (fd >= 0) close(fd);
    return worked;
}

/* In a child, which vfork makes: what it does to itself is gone with it. */
static int child_can(int (*act)(void))
{
    int status = 0;
    pid_t child = vfork();
    if (child == 0) _exit(act());
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int run_true(void)
{
    execl("/usr/bin/true", "true", (char *)NULL);
    return 99;
}

static int be_traced(void)
{
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 ? 0 : 1;
}

static int leave_namespace(void)
{
    return unshare(CLONE_NEWUSER) == 0 ? 0 : 1;
}

static void *probe(void *folder)
{
    char path[4096];
    sleep(2);                                       /* until the server serves */
    snprintf(path, sizeof path, "%s/probe.part", (const char *)folder);
    FILE *out = fopen(path, "we");
    if (out == NULL) return NULL;
    tell(out, "root", can_open(getenv("PROBE_ROOT"), O_RDONLY));
    tell(out, "secret", can_open(getenv("PROBE_SECRET"), O_RDONLY));
    tell(out, "passwd", can_open("/etc/passwd", O_RDONLY));
    tell(out, "write", can_open(getenv("PROBE_WRITE"), O_WRONLY | O_CREAT));
    tell(out, "connect", can_connect(atoi(getenv("PROBE_PORT"))));
    tell(out, "run", child_can(run_true));
    tell(out, "ptrace", child_can(be_traced));
    tell(out, "packets", socket(AF_PACKET, SOCK_RAW, 0) >= 0 || errno == EPROTONOSUPPORT);
    tell(out, "namespace", child_can(leave_namespace));
    tell(out, "data", can_open(getenv("PROBE_DATA"), O_RDONLY));      /* the control: that it may */
    fprintf(out, "done\n");
    fclose(out);
    char to[4096];
    snprintf(to, sizeof to, "%s/probe", (const char *)folder);
    rename(path, to);
    return NULL;
}

__attribute__((constructor)) static void start(void)
{
    const char *folder = getenv("PROBE_OUT");
    pthread_t thread;
    if (folder != NULL && strstr(program_invocation_short_name, "lethed") != NULL &&
        pthread_create(&thread, NULL, probe, (void *)folder) == 0)
        pthread_detach(thread);
}
