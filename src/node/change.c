/* See change.h. */
#include "node/change.h"

#include <stdlib.h>

enum { CHANGE_ARENA_MAX = 8 * 1024 * 1024 };

static void finish(node_change *change, const cal_error *err) {
    cal_node *node = change->operation.node;
    change->answer(change, err);
    cal_arena_deinit(&change->arena);
    free(change);
    node_end(node);
}

static void finished(gov_commit *commit, const cal_error *err) {
    finish(CAL_CONTAINER_OF(commit, node_change, commit), err);
}

static int prepare(gov_commit *commit, cal_error *err) {
    node_change *change = CAL_CONTAINER_OF(commit, node_change, commit);
    if (!change->rows_only && node_namespace_closing(node_of(commit), &commit->namespace_id))
        return cal_fail(err, CAL_ESTATE, "the namespace is being deleted");
    return change->prepare(change, err);
}

static void start(node_operation *operation) {
    node_change *change = CAL_CONTAINER_OF(operation, node_change, operation);
    cal_node *node = operation->node;
    cal_error err;
    if (node->stopping || change->refusal) {
        cal_fail(&err, change->refusal ? change->refusal : CAL_ECANCELED, "%s",
                 change->refusal ? change->why : "the node is stopping");
        finish(change, &err);
        return;
    }
    if (!change->rows_only &&
        gov_group_namespace(node->gov, &change->group, &change->commit.namespace_id) != 0) {
        cal_fail(&err, CAL_ENOTFOUND, "no such group on this node");
        finish(change, &err);
        return;
    }
    change->commit.owner = node;
    change->commit.prepare = prepare;
    change->commit.finished = finished;
    node_commit(&change->commit);
}

static void answer(node_change *change, const cal_error *err) { change->done(change->user, err); }

void *node_change_new(size_t size, const cal_group_id *group,
                      int (*prepare_it)(node_change *change, cal_error *err), cal_simple_done done,
                      void *user) {
    node_change *change = calloc(1, size);
    if (!change) {
        cal_error err;
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        if (done) done(user, &err);
        return NULL;
    }
    if (group) change->group = *group;
    cal_arena_init(&change->arena, CHANGE_ARENA_MAX);
    change->prepare = prepare_it;
    change->answer = answer;
    change->done = done;
    change->user = user;
    return change;
}

void node_change_run(cal_node *node, node_change *change) {
    node_begin(node, &change->operation, start);
}

void node_change_refuse(cal_node *node, node_change *change, int code, const char *why) {
    change->refusal = code;
    change->why = why;
    node_change_run(node, change);
}

/* --- waiting --- */

bool node_wait_begin(node_wait *wait, cal_node *node, cal_error *err) {
    *wait = (node_wait){.err = err};
    if (cal_node_on_loop(node)) {
        node_no_waiting(err);
        return false;
    }
    node_waiter_init(&wait->waiter, node);
    return true;
}

void node_wait_done(void *user, const cal_error *err) {
    node_wait *wait = user;
    wait->code = err ? err->code : 0;
    if (err && wait->err) *wait->err = *err;
    node_waiter_finish(&wait->waiter);
}

int node_wait_end(node_wait *wait) {
    node_waiter_wait(&wait->waiter);
    return wait->code;
}

/* --- roots --- */

typedef struct root_list {
    cal_node *node;
    gov_context_root *items;
    uint32_t count;
} root_list;

static void add_root(void *user, const gov_context_info *info) {
    root_list *list = user;
    cal_context_record record;
    cal_arena arena;
    if (list->count == GOV_REMOVAL_ROOTS_MAX) return;
    cal_arena_init(&arena, NODE_ARENA_MAX);
    if (cal_contexts_get(list->node->contexts, &info->id, &arena, &record) == 0)
        list->items[list->count++] = (gov_context_root){.context = info->id, .root = record.root};
    cal_arena_deinit(&arena);
}

int node_context_roots(cal_node *node, const cal_group_id *group, cal_arena *arena,
                       gov_context_roots *ret_roots) {
    root_list list = {.node = node};
    list.items = cal_arena_alloc_array(arena, GOV_REMOVAL_ROOTS_MAX, sizeof *list.items);
    if (!list.items) return CAL_ENOMEM;
    int rc = gov_group_contexts(node->gov, group, add_root, &list);
    *ret_roots = (gov_context_roots){.items = list.items, .count = list.count};
    return rc;
}
