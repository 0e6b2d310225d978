/* Deleting a namespace from this node, however many contexts it has: nothing here takes the loop
 * for longer than PURGE_STEP contexts need, and no transaction holds more.
 *
 *   1. From the first moment the namespace takes no new context or group (node_namespace_closing).
 *      When no change is open any more its contexts are known for good; a worker lists them.
 *   2. Each is held: when its writer is done, or when a deletion of its own has ended.
 *   3. One small transaction marks the namespace as removed. That is the decision: what fails
 * before it leaves everything as it was, what happens after it is completed, by the next start if
 *      need be (removal.c).
 *   4. The contexts' records go, step by step, and with each step these contexts from memory. Then
 *      the caller has the answer; rows and memory follow in the background. */
#include <stdlib.h>

#include "node/internal.h"

enum { PURGE_STEP = 64 };

struct purge {
    node_operation operation;
    cal_list link; /* in cal_node.purges */
    gov_commit change;
    cal_task work, step;
    cal_context_id *contexts;
    size_t count, capacity;
    size_t held;     /* the first `held` are ours */
    size_t released; /* of these, whose record is gone */
    size_t releasing;
    bool answered;  /* the context just asked for has said something */
    bool walking;   /* inside the step that asks */
    bool waiting;   /* for somebody else's deletion of the next context */
    uint64_t tried; /* at which deletion's end it was woken last */
    bool stalled;   /* decided, and the store does not take it now: tried again once a minute */
    int result;
    cal_simple_done done; /* NULL: has its answer */
    void *user;
};

static void post_step(struct purge *purge, void (*run)(cal_task *task)) {
    purge->step.run = run;
    node_post(node_of(&purge->change), &purge->step);
}

static void answer(struct purge *purge, const cal_error *err) {
    cal_simple_done done = purge->done;
    purge->done = NULL;
    if (done) done(purge->user, err);
}

static void end(struct purge *purge, const cal_error *err) {
    cal_node *node = node_of(&purge->change);
    cal_list_remove(&purge->link);
    node_deletion_ended(node);
    answer(purge, err);
    free(purge->contexts);
    free(purge);
    node_end(node);
}

/* Before the decision: everything stays. */
static void give_up(struct purge *purge, int rc, const char *message) {
    cal_error err;
    cal_fail(&err, rc, "%s", message);
    for (size_t i = 0; i < purge->held; i++)
        cal_contexts_delete_end(node_of(&purge->change)->contexts, &purge->contexts[i], false);
    end(purge, &err);
}

/* --- 4: records --- */

static void release(cal_task *task);

/* The node stops before the store took their removal: they are let go as removed, which the mark
 * says they are, and the next start completes it. */
static void leave_to_the_next_start(struct purge *purge) {
    for (size_t i = purge->released; i < purge->held; i++)
        cal_contexts_delete_end(node_of(&purge->change)->contexts, &purge->contexts[i], true);
    end(purge, NULL);
}

static void released(cal_task *task) {
    struct purge *purge = CAL_CONTAINER_OF(task, struct purge, step);
    cal_node *node = node_of(&purge->change);
    if (purge->result != 0) {
        cal_log(CAL_LOG_WARN, "node",
                "a deleted namespace's contexts cannot be removed now (%s), it is tried again",
                cal_error_text(purge->result));
        purge->stalled = true;
        answer(purge, NULL); /* decided all the same */
        if (node->stopping) leave_to_the_next_start(purge);
        return;
    }
    for (size_t i = 0; i < purge->releasing; i++) {
        const cal_context_id *id = &purge->contexts[purge->released + i];
        cal_contexts_delete_end(node->contexts, id, true);
        node_hear_context(node, id, false);
    }
    purge->released += purge->releasing;
    if (purge->released < purge->held) {
        release(task);
        return;
    }
    end(purge, NULL);
    node_sweep(node);
    node_remove(node);
}

static void stored(void *user, int result) { /* the store's writer */
    struct purge *purge = user;
    purge->result = result;
    post_step(purge, released);
}

static void release(cal_task *task) {
    struct purge *purge = CAL_CONTAINER_OF(task, struct purge, step);
    size_t left = purge->held - purge->released;
    purge->releasing = left < PURGE_STEP ? left : PURGE_STEP;
    cal_batch *batch = cal_batch_new();
    int rc = batch ? 0 : CAL_ENOMEM;
    for (size_t i = 0; i < purge->releasing && rc == 0; i++)
        rc = cal_context_remove(batch, &purge->contexts[purge->released + i]);
    if (rc == 0) {
        cal_store_submit(node_of(&purge->change)->store, batch, stored, purge);
        return;
    }
    cal_batch_free(batch);
    stored(purge, rc);
}

void node_purges_retry(cal_node *node) {
    for (cal_list *at = node->purges.next; at != &node->purges; at = at->next) {
        struct purge *purge = CAL_CONTAINER_OF(at, struct purge, link);
        if (!purge->stalled) continue;
        purge->stalled = false;
        post_step(purge, release);
    }
}

/* A stop does not wait for the disk to have room: the next start completes it. */
void node_purges_stop(cal_node *node) {
    for (cal_list *at = node->purges.next; at != &node->purges;) {
        struct purge *purge = CAL_CONTAINER_OF(at, struct purge, link);
        at = at->next;
        if (purge->stalled) leave_to_the_next_start(purge);
    }
}

/* --- 3: the decision --- */

static int prepare_purge(gov_commit *change, cal_error *err) {
    return gov_namespace_delete(node_of(change)->gov, &change->namespace_id, &change->change, err);
}

static void purge_decided(gov_commit *change, const cal_error *err) {
    struct purge *purge = CAL_CONTAINER_OF(change, struct purge, change);
    if (err) {
        give_up(purge, err->code, err->message);
        return;
    }
    node_hear_namespace(node_of(change), &change->namespace_id, false);
    post_step(purge, release);
}

/* --- 2: holding --- */

static void hold(cal_task *task);

static void context_held(void *user, const cal_error *err, cal_batch *batch) {
    struct purge *purge = user;
    cal_batch_free(batch); /* its record goes with others', later */
    purge->answered = true;
    if (err && err->code == CAL_EBUSY) {
        purge->waiting = true;
        return;
    }
    if (!err)
        purge->held++;
    else if (err->code == CAL_ENOTFOUND) /* registered, but not here: nothing to remove */
        purge->contexts[purge->held] = purge->contexts[--purge->count];
    else
        purge->result = err->code;
    if (!purge->walking) post_step(purge, hold);
}

static void hold(cal_task *task) {
    struct purge *purge = CAL_CONTAINER_OF(task, struct purge, step);
    purge->answered = purge->walking = true;
    for (size_t n = 0; n < PURGE_STEP && purge->held < purge->count && purge->answered &&
                       !purge->waiting && purge->result == 0;
         n++) {
        purge->answered = false;
        cal_contexts_delete(node_of(&purge->change)->contexts, &purge->contexts[purge->held],
                            context_held, purge);
    }
    purge->walking = false;
    if (purge->result != 0)
        give_up(purge, purge->result, "a context's record cannot be read");
    else if (!purge->answered || purge->waiting)
        return; /* context_held or node_deletion_ended goes on */
    else if (purge->held < purge->count)
        post_step(purge, hold);
    else
        node_commit(&purge->change);
}

/* Each waiting purge is tried once, on a later turn of the loop. */
void node_deletion_ended(cal_node *node) {
    uint64_t round = ++node->deletions_ended;
    for (cal_list *at = node->purges.next; at != &node->purges; at = at->next) {
        struct purge *purge = CAL_CONTAINER_OF(at, struct purge, link);
        if (!purge->waiting || purge->tried >= round) continue;
        purge->waiting = false;
        purge->tried = round;
        post_step(purge, hold);
    }
}

/* --- 1: listing --- */

static void listed(cal_task *task) {
    struct purge *purge = CAL_CONTAINER_OF(task, struct purge, step);
    if (purge->result != 0)
        give_up(purge, purge->result, cal_error_text(purge->result));
    else
        hold(task);
}

static int list_one(void *user, const cal_context_id *context) {
    struct purge *purge = user;
    if (purge->count == purge->capacity) {
        size_t capacity = purge->capacity ? purge->capacity * 2 : 64;
        cal_context_id *grown = realloc(purge->contexts, capacity * sizeof *grown);
        if (!grown) return CAL_ENOMEM;
        purge->contexts = grown;
        purge->capacity = capacity;
    }
    purge->contexts[purge->count++] = *context;
    return 0;
}

static void list(cal_task *task) {
    struct purge *purge = CAL_CONTAINER_OF(task, struct purge, work);
    purge->result = gov_stored_contexts(node_of(&purge->change)->store, &purge->change.namespace_id,
                                        list_one, purge);
    post_step(purge, listed);
}

static void purge_begin(void *user) {
    struct purge *purge = user;
    cal_node *node = node_of(&purge->change);
    cal_group_id of;
    if (gov_group_namespace(node->gov, &purge->change.namespace_id, &of) != 0 ||
        memcmp(&of, &purge->change.namespace_id, sizeof of) != 0) {
        give_up(purge, CAL_ENOTFOUND, "Namespace not found");
        return;
    }
    purge->work.run = list;
    node_slow(node, &purge->work);
}

static void start_purge(node_operation *operation) {
    struct purge *purge = CAL_CONTAINER_OF(operation, struct purge, operation);
    cal_node *node = operation->node;
    purge->change.owner = node;
    purge->change.prepare = prepare_purge;
    purge->change.finished = purge_decided;
    cal_list_init(&purge->link);
    if (node_namespace_closing(node, &purge->change.namespace_id)) {
        give_up(purge, CAL_ESTATE, "the namespace is being deleted");
        return;
    }
    cal_list_push(&node->purges, &purge->link);
    int rc = gov_when_idle(node->gov, &purge->change.namespace_id, purge_begin, purge);
    if (rc != 0) give_up(purge, rc, cal_error_text(rc));
}

bool node_namespace_closing(const cal_node *node, const cal_group_id *namespace_id) {
    for (const cal_list *at = node->purges.next; at != &node->purges; at = at->next) {
        const struct purge *purge = CAL_CONTAINER_OF((cal_list *)(uintptr_t)at, struct purge, link);
        if (memcmp(&purge->change.namespace_id, namespace_id, sizeof *namespace_id) == 0)
            return true;
    }
    return false;
}

void cal_namespace_delete(cal_node *node, const cal_group_id *id, cal_simple_done done,
                          void *user) {
    struct purge *purge = calloc(1, sizeof *purge);
    if (!purge) {
        cal_error err;
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        done(user, &err);
        return;
    }
    purge->change.namespace_id = *id;
    purge->done = done;
    purge->user = user;
    node_begin(node, &purge->operation, start_purge);
}
