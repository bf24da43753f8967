/* canonical: the one spelling of a signed JSON object. Keys sorted by byte, no white space; values are strings of
 * printable ASCII without quotes and backslashes, or whole numbers below 2^53; no nesting. Simple on purpose:
 * anybody can rebuild it in a few lines of any language. */
#ifndef LETHE_CANONICAL_H
#define LETHE_CANONICAL_H

#include "seal.h"

#include <cjson/cJSON.h>

/* Sorts the object's members by key. */
void canonical_sort(cJSON *object);
/* Appends the object, without the member named skip (NULL: none). False: not sorted, a key twice, or a value
 * that has no canonical form. */
bool canonical_write(const cJSON *object, const char *skip, buf *out);
/* Parses text and demands that it is its own canonical form. NULL otherwise. The caller deletes it. */
cJSON *canonical_parse(bytes text, size_t limit);

void canonical_add_hex(cJSON *object, const char *name, const uint8_t *p, size_t n);
/* Lower-case hex of exactly n bytes: one spelling. */
bool canonical_get_hex(const cJSON *object, const char *name, size_t n, uint8_t *out);
/* "" when there is no such string / 0 when there is no such number. */
const char *canonical_text(const cJSON *object, const char *name);
uint64_t canonical_number(const cJSON *object, const char *name);

/* Signs all of the object but "signature", which is added; "signer" is set before. The object is sorted. */
MUST_USE result canonical_sign(cJSON *object, const uint8_t public_key[SIGN_PUBLIC_BYTES],
                               const uint8_t secret_key[SIGN_SECRET_BYTES], buf *out);
/* Is the parsed object rightly signed by the signer that it names (which is given back)? */
bool canonical_signed(const cJSON *object, uint8_t signer[SIGN_PUBLIC_BYTES]);

#endif
