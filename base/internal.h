/* What base/'s own files share. Not for other folders. */
#ifndef LETHE_BASE_INTERNAL_H
#define LETHE_BASE_INTERNAL_H

#include "base.h"

/* libsodium demands sodium_init before anything else; safe from any thread, cheap when done. */
void sodium_ready(void);
/* Grows b by n zeroed bytes and returns where they start; NULL (b is bad) past the limit. */
uint8_t *buf_extend(buf *b, size_t n);
/* The part of path behind its last slash: messages name the file, never its folder. */
const char *path_name(const char *path);
/* fsync of the folder that holds path. */
MUST_USE result fsync_parent(const char *path);

#endif
