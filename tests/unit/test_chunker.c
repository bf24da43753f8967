#include "retrieval/chunker.h"
#include "retrieval.h"
#include "test.h"

/* "|" marks where each sentence is expected to end. */
static const char *const CASES[] = {
    "One. |Two! |Three? |Four|",
    "Mr. Smith met Dr. Jones. |They talked.|",
    "It costs 3.14 dollars, e.g. Today. |Yes.|",
    "See Fig. 3 and Eq. 4. |Done.|",
    "J. R. R. Tolkien wrote it. |He lived.|",
    "The U.S. Army came. |It left.|",
    "He moved to the U.S. |The end.|",
    "Lunch is at 2 p.m. every day. |Dinner is at 7 p.m. |It is long.|",
    "Visit example.com. |Then go.|",
    "\"Stop!\" he said. |\"Why?\" |She left.|",
    "Wait... what? |Wait... |What?|",
    "A heading\n\n|A paragraph of text.\n\n|Another.|",
    "Short line\n|- first item\n|- second item\n|",
    "This line is hard wrapped by somebody who likes columns and\ngoes on here. |Next.|",
    "1. Open the door. |2. Go in.|",
    "\xE4\xBD\xA0\xE5\xA5\xBD\xE3\x80\x82|\xE4\xB8\x96\xE7\x95\x8C\xE3\x80\x82|",
    "He said \xE2\x80\x9Cno.\xE2\x80\x9D |Then \xE2\x80\xA6 nothing.|",
    "Line one.\r\n\r\n|Line two.\r\n|",
    "   Leading space. |End|",
};

static void sentences_end_where_people_end_them(void)
{
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        char text[512];
        size_t size = 0, want[16], wanted = 0, got[16];
        for (const char *p = CASES[c]; *p; p++)
            if (*p == '|') want[wanted++] = size;
            else text[size++] = *p;
        size_t count = text_sentences(bytes_of(text, size), got, 16);
        bool same = count == wanted && memcmp(got, want, count * sizeof *got) == 0;
        CHECK(same);
        if (!same) {
            printf("# case %zu:", c);
            for (size_t i = 0; i < count; i++) printf(" %zu", got[i]);
            printf(" of %zu wanted\n", wanted);
        }
    }
    size_t ends[2];
    CHECK(text_sentences(bytes_str("A b. C d. E f."), ends, 2) == 2);
    CHECK(text_sentences(bytes_str(""), ends, 2) == 0);
}

static uint64_t state = 1234567;
static uint32_t next(void)
{
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return (uint32_t)(state >> 32);
}

static void check_partition(bytes text, uint32_t target)
{
    size_t *ends, start = 0;
    uint32_t count;
    chunker_cut(text, target, &ends, &count);
    CHECK((count == 0) == (text.size == 0));
    for (uint32_t i = 0; i < count; i++) {
        CHECK(ends[i] > start && ends[i] <= text.size);
        CHECK(ends[i] - start <= 2 * (size_t)target);
        CHECK(ends[i] == text.size || (text.data[ends[i]] & 0xC0) != 0x80);
        start = ends[i];
    }
    CHECK(start == text.size);
    mem_free(ends);
}

static void chunks_partition_any_text(void)
{
    static const char *const PIECES[] = {"word ", "Longer, words ", ". ", "! ", "\n", "\n\n",
        "\xC3\xA9",
        "\xE4\xBD\xA0", "\xF0\x9F\x98\x80", "\xE3\x80\x82", "        ",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "3.14", "Mr. ", "\r\n", "?!?!", "\xE2\x80\x9D"};
    for (int round = 0; round < 400; round++) {
        buf b;
        buf_init(&b, 1 << 20);
        uint32_t pieces = next() % 400, kind = 1 + next() % (sizeof PIECES / sizeof *PIECES);
        for (uint32_t i = 0; i < pieces; i++) buf_append_str(&b, PIECES[next() % kind]);
        check_partition(buf_bytes(&b), 64 + next() % 600);
        buf_free(&b);
    }
}

static void long_sentences_are_cut_at_white_space(void)
{
    buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < 1000; i++) buf_append_str(&b, "word ");
    size_t *ends;
    uint32_t count;
    chunker_cut(buf_bytes(&b), 600, &ends, &count);
    CHECK(count >= 5 && count <= 10);
    for (uint32_t i = 0; i < count; i++) CHECK(ends[i] % 5 == 0);
    mem_free(ends);
    buf_free(&b);
}

static void whole_sentences_up_to_the_target(void)
{
    buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < 100; i++) buf_append_str(&b, "This sentence has exactly forty bytes ok. ");
    size_t *ends, start = 0;
    uint32_t count;
    chunker_cut(buf_bytes(&b), 600, &ends, &count);
    for (uint32_t i = 0; i + 1 < count; i++) {
        CHECK(ends[i] % 42 == 0 && ends[i] - start <= 600 && ends[i] - start > 500);
        start = ends[i];
    }
    mem_free(ends);
    buf_free(&b);
}

/* Would take hours if any part were quadratic; the test's own time limit is the check. */
static void large_texts(void)
{
    static const char *const KINDS[] = {"!", " ", "\n", "a", ". ", "\xE4\xBD\xA0", "A line. \n",
        "\xE2\x80\x9D"};
    for (size_t k = 0; k < sizeof KINDS / sizeof *KINDS; k++) {
        buf b;
        buf_init(&b, 16 << 20);
        while (b.size < (8 << 20)) buf_append_str(&b, KINDS[k]);
        check_partition(buf_bytes(&b), 600);
        buf_free(&b);
    }
}

int main(void)
{
    RUN(sentences_end_where_people_end_them);
    RUN(chunks_partition_any_text);
    RUN(long_sentences_are_cut_at_white_space);
    RUN(whole_sentences_up_to_the_target);
    RUN(large_texts);
    return DONE();
}
