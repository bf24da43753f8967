/* rpc: gRPC in a page, server and client. rpc_core.c, rpc_server.c and rpc_client.c alone see gRPC's headers.
 *
 * Server: handlers run on threads of their own and read and write messages with blocking calls. A
 * method is a full path ("/lethe.v1.Answers/Ask"); every unregistered path answers UNIMPLEMENTED at
 * once. Messages are raw protobuf bytes. */
#ifndef LETHE_RPC_H
#define LETHE_RPC_H

#include "base.h"

/* ---- server ---------------------------------------------------------------------------------- */
typedef struct rpc_server rpc_server;
typedef struct rpc_call rpc_call;

/* A handler returns the call's status: OK, or code and sentence for the client. It owns nothing. */
typedef result rpc_handler_fn(void *ctx, rpc_call *call);
typedef struct { const char *path; rpc_handler_fn *handler; } rpc_method;

typedef struct {
    const char *listen;             /* "host:port" (port 0: any), "unix:/path" */
    const char *tls_certificate_pem, *tls_key_pem;  /* both NULL: plaintext, refused (E_INVALID)
                                                       unless loopback or unix socket */
    const rpc_method *methods;      /* borrowed for the life of the server */
    size_t method_count;
    void *handler_ctx;
    uint32_t threads_max;           /* calls in progress; past it UNAVAILABLE. 0: 512 */
    uint32_t message_max_bytes;     /* 0: 4 MiB, receive and send */
    uint32_t keepalive_ms;          /* 0: 120,000 */
    uint32_t connection_age_ms;     /* then a client is asked to connect anew; its calls go on. 0: never */
    /* For health: services reported SERVING besides "" (borrowed, NULL-terminated list). */
    const char *const *services;
    bytes descriptor_set;           /* FileDescriptorSet with imports, for reflection, or empty */
} rpc_server_options;

/* Binds and serves at once; health and reflection (v1alpha and v1) are built in. */
MUST_USE result rpc_server_start(rpc_server **out, const rpc_server_options *options);
int rpc_server_port(const rpc_server *s);               /* the bound port; 0 for a unix socket */
/* Refuses new calls, reports NOT_SERVING, lets calls end for grace_ms, then cancels them; waits for
 * all handlers; frees everything. */
void rpc_server_stop(rpc_server **s, uint32_t grace_ms);
/* Calls in progress that the handler marked with rpc_call_mark: cancels those for which match says
 * true and waits until their handlers have returned (erasure's fence). A handler that calls this
 * bears no mark of its own that matches. match runs under a lock: it calls nothing of rpc. */
void rpc_server_cancel(rpc_server *s, bool (*match)(void *ctx, const void *mark), void *ctx);

/* Borrowed until the next rpc_call_mark: set NULL before the marked object goes out of being. */
void rpc_call_mark(rpc_call *call, const void *mark);
/* First value of a request's metadata key (lower case), or NULL; borrowed for the call. */
const char *rpc_call_metadata(const rpc_call *call, const char *key);
/* Next message into out (cleared first). *end: the client has half-closed, out is empty. E_CANCELLED,
 * E_DEADLINE, E_EXHAUSTED (larger than the limit). */
MUST_USE result rpc_call_receive(rpc_call *call, buf *out, bool *end);
/* Copies the message and sends it; waits only for the message before. So an error may be that one's; the last one's becomes
 * the call's status. */
MUST_USE result rpc_call_send(rpc_call *call, bytes message);
/* Set by the client's cancel, its deadline, or rpc_server_cancel / stop. Cheap: ask at each step. */
bool rpc_call_cancelled(const rpc_call *call);
uint64_t rpc_call_deadline_mono_ms(const rpc_call *call);        /* 0: none */

/* ---- client ---------------------------------------------------------------------------------- */
typedef struct rpc_client rpc_client;
typedef struct rpc_stream rpc_stream;

typedef struct {
    const char *server;             /* "host:port" or "unix:/path" */
    const char *ca_pem;             /* trusted certificate(s); NULL: plaintext, loopback or unix only */
    const char *token;              /* sent as "authorization: Bearer ..."; NULL: none */
    uint32_t connect_ms;            /* 0: 5,000; not reachable in time: E_UNAVAILABLE */
    uint32_t message_max_bytes;     /* 0: 64 MiB */
} rpc_client_options;

MUST_USE result rpc_client_open(rpc_client **out, const rpc_client_options *options);
void rpc_client_close(rpc_client **c);
/* Any shape of call: start, send 0..n, half-close, receive 0..n until end, finish for the status. */
MUST_USE result rpc_stream_open(rpc_stream **out, rpc_client *c, const char *path,
                                uint32_t deadline_ms /* 0: none */);
/* E_CANCELLED: the call is over; read what is left, if it matters, and finish to learn why. */
MUST_USE result rpc_stream_send(rpc_stream *s, bytes message);
MUST_USE result rpc_stream_half_close(rpc_stream *s);
MUST_USE result rpc_stream_receive(rpc_stream *s, buf *out, bool *end);
void rpc_stream_cancel(rpc_stream *s);
/* Half-closes, drops messages that nobody read (cancel first where there may be no end of them), and
 * waits for the server's status (code and sentence). Frees the stream. */
MUST_USE result rpc_stream_finish(rpc_stream **s);
/* One message each way. */
MUST_USE result rpc_unary(rpc_client *c, const char *path, bytes request, buf *response,
                          uint32_t deadline_ms);

#endif
