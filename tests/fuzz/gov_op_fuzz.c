/* Operations: whatever decodes encodes to bytes that decode to the same again, and checking it
 * never crashes. The first byte picks the type. */
#include <stdlib.h>
#include <string.h>

#include "gov/topic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARENA_MAX = 64 << 20 };

typedef int (*recoder)(cal_slice bytes, cal_arena *arena, cal_buffer *out);

static int root_op(cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    gov_root_op op;
    int result = gov_root_op_decode(bytes, arena, &op);
    return result ? result : gov_root_op_write(&op, out);
}

static int group_op(cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    gov_group_op op;
    int result = gov_group_op_decode(bytes, arena, &op);
    if (!result) gov_group_op_check(&op);
    return result ? result : gov_group_op_write(&op, out);
}

static int signed_op(cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    gov_signed_op op;
    cal_error err;
    cal_hash id;
    int result = gov_signed_op_decode(bytes, arena, &op);
    if (result) return result;
    gov_signed_op_id(&op, &id);
    gov_signed_op_check(&op, &err);
    return gov_signed_op_write(&op, out);
}

static int topic(cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    gov_topic_message message;
    int result = gov_topic_decode(bytes, arena, &message);
    return result ? result : gov_topic_write(&message, out);
}

static int broadcast(cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    gov_broadcast message;
    int result = gov_broadcast_decode(bytes, arena, &message);
    return result ? result : gov_broadcast_write(&message, out);
}

static int state_delta(cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    gov_state_delta delta;
    int result = gov_state_delta_decode(bytes, arena, &delta);
    return result ? result : gov_state_delta_write(&delta, out);
}

static int payload(cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    gov_delta_payload decoded;
    (void)arena;
    int result = gov_delta_payload_decode(bytes, &decoded);
    return result ? result : gov_delta_payload_write(&decoded, out);
}

static int envelope(cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    (void)arena;
    cal_borsh in = cal_borsh_read(bytes);
    gov_envelope decoded;
    cal_secret seed = {{1}}, key;
    cal_device_id device = {{0}};
    cal_group_id group = {{2}};
    gov_envelope_read(&in, &decoded);
    if (cal_borsh_end(&in)) return in.error;
    gov_envelope_open(&decoded, &group, &seed, &device, &seed, NULL, &key);
    return gov_envelope_write(&decoded, out);
}

static int credential(cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    cal_borsh in = cal_borsh_read(bytes);
    gov_credential decoded;
    gov_credential_read(&in, arena, &decoded);
    if (cal_borsh_end(&in)) return in.error;
    gov_credential_verify(&decoded, &decoded.cert.account, NULL);
    return gov_credential_write(&decoded, out);
}

static int revocation(cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    cal_borsh in = cal_borsh_read(bytes);
    gov_revocation_proof decoded;
    gov_revocation_proof_read(&in, arena, &decoded);
    if (cal_borsh_end(&in)) return in.error;
    gov_revocation_verify(&decoded, &decoded.revocation.account, NULL);
    return gov_revocation_proof_write(&decoded, out);
}

static int invitation(cal_slice bytes, cal_arena *arena, cal_buffer *out) {
    gov_invitation decoded;
    (void)arena;
    int result = gov_invitation_decode(bytes, &decoded);
    if (result) return result;
    gov_invitation_verify(&decoded, NULL);
    return gov_invitation_write(&decoded, out);
}

static const recoder recoders[] = {root_op,    group_op,    signed_op, topic,
                                   broadcast,  state_delta, payload,   envelope,
                                   credential, revocation,  invitation};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 256 * 1024) return 0;
    recoder recode = recoders[data[0] % (sizeof recoders / sizeof *recoders)];
    cal_arena arena;
    cal_buffer once, twice;
    cal_arena_init(&arena, ARENA_MAX);
    cal_buffer_init(&once, 4 << 20);
    cal_buffer_init(&twice, 4 << 20);
    if (recode(cal_slice_of(data + 1, size - 1), &arena, &once) == 0) {
        if (recode(cal_buffer_slice(&once), &arena, &twice) != 0) abort();
        if (!cal_slice_equal(cal_buffer_slice(&once), cal_buffer_slice(&twice))) abort();
    }
    cal_buffer_deinit(&once);
    cal_buffer_deinit(&twice);
    cal_arena_deinit(&arena);
    return 0;
}
