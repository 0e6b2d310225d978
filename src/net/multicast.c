/* The socket of a multicast group, see multicast.h. Each datagram goes out on every IPv4 interface;
 * interfaces are looked up anew for each, so that one that came up later is heard too (for mDNS one
 * datagram in minutes). Sending never waits: what the kernel does not take at once is lost, as any
 * datagram may be. */
#include "net/multicast.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "base/error.h"

enum { DATAGRAM_MAX = 9000, HOPS = 255 }; /* RFC 6762 17, 11 */
enum { NEAR_MS = 5000 };                  /* a flood does not ask for the interfaces each time */

struct net_multicast {
    uv_udp_t udp; /* data: this */
    const net_multicast_events *events;
    void *user;
    struct sockaddr_in group;
    char group_text[INET_ADDRSTRLEN];
    uv_interface_address_t *interfaces; /* as they were at, NULL: never looked */
    int interface_count;
    uint64_t looked_ms;
    uint8_t bytes[DATAGRAM_MAX];
};

int net_multicast_new(uv_loop_t *loop, const net_multicast_events *events, void *user,
                      net_multicast **ret_multicast) {
    net_multicast *multicast = calloc(1, sizeof *multicast);
    if (!multicast) return CAL_ENOMEM;
    if (uv_udp_init(loop, &multicast->udp)) {
        free(multicast);
        return CAL_ENOMEM;
    }
    multicast->udp.data = multicast;
    multicast->events = events;
    multicast->user = user;
    *ret_multicast = multicast;
    return 0;
}

/* Calls for each IPv4 interface with its address as text. */
static void each_interface(net_multicast *multicast,
                           void (*call)(net_multicast *multicast, const char *ip, cal_slice bytes),
                           cal_slice bytes) {
    uv_interface_address_t *list;
    int count;
    if (uv_interface_addresses(&list, &count)) return;
    for (int i = 0; i < count; i++) {
        char ip[INET_ADDRSTRLEN];
        if (list[i].address.address4.sin_family != AF_INET) continue;
        if (uv_ip4_name(&list[i].address.address4, ip, sizeof ip) == 0) call(multicast, ip, bytes);
    }
    uv_free_interface_addresses(list, count);
}

static void join_one(net_multicast *multicast, const char *ip, cal_slice bytes) {
    (void)bytes; /* "already a member" is what a second time says */
    uv_udp_set_membership(&multicast->udp, multicast->group_text, ip, UV_JOIN_GROUP);
}

static void send_one(net_multicast *multicast, const char *ip, cal_slice bytes) {
    uv_buf_t buffer = uv_buf_init((char *)(uintptr_t)bytes.data, (unsigned)bytes.len);
    if (uv_udp_set_multicast_interface(&multicast->udp, ip) == 0)
        uv_udp_try_send(&multicast->udp, &buffer, 1, (const struct sockaddr *)&multicast->group);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buffer) {
    net_multicast *multicast = handle->data;
    (void)suggested;
    *ret_buffer = uv_buf_init((char *)multicast->bytes, sizeof multicast->bytes);
}

bool net_multicast_near(const uv_interface_address_t *interfaces, int count,
                        const struct sockaddr *from) {
    if (from->sa_family != AF_INET) return false;
    uint32_t source = ((const struct sockaddr_in *)from)->sin_addr.s_addr;
    for (int i = 0; i < count; i++) {
        const uv_interface_address_t *one = &interfaces[i];
        if (one->address.address4.sin_family != AF_INET) continue;
        uint32_t mask = one->netmask.netmask4.sin_addr.s_addr;
        if (((one->address.address4.sin_addr.s_addr ^ source) & mask) == 0) return true;
    }
    return false;
}

static void forget_interfaces(net_multicast *multicast) {
    if (multicast->interfaces)
        uv_free_interface_addresses(multicast->interfaces, multicast->interface_count);
    multicast->interfaces = NULL;
    multicast->interface_count = 0;
}

static bool is_near(net_multicast *multicast, const struct sockaddr *from) {
    uint64_t now_ms = uv_now(multicast->udp.loop);
    if (!multicast->interfaces || now_ms - multicast->looked_ms >= NEAR_MS) {
        forget_interfaces(multicast);
        if (uv_interface_addresses(&multicast->interfaces, &multicast->interface_count)) {
            multicast->interfaces = NULL;
            multicast->interface_count = 0;
        }
        multicast->looked_ms = now_ms;
    }
    return net_multicast_near(multicast->interfaces, multicast->interface_count, from);
}

/* Datagrams that were cut to fit are not whole and not told. */
static void on_received(uv_udp_t *udp, ssize_t len, const uv_buf_t *buffer,
                        const struct sockaddr *from, unsigned flags) {
    net_multicast *multicast = udp->data;
    if (!from || len <= 0 || flags & UV_UDP_PARTIAL || !is_near(multicast, from)) return;
    multicast->events->received(multicast->user, (const uint8_t *)buffer->base, (size_t)len);
}

int net_multicast_join(net_multicast *multicast, const net_endpoint *group, cal_error *err) {
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(group->port)};
    if (group->address.len != 4) return cal_fail(err, CAL_EUNSUPPORTED, "only IPv4 groups");
    multicast->group = any;
    memcpy(&multicast->group.sin_addr, group->address.bytes, 4);
    uv_ip4_name(&multicast->group, multicast->group_text, sizeof multicast->group_text);
    int status = uv_udp_bind(&multicast->udp, (const struct sockaddr *)&any, UV_UDP_REUSEADDR);
    if (!status) status = uv_udp_recv_start(&multicast->udp, on_alloc, on_received);
    if (status)
        return cal_fail(err, CAL_EIO, "cannot listen on UDP port %u: %s", group->port,
                        uv_strerror(status));
    uv_udp_set_multicast_loop(&multicast->udp, 1); /* other peers on this machine hear us */
    uv_udp_set_multicast_ttl(&multicast->udp, HOPS);
    each_interface(multicast, join_one, (cal_slice){0});
    return 0;
}

void net_multicast_send(net_multicast *multicast, const uint8_t *bytes, size_t len) {
    each_interface(multicast, join_one, (cal_slice){0});
    each_interface(multicast, send_one, (cal_slice){bytes, len});
}

static void on_closed(uv_handle_t *handle) {
    net_multicast *multicast = handle->data;
    const net_multicast_events *events = multicast->events;
    void *user = multicast->user;
    forget_interfaces(multicast);
    free(multicast);
    events->closed(user);
}

void net_multicast_close(net_multicast *multicast) {
    uv_udp_recv_stop(&multicast->udp);
    uv_close((uv_handle_t *)&multicast->udp, on_closed);
}
