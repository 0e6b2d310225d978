/* Hex, base58, base64, did:key: see text.h. Hex and base64 are libsodium's. */
#include "codec/text.h"

#include <assert.h>
#include <sodium.h>

#include "calimero/error.h"

void cal_hex_encode(cal_slice bytes, char *ret_text) {
    sodium_bin2hex(ret_text, bytes.len * 2 + 1, bytes.len ? bytes.data : (const uint8_t *)"",
                   bytes.len);
}

int cal_hex_decode(cal_slice text, uint8_t *ret_bytes, size_t len) {
    if (text.len / 2 != len || text.len % 2) return CAL_EDECODE;
    for (size_t i = 0; i < text.len; i++) { /* before anything is written */
        uint8_t c = text.data[i], lower = c | 0x20;
        if (!(c >= '0' && c <= '9') && !(lower >= 'a' && lower <= 'f')) return CAL_EDECODE;
    }
    size_t written = 0;
    sodium_hex2bin(ret_bytes, len, (const char *)text.data, text.len, NULL, &written, NULL);
    return 0;
}

static const char base58_digits[] = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/* `number` is big-endian in base `from`; the digits in base `to` go to ret_digits, least
 * significant first. Leading zeros of the number are the caller's. Returns how many digits there
 * are, or capacity + 1 when they do not fit. */
static size_t base_convert(const uint8_t *number, size_t len, uint32_t from, uint32_t to,
                           uint8_t *ret_digits, size_t capacity) {
    size_t count = 0;
    for (size_t i = 0; i < len; i++) {
        uint32_t carry = number[i];
        for (size_t j = 0; j < count; j++) {
            carry += ret_digits[j] * from;
            ret_digits[j] = (uint8_t)(carry % to);
            carry /= to;
        }
        for (; carry; carry /= to) {
            if (count == capacity) return capacity + 1;
            ret_digits[count++] = (uint8_t)(carry % to);
        }
    }
    return count;
}

int cal_base58_encode(cal_slice bytes, char *ret_text, size_t capacity) {
    uint8_t digits[CAL_BASE58_BYTES_MAX * 138 / 100 + 2]; /* log(256) / log(58) < 1.38 */
    if (bytes.len > CAL_BASE58_BYTES_MAX) return CAL_ELIMIT;
    size_t zeros = 0;
    while (zeros < bytes.len && bytes.data[zeros] == 0) zeros++;
    size_t count = zeros < bytes.len ? base_convert(bytes.data + zeros, bytes.len - zeros, 256, 58,
                                                    digits, sizeof digits)
                                     : 0;
    assert(count <= sizeof digits);
    if (zeros + count >= capacity) return CAL_ELIMIT;
    memset(ret_text, base58_digits[0], zeros);
    for (size_t i = 0; i < count; i++) ret_text[zeros + i] = base58_digits[digits[count - 1 - i]];
    ret_text[zeros + count] = 0;
    return 0;
}

int cal_base58_decode(cal_slice text, uint8_t *ret_bytes, size_t capacity, size_t *ret_len) {
    enum { TEXT_MAX = CAL_BASE58_BYTES_MAX * 138 / 100 + 1 };
    uint8_t values[TEXT_MAX], bytes[CAL_BASE58_BYTES_MAX];
    if (text.len > TEXT_MAX) return CAL_ELIMIT;
    for (size_t i = 0; i < text.len; i++) {
        const char *digit = text.data[i] ? strchr(base58_digits, text.data[i]) : NULL;
        if (!digit) return CAL_EDECODE;
        values[i] = (uint8_t)(digit - base58_digits);
    }
    size_t zeros = 0;
    while (zeros < text.len && values[zeros] == 0) zeros++;
    size_t count = base_convert(values + zeros, text.len - zeros, 58, 256, bytes, sizeof bytes);
    if (count > sizeof bytes || zeros + count > capacity) return CAL_ELIMIT;
    if (zeros) memset(ret_bytes, 0, zeros);
    for (size_t i = 0; i < count; i++) ret_bytes[zeros + i] = bytes[count - 1 - i];
    *ret_len = zeros + count;
    return 0;
}

static int base64_variant(cal_base64_form form) {
    return form == CAL_BASE64      ? sodium_base64_VARIANT_ORIGINAL_NO_PADDING
           : form == CAL_BASE64URL ? sodium_base64_VARIANT_URLSAFE_NO_PADDING
                                   : sodium_base64_VARIANT_ORIGINAL;
}

int cal_base64_encode(cal_base64_form form, cal_slice bytes, cal_buffer *ret_text) {
    if (bytes.len > SIZE_MAX / 2) return CAL_ELIMIT;
    size_t size =
        sodium_base64_ENCODED_LEN(bytes.len, (unsigned)base64_variant(form)); /* with its NUL */
    char *out = (char *)cal_buffer_reserve(ret_text, size);
    if (!out) return ret_text->error;
    sodium_bin2base64(out, size, bytes.len ? bytes.data : (const uint8_t *)"", bytes.len,
                      base64_variant(form));
    ret_text->len += size - 1;
    return 0;
}

int cal_base64_decode(cal_base64_form form, cal_slice text, cal_buffer *ret_bytes) {
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] >= 0x80)
            return CAL_EDECODE; /* libsodium 1.0.18 takes some of these for digits */
    size_t size = text.len / 4 * 3 + 3, len = 0;
    uint8_t *out = cal_buffer_reserve(ret_bytes, size);
    if (!out) return ret_bytes->error;
    if (sodium_base642bin(out, size, text.len ? (const char *)text.data : "", text.len, NULL, &len,
                          NULL, base64_variant(form)))
        return CAL_EDECODE;
    ret_bytes->len += len;
    return 0;
}

static const char did_key_prefix[] = "did:key:z";
static const uint8_t did_key_ed25519[] = {0xED, 0x01};

void cal_did_key_encode(const uint8_t public_key[32], char ret_text[CAL_DID_KEY_MAX]) {
    uint8_t bytes[sizeof did_key_ed25519 + 32];
    size_t prefix = sizeof did_key_prefix - 1;
    memcpy(bytes, did_key_ed25519, sizeof did_key_ed25519);
    memcpy(bytes + sizeof did_key_ed25519, public_key, 32);
    memcpy(ret_text, did_key_prefix, prefix);
    int result = cal_base58_encode(cal_slice_of(bytes, sizeof bytes), ret_text + prefix,
                                   CAL_DID_KEY_MAX - prefix);
    assert(result == 0); /* 34 bytes are at most 47 digits */
    (void)result;
}

int cal_did_key_decode(const char *text, uint8_t ret_public_key[32]) {
    uint8_t bytes[sizeof did_key_ed25519 + 32];
    size_t prefix = sizeof did_key_prefix - 1, len = 0;
    if (strncmp(text, did_key_prefix, prefix) != 0 ||
        cal_base58_decode(cal_slice_text(text + prefix), bytes, sizeof bytes, &len) ||
        len != sizeof bytes || memcmp(bytes, did_key_ed25519, sizeof did_key_ed25519) != 0)
        return CAL_EDECODE;
    memcpy(ret_public_key, bytes + sizeof did_key_ed25519, 32);
    return 0;
}
