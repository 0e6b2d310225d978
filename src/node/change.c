/* One governance change: wait for the namespace to be idle, prepare, commit it together with the
 * rows it brings, tell gov. */
#include <stdlib.h>

#include "node/internal.h"

static void attempt(void *user);

static void durable(cal_task *task) {
    node_change *change = CAL_CONTAINER_OF(task, node_change, task);
    cal_error err;
    if (change->result == 0) {
        if (change->change) gov_change_commit(change->change);
        change->finished(change, NULL);
        return;
    }
    gov_change_abort(change->change);
    cal_fail(&err, change->result, "the change could not be stored: %s",
             cal_error_text(change->result));
    change->finished(change, &err);
}

static void stored(void *user, int result) { /* the store's writer thread */
    node_change *change = user;
    change->result = result;
    change->task.run = durable;
    node_post(change->node, &change->task);
}

static void refuse(node_change *change, const cal_error *err) {
    cal_batch_free(change->batch);
    change->batch = NULL;
    change->finished(change, err);
}

static void attempt(void *user) {
    node_change *change = user;
    cal_error err = {0};
    int rc = change->prepare ? change->prepare(change, &err) : 0;
    if (rc == CAL_EBUSY &&
        gov_when_idle(change->node->gov, &change->namespace_id, attempt, change) == 0)
        return;
    if (rc == 0 && !change->batch && !(change->batch = cal_batch_new())) rc = CAL_ENOMEM;
    if (rc == 0 && change->change)
        rc = cal_batch_merge(change->batch, gov_change_batch(change->change));
    if (rc != 0) {
        gov_change_abort(change->change);
        if (err.code == 0)
            cal_fail(&err, rc, "the change could not be prepared: %s", cal_error_text(rc));
        refuse(change, &err);
        return;
    }
    cal_batch *batch = change->batch;
    change->batch = NULL;
    cal_store_submit(change->node->store, batch, stored, change);
}

void node_change_run(node_change *change) { attempt(change); }
