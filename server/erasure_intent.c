#include "erasure_intent.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static result intent_path(house *h, intent *i)
{
    char text[ID_TEXT_BYTES];
    id_text(i->id, text);
    return house_path(&h->settings, "intents", text, i->path);
}

result intent_write(house *h, intent *i)
{
    TRY(intent_path(h, i));
    cJSON *o = cJSON_CreateObject(), *documents = cJSON_AddArrayToObject(o, "documents");
    cJSON_AddNumberToObject(o, "kind", i->request.kind);
    cJSON_AddBoolToObject(o, "subject", i->request.cause == ERASURE_SUBJECT);
    cJSON_AddBoolToObject(o, "replaced", i->request.cause == ERASURE_REPLACED);
    canonical_add_hex(o, "id", i->id.b, ID_BYTES);
    canonical_add_hex(o, "tenant", i->request.tenant.b, ID_BYTES);
    canonical_add_hex(o, "owner", i->request.owner.b, ID_BYTES);
    canonical_add_hex(o, "requester", i->request.requester.b, ID_BYTES);
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
        canonical_add_hex(entry, "id", i->documents[d].b, ID_BYTES);
        canonical_add_hex(entry, "owner", i->document_owners[d].b, ID_BYTES);
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

result intent_owners_collect(house *h, intent *i)
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

void intent_documents_take(intent *i, const erasure_item *items, size_t count)
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

size_t intent_documents_of(const intent *i, id128 owner, size_t *count)
{
    size_t first = 0, end;
    while (first < i->document_count && !id_equal(i->document_owners[first], owner)) first++;
    for (end = first; end < i->document_count && id_equal(i->document_owners[end], owner);) end++;
    *count = end - first;
    return first;
}

static result parse(const cJSON *o, intent *i)
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
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "subject"))) i->request.cause = ERASURE_SUBJECT;
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "replaced"))) i->request.cause = ERASURE_REPLACED;
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

result intent_parse(bytes text, intent *i)
{
    cJSON *o = cJSON_ParseWithLength((const char *)text.data, text.size);
    result r = parse(o, i);
    cJSON_Delete(o);
    return r;
}

/* Under its name it is whole or not there at all: what is half overwritten when the
 * machine dies must not look like an intent, so that it first gets another name. */
result intent_destroy(house *h, const intent *i)
{
    char done[CONFIG_PATH_MAX + sizeof INTENT_DONE], folder[CONFIG_PATH_MAX];
    snprintf(done, sizeof done, "%s%s", i->path, INTENT_DONE);
    TRY(house_path(&h->settings, "intents", NULL, folder));
    if (rename(i->path, done) != 0) return fail_errno("cannot rename an erasure's intent");
    TRY(file_fsync_dir(folder));
    return file_destroy(done);
}

void intent_free(intent *i)
{
    mem_free(i->owners);
    mem_free(i->labels);
    mem_free(i->documents);
    mem_free(i->chunk_counts);
    mem_free(i->document_owners);
    mem_wipe(i, sizeof *i);
}
