/* tokenizer.json -> the tables. Whatever would make ids differ from the reference's is refused
 * here, with a sentence that names the part; nothing is guessed. */
#include "tokenizer_internal.h"

#include <cjson/cJSON.h>
#include <string.h>

static result bad(const char *what)
{
    return fail(E_INVALID, "tokenizer: %s", what);
}

static const cJSON *member(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return item != NULL && cJSON_IsNull(item) ? NULL : item;
}

static bool is_type(const cJSON *object, const char *type)
{
    const cJSON *item = member(object, "type");
    return cJSON_IsString(item) && strcmp(item->valuestring, type) == 0;
}

/* A boolean member; absent is *out as it was. */
static result flag(const cJSON *object, const char *name, bool *out)
{
    const cJSON *item = member(object, name);
    if (item == NULL) return OK;
    if (!cJSON_IsBool(item)) return fail(E_INVALID, "tokenizer: \"%s\" is not true or false", name);
    *out = cJSON_IsTrue(item);
    return OK;
}

static result read_id(const cJSON *item, uint32_t *id)
{
    double v = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(v >= 0 && v < TOKENIZER_IDS_MAX) || v != (double)(uint32_t)v)
        return fail(E_INVALID, "tokenizer: an id is no integer in 0..%d", TOKENIZER_IDS_MAX - 1);
    *id = (uint32_t)v;
    return OK;
}

/* ---- normaliser, pre-tokenizer and the rest ------------------------------------------------- */
static result load_normalizer(tokenizer *t, const cJSON *node, int depth)
{
    if (node == NULL || cJSON_IsNull(node)) return OK;
    if (is_type(node, "NFC")) {
        t->nfc = true;
        return OK;
    }
    const cJSON *parts = member(node, "normalizers");
    if (!is_type(node, "Sequence") || !cJSON_IsArray(parts) || depth > 4)
        return bad("the normalizer is neither null, NFC nor a sequence of these");
    const cJSON *part;
    cJSON_ArrayForEach(part, parts) TRY(load_normalizer(t, part, depth + 1));
    return OK;
}

static result load_split(tokenizer *t, const cJSON *node)
{
    const cJSON *behavior = member(node, "behavior"), *pattern = member(node, "pattern");
    const cJSON *regex = member(pattern, "Regex");
    bool invert = false;
    TRY(flag(node, "invert", &invert));
    if (invert || !cJSON_IsString(behavior) || strcmp(behavior->valuestring, "Isolated") != 0)
        return bad("a Split is only known with the behavior Isolated, not inverted");
    if (!cJSON_IsString(regex)) return bad("a Split without a pattern of the kind Regex");
    if (t->split_count == TOKENIZER_SPLITS_MAX) return bad("too many Splits");
    const char *text = regex->valuestring;
    TRY(pattern_compile(text, strlen(text), &t->splits[t->split_count]));
    t->split_count++;
    return OK;
}

static result load_byte_level(tokenizer *t, const cJSON *node)
{
    bool use_regex = true;
    if (member(node, "add_prefix_space") == NULL) return bad("ByteLevel lacks add_prefix_space");
    TRY(flag(node, "add_prefix_space", &t->prefix_space));
    TRY(flag(node, "use_regex", &use_regex));
    if (!use_regex) return OK;
    return pattern_compile(pattern_gpt2, strlen(pattern_gpt2), &t->words);
}

static result load_pre_tokenizer(tokenizer *t, const cJSON *node)
{
    if (is_type(node, "ByteLevel")) return load_byte_level(t, node);
    const cJSON *parts = member(node, "pretokenizers"), *part;
    int left = cJSON_GetArraySize(parts);
    if (!is_type(node, "Sequence") || !cJSON_IsArray(parts) || left == 0)
        return bad("the pre_tokenizer is neither ByteLevel nor a sequence that ends with it");
    cJSON_ArrayForEach(part, parts) {
        if (--left == 0 && is_type(part, "ByteLevel")) return load_byte_level(t, part);
        if (left == 0 || !is_type(part, "Split"))
            return bad("a sequence of pre-tokenizers is only known as Splits, then ByteLevel");
        TRY(load_split(t, part));
    }
    return OK;
}

/* These add tokens around a text, which encode never does, or touch offsets; others are refused. */
static result check_post_processor(const cJSON *node, int depth)
{
    if (node == NULL || is_type(node, "ByteLevel")) return OK;
    if (is_type(node, "TemplateProcessing")) return OK;
    const cJSON *parts = member(node, "processors"), *part;
    if (!is_type(node, "Sequence") || !cJSON_IsArray(parts) || depth > 4)
        return bad("the post_processor is neither ByteLevel nor TemplateProcessing nor both");
    cJSON_ArrayForEach(part, parts) TRY(check_post_processor(part, depth + 1));
    return OK;
}

static result check_settings(const cJSON *root, const cJSON *m)
{
    const cJSON *version = member(root, "version"), *decoder = member(root, "decoder");
    const cJSON *type = member(m, "type"), *dropout = member(m, "dropout");
    bool byte_fallback = false;
    if (version != NULL && (!cJSON_IsString(version) || strcmp(version->valuestring, "1.0") != 0))
        return bad("the version is not 1.0");
    if (decoder != NULL && !is_type(decoder, "ByteLevel"))
        return bad("the decoder is not ByteLevel");
    TRY(check_post_processor(member(root, "post_processor"), 0));
    if (!cJSON_IsObject(m)) return bad("the model is missing");
    if (type != NULL && !is_type(m, "BPE")) return bad("the model's type is not BPE");
    if (dropout != NULL && !(cJSON_IsNumber(dropout) && dropout->valuedouble == 0))
        return bad("dropout makes tokens a matter of chance");
    TRY(flag(m, "byte_fallback", &byte_fallback));
    if (byte_fallback) return bad("byte_fallback belongs to another kind of BPE");
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        const cJSON *affix = member(m, affixes[i]);
        if (affix != NULL && !(cJSON_IsString(affix) && affix->valuestring[0] == '\0'))
            return fail(E_INVALID, "tokenizer: %s is not empty", affixes[i]);
    }
    /* unk_token and fuse_unk: every byte has its token (checked below), so nothing is unknown. */
    return OK;
}

/* ---- vocabulary ----------------------------------------------------------------------------- */
static result add_token(tokenizer *t, uint32_t id, const char *text)
{
    size_t size = strlen(text);
    token_entry *e = &t->tokens[id];
    if (size == 0 || size > TOKENIZER_TOKEN_MAX_BYTES)
        return fail(E_INVALID, "tokenizer: token %u has %zu bytes, not 1 to %d", id, size,
                    TOKENIZER_TOKEN_MAX_BYTES);
    if (e->text_size != 0) return fail(E_INVALID, "tokenizer: id %u is given twice", id);
    if (tokenizer_lookup(t, bytes_of(text, size)) >= 0)
        return fail(E_INVALID, "tokenizer: the text of token %u is given twice", id);
    *e = (token_entry){(uint32_t)t->strings.size, (uint32_t)size, (uint32_t)t->strings.size,
                       (uint32_t)size};
    buf_append(&t->strings, text, size);
    size_t mask = t->by_text_slots - 1, i = tokenizer_hash(bytes_of(text, size)) & mask;
    while (t->by_text[i] != 0) i = (i + 1) & mask;
    t->by_text[i] = id + 1;
    return OK;
}

/* The bytes a vocabulary token stands for; one with other characters stands for itself. */
static void decode_token(tokenizer *t, token_entry *e)
{
    uint8_t raw[TOKENIZER_TOKEN_MAX_BYTES];
    size_t count = 0;
    bytes text = bytes_of(t->strings.data + e->text_at, e->text_size);
    for (size_t at = 0; at < text.size;) {
        int byte = tokenizer_byte_of_symbol(utf8_next(text, &at));
        if (byte < 0) return;
        raw[count++] = (uint8_t)byte;
    }
    e->raw_at = (uint32_t)t->strings.size;
    e->raw_size = (uint32_t)count;
    buf_append(&t->strings, raw, count);
}

/* Bytes that valid UTF-8 can hold need a token each. */
static result find_byte_tokens(tokenizer *t)
{
    for (unsigned b = 0; b < 256; b++) {
        uint8_t symbol[4];
        size_t size = utf8_encode(tokenizer_symbol_of_byte((uint8_t)b), symbol);
        int64_t id = tokenizer_lookup(t, bytes_of(symbol, size));
        bool occurs = b != 0 && b != 0xC0 && b != 0xC1 && b < 0xF5;
        if (id < 0 && occurs) return fail(E_INVALID, "tokenizer: no token for the byte 0x%02X", b);
        t->byte_ids[b] = id < 0 ? 0 : (uint32_t)id;
    }
    return OK;
}

/* The model's ids must be 0..n-1, each once. */
static result load_vocab(tokenizer *t, const cJSON *vocab)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, vocab) {
        uint32_t id;
        TRY(read_id(item, &id));
        if (id >= t->vocab_size)
            return fail(E_INVALID, "tokenizer: id %u in a vocabulary of %u leaves a hole", id,
                        t->vocab_size);
        TRY(add_token(t, id, item->string));
    }
    TRY(find_byte_tokens(t));
    for (uint32_t id = 0; id < t->vocab_size; id++) decode_token(t, &t->tokens[id]);
    return buf_check(&t->strings);
}

/* ---- merges --------------------------------------------------------------------------------- */
/* "a b", or ["a", "b"]. */
static result merge_parts(const cJSON *item, bytes *left, bytes *right)
{
    if (cJSON_IsString(item)) {
        const char *space = strchr(item->valuestring, ' ');
        if (space == NULL || strchr(space + 1, ' ') != NULL)
            return bad("a merge is not of two parts");
        *left = bytes_of(item->valuestring, (size_t)(space - item->valuestring));
        *right = bytes_str(space + 1);
        return OK;
    }
    const cJSON *a = cJSON_IsArray(item) ? item->child : NULL, *b = a ? a->next : NULL;
    if (!cJSON_IsString(a) || !cJSON_IsString(b) || b->next != NULL)
        return bad("a merge is not of two parts");
    *left = bytes_str(a->valuestring);
    *right = bytes_str(b->valuestring);
    return OK;
}

static result load_merge(tokenizer *t, const cJSON *item, uint32_t rank)
{
    bytes left, right;
    uint8_t joined[2 * TOKENIZER_TOKEN_MAX_BYTES];
    TRY(merge_parts(item, &left, &right));
    int64_t a = tokenizer_lookup(t, left), b = tokenizer_lookup(t, right), both = -1;
    if (a >= 0 && b >= 0) {
        memcpy(joined, left.data, left.size);
        memcpy(joined + left.size, right.data, right.size);
        both = tokenizer_lookup(t, bytes_of(joined, left.size + right.size));
    }
    if (both < 0) return fail(E_INVALID, "tokenizer: merge %u names an unknown token", rank);
    /* The reference lets a later merge of the same pair replace the earlier one. */
    merge_slot *slot = &t->merges[bpe_merge_find(t, (uint32_t)a, (uint32_t)b) - t->merges];
    *slot = (merge_slot){(uint32_t)a, (uint32_t)b, rank, (uint32_t)both};
    return OK;
}

static size_t slots_for(size_t count)
{
    size_t slots = 16;
    while (slots < 2 * count + 1) slots *= 2;
    return slots;
}

static result load_merges(tokenizer *t, const cJSON *merges)
{
    int count = cJSON_GetArraySize(merges);
    if (!cJSON_IsArray(merges) || count > TOKENIZER_IDS_MAX)
        return bad("the model's merges are missing or no list");
    t->merge_slots = slots_for((size_t)count);
    t->merges = mem_alloc_array(t->merge_slots, sizeof *t->merges);
    for (size_t i = 0; i < t->merge_slots; i++) t->merges[i].rank = MERGE_EMPTY;
    const cJSON *item;
    uint32_t rank = 0;
    cJSON_ArrayForEach(item, merges) TRY(load_merge(t, item, rank++));
    return OK;
}

/* ---- added tokens --------------------------------------------------------------------------- */
/* Gives the token its place in the tables: the vocabulary's own id, or the next ones behind it. */
static result place_added(tokenizer *t, uint32_t id, const char *text)
{
    int64_t known = tokenizer_lookup(t, bytes_str(text));
    if (known >= 0 && known != (int64_t)id)
        return fail(E_INVALID, "tokenizer: added token %u has another id in the vocabulary", id);
    if (id >= t->size)
        return fail(E_INVALID, "tokenizer: added token %u leaves a hole behind the vocabulary", id);
    if (known < 0) return add_token(t, id, text);
    token_entry *e = &t->tokens[id];       /* an added token stands for its own text */
    e->raw_at = e->text_at;
    e->raw_size = e->text_size;
    return OK;
}

static result load_added(tokenizer *t, const cJSON *item)
{
    const cJSON *content = member(item, "content");
    added_token *token = &t->added[t->added_count];
    token->normalized = true;
    TRY(read_id(member(item, "id"), &token->id));
    if (!cJSON_IsString(content)) return bad("an added token has no content");
    TRY(flag(item, "special", &token->special));
    TRY(flag(item, "lstrip", &token->lstrip));
    TRY(flag(item, "rstrip", &token->rstrip));
    TRY(flag(item, "single_word", &token->single_word));
    TRY(flag(item, "normalized", &token->normalized));
    bytes text = bytes_str(content->valuestring);
    if (text.size > TOKENIZER_ADDED_MAX_BYTES)
        return fail(E_INVALID, "tokenizer: added token %u is longer than %d bytes", token->id,
                    TOKENIZER_ADDED_MAX_BYTES);
    TRY(place_added(t, token->id, content->valuestring));
    uint32_t index = (uint32_t)t->added_count++;
    if (!token->normalized) return added_trie_insert(&t->trie_raw, text, index);
    if (!t->nfc) return added_trie_insert(&t->trie_normalized, text, index);
    buf normalized;
    buf_init(&normalized, 4 * TOKENIZER_ADDED_MAX_BYTES);
    unicode_nfc(text, &normalized);
    result r = buf_check(&normalized);
    if (is_ok(r)) r = added_trie_insert(&t->trie_normalized, buf_bytes(&normalized), index);
    buf_free(&normalized);
    return r;
}

/* ---- the whole ------------------------------------------------------------------------------ */
/* Added tokens that the vocabulary lacks get the ids behind it; room is made for all of them. */
static result load_tables(tokenizer *t, const cJSON *m, const cJSON *added)
{
    const cJSON *vocab = member(m, "vocab"), *item;
    int vocab_count = cJSON_GetArraySize(vocab), added_count = cJSON_GetArraySize(added);
    if (!cJSON_IsObject(vocab) || vocab_count == 0 || vocab_count > TOKENIZER_IDS_MAX)
        return bad("the model's vocabulary is missing or of an impossible size");
    if ((added != NULL && !cJSON_IsArray(added)) || added_count > TOKENIZER_IDS_MAX)
        return bad("the added tokens are no list");
    size_t room = (size_t)vocab_count + (size_t)added_count;
    t->vocab_size = (uint32_t)vocab_count;
    t->tokens = mem_alloc_array(room, sizeof *t->tokens);
    t->by_text_slots = slots_for(room);
    t->by_text = mem_alloc_array(t->by_text_slots, sizeof *t->by_text);
    TRY(load_vocab(t, vocab));
    TRY(load_merges(t, member(m, "merges")));
    TRY(flag(m, "ignore_merges", &t->ignore_merges));
    t->added = mem_alloc_array((size_t)added_count + 1, sizeof *t->added);
    t->size = (uint32_t)room;
    cJSON_ArrayForEach(item, added) TRY(load_added(t, item));
    while (t->size > t->vocab_size && t->tokens[t->size - 1].text_size == 0) t->size--;
    for (uint32_t id = t->vocab_size; id < t->size; id++)
        if (t->tokens[id].text_size == 0)
            return fail(E_INVALID, "tokenizer: no token has the id %u", id);
    return buf_check(&t->strings);
}

/* cJSON ends a string at an escaped NUL: such a file is refused before. */
static bool has_escaped_nul(bytes json)
{
    for (size_t i = 0; i + 5 < json.size; i++) {
        if (json.data[i] != '\\') continue;
        if (memcmp(json.data + i + 1, "u0000", 5) == 0) return true;
        i++;                               /* the escaped character */
    }
    return false;
}

result tokenizer_load(tokenizer *t, bytes json)
{
    if (json.size > TOKENIZER_JSON_MAX_BYTES) return bad("the file is too large");
    if (!utf8_valid(json)) return bad("the file is not valid UTF-8");
    if (has_escaped_nul(json)) return bad("the file has a NUL character");
    const char *end = NULL;
    cJSON *root = cJSON_ParseWithLengthOpts((const char *)json.data, json.size, &end, false);
    if (root == NULL) return bad("the file is not JSON");
    result r;
    for (; end < (const char *)json.data + json.size; end++)
        if (strchr(" \t\r\n", *end) == NULL) {
            cJSON_Delete(root);
            return bad("something follows the JSON object");
        }
    TRY_TO(r, check_settings(root, member(root, "model")), out);
    TRY_TO(r, load_normalizer(t, member(root, "normalizer"), 0), out);
    TRY_TO(r, load_pre_tokenizer(t, member(root, "pre_tokenizer")), out);
    r = load_tables(t, member(root, "model"), member(root, "added_tokens"));
out:
    cJSON_Delete(root);
    return r;
}
