/* The embedded ABI: arbitrary JSON, and arbitrary bytes as a module. Every method found is found
 * again by name. */
#include <stdlib.h>
#include <string.h>

#include "app/app.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(cal_abi *abi) {
    for (size_t i = 0; i < abi->method_count; i++)
        if (!cal_abi_find(abi, abi->methods[i].name)) abort();
    if (abi->status == CAL_ABI_SUPPORTED && !abi->json.data) abort();
    if (abi->status == CAL_ABI_ABSENT && abi->schema_version) abort();
    cal_abi_deinit(abi);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (cal_crypto_init() != 0) return 0;
    cal_abi abi;
    if (cal_abi_parse(cal_slice_of(data, size), &abi, NULL) == 0) use(&abi);
    if (cal_abi_read(cal_slice_of(data, size), &abi) == 0) use(&abi);
    return 0;
}
