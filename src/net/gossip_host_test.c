/* Gossip between hosts over real sockets on one loop. */
#include "net/testing.h"

enum { HOSTS = 3, LARGE = 900 * 1024, BURST = 3000 };

typedef struct ear {
    cal_p2p *host;
    int heard, subscribed, left;
    size_t bytes;
    cal_peer_id from;
} ear;

typedef struct town {
    testing_net net;
    cal_p2p *hosts[HOSTS];
    ear ears[HOSTS];
    int wanted;
} town;

static const char topic[] = "ns/town";

static void on_subscribed(void *user, const char *name, const cal_peer_id *peer, bool hears) {
    ear *e = user;
    (void)peer;
    assert_string_equal(name, topic);
    if (hears)
        e->subscribed++;
    else
        e->left++;
}

static void on_message(void *user, const cal_p2p_message *message) {
    ear *e = user;
    assert_string_equal(message->topic, topic);
    e->heard++;
    e->bytes = message->len;
    e->from = message->author;
    if (message->ticket)
        assert_int_equal(cal_p2p_judge(e->host, message->ticket, CAL_P2P_ACCEPT), 0);
}

static void town_gossip(town *t, int i) {
    cal_p2p_gossip_options options = {
        .message = on_message, .subscribed = on_subscribed, .user = &t->ears[i]};
    t->ears[i].host = t->hosts[i];
    assert_int_equal(cal_p2p_gossip_start(t->hosts[i], &options), 0);
    assert_int_equal(cal_p2p_subscribe(t->hosts[i], topic, i == 1, NULL), 0);
}

/* Three in a line: the first and the last know only the one between them. */
static void town_build(town *t, bool gossip_first) {
    memset(t, 0, sizeof *t);
    testing_net_init(&t->net);
    for (int i = 0; i < HOSTS; i++) t->hosts[i] = testing_host(&t->net, NULL);
    for (int i = 0; i < HOSTS && gossip_first; i++) town_gossip(t, i);
    testing_connect(&t->net, t->hosts[0], t->hosts[1]);
    testing_connect(&t->net, t->hosts[2], t->hosts[1]);
    for (int i = 0; i < HOSTS && !gossip_first; i++) town_gossip(t, i);
}

static void town_end(town *t) { testing_net_deinit(&t->net); }

typedef struct audience {
    size_t peers, mesh;
} audience;

static void count_peer(void *user, const cal_peer_id *peer, bool mesh) {
    audience *a = user;
    (void)peer;
    a->peers++;
    a->mesh += mesh;
}

static void count_topic(void *user, const char *name, size_t peers, size_t mesh) {
    audience *a = user;
    assert_string_equal(name, topic);
    a->peers += peers;
    a->mesh += mesh;
}

static audience audience_of(const cal_p2p *host) {
    audience a = {0};
    assert_int_equal(cal_p2p_topic_peers(host, topic, count_peer, &a), 0);
    audience all = {0};
    assert_int_equal(cal_p2p_topics(host, count_topic, &all), 0);
    if (a.peers) assert_memory_equal(&a, &all, sizeof a);
    return a;
}

static bool all_subscribed(void *user) {
    const town *t = user;
    for (int i = 0; i < HOSTS; i++)
        if (audience_of(t->hosts[i]).mesh < (i == 1 ? 2u : 1u)) return false;
    return true;
}

static bool heard_enough(void *user) {
    const town *t = user;
    return t->ears[1].heard >= t->wanted && t->ears[2].heard >= t->wanted;
}

static void speak(town *t, const uint8_t *data, size_t len) {
    size_t peers;
    assert_int_equal(cal_p2p_publish(t->hosts[0], topic, data, len, &peers, NULL), 0);
    assert_int_equal(peers, 1);
    t->wanted++;
    testing_until(&t->net, heard_enough, t);
    assert_int_equal(t->ears[2].bytes, len);
}

static void check_line(bool gossip_first) {
    town t;
    cal_peer_id author;
    uint8_t *data = calloc(1, LARGE);
    town_build(&t, gossip_first);
    testing_until(&t.net, all_subscribed, &t);
    speak(&t, (const uint8_t *)"hello", 5);
    speak(&t, data, LARGE); /* more than a window */
    for (int i = 0; i < 50; i++) speak(&t, data, (size_t)i * 100);
    cal_p2p_id(t.hosts[0], &author);
    assert_true(cal_peer_id_equal(&t.ears[2].from, &author));
    assert_int_equal(t.ears[0].heard, 0);
    assert_int_equal(t.ears[2].heard, 52);
    assert_int_equal(t.ears[1].subscribed, 2);
    town_end(&t);
    free(data);
}

static void test_line(void **state) {
    (void)state;
    check_line(true);
}

/* Peers that were connected before gossip began, and refused its streams at first. */
static void test_gossip_begins_late(void **state) {
    (void)state;
    check_line(false);
}

/* More in one piece than events that may wait: reading stops and goes on by itself. */
static void test_burst(void **state) {
    (void)state;
    town t;
    town_build(&t, true);
    testing_until(&t.net, all_subscribed, &t);
    for (t.wanted = 0; t.wanted < BURST; t.wanted++)
        assert_int_equal(cal_p2p_publish(t.hosts[0], topic, "x", 1, NULL, NULL), 0);
    testing_until(&t.net, heard_enough, &t);
    assert_int_equal(t.ears[2].heard, BURST);
    town_end(&t);
}

static bool parted(void *user) {
    const town *t = user;
    return audience_of(t->hosts[1]).peers == 1;
}

static void test_connects_again(void **state) {
    (void)state;
    town t;
    cal_peer_id middle;
    town_build(&t, true);
    testing_until(&t.net, all_subscribed, &t);
    cal_p2p_id(t.hosts[1], &middle);
    for (int i = 0; i < 3; i++) {
        cal_p2p_disconnect(t.hosts[0], &middle);
        testing_until(&t.net, parted, &t);
        testing_connect(&t.net, t.hosts[0], t.hosts[1]);
        testing_until(&t.net, all_subscribed, &t);
        speak(&t, (const uint8_t *)"again", 5);
        assert_int_equal(t.ears[0].left, i + 1); /* whoever is gone hears nothing */
        assert_int_equal(t.ears[1].left, i + 1);
    }
    /* Topics are left and joined on open streams too. */
    assert_int_equal(cal_p2p_unsubscribe(t.hosts[0], topic), 0);
    testing_until(&t.net, parted, &t);
    assert_int_equal(t.ears[1].left, 4);
    int known = t.ears[0].subscribed;
    assert_int_equal(cal_p2p_subscribe(t.hosts[0], topic, false, NULL),
                     0); /* to what others hear */
    testing_until(&t.net, all_subscribed, &t);
    assert_int_equal(t.ears[0].subscribed, known + 1);
    assert_int_equal(cal_p2p_unsubscribe(t.hosts[0], topic), 0);
    testing_until(&t.net, parted, &t);
    speak(&t, (const uint8_t *)"from outside", 12);
    town_end(&t);
}

static bool speaks_nothing(void *user) {
    const town *t = user;
    cal_p2p_gossip_stats stats;
    assert_int_equal(cal_p2p_gossip_stats_get(t->hosts[0], &stats), 0);
    return stats.peers == 1;
}

static void test_peer_without_gossip(void **state) {
    (void)state;
    town t = {0};
    testing_net_init(&t.net);
    for (int i = 0; i < 2; i++) t.hosts[i] = testing_host(&t.net, NULL);
    town_gossip(&t, 0);
    testing_connect(&t.net, t.hosts[0], t.hosts[1]);
    testing_until(&t.net, speaks_nothing, &t);
    size_t peers;
    assert_int_equal(cal_p2p_publish(t.hosts[0], topic, "x", 1, &peers, NULL), 0);
    assert_int_equal(peers, 0);
    assert_int_equal(cal_p2p_gossip_start(t.hosts[0], &(cal_p2p_gossip_options){0}), CAL_EEXISTS);
    testing_net_deinit(&t.net);
}

/* A peer as js-libp2p is one: it opens its stream when one comes, and never again otherwise. */
typedef struct stranger {
    const char *says;
    size_t len;
    int opened;
} stranger;

static const cal_p2p_stream_events deaf_events = {0};

static void on_stranger_opened(void *user, cal_p2p_stream *stream) {
    static const char *const meshsub[] = {"/meshsub/1.2.0"};
    stranger *s = user;
    cal_peer_id peer;
    cal_p2p_stream *out;
    cal_p2p_stream_peer(stream, &peer);
    cal_p2p_stream_set_events(stream, &deaf_events, NULL);
    s->opened++;
    assert_int_equal(
        cal_p2p_open(cal_p2p_stream_host(stream), &peer, meshsub, 1, &deaf_events, NULL, &out), 0);
    assert_int_equal(cal_p2p_stream_write(out, s->says, s->len), s->len);
}
static const cal_p2p_stream_events stranger_events = {.opened = on_stranger_opened};

static bool renewed(void *user) {
    const stranger *s = user;
    return s->opened >= 2;
}

static void check_renewed(const char *says, size_t len) {
    town t = {0};
    stranger s = {.says = says, .len = len};
    testing_net_init(&t.net);
    for (int i = 0; i < 2; i++) t.hosts[i] = testing_host(&t.net, NULL);
    town_gossip(&t, 0);
    const cal_p2p_protocol meshsub = {
        .id = "/meshsub/1.2.0", .events = &stranger_events, .user = &s};
    assert_int_equal(cal_p2p_handle(t.hosts[1], &meshsub), 0);
    testing_connect(&t.net, t.hosts[0], t.hosts[1]);
    testing_until(&t.net, renewed, &s);
    testing_net_deinit(&t.net);
}

/* What is no gossip, or too long, ends both streams, and ours is opened again: else a peer that
 * waits for it would never be heard again on this connection. */
static void test_renewed_after_nonsense(void **state) {
    static const char malformed[] = "\x02\x12\x7f", too_long[] = "\xff\xff\xff\x01";
    (void)state;
    check_renewed(malformed, 3);
    check_renewed(too_long, 4);
}

/* What is asked of a host that speaks no gossip, or none any more. */
static void test_not_started(void **state) {
    (void)state;
    town t = {0};
    cal_error err;
    cal_p2p_gossip_stats stats;
    testing_net_init(&t.net);
    cal_p2p *host = t.hosts[0] = testing_host(&t.net, NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(cal_p2p_subscribe(host, topic, false, &err), CAL_ESTATE);
        assert_int_equal(cal_p2p_unsubscribe(host, topic), CAL_ESTATE);
        assert_int_equal(cal_p2p_publish(host, topic, "x", 1, NULL, &err), CAL_ESTATE);
        assert_int_equal(cal_p2p_judge(host, 1, CAL_P2P_ACCEPT), CAL_ESTATE);
        assert_int_equal(cal_p2p_gossip_stats_get(host, &stats), CAL_ESTATE);
        cal_p2p_gossip_stop(host);
        town_gossip(&t, 0);
        cal_p2p_gossip_stop(host);
    }
    testing_net_deinit(&t.net);
}

/* --- two connections --- */

static bool have_two(void *user) {
    struct testing_both *both = user;
    return both->a->connection_count == 2 && both->b->connection_count == 2;
}

struct hearing {
    cal_p2p *host;
    const char *topic;
    bool heard;
};
static void on_hearer(void *user, const cal_peer_id *peer, bool mesh) {
    (void)peer;
    (void)mesh;
    ((struct hearing *)user)->heard = true;
}
static bool somebody_hears(void *user) {
    struct hearing *h = user;
    assert_int_equal(cal_p2p_topic_peers(h->host, h->topic, on_hearer, h), 0);
    return h->heard;
}

/* Regression: of two connections only the newest stream was read, but rust-libp2p has one on each
 * and speaks on both. */
static void test_stream_on_each_connection(void **state) {
    (void)state;
    static const uint8_t subscribe[2][9] = {"\x08\x0a\x06\x08\x01\x12\x02t1",
                                            "\x08\x0a\x06\x08\x01\x12\x02t2"};
    static const cal_p2p_stream_events none = {0};
    const char *const ids[] = {"/meshsub/1.1.0"};
    testing_net net;
    cal_p2p_stream *streams[2];
    cal_multiaddr address;
    size_t count = 0;
    testing_net_init(&net);
    cal_p2p *a = testing_host(&net, NULL), *b = testing_host(&net, NULL);
    assert_int_equal(cal_p2p_gossip_start(a, &(cal_p2p_gossip_options){0}), 0);
    assert_int_equal(cal_p2p_subscribe(a, "t1", false, NULL), 0);
    assert_int_equal(cal_p2p_subscribe(a, "t2", false, NULL), 0);
    testing_address(b, &address);
    cal_p2p_connect(a, NULL, &address, 1, NULL, NULL);
    testing_address(a, &address);
    cal_p2p_connect(b, NULL, &address, 1, NULL, NULL);
    testing_until(&net, have_two, &(struct testing_both){a, b});
    host_enter(b);
    for (cal_list *at = b->connections.next; at != &b->connections; at = at->next)
        assert_int_equal(stream_open(CAL_CONTAINER_OF(at, net_connection, link), ids, 1, &none,
                                     NULL, false, &streams[count++]),
                         0);
    host_leave(b);
    for (int i = 1; i >= 0; i--) { /* first on the one, then on the other that was there before */
        struct hearing h = {.host = a, .topic = i ? "t2" : "t1"};
        assert_int_equal(cal_p2p_stream_write(streams[i], subscribe[i], 9), 9);
        testing_until(&net, somebody_hears, &h);
    }
    testing_net_deinit(&net);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream_on_each_connection),
        cmocka_unit_test(test_line),
        cmocka_unit_test(test_gossip_begins_late),
        cmocka_unit_test(test_connects_again),
        cmocka_unit_test(test_peer_without_gossip),
        cmocka_unit_test(test_renewed_after_nonsense),
        cmocka_unit_test(test_burst),
        cmocka_unit_test(test_not_started),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
