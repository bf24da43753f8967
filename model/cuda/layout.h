/* layout: how matrices stand in a device's memory, for who packs them (backend.c) and who multiplies (product.cu).
 *
 * F32: rows of in_padded floats. BF16: as the tensor cores' instruction m16n8k16 takes its left operand. 16 outputs
 * and 16 inputs are a fragment of 32 lanes x 8 values, 512 bytes: lane l holds outputs l/4 and l/4+8, inputs 2(l%4),
 * 2(l%4)+1, and the same plus 8. Fragments of one 16 outputs follow each other, from input 0 on.
 * Outputs are padded to 128, inputs to 64, by zeros. */
#ifndef LETHE_MODEL_CUDA_LAYOUT_H
#define LETHE_MODEL_CUDA_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

enum { LAYOUT_WIDTH = 64, LAYOUT_OUTPUTS = 128, FRAGMENT_SIDE = 16, FRAGMENT_VALUES = 256, FRAGMENT_BYTES = 512 };

static inline uint32_t layout_pad(uint32_t n, uint32_t to) { return (n + to - 1) / to * to; }
static inline uint32_t layout_width(uint32_t n) { return layout_pad(n, LAYOUT_WIDTH); }

/* Where the weight of an output and an input is, in values. */
#ifdef __CUDACC__
__host__ __device__
#endif
static inline size_t layout_fragment(uint32_t output, uint32_t input, uint32_t in_padded)
{
    const uint32_t o = output % FRAGMENT_SIDE, i = input % FRAGMENT_SIDE;
    const uint32_t lane = o % 8 * 4 + i % 8 / 2, value = i / 8 * 4 + o / 8 * 2 + i % 2;
    const size_t fragment = (size_t)(output / FRAGMENT_SIDE) * (in_padded / FRAGMENT_SIDE) + input / FRAGMENT_SIDE;
    return fragment * FRAGMENT_VALUES + lane * 8 + value;
}

#endif
