/* receipt: the proof that something was erased, checked offline. Canonical JSON (server/canonical.h), signed with
 * Ed25519 over all of it:
 *
 *   the entry of the tenant's audit log (event, id, kind, items, epoch, commitment, subtree_before, subtree_after,
 *       assurance, residue, requester, tenant, time_ms), member by member
 *   log_index, log_size, log_root, log_time_ms, log_signature   where it stands, and the head it stands under
 *   log_path    the audit path (RFC 6962), hashes one after the other
 *   absence     proof that the keys are not in the tree whose root is subtree_after
 *   status, type, signer, signature
 *
 * The commitment hides what was erased. Its opening (salt and target) is for the requester alone; with it, the
 * verifier checks the absence of the very keys. */
#ifndef LETHE_RECEIPT_H
#define LETHE_RECEIPT_H

#include "audit_log.h"
#include "keytree.h"

enum { RECEIPT_MAX_BYTES = 20 << 20, RECEIPT_TARGET_MAX_BYTES = 128 << 10 };
extern const char RECEIPT_EVENT[];             /* of the log's entry: "erasure" */

typedef struct {
    bytes entry;                               /* as it stands in the log */
    uint64_t index;
    const audit_head *head;
    const merkle_hash *path;
    size_t path_count;
    bytes absence;
} receipt_parts;

/* Canonical, signed JSON; no newline at the end. */
MUST_USE result receipt_make(const receipt_parts *parts, const uint8_t public_key[SIGN_PUBLIC_BYTES],
                             const uint8_t secret_key[SIGN_SECRET_BYTES], buf *out);
/* hash("erased", salt || target) */
void receipt_commit(const char *salt_hex, const char *target, uint8_t commitment[HASH_BYTES]);

/* "document:OWNER/ID,OWNER/ID", "user:NAME/ID", "group:NAME/ID", "tenant:NAME/ID" -> the key nodes. False: none of
 * these, or more than max. */
bool receipt_target_nodes(const char *target, id128 tenant, keytree_node *nodes, size_t max, size_t *count);

typedef struct { const char *salt, *target; } receipt_opening;
typedef struct {
    bool valid;                                /* canonical, proven, correctly signed by the key it names */
    bool trusted;                              /* and that key is the one given */
    bool opened;                               /* the opening fits, and those keys are proven absent */
    char signer[2 * SIGN_PUBLIC_BYTES + 1];    /* hex; "" when unreadable */
    const char *reason;                        /* "" when valid */
} receipt_verdict;
/* Never fails: whatever the bytes are, there is a verdict. trusted_key (32 bytes) and opening may be NULL. One
 * newline at the end is allowed. An opening that does not fit makes it invalid. */
void receipt_verify(bytes text, const uint8_t *trusted_key, const receipt_opening *opening,
                    receipt_verdict *out);

#endif
