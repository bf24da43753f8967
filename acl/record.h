/* What acl.mdb holds, and its sealing.
 *
 *   key    H(system; kind, tenant, owner, document, grantee)            32 bytes, unreadable
 *   value  prefix(34) | tag(16) | seal(key(owner), prefix | key; body)
 *   prefix version u8 = 1 | kind u8 | tenant(16) | owner(16)
 *
 * The prefix is clear because it says which key-tree node opens the body; ids are random and tell
 * nothing. The tag (keyed by the system) authenticates prefix and key even when the owner's key is
 * gone: only an erased record is dropped at open, never a damaged one. */
#ifndef LETHE_ACL_RECORD_H
#define LETHE_ACL_RECORD_H

#include "acl.h"
#include "kv.h"
#include "table.h"

typedef enum {
    ACL_RECORD_OPERATOR = 1,      /* tenant and owner zero; body: tokens */
    ACL_RECORD_TENANT = 2,        /* owner = tenant; body: name */
    ACL_RECORD_PRINCIPAL = 3,     /* owner = the principal; body: profile */
    ACL_RECORD_GRANT = 4          /* owner = the document's; body: document, grantee */
} acl_record_kind;

enum { ACL_TOKENS_MAX = 256, ACL_RECORD_KEY_BYTES = HASH_BYTES, ACL_PREFIX_BYTES = 34,
       ACL_TAG_BYTES = 16, ACL_BODY_MAX_BYTES = 64 * 1024 };

typedef struct { acl_record_kind kind; id128 tenant, owner, document, grantee; } acl_record_id;

/* Tokens by id, sorted; only keyed hashes of their texts. */
typedef struct { id128 id; uint8_t hash[HASH_BYTES]; } acl_token;
typedef struct { acl_token *items; size_t count, capacity; } acl_tokens;
void acl_tokens_add(acl_tokens *t, const acl_token *token);
bool acl_tokens_remove(acl_tokens *t, id128 id);
const acl_token *acl_tokens_find(const acl_tokens *t, id128 id);
void acl_tokens_copy(acl_tokens *out, const acl_tokens *from);
void acl_tokens_free(acl_tokens *t);                       /* wipes */

/* Everything durable about one principal. */
typedef struct {
    acl_kind kind;
    bool admin, quota_own;
    acl_quota quota;                                       /* zero unless quota_own */
    char name[ACL_NAME_MAX_BYTES + 1];
    acl_ids groups;                                        /* direct ones */
    acl_tokens tokens;
} acl_profile;
void acl_profile_copy(acl_profile *out, const acl_profile *from);
void acl_profile_free(acl_profile *p);                     /* wipes */

bool acl_name_valid(const char *name);
/* Past a "user:" or "group:" prefix; kind says which, 0 without one. */
const char *acl_name_strip(const char *name, acl_kind *kind);

/* Bodies. Decoders accept exactly what the encoders write: E_DATA_LOSS otherwise, with nothing left
 * to free. */
void acl_profile_encode(const acl_profile *p, buf *out);
MUST_USE result acl_profile_decode(bytes body, acl_profile *out);
void acl_tokens_encode(const acl_tokens *t, buf *out);
MUST_USE result acl_tokens_decode(bytes body, acl_tokens *out);
void acl_tenant_encode(const char *name, buf *out);
MUST_USE result acl_tenant_decode(bytes body, char name[ACL_NAME_MAX_BYTES + 1]);
void acl_grant_encode(const acl_grant *grant, buf *out);
MUST_USE result acl_grant_decode(bytes body, acl_grant *out);      /* owner is left alone */

/* The keys that records need: where secrets come from, and the system's index key. */
typedef struct { const acl_keys *keys; const uint8_t *index_key; } acl_vault;

void acl_record_key(acl_vault v, const acl_record_id *id, uint8_t key[ACL_RECORD_KEY_BYTES]);
MUST_USE result acl_record_put(acl_vault v, kv_txn *txn, const acl_record_id *id, bytes body);
MUST_USE result acl_record_delete(acl_vault v, kv_txn *txn, const acl_record_id *id);
MUST_USE result acl_record_put_profile(acl_vault v, kv_txn *txn, id128 tenant, id128 principal,
                                       const acl_profile *profile);

/* Checks tag and prefix; id gets kind, tenant and owner; sealed is borrowed from value. */
MUST_USE result acl_record_parse(acl_vault v, bytes key, bytes value, acl_record_id *id,
                                 bytes *sealed);
/* E_NOT_FOUND: the owner's key is gone. Appends the body to out. */
MUST_USE result acl_record_open(acl_vault v, bytes key, const acl_record_id *id, bytes sealed,
                                buf *body);

#endif
