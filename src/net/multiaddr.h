/* Walking a multiaddr's parts. */
#ifndef CAL_NET_MULTIADDR_H
#define CAL_NET_MULTIADDR_H

#include "net/net.h"

enum multiaddr_code {
    MULTIADDR_IP4 = 4,
    MULTIADDR_TCP = 6,
    MULTIADDR_IP6 = 41,
    MULTIADDR_IP6ZONE = 42,
    MULTIADDR_DNS = 53,
    MULTIADDR_DNS4 = 54,
    MULTIADDR_DNS6 = 55,
    MULTIADDR_DNSADDR = 56,
    MULTIADDR_UDP = 273,
    MULTIADDR_P2P_CIRCUIT = 290,
    MULTIADDR_P2P = 421,
    MULTIADDR_TLS = 448,
    MULTIADDR_SNI = 449,
    MULTIADDR_QUIC = 460,
    MULTIADDR_QUIC_V1 = 461,
    MULTIADDR_WS = 477,
    MULTIADDR_WSS = 478,
};

enum { MULTIADDR_NAME_MAX = 253 };

/* Where a dial goes: an address or a name, a port, whose peer. */
typedef struct multiaddr_target {
    enum multiaddr_code host; /* IP4, IP6, DNS, DNS4, DNS6 */
    net_endpoint endpoint;    /* the address only for IP4 and IP6 */
    char name[MULTIADDR_NAME_MAX + 1];
    bool has_peer;
    cal_peer_id peer;
} multiaddr_target;

/* The address as something TCP can dial; CAL_EUNSUPPORTED when it is none. */
int multiaddr_target_of(const cal_multiaddr *address, multiaddr_target *ret_target);

/* The first part of `rest`, which moves behind it. CAL_ENOTFOUND at the end, CAL_EDECODE,
 * CAL_EUNSUPPORTED. value: what follows code and length. */
int multiaddr_next(cal_slice *rest, uint32_t *ret_code, cal_slice *ret_value);

#endif
