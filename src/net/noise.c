/* See noise.h. The signature in the payload binds the peer's identity key to the static key that
 * the handshake proved: only after both verify is there a peer id. */
#include "net/noise.h"

#include <assert.h>
#include <stdlib.h>

#include "calimero/error.h"
#include "net/identity.h"

enum { LENGTH = 2, PAYLOAD_ARENA_MAX = 64 * 1024 };

static const char signature_prefix[] = "noise-libp2p-static-key:";

/* What is signed: the prefix and the static public key. */
static cal_slice signed_text(const uint8_t static_public[32], uint8_t ret_text[64]) {
    size_t prefix = sizeof signature_prefix - 1;
    memcpy(ret_text, signature_prefix, prefix);
    memcpy(ret_text + prefix, static_public, 32);
    return cal_slice_of(ret_text, prefix + 32);
}

int noise_identity_init(noise_identity *identity, const cal_secret *seed, const cal_os *os) {
    uint8_t public_key[32], key[NET_KEY_SIZE], text[64];
    uint8_t signature[CAL_SIGNATURE_SIZE];
    os->random(os->user, identity->static_secret.bytes, sizeof identity->static_secret.bytes);
    cal_agree_public_key(&identity->static_secret, identity->static_public);
    cal_sign_public_key(seed, public_key);
    net_key_serialise(public_key, key);
    cal_sign(seed, signed_text(identity->static_public, text), signature);
    NetPb__NoiseHandshakePayload payload = NET_PB__NOISE_HANDSHAKE_PAYLOAD__INIT;
    payload.has_identity_key = payload.has_identity_sig = 1;
    payload.identity_key = (ProtobufCBinaryData){sizeof key, key};
    payload.identity_sig = (ProtobufCBinaryData){sizeof signature, signature};
    if (net_pb__noise_handshake_payload__get_packed_size(&payload) > sizeof identity->payload)
        return CAL_EINTERNAL;
    identity->payload_len = net_pb__noise_handshake_payload__pack(&payload, identity->payload);
    return 0;
}

/* Writes the next handshake message with its length. */
static int write_message(noise *channel, cal_buffer *out) {
    noise_xx *xx = channel->handshake;
    cal_slice payload = {0};
    if (xx->step > 0)
        payload = cal_slice_of(channel->identity->payload, channel->identity->payload_len);
    size_t start = out->len;
    uint8_t *length = cal_buffer_reserve(out, LENGTH);
    if (!length) return out->error;
    out->len += LENGTH;
    int result = noise_xx_write(xx, payload, out);
    if (!result) cal_write_u16be(out->data + start, (uint16_t)(out->len - start - LENGTH));
    return result;
}

int noise_init(noise *channel, const noise_identity *identity, bool initiator, const cal_os *os,
               cal_buffer *out) {
    memset(channel, 0, sizeof *channel);
    channel->identity = identity;
    cal_buffer_init(&channel->partial, LENGTH + NOISE_MESSAGE_MAX);
    channel->handshake = malloc(sizeof *channel->handshake);
    if (!channel->handshake) return CAL_ENOMEM;
    cal_secret ephemeral;
    os->random(os->user, ephemeral.bytes, sizeof ephemeral.bytes);
    noise_xx_init(channel->handshake, initiator, &identity->static_secret, identity->static_public,
                  &ephemeral, (cal_slice){0});
    cal_secret_wipe(&ephemeral);
    return initiator ? write_message(channel, out) : 0;
}

static void drop_handshake(noise *channel) {
    if (!channel->handshake) return;
    noise_xx_wipe(channel->handshake);
    free(channel->handshake);
    channel->handshake = NULL;
}

void noise_deinit(noise *channel) {
    drop_handshake(channel);
    cal_chacha_deinit(&channel->sealing);
    cal_chacha_deinit(&channel->opening);
    cal_buffer_deinit(&channel->partial);
}

/* The payload's identity must have signed the static key that this handshake used. */
static int check_identity(noise *channel, cal_slice payload) {
    cal_arena arena;
    cal_arena_init(&arena, PAYLOAD_ARENA_MAX);
    ProtobufCAllocator allocator = net_pb_allocator(&arena);
    NetPb__NoiseHandshakePayload *message =
        net_pb__noise_handshake_payload__unpack(&allocator, payload.len, payload.data);
    uint8_t key[32], text[64];
    int result = CAL_EDECODE;
    if (message && message->has_identity_key && message->has_identity_sig &&
        message->identity_sig.len == CAL_SIGNATURE_SIZE) {
        result =
            net_key_parse(cal_slice_of(message->identity_key.data, message->identity_key.len), key);
        if (!result && !cal_verify_strict(key, signed_text(channel->handshake->peer_static, text),
                                          message->identity_sig.data))
            result = CAL_EVERIFY;
    } else if (message && message->has_identity_key) {
        result =
            net_key_parse(cal_slice_of(message->identity_key.data, message->identity_key.len), key);
        if (!result) result = CAL_EVERIFY; /* no signature, or one of the wrong size */
    }
    if (!result) cal_peer_id_of_key(key, &channel->peer);
    cal_arena_deinit(&arena);
    return result;
}

static int open_channel(noise *channel) {
    cal_secret send, receive;
    noise_xx_split(channel->handshake, &send, &receive);
    int result = cal_chacha_init(&channel->sealing, &send, true);
    if (!result) result = cal_chacha_init(&channel->opening, &receive, false);
    cal_secret_wipe(&send);
    cal_secret_wipe(&receive);
    drop_handshake(channel);
    if (!result) channel->state = NOISE_OPEN;
    return result;
}

static int on_handshake(noise *channel, cal_slice message, cal_buffer *out) {
    noise_xx *xx = channel->handshake;
    cal_buffer payload;
    cal_buffer_init(&payload, NOISE_HANDSHAKE_MAX);
    int result = noise_xx_read(xx, message, &payload);
    if (!result && xx->step > 1) result = check_identity(channel, cal_buffer_slice(&payload));
    cal_buffer_deinit(&payload);
    if (!result && noise_xx_writes(xx)) result = write_message(channel, out);
    if (!result && xx->step == NOISE_STEPS) result = open_channel(channel);
    return result;
}

static int on_sealed(noise *channel, cal_slice message, cal_buffer *plain) {
    if (message.len < CAL_AEAD_TAG_SIZE) return CAL_EDECODE;
    if (channel->opened == UINT64_MAX) return CAL_ELIMIT; /* no nonce is used twice */
    uint8_t *to = cal_buffer_reserve(plain, message.len);
    if (!to) return plain->error;
    int result = cal_chacha_open(&channel->opening, channel->opened++, (cal_slice){0}, message, to);
    if (!result) plain->len += message.len - CAL_AEAD_TAG_SIZE;
    return result;
}

/* How many bytes the message that starts with these takes with its length: 0 when unknown yet. */
static int message_size(const noise *channel, cal_slice start, size_t *ret_size) {
    *ret_size = 0;
    if (start.len < LENGTH) return 0;
    size_t len = cal_read_u16be(start.data);
    if (channel->state == NOISE_HANDSHAKE && len > NOISE_HANDSHAKE_MAX) return CAL_ELIMIT;
    *ret_size = LENGTH + len;
    return 0;
}

static int on_message(noise *channel, cal_slice framed, cal_buffer *out, cal_buffer *plain) {
    cal_slice message = {framed.data + LENGTH, framed.len - LENGTH};
    return channel->state == NOISE_HANDSHAKE ? on_handshake(channel, message, out)
                                             : on_sealed(channel, message, plain);
}

/* Fills the message that came in pieces; 0, with `*ret_whole` when it is complete. */
static int fill_partial(noise *channel, cal_slice input, size_t *ret_used, bool *ret_whole) {
    size_t size, taken = 0;
    int result;
    *ret_whole = false;
    for (;;) {
        if ((result = message_size(channel, cal_buffer_slice(&channel->partial), &size)))
            return result;
        size_t want = (size ? size : LENGTH) - channel->partial.len;
        size_t part = want < input.len - taken ? want : input.len - taken;
        if ((result = cal_buffer_append(&channel->partial, input.data + taken, part)))
            return result;
        taken += part;
        *ret_used = taken;
        if (size && channel->partial.len == size) {
            *ret_whole = true;
            return 0;
        }
        if (part < want) return 0;
    }
}

int noise_feed(noise *channel, const uint8_t *bytes, size_t len, cal_buffer *out, cal_buffer *plain,
               size_t *ret_used) {
    enum noise_state before = channel->state;
    size_t at = 0, size, used;
    int result = channel->state == NOISE_FAILED ? CAL_ESTATE : 0;
    while (!result && at < len && channel->state == before) {
        cal_slice rest = {bytes + at, len - at};
        bool whole = false;
        if (channel->partial.len == 0) {
            result = message_size(channel, rest, &size);
            if (result) break;
            if (size && size <= rest.len) { /* all here: no copy */
                result = on_message(channel, cal_slice_of(rest.data, size), out, plain);
                at += size;
                continue;
            }
        }
        result = fill_partial(channel, rest, &used, &whole);
        if (result) break;
        at += used;
        if (!whole) break;
        result = on_message(channel, cal_buffer_slice(&channel->partial), out, plain);
        cal_buffer_deinit(&channel->partial); /* an idle connection keeps no buffer */
    }
    if (result) channel->state = NOISE_FAILED;
    *ret_used = at;
    return result;
}

int noise_seal(noise *channel, cal_slice plain, cal_buffer *out) {
    assert(channel->state == NOISE_OPEN);
    while (plain.len > 0) {
        size_t part = plain.len < NOISE_PLAIN_MAX ? plain.len : NOISE_PLAIN_MAX;
        size_t sealed = part + CAL_AEAD_TAG_SIZE;
        if (channel->sealed == UINT64_MAX) return CAL_ELIMIT;
        uint8_t *to = cal_buffer_reserve(out, LENGTH + sealed);
        if (!to) return out->error;
        cal_write_u16be(to, (uint16_t)sealed);
        int result = cal_chacha_seal(&channel->sealing, channel->sealed++, (cal_slice){0},
                                     cal_slice_of(plain.data, part), to + LENGTH);
        if (result) return result;
        out->len += LENGTH + sealed;
        plain = (cal_slice){plain.data + part, plain.len - part};
    }
    return 0;
}
