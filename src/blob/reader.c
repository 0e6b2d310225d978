/* Reading a blob chunk by chunk.
 *
 * A reader pins the chunks of its blob instead of holding a snapshot: a snapshot held over a slow
 * download would keep one of the few read connections and make the store's log grow. The record is
 * looked up again after pinning; if it is still there, every later removal sees the pins. One
 * thread at a time. */
#include "blob/internal.h"

#include <stdlib.h>

struct cal_blobs_reader {
    cal_blobs *blobs;
    cal_buffer bytes; /* the record; `record` points into it */
    blob_record record;
    cal_buffer chunk;
    uint32_t loaded; /* the chunk in `chunk`, or UINT32_MAX */
    uint64_t at;
};

static int reader_load_record(cal_blobs_reader *reader, const cal_blob_id *id) {
    cal_store *store = reader->blobs->store;
    cal_slice key = cal_slice_of(id->bytes, sizeof id->bytes);
    int error = cal_store_get(store, CAL_COLUMN_BLOB, key, &reader->bytes);
    if (!error) error = blob_record_read(cal_buffer_slice(&reader->bytes), &reader->record);
    if (error) return error;
    blob_at(reader->blobs, BLOB_AT_READ_RECORD);
    uint32_t pinned = 0;
    while (pinned < reader->record.chunk_count && !error) {
        error = blob_pin(reader->blobs, reader->record.chunk_ids + (size_t)pinned * CAL_HASH_SIZE,
                         NULL);
        if (!error) pinned++;
    }
    blob_at(reader->blobs, BLOB_AT_READ_PINNED);
    if (!error) error = cal_store_get(store, CAL_COLUMN_BLOB, key, NULL);
    if (error) blob_unpin(reader->blobs, reader->record.chunk_ids, pinned, false);
    return error;
}

int cal_blobs_read_open(cal_blobs *blobs, const cal_blob_id *id, cal_blobs_reader **ret_reader,
                        cal_blobs_info *ret_info, cal_error *err) {
    cal_blobs_reader *reader = calloc(1, sizeof *reader);
    if (!reader) return cal_fail(err, CAL_ENOMEM, "no memory to read a blob");
    reader->blobs = blobs;
    reader->loaded = UINT32_MAX;
    cal_buffer_init(&reader->bytes, BLOB_RECORD_MAX);
    cal_buffer_init(&reader->chunk, CAL_BLOB_CHUNK_SIZE);
    int error = reader_load_record(reader, id);
    if (error) {
        cal_buffer_deinit(&reader->bytes);
        free(reader);
        if (error == CAL_ENOTFOUND) return cal_fail(err, error, "there is no such blob");
        return cal_fail(err, error, "cannot open the blob: %s", cal_error_text(error));
    }
    blob_enter(blobs);
    if (ret_info) blob_record_info(id, &reader->record, ret_info);
    *ret_reader = reader;
    return 0;
}

int cal_blobs_read_chunk(cal_blobs_reader *reader, cal_slice *ret_bytes) {
    if (reader->at >= reader->record.size) {
        *ret_bytes = (cal_slice){0};
        return 0;
    }
    uint32_t index = (uint32_t)(reader->at / CAL_BLOB_CHUNK_SIZE);
    size_t offset = (size_t)(reader->at % CAL_BLOB_CHUNK_SIZE);
    if (reader->loaded != index) {
        reader->loaded = UINT32_MAX;
        cal_buffer_reset(&reader->chunk);
        const uint8_t *id = reader->record.chunk_ids + (size_t)index * CAL_HASH_SIZE;
        int error = cal_store_get(reader->blobs->store, CAL_COLUMN_BLOB_CHUNK, blob_chunk_key(id),
                                  &reader->chunk);
        if (!error && reader->chunk.len != blob_chunk_size(&reader->record, index))
            error = CAL_ECORRUPT;
        if (error == CAL_ENOTFOUND || error == CAL_ELIMIT)
            error = CAL_ECORRUPT; /* the record says it is there */
        if (error) return error;
        reader->loaded = index;
    }
    *ret_bytes = cal_slice_of(reader->chunk.data + offset, reader->chunk.len - offset);
    reader->at += ret_bytes->len;
    return 0;
}

int64_t cal_blobs_read(cal_blobs_reader *reader, uint8_t *ret_bytes, size_t len) {
    size_t done = 0;
    while (done < len) {
        cal_slice bytes;
        int error = cal_blobs_read_chunk(reader, &bytes);
        if (error) return error;
        if (bytes.len == 0) break;
        size_t take = bytes.len < len - done ? bytes.len : len - done;
        memcpy(ret_bytes + done, bytes.data, take);
        reader->at -= bytes.len - take;
        done += take;
    }
    return (int64_t)done;
}

void cal_blobs_seek(cal_blobs_reader *reader, uint64_t offset) {
    reader->at = offset < reader->record.size ? offset : reader->record.size;
}

void cal_blobs_read_close(cal_blobs_reader *reader) {
    if (!reader) return;
    cal_blobs *blobs = reader->blobs;
    blob_unpin(blobs, reader->record.chunk_ids, reader->record.chunk_count, false);
    cal_buffer_deinit(&reader->bytes);
    cal_buffer_deinit(&reader->chunk);
    free(reader);
    blob_leave(blobs);
}
