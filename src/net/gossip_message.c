/* One message: its id, its signature (strict signing), and the frame that all peers are sent.
 * network-sync.md 1; libp2p pubsub specification, "Message Signing". */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/text.h"
#include "codec/varint.h"
#include "net/gossip_internal.h"

/* Before an Ed25519 key in a peer id: identity multihash, then the key's protobuf. */
enum { ID_PREFIX = 6, ID_MULTIHASH = 2, ID_LEN = ID_PREFIX + 32 };
static const uint8_t id_prefix[ID_PREFIX] = {0x00, 0x24, 0x08, 0x01, 0x12, 0x20};
static const char sign_prefix[] = "libp2p-pubsub:";
enum { SIGN_PREFIX = sizeof sign_prefix - 1 };

int gossip_message_check(const GossipPb__Message *message, cal_peer_id *ret_from,
                         uint64_t *ret_seqno) {
    if (!message->has_from || message->from.len != ID_LEN ||
        memcmp(message->from.data, id_prefix, ID_PREFIX) != 0)
        return CAL_EDECODE;
    if (!message->has_seqno || message->seqno.len != 8 || !message->has_signature ||
        message->signature.len != CAL_SIGNATURE_SIZE || !message->has_topic)
        return CAL_EDECODE;
    /* The key is in `from` already; some send it along. */
    if (message->has_key && message->key.len > 0 &&
        (message->key.len != ID_LEN - ID_MULTIHASH ||
         memcmp(message->key.data, message->from.data + ID_MULTIHASH, message->key.len) != 0))
        return CAL_EDECODE;
    *ret_from = (cal_peer_id){.len = ID_LEN};
    memcpy(ret_from->bytes, message->from.data, ID_LEN);
    *ret_seqno = cal_read_u64be(message->seqno.data);
    return 0;
}

/* What is signed: the prefix, then the message without signature and key. NULL: no memory. */
static uint8_t *signed_bytes(GossipPb__Message *message, size_t *ret_len) {
    protobuf_c_boolean signature = message->has_signature, key = message->has_key;
    message->has_signature = message->has_key = false;
    size_t len = gossip_pb__message__get_packed_size(message);
    uint8_t *bytes = malloc(SIGN_PREFIX + len);
    if (bytes) {
        memcpy(bytes, sign_prefix, SIGN_PREFIX);
        gossip_pb__message__pack(message, bytes + SIGN_PREFIX);
    }
    message->has_signature = signature;
    message->has_key = key;
    *ret_len = SIGN_PREFIX + len;
    return bytes;
}

int gossip_message_sign(cal_gossip *gossip, GossipPb__Message *message,
                        uint8_t ret_signature[CAL_SIGNATURE_SIZE]) {
    size_t len;
    uint8_t *bytes = signed_bytes(message, &len);
    if (!bytes) return CAL_ENOMEM;
    cal_sign(&gossip->key, (cal_slice){bytes, len}, ret_signature);
    free(bytes);
    return 0;
}

int gossip_message_verify(GossipPb__Message *message, const cal_peer_id *from) {
    size_t len;
    uint8_t *bytes = signed_bytes(message, &len);
    if (!bytes) return CAL_ENOMEM;
    bool valid = cal_verify_strict(from->bytes + ID_PREFIX, (cal_slice){bytes, len},
                                   message->signature.data);
    free(bytes);
    return valid ? 0 : CAL_EVERIFY;
}

size_t gossip_message_id(const cal_gossip *gossip, const cal_peer_id *from, uint64_t seqno,
                         uint8_t ret_id[GOSSIP_ID_MAX]) {
    if (gossip->plain_ids) {
        memcpy(ret_id, from->bytes, from->len);
        cal_write_u64be(ret_id + from->len, seqno);
        return (size_t)from->len + 8;
    }
    char *text = (char *)ret_id;
    int result = cal_base58_encode((cal_slice){from->bytes, from->len}, text, CAL_PEER_ID_TEXT_MAX);
    (void)result;
    assert(result == 0); /* an id of at most CAL_PEER_ID_MAX bytes fits */
    size_t len = strlen(text);
    return len +
           (size_t)snprintf(text + len, GOSSIP_ID_MAX - len, "%llu", (unsigned long long)seqno);
}

static size_t varint_len(uint64_t value) {
    size_t len = 1;
    while (value >>= 7) len++;
    return len;
}

static size_t varint_write(uint8_t *out, uint64_t value) {
    size_t len = 0;
    for (; value >= 0x80; value >>= 7) out[len++] = (uint8_t)(value | 0x80);
    out[len++] = (uint8_t)value;
    return len;
}

/* Where the fields lie in the packed message: protobuf-c writes them in the order of their numbers,
 * each after its tag and its length. */
static void find_fields(gossip_message *made, const GossipPb__Message *message, const uint8_t *at) {
    at += 1 + varint_len(message->from.len) + message->from.len;
    if (message->has_data) {
        at += 1 + varint_len(message->data.len);
        made->data = (cal_slice){at, message->data.len};
        at += message->data.len;
    }
    at += 1 + varint_len(message->seqno.len) + message->seqno.len;
    at += 1 + varint_len(message->topic.len);
    made->topic_name = (cal_slice){at, message->topic.len};
    assert(cal_slice_equal(made->topic_name, (cal_slice){message->topic.data, message->topic.len}));
}

/* A checked message as one block with one reference. CAL_ELIMIT: does not fit into an RPC;
 * CAL_EOVERLOAD: too many messages are in memory; CAL_ENOMEM. */
int gossip_message_make(cal_gossip *gossip, const GossipPb__Message *message, cal_slice id,
                        gossip_message **ret_message) {
    size_t inner = gossip_pb__message__get_packed_size(message);
    size_t rpc = 1 + varint_len(inner) + inner;
    if (rpc > GOSSIP_RPC_MAX) return CAL_ELIMIT;
    size_t frame = varint_len(rpc) + rpc;
    size_t size = sizeof(gossip_message) + frame + id.len;
    if (!gossip_make_room(gossip, size)) return CAL_EOVERLOAD;
    gossip_message *made = calloc(1, size);
    if (!made) return CAL_ENOMEM;
    made->refs = 1;
    made->gossip = gossip;
    made->size = size;
    memcpy(made->from.bytes, message->from.data, message->from.len);
    made->from.len = (uint8_t)message->from.len;
    made->seqno = cal_read_u64be(message->seqno.data);
    size_t at = varint_write(made->bytes, rpc);
    made->bytes[at++] = 2 << 3 | 2; /* field 2 of the RPC, length-delimited */
    at += varint_write(made->bytes + at, inner);
    size_t packed = gossip_pb__message__pack(message, made->bytes + at);
    (void)packed;
    assert(packed == inner && at + inner == frame);
    find_fields(made, message, made->bytes + at);
    made->frame = (cal_slice){made->bytes, frame};
    memcpy(made->bytes + frame, id.data, id.len);
    made->id = (cal_slice){made->bytes + frame, id.len};
    made->brief = gossip_brief(made->id);
    made->hash = gossip_brief_hash(gossip, made->brief);
    cal_write_u64le(made->brief_key, made->brief);
    cal_list_init(&made->cache_link);
    cal_list_init(&made->topic_link);
    gossip->message_bytes += size;
    *ret_message = made;
    return 0;
}

void gossip_message_unref(gossip_message *message) {
    assert(message->refs > 0);
    if (--message->refs > 0) return;
    size_t size = message->size + message->served_count * sizeof *message->served;
    assert(!message->topic && message->gossip->message_bytes >= size);
    message->gossip->message_bytes -= size;
    free(message->served);
    free(message);
}
