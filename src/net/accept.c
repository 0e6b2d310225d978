/* Which incoming connections and streams are taken. A handshake costs us a key, four
 * Diffie-Hellmans and a verification, and costs its dialer nothing before that: so their number a
 * second is bounded, in all and for one address. One address has at most a quarter of the places of
 * those that are not secured yet, and `address_connections_max` of all: what it holds keeps nobody
 * else out. An address is an IPv4 address or the /64 of an IPv6 one, which one customer gets.
 * Programs of this machine are not counted: they have its processors anyway, and proxies may bring
 * everybody in from there.
 *
 * Streams have a number in all too. Once half of them are taken, an address (on this machine: a
 * peer) opens more only up to its share. See internal.h. */
#include "net/internal.h"

enum { PREFIX_V6 = 8, WAYS = 4, PENDING_SHARES = 4, STREAM_SHARES = 16 };

static size_t prefix_of(const net_endpoint *endpoint) {
    return endpoint->address.len == 16 ? PREFIX_V6 : endpoint->address.len;
}

static bool same_source(const net_endpoint *a, const net_endpoint *b) {
    return a->address.len == b->address.len &&
           memcmp(a->address.bytes, b->address.bytes, prefix_of(a)) == 0;
}

/* The rate of an address: its own, or the place of the one that was quiet for longest. */
static net_rate *rate_of(cal_p2p *host, const net_endpoint *remote) {
    uint64_t hash = 0xcbf29ce484222325u ^ host->source_seed;
    for (size_t i = 0; i < prefix_of(remote); i++)
        hash = (hash ^ remote->address.bytes[i]) * UINT64_C(0x100000001b3);
    net_source *set = &host->sources[(hash >> 32) % (NET_SOURCES / WAYS) * WAYS], *oldest = set;
    for (size_t i = 0; i < WAYS; i++) {
        if (same_source(&set[i].endpoint, remote)) return &set[i].rate;
        if (set[i].rate.even_ns < oldest->rate.even_ns) oldest = &set[i];
    }
    *oldest = (net_source){.endpoint = *remote};
    return &oldest->rate;
}

static size_t count_from(const cal_list *list, const net_endpoint *remote) {
    size_t count = 0;
    for (const cal_list *at = list->next; at != list; at = at->next) {
        const net_connection *connection = CAL_CONTAINER_OF(at, net_connection, link);
        count += !connection->outgoing && same_source(&connection->remote, remote);
    }
    return count;
}

bool accept_allowed(cal_p2p *host, const net_endpoint *remote) {
    const cal_p2p_limits *limits = &host->limits;
    if (host->stopping) return false;
    if (host->pending_in >= limits->pending_in_max ||
        host->connection_count >= limits->connections_max) {
        host->stats.connections_refused++;
        return false;
    }
    if (endpoint_loopback(remote)) return true;
    uint32_t each = limits->address_accepts_max, all = limits->accepts_max;
    uint64_t now = host->now_ns;
    if (!net_rate_take(rate_of(host, remote), each, 2 * each, now) ||
        !net_rate_take(&host->accepts, all, 2 * all, now)) {
        host->stats.accepts_refused++;
        return false;
    }
    size_t pending = count_from(&host->pending, remote);
    size_t held = pending + count_from(&host->connections, remote);
    if (held >= limits->address_connections_max ||
        pending >= (limits->pending_in_max + PENDING_SHARES - 1) / PENDING_SHARES) {
        host->stats.connections_refused++;
        return false;
    }
    return true;
}

static bool same_holder(const net_connection *a, const net_connection *b) {
    return endpoint_loopback(&a->remote) ? a->peer == b->peer : same_source(&a->remote, &b->remote);
}

bool accept_stream(const net_connection *connection) {
    cal_p2p *host = connection->host;
    size_t max = host->limits.streams_total_max, held = 0;
    bool taken = host->stream_count <= max;
    if (host->stream_count > max / 2) {
        for (cal_list *at = host->connections.next; at != &host->connections; at = at->next) {
            const net_connection *other = CAL_CONTAINER_OF(at, net_connection, link);
            if (same_holder(connection, other)) held += other->mux.stream_count;
        }
        taken = taken && held <= (max + STREAM_SHARES - 1) / STREAM_SHARES;
    }
    host->stats.streams_refused += !taken;
    return taken;
}
