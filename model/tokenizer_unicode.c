/* Characters as the reference library sees them. Its tables are of other Unicode versions than
 * Debian's libraries, and ids must agree on every valid text:
 *
 *   normaliser      Unicode 9: later combining marks are left where they stand (utf8proc 2.8: 15)
 *   \p{L} and \p{N} Unicode 16 (PCRE2 10.42: 14): the difference is added to each class
 *   \s              White_Space (PCRE2 also takes U+180E)
 *
 * Found by asking both sides about every code point, alone and beside marks. */
#include "tokenizer_internal.h"

#include <stdlib.h>
#include <utf8proc.h>

typedef struct { uint32_t first, last; } range;

static bool in_ranges(const range *ranges, size_t count, uint32_t cp)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (cp < ranges[middle].first) high = middle;
        else if (cp > ranges[middle].last) low = middle + 1;
        else return true;
    }
    return false;
}

/* ---- classes -------------------------------------------------------------------------------- */
#define CLASS_SPACE "\\x{9}-\\x{D} \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}" \
    "\\x{202F}\\x{205F}\\x{3000}"
/* Letters and numbers that came with Unicode 15, 15.1 and 16. */
#define CLASS_LETTER "\\p{L}" \
    "\\x{1C89}-\\x{1C8A}\\x{A7CB}-\\x{A7CD}\\x{A7DA}-\\x{A7DC}\\x{105C0}-\\x{105F3}" \
    "\\x{10D4A}-\\x{10D65}\\x{10D6F}-\\x{10D85}\\x{10EC2}-\\x{10EC4}\\x{1123F}-\\x{11240}" \
    "\\x{11380}-\\x{11389}\\x{1138B}\\x{1138E}\\x{11390}-\\x{113B5}\\x{113B7}\\x{113D1}" \
    "\\x{113D3}\\x{11BC0}-\\x{11BE0}\\x{11F02}\\x{11F04}-\\x{11F10}\\x{11F12}-\\x{11F33}" \
    "\\x{1342F}\\x{13441}-\\x{13446}\\x{13460}-\\x{143FA}\\x{16100}-\\x{1611D}" \
    "\\x{16D40}-\\x{16D6C}\\x{18CFF}\\x{1B132}\\x{1B155}\\x{1DF25}-\\x{1DF2A}" \
    "\\x{1E030}-\\x{1E06D}\\x{1E4D0}-\\x{1E4EB}\\x{1E5D0}-\\x{1E5ED}\\x{1E5F0}\\x{2B739}" \
    "\\x{2EBF0}-\\x{2EE5D}\\x{31350}-\\x{323AF}"
#define CLASS_NUMBER "\\p{N}" \
    "\\x{10D40}-\\x{10D49}\\x{116D0}-\\x{116E3}\\x{11BF0}-\\x{11BF9}\\x{11F50}-\\x{11F59}" \
    "\\x{16130}-\\x{16139}\\x{16D70}-\\x{16D79}\\x{1CCF0}-\\x{1CCF9}\\x{1D2C0}-\\x{1D2D3}" \
    "\\x{1E4F0}-\\x{1E4F9}\\x{1E5F1}-\\x{1E5FA}"

const char *unicode_class(char kind)
{
    return kind == 's' ? CLASS_SPACE : kind == 'L' ? CLASS_LETTER : CLASS_NUMBER;
}

bool unicode_is_space(uint32_t cp)
{
    return (cp >= 9 && cp <= 13) || cp == 0x20 || cp == 0x85 || cp == 0xA0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F ||
           cp == 0x205F || cp == 0x3000;
}

/* Symbols with the property Alphabetic (circled and squared letters), and the joiners. */
static const range word_symbols[] = {
    {0x200C, 0x200D}, {0x24B6, 0x24E9}, {0x1F130, 0x1F149}, {0x1F150, 0x1F169}, {0x1F170, 0x1F189},
};

bool unicode_is_word(uint32_t cp)
{
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM: case UTF8PROC_CATEGORY_LO: case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC: case UTF8PROC_CATEGORY_ME: case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL: case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return in_ranges(word_symbols, sizeof word_symbols / sizeof *word_symbols, cp);
    }
}

/* ---- NFC ------------------------------------------------------------------------------------ */
/* Characters newer than Unicode 9 that utf8proc would reorder or compose. The reference takes them
 * for starters that compose with nothing, so a text falls apart at them: each side on its own. And
 * U+11A7, no trailing consonant, which utf8proc 2.8 swallows behind a Hangul syllable. */
static const range nfc_unknown[] = {
    {0x7FD, 0x7FD}, {0x898, 0x89F}, {0x8CA, 0x8D3}, {0x9FE, 0x9FE}, {0xC3C, 0xC3C},
    {0xD3B, 0xD3C}, {0xEBA, 0xEBA},
    {0x11A7, 0x11A7}, {0x1715, 0x1715}, {0x1ABF, 0x1ACE}, {0x1DF6, 0x1DFA},
    {0xA82C, 0xA82C}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF},
    {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B},
    {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11930, 0x11930}, {0x11935, 0x11935},
    {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34},
    {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45},
    {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F},
    {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
};

static bool is_unknown(uint32_t cp)
{
    return cp > 0x7FC && in_ranges(nfc_unknown, sizeof nfc_unknown / sizeof *nfc_unknown, cp);
}

typedef struct { uint32_t ccc, at; utf8proc_int32_t cp; } mark;

static int mark_order(const void *a, const void *b)
{
    const mark *x = a, *y = b;
    if (x->ccc != y->ccc) return x->ccc < y->ccc ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static uint32_t combining_class(utf8proc_int32_t cp)
{
    return (uint32_t)utf8proc_get_property(cp)->combining_class;
}

/* Canonical ordering of cps (n) in place. utf8proc's own is quadratic in a run of marks. */
static void reorder(utf8proc_int32_t *cps, size_t n)
{
    for (size_t i = 0; i < n;) {
        if (cps[i] < 0x300 || combining_class(cps[i]) == 0) {
            i++;
            continue;
        }
        size_t end = i;
        bool sorted = true;
        for (; end < n && combining_class(cps[end]) != 0; end++)
            if (end > i && combining_class(cps[end]) < combining_class(cps[end - 1]))
                sorted = false;
        if (!sorted) {
            mark *marks = mem_alloc_array(end - i, sizeof *marks);
            for (size_t k = i; k < end; k++)
                marks[k - i] = (mark){combining_class(cps[k]), (uint32_t)k, cps[k]};
            qsort(marks, end - i, sizeof *marks, mark_order);
            for (size_t k = i; k < end; k++) cps[k] = marks[k - i].cp;
            mem_wipe(marks, (end - i) * sizeof *marks);
            mem_free(marks);
        }
        i = end;
    }
}

/* NFC of text without unknown characters. */
static void normalize_part(bytes text, buf *out)
{
    /* A character of two bytes gives at most 3 code points, one of three at most 4. */
    size_t capacity = 2 * text.size + 4, count = 0;
    utf8proc_int32_t *cps = mem_alloc_array(capacity, sizeof *cps);
    for (size_t at = 0; at < text.size;) {
        int last_boundclass = 0;
        utf8proc_int32_t cp = (utf8proc_int32_t)utf8_next(text, &at);
        utf8proc_ssize_t n = utf8proc_decompose_char(cp, cps + count,
            (utf8proc_ssize_t)(capacity - count), UTF8PROC_DECOMPOSE, &last_boundclass);
        ASSERT(n > 0 && (size_t)n <= capacity - count);
        count += (size_t)n;
    }
    reorder(cps, count);
    utf8proc_ssize_t left = utf8proc_normalize_utf32(cps, (utf8proc_ssize_t)count,
                                                     UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    ASSERT(left >= 0 && (size_t)left <= count);
    for (utf8proc_ssize_t i = 0; i < left; i++) {
        uint8_t encoded[4];
        buf_append(out, encoded, utf8_encode((uint32_t)cps[i], encoded));
    }
    mem_wipe(cps, capacity * sizeof *cps);
    mem_free(cps);
}

void unicode_nfc(bytes text, buf *out)
{
    size_t start = 0, at = 0;
    bool plain = true;                     /* below U+0300 NFC changes nothing */
    while (at < text.size) {
        size_t before = at;
        uint32_t cp = utf8_next(text, &at);
        if (cp >= 0x300) plain = false;
        if (!is_unknown(cp)) continue;
        normalize_part(bytes_of(text.data + start, before - start), out);
        buf_append(out, text.data + before, at - before);
        start = at;
    }
    if (plain) buf_append(out, text.data, text.size);
    else normalize_part(bytes_of(text.data + start, text.size - start), out);
}
