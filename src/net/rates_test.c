/* What peers may do how often (docs/design/net.md, Bounds): streams, connections, identify, pings,
 * requests, dials and records that they cause. Virtual time. */
#include "net/hostile.h"
#include "net/kad.h"
#include "net/mdns.h"

/* --- the rate itself --- */

static void test_rate(void **state) {
    (void)state;
    net_rate rate = {0};
    uint64_t now = NET_MS(1000);
    for (int i = 0; i < 20; i++) assert_true(net_rate_take(&rate, 10, 20, now));
    assert_false(net_rate_take(&rate, 10, 20, now));
    assert_false(net_rate_take(&rate, 10, 20, now + NET_MS(99)));
    assert_true(net_rate_take(&rate, 10, 20, now + NET_MS(100)));
    assert_false(net_rate_take(&rate, 10, 20, now + NET_MS(100)));
    now += NET_MS(3600000); /* a long pause earns no more than the burst */
    for (int i = 0; i < 20; i++) assert_true(net_rate_take(&rate, 10, 20, now));
    assert_false(net_rate_take(&rate, 10, 20, now));
    assert_int_equal(net_rate_owe(&rate, 10, 20, 10, now), NET_MS(1000));
    assert_false(net_rate_take(&rate, 10, 20, now - NET_MS(500))); /* a clock that went back */
}

/* --- streams --- */

static void open_and_reset(hostile *h, uint32_t *next, uint32_t count) {
    uint8_t frames[512 * 2 * YAMUX_HEADER];
    while (count > 0) {
        size_t at = 0;
        for (int i = 0; i < 512 && count > 0; i++, count--, *next += 2) {
            at += hostile_put(frames + at, Y_WINDOW, Y_SYN, *next, 0);
            at += hostile_put(frames + at, Y_WINDOW, Y_RST, *next, 0);
        }
        hostile_say(h, frames, at);
    }
}

/* A thousand in a row, as other implementations are tested with, pass; a flood is not read. */
static void test_streams_opened_and_reset(void **state) {
    (void)state;
    hostile h;
    uint32_t next = 1;
    cal_p2p *host = host_new(NULL);
    hostile_start(&h, host, 1);
    h.wire->deaf = true;
    open_and_reset(&h, &next, 1000);
    pass(host, 10);
    assert_false(h.wire->paused);
    open_and_reset(&h, &next, 1000);
    assert_int_equal(stats_of(host).streams_held, 0);
    open_and_reset(&h, &next, 500);
    assert_true(h.wire->paused);
    assert_int_equal(stats_of(host).streams_held, 1);
    assert_true(h.wire->open);
    pass(host, 2000); /* earned */
    assert_false(h.wire->paused);
    open_and_reset(&h, &next, 100000); /* as if it were heard: the pause is never long */
    assert_true(h.wire->paused);
    pass(host, NET_STREAM_HELD_MS + NET_TICK_MS);
    assert_false(h.wire->paused);
    assert_in_range(stats_of(host).streams, 0, 2); /* its own: identify and a ping */
    host_drop(host);
    hostile_stop(&h);
}

/* Ids of a peer's choice do not meet in one bucket. */
static void test_stream_ids_are_spread(void **state) {
    (void)state;
    hostile h;
    size_t longest = 0;
    cal_p2p *host = host_new(NULL);
    hostile_start(&h, host, 1);
    for (uint32_t i = 0; i < 250; i++) hostile_frame(&h, Y_WINDOW, Y_SYN, 1 + 64 * i, 0);
    const net_connection *connection =
        CAL_CONTAINER_OF(host->connections.next, net_connection, link);
    assert_true(connection->mux.stream_count >= 250);
    for (size_t i = 0; i < YAMUX_BUCKETS; i++) {
        size_t length = 0;
        for (yamux_stream *at = connection->mux.buckets[i]; at; at = at->chain) length++;
        if (length > longest) longest = length;
    }
    assert_true(longest < 64); /* of 250 */
    host_drop(host);
    hostile_stop(&h);
}

/* --- connections --- */

static void test_accepts_of_one_address(void **state) {
    (void)state;
    cal_p2p *host = host_new(&(cal_p2p_limits){.pending_in_max = 1000});
    for (int i = 0; i < 128; i++) assert_non_null(host_accept_from(host, 1));
    assert_null(host_accept_from(host, 1));
    assert_int_equal(stats_of(host).accepts_refused, 1);
    assert_non_null(host_accept_from(host, 2)); /* others are not concerned */
    pass(host, 500);
    for (int i = 0; i < 32; i++) assert_non_null(host_accept_from(host, 1));
    assert_null(host_accept_from(host, 1));
    host_drop(host);
}

static void test_accepts_in_all(void **state) {
    (void)state;
    cal_p2p *host = host_new(&(cal_p2p_limits){.pending_in_max = 10000, .accepts_max = 100});
    for (unsigned i = 0; i < 200; i++) assert_non_null(host_accept_from(host, i));
    assert_null(host_accept_from(host, 1000));
    assert_int_equal(stats_of(host).accepts_refused, 1);
    pass(host, 1000);
    for (unsigned i = 0; i < 100; i++) assert_non_null(host_accept_from(host, i));
    assert_null(host_accept_from(host, 1000));
    host_drop(host);
}

/* One address has a quarter of the places, however slowly it takes them; an IPv6 network is one. */
static void test_places_of_one_address(void **state) {
    (void)state;
    cal_p2p *host = host_new(&(cal_p2p_limits){.address_connections_max = 4});
    for (int i = 0; i < 4; i++) assert_non_null(host_accept_from(host, 1));
    assert_null(host_accept_from(host, 1));
    assert_int_equal(stats_of(host).connections_refused, 1);
    pass(host, 11000); /* they said nothing */
    assert_non_null(host_accept_from(host, 1));
    net_endpoint six = {{{0x20, 1, [15] = 1}, 16}, 9};
    for (uint8_t i = 0; i < 4; i++) {
        six.address.bytes[15] = i;
        assert_true(accept_allowed(host, &six));
        net_connection *connection = connection_new(host, false, &six);
        assert_non_null(connection);
    }
    six.address.bytes[15] = 99;
    assert_false(accept_allowed(host, &six));
    six.address.bytes[7] = 1; /* the neighbour */
    assert_true(accept_allowed(host, &six));
    /* This machine itself has no such bound. */
    net_endpoint here = {{{127, 0, 0, 1}, 4}, 9};
    for (int i = 0; i < 1000; i++) assert_true(accept_allowed(host, &here));
    host_drop(host);
}

/* However many addresses come, those that are known for their rate are not forgotten for them. */
static void test_many_addresses(void **state) {
    (void)state;
    net_endpoint bad = {{{11, 0, 0, 1}, 4}, 9}, other = {{{12, 0, 0, 0}, 4}, 9};
    cal_p2p *host = host_new(&(cal_p2p_limits){.accepts_max = 1000000});
    while (accept_allowed(host, &bad)) continue;
    for (unsigned i = 0; i < 100000; i++) {
        cal_write_u32be(other.address.bytes, 0x0c000000u + i);
        accept_allowed(host, &other);
    }
    assert_false(accept_allowed(host, &bad));
    host_drop(host);
}

/* --- identify and ping --- */

static void test_identify_asked_too_often(void **state) {
    (void)state;
    hostile h;
    uint32_t id = 1;
    cal_p2p *host = host_new(NULL);
    hostile_start(&h, host, 1);
    hostile_hear(&h);
    for (int i = 0; i < 100; i++, id += 2) {
        hostile_open(&h, id, "/ipfs/id/1.0.0");
        cal_slice heard = hostile_hear(&h);
        bool answered = hostile_count(heard, id, Y_FIN) == 1;
        assert_int_equal(answered, i < NET_IDENTIFY_BURST);
        assert_int_equal(hostile_count(heard, id, Y_RST), !answered);
        hostile_frame(&h, Y_WINDOW, Y_FIN, id, 0);
    }
    assert_int_equal(stats_of(host).identifies_refused, 100 - NET_IDENTIFY_BURST);
    pass(host, 1000);
    hostile_hear(&h);
    hostile_open(&h, id, "/ipfs/id/1.0.0");
    assert_int_equal(hostile_count(hostile_hear(&h), id, Y_FIN), 1);
    host_drop(host);
    hostile_stop(&h);
}

static bool holds(cal_slice all, const void *bytes, size_t len) {
    for (size_t at = 0; at + len <= all.len; at++)
        if (memcmp(all.data + at, bytes, len) == 0) return true;
    return false;
}

/* Addresses on loopback are said to peers on this machine, and to no others. */
static void test_identify_says_what_is_of_use(void **state) {
    (void)state;
    static const uint8_t loopback[] = {4, 127, 0, 0, 1, 6, 0, 1},
                         other[] = {4, 10, 0, 0, 5, 6, 0, 1};
    const char *const listen[] = {"/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.5/tcp/1"};
    const net_endpoint from[] = {{{{127, 0, 0, 1}, 4}, 9}, {{{10, 0, 0, 9}, 4}, 9}};
    cal_p2p *host = host_with(&(cal_p2p_options){.listen = listen, .listen_count = 2});
    for (unsigned i = 0; i < 2; i++) {
        hostile h;
        net_wire *wire = &world.wires[world.count++];
        *wire = (net_wire){.open = true};
        cal_buffer_init(&wire->sent, 8 << 20);
        wire->owner = transport.events->accepted(host, wire, &from[i], &from[i]);
        assert_non_null(wire->owner);
        hostile_secure(&h, wire, i + 1);
        hostile_hear(&h);
        hostile_open(&h, 1, "/ipfs/id/1.0.0");
        cal_slice heard = hostile_hear(&h);
        assert_true(holds(heard, other, sizeof other));
        assert_int_equal(holds(heard, loopback, sizeof loopback), i == 0);
        hostile_stop(&h);
    }
    host_drop(host);
}

static size_t identified;
static void on_identified(void *user, const cal_p2p_peer *peer) {
    (void)user, (void)peer;
    identified++;
}
static const cal_p2p_peer_events watching = {.identified = on_identified};

/* Pushes cost observers, so they are heard as often as that, and written to disk more rarely. */
static void test_pushes(void **state) {
    (void)state;
    hostile h;
    cal_p2p *host =
        host_new(&(cal_p2p_limits){.idle_timeout_ms = 3600000, .ping_timeout_ms = 3600000});
    hostile_start(&h, host, 1);
    h.wire->deaf = true;
    identified = 0;
    assert_int_equal(cal_p2p_observe(host, &watching, NULL), 0);
    for (uint32_t i = 0; i < 600; i++) {
        /* A length; field 2, a listen address: /ip4/10.0.x.y/tcp/80. */
        uint8_t message[] = {10, 0x12, 8, 4, 10, 0, (uint8_t)(i >> 8), (uint8_t)i, 6, 0, 80};
        hostile_open(&h, 1 + 2 * i, "/ipfs/id/push/1.0.0");
        hostile_data(&h, Y_FIN, 1 + 2 * i, message, sizeof message);
        pass(host, 100);
    }
    assert_in_range(identified, NET_IDENTIFY_BURST, NET_IDENTIFY_BURST + 60);
    assert_int_equal(stats_of(host).identifies_refused, 600 - identified);
    assert_in_range(world.saved, 5, 7); /* 60 seconds, one record each NET_SAVE_PAUSE_MS */
    cal_multiaddr known[CAL_P2P_ADDRESSES_MAX + 1];
    assert_int_equal(
        cal_p2p_known(host,
                      &CAL_CONTAINER_OF(host->connections.next, net_connection, link)->channel.peer,
                      known, CAL_P2P_ADDRESSES_MAX + 1),
        CAL_P2P_ADDRESSES_MAX);
    host_drop(host);
    hostile_stop(&h);
}

/* Pings are answered as they come, up to so many bytes a second, and all in the end. */
static void test_ping_flood(void **state) {
    enum { CHUNK = 16 * 1024 };
    (void)state;
    hostile h;
    static uint8_t pings[CHUNK];
    size_t echoed = 0, chunks = 12;
    cal_p2p *host = host_new(NULL);
    hostile_start(&h, host, 1);
    hostile_hear(&h);
    hostile_open(&h, 1, "/ipfs/ping/1.0.0");
    for (size_t i = 0; i < chunks; i++) hostile_data(&h, 0, 1, pings, CHUNK);
    for (int second = 0; second < 4; second++) {
        cal_slice heard = hostile_hear(&h);
        for (size_t at = 0; at + YAMUX_HEADER <= heard.len;) {
            const uint8_t *p = heard.data + at;
            size_t body = p[1] == Y_DATA ? cal_read_u32be(p + 8) : 0;
            if (cal_read_u32be(p + 4) == 1) echoed += body;
            at += YAMUX_HEADER + body;
        }
        /* The first tick comes at once. */
        assert_true(echoed <= (size_t)(second + 2) * NET_ECHO_BYTES + 64);
        pass(host, 1000);
    }
    assert_in_range(echoed, chunks * CHUNK, chunks * CHUNK + 64); /* and multistream's words */
    assert_true(stats_of(host).pings_held > 0);
    assert_true(h.wire->open);
    host_drop(host);
    hostile_stop(&h);
}

/* One who reads no echoes has his pings wait in his window, not their echoes in our queue. */
static void test_pings_not_read(void **state) {
    (void)state;
    hostile h;
    static uint8_t pings[16 * 1024];
    cal_p2p *host = host_new(NULL);
    hostile_start(&h, host, 1);
    h.wire->stuck = true;
    for (uint32_t id = 1; id < 9; id += 2) {
        hostile_open(&h, id, "/ipfs/ping/1.0.0");
        for (int i = 0; i < 15; i++) hostile_data(&h, 0, id, pings, sizeof pings);
    }
    for (int i = 0; i < 20; i++) {
        pass(host, 1000);
        assert_true(stats_of(host).unsent_bytes <= 4 * NET_ECHO_QUEUE + 1024);
    }
    host_drop(host);
    hostile_stop(&h);
}

/* --- kad --- */

static void ask_kad(hostile *h, uint32_t id, size_t count) {
    uint8_t request[1 + 2 + 2 + 32] = {36, 0x08, 4, 0x12, 32, 9}, *all = malloc(37 * count);
    for (size_t i = 0; i < count; i++) memcpy(all + 37 * i, request, 37);
    hostile_data(h, 0, id, all, 37 * count);
    free(all);
}

static void test_kad_requests(void **state) {
    (void)state;
    hostile h;
    cal_p2p_kad_stats stats;
    cal_p2p *host = host_new(NULL);
    assert_int_equal(cal_p2p_kad_start(host), 0);
    hostile_start(&h, host, 1);
    h.wire->deaf = true;
    hostile_open(&h, 1, KAD_PROTOCOL);
    for (int i = 0; i < 4; i++) ask_kad(&h, 1, KAD_REQUESTS_BURST / 4);
    cal_p2p_kad_stats_get(host, &stats);
    assert_int_equal(stats.requests_in, KAD_REQUESTS_BURST);
    assert_int_equal(stats.requests_refused, 0);
    ask_kad(&h, 1, 10);
    cal_p2p_kad_stats_get(host, &stats);
    assert_int_equal(stats.requests_in, KAD_REQUESTS_BURST);
    assert_int_equal(stats.requests_refused, 1); /* and the stream is reset */
    host_drop(host);
    hostile_stop(&h);
}

static void test_kad_answers_not_read(void **state) {
    (void)state;
    hostile h;
    cal_p2p *host = host_new(NULL);
    assert_int_equal(cal_p2p_kad_start(host), 0);
    hostile_start(&h, host, 1);
    for (uint8_t i = 1; i < 30; i++) { /* something to answer */
        cal_peer_id id;
        cal_multiaddr address;
        cal_peer_id_of_key((const uint8_t[32]){i}, &id);
        assert_int_equal(cal_multiaddr_parse("/ip4/10.0.0.9/tcp/1", &address), 0);
        cal_p2p_learn(host, &id, &address, 1);
    }
    h.wire->stuck = true;
    for (uint32_t i = 0; i < 64; i++) {
        hostile_open(&h, 1 + 2 * i, KAD_PROTOCOL);
        ask_kad(&h, 1 + 2 * i, 1000);
    }
    assert_true(stats_of(host).unsent_bytes <= 64 * (KAD_MESSAGE_MAX + 64));
    assert_true(stats_of(host).unread_bytes > 32 * 1000); /* the rest waits where it is bounded */
    host_drop(host);
    hostile_stop(&h);
}

/* --- dials that others cause --- */

static int m_join(void *user, const net_endpoint *group, cal_error *err) {
    (void)user, (void)group, (void)err;
    return 0;
}
static void m_multicast(void *user, const uint8_t *bytes, size_t len) {
    (void)user, (void)bytes, (void)len;
}
static void m_leave(void *user) { (void)user; }

static void announce_to(cal_p2p *host, const cal_peer_id *id, const char *address) {
    char text[256], id_text[CAL_PEER_ID_TEXT_MAX], name[MDNS_NAME_LEN];
    const char *texts[] = {text};
    cal_buffer packet;
    size_t used;
    memset(name, 'a', sizeof name);
    cal_peer_id_text(id, id_text);
    snprintf(text, sizeof text, "%s/p2p/%s", address, id_text);
    cal_buffer_init(&packet, MDNS_PACKET_TAKEN_MAX);
    assert_int_equal(mdns_write_answer(&packet, name, texts, 1, &used), 0);
    transport.events->datagram(host, packet.data, packet.len);
    cal_buffer_deinit(&packet);
}

static net_transport multicasting(void) {
    net_transport plain = transport;
    transport.multicast_join = m_join;
    transport.multicast_send = m_multicast;
    transport.multicast_leave = m_leave;
    return plain;
}

static void test_mdns_flood(void **state) {
    (void)state;
    net_transport plain = multicasting();
    cal_p2p_mdns_stats stats;
    cal_p2p *host = host_new(NULL);
    assert_int_equal(cal_p2p_mdns_start(host, NULL), 0);
    for (unsigned i = 0; i < MDNS_KNOWN_MAX + 100; i++) {
        char text[64];
        cal_peer_id id;
        cal_peer_id_of_key((const uint8_t[32]){(uint8_t)i, (uint8_t)(i >> 8)}, &id);
        snprintf(text, sizeof text, "/ip4/10.1.%u.%u/tcp/1", i >> 8, i & 255);
        announce_to(host, &id, text);
    }
    cal_p2p_mdns_stats_get(host, &stats);
    assert_int_equal(stats.discovered, MDNS_KNOWN_MAX);
    assert_int_equal(stats.refused, 100);
    assert_int_equal(world.dials, MDNS_DIALS_MAX);
    pass(host, 11000); /* nobody answers: the next ones */
    assert_in_range(world.dials, MDNS_DIALS_MAX + 1, 2 * MDNS_DIALS_MAX);
    assert_in_range(stats_of(host).pending, 1, MDNS_DIALS_MAX);
    host_drop(host);
    transport = plain;
}

/* A host that others reach from elsewhere reaches its neighbours on this machine there too: it
 * dials nothing on loopback because of a datagram. */
static void test_mdns_of_this_machine(void **state) {
    (void)state;
    net_transport plain = multicasting();
    const char *const listens[] = {"/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.5/tcp/1"};
    for (size_t i = 0; i < 2; i++) {
        cal_peer_id id;
        cal_multiaddr known;
        cal_peer_id_of_key((const uint8_t[32]){9}, &id);
        cal_p2p *host = host_with(&(cal_p2p_options){.listen = listens, .listen_count = i + 1});
        assert_int_equal(cal_p2p_mdns_start(host, NULL), 0);
        announce_to(host, &id, "/ip4/127.0.0.1/tcp/80");
        announce_to(host, &id, "/dns4/localhost/tcp/80");
        assert_int_equal(world.dials, i == 0);
        assert_int_equal(cal_p2p_known(host, &id, &known, 1), i == 0);
        host_drop(host);
    }
    transport = plain;
}

/* --- disk --- */

/* Peers that come and go cost no writes: what was never saved is not dropped either. */
static void test_strangers_cost_no_disk(void **state) {
    (void)state;
    cal_p2p *host = host_new(&(cal_p2p_limits){.known_peers_max = 10, .connections_max = 10});
    cal_multiaddr address;
    assert_int_equal(cal_multiaddr_parse("/ip4/10.0.0.9/tcp/1", &address), 0);
    for (unsigned i = 1; i < 1000; i++) {
        cal_peer_id id;
        cal_peer_id_of_key((const uint8_t[32]){(uint8_t)i, (uint8_t)(i >> 8)}, &id);
        assert_int_equal(cal_p2p_learn(host, &id, &address, 1), 0);
    }
    assert_int_equal(world.dropped, 0);
    pass(host, 3000);
    assert_int_equal(world.saved, 20);
    for (unsigned i = 1000; i < 1010; i++) {
        cal_peer_id id;
        cal_peer_id_of_key((const uint8_t[32]){(uint8_t)i, (uint8_t)(i >> 8)}, &id);
        assert_int_equal(cal_p2p_learn(host, &id, &address, 1), 0);
    }
    assert_int_equal(world.dropped, 10);
    host_drop(host);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_streams_opened_and_reset),
        cmocka_unit_test(test_stream_ids_are_spread),
        cmocka_unit_test(test_accepts_of_one_address),
        cmocka_unit_test(test_accepts_in_all),
        cmocka_unit_test(test_places_of_one_address),
        cmocka_unit_test(test_many_addresses),
        cmocka_unit_test(test_identify_asked_too_often),
        cmocka_unit_test(test_identify_says_what_is_of_use),
        cmocka_unit_test(test_pushes),
        cmocka_unit_test(test_ping_flood),
        cmocka_unit_test(test_pings_not_read),
        cmocka_unit_test(test_kad_requests),
        cmocka_unit_test(test_kad_answers_not_read),
        cmocka_unit_test(test_mdns_flood),
        cmocka_unit_test(test_mdns_of_this_machine),
        cmocka_unit_test(test_strangers_cost_no_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
