/* Arbitrary bytes as a module: compiled, and when that works, loaded and each method called with
 * little gas and memory. */
#include <stdlib.h>

#include "support/guest_os.h"
#include "support/memory_storage.h"
#include "vm/internal.h"

enum { METHODS_MAX = 4, GAS = 20000, MEMORY = 4 * 1024 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static cal_vm *the_vm(guest_os *os) {
    static cal_vm *vm;
    if (!vm && (cal_crypto_init() != 0 || cal_vm_new(&os->os, NULL, &vm, NULL) != 0)) abort();
    return vm;
}

static void run_methods(cal_vm *vm, guest_os *os, cal_vm_module *module) {
    memory_storage storage;
    memory_storage_init(&storage);
    cal_vm_storage table = memory_storage_table(&storage);
    cal_vm_call call = {.storage = &table,
                        .os = &os->os,
                        .memory_max = MEMORY,
                        .max_gas = GAS,
                        .has_private = true};
    for (size_t i = 0; i < module->function_count && i < METHODS_MAX; i++) {
        cal_vm_outcome outcome;
        call.method = module->functions[i].name;
        cal_vm_run(vm, module, &call, &outcome);
        if (outcome.failure == CAL_VM_FAIL_NODE) abort(); /* nothing here fails but the guest */
        cal_vm_outcome_deinit(&outcome);
    }
    memory_storage_deinit(&storage);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static guest_os os;
    guest_os_init(&os);
    cal_vm *vm = the_vm(&os);
    cal_vm_module *module = NULL;
    cal_buffer artifact;
    cal_buffer_init(&artifact, SIZE_MAX);
    if (cal_vm_compile(vm, (cal_slice){data, size}, &artifact, NULL) == 0) {
        if (cal_vm_load(vm, cal_buffer_slice(&artifact), &module, NULL) != 0) abort();
        run_methods(vm, &os, module);
        cal_vm_module_unref(module);
    }
    cal_buffer_deinit(&artifact);
    return 0;
}
