/* The protocol of ARCHITECTURE.md, "Erasure":
 *   1 intent   2 fence   3 wipe   4 new root   5 new tree   6 old root destroyed (commit point)
 *   7 unlink   8 receipt, COMPLETE
 * Step 1 stands in erasure_intent.c, 4 to 6 are keytree_erase. A crash after 1 is carried forward at the next start;
 * all steps are idempotent. */
#include "erasure_intent.h"

#include "receipt.h"
#include "session.h"

#include "mutant.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void (*erasure_step_hook)(int step, const char *what);

static void step_done(void *ctx, int step, const char *what)
{
    (void)ctx;
    log_event(LOG_INFO, "erasure_step", LOG_NUMBER("step", step), LOG_TEXT("what", what));
    if (erasure_step_hook) erasure_step_hook(step, what);
}

/* ---- 1: what their owners keep of them (tombstones) -------------------------------------------------------- */
typedef result owner_fn(house *h, id128 tenant, id128 owner, const intent *i);

static result each_owner(house *h, const intent *i, owner_fn *act)
{
    for (size_t n = 0; n < i->owner_count; n++)
        TRY(act(h, i->request.tenant, i->owners[n], i));
    return OK;
}

/* Of what is erased by document, while its keys live, as each owner wants it. Belongs to step 1:
 * done again after a crash, it changes nothing. Damage must not stop an erasure. */
static result leave_owner(house *h, id128 tenant, id128 owner, const intent *i)
{
    size_t count, first = intent_documents_of(i, owner, &count);
    result r = retrieval_tombstones_leave(h->stores, tenant, owner, i->documents + first, count);
    if (r.code != E_DATA_LOSS) return r;
    log_event(LOG_WARN, "tombstones_not_left", LOG_TEXT("why", r.message));
    return OK;
}

static result tombstones_leave(house *h, const intent *i)
{
    if (i->request.kind != ERASE_DOCUMENTS || i->request.cause == ERASURE_REPLACED) return OK;
    return each_owner(h, i, leave_owner);
}

/* ---- 2 and 3: fence and wipe ------------------------------------------------------------------------ */
static void label_take(void *ctx, id128 owner, const ifc_label *label)
{
    intent *i = ctx;
    i->labels = mem_realloc(i->labels, (i->label_count + 1) * sizeof *i->labels);
    fenced_label *to = &i->labels[i->label_count++];
    to->owner = owner;
    to->known = label != NULL;
    if (label) to->label = *label;
}

typedef struct { id128 tenant, owner; bool found; } store_use;

static bool looks_into(const call_sources *call, id128 owner)
{
    for (size_t o = 0; call->scope != NULL && o < call->scope->owner_count; o++)
        if (id_equal(call->scope->owners[o], owner)) return true;
    return false;
}

static bool note_use(void *ctx, const void *mark)
{
    store_use *use = ctx;
    const call_sources *call = mark;
    use->found = use->found || (id_equal(call->tenant, use->tenant) && looks_into(call, use->owner));
    return false;                        /* looked at, not cancelled */
}

/* Does a call under way look into the owner's store? */
static bool store_in_use(house *h, id128 tenant, id128 owner)
{
    store_use use = {tenant, owner, false};
    if (h->rpc) rpc_server_cancel(h->rpc, note_use, &use);
    return use.found;
}

/* A tenant's calls are cancelled all: their labels do not matter. A call that came between the first look and the
 * fence, and whose store was closed again, may have read what nobody told the label of. */
static result fence_owners(house *h, intent *i)
{
    bool whole = i->request.kind == ERASE_TENANT;
    for (size_t n = 0; n < i->owner_count; n++) {
        id128 tenant = i->request.tenant, owner = i->owners[n];
        size_t count, first = intent_documents_of(i, owner, &count), told = i->label_count;
        bool in_use = !whole && store_in_use(h, tenant, owner);
        TRY(retrieval_fence(h->stores, tenant, owner, i->documents + first, count, in_use, whole ? NULL : label_take, i));
        if (!whole && !in_use && told == i->label_count && store_in_use(h, tenant, owner)) label_take(i, owner, NULL);
    }
    return OK;
}

static result wipe_owner(house *h, id128 tenant, id128 owner, const intent *i)
{
    size_t count, first = intent_documents_of(i, owner, &count);
    if (count == 0) {
        state_cache_drop_source(h->states, owner, (id128){{0}});
        state_cache_drop_principal(h->states, owner);
    }
    for (size_t d = first; d < first + count; d++)
        state_cache_drop_source(h->states, owner, i->documents[d]);
    return retrieval_wipe(h->stores, tenant, owner, i->documents + first, count);
}

/* May the erased be in the call's numbers? Only if it was permitted: another's private document changes nothing. */
static bool call_counted(const call_sources *call, const intent *i)
{
    for (size_t l = 0; call->scope != NULL && l < i->label_count; l++) {
        const fenced_label *gone = &i->labels[l];
        if (!looks_into(call, gone->owner)) continue;
        if (!gone->known || MUTANT(cancel_ignores_labels)) return true;
        if (ifc_context_permits(call->scope->context, &gone->label)) return true;
    }
    return false;
}

/* A call that reads of the erased, may have counted it, or is the erased's own. */
static bool call_touched(void *ctx, const void *mark)
{
    const intent *i = ctx;
    const call_sources *call = mark;
    const erasure_request *q = &i->request;
    if (!id_equal(call->tenant, q->tenant)) return false;
    if (q->kind == ERASE_TENANT) return true;
    if (q->kind == ERASE_OWNER && id_equal(call->principal, q->owner)) return true;
    if (call_counted(call, i)) return true;
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
    result r = intent_owners_collect(h, i);
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
    TRY(fence_owners(h, i));
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
    size_t count, first = intent_documents_of(i, owner, &count);
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

/* Is anything kept of what was erased? A record that cannot be read is not known to be any of it. */
static result residue_find(house *h, const intent *i, bool *out)
{
    *out = false;
    for (size_t n = 0; !*out && i->request.kind == ERASE_DOCUMENTS && n < i->owner_count; n++) {
        size_t count, first = intent_documents_of(i, i->owners[n], &count);
        result r = retrieval_tombstones_hold(h->stores, i->request.tenant, i->owners[n], i->documents + first, count,
                                             out);
        if (r.code != E_DATA_LOSS) TRY(r);
    }
    return OK;
}

/* The log's entry of this erasure: what its receipt says. */
static result entry_append(house *h, const intent *i, const keytree_erasure *keys, const uint8_t after[HASH_BYTES],
                           uint64_t *index)
{
    static const char *const kinds[] = {"", "document", "user", "tenant"};
    uint64_t before;
    bool residue;
    TRY(residue_find(h, i, &residue));
    TRY(audit_log_count(h->audit, i->request.tenant, RECEIPT_EVENT, &before));
    cJSON *o = cJSON_CreateObject();
    canonical_add_hex(o, "id", i->id.b, ID_BYTES);
    canonical_add_hex(o, "requester", i->request.requester.b, ID_BYTES);
    cJSON_AddStringToObject(o, "kind", i->request.cause == ERASURE_SUBJECT ? "subject" : kinds[i->request.kind]);
    cJSON_AddStringToObject(o, "commitment", i->commitment);
    cJSON_AddStringToObject(o, "assurance", root_holder_assurance(h->holder));
    cJSON_AddStringToObject(o, "residue", residue ? "tombstones" : "none");
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

/* ---- the whole ------------------------------------------------------------------------------------------- */
/* Steps 2 to 8; the intent is on disk. */
static result carry_out_steps(house *h, intent *i, buf *receipt)
{
    keytree_erasure keys;
    TRY(tombstones_leave(h, i));
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

result erasure_run(house *h, const erasure_request *request, buf *receipt, char salt[65])
{
    if (request->item_count > ERASURE_DOCUMENTS_MAX)
        return fail(E_INVALID, "at most %d documents in one erasure", ERASURE_DOCUMENTS_MAX);
    ASSERT((request->kind == ERASE_DOCUMENTS) == (request->item_count > 0));
    intent i = {.request = *request, .id = id_random()};
    intent_documents_take(&i, request->items, request->item_count);
    uint8_t raw[32], commitment[HASH_BYTES];
    random_bytes(raw, sizeof raw);
    hex_encode(raw, sizeof raw, i.salt);
    mem_wipe(raw, sizeof raw);
    receipt_commit(i.salt, request->target, commitment);
    hex_encode(commitment, HASH_BYTES, i.commitment);
    pthread_mutex_lock(&h->erasing);
    result r = intent_owners_collect(h, &i);
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
    if (is_ok(r)) r = intent_parse(buf_bytes(&text), &i);
    if (is_ok(r)) r = carry_out(h, &i, &receipt);
    if (is_ok(r)) log_event(LOG_WARN, "erasure_recovered", LOG_TEXT("id", name));
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
