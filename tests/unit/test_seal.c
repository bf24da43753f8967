/* seal: authenticated encryption, size classes, derivation, hashes, signatures. */
#include "seal.h"
#include "test.h"

static uint8_t key[KEY_BYTES];

static void sealed_values_open_again(void)
{
    uint8_t plain[5000];
    for (size_t i = 0; i < sizeof plain; i++) plain[i] = (uint8_t)(i * 7);
    for (size_t n = 0; n <= sizeof plain; n += n < 200 ? 1 : 97) {
        buf sealed, opened;
        buf_init(&sealed, 1 << 16);
        buf_init(&opened, n);                         /* the padding does not count */
        CHECK_OK(seal_value(key, bytes_str("ad"), bytes_of(plain, n), &sealed));
        CHECK(sealed.size == 24 + seal_padded_size(n) + 16);
        CHECK_OK(seal_open(key, bytes_str("ad"), buf_bytes(&sealed), &opened));
        CHECK(bytes_equal(buf_bytes(&opened), bytes_of(plain, n)));
        buf_free(&sealed);
        buf_free(&opened);
    }
}

static void every_change_is_noticed(void)
{
    buf sealed, out;
    buf_init(&sealed, 4096);
    buf_init(&out, 4096);
    CHECK_OK(seal_value(key, bytes_str("tenant/doc/1"), bytes_str("hello"), &sealed));
    for (size_t i = 0; i < sealed.size; i++) {
        sealed.data[i] ^= 0x40;
        CHECK_FAILS(seal_open(key, bytes_str("tenant/doc/1"), buf_bytes(&sealed), &out),
                    E_DATA_LOSS);
        sealed.data[i] ^= 0x40;
    }
    for (size_t n = 0; n < sealed.size; n++)
        CHECK_FAILS(seal_open(key, bytes_str("tenant/doc/1"), bytes_of(sealed.data, n), &out),
                    E_DATA_LOSS);
    CHECK_FAILS(seal_open(key, bytes_str("tenant/doc/2"), buf_bytes(&sealed), &out), E_DATA_LOSS);
    CHECK_FAILS(seal_open(key, bytes_str(""), buf_bytes(&sealed), &out), E_DATA_LOSS);
    uint8_t other[KEY_BYTES];
    memcpy(other, key, sizeof other);
    other[31] ^= 1;
    CHECK_FAILS(seal_open(other, bytes_str("tenant/doc/1"), buf_bytes(&sealed), &out), E_DATA_LOSS);
    CHECK(out.size == 0);
    CHECK_OK(seal_open(key, bytes_str("tenant/doc/1"), buf_bytes(&sealed), &out));
    CHECK(bytes_equal(buf_bytes(&out), bytes_str("hello")));
    buf_append_u8(&sealed, 0);
    CHECK_FAILS(seal_open(key, bytes_str("tenant/doc/1"), buf_bytes(&sealed), &out), E_DATA_LOSS);
    buf_free(&sealed);
    buf_free(&out);
}

static void limits_hold(void)
{
    buf small, out;
    buf_init(&small, 24 + 64 + 15);                   /* one short */
    CHECK_FAILS(seal_value(key, bytes_str(""), bytes_str("x"), &small), E_EXHAUSTED);
    CHECK(small.size == 0);
    buf_init(&small, 24 + 64 + 16);
    CHECK_OK(seal_value(key, bytes_str(""), bytes_str("four"), &small));
    buf_init(&out, 3);
    CHECK_FAILS(seal_open(key, bytes_str(""), buf_bytes(&small), &out), E_EXHAUSTED);
    buf_free(&small);
    buf_free(&out);
}

static void two_seals_differ(void)
{
    buf a, b;
    buf_init(&a, 1000);
    buf_init(&b, 1000);
    CHECK_OK(seal_value(key, bytes_str(""), bytes_str("same"), &a));
    CHECK_OK(seal_value(key, bytes_str(""), bytes_str("same"), &b));
    CHECK(a.size == b.size && memcmp(a.data, b.data, a.size) != 0);
    CHECK(memmem(a.data, a.size, "same", 4) == NULL);
    buf_free(&a);
    buf_free(&b);
}

static void size_classes(void)
{
    static const struct { size_t plain, padded; } want[] = {
        {0, 64}, {60, 64}, {61, 128}, {1020, 1024}, {1021, 1152}, {1148, 1152}, {1149, 1280},
        {2044, 2048}, {2045, 2304}, {4092, 4096}, {4093, 4608}, {(1 << 20) - 4, 1 << 20},
        {(1 << 20) - 3, (1 << 20) + (1 << 17)},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        CHECK(seal_padded_size(want[i].plain) == want[i].padded);
    size_t last = 0, classes = 0;
    for (size_t n = 0; n < 100000; n++) {
        size_t padded = seal_padded_size(n);
        NEED(padded >= n + 4 && padded >= last && seal_padded_size(padded - 4) == padded);
        NEED(n <= 1020 || padded - n - 4 < (n + 4) / 8 + 1);
        classes += padded != last;
        last = padded;
    }
    CHECK(classes < 90);
}

static void derived_keys_are_independent(void)
{
    uint8_t a[KEY_BYTES], b[KEY_BYTES], c[KEY_BYTES], d[KEY_BYTES];
    key_derive(key, "chunk", bytes_str("salt"), a);
    key_derive(key, "chunk", bytes_str("salt"), b);
    CHECK(memcmp(a, b, KEY_BYTES) == 0);
    key_derive(key, "chunk", bytes_str("other"), c);
    key_derive(key, "header", bytes_str("salt"), d);
    CHECK(memcmp(a, c, KEY_BYTES) != 0 && memcmp(a, d, KEY_BYTES) != 0);
    CHECK(memcmp(c, d, KEY_BYTES) != 0);
    /* the word ends: "ab" + "c" is not "a" + "bc" */
    hash_keyed(key, "ab", bytes_str("c"), a);
    hash_keyed(key, "a", bytes_str("bc"), b);
    CHECK(memcmp(a, b, KEY_BYTES) != 0);
    hash_plain("ab", bytes_str("c"), c);
    CHECK(memcmp(a, c, KEY_BYTES) != 0);
}

/* From Python: hashlib.blake2b(b"w\0data", digest_size=32[, key=bytes(range(32))]).hexdigest() */
static void hashes_are_blake2b(void)
{
    static const char plain[] = "d722742b94ac4872d9a873bb6ddfbf7da97120ca23cb931bb52a5b36d85a07d1";
    static const char keyed[] = "3ab216d2a462e21420453654fcb4e7fa8687db830e85b5c8f3f8ea0d016048b7";
    uint8_t k[KEY_BYTES], out[HASH_BYTES];
    char text[65];
    for (uint8_t i = 0; i < KEY_BYTES; i++) k[i] = i;
    hash_plain("w", bytes_str("data"), out);
    hex_encode(out, HASH_BYTES, text);
    CHECK(strcmp(text, plain) == 0);
    hash_keyed(k, "w", bytes_str("data"), out);
    hex_encode(out, HASH_BYTES, text);
    CHECK(strcmp(text, keyed) == 0);
    key_derive(k, "w", bytes_str("data"), out);
    hex_encode(out, HASH_BYTES, text);
    CHECK(strcmp(text, keyed) == 0);
}

static void signatures_bind_key_and_message(void)
{
    uint8_t public_key[SIGN_PUBLIC_BYTES], secret[SIGN_SECRET_BYTES], signature[SIGN_BYTES];
    uint8_t other_public[SIGN_PUBLIC_BYTES], other_secret[SIGN_SECRET_BYTES];
    sign_keypair(public_key, secret);
    sign_keypair(other_public, other_secret);
    sign_detached(secret, bytes_str("message"), signature);
    CHECK(sign_verify(public_key, bytes_str("message"), signature));
    CHECK(!sign_verify(public_key, bytes_str("massage"), signature));
    CHECK(!sign_verify(public_key, bytes_str(""), signature));
    CHECK(!sign_verify(other_public, bytes_str("message"), signature));
    for (size_t i = 0; i < SIGN_BYTES; i++) {
        signature[i] ^= 1;
        CHECK(!sign_verify(public_key, bytes_str("message"), signature));
        signature[i] ^= 1;
    }
}

int main(void)
{
    random_bytes(key, sizeof key);
    RUN(sealed_values_open_again);
    RUN(every_change_is_noticed);
    RUN(limits_hold);
    RUN(two_seals_differ);
    RUN(size_classes);
    RUN(derived_keys_are_independent);
    RUN(hashes_are_blake2b);
    RUN(signatures_bind_key_and_message);
    return DONE();
}
