/* What leaves a call when it is over, and durable: the answer, then the delta to other nodes, then
 * events to subscribers, then its xcalls. The order is persist, apply, acknowledge, announce
 * (architecture.md). Loop thread. */
#include <stdlib.h>

#include "context/call.h"

/* NUL-terminated copies in the call's arena, "" when memory is short: only for showing. */
static const char *text_of(struct call *call, cal_slice text) {
    const char *copy = cal_arena_text(&call->guest.arena, text);
    return copy ? copy : "";
}

static void announce_events(struct call *call) {
    const cal_vm_outcome *outcome = &call->guest.outcome;
    if (!call->changed && outcome->event_count == 0) return;
    cal_app_event *events =
        cal_arena_alloc_array(&call->guest.arena, outcome->event_count, sizeof *events);
    if (!events) return;
    for (size_t i = 0; i < outcome->event_count; i++) {
        const cal_vm_event *event = &outcome->events[i];
        events[i] =
            (cal_app_event){.kind = text_of(call, event->kind),
                            .data = event->data.data,
                            .data_len = event->data.len,
                            .handler = event->has_handler ? text_of(call, event->handler) : NULL};
    }
    const cal_contexts_options *options = &call->guest.contexts->options;
    options->event(options->event_user, &(cal_event){.type = CAL_EVENT_STATE_MUTATION,
                                                     .context = call->guest.id,
                                                     .root = call->root,
                                                     .events = events,
                                                     .event_count = outcome->event_count});
}

static void reply(struct call *call) {
    cal_contexts *contexts = call->guest.contexts;
    const cal_vm_outcome *outcome = &call->guest.outcome;
    contexts->stats.calls++;
    contexts->stats.failed += call->guest.status != CAL_CALL_OK;
    contexts->stats.call_ns +=
        contexts->options.os->mono_ns(contexts->options.os->user) - call->began_ns;
    contexts->stats.gas += outcome->gas_used;
    const char **logs = cal_arena_alloc_array(&call->guest.arena, outcome->log_count, sizeof *logs);
    for (size_t i = 0; logs && i < outcome->log_count; i++)
        logs[i] = text_of(call, outcome->logs[i]);
    bool has_output = call->guest.status == CAL_CALL_OK && outcome->return_kind == CAL_VM_RETURN_OK;
    cal_call_result result = {.status = call->guest.status,
                              .error = call->guest.error,
                              .message = call->guest.message,
                              .output = has_output ? outcome->return_value.data : NULL,
                              .output_len = has_output ? outcome->return_value.len : 0,
                              .guest_error = call->guest.guest_error.data,
                              .guest_error_len = call->guest.guest_error.len,
                              .root = call->root,
                              .changed = call->changed,
                              .gas_used = outcome->gas_used,
                              .logs = logs,
                              .log_count = logs ? outcome->log_count : 0};
    if (call->turn.context) result.application = call->turn.context->record.application;
    call->done(call->user, &result);
}

void call_close(struct call *call) {
    cal_contexts *contexts = call->guest.contexts;
    size_t bytes = call->turn.cost;
    call_free(call);
    contexts_closed(contexts, bytes);
}

/* --- xcalls (runtime-abi.md 21) --- */

/* What an xcall must still know when it is answered: who asked, and whom. */
struct xcall {
    cal_contexts *contexts;
    cal_context_id source, target;
    struct call *call; /* while it runs */
    char function[CAL_VM_METHOD_MAX + 1];
};

static void announce_xcall(const struct xcall *xcall, cal_xcall_status status, const char *detail) {
    const cal_contexts_options *options = &xcall->contexts->options;
    options->event(options->event_user, &(cal_event){.type = CAL_EVENT_XCALL,
                                                     .context = xcall->source,
                                                     .xcall_target = xcall->target,
                                                     .xcall_function = xcall->function,
                                                     .xcall_status = status,
                                                     .xcall_detail = detail});
}

static void xcall_done(void *user, const cal_call_result *result) {
    struct xcall *xcall = user;
    if (result->status == CAL_CALL_OK)
        announce_xcall(xcall, CAL_XCALL_OK, "");
    else if (xcall->call->denied)
        announce_xcall(xcall, CAL_XCALL_DENIED, xcall->call->denied);
    else
        announce_xcall(xcall, CAL_XCALL_ERROR, result->message);
    free(xcall);
}

/* Why the target may not be called from here, or NULL. */
static const char *xcall_denial(const struct call *from, const struct xcall *xcall) {
    if (from->depth >= CAL_XCALL_DEPTH_MAX) return "xcall depth limit";
    struct context *target = NULL;
    if (contexts_find(from->guest.contexts, &xcall->target, &target) != 0 ||
        memcmp(&target->record.group, &from->turn.context->record.group,
               sizeof target->record.group) != 0)
        return "owning group boundary";
    cal_executor executor;
    const cal_context_authority *authority = &from->guest.contexts->options.authority;
    if (authority->executor(authority->user, &target->record.group, &executor) != 0)
        return "no owned member";
    if (method_is_reserved(xcall->function)) return "not an xcall entry point";
    return NULL;
}

static void dispatch_xcall(const struct call *from, const cal_vm_xcall *wanted) {
    struct xcall *xcall = calloc(1, sizeof *xcall);
    if (!xcall || wanted->function.len >= sizeof xcall->function) {
        free(xcall);
        return;
    }
    *xcall = (struct xcall){.contexts = from->guest.contexts, .source = from->guest.id};
    memcpy(xcall->target.bytes, wanted->context_id, CAL_ID_SIZE);
    if (wanted->function.len) memcpy(xcall->function, wanted->function.data, wanted->function.len);
    const char *denial = xcall_denial(from, xcall);
    struct call *call =
        denial ? NULL
               : call_new(from->guest.contexts, &xcall->target, xcall->function, wanted->params);
    if (!call) {
        announce_xcall(xcall, denial ? CAL_XCALL_DENIED : CAL_XCALL_ERROR,
                       denial ? denial : "out of memory");
        free(xcall);
        return;
    }
    call->is_xcall = true;
    call->origin = from->guest.id;
    call->origin_application = from->turn.context->record.application;
    call->depth = from->depth + 1;
    call->done = xcall_done;
    call->user = xcall;
    xcall->call = call;
    call_submit(call);
}

void call_answer(struct call *call) {
    reply(call);
    if (call->guest.status != CAL_CALL_OK) return;
    if (call->changed)
        contexts_tell(call->guest.contexts,
                      &(cal_authored_delta){.context = call->guest.id,
                                            .id = call->delta,
                                            .message = cal_buffer_slice(&call->message)});
    announce_events(call);
    for (size_t i = 0; i < call->guest.outcome.xcall_count; i++)
        dispatch_xcall(call, &call->guest.outcome.xcalls[i]);
}
