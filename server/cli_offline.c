/* Verbs that need no server: init, verify. */
#include "audit_report.h"
#include "cli.h"
#include "house.h"
#include "receipt.h"

#include <stdio.h>
#include <string.h>

result cli_settings(const cli *c, config *out)
{
    config_defaults(out);
    if (c->config) TRY(config_load(out, c->config));
    if (c->data) TRY(config_set(out, "data", c->data));
    if (c->root) TRY(config_set(out, "root", c->root));
    return config_finish(out);
}

int cli_init(cli *c)
{
    if (!cli_args(c, 0) || (c->data == NULL && c->config == NULL))
        return cli_usage("init --data DIR [--root DIR] [--config FILE] [--tenant NAME]");
    config *settings = mem_alloc(sizeof *settings);
    house_created made;
    result r = cli_settings(c, settings);
    if (is_ok(r)) r = house_create(settings, c->tenant ? c->tenant : "main", &made);
    int code = is_ok(r) ? CLI_DONE : cli_fail(c, r);
    if (code == CLI_DONE && c->json) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "tenant", made.tenant);
        cJSON_AddStringToObject(o, "user", made.user);
        cJSON_AddStringToObject(o, "token", made.token);
        cJSON_AddStringToObject(o, "operator_token", made.operator_token);
        cJSON_AddStringToObject(o, "ca", made.certificate_path);
        cJSON_AddStringToObject(o, "key", made.key_path);
        cli_print_json(o);
    } else if (code == CLI_DONE) {
        bool token = strcmp(settings->root_holder, "pkcs11") == 0;
        printf("data folder   %s\nroot key      %s (%s)\n"
               "certificate   %s\nreceipt key   %s\n\ntenant        %s\nadmin         %s\n"
               "token         %s\noperator      %s\n\nThe tokens are shown this once.\n",
               settings->data, token ? settings->pkcs11_token : settings->root,
               token ? "a token: nothing replaces it" : "keep it off the data folder's backups", made.certificate_path, made.key_path, made.tenant,
               made.user, made.token, made.operator_token);
    }
    if (code == CLI_DONE) mem_wipe(&made, sizeof made);
    mem_free(settings);
    return code;
}

/* 64 hex digits, or a file that holds them. */
result cli_key_read(const char *text, uint8_t key[SIGN_PUBLIC_BYTES])
{
    if (strlen(text) == 2 * SIGN_PUBLIC_BYTES && hex_decode(text, 2 * SIGN_PUBLIC_BYTES, key))
        return OK;
    buf content;
    buf_init(&content, 4096);
    result r = file_read(text, 4096, &content);
    while (content.size > 0 && content.data[content.size - 1] == '\n') content.size--;
    if (is_ok(r) && (content.size != 2 * SIGN_PUBLIC_BYTES ||
                     !hex_decode((const char *)content.data, 2 * SIGN_PUBLIC_BYTES, key)))
        r = fail(E_INVALID, "--key: neither 64 hex digits nor a file with them");
    buf_free(&content);
    return r;
}

/* The opening that erase --receipt wrote beside the receipt, or the one named; NULL: there is none. */
static result opening_read(cli *c, cJSON **out)
{
    char path[4096];
    buf text;
    *out = NULL;
    snprintf(path, sizeof path, "%s%s", c->opening ? c->opening : c->args[0], c->opening ? "" : ".opening");
    buf_init(&text, 1 << 20);
    result r = file_read(path, 1 << 20, &text);
    if (is_ok(r)) {
        *out = cJSON_ParseWithLength((const char *)text.data, text.size);
        if (canonical_text(*out, "salt")[0] == 0 || canonical_text(*out, "target")[0] == 0)
            r = fail(E_INVALID, "the opening has no salt and target");
    } else if (r.code == E_NOT_FOUND && c->opening == NULL) {
        r = OK;
    }
    buf_free(&text);
    return r;
}

static void verdict_print(const cli *c, const receipt_verdict *v, bool report)
{
    if (c->json) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddBoolToObject(o, "valid", v->valid);
        cJSON_AddBoolToObject(o, "trusted", v->trusted);
        cJSON_AddBoolToObject(o, "opened", v->opened);
        cJSON_AddStringToObject(o, "signer", v->signer);
        cJSON_AddStringToObject(o, "reason", v->reason);
        cli_print_json(o);
        return;
    }
    printf("%s\nsigner %s%s\n", v->valid ? "valid" : "NOT VALID", v->signer[0] ? v->signer : "unreadable",
           v->trusted ? " (trusted)" : c->key ? " (not the key given)" : " (pass --key to check who that is)");
    if (!report)
        printf("keys   %s\n", v->opened ? "proven absent" : "not checked (no opening: what was erased is not told)");
    if (v->reason[0]) printf("reason %s\n", v->reason);
}

int cli_verify(cli *c)
{
    if (!cli_args(c, 1)) return cli_usage("verify FILE [--key PUB] [--opening FILE]");
    uint8_t key[SIGN_PUBLIC_BYTES];
    cJSON *parts = NULL;
    buf text;
    buf_init(&text, RECEIPT_MAX_BYTES + 1);
    receipt_verdict verdict;
    result r = file_read(c->args[0], RECEIPT_MAX_BYTES + 1, &text);
    if (is_ok(r) && c->key) r = cli_key_read(c->key, key);
    if (is_ok(r)) r = opening_read(c, &parts);
    const receipt_opening opening = {canonical_text(parts, "salt"), canonical_text(parts, "target")};
    bool report = is_ok(r) && audit_report_is(buf_bytes(&text));
    if (report) audit_report_verify(buf_bytes(&text), c->key ? key : NULL, &verdict);
    else if (is_ok(r)) receipt_verify(buf_bytes(&text), c->key ? key : NULL, parts ? &opening : NULL, &verdict);
    buf_free(&text);
    cJSON_Delete(parts);
    if (!is_ok(r)) return cli_fail(c, r);
    verdict_print(c, &verdict, report);
    return verdict.valid && (c->key == NULL || verdict.trusted) ? CLI_DONE : CLI_REFUSED;
}
