/* The one table behind the error codes, see include/calimero/error.h. */
#include "base/error.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct error_row {
    int code;
    const char *name;
    const char *text;
    int http_status;
    bool retryable;
};

static const struct error_row error_rows[] = {
#define ERROR_ROW(name, value, text, http, retryable) {value, #name, text, http, retryable},
    CAL_ERRORS(ERROR_ROW)
#undef ERROR_ROW
};

static const struct error_row *find_row(int code) {
    for (size_t i = 0; i < sizeof error_rows / sizeof error_rows[0]; i++)
        if (error_rows[i].code == code) return &error_rows[i];
    return NULL;
}

const char *cal_error_name(int code) {
    const struct error_row *row = find_row(code);
    return row ? row->name : "CAL_E?";
}

const char *cal_error_text(int code) {
    const struct error_row *row = find_row(code);
    return row ? row->text : "unknown error";
}

int cal_error_http_status(int code) {
    const struct error_row *row = find_row(code);
    return row ? row->http_status : 500;
}

bool cal_error_retryable(int code) {
    const struct error_row *row = find_row(code);
    return row && row->retryable;
}

int cal_fail(cal_error *err, int code, const char *format, ...) {
    if (!err) return code;
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    err->code = code;
    return code;
}

int cal_fail_context(cal_error *err, int code, const char *format, ...) {
    if (!err) return code;
    char cause[CAL_ERROR_MESSAGE_MAX];
    memcpy(cause, err->message, sizeof cause);
    va_list args;
    va_start(args, format);
    int used = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    if (used >= 0 && (size_t)used < sizeof err->message)
        snprintf(err->message + used, sizeof err->message - (size_t)used, ": %s", cause);
    err->code = code;
    return code;
}
