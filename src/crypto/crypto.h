/* Cryptography: names for what the libraries do (OpenSSL 3 for hashes, AEAD and HKDF, libsodium for
 * curves and passwords, the BLAKE3 crate). Nothing here is an algorithm of our own.
 *
 * Protocol: governance.md 2, network-sync.md 4; traps.md 1 and 3 for the two Ed25519 verdicts and
 * the points refused. Any thread, after cal_crypto_init. Secrets live in cal_secret and are wiped
 * by cal_secret_wipe. */
#ifndef CAL_CRYPTO_H
#define CAL_CRYPTO_H

#include "base/buffer.h"
#include "base/bytes.h"
#include "os/os.h"

enum {
    CAL_HASH_SIZE = 32,
    CAL_KEY_SIZE = 32,
    CAL_SIGNATURE_SIZE = 64,
    CAL_AEAD_NONCE_SIZE = 12,
    CAL_AEAD_TAG_SIZE = 16,
    CAL_SALT_SIZE = 16,
};

/* 32 secret bytes: a symmetric key, an Ed25519 seed or an X25519 secret. */
typedef struct cal_secret {
    uint8_t bytes[CAL_KEY_SIZE];
} cal_secret;

int cal_crypto_init(
    void); /* once per process, idempotent; CAL_EINTERNAL when a library refuses to start */

/* --- hashes --- */
void cal_sha256(cal_slice data, uint8_t ret_hash[CAL_HASH_SIZE]);
void cal_sha256_parts(const cal_slice *parts, size_t count,
                      uint8_t ret_hash[CAL_HASH_SIZE]); /* of the concatenation */
void cal_blake3(cal_slice data, uint8_t ret_hash[CAL_HASH_SIZE]);
void cal_sha1(cal_slice data, uint8_t ret_hash[20]); /* only the WebSocket handshake asks for it */

typedef struct cal_sha256_stream {
    void *state;
} cal_sha256_stream;
int cal_sha256_begin(cal_sha256_stream *stream); /* CAL_ENOMEM */
void cal_sha256_feed(cal_sha256_stream *stream, cal_slice data);
void cal_sha256_end(cal_sha256_stream *stream,
                    uint8_t ret_hash[CAL_HASH_SIZE]); /* also releases; NULL hash: only releases */

/* H(u64le len(domain) || domain || (u64le len(part) || part)*), governance.md 1. */
void cal_domain_hash(const char *domain, const cal_slice *parts, size_t count,
                     uint8_t ret_hash[CAL_HASH_SIZE]);

/* --- signatures (Ed25519) --- */
void cal_sign_public_key(const cal_secret *seed, uint8_t ret_public[32]);
void cal_sign(const cal_secret *seed, cal_slice message, uint8_t ret_signature[CAL_SIGNATURE_SIZE]);
/* The same where the public key is known, which saves deriving it: half of the work. It MUST be the
 * seed's: a signature under a wrong one gives the secret away. */
void cal_sign_as(const cal_secret *seed, const uint8_t public_key[32], cal_slice message,
                 uint8_t ret_signature[CAL_SIGNATURE_SIZE]);
/* Strict: canonical S, no small-order A or R. Governance, accounts, envelopes, proofs, acks. */
bool cal_verify_strict(const uint8_t public_key[32], cal_slice message,
                       const uint8_t signature[CAL_SIGNATURE_SIZE]);
/* Lax: canonical S, cofactorless equation, small-order keys accepted. Bundles, storage actions, the
 * guest. */
bool cal_verify_lax(const uint8_t public_key[32], cal_slice message,
                    const uint8_t signature[CAL_SIGNATURE_SIZE]);
bool cal_public_key_decodes(
    const uint8_t public_key[32]); /* a point of the curve, as ed25519-dalek decompresses */
bool cal_public_key_small_order(const uint8_t public_key[32]);

/* --- agreement; both give the derived AES key. CAL_EVERIFY for a refused point --- */
void cal_agree_public_key(const cal_secret *secret, uint8_t ret_public[32]); /* X25519 */
int cal_agree_edwards(const cal_secret *seed, const uint8_t peer_ed25519[32], cal_secret *ret_key);
int cal_agree_x25519(const cal_secret *secret, const uint8_t peer_x25519[32], cal_secret *ret_key);

/* --- sealing: AES-256-GCM, 16-byte tag appended --- */
int cal_seal(const cal_secret *key, const uint8_t nonce[CAL_AEAD_NONCE_SIZE], cal_slice aad,
             cal_slice plain, cal_buffer *ret_sealed); /* appends; CAL_ELIMIT, CAL_ENOMEM */
int cal_open(
    const cal_secret *key, const uint8_t nonce[CAL_AEAD_NONCE_SIZE], cal_slice aad,
    cal_slice sealed,
    cal_buffer *ret_plain); /* appends; CAL_EVERIFY when the tag does not match, nothing appended */

/* --- derivation --- */
void cal_hkdf(cal_slice key, cal_slice salt, const char *info, cal_secret *ret_key);
int cal_kdf_passphrase(cal_slice passphrase, const uint8_t salt[CAL_SALT_SIZE], uint32_t passes,
                       uint32_t memory_kib, cal_secret *ret_key); /* Argon2id; CAL_ENOMEM */

/* --- channels (Noise): ChaCha20-Poly1305 with a counter as nonce, 16-byte tag appended --- */
typedef struct cal_chacha {
    void *state;
} cal_chacha; /* one key, one direction; one thread at a time */
int cal_chacha_init(cal_chacha *cipher, const cal_secret *key, bool seals); /* CAL_ENOMEM */
void cal_chacha_deinit(cal_chacha *cipher); /* wipes the key; a zeroed one allowed */
/* ret_sealed takes plain.len + CAL_AEAD_TAG_SIZE bytes and may be plain.data. */
int cal_chacha_seal(cal_chacha *cipher, uint64_t counter, cal_slice aad, cal_slice plain,
                    uint8_t *ret_sealed);
/* ret_plain takes sealed.len - CAL_AEAD_TAG_SIZE bytes and may be sealed.data. CAL_EVERIFY: they
 * are zeroed. */
int cal_chacha_open(cal_chacha *cipher, uint64_t counter, cal_slice aad, cal_slice sealed,
                    uint8_t *ret_plain);
int cal_x25519(const cal_secret *secret, const uint8_t peer[32],
               cal_secret *ret_shared); /* raw; CAL_EVERIFY */
void cal_hmac_sha256(cal_slice key, const cal_slice *parts, size_t count,
                     uint8_t ret_hash[CAL_HASH_SIZE]);

/* --- secrets --- */
void cal_secret_wipe(cal_secret *secret);
void cal_wipe(void *bytes, size_t len);
bool cal_equal_secret(const void *a, const void *b, size_t len); /* constant time */

/* Keys, nonces, salts and seeds are drawn from the world they are for, so that a simulated one
 * repeats. There is no other randomness above os/. */
static inline void cal_random(const cal_os *os, void *ret_bytes, size_t len) {
    os->random(os->user, ret_bytes, len);
}
/* For the hash maps of whoever takes keys from peers. */
static inline uint64_t cal_random_seed(const cal_os *os) {
    uint64_t seed;
    cal_random(os, &seed, sizeof seed);
    return seed;
}

#endif
