/* The engine against transformers' MambaForCausalLM and Mamba2ForCausalLM: tests/golden/mamba*.json, which
 * say how they were made. max|a-b| / max|b| <= 1e-5 at the stored positions, and the same greedy continuation
 * as long as the reference's two best logits differ by more than that bound. */
#include "model.h"
#include "test.h"
#include "tests/golden/random_model.h"

#include <cjson/cJSON.h>

#define BOUND 1e-5

typedef struct {
    cJSON *root;
    model *m;
    char dir[256];
} golden;

static double number(const cJSON *object, const char *key)
{
    return cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(object, key));
}

static bool flag(const cJSON *object, const char *key)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, key));
}

static uint32_t optional(const cJSON *object, const char *key)
{
    return cJSON_HasObjectItem(object, key) ? (uint32_t)number(object, key) : 0;
}

static gen_config config_of(const cJSON *c)
{
    const cJSON *limit = cJSON_GetObjectItemCaseSensitive(c, "dt_limit");
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(c, "dtype"));
    return (gen_config){
        .d_model = (uint32_t)number(c, "d_model"), .d_inner = (uint32_t)number(c, "d_inner"),
        .d_state = (uint32_t)number(c, "d_state"), .d_conv = (uint32_t)number(c, "d_conv"),
        .dt_rank = optional(c, "dt_rank"), .heads = optional(c, "heads"), .groups = optional(c, "groups"),
        .dt_min = limit == NULL ? 0 : (float)limit->child->valuedouble,
        .dt_max = limit == NULL ? 0 : (float)limit->child->next->valuedouble, .layers = (uint32_t)number(c, "layers"),
        .vocab = (uint32_t)number(c, "vocab"), .use_bias = flag(c, "use_bias"),
        .use_conv_bias = flag(c, "use_conv_bias"), .tied = flag(c, "tied"),
        .type = strcmp(type, "F32") == 0 ? GEN_F32 : strcmp(type, "F16") == 0 ? GEN_F16 : GEN_BF16,
        .seed = (uint64_t)number(c, "seed")};
}

static bool golden_open(golden *g, const char *name)
{
    char path[512];
    const char *source = getenv("LETHE_SOURCE");
    *g = (golden){0};
    snprintf(path, sizeof path, "%s/tests/golden/%s.json", source ? source : ".", name);
    buf text;
    buf_init(&text, (size_t)4 << 20);
    CHECK_OK(file_read(path, (size_t)4 << 20, &text));
    g->root = cJSON_ParseWithLength((const char *)text.data, text.size);
    buf_free(&text);
    if (g->root == NULL) return false;
    gen_config c = config_of(cJSON_GetObjectItemCaseSensitive(g->root, "case"));
    test_tmpdir(g->dir);
    bool written = random_model_write(g->dir, &c);
    CHECK(written);
    if (written) CHECK_OK(model_open(&g->m, g->dir, &(model_options){.threads = 2}));
    return g->m != NULL;
}

static void golden_close(golden *g)
{
    model_close(&g->m);
    if (g->dir[0] != '\0') test_tmpdir_remove(g->dir);
    cJSON_Delete(g->root);
}

/* Largest error over the stored logits of one position, relative to the largest of all logits. */
static double position_error(const cJSON *position, const float *logits)
{
    const cJSON *index = cJSON_GetObjectItemCaseSensitive(position, "index")->child;
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(position, "logits")->child;
    double most = 0;
    for (; index != NULL && value != NULL; index = index->next, value = value->next)
        most = fmax(most, fabs((double)logits[index->valueint] - value->valuedouble));
    CHECK(index == NULL && value == NULL);
    return most / number(position, "max_abs");
}

static void check_positions(const golden *g, model_seq *seq, float *logits)
{
    const cJSON *position = NULL;
    uint32_t prompt[256];
    size_t count = 0, at = 0;
    const cJSON *token = NULL;
    cJSON_ArrayForEach(token, cJSON_GetObjectItemCaseSensitive(g->root, "prompt"))
        prompt[count++] = (uint32_t)token->valueint;
    cJSON_ArrayForEach(position, cJSON_GetObjectItemCaseSensitive(g->root, "positions")) {
        size_t end = (size_t)number(position, "position") + 1;
        NEED(end > at && end <= count);
        CHECK_OK(model_prefill(seq, prompt + at, end - at, logits, NULL, NULL));
        at = end;
        double error = position_error(position, logits);
        printf("# position %zu: error %.3g of the largest logit\n", end - 1, error);
        CHECK(error <= BOUND);
    }
    CHECK(at == count);
}

static void check_greedy(const golden *g, model_seq *seq, float *logits)
{
    const cJSON *greedy = cJSON_GetObjectItemCaseSensitive(g->root, "greedy");
    const cJSON *token = cJSON_GetObjectItemCaseSensitive(greedy, "tokens")->child;
    const cJSON *margin = cJSON_GetObjectItemCaseSensitive(greedy, "margin")->child;
    const cJSON *most = cJSON_GetObjectItemCaseSensitive(greedy, "max_abs")->child;
    uint32_t vocab = model_describe(g->m)->vocab_size;
    sampler s;
    sampler_init(&s, &(sampler_options){0});
    int same = 0, close_calls = 0;
    for (; token != NULL; token = token->next, margin = margin->next, most = most->next, same++) {
        uint32_t next = sampler_next(&s, logits, vocab);
        bool sure = margin->valuedouble > BOUND * most->valuedouble;
        if (!sure) close_calls++;
        if (sure) CHECK(next == (uint32_t)token->valueint);
        if (next != (uint32_t)token->valueint) break;
        CHECK_OK(model_decode(g->m, &seq, &next, 1, logits));
    }
    printf("# greedy: %d tokens the same, %d within the bound\n", same, close_calls);
    CHECK(same >= 32);
}

static void check_case(const char *name)
{
    golden g;
    model_seq *seq = NULL;
    float *logits = NULL;
    uint64_t start = clock_mono_ms();
    if (golden_open(&g, name)) {
        logits = mem_alloc_array(model_describe(g.m)->vocab_size, sizeof *logits);
        CHECK_OK(model_seq_open(&seq, g.m));
        check_positions(&g, seq, logits);
        check_greedy(&g, seq, logits);
        printf("# %s kernels, %llu ms\n", model_describe(g.m)->kernel,
               (unsigned long long)(clock_mono_ms() - start));
    } else {
        CHECK(false);                      /* the case could not be opened */
    }
    model_seq_close(&seq);
    mem_free(logits);
    golden_close(&g);
}

static void golden_tiny(void) { check_case("mamba_tiny"); }
static void golden_small_f16(void) { check_case("mamba_small"); }
static void golden_odd_sizes(void) { check_case("mamba_odd"); }
static void golden_130m_bf16(void) { check_case("mamba_130m"); }
static void golden_mamba2_tiny(void) { check_case("mamba2_tiny"); }
static void golden_mamba2_odd_sizes_and_step_limits(void) { check_case("mamba2_odd"); }
static void golden_mamba2_biases_f16(void) { check_case("mamba2_biases"); }
static void golden_mamba2_130m_bf16(void) { check_case("mamba2_130m"); }

int main(void)
{
    RUN(golden_tiny);
    RUN(golden_small_f16);
    RUN(golden_odd_sizes);
    RUN(golden_130m_bf16);
    RUN(golden_mamba2_tiny);
    RUN(golden_mamba2_odd_sizes_and_step_limits);
    RUN(golden_mamba2_biases_f16);
    RUN(golden_mamba2_130m_bf16);
    return DONE();
}
