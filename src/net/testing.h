/* For the tests of net: hosts on one libuv loop, run until something holds. */
#ifndef CAL_NET_TESTING_H
#define CAL_NET_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include "base/error.h"
#include "net/internal.h"
#include "net/tcp.h"

enum { TESTING_TIMEOUT_MS = 60000, TESTING_HOSTS_MAX = 8 };

typedef struct testing_net {
    uv_loop_t loop;
    uv_timer_t guard;
    cal_p2p *hosts[TESTING_HOSTS_MAX];
    net_transport *transports[TESTING_HOSTS_MAX];
    size_t count;
} testing_net;

static void testing_expired(uv_timer_t *timer) {
    (void)timer;
    fail_msg("nothing happened in time");
}

static inline void testing_net_init(testing_net *net) {
    memset(net, 0, sizeof *net);
    cal_os_block_sigpipe();
    assert_int_equal(uv_loop_init(&net->loop), 0);
    uv_timer_init(&net->loop, &net->guard);
}

/* A host that listens on a port of its own on 127.0.0.1. */
static inline cal_p2p *testing_host(testing_net *net, const cal_p2p_options *given) {
    const char *const listen[] = {"/ip4/127.0.0.1/tcp/0"};
    cal_p2p_options options = given ? *given : (cal_p2p_options){0};
    cal_error err = {0};
    if (!options.listen) options.listen = listen, options.listen_count = 1;
    assert_true(net->count < TESTING_HOSTS_MAX);
    assert_int_equal(net_tcp_new(&net->loop, &net->transports[net->count]), 0);
    int result = net_host_new(&options, net->transports[net->count], cal_os_posix(),
                              &net->hosts[net->count], &err);
    if (result) fail_msg("%s", err.message);
    return net->hosts[net->count++];
}

static inline void testing_address(const cal_p2p *host, cal_multiaddr *ret_address) {
    cal_peer_id id;
    assert_true(cal_p2p_addresses(host, ret_address, 1) >= 1);
    cal_p2p_id(host, &id);
    assert_int_equal(cal_multiaddr_set_peer(ret_address, &id), 0);
}

static inline void testing_until(testing_net *net, bool (*holds)(void *user), void *user) {
    uv_timer_start(&net->guard, testing_expired, TESTING_TIMEOUT_MS, 0);
    while (!holds(user)) uv_run(&net->loop, UV_RUN_ONCE);
    uv_timer_stop(&net->guard);
}

static inline void testing_drop(testing_net *net, size_t i) {
    net_host_free(net->hosts[i]);
    net_tcp_free(net->transports[i], NULL, NULL);
    net->hosts[i] = NULL;
    net->transports[i] = NULL;
}

static inline void testing_net_deinit(testing_net *net) {
    for (size_t i = 0; i < net->count; i++)
        if (net->hosts[i]) testing_drop(net, i);
    uv_close((uv_handle_t *)&net->guard, NULL);
    uv_run(&net->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&net->loop), 0);
}

struct testing_both {
    cal_p2p *a, *b;
};
static inline bool testing_see_each_other(void *user) {
    struct testing_both *both = user;
    cal_peer_id a, b;
    cal_p2p_id(both->a, &a);
    cal_p2p_id(both->b, &b);
    return cal_p2p_is_connected(both->a, &b) && cal_p2p_is_connected(both->b, &a);
}
static inline void testing_connect(testing_net *net, cal_p2p *a, cal_p2p *b) {
    cal_multiaddr address;
    testing_address(b, &address);
    cal_p2p_connect(a, NULL, &address, 1, NULL, NULL);
    testing_until(net, testing_see_each_other, &(struct testing_both){a, b});
}

#endif
