/* One connection: bytes from the wire climb through multistream, Noise, multistream again and Yamux
 * to streams, and back down. Each layer is a filter; this file stacks them. See internal.h. */
#include <assert.h>
#include <stdlib.h>

#include "net/internal.h"

static const char *const security[] = {"/noise"};
static const char *const muxers[] = {"/yamux/1.0.0"};

enum { OUT_MAX = 512 * 1024 };
static_assert((int)NET_SEND_CHUNK <= (int)NOISE_PLAIN_MAX, "a chunk is one Noise message");

net_connection *connection_new(cal_p2p *host, bool outgoing, const net_endpoint *remote) {
    net_connection *connection = calloc(1, sizeof *connection);
    net_account *account = calloc(1, sizeof *account);
    if (!connection || !account) {
        free(connection);
        free(account);
        return NULL;
    }
    *account = (net_account){.host = host, .refs = 1};
    connection->account = account;
    connection->host = host;
    connection->outgoing = outgoing;
    connection->remote = *remote;
    cal_list_init(&connection->of_peer);
    cal_list_init(&connection->dirty);
    cal_buffer_init(&connection->out, OUT_MAX);
    connection->made_ns = connection->since_ns = connection->used_ns = host->now_ns;
    connection->handshake_by_ns = host->now_ns + NET_MS(host->limits.handshake_timeout_ms);
    cal_list_push(&host->pending, &connection->link);
    if (outgoing)
        host->pending_out++;
    else
        host->pending_in++;
    return connection;
}

void connection_free(net_connection *connection) {
    assert(!connection->wire && !connection->peer);
    cal_list_remove(&connection->link);
    cal_list_remove(&connection->dirty);
    while (connection->mux.stream_size && !cal_list_empty(&connection->mux.streams))
        stream_free(CAL_CONTAINER_OF(connection->mux.streams.next, cal_p2p_stream, mux.link));
    yamux_deinit(&connection->mux);
    noise_deinit(&connection->channel);
    free(connection->negotiation);
    cal_buffer_deinit(&connection->out);
    account_unref(connection->account);
    free(connection);
}

void connection_dirty(net_connection *connection) {
    if (cal_list_empty(&connection->dirty))
        cal_list_push(&connection->host->dirty, &connection->dirty);
}

static bool securing(const net_connection *connection) {
    return connection->phase < CONNECTION_OPEN;
}

static void leave_pending(net_connection *connection) {
    cal_p2p *host = connection->host;
    if (connection->outgoing)
        host->pending_out--;
    else
        host->pending_in--;
    cal_list_remove(&connection->link);
}

static void count_failure(net_connection *connection, int reason) {
    cal_p2p_stats *stats = &connection->host->stats;
    if (reason == CAL_ECANCELED) return; /* given up by this host */
    if (reason == CAL_ETIMEOUT)
        stats->handshakes_timed_out++;
    else if (connection->phase == CONNECTION_NOISE && reason == CAL_EVERIFY &&
             connection->channel.state == NOISE_FAILED)
        stats->identities_refused++;
    if (connection->phase > CONNECTION_CONNECTING) stats->handshakes_failed++;
}

void connection_close(net_connection *connection, int reason) {
    cal_p2p *host = connection->host;
    if (connection->phase == CONNECTION_CLOSED) return;
    bool was_open = connection->phase == CONNECTION_OPEN;
    if (!was_open) {
        count_failure(connection, reason);
        leave_pending(connection);
    } else {
        cal_list_remove(&connection->link);
        host->connection_count--;
    }
    connection->phase = CONNECTION_CLOSED;
    cal_list_push(&host->dead, &connection->link);
    cal_list_remove(&connection->dirty);
    if (connection->wire) host->transport->close(connection->wire, reason != 0);
    connection->wire = NULL;
    if (was_open)
        for (cal_list *at = connection->mux.streams.next; at != &connection->mux.streams;
             at = at->next)
            stream_lost(CAL_CONTAINER_OF(at, cal_p2p_stream, mux.link), CAL_EUNREACHABLE);
    if (connection->peer) peer_leave(host, connection);
    if (connection->dial) dial_attempt_over(connection, reason ? reason : CAL_EUNREACHABLE);
}

static bool has_finished(const cal_p2p_stream *stream) {
    return stream->held_finish || stream->finishing;
}

/* Something that its owner finished has not left yet. */
static bool owes(const net_connection *connection) {
    if (connection->out.len) return true;
    for (cal_list *at = connection->mux.streams.next; at != &connection->mux.streams;
         at = at->next) {
        const cal_p2p_stream *stream = CAL_CONTAINER_OF(at, cal_p2p_stream, mux.link);
        if (!stream->closed && has_finished(stream) && !stream->mux.finish_sent) return true;
    }
    return false;
}

/* The host stops: nobody is to hear more of what goes on. */
static void end_unfinished(net_connection *connection) {
    for (cal_list *at = connection->mux.streams.next; at != &connection->mux.streams;
         at = at->next) {
        cal_p2p_stream *stream = CAL_CONTAINER_OF(at, cal_p2p_stream, mux.link);
        if (!has_finished(stream)) stream_lost(stream, CAL_EUNREACHABLE);
    }
}

void connection_goodbye(net_connection *connection) {
    if (connection->phase != CONNECTION_OPEN) {
        connection_close(connection, CAL_ECANCELED);
        return;
    }
    yamux_go_away(&connection->mux, 0);
    connection_flush(connection); /* may close it */
    if (connection->phase != CONNECTION_OPEN) return;
    if (connection->host->stopping && owes(connection))
        end_unfinished(connection); /* and connection_flush closes it */
    else
        connection_close(connection, 0);
}

/* A protocol error of the peer's: counted by kind, told to it in Yamux's words, ended. */
static void fail(net_connection *connection, int reason) {
    cal_p2p_stats *stats = &connection->host->stats;
    if (connection->phase == CONNECTION_OPEN) {
        if (reason == CAL_ELIMIT)
            stats->windows_exceeded++;
        else if (reason == CAL_EOVERLOAD)
            stats->floods_closed++;
        else
            stats->frames_refused++;
    }
    cal_log(CAL_LOG_DEBUG, "net", "connection closed: %s", cal_error_text(reason));
    connection_close(connection, reason);
}

/* --- up --- */

static const char *match_one(void *user, cal_slice name) {
    return cal_slice_equal(name, cal_slice_text(user)) ? user : NULL;
}

void connection_start(net_connection *connection) {
    connection->phase = CONNECTION_SECURITY;
    connection->negotiation = malloc(sizeof *connection->negotiation);
    if (!connection->negotiation) {
        connection_close(connection, CAL_ENOMEM);
        return;
    }
    if (connection->outgoing)
        multistream_dial(connection->negotiation, security, 1, &connection->out);
    else
        multistream_listen(connection->negotiation, match_one, (void *)(uintptr_t)security[0]);
    connection_dirty(connection);
}

/* Appends bytes to what goes out, sealed when the channel is open. */
static int send_sealed(net_connection *connection, cal_slice plain) {
    return noise_seal(&connection->channel, plain, &connection->out);
}

static int start_muxer_choice(net_connection *connection) {
    cal_buffer said;
    cal_buffer_init(&said, MULTISTREAM_MESSAGE_MAX);
    connection->phase = CONNECTION_MUXER;
    if (connection->outgoing)
        multistream_dial(connection->negotiation, muxers, 1, &said);
    else
        multistream_listen(connection->negotiation, match_one, (void *)(uintptr_t)muxers[0]);
    int result = send_sealed(connection, cal_buffer_slice(&said));
    cal_buffer_deinit(&said);
    return result;
}

static int become_open(net_connection *connection) {
    cal_p2p *host = connection->host;
    free(connection->negotiation);
    connection->negotiation = NULL;
    yamux_init(&connection->mux, connection->outgoing, host->limits.streams_max,
               sizeof(cal_p2p_stream), &host->unread, host->limits.unread_bytes_max);
    connection->mux.pool = &host->pool;
    connection->mux.unsent = &host->unsent;
    connection->mux.unsent_max = host->limits.unsent_bytes_max;
    net_random(host, &connection->mux.spread, sizeof connection->mux.spread);
    connection->mux.spread |= 1;
    int result = peer_join(host, connection);
    if (result) return result;
    account_join(connection);
    leave_pending(connection);
    connection->phase = CONNECTION_OPEN;
    connection->since_ns = connection->used_ns = connection->ping.at_ns = host->now_ns;
    cal_list_push(&host->connections, &connection->link);
    host->connection_count++;
    if (connection->outgoing)
        host->stats.connections_out++;
    else
        host->stats.connections_in++;
    if (connection->dial) dial_won(connection->dial, connection);
    return 0;
}

static int start_noise(net_connection *connection) {
    const cal_p2p *host = connection->host;
    return noise_init(&connection->channel, &host->identity, connection->outgoing, host->os,
                      &connection->out);
}

/* A listener's own key is made when its answer has left, while the dialer makes the other one. */
static bool noise_due(const net_connection *connection) {
    return connection->phase == CONNECTION_NOISE && !connection->channel.identity;
}

/* One negotiation of the connection itself; what it says is sealed in the muxer phase. */
static int feed_choice(net_connection *connection, const uint8_t *bytes, size_t len,
                       size_t *ret_used) {
    cal_buffer said;
    cal_buffer_init(&said, MULTISTREAM_TRIES_MAX * MULTISTREAM_MESSAGE_MAX);
    multistream *negotiation = connection->negotiation;
    *ret_used = multistream_feed(negotiation, bytes, len, &said);
    int result = negotiation->state == MULTISTREAM_FAILED ? negotiation->failure : said.error;
    if (!result && said.len)
        result = connection->phase == CONNECTION_MUXER
                     ? send_sealed(connection, cal_buffer_slice(&said))
                     : cal_buffer_append_slice(&connection->out, cal_buffer_slice(&said));
    cal_buffer_deinit(&said);
    if (result || negotiation->state != MULTISTREAM_AGREED) return result;
    if (connection->phase == CONNECTION_MUXER) return become_open(connection);
    connection->phase = CONNECTION_NOISE;
    return connection->outgoing ? start_noise(connection) : 0;
}

static int feed_plain(net_connection *connection, cal_slice plain) {
    int result = 0;
    while (!result && plain.len > 0 && connection->phase != CONNECTION_CLOSED) {
        size_t used = plain.len;
        if (connection->phase == CONNECTION_MUXER)
            result = feed_choice(connection, plain.data, plain.len, &used);
        else
            result = yamux_feed(&connection->mux, plain.data, plain.len);
        plain = (cal_slice){plain.data + used, plain.len - used};
    }
    return result;
}

static int feed_channel(net_connection *connection, const uint8_t *bytes, size_t len,
                        size_t *ret_used) {
    cal_buffer *plain = &connection->host->plain;
    cal_buffer_reset(plain);
    int result = noise_due(connection) ? start_noise(connection) : 0;
    if (result) return result;
    result = noise_feed(&connection->channel, bytes, len, &connection->out, plain, ret_used);
    if (result) return result;
    if (connection->phase == CONNECTION_NOISE && connection->channel.state == NOISE_OPEN) {
        result = peer_check(connection);
        if (!result) result = start_muxer_choice(connection);
    }
    return result ? result : feed_plain(connection, cal_buffer_slice(plain));
}

/* Streams that a peer opens and resets cost it less than us: over the rate it is not heard until
 * it has earned them. Looked at once a second, so that it costs no alarm. */
static void hold_back(net_connection *connection) {
    cal_p2p *host = connection->host;
    uint32_t rate = host->limits.stream_rate_max;
    uint64_t opened = connection->mux.opened;
    connection->mux.opened = 0;
    if (!opened) return;
    uint64_t debt =
        net_rate_owe(&connection->streams, rate, NET_STREAM_BURST_S * rate, opened, host->now_ns);
    if (!debt) return;
    if (debt > NET_MS(NET_STREAM_HELD_MS)) debt = NET_MS(NET_STREAM_HELD_MS);
    connection->held_until_ns = host->now_ns + debt;
    host->stats.streams_held++;
}

static void note_away(net_connection *connection) {
    if (!connection->mux.away || connection->away) return;
    connection->away = true;
    peer_away(connection->host, connection);
}

void connection_feed(net_connection *connection, const uint8_t *bytes, size_t len) {
    connection->host->stats.bytes_in += len;
    int result = 0;
    while (!result && len > 0 && connection->phase != CONNECTION_CLOSED) {
        size_t used = 0;
        if (connection->phase == CONNECTION_SECURITY)
            result = feed_choice(connection, bytes, len, &used);
        else
            result = feed_channel(connection, bytes, len, &used);
        bytes += used;
        len -= used;
    }
    if (connection->phase == CONNECTION_CLOSED) return;
    if (result) {
        if (!securing(connection)) stream_pump(connection);
        fail(connection, result);
        return;
    }
    if (!securing(connection)) {
        hold_back(connection);
        stream_pump(connection);
        note_away(connection);
    }
    connection_dirty(connection);
}

/* --- down --- */

/* Sends what waits in `out`. true: it is empty. */
static bool send_out(net_connection *connection) {
    cal_p2p *host = connection->host;
    cal_buffer *out = &connection->out;
    if (out->len) {
        size_t sent = host->transport->send(connection->wire, out->data, out->len);
        host->stats.bytes_out += sent;
        cal_buffer_consume(out, sent);
    }
    connection->blocked = out->len > 0;
    if (!connection->blocked) cal_buffer_deinit(out); /* an idle connection keeps no buffer */
    return !connection->blocked;
}

/* Drains streams once. *ret_more: there may be more and the wire takes it. */
static int send_chunk(net_connection *connection, bool *ret_more) {
    cal_p2p *host = connection->host;
    cal_buffer_reset(&host->frames);
    cal_buffer_reset(&host->sealed);
    *ret_more = false;
    int result = yamux_drain(&connection->mux, &host->frames, NET_SEND_CHUNK);
    if (result || host->frames.len == 0) return result;
    result = noise_seal(&connection->channel, cal_buffer_slice(&host->frames), &host->sealed);
    if (result) return result;
    size_t sent = host->transport->send(connection->wire, host->sealed.data, host->sealed.len);
    host->stats.bytes_out += sent;
    if (sent < host->sealed.len) {
        connection->blocked = true;
        return cal_buffer_append(&connection->out, host->sealed.data + sent,
                                 host->sealed.len - sent);
    }
    *ret_more = true;
    return 0;
}

static void set_paused(net_connection *connection) {
    bool floods = connection->blocked && connection->mux.control.len > NET_PAUSE_CONTROL;
    bool held = connection->host->now_ns < connection->held_until_ns;
    bool paused = connection->phase == CONNECTION_OPEN && (floods || held);
    if (paused == connection->paused || !connection->wire) return;
    connection->paused = paused;
    connection->host->transport->pause(connection->wire, paused);
}

void connection_flush(net_connection *connection) {
    if (!connection->wire || connection->phase == CONNECTION_CONNECTING) return;
    bool more = send_out(connection);
    int result = noise_due(connection) ? start_noise(connection) : 0;
    for (int round = 0; more && !result && connection->phase == CONNECTION_OPEN; round++) {
        if (round == NET_SEND_ROUNDS) {
            cal_list_remove(&connection->dirty);
            cal_list_push(&connection->host->later, &connection->dirty);
            break;
        }
        result = send_chunk(connection, &more);
    }
    if (result) {
        connection_close(connection, result);
        return;
    }
    set_paused(connection);
    if (connection->phase == CONNECTION_OPEN) stream_pump(connection);
    if (connection->phase == CONNECTION_OPEN && connection->mux.away_sent && !owes(connection))
        connection_close(connection, 0);
}

/* --- time --- */

static bool idle_too_long(net_connection *connection) {
    cal_p2p *host = connection->host;
    bool kept = connection->peer->keep && !connection->draining;
    if (kept || stream_counts(connection)) {
        connection->used_ns = host->now_ns;
        return false;
    }
    uint32_t patience = connection->draining ? NET_DRAIN_MS : host->limits.idle_timeout_ms;
    return host->now_ns >= connection->used_ns + NET_MS(patience);
}

void connection_tick(net_connection *connection) {
    if (connection->phase != CONNECTION_OPEN) return;
    bool over = connection->mux.away && connection->mux.stream_count == 0;
    if (!over && !idle_too_long(connection)) {
        set_paused(connection);
        ping_tick(connection);
        return;
    }
    if (!over && !connection->draining) connection->host->stats.connections_idle++;
    connection_goodbye(connection);
}
