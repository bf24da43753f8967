/* Verbs backup (the operator's) and restore (offline). */
#include "backup.h"
#include "cli.h"

#include "lethe/v1/admin.pb-c.h"

#include <stdio.h>
#include <string.h>

int cli_backup(cli *c)
{
    Lethe__V1__BackupRequest m = LETHE__V1__BACKUP_REQUEST__INIT;
    Lethe__V1__BackupResponse *made;
    if (!cli_args(c, 1)) return cli_usage("backup NAME");
    m.name = (char *)c->args[0];
    int code = cli_call(c, "/lethe.v1.Admin/Backup", &m.base, &lethe__v1__backup_response__descriptor, &made);
    if (code != CLI_DONE) return code;
    if (c->json) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "path", made->path);
        cJSON_AddNumberToObject(o, "files", (double)made->files);
        cJSON_AddNumberToObject(o, "bytes", (double)made->bytes);
        cJSON_AddNumberToObject(o, "stores_left_out", (double)made->stores_left_out);
        cli_print_json(o);
    } else {
        printf("%s: %llu files, %llu bytes\n", made->path, (unsigned long long)made->files,
               (unsigned long long)made->bytes);
    }
    if (made->stores_left_out > 0)
        fprintf(stderr, "lethe: %llu damaged stores are not in it; see the server's log\n",
                (unsigned long long)made->stores_left_out);
    return made->stores_left_out > 0 ? CLI_REFUSED : CLI_DONE;
}

static void issued(void *ctx, const char *tenant, const char *user, const char *token)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "tenant", tenant);
    cJSON_AddStringToObject(o, "user", user);
    cJSON_AddStringToObject(o, "token", token);
    cJSON_AddItemToArray(ctx, o);
}

static void report_print(const cli *c, const restore_report *report, cJSON *tokens)
{
    const struct { const char *name, *words; uint64_t value; } lines[] = {
        {"stores_restored", "stores put back", report->stores_restored},
        {"stores_kept", "stores that were there", report->stores_kept},
        {"stores_erased", "stores erased since (not put back)", report->stores_erased},
        {"shares_withdrawn", "documents shared with nobody any more: share them again", report->shares_withdrawn},
        {"logs_restored", "audit logs replaced by longer ones", report->logs_restored},
        {"files_restored", "other files put back", report->files_restored},
    };
    cJSON *o = cJSON_CreateObject();
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        cJSON_AddNumberToObject(o, lines[i].name, (double)lines[i].value);
        if (!c->json) printf("%8llu  %s\n", (unsigned long long)lines[i].value, lines[i].words);
    }
    cJSON_AddBoolToObject(o, "access_restored", report->access_restored);
    if (report->access_restored) cJSON_AddStringToObject(o, "operator_token", report->operator_token);
    if (report->access_restored && !c->json) {
        printf("\nWho may do what came from the backup: all tokens and memberships in it are void.\noperator  %s\n",
               report->operator_token);
        const cJSON *one;
        cJSON_ArrayForEach(one, tokens)
            printf("%s of %s  %s\n", cJSON_GetObjectItem(one, "user")->valuestring,
                   cJSON_GetObjectItem(one, "tenant")->valuestring, cJSON_GetObjectItem(one, "token")->valuestring);
    }
    cJSON_AddItemToObject(o, "tokens", tokens);
    if (c->json) cli_print_json(o);
    else cJSON_Delete(o);
}

int cli_restore(cli *c)
{
    if (!cli_args(c, 1) || (c->data == NULL && c->config == NULL))
        return cli_usage("restore BACKUP --data DIR [--root DIR] [--config FILE]");
    config *settings = mem_alloc(sizeof *settings);
    restore_report report;
    cJSON *tokens = cJSON_CreateArray();
    result r = cli_settings(c, settings);
    if (is_ok(r)) r = backup_restore(settings, c->args[0], issued, tokens, &report);
    int code = is_ok(r) ? CLI_DONE : cli_fail(c, r);
    if (code == CLI_DONE) report_print(c, &report, tokens);
    else cJSON_Delete(tokens);
    mem_wipe(&report, sizeof report);
    mem_free(settings);
    return code;
}
