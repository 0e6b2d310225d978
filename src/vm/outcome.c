/* The outcome of a call: who owns its bytes, and the texts of its errors (runtime-abi.md 17). */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/utf8.h"
#include "vm/internal.h"

enum { FIRST_LOGS = 16, SLACK = 64 * 1024 };

/* The most that logs, events, xcalls and a panic can hold together. */
static size_t arena_max(const cal_vm_limits *limits) {
    size_t events =
        (size_t)VM_EVENTS_MAX * (VM_EVENT_KIND_MAX + VM_EVENT_DATA_MAX + CAL_VM_METHOD_MAX);
    size_t xcalls = (size_t)VM_XCALLS_MAX * (VM_XCALL_FUNCTION_MAX + VM_XCALL_PARAMS_MAX);
    size_t panic = (size_t)VM_PANIC_MESSAGE_MAX + VM_PANIC_FILE_MAX;
    return (size_t)limits->max_logs * limits->max_log_size + events + xcalls + panic + SLACK;
}

int vm_outcome_init(cal_vm_outcome *outcome, const cal_vm_limits *limits) {
    *outcome = (cal_vm_outcome){0};
    struct cal_vm_arena_holder *owner = calloc(1, sizeof *owner);
    if (!owner) return CAL_ENOMEM;
    cal_arena_init(&owner->arena, arena_max(limits));
    cal_buffer_init(&owner->returned, VM_RETURN_MAX);
    cal_buffer_init(&owner->artifact, VM_ARTIFACT_MAX);
    cal_buffer_init(&owner->witness, VM_STORAGE_VALUE_MAX);
    outcome->owner = owner;
    return 0;
}

void cal_vm_outcome_drop_artifact(cal_vm_outcome *outcome) {
    if (!outcome->owner) return;
    cal_buffer_deinit(&outcome->owner->artifact);
    cal_buffer_deinit(&outcome->owner->witness);
    outcome->artifact = outcome->witness = (cal_slice){0};
}

void cal_vm_outcome_deinit(cal_vm_outcome *outcome) {
    if (!outcome) return;
    struct cal_vm_arena_holder *owner = outcome->owner;
    if (owner) {
        cal_arena_deinit(&owner->arena);
        cal_buffer_deinit(&owner->returned);
        cal_buffer_deinit(&owner->artifact);
        cal_buffer_deinit(&owner->witness);
        free(owner);
    }
    free(outcome->logs);
    free(outcome->events);
    free(outcome->xcalls);
    *outcome = (cal_vm_outcome){0};
}

int vm_keep(vm_state *state, cal_slice bytes, cal_slice *ret_copy) {
    void *copy = cal_arena_copy(&state->outcome->owner->arena, bytes.data, bytes.len);
    if (!copy) return vm_fail_node(state, CAL_ENOMEM);
    *ret_copy = cal_slice_of(copy, bytes.len);
    return 0;
}

int vm_keep_in(vm_state *state, cal_buffer *buffer, cal_slice bytes, cal_slice *ret_copy) {
    cal_buffer_reset(buffer);
    int code = cal_buffer_append_slice(buffer, bytes);
    if (code != 0) return vm_fail_node(state, code);
    *ret_copy = cal_buffer_slice(buffer);
    return 0;
}

int vm_keep_log(vm_state *state, cal_slice text) {
    cal_vm_outcome *outcome = state->outcome;
    struct cal_vm_arena_holder *owner = outcome->owner;
    if (outcome->log_count == owner->log_capacity) {
        size_t capacity = owner->log_capacity ? owner->log_capacity * 2 : FIRST_LOGS;
        cal_slice *logs = realloc(outcome->logs, capacity * sizeof *logs);
        if (!logs) return vm_fail_node(state, CAL_ENOMEM);
        outcome->logs = logs;
        owner->log_capacity = capacity;
    }
    cal_slice copy;
    if (vm_keep(state, text, &copy)) return 1;
    outcome->logs[outcome->log_count++] = copy;
    return 0;
}

/* --- failures --- */

void vm_cut_text(char *text, size_t size, size_t wanted) {
    if (wanted < size) return;
    size_t end = strlen(text), start = end;
    while (start > 0 && ((uint8_t)text[start - 1] & 0xc0) == 0x80 && end - start < 3) start--;
    if (start == 0) return;
    cal_slice last = cal_slice_of(text + start - 1, end - start + 1);
    if (!cal_utf8_valid(last)) text[start - 1] = '\0';
}

static void fail(cal_vm_outcome *outcome, cal_vm_failure failure, const char *format,
                 va_list args) {
    outcome->failure = failure;
    int wanted = vsnprintf(outcome->error, sizeof outcome->error, format, args);
    vm_cut_text(outcome->error, sizeof outcome->error, wanted < 0 ? 0 : (size_t)wanted);
}

void vm_outcome_fail(cal_vm_outcome *outcome, cal_vm_failure failure, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fail(outcome, failure, format, args);
    va_end(args);
}

int vm_fail_host(vm_state *state, const char *name, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fail(state->outcome, CAL_VM_FAIL_HOST, format, args);
    va_end(args);
    state->outcome->host_error_name = name;
    return 1;
}

int vm_fail_memory(vm_state *state) {
    return vm_fail_host(state, "InvalidMemoryAccess", "invalid memory access");
}

int vm_fail_node(vm_state *state, int code) {
    state->outcome->node_error = code;
    vm_outcome_fail(state->outcome, CAL_VM_FAIL_NODE, "the node could not carry out the call: %s",
                    cal_error_text(code));
    return 1;
}

/* At most max bytes of valid text, cut between characters. */
static cal_slice cut(cal_slice text, size_t max) {
    if (text.len <= max) return text;
    size_t len = max;
    while (len > 0 && (text.data[len] & 0xc0) == 0x80) len--;
    return cal_slice_of(text.data, len);
}

/* A text is a C string: a NUL inside it would hide the rest. */
static void without_nul(cal_slice text) {
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] == 0) ((uint8_t *)(uintptr_t)text.data)[i] = ' ';
}

int vm_fail_panic(vm_state *state, cal_slice message, cal_slice file, uint32_t line,
                  uint32_t column) {
    cal_vm_outcome *outcome = state->outcome;
    cal_slice kept_message, kept_file;
    if (vm_keep(state, cut(message, VM_PANIC_MESSAGE_MAX), &kept_message)) return 1;
    if (vm_keep(state, cut(file, VM_PANIC_FILE_MAX), &kept_file)) return 1;
    without_nul(kept_message);
    without_nul(kept_file);
    outcome->panic_message = kept_message;
    outcome->panic_file = kept_file;
    outcome->panic_line = line;
    outcome->panic_column = column;
    vm_outcome_fail(outcome, CAL_VM_FAIL_PANIC, "guest panicked: %.*s at %.*s:%" PRIu32 ":%" PRIu32,
                    (int)kept_message.len, (const char *)kept_message.data, (int)kept_file.len,
                    (const char *)kept_file.data, line, column);
    return 1;
}

void vm_forget_failure(vm_state *state) {
    cal_vm_outcome *outcome = state->outcome;
    if (outcome->failure == CAL_VM_FAIL_NODE) return;
    outcome->failure = CAL_VM_FINE;
    outcome->error[0] = '\0';
    outcome->host_error_name = NULL;
    outcome->panic_message = outcome->panic_file = (cal_slice){0};
    outcome->panic_line = outcome->panic_column = 0;
}

void cal_vm_format_err(cal_slice err_bytes, cal_buffer *ret_text) {
    cal_buffer_append_text(ret_text, "the method call returned an error: [");
    for (size_t i = 0; i < err_bytes.len; i++)
        cal_buffer_printf(ret_text, i ? ", %u" : "%u", err_bytes.data[i]);
    cal_buffer_append_text(ret_text, "]");
}
