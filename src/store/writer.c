/* The writer thread: everything that became ready while the last flush ran becomes the next
 * transaction.
 *
 * Invariants: batches are applied in the order of the queue, and each done callback runs after its
 * transaction is durable, in the same order. A group that fails as a whole is rolled back and its
 * batches are tried one by one, but for those whose lane one of them has broken. A lane is broken
 * when a batch of it fails, before any later one is looked at, so none that builds on the failed
 * one is ever applied. The writer's connection and the list of answers are touched by this thread
 * alone (and by store.c before the thread starts and after it ended); in a stepped store (step.c)
 * by whoever steps. */
#include "store/internal.h"

#include "base/limits.h"

#include <assert.h>

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
        if (!error || error == CAL_EIO) store->unsettled = error != 0;
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

/* Gives a batch its result. The lane of one that failed is broken from here on. */
static void writer_conclude(cal_store *store, cal_batch *batch, int result) {
    batch->result = result;
    if (result && batch->lane) {
        pthread_mutex_lock(&store->mutex);
        batch->lane->broken = true;
        pthread_mutex_unlock(&store->mutex);
    }
    cal_list_push(&store->answers, &batch->node);
}

static bool writer_lane_broken(cal_store *store, const cal_batch *batch) {
    if (!batch->lane) return false;
    pthread_mutex_lock(&store->mutex);
    bool broken = batch->lane->broken;
    pthread_mutex_unlock(&store->mutex);
    return broken;
}

/* A batch that is answered with a failure must not be there after a crash. On a disk that goes on
 * failing nothing can be done about it; the next commit that succeeds does it, too. */
static void writer_take_back(cal_store *store) {
    pthread_mutex_lock(&store->write_gate);
    if (writer_connection(store) == 0 && store->engine->settle(store->writer_conn) == 0)
        store->unsettled = false;
    pthread_mutex_unlock(&store->write_gate);
}

static void writer_commit(cal_store *store, cal_batch **batches, size_t count) {
    if (atomic_load(&store->finish_checkpoint)) store_checkpoint_finish(store);
    int error = writer_transaction(store, batches, count);
    for (size_t i = 0; i < count; i++) {
        int own = error;
        if (error && writer_lane_broken(store, batches[i]))
            own = CAL_ECANCELED; /* it builds on one that failed just now */
        else if (error && count > 1)
            own = writer_transaction(store, &batches[i], 1);
        writer_conclude(store, batches[i], own);
    }
    if (store->unsettled) writer_take_back(store);
}

/* Why a batch goes into no transaction, or 0. The mutex is held. */
static int writer_refusal(const cal_batch *batch) {
    return batch->lane && batch->lane->broken ? CAL_ECANCELED : batch->error;
}

/* Takes the next group from the queue; a batch that is refused is answered where its turn comes:
 * alone. */
static size_t writer_take(cal_store *store, cal_batch **ret_batches, int *ret_refusal) {
    size_t count = 0, bytes = 0;
    *ret_refusal = 0;
    while (count < CAL_STORE_BATCHES_PER_TRANSACTION && !cal_list_empty(&store->queue)) {
        cal_batch *batch = CAL_CONTAINER_OF(store->queue.next, cal_batch, node);
        int refusal = writer_refusal(batch);
        if (refusal && count > 0) break;
        if (count > 0 && bytes + batch->bytes.len > STORE_TRANSACTION_BYTES_MAX) break;
        cal_list_remove(&batch->node);
        store->queue_count--;
        store->queue_bytes -= batch->bytes.len;
        bytes += batch->bytes.len;
        ret_batches[count++] = batch;
        *ret_refusal = refusal;
        if (refusal) break;
    }
    return count;
}

bool store_writer_group(cal_store *store) {
    cal_batch *batches[CAL_STORE_BATCHES_PER_TRANSACTION];
    int refusal;
    pthread_mutex_lock(&store->mutex);
    size_t count = writer_take(store, batches, &refusal);
    pthread_mutex_unlock(&store->mutex);
    if (count == 0) return false;
    if (refusal)
        writer_conclude(store, batches[0], refusal);
    else
        writer_commit(store, batches, count);
    return true;
}

bool store_writer_answer(cal_store *store) {
    cal_list *first = cal_list_pop(&store->answers);
    if (!first) return false;
    cal_batch *batch = CAL_CONTAINER_OF(first, cal_batch, node);
    int result = batch->result;
    pthread_mutex_lock(&store->stats_mutex);
    if (result) store->stats.failed++;
    if (result != CAL_ECANCELED) store->stats.last_error = result;
    if (result == 0 || result == CAL_EFULL || result == CAL_EIO) store->ailing = result;
    pthread_mutex_unlock(&store->stats_mutex);
    if (result == CAL_ECORRUPT) store_note(store, result);
    if (batch->lane) {
        pthread_mutex_lock(&store->mutex);
        assert(batch->lane->waiting > 0);
        batch->lane->waiting--;
        pthread_mutex_unlock(&store->mutex);
    }
    if (batch->done) batch->done(batch->user, result);
    cal_batch_free(batch);
    return true;
}

static void *writer_main(void *arg) {
    cal_store *store = arg;
    for (;;) {
        pthread_mutex_lock(&store->mutex);
        while (cal_list_empty(&store->queue) && !store->stopping)
            pthread_cond_wait(&store->work, &store->mutex);
        pthread_mutex_unlock(&store->mutex);
        if (!store_writer_group(store)) return NULL; /* stopping, and nothing left */
        while (store_writer_answer(store)) {
        }
    }
}

int store_writer_start(cal_store *store) {
    if (store->stepped) return 0;
    if (pthread_create(&store->writer, NULL, writer_main, store) != 0) return CAL_ENOMEM;
    store->writer_started = true;
    return 0;
}

void store_writer_stop(cal_store *store) {
    if (store->stepped) store_step_drain(store);
    if (!store->writer_started) return;
    pthread_mutex_lock(&store->mutex);
    store->stopping = true;
    pthread_cond_signal(&store->work);
    pthread_mutex_unlock(&store->mutex);
    pthread_join(store->writer, NULL);
    store->writer_started = false;
}

void cal_store_submit_on(cal_store *store, cal_store_lane *lane, cal_batch *batch,
                         cal_store_done done, void *user) {
    batch->lane = lane;
    batch->done = done;
    batch->user = user;
    pthread_mutex_lock(&store->mutex);
    assert(!store->stopping || store->stepped || pthread_equal(pthread_self(), store->writer));
    bool full = store->queue_count >= STORE_QUEUE_BATCHES_MAX ||
                store->queue_bytes + batch->bytes.len > STORE_QUEUE_BYTES_MAX;
    if (full && !batch->error) batch->error = CAL_EOVERLOAD;
    if (batch->error) { /* it keeps its place in the order of answers, not its memory */
        cal_buffer_deinit(&batch->bytes);
        batch->count = 0;
    }
    bool first = cal_list_empty(&store->queue);
    cal_list_push(&store->queue, &batch->node);
    store->queue_count++;
    store->queue_bytes += batch->bytes.len;
    if (lane) lane->waiting++;
    pthread_cond_signal(&store->work);
    pthread_mutex_unlock(&store->mutex);
    if (first && store->stepped && store->due) store->due(store->due_user);
}

void cal_store_submit(cal_store *store, cal_batch *batch, cal_store_done done, void *user) {
    cal_store_submit_on(store, NULL, batch, done, user);
}

void cal_store_lane_mend(cal_store *store, cal_store_lane *lane) {
    pthread_mutex_lock(&store->mutex);
    assert(lane->waiting == 0);
    lane->broken = false;
    pthread_mutex_unlock(&store->mutex);
}
