/* Host functions over state and private storage, and the write budget
 * (runtime-abi.md 4.1, 4.3, 4.4).
 *
 * Keys of another length than 32 bytes exist for the guest only as misses: the call's storage never
 * sees them. In a read-only call nothing is written, yet the budget is charged, so that a method
 * ends the same way in both modes. */
#include <inttypes.h>

#include "vm/internal.h"

int vm_charge_write(vm_state *state, uint64_t bytes) {
    if (state->write_count >= VM_STORAGE_WRITES_MAX)
        return vm_fail_host(state, "StorageWriteCountExceeded",
                            "storage write count budget exceeded (max: %d)", VM_STORAGE_WRITES_MAX);
    uint64_t total = state->write_bytes + bytes;
    if (total > VM_STORAGE_WRITE_BYTES_MAX)
        return vm_fail_host(state, "StorageWriteBytesExceeded",
                            "storage write byte budget exceeded (attempted: %" PRIu64 ", max: %d)",
                            total, VM_STORAGE_WRITE_BYTES_MAX);
    state->write_count++;
    state->write_bytes = total;
    return 0;
}

static int read_key(vm_state *state, uint64_t address, cal_slice *ret_key) {
    vm_buffer buffer;
    if (vm_read_buffer(state, address, &buffer)) return 1;
    if (buffer.len > VM_STORAGE_KEY_MAX)
        return vm_fail_host(state, "KeyLengthOverflow", "key length overflow");
    return vm_bytes(state, buffer, ret_key);
}

static int read_pair(vm_state *state, const uint64_t *args, cal_slice *ret_key,
                     cal_slice *ret_value) {
    vm_buffer key, value;
    if (vm_read_buffer(state, args[0], &key) || vm_read_buffer(state, args[1], &value)) return 1;
    if (key.len > VM_STORAGE_KEY_MAX)
        return vm_fail_host(state, "KeyLengthOverflow", "key length overflow");
    if (value.len > VM_STORAGE_VALUE_MAX)
        return vm_fail_host(state, "ValueLengthOverflow", "value length overflow");
    return vm_bytes(state, key, ret_key) || vm_bytes(state, value, ret_value);
}

/* `found` is what the storage answered, with the value in scratch. */
static int answer(vm_state *state, int found, uint64_t register_id, uint64_t *ret) {
    if (found < 0) return vm_fail_node(state, found);
    *ret = found ? 1 : 0;
    return found ? vm_register_take(state, register_id, &state->scratch) : 0;
}

static int get(vm_state *state, cal_vm_space space, const uint64_t *args, uint64_t *ret) {
    cal_slice key;
    if (read_key(state, args[0], &key)) return 1;
    *ret = 0;
    if (key.len != VM_STATE_KEY_SIZE || (space == CAL_VM_PRIVATE && !state->call->has_private))
        return 0;
    const cal_vm_storage *storage = state->call->storage;
    cal_buffer_reset(&state->scratch);
    return answer(state, storage->read(storage->user, space, key, &state->scratch), args[1], ret);
}

static int take_out(vm_state *state, cal_vm_space space, const uint64_t *args, uint64_t *ret) {
    cal_slice key;
    if (read_key(state, args[0], &key)) return 1;
    *ret = 0;
    if (key.len != VM_STATE_KEY_SIZE || state->call->read_only) return 0;
    if (space == CAL_VM_PRIVATE && !state->call->has_private) return 0;
    const cal_vm_storage *storage = state->call->storage;
    cal_buffer_reset(&state->scratch);
    return answer(state, storage->remove(storage->user, space, key, &state->scratch), args[1], ret);
}

static int storage_read(vm_state *state, const uint64_t *args, uint64_t *ret) {
    return get(state, CAL_VM_STATE, args, ret);
}

static int storage_remove(vm_state *state, const uint64_t *args, uint64_t *ret) {
    return take_out(state, CAL_VM_STATE, args, ret);
}

static int storage_write(vm_state *state, const uint64_t *args, uint64_t *ret) {
    cal_slice key, value;
    if (read_pair(state, args, &key, &value) || vm_charge_write(state, key.len + value.len))
        return 1;
    *ret = 0;
    if (key.len != VM_STATE_KEY_SIZE || state->call->read_only) return 0;
    const cal_vm_storage *storage = state->call->storage;
    cal_buffer_reset(&state->scratch);
    int replaced = storage->write(storage->user, CAL_VM_STATE, key, value, &state->scratch);
    return answer(state, replaced, args[2], ret);
}

static int private_storage_read(vm_state *state, const uint64_t *args, uint64_t *ret) {
    return get(state, CAL_VM_PRIVATE, args, ret);
}

static int private_storage_remove(vm_state *state, const uint64_t *args, uint64_t *ret) {
    return take_out(state, CAL_VM_PRIVATE, args, ret);
}

static int private_storage_write(vm_state *state, const uint64_t *args, uint64_t *ret) {
    cal_slice key, value;
    if (read_pair(state, args, &key, &value)) return 1;
    *ret = 0;
    if (!state->call->has_private) return 0;
    if (vm_charge_write(state, key.len + value.len)) return 1;
    *ret = 1; /* also for what is dropped: the guest is told the same */
    if (key.len != VM_STATE_KEY_SIZE || state->call->read_only) return 0;
    const cal_vm_storage *storage = state->call->storage;
    int code = storage->write(storage->user, CAL_VM_PRIVATE, key, value, NULL);
    return code < 0 ? vm_fail_node(state, code) : 0;
}

const vm_host_function vm_host_storage[] = {
    {"storage_read", 2, 32, storage_read},
    {"storage_remove", 2, 32, storage_remove},
    {"storage_write", 3, 32, storage_write},
    {"private_storage_read", 2, 32, private_storage_read},
    {"private_storage_remove", 2, 32, private_storage_remove},
    {"private_storage_write", 2, 32, private_storage_write},
    {0},
};
