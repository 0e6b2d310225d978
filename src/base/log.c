/* Log lines to standard error or to the embedder's sink, see include/calimero/log.h. */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "calimero/error.h"

enum { LINE_MAX_BYTES = 2048 };

static const char *const level_names[] = {"error", "warn", "info", "debug"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cal_log_level max_level = CAL_LOG_INFO;
static cal_log_format line_format = CAL_LOG_TEXT;
static cal_log_sink line_sink;
static void *sink_user;

void cal_log_set_level(cal_log_level level) { max_level = level; }
void cal_log_set_format(cal_log_format format) { line_format = format; }

void cal_log_set_sink(cal_log_sink sink, void *user) {
    line_sink = sink;
    sink_user = user;
}

int cal_log_level_parse(const char *text, cal_log_level *ret_level) {
    for (int i = 0; i < 4; i++) {
        if (strcmp(text, level_names[i]) != 0) continue;
        *ret_level = (cal_log_level)i;
        return 0;
    }
    return CAL_EINVAL;
}

static void write_json_string(FILE *out, const char *text) {
    fputc('"', out);
    for (const char *p = text; *p; p++) {
        if (*p == '"' || *p == '\\') fputc('\\', out);
        fputc(*p, out);
    }
    fputc('"', out);
}

/* The line's time is for people and log collectors; nothing in the node decides by it, so it does
 * not go through os/. */
static void write_line(cal_log_level level, const char *area, const char *message) {
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    char stamp[40];
    size_t used = strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(stamp + used, sizeof stamp - used, ".%03ldZ", now.tv_nsec / 1000000);
    if (line_format == CAL_LOG_TEXT) {
        fprintf(stderr, "%s %-5s %s: %s\n", stamp, level_names[level], area, message);
        return;
    }
    fprintf(stderr, "{\"time\":\"%s\",\"level\":\"%s\",\"area\":\"%s\",\"message\":", stamp,
            level_names[level], area);
    write_json_string(stderr, message);
    fputs("}\n", stderr);
}

void cal_log(cal_log_level level, const char *area, const char *format, ...) {
    if (level > max_level) return;
    char message[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    for (char *p = message; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' '; /* one line, and no terminal control */
    pthread_mutex_lock(&lock);
    if (line_sink)
        line_sink(sink_user, level, area, message);
    else
        write_line(level, area, message);
    pthread_mutex_unlock(&lock);
}
