/* Kademlia between hosts over real sockets on one loop. */
#include "net/kad_host.h"
#include "net/testing.h"

enum { HOSTS = 4 };

typedef struct seeker {
    uint64_t walk;
    bool done;
    size_t count;
    cal_peer_id found;
    uint64_t size;
} seeker;

static void on_result(void *user, const kad_result *result) {
    seeker *s = user;
    if (result->walk != s->walk) return;
    if (result->kind == KAD_DONE) {
        s->done = true;
        s->count = result->count;
    } else {
        s->found = result->peer;
        s->size = result->size;
    }
}

static bool is_done(void *user) { return ((seeker *)user)->done; }

static bool know_all(void *user) {
    kad_host **kads = user;
    kad_stats stats;
    for (int i = 0; i < HOSTS; i++) {
        kad_stats_get(kad_host_state(kads[i]), &stats);
        if (stats.peers < (i == 0 ? HOSTS - 1 : 1)) return false;
    }
    return true;
}

/* All know only the first; what one puts, another finds, through peers it had to dial. */
static void test_put_and_get(void **state) {
    (void)state;
    testing_net net;
    cal_p2p *hosts[HOSTS];
    kad_host *kads[HOSTS];
    seeker seekers[HOSTS] = {0};
    uint8_t key[KAD_KEY_LEN] = {4, 2};
    cal_peer_id holder;
    testing_net_init(&net);
    for (int i = 0; i < HOSTS; i++) {
        hosts[i] = testing_host(&net, NULL);
        assert_int_equal(kad_host_new(hosts[i], on_result, &seekers[i], &kads[i]), 0);
    }
    for (int i = 1; i < HOSTS; i++) testing_connect(&net, hosts[i], hosts[0]);
    testing_until(&net, know_all, kads);
    assert_int_equal(kad_host_put(kads[1], key, 4711, &seekers[1].walk), 0);
    testing_until(&net, is_done, &seekers[1]);
    assert_int_equal(seekers[1].count, HOSTS - 1);
    assert_int_equal(kad_host_get(kads[3], key, &seekers[3].walk), 0);
    testing_until(&net, is_done, &seekers[3]);
    cal_p2p_id(hosts[1], &holder);
    assert_true(cal_peer_id_equal(&seekers[3].found, &holder));
    assert_int_equal(seekers[3].size, 4711);
    seekers[2].walk = 0;
    assert_int_equal(kad_host_find(kads[2], &holder, &seekers[2].walk), 0);
    testing_until(&net, is_done, &seekers[2]);
    assert_true(cal_peer_id_equal(&seekers[2].found, &holder));
    /* One with a request under way may go at any time. */
    assert_int_equal(kad_host_get(kads[2], key, &seekers[2].walk), 0);
    uv_run(&net.loop, UV_RUN_NOWAIT);
    for (int i = 0; i < HOSTS; i++) kad_host_free(kads[i]);
    testing_net_deinit(&net);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_put_and_get)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
