/* Erasure's two steps here: the fence (at once, in memory) and the drop (durable). */
#include "state.h"

#include <string.h>

result acl_fence(acl *a, id128 tenant, id128 principal)
{
    if (id_is_zero(tenant))
        return acl_not_found();
    /* change_lock too: a change that was under way is complete when this returns. */
    pthread_mutex_lock(&a->change_lock);
    pthread_rwlock_wrlock(&a->lock);
    acl_principal *p;
    if (id_is_zero(principal)) {
        acl_tenant *t = acl_map_get(&a->tenants, tenant);
        if (t != NULL)
            t->fenced = true;
        for (size_t at = 0; (p = acl_map_next(&a->principals, &at)) != NULL;)
            p->fenced = p->fenced || id_equal(p->tenant, tenant);
    } else {
        p = acl_map_get(&a->principals, principal);
        if (p != NULL && id_equal(p->tenant, tenant))
            p->fenced = true;
    }
    pthread_rwlock_unlock(&a->lock);
    pthread_mutex_unlock(&a->change_lock);
    return OK;
}

/* Members of a group, or all principals of a tenant. */
static void principals_where(const acl *a, id128 tenant, const acl_principal *group, acl_ids *out)
{
    const acl_principal *p;
    for (size_t at = 0; (p = acl_map_next(&a->principals, &at)) != NULL;)
        if (id_equal(p->tenant, tenant) &&
            (group == NULL || acl_ids_has(&p->profile.groups, group->id)))
            acl_ids_push(out, p->id);
}

static result delete_chain(acl *a, kv_txn *txn, const acl_grant_node *node, int chain)
{
    for (; node != NULL; node = node->links[chain].next) {
        acl_record_id id = acl_grant_record(node->tenant, &node->grant);
        TRY(acl_record_delete(acl_vault_of(a), txn, &id));
    }
    return OK;
}

/* Its record and grants. The record goes even when memory never knew it. */
static result delete_principal(acl *a, kv_txn *txn, id128 tenant, id128 principal)
{
    acl_record_id id = {.kind = ACL_RECORD_PRINCIPAL, .tenant = tenant, .owner = principal};
    TRY(acl_record_delete(acl_vault_of(a), txn, &id));
    const acl_principal *p = acl_map_get(&a->principals, principal);
    if (p == NULL || !id_equal(p->tenant, tenant))
        return OK;
    TRY(delete_chain(a, txn, p->made, CHAIN_OWNER));
    return delete_chain(a, txn, p->received, CHAIN_GRANTEE);
}

/* Rewrites a member's record without the group. A member whose own key is gone is being erased too:
 * its record goes. */
static result leave_group(acl *a, kv_txn *txn, const acl_principal *member, id128 group)
{
    acl_profile draft;
    acl_profile_copy(&draft, &member->profile);
    acl_ids_remove(&draft.groups, group);
    result r = acl_record_put_profile(acl_vault_of(a), txn, member->tenant, member->id, &draft);
    acl_profile_free(&draft);
    if (r.code != E_NOT_FOUND)
        return r;
    acl_record_id id = {.kind = ACL_RECORD_PRINCIPAL, .tenant = member->tenant,
                        .owner = member->id};
    return acl_record_delete(acl_vault_of(a), txn, &id);
}

static result drop_principal(acl *a, id128 tenant, id128 principal)
{
    acl_principal *p = acl_map_get(&a->principals, principal);
    if (p != NULL && !id_equal(p->tenant, tenant))
        return OK;
    acl_ids members = {0};
    kv_txn *txn = NULL;
    result r;
    if (p != NULL && p->profile.kind == ACL_GROUP)
        principals_where(a, tenant, p, &members);
    TRY_TO(r, kv_begin(a->db, true, &txn), out);
    TRY_TO(r, delete_principal(a, txn, tenant, principal), out);
    for (size_t i = 0; i < members.count; i++)
        TRY_TO(r, leave_group(a, txn, acl_map_get(&a->principals, members.ids[i]), principal), out);
    TRY_TO(r, kv_commit(&txn), out);
    pthread_rwlock_wrlock(&a->lock);
    for (size_t i = 0; i < members.count; i++) {
        acl_principal *member = acl_map_get(&a->principals, members.ids[i]);
        acl_ids_remove(&member->profile.groups, principal);
    }
    if (p != NULL)
        acl_state_remove_principal(a, p);
    pthread_rwlock_unlock(&a->lock);
out:
    kv_abort(&txn);
    acl_ids_free(&members);
    return r;
}

static result drop_tenant(acl *a, id128 tenant)
{
    acl_record_id id = {.kind = ACL_RECORD_TENANT, .tenant = tenant, .owner = tenant};
    acl_ids all = {0};
    kv_txn *txn = NULL;
    result r;
    principals_where(a, tenant, NULL, &all);
    TRY_TO(r, kv_begin(a->db, true, &txn), out);
    TRY_TO(r, acl_record_delete(acl_vault_of(a), txn, &id), out);
    for (size_t i = 0; i < all.count; i++)
        TRY_TO(r, delete_principal(a, txn, tenant, all.ids[i]), out);
    TRY_TO(r, kv_commit(&txn), out);
    pthread_rwlock_wrlock(&a->lock);
    for (size_t i = 0; i < all.count; i++)
        acl_state_remove_principal(a, acl_map_get(&a->principals, all.ids[i]));
    acl_tenant *t = acl_map_get(&a->tenants, tenant);
    if (t != NULL)
        acl_state_remove_tenant(a, t);
    pthread_rwlock_unlock(&a->lock);
out:
    kv_abort(&txn);
    acl_ids_free(&all);
    return r;
}

result acl_drop(acl *a, id128 tenant, id128 principal)
{
    if (id_is_zero(tenant))
        return acl_not_found();
    pthread_mutex_lock(&a->change_lock);
    result r = id_is_zero(principal) ? drop_tenant(a, tenant)
                                     : drop_principal(a, tenant, principal);
    pthread_mutex_unlock(&a->change_lock);
    return r;
}
