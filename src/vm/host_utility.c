/* Host functions for clock, randomness, signatures, and the disabled `fetch` (runtime-abi.md 4.1).
 */
#include "crypto/crypto.h"
#include "vm/internal.h"

static int fetch(vm_state *state, const uint64_t *args, uint64_t *ret) {
    *ret = 1; /* failure */
    return vm_register_set(state, args[4],
                           cal_slice_text("Host function 'fetch' is temporarily disabled."));
}

static int random_bytes(vm_state *state, const uint64_t *args, uint64_t *ret) {
    (void)ret;
    vm_buffer target;
    uint8_t *bytes;
    if (vm_read_buffer(state, args[0], &target) || vm_writable(state, target, &bytes)) return 1;
    if (target.len > 0) state->os->random(state->os->user, bytes, (size_t)target.len);
    return 0;
}

static int time_now(vm_state *state, const uint64_t *args, uint64_t *ret) {
    (void)ret;
    vm_buffer target;
    uint8_t *bytes;
    if (vm_read_buffer(state, args[0], &target)) return 1;
    if (target.len != 8) return vm_fail_memory(state);
    if (vm_writable(state, target, &bytes)) return 1;
    cal_write_u64le(bytes, state->os->wall_ns(state->os->user));
    return 0;
}

static int ed25519_verify(vm_state *state, const uint64_t *args, uint64_t *ret) {
    vm_buffer signature_buffer, key_buffer, message_buffer;
    const uint8_t *signature, *key;
    cal_slice message;
    if (vm_read_buffer(state, args[0], &signature_buffer) ||
        vm_read_buffer(state, args[1], &key_buffer))
        return 1;
    if (vm_read_buffer(state, args[2], &message_buffer)) return 1;
    if (vm_fixed(state, signature_buffer, CAL_SIGNATURE_SIZE, &signature)) return 1;
    if (vm_fixed(state, key_buffer, 32, &key) || vm_bytes(state, message_buffer, &message))
        return 1;
    if (!cal_public_key_decodes(key))
        return vm_fail_host(state, "Ed25519IncorrectPublicKey", "incorrect ed25519 public key");
    *ret = cal_verify_lax(key, message, signature) ? 1 : 0;
    return 0;
}

const vm_host_function vm_host_utility[] = {
    {"fetch", 5, 32, fetch},
    {"random_bytes", 1, 0, random_bytes},
    {"time_now", 1, 0, time_now},
    {"ed25519_verify", 3, 32, ed25519_verify},
    {0},
};
