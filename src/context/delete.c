/* The turn of a removal: it waits until everything in flight is durable, refuses what waits, and
 * holds the place until the node says how the removal ended. What is removed, and in which
 * transactions, is not decided here. Loop thread. */
#include <assert.h>
#include <stdlib.h>

#include "base/error.h"
#include "context/internal.h"

struct deletion {
    struct turn turn;
    cal_context_delete_ready ready;
    void *user;
};

static void refuse(cal_context_delete_ready ready, void *user, int error, const char *why) {
    cal_error err;
    cal_fail(&err, error, "%s", why);
    ready(user, &err, NULL);
}

static void deletion_refused(struct turn *turn, int error, const char *why) {
    struct deletion deletion = *CAL_CONTAINER_OF(turn, struct deletion, turn);
    cal_contexts *contexts = turn->contexts;
    turn->context->deleting = false;
    turn_deinit(turn);
    free(CAL_CONTAINER_OF(turn, struct deletion, turn));
    refuse(deletion.ready, deletion.user, error, why);
    contexts_release(contexts);
}

/* The place is ours: nothing runs, nothing is in flight. */
static void deletion_settled(struct turn *turn) {
    struct deletion deletion = *CAL_CONTAINER_OF(turn, struct deletion, turn);
    struct context *context = turn->context;
    cal_contexts *contexts = turn->contexts;
    cal_batch *batch = cal_batch_new();
    turn_deinit(turn);
    free(CAL_CONTAINER_OF(turn, struct deletion, turn));
    if (batch) {
        cal_context_remove(batch, &context->id);        /* a failure sticks to the batch */
        cal_context_cache_commit_begin(context->cache); /* to views that have begun before */
        deletion.ready(deletion.user, NULL, batch);     /* open until cal_contexts_delete_end */
        return;
    }
    context->deleting = false;
    refuse(deletion.ready, deletion.user, CAL_ENOMEM, "out of memory while removing a context");
    turn_end(context);
    contexts_release(contexts);
}

static const turn_kind deletion_kind = {
    .exclusive = true, .settled = deletion_settled, .refused = deletion_refused};

void cal_contexts_delete(cal_contexts *contexts, const cal_context_id *id,
                         cal_context_delete_ready ready, void *user) {
    struct context *context = NULL;
    int rc = contexts_find(contexts, id, &context);
    if (rc == 0 && context->deleting) rc = context->deleted ? CAL_ENOTFOUND : CAL_EBUSY;
    struct deletion *deletion = rc == 0 ? calloc(1, sizeof *deletion) : NULL;
    if (!deletion) {
        refuse(ready, user, rc == 0 ? CAL_ENOMEM : rc,
               rc == CAL_ENOTFOUND ? "Context not found"
               : rc == CAL_EBUSY   ? "the context is being deleted"
               : rc == 0           ? "out of memory while removing a context"
                                   : "the context's record cannot be read");
        return;
    }
    turn_init(&deletion->turn, &deletion_kind, contexts, sizeof *deletion);
    deletion->ready = ready;
    deletion->user = user;
    contexts_hold(contexts);
    context->pins++;
    context->deleting = true;
    turns_halt(context);
    handlers_drop(context);
    turns_refuse(context, CAL_ENOTFOUND, "the context is being deleted");
    turn_enter(&deletion->turn, context);
    context->pins--;
}

void cal_contexts_delete_end(cal_contexts *contexts, const cal_context_id *id, bool deleted) {
    struct context *context = cal_map_get(&contexts->table, cal_slice_of(id->bytes, CAL_ID_SIZE));
    assert(context && context->deleting && context->holder);
    context->deleting = context->deleted = deleted;
    if (deleted) cal_contexts_listen(contexts, id, false);
    cal_context_cache_commit_end(context->cache);
    context->pins++;
    turn_end(context);
    context->pins--;
    contexts_used(context);
    contexts_release(contexts);
}
