/* Removing chunks that no blob lists.
 *
 * Safe beside writers: the snapshot that says "nobody lists this chunk" is taken after unpinning
 * was put off (blob_collect_begin), so a chunk in use then is still pinned when the pins are asked,
 * in one critical section with the submission of its removal.
 *
 * Memory is bounded: candidates are looked at a page at a time, and the records are walked once for
 * each page. Blocking; any worker. */
#include "blob/internal.h"

/* Strikes every id that `record` lists out of the candidates. */
static void collect_strike(cal_map *candidates, const blob_record *record) {
    for (uint32_t i = 0; i < record->chunk_count && candidates->count; i++)
        cal_map_remove(candidates, blob_chunk_key(record->chunk_ids + (size_t)i * CAL_HASH_SIZE));
}

int blob_strike_listed(cal_blobs *blobs, cal_map *candidates) {
    cal_snapshot *snapshot;
    cal_cursor *cursor = NULL;
    int error = cal_store_snapshot(blobs->store, &snapshot);
    if (error) return error;
    error =
        cal_cursor_open(snapshot, CAL_COLUMN_BLOB, (cal_slice){0}, (cal_slice){0}, false, &cursor);
    cal_slice key, value;
    while (!error && candidates->count && (error = cal_cursor_next(cursor, &key, &value)) == 0) {
        blob_record record;
        error = blob_record_read(
            value, &record); /* a damaged one: remove nothing, its chunks are unknown */
        if (!error) collect_strike(candidates, &record);
    }
    cal_cursor_free(cursor);
    cal_snapshot_free(snapshot);
    return error == CAL_ENOTFOUND ? 0 : error;
}

typedef struct collect_wait {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool finished;
    int result;
} collect_wait;

static void collect_wake(void *user, int result) {
    collect_wait *wait = user;
    pthread_mutex_lock(&wait->mutex);
    wait->finished = true;
    wait->result = result;
    pthread_cond_signal(&wait->changed);
    pthread_mutex_unlock(&wait->mutex);
}

static bool collect_finished(const void *user) { return ((const collect_wait *)user)->finished; }

/* Marks those that nobody has pinned and submits their removal, both under the mutex: a writer that
 * pins one later writes it again, and its batch comes behind this one. */
static int collect_submit(cal_blobs *blobs, const blob_chunk_id *ids, size_t count,
                          blob_chunk_id *ret_gone, size_t *ret_count, collect_wait *wait) {
    cal_batch *batch = cal_batch_new();
    if (!batch) return CAL_ENOMEM;
    int error = 0;
    pthread_mutex_lock(&blobs->mutex);
    for (size_t i = 0; i < count && !error; i++) {
        if (blob_pinned(blobs, ids[i].bytes)) continue;
        error = cal_map_put(&blobs->removing, blob_chunk_key(ids[i].bytes), blobs);
        if (error) break;
        ret_gone[(*ret_count)++] = ids[i];
        cal_batch_delete(batch, CAL_COLUMN_BLOB_CHUNK, blob_chunk_key(ids[i].bytes));
    }
    if (error)
        cal_batch_free(batch);
    else
        cal_store_submit(blobs->store, batch, collect_wake, wait);
    pthread_mutex_unlock(&blobs->mutex);
    return error;
}

static int collect_remove(cal_blobs *blobs, const blob_chunk_id *ids, size_t count,
                          uint64_t *removed) {
    blob_chunk_id gone[BLOB_COLLECT_BATCH];
    size_t gone_count = 0;
    collect_wait wait = {.finished = false};
    pthread_mutex_init(&wait.mutex, NULL);
    pthread_cond_init(&wait.changed, NULL);
    int error = collect_submit(blobs, ids, count, gone, &gone_count, &wait);
    if (!error) {
        pthread_mutex_lock(&wait.mutex);
        cal_store_wait(blobs->store, &wait.mutex, &wait.changed, collect_finished, &wait);
        pthread_mutex_unlock(&wait.mutex);
        error = wait.result;
    }
    pthread_cond_destroy(&wait.changed);
    pthread_mutex_destroy(&wait.mutex);
    pthread_mutex_lock(&blobs->mutex);
    for (size_t i = 0; i < gone_count; i++)
        cal_map_remove(&blobs->removing, blob_chunk_key(gone[i].bytes));
    pthread_mutex_unlock(&blobs->mutex);
    if (!error) *removed += gone_count;
    return error;
}

static int collect_page(cal_blobs *blobs, const uint8_t *chunk_ids, size_t count,
                        uint64_t *removed) {
    cal_map candidates;
    int error = 0;
    cal_map_init(&candidates, blobs->pins.seed);
    for (size_t i = 0; i < count && !error; i++)
        error = cal_map_put(&candidates, blob_chunk_key(chunk_ids + i * CAL_HASH_SIZE), blobs);
    if (!error) error = blob_strike_listed(blobs, &candidates);
    cal_map_cursor cursor = {0};
    blob_chunk_id ids[BLOB_COLLECT_BATCH];
    size_t ready = 0;
    cal_slice key;
    void *value;
    while (!error && cal_map_next(&candidates, &cursor, &key, &value)) {
        memcpy(ids[ready++].bytes, key.data, CAL_HASH_SIZE);
        if (ready < BLOB_COLLECT_BATCH) continue;
        error = collect_remove(blobs, ids, ready, removed);
        ready = 0;
    }
    if (!error && ready) error = collect_remove(blobs, ids, ready, removed);
    cal_map_deinit(&candidates);
    return error;
}

int blob_remove_unused(cal_blobs *blobs, const uint8_t *chunk_ids, size_t count, uint64_t *removed,
                       cal_error *err) {
    int error = 0;
    blob_collect_begin(blobs);
    for (size_t at = 0; at < count && !error; at += BLOB_COLLECT_PAGE) {
        size_t page = count - at < BLOB_COLLECT_PAGE ? count - at : BLOB_COLLECT_PAGE;
        error = collect_page(blobs, chunk_ids + at * CAL_HASH_SIZE, page, removed);
    }
    blob_collect_end(blobs);
    return error ? cal_fail(err, error, "unused chunks could not be removed: %s",
                            cal_error_text(error))
                 : 0;
}

/* The next page of chunk ids after `last`, which is moved. Fewer than a page: that was the end. */
int blob_next_page(cal_blobs *blobs, cal_buffer *last, cal_buffer *ret_ids) {
    cal_snapshot *snapshot;
    cal_cursor *cursor = NULL;
    cal_slice key;
    int error = cal_store_snapshot(blobs->store, &snapshot);
    if (error) return error;
    error = cal_cursor_open(snapshot, CAL_COLUMN_BLOB_CHUNK, cal_buffer_slice(last), (cal_slice){0},
                            false, &cursor);
    while (!error && ret_ids->len < (size_t)BLOB_COLLECT_PAGE * CAL_HASH_SIZE &&
           (error = cal_cursor_next(cursor, &key, NULL)) == 0) {
        if (key.len == CAL_HASH_SIZE) error = cal_buffer_append_slice(ret_ids, key);
    }
    cal_cursor_free(cursor);
    cal_snapshot_free(snapshot);
    if (error && error != CAL_ENOTFOUND) return error;
    cal_buffer_reset(last);
    if (ret_ids->len == 0) return 0;
    cal_buffer_append(last, ret_ids->data + ret_ids->len - CAL_HASH_SIZE, CAL_HASH_SIZE);
    return cal_buffer_append_u8(last, 0); /* the smallest key behind it */
}

int cal_blobs_collect(cal_blobs *blobs, uint64_t *ret_removed, cal_error *err) {
    uint64_t removed = 0;
    cal_buffer last, ids;
    cal_buffer_init(&last, CAL_HASH_SIZE + 1);
    cal_buffer_init(&ids, (size_t)BLOB_COLLECT_PAGE * CAL_HASH_SIZE);
    atomic_store(&blobs->garbage, false);
    int error = 0;
    bool more = true;
    while (more && !error) {
        cal_buffer_reset(&ids);
        error = blob_next_page(blobs, &last, &ids);
        if (error)
            cal_fail(err, error, "cannot list the chunks: %s", cal_error_text(error));
        else
            error = blob_remove_unused(blobs, ids.data, ids.len / CAL_HASH_SIZE, &removed, err);
        more = ids.len == (size_t)BLOB_COLLECT_PAGE * CAL_HASH_SIZE;
    }
    cal_buffer_deinit(&last);
    cal_buffer_deinit(&ids);
    if (error) atomic_store(&blobs->garbage, true);
    if (!error && ret_removed) *ret_removed = removed;
    return error;
}

bool cal_blobs_garbage(cal_blobs *blobs) { return atomic_load(&blobs->garbage); }

int cal_blobs_delete(cal_blobs *blobs, const cal_blob_id *id, cal_error *err) {
    cal_slice key = cal_slice_of(id->bytes, sizeof id->bytes);
    cal_buffer bytes;
    blob_record record = {0};
    cal_buffer_init(&bytes, BLOB_RECORD_MAX);
    int error = cal_store_get(blobs->store, CAL_COLUMN_BLOB, key, &bytes);
    bool readable = !error && blob_record_read(cal_buffer_slice(&bytes), &record) == 0;
    if (error)
        error =
            cal_fail(err, error,
                     error == CAL_ENOTFOUND ? "there is no such blob" : "cannot look up the blob");
    cal_batch *batch = error ? NULL : cal_batch_new();
    if (!error && !batch) error = cal_fail(err, CAL_ENOMEM, "no memory to delete a blob");
    if (!error) {
        cal_batch_delete(batch, CAL_COLUMN_BLOB, key);
        error = cal_store_commit(blobs->store, batch, err);
    }
    /* The blob is gone; chunks that stay because a reader has them, or because this fails, are a
     * later collection's. */
    uint64_t removed = 0;
    if (!error &&
        (!readable ||
         blob_remove_unused(blobs, record.chunk_ids, record.chunk_count, &removed, NULL) ||
         removed < record.chunk_count))
        atomic_store(&blobs->garbage, true);
    cal_buffer_deinit(&bytes);
    return error;
}
