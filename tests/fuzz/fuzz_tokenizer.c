/* Half of the inputs are a tokenizer.json, half are text for a small fixed tokenizer; the first
 * byte says which. A file that opens encodes a fixed text. */
#include "model.h"
#include "model/tokenizer_internal.h"

#include <stdio.h>
#include <string.h>

static void add_symbol(buf *json, unsigned byte)
{
    uint32_t cp = tokenizer_symbol_of_byte((uint8_t)byte);
    buf_printf(json, "%s\"\\u%04x\":%u", byte ? "," : "", cp, byte);
}

/* All bytes, a few merges of many kinds, added tokens with each flag, and two patterns. */
static tokenizer *fixed(void)
{
    static tokenizer *t;
    if (t != NULL) return t;
    buf json;
    buf_init(&json, 1 << 20);
    buf_append_str(&json,
        "{\"normalizer\":{\"type\":\"NFC\"},"
        "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
        "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{N}{1,3}|[^\\\\s,]+,|\\\\s+(?!\\\\S)\"},"
        "\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":true}]},"
        "\"added_tokens\":[{\"id\":0,\"content\":\"\\u0100\",\"special\":true},"
        "{\"id\":262,\"content\":\"<s>\",\"special\":true,\"normalized\":false,\"lstrip\":true,"
        "\"rstrip\":true},{\"id\":263,\"content\":\"  \"},"
        "{\"id\":264,\"content\":\"e\\u0301\",\"single_word\":true},"
        "{\"id\":265,\"content\":\"\\n\",\"rstrip\":true},"
        "{\"id\":266,\"content\":\" \\t\",\"lstrip\":true}],"
        "\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (unsigned b = 0; b < 256; b++) add_symbol(&json, b);
    buf_append_str(&json, ",\"aa\":256,\"aaa\":257,\"ab\":258,\"aab\":259,\"\\u0120a\":260,"
        "\"\\u00c3\\u00a9\":261},\"merges\":[\"a ab\",\"a b\",\"a aa\",\"a a\",\"aa a\","
        "\"\\u0120 a\",\"aa b\",\"\\u00c3 \\u00a9\"]}}");
    result r = tokenizer_open(&t, buf_bytes(&json));
    if (!is_ok(r)) fprintf(stderr, "%s\n", r.message);
    ASSERT(is_ok(r));
    buf_free(&json);
    return t;
}

static void encode(const tokenizer *t, bytes text)
{
    arena *mem;
    arena_open(&mem, 64 << 20);
    for (int specials = 0; specials < 2; specials++) {
        uint32_t *ids;
        size_t count;
        result r = tokenizer_encode(t, text, specials, mem, &ids, &count);
        if (!is_ok(r)) break;
        for (size_t i = 0; i < count; i++) ASSERT(ids[i] < tokenizer_size(t));
    }
    arena_close(&mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    bytes rest = bytes_of(data + 1, size - 1);
    if (data[0] & 1) {
        encode(fixed(), rest);
        return 0;
    }
    tokenizer *t = NULL;
    result r = tokenizer_open(&t, rest);
    ASSERT(is_ok(r) == (t != NULL));
    if (is_ok(r)) encode(t, bytes_str("It's 12345  e\u0301\u0323, <s> \n\u6f22\u00e9aaab \t"));
    tokenizer_close(&t);
    return 0;
}
