#include "audit_log.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, FRAME_BYTES = 4 + MERKLE_BYTES, HEAD_MAX_BYTES = 4096 };
static const char HEAD_TYPE[] = "lethe.head.1";

/* What is kept of each entry besides its place in the tree. */
typedef struct { uint64_t offset; uint32_t size; char event[16]; id128 id; } note;

typedef struct tenant_log {
    id128 tenant;
    struct tenant_log *next;
    pthread_mutex_t lock;                  /* all below */
    bool loaded;
    char dir[PATH_BYTES];
    merkle tree;
    note *notes;                           /* tree.size of them */
    size_t note_capacity;
    uint64_t end;                          /* of the last whole entry */
    audit_head head;
} tenant_log;

struct audit_log {
    char *dir;
    const uint8_t *public_key, *secret_key;
    pthread_mutex_t lock;                  /* logs */
    tenant_log *logs;
};

void audit_log_open(audit_log **out, const char *dir, const uint8_t *public_key, const uint8_t *secret_key)
{
    audit_log *log = mem_alloc(sizeof *log);
    log->dir = mem_strdup(dir);
    log->public_key = public_key;
    log->secret_key = secret_key;
    pthread_mutex_init(&log->lock, NULL);
    *out = log;
}

static void unload(tenant_log *t)
{
    merkle_free(&t->tree);
    mem_free(t->notes);
    t->notes = NULL;
    t->note_capacity = 0;
    t->end = 0;
    t->loaded = false;
    t->head = (audit_head){0};
}

void audit_log_close(audit_log **log_)
{
    audit_log *log = *log_;
    *log_ = NULL;
    if (log == NULL) return;
    for (tenant_log *t = log->logs, *next; t; t = next) {
        next = t->next;
        unload(t);
        pthread_mutex_destroy(&t->lock);
        mem_free(t);
    }
    pthread_mutex_destroy(&log->lock);
    mem_free(log->dir);
    mem_free(log);
}

/* ---- heads ---- */
static cJSON *head_object(const audit_head *head, id128 tenant)
{
    char text[ID_TEXT_BYTES];
    id_text(tenant, text);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "type", HEAD_TYPE);
    cJSON_AddStringToObject(o, "tenant", text);
    cJSON_AddNumberToObject(o, "size", (double)head->size);
    cJSON_AddNumberToObject(o, "time_ms", (double)head->time_ms);
    canonical_add_hex(o, "root", head->root.b, MERKLE_BYTES);
    return o;
}

static result head_sign(const audit_log *log, id128 tenant, audit_head *head, buf *out)
{
    cJSON *o = head_object(head, tenant);
    result r = canonical_sign(o, log->public_key, log->secret_key, out);
    if (is_ok(r) && !canonical_get_hex(o, "signature", SIGN_BYTES, head->signature))
        r = fail(E_INTERNAL, "a head was not signed");
    cJSON_Delete(o);
    return r;
}

result audit_head_write(const audit_head *head, id128 tenant, const uint8_t public_key[SIGN_PUBLIC_BYTES],
                        buf *out)
{
    cJSON *o = head_object(head, tenant);
    canonical_add_hex(o, "signer", public_key, SIGN_PUBLIC_BYTES);
    canonical_add_hex(o, "signature", head->signature, SIGN_BYTES);
    canonical_sort(o);
    bool good = canonical_write(o, NULL, out);
    cJSON_Delete(o);
    return good ? OK : fail(E_INTERNAL, "a head has no canonical form");
}

bool audit_head_verify(bytes text, audit_head *head, id128 *tenant, uint8_t signer[SIGN_PUBLIC_BYTES])
{
    cJSON *o = canonical_parse(text, HEAD_MAX_BYTES);
    bool good = o && strcmp(canonical_text(o, "type"), HEAD_TYPE) == 0 && cJSON_GetArraySize(o) == 7 &&
                canonical_get_hex(o, "root", MERKLE_BYTES, head->root.b) &&
                is_ok(id_parse(canonical_text(o, "tenant"), tenant)) && canonical_signed(o, signer) &&
                canonical_get_hex(o, "signature", SIGN_BYTES, head->signature);
    if (good) {
        head->size = canonical_number(o, "size");
        head->time_ms = canonical_number(o, "time_ms");
    }
    cJSON_Delete(o);
    return good;
}

/* ---- loading ---- */
static result entries_path(const tenant_log *t, char out[PATH_BYTES])
{
    return path_join(out, PATH_BYTES, t->dir, "entries");
}

static result damaged(void)
{
    return fail(E_DATA_LOSS, "a tenant's audit log is damaged");
}

static void note_add(tenant_log *t, uint64_t offset, bytes entry, const cJSON *o)
{
    if (t->tree.size == t->note_capacity) {
        t->note_capacity = t->note_capacity ? 2 * t->note_capacity : 16;
        t->notes = mem_realloc(t->notes, t->note_capacity * sizeof *t->notes);
    }
    note *n = &t->notes[t->tree.size];
    *n = (note){.offset = offset, .size = (uint32_t)entry.size};
    snprintf(n->event, sizeof n->event, "%s", canonical_text(o, "event"));
    if (!is_ok(id_parse(canonical_text(o, "id"), &n->id))) n->id = (id128){{0}};
    merkle_append(&t->tree, merkle_leaf(entry));
}

/* Entries up to the first that is not whole. */
static result scan(tenant_log *t, bytes all)
{
    for (uint64_t at = 0; all.size - at >= FRAME_BYTES;) {
        reader in = reader_of(bytes_of(all.data + at, FRAME_BYTES));
        uint32_t size = reader_u32(&in);
        if (size > AUDIT_ENTRY_MAX_BYTES || size > all.size - at - FRAME_BYTES) break;
        bytes entry = bytes_of(all.data + at + FRAME_BYTES, size);
        merkle_hash leaf = merkle_leaf(entry);
        if (memcmp(leaf.b, all.data + at + 4, MERKLE_BYTES) != 0) break;
        cJSON *o = canonical_parse(entry, AUDIT_ENTRY_MAX_BYTES);
        if (o == NULL) break;
        note_add(t, at + FRAME_BYTES, entry, o);
        cJSON_Delete(o);
        at += FRAME_BYTES + size;
        t->end = at;
    }
    return OK;
}

static result head_load(const audit_log *log, tenant_log *t)
{
    char path[PATH_BYTES];
    uint8_t signer[SIGN_PUBLIC_BYTES];
    id128 tenant;
    buf text;
    TRY(path_join(path, sizeof path, t->dir, "head"));
    buf_init(&text, HEAD_MAX_BYTES);
    result r = file_read(path, HEAD_MAX_BYTES, &text);
    if (r.code == E_NOT_FOUND) {
        r = OK;
    } else if (is_ok(r) && (!audit_head_verify(buf_bytes(&text), &t->head, &tenant, signer) ||
                            !id_equal(tenant, t->tenant) ||
                            memcmp(signer, log->public_key, SIGN_PUBLIC_BYTES) != 0)) {
        r = damaged();
    }
    buf_free(&text);
    return r;
}

static result head_store(const audit_log *log, tenant_log *t)
{
    char path[PATH_BYTES];
    buf text;
    audit_head head = {.size = t->tree.size, .time_ms = clock_wall_ms(),
                       .root = merkle_root(&t->tree, t->tree.size)};
    buf_init(&text, HEAD_MAX_BYTES);
    result r = head_sign(log, t->tenant, &head, &text);
    if (is_ok(r)) r = path_join(path, sizeof path, t->dir, "head");
    if (is_ok(r)) r = file_write_atomic(path, buf_bytes(&text), 0600);
    if (is_ok(r)) t->head = head;
    buf_free(&text);
    return r;
}

/* The tree must hold what the head was signed over; one entry more may have been written when it died. */
static result reconcile(const audit_log *log, tenant_log *t, uint64_t file_size)
{
    if (t->tree.size < t->head.size) return damaged();
    merkle_hash root = merkle_root(&t->tree, t->head.size);
    if (t->head.size > 0 && memcmp(root.b, t->head.root.b, MERKLE_BYTES) != 0) return damaged();
    if (t->end < file_size) {
        char path[PATH_BYTES];
        TRY(entries_path(t, path));
        int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0) return fail_errno("cannot open the audit log");
        result r = ftruncate(fd, (off_t)t->end) == 0 && fsync(fd) == 0 ? OK
                 : fail_errno("cannot cut the audit log's torn end");
        close(fd);
        TRY(r);
        log_event(LOG_WARN, "audit_log_cut", LOG_NUMBER("bytes", file_size - t->end));
    }
    return t->tree.size > t->head.size ? head_store(log, t) : OK;
}

static result load(const audit_log *log, tenant_log *t)
{
    if (t->loaded) return OK;
    char path[PATH_BYTES];
    buf all;
    TRY(entries_path(t, path));
    buf_init(&all, SIZE_MAX / 4);
    result r = file_read(path, SIZE_MAX / 8, &all);
    if (r.code == E_NOT_FOUND) r = OK;
    if (is_ok(r)) r = head_load(log, t);
    if (is_ok(r)) r = scan(t, buf_bytes(&all));
    if (is_ok(r)) r = reconcile(log, t, all.size);
    buf_free(&all);
    if (is_ok(r)) t->loaded = true;
    else unload(t);
    return r;
}

/* Locked and loaded; release with leave. */
static result enter(audit_log *log, id128 tenant, tenant_log **out)
{
    char text[ID_TEXT_BYTES];
    pthread_mutex_lock(&log->lock);
    tenant_log *t = log->logs;
    while (t && !id_equal(t->tenant, tenant)) t = t->next;
    if (t == NULL) {
        t = mem_alloc(sizeof *t);
        t->tenant = tenant;
        pthread_mutex_init(&t->lock, NULL);
        t->next = log->logs;
        log->logs = t;
    }
    pthread_mutex_unlock(&log->lock);
    id_text(tenant, text);
    pthread_mutex_lock(&t->lock);
    result r = path_join(t->dir, sizeof t->dir, log->dir, text);
    if (is_ok(r)) r = load(log, t);
    if (!is_ok(r)) pthread_mutex_unlock(&t->lock);
    *out = is_ok(r) ? t : NULL;
    return r;
}

static void leave(tenant_log *t) { pthread_mutex_unlock(&t->lock); }

/* ---- appending ---- */
static result frame_write(tenant_log *t, bytes entry)
{
    char path[PATH_BYTES];
    buf frame;
    merkle_hash leaf = merkle_leaf(entry);
    TRY(dir_make(t->dir, 0700));
    TRY(entries_path(t, path));
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return fail_errno("cannot open the audit log");
    buf_init(&frame, FRAME_BYTES + AUDIT_ENTRY_MAX_BYTES);
    buf_append_u32(&frame, (uint32_t)entry.size);
    buf_append(&frame, leaf.b, MERKLE_BYTES);
    buf_append(&frame, entry.data, entry.size);
    result r = buf_check(&frame);
    for (size_t done = 0; is_ok(r) && done < frame.size;) {
        ssize_t n = pwrite(fd, frame.data + done, frame.size - done, (off_t)(t->end + done));
        if (n <= 0) r = fail_errno("cannot write the audit log");
        else done += (size_t)n;
    }
    if (is_ok(r) && fsync(fd) != 0) r = fail_errno("cannot sync the audit log");
    close(fd);
    buf_free(&frame);
    if (is_ok(r) && t->tree.size == 0) r = file_fsync_dir(t->dir);
    return r;
}

static result append_locked(const audit_log *log, tenant_log *t, cJSON *record, uint64_t *index)
{
    buf entry;
    buf_init(&entry, AUDIT_ENTRY_MAX_BYTES);
    canonical_sort(record);
    result r = canonical_write(record, NULL, &entry) ? OK
             : fail(E_INTERNAL, "an audit record has no canonical form");
    if (is_ok(r)) r = frame_write(t, buf_bytes(&entry));
    if (is_ok(r)) {
        note_add(t, t->end + FRAME_BYTES, buf_bytes(&entry), record);
        t->end += FRAME_BYTES + entry.size;
        if (index) *index = t->tree.size - 1;
        r = head_store(log, t);
    }
    if (!is_ok(r)) unload(t);             /* what is durable is read anew */
    buf_free(&entry);
    return r;
}

result audit_log_append(audit_log *log, id128 tenant, const char *event, cJSON *record, uint64_t *index)
{
    tenant_log *t;
    char text[ID_TEXT_BYTES];
    id_text(tenant, text);
    cJSON_AddStringToObject(record, "event", event);
    cJSON_AddStringToObject(record, "tenant", text);
    if (!cJSON_HasObjectItem(record, "time_ms"))
        cJSON_AddNumberToObject(record, "time_ms", (double)clock_wall_ms());
    result r = enter(log, tenant, &t);
    if (is_ok(r)) {
        r = append_locked(log, t, record, index);
        leave(t);
    }
    cJSON_Delete(record);
    return r;
}

/* ---- reading ---- */
result audit_log_find(audit_log *log, id128 tenant, const char *event, id128 id, uint64_t *index)
{
    tenant_log *t;
    TRY(enter(log, tenant, &t));
    result r = fail(E_NOT_FOUND, "%s", IFC_NOT_FOUND);
    for (uint64_t i = t->tree.size; i > 0 && !is_ok(r); i--)
        if (id_equal(t->notes[i - 1].id, id) && strcmp(t->notes[i - 1].event, event) == 0) {
            *index = i - 1;
            r = OK;
        }
    leave(t);
    return r;
}

result audit_log_count(audit_log *log, id128 tenant, const char *event, uint64_t *count)
{
    tenant_log *t;
    *count = 0;
    TRY(enter(log, tenant, &t));
    for (uint64_t i = 0; i < t->tree.size; i++) *count += strcmp(t->notes[i].event, event) == 0;
    leave(t);
    return OK;
}

static result read_entry(const tenant_log *t, uint64_t index, buf *out)
{
    char path[PATH_BYTES];
    TRY(entries_path(t, path));
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return fail_errno("cannot open the audit log");
    const note *n = &t->notes[index];
    uint8_t *data = mem_alloc(n->size);
    result r = OK;
    if (pread(fd, data, n->size, (off_t)n->offset) != (ssize_t)n->size) r = damaged();
    merkle_hash leaf = merkle_leaf(bytes_of(data, n->size));
    if (is_ok(r) && memcmp(leaf.b, t->tree.levels[0].at[index].b, MERKLE_BYTES) != 0) r = damaged();
    if (is_ok(r)) buf_append(out, data, n->size);
    close(fd);
    mem_free(data);
    return is_ok(r) ? buf_check(out) : r;
}

result audit_log_entry(audit_log *log, id128 tenant, uint64_t index, buf *out)
{
    tenant_log *t;
    TRY(enter(log, tenant, &t));
    result r = index < t->tree.size ? read_entry(t, index, out) : fail(E_INVALID, "the log has no such entry");
    leave(t);
    return r;
}

result audit_log_each(audit_log *log, id128 tenant, result (*visit)(void *ctx, uint64_t index, bytes entry),
                      void *ctx)
{
    audit_head head;
    buf entry;
    TRY(audit_log_head(log, tenant, &head));
    buf_init(&entry, AUDIT_ENTRY_MAX_BYTES);
    result r = OK;
    for (uint64_t i = 0; i < head.size && is_ok(r); i++) {
        buf_clear(&entry);
        r = audit_log_entry(log, tenant, i, &entry);
        if (is_ok(r)) r = visit(ctx, i, buf_bytes(&entry));
    }
    buf_free(&entry);
    return r;
}

result audit_log_head(audit_log *log, id128 tenant, audit_head *out)
{
    tenant_log *t;
    TRY(enter(log, tenant, &t));
    *out = t->head;
    leave(t);
    return OK;
}

result audit_log_inclusion(audit_log *log, id128 tenant, uint64_t index, audit_head *head,
                           merkle_hash path[MERKLE_PATH_MAX], size_t *count)
{
    tenant_log *t;
    TRY(enter(log, tenant, &t));
    *head = t->head;
    bool known = index < t->head.size;
    if (known) *count = merkle_inclusion(&t->tree, index, t->head.size, path);
    leave(t);
    return known ? OK : fail(E_INVALID, "the log has no such entry");
}

result audit_log_consistency(audit_log *log, id128 tenant, uint64_t size, audit_head *head,
                             merkle_hash path[MERKLE_PATH_MAX], size_t *count)
{
    tenant_log *t;
    TRY(enter(log, tenant, &t));
    *head = t->head;
    bool known = size > 0 && size <= t->head.size;
    if (known) *count = merkle_consistency(&t->tree, size, t->head.size, path);
    leave(t);
    return known ? OK : fail(E_INVALID, "the log has no such size");
}
