/* The memory image of acl.mdb, and how its parts hang together.
 *
 * Locks, in this order:
 *   change_lock  one change at a time: held over the commit to disk, so that readers never wait
 *                for an fsync
 *   lock         readers/writers: everything below; written only under change_lock as well
 *   admit_lock   the use counters (and, in one mutant, the cache); taken with lock held to read */
#ifndef LETHE_ACL_STATE_H
#define LETHE_ACL_STATE_H

#include "mutant.h"
#include "record.h"

#include <pthread.h>

typedef struct { uint64_t level, at_ms; bool started; } acl_bucket;
typedef struct { uint32_t calls, answers; acl_bucket requests, tokens; } acl_use;

typedef struct acl_grant_node acl_grant_node;
/* A grant hangs in three chains at once. */
enum { CHAIN_DOCUMENT, CHAIN_OWNER, CHAIN_GRANTEE, CHAIN_COUNT };
struct acl_grant_node {
    acl_grant grant;
    id128 tenant;
    struct { acl_grant_node *next, *prev; } links[CHAIN_COUNT];
};

typedef struct { id128 owner; size_t count; } acl_granter;

typedef struct {
    id128 id, tenant;
    bool fenced;
    acl_profile profile;
    acl_grant_node *made, *received;      /* heads of CHAIN_OWNER and CHAIN_GRANTEE */
    acl_granter *granters;                /* owners of what was received, sorted, with counts */
    size_t granter_count, granter_capacity;
    acl_use use;                          /* admit_lock */
    acl_ids cached;                       /* mutant membership_cached only; admit_lock */
} acl_principal;

typedef struct { id128 id; bool fenced; char name[ACL_NAME_MAX_BYTES + 1]; } acl_tenant;

/* One live token; user zero: the operator's. Names its user by id, so that it can dangle safely. */
typedef struct { id128 id, tenant, user; uint8_t hash[HASH_BYTES]; } acl_token_entry;

struct acl {
    pthread_mutex_t change_lock;
    pthread_rwlock_t lock;
    pthread_mutex_t admit_lock;
    kv *db;
    acl_keys keys;
    acl_quota quota_default;
    uint8_t *index_key, *token_key;       /* secure memory; derived from the system's secret */
    acl_map tenants;                      /* id -> acl_tenant, owned */
    acl_map principals;                   /* id -> acl_principal, owned */
    acl_map names;                        /* H(tenant, name) -> acl_principal or acl_tenant */
    acl_map tokens_by_hash, tokens_by_id; /* -> acl_token_entry, owned by the second */
    acl_map documents;                    /* document -> head of its CHAIN_DOCUMENT */
    acl_tokens operator_tokens;
    acl_use operator_use, shared_use;     /* the second: mutant quota_shared only */
};

static inline acl_vault acl_vault_of(const acl *a) { return (acl_vault){&a->keys, a->index_key}; }

/* The one answer for absent, denied and deleted. */
MUST_USE result acl_not_found(void);

/* Lookups (lock held). A fenced principal is not live; NULL unless it belongs to this tenant. */
acl_principal *acl_state_live(const acl *a, id128 tenant, id128 principal);
acl_tenant *acl_state_live_tenant(const acl *a, id128 tenant);
/* By name: tenant zero looks among tenants. The name must be valid. Fenced ones too. */
void *acl_state_named(const acl *a, id128 tenant, const char *name);

/* Memory changes (lock held for writing, or nobody else there yet). They cannot fail. */
acl_tenant *acl_state_add_tenant(acl *a, id128 id, const char *name);
void acl_state_remove_tenant(acl *a, acl_tenant *t);
/* Takes the profile over (moved) and registers name and tokens. */
acl_principal *acl_state_add_principal(acl *a, id128 tenant, id128 id, acl_profile *profile);
/* With its tokens and all its grants; memberships of others in it are the caller's. */
void acl_state_remove_principal(acl *a, acl_principal *p);
void acl_state_add_token(acl *a, id128 tenant, id128 user, const acl_token *token);
void acl_state_remove_token(acl *a, id128 token);
acl_grant_node *acl_state_find_grant(const acl *a, id128 tenant, const acl_grant *grant);
/* Owner and grantee exist; the grant does not yet. */
void acl_state_add_grant(acl *a, id128 tenant, const acl_grant *grant);
void acl_state_remove_grant(acl *a, acl_grant_node *node);
void acl_state_free(acl *a);              /* everything in memory, wiped */

/* start and every live group reachable from it; sorted, unique. E_EXHAUSTED past the cap. */
MUST_USE result acl_state_closure(const acl *a, id128 tenant, const id128 *start,
                                  size_t start_count, id128 out[ACL_GROUPS_MAX + 1],
                                  size_t *count);

/* load.c: reads the whole file into memory; drops what was erased. */
MUST_USE result acl_load(acl *a);
/* grant.c: the record that a grant is kept in. */
acl_record_id acl_grant_record(id128 tenant, const acl_grant *grant);

#endif
