/* The engine on a GPU: the same bits alone, batched, in any slot and any pieces; near the CPU's; wiped; clear errors.
 *
 * Built twice: with model/cuda on an emulated device (tests/emulation), which CI runs, and, where there is nvcc, for a
 * real one, which is skipped where there is none. LETHE_TEST_DEVICE=1 makes its absence a failure; LETHE_TEST_SMALL=1 leaves
 * out the shapes, for what slows a device down a hundred times. */
#include "model.h"
#include "test.h"
#include "tests/golden/random_model.h"
#ifdef LETHE_EMULATED
#include "tests/emulation/emulation.h"
#endif

#include <math.h>

enum { VOCAB = 300, LENGTH = 40, SEQUENCES_MAX = 130 };

static char folder[256];
static size_t sequences = 36;              /* of the big batches */
static bool quick;

/* More inputs than two blocks of a product's, and sizes that are no multiple of anything. */
static const gen_config mamba_config = {
    .d_model = 260, .d_inner = 520, .d_state = 16, .d_conv = 4, .dt_rank = 17, .layers = 2,
    .vocab = VOCAB, .use_conv_bias = true, .tied = true, .type = GEN_F32, .seed = 5};
static const gen_config mamba2_config = {
    .d_model = 260, .d_inner = 520, .d_state = 16, .d_conv = 4, .heads = 8, .groups = 2, .layers = 2,
    .vocab = VOCAB, .use_conv_bias = true, .tied = true, .type = GEN_F32, .seed = 5};
static const gen_config *base;             /* of the architecture whose turn it is, in folder */

static uint32_t token_of(size_t s, size_t i) { return (uint32_t)(gen_bits(gen_key(99 + s, "stream"), i) % VOCAB); }

static model *open_as(const char *dir, model_backend backend, model_precision precision)
{
    model *m = NULL;
    CHECK_OK(model_open(&m, dir, &(model_options){.threads = 2, .precision = precision, .backend = backend}));
    return m;
}

static model_seq *open_seq(const model *m)
{
    model_seq *s = NULL;
    CHECK_OK(model_seq_open(&s, m));
    return s;
}

/* ---- near the CPU ---------------------------------------------------------------------------------------- */

/* Some read at once, the rest written one by one: the largest difference of a logit, of the largest logit. */
static double difference(const char *dir, model_precision precision)
{
    enum { READ = 21, ALL = 30 };
    static float want[VOCAB], got[VOCAB];
    model *cpu = open_as(dir, MODEL_CPU, MODEL_F32), *gpu = open_as(dir, MODEL_CUDA, precision);
    model_seq *a = open_seq(cpu), *b = open_seq(gpu);
    uint32_t tokens[ALL];
    double worst = 0, most = 0;
    for (size_t i = 0; i < ALL; i++) tokens[i] = token_of(2, i);
    CHECK_OK(model_prefill(a, tokens, READ, want, NULL, NULL));
    CHECK_OK(model_prefill(b, tokens, READ, got, NULL, NULL));
    for (size_t i = READ;; i++) {
        for (size_t j = 0; j < VOCAB; j++) {
            worst = fmax(worst, fabs((double)want[j] - (double)got[j]));
            most = fmax(most, fabs((double)want[j]));
        }
        if (i == ALL) break;
        CHECK_OK(model_decode(cpu, &a, &tokens[i], 1, want));
        CHECK_OK(model_decode(gpu, &b, &tokens[i], 1, got));
    }
    CHECK(model_describe(gpu)->backend == MODEL_CUDA && model_describe(cpu)->backend == MODEL_CPU);
    CHECK(memcmp(model_describe(gpu)->identity, model_describe(cpu)->identity, 32) != 0);
    model_seq_close(&a);
    model_seq_close(&b);
    model_close(&cpu);
    model_close(&gpu);
    CHECK(most > 0.1);
    return worst / most;
}

static void check_near(const gen_config *c)
{
    char dir[256];
    CHECK(random_model_write(test_tmpdir(dir), c));
    const double f32 = difference(dir, MODEL_F32), bf16 = difference(dir, MODEL_BF16);
    printf("# d_model %u, d_inner %u, states %u, conv %u, heads %u: f32 %.2g, bf16 %.2g\n", c->d_model, c->d_inner, c->d_state,
           c->d_conv, c->heads, f32, bf16);
    CHECK(f32 <= 1e-4);
    CHECK(bf16 <= 2e-2);
    test_tmpdir_remove(dir);
}

/* Shapes that leave tiles half full in every way: of channels, states, heads that begin anywhere, groups, widths. */
static void odd_shapes_are_near_the_cpu(void)
{
    gen_config c = {.d_model = 37, .d_inner = 111, .d_state = 7, .d_conv = 2, .dt_rank = 3, .layers = 3, .vocab = VOCAB,
                    .use_bias = true, .type = GEN_BF16, .seed = 21};
    check_near(&c);
    c = (gen_config){.d_model = 40, .d_inner = 80, .d_state = 200, .d_conv = 8, .dt_rank = 3, .layers = 1, .vocab = VOCAB,
                     .use_conv_bias = true, .tied = true, .type = GEN_BF16, .seed = 22};
    check_near(&c);
    c = (gen_config){.d_model = 40, .d_inner = 80, .d_state = 1, .d_conv = 3, .dt_rank = 70, .layers = 1, .vocab = VOCAB,
                     .use_conv_bias = true, .tied = true, .type = GEN_BF16, .seed = 22};
    check_near(&c);
    c = (gen_config){.d_model = 38, .d_inner = 114, .d_state = 7, .d_conv = 2, .heads = 6, .groups = 3, .dt_min = 0.05f,
                     .dt_max = 0.5f, .layers = 3, .vocab = VOCAB, .use_bias = true, .type = GEN_BF16, .seed = 21};
    check_near(&c);
    c = (gen_config){.d_model = 64, .d_inner = 128, .d_state = 128, .d_conv = 4, .heads = 2, .groups = 1, .layers = 2,
                     .vocab = VOCAB, .use_conv_bias = true, .tied = true, .type = GEN_BF16, .seed = 22};
    check_near(&c);
    check_near(base);
}

/* Greedy continuations are the CPU's in float32. */
static void writes_what_the_cpu_writes(void)
{
    enum { COUNT = 24 };
    static float want[VOCAB], got[VOCAB];
    model *cpu = open_as(folder, MODEL_CPU, MODEL_F32), *gpu = open_as(folder, MODEL_CUDA, MODEL_F32);
    model_seq *a = open_seq(cpu), *b = open_seq(gpu);
    sampler s;
    sampler_init(&s, &(sampler_options){.temperature = 0});
    uint32_t token = 5;
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_OK(model_decode(cpu, &a, &token, 1, want));
        CHECK_OK(model_decode(gpu, &b, &token, 1, got));
        token = sampler_next(&s, want, VOCAB);
        CHECK(token == sampler_next(&s, got, VOCAB));
    }
    model_seq_close(&a);
    model_seq_close(&b);
    model_close(&cpu);
    model_close(&gpu);
}

/* ---- the same bits --------------------------------------------------------------------------------------- */

/* (SEQUENCES_MAX, LENGTH, VOCAB): each sequence alone, a token at a time; the first length of the first count. */
static float *alone(const model *m, size_t count, size_t length)
{
    float *all = mem_alloc_array(count * LENGTH * VOCAB, sizeof *all);
    for (size_t s = 0; s < count; s++) {
        model_seq *seq = open_seq(m);
        for (size_t i = 0; i < length; i++) {
            uint32_t token = token_of(s, i);
            CHECK_OK(model_decode(m, &seq, &token, 1, all + (s * LENGTH + i) * VOCAB));
        }
        model_seq_close(&seq);
    }
    return all;
}

static bool same(const float *want, size_t s, size_t i, const float *got)
{
    return memcmp(got, want + (s * LENGTH + i) * VOCAB, VOCAB * sizeof *got) == 0;
}

/* One step of so many sequences, of which the first is sequence `first`: every slot holds every sequence in its turn. */
static void check_batch(const model *m, const float *want, size_t count, size_t batch, size_t first)
{
    static float logits[SEQUENCES_MAX * VOCAB];
    model_seq *seqs[SEQUENCES_MAX];
    uint32_t tokens[SEQUENCES_MAX];
    for (size_t i = 0; i < batch; i++) seqs[i] = open_seq(m);
    for (size_t step = 0; step < 2; step++) {
        for (size_t i = 0; i < batch; i++) tokens[i] = token_of((first + i) % count, step);
        CHECK_OK(model_decode(m, seqs, tokens, batch, logits));
        for (size_t i = 0; i < batch; i++) CHECK(same(want, (first + i) % count, step, logits + i * VOCAB));
    }
    for (size_t i = 0; i < batch; i++) model_seq_close(&seqs[i]);
}

/* Mutant: cuda_blocks_depend_on_batch. */
static void batches_change_no_bit(void)
{
    static const size_t BATCHES[] = {2, 3, 7, 8, 9, 16, 17, 32, 33, 64, 65, 127, 128};
    for (model_precision p = MODEL_F32; p <= MODEL_BF16; p++) {
        const size_t most = p == MODEL_F32 ? 9 : sequences;              /* in float32 all rows take one kernel */
        model *m = open_as(folder, MODEL_CUDA, p);
        float *want = alone(m, most, 2);
        for (size_t i = 0; i < sizeof BATCHES / sizeof *BATCHES; i++)
            if (BATCHES[i] <= most) check_batch(m, want, most, BATCHES[i], i);
        check_batch(m, want, 3, 5, 1);     /* more than once the same */
        mem_free(want);
        model_close(&m);
    }
}

/* A prompt in pieces of these lengths, the last as often as it takes, then on token by token. */
static void check_pieces(const model *m, const float *want, const size_t *pieces)
{
    static float logits[VOCAB];
    uint32_t tokens[LENGTH];
    model_seq *s = open_seq(m);
    for (size_t i = 0; i < LENGTH; i++) tokens[i] = token_of(0, i);
    for (size_t at = 0; at < LENGTH;) {
        const size_t n = *pieces < LENGTH - at ? *pieces : LENGTH - at;
        CHECK_OK(model_prefill(s, tokens + at, n, logits, NULL, NULL));
        at += n;
        CHECK(same(want, 0, at - 1, logits));
        if (pieces[1] != 0) pieces++;
    }
    CHECK(model_seq_length(s) == LENGTH);
    model_seq_close(&s);
}

static void pieces_change_no_bit(void)
{
    static const size_t PIECES[][4] = {{LENGTH}, {1, LENGTH}, {2, 3, 1, 33}, {16, 17}, {8, 9}, {33, 1}, {7}};
    for (model_precision p = MODEL_F32; p <= MODEL_BF16; p++) {
        model *m = open_as(folder, MODEL_CUDA, p);
        float *want = alone(m, 1, LENGTH);
        for (size_t i = p == MODEL_F32 ? 4 : 0; i < sizeof PIECES / sizeof *PIECES; i++) {
            size_t pieces[5] = {PIECES[i][0], PIECES[i][1], PIECES[i][2], PIECES[i][3]};
            check_pieces(m, want, pieces);
        }
        mem_free(want);
        model_close(&m);
    }
}

/* A prompt in two pieces, each beside two steps, with three tokens' logits behind each token. */
static void watched_prompts_change_no_bit(void)
{
    enum { FIRST = 25, WATCHED = 3 };
    static const uint32_t WHICH[WATCHED] = {VOCAB - 1, 0, 77};
    static float scores[LENGTH * WATCHED], logits[3 * VOCAB];
    for (model_precision p = MODEL_F32; p <= MODEL_BF16; p++) {
        model *m = open_as(folder, MODEL_CUDA, p);
        float *want = alone(m, 3, LENGTH);
        model_seq *s = open_seq(m), *others[2] = {open_seq(m), open_seq(m)};
        uint32_t read[LENGTH], steps[2];
        for (size_t i = 0; i < LENGTH; i++) read[i] = token_of(0, i);
        for (size_t piece = 0; piece < 2; piece++) {
            size_t at = piece == 0 ? 0 : FIRST, count = piece == 0 ? FIRST : LENGTH - FIRST;
            for (size_t i = 0; i < 2; i++) steps[i] = token_of(1 + i, piece);
            const model_prompt prompt = {s, read + at, count, piece == 1, {WHICH, WATCHED, scores + at * WATCHED, NULL}};
            CHECK_OK(model_decode_beside(m, &prompt, others, steps, 2, logits));
            for (size_t i = 0; i < 2; i++) CHECK(same(want, 1 + i, piece, logits + (1 + i) * VOCAB));
        }
        CHECK(same(want, 0, LENGTH - 1, logits));
        for (size_t i = 0; i < LENGTH * WATCHED; i++)
            CHECK(memcmp(&scores[i], &want[i / WATCHED * VOCAB + WHICH[i % WATCHED]], sizeof(float)) == 0);
        model_seq_close(&s);
        for (size_t i = 0; i < 2; i++) model_seq_close(&others[i]);
        mem_free(want);
        model_close(&m);
    }
}

/* As many rows as make the large tiles, cut in two ways. */
static void long_prompts_change_no_bit(void)
{
    enum { COUNT = 300 };
    static float whole[VOCAB], pieces[VOCAB];
    uint32_t tokens[COUNT];
    model *m = open_as(folder, MODEL_CUDA, MODEL_BF16);
    model_seq *a = open_seq(m), *b = open_seq(m);
    for (size_t i = 0; i < COUNT; i++) tokens[i] = token_of(7, i);
    CHECK_OK(model_prefill(a, tokens, COUNT, whole, NULL, NULL));
    CHECK_OK(model_prefill(b, tokens, 17, NULL, NULL, NULL));
    CHECK_OK(model_prefill(b, tokens + 17, 64, NULL, NULL, NULL));
    CHECK_OK(model_prefill(b, tokens + 81, COUNT - 82, NULL, NULL, NULL));
    CHECK_OK(model_decode(m, &b, &tokens[COUNT - 1], 1, pieces));
    CHECK(memcmp(whole, pieces, sizeof whole) == 0);
    model_seq_close(&a);
    model_seq_close(&b);
    model_close(&m);
}

/* Kernels launched one by one, and in another order, give the same. */
static void graphs_change_no_bit(void)
{
    model *m = open_as(folder, MODEL_CUDA, MODEL_BF16);
    float *want = alone(m, 3, 4);
    model_close(&m);
    setenv("LETHE_CUDA_WITHOUT", "graphs,overlap,wgmma", 1);
#ifdef LETHE_EMULATED
    emulated_order(12345);
#endif
    m = open_as(folder, MODEL_CUDA, MODEL_BF16);
    float *plain = alone(m, 3, 4);
    unsetenv("LETHE_CUDA_WITHOUT");
    for (size_t s = 0; s < 3; s++)
        for (size_t i = 0; i < 4; i++) CHECK(same(want, s, i, plain + (s * LENGTH + i) * VOCAB));
    mem_free(want);
    mem_free(plain);
    model_close(&m);
}

/* ---- states ---------------------------------------------------------------------------------------------- */

/* Logits that the device writes straight into pinned memory, and those that are copied. */
static void pinned_logits_are_the_same(void)
{
    static float copied[3 * VOCAB];
    model *m = open_as(folder, MODEL_CUDA, MODEL_BF16);
    model_seq *seqs[3] = {open_seq(m), open_seq(m), open_seq(m)};
    uint32_t tokens[3] = {7, 8, 9};
    float *pinned = NULL;
    CHECK_OK(model_logits_open(&pinned, m, (size_t)4 * VOCAB));
    CHECK_OK(model_decode(m, seqs, tokens, 3, copied));
    for (size_t i = 0; i < 3; i++) model_seq_wipe(seqs[i]);
    CHECK_OK(model_decode(m, seqs, tokens, 3, pinned + VOCAB));
    CHECK(memcmp(copied, pinned + VOCAB, sizeof copied) == 0);
    for (size_t i = 0; i < 3; i++) model_seq_close(&seqs[i]);
    model_logits_close(m, &pinned, (size_t)4 * VOCAB);
    model_close(&m);
}

static void snapshots_restore(void)
{
    static float first[VOCAB], second[VOCAB];
    uint32_t tokens[9];
    model *m = open_as(folder, MODEL_CUDA, MODEL_BF16), *cpu = open_as(folder, MODEL_CPU, MODEL_BF16);
    model_seq *a = open_seq(m), *b = open_seq(m), *c = open_seq(cpu);
    buf state, again;
    buf_init(&state, (size_t)1 << 26);
    buf_init(&again, (size_t)1 << 26);
    for (size_t i = 0; i < 9; i++) tokens[i] = token_of(1, i);
    CHECK_OK(model_prefill(a, tokens, 9, NULL, NULL, NULL));
    CHECK_OK(model_prefill(b, tokens, 3, NULL, NULL, NULL));
    CHECK_OK(model_seq_snapshot(a, &state));
    CHECK_OK(model_seq_restore(b, buf_bytes(&state)));
    CHECK_OK(model_seq_snapshot(b, &again));
    CHECK(bytes_equal(buf_bytes(&state), buf_bytes(&again)));
    CHECK_OK(model_decode(m, &a, &tokens[0], 1, first));
    CHECK_OK(model_decode(m, &b, &tokens[0], 1, second));
    CHECK(memcmp(first, second, sizeof first) == 0);
    CHECK_FAILS(model_seq_restore(c, buf_bytes(&state)), E_INVALID);     /* another arithmetic */
    CHECK_FAILS(model_prefill(a, (uint32_t[]){VOCAB}, 1, NULL, NULL, NULL), E_INVALID);
    buf_free(&state);
    buf_free(&again);
    model_seq_close(&a);
    model_seq_close(&b);
    model_seq_close(&c);
    model_close(&m);
    model_close(&cpu);
}

static void wiped_is_like_new(void)
{
    static float first[VOCAB], second[VOCAB];
    uint32_t tokens[5] = {1, 2, 3, 4, 5};
    model *m = open_as(folder, MODEL_CUDA, MODEL_BF16);
    model_seq *a = open_seq(m);
    CHECK_OK(model_prefill(a, tokens, 5, first, NULL, NULL));
    model_seq_wipe(a);
    CHECK(model_seq_length(a) == 0);
    CHECK_OK(model_prefill(a, tokens, 5, second, NULL, NULL));
    CHECK(memcmp(first, second, sizeof first) == 0);
    model_seq_close(&a);
    model_close(&m);
}

#ifdef LETHE_EMULATED
/* Everything on the device and in pinned memory is as it was before, once sequences are wiped. Mutants:
 * cuda_workspace_kept, cuda_state_kept. */
static void nothing_is_left_of_a_sequence(void)
{
    float *logits = NULL;
    uint32_t tokens[LENGTH];
    model *m = open_as(folder, MODEL_CUDA, MODEL_BF16);
    model_seq *seqs[40];
    buf state;
    buf_init(&state, (size_t)1 << 26);
    for (size_t i = 0; i < LENGTH; i++) tokens[i] = token_of(6, i);
    for (size_t i = 0; i < 40; i++) seqs[i] = open_seq(m);
    const uint64_t before = emulated_contents(), unwiped = emulated_freed_unwiped();
    CHECK_OK(model_logits_open(&logits, m, (size_t)40 * VOCAB));
    CHECK_OK(model_prefill(seqs[0], tokens, LENGTH, logits, NULL, NULL));
    CHECK_OK(model_prefill(seqs[1], tokens, 3, NULL, NULL, NULL));
    CHECK_OK(model_seq_snapshot(seqs[0], &state));
    CHECK_OK(model_seq_restore(seqs[2], buf_bytes(&state)));
    CHECK_OK(model_decode(m, seqs, tokens, 3, logits));
    CHECK_OK(model_decode(m, seqs, tokens, 40, logits));
    CHECK(emulated_contents() != before);  /* states are there */
    for (size_t i = 0; i < 40; i++) model_seq_wipe(seqs[i]);
    model_logits_close(m, &logits, (size_t)40 * VOCAB);
    CHECK(logits == NULL && emulated_contents() == before);
    logits = mem_alloc_array((size_t)40 * VOCAB, sizeof *logits);
    CHECK_OK(model_decode(m, seqs, tokens, 40, logits));
    mem_free(logits);
    for (size_t i = 0; i < 40; i++) model_seq_close(&seqs[i]);
    CHECK(emulated_freed_unwiped() == unwiped);
    buf_free(&state);
    model_close(&m);
}

/* ---- errors ---------------------------------------------------------------------------------------------- */

static void check_machine(int devices, int driver, int capability, const char *says)
{
    model *m = NULL;
    model_options options = {.backend = MODEL_CUDA};
    emulated_machine(devices, driver, capability);
    result r = model_open(&m, folder, &options);
    CHECK(r.code == E_UNAVAILABLE && strstr(r.message, says) != NULL);
    printf("# %s\n", r.message);
    options.backend = MODEL_CUDA_OR_CPU;
    CHECK_OK(model_open(&m, folder, &options));
    CHECK(m != NULL && model_describe(m)->backend == MODEL_CPU);
    model_close(&m);
    emulated_machine(1, 13000, 90);
}

static void absent_devices_are_told(void)
{
    model *m = NULL;
    check_machine(0, 13000, 90, "no usable GPU");
    check_machine(0, 0, 90, "no NVIDIA driver");
    check_machine(1, 12040, 90, "CUDA 12.4");
    check_machine(1, 13000, 75, "7.5");
    CHECK_FAILS(model_open(&m, folder, &(model_options){.backend = MODEL_CUDA, .device = 1}), E_UNAVAILABLE);
    CHECK_FAILS(model_open(&m, folder, &(model_options){.backend = MODEL_CUDA, .precision = MODEL_Q8}), E_UNIMPLEMENTED);
    CHECK(m == NULL);
}

/* Whatever allocation fails: an error or the CPU, and nothing lost. */
static void too_little_memory_is_told(void)
{
    bool opened = false;
    for (size_t size = 0; size < (size_t)1 << 30 && !opened; size = size < 1 << 20 ? 1 << 20 : size * 5 / 4) {
        model *m = NULL;
        emulated_memory(size);
        result r = model_open(&m, folder, &(model_options){.backend = MODEL_CUDA, .precision = MODEL_BF16});
        opened = is_ok(r);
        CHECK(opened || (r.code == E_UNAVAILABLE && strstr(r.message, "too little memory") != NULL));
        if (!opened) {
            CHECK_OK(model_open(&m, folder, &(model_options){.backend = MODEL_CUDA_OR_CPU, .precision = MODEL_BF16}));
            CHECK(m != NULL && model_describe(m)->backend == MODEL_CPU);
        }
        model_close(&m);
    }
    CHECK(opened);
    emulated_memory((size_t)1 << 40);
}

static void sequences_without_memory(void)
{
    model *m = open_as(folder, MODEL_CUDA, MODEL_BF16);
    model_seq *s = NULL;
    emulated_memory(100);
    CHECK_FAILS(model_seq_open(&s, m), E_UNAVAILABLE);
    CHECK(s == NULL);
    emulated_memory((size_t)1 << 40);
    CHECK_OK(model_seq_open(&s, m));       /* it was no fault */
    model_seq_close(&s);
    model_close(&m);
}

/* A fault at any launch: this call and all later ones say so, and everything closes. */
static void faults_are_told(void)
{
    static float logits[2 * VOCAB];
    for (int64_t at = 0; at < 36; at += 7) {
        model *m = open_as(folder, MODEL_CUDA, MODEL_BF16);
        model_seq *s[2] = {open_seq(m), open_seq(m)};
        uint32_t tokens[2] = {1, 2};
        emulated_fault(at);
        result r = model_prefill(s[0], tokens, 2, logits, NULL, NULL);
        if (is_ok(r)) r = model_decode(m, s, tokens, 2, logits);
        CHECK(r.code == E_UNAVAILABLE && strstr(r.message, "restart") != NULL);
        CHECK_FAILS(model_decode(m, s, tokens, 2, logits), E_UNAVAILABLE);
        buf state;
        buf_init(&state, (size_t)1 << 26);
        CHECK_FAILS(model_seq_snapshot(s[1], &state), E_UNAVAILABLE);
        buf_free(&state);
        model_seq_close(&s[0]);
        model_seq_close(&s[1]);
        model_close(&m);
        emulated_fault(-1);
    }
}
#endif

static void run_all(const gen_config *c)
{
    base = c;
    CHECK(random_model_write(test_tmpdir(folder), c));
    if (!quick) {
        RUN(odd_shapes_are_near_the_cpu);
        RUN(writes_what_the_cpu_writes);
    }
    RUN(batches_change_no_bit);
    RUN(pieces_change_no_bit);
    RUN(watched_prompts_change_no_bit);
    RUN(long_prompts_change_no_bit);
    RUN(graphs_change_no_bit);
    RUN(pinned_logits_are_the_same);
    RUN(snapshots_restore);
    RUN(wiped_is_like_new);
#ifdef LETHE_EMULATED
    RUN(nothing_is_left_of_a_sequence);
    RUN(absent_devices_are_told);
    RUN(too_little_memory_is_told);
    RUN(sequences_without_memory);
    RUN(faults_are_told);
#endif
    test_tmpdir_remove(folder);
}

#ifndef LETHE_EMULATED
static bool device_there(void)
{
    model *m = NULL;
    CHECK(random_model_write(test_tmpdir(folder), &mamba_config));
    result r = model_open(&m, folder, &(model_options){.backend = MODEL_CUDA});
    if (is_ok(r)) printf("# %s\n", model_describe(m)->kernel);
    else printf("# %s\n", r.message);
    model_close(&m);
    test_tmpdir_remove(folder);
    return is_ok(r);
}
#endif

int main(void)
{
    quick = getenv("LETHE_TEST_SMALL") != NULL;
#ifndef LETHE_EMULATED
    if (!quick) sequences = 128;
    if (!device_there()) {
        const char *must = getenv("LETHE_TEST_DEVICE");
        printf("1..0 # SKIP no device\n");
        return must != NULL && must[0] == '1';
    }
#endif
    log_level_set(LOG_ERROR);
    run_all(&mamba_config);
    run_all(&mamba2_config);
    return DONE();
}
