/* audit_report: what lethe audit found, as the server recorded it. Canonical JSON, signed:
 *
 *   the client's own members (figures and fixed words; see server/cli_audit.c)
 *   requester, tenant, time_ms      with the hash of those: the entry "audit" of the tenant's log, rebuilt from them
 *   log_index, log_size, log_root, log_time_ms, log_signature, log_path    as in a receipt
 *   type "lethe.audit.1", signer, signature
 *
 * The server vouches for who recorded what and when, not for the figures: those are the client's. */
#ifndef LETHE_AUDIT_REPORT_H
#define LETHE_AUDIT_REPORT_H

#include "audit_log.h"
#include "receipt.h"

enum { AUDIT_REPORT_MAX_BYTES = 48 << 10 };
extern const char AUDIT_REPORT_EVENT[];        /* of the log's entry: "audit" */
extern const char AUDIT_REPORT_TYPE[];

/* The entry for the log (the caller's; audit_log_append takes it over). E_INVALID: not canonical JSON, too long,
 * or with members that only the server adds. */
MUST_USE result audit_report_entry(bytes report, id128 requester, cJSON **entry);
/* The report with everything added; parts as for a receipt (its absence is not looked at). */
MUST_USE result audit_report_make(bytes report, const receipt_parts *parts, const uint8_t public_key[SIGN_PUBLIC_BYTES],
                                  const uint8_t secret_key[SIGN_SECRET_BYTES], buf *out);
/* Does the text call itself such a report? */
bool audit_report_is(bytes text);
/* As receipt_verify; opened stays false. */
void audit_report_verify(bytes text, const uint8_t *trusted_key, receipt_verdict *out);

#endif
