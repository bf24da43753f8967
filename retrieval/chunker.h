/* chunker: cuts a text into chunks of whole sentences. Internal to retrieval/.
 *
 * The chunks partition the text: chunk i is [ends[i-1], ends[i]). They fill up to the target; a
 * sentence longer than twice the target is cut at white space, or between two characters. Linear
 * time. */
#ifndef LETHE_CHUNKER_H
#define LETHE_CHUNKER_H

#include "base.h"

enum { CHUNK_TARGET_DEFAULT = 600, CHUNK_TARGET_MIN = 64 };

/* text: valid UTF-8. *ends: owned by the caller (mem_free); none only for an empty text. */
void chunker_cut(bytes text, uint32_t target_bytes, size_t **ends, uint32_t *count);

/* The end of the sentence that begins at `at`, with the white space behind it; at most max_bytes
 * away (>= 4). at < text.size. */
size_t sentence_end(bytes text, size_t at, size_t max_bytes);

#endif
