/* A tiny embedder for tests: some words, vectors from a counter-based generator. */
#ifndef LETHE_TINY_EMBEDDER_H
#define LETHE_TINY_EMBEDDER_H

#include "base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TINY_DIM = 24 };
typedef enum { TINY_F32, TINY_I8, TINY_WEIGHTED, TINY_SHORT } tiny_layout;

static const char *const TINY_WORDS[] = {"[PAD]", "[UNK]", "the", "river", "garden", "stone",
    "music",
    "engine", "winter", "paper", "harbour", "copper", "valley", "signal", "mirror", "anchor",
        "cloud",
    "secret", "public", "shared", "ada", "bob", "flows", "under", "bridge", "blue", "red", "alpha",
        "beta"};
enum { TINY_COUNT = sizeof TINY_WORDS / sizeof *TINY_WORDS };

static inline float tiny_value(uint32_t row, uint32_t d)
{
    uint64_t x = ((uint64_t)row << 32 | d) + 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (float)(int32_t)((x ^ (x >> 31)) >> 32) / 2147483648.0f;
}

static inline void tiny_row(const char *word, float out[TINY_DIM])
{
    for (uint32_t i = 0; i < TINY_COUNT; i++)
        if (strcmp(TINY_WORDS[i], word) == 0)
            for (uint32_t d = 0; d < TINY_DIM; d++) out[d] = tiny_value(i, d);
}

static inline void tiny_must(result r)
{
    if (is_ok(r)) return;
    printf("# tiny embedder: %s\n", r.message);
    abort();
}

static inline void tiny_tokenizer_write(const char *dir)
{
    char path[400];
    buf b;
    buf_init(&b, 1 << 20);
    buf_append_str(&b, "{\"added_tokens\":[],\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":true},"
        "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"model\":{\"type\":\"WordPiece\","
        "\"unk_token\":\"[UNK]\",\"vocab\":{");
    for (uint32_t i = 0; i < TINY_COUNT; i++)
        buf_printf(&b, "%s\"%s\":%u", i ? "," : "", TINY_WORDS[i], i);
    buf_append_str(&b, "}}}");
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    tiny_must(file_write_atomic(path, buf_bytes(&b), 0600));
    buf_free(&b);
}

static inline void tiny_embedder_write(const char *dir, tiny_layout layout)
{
    char path[400], header[600];
    uint32_t rows = layout == TINY_SHORT ? TINY_COUNT - 1 : TINY_COUNT;
    uint32_t size = rows * TINY_DIM * (layout == TINY_I8 ? 1 : 4), at = size;
    buf b;
    int n = snprintf(header, sizeof header, "{\"embeddings\":{\"dtype\":\"%s\",\"shape\":[%u,%d],"
                     "\"data_offsets\":[0,%u]}", layout == TINY_I8 ? "I8" : "F32", rows, TINY_DIM,
                         size);
    if (layout == TINY_WEIGHTED) {
        n += snprintf(header + n, sizeof header - (size_t)n,
                      ",\"mapping\":{\"dtype\":\"I64\",\"shape\":[%d],"
                      "\"data_offsets\":[%u,%u]},\"weights\":{\"dtype\":\"F64\",\"shape\":[%d],"
                      "\"data_offsets\":[%u,%u]}", TINY_COUNT, at, at + 8 * TINY_COUNT, TINY_COUNT,
                      at + 8 * TINY_COUNT, at + 16 * TINY_COUNT);
    }
    n += snprintf(header + n, sizeof header - (size_t)n, "}");
    while (n % 8) header[n++] = ' ';
    buf_init(&b, 1 << 20);
    buf_append_u64(&b, (uint64_t)n);
    buf_append(&b, header, (size_t)n);
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t d = 0; d < TINY_DIM; d++) {
            float v = tiny_value(r, d);
            if (layout == TINY_I8) buf_append_u8(&b, (uint8_t)(int8_t)(v * 127));
            else buf_append(&b, &v, 4);
        }
    for (uint32_t i = 0; layout == TINY_WEIGHTED && i < TINY_COUNT; i++)
        buf_append_u64(&b, TINY_COUNT - 1 - i);
    for (uint32_t i = 0; layout == TINY_WEIGHTED && i < TINY_COUNT; i++) {
        double w = strcmp(TINY_WORDS[i], "river") == 0;
        buf_append(&b, &w, 8);
    }
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    tiny_must(file_write_atomic(path, buf_bytes(&b), 0600));
    buf_free(&b);
    tiny_tokenizer_write(dir);
}

#endif
