/* lethe-bench COMMAND ...: measurements of the generator. */
#include "lethe_bench.h"
#include "lethe_bench_gpu.h"

#include <stdio.h>
#include <string.h>

typedef struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *const *usage;
} command;

#ifdef LETHE_WITH_CUDA
static const char *const GPU_USAGE = LETHE_BENCH_GPU_USAGE;
#endif
static const command COMMANDS[] = {
    {"model", lethe_bench_model, &LETHE_BENCH_MODEL_USAGE},
    {"perplexity", lethe_bench_perplexity, &LETHE_BENCH_PERPLEXITY_USAGE},
    {"constraint", lethe_bench_constraint, &LETHE_BENCH_CONSTRAINT_USAGE},
#ifdef LETHE_WITH_CUDA
    {"gpu", lethe_bench_gpu, &GPU_USAGE},
#endif
};

int main(int argc, char **argv)
{
    size_t count = sizeof COMMANDS / sizeof *COMMANDS;
    for (size_t i = 0; argc > 1 && i < count; i++)
        if (strcmp(argv[1], COMMANDS[i].name) == 0) return COMMANDS[i].run(argc - 1, argv + 1);
    for (size_t i = 0; i < count; i++) fprintf(stderr, "usage: lethe-bench %s\n", *COMMANDS[i].usage);
    return 2;
}
