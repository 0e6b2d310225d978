/* Guest memory and its descriptors (runtime-abi.md 2). Every address and length is the guest's
 * word: nothing is read before ptr + len is known, without wrapping, to end inside the memory as it
 * is now. */
#include "codec/utf8.h"
#include "vm/internal.h"

static bool range_ok(const vm_state *state, uint64_t ptr, uint64_t len) {
    return len <= state->size && ptr <= state->size - len;
}

bool vm_in_memory(const vm_state *state, vm_buffer buffer) {
    return range_ok(state, buffer.ptr, buffer.len);
}

int vm_read_raw(vm_state *state, uint64_t address, size_t len, const uint8_t **ret_bytes) {
    if (!range_ok(state, address, len)) return vm_fail_memory(state);
    *ret_bytes = state->base + address;
    return 0;
}

vm_buffer vm_buffer_at(const uint8_t *bytes) {
    return (vm_buffer){cal_read_u64le(bytes), cal_read_u64le(bytes + 8)};
}

int vm_read_buffer(vm_state *state, uint64_t address, vm_buffer *ret_buffer) {
    const uint8_t *bytes;
    if (vm_read_raw(state, address, 16, &bytes)) return 1;
    *ret_buffer = vm_buffer_at(bytes);
    return 0;
}

int vm_bytes(vm_state *state, vm_buffer buffer, cal_slice *ret_bytes) {
    if (!range_ok(state, buffer.ptr, buffer.len)) return vm_fail_memory(state);
    *ret_bytes = cal_slice_of(state->base + buffer.ptr, (size_t)buffer.len);
    return 0;
}

int vm_text(vm_state *state, vm_buffer buffer, cal_slice *ret_text) {
    cal_slice text;
    if (vm_bytes(state, buffer, &text)) return 1;
    if (!cal_utf8_valid(text)) return vm_fail_host(state, "BadUTF8", "invalid UTF-8 string");
    *ret_text = text;
    return 0;
}

int vm_fixed(vm_state *state, vm_buffer buffer, size_t len, const uint8_t **ret_bytes) {
    if (buffer.len != len || !range_ok(state, buffer.ptr, buffer.len)) return vm_fail_memory(state);
    *ret_bytes = state->base + buffer.ptr;
    return 0;
}

int vm_writable(vm_state *state, vm_buffer buffer, uint8_t **ret_bytes) {
    if (!range_ok(state, buffer.ptr, buffer.len)) return vm_fail_memory(state);
    *ret_bytes = state->base + buffer.ptr;
    return 0;
}
