/* The socket of mDNS, see mdns_host.h. Each packet goes out on every IPv4 interface that does
 * multicast; interfaces are looked up anew whenever a question is sent, so that one that came up
 * later is found. */
#include "net/mdns_host.h"

#include <stdlib.h>

#include "base/error.h"

struct mdns_host {
    cal_p2p *host; /* NULL: freed, the socket is closing */
    cal_mdns *mdns;
    uv_udp_t socket;
    net_timer timer;
    cal_multiaddr addresses[MDNS_ADDRESSES_MAX]; /* as announced */
    size_t count;
    uint8_t packet[MDNS_PACKET_TAKEN_MAX];
};

/* Hands over the host's addresses when they are not what was announced last. */
static void announce(mdns_host *m) {
    cal_multiaddr now[MDNS_ADDRESSES_MAX] = {0};
    size_t count = cal_p2p_addresses(m->host, now, MDNS_ADDRESSES_MAX);
    if (count > MDNS_ADDRESSES_MAX) count = MDNS_ADDRESSES_MAX;
    bool same = count == m->count;
    for (size_t i = 0; i < count && same; i++)
        same = cal_multiaddr_equal(&now[i], &m->addresses[i]);
    if (same) return;
    memcpy(m->addresses, now, sizeof now);
    m->count = count;
    mdns_announce(m->mdns, now, count, net_now_ns(m->host));
}

/* Calls for each IPv4 interface with its address as text. */
static void each_interface(mdns_host *m, void (*call)(mdns_host *m, const char *ip, cal_slice),
                           cal_slice packet) {
    uv_interface_address_t *list;
    int count;
    if (uv_interface_addresses(&list, &count)) return;
    for (int i = 0; i < count; i++) {
        char ip[INET_ADDRSTRLEN];
        if (list[i].address.address4.sin_family != AF_INET) continue;
        if (uv_ip4_name(&list[i].address.address4, ip, sizeof ip) == 0) call(m, ip, packet);
    }
    uv_free_interface_addresses(list, count);
}

static void join_one(mdns_host *m, const char *ip, cal_slice packet) {
    (void)packet; /* "already a member" is what a second time says */
    uv_udp_set_membership(&m->socket, MDNS_ADDRESS_V4, ip, UV_JOIN_GROUP);
}

static void send_one(mdns_host *m, const char *ip, cal_slice packet) {
    struct sockaddr_in group;
    uv_buf_t buffer = uv_buf_init((char *)(uintptr_t)packet.data, (unsigned)packet.len);
    uv_ip4_addr(MDNS_ADDRESS_V4, MDNS_PORT, &group);
    if (uv_udp_set_multicast_interface(&m->socket, ip) == 0)
        uv_udp_try_send(&m->socket, &buffer, 1, (const struct sockaddr *)&group);
}

static void work(mdns_host *m) {
    cal_peer_id peer;
    cal_multiaddr address;
    cal_buffer packet;
    cal_buffer_init(&packet, 2 * MDNS_PACKET_MAX);
    while (mdns_next(m->mdns, &peer, &address)) {
        cal_p2p_learn(m->host, &peer, &address, 1);
        if (!cal_p2p_is_connected(m->host, &peer))
            cal_p2p_connect(m->host, &peer, &address, 1, NULL, NULL);
    }
    while (mdns_output(m->mdns, &packet, net_now_ns(m->host))) {
        each_interface(m, join_one, (cal_slice){0});
        each_interface(m, send_one, cal_buffer_slice(&packet));
        cal_buffer_reset(&packet);
    }
    cal_buffer_deinit(&packet);
    net_timer_set(m->host, &m->timer, mdns_deadline(m->mdns));
}

static void on_timer(void *user, uint64_t now_ns) {
    (void)now_ns;
    announce(user);
    work(user);
}

static void on_buffer(uv_handle_t *handle, size_t size, uv_buf_t *ret_buffer) {
    mdns_host *m = handle->data;
    (void)size;
    *ret_buffer = uv_buf_init((char *)m->packet, sizeof m->packet);
}

static void on_packet(uv_udp_t *socket, ssize_t len, const uv_buf_t *buffer,
                      const struct sockaddr *from, unsigned flags) {
    mdns_host *m = socket->data;
    if (!m->host || !from || len <= 0 || flags & UV_UDP_PARTIAL) return;
    mdns_receive(m->mdns, (cal_slice){(const uint8_t *)buffer->base, (size_t)len},
                 net_now_ns(m->host));
    work(m);
}

static void on_closed(uv_handle_t *handle) { free(handle->data); }

int mdns_host_new(cal_p2p *host, uv_loop_t *loop, mdns_host **ret_mdns, cal_error *err) {
    mdns_host *m = calloc(1, sizeof *m);
    cal_peer_id self;
    uint64_t random;
    if (!m) return cal_fail(err, CAL_ENOMEM, "no memory for mDNS");
    cal_p2p_id(host, &self);
    net_random(host, &random, sizeof random);
    m->host = host;
    m->socket.data = m;
    if (mdns_new(&self, random, net_now_ns(host), &m->mdns) || uv_udp_init(loop, &m->socket)) {
        mdns_free(m->mdns);
        free(m);
        return cal_fail(err, CAL_ENOMEM, "no memory for mDNS");
    }
    struct sockaddr_in any;
    uv_ip4_addr("0.0.0.0", MDNS_PORT, &any);
    int result = uv_udp_bind(&m->socket, (const struct sockaddr *)&any, UV_UDP_REUSEADDR);
    if (!result) result = uv_udp_recv_start(&m->socket, on_buffer, on_packet);
    if (result) {
        mdns_free(m->mdns);
        m->host = NULL;
        uv_close((uv_handle_t *)&m->socket, on_closed);
        return cal_fail(err, CAL_EIO,
                        "mDNS cannot listen on UDP port %d: %s; turn it off, or the "
                        "program that holds the port",
                        MDNS_PORT, uv_strerror(result));
    }
    uv_udp_set_multicast_loop(&m->socket, 1); /* other peers on this machine hear us */
    uv_udp_set_multicast_ttl(&m->socket, 255);
    each_interface(m, join_one, (cal_slice){0});
    net_timer_start(host, &m->timer, m, on_timer);
    announce(m);
    net_timer_set(host, &m->timer, mdns_deadline(m->mdns));
    *ret_mdns = m;
    return 0;
}

void mdns_host_free(mdns_host *m) {
    if (!m) return;
    net_timer_stop(&m->timer);
    mdns_free(m->mdns);
    m->mdns = NULL;
    m->host = NULL;
    uv_close((uv_handle_t *)&m->socket, on_closed);
}

const cal_mdns *mdns_host_state(const mdns_host *m) { return m->mdns; }
