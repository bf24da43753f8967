/* One device: memory, weights, states, and passes. kernels.h says what a pass computes; here it is put together.
 *
 * Workspace and host staging are zeros outside of passes: a pass wipes what it used, and pads are never written. A step of
 * many sequences is a graph for each class of 1, 2, 4 ... 128 rows, captured when it is first needed; which sequences
 * and how many are data (Segments). */
#include "kernels.h"

extern "C" {
#include "mutant.h"
}

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <new>
#include <utility>
#include <vector>

enum { GRAPHS = 8, ALIGN = 256, DRIVER_LEAST = 13000 };
static const size_t STAGING_BYTES = (size_t)16 << 20;

struct Layer {
    Matrix matrix[CUDA_MATRICES];
    float *vector[CUDA_VECTORS];
};

/* What a pass of some rows has in the workspace. */
struct Rows {
    float *hidden, *dt, *bc;
    unsigned char *normed, *in, *u, *params;
    size_t size;
};

struct cuda_engine {
    int device;
    bool faulted, graphed, overlap, grouped;                   /* grouped: products by wgmma */
    char name[32];
    pthread_mutex_t lock;
    cudaStream_t stream;
    cuda_shape shape;
    cuda_widths widths;
    std::vector<Layer> layers;             /* [layers + 1]; the last: embeddings, head, norm */
    std::vector<void *> memory;            /* every allocation on the device */
    std::vector<std::pair<float *, size_t>> pinned;            /* what callers have of cuda_pinned_open; floats */
    uint64_t weight_bytes;
    unsigned char *workspace;
    size_t workspace_size;
    float *logits;                         /* (CUDA_STEPS_MAX, vocab) */
    Segments *segments;
    uint32_t *tokens;
    unsigned char *staging;                /* pinned, STAGING_BYTES: everything between host and device goes through it */
    cudaGraphExec_t graphs[GRAPHS];
};

/* ---- errors ---------------------------------------------------------------------------------------------- */

static thread_local char why[512] = "";

const char *cuda_why(void) { return why; }

static cuda_error told(cuda_error code, const char *what, const char *hint)
{
    snprintf(why, sizeof why, "%s%s%s", what, hint[0] != 0 ? ": " : "", hint);
    return code;
}

/* An error outside of memory is a fault for good: CUDA gives the context up. */
static cuda_error check(cuda_engine *e, cudaError_t r, const char *what)
{
    if (r == cudaSuccess) return CUDA_FINE;
    (void)cudaGetLastError();
    if (r == cudaErrorMemoryAllocation) {
        snprintf(why, sizeof why, "the GPU has too little memory left %s; free some, or take a smaller model", what);
        return CUDA_MEMORY;
    }
    e->faulted = true;
    snprintf(why, sizeof why, "the GPU failed %s (%s): restart, and look at dmesg and nvidia-smi", what,
             cudaGetErrorString(r));
    return CUDA_FAULT;
}

#define CUDA_TRY(expr) do { cuda_error try_e_ = (expr); if (try_e_ != CUDA_FINE) return try_e_; } while (0)

/* Holds the engine, whose device becomes the thread's. */
struct Held {
    cuda_engine *e;
    explicit Held(cuda_engine *engine) : e(engine)
    {
        pthread_mutex_lock(&e->lock);
        (void)cudaSetDevice(e->device);
    }
    ~Held() { pthread_mutex_unlock(&e->lock); }
    cuda_error state() const
    {
        return e->faulted ? told(CUDA_FAULT, "the GPU has failed before", "restart, and look at dmesg and nvidia-smi")
                          : CUDA_FINE;
    }
};

/* ---- opening --------------------------------------------------------------------------------------------- */

static cuda_error find_device(uint32_t device)
{
    int driver = 0, count = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
        return told(CUDA_ABSENT, "there is no NVIDIA driver on this machine", "install one, or choose the backend cpu");
    if (driver < DRIVER_LEAST) {
        snprintf(why, sizeof why, "the NVIDIA driver is for CUDA %d.%d, and 13.0 is needed: update it (580 or later)",
                 driver / 1000, driver % 1000 / 10);
        return CUDA_ABSENT;
    }
    const cudaError_t r = cudaGetDeviceCount(&count);
    if (r != cudaSuccess || count == 0)
        return told(CUDA_ABSENT, "no usable GPU was found", r == cudaSuccess ? "" : cudaGetErrorString(r));
    if (device >= (uint32_t)count) {
        snprintf(why, sizeof why, "there is no GPU %u: there are %d, counted from 0", device, count);
        return CUDA_ABSENT;
    }
    return CUDA_FINE;
}

/* That a row's bits do not depend on the batch rests on this. */
static cuda_error look_at_arithmetic(cuda_engine *e)
{
    Agreement a = {};
    CUDA_TRY(check(e, product_probe(e->stream, e->grouped, &a), "in a trial"));
    if (!a.same)
        return told(CUDA_ABSENT, "this GPU's tensor cores do not give the same bits for every shape of product",
                    "choose the backend cpu");
    e->grouped = a.group;
    return CUDA_FINE;
}

static cuda_error look_at_device(cuda_engine *e)
{
    int major = 0, minor = 0;
    cudaError_t r = cudaSetDevice(e->device);
    if (r == cudaSuccess) r = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, e->device);
    if (r == cudaSuccess) r = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, e->device);
    if (r != cudaSuccess) return told(CUDA_ABSENT, "the GPU cannot be used", cudaGetErrorString(r));
    if (major < 8) {
        snprintf(why, sizeof why, "the GPU is of compute capability %d.%d, and 8.0 is the least", major, minor);
        return CUDA_ABSENT;
    }
    snprintf(e->name, sizeof e->name, "cuda sm_%d%d", major, minor);
    e->overlap = e->overlap && major == 9;
    e->grouped = e->grouped && major == 9;
    CUDA_TRY(check(e, cudaStreamCreateWithFlags(&e->stream, cudaStreamNonBlocking), "making a stream"));
    CUDA_TRY(check(e, cudaMallocHost((void **)&e->staging, STAGING_BYTES), "for pinned memory"));
    return look_at_arithmetic(e);
}

cuda_error cuda_open(cuda_engine **out, uint32_t device, const char *without)
{
    *out = NULL;
    CUDA_TRY(find_device(device));
    cuda_engine *e = new (std::nothrow) cuda_engine();
    if (e == NULL) return told(CUDA_MEMORY, "the machine has no memory left", "");
    e->device = (int)device;
    e->graphed = strstr(without, "graphs") == NULL;
    e->overlap = strstr(without, "overlap") == NULL;
    e->grouped = strstr(without, "wgmma") == NULL;
    pthread_mutex_init(&e->lock, NULL);
    cuda_error r = look_at_device(e);
    if (r == CUDA_FINE) {
        memset(e->staging, 0, STAGING_BYTES);
        *out = e;
    } else {
        cuda_close(&e);
    }
    return r;
}

void cuda_close(cuda_engine **ep)
{
    cuda_engine *e = *ep;
    if (e == NULL) return;
    {
        Held held(e);
        for (int i = 0; i < GRAPHS; i++)
            if (e->graphs[i] != NULL) (void)cudaGraphExecDestroy(e->graphs[i]);
        for (void *p : e->memory) (void)cudaFree(p);
        if (e->staging != NULL) (void)cudaFreeHost(e->staging);
        if (e->stream != NULL) (void)cudaStreamDestroy(e->stream);
    }
    pthread_mutex_destroy(&e->lock);
    delete e;
    *ep = NULL;
}

const char *cuda_name(const cuda_engine *e) { return e->name; }
uint64_t cuda_weight_bytes(const cuda_engine *e) { return e->weight_bytes; }
bool cuda_graphed(const cuda_engine *e) { return e->graphed; }

/* ---- memory ---------------------------------------------------------------------------------------------- */

/* Zeros on the device, which cuda_close frees. */
static cuda_error keep(cuda_engine *e, void **out, size_t size, const char *what)
{
    *out = NULL;
    CUDA_TRY(check(e, cudaMalloc(out, size), what));
    e->memory.push_back(*out);
    return check(e, cudaMemsetAsync(*out, 0, size, e->stream), what);
}

static size_t aligned(size_t size) { return (size + ALIGN - 1) / ALIGN * ALIGN; }

static Rows rows_of(const cuda_engine *e, uint32_t rows)
{
    const cuda_shape *s = &e->shape;
    const cuda_widths *w = &e->widths;
    const size_t value = s->f32 ? sizeof(float) : sizeof(bf16);
    unsigned char *at = e->workspace;
    Rows r = {};
    r.hidden = (float *)at;
    at += aligned(sizeof(float) * rows * layout_width(s->d_model));
    r.dt = (float *)at;
    at += aligned(sizeof(float) * rows * w->dt);
    r.bc = (float *)at;
    at += aligned(sizeof(float) * rows * w->bc);
    r.normed = at;
    at += aligned(value * rows * layout_width(s->d_model));
    r.in = at;
    at += aligned(value * rows * w->in);
    r.u = at;
    at += aligned(value * rows * layout_width(s->d_inner));
    r.params = at;
    at += aligned(value * rows * w->bc_at);
    r.size = (size_t)(at - e->workspace);
    return r;
}

cuda_widths cuda_widths_of(const cuda_shape *s)
{
    cuda_widths w = {};
    w.channels = s->d_inner + 2 * s->groups * s->d_state;
    w.z_at = layout_width(w.channels);
    w.dt_at = w.z_at + layout_width(s->d_inner);
    w.dt = layout_width(s->mamba2 ? s->heads : s->d_inner);
    w.in = s->mamba2 ? w.dt_at + w.dt : w.dt_at;
    w.states = scan_states(s->mamba2, s->d_state);
    w.bc = layout_width(2 * (s->mamba2 ? s->groups : 1) * w.states);
    w.bc_at = s->mamba2 ? 0 : layout_width(s->dt_rank);
    w.params = w.bc_at + w.bc;
    return w;
}

cuda_error cuda_prepare(cuda_engine *e, const cuda_shape *s)
{
    Held held(e);
    e->shape = *s;
    e->widths = cuda_widths_of(s);
    e->layers.assign(s->layers + 1, Layer());
    e->workspace_size = rows_of(e, CUDA_ROWS_MAX).size;
    CUDA_TRY(keep(e, (void **)&e->workspace, e->workspace_size, "for passes"));
    CUDA_TRY(keep(e, (void **)&e->logits, sizeof(float) * CUDA_STEPS_MAX * s->vocab, "for passes"));
    CUDA_TRY(keep(e, (void **)&e->segments, aligned(sizeof(Segments)) + sizeof(uint32_t) * CUDA_ROWS_MAX, "for passes"));
    e->tokens = (uint32_t *)((unsigned char *)e->segments + aligned(sizeof(Segments)));
    return check(e, cudaStreamSynchronize(e->stream), "clearing memory");
}

/* size bytes to the device, by way of the staging memory, which is wiped. */
static cuda_error upload(cuda_engine *e, void *to, const void *from, size_t size)
{
    for (size_t at = 0; at < size; at += STAGING_BYTES) {
        const size_t n = size - at < STAGING_BYTES ? size - at : STAGING_BYTES;
        memcpy(e->staging, (const unsigned char *)from + at, n);
        cudaError_t r = cudaMemcpyAsync((unsigned char *)to + at, e->staging, n, cudaMemcpyHostToDevice, e->stream);
        if (r == cudaSuccess) r = cudaStreamSynchronize(e->stream);
        memset(e->staging, 0, n);
        CUDA_TRY(check(e, r, "copying to it"));
    }
    return CUDA_FINE;
}

static cuda_error download(cuda_engine *e, void *to, const void *from, size_t size)
{
    for (size_t at = 0; at < size; at += STAGING_BYTES) {
        const size_t n = size - at < STAGING_BYTES ? size - at : STAGING_BYTES;
        cudaError_t r =
            cudaMemcpyAsync(e->staging, (const unsigned char *)from + at, n, cudaMemcpyDeviceToHost, e->stream);
        if (r == cudaSuccess) r = cudaStreamSynchronize(e->stream);
        if (r == cudaSuccess) memcpy((unsigned char *)to + at, e->staging, n);
        memset(e->staging, 0, n);
        CUDA_TRY(check(e, r, "copying from it"));
    }
    return CUDA_FINE;
}

/* ---- weights --------------------------------------------------------------------------------------------- */

static cuda_error keep_weights(cuda_engine *e, void **out, const void *from, size_t size)
{
    CUDA_TRY(keep(e, out, size, "for the weights"));
    e->weight_bytes += size;
    return from == NULL ? CUDA_FINE : upload(e, *out, from, size);
}

cuda_error cuda_set_matrix(cuda_engine *e, uint32_t layer, cuda_matrix which, const void *packed, uint32_t out,
                           uint32_t in, const float *bias)
{
    Held held(e);
    CUDA_TRY(held.state());
    const size_t outputs = layout_pad(out, LAYOUT_OUTPUTS), inputs = layout_width(in);
    void *w = NULL, *b = NULL;
    CUDA_TRY(keep_weights(e, &w, packed, outputs * inputs * (e->shape.f32 ? sizeof(float) : sizeof(bf16))));
    CUDA_TRY(keep_weights(e, &b, bias, outputs * sizeof(float)));
    const Matrix m = {w, (const float *)b, out, (uint32_t)inputs};
    e->layers[layer].matrix[which] = m;
    return CUDA_FINE;
}

cuda_error cuda_set_vector(cuda_engine *e, uint32_t layer, cuda_vector which, const float *values, size_t count)
{
    Held held(e);
    CUDA_TRY(held.state());
    return keep_weights(e, (void **)&e->layers[layer].vector[which], values, count * sizeof(float));
}

/* ---- a pass ---------------------------------------------------------------------------------------------- */

struct Pass {
    cuda_engine *e;
    Launcher *l;
    Rows r;
    uint32_t rows, segments;
};

static void multiply(const Pass &p, const Matrix &w, const void *x, uint32_t x_stride, const Output &y)
{
    product(*p.l, product_shape(p.e->shape.f32, p.e->grouped, p.rows), w, x, x_stride, p.rows, y,
            MUTANT(cuda_blocks_depend_on_batch));
}

static Conv conv_of(const Pass &p, uint32_t layer)
{
    const cuda_shape &s = p.e->shape;
    const cuda_widths &w = p.e->widths;
    Conv c = {};
    c.x = p.r.in;
    c.x_stride = w.in;
    c.channels = w.channels;
    c.d_inner = s.d_inner;
    c.d_conv = s.d_conv;
    c.d_state = s.d_state;
    c.states_padded = w.states;
    c.w = p.e->layers[layer].vector[CUDA_CONV_W];
    c.b = p.e->layers[layer].vector[CUDA_CONV_B];
    c.w_stride = w.z_at;
    c.state_at = layer * s.layer_floats;
    c.u = p.r.u;
    c.u_stride = layout_width(s.d_inner);
    c.bc = p.r.bc;
    c.bc_stride = w.bc;
    return c;
}

static Scan scan_of(const Pass &p, uint32_t layer)
{
    const cuda_shape &s = p.e->shape;
    Scan c = {};
    c.conv = conv_of(p, layer);
    c.z = p.r.in + (s.f32 ? sizeof(float) : sizeof(bf16)) * p.e->widths.z_at;
    c.z_stride = p.e->widths.in;
    c.dt = p.r.dt;
    c.dt_stride = p.e->widths.dt;
    c.a = p.e->layers[layer].vector[CUDA_A];
    c.d = p.e->layers[layer].vector[CUDA_D];
    c.a_stride = layout_width(s.d_inner);
    c.heads = s.mamba2 ? s.heads : 0;
    c.head_dim = s.head_dim;
    c.groups = s.groups;
    c.dt_min = s.dt_min;
    c.dt_max = s.dt_max;
    return c;
}

/* hidden += mixer(norm(hidden)). */
static void run_layer(const Pass &p, uint32_t index)
{
    const cuda_shape &s = p.e->shape;
    const cuda_widths &w = p.e->widths;
    const Layer &y = p.e->layers[index];
    const uint32_t narrow = layout_width(s.d_model), wide = layout_width(s.d_inner);
    const Output in = {STORE, p.r.in, w.in, w.dt_at, p.r.dt, w.dt},
                 params = {STORE, p.r.params, w.bc_at, w.bc_at, p.r.bc, w.bc};
    const Output step = {SOFTPLUS, NULL, 0, 0, p.r.dt, w.dt}, out = {ADD, NULL, 0, 0, p.r.hidden, narrow};
    const Norm first = {p.r.hidden, true, narrow, s.d_model, 1, y.vector[CUDA_NORM], s.epsilon, p.r.normed, narrow};
    norm(*p.l, s.f32, p.e->segments, first, p.rows);
    multiply(p, y.matrix[CUDA_IN], p.r.normed, narrow, in);
    conv(*p.l, s.f32, p.e->segments, conv_of(p, index), p.rows);
    if (!s.mamba2) {
        multiply(p, y.matrix[CUDA_PARAMS], p.r.u, wide, params);
        multiply(p, y.matrix[CUDA_STEP], p.r.params, w.bc_at, step);
    }
    scan(*p.l, s.f32, p.e->segments, scan_of(p, index), p.segments);
    if (s.mamba2) {                        /* into the convolution's inputs, which are needed no more */
        const Norm gated = {p.r.u, false, wide, s.d_inner / s.groups, s.groups, y.vector[CUDA_GATED_NORM], s.epsilon,
                            p.r.in, w.in};
        norm(*p.l, s.f32, p.e->segments, gated, p.rows);
        multiply(p, y.matrix[CUDA_OUT], p.r.in, w.in, out);
    } else {
        multiply(p, y.matrix[CUDA_OUT], p.r.u, wide, out);
    }
}

/* Everything from tokens to logits, and the wiping of the workspace. */
static void run_pass(Pass p, uint32_t first_logit)
{
    const cuda_shape &s = p.e->shape;
    const Layer &last = p.e->layers[s.layers];
    const uint32_t narrow = layout_width(s.d_model);
    const bool overlap = p.l->overlap;
    p.l->overlap = false;                  /* what comes before is not a kernel */
    embed(*p.l, s.f32, p.e->segments, last.matrix[CUDA_IN], p.e->tokens, p.rows, s.d_model, p.r.hidden, narrow);
    p.l->overlap = overlap;
    for (uint32_t i = 0; i < s.layers; i++) run_layer(p, i);
    if (first_logit < p.rows) {
        const uint32_t rows = p.rows - first_logit;
        const float *hidden = p.r.hidden + (size_t)first_logit * narrow;
        const Norm final = {hidden, true, narrow, s.d_model, 1, last.vector[CUDA_NORM], s.epsilon, p.r.normed, narrow};
        const Output logits = {STORE, NULL, 0, 0, p.e->logits, s.vocab};
        norm(*p.l, s.f32, p.e->segments, final, rows);
        p.rows = rows;
        multiply(p, last.matrix[last.matrix[CUDA_OUT].w != NULL ? CUDA_OUT : CUDA_IN], p.r.normed, narrow, logits);
    }
    if (p.l->error == cudaSuccess && !MUTANT(cuda_workspace_kept))
        p.l->error = cudaMemsetAsync(p.e->workspace, 0, p.r.size, p.l->stream);
}

/* ---- graphs ---------------------------------------------------------------------------------------------- */

static cudaError_t capture(cuda_engine *e, uint32_t rows, cudaGraphExec_t *out)
{
    cudaGraph_t graph = NULL;
    Launcher l = {e->stream, e->overlap, cudaSuccess};
    const Pass p = {e, &l, rows_of(e, rows), rows, rows};
    cudaError_t r = cudaStreamBeginCapture(e->stream, cudaStreamCaptureModeRelaxed);
    if (r != cudaSuccess) return r;
    run_pass(p, 0);
    r = cudaStreamEndCapture(e->stream, &graph);
    if (l.error != cudaSuccess) r = l.error;
    if (r == cudaSuccess) r = cudaGraphInstantiate(out, graph, 0);
    if (graph != NULL) (void)cudaGraphDestroy(graph);
    return r;
}

static bool is_pinned(const cuda_engine *e, const float *p, size_t count)
{
    for (const auto &range : e->pinned)
        if (p >= range.first && p + count <= range.first + range.second) return true;
    return false;
}

static cudaError_t launch_pass(cuda_engine *e, uint32_t rows, uint32_t segments, uint32_t first_logit)
{
    Launcher l = {e->stream, e->overlap, cudaSuccess};
    const Pass p = {e, &l, rows_of(e, rows), rows, segments};
    run_pass(p, first_logit);
    return l.error;
}

/* One row of each of so many sequences. The rows up to the class's are computed of zeros, and go nowhere. The first step of a
 * class is launched as it is, so that its kernels are loaded when they are captured. */
static cudaError_t run_step(cuda_engine *e, uint32_t rows)
{
    uint32_t index = 0;
    while (1u << index < rows) index++;
    if (e->graphs[index] != NULL) return cudaGraphLaunch(e->graphs[index], e->stream);
    const cudaError_t r = launch_pass(e, 1u << index, 1u << index, 0);
    if (r == cudaSuccess && capture(e, 1u << index, &e->graphs[index]) != cudaSuccess) {
        (void)cudaGetLastError();
        e->graphed = false;                /* slower, and cuda_graphed tells */
    }
    return r;
}

/* ---- forward --------------------------------------------------------------------------------------------- */

/* The table of segments and the tokens, in the staging memory; its size. */
static size_t stage_pass(cuda_engine *e, float *const *states, const uint32_t *rows, size_t segments,
                         const uint32_t *tokens)
{
    Segments *s = (Segments *)e->staging;
    s->count = (uint32_t)segments;
    for (size_t i = 0; i < segments; i++) {
        s->row[i] = s->rows;
        s->length[i] = rows[i];
        s->state[i] = states[i];
        s->rows += rows[i];
    }
    memcpy(e->staging + aligned(sizeof(Segments)), tokens, sizeof(uint32_t) * s->rows);
    return aligned(sizeof(Segments)) + sizeof(uint32_t) * s->rows;
}

static cudaError_t run(cuda_engine *e, uint32_t rows, uint32_t segments, uint32_t first_logit)
{
    if (e->graphed && rows == segments && first_logit == 0) return run_step(e, rows);
    return launch_pass(e, rows, segments, first_logit);
}

/* Those of so many rows, and of the rows that a graph has beyond them. */
static cudaError_t wipe_logits(cuda_engine *e, size_t rows)
{
    size_t used = 1;
    while (used < rows) used *= 2;
    return cudaMemsetAsync(e->logits, 0, sizeof(float) * used * e->shape.vocab, e->stream);
}

cuda_error cuda_forward(cuda_engine *e, float *const *states, const uint32_t *rows, size_t segments,
                        const uint32_t *tokens, size_t first_logit, float *logits)
{
    Held held(e);
    CUDA_TRY(held.state());
    const size_t size = stage_pass(e, states, rows, segments, tokens);
    const uint32_t all = ((const Segments *)e->staging)->rows;
    const size_t logit_bytes = first_logit < all ? sizeof(float) * (all - first_logit) * e->shape.vocab : 0;
    const bool straight = logit_bytes > 0 && is_pinned(e, logits, logit_bytes / sizeof(float));
    cudaError_t r = cudaMemcpyAsync(e->segments, e->staging, size, cudaMemcpyHostToDevice, e->stream);
    if (r == cudaSuccess) r = run(e, all, (uint32_t)segments, (uint32_t)first_logit);
    if (r == cudaSuccess) r = cudaMemsetAsync(e->segments, 0, size, e->stream);
    if (r == cudaSuccess && straight)
        r = cudaMemcpyAsync(logits, e->logits, logit_bytes, cudaMemcpyDeviceToHost, e->stream);
    if (r == cudaSuccess && straight) r = wipe_logits(e, all - first_logit);
    if (r == cudaSuccess) r = cudaStreamSynchronize(e->stream);
    memset(e->staging, 0, size);
    CUDA_TRY(check(e, r, "in a pass"));
    if (logit_bytes == 0 || straight) return CUDA_FINE;
    CUDA_TRY(download(e, logits, e->logits, logit_bytes));
    r = wipe_logits(e, all - first_logit);
    if (r == cudaSuccess) r = cudaStreamSynchronize(e->stream);
    return check(e, r, "wiping logits");
}

/* ---- pinned memory --------------------------------------------------------------------------------------- */

cuda_error cuda_pinned_open(cuda_engine *e, float **out, size_t count)
{
    Held held(e);
    *out = NULL;
    CUDA_TRY(held.state());
    CUDA_TRY(check(e, cudaMallocHost((void **)out, count * sizeof(float)), "for pinned memory"));
    memset(*out, 0, count * sizeof(float));
    e->pinned.push_back({*out, count});
    return CUDA_FINE;
}

void cuda_pinned_close(cuda_engine *e, float *pinned, size_t count)
{
    Held held(e);
    memset(pinned, 0, count * sizeof(float));
    for (size_t i = 0; i < e->pinned.size(); i++)
        if (e->pinned[i].first == pinned) {
            e->pinned.erase(e->pinned.begin() + (ptrdiff_t)i);
            break;
        }
    (void)cudaFreeHost(pinned);
}

/* ---- states ---------------------------------------------------------------------------------------------- */

static size_t state_bytes(const cuda_engine *e) { return sizeof(float) * e->shape.layers * e->shape.layer_floats; }

cuda_error cuda_state_open(cuda_engine *e, float **state)
{
    Held held(e);
    *state = NULL;
    CUDA_TRY(held.state());
    CUDA_TRY(check(e, cudaMalloc((void **)state, state_bytes(e)), "for another sequence"));
    cudaError_t r = cudaMemsetAsync(*state, 0, state_bytes(e), e->stream);
    if (r == cudaSuccess) r = cudaStreamSynchronize(e->stream);
    return check(e, r, "clearing memory");
}

static cudaError_t wipe(cuda_engine *e, float *state)
{
    const cudaError_t r = cudaMemsetAsync(state, 0, state_bytes(e), e->stream);
    return r == cudaSuccess ? cudaStreamSynchronize(e->stream) : r;
}

void cuda_state_close(cuda_engine *e, float *state)
{
    Held held(e);
    if (!e->faulted && !MUTANT(cuda_state_kept)) (void)check(e, wipe(e, state), "wiping a state");
    (void)cudaFree(state);
}

cuda_error cuda_state_wipe(cuda_engine *e, float *state)
{
    Held held(e);
    CUDA_TRY(held.state());
    return check(e, wipe(e, state), "wiping a state");
}

cuda_error cuda_state_read(cuda_engine *e, const float *state, void *out, size_t at, size_t size)
{
    Held held(e);
    CUDA_TRY(held.state());
    return download(e, out, (const unsigned char *)state + at, size);
}

cuda_error cuda_state_write(cuda_engine *e, float *state, const void *from, size_t at, size_t size)
{
    Held held(e);
    CUDA_TRY(held.state());
    return upload(e, (unsigned char *)state + at, from, size);
}

/* ---- residue --------------------------------------------------------------------------------------------- */

static uint64_t nonzero(const unsigned char *p, size_t size)
{
    uint64_t count = 0;
    for (size_t i = 0; i < size; i++) count += p[i] != 0;
    return count;
}

cuda_error cuda_residue(cuda_engine *e, uint64_t *out)
{
    Held held(e);
    CUDA_TRY(held.state());
    const void *parts[] = {e->workspace, e->logits, e->segments};
    const size_t sizes[] = {e->workspace_size, sizeof(float) * CUDA_STEPS_MAX * e->shape.vocab,
                            aligned(sizeof(Segments)) + sizeof(uint32_t) * CUDA_ROWS_MAX};
    std::vector<unsigned char> copy;
    *out = nonzero(e->staging, STAGING_BYTES);
    for (int i = 0; i < 3; i++) {
        copy.resize(sizes[i]);
        CUDA_TRY(download(e, copy.data(), parts[i], sizes[i]));
        *out += nonzero(copy.data(), sizes[i]);
    }
    return CUDA_FINE;
}
