#include "seal.h"

#include "internal.h"
#include "mutant.h"

#include <sodium.h>
#include <string.h>

enum { NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
       TAG = crypto_aead_xchacha20poly1305_ietf_ABYTES, PREFIX = 4,
       STACK_BYTES = 8192, HASH_STACK_BYTES = 4096 };
/* STACK_BYTES: what libsodium leaves of a key below us, and the dynamic linker, which saves the vector registers
 * there when it binds a function on its first call. */
_Static_assert(NONCE == 24 && TAG == 16, "the sealed layout on disk");
_Static_assert(KEY_BYTES == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "key size");
_Static_assert(SIGN_SECRET_BYTES == crypto_sign_SECRETKEYBYTES, "secret key size");
_Static_assert(SIGN_PUBLIC_BYTES == crypto_sign_PUBLICKEYBYTES, "public key size");
_Static_assert(SIGN_BYTES == crypto_sign_BYTES, "signature size");

/* The broken variant stack_unwiped: what is left of a key below us depends on the machine's registers and libraries, so
 * it leaves a copy as some do. Different keys leave it at different places. */
#ifdef LETHE_MUTANTS
static __attribute__((noinline)) void stack_stain(const uint8_t key[KEY_BYTES])
{
    uint8_t room[4 * STACK_BYTES];         /* deeper than what is called later reaches */
    if (!MUTANT(stack_unwiped)) return;
    memcpy(room + key[0] % 64 * (size_t)64, key, KEY_BYTES);
    __asm__ volatile("" : : "r"(room) : "memory");
}
#else
static void stack_stain(const uint8_t key[KEY_BYTES]) { (void)key; }
#endif

size_t seal_padded_size(size_t plain_size)
{
    ASSERT(plain_size <= SIZE_MAX / 4);
    size_t n = plain_size + PREFIX, step = 64;
    if (n > 1024) {
        size_t power = 1024;
        while (power <= n / 2) power *= 2;
        step = power / 8;
    }
    return (n + step - 1) / step * step;
}

result seal_value(const uint8_t key[KEY_BYTES], bytes associated, bytes plain, buf *out)
{
    sodium_ready();
    if (plain.size > UINT32_MAX) return fail(E_INVALID, "a sealed value holds at most 4 GiB");
    size_t padded = seal_padded_size(plain.size);
    uint8_t *at = buf_extend(out, NONCE + padded + TAG);
    if (at == NULL) return buf_check(out);
    uint8_t *body = at + NONCE;
    randombytes_buf(at, NONCE);
    for (size_t i = 0; i < PREFIX; i++) body[i] = (uint8_t)(plain.size >> (8 * i));
    if (plain.size > 0) memcpy(body + PREFIX, plain.data, plain.size);
    unsigned long long wrote = 0;
    int rc = crypto_aead_xchacha20poly1305_ietf_encrypt(body, &wrote, body, padded, associated.data,
                                                        associated.size, NULL, at, key);
    stack_stain(key);
    stack_wipe(STACK_BYTES);
    ASSERT(rc == 0 && wrote == padded + TAG);
    return OK;
}

/* padded: length(4) || plain || zeros. Authentic bytes of another shape are still refused. */
static result unpad(const uint8_t *padded, size_t size, buf *out)
{
    reader r = reader_of(bytes_of(padded, size));
    size_t n = reader_u32(&r);
    if (seal_padded_size(n) != size) return fail(E_DATA_LOSS, "a sealed value has the wrong size");
    const uint8_t *plain = reader_take(&r, n);
    ASSERT(plain != NULL);
    for (size_t i = PREFIX + n; i < size; i++)
        if (padded[i] != 0) return fail(E_DATA_LOSS, "a sealed value has wrong padding");
    buf_append(out, plain, n);
    return buf_check(out);
}

result seal_open(const uint8_t key[KEY_BYTES], bytes associated, bytes sealed, buf *out)
{
    sodium_ready();
    if (sealed.size < NONCE + seal_padded_size(0) + TAG)
        return fail(E_DATA_LOSS, "a sealed value is too short");
    size_t size = sealed.size - NONCE - TAG;
    uint8_t *padded = mem_alloc(size);
    unsigned long long wrote = 0;
    result r;
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(padded, &wrote, NULL, sealed.data + NONCE,
                                                   size + TAG, associated.data, associated.size,
                                                   sealed.data, key) != 0)
        r = fail(E_DATA_LOSS, "a sealed value does not authenticate");
    else r = unpad(padded, (size_t)wrote, out);
    stack_stain(key);
    stack_wipe(STACK_BYTES);
    mem_wipe(padded, size);
    mem_free(padded);
    return r;
}

static void hash(const uint8_t *key, const char *word, bytes data, uint8_t out[HASH_BYTES])
{
    crypto_generichash_state state;
    sodium_ready();
    int rc = crypto_generichash_init(&state, key, key != NULL ? KEY_BYTES : 0, HASH_BYTES);
    rc |= crypto_generichash_update(&state, (const uint8_t *)word, strlen(word) + 1);
    if (data.size > 0) rc |= crypto_generichash_update(&state, data.data, data.size);
    rc |= crypto_generichash_final(&state, out, HASH_BYTES);
    mem_wipe(&state, sizeof state);
    if (key != NULL) {
        stack_stain(key);
        stack_wipe(HASH_STACK_BYTES);
    }
    ASSERT(rc == 0);
}

void key_derive(const uint8_t key[KEY_BYTES], const char *context, bytes salt,
                uint8_t subkey[KEY_BYTES])
{
    hash(key, context, salt, subkey);
}

void hash_keyed(const uint8_t key[KEY_BYTES], const char *domain, bytes data,
                uint8_t out[HASH_BYTES])
{
    hash(key, domain, data, out);
}

void hash_plain(const char *domain, bytes data, uint8_t out[HASH_BYTES])
{
    hash(NULL, domain, data, out);
}

void sign_keypair(uint8_t public_key[SIGN_PUBLIC_BYTES], uint8_t secret_key[SIGN_SECRET_BYTES])
{
    sodium_ready();
    int rc = crypto_sign_keypair(public_key, secret_key);
    stack_wipe(STACK_BYTES);
    ASSERT(rc == 0);
}

void sign_detached(const uint8_t secret_key[SIGN_SECRET_BYTES], bytes message,
                   uint8_t signature[SIGN_BYTES])
{
    sodium_ready();
    int rc = crypto_sign_detached(signature, NULL, message.data, message.size, secret_key);
    stack_wipe(STACK_BYTES);
    ASSERT(rc == 0);
}

bool sign_verify(const uint8_t public_key[SIGN_PUBLIC_BYTES], bytes message,
                 const uint8_t signature[SIGN_BYTES])
{
    sodium_ready();
    return crypto_sign_verify_detached(signature, message.data, message.size, public_key) == 0;
}
