/* What the files of crypto/ share: the algorithms fetched from OpenSSL. Written once by
 * cal_crypto_init, then read only. */
#ifndef CAL_CRYPTO_INTERNAL_H
#define CAL_CRYPTO_INTERNAL_H

#include <openssl/evp.h>
#include <stdbool.h>

struct crypto_library {
    EVP_MD *sha256, *sha1;
    EVP_CIPHER *aes256gcm, *chacha;
    EVP_KDF *hkdf;
};
extern struct crypto_library crypto_library;

bool crypto_hash_start(void);   /* part of cal_crypto_init */
void crypto_need_library(void); /* initialises on first use; stops the process when that fails */
_Noreturn void crypto_stop(const char *what);

#endif
