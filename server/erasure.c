/* The protocol of ARCHITECTURE.md, "Erasure":
 *   1 intent   2 fence   3 wipe   4 new root   5 new tree   6 old root destroyed (commit point)
 *   7 unlink   8 receipt, COMPLETE
 * Steps 4 to 6 are keytree_erase. A crash after 1 is carried forward at the next start; all steps are
 * idempotent. The intent holds ids only, and the salt until the receipt is written. */
#include "erasure.h"

#include "receipt.h"
#include "session.h"

#include "mutant.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { INTENT_MAX_BYTES = 256 << 20 };     /* a tenant's names all its owners */

void (*erasure_step_hook)(int step, const char *what);

typedef struct {
    erasure_request request;
    id128 id;
    char salt[65], commitment[2 * HASH_BYTES + 1];
    id128 *owners;                       /* whose stores are touched: one, or all of a tenant */
    size_t owner_count, owner_capacity, owner_known;
    id128 *documents;                    /* the request's, sorted by owner */
    uint32_t *chunk_counts;
    id128 *document_owners;
    size_t document_count;
    char path[CONFIG_PATH_MAX];          /* of the intent */
} intent;

static void step_done(void *ctx, int step, const char *what)
{
    (void)ctx;
    log_event(LOG_INFO, "erasure_step", LOG_NUMBER("step", step), LOG_TEXT("what", what));
    if (erasure_step_hook) erasure_step_hook(step, what);
}

/* ---- 1: intents ------------------------------------------------------------------------------------ */
static void add_id(cJSON *o, const char *name, id128 id)
{
    char text[ID_TEXT_BYTES];
    id_text(id, text);
    cJSON_AddStringToObject(o, name, text);
}

static result intent_path(house *h, intent *i)
{
    char text[ID_TEXT_BYTES];
    id_text(i->id, text);
    return house_path(&h->settings, "intents", text, i->path);
}

static result intent_write(house *h, intent *i)
{
    TRY(intent_path(h, i));
    cJSON *o = cJSON_CreateObject(), *documents = cJSON_AddArrayToObject(o, "documents");
    cJSON_AddNumberToObject(o, "kind", i->request.kind);
    cJSON_AddBoolToObject(o, "subject", i->request.subject);
    add_id(o, "id", i->id);
    add_id(o, "tenant", i->request.tenant);
    add_id(o, "owner", i->request.owner);
    add_id(o, "requester", i->request.requester);
    cJSON_AddStringToObject(o, "salt", i->salt);
    cJSON_AddStringToObject(o, "commitment", i->commitment);
    cJSON *owners = cJSON_AddArrayToObject(o, "owners");
    for (size_t n = 0; n < i->owner_count; n++) {
        char owner[ID_TEXT_BYTES];
        id_text(i->owners[n], owner);
        cJSON_AddItemToArray(owners, cJSON_CreateString(owner));
    }
    for (size_t d = 0; d < i->document_count; d++) {
        cJSON *entry = cJSON_CreateObject();
        add_id(entry, "id", i->documents[d]);
        add_id(entry, "owner", i->document_owners[d]);
        cJSON_AddNumberToObject(entry, "chunks", i->chunk_counts[d]);
        cJSON_AddItemToArray(documents, entry);
    }
    char *text = cJSON_PrintUnformatted(o);
    result r = file_write_atomic(i->path, bytes_str(text), 0600);
    cJSON_free(text);
    cJSON_Delete(o);
    return r;
}

static bool get_id(const cJSON *o, const char *name, id128 *out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, name);
    return cJSON_IsString(item) && is_ok(id_parse(item->valuestring, out));
}

static void owner_add(intent *i, id128 owner)
{
    if (i->owner_count == i->owner_capacity) {
        i->owner_capacity = i->owner_capacity ? 2 * i->owner_capacity : 64;
        i->owners = mem_realloc(i->owners, i->owner_capacity * sizeof *i->owners);
    }
    i->owners[i->owner_count++] = owner;
}

static int by_id(const void *a, const void *b)
{
    return id_compare(*(const id128 *)a, *(const id128 *)b);
}

static result owner_visit(void *ctx, id128 owner, const uint8_t secret[KEY_BYTES])
{
    (void)secret;
    intent *i = ctx;
    if (i->owner_known == 0 ||
        bsearch(&owner, i->owners, i->owner_known, sizeof owner, by_id) == NULL)
        owner_add(i, owner);
    return OK;
}

/* Adds what is not yet known; E_NOT_FOUND: the tenant's keys are gone, what is known was all. */
static result owners_collect(house *h, intent *i)
{
    i->owner_known = i->owner_count;
    if (i->owner_count > 1) qsort(i->owners, i->owner_count, sizeof *i->owners, by_id);
    if (i->request.kind == ERASE_TENANT)
        return keytree_each(h->keys, keytree_tenant(i->request.tenant), owner_visit, i);
    if (i->owner_count > 0) return OK;
    if (i->request.kind == ERASE_OWNER) owner_add(i, i->request.owner);
    for (size_t d = 0; d < i->document_count; d++)
        if (d == 0 || !id_equal(i->document_owners[d], i->document_owners[d - 1]))
            owner_add(i, i->document_owners[d]);
    return OK;
}

static void documents_make(intent *i, size_t count)
{
    i->documents = mem_alloc_array(count + 1, sizeof *i->documents);
    i->chunk_counts = mem_alloc_array(count + 1, sizeof *i->chunk_counts);
    i->document_owners = mem_alloc_array(count + 1, sizeof *i->document_owners);
    i->document_count = count;
}

static int by_owner(const void *a_, const void *b_)
{
    const erasure_item *a = a_, *b = b_;
    int order = id_compare(a->owner, b->owner);
    return order ? order : id_compare(a->document, b->document);
}

/* In the order of owners, each document once: an owner's are one run. */
static void documents_take(intent *i, const erasure_item *items, size_t count)
{
    erasure_item *sorted = mem_alloc_array(count + 1, sizeof *sorted);
    documents_make(i, count);
    if (count) {
        memcpy(sorted, items, count * sizeof *sorted);
        qsort(sorted, count, sizeof *sorted, by_owner);
    }
    i->document_count = 0;
    for (size_t d = 0; d < count; d++) {
        if (d > 0 && by_owner(&sorted[d - 1], &sorted[d]) == 0) continue;
        i->documents[i->document_count] = sorted[d].document;
        i->chunk_counts[i->document_count] = sorted[d].chunk_count;
        i->document_owners[i->document_count++] = sorted[d].owner;
    }
    mem_free(sorted);
}

/* One owner's documents: [first, first + count). */
static size_t documents_of(const intent *i, id128 owner, size_t *count)
{
    size_t first = 0, end;
    while (first < i->document_count && !id_equal(i->document_owners[first], owner)) first++;
    for (end = first; end < i->document_count && id_equal(i->document_owners[end], owner);) end++;
    *count = end - first;
    return first;
}

static result intent_parse(const cJSON *o, intent *i)
{
    const cJSON *kind = cJSON_GetObjectItemCaseSensitive(o, "kind");
    const cJSON *salt = cJSON_GetObjectItemCaseSensitive(o, "salt");
    const cJSON *mark = cJSON_GetObjectItemCaseSensitive(o, "commitment");
    const cJSON *documents = cJSON_GetObjectItemCaseSensitive(o, "documents");
    if (!cJSON_IsNumber(kind) || kind->valueint < ERASE_DOCUMENTS || kind->valueint > ERASE_TENANT ||
        !cJSON_IsString(salt) || strlen(salt->valuestring) != 64 || !cJSON_IsString(mark) ||
        strlen(mark->valuestring) != 2 * HASH_BYTES || !cJSON_IsArray(documents) ||
        !get_id(o, "id", &i->id) || !get_id(o, "tenant", &i->request.tenant) ||
        !get_id(o, "owner", &i->request.owner) || !get_id(o, "requester", &i->request.requester))
        return fail(E_DATA_LOSS, "an erasure's intent is damaged; restore it or remove it by hand");
    i->request.kind = (erasure_kind)kind->valueint;
    strcpy(i->salt, salt->valuestring);
    strcpy(i->commitment, mark->valuestring);
    i->request.subject = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "subject"));
    size_t count = (size_t)cJSON_GetArraySize(documents), n = 0;
    /* No document named would mean the whole store further down. */
    if ((count == 0) == (i->request.kind == ERASE_DOCUMENTS))
        return fail(E_DATA_LOSS, "an erasure's intent names %s", count ? "documents" : "nothing");
    documents_make(i, count);
    const cJSON *entry;
    cJSON_ArrayForEach(entry, documents) {
        const cJSON *chunks = cJSON_GetObjectItemCaseSensitive(entry, "chunks");
        if (!get_id(entry, "id", &i->documents[n]) || !cJSON_IsNumber(chunks))
            return fail(E_DATA_LOSS, "an erasure's intent names a document badly");
        /* Of an intent written by 0.1, which knew one owner alone. */
        if (!get_id(entry, "owner", &i->document_owners[n])) i->document_owners[n] = i->request.owner;
        if (n > 0 && id_compare(i->document_owners[n - 1], i->document_owners[n]) > 0)
            return fail(E_DATA_LOSS, "an erasure's intent names its documents out of order");
        i->chunk_counts[n++] = (uint32_t)chunks->valuedouble;
    }
    cJSON_ArrayForEach(entry, cJSON_GetObjectItemCaseSensitive(o, "owners")) {
        id128 owner;
        if (!cJSON_IsString(entry) || !is_ok(id_parse(entry->valuestring, &owner)))
            return fail(E_DATA_LOSS, "an erasure's intent names an owner badly");
        owner_add(i, owner);
    }
    return OK;
}

/* ---- 2 and 3: fence and wipe ------------------------------------------------------------------------ */
typedef result owner_fn(house *h, id128 tenant, id128 owner, const intent *i);

static result each_owner(house *h, const intent *i, owner_fn *act)
{
    for (size_t n = 0; n < i->owner_count; n++)
        TRY(act(h, i->request.tenant, i->owners[n], i));
    return OK;
}

static result fence_owner(house *h, id128 tenant, id128 owner, const intent *i)
{
    size_t count, first = documents_of(i, owner, &count);
    return retrieval_fence(h->stores, tenant, owner, i->documents + first, count);
}

static result wipe_owner(house *h, id128 tenant, id128 owner, const intent *i)
{
    size_t count, first = documents_of(i, owner, &count);
    if (count == 0) {
        state_cache_drop_source(h->states, owner, (id128){{0}});
        state_cache_drop_principal(h->states, owner);
    }
    for (size_t d = first; d < first + count; d++)
        state_cache_drop_source(h->states, owner, i->documents[d]);
    return retrieval_wipe(h->stores, tenant, owner, i->documents + first, count);
}

/* A call that reads of the erased, or is the erased's own. */
static bool call_touched(void *ctx, const void *mark)
{
    const intent *i = ctx;
    const call_sources *call = mark;
    const erasure_request *q = &i->request;
    if (!id_equal(call->tenant, q->tenant)) return false;
    if (q->kind == ERASE_TENANT) return true;
    if (q->kind == ERASE_OWNER && id_equal(call->principal, q->owner)) return true;
    for (size_t s = 0; s < call->count; s++) {
        const state_source *source = &call->sources[s];
        if (q->kind == ERASE_OWNER && id_equal(source->owner, q->owner)) return true;
        for (size_t d = 0; d < i->document_count; d++)
            if (id_equal(source->owner, i->document_owners[d]) &&
                id_equal(source->document, i->documents[d])) return true;
    }
    return false;
}

/* Who came into the tenant between the intent and the fence: after the fence nobody does. */
static result owners_refresh(house *h, intent *i)
{
    if (i->request.kind != ERASE_TENANT) return OK;
    result r = owners_collect(h, i);
    if (r.code == E_NOT_FOUND) return OK;
    TRY(r);
    return i->owner_count == i->owner_known ? OK : intent_write(h, i);
}

static result fence(house *h, intent *i)
{
    if (i->request.kind == ERASE_OWNER)
        TRY(acl_fence(h->access, i->request.tenant, i->request.owner));
    if (i->request.kind == ERASE_TENANT) TRY(acl_fence(h->access, i->request.tenant, (id128){{0}}));
    TRY(owners_refresh(h, i));
    TRY(each_owner(h, i, fence_owner));
    if (h->rpc) rpc_server_cancel(h->rpc, call_touched, i);
    return OK;
}

/* ---- the name of the erased in others' labels ----------------------------------------------------------- */
typedef struct { retrieval_document info; ifc_context owner; } pruning;

static result prune_label(house *h, id128 tenant, const acl_grant *grant, id128 gone, pruning *p)
{
    TRY(ifc_context_init(&p->owner, tenant, grant->owner, &grant->owner, 1));
    const retrieval_scope scope = {&p->owner, &grant->owner, 1};
    TRY(retrieval_get(h->stores, &scope, grant->document, NULL, &p->info, NULL));
    ifc_label_prune(&p->info.label, gone);
    return retrieval_relabel(h->stores, tenant, grant->owner, grant->document, &p->info.label);
}

/* The erased principal is taken out of the labels of what others shared with it. The grants say where,
 * and they are gone after a crash behind step 6 (acl drops what has no keys): so this is done while the
 * keys live, as well as it goes, and once more behind it. */
static result prune_labels(house *h, const intent *i)
{
    arena *mem;
    acl_grant *grants;
    size_t count, left = 0;
    error_code code = E_OK;
    const acl_grant pattern = {.grantee = i->request.owner};
    arena_open(&mem, (size_t)1 << 30);
    pruning *p = mem_alloc(sizeof *p);
    pthread_mutex_lock(&h->sharing);
    result r = acl_grants(h->access, i->request.tenant, pattern, mem, &grants, &count);
    for (size_t g = 0; is_ok(r) && g < count; g++) {
        result one = prune_label(h, i->request.tenant, &grants[g], i->request.owner, p);
        if (is_ok(one) || one.code == E_NOT_FOUND) continue;
        left++;
        if (one.code != E_DATA_LOSS) code = one.code;    /* a damaged store must not stop an erasure */
    }
    pthread_mutex_unlock(&h->sharing);
    mem_wipe(p, sizeof *p);
    mem_free(p);
    arena_close(&mem);
    if (left > 0) log_event(LOG_WARN, "labels_not_pruned", LOG_NUMBER("documents", left));
    return is_ok(r) && code != E_OK ? fail(code, "the labels of some documents could not be changed") : r;
}

/* ---- 4 to 6 ------------------------------------------------------------------------------------------- */
static keytree_node *targets_of(const intent *i, size_t *count)
{
    const erasure_request *q = &i->request;
    keytree_node *nodes = mem_alloc_array(i->document_count + 1, sizeof *nodes);
    size_t n = 0;
    for (size_t d = 0; d < i->document_count; d++)
        nodes[n++] = keytree_document(q->tenant, i->document_owners[d], i->documents[d]);
    if (q->kind == ERASE_OWNER) nodes[n++] = keytree_owner(q->tenant, q->owner);
    if (q->kind == ERASE_TENANT) nodes[n++] = keytree_tenant(q->tenant);
    *count = n;
    return nodes;
}

static result destroy_keys(house *h, const intent *i, keytree_erasure *out)
{
    size_t n;
    keytree_node *nodes = targets_of(i, &n);
    result r = keytree_erase(h->keys, nodes, n, step_done, NULL, out);
    mem_free(nodes);
    return r;
}

/* ---- 7: records and files -------------------------------------------------------------------------------- */
/* With h->sharing held, so that a share under way is either seen here or finds the document fenced. */
static result drop_grants_locked(house *h, const intent *i)
{
    for (size_t d = 0; d < i->document_count; d++) {
        arena *mem;
        arena_open(&mem, 64 << 20);
        acl_grant *grants;
        size_t count;
        const acl_grant pattern = {.owner = i->document_owners[d], .document = i->documents[d]};
        result r = acl_grants(h->access, i->request.tenant, pattern, mem, &grants, &count);
        for (size_t g = 0; is_ok(r) && g < count; g++)
            r = acl_grant_remove(h->access, i->request.tenant, grants[g]);
        arena_close(&mem);
        TRY(r);
    }
    return OK;
}

static result drop_grants(house *h, const intent *i)
{
    pthread_mutex_lock(&h->sharing);
    result r = drop_grants_locked(h, i);
    pthread_mutex_unlock(&h->sharing);
    return r;
}

static result drop_owner(house *h, id128 tenant, id128 owner, const intent *i)
{
    size_t count, first = documents_of(i, owner, &count);
    return retrieval_drop(h->stores, tenant, owner, i->documents + first, i->chunk_counts + first, count);
}

static result drop(house *h, const intent *i)
{
    const erasure_request *q = &i->request;
    TRY(each_owner(h, i, drop_owner));
    if (q->kind == ERASE_DOCUMENTS) return drop_grants(h, i);
    if (q->kind == ERASE_OWNER) TRY(prune_labels(h, i));
    return acl_drop(h->access, q->tenant, q->kind == ERASE_OWNER ? q->owner : (id128){{0}});
}

/* ---- 8: receipts ------------------------------------------------------------------------------------------ */
static result receipt_path(house *h, id128 tenant, id128 id, const char *end, char out[CONFIG_PATH_MAX])
{
    char name[ID_TEXT_BYTES], folder[CONFIG_PATH_MAX], file[64];
    id_text(tenant, name);
    TRY(house_path(&h->settings, "log", name, folder));
    TRY(dir_make(folder, 0700));
    TRY(path_join(out, CONFIG_PATH_MAX, folder, "receipts"));
    TRY(dir_make(out, 0700));
    strcpy(folder, out);
    id_text(id, name);
    snprintf(file, sizeof file, "%s%s", name, end);
    return path_join(out, CONFIG_PATH_MAX, folder, file);
}

/* The log's entry of this erasure: what its receipt says. */
static result entry_append(house *h, const intent *i, const keytree_erasure *keys, const uint8_t after[HASH_BYTES],
                           uint64_t *index)
{
    static const char *const kinds[] = {"", "document", "user", "tenant"};
    uint64_t before;
    TRY(audit_log_count(h->audit, i->request.tenant, RECEIPT_EVENT, &before));
    cJSON *o = cJSON_CreateObject();
    add_id(o, "id", i->id);
    add_id(o, "requester", i->request.requester);
    cJSON_AddStringToObject(o, "kind", i->request.subject ? "subject" : kinds[i->request.kind]);
    cJSON_AddStringToObject(o, "commitment", i->commitment);
    cJSON_AddStringToObject(o, "assurance", root_holder_assurance(h->holder));
    cJSON_AddStringToObject(o, "residue", "none");
    cJSON_AddNumberToObject(o, "items", (double)i->document_count);
    cJSON_AddNumberToObject(o, "epoch", (double)(MUTANT(receipt_shows_global_epoch) ? keys->epoch_after : before + 1));
    canonical_add_hex(o, "subtree_before", keys->subtree_before, HASH_BYTES);
    canonical_add_hex(o, "subtree_after", after, HASH_BYTES);
    return audit_log_append(h->audit, i->request.tenant, RECEIPT_EVENT, o, index);
}

/* The proof is written before the entry that it belongs to: after a crash between them and the receipt, the keys
 * may have moved on. */
static result entry_ready(house *h, const intent *i, const keytree_erasure *keys, buf *absence, uint64_t *index)
{
    char path[CONFIG_PATH_MAX];
    uint8_t after[HASH_BYTES];
    TRY(receipt_path(h, i->request.tenant, i->id, ".absence", path));
    result r = audit_log_find(h->audit, i->request.tenant, RECEIPT_EVENT, i->id, index);
    if (is_ok(r)) {
        r = file_read(path, KEYTREE_PROOF_MAX_BYTES, absence);
        /* The receipt was written, and the proof taken away, before it died. */
        return r.code == E_NOT_FOUND ? fail(E_EXISTS, "the receipt exists") : r;
    }
    if (r.code != E_NOT_FOUND) return r;
    size_t count = 0;
    keytree_node *nodes = targets_of(i, &count);
    r = keytree_absence_prove(h->keys, nodes, count, after, absence);
    mem_free(nodes);
    TRY(r);
    TRY(file_write_atomic(path, buf_bytes(absence), 0600));
    return entry_append(h, i, keys, after, index);
}

static result receipt_build(house *h, const intent *i, bytes absence, uint64_t index, buf *out)
{
    audit_head head;
    merkle_hash path[MERKLE_PATH_MAX];
    receipt_parts parts = {.index = index, .head = &head, .path = path, .absence = absence};
    buf entry;
    buf_init(&entry, AUDIT_ENTRY_MAX_BYTES);
    result r = audit_log_entry(h->audit, i->request.tenant, index, &entry);
    if (is_ok(r)) r = audit_log_inclusion(h->audit, i->request.tenant, index, &head, path, &parts.path_count);
    parts.entry = buf_bytes(&entry);
    if (is_ok(r)) r = receipt_make(&parts, h->sign_public, h->sign_secret, out);
    buf_free(&entry);
    return r;
}

static result receipt_write(house *h, const intent *i, const keytree_erasure *keys, buf *out)
{
    char path[CONFIG_PATH_MAX], proof[CONFIG_PATH_MAX];
    uint64_t index;
    buf absence;
    buf_init(&absence, KEYTREE_PROOF_MAX_BYTES);
    result r = receipt_path(h, i->request.tenant, i->id, ".json", path);
    if (is_ok(r)) r = receipt_path(h, i->request.tenant, i->id, ".absence", proof);
    if (is_ok(r)) r = entry_ready(h, i, keys, &absence, &index);
    if (r.code == E_EXISTS) {
        r = file_read(path, RECEIPT_MAX_BYTES, out);
    } else if (is_ok(r)) {
        r = receipt_build(h, i, buf_bytes(&absence), index, out);
        if (is_ok(r)) r = file_write_atomic(path, buf_bytes(out), 0600);
        if (is_ok(r) && unlink(proof) != 0) r = fail_errno("cannot remove a proof that is in its receipt");
    }
    buf_free(&absence);
    return r;
}

typedef struct {
    id128 requester;
    result (*visit)(void *ctx, const erasure_summary *summary);
    void *ctx;
} each_state;

static result each_visit(void *ctx, uint64_t index, bytes entry)
{
    each_state *state = ctx;
    (void)index;
    cJSON *o = canonical_parse(entry, AUDIT_ENTRY_MAX_BYTES);
    id128 by;
    result r = OK;
    if (o && strcmp(canonical_text(o, "event"), RECEIPT_EVENT) == 0 &&
        is_ok(id_parse(canonical_text(o, "requester"), &by)) &&
        (id_is_zero(state->requester) || id_equal(by, state->requester))) {
        const erasure_summary summary = {canonical_text(o, "id"), canonical_text(o, "kind"),
                                         canonical_number(o, "epoch"), canonical_number(o, "time_ms")};
        r = state->visit(state->ctx, &summary);
    }
    cJSON_Delete(o);
    return r;
}

result erasure_each(house *h, id128 tenant, id128 requester,
                    result (*visit)(void *ctx, const erasure_summary *summary), void *ctx)
{
    each_state state = {requester, visit, ctx};
    return audit_log_each(h->audit, tenant, each_visit, &state);
}

result erasure_find(house *h, id128 tenant, id128 requester, const char *id, buf *receipt)
{
    id128 parsed, by;
    uint64_t index;
    char path[CONFIG_PATH_MAX];
    TRY(id_parse(id, &parsed));
    TRY(audit_log_find(h->audit, tenant, RECEIPT_EVENT, parsed, &index));
    buf entry;
    buf_init(&entry, AUDIT_ENTRY_MAX_BYTES);
    result r = audit_log_entry(h->audit, tenant, index, &entry);
    cJSON *o = is_ok(r) ? canonical_parse(buf_bytes(&entry), AUDIT_ENTRY_MAX_BYTES) : NULL;
    bool mine = o && is_ok(id_parse(canonical_text(o, "requester"), &by)) &&
                (id_is_zero(requester) || id_equal(by, requester));
    cJSON_Delete(o);
    buf_free(&entry);
    TRY(r);
    if (!mine) return fail(E_NOT_FOUND, "%s", IFC_NOT_FOUND);
    TRY(receipt_path(h, tenant, parsed, ".json", path));
    r = file_read(path, RECEIPT_MAX_BYTES, receipt);
    return r.code == E_NOT_FOUND ? fail(E_NOT_FOUND, "%s", IFC_NOT_FOUND) : r;   /* not COMPLETE yet */
}

/* The intent's end. Under its name it is whole or not there at all: what is half overwritten when the
 * machine dies must not look like an intent, so that it first gets another name. */
static const char INTENT_DONE[] = ".done";

static result intent_destroy(house *h, const intent *i)
{
    char done[CONFIG_PATH_MAX + sizeof INTENT_DONE], folder[CONFIG_PATH_MAX];
    snprintf(done, sizeof done, "%s%s", i->path, INTENT_DONE);
    TRY(house_path(&h->settings, "intents", NULL, folder));
    if (rename(i->path, done) != 0) return fail_errno("cannot rename an erasure's intent");
    TRY(file_fsync_dir(folder));
    return file_destroy(done);
}

/* ---- the whole ------------------------------------------------------------------------------------------- */
/* Steps 2 to 8; the intent is on disk. */
static result carry_out_steps(house *h, intent *i, buf *receipt)
{
    keytree_erasure keys;
    TRY(fence(h, i));
    step_done(NULL, 2, "fence");
    TRY(each_owner(h, i, wipe_owner));
    if (i->request.kind == ERASE_OWNER && !is_ok(prune_labels(h, i)))
        log_event(LOG_WARN, "labels_wait", LOG_TEXT("until", "keys are destroyed"));
    step_done(NULL, 3, "wipe");
    TRY(destroy_keys(h, i, &keys));
    TRY(drop(h, i));
    step_done(NULL, 7, "unlink");
    if (MUTANT(intent_dropped_early)) TRY(intent_destroy(h, i));
    TRY(receipt_write(h, i, &keys, receipt));
    if (!MUTANT(intent_dropped_early)) TRY(intent_destroy(h, i));
    step_done(NULL, 8, "receipt");
    return OK;
}

/* With h->erasing held. What fails here stays fenced, and is carried on by erasure_retry. */
static result carry_out(house *h, intent *i, buf *receipt)
{
    result r = carry_out_steps(h, i, receipt);
    if (is_ok(r)) return OK;
    h->unfinished = true;
    char why[256];
    snprintf(why, sizeof why, "%s", r.message);
    return fail(r.code, "the erasure has begun and will be carried to its end: %s", why);
}

static void intent_free(intent *i)
{
    mem_free(i->owners);
    mem_free(i->documents);
    mem_free(i->chunk_counts);
    mem_free(i->document_owners);
    mem_wipe(i, sizeof *i);
}

result erasure_run(house *h, const erasure_request *request, buf *receipt, char salt[65])
{
    if (request->item_count > ERASURE_DOCUMENTS_MAX)
        return fail(E_INVALID, "at most %d documents in one erasure", ERASURE_DOCUMENTS_MAX);
    ASSERT((request->kind == ERASE_DOCUMENTS) == (request->item_count > 0));
    intent i = {.request = *request, .id = id_random()};
    documents_take(&i, request->items, request->item_count);
    uint8_t raw[32], commitment[HASH_BYTES];
    random_bytes(raw, sizeof raw);
    hex_encode(raw, sizeof raw, i.salt);
    mem_wipe(raw, sizeof raw);
    receipt_commit(i.salt, request->target, commitment);
    hex_encode(commitment, HASH_BYTES, i.commitment);
    pthread_mutex_lock(&h->erasing);
    result r = owners_collect(h, &i);
    if (is_ok(r)) r = intent_write(h, &i);
    if (is_ok(r)) {
        step_done(NULL, 1, "intent");
        r = carry_out(h, &i, receipt);
    }
    pthread_mutex_unlock(&h->erasing);
    memcpy(salt, i.salt, sizeof i.salt);
    intent_free(&i);
    log_event(is_ok(r) ? LOG_INFO : LOG_ERROR, "erasure", LOG_NUMBER("kind", request->kind),
              LOG_TEXT("status", error_code_name(r.code)));
    return r;
}

/* ---- what was cut off -------------------------------------------------------------------------------------- */
static result recover_one(house *h, const char *name)
{
    intent i = {0};
    TRY(house_path(&h->settings, "intents", name, i.path));
    buf text, receipt;
    buf_init(&text, INTENT_MAX_BYTES);
    buf_init(&receipt, RECEIPT_MAX_BYTES);
    result r = file_read(i.path, INTENT_MAX_BYTES, &text);
    cJSON *o = is_ok(r) ? cJSON_ParseWithLength((const char *)text.data, text.size) : NULL;
    if (is_ok(r)) r = intent_parse(o, &i);
    if (is_ok(r)) r = carry_out(h, &i, &receipt);
    if (is_ok(r)) log_event(LOG_WARN, "erasure_recovered", LOG_TEXT("id", name));
    cJSON_Delete(o);
    buf_free(&text);
    buf_free(&receipt);
    intent_free(&i);
    return r;
}

static result leftover_destroy(house *h, const char *name)
{
    char path[CONFIG_PATH_MAX];
    TRY(house_path(&h->settings, "intents", name, path));
    return file_destroy(path);
}

static result recover_locked(house *h)
{
    char folder[CONFIG_PATH_MAX];
    TRY(house_path(&h->settings, "intents", NULL, folder));
    DIR *dir = opendir(folder);
    if (dir == NULL) return fail_errno("cannot read the folder of intents");
    result r = OK;
    for (struct dirent *e; is_ok(r) && (e = readdir(dir)) != NULL;) {
        const char *end = strrchr(e->d_name, '.');
        if (strlen(e->d_name) == ID_TEXT_BYTES - 1) r = recover_one(h, e->d_name);
        else if (end != NULL && strcmp(end, INTENT_DONE) == 0) r = leftover_destroy(h, e->d_name);
    }
    closedir(dir);
    return r;
}

result erasure_recover(house *h)
{
    pthread_mutex_lock(&h->erasing);
    h->unfinished = false;
    result r = recover_locked(h);
    if (!is_ok(r)) h->unfinished = true;
    pthread_mutex_unlock(&h->erasing);
    return r;
}

void erasure_retry(house *h)
{
    pthread_mutex_lock(&h->erasing);
    bool wanted = h->unfinished;
    pthread_mutex_unlock(&h->erasing);
    if (!wanted) return;
    result r = erasure_recover(h);
    if (!is_ok(r))
        log_event(LOG_ERROR, "erasure_waits", LOG_TEXT("status", error_code_name(r.code)),
                  LOG_TEXT("why", r.message));
}
