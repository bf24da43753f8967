#include "receipt.h"

#include <string.h>

const char RECEIPT_EVENT[] = "erasure";
static const char RECEIPT_TYPE[] = "lethe.receipt.2";
/* What a receipt has besides the log's entry. */
static const char *const AROUND[] = {"absence", "log_index", "log_path", "log_root", "log_signature", "log_size",
                                     "log_time_ms", "signature", "signer", "status", "type"};
enum { AROUND_COUNT = sizeof AROUND / sizeof AROUND[0], TARGETS_MAX = 1024 };

void receipt_commit(const char *salt_hex, const char *target, uint8_t commitment[HASH_BYTES])
{
    buf both;
    buf_init(&both, strlen(salt_hex) + strlen(target));
    buf_append_str(&both, salt_hex);
    buf_append_str(&both, target);
    hash_plain("erased", buf_bytes(&both), commitment);
    buf_free(&both);
}

result receipt_make(const receipt_parts *parts, const uint8_t public_key[SIGN_PUBLIC_BYTES],
                    const uint8_t secret_key[SIGN_SECRET_BYTES], buf *out)
{
    cJSON *o = canonical_parse(parts->entry, AUDIT_ENTRY_MAX_BYTES);
    if (o == NULL) return fail(E_DATA_LOSS, "an erasure's entry in the audit log is damaged");
    cJSON_AddNumberToObject(o, "log_index", (double)parts->index);
    cJSON_AddNumberToObject(o, "log_size", (double)parts->head->size);
    cJSON_AddNumberToObject(o, "log_time_ms", (double)parts->head->time_ms);
    canonical_add_hex(o, "log_root", parts->head->root.b, MERKLE_BYTES);
    canonical_add_hex(o, "log_signature", parts->head->signature, SIGN_BYTES);
    canonical_add_hex(o, "log_path", (const uint8_t *)parts->path, parts->path_count * MERKLE_BYTES);
    canonical_add_hex(o, "absence", parts->absence.data, parts->absence.size);
    cJSON_AddStringToObject(o, "status", "COMPLETE");
    cJSON_AddStringToObject(o, "type", RECEIPT_TYPE);
    result r = canonical_sign(o, public_key, secret_key, out);
    cJSON_Delete(o);
    return r;
}

/* ---- targets ---- */
/* "A/B" or "B" up to the comma or the end: the id behind the last slash, and in owner the one before it. */
static bool take_ids(const char **at, id128 *owner, id128 *id)
{
    size_t n = strcspn(*at, ",");
    char text[2 * ID_TEXT_BYTES];
    if (n != 2 * ID_TEXT_BYTES - 1) return false;
    memcpy(text, *at, n);
    text[n] = 0;
    if (text[ID_TEXT_BYTES - 1] != '/') return false;
    text[ID_TEXT_BYTES - 1] = 0;
    *at += n;
    return is_ok(id_parse(text, owner)) && is_ok(id_parse(text + ID_TEXT_BYTES, id));
}

bool receipt_target_nodes(const char *target, id128 tenant, keytree_node *nodes, size_t max, size_t *count)
{
    *count = 0;
    const char *colon = strchr(target, ':');
    if (colon == NULL) return false;
    size_t kind = (size_t)(colon - target);
    const char *at = colon + 1;
    if (kind != strlen("document") || memcmp(target, "document", kind) != 0) {
        id128 id;
        const char *slash = strrchr(at, '/');
        bool whole = kind == strlen("tenant") && memcmp(target, "tenant", kind) == 0;
        bool part = (kind == 4 && memcmp(target, "user", 4) == 0) || (kind == 5 && memcmp(target, "group", 5) == 0);
        if (slash == NULL || !(whole || part) || !is_ok(id_parse(slash + 1, &id)) || max < 1) return false;
        if (whole && !id_equal(id, tenant)) return false;
        nodes[(*count)++] = whole ? keytree_tenant(tenant) : keytree_owner(tenant, id);
        return true;
    }
    for (;; at++) {
        id128 owner, id;
        if (*count == max || !take_ids(&at, &owner, &id)) return false;
        nodes[(*count)++] = keytree_document(tenant, owner, id);
        if (*at == 0) return true;
    }
}

/* ---- verifying ---- */
typedef struct { buf entry; bytes absence; audit_head head; uint64_t index; id128 tenant; merkle_hash path[MERKLE_PATH_MAX];
                 size_t path_count; uint8_t *absence_data; uint8_t root[HASH_BYTES], commitment[HASH_BYTES]; } parsed;

static bool entry_rebuild(const cJSON *o, buf *out)
{
    cJSON *entry = cJSON_Duplicate(o, true);
    for (size_t i = 0; i < AROUND_COUNT; i++) cJSON_DeleteItemFromObjectCaseSensitive(entry, AROUND[i]);
    bool good = canonical_write(entry, NULL, out);
    cJSON_Delete(entry);
    return good;
}

static const char *take_apart(const cJSON *o, parsed *p)
{
    const char *path = canonical_text(o, "log_path"), *absence = canonical_text(o, "absence");
    size_t path_hex = strlen(path), absence_hex = strlen(absence);
    if (strcmp(canonical_text(o, "event"), RECEIPT_EVENT) != 0 || strcmp(canonical_text(o, "status"), "COMPLETE") != 0)
        return "not the receipt of an erasure that is complete";
    for (size_t i = 0; i < AROUND_COUNT; i++)
        if (!cJSON_HasObjectItem(o, AROUND[i])) return "a part is missing";
    if (!is_ok(id_parse(canonical_text(o, "tenant"), &p->tenant)) ||
        !canonical_get_hex(o, "subtree_after", HASH_BYTES, p->root) ||
        !canonical_get_hex(o, "commitment", HASH_BYTES, p->commitment) ||
        !canonical_get_hex(o, "log_root", MERKLE_BYTES, p->head.root.b) ||
        !canonical_get_hex(o, "log_signature", SIGN_BYTES, p->head.signature) ||
        path_hex % (2 * MERKLE_BYTES) != 0 || path_hex / (2 * MERKLE_BYTES) > MERKLE_PATH_MAX || absence_hex % 2 != 0)
        return "a part is unreadable";
    p->path_count = path_hex / (2 * MERKLE_BYTES);
    p->absence_data = mem_alloc(absence_hex / 2);
    p->absence = bytes_of(p->absence_data, absence_hex / 2);
    if (!canonical_get_hex(o, "log_path", path_hex / 2, (uint8_t *)p->path) ||
        !canonical_get_hex(o, "absence", absence_hex / 2, p->absence_data) || !entry_rebuild(o, &p->entry))
        return "a part is unreadable";
    p->index = canonical_number(o, "log_index");
    p->head.size = canonical_number(o, "log_size");
    p->head.time_ms = canonical_number(o, "log_time_ms");
    return "";
}

static bool head_good(const parsed *p, const uint8_t signer[SIGN_PUBLIC_BYTES])
{
    buf text;
    audit_head again;
    id128 tenant;
    uint8_t by[SIGN_PUBLIC_BYTES];
    buf_init(&text, 4096);
    bool good = is_ok(audit_head_write(&p->head, p->tenant, signer, &text)) &&
                audit_head_verify(buf_bytes(&text), &again, &tenant, by);
    buf_free(&text);
    return good;
}

static const char *opening_check(const parsed *p, const receipt_opening *opening)
{
    uint8_t commitment[HASH_BYTES];
    size_t count;
    receipt_commit(opening->salt, opening->target, commitment);
    if (memcmp(commitment, p->commitment, HASH_BYTES) != 0) return "the salt and target do not open the commitment";
    keytree_node *nodes = mem_alloc_array(TARGETS_MAX, sizeof *nodes);
    const char *reason = "";
    if (!receipt_target_nodes(opening->target, p->tenant, nodes, TARGETS_MAX, &count))
        reason = "the target is none of a receipt's";
    else if (!keytree_absence_verify(p->absence, nodes, count, p->root))
        reason = "the keys are not proven absent";
    mem_free(nodes);
    return reason;
}

static const char *verify_object(const cJSON *o, const receipt_opening *opening, receipt_verdict *out,
                                 uint8_t signer[SIGN_PUBLIC_BYTES])
{
    parsed p = {.absence_data = NULL};
    buf_init(&p.entry, AUDIT_ENTRY_MAX_BYTES);
    const char *reason = take_apart(o, &p);
    if (reason[0] == 0) {
        if (!canonical_signed(o, signer)) reason = "the signature does not match the contents";
        else if (!head_good(&p, signer)) reason = "the log's head is not signed by the signer";
        else if (!merkle_inclusion_verify(merkle_leaf(buf_bytes(&p.entry)), p.index, p.head.size, p.path, p.path_count,
                                          p.head.root))
            reason = "the erasure is not in the log";
        else if (opening) reason = opening_check(&p, opening);
        out->opened = opening && reason[0] == 0;
    }
    buf_free(&p.entry);
    mem_free(p.absence_data);
    return reason;
}

static const char *verify_text(bytes text, const receipt_opening *opening, receipt_verdict *out,
                               uint8_t signer[SIGN_PUBLIC_BYTES])
{
    if (text.size > 0 && text.data[text.size - 1] == '\n') text.size--;
    if (text.size == 0 || text.size > RECEIPT_MAX_BYTES) return "empty, or too long for a receipt";
    cJSON *o = canonical_parse(text, RECEIPT_MAX_BYTES);
    if (o == NULL) return "not JSON in canonical form: something was changed or added";
    const char *reason;
    if (strcmp(canonical_text(o, "type"), RECEIPT_TYPE) != 0) reason = "not a receipt of this version";
    else if (!canonical_get_hex(o, "signer", SIGN_PUBLIC_BYTES, signer)) reason = "no readable signer";
    else {
        memcpy(out->signer, canonical_text(o, "signer"), sizeof out->signer);
        reason = verify_object(o, opening, out, signer);
    }
    cJSON_Delete(o);
    return reason;
}

void receipt_verify(bytes text, const uint8_t *trusted_key, const receipt_opening *opening, receipt_verdict *out)
{
    uint8_t signer[SIGN_PUBLIC_BYTES];
    memset(out, 0, sizeof *out);
    out->reason = verify_text(text, opening, out, signer);
    out->valid = out->reason[0] == 0;
    out->trusted = out->valid && trusted_key != NULL && secure_equal(signer, trusted_key, SIGN_PUBLIC_BYTES);
    if (out->valid && trusted_key != NULL && !out->trusted)
        out->reason = "signed by another key than the one given";
}
