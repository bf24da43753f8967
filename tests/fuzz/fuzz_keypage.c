/* Key pages and heads after decryption. Byte 0: level (low 2 bits), step (next 5); the rest is the
 * page's plaintext, zero-filled to its size so that mutations need not reach it. What decodes must
 * encode to the same bytes. */
#include "retrieval/keytree_private.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static kt_page page;
    uint8_t plain[KT_PLAIN_BYTES] = {0};
    if (size < 1) return 0;
    uint8_t level = data[0] & 3, step = (data[0] >> 2) & 31;
    size_t n = size - 1 < sizeof plain ? size - 1 : sizeof plain;
    memset(&page, 0xa5, sizeof page);
    /* As it is: another size must be refused. */
    bool exact = size - 1 == KT_PLAIN_BYTES;
    if (is_ok(kt_page_decode(bytes_of(data + 1, size - 1), level, step, &page)) && !exact)
        __builtin_trap();
    memcpy(plain, data + 1, n);
    if (!is_ok(kt_page_decode(bytes_of(plain, sizeof plain), level, step, &page))) return 0;
    kt_page_encode(&page);
    if (memcmp(page.plain, plain, sizeof plain) != 0) __builtin_trap();
    return 0;
}
