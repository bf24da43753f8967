/* The constraint against an oracle that reads the text of the rules word for word: random passages and vocabularies,
 * every token of the vocabulary, at every step of random walks. */
#include "constraint.h"

#include "test.h"

enum { PASSAGES = 3, TOKENS_MAX = 100, ROUNDS = 120, STEPS = 40 };

static uint64_t seed = 1;

static uint32_t below(uint32_t n)
{
    uint64_t x = seed += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((x ^ (x >> 31)) % n);
}

/* ---- the oracle: slow and plain ----------------------------------------------------------------------------- */
typedef struct { bytes passages[PASSAGES]; size_t count; } texts;

/* The character before (or from) a place; 0 at the ends. Only the test's alphabet. */
static uint32_t char_at(bytes t, size_t at)
{
    return at >= t.size ? 0 : utf8_next(t, &at);
}

static uint32_t char_before(bytes t, size_t *at)
{
    if (*at == 0) return 0;
    do (*at)--; while (*at > 0 && (t.data[*at] & 0xC0) == 0x80);
    return char_at(t, *at);
}

static bool digit(uint32_t c) { return c >= '0' && c <= '9'; }
static bool point(uint32_t c) { return c == '.' || c == ',' || c == ':'; }
static bool space(uint32_t c) { return c == ' ' || c == '\n'; }
static bool letter(uint32_t c) { return digit(c) || (c >= 'a' && c <= 'z') || c == 0xE9 || c == 0x65E5; }

static bool whole_at(bytes t, size_t at)
{
    if (at < t.size && (t.data[at] & 0xC0) == 0x80) return false;
    size_t back = at, ahead = at;
    uint32_t b = char_before(t, &back), a = char_before(t, &back), c = char_at(t, at), d = 0;
    if (at < t.size) {
        (void)utf8_next(t, &ahead);
        d = char_at(t, ahead);
    }
    if (letter(b) && letter(c)) return false;
    return !(digit(b) && point(c) && digit(d)) && !(digit(a) && point(b) && digit(c));
}

static bool has_letter(bytes t)
{
    for (size_t at = 0; at < t.size;)
        if (letter(utf8_next(t, &at))) return true;
    return false;
}

/* Is [from, to) of the passage a span? */
static bool is_span(bytes t, size_t from, size_t to)
{
    size_t last = to;
    return from < to && to <= t.size && whole_at(t, from) && whole_at(t, to) && !space(char_at(t, from)) &&
           !space(char_before(t, &last)) && has_letter(bytes_of(t.data + from, to - from));
}

/* Can `written`, behind `spans` whole spans and a separator (or at the very start), be the beginning of an answer
 * (or, with whole, all of one)? */
static bool reads(const texts *t, bytes written, uint32_t spans, bool whole)
{
    if (written.size == 0) return !whole;
    static const char separator[] = CONSTRAINT_SEPARATOR;
    for (size_t p = 0; p < t->count; p++)
        for (size_t from = 0; from < t->passages[p].size; from++) {
            bytes text = t->passages[p];
            for (size_t to = from + 1; to <= text.size; to++) {
                if (!is_span(text, from, to)) continue;
                size_t n = to - from, shared = n < written.size ? n : written.size;
                if (memcmp(text.data + from, written.data, shared) != 0) break;
                if (written.size < n && !whole) return true;
                if (written.size == n) return true;
                if (written.size < n || spans + 1 == CONSTRAINT_SPANS_MAX) continue;
                bytes rest = bytes_of(written.data + n, written.size - n);
                size_t s = rest.size < strlen(separator) ? rest.size : strlen(separator);
                if (memcmp(rest.data, separator, s) != 0) continue;
                if (rest.size <= strlen(separator)) {
                    if (!whole) return true;
                    continue;
                }
                rest = bytes_of(rest.data + strlen(separator), rest.size - strlen(separator));
                if (reads(t, rest, spans + 1, whole)) return true;
            }
        }
    return false;
}

static bool answers(const texts *t, bytes written, bool whole)
{
    if (reads(t, written, 0, whole)) return true;
    bool any = false;
    for (size_t p = 0; p < t->count; p++) any = any || has_letter(t->passages[p]);
    if (!any || written.size == 0 || written.data[0] != ' ') return false;
    return reads(t, bytes_of(written.data + 1, written.size - 1), 0, whole);
}

/* ---- random cases --------------------------------------------------------------------------------------------- */
static const char *const PIECES[] = {"a", "b", "ab", "ba", "aab", "\303\251", "\346\227\245", "1", "12", "3.5", "1,0",
    " ", " ", " ", " ", "\n", ".", ". ", "...", " ... ", "(", "$", "-", "'s", ", ", ":"};

static void random_text(buf *out, uint32_t pieces)
{
    for (uint32_t i = 0; i < pieces; i++) buf_append_str(out, PIECES[below(sizeof PIECES / sizeof *PIECES)]);
}

typedef struct {
    buf storage[PASSAGES], words[TOKENS_MAX];
    texts text;
    bytes tokens[TOKENS_MAX];
    uint32_t token_count;
    vocabulary *v;
} world;

/* Tokens: single bytes (some are missing at times), pieces of the passages, the separator's. Id 0 ends. */
static void world_make(world *w)
{
    memset(w, 0, sizeof *w);
    w->text.count = 1 + below(PASSAGES);
    for (size_t p = 0; p < w->text.count; p++) {
        buf_init(&w->storage[p], 4096);
        random_text(&w->storage[p], 1 + below(14));
        w->text.passages[p] = buf_bytes(&w->storage[p]);
    }
    w->token_count = 1;
    static const char singles[] = "ab1230. .,\n($-'s:\303\251\346\227\245\377";
    uint32_t lacking = below(4) == 0 ? below(sizeof singles) : UINT32_MAX;
    for (uint32_t i = 0; i < TOKENS_MAX; i++) buf_init(&w->words[i], 4096);
    for (uint32_t i = 0; i < sizeof singles; i++)         /* its NUL is one of them */
        if (i != lacking) buf_append_u8(&w->words[w->token_count++], (uint8_t)singles[i]);
    for (uint32_t i = 0; i < 60; i++) {
        buf *word = &w->words[w->token_count++];
        bytes t = w->text.passages[below((uint32_t)w->text.count)];
        if (below(6) == 0) random_text(word, 1 + below(3));
        else if (below(6) == 0) buf_append_str(word, &CONSTRAINT_SEPARATOR[below(5)]);
        else {
            if (below(4) == 0) buf_append_str(word, " ");
            size_t from = t.size ? below((uint32_t)t.size) : 0, left = t.size - from;
            size_t n = left ? 1 + below((uint32_t)(left < 9 ? left : 9)) : 0;
            if (n) buf_append(word, t.data + from, n);
            if (below(5) == 0) buf_append_str(word, CONSTRAINT_SEPARATOR);
            if (below(3) == 0) random_text(word, 1);
        }
    }
    for (uint32_t i = 0; i < w->token_count; i++) w->tokens[i] = buf_bytes(&w->words[i]);
    vocabulary_open(&w->v, w->tokens, w->token_count);
}

static void world_free(world *w)
{
    vocabulary_close(&w->v);
    for (size_t p = 0; p < PASSAGES; p++) buf_free(&w->storage[p]);
    for (uint32_t i = 0; i < TOKENS_MAX; i++) buf_free(&w->words[i]);
}

/* The spans written one after the other are what was written, and each is one. */
static bool spans_are(const world *w, const constraint_span *spans, size_t count, bytes written)
{
    buf joined;
    buf_init(&joined, 65536);
    bool good = count >= 1 && count <= CONSTRAINT_SPANS_MAX;
    for (size_t i = 0; i < count; i++) {
        const constraint_span *s = &spans[i];
        good = good && s->passage < w->text.count &&
               is_span(w->text.passages[s->passage], s->start, s->end);
        if (!good) break;
        if (i > 0) buf_append_str(&joined, CONSTRAINT_SEPARATOR);
        buf_append(&joined, w->text.passages[s->passage].data + s->start, s->end - s->start);
    }
    if (written.size > 0 && written.data[0] == ' ') written = bytes_of(written.data + 1, written.size - 1);
    good = good && bytes_equal(buf_bytes(&joined), written);
    buf_free(&joined);
    return good;
}

/* Are the tokens let through those that the oracle finds, one by one? */
static bool allowed_are(const world *w, const uint32_t *ids, size_t count, bytes written)
{
    buf longer;
    buf_init(&longer, 65536);
    bool good = true;
    size_t at = 0;
    for (uint32_t id = 0; id < w->token_count && good; id++) {
        bool let = at < count && ids[at] == id;
        at += let;
        buf_clear(&longer);
        buf_append(&longer, written.data, written.size);
        buf_append(&longer, w->tokens[id].data, w->tokens[id].size);
        bool may = id == 0 ? answers(&w->text, written, true)
                           : w->tokens[id].size > 0 && answers(&w->text, buf_bytes(&longer), false);
        good = let == may;
        if (!good) printf("# seed %llu: token '%s' behind '%s': let %d\n", (unsigned long long)seed,
                          w->words[id].data, written.data ? (const char *)written.data : "", let);
    }
    buf_free(&longer);
    return good && at == count;
}

typedef struct { size_t steps, ended, spans[CONSTRAINT_SPANS_MAX + 1], stuck; } walked;

/* One random walk. Long tokens and separators are preferred, so that walks get somewhere. */
static bool walk(const world *w, walked *sum)
{
    constraint *c;
    constraint_span spans[CONSTRAINT_SPANS_MAX];
    buf written;
    buf_init(&written, 65536);
    constraint_open(&c, w->v, w->text.passages, w->text.count, 0);
    bool good = true, ended = false;
    for (int step = 0; step < STEPS && good && !ended; step++) {
        size_t count;
        const uint32_t *ids = constraint_allowed(c, &count);
        good = allowed_are(w, ids, count, buf_bytes(&written));
        if (count == 0) {
            sum->stuck++;
            break;
        }
        uint32_t id = ids[below((uint32_t)count)], other = ids[below((uint32_t)count)];
        if (below(2) && w->tokens[other].size > w->tokens[id].size) id = other;
        if (ids[0] == 0 && below(8) == 0) id = 0;
        ended = id == 0;
        buf_append(&written, w->tokens[id].data, w->tokens[id].size);
        if (!ended) constraint_advance(c, w->tokens[id]);
        sum->steps++;
    }
    size_t count = constraint_spans(c, spans);
    if (ended) {
        good = good && spans_are(w, spans, count, buf_bytes(&written));
        sum->ended++;
    } else {                               /* cut: the spans are ones, and begin as what was written does */
        for (size_t i = 0; i < count; i++)
            good = good && is_span(w->text.passages[spans[i].passage], spans[i].start, spans[i].end);
    }
    sum->spans[count]++;
    constraint_close(&c);
    buf_free(&written);
    return good;
}

static void random_walks(void)
{
    walked sum = {0};
    for (int round = 0; round < ROUNDS; round++) {
        world w;
        world_make(&w);
        bool good = true;
        for (int i = 0; i < 3 && good; i++) good = walk(&w, &sum);
        CHECK(good);
        world_free(&w);
        if (!good) break;
    }
    printf("# %zu steps, %zu answers ended, %zu with two spans, %zu with three, %zu without a token to go on\n", sum.steps,
           sum.ended, sum.spans[2], sum.spans[3], sum.stuck);
    CHECK(sum.ended > 100 && sum.spans[1] > 40 && sum.spans[2] > 20 && sum.spans[3] > 20);
}

/* ---- single cases ------------------------------------------------------------------------------------------------ */
static const char *const WORDS[] = {"<end>", " Jorn", "Jorn", " ...", " the", "the", " mill", " burned", " 18", "71", "71.",
                                    "J", "orn", "ill", ".", " ", "1"};
enum { WORD_COUNT = sizeof WORDS / sizeof *WORDS };

static constraint *open_words(vocabulary **v, const char *const *passages, size_t count)
{
    bytes tokens[WORD_COUNT], texts_[4];
    for (size_t i = 0; i < WORD_COUNT; i++) tokens[i] = bytes_str(WORDS[i]);
    tokens[0].size = 0;
    for (size_t i = 0; i < count; i++) texts_[i] = bytes_str(passages[i]);
    vocabulary_open(v, tokens, WORD_COUNT);
    constraint *c;
    constraint_open(&c, *v, texts_, count, 0);
    return c;
}

static bool allows(constraint *c, const char *token)
{
    size_t count;
    const uint32_t *ids = constraint_allowed(c, &count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(WORDS[ids[i]], token) == 0) return true;
    return false;
}

static void spans_of_an_answer(void)
{
    static const char *const passages[] = {"The miller was Jorn.", "In 1871 the mill burned.", "Jorn, the mill"};
    vocabulary *v;
    constraint *c = open_words(&v, passages, 3);
    constraint_span s[CONSTRAINT_SPANS_MAX];
    CHECK(!allows(c, "<end>") && allows(c, " Jorn") && allows(c, "Jorn") && allows(c, " ") && allows(c, " 18"));
    CHECK(!allows(c, "71") && !allows(c, "ill") && !allows(c, " ...") && allows(c, " burned"));
    CHECK(constraint_spans(c, s) == 0);
    constraint_advance(c, bytes_str(" Jorn"));
    CHECK(allows(c, "<end>") && allows(c, " ...") && allows(c, ".") && !allows(c, " the") && !allows(c, "orn"));
    NEED(constraint_spans(c, s) == 1);
    CHECK(s[0].passage == 0 && s[0].start == 15 && s[0].end == 19);
    constraint_advance(c, bytes_str(" ..."));
    CHECK(!allows(c, "<end>") && allows(c, " 18") && !allows(c, "71") && !allows(c, "Jorn"));
    CHECK(constraint_spans(c, s) == 1);
    constraint_advance(c, bytes_str(" 18"));
    CHECK(allows(c, "71") && !allows(c, "<end>") && !allows(c, "71.") && !allows(c, " ..."));
    NEED(constraint_spans(c, s) == 2);                    /* the word under way, to its end */
    CHECK(s[1].passage == 1 && s[1].start == 3 && s[1].end == 7);
    constraint_advance(c, bytes_str("71"));
    CHECK(allows(c, "<end>") && allows(c, " the"));
    constraint_advance(c, bytes_str(" ..."));
    constraint_advance(c, bytes_str(" Jorn"));
    CHECK(!allows(c, " ..."));                            /* a fourth span */
    NEED(constraint_spans(c, s) == 3);
    CHECK(s[2].passage == 0 && s[2].end == 19);
    constraint_close(&c);
    vocabulary_close(&v);
}

/* Passages without a word let nothing through. */
static void nothing_to_say(void)
{
    static const char *const passages[] = {"", " ... \n", "--"};
    vocabulary *v;
    constraint *c = open_words(&v, passages, 3);
    size_t count;
    constraint_span s[CONSTRAINT_SPANS_MAX];
    (void)constraint_allowed(c, &count);
    CHECK(count == 0 && constraint_spans(c, s) == 0);
    constraint_close(&c);
    vocabulary_close(&v);
}

int main(void)
{
    RUN(spans_of_an_answer);
    RUN(nothing_to_say);
    RUN(random_walks);
    return DONE();
}
