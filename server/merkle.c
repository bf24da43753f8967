#include "merkle.h"
#include "mutant.h"

#include <sodium.h>
#include <string.h>

static merkle_hash node(const merkle_hash *left, const merkle_hash *right)
{
    uint8_t both[1 + 2 * MERKLE_BYTES] = {1};
    merkle_hash out;
    memcpy(both + 1, left->b, MERKLE_BYTES);
    memcpy(both + 1 + MERKLE_BYTES, right->b, MERKLE_BYTES);
    crypto_hash_sha256(out.b, both, sizeof both);
    return out;
}

merkle_hash merkle_leaf(bytes entry)
{
    crypto_hash_sha256_state state;
    const uint8_t zero = 0;
    merkle_hash out;
    crypto_hash_sha256_init(&state);
    crypto_hash_sha256_update(&state, &zero, 1);
    crypto_hash_sha256_update(&state, entry.data, entry.size);
    crypto_hash_sha256_final(&state, out.b);
    return out;
}

static bool equal(merkle_hash a, merkle_hash b) { return memcmp(a.b, b.b, MERKLE_BYTES) == 0; }

void merkle_free(merkle *t)
{
    for (size_t i = 0; i < MERKLE_LEVELS; i++) mem_free(t->levels[i].at);
    *t = (merkle){0};
}

static void push(merkle *t, size_t level, merkle_hash hash)
{
    ASSERT(level < MERKLE_LEVELS);
    if (t->levels[level].count == t->levels[level].capacity) {
        size_t capacity = t->levels[level].capacity ? 2 * t->levels[level].capacity : 16;
        t->levels[level].at = mem_realloc(t->levels[level].at, capacity * sizeof hash);
        t->levels[level].capacity = capacity;
    }
    t->levels[level].at[t->levels[level].count++] = hash;
}

void merkle_append(merkle *t, merkle_hash leaf)
{
    push(t, 0, leaf);
    t->size++;
    for (size_t level = 0; t->levels[level].count % 2 == 0; level++) {
        size_t n = t->levels[level].count;
        push(t, level + 1, node(&t->levels[level].at[n - 2], &t->levels[level].at[n - 1]));
    }
}

/* The largest power of two below n; n >= 2. */
static uint64_t split(uint64_t n)
{
    uint64_t k = 1;
    while (k * 2 < n) k *= 2;
    return k;
}

/* MTH of leaves [start, start + n). What is complete stands in the levels. */
static merkle_hash range(const merkle *t, uint64_t start, uint64_t n)
{
    size_t level = 0;
    while ((uint64_t)1 << level < n) level++;
    if ((uint64_t)1 << level == n && start % n == 0) return t->levels[level].at[start >> level];
    uint64_t k = split(n);
    merkle_hash left = range(t, start, k), right = range(t, start + k, n - k);
    return node(&left, &right);
}

merkle_hash merkle_root(const merkle *t, uint64_t size)
{
    merkle_hash none;
    ASSERT(size <= t->size);
    if (size > 0) return range(t, 0, size);
    crypto_hash_sha256(none.b, NULL, 0);
    return none;
}

size_t merkle_inclusion(const merkle *t, uint64_t index, uint64_t size, merkle_hash path[MERKLE_PATH_MAX])
{
    ASSERT(index < size && size <= t->size);
    merkle_hash down[MERKLE_PATH_MAX];
    size_t count = 0;
    for (uint64_t start = 0, n = size; n > 1;) {
        uint64_t k = split(n);
        bool left = index - start < k;
        down[count++] = left ? range(t, start + k, n - k) : range(t, start, k);
        if (!left) start += k;
        n = left ? k : n - k;
    }
    for (size_t i = 0; i < count; i++) path[i] = down[count - 1 - i];
    return count;
}

bool merkle_inclusion_verify(merkle_hash leaf, uint64_t index, uint64_t size, const merkle_hash *path,
                             size_t count, merkle_hash root)
{
    if (index >= size) return false;
    uint64_t fn = index, sn = size - 1;
    merkle_hash r = leaf;
    for (size_t i = 0; i < count; i++) {
        if (sn == 0) return false;
        if ((fn & 1) || fn == sn) {
            r = node(&path[i], &r);
            while (!(fn & 1) && fn != 0) fn >>= 1, sn >>= 1;
        } else {
            r = node(&r, &path[i]);
        }
        fn >>= 1;
        sn >>= 1;
    }
    return MUTANT(inclusion_unchecked) || (sn == 0 && equal(r, root));
}

/* SUBPROOF(m, D[start, start + n), whole): whole says that the subtree was the old tree itself. */
static size_t subproof(const merkle *t, uint64_t m, uint64_t start, uint64_t n, bool whole, merkle_hash *path)
{
    if (m == n) {
        if (!whole) path[0] = range(t, start, n);
        return whole ? 0 : 1;
    }
    uint64_t k = split(n);
    size_t count;
    if (m <= k) {
        count = subproof(t, m, start, k, whole, path);
        path[count] = range(t, start + k, n - k);
    } else {
        count = subproof(t, m - k, start + k, n - k, false, path);
        path[count] = range(t, start, k);
    }
    return count + 1;
}

size_t merkle_consistency(const merkle *t, uint64_t first, uint64_t second, merkle_hash path[MERKLE_PATH_MAX])
{
    ASSERT(first > 0 && first <= second && second <= t->size);
    return subproof(t, first, 0, second, true, path);
}

bool merkle_consistency_verify(uint64_t first, uint64_t second, merkle_hash first_root,
                               merkle_hash second_root, const merkle_hash *path, size_t count)
{
    if (first == 0 || first > second) return false;
    if (first == second) return count == 0 && equal(first_root, second_root);
    uint64_t fn = first - 1, sn = second - 1;
    size_t at = 0;
    bool power = (first & (first - 1)) == 0;
    while (fn & 1) fn >>= 1, sn >>= 1;
    if (!power && count == 0) return false;
    merkle_hash fr = power ? first_root : path[at++], sr = fr;
    for (; at < count; at++) {
        if (sn == 0) return false;
        if ((fn & 1) || fn == sn) {
            fr = node(&path[at], &fr);
            sr = node(&path[at], &sr);
            while (!(fn & 1) && fn != 0) fn >>= 1, sn >>= 1;
        } else {
            sr = node(&sr, &path[at]);
        }
        fn >>= 1;
        sn >>= 1;
    }
    return MUTANT(consistency_unchecked) || (sn == 0 && equal(fr, first_root) && equal(sr, second_root));
}
