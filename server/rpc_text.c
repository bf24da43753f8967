#include "rpc_text.h"

#include <string.h>

size_t rpc_status_text(const char *message, char out[RPC_STATUS_MAX_BYTES + 1])
{
    bytes text = bytes_str(message ? message : "");
    size_t size = 0;
    for (size_t at = 0; at < text.size;) {
        uint8_t character[4];
        size_t more = utf8_encode(utf8_next(text, &at), character);
        if (size + more > RPC_STATUS_MAX_BYTES) break;
        memcpy(out + size, character, more);
        size += more;
    }
    out[size] = '\0';
    return size;
}

result rpc_connect_failed(const char *server, const char *account, bool has_ca)
{
    static const char before_reason[] = "last error: ";
    const char *last = strstr(account, before_reason);
    char why[256];
    const char *from = last ? last + sizeof before_reason - 1 : account;
    size_t size = strnlen(from, sizeof why - 1);
    memcpy(why, from, size);
    why[size] = '\0';
    if (strcasestr(why, "verify failed") || strcasestr(why, "verify_failed"))
        return fail(E_UNAVAILABLE,
                    "cannot reach %s: its certificate is not trusted: pass its own with --ca",
                    server);
    if (strcasestr(why, "peer name") || strcasestr(why, "hostname verification"))
        return fail(E_UNAVAILABLE, "cannot reach %s: its certificate was made for other names",
                    server);
    return fail(E_UNAVAILABLE, "cannot reach %s: %s%s", server, why,
                has_ca ? "" : " (a server with TLS needs --ca)");
}
