/* Admin: own figures and limits; the server's own for the operator. */
#include "service.h"

#include "backup.h"

#include "lethe/v1/admin.pb-c.h"

static void quota_to_message(const acl_quota *quota, Lethe__V1__Quota *m)
{
    m->documents_max = quota->documents_max;
    m->bytes_max = quota->bytes_max;
    m->requests_per_second = quota->requests_per_second;
    m->concurrent_answers_max = quota->concurrent_answers_max;
    m->concurrent_calls_max = quota->concurrent_calls_max;
    m->tokens_per_minute = quota->tokens_per_minute;
}

static void server_figures(request *q, Lethe__V1__ServerStats *out)
{
    house *h = q->h;
    retrieval_memory memory;
    scheduler_figures steps = {0};
    retrieval_memory_now(h->stores, &memory);
    if (h->steps) scheduler_figures_now(h->steps, &steps);
    out->stores_open = memory.stores_open;
    out->vectors_bytes = memory.vectors_bytes;
    out->lexical_bytes = memory.lexical_bytes;
    out->decode_steps = steps.decode_steps;
    out->sequences_active = steps.sequences_active;
    if (h->generator)
        out->engine = request_text(q, "%s (%s)", model_describe(h->generator)->architecture,
                                   model_describe(h->generator)->kernel);
    out->version = (char *)LETHE_VERSION;
}

result admin_stats(request *q)
{
    Lethe__V1__StatsRequest *m;
    TRY(request_receive(q, &lethe__v1__stats_request__descriptor, &m));
    const config *c = &q->h->settings;
    Lethe__V1__StatsResponse response = LETHE__V1__STATS_RESPONSE__INIT;
    Lethe__V1__Limits limits = LETHE__V1__LIMITS__INIT;
    Lethe__V1__Quota quota_message = LETHE__V1__QUOTA__INIT;
    Lethe__V1__ServerStats server = LETHE__V1__SERVER_STATS__INIT;
    limits.document_max_bytes = c->document_max_bytes;
    limits.message_max_bytes = c->message_max_bytes;
    limits.passages_max = c->passages_max;
    limits.tokens_max = c->tokens_max;
    limits.question_max_bytes = SEARCH_QUERY_MAX_BYTES;
    response.limits = &limits;
    if (q->who.operator_role) {
        server_figures(q, &server);
        response.server = &server;
        return request_send(q, &response.base);
    }
    acl_quota quota;
    retrieval_usage used;
    retrieval_scope *own = arena_alloc(q->mem, sizeof *own);
    if (own == NULL) return arena_check(q->mem);
    *own = (retrieval_scope){q->context, &q->who.principal, 1};
    TRY(request_search_mark(q, own));
    TRY(acl_quota_get(q->h->access, q->who.tenant, q->who.principal, &quota));
    TRY(retrieval_usage_of(q->h->stores, q->who.tenant, q->who.principal, &used));
    quota_to_message(&quota, &quota_message);
    response.documents = used.documents;
    response.bytes = used.text_bytes;
    response.quota = &quota_message;
    return request_send(q, &response.base);
}

result admin_backup(request *q)
{
    Lethe__V1__BackupRequest *m;
    backup_made made;
    TRY(request_receive(q, &lethe__v1__backup_request__descriptor, &m));
    TRY(backup_make(q->h, m->name, &made));
    Lethe__V1__BackupResponse response = LETHE__V1__BACKUP_RESPONSE__INIT;
    response.path = made.path;
    response.files = made.files;
    response.bytes = made.bytes;
    response.stores_left_out = made.stores_left_out;
    return request_send(q, &response.base);
}

result admin_set_quota(request *q)
{
    Lethe__V1__SetQuotaRequest *m;
    TRY(request_receive(q, &lethe__v1__set_quota_request__descriptor, &m));
    id128 principal;
    result r = acl_find(q->h->access, q->who.tenant, m->name, &principal, NULL);
    if (!is_ok(r)) return fail(E_NOT_FOUND, "no user or group of that name");
    if (m->quota == NULL) return fail(E_INVALID, "quota: missing");
    const acl_quota quota = {
        .documents_max = m->quota->documents_max,
        .bytes_max = m->quota->bytes_max,
        .requests_per_second = m->quota->requests_per_second,
        .concurrent_answers_max = m->quota->concurrent_answers_max,
        .concurrent_calls_max = m->quota->concurrent_calls_max,
        .tokens_per_minute = m->quota->tokens_per_minute,
    };
    TRY(acl_quota_set(q->h->access, q->who.tenant, principal, &quota));
    Lethe__V1__SetQuotaResponse response = LETHE__V1__SET_QUOTA_RESPONSE__INIT;
    return request_send(q, &response.base);
}
