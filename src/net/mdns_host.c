/* mDNS of a host: the mDNS part of calimero/p2p.h. Packets come from and go to the multicast group
 * of the host's transport; what mDNS is, and its numbers, is in mdns.h.
 *
 * What is announced is where others can reach us: loopback addresses only when there are no others,
 * for then every peer that can reach us is on this machine. And only then are they dialled: who is
 * on this machine too says where else it is. */
#include <stdlib.h>

#include "net/internal.h"
#include "net/mdns.h"

struct mdns_host {
    cal_p2p *host;
    cal_mdns *mdns;
    net_timer timer;
    cal_multiaddr addresses[MDNS_ADDRESSES_MAX]; /* as announced */
    size_t count;
    bool elsewhere; /* others than those on loopback */
};

typedef struct mdns_host mdns_host;

/* Hands over the host's addresses when they are not what was announced last. */
static void announce(mdns_host *m) {
    cal_multiaddr now[MDNS_ADDRESSES_MAX] = {0};
    size_t count = host_addresses_on(m->host, false, now, MDNS_ADDRESSES_MAX);
    m->elsewhere = count > 0;
    if (count == 0) count = host_addresses_on(m->host, true, now, MDNS_ADDRESSES_MAX);
    bool same = count == m->count;
    for (size_t i = 0; i < count && same; i++)
        same = cal_multiaddr_equal(&now[i], &m->addresses[i]);
    if (same) return;
    memcpy(m->addresses, now, sizeof now);
    m->count = count;
    mdns_announce(m->mdns, now, count, net_now_ns(m->host));
}

static void work(mdns_host *m);

static void on_dialled(void *user, const cal_error *err, const cal_peer_id *peer) {
    cal_p2p *host = user; /* mDNS may have been stopped meanwhile */
    (void)err, (void)peer;
    host->mdns_dials--;
    if (host->mdns) work(host->mdns);
}

/* Whoever fills the network with addresses has them dialled a few at a time. */
static void work(mdns_host *m) {
    cal_peer_id peer;
    cal_multiaddr address;
    cal_buffer packet;
    net_transport *transport = m->host->transport;
    cal_buffer_init(&packet, 2 * MDNS_PACKET_MAX);
    while (m->host->mdns_dials < MDNS_DIALS_MAX &&
           mdns_next(m->mdns, &peer, &address, net_now_ns(m->host))) {
        if (m->elsewhere && address_loopback(&address)) continue;
        peer_learn_announced(m->host, &peer, &address, 1);
        if (cal_p2p_is_connected(m->host, &peer)) continue;
        if (dial_announced(m->host, &peer, &address, 1, on_dialled, m->host) == 0)
            m->host->mdns_dials++;
    }
    while (mdns_output(m->mdns, &packet, net_now_ns(m->host))) {
        transport->multicast_send(transport->user, packet.data, packet.len);
        cal_buffer_reset(&packet);
    }
    cal_buffer_deinit(&packet);
    net_timer_set(m->host, &m->timer, mdns_deadline(m->mdns));
}

static void on_timer(void *user, uint64_t now_ns) {
    (void)now_ns;
    announce(user);
    work(user);
}

void mdns_datagram(cal_p2p *host, const uint8_t *bytes, size_t len) {
    mdns_host *m = host->mdns;
    if (!m) return; /* stopped meanwhile */
    mdns_receive(m->mdns, (cal_slice){bytes, len},
                 net_now_ns(host)); /* nonsense is counted there */
    work(m);
}

int cal_p2p_mdns_start(cal_p2p *host, cal_error *err) {
    static const net_endpoint group = {{MDNS_GROUP_V4, 4}, MDNS_PORT};
    net_transport *transport = host->transport;
    uint64_t random;
    if (host->mdns) return cal_fail(err, CAL_EEXISTS, "mDNS was started already");
    if (host->stopping) return cal_fail(err, CAL_ECANCELED, "the host stops");
    if (!transport->multicast_join)
        return cal_fail(err, CAL_EUNSUPPORTED, "this host's transport has no multicast");
    mdns_host *m = calloc(1, sizeof *m);
    net_random(host, &random, sizeof random);
    if (!m || mdns_new(&host->id, random, net_now_ns(host), &m->mdns)) {
        free(m);
        return cal_fail(err, CAL_ENOMEM, "no memory for mDNS");
    }
    m->host = host;
    int result = transport->multicast_join(transport->user, &group, err);
    if (result) {
        mdns_free(m->mdns);
        free(m);
        return cal_fail_context(err, result,
                                "mDNS does not start; turn it off, or the program that holds the "
                                "port");
    }
    host->mdns = m;
    net_timer_start(host, &m->timer, m, on_timer);
    announce(m);
    net_timer_set(host, &m->timer, mdns_deadline(m->mdns));
    return 0;
}

void cal_p2p_mdns_stop(cal_p2p *host) {
    mdns_host *m = host->mdns;
    if (!m) return;
    host->mdns = NULL;
    host->transport->multicast_leave(host->transport->user);
    net_timer_stop(&m->timer);
    mdns_free(m->mdns);
    free(m);
}

int cal_p2p_mdns_stats_get(const cal_p2p *host, cal_p2p_mdns_stats *ret_stats) {
    if (!host->mdns) return CAL_ESTATE;
    mdns_stats_get(host->mdns->mdns, ret_stats);
    return 0;
}
