/* tokenizer: what its source files share. See include/model.h for the contract.
 *
 *   tokenizer_json.c     tokenizer.json -> the tables below; every refusal is there
 *   tokenizer_unicode.c  NFC, white space and word characters as the reference library has them
 *   tokenizer_pattern.c  the pre-tokenizer's patterns, translated for PCRE2
 *   tokenizer_added.c    added tokens: finding them in text
 *   tokenizer_bpe.c      merging one word
 *   tokenizer.c          open, close, encode, token bytes
 *
 * The reference is Hugging Face's `tokenizers`: ids must be equal, also where its Unicode tables
 * are older or newer than Debian's. */
#ifndef LETHE_TOKENIZER_INTERNAL_H
#define LETHE_TOKENIZER_INTERNAL_H

#include "model.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum {
    TOKENIZER_JSON_MAX_BYTES = 64 << 20,
    TOKENIZER_TEXT_MAX_BYTES = 16 << 20,  /* scratch of one word: 52 bytes a byte */
    TOKENIZER_IDS_MAX = 1 << 22,
    TOKENIZER_ADDED_MAX_BYTES = 512,       /* one added token: bounds the cost of a position */
    TOKENIZER_SPLITS_MAX = 8,
    TOKENIZER_PATTERN_MAX_BYTES = 4096,
    TOKENIZER_TOKEN_MAX_BYTES = 4096,      /* as written in the file */
    TOKENIZER_WHOLE_WORD_MAX_BYTES = TOKENIZER_TOKEN_MAX_BYTES
};

typedef struct {
    uint32_t text_at, text_size;           /* as written in the file, in t->strings */
    uint32_t raw_at, raw_size;             /* the bytes it stands for, in t->strings */
} token_entry;

/* One pair that may merge. Slots of an open-addressed table; a power of two of them. */
typedef struct { uint32_t left, right, rank, id; } merge_slot;
#define MERGE_EMPTY UINT32_MAX             /* in rank */

typedef struct {
    uint32_t id;
    bool special, lstrip, rstrip, single_word, normalized;
} added_token;

/* Byte trie of added tokens; node 0 is the root and stands for "none" as a child or sibling. */
typedef struct { uint32_t child, sibling; int32_t added; uint8_t byte; } trie_node;
typedef struct { trie_node *nodes; size_t count, capacity; uint32_t root[256]; } added_trie;

struct tokenizer {
    uint32_t size;                         /* ids are 0..size-1 */
    uint32_t vocab_size;                   /* of these, the model's own are 0..vocab_size-1 */
    token_entry *tokens;                   /* [size] */
    buf strings;
    uint32_t *by_text;                     /* id + 1 or 0; open-addressed by the text's hash */
    size_t by_text_slots;
    merge_slot *merges;
    size_t merge_slots;
    uint32_t byte_ids[256];                /* token of each single byte */
    added_token *added;
    size_t added_count;
    added_trie trie_raw, trie_normalized;  /* searched before and after normalising */
    bool nfc, ignore_merges, prefix_space;
    pcre2_code *splits[TOKENIZER_SPLITS_MAX];       /* applied one after the other, */
    size_t split_count;
    pcre2_code *words;                     /* then ByteLevel's own, NULL with use_regex false */
};

/* ---- tokenizer_json.c */
MUST_USE result tokenizer_load(tokenizer *t, bytes json);

/* ---- tokenizer.c: the tables */
uint32_t tokenizer_hash(bytes text);
/* The id of a text, or -1. */
int64_t tokenizer_lookup(const tokenizer *t, bytes text);
/* The code point that byte-level BPE writes for a byte, and back (-1: none). */
uint32_t tokenizer_symbol_of_byte(uint8_t byte);
int tokenizer_byte_of_symbol(uint32_t cp);

/* ---- tokenizer_unicode.c */
bool unicode_is_space(uint32_t cp);        /* White_Space */
bool unicode_is_word(uint32_t cp);         /* \w of Unicode TR18 */
/* Appends NFC(text); text is valid UTF-8. Linear but for runs of marks: n log n. */
void unicode_nfc(bytes text, buf *out);
/* Inside of a character class for \s, \p{L}, \p{N} (kind s, L, N), as PCRE2 writes it. */
const char *unicode_class(char kind);

/* ---- tokenizer_pattern.c */
extern const char *const pattern_gpt2;
/* Compiles a pattern in the reference's syntax. E_INVALID: not supported, or may match the empty
 * text. */
MUST_USE result pattern_compile(const char *pattern, size_t size, pcre2_code **out);
typedef result piece_fn(void *ctx, bytes piece);
/* Cuts text into matches and what lies between them, in order. */
MUST_USE result pattern_split(const pcre2_code *code, bytes text, piece_fn *piece, void *ctx);

/* ---- tokenizer_added.c */
/* E_INVALID: the text is there already. */
MUST_USE result added_trie_insert(added_trie *trie, bytes text, uint32_t added);
void added_trie_free(added_trie *trie);
/* added -1: text between added tokens. */
typedef result added_fn(void *ctx, int64_t id, bytes piece);
MUST_USE result added_split(const tokenizer *t, const added_trie *trie, bytes text, bool specials,
                            added_fn *piece, void *ctx);

/* ---- tokenizer_bpe.c */
typedef struct bpe_scratch bpe_scratch;
void bpe_open(bpe_scratch **out);
void bpe_close(bpe_scratch **s);           /* wipes */
const merge_slot *bpe_merge_find(const tokenizer *t, uint32_t left, uint32_t right);
/* Tokens of one word: ids are borrowed until the next call. O(n log n). */
size_t bpe_word(const tokenizer *t, bpe_scratch *s, bytes word, const uint32_t **ids);

#endif
