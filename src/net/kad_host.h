/* Kademlia over a host's streams: serves others, and carries the requests of our walks. What is
 * found and put is in kad.h. Loop thread of the host. */
#ifndef CAL_NET_KAD_HOST_H
#define CAL_NET_KAD_HOST_H

#include "net/kad.h"
#include "net/net.h"

typedef struct kad_host kad_host;

/* on_result is told what walks found and when they end, never inside a call into this module.
 * CAL_EEXISTS another serves the protocol, CAL_ENOMEM, CAL_ELIMIT. Freed before its host. */
int kad_host_new(cal_p2p *host, void (*on_result)(void *user, const kad_result *result), void *user,
                 kad_host **ret_kad);
void kad_host_free(kad_host *kad); /* NULL allowed */

/* As in kad.h; put signs that this host holds the blob. */
int kad_host_put(kad_host *kad, const uint8_t key[KAD_KEY_LEN], uint64_t size, uint64_t *ret_walk);
int kad_host_get(kad_host *kad, const uint8_t key[KAD_KEY_LEN], uint64_t *ret_walk);
int kad_host_find(kad_host *kad, const cal_peer_id *peer, uint64_t *ret_walk);
void kad_host_forget(kad_host *kad, const uint8_t key[KAD_KEY_LEN]);
const cal_kad *kad_host_state(const kad_host *kad);

#endif
