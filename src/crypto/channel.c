/* Primitives of the Noise handshake and of the channel it makes: ChaCha20-Poly1305 with a counted
 * nonce, raw X25519, HMAC-SHA-256. OpenSSL for bulk, libsodium for the curve. One thread each. */
#include <limits.h>
#include <openssl/evp.h>
#include <sodium.h>

#include "base/bytes.h"
#include "calimero/error.h"
#include "crypto/crypto.h"
#include "crypto/internal.h"

int cal_chacha_init(cal_chacha *cipher, const cal_secret *key, bool seals) {
    crypto_need_library();
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    if (!ctx || !EVP_CipherInit_ex2(ctx, crypto_library.chacha, key->bytes, NULL, seals, NULL)) {
        EVP_CIPHER_CTX_free(ctx);
        return CAL_ENOMEM;
    }
    cipher->state = ctx;
    return 0;
}

void cal_chacha_deinit(cal_chacha *cipher) {
    EVP_CIPHER_CTX_free(cipher->state); /* wipes the key; NULL allowed */
    cipher->state = NULL;
}

/* The nonce of the Noise specification 12.3: four zero bytes, then the counter in little endian. */
static void nonce_of(uint64_t counter, uint8_t ret_nonce[CAL_AEAD_NONCE_SIZE]) {
    memset(ret_nonce, 0, 4);
    cal_write_u64le(ret_nonce + 4, counter);
}

int cal_chacha_seal(cal_chacha *cipher, uint64_t counter, cal_slice aad, cal_slice plain,
                    uint8_t *ret_sealed) {
    if (plain.len > INT_MAX || aad.len > INT_MAX) return CAL_ELIMIT;
    EVP_CIPHER_CTX *ctx = cipher->state;
    uint8_t nonce[CAL_AEAD_NONCE_SIZE];
    int len = 0, rest = 0;
    nonce_of(counter, nonce);
    bool ok =
        EVP_EncryptInit_ex2(ctx, NULL, NULL, nonce, NULL) &&
        (aad.len == 0 || EVP_EncryptUpdate(ctx, NULL, &len, aad.data, (int)aad.len)) &&
        (plain.len == 0 || EVP_EncryptUpdate(ctx, ret_sealed, &len, plain.data, (int)plain.len)) &&
        EVP_EncryptFinal_ex(ctx, ret_sealed + plain.len, &rest) &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, CAL_AEAD_TAG_SIZE, ret_sealed + plain.len);
    return ok ? 0 : CAL_ENOMEM; /* sizes are checked: nothing else can fail */
}

int cal_chacha_open(cal_chacha *cipher, uint64_t counter, cal_slice aad, cal_slice sealed,
                    uint8_t *ret_plain) {
    if (sealed.len < CAL_AEAD_TAG_SIZE) return CAL_EVERIFY;
    if (sealed.len > INT_MAX || aad.len > INT_MAX) return CAL_ELIMIT;
    EVP_CIPHER_CTX *ctx = cipher->state;
    uint8_t nonce[CAL_AEAD_NONCE_SIZE], tag[CAL_AEAD_TAG_SIZE], none;
    size_t plain_len = sealed.len - CAL_AEAD_TAG_SIZE;
    int len = 0, rest = 0;
    nonce_of(counter, nonce);
    memcpy(tag, sealed.data + plain_len, sizeof tag);
    if (!EVP_DecryptInit_ex2(ctx, NULL, NULL, nonce, NULL) ||
        (aad.len > 0 && !EVP_DecryptUpdate(ctx, NULL, &len, aad.data, (int)aad.len)) ||
        (plain_len > 0 && !EVP_DecryptUpdate(ctx, ret_plain, &len, sealed.data, (int)plain_len)) ||
        !EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, CAL_AEAD_TAG_SIZE, tag))
        return CAL_ENOMEM;
    if (EVP_DecryptFinal_ex(ctx, plain_len ? ret_plain + plain_len : &none, &rest) > 0) return 0;
    if (plain_len) sodium_memzero(ret_plain, plain_len); /* unauthenticated bytes stay nobody's */
    return CAL_EVERIFY;
}

int cal_x25519(const cal_secret *secret, const uint8_t peer[32], cal_secret *ret_shared) {
    crypto_need_library();
    uint8_t shared[32];
    int refused = crypto_scalarmult(shared, secret->bytes, peer); /* refuses an all-zero result */
    if (!refused) memcpy(ret_shared->bytes, shared, sizeof shared);
    sodium_memzero(shared, sizeof shared);
    return refused ? CAL_EVERIFY : 0;
}

void cal_hmac_sha256(cal_slice key, const cal_slice *parts, size_t count,
                     uint8_t ret_hash[CAL_HASH_SIZE]) {
    crypto_need_library();
    crypto_auth_hmacsha256_state state;
    crypto_auth_hmacsha256_init(&state, key.data, key.len);
    for (size_t i = 0; i < count; i++)
        if (parts[i].len) crypto_auth_hmacsha256_update(&state, parts[i].data, parts[i].len);
    crypto_auth_hmacsha256_final(&state, ret_hash);
    sodium_memzero(&state, sizeof state);
}
