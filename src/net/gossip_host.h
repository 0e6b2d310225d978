/* Gossip over a host's connections: opens and accepts the meshsub streams, runs the heartbeat. What
 * gossip is, and its numbers, is in gossip.h. Loop thread of the host. */
#ifndef CAL_NET_GOSSIP_HOST_H
#define CAL_NET_GOSSIP_HOST_H

#include "net/gossip.h"
#include "net/net.h"

typedef struct gossip_host gossip_host;

typedef struct gossip_host_options {
    bool plain_ids, mesh_publish; /* as in gossip_options */
    /* What gossip tells, see gossip_event; GOSSIP_READY and GOSSIP_CLOSE stay here. Never called
     * inside a call into this module; may call all of it but gossip_host_free. The event's peer is
     * for gossip_peer_id and gossip_peer_score only. */
    void (*on_event)(void *user, const gossip_event *event);
    void *user;
} gossip_host_options;

/* On a host that is not yet connected, or is: then its peers are taken over. CAL_EEXISTS another
 * serves the protocol, CAL_ENOMEM, CAL_ELIMIT. Freed before its host. */
int gossip_host_new(cal_p2p *host, const gossip_host_options *options, gossip_host **ret_gossip);
void gossip_host_free(gossip_host *gossip); /* NULL allowed */

/* As the functions of gossip.h. */
int gossip_host_subscribe(gossip_host *gossip, cal_slice topic, bool validate, cal_error *err);
int gossip_host_unsubscribe(gossip_host *gossip, cal_slice topic);
int gossip_host_publish(gossip_host *gossip, cal_slice topic, cal_slice data, size_t *ret_peers,
                        cal_error *err);
int gossip_host_validated(gossip_host *gossip, uint64_t ticket, gossip_verdict verdict);
int gossip_host_score(gossip_host *gossip, const cal_peer_id *peer,
                      uint32_t score);                          /* CAL_ENOTFOUND: not connected */
const cal_gossip *gossip_host_state(const gossip_host *gossip); /* figures and topics */

#endif
