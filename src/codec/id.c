/* Text of 32-byte ids: include/calimero/identity.h. */
#include "calimero/identity.h"

#include <assert.h>

#include "calimero/error.h"
#include "codec/text.h"

void cal_id_to_base58(const uint8_t id[CAL_ID_SIZE], char ret_text[CAL_ID_TEXT_MAX]) {
    int result = cal_base58_encode(cal_slice_of(id, CAL_ID_SIZE), ret_text, CAL_ID_TEXT_MAX);
    assert(result == 0); /* 32 bytes are at most 44 digits */
    (void)result;
}

void cal_id_to_hex(const uint8_t id[CAL_ID_SIZE], char ret_text[CAL_ID_TEXT_MAX]) {
    cal_hex_encode(cal_slice_of(id, CAL_ID_SIZE), ret_text);
}

int cal_id_parse(const char *text, uint8_t ret_id[CAL_ID_SIZE]) {
    uint8_t bytes[CAL_ID_SIZE];
    size_t len = strlen(
        text); /* 64 characters of base58 are more than 32 bytes: the forms cannot be confused */
    if (len == 2 * CAL_ID_SIZE) return cal_hex_decode(cal_slice_of(text, len), ret_id, CAL_ID_SIZE);
    if (cal_base58_decode(cal_slice_of(text, len), bytes, sizeof bytes, &len) ||
        len != sizeof bytes)
        return CAL_EDECODE;
    memcpy(ret_id, bytes, sizeof bytes);
    return 0;
}
