/* rpc_builtin: the methods that every server has: grpc.health.v1 and grpc.reflection (v1alpha, v1).
 * They work on raw protobuf bytes through rpc.h. */
#ifndef LETHE_RPC_BUILTIN_H
#define LETHE_RPC_BUILTIN_H

#include "rpc.h"

/* Their handlers' ctx; everything borrowed for the life of the server. */
typedef struct {
    const char *const *services;    /* NULL-terminated, or NULL */
    const rpc_method *methods;
    size_t method_count;
    bytes descriptor_set;
} rpc_builtin;

typedef struct {
    rpc_method method;
    bool ends_at_stop;              /* no end of its own: cancelled when stop begins */
} rpc_builtin_method;

extern const rpc_builtin_method rpc_builtin_methods[];
extern const size_t rpc_builtin_method_count;

result health_check(void *ctx, rpc_call *call);
result health_watch(void *ctx, rpc_call *call);
result reflection_info(void *ctx, rpc_call *call);

/* From rpc_server.c. True once rpc_server_stop has begun. */
bool rpc_call_stopping(const rpc_call *call);
/* Waits until the server stops or the call is cancelled. */
void rpc_call_wait_stopping(rpc_call *call);

#endif
