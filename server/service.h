/* service: what all methods share. A request is authenticated, admitted, given an arena and a context,
 * handed to its method, and released; the methods themselves stand in answers.c, documents.c,
 * forgetting.c, access.c and admin.c. */
#ifndef LETHE_SERVICE_H
#define LETHE_SERVICE_H

#include "erasure.h"
#include "session.h"

#include "message.h"

typedef enum { ROLE_ANY, ROLE_USER, ROLE_ADMIN, ROLE_OPERATOR } role;

typedef struct {
    house *h;
    rpc_call *call;
    acl_identity who;
    arena *mem;
    ifc_context *context;                  /* NULL for the operator */
    id128 principals[ACL_GROUPS_MAX + 1];  /* the caller and its groups */
    size_t principal_count;
    retrieval_scope scope;                 /* stores worth looking into, under the context */
    const retrieval_scope *searched;       /* NULL until request_search_mark */
} request;

typedef result method_fn(request *q);

/* Runs one call: token, role, admission, context; then the method. */
result service_run(void *house_, rpc_call *call, role least, const char *name, method_fn *method);

/* All methods of lethe.v1. */
extern const rpc_method service_methods[];
extern const size_t service_method_count;
extern const char *const service_names[];

/* What an erasure cancels this call by: its caller, and what of others it has read (in the arena). Every
 * call is marked from its start, with no sources. */
MUST_USE result request_mark(request *q, const state_source *sources, size_t count);
/* Before a search (or count) in this scope, which lives as long as the request and changes no more: until the response is
 * sent, an erasure of anything that the scope permits cancels the call, for it may be in the numbers. */
MUST_USE result request_search_mark(request *q, const retrieval_scope *scope);
/* Before an erasure of one's own, which waits for every marked call that it touches: takes the mark away.
 * E_CANCELLED: another erasure is waiting for this call already. */
MUST_USE result request_unmark(request *q);

/* Receives the one message of a unary or server-streaming call, unpacked into the request's arena;
 * strings are checked to be UTF-8. E_INVALID for anything that is no such message. */
MUST_USE result request_receive(request *q, const ProtobufCMessageDescriptor *type, void *out_message);
MUST_USE result request_send(request *q, const ProtobufCMessage *message);

/* Narrows the context to "group:NAME" ("": nothing to do). The caller must belong to the group; any
 * other name is E_NOT_FOUND alike. */
MUST_USE result request_audience(request *q, const char *audience);
/* Who owns: the caller (""), or a group it belongs to. */
MUST_USE result request_owner(request *q, const char *owner, id128 *out);
bool request_is_member(const request *q, id128 principal);
/* "user:ada", "group:oncall" in the arena; an erased principal has no name: its id. */
char *request_name(request *q, id128 principal);
char *request_label(request *q, const ifc_label *label);
char *request_id(request *q, id128 id);
/* printf into the arena. */
char *request_text(request *q, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What comes with content that its owner had erased, where the policy is to flag it. */
#define REPEATS_NOTICE "this repeats content that you had erased"

MUST_USE result request_document_id(const char *id, id128 *out);
/* One document the caller may read, and (owned) which its own principals own: else E_DENIED for one
 * that may be read, E_NOT_FOUND for all else. */
MUST_USE result request_document(request *q, const char *id, bool owned, retrieval_document **out);

/* Erases documents in one erasure (from put --replace and Erase). The call's mark is gone meanwhile. */
MUST_USE result request_erase_documents(request *q, const erasure_item *items, size_t count, erasure_cause cause,
                                        buf *receipt, char salt[65], char **target);

/* Erases the confirmed documents that are still the caller's; fills the response's documents and remaining. */
struct Lethe__V1__ConfirmedSubject;
struct Lethe__V1__EraseResponse;
MUST_USE result request_erase_subject(request *q, const struct Lethe__V1__ConfirmedSubject *m, buf *receipt,
                                      char salt[65], char **target,
                                      struct Lethe__V1__EraseResponse *response);

/* The methods, by file. */
method_fn answers_ask, answers_search, answers_score;
method_fn documents_put, documents_get, documents_list, documents_share, documents_unshare;
method_fn subject_find, erasure_erase, erasure_get_receipt, erasure_list, auditing_head, auditing_list, auditing_record;
method_fn tombstones_get, tombstones_set;
method_fn access_create_tenant, access_create_user, access_create_group, access_join, access_leave,
    access_issue_token, access_revoke_token, access_whoami;
method_fn admin_stats, admin_backup, admin_set_quota;

#endif
