/* receipt: canonical JSON (keys sorted, no white space, strings and whole numbers only), signed with
 * Ed25519 over all of it but the signature itself. Checked offline, byte for byte. */
#ifndef LETHE_RECEIPT_H
#define LETHE_RECEIPT_H

#include "ifc.h"
#include "keytree.h"

typedef struct {
    char id[ID_TEXT_BYTES];                  /* of the erasure */
    char tenant[ID_TEXT_BYTES];
    const char *kind;                        /* "document", "user", "tenant" */
    uint64_t items;                          /* documents named; 0: all of the owner or tenant */
    uint64_t epoch;                          /* the tenant's own, visible epoch */
    uint64_t time_ms;
    const char *assurance;                   /* "file", ... */
    uint8_t commitment[HASH_BYTES];          /* hash("erased", salt || target) */
    uint8_t subtree_before[HASH_BYTES], subtree_after[HASH_BYTES];
    uint8_t previous[HASH_BYTES];            /* hash of the tenant's previous receipt; zeros: none */
} receipt_fields;

/* Canonical, signed JSON; no newline at the end. */
MUST_USE result receipt_sign(const receipt_fields *value, const uint8_t public_key[SIGN_PUBLIC_BYTES],
                             const uint8_t secret_key[SIGN_SECRET_BYTES], buf *out);
void receipt_commit(const char *salt_hex, const char *target, uint8_t commitment[HASH_BYTES]);
void receipt_hash(bytes text, uint8_t out[HASH_BYTES]);

typedef struct {
    bool valid;                              /* canonical and correctly signed by the key it names */
    bool trusted;                            /* and that key is the one given */
    char signer[2 * SIGN_PUBLIC_BYTES + 1];  /* hex; "" when unreadable */
    const char *reason;                      /* "" when valid */
} receipt_verdict;
/* Never fails: whatever the bytes are, there is a verdict. trusted_key (32 bytes) may be NULL. One
 * newline at the end is allowed. */
void receipt_verify(bytes text, const uint8_t *trusted_key, receipt_verdict *out);

#endif
