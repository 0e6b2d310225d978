/* Messages of kad, decoded under a bound of memory; and the signed record of network-sync.md 10. */
#include <stdlib.h>

#include "base/arena.h"
#include "net/internal.h"
#include "net/kad_internal.h"

static void *decoder_alloc(void *arena, size_t size) { return cal_arena_alloc(arena, size); }
static void decoder_free(void *arena, void *memory) {
    (void)arena;
    (void)memory;
}

int kad_decode(cal_slice bytes, kad_decoder *ret_decoder) {
    if (bytes.len == 0 || bytes.len > KAD_MESSAGE_MAX) return CAL_EDECODE;
    cal_arena *arena = malloc(sizeof *arena);
    if (!arena) return CAL_ENOMEM;
    cal_arena_init(arena, KAD_MEMORY_MAX);
    ProtobufCAllocator allocator = {decoder_alloc, decoder_free, arena};
    kad_decoder decoder = {arena, kad_pb__message__unpack(&allocator, bytes.len, bytes.data)};
    if (!decoder.message) {
        kad_decoder_free(&decoder);
        return CAL_EDECODE;
    }
    *ret_decoder = decoder;
    return 0;
}

void kad_decoder_free(kad_decoder *decoder) {
    cal_arena_deinit(decoder->arena);
    free(decoder->arena);
}

int kad_encode(const KadPb__Message *message, cal_buffer *out) {
    size_t len = kad_pb__message__get_packed_size(message);
    if (len > KAD_MESSAGE_MAX) return CAL_ELIMIT;
    uint8_t *at = cal_buffer_reserve(out, len);
    if (!at) return out->error;
    out->len += kad_pb__message__pack(message, at);
    return 0;
}

int kad_contact_read(const KadPb__Peer *peer, bool near, kad_contact *ret_contact) {
    cal_multiaddr addresses[KAD_ADDRESSES_MAX];
    size_t count = 0;
    cal_peer_id id;
    if (!peer->has_id || cal_peer_id_from_bytes(peer->id.data, peer->id.len, &id))
        return CAL_EDECODE;
    for (size_t i = 0; i < peer->n_addrs && count < KAD_ADDRESSES_MAX; i++)
        if (cal_multiaddr_from_bytes(peer->addrs[i].data, peer->addrs[i].len, &addresses[count]) ==
                0 &&
            (near || !address_loopback(&addresses[count])))
            count++; /* shapes not known here are passed over */
    kad_contact_make(&id, addresses, count, ret_contact);
    return 0;
}

/* --- records --- */

/* A public key's protobuf: type Ed25519, 32 bytes; a peer id is it behind an identity multihash. */
enum { PUBLIC_LEN = 36, ID_LEN = 38, RECORD_LEN = 4 + ID_LEN + 8 + 4 + PUBLIC_LEN + 4 + 64 };
static const char record_domain[] = "calimero:dht:blob-provider:v1";

/* domain, u64le length and key, u64le length and peer id, u64le size. */
static int signed_message(const uint8_t key[KAD_KEY_LEN], const cal_peer_id *peer, uint64_t size,
                          cal_buffer *out) {
    cal_buffer_append_text(out, record_domain);
    cal_buffer_append_u64le(out, KAD_KEY_LEN);
    cal_buffer_append(out, key, KAD_KEY_LEN);
    cal_buffer_append_u64le(out, peer->len);
    cal_buffer_append(out, peer->bytes, peer->len);
    cal_buffer_append_u64le(out, size);
    return out->error;
}

int kad_record_sign(const cal_secret *secret, const uint8_t key[KAD_KEY_LEN], uint64_t size,
                    cal_buffer *out) {
    uint8_t public_key[32], signature[CAL_SIGNATURE_SIZE];
    cal_peer_id peer;
    cal_buffer message;
    cal_sign_public_key(secret, public_key);
    cal_peer_id_of_key(public_key, &peer);
    cal_buffer_init(&message, 256);
    int result = signed_message(key, &peer, size, &message);
    if (!result) {
        cal_sign(secret, cal_buffer_slice(&message), signature);
        cal_buffer_append_u32le(out, ID_LEN);
        cal_buffer_append(out, peer.bytes, ID_LEN);
        cal_buffer_append_u64le(out, size);
        cal_buffer_append_u32le(out, PUBLIC_LEN);
        cal_buffer_append(out, peer.bytes + ID_LEN - PUBLIC_LEN, PUBLIC_LEN);
        cal_buffer_append_u32le(out, sizeof signature);
        result = cal_buffer_append(out, signature, sizeof signature);
    }
    cal_buffer_deinit(&message);
    return result;
}

int kad_record_verify(const uint8_t key[KAD_KEY_LEN], cal_slice value, cal_peer_id *ret_peer,
                      uint64_t *ret_size) {
    const uint8_t *at = value.data;
    cal_peer_id peer;
    uint8_t public_key[32];
    if (value.len != RECORD_LEN || cal_read_u32le(at) != ID_LEN ||
        cal_peer_id_from_bytes(at + 4, ID_LEN, &peer) || cal_peer_id_key(&peer, public_key))
        return CAL_EDECODE;
    at += 4 + ID_LEN;
    uint64_t size = cal_read_u64le(at);
    at += 8;
    if (cal_read_u32le(at) != PUBLIC_LEN || cal_read_u32le(at + 4 + PUBLIC_LEN) != 64)
        return CAL_EDECODE;
    if (memcmp(at + 4, peer.bytes + ID_LEN - PUBLIC_LEN, PUBLIC_LEN) != 0) return CAL_EVERIFY;
    cal_buffer message;
    cal_buffer_init(&message, 256);
    int result = signed_message(key, &peer, size, &message);
    if (!result &&
        !cal_verify_strict(public_key, cal_buffer_slice(&message), at + 4 + PUBLIC_LEN + 4))
        result = CAL_EVERIFY;
    cal_buffer_deinit(&message);
    if (result) return result;
    *ret_peer = peer;
    *ret_size = size;
    return 0;
}
