#include "internal.h"

#include <stdio.h>
#include <string.h>

bytes bytes_str(const char *s)
{
    return bytes_of(s, strlen(s));
}

bool bytes_equal(bytes a, bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

void buf_init(buf *b, size_t limit)
{
    *b = (buf){.limit = limit < SIZE_MAX / 4 ? limit : SIZE_MAX / 4};
}

void buf_free(buf *b)
{
    if (b->data != NULL) mem_wipe(b->data, b->size);
    mem_free(b->data);
    *b = (buf){.limit = b->limit};
}

void buf_clear(buf *b)
{
    if (b->data != NULL) mem_wipe(b->data, b->size);
    b->size = 0;
    b->bad = false;
}

/* No realloc: it would leave an unwiped copy behind. */
static bool reserve(buf *b, size_t n)
{
    if (b->bad) return false;
    if (b->size > b->limit || n > b->limit - b->size) {
        b->bad = true;
        return false;
    }
    size_t need = b->size + n;
    if (b->data != NULL && need <= b->capacity) return true;
    size_t capacity = b->capacity < 32 ? 64 : b->capacity * 2;
    if (capacity > b->limit) capacity = b->limit;
    if (capacity < need) capacity = need;
    uint8_t *data = mem_alloc(capacity + 1);
    if (b->size > 0) memcpy(data, b->data, b->size);
    if (b->data != NULL) mem_wipe(b->data, b->size);
    mem_free(b->data);
    b->data = data;
    b->capacity = capacity;
    return true;
}

uint8_t *buf_extend(buf *b, size_t n)
{
    if (!reserve(b, n)) return NULL;
    uint8_t *at = b->data + b->size;
    memset(at, 0, n + 1);
    b->size += n;
    return at;
}

void buf_append(buf *b, const void *p, size_t n)
{
    if (!reserve(b, n)) return;
    if (n > 0) memcpy(b->data + b->size, p, n);
    b->size += n;
    b->data[b->size] = 0;
}

void buf_append_str(buf *b, const char *s)
{
    buf_append(b, s, strlen(s));
}

static void append_little(buf *b, uint64_t v, size_t n)
{
    uint8_t raw[8];
    for (size_t i = 0; i < n; i++) raw[i] = (uint8_t)(v >> (8 * i));
    buf_append(b, raw, n);
}

void buf_append_u8(buf *b, uint8_t v) { append_little(b, v, 1); }
void buf_append_u16(buf *b, uint16_t v) { append_little(b, v, 2); }
void buf_append_u32(buf *b, uint32_t v) { append_little(b, v, 4); }
void buf_append_u64(buf *b, uint64_t v) { append_little(b, v, 8); }

void buf_printf(buf *b, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0) b->bad = true;
    else if (reserve(b, (size_t)n)) {
        vsnprintf((char *)b->data + b->size, (size_t)n + 1, fmt, again);
        b->size += (size_t)n;
    }
    va_end(again);
}

result buf_check(const buf *b)
{
    return b->bad ? fail(E_EXHAUSTED, "more than %zu bytes", b->limit) : OK;
}

reader reader_of(bytes b)
{
    return (reader){b.data, b.size, 0, false};
}

const uint8_t *reader_take(reader *r, size_t n)
{
    static const uint8_t nothing[1];
    if (r->bad || n > r->size - r->at) {
        r->bad = true;
        return NULL;
    }
    if (n == 0) return r->data == NULL ? nothing : r->data + r->at;
    const uint8_t *p = r->data + r->at;
    r->at += n;
    return p;
}

static uint64_t read_little(reader *r, size_t n)
{
    const uint8_t *p = reader_take(r, n);
    uint64_t v = 0;
    for (size_t i = 0; p != NULL && i < n; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}

uint8_t reader_u8(reader *r) { return (uint8_t)read_little(r, 1); }
uint16_t reader_u16(reader *r) { return (uint16_t)read_little(r, 2); }
uint32_t reader_u32(reader *r) { return (uint32_t)read_little(r, 4); }
uint64_t reader_u64(reader *r) { return read_little(r, 8); }

result reader_done(const reader *r, const char *what)
{
    if (r->bad) return fail(E_DATA_LOSS, "%s is too short", what);
    if (r->at != r->size) return fail(E_DATA_LOSS, "%s has bytes left over", what);
    return OK;
}
