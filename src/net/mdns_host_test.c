/* Two hosts that know nothing of each other, and mDNS on real sockets. */
#include "net/mdns_host.h"
#include "net/testing.h"

static void test_discover(void **state) {
    (void)state;
    testing_net net;
    mdns_host *mdns[2];
    cal_p2p *hosts[2];
    cal_error err;
    testing_net_init(&net);
    for (int i = 0; i < 2; i++) {
        hosts[i] = testing_host(&net, NULL);
        int result = mdns_host_new(hosts[i], &net.loop, &mdns[i], &err);
        if (result) fail_msg("%s", err.message);
    }
    testing_until(&net, testing_see_each_other, &(struct testing_both){hosts[0], hosts[1]});
    mdns_stats one, other; /* whoever heard of the other first has dialled */
    mdns_stats_get(mdns_host_state(mdns[0]), &one);
    mdns_stats_get(mdns_host_state(mdns[1]), &other);
    assert_true(one.queries >= 1 && other.queries >= 1);
    assert_true(one.discovered + other.discovered >= 1);
    for (int i = 0; i < 2; i++) mdns_host_free(mdns[i]);
    testing_net_deinit(&net);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_discover)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
