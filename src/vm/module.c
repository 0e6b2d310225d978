/* Modules: from source to an artefact (checks of runtime-abi.md 1, in its order), and from an
 * artefact to something that can be called. Linking happens here, once a module; a call only
 * instantiates. Any thread. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "vm/internal.h"

static bool name_is(const wasm_name_t *name, const char *text) {
    return name->size == strlen(text) && memcmp(name->data, text, name->size) == 0;
}

static int refuse_imported_memory(const wasmtime_module_t *module, cal_error *err) {
    wasm_importtype_vec_t imports;
    wasmtime_module_imports(module, &imports);
    int code = 0;
    for (size_t i = 0; i < imports.size && code == 0; i++) {
        if (wasm_externtype_kind(wasm_importtype_type(imports.data[i])) != WASM_EXTERN_MEMORY)
            continue;
        const wasm_name_t *from = wasm_importtype_module(imports.data[i]);
        const wasm_name_t *name = wasm_importtype_name(imports.data[i]);
        code = cal_fail(err, CAL_EGUEST,
                        "module rejected by validation: it imports the memory `%.*s::%.*s`; a "
                        "module must define and "
                        "export its own memory",
                        (int)(from->size > 100 ? 100 : from->size), from->data,
                        (int)(name->size > 100 ? 100 : name->size), name->data);
    }
    wasm_importtype_vec_delete(&imports);
    return code;
}

static int check_exports(const wasmtime_module_t *module, cal_error *err) {
    wasm_exporttype_vec_t exports;
    wasmtime_module_exports(module, &exports);
    bool has_start = false, has_memory = false;
    for (size_t i = 0; i < exports.size; i++) {
        const wasm_name_t *name = wasm_exporttype_name(exports.data[i]);
        wasm_externkind_t kind = wasm_externtype_kind(wasm_exporttype_type(exports.data[i]));
        if (kind == WASM_EXTERN_FUNC && name_is(name, "_start")) has_start = true;
        if (kind == WASM_EXTERN_MEMORY && name_is(name, "memory")) has_memory = true;
    }
    wasm_exporttype_vec_delete(&exports);
    if (has_start)
        return cal_fail(err, CAL_EGUEST,
                        "module rejected by validation: it exports a function `_start`; command "
                        "programs are not "
                        "supported, methods are called by their names");
    if (!has_memory)
        return cal_fail(err, CAL_EGUEST,
                        "module rejected by validation: it exports no memory named `memory`, "
                        "through which its state "
                        "is read");
    return 0;
}

static int serialize(const wasmtime_module_t *module, cal_buffer *ret_artifact, cal_error *err) {
    wasm_byte_vec_t bytes;
    wasmtime_error_t *error = wasmtime_module_serialize(module, &bytes);
    if (error) {
        char text[512];
        vm_engine_text(error, text, sizeof text);
        return cal_fail(err, CAL_EINTERNAL, "the compiled module cannot be stored: %s", text);
    }
    int code = cal_buffer_append(ret_artifact, bytes.data, bytes.size);
    if (code != 0)
        code = cal_fail(err, code, "the compiled module of %zu bytes does not fit: %s", bytes.size,
                        cal_error_text(code));
    wasm_byte_vec_delete(&bytes);
    return code;
}

int cal_vm_compile(cal_vm *vm, cal_slice wasm, cal_buffer *ret_artifact, cal_error *err) {
    uint64_t size = wasm.len > CAL_VM_MODULE_MAX ? vm_module_size(wasm) : wasm.len;
    if (size > CAL_VM_MODULE_MAX)
        return cal_fail(err, CAL_EGUEST,
                        "module size limit (max_module_size) exceeded: %" PRIu64
                        " bytes > %d bytes limit",
                        size, CAL_VM_MODULE_MAX);
    static const uint8_t nothing;
    wasmtime_module_t *module = NULL;
    wasmtime_error_t *error =
        wasmtime_module_new(vm->engine, wasm.len ? wasm.data : &nothing, wasm.len, &module);
    if (error) {
        char text[900];
        vm_engine_text(error, text, sizeof text);
        return cal_fail(err, CAL_EGUEST, "compilation error: %s", text);
    }
    int code = refuse_imported_memory(module, err);
    if (code == 0) code = check_exports(module, err);
    if (code == 0) code = serialize(module, ret_artifact, err);
    wasmtime_module_delete(module);
    return code;
}

/* --- loading --- */

static int by_name(const void *a, const void *b) {
    return strcmp(((const vm_export *)a)->name, ((const vm_export *)b)->name);
}

static int add_function(cal_vm_module *module, const wasm_name_t *name,
                        const wasm_functype_t *type) {
    /* No method has a NUL in its name. */
    if (memchr(name->data, 0, name->size)) return 0;
    char *copy = malloc(name->size + 1);
    if (!copy) return CAL_ENOMEM;
    memcpy(copy, name->data, name->size);
    copy[name->size] = '\0';
    bool plain = wasm_functype_params(type)->size == 0 && wasm_functype_results(type)->size == 0;
    module->functions[module->function_count++] = (vm_export){copy, plain};
    return 0;
}

static int list_functions(cal_vm_module *module) {
    wasm_exporttype_vec_t exports;
    wasmtime_module_exports(module->module, &exports);
    int code = 0;
    module->functions = calloc(exports.size ? exports.size : 1, sizeof *module->functions);
    if (!module->functions) code = CAL_ENOMEM;
    for (size_t i = 0; i < exports.size && code == 0; i++) {
        const wasm_externtype_t *type = wasm_exporttype_type(exports.data[i]);
        if (wasm_externtype_kind(type) == WASM_EXTERN_FUNC)
            code = add_function(module, wasm_exporttype_name(exports.data[i]),
                                wasm_externtype_as_functype_const(type));
    }
    wasm_exporttype_vec_delete(&exports);
    if (code == 0 && module->function_count)
        qsort(module->functions, module->function_count, sizeof *module->functions, by_name);
    return code;
}

static int link_module(cal_vm *vm, cal_vm_module *module) {
    wasmtime_error_t *error =
        wasmtime_linker_instantiate_pre(vm->linker, module->module, &module->pre);
    if (!error) return 0;
    char text[900];
    vm_engine_text(error, text, sizeof text);
    module->pre = NULL;
    module->link_error = strdup(text);
    return module->link_error ? 0 : CAL_ENOMEM;
}

int cal_vm_load(cal_vm *vm, cal_slice artifact, cal_vm_module **ret_module, cal_error *err) {
    if (artifact.len == 0)
        return cal_fail(err, CAL_ECORRUPT, "the compiled module is empty; compile it again");
    cal_vm_module *module = calloc(1, sizeof *module);
    if (!module) return cal_fail(err, CAL_ENOMEM, "no memory for a module");
    atomic_init(&module->refs, 1);
    wasmtime_error_t *error =
        wasmtime_module_deserialize(vm->engine, artifact.data, artifact.len, &module->module);
    if (error) {
        char text[512];
        vm_engine_text(error, text, sizeof text);
        module->module = NULL;
        cal_vm_module_unref(module);
        return cal_fail(err, CAL_ECORRUPT,
                        "the compiled module does not load; compile it again: %s", text);
    }
    int code = list_functions(module);
    if (code == 0) code = link_module(vm, module);
    if (code != 0) {
        cal_vm_module_unref(module);
        return cal_fail(err, code, "no memory for a module");
    }
    module->has_register_merge = cal_vm_module_exports(module, "__calimero_register_merge");
    *ret_module = module;
    return 0;
}

cal_vm_module *cal_vm_module_ref(cal_vm_module *module) {
    atomic_fetch_add_explicit(&module->refs, 1, memory_order_relaxed);
    return module;
}

void cal_vm_module_unref(cal_vm_module *module) {
    if (!module || atomic_fetch_sub_explicit(&module->refs, 1, memory_order_acq_rel) != 1) return;
    if (module->pre) wasmtime_instance_pre_delete(module->pre);
    if (module->module) wasmtime_module_delete(module->module);
    for (size_t i = 0; i < module->function_count; i++) free(module->functions[i].name);
    free(module->functions);
    free(module->link_error);
    free(module);
}

const vm_export *vm_module_function(const cal_vm_module *module, const char *name) {
    if (module->function_count == 0) return NULL;
    vm_export key = {.name = (char *)(uintptr_t)name};
    return bsearch(&key, module->functions, module->function_count, sizeof *module->functions,
                   by_name);
}

bool cal_vm_module_exports(const cal_vm_module *module, const char *name) {
    const vm_export *function = vm_module_function(module, name);
    return function && function->plain;
}
