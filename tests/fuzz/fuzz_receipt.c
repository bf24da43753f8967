/* Receipts, heads and reports from anywhere: there is a verdict, and a trusted one is never made up. */
#include "server/audit_report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t key[SIGN_PUBLIC_BYTES] = {7};
    receipt_verdict verdict;
    receipt_verify(bytes_of(data, size), key, NULL, &verdict);
    audit_head head;
    id128 tenant;
    uint8_t signer[SIGN_PUBLIC_BYTES];
    ASSERT(!audit_head_verify(bytes_of(data, size), &head, &tenant, signer) || size > 200);
    ASSERT(!verdict.trusted);
    ASSERT(verdict.valid || verdict.reason[0] != 0);
    audit_report_verify(bytes_of(data, size), key, &verdict);
    ASSERT(!verdict.trusted && (verdict.valid || verdict.reason[0] != 0));
    return 0;
}
