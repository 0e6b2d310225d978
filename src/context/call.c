/* One call on a worker: the module, a snapshot, the guest, and what to do with the outcome
 * (runtime-abi.md 5, 6). */
#include <stdarg.h>
#include <stdio.h>

#include "base/error.h"
#include "context/internal.h"

void call_fail(struct call *call, cal_call_status status, int error, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(call->message, sizeof call->message, format, args);
    va_end(args);
    call->status = status;
    call->error = error;
}

static void fail_load(struct call *call, int rc, const cal_error *err) {
    if (rc == CAL_ENOTFOUND)
        call_fail(call, CAL_CALL_NOT_INSTALLED, rc, "the application's code is not installed: %s",
                  err->message);
    else if (rc == CAL_EGUEST)
        call_fail(call, CAL_CALL_FAILED, rc, "%s", err->message);
    else
        call_fail(call, CAL_CALL_INTERNAL, rc, "the application's code cannot be loaded: %s",
                  err->message);
}

/* An xcall reaches only what the target's module opens (runtime-abi.md 21). */
static bool xcall_permitted(const struct call *call) {
    const cal_abi *abi = call->module.abi;
    if (!abi->gates_xcalls) return true;
    const cal_abi_method *method = cal_abi_find(abi, call->method);
    if (!method || !method->xcall_callable) return false;
    return !method->xcall_same_app ||
           memcmp(call->origin_application.bytes, call->context->record.application.bytes,
                  CAL_ID_SIZE) == 0;
}

/* A snapshot, and the cache's version when it is certain that both show the same state. */
static int take_snapshot(struct call *call, uint64_t *ret_version) {
    cal_context_cache *cache = call->context->cache;
    uint64_t before = cal_context_cache_version(cache);
    int rc = cal_store_snapshot(call->contexts->options.store, &call->snapshot);
    if (rc != 0) return rc;
    *ret_version = cal_context_cache_version(cache) == before ? before : CAL_CACHE_NONE;
    return 0;
}

int call_prepare_guest(struct call *call, cal_vm_call *ret_call) {
    uint64_t version = CAL_CACHE_NONE;
    int rc = call->context ? take_snapshot(call, &version) : 0;
    if (rc != 0) return rc;
    cal_overlay_init(&call->overlay, call->id.bytes, call->snapshot,
                     call->context ? call->context->cache : NULL, version);
    call->storage = cal_overlay_storage(&call->overlay);
    const cal_contexts_options *options = &call->contexts->options;
    *ret_call = (cal_vm_call){.method = call->method,
                              .input = cal_buffer_slice(&call->args),
                              .xcall_origin = call->is_xcall ? call->origin.bytes : NULL,
                              .storage = &call->storage,
                              .has_private = true,
                              .blobs = options->blobs,
                              .os = options->os,
                              .memory_max = options->memory_max,
                              .deadline_ms = options->deadline_ms};
    memcpy(ret_call->context_id, call->id.bytes, 32);
    memcpy(ret_call->account_id, call->executor.account.bytes, 32);
    memcpy(ret_call->device_id, call->executor.device.bytes, 32);
    return 0;
}

void call_take_failure(struct call *call) {
    const cal_vm_outcome *outcome = &call->outcome;
    if (outcome->failure == CAL_VM_FAIL_NODE) {
        call_fail(call, CAL_CALL_INTERNAL, outcome->node_error,
                  "the node could not run the call: %s",
                  outcome->error[0] ? outcome->error : cal_error_text(outcome->node_error));
    } else if (outcome->failure != CAL_VM_FINE) {
        call_fail(call, CAL_CALL_FAILED, CAL_EGUEST, "%s", outcome->error);
    } else if (outcome->return_kind == CAL_VM_RETURN_ERR) {
        cal_buffer text;
        cal_buffer_init(&text, CALL_ARENA_MAX);
        cal_vm_format_err(outcome->return_value, &text);
        call_fail(call, CAL_CALL_FAILED, CAL_EGUEST, "%.*s", (int)text.len,
                  text.data ? (const char *)text.data : "");
        cal_buffer_deinit(&text);
        call->guest_error = outcome->return_value;
    }
}

/* Whether anything of a successful call is kept, and then the batch that keeps it. */
static void keep_changes(struct call *call, bool read_only) {
    const cal_vm_outcome *outcome = &call->outcome;
    if (read_only) return;
    int rc = 0;
    if (outcome->has_root && (!outcome->has_artifact || outcome->artifact.len == 0)) {
        call_fail(call, CAL_CALL_INTERNAL, CAL_EINTERNAL,
                  "the application committed a state root without an artifact: its SDK and this "
                  "node disagree, nothing was kept");
        return;
    }
    if (outcome->has_root)
        rc = commit_build(call, false);
    else if (cal_overlay_has_index_changes(&call->overlay)) {
        call->batch =
            cal_batch_new(); /* the index is a cache of the guest's: kept also without a new root */
        rc = call->batch ? cal_overlay_flush(&call->overlay, false, true, call->batch) : CAL_ENOMEM;
    }
    if (rc == 0) return;
    cal_batch_free(call->batch);
    call->batch = NULL;
    if (call->status == CAL_CALL_OK)
        call_fail(call, CAL_CALL_INTERNAL, rc, "the call's changes could not be recorded: %s",
                  cal_error_text(rc));
}

static void run_guest(struct call *call) {
    cal_error err = {0};
    cal_contexts *contexts = call->contexts;
    int rc = cal_modules_get(contexts->modules, &call->code, call->context->record.service,
                             &call->module, &err);
    if (rc != 0) {
        fail_load(call, rc, &err);
        return;
    }
    if (call->is_xcall && !xcall_permitted(call)) {
        call->denied = "not an xcall entry point";
        call_fail(call, CAL_CALL_FAILED, CAL_EDENIED, "%s", call->denied);
        return;
    }
    cal_vm_call guest;
    rc = call_prepare_guest(call, &guest);
    if (rc != 0) {
        call_fail(call, CAL_CALL_INTERNAL, rc, "the store cannot be read: %s", cal_error_text(rc));
        return;
    }
    const cal_abi_method *method = cal_abi_find(call->module.abi, call->method);
    guest.read_only = call->view || contexts->options.read_only || call->executor.read_only ||
                      (method && method->intent == CAL_INTENT_READ_ONLY);
    cal_vm_run(contexts->options.vm, call->module.module, &guest, &call->outcome);
    call->ran = true;
    call_take_failure(call);
    if (call->status == CAL_CALL_OK) keep_changes(call, guest.read_only);
}

void call_run(cal_task *task) {
    struct call *call = CAL_CONTAINER_OF(task, struct call, task);
    run_guest(call);
    cal_modules_put(call->contexts->modules, &call->module);
    cal_snapshot_free(call->snapshot); /* before the flush: a waiting commit needs no old pages */
    call->snapshot = NULL;
    if (!call->batch) {
        call_post_finish(call);
        return;
    }
    cal_context_cache_commit_begin(call->context->cache);
    call->committing = true;
    cal_batch *batch = call->batch;
    call->batch = NULL;
    cal_store_submit(call->contexts->options.store, batch, call_durable, call);
}
