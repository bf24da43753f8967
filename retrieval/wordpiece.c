#include "wordpiece.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>
#include <utf8proc.h>

enum { IDS_MAX = 1 << 22, TOKEN_MAX_BYTES = 512, PREFIX_MAX_BYTES = 16, WORD_CHARS_MAX = 1000,
       ADDED_MAX = 256 };

typedef struct { uint32_t offset, size, id; } slot;       /* size 0: free */
typedef struct { char *text; size_t size; uint32_t id; } added_token;

struct wordpiece {
    char *blob;                    /* all token texts, one after the other */
    size_t blob_size;
    slot *slots;
    uint32_t slot_count, ids, unknown, token_chars_max, word_chars_max;
    char prefix[PREFIX_MAX_BYTES + 1];
    bool clean, chinese, strip, lower;
    added_token added[ADDED_MAX];
    uint32_t added_count;
};

/* ---- vocabulary ------------------------------------------------------------------------------ */

static uint32_t hash_of(const void *text, size_t size)
{
    const uint8_t *p = text;
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < size; i++) h = (h ^ p[i]) * 1099511628211u;
    return (uint32_t)(h ^ (h >> 32));
}

static slot *slot_find(const wordpiece *w, const void *text, size_t size)
{
    uint32_t mask = w->slot_count - 1;
    for (uint32_t i = hash_of(text, size) & mask;; i = (i + 1) & mask) {
        slot *s = &w->slots[i];
        if (s->size == 0 || (s->size == size && memcmp(w->blob + s->offset, text, size) == 0))
            return s;
    }
}

static uint32_t count_chars(const char *text, size_t size)
{
    uint32_t n = 0;
    for (size_t i = 0; i < size; i++) n += ((uint8_t)text[i] & 0xC0) != 0x80;
    return n;
}

static result read_id(const cJSON *value, uint32_t *id)
{
    double v = cJSON_IsNumber(value) ? value->valuedouble : -1;
    if (!(v >= 0 && v < IDS_MAX && v == floor(v)))
        return fail(E_INVALID, "tokenizer.json: a token's id is not a number below %d", IDS_MAX);
    *id = (uint32_t)v;
    return OK;
}

static result load_vocabulary(wordpiece *w, const cJSON *vocab)
{
    size_t count = 0, bytes_total = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, vocab) {
        size_t size = strlen(item->string);
        if (size > TOKEN_MAX_BYTES) return fail(E_INVALID, "tokenizer.json: a token is too long");
        bytes_total += size;
        count++;
    }
    if (count == 0 || count > IDS_MAX)
        return fail(E_INVALID, "tokenizer.json: no usable vocabulary");
    w->slot_count = 16;
    while (w->slot_count < count * 2) w->slot_count *= 2;
    w->slots = mem_alloc_array(w->slot_count, sizeof *w->slots);
    w->blob = mem_alloc(bytes_total);
    cJSON_ArrayForEach(item, vocab) {
        uint32_t id, size = (uint32_t)strlen(item->string);
        TRY(read_id(item, &id));
        if (size == 0) continue;
        slot *s = slot_find(w, item->string, size);
        if (s->size != 0) return fail(E_INVALID, "tokenizer.json: a token stands twice");
        *s = (slot){(uint32_t)w->blob_size, size, id};
        memcpy(w->blob + w->blob_size, item->string, size);
        w->blob_size += size;
        uint32_t chars = count_chars(item->string, size);
        if (chars > w->token_chars_max) w->token_chars_max = chars;
        if (id >= w->ids) w->ids = id + 1;
    }
    return OK;
}

/* ---- the file -------------------------------------------------------------------------------- */

static result expect_type(const cJSON *part, const char *name, const char *want)
{
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(part, "type"));
    if (type != NULL && strcmp(type, want) == 0) return OK;
    return fail(E_UNIMPLEMENTED, "tokenizer.json: %s of type %.40s is not supported (only %s)",
                name, type == NULL ? "none" : type, want);
}

static bool flag(const cJSON *part, const char *name, bool otherwise)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(part, name);
    return cJSON_IsBool(v) ? cJSON_IsTrue(v) : otherwise;
}

static result load_added(wordpiece *w, const cJSON *list)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, list) {
        const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "content"));
        if (text == NULL || *text == 0 || strlen(text) > TOKEN_MAX_BYTES)
            return fail(E_INVALID, "tokenizer.json: an added token has no usable content");
        if (w->added_count == ADDED_MAX)
            return fail(E_UNIMPLEMENTED, "tokenizer.json: more than %d added tokens", ADDED_MAX);
        if (flag(item, "single_word", false) || flag(item, "normalized", false))
            return fail(E_UNIMPLEMENTED,
                        "tokenizer.json: added tokens that are normalized or single "
                        "words are not supported");
        added_token *a = &w->added[w->added_count];
        TRY(read_id(cJSON_GetObjectItemCaseSensitive(item, "id"), &a->id));
        a->text = mem_strdup(text);
        a->size = strlen(text);
        w->added_count++;
        if (a->id >= w->ids) w->ids = a->id + 1;
    }
    return OK;
}

static result load_model(wordpiece *w, const cJSON *model)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(model, "continuing_subword_prefix");
    const char *prefix = cJSON_GetStringValue(v);
    if (cJSON_GetObjectItemCaseSensitive(model, "type") != NULL || prefix == NULL)
        TRY(expect_type(model, "a model", "WordPiece"));
    if (prefix == NULL) prefix = "##";
    if (strlen(prefix) > PREFIX_MAX_BYTES)
        return fail(E_INVALID, "tokenizer.json: continuing_subword_prefix is too long");
    strcpy(w->prefix, prefix);
    v = cJSON_GetObjectItemCaseSensitive(model, "max_input_chars_per_word");
    double chars = v == NULL ? 100 : cJSON_IsNumber(v) ? v->valuedouble : 0;
    if (!(chars >= 1 && chars <= WORD_CHARS_MAX))
        return fail(E_INVALID, "tokenizer.json: max_input_chars_per_word is not 1 to %d",
                    WORD_CHARS_MAX);
    w->word_chars_max = (uint32_t)chars;
    const cJSON *vocab = cJSON_GetObjectItemCaseSensitive(model, "vocab");
    if (!cJSON_IsObject(vocab))
        return fail(E_INVALID, "tokenizer.json: the model has no vocab object");
    TRY(load_vocabulary(w, vocab));
    v = cJSON_GetObjectItemCaseSensitive(model, "unk_token");
    const char *unknown = cJSON_GetStringValue(v);
    const slot *s = NULL;
    if (unknown != NULL && *unknown != 0) s = slot_find(w, unknown, strlen(unknown));
    if (s == NULL || s->size == 0)
        return fail(E_INVALID, "tokenizer.json: unk_token is not in the vocabulary");
    w->unknown = s->id;
    return OK;
}

static result load(wordpiece *w, const cJSON *root)
{
    const cJSON *normalizer = cJSON_GetObjectItemCaseSensitive(root, "normalizer");
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(root, "model");
    if (!cJSON_IsObject(root) || !cJSON_IsObject(model))
        return fail(E_INVALID, "tokenizer.json: no model object");
    TRY(load_model(w, model));
    TRY(expect_type(normalizer, "a normalizer", "BertNormalizer"));
    TRY(expect_type(cJSON_GetObjectItemCaseSensitive(root, "pre_tokenizer"), "a pre-tokenizer",
                    "BertPreTokenizer"));
    w->clean = flag(normalizer, "clean_text", true);
    w->chinese = flag(normalizer, "handle_chinese_chars", true);
    w->lower = flag(normalizer, "lowercase", true);
    w->strip = flag(normalizer, "strip_accents", w->lower);
    return load_added(w, cJSON_GetObjectItemCaseSensitive(root, "added_tokens"));
}

result wordpiece_open(wordpiece **out, bytes json)
{
    wordpiece *w = mem_alloc(sizeof *w);
    cJSON *root = cJSON_ParseWithLength((const char *)json.data, json.size);
    result r = root != NULL ? load(w, root)
                            : fail(E_INVALID, "tokenizer.json is not well-formed JSON");
    cJSON_Delete(root);
    if (is_ok(r)) *out = w;
    else wordpiece_close(&w);
    return r;
}

void wordpiece_close(wordpiece **w)
{
    if (*w == NULL) return;
    for (uint32_t i = 0; i < (*w)->added_count; i++) mem_free((*w)->added[i].text);
    mem_free((*w)->blob);
    mem_free((*w)->slots);
    mem_free(*w);
    *w = NULL;
}

uint32_t wordpiece_ids(const wordpiece *w) { return w->ids; }
uint32_t wordpiece_unknown(const wordpiece *w) { return w->unknown; }

/* ---- encoding -------------------------------------------------------------------------------- */

/* Unicode's White_Space. */
static bool is_white(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

/* The reference's categories Cc, Cf, Co: what its table calls "other". */
static bool is_control(uint32_t c)
{
    if (c == '\t' || c == '\n' || c == '\r') return false;
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_CO ||
           k == UTF8PROC_CATEGORY_CS;
}

static bool is_chinese(uint32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
           (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

static bool is_punctuation(uint32_t c)
{
    if (c < 0x80)
        return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
               (c >= 123 && c <= 126);
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

/* One word, given as UTF-8 with the byte offset of each of its chars (and of the end). */
static void encode_word(const wordpiece *w, const uint8_t *word, const uint32_t *offsets,
                        uint32_t chars, buf *out)
{
    uint8_t piece[PREFIX_MAX_BYTES + 4 * WORD_CHARS_MAX];
    size_t prefix = strlen(w->prefix), undo = out->size;
    for (uint32_t start = 0; start < chars;) {
        size_t used = start > 0 ? prefix : 0;
        if (used) memcpy(piece, w->prefix, prefix);
        uint32_t end = chars - start > w->token_chars_max ? start + w->token_chars_max : chars;
        const slot *found = NULL;
        memcpy(piece + used, word + offsets[start], offsets[end] - offsets[start]);
        for (; end > start; end--) {
            found = slot_find(w, piece, used + offsets[end] - offsets[start]);
            if (found->size != 0) break;
        }
        if (end == start) {
            out->size = undo;
            buf_append_u32(out, w->unknown);
            return;
        }
        buf_append_u32(out, found->id);
        start = end;
    }
}

typedef struct {
    const wordpiece *w;
    buf *out;
    uint32_t chars;                /* of the word so far; beyond the maximum only counted */
    uint32_t offsets[WORD_CHARS_MAX + 1];
    uint8_t word[4 * WORD_CHARS_MAX];
} word_state;

static void word_flush(word_state *s)
{
    if (s->chars > s->w->word_chars_max) buf_append_u32(s->out, s->w->unknown);
    else if (s->chars) encode_word(s->w, s->word, s->offsets, s->chars, s->out);
    s->chars = 0;
}

static void word_push(word_state *s, uint32_t c)
{
    if (s->chars < s->w->word_chars_max)
        s->offsets[s->chars + 1] =
            s->offsets[s->chars] + (uint32_t)utf8_encode(c, s->word + s->offsets[s->chars]);
    s->chars++;
}

/* Pre-tokenizer: white space separates, punctuation stands alone. */
static void pretokenize(word_state *s, uint32_t c)
{
    if (is_white(c)) {
        word_flush(s);
    } else if (is_punctuation(c)) {
        word_flush(s);
        word_push(s, c);
        word_flush(s);
    } else {
        word_push(s, c);
    }
}

static void lower_and_push(word_state *s, uint32_t c)
{
    if (s->w->lower && c == 0x130) {                /* the one letter whose lower case is two */
        pretokenize(s, 'i');
        c = 0x307;
    } else if (s->w->lower) {
        c = c < 0x80 ? (c >= 'A' && c <= 'Z' ? c + 32 : c)
                     : (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
    }
    pretokenize(s, c);
}

/* Cleaned text as UTF-8; says whether it is all ASCII. */
static bool clean(const wordpiece *w, bytes text, buf *out)
{
    bool ascii = true;
    for (size_t at = 0; at < text.size;) {
        uint8_t utf8[4];
        uint32_t c = utf8_next(text, &at);
        if (w->clean && (c == 0 || c == 0xFFFD || is_control(c))) continue;
        if (w->clean && is_white(c)) c = ' ';
        bool alone = w->chinese && is_chinese(c);
        if (alone) buf_append_u8(out, ' ');
        buf_append(out, utf8, utf8_encode(c, utf8));
        if (alone) buf_append_u8(out, ' ');
        ascii = ascii && c < 0x80;
    }
    return ascii;
}

static void encode_piece(const wordpiece *w, bytes text, buf *out)
{
    buf cleaned;
    buf_init(&cleaned, text.size * 3 + 16);
    bool ascii = clean(w, text, &cleaned);
    word_state *s = mem_alloc(sizeof *s);
    s->w = w;
    s->out = out;
    if (ascii || !w->strip) {
        for (size_t at = 0; at < cleaned.size;)
            lower_and_push(s, utf8_next(buf_bytes(&cleaned), &at));
    } else {
        utf8proc_ssize_t room = utf8proc_decompose(cleaned.data, (utf8proc_ssize_t)cleaned.size,
                                                   NULL, 0,
                                                   UTF8PROC_STABLE | UTF8PROC_DECOMPOSE);
        ASSERT(room >= 0);
        int32_t *cps = mem_alloc_array((size_t)room, sizeof *cps);
        utf8proc_ssize_t count =
            utf8proc_decompose(cleaned.data, (utf8proc_ssize_t)cleaned.size, cps, room,
                               UTF8PROC_STABLE | UTF8PROC_DECOMPOSE);
        ASSERT(count == room);
        for (utf8proc_ssize_t i = 0; i < count; i++)
            if (utf8proc_category(cps[i]) != UTF8PROC_CATEGORY_MN)
                lower_and_push(s, (uint32_t)cps[i]);
        mem_wipe(cps, (size_t)room * sizeof *cps);
        mem_free(cps);
    }
    word_flush(s);
    mem_wipe(s, sizeof *s);
    mem_free(s);
    buf_free(&cleaned);
}

/* The longest added token that begins at p; NULL when none. */
static const added_token *added_at(const wordpiece *w, const uint8_t *p, size_t left)
{
    const added_token *best = NULL;
    for (uint32_t i = 0; i < w->added_count; i++) {
        const added_token *a = &w->added[i];
        if (a->size <= left && (uint8_t)a->text[0] == *p && memcmp(a->text, p, a->size) == 0 &&
            (best == NULL || a->size > best->size)) best = a;
    }
    return best;
}

void wordpiece_encode(const wordpiece *w, bytes text, buf *out)
{
    size_t from = 0;
    for (size_t at = 0; at < text.size;) {
        const added_token *a = added_at(w, text.data + at, text.size - at);
        if (a == NULL) {
            at++;
            continue;
        }
        if (at > from) encode_piece(w, bytes_of(text.data + from, at - from), out);
        buf_append_u32(out, a->id);
        from = at += a->size;
    }
    if (from < text.size) encode_piece(w, bytes_of(text.data + from, text.size - from), out);
}
