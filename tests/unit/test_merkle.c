/* The Merkle tree against RFC 6962's definition written down plainly, and against known values. */
#include "server/merkle.h"

#include "test.h"

#include <sodium.h>

enum { SIZES = 130 };
static merkle_hash leaves[SIZES];

static merkle_hash join(merkle_hash a, merkle_hash b)
{
    uint8_t both[65] = {1};
    merkle_hash out;
    memcpy(both + 1, a.b, 32);
    memcpy(both + 33, b.b, 32);
    crypto_hash_sha256(out.b, both, sizeof both);
    return out;
}

static size_t half(size_t n)
{
    size_t k = 1;
    while (2 * k < n) k *= 2;
    return k;
}

static merkle_hash plain(const merkle_hash *d, size_t n)
{
    if (n == 1) return d[0];
    return join(plain(d, half(n)), plain(d + half(n), n - half(n)));
}

static bool same(merkle_hash a, merkle_hash b) { return memcmp(a.b, b.b, 32) == 0; }

static void hex_is(merkle_hash h, const char *want)
{
    char text[65];
    hex_encode(h.b, 32, text);
    CHECK(strcmp(text, want) == 0);
}

/* The eight inputs and roots that the reference implementations of Certificate Transparency test with. */
static void known_values(void)
{
    static const struct { const char *data; size_t size; } inputs[8] = {
        {"", 0}, {"\x00", 1}, {"\x10", 1}, {"\x20\x21", 2}, {"\x30\x31", 2}, {"\x40\x41\x42\x43", 4},
        {"\x50\x51\x52\x53\x54\x55\x56\x57", 8},
        {"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f", 16}};
    static const char *const roots[] = {
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"};
    merkle t = {0};
    for (size_t n = 0;; n++) {
        hex_is(merkle_root(&t, n), roots[n]);
        if (n == 8) break;
        merkle_append(&t, merkle_leaf(bytes_of(inputs[n].data, inputs[n].size)));
    }
    merkle_free(&t);
}

static void fill(merkle *t)
{
    *t = (merkle){0};
    for (size_t i = 0; i < SIZES; i++) {
        leaves[i] = merkle_leaf(bytes_of(&i, sizeof i));
        merkle_append(t, leaves[i]);
    }
}

static void inclusion_of_all(void)
{
    merkle t;
    merkle_hash path[MERKLE_PATH_MAX];
    int good = 0, bad = 0, wanted = 0;
    fill(&t);
    for (size_t n = 1; n <= SIZES; n++) {
        merkle_hash root = merkle_root(&t, n);
        CHECK(same(root, plain(leaves, n)));
        for (size_t i = 0; i < n; i++, wanted++) {
            size_t count = merkle_inclusion(&t, i, n, path);
            good += merkle_inclusion_verify(leaves[i], i, n, path, count, root);
            bad += merkle_inclusion_verify(leaves[i], (i + 1) % n, n, path, count, root) && n > 1;
            bad += merkle_inclusion_verify(leaves[(i + 1) % SIZES], i, n, path, count, root);
            bad += count > 0 && merkle_inclusion_verify(leaves[i], i, n, path, count - 1, root);
            if (count > 0) {
                path[i % count].b[i % 32] ^= 1;
                bad += merkle_inclusion_verify(leaves[i], i, n, path, count, root);
            }
        }
    }
    CHECK(good == wanted && bad == 0);
    merkle_free(&t);
}

static void consistency_of_all(void)
{
    merkle t;
    merkle_hash path[MERKLE_PATH_MAX];
    int good = 0, bad = 0, wanted = 0;
    fill(&t);
    for (size_t n = 1; n <= SIZES; n++) {
        for (size_t m = 1; m <= n; m++, wanted++) {
            merkle_hash old = merkle_root(&t, m), now = merkle_root(&t, n), other = old;
            size_t count = merkle_consistency(&t, m, n, path);
            good += merkle_consistency_verify(m, n, old, now, path, count);
            other.b[m % 32] ^= 4;
            bad += merkle_consistency_verify(m, n, other, now, path, count);
            bad += merkle_consistency_verify(m, n, old, other, path, count);
            bad += m > 1 && merkle_consistency_verify(m - 1, n, old, now, path, count);
            bad += count > 0 && merkle_consistency_verify(m, n, old, now, path, count - 1);
            if (count > 0) {
                path[m % count].b[n % 32] ^= 1;
                bad += merkle_consistency_verify(m, n, old, now, path, count);
            }
        }
    }
    CHECK(good == wanted && bad == 0);
    merkle_free(&t);
}

int main(void)
{
    RUN(known_values);
    RUN(inclusion_of_all);
    RUN(consistency_of_all);
    return DONE();
}
