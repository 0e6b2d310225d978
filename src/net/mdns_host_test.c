/* Two hosts that know nothing of each other, and mDNS on real sockets. */
#include "net/multicast.h"
#include "net/testing.h"

static void test_discover(void **state) {
    (void)state;
    testing_net net;
    cal_p2p *hosts[2];
    cal_error err;
    cal_p2p_mdns_stats one, other;
    testing_net_init(&net);
    for (int i = 0; i < 2; i++) {
        hosts[i] = testing_host(&net, NULL);
        assert_int_equal(cal_p2p_mdns_stats_get(hosts[i], &one), CAL_ESTATE);
        if (cal_p2p_mdns_start(hosts[i], &err)) fail_msg("%s", err.message);
        assert_int_equal(cal_p2p_mdns_start(hosts[i], &err), CAL_EEXISTS);
    }
    testing_until(&net, testing_see_each_other, &(struct testing_both){hosts[0], hosts[1]});
    assert_int_equal(cal_p2p_mdns_stats_get(hosts[0], &one), 0);
    assert_int_equal(cal_p2p_mdns_stats_get(hosts[1], &other), 0);
    assert_true(one.queries >= 1 && other.queries >= 1);
    assert_true(one.discovered + other.discovered >= 1); /* whoever heard first has dialled */
    cal_p2p_mdns_stop(hosts[0]);                         /* the other one goes with its host */
    assert_int_equal(cal_p2p_mdns_stats_get(hosts[0], &one), CAL_ESTATE);
    assert_int_equal(cal_p2p_mdns_start(hosts[0], &err), 0); /* and again, in the same loop round */
    testing_net_deinit(&net);
}

static void put_ip(struct sockaddr_in *at, const char *ip) {
    assert_int_equal(uv_ip4_addr(ip, 5353, at), 0);
}

/* Only what comes from this machine's networks is heard. */
static void test_other_networks(void **state) {
    (void)state;
    static const struct {
        const char *from;
        bool near;
    } cases[] = {{"192.168.7.9", true}, {"192.168.7.1", true},   {"192.168.8.1", false},
                 {"127.0.0.1", true},   {"8.8.8.8", false},      {"10.1.2.3", true},
                 {"10.1.2.4", false},   {"192.168.6.255", false}};
    uv_interface_address_t list[4];
    struct sockaddr_in from;
    memset(list, 0, sizeof list);
    put_ip(&list[0].address.address4, "127.0.0.1");
    put_ip(&list[0].netmask.netmask4, "255.0.0.0");
    list[1].address.address6.sin6_family = AF_INET6; /* a mask of zeros, of another family */
    put_ip(&list[2].address.address4, "192.168.7.1");
    put_ip(&list[2].netmask.netmask4, "255.255.255.0");
    put_ip(&list[3].address.address4, "10.1.2.3");
    put_ip(&list[3].netmask.netmask4, "255.255.255.255");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_ip(&from, cases[i].from);
        assert_int_equal(net_multicast_near(list, 4, (struct sockaddr *)&from), cases[i].near);
    }
    put_ip(&from, "127.0.0.1");
    assert_false(net_multicast_near(NULL, 0, (struct sockaddr *)&from));
}

/* A transport without multicast is told from one that fails. */
static void test_unsupported(void **state) {
    (void)state;
    testing_net net;
    cal_error err;
    testing_net_init(&net);
    cal_p2p *host = testing_host(&net, NULL);
    net.transports[0]->multicast_join = NULL;
    assert_int_equal(cal_p2p_mdns_start(host, &err), CAL_EUNSUPPORTED);
    testing_net_deinit(&net);
}

/* Regression: the socket kept the loop of a host that was stopped. */
static void test_stopped_host_ends(void **state) {
    (void)state;
    cal_p2p *host;
    cal_error err;
    assert_int_equal(cal_p2p_new(&(cal_p2p_options){0}, &host, &err), 0);
    assert_int_equal(cal_p2p_mdns_start(host, &err), 0);
    cal_p2p_stop(host);
    assert_int_equal(cal_p2p_run(host), 0);
    cal_p2p_free(host);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_discover), cmocka_unit_test(test_other_networks),
        cmocka_unit_test(test_unsupported), cmocka_unit_test(test_stopped_host_ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
