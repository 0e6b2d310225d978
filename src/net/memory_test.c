/* What one hostile peer, and what many, can have a host allocate when they do their worst on every
 * protocol at once (docs/design/net.md, Bounds): all streams they may open, half messages
 * everywhere, full windows unread, answers unread, all topics. Bytes of the allocator are counted.
 */
#include <malloc.h>

#include "codec/varint.h"
#include "gossip.pb-c.h"
#include "net/gossip.h"
#include "net/hostile.h"
#include "net/kad.h"
#include "net/messages.h"

enum {
    MIB = 1024 * 1024,
    PEERS = 64,
    PEER_MAX = 128 * MIB,                       /* stated: one peer on one connection */
    SURE = NET_FRAMES_SURE + YAMUX_UNREAD_SURE, /* stated: of each, whatever the others have */
    TABLES_MAX = 320 * MIB /* stated: what is not counted in cal_p2p_limits, all peers */
};

/* Of the sanitizer, where it is there: it has the allocator's place. */
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static size_t allocated(void) {
    if (__sanitizer_get_current_allocated_bytes) return __sanitizer_get_current_allocated_bytes();
    struct mallinfo2 heap = mallinfo2();
    return heap.uordblks + heap.hblkhd;
}

static uint8_t filler[512 * 1024];

static const cal_p2p_stream_events deaf_events = {0};
static void on_request(void *user, net_messages *messages, cal_slice bytes) {
    (void)user, (void)messages, (void)bytes;
}
static void on_ended(void *user, net_messages *messages, int reason) {
    (void)user, (void)messages, (void)reason;
}
static const net_messages_events message_events = {.message = on_request, .ended = on_ended};
static const net_messages_protocol serving = {.id = NET_STREAM_PROTOCOL, .events = &message_events};

static cal_p2p *host_with_all(void) {
    char topic[32];
    cal_p2p *host = host_new(NULL);
    assert_int_equal(cal_p2p_gossip_start(host, &(cal_p2p_gossip_options){0}), 0);
    assert_int_equal(cal_p2p_kad_start(host), 0);
    assert_int_equal(net_messages_serve(host, &serving), 0);
    assert_int_equal(
        cal_p2p_handle(host, &(cal_p2p_protocol){.id = "/deaf/1", .events = &deaf_events}), 0);
    for (int i = 0; i < 64; i++) {
        snprintf(topic, sizeof topic, "own %d", i);
        assert_int_equal(cal_p2p_subscribe(host, topic, false, NULL), 0);
    }
    return host;
}

/* --- the worst --- */

static void half_messages(hostile *h, uint32_t *next, const char *protocol, int streams,
                          cal_p2p_framing framing, uint32_t len) {
    for (int i = 0; i < streams && h->wire->open; i++, *next += 2) {
        uint8_t header[5];
        size_t size = cal_p2p_frames_header(framing, len, header), left = len - 1;
        hostile_open(h, *next, protocol);
        hostile_data(h, 0, *next, header, size);
        while (left > 0) {
            size_t part = left < 65536 ? left : 65536;
            hostile_data(h, 0, *next, filler, part);
            left -= part;
        }
    }
}

static void full_windows(hostile *h, uint32_t *next, const char *protocol, int streams) {
    for (int i = 0; i < streams && h->wire->open; i++, *next += 2) {
        hostile_open(h, *next, protocol);
        for (size_t left = YAMUX_WINDOW - 64; left > 0;) {
            size_t part = left < 65536 ? left : 65536;
            hostile_data(h, 0, *next, filler, part);
            left -= part;
        }
    }
}

/* Packs and says one RPC. */
static void say_rpc(hostile *h, uint32_t id, const GossipPb__Rpc *rpc) {
    size_t len = gossip_pb__rpc__get_packed_size(rpc), at = 0;
    uint8_t *bytes = malloc(len + CAL_VARINT_MAX);
    at = cal_p2p_frames_header(CAL_P2P_FRAME_VARINT, (uint32_t)len, bytes);
    gossip_pb__rpc__pack(rpc, bytes + at);
    for (size_t sent = 0; sent < at + len;) {
        size_t part = at + len - sent < 65536 ? at + len - sent : 65536;
        hostile_data(h, 0, id, bytes + sent, part);
        sent += part;
    }
    free(bytes);
}

static void all_topics(hostile *h, uint32_t id, unsigned number) {
    enum { EACH = 1024 };
    static GossipPb__SubOpts options[EACH], *list[EACH];
    static char names[EACH][GOSSIP_TOPIC_MAX];
    GossipPb__Rpc rpc = GOSSIP_PB__RPC__INIT;
    rpc.subscriptions = list;
    rpc.n_subscriptions = EACH;
    for (unsigned round = 0; round < GOSSIP_PEER_TOPICS_MAX / EACH; round++) {
        for (unsigned i = 0; i < EACH; i++) {
            gossip_pb__sub_opts__init(&options[i]);
            memset(names[i], 't', sizeof names[i]);
            cal_write_u64be((uint8_t *)names[i], 0); /* zeros are UTF-8, too */
            snprintf(names[i], 20, "%u %u", number, round * EACH + i);
            options[i].has_subscribe = options[i].subscribe = options[i].has_topic = true;
            options[i].topic = (ProtobufCBinaryData){sizeof names[i], (uint8_t *)names[i]};
            list[i] = &options[i];
        }
        say_rpc(h, id, &rpc);
    }
    static const char news[] = "own 1";
    options[0].topic = (ProtobufCBinaryData){sizeof news - 1, (uint8_t *)(uintptr_t)news};
    rpc.n_subscriptions = 1;
    say_rpc(h, id, &rpc);
}

static void many_ids(hostile *h, uint32_t id, unsigned number) {
    enum { IDS = 3000 };
    static uint8_t bytes[IDS][GOSSIP_ID_MAX];
    static ProtobufCBinaryData ids[IDS];
    GossipPb__IHave ihave = GOSSIP_PB__IHAVE__INIT, *list = &ihave;
    GossipPb__Control control = GOSSIP_PB__CONTROL__INIT;
    GossipPb__Rpc rpc = GOSSIP_PB__RPC__INIT;
    for (unsigned i = 0; i < IDS; i++) {
        cal_write_u32be(bytes[i], number);
        cal_write_u32be(bytes[i] + 4, i);
        ids[i] = (ProtobufCBinaryData){GOSSIP_ID_MAX, bytes[i]};
    }
    ihave.has_topic = true;
    ihave.topic = (ProtobufCBinaryData){5, (uint8_t *)(uintptr_t) "own 1"};
    ihave.ids = ids;
    ihave.n_ids = IDS;
    control.ihave = &list;
    control.n_ihave = 1;
    rpc.control = &control;
    say_rpc(h, id, &rpc);
}

static void graft_storm(hostile *h, uint32_t id) {
    enum { GRAFTS = 2000 };
    static GossipPb__Graft graft, *list[GRAFTS];
    GossipPb__Control control = GOSSIP_PB__CONTROL__INIT;
    GossipPb__Prune prune = GOSSIP_PB__PRUNE__INIT, *prunes = &prune;
    GossipPb__Rpc rpc = GOSSIP_PB__RPC__INIT;
    gossip_pb__graft__init(&graft);
    graft.has_topic = prune.has_topic = prune.has_backoff = true;
    graft.topic = prune.topic = (ProtobufCBinaryData){5, (uint8_t *)(uintptr_t) "own 1"};
    prune.backoff = 3600;
    for (int i = 0; i < GRAFTS; i++) list[i] = &graft;
    rpc.control = &control;
    control.prune = &prunes;
    control.n_prune = 1;
    say_rpc(h, id, &rpc);
    control.n_prune = 0;
    control.graft = list;
    control.n_graft = GRAFTS;
    say_rpc(h, id, &rpc);
}

/* The host's stream for gossip, agreed: so that it has somewhere to queue what is never read. */
static void agree_gossip(hostile *h) {
    static const char agreed[] = "\x13/multistream/1.0.0\n\x0f/meshsub/1.2.0\n";
    cal_slice heard = cal_buffer_slice(&h->plain); /* what came with the end of the handshake */
    for (size_t at = sizeof hostile_muxer - 1; at + YAMUX_HEADER <= heard.len;) {
        const uint8_t *p = heard.data + at;
        size_t body = p[1] == Y_DATA ? cal_read_u32be(p + 8) : 0;
        if (body && memmem(p + YAMUX_HEADER, body, "/meshsub/1.2.0", 14)) {
            hostile_data(h, Y_ACK, cal_read_u32be(p + 4), agreed, sizeof agreed - 1);
            return;
        }
        at += YAMUX_HEADER + body;
    }
    fail_msg("the host opened no stream for gossip");
}

static void do_worst(hostile *h, cal_p2p *host, unsigned number) {
    uint32_t next = 1, gossip;
    hostile_start(h, host, number);
    agree_gossip(h);
    /* First it takes what comes, so that its windows are opened again and again... */
    h->wire->deaf = true;
    gossip = next;
    next += 2;
    hostile_open(h, gossip, "/meshsub/1.2.0");
    all_topics(h, gossip, number);
    many_ids(h, gossip, number);
    half_messages(h, &next, "/ipfs/id/push/1.0.0", 4, CAL_P2P_FRAME_VARINT, 60000);
    half_messages(h, &next, KAD_PROTOCOL, 60, CAL_P2P_FRAME_VARINT, KAD_MESSAGE_MAX);
    half_messages(h, &next, NET_STREAM_PROTOCOL, 40, CAL_P2P_FRAME_U32BE, 900 * 1024);
    /* ... then nothing any more. */
    h->wire->deaf = false;
    h->wire->stuck = true;
    graft_storm(h, gossip);
    full_windows(h, &next, "/ipfs/ping/1.0.0", 4);
    for (int i = 0; i < 4; i++, next += 2) hostile_open(h, next, "/ipfs/id/1.0.0");
    full_windows(h, &next, "/deaf/1", 64);
    for (int i = 0; i < 60; i++, next += 2)
        hostile_data(h, Y_SYN, next, "\x13/multistream/1.0.0\n\x7f/half", 26);
}

static void forget(hostile *h) {
    cal_buffer_deinit(&h->out);
    cal_buffer_deinit(&h->plain);
    cal_buffer_deinit(&h->wire->sent);
    h->heard = 0;
}

static void publish_much(cal_p2p *host) {
    for (int i = 0; i < 1100; i++) {
        int result = cal_p2p_publish(host, "own 1", filler, 65536, NULL, NULL);
        assert_true(result == 0 || result == CAL_EOVERLOAD);
    }
}

static void test_one_peer(void **state) {
    (void)state;
    static hostile h;
    cal_p2p *host = host_with_all();
    size_t before = allocated();
    do_worst(&h, host, 1);
    forget(&h);
    assert_true(h.wire->open);
    assert_true(stats_of(host).streams > 200);
    size_t used = allocated() - before;
    print_message("one peer: %zu KiB, of them %u unread, %u half received, %u unsent\n",
                  used / 1024, (unsigned)(stats_of(host).unread_bytes / 1024),
                  (unsigned)(stats_of(host).frame_bytes / 1024),
                  (unsigned)(stats_of(host).unsent_bytes / 1024));
    assert_true(stats_of(host).frame_bytes > 24 * MIB); /* it did do its worst */
    assert_true(stats_of(host).unread_bytes > 15 * MIB);
    assert_true(used <= PEER_MAX);
    publish_much(host);
    used = allocated() - before;
    assert_true(used <= PEER_MAX + GOSSIP_MESSAGE_BYTES_MAX);
    /* And all of it comes back. */
    transport.events->closed(h.wire->owner, CAL_EUNREACHABLE);
    h.wire->open = false;
    pass(host, 130000);
    used = allocated() - before;
    assert_true(used <= 2 * MIB);
    host_drop(host);
    hostile_stop(&h);
}

static void test_many_peers(void **state) {
    (void)state;
    static hostile peers[PEERS];
    cal_p2p *host = host_with_all();
    size_t before = allocated(), most = 0;
    for (unsigned i = 0; i < PEERS; i++) {
        do_worst(&peers[i], host, i + 1);
        forget(&peers[i]);
        size_t used = allocated() - before;
        if (used > most) most = used;
        assert_true(used <= (size_t)(i + 1) * PEER_MAX);
    }
    publish_much(host);
    size_t used = allocated() - before;
    if (used > most) most = used;
    cal_p2p_gossip_stats gossip;
    cal_p2p_gossip_stats_get(host, &gossip);
    print_message("%d peers: %zu MiB, of them %u unread, %u half received, %u unsent, "
                  "%u of messages, %u of control\n",
                  PEERS, most / MIB, (unsigned)(stats_of(host).unread_bytes / MIB),
                  (unsigned)(stats_of(host).frame_bytes / MIB),
                  (unsigned)(stats_of(host).unsent_bytes / MIB),
                  (unsigned)(gossip.message_bytes / MIB), (unsigned)(gossip.control_bytes / MIB));
    const cal_p2p_limits *limits = &host->limits;
    assert_true(stats_of(host).frame_bytes <= limits->frame_bytes_max + PEERS * NET_FRAMES_SURE);
    assert_true(stats_of(host).unread_bytes <=
                limits->unread_bytes_max + PEERS * YAMUX_UNREAD_SURE);
    assert_true(stats_of(host).unsent_bytes <= limits->unsent_bytes_max);
    assert_true(most <= (size_t)limits->frame_bytes_max + limits->unread_bytes_max +
                            limits->unsent_bytes_max + TABLES_MAX + PEERS * SURE);
    assert_true(gossip.foreign_topics == GOSSIP_FOREIGN_TOPICS_MAX); /* they did their worst */
    assert_true(stats_of(host).unread_bytes > limits->unread_bytes_max - MIB);
    assert_true(stats_of(host).frame_bytes > limits->frame_bytes_max);
    host_drop(host);
    for (int i = 0; i < PEERS; i++) hostile_stop(&peers[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_peer),
        cmocka_unit_test(test_many_peers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
