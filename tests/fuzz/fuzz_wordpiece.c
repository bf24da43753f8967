/* Up to the first zero byte a tokenizer.json; what follows is encoded by it, or by a fixed one. */
#include <string.h>

#include "retrieval/wordpiece.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char FIXED[] =
    "{\"added_tokens\":[{\"id\":0,\"content\":\"[X]\"}],\"normalizer\":{\"type\":\"BertNormalizer\"},"
    "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"u\","
    "\"vocab\":{\"u\":1,\"a\":2,\"##a\":3,\"ab\":4,\"##b\":5,\"e\":6,\"!\":7}}}";

static void encode(const wordpiece *w, bytes text)
{
    buf ids;
    buf_init(&ids, 1 << 24);
    wordpiece_encode(w, text, &ids);
    ASSERT(ids.size % 4 == 0 && !ids.bad);
    for (size_t i = 0; i < ids.size; i += 4) {
        uint32_t id;
        memcpy(&id, ids.data + i, 4);
        ASSERT(id < wordpiece_ids(w));
    }
    buf_free(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    wordpiece *w = NULL;
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t json = zero == NULL ? size : (size_t)(zero - data);
    bytes text = zero == NULL ? bytes_of(data, size) : bytes_of(zero + 1, size - json - 1);
    if (is_ok(wordpiece_open(&w, bytes_of(data, json)))) encode(w, text);
    wordpiece_close(&w);
    if (!is_ok(wordpiece_open(&w, bytes_of(FIXED, sizeof FIXED - 1)))) ASSERT(0);
    encode(w, text);
    wordpiece_close(&w);
    return 0;
}
