/* identify and identify-push: who a peer says it is, where it listens, what it speaks. Nothing
 * depends on it being true: the peer id comes from the handshake alone. identify specification.
 *
 * A message is at most MESSAGE_MAX, of which a bounded number of entries is kept. Making one looks
 * at this machine's interfaces, and reading one tells observers, so both have a rate:
 * NET_IDENTIFY_RATE. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/identity.h"
#include "net/internal.h"

enum { MESSAGE_MAX = 64 * 1024, MESSAGES_MAX = 10, ARENA_MAX = 512 * 1024 };

static const char identify_id[] = "/ipfs/id/1.0.0";
static const char push_id[] = "/ipfs/id/push/1.0.0";

/* --- saying --- */

struct identify_lists {
    cal_multiaddr addresses[NET_LISTENS_MAX * 4];
    ProtobufCBinaryData address_data[NET_LISTENS_MAX * 4];
    char *protocols[NET_PROTOCOLS_MAX];
};

static void say(cal_p2p_stream *stream) {
    cal_p2p *host = cal_p2p_stream_host(stream);
    struct identify_lists *lists = calloc(1, sizeof *lists);
    NetPb__Identify message = NET_PB__IDENTIFY__INIT;
    uint8_t public_key[32], key[36];
    cal_multiaddr observed;
    if (!lists) {
        cal_p2p_stream_reset(stream);
        return;
    }
    cal_peer_id_key(&host->id, public_key);
    net_key_serialise(public_key, key);
    message.has_public_key = 1;
    message.public_key = (ProtobufCBinaryData){sizeof key, key};
    size_t room = sizeof lists->addresses / sizeof *lists->addresses;
    size_t count = cal_p2p_addresses(host, lists->addresses, room);
    bool near = endpoint_loopback(&stream->connection->remote);
    for (size_t i = 0; i < count && i < room; i++) {
        cal_multiaddr *address = &lists->addresses[i];
        if (near || !address_loopback(address)) /* of use on this machine alone */
            lists->address_data[message.n_listen_addrs++] =
                (ProtobufCBinaryData){address->len, address->bytes};
    }
    message.listen_addrs = lists->address_data;
    for (cal_list *at = host->protocols.next; at != &host->protocols; at = at->next)
        lists->protocols[message.n_protocols++] = CAL_CONTAINER_OF(at, net_protocol, link)->id;
    message.protocols = lists->protocols;
    net_endpoint_address(&stream->connection->remote, &observed);
    message.has_observed_addr = 1;
    message.observed_addr = (ProtobufCBinaryData){observed.len, observed.bytes};
    message.protocol_version = host->version;
    message.agent_version = host->agent;
    size_t size = net_pb__identify__get_packed_size(&message);
    uint8_t *packed = malloc(size);
    if (packed) net_pb__identify__pack(&message, packed);
    if (!packed || cal_p2p_frames_write(stream, CAL_P2P_FRAME_VARINT, packed, size))
        cal_p2p_stream_reset(stream);
    else
        cal_p2p_stream_finish(stream);
    free(packed);
    free(lists);
}

static void on_answering(void *user, cal_p2p_stream *stream) {
    cal_p2p *host = cal_p2p_stream_host(stream);
    (void)user;
    if (cal_p2p_stream_incoming(stream) && /* what we push ourselves has no rate */
        !net_rate_take(&stream->connection->identify_said, NET_IDENTIFY_RATE, NET_IDENTIFY_BURST,
                       host->now_ns)) {
        host->stats.identifies_refused++;
        cal_p2p_stream_reset(stream);
        return;
    }
    say(stream);
}

/* Nothing is expected on a stream that only this end speaks on. */
static void on_unexpected(void *user, cal_p2p_stream *stream) {
    (void)user;
    cal_p2p_stream_consume(stream, cal_p2p_stream_waiting(stream));
}

static const cal_p2p_stream_events answering = {.opened = on_answering, .readable = on_unexpected};

/* --- hearing --- */

typedef struct identify_hearing {
    cal_p2p_frames frames;
    unsigned messages;
} identify_hearing;

static void copy_text(char to[NET_TEXT_MAX], const char *from) {
    if (from) snprintf(to, NET_TEXT_MAX, "%s", from);
    for (char *p = to; *p; p++) /* it is shown on terminals and in logs */
        if ((unsigned char)*p < ' ' || *p == 0x7f) *p = '?';
}

static void keep_protocols(net_peer *peer, const NetPb__Identify *message) {
    size_t count = message->n_protocols;
    if (count > CAL_P2P_PROTOCOLS_MAX) count = CAL_P2P_PROTOCOLS_MAX;
    char **protocols = calloc(count, sizeof *protocols);
    if (!protocols) return;
    for (size_t i = 0; i < peer->protocol_count; i++) free(peer->protocols[i]);
    free(peer->protocols);
    peer->protocols = protocols;
    peer->protocol_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (strlen(message->protocols[i]) >= CAL_P2P_PROTOCOL_MAX) continue;
        char *copy = strdup(message->protocols[i]);
        if (copy) protocols[peer->protocol_count++] = copy;
    }
}

/* Loopback addresses are of use only to a peer on the same machine. */
static void keep_addresses(net_peer *peer, const net_connection *connection,
                           const NetPb__Identify *message) {
    size_t count = message->n_listen_addrs;
    if (count > CAL_P2P_ADDRESSES_MAX) count = CAL_P2P_ADDRESSES_MAX;
    bool near = endpoint_loopback(&connection->remote);
    for (size_t i = 0; i < count; i++) {
        cal_multiaddr address;
        cal_peer_id named;
        if (cal_multiaddr_from_bytes(message->listen_addrs[i].data, message->listen_addrs[i].len,
                                     &address))
            continue;
        if (!cal_multiaddr_peer(&address, &named) && !cal_peer_id_equal(&named, &peer->id))
            continue;
        cal_multiaddr_set_peer(&address, NULL);
        if (!near && address_loopback(&address)) continue;
        peer_learn(peer, &address, LEARNED_ANNOUNCED);
    }
}

static void on_message(cal_p2p_stream *stream, cal_slice bytes) {
    cal_p2p *host = cal_p2p_stream_host(stream);
    net_peer *peer = stream->connection->peer;
    if (!net_rate_take(&stream->connection->identify_heard, NET_IDENTIFY_RATE, NET_IDENTIFY_BURST,
                       host->now_ns)) {
        host->stats.identifies_refused++;
        return;
    }
    cal_arena arena;
    cal_arena_init(&arena, ARENA_MAX);
    ProtobufCAllocator allocator = net_pb_allocator(&arena);
    NetPb__Identify *message = net_pb__identify__unpack(&allocator, bytes.len, bytes.data);
    uint8_t key[32];
    cal_peer_id claimed = peer ? peer->id : (cal_peer_id){0};
    if (message && message->has_public_key &&
        !net_key_parse(cal_slice_of(message->public_key.data, message->public_key.len), key))
        cal_peer_id_of_key(key, &claimed);
    if (message && peer && cal_peer_id_equal(&claimed, &peer->id)) {
        copy_text(peer->agent, message->agent_version);
        copy_text(peer->version, message->protocol_version);
        if (message->n_protocols) keep_protocols(peer, message);
        keep_addresses(peer, stream->connection, message);
        peer->identified = peer->tell_identified = true;
        peer_notice(host, peer);
    }
    cal_arena_deinit(&arena);
}

static void on_heard(void *user, cal_p2p_stream *stream) {
    identify_hearing *hearing = user;
    const uint8_t *bytes;
    size_t len;
    int result = CAL_EDECODE;
    if (!hearing) return;
    while (hearing->messages < MESSAGES_MAX &&
           !(result = cal_p2p_frames_next(&hearing->frames, stream, &bytes, &len))) {
        hearing->messages++;
        on_message(stream, cal_slice_of(bytes, len));
    }
    if (result == CAL_ENOTFOUND)
        cal_p2p_stream_finish(stream);
    else if (result != CAL_ESTATE)
        cal_p2p_stream_reset(stream);
}

static void on_hearing_closed(void *user, cal_p2p_stream *stream, int reason) {
    identify_hearing *hearing = user;
    (void)stream;
    (void)reason;
    if (!hearing) return;
    cal_p2p_frames_deinit(&hearing->frames);
    free(hearing);
}

static const cal_p2p_stream_events hearing_events = {.readable = on_heard,
                                                     .closed = on_hearing_closed};

static identify_hearing *hearing_new(void) {
    identify_hearing *hearing = calloc(1, sizeof *hearing);
    if (hearing) cal_p2p_frames_init(&hearing->frames, CAL_P2P_FRAME_VARINT, MESSAGE_MAX);
    return hearing;
}

static void on_push(void *user, cal_p2p_stream *stream) {
    (void)user;
    identify_hearing *hearing = hearing_new();
    cal_p2p_stream_set_events(stream, &hearing_events, hearing);
    if (!hearing) cal_p2p_stream_reset(stream);
}

static const cal_p2p_stream_events pushed = {.opened = on_push};

/* --- when --- */

void identify_ask(net_connection *connection) {
    const char *const ids[] = {identify_id};
    cal_p2p_stream *stream;
    if (connection->identify_asked) return;
    connection->identify_asked = true;
    identify_hearing *hearing = hearing_new();
    if (hearing && stream_open(connection, ids, 1, &hearing_events, hearing, true, &stream))
        free(hearing);
    /* Nothing is said on it: the answer comes without a question. */
}

void identify_announce(cal_p2p *host) {
    const char *const ids[] = {push_id};
    for (cal_list *at = host->connections.next; at != &host->connections; at = at->next) {
        net_connection *connection = CAL_CONTAINER_OF(at, net_connection, link);
        net_peer *peer = connection->peer;
        cal_p2p_stream *stream;
        bool speaks = false;
        for (size_t i = 0; i < peer->protocol_count; i++)
            speaks = speaks || strcmp(peer->protocols[i], push_id) == 0;
        if (speaks && !connection->draining)
            stream_open(connection, ids, 1, &answering, NULL, true, &stream);
    }
}

int identify_start(cal_p2p *host) {
    int result = cal_p2p_handle(host, &(cal_p2p_protocol){.id = identify_id,
                                                          .events = &answering,
                                                          .peer_streams_max = 4,
                                                          .background = true});
    if (result) return result;
    return cal_p2p_handle(
        host, &(cal_p2p_protocol){
                  .id = push_id, .events = &pushed, .peer_streams_max = 4, .background = true});
}
