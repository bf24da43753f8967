/* names: variants, aliases, and what must not match. */
#include "retrieval/names.h"

#include "test.h"

#include <string.h>

static names_match find(names *n, const char *text)
{
    names_match m;
    names_find(n, bytes_str(text), &m);
    return m;
}

static void variants(void)
{
    static const struct { const char *text; evidence_class kind; int full; } cases[] = {
        {"Met John Smith today.", EVIDENCE_NAME, 1},         {"JOHN SMITH", EVIDENCE_NAME, 1},
        {"john smith", EVIDENCE_NAME, 1},                    {"Smith, John", EVIDENCE_NAME, 1},
        {"J. Smith wrote", EVIDENCE_NAME, 0},                {"Smith J.", EVIDENCE_NAME, 0},
        {"Mr. Smith's dog", EVIDENCE_NAME, 0},               {"Jo\xC2\xADhn Smith", EVIDENCE_NAME, 1},
        {"John Smi-\nth", EVIDENCE_NAME, 1},                 {"J\xC3\xB3hn Smith", EVIDENCE_NAME, 1},
        {"Jonh Smith", EVIDENCE_NAME, 0},                    {"John Smyth", EVIDENCE_NAME, 0},
        {"Then John left", EVIDENCE_NAME, 0},                {"Anna Smith", EVIDENCE_NONE, 0},
        {"John Miller", EVIDENCE_NONE, 0},                   {"a smith forged it", EVIDENCE_NONE, 0},
        {"Johnson and Smithson", EVIDENCE_NONE, 0},          {"", EVIDENCE_NONE, 0},
        {"Jane Doe", EVIDENCE_NONE, 0},                      {"\xFF\xFEJohn", EVIDENCE_NAME, 0},
    };
    names *n;
    CHECK_OK(names_open(&n, "Dr. John Smith"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        names_match m = find(n, cases[i].text);
        if (m.kind != cases[i].kind || m.full != cases[i].full) printf("# at: %s\n", cases[i].text);
        CHECK(m.kind == cases[i].kind);
        CHECK(m.full == cases[i].full);
        for (size_t s = 0; s < m.span_count; s++) CHECK(m.spans[s].end <= strlen(cases[i].text));
    }
    names_close(&n);
}

static void mined(void)
{
    names *n;
    const char *text = "John Smith, also known as Wolfram, lives here (j.wolf@mail.example, 030 555 1234). "
                       "His book \"The Last Ferry\" sold well. Far from it, far from it, far from it, far from it, far "
                       "from it, far from it, far from it, far from it, far from it, far from it: other@mail.example";
    CHECK_OK(names_open(&n, "Smith, John"));
    CHECK(find(n, "Wolfram came").kind == EVIDENCE_NONE);
    names_match m = find(n, text);
    CHECK(names_mine(n, bytes_str(text), &m) == 4);
    CHECK(names_mine(n, bytes_str(text), &m) == 0);
    CHECK(find(n, "Wolfram came").kind == EVIDENCE_ALIAS);
    CHECK(find(n, "wolfram is a metal").kind == EVIDENCE_NONE);
    CHECK(find(n, "write to J.Wolf@mail.example").kind == EVIDENCE_IDENTIFIER);
    CHECK(find(n, "call 0305551234").kind == EVIDENCE_IDENTIFIER);
    CHECK(find(n, "other@mail.example").kind == EVIDENCE_NONE);
    CHECK(find(n, "She read the last ferry").kind == EVIDENCE_NEIGHBOUR);
    CHECK(names_mined(n, 0) != NULL && names_mined(n, 4) == NULL);
    names_close(&n);
}

static void limits(void)
{
    names *n;
    char text[NAMES_SUBJECT_MAX_BYTES + 2];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = 0;
    CHECK_FAILS(names_open(&n, text), E_INVALID);
    CHECK_FAILS(names_open(&n, ""), E_INVALID);
    CHECK_FAILS(names_open(&n, "..."), E_INVALID);
    CHECK_FAILS(names_open(&n, "x"), E_INVALID);
    CHECK_OK(names_open(&n, "heart disease"));
    CHECK(find(n, "Heart disease is common").kind == EVIDENCE_NAME);
    CHECK(find(n, "a disease of the heart").kind == EVIDENCE_NONE);
    /* As many names as there is room for, and no more. */
    buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < 300; i++)
        buf_printf(&b, "heart disease alias Xan%c%cthus. ", 'a' + i % 26, 'a' + i / 26);
    names_match m;
    names_find(n, buf_bytes(&b), &m);
    CHECK(names_mine(n, buf_bytes(&b), &m) < NAMES_PATTERNS_MAX);
    buf_free(&b);
    names_close(&n);
}

int main(void)
{
    RUN(variants);
    RUN(mined);
    RUN(limits);
    return DONE();
}
