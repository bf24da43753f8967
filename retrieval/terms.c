#include "terms.h"

#include <libstemmer.h>
#include <string.h>
#include <utf8proc.h>

struct terms {
    struct sb_stemmer *stemmer;
    int32_t decomposed[TERM_SOURCE_MAX * 20];   /* NFKC lengthens one code point to 18 at most */
    uint8_t word[TERM_SOURCE_MAX * 20 * 4];
    uint8_t term[TERM_MAX_BYTES];
};

/* Function words: they carry no evidence, and the question words only sway the ranking towards
 * passages that happen to ask. Sorted. */
static const char *const STOP_WORDS[] = {
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "did", "do", "does", "for", "from",
    "had", "has", "have", "how", "if", "in", "into", "is", "it", "its", "no", "not", "of", "on",
    "or", "s", "such", "t", "that", "the", "their", "then", "there", "these", "they", "this", "to",
    "was", "were", "what", "when", "where", "which", "who", "whom", "whose", "why", "will", "with",
};

void terms_open(terms **out)
{
    terms *t = mem_alloc(sizeof *t);
    t->stemmer = sb_stemmer_new("english", "UTF_8");
    ASSERT(t->stemmer != NULL);
    *out = t;
}

void terms_close(terms **t)
{
    if (*t == NULL) return;
    sb_stemmer_delete((*t)->stemmer);
    mem_wipe(*t, sizeof **t);
    mem_free(*t);
    *t = NULL;
}

static bool is_stop_word(const uint8_t *word, size_t size)
{
    size_t low = 0, high = sizeof STOP_WORDS / sizeof *STOP_WORDS;
    while (low < high) {
        size_t middle = (low + high) / 2, length = strlen(STOP_WORDS[middle]);
        int order = memcmp(STOP_WORDS[middle], word, length < size ? length : size);
        if (order == 0) order = length < size ? -1 : length > size;
        if (order == 0) return true;
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return false;
}

/* Folds one raw word into t->word; returns its size, 0 when nothing is left. */
static size_t fold_word(terms *t, bytes raw)
{
    size_t n = 0;
    while (n < raw.size && raw.data[n] < 0x80) n++;
    if (n == raw.size) {                        /* ASCII, nearly always */
        for (size_t i = 0; i < n; i++) {
            uint8_t c = raw.data[i];
            t->word[i] = (uint8_t)(c >= 'A' && c <= 'Z' ? c + 32 : c);
        }
        return n;
    }
    const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE |
                                      UTF8PROC_CASEFOLD | UTF8PROC_STRIPMARK | UTF8PROC_IGNORE;
    utf8proc_ssize_t count = utf8proc_decompose(raw.data, (utf8proc_ssize_t)raw.size, t->decomposed,
                                                (utf8proc_ssize_t)(sizeof t->decomposed / 4),
                                                options);
    if (count <= 0 || (size_t)count > sizeof t->decomposed / 4) return 0;
    size_t size = 0;
    for (utf8proc_ssize_t i = 0; i < count; i++)
        size += utf8_encode((uint32_t)t->decomposed[i], t->word + size);
    return size;
}

static void emit_word(terms *t, bytes raw, terms_visit *visit, void *ctx)
{
    size_t size = fold_word(t, raw);
    if (size > 0) visit(ctx, bytes_of(t->word, size), raw);
}

static void emit_term(terms *t, bytes raw, terms_visit *visit, void *ctx)
{
    size_t size = fold_word(t, raw);
    if (size == 0 || is_stop_word(t->word, size)) return;
    const sb_symbol *stem = sb_stemmer_stem(t->stemmer, t->word, (int)size);
    size_t stem_size = stem == NULL ? 0 : (size_t)sb_stemmer_length(t->stemmer);
    if (stem_size > TERM_MAX_BYTES) {
        stem_size = TERM_MAX_BYTES;
        while ((stem[stem_size] & 0xC0) == 0x80) stem_size--;
    }
    if (stem_size == 0) return;
    memcpy(t->term, stem, stem_size);
    visit(ctx, bytes_of(t->term, stem_size), raw);
}

typedef enum { OTHER, WORD, SINGLE } kind;

static kind kind_of(uint32_t cp)
{
    if (cp < 0x80) {
        bool letter = (cp | 32) >= 'a' && (cp | 32) <= 'z';
        return letter || (cp >= '0' && cp <= '9') ? WORD : OTHER;
    }
    if ((cp >= 0x3400 && cp <= 0x9FFF) || (cp >= 0xF900 && cp <= 0xFAFF) ||
        (cp >= 0x3041 && cp <= 0x30FF) || (cp >= 0x20000 && cp <= 0x3FFFF)) return SINGLE;
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_NO ? WORD : OTHER;
}

typedef void emit_fn(terms *t, bytes raw, terms_visit *visit, void *ctx);

static void each(terms *t, bytes text, emit_fn *emit, terms_visit *visit, void *ctx)
{
    size_t at = 0, start = 0, kept_end = 0, length = 0;      /* length: of the word, code points */
    while (at < text.size) {
        size_t from = at;
        kind k = kind_of(utf8_next(text, &at));
        if (k == WORD) {
            if (length++ == 0) start = from;
            if (length <= TERM_SOURCE_MAX) kept_end = at;
            continue;
        }
        if (length) emit(t, bytes_of(text.data + start, kept_end - start), visit, ctx);
        length = 0;
        if (k == SINGLE) emit(t, bytes_of(text.data + from, at - from), visit, ctx);
    }
    if (length) emit(t, bytes_of(text.data + start, kept_end - start), visit, ctx);
}

void terms_each(terms *t, bytes text, terms_visit *visit, void *ctx)
{
    each(t, text, emit_term, visit, ctx);
}

void terms_each_word(terms *t, bytes text, terms_visit *visit, void *ctx)
{
    each(t, text, emit_word, visit, ctx);
}
