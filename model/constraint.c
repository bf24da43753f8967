#include "constraint.h"

#include "tokenizer_internal.h"

#include "mutant.h"

#include <string.h>

/* ---- the vocabulary, sorted -------------------------------------------------------------------------- */
typedef struct { bytes text; uint32_t id; } word;

struct vocabulary {
    word *words;                           /* [count], by bytes, then by id */
    uint32_t count, size;                  /* ids are below size */
    uint32_t first[257];                   /* words that begin with byte b: first[b] .. first[b+1] */
};

/* The words that begin with the same `depth` bytes: [low, high). Those of just so many bytes stand first. */
typedef struct { uint32_t low, high, depth; } range;

static int word_compare(const void *a_, const void *b_)
{
    const word *a = a_, *b = b_;
    size_t n = a->text.size < b->text.size ? a->text.size : b->text.size;
    int order = memcmp(a->text.data, b->text.data, n);
    if (order != 0) return order;
    if (a->text.size != b->text.size) return a->text.size < b->text.size ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

void vocabulary_open(vocabulary **out, const bytes *tokens, uint32_t count)
{
    vocabulary *v = mem_alloc(sizeof *v);
    v->words = mem_alloc_array(count, sizeof *v->words);
    v->size = count;
    for (uint32_t i = 0; i < count; i++)
        if (tokens[i].size > 0) v->words[v->count++] = (word){tokens[i], i};
    qsort(v->words, v->count, sizeof *v->words, word_compare);
    uint32_t at = 0;
    for (uint32_t b = 0; b < 257; b++) {
        while (at < v->count && v->words[at].text.data[0] < b) at++;
        v->first[b] = at;
    }
    *out = v;
}

void vocabulary_close(vocabulary **v)
{
    if (*v == NULL) return;
    mem_free((*v)->words);
    mem_free(*v);
    *v = NULL;
}

/* The first of r whose byte at r's depth is at least b. */
static uint32_t lower_bound(const vocabulary *v, range r, uint32_t b)
{
    uint32_t low = r.low, high = r.high;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        bytes text = v->words[middle].text;
        if (text.size <= r.depth || text.data[r.depth] < b) low = middle + 1; else high = middle;
    }
    return low;
}

/* Those of r that go on with byte b. */
static range narrow(const vocabulary *v, range r, uint8_t b)
{
    if (r.depth == 0) return (range){v->first[b], v->first[b + 1], 1};
    r.low = lower_bound(v, r, b);
    r.high = lower_bound(v, r, (uint32_t)b + 1);
    r.depth++;
    return r;
}

/* ---- the passages and where spans begin and end in them ------------------------------------------------ */
enum { MAY_BEGIN = CONSTRAINT_BEGINS, MAY_END = CONSTRAINT_ENDS, LAST = 4 };   /* LAST: behind a passage's last byte */
enum { SEPARATOR_SIZE = sizeof CONSTRAINT_SEPARATOR - 1 };
static const uint8_t SEPARATOR[] = CONSTRAINT_SEPARATOR;

/* GAP: before a span, where `matched` says that a space may no longer come. INSIDE one: `next` is the byte to come of the
 * span that begins at `from`. BETWEEN two: `matched` bytes of the separator were read. */
typedef enum { GAP, INSIDE, BETWEEN } phase;
typedef struct { uint32_t from, to; } stretch;
typedef struct {
    phase at;
    uint32_t spans;                        /* whole ones, in done */
    uint32_t matched, from, next;
    stretch done[CONSTRAINT_SPANS_MAX];
} way;
typedef struct { way *all; size_t count, capacity; } ways;

struct constraint {
    const vocabulary *v;
    int64_t end_token;
    uint8_t *text, *flags;                 /* the passages, each followed by one byte that LAST marks */
    uint32_t *word;                        /* the first place behind a word character that begins here or later */
    uint32_t *starts;                      /* places that MAY_BEGIN, ascending */
    size_t *passages;                      /* [passage_count + 1]: where each begins in the text */
    size_t size, start_count, passage_count;
    ways now, then;                        /* then: of the byte that is being read */
    bool kept[CONSTRAINT_SPANS_MAX][2][SEPARATOR_SIZE + 1];      /* which ways outside of spans `then` has */
    uint64_t *marks;                       /* a bit an id */
    uint32_t *ids;
};

static bool is_digit(uint32_t c) { return c >= '0' && c <= '9'; }
static bool is_point(uint32_t c) { return c == '.' || c == ',' || c == ':'; }

/* Is the place between b and c, of a b c d in a row, inside a word or a number? 0: no character. */
static bool is_inside(uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    if (MUTANT(span_mid_word)) return false;
    if (unicode_is_word(b) && unicode_is_word(c)) return true;
    return (is_digit(b) && is_point(c) && is_digit(d)) || (is_digit(a) && is_point(b) && is_digit(c));
}

void constraint_edges(bytes passage, uint8_t *flags, uint32_t *word_end)
{
    uint32_t before[2] = {0, 0}, here = 0, soonest = UINT32_MAX;
    size_t at = 0, next = 0;
    memset(flags, 0, passage.size + 1);
    memset(word_end, 0, (passage.size + 1) * sizeof *word_end);
    if (passage.size > 0) here = utf8_next(passage, &next);
    for (;;) {
        size_t beyond = next;
        bool ends = at == passage.size;
        uint32_t after = next < passage.size ? utf8_next(passage, &beyond) : 0;
        if (!is_inside(before[0], before[1], here, after)) {
            if (!ends && !unicode_is_space(here)) flags[at] |= MAY_BEGIN;
            if (at > 0 && !unicode_is_space(before[1])) flags[at] |= MAY_END;
        }
        if (ends) break;
        word_end[at] = unicode_is_word(here) ? (uint32_t)next : 0;
        before[0] = before[1];
        before[1] = here;
        here = after;
        at = next;
        next = beyond;
    }
    for (size_t i = passage.size + 1; i-- > 0;) {        /* where no word follows nothing may begin */
        if (i < passage.size && word_end[i] != 0) soonest = word_end[i];
        word_end[i] = soonest;
        if (soonest == UINT32_MAX) flags[i] &= (uint8_t)~MAY_BEGIN;
    }
}

/* Those of the passage at `base`, which ends before its trailing white space. */
static void flags_set(constraint *c, size_t base, bytes passage)
{
    constraint_edges(passage, c->flags + base, c->word + base);
    c->flags[base + passage.size] |= LAST;
    for (size_t i = 0; i <= passage.size; i++)
        if (c->word[base + i] != UINT32_MAX) c->word[base + i] += (uint32_t)base;
}

/* Without its trailing white space. */
static bytes trimmed(bytes passage)
{
    size_t at = 0, end = 0;
    while (at < passage.size)
        if (!unicode_is_space(utf8_next(passage, &at))) end = at;
    return bytes_of(passage.data, end);
}

static void ways_push(ways *w, const way *one)
{
    if (w->count == w->capacity) {
        w->capacity = 2 * w->capacity + 64;
        w->all = mem_realloc(w->all, w->capacity * sizeof *w->all);
    }
    w->all[w->count++] = *one;
}

void constraint_open(constraint **out, const vocabulary *v, const bytes *passages, size_t count, int64_t end_token)
{
    constraint *c = mem_alloc(sizeof *c);
    c->v = v;
    c->end_token = end_token >= 0 && end_token < v->size ? end_token : -1;
    c->passage_count = count;
    c->passages = mem_alloc_array(count + 1, sizeof *c->passages);
    for (size_t i = 0; i < count; i++) c->passages[i + 1] = c->passages[i] + trimmed(passages[i]).size + 1;
    c->size = c->passages[count];
    ASSERT(c->size < UINT32_MAX / 2);
    c->text = mem_alloc(c->size);
    c->flags = mem_alloc(c->size);
    c->word = mem_alloc_array(c->size, sizeof *c->word);
    for (size_t i = 0; i < count; i++) {
        bytes passage = trimmed(passages[i]);
        if (passage.size) memcpy(c->text + c->passages[i], passage.data, passage.size);
        flags_set(c, c->passages[i], passage);
    }
    c->starts = mem_alloc_array(c->size, sizeof *c->starts);
    for (uint32_t i = 0; i < c->size; i++)
        if (c->flags[i] & MAY_BEGIN) c->starts[c->start_count++] = i;
    c->marks = mem_alloc_array(v->size / 64 + 1, sizeof *c->marks);
    c->ids = mem_alloc_array(v->size, sizeof *c->ids);
    ways_push(&c->now, &(way){.at = GAP});
    *out = c;
}

void constraint_close(constraint **out)
{
    constraint *c = *out;
    if (c == NULL) return;
    mem_wipe(c->text, c->size);
    mem_free(c->text);
    mem_free(c->flags);
    mem_free(c->word);
    mem_free(c->starts);
    mem_free(c->passages);
    mem_free(c->now.all);
    mem_free(c->then.all);
    mem_free(c->marks);
    mem_free(c->ids);
    mem_free(c);
    *out = NULL;
}

static bool may_end(const constraint *c, const way *w)
{
    return w->at == INSIDE && (c->flags[w->next] & MAY_END) && c->word[w->from] <= w->next;
}

/* ---- which tokens may come next -------------------------------------------------------------------------- */
static way begun(const way *w, uint32_t start)
{
    way inside = *w;
    inside.at = INSIDE;
    inside.from = start;
    inside.next = start + 1;
    return inside;
}

/* The span ends, the separator begins. */
static way parted(const way *w)
{
    way between = *w;
    between.at = BETWEEN;
    between.done[between.spans++] = (stretch){w->from, w->next};
    between.matched = between.from = between.next = 0;
    return between;
}

static bool may_part(const constraint *c, const way *w)
{
    return w->spans + 1 < CONSTRAINT_SPANS_MAX && may_end(c, w);
}

static void separator_read(way *w)
{
    if (++w->matched == SEPARATOR_SIZE) w->at = GAP;      /* matched > 0: no space in front */
}

static void explore(constraint *c, way w, range r);

static void explore_starts(constraint *c, const way *w, range r)
{
    range by_byte[256];
    bool known[256] = {false};
    for (size_t i = 0; i < c->start_count; i++) {
        uint8_t b = c->text[c->starts[i]];
        if (!known[b]) by_byte[b] = narrow(c->v, r, b);
        known[b] = true;
        if (by_byte[b].low < by_byte[b].high) explore(c, begun(w, c->starts[i]), by_byte[b]);
    }
    if (w->matched > 0) return;
    way spaced = *w;
    spaced.matched = 1;
    if (c->start_count > 0) explore(c, spaced, narrow(c->v, r, ' '));
}

/* Marks the tokens of r that w can read, of which it has read r's depth. */
static void explore(constraint *c, way w, range r)
{
    while (r.low < r.high) {
        for (; r.low < r.high && c->v->words[r.low].text.size == r.depth; r.low++)
            c->marks[c->v->words[r.low].id / 64] |= (uint64_t)1 << (c->v->words[r.low].id % 64);
        if (w.at == GAP) {
            explore_starts(c, &w, r);
            return;
        }
        if (w.at == BETWEEN) {
            r = narrow(c->v, r, SEPARATOR[w.matched]);
            separator_read(&w);
            continue;
        }
        if (may_part(c, &w)) explore(c, parted(&w), r);
        if (c->flags[w.next] & LAST) return;
        r = narrow(c->v, r, c->text[w.next++]);
    }
}

const uint32_t *constraint_allowed(constraint *c, size_t *count)
{
    size_t n = 0, marks = c->v->size / 64 + 1;
    memset(c->marks, 0, marks * sizeof *c->marks);
    for (size_t i = 0; i < c->now.count; i++) explore(c, c->now.all[i], (range){0, c->v->count, 0});
    for (size_t i = 0; i < c->now.count && c->end_token >= 0; i++)
        if (may_end(c, &c->now.all[i])) c->marks[c->end_token / 64] |= (uint64_t)1 << (c->end_token % 64);
    for (size_t i = 0; i < marks; i++)
        for (uint64_t left = c->marks[i]; left != 0; left &= left - 1)
            c->ids[n++] = (uint32_t)(64 * i) + (uint32_t)__builtin_ctzll(left);
    *count = n;
    return c->ids;
}

/* ---- reading a token ----------------------------------------------------------------------------------------- */
/* Outside of spans one way is as good as another with as many spans behind it: the first stays. */
static void keep(constraint *c, const way *one)
{
    bool *kept = &c->kept[one->spans][one->at == GAP][one->matched];
    if (one->at != INSIDE && *kept) return;
    if (one->at != INSIDE) *kept = true;
    ways_push(&c->then, one);
}

static void read_byte(constraint *c, const way *w, uint8_t b)
{
    way next = *w;
    if (w->at == INSIDE) {
        if (may_part(c, w) && SEPARATOR[0] == b) {
            next = parted(w);
            separator_read(&next);
            keep(c, &next);
        }
        next = *w;
        if ((c->flags[w->next] & LAST) || c->text[w->next] != b) return;
        next.next++;
        keep(c, &next);
    } else if (w->at == BETWEEN) {
        if (SEPARATOR[w->matched] != b) return;
        separator_read(&next);
        keep(c, &next);
    } else {
        for (size_t i = 0; i < c->start_count; i++) {
            if (c->text[c->starts[i]] != b) continue;
            next = begun(w, c->starts[i]);
            keep(c, &next);
        }
        if (w->matched > 0 || b != ' ' || c->start_count == 0) return;
        next = *w;
        next.matched = 1;
        keep(c, &next);
    }
}

void constraint_advance(constraint *c, bytes token)
{
    for (size_t i = 0; i < token.size; i++) {
        c->then.count = 0;
        memset(c->kept, 0, sizeof c->kept);
        for (size_t w = 0; w < c->now.count; w++) read_byte(c, &c->now.all[w], token.data[i]);
        ways read = c->then;
        c->then = c->now;
        c->now = read;
        ASSERT(c->now.count > 0);
    }
}

/* ---- what was written --------------------------------------------------------------------------------------------- */
static constraint_span located(const constraint *c, stretch s)
{
    size_t p = 0;
    while (c->passages[p + 1] <= s.from) p++;
    return (constraint_span){p, s.from - c->passages[p], s.to - c->passages[p]};
}

/* Ended ones before those inside a word before those between spans; then fewer spans; then the earlier place. */
static bool is_better(const constraint *c, const way *a, const way *b)
{
    int rank_a = may_end(c, a) ? 0 : a->at == INSIDE ? 1 : 2, rank_b = may_end(c, b) ? 0 : b->at == INSIDE ? 1 : 2;
    if (rank_a != rank_b) return rank_a < rank_b;
    if (a->spans != b->spans) return a->spans < b->spans;
    return a->from < b->from;
}

size_t constraint_spans(const constraint *c, constraint_span out[CONSTRAINT_SPANS_MAX])
{
    way best = c->now.all[0];
    for (size_t i = 1; i < c->now.count; i++)
        if (is_better(c, &c->now.all[i], &best)) best = c->now.all[i];
    if (best.at == INSIDE) {
        while (!may_end(c, &best)) best.next++;          /* a passage's end is one, behind its last word */
        best.done[best.spans++] = (stretch){best.from, best.next};
    }
    for (uint32_t i = 0; i < best.spans; i++) out[i] = located(c, best.done[i]);
    return best.spans;
}

size_t constraint_cut(const constraint *c, constraint_span *spans, size_t count, size_t size)
{
    size_t left = 0, at = 0;
    for (; left < count && at < size; left++) {
        constraint_span *s = &spans[left];
        size_t base = c->passages[s->passage], room = size - at;
        if (s->end - s->start > room) {
            way w = {.at = INSIDE, .from = (uint32_t)(base + s->start), .next = (uint32_t)(base + s->start + room)};
            while (w.next > w.from && !may_end(c, &w)) w.next--;
            if (w.next == w.from) break;
            s->end = w.next - base;
        }
        at += s->end - s->start + SEPARATOR_SIZE;
    }
    return left;
}
