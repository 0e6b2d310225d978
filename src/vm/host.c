/* The way in from the guest: one entry for all host functions of runtime-abi.md 4, which are rows
 * of tables.
 *
 * The engine checks the types of imports when it links, so the entry may use its unchecked form.
 * The import names are the whole of what a module can link to: those of section 27 (JavaScript)
 * stay undefined. */
#include <stdlib.h>

#include "base/error.h"
#include "vm/internal.h"

static wasm_trap_t *enter(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values,
                          size_t count) {
    const vm_host_function *function = env;
    wasmtime_context_t *context = wasmtime_caller_context(caller);
    vm_state *state = wasmtime_context_get_data(context);
    uint64_t args[VM_HOST_PARAMS_MAX] = {0}, result = 0;
    int failed;
    (void)count;
    if (!state->ready) {
        failed = vm_fail_host(
            state, "Panic",
            "host panicked: `%s` was called by the module's start function, before the module "
            "was ready",
            function->name);
    } else {
        for (int i = 0; i < function->params; i++) args[i] = (uint64_t)values[i].i64;
        state->base = wasmtime_memory_data(context, &state->memory);
        state->size = wasmtime_memory_data_size(context, &state->memory);
        failed = function->run(state, args, &result);
    }
    if (failed) return wasmtime_trap_new("host", 4);
    if (function->result == 32)
        values[0].i64 = (int64_t)(result & UINT32_MAX);
    else if (function->result == 64)
        values[0].i64 = (int64_t)result;
    return NULL;
}

/* NULL without memory; the engine's constructors abort instead, so only the vectors can be at
 * fault. */
static wasm_functype_t *type_of(const vm_host_function *function) {
    wasm_valtype_t *params[VM_HOST_PARAMS_MAX], *result[1];
    for (int i = 0; i < function->params; i++) params[i] = wasm_valtype_new(WASM_I64);
    if (function->result)
        result[0] = wasm_valtype_new(function->result == 32 ? WASM_I32 : WASM_I64);
    wasm_valtype_vec_t param_types, result_types;
    wasm_valtype_vec_new(&param_types, (size_t)function->params, params);
    wasm_valtype_vec_new(&result_types, function->result ? 1 : 0, result);
    return wasm_functype_new(&param_types, &result_types);
}

static int define(wasmtime_linker_t *linker, const vm_host_function *function, cal_error *err) {
    static const char module[] = "env";
    wasm_functype_t *type = type_of(function);
    if (!type) return cal_fail(err, CAL_ENOMEM, "no memory for the WebAssembly engine");
    wasmtime_error_t *error = wasmtime_linker_define_func_unchecked(
        linker, module, sizeof module - 1, function->name, strlen(function->name), type, enter,
        (void *)(uintptr_t)function, NULL);
    wasm_functype_delete(type);
    if (!error) return 0;
    char text[256];
    vm_engine_text(error, text, sizeof text);
    return cal_fail(err, CAL_EINTERNAL, "the host function `%s` cannot be defined: %s",
                    function->name, text);
}

int vm_host_define(wasmtime_linker_t *linker, cal_error *err) {
    const vm_host_function *tables[] = {vm_host_system, vm_host_storage, vm_host_index,
                                        vm_host_utility, vm_host_blob};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        for (const vm_host_function *function = tables[i]; function->name; function++) {
            int code = define(linker, function, err);
            if (code != 0) return code;
        }
    }
    return 0;
}
