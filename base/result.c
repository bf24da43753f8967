#include "base.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_BYTES = 513 };
static _Thread_local char message[MESSAGE_BYTES];

/* Sentences may quote names out of untrusted files and go onto the wire as UTF-8: control
 * characters, broken sequences and a sequence cut by the limit become question marks. */
static void sanitize(char *text)
{
    size_t n = strlen(text), at = 0;
    while (at < n) {
        size_t start = at;
        uint32_t cp = utf8_next(bytes_of(text, n), &at);
        if (cp < 0x20 || cp == 0x7f || (cp == 0xfffd && at == start + 1)) text[start] = '?';
    }
}

static result store(error_code code, char *text)
{
    sanitize(text);
    memcpy(message, text, strlen(text) + 1);
    return (result){code, message};
}

result fail(error_code code, const char *fmt, ...)
{
    char text[MESSAGE_BYTES];      /* an argument may be the previous message */
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(text, sizeof text, fmt, args) < 0) text[0] = '\0';
    va_end(args);
    ASSERT(code != E_OK);
    return store(code, text);
}

result fail_errno(const char *fmt, ...)
{
    int saved = errno;
    char what[MESSAGE_BYTES - 128], text[MESSAGE_BYTES], reason_space[96];
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(what, sizeof what, fmt, args) < 0) what[0] = '\0';
    va_end(args);
    const char *reason = strerror_r(saved, reason_space, sizeof reason_space);
    error_code code = E_INTERNAL;
    if (saved == ENOSPC || saved == EDQUOT || saved == EFBIG) {
        code = E_UNAVAILABLE;
        snprintf(text, sizeof text, "%s: disk full (%.90s)", what, reason);
    } else {
        if (saved == EMFILE || saved == ENFILE || saved == ENOMEM) code = E_UNAVAILABLE;
        snprintf(text, sizeof text, "%s: %.90s", what, reason);
    }
    errno = saved;
    return store(code, text);
}

const char *error_code_name(error_code code)
{
    switch (code) {
    case E_OK: return "OK";
    case E_CANCELLED: return "CANCELLED";
    case E_INTERNAL: return "INTERNAL";
    case E_INVALID: return "INVALID_ARGUMENT";
    case E_DEADLINE: return "DEADLINE_EXCEEDED";
    case E_NOT_FOUND: return "NOT_FOUND";
    case E_EXISTS: return "ALREADY_EXISTS";
    case E_DENIED: return "PERMISSION_DENIED";
    case E_EXHAUSTED: return "RESOURCE_EXHAUSTED";
    case E_PRECONDITION: return "FAILED_PRECONDITION";
    case E_UNIMPLEMENTED: return "UNIMPLEMENTED";
    case E_UNAVAILABLE: return "UNAVAILABLE";
    case E_DATA_LOSS: return "DATA_LOSS";
    case E_UNAUTHENTICATED: return "UNAUTHENTICATED";
    }
    return "INTERNAL";
}

_Noreturn void assert_failed(const char *cond, const char *file, int line)
{
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, cond);
    abort();
}
