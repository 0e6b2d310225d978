/* Hashes. SHA-256 is the node's busiest function: one OpenSSL context per thread, made at the
 * thread's first hash and freed when the thread ends, so that hashing an entity allocates nothing.
 * Any thread. */
#include <openssl/evp.h>
#include <pthread.h>

#include "calimero/error.h"
#include "crypto/crypto.h"
#include "crypto/internal.h"
#include "native.h"

static pthread_key_t hash_key;
static _Thread_local EVP_MD_CTX *hash_ctx;

static void hash_ctx_free(void *ctx) {
    EVP_MD_CTX_free(ctx);
    hash_ctx = NULL; /* a later destructor of this thread may hash again */
}

bool crypto_hash_start(void) { return pthread_key_create(&hash_key, hash_ctx_free) == 0; }

static EVP_MD_CTX *hash_begin(void) {
    if (!hash_ctx) {
        crypto_need_library();
        hash_ctx = EVP_MD_CTX_new();
        if (!hash_ctx || pthread_setspecific(hash_key, hash_ctx))
            crypto_stop("no memory for a hash");
    }
    if (!EVP_DigestInit_ex2(hash_ctx, crypto_library.sha256, NULL)) crypto_stop("SHA-256 failed");
    return hash_ctx;
}

static void hash_feed(EVP_MD_CTX *ctx, const void *data, size_t len) {
    if (len > 0 && !EVP_DigestUpdate(ctx, data, len)) crypto_stop("SHA-256 failed");
}

static void hash_end(EVP_MD_CTX *ctx, uint8_t ret_hash[CAL_HASH_SIZE]) {
    if (!EVP_DigestFinal_ex(ctx, ret_hash, NULL)) crypto_stop("SHA-256 failed");
}

void cal_sha256(cal_slice data, uint8_t ret_hash[CAL_HASH_SIZE]) {
    cal_sha256_parts(&data, 1, ret_hash);
}

void cal_sha256_parts(const cal_slice *parts, size_t count, uint8_t ret_hash[CAL_HASH_SIZE]) {
    EVP_MD_CTX *ctx = hash_begin();
    for (size_t i = 0; i < count; i++) hash_feed(ctx, parts[i].data, parts[i].len);
    hash_end(ctx, ret_hash);
}

void cal_domain_hash(const char *domain, const cal_slice *parts, size_t count,
                     uint8_t ret_hash[CAL_HASH_SIZE]) {
    uint8_t len[8];
    EVP_MD_CTX *ctx = hash_begin();
    cal_write_u64le(len, strlen(domain));
    hash_feed(ctx, len, sizeof len);
    hash_feed(ctx, domain, strlen(domain));
    for (size_t i = 0; i < count; i++) {
        cal_write_u64le(len, parts[i].len);
        hash_feed(ctx, len, sizeof len);
        hash_feed(ctx, parts[i].data, parts[i].len);
    }
    hash_end(ctx, ret_hash);
}

int cal_sha256_begin(cal_sha256_stream *stream) {
    crypto_need_library();
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx || !EVP_DigestInit_ex2(ctx, crypto_library.sha256, NULL)) {
        EVP_MD_CTX_free(ctx);
        return CAL_ENOMEM;
    }
    stream->state = ctx;
    return 0;
}

void cal_sha256_feed(cal_sha256_stream *stream, cal_slice data) {
    hash_feed(stream->state, data.data, data.len);
}

void cal_sha256_end(cal_sha256_stream *stream, uint8_t ret_hash[CAL_HASH_SIZE]) {
    if (!stream->state) return;
    if (ret_hash) hash_end(stream->state, ret_hash);
    EVP_MD_CTX_free(stream->state);
    stream->state = NULL;
}

void cal_blake3(cal_slice data, uint8_t ret_hash[CAL_HASH_SIZE]) {
    cal_native_blake3(data.len ? data.data : (const uint8_t *)"", data.len, ret_hash);
}

void cal_sha1(cal_slice data, uint8_t ret_hash[20]) {
    crypto_need_library();
    if (!EVP_Digest(data.data, data.len, ret_hash, NULL, crypto_library.sha1, NULL))
        crypto_stop("SHA-1 failed");
}
