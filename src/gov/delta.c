/* What surrounds a state delta, see delta.h. */
#include "gov/delta.h"

static const char delta_domain[] = "calimero/delta/2"; /* 16 bytes, no NUL, no length */

enum { STATE_DELTA_VARIANT = 0, SEALED_MAX = GOV_DELTA_PLAIN_MAX + CAL_AEAD_TAG_SIZE };

void gov_position_read(cal_borsh *in, gov_position *ret_position) {
    ret_position->count = cal_borsh_count(in, GOV_POSITION_HEADS_MAX, 32);
    for (uint32_t i = 0; i < ret_position->count; i++) {
        cal_borsh_fixed(in, ret_position->heads[i].bytes, 32);
        for (uint32_t j = 0; j < i; j++)
            if (memcmp(ret_position->heads[i].bytes, ret_position->heads[j].bytes, 32) == 0)
                cal_borsh_fail(in, CAL_EDECODE);
    }
}

int gov_position_write(const gov_position *position, cal_buffer *out) {
    cal_buffer_append_u32le(out, position->count);
    return cal_buffer_append(out, position->heads, position->count * sizeof *position->heads);
}

void gov_hlc_read(cal_borsh *in, gov_hlc *ret_hlc) {
    ret_hlc->time = cal_borsh_u64(in);
    ret_hlc->id = cal_borsh_u128(in);
    if (!ret_hlc->id.low && !ret_hlc->id.high) cal_borsh_fail(in, CAL_EDECODE);
}

int gov_hlc_write(const gov_hlc *hlc, cal_buffer *out) {
    cal_buffer_append_u64le(out, hlc->time);
    return cal_borsh_put_u128(out, hlc->id);
}

int gov_delta_signable(const cal_context_id *context, const cal_hash *delta,
                       const uint8_t author_key[32], const gov_position *position,
                       const gov_hlc *hlc, cal_buffer *out) {
    cal_buffer_append_text(out, delta_domain);
    cal_buffer_append(out, context->bytes, 32);
    cal_buffer_append(out, delta->bytes, 32);
    cal_buffer_append(out, author_key, 32);
    cal_borsh_put_bool(out, position != NULL);
    if (position) gov_position_write(position, out);
    return gov_hlc_write(hlc, out);
}

enum { SIGNABLE_MAX = 256 + GOV_POSITION_HEADS_MAX * 32 };

int gov_delta_sign(const cal_secret *author, const cal_context_id *context, const cal_hash *delta,
                   const gov_position *position, const gov_hlc *hlc,
                   uint8_t ret_signature[CAL_SIGNATURE_SIZE]) {
    uint8_t author_key[32];
    cal_buffer bytes;
    cal_buffer_init(&bytes, SIGNABLE_MAX);
    cal_sign_public_key(author, author_key);
    int result = gov_delta_signable(context, delta, author_key, position, hlc, &bytes);
    if (!result) cal_sign(author, cal_buffer_slice(&bytes), ret_signature);
    cal_buffer_deinit(&bytes);
    return result;
}

bool gov_delta_verify(const uint8_t author_key[32], const cal_context_id *context,
                      const cal_hash *delta, const gov_position *position, const gov_hlc *hlc,
                      const uint8_t signature[CAL_SIGNATURE_SIZE]) {
    cal_buffer bytes;
    cal_buffer_init(&bytes, SIGNABLE_MAX);
    bool valid = gov_delta_signable(context, delta, author_key, position, hlc, &bytes) == 0 &&
                 cal_verify_strict(author_key, cal_buffer_slice(&bytes), signature);
    cal_buffer_deinit(&bytes);
    return valid;
}

/* --- payload --- */

int gov_delta_payload_decode(cal_slice plain, gov_delta_payload *ret_payload) {
    gov_delta_payload payload;
    cal_borsh in = cal_borsh_read(plain);
    cal_borsh_fixed(&in, payload.root.bytes, 32);
    payload.artifact = cal_borsh_bytes(&in, GOV_DELTA_PLAIN_MAX);
    payload.has_events = cal_borsh_bool(&in);
    payload.events =
        payload.has_events ? cal_borsh_bytes(&in, GOV_DELTA_PLAIN_MAX) : (cal_slice){0};
    int result = cal_borsh_end(&in);
    if (!result) *ret_payload = payload;
    return result;
}

int gov_delta_payload_write(const gov_delta_payload *payload, cal_buffer *out) {
    cal_buffer_append(out, payload->root.bytes, 32);
    cal_borsh_put_bytes(out, payload->artifact);
    cal_borsh_put_bool(out, payload->has_events);
    if (payload->has_events) cal_borsh_put_bytes(out, payload->events);
    return out->error;
}

int gov_delta_seal(const cal_secret *group_key, const uint8_t nonce[CAL_AEAD_NONCE_SIZE],
                   const gov_delta_payload *payload, cal_buffer *ret_sealed) {
    cal_buffer plain;
    cal_buffer_init(&plain, GOV_DELTA_PLAIN_MAX);
    int result = gov_delta_payload_write(payload, &plain);
    if (!result)
        result = cal_seal(group_key, nonce, (cal_slice){0}, cal_buffer_slice(&plain), ret_sealed);
    cal_buffer_deinit(&plain);
    return result;
}

int gov_delta_open(const cal_secret *group_key, const uint8_t nonce[CAL_AEAD_NONCE_SIZE],
                   cal_slice sealed, cal_buffer *ret_plain, gov_delta_payload *ret_payload) {
    if (sealed.len > SEALED_MAX) return CAL_ELIMIT;
    size_t start = ret_plain->len;
    int result = cal_open(group_key, nonce, (cal_slice){0}, sealed, ret_plain);
    if (result) return result;
    return gov_delta_payload_decode(cal_slice_of(ret_plain->data + start, ret_plain->len - start),
                                    ret_payload);
}

/* --- gossip --- */

int gov_state_delta_write(const gov_state_delta *delta, cal_buffer *out) {
    if (delta->parent_count > GOV_DELTA_PARENTS_MAX) return CAL_ELIMIT;
    cal_buffer_append_u8(out, STATE_DELTA_VARIANT);
    cal_buffer_append(out, delta->context.bytes, 32);
    cal_buffer_append(out, delta->author_key, 32);
    cal_buffer_append(out, delta->delta.bytes, 32);
    cal_buffer_append_u32le(out, delta->parent_count);
    cal_buffer_append(out, delta->parents, (size_t)delta->parent_count * sizeof *delta->parents);
    gov_hlc_write(&delta->hlc, out);
    cal_borsh_put_bytes(out, delta->sealed);
    cal_buffer_append(out, delta->nonce, CAL_AEAD_NONCE_SIZE);
    cal_borsh_put_bool(out, delta->has_position);
    if (delta->has_position) gov_position_write(&delta->position, out);
    cal_buffer_append(out, delta->key_id.bytes, 32);
    cal_borsh_put_bool(out, delta->has_signature);
    if (delta->has_signature) cal_buffer_append(out, delta->signature, CAL_SIGNATURE_SIZE);
    cal_borsh_put_bool(out, delta->has_app_key);
    if (delta->has_app_key) cal_buffer_append(out, delta->app_key.bytes, 32);
    return out->error;
}

int gov_state_delta_decode(cal_slice message, cal_arena *arena, gov_state_delta *ret_delta) {
    gov_state_delta delta = {0};
    cal_borsh in = cal_borsh_read(message);
    cal_borsh_tag(&in, STATE_DELTA_VARIANT + 1);
    cal_borsh_fixed(&in, delta.context.bytes, 32);
    cal_borsh_fixed(&in, delta.author_key, 32);
    cal_borsh_fixed(&in, delta.delta.bytes, 32);
    delta.parent_count = cal_borsh_count(&in, GOV_DELTA_PARENTS_MAX, 32);
    cal_slice parents = cal_borsh_take(&in, (size_t)delta.parent_count * 32);
    gov_hlc_read(&in, &delta.hlc);
    delta.sealed = cal_borsh_bytes(&in, SEALED_MAX);
    cal_borsh_fixed(&in, delta.nonce, CAL_AEAD_NONCE_SIZE);
    delta.has_position = cal_borsh_bool(&in);
    if (delta.has_position) gov_position_read(&in, &delta.position);
    cal_borsh_fixed(&in, delta.key_id.bytes, 32);
    delta.has_signature = cal_borsh_bool(&in);
    if (delta.has_signature) cal_borsh_fixed(&in, delta.signature, CAL_SIGNATURE_SIZE);
    delta.has_app_key = cal_borsh_bool(&in);
    if (delta.has_app_key) cal_borsh_fixed(&in, delta.app_key.bytes, 32);
    if (cal_borsh_end(&in)) return in.error;
    delta.parents = cal_arena_copy(arena, parents.data, parents.len);
    if (!delta.parents) return CAL_ENOMEM;
    *ret_delta = delta;
    return 0;
}
