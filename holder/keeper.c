#include "keeper.h"

#include "keeper_wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
    int fd;
    root_holder *holder;
    uint8_t *message;                       /* secure, KEEPER_MESSAGE_MAX_BYTES + 1 */
} keeper;

static result reply_send(const keeper *k, keeper_verb verb, result r, bytes body)
{
    buf packet;
    buf_init(&packet, KEEPER_MESSAGE_MAX_BYTES);
    keeper_reply reply = {verb, r.code, body};
    if (!is_ok(r)) {
        reply.body = bytes_str(r.message);
        if (reply.body.size > KEEPER_SENTENCE_MAX_BYTES || !utf8_valid(reply.body))
            reply.body = bytes_str("the root key's holder failed");
    }
    keeper_reply_encode(&reply, &packet);
    ssize_t sent = -1;
    do sent = send(k->fd, packet.data, packet.size, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    bool whole = sent == (ssize_t)packet.size;
    buf_free(&packet);
    return whole ? OK : fail(E_UNAVAILABLE, "the keeper's peer is gone");
}

static result answer(const keeper *k, const keeper_request *q)
{
    buf body;
    uint64_t epochs[ROOT_EPOCHS_MAX];
    size_t count = 0;
    buf_init(&body, ROOT_SEALED_MAX_BYTES);
    result r = OK;
    switch (q->verb) {
    case KEEPER_CREATE: r = root_create(k->holder, q->epoch); break;
    case KEEPER_SEAL: r = root_seal(k->holder, q->epoch, q->associated, q->body, &body); break;
    case KEEPER_OPEN: r = root_open(k->holder, q->epoch, q->associated, q->body, &body); break;
    case KEEPER_DESTROY: r = root_destroy(k->holder, q->epoch); break;
    case KEEPER_EPOCHS:
        r = root_epochs(k->holder, epochs, ROOT_EPOCHS_MAX, &count);
        for (size_t i = 0; i < count; i++) buf_append_u64(&body, epochs[i]);
        break;
    case KEEPER_HELLO: ASSERT(false);
    }
    if (is_ok(r)) r = buf_check(&body);
    r = reply_send(k, q->verb, r, buf_bytes(&body));
    buf_free(&body);
    return r;
}

static result hello(const keeper *k, result opened)
{
    buf body;
    buf_init(&body, 512);
    if (is_ok(opened)) {
        buf_append_u8(&body, (uint8_t)strlen(k->holder->assurance));
        buf_append_str(&body, k->holder->assurance);
        buf_append_str(&body, k->holder->note);
    }
    result r = reply_send(k, KEEPER_HELLO, opened, buf_bytes(&body));
    buf_free(&body);
    return r;
}

static result serve(const keeper *k)
{
    for (;;) {
        ssize_t n = recv(k->fd, k->message, KEEPER_MESSAGE_MAX_BYTES + 1, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno("cannot hear the keeper's peer");
        if (n == 0) return OK;
        keeper_request request = {0};
        TRY(keeper_request_decode(bytes_of(k->message, (size_t)n), &request));
        TRY(answer(k, &request));
        mem_wipe(k->message, (size_t)n);
    }
}

result keeper_serve(int fd, root_holder *holder, result opened)
{
    keeper k = {.fd = fd, .holder = holder};
    TRY(hello(&k, opened));
    if (!is_ok(opened)) return OK;
    k.message = secure_alloc(KEEPER_MESSAGE_MAX_BYTES + 1);
    result r = serve(&k);
    secure_free(k.message);
    return r;
}
