/* rpc_text: sentences on their way from and to people. */
#ifndef LETHE_RPC_TEXT_H
#define LETHE_RPC_TEXT_H

#include "base.h"

enum { RPC_STATUS_MAX_BYTES = 512 };

/* A status sentence fit for the wire: valid UTF-8, cut between characters. The size; out ends in NUL. */
size_t rpc_status_text(const char *message, char out[RPC_STATUS_MAX_BYTES + 1]);
/* gRPC's account of a failed connection as E_UNAVAILABLE that says what to do. */
MUST_USE result rpc_connect_failed(const char *server, const char *account, bool has_ca);

#endif
