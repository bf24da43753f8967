/* Receipts: whatever byte is changed, the verdict is "not valid". */
#include "server/receipt.h"

#include "test.h"

static uint8_t public_key[SIGN_PUBLIC_BYTES], secret_key[SIGN_SECRET_BYTES];

static void make(buf *out)
{
    receipt_fields v = {.kind = "user", .items = 0, .epoch = 7, .time_ms = 1700000000123,
                        .assurance = "file"};
    strcpy(v.id, "00112233445566778899aabbccddeeff");
    strcpy(v.tenant, "ffeeddccbbaa99887766554433221100");
    receipt_commit("ab", "user:bob", v.commitment);
    memset(v.subtree_before, 5, HASH_BYTES);
    buf_init(out, 65536);
    CHECK_OK(receipt_sign(&v, public_key, secret_key, out));
}

static void valid_and_trusted(void)
{
    buf text;
    receipt_verdict verdict;
    uint8_t other[SIGN_PUBLIC_BYTES] = {1};
    make(&text);
    receipt_verify(buf_bytes(&text), public_key, &verdict);
    CHECK(verdict.valid && verdict.trusted && verdict.reason[0] == 0);
    receipt_verify(buf_bytes(&text), NULL, &verdict);
    CHECK(verdict.valid && !verdict.trusted && strlen(verdict.signer) == 64);
    receipt_verify(buf_bytes(&text), other, &verdict);
    CHECK(verdict.valid && !verdict.trusted && verdict.reason[0] != 0);
    buf_append_u8(&text, '\n');
    receipt_verify(buf_bytes(&text), public_key, &verdict);
    CHECK(verdict.valid && verdict.trusted);
    buf_append_u8(&text, '\n');
    receipt_verify(buf_bytes(&text), public_key, &verdict);
    CHECK(!verdict.valid);
    buf_free(&text);
}

/* Every byte, every bit, and every byte taken out or doubled. */
static void every_change_is_seen(void)
{
    buf text;
    make(&text);
    size_t n = text.size;
    uint8_t *copy = mem_alloc(n + 1);
    receipt_verdict verdict;
    int accepted = 0;
    for (size_t i = 0; i < n; i++) {
        for (int bit = 0; bit < 8; bit++) {
            memcpy(copy, text.data, n);
            copy[i] ^= (uint8_t)(1 << bit);
            receipt_verify(bytes_of(copy, n), public_key, &verdict);
            accepted += verdict.valid && verdict.trusted;
        }
        memcpy(copy, text.data, i);
        memcpy(copy + i, text.data + i + 1, n - i - 1);
        receipt_verify(bytes_of(copy, n - 1), public_key, &verdict);
        accepted += verdict.valid;
        memcpy(copy, text.data, i + 1);
        memcpy(copy + i + 1, text.data + i, n - i);
        receipt_verify(bytes_of(copy, n + 1), public_key, &verdict);
        accepted += verdict.valid;
    }
    CHECK(accepted == 0);
    mem_free(copy);
    buf_free(&text);
}

static void another_spelling_is_refused(void)
{
    buf text, other;
    receipt_verdict verdict;
    make(&text);
    buf_init(&other, 65536);
    buf_append(&other, text.data, 1);
    buf_append_str(&other, " ");
    buf_append(&other, text.data + 1, text.size - 1);
    receipt_verify(buf_bytes(&other), public_key, &verdict);
    CHECK(!verdict.valid);
    buf_clear(&other);
    buf_append(&other, text.data, text.size - 1);
    buf_append_str(&other, ",\"z\":1}");
    receipt_verify(buf_bytes(&other), public_key, &verdict);
    CHECK(!verdict.valid);
    buf_free(&other);
    buf_free(&text);
}

static void nonsense_has_a_verdict(void)
{
    static const char *const texts[] = {"", "\n", "{", "{}", "[]", "null", "{\"type\":\"lethe.receipt.1\"}",
        "{\"signature\":\"00\",\"signer\":\"00\",\"type\":\"lethe.receipt.1\"}", "\xff\xfe"};
    receipt_verdict verdict;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        receipt_verify(bytes_str(texts[i]), public_key, &verdict);
        CHECK(!verdict.valid && !verdict.trusted && verdict.reason[0] != 0);
    }
}

static void commitment_opens(void)
{
    uint8_t a[HASH_BYTES], b[HASH_BYTES], c[HASH_BYTES];
    receipt_commit("aa", "user:bob", a);
    receipt_commit("aa", "user:bob", b);
    receipt_commit("ab", "user:bob", c);
    CHECK(memcmp(a, b, HASH_BYTES) == 0 && memcmp(a, c, HASH_BYTES) != 0);
}

int main(void)
{
    sign_keypair(public_key, secret_key);
    RUN(valid_and_trusted);
    RUN(every_change_is_seen);
    RUN(another_spelling_is_refused);
    RUN(nonsense_has_a_verdict);
    RUN(commitment_opens);
    return DONE();
}
