/* Manifests: parsing, verifying and signing arbitrary text; what is signed verifies and stays the
 * same when signed again. */
#include <stdlib.h>
#include <string.h>

#include "app/app.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const cal_manifest *manifest) {
    const cal_manifest_service *services = NULL;
    size_t count = cal_manifest_services(manifest, &services), total = 0;
    for (size_t i = 0; i < count; i++)
        total += strlen(services[i].wasm.path) + strlen(services[i].wasm.hash);
    cal_buffer metadata;
    cal_buffer_init(&metadata, 16 << 20);
    if (total > 1 << 30 || cal_manifest_metadata(manifest, &metadata) != 0) abort();
    cal_buffer_deinit(&metadata);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (cal_crypto_init() != 0) return 0;
    cal_secret seed;
    cal_buffer first, second;
    cal_manifest *manifest = NULL;
    cal_bundle_dev_key(&seed);
    cal_buffer_init(&first, 16 << 20);
    cal_buffer_init(&second, 16 << 20);
    cal_slice text = cal_slice_of(data, size);
    if (cal_manifest_parse(text, &manifest, NULL) == 0) {
        use(manifest);
        cal_manifest_verify(manifest, NULL, NULL);
        cal_manifest_check_runtime(manifest, NULL);
    }
    cal_manifest_free(manifest);
    manifest = NULL;
    if (cal_manifest_sign(text, &seed, &first, NULL) == 0) {
        if (cal_manifest_sign(cal_buffer_slice(&first), &seed, &second, NULL) != 0 ||
            !cal_slice_equal(cal_buffer_slice(&first), cal_buffer_slice(&second)))
            abort();
        if (cal_manifest_parse(cal_buffer_slice(&first), &manifest, NULL) == 0 &&
            cal_manifest_verify(manifest, NULL, NULL) != 0)
            abort();
        cal_manifest_free(manifest);
    }
    cal_buffer_deinit(&second);
    cal_buffer_deinit(&first);
    return 0;
}
