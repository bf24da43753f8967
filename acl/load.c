/* Reading acl.mdb: tenants first, then principals, then grants, because LMDB's order is that of
 * keyed hashes. Records whose keys are gone, and whatever points to nobody, are deleted durably. */
#include "state.h"

#include <string.h>

typedef struct {
    acl *a;
    int pass;
    buf dead;                    /* keys to delete, one after the other */
    acl_ids dirty;               /* principals whose memberships were pruned */
} loader;

enum { DEAD_MAX_BYTES = 1 << 30 };

static int pass_of(acl_record_kind kind)
{
    return kind == ACL_RECORD_GRANT ? 2 : kind == ACL_RECORD_PRINCIPAL ? 1 : 0;
}

static result taken(const char *what)
{
    return fail(E_DATA_LOSS, "acl: two %s records with one name", what);
}

static result add_tenant(acl *a, const acl_record_id *id, bytes body)
{
    char name[ACL_NAME_MAX_BYTES + 1];
    TRY(acl_tenant_decode(body, name));
    result r = OK;
    if (acl_state_named(a, (id128){{0}}, name) != NULL)
        r = taken("tenant");
    else
        acl_state_add_tenant(a, id->tenant, name);
    mem_wipe(name, sizeof name);
    return r;
}

static result add_operator(acl *a, bytes body)
{
    TRY(acl_tokens_decode(body, &a->operator_tokens));
    for (size_t i = 0; i < a->operator_tokens.count; i++)
        acl_state_add_token(a, (id128){{0}}, (id128){{0}}, &a->operator_tokens.items[i]);
    return OK;
}

static result add_principal(acl *a, const acl_record_id *id, bytes body)
{
    acl_profile profile;
    TRY(acl_profile_decode(body, &profile));
    if (acl_state_named(a, id->tenant, profile.name) != NULL) {
        acl_profile_free(&profile);
        return taken("principal");
    }
    acl_state_add_principal(a, id->tenant, id->owner, &profile);
    return OK;
}

/* dead: set when owner or grantee no longer exists. */
static result add_grant(acl *a, const acl_record_id *id, bytes body, bool *dead)
{
    acl_grant grant = {.owner = id->owner};
    TRY(acl_grant_decode(body, &grant));
    *dead = acl_state_live(a, id->tenant, grant.owner) == NULL ||
            acl_state_live(a, id->tenant, grant.grantee) == NULL;
    if (!*dead)
        acl_state_add_grant(a, id->tenant, &grant);
    return OK;
}

static result visit(void *ctx, bytes key, bytes value)
{
    loader *l = ctx;
    acl_record_id id;
    bytes sealed;
    TRY(acl_record_parse(acl_vault_of(l->a), key, value, &id, &sealed));
    if (pass_of(id.kind) != l->pass)
        return OK;
    /* A tenant erased takes everything of it along, whatever became of the single keys. */
    bool dead = (id.kind == ACL_RECORD_PRINCIPAL || id.kind == ACL_RECORD_GRANT) &&
                acl_map_get(&l->a->tenants, id.tenant) == NULL;
    buf body;
    buf_init(&body, ACL_BODY_MAX_BYTES);
    result r = dead ? OK : acl_record_open(acl_vault_of(l->a), key, &id, sealed, &body);
    if (r.code == E_NOT_FOUND) {
        dead = true;
        r = OK;
    } else if (is_ok(r) && !dead) {
        switch (id.kind) {
        case ACL_RECORD_OPERATOR: r = add_operator(l->a, buf_bytes(&body)); break;
        case ACL_RECORD_TENANT: r = add_tenant(l->a, &id, buf_bytes(&body)); break;
        case ACL_RECORD_PRINCIPAL: r = add_principal(l->a, &id, buf_bytes(&body)); break;
        case ACL_RECORD_GRANT: r = add_grant(l->a, &id, buf_bytes(&body), &dead); break;
        }
    }
    if (dead)
        buf_append(&l->dead, key.data, key.size);
    buf_free(&body);
    return r;
}

static void prune_memberships(loader *l)
{
    acl_principal *p;
    for (size_t at = 0; (p = acl_map_next(&l->a->principals, &at)) != NULL;) {
        size_t before = p->profile.groups.count;
        for (size_t g = before; g-- > 0;) {
            id128 id = p->profile.groups.ids[g];
            const acl_principal *group = acl_state_live(l->a, p->tenant, id);
            if (group == NULL || group->profile.kind != ACL_GROUP)
                acl_ids_remove(&p->profile.groups, id);
        }
        if (p->profile.groups.count < before)
            acl_ids_push(&l->dirty, p->id);
    }
}

static result clean(loader *l)
{
    size_t dead = l->dead.size / ACL_RECORD_KEY_BYTES;
    TRY(buf_check(&l->dead));
    if (dead + l->dirty.count == 0)
        return OK;
    kv_txn *txn = NULL;
    result r;
    TRY(kv_begin(l->a->db, true, &txn));
    for (size_t i = 0; i < dead; i++)
        TRY_TO(r, kv_delete(txn, bytes_of(l->dead.data + i * ACL_RECORD_KEY_BYTES,
                                          ACL_RECORD_KEY_BYTES)), out);
    for (size_t i = 0; i < l->dirty.count; i++) {
        const acl_principal *p = acl_map_get(&l->a->principals, l->dirty.ids[i]);
        TRY_TO(r, acl_record_put_profile(acl_vault_of(l->a), txn, p->tenant, p->id, &p->profile),
               out);
    }
    r = kv_commit(&txn);
    if (is_ok(r))
        log_event(LOG_INFO, "acl_cleaned", LOG_NUMBER("dropped", dead),
                  LOG_NUMBER("pruned", l->dirty.count));
out:
    kv_abort(&txn);
    return r;
}

result acl_load(acl *a)
{
    loader l = {.a = a};
    kv_txn *txn = NULL;
    buf_init(&l.dead, DEAD_MAX_BYTES);
    result r;
    TRY_TO(r, kv_begin(a->db, false, &txn), out);
    for (l.pass = 0; l.pass < 3; l.pass++)
        TRY_TO(r, kv_each(txn, visit, &l), out);
    kv_abort(&txn);
    prune_memberships(&l);
    r = clean(&l);
out:
    kv_abort(&txn);
    buf_free(&l.dead);
    acl_ids_free(&l.dirty);
    return r;
}
