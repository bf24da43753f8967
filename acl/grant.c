/* Grants: who shared what with whom. One record a grant, sealed under the document owner's key. */
#include "state.h"

#include <stdlib.h>
#include <string.h>

acl_record_id acl_grant_record(id128 tenant, const acl_grant *grant)
{
    return (acl_record_id){.kind = ACL_RECORD_GRANT, .tenant = tenant, .owner = grant->owner,
                           .document = grant->document, .grantee = grant->grantee};
}

static result grant_store(acl *a, id128 tenant, const acl_grant *grant, bool remove)
{
    acl_record_id id = acl_grant_record(tenant, grant);
    kv_txn *txn = NULL;
    buf body;
    buf_init(&body, ACL_BODY_MAX_BYTES);
    acl_grant_encode(grant, &body);
    result r;
    TRY_TO(r, buf_check(&body), out);
    TRY_TO(r, kv_begin(a->db, true, &txn), out);
    if (remove)
        TRY_TO(r, acl_record_delete(acl_vault_of(a), txn, &id), out);
    else
        TRY_TO(r, acl_record_put(acl_vault_of(a), txn, &id, buf_bytes(&body)), out);
    r = kv_commit(&txn);
out:
    kv_abort(&txn);
    buf_free(&body);
    return r.code == E_NOT_FOUND ? acl_not_found() : r;
}

result acl_grant_add(acl *a, id128 tenant, acl_grant grant)
{
    if (id_is_zero(grant.document))
        return acl_not_found();
    result r = OK;
    pthread_mutex_lock(&a->change_lock);
    if (acl_state_live(a, tenant, grant.owner) == NULL ||
        acl_state_live(a, tenant, grant.grantee) == NULL) {
        r = acl_not_found();
    } else if (acl_state_find_grant(a, tenant, &grant) == NULL) {
        r = grant_store(a, tenant, &grant, false);
        if (is_ok(r)) {
            pthread_rwlock_wrlock(&a->lock);
            acl_state_add_grant(a, tenant, &grant);
            pthread_rwlock_unlock(&a->lock);
        }
    }
    pthread_mutex_unlock(&a->change_lock);
    return r;
}

result acl_grant_remove(acl *a, id128 tenant, acl_grant grant)
{
    result r = OK;
    pthread_mutex_lock(&a->change_lock);
    acl_grant_node *node = acl_state_find_grant(a, tenant, &grant);
    if (node != NULL) {
        r = grant_store(a, tenant, &grant, true);
        if (is_ok(r)) {
            pthread_rwlock_wrlock(&a->lock);
            acl_state_remove_grant(a, node);
            pthread_rwlock_unlock(&a->lock);
        }
    }
    pthread_mutex_unlock(&a->change_lock);
    return r;
}

/* ---- queries ------------------------------------------------------------------------------- */

static bool fits(id128 pattern, id128 id)
{
    return id_is_zero(pattern) || id_equal(pattern, id);
}

/* Appends what matches in one chain. */
static void collect(const acl_grant_node *node, int chain, id128 tenant, const acl_grant *pattern,
                    buf *out)
{
    for (; node != NULL; node = node->links[chain].next)
        if (id_equal(node->tenant, tenant) && fits(pattern->owner, node->grant.owner) &&
            fits(pattern->document, node->grant.document) &&
            fits(pattern->grantee, node->grant.grantee))
            buf_append(out, &node->grant, sizeof node->grant);
}

static int by_owner_document_grantee(const void *x, const void *y)
{
    const acl_grant *a = x, *b = y;
    int order = id_compare(a->owner, b->owner);
    if (order == 0)
        order = id_compare(a->document, b->document);
    return order != 0 ? order : id_compare(a->grantee, b->grantee);
}

/* Grants of fenced principals are still told: the erasure that fenced them needs them to mend
 * labels. */
result acl_grants(acl *a, id128 tenant, acl_grant pattern, arena *mem, acl_grant **out,
                  size_t *count)
{
    *out = NULL;
    *count = 0;
    buf found;
    buf_init(&found, SIZE_MAX / 4);
    pthread_rwlock_rdlock(&a->lock);
    const acl_principal *p;
    const acl_grant_node *node;
    if (!id_is_zero(pattern.document)) {
        collect(acl_map_get(&a->documents, pattern.document), CHAIN_DOCUMENT, tenant, &pattern,
                &found);
    } else if (!id_is_zero(pattern.grantee)) {
        p = acl_map_get(&a->principals, pattern.grantee);
        collect(p != NULL ? p->received : NULL, CHAIN_GRANTEE, tenant, &pattern, &found);
    } else if (!id_is_zero(pattern.owner)) {
        p = acl_map_get(&a->principals, pattern.owner);
        collect(p != NULL ? p->made : NULL, CHAIN_OWNER, tenant, &pattern, &found);
    } else {
        for (size_t at = 0; (node = acl_map_next(&a->documents, &at)) != NULL;)
            collect(node, CHAIN_DOCUMENT, tenant, &pattern, &found);
    }
    pthread_rwlock_unlock(&a->lock);
    size_t n = found.size / sizeof **out;
    acl_grant *copy = arena_alloc_array(mem, n > 0 ? n : 1, sizeof *copy);
    if (copy != NULL && n > 0) {
        memcpy(copy, found.data, n * sizeof *copy);
        qsort(copy, n, sizeof *copy, by_owner_document_grantee);
    }
    buf_free(&found);
    if (copy == NULL)
        return arena_check(mem);
    *out = copy;
    *count = n;
    return OK;
}

result acl_owners_for(acl *a, id128 tenant, const id128 *principals, size_t count, arena *mem,
                      id128 **owners, size_t *owner_count)
{
    *owners = NULL;
    *owner_count = 0;
    pthread_rwlock_rdlock(&a->lock);
    size_t most = 1, n = 0;
    for (size_t i = 0; i < count; i++) {
        const acl_principal *p = acl_state_live(a, tenant, principals[i]);
        most += p != NULL ? 1 + p->granter_count : 0;
    }
    id128 *found = arena_alloc_array(mem, most, sizeof *found);
    for (size_t i = 0; i < count && found != NULL; i++) {
        const acl_principal *p = acl_state_live(a, tenant, principals[i]);
        if (p == NULL)
            continue;
        found[n++] = p->id;
        for (size_t g = 0; g < p->granter_count; g++)
            if (acl_state_live(a, tenant, p->granters[g].owner) != NULL)
                found[n++] = p->granters[g].owner;
    }
    pthread_rwlock_unlock(&a->lock);
    if (found == NULL)
        return arena_check(mem);
    *owners = found;
    *owner_count = acl_ids_sort_unique(found, n);
    return OK;
}
