/* Unsigned LEB128, see varint.h. */
#include "codec/varint.h"

#include "calimero/error.h"

int cal_varint_append(cal_buffer *out, uint64_t value) {
    uint8_t bytes[CAL_VARINT_MAX];
    size_t len = 0;
    for (; value >= 0x80; value >>= 7) bytes[len++] = (uint8_t)(value | 0x80);
    bytes[len++] = (uint8_t)value;
    return cal_buffer_append(out, bytes, len);
}

int cal_varint_decode(cal_slice input, uint64_t *ret_value, size_t *ret_len) {
    uint64_t value = 0;
    for (size_t i = 0; i < input.len && i < CAL_VARINT_MAX; i++) {
        uint8_t byte = input.data[i];
        if (i == CAL_VARINT_MAX - 1 && byte > 1) return CAL_EDECODE;
        if (i > 0 && byte == 0) return CAL_EDECODE;
        value |= (uint64_t)(byte & 0x7F) << (7 * i);
        if (byte & 0x80) continue;
        *ret_value = value;
        *ret_len = i + 1;
        return 0;
    }
    return input.len < CAL_VARINT_MAX ? CAL_ESTATE : CAL_EDECODE;
}
