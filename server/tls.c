#include "tls.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>

enum { TLS_NAMES_MAX = 32, TLS_NAME_MAX_BYTES = 253, TLS_DAYS = 3652 };

static result openssl_failed(const char *what)
{
    return fail(E_INTERNAL, "OpenSSL could not make the certificate's %s", what);
}

/* Letters, digits, hyphens, dots, and a leading "*." label: no character has a meaning in the
 * extension's syntax. */
static bool is_dns_name(const char *name)
{
    size_t size = strlen(name);
    if (size == 0 || size > TLS_NAME_MAX_BYTES) return false;
    size_t at = strncmp(name, "*.", 2) == 0 ? 2 : 0;
    if (name[at] == '\0' || name[at] == '.' || name[at] == '-') return false;
    for (; at < size; at++) {
        if (!isalnum((unsigned char)name[at]) && name[at] != '-' && name[at] != '.') return false;
    }
    return true;
}

static result names_join(buf *out, const char *const *names, size_t count)
{
    if (count > TLS_NAMES_MAX)
        return fail(E_INVALID, "a certificate takes at most %d further names", TLS_NAMES_MAX);
    buf_append_str(out, "DNS:localhost,IP:127.0.0.1,IP:::1");
    for (size_t i = 0; i < count; i++) {
        struct in6_addr address;
        bool ip = inet_pton(AF_INET, names[i], &address) == 1 || inet_pton(AF_INET6, names[i],
                                                                           &address) == 1;
        if (!ip && !is_dns_name(names[i]))
            return fail(E_INVALID,
                "name %zu for the certificate is neither a host name nor an address", i + 1);
        buf_printf(out, ",%s:%s", ip ? "IP" : "DNS", names[i]);
    }
    return buf_check(out);
}

static result extension_add(X509 *cert, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    if (extension == NULL) return openssl_failed("extensions");
    int added = X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
    return added == 1 ? OK : openssl_failed("extensions");
}

/* 127 random bits, positive and never zero, as RFC 5280 (4.1.2.2) wants it. */
static result serial_set(X509 *cert)
{
    uint8_t random[16];
    random_bytes(random, sizeof random);
    random[0] = (uint8_t)((random[0] & 0x7f) | 0x40);
    BIGNUM *number = BN_bin2bn(random, sizeof random, NULL);
    bool done = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL;
    BN_free(number);
    return done ? OK : openssl_failed("serial number");
}

static result certificate_fill(X509 *cert, EVP_PKEY *key, const char *names)
{
    X509_NAME *subject = X509_get_subject_name(cert);
    if (X509_set_version(cert, X509_VERSION_3) != 1 ||
        X509_gmtime_adj(X509_getm_notBefore(cert), -3600) == NULL ||   /* clocks differ a little */
        X509_time_adj_ex(X509_getm_notAfter(cert), TLS_DAYS, 0, NULL) == NULL ||
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const uint8_t *)"lethe", -1, -1,
                                   0) != 1 ||
        X509_set_issuer_name(cert, subject) != 1 || X509_set_pubkey(cert, key) != 1)
        return openssl_failed("fields");
    TRY(serial_set(cert));
    TRY(extension_add(cert, NID_subject_alt_name, names));
    TRY(extension_add(cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0"));
    TRY(extension_add(cert, NID_key_usage, "critical,digitalSignature,keyCertSign"));
    TRY(extension_add(cert, NID_ext_key_usage, "serverAuth"));
    TRY(extension_add(cert, NID_subject_key_identifier, "hash"));
    return X509_sign(cert, key, EVP_sha256()) > 0 ? OK : openssl_failed("signature");
}

static result pem_append(buf *out, BIO *pem)
{
    char *data = NULL;
    long size = BIO_get_mem_data(pem, &data);
    buf_append(out, data, (size_t)size);
    mem_wipe(data, (size_t)size);
    return buf_check(out);
}

result tls_make_certificate(buf *cert_pem, buf *key_pem, const char *const *names, size_t count)
{
    buf joined;
    buf_init(&joined, 16384);
    X509 *cert = X509_new();
    EVP_PKEY *key = EVP_EC_gen("P-256");
    BIO *cert_out = BIO_new(BIO_s_mem());
    BIO *key_out = BIO_new(BIO_s_mem());
    result r = OK;
    if (cert == NULL || key == NULL || cert_out == NULL || key_out == NULL) {
        r = openssl_failed("key");
        goto out;
    }
    TRY_TO(r, names_join(&joined, names, count), out);
    TRY_TO(r, certificate_fill(cert, key, (const char *)joined.data), out);
    if (PEM_write_bio_X509(cert_out, cert) != 1 ||
        PEM_write_bio_PKCS8PrivateKey(key_out, key, NULL, NULL, 0, NULL, NULL) != 1) {
        r = openssl_failed("PEM text");
        goto out;
    }
    TRY_TO(r, pem_append(cert_pem, cert_out), out);
    r = pem_append(key_pem, key_out);
out:
    BIO_free(cert_out);
    BIO_free(key_out);
    EVP_PKEY_free(key);
    X509_free(cert);
    buf_free(&joined);
    return r;
}
