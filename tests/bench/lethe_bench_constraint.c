/* lethe-bench constraint: what the constraint of grounded answers costs beside a decoding step.
 *
 * Passages of 150 words and a vocabulary are cut from text files: the vocabulary is their most frequent byte strings that
 * begin at a word, with the space in front, or inside one, all single bytes first. Answers are walked by taking a random token of those
 * that may come next; the times are those of constraint_open, of finding the tokens for an answer's first one, and of
 * finding them further on together with reading the last. */
#include "lethe_bench.h"

#include "bench.h"
#include "constraint.h"

#include <ctype.h>
#include <string.h>
#include <time.h>

const char *const LETHE_BENCH_CONSTRAINT_USAGE =
    "constraint FILE... [--vocabulary N (32768)] [--passages N (5)] [--words N (150)] [--rounds N (200)]";

enum { PIECE_MAX_BYTES = 12, ANSWER_TOKENS = 8 };
typedef struct { bytes text; uint32_t count; } piece;

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_text(const void *a_, const void *b_)
{
    const piece *a = a_, *b = b_;
    size_t n = a->text.size < b->text.size ? a->text.size : b->text.size;
    int order = memcmp(a->text.data, b->text.data, n);
    return order ? order : (a->text.size > b->text.size) - (a->text.size < b->text.size);
}

static int by_count(const void *a, const void *b)
{
    uint32_t x = ((const piece *)a)->count, y = ((const piece *)b)->count;
    return x < y ? 1 : x > y ? -1 : by_text(a, b);
}

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* All pieces of words, the most frequent ones first. */
static piece *pieces_of(bytes text, size_t *count)
{
    piece *all = mem_alloc_array(text.size * PIECE_MAX_BYTES, sizeof *all);
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < text.size; i++)
        for (size_t size = 2; size <= PIECE_MAX_BYTES && i + size <= text.size; size++) {
            if (!isalpha(text.data[i + size - 1])) break;
            all[n++] = (piece){bytes_of(text.data + i, size), 1};
        }
    qsort(all, n, sizeof *all, by_text);
    for (size_t i = 0; i < n; i++)
        if (kept > 0 && bytes_equal(all[kept - 1].text, all[i].text)) all[kept - 1].count++;
        else all[kept++] = all[i];
    qsort(all, kept, sizeof *all, by_count);
    *count = kept;
    return all;
}

typedef struct { double open, first, next; size_t allowed_first, allowed_next; } costs;

static costs answer_time(const vocabulary *v, const bytes *tokens, const bytes *passages, size_t count, uint64_t *seed)
{
    costs out = {0};
    constraint *c;
    double start = now_us();
    constraint_open(&c, v, passages, count, 0);
    out.open = now_us() - start;
    for (int i = 0; i <= ANSWER_TOKENS; i++) {
        size_t allowed;
        start = now_us();
        const uint32_t *ids = constraint_allowed(c, &allowed);
        if (allowed == 0) break;
        uint32_t id = ids[random_next(seed) % allowed];
        if (id == 0) break;
        constraint_advance(c, tokens[id]);
        double took = now_us() - start;
        if (i == 0) {
            out.first = took;
            out.allowed_first = allowed;
        } else if (took > out.next) {      /* the dearest of an answer's further tokens */
            out.next = took;
            out.allowed_next = allowed;
        }
    }
    constraint_close(&c);
    return out;
}

/* count passages of so many words, from a random place of the text. */
static void passages_cut(bytes text, size_t words, size_t count, uint64_t *seed, bytes *out)
{
    size_t at = random_next(seed) % (text.size / 2);
    for (size_t p = 0; p < count; p++) {
        size_t from = at, seen = 0;
        while (at < text.size && seen < words)
            if (text.data[at++] == ' ') seen++;
        out[p] = bytes_of(text.data + from, at - from);
        if (at >= text.size) at = 0;
    }
}

static void measure(bytes text, uint32_t size, size_t passages, size_t words, size_t rounds)
{
    size_t found;
    piece *pieces = pieces_of(text, &found);
    bytes *tokens = mem_alloc_array(size, sizeof *tokens), *cut = mem_alloc_array(passages, sizeof *cut);
    static uint8_t singles[256];
    uint32_t count = 1;                    /* id 0 ends */
    for (int b = 0; b < 256; b++) singles[b] = (uint8_t)b;
    for (int b = 0; b < 256 && count < size; b++) tokens[count++] = bytes_of(&singles[b], 1);
    for (size_t i = 0; i < found && count < size; i++) tokens[count++] = pieces[i].text;
    vocabulary *v;
    double start = now_us();
    vocabulary_open(&v, tokens, count);
    printf("vocabulary of %u tokens: sorted in %.1f ms\n", count, (now_us() - start) / 1e3);
    double *open = mem_alloc_array(rounds, sizeof *open), *first = mem_alloc_array(rounds, sizeof *first),
           *next = mem_alloc_array(rounds, sizeof *next);
    uint64_t seed = 1;
    size_t allowed_first = 0, allowed_next = 0;
    for (size_t i = 0; i < rounds; i++) {
        passages_cut(text, words, passages, &seed, cut);
        costs one = answer_time(v, tokens, cut, passages, &seed);
        open[i] = one.open;
        first[i] = one.first;
        next[i] = one.next;
        allowed_first += one.allowed_first;
        allowed_next += one.allowed_next;
    }
    qsort(open, rounds, sizeof *open, by_number);
    qsort(first, rounds, sizeof *first, by_number);
    qsort(next, rounds, sizeof *next, by_number);
    printf("%-34s %10s %10s %16s\n", "microseconds", "median", "most", "tokens let through");
    printf("%-34s %10.1f %10.1f\n", "opening", open[rounds / 2], open[rounds - 1]);
    printf("%-34s %10.1f %10.1f %16zu\n", "first token", first[rounds / 2], first[rounds - 1], allowed_first / rounds);
    printf("%-34s %10.1f %10.1f %16zu\n", "dearest further token of an answer", next[rounds / 2], next[rounds - 1],
           allowed_next / rounds);
    mem_free(open);
    mem_free(first);
    mem_free(next);
    vocabulary_close(&v);
    mem_free(tokens);
    mem_free(cut);
    mem_free(pieces);
}

static bool number_of(const char *text, uint64_t least, uint64_t most, uint64_t *out)
{
    char *end;
    *out = strtoull(text, &end, 10);
    return *text != 0 && *end == 0 && *out >= least && *out <= most;
}

int lethe_bench_constraint(int argc, char **argv)
{
    static const char *const names[] = {"--vocabulary", "--passages", "--words", "--rounds"};
    uint64_t values[] = {32768, 5, 150, 200};
    static const uint64_t most[] = {1u << 20, 64, 10000, 100000};
    buf text;
    buf_init(&text, (size_t)64 << 20);
    bool good = true;
    for (int i = 1; i < argc && good; i++) {
        size_t n = 0;
        while (n < 4 && strcmp(argv[i], names[n]) != 0) n++;
        if (n < 4) good = ++i < argc && number_of(argv[i], n == 0 ? 300 : 1, most[n], &values[n]);
        else {
            result r = file_read(argv[i], (size_t)64 << 20, &text);
            if (is_ok(r)) continue;
            fprintf(stderr, "lethe-bench constraint: %s\n", r.message);
            buf_free(&text);
            return 1;
        }
    }
    if (!good || text.size < 10000) {
        fprintf(stderr, "usage: lethe-bench %s\nFILE: English text, 10 kB or more in all\n", LETHE_BENCH_CONSTRAINT_USAGE);
        buf_free(&text);
        return 2;
    }
    measure(buf_bytes(&text), (uint32_t)values[0], values[1], values[2], values[3]);
    buf_free(&text);
    return 0;
}
