/* Agreement and sealing: a key for two, AES-256-GCM under it (governance.md 2). Any thread. */
#include <limits.h>
#include <openssl/evp.h>
#include <sodium.h>

#include "calimero/error.h"
#include "crypto/crypto.h"
#include "crypto/internal.h"

static const char edwards_info[] = "calimero.sharedkey.aead.v2";
static const char x25519_info[] = "calimero.sharedkey.x25519.aead.v1";

void cal_agree_public_key(const cal_secret *secret, uint8_t ret_public[32]) {
    crypto_need_library();
    crypto_scalarmult_base(ret_public, secret->bytes);
}

/* The shared value is the compressed Edwards point itself, not a Montgomery u. libsodium also
 * refuses mixed-order and non-canonical points, which the reference accepts and no honest peer
 * sends (traps.md 3). */
int cal_agree_edwards(const cal_secret *seed, const uint8_t peer_ed25519[32], cal_secret *ret_key) {
    uint8_t expanded[crypto_hash_sha512_BYTES], shared[32];
    crypto_need_library();
    crypto_hash_sha512(expanded, seed->bytes, sizeof seed->bytes);
    int refused = crypto_scalarmult_ed25519(shared, expanded, peer_ed25519); /* clamps */
    if (!refused)
        cal_hkdf(cal_slice_of(shared, sizeof shared), (cal_slice){0}, edwards_info, ret_key);
    sodium_memzero(expanded, sizeof expanded);
    sodium_memzero(shared, sizeof shared);
    return refused ? CAL_EVERIFY : 0;
}

int cal_agree_x25519(const cal_secret *secret, const uint8_t peer_x25519[32], cal_secret *ret_key) {
    uint8_t shared[32];
    crypto_need_library();
    int refused =
        crypto_scalarmult(shared, secret->bytes, peer_x25519); /* refuses an all-zero result */
    if (!refused)
        cal_hkdf(cal_slice_of(shared, sizeof shared), (cal_slice){0}, x25519_info, ret_key);
    sodium_memzero(shared, sizeof shared);
    return refused ? CAL_EVERIFY : 0;
}

int cal_seal(const cal_secret *key, const uint8_t nonce[CAL_AEAD_NONCE_SIZE], cal_slice aad,
             cal_slice plain, cal_buffer *ret_sealed) {
    if (plain.len > INT_MAX - CAL_AEAD_TAG_SIZE || aad.len > INT_MAX) return CAL_ELIMIT;
    crypto_need_library();
    uint8_t *out = cal_buffer_reserve(ret_sealed, plain.len + CAL_AEAD_TAG_SIZE);
    if (!out) return ret_sealed->error;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int len = 0, rest = 0;
    bool ok = ctx && EVP_EncryptInit_ex2(ctx, crypto_library.aes256gcm, key->bytes, nonce, NULL) &&
              (aad.len == 0 || EVP_EncryptUpdate(ctx, NULL, &len, aad.data, (int)aad.len)) &&
              (plain.len == 0 || EVP_EncryptUpdate(ctx, out, &len, plain.data, (int)plain.len)) &&
              EVP_EncryptFinal_ex(ctx, out + plain.len, &rest) &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, CAL_AEAD_TAG_SIZE, out + plain.len);
    EVP_CIPHER_CTX_free(ctx);
    if (!ok) return CAL_ENOMEM; /* sizes are checked: nothing else can fail */
    ret_sealed->len += plain.len + CAL_AEAD_TAG_SIZE;
    return 0;
}

int cal_open(const cal_secret *key, const uint8_t nonce[CAL_AEAD_NONCE_SIZE], cal_slice aad,
             cal_slice sealed, cal_buffer *ret_plain) {
    if (sealed.len < CAL_AEAD_TAG_SIZE) return CAL_EVERIFY;
    if (sealed.len > INT_MAX || aad.len > INT_MAX) return CAL_ELIMIT;
    crypto_need_library();
    size_t plain_len = sealed.len - CAL_AEAD_TAG_SIZE;
    uint8_t tag[CAL_AEAD_TAG_SIZE];
    memcpy(tag, sealed.data + plain_len, sizeof tag);
    uint8_t *out = cal_buffer_reserve(ret_plain, plain_len + 1); /* + 1: never asks for nothing */
    if (!out) return ret_plain->error;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int len = 0, rest = 0, result = 0;
    if (!ctx || !EVP_DecryptInit_ex2(ctx, crypto_library.aes256gcm, key->bytes, nonce, NULL) ||
        (aad.len > 0 && !EVP_DecryptUpdate(ctx, NULL, &len, aad.data, (int)aad.len)) ||
        (plain_len > 0 && !EVP_DecryptUpdate(ctx, out, &len, sealed.data, (int)plain_len)) ||
        !EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, CAL_AEAD_TAG_SIZE, tag))
        result = CAL_ENOMEM;
    else if (EVP_DecryptFinal_ex(ctx, out + plain_len, &rest) <= 0)
        result = CAL_EVERIFY;
    EVP_CIPHER_CTX_free(ctx);
    if (result)
        sodium_memzero(out, plain_len); /* unauthenticated bytes stay nobody's */
    else
        ret_plain->len += plain_len;
    return result;
}
