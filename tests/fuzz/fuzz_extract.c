/* The first byte picks the format; PDF is left out (its parser is a child process). */
#include "retrieval/extract.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    static const extract_format formats[] = {FORMAT_PLAIN, FORMAT_MARKDOWN, FORMAT_HTML};
    extract_format format = formats[data[0] % 3], detected;
    buf out;
    buf_init(&out, 1 << 20);
    bytes content = {data + 1, size - 1};
    if (!is_ok(extract_detect("", "", content, &detected))) ASSERT(0);
    if (is_ok(extract_text(format, content, &out)))
        ASSERT(out.size > 0 && utf8_valid(buf_bytes(&out)));
    buf_free(&out);
    return 0;
}
