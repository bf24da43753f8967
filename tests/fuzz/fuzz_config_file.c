/* Configuration files: an error or settings within their ranges. */
#include "server/config.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    config *c = mem_alloc(sizeof *c);
    char *text = mem_alloc(size + 1);
    memcpy(text, data, size);
    config_defaults(c);
    result r = config_parse(c, text);
    if (is_ok(r)) r = config_finish(c);
    ASSERT(is_ok(r) || r.message[0] != 0);
    ASSERT(c->batch_max >= 1 && c->batch_max <= 64 && c->passages_max <= 32);
    mem_free(text);
    mem_free(c);
    return 0;
}
