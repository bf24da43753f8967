/* audit_client: what lethe audit does with the server, one call after the other. A call past the caller's own rate
 * is repeated a little later. */
#ifndef LETHE_AUDIT_CLIENT_H
#define LETHE_AUDIT_CLIENT_H

#include "audit_stats.h"
#include "audit_subjects.h"
#include "cli.h"

#include "ifc.h"
#include "seal.h"

/* Everything that one probe's two calls (Ask, Search) brought: status, every message's size and every bit, as a
 * hash; and what in it speaks of the person. */
typedef struct {
    uint8_t hash[HASH_BYTES];
    bool answered, cited, retrieved;     /* the fact in the answer; a planted document cited; one or its text found */
    uint32_t rank;                       /* of the best such hit, from 1; 0: none */
    float score;                         /* its score */
} audit_seen;

typedef struct {
    cli *c;
    char prefix[64];                     /* of every path that is put: all that is ever erased begins so */
    bool generative;
    arena *mem;                          /* of one call */
} audit_client;

MUST_USE result audit_put(audit_client *a, const char *path, const char *text, char id[ID_TEXT_BYTES]);
MUST_USE result audit_erase(audit_client *a, const char *id);
/* Erases whatever is left below the prefix; 0 or how many. */
MUST_USE result audit_clean(audit_client *a, uint32_t *count);
/* must: a refusal is an error, and not something seen. planted: ids, may be none. */
MUST_USE result audit_look(audit_client *a, const audit_subject *s, uint32_t fact, probe_class class, bool must,
                           char (*planted)[ID_TEXT_BYTES], size_t planted_count, audit_seen *out);
/* The attacks' signals for one sentence: search's best dense and lexical score, and with a generator the four of
 * audit_stats.h. */
enum { AUDIT_ATTACKS = 6 };
extern const char *const AUDIT_ATTACK_NAMES[AUDIT_ATTACKS];
MUST_USE result audit_signals(audit_client *a, const audit_subject *s, uint32_t fact, double out[AUDIT_ATTACKS]);
/* Is there a generator? */
MUST_USE result audit_generator(audit_client *a, bool *out);
/* The signed report, in c->mem. */
MUST_USE result audit_record(audit_client *a, const char *report, char **signed_report);

#endif
