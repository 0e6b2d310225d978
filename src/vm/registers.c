/* The call's registers (runtime-abi.md 3): what host functions answer with. Nothing deletes one
 * during a call. */
#include "vm/internal.h"

enum { KEPT_CAPACITY = 64 * 1024 };

static vm_register *find(const vm_registers *registers, uint64_t id) {
    for (size_t i = 0; i < registers->count; i++)
        if (registers->slots[i].id == id) return (vm_register *)(uintptr_t)&registers->slots[i];
    return NULL;
}

const cal_buffer *vm_register_get(const vm_registers *registers, uint64_t id) {
    const vm_register *found = find(registers, id);
    return found ? &found->content : NULL;
}

/* The register that may take len bytes, counted as if it held them. */
static int claim(vm_state *state, uint64_t id, size_t len, vm_register **ret_register) {
    vm_registers *registers = &state->registers;
    vm_register *slot = find(registers, id);
    if (len > VM_REGISTER_SIZE_MAX) return vm_fail_memory(state);
    if (!slot && registers->count == VM_REGISTERS_MAX) return vm_fail_memory(state);
    uint64_t total = registers->total + VM_REGISTER_OVERHEAD + len;
    if (slot) total -= VM_REGISTER_OVERHEAD + slot->content.len;
    if (total > VM_REGISTERS_TOTAL_MAX) return vm_fail_memory(state);
    if (!slot) {
        slot = &registers->slots[registers->count++];
        slot->id = id;
        cal_buffer_init(&slot->content, VM_REGISTER_SIZE_MAX);
    }
    registers->total = total;
    *ret_register = slot;
    return 0;
}

int vm_register_set(vm_state *state, uint64_t id, cal_slice bytes) {
    vm_register *slot;
    if (claim(state, id, bytes.len, &slot)) return 1;
    /* A register that shrank must not hold on to memory that the accounting no longer sees. */
    if (slot->content.capacity > KEPT_CAPACITY && slot->content.capacity / 4 > bytes.len)
        cal_buffer_deinit(&slot->content);
    cal_buffer_reset(&slot->content);
    int code = cal_buffer_append_slice(&slot->content, bytes);
    return code == 0 ? 0 : vm_fail_node(state, code);
}

int vm_register_take(vm_state *state, uint64_t id, cal_buffer *bytes) {
    vm_register *slot;
    if (claim(state, id, bytes->len, &slot)) return 1;
    cal_buffer old = slot->content;
    slot->content = *bytes;
    *bytes = old;
    if (bytes->capacity > KEPT_CAPACITY) cal_buffer_deinit(bytes);
    cal_buffer_reset(bytes);
    return 0;
}

void vm_registers_deinit(vm_registers *registers) {
    for (size_t i = 0; i < registers->count; i++) cal_buffer_deinit(&registers->slots[i].content);
    registers->count = 0;
}
