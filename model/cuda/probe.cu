/* A trial of the tensor cores: the same rows by every shape of product kernel, which must agree to the bit. Nothing
 * documents that an element's sum does not depend on its place in an instruction, or that wgmma adds as mma.sync does. */
#include "kernels.h"

#include <stdlib.h>
#include <string.h>

constexpr uint32_t PROBE_OUT = 128, PROBE_IN = 320, PROBE_ROWS = 40, PROBE_SKINNY = 16;

struct Probe {
    cudaStream_t stream;
    unsigned char *host, *device;          /* w, x, bias, y one behind the other */
    size_t w, x, bias, y, size;
};

static Probe probe_of(cudaStream_t stream)
{
    Probe p = {};
    p.stream = stream;
    p.x = p.w + sizeof(bf16) * PROBE_OUT * PROBE_IN;
    p.bias = p.x + sizeof(bf16) * PROBE_ROWS * PROBE_IN;
    p.y = p.bias + sizeof(float) * PROBE_OUT;
    p.size = p.y + sizeof(float) * PROBE_ROWS * PROBE_OUT;
    return p;
}

/* Values of both signs over some powers of two, so that the order of adding shows in the last bits. */
static void fill(Probe &p)
{
    uint32_t state = 1;
    uint16_t *values = (uint16_t *)p.host;
    for (size_t i = 0; i < p.bias / sizeof(bf16); i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (uint16_t)((state >> 16 & 0x8000u) | (124u + (state >> 20) % 6) << 7 | (state >> 9 & 127u));
    }
}

static cudaError_t multiply(const Probe &p, ProductShape shape, uint32_t rows, float *y)
{
    Launcher l = {p.stream, false, cudaSuccess};
    const Matrix w = {p.device + p.w, (const float *)(p.device + p.bias), PROBE_OUT, PROBE_IN};
    const Output to = {STORE, NULL, 0, 0, (float *)(p.device + p.y), PROBE_OUT};
    const size_t size = sizeof(float) * rows * PROBE_OUT;
    product(l, shape, w, p.device + p.x, PROBE_IN, rows, to);
    if (l.error == cudaSuccess)
        l.error = cudaMemcpyAsync(p.host + p.y, p.device + p.y, size, cudaMemcpyDeviceToHost, p.stream);
    if (l.error == cudaSuccess) l.error = cudaStreamSynchronize(p.stream);
    if (l.error == cudaSuccess) memcpy(y, p.host + p.y, size);
    return l.error;
}

static cudaError_t compare(Probe &p, bool grouped, Agreement *out)
{
    static const ProductShape SHAPES[] = {SKINNY_8, SKINNY_16, SMALL, LARGE, GROUP};
    static const uint32_t ROWS[] = {1, PROBE_SKINNY, 2 * PROBE_SKINNY, PROBE_ROWS, PROBE_ROWS};
    float want[PROBE_ROWS * PROBE_OUT], got[PROBE_ROWS * PROBE_OUT];
    cudaError_t r = multiply(p, MEDIUM, PROBE_ROWS, want);
    out->same = true;
    for (int i = 0; i < 4 + grouped && r == cudaSuccess; i++) {
        r = multiply(p, SHAPES[i], ROWS[i], got);
        const bool same = memcmp(want, got, sizeof(float) * ROWS[i] * PROBE_OUT) == 0;
        if (SHAPES[i] == GROUP) out->group = same;
        else out->same = out->same && same;
    }
    return r;
}

cudaError_t product_probe(cudaStream_t stream, bool grouped, Agreement *out)
{
    Probe p = probe_of(stream);
    cudaError_t r = cudaMallocHost((void **)&p.host, p.size);
    if (r == cudaSuccess) {
        memset(p.host, 0, p.size);
        fill(p);
        r = cudaMalloc((void **)&p.device, p.size);
    }
    if (r == cudaSuccess) r = cudaMemcpyAsync(p.device, p.host, p.size, cudaMemcpyHostToDevice, stream);
    if (r == cudaSuccess) r = compare(p, grouped, out);
    if (p.device != NULL) (void)cudaFree(p.device);
    if (p.host != NULL) (void)cudaFreeHost(p.host);
    return r;
}
