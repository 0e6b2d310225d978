/* Finding custom sections in arbitrary bytes, and the size a module is counted with. */
#include <stdlib.h>

#include "vm/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cal_slice wasm = {data, size}, content = {0};
    int code = cal_wasm_custom_section(wasm, "calimero_abi_v1", &content);
    if (code == 0 && content.len > 0 &&
        (content.data < data || content.data + content.len > data + size))
        abort();
    if (vm_module_size(wasm) > size) abort();
    return 0;
}
