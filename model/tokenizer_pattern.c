/* The pre-tokenizer's patterns. The reference runs them with Oniguruma (Ruby's syntax); PCRE2 runs
 * them here after a translation that admits only what means the same in both and pins the character
 * classes to the reference's Unicode version. Anything else is refused rather than guessed. */
#include "tokenizer_internal.h"

#include <string.h>

const char *const pattern_gpt2 =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

typedef struct { const char *at, *end; bool in_class; buf out; } translation;

static result refuse(const char *what)
{
    return fail(E_INVALID, "tokenizer: the pattern has %s, which is not supported", what);
}

static bool follows(const translation *x, const char *text)
{
    size_t n = strlen(text);
    return (size_t)(x->end - x->at) >= n && memcmp(x->at, text, n) == 0;
}

/* \s, \p{L} and \p{N} with their negations become classes of fixed content. */
static result put_class(translation *x, char kind, bool negated)
{
    if (x->in_class && negated) return refuse("a negated class inside of a class");
    bool before = x->out.size > 0 && x->out.data[x->out.size - 1] == '-';
    bool after = follows(x, "-") && !follows(x, "-]");
    if (x->in_class && (before || after)) return refuse("a hyphen beside a class");
    if (!x->in_class) buf_append_str(&x->out, negated ? "[^" : "[");
    buf_append_str(&x->out, unicode_class(kind));
    if (!x->in_class) buf_append_str(&x->out, "]");
    return OK;
}

/* \p{X}: L and N as the reference has them; other general categories as PCRE2 has them. */
static result put_property(translation *x, bool negated)
{
    const char *open = x->at, *close = open < x->end && *open == '{' ?
        memchr(open, '}', (size_t)(x->end - open)) : NULL;
    size_t size = close == NULL ? 0 : (size_t)(close - open - 1);
    if (size < 1 || size > 2 || strchr("LMNPSZC", open[1]) == NULL)
        return refuse("a property that is no general category");
    x->at = close + 1;
    if (size == 1 && (open[1] == 'L' || open[1] == 'N')) return put_class(x, open[1], negated);
    buf_append_str(&x->out, negated ? "\\P" : "\\p");
    buf_append(&x->out, open, size + 2);
    return OK;
}

static result put_escape(translation *x)
{
    if (x->at == x->end) return refuse("a single backslash at its end");
    char c = *x->at++;
    if (c == 's' || c == 'S') return put_class(x, 's', c == 'S');
    if (c == 'p' || c == 'P') return put_property(x, c == 'P');
    if (strchr("rnt", c) == NULL && strchr("^$\\.*+?()[]{}|/-'\"!#&@~<>=:;,% ", c) == NULL)
        return refuse("an escape other than \\s \\S \\p \\P \\r \\n \\t");
    buf_append_u8(&x->out, '\\');
    buf_append_u8(&x->out, (uint8_t)c);
    return OK;
}

static result put_group(translation *x)
{
    static const char *const known[] = {"?:", "?i:", "?=", "?!", "?<=", "?<!"};
    buf_append_u8(&x->out, '(');
    if (x->at == x->end || (*x->at != '?' && *x->at != '*')) return OK;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (follows(x, known[i])) {
            buf_append_str(&x->out, known[i]);
            x->at += strlen(known[i]);
            return OK;
        }
    return refuse("a kind of group");
}

/* {n}, {n,} or {n,m}; a plus behind it means another thing in Ruby's syntax. */
static result put_count(translation *x)
{
    const char *p = x->at;
    while (p < x->end && (*p == ',' || (*p >= '0' && *p <= '9'))) p++;
    if (p == x->at || p == x->end || *p != '}' || *x->at == ',' || p - x->at > 9)
        return refuse("a brace that is no repeat count");
    if (p + 1 < x->end && p[1] == '+') return refuse("a possessive repeat count");
    buf_append_u8(&x->out, '{');
    buf_append(&x->out, x->at, (size_t)(p + 1 - x->at));
    x->at = p + 1;
    return OK;
}

static result translate_class_char(translation *x, char c)
{
    if (c == '[') return refuse("a class inside of a class");
    if (c == '&' && follows(x, "&")) return refuse("an intersection of classes");
    if (c == ']') x->in_class = false;
    buf_append_u8(&x->out, (uint8_t)c);
    return OK;
}

static result translate(translation *x)
{
    while (x->at < x->end) {
        char c = *x->at++;
        if (c == '\\') TRY(put_escape(x));
        else if (x->in_class) TRY(translate_class_char(x, c));
        else if (c == '(') TRY(put_group(x));
        else if (c == '{') TRY(put_count(x));
        else if (c == '^' || c == '$') return refuse("an anchor");
        else {
            buf_append_u8(&x->out, (uint8_t)c);
            if (c != '[') continue;
            x->in_class = true;
            if (follows(x, "^")) buf_append_u8(&x->out, (uint8_t)*x->at++);
            if (follows(x, "]")) return refuse("an empty class");
        }
    }
    if (x->in_class) return refuse("a class that does not end");
    return buf_check(&x->out);
}

static result compile(bytes pattern, pcre2_code **out)
{
    int code;
    PCRE2_SIZE at;
    uint32_t may_be_empty = 0;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (context == NULL) return fail(E_UNAVAILABLE, "no memory for a pattern");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_AUTO_CAPTURE;
    pcre2_code *made = pcre2_compile(pattern.data, pattern.size, options, &code, &at, context);
    pcre2_compile_context_free(context);
    if (made == NULL)
        return fail(E_INVALID, "tokenizer: the pattern does not compile (code %d)", code);
    (void)pcre2_pattern_info(made, PCRE2_INFO_MATCHEMPTY, &may_be_empty);
    if (may_be_empty) {
        pcre2_code_free(made);
        return fail(E_INVALID, "tokenizer: the pattern matches the empty text");
    }
    *out = made;
    return OK;
}

result pattern_compile(const char *pattern, size_t size, pcre2_code **out)
{
    if (size == 0 || size > TOKENIZER_PATTERN_MAX_BYTES)
        return fail(E_INVALID, "tokenizer: the pattern has %zu bytes, not 1 to %d", size,
                    TOKENIZER_PATTERN_MAX_BYTES);
    translation x = {.at = pattern, .end = pattern + size};
    buf_init(&x.out, (size_t)1 << 22);
    result r = translate(&x);
    if (is_ok(r)) r = compile(buf_bytes(&x.out), out);
    buf_free(&x.out);
    return r;
}

static result split_with(const pcre2_code *code, bytes text, piece_fn *piece, void *ctx,
                         pcre2_match_data *data, pcre2_match_context *limits)
{
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(data);
    size_t given = 0;
    while (given < text.size) {
        int rc = pcre2_match(code, text.data, text.size, given,
                             PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, data, limits);
        if (rc == PCRE2_ERROR_NOMATCH) break;
        if (rc < 0)
            return fail(E_INVALID, "tokenizer: the pattern gave up on this text (code %d)", rc);
        ASSERT(span[0] >= given && span[1] > span[0] && span[1] <= text.size);
        if (span[0] > given) TRY(piece(ctx, bytes_of(text.data + given, span[0] - given)));
        TRY(piece(ctx, bytes_of(text.data + span[0], span[1] - span[0])));
        given = span[1];
    }
    if (given < text.size) return piece(ctx, bytes_of(text.data + given, text.size - given));
    return OK;
}

result pattern_split(const pcre2_code *code, bytes text, piece_fn *piece, void *ctx)
{
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    result r = fail(E_UNAVAILABLE, "no memory for a match");
    if (data != NULL && limits != NULL) {
        /* Backtracking points of one match: plenty for a linear pattern, an end for others. */
        pcre2_set_match_limit(limits, (uint32_t)(1000000 + 8 * text.size));
        pcre2_set_heap_limit(limits, 256 << 10);           /* KiB */
        r = split_with(code, text, piece, ctx, data, limits);
    }
    pcre2_match_context_free(limits);
    pcre2_match_data_free(data);
    return r;
}
