/* Copies of acl.mdb, and what is left of one that is older than the truth. */
#include "state.h"

#include <string.h>

result acl_copy(acl *a, const char *path)
{
    return kv_copy(a->db, path);
}

bool acl_is_admin(acl *a, id128 tenant, id128 principal)
{
    pthread_rwlock_rdlock(&a->lock);
    const acl_principal *p = acl_state_live(a, tenant, principal);
    bool admin = p != NULL && p->profile.admin;
    pthread_rwlock_unlock(&a->lock);
    return admin;
}

/* Copies first: locks do not nest. */
static result tokens_revoke(acl *a)
{
    size_t at = 0, count = 0, capacity = 0;
    acl_token_entry *all = NULL;
    pthread_rwlock_rdlock(&a->lock);
    for (const acl_token_entry *e; (e = acl_map_next(&a->tokens_by_id, &at)) != NULL;) {
        if (count == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            all = mem_realloc(all, capacity * sizeof *all);
        }
        all[count++] = *e;
    }
    pthread_rwlock_unlock(&a->lock);
    result r = OK;
    for (size_t i = 0; is_ok(r) && i < count; i++) r = acl_token_revoke(a, all[i].tenant, all[i].user, all[i].id);
    if (all) mem_wipe(all, count * sizeof *all);
    mem_free(all);
    return r;
}

static result groups_leave(void *ctx, id128 tenant, id128 principal, acl_kind kind)
{
    acl *a = ctx;
    arena *mem;
    id128 *groups;
    size_t count = 0;
    (void)kind;
    arena_open(&mem, 1 << 20);
    result r = acl_groups_of(a, tenant, principal, mem, &groups, &count);
    for (size_t i = 0; is_ok(r) && i < count; i++) r = acl_member_remove(a, tenant, groups[i], principal);
    arena_close(&mem);
    return r;
}

result acl_distrust(acl *a)
{
    TRY(tokens_revoke(a));
    return acl_each(a, (id128){{0}}, groups_leave, a);
}
