/* The engine: one per cal_vm, with fuel and epochs on, and the fingerprint that names it.
 *
 * Features (runtime-abi.md 16, 28): what official applications need and no more. Two differences
 * from the reference are the engine's: its C API has no switch for extended constants (accepted
 * here), and it is built without threads (shared memories are refused here). Any thread. */
#include "vm/internal.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/error.h"
#include "crypto/crypto.h"

/* Part of the fingerprint: change it with anything in new_config. */
static const char config_text[] =
    "fuel epochs stack=204800 no-unwind simd bulk multi-value reference-types pool; 2";

/* Memories and tables that calls use in turn: mapping and unmapping them for each call costs more
 * than the call, and stops the other threads besides. A process whose address space is limited does
 * without. */
static void use_pool(wasm_config_t *config) {
    struct rlimit space;
    if (getrlimit(RLIMIT_AS, &space) != 0 || space.rlim_cur != RLIM_INFINITY) return;
    wasmtime_pooling_allocation_config_t *pool = wasmtime_pooling_allocation_config_new();
    wasmtime_pooling_allocation_config_total_core_instances_set(pool, VM_INSTANCES_MAX);
    wasmtime_pooling_allocation_config_total_memories_set(pool, VM_INSTANCES_MAX);
    wasmtime_pooling_allocation_config_total_tables_set(pool, VM_INSTANCES_MAX * VM_TABLES_MAX);
    wasmtime_pooling_allocation_config_max_tables_per_module_set(pool, VM_TABLES_MAX);
    wasmtime_pooling_allocation_config_table_elements_set(pool, VM_TABLE_ELEMENTS_MAX);
    wasmtime_pooling_allocation_config_max_core_instance_size_set(pool, VM_INSTANCE_SIZE_MAX);
    wasmtime_pooling_allocation_config_max_memory_size_set(pool, UINT64_C(1) << 32);
    wasmtime_pooling_allocation_config_linear_memory_keep_resident_set(pool, VM_KEEP_RESIDENT);
    wasmtime_pooling_allocation_config_table_keep_resident_set(pool, VM_KEEP_RESIDENT);
    wasmtime_pooling_allocation_strategy_set(config, pool);
    wasmtime_pooling_allocation_config_delete(pool);
}

static wasm_config_t *new_config(void) {
    wasm_config_t *config = wasm_config_new();
    if (!config) return NULL;
    use_pool(config);
    wasmtime_config_consume_fuel_set(config, true);
    wasmtime_config_epoch_interruption_set(config, true);
    wasmtime_config_max_wasm_stack_set(config, VM_WASM_STACK);
    wasmtime_config_wasm_tail_call_set(config, false);
    wasmtime_config_wasm_multi_memory_set(config, false);
    wasmtime_config_wasm_memory64_set(config, false);
    wasmtime_config_wasm_relaxed_simd_set(config, false);
    wasmtime_config_wasm_wide_arithmetic_set(config, false);
    wasmtime_config_wasm_custom_page_sizes_set(config, false);
    wasmtime_config_wasm_simd_set(config, true);
    wasmtime_config_wasm_bulk_memory_set(config, true);
    wasmtime_config_wasm_multi_value_set(config, true);
    wasmtime_config_native_unwind_info_set(
        config, false); /* registering frames is slow, and nothing unwinds them */
    return config;
}

/* What the compiler may have made use of. The engine checks this too when it loads; here it keeps
 * such an artefact from being looked at. */
static size_t cpu_features(uint8_t ret_bytes[64]) {
    size_t len = 0;
#if defined(__x86_64__)
    static const unsigned leaves[][2] = {{1, 0}, {7, 0}, {7, 1}, {0x80000001, 0}};
    for (size_t i = 0; i < sizeof leaves / sizeof *leaves; i++) {
        unsigned a = 0, b = 0, c = 0, d = 0;
        if (!__get_cpuid_count(leaves[i][0], leaves[i][1], &a, &b, &c, &d)) continue;
        if (leaves[i][0] == 1) b = 0; /* holds the core's number */
        if (leaves[i][0] == 1)
            c &= ~(1u << 27); /* whether the system turned XSAVE on, not a feature */
        cal_write_u32le(ret_bytes + len, b);
        cal_write_u32le(ret_bytes + len + 4, c);
        cal_write_u32le(ret_bytes + len + 8, d);
        len += 12;
    }
#elif defined(__aarch64__)
    cal_write_u64le(ret_bytes, getauxval(AT_HWCAP));
    cal_write_u64le(ret_bytes + 8, getauxval(AT_HWCAP2));
    len = 16;
#endif
    return len;
}

static void make_fingerprint(uint8_t ret_fingerprint[32]) {
    uint8_t cpu[64];
    size_t cpu_len = cpu_features(cpu);
    const cal_slice parts[] = {
        cal_slice_text("wasmtime " WASMTIME_VERSION "\n"),
        cal_slice_of(config_text, sizeof config_text),
        cal_slice_of(cpu, cpu_len),
    };
    cal_sha256_parts(parts, sizeof parts / sizeof *parts, ret_fingerprint);
}

static int take_limits(cal_vm *vm, const cal_vm_limits *limits, cal_error *err) {
    if (limits) vm->limits = *limits;
    if (vm->limits.max_logs > VM_LOGS_CEILING)
        return cal_fail(err, CAL_EINVAL, "runtime.limits.max_logs is %u; at most %d is allowed",
                        (unsigned)vm->limits.max_logs, VM_LOGS_CEILING);
    if (vm->limits.max_log_size > VM_LOG_SIZE_CEILING)
        return cal_fail(err, CAL_EINVAL, "runtime.limits.max_log_size is %u; at most %d is allowed",
                        (unsigned)vm->limits.max_log_size, VM_LOG_SIZE_CEILING);
    if (!vm->limits.max_gas) vm->limits.max_gas = VM_DEFAULT_MAX_GAS;
    if (!vm->limits.max_logs) vm->limits.max_logs = VM_DEFAULT_MAX_LOGS;
    if (!vm->limits.max_log_size) vm->limits.max_log_size = VM_DEFAULT_MAX_LOG_SIZE;
    return 0;
}

static int start(cal_vm *vm, cal_error *err) {
    wasm_config_t *config = new_config();
    if (!config) return cal_fail(err, CAL_ENOMEM, "no memory for the WebAssembly engine");
    vm->engine = wasm_engine_new_with_config(config);
    if (!vm->engine)
        return cal_fail(err, CAL_EUNSUPPORTED,
                        "the WebAssembly engine does not run on this machine");
    vm->linker = wasmtime_linker_new(vm->engine);
    if (!vm->linker) return cal_fail(err, CAL_ENOMEM, "no memory for the WebAssembly engine");
    int code = vm_host_define(vm->linker, err);
    if (code != 0) return code;
    code = vm_ticker_init(&vm->ticker, vm->engine);
    if (code != 0) return cal_fail(err, code, "no memory for the WebAssembly engine");
    make_fingerprint(vm->fingerprint);
    return 0;
}

int cal_vm_new(const cal_os *os, const cal_vm_limits *limits, cal_vm **ret_vm, cal_error *err) {
    cal_vm *vm = calloc(1, sizeof *vm);
    if (!vm) return cal_fail(err, CAL_ENOMEM, "no memory for the WebAssembly engine");
    vm->os = os;
    sem_init(&vm->instances, 0, VM_INSTANCES_MAX);
    int code = take_limits(vm, limits, err);
    if (code == 0) code = start(vm, err);
    if (code != 0) {
        cal_vm_free(vm);
        return code;
    }
    *ret_vm = vm;
    return 0;
}

void cal_vm_free(cal_vm *vm) {
    if (!vm) return;
    vm_ticker_deinit(&vm->ticker);
    if (vm->linker) wasmtime_linker_delete(vm->linker);
    if (vm->engine) wasm_engine_delete(vm->engine);
    sem_destroy(&vm->instances);
    free(vm);
}

void cal_vm_fingerprint(const cal_vm *vm, uint8_t ret_fingerprint[32]) {
    memcpy(ret_fingerprint, vm->fingerprint, sizeof vm->fingerprint);
}

void vm_engine_text(wasmtime_error_t *error, char *ret_text, size_t size) {
    wasm_name_t message;
    wasmtime_error_message(error, &message);
    wasmtime_error_delete(error);
    size_t len = 0;
    bool space = false;
    for (size_t i = 0; i < message.size && len + 2 < size; i++) {
        char byte = message.data[i];
        if (byte == '\n' || byte == ' ' || byte == '\0') {
            space = len > 0;
            continue;
        }
        if (space) ret_text[len++] = ' ';
        space = false;
        ret_text[len++] = byte;
    }
    ret_text[len] = '\0';
    vm_cut_text(ret_text, len + 1, len + 1);
    wasm_name_delete(&message);
}
