/* What a connection's TLS leaves in memory while the connection stays open: the last record received, opened in place
 * (OpenSSL's read buffer), and the last bytes sent, gathered before they are sealed (gRPC's). gRPC 1.51 offers no way to
 * have either wiped, so lethed stands between it and OpenSSL, by defining the two functions that gRPC's library calls:
 *
 *   SSL_CTX_new   asks for SSL_MODE_RELEASE_BUFFERS: an idle connection's buffer is freed, and so wiped (free_wipes.c)
 *   SSL_write     wipes what it has sealed. gRPC passes a buffer of its own (ssl_transport_security.cc, DoSslWrite),
 *                 which it fills anew before it calls again; nobody else in lethed calls it */
#include "base.h"
#include "mutant.h"

#include <dlfcn.h>
#include <openssl/ssl.h>

static void *behind(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    ASSERT(found != NULL);
    return found;
}

SSL_CTX *SSL_CTX_new(const SSL_METHOD *method)
{
    SSL_CTX *(*make)(const SSL_METHOD *);
    *(void **)&make = behind("SSL_CTX_new");
    SSL_CTX *made = make(method);
    if (made != NULL && !MUTANT(tls_buffers_kept)) SSL_CTX_set_mode(made, SSL_MODE_RELEASE_BUFFERS);
    return made;
}

int SSL_write(SSL *ssl, const void *plain, int size)
{
    static int (*known)(SSL *, const void *, int);
    int (*write_sealed)(SSL *, const void *, int) = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (write_sealed == NULL) {
        *(void **)&write_sealed = behind("SSL_write");
        __atomic_store_n(&known, write_sealed, __ATOMIC_RELAXED);
    }
    int wrote = write_sealed(ssl, plain, size);
    if (wrote > 0 && wrote == size && !MUTANT(tls_buffers_kept)) mem_wipe((void *)(uintptr_t)plain, (size_t)size);
    return wrote;
}
