/* Access: tenants, users, groups, members, tokens. */
#include "service.h"

#include "lethe/v1/access.pb-c.h"

#include <string.h>

/* ---- tenants (operator) ------------------------------------------------------------------------------- */
result access_create_tenant(request *q)
{
    Lethe__V1__CreateTenantRequest *m;
    TRY(request_receive(q, &lethe__v1__create_tenant_request__descriptor, &m));
    const char *admin_name = m->admin[0] ? m->admin : "admin";
    id128 tenant, admin, token_id;
    char token[ACL_TOKEN_TEXT_BYTES];
    TRY(acl_tenant_add(q->h->access, m->name, admin_name, &tenant, &admin));
    TRY(acl_token_issue(q->h->access, tenant, admin, token, &token_id));
    Lethe__V1__CreateTenantResponse response = LETHE__V1__CREATE_TENANT_RESPONSE__INIT;
    response.tenant = m->name;
    response.user = (char *)admin_name;
    response.token = token;
    result r = request_send(q, &response.base);
    mem_wipe(token, sizeof token);
    return r;
}

/* ---- users and groups (admin) ---------------------------------------------------------------------------- */
static result create(request *q, acl_kind kind)
{
    Lethe__V1__NameRequest *m;
    TRY(request_receive(q, &lethe__v1__name_request__descriptor, &m));
    id128 id;
    TRY(acl_principal_add(q->h->access, q->who.tenant, kind, m->name, false, &id));
    Lethe__V1__PrincipalResponse response = LETHE__V1__PRINCIPAL_RESPONSE__INIT;
    response.id = request_id(q, id);
    response.name = m->name;
    return request_send(q, &response.base);
}

result access_create_user(request *q) { return create(q, ACL_USER); }
result access_create_group(request *q) { return create(q, ACL_GROUP); }

static result membership(request *q, id128 *group, id128 *member)
{
    Lethe__V1__MembershipRequest *m;
    TRY(request_receive(q, &lethe__v1__membership_request__descriptor, &m));
    acl_kind kind;
    result r = acl_find(q->h->access, q->who.tenant, m->group, group, &kind);
    if (!is_ok(r) || kind != ACL_GROUP) return fail(E_NOT_FOUND, "no group of that name");
    r = acl_find(q->h->access, q->who.tenant, m->member, member, NULL);
    return is_ok(r) ? OK : fail(E_NOT_FOUND, "no user or group of that name to be a member");
}

static result membership_done(request *q)
{
    Lethe__V1__MembershipResponse response = LETHE__V1__MEMBERSHIP_RESPONSE__INIT;
    return request_send(q, &response.base);
}

result access_join(request *q)
{
    id128 group, member;
    TRY(membership(q, &group, &member));
    TRY(acl_member_add(q->h->access, q->who.tenant, group, member));
    return membership_done(q);
}

result access_leave(request *q)
{
    id128 group, member;
    result r = membership(q, &group, &member);
    if (!q->who.tenant_admin && (!is_ok(r) || !id_equal(member, q->who.principal)))
        return fail(E_DENIED, "an admin takes anybody out of a group; a user only itself");
    TRY(r);
    TRY(acl_member_remove(q->h->access, q->who.tenant, group, member));
    if (q->h->states) state_cache_drop_principal(q->h->states, member);
    return membership_done(q);
}

/* ---- tokens ---------------------------------------------------------------------------------------------------- */
result access_issue_token(request *q)
{
    Lethe__V1__NameRequest *m;
    TRY(request_receive(q, &lethe__v1__name_request__descriptor, &m));
    id128 user, id;
    acl_kind kind = ACL_USER;
    result r = acl_find(q->h->access, q->who.tenant, m->name, &user, &kind);
    if (!q->who.tenant_admin && (!is_ok(r) || !id_equal(user, q->who.principal)))
        return fail(E_DENIED, "an admin issues tokens for anybody; a user only for itself");
    if (!is_ok(r) || kind != ACL_USER) return fail(E_NOT_FOUND, "no user of that name");
    char token[ACL_TOKEN_TEXT_BYTES];
    TRY(acl_token_issue(q->h->access, q->who.tenant, user, token, &id));
    Lethe__V1__IssueTokenResponse response = LETHE__V1__ISSUE_TOKEN_RESPONSE__INIT;
    response.id = request_id(q, id);
    response.token = token;
    r = request_send(q, &response.base);
    mem_wipe(token, sizeof token);
    return r;
}

result access_revoke_token(request *q)
{
    Lethe__V1__RevokeTokenRequest *m;
    TRY(request_receive(q, &lethe__v1__revoke_token_request__descriptor, &m));
    id128 id;
    TRY(id_parse(m->id, &id));
    const id128 owner = q->who.tenant_admin ? (id128){{0}} : q->who.principal;
    TRY(acl_token_revoke(q->h->access, q->who.tenant, owner, id));
    Lethe__V1__RevokeTokenResponse response = LETHE__V1__REVOKE_TOKEN_RESPONSE__INIT;
    return request_send(q, &response.base);
}

/* ---- WhoAmI ------------------------------------------------------------------------------------------------------ */
result access_whoami(request *q)
{
    Lethe__V1__WhoAmIRequest *m;
    TRY(request_receive(q, &lethe__v1__who_am_irequest__descriptor, &m));
    Lethe__V1__WhoAmIResponse response = LETHE__V1__WHO_AM_IRESPONSE__INIT;
    char *groups[ACL_GROUPS_MAX + 1];
    char name[ACL_NAME_MAX_BYTES + 1];
    acl_kind kind;
    response.groups = groups;
    if (q->who.operator_role) {
        response.name = response.role = (char *)"operator";
        return request_send(q, &response.base);
    }
    response.id = request_id(q, q->who.principal);
    response.name = q->who.name;
    response.role = (char *)(q->who.tenant_admin ? "admin" : "user");
    TRY(acl_name_of(q->h->access, q->who.tenant, name, &kind));
    response.tenant = request_text(q, "%s", name);
    for (size_t i = 0; i < q->principal_count; i++) {
        if (id_equal(q->principals[i], q->who.principal)) continue;
        TRY(acl_name_of(q->h->access, q->principals[i], name, &kind));
        groups[response.n_groups++] = request_text(q, "%s", name);
    }
    return request_send(q, &response.base);
}
