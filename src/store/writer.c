/* The writer thread: everything that became ready while the last flush ran becomes the next
 * transaction.
 *
 * Invariants: batches are applied in the order of the queue, and each done callback runs after its
 * transaction is durable, in the same order. A group that fails as a whole is rolled back and its
 * batches are tried one by one. The writer's connection is touched by this thread alone (and by
 * store.c before the thread starts and after it ended). */
#include "store/internal.h"

#include "base/limits.h"
#include "base/log.h"

#include <assert.h>
#include <stdlib.h>

static int writer_connection(cal_store *store) {
    if (store->writer_conn && store->engine->usable(store->writer_conn)) return 0;
    store->engine->disconnect(store->writer_conn);
    store->writer_conn = NULL;
    return store->engine->connect(store->db, CAL_ENGINE_WRITER, &store->writer_conn, NULL);
}

/* One transaction over `batches`. Nothing of it remains when it fails. */
static int writer_transaction(cal_store *store, cal_batch *const *batches, size_t count) {
    const cal_engine *engine = store->engine;
    const cal_os *os = store->os;
    pthread_mutex_lock(&store->write_gate);
    int error = writer_connection(store);
    if (!error) error = engine->begin(store->writer_conn, true);
    if (!error) {
        for (size_t i = 0; i < count && !error; i++)
            error = batch_apply(batches[i], engine, store->writer_conn);
        uint64_t start = os->mono_ns(os->user);
        if (!error) error = engine->commit(store->writer_conn);
        uint64_t took = os->mono_ns(os->user) - start;
        if (error) engine->rollback(store->writer_conn);
        pthread_mutex_lock(&store->stats_mutex);
        if (!error) {
            store->stats.transactions++;
            store->stats.batches += count;
            store->stats.flush_ns_total += took;
        }
        pthread_mutex_unlock(&store->stats_mutex);
    }
    uint64_t log_pages = store->writer_conn ? engine->log_pages(store->writer_conn) : 0;
    pthread_mutex_unlock(&store->write_gate);
    if (!error) store_caretaker_poke(store, log_pages);
    return error;
}

static void writer_answer(cal_store *store, cal_batch *batch, int error) {
    pthread_mutex_lock(&store->stats_mutex);
    if (error) store->stats.failed++;
    store->stats.last_error = error;
    pthread_mutex_unlock(&store->stats_mutex);
    if (error == CAL_ECORRUPT) store_note(store, error);
    if (batch->done) batch->done(batch->user, error);
    cal_batch_free(batch);
}

static void writer_commit(cal_store *store, cal_batch **batches, size_t count) {
    if (atomic_load(&store->finish_checkpoint)) store_checkpoint_finish(store);
    int error = writer_transaction(store, batches, count);
    for (size_t i = 0; i < count; i++) {
        int own = error;
        if (error && count > 1) own = writer_transaction(store, &batches[i], 1);
        writer_answer(store, batches[i], own);
    }
}

/* Takes the next group from the queue; a batch that failed while it was put together is answered
 * where its turn comes. */
static size_t writer_take(cal_store *store, cal_batch **ret_batches) {
    size_t count = 0, bytes = 0;
    while (count < CAL_STORE_BATCHES_PER_TRANSACTION && !cal_list_empty(&store->queue)) {
        cal_batch *batch = CAL_CONTAINER_OF(store->queue.next, cal_batch, node);
        if (batch->error && count > 0) break;
        if (count > 0 && bytes + batch->bytes.len > STORE_TRANSACTION_BYTES_MAX) break;
        cal_list_remove(&batch->node);
        store->queue_count--;
        store->queue_bytes -= batch->bytes.len;
        bytes += batch->bytes.len;
        ret_batches[count++] = batch;
        if (batch->error) break;
    }
    return count;
}

static void *writer_main(void *arg) {
    cal_store *store = arg;
    cal_batch *batches[CAL_STORE_BATCHES_PER_TRANSACTION];
    for (;;) {
        pthread_mutex_lock(&store->mutex);
        while (cal_list_empty(&store->queue) && !store->stopping)
            pthread_cond_wait(&store->work, &store->mutex);
        size_t count = writer_take(store, batches);
        pthread_mutex_unlock(&store->mutex);
        if (count == 0) return NULL; /* stopping, and nothing left */
        if (batches[0]->error)
            writer_answer(store, batches[0], batches[0]->error);
        else
            writer_commit(store, batches, count);
    }
}

int store_writer_start(cal_store *store) {
    if (pthread_create(&store->writer, NULL, writer_main, store) != 0) return CAL_ENOMEM;
    store->writer_started = true;
    return 0;
}

void store_writer_stop(cal_store *store) {
    if (!store->writer_started) return;
    pthread_mutex_lock(&store->mutex);
    store->stopping = true;
    pthread_cond_signal(&store->work);
    pthread_mutex_unlock(&store->mutex);
    pthread_join(store->writer, NULL);
    store->writer_started = false;
}

void cal_store_submit(cal_store *store, cal_batch *batch, cal_store_done done, void *user) {
    batch->done = done;
    batch->user = user;
    pthread_mutex_lock(&store->mutex);
    assert(!store->stopping || pthread_equal(pthread_self(), store->writer));
    bool full = store->queue_count >= STORE_QUEUE_BATCHES_MAX ||
                store->queue_bytes + batch->bytes.len > STORE_QUEUE_BYTES_MAX;
    if (full && !batch->error) batch->error = CAL_EOVERLOAD;
    if (batch->error) { /* it keeps its place in the order of answers, not its memory */
        cal_buffer_deinit(&batch->bytes);
        batch->count = 0;
    }
    cal_list_push(&store->queue, &batch->node);
    store->queue_count++;
    store->queue_bytes += batch->bytes.len;
    pthread_cond_signal(&store->work);
    pthread_mutex_unlock(&store->mutex);
}

typedef struct writer_wait {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool finished;
    int result;
} writer_wait;

static void writer_wake(void *user, int result) {
    writer_wait *wait = user;
    pthread_mutex_lock(&wait->mutex);
    wait->finished = true;
    wait->result = result;
    pthread_cond_signal(&wait->cond);
    pthread_mutex_unlock(&wait->mutex);
}

int cal_store_commit(cal_store *store, cal_batch *batch, cal_error *err) {
    assert(!pthread_equal(pthread_self(), store->writer));
    writer_wait wait = {.finished = false};
    pthread_mutex_init(&wait.mutex, NULL);
    pthread_cond_init(&wait.cond, NULL);
    cal_store_submit(store, batch, writer_wake, &wait);
    pthread_mutex_lock(&wait.mutex);
    while (!wait.finished) pthread_cond_wait(&wait.cond, &wait.mutex);
    pthread_mutex_unlock(&wait.mutex);
    pthread_cond_destroy(&wait.cond);
    pthread_mutex_destroy(&wait.mutex);
    switch (wait.result) {
    case 0:
        return 0;
    case CAL_EFULL:
        return cal_fail(err, CAL_EFULL,
                        "the disk is full: nothing was written; make room and try again");
    case CAL_ECORRUPT:
        return cal_fail(err, CAL_ECORRUPT,
                        "the store is damaged: nothing was written; run a check");
    default:
        return cal_fail(err, wait.result, "the store could not write: %s",
                        cal_error_text(wait.result));
    }
}
