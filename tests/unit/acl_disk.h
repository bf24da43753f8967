/* Cases about what acl.mdb holds: erased keys, damage, readable bytes, decoders, containers. */
#ifndef LETHE_TEST_ACL_DISK_H
#define LETHE_TEST_ACL_DISK_H

#include "acl_house.h"

/* ---- keys that are gone -------------------------------------------------------------------- */

static uint64_t record_count(void)
{
    kv *db;
    kv_txn *txn;
    uint64_t count = 0;
    acl_close(&a);
    CHECK_OK(kv_open(&db, path, &(kv_options){0}));
    CHECK_OK(kv_begin(db, false, &txn));
    CHECK_OK(kv_count(txn, &count));
    kv_abort(&txn);
    kv_close(&db);
    return count;
}

/* A crash between the destruction of the keys and acl_drop. */
static void keys_gone_at_open(void)
{
    begin();
    id128 ada = user("ada"), bob = user("bob"), team = group("team"), id, *direct, out;
    char token[ACL_TOKEN_TEXT_BYTES];
    size_t count;
    CHECK_OK(acl_member_add(a, tenant, team, ada));
    CHECK_OK(acl_member_add(a, tenant, team, bob));
    CHECK_OK(acl_token_issue(a, tenant, bob, token, &id));
    CHECK_OK(acl_grant_add(a, tenant, (acl_grant){ada, id_random(), bob}));
    CHECK_OK(acl_grant_add(a, tenant, (acl_grant){bob, id_random(), ada}));
    CHECK(record_count() == 7);          /* tenant, root, ada, bob, team, 2 grants */
    ring_erase(tenant, bob);
    CHECK_OK(reopen());
    CHECK(!works(token) && grants(ZERO, ZERO, ZERO) == 0);
    CHECK_FAILS(acl_find(a, tenant, "bob", &out, NULL), E_NOT_FOUND);
    CHECK(record_count() == 4);          /* durably */
    ring_erase(tenant, team);
    CHECK_OK(reopen());
    CHECK_OK(acl_groups_of(a, tenant, ada, mem, &direct, &count));
    CHECK(count == 0 && record_count() == 3);
    ring_erase(tenant, tenant);          /* and the tenant takes all along */
    CHECK_OK(reopen());
    CHECK_FAILS(acl_find(a, tenant, "ada", &out, NULL), E_NOT_FOUND);
    CHECK(record_count() == 0);
    end();
}

static void no_system_key(void)
{
    begin();
    ring_erase(ZERO, ZERO);
    CHECK_FAILS(reopen(), E_NOT_FOUND);
    CHECK(a == NULL);
    end();
}

/* ---- the file ------------------------------------------------------------------------------ */

typedef struct { uint8_t key[64], value[4096]; size_t key_size, size; } record;
typedef struct { record items[16]; size_t count; } records;

static result keep(void *ctx, bytes key, bytes value)
{
    records *all = ctx;
    record *r = &all->items[all->count++];
    ASSERT(all->count <= 16 && key.size <= sizeof r->key && value.size <= sizeof r->value);
    r->key_size = key.size;
    r->size = value.size;
    memcpy(r->key, key.data, key.size);
    memcpy(r->value, value.data, value.size);
    return OK;
}

static void put_raw(const uint8_t *key, size_t key_size, const uint8_t *value, size_t size)
{
    kv *db;
    kv_txn *txn;
    CHECK_OK(kv_open(&db, path, &(kv_options){0}));
    CHECK_OK(kv_begin(db, true, &txn));
    CHECK_OK(kv_put(txn, bytes_of(key, key_size), bytes_of(value, size)));
    CHECK_OK(kv_commit(&txn));
    kv_close(&db);
}

static void tampering_is_data_loss(void)
{
    begin();
    id128 ada = user("ada"), id;
    char token[ACL_TOKEN_TEXT_BYTES];
    CHECK_OK(acl_operator_token_issue(a, token, &id));
    CHECK_OK(acl_grant_add(a, tenant, (acl_grant){ada, id_random(), admin}));
    acl_close(&a);
    records *all = mem_alloc(sizeof *all);
    kv *db;
    kv_txn *txn;
    CHECK_OK(kv_open(&db, path, &(kv_options){0}));
    CHECK_OK(kv_begin(db, false, &txn));
    CHECK_OK(kv_each(txn, keep, all));
    kv_abort(&txn);
    kv_close(&db);
    CHECK(all->count == 5);
    for (size_t i = 0; i < all->count; i++) {
        record *r = &all->items[i];
        /* version, kind, tenant, owner, tag, nonce, ciphertext, its end */
        const size_t places[] = {0, 1, 2, 20, 34, 49, 55, 80, r->size - 1};
        for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
            r->value[places[p]] ^= 1;
            put_raw(r->key, r->key_size, r->value, r->size);
            CHECK_FAILS(reopen(), E_DATA_LOSS);
            r->value[places[p]] ^= 1;
        }
        put_raw(r->key, r->key_size, r->value, r->size - 1);
        CHECK_FAILS(reopen(), E_DATA_LOSS);
        put_raw(r->key, r->key_size, r->value, 10);
        CHECK_FAILS(reopen(), E_DATA_LOSS);
        const record *other = &all->items[(i + 1) % all->count];      /* moved */
        put_raw(r->key, r->key_size, other->value, other->size);
        CHECK_FAILS(reopen(), E_DATA_LOSS);
        put_raw(r->key, r->key_size, r->value, r->size);
    }
    CHECK_OK(reopen());                                    /* the control */
    CHECK(works(token));
    mem_free(all);
    end();
}

static bool file_contains(const char *needle)
{
    buf file;
    buf_init(&file, 64 << 20);
    CHECK_OK(file_read(path, 64 << 20, &file));
    bool found = memmem(file.data, file.size, needle, strlen(needle)) != NULL;
    buf_free(&file);
    return found;
}

static void nothing_readable_in_the_file(void)
{
    begin();
    id128 person = user("canary-person"), team = group("canary-team"), id, other, other_admin;
    char token[ACL_TOKEN_TEXT_BYTES], boss[ACL_TOKEN_TEXT_BYTES];
    CHECK_OK(acl_tenant_add(a, "canary-tenant", "canary-admin", &other, &other_admin));
    CHECK_OK(acl_member_add(a, tenant, team, person));
    CHECK_OK(acl_token_issue(a, tenant, person, token, &id));
    CHECK_OK(acl_operator_token_issue(a, boss, &id));
    acl_close(&a);
    CHECK(!file_contains("canary") && !file_contains("lethe_") && !file_contains(token + 6));
    CHECK(!file_contains(boss + 6) && !file_contains("acme") && !file_contains("root"));
    put_raw((const uint8_t *)"control", 7, (const uint8_t *)"canary", 6);
    CHECK(file_contains("canary"));                        /* the control */
    end();
}

/* Every decoder refuses every proper prefix and every lengthening of what its encoder wrote. */
static void decoders_take_all_or_nothing(void)
{
    buf b[4];
    acl_profile p = {.kind = ACL_USER, .admin = true, .quota_own = true, .name = "ada"};
    acl_token token = {id_random(), {1, 2, 3}};
    acl_tokens list = {0};
    acl_tokens_add(&list, &token);
    acl_tokens_add(&p.tokens, &token);
    acl_ids_add(&p.groups, id_random());
    acl_ids_add(&p.groups, id_random());
    for (int i = 0; i < 4; i++)
        buf_init(&b[i], 4096);
    acl_profile_encode(&p, &b[0]);
    acl_tokens_encode(&list, &b[1]);
    acl_tenant_encode("acme", &b[2]);
    acl_grant_encode(&(acl_grant){id_random(), id_random(), id_random()}, &b[3]);
    for (int i = 0; i < 4; i++) {
        size_t whole = b[i].size;
        buf_append_u8(&b[i], 0);
        for (size_t n = 0; n <= whole + 1; n++) {
            error_code want = n == whole ? E_OK : E_DATA_LOSS;
            bytes view = bytes_of(b[i].data, n);
            acl_profile profile = {0};
            acl_tokens tokens_out = {0};
            char name[ACL_NAME_MAX_BYTES + 1];
            acl_grant grant;
            result r = i == 0 ? acl_profile_decode(view, &profile)
                : i == 1 ? acl_tokens_decode(view, &tokens_out)
                : i == 2 ? acl_tenant_decode(view, name) : acl_grant_decode(view, &grant);
            CHECK(r.code == want);
            acl_profile_free(&profile);
            acl_tokens_free(&tokens_out);
        }
        b[i].data[0] ^= 0x40;                              /* an unknown version */
        if (i == 2)
            CHECK_FAILS(acl_tenant_decode(bytes_of(b[i].data, whole), p.name), E_DATA_LOSS);
        buf_free(&b[i]);
    }
    acl_profile_free(&p);
    acl_tokens_free(&list);
}

/* ---- containers ---------------------------------------------------------------------------- */

static void map_against_an_array(void)
{
    enum { KEYS = 400, STEPS = 20000 };
    static int values[KEYS];
    bool there[KEYS] = {false};
    id128 ids[KEYS];
    acl_map m;
    acl_map_init(&m);
    uint32_t seed = 7;
    size_t count = 0;
    for (int i = 0; i < KEYS; i++)
        ids[i] = (id128){{(uint8_t)i, (uint8_t)(i >> 8)}};  /* not random: the seed must spread */
    for (int step = 0; step < STEPS; step++) {
        seed = seed * 1664525u + 1013904223u;
        unsigned k = (seed >> 10) % KEYS;
        if (there[k]) {
            CHECK(acl_map_take(&m, ids[k]) == &values[k]);
            count--;
        } else {
            CHECK(acl_map_take(&m, ids[k]) == NULL);
            acl_map_set(&m, ids[k], &values[k]);
            count++;
        }
        there[k] = !there[k];
        CHECK(m.count == count);
        if (step % 500 != 0)
            continue;
        for (int i = 0; i < KEYS; i++)
            CHECK(acl_map_get(&m, ids[i]) == (there[i] ? &values[i] : NULL));
    }
    acl_map_free(&m);
}

/* The three chains and the map against a plain list, over many random changes. */
static void grants_against_a_list(void)
{
    begin();
    enum { PEOPLE = 4, DOCUMENTS = 5, STEPS = 300 };
    id128 people[PEOPLE], documents[DOCUMENTS], *owners;
    bool there[PEOPLE][DOCUMENTS][PEOPLE] = {{{false}}};
    uint32_t seed = 12345;
    for (int i = 0; i < PEOPLE; i++) {
        char name[8];
        snprintf(name, sizeof name, "p%d", i);
        people[i] = user(name);
    }
    for (int i = 0; i < DOCUMENTS; i++)
        documents[i] = id_random();
    for (int step = 0; step < STEPS; step++) {
        seed = seed * 1664525u + 1013904223u;
        unsigned o = seed >> 8 & 3, d = (seed >> 12) % DOCUMENTS, g = seed >> 20 & 3;
        acl_grant grant = {people[o], documents[d], people[g]};
        there[o][d][g] = !there[o][d][g];
        if (there[o][d][g])
            CHECK_OK(acl_grant_add(a, tenant, grant));
        else
            CHECK_OK(acl_grant_remove(a, tenant, grant));
        if (step % 20 != 19)
            continue;
        arena_reset(mem);
        for (int p = 0; p < PEOPLE; p++) {
            size_t made = 0, received = 0, givers = 1;
            for (int q = 0; q < PEOPLE; q++) {
                size_t from_q = 0;
                for (int k = 0; k < DOCUMENTS; k++) {
                    made += there[p][k][q];
                    from_q += there[q][k][p];
                }
                received += from_q;
                givers += from_q > 0 && q != p;
            }
            CHECK(grants(people[p], ZERO, ZERO) == made);
            CHECK(grants(ZERO, ZERO, people[p]) == received);
            CHECK(owners_for(people[p], &owners) == givers);
        }
    }
    end();
}

#endif
