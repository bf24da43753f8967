/* The machine's own limits, measured: reading memory, and the multiply-add that the engine's kernels use.
 *
 * The work is spread as the engine spreads its own, by a pool of as many threads. */
#ifndef LETHE_BENCH_LIMITS_H
#define LETHE_BENCH_LIMITS_H

#include <stdint.h>

typedef struct limits limits;

/* kernel: model_info's. The buffer that is read is four times the last-level cache, 256 MB at least and
 * 1 GB at most, and stays resident until limits_close. */
limits *limits_open(uint32_t threads, const char *kernel);
void limits_close(limits **l);
/* One sample of some 50 ms each. Bytes a second read by the widest loads of the kernel's instruction set
 * into independent accumulators. */
double limits_read(limits *l);
/* Float32 operations a second, two a lane of each multiply-add, on registers only; 0 for a kernel without
 * such an instruction. */
double limits_multiply_add(limits *l);
const char *limits_instruction(const limits *l);   /* "AVX2 FMA", "none" ... */

/* Monotonic, in seconds. */
double bench_now_s(void);

#endif
