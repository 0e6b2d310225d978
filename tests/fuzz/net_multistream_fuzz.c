/* Both ends of multistream-select fed any bytes: they agree only on what was offered. */
#include <stdlib.h>

#include "net/multistream.h"

static const char spoken[] = "/noise";
static const char *match(void *user, cal_slice name) {
    (void)user;
    return cal_slice_equal(name, cal_slice_text(spoken)) ? spoken : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const choices[] = {"/tls/1.0.0", "/noise"};
    for (int dialer = 0; dialer < 2; dialer++) {
        multistream negotiation;
        cal_buffer out;
        cal_buffer_init(&out, 64 * 1024);
        if (dialer)
            multistream_dial(&negotiation, choices, 2, &out);
        else
            multistream_listen(&negotiation, match, NULL);
        size_t split = size ? 1 + data[0] % 16 : 1;
        for (size_t at = 1; at < size && negotiation.state == MULTISTREAM_GOING;) {
            size_t part = size - at < split ? size - at : split;
            at += multistream_feed(&negotiation, data + at, part, &out);
        }
        if (out.error) abort();
        if (negotiation.state == MULTISTREAM_AGREED && negotiation.agreed != choices[0] &&
            negotiation.agreed != choices[1] && negotiation.agreed != spoken)
            abort();
        cal_buffer_deinit(&out);
    }
    return 0;
}
