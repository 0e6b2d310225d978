/* Messages of /calimero-c/sync/1: whatever decodes encodes to the same bytes again. The first byte
 * picks request or answer. */
#include <stdlib.h>

#include "sync/bulk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int recode(bool request, cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    sync_bulk_request asked;
    sync_bulk_answer answer;
    int rc = request ? sync_bulk_request_decode(bytes, arena, &asked)
                     : sync_bulk_answer_decode(bytes, arena, &answer);
    if (rc != 0) return rc;
    return request ? sync_bulk_request_write(&asked, out) : sync_bulk_answer_write(&answer, out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 256 * 1024) return 0;
    cal_slice bytes = cal_slice_of(data + 1, size - 1);
    cal_arena arena;
    cal_buffer out;
    cal_arena_init(&arena, 64 << 20);
    cal_buffer_init(&out, 8 << 20);
    int rc = recode(data[0] % 2, bytes, &arena, &out);
    if (rc == 0 && !cal_slice_equal(cal_buffer_slice(&out), bytes)) abort();
    if (rc != 0 && out.len > 0) abort(); /* it decoded, and could not be written */
    cal_buffer_deinit(&out);
    cal_arena_deinit(&arena);
    return 0;
}
