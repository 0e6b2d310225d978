/* Filling in a cal_error. */
#ifndef CAL_BASE_ERROR_H
#define CAL_BASE_ERROR_H

#include "calimero/error.h"

/* Writes code and message into err when it is not NULL, and returns code: `return cal_fail(err,
 * CAL_EINVAL, ...)`. */
int cal_fail(cal_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "what: " before the message that a callee left in err; returns err->code, or code when err
 * is NULL. */
int cal_fail_context(cal_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
