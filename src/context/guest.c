/* One run of a guest, see guest.h. Worker. */
#include "context/guest.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/error.h"

void guest_init(struct guest *guest, cal_contexts *contexts, const cal_context_id *id) {
    *guest = (struct guest){.contexts = contexts, .id = *id};
    cal_arena_init(&guest->arena, CALL_ARENA_MAX);
    cal_overlay_init(&guest->overlay, id->bytes, NULL, NULL, CAL_CACHE_NONE);
}

static void drop_outcome(struct guest *guest) {
    if (guest->ran) cal_vm_outcome_deinit(&guest->outcome);
    guest->outcome = (cal_vm_outcome){0};
    guest->ran = false;
}

void guest_deinit(struct guest *guest) {
    drop_outcome(guest);
    cal_overlay_deinit(&guest->overlay);
    cal_arena_deinit(&guest->arena);
}

void guest_reset(struct guest *guest) {
    drop_outcome(guest);
    cal_overlay_clear(&guest->overlay);
    cal_arena_deinit(&guest->arena);
    cal_arena_init(&guest->arena, CALL_ARENA_MAX);
    guest->status = CAL_CALL_OK;
    guest->error = 0;
    guest->message[0] = '\0';
    guest->guest_error = (cal_slice){0};
}

size_t guest_shrink(struct guest *guest) {
    cal_vm_outcome *outcome = &guest->outcome;
    cal_arena_deinit(&guest->arena);
    cal_arena_init(&guest->arena, CALL_ARENA_MAX);
    if (!guest->ran) return 0;
    cal_vm_outcome_drop_artifact(outcome);
    size_t bytes = outcome->return_value.len + outcome->log_count * sizeof *outcome->logs +
                   outcome->event_count * sizeof *outcome->events +
                   outcome->xcall_count * sizeof *outcome->xcalls;
    for (size_t i = 0; i < outcome->log_count; i++) bytes += outcome->logs[i].len;
    for (size_t i = 0; i < outcome->event_count; i++) {
        const cal_vm_event *event = &outcome->events[i];
        bytes += event->kind.len + event->data.len + event->handler.len;
    }
    for (size_t i = 0; i < outcome->xcall_count; i++)
        bytes += outcome->xcalls[i].function.len + outcome->xcalls[i].params.len;
    return bytes;
}

void guest_fail(struct guest *guest, cal_call_status status, int error, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(guest->message, sizeof guest->message, format, args);
    va_end(args);
    guest->status = status;
    guest->error = error;
}

int guest_load(struct guest *guest, const char *service) {
    cal_error err = {0};
    int rc = cal_modules_get(guest->contexts->modules, &guest->code, service, &guest->module, &err);
    if (rc == CAL_ENOTFOUND)
        guest_fail(guest, CAL_CALL_NOT_INSTALLED, rc, "the application's code is not installed: %s",
                   err.message);
    else if (rc == CAL_EGUEST)
        guest_fail(guest, CAL_CALL_FAILED, rc, "%s", err.message);
    else if (rc != 0)
        guest_fail(guest, CAL_CALL_INTERNAL, rc, "the application's code cannot be loaded: %s",
                   err.message);
    return rc;
}

void guest_unload(struct guest *guest) {
    cal_modules_put(guest->contexts->modules, &guest->module);
}

int guest_over_tip(struct guest *guest, struct context *context, const cal_overlay *top) {
    int rc = context->snapshot
                 ? 0
                 : cal_store_snapshot(context->contexts->options.store, &context->snapshot);
    if (rc != 0) return rc;
    guest->overlay.snapshot = context->snapshot;
    guest->overlay.cache = context->cache;
    guest->overlay.cache_version = CAL_CACHE_HOLDER;
    guest->overlay.below = top;
    return 0;
}

/* A snapshot, and the cache's version when it is certain that both show the same state. */
int guest_over_snapshot(struct guest *guest, struct context *context, cal_snapshot **ret_snapshot) {
    uint64_t before = cal_context_cache_version(context->cache);
    contexts_at(context->contexts, CONTEXT_AT_VIEW_VERSION);
    int rc = cal_store_snapshot(context->contexts->options.store, ret_snapshot);
    if (rc != 0) return rc;
    contexts_at(context->contexts, CONTEXT_AT_VIEW_SNAPSHOT);
    bool same = cal_context_cache_version(context->cache) == before;
    guest->overlay.snapshot = *ret_snapshot;
    guest->overlay.cache = context->cache;
    guest->overlay.cache_version = same ? before : CAL_CACHE_NONE;
    return 0;
}

static void take_failure(struct guest *guest) {
    const cal_vm_outcome *outcome = &guest->outcome;
    if (outcome->failure == CAL_VM_FAIL_NODE) {
        guest_fail(guest, CAL_CALL_INTERNAL, outcome->node_error,
                   "the node could not run the call: %s",
                   outcome->error[0] ? outcome->error : cal_error_text(outcome->node_error));
    } else if (outcome->failure != CAL_VM_FINE) {
        guest_fail(guest, CAL_CALL_FAILED, CAL_EGUEST, "%s", outcome->error);
    } else if (outcome->return_kind == CAL_VM_RETURN_ERR) {
        cal_buffer text;
        cal_buffer_init(&text, CALL_ARENA_MAX);
        cal_vm_format_err(outcome->return_value, &text);
        guest_fail(guest, CAL_CALL_FAILED, CAL_EGUEST, "%.*s", (int)text.len,
                   text.data ? (const char *)text.data : "");
        cal_buffer_deinit(&text);
        guest->guest_error = outcome->return_value;
    }
}

void guest_run(struct guest *guest, const guest_call *call) {
    const cal_contexts_options *options = &guest->contexts->options;
    guest->storage = cal_overlay_storage(&guest->overlay);
    cal_vm_call vm = {.method = call->method,
                      .input = call->input,
                      .xcall_origin = call->xcall_origin,
                      .storage = &guest->storage,
                      .has_private = true,
                      .blobs = options->blobs,
                      .os = options->os,
                      .read_only = call->read_only,
                      .memory_max = call->memory_max,
                      .deadline_ms = call->deadline_ms};
    memcpy(vm.context_id, guest->id.bytes, 32);
    memcpy(vm.account_id, guest->executor.account.bytes, 32);
    memcpy(vm.device_id, guest->executor.device.bytes, 32);
    cal_vm_run(options->vm, guest->module.module, &vm, &guest->outcome);
    guest->ran = true;
    take_failure(guest);
}
