/* Where the library's log lines go. No line holds a user's data or a secret. */
#ifndef CALIMERO_LOG_H
#define CALIMERO_LOG_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cal_log_level {
    CAL_LOG_ERROR,
    CAL_LOG_WARN,
    CAL_LOG_INFO,
    CAL_LOG_DEBUG
} cal_log_level;
typedef enum cal_log_format { CAL_LOG_TEXT, CAL_LOG_JSON } cal_log_format;

/* Called for each line at or below the level, from any thread, one call at a time. `area` is the
 * module, `message` is NUL-terminated and has no line break. */
typedef void (*cal_log_sink)(void *user, cal_log_level level, const char *area,
                             const char *message);

/* The default is standard error, text, at CAL_LOG_INFO. Set before a node starts; not thread-safe
 * against logging. */
void cal_log_set_level(cal_log_level level);
void cal_log_set_format(cal_log_format format);
void cal_log_set_sink(cal_log_sink sink, void *user); /* NULL restores standard error */

/* "error", "warn", "info", "debug". 0, or CAL_EINVAL for another word. */
int cal_log_level_parse(const char *text, cal_log_level *ret_level);

#ifdef __cplusplus
}
#endif
#endif
