/* The node's place in the network: http-api.md 5.3 (peers, network/status) and its figures. What a
 * reference node does not tell ("peers" beside "count", "topics") is added, never in place of what
 * its clients read. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "api/api.h"
#include "calimero/network.h"
#include "calimero/share.h"

enum { ADDRESSES_MAX = 64 };

typedef struct place {
    json_out out;
    yyjson_mut_val *list;
    uint64_t now_ns;
} place;

static void add_address(json_out *out, yyjson_mut_val *list, const cal_multiaddr *address) {
    char text[CAL_MULTIADDR_TEXT_MAX];
    cal_multiaddr_text(address, text);
    json_push_text(out, list, text);
}

/* --- peers --- */

static void count_peer(void *user, const cal_p2p_peer *peer) {
    (void)peer;
    ++*(uint64_t *)user;
}

static void add_peer(void *user, const cal_p2p_peer *peer) {
    place *p = user;
    char id[CAL_PEER_ID_TEXT_MAX], address[CAL_MULTIADDR_TEXT_MAX], rtt[32];
    yyjson_mut_val *item = json_push_object(&p->out, p->list);
    cal_peer_id_text(&peer->id, id);
    cal_multiaddr_text(&peer->address, address);
    json_add_text(&p->out, item, "peerId", id);
    json_add_text(&p->out, item, "address", address);
    json_add_text(&p->out, item, "direction", peer->outgoing ? "outbound" : "inbound");
    json_add_u64(&p->out, item, "connectedSecs", (p->now_ns - peer->since_ns) / 1000000000u);
    snprintf(rtt, sizeof rtt, "%.3f", (double)peer->rtt_ns / 1e6);
    if (peer->rtt_ns)
        json_add_raw(&p->out, item, "rttMs", cal_slice_text(rtt));
    else
        json_add_null(&p->out, item, "rttMs");
    json_add_text(&p->out, item, "agent", peer->agent);
    json_add_text(&p->out, item, "protocolVersion", peer->protocol_version);
}

void admin_peers(http_exchange *exchange) {
    const cal_p2p *host = cal_node_p2p(api_node(exchange));
    place p = {.out = json_out_new()};
    uint64_t count = 0;
    if (host) cal_p2p_peers(host, count_peer, &count);
    json_add_u64(&p.out, p.out.root, "count", count);
    p.list = json_add_array(&p.out, p.out.root, "peers");
    if (host) {
        p.now_ns = cal_p2p_now_ns(host);
        cal_p2p_peers(host, add_peer, &p);
    }
    json_reply(exchange, 200, &p.out);
}

/* --- network/status --- */

static void add_topic(void *user, const char *topic, size_t peers, size_t mesh) {
    place *p = user;
    yyjson_mut_val *item = json_push_object(&p->out, p->list);
    json_add_text(&p->out, item, "topic", topic);
    json_add_u64(&p->out, item, "peers", peers);
    json_add_u64(&p->out, item, "mesh", mesh);
}

static void add_point(void *user, const cal_p2p_point *point) {
    static const char *const words[] = {[CAL_P2P_POINT_DISCOVERED] = "discovered",
                                        [CAL_P2P_POINT_REQUESTED] = "requested",
                                        [CAL_P2P_POINT_REGISTERED] = "registered",
                                        [CAL_P2P_POINT_EXPIRED] = "expired"};
    place *p = user;
    char id[CAL_PEER_ID_TEXT_MAX], since[32];
    yyjson_mut_val *item = json_push_object(&p->out, p->list);
    time_t at = time(NULL) - (time_t)(point->age_ns / 1000000000u);
    struct tm utc;
    cal_peer_id_text(&point->peer, id);
    json_add_text(&p->out, item, "peerId", id);
    json_add_text(&p->out, item, "registrationStatus", words[point->state]);
    if (gmtime_r(&at, &utc) && strftime(since, sizeof since, "%Y-%m-%dT%H:%M:%SZ", &utc))
        json_add_text(&p->out, item, "lastStateChange", since);
}

static void add_addresses(json_out *out, const cal_p2p *host) {
    cal_multiaddr addresses[ADDRESSES_MAX];
    size_t count = cal_p2p_addresses(host, addresses, ADDRESSES_MAX),
           external = cal_p2p_external_count(host);
    if (count > ADDRESSES_MAX) count = ADDRESSES_MAX;
    yyjson_mut_val *listens = json_add_array(out, out->root, "listenAddrs"),
                   *externals = json_add_array(out, out->root, "externalAddrs");
    for (size_t i = 0; i < count; i++)
        add_address(out, i < external ? externals : listens, &addresses[i]);
}

/* Nobody has told this node whether it can be reached: that takes AutoNAT. */
static void add_reachability(json_out *out) {
    static const char *const unknown[] = {"lastTestAddr", "lastTestResult", "lastTestReason",
                                          "lastTestObservedAddr", "lastTestAt"};
    yyjson_mut_val *autonat = json_add_object(out, out->root, "autonat");
    json_add_text(out, autonat, "reachability", "unknown");
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        json_add_null(out, autonat, unknown[i]);
}

void admin_network_status(http_exchange *exchange) {
    const cal_p2p *host = cal_node_p2p(api_node(exchange));
    place p = {.out = json_out_new()};
    cal_peer_id id;
    char text[CAL_PEER_ID_TEXT_MAX];
    uint64_t peers = 0;
    cal_node_peer_id(api_node(exchange), &id);
    cal_peer_id_text(&id, text);
    json_add_text(&p.out, p.out.root, "localPeerId", text);
    if (host) add_addresses(&p.out, host);
    json_add_array(&p.out, p.out.root, "relays"); /* none is used: this node speaks TCP alone */
    p.list = json_add_array(&p.out, p.out.root, "rendezvous");
    if (host) cal_p2p_rendezvous_points(host, add_point, &p);
    json_add_array(&p.out, p.out.root, "directUpgrades");
    add_reachability(&p.out);
    if (host) cal_p2p_peers(host, count_peer, &peers);
    json_add_u64(&p.out, p.out.root, "peers", peers);
    p.list = json_add_array(&p.out, p.out.root, "topics");
    if (host) cal_p2p_topics(host, add_topic, &p);
    json_reply(exchange, 200, &p.out);
}

/* --- figures --- */

static void figure(cal_buffer *out, metrics_kind kind, const char *name, const char *help,
                   uint64_t value) {
    metrics_write_head(out, kind, name, help);
    metrics_write_value(out, kind, name, "", (double)value);
}

static void collect_host(const cal_p2p *host, cal_buffer *out) {
    cal_p2p_stats s;
    cal_p2p_stats_get(host, &s);
#define COUNTER(name, text) figure(out, METRICS_COUNTER, "p2p_" #name, text, s.name);
    CAL_P2P_COUNTERS(COUNTER)
#undef COUNTER
    figure(out, METRICS_GAUGE, "p2p_connections", "open connections", s.connections);
    figure(out, METRICS_GAUGE, "p2p_connections_pending", "connections not yet secured", s.pending);
    figure(out, METRICS_GAUGE, "p2p_streams", "open streams", s.streams);
    figure(out, METRICS_GAUGE, "p2p_known_peers", "peers whose addresses are known", s.known_peers);
    figure(out, METRICS_GAUGE, "p2p_frame_bytes", "bytes of messages half received", s.frame_bytes);
    figure(out, METRICS_GAUGE, "p2p_unread_bytes", "bytes received and not consumed",
           s.unread_bytes);
    figure(out, METRICS_GAUGE, "p2p_unsent_bytes", "bytes written and not sent", s.unsent_bytes);
}

static void collect_gossip(const cal_p2p *host, cal_buffer *out) {
    cal_p2p_gossip_stats s;
    if (cal_p2p_gossip_stats_get(host, &s)) return;
#define COUNTER(name, text) figure(out, METRICS_COUNTER, "gossip_" #name, text, s.name);
    CAL_P2P_GOSSIP_COUNTERS(COUNTER)
#undef COUNTER
    figure(out, METRICS_GAUGE, "gossip_peers", "peers that gossip", s.peers);
    figure(out, METRICS_GAUGE, "gossip_topics", "topics heard", s.own_topics);
    figure(out, METRICS_GAUGE, "gossip_foreign_topics", "subscriptions of peers to other topics",
           s.foreign_topics);
    figure(out, METRICS_GAUGE, "gossip_seen", "message ids remembered", s.seen);
    figure(out, METRICS_GAUGE, "gossip_cached", "messages kept for those who ask", s.cached);
    figure(out, METRICS_GAUGE, "gossip_wants", "message ids asked for", s.wants);
    figure(out, METRICS_GAUGE, "gossip_message_bytes", "bytes of messages in memory",
           s.message_bytes);
    figure(out, METRICS_GAUGE, "gossip_control_bytes", "bytes of control that wait for peers",
           s.control_bytes);
    figure(out, METRICS_GAUGE, "gossip_backoffs", "pauses between GRAFTs that are remembered",
           s.backoffs);
}

static void collect_discovery(const cal_p2p *host, cal_buffer *out) {
    cal_p2p_mdns_stats mdns;
    cal_p2p_kad_stats kad;
    cal_p2p_rendezvous_stats rendezvous;
#define COUNTER(name, text) figure(out, METRICS_COUNTER, "mdns_" #name, text, mdns.name);
    if (cal_p2p_mdns_stats_get(host, &mdns) == 0) {
        CAL_P2P_MDNS_COUNTERS(COUNTER)
    }
#undef COUNTER
#define COUNTER(name, text) figure(out, METRICS_COUNTER, "kad_" #name, text, kad.name);
    if (cal_p2p_kad_stats_get(host, &kad) == 0) {
        CAL_P2P_KAD_COUNTERS(COUNTER)
        figure(out, METRICS_GAUGE, "kad_peers", "peers in the table", kad.peers);
        figure(out, METRICS_GAUGE, "kad_records", "records kept for others", kad.records);
        figure(out, METRICS_GAUGE, "kad_own_records", "records kept known", kad.own);
        figure(out, METRICS_GAUGE, "kad_walks", "searches under way", kad.walks);
    }
#undef COUNTER
#define COUNTER(name, text)                                                                        \
    figure(out, METRICS_COUNTER, "rendezvous_" #name, text, rendezvous.name);
    if (cal_p2p_rendezvous_stats_get(host, &rendezvous) == 0) {
        CAL_P2P_RENDEZVOUS_COUNTERS(COUNTER)
        figure(out, METRICS_GAUGE, "rendezvous_points", "points in use", rendezvous.points);
        figure(out, METRICS_GAUGE, "rendezvous_registrations", "registrations that points keep",
               rendezvous.registrations);
        figure(out, METRICS_GAUGE, "rendezvous_names", "names met under", rendezvous.names);
    }
#undef COUNTER
}

void network_collect(void *node, cal_buffer *out) {
    const cal_p2p *host = cal_node_p2p(node);
    cal_network_stats s;
    if (!host) return; /* the node stops */
    collect_host(host, out);
    collect_gossip(host, out);
    collect_discovery(host, out);
    cal_network_stats_get(node, &s);
#define COUNTER(name, text) figure(out, METRICS_COUNTER, "network_" #name, text, s.name);
    CAL_NETWORK_COUNTERS(COUNTER)
#undef COUNTER
    cal_sync_stats sync;
    cal_sync_stats_get(node, &sync);
#define COUNTER(name, text) figure(out, METRICS_COUNTER, "sync_" #name, text, sync.name);
    CAL_SYNC_COUNTERS(COUNTER)
#undef COUNTER
}
