/* make_random_model OUT_DIR SEED D_MODEL LAYERS VOCAB [D_STATE [HEADS [GROUPS]]] [bf16]: a folder of Mamba-1, or with
 * HEADS of Mamba-2, with random weights (float32 or bfloat16, tied embeddings, expand 2, convolution 4), for tests. */
#include "random_model.h"

static uint64_t number(const char *text, uint64_t least, uint64_t most)
{
    char *end = NULL;
    uint64_t v = strtoull(text, &end, 10);
    if (*text == '\0' || *end != '\0' || v < least || v > most) {
        fprintf(stderr, "make_random_model: %s is not a number of %llu to %llu\n", text,
                (unsigned long long)least, (unsigned long long)most);
        exit(2);
    }
    return v;
}

int main(int argc, char **argv)
{
    const bool bf16 = argc > 6 && strcmp(argv[argc - 1], "bf16") == 0;
    argc -= bf16;
    if (argc < 6 || argc > 9) {
        fputs("usage: make_random_model OUT_DIR SEED D_MODEL LAYERS VOCAB [D_STATE [HEADS [GROUPS]]] [bf16]\n", stderr);
        return 2;
    }
    uint32_t m = (uint32_t)number(argv[3], 1, 16384);
    gen_config c = {.d_model = m, .d_inner = 2 * m, .d_state = 16, .d_conv = 4,
                    .dt_rank = (m + 15) / 16, .use_conv_bias = true, .tied = true, .type = bf16 ? GEN_BF16 : GEN_F32,
                    .seed = number(argv[2], 0, UINT64_MAX),
                    .layers = (uint32_t)number(argv[4], 1, 256),
                    .vocab = (uint32_t)number(argv[5], RANDOM_MODEL_TOKENS, 1048576)};
    if (argc > 6) c.d_state = (uint32_t)number(argv[6], 1, 256);
    if (argc > 7) c.heads = (uint32_t)number(argv[7], 1, 4096);
    c.groups = argc > 8 ? (uint32_t)number(argv[8], 1, 256) : c.heads > 0;
    if (c.heads > 0 && (c.d_inner % c.heads != 0 || c.heads % c.groups != 0)) {
        fputs("make_random_model: HEADS must divide twice D_MODEL, and GROUPS HEADS\n", stderr);
        return 2;
    }
    result r = dir_make(argv[1], 0755);
    if (!is_ok(r) || !random_model_write(argv[1], &c)) {
        fprintf(stderr, "make_random_model: cannot write the folder\n");
        return 1;
    }
    return 0;
}
