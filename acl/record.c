#include "record.h"

#include <string.h>

enum { BODY_VERSION = 1, PREFIX_VERSION = 1 };

/* ---- tokens and profiles in memory --------------------------------------------------------- */

static size_t tokens_place(const acl_tokens *t, id128 id)
{
    size_t i = 0;
    while (i < t->count && id_compare(t->items[i].id, id) < 0)
        i++;
    return i;
}

const acl_token *acl_tokens_find(const acl_tokens *t, id128 id)
{
    size_t i = tokens_place(t, id);
    return i < t->count && id_equal(t->items[i].id, id) ? &t->items[i] : NULL;
}

/* Grows by copying and wiping: realloc would leave the hashes behind. */
static void tokens_reserve(acl_tokens *t, size_t capacity)
{
    acl_token *items = mem_alloc_array(capacity, sizeof *items);
    if (t->count > 0)
        memcpy(items, t->items, t->count * sizeof *items);
    size_t count = t->count;
    acl_tokens_free(t);
    *t = (acl_tokens){items, count, capacity};
}

void acl_tokens_add(acl_tokens *t, const acl_token *token)
{
    if (t->count == t->capacity)
        tokens_reserve(t, acl_grow(t->capacity));
    size_t i = tokens_place(t, token->id);
    memmove(t->items + i + 1, t->items + i, (t->count - i) * sizeof *t->items);
    t->items[i] = *token;
    t->count++;
}

bool acl_tokens_remove(acl_tokens *t, id128 id)
{
    size_t i = tokens_place(t, id);
    if (i == t->count || !id_equal(t->items[i].id, id))
        return false;
    memmove(t->items + i, t->items + i + 1, (t->count - i - 1) * sizeof *t->items);
    t->count--;
    mem_wipe(&t->items[t->count], sizeof *t->items);
    return true;
}

void acl_tokens_copy(acl_tokens *out, const acl_tokens *from)
{
    *out = (acl_tokens){0};
    if (from->count == 0)
        return;
    tokens_reserve(out, from->count);
    memcpy(out->items, from->items, from->count * sizeof *out->items);
    out->count = from->count;
}

void acl_tokens_free(acl_tokens *t)
{
    if (t->items != NULL)
        mem_wipe(t->items, t->capacity * sizeof *t->items);
    mem_free(t->items);
    *t = (acl_tokens){0};
}

void acl_profile_copy(acl_profile *out, const acl_profile *from)
{
    *out = *from;
    acl_ids_copy(&out->groups, &from->groups);
    acl_tokens_copy(&out->tokens, &from->tokens);
}

void acl_profile_free(acl_profile *p)
{
    acl_ids_free(&p->groups);
    acl_tokens_free(&p->tokens);
    mem_wipe(p, sizeof *p);
}

bool acl_name_valid(const char *name)
{
    size_t n = strnlen(name, ACL_NAME_MAX_BYTES + 1);
    if (n == 0 || n > ACL_NAME_MAX_BYTES)
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!plain && (i == 0 || (c != '.' && c != '_' && c != '-')))
            return false;
    }
    return true;
}

const char *acl_name_strip(const char *name, acl_kind *kind)
{
    *kind = (acl_kind)0;
    if (strncmp(name, "user:", 5) == 0) {
        *kind = ACL_USER;
        return name + 5;
    }
    if (strncmp(name, "group:", 6) == 0) {
        *kind = ACL_GROUP;
        return name + 6;
    }
    return name;
}

/* ---- bodies -------------------------------------------------------------------------------- */

static void put_id(buf *out, id128 id)
{
    buf_append(out, id.b, ID_BYTES);
}

static id128 take_id(reader *r)
{
    id128 id = {{0}};
    const uint8_t *p = reader_take(r, ID_BYTES);
    if (p != NULL)
        memcpy(id.b, p, ID_BYTES);
    return id;
}

static void put_name(buf *out, const char *name)
{
    size_t n = strlen(name);
    ASSERT(n <= ACL_NAME_MAX_BYTES);
    buf_append_u8(out, (uint8_t)n);
    buf_append(out, name, n);
}

/* An invalid name makes the reader bad. */
static void take_name(reader *r, char name[ACL_NAME_MAX_BYTES + 1])
{
    size_t n = reader_u8(r);
    const uint8_t *p = n <= ACL_NAME_MAX_BYTES ? reader_take(r, n) : NULL;
    memset(name, 0, ACL_NAME_MAX_BYTES + 1);
    if (p != NULL && memchr(p, 0, n) == NULL)
        memcpy(name, p, n);
    r->bad = r->bad || !acl_name_valid(name);
}

static bool take_flag(reader *r)
{
    uint8_t flag = reader_u8(r);
    r->bad = r->bad || flag > 1;
    return flag == 1;
}

static void put_tokens(const acl_tokens *t, buf *out)
{
    ASSERT(t->count <= ACL_TOKENS_MAX);
    buf_append_u16(out, (uint16_t)t->count);
    for (size_t i = 0; i < t->count; i++) {
        put_id(out, t->items[i].id);
        buf_append(out, t->items[i].hash, HASH_BYTES);
    }
}

static void take_tokens(reader *r, acl_tokens *t)
{
    size_t count = reader_u16(r);
    r->bad = r->bad || count > ACL_TOKENS_MAX;
    for (size_t i = 0; i < count && !r->bad; i++) {
        acl_token token = {.id = take_id(r)};
        const uint8_t *hash = reader_take(r, HASH_BYTES);
        if (hash == NULL)
            break;
        memcpy(token.hash, hash, HASH_BYTES);
        if (i > 0 && id_compare(t->items[i - 1].id, token.id) >= 0)
            r->bad = true;
        else
            acl_tokens_add(t, &token);
        mem_wipe(&token, sizeof token);
    }
}

static void put_quota(const acl_quota *q, buf *out)
{
    buf_append_u64(out, q->documents_max);
    buf_append_u64(out, q->bytes_max);
    buf_append_u32(out, q->requests_per_second);
    buf_append_u32(out, q->concurrent_answers_max);
    buf_append_u32(out, q->concurrent_calls_max);
    buf_append_u64(out, q->tokens_per_minute);
}

static acl_quota take_quota(reader *r)
{
    acl_quota q = {0};
    q.documents_max = reader_u64(r);
    q.bytes_max = reader_u64(r);
    q.requests_per_second = reader_u32(r);
    q.concurrent_answers_max = reader_u32(r);
    q.concurrent_calls_max = reader_u32(r);
    q.tokens_per_minute = reader_u64(r);
    return q;
}

static void take_version(reader *r)
{
    if (reader_u8(r) != BODY_VERSION)
        r->bad = true;
}

void acl_profile_encode(const acl_profile *p, buf *out)
{
    ASSERT(p->groups.count <= ACL_GROUPS_MAX && acl_name_valid(p->name));
    buf_append_u8(out, BODY_VERSION);
    buf_append_u8(out, (uint8_t)p->kind);
    buf_append_u8(out, p->admin);
    buf_append_u8(out, p->quota_own);
    put_quota(&p->quota, out);
    put_name(out, p->name);
    buf_append_u16(out, (uint16_t)p->groups.count);
    for (size_t i = 0; i < p->groups.count; i++)
        put_id(out, p->groups.ids[i]);
    put_tokens(&p->tokens, out);
}

result acl_profile_decode(bytes body, acl_profile *out)
{
    *out = (acl_profile){0};
    reader r = reader_of(body);
    take_version(&r);
    uint8_t kind = reader_u8(&r);
    r.bad = r.bad || (kind != ACL_USER && kind != ACL_GROUP);
    out->kind = kind == ACL_GROUP ? ACL_GROUP : ACL_USER;
    out->admin = take_flag(&r);
    out->quota_own = take_flag(&r);
    out->quota = take_quota(&r);
    take_name(&r, out->name);
    size_t groups = reader_u16(&r);
    r.bad = r.bad || groups > ACL_GROUPS_MAX;
    for (size_t i = 0; i < groups && !r.bad; i++) {
        id128 id = take_id(&r);
        if (i > 0 && id_compare(out->groups.ids[i - 1], id) >= 0)
            r.bad = true;
        else
            acl_ids_add(&out->groups, id);
    }
    take_tokens(&r, &out->tokens);
    r.bad = r.bad || (kind == ACL_GROUP && (out->admin || out->tokens.count > 0));
    result done = reader_done(&r, "principal record");
    if (!is_ok(done))
        acl_profile_free(out);
    return done;
}

void acl_tokens_encode(const acl_tokens *t, buf *out)
{
    buf_append_u8(out, BODY_VERSION);
    put_tokens(t, out);
}

result acl_tokens_decode(bytes body, acl_tokens *out)
{
    *out = (acl_tokens){0};
    reader r = reader_of(body);
    take_version(&r);
    take_tokens(&r, out);
    result done = reader_done(&r, "operator record");
    if (!is_ok(done))
        acl_tokens_free(out);
    return done;
}

void acl_tenant_encode(const char *name, buf *out)
{
    buf_append_u8(out, BODY_VERSION);
    put_name(out, name);
}

result acl_tenant_decode(bytes body, char name[ACL_NAME_MAX_BYTES + 1])
{
    reader r = reader_of(body);
    take_version(&r);
    take_name(&r, name);
    return reader_done(&r, "tenant record");
}

void acl_grant_encode(const acl_grant *grant, buf *out)
{
    buf_append_u8(out, BODY_VERSION);
    put_id(out, grant->document);
    put_id(out, grant->grantee);
}

result acl_grant_decode(bytes body, acl_grant *out)
{
    reader r = reader_of(body);
    take_version(&r);
    out->document = take_id(&r);
    out->grantee = take_id(&r);
    return reader_done(&r, "grant record");
}

/* ---- sealing ------------------------------------------------------------------------------- */

static void encode_ids(const acl_record_id *id, size_t id_count, uint8_t *out)
{
    const id128 ids[4] = {id->tenant, id->owner, id->document, id->grantee};
    out[0] = (uint8_t)id->kind;
    for (size_t i = 0; i < id_count; i++)
        memcpy(out + 1 + i * ID_BYTES, ids[i].b, ID_BYTES);
}

void acl_record_key(acl_vault v, const acl_record_id *id, uint8_t key[ACL_RECORD_KEY_BYTES])
{
    uint8_t data[1 + 4 * ID_BYTES];
    encode_ids(id, 4, data);
    hash_keyed(v.index_key, "record", bytes_of(data, sizeof data), key);
}

/* prefix | key: what the tag and the sealing both bind. */
static void bind(const uint8_t prefix[ACL_PREFIX_BYTES], const uint8_t key[ACL_RECORD_KEY_BYTES],
                 uint8_t out[ACL_PREFIX_BYTES + ACL_RECORD_KEY_BYTES])
{
    memcpy(out, prefix, ACL_PREFIX_BYTES);
    memcpy(out + ACL_PREFIX_BYTES, key, ACL_RECORD_KEY_BYTES);
}

static result sealing_key(acl_vault v, const acl_record_id *id, uint8_t key[KEY_BYTES])
{
    uint8_t secret[KEY_BYTES], kind = (uint8_t)id->kind;
    result r = v.keys->key_secret(v.keys->ctx, id->tenant, id->owner, secret);
    if (is_ok(r))
        key_derive(secret, "acl", bytes_of(&kind, 1), key);
    mem_wipe(secret, sizeof secret);
    return r;
}

result acl_record_put(acl_vault v, kv_txn *txn, const acl_record_id *id, bytes body)
{
    uint8_t key[ACL_RECORD_KEY_BYTES], prefix[ACL_PREFIX_BYTES], tag[HASH_BYTES], seal[KEY_BYTES];
    uint8_t bound[ACL_PREFIX_BYTES + ACL_RECORD_KEY_BYTES];
    acl_record_key(v, id, key);
    prefix[0] = PREFIX_VERSION;
    encode_ids(id, 2, prefix + 1);
    bind(prefix, key, bound);
    hash_keyed(v.index_key, "prefix", bytes_of(bound, sizeof bound), tag);
    buf value;
    buf_init(&value, 2 * ACL_BODY_MAX_BYTES);
    buf_append(&value, prefix, sizeof prefix);
    buf_append(&value, tag, ACL_TAG_BYTES);
    result r;
    TRY_TO(r, sealing_key(v, id, seal), out);
    TRY_TO(r, seal_value(seal, bytes_of(bound, sizeof bound), body, &value), out);
    TRY_TO(r, buf_check(&value), out);
    r = kv_put(txn, bytes_of(key, sizeof key), buf_bytes(&value));
out:
    mem_wipe(seal, sizeof seal);
    buf_free(&value);
    return r;
}

result acl_record_delete(acl_vault v, kv_txn *txn, const acl_record_id *id)
{
    uint8_t key[ACL_RECORD_KEY_BYTES];
    acl_record_key(v, id, key);
    return kv_delete(txn, bytes_of(key, sizeof key));
}

result acl_record_put_profile(acl_vault v, kv_txn *txn, id128 tenant, id128 principal,
                              const acl_profile *profile)
{
    acl_record_id id = {.kind = ACL_RECORD_PRINCIPAL, .tenant = tenant, .owner = principal};
    buf body;
    buf_init(&body, ACL_BODY_MAX_BYTES);
    acl_profile_encode(profile, &body);
    result r = buf_check(&body);
    if (is_ok(r))
        r = acl_record_put(v, txn, &id, buf_bytes(&body));
    buf_free(&body);
    return r;
}

result acl_record_parse(acl_vault v, bytes key, bytes value, acl_record_id *id, bytes *sealed)
{
    static const size_t HEAD = ACL_PREFIX_BYTES + ACL_TAG_BYTES;
    uint8_t bound[ACL_PREFIX_BYTES + ACL_RECORD_KEY_BYTES], tag[HASH_BYTES];
    if (key.size != ACL_RECORD_KEY_BYTES || value.size < HEAD)
        return fail(E_DATA_LOSS, "acl: a record is cut short");
    bind(value.data, key.data, bound);
    hash_keyed(v.index_key, "prefix", bytes_of(bound, sizeof bound), tag);
    if (!secure_equal(tag, value.data + ACL_PREFIX_BYTES, ACL_TAG_BYTES))
        return fail(E_DATA_LOSS, "acl: a record's prefix does not authenticate");
    if (value.data[0] != PREFIX_VERSION || value.data[1] < ACL_RECORD_OPERATOR ||
        value.data[1] > ACL_RECORD_GRANT)
        return fail(E_DATA_LOSS, "acl: a record of an unknown version or kind");
    *id = (acl_record_id){.kind = (acl_record_kind)value.data[1]};
    memcpy(id->tenant.b, value.data + 2, ID_BYTES);
    memcpy(id->owner.b, value.data + 2 + ID_BYTES, ID_BYTES);
    *sealed = bytes_of(value.data + HEAD, value.size - HEAD);
    return OK;
}

result acl_record_open(acl_vault v, bytes key, const acl_record_id *id, bytes sealed, buf *body)
{
    static const char *const WORDS[] = {"", "operator", "tenant", "principal", "grant"};
    uint8_t seal[KEY_BYTES], prefix[ACL_PREFIX_BYTES];
    uint8_t bound[ACL_PREFIX_BYTES + ACL_RECORD_KEY_BYTES];
    prefix[0] = PREFIX_VERSION;
    encode_ids(id, 2, prefix + 1);
    bind(prefix, key.data, bound);
    TRY(sealing_key(v, id, seal));
    result r = seal_open(seal, bytes_of(bound, sizeof bound), sealed, body);
    mem_wipe(seal, sizeof seal);
    if (r.code == E_DATA_LOSS)
        return fail(E_DATA_LOSS, "acl: a %s record does not authenticate", WORDS[id->kind]);
    return r;
}
