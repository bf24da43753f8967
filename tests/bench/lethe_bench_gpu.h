/* lethe-bench's part that is built where nvcc is. */
#ifndef LETHE_BENCH_GPU_H
#define LETHE_BENCH_GPU_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LETHE_BENCH_GPU_USAGE "gpu [--shape 130m|370m|790m|1.4b|2.8b|mamba2-2.7b|all] [--long] [--device 0] [--csv FILE]\n" \
    "  --long  the mixer of 16 sequences of 4096 to 65536 rows too (some 60 GB)"

/* What the device can do: bytes a second copied within it, read and written together; BF16 operations a second of its matrix
 * instruction. False: there is no such device. Some 50 ms. */
typedef struct { double copy_bytes, matrix_flop; } gpu_limits;
bool gpu_limits_measure(uint32_t device, gpu_limits *out);

int lethe_bench_gpu(int argc, char **argv);

#ifdef __cplusplus
}
#endif

#endif
