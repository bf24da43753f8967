/* audit_scan: looks for byte strings in every file below a folder, read-only, beside a running server or not. A
 * file that changes meanwhile is read as it comes. */
#ifndef LETHE_AUDIT_SCAN_H
#define LETHE_AUDIT_SCAN_H

#include "base.h"

enum { AUDIT_PATTERN_MAX = 512 };
typedef struct { uint8_t data[AUDIT_PATTERN_MAX]; size_t size; } audit_pattern;
typedef struct { uint64_t files, bytes, found; char first[256]; /* a file with one, "" */ } audit_residue;

/* Adds the text as UTF-8 and as UTF-16LE (ASCII only): 2 patterns from out on. */
void audit_pattern_make(const char *text, audit_pattern out[2]);
/* path: a file, or a folder with all below it (links are not followed). Adds to out. Errors: a file that can't be
 * read; one that is gone meanwhile is none. */
MUST_USE result audit_scan(const char *path, const audit_pattern *patterns, size_t count, audit_residue *out);

#endif
