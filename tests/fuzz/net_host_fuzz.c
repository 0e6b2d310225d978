/* A whole host, with all that can be started on it, over a transport made of memory: hostile bytes
 * before, inside and after the secure channel, on accepted connections, with time passing; and as
 * datagrams. */
#include <stdlib.h>

#include "calimero/error.h"
#include "net/internal.h"

static struct {
    uint64_t now_ns;
    cal_buffer sent;
    bool open;
} world;

static uint64_t f_now(void *user) {
    (void)user;
    return world.now_ns;
}
static int f_listen(void *user, const net_endpoint *at, net_endpoint *ret_bound, cal_error *err) {
    (void)user, (void)err;
    *ret_bound = *at;
    return 0;
}
static int f_dial(void *user, const net_endpoint *to, void *owner, net_wire **ret_wire) {
    (void)user, (void)to, (void)owner, (void)ret_wire;
    return CAL_EUNREACHABLE;
}
static size_t f_send(net_wire *wire, const uint8_t *bytes, size_t len) {
    (void)wire;
    return cal_buffer_append(&world.sent, bytes, len) ? 0 : len;
}
static void f_pause(net_wire *wire, bool paused) { (void)wire, (void)paused; }
static void f_close(net_wire *wire, bool abort_it) {
    (void)wire, (void)abort_it, world.open = false;
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
static int f_join(void *user, const net_endpoint *group, cal_error *err) {
    (void)user, (void)group, (void)err;
    return 0;
}
static void f_multicast(void *user, const uint8_t *bytes, size_t len) {
    (void)user, (void)bytes, (void)len;
}
static void f_leave(void *user) { (void)user; }
static uint64_t f_wall(void *user) {
    (void)user;
    return world.now_ns;
}
static void no_random(void *user, void *ret_bytes, size_t len) {
    (void)user;
    memset(ret_bytes, 9, len);
}

/* What the host sent, opened as its peer would. */
static void hear(noise *channel, cal_buffer *out, cal_buffer *plain, size_t from) {
    size_t used;
    for (size_t at = from; at < world.sent.len; at += used)
        if (noise_feed(channel, world.sent.data + at, world.sent.len - at, out, plain, &used))
            break;
}

/* Everything that takes bytes from peers. */
static int start_all(cal_p2p *host) {
    static const uint8_t key[CAL_P2P_KEY_SIZE] = {1};
    int result = cal_p2p_gossip_start(host, &(cal_p2p_gossip_options){0});
    if (!result) result = cal_p2p_subscribe(host, "t", false, NULL);
    if (!result) result = cal_p2p_mdns_start(host, NULL);
    if (!result) result = cal_p2p_kad_start(host);
    if (!result) result = cal_p2p_provide(host, key, 1, NULL, NULL);
    if (!result) result = cal_p2p_providers(host, key, NULL, NULL, NULL);
    if (!result) result = cal_p2p_rendezvous_start(host, NULL);
    return result ? result : cal_p2p_rendezvous_join(host, "n");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char choose[] = "\x13/multistream/1.0.0\n\x07/noise\n";
    static const char muxer[] = "\x13/multistream/1.0.0\n\x0d/yamux/1.0.0\n";
    cal_os os = {.random = no_random, .wall_ns = f_wall};
    net_transport transport = {.now_ns = f_now,
                               .listen = f_listen,
                               .dial = f_dial,
                               .send = f_send,
                               .pause = f_pause,
                               .close = f_close,
                               .resolve = f_resolve,
                               .forget = f_forget,
                               .wake_at = f_wake_at,
                               .interfaces = f_interfaces,
                               .stop = f_stop,
                               .multicast_join = f_join,
                               .multicast_send = f_multicast,
                               .multicast_leave = f_leave};
    cal_p2p *host;
    net_endpoint remote = {{{127, 0, 0, 1}, 4}, 9};
    if (size < 2 || cal_crypto_init()) return 0;
    world.now_ns = 1;
    world.open = true;
    cal_buffer_init(&world.sent, 1 << 22);
    if (net_host_new(&(cal_p2p_options){0}, &transport, &os, &host, NULL)) return 0;
    const net_transport_events *events = transport.events;
    if (start_all(host)) abort();
    void *owner = events->accepted(host, (net_wire *)&world, &remote, &remote);
    cal_secret seed = {{1}};
    noise_identity identity;
    noise channel = {0};
    cal_buffer out, plain;
    cal_buffer_init(&out, 1 << 20);
    cal_buffer_init(&plain, 1 << 22);
    bool secured = data[0] & 1;
    if (secured && owner && !noise_identity_init(&identity, &seed, &os)) {
        events->received(owner, (const uint8_t *)choose, sizeof choose - 1);
        size_t said = world.sent.len;
        noise_init(&channel, &identity, true, &os, &out);
        events->received(owner, out.data, out.len);
        cal_buffer_reset(&out);
        hear(&channel, &out, &plain, said);
        events->received(owner, out.data, out.len);
        cal_buffer_reset(&out);
        if (channel.state != NOISE_OPEN) abort();
        noise_seal(&channel, cal_slice_of(muxer, sizeof muxer - 1), &out);
        events->received(owner, out.data, out.len);
        if (host->connection_count != 1) abort();
    }
    for (size_t at = 1; owner && world.open && at < size;) {
        size_t part = 1 + data[at];
        if (part > size - at) part = size - at;
        cal_buffer_reset(&out);
        if (secured)
            noise_seal(&channel, cal_slice_of(data + at, part), &out);
        else
            cal_buffer_append(&out, data + at, part);
        events->received(owner, out.data, out.len);
        events->datagram(host, data + at, part);
        world.now_ns += NET_MS(100) * part;
        if (world.open) events->wake(host);
        at += part;
    }
    if (host->connection_count > 1 || host->unread > host->limits.unread_bytes_max) abort();
    net_host_free(host);
    noise_deinit(&channel);
    cal_buffer_deinit(&out);
    cal_buffer_deinit(&plain);
    cal_buffer_deinit(&world.sent);
    return 0;
}
