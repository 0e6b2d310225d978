/* mDNS for a host: a UDP socket on the loop, and what is discovered is dialled. Loop thread. */
#ifndef CAL_NET_MDNS_HOST_H
#define CAL_NET_MDNS_HOST_H

#include <uv.h>

#include "net/mdns.h"
#include "net/net.h"

typedef struct mdns_host mdns_host;

/* Joins the group on all IPv4 interfaces. CAL_EIO with err: no socket on port 5353. */
int mdns_host_new(cal_p2p *host, uv_loop_t *loop, mdns_host **ret_mdns, cal_error *err);
/* Before its host; the socket closes in the loop's next round. NULL allowed. */
void mdns_host_free(mdns_host *mdns);
const cal_mdns *mdns_host_state(const mdns_host *mdns);

#endif
