/* Any bytes as the record of a blob; what is accepted encodes to the same bytes. */
#include "blob/internal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    blob_record record;
    blob_sniff(cal_slice_of(data, size));
    if (blob_record_read(cal_slice_of(data, size), &record)) return 0;
    cal_buffer again;
    cal_blobs_info info;
    cal_blob_id id = {{0}};
    cal_buffer_init(&again, BLOB_RECORD_MAX);
    if (size <= BLOB_RECORD_MAX && (blob_record_write(&record, &again) || again.len != size ||
                                    memcmp(again.data, data, size) != 0))
        abort();
    uint64_t total = 0;
    for (uint32_t i = 0; i < record.chunk_count; i++) total += blob_chunk_size(&record, i);
    if (total != record.size) abort();
    blob_record_info(&id, &record, &info);
    cal_buffer_deinit(&again);
    return 0;
}
