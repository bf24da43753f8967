#include "extract.h"

#include <string.h>
#include <strings.h>

static const char *const MEDIA_TYPES[] = {"text/plain", "text/markdown", "text/html",
                                          "application/pdf"};

static const struct { const char *ending; extract_format format; } ENDINGS[] = {
    {".md", FORMAT_MARKDOWN}, {".markdown", FORMAT_MARKDOWN}, {".htm", FORMAT_HTML},
    {".html", FORMAT_HTML}, {".xhtml", FORMAT_HTML}, {".pdf", FORMAT_PDF}, {".txt", FORMAT_PLAIN},
};

/* Beginnings of what is certainly not text. */
static const struct { const char *magic; size_t size; } BINARY[] = {
    {"\x89PNG", 4}, {"\xFF\xD8\xFF", 3}, {"GIF8", 4}, {"PK\x03\x04", 4}, {"\x1F\x8B", 2},
    {"\x7F" "ELF", 4}, {"\xFD" "7zXZ", 5}, {"\x28\xB5\x2F\xFD", 4}, {"%PDF-", 5}, {"Rar!", 4},
    {"\xD0\xCF\x11\xE0", 4}, {"OggS", 4}, {"ID3\x03", 4}, {"SQLite format 3", 15},
};

const char *extract_media_type(extract_format format) { return MEDIA_TYPES[format]; }

static bool starts_with(bytes content, const char *text)
{
    size_t size = strlen(text);
    return content.size >= size && strncasecmp((const char *)content.data, text, size) == 0;
}

static bool media_type_is(const char *given, const char *want)
{
    size_t size = strlen(want);
    return strncasecmp(given, want, size) == 0 &&
           (given[size] == 0 || given[size] == ';' || given[size] == ' ');
}

static extract_format sniff(bytes content)
{
    size_t at = 0;
    while (at < content.size && at < 256 && content.data[at] != 0 &&
           strchr(" \t\r\n\xEF\xBB\xBF", content.data[at]) != NULL)
        at++;
    bytes rest = {content.data + at, content.size - at};
    if (starts_with(rest, "%PDF-")) return FORMAT_PDF;
    if (starts_with(rest, "<!doctype html") || starts_with(rest, "<html")) return FORMAT_HTML;
    return FORMAT_PLAIN;
}

result extract_detect(const char *media_type, const char *path, bytes content,
                      extract_format *format)
{
    *format = FORMAT_PLAIN;
    if (media_type != NULL && *media_type != 0) {
        for (size_t i = 0; i < sizeof MEDIA_TYPES / sizeof *MEDIA_TYPES; i++)
            if (media_type_is(media_type, MEDIA_TYPES[i])) {
                *format = (extract_format)i;
                return OK;
            }
        if (media_type_is(media_type, "application/xhtml+xml")) *format = FORMAT_HTML;
        else if (strncasecmp(media_type, "text/", 5) != 0)
            return fail(E_INVALID, "this media type is not supported (text/*, application/pdf)");
        return OK;
    }
    size_t length = path == NULL ? 0 : strlen(path);
    for (size_t i = 0; i < sizeof ENDINGS / sizeof *ENDINGS; i++) {
        size_t size = strlen(ENDINGS[i].ending);
        if (length > size && strcasecmp(path + length - size, ENDINGS[i].ending) == 0) {
            *format = ENDINGS[i].format;
            return OK;
        }
    }
    *format = sniff(content);
    return OK;
}

static result check_text(bytes content)
{
    for (size_t i = 0; i < sizeof BINARY / sizeof *BINARY; i++)
        if (content.size >= BINARY[i].size &&
            memcmp(content.data, BINARY[i].magic, BINARY[i].size) == 0)
            return fail(E_INVALID, "not a text document");
    if (utf8_valid(content)) return OK;
    size_t at = 0;
    while (at < content.size) {
        size_t from = at;
        uint32_t cp = utf8_next(content, &at);
        if (cp == 0) return fail(E_INVALID, "not a text document: a zero byte at offset %zu", from);
        if (cp == 0xFFFD && at - from == 1)
            return fail(E_INVALID, "the text is not valid UTF-8 at byte %zu", from);
    }
    return fail(E_INVALID, "the text is not valid UTF-8");
}

static bool is_blank(bytes text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] != ' ' && (text.data[i] < '\t' || text.data[i] > '\r')) return false;
    return true;
}

result extract_text(extract_format format, bytes content, buf *out)
{
    size_t start = out->size;
    if (format == FORMAT_PDF) {
        TRY(extract_pdf(content, out));
    } else {
        if (content.size >= 3 && memcmp(content.data, "\xEF\xBB\xBF", 3) == 0)
            content = bytes_of(content.data + 3, content.size - 3);
        TRY(check_text(content));
        if (format == FORMAT_MARKDOWN) TRY(extract_markdown(content, out));
        else if (format == FORMAT_HTML) TRY(extract_html(content, out));
        else buf_append(out, content.data, content.size);
    }
    if (out->bad) return fail(E_INVALID, "the text has more than %zu bytes", out->limit);
    bytes text = {out->data + start, out->size - start};
    if (is_blank(text)) return fail(E_INVALID, "the document has no text");
    if (!utf8_valid(text)) return fail(E_INVALID, "the document's text is not valid UTF-8");
    return OK;
}

/* ---- writer ---------------------------------------------------------------------------------- */

void writer_break(text_writer *w, uint32_t lines)
{
    if (w->breaks < lines) w->breaks = lines;
}

static void writer_flush(text_writer *w)
{
    bool first = w->out->size == w->start;
    /* A code block brings its own last line break. */
    if (w->breaks && !first && w->out->data[w->out->size - 1] == '\n') w->breaks--;
    if (w->breaks && !first) buf_append(w->out, "\n\n", w->breaks);
    else if (w->space && !first) buf_append_u8(w->out, ' ');
    w->breaks = 0;
    w->space = false;
}

void writer_text(text_writer *w, const char *text, size_t size, bool verbatim)
{
    if (verbatim) {
        if (size) writer_flush(w);
        buf_append(w->out, text, size);
        return;
    }
    for (size_t at = 0; at < size;) {
        size_t end = at;
        while (end < size && strchr(" \t\n\v\f\r", text[end]) == NULL) end++;
        if (end > at) {
            writer_flush(w);
            buf_append(w->out, text + at, end - at);
        }
        while (end < size && text[end] != 0 && strchr(" \t\n\v\f\r", text[end]) != NULL) {
            w->space = true;
            end++;
        }
        if (end == at) end++;                     /* a zero byte is dropped */
        at = end;
    }
}
