/* For the tests of what peers may try: a host over memory, in virtual time, and peers that complete
 * the handshake and then say what they like. */
#ifndef CAL_NET_HOSTILE_H
#define CAL_NET_HOSTILE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "calimero/error.h"
#include "net/internal.h"

enum { WIRES_MAX = 1200 };

/* One end of a connection; the test is the other. */
struct net_wire {
    void *owner;
    bool open, paused;
    bool stuck; /* takes nothing more */
    bool deaf;  /* takes all and forgets it */
    cal_buffer sent;
};

static struct {
    uint64_t now_ns, wake_ns;
    net_wire wires[WIRES_MAX];
    size_t count, paused, saved, dropped, dials;
    uint64_t wall_ns;
} world;

static inline uint64_t m_now(void *user) {
    (void)user;
    return world.now_ns;
}
static inline int m_listen(void *user, const net_endpoint *at, net_endpoint *ret_bound,
                           cal_error *err) {
    (void)user;
    if (at->address.len == 16) return cal_fail(err, CAL_EUNSUPPORTED, "no such addresses");
    *ret_bound = *at;
    return 0;
}
static inline int m_dial(void *user, const net_endpoint *to, void *owner, net_wire **ret_wire) {
    (void)user, (void)to;
    assert_true(world.count < WIRES_MAX);
    world.dials++;
    *ret_wire = &world.wires[world.count++];
    **ret_wire = (net_wire){.owner = owner, .open = true};
    cal_buffer_init(&(*ret_wire)->sent, 8 << 20);
    return 0;
}
static inline size_t m_send(net_wire *wire, const uint8_t *bytes, size_t len) {
    if (wire->stuck) return 0;
    if (wire->deaf) return len;
    assert_int_equal(cal_buffer_append(&wire->sent, bytes, len), 0);
    return len;
}
static inline void m_pause(net_wire *wire, bool paused) {
    wire->paused = paused;
    world.paused += paused;
}
static inline void m_close(net_wire *wire, bool abort_it) {
    (void)abort_it;
    wire->open = false;
}
static inline int m_resolve(void *user, const char *name, void *query) {
    (void)user, (void)name, (void)query;
    return CAL_EUNREACHABLE;
}
static inline void m_forget(void *user, void *query) { (void)user, (void)query; }
static inline void m_wake_at(void *user, uint64_t at_ns) {
    (void)user;
    world.wake_ns = at_ns;
}
static inline size_t m_interfaces(void *user, const net_endpoint *at, net_endpoint *ret,
                                  size_t max) {
    (void)user, (void)at, (void)ret, (void)max;
    return 0;
}
static inline void m_stop(void *user) { (void)user; }
static net_transport transport = {.now_ns = m_now,
                                  .listen = m_listen,
                                  .dial = m_dial,
                                  .send = m_send,
                                  .pause = m_pause,
                                  .close = m_close,
                                  .resolve = m_resolve,
                                  .forget = m_forget,
                                  .wake_at = m_wake_at,
                                  .interfaces = m_interfaces,
                                  .stop = m_stop};

static inline void shelf_save(void *user, const cal_peer_id *peer, const uint8_t *record,
                              size_t len) {
    (void)user, (void)peer, (void)record, (void)len;
    world.saved++;
}
static inline void shelf_drop(void *user, const cal_peer_id *peer) {
    (void)user, (void)peer;
    world.dropped++;
}

static inline cal_p2p *host_with(const cal_p2p_options *options) {
    cal_p2p *host;
    cal_p2p_options with_shelf = *options;
    with_shelf.shelf = (cal_p2p_shelf){.save = shelf_save, .drop = shelf_drop};
    memset(&world, 0, sizeof world);
    world.now_ns = 1;
    assert_int_equal(net_host_new(&with_shelf, &transport, cal_os_posix(), &host, NULL), 0);
    return host;
}
static inline cal_p2p *host_new(const cal_p2p_limits *limits) {
    cal_p2p_options options = {0};
    if (limits) options.limits = *limits;
    return host_with(&options);
}
static inline void host_drop(cal_p2p *host) {
    net_host_free(host);
    for (size_t i = 0; i < world.count; i++) cal_buffer_deinit(&world.wires[i].sent);
}
/* A connection from 10.0.x.y, y and x being the number's bytes. */
static inline net_wire *host_accept_from(cal_p2p *host, unsigned number) {
    net_endpoint remote = {{{10, 0, (uint8_t)(number >> 8), (uint8_t)number}, 4}, 9};
    assert_true(world.count < WIRES_MAX);
    net_wire *wire = &world.wires[world.count];
    *wire = (net_wire){.open = true};
    cal_buffer_init(&wire->sent, 8 << 20);
    wire->owner = transport.events->accepted(host, wire, &remote, &remote);
    if (!wire->owner) return NULL;
    world.count++;
    return wire;
}
static inline net_wire *host_accept(cal_p2p *host) { return host_accept_from(host, 1); }
/* Lets time pass, waking the host when it asks to be. */
static inline void pass(cal_p2p *host, uint64_t ms) {
    uint64_t until = world.now_ns + NET_MS(ms);
    while (world.wake_ns <= until) {
        if (world.wake_ns > world.now_ns) world.now_ns = world.wake_ns;
        world.wake_ns = NET_NEVER;
        transport.events->wake(host);
    }
    world.now_ns = until;
}
static inline cal_p2p_stats stats_of(const cal_p2p *host) {
    cal_p2p_stats stats;
    cal_p2p_stats_get(host, &stats);
    return stats;
}

/* --- a peer that completed the handshake and then misbehaves --- */

typedef struct hostile {
    noise_identity identity;
    noise channel;
    net_wire *wire;
    cal_buffer out, plain;
    size_t heard; /* bytes of the wire that were opened */
} hostile;

static inline void hostile_raw(hostile *h, const void *bytes, size_t len) {
    if (h->wire->open) transport.events->received(h->wire->owner, bytes, len);
}
static inline void hostile_say(hostile *h, const void *bytes, size_t len) {
    cal_buffer_reset(&h->out);
    assert_int_equal(noise_seal(&h->channel, cal_slice_of(bytes, len), &h->out), 0);
    hostile_raw(h, h->out.data, h->out.len);
}
/* What the host sent since, opened: the bytes of its Yamux. Valid until the next call. */
static inline cal_slice hostile_hear(hostile *h) {
    cal_buffer_reset(&h->plain);
    while (h->heard < h->wire->sent.len) {
        size_t used;
        assert_int_equal(noise_feed(&h->channel, h->wire->sent.data + h->heard,
                                    h->wire->sent.len - h->heard, &h->out, &h->plain, &used),
                         0);
        h->heard += used;
    }
    return cal_buffer_slice(&h->plain);
}

static const char hostile_choose[] = "\x13/multistream/1.0.0\n\x07/noise\n";
static const char hostile_muxer[] = "\x13/multistream/1.0.0\n\x0d/yamux/1.0.0\n";

static inline void hostile_secure(hostile *h, net_wire *wire, unsigned name) {
    cal_secret seed = {{(uint8_t)name, (uint8_t)(name >> 8), 7}};
    memset(h, 0, sizeof *h);
    cal_buffer_init(&h->out, 1 << 20);
    cal_buffer_init(&h->plain, 8 << 20);
    assert_int_equal(noise_identity_init(&h->identity, &seed, cal_os_posix()), 0);
    h->wire = wire;
    assert_non_null(h->wire);
    hostile_raw(h, hostile_choose, sizeof hostile_choose - 1);
    h->heard = h->wire->sent.len;
    assert_int_equal(noise_init(&h->channel, &h->identity, true, cal_os_posix(), &h->out), 0);
    hostile_raw(h, h->out.data, h->out.len);
    cal_buffer_reset(&h->out);
    size_t used;
    assert_int_equal(noise_feed(&h->channel, h->wire->sent.data + h->heard,
                                h->wire->sent.len - h->heard, &h->out, &h->plain, &used),
                     0);
    h->heard += used;
    hostile_raw(h, h->out.data, h->out.len);
    hostile_say(h, hostile_muxer, sizeof hostile_muxer - 1);
    if (!h->wire->open) return;                          /* refused */
    static const size_t said = sizeof hostile_muxer - 1; /* its half of the muxer's choice */
    cal_slice heard = hostile_hear(h);
    assert_true(heard.len >= said && memcmp(heard.data, hostile_muxer, said) == 0);
}
static inline void hostile_start(hostile *h, cal_p2p *host, unsigned name) {
    hostile_secure(h, host_accept_from(host, name), name);
}
static inline void hostile_stop(hostile *h) {
    noise_deinit(&h->channel);
    cal_buffer_deinit(&h->out);
    cal_buffer_deinit(&h->plain);
}

enum { Y_DATA, Y_WINDOW, Y_PING, Y_AWAY };
enum { Y_SYN = 1, Y_ACK = 2, Y_FIN = 4, Y_RST = 8 };

static inline size_t hostile_put(uint8_t *to, uint8_t type, uint16_t flags, uint32_t id,
                                 uint32_t len) {
    to[0] = 0;
    to[1] = type;
    cal_write_u16be(to + 2, flags);
    cal_write_u32be(to + 4, id);
    cal_write_u32be(to + 8, len);
    return YAMUX_HEADER;
}
static inline void hostile_frame(hostile *h, uint8_t type, uint16_t flags, uint32_t id,
                                 uint32_t len) {
    uint8_t frame[YAMUX_HEADER];
    hostile_say(h, frame, hostile_put(frame, type, flags, id, len));
}
static inline void hostile_data(hostile *h, uint16_t flags, uint32_t id, const void *bytes,
                                size_t len) {
    uint8_t *frame = malloc(YAMUX_HEADER + len);
    size_t at = hostile_put(frame, Y_DATA, flags, id, (uint32_t)len);
    if (len) memcpy(frame + at, bytes, len);
    hostile_say(h, frame, at + len);
    free(frame);
}
/* Opens a stream and proposes a protocol, in one message. */
static inline void hostile_open(hostile *h, uint32_t id, const char *protocol) {
    char text[256];
    int len = snprintf(text, sizeof text, "\x13/multistream/1.0.0\n%c%s\n",
                       (char)(strlen(protocol) + 1), protocol);
    hostile_data(h, Y_SYN, id, text, (size_t)len);
}
/* Frames in what was heard that are for a stream, and have the flags. */
static inline size_t hostile_count(cal_slice heard, uint32_t id, uint16_t flags) {
    size_t count = 0;
    for (size_t at = 0; at + YAMUX_HEADER <= heard.len;) {
        const uint8_t *p = heard.data + at;
        count += cal_read_u32be(p + 4) == id && (cal_read_u16be(p + 2) & flags) == flags;
        at += YAMUX_HEADER + (p[1] == Y_DATA ? cal_read_u32be(p + 8) : 0);
    }
    return count;
}

#endif
