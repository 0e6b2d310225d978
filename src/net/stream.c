/* Streams: the choice of a protocol, what their owners are told, the public calls. See internal.h
 * and calimero/p2p.h. */
#include <assert.h>
#include <stdlib.h>

#include "net/internal.h"

enum { SAID_MAX = (MULTISTREAM_CHOICES_MAX + 1) * MULTISTREAM_MESSAGE_MAX, PEER_STREAMS = 64 };

static const cal_p2p_stream_events nothing = {0};

static void note(cal_p2p_stream *stream, unsigned event) {
    cal_p2p *host = stream->connection->host;
    stream->pending |= event;
    if (cal_list_empty(&stream->ready)) cal_list_push(&host->ready, &stream->ready);
}

/* --- protocols of the host --- */

net_protocol *protocol_find(const cal_p2p *host, cal_slice id) {
    for (cal_list *at = host->protocols.next; at != &host->protocols; at = at->next) {
        net_protocol *protocol = CAL_CONTAINER_OF(at, net_protocol, link);
        if (cal_slice_equal(cal_slice_text(protocol->id), id)) return protocol;
    }
    return NULL;
}

void protocol_unref(net_protocol *protocol) {
    if (protocol && --protocol->refs == 0) free(protocol);
}

int cal_p2p_handle(cal_p2p *host, const cal_p2p_protocol *options) {
    size_t len = options->id ? strlen(options->id) : 0;
    if (len == 0 || len >= CAL_P2P_PROTOCOL_MAX || !options->events) return CAL_EINVAL;
    if (protocol_find(host, cal_slice_text(options->id))) return CAL_EEXISTS;
    if (host->protocol_count == NET_PROTOCOLS_MAX) return CAL_ELIMIT;
    net_protocol *protocol = calloc(1, sizeof *protocol);
    if (!protocol) return CAL_ENOMEM;
    host_enter(host);
    protocol->refs = 1;
    protocol->options = *options;
    memcpy(protocol->id, options->id, len + 1);
    protocol->options.id = protocol->id;
    cal_list_push(&host->protocols, &protocol->link);
    host->protocol_count++;
    host->announce = true;
    host_leave_quietly(host);
    return 0;
}

/* Streams that it was not told of yet: it will not be, its `user` may be gone. */
static void reset_untold(cal_p2p *host, const net_protocol *protocol) {
    for (cal_list *at = host->ready.next; at != &host->ready; at = at->next) {
        cal_p2p_stream *stream = CAL_CONTAINER_OF(at, cal_p2p_stream, ready);
        if (stream->handler != protocol || !(stream->pending & STREAM_OPENED)) continue;
        stream->events = &nothing;
        stream->user = NULL;
        stream_lost(stream, CAL_ECANCELED);
    }
}

void cal_p2p_unhandle(cal_p2p *host, const char *id) {
    net_protocol *protocol = protocol_find(host, cal_slice_text(id));
    if (!protocol) return;
    host_enter(host);
    reset_untold(host, protocol);
    cal_list_remove(&protocol->link);
    protocol_unref(protocol);
    host->protocol_count--;
    host->announce = true;
    host_leave_quietly(host);
}

/* --- life --- */

/* What both ways of making a stream share; the multistream state is fresh. */
static int stream_begin(net_connection *connection, cal_p2p_stream *stream) {
    cal_p2p *host = connection->host;
    cal_list_init(&stream->ready);
    cal_list_init(&stream->negotiating);
    cal_list_init(&stream->starved);
    stream->connection = connection;
    stream->events = &nothing;
    host->stream_count++;
    stream->negotiate_by_ns = host->now_ns + NET_MS(host->limits.negotiate_timeout_ms);
    cal_list_push(&host->negotiating, &stream->negotiating);
    stream->negotiation = malloc(sizeof *stream->negotiation);
    return stream->negotiation ? 0 : CAL_ENOMEM;
}

void stream_free(cal_p2p_stream *stream) {
    cal_list_remove(&stream->ready);
    cal_list_remove(&stream->negotiating);
    cal_list_remove(&stream->starved);
    free(stream->negotiation);
    free(stream->names);
    net_queue_deinit(&stream->held);
    protocol_unref(stream->handler);
    stream->connection->host->stream_count--;
    if (stream->connection->phase == CONNECTION_OPEN) connection_dirty(stream->connection);
    yamux_release(&stream->mux);
}

void stream_lost(cal_p2p_stream *stream, int reason) {
    if (stream->closed || !stream->connection) return;
    stream->closed = true;
    stream->reason = reason;
    cal_list_remove(&stream->negotiating);
    if (reason && stream->connection->phase == CONNECTION_OPEN) {
        yamux_reset(&stream->mux);
        connection_dirty(stream->connection);
    }
    note(stream, STREAM_CLOSED);
}

/* --- negotiation --- */

struct match_context {
    cal_p2p_stream *stream;
    net_protocol *found;
};

static uint32_t streams_of(const net_connection *connection, const net_protocol *protocol) {
    uint32_t count = 0;
    for (cal_list *at = connection->mux.streams.next; at != &connection->mux.streams; at = at->next)
        count += CAL_CONTAINER_OF(at, cal_p2p_stream, mux.link)->handler == protocol;
    return count;
}

static const char *match_handler(void *user, cal_slice name) {
    struct match_context *context = user;
    net_protocol *protocol = protocol_find(context->stream->connection->host, name);
    context->found = protocol;
    return protocol ? protocol->id : NULL;
}

static void agreed(cal_p2p_stream *stream, const char *protocol, net_protocol *handler) {
    cal_p2p *host = stream->connection->host;
    stream->protocol = protocol;
    cal_list_remove(&stream->negotiating);
    free(stream->negotiation);
    stream->negotiation = NULL;
    if (handler) {
        uint32_t max = handler->options.peer_streams_max;
        if (streams_of(stream->connection, handler) >= (max ? max : PEER_STREAMS)) {
            host->stats.streams_refused++;
            stream_lost(stream, CAL_ELIMIT);
            return;
        }
        stream->handler = handler;
        handler->refs++;
        stream->events = handler->options.events;
        stream->user = handler->options.user;
        stream->background = handler->options.background;
        host->stats.streams_in++;
    } else {
        host->stats.streams_out++;
    }
    note(stream, STREAM_OPENED);
    yamux_write_queue(&stream->mux, &stream->held, stream->held_short);
    if (stream->held_finish) yamux_finish(&stream->mux);
    if (stream->mux.received.len || stream->mux.peer_finished) note(stream, STREAM_READABLE);
}

/* Feeds what came to the negotiation; the rest stays for the protocol. */
static void negotiate(cal_p2p_stream *stream) {
    cal_p2p *host = stream->connection->host;
    multistream *negotiation = stream->negotiation;
    struct match_context context = {.stream = stream};
    cal_buffer said;
    cal_buffer_init(&said, MULTISTREAM_TRIES_MAX * MULTISTREAM_MESSAGE_MAX);
    negotiation->user = &context;
    while (stream->mux.received.len && negotiation->state == MULTISTREAM_GOING) {
        cal_slice piece = net_queue_peek(&stream->mux.received);
        yamux_consume(&stream->mux, multistream_feed(negotiation, piece.data, piece.len, &said));
    }
    /* An answer that does not fit means a peer that asks and never reads. */
    if (said.error || yamux_write(&stream->mux, said.data, said.len) < said.len) {
        negotiation->state = MULTISTREAM_FAILED;
        negotiation->failure = CAL_ELIMIT;
    }
    cal_buffer_deinit(&said);
    if (negotiation->state == MULTISTREAM_AGREED) {
        agreed(stream, negotiation->agreed, context.found);
    } else if (negotiation->state == MULTISTREAM_FAILED) {
        if (negotiation->failure == CAL_EUNSUPPORTED) host->stats.streams_unsupported++;
        stream_lost(stream, negotiation->failure);
    } else if (stream->mux.peer_finished) {
        stream_lost(stream, CAL_EUNSUPPORTED);
    }
}

void stream_expire(cal_p2p *host) {
    while (!cal_list_empty(&host->negotiating)) {
        cal_p2p_stream *stream =
            CAL_CONTAINER_OF(host->negotiating.next, cal_p2p_stream, negotiating);
        if (stream->negotiate_by_ns > host->now_ns) return;
        host->stats.streams_timed_out += stream->mux.incoming;
        stream_lost(stream, CAL_ETIMEOUT);
    }
}

void stream_tick(cal_p2p *host) {
    for (cal_list *at; (at = cal_list_pop(&host->starved));) {
        cal_p2p_stream *stream = CAL_CONTAINER_OF(at, cal_p2p_stream, starved);
        if (!stream->closed) note(stream, STREAM_WRITABLE);
    }
}

/* --- what happened --- */

static void on_new(net_connection *connection, cal_p2p_stream *stream) {
    int result = stream_begin(connection, stream);
    if (result == 0) multistream_listen(stream->negotiation, match_handler, NULL);
    if (result == 0 && !accept_stream(connection)) result = CAL_ELIMIT;
    if (result) stream_lost(stream, result);
}

/* Both ends have finished: it is over once all is read, or when nobody is left to read it. */
static void end_if_done(cal_p2p_stream *stream) {
    if (!stream->done || stream->closed || stream->negotiation) return;
    if (stream->mux.received.len == 0 || !stream->events->readable) stream_lost(stream, 0);
}

static void on_events(net_connection *connection, cal_p2p_stream *stream, unsigned events) {
    if (events & YAMUX_NEW) on_new(connection, stream);
    if (stream->closed) return;
    if (events & YAMUX_RESET) {
        connection->host->stats.streams_reset++;
        stream_lost(stream, CAL_ECANCELED);
        return;
    }
    if (events & YAMUX_DONE) stream->done = true;
    if (stream->negotiation) {
        negotiate(stream);
    } else {
        if (events & YAMUX_READABLE) note(stream, STREAM_READABLE);
        if (events & YAMUX_WRITABLE) note(stream, STREAM_WRITABLE);
    }
    end_if_done(stream);
}

void stream_pump(net_connection *connection) {
    yamux_stream *mux;
    unsigned events;
    while (connection->phase == CONNECTION_OPEN && (mux = yamux_next(&connection->mux, &events)))
        on_events(connection, (cal_p2p_stream *)mux, events);
    connection->host->stats.streams_refused += connection->mux.refused;
    connection->host->stats.frames_ignored += connection->mux.ignored;
    connection->mux.refused = connection->mux.ignored = 0;
}

void stream_dispatch(cal_p2p_stream *stream) {
    unsigned pending = stream->pending;
    const cal_p2p_stream_events *events = stream->events;
    void *user = stream->user;
    stream->pending = 0;
    if (pending & STREAM_OPENED && events->opened) events->opened(user, stream);
    /* A callback may have changed who is told. */
    events = stream->events, user = stream->user;
    if (pending & STREAM_READABLE && !(stream->closed && stream->reason) && events->readable)
        events->readable(user, stream);
    events = stream->events, user = stream->user;
    if (pending & STREAM_WRITABLE && !stream->closed && events->writable)
        events->writable(user, stream);
    if (!(pending & STREAM_CLOSED)) return;
    events = stream->events, user = stream->user;
    if (events->closed) events->closed(user, stream, stream->reason);
    stream_free(stream);
}

bool stream_counts(const net_connection *connection) {
    for (cal_list *at = connection->mux.streams.next; at != &connection->mux.streams;
         at = at->next) {
        const cal_p2p_stream *stream = CAL_CONTAINER_OF(at, cal_p2p_stream, mux.link);
        if (!stream->background && !stream->negotiation) return true;
    }
    return false;
}

/* --- opening --- */

static char *copy_names(const char *const *protocols, size_t count, const char **ret_choices) {
    size_t total = 0, at = 0;
    for (size_t i = 0; i < count; i++) total += strlen(protocols[i]) + 1;
    char *names = malloc(total);
    for (size_t i = 0; names && i < count; i++) {
        size_t len = strlen(protocols[i]) + 1;
        memcpy(names + at, protocols[i], len);
        ret_choices[i] = names + at;
        at += len;
    }
    return names;
}

int stream_open(net_connection *connection, const char *const *protocols, size_t count,
                const cal_p2p_stream_events *events, void *user, bool background,
                cal_p2p_stream **ret_stream) {
    cal_p2p *host = connection->host;
    const char *choices[MULTISTREAM_CHOICES_MAX];
    yamux_stream *mux;
    if (count == 0 || count > MULTISTREAM_CHOICES_MAX) return CAL_EINVAL;
    for (size_t i = 0; i < count; i++)
        if (strlen(protocols[i]) >= CAL_P2P_PROTOCOL_MAX) return CAL_EINVAL;
    if (host->stream_count >= host->limits.streams_total_max) return CAL_ELIMIT;
    int result = yamux_open(&connection->mux, &mux);
    if (result == CAL_ECANCELED) result = CAL_EUNREACHABLE;
    if (result) return result;
    cal_p2p_stream *stream = (cal_p2p_stream *)mux;
    result = stream_begin(connection, stream);
    stream->names = copy_names(protocols, count, choices);
    if (result || !stream->names) {
        stream_free(stream);
        return CAL_ENOMEM;
    }
    cal_buffer said;
    cal_buffer_init(&said, SAID_MAX);
    multistream_dial(stream->negotiation, choices, count, &said);
    size_t written = yamux_write(mux, said.data, said.len);
    result = said.error || written < said.len ? CAL_ENOMEM : 0;
    cal_buffer_deinit(&said);
    if (result) {
        stream_free(stream);
        return result;
    }
    stream->events = events ? events : &nothing;
    stream->user = user;
    stream->background = background;
    if (!background) connection->used_ns = host->now_ns;
    connection_dirty(connection);
    *ret_stream = stream;
    return 0;
}

int cal_p2p_open(cal_p2p *host, const cal_peer_id *peer_id, const char *const *protocols,
                 size_t count, const cal_p2p_stream_events *events, void *user,
                 cal_p2p_stream **ret_stream) {
    net_peer *peer = peer_find(host, peer_id);
    net_connection *connection = peer ? peer_active(peer) : NULL;
    if (!connection) return CAL_EUNREACHABLE;
    net_protocol *handled = count ? protocol_find(host, cal_slice_text(protocols[0])) : NULL;
    host_enter(host);
    int result = stream_open(connection, protocols, count, events, user,
                             handled && handled->options.background, ret_stream);
    host_leave_quietly(host);
    return result;
}

/* --- reading and writing --- */

size_t cal_p2p_stream_peek(const cal_p2p_stream *stream, const uint8_t **ret_bytes) {
    if (stream->negotiation || stream->closed) return 0;
    cal_slice piece = net_queue_peek(&stream->mux.received);
    *ret_bytes = piece.data;
    return piece.len;
}

void cal_p2p_stream_consume(cal_p2p_stream *stream, size_t len) {
    if (stream->closed || len == 0) return;
    cal_p2p *host = stream->connection->host;
    host_enter(host);
    yamux_consume(&stream->mux, len);
    if (!cal_list_empty(&stream->mux.sends)) connection_dirty(stream->connection);
    end_if_done(stream);
    host_leave_quietly(host);
}

size_t cal_p2p_stream_waiting(const cal_p2p_stream *stream) {
    return stream->negotiation || stream->closed ? 0 : stream->mux.received.len;
}

bool cal_p2p_stream_ended(const cal_p2p_stream *stream) {
    return !stream->negotiation && stream->mux.peer_finished && stream->mux.received.len == 0;
}

size_t cal_p2p_stream_room(const cal_p2p_stream *stream) {
    if (stream->closed || stream->held_finish) return 0;
    size_t room = yamux_room(&stream->mux);
    return room > stream->held.len ? room - stream->held.len : 0;
}

size_t cal_p2p_stream_write(cal_p2p_stream *stream, const void *bytes, size_t len) {
    size_t room = cal_p2p_stream_room(stream), part = len < room ? len : room;
    cal_p2p *host = stream->connection->host;
    if (stream->closed || stream->held_finish) return 0;
    host_enter(host);
    if (stream->negotiation) {
        if (part && net_queue_append(&stream->held, bytes, part)) part = 0;
        if (part < len) stream->held_short = true;
    } else {
        part = yamux_write(&stream->mux, bytes, len);
        connection_dirty(stream->connection);
    }
    host->stats.writes_short += part < len;
    host_leave_quietly(host);
    return part;
}

void stream_tell(cal_p2p_stream *stream, unsigned events) {
    cal_p2p *host = stream->connection->host;
    host_enter(host);
    if (stream->negotiation)
        stream->held_short |= (events & STREAM_WRITABLE) != 0; /* once it is agreed */
    else if (!stream->closed)
        note(stream, events);
    host_leave_quietly(host);
}

void stream_want_room(cal_p2p_stream *stream) {
    cal_p2p *host = stream->connection->host;
    if (stream->negotiation) {
        stream->held_short = true;
        return;
    }
    stream->mux.short_write = true;
    /* Nothing of its own is to be sent that would tell: the others leave no room. */
    if (stream->mux.sending.len == 0 && cal_list_empty(&stream->starved))
        cal_list_push(&host->starved, &stream->starved);
}

void cal_p2p_stream_finish(cal_p2p_stream *stream) {
    if (stream->closed || stream->held_finish) return;
    cal_p2p *host = stream->connection->host;
    host_enter(host);
    stream->held_finish = true;
    if (!stream->negotiation) yamux_finish(&stream->mux);
    connection_dirty(stream->connection);
    host_leave_quietly(host);
}

void cal_p2p_stream_reset(cal_p2p_stream *stream) {
    cal_p2p *host = stream->connection->host;
    host_enter(host);
    stream_lost(stream, CAL_ECANCELED);
    host_leave_quietly(host);
}

void cal_p2p_stream_set_events(cal_p2p_stream *stream, const cal_p2p_stream_events *events,
                               void *user) {
    cal_p2p *host = stream->connection->host;
    host_enter(host);
    stream->events = events ? events : &nothing;
    stream->user = user;
    end_if_done(stream);
    host_leave_quietly(host);
}

void *cal_p2p_stream_user(const cal_p2p_stream *stream) { return stream->user; }

void cal_p2p_stream_peer(const cal_p2p_stream *stream, cal_peer_id *ret_id) {
    *ret_id = stream->connection->channel.peer;
}

const char *cal_p2p_stream_protocol(const cal_p2p_stream *stream) {
    return stream->protocol ? stream->protocol : "";
}

bool cal_p2p_stream_incoming(const cal_p2p_stream *stream) { return stream->mux.incoming; }

cal_p2p *cal_p2p_stream_host(const cal_p2p_stream *stream) { return stream->connection->host; }
