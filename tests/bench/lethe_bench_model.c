/* lethe-bench model: how fast an engine reads and writes tokens, in how much memory, and how far that is from what the
 * machine can do.
 *
 * Every (precision, threads) has a process of its own, so that the memory is its own. The limits are measured just
 * before each measurement, round by round, and medians are compared with medians: a machine that others use as well
 * slows both. */
#include "bench.h"
#include "lethe_bench.h"
#include "lethe_bench_gpu.h"
#include "lethe_bench_limits.h"
#include "model.h"
#include "model/config.h"
#include "model/pool.h"
#include "tensors.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

const char *const LETHE_BENCH_MODEL_USAGE =
    "model MODEL_DIR [--precision stored|f32|bf16|q8|q4|all] [--threads 1,2] [--prefill 512,2048,8192,32768]\n"
    "           [--batch 1,4,8,16,32] [--repeat 5] [--steps 32] [--csv FILE] [--quick] [--memory]\n"
    "           [--backend cpu|cuda] [--device 0]\n"
    "  --threads  one by one; default: 1 and as many as there are processors\n"
    "  --prefill  lengths, in tokens, of one sequence; 0: none\n"
    "  --batch    sequences of one decoding step; 0: none\n"
    "  --steps    decoding steps of a measurement at batch 1; fewer, at least 8, for larger ones\n"
    "  --backend  cuda: also longer prompts and larger batches, limits are the GPU's, threads 1, precisions f32 and bf16\n"
    "  --quick    3 rounds, prefill of 512, batches 1 and 8, 8 steps, all processors, unless given otherwise\n"
    "  --memory   nothing is timed: the largest of --batch is how many sequences are open; 1 is returned where the peak\n"
    "             is above the limit";

enum {
    LIST_MAX = 16, REPEAT_MAX = 99, BATCH_MAX = 256, PROMPT_MAX = 1 << 20, FIRST_TOKEN_PROMPT = 512, STEPS_LEAST = 8
};

typedef struct { size_t count; uint32_t at[LIST_MAX]; } list;

typedef struct {
    const char *dir, *csv_path;
    FILE *csv;
    size_t precision_count;
    model_precision precisions[4];
    list threads, prefill, batch;
    uint32_t repeat, steps, device;
    model_backend backend;
    bool memory_alone;
} options;

typedef enum { PREFILL, DECODE, FIRST_TOKEN } kind;
static const char *const KINDS[] = {"prefill", "decode", "first token"};
static const char *const UNITS[] = {"tokens/s", "tokens/s", "ms"};

/* One thing measured, a value a round, with the limits just before it. */
typedef struct {
    kind kind;
    uint32_t tokens, batch;
    double value[REPEAT_MAX];                  /* tokens a second; FIRST_TOKEN: ms */
    double read[REPEAT_MAX], peak[REPEAT_MAX]; /* bytes and operations a second */
} measurement;

typedef struct {
    const options *o;
    model_precision asked;
    uint32_t threads;
    uint32_t vocab_size;
    bool untied;                               /* the embeddings are a matrix apart from the head */
    model *m;
    const model_info *info;
    double products, head;                     /* parameters of the layers' four products; of the head */
    double bytes_a_token;                      /* weights that a step reads */
    double open_ms, before_bytes, after_bytes, peak_bytes;
    model_seq **seqs;                          /* [most_batch] */
    uint32_t most_batch;
    uint32_t *tokens;                          /* [most_tokens], random */
    float *logits;                             /* (most_batch,vocab) */
    size_t measurement_count;
    measurement *measurements;
    const char *instruction;
} bench;

/* ---- small things ------------------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct { double median, least, most; } summary;

static summary summarise(const double *values, size_t count)
{
    double *sorted = mem_alloc_array(count, sizeof *sorted);
    memcpy(sorted, values, count * sizeof *values);
    qsort(sorted, count, sizeof *sorted, by_value);
    summary s = {(sorted[(count - 1) / 2] + sorted[count / 2]) / 2, sorted[0], sorted[count - 1]};
    mem_free(sorted);
    return s;
}

/* A field of /proc/self/status in bytes; 0 when there is none. */
static double status_bytes(const char *field)
{
    FILE *f = fopen("/proc/self/status", "r");
    if (f == NULL) return 0;
    char line[256];
    unsigned long long kb = 0;
    size_t length = strlen(field);
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, field, length) == 0 && line[length] == ':') kb = strtoull(line + length + 1, NULL, 10);
    fclose(f);
    return 1024.0 * (double)kb;
}

static uint32_t most_of(const list *l, uint32_t least)
{
    for (size_t i = 0; i < l->count; i++)
        if (l->at[i] > least) least = l->at[i];
    return least;
}

static uint32_t steps_of(const options *o, uint32_t batch)
{
    uint32_t steps = o->steps / batch;
    return batch == 1 || steps >= STEPS_LEAST ? steps : STEPS_LEAST;
}

/* ---- options ----------------------------------------------------------------------------------------- */

/* Whole numbers from least to most with commas between; a lone 0 is the empty list where empty is fine. */
static bool parse_list(const char *text, uint32_t most, bool empty_is_fine, list *out)
{
    *out = (list){0};
    if (empty_is_fine && strcmp(text, "0") == 0) return true;
    for (const char *at = text;; at++) {
        char *end;
        if (*at < '0' || *at > '9' || out->count == LIST_MAX) return false;
        unsigned long value = strtoul(at, &end, 10);
        if (value == 0 || value > most) return false;
        out->at[out->count++] = (uint32_t)value;
        if (*end == 0) return true;
        if (*end != ',') return false;
        at = end;
    }
}

static bool parse_number(const char *text, uint32_t most, uint32_t *out)
{
    list one;
    if (!parse_list(text, most, false, &one) || one.count != 1) return false;
    *out = one.at[0];
    return true;
}

static bool parse_device(const char *text, uint32_t *out)
{
    *out = 0;
    return strcmp(text, "0") == 0 || parse_number(text, 63, out);
}

static bool parse_precision(const char *text, options *o)
{
    o->precision_count = 0;
    if (strcmp(text, "all") == 0) {
        for (int p = MODEL_F32; p <= MODEL_Q4; p++) o->precisions[o->precision_count++] = (model_precision)p;
        return true;
    }
    return model_precision_parse(text, &o->precisions[o->precision_count++]);
}

static uint32_t all_processors(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    return processors < 1 ? 1 : processors > POOL_THREADS_MAX ? POOL_THREADS_MAX : (uint32_t)processors;
}

static void set_defaults_gpu(options *o, bool quick)
{
    *o = (options){.precision_count = 1, .repeat = quick ? 3 : 5, .steps = 64, .backend = MODEL_CUDA, .threads = {1, {1}}};
    o->prefill = quick ? (list){2, {2048, 8192}} : (list){5, {512, 2048, 8192, 32768, 131072}};
    o->batch = quick ? (list){3, {1, 16, 128}} : (list){8, {1, 2, 4, 8, 16, 32, 64, 128}};
}

static void set_defaults(options *o, bool quick)
{
    const uint32_t all = all_processors();
    *o = (options){.precision_count = 1, .repeat = quick ? 3 : 5, .steps = quick ? STEPS_LEAST : 32};
    if (!quick && all > 1) o->threads.at[o->threads.count++] = 1;
    o->threads.at[o->threads.count++] = all;
    o->prefill = quick ? (list){1, {512}} : (list){4, {512, 2048, 8192, 32768}};
    o->batch = quick ? (list){2, {1, 8}} : (list){5, {1, 4, 8, 16, 32}};
}

static bool parse_option(options *o, const char *name, const char *value)
{
    if (value == NULL) return false;
    if (strcmp(name, "--precision") == 0) return parse_precision(value, o);
    if (strcmp(name, "--threads") == 0) return parse_list(value, POOL_THREADS_MAX, false, &o->threads);
    if (strcmp(name, "--prefill") == 0) return parse_list(value, PROMPT_MAX, true, &o->prefill);
    if (strcmp(name, "--batch") == 0) return parse_list(value, BATCH_MAX, true, &o->batch);
    if (strcmp(name, "--repeat") == 0) return parse_number(value, REPEAT_MAX, &o->repeat);
    if (strcmp(name, "--steps") == 0) return parse_number(value, PROMPT_MAX, &o->steps);
    if (strcmp(name, "--backend") == 0) return model_backend_parse(value, &o->backend);
    if (strcmp(name, "--device") == 0) return parse_device(value, &o->device);
    if (strcmp(name, "--csv") != 0) return false;
    o->csv_path = value;
    return true;
}

static bool parse_options(options *o, int argc, char **argv)
{
    bool quick = false, memory = false, gpu = false;
    for (int i = 1; i < argc; i++) {
        quick |= strcmp(argv[i], "--quick") == 0;
        memory |= strcmp(argv[i], "--memory") == 0;
        gpu |= strcmp(argv[i], "--backend") == 0 && i + 1 < argc && strcmp(argv[i + 1], "cuda") == 0;
    }
    if (gpu) set_defaults_gpu(o, quick || memory);
    else set_defaults(o, quick || memory);
    o->memory_alone = memory;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0 || strcmp(argv[i], "--memory") == 0) continue;
        if (argv[i][0] != '-' && o->dir == NULL) {
            o->dir = argv[i];
            continue;
        }
        if (!parse_option(o, argv[i], i + 1 < argc ? argv[i + 1] : NULL)) return false;
        i++;
    }
    return o->dir != NULL;
}

/* ---- the model --------------------------------------------------------------------------------------- */

/* What has to be known before the model is open. */
static void read_folder(bench *b)
{
    char path[4096];
    buf json;
    model_config c;
    tensors *file = NULL;
    buf_init(&json, CONFIG_FILE_MAX_BYTES);
    must(path_join(path, sizeof path, b->o->dir, "config.json"));
    must(file_read(path, CONFIG_FILE_MAX_BYTES, &json));
    must(model_config_parse(&c, buf_bytes(&json)));
    must(tensors_open(&file, b->o->dir));
    b->vocab_size = c.vocab_size;
    b->untied = !c.tied && tensors_find(file, "lm_head.weight") != NULL;
    tensors_close(&file);
    buf_free(&json);
}

static void count_parameters(bench *b)
{
    const model_info *i = b->info;
    double inner = i->d_inner, d_model = i->d_model;
    double in_proj = 2 * inner * d_model, x_proj = (i->dt_rank + 2.0 * i->d_state) * inner;
    double dt_proj = inner * i->dt_rank, out_proj = d_model * inner;
    b->products = i->layers * (in_proj + x_proj + dt_proj + out_proj);
    b->head = (double)i->vocab_size * d_model;
    b->bytes_a_token = (double)i->weight_bytes;
    if (b->untied)                                         /* of the embeddings a token reads one row */
        b->bytes_a_token *= (b->products + b->head) / (b->products + 2 * b->head);
}

static bool gpu(const bench *b) { return b->o->backend == MODEL_CUDA; }

static void decode(bench *b, uint32_t batch, uint32_t steps)
{
    for (uint32_t i = 0; i < steps; i++)
        must(model_decode(b->m, b->seqs, b->tokens + i * batch, batch, b->logits));
}

/* What the caller keeps is made (and its pages touched) before the memory is first looked at, so that the difference is
 * the engine's and its sequences' alone. */
static void prepare(bench *b)
{
    const options *o = b->o;
    b->most_batch = most_of(&o->batch, 1);
    size_t tokens = most_of(&o->prefill, FIRST_TOKEN_PROMPT);
    size_t logits = (size_t)b->most_batch * b->vocab_size;
    for (size_t i = 0; i < o->batch.count; i++) {
        size_t decoded = (size_t)o->batch.at[i] * steps_of(o, o->batch.at[i]);
        if (decoded > tokens) tokens = decoded;
    }
    uint64_t seed = 1;
    b->tokens = mem_alloc_array(tokens, sizeof *b->tokens);
    for (size_t i = 0; i < tokens; i++) b->tokens[i] = (uint32_t)(random_next(&seed) % b->vocab_size);
    b->seqs = mem_alloc_array(b->most_batch, sizeof *b->seqs);
    if (gpu(b)) return;                    /* the logits are pinned memory, once the engine is open */
    b->logits = mem_alloc_array(logits, sizeof *b->logits);
    for (size_t i = 0; i < logits; i++) b->logits[i] = 1;
}

/* Opens the engine and its sequences and has them work once, for their memory and as a warm-up. */
static result open_all(bench *b)
{
    b->before_bytes = status_bytes("VmRSS");
    double start = bench_now_s();
    TRY(model_open(&b->m, b->o->dir, &(model_options){.threads = gpu(b) ? all_processors() : b->threads, .precision = b->asked,
                                                           .backend = b->o->backend, .device = b->o->device}));
    b->open_ms = 1e3 * (bench_now_s() - start);
    b->info = model_describe(b->m);
    if (gpu(b)) TRY(model_logits_open(&b->logits, b->m, (size_t)b->most_batch * b->vocab_size));
    for (uint32_t i = 0; i < b->most_batch; i++) TRY(model_seq_open(&b->seqs[i], b->m));
    TRY(model_prefill(b->seqs[0], b->tokens, FIRST_TOKEN_PROMPT, b->logits, NULL, NULL));
    decode(b, b->most_batch, 1);
    b->after_bytes = status_bytes("VmRSS") - b->before_bytes;
    b->peak_bytes = status_bytes("VmHWM") - b->before_bytes;
    count_parameters(b);
    return OK;
}

static void close_all(bench *b)
{
    for (uint32_t i = 0; i < b->most_batch; i++) model_seq_close(&b->seqs[i]);
    if (gpu(b)) model_logits_close(b->m, &b->logits, (size_t)b->most_batch * b->vocab_size);
    model_close(&b->m);
    mem_free(b->seqs);
    mem_free(b->tokens);
    mem_free(b->logits);
    mem_free(b->measurements);
}

/* ---- measuring --------------------------------------------------------------------------------------- */

static void plan(bench *b)
{
    const options *o = b->o;
    measurement *next = b->measurements = mem_alloc_array(2 * LIST_MAX + 1, sizeof *next);
    for (size_t i = 0; i < o->prefill.count; i++)
        *next++ = (measurement){.kind = PREFILL, .tokens = o->prefill.at[i], .batch = 1};
    *next++ = (measurement){.kind = FIRST_TOKEN, .tokens = FIRST_TOKEN_PROMPT, .batch = 1};
    for (size_t i = 0; i < o->batch.count; i++)
        *next++ = (measurement){.kind = DECODE, .tokens = 1, .batch = o->batch.at[i]};
    b->measurement_count = o->memory_alone ? 0 : (size_t)(next - b->measurements);
}

/* From the zero state each time: a round does what the others do. */
static double measure(bench *b, const measurement *m)
{
    for (uint32_t i = 0; i < m->batch; i++) model_seq_wipe(b->seqs[i]);
    double start = bench_now_s();
    if (m->kind == DECODE) {
        uint32_t steps = steps_of(b->o, m->batch);
        decode(b, m->batch, steps);
        return (double)steps * m->batch / (bench_now_s() - start);
    }
    must(model_prefill(b->seqs[0], b->tokens, m->tokens, b->logits, NULL, NULL));
    if (m->kind == PREFILL) return m->tokens / (bench_now_s() - start);
    sampler s;
    sampler_init(&s, &(sampler_options){.temperature = 0});
    uint32_t first = sampler_next(&s, b->logits, b->info->vocab_size);
    ASSERT(first < b->info->vocab_size);
    return 1e3 * (bench_now_s() - start);
}

/* "prefill of 512", "decode of 8 sequences", or what alone. */
static const char *name_of(const char *what, uint32_t tokens, uint32_t batch, char out[64])
{
    if (tokens > 1) snprintf(out, 64, "%s of %u", what, tokens);
    else if (batch > 0) snprintf(out, 64, "%s of %u sequence%s", what, batch, batch > 1 ? "s" : "");
    else snprintf(out, 64, "%s", what);
    return out;
}

/* A GPU's are its copying, read and written, and its matrix instruction. */
static void measure_limits(const bench *b, limits *l, double *read, double *peak)
{
    if (!gpu(b)) {
        *read = limits_read(l);
        *peak = limits_multiply_add(l);
        return;
    }
#ifdef LETHE_WITH_CUDA
    gpu_limits all = {0, 0};
    if (!gpu_limits_measure(b->o->device, &all)) must(fail(E_UNAVAILABLE, "the GPU has no 4 GiB left to measure its limits with"));
    *read = all.copy_bytes;
    *peak = all.matrix_flop;
#endif
}

static void measure_all(bench *b)
{
    limits *l = gpu(b) ? NULL : limits_open(b->threads, b->info->kernel);
    b->instruction = gpu(b) ? "BF16 matrix instruction" : limits_instruction(l);
    for (uint32_t round = 0; round < b->o->repeat; round++)
        for (size_t i = 0; i < b->measurement_count; i++) {
            measurement *m = &b->measurements[i];
            char name[64];
            measure_limits(b, l, &m->read[round], &m->peak[round]);
            m->value[round] = measure(b, m);
            fprintf(stderr, "%s, threads: %u, round %u of %u: %s: %.1f %s\n", b->info->precision, b->threads, round + 1,
                    b->o->repeat, name_of(KINDS[m->kind], m->tokens, m->batch, name), m->value[round], UNITS[m->kind]);
        }
    if (l != NULL) limits_close(&l);
}

/* Tokens a second that the machine would allow; 0: not known. A prompt is bound by arithmetic (without the head, which
 * it has once), one sequence's step by reading the weights, a step of several by the nearer of the two. */
static double limit_of(const bench *b, const measurement *m)
{
    double read = summarise(m->read, b->o->repeat).median, peak = summarise(m->peak, b->o->repeat).median;
    if (m->kind == PREFILL) return peak / (2 * b->products);
    if (m->kind == FIRST_TOKEN) return 0;
    /* On a GPU a batch's states, read and written, are no small part. */
    double step_bytes = b->bytes_a_token + (gpu(b) ? 2.0 * m->batch * (double)b->info->state_bytes : 0);
    double by_reading = m->batch * read / step_bytes, by_peak = peak / (2 * (b->products + b->head));
    return m->batch > 1 && peak > 0 && by_peak < by_reading ? by_peak : by_reading;
}

/* ---- reporting --------------------------------------------------------------------------------------- */

static const char CSV_HEADER[] =
    "model,precision,kernel,threads,what,tokens,batch,unit,median,least,most,limit,share_of_limit\n";

/* limit 0: none is known. tokens and batch 0: not of tokens. */
typedef struct { const char *what, *unit; uint32_t tokens, batch; summary s; double limit; } row;

static void print_row(const row *r)
{
    char name[64], limit[32] = "-", share[32] = "-";
    if (r->limit > 0) {
        snprintf(limit, sizeof limit, "%.1f", r->limit);
        snprintf(share, sizeof share, "%.2f", r->s.median / r->limit);
    }
    printf("  %-26s %9.1f %9.1f %9.1f  %-9s %9s %9s\n", name_of(r->what, r->tokens, r->batch, name), r->s.median,
           r->s.least, r->s.most, r->unit, limit, share);
}

static void report_row(const bench *b, row r)
{
    print_row(&r);
    if (b->o->csv == NULL) return;
    const char *slash = strrchr(b->o->dir, '/'), *folder = slash != NULL && slash[1] != 0 ? slash + 1 : b->o->dir;
    fprintf(b->o->csv, "%s,%s,%s,%u,%s,%u,%u,%s,%.3f,%.3f,%.3f,", folder, b->info->precision, b->info->kernel,
            b->threads, r.what, r.tokens, r.batch, r.unit, r.s.median, r.s.least, r.s.most);
    if (r.limit > 0) fprintf(b->o->csv, "%.3f,%.4f\n", r.limit, r.s.median / r.limit);
    else fputs(",\n", b->o->csv);
}

/* One value, without a spread. */
static row single(const char *what, const char *unit, double value, double limit)
{
    return (row){.what = what, .unit = unit, .s = {value, value, value}, .limit = limit};
}

/* The samples of one limit from all rounds and measurements. */
static summary of_limit(const bench *b, bool read, double unit)
{
    size_t count = 0;
    double *all = mem_alloc_array(b->measurement_count * b->o->repeat, sizeof *all);
    for (size_t i = 0; i < b->measurement_count; i++)
        for (uint32_t round = 0; round < b->o->repeat; round++)
            all[count++] = (read ? b->measurements[i].read : b->measurements[i].peak)[round] / unit;
    summary s = summarise(all, count);
    mem_free(all);
    return s;
}

/* What an engine may take: its weights and 5 %, 1.2 times its sequences' states. */
static double memory_limit(const bench *b)
{
    return 1.05 * (double)b->info->weight_bytes + 1.2 * (double)b->most_batch * (double)b->info->state_bytes;
}

static void report(const bench *b)
{
    const model_info *i = b->info;
    printf("\n%s (asked for: %s), kernel %s, threads: %u\n", i->precision, model_precision_name(b->asked), i->kernel,
           b->threads);
    printf("  %.1f M parameters in the layers' products, %.1f M in the head; %.1f MB of weights, %.1f of them read for "
           "a token;\n  %.2f MB of state a sequence, sequences open: %u; multiply-add: %s\n",
           b->products / 1e6, b->head / 1e6, (double)i->weight_bytes / 1e6, b->bytes_a_token / 1e6,
           (double)i->state_bytes / 1e6, b->most_batch,
           b->instruction != NULL ? b->instruction : "not measured");
    printf("  %-26s %9s %9s %9s  %-9s %9s %9s\n", "", "median", "least", "most", "", "limit", "of limit");
    if (b->measurement_count > 0) {
        report_row(b, (row){.what = "memory read", .unit = "GB/s", .s = of_limit(b, true, 1e9)});
        report_row(b, (row){.what = "multiply-add peak", .unit = "GFLOP/s", .s = of_limit(b, false, 1e9)});
    }
    for (size_t j = 0; j < b->measurement_count; j++) {
        const measurement *m = &b->measurements[j];
        report_row(b, (row){KINDS[m->kind], UNITS[m->kind], m->tokens, m->batch, summarise(m->value, b->o->repeat),
                            limit_of(b, m)});
    }
    report_row(b, single("opening", "ms", b->open_ms, 0));
    report_row(b, single("peak memory", "MB", b->peak_bytes / 1e6, memory_limit(b) / 1e6));
    report_row(b, single("memory once open", "MB", b->after_bytes / 1e6, memory_limit(b) / 1e6));
}

/* ---- processes --------------------------------------------------------------------------------------- */

enum { DONE, SKIPPED = 3, FAILED = 4 };                   /* must() ends with 2 */

static int run_one(const options *o, model_precision asked, uint32_t threads)
{
    bench b = {.o = o, .asked = asked, .threads = threads};
    read_folder(&b);
    prepare(&b);
    result r = open_all(&b);
    if (r.code == E_UNIMPLEMENTED) {
        printf("\n%s: skipped: %s\n", model_precision_name(asked), r.message);
        return SKIPPED;
    }
    must(r);
    plan(&b);
    if (!o->memory_alone) measure_all(&b);
    report(&b);
    bool fits = b.peak_bytes <= memory_limit(&b);
    close_all(&b);
    return o->memory_alone && !fits ? FAILED : DONE;
}

/* In a process of its own; what it prints is out before it ends. */
static int run_apart(const options *o, model_precision asked, uint32_t threads)
{
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) must(fail_errno("no process for %s", model_precision_name(asked)));
    if (child == 0) exit(run_one(o, asked, threads));
    int status;
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) return FAILED;
    return WEXITSTATUS(status);
}

int lethe_bench_model(int argc, char **argv)
{
    options o;
    if (!parse_options(&o, argc, argv)) {
        fprintf(stderr, "usage: lethe-bench %s\n", LETHE_BENCH_MODEL_USAGE);
        return 2;
    }
    if (o.csv_path != NULL) {
        o.csv = fopen(o.csv_path, "w");
        if (o.csv == NULL) must(fail_errno("%s", o.csv_path));
        fputs(CSV_HEADER, o.csv);
    }
    bool failed = false;
    for (size_t i = 0; i < o.precision_count; i++)
        for (size_t j = 0; j < o.threads.count; j++) {
            int end = run_apart(&o, o.precisions[i], o.threads.at[j]);
            failed |= end != DONE && end != SKIPPED;
            if (end != DONE) break;                        /* other threads would not help */
        }
    if (o.csv != NULL && fclose(o.csv) != 0) must(fail_errno("%s", o.csv_path));
    return failed;
}
