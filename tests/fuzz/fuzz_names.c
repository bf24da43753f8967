/* names: any subject (up to the first zero byte) and any text; spans lie in the text, in order, and what is mined
 * does not grow past its limit. */
#include "retrieval/names.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size > 0 ? memchr(data, 0, size) : NULL;
    names *n;
    names_match m;
    if (zero == NULL || !is_ok(names_open(&n, (const char *)data))) return 0;
    bytes text = bytes_of(zero + 1, size - (size_t)(zero + 1 - data));
    for (int round = 0; round < 3; round++) {
        names_find(n, text, &m);
        ASSERT(m.span_count <= NAMES_SPANS_MAX && m.score >= 0 && m.score <= 1);
        ASSERT((m.span_count > 0) == (m.kind != EVIDENCE_NONE));
        for (size_t i = 0; i < m.span_count; i++) {
            ASSERT(m.spans[i].start < m.spans[i].end && m.spans[i].end <= text.size);
            ASSERT(i == 0 || m.spans[i - 1].start <= m.spans[i].start);
        }
        ASSERT(names_mine(n, text, &m) <= NAMES_PATTERNS_MAX);
    }
    names_close(&n);
    return 0;
}
