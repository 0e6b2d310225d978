/* Borsh, see borsh.h. */
#include "codec/borsh.h"

#include "calimero/error.h"
#include "codec/utf8.h"

int cal_borsh_fail(cal_borsh *in, int error) {
    if (!in->error) in->error = error;
    in->left = 0;
    return in->error;
}

cal_slice cal_borsh_take(cal_borsh *in, size_t len) {
    if (in->error || len > in->left) {
        cal_borsh_fail(in, CAL_EDECODE);
        return (cal_slice){0};
    }
    cal_slice taken = {in->at, len};
    if (len) in->at += len;
    in->left -= len;
    return taken;
}

uint8_t cal_borsh_u8(cal_borsh *in) {
    cal_slice bytes = cal_borsh_take(in, 1);
    return bytes.len ? bytes.data[0] : 0;
}

uint16_t cal_borsh_u16(cal_borsh *in) {
    cal_slice bytes = cal_borsh_take(in, 2);
    return (uint16_t)(bytes.len ? bytes.data[0] | bytes.data[1] << 8 : 0);
}

uint32_t cal_borsh_u32(cal_borsh *in) {
    cal_slice bytes = cal_borsh_take(in, 4);
    return bytes.len ? cal_read_u32le(bytes.data) : 0;
}

uint64_t cal_borsh_u64(cal_borsh *in) {
    cal_slice bytes = cal_borsh_take(in, 8);
    return bytes.len ? cal_read_u64le(bytes.data) : 0;
}

cal_u128 cal_borsh_u128(cal_borsh *in) {
    cal_u128 value = {.low = cal_borsh_u64(in)};
    value.high = cal_borsh_u64(in);
    return in->error ? (cal_u128){0} : value;
}

uint8_t cal_borsh_tag(cal_borsh *in, uint8_t variants) {
    uint8_t tag = cal_borsh_u8(in);
    if (tag < variants) return tag;
    cal_borsh_fail(in, CAL_EDECODE);
    return 0;
}

bool cal_borsh_bool(cal_borsh *in) { return cal_borsh_tag(in, 2) == 1; }

void cal_borsh_fixed(cal_borsh *in, void *ret_bytes, size_t len) {
    cal_slice bytes = cal_borsh_take(in, len);
    if (bytes.len)
        memcpy(ret_bytes, bytes.data, len);
    else if (len)
        memset(ret_bytes, 0, len);
}

uint32_t cal_borsh_count(cal_borsh *in, uint32_t max, size_t item_size) {
    uint32_t count = cal_borsh_u32(in);
    if (in->error) return 0;
    if (count > max)
        cal_borsh_fail(in, CAL_ELIMIT);
    else if (count > in->left / item_size)
        cal_borsh_fail(in, CAL_EDECODE);
    return in->error ? 0 : count;
}

cal_slice cal_borsh_bytes(cal_borsh *in, size_t max) {
    uint32_t len = cal_borsh_count(in, max > UINT32_MAX ? UINT32_MAX : (uint32_t)max, 1);
    return cal_borsh_take(in, len);
}

cal_slice cal_borsh_text(cal_borsh *in, size_t max) {
    cal_slice text = cal_borsh_bytes(in, max);
    if (cal_utf8_valid(text)) return text;
    cal_borsh_fail(in, CAL_EDECODE);
    return (cal_slice){0};
}

int cal_borsh_end(cal_borsh *in) {
    return in->error || in->left == 0 ? in->error : cal_borsh_fail(in, CAL_EDECODE);
}

int cal_borsh_put_u16(cal_buffer *out, uint16_t value) {
    uint8_t bytes[2] = {(uint8_t)value, (uint8_t)(value >> 8)};
    return cal_buffer_append(out, bytes, sizeof bytes);
}

int cal_borsh_put_u128(cal_buffer *out, cal_u128 value) {
    cal_buffer_append_u64le(out, value.low);
    return cal_buffer_append_u64le(out, value.high);
}

int cal_borsh_put_bool(cal_buffer *out, bool value) {
    return cal_buffer_append_u8(out, value ? 1 : 0);
}

int cal_borsh_put_bytes(cal_buffer *out, cal_slice bytes) {
    if (bytes.len > UINT32_MAX) return out->error = CAL_ELIMIT;
    cal_buffer_append_u32le(out, (uint32_t)bytes.len);
    return cal_buffer_append_slice(out, bytes);
}
