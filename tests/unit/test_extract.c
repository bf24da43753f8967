#include "retrieval/extract.h"
#include "test.h"

static buf out;

static result extract(extract_format format, bytes content)
{
    buf_free(&out);
    buf_init(&out, 4 << 20);
    return extract_text(format, content, &out);
}

static bool text_is(const char *want)
{
    bool same = bytes_equal(buf_bytes(&out), bytes_str(want));
    if (!same) printf("# got <<%.*s>> want <<%s>>\n", (int)out.size, (const char *)out.data, want);
    return same;
}

static void plain_text_is_kept(void)
{
    CHECK_OK(extract(FORMAT_PLAIN, bytes_str("\xEF\xBB\xBFOne\r\ntwo \xC3\xA9\n")));
    CHECK(text_is("One\r\ntwo \xC3\xA9\n"));
    CHECK_FAILS(extract(FORMAT_PLAIN, bytes_str("")), E_INVALID);
    CHECK_FAILS(extract(FORMAT_PLAIN, bytes_str(" \n\t ")), E_INVALID);
    result r = extract(FORMAT_PLAIN, bytes_of("abc\0def", 7));
    CHECK(r.code == E_INVALID && strstr(r.message, "offset 3") != NULL);
    r = extract(FORMAT_PLAIN, bytes_str("abcd\xFFg"));
    CHECK(r.code == E_INVALID && strstr(r.message, "byte 4") != NULL);
    r = extract(FORMAT_PLAIN, bytes_str("replacement \xEF\xBF\xBD stays, this does not \xC3"));
    CHECK(r.code == E_INVALID && strstr(r.message, "byte 37") != NULL);
    r = extract(FORMAT_PLAIN, bytes_of("\x89PNG\r\n\x1a\n", 8));
    CHECK(r.code == E_INVALID && strcmp(r.message, "not a text document") == 0);
    buf small;
    buf_init(&small, 4);
    CHECK_FAILS(extract_text(FORMAT_PLAIN, bytes_str("longer than four"), &small), E_INVALID);
    buf_free(&small);
}

static void markdown_becomes_lines(void)
{
    CHECK_OK(extract(FORMAT_MARKDOWN, bytes_str(
        "# A *title*\n\nSome **bold** text\nthat goes on &amp; on&#33;\n\n- one\n- two\n  - deeper\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n```c\nint x;\n  int y;\n```\n\n<div>raw</div>\n\n[link](http://x) end\n")));
    CHECK(text_is("A title\n\nSome bold text that goes on & on!\n\none\ntwo\ndeeper\n\n"
                  "a | b\n1 | 2\n\nint x;\n  int y;\n\nlink end"));
}

static void html_becomes_lines(void)
{
    CHECK_OK(extract(FORMAT_HTML, bytes_str(
        "<!doctype html><html><head><title>T &amp; t</title><style>p{}</style><script>var x;</script></head>"
        "<body><h1>Head</h1><p>One <b>bold</b>\n word.<p>Two<br>three<ul><li>a</li><li>b</li></ul>"
        "<table><tr><td>1</td><td>2</td></tr><tr><td>3</td><td>4</td></tr></table><pre>x\n  y</pre>"
        "<!-- no --></body></html>")));
    CHECK(text_is("T & t\n\nHead\n\nOne bold word.\n\nTwo\nthree\n\na\nb\n\n1 | 2\n3 | 4\n\nx\n  y"));
    CHECK_FAILS(extract(FORMAT_HTML, bytes_str("<p> </p><script>text</script>")), E_INVALID);
}

/* A tree a hundred thousand deep neither overflows a stack nor takes for ever. */
static void deep_html_is_survived(void)
{
    static const char *const OPEN[] = {"<b>", "<div>", "<i><p>", "<table><td>", "<svg>"};
    for (size_t k = 0; k < sizeof OPEN / sizeof *OPEN; k++) {
        buf b;
        buf_init(&b, 4 << 20);
        for (int i = 0; i < 20000; i++) buf_append_str(&b, OPEN[k]);
        buf_append_str(&b, "text");
        result r = extract(FORMAT_HTML, buf_bytes(&b));
        CHECK(is_ok(r) || r.code == E_INVALID);
        buf_free(&b);
    }
}

static void formats_are_told_apart(void)
{
    static const struct { const char *media, *path, *content; extract_format want; } cases[] = {
        {"text/html; charset=utf-8", "x", "a", FORMAT_HTML},
        {"text/markdown", "x.txt", "a", FORMAT_MARKDOWN},
        {"text/csv", "x.csv", "a", FORMAT_PLAIN},
        {"application/pdf", "x", "a", FORMAT_PDF},
        {"", "Notes.MD", "a", FORMAT_MARKDOWN},
        {"", "page.htm", "a", FORMAT_HTML},
        {NULL, "report.pdf", "a", FORMAT_PDF},
        {"", "unknown", "%PDF-1.4", FORMAT_PDF},
        {"", "unknown", "\n <!DOCTYPE HTML>", FORMAT_HTML},
        {"", "unknown", "plain", FORMAT_PLAIN},
    };
    extract_format got;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_OK(extract_detect(cases[i].media, cases[i].path, bytes_str(cases[i].content), &got));
        CHECK(got == cases[i].want);
    }
    CHECK_FAILS(extract_detect("image/png", "x", bytes_str("a"), &got), E_INVALID);
}

/* A PDF of one page, written by hand, its cross-reference table computed. */
static void make_pdf(buf *b, const char *line)
{
    size_t at[6];
    char stream[300];
    int n = snprintf(stream, sizeof stream, "BT /F1 24 Tf 72 720 Td (%s) Tj ET", line);
    buf_append_str(b, "%PDF-1.4\n");
    at[1] = b->size;
    buf_append_str(b, "1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n");
    at[2] = b->size;
    buf_append_str(b, "2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n");
    at[3] = b->size;
    buf_append_str(b, "3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R"
                      "/Resources<</Font<</F1 5 0 R>>>>>>endobj\n");
    at[4] = b->size;
    buf_printf(b, "4 0 obj<</Length %d>>stream\n%s\nendstream endobj\n", n, stream);
    at[5] = b->size;
    buf_append_str(b, "5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj\n");
    size_t xref = b->size;
    buf_append_str(b, "xref\n0 6\n0000000000 65535 f \n");
    for (int i = 1; i < 6; i++) buf_printf(b, "%010zu 00000 n \n", at[i]);
    buf_printf(b, "trailer<</Size 6/Root 1 0 R>>\nstartxref\n%zu\n%%%%EOF\n", xref);
}

static void pdf_through_poppler(void)
{
    buf pdf;
    buf_init(&pdf, 1 << 20);
    make_pdf(&pdf, "Hello from a page");
    result r = extract(FORMAT_PDF, buf_bytes(&pdf));
    if (r.code == E_PRECONDITION) {
        printf("# pdftotext is not installed\n");
    } else {
        CHECK_OK(r);
        CHECK(strstr((const char *)out.data, "Hello from a page") != NULL);
        CHECK_FAILS(extract(FORMAT_PDF, bytes_str("%PDF-1.4\nnothing more")), E_INVALID);
    }
    CHECK_FAILS(extract(FORMAT_PDF, bytes_str("no pdf at all")), E_INVALID);
    buf_free(&pdf);
}

int main(void)
{
    RUN(plain_text_is_kept);
    RUN(markdown_becomes_lines);
    RUN(html_becomes_lines);
    RUN(deep_html_is_survived);
    RUN(formats_are_told_apart);
    RUN(pdf_through_poppler);
    buf_free(&out);
    return DONE();
}
