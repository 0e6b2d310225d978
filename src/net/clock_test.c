/* Clocks that jump (docs/design/net.md, Bounds): the transport's, which never goes back but may
 * stand still or leap when the machine slept, and the wall's, which may do anything. */
#include "net/hostile.h"
#include "net/testing.h"

#define HOUR_MS UINT64_C(3600000)

/* --- the transport's clock --- */

static bool gone;
static void on_gone(void *user, const cal_peer_id *peer) {
    (void)user, (void)peer;
    gone = true;
}
static const cal_p2p_peer_events watching = {.disconnected = on_gone};
static const cal_p2p_stream_events silent = {0};
static const cal_p2p_protocol quiet = {.id = "/quiet/1", .events = &silent};

static void start_all(cal_p2p *host) {
    cal_p2p_gossip_options options = {0};
    assert_int_equal(cal_p2p_gossip_start(host, &options), 0);
    assert_int_equal(cal_p2p_subscribe(host, "news", false, NULL), 0);
    assert_int_equal(cal_p2p_kad_start(host), 0);
    assert_int_equal(cal_p2p_handle(host, &quiet), 0);
    assert_int_equal(cal_p2p_observe(host, &watching, NULL), 0);
    gone = false;
}

/* A leap is one late look at everything: what waited is over, what works goes on. */
static void test_leap(void **state) {
    (void)state;
    hostile h;
    cal_p2p *host = host_new(NULL);
    start_all(host);
    hostile_start(&h, host, 1);
    h.wire->deaf = true;
    hostile_open(&h, 1, "/quiet/1"); /* keeps the connection */
    assert_non_null(host_accept_from(host, 2));
    for (int i = 0; i < 2; i++) {
        world.now_ns += NET_MS(30 * HOUR_MS);
        transport.events->wake(host);
        assert_int_equal(stats_of(host).pending, 0);
        assert_int_equal(stats_of(host).connections, 1); /* at most one ping is late */
        assert_true(stats_of(host).pings_failed <= 1u + (unsigned)i);
    }
    assert_int_equal(stats_of(host).handshakes_timed_out, 1);
    assert_int_equal(stats_of(host).clock_leaps, 2);
    assert_false(gone);
    assert_true(world.wake_ns > world.now_ns && world.wake_ns <= world.now_ns + NET_MS(1000));
    pass(host, 70000); /* and a peer that answers none is found out as ever */
    assert_true(gone);
    host_drop(host);
    hostile_stop(&h);
}

/* Nothing ends while the clock stands still, and whoever waits for it makes no work. */
static void test_standstill(void **state) {
    (void)state;
    hostile h;
    cal_p2p *host = host_new(NULL);
    start_all(host);
    hostile_start(&h, host, 1);
    for (int i = 0; i < 1000; i++) transport.events->wake(host);
    size_t sent = h.wire->sent.len;
    for (int i = 0; i < 1000; i++) transport.events->wake(host);
    assert_int_equal(h.wire->sent.len, sent);
    assert_int_equal(stats_of(host).connections, 1);
    hostile_hear(&h);
    for (uint32_t id = 1; id < 40; id += 2) { /* bytes are heard all the same */
        hostile_open(&h, id, "/ipfs/ping/1.0.0");
        hostile_data(&h, Y_FIN, id, "0123456789abcdef0123456789abcdef", 32);
        assert_int_equal(hostile_count(hostile_hear(&h), id, Y_FIN), 1);
    }
    host_drop(host);
    hostile_stop(&h);
}

/* The end of time: sums of times do not wrap. */
static void test_late_start(void **state) {
    (void)state;
    hostile h;
    cal_p2p_options options = {0};
    cal_p2p *host;
    memset(&world, 0, sizeof world);
    world.now_ns = UINT64_C(1) << 62; /* 146 years */
    assert_int_equal(net_host_new(&options, &transport, cal_os_posix(), &host, NULL), 0);
    start_all(host);
    hostile_start(&h, host, 1);
    pass(host, 70000);
    assert_int_equal(stats_of(host).pings_failed, 3);
    assert_int_equal(stats_of(host).connections, 0);
    host_drop(host);
    hostile_stop(&h);
}

/* --- the wall clock --- */

static uint64_t wall_ns;
static uint64_t fake_wall(void *user) {
    (void)user;
    return wall_ns;
}

static struct {
    uint8_t record[64];
    size_t len;
} shelf_self;
static cal_peer_id self;
static void keep_self(void *user, const cal_peer_id *peer, const uint8_t *record, size_t len) {
    (void)user;
    if (!cal_peer_id_equal(peer, &self)) return;
    assert_true(len <= sizeof shelf_self.record);
    memcpy(shelf_self.record, record, len);
    shelf_self.len = len;
}

static struct {
    uint64_t last;
    int count;
    bool heard, hears;
} told;
static void on_message(void *user, const cal_p2p_message *message) {
    (void)user;
    assert_true(message->seqno > told.last); /* never again, never before */
    told.last = message->seqno;
    told.count++;
    told.heard = true;
}
static void on_hears(void *user, const char *topic, const cal_peer_id *peer, bool hears) {
    (void)user, (void)topic, (void)peer;
    told.hears = hears;
}
static bool is_heard(void *user) {
    (void)user;
    return told.heard;
}
static bool has_reader(void *user) {
    (void)user;
    return told.hears;
}

static void publish(testing_net *net, cal_p2p *host) {
    told.heard = false;
    assert_int_equal(cal_p2p_publish(host, "news", "x", 1, NULL, NULL), 0);
    testing_until(net, is_heard, NULL);
}

static void gossip_writer(testing_net *net, cal_p2p *host) {
    told.hears = false;
    assert_int_equal(cal_p2p_gossip_start(host, &(cal_p2p_gossip_options){.subscribed = on_hears}),
                     0);
    assert_int_equal(cal_p2p_subscribe(host, "news", false, NULL), 0);
    testing_until(net, has_reader, NULL);
}

/* A host of a fixed key, whose wall clock and shelf are the test's. */
static cal_p2p *writer_new(testing_net *net, const uint8_t seed[32]) {
    static cal_os os;
    const char *const listen[] = {"/ip4/127.0.0.1/tcp/0"};
    size_t i = net->count++;
    os = *cal_os_posix();
    os.wall_ns = fake_wall;
    assert_int_equal(net_tcp_new(&net->loop, &net->transports[i]), 0);
    assert_int_equal(net_host_new(&(cal_p2p_options){.seed = seed,
                                                     .listen = listen,
                                                     .listen_count = 1,
                                                     .shelf = {.save = keep_self}},
                                  net->transports[i], &os, &net->hosts[i], NULL),
                     0);
    cal_p2p_id(net->hosts[i], &self);
    return net->hosts[i];
}

static void test_wall_goes_back(void **state) {
    (void)state;
    static const uint8_t seed[32] = {9};
    testing_net net;
    memset(&told, 0, sizeof told);
    shelf_self.len = 0;
    testing_net_init(&net);
    cal_p2p *reader = testing_host(&net, NULL);
    assert_int_equal(cal_p2p_gossip_start(reader, &(cal_p2p_gossip_options){.message = on_message}),
                     0);
    assert_int_equal(cal_p2p_subscribe(reader, "news", false, NULL), 0);
    wall_ns = UINT64_C(1700000000000000000);
    cal_p2p *writer = writer_new(&net, seed);
    testing_connect(&net, writer, reader);
    gossip_writer(&net, writer);
    for (int i = 0; i < 3; i++) publish(&net, writer);
    assert_true(told.last > wall_ns);
    wall_ns -= NET_MS(HOUR_MS); /* in the middle */
    publish(&net, writer);
    cal_p2p_gossip_stop(writer); /* gossip begins again in the past */
    cal_peer_id reader_id;
    cal_p2p_id(reader, &reader_id);
    cal_p2p_disconnect(writer, &reader_id); /* else it is a heartbeat until the reader opens anew */
    testing_connect(&net, writer, reader);
    gossip_writer(&net, writer);
    publish(&net, writer);
    assert_true(shelf_self.len > 0);
    testing_drop(&net, 1); /* the program begins again in the past */
    writer = writer_new(&net, seed);
    assert_int_equal(cal_p2p_restore(writer, &self, shelf_self.record, shelf_self.len), 0);
    testing_connect(&net, writer, reader);
    gossip_writer(&net, writer);
    publish(&net, writer);
    assert_int_equal(told.count, 6);
    assert_int_equal(stats_of(writer).wall_behind, 1);
    /* Damaged records are no reason to jump to the end of the numbers. */
    uint8_t record[9] = {2, 0xff};
    assert_int_equal(cal_p2p_restore(writer, &self, record, 9), CAL_EDECODE);
    assert_int_equal(cal_p2p_restore(writer, &self, record, 8), CAL_EDECODE);
    record[0] = 1;
    assert_int_equal(cal_p2p_restore(writer, &self, record, 9), CAL_EDECODE);
    testing_net_deinit(&net);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leap),
        cmocka_unit_test(test_standstill),
        cmocka_unit_test(test_late_start),
        cmocka_unit_test(test_wall_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
