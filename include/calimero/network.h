/* A node's place in the network: how it is reached, whom it calls, who is connected.
 *
 * A node is one peer, whose key is made with its store and kept there. It hears the topics of its
 * namespaces and contexts, and speaks the network's stream protocols. What it does beyond that is
 * calimero/p2p.h on the node's own host. Threads and errors: calimero/node.h. */
#ifndef CALIMERO_NETWORK_H
#define CALIMERO_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "calimero/error.h"
#include "calimero/p2p.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cal_node cal_node;

/* All zero: the node listens nowhere and calls nobody. Copied when the node starts. */
typedef struct cal_network_options {
    const char *const *listen; /* multiaddrs: "/ip4/0.0.0.0/tcp/2428" */
    size_t listen_count;
    const char *const *external; /* multiaddrs that others reach it at beside those it listens on */
    size_t external_count;
    /* Multiaddrs of nodes that are called at once and for good. What cannot be dialled from here
     * (QUIC, relays, dnsaddr) is left out with a warning in the log. */
    const char *const *bootstrap;
    size_t bootstrap_count;
    uint32_t peers_wanted; /* while fewer are connected, known ones are dialled; default 16 */
    bool mdns;             /* finds and is found by nodes of the local network */
    /* The name under which nodes of one network meet at those that serve rendezvous; NULL: never.
     * Namespaces and contexts then have names there too. */
    const char *rendezvous_name;
    uint32_t rendezvous_points_max; /* where it registers at once; default 3 */
    /* A libp2p private key (Ed25519, base58 of its protobuf form) that becomes the node's own. */
    const char *keypair;
    const char *peer_id; /* what `keypair` must belong to; NULL: anything */
    cal_p2p_limits limits;
} cal_network_options;

/* The node's own host. It and everything of calimero/p2p.h that takes it belong to the loop thread:
 * call them from a callback or cal_node_run. NULL while the node stops. */
cal_p2p *cal_node_p2p(cal_node *node);
/* Any thread. */
void cal_node_peer_id(cal_node *node, cal_peer_id *ret_id);

/* Counts of what the node's own part of the network does. */
#define CAL_NETWORK_COUNTERS(X)                                                                    \
    X(topics_refused, "topics not heard because there are too many")                               \
    X(peers_unsaved, "peers whose addresses could not be written to the store")

typedef struct cal_network_stats {
#define CAL_NETWORK_COUNTER_FIELD(name, text) uint64_t name;
    CAL_NETWORK_COUNTERS(CAL_NETWORK_COUNTER_FIELD)
#undef CAL_NETWORK_COUNTER_FIELD
} cal_network_stats;
void cal_network_stats_get(cal_node *node, cal_network_stats *ret_stats);

#ifdef __cplusplus
}
#endif
#endif
