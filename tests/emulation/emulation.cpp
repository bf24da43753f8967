/* The emulated device: coroutines for a block's threads, and the runtime's calls on plain memory. See cuda_runtime.h. */
#include "cuda_runtime.h"

#include "model/cuda/device.h"
#include "tests/emulation/emulation.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

enum {
    STACK_BYTES = 128 << 10,
    THREADS_MAX = 1024,
    SLOT_BYTES = 64,
    FILL = 0xff,
    SHARED_PLAIN = 48 << 10,
    SHARED_MOST = 163 << 10
};

static void broken(const char *what)
{
    fprintf(stderr, "emulated device: %s\n", what);
    abort();
}

/* ---- switching stacks ------------------------------------------------------------------------------------ */

extern "C" void emulation_switch(void **from, void *to);
__asm__(R"(
.text
.globl emulation_switch
.type emulation_switch, @function
emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulation_switch, .-emulation_switch
.section .note.GNU-stack,"",@progbits
.text
)");

/* ---- threads of a block ---------------------------------------------------------------------------------- */

struct Barrier { uint32_t expected, arrived, generation; };

struct Copy { void *to; const void *from; };

struct Thread {
    void *stack_pointer;
    std::unique_ptr<unsigned char, void (*)(void *)> stack = {nullptr, free};
    bool done;
    const Barrier *waits;
    uint32_t generation, turn, lane, warp;
    uint32_t index;
    std::vector<std::vector<Copy>> groups; /* the last is open */
    void *fake_stack;
};

struct Warp {
    Barrier barrier;
    alignas(16) unsigned char slots[2][32][SLOT_BYTES];
};

struct Block {
    Barrier barrier;
    std::vector<Warp> warps;
    std::unique_ptr<unsigned char, void (*)(void *)> shared = {nullptr, free};
};

dim3 threadIdx, blockIdx, blockDim, gridDim;
static std::vector<Thread> threads;
static Block block;
static Thread *self;
static void *scheduler;
static const std::function<void()> *running;
static uint64_t order = 1, launches;

static uint64_t shuffled()
{
    order += 0x9e3779b97f4a7c15u;
    uint64_t x = order;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

#if defined(__SANITIZE_ADDRESS__)
static const void *main_stack;
static size_t main_stack_size;
static void before_switch(void **keep, const void *bottom, size_t size)
{
    __sanitizer_start_switch_fiber(keep, bottom, size);
}
static void after_switch(void *kept, const void **bottom, size_t *size)
{
    __sanitizer_finish_switch_fiber(kept, bottom, size);
}
#else
static const void *main_stack;
static size_t main_stack_size;
static void before_switch(void **, const void *, size_t) {}
static void after_switch(void *, const void **, size_t *) {}
#endif

static void yield()
{
    Thread *t = self;
    before_switch(t->done ? nullptr : &t->fake_stack, main_stack, main_stack_size);
    emulation_switch(&t->stack_pointer, scheduler);
    after_switch(t->fake_stack, &main_stack, &main_stack_size);
}

static void release(Barrier &b)
{
    if (b.expected > 0 && b.arrived == b.expected) {
        b.arrived = 0;
        b.generation++;
    }
}

static void wait_at(Barrier &b)
{
    self->generation = b.generation;
    b.arrived++;
    release(b);
    if (b.generation != self->generation) return;
    self->waits = &b;
    yield();
    self->waits = nullptr;
}

static void thread_main()
{
    after_switch(nullptr, &main_stack, &main_stack_size);
    (*running)();
    for (const std::vector<Copy> &group : self->groups)
        if (!group.empty()) broken("a thread ended with copies that it never waited for");
    self->done = true;
    block.barrier.expected--;
    release(block.barrier);
    Barrier &warp = block.warps[self->warp].barrier;
    warp.expected--;
    release(warp);
    yield();
}

static void start_thread(Thread &t, uint32_t index)
{
    if (t.stack == nullptr) t.stack.reset((unsigned char *)aligned_alloc(64, STACK_BYTES));
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(t.stack.get(), STACK_BYTES);
#endif
    void **top = (void **)(t.stack.get() + STACK_BYTES - 64);
    *--top = nullptr;                      /* where thread_main would return to */
    *--top = (void *)thread_main;
    for (int i = 0; i < 6; i++) *--top = nullptr;
    t.stack_pointer = top;
    t.done = false;
    t.waits = nullptr;
    t.turn = 0;
    t.lane = index % 32;
    t.warp = index / 32;
    t.index = index;
    t.groups.assign(1, {});
}

static void resume(Thread &t)
{
    void *fake = nullptr;
    self = &t;
    threadIdx = dim3(t.index);
    before_switch(&fake, t.stack.get(), STACK_BYTES);
    emulation_switch(&scheduler, t.stack_pointer);
    after_switch(fake, nullptr, nullptr);
}

static void run_block(const dim3 &at, const cudaLaunchConfig_t &c)
{
    const uint32_t count = c.blockDim.x;
    blockIdx = at;
    blockDim = c.blockDim;
    gridDim = c.gridDim;
    std::vector<uint32_t> sequence(count);
    block.barrier = {count, 0, 0};
    block.warps.assign((count + 31) / 32, Warp());
    for (uint32_t w = 0; w < block.warps.size(); w++) block.warps[w].barrier.expected = std::min(32u, count - 32 * w);
    block.shared.reset((unsigned char *)aligned_alloc(1024, (c.dynamicSmemBytes + 1023) / 1024 * 1024 + 1024));
    memset(block.shared.get(), FILL, c.dynamicSmemBytes);
#if defined(__SANITIZE_ADDRESS__)
    __asan_poison_memory_region(block.shared.get() + c.dynamicSmemBytes, 128);
#endif
    for (uint32_t i = 0; i < count; i++) {
        start_thread(threads[i], i);
        const uint32_t place = (uint32_t)(shuffled() % (i + 1));
        sequence[i] = sequence[place];
        sequence[place] = i;
    }
    for (uint32_t left = count; left > 0;) {
        bool moved = false;
        for (uint32_t i : sequence) {
            Thread &t = threads[i];
            if (t.done || (t.waits != nullptr && t.waits->generation == t.generation)) continue;
            resume(t);
            moved = true;
            left -= t.done;
        }
        if (!moved) broken("deadlock: threads wait at a barrier that others do not reach");
    }
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(block.shared.get() + c.dynamicSmemBytes, 128);
#endif
}

void emulation::run_grid(const cudaLaunchConfig_t &c, const std::function<void()> &kernel)
{
    if (threads.empty()) threads.resize(THREADS_MAX);
    running = &kernel;
    const uint64_t all = (uint64_t)c.gridDim.x * c.gridDim.y, from = shuffled() % all;
    for (uint64_t i = 0; i < all; i++) {
        const uint64_t b = (from + i) % all;
        run_block(dim3((uint32_t)(b % c.gridDim.x), (uint32_t)(b / c.gridDim.x)), c);
    }
}

/* ---- what threads do together ---------------------------------------------------------------------------- */

unsigned char *emulation::shared_memory() { return block.shared.get(); }
void emulation::block_barrier() { wait_at(block.barrier); }

/* Puts down this lane's value and gives all lanes', (32, SLOT_BYTES). */
static const unsigned char (*exchange(const void *value, size_t size))[SLOT_BYTES]
{
    Warp &w = block.warps[self->warp];
    unsigned char (*slots)[SLOT_BYTES] = w.slots[self->turn++ % 2];
    memcpy(slots[self->lane], value, size);
    wait_at(w.barrier);
    return slots;
}

float emulation::shuffle_xor(float x, int mask)
{
    float y;
    memcpy(&y, exchange(&x, sizeof x)[self->lane ^ (uint32_t)mask], sizeof y);
    return y;
}

static float half_of(uint32_t word, uint32_t i) { return __uint_as_float(word >> 16 * i << 16); }

/* Products are exact in float64, their sum nearly; one rounding. */
void emulation::tensor_multiply(float d[4], const uint4 &a, const uint2 &b)
{
    struct { uint4 a; uint2 b; } mine = {a, b};
    const unsigned char (*all)[SLOT_BYTES] = exchange(&mine, sizeof mine);
    for (uint32_t v = 0; v < 4; v++) {
        const uint32_t output = self->lane / 4, row = self->lane % 4 * 2 + v % 2;
        double sum = 0;
        for (uint32_t q = 0; q < 4; q++) {
            uint4 left;
            uint2 right;
            memcpy(&left, all[output * 4 + q], sizeof left);
            memcpy(&right, all[row * 4 + q] + offsetof(decltype(mine), b), sizeof right);
            const uint32_t low = v < 2 ? left.x : left.y, high = v < 2 ? left.z : left.w;
            for (uint32_t i = 0; i < 2; i++)
                sum += (double)half_of(low, i) * (double)half_of(right.x, i) +
                       (double)half_of(high, i) * (double)half_of(right.y, i);
        }
        d[v] = (float)((double)d[v] + sum);
    }
}

/* The four 16-bit values of a row that a lane of tensor_multiply has, out of swizzled memory: address bits 4-6 are xored
 * with bits 7-9. */
static uint2 swizzled(const unsigned char *x, uint32_t row, uint32_t step, uint32_t quarter)
{
    uint32_t words[2];
    for (uint32_t half = 0; half < 2; half++) {
        size_t at = (size_t)x + row / 8 * 1024 + row % 8 * 128 + step * 32 + half * 16 + quarter * 4;
        at ^= (at >> 7 & 7) << 4;
        memcpy(&words[half], (const void *)at, sizeof words[half]);
    }
    return make_uint2(words[0], words[1]);
}

/* Each warp's 16 outputs by themselves, with tensor_multiply's arithmetic. */
void emulation::group_multiply(float (&d)[16][4], const uint4 (&a)[4], const unsigned char *x)
{
    if ((size_t)x % 1024 != 0) broken("wgmma's operand is not aligned to 1024 bytes");
    for (uint32_t s = 0; s < 4; s++)
        for (uint32_t j = 0; j < 16; j++)
            emulation::tensor_multiply(d[j], a[s], swizzled(x, j * 8 + self->lane / 4, s, self->lane % 4));
}

uint4 emulation::load_blocks(const void *row)
{
    if ((size_t)row % 16 != 0) broken("ldmatrix from an address that is not a multiple of 16");
    const unsigned char (*all)[SLOT_BYTES] = exchange(&row, sizeof row);
    uint32_t r[4];
    for (uint32_t i = 0; i < 4; i++) {
        const unsigned char *from;
        memcpy(&from, all[8 * i + self->lane / 4], sizeof from);
        memcpy(&r[i], from + self->lane % 4 * 4, sizeof r[i]);
    }
    return uint4{r[0], r[1], r[2], r[3]};
}

void emulation::copy_16(void *shared, const void *global)
{
    if (((size_t)shared | (size_t)global) % 16 != 0) broken("an asynchronous copy that is not aligned to 16 bytes");
    self->groups.back().push_back({shared, global});
}

void emulation::copy_commit() { self->groups.push_back({}); }

void emulation::copy_wait(uint32_t left)
{
    while (self->groups.size() - 1 > left) {
        for (const Copy &c : self->groups.front()) memcpy(c.to, c.from, 16);
        self->groups.erase(self->groups.begin());
    }
}

bf16 bf16_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (std::isnan(x)) return bf16{0x7fff};
    return bf16{(uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

/* ---- the runtime ----------------------------------------------------------------------------------------- */

struct emulated_graph { std::vector<std::function<void()>> work; };
struct emulated_stream { emulated_graph *capturing; };

static int machine_devices = 1, machine_driver = 13000, machine_capability = 90;
static size_t memory_left = (size_t)1 << 40;
static int64_t fault_after = -1;
static bool faulted;
static std::map<void *, size_t> allocated;
static uint64_t freed_unwiped;
static std::map<const void *, size_t> shared_allowances;

void emulated_machine(int devices, int driver, int capability)
{
    machine_devices = devices;
    machine_driver = driver;
    machine_capability = capability;
}
void emulated_memory(size_t bytes) { memory_left = bytes; }
void emulated_fault(int64_t after)
{
    fault_after = after;
    faulted = false;
}
void emulated_order(uint64_t seed) { order = seed; }
uint64_t emulated_launches(void) { return launches; }
uint64_t emulated_freed_unwiped(void) { return freed_unwiped; }

uint64_t emulated_contents(void)
{
    uint64_t sum = 0;
    for (const auto &a : allocated) {
        uint64_t hash = 0xcbf29ce484222325u;
        for (size_t i = 0; i < a.second; i++) hash = (hash ^ ((const unsigned char *)a.first)[i]) * 0x100000001b3u;
        sum += hash;
    }
    return sum;
}

const char *cudaGetErrorString(cudaError_t r)
{
    return r == cudaErrorMemoryAllocation ? "out of memory"
           : r == cudaErrorNoDevice       ? "no CUDA-capable device is detected"
           : r == cudaErrorLaunchFailure  ? "unspecified launch failure"
                                          : "invalid argument";
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *out) { *out = machine_driver; return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int *out)
{
    *out = machine_devices;
    return machine_devices == 0 ? cudaErrorNoDevice : cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int *out, cudaDeviceAttr attribute, int)
{
    *out = attribute == cudaDevAttrComputeCapabilityMajor ? machine_capability / 10 : machine_capability % 10;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **out, size_t size)
{
    if (faulted) return cudaErrorLaunchFailure;
    if (size > memory_left) return cudaErrorMemoryAllocation;
    memory_left -= size;
    if (posix_memalign(out, 256, size) != 0) return cudaErrorMemoryAllocation;
    memset(*out, FILL, size);
    allocated[*out] = size;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    const auto a = allocated.find(p);
    if (p == nullptr) return cudaSuccess;
    if (a == allocated.end()) broken("freed what was never allocated");
    for (size_t i = 0; i < a->second; i++) freed_unwiped += ((const unsigned char *)p)[i] != 0;
    memory_left += a->second;
    allocated.erase(a);
    free(p);
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void **out, size_t size) { return cudaMalloc(out, size); }
cudaError_t cudaFreeHost(void *p) { return cudaFree(p); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned) { *out = new emulated_stream(); return cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t s) { delete s; return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    if (s->capturing != nullptr) broken("a wait while a graph is captured");
    return faulted ? cudaErrorLaunchFailure : cudaSuccess;
}

cudaError_t emulation::submit(cudaStream_t s, const std::function<void()> &work)
{
    if (faulted) return cudaErrorLaunchFailure;
    if (s->capturing != nullptr) {
        s->capturing->work.push_back(work);
        return cudaSuccess;
    }
    launches++;
    if (fault_after >= 0 && fault_after-- == 0) {
        faulted = true;                    /* as on a device: it is the next wait that tells */
        return cudaSuccess;
    }
    work();
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind, cudaStream_t s)
{
    return emulation::submit(s, [=] { memcpy(to, from, size); });
}
cudaError_t cudaMemsetAsync(void *to, int value, size_t size, cudaStream_t s)
{
    return emulation::submit(s, [=] { memset(to, value, size); });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode)
{
    s->capturing = new emulated_graph();
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *out)
{
    *out = s->capturing;
    s->capturing = nullptr;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long)
{
    *out = new emulated_graph(*graph);
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t s)
{
    for (const std::function<void()> &work : graph->work) {
        const cudaError_t r = emulation::submit(s, work);
        if (r != cudaSuccess) return r;
    }
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { delete graph; return cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { delete graph; return cudaSuccess; }

cudaError_t emulation::allow_shared(const void *kernel, size_t size)
{
    if (size > SHARED_MOST) return cudaErrorInvalidValue;
    shared_allowances[kernel] = size;
    return cudaSuccess;
}

bool emulation::shared_allowed(const void *kernel, size_t size)
{
    const auto a = shared_allowances.find(kernel);
    return size <= SHARED_PLAIN || (a != shared_allowances.end() && size <= a->second);
}
