/* Bytes as text: hex, base58 (Bitcoin's alphabet), base64, did:key. Encoders NUL-terminate;
 * decoders refuse every character that does not belong, white space included. Pure; any thread. */
#ifndef CAL_CODEC_TEXT_H
#define CAL_CODEC_TEXT_H

#include "base/buffer.h"
#include "base/bytes.h"

enum {
    CAL_BASE58_BYTES_MAX = 1024, /* base58 takes quadratic time: longer input is refused */
    CAL_DID_KEY_MAX = 64,        /* "did:key:z", 48 characters, NUL */
};

/* ret_text takes 2 * len + 1 bytes, lower case. */
void cal_hex_encode(cal_slice bytes, char *ret_text);
/* Exactly len bytes from either case; CAL_EDECODE. Nothing is written on failure. */
int cal_hex_decode(cal_slice text, uint8_t *ret_bytes, size_t len);

/* NUL-terminated; bytes.len * 138 / 100 + 2 characters always suffice. CAL_ELIMIT when capacity or
 * the maximum does not. */
int cal_base58_encode(cal_slice bytes, char *ret_text, size_t capacity);
/* CAL_EDECODE for other characters, CAL_ELIMIT when the result needs more than capacity bytes. */
int cal_base58_decode(cal_slice text, uint8_t *ret_bytes, size_t capacity, size_t *ret_len);

typedef enum cal_base64_form {
    CAL_BASE64,
    CAL_BASE64_PADDED,
    CAL_BASE64URL
} cal_base64_form; /* URL: no padding */
int cal_base64_encode(cal_base64_form form, cal_slice bytes,
                      cal_buffer *ret_text); /* appends, no NUL */
int cal_base64_decode(cal_base64_form form, cal_slice text,
                      cal_buffer *ret_bytes); /* appends; CAL_EDECODE */

/* "did:key:z" + base58(0xED 0x01 || key): an Ed25519 key, the signer id of bundles (governance.md
 * 1). */
void cal_did_key_encode(const uint8_t public_key[32], char ret_text[CAL_DID_KEY_MAX]);
int cal_did_key_decode(const char *text, uint8_t ret_public_key[32]); /* CAL_EDECODE */

#endif
