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
    cal_list_init(&blobs->collections);
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
    free(blobs);
}

void blob_lock(cal_blobs *blobs) {
    pthread_mutex_lock(&blobs->mutex);
    blob_at(blobs, BLOB_AT_LOCKED);
}

void blob_unlock(cal_blobs *blobs) {
    blob_at(blobs, BLOB_AT_UNLOCKING);
    pthread_mutex_unlock(&blobs->mutex);
}

void blob_enter(cal_blobs *blobs) {
    blob_lock(blobs);
    blobs->users++;
    blob_unlock(blobs);
}

void blob_leave(cal_blobs *blobs) {
    blob_lock(blobs);
    assert(blobs->users > 0);
    if (--blobs->users == 0) pthread_cond_broadcast(&blobs->unused);
    blob_unlock(blobs);
}

/* --- pins --- */

/* A pin's value: twice how often, plus one when a collection spared the chunk for its users. */
enum { PIN_SPARED = 1, PIN_ONE = 2 };

int blob_pin(cal_blobs *blobs, const uint8_t *chunk_id, bool *ret_removing) {
    cal_slice key = blob_chunk_key(chunk_id);
    blob_lock(blobs);
    uintptr_t pin = (uintptr_t)cal_map_get(&blobs->pins, key);
    int error = cal_map_put(&blobs->pins, key, (void *)(pin + PIN_ONE));
    if (ret_removing) *ret_removing = cal_map_get(&blobs->removing, key) != NULL;
    blob_unlock(blobs);
    return error;
}

bool blob_spare(cal_blobs *blobs, const uint8_t *chunk_id) {
    cal_slice key = blob_chunk_key(chunk_id);
    uintptr_t pin = (uintptr_t)cal_map_get(&blobs->pins, key);
    if (pin) cal_map_put(&blobs->pins, key, (void *)(pin | PIN_SPARED)); /* replacing: no memory */
    return pin != 0;
}

/* The snapshot of a collection may be older than the record that lists the chunk now. */
static void blob_withdraw(cal_blobs *blobs, cal_slice key) {
    for (cal_list *at = blobs->collections.next; at != &blobs->collections; at = at->next)
        cal_map_remove(&CAL_CONTAINER_OF(at, blob_collection, node)->candidates, key);
}

static void blob_unpin_one(cal_blobs *blobs, const uint8_t *chunk_id, bool listed) {
    cal_slice key = blob_chunk_key(chunk_id);
    uintptr_t pin = (uintptr_t)cal_map_get(&blobs->pins, key);
    assert(pin >= PIN_ONE);
    if (listed) pin &= ~(uintptr_t)PIN_SPARED;
    pin -= PIN_ONE;
    if (pin == PIN_SPARED) atomic_store(&blobs->garbage, true);
    if (pin < PIN_ONE)
        cal_map_remove(&blobs->pins, key);
    else
        cal_map_put(&blobs->pins, key, (void *)pin);
    if (listed) blob_withdraw(blobs, key);
}

void blob_unpin(cal_blobs *blobs, const uint8_t *chunk_ids, size_t count, bool listed) {
    for (size_t at = 0; at < count; at += BLOB_LOCK_STEP) {
        size_t end = count - at < BLOB_LOCK_STEP ? count : at + BLOB_LOCK_STEP;
        blob_lock(blobs);
        for (size_t i = at; i < end; i++)
            blob_unpin_one(blobs, chunk_ids + i * CAL_HASH_SIZE, listed);
        blob_unlock(blobs);
    }
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
