/* Records of installed applications: what decodes encodes to the same bytes. */
#include <stdlib.h>

#include "app/app.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const cal_application_id id;
    cal_arena arena;
    cal_application application;
    cal_buffer again;
    cal_arena_init(&arena, 16 << 20);
    cal_buffer_init(&again, 16 << 20);
    if (cal_application_decode(&arena, &id, cal_slice_of(data, size), &application) == 0) {
        if (cal_application_encode(&application, &again) != 0 ||
            !cal_slice_equal(cal_buffer_slice(&again), cal_slice_of(data, size)))
            abort();
    }
    cal_buffer_deinit(&again);
    cal_arena_deinit(&arena);
    return 0;
}
