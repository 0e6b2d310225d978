/* Any text as key.json. With an odd first byte the text gets a fitting sum, so that what is behind
 * the sum is reached. */
#include "codec/text.h"
#include "os/sim/sim.h"
#include "store/internal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 8192 || cal_crypto_init()) return 0;
    cal_sim *sim = cal_sim_new(1);
    const cal_os *os = cal_sim_os(sim);
    cal_buffer json;
    cal_buffer_init(&json, 16384);
    cal_buffer_append(&json, data + 1, size - 1);
    if (data[0] & 1) {
        uint8_t sum[CAL_HASH_SIZE];
        char text[2 * CAL_HASH_SIZE + 1];
        cal_sha256(cal_buffer_slice(&json), sum);
        cal_hex_encode(cal_slice_of(sum, sizeof sum), text);
        cal_buffer_printf(&json, "  \"sum\": \"%s\"\n}\n", text);
    }
    if (cal_os_write_file(os, "/s/key.json", cal_buffer_slice(&json), NULL)) {
        os->make_dir(os->user, "/s");
        cal_os_write_file(os, "/s/key.json", cal_buffer_slice(&json), NULL);
    }
    cal_key_kind kind;
    cal_error err;
    int error = cal_key_kind_read(os, "/s", &kind, &err);
    if (!error && kind == CAL_KEY_FILE) { /* a wrong key, never a crash */
        static const char digits[] =
            "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n";
        cal_key_source source = {CAL_KEY_FILE, "/s/master"};
        cal_secret key;
        cal_os_write_file(os, "/s/master", cal_slice_text(digits), NULL);
        if (key_open(os, "/s", &source, &key, &err) == 0) abort(); /* nobody can have sealed it */
    }
    cal_buffer_deinit(&json);
    cal_sim_free(sim);
    return 0;
}
