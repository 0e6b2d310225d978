/* Writing a log line: cal_log(CAL_LOG_INFO, "store", "migrated from version %d", n). Any thread. */
#ifndef CAL_BASE_LOG_H
#define CAL_BASE_LOG_H

#include "calimero/log.h"

void cal_log(cal_log_level level, const char *area, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
