/* Archives: opening, walking and signing arbitrary bytes; what signing accepts must open and check.
 */
#include <stdlib.h>

#include "app/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (cal_crypto_init() != 0 || size > 1 << 20) return 0;
    cal_app_memory memory;
    cal_app_input input = cal_app_input_memory(&memory, cal_slice_of(data, size));
    cal_bundle *bundle = NULL;
    cal_error err;
    if (cal_bundle_open(&input, &bundle, &err) == 0) cal_bundle_check(bundle, NULL, NULL, &err);
    cal_bundle_free(bundle);
    bundle = NULL;
    cal_secret seed;
    cal_bundle_dev_key(&seed);
    cal_buffer archive;
    cal_buffer_init(&archive, 4 << 20);
    if (cal_bundle_sign(cal_slice_of(data, size), &seed, &archive, &err) == 0) {
        input = cal_app_input_memory(&memory, cal_buffer_slice(&archive));
        int rc = cal_bundle_open(&input, &bundle, &err);
        if (rc == 0) rc = cal_bundle_check(bundle, NULL, NULL, &err);
        if (rc != 0 && rc != CAL_EVERSION) abort();
        cal_bundle_free(bundle);
    }
    cal_buffer_deinit(&archive);
    return 0;
}
