/* The caretaker thread: keeps the write-ahead log short without stopping the writer.
 *
 * A passive checkpoint moves pages that no snapshot still needs from the log into the database file
 * while writers and readers go on. The log's file starts over only when a checkpoint has caught up
 * completely, which a busy writer can put off for ever; then (STORE_FINISH_PAGES) the writer itself
 * moves the few pages that came after the caretaker's pass, two flushes once per 16 MiB instead of
 * a log without end. A log that an old snapshot keeps growing is said in the log at each doubling
 * from 256 MiB on, and its size is part of cal_store_stats.bytes. When nothing was written for a
 * while a large log file is truncated; the writer can meet that only as the wait for one
 * truncation.
 *
 * On any world but the real one checkpoints run on the writer thread, so that a seed repeats its
 * run exactly; in a stepped store at the end of a step, after the answers, as the caretaker's come.
 */
#include "store/internal.h"

#include "base/log.h"

#include <time.h>

static void checkpoint_warn(cal_store *store, const cal_engine_checkpoint *result) {
    if (result->log_pages < STORE_LOG_WARN_PAGES || result->moved_pages >= result->log_pages) {
        if (result->moved_pages >= result->log_pages) store->log_warned = 0;
        return;
    }
    if (result->log_pages < 2 * store->log_warned) return;
    store->log_warned = result->log_pages;
    cal_log(
        CAL_LOG_WARN, "store",
        "the write-ahead log has grown to %llu MiB: a snapshot is open for long, or writes come "
        "faster than they can be moved into the database",
        (unsigned long long)(result->log_pages * STORE_PAGE_SIZE >> 20));
}

static void checkpoint_pass(cal_store *store, cal_engine_conn *conn) {
    cal_engine_checkpoint result = {0};
    pthread_mutex_lock(&store->log_gate);
    int error = store->engine->checkpoint(conn, false, &result);
    if (!error) {
        checkpoint_warn(store, &result);
        atomic_store(&store->log_moved,
                     result.log_pages); /* the next pass is due when as much has come again */
    }
    pthread_mutex_unlock(&store->log_gate);
    if (error == CAL_ECORRUPT)
        store_note(store, error);
    else if (error && error != CAL_EBUSY && error != CAL_EFULL)
        cal_log(CAL_LOG_WARN, "store", "a checkpoint failed (%s): %s", cal_error_name(error),
                store->engine->why(conn));
    /* The engine's figures are those of the pass's beginning; what the writer added since is what
     * keeps the log from starting over. */
    uint64_t now = atomic_load(&store->log_pages),
             behind = now > result.log_pages ? now - result.log_pages : 0;
    bool pinned = result.moved_pages < result.log_pages;
    /* Beyond the warning size the writer helps whatever it costs: a bulk load must not fill the
     * disk with its log. */
    bool cheap = !pinned && behind > 0 && behind < STORE_CHECKPOINT_PAGES;
    if (!error && now >= STORE_FINISH_PAGES && (cheap || now >= STORE_LOG_WARN_PAGES))
        atomic_store(&store->finish_checkpoint, true);
}

void store_checkpoint_finish(cal_store *store) {
    atomic_store(&store->finish_checkpoint, false);
    if (!store->writer_conn || pthread_mutex_trylock(&store->log_gate) != 0)
        return; /* a pass or a check is under way */
    cal_engine_checkpoint result;
    store->engine->checkpoint(store->writer_conn, false,
                              &result); /* what stays behind is tried at the next pass */
    pthread_mutex_unlock(&store->log_gate);
}

static void checkpoint_truncate(cal_store *store) {
    if (pthread_mutex_trylock(&store->write_gate) != 0) return; /* not idle after all */
    pthread_mutex_lock(&store->log_gate);
    cal_engine_checkpoint result;
    if (store->engine->checkpoint(store->care_conn, true, &result) == 0)
        atomic_store(&store->log_pages, 0);
    pthread_mutex_unlock(&store->log_gate);
    pthread_mutex_unlock(&store->write_gate);
}

static bool caretaker_connection(cal_store *store) {
    if (store->care_conn && store->engine->usable(store->care_conn)) return true;
    store->engine->disconnect(store->care_conn);
    store->care_conn = NULL;
    return store->engine->connect(store->db, CAL_ENGINE_WRITER, &store->care_conn, NULL) == 0;
}

/* Waits for work, or for a while without any. care_mutex is held. Returns whether it was idle. */
static bool caretaker_wait(cal_store *store, bool large) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += STORE_IDLE_MS / 1000;
    while (!store->caretaker_due && !store->caretaker_stopping) {
        if (!large)
            pthread_cond_wait(&store->care_work, &store->care_mutex);
        else if (pthread_cond_timedwait(&store->care_work, &store->care_mutex, &until) != 0)
            return true;
    }
    return false;
}

static void *caretaker_main(void *arg) {
    cal_store *store = arg;
    pthread_mutex_lock(&store->care_mutex);
    bool large = false;
    for (;;) {
        bool idle = caretaker_wait(store, large);
        if (store->caretaker_stopping) break;
        store->caretaker_due = false;
        pthread_mutex_unlock(&store->care_mutex);
        if (caretaker_connection(store)) {
            if (idle)
                checkpoint_truncate(store);
            else
                checkpoint_pass(store, store->care_conn);
        }
        large = !idle && atomic_load(&store->log_pages) >= STORE_TRUNCATE_PAGES;
        pthread_mutex_lock(&store->care_mutex);
    }
    pthread_mutex_unlock(&store->care_mutex);
    return NULL;
}

void store_caretaker_poke(cal_store *store, uint64_t log_pages) {
    if (log_pages < atomic_exchange(&store->log_pages, log_pages))
        atomic_store(&store->log_moved, 0); /* it started over */
    if (log_pages < atomic_load(&store->log_moved) + STORE_CHECKPOINT_PAGES) return;
    if (store->stepped) {
        store->checkpoint_due = true;
        return;
    }
    if (store->inline_checkpoints) {
        checkpoint_pass(store, store->writer_conn);
        return;
    }
    pthread_mutex_lock(&store->care_mutex);
    store->caretaker_due = true;
    pthread_cond_signal(&store->care_work);
    pthread_mutex_unlock(&store->care_mutex);
}

void store_checkpoint_inline(cal_store *store) {
    if (!store->checkpoint_due) return;
    store->checkpoint_due = false;
    if (store->writer_conn) checkpoint_pass(store, store->writer_conn);
}

int store_caretaker_start(cal_store *store) {
    if (store->inline_checkpoints) return 0;
    if (pthread_create(&store->caretaker, NULL, caretaker_main, store) != 0) return CAL_ENOMEM;
    store->caretaker_started = true;
    return 0;
}

void store_caretaker_stop(cal_store *store) {
    if (store->caretaker_started) {
        pthread_mutex_lock(&store->care_mutex);
        store->caretaker_stopping = true;
        pthread_cond_signal(&store->care_work);
        pthread_mutex_unlock(&store->care_mutex);
        pthread_join(store->caretaker, NULL);
        store->caretaker_started = false;
    }
    store->engine->disconnect(store->care_conn);
    store->care_conn = NULL;
}
