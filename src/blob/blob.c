/* The blobs of a store: opening, pins, looking up and listing. Writers are in writer.c, readers in
 * reader.c, removal in collect.c.
 *
 * Why chunks are rows and not files: they share the store's encryption, its damage and disk-full
 * handling, its running copy and its crash behaviour, and a chunk can go into the same transaction
 * as what refers to it. docs/design/blob.md has the figures. */
#include "blob/internal.h"

#include <assert.h>
#include <stdlib.h>

int cal_blobs_open(cal_store *store, const cal_os *os, cal_blobs **ret_blobs, cal_error *err) {
    cal_blobs *blobs = calloc(1, sizeof *blobs);
    if (!blobs) return cal_fail(err, CAL_ENOMEM, "no memory for the blobs");
    if (!os) os = cal_os_posix();
    uint64_t seeds[2];
    os->random(os->user, seeds, sizeof seeds);
    blobs->store = store;
    cal_map_init(&blobs->pins, seeds[0]);
    cal_map_init(&blobs->removing, seeds[1]);
    pthread_mutex_init(&blobs->mutex, NULL);
    pthread_mutex_init(&blobs->collect_mutex, NULL);
    pthread_cond_init(&blobs->unused, NULL);
    *ret_blobs = blobs;
    return 0;
}

static bool blob_unused(const void *user) { return ((const cal_blobs *)user)->users == 0; }

void cal_blobs_close(cal_blobs *blobs) {
    if (!blobs) return;
    pthread_mutex_lock(&blobs->mutex);
    if (blobs->users) /* the store may be closed already when there are none */
        cal_store_wait(blobs->store, &blobs->mutex, &blobs->unused, blob_unused, blobs);
    pthread_mutex_unlock(&blobs->mutex);
    pthread_cond_destroy(&blobs->unused);
    cal_map_deinit(&blobs->pins);
    cal_map_deinit(&blobs->removing);
    pthread_mutex_destroy(&blobs->mutex);
    pthread_mutex_destroy(&blobs->collect_mutex);
    free(blobs->late);
    free(blobs);
}

void blob_enter(cal_blobs *blobs) {
    pthread_mutex_lock(&blobs->mutex);
    blobs->users++;
    pthread_mutex_unlock(&blobs->mutex);
}

void blob_leave(cal_blobs *blobs) {
    pthread_mutex_lock(&blobs->mutex);
    assert(blobs->users > 0);
    if (--blobs->users == 0) pthread_cond_broadcast(&blobs->unused);
    pthread_mutex_unlock(&blobs->mutex);
}

/* --- pins --- */

int blob_pin(cal_blobs *blobs, const uint8_t *chunk_id, bool *ret_removing) {
    cal_slice key = blob_chunk_key(chunk_id);
    pthread_mutex_lock(&blobs->mutex);
    uintptr_t count = (uintptr_t)cal_map_get(&blobs->pins, key);
    int error = cal_map_put(&blobs->pins, key, (void *)(count + 1));
    if (ret_removing) *ret_removing = cal_map_get(&blobs->removing, key) != NULL;
    pthread_mutex_unlock(&blobs->mutex);
    return error;
}

static void blob_unpin_one(cal_blobs *blobs, const uint8_t *chunk_id) {
    cal_slice key = blob_chunk_key(chunk_id);
    uintptr_t count = (uintptr_t)cal_map_get(&blobs->pins, key);
    assert(count > 0);
    if (count == 1)
        cal_map_remove(&blobs->pins, key);
    else
        cal_map_put(&blobs->pins, key, (void *)(count - 1)); /* replacing needs no memory */
}

/* Room for ids whose unpinning is put off; without memory they stay pinned until the restart, which
 * is safe. */
static bool blob_late_reserve(cal_blobs *blobs, size_t more) {
    if (blobs->late_count + more <= blobs->late_capacity) return true;
    size_t capacity = (blobs->late_count + more) * 2;
    blob_chunk_id *late = realloc(blobs->late, capacity * sizeof *late);
    if (!late) return false;
    blobs->late = late;
    blobs->late_capacity = capacity;
    return true;
}

void blob_unpin(cal_blobs *blobs, const uint8_t *chunk_ids, size_t count) {
    pthread_mutex_lock(&blobs->mutex);
    bool late = blobs->collecting > 0, room = !late || blob_late_reserve(blobs, count);
    for (size_t i = 0; i < count && room; i++) {
        const uint8_t *id = chunk_ids + i * CAL_HASH_SIZE;
        if (late)
            memcpy(blobs->late[blobs->late_count++].bytes, id, CAL_HASH_SIZE);
        else
            blob_unpin_one(blobs, id);
    }
    pthread_mutex_unlock(&blobs->mutex);
}

bool blob_pinned(const cal_blobs *blobs, const uint8_t *chunk_id) {
    return cal_map_get(&blobs->pins, blob_chunk_key(chunk_id)) != NULL;
}

void blob_collect_begin(cal_blobs *blobs) {
    pthread_mutex_lock(&blobs->collect_mutex);
    pthread_mutex_lock(&blobs->mutex);
    blobs->collecting++;
    pthread_mutex_unlock(&blobs->mutex);
}

void blob_collect_end(cal_blobs *blobs) {
    pthread_mutex_lock(&blobs->mutex);
    if (--blobs->collecting == 0) {
        for (size_t i = 0; i < blobs->late_count; i++) blob_unpin_one(blobs, blobs->late[i].bytes);
        blobs->late_count = 0;
    }
    pthread_mutex_unlock(&blobs->mutex);
    pthread_mutex_unlock(&blobs->collect_mutex);
}

/* --- looking up --- */

int cal_blobs_stat(cal_blobs *blobs, const cal_blob_id *id, cal_blobs_info *ret_info) {
    cal_buffer bytes;
    blob_record record;
    cal_buffer_init(&bytes, BLOB_RECORD_MAX);
    int error = cal_store_get(blobs->store, CAL_COLUMN_BLOB,
                              cal_slice_of(id->bytes, sizeof id->bytes), ret_info ? &bytes : NULL);
    if (!error && ret_info) error = blob_record_read(cal_buffer_slice(&bytes), &record);
    if (!error && ret_info) blob_record_info(id, &record, ret_info);
    cal_buffer_deinit(&bytes);
    return error;
}

int cal_blobs_each(cal_blobs *blobs, int (*visit)(void *user, const cal_blobs_info *info),
                   void *user, cal_error *err) {
    cal_snapshot *snapshot;
    cal_cursor *cursor = NULL;
    int error = cal_store_snapshot(blobs->store, &snapshot);
    if (error) return cal_fail(err, error, "cannot list the blobs: %s", cal_error_text(error));
    error =
        cal_cursor_open(snapshot, CAL_COLUMN_BLOB, (cal_slice){0}, (cal_slice){0}, false, &cursor);
    cal_slice key, value;
    int answer = 0;
    while (!error && !answer && (error = cal_cursor_next(cursor, &key, &value)) == 0) {
        blob_record record;
        cal_blobs_info info;
        cal_blob_id id;
        error = key.len == sizeof id.bytes ? blob_record_read(value, &record) : CAL_ECORRUPT;
        if (error) break;
        memcpy(id.bytes, key.data, sizeof id.bytes);
        blob_record_info(&id, &record, &info);
        answer = visit(user, &info);
    }
    cal_cursor_free(cursor);
    cal_snapshot_free(snapshot);
    if (answer) return answer;
    if (error == CAL_ENOTFOUND) return 0;
    return cal_fail(err, error, "cannot list the blobs: %s", cal_error_text(error));
}
