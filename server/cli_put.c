/* put: files and folders, streamed; a bar on a terminal. */
#include "cli.h"

#include "lethe/v1/documents.pb-c.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE_BYTES = 256 << 10, STREAM_DOCUMENTS = 256, DEPTH_MAX = 64 };

typedef struct {
    char **paths;
    size_t count, capacity;
    uint64_t bytes;
} file_list;

typedef struct {
    cli *c;
    file_list files;
    cJSON *documents, *failed;
    uint64_t sent_bytes, shown_ms;
    size_t sent;
    bool bar;
} putting;

/* A path that is not UTF-8 is told with \xNN for every byte beyond ASCII: JSON is UTF-8. */
static void failed_add(putting *p, const char *path, const char *reason)
{
    cJSON *item = cJSON_CreateObject();
    buf shown;
    buf_init(&shown, 4 * strlen(path) + 1);
    bool valid = utf8_valid(bytes_str(path));
    for (const char *b = path; *b; b++)
        if (valid || (uint8_t)*b < 0x80) buf_append_u8(&shown, (uint8_t)*b);
        else buf_printf(&shown, "\\x%02x", (uint8_t)*b);
    buf_append_u8(&shown, 0);
    cJSON_AddStringToObject(item, "path", (const char *)shown.data);
    buf_free(&shown);
    cJSON_AddStringToObject(item, "reason", reason);
    cJSON_AddItemToArray(p->failed, item);
}

/* ---- finding files -------------------------------------------------------------------------------------- */
static void file_add(putting *p, const char *path, uint64_t size)
{
    file_list *l = &p->files;
    if (l->count == l->capacity) {
        l->capacity = l->capacity ? 2 * l->capacity : 256;
        l->paths = mem_realloc(l->paths, l->capacity * sizeof *l->paths);
    }
    l->paths[l->count++] = mem_strdup(path);
    l->bytes += size;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The folders that we are in. */
typedef struct above { const struct above *next; dev_t device; ino_t inode; int depth; } above;
static void find(putting *p, const char *path, const above *in);

/* Everything below the folder but hidden files, in the order of names. */
static void find_below(putting *p, const char *path, const above *in)
{
    DIR *dir = opendir(path);
    if (dir == NULL) {
        failed_add(p, path, strerror(errno));
        return;
    }
    char **names = NULL;
    size_t count = 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        if (e->d_name[0] == '.') continue;
        names = mem_realloc(names, (count + 1) * sizeof *names);
        names[count++] = mem_strdup(e->d_name);
    }
    closedir(dir);
    if (count) qsort(names, count, sizeof *names, by_name);
    for (size_t i = 0; i < count; i++) {
        char below[4096];
        if (is_ok(path_join(below, sizeof below, path, names[i]))) find(p, below, in);
        else failed_add(p, names[i], "the path is too long");
        mem_free(names[i]);
    }
    mem_free(names);
}

/* Links are followed, but not back into a folder that we are in. */
static void find_folder(putting *p, const char *path, const struct stat *st, const above *in)
{
    const above here = {in, st->st_dev, st->st_ino, in ? in->depth + 1 : 0};
    for (; in; in = in->next)
        if (in->device == here.device && in->inode == here.inode) {
            failed_add(p, path, "a link back to a folder above it");
            return;
        }
    if (here.depth > DEPTH_MAX) failed_add(p, path, "folders nested too deep");
    else find_below(p, path, &here);
}

static void find(putting *p, const char *path, const above *in)
{
    struct stat st;
    if (stat(path, &st) != 0) failed_add(p, path, strerror(errno));
    else if (S_ISDIR(st.st_mode)) find_folder(p, path, &st, in);
    else if (S_ISREG(st.st_mode)) file_add(p, path, (uint64_t)st.st_size);
    else failed_add(p, path, "neither a file nor a folder");
}

/* ---- sending ------------------------------------------------------------------------------------------------ */
static void progress(putting *p, bool last)
{
    uint64_t now = clock_mono_ms();
    if (!p->bar || (!last && now - p->shown_ms < 100)) return;
    p->shown_ms = now;
    double part = p->files.bytes ? (double)p->sent_bytes / (double)p->files.bytes : 1;
    int filled = (int)(part * 30);
    if (filled > 30) filled = 30;
    fprintf(stderr, "\r[%.*s%.*s] %zu/%zu documents, %.1f of %.1f MB%s", filled,
            "##############################", 30 - filled, "..............................", p->sent,
            p->files.count, (double)p->sent_bytes / 1e6, (double)p->files.bytes / 1e6,
            last ? "\n" : "");
}

static result header_send(putting *p, rpc_stream *s, const char *path)
{
    cli *c = p->c;
    uint8_t nonce[16];
    random_bytes(nonce, sizeof nonce);
    Lethe__V1__PutHeader header = LETHE__V1__PUT_HEADER__INIT;
    header.path = (char *)path;
    header.nonce = (ProtobufCBinaryData){sizeof nonce, nonce};
    if (c->owner) header.owner = (char *)c->owner;
    if (c->media_type) header.media_type = (char *)c->media_type;
    header.replace = c->replace;
    header.share = (char **)c->share;
    header.n_share = c->share_count;
    Lethe__V1__PutRequest m = LETHE__V1__PUT_REQUEST__INIT;
    m.part_case = LETHE__V1__PUT_REQUEST__PART_HEADER;
    m.header = &header;
    return cli_send(s, &m.base);
}

static result data_send(putting *p, rpc_stream *s, int fd, uint8_t *piece, bool *readable)
{
    for (;;) {
        ssize_t n = read(fd, piece, PIECE_BYTES);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) { *readable = n == 0; return OK; }
        Lethe__V1__PutRequest m = LETHE__V1__PUT_REQUEST__INIT;
        m.part_case = LETHE__V1__PUT_REQUEST__PART_DATA;
        m.data = (ProtobufCBinaryData){(size_t)n, piece};
        TRY(cli_send(s, &m.base));
        p->sent_bytes += (uint64_t)n;
        progress(p, false);
    }
}

/* One file: opened before its header goes out, so that an unreadable one fails alone. A read that
 * breaks in the middle cannot be taken back: the stream ends there. */
static result file_send(putting *p, rpc_stream *s, const char *path, uint8_t *piece)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        failed_add(p, path, strerror(errno));
        return OK;
    }
    if (!utf8_valid(bytes_str(path)) || strlen(path) > 1023) {
        close(fd);
        failed_add(p, path, "the path is not UTF-8, or longer than 1,023 bytes");
        return OK;
    }
    bool readable = true;
    result r = header_send(p, s, path);
    if (is_ok(r)) r = data_send(p, s, fd, piece, &readable);
    close(fd);
    p->sent++;
    if (is_ok(r) && !readable) r = fail(E_INVALID, "reading a file failed; what follows was not sent");
    return r;
}

static void response_take(putting *p, const Lethe__V1__PutResponse *response)
{
    for (size_t i = 0; i < response->n_documents; i++) {
        const Lethe__V1__PutDocument *d = response->documents[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "id", d->id);
        cJSON_AddStringToObject(item, "path", d->path);
        cJSON_AddNumberToObject(item, "chunks", d->chunks);
        if (d->notice[0]) {
            cJSON_AddStringToObject(item, "notice", d->notice);
            fprintf(stderr, "note  %s: %s\n", d->path, d->notice);
        }
        cJSON_AddItemToArray(p->documents, item);
    }
    for (size_t i = 0; i < response->n_failed; i++)
        failed_add(p, response->failed[i]->path, response->failed[i]->reason);
}

/* Files [from, upto) in one call. */
static result stream_run(putting *p, size_t from, size_t upto)
{
    rpc_stream *s;
    TRY(rpc_stream_open(&s, p->c->client, "/lethe.v1.Documents/Put", 0));
    uint8_t *piece = mem_alloc(PIECE_BYTES);
    size_t before = p->sent;
    result r = OK;
    for (size_t i = from; i < upto && is_ok(r); i++) r = file_send(p, s, p->files.paths[i], piece);
    mem_free(piece);
    bool any = p->sent > before, end = false;
    buf message;
    buf_init(&message, 64 << 20);
    if (!any) rpc_stream_cancel(s);
    if (any && is_ok(r)) r = rpc_stream_half_close(s);
    if (any && is_ok(r)) r = rpc_stream_receive(s, &message, &end);
    if (any && is_ok(r) && !end) {
        Lethe__V1__PutResponse *response;
        r = message_unpack(p->c->mem, &lethe__v1__put_response__descriptor, buf_bytes(&message), &response);
        if (is_ok(r)) response_take(p, response);
    }
    buf_free(&message);
    error_code code = r.code;
    char words[512];
    snprintf(words, sizeof words, "%s", r.message);
    if (!is_ok(r)) rpc_stream_cancel(s);
    result status = rpc_stream_finish(&s);
    if (!any) return OK;
    if (!is_ok(status) && (code == E_OK || status.code != E_CANCELLED)) return status;
    return code == E_OK ? OK : fail(code, "%s", words);
}

static int report(putting *p)
{
    int failed = cJSON_GetArraySize(p->failed), stored = cJSON_GetArraySize(p->documents);
    if (p->c->json) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddItemToObject(o, "documents", p->documents);
        cJSON_AddItemToObject(o, "failed", p->failed);
        cli_print_json(o);
    } else {
        const cJSON *item;
        cJSON_ArrayForEach(item, p->documents)
            printf("%s  %s\n", cJSON_GetObjectItem(item, "id")->valuestring,
                   cJSON_GetObjectItem(item, "path")->valuestring);
        cJSON_ArrayForEach(item, p->failed)
            fprintf(stderr, "failed  %s: %s\n", cJSON_GetObjectItem(item, "path")->valuestring,
                    cJSON_GetObjectItem(item, "reason")->valuestring);
        printf("%d stored, %d failed\n", stored, failed);
        cJSON_Delete(p->documents);
        cJSON_Delete(p->failed);
    }
    return failed ? CLI_REFUSED : CLI_DONE;
}

int cli_put(cli *c)
{
    if (c->arg_count == 0)
        return cli_usage("put PATH... [--owner group:NAME] [--share group:NAME|user:NAME]... "
                         "[--replace] [--type MEDIA_TYPE]");
    int code = cli_connect(c);
    if (code != CLI_DONE) return code;
    putting p = {.c = c, .documents = cJSON_CreateArray(), .failed = cJSON_CreateArray(),
                 .bar = isatty(STDERR_FILENO) && !c->json};
    for (int i = 0; i < c->arg_count; i++) find(&p, c->args[i], NULL);
    for (size_t from = 0; from < p.files.count; from += STREAM_DOCUMENTS) {
        size_t upto = from + STREAM_DOCUMENTS < p.files.count ? from + STREAM_DOCUMENTS
                                                              : p.files.count;
        result r = stream_run(&p, from, upto);
        if (is_ok(r)) continue;
        /* The call failed as a whole: nothing of it was acknowledged, nor is what follows sent. */
        for (size_t i = from; i < p.files.count; i++) failed_add(&p, p.files.paths[i], r.message);
        break;
    }
    progress(&p, true);
    code = report(&p);
    for (size_t i = 0; i < p.files.count; i++) mem_free(p.files.paths[i]);
    mem_free(p.files.paths);
    return code;
}
