/* Messages over a stream, see messages.h.
 *
 * Lifetime: a net_messages is made with its stream and freed when the stream's `closed` is told,
 * and only there. The host keeps a list of all, whose deadlines its tick checks. */
#include "net/messages.h"

#include <assert.h>
#include <stdlib.h>

#include "net/internal.h"

enum { HEADER_MAX = 5 };

struct net_messages {
    cal_list link; /* host->messages */
    cal_p2p_stream *stream;
    const net_messages_events *events;
    void *user;
    cal_p2p_frames frames;
    cal_buffer out; /* of the message being sent, what the stream has not taken */
    size_t counted; /* of it, in host->message_bytes */
    uint64_t session_by_ns, open_by_ns, expect_by_ns; /* NET_NEVER: no such limit now */
    bool expecting, sending, finishing;
    int reason; /* of our own reset; 0: none */
};

static uint64_t after(const cal_p2p *host, uint32_t ms) { return net_now_ns(host) + NET_MS(ms); }

static void end(net_messages *m, int reason) {
    if (m->reason) return;
    m->reason = reason;
    cal_p2p_stream_reset(m->stream);
}

/* --- writing --- */

static void out_free(net_messages *m) {
    cal_p2p_stream_host(m->stream)->message_bytes -= m->counted;
    m->counted = 0;
    cal_buffer_deinit(&m->out);
}

static void write_some(net_messages *m) {
    if (m->out.len)
        cal_buffer_consume(&m->out, cal_p2p_stream_write(m->stream, m->out.data, m->out.len));
    if (m->out.len) return; /* `writable` follows */
    out_free(m);
    if (m->finishing) cal_p2p_stream_finish(m->stream);
}

static void on_writable(void *user, cal_p2p_stream *stream) {
    net_messages *m = user;
    (void)stream;
    if (m->reason) return;
    write_some(m);
    if (m->out.len || !m->sending) return;
    m->sending = false;
    if (m->events->sent) m->events->sent(m->user, m);
}

int net_messages_send(net_messages *m, cal_slice bytes) {
    uint8_t header[HEADER_MAX];
    if (m->reason || m->finishing) return CAL_ESTATE;
    if (m->sending) return CAL_EBUSY;
    if (bytes.len > NET_MESSAGE_MAX) return CAL_ELIMIT;
    cal_p2p *host = cal_p2p_stream_host(m->stream);
    if (bytes.len > NET_MESSAGES_OUT_MAX - host->message_bytes) {
        host->stats.sends_refused++;
        return CAL_EOVERLOAD;
    }
    size_t size = cal_p2p_frames_header(CAL_P2P_FRAME_U32BE, (uint32_t)bytes.len, header);
    cal_buffer_init(&m->out, NET_MESSAGE_MAX + HEADER_MAX);
    cal_buffer_append(&m->out, header, size);
    cal_buffer_append(&m->out, bytes.data, bytes.len);
    if (m->out.error) {
        cal_buffer_deinit(&m->out);
        return CAL_ENOMEM;
    }
    m->sending = true;
    m->counted = bytes.len;
    host->message_bytes += bytes.len;
    write_some(m);
    if (m->out.len == 0) stream_tell(m->stream, STREAM_WRITABLE); /* and from there `sent` */
    return 0;
}

void net_messages_finish(net_messages *m) {
    if (m->reason || m->finishing) return;
    m->finishing = m->stream->finishing = true;
    if (m->out.len == 0) cal_p2p_stream_finish(m->stream);
    stream_tell(m->stream, STREAM_READABLE); /* a responder hears no more: drop_unheard */
}

void net_messages_reset(net_messages *m) { end(m, CAL_ECANCELED); }

/* --- reading --- */

/* Who answers and has finished cannot answer what else was asked; it must not keep the stream. Who
 * asks may still expect what is there. */
static void drop_unheard(net_messages *m) {
    if (m->finishing && !m->expecting && m->stream->mux.incoming && m->stream->mux.peer_finished)
        cal_p2p_stream_consume(m->stream, cal_p2p_stream_waiting(m->stream));
}

static void on_readable(void *user, cal_p2p_stream *stream) {
    net_messages *m = user;
    const uint8_t *bytes;
    size_t len;
    int result = CAL_ESTATE;
    while (m->expecting && !m->reason &&
           !(result = cal_p2p_frames_next(&m->frames, stream, &bytes, &len))) {
        m->expecting = false;
        m->expect_by_ns = NET_NEVER;
        if (m->events->message) m->events->message(m->user, m, cal_slice_of(bytes, len));
        /* There may be no next call that drops it, and a stream with unread bytes does not end. */
        frames_drop_given(&m->frames, stream);
        result = CAL_ESTATE;
    }
    if (m->reason) return;
    if (result == CAL_ESTATE) {
        drop_unheard(m);
        return;
    }
    m->expecting = false;
    m->expect_by_ns = NET_NEVER;
    if (result == CAL_ENOTFOUND)
        net_messages_finish(m);
    else
        end(m, result);
}

void net_messages_expect(net_messages *m, uint32_t ms) {
    m->expecting = true;
    m->expect_by_ns = after(cal_p2p_stream_host(m->stream), ms);
    stream_tell(m->stream, STREAM_READABLE); /* there may be bytes already */
}

/* --- life --- */

static void on_opened(void *user, cal_p2p_stream *stream) {
    net_messages *m = user;
    (void)stream;
    m->open_by_ns = NET_NEVER;
    if (m->events->opened) m->events->opened(m->user, m);
}

static void on_closed(void *user, cal_p2p_stream *stream, int reason) {
    net_messages *m = user;
    (void)stream;
    cal_list_remove(&m->link);
    cal_p2p_frames_deinit(&m->frames);
    out_free(m);
    m->events->ended(m->user, m, m->reason ? m->reason : reason);
    free(m);
}

static const cal_p2p_stream_events stream_events = {on_opened, on_readable, on_writable, on_closed};
static const cal_p2p_stream_events no_events = {0};

static net_messages *messages_new(cal_p2p *host, const net_messages_events *events, void *user,
                                  uint32_t session_ms) {
    net_messages *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    assert(events->ended);
    m->events = events;
    m->user = user;
    m->open_by_ns = m->expect_by_ns = NET_NEVER;
    m->session_by_ns = session_ms ? after(host, session_ms) : NET_NEVER;
    cal_p2p_frames_init(&m->frames, CAL_P2P_FRAME_U32BE, NET_MESSAGE_MAX);
    cal_list_push(&host->messages, &m->link);
    return m;
}

int net_messages_open(cal_p2p *host, const cal_peer_id *peer, const char *protocol,
                      uint32_t session_ms, const net_messages_events *events, void *user,
                      net_messages **ret_messages) {
    net_messages *m = messages_new(host, events, user, session_ms);
    if (!m) return CAL_ENOMEM;
    m->open_by_ns = after(host, NET_OPEN_TIMEOUT_MS);
    int result = cal_p2p_open(host, peer, &protocol, 1, &stream_events, m, &m->stream);
    if (result) {
        cal_list_remove(&m->link);
        free(m);
        return result;
    }
    *ret_messages = m;
    return 0;
}

static void on_accepted(void *user, cal_p2p_stream *stream) {
    const net_messages_protocol *protocol = user;
    net_messages *m = messages_new(cal_p2p_stream_host(stream), protocol->events, protocol->user,
                                   protocol->session_ms);
    if (!m) {
        cal_p2p_stream_set_events(stream, &no_events, NULL);
        cal_p2p_stream_reset(stream);
        return;
    }
    m->stream = stream;
    cal_p2p_stream_set_events(stream, &stream_events, m);
    net_messages_expect(m, NET_REQUEST_TIMEOUT_MS);
    on_opened(m, stream);
}

static const cal_p2p_stream_events accept_events = {on_accepted, NULL, NULL, NULL};

int net_messages_serve(cal_p2p *host, const net_messages_protocol *protocol) {
    return cal_p2p_handle(host,
                          &(cal_p2p_protocol){.id = protocol->id,
                                              .events = &accept_events,
                                              .user = (void *)(uintptr_t)protocol,
                                              .peer_streams_max = protocol->peer_streams_max});
}

void net_messages_unserve(cal_p2p *host, const net_messages_protocol *protocol) {
    cal_p2p_unhandle(host, protocol->id);
}

void messages_tick(cal_p2p *host) {
    for (cal_list *at = host->messages.next; at != &host->messages; at = at->next) {
        net_messages *m = CAL_CONTAINER_OF(at, net_messages, link);
        if (host->now_ns >= m->session_by_ns || host->now_ns >= m->open_by_ns ||
            host->now_ns >= m->expect_by_ns)
            end(m, CAL_ETIMEOUT);
    }
}

void net_messages_set_user(net_messages *m, void *user) { m->user = user; }
void net_messages_peer(const net_messages *m, cal_peer_id *ret_peer) {
    cal_p2p_stream_peer(m->stream, ret_peer);
}
