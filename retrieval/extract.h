/* extract: the text of a document, as valid UTF-8. Internal to retrieval/.
 *
 * Plain text is taken as it is (line ends too) without a byte order mark. Markdown (md4c) and HTML
 * (gumbo) become lines and paragraphs; PDF goes through poppler's pdftotext in a confined child.
 * Errors: E_INVALID (not text, invalid UTF-8 with the byte offset, empty, too large or too deep),
 * E_PRECONDITION (pdftotext is not installed), E_UNIMPLEMENTED never. */
#ifndef LETHE_EXTRACT_H
#define LETHE_EXTRACT_H

#include "base.h"

typedef enum { FORMAT_PLAIN, FORMAT_MARKDOWN, FORMAT_HTML, FORMAT_PDF } extract_format;

/* What the media type says; "" or NULL: the path's ending, then the content. E_INVALID: another. */
MUST_USE result extract_detect(const char *media_type, const char *path, bytes content,
                               extract_format *format);
const char *extract_media_type(extract_format format);
/* Appends the text to out, whose limit bounds it. */
MUST_USE result extract_text(extract_format format, bytes content, buf *out);

/* ---- parts ----------------------------------------------------------------------------------- */
MUST_USE result extract_markdown(bytes content, buf *out);
MUST_USE result extract_html(bytes content, buf *out);
MUST_USE result extract_pdf(bytes content, buf *out);

/* Writes text with line breaks asked for in advance: breaks at the beginning and the end vanish and
 * several become the largest. */
typedef struct { buf *out; size_t start; uint32_t breaks; bool space; } text_writer;
void writer_text(text_writer *w, const char *text, size_t size, bool verbatim);
void writer_break(text_writer *w, uint32_t lines);       /* 1: next line, 2: a blank line between */

#endif
