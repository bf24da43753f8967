// FAISS from C. See faiss_adapter.h.
//
// The scan: a row's inner product is summed in 64 lanes (lane j takes the elements i = j mod 64,
// multiply then add, no fused operation), and the lanes are folded 64 -> 16 -> 8 -> 4 -> 2 -> 1 in
// one fixed tree. The AVX2 and the portable path do the same additions in the same order, so
// a score does not depend on the machine. Debian's FAISS is an SSE build that adds in one register
// and stays at a fifth of the memory bandwidth; with independent sums in registers the memory is
// the limit: 95 % of the widest plain read on a Zen 4 core (2026-11). Lost there: AVX-512 registers
// (82 %), software prefetch at any distance from 0.5 to 32 KiB (75-90 %), several rows at a time or
// several streams (35-80 %).
// Bytes: rows x dimensions x 4, read once. Measured by tests/bench/bench_scan.
//
// A scan of some rows gathers them over the same memory. The next rows are known but not in sequence, so that
// there prefetching pays (tests/bench/bench_probe).
#include "faiss_adapter.h"

#include <faiss/IndexFlat.h>
#include <faiss/impl/FaissException.h>
#include <faiss/impl/IDSelector.h>

#include <cmath>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>
#include <sys/mman.h>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

extern "C" void mem_wipe(void *p, size_t size);

// The sums must live in registers; gcc 12 at -O2 keeps an array in memory unless told to unroll.
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

namespace {

constexpr size_t LANES = 64;
constexpr size_t AHEAD = 8;                // rows between the one that is read and the one that is fetched
constexpr size_t HUGE_PAGE_BYTES = size_t(2) << 20;

struct Scan {
    const float *rows;
    const float *query;          // padded with zeros to a multiple of LANES
    size_t dimensions;
    size_t blocks;               // whole blocks of LANES
    size_t tail;                 // elements behind them
    const uint32_t *picked;      // the rows to scan, ascending; null: all of them
    const float *row(size_t r) const { return rows + r * dimensions; }
};

// The best k so far as a heap whose root is the worst; rows come in ascending order, so an equal
// score never displaces an earlier row. Scores below the floor are left out.
struct Best {
    float *score;
    faiss::Index::idx_t *row;
    size_t k;
    float floor;
    size_t count = 0;

    static bool worse(float sa, faiss::Index::idx_t ra, float sb, faiss::Index::idx_t rb)
    {
        return sa < sb || (sa == sb && ra > rb);
    }
    void sift_down(size_t n)
    {
        size_t at = 0;
        for (;;) {
            size_t child = 2 * at + 1;
            if (child >= n) return;
            if (child + 1 < n && worse(score[child + 1], row[child + 1], score[child], row[child]))
                child++;
            if (!worse(score[child], row[child], score[at], row[at])) return;
            std::swap(score[at], score[child]);
            std::swap(row[at], row[child]);
            at = child;
        }
    }
    void put_slow(float s, size_t r)
    {
        if (count == k) {
            score[0] = s;
            row[0] = (faiss::Index::idx_t)r;
            sift_down(k);
            return;
        }
        size_t at = count++;
        score[at] = s;
        row[at] = (faiss::Index::idx_t)r;
        while (at > 0) {
            size_t up = (at - 1) / 2;
            if (!worse(score[at], row[at], score[up], row[up])) break;
            std::swap(score[at], score[up]);
            std::swap(row[at], row[up]);
            at = up;
        }
    }
    void put(float s, size_t r)
    {
        if (count < k ? s >= floor : s > score[0]) put_slow(s, r);
    }
    // Heap sort: repeatedly moves the worst to the end, which leaves the best first.
    void finish()
    {
        for (size_t n = count; n > 1; n--) {
            std::swap(score[0], score[n - 1]);
            std::swap(row[0], row[n - 1]);
            sift_down(n - 1);
        }
        for (size_t i = count; i < k; i++) {
            score[i] = -3.402823466e38f;
            row[i] = -1;
        }
    }
};

// ---- portable -----------------------------------------------------------------------------------

void block_portable(float *lanes, const float *x, const float *q)
{
    for (size_t j = 0; j < LANES; j++) lanes[j] += x[j] * q[j];
}

float fold_portable(const float *lanes)
{
    float s[16];
    for (size_t j = 0; j < 16; j++)
        s[j] = (lanes[j] + lanes[j + 16]) + (lanes[j + 32] + lanes[j + 48]);
    for (size_t width = 8; width > 0; width /= 2)
        for (size_t j = 0; j < width; j++) s[j] += s[j + width];
    return s[0];
}

// Both of any length: what is behind the last whole block counts as zeros.
float dot_portable(const float *x, const float *y, size_t dimensions)
{
    float lanes[LANES] = {0};
    size_t at = 0;
    for (; at + LANES <= dimensions; at += LANES) block_portable(lanes, x + at, y + at);
    if (at < dimensions) {
        float last_x[LANES] = {0}, last_y[LANES] = {0};
        std::memcpy(last_x, x + at, (dimensions - at) * sizeof(float));
        std::memcpy(last_y, y + at, (dimensions - at) * sizeof(float));
        block_portable(lanes, last_x, last_y);
    }
    return fold_portable(lanes);
}

void scan_portable(const Scan &s, size_t count, Best &best)
{
    for (size_t i = 0; i < count; i++) {
        size_t r = s.picked ? s.picked[i] : i;
        best.put(dot_portable(s.row(r), s.query, s.dimensions), r);
    }
}

// ---- x86 ----------------------------------------------------------------------------------------
#if defined(__x86_64__)

__attribute__((target("avx2"))) inline __m128 fold8(__m256 v)
{
    __m128 f = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    f = _mm_add_ps(f, _mm_movehl_ps(f, f));
    return _mm_add_ss(f, _mm_shuffle_ps(f, f, 1));
}

__attribute__((target("avx2"))) inline void block_avx2(__m256 a[8], const float *x, const float *q)
{
    UNROLL
    for (int j = 0; j < 8; j++)
        a[j] = _mm256_add_ps(a[j], _mm256_mul_ps(_mm256_loadu_ps(x + 8 * j),
                                                 _mm256_loadu_ps(q + 8 * j)));
}

__attribute__((target("avx2"), always_inline)) inline float dot_avx2(const Scan &s, const float *x)
{
    __m256 a[8];
    UNROLL
    for (int j = 0; j < 8; j++) a[j] = _mm256_setzero_ps();
    for (size_t b = 0; b < s.blocks; b++) block_avx2(a, x + b * LANES, s.query + b * LANES);
    if (s.tail) {
        float last[LANES] = {0};
        std::memcpy(last, x + s.blocks * LANES, s.tail * sizeof(float));
        block_avx2(a, last, s.query + s.blocks * LANES);
    }
    __m256 lo = _mm256_add_ps(_mm256_add_ps(a[0], a[2]), _mm256_add_ps(a[4], a[6]));
    __m256 hi = _mm256_add_ps(_mm256_add_ps(a[1], a[3]), _mm256_add_ps(a[5], a[7]));
    return _mm_cvtss_f32(fold8(_mm256_add_ps(lo, hi)));
}

__attribute__((target("avx2"))) void scan_avx2(const Scan &s, size_t count, Best &best)
{
    for (size_t r = 0; s.picked == nullptr && r < count; r++) best.put(dot_avx2(s, s.row(r)), r);
    for (size_t i = 0; s.picked != nullptr && i < count; i++) {
        if (i + AHEAD < count) {
            const char *next = (const char *)s.row(s.picked[i + AHEAD]);
            for (size_t at = 0; at < s.dimensions * sizeof(float); at += 64) _mm_prefetch(next + at, _MM_HINT_T0);
        }
        best.put(dot_avx2(s, s.row(s.picked[i])), s.picked[i]);
    }
}
#endif

// ---- the index class ----------------------------------------------------------------------------

typedef void scan_fn(const Scan &, size_t count, Best &);

scan_fn *scan_pick(lethe_scan_path path)
{
#if defined(__x86_64__)
    if (path != SCAN_PORTABLE && __builtin_cpu_supports("avx2")) return scan_avx2;
#endif
    return path == SCAN_AUTO || path == SCAN_PORTABLE ? scan_portable : nullptr;
}

// Rows in pages of their own: 64-byte aligned, so that no load straddles two cache lines; grown by
// moving page tables, so that no old copy stays behind; wiped before they go.
struct WideFlatIP : faiss::Index {
    scan_fn *scan;
    float *rows = nullptr;
    size_t mapped_bytes = 0;

    WideFlatIP(idx_t dimensions, scan_fn *chosen)
        : faiss::Index(dimensions, faiss::METRIC_INNER_PRODUCT), scan(chosen)
    {
        is_trained = true;
    }
    WideFlatIP(const WideFlatIP &) = delete;
    WideFlatIP &operator=(const WideFlatIP &) = delete;
    ~WideFlatIP() override
    {
        reset();
        if (rows != nullptr) (void)munmap(rows, mapped_bytes);
    }
    size_t row_bytes() const { return (size_t)d * sizeof(float); }

    void add(idx_t n, const float *x) override
    {
        size_t used = (size_t)ntotal * row_bytes(), more = (size_t)n * row_bytes();
        if (more > mapped_bytes - used) grow(used + more);
        std::memcpy((char *)rows + used, x, more);
        ntotal += n;
    }
    void reset() override
    {
        if (rows != nullptr) mem_wipe(rows, (size_t)ntotal * row_bytes());
        ntotal = 0;
    }
    size_t remove_ids(const faiss::IDSelector &sel) override
    {
        idx_t kept = 0;
        for (idx_t i = 0; i < ntotal; i++) {
            if (sel.is_member(i)) continue;
            if (i > kept) std::memmove(rows + kept * d, rows + i * d, row_bytes());
            kept++;
        }
        size_t removed = (size_t)(ntotal - kept);
        if (removed) mem_wipe(rows + kept * d, removed * row_bytes());
        ntotal = kept;
        return removed;
    }
    void reconstruct(idx_t key, float *out) const override
    {
        if (key < 0 || key >= ntotal) throw std::out_of_range("no such row");
        std::memcpy(out, rows + key * d, row_bytes());
    }
    void search(idx_t n, const float *x, idx_t k, float *distances, idx_t *labels,
                const faiss::SearchParameters *params) const override
    {
        if (params != nullptr) throw std::invalid_argument("search parameters are not supported");
        for (idx_t i = 0; i < n && k > 0; i++)
            search_one(x + i * d, nullptr, (size_t)ntotal, -INFINITY, (size_t)k, distances + i * k, labels + i * k);
    }
    void search_one(const float *x, const uint32_t *picked, size_t count, float floor, size_t k, float *distances,
                    idx_t *labels) const
    {
        size_t dimensions = (size_t)d, padded_size = (dimensions + LANES - 1) / LANES * LANES;
        std::vector<float> padded(padded_size + 16, 0.0f);
        float *query = padded.data();
        while ((uintptr_t)query % 64) query++;
        std::memcpy(query, x, row_bytes());
        Scan s = {rows, query, dimensions, dimensions / LANES, dimensions % LANES, picked};
        Best best = {distances, labels, k, floor};
        scan(s, count, best);
        best.finish();
        mem_wipe(padded.data(), padded.size() * sizeof(float));
    }

private:
    // Untouched pages cost address space only, so the size doubles.
    void grow(size_t need)
    {
        size_t size = mapped_bytes ? mapped_bytes : (size_t)1 << 16;
        while (size < need) size *= 2;
        void *p = rows == nullptr
            ? mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
            : mremap(rows, mapped_bytes, size, MREMAP_MAYMOVE);
        if (p == MAP_FAILED) throw std::bad_alloc();
        rows = (float *)p;
        mapped_bytes = size;
        (void)madvise(p, size, MADV_DONTDUMP);
        // Fewer address translations; failing is harmless.
        if (size >= 2 * HUGE_PAGE_BYTES) (void)madvise(p, size, MADV_HUGEPAGE);
    }
};

} // namespace

extern "C" int lethe_faiss_IndexFlatIP_new(FaissIndexFlatIP **out, faiss_idx_t dimensions,
                                           lethe_scan_path path)
{
    try {
        scan_fn *scan = scan_pick(path);
        if (scan == nullptr) return -4;
        *out = reinterpret_cast<FaissIndexFlatIP *>(
            static_cast<faiss::Index *>(new WideFlatIP(dimensions, scan)));
        return 0;
    } catch (...) {
        return -4;
    }
}

extern "C" int lethe_faiss_search_some(const FaissIndexFlatIP *index, const uint32_t *rows, size_t count, float floor,
                                       const float *query, faiss_idx_t k, float *scores, faiss_idx_t *labels)
{
    const WideFlatIP *wide = dynamic_cast<const WideFlatIP *>(reinterpret_cast<const faiss::Index *>(index));
    if (wide == nullptr || k <= 0) return -4;
    try {
        if (rows == nullptr) count = (size_t)wide->ntotal;
        wide->search_one(query, rows, count, floor, (size_t)k, scores, labels);
        return 0;
    } catch (...) {
        return -4;
    }
}

extern "C" float lethe_faiss_dot(const float *x, const float *y, size_t dimensions)
{
    return dot_portable(x, y, dimensions);
}

extern "C" float *lethe_faiss_rows(const FaissIndexFlatIP *index)
{
    const faiss::Index *any = reinterpret_cast<const faiss::Index *>(index);
    if (const WideFlatIP *wide = dynamic_cast<const WideFlatIP *>(any)) return wide->rows;
    return const_cast<float *>(static_cast<const faiss::IndexFlat *>(any)->get_xb());
}

extern "C" void lethe_faiss_wipe(FaissIndexFlatIP *index)
{
    faiss::Index *any = reinterpret_cast<faiss::Index *>(index);
    if (any->ntotal > 0 && dynamic_cast<WideFlatIP *>(any) == nullptr)
        mem_wipe(lethe_faiss_rows(index), (size_t)any->ntotal * (size_t)any->d * sizeof(float));
    any->reset();
}

// ---- FAISS's C API, where the library lacks it --------------------------------------------------
#ifndef LETHE_HAVE_FAISS_C

static faiss::Index *as_index(FaissIndex *index) { return reinterpret_cast<faiss::Index *>(index); }

template <typename F> static int guarded(F body)
{
    try {
        body();
        return 0;
    } catch (const faiss::FaissException &) {
        return -2;
    } catch (const std::exception &) {
        return -4;
    } catch (...) {
        return -1;
    }
}

extern "C" {

int faiss_IndexFlatIP_new_with(FaissIndexFlatIP **out, idx_t d)
{
    return guarded([&] {
        *out = reinterpret_cast<FaissIndexFlatIP *>(
            static_cast<faiss::Index *>(new faiss::IndexFlatIP(d)));
    });
}

void faiss_Index_free(FaissIndex *index) { delete as_index(index); }

idx_t faiss_Index_ntotal(const FaissIndex *index)
{
    return reinterpret_cast<const faiss::Index *>(index)->ntotal;
}

int faiss_Index_add(FaissIndex *index, idx_t n, const float *x)
{
    return guarded([&] { as_index(index)->add(n, x); });
}

int faiss_Index_search(const FaissIndex *index, idx_t n, const float *x, idx_t k, float *distances,
                       idx_t *labels)
{
    return guarded([&] {
        reinterpret_cast<const faiss::Index *>(index)->search(n, x, k, distances, labels, nullptr);
    });
}

int faiss_Index_remove_ids(FaissIndex *index, const FaissIDSelector *sel, size_t *removed)
{
    return guarded([&] {
        *removed = as_index(index)->remove_ids(*reinterpret_cast<const faiss::IDSelector *>(sel));
    });
}

int faiss_IDSelectorRange_new(FaissIDSelectorRange **out, idx_t imin, idx_t imax)
{
    return guarded([&] {
        *out = reinterpret_cast<FaissIDSelectorRange *>(new faiss::IDSelectorRange(imin, imax));
    });
}

void faiss_IDSelector_free(FaissIDSelector *sel)
{
    delete reinterpret_cast<faiss::IDSelector *>(sel);
}

} // extern "C"
#endif
