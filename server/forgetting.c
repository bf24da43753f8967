/* Erasure: Erase, GetReceipt, ListErasures. */
#include "service.h"

#include "erasure.h"
#include "receipt.h"
#include "lethe/v1/erasure.pb-c.h"

#include <string.h>

static id128 requester_of(const request *q) { return q->who.principal; }   /* the operator: zero */

/* What the commitment names (receipt_target_nodes reads it): "document:OWNER/ID,OWNER/ID". */
static char *documents_target(request *q, const erasure_item *items, size_t count)
{
    buf text;
    buf_init(&text, RECEIPT_TARGET_MAX_BYTES);
    for (size_t i = 0; i < count; i++)
        buf_printf(&text, "%s%s/%s", i ? "," : "document:", request_id(q, items[i].owner),
                   request_id(q, items[i].document));
    char *out = request_text(q, "%.*s", (int)text.size, (const char *)text.data);
    buf_free(&text);
    return out;
}

result request_erase_documents(request *q, const erasure_item *items, size_t count, erasure_cause cause,
                               buf *receipt, char salt[65], char **target)
{
    *target = documents_target(q, items, count);
    TRY(request_unmark(q));
    const erasure_request e = {
        .kind = ERASE_DOCUMENTS,
        .tenant = q->who.tenant,
        .cause = cause,
        .items = items,
        .item_count = count,
        .requester = requester_of(q),
        .target = *target,
    };
    return erasure_run(q->h, &e, receipt, salt);
}

static result erase_document(request *q, const char *id, buf *receipt, char salt[65], char **target)
{
    retrieval_document *info;
    TRY(request_document(q, id, true, &info));
    const erasure_item item = {info->owner, info->id, info->chunk_count};
    return request_erase_documents(q, &item, 1, ERASURE_ASKED, receipt, salt, target);
}

static result erase_user(request *q, const char *name, buf *receipt, char salt[65], char **target)
{
    id128 principal;
    result r = acl_find(q->h->access, q->who.tenant, name, &principal, NULL);
    bool self = is_ok(r) && id_equal(principal, q->who.principal);
    if (!q->who.tenant_admin && !self)
        return fail(E_DENIED, "only an admin, or the user concerned, can erase a user");
    if (!is_ok(r)) return fail(E_NOT_FOUND, "no user or group of that name");
    *target = request_text(q, "%s/%s", request_name(q, principal), request_id(q, principal));
    TRY(request_unmark(q));
    const erasure_request e = {.kind = ERASE_OWNER, .tenant = q->who.tenant, .owner = principal,
                               .requester = requester_of(q), .target = *target};
    return erasure_run(q->h, &e, receipt, salt);
}

static result erase_tenant(request *q, const char *name, buf *receipt, char salt[65], char **target)
{
    id128 tenant;
    result r = acl_tenant_find(q->h->access, name, &tenant);
    if (!q->who.operator_role &&
        (!q->who.tenant_admin || !is_ok(r) || !id_equal(tenant, q->who.tenant)))
        return fail(E_DENIED, "only the operator, or an admin of that tenant, can erase a tenant");
    if (!is_ok(r)) return fail(E_NOT_FOUND, "no tenant of that name");
    *target = request_text(q, "tenant:%s/%s", name, request_id(q, tenant));
    TRY(request_unmark(q));
    const erasure_request e = {.kind = ERASE_TENANT, .tenant = tenant, .owner = tenant,
                               .requester = requester_of(q), .target = *target};
    return erasure_run(q->h, &e, receipt, salt);
}

static result response_send(request *q, Lethe__V1__EraseResponse *response, buf *receipt, char *salt, char *target)
{
    buf_append_u8(receipt, 0);
    TRY(buf_check(receipt));
    response->receipt = (char *)receipt->data;
    response->salt = salt;
    response->target = target;
    return request_send(q, &response->base);
}

result erasure_erase(request *q)
{
    Lethe__V1__EraseRequest *m;
    TRY(request_receive(q, &lethe__v1__erase_request__descriptor, &m));
    bool in_tenant = m->target_case != LETHE__V1__ERASE_REQUEST__TARGET_TENANT;
    if (in_tenant && q->who.operator_role)
        return fail(E_DENIED, "the operator can erase tenants only");
    buf receipt;
    Lethe__V1__EraseResponse response = LETHE__V1__ERASE_RESPONSE__INIT;
    char salt[65] = "", *target = NULL;
    buf_init(&receipt, RECEIPT_MAX_BYTES);
    result r;
    switch (m->target_case) {
    case LETHE__V1__ERASE_REQUEST__TARGET_DOCUMENT:
        r = erase_document(q, m->document, &receipt, salt, &target);
        break;
    case LETHE__V1__ERASE_REQUEST__TARGET_USER:
        r = erase_user(q, m->user, &receipt, salt, &target);
        break;
    case LETHE__V1__ERASE_REQUEST__TARGET_TENANT:
        r = erase_tenant(q, m->tenant, &receipt, salt, &target);
        break;
    case LETHE__V1__ERASE_REQUEST__TARGET_SUBJECT:
        r = request_erase_subject(q, m->subject, &receipt, salt, &target, &response);
        break;
    default:
        r = fail(E_INVALID, "say what to erase: a document, a subject, a user or a tenant");
    }
    if (is_ok(r)) r = response_send(q, &response, &receipt, salt, target);
    mem_wipe(salt, sizeof salt);
    buf_free(&receipt);
    return r;
}

/* An admin sees the tenant's; others their own. The operator has no tenant of its own to look into. */
static result visible_requester(request *q, id128 *requester)
{
    if (q->who.operator_role)
        return fail(E_DENIED, "a tenant's receipts are its own; the operator gets them with the erasure");
    *requester = q->who.tenant_admin ? (id128){{0}} : q->who.principal;
    return OK;
}

result erasure_get_receipt(request *q)
{
    Lethe__V1__GetReceiptRequest *m;
    id128 requester;
    TRY(request_receive(q, &lethe__v1__get_receipt_request__descriptor, &m));
    TRY(visible_requester(q, &requester));
    buf receipt;
    Lethe__V1__EraseResponse response = LETHE__V1__ERASE_RESPONSE__INIT;
    buf_init(&receipt, RECEIPT_MAX_BYTES);
    result r = erasure_find(q->h, q->who.tenant, requester, m->id, &receipt);
    if (is_ok(r)) r = response_send(q, &response, &receipt, (char *)"", (char *)"");
    buf_free(&receipt);
    return r;
}

typedef struct {
    request *q;
    Lethe__V1__ErasureSummary **all;
    size_t count, capacity;
} summaries;

static result summary_visit(void *ctx, const erasure_summary *summary)
{
    summaries *s = ctx;
    if (s->count == s->capacity) {
        size_t more = s->capacity ? 2 * s->capacity : 64;
        void *grown = arena_alloc_array(s->q->mem, more, sizeof *s->all);
        if (grown == NULL) return arena_check(s->q->mem);
        if (s->count) memcpy(grown, s->all, s->count * sizeof *s->all);
        s->all = grown;
        s->capacity = more;
    }
    Lethe__V1__ErasureSummary *out = arena_alloc(s->q->mem, sizeof *out);
    if (out == NULL) return arena_check(s->q->mem);
    lethe__v1__erasure_summary__init(out);
    out->id = request_text(s->q, "%s", summary->id);
    out->kind = request_text(s->q, "%s", summary->kind);
    out->epoch = summary->epoch;
    out->time_ms = summary->time_ms;
    s->all[s->count++] = out;
    return OK;
}

result erasure_list(request *q)
{
    Lethe__V1__ListErasuresRequest *m;
    id128 requester;
    TRY(request_receive(q, &lethe__v1__list_erasures_request__descriptor, &m));
    TRY(visible_requester(q, &requester));
    summaries s = {.q = q};
    TRY(erasure_each(q->h, q->who.tenant, requester, summary_visit, &s));
    Lethe__V1__ListErasuresResponse response = LETHE__V1__LIST_ERASURES_RESPONSE__INIT;
    response.erasures = s.all;
    response.n_erasures = s.count;
    return request_send(q, &response.base);
}
