/* Removing chunks that no blob lists.
 *
 * A collection registers a page of candidates, takes a snapshot, strikes what a record in it lists,
 * and removes what is left, BLOB_COLLECT_BATCH chunks a transaction; each is asked for its pins in
 * one critical section with the submission of its removal. Safe beside writers: whose record came
 * after the snapshot has its chunks still pinned when they are asked for, or has let go of them
 * since the registration, which takes them out of every collection's candidates (blob_withdraw).
 * Who pins one later sees `removing` or finds it gone, and writes it again, behind the removal in
 * the store's order. Safe beside readers: who is open has pinned before the record went, and so
 * before the collection began.
 *
 * Several collections may run at once, beside anything else: nobody waits for a collection, and the
 * mutex is held for some of its chunks at a time. A crash leaves chunks that no record lists; the
 * node collects after a start.
 *
 * Memory is bounded: candidates are looked at a page at a time, and the records are walked once for
 * each page. Blocking; any worker. */
#include "blob/internal.h"

/* Strikes every id that `record` lists out of the candidates. Returns whether any is left. */
static bool collect_strike(cal_blobs *blobs, cal_map *candidates, const blob_record *record) {
    bool left = true;
    for (uint32_t at = 0; at < record->chunk_count && left; at += BLOB_LOCK_STEP) {
        uint32_t rest = record->chunk_count - at,
                 step = rest < BLOB_LOCK_STEP ? rest : BLOB_LOCK_STEP;
        blob_lock(blobs);
        for (uint32_t i = at; i < at + step; i++)
            cal_map_remove(candidates,
                           blob_chunk_key(record->chunk_ids + (size_t)i * CAL_HASH_SIZE));
        left = candidates->count > 0;
        blob_unlock(blobs);
    }
    return left;
}

int blob_strike_listed(cal_blobs *blobs, cal_map *candidates) {
    cal_snapshot *snapshot;
    cal_cursor *cursor = NULL;
    int error = cal_store_snapshot(blobs->store, &snapshot);
    if (error) return error;
    error =
        cal_cursor_open(snapshot, CAL_COLUMN_BLOB, (cal_slice){0}, (cal_slice){0}, false, &cursor);
    cal_slice key, value;
    bool left = true;
    while (!error && left && (error = cal_cursor_next(cursor, &key, &value)) == 0) {
        blob_record record;
        error = blob_record_read(
            value, &record); /* a damaged one: remove nothing, its chunks are unknown */
        if (!error) left = collect_strike(blobs, candidates, &record);
    }
    cal_cursor_free(cursor);
    cal_snapshot_free(snapshot);
    return error == CAL_ENOTFOUND ? 0 : error;
}

/* --- one transaction --- */

typedef struct collect_removal {
    blob_chunk_id ids[BLOB_COLLECT_BATCH];
    size_t count;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool finished;
    int result;
} collect_removal;

static void collect_wake(void *user, int result) {
    collect_removal *removal = user;
    pthread_mutex_lock(&removal->mutex);
    removal->finished = true;
    removal->result = result;
    pthread_cond_signal(&removal->changed);
    pthread_mutex_unlock(&removal->mutex);
}

static bool collect_finished(const void *user) { return ((const collect_removal *)user)->finished; }

static int collect_mark(cal_blobs *blobs, const uint8_t *id) {
    uintptr_t count = (uintptr_t)cal_map_get(&blobs->removing, blob_chunk_key(id));
    return cal_map_put(&blobs->removing, blob_chunk_key(id), (void *)(count + 1));
}

static void collect_unmark(cal_blobs *blobs, const uint8_t *id) {
    uintptr_t count = (uintptr_t)cal_map_get(&blobs->removing, blob_chunk_key(id));
    if (count > 1)
        cal_map_put(&blobs->removing, blob_chunk_key(id), (void *)(count - 1));
    else
        cal_map_remove(&blobs->removing, blob_chunk_key(id));
}

/* Decides about one chunk of the page: it goes with this removal, or is listed, or is spared. The
 * mutex is held. */
static int collect_decide(cal_blobs *blobs, blob_collection *collection, const uint8_t *id,
                          cal_batch *batch, collect_removal *removal) {
    if (!cal_map_remove(&collection->candidates, blob_chunk_key(id))) return 0;
    if (blob_spare(blobs, id)) return 0;
    int error = collect_mark(blobs, id);
    if (error) return error;
    memcpy(removal->ids[removal->count++].bytes, id, CAL_HASH_SIZE);
    cal_batch_delete(batch, CAL_COLUMN_BLOB_CHUNK, blob_chunk_key(id));
    return 0;
}

/* Goes on through the page, from *at, until a transaction is full or the mutex was held for long
 * enough, and submits it under that mutex: a writer that pins one of its chunks later writes it
 * again, and its batch comes behind this one. */
static int collect_submit(cal_blobs *blobs, blob_collection *collection, const uint8_t *chunk_ids,
                          size_t count, size_t *at, collect_removal *removal) {
    cal_batch *batch = cal_batch_new();
    if (!batch) return CAL_ENOMEM;
    size_t end = count - *at < BLOB_LOCK_STEP ? count : *at + BLOB_LOCK_STEP;
    int error = 0;
    blob_lock(blobs);
    while (*at < end && removal->count < BLOB_COLLECT_BATCH && !error)
        error =
            collect_decide(blobs, collection, chunk_ids + (*at)++ * CAL_HASH_SIZE, batch, removal);
    bool submit = !error && removal->count > 0;
    if (submit) {
        cal_store_submit(blobs->store, batch, collect_wake, removal);
    } else {
        for (size_t i = 0; i < removal->count; i++) collect_unmark(blobs, removal->ids[i].bytes);
        removal->count = 0;
    }
    blob_unlock(blobs);
    if (!submit) cal_batch_free(batch);
    return error;
}

static int collect_some(cal_blobs *blobs, blob_collection *collection, const uint8_t *chunk_ids,
                        size_t count, size_t *at, uint64_t *removed) {
    collect_removal removal = {.mutex = PTHREAD_MUTEX_INITIALIZER,
                               .changed = PTHREAD_COND_INITIALIZER};
    int error = collect_submit(blobs, collection, chunk_ids, count, at, &removal);
    if (error || removal.count == 0) return error;
    blob_at(blobs, BLOB_AT_REMOVING);
    pthread_mutex_lock(&removal.mutex);
    cal_store_wait(blobs->store, &removal.mutex, &removal.changed, collect_finished, &removal);
    pthread_mutex_unlock(&removal.mutex);
    blob_at(blobs, BLOB_AT_REMOVED);
    blob_lock(blobs);
    for (size_t i = 0; i < removal.count; i++) collect_unmark(blobs, removal.ids[i].bytes);
    blob_unlock(blobs);
    if (removal.result == 0) *removed += removal.count;
    return removal.result;
}

/* --- pages --- */

static int collect_page(cal_blobs *blobs, const uint8_t *chunk_ids, size_t count,
                        uint64_t *removed) {
    blob_collection collection;
    int error = 0;
    cal_list_init(&collection.node);
    cal_map_init(&collection.candidates, blobs->pins.seed);
    for (size_t i = 0; i < count && !error; i++)
        error = cal_map_put(&collection.candidates, blob_chunk_key(chunk_ids + i * CAL_HASH_SIZE),
                            blobs);
    blob_lock(blobs);
    cal_list_push(&blobs->collections, &collection.node);
    blob_unlock(blobs);
    blob_at(blobs, BLOB_AT_REGISTERED);
    if (!error) error = blob_strike_listed(blobs, &collection.candidates);
    blob_at(blobs, BLOB_AT_STRUCK);
    size_t at = 0;
    while (at < count && !error)
        error = collect_some(blobs, &collection, chunk_ids, count, &at, removed);
    blob_lock(blobs);
    cal_list_remove(&collection.node);
    blob_unlock(blobs);
    cal_map_deinit(&collection.candidates);
    return error;
}

int blob_remove_unused(cal_blobs *blobs, const uint8_t *chunk_ids, size_t count, uint64_t *removed,
                       cal_error *err) {
    int error = 0;
    for (size_t at = 0; at < count && !error; at += BLOB_COLLECT_PAGE) {
        size_t page = count - at < BLOB_COLLECT_PAGE ? count - at : BLOB_COLLECT_PAGE;
        error = collect_page(blobs, chunk_ids + at * CAL_HASH_SIZE, page, removed);
    }
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
    if (!error) blob_at(blobs, BLOB_AT_UNRECORDED);
    if (!error && (!readable ||
                   blob_remove_unused(blobs, record.chunk_ids, record.chunk_count, &removed, NULL)))
        atomic_store(&blobs->garbage, true);
    cal_buffer_deinit(&bytes);
    return error;
}
