/* base: the ground floor. Results, byte views, buffers, arenas, secure memory, files, logging.
 *
 * Thread safety: every function here is reentrant; an object belongs to one thread at a time. */
#ifndef LETHE_BASE_H
#define LETHE_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- results --------------------------------------------------------------------------------
 * Numbered as the gRPC status codes, so that the surface needs no table. */
typedef enum {
    E_OK = 0,
    E_CANCELLED = 1,
    E_INTERNAL = 2,            /* UNKNOWN on the wire is never used; 2 is mapped to INTERNAL */
    E_INVALID = 3,             /* INVALID_ARGUMENT: bad input, with a sentence that helps */
    E_DEADLINE = 4,
    E_NOT_FOUND = 5,           /* absent, denied and deleted alike */
    E_EXISTS = 6,
    E_DENIED = 7,              /* only for what the caller may know to exist (a verb, a role) */
    E_EXHAUSTED = 8,           /* one's own quota or share, never another's */
    E_PRECONDITION = 9,
    E_UNIMPLEMENTED = 12,
    E_UNAVAILABLE = 14,        /* the machine: disk full, shutting down, too many threads */
    E_DATA_LOSS = 15,          /* bytes that do not authenticate or do not parse on our own disk */
    E_UNAUTHENTICATED = 16
} error_code;

typedef struct {
    error_code code;
    const char *message;       /* "" when ok; else valid on this thread until its next fail() */
} result;

#define MUST_USE __attribute__((warn_unused_result))
#define OK ((result){E_OK, ""})
/* Makes an error with a formatted sentence (at most 512 bytes; never document text or secrets). */
MUST_USE result fail(error_code code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* As fail(), and appends strerror(saved errno). ENOSPC, EDQUOT and EFBIG become E_UNAVAILABLE. */
MUST_USE result fail_errno(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline bool is_ok(result r) { return r.code == E_OK; }
const char *error_code_name(error_code code);           /* "NOT_FOUND" ... */

#define TRY(expr) do { result try_r_ = (expr); if (!is_ok(try_r_)) return try_r_; } while (0)
/* For functions that clean up: assigns to r and jumps. */
#define TRY_TO(r, expr, label) do { (r) = (expr); if (!is_ok(r)) goto label; } while (0)

/* Bugs assert, always on, in every build type: prints file, line and expression, aborts. */
#define ASSERT(cond) ((cond) ? (void)0 : assert_failed(#cond, __FILE__, __LINE__))
_Noreturn void assert_failed(const char *cond, const char *file, int line);

/* Under AddressSanitizer what is cut from large pieces elsewhere is allocated one by one, so that it is seen. */
#if defined(__SANITIZE_ADDRESS__)
#define ADDRESS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ADDRESS_SANITIZED 1
#endif
#endif
#ifndef ADDRESS_SANITIZED
#define ADDRESS_SANITIZED 0
#endif

/* ---- memory ---------------------------------------------------------------------------------
 * malloc is used in base/ only. These abort when the machine has no memory left. */
void *mem_alloc(size_t size);                            /* zeroed; size 0 gives a unique pointer */
void *mem_alloc_array(size_t count, size_t size);        /* zeroed; overflow aborts */
void *mem_realloc(void *p, size_t size);
void mem_free(void *p);                                  /* NULL is fine */
char *mem_strdup(const char *s);
void mem_wipe(void *p, size_t size);                     /* not optimised away */
void stack_wipe(size_t size);    /* below the caller's frame, where what it called has left its own */

/* Guarded, locked, dump-excluded memory for keys (libsodium). Freed memory is wiped. If locking
 * fails (RLIMIT_MEMLOCK) a warning is logged once and the memory is still guarded. */
void *secure_alloc(size_t size);
void secure_free(void *p);
/* Equal in constant time. */
bool secure_equal(const void *a, const void *b, size_t size);
void random_bytes(void *out, size_t size);

/* ---- byte views and buffers ------------------------------------------------------------------ */
typedef struct { const uint8_t *data; size_t size; } bytes;
static inline bytes bytes_of(const void *p, size_t n) { return (bytes){(const uint8_t *)p, n}; }
bytes bytes_str(const char *s);                          /* without the NUL */
bool bytes_equal(bytes a, bytes b);                      /* not constant time */

/* Growing buffer with a hard limit. Appending past the limit makes it sticky-bad: later appends do
 * nothing, and buf_check reports E_EXHAUSTED. data is NUL-terminated beyond size for convenience. */
typedef struct { uint8_t *data; size_t size, capacity, limit; bool bad; } buf;
void buf_init(buf *b, size_t limit);
void buf_free(buf *b);                                   /* wipes, frees, leaves an empty buf */
void buf_clear(buf *b);                                  /* wipes the contents, keeps the capacity */
void buf_append(buf *b, const void *p, size_t n);
void buf_append_str(buf *b, const char *s);
void buf_append_u8(buf *b, uint8_t v);
void buf_append_u16(buf *b, uint16_t v);                 /* little-endian, as all of these */
void buf_append_u32(buf *b, uint32_t v);
void buf_append_u64(buf *b, uint64_t v);
void buf_printf(buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
MUST_USE result buf_check(const buf *b);
static inline bytes buf_bytes(const buf *b) { return (bytes){b->data, b->size}; }

/* Reader over a byte view; reading past the end makes it sticky-bad and yields zeros / NULL. A
 * parser ends with reader_done, which demands that everything was consumed. */
typedef struct { const uint8_t *data; size_t size, at; bool bad; } reader;
reader reader_of(bytes b);
uint8_t reader_u8(reader *r);
uint16_t reader_u16(reader *r);
uint32_t reader_u32(reader *r);
uint64_t reader_u64(reader *r);
const uint8_t *reader_take(reader *r, size_t n);         /* borrowed from the view; NULL if short */
MUST_USE result reader_done(const reader *r, const char *what);   /* E_DATA_LOSS otherwise */

/* Request arena: chunks under one limit, sticky overflow, wiped on reset. Under ASan each
 * allocation is a separate malloc so that overruns are caught. Allocations are 16-aligned, zeroed. */
typedef struct arena arena;
void arena_open(arena **out, size_t limit_bytes);
void arena_close(arena **a);                             /* wipes */
void arena_reset(arena *a);                              /* wipes */
void *arena_alloc(arena *a, size_t size);                /* NULL once the limit is passed */
void *arena_alloc_array(arena *a, size_t count, size_t size);
char *arena_strndup(arena *a, const char *s, size_t n);
MUST_USE result arena_check(const arena *a);             /* E_EXHAUSTED if ever overflowed */

/* ---- text ------------------------------------------------------------------------------------ */
bool utf8_valid(bytes text);                             /* strict: no surrogates, no overlongs, no NUL */
/* Decodes one code point at text[*at], advances; invalid bytes give 0xFFFD and advance by one. */
uint32_t utf8_next(bytes text, size_t *at);
size_t utf8_encode(uint32_t cp, uint8_t out[4]);         /* bytes written */
void hex_encode(const uint8_t *p, size_t n, char *out);  /* 2n+1 chars */
bool hex_decode(const char *s, size_t hex_chars, uint8_t *out);   /* false unless all lowercase/upper hex */

/* ---- files ------------------------------------------------------------------------------------ */
/* Reads a whole regular file of at most limit bytes. E_NOT_FOUND, E_INVALID (too large), errno. */
MUST_USE result file_read(const char *path, size_t limit, buf *out);
/* Durable and atomic: temporary file beside it, fsync, rename, fsync of the folder. */
MUST_USE result file_write_atomic(const char *path, bytes content, unsigned mode);
MUST_USE result file_fsync_dir(const char *dir);
/* Into the ascending list out of *count numbers, of which it keeps the lowest max. */
void numbers_keep(uint64_t *out, size_t max, size_t *count, uint64_t value);
/* Numbers (from 1, plain decimal) of the files PREFIX<number> in dir, ascending, the lowest max of them.
 * E_NOT_FOUND: no folder. */
MUST_USE result dir_numbers(const char *dir, const char *prefix, uint64_t *out, size_t max,
                            size_t *count);
/* Destroys what writers of PREFIX* that did not get to their rename left in dir: PREFIX*.tmp. For who
 * alone writes there. */
MUST_USE result dir_sweep(const char *dir, const char *prefix);
MUST_USE result dir_make(const char *path, unsigned mode);        /* existing is fine */
MUST_USE result path_join(char *out, size_t out_size, const char *a, const char *b);
/* Overwrites with random bytes, fsyncs, unlinks, fsyncs the folder. Absent is fine. */
MUST_USE result file_destroy(const char *path);

/* ---- clock ------------------------------------------------------------------------------------ */
/* Milliseconds since 1970; LETHE_CLOCK_FIXED_MS in the environment at start fixes it (tests). */
uint64_t clock_wall_ms(void);
uint64_t clock_mono_ms(void);

/* ---- log ---------------------------------------------------------------------------------------
 * One JSON object a line on standard error: time, level, event, then the fields. Fields are ids,
 * numbers and fixed words; never names, questions, document text, tokens or keys. */
typedef enum { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR } log_level;
void log_level_set(log_level least);
typedef struct { const char *key; const char *text; uint64_t number; } log_field;  /* text NULL: number */
#define LOG_TEXT(k, s) ((log_field){(k), (s), 0})
#define LOG_NUMBER(k, n) ((log_field){(k), NULL, (uint64_t)(n)})
void log_event_fields(log_level level, const char *event, const log_field *fields, size_t count);
#define log_event(level, event, ...) log_event_fields((level), (event), \
    (const log_field[]){__VA_ARGS__}, sizeof((const log_field[]){__VA_ARGS__}) / sizeof(log_field))

/* ---- process hardening ------------------------------------------------------------------------- */
/* No core dumps, not ptraceable by others, umask 077. */
void process_harden(void);
/* All of this process stays in memory, now and later; as far as RLIMIT_MEMLOCK lets it. For small
 * processes that hold keys. */
void memory_lock_all(void);

#endif
