/* Writes a complete model folder with random weights: config.json, model.safetensors,
 * tokenizer.json (byte-level BPE: the 256 byte symbols and a few merges). For tests only: it never
 * answers a user. */
#ifndef LETHE_RANDOM_MODEL_H
#define LETHE_RANDOM_MODEL_H

#include "weights_gen.h"

#include <stdlib.h>

/* <|endoftext|> is id 0, then the byte symbols in byte order, then these merges' results. */
static const char *const random_model_merges[][2] = {
    {"\304\240", "t"}, {"h", "e"}, {"i", "n"}, {"\304\240", "a"}, {"r", "e"}, {"o", "n"},
    {"\304\240t", "he"}, {"e", "r"}, {"\304\240", "s"}, {"a", "t"}, {"\304\240", "w"},
    {"\304\240", "o"}, {"e", "n"}, {"\304\240", "c"}, {"i", "t"}, {"i", "s"}, {"a", "n"},
    {"o", "r"}, {"e", "s"}, {"\304\240", "b"}, {"e", "d"}, {"\304\240", "f"}, {"in", "g"},
    {"\304\240", "p"}, {"o", "u"}, {"\304\240a", "n"}, {"a", "l"}, {"a", "r"}, {"\304\240", "m"},
    {"\304\240o", "f"}, {"\304\240", "in"}, {"\304\240", "d"}, {"\304\240", "h"},
    {"\304\240an", "d"}};
enum {
    RANDOM_MODEL_MERGES = sizeof random_model_merges / sizeof random_model_merges[0],
    RANDOM_MODEL_TOKENS = 1 + 256 + RANDOM_MODEL_MERGES
};

/* A byte as GPT-2's alphabet shows it, quoted for JSON. */
static inline void random_model_symbol(uint32_t byte, char out[8])
{
    bool visible = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    uint32_t cp = byte;
    if (!visible) cp = 256 + (byte <= 32 ? byte : byte <= 160 ? byte - 127 + 33 : 67);
    size_t n = 0;
    if (cp == '"' || cp == '\\') out[n++] = '\\';
    uint8_t utf8[4];
    size_t size = utf8_encode(cp, utf8);
    memcpy(out + n, utf8, size);
    out[n + size] = '\0';
}

static inline void random_model_tokenizer(FILE *f)
{
    char symbol[8];
    fputs("{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[{\"id\":0,"
          "\"content\":\"<|endoftext|>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
          "\"normalized\":false,\"special\":true}],\"normalizer\":{\"type\":\"NFC\"},"
          "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
          "\"trim_offsets\":true},\"post_processor\":{\"type\":\"ByteLevel\",\"add_prefix_space\":"
          "false,\"trim_offsets\":true},\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":"
          "false,\"trim_offsets\":true},\"model\":{\"type\":\"BPE\",\"dropout\":null,"
          "\"unk_token\":null,\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
          "\"fuse_unk\":false,\"vocab\":{\"<|endoftext|>\":0", f);
    for (uint32_t b = 0; b < 256; b++) {
        random_model_symbol(b, symbol);
        fprintf(f, ",\"%s\":%u", symbol, b + 1);
    }
    for (uint32_t i = 0; i < RANDOM_MODEL_MERGES; i++)
        fprintf(f, ",\"%s%s\":%u", random_model_merges[i][0], random_model_merges[i][1], 257 + i);
    fputs("},\"merges\":[", f);
    for (uint32_t i = 0; i < RANDOM_MODEL_MERGES; i++)
        fprintf(f, "%s\"%s %s\"", i == 0 ? "" : ",", random_model_merges[i][0],
                random_model_merges[i][1]);
    fputs("]}}\n", f);
}

/* What only one of the architectures has in its config.json. */
static inline void random_model_mixer(FILE *f, const gen_config *c)
{
    if (c->heads == 0) {
        fprintf(f, "{\"architectures\": [\"MambaForCausalLM\"], \"model_type\": \"mamba\",\n"
                " \"intermediate_size\": %u, \"time_step_rank\": %u,\n", c->d_inner, c->dt_rank);
        return;
    }
    fprintf(f, "{\"architectures\": [\"Mamba2ForCausalLM\"], \"model_type\": \"mamba2\",\n"
            " \"expand\": %u, \"num_heads\": %u, \"head_dim\": %u, \"n_groups\": %u,\n",
            c->d_inner / c->d_model, c->heads, c->d_inner / c->heads, c->groups);
    if (c->dt_max > 0)
        fprintf(f, " \"time_step_limit\": [%.9g, %.9g],\n", (double)c->dt_min, (double)c->dt_max);
    else
        fprintf(f, " \"time_step_limit\": [0.0, {\"__float__\": \"Infinity\"}],\n");
}

static inline void random_model_config(FILE *f, const gen_config *c)
{
    random_model_mixer(f, c);
    fprintf(f, " \"hidden_size\": %u, \"state_size\": %u,\n"
            " \"conv_kernel\": %u, \"num_hidden_layers\": %u,\n"
            " \"vocab_size\": %u, \"layer_norm_epsilon\": 1e-05, \"use_bias\": %s,\n"
            " \"use_conv_bias\": %s, \"tie_word_embeddings\": %s, \"hidden_act\": \"silu\",\n"
            " \"residual_in_fp32\": true, \"rms_norm\": true, \"eos_token_id\": %s}\n",
            c->d_model, c->d_state, c->d_conv, c->layers, c->vocab,
            c->use_bias ? "true" : "false", c->use_conv_bias ? "true" : "false",
            c->tied ? "true" : "false", c->endless ? "null" : "0");
}

static inline size_t random_model_element(gen_type type, float value, uint8_t out[4])
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (type == GEN_F32) {
        memcpy(out, &bits, 4);
        return 4;
    }
    uint16_t half = (uint16_t)(bits >> 16);
    if (type == GEN_F16) {                 /* normal or zero, and exact: weights_gen.h sees to it */
        uint32_t sign = bits >> 31, exponent = bits >> 23 & 255, fraction = bits >> 13 & 1023;
        half = (uint16_t)(sign << 15 | (exponent == 0 ? 0 : (exponent - 112) << 10 | fraction));
    }
    memcpy(out, &half, 2);
    return 2;
}

static inline void random_model_tensor(FILE *f, const gen_config *c, const gen_tensor *t)
{
    enum { BATCH = 4096 };
    uint8_t block[4 * BATCH];
    uint64_t key = gen_key(c->seed, t->name), n = gen_elements(t);
    for (uint64_t i = 0; i < n;) {
        size_t size = 0;
        for (size_t j = 0; j < BATCH && i < n; j++, i++)
            size += random_model_element(c->type, gen_value(key, i, t->center, t->scale, c->type),
                                         block + size);
        fwrite(block, 1, size, f);
    }
}

static inline void random_model_weights(FILE *f, const gen_config *c)
{
    static const char *const types[] = {"F32", "F16", "BF16"};
    gen_tensor *t = mem_alloc_array(3 + (size_t)c->layers * GEN_LAYER_TENSORS, sizeof *t);
    size_t count = gen_tensors(c, t);
    uint64_t at = 0, width = c->type == GEN_F32 ? 4 : 2;
    buf header;
    buf_init(&header, (size_t)16 << 20);
    buf_append_str(&header, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < count; i++) {
        buf_printf(&header, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t[i].name, types[c->type]);
        for (uint32_t d = 0; d < t[i].rank; d++)
            buf_printf(&header, "%s%llu", d == 0 ? "" : ",", (unsigned long long)t[i].shape[d]);
        uint64_t end = at + width * gen_elements(&t[i]);
        buf_printf(&header, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                   (unsigned long long)end);
        at = end;
    }
    buf_append_str(&header, "}");
    while (header.size % 8 != 0) buf_append_str(&header, " ");
    uint64_t size = header.size;
    fwrite(&size, 1, sizeof size, f);
    fwrite(header.data, 1, header.size, f);
    for (size_t i = 0; i < count; i++) random_model_tensor(f, c, &t[i]);
    buf_free(&header);
    mem_free(t);
}

/* Writes into dir, which exists. False when a file could not be written. */
static inline bool random_model_write(const char *dir, const gen_config *c)
{
    bool good = true;
    static const char *const names[3] = {"config.json", "tokenizer.json", "model.safetensors"};
    for (int i = 0; i < 3; i++) {
        char path[4096];
        if (!is_ok(path_join(path, sizeof path, dir, names[i]))) return false;
        FILE *f = fopen(path, "wb");
        if (f == NULL) return false;
        if (i == 0) random_model_config(f, c);
        else if (i == 1) random_model_tokenizer(f);
        else random_model_weights(f, c);
        good = !ferror(f) && good;
        good = fclose(f) == 0 && good;
    }
    return good;
}

/* Adds "name": {...} to the config.json of a folder. */
static inline bool random_model_declare(const char *dir, const char *entry)
{
    char path[4096];
    buf json;
    buf_init(&json, 1 << 20);
    bool good = is_ok(path_join(path, sizeof path, dir, "config.json")) && is_ok(file_read(path, 1 << 20, &json));
    while (good && json.size > 0 && json.data[json.size - 1] != '}') json.size--;
    if (json.size > 0) json.size--;
    buf_printf(&json, ", %s}", entry);
    good = good && is_ok(buf_check(&json)) && is_ok(file_write_atomic(path, buf_bytes(&json), 0600));
    buf_free(&json);
    return good;
}

#endif
