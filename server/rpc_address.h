/* rpc_address: what an address is, before gRPC sees it. */
#ifndef LETHE_RPC_ADDRESS_H
#define LETHE_RPC_ADDRESS_H

#include "base.h"

/* "host:port", "[v6]:port" or "unix:/path"; anything else is E_INVALID with words that help.
 * *local: only this machine can be reached by it (loopback, Unix socket). */
MUST_USE result rpc_address_check(const char *address, bool *local);
/* Before listening: E_UNAVAILABLE "address already in use" (and its like, from a trial bind); removes
 * a Unix socket that nobody serves any more. */
MUST_USE result rpc_address_usable(const char *address);

#endif
