/* The same calls through the node's own src/vm over a table in memory: what lies between it and the
 * bare loop is the price of the sandbox's checks, what lies above it is the node's. One thread. */
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "support/memory_storage.h"
#include "vm/vm.h"

struct vm_loop {
    cal_vm *vm;
    cal_vm_module *module;
    memory_storage memory;
    cal_vm_storage storage;
};

vm_loop *vm_loop_open(const char *wasm_path, double *ret_load_us) {
    vm_loop *loop = calloc(1, sizeof *loop);
    cal_error err = {0};
    cal_buffer wasm, artefact;
    if (!loop) bench_die("no memory");
    cal_buffer_init(&wasm, CAL_VM_MODULE_MAX);
    cal_buffer_init(&artefact, (size_t)CAL_VM_MODULE_MAX * 4);
    memory_storage_init(&loop->memory);
    loop->storage = memory_storage_table(&loop->memory);
    int code = cal_os_read_file(cal_os_posix(), wasm_path, CAL_VM_MODULE_MAX, &wasm, &err);
    if (code == 0) code = cal_vm_new(cal_os_posix(), NULL, &loop->vm, &err);
    if (code == 0) code = cal_vm_compile(loop->vm, cal_buffer_slice(&wasm), &artefact, &err);
    uint64_t began = bench_now_ns();
    if (code == 0) code = cal_vm_load(loop->vm, cal_buffer_slice(&artefact), &loop->module, &err);
    if (code != 0) bench_die("the node's engine: %s", err.message);
    *ret_load_us = (double)(bench_now_ns() - began) / 1e3;
    cal_buffer_deinit(&wasm);
    cal_buffer_deinit(&artefact);
    return loop;
}

void vm_loop_call(vm_loop *loop, const char *method, const char *args, samples *times) {
    cal_vm_call call = {.method = method,
                        .input = cal_slice_text(args),
                        .storage = &loop->storage,
                        .has_private = true,
                        .deadline_ms = 10000};
    cal_vm_outcome outcome;
    uint64_t began = bench_now_ns();
    cal_vm_run(loop->vm, loop->module, &call, &outcome);
    if (outcome.failure != CAL_VM_FINE || outcome.return_kind == CAL_VM_RETURN_ERR)
        bench_die("%s in the node's engine: %s", method, outcome.error);
    cal_vm_outcome_deinit(&outcome);
    if (times) samples_add(times, (double)(bench_now_ns() - began) / 1e3);
}

void vm_loop_close(vm_loop *loop) {
    cal_vm_module_unref(loop->module);
    cal_vm_free(loop->vm);
    memory_storage_deinit(&loop->memory);
    free(loop);
}
