/* lethe-bench perplexity: what a precision costs, as the perplexity of a text. The text is read in windows, each from
 * the zero state; every token but a window's first is predicted. */
#include "lethe_bench.h"

#include "model.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const LETHE_BENCH_PERPLEXITY_USAGE =
    "perplexity MODEL_DIR TEXT_FILE [--precision f32,bf16,q8,q4] [--window 512] [--tokens 20000] [--threads 1]\n"
    "  --precision  one by one; each is compared with the first\n"
    "  --window     tokens that are read without a pause, 2 to 65536\n"
    "  --tokens     of the text's beginning, at most so many";

enum { BATCH = 16, TEXT_MAX = 64 << 20 };

typedef struct {
    const char *dir, *text, *names;
    uint32_t window, tokens, threads;
} options;

static void must(result r)
{
    if (is_ok(r)) return;
    fprintf(stderr, "lethe-bench: %s\n", r.message);
    exit(1);
}

static bool parse_number(const char *text, unsigned long least, unsigned long most, uint32_t *out)
{
    char *end = NULL;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (errno != 0 || *text < '0' || *text > '9' || *end != '\0' || v < least || v > most) return false;
    *out = (uint32_t)v;
    return true;
}

static bool parse_options(options *o, int argc, char **argv)
{
    *o = (options){.names = "f32,bf16,q8,q4", .window = 512, .tokens = 20000, .threads = 1};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (name[0] != '-') {
            if (o->dir == NULL) o->dir = name;
            else if (o->text == NULL) o->text = name;
            else return false;
            continue;
        }
        if (value == NULL) return false;
        if (strcmp(name, "--precision") == 0) o->names = value;
        else if (strcmp(name, "--window") == 0 && parse_number(value, 2, 65536, &o->window)) {}
        else if (strcmp(name, "--tokens") == 0 && parse_number(value, 2, 100000000, &o->tokens)) {}
        else if (strcmp(name, "--threads") == 0 && parse_number(value, 1, 64, &o->threads)) {}
        else return false;
        i++;
    }
    return o->text != NULL;
}

/* Reads windows [first, first+count) of ids side by side; the sum of -ln p of the tokens that are predicted. */
static double windows_loss(const model *m, const uint32_t *ids, size_t total, uint32_t window, size_t first,
                           size_t count, size_t *predicted)
{
    model_seq *seqs[BATCH];
    size_t vocab = model_describe(m)->vocab_size;
    float *logits = mem_alloc_array(BATCH * vocab, sizeof *logits);
    double sum = 0;
    for (size_t w = 0; w < count; w++) must(model_seq_open(&seqs[w], m));
    for (size_t i = 0; i + 1 < window; i++) {
        uint32_t tokens[BATCH], next[BATCH];
        size_t n = 0;
        for (size_t w = 0; w < count; w++) {
            size_t at = (first + w) * window + i;
            if (at + 1 >= total) break;                /* only the last window ends early */
            tokens[n] = ids[at];
            next[n++] = ids[at + 1];
        }
        must(model_decode(m, seqs, tokens, n, logits));
        for (size_t w = 0; w < n; w++) sum -= model_log_prob(logits + w * vocab, (uint32_t)vocab, next[w]);
        *predicted += n;
    }
    for (size_t w = 0; w < count; w++) model_seq_close(&seqs[w]);
    mem_free(logits);
    return sum;
}

static double perplexity(const options *o, model_precision precision, bytes text)
{
    model *m = NULL;
    arena *a = NULL;
    uint32_t *ids;
    size_t total, predicted = 0;
    double sum = 0;
    must(model_open(&m, o->dir, &(model_options){.threads = o->threads, .precision = precision}));
    arena_open(&a, (size_t)1 << 30);
    must(tokenizer_encode(model_tokenizer(m), text, false, a, &ids, &total));
    if (total > o->tokens) total = o->tokens;
    if (total < 2) must(fail(E_INVALID, "the text has fewer than two tokens"));
    size_t windows = (total + o->window - 1) / o->window;
    for (size_t w = 0; w < windows; w += BATCH)
        sum += windows_loss(m, ids, total, o->window, w, windows - w < BATCH ? windows - w : BATCH, &predicted);
    double value = exp(sum / (double)predicted);
    printf("%-5s %-10s %8zu %14.4f", model_describe(m)->precision, model_describe(m)->kernel, predicted, value);
    arena_close(&a);
    model_close(&m);
    return value;
}

int lethe_bench_perplexity(int argc, char **argv)
{
    options o;
    char names[64];
    double first = 0;
    if (!parse_options(&o, argc, argv) || strlen(o.names) >= sizeof names) {
        fprintf(stderr, "usage: lethe-bench %s\n", LETHE_BENCH_PERPLEXITY_USAGE);
        return 2;
    }
    buf text;
    buf_init(&text, TEXT_MAX);
    must(file_read(o.text, TEXT_MAX, &text));
    puts("held  kernel       tokens     perplexity   over first");
    strcpy(names, o.names);
    for (char *save = NULL, *name = strtok_r(names, ",", &save); name != NULL; name = strtok_r(NULL, ",", &save)) {
        model_precision precision;
        if (!model_precision_parse(name, &precision)) must(fail(E_INVALID, "there is no precision %s", name));
        double value = perplexity(&o, precision, buf_bytes(&text));
        if (first == 0) first = value;
        printf(" %+10.3f %%\n", 100 * (value / first - 1));
        fflush(stdout);
    }
    buf_free(&text);
    return 0;
}
