/* acl: tenants, users, groups, tokens, grants, quotas -> an identity and a clearance.
 *
 * Everything is loaded at open and served from memory; each change is sealed and durable in acl.mdb
 * before it is visible and holds from the next call on. Records about a principal are sealed under
 * a key derived from that principal's key-tree secret, a tenant's under the tenant's, so destroying
 * those keys erases names, memberships and grants too. acl never sees the key tree: the server
 * passes callbacks (which must not call acl).
 *
 * Threads: every function may be called from any thread (one readers/writer lock inside). Outputs
 * are copies. Names: 1..64 bytes of [a-z0-9._-], first a letter or digit; users and groups of one
 * tenant share one name space; "user:ada", "group:oncall" and plain "ada" are accepted where a name
 * is. */
#ifndef LETHE_ACL_H
#define LETHE_ACL_H

#include "ifc.h"
#include "seal.h"

typedef struct acl acl;

enum { ACL_NAME_MAX_BYTES = 64, ACL_TOKEN_TEXT_BYTES = 64, ACL_GROUPS_MAX = 60 };

typedef enum { ACL_USER = 1, ACL_GROUP = 2 } acl_kind;

typedef struct {
    /* Makes the key-tree node (owner equal to tenant: the tenant's own); durable, idempotent. */
    result (*key_create)(void *ctx, id128 tenant, id128 owner);
    /* The node's secret; E_NOT_FOUND when it has been erased. The all-zero tenant: the system's. */
    result (*key_secret)(void *ctx, id128 tenant, id128 owner, uint8_t secret[KEY_BYTES]);
    void *ctx;
} acl_keys;

/* Limits of one principal (static shares; 0 in a field: unlimited). A principal without its own
 * gets the defaults given at open. */
typedef struct {
    uint64_t documents_max, bytes_max;
    uint32_t requests_per_second, concurrent_answers_max, concurrent_calls_max;
    uint64_t tokens_per_minute;            /* generated and read tokens of answers */
} acl_quota;

typedef struct { const char *path; acl_keys keys; acl_quota quota_default; } acl_options;

/* Records whose keys are gone are dropped at open (an erasure cut off by a crash). */
MUST_USE result acl_open(acl **out, const acl_options *options);
void acl_close(acl **a);                                  /* wipes */

/* ---- identity ------------------------------------------------------------------------------ */
typedef struct {
    bool operator_role;                    /* manages tenants, reads nothing; the ids are zero */
    bool tenant_admin;
    id128 tenant, principal, token;
    char name[ACL_NAME_MAX_BYTES + 1];
} acl_identity;

/* Token text -> identity; unknown, revoked and malformed tokens alike: E_UNAUTHENTICATED, one
 * sentence. Only a keyed hash of a token is stored. */
MUST_USE result acl_authenticate(acl *a, const char *token, acl_identity *out);
/* The caller and all groups it is in, transitively, sorted by id; at most ACL_GROUPS_MAX + 1
 * (E_EXHAUSTED past it: fails closed). For an audience pass a group. */
MUST_USE result acl_principals_of(acl *a, id128 tenant, id128 principal,
                                  id128 out[ACL_GROUPS_MAX + 1], size_t *count);
/* Stores worth looking into for these principals: themselves and the owners that granted something
 * to any of them. Sorted, unique, in the arena. */
MUST_USE result acl_owners_for(acl *a, id128 tenant, const id128 *principals, size_t count,
                               arena *mem, id128 **owners, size_t *owner_count);

/* ---- administration ------------------------------------------------------------------------ */
/* token: text shown once ("lethe_" and 43 base64url characters). The operator has one or more. */
MUST_USE result acl_operator_token_issue(acl *a, char token[ACL_TOKEN_TEXT_BYTES], id128 *token_id);
/* Makes the tenant and its first user, an admin. E_EXISTS. */
MUST_USE result acl_tenant_add(acl *a, const char *name, const char *admin_name, id128 *tenant,
                               id128 *admin);
MUST_USE result acl_tenant_find(acl *a, const char *name, id128 *tenant);
MUST_USE result acl_principal_add(acl *a, id128 tenant, acl_kind kind, const char *name, bool admin,
                                  id128 *out);
/* E_NOT_FOUND. kind may be NULL. Accepts the user:/group: prefixes. */
MUST_USE result acl_find(acl *a, id128 tenant, const char *name, id128 *out, acl_kind *kind);
/* kind may be NULL. A tenant's id gives the tenant's name, with kind 0. */
MUST_USE result acl_name_of(acl *a, id128 principal, char name[ACL_NAME_MAX_BYTES + 1],
                            acl_kind *kind);
/* member may be a group; a cycle is E_INVALID. Adding twice and removing an absent one are fine. */
MUST_USE result acl_member_add(acl *a, id128 tenant, id128 group, id128 member);
MUST_USE result acl_member_remove(acl *a, id128 tenant, id128 group, id128 member);
MUST_USE result acl_groups_of(acl *a, id128 tenant, id128 principal, arena *mem, id128 **groups,
                              size_t *count);             /* direct ones */
MUST_USE result acl_token_issue(acl *a, id128 tenant, id128 user, char token[ACL_TOKEN_TEXT_BYTES],
                                id128 *token_id);
/* The token must belong to this tenant (and to user unless that is zero): else E_NOT_FOUND. The
 * zero tenant revokes the operator's. */
MUST_USE result acl_token_revoke(acl *a, id128 tenant, id128 user, id128 token_id);

/* ---- grants: an index of who shared what with whom; the labels in the stores decide -------- */
typedef struct { id128 owner, document, grantee; } acl_grant;
MUST_USE result acl_grant_add(acl *a, id128 tenant, acl_grant grant);      /* idempotent */
MUST_USE result acl_grant_remove(acl *a, id128 tenant, acl_grant grant);   /* absent is fine */
/* All grants that match every non-zero field of pattern. */
MUST_USE result acl_grants(acl *a, id128 tenant, acl_grant pattern, arena *mem, acl_grant **out,
                           size_t *count);

/* ---- quotas -------------------------------------------------------------------------------- */
MUST_USE result acl_quota_get(acl *a, id128 tenant, id128 principal, acl_quota *out);
MUST_USE result acl_quota_set(acl *a, id128 tenant, id128 principal, const acl_quota *quota);
/* Admission of one call / one answer: counts against this principal alone (zero: the operator, with
 * the defaults). E_EXHAUSTED says which of one's own limits and when to try again. Each admit that
 * succeeded is paired with one leave. A call is charged to requests_per_second; an answer is
 * admitted on top of its call and is not. */
typedef enum { ACL_CALL, ACL_ANSWER } acl_share;
MUST_USE result acl_admit(acl *a, id128 principal, acl_share share, uint64_t now_ms);
void acl_leave(acl *a, id128 principal, acl_share share);
MUST_USE result acl_tokens_take(acl *a, id128 principal, uint64_t tokens, uint64_t now_ms);

/* ---- backup -------------------------------------------------------------------------------- */
/* A consistent copy of acl.mdb to a path that must not exist. */
MUST_USE result acl_copy(acl *a, const char *path);
/* Of an older copy: revokes every token, the operator's too, and ends every membership, durably. */
MUST_USE result acl_distrust(acl *a);
bool acl_is_admin(acl *a, id128 tenant, id128 principal);

/* ---- erasure ------------------------------------------------------------------------------- */
/* Fence: its tokens stop working, it resolves to nothing, from the return on (memory only; the
 * intent makes it durable). Only acl_grants still tells its grants. Its name stays taken until
 * acl_drop. principal zero: the whole tenant. */
MUST_USE result acl_fence(acl *a, id128 tenant, id128 principal);
/* Removes its records, memberships, tokens and grants (its own and those made to it) durably. Works
 * when the keys are gone; idempotent. */
MUST_USE result acl_drop(acl *a, id128 tenant, id128 principal);
/* Visits all live principals of a tenant (zero: of all tenants). */
MUST_USE result acl_each(acl *a, id128 tenant,
                         result (*visit)(void *ctx, id128 tenant, id128 principal, acl_kind kind),
                         void *ctx);

#endif
