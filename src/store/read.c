/* Reading: a pool of read connections, snapshots, cursors.
 *
 * A snapshot is a read transaction on a connection of its own; SQLite fixes what it sees when the
 * transaction reads for the first time, which the engine's begin does before it returns. A
 * connection that met damage is closed instead of given back, so the next reader starts clean.
 *
 * Nobody waits for a reader: a thread that holds one may need another (a guest that opens a blob),
 * and waiting for each other they would wait for ever. The pool only bounds how many idle
 * connections are kept; STORE_READERS_LIMIT is far above what the node's threads can hold at once,
 * and beyond it a reader is refused.
 *
 * Taking and giving: any thread; a snapshot and its cursors: one thread at a time. */
#include "store/internal.h"

#include <assert.h>
#include <stdlib.h>

struct cal_snapshot {
    cal_store *store;
    cal_engine_conn *conn;
    uint32_t cursors;
    bool cached; /* with a cache of its own size */
};

struct cal_cursor {
    cal_snapshot *snapshot;
    cal_engine_cursor *engine;
};

int store_reader_take(cal_store *store, cal_engine_conn **ret_conn) {
    pthread_mutex_lock(&store->reader_mutex);
    int error = store->readers_used == STORE_READERS_LIMIT ? CAL_EOVERLOAD : 0;
    if (!error) store->readers_used++;
    cal_engine_conn *conn = !error && store->idle_count ? store->idle[--store->idle_count] : NULL;
    pthread_mutex_unlock(&store->reader_mutex);
    if (error) return error;
    if (!conn) error = store->engine->connect(store->db, CAL_ENGINE_READER, &conn, NULL);
    if (error) {
        store_reader_give(store, NULL);
        return store_note(store, error);
    }
    *ret_conn = conn;
    return 0;
}

void store_reader_give(cal_store *store, cal_engine_conn *conn) {
    if (conn && !store->engine->usable(conn)) {
        store->engine->disconnect(conn);
        conn = NULL;
    }
    pthread_mutex_lock(&store->reader_mutex);
    bool keep = conn && store->idle_count < store->readers_max;
    if (keep) store->idle[store->idle_count++] = conn;
    store->readers_used--;
    pthread_mutex_unlock(&store->reader_mutex);
    if (!keep) store->engine->disconnect(conn);
}

int cal_store_snapshot(cal_store *store, cal_snapshot **ret_snapshot) {
    cal_snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (!snapshot) return CAL_ENOMEM;
    snapshot->store = store;
    int error = store_reader_take(store, &snapshot->conn);
    if (!error) {
        error = store->engine->begin(snapshot->conn, false);
        if (error) store_reader_give(store, snapshot->conn);
        store_note(store, error);
    }
    if (error) {
        free(snapshot);
        return error;
    }
    *ret_snapshot = snapshot;
    return 0;
}

void cal_snapshot_free(cal_snapshot *snapshot) {
    if (!snapshot) return;
    assert(snapshot->cursors == 0);
    snapshot->store->engine->rollback(snapshot->conn);
    if (snapshot->cached) snapshot->store->engine->cache(snapshot->conn, 0);
    store_reader_give(snapshot->store, snapshot->conn);
    free(snapshot);
}

void cal_snapshot_cache(cal_snapshot *snapshot, uint32_t kib) {
    snapshot->store->engine->cache(snapshot->conn, kib);
    snapshot->cached = kib != 0;
}

int cal_snapshot_get(cal_snapshot *snapshot, cal_column column, cal_slice key,
                     cal_buffer *ret_value) {
    cal_store *store = snapshot->store;
    return store_note(store, store->engine->get(snapshot->conn, column, key, ret_value));
}

int cal_store_get(cal_store *store, cal_column column, cal_slice key, cal_buffer *ret_value) {
    cal_engine_conn *conn;
    int error = store_reader_take(store, &conn);
    if (error) return error;
    error =
        store_note(store, store->engine->get(conn, column, key,
                                             ret_value)); /* one statement is its own snapshot */
    store_reader_give(store, conn);
    return error;
}

int cal_cursor_open(cal_snapshot *snapshot, cal_column column, cal_slice lo, cal_slice hi,
                    bool descending, cal_cursor **ret_cursor) {
    cal_cursor *cursor = calloc(1, sizeof *cursor);
    if (!cursor) return CAL_ENOMEM;
    cal_store *store = snapshot->store;
    int error =
        store->engine->cursor_open(snapshot->conn, column, lo, hi, descending, &cursor->engine);
    if (error) {
        free(cursor);
        return store_note(store, error);
    }
    cursor->snapshot = snapshot;
    snapshot->cursors++;
    *ret_cursor = cursor;
    return 0;
}

int cal_cursor_next(cal_cursor *cursor, cal_slice *ret_key, cal_slice *ret_value) {
    cal_store *store = cursor->snapshot->store;
    return store_note(store, store->engine->cursor_next(cursor->engine, ret_key, ret_value));
}

void cal_cursor_free(cal_cursor *cursor) {
    if (!cursor) return;
    cursor->snapshot->store->engine->cursor_close(cursor->engine);
    cursor->snapshot->cursors--;
    free(cursor);
}

int cal_snapshot_size(cal_snapshot *snapshot, cal_column column, cal_slice prefix,
                      uint64_t *ret_bytes) {
    cal_store *store = snapshot->store;
    cal_buffer end;
    cal_buffer_init(&end, CAL_STORE_KEY_MAX);
    cal_prefix_end(prefix, &end);
    int error = end.error;
    if (!error)
        error =
            store->engine->size(snapshot->conn, column, prefix, cal_buffer_slice(&end), ret_bytes);
    cal_buffer_deinit(&end);
    return store_note(store, error);
}
