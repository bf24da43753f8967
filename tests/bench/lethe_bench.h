/* lethe-bench: its commands. Each gets its own name as argv[0]; 0: done, 1: could not, 2: usage. */
#ifndef LETHE_BENCH_COMMANDS_H
#define LETHE_BENCH_COMMANDS_H

int lethe_bench_model(int argc, char **argv);
extern const char *const LETHE_BENCH_MODEL_USAGE;
int lethe_bench_constraint(int argc, char **argv);
extern const char *const LETHE_BENCH_CONSTRAINT_USAGE;
int lethe_bench_perplexity(int argc, char **argv);
extern const char *const LETHE_BENCH_PERPLEXITY_USAGE;

#endif
