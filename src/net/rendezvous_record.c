/* Signed peer records, see rendezvous.h. Two forms are in use: rust-libp2p's first one, which the
 * network's nodes write and read, and the one of the multicodec table. We write the first. */
#include <stdlib.h>

#include "base/arena.h"
#include "codec/varint.h"
#include "net/rendezvous.h"
#include "rendezvous.pb-c.h"

/* A public key's protobuf is a peer id behind its identity multihash. */
enum { KEY_LEN = 36, ID_LEN = 38, RECORD_MAX = 4096, ENVELOPE_MAX = 2 * RECORD_MAX };

static const struct form {
    const char *domain;
    cal_slice type;
} forms[] = {
    {"libp2p-routing-state", {(const uint8_t *)"/libp2p/routing-state-record", 28}},
    {"libp2p-peer-record", {(const uint8_t *)"\x03\x01", 2}},
};

/* The three parts, each after its length. */
static int signed_bytes(const struct form *form, cal_slice payload, cal_buffer *out) {
    cal_slice parts[] = {cal_slice_text(form->domain), form->type, payload};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        cal_varint_append(out, parts[i].len);
        cal_buffer_append_slice(out, parts[i]);
    }
    return out->error;
}

static ProtobufCBinaryData binary(const void *bytes, size_t len) {
    return (ProtobufCBinaryData){len, (uint8_t *)(uintptr_t)bytes};
}

static int pack_record(const cal_peer_id *id, uint64_t seq, const cal_multiaddr *given,
                       size_t count, cal_buffer *out) {
    RendezvousPb__Address addresses[RENDEZVOUS_ADDRESSES_MAX], *list[RENDEZVOUS_ADDRESSES_MAX];
    RendezvousPb__PeerRecord record = RENDEZVOUS_PB__PEER_RECORD__INIT;
    if (count > RENDEZVOUS_ADDRESSES_MAX) count = RENDEZVOUS_ADDRESSES_MAX;
    for (size_t i = 0; i < count; i++) {
        rendezvous_pb__address__init(&addresses[i]);
        addresses[i].has_address = true;
        addresses[i].address = binary(given[i].bytes, given[i].len);
        list[i] = &addresses[i];
    }
    record.has_id = record.has_seq = true;
    record.id = binary(id->bytes, id->len);
    record.seq = seq;
    record.addresses = list;
    record.n_addresses = count;
    uint8_t *at = cal_buffer_reserve(out, rendezvous_pb__peer_record__get_packed_size(&record));
    if (at) out->len += rendezvous_pb__peer_record__pack(&record, at);
    return out->error;
}

int rendezvous_record_sign(const cal_secret *key, uint64_t seq, const cal_multiaddr *addresses,
                           size_t count, cal_buffer *out) {
    uint8_t public_key[32], signature[CAL_SIGNATURE_SIZE];
    cal_peer_id id;
    cal_buffer record, message;
    cal_sign_public_key(key, public_key);
    cal_peer_id_of_key(public_key, &id);
    cal_buffer_init(&record, RECORD_MAX);
    cal_buffer_init(&message, ENVELOPE_MAX);
    int result = pack_record(&id, seq, addresses, count, &record);
    if (!result) result = signed_bytes(&forms[0], cal_buffer_slice(&record), &message);
    if (!result) {
        RendezvousPb__Envelope envelope = RENDEZVOUS_PB__ENVELOPE__INIT;
        cal_sign(key, cal_buffer_slice(&message), signature);
        envelope.has_key = envelope.has_type = envelope.has_payload = envelope.has_signature = true;
        envelope.key = binary(id.bytes + ID_LEN - KEY_LEN, KEY_LEN);
        envelope.type = binary(forms[0].type.data, forms[0].type.len);
        envelope.payload = binary(record.data, record.len);
        envelope.signature = binary(signature, sizeof signature);
        uint8_t *at = cal_buffer_reserve(out, rendezvous_pb__envelope__get_packed_size(&envelope));
        if (at) out->len += rendezvous_pb__envelope__pack(&envelope, at);
        result = out->error;
    }
    cal_buffer_deinit(&record);
    cal_buffer_deinit(&message);
    return result;
}

/* --- verifying --- */

static void *record_alloc(void *arena, size_t size) { return cal_arena_alloc(arena, size); }
static void record_free(void *arena, void *memory) {
    (void)arena;
    (void)memory;
}

/* Who signed the envelope, once its signature holds. */
static int check_signature(const RendezvousPb__Envelope *envelope, cal_peer_id *ret_signer) {
    uint8_t id[ID_LEN] = {0x00, KEY_LEN}, public_key[32];
    if (!envelope->has_key || envelope->key.len != KEY_LEN || !envelope->has_type ||
        !envelope->has_payload || envelope->payload.len > RECORD_MAX || !envelope->has_signature ||
        envelope->signature.len != CAL_SIGNATURE_SIZE)
        return CAL_EDECODE;
    memcpy(id + ID_LEN - KEY_LEN, envelope->key.data, KEY_LEN);
    if (cal_peer_id_from_bytes(id, sizeof id, ret_signer) ||
        cal_peer_id_key(ret_signer, public_key))
        return CAL_EDECODE;
    const struct form *form = NULL;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (cal_slice_equal(forms[i].type, (cal_slice){envelope->type.data, envelope->type.len}))
            form = &forms[i];
    if (!form) return CAL_EDECODE;
    cal_buffer message;
    cal_buffer_init(&message, ENVELOPE_MAX);
    cal_slice payload = {envelope->payload.data, envelope->payload.len};
    int result = signed_bytes(form, payload, &message);
    if (!result &&
        !cal_verify_strict(public_key, cal_buffer_slice(&message), envelope->signature.data))
        result = CAL_EVERIFY;
    cal_buffer_deinit(&message);
    return result;
}

static int read_record(cal_slice bytes, ProtobufCAllocator *allocator, rendezvous_found *out) {
    RendezvousPb__Envelope *envelope =
        rendezvous_pb__envelope__unpack(allocator, bytes.len, bytes.data);
    if (!envelope) return CAL_EDECODE;
    cal_peer_id signer;
    int result = check_signature(envelope, &signer);
    if (result) return result;
    RendezvousPb__PeerRecord *record = rendezvous_pb__peer_record__unpack(
        allocator, envelope->payload.len, envelope->payload.data);
    if (!record || !record->has_id) return CAL_EDECODE;
    if (record->id.len != signer.len || memcmp(record->id.data, signer.bytes, signer.len) != 0)
        return CAL_EVERIFY; /* signed for somebody else */
    out->peer = signer;
    out->count = 0;
    for (size_t i = 0; i < record->n_addresses && out->count < RENDEZVOUS_ADDRESSES_MAX; i++) {
        ProtobufCBinaryData address = record->addresses[i]->address;
        if (record->addresses[i]->has_address &&
            cal_multiaddr_from_bytes(address.data, address.len, &out->addresses[out->count]) == 0)
            out->count++;
    }
    return 0;
}

int rendezvous_record_verify(cal_slice envelope, rendezvous_found *ret_found) {
    rendezvous_found found = {0};
    cal_arena arena;
    if (envelope.len == 0 || envelope.len > ENVELOPE_MAX) return CAL_EDECODE;
    cal_arena_init(&arena, RENDEZVOUS_MEMORY_MAX);
    ProtobufCAllocator allocator = {record_alloc, record_free, &arena};
    int result = read_record(envelope, &allocator, &found);
    cal_arena_deinit(&arena);
    if (!result) *ret_found = found;
    return result;
}
