/* Start-up, secrets, key derivation.
 *
 * What OpenSSL offers by name is fetched once here, because a fetch costs more than hashing a small
 * entity. Functions that cannot return an error stop the process when a library fails: going on
 * with a wrong hash or key would damage data. Any thread. crypto.h is the contract. */
#include "crypto/crypto.h"

#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>

#include "base/log.h"
#include "calimero/error.h"
#include "crypto/internal.h"

static pthread_once_t crypto_once = PTHREAD_ONCE_INIT;
static int crypto_result = CAL_EINTERNAL;
struct crypto_library crypto_library;

static void crypto_start(void) {
    if (sodium_init() < 0) return;
    crypto_library.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    crypto_library.sha1 = EVP_MD_fetch(NULL, "SHA1", NULL);
    crypto_library.aes256gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    crypto_library.chacha = EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL);
    crypto_library.hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    if (!crypto_library.sha256 || !crypto_library.sha1 || !crypto_library.aes256gcm ||
        !crypto_library.chacha || !crypto_library.hkdf || !crypto_hash_start())
        return;
    crypto_result = 0;
}

int cal_crypto_init(void) {
    pthread_once(&crypto_once, crypto_start);
    return crypto_result;
}

void crypto_need_library(void) {
    if (cal_crypto_init()) crypto_stop("OpenSSL 3 or libsodium could not be started");
}

_Noreturn void crypto_stop(const char *what) {
    cal_log(CAL_LOG_ERROR, "crypto", "%s; the process stops to keep its data whole", what);
    abort();
}

void cal_hkdf(cal_slice key, cal_slice salt, const char *info, cal_secret *ret_key) {
    crypto_need_library();
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(crypto_library.hkdf);
    char digest[] = "SHA256";
    OSSL_PARAM params[5];
    size_t count = 0;
    params[count++] = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0);
    params[count++] =
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)key.data, key.len);
    params[count++] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO,
                                                        (void *)(uintptr_t)info, strlen(info));
    if (salt.len > 0)
        params[count++] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT,
                                                            (void *)(uintptr_t)salt.data, salt.len);
    params[count] = OSSL_PARAM_construct_end();
    if (!ctx || EVP_KDF_derive(ctx, ret_key->bytes, sizeof ret_key->bytes, params) <= 0)
        crypto_stop("HKDF failed");
    EVP_KDF_CTX_free(ctx);
}

int cal_kdf_passphrase(cal_slice passphrase, const uint8_t salt[CAL_SALT_SIZE], uint32_t passes,
                       uint32_t memory_kib, cal_secret *ret_key) {
    _Static_assert(CAL_SALT_SIZE == crypto_pwhash_SALTBYTES, "libsodium's salt");
    crypto_need_library();
    cal_secret key;
    if (crypto_pwhash(key.bytes, sizeof key.bytes, (const char *)passphrase.data, passphrase.len,
                      salt, passes, (size_t)memory_kib * 1024, crypto_pwhash_ALG_ARGON2ID13))
        return CAL_ENOMEM;
    *ret_key = key;
    cal_secret_wipe(&key);
    return 0;
}

void cal_secret_wipe(cal_secret *secret) { sodium_memzero(secret, sizeof *secret); }
void cal_wipe(void *bytes, size_t len) { sodium_memzero(bytes, len); }
bool cal_equal_secret(const void *a, const void *b, size_t len) {
    return sodium_memcmp(a, b, len) == 0;
}
