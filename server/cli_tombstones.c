/* The verb tombstones: shows or sets the policy. */
#include "cli.h"

#include "lethe/v1/erasure.pb-c.h"

#include <stdio.h>
#include <string.h>

static const char *const policies[] = {"off", "flag", "refuse"};

static int show(const cli *c, const Lethe__V1__TombstonesResponse *now)
{
    const char *policy = (unsigned)now->policy < 3 ? policies[now->policy] : "unknown";
    if (!c->json) {
        printf("%s  (%llu documents, %llu marks)\n", policy, (unsigned long long)now->documents,
               (unsigned long long)now->marks);
        return CLI_DONE;
    }
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "policy", policy);
    cJSON_AddNumberToObject(o, "documents", (double)now->documents);
    cJSON_AddNumberToObject(o, "marks", (double)now->marks);
    cli_print_json(o);
    return CLI_DONE;
}

int cli_tombstones(cli *c)
{
    Lethe__V1__GetTombstonesRequest get = LETHE__V1__GET_TOMBSTONES_REQUEST__INIT;
    Lethe__V1__SetTombstonesRequest set = LETHE__V1__SET_TOMBSTONES_REQUEST__INIT;
    Lethe__V1__TombstonesResponse *now;
    int wanted = 0;
    if (c->arg_count == 1)
        while (wanted < 3 && strcmp(policies[wanted], c->args[0]) != 0) wanted++;
    if (c->arg_count > 1 || wanted == 3) return cli_usage("tombstones [off|flag|refuse] [--owner group:NAME]");
    if (c->owner) get.owner = set.owner = (char *)c->owner;
    set.policy = (Lethe__V1__TombstonesPolicy)wanted;
    int code = c->arg_count == 0
                   ? cli_call(c, "/lethe.v1.Erasure/GetTombstones", &get.base,
                              &lethe__v1__tombstones_response__descriptor, &now)
                   : cli_call(c, "/lethe.v1.Erasure/SetTombstones", &set.base,
                              &lethe__v1__tombstones_response__descriptor, &now);
    return code == CLI_DONE ? show(c, now) : code;
}
