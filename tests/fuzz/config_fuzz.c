/* config.toml: any text parses or is refused with a reason; what parses can be checked; setting any
 * key to any value in it gives text that is judged the same way. Touches no file of the
 * configuration. */
#include <stdlib.h>

#include "api/config_internal.h"
#include "calimero/log.h"
#include "native.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void judge(cal_slice text) {
    cal_config *config = NULL;
    cal_error err = {0};
    int error = config_parse("/tmp", text, &config, &err);
    if (error) {
        if (error != err.code || !err.message[0]) abort();
        return;
    }
    error = cal_config_check(config, &err);
    if (error && (error != err.code || !err.message[0])) abort();
    cal_config_free(config);
}

/* The first line is KEY=VALUE, the rest is the document. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cal_log_set_level(CAL_LOG_ERROR);
    judge(cal_slice_of(data, size));
    const uint8_t *line_end = size ? memchr(data, '\n', size) : NULL;
    const uint8_t *equals = line_end ? memchr(data, '=', (size_t)(line_end - data)) : NULL;
    if (!equals) return 0;
    const char *toml = (const char *)line_end + 1;
    size_t toml_len = size - (size_t)(line_end - data) - 1;
    cal_native_text next = {0};
    int failed =
        cal_native_toml_set(toml, toml_len, (const char *)data, (size_t)(equals - data),
                            (const char *)equals + 1, (size_t)(line_end - equals) - 1, &next);
    if (!failed) judge(cal_slice_of(next.ptr, next.len));
    cal_native_text_free(next);
    return 0;
}
