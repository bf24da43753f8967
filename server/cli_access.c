/* Verbs: tenant, user, group, token, whoami, stats, quota. */
#include "cli.h"

#include "lethe/v1/access.pb-c.h"
#include "lethe/v1/admin.pb-c.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool sub(const cli *c, const char *word, int args)
{
    return c->arg_count == args && strcmp(c->args[0], word) == 0;
}

int cli_tenant(cli *c)
{
    if (!sub(c, "add", 2)) return cli_usage("tenant add NAME");
    Lethe__V1__CreateTenantRequest m = LETHE__V1__CREATE_TENANT_REQUEST__INIT;
    Lethe__V1__CreateTenantResponse *made;
    m.name = (char *)c->args[1];
    int code = cli_call(c, "/lethe.v1.Access/CreateTenant", &m.base,
                        &lethe__v1__create_tenant_response__descriptor, &made);
    if (code != CLI_DONE) return code;
    if (!c->json) {
        printf("tenant  %s\nadmin   %s\ntoken   %s\n", made->tenant, made->user, made->token);
        return CLI_DONE;
    }
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "tenant", made->tenant);
    cJSON_AddStringToObject(o, "user", made->user);
    cJSON_AddStringToObject(o, "token", made->token);
    cli_print_json(o);
    return CLI_DONE;
}

static int principal_add(cli *c, const char *path)
{
    Lethe__V1__NameRequest m = LETHE__V1__NAME_REQUEST__INIT;
    Lethe__V1__PrincipalResponse *made;
    m.name = (char *)c->args[1];
    int code = cli_call(c, path, &m.base, &lethe__v1__principal_response__descriptor, &made);
    if (code != CLI_DONE) return code;
    if (!c->json) {
        printf("%s  %s\n", made->id, made->name);
        return CLI_DONE;
    }
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "id", made->id);
    cJSON_AddStringToObject(o, "name", made->name);
    cli_print_json(o);
    return CLI_DONE;
}

int cli_user(cli *c)
{
    if (!sub(c, "add", 2)) return cli_usage("user add NAME");
    return principal_add(c, "/lethe.v1.Access/CreateUser");
}

static int group_member(cli *c, const char *path)
{
    Lethe__V1__MembershipRequest m = LETHE__V1__MEMBERSHIP_REQUEST__INIT;
    Lethe__V1__MembershipResponse *done;
    m.group = (char *)c->args[1];
    m.member = (char *)c->args[2];
    int code = cli_call(c, path, &m.base, &lethe__v1__membership_response__descriptor, &done);
    if (code != CLI_DONE) return code;
    if (c->json) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "group", m.group);
        cJSON_AddStringToObject(o, "member", m.member);
        cli_print_json(o);
    }
    return CLI_DONE;
}

int cli_group(cli *c)
{
    if (sub(c, "add", 2)) return principal_add(c, "/lethe.v1.Access/CreateGroup");
    if (sub(c, "join", 3)) return group_member(c, "/lethe.v1.Access/JoinGroup");
    if (sub(c, "leave", 3)) return group_member(c, "/lethe.v1.Access/LeaveGroup");
    return cli_usage("group add NAME | group join GROUP NAME | group leave GROUP NAME");
}

static int token_issue(cli *c)
{
    Lethe__V1__NameRequest m = LETHE__V1__NAME_REQUEST__INIT;
    Lethe__V1__IssueTokenResponse *made;
    m.name = (char *)c->args[1];
    int code = cli_call(c, "/lethe.v1.Access/IssueToken", &m.base,
                        &lethe__v1__issue_token_response__descriptor, &made);
    if (code != CLI_DONE) return code;
    if (!c->json) {
        printf("id     %s\ntoken  %s\n", made->id, made->token);
        return CLI_DONE;
    }
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "id", made->id);
    cJSON_AddStringToObject(o, "token", made->token);
    cli_print_json(o);
    return CLI_DONE;
}

static int token_revoke(cli *c)
{
    Lethe__V1__RevokeTokenRequest m = LETHE__V1__REVOKE_TOKEN_REQUEST__INIT;
    Lethe__V1__RevokeTokenResponse *done;
    m.id = (char *)c->args[1];
    int code = cli_call(c, "/lethe.v1.Access/RevokeToken", &m.base,
                        &lethe__v1__revoke_token_response__descriptor, &done);
    if (code == CLI_DONE && c->json) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "id", m.id);
        cJSON_AddBoolToObject(o, "revoked", true);
        cli_print_json(o);
    }
    return code;
}

int cli_token(cli *c)
{
    if (sub(c, "issue", 2)) return token_issue(c);
    if (sub(c, "revoke", 2)) return token_revoke(c);
    return cli_usage("token issue NAME | token revoke ID");
}

int cli_whoami(cli *c)
{
    if (!cli_args(c, 0)) return cli_usage("whoami");
    Lethe__V1__WhoAmIRequest m = LETHE__V1__WHO_AM_IREQUEST__INIT;
    Lethe__V1__WhoAmIResponse *me;
    int code = cli_call(c, "/lethe.v1.Access/WhoAmI", &m.base,
                        &lethe__v1__who_am_iresponse__descriptor, &me);
    if (code != CLI_DONE) return code;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "id", me->id);
    cJSON_AddStringToObject(o, "name", me->name);
    cJSON_AddStringToObject(o, "tenant", me->tenant);
    cJSON_AddStringToObject(o, "role", me->role);
    cJSON *groups = cJSON_AddArrayToObject(o, "groups");
    for (size_t i = 0; i < me->n_groups; i++)
        cJSON_AddItemToArray(groups, cJSON_CreateString(me->groups[i]));
    if (c->json) {
        cli_print_json(o);
        return CLI_DONE;
    }
    cJSON_Delete(o);
    printf("%s (%s)%s", me->name, me->role, me->n_groups ? "; groups:" : "");
    for (size_t i = 0; i < me->n_groups; i++) printf(" %s", me->groups[i]);
    printf("\n");
    return CLI_DONE;
}

/* ---- stats, quota ------------------------------------------------------------------------------------------ */
static cJSON *quota_json(const Lethe__V1__Quota *q)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "documents_max", (double)q->documents_max);
    cJSON_AddNumberToObject(o, "bytes_max", (double)q->bytes_max);
    cJSON_AddNumberToObject(o, "requests_per_second", q->requests_per_second);
    cJSON_AddNumberToObject(o, "concurrent_answers_max", q->concurrent_answers_max);
    cJSON_AddNumberToObject(o, "concurrent_calls_max", q->concurrent_calls_max);
    cJSON_AddNumberToObject(o, "tokens_per_minute", (double)q->tokens_per_minute);
    return o;
}

static cJSON *server_json(const Lethe__V1__ServerStats *s)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "stores_open", s->stores_open);
    cJSON_AddNumberToObject(o, "vectors_bytes", (double)s->vectors_bytes);
    cJSON_AddNumberToObject(o, "lexical_bytes", (double)s->lexical_bytes);
    cJSON_AddNumberToObject(o, "decode_steps", (double)s->decode_steps);
    cJSON_AddNumberToObject(o, "sequences_active", s->sequences_active);
    cJSON_AddStringToObject(o, "engine", s->engine);
    cJSON_AddStringToObject(o, "version", s->version);
    return o;
}

int cli_stats(cli *c)
{
    if (!cli_args(c, 0)) return cli_usage("stats");
    Lethe__V1__StatsRequest m = LETHE__V1__STATS_REQUEST__INIT;
    Lethe__V1__StatsResponse *s;
    int code = cli_call(c, "/lethe.v1.Admin/Stats", &m.base, &lethe__v1__stats_response__descriptor,
                        &s);
    if (code != CLI_DONE) return code;
    cJSON *o = cJSON_CreateObject(), *limits = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "documents", (double)s->documents);
    cJSON_AddNumberToObject(o, "bytes", (double)s->bytes);
    if (s->quota) cJSON_AddItemToObject(o, "quota", quota_json(s->quota));
    cJSON_AddItemToObject(o, "limits", limits);
    if (s->limits) {
        cJSON_AddNumberToObject(limits, "document_max_bytes", (double)s->limits->document_max_bytes);
        cJSON_AddNumberToObject(limits, "message_max_bytes", s->limits->message_max_bytes);
        cJSON_AddNumberToObject(limits, "passages_max", s->limits->passages_max);
        cJSON_AddNumberToObject(limits, "tokens_max", s->limits->tokens_max);
        cJSON_AddNumberToObject(limits, "question_max_bytes", s->limits->question_max_bytes);
    }
    if (s->server) cJSON_AddItemToObject(o, "server", server_json(s->server));
    if (c->json) {
        cli_print_json(o);
        return CLI_DONE;
    }
    char *text = cJSON_Print(o);
    puts(text);
    cJSON_free(text);
    cJSON_Delete(o);
    return CLI_DONE;
}

/* documents=N bytes=N requests-per-second=N concurrent-answers=N concurrent-calls=N
 * tokens-per-minute=N; what is not named becomes unlimited. */
static bool quota_read(Lethe__V1__Quota *q, const char *text)
{
    const char *equals = strchr(text, '=');
    if (equals == NULL) return false;
    size_t n = (size_t)(equals - text);
    char *end;
    errno = 0;
    unsigned long long v = strtoull(equals + 1, &end, 10);
    if (equals[1] < '0' || equals[1] > '9' || *end != 0 || errno != 0) return false;
#define IS(word) (n == sizeof word - 1 && memcmp(text, word, n) == 0)
    if (IS("documents")) q->documents_max = v;
    else if (IS("bytes")) q->bytes_max = v;
    else if (IS("tokens-per-minute")) q->tokens_per_minute = v;
    else if (v > UINT32_MAX) return false;
    else if (IS("requests-per-second")) q->requests_per_second = (uint32_t)v;
    else if (IS("concurrent-answers")) q->concurrent_answers_max = (uint32_t)v;
    else if (IS("concurrent-calls")) q->concurrent_calls_max = (uint32_t)v;
    else return false;
#undef IS
    return true;
}

int cli_quota(cli *c)
{
    static const char words[] =
        "quota NAME KEY=NUMBER...   keys: documents bytes requests-per-second concurrent-answers\n"
        "  concurrent-calls tokens-per-minute; 0 or not named: unlimited";
    if (c->arg_count < 2) return cli_usage(words);
    Lethe__V1__SetQuotaRequest m = LETHE__V1__SET_QUOTA_REQUEST__INIT;
    Lethe__V1__Quota quota = LETHE__V1__QUOTA__INIT;
    Lethe__V1__SetQuotaResponse *done;
    m.name = (char *)c->args[0];
    m.quota = &quota;
    for (int i = 1; i < c->arg_count; i++)
        if (!quota_read(&quota, c->args[i])) return cli_usage(words);
    int code = cli_call(c, "/lethe.v1.Admin/SetQuota", &m.base,
                        &lethe__v1__set_quota_response__descriptor, &done);
    if (code == CLI_DONE && c->json) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "name", m.name);
        cJSON_AddItemToObject(o, "quota", quota_json(&quota));
        cli_print_json(o);
    }
    return code;
}
