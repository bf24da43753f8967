/* seal: authenticated encryption and keyed hashing (libsodium). Keys are 32 bytes.
 *
 * A sealed value is nonce(24) || XChaCha20-Poly1305(padded plaintext) with the caller's associated
 * data. The plaintext is prefixed by its length (u32) and zero-padded to a size class, so that the
 * length on disk tells a class only: multiples of 64 up to 1 KiB, then steps of 1/8 of the power of
 * two below. Verify before decrypt; a failed opening is E_DATA_LOSS and yields nothing. */
#ifndef LETHE_SEAL_H
#define LETHE_SEAL_H

#include "base.h"

enum { KEY_BYTES = 32, HASH_BYTES = 32, SIGN_PUBLIC_BYTES = 32, SIGN_SECRET_BYTES = 64,
       SIGN_BYTES = 64 };

MUST_USE result seal_value(const uint8_t key[KEY_BYTES], bytes associated, bytes plain, buf *out);
/* Appends the plaintext to out. */
MUST_USE result seal_open(const uint8_t key[KEY_BYTES], bytes associated, bytes sealed, buf *out);
size_t seal_padded_size(size_t plain_size);              /* size class of 4 + plain_size */

/* subkey = BLAKE2b-256(key, context || 0x00 || salt): derives independent keys; context is a word. */
void key_derive(const uint8_t key[KEY_BYTES], const char *context, bytes salt,
                uint8_t subkey[KEY_BYTES]);
/* Keyed BLAKE2b-256 of the concatenation of a domain word, 0x00, and data. */
void hash_keyed(const uint8_t key[KEY_BYTES], const char *domain, bytes data,
                uint8_t out[HASH_BYTES]);
void hash_plain(const char *domain, bytes data, uint8_t out[HASH_BYTES]);

/* Ed25519. */
void sign_keypair(uint8_t public_key[SIGN_PUBLIC_BYTES], uint8_t secret_key[SIGN_SECRET_BYTES]);
void sign_detached(const uint8_t secret_key[SIGN_SECRET_BYTES], bytes message,
                   uint8_t signature[SIGN_BYTES]);
bool sign_verify(const uint8_t public_key[SIGN_PUBLIC_BYTES], bytes message,
                 const uint8_t signature[SIGN_BYTES]);

#endif
