/* Opening, and everything that only reads: identity, groups, names. */
#include "state.h"

#include <stdlib.h>
#include <string.h>

enum { TOKEN_CHARS = 49 };                  /* "lethe_" and 43 of base64url */

/* ---- open and close ------------------------------------------------------------------------ */

static void locks_open(acl *a)
{
    pthread_rwlockattr_t attr;
    ASSERT(pthread_rwlockattr_init(&attr) == 0);
    /* Readers never nest, and a stream of them must not keep a revocation waiting. */
    ASSERT(pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) == 0);
    ASSERT(pthread_rwlock_init(&a->lock, &attr) == 0);
    pthread_rwlockattr_destroy(&attr);
    ASSERT(pthread_mutex_init(&a->change_lock, NULL) == 0);
    ASSERT(pthread_mutex_init(&a->admit_lock, NULL) == 0);
}

static result derive_keys(acl *a)
{
    uint8_t *secret = secure_alloc(KEY_BYTES);
    a->index_key = secure_alloc(KEY_BYTES);
    a->token_key = secure_alloc(KEY_BYTES);
    result r = a->keys.key_secret(a->keys.ctx, (id128){{0}}, (id128){{0}}, secret);
    if (is_ok(r)) {
        key_derive(secret, "acl index", bytes_of(NULL, 0), a->index_key);
        key_derive(secret, "acl token", bytes_of(NULL, 0), a->token_key);
    }
    secure_free(secret);
    return r;
}

result acl_open(acl **out, const acl_options *options)
{
    *out = NULL;
    acl *a = mem_alloc(sizeof *a);
    a->keys = options->keys;
    a->quota_default = options->quota_default;
    locks_open(a);
    acl_map *maps[] = {&a->tenants, &a->principals, &a->names, &a->tokens_by_hash,
                       &a->tokens_by_id, &a->documents};
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++)
        acl_map_init(maps[i]);
    result r;
    TRY_TO(r, derive_keys(a), failed);
    TRY_TO(r, kv_open(&a->db, options->path, &(kv_options){.create = true}), failed);
    TRY_TO(r, acl_load(a), failed);
    *out = a;
    return OK;
failed:
    acl_close(&a);
    return r;
}

void acl_close(acl **handle)
{
    acl *a = *handle;
    if (a == NULL)
        return;
    if (a->db != NULL)
        kv_close(&a->db);
    acl_state_free(a);
    secure_free(a->index_key);
    secure_free(a->token_key);
    pthread_mutex_destroy(&a->admit_lock);
    pthread_mutex_destroy(&a->change_lock);
    pthread_rwlock_destroy(&a->lock);
    mem_wipe(a, sizeof *a);
    mem_free(a);
    *handle = NULL;
}

/* ---- identity ------------------------------------------------------------------------------ */

static bool token_shaped(const char *token)
{
    if (token == NULL || strnlen(token, TOKEN_CHARS + 1) != TOKEN_CHARS ||
        memcmp(token, "lethe_", 6) != 0)
        return false;
    /* base64url. A table, for no branch shall depend on a character (tests/bench/bench_timing.c). */
    static const bool shaped[256] = {
        ['a'] = 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        ['A'] = 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        ['0'] = 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, ['-'] = 1, ['_'] = 1};
    unsigned good = 1;
    for (size_t i = 6; i < TOKEN_CHARS; i++) good &= (unsigned)shaped[(uint8_t)token[i]];
    return good != 0;
}

/* lock held. */
static bool identify(const acl *a, const uint8_t hash[HASH_BYTES], acl_identity *out)
{
    id128 head;
    memcpy(head.b, hash, ID_BYTES);
    const acl_token_entry *entry = acl_map_get(&a->tokens_by_hash, head);
    if (entry == NULL || !secure_equal(entry->hash, hash, HASH_BYTES))
        return false;
    if (id_is_zero(entry->user)) {
        *out = (acl_identity){.operator_role = true, .token = entry->id, .name = "operator"};
        return true;
    }
    const acl_principal *p = acl_state_live(a, entry->tenant, entry->user);
    if (p == NULL)
        return false;
    *out = (acl_identity){.tenant_admin = p->profile.admin, .tenant = p->tenant,
                          .principal = p->id, .token = entry->id};
    memcpy(out->name, p->profile.name, sizeof out->name);
    return true;
}

result acl_authenticate(acl *a, const char *token, acl_identity *out)
{
    *out = (acl_identity){0};
    bool known = false;
    if (token_shaped(token)) {
        uint8_t hash[HASH_BYTES];
        hash_keyed(a->token_key, "token", bytes_of(token, TOKEN_CHARS), hash);
        pthread_rwlock_rdlock(&a->lock);
        known = identify(a, hash, out);
        pthread_rwlock_unlock(&a->lock);
        mem_wipe(hash, sizeof hash);
    }
    return known ? OK : fail(E_UNAUTHENTICATED, "the token is missing, unknown or revoked");
}

/* The mutant's memory: the first answer for a principal, served for ever after. lock held. */
static result closure_cached(acl *a, acl_principal *p, id128 out[ACL_GROUPS_MAX + 1], size_t *count)
{
    result r = OK;
    pthread_mutex_lock(&a->admit_lock);
    if (p->cached.count == 0) {
        r = acl_state_closure(a, p->tenant, &p->id, 1, out, count);
        for (size_t i = 0; i < *count; i++)
            acl_ids_add(&p->cached, out[i]);
    }
    *count = p->cached.count;
    if (*count > 0)
        memcpy(out, p->cached.ids, *count * sizeof *out);
    pthread_mutex_unlock(&a->admit_lock);
    return r;
}

result acl_principals_of(acl *a, id128 tenant, id128 principal, id128 out[ACL_GROUPS_MAX + 1],
                         size_t *count)
{
    *count = 0;
    result r;
    pthread_rwlock_rdlock(&a->lock);
    acl_principal *p = acl_state_live(a, tenant, principal);
    if (p == NULL)
        r = acl_not_found();
    else if (MUTANT(membership_cached))
        r = closure_cached(a, p, out, count);
    else
        r = acl_state_closure(a, tenant, &principal, 1, out, count);
    pthread_rwlock_unlock(&a->lock);
    return r;
}

/* ---- names and groups ---------------------------------------------------------------------- */

result acl_tenant_find(acl *a, const char *name, id128 *tenant)
{
    result r = OK;
    if (!acl_name_valid(name))
        return acl_not_found();
    pthread_rwlock_rdlock(&a->lock);
    const acl_tenant *t = acl_state_named(a, (id128){{0}}, name);
    if (t != NULL && !t->fenced)
        *tenant = t->id;
    else
        r = acl_not_found();
    pthread_rwlock_unlock(&a->lock);
    return r;
}

result acl_find(acl *a, id128 tenant, const char *name, id128 *out, acl_kind *kind)
{
    acl_kind wanted;
    name = acl_name_strip(name, &wanted);
    /* Under the zero tenant live the tenants' own names, which are no principals. */
    if (!acl_name_valid(name) || id_is_zero(tenant))
        return acl_not_found();
    result r = OK;
    pthread_rwlock_rdlock(&a->lock);
    const acl_principal *p = acl_state_named(a, tenant, name);
    if (p == NULL || p->fenced || (wanted != 0 && wanted != p->profile.kind)) {
        r = acl_not_found();
    } else {
        *out = p->id;
        if (kind != NULL)
            *kind = p->profile.kind;
    }
    pthread_rwlock_unlock(&a->lock);
    return r;
}

result acl_name_of(acl *a, id128 principal, char name[ACL_NAME_MAX_BYTES + 1], acl_kind *kind)
{
    result r = OK;
    acl_kind found = (acl_kind)0;
    pthread_rwlock_rdlock(&a->lock);
    const acl_principal *p = acl_map_get(&a->principals, principal);
    const acl_tenant *t = acl_state_live_tenant(a, principal);
    if (p != NULL && !p->fenced) {
        memcpy(name, p->profile.name, sizeof p->profile.name);
        found = p->profile.kind;
    } else if (t != NULL) {
        memcpy(name, t->name, sizeof t->name);
    } else {
        r = acl_not_found();
    }
    if (is_ok(r) && kind != NULL)
        *kind = found;
    pthread_rwlock_unlock(&a->lock);
    return r;
}

result acl_groups_of(acl *a, id128 tenant, id128 principal, arena *mem, id128 **groups,
                     size_t *count)
{
    *groups = NULL;
    *count = 0;
    id128 *found = arena_alloc_array(mem, ACL_GROUPS_MAX, sizeof *found);
    if (found == NULL)
        return arena_check(mem);
    pthread_rwlock_rdlock(&a->lock);
    const acl_principal *p = acl_state_live(a, tenant, principal);
    size_t n = 0;
    for (size_t i = 0; p != NULL && i < p->profile.groups.count; i++)
        if (acl_state_live(a, tenant, p->profile.groups.ids[i]) != NULL)
            found[n++] = p->profile.groups.ids[i];
    pthread_rwlock_unlock(&a->lock);
    if (p == NULL)
        return acl_not_found();
    *groups = found;
    *count = n;
    return OK;
}

/* ---- visiting ------------------------------------------------------------------------------ */

typedef struct { id128 tenant, principal; acl_kind kind; } visited;

static int by_tenant_and_id(const void *x, const void *y)
{
    const visited *a = x, *b = y;
    int order = id_compare(a->tenant, b->tenant);
    return order != 0 ? order : id_compare(a->principal, b->principal);
}

result acl_each(acl *a, id128 tenant,
                result (*visit)(void *ctx, id128 tenant, id128 principal, acl_kind kind), void *ctx)
{
    /* A copy first: the visitor may call acl again, and locks do not nest. */
    pthread_rwlock_rdlock(&a->lock);
    visited *all = mem_alloc_array(a->principals.count, sizeof *all);
    size_t count = 0;
    const acl_principal *p;
    for (size_t at = 0; (p = acl_map_next(&a->principals, &at)) != NULL;)
        if (!p->fenced && (id_is_zero(tenant) || id_equal(p->tenant, tenant)))
            all[count++] = (visited){p->tenant, p->id, p->profile.kind};
    pthread_rwlock_unlock(&a->lock);
    if (count > 1)
        qsort(all, count, sizeof *all, by_tenant_and_id);
    result r = OK;
    for (size_t i = 0; i < count && is_ok(r); i++)
        r = visit(ctx, all[i].tenant, all[i].principal, all[i].kind);
    mem_free(all);
    return r;
}
