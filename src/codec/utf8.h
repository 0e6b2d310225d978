/* UTF-8 as Rust's `str` accepts it: no surrogates, no overlong forms, nothing above U+10FFFF. Pure;
 * any thread. */
#ifndef CAL_CODEC_UTF8_H
#define CAL_CODEC_UTF8_H

#include "base/bytes.h"

bool cal_utf8_valid(cal_slice text);

#endif
