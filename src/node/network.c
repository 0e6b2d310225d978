/* The node's part in the network: its host on the node's loop, the topics of its namespaces and
 * contexts, the peers it knows kept in the store. See include/calimero/network.h.
 *
 * Topics follow the rows: `ns/` and the hex id for a namespace (all of its governance, its groups'
 * too), the base58 id for a context (network-sync.md 1, "Topics"). Where rendezvous is on, each has
 * a name there as well. What is said on them is gossip's
 * to check and pass on; what it means comes with shared contexts. Loop thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/text.h"
#include "node/internal.h"

enum { POINTS_MAX = 16 /* as p2p.h has it; config.toml may say up to 100 */ };
enum { PEERS_WANTED = 16, PEER_KEY_MAX = 8 + CAL_PEER_ID_MAX, RECORD_MAX = 16 * 1024 };
enum { DROPS_MAX = 4096 }; /* rows deleted at one start */

static const char peer_prefix[] = "peer/";

/* --- the peers it knows, in the store --- */

static cal_slice peer_key(const cal_peer_id *peer, uint8_t ret_key[PEER_KEY_MAX]) {
    size_t len = sizeof peer_prefix - 1;
    memcpy(ret_key, peer_prefix, len);
    memcpy(ret_key + len, peer->bytes, peer->len);
    return cal_slice_of(ret_key, len + peer->len);
}

/* On the store's writer thread. A peer that is not saved is found again in other ways. */
static void on_saved(void *user, int result) {
    node_network *network = user;
    if (result) atomic_fetch_add(&network->peers_unsaved, 1);
}

static void save_peer(void *user, const cal_peer_id *peer, const uint8_t *record, size_t len) {
    cal_node *node = user;
    uint8_t key[PEER_KEY_MAX];
    cal_batch *batch = cal_batch_new();
    if (!batch) {
        on_saved(&node->network, CAL_ENOMEM);
        return;
    }
    cal_batch_put(batch, CAL_COLUMN_NODE, peer_key(peer, key), cal_slice_of(record, len));
    cal_store_submit(node->store, batch, on_saved, &node->network);
}

static void drop_peer(void *user, const cal_peer_id *peer) {
    cal_node *node = user;
    uint8_t key[PEER_KEY_MAX];
    cal_batch *batch = cal_batch_new();
    if (!batch) return; /* it comes back at the next start, and goes then */
    cal_batch_delete(batch, CAL_COLUMN_NODE, peer_key(peer, key));
    cal_store_submit(node->store, batch, on_saved, &node->network);
}

/* Damaged rows, and those there is no room for, are deleted: a peer's address is not worth refusing
 * to start for, nor reading again each time. */
static int restore_peers(cal_node *node, cal_error *err) {
    cal_snapshot *snapshot = NULL;
    cal_cursor *cursor = NULL;
    cal_slice key, record, prefix = cal_slice_text(peer_prefix);
    cal_buffer end;
    size_t refused = 0;
    cal_batch *gone = cal_batch_new(); /* NULL: they go the next time */
    cal_buffer_init(&end, sizeof peer_prefix);
    cal_prefix_end(prefix, &end);
    int rc = cal_store_snapshot(node->store, &snapshot);
    if (rc == 0)
        rc = cal_cursor_open(snapshot, CAL_COLUMN_NODE, prefix, cal_buffer_slice(&end), false,
                             &cursor);
    while (rc == 0 && (rc = cal_cursor_next(cursor, &key, &record)) == 0) {
        cal_peer_id id;
        if (cal_peer_id_from_bytes(key.data + prefix.len, key.len - prefix.len, &id) ||
            cal_p2p_restore(node->network.host, &id, record.data, record.len)) {
            if (gone && refused < DROPS_MAX) cal_batch_delete(gone, CAL_COLUMN_NODE, key);
            refused++;
        }
    }
    cal_cursor_free(cursor);
    cal_snapshot_free(snapshot);
    cal_buffer_deinit(&end);
    if (gone && refused)
        cal_store_submit(node->store, gone, on_saved, &node->network);
    else
        cal_batch_free(gone);
    if (refused)
        cal_log(CAL_LOG_WARN, "network",
                "%zu known peers are damaged or too many, and are left out", refused);
    return rc == CAL_ENOTFOUND
               ? 0
               : cal_fail(err, rc, "the known peers cannot be read: %s", cal_error_text(rc));
}

/* --- topics --- */

enum { NAMESPACE_PREFIX = 3 };

void node_namespace_topic(const cal_group_id *id, char ret_topic[NODE_TOPIC_MAX]) {
    memcpy(ret_topic, "ns/", NAMESPACE_PREFIX);
    cal_hex_encode(cal_slice_of(id->bytes, sizeof id->bytes), ret_topic + NAMESPACE_PREFIX);
}

void node_context_topic(const cal_context_id *id, char ret_topic[NODE_TOPIC_MAX]) {
    cal_id_to_base58(id->bytes, ret_topic);
}

/* Where rendezvous is off the answer is CAL_ESTATE, and all is well. */
static void meet(cal_p2p *host, const char *kind, const char *id, bool hears) {
    char name[NODE_MEETING_MAX];
    snprintf(name, sizeof name, "/calimero/%s/%s", kind, id);
    if (hears)
        cal_p2p_rendezvous_join(host, name);
    else
        cal_p2p_rendezvous_leave(host, name);
}

static void hear(cal_node *node, const char *topic) {
    cal_error err;
    int rc = cal_p2p_subscribe(node->network.host, topic, false, &err);
    if (rc == 0 || rc == CAL_EEXISTS) return;
    if (node->network.stats.topics_refused++ == 0)
        cal_log(CAL_LOG_WARN, "network", "topic %s is not heard: %s", topic, err.message);
}

static void unhear(cal_node *node, const char *topic) {
    cal_p2p_unsubscribe(node->network.host, topic);
}

void node_hear_namespace(cal_node *node, const cal_group_id *id, bool hears) {
    char topic[NODE_TOPIC_MAX];
    if (!node->network.host) return; /* the node stops */
    node_namespace_topic(id, topic);
    (hears ? hear : unhear)(node, topic);
    meet(node->network.host, "ns", topic + NAMESPACE_PREFIX, hears);
}

void node_hear_context(cal_node *node, const cal_context_id *id, bool hears) {
    char topic[NODE_TOPIC_MAX];
    if (!node->network.host) return; /* the node stops */
    node_context_topic(id, topic);
    (hears ? hear : unhear)(node, topic);
    meet(node->network.host, "ctx", topic, hears);
}

static void hear_group(void *user, const gov_group_info *info) {
    cal_node *node = user;
    node_hear_namespace(node, &info->id, true);
}

/* --- life --- */

static int make_host(cal_node *node, const cal_secret *seed, cal_error *err) {
    const cal_network_options *options = &node->options.network;
    const char **bootstrap = calloc(options->bootstrap_count + 1, sizeof *bootstrap);
    if (!bootstrap) return cal_fail(err, CAL_ENOMEM, "no memory for the network");
    cal_p2p_options host = {.seed = seed->bytes,
                            .listen = options->listen,
                            .listen_count = options->listen_count,
                            .external = options->external,
                            .external_count = options->external_count,
                            .bootstrap = bootstrap,
                            .peers_wanted =
                                options->peers_wanted ? options->peers_wanted : PEERS_WANTED,
                            .agent = "calimero-c/" NODE_VERSION,
                            .limits = options->limits,
                            .shelf = {.user = node, .save = save_peer, .drop = drop_peer}};
    int rc = 0;
    for (size_t i = 0; i < options->bootstrap_count && rc == 0; i++) {
        cal_error why;
        rc = cal_multiaddr_dialable(options->bootstrap[i], &why);
        if (rc == 0) {
            bootstrap[host.bootstrap_count++] = options->bootstrap[i];
        } else if (rc == CAL_EUNSUPPORTED) { /* others may have it in their lists */
            cal_log(CAL_LOG_WARN, "network", "boot node %s is left out", why.message);
            rc = 0;
        } else {
            cal_fail(err, rc, "boot node %s", why.message);
        }
    }
    if (rc == 0 &&
        (rc = node->world->transport_new(node->world->user, &node->network.transport)) != 0)
        cal_fail(err, rc, "no memory for the network");
    if (rc == 0)
        rc = net_host_new(&host, node->network.transport, node->os, &node->network.host, err);
    free(bootstrap);
    if (rc == CAL_EIO && err) {
        cal_error why = *err;
        cal_fail(err, rc, "%s; choose other addresses with swarm.listen", why.message);
    }
    return rc;
}

/* A machine where mDNS cannot be had (another program holds the port) is no reason not to start. */
static void start_mdns(cal_node *node) {
    cal_error err;
    if (!node->options.network.mdns) return;
    if (cal_p2p_mdns_start(node->network.host, &err))
        cal_log(CAL_LOG_WARN, "network", "nodes of the local network are not looked for: %s",
                err.message);
}

static int start_rendezvous(cal_node *node) {
    const cal_network_options *options = &node->options.network;
    uint32_t wanted = options->rendezvous_points_max;
    cal_p2p_rendezvous_options rendezvous = {.points_max =
                                                 wanted < POINTS_MAX ? wanted : POINTS_MAX};
    if (!options->rendezvous_name) return 0;
    int rc = cal_p2p_rendezvous_start(node->network.host, &rendezvous);
    return rc ? rc : cal_p2p_rendezvous_join(node->network.host, options->rendezvous_name);
}

static int start_protocols(cal_node *node, cal_error *err) {
    cal_p2p *host = node->network.host;
    int rc = node_share_start(node);
    if (rc == 0) rc = node_blobs_open(node);
    cal_p2p_gossip_options gossip = {
        .message = node_share_heard, .subscribed = node_share_subscribed, .user = node};
    if (rc == 0) rc = cal_p2p_gossip_start(host, &gossip);
    if (rc == 0) rc = cal_p2p_kad_start(host);
    if (rc == 0) rc = start_rendezvous(node);
    if (rc == 0) start_mdns(node);
    return rc ? cal_fail(err, rc, "the network's protocols cannot be set up: %s",
                         cal_error_text(rc))
              : 0;
}

int node_network_open(cal_node *node, cal_error *err) {
    cal_secret seed;
    int rc = node_network_key(node->store, node->world->os, &node->options.network, &seed, err);
    if (rc == 0) rc = make_host(node, &seed, err);
    cal_secret_wipe(&seed);
    if (rc == 0) {
        cal_p2p_id(node->network.host, &node->network.id);
        rc = restore_peers(node, err);
    }
    if (rc == 0) rc = start_protocols(node, err);
    if (rc == 0) rc = cal_sync_open(node->sync, err);
    if (rc == 0) gov_namespace_each(node->gov, hear_group, node);
    return rc;
}

void node_network_free(cal_node *node) {
    node_blobs_quit(node);
    if (node->sync) cal_sync_quit(node->sync);
    net_host_free(node->network.host);
    node->network.host = NULL;
    node->world->transport_free(node->world->user, node->network.transport, NULL, NULL);
    node->network.transport = NULL;
}

static void on_transport_gone(void *user) {
    node_network *network = user;
    network->closed(network->closed_user);
}

static void on_host_done(void *user) {
    cal_node *node = user;
    net_transport *transport = node->network.transport;
    net_host_free(node->network.host);
    node->network.host = NULL;
    node->network.transport = NULL;
    node->world->transport_free(node->world->user, transport, on_transport_gone, &node->network);
}

void node_network_close(cal_node *node, void (*done)(void *user), void *user) {
    if (!node->network.host) { /* the power went */
        done(user);
        return;
    }
    node->network.closed = done;
    node->network.closed_user = user;
    net_host_shutdown(node->network.host, on_host_done, node);
}

cal_p2p *cal_node_p2p(cal_node *node) { return node->network.host; }

void cal_node_peer_id(cal_node *node, cal_peer_id *ret_id) { *ret_id = node->network.id; }

struct stats_request {
    cal_node *node;
    cal_network_stats *stats;
};

static void gather(void *arg) {
    struct stats_request *request = arg;
    *request->stats = request->node->network.stats;
    request->stats->peers_unsaved = atomic_load(&request->node->network.peers_unsaved);
}

void cal_network_stats_get(cal_node *node, cal_network_stats *ret_stats) {
    struct stats_request request = {node, ret_stats};
    cal_node_run(node, gather, &request);
}
