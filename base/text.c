#include "base.h"

#include <string.h>

static bool tail(uint8_t c) { return (c & 0xc0) == 0x80; }

/* Length of the well-formed sequence at p (1..4), 0 when there is none: Unicode 15, table 3-7. */
static size_t sequence(const uint8_t *p, size_t n, uint32_t *cp)
{
    if (p[0] < 0x80) {
        *cp = p[0];
        return 1;
    }
    if (p[0] < 0xc2 || p[0] > 0xf4 || n < 2 || !tail(p[1])) return 0;
    if (p[0] < 0xe0) {
        *cp = (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
        return 2;
    }
    if (n < 3 || !tail(p[2])) return 0;
    if (p[0] < 0xf0) {
        *cp = (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
        return *cp < 0x800 || (*cp >= 0xd800 && *cp <= 0xdfff) ? 0 : 3;
    }
    if (n < 4 || !tail(p[3])) return 0;
    *cp = (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 |
          (uint32_t)(p[2] & 0x3f) << 6 | (p[3] & 0x3f);
    return *cp < 0x10000 || *cp > 0x10ffff ? 0 : 4;
}

bool utf8_valid(bytes text)
{
    const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
    size_t at = 0;
    while (at < text.size) {
        uint64_t word;
        while (text.size - at >= sizeof word) {
            memcpy(&word, text.data + at, sizeof word);
            /* any high bit, or any zero byte: the slow way decides */
            if ((word & highs) != 0 || ((word - ones) & ~word & highs) != 0) break;
            at += sizeof word;
        }
        if (at == text.size) break;
        uint32_t cp;
        size_t n = sequence(text.data + at, text.size - at, &cp);
        if (n == 0 || cp == 0) return false;
        at += n;
    }
    return true;
}

uint32_t utf8_next(bytes text, size_t *at)
{
    ASSERT(*at < text.size);
    uint32_t cp = 0xfffd;
    size_t n = sequence(text.data + *at, text.size - *at, &cp);
    if (n == 0) {
        *at += 1;
        return 0xfffd;
    }
    *at += n;
    return cp;
}

size_t utf8_encode(uint32_t cp, uint8_t out[4])
{
    if (cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff)) cp = 0xfffd;
    if (cp < 0x80) {
        out[0] = (uint8_t)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (uint8_t)(0xc0 | cp >> 6);
        out[1] = (uint8_t)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (uint8_t)(0xe0 | cp >> 12);
        out[1] = (uint8_t)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | cp >> 18);
    out[1] = (uint8_t)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (cp & 0x3f));
    return 4;
}

void hex_encode(const uint8_t *p, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * n] = '\0';
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool hex_decode(const char *s, size_t hex_chars, uint8_t *out)
{
    if (hex_chars % 2 != 0) return false;
    for (size_t i = 0; i < hex_chars; i += 2) {
        int high = digit_value(s[i]);
        int low = high < 0 ? -1 : digit_value(s[i + 1]);   /* never past a NUL */
        if (low < 0) return false;
        out[i / 2] = (uint8_t)(high << 4 | low);
    }
    return true;
}
