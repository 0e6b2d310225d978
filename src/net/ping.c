/* ping: 32 random bytes and their echo, on one long-lived stream per connection. Three
 * pings in a row without an answer close it: half-open connections end here. ping specification. */
#include "net/internal.h"

static const char ping_id[] = "/ipfs/ping/1.0.0";

/* --- answering --- */

/* How much of `len` may be answered now; 0: later. */
static size_t echo_part(cal_p2p_stream *stream, size_t len) {
    net_connection *connection = stream->connection;
    size_t unsent = stream->mux.sending.len;
    if (connection->echoed < NET_ECHO_BYTES && unsent < NET_ECHO_QUEUE) {
        size_t part = NET_ECHO_BYTES - connection->echoed;
        if (part > NET_ECHO_QUEUE - unsent) part = NET_ECHO_QUEUE - unsent;
        return part < len ? part : len;
    }
    connection->host->stats.pings_held++;
    connection->echo_held = true; /* until ping_tick, or the peer reads */
    if (unsent) stream_want_room(stream);
    return 0;
}

static void on_echo(void *user, cal_p2p_stream *stream) {
    const uint8_t *bytes;
    size_t len;
    (void)user;
    while ((len = cal_p2p_stream_peek(stream, &bytes)) > 0) {
        size_t part = echo_part(stream, len);
        if (part == 0) return;
        part = cal_p2p_stream_write(stream, bytes, part);
        cal_p2p_stream_consume(stream, part);
        if (part == 0) { /* no memory: in a second */
            stream->connection->echo_held = true;
            return;
        }
        stream->connection->echoed += (uint32_t)part;
    }
    if (cal_p2p_stream_ended(stream)) cal_p2p_stream_finish(stream);
}

static const cal_p2p_stream_events echo = {.readable = on_echo, .writable = on_echo};

/* A second is over: pings that were too many for it are answered in the next one. */
static void echo_tick(net_connection *connection) {
    connection->echoed = 0;
    if (!connection->echo_held) return;
    connection->echo_held = false;
    for (cal_list *at = connection->mux.streams.next; at != &connection->mux.streams;
         at = at->next) {
        cal_p2p_stream *stream = CAL_CONTAINER_OF(at, cal_p2p_stream, mux.link);
        if (stream->events == &echo) stream_tell(stream, STREAM_READABLE);
    }
}

/* --- asking --- */

static void on_answer(void *user, cal_p2p_stream *stream) {
    net_connection *connection = stream->connection;
    net_ping *ping = &connection->ping;
    cal_p2p *host = connection->host;
    const uint8_t *bytes;
    size_t len;
    (void)user;
    while (ping->stream == stream && (len = cal_p2p_stream_peek(stream, &bytes)) > 0) {
        size_t part = NET_PING_SIZE - ping->have;
        if (part > len) part = len;
        memcpy(ping->got + ping->have, bytes, part);
        ping->have += part;
        cal_p2p_stream_consume(stream, part);
        if (ping->have < NET_PING_SIZE) continue;
        ping->have = 0;
        if (!ping->waiting || memcmp(ping->got, ping->sent, NET_PING_SIZE) != 0) {
            cal_p2p_stream_reset(stream); /* an answer to nothing, or a wrong one */
            return;
        }
        ping->waiting = false;
        ping->failures = 0;
        ping->answered_ns = host->now_ns;
        if (connection->peer && peer_active(connection->peer) == connection)
            connection->peer->rtt_ns = host->now_ns - ping->at_ns;
        ping->at_ns = host->now_ns + NET_MS(host->limits.ping_interval_ms);
    }
    if (ping->stream == stream && cal_p2p_stream_ended(stream)) cal_p2p_stream_reset(stream);
}

static void on_closed(void *user, cal_p2p_stream *stream, int reason) {
    net_ping *ping = &stream->connection->ping;
    (void)user;
    if (ping->stream != stream) return;
    ping->stream = NULL;
    ping->have = 0;
    if (reason == CAL_EUNSUPPORTED) ping->unsupported = true;
    if (!ping->waiting) ping->at_ns += NET_MS(NET_TICK_MS);
}

static const cal_p2p_stream_events asking = {.readable = on_answer, .closed = on_closed};

static void send_ping(net_connection *connection) {
    const char *const ids[] = {ping_id};
    net_ping *ping = &connection->ping;
    cal_p2p *host = connection->host;
    if (!ping->stream && stream_open(connection, ids, 1, &asking, NULL, true, &ping->stream)) {
        ping->stream = NULL;
        ping->at_ns = host->now_ns + NET_MS(host->limits.ping_interval_ms);
        return;
    }
    net_random(host, ping->sent, NET_PING_SIZE);
    cal_p2p_stream_write(ping->stream, ping->sent, NET_PING_SIZE);
    ping->waiting = true;
    ping->have = 0;
    ping->at_ns = host->now_ns;
}

void ping_tick(net_connection *connection) {
    net_ping *ping = &connection->ping;
    cal_p2p *host = connection->host;
    echo_tick(connection);
    if (ping->unsupported || !connection->peer->told) return;
    if (!ping->waiting) {
        if (host->now_ns >= ping->at_ns) send_ping(connection);
        return;
    }
    if (host->now_ns >= ping->at_ns + NET_MS(NET_DOUBT_MS)) peer_doubt(connection);
    if (host->now_ns < ping->at_ns + NET_MS(host->limits.ping_timeout_ms)) return;
    host->stats.pings_failed++;
    ping->waiting = false;
    if (ping->stream) {
        cal_p2p_stream *old = ping->stream;
        ping->stream = NULL;
        cal_p2p_stream_reset(old);
    }
    if (++ping->failures < NET_PING_FAILURES)
        send_ping(connection);
    else
        connection_close(connection, CAL_ETIMEOUT);
}

int ping_start(cal_p2p *host) {
    return cal_p2p_handle(
        host, &(cal_p2p_protocol){
                  .id = ping_id, .events = &echo, .peer_streams_max = 4, .background = true});
}
