#include "audit_report.h"

#include "mutant.h"

#include <string.h>

const char AUDIT_REPORT_EVENT[] = "audit", AUDIT_REPORT_TYPE[] = "lethe.audit.1";
static const char *const ADDED[] = {"log_index", "log_path", "log_root", "log_signature", "log_size", "log_time_ms",
                                    "requester", "signature", "signer", "tenant", "time_ms", "type"};
enum { ADDED_COUNT = sizeof ADDED / sizeof ADDED[0], SIGNED_MAX_BYTES = AUDIT_REPORT_MAX_BYTES + (16 << 10) };

/* The report's hash as the log has it. */
static void hash_add(cJSON *entry, bytes report)
{
    uint8_t hash[HASH_BYTES];
    hash_plain("audit report", report, hash);
    canonical_add_hex(entry, "report", hash, sizeof hash);
}

result audit_report_entry(bytes report, id128 requester, cJSON **entry)
{
    char who[ID_TEXT_BYTES];
    cJSON *o = canonical_parse(report, AUDIT_REPORT_MAX_BYTES);
    bool own = o != NULL;
    for (size_t i = 0; i < ADDED_COUNT && own; i++) own = !cJSON_HasObjectItem(o, ADDED[i]);
    cJSON_Delete(o);
    if (!own)
        return fail(E_INVALID, "report: canonical JSON of at most %d bytes, without what the server adds",
                    AUDIT_REPORT_MAX_BYTES);
    id_text(requester, who);
    *entry = cJSON_CreateObject();
    cJSON_AddStringToObject(*entry, "requester", who);
    hash_add(*entry, report);
    return OK;
}

result audit_report_make(bytes report, const receipt_parts *parts, const uint8_t public_key[SIGN_PUBLIC_BYTES],
                         const uint8_t secret_key[SIGN_SECRET_BYTES], buf *out)
{
    cJSON *o = canonical_parse(report, AUDIT_REPORT_MAX_BYTES);
    cJSON *entry = canonical_parse(parts->entry, AUDIT_ENTRY_MAX_BYTES);
    result r = OK;
    if (o == NULL || entry == NULL) {
        r = fail(E_DATA_LOSS, "an audit's entry in the log is damaged");
    } else {
        cJSON_AddStringToObject(o, "requester", canonical_text(entry, "requester"));
        cJSON_AddStringToObject(o, "tenant", canonical_text(entry, "tenant"));
        cJSON_AddNumberToObject(o, "time_ms", (double)canonical_number(entry, "time_ms"));
        cJSON_AddNumberToObject(o, "log_index", (double)parts->index);
        cJSON_AddNumberToObject(o, "log_size", (double)parts->head->size);
        cJSON_AddNumberToObject(o, "log_time_ms", (double)parts->head->time_ms);
        canonical_add_hex(o, "log_root", parts->head->root.b, MERKLE_BYTES);
        canonical_add_hex(o, "log_signature", parts->head->signature, SIGN_BYTES);
        canonical_add_hex(o, "log_path", (const uint8_t *)parts->path, parts->path_count * MERKLE_BYTES);
        cJSON_AddStringToObject(o, "type", AUDIT_REPORT_TYPE);
        r = canonical_sign(o, public_key, secret_key, out);
    }
    cJSON_Delete(o);
    cJSON_Delete(entry);
    return r;
}

/* ---- verifying ---- */
/* The log's leaf, made again from the report's own members. */
static bool leaf_of(const cJSON *o, merkle_hash *leaf)
{
    buf text;
    cJSON *own = cJSON_Duplicate(o, true), *entry = cJSON_CreateObject();
    buf_init(&text, SIGNED_MAX_BYTES);
    for (size_t i = 0; i < ADDED_COUNT; i++) cJSON_DeleteItemFromObjectCaseSensitive(own, ADDED[i]);
    bool good = canonical_write(own, NULL, &text);
    cJSON_AddStringToObject(entry, "event", AUDIT_REPORT_EVENT);
    cJSON_AddStringToObject(entry, "requester", canonical_text(o, "requester"));
    cJSON_AddStringToObject(entry, "tenant", canonical_text(o, "tenant"));
    cJSON_AddNumberToObject(entry, "time_ms", (double)canonical_number(o, "time_ms"));
    if (good) hash_add(entry, buf_bytes(&text));
    canonical_sort(entry);
    buf_clear(&text);
    good = good && canonical_write(entry, NULL, &text);
    if (good) *leaf = merkle_leaf(buf_bytes(&text));
    buf_free(&text);
    cJSON_Delete(own);
    cJSON_Delete(entry);
    return good;
}

static bool head_good(const audit_head *head, id128 tenant, const uint8_t signer[SIGN_PUBLIC_BYTES])
{
    buf text;
    audit_head again;
    id128 whose;
    uint8_t by[SIGN_PUBLIC_BYTES];
    buf_init(&text, 4096);
    bool good = is_ok(audit_head_write(head, tenant, signer, &text)) &&
                audit_head_verify(buf_bytes(&text), &again, &whose, by);
    buf_free(&text);
    return good;
}

static const char *verify_object(const cJSON *o, uint8_t signer[SIGN_PUBLIC_BYTES])
{
    audit_head head = {0};
    id128 tenant;
    merkle_hash path[MERKLE_PATH_MAX], leaf;
    size_t hex = strlen(canonical_text(o, "log_path")), count = hex / (2 * MERKLE_BYTES);
    for (size_t i = 0; i < ADDED_COUNT; i++)
        if (!cJSON_HasObjectItem(o, ADDED[i])) return "a part is missing";
    if (!canonical_signed(o, signer)) return "the signature does not match the contents";
    if (!is_ok(id_parse(canonical_text(o, "tenant"), &tenant)) || hex % (2 * MERKLE_BYTES) != 0 ||
        count > MERKLE_PATH_MAX || !canonical_get_hex(o, "log_path", hex / 2, (uint8_t *)path) ||
        !canonical_get_hex(o, "log_root", MERKLE_BYTES, head.root.b) ||
        !canonical_get_hex(o, "log_signature", SIGN_BYTES, head.signature) || !leaf_of(o, &leaf))
        return "a part is unreadable";
    head.size = canonical_number(o, "log_size");
    head.time_ms = canonical_number(o, "log_time_ms");
    if (!head_good(&head, tenant, signer)) return "the log's head is not signed by the signer";
    if (!merkle_inclusion_verify(leaf, canonical_number(o, "log_index"), head.size, path, count, head.root) &&
        !MUTANT(report_not_in_log))
        return "the report is not in the log";
    return "";
}

static cJSON *parse(bytes text)
{
    if (text.size > 0 && text.data[text.size - 1] == '\n') text.size--;
    return text.size > 0 ? canonical_parse(text, SIGNED_MAX_BYTES) : NULL;
}

bool audit_report_is(bytes text)
{
    cJSON *o = parse(text);
    bool is = o != NULL && strcmp(canonical_text(o, "type"), AUDIT_REPORT_TYPE) == 0;
    cJSON_Delete(o);
    return is;
}

void audit_report_verify(bytes text, const uint8_t *trusted_key, receipt_verdict *out)
{
    uint8_t signer[SIGN_PUBLIC_BYTES];
    memset(out, 0, sizeof *out);
    cJSON *o = parse(text);
    if (o == NULL) out->reason = "not JSON in canonical form: something was changed or added";
    else if (strcmp(canonical_text(o, "type"), AUDIT_REPORT_TYPE) != 0) out->reason = "not a report of this version";
    else if (!canonical_get_hex(o, "signer", SIGN_PUBLIC_BYTES, signer)) out->reason = "no readable signer";
    else {
        memcpy(out->signer, canonical_text(o, "signer"), sizeof out->signer);
        out->reason = verify_object(o, signer);
    }
    cJSON_Delete(o);
    out->valid = out->reason[0] == 0;
    out->trusted = out->valid && trusted_key != NULL && secure_equal(signer, trusted_key, SIGN_PUBLIC_BYTES);
    if (out->valid && trusted_key != NULL && !out->trusted) out->reason = "signed by another key than the one given";
}
