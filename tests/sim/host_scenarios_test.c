/* A few hosts over the simulated network, one situation at a time: dials at the same moment,
 * connections of which one end is gone, moves, names, clocks that jump, large streams over bad
 * links. The seeds of host_sim_test.c mix all of this; here each has its own bounds in time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "net/sim/sim.h"

enum { NODES = 3, LARGE = 2 * 1024 * 1024, CHUNK = 16 * 1024 };
#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
/* Three pings: each is sent at most 15 s after the last answer, waits 20 s, and is looked at once a
 * second. */
#define HALF_OPEN_NS (80 * SECOND)

typedef struct node {
    cal_sim *world;
    net_sim_machine *machine;
    cal_p2p *host;
    cal_peer_id id;
    char address[24];
    int connects, disconnects, heard;
} node;

static struct {
    cal_sim *world;
    net_sim *net;
    node nodes[NODES];
} w;

/* --- the world --- */

static void on_connected(void *user, const cal_peer_id *peer) {
    (void)peer;
    ((node *)user)->connects++;
}
static void on_disconnected(void *user, const cal_peer_id *peer) {
    (void)peer;
    ((node *)user)->disconnects++;
}
static const cal_p2p_peer_events peer_events = {on_connected, on_disconnected, NULL};

static void on_message(void *user, const cal_p2p_message *message) {
    (void)message;
    ((node *)user)->heard++;
}

static void give_address(int i, const char *address) {
    node *n = &w.nodes[i];
    const char *list[] = {n->address};
    char name[32];
    if (n->address[0]) net_sim_address_remove(n->machine, n->address);
    snprintf(n->address, sizeof n->address, "%s", address);
    snprintf(name, sizeof name, "node%d.sim", i);
    assert_int_equal(net_sim_address_add(n->machine, n->address), 0);
    assert_int_equal(net_sim_name(w.net, name, list, 1), 0);
}

/* Starts a node that keeps another one (-1: none), by its name; with its id, or whoever answers. */
static void begin_with(int i, int keeps, bool with_id) {
    node *n = &w.nodes[i];
    char id[CAL_PEER_ID_TEXT_MAX], text[160];
    const char *listen[] = {"/ip4/0.0.0.0/tcp/2428"}, *bootstrap[] = {text};
    uint8_t seed[32] = {(uint8_t)(i + 1)};
    cal_p2p_options options = {.seed = seed, .listen = listen, .listen_count = 1};
    if (keeps >= 0) {
        cal_peer_id_text(&w.nodes[keeps].id, id);
        snprintf(text, sizeof text, "/dns4/node%d.sim/tcp/2428%s%s", keeps, with_id ? "/p2p/" : "",
                 with_id ? id : "");
        options.bootstrap = bootstrap;
        options.bootstrap_count = 1;
    }
    assert_int_equal(
        net_host_new(&options, net_sim_start(n->machine), net_sim_os(n->machine), &n->host, NULL),
        0);
    assert_int_equal(cal_p2p_observe(n->host, &peer_events, n), 0);
    assert_int_equal(
        cal_p2p_gossip_start(n->host, &(cal_p2p_gossip_options){.message = on_message, .user = n}),
        0);
    assert_int_equal(cal_p2p_subscribe(n->host, "topic", false, NULL), 0);
}

static void begin(int i, int keeps) { begin_with(i, keeps, true); }

static void end(int i, bool power) {
    node *n = &w.nodes[i];
    if (power)
        net_sim_power_off(n->machine);
    else
        net_sim_kill(n->machine);
    net_host_free(n->host);
    n->host = NULL;
    n->connects = n->disconnects = 0;
}

static void world_new(uint64_t seed, const net_sim_options *options) {
    static const char *const addresses[NODES] = {"10.0.0.1", "10.0.0.2", "10.0.0.3"};
    memset(&w, 0, sizeof w);
    w.world = cal_sim_new(seed);
    assert_int_equal(net_sim_new(options, w.world, &w.net), 0);
    for (int i = 0; i < NODES; i++) {
        node *n = &w.nodes[i];
        cal_secret secret = {{(uint8_t)(i + 1)}};
        uint8_t key[32];
        cal_sign_public_key(&secret, key);
        cal_peer_id_of_key(key, &n->id);
        n->world = cal_sim_new(seed + 100 + (uint64_t)i);
        assert_int_equal(net_sim_machine_new(w.net, n->world, &n->machine), 0);
        give_address(i, addresses[i]);
    }
}

static void world_free(void) {
    for (int i = 0; i < NODES; i++)
        if (w.nodes[i].host) end(i, false);
    net_sim_free(w.net);
    for (int i = 0; i < NODES; i++) cal_sim_free(w.nodes[i].world);
    cal_sim_free(w.world);
}

static const net_sim_options plain = {.path = {.delay_ns = 10 * MS}};

static void pass(uint64_t ns) {
    assert_int_equal(net_sim_run(w.net, net_sim_now(w.net) + ns, NULL, NULL), 0);
}

static bool connected(int a, int b) {
    return cal_p2p_is_connected(w.nodes[a].host, &w.nodes[b].id) &&
           cal_p2p_is_connected(w.nodes[b].host, &w.nodes[a].id);
}

static bool zero_and_one(void *user) {
    (void)user;
    return connected(0, 1);
}
static bool zero_and_two(void *user) {
    (void)user;
    return connected(0, 2);
}
static bool zero_alone(void *user) {
    (void)user;
    return !cal_p2p_is_connected(w.nodes[0].host, &w.nodes[1].id);
}
static bool one_alone(void *user) {
    (void)user;
    return !cal_p2p_is_connected(w.nodes[1].host, &w.nodes[0].id);
}

static void until(uint64_t ns, bool (*done)(void *user)) {
    assert_int_equal(net_sim_run(w.net, net_sim_now(w.net) + ns, done, NULL), 0);
}

static cal_p2p_stats stats_of(int i) {
    cal_p2p_stats stats;
    cal_p2p_stats_get(w.nodes[i].host, &stats);
    return stats;
}

/* Both hear what the other says. */
static void assert_hear_each_other(int a, int b) {
    node *ends[] = {&w.nodes[a], &w.nodes[b]};
    int heard[] = {ends[0]->heard, ends[1]->heard};
    for (int i = 0; i < 2; i++)
        assert_int_equal(cal_p2p_publish(ends[i]->host, "topic", "hello", 5, NULL, NULL), 0);
    pass(3 * SECOND);
    for (int i = 0; i < 2; i++) assert_int_equal(ends[i]->heard, heard[i] + 1);
}

static void dial(int from, int to) {
    char text[64];
    cal_multiaddr address;
    snprintf(text, sizeof text, "/ip4/%s/tcp/2428", w.nodes[to].address);
    assert_int_equal(cal_multiaddr_parse(text, &address), 0);
    cal_p2p_connect(w.nodes[from].host, &w.nodes[to].id, &address, 1, NULL, NULL);
}

/* --- dials --- */

static void note_rtt(void *user, const cal_p2p_peer *peer) { *(uint64_t *)user = peer->rtt_ns; }

/* Of two connections dialled at once one stays, and the pings that went over the other do no harm.
 */
static void test_simultaneous_dials(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        net_sim_options jittery = {.path = {.delay_ns = 5 * MS, .jitter_ns = 20 * MS}};
        world_new(seed, &jittery);
        begin(0, -1);
        begin(1, -1);
        for (int round = 0; round < 3; round++) {
            dial(0, 1);
            dial(1, 0);
            pass(60 * SECOND);
            assert_true(connected(0, 1));
            assert_int_equal(stats_of(0).connections, 1);
            assert_int_equal(stats_of(1).connections, 1);
            assert_hear_each_other(0, 1);
            for (int i = 0; i < 2; i++) {
                uint64_t rtt_ns = 0;
                cal_p2p_peer_get(w.nodes[i].host, &w.nodes[!i].id, note_rtt, &rtt_ns);
                assert_in_range(rtt_ns, 10 * MS, 51 * MS);
                assert_int_equal(stats_of(i).pings_failed, 0);
                assert_int_equal(w.nodes[i].connects, round + 1);
                assert_int_equal(w.nodes[i].disconnects, round);
            }
            cal_p2p_disconnect(w.nodes[0].host, &w.nodes[1].id);
            pass(SECOND);
            assert_false(connected(0, 1));
        }
        world_free();
    }
}

typedef struct answer {
    bool told;
    int code;
    uint64_t at_ns;
} answer;

static void on_answer(void *user, const cal_error *err, const cal_peer_id *peer) {
    answer *a = user;
    (void)peer;
    *a = (answer){true, err ? err->code : 0, net_sim_now(w.net)};
}

static void test_dials_that_fail(void **state) {
    (void)state;
    cal_multiaddr refused, silent, unknown;
    answer answers[3] = {0};
    world_new(1, &plain);
    begin(0, -1);
    net_sim_start(w.nodes[1].machine); /* nobody listens */
    assert_int_equal(cal_multiaddr_parse("/ip4/10.0.0.2/tcp/2428", &refused), 0);
    assert_int_equal(cal_multiaddr_parse("/ip4/10.0.0.99/tcp/2428", &silent), 0);
    assert_int_equal(cal_multiaddr_parse("/dns4/nobody.sim/tcp/2428", &unknown), 0);
    uint64_t start = net_sim_now(w.net);
    cal_p2p_connect(w.nodes[0].host, NULL, &refused, 1, on_answer, &answers[0]);
    cal_p2p_connect(w.nodes[0].host, NULL, &silent, 1, on_answer, &answers[1]);
    cal_p2p_connect(w.nodes[0].host, NULL, &unknown, 1, on_answer, &answers[2]);
    pass(60 * SECOND);
    assert_true(answers[0].told && answers[0].code == CAL_EUNREACHABLE);
    assert_int_equal(answers[0].at_ns, start + 20 * MS); /* a round trip */
    assert_true(answers[1].told && answers[1].code == CAL_ETIMEOUT);
    assert_int_equal(answers[1].at_ns, start + 10 * SECOND);
    assert_true(answers[2].told && answers[2].code == CAL_EUNREACHABLE);
    assert_in_range(answers[2].at_ns, start + 1, start + SECOND);
    assert_int_equal(stats_of(0).pending, 0);
    world_free();
}

/* Two families (RFC 8305): IPv6 goes first; where it is swallowed, IPv4 follows 250 ms later and
 * nobody waits for a timeout. */
static void test_dead_family(void **state) {
    (void)state;
    static const char *const both[] = {"fd00::9", "10.0.0.1"};
    cal_multiaddr address;
    answer told = {0};
    world_new(9, &plain);
    assert_int_equal(net_sim_name(w.net, "node0.sim", both, 2), 0); /* nobody has the first */
    assert_int_equal(net_sim_address_add(w.nodes[1].machine, "fd00::2"), 0);
    begin(0, -1);
    begin(1, -1);
    assert_int_equal(cal_multiaddr_parse("/dns/node0.sim/tcp/2428", &address), 0);
    uint64_t start = net_sim_now(w.net);
    cal_p2p_connect(w.nodes[1].host, &w.nodes[0].id, &address, 1, on_answer, &told);
    until(10 * SECOND, zero_and_one);
    assert_true(told.told && told.code == 0);
    assert_in_range(told.at_ns - start, 250 * MS, 450 * MS); /* with the name, and 4 round trips */
    pass(SECOND);
    assert_int_equal(stats_of(1).pending, 0); /* the other attempt was given up */
    assert_hear_each_other(0, 1);
    world_free();
}

/* Hosts that know nothing of each other find each other by mDNS over a lossy LAN; one on another
 * LAN is not found. */
static void test_discovery(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        net_sim_options lossy = {
            .path = {
                .delay_ns = MS, .jitter_ns = 5 * MS, .loss_ppm = 200000, .duplicate_ppm = 50000}};
        world_new(seed, &lossy);
        net_sim_lan_set(w.nodes[2].machine, 1);
        for (int i = 0; i < NODES; i++) {
            begin(i, -1);
            assert_int_equal(cal_p2p_mdns_start(w.nodes[i].host, NULL), 0);
        }
        until(120 * SECOND, zero_and_one);
        pass(300 * SECOND);
        assert_true(connected(0, 1));
        assert_false(connected(0, 2) || connected(1, 2));
        assert_int_equal(stats_of(0).connections, 1);
        world_free();
    }
}

/* --- connections of which one end is gone --- */

static void test_silent_cut(void **state) {
    (void)state;
    for (int ways = 1; ways <= 3; ways++) {
        world_new((uint64_t)ways, &plain);
        begin(0, -1);
        begin(1, 0);
        until(10 * SECOND, zero_and_one);
        pass(20 * SECOND);
        if (ways & 1) net_sim_cut(w.nodes[0].machine, w.nodes[1].machine);
        if (ways & 2) net_sim_cut(w.nodes[1].machine, w.nodes[0].machine);
        uint64_t start = net_sim_now(w.net);
        until(HALF_OPEN_NS, zero_alone);
        until(start + HALF_OPEN_NS - net_sim_now(w.net), one_alone);
        assert_true(stats_of(0).pings_failed + stats_of(1).pings_failed >= 3);
        pass(120 * SECOND);
        assert_false(connected(0, 1));
        if (ways & 1) net_sim_mend(w.nodes[0].machine, w.nodes[1].machine);
        if (ways & 2) net_sim_mend(w.nodes[1].machine, w.nodes[0].machine);
        /* A pause is at most three times as long as all that was before. */
        until(3 * 200 * SECOND, zero_and_one);
        pass(5 * SECOND);
        assert_hear_each_other(0, 1);
        world_free();
    }
}

/* A machine loses its power, comes back at another address, and dials. The other end still holds
 * the old connection, and nothing resets it: the new one is used at once all the same. */
static void comes_back_elsewhere(int leaves, bool dialled) {
    int stays = !leaves;
    world_new((uint64_t)leaves, &plain);
    begin(leaves, -1);
    begin(stays, -1);
    dial(dialled ? stays : leaves, dialled ? leaves : stays);
    until(10 * SECOND, zero_and_one);
    pass(20 * SECOND);
    end(leaves, true);
    give_address(leaves, "10.1.0.2");
    pass(SECOND);
    begin(leaves, -1);
    dial(leaves, stays);
    pass(5 * SECOND);
    assert_true(connected(0, 1));
    assert_int_equal(w.nodes[stays].disconnects, 0); /* it knows nothing of all this */
    assert_hear_each_other(0, 1);
    /* The old one goes, and takes the new one not with it. */
    pass(300 * SECOND);
    assert_int_equal(stats_of(stays).connections, 1);
    assert_int_equal(w.nodes[0].disconnects, 0);
    assert_int_equal(w.nodes[1].disconnects, 0);
    assert_hear_each_other(0, 1);
    world_free();
}

/* Also when the connection that is gone was dialled by who stays; either id is the smaller one. */
static void test_comes_back_elsewhere(void **state) {
    (void)state;
    for (int leaves = 0; leaves < 2; leaves++)
        for (int dialled = 0; dialled < 2; dialled++) comes_back_elsewhere(leaves, dialled);
}

static void on_nothing(void *user, cal_p2p_stream *stream) { (void)user, (void)stream; }
static void on_stream_closed(void *user, cal_p2p_stream *stream, int reason) {
    (void)stream;
    *(int *)user = reason;
}
static const cal_p2p_stream_events waiting_events = {.readable = on_nothing,
                                                     .closed = on_stream_closed};

/* A stream that waits on the old, half-open connection is told when that is found out, though
 * another connection to the same peer works. */
static void test_half_open_beside_another(void **state) {
    (void)state;
    const char *const id[] = {"/waits/1"};
    cal_p2p_protocol protocol = {.id = id[0], .events = &waiting_events};
    cal_p2p_stream *stream;
    int reason = 1, unused = 0;
    protocol.user = &unused;
    world_new(7, &plain);
    begin(0, -1);
    begin(1, 0);
    until(10 * SECOND, zero_and_one);
    assert_int_equal(cal_p2p_handle(w.nodes[1].host, &protocol), 0);
    assert_int_equal(
        cal_p2p_open(w.nodes[0].host, &w.nodes[1].id, id, 1, &waiting_events, &reason, &stream), 0);
    pass(20 * SECOND);
    assert_int_equal(reason, 1);
    end(1, true);
    give_address(1, "10.1.0.2");
    begin(1, 0);
    pass(5 * SECOND);
    assert_true(connected(0, 1));
    assert_int_equal(stats_of(0).connections, 2);
    pass(HALF_OPEN_NS);
    assert_int_equal(reason, CAL_EUNREACHABLE);
    assert_int_equal(stats_of(0).connections, 1);
    assert_int_equal(w.nodes[0].disconnects, 0);
    world_free();
}

static uint64_t duplicates_of(int i) {
    cal_p2p_gossip_stats stats;
    assert_int_equal(cal_p2p_gossip_stats_get(w.nodes[i].host, &stats), 0);
    return stats.duplicates;
}

/* A copy that waits in a stalled connection for more than a minute is still known. */
static void test_late_copy(void **state) {
    (void)state;
    world_new(8, &plain);
    begin(0, -1);
    begin(1, 0);
    pass(SECOND);
    begin(2, 0);
    dial(2, 1);
    pass(12 * SECOND);
    assert_true(connected(0, 1) && connected(0, 2) && connected(1, 2));
    net_sim_cut(w.nodes[1].machine, w.nodes[2].machine);
    net_sim_cut(w.nodes[2].machine, w.nodes[1].machine);
    assert_int_equal(cal_p2p_publish(w.nodes[0].host, "topic", "hello", 5, NULL, NULL), 0);
    pass(40 * SECOND);
    assert_int_equal(w.nodes[2].heard, 1);
    uint64_t before = duplicates_of(2);
    net_sim_mend(w.nodes[1].machine, w.nodes[2].machine);
    net_sim_mend(w.nodes[2].machine, w.nodes[1].machine);
    pass(20 * SECOND); /* TCP's next resending is farther away than that */
    assert_int_equal(duplicates_of(2), before);
    pass(20 * SECOND);
    assert_int_equal(duplicates_of(2), before + 1);
    assert_int_equal(w.nodes[2].heard, 1);
    world_free();
}

static void on_searched(void *user, const cal_error *err, size_t count) {
    *(int *)user = err ? err->code : (int)count;
}

/* A cut that the connection outlives, but no search does: afterwards searches find peers again. */
static void test_searches_after_a_cut(void **state) {
    (void)state;
    uint8_t key[CAL_P2P_KEY_SIZE] = {1};
    int failed[4] = {0}, answered = 1;
    world_new(11, &plain);
    for (int i = 0; i < 2; i++) {
        begin(i, i - 1);
        assert_int_equal(cal_p2p_kad_start(w.nodes[i].host), 0);
    }
    until(10 * SECOND, zero_and_one);
    pass(5 * SECOND);
    net_sim_cut(w.nodes[1].machine, w.nodes[0].machine);
    for (int i = 0; i < 4; i++)
        assert_int_equal(cal_p2p_providers(w.nodes[1].host, key, NULL, on_searched, &failed[i]), 0);
    pass(25 * SECOND);
    for (int i = 0; i < 4; i++) assert_int_equal(failed[i], CAL_EUNREACHABLE);
    net_sim_mend(w.nodes[1].machine, w.nodes[0].machine);
    pass(25 * SECOND);
    assert_int_equal(w.nodes[1].disconnects, 0);
    assert_int_equal(cal_p2p_providers(w.nodes[1].host, key, NULL, on_searched, &answered), 0);
    pass(5 * SECOND);
    assert_int_equal(answered, 0); /* somebody, that there is none */
    world_free();
}

/* --- moves --- */

/* One dials, and the other loses its power and comes back elsewhere before the dial is three
 * seconds old: what it dials then looks like the other half of a simultaneous dial, and the dead
 * one would be kept by the rule for those. */
static void test_moves_at_once(void **state) {
    (void)state;
    for (uint64_t seed = 40;; seed++) {
        assert_true(seed < 60);
        world_new(seed, &plain);
        begin(0, -1);
        begin(1, 0);
        until(10 * SECOND, zero_and_one);
        const cal_peer_id *zero = &w.nodes[0].id, *one = &w.nodes[1].id;
        bool dial_stays = memcmp(one->bytes, zero->bytes, one->len) < 0;
        if (dial_stays) {
            end(0, true);
            give_address(0, "10.1.0.9");
            begin(0, 1);
            pass(12 * SECOND);
            assert_hear_each_other(0, 1);
        }
        world_free();
        if (dial_stays) return;
    }
}

/* A kept peer is found again by its name, though it never dials and its old address is dead. */
static void test_kept_peer_moves(void **state) {
    (void)state;
    world_new(3, &plain);
    begin(0, -1);
    begin(1, 0);
    until(10 * SECOND, zero_and_one);
    pass(20 * SECOND);
    give_address(0, "10.1.0.1"); /* while it runs */
    until(HALF_OPEN_NS, one_alone);
    until(60 * SECOND, zero_and_one);
    pass(5 * SECOND);
    assert_hear_each_other(0, 1);
    world_free();
}

/* --- clocks --- */

/* The wall clocks jump by hours, forwards and backwards: nobody is lost, nothing is heard twice. */
/* However often it moves, and whatever is in its old places: the name that was configured is never
 * forgotten, and what it resolves to now is not tried last. */
static void moves_often(bool with_id) {
    enum { MOVES = 40 };
    world_new(7, &plain);
    begin(1, -1);
    begin_with(0, 1, with_id);
    until(20 * SECOND, zero_and_one);
    for (int i = 1; i <= MOVES; i++) {
        char address[24];
        end(1, true);
        pass(60 * SECOND);
        snprintf(address, sizeof address, "10.0.1.%d", i);
        give_address(1, address);
        begin(1, -1);
        /* When it was noticed that it is gone, and a pause that has not grown to more. */
        until(HALF_OPEN_NS + 120 * SECOND, zero_and_one);
    }
    world_free();
}

static void test_bootstrap_peer_moves_often(void **state) {
    (void)state;
    moves_often(true);
    moves_often(false);
}

/* Another peer took over the name: it is the one that is kept. */
static void test_bootstrap_peer_replaced(void **state) {
    (void)state;
    world_new(7, &plain);
    begin(1, -1);
    begin(2, -1);
    begin_with(0, 1, false);
    until(20 * SECOND, zero_and_one);
    end(1, false);
    const char *there[] = {w.nodes[2].address};
    assert_int_equal(net_sim_name(w.net, "node1.sim", there, 1), 0);
    until(120 * SECOND, zero_and_two);
    pass(120 * SECOND); /* not idle */
    assert_true(connected(0, 2));
    world_free();
}

static void test_wall_clock_jumps(void **state) {
    (void)state;
    world_new(5, &plain);
    begin(0, -1);
    begin(1, 0);
    begin(2, 0);
    pass(10 * SECOND);
    for (int i = 0; i < 40; i++) {
        node *n = &w.nodes[i % NODES];
        const cal_os *os = net_sim_os(n->machine);
        uint64_t by = (uint64_t)(i + 1) * 3600 * SECOND / 3, wall = os->wall_ns(os->user);
        cal_sim_set_wall(n->world, i % 2 ? wall + by : wall - by);
        assert_int_equal(cal_p2p_publish(n->host, "topic", "tick", 4, NULL, NULL), 0);
        pass(2 * SECOND);
    }
    for (int i = 0; i < NODES; i++) {
        assert_int_equal(w.nodes[i].heard, 40 - (i == 0 ? 14 : 13));
        assert_int_equal(w.nodes[i].disconnects, 0);
        assert_int_equal(stats_of(i).pings_failed, 0);
    }
    /* A restarted node whose clock went back is heard all the same. */
    end(1, false);
    cal_sim_set_wall(w.nodes[1].world, 1000000000 * SECOND);
    begin(1, 0);
    pass(10 * SECOND);
    assert_hear_each_other(0, 1);
    world_free();
}

/* A machine stands still for hours: its peer gives it up, and it finds back when it goes on. */
static void test_stands_still(void **state) {
    (void)state;
    world_new(6, &plain);
    begin(0, -1);
    begin(1, 0);
    until(10 * SECOND, zero_and_one);
    pass(20 * SECOND);
    net_sim_freeze(w.nodes[1].machine, net_sim_now(w.net) + 3 * SECOND); /* not even noticed */
    pass(60 * SECOND);
    assert_int_equal(w.nodes[0].disconnects + w.nodes[1].disconnects, 0);
    net_sim_freeze(w.nodes[1].machine, net_sim_now(w.net) + 8 * 3600 * SECOND);
    until(HALF_OPEN_NS, zero_alone);
    pass(8 * 3600 * SECOND);
    assert_true(connected(0, 1));
    assert_hear_each_other(0, 1);
    world_free();
}

/* --- large streams over bad links --- */

typedef struct transfer {
    cal_sha256_stream sent_hash, got_hash;
    uint8_t sent[32], got[32], chunk[CHUNK];
    size_t to_send, received, at, len;
    uint64_t random, slow_ns;
    cal_p2p_stream *stream;
    bool finished, ended, closed, waits;
    int reason;
} transfer;

static void transfer_more(void *user, cal_p2p_stream *stream) {
    transfer *t = user;
    t->stream = stream;
    while (!t->finished) {
        if (t->at == t->len) {
            t->len = t->to_send < CHUNK ? t->to_send : CHUNK;
            t->at = 0;
            t->to_send -= t->len;
            if (t->len == 0) break;
            for (size_t i = 0; i < t->len; i += 8) {
                t->random = t->random * 6364136223846793005u + 1442695040888963407u;
                memcpy(t->chunk + i, &t->random, 8);
            }
            cal_sha256_feed(&t->sent_hash, cal_slice_of(t->chunk, t->len));
        }
        t->at += cal_p2p_stream_write(stream, t->chunk + t->at, t->len - t->at);
        if (t->at < t->len) return;
    }
    if (t->finished) return;
    t->finished = true;
    cal_sha256_end(&t->sent_hash, t->sent);
    cal_p2p_stream_finish(stream);
}

/* A slow reader takes one piece, then nothing for a while. */
static void transfer_read(void *user, cal_p2p_stream *stream);
static void transfer_again(void *user) {
    transfer *t = user;
    t->waits = false;
    if (!t->closed) transfer_read(t, t->stream);
}

static void transfer_read(void *user, cal_p2p_stream *stream) {
    transfer *t = user;
    const uint8_t *bytes;
    size_t len;
    t->stream = stream;
    while (!t->waits && (len = cal_p2p_stream_peek(stream, &bytes)) > 0) {
        cal_sha256_feed(&t->got_hash, cal_slice_of(bytes, len));
        t->received += len;
        cal_p2p_stream_consume(stream, len);
        t->waits = t->slow_ns > 0;
        if (t->waits) net_sim_at(w.net, net_sim_now(w.net) + t->slow_ns, transfer_again, t);
    }
    if (!cal_p2p_stream_ended(stream) || t->ended) return;
    t->ended = true;
    cal_sha256_end(&t->got_hash, t->got);
}

static void transfer_closed(void *user, cal_p2p_stream *stream, int reason) {
    transfer *t = user;
    (void)stream;
    if (!t->finished) cal_sha256_end(&t->sent_hash, NULL);
    if (!t->ended) cal_sha256_end(&t->got_hash, NULL);
    t->closed = true;
    t->reason = reason;
}

static const cal_p2p_stream_events transfer_events = {transfer_more, transfer_read, transfer_more,
                                                      transfer_closed};

static transfer *transfer_new(uint64_t random, uint64_t slow_ns) {
    transfer *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->to_send = LARGE;
    t->random = random;
    t->slow_ns = slow_ns;
    cal_sha256_begin(&t->sent_hash);
    cal_sha256_begin(&t->got_hash);
    return t;
}

static bool both_closed(void *user) {
    transfer **pair = user;
    return pair[0]->closed && pair[1]->closed;
}

static uint64_t transfer_over(uint64_t seed) {
    net_sim_options options = {.path = {.delay_ns = (1 + seed * 7 % 50) * MS,
                                        .jitter_ns = 10 * MS,
                                        .late_ns = 300 * MS,
                                        .late_ppm = 5000,
                                        .loss_ppm = (uint32_t)(seed % 4) * 10000,
                                        .duplicate_ppm = 10000,
                                        .bytes_per_s = seed % 3 ? 0 : 1000000},
                               .send_buffer = seed % 2 ? 4096 : 0,
                               .receive_buffer = seed % 5 ? 0 : 4096,
                               .segment_max = seed % 3 == 1 ? 1460 : 0};
    const char *const id[] = {"/large/1"};
    transfer *pair[] = {transfer_new(seed, 0), transfer_new(seed + 1, seed % 2 ? 50 * MS : 0)};
    cal_p2p_stream *stream;
    world_new(seed, &options);
    begin(0, -1);
    begin(1, 0);
    assert_int_equal(cal_p2p_handle(w.nodes[0].host, &(cal_p2p_protocol){.id = id[0],
                                                                         .events = &transfer_events,
                                                                         .user = pair[1]}),
                     0);
    until(30 * SECOND, zero_and_one);
    assert_int_equal(
        cal_p2p_open(w.nodes[1].host, &w.nodes[0].id, id, 1, &transfer_events, pair[0], &stream),
        0);
    assert_int_equal(net_sim_run(w.net, net_sim_now(w.net) + 1000 * SECOND, both_closed, pair), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pair[i]->reason, 0);
        assert_int_equal(pair[i]->received, LARGE);
        assert_memory_equal(pair[i]->got, pair[!i]->sent, 32);
        assert_int_equal(w.nodes[i].disconnects, 0);
    }
    pass(SECOND); /* a reader that waits */
    uint64_t trace = net_sim_trace(w.net);
    world_free();
    free(pair[0]);
    free(pair[1]);
    return trace;
}

static void test_large_streams(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) transfer_over(seed);
    assert_true(transfer_over(1) == transfer_over(1));
}

static void stuck_more(void *user, cal_p2p_stream *stream) {
    static const uint8_t zeros[CHUNK];
    size_t *written = user;
    for (size_t n; (n = cal_p2p_stream_write(stream, zeros, sizeof zeros)) > 0;) *written += n;
}
static const cal_p2p_stream_events stuck_events = {.opened = stuck_more, .writable = stuck_more};
static const cal_p2p_stream_events deaf_events = {.readable = on_nothing};

/* Streams that nobody reads hold what their windows allow, and nothing else waits for them. */
static void test_deaf_readers(void **state) {
    (void)state;
    enum { STREAMS = 20, WINDOW = 256 * 1024 };
    const char *const id[] = {"/deaf/1"};
    net_sim_options options = {.path = {.delay_ns = 5 * MS, .loss_ppm = 10000},
                               .send_buffer = 16384};
    size_t written[STREAMS] = {0};
    cal_p2p_stream *stream;
    world_new(10, &options);
    begin(0, -1);
    begin(1, 0);
    until(30 * SECOND, zero_and_one);
    assert_int_equal(
        cal_p2p_handle(w.nodes[0].host, &(cal_p2p_protocol){.id = id[0], .events = &deaf_events}),
        0);
    for (int i = 0; i < STREAMS; i++)
        assert_int_equal(cal_p2p_open(w.nodes[1].host, &w.nodes[0].id, id, 1, &stuck_events,
                                      &written[i], &stream),
                         0);
    pass(60 * SECOND);
    for (int i = 0; i < STREAMS; i++)
        assert_in_range(written[i], WINDOW, WINDOW + CAL_P2P_WRITE_MAX);
    size_t before = written[0];
    assert_hear_each_other(0, 1);
    pass(120 * SECOND);
    assert_int_equal(written[0], before);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(stats_of(i).pings_failed, 0);
        assert_int_equal(w.nodes[i].disconnects, 0);
    }
    world_free();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_simultaneous_dials),
        cmocka_unit_test(test_dials_that_fail),
        cmocka_unit_test(test_dead_family),
        cmocka_unit_test(test_discovery),
        cmocka_unit_test(test_silent_cut),
        cmocka_unit_test(test_comes_back_elsewhere),
        cmocka_unit_test(test_half_open_beside_another),
        cmocka_unit_test(test_late_copy),
        cmocka_unit_test(test_searches_after_a_cut),
        cmocka_unit_test(test_kept_peer_moves),
        cmocka_unit_test(test_moves_at_once),
        cmocka_unit_test(test_bootstrap_peer_moves_often),
        cmocka_unit_test(test_bootstrap_peer_replaced),
        cmocka_unit_test(test_wall_clock_jumps),
        cmocka_unit_test(test_stands_still),
        cmocka_unit_test(test_large_streams),
        cmocka_unit_test(test_deaf_readers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
