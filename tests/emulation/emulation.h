/* What tests may ask of the emulated device, and tell it. */
#ifndef LETHE_EMULATION_H
#define LETHE_EMULATION_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A machine with so many devices (default 1), a driver of this version (13000; 0: none), of compute capability capability / 10. */
void emulated_machine(int devices, int driver, int capability);
/* Memory that is left; cudaMalloc and cudaMallocHost beyond it fail. */
void emulated_memory(size_t bytes);
/* The launch after so many more is a fault, after which every call fails; -1: none, and all is well again. */
void emulated_fault(int64_t launches);
/* The order in which blocks and threads run. */
void emulated_order(uint64_t seed);
/* A hash over all device and pinned memory that is allocated, and how much of what was freed since was not zeros. */
uint64_t emulated_contents(void);
uint64_t emulated_freed_unwiped(void);
uint64_t emulated_launches(void);

#ifdef __cplusplus
}
#endif

#endif
