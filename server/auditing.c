/* The tenant's audit log, for its admins and their witnesses: GetLogHead, ListLog; and RecordAudit. */
#include "audit_report.h"
#include "service.h"

#include "lethe/v1/erasure.pb-c.h"

enum { LIST_MAX = 1000 };

result auditing_head(request *q)
{
    Lethe__V1__GetLogHeadRequest *m;
    audit_head head;
    merkle_hash path[MERKLE_PATH_MAX];
    size_t count = 0;
    TRY(request_receive(q, &lethe__v1__get_log_head_request__descriptor, &m));
    if (m->since_size == 0) TRY(audit_log_head(q->h->audit, q->who.tenant, &head));
    else TRY(audit_log_consistency(q->h->audit, q->who.tenant, m->since_size, &head, path, &count));
    Lethe__V1__GetLogHeadResponse response = LETHE__V1__GET_LOG_HEAD_RESPONSE__INIT;
    buf text;
    buf_init(&text, 4096);
    result r = OK;
    if (head.size > 0) r = audit_head_write(&head, q->who.tenant, q->h->sign_public, &text);
    if (is_ok(r)) {
        response.head = request_text(q, "%.*s", (int)text.size, text.data ? (const char *)text.data : "");
        response.consistency.data = (uint8_t *)path;
        response.consistency.len = count * MERKLE_BYTES;
        r = request_send(q, &response.base);
    }
    buf_free(&text);
    return r;
}

result auditing_list(request *q)
{
    Lethe__V1__ListLogRequest *m;
    audit_head head;
    TRY(request_receive(q, &lethe__v1__list_log_request__descriptor, &m));
    uint64_t count = m->count ? m->count : LIST_MAX;
    if (count > LIST_MAX) return fail(E_INVALID, "count: at most %d", LIST_MAX);
    TRY(audit_log_head(q->h->audit, q->who.tenant, &head));
    if (m->start >= head.size) count = 0;
    else if (count > head.size - m->start) count = head.size - m->start;
    Lethe__V1__ListLogResponse response = LETHE__V1__LIST_LOG_RESPONSE__INIT;
    response.entries = arena_alloc_array(q->mem, count + 1, sizeof *response.entries);
    Lethe__V1__LogEntry *all = arena_alloc_array(q->mem, count + 1, sizeof *all);
    if (response.entries == NULL || all == NULL) return arena_check(q->mem);
    for (uint64_t i = 0; i < count; i++) {
        buf entry;
        buf_init(&entry, AUDIT_ENTRY_MAX_BYTES);
        result r = audit_log_entry(q->h->audit, q->who.tenant, m->start + i, &entry);
        lethe__v1__log_entry__init(&all[i]);
        all[i].index = m->start + i;
        if (is_ok(r)) all[i].entry = request_text(q, "%.*s", (int)entry.size, (const char *)entry.data);
        buf_free(&entry);
        TRY(r);
        response.entries[response.n_entries++] = &all[i];
    }
    return request_send(q, &response.base);
}

/* ---- RecordAudit ---- */
static result record_signed(request *q, bytes report, uint64_t index, buf *entry, buf *out)
{
    house *h = q->h;
    audit_head head;
    merkle_hash path[MERKLE_PATH_MAX];
    size_t count;
    TRY(audit_log_entry(h->audit, q->who.tenant, index, entry));
    TRY(audit_log_inclusion(h->audit, q->who.tenant, index, &head, path, &count));
    const receipt_parts parts = {.entry = buf_bytes(entry), .index = index, .head = &head, .path = path,
                                 .path_count = count};
    return audit_report_make(report, &parts, h->sign_public, h->sign_secret, out);
}

result auditing_record(request *q)
{
    Lethe__V1__RecordAuditRequest *m;
    cJSON *record;
    uint64_t index;
    TRY(request_receive(q, &lethe__v1__record_audit_request__descriptor, &m));
    TRY(audit_report_entry(bytes_str(m->report), q->who.principal, &record));
    TRY(audit_log_append(q->h->audit, q->who.tenant, AUDIT_REPORT_EVENT, record, &index));
    Lethe__V1__RecordAuditResponse response = LETHE__V1__RECORD_AUDIT_RESPONSE__INIT;
    buf entry, text;
    buf_init(&entry, AUDIT_ENTRY_MAX_BYTES);
    buf_init(&text, 1 << 20);
    result r = record_signed(q, bytes_str(m->report), index, &entry, &text);
    buf_append_u8(&text, 0);
    if (is_ok(r)) r = buf_check(&text);
    if (is_ok(r)) {
        response.report = (char *)text.data;
        r = request_send(q, &response.base);
    }
    buf_free(&entry);
    buf_free(&text);
    return r;
}
