/* root_keeper: the holder as its client sees it: each verb is one message to the keeper's process and
 * one back (keeper_wire.h). Once the keeper is gone or says what it may not, it stays gone: every
 * later verb is E_UNAVAILABLE, and nothing takes its place. */
#include "holder.h"

#include "keeper_wire.h"
#include "mutant.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH_MAX_BYTES = 4096, ANSWER_WAIT_S = 60, KEEPER_FD = 3 };

typedef struct {
    root_holder head;
    int fd;                                 /* -1: the keeper is gone */
    pid_t pid;
    uint8_t *packet;                        /* secure, KEEPER_MESSAGE_MAX_BYTES + 1 */
} keeper_holder;

static keeper_holder *self(root_holder *h) { return (keeper_holder *)h; }

static result gone(keeper_holder *k, const char *what)
{
    if (k->fd >= 0) {
        log_event(LOG_ERROR, "keeper_gone", LOG_TEXT("what", what), LOG_NUMBER("pid", k->pid));
        close(k->fd);
        k->fd = -1;
    }
    return fail(E_UNAVAILABLE, "the process that holds the root key has ended: restart the server");
}

static result receive(keeper_holder *k, keeper_verb verb, keeper_reply *reply)
{
    ssize_t n = -1;
    do n = recv(k->fd, k->packet, KEEPER_MESSAGE_MAX_BYTES + 1, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0) return gone(k, errno == EAGAIN ? "no answer in time" : "cannot be heard");
    if (n == 0) return gone(k, "ended");
    if (!is_ok(keeper_reply_decode(bytes_of(k->packet, (size_t)n), verb, reply)))
        return gone(k, "malformed answer");
    if (reply->code == E_OK) return OK;
    return fail(reply->code, "%.*s", (int)reply->body.size, (const char *)reply->body.data);
}

static result ask(root_holder *h, const keeper_request *request, buf *out)
{
    keeper_holder *k = self(h);
    if (k->fd < 0) return gone(k, NULL);
    buf packet;
    buf_init(&packet, KEEPER_MESSAGE_MAX_BYTES);
    keeper_request_encode(request, &packet);
    result r = buf_check(&packet);
    ssize_t sent = -1;
    if (is_ok(r)) {
        do sent = send(k->fd, packet.data, packet.size, MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        if (sent != (ssize_t)packet.size) r = gone(k, "cannot be told");
    }
    buf_free(&packet);
    if (!is_ok(r)) return r;
    keeper_reply reply;
    r = receive(k, request->verb, &reply);
    if (is_ok(r) && out != NULL) {
        buf_append(out, reply.body.data, reply.body.size);
        r = buf_check(out);
    }
    mem_wipe(k->packet, KEEPER_MESSAGE_MAX_BYTES);
    return r;
}

static result k_create(root_holder *h, uint64_t epoch)
{
    return ask(h, &(keeper_request){.verb = KEEPER_CREATE, .epoch = epoch}, NULL);
}

static result k_seal(root_holder *h, uint64_t epoch, bytes associated, bytes plain, buf *out)
{
    if (plain.size > ROOT_PLAIN_MAX_BYTES || associated.size > ROOT_ASSOCIATED_MAX_BYTES)
        return fail(E_INVALID, "too long for the root key to seal");
    return ask(h, &(keeper_request){KEEPER_SEAL, epoch, associated, plain}, out);
}

static result k_open(root_holder *h, uint64_t epoch, bytes associated, bytes sealed, buf *out)
{
    if (sealed.size > ROOT_SEALED_MAX_BYTES || associated.size > ROOT_ASSOCIATED_MAX_BYTES)
        return fail(E_INVALID, "too long for the root key to open");
    return ask(h, &(keeper_request){KEEPER_OPEN, epoch, associated, sealed}, out);
}

static result k_destroy(root_holder *h, uint64_t epoch)
{
    return ask(h, &(keeper_request){.verb = KEEPER_DESTROY, .epoch = epoch}, NULL);
}

static result k_epochs(root_holder *h, uint64_t *out, size_t max, size_t *count)
{
    buf list;
    buf_init(&list, 8 * ROOT_EPOCHS_MAX);
    *count = 0;
    result r = ask(h, &(keeper_request){.verb = KEEPER_EPOCHS}, &list);
    reader in = reader_of(buf_bytes(&list));
    while (is_ok(r) && in.at < in.size && *count < max) out[(*count)++] = reader_u64(&in);
    buf_free(&list);
    return r;
}

/* The keeper ends when its socket does; it is waited for, so that the next start finds no other. */
static void k_close(root_holder *h)
{
    keeper_holder *k = self(h);
    if (k->fd >= 0) close(k->fd);
    while (k->pid > 0 && waitpid(k->pid, NULL, 0) < 0 && errno == EINTR) {}
    secure_free(k->packet);
    mem_free(k);
}

static const root_holder_ops KEEPER_OPS = {k_create, k_seal, k_open, k_destroy, k_epochs, k_close};

/* ---- starting ---- */
static result program_path(const char *given, char path[PATH_MAX_BYTES])
{
    if (given != NULL && given[0] != 0) {
        if (strlen(given) >= PATH_MAX_BYTES) return fail(E_INVALID, "keeper: path too long");
        strcpy(path, given);
    } else {
        ssize_t n = readlink("/proc/self/exe", path, PATH_MAX_BYTES - sizeof "lethe-keeper");
        if (n <= 0) return fail_errno("cannot tell where this program lies");
        path[n] = 0;
        char *slash = strrchr(path, '/');
        strcpy(slash ? slash + 1 : path, "lethe-keeper");
    }
    if (access(path, X_OK) != 0)
        return fail(E_PRECONDITION, "the root key's keeper is missing: there must be a program %s", path);
    return OK;
}

result root_keeper_spawn(const root_keeper_options *o, root_keeper_process *out)
{
    char path[PATH_MAX_BYTES], writes[32];
    TRY(program_path(o->program, path));
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return fail_errno("cannot make a socket for the root key's keeper");
    snprintf(writes, sizeof writes, "%s", o->create ? "create" : "open");
    const char *sandbox = o->sandbox ? "enforce" : "off";
    const char *const file[] = {"lethe-keeper", "file", sandbox, writes, o->root, NULL};
    const char *const module[] = {"lethe-keeper", "pkcs11", sandbox, writes, o->module, o->token,
                                  o->pin_file, o->module_state, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pair[1], KEEPER_FD);
    posix_spawn_file_actions_addclosefrom_np(&actions, KEEPER_FD + 1);
    int failed = posix_spawn(&out->pid, path, &actions, NULL,
                             (char **)(o->module != NULL ? module : file), environ);
    posix_spawn_file_actions_destroy(&actions);
    close(pair[1]);
    out->fd = pair[0];
    if (failed == 0) return OK;
    close(pair[0]);
    errno = failed;
    return fail_errno("cannot start the root key's keeper");
}

static result hello(keeper_holder *k)
{
    keeper_reply reply;
    TRY(receive(k, KEEPER_HELLO, &reply));
    reader in = reader_of(reply.body);
    size_t assurance = reader_u8(&in);
    const uint8_t *a = reader_take(&in, assurance);
    size_t note = reply.body.size - in.at;
    const uint8_t *b = reader_take(&in, note);
    if (a == NULL || assurance > ROOT_ASSURANCE_MAX_BYTES || note > ROOT_NOTE_MAX_BYTES)
        return gone(k, "malformed answer");
    memcpy(k->head.assurance, a, assurance);
    if (note > 0) memcpy(k->head.note, b, note);
    return OK;
}

result root_keeper_open(root_holder **out, const root_keeper_process *process)
{
    *out = NULL;
    keeper_holder *k = mem_alloc(sizeof *k);
    k->head.ops = &KEEPER_OPS;
    k->fd = process->fd;
    k->pid = process->pid;
    k->packet = secure_alloc(KEEPER_MESSAGE_MAX_BYTES + 1);
    (void)fcntl(k->fd, F_SETFD, FD_CLOEXEC);
    const struct timeval wait = {.tv_sec = ANSWER_WAIT_S};
    (void)setsockopt(k->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    result r = hello(k);
    if (is_ok(r)) {
        *out = &k->head;
        return OK;
    }
    k_close(&k->head);
    return r;
}
