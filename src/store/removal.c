/* Marks and steps, see removal.h. */
#include "store/removal.h"

enum {
    REMOVAL_MARK_MAX = 64, /* longest name of a kind and an id */
    /* Of one transaction: some milliseconds. Freeing a MiB takes ten. */
    REMOVAL_STEP_ROWS = 256,
    REMOVAL_STEP_BYTES = 512 * 1024
};

static void mark_key(const cal_removal *removal, const uint8_t id[32], cal_buffer *ret_key) {
    cal_buffer_init(ret_key, REMOVAL_MARK_MAX);
    cal_buffer_append_slice(ret_key, cal_slice_text(removal->mark));
    cal_buffer_append(ret_key, id, 32);
}

int cal_removal_mark(const cal_removal *removal, const uint8_t id[32], cal_batch *batch) {
    cal_buffer key;
    mark_key(removal, id, &key);
    int rc = key.error
                 ? key.error
                 : cal_batch_put(batch, CAL_COLUMN_NODE, cal_buffer_slice(&key), (cal_slice){0});
    cal_buffer_deinit(&key);
    return rc;
}

int cal_removal_pending(const cal_removal *removal, const uint8_t id[32], cal_store *store) {
    cal_buffer key;
    mark_key(removal, id, &key);
    int rc =
        key.error ? key.error : cal_store_get(store, CAL_COLUMN_NODE, cal_buffer_slice(&key), NULL);
    cal_buffer_deinit(&key);
    return rc;
}

/* A walk over what begins so. */
static int prefix_cursor(cal_snapshot *snapshot, cal_column column, cal_slice prefix,
                         cal_cursor **ret_cursor) {
    cal_buffer end;
    cal_buffer_init(&end, REMOVAL_MARK_MAX);
    cal_prefix_end(prefix, &end);
    int rc = end.error ? end.error
                       : cal_cursor_open(snapshot, column, prefix, cal_buffer_slice(&end), false,
                                         ret_cursor);
    cal_buffer_deinit(&end);
    return rc;
}

int cal_removal_each(const cal_removal *removal, cal_snapshot *snapshot,
                     int (*visit)(void *user, const uint8_t id[32]), void *user) {
    cal_cursor *cursor = NULL;
    cal_slice prefix = cal_slice_text(removal->mark), key;
    int rc = prefix_cursor(snapshot, CAL_COLUMN_NODE, prefix, &cursor);
    while (rc == 0 && (rc = cal_cursor_next(cursor, &key, NULL)) == 0)
        rc = key.len == prefix.len + 32 ? visit(user, key.data + prefix.len) : CAL_ECORRUPT;
    cal_cursor_free(cursor);
    return rc == CAL_ENOTFOUND ? 0 : rc;
}

/* How many of its rows go in the next step: at least one, whatever its size, when there is any. */
static int count_step(cal_snapshot *snapshot, cal_column column, const uint8_t id[32],
                      uint32_t *ret_rows) {
    cal_cursor *cursor = NULL;
    cal_slice key, value;
    size_t bytes = 0;
    *ret_rows = 0;
    int rc = prefix_cursor(snapshot, column, cal_slice_of(id, 32), &cursor);
    while (rc == 0 && *ret_rows < REMOVAL_STEP_ROWS && bytes < REMOVAL_STEP_BYTES &&
           (rc = cal_cursor_next(cursor, &key, &value)) == 0) {
        bytes += key.len + value.len;
        ++*ret_rows;
    }
    cal_cursor_free(cursor);
    return rc == CAL_ENOTFOUND ? 0 : rc;
}

int cal_removal_step(const cal_removal *removal, const uint8_t id[32], cal_store *store,
                     cal_batch *batch, bool *ret_last) {
    cal_snapshot *snapshot = NULL;
    int rc = cal_store_snapshot(store, &snapshot);
    size_t at = 0;
    uint32_t rows = 0;
    while (rc == 0 && at < removal->column_count) {
        rc = count_step(snapshot, removal->columns[at], id, &rows);
        if (rc != 0 || rows > 0) break;
        at++;
    }
    cal_snapshot_free(snapshot);
    if (rc != 0) return rc;
    *ret_last = at == removal->column_count;
    if (!*ret_last)
        return cal_batch_delete_some(batch, removal->columns[at], cal_slice_of(id, 32), rows);
    cal_buffer key;
    mark_key(removal, id, &key);
    rc = key.error ? key.error : cal_batch_delete(batch, CAL_COLUMN_NODE, cal_buffer_slice(&key));
    cal_buffer_deinit(&key);
    return rc;
}
