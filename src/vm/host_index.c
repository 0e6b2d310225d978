/* Host functions over the ordered index and its markers (runtime-abi.md 4.1, 4.2). Keys of any
 * length up to the limit; in a read-only call changes answer 0. */
#include "vm/internal.h"

static int fail_key(vm_state *state) {
    return vm_fail_host(state, "KeyLengthOverflow", "key length overflow");
}

static int read_key(vm_state *state, uint64_t address, cal_slice *ret_key) {
    vm_buffer buffer;
    if (vm_read_buffer(state, address, &buffer)) return 1;
    if (buffer.len > VM_STORAGE_KEY_MAX) return fail_key(state);
    return vm_bytes(state, buffer, ret_key);
}

/* Both bounds of a range: descriptors first, then sizes, then bytes. */
static int read_range(vm_state *state, const uint64_t *args, cal_slice *ret_lo, cal_slice *ret_hi) {
    vm_buffer lo, hi;
    if (vm_read_buffer(state, args[0], &lo) || vm_read_buffer(state, args[1], &hi)) return 1;
    if (lo.len > VM_STORAGE_KEY_MAX || hi.len > VM_STORAGE_KEY_MAX) return fail_key(state);
    return vm_bytes(state, lo, ret_lo) || vm_bytes(state, hi, ret_hi);
}

static int set(vm_state *state, cal_vm_space space, const uint64_t *args, uint64_t *ret) {
    vm_buffer key_buffer, value_buffer;
    cal_slice key, value;
    if (vm_read_buffer(state, args[0], &key_buffer) ||
        vm_read_buffer(state, args[1], &value_buffer))
        return 1;
    if (key_buffer.len > VM_STORAGE_KEY_MAX) return fail_key(state);
    if (value_buffer.len > VM_STORAGE_VALUE_MAX)
        return vm_fail_host(state, "ValueLengthOverflow", "value length overflow");
    if (vm_bytes(state, key_buffer, &key) || vm_bytes(state, value_buffer, &value)) return 1;
    if (vm_charge_write(state, key.len + value.len)) return 1;
    *ret = 0;
    if (state->call->read_only) return 0;
    const cal_vm_storage *storage = state->call->storage;
    int code = storage->write(storage->user, space, key, value, NULL);
    if (code < 0) return vm_fail_node(state, code);
    *ret = 1;
    return 0;
}

static int clear(vm_state *state, cal_vm_space space, cal_slice key, uint64_t *ret) {
    *ret = 0;
    if (state->call->read_only) return 0;
    const cal_vm_storage *storage = state->call->storage;
    int code = storage->remove(storage->user, space, key, NULL);
    if (code < 0) return vm_fail_node(state, code);
    *ret = 1; /* also when it was absent */
    return 0;
}

static int storage_index_set(vm_state *state, const uint64_t *args, uint64_t *ret) {
    return set(state, CAL_VM_INDEX, args, ret);
}

static int storage_index_meta_set(vm_state *state, const uint64_t *args, uint64_t *ret) {
    return set(state, CAL_VM_INDEX_META, args, ret);
}

static int storage_index_remove(vm_state *state, const uint64_t *args, uint64_t *ret) {
    cal_slice key;
    if (read_key(state, args[0], &key)) return 1;
    return clear(state, CAL_VM_INDEX, key, ret);
}

static int storage_index_meta_clear(vm_state *state, const uint64_t *args, uint64_t *ret) {
    cal_slice key;
    if (read_key(state, args[0], &key) || vm_charge_write(state, key.len)) return 1;
    return clear(state, CAL_VM_INDEX_META, key, ret);
}

static int storage_index_remove_prefix(vm_state *state, const uint64_t *args, uint64_t *ret) {
    cal_slice prefix;
    if (read_key(state, args[0], &prefix)) return 1;
    *ret = 0;
    if (state->call->read_only) return 0;
    const cal_vm_storage *storage = state->call->storage;
    int code = storage->remove_prefix(storage->user, prefix);
    if (code < 0) return vm_fail_node(state, code);
    *ret = 1;
    return 0;
}

static int storage_index_meta_get(vm_state *state, const uint64_t *args, uint64_t *ret) {
    cal_slice key;
    if (read_key(state, args[0], &key)) return 1;
    const cal_vm_storage *storage = state->call->storage;
    cal_buffer_reset(&state->scratch);
    int found = storage->read(storage->user, CAL_VM_INDEX_META, key, &state->scratch);
    if (found < 0) return vm_fail_node(state, found);
    *ret = found ? 1 : 0;
    return found ? vm_register_take(state, args[1], &state->scratch) : 0;
}

/* --- ranges --- */

typedef struct encoding {
    cal_buffer *out;
    uint32_t count;
    uint64_t max;
} encoding;

static int encode_pair(void *user, cal_slice key, cal_slice value) {
    encoding *pairs = user;
    if (pairs->count == pairs->max) return CAL_EINTERNAL; /* more than was asked for */
    cal_buffer_append_u32le(pairs->out, (uint32_t)key.len);
    cal_buffer_append_slice(pairs->out, key);
    cal_buffer_append_u32le(pairs->out, (uint32_t)value.len);
    pairs->count++;
    return cal_buffer_append_slice(pairs->out, value);
}

static int scan(vm_state *state, const uint64_t *args, uint64_t skip, uint64_t max, bool last_only,
                uint64_t register_id) {
    cal_slice lo, hi;
    if (read_range(state, args, &lo, &hi)) return 1;
    cal_buffer *out = &state->scratch;
    cal_buffer_reset(out);
    encoding pairs = {.out = out, .max = max};
    int code = cal_buffer_append_u32le(out, 0);
    const cal_vm_storage *storage = state->call->storage;
    if (code == 0 && max > 0 && cal_slice_compare(lo, hi) < 0)
        code = storage->scan(storage->user, lo, hi, skip, max, last_only, encode_pair, &pairs);
    /* More than a register holds is the guest's doing: it may ask for less. */
    if (out->error == CAL_ELIMIT) return vm_fail_memory(state);
    if (code < 0) return vm_fail_node(state, code);
    cal_write_u32le(out->data, pairs.count);
    return vm_register_take(state, register_id, out);
}

static int storage_index_scan(vm_state *state, const uint64_t *args, uint64_t *ret) {
    uint64_t limit = args[3] == 0 ? VM_INDEX_SCAN_MAX : args[3] - 1;
    if (limit > VM_INDEX_SCAN_MAX) limit = VM_INDEX_SCAN_MAX;
    *ret = 1;
    return scan(state, args, args[2], limit, false, args[4]);
}

static int storage_index_last(vm_state *state, const uint64_t *args, uint64_t *ret) {
    *ret = 1;
    return scan(state, args, 0, 1, true, args[2]);
}

const vm_host_function vm_host_index[] = {
    {"storage_index_set", 2, 32, storage_index_set},
    {"storage_index_remove", 1, 32, storage_index_remove},
    {"storage_index_remove_prefix", 1, 32, storage_index_remove_prefix},
    {"storage_index_scan", 5, 32, storage_index_scan},
    {"storage_index_last", 3, 32, storage_index_last},
    {"storage_index_meta_set", 2, 32, storage_index_meta_set},
    {"storage_index_meta_get", 2, 32, storage_index_meta_get},
    {"storage_index_meta_clear", 1, 32, storage_index_meta_clear},
    {0},
};
