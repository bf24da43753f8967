/* tokenizer: open, close, encode, and the tables. See tokenizer_internal.h for the other parts. */
#include "tokenizer_internal.h"

#include <string.h>

/* ---- tables --------------------------------------------------------------------------------- */
uint32_t tokenizer_hash(bytes text)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < text.size; i++) h = (h ^ text.data[i]) * 0x100000001B3u;
    return (uint32_t)(h ^ h >> 32);
}

int64_t tokenizer_lookup(const tokenizer *t, bytes text)
{
    size_t mask = t->by_text_slots - 1;
    for (size_t i = tokenizer_hash(text) & mask; t->by_text[i] != 0; i = (i + 1) & mask) {
        const token_entry *e = &t->tokens[t->by_text[i] - 1];
        if (bytes_equal(bytes_of(t->strings.data + e->text_at, e->text_size), text))
            return (int64_t)t->by_text[i] - 1;
    }
    return -1;
}

/* Bytes that are visible in Latin-1 stand for themselves, the others are numbered from U+0100. */
static bool is_visible(uint32_t byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
}

uint32_t tokenizer_symbol_of_byte(uint8_t byte)
{
    if (is_visible(byte)) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    return byte == 0xAD ? 0x143u : 0x121u + (byte - 0x7Fu);
}

int tokenizer_byte_of_symbol(uint32_t cp)
{
    if (cp <= 0xFF) return is_visible(cp) ? (int)cp : -1;
    if (cp < 0x100 || cp > 0x143) return -1;
    if (cp <= 0x120) return (int)(cp - 0x100);
    return cp == 0x143 ? 0xAD : (int)(cp - 0x121 + 0x7F);
}

/* ---- open, close, look up ------------------------------------------------------------------- */
result tokenizer_open(tokenizer **out, bytes tokenizer_json)
{
    tokenizer *t = mem_alloc(sizeof *t);
    buf_init(&t->strings, UINT32_MAX);
    result r = tokenizer_load(t, tokenizer_json);
    if (!is_ok(r)) tokenizer_close(&t);
    *out = t;
    return r;
}

void tokenizer_close(tokenizer **t)
{
    tokenizer *x = *t;
    if (x == NULL) return;
    for (size_t i = 0; i < x->split_count; i++) pcre2_code_free(x->splits[i]);
    pcre2_code_free(x->words);
    added_trie_free(&x->trie_raw);
    added_trie_free(&x->trie_normalized);
    mem_free(x->added);
    mem_free(x->merges);
    mem_free(x->by_text);
    mem_free(x->tokens);
    buf_free(&x->strings);
    mem_free(x);
    *t = NULL;
}

uint32_t tokenizer_size(const tokenizer *t)
{
    return t->size;
}

bytes tokenizer_token(const tokenizer *t, uint32_t id)
{
    if (id >= t->size) return bytes_of("", 0);
    return bytes_of(t->strings.data + t->tokens[id].raw_at, t->tokens[id].raw_size);
}

int64_t tokenizer_find(const tokenizer *t, const char *token)
{
    return tokenizer_lookup(t, bytes_str(token));
}

bool tokenizer_is_special(const tokenizer *t, uint32_t id)
{
    for (size_t i = 0; i < t->added_count; i++)
        if (t->added[i].id == id) return t->added[i].special;
    return false;
}

/* ---- encode --------------------------------------------------------------------------------- */
typedef struct {
    const tokenizer *t;
    bool specials;
    bpe_scratch *scratch;
    buf spelled;                           /* a word as the vocabulary writes it */
    uint32_t *ids;
    size_t count, capacity;
} encoding;

static void push(encoding *e, const uint32_t *ids, size_t count)
{
    if (e->count + count > e->capacity) {
        size_t capacity = 2 * e->capacity + count + 256;
        uint32_t *grown = mem_alloc_array(capacity, sizeof *grown);
        if (e->count > 0) {
            memcpy(grown, e->ids, e->count * sizeof *grown);
            mem_wipe(e->ids, e->count * sizeof *e->ids);
        }
        mem_free(e->ids);
        e->ids = grown;
        e->capacity = capacity;
    }
    memcpy(e->ids + e->count, ids, count * sizeof *ids);
    e->count += count;
}

/* The whole word as one token of the model's vocabulary, or -1. */
static int64_t whole_word(encoding *e, bytes word)
{
    if (word.size > TOKENIZER_WHOLE_WORD_MAX_BYTES) return -1;
    buf_clear(&e->spelled);
    for (size_t i = 0; i < word.size; i++) {
        uint8_t symbol[4];
        size_t size = utf8_encode(tokenizer_symbol_of_byte(word.data[i]), symbol);
        buf_append(&e->spelled, symbol, size);
    }
    int64_t id = tokenizer_lookup(e->t, buf_bytes(&e->spelled));
    return id < (int64_t)e->t->vocab_size ? id : -1;
}

static result encode_word(void *ctx, bytes word)
{
    encoding *e = ctx;
    int64_t whole = e->t->ignore_merges ? whole_word(e, word) : -1;
    if (whole >= 0) {
        uint32_t id = (uint32_t)whole;
        push(e, &id, 1);
        return OK;
    }
    const uint32_t *ids;
    size_t count = bpe_word(e->t, e->scratch, word, &ids);
    push(e, ids, count);
    return OK;
}

/* The ByteLevel step: a space in front if asked for, then words. */
static result encode_byte_level(encoding *e, bytes piece)
{
    const tokenizer *t = e->t;
    buf spaced;
    buf_init(&spaced, piece.size + 1);
    if (t->prefix_space && piece.data[0] != ' ') {
        buf_append_u8(&spaced, ' ');
        buf_append(&spaced, piece.data, piece.size);
        piece = buf_bytes(&spaced);
    }
    result r = t->words ? pattern_split(t->words, piece, encode_word, e) : encode_word(e, piece);
    buf_free(&spaced);
    return r;
}

typedef struct { encoding *e; size_t level; } split_level;

/* Cuts a piece by the splits from `level` on. */
static result encode_piece(void *ctx, bytes piece)
{
    const split_level *at = ctx;
    if (at->level == at->e->t->split_count) return encode_byte_level(at->e, piece);
    split_level next = {at->e, at->level + 1};
    return pattern_split(at->e->t->splits[at->level], piece, encode_piece, &next);
}

static result encode_normalized(void *ctx, int64_t id, bytes piece)
{
    encoding *e = ctx;
    if (id < 0) return encode_piece(&(split_level){e, 0}, piece);
    uint32_t token = (uint32_t)id;
    push(e, &token, 1);
    return OK;
}

static result encode_raw(void *ctx, int64_t id, bytes piece)
{
    encoding *e = ctx;
    const tokenizer *t = e->t;
    if (id >= 0) return encode_normalized(ctx, id, piece);
    const added_trie *trie = &t->trie_normalized;
    if (!t->nfc) return added_split(t, trie, piece, e->specials, encode_normalized, e);
    buf normalized;
    buf_init(&normalized, 4 * piece.size);
    unicode_nfc(piece, &normalized);
    result r = buf_check(&normalized);
    bytes whole = buf_bytes(&normalized);
    if (is_ok(r)) r = added_split(t, trie, whole, e->specials, encode_normalized, e);
    buf_free(&normalized);
    return r;
}

result tokenizer_encode(const tokenizer *t, bytes text, bool specials, arena *a, uint32_t **ids,
                        size_t *count)
{
    if (text.size > TOKENIZER_TEXT_MAX_BYTES)
        return fail(E_INVALID, "text of %zu bytes is too long to encode at once (at most %d)",
                    text.size, TOKENIZER_TEXT_MAX_BYTES);
    if (!utf8_valid(text)) return fail(E_INVALID, "text is not valid UTF-8");
    encoding e = {.t = t, .specials = specials};
    buf_init(&e.spelled, 2 * TOKENIZER_WHOLE_WORD_MAX_BYTES);
    bpe_open(&e.scratch);
    result r = added_split(t, &t->trie_raw, text, specials, encode_raw, &e);
    bpe_close(&e.scratch);
    buf_free(&e.spelled);
    if (is_ok(r)) {
        *ids = arena_alloc_array(a, e.count ? e.count : 1, sizeof **ids);
        *count = e.count;
        if (*ids == NULL) r = arena_check(a);
        else if (e.count > 0) memcpy(*ids, e.ids, e.count * sizeof **ids);
    }
    if (e.count > 0) mem_wipe(e.ids, e.count * sizeof *e.ids);
    mem_free(e.ids);
    return r;
}
