/* audit_log: an append-only Merkle log for each tenant: erasures, shares, declassifications and the like, as
 * canonical JSON (server/canonical.h) of ids and numbers, never names or text.
 *
 *   DATA/log/<tenant>/entries   u32 size, 32 bytes leaf hash, the entry; again and again
 *   DATA/log/<tenant>/head      the signed head: size, root, time
 *
 * Every entry has "event", "tenant" and "time_ms"; those about one thing an "id", and a "requester". An append is
 * durable, head and all, when it returns. What a crash left behind the last whole entry is cut off; fewer entries
 * than the head says, or an entry that does not fit its hash, is E_DATA_LOSS.
 *
 * Threads: any; one lock a log. */
#ifndef LETHE_AUDIT_LOG_H
#define LETHE_AUDIT_LOG_H

#include "canonical.h"
#include "ifc.h"
#include "merkle.h"

enum { AUDIT_ENTRY_MAX_BYTES = 64 << 10 };

typedef struct audit_log audit_log;
typedef struct { uint64_t size, time_ms; merkle_hash root; uint8_t signature[SIGN_BYTES]; } audit_head;

/* dir: DATA/log. The keys are borrowed. */
void audit_log_open(audit_log **out, const char *dir, const uint8_t *public_key, const uint8_t *secret_key);
void audit_log_close(audit_log **log);

/* Appends the record (an object, which is taken over) under the event's name. index may be NULL. */
MUST_USE result audit_log_append(audit_log *log, id128 tenant, const char *event, cJSON *record,
                                 uint64_t *index);
/* The last entry of an event about an id; E_NOT_FOUND. */
MUST_USE result audit_log_find(audit_log *log, id128 tenant, const char *event, id128 id, uint64_t *index);
/* How many entries of an event there are. */
MUST_USE result audit_log_count(audit_log *log, id128 tenant, const char *event, uint64_t *count);
MUST_USE result audit_log_entry(audit_log *log, id128 tenant, uint64_t index, buf *out);
MUST_USE result audit_log_each(audit_log *log, id128 tenant,
                               result (*visit)(void *ctx, uint64_t index, bytes entry), void *ctx);
/* Of a tenant without entries: size 0. */
MUST_USE result audit_log_head(audit_log *log, id128 tenant, audit_head *out);
/* Proofs against the head of the moment, which is given with them. E_INVALID: no such size or index. */
MUST_USE result audit_log_inclusion(audit_log *log, id128 tenant, uint64_t index, audit_head *head,
                                    merkle_hash path[MERKLE_PATH_MAX], size_t *count);
MUST_USE result audit_log_consistency(audit_log *log, id128 tenant, uint64_t size, audit_head *head,
                                      merkle_hash path[MERKLE_PATH_MAX], size_t *count);

/* The head as signed JSON, and back; pure. */
MUST_USE result audit_head_write(const audit_head *head, id128 tenant,
                                 const uint8_t public_key[SIGN_PUBLIC_BYTES], buf *out);
bool audit_head_verify(bytes text, audit_head *head, id128 *tenant, uint8_t signer[SIGN_PUBLIC_BYTES]);

#endif
