#include "state.h"

#include <string.h>

result acl_not_found(void)
{
    return fail(E_NOT_FOUND, "%s", IFC_NOT_FOUND);
}

/* ---- lookups ------------------------------------------------------------------------------- */

acl_principal *acl_state_live(const acl *a, id128 tenant, id128 principal)
{
    acl_principal *p = acl_map_get(&a->principals, principal);
    return p != NULL && !p->fenced && id_equal(p->tenant, tenant) ? p : NULL;
}

acl_tenant *acl_state_live_tenant(const acl *a, id128 tenant)
{
    acl_tenant *t = acl_map_get(&a->tenants, tenant);
    return t != NULL && !t->fenced ? t : NULL;
}

static id128 name_key(const acl *a, id128 tenant, const char *name)
{
    uint8_t data[ID_BYTES + ACL_NAME_MAX_BYTES], hash[HASH_BYTES];
    size_t n = strlen(name);
    ASSERT(n <= ACL_NAME_MAX_BYTES);
    memcpy(data, tenant.b, ID_BYTES);
    memcpy(data + ID_BYTES, name, n);
    hash_keyed(a->index_key, "name", bytes_of(data, ID_BYTES + n), hash);
    id128 key;
    memcpy(key.b, hash, ID_BYTES);
    mem_wipe(data, sizeof data);
    return key;
}

void *acl_state_named(const acl *a, id128 tenant, const char *name)
{
    return acl_map_get(&a->names, name_key(a, tenant, name));
}

result acl_state_closure(const acl *a, id128 tenant, const id128 *start, size_t start_count,
                         id128 out[ACL_GROUPS_MAX + 1], size_t *count)
{
    size_t n = 0;
    *count = 0;
    ASSERT(start_count <= ACL_GROUPS_MAX + 1);
    for (size_t i = 0; i < start_count; i++)
        out[n++] = start[i];
    for (size_t done = 0; done < n; done++) {
        const acl_principal *p = acl_state_live(a, tenant, out[done]);
        if (p == NULL)
            return acl_not_found();
        for (size_t g = 0; g < p->profile.groups.count; g++) {
            id128 group = p->profile.groups.ids[g];
            size_t seen = 0;
            while (seen < n && !id_equal(out[seen], group))
                seen++;
            if (seen < n || acl_state_live(a, tenant, group) == NULL)
                continue;
            if (n == ACL_GROUPS_MAX + 1)
                return fail(E_EXHAUSTED, "more than %d groups, nested ones included",
                            ACL_GROUPS_MAX);
            out[n++] = group;
        }
    }
    *count = acl_ids_sort_unique(out, n);
    return OK;
}

/* ---- tenants and principals ---------------------------------------------------------------- */

static const id128 NO_TENANT;

acl_tenant *acl_state_add_tenant(acl *a, id128 id, const char *name)
{
    acl_tenant *t = mem_alloc(sizeof *t);
    t->id = id;
    memcpy(t->name, name, strlen(name) + 1);
    acl_map_set(&a->tenants, id, t);
    acl_map_set(&a->names, name_key(a, NO_TENANT, name), t);
    return t;
}

void acl_state_remove_tenant(acl *a, acl_tenant *t)
{
    acl_map_take(&a->tenants, t->id);
    acl_map_take(&a->names, name_key(a, NO_TENANT, t->name));
    mem_wipe(t, sizeof *t);
    mem_free(t);
}

acl_principal *acl_state_add_principal(acl *a, id128 tenant, id128 id, acl_profile *profile)
{
    acl_principal *p = mem_alloc(sizeof *p);
    p->id = id;
    p->tenant = tenant;
    p->profile = *profile;
    mem_wipe(profile, sizeof *profile);
    acl_map_set(&a->principals, id, p);
    acl_map_set(&a->names, name_key(a, tenant, p->profile.name), p);
    for (size_t i = 0; i < p->profile.tokens.count; i++)
        acl_state_add_token(a, tenant, id, &p->profile.tokens.items[i]);
    return p;
}

static void principal_free(acl_principal *p)
{
    acl_profile_free(&p->profile);
    acl_ids_free(&p->cached);
    mem_free(p->granters);
    mem_wipe(p, sizeof *p);
    mem_free(p);
}

void acl_state_remove_principal(acl *a, acl_principal *p)
{
    while (p->made != NULL)
        acl_state_remove_grant(a, p->made);
    while (p->received != NULL)
        acl_state_remove_grant(a, p->received);
    for (size_t i = 0; i < p->profile.tokens.count; i++)
        acl_state_remove_token(a, p->profile.tokens.items[i].id);
    acl_map_take(&a->principals, p->id);
    acl_map_take(&a->names, name_key(a, p->tenant, p->profile.name));
    principal_free(p);
}

/* ---- tokens -------------------------------------------------------------------------------- */

static id128 hash_head(const uint8_t hash[HASH_BYTES])
{
    id128 key;
    memcpy(key.b, hash, ID_BYTES);
    return key;
}

void acl_state_add_token(acl *a, id128 tenant, id128 user, const acl_token *token)
{
    acl_token_entry *entry = mem_alloc(sizeof *entry);
    entry->id = token->id;
    entry->tenant = tenant;
    entry->user = user;
    memcpy(entry->hash, token->hash, HASH_BYTES);
    acl_map_set(&a->tokens_by_id, token->id, entry);
    acl_map_set(&a->tokens_by_hash, hash_head(token->hash), entry);
}

void acl_state_remove_token(acl *a, id128 token)
{
    acl_token_entry *entry = acl_map_take(&a->tokens_by_id, token);
    if (entry == NULL)
        return;
    acl_map_take(&a->tokens_by_hash, hash_head(entry->hash));
    mem_wipe(entry, sizeof *entry);
    mem_free(entry);
}

/* ---- grants -------------------------------------------------------------------------------- */

static void chain_push(acl_grant_node **head, acl_grant_node *node, int chain)
{
    node->links[chain].next = *head;
    node->links[chain].prev = NULL;
    if (*head != NULL)
        (*head)->links[chain].prev = node;
    *head = node;
}

static void chain_remove(acl_grant_node **head, acl_grant_node *node, int chain)
{
    acl_grant_node *next = node->links[chain].next, *prev = node->links[chain].prev;
    if (next != NULL)
        next->links[chain].prev = prev;
    if (prev != NULL)
        prev->links[chain].next = next;
    else
        *head = next;
}

static size_t granter_place(const acl_principal *p, id128 owner)
{
    size_t low = 0, high = p->granter_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (id_compare(p->granters[middle].owner, owner) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void granter_count_up(acl_principal *p, id128 owner)
{
    size_t i = granter_place(p, owner);
    if (i == p->granter_count || !id_equal(p->granters[i].owner, owner)) {
        if (p->granter_count == p->granter_capacity) {
            p->granter_capacity = acl_grow(p->granter_capacity);
            p->granters = mem_realloc(p->granters, p->granter_capacity * sizeof *p->granters);
        }
        memmove(p->granters + i + 1, p->granters + i,
                (p->granter_count - i) * sizeof *p->granters);
        p->granters[i] = (acl_granter){owner, 0};
        p->granter_count++;
    }
    p->granters[i].count++;
}

static void granter_count_down(acl_principal *p, id128 owner)
{
    size_t i = granter_place(p, owner);
    ASSERT(i < p->granter_count && id_equal(p->granters[i].owner, owner));
    if (--p->granters[i].count > 0)
        return;
    memmove(p->granters + i, p->granters + i + 1,
            (p->granter_count - i - 1) * sizeof *p->granters);
    p->granter_count--;
}

acl_grant_node *acl_state_find_grant(const acl *a, id128 tenant, const acl_grant *grant)
{
    acl_grant_node *node = acl_map_get(&a->documents, grant->document);
    while (node != NULL && !(id_equal(node->tenant, tenant) &&
                             id_equal(node->grant.owner, grant->owner) &&
                             id_equal(node->grant.grantee, grant->grantee)))
        node = node->links[CHAIN_DOCUMENT].next;
    return node;
}

void acl_state_add_grant(acl *a, id128 tenant, const acl_grant *grant)
{
    acl_principal *owner = acl_map_get(&a->principals, grant->owner);
    acl_principal *grantee = acl_map_get(&a->principals, grant->grantee);
    ASSERT(owner != NULL && grantee != NULL);
    acl_grant_node *node = mem_alloc(sizeof *node);
    node->grant = *grant;
    node->tenant = tenant;
    acl_grant_node *document = acl_map_get(&a->documents, grant->document);
    chain_push(&document, node, CHAIN_DOCUMENT);
    acl_map_set(&a->documents, grant->document, document);
    chain_push(&owner->made, node, CHAIN_OWNER);
    chain_push(&grantee->received, node, CHAIN_GRANTEE);
    granter_count_up(grantee, grant->owner);
}

void acl_state_remove_grant(acl *a, acl_grant_node *node)
{
    acl_principal *owner = acl_map_get(&a->principals, node->grant.owner);
    acl_principal *grantee = acl_map_get(&a->principals, node->grant.grantee);
    ASSERT(owner != NULL && grantee != NULL);
    acl_grant_node *document = acl_map_get(&a->documents, node->grant.document);
    chain_remove(&document, node, CHAIN_DOCUMENT);
    if (document != NULL)
        acl_map_set(&a->documents, node->grant.document, document);
    else
        acl_map_take(&a->documents, node->grant.document);
    chain_remove(&owner->made, node, CHAIN_OWNER);
    chain_remove(&grantee->received, node, CHAIN_GRANTEE);
    granter_count_down(grantee, node->grant.owner);
    mem_wipe(node, sizeof *node);
    mem_free(node);
}

void acl_state_free(acl *a)
{
    void *value;
    for (size_t at = 0; (value = acl_map_next(&a->documents, &at)) != NULL;)
        for (acl_grant_node *node = value, *next; node != NULL; node = next) {
            next = node->links[CHAIN_DOCUMENT].next;
            mem_wipe(node, sizeof *node);
            mem_free(node);
        }
    for (size_t at = 0; (value = acl_map_next(&a->tokens_by_id, &at)) != NULL;) {
        mem_wipe(value, sizeof(acl_token_entry));
        mem_free(value);
    }
    for (size_t at = 0; (value = acl_map_next(&a->principals, &at)) != NULL;)
        principal_free(value);
    for (size_t at = 0; (value = acl_map_next(&a->tenants, &at)) != NULL;) {
        mem_wipe(value, sizeof(acl_tenant));
        mem_free(value);
    }
    acl_tokens_free(&a->operator_tokens);
    acl_map *maps[] = {&a->tenants, &a->principals, &a->names, &a->tokens_by_hash,
                       &a->tokens_by_id, &a->documents};
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++)
        acl_map_free(maps[i]);
}
