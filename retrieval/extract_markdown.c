#include <md4c.h>
#include <stdlib.h>
#include <string.h>

#include "extract.h"

typedef struct { text_writer writer; uint32_t lists, cells; bool code, html; } state;

/* The entities that people type; others stay as they stand. */
static const struct { const char *name, *text; } ENTITIES[] = {
    {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&apos;", "'"},
    {"&nbsp;", " "},
    {"&ndash;", "\xE2\x80\x93"}, {"&mdash;", "\xE2\x80\x94"}, {"&hellip;", "\xE2\x80\xA6"},
    {"&lsquo;", "\xE2\x80\x98"}, {"&rsquo;", "\xE2\x80\x99"}, {"&ldquo;", "\xE2\x80\x9C"},
    {"&rdquo;", "\xE2\x80\x9D"}, {"&copy;", "\xC2\xA9"}, {"&reg;", "\xC2\xAE"},
    {"&deg;", "\xC2\xB0"}, {"&euro;", "\xE2\x82\xAC"}, {"&pound;", "\xC2\xA3"},
    {"&times;", "\xC3\x97"}, {"&middot;", "\xC2\xB7"},
};

static void write_entity(state *s, const char *text, size_t size)
{
    if (size > 3 && text[1] == '#') {
        bool hex = text[2] == 'x' || text[2] == 'X';
        unsigned long cp = strtoul(text + (hex ? 3 : 2), NULL, hex ? 16 : 10);
        uint8_t utf8[4];
        bool valid = cp > 0 && cp <= 0x10FFFF && (cp < 0xD800 || cp > 0xDFFF);
        size_t n = utf8_encode(valid ? (uint32_t)cp : 0xFFFD, utf8);
        writer_text(&s->writer, (const char *)utf8, n, false);
        return;
    }
    for (size_t i = 0; i < sizeof ENTITIES / sizeof *ENTITIES; i++)
        if (strlen(ENTITIES[i].name) == size && memcmp(ENTITIES[i].name, text, size) == 0) {
            writer_text(&s->writer, ENTITIES[i].text, strlen(ENTITIES[i].text), false);
            return;
        }
    writer_text(&s->writer, text, size, false);
}

static int enter_block(MD_BLOCKTYPE type, void *detail, void *ctx)
{
    state *s = ctx;
    (void)detail;
    switch (type) {
    case MD_BLOCK_UL: case MD_BLOCK_OL:
        writer_break(&s->writer, s->lists++ ? 1 : 2);
        break;
    case MD_BLOCK_THEAD: case MD_BLOCK_TBODY:
        break;
    case MD_BLOCK_LI: case MD_BLOCK_TR:
        writer_break(&s->writer, 1);
        s->cells = 0;
        break;
    case MD_BLOCK_TH: case MD_BLOCK_TD:
        if (s->cells++) writer_text(&s->writer, " | ", 3, false);
        break;
    case MD_BLOCK_CODE:
        s->code = true;
        writer_break(&s->writer, 2);
        break;
    case MD_BLOCK_HTML:
        s->html = true;
        break;
    default:
        writer_break(&s->writer, s->lists ? 1 : 2);
    }
    return s->writer.out->bad;
}

static int leave_block(MD_BLOCKTYPE type, void *detail, void *ctx)
{
    state *s = ctx;
    (void)detail;
    if (type == MD_BLOCK_UL || type == MD_BLOCK_OL) s->lists--;
    if (type == MD_BLOCK_CODE) s->code = false;
    if (type == MD_BLOCK_HTML) s->html = false;
    bool part = type == MD_BLOCK_TD || type == MD_BLOCK_TH || type == MD_BLOCK_THEAD ||
                type == MD_BLOCK_TBODY;
    if (!part) writer_break(&s->writer, type == MD_BLOCK_TR || s->lists ? 1 : 2);
    return s->writer.out->bad;
}

static int span(MD_SPANTYPE type, void *detail, void *ctx)
{
    (void)type;
    (void)detail;
    (void)ctx;
    return 0;
}

static int write_text(MD_TEXTTYPE type, const MD_CHAR *text, MD_SIZE size, void *ctx)
{
    state *s = ctx;
    switch (type) {
    case MD_TEXT_HTML: case MD_TEXT_NULLCHAR:
        break;
    case MD_TEXT_BR:
        writer_break(&s->writer, 1);
        break;
    case MD_TEXT_SOFTBR:
        writer_text(&s->writer, " ", 1, false);
        break;
    case MD_TEXT_ENTITY:
        write_entity(s, text, size);
        break;
    default:
        if (!s->html) writer_text(&s->writer, text, size, s->code);
    }
    return s->writer.out->bad;
}

result extract_markdown(bytes content, buf *out)
{
    state s = {.writer = {.out = out, .start = out->size}};
    MD_PARSER parser = {.flags = MD_DIALECT_GITHUB, .enter_block = enter_block,
                        .leave_block = leave_block, .enter_span = span, .leave_span = span,
                        .text = write_text};
    if (content.size >= UINT32_MAX / 2) return fail(E_INVALID, "the Markdown is too large");
    if (md_parse((const MD_CHAR *)content.data, (MD_SIZE)content.size, &parser, &s) != 0 &&
        !out->bad)
        return fail(E_INVALID, "the Markdown could not be read");
    return OK;
}
