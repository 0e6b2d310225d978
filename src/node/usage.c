/* What contexts and namespaces hold, in bytes: the sums that http-api.md 5.3 and 5.5 show.
 *
 * A sum reads every row it counts, so it is made on a slow worker; the loop only gathers what to
 * count and hands out the answer. One snapshot for each context: a long sum must not keep the
 * store's log from starting over. A stop ends it between two contexts. */
#include <stdlib.h>

#include "node/internal.h"

struct usage {
    node_operation operation;
    cal_task work, answer;
    cal_namespace_usage *list;
    size_t count, capacity;
    int result;
    cal_usage_visitor visit;
    cal_simple_done done;
    void *user;
};

static int sum(cal_store *store, cal_column column, const uint8_t id[32], uint64_t *total) {
    cal_snapshot *snapshot = NULL;
    uint64_t bytes = 0;
    int rc = cal_store_snapshot(store, &snapshot);
    if (rc == 0) rc = cal_snapshot_size(snapshot, column, cal_slice_of(id, CAL_ID_SIZE), &bytes);
    cal_snapshot_free(snapshot);
    *total += bytes;
    return rc;
}

/* --- one context --- */

struct size {
    node_operation operation;
    cal_task work, answer;
    cal_context_id id;
    uint64_t bytes;
    int result;
    cal_size_done done;
    void *user;
};

static void size_answer(cal_task *task) {
    struct size *size = CAL_CONTAINER_OF(task, struct size, answer);
    cal_node *node = size->operation.node;
    cal_error err;
    if (size->result == CAL_ENOTFOUND)
        cal_fail(&err, CAL_ENOTFOUND, "Context not found");
    else if (size->result != 0)
        cal_fail(&err, size->result, "the context's size could not be read: %s",
                 cal_error_text(size->result));
    size->done(size->user, size->result == 0 ? NULL : &err, size->bytes);
    free(size);
    node_end(node);
}

static void size_work(cal_task *task) {
    struct size *size = CAL_CONTAINER_OF(task, struct size, work);
    cal_store *store = size->operation.node->store;
    const uint8_t *id = size->id.bytes;
    int rc = cal_store_get(store, CAL_COLUMN_CONTEXT, cal_slice_of(id, CAL_ID_SIZE), NULL);
    if (rc == 0) rc = sum(store, CAL_COLUMN_STATE, id, &size->bytes);
    if (rc == 0) rc = sum(store, CAL_COLUMN_PRIVATE_STATE, id, &size->bytes);
    size->result = rc;
    node_post(size->operation.node, &size->answer);
}

static void start_size(node_operation *operation) {
    struct size *size = CAL_CONTAINER_OF(operation, struct size, operation);
    size->work.run = size_work;
    size->answer.run = size_answer;
    node_slow(operation->node, &size->work);
}

void cal_context_size(cal_node *node, const cal_context_id *id, cal_size_done done, void *user) {
    struct size *size = calloc(1, sizeof *size);
    if (!size) {
        cal_error err;
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        done(user, &err, 0);
        return;
    }
    size->id = *id;
    size->done = done;
    size->user = user;
    node_begin(node, &size->operation, start_size);
}

/* --- all namespaces --- */

static void usage_answer(cal_task *task) {
    struct usage *usage = CAL_CONTAINER_OF(task, struct usage, answer);
    cal_node *node = usage->operation.node;
    cal_error err;
    if (usage->result == 0)
        for (size_t i = 0; i < usage->count; i++) usage->visit(usage->user, &usage->list[i]);
    else
        cal_fail(&err, usage->result, "what the namespaces hold could not be read: %s",
                 cal_error_text(usage->result));
    usage->done(usage->user, usage->result == 0 ? NULL : &err);
    free(usage->list);
    free(usage);
    node_end(node);
}

struct context_sum {
    cal_node *node;
    cal_namespace_usage *usage;
};

static int add_context(void *user, const cal_context_id *context) {
    const struct context_sum *add = user;
    cal_namespace_usage *usage = add->usage;
    if (cal_node_stopping(add->node)) return CAL_ECANCELED;
    cal_store *store = add->node->store;
    int rc = sum(store, CAL_COLUMN_STATE, context->bytes, &usage->state);
    if (rc == 0) rc = sum(store, CAL_COLUMN_PRIVATE_STATE, context->bytes, &usage->private_state);
    return rc == 0 ? sum(store, CAL_COLUMN_DELTA, context->bytes, &usage->delta) : rc;
}

static void usage_work(cal_task *task) {
    struct usage *usage = CAL_CONTAINER_OF(task, struct usage, work);
    cal_node *node = usage->operation.node;
    for (size_t i = 0; i < usage->count && usage->result == 0; i++) {
        cal_namespace_usage *one = &usage->list[i];
        struct context_sum add = {node, one};
        usage->result = gov_stored_contexts(node->store, &one->id, add_context, &add);
        if (usage->result == 0)
            usage->result =
                sum(node->store, CAL_COLUMN_GOVERNANCE, one->id.bytes, &one->governance);
        if (usage->result == 0)
            usage->result = sum(node->store, CAL_COLUMN_GROUP, one->id.bytes, &one->governance);
    }
    node_post(node, &usage->answer);
}

static void gather(void *user, const gov_group_info *group) {
    struct usage *usage = user;
    if (usage->count == usage->capacity) {
        size_t capacity = usage->capacity ? usage->capacity * 2 : 16;
        cal_namespace_usage *grown = realloc(usage->list, capacity * sizeof *grown);
        if (!grown) {
            usage->result = CAL_ENOMEM;
            return;
        }
        usage->list = grown;
        usage->capacity = capacity;
    }
    usage->list[usage->count++] = (cal_namespace_usage){.id = group->id,
                                                        .contexts = group->contexts,
                                                        .members = group->members,
                                                        .subgroups = group->subgroups};
}

static void start_usage(node_operation *operation) {
    struct usage *usage = CAL_CONTAINER_OF(operation, struct usage, operation);
    usage->work.run = usage_work;
    usage->answer.run = usage_answer;
    gov_namespace_each(operation->node->gov, gather, usage);
    node_slow(operation->node, &usage->work);
}

void cal_namespace_usage_each(cal_node *node, cal_usage_visitor visit, cal_simple_done done,
                              void *user) {
    struct usage *usage = calloc(1, sizeof *usage);
    if (!usage) {
        cal_error err;
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        done(user, &err);
        return;
    }
    usage->visit = visit;
    usage->done = done;
    usage->user = user;
    node_begin(node, &usage->operation, start_usage);
}
