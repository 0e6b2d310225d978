/* RFC 8785: the one byte form of a JSON value, which signatures cover. Pure; any thread. */
#ifndef CAL_CODEC_JCS_H
#define CAL_CODEC_JCS_H

#include <yyjson.h>

#include "base/buffer.h"
#include "base/bytes.h"

/* Whether a member of the outermost object is written. */
typedef bool (*cal_jcs_keep)(cal_slice name);

/* Appends the canonical form of value. keep NULL: everything. CAL_EDECODE for what has none (a name
 * twice in one object, a number that is not finite), CAL_ELIMIT (the buffer's maximum, or nested
 * beyond 128), CAL_ENOMEM. */
int cal_jcs_write(yyjson_val *value, cal_jcs_keep keep, cal_buffer *out);

#endif
