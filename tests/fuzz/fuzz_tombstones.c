/* An owner's tombstones after decryption. What decodes must encode to the same bytes. */
#include "retrieval/tombstones.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tombstones t;
    buf again;
    buf_init(&again, 8 << 20);
    if (is_ok(tombstones_decode(bytes_of(data, size), &t))) {
        tombstones_encode(&t, &again);
        if (!bytes_equal(bytes_of(data, size), buf_bytes(&again))) __builtin_trap();
        tombstones_free(&t);
    }
    buf_free(&again);
    return 0;
}
