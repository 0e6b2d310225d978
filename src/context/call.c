/* A client's call: queued on the loop, run on a worker as a turn or as a view (runtime-abi.md 5,
 * 6), answered by answer.c. */
#include "context/call.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "context/commit.h"

static void call_run(struct turn *turn);
static void call_settled(struct turn *turn);
static void call_refused(struct turn *turn, int error, const char *why);

static const turn_kind call_kind = {
    .run = call_run, .settled = call_settled, .refused = call_refused};

static const char not_found[] = "No owned identity found for this context";
static const char not_initialised[] = "the context is not initialised yet";

/* --- making one --- */

struct call *call_new(cal_contexts *contexts, const cal_context_id *id, const char *method,
                      cal_slice args) {
    struct call *call = calloc(1, sizeof *call);
    if (!call) return NULL;
    guest_init(&call->guest, contexts, id);
    call->method = strdup(method);
    cal_buffer_init(&call->args, CAL_CALL_ARGS_MAX);
    turn_init(&call->turn, &call_kind, contexts, sizeof *call + strlen(method) + args.len);
    call->began_ns = contexts->options.os->mono_ns(contexts->options.os->user);
    if (!call->method || cal_buffer_append_slice(&call->args, args) != 0) {
        call_free(call);
        return NULL;
    }
    return call;
}

void call_free(struct call *call) {
    if (!call) return;
    turn_deinit(&call->turn);
    guest_deinit(&call->guest);
    cal_buffer_deinit(&call->args);
    cal_buffer_deinit(&call->message);
    free(call->method);
    free(call);
}

/* --- the guest: worker --- */

/* An xcall reaches only what the target's module opens (runtime-abi.md 21). */
static bool xcall_permitted(const struct call *call) {
    const cal_abi *abi = call->guest.module.abi;
    if (!abi->gates_xcalls) return true;
    const cal_abi_method *method = cal_abi_find(abi, call->method);
    if (!method || !method->xcall_callable) return false;
    return !method->xcall_same_app ||
           memcmp(call->origin_application.bytes, call->turn.context->record.application.bytes,
                  CAL_ID_SIZE) == 0;
}

/* With the module loaded and the overlay in place; says whether the method is one that changes
 * nothing. Who may only read runs the others as everybody does, so that a refusal is of what the
 * method did, not of what it made of writes that vanish (see refuse_changes). */
static void run_method(struct call *call, bool *ret_read_only) {
    const cal_contexts_options *options = &call->guest.contexts->options;
    const cal_abi_method *method = cal_abi_find(call->guest.module.abi, call->method);
    *ret_read_only = call->view || (method && method->intent == CAL_INTENT_READ_ONLY);
    guest_run(&call->guest,
              &(guest_call){.method = call->method,
                            .input = cal_buffer_slice(&call->args),
                            .xcall_origin = call->is_xcall ? call->origin.bytes : NULL,
                            .read_only = *ret_read_only,
                            .memory_max = options->memory_max,
                            .deadline_ms = options->deadline_ms});
}

/* Whether it may run at all: the code is here, and lets it in. */
static bool enter_module(struct call *call) {
    if (guest_load(&call->guest, call->turn.context->record.service) != 0) return false;
    if (!call->is_xcall || xcall_permitted(call)) return true;
    call->denied = "not an xcall entry point";
    guest_fail(&call->guest, CAL_CALL_FAILED, CAL_EDENIED, "%s", call->denied);
    return false;
}

static void fail_reading(struct call *call, int rc) {
    guest_fail(&call->guest, CAL_CALL_INTERNAL, rc, "the store cannot be read: %s",
               cal_error_text(rc));
}

/* --- as a turn --- */

/* Whether governance lets this node run it, and there is a state to run on. */
static bool check_turn(struct call *call, const struct context *context) {
    static const cal_hash zero;
    const cal_grant *grant = &context->grant;
    int rc = grant->result != 0 ? grant->result : grant->position_result;
    if (rc == CAL_EDENIED)
        guest_fail(&call->guest, CAL_CALL_UNAUTHORIZED, rc,
                   "this node is no member of the context's group");
    else if (rc != 0)
        guest_fail(&call->guest, CAL_CALL_INTERNAL, rc, "the context's group does not answer: %s",
                   cal_error_text(rc));
    else if (memcmp(&context->tip.record.root, &zero, sizeof zero) == 0)
        guest_fail(&call->guest, CAL_CALL_UNINITIALIZED, CAL_ESTATE, "%s", not_initialised);
    return call->guest.status == CAL_CALL_OK;
}

/* A new state: its batch, and the tip that the next turn builds on. */
static int keep_state(struct call *call, struct context *context) {
    struct commit commit = {.guest = &call->guest,
                            .base = &context->tip.record,
                            .grant = &context->grant,
                            .clock = &context->clock,
                            .message = &call->message};
    int rc = commit_build(&commit);
    call->turn.batch = commit.batch;
    if (rc == 0) rc = turn_take(&call->turn, &call->guest.overlay, true, true);
    if (rc == 0) rc = turn_leave(&call->turn, &commit.record);
    if (rc != 0) return rc;
    call->changed = true;
    call->root = commit.root;
    call->delta = commit.head;
    return 0;
}

/* The index is a cache of the guest's: kept also without a new root. */
static int keep_index(struct call *call) {
    call->turn.batch = cal_batch_new();
    int rc = call->turn.batch
                 ? cal_overlay_flush(&call->guest.overlay, false, true, call->turn.batch)
                 : CAL_ENOMEM;
    return rc == 0 ? turn_take(&call->turn, &call->guest.overlay, false, true) : rc;
}

/* Whether this node may only read; what a call changed is refused then. The reference drops it and
 * reports success (runtime-abi.md 6): who called would not learn that it is lost. */
static bool refuse_changes(struct call *call) {
    if (!call->guest.contexts->options.read_only && !call->guest.executor.read_only) return false;
    const cal_vm_outcome *outcome = &call->guest.outcome;
    bool same = memcmp(&outcome->root_hash, &call->root, sizeof call->root) == 0 &&
                !cal_overlay_has_private_changes(&call->guest.overlay);
    if (!outcome->has_root || same) return true; /* some methods commit whatever they did */
    guest_fail(&call->guest, CAL_CALL_FAILED, CAL_EDENIED,
               "`%.64s` changes the context's state, and %s: nothing was kept", call->method,
               call->guest.executor.read_only
                   ? "this node is a read-only member of the context's group"
                   : "this node is read-only");
    return true;
}

/* Whether anything of a successful call is kept, and then the batch that keeps it. */
static void keep_changes(struct call *call, struct context *context) {
    const cal_vm_outcome *outcome = &call->guest.outcome;
    int rc = 0;
    if (refuse_changes(call)) return;
    if (outcome->has_root && (!outcome->has_artifact || outcome->artifact.len == 0)) {
        guest_fail(&call->guest, CAL_CALL_INTERNAL, CAL_EINTERNAL,
                   "the application committed a state root without an artifact: its SDK and this "
                   "node disagree, nothing was kept");
        return;
    }
    if (outcome->has_root)
        rc = keep_state(call, context);
    else if (cal_overlay_has_index_changes(&call->guest.overlay))
        rc = keep_index(call);
    if (rc == 0) return;
    cal_batch_free(call->turn.batch);
    call->turn.batch = NULL;
    if (call->guest.status == CAL_CALL_OK)
        guest_fail(&call->guest, CAL_CALL_INTERNAL, rc,
                   "the call's changes could not be recorded: %s", cal_error_text(rc));
}

static void call_run(struct turn *turn) {
    struct call *call = CAL_CONTAINER_OF(turn, struct call, turn);
    struct context *context = turn->context;
    call->root = context->tip.record.root;
    if (!check_turn(call, context)) return;
    call->guest.executor = context->grant.executor;
    call->guest.code = context->grant.code;
    if (enter_module(call)) {
        int rc = guest_over_tip(&call->guest, context, cal_tip_top(&context->tip));
        bool read_only = true;
        if (rc != 0)
            fail_reading(call, rc);
        else
            run_method(call, &read_only);
        if (call->guest.status == CAL_CALL_OK && !read_only) keep_changes(call, context);
    }
    guest_unload(&call->guest);
    cal_buffer_deinit(&call->args);
    turn->kept = guest_shrink(&call->guest) + call->message.capacity;
}

/* --- as a view --- */

static void view_back(cal_task *task) {
    struct call *call = CAL_CONTAINER_OF(task, struct call, turn.task);
    struct context *context = call->turn.context;
    call_answer(call);
    context->views--;
    contexts_used(context); /* before the call closes: a drain that ends frees the context */
    call_close(call);
}

static void post_view_back(struct call *call) {
    const cal_runner *runner = call->guest.contexts->options.runner;
    call->turn.task.run = view_back;
    runner->on_loop(runner->user, &call->turn.task);
}

/* Whether the snapshot, which is younger than the loop's look, shows a state at all: an
 * installation or a removal may have come between. With the cache's version still the same nothing
 * has. */
static bool check_view(struct call *call) {
    static const cal_hash zero;
    struct guest *guest = &call->guest;
    if (call->version != CAL_CACHE_NONE && guest->overlay.cache_version == call->version)
        return true;
    cal_buffer row;
    cal_context_record record;
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int rc = cal_snapshot_get(call->snapshot, CAL_COLUMN_CONTEXT,
                              cal_slice_of(guest->id.bytes, CAL_ID_SIZE), &row);
    bool found = rc == 0;
    if (found) rc = cal_context_record_decode(cal_buffer_slice(&row), &guest->arena, &record);
    cal_buffer_deinit(&row);
    if (!found && rc == CAL_ENOTFOUND)
        guest_fail(guest, CAL_CALL_NOT_FOUND, rc, "%s", not_found);
    else if (rc != 0)
        fail_reading(call, rc);
    else if (memcmp(&record.root, &zero, sizeof zero) == 0)
        guest_fail(guest, CAL_CALL_UNINITIALIZED, CAL_ESTATE, "%s", not_initialised);
    else
        call->root = record.root;
    return guest->status == CAL_CALL_OK;
}

static void view_run(cal_task *task) {
    struct call *call = CAL_CONTAINER_OF(task, struct call, turn.task);
    if (enter_module(call)) {
        int rc = guest_over_snapshot(&call->guest, call->turn.context, &call->snapshot);
        bool read_only;
        if (rc != 0)
            fail_reading(call, rc);
        else if (check_view(call))
            run_method(call, &read_only);
    }
    guest_unload(&call->guest);
    cal_snapshot_free(call->snapshot);
    call->snapshot = NULL;
    post_view_back(call);
}

/* Views see what is durable, and wait for nobody. */
static void start_view(struct call *call, struct context *context) {
    static const cal_hash zero;
    const cal_runner *runner = call->guest.contexts->options.runner;
    call->view = true;
    call->turn.context = context;
    call->version = cal_context_cache_version(context->cache);
    call->root = context->record.root;
    context->views++;
    if (memcmp(&context->record.root, &zero, sizeof zero) == 0) {
        guest_fail(&call->guest, CAL_CALL_UNINITIALIZED, CAL_ESTATE, "%s", not_initialised);
        post_view_back(call);
        return;
    }
    call->turn.task.run = view_run;
    runner->on_worker(runner->user, &call->turn.task);
}

/* --- in and out: loop --- */

static void refuse(struct call *call, cal_call_status status, int error, const char *text) {
    guest_fail(&call->guest, status, error, "%s", text);
    call->guest.contexts->stats.refused++;
    call_answer(call);
    call_close(call);
}

static void call_refused(struct turn *turn, int error, const char *why) {
    struct call *call = CAL_CONTAINER_OF(turn, struct call, turn);
    refuse(call, error == CAL_ENOTFOUND ? CAL_CALL_NOT_FOUND : CAL_CALL_INTERNAL, error, why);
}

static void call_settled(struct turn *turn) {
    struct call *call = CAL_CONTAINER_OF(turn, struct call, turn);
    int rc = turn->result;
    if (rc == CAL_ECANCELED)
        guest_fail(&call->guest, CAL_CALL_INTERNAL, rc,
                   "an earlier call of this context could not be stored, nothing of this one was "
                   "kept: try again");
    else if (rc != 0)
        guest_fail(&call->guest, CAL_CALL_INTERNAL, rc,
                   "the call's changes could not be stored, nothing was kept: %s",
                   cal_error_text(rc));
    if (rc != 0) { /* what it says of a state that never became durable says nothing */
        call->guest.guest_error = (cal_slice){0};
        call->guest.outcome.log_count = 0;
        call->changed = false;
        call->root = turn->context->record.root;
    }
    call_answer(call);
    call_close(call);
}

void call_submit(struct call *call) {
    cal_contexts *contexts = call->guest.contexts;
    struct context *context = NULL;
    const char *why = NULL;
    int rc = contexts_admit(contexts, call->turn.cost, &why);
    contexts_opened(contexts, call->turn.cost);
    if (rc != 0) {
        refuse(call, CAL_CALL_INTERNAL, rc, why);
        return;
    }
    rc = contexts_find(contexts, &call->guest.id, &context);
    if (rc == 0 && context->deleting) rc = CAL_ENOTFOUND;
    if (rc == CAL_ENOTFOUND) {
        refuse(call, CAL_CALL_NOT_FOUND, rc, not_found);
        return;
    }
    if (rc != 0) {
        refuse(call, CAL_CALL_INTERNAL, rc, "the context's record cannot be read");
        return;
    }
    int granted = grant_view(context, &call->guest.executor, &call->guest.code);
    if (!call->in_order && granted == 0 &&
        cal_modules_known_view(contexts->modules, &call->guest.code, context->record.service,
                               call->method))
        start_view(call, context);
    else
        turn_enter(&call->turn, context);
}
