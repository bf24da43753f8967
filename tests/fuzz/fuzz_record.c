/* A store's records after decryption. Byte 0: even a header, odd a chunk (of 4 dimensions); the
 * rest is the record. What decodes must encode to the same bytes. */
#include "retrieval/store_record.h"

#include <string.h>

enum { DIMENSIONS = 4 };

static void same(bytes plain, result encoded, const buf *again)
{
    if (!is_ok(encoded) || !bytes_equal(plain, buf_bytes(again))) __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static store_header header;
    float vector[DIMENSIONS];
    store_chunk chunk = {0};
    if (size < 1) return 0;
    bytes plain = bytes_of(data + 1, size - 1);
    buf again;
    buf_init(&again, STORE_RECORD_MAX_BYTES);
    memset(&header, 0xa5, sizeof header);
    if (data[0] % 2 == 0) {
        if (is_ok(store_header_decode(plain, &header)))
            same(plain, store_header_encode(&header, &again), &again);
    } else if (is_ok(store_chunk_decode(plain, DIMENSIONS, vector, &chunk))) {
        same(plain, store_chunk_encode(&chunk, DIMENSIONS, &again), &again);
    }
    buf_free(&again);
    return 0;
}
