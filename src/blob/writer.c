/* Writing a blob: bytes fill a chunk, full chunks go to the store, the record goes last.
 *
 * The record is submitted only when every chunk is acknowledged, so a blob that has a record is
 * whole. A chunk is pinned before it is looked for in the store, and stays pinned until the record
 * is durable; one that is already there is not written again, unless its removal is on the way.
 *
 * `mutex` guards what the store's writer thread touches too: in_flight, error, the waiting
 * callback, the stage. The owner's thread has the rest. Whoever brings the work to its end (the
 * last acknowledgement, or the owner when none is outstanding) frees the writer. */
#include "blob/internal.h"

#include <assert.h>
#include <stdlib.h>

typedef enum writer_stage {
    WRITER_OPEN,
    WRITER_FINISHING,
    WRITER_RECORD,
    WRITER_ABORTED
} writer_stage;

struct cal_blobs_writer {
    cal_blobs *blobs;
    uint64_t max, size;
    cal_sha256_stream content;
    bool content_open;
    cal_buffer chunk;
    cal_buffer chunk_ids;
    uint8_t start[BLOB_SNIFF_SIZE];
    size_t start_len;

    pthread_mutex_t mutex;
    pthread_cond_t changed;
    writer_stage stage;
    uint32_t in_flight;
    int error;
    cal_blobs_ready ready;
    void *ready_user;
    cal_blobs_done done;
    void *done_user;
    cal_blob_id id;
    cal_blobs_info info;
};

int cal_blobs_create(cal_blobs *blobs, uint64_t max, cal_blobs_writer **ret_writer,
                     cal_error *err) {
    cal_blobs_writer *writer = calloc(1, sizeof *writer);
    if (!writer) return cal_fail(err, CAL_ENOMEM, "no memory to write a blob");
    if (cal_sha256_begin(&writer->content)) {
        free(writer);
        return cal_fail(err, CAL_ENOMEM, "no memory to write a blob");
    }
    const uint64_t record_max =
        (BLOB_RECORD_MAX - BLOB_RECORD_HEADER) / CAL_HASH_SIZE * (uint64_t)CAL_BLOB_CHUNK_SIZE;
    writer->blobs = blobs;
    writer->content_open = true;
    writer->max = max < record_max ? max : record_max;
    cal_buffer_init(&writer->chunk, CAL_BLOB_CHUNK_SIZE);
    cal_buffer_init(&writer->chunk_ids, BLOB_RECORD_MAX);
    pthread_mutex_init(&writer->mutex, NULL);
    pthread_cond_init(&writer->changed, NULL);
    blob_enter(blobs);
    *ret_writer = writer;
    return 0;
}

/* recorded: the record that lists the chunks is durable. */
static void writer_free(cal_blobs_writer *writer, bool recorded) {
    cal_blobs *blobs = writer->blobs;
    blob_unpin(blobs, writer->chunk_ids.data, writer->chunk_ids.len / CAL_HASH_SIZE, recorded);
    if (writer->content_open) cal_sha256_end(&writer->content, NULL);
    cal_buffer_deinit(&writer->chunk);
    cal_buffer_deinit(&writer->chunk_ids);
    pthread_mutex_destroy(&writer->mutex);
    pthread_cond_destroy(&writer->changed);
    free(writer);
    blob_leave(blobs);
}

/* The end of finishing: tells and frees. */
static void writer_conclude(cal_blobs_writer *writer, int result) {
    cal_blobs_done done = writer->done;
    void *user = writer->done_user;
    cal_blobs_info info = writer->info;
    if (result && writer->chunk_ids.len) atomic_store(&writer->blobs->garbage, true);
    writer_free(writer, result == 0);
    if (done) done(user, result, result ? NULL : &info);
}

static void writer_record_done(void *user, int result) { writer_conclude(user, result); }

/* Every chunk is durable: now the record may be. */
static void writer_submit_record(cal_blobs_writer *writer) {
    blob_record record = {.size = writer->size,
                          .mime = blob_sniff(cal_slice_of(writer->start, writer->start_len)),
                          .chunk_count = (uint32_t)(writer->chunk_ids.len / CAL_HASH_SIZE),
                          .chunk_ids = writer->chunk_ids.data};
    memcpy(record.hash, writer->info.hash, sizeof record.hash);
    blob_record_info(&writer->id, &record, &writer->info);
    cal_buffer bytes;
    cal_buffer_init(&bytes, BLOB_RECORD_MAX);
    cal_batch *batch = cal_batch_new();
    int error = batch ? blob_record_write(&record, &bytes) : CAL_ENOMEM;
    if (!error) {
        cal_batch_put(batch, CAL_COLUMN_BLOB,
                      cal_slice_of(writer->id.bytes, sizeof writer->id.bytes),
                      cal_buffer_slice(&bytes));
        cal_store_submit(writer->blobs->store, batch, writer_record_done, writer);
    } else {
        cal_batch_free(batch);
    }
    cal_buffer_deinit(&bytes);
    if (error) writer_conclude(writer, error);
}

/* --- chunks --- */

static void writer_chunk_done(void *user, int result) {
    cal_blobs_writer *writer = user;
    pthread_mutex_lock(&writer->mutex);
    writer->in_flight--;
    if (result && !writer->error) writer->error = result;
    cal_blobs_ready ready = NULL;
    void *ready_user = writer->ready_user;
    if (writer->ready && writer->in_flight < CAL_BLOBS_IN_FLIGHT) {
        ready = writer->ready;
        writer->ready = NULL;
    }
    int error = writer->error;
    writer_stage stage = writer->stage;
    bool last = writer->in_flight == 0;
    if (last && stage == WRITER_FINISHING) writer->stage = WRITER_RECORD;
    pthread_cond_signal(&writer->changed);
    pthread_mutex_unlock(&writer->mutex);
    /* Only in an ended stage may this thread free the writer; in the open one the owner may already
     * have done so. */
    if (last && stage == WRITER_ABORTED) writer_free(writer, false);
    if (last && stage == WRITER_FINISHING) {
        if (error)
            writer_conclude(writer, error);
        else
            writer_submit_record(writer);
    }
    if (ready) ready(ready_user, error);
}

/* Sends the filled chunk on its way. */
static int writer_send(cal_blobs_writer *writer) {
    cal_blobs *blobs = writer->blobs;
    uint8_t chunk_id[CAL_HASH_SIZE];
    cal_slice bytes = cal_buffer_slice(&writer->chunk);
    cal_sha256(bytes, chunk_id);
    bool removing = false;
    if (!cal_buffer_reserve(&writer->chunk_ids, CAL_HASH_SIZE)) return writer->chunk_ids.error;
    int error = blob_pin(blobs, chunk_id, &removing);
    if (error) return error;
    cal_buffer_append(&writer->chunk_ids, chunk_id,
                      sizeof chunk_id); /* there is room: pinned ids are always listed */
    blob_at(blobs, BLOB_AT_WRITE_PINNED);
    bool there = !removing && cal_store_get(blobs->store, CAL_COLUMN_BLOB_CHUNK,
                                            blob_chunk_key(chunk_id), NULL) == 0;
    blob_at(blobs, BLOB_AT_WRITE_SOUGHT);
    if (!there) {
        cal_batch *batch = cal_batch_new();
        if (!batch) return CAL_ENOMEM;
        cal_batch_put(batch, CAL_COLUMN_BLOB_CHUNK, blob_chunk_key(chunk_id), bytes);
        pthread_mutex_lock(&writer->mutex);
        writer->in_flight++;
        pthread_mutex_unlock(&writer->mutex);
        cal_store_submit(blobs->store, batch, writer_chunk_done, writer);
    }
    cal_buffer_reset(&writer->chunk);
    return 0;
}

static int writer_fail(cal_blobs_writer *writer, int error) {
    pthread_mutex_lock(&writer->mutex);
    if (error && !writer->error) writer->error = error;
    error = writer->error;
    pthread_mutex_unlock(&writer->mutex);
    return error;
}

static bool writer_has_room(const void *user) {
    return ((const cal_blobs_writer *)user)->in_flight < CAL_BLOBS_IN_FLIGHT;
}

static void writer_wait(cal_blobs_writer *writer) {
    pthread_mutex_lock(&writer->mutex);
    cal_store_wait(writer->blobs->store, &writer->mutex, &writer->changed, writer_has_room, writer);
    pthread_mutex_unlock(&writer->mutex);
}

static int writer_take(cal_blobs_writer *writer, cal_slice bytes, bool wait) {
    int error = writer_fail(writer, 0);
    if (!error && bytes.len > writer->max - writer->size) error = writer_fail(writer, CAL_ELIMIT);
    if (error) return error;
    cal_sha256_feed(&writer->content, bytes);
    writer->size += bytes.len;
    if (writer->start_len < BLOB_SNIFF_SIZE && bytes.len) {
        size_t take = BLOB_SNIFF_SIZE - writer->start_len < bytes.len
                          ? BLOB_SNIFF_SIZE - writer->start_len
                          : bytes.len;
        memcpy(writer->start + writer->start_len, bytes.data, take);
        writer->start_len += take;
    }
    while (bytes.len && !error) {
        size_t room = CAL_BLOB_CHUNK_SIZE - writer->chunk.len,
               take = bytes.len < room ? bytes.len : room;
        error = cal_buffer_append(&writer->chunk, bytes.data, take);
        bytes.data += take;
        bytes.len -= take;
        if (error || writer->chunk.len < CAL_BLOB_CHUNK_SIZE) continue;
        if (wait) writer_wait(writer);
        error = writer_fail(writer, 0);
        if (!error) error = writer_send(writer);
    }
    return writer_fail(writer, error);
}

static const char *writer_why(int error) {
    switch (error) {
    case CAL_ELIMIT:
        return "it is longer than is allowed";
    case CAL_EFULL:
        return "the disk is full; make room and try again";
    case CAL_EVERIFY:
        return "its content is not what was announced";
    default:
        return cal_error_text(error);
    }
}

int cal_blobs_write(cal_blobs_writer *writer, cal_slice bytes, cal_error *err) {
    int error = writer_take(writer, bytes, true);
    return error ? cal_fail(err, error, "the blob cannot be stored: %s", writer_why(error)) : 0;
}

int cal_blobs_write_async(cal_blobs_writer *writer, cal_slice bytes, cal_blobs_ready ready,
                          void *user) {
    if (bytes.len > CAL_BLOBS_PIECE_MAX) return writer_fail(writer, CAL_ELIMIT);
    int error = writer_take(writer, bytes, false);
    if (error) return error;
    pthread_mutex_lock(&writer->mutex);
    assert(!writer->ready);
    bool busy = writer->in_flight >= CAL_BLOBS_IN_FLIGHT;
    if (busy) {
        writer->ready = ready;
        writer->ready_user = user;
    }
    pthread_mutex_unlock(&writer->mutex);
    return busy ? CAL_EBUSY : 0;
}

/* --- ends --- */

void cal_blobs_finish_async(cal_blobs_writer *writer, const cal_blob_id *expected,
                            cal_blobs_done done, void *user) {
    writer->done = done;
    writer->done_user = user;
    int error = writer_fail(writer, 0);
    if (!error && writer->chunk.len) error = writer_send(writer);
    cal_sha256_end(&writer->content, writer->info.hash);
    writer->content_open = false;
    blob_id_of_chunks(writer->chunk_ids.data, writer->chunk_ids.len / CAL_HASH_SIZE, &writer->id);
    if (!error && expected &&
        memcmp(expected->bytes, writer->id.bytes, sizeof writer->id.bytes) != 0)
        error = CAL_EVERIFY;
    pthread_mutex_lock(&writer->mutex);
    assert(!writer->ready && writer->stage == WRITER_OPEN);
    if (error && !writer->error) writer->error = error;
    error = writer->error;
    bool last = writer->in_flight == 0;
    writer->stage = last ? WRITER_RECORD : WRITER_FINISHING;
    pthread_mutex_unlock(&writer->mutex);
    if (!last) return; /* the last acknowledgement goes on from here */
    if (error)
        writer_conclude(writer, error);
    else
        writer_submit_record(writer);
}

typedef struct writer_result {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool finished;
    int result;
    cal_blobs_info info;
} writer_result;

static void writer_wake(void *user, int result, const cal_blobs_info *info) {
    writer_result *wait = user;
    pthread_mutex_lock(&wait->mutex);
    wait->finished = true;
    wait->result = result;
    if (info) wait->info = *info;
    pthread_cond_signal(&wait->changed);
    pthread_mutex_unlock(&wait->mutex);
}

static bool writer_finished(const void *user) { return ((const writer_result *)user)->finished; }

int cal_blobs_finish(cal_blobs_writer *writer, const cal_blob_id *expected,
                     cal_blobs_info *ret_info, cal_error *err) {
    writer_result wait = {.finished = false};
    pthread_mutex_init(&wait.mutex, NULL);
    pthread_cond_init(&wait.changed, NULL);
    cal_store *store = writer->blobs->store; /* the writer is gone at the end */
    cal_blobs_finish_async(writer, expected, writer_wake, &wait);
    pthread_mutex_lock(&wait.mutex);
    cal_store_wait(store, &wait.mutex, &wait.changed, writer_finished, &wait);
    pthread_mutex_unlock(&wait.mutex);
    pthread_cond_destroy(&wait.changed);
    pthread_mutex_destroy(&wait.mutex);
    if (wait.result)
        return cal_fail(err, wait.result, "the blob cannot be stored: %s", writer_why(wait.result));
    if (ret_info) *ret_info = wait.info;
    return 0;
}

void cal_blobs_abort(cal_blobs_writer *writer) {
    if (!writer) return;
    if (writer->chunk_ids.len) atomic_store(&writer->blobs->garbage, true);
    pthread_mutex_lock(&writer->mutex);
    writer->stage = WRITER_ABORTED;
    writer->ready = NULL;
    bool last = writer->in_flight == 0;
    pthread_mutex_unlock(&writer->mutex);
    if (last) writer_free(writer, false);
}
