/* What deleted contexts and namespaces leave behind is taken away here, a step at a time on a slow
 * worker (store/removal.h): after each deletion, and at the start, for what a crash or a stop left.
 *
 * A namespace's rows say which contexts it had, so they go only when none of these has a record any
 * more; until then purge.c, or after a crash node_removals_recover, is not done with them. */
#include "node/internal.h"

enum { RECOVER_CONTEXTS = 256 }; /* in one transaction */

/* --- one thing --- */

static int remove_all(cal_node *node, const cal_removal *removal, const uint8_t id[32],
                      cal_error *err) {
    bool last = false;
    int rc = 0;
    while (rc == 0 && !last && !cal_node_stopping(node)) {
        cal_batch *batch = cal_batch_new();
        rc = batch ? cal_removal_step(removal, id, node->store, batch, &last) : CAL_ENOMEM;
        if (rc == 0)
            rc = cal_store_commit(node->store, batch, err);
        else
            cal_batch_free(batch);
        if (rc != 0 && err->code == 0) cal_fail(err, rc, "%s", cal_error_text(rc));
    }
    return rc;
}

/* --- finding what is to do --- */

struct found {
    cal_store *store;
    uint8_t id[32];
    bool any;
};

static int take(void *user, const uint8_t id[32]) {
    struct found *found = user;
    memcpy(found->id, id, 32);
    found->any = true;
    return 1;
}

static int has_record(void *user, const cal_context_id *context) {
    int rc =
        cal_store_get(user, CAL_COLUMN_CONTEXT, cal_slice_of(context->bytes, CAL_ID_SIZE), NULL);
    return rc == CAL_ENOTFOUND ? 0 : rc == 0 ? 1 : rc;
}

/* A namespace none of whose contexts has a record any more. */
static int take_namespace(void *user, const uint8_t id[32]) {
    struct found *found = user;
    cal_group_id namespace_id;
    memcpy(namespace_id.bytes, id, 32);
    int rc = gov_stored_contexts(found->store, &namespace_id, has_record, found->store);
    return rc == 1 ? 0 : rc == 0 ? take(user, id) : rc;
}

static int next(cal_store *store, const cal_removal **ret_removal, struct found *ret_found) {
    cal_snapshot *snapshot = NULL;
    *ret_found = (struct found){.store = store};
    int rc = cal_store_snapshot(store, &snapshot);
    *ret_removal = &cal_context_removal;
    if (rc == 0) rc = cal_removal_each(*ret_removal, snapshot, take, ret_found);
    if (rc == 0) {
        *ret_removal = &gov_removal;
        rc = cal_removal_each(*ret_removal, snapshot, take_namespace, ret_found);
    }
    cal_snapshot_free(snapshot);
    return rc < 0 ? rc : 0;
}

/* --- the task --- */

static void removal_ended(cal_task *task) {
    cal_node *node = CAL_CONTAINER_OF(task, cal_node, removal);
    node->removing = false;
    if (node->removal_due) node_remove(node);
    node_end(node);
}

static void removal_work(cal_task *task) {
    cal_node *node = CAL_CONTAINER_OF(task, cal_node, removal);
    const cal_removal *removal;
    struct found found = {.any = true};
    cal_error err = {0};
    int rc = 0;
    while (rc == 0 && found.any && !cal_node_stopping(node)) {
        rc = next(node->store, &removal, &found);
        if (rc == 0 && found.any) rc = remove_all(node, removal, found.id, &err);
    }
    if (rc != 0)
        cal_log(CAL_LOG_WARN, "node",
                "what deleted contexts left cannot be removed now (%s), it is tried again",
                err.code ? err.message : cal_error_text(rc));
    node->removal_failed = rc != 0;
    node->removal.run = removal_ended;
    node_post(node, &node->removal);
}

void node_remove(cal_node *node) {
    node->removal_due = node->removing;
    if (node->removing || node->stopping) return;
    node->removing = true;
    node->operations++;
    node->removal.run = removal_work;
    node_slow(node, &node->removal);
}

/* --- memory of deleted namespaces --- */

static void sweep(cal_task *task) {
    cal_node *node = CAL_CONTAINER_OF(task, cal_node, sweep);
    if (gov_sweep(node->gov)) {
        node_post(node, task);
        return;
    }
    node->sweeping = false;
    node_end(node);
}

void node_sweep(cal_node *node) {
    if (node->sweeping) return;
    node->sweeping = true;
    node->operations++;
    node->sweep.run = sweep;
    node_post(node, &node->sweep);
}

/* --- after a crash --- */

struct recovery {
    cal_store *store;
    cal_batch *batch;
    cal_error *err;
};

static int flush(struct recovery *recovery) {
    cal_batch *batch = recovery->batch;
    recovery->batch = NULL;
    return batch ? cal_store_commit(recovery->store, batch, recovery->err) : 0;
}

static int recover_context(void *user, const cal_context_id *context) {
    struct recovery *recovery = user;
    int rc = has_record(recovery->store, context);
    if (rc != 1) return rc;
    if (!recovery->batch && !(recovery->batch = cal_batch_new())) return CAL_ENOMEM;
    rc = cal_context_remove(recovery->batch, context);
    if (rc == 0 && cal_batch_count(recovery->batch) >= 2 * RECOVER_CONTEXTS) rc = flush(recovery);
    return rc;
}

static int recover_namespace(void *user, const uint8_t id[32]) {
    struct recovery *recovery = user;
    cal_group_id namespace_id;
    memcpy(namespace_id.bytes, id, 32);
    int rc = gov_stored_contexts(recovery->store, &namespace_id, recover_context, recovery);
    return rc == 0 ? flush(recovery) : rc;
}

int node_removals_recover(cal_store *store, cal_error *err) {
    struct recovery recovery = {.store = store, .err = err};
    cal_snapshot *snapshot = NULL;
    if (err) err->code = 0;
    int rc = cal_store_snapshot(store, &snapshot);
    if (rc == 0) rc = cal_removal_each(&gov_removal, snapshot, recover_namespace, &recovery);
    cal_snapshot_free(snapshot);
    cal_batch_free(recovery.batch);
    if (rc != 0 && (!err || err->code == 0))
        cal_fail(err, rc, "a namespace's deletion could not be completed: %s", cal_error_text(rc));
    return rc;
}
