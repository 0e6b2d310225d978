/* One group of UDP datagrams on a libuv loop, for tcp.c's table. IPv4. Loop thread only. */
#ifndef CAL_NET_MULTICAST_H
#define CAL_NET_MULTICAST_H

#include <uv.h>

#include "net/net.h"

typedef struct net_multicast net_multicast;

typedef struct net_multicast_events {
    void (*received)(void *user, const uint8_t *bytes, size_t len);
    void (*closed)(void *user); /* the loop holds nothing of it any more; it is freed */
} net_multicast_events;

/* Whether a datagram from there is from this machine or from a network it is on (RFC 6762 11): in
 * the subnet of one of the interfaces. */
bool net_multicast_near(const uv_interface_address_t *interfaces, int count,
                        const struct sockaddr *from);
/* CAL_ENOMEM. `events` is not copied. Datagrams from other networks are dropped. */
int net_multicast_new(uv_loop_t *loop, const net_multicast_events *events, void *user,
                      net_multicast **ret_multicast);
/* Once. CAL_EIO, CAL_EUNSUPPORTED no IPv4 group. */
int net_multicast_join(net_multicast *multicast, const net_endpoint *group, cal_error *err);
void net_multicast_send(net_multicast *multicast, const uint8_t *bytes, size_t len);
/* Nothing is received any more; `closed` follows from the loop. */
void net_multicast_close(net_multicast *multicast);

#endif
