/* Ed25519. The reference has two verdicts and both are needed (traps.md 1): libsodium gives the
 * strict one, OpenSSL the lax one, and every caller names the one its format asks for. Any thread.
 */
#include <openssl/evp.h>
#include <sodium.h>

#include "crypto/crypto.h"
#include "crypto/internal.h"

static const uint8_t sign_identity_point[32] = {1};

void cal_sign_public_key(const cal_secret *seed, uint8_t ret_public[32]) {
    uint8_t secret[crypto_sign_SECRETKEYBYTES];
    crypto_need_library();
    crypto_sign_seed_keypair(ret_public, secret, seed->bytes);
    sodium_memzero(secret, sizeof secret);
}

void cal_sign(const cal_secret *seed, cal_slice message,
              uint8_t ret_signature[CAL_SIGNATURE_SIZE]) {
    uint8_t public_key[crypto_sign_PUBLICKEYBYTES];
    cal_sign_public_key(seed, public_key);
    cal_sign_as(seed, public_key, message, ret_signature);
}

void cal_sign_as(const cal_secret *seed, const uint8_t public_key[32], cal_slice message,
                 uint8_t ret_signature[CAL_SIGNATURE_SIZE]) {
    uint8_t
        secret[crypto_sign_SECRETKEYBYTES]; /* libsodium's form: the seed, then the public key */
    crypto_need_library();
    memcpy(secret, seed->bytes, sizeof seed->bytes);
    memcpy(secret + sizeof seed->bytes, public_key, 32);
    if (crypto_sign_detached(ret_signature, NULL, message.data, message.len, secret))
        crypto_stop("signing failed");
    sodium_memzero(secret, sizeof secret);
}

bool cal_verify_strict(const uint8_t public_key[32], cal_slice message,
                       const uint8_t signature[CAL_SIGNATURE_SIZE]) {
    crypto_need_library();
    return crypto_sign_verify_detached(signature, message.data, message.len, public_key) == 0;
}

bool cal_verify_lax(const uint8_t public_key[32], cal_slice message,
                    const uint8_t signature[CAL_SIGNATURE_SIZE]) {
    crypto_need_library();
    bool valid = false;
    EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, 32);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (key && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1)
        valid =
            EVP_DigestVerify(ctx, signature, CAL_SIGNATURE_SIZE, message.data, message.len) == 1;
    else
        crypto_stop("no memory to verify a signature"); /* "invalid" would be a wrong verdict */
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    return valid;
}

/* libsodium's addition decodes its operands and checks nothing else: not the order, not that y is
 * canonical. */
bool cal_public_key_decodes(const uint8_t public_key[32]) {
    uint8_t sum[32];
    crypto_need_library();
    return crypto_core_ed25519_add(sum, public_key, sign_identity_point) == 0;
}

bool cal_public_key_small_order(const uint8_t public_key[32]) {
    uint8_t point[32];
    crypto_need_library();
    memcpy(point, public_key, sizeof point);
    for (int i = 0; i < 3; i++) /* 8 times a small-order point is the identity */
        if (crypto_core_ed25519_add(point, point, point)) return false;
    return memcmp(point, sign_identity_point, sizeof point) == 0;
}
