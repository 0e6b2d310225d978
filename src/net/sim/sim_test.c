/* The simulated network: what TCP promises over a bad one, and how connections end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "net/sim/sim.h"

enum { MACHINES = 3, ENDS_MAX = 8, PORT = 1000 };
#define SECOND UINT64_C(1000000000)

typedef struct end {
    net_transport *transport;
    net_wire *wire;
    uint64_t to_send, sent, received, send_seed, receive_seed, slow_ns;
    bool connected, closed, wrong;
    int result;
} end;

static struct {
    cal_sim *world;
    net_sim *net;
    net_sim_machine *machines[MACHINES];
    net_transport *transports[MACHINES];
    end ends[ENDS_MAX]; /* in the order of their appearance */
    size_t end_count;
    size_t woken, resolved, addresses;
    int resolved_result;
} w;

static uint8_t byte_at(uint64_t seed, uint64_t at) {
    return (uint8_t)((at * 0x9e3779b97f4a7c15u + seed) >> 41);
}

static void send_more(end *e) {
    uint8_t bytes[3000];
    while (e->wire && e->sent < e->to_send) {
        size_t len =
            e->to_send - e->sent < sizeof bytes ? (size_t)(e->to_send - e->sent) : sizeof bytes;
        for (size_t i = 0; i < len; i++) bytes[i] = byte_at(e->send_seed, e->sent + i);
        size_t taken = e->transport->send(e->wire, bytes, len);
        e->sent += taken;
        if (taken < len) return;
    }
}

static void go_on(void *user) {
    end *e = user;
    if (e->wire) e->transport->pause(e->wire, false);
}

static void *on_accepted(void *user, net_wire *wire, const net_endpoint *remote,
                         const net_endpoint *local) {
    end *e = &w.ends[w.end_count++];
    (void)remote, (void)local;
    e->transport = *(net_transport **)user;
    e->wire = wire;
    e->connected = true;
    send_more(e);
    return e;
}
static void on_connected(void *owner, const net_endpoint *local) {
    end *e = owner;
    (void)local;
    e->connected = true;
    send_more(e);
}
static void on_received(void *owner, const uint8_t *bytes, size_t len) {
    end *e = owner;
    for (size_t i = 0; i < len; i++)
        e->wrong |= bytes[i] != byte_at(e->receive_seed, e->received++);
    if (!e->slow_ns) return;
    e->transport->pause(e->wire, true);
    net_sim_at(w.net, net_sim_now(w.net) + e->slow_ns, go_on, e);
}
static void on_writable(void *owner) { send_more(owner); }
static void on_closed(void *owner, int result) {
    end *e = owner;
    e->closed = true;
    e->result = result;
    e->wire = NULL;
}
static void on_resolved(void *query, int result, const cal_os_address *addresses, size_t count) {
    (void)query, (void)addresses;
    w.resolved++;
    w.resolved_result = result;
    w.addresses = count;
}
static void on_wake(void *user) {
    (void)user;
    w.woken++;
}

static net_transport_events events[MACHINES];

static void start(int i) {
    w.transports[i] = net_sim_start(w.machines[i]);
    events[i] = (net_transport_events){.user = &w.transports[i],
                                       .accepted = on_accepted,
                                       .connected = on_connected,
                                       .received = on_received,
                                       .writable = on_writable,
                                       .closed = on_closed,
                                       .resolved = on_resolved,
                                       .wake = on_wake};
    w.transports[i]->events = &events[i];
}

static void listen_at(int i, uint16_t port) {
    net_endpoint any = {{{0}, 4}, port}, bound;
    assert_int_equal(w.transports[i]->listen(w.transports[i]->user, &any, &bound, NULL), 0);
}

static void world_new(uint64_t seed, const net_sim_options *options) {
    static const char *const addresses[MACHINES] = {"10.0.0.1", "10.0.0.2", "10.0.0.3"};
    memset(&w, 0, sizeof w);
    w.world = cal_sim_new(seed);
    assert_int_equal(net_sim_new(options, w.world, &w.net), 0);
    for (int i = 0; i < MACHINES; i++) {
        assert_int_equal(net_sim_machine_new(w.net, w.world, &w.machines[i]), 0);
        assert_int_equal(net_sim_address_add(w.machines[i], addresses[i]), 0);
        start(i);
    }
    listen_at(1, PORT);
}

static void world_free(void) {
    for (size_t i = 0; i < w.end_count; i++)
        if (w.ends[i].wire) w.ends[i].transport->close(w.ends[i].wire, true);
    net_sim_free(w.net);
    cal_sim_free(w.world);
}

/* A connection from machine 0 to an address; the dialling end. */
static end *dial(uint8_t last, uint16_t port) {
    end *e = &w.ends[w.end_count++];
    net_endpoint to = {{{10, 0, 0, last}, 4}, port};
    e->transport = w.transports[0];
    assert_int_equal(w.transports[0]->dial(w.transports[0]->user, &to, e, &e->wire), 0);
    return e;
}

static void pass(uint64_t ns) {
    assert_int_equal(net_sim_run(w.net, net_sim_now(w.net) + ns, NULL, NULL), 0);
}

static const net_sim_options plain = {.path = {.delay_ns = 10000000}};

static bool both_got_all(void *user) {
    (void)user;
    return w.ends[0].received == w.ends[1].to_send && w.ends[1].received == w.ends[0].to_send;
}

static net_sim_stats bad_luck; /* of all transfers */

/* Returns the trace. */
static uint64_t transfer(uint64_t seed) {
    net_sim_options bad = {.path = {.delay_ns = 5000000,
                                    .jitter_ns = 20000000,
                                    .late_ns = 300000000,
                                    .late_ppm = 10000,
                                    .loss_ppm = 50000,
                                    .duplicate_ppm = 20000,
                                    .bytes_per_s = seed % 2 ? 0 : 2000000},
                           .send_buffer = 1000 + 7000 * (uint32_t)(seed % 9),
                           .receive_buffer = 900 + 9000 * (uint32_t)(seed % 7),
                           .segment_max = seed % 3 ? 0 : 1460};
    net_sim_stats stats;
    world_new(seed, &bad);
    w.ends[0] = (end){.to_send = 300000, .send_seed = 1, .receive_seed = 2};
    w.ends[1] = (end){.to_send = 200000, .send_seed = 2, .receive_seed = 1, .slow_ns = 30000000};
    dial(2, PORT);
    assert_int_equal(net_sim_run(w.net, 1000 * SECOND, both_got_all, NULL), 0);
    assert_false(w.ends[0].wrong || w.ends[1].wrong);
    w.ends[0].transport->close(w.ends[0].wire, false);
    w.ends[0].wire = NULL;
    pass(200 * SECOND);
    assert_true(w.ends[1].closed);
    pass(200 * SECOND);
    net_sim_stats_get(w.net, &stats);
    assert_int_equal(stats.connections, 0);
    assert_int_equal(stats.queued, 0);
    bad_luck.lost += stats.lost;
    bad_luck.overtaken += stats.overtaken;
    bad_luck.resent += stats.resent;
    bad_luck.doubled += stats.doubled;
    uint64_t trace = net_sim_trace(w.net);
    world_free();
    return trace;
}

static void test_bytes_arrive(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) transfer(seed);
    assert_true(bad_luck.lost > 100 && bad_luck.overtaken > 100);
    assert_true(bad_luck.resent > 100 && bad_luck.doubled > 100);
    uint64_t first = transfer(1);
    assert_true(first == transfer(1));
    assert_true(first != transfer(2));
}

static void test_nobody_answers(void **state) {
    (void)state;
    world_new(1, &plain);
    end *refused = dial(2, PORT + 1), *missing = dial(9, PORT), *open = dial(2, PORT);
    pass(SECOND / 50 - 1);
    assert_false(refused->closed || open->connected);
    pass(1); /* a round trip */
    assert_true(refused->closed && refused->result == CAL_EUNREACHABLE && open->connected);
    pass(100 * SECOND);
    assert_false(missing->closed);
    pass(100 * SECOND);
    assert_true(missing->closed && missing->result == CAL_ETIMEOUT);
    world_free();
}

/* The machine goes, and what its peer sends goes nowhere; it comes back, and answers with a reset.
 */
static void test_half_open(void **state) {
    (void)state;
    world_new(1, &plain);
    end *e = dial(2, PORT);
    pass(SECOND);
    assert_true(e->connected && w.end_count == 2);
    net_sim_power_off(w.machines[1]);
    w.ends[1].transport->close(w.ends[1].wire, true);
    w.ends[1].wire = NULL;
    e->to_send = 10;
    send_more(e);
    pass(60 * SECOND);
    assert_false(e->closed);
    start(1);
    pass(60 * SECOND);
    assert_true(e->closed && e->result == CAL_EUNREACHABLE);
    /* The same with a process that dies: its kernel says so. */
    listen_at(1, PORT);
    e = dial(2, PORT);
    pass(SECOND);
    assert_true(e->connected && w.end_count == 4);
    net_sim_kill(w.machines[1]);
    pass(SECOND);
    assert_true(e->closed && e->result == 0);
    w.ends[3].transport->close(w.ends[3].wire, true);
    w.ends[3].wire = NULL;
    world_free();
}

/* A cut is silent; TCP gives up after its last resending. One direction is enough. */
static void test_cut(void **state) {
    (void)state;
    world_new(1, &plain);
    end *e = dial(2, PORT);
    pass(SECOND);
    net_sim_cut(w.machines[1], w.machines[0]);
    assert_true(net_sim_is_cut(w.machines[1], w.machines[0]));
    assert_false(net_sim_is_cut(w.machines[0], w.machines[1]));
    e->to_send = 10;
    send_more(e);
    pass(60 * SECOND);
    assert_int_equal(w.ends[1].received, 10); /* its acknowledgements do not come */
    assert_false(e->closed);
    pass(1000 * SECOND);
    assert_true(e->closed && e->result == CAL_ETIMEOUT);
    net_sim_mend(w.machines[1], w.machines[0]);
    world_free();
}

/* An address that moves away takes its connections into silence, until another owner resets them.
 */
static void test_moved_address(void **state) {
    (void)state;
    world_new(1, &plain);
    end *e = dial(2, PORT);
    pass(SECOND);
    net_sim_address_remove(w.machines[1], "10.0.0.2");
    e->to_send = 10;
    send_more(e);
    pass(5 * SECOND);
    assert_false(e->closed);
    assert_int_equal(net_sim_address_add(w.machines[2], "10.0.0.2"), 0);
    assert_int_equal(net_sim_address_add(w.machines[1], "10.0.0.2"), CAL_EEXISTS);
    pass(60 * SECOND);
    assert_true(e->closed && e->result == CAL_EUNREACHABLE);
    world_free();
}

static void test_names_and_alarms(void **state) {
    (void)state;
    world_new(1, &plain);
    net_transport *t = w.transports[0];
    assert_int_equal(
        net_sim_name(w.net, "node.example", (const char *const[]){"10.0.0.2", "fd00::2"}, 2), 0);
    assert_int_equal(t->resolve(t->user, "node.example", &w), 0);
    pass(SECOND);
    assert_true(w.resolved == 1 && w.resolved_result == 0 && w.addresses == 2);
    assert_int_equal(t->resolve(t->user, "nobody.example", &w), 0);
    pass(SECOND);
    assert_true(w.resolved == 2 && w.resolved_result == CAL_EUNREACHABLE);
    assert_int_equal(t->resolve(t->user, "node.example", &w), 0);
    t->forget(t->user, &w);
    t->wake_at(t->user, net_sim_now(w.net) + 2 * SECOND);
    t->wake_at(t->user, net_sim_now(w.net) + SECOND);
    t->wake_at(t->user, net_sim_now(w.net) + 3 * SECOND);
    pass(3 * SECOND - 1);
    assert_true(w.resolved == 2 && w.woken == 0);
    pass(10 * SECOND);
    assert_int_equal(w.woken, 1);
    world_free();
}

/* --- what a process does besides --- */

static struct {
    uint64_t at_ns[8];
    size_t count;
    bool inside;
} own;

static void note_own(void *user) {
    own.inside = own.inside || net_sim_inside(*(net_sim_machine **)user);
    own.at_ns[own.count++] = net_sim_now(w.net);
}

static void *note_inside(void *user, net_wire *wire, const net_endpoint *remote,
                         const net_endpoint *local) {
    own.inside =
        net_sim_inside(w.machines[1]) && !net_sim_inside(w.machines[0]) && net_sim_running(w.net);
    return on_accepted(user, wire, remote, local);
}

/* Events of a process come at their time, wait while its machine stands still, and end with it, not
 * with its transport. */
static void test_events_of_a_process(void **state) {
    (void)state;
    own.count = 0;
    own.inside = false;
    world_new(1, &plain);
    uint64_t begin = net_sim_now(w.net);
    net_sim_on(w.machines[0], begin + 2 * SECOND, note_own, &w.machines[0]);
    net_sim_on(w.machines[0], begin + SECOND, note_own, &w.machines[0]);
    pass(3 * SECOND);
    assert_int_equal(own.count, 2);
    assert_true(own.at_ns[0] == begin + SECOND && own.at_ns[1] == begin + 2 * SECOND);
    assert_false(own.inside); /* it is not the transport that speaks */
    net_sim_freeze(w.machines[0], begin + 10 * SECOND);
    net_sim_on(w.machines[0], begin + 4 * SECOND, note_own, &w.machines[0]);
    pass(8 * SECOND);
    assert_int_equal(own.count, 3);
    assert_int_equal(own.at_ns[2], begin + 10 * SECOND);

    events[1].accepted = note_inside;
    end *e = dial(2, PORT);
    pass(SECOND);
    assert_true(e->connected && own.inside);
    assert_false(net_sim_inside(w.machines[1]) || net_sim_running(w.net));

    /* The transport goes, with what somebody was about to open; the rest lives on. */
    uint64_t later = net_sim_now(w.net) + SECOND;
    end *half = dial(2, PORT);
    net_sim_on(w.machines[1], later, note_own, &w.machines[1]);
    size_t ends = w.end_count;
    net_sim_hang_up(w.machines[1]);
    pass(2 * SECOND);
    assert_true(e->closed && half->closed && w.end_count == ends);
    assert_int_equal(own.count, 4);
    net_sim_on(w.machines[1], net_sim_now(w.net) + SECOND, note_own, &w.machines[1]);
    net_sim_kill(w.machines[1]);
    start(1); /* another process: not its business */
    pass(2 * SECOND);
    assert_int_equal(own.count, 4);
    world_free();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_of_a_process),
        cmocka_unit_test(test_bytes_arrive),
        cmocka_unit_test(test_nobody_answers),
        cmocka_unit_test(test_half_open),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_moved_address),
        cmocka_unit_test(test_names_and_alarms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
