#include "base.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_LIMIT = 16 * 1024, TEXT_LIMIT = 512 };

static atomic_int least_level = LOG_INFO;

void log_level_set(log_level least)
{
    atomic_store(&least_level, (int)least);
}

/* A JSON string; broken UTF-8 becomes U+FFFD, long texts are cut. */
static void append_json(buf *line, const char *text)
{
    size_t n = strnlen(text, TEXT_LIMIT), at = 0;
    buf_append_u8(line, '"');
    while (at < n) {
        uint32_t cp = utf8_next(bytes_of(text, n), &at);
        uint8_t raw[4];
        if (cp == '"' || cp == '\\') buf_printf(line, "\\%c", (char)cp);
        else if (cp == '\n') buf_append_str(line, "\\n");
        else if (cp < 0x20 || cp == 0x7f) buf_printf(line, "\\u%04x", (unsigned)cp);
        else buf_append(line, raw, utf8_encode(cp, raw));
    }
    buf_append_u8(line, '"');
}

static void append_time(buf *line)
{
    uint64_t ms = clock_wall_ms();
    time_t seconds = (time_t)(ms / 1000);
    struct tm t;
    if (gmtime_r(&seconds, &t) == NULL) memset(&t, 0, sizeof t);
    buf_printf(line, "\"%04d-%02d-%02dT%02d:%02d:%02d.%03uZ\"", t.tm_year + 1900, t.tm_mon + 1,
               t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, (unsigned)(ms % 1000));
}

/* One write for the line, so that threads do not mix; a log that cannot be written is dropped. */
static void emit(const buf *line)
{
    size_t at = 0;
    while (at < line->size) {
        ssize_t n = write(STDERR_FILENO, line->data + at, line->size - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return;
        at += (size_t)n;
    }
}

void log_event_fields(log_level level, const char *event, const log_field *fields, size_t count)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    if ((int)level < atomic_load(&least_level)) return;
    int saved = errno;
    buf line;
    buf_init(&line, LINE_LIMIT);
    buf_append_str(&line, "{\"time\":");
    append_time(&line);
    buf_printf(&line, ",\"level\":\"%s\",\"event\":", names[level]);
    append_json(&line, event);
    for (size_t i = 0; i < count; i++) {
        buf_append_u8(&line, ',');
        append_json(&line, fields[i].key);
        if (fields[i].text != NULL) {
            buf_append_u8(&line, ':');
            append_json(&line, fields[i].text);
        } else {
            buf_printf(&line, ":%llu", (unsigned long long)fields[i].number);
        }
    }
    buf_append_str(&line, "}\n");
    if (!line.bad) emit(&line);
    buf_free(&line);
    errno = saved;
}
