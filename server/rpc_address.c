#include "rpc_address.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { HOST_MAX_BYTES = 255 };

static bool is_unix(const char *address)
{
    return strncmp(address, "unix:", 5) == 0;
}

/* The path of "unix:PATH" or "unix:///PATH". */
static const char *unix_path(const char *address)
{
    const char *path = address + 5;
    return strncmp(path, "//", 2) == 0 ? path + 2 : path;
}

static result split(const char *address, char host[HOST_MAX_BYTES + 1], const char **port)
{
    const char *colon = strrchr(address, ':');
    const char *start = address, *end = colon;
    if (colon == NULL) goto malformed;
    if (address[0] == '[') {
        start++;
        end = colon - 1;
        if (*end != ']') goto malformed;
    } else if (memchr(address, ':', (size_t)(colon - address)) != NULL) {
        goto malformed;
    }
    if (end <= start || (size_t)(end - start) > HOST_MAX_BYTES) goto malformed;
    for (const char *c = start; c < end; c++) {
        if (!isalnum((unsigned char)*c) && strchr(start > address ? ".:%" : ".-_", *c) == NULL)
            goto malformed;
    }
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = '\0';
    *port = colon + 1;
    size_t digits = strspn(*port, "0123456789");
    if (digits == 0 || digits > 5 || (*port)[digits] != '\0' || atoi(*port) > 65535) goto malformed;
    return OK;
malformed:
    return fail(E_INVALID, "an address reads HOST:PORT, [IPV6]:PORT or unix:/PATH");
}

/* Names other than "localhost" are never taken for this machine: a resolver may say anything. */
static bool is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (strcasecmp(host, "localhost") == 0) return true;
    if (inet_pton(AF_INET, host, &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

result rpc_address_check(const char *address, bool *local)
{
    *local = false;
    if (address == NULL) return fail(E_INVALID, "no address was given");
    if (is_unix(address)) {
        size_t size = strlen(unix_path(address));
        if (size == 0 || size >= sizeof((struct sockaddr_un *)0)->sun_path)
            return fail(E_INVALID,
                        "the path of a Unix socket has 1 to 107 bytes; this one has %zu", size);
        *local = true;
        return OK;
    }
    char host[HOST_MAX_BYTES + 1];
    const char *port;
    TRY(split(address, host, &port));
    *local = is_loopback(host);
    return OK;
}

static result unix_usable(const char *path)
{
    struct stat st;
    if (lstat(path, &st) != 0) return OK;
    if (!S_ISSOCK(st.st_mode))
        return fail(E_UNAVAILABLE, "address already in use: the path exists and is no socket");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memcpy(a.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return fail_errno("socket");
    int rc = connect(fd, (const struct sockaddr *)&a, sizeof a);
    int saved = errno;
    close(fd);
    if (rc == 0 || saved != ECONNREFUSED)
        return fail(E_UNAVAILABLE, "address already in use: a server answers on this socket");
    if (unlink(path) != 0) return fail_errno("removing the old socket");
    return OK;
}

/* Binds and lets go again: gRPC itself only says that it could not. */
result rpc_address_usable(const char *address)
{
    if (is_unix(address)) return unix_usable(unix_path(address));
    char host[HOST_MAX_BYTES + 1];
    const char *port;
    TRY(split(address, host, &port));
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(host, port, &hints, &list);
    if (rc != 0) return fail(E_UNAVAILABLE, "the listen address: %s", gai_strerror(rc));
    result r = OK;
    size_t bound = 0;
    for (const struct addrinfo *a = list; a != NULL && is_ok(r); a = a->ai_next) {
        int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd < 0) continue;
        int on = 1;
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (a->ai_family == AF_INET6) (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on,
                                                       sizeof on);
        if (bind(fd, a->ai_addr, a->ai_addrlen) == 0) {
            bound++;
        } else if (errno == EADDRINUSE) {
            r = fail(E_UNAVAILABLE, "address already in use: port %s", port);
        } else if (errno == EACCES) {
            r = fail(E_UNAVAILABLE, "not permitted to listen on port %s", port);
        }
        close(fd);
    }
    freeaddrinfo(list);
    if (is_ok(r) && bound == 0)
        r = fail(E_UNAVAILABLE, "the listen address does not belong to this machine");
    return r;
}
