/* tombstones: what an owner who asked for it keeps of documents that were erased, so that their content does not
 * come back unnoticed. Internal to retrieval/.
 *
 * A mark is 8 bytes of a keyed BLAKE2b over TOMBSTONE_WORDS consecutive words (terms.h: folded; letters and digits
 * alone count). The key is the owner's own and salted: marks of two owners of one text have nothing in common,
 * and whoever has no key cannot try out texts. Of the marks of a document winnowing keeps the least of each
 * TOMBSTONE_WINDOW in a row; every mark of a new text is looked up. So that
 *   - a passage of 12 words (8 + 5 - 1) or more, taken over word by word, is always found;
 *   - of one in which words were changed, each 8 that stand unchanged in a row are found with odds of a third;
 *   - a text with fewer than 8 words leaves one mark of all of it, and is found when it comes alone.
 * Past TOMBSTONES_OF_DOCUMENT_MAX marks (about 12,000 words) the least of all are kept: long takings are found,
 * single sentences may not be. Past TOMBSTONES_MAX marks or TOMBSTONES_DOCUMENTS_MAX documents of one owner the
 * documents erased first lose theirs.
 *
 * Source: Schleimer, Wilkerson, Aiken, Winnowing (SIGMOD 2003); unlike there the query is not winnowed.
 * Threads: pure but for the object; the caller locks. */
#ifndef LETHE_TOMBSTONES_H
#define LETHE_TOMBSTONES_H

#include "retrieval.h"

enum { TOMBSTONE_WORDS = 8, TOMBSTONE_WINDOW = 5, TOMBSTONES_OF_DOCUMENT_MAX = 4096,
       TOMBSTONES_DOCUMENTS_MAX = 65536, TOMBSTONES_MAX = 262144, TOMBSTONES_SALT_BYTES = 16 };

typedef struct { uint64_t mark; uint32_t document; } tombstone;
typedef struct {
    tombstones_policy policy;
    uint8_t salt[TOMBSTONES_SALT_BYTES];
    id128 *documents;                /* as they were erased, oldest first */
    size_t document_count;
    tombstone *marks;                /* ascending, each mark once; document: index into documents */
    size_t mark_count;
} tombstones;

void tombstones_free(tombstones *t);                       /* wipes; leaves an empty one */
/* The key that marks hang on, from the owner's key-tree secret. */
void tombstones_key(const uint8_t secret[KEY_BYTES], const uint8_t salt[TOMBSTONES_SALT_BYTES],
                    uint8_t key[KEY_BYTES]);
/* The winnowed marks of a text, ascending, each once. */
void tombstones_of(const uint8_t key[KEY_BYTES], bytes text, uint64_t marks[TOMBSTONES_OF_DOCUMENT_MAX],
                   size_t *count);
/* Does the text repeat something? */
bool tombstones_repeated(const tombstones *t, const uint8_t key[KEY_BYTES], bytes text);
/* Adds a document's; one that is there already stays as it is. None: nothing to add. */
void tombstones_add(tombstones *t, id128 document, const uint64_t *marks, size_t count);
bool tombstones_hold(const tombstones *t, id128 document);

/* Format u8, policy u8, salt, document count u32, ids, mark count u32, (mark u64, document u32) each. Decoding:
 * E_DATA_LOSS, and *out empty, unless encoding gives the same bytes. */
void tombstones_encode(const tombstones *t, buf *out);
MUST_USE result tombstones_decode(bytes plain, tombstones *out);

/* An owner's, with the key that its marks hang on (secure memory; NULL while there are none). */
typedef struct { tombstones all; uint8_t *key; } tombstones_own;
/* No store and no record: policy off. Close either way. */
MUST_USE result tombstones_open(retrieval *r, id128 tenant, id128 owner, tombstones_own *out);
void tombstones_close(tombstones_own *own);
/* E_PRECONDITION or *repeats, by the policy. */
MUST_USE result tombstones_check(const tombstones_own *own, bytes text, bool *repeats);

#endif
