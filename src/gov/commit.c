/* See commit.h. */
#include "gov/commit.h"

#include "base/error.h"

static void attempt(void *user);

static void durable(cal_task *task) {
    gov_commit *commit = CAL_CONTAINER_OF(task, gov_commit, task);
    cal_error err;
    if (commit->result == 0) {
        if (commit->durable) commit->durable(commit);
        if (commit->change) gov_change_commit(commit->change);
        commit->finished(commit, NULL);
        return;
    }
    gov_change_abort(commit->change);
    cal_fail(&err, commit->result, "the change could not be stored: %s",
             cal_error_text(commit->result));
    commit->finished(commit, &err);
}

static void stored(void *user, int result) { /* the store's writer thread */
    gov_commit *commit = user;
    const cal_runner *runner = commit->committer->runner;
    commit->result = result;
    commit->task.run = durable;
    runner->on_loop(runner->user, &commit->task);
}

static void refuse(gov_commit *commit, const cal_error *err) {
    cal_batch_free(commit->batch);
    commit->batch = NULL;
    commit->finished(commit, err);
}

/* Whether another change is in the way: then it is tried again when that has ended. */
static bool waits(gov_commit *commit) {
    commit->asking = true;
    commit->idle = false;
    int rc = gov_when_idle(commit->committer->gov, &commit->namespace_id, attempt, commit);
    commit->asking = false;
    return rc == 0 && !commit->idle;
}

static void attempt(void *user) {
    gov_commit *commit = user;
    cal_error err = {0};
    if (commit->asking) { /* no other change: what is busy is something else */
        commit->idle = true;
        return;
    }
    int rc = commit->prepare ? commit->prepare(commit, &err) : 0;
    if (rc == CAL_EBUSY && waits(commit)) return;
    if (rc == 0 && !commit->batch && commit->change && gov_change_empty(commit->change)) {
        durable(&commit->task); /* nothing to store */
        return;
    }
    if (rc == 0 && !commit->batch && !(commit->batch = cal_batch_new())) rc = CAL_ENOMEM;
    if (rc == 0 && commit->change)
        rc = cal_batch_merge(commit->batch, gov_change_batch(commit->change));
    if (rc != 0) {
        gov_change_abort(commit->change);
        if (err.code == 0)
            cal_fail(&err, rc, "the change could not be prepared: %s", cal_error_text(rc));
        refuse(commit, &err);
        return;
    }
    cal_batch *batch = commit->batch;
    commit->batch = NULL;
    cal_store_submit(commit->committer->store, batch, stored, commit);
}

void gov_commit_run(gov_commit *commit) { attempt(commit); }
