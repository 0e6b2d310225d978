/* See noise_xx.h. Names follow the specification: mix hash, mix key, and the tokens e, s, ee, es,
 * se. */
#include "net/noise_xx.h"

#include <assert.h>

#include "calimero/error.h"

static const char protocol_name[] =
    "Noise_XX_25519_ChaChaPoly_SHA256"; /* 32 bytes: the hash itself */

static void mix_hash(noise_xx *xx, cal_slice data) {
    cal_slice parts[] = {{xx->hash, sizeof xx->hash}, data};
    uint8_t hash[CAL_HASH_SIZE];
    cal_sha256_parts(parts, 2, hash);
    memcpy(xx->hash, hash, sizeof hash);
}

/* HKDF with two outputs (section 4.3). */
static void derive(const uint8_t chain[32], cal_slice input, uint8_t ret_first[32],
                   uint8_t ret_second[32]) {
    static const uint8_t one = 1, two = 2;
    uint8_t temp[CAL_HASH_SIZE];
    cal_hmac_sha256(cal_slice_of(chain, 32), &input, 1, temp);
    cal_slice key = {temp, sizeof temp}, first[] = {{&one, 1}};
    uint8_t made[CAL_HASH_SIZE];
    cal_hmac_sha256(key, first, 1, made);
    cal_slice second[] = {{made, sizeof made}, {&two, 1}};
    cal_hmac_sha256(key, second, 2, ret_second);
    memcpy(ret_first, made, sizeof made);
    cal_wipe(made, sizeof made);
    cal_wipe(temp, sizeof temp);
}

static int mix_agreement(noise_xx *xx, const cal_secret *secret, const uint8_t peer[32]) {
    cal_secret shared;
    if (cal_x25519(secret, peer, &shared)) return CAL_EVERIFY;
    derive(xx->chain, cal_slice_of(shared.bytes, sizeof shared.bytes), xx->chain, xx->key.bytes);
    cal_secret_wipe(&shared);
    xx->keyed = true;
    xx->counter = 0;
    return 0;
}

static int seal_and_hash(noise_xx *xx, cal_slice plain, cal_buffer *out) {
    size_t start = out->len, size = plain.len + (xx->keyed ? CAL_AEAD_TAG_SIZE : 0);
    uint8_t *to = cal_buffer_reserve(out, size + 1); /* + 1: never asks for nothing */
    if (!to) return out->error;
    if (xx->keyed) {
        cal_chacha cipher;
        int result = cal_chacha_init(&cipher, &xx->key, true);
        if (result) return result;
        result = cal_chacha_seal(&cipher, xx->counter++, cal_slice_of(xx->hash, sizeof xx->hash),
                                 plain, to);
        cal_chacha_deinit(&cipher);
        if (result) return result;
    } else if (plain.len) {
        memcpy(to, plain.data, plain.len);
    }
    out->len += size;
    mix_hash(xx, cal_slice_of(out->data + start, size));
    return 0;
}

static int open_and_hash(noise_xx *xx, cal_slice sealed, uint8_t *ret_plain) {
    if (xx->keyed) {
        cal_chacha cipher;
        int result = cal_chacha_init(&cipher, &xx->key, false);
        if (result) return result;
        result = cal_chacha_open(&cipher, xx->counter++, cal_slice_of(xx->hash, sizeof xx->hash),
                                 sealed, ret_plain);
        cal_chacha_deinit(&cipher);
        if (result) return result;
    } else if (sealed.len) {
        memcpy(ret_plain, sealed.data, sealed.len);
    }
    mix_hash(xx, sealed);
    return 0;
}

void noise_xx_init(noise_xx *xx, bool initiator, const cal_secret *static_secret,
                   const uint8_t static_public[32], const cal_secret *ephemeral_secret,
                   cal_slice prologue) {
    memset(xx, 0, sizeof *xx);
    xx->initiator = initiator;
    memcpy(xx->hash, protocol_name, sizeof xx->hash);
    memcpy(xx->chain, protocol_name, sizeof xx->chain);
    xx->static_secret = *static_secret;
    xx->ephemeral_secret = *ephemeral_secret;
    memcpy(xx->static_public, static_public, sizeof xx->static_public);
    cal_agree_public_key(ephemeral_secret, xx->ephemeral_public);
    mix_hash(xx, prologue);
}

void noise_xx_wipe(noise_xx *xx) { cal_wipe(xx, sizeof *xx); }

bool noise_xx_writes(const noise_xx *xx) {
    return xx->step < NOISE_STEPS && (xx->step % 2 == 0) == xx->initiator;
}

static int write_ephemeral(noise_xx *xx, cal_buffer *out) {
    int result = cal_buffer_append(out, xx->ephemeral_public, 32);
    if (!result) mix_hash(xx, cal_slice_of(xx->ephemeral_public, 32));
    return result;
}

int noise_xx_write(noise_xx *xx, cal_slice payload, cal_buffer *out) {
    assert(noise_xx_writes(xx));
    cal_slice own_static = {xx->static_public, 32};
    int result = 0;
    switch (xx->step++) {
    case 0:
        result = write_ephemeral(xx, out);
        break;
    case 1:
        result = write_ephemeral(xx, out);
        if (!result) result = mix_agreement(xx, &xx->ephemeral_secret, xx->peer_ephemeral); /* ee */
        if (!result) result = seal_and_hash(xx, own_static, out);
        if (!result) result = mix_agreement(xx, &xx->static_secret, xx->peer_ephemeral); /* es */
        break;
    default:
        result = seal_and_hash(xx, own_static, out);
        if (!result) result = mix_agreement(xx, &xx->static_secret, xx->peer_ephemeral); /* se */
        break;
    }
    return result ? result : seal_and_hash(xx, payload, out);
}

static int read_ephemeral(noise_xx *xx, cal_slice *rest) {
    if (rest->len < 32) return CAL_EDECODE;
    memcpy(xx->peer_ephemeral, rest->data, 32);
    mix_hash(xx, cal_slice_of(rest->data, 32));
    *rest = (cal_slice){rest->data + 32, rest->len - 32};
    return 0;
}

static int read_static(noise_xx *xx, cal_slice *rest) {
    enum { SEALED = 32 + CAL_AEAD_TAG_SIZE };
    if (rest->len < SEALED) return CAL_EDECODE;
    int result = open_and_hash(xx, cal_slice_of(rest->data, SEALED), xx->peer_static);
    *rest = (cal_slice){rest->data + SEALED, rest->len - SEALED};
    return result;
}

int noise_xx_read(noise_xx *xx, cal_slice message, cal_buffer *ret_payload) {
    assert(!noise_xx_writes(xx) && xx->step < NOISE_STEPS);
    cal_slice rest = message;
    int result = 0;
    if (xx->step < 2) result = read_ephemeral(xx, &rest);
    if (!result && xx->step == 1)
        result = mix_agreement(xx, &xx->ephemeral_secret, xx->peer_ephemeral); /* ee */
    if (!result && xx->step > 0) result = read_static(xx, &rest);
    if (!result && xx->step > 0)
        result = mix_agreement(xx, &xx->ephemeral_secret, xx->peer_static); /* es, se */
    xx->step++;
    if (result) return result;
    size_t overhead = xx->keyed ? CAL_AEAD_TAG_SIZE : 0;
    if (rest.len < overhead) return CAL_EDECODE;
    uint8_t *to = cal_buffer_reserve(ret_payload, rest.len + 1);
    if (!to) return ret_payload->error;
    result = open_and_hash(xx, rest, to);
    if (!result) ret_payload->len += rest.len - overhead;
    return result;
}

void noise_xx_split(const noise_xx *xx, cal_secret *ret_send, cal_secret *ret_receive) {
    assert(xx->step == NOISE_STEPS);
    derive(xx->chain, (cal_slice){0}, xx->initiator ? ret_send->bytes : ret_receive->bytes,
           xx->initiator ? ret_receive->bytes : ret_send->bytes);
}
