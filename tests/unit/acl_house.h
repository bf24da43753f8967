/* The house that the cases about acl live in. Files are real; only the key tree is stood in for: a
 * table of random secrets, from which a case can take one away as an erasure does. */
#ifndef LETHE_TEST_ACL_HOUSE_H
#define LETHE_TEST_ACL_HOUSE_H

#include "acl.h"
#include "acl/record.h"
#include "test.h"

#include <pthread.h>

/* ---- keys ---------------------------------------------------------------------------------- */

typedef struct { id128 tenant, owner; uint8_t secret[KEY_BYTES]; bool gone; } node;
typedef struct { pthread_mutex_t lock; node nodes[4096]; size_t count; size_t created; } ring;

static ring *keys;

static node *ring_find(ring *k, id128 tenant, id128 owner)
{
    for (size_t i = 0; i < k->count; i++)
        if (id_equal(k->nodes[i].tenant, tenant) && id_equal(k->nodes[i].owner, owner))
            return &k->nodes[i];
    return NULL;
}

static result ring_create(void *ctx, id128 tenant, id128 owner)
{
    ring *k = ctx;
    pthread_mutex_lock(&k->lock);
    if (ring_find(k, tenant, owner) == NULL) {
        ASSERT(k->count < sizeof k->nodes / sizeof *k->nodes);
        node *n = &k->nodes[k->count++];
        n->tenant = tenant;
        n->owner = owner;
        random_bytes(n->secret, sizeof n->secret);
    }
    k->created++;
    pthread_mutex_unlock(&k->lock);
    return OK;
}

static result ring_secret(void *ctx, id128 tenant, id128 owner, uint8_t secret[KEY_BYTES])
{
    ring *k = ctx;
    result r = OK;
    pthread_mutex_lock(&k->lock);
    node *n = ring_find(k, tenant, owner);
    if (n != NULL && !n->gone)
        memcpy(secret, n->secret, KEY_BYTES);
    else
        r = fail(E_NOT_FOUND, "no such node");
    pthread_mutex_unlock(&k->lock);
    return r;
}

static void ring_erase(id128 tenant, id128 owner)
{
    node *n = ring_find(keys, tenant, owner);
    ASSERT(n != NULL);
    mem_wipe(n->secret, sizeof n->secret);
    n->gone = true;
}

/* ---- the house each case lives in ---------------------------------------------------------- */

static const id128 ZERO;
static char dir[256], path[300];
static acl *a;
static arena *mem;
static id128 tenant, admin;
static acl_quota defaults;

static result reopen(void)
{
    acl_close(&a);
    return acl_open(&a, &(acl_options){path, {ring_create, ring_secret, keys}, defaults});
}

static void begin(void)
{
    test_tmpdir(dir);
    snprintf(path, sizeof path, "%s/acl.mdb", dir);
    keys = mem_alloc(sizeof *keys);
    pthread_mutex_init(&keys->lock, NULL);
    CHECK_OK(ring_create(keys, ZERO, ZERO));
    arena_open(&mem, 1 << 20);
    CHECK_OK(reopen());
    CHECK_OK(acl_tenant_add(a, "acme", "root", &tenant, &admin));
}

static void end(void)
{
    acl_close(&a);
    arena_close(&mem);
    mem_free(keys);
    test_tmpdir_remove(dir);
    defaults = (acl_quota){0};
}

static id128 user(const char *name)
{
    id128 id = ZERO;
    CHECK_OK(acl_principal_add(a, tenant, ACL_USER, name, false, &id));
    return id;
}

static id128 group(const char *name)
{
    id128 id = ZERO;
    CHECK_OK(acl_principal_add(a, tenant, ACL_GROUP, name, false, &id));
    return id;
}

static size_t principals(id128 who, id128 out[ACL_GROUPS_MAX + 1])
{
    size_t count = 0;
    CHECK_OK(acl_principals_of(a, tenant, who, out, &count));
    for (size_t i = 1; i < count; i++)
        CHECK(id_compare(out[i - 1], out[i]) < 0);
    return count;
}

static bool in_groups(id128 who, id128 wanted)
{
    id128 out[ACL_GROUPS_MAX + 1];
    size_t count = principals(who, out);
    for (size_t i = 0; i < count; i++)
        if (id_equal(out[i], wanted))
            return true;
    return false;
}

static bool works(const char *token)
{
    acl_identity who;
    result r = acl_authenticate(a, token, &who);
    CHECK(is_ok(r) || r.code == E_UNAUTHENTICATED);
    return is_ok(r);
}

static size_t grants(id128 owner, id128 document, id128 grantee)
{
    acl_grant *found;
    size_t count = 0;
    CHECK_OK(acl_grants(a, tenant, (acl_grant){owner, document, grantee}, mem, &found, &count));
    return count;
}

static size_t owners_for(id128 who, id128 **owners)
{
    size_t count = 0;
    CHECK_OK(acl_owners_for(a, tenant, &who, 1, mem, owners, &count));
    return count;
}

#endif
