/* The imports of a guest, as WebAssembly text, from the vm's own tables of host functions. */
#ifndef CAL_TESTS_GUEST_TEXT_H
#define CAL_TESTS_GUEST_TEXT_H

#include "vm/internal.h"

static const vm_host_function *const guest_tables[] = {
    vm_host_system, vm_host_storage, vm_host_index, vm_host_utility, vm_host_blob};
enum { GUEST_TABLES = 5 };

static inline void guest_import(cal_buffer *text, const vm_host_function *function) {
    cal_buffer_printf(text, "(import \"env\" \"%s\" (func $%s", function->name, function->name);
    if (function->params) cal_buffer_append_text(text, " (param");
    for (int i = 0; i < function->params; i++) cal_buffer_append_text(text, " i64");
    if (function->params) cal_buffer_append_text(text, ")");
    if (function->result) cal_buffer_printf(text, " (result i%d)", function->result);
    cal_buffer_append_text(text, "))\n");
}

static inline void guest_imports(cal_buffer *text) {
    for (int i = 0; i < GUEST_TABLES; i++)
        for (const vm_host_function *function = guest_tables[i]; function->name; function++)
            guest_import(text, function);
}

#endif
