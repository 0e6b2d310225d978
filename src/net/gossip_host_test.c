/* Gossip between hosts over real sockets on one loop. */
#include "net/gossip_host.h"
#include "net/testing.h"

enum { HOSTS = 3, LARGE = 900 * 1024 };

typedef struct ear {
    gossip_host *gossip;
    int heard, subscribed;
    size_t bytes;
    cal_peer_id from;
} ear;

typedef struct town {
    testing_net net;
    cal_p2p *hosts[HOSTS];
    ear ears[HOSTS];
    int wanted;
} town;

static void on_event(void *user, const gossip_event *event) {
    ear *e = user;
    if (event->kind == GOSSIP_SUBSCRIBED) e->subscribed++;
    if (event->kind != GOSSIP_MESSAGE && event->kind != GOSSIP_VALIDATE) return;
    e->heard++;
    e->bytes = event->data.len;
    e->from = event->from;
    if (event->kind == GOSSIP_VALIDATE)
        assert_int_equal(gossip_host_validated(e->gossip, event->ticket, GOSSIP_ACCEPT), 0);
}

static cal_slice topic(void) { return cal_slice_text("ns/town"); }

static void town_gossip(town *t, int i) {
    gossip_host_options options = {.on_event = on_event, .user = &t->ears[i]};
    assert_int_equal(gossip_host_new(t->hosts[i], &options, &t->ears[i].gossip), 0);
    assert_int_equal(gossip_host_subscribe(t->ears[i].gossip, topic(), i == 1, NULL), 0);
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

static void town_end(town *t) {
    for (int i = 0; i < HOSTS; i++) gossip_host_free(t->ears[i].gossip);
    testing_net_deinit(&t->net);
}

static bool all_subscribed(void *user) {
    const town *t = user;
    for (int i = 0; i < HOSTS; i++) {
        size_t peers, mesh;
        gossip_topic_count(gossip_host_state(t->ears[i].gossip), topic(), &peers, &mesh);
        if (mesh < (i == 1 ? 2u : 1u)) return false;
    }
    return true;
}

static bool heard_enough(void *user) {
    const town *t = user;
    return t->ears[1].heard >= t->wanted && t->ears[2].heard >= t->wanted;
}

static void speak(town *t, const uint8_t *data, size_t len) {
    size_t peers;
    assert_int_equal(
        gossip_host_publish(t->ears[0].gossip, topic(), (cal_slice){data, len}, &peers, NULL), 0);
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

static bool parted(void *user) {
    const town *t = user;
    size_t peers, mesh;
    gossip_topic_count(gossip_host_state(t->ears[1].gossip), topic(), &peers, &mesh);
    return peers == 1;
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
    }
    /* Topics are left and joined on open streams too. */
    assert_int_equal(gossip_host_unsubscribe(t.ears[0].gossip, topic()), 0);
    testing_until(&t.net, parted, &t);
    speak(&t, (const uint8_t *)"from outside", 12);
    town_end(&t);
}

static bool speaks_nothing(void *user) {
    const town *t = user;
    gossip_stats stats;
    gossip_stats_get(gossip_host_state(t->ears[0].gossip), &stats);
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
    gossip_host_publish(t.ears[0].gossip, topic(), topic(), &peers, NULL);
    assert_int_equal(peers, 0);
    assert_int_equal(gossip_host_new(t.hosts[0], &(gossip_host_options){.on_event = on_event},
                                     &t.ears[2].gossip),
                     CAL_EEXISTS);
    gossip_host_free(t.ears[0].gossip);
    testing_net_deinit(&t.net);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line),
        cmocka_unit_test(test_gossip_begins_late),
        cmocka_unit_test(test_connects_again),
        cmocka_unit_test(test_peer_without_gossip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
