/* Rendezvous between hosts over real sockets on one loop; the points are played by the test. */
#include "net/testing.h"
#include "rendezvous.pb-c.h"

enum { KEPT_MAX = 16, MESSAGE_MAX = 65536 };
static const char protocol_id[] = "/rendezvous/1.0.0", global[] = "/calimero/devnet/global";

/* A point: keeps what is registered, and tells everybody who asks. */
typedef struct point {
    cal_p2p *host;
    uint32_t status; /* of its answers to registrations */
    bool silent;
    struct {
        uint8_t bytes[1024];
        size_t len;
    } kept[KEPT_MAX];
    size_t count;
    int registers, unregisters, discovers;
} point;

static void answer(cal_p2p_stream *stream, const RendezvousPb__Message *message) {
    uint8_t bytes[MESSAGE_MAX];
    assert_true(rendezvous_pb__message__get_packed_size(message) <= sizeof bytes);
    size_t len = rendezvous_pb__message__pack(message, bytes);
    assert_int_equal(cal_p2p_frames_write(stream, CAL_P2P_FRAME_VARINT, bytes, len), 0);
    cal_p2p_stream_finish(stream);
}

static void on_register(point *p, cal_p2p_stream *stream, const RendezvousPb__Register *given) {
    RendezvousPb__Message message = RENDEZVOUS_PB__MESSAGE__INIT;
    RendezvousPb__RegisterResponse response = RENDEZVOUS_PB__REGISTER_RESPONSE__INIT;
    p->registers++;
    assert_true(p->count < KEPT_MAX && given->record.len <= sizeof p->kept[0].bytes);
    if (p->status == 0) {
        memcpy(p->kept[p->count].bytes, given->record.data, given->record.len);
        p->kept[p->count++].len = given->record.len;
    }
    message.has_type = response.has_status = response.has_ttl = true;
    message.type = 1;
    response.status = p->status;
    response.ttl = 7200;
    message.register_response = &response;
    answer(stream, &message);
}

static void on_discover(point *p, cal_p2p_stream *stream) {
    RendezvousPb__Message message = RENDEZVOUS_PB__MESSAGE__INIT;
    RendezvousPb__DiscoverResponse response = RENDEZVOUS_PB__DISCOVER_RESPONSE__INIT;
    RendezvousPb__Register all[KEPT_MAX], *list[KEPT_MAX];
    p->discovers++;
    message.has_type = response.has_status = true;
    message.type = 4;
    for (size_t i = 0; i < p->count; i++) {
        rendezvous_pb__register__init(list[i] = &all[i]);
        all[i].has_record = true;
        all[i].record = (ProtobufCBinaryData){p->kept[i].len, p->kept[i].bytes};
    }
    response.n_registrations = p->count;
    response.registrations = list;
    message.discover_response = &response;
    answer(stream, &message);
}

static void on_readable(void *user, cal_p2p_stream *stream) {
    point *p = user;
    cal_p2p_frames frames;
    const uint8_t *bytes;
    size_t len;
    if (p->silent) return;
    cal_p2p_frames_init(&frames, CAL_P2P_FRAME_VARINT, MESSAGE_MAX);
    if (!cal_p2p_frames_next(&frames, stream, &bytes, &len)) { /* they come whole here */
        RendezvousPb__Message *message = rendezvous_pb__message__unpack(NULL, len, bytes);
        assert_non_null(message);
        if (message->register_) on_register(p, stream, message->register_);
        if (message->discover) on_discover(p, stream);
        if (message->unregister) {
            p->unregisters++;
            cal_p2p_stream_reset(stream); /* rust-libp2p's way of not answering */
        }
        rendezvous_pb__message__free_unpacked(message, NULL);
    }
    cal_p2p_frames_deinit(&frames);
}

static const cal_p2p_stream_events point_events = {.opened = on_readable, .readable = on_readable};

static cal_p2p *point_begin(testing_net *net, point *p) {
    *p = (point){.host = testing_host(net, NULL)};
    assert_int_equal(
        cal_p2p_handle(p->host,
                       &(cal_p2p_protocol){.id = protocol_id, .events = &point_events, .user = p}),
        0);
    return p->host;
}

/* --- what is waited for --- */

typedef struct wanted {
    cal_p2p *host;
    cal_peer_id peer;
    cal_p2p_point_state state;
    size_t points, in_state, registrations;
} wanted;

static void count_point(void *user, const cal_p2p_point *p) {
    wanted *w = user;
    w->points++;
    if (w->peer.len && !cal_peer_id_equal(&w->peer, &p->peer)) return;
    w->in_state += p->state == w->state;
    w->registrations += p->registrations;
    assert_true(p->age_ns < UINT64_C(1000000000000));
}

static bool in_state(void *user) {
    wanted *w = user;
    w->points = w->in_state = w->registrations = 0;
    assert_int_equal(cal_p2p_rendezvous_points(w->host, count_point, w), 0);
    return w->in_state > 0;
}

static void until_state(testing_net *net, cal_p2p *host, const point *p,
                        cal_p2p_point_state state) {
    wanted w = {.host = host, .state = state};
    if (p) cal_p2p_id(p->host, &w.peer);
    testing_until(net, in_state, &w);
}

static size_t count_state(cal_p2p *host, cal_p2p_point_state state) {
    wanted w = {.host = host, .state = state};
    in_state(&w);
    return w.in_state;
}

static bool was_left(void *user) { return ((point *)user)->unregisters == 1; }

/* --- tests --- */

static void test_find_each_other(void **state) {
    (void)state;
    testing_net net;
    point p;
    cal_p2p *hosts[2];
    cal_p2p_rendezvous_stats stats;
    testing_net_init(&net);
    point_begin(&net, &p);
    for (int i = 0; i < 2; i++) {
        hosts[i] = testing_host(&net, NULL);
        assert_int_equal(cal_p2p_rendezvous_join(hosts[i], global), CAL_ESTATE);
        assert_int_equal(cal_p2p_rendezvous_start(hosts[i], NULL), 0);
        assert_int_equal(cal_p2p_rendezvous_start(hosts[i], NULL), CAL_EEXISTS);
        assert_int_equal(cal_p2p_rendezvous_join(hosts[i], global), 0);
        assert_int_equal(cal_p2p_rendezvous_join(hosts[i], global), CAL_EEXISTS);
        testing_connect(&net, hosts[i], p.host); /* a point is met after a name is wanted */
        until_state(&net, hosts[i], &p, CAL_P2P_POINT_REGISTERED);
    }
    testing_until(&net, testing_see_each_other, &(struct testing_both){hosts[0], hosts[1]});
    assert_int_equal(cal_p2p_rendezvous_stats_get(hosts[1], &stats), 0);
    assert_true(stats.found >= 1 && stats.points == 1 && stats.names == 1);
    assert_int_equal(stats.registrations, 1);
    assert_int_equal(cal_p2p_rendezvous_leave(hosts[0], global), 0);
    assert_int_equal(cal_p2p_rendezvous_leave(hosts[0], global), CAL_ENOTFOUND);
    testing_until(&net, was_left, &p);
    testing_net_deinit(&net);
}

/* Only so many are used; one that goes, or refuses, is replaced. */
static void test_replaced(void **state) {
    (void)state;
    testing_net net;
    point points[4];
    cal_p2p_rendezvous_stats stats;
    testing_net_init(&net);
    cal_p2p *host = testing_host(&net, NULL);
    for (int i = 0; i < 4; i++) point_begin(&net, &points[i]);
    points[0].status = 400; /* not authorised */
    assert_int_equal(
        cal_p2p_rendezvous_start(host, &(cal_p2p_rendezvous_options){.points_max = 17}),
        CAL_EINVAL);
    assert_int_equal(cal_p2p_rendezvous_start(host, &(cal_p2p_rendezvous_options){.points_max = 2}),
                     0);
    for (int i = 0; i < 3; i++) {
        testing_connect(&net, host, points[i].host);
        until_state(&net, host, &points[i], CAL_P2P_POINT_DISCOVERED);
    }
    assert_int_equal(cal_p2p_rendezvous_join(host, global), 0); /* after the points were met */
    until_state(&net, host, &points[1], CAL_P2P_POINT_REGISTERED);
    until_state(&net, host, &points[2], CAL_P2P_POINT_REGISTERED);
    until_state(&net, host, &points[0], CAL_P2P_POINT_EXPIRED);
    assert_int_equal(points[0].registers, 1);
    testing_connect(&net, host, points[3].host); /* not needed yet */
    until_state(&net, host, &points[3], CAL_P2P_POINT_DISCOVERED);
    assert_int_equal(cal_p2p_rendezvous_stats_get(host, &stats), 0);
    assert_true(stats.points == 2 && stats.registrations == 2 && stats.refused == 1);
    testing_drop(&net, 2); /* points[1] */
    until_state(&net, host, &points[3], CAL_P2P_POINT_REGISTERED);
    assert_int_equal(count_state(host, CAL_P2P_POINT_REGISTERED), 2);
    assert_int_equal(count_state(host, CAL_P2P_POINT_EXPIRED), 2);
    testing_net_deinit(&net);
}

/* The clock of a host may run ahead of the loop's. */
static uint64_t ahead_ns;
static void (*loop_wake_at)(void *user, uint64_t at_ns);
static uint64_t ahead_now(void *user) {
    (void)user;
    return uv_hrtime() + ahead_ns;
}
static void ahead_wake_at(void *user, uint64_t at_ns) {
    loop_wake_at(user, at_ns == NET_NEVER ? at_ns : at_ns > ahead_ns ? at_ns - ahead_ns : 0);
}
static void let_ahead(net_transport *transport) {
    ahead_ns = 0;
    loop_wake_at = transport->wake_at;
    transport->now_ns = ahead_now;
    transport->wake_at = ahead_wake_at;
}
static void pass(net_transport *transport, unsigned seconds) {
    ahead_ns += NET_MS(1000) * seconds;
    transport->events->wake(transport->events->user);
}

/* The only point there is ends the connection: it is dialled again, after a pause. */
static void test_dialled_again(void **state) {
    (void)state;
    testing_net net;
    point p;
    cal_peer_id id;
    testing_net_init(&net);
    cal_p2p *host = testing_host(&net, NULL);
    let_ahead(net.transports[0]);
    point_begin(&net, &p);
    assert_int_equal(cal_p2p_rendezvous_start(host, NULL), 0);
    assert_int_equal(cal_p2p_rendezvous_join(host, global), 0);
    testing_connect(&net, host, p.host);
    until_state(&net, host, &p, CAL_P2P_POINT_REGISTERED);
    cal_p2p_id(host, &id);
    cal_p2p_disconnect(p.host, &id);
    until_state(&net, host, &p, CAL_P2P_POINT_EXPIRED);
    pass(net.transports[0], 61);
    until_state(&net, host, &p, CAL_P2P_POINT_REGISTERED);
    assert_int_equal(p.registers, 2);
    testing_net_deinit(&net);
}

/* One that says nothing is given up after its time; another takes its place; whoever has a request
 * under way may stop. */
static void test_silent(void **state) {
    (void)state;
    testing_net net;
    point points[2];
    cal_p2p_rendezvous_stats stats;
    testing_net_init(&net);
    cal_p2p *host = testing_host(&net, NULL);
    let_ahead(net.transports[0]);
    for (int i = 0; i < 2; i++) point_begin(&net, &points[i]);
    points[0].silent = true;
    assert_int_equal(cal_p2p_rendezvous_start(host, &(cal_p2p_rendezvous_options){.points_max = 1}),
                     0);
    assert_int_equal(cal_p2p_rendezvous_join(host, global), 0);
    testing_connect(&net, host, points[0].host);
    until_state(&net, host, &points[0], CAL_P2P_POINT_REQUESTED);
    testing_connect(&net, host, points[1].host);
    until_state(&net, host, &points[1], CAL_P2P_POINT_DISCOVERED);
    pass(net.transports[0], 11);
    until_state(&net, host, &points[1], CAL_P2P_POINT_REGISTERED);
    assert_int_equal(count_state(host, CAL_P2P_POINT_EXPIRED), 1);
    assert_int_equal(cal_p2p_rendezvous_stats_get(host, &stats), 0);
    assert_int_equal(stats.unanswered, 1);
    points[1].silent = true;
    assert_int_equal(cal_p2p_rendezvous_join(host, "another"), 0);
    for (int i = 0; i < 3; i++) uv_run(&net.loop, UV_RUN_NOWAIT);
    cal_p2p_rendezvous_stop(host);
    assert_int_equal(cal_p2p_rendezvous_stats_get(host, &stats), CAL_ESTATE);
    assert_int_equal(cal_p2p_rendezvous_start(host, NULL), 0);
    testing_net_deinit(&net);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find_each_other),
        cmocka_unit_test(test_replaced),
        cmocka_unit_test(test_dialled_again),
        cmocka_unit_test(test_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
