/* Handlers of the events that other nodes' deltas bring (runtime-abi.md 21): once the delta is
 * durable each runs as an ordinary call of this node, in its own turn, in the order of deltas and
 * of their lists. One that fails is logged, and the rest go on.
 *
 * They wait here, beside the queue of turns, and enter it as it has room, so that clients find room
 * too. They live in memory: what waits when the node stops, or when the context goes, does not run.
 * Loop thread. */
#include <stdlib.h>

#include "base/log.h"
#include "context/call.h"

struct handler {
    cal_list link;
    struct context *context; /* pinned */
    char method[CAL_VM_METHOD_MAX + 1];
    size_t len;
    uint8_t data[];
};

static size_t cost(const struct handler *handler) { return sizeof *handler + handler->len; }

static void leave_out(cal_contexts *contexts, const char *why) {
    if (contexts->stats.handlers_dropped++ % HANDLERS_DROPPED_LOG == 0)
        cal_log(CAL_LOG_WARN, "context", "the handler of an event does not run: %s", why);
}

void handlers_add(struct context *context, const char *method, cal_slice data) {
    cal_contexts *contexts = context->contexts;
    const char *why = NULL;
    size_t method_len = strlen(method);
    if (contexts->draining || context->deleting)
        why = "the node or the context is going";
    else if (method_len == 0 || method_len > CAL_VM_METHOD_MAX)
        why = "its name is none";
    else if (method_is_reserved(method))
        why = "its name is reserved for the node";
    else if (contexts->handlers_waiting >= CAL_HANDLERS_MAX ||
             contexts->handlers_bytes + data.len > CAL_HANDLERS_BYTES_MAX)
        why = "too many wait already";
    struct handler *handler = why ? NULL : malloc(sizeof *handler + data.len);
    if (!handler) {
        leave_out(contexts, why ? why : "out of memory");
        return;
    }
    *handler = (struct handler){.context = context, .len = data.len};
    memcpy(handler->method, method, method_len);
    if (data.len) memcpy(handler->data, data.data, data.len);
    cal_list_push(&context->handlers, &handler->link);
    context->pins++;
    contexts->handlers_waiting++;
    contexts->handlers_bytes += cost(handler);
}

static struct handler *take_first(struct context *context) {
    cal_list *link = cal_list_pop(&context->handlers);
    if (!link) return NULL;
    struct handler *handler = CAL_CONTAINER_OF(link, struct handler, link);
    context->contexts->handlers_waiting--;
    context->contexts->handlers_bytes -= cost(handler);
    return handler;
}

void handlers_drop(struct context *context) {
    for (struct handler *handler; (handler = take_first(context)) != NULL; free(handler)) {
        context->pins--;
        context->contexts->stats.handlers_dropped++;
    }
}

static void handled(void *user, const cal_call_result *result) {
    struct handler *handler = user;
    cal_contexts *contexts = handler->context->contexts;
    /* A member who may only read hears of what others' handlers change: nothing is wrong here. */
    bool denied = result->status == CAL_CALL_FAILED && result->error == CAL_EDENIED;
    bool failed = result->status != CAL_CALL_OK && !denied;
    if (failed && (contexts->draining || handler->context->deleting)) {
        contexts->stats.handlers_dropped++;
    } else {
        contexts->stats.handlers++;
        contexts->stats.handlers_failed += failed;
        if (failed)
            cal_log(CAL_LOG_WARN, "context", "the handler %.64s of an event failed: %.200s",
                    handler->method, result->message);
    }
    handler->context->handlers_open--;
    handler->context->pins--;
    free(handler);
}

static void start(struct context *context, struct handler *handler) {
    struct call *call = call_new(context->contexts, &context->id, handler->method,
                                 cal_slice_of(handler->data, handler->len));
    context->handlers_open++;
    if (!call) {
        handled(handler, &(cal_call_result){.status = CAL_CALL_INTERNAL,
                                            .error = CAL_ENOMEM,
                                            .message = "out of memory"});
        return;
    }
    call->in_order = true;
    call->done = handled;
    call->user = handler;
    call_submit(call);
}

/* Whether another may enter the queue. When not, something of this context is still under way, and
 * brings the loop back here. */
static bool has_room(const struct context *context) {
    const char *why;
    if (context->handlers_open >= CAL_HANDLERS_OPEN_MAX ||
        context->waiting_count >= CAL_CALL_QUEUE_MAX / 2)
        return false;
    return context->handlers_open == 0 || contexts_admit(context->contexts, 0, &why) == 0;
}

void handlers_go(struct context *context) {
    while (!cal_list_empty(&context->handlers) && has_room(context))
        start(context, take_first(context));
}
