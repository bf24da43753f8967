/* acl against real files: names, groups, tokens, grants, forgetting, quotas, threads. */
#include "acl_disk.h"
#include "acl_house.h"

#include <stdatomic.h>

/* ---- names --------------------------------------------------------------------------------- */

static void names(void)
{
    static const char *const BAD[] = {"", ".a", "-a", "_a", "A", "a b", "a/b", "\xc3\xa9", "user:",
        "user:user:a", "group:a", "a:b",
        "01234567890123456789012345678901234567890123456789012345678901234"};
    begin();
    id128 ada = user("ada"), oncall = group("group:oncall"), out;
    acl_kind kind;
    char name[ACL_NAME_MAX_BYTES + 1];
    CHECK_OK(acl_find(a, tenant, "ada", &out, &kind));
    CHECK(id_equal(out, ada) && kind == ACL_USER);
    CHECK_OK(acl_find(a, tenant, "user:ada", &out, NULL));
    CHECK_OK(acl_find(a, tenant, "group:oncall", &out, &kind));
    CHECK(id_equal(out, oncall) && kind == ACL_GROUP);
    CHECK_FAILS(acl_find(a, tenant, "group:ada", &out, NULL), E_NOT_FOUND);
    CHECK_FAILS(acl_find(a, tenant, "user:oncall", &out, NULL), E_NOT_FOUND);
    CHECK_FAILS(acl_find(a, tenant, "bob", &out, NULL), E_NOT_FOUND);
    CHECK_FAILS(acl_find(a, ZERO, "acme", &out, NULL), E_NOT_FOUND);
    CHECK_FAILS(acl_principal_add(a, tenant, ACL_USER, "ada", false, &out), E_EXISTS);
    CHECK_FAILS(acl_principal_add(a, tenant, ACL_GROUP, "ada", false, &out), E_EXISTS);
    CHECK_FAILS(acl_principal_add(a, ada, ACL_USER, "eve", false, &out), E_NOT_FOUND);
    CHECK_FAILS(acl_principal_add(a, tenant, ACL_GROUP, "g", true, &out), E_INVALID);
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        CHECK_FAILS(acl_principal_add(a, tenant, ACL_USER, BAD[i], false, &out), E_INVALID);
        CHECK_FAILS(acl_tenant_add(a, BAD[i], "root", &out, &out), E_INVALID);
        CHECK_FAILS(acl_find(a, tenant, BAD[i], &out, NULL), E_NOT_FOUND);
        CHECK_FAILS(acl_tenant_find(a, BAD[i], &out), E_NOT_FOUND);
    }
    /* Absent and malformed are told in the same words. */
    CHECK(strcmp(acl_find(a, tenant, "bob", &out, NULL).message, IFC_NOT_FOUND) == 0);
    CHECK(strcmp(acl_find(a, tenant, "a b", &out, NULL).message, IFC_NOT_FOUND) == 0);
    CHECK_OK(acl_principal_add(a, tenant, ACL_USER, BAD[12] + 1, false, &out));
    CHECK_OK(acl_name_of(a, out, name, &kind));
    CHECK(strlen(name) == ACL_NAME_MAX_BYTES && kind == ACL_USER);
    CHECK_OK(acl_name_of(a, tenant, name, &kind));
    CHECK(strcmp(name, "acme") == 0 && kind == 0);
    CHECK_FAILS(acl_name_of(a, id_random(), name, NULL), E_NOT_FOUND);
    end();
}

static void tenants_with_equal_names(void)
{
    begin();
    id128 ada = user("ada"), other, other_admin, other_ada, out, list[ACL_GROUPS_MAX + 1];
    id128 team = group("team");
    size_t count;
    CHECK_FAILS(acl_tenant_add(a, "acme", "root", &other, &other_admin), E_EXISTS);
    CHECK_OK(acl_tenant_add(a, "globex", "user:root", &other, &other_admin));
    CHECK_OK(acl_principal_add(a, other, ACL_USER, "ada", false, &other_ada));
    CHECK(!id_equal(ada, other_ada) && !id_equal(admin, other_admin));
    CHECK_OK(acl_find(a, tenant, "ada", &out, NULL));
    CHECK(id_equal(out, ada));
    CHECK_OK(acl_find(a, other, "ada", &out, NULL));
    CHECK(id_equal(out, other_ada));
    CHECK_OK(acl_tenant_find(a, "globex", &out));
    CHECK(id_equal(out, other));
    /* Nothing crosses. */
    char token[ACL_TOKEN_TEXT_BYTES];
    id128 token_id, document = id_random();
    acl_quota quota;
    CHECK_FAILS(acl_principals_of(a, tenant, other_ada, list, &count), E_NOT_FOUND);
    CHECK_FAILS(acl_member_add(a, tenant, team, other_ada), E_NOT_FOUND);
    CHECK_FAILS(acl_member_add(a, other, team, other_ada), E_NOT_FOUND);
    CHECK_FAILS(acl_token_issue(a, tenant, other_ada, token, &token_id), E_NOT_FOUND);
    CHECK_FAILS(acl_grant_add(a, tenant, (acl_grant){ada, document, other_ada}), E_NOT_FOUND);
    CHECK_FAILS(acl_grant_add(a, other, (acl_grant){ada, document, other_ada}), E_NOT_FOUND);
    CHECK_FAILS(acl_quota_get(a, tenant, other_ada, &quota), E_NOT_FOUND);
    CHECK_FAILS(acl_quota_set(a, tenant, other_ada, &quota), E_NOT_FOUND);
    CHECK_OK(acl_token_issue(a, other, other_ada, token, &token_id));
    CHECK_FAILS(acl_token_revoke(a, tenant, ZERO, token_id), E_NOT_FOUND);
    CHECK(works(token));
    CHECK_OK(acl_drop(a, tenant, other_ada));
    CHECK(works(token));
    CHECK_OK(acl_fence(a, tenant, other_ada));
    CHECK(works(token));
    end();
}

/* ---- groups -------------------------------------------------------------------------------- */

static void nested_groups(void)
{
    begin();
    id128 ada = user("ada"), bob = user("bob"), g[4], list[ACL_GROUPS_MAX + 1], *direct;
    static const char *const NAMES[] = {"g0", "g1", "g2", "g3"};
    size_t count;
    for (int i = 0; i < 4; i++)
        g[i] = group(NAMES[i]);
    CHECK(principals(ada, list) == 1 && id_equal(list[0], ada));
    CHECK_OK(acl_member_add(a, tenant, g[0], ada));
    CHECK_OK(acl_member_add(a, tenant, g[0], ada));
    CHECK_OK(acl_member_add(a, tenant, g[1], g[0]));
    CHECK_OK(acl_member_add(a, tenant, g[2], g[1]));
    CHECK_OK(acl_member_add(a, tenant, g[2], g[0]));       /* a diamond is no cycle */
    CHECK(principals(ada, list) == 4);
    CHECK(in_groups(ada, g[2]) && !in_groups(ada, g[3]) && !in_groups(bob, g[0]));
    CHECK_OK(acl_groups_of(a, tenant, ada, mem, &direct, &count));
    CHECK(count == 1 && id_equal(direct[0], g[0]));
    /* The audience: a group and what it is nested in, not its members. */
    CHECK(principals(g[1], list) == 2 && !in_groups(g[1], ada));
    CHECK_FAILS(acl_member_add(a, tenant, g[0], g[2]), E_INVALID);
    CHECK_FAILS(acl_member_add(a, tenant, g[0], g[0]), E_INVALID);
    CHECK_FAILS(acl_member_add(a, tenant, bob, ada), E_NOT_FOUND);
    CHECK_FAILS(acl_member_add(a, tenant, g[0], id_random()), E_NOT_FOUND);
    CHECK_FAILS(acl_groups_of(a, tenant, id_random(), mem, &direct, &count), E_NOT_FOUND);
    /* Leaving holds from the next call on, also after an answer was given before. */
    CHECK_OK(acl_member_remove(a, tenant, g[1], g[0]));
    CHECK(!in_groups(ada, g[1]) && in_groups(ada, g[2]));
    CHECK_OK(acl_member_remove(a, tenant, g[0], ada));
    CHECK_OK(acl_member_remove(a, tenant, g[0], ada));
    CHECK(principals(ada, list) == 1);
    CHECK_FAILS(acl_principals_of(a, tenant, id_random(), list, &count), E_NOT_FOUND);
    end();
}

static void group_cap_fails_closed(void)
{
    begin();
    id128 ada = user("ada"), bob = user("bob"), list[ACL_GROUPS_MAX + 1];
    id128 first = group("first"), extra = group("extra");
    char name[16];
    size_t count = 7;
    for (int i = 1; i < ACL_GROUPS_MAX; i++) {
        snprintf(name, sizeof name, "g%d", i);
        CHECK_OK(acl_member_add(a, tenant, group(name), ada));
    }
    CHECK_OK(acl_member_add(a, tenant, first, ada));
    CHECK(principals(ada, list) == ACL_GROUPS_MAX + 1);
    CHECK_FAILS(acl_member_add(a, tenant, extra, ada), E_EXHAUSTED);
    /* Nested behind her back: the answer is none, not some. */
    CHECK_OK(acl_member_add(a, tenant, extra, first));
    CHECK_FAILS(acl_principals_of(a, tenant, ada, list, &count), E_EXHAUSTED);
    CHECK(count == 0);
    CHECK_OK(acl_member_add(a, tenant, first, bob));
    CHECK(principals(bob, list) == 3);
    CHECK_OK(acl_member_remove(a, tenant, first, ada));
    CHECK(principals(ada, list) == ACL_GROUPS_MAX);
    end();
}

/* ---- tokens -------------------------------------------------------------------------------- */

static void tokens(void)
{
    begin();
    id128 ada = user("ada"), bob = user("bob"), team = group("team"), id, second_id, operator_id;
    char token[ACL_TOKEN_TEXT_BYTES], second[ACL_TOKEN_TEXT_BYTES], boss[ACL_TOKEN_TEXT_BYTES];
    acl_identity who;
    CHECK_OK(acl_token_issue(a, tenant, ada, token, &id));
    CHECK_OK(acl_token_issue(a, tenant, ada, second, &second_id));
    CHECK_OK(acl_operator_token_issue(a, boss, &operator_id));
    CHECK(strlen(token) == 49 && strncmp(token, "lethe_", 6) == 0 && strcmp(token, second) != 0);
    CHECK_OK(acl_authenticate(a, token, &who));
    CHECK(id_equal(who.tenant, tenant) && id_equal(who.principal, ada) && id_equal(who.token, id));
    CHECK(!who.operator_role && !who.tenant_admin && strcmp(who.name, "ada") == 0);
    CHECK_OK(acl_authenticate(a, boss, &who));
    CHECK(who.operator_role && id_is_zero(who.tenant) && id_is_zero(who.principal));
    CHECK(id_equal(who.token, operator_id) && !who.tenant_admin);
    CHECK_FAILS(acl_token_issue(a, tenant, team, token + 0, &id), E_INVALID);
    CHECK(token[0] == 0);                                  /* nothing half issued */
    CHECK_OK(acl_token_issue(a, tenant, ada, token, &id));
    CHECK_OK(acl_token_issue(a, tenant, admin, boss, &operator_id));
    CHECK_OK(acl_authenticate(a, boss, &who));
    CHECK(who.tenant_admin);

    CHECK_FAILS(acl_token_revoke(a, tenant, bob, id), E_NOT_FOUND);
    CHECK_FAILS(acl_token_revoke(a, ZERO, ZERO, id), E_NOT_FOUND);
    CHECK_FAILS(acl_token_revoke(a, tenant, ZERO, id_random()), E_NOT_FOUND);
    CHECK(works(token));
    CHECK_OK(acl_token_revoke(a, tenant, ada, id));
    CHECK(!works(token) && works(second));
    CHECK_FAILS(acl_token_revoke(a, tenant, ada, id), E_NOT_FOUND);
    CHECK_OK(acl_token_revoke(a, tenant, ZERO, second_id));
    CHECK(!works(second));
    CHECK_OK(reopen());
    CHECK(!works(token) && !works(second) && works(boss));
    end();
}

static void operator_tokens(void)
{
    begin();
    char one[ACL_TOKEN_TEXT_BYTES], two[ACL_TOKEN_TEXT_BYTES];
    id128 one_id, two_id;
    CHECK_OK(acl_operator_token_issue(a, one, &one_id));
    CHECK_OK(acl_operator_token_issue(a, two, &two_id));
    CHECK_FAILS(acl_token_revoke(a, tenant, ZERO, one_id), E_NOT_FOUND);
    CHECK(works(one));
    CHECK_OK(acl_token_revoke(a, ZERO, ZERO, one_id));
    CHECK(!works(one) && works(two));
    CHECK_OK(reopen());
    CHECK(!works(one) && works(two));
    end();
}

static void malformed_tokens(void)
{
    begin();
    char token[ACL_TOKEN_TEXT_BYTES + 8] = {0}, absent[600];
    id128 id;
    acl_identity who;
    CHECK_OK(acl_token_issue(a, tenant, admin, token, &id));
    snprintf(absent, sizeof absent, "%s", acl_authenticate(a, "lethe_no", &who).message);
    CHECK(absent[0] != 0);
    for (size_t i = 0; i < 49; i++) {                      /* each character matters */
        char was = token[i];
        token[i] = was == 'A' ? 'B' : 'A';
        result r = acl_authenticate(a, token, &who);
        CHECK(r.code == E_UNAUTHENTICATED && strcmp(r.message, absent) == 0);
        CHECK(id_is_zero(who.principal) && who.name[0] == 0 && !who.operator_role);
        token[i] = was;
    }
    CHECK(works(token));
    token[49] = 'A';
    CHECK(!works(token));
    token[48] = token[49] = 0;
    CHECK(!works(token) && !works("") && !works(NULL) && !works("lethe_"));
    char long_text[5000];
    memset(long_text, 'a', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    CHECK(!works(long_text));
    end();
}

static void token_limit_is_own(void)
{
    begin();
    id128 ada = user("ada"), id, first = ZERO;
    char token[ACL_TOKEN_TEXT_BYTES];
    for (int i = 0; i < ACL_TOKENS_MAX; i++) {
        CHECK_OK(acl_token_issue(a, tenant, ada, token, &id));
        if (i == 0)
            first = id;
    }
    CHECK_FAILS(acl_token_issue(a, tenant, ada, token, &id), E_EXHAUSTED);
    CHECK_OK(acl_token_issue(a, tenant, admin, token, &id));
    CHECK_OK(acl_token_revoke(a, tenant, ada, first));
    CHECK_OK(acl_token_issue(a, tenant, ada, token, &id));
    CHECK_OK(reopen());
    CHECK(works(token));
    end();
}

/* ---- grants -------------------------------------------------------------------------------- */

static void grants_index(void)
{
    begin();
    id128 ada = user("ada"), bob = user("bob"), team = group("team"), d1 = id_random(),
          d2 = id_random(), *owners, both[2] = {bob, team};
    size_t count;
    CHECK_OK(acl_grant_add(a, tenant, (acl_grant){ada, d1, bob}));
    CHECK_OK(acl_grant_add(a, tenant, (acl_grant){ada, d1, bob}));
    CHECK_OK(acl_grant_add(a, tenant, (acl_grant){ada, d1, team}));
    CHECK_OK(acl_grant_add(a, tenant, (acl_grant){ada, d2, bob}));
    CHECK_OK(acl_grant_add(a, tenant, (acl_grant){bob, id_random(), team}));
    CHECK(grants(ZERO, ZERO, ZERO) == 4);
    CHECK(grants(ada, ZERO, ZERO) == 3 && grants(ZERO, d1, ZERO) == 2);
    CHECK(grants(ZERO, ZERO, bob) == 2 && grants(ada, d1, bob) == 1 && grants(bob, d1, ZERO) == 0);
    CHECK(grants(id_random(), ZERO, ZERO) == 0 && grants(ZERO, ZERO, id_random()) == 0);
    CHECK_FAILS(acl_grant_add(a, tenant, (acl_grant){ada, d1, id_random()}), E_NOT_FOUND);
    CHECK_FAILS(acl_grant_add(a, tenant, (acl_grant){ada, ZERO, bob}), E_NOT_FOUND);

    CHECK(owners_for(bob, &owners) == 2 && owners_for(ada, &owners) == 1);
    CHECK(id_equal(owners[0], ada));
    CHECK_OK(acl_owners_for(a, tenant, both, 2, mem, &owners, &count));
    CHECK(count == 3);                                     /* ada, bob, team */
    for (size_t i = 1; i < count; i++)
        CHECK(id_compare(owners[i - 1], owners[i]) < 0);

    for (int pass = 0; pass < 2; pass++) {
        CHECK(grants(ZERO, ZERO, ZERO) == 4 && owners_for(bob, &owners) == 2);
        CHECK_OK(reopen());
    }
    CHECK_OK(acl_grant_remove(a, tenant, (acl_grant){ada, d1, bob}));
    CHECK_OK(acl_grant_remove(a, tenant, (acl_grant){ada, d1, bob}));
    CHECK(grants(ZERO, ZERO, bob) == 1 && owners_for(bob, &owners) == 2);   /* d2 is left */
    CHECK_OK(acl_grant_remove(a, tenant, (acl_grant){ada, d2, bob}));
    CHECK(owners_for(bob, &owners) == 1);
    CHECK_OK(reopen());
    CHECK(grants(ZERO, ZERO, ZERO) == 2 && owners_for(bob, &owners) == 1);
    end();
}

/* ---- keeping and forgetting ---------------------------------------------------------------- */

static void reopen_keeps_everything(void)
{
    defaults = (acl_quota){.documents_max = 77};
    begin();
    id128 ada = user("ada"), team = group("team"), unit = group("unit"), id, out;
    char token[ACL_TOKEN_TEXT_BYTES], boss[ACL_TOKEN_TEXT_BYTES];
    acl_quota quota = {1, 2, 3, 4, 5, 6}, got;
    acl_kind kind;
    CHECK_OK(acl_member_add(a, tenant, team, ada));
    CHECK_OK(acl_member_add(a, tenant, unit, team));
    CHECK_OK(acl_token_issue(a, tenant, ada, token, &id));
    CHECK_OK(acl_operator_token_issue(a, boss, &id));
    CHECK_OK(acl_quota_set(a, tenant, ada, &quota));
    size_t created = keys->created;
    CHECK_OK(reopen());
    CHECK(keys->created == created);
    CHECK(works(token) && works(boss) && in_groups(ada, unit));
    CHECK_OK(acl_find(a, tenant, "unit", &out, &kind));
    CHECK(id_equal(out, unit) && kind == ACL_GROUP);
    CHECK_OK(acl_tenant_find(a, "acme", &out));
    CHECK(id_equal(out, tenant));
    CHECK_OK(acl_quota_get(a, tenant, ada, &got));
    CHECK(got.documents_max == 1 && got.bytes_max == 2 && got.requests_per_second == 3);
    CHECK(got.concurrent_answers_max == 4 && got.concurrent_calls_max == 5);
    CHECK(got.tokens_per_minute == 6);
    CHECK_OK(acl_quota_get(a, tenant, team, &got));
    CHECK(got.documents_max == 77 && got.requests_per_second == 0);
    end();
}

static size_t visited;
static result count_one(void *ctx, id128 of, id128 principal, acl_kind kind)
{
    char name[ACL_NAME_MAX_BYTES + 1];
    (void)kind;
    CHECK_OK(acl_name_of(a, principal, name, NULL));       /* a visitor may ask acl */
    CHECK(id_equal(of, tenant));
    visited++;
    return ctx == NULL ? OK : fail(E_CANCELLED, "enough");
}

static void dropping_a_user(void)
{
    begin();
    id128 ada = user("ada"), bob = user("bob"), team = group("team"), id, again, d = id_random();
    id128 list[ACL_GROUPS_MAX + 1], *owners;
    char token[ACL_TOKEN_TEXT_BYTES];
    size_t count;
    acl_kind kind;
    CHECK_OK(acl_member_add(a, tenant, team, bob));
    CHECK_OK(acl_token_issue(a, tenant, bob, token, &id));
    CHECK_OK(acl_grant_add(a, tenant, (acl_grant){ada, d, bob}));
    CHECK_OK(acl_grant_add(a, tenant, (acl_grant){bob, id_random(), ada}));
    CHECK_OK(acl_grant_add(a, tenant, (acl_grant){ada, d, team}));

    CHECK_OK(acl_fence(a, tenant, bob));
    CHECK(!works(token));
    CHECK_FAILS(acl_find(a, tenant, "bob", &again, NULL), E_NOT_FOUND);
    CHECK_FAILS(acl_principals_of(a, tenant, bob, list, &count), E_NOT_FOUND);
    CHECK_FAILS(acl_admit(a, bob, ACL_CALL, 0), E_NOT_FOUND);
    CHECK_FAILS(acl_token_issue(a, tenant, bob, token, &id), E_NOT_FOUND);
    CHECK_FAILS(acl_member_add(a, tenant, team, bob), E_NOT_FOUND);
    CHECK_FAILS(acl_grant_add(a, tenant, (acl_grant){ada, id_random(), bob}), E_NOT_FOUND);
    CHECK(owners_for(ada, &owners) == 1);                  /* bob's store is behind the fence */
    CHECK(grants(ZERO, ZERO, bob) == 1);                   /* the erasure still sees these */
    visited = 0;
    CHECK_OK(acl_each(a, tenant, count_one, NULL));
    CHECK(visited == 3);
    visited = 0;
    CHECK_FAILS(acl_each(a, ZERO, count_one, &visited), E_CANCELLED);
    CHECK(visited == 1);

    ring_erase(tenant, bob);
    CHECK_OK(acl_drop(a, tenant, bob));
    CHECK_OK(acl_drop(a, tenant, bob));
    CHECK(grants(ZERO, ZERO, ZERO) == 1);
    for (int pass = 0; pass < 2; pass++) {
        CHECK(!works(token));
        CHECK_FAILS(acl_find(a, tenant, "bob", &again, &kind), E_NOT_FOUND);
        CHECK(grants(ZERO, ZERO, bob) == 0 && grants(bob, ZERO, ZERO) == 0);
        CHECK_OK(reopen());
    }
    again = user("bob");                                   /* a namesake inherits nothing */
    CHECK(!id_equal(again, bob) && !in_groups(again, team));
    CHECK(grants(ZERO, ZERO, again) == 0 && owners_for(again, &owners) == 1 && !works(token));
    end();
}

static void dropping_a_group(void)
{
    begin();
    id128 ada = user("ada"), team = group("team"), unit = group("unit"), d = id_random(), *owners;
    CHECK_OK(acl_member_add(a, tenant, team, ada));
    CHECK_OK(acl_member_add(a, tenant, unit, team));
    CHECK_OK(acl_member_add(a, tenant, unit, ada));
    CHECK_OK(acl_grant_add(a, tenant, (acl_grant){team, d, ada}));
    CHECK_OK(acl_fence(a, tenant, team));
    CHECK(!in_groups(ada, team) && in_groups(ada, unit));
    CHECK_OK(acl_drop(a, tenant, team));
    id128 again = group("team"), *direct;
    size_t count;
    for (int pass = 0; pass < 2; pass++) {
        CHECK_OK(acl_groups_of(a, tenant, ada, mem, &direct, &count));
        CHECK(count == 1 && id_equal(direct[0], unit));
        CHECK(!in_groups(ada, again) && !in_groups(again, unit));
        CHECK(owners_for(ada, &owners) == 1);
        CHECK_OK(reopen());
    }
    end();
}

static void dropping_a_tenant(void)
{
    begin();
    id128 other, other_admin, out, id, list[ACL_GROUPS_MAX + 1];
    char token[ACL_TOKEN_TEXT_BYTES], other_token[ACL_TOKEN_TEXT_BYTES];
    size_t count;
    CHECK_OK(acl_tenant_add(a, "globex", "root", &other, &other_admin));
    CHECK_OK(acl_token_issue(a, tenant, admin, token, &id));
    CHECK_OK(acl_token_issue(a, other, other_admin, other_token, &id));
    CHECK_OK(acl_grant_add(a, tenant, (acl_grant){admin, id_random(), user("ada")}));
    CHECK_OK(acl_fence(a, tenant, ZERO));
    CHECK(!works(token) && works(other_token));
    CHECK_FAILS(acl_tenant_find(a, "acme", &out), E_NOT_FOUND);
    CHECK_FAILS(acl_principal_add(a, tenant, ACL_USER, "eve", false, &out), E_NOT_FOUND);
    CHECK_FAILS(acl_principals_of(a, tenant, admin, list, &count), E_NOT_FOUND);
    ring_erase(tenant, tenant);
    CHECK_OK(acl_drop(a, tenant, ZERO));
    CHECK_OK(acl_drop(a, tenant, ZERO));
    for (int pass = 0; pass < 2; pass++) {
        CHECK(!works(token) && works(other_token));
        CHECK(grants(ZERO, ZERO, ZERO) == 0);
        CHECK_FAILS(acl_find(a, tenant, "root", &out, NULL), E_NOT_FOUND);
        CHECK_OK(reopen());
    }
    CHECK_FAILS(acl_drop(a, ZERO, ZERO), E_NOT_FOUND);
    CHECK_FAILS(acl_fence(a, ZERO, ZERO), E_NOT_FOUND);
    CHECK_OK(acl_tenant_add(a, "acme", "root", &out, &id));
    CHECK(!id_equal(out, tenant) && !works(token));
    end();
}

/* ---- quotas -------------------------------------------------------------------------------- */

static void shares_are_ones_own(void)
{
    defaults = (acl_quota){.concurrent_answers_max = 2, .concurrent_calls_max = 3};
    begin();
    id128 ada = user("ada"), bob = user("bob");
    result r;
    for (int i = 0; i < 2; i++)
        CHECK_OK(acl_admit(a, ada, ACL_ANSWER, 0));
    r = acl_admit(a, ada, ACL_ANSWER, 0);
    CHECK(r.code == E_EXHAUSTED);
    CHECK(strcmp(r.message, "your limit of 2 concurrent answers is reached; wait for one to end") ==
          0);
    for (int i = 0; i < 3; i++)
        CHECK_OK(acl_admit(a, ada, ACL_CALL, 0));
    CHECK_FAILS(acl_admit(a, ada, ACL_CALL, 0), E_EXHAUSTED);
    for (int i = 0; i < 2; i++)                            /* her load never refuses him */
        CHECK_OK(acl_admit(a, bob, ACL_ANSWER, 0));
    CHECK_OK(acl_admit(a, bob, ACL_CALL, 0));
    CHECK_OK(acl_admit(a, ZERO, ACL_CALL, 0));
    acl_leave(a, ada, ACL_ANSWER);
    CHECK_OK(acl_admit(a, ada, ACL_ANSWER, 0));
    CHECK_FAILS(acl_admit(a, ada, ACL_ANSWER, 0), E_EXHAUSTED);
    /* A quota of one's own holds at once. */
    CHECK_OK(acl_quota_set(a, tenant, ada, &(acl_quota){.concurrent_answers_max = 3}));
    CHECK_OK(acl_admit(a, ada, ACL_ANSWER, 0));
    CHECK_FAILS(acl_admit(a, ada, ACL_ANSWER, 0), E_EXHAUSTED);
    CHECK_OK(acl_admit(a, ada, ACL_CALL, 0));
    CHECK_OK(acl_drop(a, tenant, ada));
    acl_leave(a, ada, ACL_ANSWER);                         /* gone meanwhile: fine */
    CHECK_FAILS(acl_admit(a, ada, ACL_CALL, 0), E_NOT_FOUND);
    end();
}

static bool call(id128 who, uint64_t now_ms)
{
    result r = acl_admit(a, who, ACL_CALL, now_ms);
    if (!is_ok(r)) {
        CHECK(r.code == E_EXHAUSTED);
        return false;
    }
    acl_leave(a, who, ACL_CALL);
    return true;
}

static void request_rate(void)
{
    defaults = (acl_quota){.requests_per_second = 4};
    begin();
    id128 ada = user("ada"), bob = user("bob");
    for (int i = 0; i < 8; i++)                            /* the burst: two seconds' worth */
        CHECK(call(ada, 1000));
    CHECK(!call(ada, 1000) && call(bob, 1000));
    CHECK(strstr(acl_admit(a, ada, ACL_CALL, 1000).message, "try again in 250 ms") != NULL);
    CHECK_OK(acl_admit(a, ada, ACL_ANSWER, 1000));         /* an answer is not charged again */
    CHECK(!call(ada, 1249) && call(ada, 1250) && !call(ada, 1250));
    for (int i = 0; i < 8; i++)
        CHECK(call(ada, 900000));                          /* full again, and no fuller */
    CHECK(!call(ada, 900000));
    CHECK(!call(ada, 5));                                  /* a clock set back neither gives ... */
    CHECK(call(ada, 255));                                 /* ... nor locks out */
    CHECK_OK(acl_quota_set(a, tenant, ada, &(acl_quota){0}));
    for (int i = 0; i < 100; i++)
        CHECK(call(ada, 255));
    end();
}

static void tokens_per_minute(void)
{
    defaults = (acl_quota){.tokens_per_minute = 600};
    begin();
    id128 ada = user("ada"), bob = user("bob");
    CHECK_OK(acl_tokens_take(a, ada, 600, 0));
    CHECK_FAILS(acl_tokens_take(a, ada, 1, 0), E_EXHAUSTED);
    CHECK_OK(acl_tokens_take(a, ada, 0, 0));
    CHECK_OK(acl_tokens_take(a, bob, 600, 0));
    CHECK(strstr(acl_tokens_take(a, ada, 100, 0).message, "try again in 10 s") != NULL);
    CHECK_OK(acl_tokens_take(a, ada, 100, 10000));
    CHECK_FAILS(acl_tokens_take(a, ada, 1, 10000), E_EXHAUSTED);
    CHECK_FAILS(acl_tokens_take(a, ada, 601, 1000000), E_EXHAUSTED);
    CHECK_OK(acl_tokens_take(a, ada, 600, 1000000));
    const acl_quota huge = {.tokens_per_minute = UINT64_MAX, .requests_per_second = UINT32_MAX};
    CHECK_OK(acl_quota_set(a, tenant, ada, &huge));
    CHECK_OK(acl_tokens_take(a, ada, 1000000, UINT64_MAX));
    CHECK(call(ada, UINT64_MAX));
    CHECK_FAILS(acl_tokens_take(a, id_random(), 1, 0), E_NOT_FOUND);
    end();
}

/* ---- threads ------------------------------------------------------------------------------- */

typedef struct {
    id128 ada, team, unit;
    const char *token;
    atomic_bool stop;
    atomic_uint bad;
} race;

static void *read_all_the_time(void *ctx)
{
    race *c = ctx;
    arena *own;
    arena_open(&own, 1 << 20);
    while (!c->stop) {
        id128 list[ACL_GROUPS_MAX + 1], *owners, out;
        size_t count;
        acl_identity who;
        arena_reset(own);
        bool fine = is_ok(acl_authenticate(a, c->token, &who));
        /* team is in unit for good: with team always comes unit, never half an answer. */
        fine = fine && is_ok(acl_principals_of(a, tenant, c->ada, list, &count));
        fine = fine && (count == 1 || count == 3);
        fine = fine && is_ok(acl_owners_for(a, tenant, &c->ada, 1, own, &owners, &count));
        fine = fine && is_ok(acl_find(a, tenant, "ada", &out, NULL));
        fine = fine && is_ok(acl_admit(a, c->ada, ACL_CALL, 0));
        if (fine)
            acl_leave(a, c->ada, ACL_CALL);
        else
            c->bad++;
    }
    arena_close(&own);
    return NULL;
}

static void reading_while_changing(void)
{
    begin();
    race c = {.ada = user("ada"), .team = group("team"), .unit = group("unit")};
    char token[ACL_TOKEN_TEXT_BYTES], other[ACL_TOKEN_TEXT_BYTES], name[16];
    id128 id, temporary;
    CHECK_OK(acl_token_issue(a, tenant, c.ada, token, &id));
    CHECK_OK(acl_member_add(a, tenant, c.unit, c.team));
    c.token = token;
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        NEED(pthread_create(&threads[i], NULL, read_all_the_time, &c) == 0);
    for (int i = 0; i < 20; i++) {
        CHECK_OK(acl_member_add(a, tenant, c.team, c.ada));
        snprintf(name, sizeof name, "t%d", i);
        CHECK_OK(acl_principal_add(a, tenant, ACL_USER, name, false, &temporary));
        CHECK_OK(acl_grant_add(a, tenant, (acl_grant){temporary, id_random(), c.ada}));
        CHECK_OK(acl_token_issue(a, tenant, c.ada, other, &id));
        CHECK_OK(acl_member_remove(a, tenant, c.team, c.ada));
        CHECK_OK(acl_token_revoke(a, tenant, c.ada, id));
        CHECK(!works(other));
        CHECK_OK(acl_fence(a, tenant, temporary));
        CHECK_OK(acl_drop(a, tenant, temporary));
    }
    c.stop = true;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK(c.bad == 0);
    CHECK(grants(ZERO, ZERO, ZERO) == 0);
    end();
}

int main(void)
{
    RUN(names);
    RUN(tenants_with_equal_names);
    RUN(nested_groups);
    RUN(group_cap_fails_closed);
    RUN(tokens);
    RUN(operator_tokens);
    RUN(malformed_tokens);
    RUN(token_limit_is_own);
    RUN(grants_index);
    RUN(grants_against_a_list);
    RUN(reopen_keeps_everything);
    RUN(dropping_a_user);
    RUN(dropping_a_group);
    RUN(dropping_a_tenant);
    RUN(keys_gone_at_open);
    RUN(no_system_key);
    RUN(tampering_is_data_loss);
    RUN(nothing_readable_in_the_file);
    RUN(decoders_take_all_or_nothing);
    RUN(map_against_an_array);
    RUN(shares_are_ones_own);
    RUN(request_rate);
    RUN(tokens_per_minute);
    RUN(reading_while_changing);
    return DONE();
}
