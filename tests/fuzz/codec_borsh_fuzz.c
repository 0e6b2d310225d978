/* The borsh cursor: reads in an order that the input chooses never leave the input, and nothing is
 * read after an error. */
#include <stdlib.h>

#include "codec/borsh.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t touch(cal_slice bytes) {
    size_t sum = 0;
    for (size_t i = 0; i < bytes.len; i++) sum += bytes.data[i];
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    size_t plan = data[0] % 32 + 1u;
    if (size < 1 + plan) return 0;
    cal_borsh in = cal_borsh_read(cal_slice_of(data + 1 + plan, size - 1 - plan));
    uint8_t fixed[64];
    size_t sum = 0;
    for (size_t i = 0; i < plan; i++) {
        bool failed = in.error != 0;
        switch (data[1 + i] % 10) {
        case 0:
            sum += cal_borsh_u8(&in);
            break;
        case 1:
            sum += cal_borsh_u16(&in);
            break;
        case 2:
            sum += cal_borsh_u32(&in);
            break;
        case 3:
            sum += (size_t)cal_borsh_u64(&in);
            break;
        case 4:
            sum += (size_t)cal_borsh_u128(&in).high;
            break;
        case 5:
            sum += cal_borsh_bool(&in);
            break;
        case 6:
            cal_borsh_fixed(&in, fixed, sizeof fixed);
            sum += touch(cal_slice_of(fixed, sizeof fixed));
            break;
        case 7:
            sum += touch(cal_borsh_bytes(&in, 1 << 20));
            break;
        case 8:
            sum += touch(cal_borsh_text(&in, SIZE_MAX));
            break;
        case 9:
            if (cal_borsh_count(&in, UINT32_MAX, 32) > in.left / 32) abort();
            break;
        }
        if (failed && !in.error) abort();
    }
    if (sum == SIZE_MAX - 1) return 1; /* keeps the reads */
    if ((cal_borsh_end(&in) == 0) != (in.error == 0)) abort();
    return 0;
}
