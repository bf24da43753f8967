/* Administration. Every change goes the same way, under change_lock: check, make the key-tree node,
 * seal a changed copy, commit it durably, and only then swap it into memory. */
#include "state.h"

#include <string.h>

static result bad_name(void)
{
    return fail(E_INVALID, "a name has 1 to %d of a-z 0-9 . _ - and begins with a letter or digit",
                ACL_NAME_MAX_BYTES);
}

static result not_found_if_erased(result r)
{
    return r.code == E_NOT_FOUND ? acl_not_found() : r;
}

/* ---- the common path ----------------------------------------------------------------------- */

/* Makes draft the principal's profile, on disk and then in memory; draft is emptied either way.
 * change_lock held. added: a token that is new in it, or NULL; removed: the id of one that goes. */
static result profile_change(acl *a, acl_principal *p, acl_profile *draft, const acl_token *added,
                             const id128 *removed)
{
    kv_txn *txn = NULL;
    result r;
    TRY_TO(r, kv_begin(a->db, true, &txn), out);
    TRY_TO(r, acl_record_put_profile(acl_vault_of(a), txn, p->tenant, p->id, draft), out);
    TRY_TO(r, kv_commit(&txn), out);
    pthread_rwlock_wrlock(&a->lock);
    acl_profile old = p->profile;
    p->profile = *draft;
    *draft = old;
    mem_wipe(&old, sizeof old);
    if (added != NULL)
        acl_state_add_token(a, p->tenant, p->id, added);
    if (removed != NULL && !MUTANT(revoked_token_works))
        acl_state_remove_token(a, *removed);
    pthread_rwlock_unlock(&a->lock);
out:
    kv_abort(&txn);
    acl_profile_free(draft);
    return not_found_if_erased(r);
}

static result operator_change(acl *a, acl_tokens *draft, const acl_token *added,
                              const id128 *removed)
{
    acl_record_id id = {.kind = ACL_RECORD_OPERATOR};
    kv_txn *txn = NULL;
    buf body;
    buf_init(&body, ACL_BODY_MAX_BYTES);
    acl_tokens_encode(draft, &body);
    result r;
    TRY_TO(r, buf_check(&body), out);
    TRY_TO(r, kv_begin(a->db, true, &txn), out);
    TRY_TO(r, acl_record_put(acl_vault_of(a), txn, &id, buf_bytes(&body)), out);
    TRY_TO(r, kv_commit(&txn), out);
    pthread_rwlock_wrlock(&a->lock);
    acl_tokens old = a->operator_tokens;
    a->operator_tokens = *draft;
    *draft = old;
    if (added != NULL)
        acl_state_add_token(a, (id128){{0}}, (id128){{0}}, added);
    if (removed != NULL && !MUTANT(revoked_token_works))
        acl_state_remove_token(a, *removed);
    pthread_rwlock_unlock(&a->lock);
out:
    kv_abort(&txn);
    buf_free(&body);
    acl_tokens_free(draft);
    return r;
}

/* ---- tenants and principals ---------------------------------------------------------------- */

static void profile_new(acl_profile *out, acl_kind kind, const char *name, bool admin)
{
    *out = (acl_profile){.kind = kind, .admin = admin};
    memcpy(out->name, name, strlen(name) + 1);
}

static result tenant_store(acl *a, id128 tenant, const char *name, id128 admin,
                           const acl_profile *profile)
{
    acl_record_id id = {.kind = ACL_RECORD_TENANT, .tenant = tenant, .owner = tenant};
    kv_txn *txn = NULL;
    buf body;
    buf_init(&body, ACL_BODY_MAX_BYTES);
    acl_tenant_encode(name, &body);
    result r;
    TRY_TO(r, buf_check(&body), out);
    TRY_TO(r, kv_begin(a->db, true, &txn), out);
    TRY_TO(r, acl_record_put(acl_vault_of(a), txn, &id, buf_bytes(&body)), out);
    TRY_TO(r, acl_record_put_profile(acl_vault_of(a), txn, tenant, admin, profile), out);
    r = kv_commit(&txn);
out:
    kv_abort(&txn);
    buf_free(&body);
    return r;
}

result acl_tenant_add(acl *a, const char *name, const char *admin_name, id128 *tenant, id128 *admin)
{
    acl_kind wanted;
    admin_name = acl_name_strip(admin_name, &wanted);
    if (!acl_name_valid(name) || !acl_name_valid(admin_name) || wanted == ACL_GROUP)
        return bad_name();
    id128 new_tenant = id_random(), new_admin = id_random();
    acl_profile profile;
    profile_new(&profile, ACL_USER, admin_name, true);
    result r;
    pthread_mutex_lock(&a->change_lock);
    if (acl_state_named(a, (id128){{0}}, name) != NULL) {
        r = fail(E_EXISTS, "a tenant of that name exists");
        goto out;
    }
    TRY_TO(r, a->keys.key_create(a->keys.ctx, new_tenant, new_tenant), out);
    TRY_TO(r, a->keys.key_create(a->keys.ctx, new_tenant, new_admin), out);
    TRY_TO(r, tenant_store(a, new_tenant, name, new_admin, &profile), out);
    pthread_rwlock_wrlock(&a->lock);
    acl_state_add_tenant(a, new_tenant, name);
    acl_state_add_principal(a, new_tenant, new_admin, &profile);
    pthread_rwlock_unlock(&a->lock);
    *tenant = new_tenant;
    *admin = new_admin;
out:
    pthread_mutex_unlock(&a->change_lock);
    acl_profile_free(&profile);
    return r;
}

static result principal_store(acl *a, id128 tenant, id128 id, const acl_profile *profile)
{
    kv_txn *txn = NULL;
    result r;
    TRY(kv_begin(a->db, true, &txn));
    TRY_TO(r, acl_record_put_profile(acl_vault_of(a), txn, tenant, id, profile), out);
    r = kv_commit(&txn);
out:
    kv_abort(&txn);
    return r;
}

result acl_principal_add(acl *a, id128 tenant, acl_kind kind, const char *name, bool admin,
                         id128 *out)
{
    acl_kind wanted;
    name = acl_name_strip(name, &wanted);
    if (!acl_name_valid(name) || (wanted != 0 && wanted != kind))
        return bad_name();
    if ((kind != ACL_USER && kind != ACL_GROUP) || (admin && kind != ACL_USER))
        return fail(E_INVALID, "a principal is a user or a group; only a user can be an admin");
    id128 id = id_random();
    acl_profile profile;
    profile_new(&profile, kind, name, admin);
    result r;
    pthread_mutex_lock(&a->change_lock);
    if (acl_state_live_tenant(a, tenant) == NULL) {
        r = acl_not_found();
        goto out;
    }
    if (acl_state_named(a, tenant, name) != NULL) {
        r = fail(E_EXISTS, "a user or group of that name exists");
        goto out;
    }
    TRY_TO(r, a->keys.key_create(a->keys.ctx, tenant, id), out);
    TRY_TO(r, principal_store(a, tenant, id, &profile), out);
    pthread_rwlock_wrlock(&a->lock);
    acl_state_add_principal(a, tenant, id, &profile);
    pthread_rwlock_unlock(&a->lock);
    *out = id;
out:
    pthread_mutex_unlock(&a->change_lock);
    acl_profile_free(&profile);
    return not_found_if_erased(r);
}

/* ---- memberships --------------------------------------------------------------------------- */

/* May member enter group? Neither a cycle nor more groups than a request can carry. */
static result member_check(const acl *a, const acl_principal *group, const acl_principal *member)
{
    id128 reach[ACL_GROUPS_MAX + 1];
    id128 both[2] = {member->id, group->id};
    size_t count;
    TRY(acl_state_closure(a, group->tenant, &group->id, 1, reach, &count));
    for (size_t i = 0; i < count; i++)
        if (id_equal(reach[i], member->id))
            return fail(E_INVALID, "a group cannot be in itself, not through others either");
    return acl_state_closure(a, group->tenant, both, 2, reach, &count);
}

result acl_member_add(acl *a, id128 tenant, id128 group_id, id128 member_id)
{
    result r = OK;
    pthread_mutex_lock(&a->change_lock);
    const acl_principal *group = acl_state_live(a, tenant, group_id);
    acl_principal *member = acl_state_live(a, tenant, member_id);
    if (group == NULL || member == NULL || group->profile.kind != ACL_GROUP) {
        r = acl_not_found();
        goto out;
    }
    if (acl_ids_has(&member->profile.groups, group_id))
        goto out;
    TRY_TO(r, member_check(a, group, member), out);
    if (member->profile.groups.count >= ACL_GROUPS_MAX) {   /* fenced ones count here */
        r = fail(E_EXHAUSTED, "in %d groups already", ACL_GROUPS_MAX);
        goto out;
    }
    acl_profile draft;
    acl_profile_copy(&draft, &member->profile);
    acl_ids_add(&draft.groups, group_id);
    r = profile_change(a, member, &draft, NULL, NULL);
out:
    pthread_mutex_unlock(&a->change_lock);
    return r;
}

result acl_member_remove(acl *a, id128 tenant, id128 group_id, id128 member_id)
{
    result r = OK;
    pthread_mutex_lock(&a->change_lock);
    const acl_principal *group = acl_state_live(a, tenant, group_id);
    acl_principal *member = acl_state_live(a, tenant, member_id);
    if (group == NULL || member == NULL || group->profile.kind != ACL_GROUP) {
        r = acl_not_found();
    } else if (acl_ids_has(&member->profile.groups, group_id)) {
        acl_profile draft;
        acl_profile_copy(&draft, &member->profile);
        acl_ids_remove(&draft.groups, group_id);
        r = profile_change(a, member, &draft, NULL, NULL);
    }
    pthread_mutex_unlock(&a->change_lock);
    return r;
}

/* ---- tokens -------------------------------------------------------------------------------- */

/* 32 random bytes in base64url without padding: 10 groups of 3 bytes and one of 2. */
static void token_make(const acl *a, char text[ACL_TOKEN_TEXT_BYTES], acl_token *token)
{
    static const char ALPHABET[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t raw[33] = {0};
    random_bytes(raw, 32);
    memset(text, 0, ACL_TOKEN_TEXT_BYTES);
    memcpy(text, "lethe_", 6);
    for (size_t i = 0; i < 43; i++) {
        const uint8_t *three = raw + i / 4 * 3;
        uint32_t bits = (uint32_t)three[0] << 16 | (uint32_t)three[1] << 8 | three[2];
        text[6 + i] = ALPHABET[bits >> (18 - 6 * (i % 4)) & 63];
        mem_wipe(&bits, sizeof bits);
    }
    mem_wipe(raw, sizeof raw);
    token->id = id_random();
    hash_keyed(a->token_key, "token", bytes_str(text), token->hash);
}

static result token_limit(size_t count)
{
    return count < ACL_TOKENS_MAX ? OK : fail(E_EXHAUSTED, "%d tokens are issued; revoke one first",
                                              ACL_TOKENS_MAX);
}

result acl_operator_token_issue(acl *a, char token[ACL_TOKEN_TEXT_BYTES], id128 *token_id)
{
    acl_token made;
    token_make(a, token, &made);
    pthread_mutex_lock(&a->change_lock);
    result r = token_limit(a->operator_tokens.count);
    if (is_ok(r)) {
        acl_tokens draft;
        acl_tokens_copy(&draft, &a->operator_tokens);
        acl_tokens_add(&draft, &made);
        r = operator_change(a, &draft, &made, NULL);
    }
    pthread_mutex_unlock(&a->change_lock);
    if (is_ok(r))
        *token_id = made.id;
    else
        mem_wipe(token, ACL_TOKEN_TEXT_BYTES);
    mem_wipe(&made, sizeof made);
    return r;
}

result acl_token_issue(acl *a, id128 tenant, id128 user, char token[ACL_TOKEN_TEXT_BYTES],
                       id128 *token_id)
{
    acl_token made;
    token_make(a, token, &made);
    pthread_mutex_lock(&a->change_lock);
    acl_principal *p = acl_state_live(a, tenant, user);
    result r = p == NULL ? acl_not_found()
        : p->profile.kind != ACL_USER ? fail(E_INVALID, "a token belongs to a user, not to a group")
        : token_limit(p->profile.tokens.count);
    if (is_ok(r)) {
        acl_profile draft;
        acl_profile_copy(&draft, &p->profile);
        acl_tokens_add(&draft.tokens, &made);
        r = profile_change(a, p, &draft, &made, NULL);
    }
    pthread_mutex_unlock(&a->change_lock);
    if (is_ok(r))
        *token_id = made.id;
    else
        mem_wipe(token, ACL_TOKEN_TEXT_BYTES);
    mem_wipe(&made, sizeof made);
    return r;
}

result acl_token_revoke(acl *a, id128 tenant, id128 user, id128 token_id)
{
    result r;
    pthread_mutex_lock(&a->change_lock);
    const acl_token_entry *entry = acl_map_get(&a->tokens_by_id, token_id);
    acl_principal *p = entry != NULL ? acl_state_live(a, tenant, entry->user) : NULL;
    bool operators = entry != NULL && id_is_zero(tenant) && id_is_zero(entry->user);
    if (p != NULL && (id_is_zero(user) || id_equal(user, entry->user)) &&
        acl_tokens_find(&p->profile.tokens, token_id) != NULL) {
        acl_profile draft;
        acl_profile_copy(&draft, &p->profile);
        acl_tokens_remove(&draft.tokens, token_id);
        r = profile_change(a, p, &draft, NULL, &token_id);
    } else if (operators && id_is_zero(user)) {
        acl_tokens draft;
        acl_tokens_copy(&draft, &a->operator_tokens);
        acl_tokens_remove(&draft, token_id);
        r = operator_change(a, &draft, NULL, &token_id);
    } else {
        r = acl_not_found();
    }
    pthread_mutex_unlock(&a->change_lock);
    return r;
}

/* ---- quotas -------------------------------------------------------------------------------- */

result acl_quota_set(acl *a, id128 tenant, id128 principal, const acl_quota *quota)
{
    result r;
    pthread_mutex_lock(&a->change_lock);
    acl_principal *p = acl_state_live(a, tenant, principal);
    if (p != NULL) {
        acl_profile draft;
        acl_profile_copy(&draft, &p->profile);
        draft.quota = *quota;
        draft.quota_own = true;
        r = profile_change(a, p, &draft, NULL, NULL);
    } else {
        r = acl_not_found();
    }
    pthread_mutex_unlock(&a->change_lock);
    return r;
}
