/* Waiting for the store, and doing its writer's work by steps.
 *
 * Everything that blocks until a batch is answered goes through cal_store_wait, so that one place
 * knows whether there is a thread that answers. In a stepped store there is none: who waits does
 * the writer's work himself, one answer at a time, and stops as soon as he has his own. Answers
 * behind it are left to the next step, since giving them would run callbacks of others while the
 * waiting one still holds what they may need; with a writer thread they would have had to wait,
 * too.
 *
 * The order is the writer's: group, answers, checkpoint. Power may go between any two of them. */
#include "store/internal.h"

#include <assert.h>

/* One answer, committing the next group first when none is left of the last. */
static bool step_answer(cal_store *store) {
    if (cal_list_empty(&store->answers) && !store_writer_group(store)) return false;
    return store_writer_answer(store);
}

static bool step_queued(cal_store *store) {
    pthread_mutex_lock(&store->mutex);
    bool queued = !cal_list_empty(&store->queue);
    pthread_mutex_unlock(&store->mutex);
    return queued;
}

static void step_enter(cal_store *store) {
    assert(store->stepped && !store->stepping);
    store->stepping = true;
}

bool cal_store_step(cal_store *store) {
    step_enter(store);
    if (step_answer(store)) {
        while (store_writer_answer(store)) {
        }
    }
    store_checkpoint_inline(store);
    store->stepping = false;
    return step_queued(store);
}

void store_step_drain(cal_store *store) {
    while (step_queued(store) || !cal_list_empty(&store->answers)) cal_store_step(store);
}

void cal_store_wait(cal_store *store, pthread_mutex_t *mutex, pthread_cond_t *changed,
                    bool (*reached)(const void *user), const void *user) {
    if (!store->stepped) {
        assert(!pthread_equal(pthread_self(), store->writer));
        while (!reached(user)) pthread_cond_wait(changed, mutex);
        return;
    }
    step_enter(store);
    while (!reached(user)) {
        pthread_mutex_unlock(mutex);
        bool answered = step_answer(store);
        assert(answered); /* else nothing is on its way that could bring it about */
        pthread_mutex_lock(mutex);
    }
    if (cal_list_empty(&store->answers)) store_checkpoint_inline(store);
    store->stepping = false;
}

/* --- the blocking form of submitting --- */

typedef struct step_commit {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool finished;
    int result;
} step_commit;

static void step_committed(void *user, int result) {
    step_commit *commit = user;
    pthread_mutex_lock(&commit->mutex);
    commit->finished = true;
    commit->result = result;
    pthread_cond_signal(&commit->changed);
    pthread_mutex_unlock(&commit->mutex);
}

static bool step_finished(const void *user) { return ((const step_commit *)user)->finished; }

int cal_store_commit(cal_store *store, cal_batch *batch, cal_error *err) {
    step_commit commit = {.finished = false};
    pthread_mutex_init(&commit.mutex, NULL);
    pthread_cond_init(&commit.changed, NULL);
    cal_store_submit(store, batch, step_committed, &commit);
    pthread_mutex_lock(&commit.mutex);
    cal_store_wait(store, &commit.mutex, &commit.changed, step_finished, &commit);
    pthread_mutex_unlock(&commit.mutex);
    pthread_cond_destroy(&commit.changed);
    pthread_mutex_destroy(&commit.mutex);
    switch (commit.result) {
    case 0:
        return 0;
    case CAL_EFULL:
        return cal_fail(err, CAL_EFULL,
                        "the disk is full: nothing was written; make room and try again");
    case CAL_ECORRUPT:
        return cal_fail(err, CAL_ECORRUPT,
                        "the store is damaged: nothing was written; run a check");
    default:
        return cal_fail(err, commit.result, "the store could not write: %s",
                        cal_error_text(commit.result));
    }
}
