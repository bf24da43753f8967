/* rpc_core: what both sides of gRPC share. Internal to rpc_core.c, rpc_server.c and rpc_client.c, the only files
 * that see gRPC's headers. */
#ifndef LETHE_RPC_CORE_H
#define LETHE_RPC_CORE_H

#include "base.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <signal.h>

enum { RPC_ARGS_MAX = 24 };
typedef struct { grpc_arg list[RPC_ARGS_MAX]; size_t count; } rpc_arg_list;

void rpc_core_init(void);                       /* grpc_init; its log is ours */
/* gRPC's threads inherit the mask of whoever makes them: signals belong to the program's own. */
void rpc_signals_block(sigset_t *before);
void rpc_signals_restore(const sigset_t *before);
void rpc_arg_number(rpc_arg_list *a, const char *key, uint32_t value);
void rpc_args_common(rpc_arg_list *a, uint32_t message_max_bytes);
grpc_byte_buffer *rpc_message_make(bytes message);            /* the caller destroys it */
/* Appends to out, wipes where it lay, destroys message. */
MUST_USE result rpc_message_take(grpc_byte_buffer *message, buf *out);

#endif
