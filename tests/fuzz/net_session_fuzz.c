/* A whole host behind the handshake, everything started: the input says what a peer does with
 * streams (opens one for a protocol, writes to it, finishes, resets, gives windows; agrees to what
 * the host opens), so that the protocols are reached without writing Yamux. A step is a byte that
 * says what, one that says how much of what follows, and so many bytes. */
#include <stdlib.h>

#include "calimero/error.h"
#include "net/internal.h"
#include "net/kad.h"
#include "net/messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WIRES = 2, STREAMS = 64, SENT_MAX = 1 << 22, GOSSIP_BYTES = 64 * 1024 * 1024 };

/* One connection: ours are the ends that the host dialled too. */
typedef struct peer {
    void *owner;
    bool open;
    noise channel;
    cal_buffer sent, out, plain;
    size_t heard;
    uint32_t next;
    uint32_t asked[STREAMS]; /* streams that the host opened */
    size_t asked_count;
} peer;

static struct {
    uint64_t now_ns, random;
    peer peers[WIRES];
    const net_transport_events *events;
} world;

static uint64_t f_now(void *user) {
    (void)user;
    return world.now_ns;
}
static int f_dial(void *user, const net_endpoint *to, void *owner, net_wire **ret_wire) {
    (void)user, (void)to, (void)owner, (void)ret_wire;
    return CAL_EUNREACHABLE;
}
static size_t f_send(net_wire *wire, const uint8_t *bytes, size_t len) {
    peer *p = (peer *)wire;
    return p->sent.len + len > SENT_MAX || cal_buffer_append(&p->sent, bytes, len) ? 0 : len;
}
static void f_pause(net_wire *wire, bool paused) { (void)wire, (void)paused; }
static void f_close(net_wire *wire, bool abort_it) {
    (void)abort_it;
    ((peer *)wire)->open = false;
}
static int f_resolve(void *user, const char *name, void *query) {
    (void)user, (void)name, (void)query;
    return CAL_EUNREACHABLE;
}
static void f_forget(void *user, void *query) { (void)user, (void)query; }
static void f_wake_at(void *user, uint64_t at_ns) { (void)user, (void)at_ns; }
static size_t f_interfaces(void *user, const net_endpoint *at, net_endpoint *ret, size_t max) {
    (void)user, (void)at, (void)ret, (void)max;
    return 0;
}
static void f_stop(void *user) { (void)user; }
static uint64_t f_wall(void *user) {
    (void)user;
    return world.now_ns;
}
static void f_random(void *user, void *ret_bytes, size_t len) { /* repeatable, not constant */
    uint8_t *to = ret_bytes;
    (void)user;
    for (size_t i = 0; i < len; i++)
        to[i] = (uint8_t)((world.random = world.random * 6364136223846793005u + 1) >> 56);
}

/* --- the peer's side --- */

static void say(peer *p, const void *bytes, size_t len) {
    if (!p->open || p->channel.state != NOISE_OPEN) return;
    cal_buffer_reset(&p->out);
    if (noise_seal(&p->channel, cal_slice_of(bytes, len), &p->out)) abort();
    world.events->received(p->owner, p->out.data, p->out.len);
}

static void frame(peer *p, uint8_t type, uint16_t flags, uint32_t id, uint32_t len,
                  const uint8_t *body) {
    uint8_t bytes[YAMUX_HEADER + 512] = {0, type};
    size_t size = body ? len : 0;
    cal_write_u16be(bytes + 2, flags);
    cal_write_u32be(bytes + 4, id);
    cal_write_u32be(bytes + 8, len);
    if (size) memcpy(bytes + YAMUX_HEADER, body, size);
    say(p, bytes, YAMUX_HEADER + size);
}

/* Opens what the host sent, and notes which streams it opened. */
static void hear(peer *p) {
    if (p->channel.state != NOISE_OPEN) return;
    size_t from = p->plain.len;
    for (size_t used; p->heard < p->sent.len; p->heard += used)
        if (noise_feed(&p->channel, p->sent.data + p->heard, p->sent.len - p->heard, &p->out,
                       &p->plain, &used))
            abort();
    for (; from + YAMUX_HEADER <= p->plain.len; from++) { /* where frames begin does not matter */
        const uint8_t *at = p->plain.data + from;
        uint32_t id = cal_read_u32be(at + 4);
        if (at[0] == 0 && at[1] < 2 && cal_read_u16be(at + 2) == 1 && id % 2 == 0 && id &&
            id < 10000 && p->asked_count < STREAMS)
            p->asked[p->asked_count++] = id;
    }
    cal_buffer_reset(&p->plain);
}

static bool join(cal_p2p *host, peer *p, uint8_t name) {
    static const char choose[] = "\x13/multistream/1.0.0\n\x07/noise\n";
    static const char muxer[] = "\x13/multistream/1.0.0\n\x0d/yamux/1.0.0\n";
    net_endpoint remote = {{{10, 0, 0, name}, 4}, 9};
    cal_os os = {.random = f_random};
    cal_secret seed = {{name}};
    noise_identity identity;
    size_t used;
    *p = (peer){.open = true, .next = 1};
    cal_buffer_init(&p->sent, SENT_MAX);
    cal_buffer_init(&p->out, 1 << 20);
    cal_buffer_init(&p->plain, SENT_MAX);
    if (noise_identity_init(&identity, &seed, &os)) abort();
    p->owner = world.events->accepted(host, (net_wire *)p, &remote, &remote);
    if (!p->owner) return false;
    world.events->received(p->owner, (const uint8_t *)choose, sizeof choose - 1);
    size_t at = p->sent.len;
    noise_init(&p->channel, &identity, true, &os, &p->out);
    world.events->received(p->owner, p->out.data, p->out.len);
    cal_buffer_reset(&p->out);
    if (noise_feed(&p->channel, p->sent.data + at, p->sent.len - at, &p->out, &p->plain, &used))
        abort();
    p->heard = at + used;
    world.events->received(p->owner, p->out.data, p->out.len);
    say(p, muxer, sizeof muxer - 1);
    p->channel.identity = NULL; /* was on this stack */
    hear(p);
    return true;
}

static void step(peer *p, uint8_t what, cal_slice bytes) {
    static const char *const protocols[] = {
        "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0",  "/meshsub/1.2.0",
        KAD_PROTOCOL,     NET_STREAM_PROTOCOL,   "/rendezvous/1.0.0", "/floodsub/1.0.0"};
    uint8_t open[128] = "\x13/multistream/1.0.0\n";
    size_t len, which = what % 8;
    uint32_t id = p->next > 1 ? p->next - 2 : 1;
    if (what & 0x80 && p->next > 3) id = p->next - 4; /* the one before */
    uint32_t asked = p->asked_count ? p->asked[bytes.len ? bytes.data[0] % p->asked_count : 0] : 2;
    switch (what / 8 % 8) {
    case 0: /* opens a stream; the answer says which of the host's it agrees to */
        len = strlen(protocols[which]);
        open[20] = (uint8_t)(len + 1);
        memcpy(open + 21, protocols[which], len);
        open[21 + len] = '\n';
        frame(p, 0, 1, p->next, (uint32_t)(22 + len), open);
        p->next += 2;
        break;
    case 1:
        frame(p, 0, which & 1 ? 4 : 0, id, (uint32_t)bytes.len, bytes.data);
        break;
    case 2:
        frame(p, 1, which & 4, id, (uint32_t)bytes.len * 1000, NULL);
        break;
    case 3:
        frame(p, 1, 8, which & 1 ? asked : id, 0, NULL);
        break;
    case 4: /* the host's stream: what it asked for is spoken */
        len = strlen(protocols[which]);
        open[20] = (uint8_t)(len + 1);
        memcpy(open + 21, protocols[which], len);
        open[21 + len] = '\n';
        frame(p, 0, 2, asked, (uint32_t)(22 + len), open);
        break;
    case 5:
        frame(p, 0, which & 4, asked, (uint32_t)bytes.len, bytes.data);
        break;
    case 6:
        world.now_ns += NET_MS(100) * (bytes.len + 1) * (which + 1);
        world.events->wake(world.events->user);
        break;
    default:
        say(p, bytes.data, bytes.len);
    }
}

/* --- the host --- */

static void on_request(void *user, net_messages *messages, cal_slice bytes) {
    (void)user;
    if (net_messages_send(messages, bytes)) net_messages_reset(messages);
}
static void on_sent(void *user, net_messages *messages) {
    (void)user;
    net_messages_expect(messages, NET_REQUEST_TIMEOUT_MS);
}
static void on_ended(void *user, net_messages *messages, int reason) {
    (void)user, (void)messages, (void)reason;
}

static void start_all(cal_p2p *host) {
    static const uint8_t key[CAL_P2P_KEY_SIZE] = {1};
    static const net_messages_events events = {
        .message = on_request, .sent = on_sent, .ended = on_ended};
    static const net_messages_protocol serving = {.id = NET_STREAM_PROTOCOL, .events = &events};
    if (cal_p2p_gossip_start(host, &(cal_p2p_gossip_options){0}) ||
        cal_p2p_subscribe(host, "t", false, NULL) || cal_p2p_kad_start(host) ||
        cal_p2p_provide(host, key, 1, NULL, NULL) || cal_p2p_rendezvous_start(host, NULL) ||
        cal_p2p_rendezvous_join(host, "n") || net_messages_serve(host, &serving))
        abort();
}

static void check(cal_p2p *host) {
    const cal_p2p_limits *limits = &host->limits;
    cal_p2p_gossip_stats gossip;
    if (host->connection_count > WIRES || host->unread > limits->unread_bytes_max ||
        host->unsent > limits->unsent_bytes_max || host->frame_bytes > limits->frame_bytes_max ||
        host->stream_count > WIRES * limits->streams_max)
        abort();
    if (cal_p2p_gossip_stats_get(host, &gossip) == 0 &&
        (gossip.message_bytes > GOSSIP_BYTES || gossip.control_bytes > GOSSIP_BYTES))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cal_os os = {.random = f_random, .wall_ns = f_wall};
    net_transport transport = {.now_ns = f_now,
                               .dial = f_dial,
                               .send = f_send,
                               .pause = f_pause,
                               .close = f_close,
                               .resolve = f_resolve,
                               .forget = f_forget,
                               .wake_at = f_wake_at,
                               .interfaces = f_interfaces,
                               .stop = f_stop};
    cal_p2p *host;
    if (cal_crypto_init()) return 0;
    memset(&world, 0, sizeof world);
    world.now_ns = 1;
    if (net_host_new(&(cal_p2p_options){0}, &transport, &os, &host, NULL)) return 0;
    world.events = transport.events;
    start_all(host);
    for (uint8_t i = 0; i < WIRES; i++)
        if (!join(host, &world.peers[i], (uint8_t)(i + 1))) abort();
    for (size_t at = 0; at + 2 <= size;) {
        size_t len = data[at + 1] < size - at - 2 ? data[at + 1] : size - at - 2;
        peer *p = &world.peers[data[at] >> 6 & 1];
        step(p, data[at], cal_slice_of(data + at + 2, len));
        hear(p);
        check(host);
        at += 2 + len;
    }
    net_host_free(host);
    for (int i = 0; i < WIRES; i++) {
        noise_deinit(&world.peers[i].channel);
        cal_buffer_deinit(&world.peers[i].sent);
        cal_buffer_deinit(&world.peers[i].out);
        cal_buffer_deinit(&world.peers[i].plain);
    }
    return 0;
}
