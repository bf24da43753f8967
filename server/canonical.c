#include "canonical.h"
#include "mutant.h"

#include <stdlib.h>
#include <string.h>

static bool plain_text(const char *s)
{
    for (; *s; s++)
        if (*s < 0x20 || *s > 0x7E || *s == '"' || *s == '\\') return false;
    return true;
}

static bool whole_number(const cJSON *item)
{
    return item->valuedouble >= 0 && item->valuedouble < 9007199254740992.0 &&
           item->valuedouble == (double)(uint64_t)item->valuedouble;
}

static int by_key(const void *a, const void *b)
{
    return strcmp((*(cJSON *const *)a)->string, (*(cJSON *const *)b)->string);
}

void canonical_sort(cJSON *object)
{
    size_t count = (size_t)cJSON_GetArraySize(object), n = 0;
    cJSON **all = mem_alloc_array(count + 1, sizeof *all);
    while (object->child) all[n++] = cJSON_DetachItemViaPointer(object, object->child);
    qsort(all, n, sizeof *all, by_key);
    for (size_t i = 0; i < n; i++) cJSON_AddItemToArray(object, all[i]);
    mem_free(all);
}

bool canonical_write(const cJSON *object, const char *skip, buf *out)
{
    const cJSON *previous = NULL, *item;
    bool first = true;
    buf_append_u8(out, '{');
    cJSON_ArrayForEach(item, object) {
        if (item->string == NULL || !plain_text(item->string)) return false;
        if (previous && strcmp(previous->string, item->string) >= 0) return false;
        previous = item;
        if (skip && strcmp(item->string, skip) == 0) continue;
        buf_printf(out, "%s\"%s\":", first ? "" : ",", item->string);
        first = false;
        if (cJSON_IsString(item) && plain_text(item->valuestring)) {
            buf_append_u8(out, '"');
            buf_append_str(out, item->valuestring);
            buf_append_u8(out, '"');
        } else if (cJSON_IsNumber(item) && whole_number(item)) {
            buf_printf(out, "%llu", (unsigned long long)item->valuedouble);
        } else {
            return false;
        }
    }
    buf_append_u8(out, '}');
    return is_ok(buf_check(out));
}

cJSON *canonical_parse(bytes text, size_t limit)
{
    if (text.size == 0 || text.size > limit) return NULL;
    const char *end = NULL;
    cJSON *o = cJSON_ParseWithLengthOpts((const char *)text.data, text.size, &end, false);
    buf again;
    buf_init(&again, limit + 1024);
    bool good = cJSON_IsObject(o) && canonical_write(o, NULL, &again) && bytes_equal(buf_bytes(&again), text);
    buf_free(&again);
    if (good) return o;
    cJSON_Delete(o);
    return NULL;
}

void canonical_add_hex(cJSON *object, const char *name, const uint8_t *p, size_t n)
{
    char *hex = mem_alloc(2 * n + 1);
    hex_encode(p, n, hex);
    cJSON_AddStringToObject(object, name, hex);
    mem_free(hex);
}

bool canonical_get_hex(const cJSON *object, const char *name, size_t n, uint8_t *out)
{
    const char *text = canonical_text(object, name);
    if (strlen(text) != 2 * n || !hex_decode(text, 2 * n, out)) return false;
    for (const char *c = text; *c; c++)
        if (*c >= 'A' && *c <= 'F') return false;
    return true;
}

const char *canonical_text(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(item) ? item->valuestring : "";
}

uint64_t canonical_number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) && whole_number(item) ? (uint64_t)item->valuedouble : 0;
}

enum { SIGNED_MAX_BYTES = 32 << 20 };

result canonical_sign(cJSON *object, const uint8_t public_key[SIGN_PUBLIC_BYTES],
                      const uint8_t secret_key[SIGN_SECRET_BYTES], buf *out)
{
    uint8_t signature[SIGN_BYTES];
    buf text;
    buf_init(&text, SIGNED_MAX_BYTES);
    canonical_add_hex(object, "signer", public_key, SIGN_PUBLIC_BYTES);
    canonical_sort(object);
    bool good = canonical_write(object, NULL, &text);
    if (good) {
        sign_detached(secret_key, buf_bytes(&text), signature);
        canonical_add_hex(object, "signature", signature, SIGN_BYTES);
        canonical_sort(object);
        good = canonical_write(object, NULL, out);
    }
    buf_free(&text);
    TRY(buf_check(out));
    return good ? OK : fail(E_INTERNAL, "a field of what is to be signed is not plain");
}

bool canonical_signed(const cJSON *object, uint8_t signer[SIGN_PUBLIC_BYTES])
{
    uint8_t signature[SIGN_BYTES];
    if (!canonical_get_hex(object, "signer", SIGN_PUBLIC_BYTES, signer) ||
        !canonical_get_hex(object, "signature", SIGN_BYTES, signature))
        return false;
    buf text;
    buf_init(&text, SIGNED_MAX_BYTES);
    bool good = canonical_write(object, "signature", &text) &&
                (sign_verify(signer, buf_bytes(&text), signature) || MUTANT(signature_unchecked));
    buf_free(&text);
    return good;
}
