/* ping: 32 random bytes and their echo, on one long-lived stream per peer. Three pings in a row
 * without an answer close the connection: half-open connections end here. ping specification. */
#include "net/internal.h"

static const char ping_id[] = "/ipfs/ping/1.0.0";

/* --- answering --- */

static void on_echo(void *user, cal_p2p_stream *stream) {
    const uint8_t *bytes;
    size_t len;
    (void)user;
    while ((len = cal_p2p_stream_peek(stream, &bytes)) > 0) {
        size_t sent = cal_p2p_stream_write(stream, bytes, len);
        cal_p2p_stream_consume(stream, sent);
        if (sent < len) return; /* goes on when there is room */
    }
    if (cal_p2p_stream_ended(stream)) cal_p2p_stream_finish(stream);
}

static const cal_p2p_stream_events echo = {.readable = on_echo, .writable = on_echo};

/* --- asking --- */

/* Streams outlive what they were opened for: the peer is found anew each time. */
static net_peer *peer_of(cal_p2p_stream *stream) {
    net_peer *peer = stream->connection->peer;
    return peer && peer->ping == stream ? peer : NULL;
}

static void on_answer(void *user, cal_p2p_stream *stream) {
    net_peer *peer = peer_of(stream);
    cal_p2p *host = cal_p2p_stream_host(stream);
    const uint8_t *bytes;
    size_t len;
    (void)user;
    while (peer && (len = cal_p2p_stream_peek(stream, &bytes)) > 0) {
        size_t part = NET_PING_SIZE - peer->ping_have;
        if (part > len) part = len;
        memcpy(peer->ping_got + peer->ping_have, bytes, part);
        peer->ping_have += part;
        cal_p2p_stream_consume(stream, part);
        if (peer->ping_have < NET_PING_SIZE) continue;
        peer->ping_have = 0;
        if (!peer->ping_waiting || memcmp(peer->ping_got, peer->ping_sent, NET_PING_SIZE) != 0) {
            cal_p2p_stream_reset(stream); /* an answer to nothing, or a wrong one */
            return;
        }
        peer->ping_waiting = false;
        peer->ping_failures = 0;
        peer->rtt_ns = host->now_ns - peer->ping_at_ns;
        peer->ping_at_ns = host->now_ns + NET_MS(host->limits.ping_interval_ms);
    }
    if (peer && cal_p2p_stream_ended(stream)) cal_p2p_stream_reset(stream);
}

static void on_closed(void *user, cal_p2p_stream *stream, int reason) {
    net_peer *peer = peer_of(stream);
    (void)user;
    if (!peer) return;
    peer->ping = NULL;
    peer->ping_have = 0;
    if (reason == CAL_EUNSUPPORTED) peer->ping_unsupported = true;
    if (!peer->ping_waiting) peer->ping_at_ns += NET_MS(NET_TICK_MS);
}

static const cal_p2p_stream_events asking = {.readable = on_answer, .closed = on_closed};

static void send_ping(cal_p2p *host, net_peer *peer) {
    const char *const ids[] = {ping_id};
    net_connection *active = peer_active(peer);
    if (peer->ping && peer->ping->connection != active) {
        cal_p2p_stream *old = peer->ping;
        peer->ping = NULL;
        cal_p2p_stream_reset(old);
    }
    if (!peer->ping && stream_open(active, ids, 1, &asking, NULL, true, &peer->ping)) {
        peer->ping = NULL;
        peer->ping_at_ns = host->now_ns + NET_MS(host->limits.ping_interval_ms);
        return;
    }
    net_random(host, peer->ping_sent, NET_PING_SIZE);
    cal_p2p_stream_write(peer->ping, peer->ping_sent, NET_PING_SIZE);
    peer->ping_waiting = true;
    peer->ping_have = 0;
    peer->ping_at_ns = host->now_ns;
}

void ping_stop(net_peer *peer) {
    peer->ping = NULL; /* its stream went with the connection */
    peer->ping_waiting = false;
    peer->ping_have = 0;
}

void ping_tick(cal_p2p *host, net_peer *peer) {
    if (peer->ping_unsupported || !peer->told) return;
    if (!peer->ping_waiting) {
        if (host->now_ns >= peer->ping_at_ns) send_ping(host, peer);
        return;
    }
    if (host->now_ns < peer->ping_at_ns + NET_MS(host->limits.ping_timeout_ms)) return;
    host->stats.pings_failed++;
    peer->ping_waiting = false;
    if (peer->ping) {
        cal_p2p_stream *old = peer->ping;
        peer->ping = NULL;
        cal_p2p_stream_reset(old);
    }
    if (++peer->ping_failures < NET_PING_FAILURES) {
        send_ping(host, peer);
        return;
    }
    net_connection *active = peer_active(peer);
    peer->ping_failures = 0;
    connection_close(active, CAL_ETIMEOUT);
}

int ping_start(cal_p2p *host) {
    return cal_p2p_handle(
        host, &(cal_p2p_protocol){
                  .id = ping_id, .events = &echo, .peer_streams_max = 4, .background = true});
}
