/* log head, log ls, log witness: the tenant's audit log as its admin, or a witness who trusts nobody, follows it. */
#include "cli.h"

#include "audit_log.h"
#include "lethe/v1/erasure.pb-c.h"

#include <stdio.h>
#include <string.h>

static int head_fetch(cli *c, uint64_t since, Lethe__V1__GetLogHeadResponse **out)
{
    Lethe__V1__GetLogHeadRequest m = LETHE__V1__GET_LOG_HEAD_REQUEST__INIT;
    m.since_size = since;
    return cli_call(c, "/lethe.v1.Erasure/GetLogHead", &m.base,
                    &lethe__v1__get_log_head_response__descriptor, out);
}

static int log_head(cli *c)
{
    Lethe__V1__GetLogHeadResponse *response;
    int code = head_fetch(c, 0, &response);
    if (code == CLI_DONE) puts(response->head[0] ? response->head : c->json ? "{}" : "the log is empty");
    return code;
}

/* All entries; the root computed from them must be the signed one. */
static int log_ls(cli *c)
{
    merkle tree = {0};
    int code = CLI_DONE;
    cJSON *all = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(all, "entries");
    for (;;) {
        Lethe__V1__ListLogRequest m = LETHE__V1__LIST_LOG_REQUEST__INIT;
        Lethe__V1__ListLogResponse *page;
        m.start = tree.size;
        code = cli_call(c, "/lethe.v1.Erasure/ListLog", &m.base, &lethe__v1__list_log_response__descriptor, &page);
        if (code != CLI_DONE || page->n_entries == 0) break;
        for (size_t i = 0; i < page->n_entries; i++) {
            merkle_append(&tree, merkle_leaf(bytes_str(page->entries[i]->entry)));
            if (c->json) cJSON_AddItemToArray(list, cJSON_Parse(page->entries[i]->entry));
            else puts(page->entries[i]->entry);
        }
    }
    Lethe__V1__GetLogHeadResponse *response;
    if (code == CLI_DONE) code = head_fetch(c, 0, &response);
    if (code == CLI_DONE && response->head[0]) {
        audit_head head;
        id128 tenant;
        uint8_t signer[SIGN_PUBLIC_BYTES];
        bool good = audit_head_verify(bytes_str(response->head), &head, &tenant, signer) && head.size >= tree.size;
        if (good && head.size == tree.size) {
            merkle_hash root = merkle_root(&tree, tree.size);
            good = memcmp(root.b, head.root.b, MERKLE_BYTES) == 0;
        }
        if (!good) code = cli_fail(c, fail(E_DATA_LOSS, "the entries are not those that the log's head is signed over"));
    }
    if (code == CLI_DONE && c->json) cli_print_json(all);
    else cJSON_Delete(all);
    merkle_free(&tree);
    return code;
}

/* ---- witness ---- */
typedef struct { audit_head head; id128 tenant; uint8_t signer[SIGN_PUBLIC_BYTES]; } seen_head;

static result seen_read(const char *path, seen_head *seen, bool *known)
{
    buf text;
    buf_init(&text, 4096);
    result r = file_read(path, 4096, &text);
    *known = is_ok(r);
    if (text.size > 0 && text.data[text.size - 1] == '\n') text.size--;
    if (is_ok(r) && !audit_head_verify(buf_bytes(&text), &seen->head, &seen->tenant, seen->signer))
        r = fail(E_DATA_LOSS, "the file holds no signed head; give another, or remove it to begin anew");
    if (r.code == E_NOT_FOUND) r = OK;
    buf_free(&text);
    return r;
}

static result consistent(const seen_head *old, const seen_head *now, const Lethe__V1__GetLogHeadResponse *response)
{
    merkle_hash path[MERKLE_PATH_MAX];
    size_t count = response->consistency.len / MERKLE_BYTES;
    if (memcmp(old->signer, now->signer, SIGN_PUBLIC_BYTES) != 0 || !id_equal(old->tenant, now->tenant))
        return fail(E_DATA_LOSS, "the log is another's: its signer or tenant is not the one seen before");
    if (count > MERKLE_PATH_MAX || response->consistency.len % MERKLE_BYTES != 0)
        return fail(E_DATA_LOSS, "the proof is unreadable");
    memcpy(path, response->consistency.data, count * MERKLE_BYTES);
    if (!merkle_consistency_verify(old->head.size, now->head.size, old->head.root, now->head.root, path, count))
        return fail(E_DATA_LOSS, "the log was forked or changed: it does not continue the one seen before");
    return OK;
}

static int log_witness(cli *c, const char *path)
{
    seen_head old = {0}, now = {0};
    bool known;
    uint8_t key[SIGN_PUBLIC_BYTES];
    result r = seen_read(path, &old, &known);
    if (is_ok(r) && c->key) r = cli_key_read(c->key, key);
    if (!is_ok(r)) return cli_fail(c, r);
    Lethe__V1__GetLogHeadResponse *response;
    int code = head_fetch(c, known ? old.head.size : 0, &response);
    if (code != CLI_DONE) {
        if (code == CLI_REFUSED && known)
            fprintf(stderr, "the log may be shorter than the %llu entries seen before: rolled back\n",
                    (unsigned long long)old.head.size);
        return code;
    }
    if (!audit_head_verify(bytes_str(response->head), &now.head, &now.tenant, now.signer))
        r = fail(E_DATA_LOSS, "%s", response->head[0] ? "the log's head is not rightly signed" : "the log is empty");
    else if (c->key && memcmp(key, now.signer, SIGN_PUBLIC_BYTES) != 0)
        r = fail(E_DATA_LOSS, "the log's head is signed by another key than the one given");
    else if (known) r = consistent(&old, &now, response);
    if (is_ok(r)) r = file_write_atomic(path, bytes_str(response->head), 0600);
    if (!is_ok(r)) return cli_fail(c, r);
    if (c->json) puts(response->head);
    else printf("%llu entries, %s\n", (unsigned long long)now.head.size,
                known ? "a continuation of those seen before" : "seen for the first time");
    return CLI_DONE;
}

int cli_log(cli *c)
{
    if (c->arg_count == 1 && strcmp(c->args[0], "head") == 0) return log_head(c);
    if (c->arg_count == 1 && strcmp(c->args[0], "ls") == 0) return log_ls(c);
    if (c->arg_count == 2 && strcmp(c->args[0], "witness") == 0) return log_witness(c, c->args[1]);
    return cli_usage("log head | log ls | log witness FILE [--key PUB]");
}
