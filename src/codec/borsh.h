/* Borsh: little-endian integers, u32 counts, one-byte tags (governance.md, conventions).
 *
 * Reading: a cursor with a sticky error. Each read gives the value, or zero once something was
 * wrong, so a decoder reads on and asks cal_borsh_end once. Nothing is allocated; bytes and texts
 * point into the input. Every count has a maximum and is checked against the bytes that are left
 * before anybody allocates for it. Writing: appends to a cal_buffer, whose own error sticks.
 *
 * Pure; any thread. */
#ifndef CAL_CODEC_BORSH_H
#define CAL_CODEC_BORSH_H

#include "base/buffer.h"
#include "base/bytes.h"

typedef struct cal_borsh {
    const uint8_t *at;
    size_t left;
    int error; /* 0, CAL_EDECODE or CAL_ELIMIT (a count above its maximum); the first one stays */
} cal_borsh;

typedef struct cal_u128 {
    uint64_t low, high;
} cal_u128;

static inline cal_borsh cal_borsh_read(cal_slice input) {
    return (cal_borsh){.at = input.data, .left = input.len};
}

uint8_t cal_borsh_u8(cal_borsh *in);
uint16_t cal_borsh_u16(cal_borsh *in);
uint32_t cal_borsh_u32(cal_borsh *in);
uint64_t cal_borsh_u64(cal_borsh *in);
cal_u128 cal_borsh_u128(cal_borsh *in);
bool cal_borsh_bool(cal_borsh *in); /* 0 or 1, anything else is an error; also an Option's tag */
uint8_t cal_borsh_tag(cal_borsh *in, uint8_t variants); /* an enum's index, below variants */
void cal_borsh_fixed(cal_borsh *in, void *ret_bytes, size_t len); /* zeroes ret_bytes on error */
cal_slice cal_borsh_take(cal_borsh *in, size_t len);              /* the next len bytes */
cal_slice cal_borsh_bytes(cal_borsh *in, size_t max);             /* Vec<u8> */
cal_slice cal_borsh_text(cal_borsh *in, size_t max);              /* String: valid UTF-8 */
/* The u32 count of a list whose items take at least item_size (>= 1) bytes each. */
uint32_t cal_borsh_count(cal_borsh *in, uint32_t max, size_t item_size);
int cal_borsh_fail(cal_borsh *in, int error); /* the first error stays */
int cal_borsh_end(cal_borsh *in); /* CAL_EDECODE when bytes are left, or the sticky error */

int cal_borsh_put_u16(cal_buffer *out, uint16_t value);
int cal_borsh_put_u128(cal_buffer *out, cal_u128 value);
int cal_borsh_put_bool(cal_buffer *out, bool value);       /* also an Option's tag */
int cal_borsh_put_bytes(cal_buffer *out, cal_slice bytes); /* count and bytes; also a String */

#endif
