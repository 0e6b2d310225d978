/* Error codes of libcalimero.
 *
 * Every fallible function returns 0 or one of the negative codes below. Functions that can say more
 * than the code take a `cal_error *err` as their last parameter: NULL to ignore it, otherwise it is
 * written only on failure. The message names what was wrong with what, and what to do; it never
 * holds a secret or a user's data. */
#ifndef CALIMERO_ERROR_H
#define CALIMERO_ERROR_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, value, text, HTTP status, retryable): retryable means the same call may succeed later
 * unchanged. */
#define CAL_ERRORS(X)                                                                              \
    X(CAL_EINVAL, -1, "invalid argument", 400, false)                                              \
    X(CAL_EDECODE, -2, "malformed data", 400, false)                                               \
    X(CAL_ELIMIT, -3, "a limit was exceeded", 413, false)                                          \
    X(CAL_ENOTFOUND, -4, "not found", 404, false)                                                  \
    X(CAL_EEXISTS, -5, "already exists", 409, false)                                               \
    X(CAL_EDENIED, -6, "not permitted", 403, false)                                                \
    X(CAL_ESTATE, -7, "not possible in the present state", 409, false)                             \
    X(CAL_EBUSY, -8, "in use", 503, true)                                                          \
    X(CAL_EOVERLOAD, -9, "too much work is waiting", 503, true)                                    \
    X(CAL_ETIMEOUT, -10, "timed out", 504, true)                                                   \
    X(CAL_ECANCELED, -11, "canceled", 503, true)                                                   \
    X(CAL_ENOMEM, -12, "out of memory", 503, true)                                                 \
    X(CAL_EFULL, -13, "no space left on the device", 507, true)                                    \
    X(CAL_EIO, -14, "input or output failed", 500, true)                                           \
    X(CAL_ECORRUPT, -15, "stored data is damaged", 500, false)                                     \
    X(CAL_EKEY, -16, "wrong key", 500, false)                                                      \
    X(CAL_EVERIFY, -17, "verification failed", 400, false)                                         \
    X(CAL_EVERSION, -18, "unsupported version", 400, false)                                        \
    X(CAL_EUNSUPPORTED, -19, "not supported", 501, false)                                          \
    X(CAL_EUNREACHABLE, -20, "peer or host unreachable", 504, true)                                \
    X(CAL_EGUEST, -21, "the application failed", 400, false)                                       \
    X(CAL_EINTERNAL, -22, "internal error", 500, false)

enum cal_error_code {
#define CAL_ERROR_ENUM(name, value, text, http, retryable) name = value,
    CAL_ERRORS(CAL_ERROR_ENUM)
#undef CAL_ERROR_ENUM
};

enum { CAL_ERROR_MESSAGE_MAX = 1024 };

typedef struct cal_error {
    int code;                            /* a CAL_E* */
    char message[CAL_ERROR_MESSAGE_MAX]; /* NUL-terminated UTF-8, cut to fit */
} cal_error;

/* The code's name ("CAL_ENOTFOUND") and its short text; "CAL_E?" and "unknown error" for a number
 * not listed. */
const char *cal_error_name(int code);
const char *cal_error_text(int code);

/* The HTTP status that a refusal with this code is answered with, and whether trying again
 * unchanged makes sense. */
int cal_error_http_status(int code);
bool cal_error_retryable(int code);

#ifdef __cplusplus
}
#endif
#endif
