/* Unsigned LEB128, as multiformats and protobuf write it. Pure; any thread. */
#ifndef CAL_CODEC_VARINT_H
#define CAL_CODEC_VARINT_H

#include "base/buffer.h"
#include "base/bytes.h"

enum { CAL_VARINT_MAX = 10 /* bytes of a 64-bit value */ };

int cal_varint_append(cal_buffer *out, uint64_t value);
/* Reads the number that input starts with. CAL_ESTATE: input ends inside it, read more;
 * CAL_EDECODE: beyond 64 bits, or written longer than it needs to be. */
int cal_varint_decode(cal_slice input, uint64_t *ret_value, size_t *ret_len);

#endif
