/* What peers may try, and where it ends (docs/design/net.md, Bounds): a host over memory, in
 * virtual time. */
#include "net/hostile.h"

static void test_silent_connections(void **state) {
    (void)state;
    cal_p2p *host = host_new(NULL);
    /* A quarter of the places for one address, so that others come in beside it. */
    for (unsigned i = 0; i < 128; i++) {
        if (i % 32 == 0 && i > 0) assert_null(host_accept_from(host, i / 32));
        assert_non_null(host_accept_from(host, i / 32 + 1));
    }
    assert_null(host_accept_from(host, 5));
    assert_int_equal(stats_of(host).connections_refused, 4);
    pass(host, 9900);
    assert_int_equal(stats_of(host).pending, 128);
    pass(host, 200);
    assert_int_equal(stats_of(host).pending, 0);
    assert_int_equal(stats_of(host).handshakes_timed_out, 128);
    assert_non_null(host_accept(host));
    host_drop(host);
}

/* Whoever was on his way in when the host stopped reached no limit. Seed 324 of sim_host_test. */
static void test_newcomer_while_stopping(void **state) {
    (void)state;
    cal_p2p *host = host_new(NULL);
    net_host_shutdown(host, NULL, NULL);
    assert_null(host_accept(host));
    assert_int_equal(stats_of(host).connections_refused, 0);
    host_drop(host);
}

static void test_connections_in_all(void **state) {
    (void)state;
    static hostile peers[9];
    cal_p2p *host = host_new(&(cal_p2p_limits){.connections_max = 4});
    for (uint8_t i = 0; i < 4; i++) hostile_start(&peers[i], host, (uint8_t)(i + 1));
    assert_int_equal(stats_of(host).connections, 4);
    assert_null(host_accept(host));
    host_drop(host);
    for (int i = 0; i < 4; i++) hostile_stop(&peers[i]);
    /* And of one peer. */
    host = host_new(&(cal_p2p_limits){.peer_connections_max = 8});
    for (int i = 0; i < 9; i++) hostile_start(&peers[i], host, 1);
    assert_int_equal(stats_of(host).connections, 8);
    assert_false(peers[8].wire->open);
    pass(host, 6100); /* the duplicates drain: one is kept */
    assert_int_equal(stats_of(host).connections, 1);
    assert_true(peers[7].wire->open);
    host_drop(host);
    for (int i = 0; i < 9; i++) hostile_stop(&peers[i]);
}

static void test_half_open_connection(void **state) {
    (void)state;
    hostile h;
    cal_p2p *host = host_new(&(cal_p2p_limits){.idle_timeout_ms = 3600000});
    hostile_start(&h, host, 1); /* never says anything again */
    pass(host, 50000);
    assert_int_equal(stats_of(host).connections, 1);
    pass(host, 15000);
    assert_int_equal(stats_of(host).connections, 0);
    assert_int_equal(stats_of(host).pings_failed, 3);
    assert_false(h.wire->open);
    host_drop(host);
    hostile_stop(&h);
}

static size_t asked_identify(cal_slice heard) {
    static const char id[] = "/ipfs/id/1.0.0\n";
    size_t count = 0;
    for (size_t at = 0; at + sizeof id - 1 <= heard.len; at++)
        count += memcmp(heard.data + at, id, sizeof id - 1) == 0;
    return count;
}

/* It may have restarted as something else: each connection that comes to be used is asked, once. */
static void test_identify_on_each_connection(void **state) {
    (void)state;
    hostile peers[3];
    cal_p2p *host = host_new(&(cal_p2p_limits){.idle_timeout_ms = 3600000});
    for (int i = 0; i < 3; i++) {
        hostile_start(&peers[i], host, 1);
        pass(host, 100);
        size_t at_once = asked_identify(cal_buffer_slice(&peers[i].plain));
        assert_int_equal(at_once + asked_identify(hostile_hear(&peers[i])), 1);
    }
    /* And the one that takes over again, when it was asked already, is not. */
    transport.events->closed(peers[2].wire->owner, 0);
    peers[2].wire->open = false;
    pass(host, 1000);
    assert_int_equal(asked_identify(hostile_hear(&peers[1])), 0);
    host_drop(host);
    for (int i = 0; i < 3; i++) hostile_stop(&peers[i]);
}

static void test_frames_of_a_hostile_peer(void **state) {
    (void)state;
    hostile h;
    cal_p2p *host = host_new(NULL);
    hostile_start(&h, host, 1);
    hostile_frame(&h, 0, 1, 1, YAMUX_WINDOW + 1);
    assert_false(h.wire->open);
    assert_int_equal(stats_of(host).windows_exceeded, 1);
    hostile_stop(&h);
    hostile_start(&h, host, 1);
    hostile_frame(&h, 7, 0, 0, 0);
    assert_false(h.wire->open);
    assert_int_equal(stats_of(host).frames_refused, 1);
    hostile_stop(&h);
    hostile_start(&h, host, 1);
    transport.events->received(h.wire->owner, (const uint8_t *)"\0\x10----------------", 18);
    assert_false(h.wire->open);
    assert_int_equal(stats_of(host).frames_refused, 2);
    assert_int_equal(stats_of(host).connections, 0);
    host_drop(host);
    hostile_stop(&h);
}

/* Asks for answers and reads none: first it is not heard any more, then it is closed. */
static void test_peer_that_does_not_read(void **state) {
    (void)state;
    hostile h;
    cal_p2p *host = host_new(NULL);
    hostile_start(&h, host, 1);
    h.wire->stuck = true;
    int frames = 0;
    for (; h.wire->open && frames < 100000; frames++) hostile_frame(&h, 2, 1, 0, 1);
    assert_int_equal(stats_of(host).floods_closed, 1);
    assert_in_range(world.paused, 1, 1);
    assert_in_range(frames, 1000, 2 * YAMUX_CONTROL_MAX / YAMUX_HEADER);
    host_drop(host);
    hostile_stop(&h);
}

static void test_streams_are_limited(void **state) {
    (void)state;
    hostile h;
    cal_p2p *host = host_new(NULL);
    hostile_start(&h, host, 1);
    for (uint32_t i = 0; i < 300; i++) hostile_frame(&h, 0, 1, 1 + 2 * i, 0);
    assert_in_range(stats_of(host).streams, 250, 256);
    assert_true(stats_of(host).streams_refused >= 44);
    assert_true(h.wire->open);
    pass(host, 10100); /* none of them chose a protocol; pings of ours end the same way */
    assert_in_range(stats_of(host).streams, 0, 1);
    assert_in_range(stats_of(host).streams_timed_out, 250, 256);
    host_drop(host);
    hostile_stop(&h);
}

/* Once half of all streams are taken, an address opens more only up to its share: another gets some
 * whatever the first one holds. */
static void test_streams_of_one_address(void **state) {
    (void)state;
    static hostile bad[2], good;
    cal_p2p *host = host_new(&(cal_p2p_limits){.streams_total_max = 320});
    for (unsigned i = 0; i < 2; i++) {
        hostile_secure(&bad[i], host_accept_from(host, 1), i + 1);
        for (uint32_t k = 0; k < 200; k++) hostile_frame(&bad[i], 0, Y_SYN, 1 + 2 * k, 0);
    }
    assert_in_range(stats_of(host).streams, 160, 163); /* some are ours */
    size_t before = stats_of(host).streams, refused = stats_of(host).streams_refused;
    hostile_secure(&good, host_accept_from(host, 2), 3);
    for (uint32_t k = 0; k < 10; k++) hostile_frame(&good, 0, Y_SYN, 1 + 2 * k, 0);
    assert_int_equal(stats_of(host).streams_refused, refused);
    assert_true(stats_of(host).streams >= before + 10);
    for (uint32_t k = 10; k < 40; k++) hostile_frame(&good, 0, Y_SYN, 1 + 2 * k, 0);
    assert_in_range(stats_of(host).streams, before + 18, before + 22); /* a sixteenth */
    host_drop(host);
    for (int i = 0; i < 2; i++) hostile_stop(&bad[i]);
    hostile_stop(&good);
}

static void test_other_peers_are_forgotten_first(void **state) {
    (void)state;
    cal_p2p *host = host_new(&(cal_p2p_limits){.known_peers_max = 10, .connections_max = 10});
    cal_multiaddr address;
    assert_int_equal(cal_multiaddr_parse("/ip4/10.0.0.9/tcp/1", &address), 0);
    for (uint8_t i = 1; i < 100; i++) {
        cal_peer_id id;
        cal_peer_id_of_key((const uint8_t[32]){i}, &id);
        assert_int_equal(cal_p2p_learn(host, &id, &address, 1), 0);
    }
    assert_int_equal(stats_of(host).known_peers, 20);
    assert_int_equal(stats_of(host).peers_forgotten, 79);
    host_drop(host);
}

/* The clock of the machine plays no part; a long sleep ends what was waiting, and no more. */
static void test_long_sleep(void **state) {
    (void)state;
    cal_p2p *host = host_new(NULL);
    assert_non_null(host_accept(host));
    world.now_ns += NET_MS(86400000);
    transport.events->wake(host);
    assert_int_equal(stats_of(host).pending, 0);
    assert_non_null(host_accept(host));
    host_drop(host);
}

/* The memory transport has no IPv6, like some machines. */
static void test_family_that_is_not_there(void **state) {
    (void)state;
    const char *const both[] = {"/ip6/::/tcp/1", "/ip4/0.0.0.0/tcp/1"};
    cal_p2p *host = host_with(&(cal_p2p_options){.listen = both, .listen_count = 2});
    host_drop(host);
    cal_error err;
    assert_int_equal(net_host_new(&(cal_p2p_options){.listen = both, .listen_count = 1}, &transport,
                                  cal_os_posix(), &host, &err),
                     CAL_EUNSUPPORTED);
    assert_non_null(strstr(err.message, both[0]));
}

static void *asked[4];
static size_t asked_count;
static int note_question(void *user, const char *name, void *query) {
    (void)user, (void)name;
    assert_true(asked_count < 4);
    asked[asked_count++] = query;
    return 0;
}

/* What leads to this machine itself is dialled for who configured it, not for a peer that said so:
 * written as IPv6, as the name of this machine, or as a name of its own that resolves to it. */
static void test_announced_addresses_of_this_machine(void **state) {
    (void)state;
    const char *const here[] = {
        "/ip4/127.0.0.1/tcp/80",        "/ip4/127.9.9.9/tcp/80",  "/ip6/::1/tcp/80",
        "/ip6/::ffff:127.0.0.1/tcp/80", "/dns4/localhost/tcp/80", "/dns/LocalHost./tcp/80",
        "/dns6/a.b.localhost./tcp/80"};
    const char *const elsewhere[] = {"/ip6/::ffff:10.0.0.1/tcp/80", "/dns4/notlocalhost/tcp/80",
                                     "/ip4/10.0.0.1/tcp/80"};
    cal_multiaddr address;
    for (size_t i = 0; i < sizeof here / sizeof *here; i++) {
        assert_int_equal(cal_multiaddr_parse(here[i], &address), 0);
        assert_true(address_loopback(&address));
    }
    for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++) {
        assert_int_equal(cal_multiaddr_parse(elsewhere[i], &address), 0);
        assert_false(address_loopback(&address));
    }
    cal_peer_id id;
    const cal_os_address loop = {{127, 0, 0, 1}, 4};
    int (*resolve)(void *, const char *, void *) = transport.resolve;
    transport.resolve = note_question;
    for (int announced = 0; announced < 2; announced++) {
        asked_count = 0;
        cal_p2p *host = host_new(NULL);
        cal_peer_id_of_key((const uint8_t[32]){5}, &id);
        assert_int_equal(cal_multiaddr_parse("/ip6/::ffff:0.0.0.0/tcp/80", &address), 0);
        assert_int_equal(cal_p2p_learn(host, &id, &address, 1), 0);
        assert_int_equal(cal_p2p_known(host, &id, &address, 1), 0); /* nowhere */
        assert_int_equal(cal_multiaddr_parse("/dns4/a.example/tcp/80", &address), 0);
        assert_int_equal(announced ? peer_learn_announced(host, &id, &address, 1)
                                   : cal_p2p_learn(host, &id, &address, 1),
                         0);
        assert_int_equal(announced ? dial_announced(host, &id, &address, 1, NULL, NULL)
                                   : cal_p2p_connect(host, &id, &address, 1, NULL, NULL),
                         0);
        assert_int_equal(asked_count, 2); /* as given, and as known */
        for (size_t i = 0; i < asked_count; i++) transport.events->resolved(asked[i], 0, &loop, 1);
        assert_int_equal(world.dials, !announced);
        host_drop(host);
    }
    transport.resolve = resolve;
}

static void test_records_of_the_shelf(void **state) {
    (void)state;
    cal_p2p *host = host_new(NULL);
    cal_peer_id id;
    cal_multiaddr address, known[2];
    cal_peer_id_of_key((const uint8_t[32]){5}, &id);
    assert_int_equal(cal_multiaddr_parse("/ip4/10.0.0.9/tcp/1", &address), 0);
    uint8_t record[64] = {1, (uint8_t)address.len};
    memcpy(record + 2, address.bytes, address.len);
    assert_int_equal(cal_p2p_restore(host, &id, record, 2u + address.len), 0);
    assert_int_equal(cal_p2p_known(host, &id, known, 2), 1);
    assert_true(cal_multiaddr_equal(&known[0], &address));
    assert_int_equal(cal_p2p_restore(host, &id, record, 3), CAL_EDECODE);
    assert_int_equal(cal_p2p_restore(host, &id, record, 0), CAL_EDECODE);
    record[0] = 9;
    assert_int_equal(cal_p2p_restore(host, &id, record, 2u + address.len), CAL_EDECODE);
    /* Known is not kept: nobody is dialled. Kept, it is, and again after growing pauses. */
    pass(host, 60000);
    assert_int_equal(world.count, 0);
    cal_p2p_keep(host, &id, true);
    pass(host, 1100);
    assert_int_equal(world.count, 1);
    transport.events->closed(world.wires[0].owner, CAL_EUNREACHABLE);
    pass(host, 60000);
    assert_in_range(world.count, 2, 6);
    host_drop(host);
}

static uint8_t interface_number;
static size_t one_interface(void *user, const net_endpoint *at, net_endpoint *ret, size_t max) {
    (void)user;
    if (at->address.len != 4 || max == 0) return 0;
    *ret = (net_endpoint){{{10, 0, 1, interface_number}, 4}, at->port};
    return 1;
}

static void close_all(void) {
    for (size_t i = 0; i < world.count; i++) {
        if (!world.wires[i].open) continue;
        world.wires[i].open = false;
        transport.events->closed(world.wires[i].owner, CAL_EUNREACHABLE);
    }
}

/* Where this machine comes to another network, what failed before says nothing: kept peers and
 * bootstrap addresses are dialled at once, not after the pauses that grew. */
static void test_moved_machine_dials_at_once(void **state) {
    (void)state;
    cal_peer_id id;
    char named[128], text[CAL_PEER_ID_TEXT_MAX];
    cal_peer_id_of_key((const uint8_t[32]){5}, &id);
    cal_peer_id_text(&id, text);
    snprintf(named, sizeof named, "/ip4/10.0.0.9/tcp/1/p2p/%s", text);
    const char *const listen[] = {"/ip4/0.0.0.0/tcp/1"};
    const char *const bootstrap[] = {named, "/ip4/10.0.0.8/tcp/1"};
    net_transport plain = transport;
    transport.interfaces = one_interface;
    interface_number = 1;
    cal_p2p *host = host_with(&(cal_p2p_options){
        .listen = listen, .listen_count = 1, .bootstrap = bootstrap, .bootstrap_count = 2});
    for (int i = 0; i < 3600; i++) {
        pass(host, 1000);
        close_all();
    }
    size_t before = world.dials;
    assert_in_range(before, 2 * 15, 2 * 40); /* in an hour: the pauses are some 5 minutes */
    pass(host, 12000);
    close_all();
    interface_number = 2;
    before = world.dials;
    pass(host, NET_ADDRESSES_MS + 2 * NET_TICK_MS);
    assert_int_equal(world.dials, before + 2);
    host_drop(host);
    transport = plain;
}

/* The pauses double up to a bound, and spread: whom a restart cut off do not all come back at once.
 */
static void test_pauses(void **state) {
    (void)state;
    cal_p2p *host = host_new(NULL);
    for (uint32_t failures = 0; failures < 40; failures++) {
        uint64_t low = NET_NEVER, high = 0, middle = NET_MS(NET_RETRY_MAX_MS);
        if (failures < 9) middle = NET_MS(NET_RETRY_MIN_MS) << failures;
        for (int i = 0; i < 200; i++) {
            uint64_t pause = dial_pause_ns(host, failures);
            assert_true(pause >= middle / 2 && pause < middle / 2 + middle);
            if (pause < low) low = pause;
            if (pause > high) high = pause;
        }
        assert_true(high - low > middle / 2);
    }
    host_drop(host);
}

/* A kept peer's connection is not idle; once it is not kept any more, it is. */
static void test_kept_peer_is_not_idle(void **state) {
    (void)state;
    hostile h;
    cal_p2p *host = host_new(&(cal_p2p_limits){.ping_timeout_ms = 3600000});
    hostile_start(&h, host, 1);
    cal_peer_id id = CAL_CONTAINER_OF(host->connections.next, net_connection, link)->peer->id;
    assert_int_equal(cal_p2p_keep(host, &id, true), 0);
    pass(host, 600000);
    assert_true(cal_p2p_is_connected(host, &id));
    assert_int_equal(cal_p2p_keep(host, &id, false), 0);
    pass(host, 60000);
    assert_false(cal_p2p_is_connected(host, &id));
    assert_int_equal(stats_of(host).connections_idle, 1);
    host_drop(host);
    hostile_stop(&h);
}

static void know_peer(cal_p2p *host, uint8_t number) {
    cal_peer_id id;
    cal_multiaddr address;
    char text[64];
    snprintf(text, sizeof text, "/ip4/10.0.0.%u/tcp/1", number);
    cal_peer_id_of_key((const uint8_t[32]){number}, &id);
    assert_int_equal(cal_multiaddr_parse(text, &address), 0);
    assert_int_equal(cal_p2p_learn(host, &id, &address, 1), 0);
}

/* A host that wants peers dials those it knows, a few at a time, each with growing pauses. */
static void test_known_peers_are_sought(void **state) {
    (void)state;
    cal_p2p *host = host_with(&(cal_p2p_options){.peers_wanted = 20});
    for (uint8_t i = 1; i <= 30; i++) know_peer(host, i);
    pass(host, 1100);
    assert_int_equal(world.count, NET_SEEKS_MAX);
    for (int round = 0; round < 60; round++) {
        for (size_t i = 0; i < world.count; i++) {
            if (!world.wires[i].open || !world.wires[i].owner) continue;
            world.wires[i].open = false;
            transport.events->closed(world.wires[i].owner, CAL_EUNREACHABLE);
        }
        pass(host, 1000);
    }
    assert_in_range(world.count, 30 + 30, 7 * 30); /* all, none of them more than a few times */
    host_drop(host);
}

/* However much is learned, the shelf gets little at a time, and all in the end. */
static void test_shelf_is_not_flooded(void **state) {
    (void)state;
    cal_p2p *host = host_new(NULL);
    for (uint8_t i = 1; i <= 100; i++) know_peer(host, i);
    assert_int_equal(world.saved, 0);
    pass(host, 1100);
    assert_in_range(world.saved, NET_SAVES_MAX, 2 * NET_SAVES_MAX);
    pass(host, 10000);
    assert_int_equal(world.saved, 100);
    for (uint8_t i = 1; i <= 100; i++) know_peer(host, i); /* nothing new */
    pass(host, 10000);
    assert_int_equal(world.saved, 100);
    for (uint8_t i = 101; i <= 200; i++) know_peer(host, i);
    net_host_shutdown(host, NULL, NULL);
    assert_int_equal(world.saved, 200);
    host_drop(host);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silent_connections),
        cmocka_unit_test(test_newcomer_while_stopping),
        cmocka_unit_test(test_connections_in_all),
        cmocka_unit_test(test_half_open_connection),
        cmocka_unit_test(test_identify_on_each_connection),
        cmocka_unit_test(test_frames_of_a_hostile_peer),
        cmocka_unit_test(test_peer_that_does_not_read),
        cmocka_unit_test(test_streams_are_limited),
        cmocka_unit_test(test_streams_of_one_address),
        cmocka_unit_test(test_other_peers_are_forgotten_first),
        cmocka_unit_test(test_long_sleep),
        cmocka_unit_test(test_family_that_is_not_there),
        cmocka_unit_test(test_announced_addresses_of_this_machine),
        cmocka_unit_test(test_records_of_the_shelf),
        cmocka_unit_test(test_moved_machine_dials_at_once),
        cmocka_unit_test(test_pauses),
        cmocka_unit_test(test_kept_peer_is_not_idle),
        cmocka_unit_test(test_known_peers_are_sought),
        cmocka_unit_test(test_shelf_is_not_flooded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
