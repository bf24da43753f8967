/* tls: the certificate that `lethe init` makes. */
#ifndef LETHE_TLS_H
#define LETHE_TLS_H

#include "base.h"

/* A self-signed certificate (ECDSA P-256, SHA-256, ten years, random serial number) and its key
 * (PKCS#8), both appended as PEM; give key_pem a buffer that is wiped. It is valid for localhost,
 * 127.0.0.1, ::1 and the given names (DNS names or IP addresses, at most 32). It serves as the
 * server's certificate and as what clients trust. E_INVALID: a malformed name. */
MUST_USE result tls_make_certificate(buf *cert_pem, buf *key_pem, const char *const *names,
                                     size_t count);

#endif
