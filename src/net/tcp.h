/* TCP for a host, over a libuv loop; with multicast.c the only file of net with sockets. Loop
 * thread only. */
#ifndef CAL_NET_TCP_H
#define CAL_NET_TCP_H

#include <uv.h>

#include "net/net.h"

/* A transport on the caller's loop. CAL_ENOMEM, CAL_EIO. */
int net_tcp_new(uv_loop_t *loop, net_transport **ret_transport);
/* Closes what is still open and frees it; `done` (may be NULL) is called when the loop holds
 * nothing of it any more. After the host was freed. */
void net_tcp_free(net_transport *transport, void (*done)(void *user), void *user);

#endif
