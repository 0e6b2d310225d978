/* One call from start to end (runtime-abi.md 5): a fresh store and instance, metered by fuel,
 * bounded by the store's limiter and, when asked for, by a deadline. Runs on the calling thread; a
 * trap unwinds inside the engine and comes back here as a value. */
#include <inttypes.h>
#include <stdio.h>

#include "codec/utf8.h"
#include "vm/internal.h"

/* Epochs that never pass while a call without a deadline runs. */
#define NEVER (UINT64_C(1) << 60)

/* --- names --- */

/* The character at text as the reference prints it between quotes. */
static void show_character(const char *text, char ret_text[16]) {
    const uint8_t *p = (const uint8_t *)text;
    size_t len = 1;
    while (len < 4 && (p[len] & 0xc0) == 0x80) len++;
    if (!cal_utf8_valid(cal_slice_of(text, len)))
        strcpy(ret_text, "\xef\xbf\xbd");
    else if (*text == '\n')
        strcpy(ret_text, "\\n");
    else if (*text == '\r')
        strcpy(ret_text, "\\r");
    else if (*text == '\t')
        strcpy(ret_text, "\\t");
    else if (*text == '\'' || *text == '\\')
        snprintf(ret_text, 16, "\\%c", *text);
    else if (p[0] < 0x20 || p[0] == 0x7f)
        snprintf(ret_text, 16, "\\u{%x}", p[0]);
    else
        snprintf(ret_text, 16, "%.*s", (int)len, text);
}

static bool name_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Step 1. Whether the name may be looked up; the outcome is failed otherwise. */
static bool check_name(const char *method, cal_vm_outcome *outcome) {
    size_t len = strlen(method);
    if (len == 0) {
        vm_outcome_fail(outcome, CAL_VM_FAIL_METHOD, "method name is empty");
        return false;
    }
    if (len > CAL_VM_METHOD_MAX) {
        vm_outcome_fail(outcome, CAL_VM_FAIL_METHOD, "method name too long: %zu bytes (max: %d)",
                        len, CAL_VM_METHOD_MAX);
        return false;
    }
    for (size_t i = 0; i < len;
         i++) { /* all before the first bad one are single bytes: i counts characters */
        if (name_byte(method[i])) continue;
        char shown[16];
        show_character(method + i, shown);
        vm_outcome_fail(outcome, CAL_VM_FAIL_METHOD,
                        "method name contains invalid character at position %zu: '%s'", i, shown);
        return false;
    }
    return true;
}

/* --- ends --- */

static const char *trap_text(wasmtime_trap_code_t code) {
    switch (code) {
    case WASMTIME_TRAP_CODE_STACK_OVERFLOW:
        return "stack overflow";
    case WASMTIME_TRAP_CODE_MEMORY_OUT_OF_BOUNDS:
    case WASMTIME_TRAP_CODE_TABLE_OUT_OF_BOUNDS:
        return "memory out of bounds";
    case WASMTIME_TRAP_CODE_HEAP_MISALIGNED:
        return "unaligned atomic operation";
    case WASMTIME_TRAP_CODE_INDIRECT_CALL_TO_NULL:
        return "indirect call to null";
    case WASMTIME_TRAP_CODE_BAD_SIGNATURE:
        return "bad signature";
    case WASMTIME_TRAP_CODE_INTEGER_OVERFLOW:
    case WASMTIME_TRAP_CODE_INTEGER_DIVISION_BY_ZERO:
    case WASMTIME_TRAP_CODE_BAD_CONVERSION_TO_INTEGER:
        return "illegal arithmetic operation";
    case WASMTIME_TRAP_CODE_UNREACHABLE_CODE_REACHED:
        return "unreachable code reached";
    default:
        return "indeterminate trap";
    }
}

static uint64_t gas_limit(const vm_state *state) {
    return state->call->max_gas ? state->call->max_gas : state->vm->limits.max_gas;
}

static uint64_t memory_limit(const vm_state *state) {
    return state->call->memory_max ? state->call->memory_max : VM_MEMORY_MAX;
}

/* Says why the guest stopped; takes error and trap. A host function that refused has said so
 * already. */
static void classify(vm_state *state, wasmtime_error_t *error, wasm_trap_t *trap, bool linking) {
    cal_vm_outcome *outcome = state->outcome;
    wasmtime_trap_code_t code = 0;
    bool has_code = trap && wasmtime_trap_code(trap, &code);
    if (trap) wasm_trap_delete(trap);
    if (outcome->failure != CAL_VM_FINE) {
        if (error) wasmtime_error_delete(error);
    } else if (state->deadline_passed) {
        if (error) wasmtime_error_delete(error);
        vm_outcome_fail(outcome, CAL_VM_FAIL_DEADLINE,
                        "execution exceeded its time limit of %" PRIu32
                        " ms (runtime.call_deadline_ms)",
                        state->call->deadline_ms);
    } else if (has_code && code == WASMTIME_TRAP_CODE_OUT_OF_FUEL) {
        vm_outcome_fail(outcome, CAL_VM_FAIL_GAS,
                        "execution exhausted its gas limit of %" PRIu64 " points",
                        gas_limit(state));
    } else if (error && linking) {
        char text[512];
        vm_engine_text(error, text, sizeof text);
        vm_outcome_fail(outcome, CAL_VM_FAIL_LINK, "link error: %s", text);
    } else {
        if (error) wasmtime_error_delete(error);
        vm_outcome_fail(outcome, CAL_VM_FAIL_TRAP, "%s",
                        has_code ? trap_text(code) : "indeterminate trap");
    }
}

/* --- the run --- */

static wasmtime_error_t *on_epoch(wasmtime_context_t *context, void *user, uint64_t *ret_delta,
                                  wasmtime_update_deadline_kind_t *ret_kind) {
    (void)context;
    vm_state *state = user;
    *ret_delta = 1;
    *ret_kind = WASMTIME_UPDATE_DEADLINE_CONTINUE;
    if (state->os->mono_ns(state->os->user) < state->deadline_ns) return NULL;
    state->deadline_passed = true;
    return wasmtime_error_new("deadline");
}

static int set_fuel(vm_state *state, wasmtime_context_t *context) {
    wasmtime_error_t *error = wasmtime_context_set_fuel(context, gas_limit(state));
    if (!error) return 0;
    wasmtime_error_delete(error);
    return vm_fail_node(state, CAL_EINTERNAL);
}

static int call_function(vm_state *state, wasmtime_context_t *context,
                         const wasmtime_instance_t *instance, const char *name) {
    wasmtime_extern_t item;
    if (!wasmtime_instance_export_get(context, instance, name, strlen(name), &item))
        return vm_fail_node(state, CAL_EINTERNAL);
    wasmtime_val_raw_t none[1] = {0};
    wasm_trap_t *trap = NULL;
    wasmtime_error_t *error = wasmtime_func_call_unchecked(context, &item.of.func, none, 1, &trap);
    wasmtime_extern_delete(&item);
    if (!error && !trap) return 0;
    classify(state, error, trap, false);
    return 1;
}

/* Step 2 and 3. */
static int instantiate(vm_state *state, const cal_vm_module *module, wasmtime_context_t *context,
                       wasmtime_instance_t *ret_instance) {
    wasm_trap_t *trap = NULL;
    if (set_fuel(state, context)) return 1;
    wasmtime_error_t *error =
        wasmtime_instance_pre_instantiate(module->pre, context, ret_instance, &trap);
    if (error || trap) {
        classify(state, error, trap, true);
        return 1;
    }
    wasmtime_extern_t item;
    if (!wasmtime_instance_export_get(context, ret_instance, "memory", 6, &item) ||
        item.kind != WASMTIME_EXTERN_MEMORY)
        return vm_fail_node(state, CAL_EINTERNAL); /* was checked when it was compiled */
    state->memory = item.of.memory;
    wasmtime_extern_delete(&item);
    state->ready = true;
    return set_fuel(state, context);
}

/* Steps 4 and 5. */
static void call_method(vm_state *state, const cal_vm_module *module, wasmtime_context_t *context,
                        const wasmtime_instance_t *instance) {
    const char *method = state->call->method;
    if (module->has_register_merge &&
        call_function(state, context, instance, "__calimero_register_merge")) {
        if (state->outcome->failure == CAL_VM_FAIL_NODE) return;
        vm_forget_failure(state);
    }
    const vm_export *function = vm_module_function(module, method);
    if (!function || !function->plain) {
        vm_outcome_fail(
            state->outcome, CAL_VM_FAIL_METHOD,
            function
                ? "method \"%s\" has invalid signature: expected no arguments and no return value"
                : "method \"%s\" not found",
            method);
        return;
    }
    call_function(state, context, instance, method);
    uint64_t left;
    wasmtime_error_t *error = wasmtime_context_get_fuel(context, &left);
    if (error) {
        wasmtime_error_delete(error);
        return;
    }
    uint64_t max_gas = gas_limit(state);
    state->outcome->has_gas = true;
    state->outcome->gas_used = left < max_gas ? max_gas - left : 0;
}

static void set_bounds(vm_state *state, wasmtime_store_t *store) {
    uint64_t memory_max = memory_limit(state);
    wasmtime_store_limiter(store, memory_max > INT64_MAX ? INT64_MAX : (int64_t)memory_max,
                           VM_TABLE_ELEMENTS_MAX, 1, VM_TABLES_MAX, 1);
    wasmtime_context_t *context = wasmtime_store_context(store);
    if (state->call->deadline_ms == 0) {
        wasmtime_context_set_epoch_deadline(context, NEVER);
        return;
    }
    state->deadline_ns = state->os->mono_ns(state->os->user) +
                         (uint64_t)state->call->deadline_ms * UINT64_C(1000000);
    wasmtime_store_epoch_deadline_callback(store, on_epoch, state, NULL);
    wasmtime_context_set_epoch_deadline(context, 1);
}

/* The engine's pool hands the memories of guests on from thread to thread under a lock that the
 * thread sanitizer does not see: it is told. */
#ifdef __SANITIZE_THREAD__
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#else
static void __tsan_acquire(void *address) { (void)address; }
static void __tsan_release(void *address) { (void)address; }
#endif

static void run(vm_state *state, const cal_vm_module *module) {
    wasmtime_store_t *store = wasmtime_store_new(state->vm->engine, state, NULL);
    if (!store) {
        vm_fail_node(state, CAL_ENOMEM);
        return;
    }
    set_bounds(state, store);
    wasmtime_context_t *context = wasmtime_store_context(store);
    wasmtime_instance_t instance;
    int rc = instantiate(state, module, context, &instance);
    __tsan_acquire(&state->vm->instances);
    if (rc == 0) call_method(state, module, context, &instance);
    __tsan_release(&state->vm->instances);
    wasmtime_store_delete(store);
}

static void run_bounded(vm_state *state, const cal_vm_module *module) {
    bool timed = state->call->deadline_ms > 0;
    if (timed) {
        int code = vm_ticker_enter(&state->vm->ticker);
        if (code != 0) {
            vm_fail_node(state, code);
            return;
        }
    }
    while (sem_wait(&state->vm->instances) != 0) {
    } /* interrupted by a signal */
    run(state, module);
    sem_post(&state->vm->instances);
    if (timed) vm_ticker_leave(&state->vm->ticker);
}

void cal_vm_run(cal_vm *vm, cal_vm_module *module, const cal_vm_call *call,
                cal_vm_outcome *ret_outcome) {
    if (vm_outcome_init(ret_outcome, &vm->limits) != 0) {
        ret_outcome->node_error = CAL_ENOMEM;
        vm_outcome_fail(ret_outcome, CAL_VM_FAIL_NODE, "the node could not carry out the call: %s",
                        cal_error_text(CAL_ENOMEM));
        return;
    }
    if (!check_name(call->method, ret_outcome)) return;
    if (!module->pre) {
        vm_outcome_fail(ret_outcome, CAL_VM_FAIL_LINK, "link error: %s", module->link_error);
        return;
    }
    vm_state state = {
        .vm = vm, .call = call, .os = call->os ? call->os : vm->os, .outcome = ret_outcome};
    cal_buffer_init(&state.scratch, VM_REGISTER_SIZE_MAX);
    run_bounded(&state, module);
    vm_blobs_abandon(&state);
    vm_registers_deinit(&state.registers);
    cal_buffer_deinit(&state.scratch);
    if (ret_outcome->failure != CAL_VM_FINE) {
        ret_outcome->return_kind = CAL_VM_RETURN_NONE;
        ret_outcome->return_value = (cal_slice){0};
    }
}
