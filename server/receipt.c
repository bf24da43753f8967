#include "receipt.h"

#include <cjson/cJSON.h>
#include <string.h>

enum { RECEIPT_MAX_BYTES = 65536 };

static const char *const ASSURANCE_NOTE_FILE =
    "root key overwritten and unlinked in a file system; a copy of that medium made before is not ruled out";

/* ---- canonical form ------------------------------------------------------------------------------
 * One flat object; a field is a string without escapes or a whole number. Simple on purpose: a
 * receipt can be rebuilt from its fields by anyone in a few lines of any language. */
static bool plain_text(const char *s)
{
    for (; *s; s++)
        if (*s < 0x20 || *s > 0x7E || *s == '"' || *s == '\\') return false;
    return true;
}

static bool canonical_number(const cJSON *item)
{
    return item->valuedouble >= 0 && item->valuedouble < 9007199254740992.0 &&
           item->valuedouble == (double)(uint64_t)item->valuedouble;
}

/* Writes the object in sorted order, without the field named skip. False: not a receipt's shape. */
static bool canonical_write(const cJSON *object, const char *skip, buf *out)
{
    const cJSON *previous = NULL, *item;
    buf_append_u8(out, '{');
    bool first = true;
    cJSON_ArrayForEach(item, object) {
        if (item->string == NULL || !plain_text(item->string)) return false;
        if (previous && strcmp(previous->string, item->string) >= 0) return false;
        previous = item;
        if (skip && strcmp(item->string, skip) == 0) continue;
        buf_printf(out, "%s\"%s\":", first ? "" : ",", item->string);
        first = false;
        if (cJSON_IsString(item) && plain_text(item->valuestring))
            buf_printf(out, "\"%s\"", item->valuestring);
        else if (cJSON_IsNumber(item) && canonical_number(item))
            buf_printf(out, "%llu", (unsigned long long)item->valuedouble);
        else
            return false;
    }
    buf_append_u8(out, '}');
    return is_ok(buf_check(out));
}

void receipt_commit(const char *salt_hex, const char *target, uint8_t commitment[HASH_BYTES])
{
    buf both;
    buf_init(&both, strlen(salt_hex) + strlen(target));
    buf_append_str(&both, salt_hex);
    buf_append_str(&both, target);
    hash_plain("erased", buf_bytes(&both), commitment);
    buf_free(&both);
}

void receipt_hash(bytes text, uint8_t out[HASH_BYTES]) { hash_plain("receipt", text, out); }

static void add_hex(cJSON *object, const char *name, const uint8_t *p, size_t n)
{
    char hex[2 * SIGN_BYTES + 1];
    hex_encode(p, n, hex);
    cJSON_AddStringToObject(object, name, hex);
}

result receipt_sign(const receipt_fields *v, const uint8_t public_key[SIGN_PUBLIC_BYTES],
                    const uint8_t secret_key[SIGN_SECRET_BYTES], buf *out)
{
    cJSON *o = cJSON_CreateObject();
    /* In sorted order. */
    cJSON_AddStringToObject(o, "assurance", v->assurance);
    cJSON_AddStringToObject(o, "assurance_note", ASSURANCE_NOTE_FILE);
    add_hex(o, "commitment", v->commitment, HASH_BYTES);
    cJSON_AddNumberToObject(o, "epoch", (double)v->epoch);
    cJSON_AddStringToObject(o, "id", v->id);
    cJSON_AddNumberToObject(o, "items", (double)v->items);
    cJSON_AddStringToObject(o, "kind", v->kind);
    add_hex(o, "previous", v->previous, HASH_BYTES);
    add_hex(o, "signer", public_key, SIGN_PUBLIC_BYTES);
    cJSON_AddStringToObject(o, "status", "COMPLETE");
    add_hex(o, "subtree_after", v->subtree_after, HASH_BYTES);
    add_hex(o, "subtree_before", v->subtree_before, HASH_BYTES);
    cJSON_AddStringToObject(o, "tenant", v->tenant);
    cJSON_AddNumberToObject(o, "time_ms", (double)v->time_ms);
    cJSON_AddStringToObject(o, "type", "lethe.receipt.1");
    buf unsigned_text;
    buf_init(&unsigned_text, RECEIPT_MAX_BYTES);
    bool shaped = canonical_write(o, NULL, &unsigned_text);
    uint8_t signature[SIGN_BYTES];
    sign_detached(secret_key, buf_bytes(&unsigned_text), signature);
    buf_free(&unsigned_text);
    /* "signature" sorts between "previous" and "signer". */
    cJSON *signer = cJSON_DetachItemFromObject(o, "signer");
    cJSON *rest[8];
    size_t n = 0;
    for (const char *const *name = (const char *const[]){"status", "subtree_after", "subtree_before",
                                                         "tenant", "time_ms", "type", NULL};
         *name; name++)
        rest[n++] = cJSON_DetachItemFromObject(o, *name);
    add_hex(o, "signature", signature, SIGN_BYTES);
    cJSON_AddItemToObject(o, "signer", signer);
    for (size_t i = 0; i < n; i++) cJSON_AddItemToArray(o, rest[i]);
    shaped = shaped && canonical_write(o, NULL, out);
    cJSON_Delete(o);
    return shaped ? buf_check(out) : fail(E_INTERNAL, "a receipt's field is not plain text");
}

/* Lower-case hex of exactly n bytes: one spelling, since the signature does not cover itself. */
static bool get_hex(const cJSON *item, size_t n, uint8_t *out)
{
    char again[2 * SIGN_BYTES + 1];
    if (!cJSON_IsString(item) || strlen(item->valuestring) != 2 * n ||
        !hex_decode(item->valuestring, 2 * n, out))
        return false;
    hex_encode(out, n, again);
    return strcmp(again, item->valuestring) == 0;
}

static const char *verify_text(bytes text, receipt_verdict *out, uint8_t signer[SIGN_PUBLIC_BYTES])
{
    if (text.size > 0 && text.data[text.size - 1] == '\n') text.size--;
    if (text.size == 0 || text.size > RECEIPT_MAX_BYTES) return "empty, or too long for a receipt";
    const char *end = NULL, *reason = "";
    cJSON *o = cJSON_ParseWithLengthOpts((const char *)text.data, text.size, &end, false);
    buf canonical, unsigned_text;
    buf_init(&canonical, RECEIPT_MAX_BYTES + 1024);
    buf_init(&unsigned_text, RECEIPT_MAX_BYTES + 1024);
    uint8_t signature[SIGN_BYTES];
    const cJSON *type = o ? cJSON_GetObjectItemCaseSensitive(o, "type") : NULL;
    const cJSON *key = o ? cJSON_GetObjectItemCaseSensitive(o, "signer") : NULL;
    const cJSON *mark = o ? cJSON_GetObjectItemCaseSensitive(o, "signature") : NULL;
    if (!cJSON_IsObject(o)) reason = "not a JSON object";
    else if (!cJSON_IsString(type) || strcmp(type->valuestring, "lethe.receipt.1") != 0)
        reason = "not a receipt of this version";
    else if (!get_hex(key, SIGN_PUBLIC_BYTES, signer)) reason = "no readable signer";
    else if (!get_hex(mark, SIGN_BYTES, signature)) reason = "no readable signature";
    else {
        memcpy(out->signer, key->valuestring, sizeof out->signer);
        if (!canonical_write(o, NULL, &canonical) || !bytes_equal(buf_bytes(&canonical), text))
            reason = "not in canonical form: something was changed or added";
        else if (!canonical_write(o, "signature", &unsigned_text) ||
                 !sign_verify(signer, buf_bytes(&unsigned_text), signature))
            reason = "the signature does not match the contents";
    }
    buf_free(&canonical);
    buf_free(&unsigned_text);
    cJSON_Delete(o);
    return reason;
}

void receipt_verify(bytes text, const uint8_t *trusted_key, receipt_verdict *out)
{
    uint8_t signer[SIGN_PUBLIC_BYTES];
    memset(out, 0, sizeof *out);
    out->reason = verify_text(text, out, signer);
    out->valid = out->reason[0] == 0;
    out->trusted = out->valid && trusted_key != NULL &&
                   secure_equal(signer, trusted_key, SIGN_PUBLIC_BYTES);
    if (out->valid && trusted_key != NULL && !out->trusted)
        out->reason = "signed by another key than the one given";
}
