/* Host functions about the call itself: panics, registers, identities, input and output, events,
 * cross-context calls (runtime-abi.md 4.1). Checks stand in the specified order. */
#include <inttypes.h>
#include <stdlib.h>

#include "vm/internal.h"

/* --- panics --- */

typedef struct location {
    vm_buffer file;
    uint32_t line, column;
} location;

static int read_location(vm_state *state, uint64_t address, location *ret_location) {
    const uint8_t *bytes;
    if (vm_read_raw(state, address, 24, &bytes)) return 1;
    *ret_location =
        (location){vm_buffer_at(bytes), cal_read_u32le(bytes + 16), cal_read_u32le(bytes + 20)};
    return 0;
}

static int panic(vm_state *state, const uint64_t *args, uint64_t *ret) {
    (void)ret;
    location at;
    cal_slice file;
    if (read_location(state, args[0], &at) || vm_text(state, at.file, &file)) return 1;
    return vm_fail_panic(state, cal_slice_text("explicit panic"), file, at.line, at.column);
}

static int panic_utf8(vm_state *state, const uint64_t *args, uint64_t *ret) {
    (void)ret;
    vm_buffer text;
    location at;
    cal_slice message, file;
    if (vm_read_buffer(state, args[0], &text) || read_location(state, args[1], &at)) return 1;
    if (vm_text(state, text, &message) || vm_text(state, at.file, &file)) return 1;
    return vm_fail_panic(state, message, file, at.line, at.column);
}

/* --- registers --- */

static int register_len(vm_state *state, const uint64_t *args, uint64_t *ret) {
    const cal_buffer *content = vm_register_get(&state->registers, args[0]);
    *ret = content ? content->len : UINT64_MAX;
    return 0;
}

static int read_register(vm_state *state, const uint64_t *args, uint64_t *ret) {
    vm_buffer target;
    if (vm_read_buffer(state, args[1], &target)) return 1;
    const cal_buffer *content = vm_register_get(&state->registers, args[0]);
    if (!content)
        return vm_fail_host(state, "InvalidRegisterId", "invalid register id: %" PRIu64, args[0]);
    *ret = 0;
    if (content->len != target.len) return 0;
    uint8_t *bytes;
    if (vm_writable(state, target, &bytes)) return 1;
    if (content->len) memcpy(bytes, content->data, content->len);
    *ret = 1;
    return 0;
}

/* --- identities and input --- */

static int context_id(vm_state *state, const uint64_t *args, uint64_t *ret) {
    (void)ret;
    return vm_register_set(state, args[0], cal_slice_of(state->call->context_id, 32));
}

static int account_id(vm_state *state, const uint64_t *args, uint64_t *ret) {
    (void)ret;
    return vm_register_set(state, args[0], cal_slice_of(state->call->account_id, 32));
}

static int device_id(vm_state *state, const uint64_t *args, uint64_t *ret) {
    (void)ret;
    return vm_register_set(state, args[0], cal_slice_of(state->call->device_id, 32));
}

static int xcall_origin(vm_state *state, const uint64_t *args, uint64_t *ret) {
    *ret = 0;
    if (!state->call->xcall_origin) return 0;
    *ret = 1;
    return vm_register_set(state, args[0], cal_slice_of(state->call->xcall_origin, 32));
}

static int input(vm_state *state, const uint64_t *args, uint64_t *ret) {
    (void)ret;
    return vm_register_set(state, args[0], state->call->input);
}

/* --- output --- */

static int value_return(vm_state *state, const uint64_t *args, uint64_t *ret) {
    (void)ret;
    const uint8_t *tag_bytes;
    if (vm_read_raw(state, args[0], 8, &tag_bytes)) return 1;
    uint64_t tag = cal_read_u64le(tag_bytes);
    vm_buffer payload;
    if (args[0] > UINT64_MAX - 8) return vm_fail_memory(state);
    if (vm_read_buffer(state, args[0] + 8, &payload)) return 1;
    if (payload.len > VM_RETURN_MAX)
        return vm_fail_host(state, "ReturnValueSizeOverflow",
                            "return value too large (size: %" PRIu64 ", max: %d)", payload.len,
                            VM_RETURN_MAX);
    cal_slice bytes;
    if (vm_bytes(state, payload, &bytes)) return 1;
    if (tag > 1) return vm_fail_host(state, "DeserializationError", "deserialization error");
    cal_vm_outcome *outcome = state->outcome;
    if (vm_keep_in(state, &outcome->owner->returned, bytes, &outcome->return_value)) return 1;
    outcome->return_kind = tag == 0 ? CAL_VM_RETURN_OK : CAL_VM_RETURN_ERR;
    return 0;
}

static int emit_migration_witness(vm_state *state, const uint64_t *args, uint64_t *ret) {
    (void)ret;
    vm_buffer source;
    cal_slice bytes;
    if (vm_read_buffer(state, args[0], &source) || vm_bytes(state, source, &bytes)) return 1;
    if (bytes.len > VM_STORAGE_VALUE_MAX)
        return vm_fail_host(state, "ValueLengthOverflow", "value length overflow");
    cal_vm_outcome *outcome = state->outcome;
    if (vm_keep_in(state, &outcome->owner->witness, bytes, &outcome->witness)) return 1;
    outcome->has_witness = true;
    return 0;
}

static int log_utf8(vm_state *state, const uint64_t *args, uint64_t *ret) {
    (void)ret;
    vm_buffer source;
    cal_slice text;
    if (vm_read_buffer(state, args[0], &source) || vm_text(state, source, &text)) return 1;
    if (state->outcome->log_count >= state->vm->limits.max_logs)
        return vm_fail_host(state, "LogsOverflow", "logs overflow");
    if (text.len > state->vm->limits.max_log_size)
        return vm_fail_host(state, "LogLengthOverflow", "log size overflow");
    return vm_keep_log(state, text);
}

static int commit(vm_state *state, const uint64_t *args, uint64_t *ret) {
    (void)ret;
    vm_buffer root_buffer, artifact_buffer;
    if (vm_read_buffer(state, args[0], &root_buffer)) return 1;
    if (vm_read_buffer(state, args[1], &artifact_buffer)) return 1;
    if (artifact_buffer.len > VM_ARTIFACT_MAX)
        return vm_fail_host(state, "ArtifactSizeOverflow",
                            "commit artifact size overflow (size: %" PRIu64 ", max: %d)",
                            artifact_buffer.len, VM_ARTIFACT_MAX);
    const uint8_t *root;
    cal_slice artifact;
    if (vm_fixed(state, root_buffer, 32, &root) || vm_bytes(state, artifact_buffer, &artifact))
        return 1;
    if (state->committed) return vm_fail_memory(state);
    cal_vm_outcome *outcome = state->outcome;
    if (vm_keep_in(state, &outcome->owner->artifact, artifact, &outcome->artifact)) return 1;
    memcpy(outcome->root_hash, root, 32);
    outcome->has_root = true;
    outcome->has_artifact = artifact.len > 0;
    state->committed = true;
    return 0;
}

/* --- events and cross-context calls --- */

static int read_event(vm_state *state, uint64_t address, cal_slice *ret_kind, cal_slice *ret_data) {
    const uint8_t *bytes;
    if (vm_read_raw(state, address, 32, &bytes)) return 1;
    vm_buffer kind = vm_buffer_at(bytes), data = vm_buffer_at(bytes + 16);
    if (kind.len > VM_EVENT_KIND_MAX)
        return vm_fail_host(state, "EventKindSizeOverflow", "event kind size overflow");
    if (data.len > VM_EVENT_DATA_MAX)
        return vm_fail_host(state, "EventDataSizeOverflow", "event data size overflow");
    if (state->outcome->event_count >= VM_EVENTS_MAX)
        return vm_fail_host(state, "EventsOverflow", "events overflow");
    return vm_text(state, kind, ret_kind) || vm_bytes(state, data, ret_data);
}

static int add_event(vm_state *state, cal_slice kind, cal_slice data, const cal_slice *handler) {
    cal_vm_outcome *outcome = state->outcome;
    if (!outcome->events) outcome->events = calloc(VM_EVENTS_MAX, sizeof *outcome->events);
    if (!outcome->events) return vm_fail_node(state, CAL_ENOMEM);
    cal_vm_event event = {.has_handler = handler != NULL};
    if (vm_keep(state, kind, &event.kind) || vm_keep(state, data, &event.data)) return 1;
    if (handler && vm_keep(state, *handler, &event.handler)) return 1;
    outcome->events[outcome->event_count++] = event;
    return 0;
}

static int emit(vm_state *state, const uint64_t *args, uint64_t *ret) {
    (void)ret;
    cal_slice kind, data;
    if (read_event(state, args[0], &kind, &data)) return 1;
    return add_event(state, kind, data, NULL);
}

static int emit_with_handler(vm_state *state, const uint64_t *args, uint64_t *ret) {
    (void)ret;
    cal_slice kind, data, handler;
    if (read_event(state, args[0], &kind, &data)) return 1;
    if (args[1] == 0) return add_event(state, kind, data, NULL);
    vm_buffer name;
    if (vm_read_buffer(state, args[1], &name)) return 1;
    if (name.len > CAL_VM_METHOD_MAX)
        return vm_fail_host(state, "EventHandlerSizeOverflow",
                            "event handler name too large (size: %" PRIu64 ", max: %d)", name.len,
                            CAL_VM_METHOD_MAX);
    if (vm_text(state, name, &handler)) return 1;
    return add_event(state, kind, data, &handler);
}

static int xcall(vm_state *state, const uint64_t *args, uint64_t *ret) {
    (void)ret;
    const uint8_t *bytes;
    if (vm_read_raw(state, args[0], 48, &bytes)) return 1;
    vm_buffer target = vm_buffer_at(bytes), name = vm_buffer_at(bytes + 16),
              data = vm_buffer_at(bytes + 32);
    cal_vm_outcome *outcome = state->outcome;
    if (name.len > VM_XCALL_FUNCTION_MAX)
        return vm_fail_host(state, "XCallFunctionSizeOverflow", "xcall function size overflow");
    if (data.len > VM_XCALL_PARAMS_MAX)
        return vm_fail_host(state, "XCallParamsSizeOverflow", "xcall params size overflow");
    if (outcome->xcall_count >= VM_XCALLS_MAX)
        return vm_fail_host(state, "XCallsOverflow", "xcalls overflow");
    const uint8_t *context;
    cal_slice function, params;
    if (vm_fixed(state, target, 32, &context) || vm_text(state, name, &function)) return 1;
    if (vm_bytes(state, data, &params)) return 1;
    if (!outcome->xcalls) outcome->xcalls = calloc(VM_XCALLS_MAX, sizeof *outcome->xcalls);
    if (!outcome->xcalls) return vm_fail_node(state, CAL_ENOMEM);
    cal_vm_xcall *call = &outcome->xcalls[outcome->xcall_count];
    memcpy(call->context_id, context, 32);
    if (vm_keep(state, function, &call->function) || vm_keep(state, params, &call->params))
        return 1;
    outcome->xcall_count++;
    return 0;
}

const vm_host_function vm_host_system[] = {
    {"panic", 1, 0, panic},
    {"panic_utf8", 2, 0, panic_utf8},
    {"register_len", 1, 64, register_len},
    {"read_register", 2, 32, read_register},
    {"context_id", 1, 0, context_id},
    {"account_id", 1, 0, account_id},
    {"executor_id", 1, 0, account_id}, /* old binaries */
    {"device_id", 1, 0, device_id},
    {"xcall_origin", 1, 32, xcall_origin},
    {"input", 1, 0, input},
    {"value_return", 1, 0, value_return},
    {"emit_migration_witness", 1, 0, emit_migration_witness},
    {"log_utf8", 1, 0, log_utf8},
    {"emit", 1, 0, emit},
    {"emit_with_handler", 2, 0, emit_with_handler},
    {"xcall", 1, 0, xcall},
    {"commit", 2, 0, commit},
    {0},
};
