/* The engine as its callers see it: the same bits alone, batched, in pieces, restored, on any number
 * of threads and instruction set; states that are wiped; folders that are wrong. */
#include "model.h"
#include "model/config.h"
#include "model/cpu/reference.h"
#include "test.h"
#include "tests/golden/random_model.h"

#include <math.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VOCAB = 300, SEQUENCES = 16, LENGTH = 90 };

static char folder[256];
static const gen_config mamba_config = {
    .d_model = 60, .d_inner = 120, .d_state = 16, .d_conv = 4, .dt_rank = 4, .layers = 2,
    .vocab = VOCAB, .use_conv_bias = true, .tied = true, .type = GEN_F32, .seed = 5};
static const gen_config mamba2_config = {
    .d_model = 60, .d_inner = 120, .d_state = 16, .d_conv = 4, .heads = 10, .groups = 2, .layers = 2,
    .vocab = VOCAB, .use_conv_bias = true, .tied = true, .type = GEN_F32, .seed = 5};
static gen_config base_config;             /* of the architecture whose turn it is, in folder */

static uint64_t random_state;
static uint32_t schedules = 2;

static uint32_t below(uint32_t n)
{
    random_state += 0x9e3779b97f4a7c15u;
    return (uint32_t)(gen_mix(random_state) % n);
}

static model *open_model_as(uint32_t threads, model_precision precision)
{
    model *m = NULL;
    CHECK_OK(model_open(&m, folder, &(model_options){.threads = threads, .precision = precision}));
    return m;
}

/* With bfloat16 products, where this processor has them. */
static model *open_model_bf16(uint32_t threads, model_precision precision)
{
    model *m = NULL;
    CHECK_OK(model_open(&m, folder, &(model_options){.threads = threads, .precision = precision, .bf16_products = true}));
    return m;
}

static model *open_model(uint32_t threads) { return open_model_as(threads, MODEL_AS_STORED); }

static model_seq *open_seq(const model *m)
{
    model_seq *s = NULL;
    CHECK_OK(model_seq_open(&s, m));
    return s;
}

/* Token at position i of stream s. */
static uint32_t token_of(size_t s, size_t i)
{
    return (uint32_t)(gen_bits(gen_key(99 + s, "stream"), i) % VOCAB);
}

/* Every logit of every stream, each token decoded alone on one thread: what all else must equal. */
static float *baseline(const model *m)
{
    float *all = mem_alloc_array((size_t)SEQUENCES * LENGTH * VOCAB, sizeof *all);
    for (size_t s = 0; s < SEQUENCES; s++) {
        model_seq *seq = open_seq(m);
        for (size_t i = 0; i < LENGTH; i++) {
            uint32_t token = token_of(s, i);
            CHECK_OK(model_decode(m, &seq, &token, 1, all + (s * LENGTH + i) * VOCAB));
        }
        CHECK(model_seq_length(seq) == LENGTH);
        model_seq_close(&seq);
    }
    return all;
}

typedef struct {
    const model *m;
    const float *want;
    model_seq *seqs[SEQUENCES];
    size_t at[SEQUENCES];
} schedule;

static bool same_logits(const schedule *c, size_t s, const float *got)
{
    return memcmp(got, c->want + (s * LENGTH + c->at[s] - 1) * VOCAB, VOCAB * sizeof *got) == 0;
}

/* One stream reads on by a random piece. */
static void step_prefill(schedule *c, size_t s)
{
    uint32_t tokens[LENGTH];
    float logits[VOCAB];
    size_t count = 1 + below((uint32_t)(LENGTH - c->at[s]));
    for (size_t i = 0; i < count; i++) tokens[i] = token_of(s, c->at[s] + i);
    CHECK_OK(model_prefill(c->seqs[s], tokens, count, logits, NULL, NULL));
    c->at[s] += count;
    CHECK(same_logits(c, s, logits));
}

/* A random subset of the unfinished streams decodes one token each, and another reads a piece beside them, or none. */
static void step_decode(schedule *c)
{
    static float logits[(1 + SEQUENCES) * VOCAB];
    model_seq *seqs[SEQUENCES];
    uint32_t tokens[SEQUENCES], which[SEQUENCES], read[LENGTH], n = 0, least = below(3);
    for (uint32_t s = 0; s < SEQUENCES; s++) {
        if (c->at[s] == LENGTH || below(3) < least) continue;
        uint32_t place = below(n + 1);     /* in any order */
        which[n] = which[place];
        which[place] = s;
        n++;
    }
    for (uint32_t i = 0; i < n; i++) {
        seqs[i] = c->seqs[which[i]];
        tokens[i] = token_of(which[i], c->at[which[i]]++);
    }
    if (n == 0 || least == 0) {
        CHECK_OK(model_decode(c->m, seqs, tokens, n, logits + VOCAB));
    } else {                               /* the last of them reads on instead */
        uint32_t s = which[--n], from = (uint32_t)c->at[s] - 1, count = 1 + below(LENGTH - from);
        if (count + n > 128) count = 128 - n;
        for (uint32_t i = 0; i < count; i++) read[i] = token_of(s, from + i);
        const model_prompt prompt = {.seq = c->seqs[s], .tokens = read, .count = count, .wants_logits = below(2) == 0};
        CHECK_OK(model_decode_beside(c->m, &prompt, seqs, tokens, n, logits));
        c->at[s] = from + count;
        CHECK(!prompt.wants_logits || same_logits(c, s, logits));
    }
    for (uint32_t i = 0; i < n; i++) CHECK(same_logits(c, which[i], logits + (1 + i) * VOCAB));
}

/* A stream leaves as a snapshot and comes back in another sequence. */
static void step_move(schedule *c, size_t s)
{
    buf b;
    buf_init(&b, (size_t)1 << 24);
    CHECK_OK(model_seq_snapshot(c->seqs[s], &b));
    model_seq_close(&c->seqs[s]);
    c->seqs[s] = open_seq(c->m);
    if (below(2) == 0) {                   /* into a used one */
        uint32_t junk[3] = {1, 2, 3};
        CHECK_OK(model_prefill(c->seqs[s], junk, 3, NULL, NULL, NULL));
    }
    CHECK_OK(model_seq_restore(c->seqs[s], buf_bytes(&b)));
    CHECK(model_seq_length(c->seqs[s]) == c->at[s]);
    buf_free(&b);
}

static void run_schedule(const model *m, const float *want, uint64_t seed)
{
    schedule c = {.m = m, .want = want};
    random_state = seed;
    for (size_t s = 0; s < SEQUENCES; s++) c.seqs[s] = open_seq(m);
    for (bool left = true; left;) {
        uint32_t kind = below(8), s = below(SEQUENCES);
        if (kind == 0 && c.at[s] < LENGTH) step_prefill(&c, s);
        else if (kind == 1) step_move(&c, s);
        else step_decode(&c);
        left = false;
        for (size_t i = 0; i < SEQUENCES; i++) left = left || c.at[i] < LENGTH;
    }
    for (size_t s = 0; s < SEQUENCES; s++) model_seq_close(&c.seqs[s]);
}

/* Mutant: reduction_depends_on_batch. */
static void check_schedules(model *open(uint32_t threads, model_precision precision))
{
    uint32_t run = 0;
    const char *kernel = "";
    for (model_precision p = MODEL_F32; p <= MODEL_Q4; p++) {
        model *one = open(1, p);
        float *want = baseline(one);
        kernel = model_describe(one)->kernel;
        for (uint32_t threads = 1; threads <= 3; threads++) {
            model *m = threads == 1 ? one : open(threads, p);
            for (uint32_t i = 0; i < schedules; i++, run++) run_schedule(m, want, 1000 * i + 10 * threads + p);
            if (m != one) model_close(&m);
        }
        mem_free(want);
        model_close(&one);
    }
    printf("# %u random schedules, %s kernels\n", run, kernel);
}

static void schedules_change_no_bit(void)
{
    model *m = open_model_bf16(1, MODEL_BF16);
    check_schedules(open_model_as);
    if (strcmp(model_describe(m)->kernel, "avx512bf16") == 0) check_schedules(open_model_bf16);
    else printf("# no bfloat16 products on this processor: not tried\n");
    model_close(&m);
}

/* Their bits are others, and no state of theirs goes into a model without. */
static void bf16_products_are_another_model(void)
{
    model *exact = open_model_as(1, MODEL_BF16), *m = open_model_bf16(1, MODEL_BF16), *f = open_model_bf16(1, MODEL_F32);
    model *f32 = open_model_as(1, MODEL_F32);
    model_seq *seq = open_seq(m), *to = open_seq(exact);
    buf b;
    buf_init(&b, 1 << 20);
    bool own = strcmp(model_describe(m)->kernel, "avx512bf16") == 0;
    CHECK((memcmp(model_describe(m)->identity, model_describe(exact)->identity, 32) != 0) == own);
    CHECK(memcmp(model_describe(f)->identity, model_describe(f32)->identity, 32) == 0);
    CHECK_OK(model_seq_snapshot(seq, &b));
    if (own) CHECK_FAILS(model_seq_restore(to, buf_bytes(&b)), E_INVALID);
    buf_free(&b);
    model_seq_close(&seq);
    model_seq_close(&to);
    model *all[] = {exact, m, f, f32};
    for (size_t i = 0; i < 4; i++) model_close(&all[i]);
}

/* What one precision wrote another does not go on with. Mutant: precisions_mixed. */
static void precisions_are_kept_apart(void)
{
    uint8_t seen[MODEL_Q4 + 1][32];
    for (model_precision p = MODEL_F32; p <= MODEL_Q4; p++) {
        model *m = open_model_as(1, p);
        CHECK(strcmp(model_describe(m)->precision, model_precision_name(p)) == 0);
        memcpy(seen[p], model_describe(m)->identity, sizeof seen[p]);
        for (model_precision q = MODEL_F32; q < p; q++) CHECK(memcmp(seen[p], seen[q], sizeof seen[p]) != 0);
        model_close(&m);
    }
}

/* Every logit of a stream, read at once. */
static void logits_of(const model *m, float logits[VOCAB])
{
    uint32_t tokens[50];
    model_seq *s = open_seq(m);
    for (size_t i = 0; i < 50; i++) tokens[i] = token_of(4, i);
    CHECK_OK(model_prefill(s, tokens, 50, logits, NULL, NULL));
    model_seq_close(&s);
}

/* Quantised into a folder, a model computes what it does when quantised on opening. */
static void quantised_folders_are_the_same(void)
{
    char where[256], to[300];
    test_tmpdir(where);
    for (model_precision p = MODEL_BF16; p <= MODEL_Q4; p++) {
        float loaded[VOCAB], stored[VOCAB];
        model *m = open_model_as(2, p), *q = NULL;
        logits_of(m, loaded);
        snprintf(to, sizeof to, "%s/%s", where, model_precision_name(p));
        CHECK_OK(model_quantise(folder, to, p));
        CHECK_FAILS(model_quantise(folder, to, p), E_PRECONDITION);
        CHECK_OK(model_open(&q, to, NULL));
        if (q == NULL) return;
        logits_of(q, stored);
        CHECK(memcmp(loaded, stored, sizeof stored) == 0);
        CHECK(strcmp(model_describe(q)->precision, model_precision_name(p)) == 0);
        CHECK(model_describe(q)->weight_bytes == model_describe(m)->weight_bytes);
        model_close(&q);
        if (p != MODEL_BF16) {
            CHECK_FAILS(model_open(&q, to, &(model_options){.precision = MODEL_F32}), E_INVALID);
            snprintf(to, sizeof to, "%s/again", where);
            char from[300];
            snprintf(from, sizeof from, "%s/%s", where, model_precision_name(p));
            CHECK_FAILS(model_quantise(from, to, MODEL_Q8), E_INVALID);
        }
        model_close(&m);
    }
    CHECK_FAILS(model_quantise(folder, "/nowhere/at/all", MODEL_Q8), E_NOT_FOUND);
    CHECK_FAILS(model_quantise(folder, to, MODEL_F32), E_INVALID);
    test_tmpdir_remove(where);
}

/* Replaces the first such bytes of a file. */
static bool patch_file(const char *path, const char *from, const char *to)
{
    buf b;
    buf_init(&b, (size_t)64 << 20);
    bool done = is_ok(file_read(path, (size_t)64 << 20, &b));
    uint8_t *at = done ? memmem(b.data, b.size, from, strlen(from)) : NULL;
    if (at != NULL) memcpy(at, to, strlen(from));
    done = at != NULL && is_ok(file_write_atomic(path, buf_bytes(&b), 0600));
    buf_free(&b);
    return done;
}

/* Scales that are missing, of another type or shape: told, not believed. */
static void broken_scales(void)
{
    static const char *const WRONG[][2] = {{"weight.scale\"", "weight.scald\""}, {"\"dtype\":\"F16\"", "\"dtype\":\"B16\""},
                                           {"\"dtype\":\"I8\"", "\"dtype\":\"U8\""}};
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        char where[256], to[300], path[400];
        model *m = NULL;
        snprintf(to, sizeof to, "%s/q8", test_tmpdir(where));
        snprintf(path, sizeof path, "%s/model.safetensors", to);
        CHECK_OK(model_quantise(folder, to, MODEL_Q8));
        CHECK(patch_file(path, WRONG[i][0], WRONG[i][1]));
        CHECK_FAILS(model_open(&m, to, NULL), E_INVALID);
        CHECK(m == NULL);
        test_tmpdir_remove(where);
    }
}

static void pieces_change_no_bit(void)
{
    enum { COUNT = 200 };
    model *m = open_model(2);
    uint32_t tokens[COUNT];
    float whole[VOCAB], pieces[VOCAB], steps[VOCAB];
    for (size_t i = 0; i < COUNT; i++) tokens[i] = token_of(3, i);
    model_seq *a = open_seq(m), *b = open_seq(m), *c = open_seq(m);
    CHECK_OK(model_prefill(a, tokens, COUNT, whole, NULL, NULL));
    for (size_t at = 0, n = 1; at < COUNT; at += n, n = n % 70 + 9) {
        size_t count = COUNT - at < n ? COUNT - at : n;
        CHECK_OK(model_prefill(b, tokens + at, count, at + count == COUNT ? pieces : NULL, NULL,
                               NULL));
    }
    for (size_t i = 0; i < COUNT; i++) CHECK_OK(model_decode(m, &c, &tokens[i], 1, steps));
    CHECK(memcmp(whole, pieces, sizeof whole) == 0);
    CHECK(memcmp(whole, steps, sizeof whole) == 0);
    model_seq_close(&a);
    model_seq_close(&b);
    model_seq_close(&c);
    model_close(&m);
}

static void more_sequences_than_a_pass(void)
{
    enum { MANY = 131 };
    model *m = open_model(2);
    model_seq *seqs[MANY];
    uint32_t tokens[MANY];
    float *logits = mem_alloc_array(MANY * VOCAB, sizeof *logits), alone[VOCAB];
    for (size_t i = 0; i < MANY; i++) {
        seqs[i] = open_seq(m);
        tokens[i] = token_of(i, 0);
    }
    CHECK_OK(model_decode(m, seqs, tokens, MANY, logits));
    CHECK_OK(model_decode(m, seqs, tokens, 0, NULL));
    for (size_t i = 0; i < MANY; i++) {
        CHECK(model_seq_length(seqs[i]) == 1);
        model_seq_wipe(seqs[i]);
        CHECK_OK(model_decode(m, &seqs[i], &tokens[i], 1, alone));
        CHECK(memcmp(alone, logits + i * VOCAB, sizeof alone) == 0);
        model_seq_close(&seqs[i]);
    }
    mem_free(logits);
    model_close(&m);
}

static void instruction_sets_agree(void)
{
    static const char *const names[] = {"portable", "avx2", "avx512"};
    float first[VOCAB], logits[VOCAB];
    uint32_t tokens[40];
    for (size_t i = 0; i < 40; i++) tokens[i] = token_of(1, i);
    for (size_t k = 0; k < 3; k++) {
        setenv("LETHE_KERNEL", names[k], 1);
        model *m = open_model(1);
        model_seq *s = open_seq(m);
        printf("# asked for %s, runs %s\n", names[k], model_describe(m)->kernel);
        CHECK_OK(model_prefill(s, tokens, 40, logits, NULL, NULL));
        if (k == 0) memcpy(first, logits, sizeof first);
        CHECK(memcmp(first, logits, sizeof first) == 0);
        model_seq_close(&s);
        model_close(&m);
    }
    unsetenv("LETHE_KERNEL");
}

static void check_against_reference(const gen_config *c, model_precision precision, bool products, double most_error)
{
    enum { COUNT = 70 };
    char dir[256], path[512];
    CHECK(random_model_write(test_tmpdir(dir), c));
    model *m = NULL;
    CHECK_OK(model_open(&m, dir, &(model_options){.precision = precision, .bf16_products = products}));
    tensors *file = NULL;
    CHECK_OK(tensors_open(&file, dir));
    buf json;
    buf_init(&json, 1 << 16);
    snprintf(path, sizeof path, "%s/config.json", dir);
    CHECK_OK(file_read(path, 1 << 16, &json));
    model_config config;
    CHECK_OK(model_config_parse(&config, buf_bytes(&json)));
    uint32_t tokens[COUNT];
    for (size_t i = 0; i < COUNT; i++) tokens[i] = token_of(2, i);
    double *want = mem_alloc_array(COUNT * VOCAB, sizeof *want), difference = 0, most = 0;
    float *logits = mem_alloc_array(VOCAB, sizeof *logits);
    CHECK_OK(reference_forward(file, &config, tokens, COUNT, want));
    model_seq *s = open_seq(m);
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_OK(model_decode(m, &s, &tokens[i], 1, logits));
        for (size_t j = 0; j < VOCAB; j++) {
            difference = fmax(difference, fabs((double)logits[j] - want[i * VOCAB + j]));
            most = fmax(most, fabs(want[i * VOCAB + j]));
        }
    }
    printf("# engine (%s, %s) against float64: %.3g\n", model_describe(m)->precision, model_describe(m)->kernel,
           difference / most);
    CHECK(most > 0.5 && difference / most <= most_error);
    buf_free(&json);
    mem_free(want);
    mem_free(logits);
    tensors_close(&file);
    model_seq_close(&s);
    model_close(&m);
    test_tmpdir_remove(dir);
}

/* Float32, and what each precision's rounding makes of random weights. */
static void check_precisions(const gen_config *c)
{
    static const double MOST[] = {[MODEL_F32] = 1e-5, [MODEL_BF16] = 2e-2, [MODEL_Q8] = 5e-2, [MODEL_Q4] = 0.6};
    for (model_precision p = MODEL_F32; p <= MODEL_Q4; p++) {
        check_against_reference(c, p, false, MOST[p]);
        check_against_reference(c, p, true, p == MODEL_BF16 ? 5e-2 : MOST[p]);
    }
}

static void engine_matches_reference(void)
{
    gen_config c = {.d_model = 37, .d_inner = 111, .d_state = 7, .d_conv = 2, .dt_rank = 3,
                    .layers = 3, .vocab = VOCAB, .use_bias = true, .type = GEN_BF16, .seed = 21};
    check_precisions(&c);
    c = (gen_config){.d_model = 38, .d_inner = 114, .d_state = 7, .d_conv = 2, .heads = 6, .groups = 3, .dt_min = 0.05f,
                     .dt_max = 0.5f, .layers = 3, .vocab = VOCAB, .use_bias = true, .type = GEN_BF16, .seed = 21};
    check_precisions(&c);
    c = (gen_config){.d_model = 70, .d_inner = 140, .d_state = 33, .d_conv = 4, .heads = 2, .groups = 1, .layers = 2,
                     .vocab = VOCAB, .use_conv_bias = true, .tied = true, .type = GEN_F32, .seed = 22};
    check_precisions(&c);
}

typedef struct { const model *m; const float *want; bool same; } worker;

static void *decode_in_thread(void *arg)
{
    worker *w = arg;
    model_seq *s = NULL;
    float logits[VOCAB];
    w->same = is_ok(model_seq_open(&s, w->m));
    for (size_t i = 0; w->same && i < LENGTH; i++) {
        uint32_t token = token_of(0, i);
        w->same = is_ok(model_decode(w->m, &s, &token, 1, logits)) &&
                  memcmp(logits, w->want + i * VOCAB, sizeof logits) == 0;
    }
    model_seq_close(&s);
    return NULL;
}

/* Whatever this build and machine have: a GPU, a clear error without one, and the CPU where that will do. */
static void gpus_may_be_missing(void)
{
    model *m = NULL;
    model_backend b;
    result r = model_open(&m, folder, &(model_options){.backend = MODEL_CUDA});
    CHECK(is_ok(r) == (m != NULL));
    CHECK(is_ok(r) || ((r.code == E_UNIMPLEMENTED || r.code == E_UNAVAILABLE) && r.message[0] != '\0'));
    if (!is_ok(r)) printf("# %s\n", r.message);
    model_close(&m);
    CHECK_OK(model_open(&m, folder, &(model_options){.backend = MODEL_CUDA_OR_CPU}));
    CHECK(m != NULL && model_describe(m)->backend == (is_ok(r) ? MODEL_CUDA : MODEL_CPU));
    model_close(&m);
    CHECK(model_backend_parse("cuda-or-cpu", &b) && b == MODEL_CUDA_OR_CPU && !model_backend_parse("gpu", &b));
}

static void threads_share_an_engine(void)
{
    enum { WORKERS = 4 };
    model *m = open_model(2);
    float *want = baseline(m);
    pthread_t threads[WORKERS];
    worker workers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (worker){m, want, false};
        CHECK(pthread_create(&threads[i], NULL, decode_in_thread, &workers[i]) == 0);
    }
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(threads[i], NULL);
        CHECK(workers[i].same);
    }
    mem_free(want);
    model_close(&m);
}

/* ---- state ----------------------------------------------------------------------------------- */

static void snapshots_are_checked(void)
{
    model *m = open_model(1), *other = NULL;
    char dir[256];
    gen_config c = base_config;
    c.seed++;
    CHECK(random_model_write(test_tmpdir(dir), &c));
    CHECK_OK(model_open(&other, dir, NULL));
    CHECK(memcmp(model_describe(m)->identity, model_describe(other)->identity, 32) != 0);
    model_seq *a = open_seq(m), *b = open_seq(m), *o = open_seq(other);
    uint32_t tokens[5] = {4, 9, 2, 0, 299};
    CHECK_OK(model_prefill(a, tokens, 5, NULL, NULL, NULL));
    CHECK_OK(model_prefill(b, tokens, 2, NULL, NULL, NULL));
    buf good, before, after;
    buf_init(&good, 1 << 24);
    buf_init(&before, 1 << 24);
    buf_init(&after, 1 << 24);
    CHECK_OK(model_seq_snapshot(a, &good));
    CHECK_OK(model_seq_snapshot(b, &before));
    CHECK_FAILS(model_seq_restore(o, buf_bytes(&good)), E_INVALID);
    CHECK(model_seq_length(o) == 0);
    for (size_t n = 0; n < good.size; n += n < 60 ? 1 : 997)
        CHECK_FAILS(model_seq_restore(b, bytes_of(good.data, n)), E_DATA_LOSS);
    good.data[0] ^= 1;
    CHECK_FAILS(model_seq_restore(b, buf_bytes(&good)), E_DATA_LOSS);
    good.data[0] ^= 1;
    buf_append_u8(&good, 0);
    CHECK_FAILS(model_seq_restore(b, buf_bytes(&good)), E_DATA_LOSS);
    CHECK_OK(model_seq_snapshot(b, &after));
    CHECK(bytes_equal(buf_bytes(&before), buf_bytes(&after)));
    CHECK_OK(model_seq_restore(b, bytes_of(good.data, good.size - 1)));
    CHECK(model_seq_length(b) == 5);
    buf_free(&good);
    buf_free(&before);
    buf_free(&after);
    model_seq_close(&a);
    model_seq_close(&b);
    model_seq_close(&o);
    model_close(&other);
    model_close(&m);
    test_tmpdir_remove(dir);
}

static bool is_fresh(const model *m, model_seq *s)
{
    buf b, fresh;
    buf_init(&b, 1 << 24);
    buf_init(&fresh, 1 << 24);
    model_seq *zero = open_seq(m);
    CHECK_OK(model_seq_snapshot(s, &b));
    CHECK_OK(model_seq_snapshot(zero, &fresh));
    bool same = bytes_equal(buf_bytes(&b), buf_bytes(&fresh));
    model_seq_close(&zero);
    buf_free(&b);
    buf_free(&fresh);
    return same;
}

static result alive_twice(void *ctx)
{
    int *left = ctx;
    return (*left)-- > 0 ? OK : fail(E_CANCELLED, "cancelled");
}

static void wipes_and_errors(void)
{
    model *m = open_model(1);
    model_seq *s = open_seq(m);
    uint32_t tokens[400] = {1, 2, 3};
    float logits[VOCAB];
    CHECK_OK(model_prefill(s, tokens, 3, NULL, NULL, NULL));
    CHECK(!is_fresh(m, s));
    model_seq_wipe(s);
    CHECK(is_fresh(m, s));
    tokens[2] = VOCAB;
    CHECK_FAILS(model_prefill(s, tokens, 3, logits, NULL, NULL), E_INVALID);
    CHECK_FAILS(model_decode(m, &s, &tokens[2], 1, logits), E_INVALID);
    model_seq *other = open_seq(m);
    float beside[2 * VOCAB];
    CHECK_FAILS(model_decode_beside(m, &(model_prompt){s, tokens, 3, false, {0}}, &other, tokens, 1, beside), E_INVALID);
    CHECK_FAILS(model_decode_beside(m, &(model_prompt){s, tokens, 2, true, {0}}, &other, &tokens[2], 1, beside), E_INVALID);
    CHECK(is_fresh(m, s) && is_fresh(m, other));
    model_seq_close(&other);
    CHECK_FAILS(model_prefill(s, tokens, 0, logits, NULL, NULL), E_INVALID);
    CHECK_OK(model_prefill(s, tokens, 0, NULL, NULL, NULL));
    CHECK(is_fresh(m, s));
    tokens[2] = 3;
    int left = 2;
    CHECK_FAILS(model_prefill(s, tokens, 400, logits, alive_twice, &left), E_CANCELLED);
    CHECK(left == -1 && is_fresh(m, s));
    left = 3;
    CHECK_OK(model_prefill(s, tokens, 400, logits, alive_twice, &left));
    CHECK(left == 0 && model_seq_length(s) == 400);
    model_seq_close(&s);
    model_close(&m);
}

static void describes_itself(void)
{
    model *m = open_model(0);
    const model_info *i = model_describe(m);
    CHECK(i->vocab_size == VOCAB && i->d_model == 60 && i->d_inner == 120 && i->layers == 2);
    CHECK(i->d_state == 16 && i->d_conv == 4 && i->dt_rank == base_config.dt_rank && i->eos_token == 0);
    bool mamba2 = base_config.heads != 0;
    CHECK(strcmp(i->architecture, mamba2 ? "Mamba2ForCausalLM" : "MambaForCausalLM") == 0);
    size_t convolved = mamba2 ? 120 + 2 * 2 * 16 : 120;
    CHECK(i->state_bytes == 2u * (3 * convolved + 16 * 120) * 4);
    CHECK(tokenizer_size(model_tokenizer(m)) == RANDOM_MODEL_TOKENS);
    model_close(&m);
    model_close(&m);
    float logits[4] = {0, 1, 2, -INFINITY};
    double z = log(1 + exp(1) + exp(2));
    CHECK(fabs(model_log_prob(logits, 4, 1) - (1 - z)) < 1e-12);
    CHECK(isinf(model_log_prob(logits, 4, 3)) && isinf(model_log_prob(logits, 4, 4)));
}

/* ---- wrong folders --------------------------------------------------------------------------- */

static void edit(const char *dir, const char *file, const char *from, const char *to)
{
    char command[800];
    snprintf(command, sizeof command, "sed -i 's/%s/%s/' '%s/%s'", from, to, dir, file);
    CHECK(system(command) == 0);
}

static void check_wrong(const char *from, const char *to, error_code want)
{
    char dir[256];
    model *m = NULL;
    CHECK(random_model_write(test_tmpdir(dir), &base_config));
    edit(dir, "config.json", from, to);
    result r = model_open(&m, dir, NULL);
    printf("# %s -> %s: %s\n", from, to, r.message);
    CHECK(r.code == want && (m == NULL) == (want != E_OK));
    model_close(&m);
    test_tmpdir_remove(dir);
}

/* What both architectures' config.json have. */
static void lying_configs(void)
{
    check_wrong("\"vocab_size\": 300", "\"vocab_size\": 290", E_INVALID);   /* 291 tokens */
    check_wrong("\"vocab_size\": 300", "\"vocab_size\": 301", E_INVALID);
    check_wrong("\"state_size\": 16", "\"state_size\": 8", E_INVALID);
    check_wrong("\"conv_kernel\": 4", "\"conv_kernel\": 3", E_INVALID);
    check_wrong("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", E_INVALID);
    check_wrong("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", E_OK);
    check_wrong("\"use_bias\": false", "\"use_bias\": true", E_INVALID);     /* a missing tensor */
    check_wrong("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false", E_INVALID);
    check_wrong("\"model_type\": \"mamba", "\"model_type\": \"llama", E_UNIMPLEMENTED);
    check_wrong("Mamba2*ForCausalLM", "LlamaForCausalLM", E_UNIMPLEMENTED);
    check_wrong("\"rms_norm\": true", "\"rms_norm\": false", E_UNIMPLEMENTED);
    check_wrong("\"eos_token_id\": 0", "\"eos_token_id\": 300", E_INVALID);
    check_wrong("\"eos_token_id\": 0", "\"eos_token_id\": [7, 8]", E_OK);
}

static void lying_mamba_configs(void)
{
    check_wrong("\"intermediate_size\": 120", "\"intermediate_size\": 121", E_INVALID);
    check_wrong("\"time_step_rank\": 4", "\"time_step_rank\": 5", E_INVALID);
    check_wrong("\"time_step_rank\": 4", "\"time_step_rank\": \"auto\"", E_OK);
    check_wrong("\"intermediate_size\": 120", "\"expand\": 2", E_OK);
    check_wrong("\"model_type\": \"mamba\"", "\"model_type\": \"mamba2\"", E_UNIMPLEMENTED);
}

static void lying_mamba2_configs(void)
{
    static const char infinite[] = "{\"__float__\": \"Infinity\"}";
    check_wrong("\"model_type\": \"mamba2\"", "\"model_type\": \"mamba\"", E_UNIMPLEMENTED);
    check_wrong("\"num_heads\": 10", "\"num_heads\": 9", E_INVALID);
    check_wrong("\"num_heads\": 10", "\"heads\": 10", E_INVALID);
    check_wrong("\"num_heads\": 10, \"head_dim\": 12", "\"num_heads\": 20, \"head_dim\": 6", E_INVALID);   /* tensors */
    check_wrong("\"head_dim\": 12", "\"head_dim\": 0", E_INVALID);
    check_wrong("\"head_dim\": 12", "\"head_dim\": 13", E_INVALID);
    check_wrong("\"n_groups\": 2", "\"n_groups\": 3", E_INVALID);          /* does not divide 10 */
    check_wrong("\"n_groups\": 2", "\"n_groups\": 5", E_INVALID);          /* tensors */
    check_wrong("\"expand\": 2", "\"expand\": 3", E_INVALID);
    check_wrong("\"expand\": 2,", "", E_OK);
    check_wrong("\"expand\": 2", "\"expand\": 2, \"intermediate_size\": 120", E_OK);
    check_wrong("\"expand\": 2", "\"expand\": 2, \"intermediate_size\": 240", E_INVALID);
    check_wrong("\"time_step_limit\"", "\"another\"", E_OK);
    check_wrong(infinite, "Infinity", E_OK);
    check_wrong(infinite, "-Infinity", E_INVALID);
    check_wrong(infinite, "{}", E_INVALID);
    check_wrong(infinite, "-1", E_INVALID);
    check_wrong("0.0, {", "0.0, 1.0, {", E_INVALID);
    check_wrong("0.0, {\"__float__\": \"Infinity\"}", "0.5, 0.25", E_INVALID);
}

/* Each tensor of a layer by another name. */
static void missing_mamba2_tensors(void)
{
    static const char *const names[] = {
        "mixer.A_log", "mixer.D", "mixer.dt_bias", "mixer.norm.weight", "mixer.conv1d.weight", "mixer.conv1d.bias",
        "mixer.in_proj.weight", "mixer.out_proj.weight", "layers.1.norm.weight", "norm_f.weight", "embeddings.weight"};
    char dir[256];
    test_tmpdir(dir);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char wrong[64];
        model *m = NULL;
        snprintf(wrong, sizeof wrong, "%s", names[i]);
        wrong[0] ^= 1;                     /* the same length: the header's offsets stay right */
        CHECK(random_model_write(dir, &base_config));
        edit(dir, "model.safetensors", names[i], wrong);
        CHECK_FAILS(model_open(&m, dir, NULL), E_INVALID);
        CHECK(m == NULL);
    }
    test_tmpdir_remove(dir);
}

static void broken_files(void)
{
    char dir[256], path[512];
    model *m = NULL;
    struct stat st;
    CHECK(random_model_write(test_tmpdir(dir), &base_config));
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    CHECK(stat(path, &st) == 0);
    for (off_t size = st.st_size - 1; size > 0; size = size * 2 / 3) {
        CHECK(truncate(path, size) == 0);
        CHECK_FAILS(model_open(&m, dir, NULL), E_INVALID);
    }
    CHECK(unlink(path) == 0);
    CHECK(!is_ok(model_open(&m, dir, NULL)));
    CHECK(random_model_write(dir, &base_config));
    edit(dir, "model.safetensors", "mixer.A_log", "mixer.B_log");
    CHECK_FAILS(model_open(&m, dir, NULL), E_INVALID);
    CHECK(random_model_write(dir, &base_config));
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    CHECK(truncate(path, 1000) == 0);
    CHECK_FAILS(model_open(&m, dir, NULL), E_INVALID);
    CHECK(unlink(path) == 0);
    CHECK_FAILS(model_open(&m, dir, NULL), E_NOT_FOUND);
    CHECK_FAILS(model_open(&m, "/nonexistent", NULL), E_NOT_FOUND);
    CHECK_FAILS(model_open(&m, folder, &(model_options){.threads = 1000}), E_INVALID);
    CHECK(m == NULL);
    test_tmpdir_remove(dir);
}

/* A weight that is not a number makes logits that are not: no crash, and sampling still answers. */
static void nan_weights(void)
{
    char dir[256], path[512];
    CHECK(random_model_write(test_tmpdir(dir), &base_config));
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    FILE *f = fopen(path, "r+b");
    NEED(f != NULL);
    float bad[2] = {NAN, INFINITY};
    CHECK(fseek(f, -8, SEEK_END) == 0 && fwrite(bad, 1, 8, f) == 8 && fclose(f) == 0);
    model *m = NULL;
    CHECK_OK(model_open(&m, dir, NULL));
    model_seq *s = open_seq(m);
    uint32_t tokens[3] = {1, 2, 3};
    float logits[VOCAB];
    CHECK_OK(model_prefill(s, tokens, 3, logits, NULL, NULL));
    CHECK(isnan(logits[0]));
    sampler sm;
    sampler_init(&sm, &(sampler_options){.temperature = 1, .top_p = 0.9f, .seed = 1});
    CHECK(sampler_next(&sm, logits, VOCAB) == 0);
    model_seq_close(&s);
    model_close(&m);
    test_tmpdir_remove(dir);
}

/* What holds whatever the architecture is. */
static void run_shared(const gen_config *c)
{
    base_config = *c;
    if (!random_model_write(test_tmpdir(folder), c)) exit(1);
    printf("# %s\n", c->heads != 0 ? "Mamba-2" : "Mamba-1");
    RUN(describes_itself);
    RUN(schedules_change_no_bit);
    RUN(bf16_products_are_another_model);
    RUN(precisions_are_kept_apart);
    RUN(quantised_folders_are_the_same);
    RUN(broken_scales);
    RUN(pieces_change_no_bit);
    RUN(more_sequences_than_a_pass);
    RUN(instruction_sets_agree);
    RUN(gpus_may_be_missing);
    RUN(threads_share_an_engine);
    RUN(snapshots_are_checked);
    RUN(wipes_and_errors);
    RUN(lying_configs);
    RUN(broken_files);
    RUN(nan_weights);
}

/* test_model [N]: N schedules for each precision, architecture and number of threads. */
int main(int argc, char **argv)
{
    if (argc > 1) schedules = (uint32_t)strtoul(argv[1], NULL, 10);
    run_shared(&mamba_config);
    RUN(lying_mamba_configs);
    test_tmpdir_remove(folder);
    run_shared(&mamba2_config);
    RUN(lying_mamba2_configs);
    RUN(missing_mamba2_tensors);
    test_tmpdir_remove(folder);
    RUN(engine_matches_reference);
    return DONE();
}
