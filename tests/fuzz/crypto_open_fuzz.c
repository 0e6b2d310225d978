/* What crypto is given from outside: points, signatures, sealed bytes. Strict implies lax, and
 * refusing leaves nothing behind. */
#include <stdlib.h>
#include <string.h>

#include "crypto/crypto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 96 || size > 4096) return 0;
    const uint8_t *key = data, *signature = data + 32;
    cal_slice message = {data + 96, size - 96};
    bool strict = cal_verify_strict(key, message, signature),
         lax = cal_verify_lax(key, message, signature);
    if (strict && !lax) abort();
    bool decodes = cal_public_key_decodes(key), small = cal_public_key_small_order(key);
    if (lax && !decodes) abort();
    if (small && (!decodes || strict)) abort();
    cal_secret ours = {{3}}, agreed;
    if (cal_agree_edwards(&ours, key, &agreed) == 0 && (small || !decodes)) abort();
    cal_agree_x25519(&ours, key, &agreed);
    cal_buffer plain;
    cal_buffer_init(&plain, 8192);
    memcpy(ours.bytes, key, 32);
    if (cal_open(&ours, signature, (cal_slice){0}, message, &plain) != 0 && plain.len != 0) abort();
    cal_buffer_deinit(&plain);
    return 0;
}
