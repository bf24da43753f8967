/* Verbs: get, ls, share, unshare, erase. */
#include "cli.h"

#include "lethe/v1/documents.pb-c.h"
#include "lethe/v1/erasure.pb-c.h"

#include <stdio.h>
#include <string.h>

static void document_json(const Lethe__V1__Document *d, cJSON *o)
{
    cJSON_AddStringToObject(o, "id", d->id);
    cJSON_AddStringToObject(o, "path", d->path);
    cJSON_AddStringToObject(o, "owner", d->owner);
    cJSON_AddStringToObject(o, "label", d->label);
    cJSON_AddNumberToObject(o, "bytes", (double)d->bytes);
}

/* ---- get ------------------------------------------------------------------------------------------------ */
typedef struct { Lethe__V1__Document *document; buf text; } fetched;

static result get_frames(cli *c, rpc_stream *s, fetched *out)
{
    buf message;
    buf_init(&message, 64 << 20);
    result r = OK;
    for (bool end = false; is_ok(r);) {
        Lethe__V1__GetResponse *part;
        r = rpc_stream_receive(s, &message, &end);
        if (!is_ok(r) || end) break;
        r = message_unpack(c->mem, &lethe__v1__get_response__descriptor, buf_bytes(&message), &part);
        if (!is_ok(r)) break;
        if (part->part_case == LETHE__V1__GET_RESPONSE__PART_DOCUMENT) out->document = part->document;
        else if (part->part_case == LETHE__V1__GET_RESPONSE__PART_TEXT)
            buf_append(&out->text, part->text.data, part->text.len);
    }
    buf_free(&message);
    return is_ok(r) ? buf_check(&out->text) : r;
}

static result get_run(cli *c, fetched *out)
{
    Lethe__V1__GetRequest m = LETHE__V1__GET_REQUEST__INIT;
    m.id = (char *)c->args[0];
    rpc_stream *s;
    TRY(rpc_stream_open(&s, c->client, "/lethe.v1.Documents/Get", 0));
    result r = cli_send(s, &m.base);
    if (is_ok(r)) r = rpc_stream_half_close(s);
    if (is_ok(r)) r = get_frames(c, s, out);
    bool whole = is_ok(r);
    TRY(rpc_stream_finish(&s));
    return whole && out->document ? OK : fail(E_INTERNAL, "the document broke off");
}

int cli_get(cli *c)
{
    if (!cli_args(c, 1)) return cli_usage("get DOC");
    int code = cli_connect(c);
    if (code != CLI_DONE) return code;
    fetched f = {NULL, {0}};
    buf_init(&f.text, (size_t)1 << 30);
    result r = get_run(c, &f);
    if (!is_ok(r)) {
        code = cli_fail(c, r);
    } else if (c->json) {
        cJSON *o = cJSON_CreateObject();
        buf_append_u8(&f.text, 0);
        document_json(f.document, o);
        cJSON_AddStringToObject(o, "text", (const char *)f.text.data);
        cli_print_json(o);
    } else {
        fwrite(f.text.data, 1, f.text.size, stdout);
    }
    buf_free(&f.text);
    return code;
}

/* ---- ls --------------------------------------------------------------------------------------------------- */
int cli_ls(cli *c)
{
    if (!cli_args(c, 0)) return cli_usage("ls");
    Lethe__V1__ListRequest m = LETHE__V1__LIST_REQUEST__INIT;
    cJSON *o = cJSON_CreateObject(), *all = cJSON_AddArrayToObject(o, "documents");
    for (;;) {
        Lethe__V1__ListResponse *page;
        int code = cli_call(c, "/lethe.v1.Documents/List", &m.base,
                            &lethe__v1__list_response__descriptor, &page);
        if (code != CLI_DONE) {
            cJSON_Delete(o);
            return code;
        }
        for (size_t i = 0; i < page->n_documents; i++) {
            const Lethe__V1__Document *d = page->documents[i];
            cJSON *item = cJSON_CreateObject();
            document_json(d, item);
            cJSON_AddItemToArray(all, item);
            if (!c->json)
                printf("%s  %8llu  %-20s  %s  %s\n", d->id, (unsigned long long)d->bytes, d->owner,
                       d->label, d->path);
        }
        if (page->next_page_token[0] == 0) break;
        m.page_token = page->next_page_token;
    }
    if (c->json) cli_print_json(o);
    else cJSON_Delete(o);
    return CLI_DONE;
}

/* ---- share, unshare ------------------------------------------------------------------------------------------ */
static int share(cli *c, const char *path)
{
    Lethe__V1__ShareRequest m = LETHE__V1__SHARE_REQUEST__INIT;
    Lethe__V1__ShareResponse *done;
    m.document = (char *)c->args[0];
    m.who = (char *)c->args[1];
    int code = cli_call(c, path, &m.base, &lethe__v1__share_response__descriptor, &done);
    if (code != CLI_DONE || done->document == NULL) return code;
    if (c->json) {
        cJSON *o = cJSON_CreateObject();
        document_json(done->document, o);
        cli_print_json(o);
    } else {
        printf("%s  %s\n", done->document->id, done->document->label);
    }
    return CLI_DONE;
}

int cli_share(cli *c)
{
    if (!cli_args(c, 2)) return cli_usage("share DOC user:NAME|group:NAME");
    return share(c, "/lethe.v1.Documents/Share");
}

int cli_unshare(cli *c)
{
    if (!cli_args(c, 2)) return cli_usage("unshare DOC user:NAME|group:NAME");
    return share(c, "/lethe.v1.Documents/Unshare");
}

/* ---- erase ---------------------------------------------------------------------------------------------------- */
static bool erase_target(cli *c, Lethe__V1__EraseRequest *m)
{
    if (!cli_args(c, 2)) return false;
    char *what = (char *)c->args[1];
    if (strcmp(c->args[0], "doc") == 0) {
        m->target_case = LETHE__V1__ERASE_REQUEST__TARGET_DOCUMENT;
        m->document = what;
    } else if (strcmp(c->args[0], "user") == 0) {
        m->target_case = LETHE__V1__ERASE_REQUEST__TARGET_USER;
        m->user = what;
    } else if (strcmp(c->args[0], "tenant") == 0) {
        m->target_case = LETHE__V1__ERASE_REQUEST__TARGET_TENANT;
        m->tenant = what;
    } else {
        return false;
    }
    return true;
}

static result opening_write(const char *receipt, const char *salt, const char *target)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s.opening", receipt) >= (int)sizeof path)
        return fail(E_INVALID, "the path is too long");
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "salt", salt);
    cJSON_AddStringToObject(o, "target", target);
    char *text = cJSON_PrintUnformatted(o);
    result r = file_write_atomic(path, bytes_str(text), 0600);
    cJSON_free(text);
    cJSON_Delete(o);
    return r;
}

result cli_receipt_write(const char *file, const char *receipt, const char *salt, const char *target)
{
    TRY(file_write_atomic(file, bytes_str(receipt), 0600));
    return opening_write(file, salt, target);
}

int cli_erase(cli *c)
{
    Lethe__V1__EraseRequest m = LETHE__V1__ERASE_REQUEST__INIT;
    Lethe__V1__EraseResponse *done;
    if (cli_args(c, 2) && strcmp(c->args[0], "subject") == 0) return cli_erase_subject(c);
    if (!erase_target(c, &m))
        return cli_usage("erase doc ID | erase subject TEXT | erase user NAME | erase tenant NAME   [--receipt FILE]");
    int code = cli_call(c, "/lethe.v1.Erasure/Erase", &m.base,
                        &lethe__v1__erase_response__descriptor, &done);
    if (code != CLI_DONE) return code;
    /* The erasure is done whatever happens to the file: the receipt is printed first. */
    if (c->json) {
        puts(done->receipt);
        fprintf(stderr, "salt %s target %s\n", done->salt, done->target);
    } else
        printf("erased: COMPLETE\n%s\n\nThe receipt's commitment opens with (kept nowhere else):\n"
               "salt    %s\ntarget  %s\n", done->receipt, done->salt, done->target);
    if (c->receipt == NULL) return CLI_DONE;
    result r = cli_receipt_write(c->receipt, done->receipt, done->salt, done->target);
    return is_ok(r) ? CLI_DONE : cli_fail(c, r);
}
