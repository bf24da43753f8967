#include "service.h"

#include "mutant.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- one call --------------------------------------------------------------------------------------- */
static bool call_cancelled(void *ctx) { return rpc_call_cancelled(ctx); }

static result authenticate(request *q, role least)
{
    const char *header = rpc_call_metadata(q->call, "authorization");
    if (header == NULL)
        return fail(E_UNAUTHENTICATED, "no token: send 'authorization: Bearer TOKEN'");
    if (strncasecmp(header, "Bearer ", 7) != 0)
        return fail(E_UNAUTHENTICATED, "the authorization header must be 'Bearer TOKEN'");
    TRY(acl_authenticate(q->h->access, header + 7, &q->who));
    switch (least) {
    case ROLE_ANY:
        return OK;
    case ROLE_USER:
        if (q->who.operator_role)
            return fail(E_DENIED, "the operator manages tenants and reads nothing");
        return OK;
    case ROLE_ADMIN:
        if (!q->who.tenant_admin) return fail(E_DENIED, "this needs an admin of the tenant");
        return OK;
    case ROLE_OPERATOR:
        if (!q->who.operator_role) return fail(E_DENIED, "this needs the operator's token");
        return OK;
    }
    return fail(E_INTERNAL, "unknown role");
}

result request_mark(request *q, const state_source *sources, size_t count)
{
    call_sources *mark = arena_alloc(q->mem, sizeof *mark);
    if (mark == NULL) return arena_check(q->mem);
    *mark = (call_sources){q->who.tenant, q->who.principal, count, sources, q->searched};
    if (MUTANT(mark_hits_only)) mark->scope = NULL;
    rpc_call_mark(q->call, mark);
    return OK;
}

result request_search_mark(request *q, const retrieval_scope *scope)
{
    q->searched = scope;
    return request_mark(q, NULL, 0);
}

result request_unmark(request *q)
{
    q->searched = NULL;
    rpc_call_mark(q->call, NULL);
    return rpc_call_cancelled(q->call) ? fail(E_CANCELLED, "the call was cancelled") : OK;
}

/* The clearance, fixed here for the whole request. */
static result context_make(request *q)
{
    if (q->who.operator_role) return OK;
    acl *access = q->h->access;
    TRY(acl_principals_of(access, q->who.tenant, q->who.principal, q->principals,
                          &q->principal_count));
    q->context = arena_alloc(q->mem, sizeof *q->context);
    if (q->context == NULL) return arena_check(q->mem);
    TRY(ifc_context_init(q->context, q->who.tenant, q->who.principal, q->principals,
                         q->principal_count));
    q->context->deadline_mono_ms = rpc_call_deadline_mono_ms(q->call);
    q->context->cancelled = call_cancelled;
    q->context->cancelled_ctx = q->call;
    id128 *owners;
    size_t count;
    TRY(acl_owners_for(access, q->who.tenant, q->principals, q->principal_count, q->mem, &owners,
                       &count));
    q->scope = (retrieval_scope){q->context, owners, count};
    return OK;
}

static result run_admitted(request *q, method_fn *method)
{
    /* The operator has no principal and no share: it is one, and trusted with the machine. */
    if (q->who.operator_role) return method(q);
    TRY(acl_admit(q->h->access, q->who.principal, ACL_CALL, clock_mono_ms()));
    /* Marked first: the caller's own erasure either cancels this call, or its fence shows in acl. */
    result r = request_mark(q, NULL, 0);
    if (is_ok(r)) r = context_make(q);
    if (is_ok(r)) r = method(q);
    acl_leave(q->h->access, q->who.principal, ACL_CALL);
    return r;
}

result service_run(void *house_, rpc_call *call, role least, const char *name, method_fn *method)
{
    house *h = house_;
    uint64_t start_ms = clock_mono_ms();
    request *q = mem_alloc(sizeof *q);
    q->h = h;
    q->call = call;
    /* A document's text, its pieces on the way, and everything small. */
    arena_open(&q->mem, 3 * h->settings.document_max_bytes + (64u << 20));
    result r = authenticate(q, least);
    if (is_ok(r)) r = run_admitted(q, method);
    if (r.code == E_DATA_LOSS || r.code == E_INTERNAL)
        log_event(LOG_ERROR, "call_failed", LOG_TEXT("method", name), LOG_TEXT("why", r.message));
    char who[ID_TEXT_BYTES];
    id_text(q->who.principal, who);
    log_event(LOG_INFO, "call", LOG_TEXT("method", name), LOG_TEXT("principal", who),
              LOG_TEXT("status", error_code_name(r.code)),
              LOG_NUMBER("ms", clock_mono_ms() - start_ms));
    rpc_call_mark(call, NULL);           /* the mark lives in the arena */
    arena_close(&q->mem);
    mem_wipe(q, sizeof *q);
    mem_free(q);
    return r;
}

/* ---- messages ------------------------------------------------------------------------------------------ */
result request_receive(request *q, const ProtobufCMessageDescriptor *type, void *out_message)
{
    buf message;
    buf_init(&message, q->h->settings.message_max_bytes);
    bool end = false;
    result r = rpc_call_receive(q->call, &message, &end);
    if (is_ok(r) && end) r = fail(E_INVALID, "the call carries no request");
    if (is_ok(r)) r = message_unpack(q->mem, type, buf_bytes(&message), out_message);
    buf_free(&message);
    return r;
}

result request_send(request *q, const ProtobufCMessage *message)
{
    buf packed;
    buf_init(&packed, (size_t)1 << 31);
    message_pack(message, &packed);
    result r = rpc_call_send(q->call, buf_bytes(&packed));
    buf_free(&packed);
    return r;
}

/* ---- names ------------------------------------------------------------------------------------------------ */
bool request_is_member(const request *q, id128 principal)
{
    for (size_t i = 0; i < q->principal_count; i++)
        if (id_equal(q->principals[i], principal)) return true;
    return false;
}

result request_audience(request *q, const char *audience)
{
    if (audience[0] == 0) return OK;
    id128 group;
    acl_kind kind;
    result r = acl_find(q->h->access, q->who.tenant, audience, &group, &kind);
    if (!is_ok(r) && MUTANT(denied_differs)) return fail(E_NOT_FOUND, "there is no such group");
    if (!is_ok(r) || kind != ACL_GROUP || !request_is_member(q, group))
        return fail(E_NOT_FOUND, "%s", IFC_NOT_FOUND);
    id128 principals[ACL_GROUPS_MAX + 1];
    size_t count;
    TRY(acl_principals_of(q->h->access, q->who.tenant, group, principals, &count));
    return ifc_context_narrow(q->context, principals, count);
}

result request_owner(request *q, const char *owner, id128 *out)
{
    *out = q->who.principal;
    if (owner[0] == 0) return OK;
    acl_kind kind;
    result r = acl_find(q->h->access, q->who.tenant, owner, out, &kind);
    if (!is_ok(r) || kind != ACL_GROUP || !request_is_member(q, *out))
        return fail(E_NOT_FOUND, "owner: no such group of yours");
    return OK;
}

char *request_text(request *q, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *text = NULL;
    int n = vasprintf(&text, fmt, args);
    va_end(args);
    ASSERT(n >= 0);
    char *out = arena_strndup(q->mem, text, (size_t)n);
    mem_wipe(text, (size_t)n);
    mem_free(text);
    return out ? out : (char *)"";
}

char *request_name(request *q, id128 principal)
{
    char name[ACL_NAME_MAX_BYTES + 1], id[ID_TEXT_BYTES];
    acl_kind kind;
    if (is_ok(acl_name_of(q->h->access, principal, name, &kind)))
        return request_text(q, "%s:%s", kind == ACL_GROUP ? "group" : "user", name);
    id_text(principal, id);
    return request_text(q, "%s", id);
}

static void label_name(void *ctx, id128 principal, buf *out)
{
    buf_append_str(out, request_name(ctx, principal));
}

char *request_label(request *q, const ifc_label *label)
{
    buf text;
    buf_init(&text, 1 << 16);
    ifc_label_text(label, label_name, q, &text);
    char *out = request_text(q, "%.*s", (int)text.size, text.data ? (const char *)text.data : "");
    buf_free(&text);
    return out;
}

char *request_id(request *q, id128 id)
{
    char text[ID_TEXT_BYTES];
    id_text(id, text);
    return request_text(q, "%s", text);
}

/* A malformed id is answered as an absent one is. */
result request_document_id(const char *id, id128 *out)
{
    result r = id_parse(id, out);
    if (!is_ok(r) && MUTANT(denied_differs)) return fail(E_NOT_FOUND, "this is no document's id");
    return r;
}

result request_document(request *q, const char *id, bool owned, retrieval_document **out)
{
    id128 document;
    TRY(request_document_id(id, &document));
    *out = arena_alloc(q->mem, sizeof **out);
    if (*out == NULL) return arena_check(q->mem);
    TRY(retrieval_get(q->h->stores, &q->scope, document, q->mem, *out, NULL));
    if (owned && !request_is_member(q, (*out)->owner))
        return fail(E_DENIED, "only its owner may do that; it was shared with you");
    return OK;
}

/* ---- the table of methods ------------------------------------------------------------------------------------ */
#define METHOD(fn, role_, name) \
    static result call_##fn(void *ctx, rpc_call *call) { return service_run(ctx, call, role_, name, fn); }
#define METHODS(M) \
    M(answers_ask, ROLE_USER, "Answers/Ask") \
    M(answers_search, ROLE_USER, "Answers/Search") \
    M(answers_score, ROLE_USER, "Answers/Score") \
    M(documents_put, ROLE_USER, "Documents/Put") \
    M(documents_get, ROLE_USER, "Documents/Get") \
    M(documents_list, ROLE_USER, "Documents/List") \
    M(documents_share, ROLE_USER, "Documents/Share") \
    M(documents_unshare, ROLE_USER, "Documents/Unshare") \
    M(erasure_erase, ROLE_ANY, "Erasure/Erase") \
    M(erasure_get_receipt, ROLE_ANY, "Erasure/GetReceipt") \
    M(subject_find, ROLE_USER, "Erasure/FindSubject") \
    M(erasure_list, ROLE_USER, "Erasure/ListErasures") \
    M(auditing_head, ROLE_ADMIN, "Erasure/GetLogHead") \
    M(auditing_list, ROLE_ADMIN, "Erasure/ListLog") \
    M(tombstones_get, ROLE_USER, "Erasure/GetTombstones") \
    M(tombstones_set, ROLE_USER, "Erasure/SetTombstones") \
    M(auditing_record, ROLE_USER, "Erasure/RecordAudit") \
    M(access_create_tenant, ROLE_OPERATOR, "Access/CreateTenant") \
    M(access_create_user, ROLE_ADMIN, "Access/CreateUser") \
    M(access_create_group, ROLE_ADMIN, "Access/CreateGroup") \
    M(access_join, ROLE_ADMIN, "Access/JoinGroup") \
    M(access_leave, ROLE_USER, "Access/LeaveGroup") \
    M(access_issue_token, ROLE_USER, "Access/IssueToken") \
    M(access_revoke_token, ROLE_USER, "Access/RevokeToken") \
    M(access_whoami, ROLE_ANY, "Access/WhoAmI") \
    M(admin_stats, ROLE_ANY, "Admin/Stats") \
    M(admin_backup, ROLE_OPERATOR, "Admin/Backup") \
    M(admin_set_quota, ROLE_ADMIN, "Admin/SetQuota")
METHODS(METHOD)

#define ENTRY(fn, role_, name) {"/lethe.v1." name, call_##fn},
const rpc_method service_methods[] = {METHODS(ENTRY)};
const size_t service_method_count = sizeof service_methods / sizeof service_methods[0];
const char *const service_names[] = {"lethe.v1.Answers", "lethe.v1.Documents", "lethe.v1.Erasure",
                                     "lethe.v1.Access", "lethe.v1.Admin", NULL};
