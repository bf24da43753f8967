/* Any bytes are cut into a partition; valid UTF-8 never within a character. */
#include "retrieval/chunker.h"
#include "retrieval/lexical.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    uint32_t target = CHUNK_TARGET_MIN + data[0] * 4u, count;
    bytes text = {data + 1, size - 1};
    size_t *ends, start = 0;
    bool valid = utf8_valid(text);
    terms *t;
    lexical_query query;
    chunker_cut(text, target, &ends, &count);
    for (uint32_t i = 0; i < count; i++) {
        ASSERT(ends[i] > start && ends[i] - start <= 2 * (size_t)target);
        ASSERT(!valid || utf8_valid(bytes_of(text.data + start, ends[i] - start)));
        start = ends[i];
    }
    ASSERT(start == text.size);
    mem_free(ends);
    terms_open(&t);
    lexical_query_init(&query, t, text);
    terms_close(&t);
    return 0;
}
