/* See yamux.h. Frame: version 0, type, flags (2 bytes), stream id (4), length (4), big endian; only
 * data frames have a body. */
#include "net/yamux.h"

#include <assert.h>
#include <stdlib.h>

#include "calimero/error.h"

enum { DATA, WINDOW_UPDATE, PING, GO_AWAY };
enum { SYN = 1, ACK = 2, FIN = 4, RST = 8 };

static void put_header(uint8_t *to, uint8_t type, uint16_t flags, uint32_t id, uint32_t len) {
    to[0] = 0;
    to[1] = type;
    cal_write_u16be(to + 2, flags);
    cal_write_u32be(to + 4, id);
    cal_write_u32be(to + 8, len);
}

static int control(yamux *session, uint8_t type, uint16_t flags, uint32_t id, uint32_t len) {
    uint8_t header[YAMUX_HEADER];
    put_header(header, type, flags, id, len);
    return cal_buffer_append(&session->control, header, sizeof header);
}

void yamux_init(yamux *session, bool client, uint32_t streams_max, size_t stream_size,
                size_t *unread, size_t unread_max) {
    memset(session, 0, sizeof *session);
    session->client = client;
    session->next_id = client ? 1 : 2;
    session->streams_max = streams_max;
    session->stream_size = stream_size;
    session->unread = unread;
    session->unread_max = unread_max;
    session->unsent = &session->unsent_own;
    session->unsent_max = SIZE_MAX;
    session->spread = 0x9e3779b1;
    cal_list_init(&session->streams);
    cal_list_init(&session->events);
    cal_list_init(&session->sends);
    cal_buffer_init(&session->control, YAMUX_CONTROL_MAX);
}

/* --- streams --- */

static yamux_stream **bucket_of(yamux *session, uint32_t id) {
    uint32_t mixed = id * session->spread;
    mixed = (mixed ^ mixed >> 15) * 0x9e3779b1; /* one factor alone leaves steps in some of them */
    return &session->buckets[mixed >> (32 - YAMUX_BUCKET_BITS)];
}

static yamux_stream *find(yamux *session, uint32_t id) {
    yamux_stream *stream = *bucket_of(session, id);
    while (stream && stream->id != id) stream = stream->chain;
    return stream;
}

static yamux_stream *add(yamux *session, uint32_t id, bool incoming) {
    yamux_stream *stream = calloc(1, session->stream_size);
    if (!stream) return NULL;
    stream->session = session;
    stream->id = id;
    stream->incoming = incoming;
    stream->send_window = stream->receive_window = YAMUX_WINDOW;
    stream->say_open = true;
    stream->received.pool = stream->sending.pool = session->pool;
    cal_list_init(&stream->event);
    cal_list_init(&stream->sends);
    cal_list_push(&session->streams, &stream->link);
    cal_list_push(&session->sends, &stream->sends);
    yamux_stream **bucket = bucket_of(session, id);
    stream->chain = *bucket;
    *bucket = stream;
    session->stream_count++;
    return stream;
}

static void happened(yamux_stream *stream, unsigned event) {
    stream->events |= event;
    if (cal_list_empty(&stream->event)) cal_list_push(&stream->session->events, &stream->event);
}

/* Something of the stream waits to be sent. */
static void sends(yamux_stream *stream) {
    if (cal_list_empty(&stream->sends)) cal_list_push(&stream->session->sends, &stream->sends);
}

static void count_unread(yamux *session, size_t more, size_t less) {
    *session->unread += more - less;
    session->unread_own += more - less;
}

/* From here on only release does anything. What was received counts no more, but its memory stays
 * until then: the owner may be reading it. */
static void kill_stream(yamux_stream *stream) {
    if (stream->reset) return;
    count_unread(stream->session, 0, stream->received.len);
    *stream->session->unsent -= stream->sending.len;
    net_queue_deinit(&stream->sending);
    cal_list_remove(&stream->sends);
    if (stream->session->body_of == stream) stream->session->body_of = NULL;
    stream->reset = true;
}

static void check_done(yamux_stream *stream) {
    if (stream->peer_finished && stream->finish_sent && !stream->reset)
        happened(stream, YAMUX_DONE);
}

int yamux_open(yamux *session, yamux_stream **ret_stream) {
    if (session->away || session->away_sent) return CAL_ECANCELED;
    if (session->stream_count >= session->streams_max || session->next_id > INT32_MAX)
        return CAL_ELIMIT;
    yamux_stream *stream = add(session, session->next_id, false);
    if (!stream) return CAL_ENOMEM;
    session->next_id += 2;
    *ret_stream = stream;
    return 0;
}

size_t yamux_room(const yamux_stream *stream) {
    const yamux *session = stream->session;
    size_t max = *session->unsent < session->unsent_max ? YAMUX_SEND_MAX : YAMUX_SEND_SHARE;
    if (stream->finish || stream->reset || stream->sending.len >= max) return 0;
    return max - stream->sending.len;
}

size_t yamux_write(yamux_stream *stream, const void *bytes, size_t len) {
    size_t room = yamux_room(stream), part = len < room ? len : room;
    if (part && net_queue_append(&stream->sending, bytes, part)) part = 0;
    if (part < len) stream->short_write = true;
    *stream->session->unsent += part;
    if (part) sends(stream);
    return part;
}

void yamux_write_queue(yamux_stream *stream, net_queue *from, bool short_write) {
    *stream->session->unsent += from->len;
    net_queue_move(&stream->sending, from);
    stream->short_write |= short_write;
    if (stream->sending.len || stream->short_write) sends(stream);
}

void yamux_consume(yamux_stream *stream, size_t len) {
    net_queue_consume(&stream->received, len);
    if (stream->reset) return; /* it was given back then */
    count_unread(stream->session, 0, len);
    stream->consumed += (uint32_t)len;
    if (stream->consumed >= YAMUX_GIVE_BACK && !stream->peer_finished) sends(stream);
}

void yamux_finish(yamux_stream *stream) {
    if (stream->finish || stream->reset) return;
    stream->finish = true;
    sends(stream);
}

void yamux_reset(yamux_stream *stream) {
    if (stream->reset) return;
    /* A stream the peer never heard of needs no reset. A full control buffer ends the session at
     * the peer's next frame. */
    bool known = stream->incoming || !stream->say_open;
    if (known && !(stream->peer_finished && stream->finish_sent))
        control(stream->session, WINDOW_UPDATE, RST, stream->id, 0);
    kill_stream(stream);
}

static void free_stream(yamux_stream *stream) {
    yamux *session = stream->session;
    yamux_stream **at = bucket_of(session, stream->id);
    while (*at != stream) at = &(*at)->chain;
    *at = stream->chain;
    cal_list_remove(&stream->link);
    cal_list_remove(&stream->event);
    session->stream_count--;
    net_queue_deinit(&stream->received);
    free(stream);
}

void yamux_release(yamux_stream *stream) {
    yamux_reset(stream);
    free_stream(stream);
}

void yamux_deinit(yamux *session) {
    if (!session->stream_size) return; /* never initialised */
    while (!cal_list_empty(&session->streams)) {
        yamux_stream *stream = CAL_CONTAINER_OF(session->streams.next, yamux_stream, link);
        kill_stream(stream);
        free_stream(stream);
    }
    cal_buffer_deinit(&session->control);
}

yamux_stream *yamux_next(yamux *session, unsigned *ret_events) {
    cal_list *first = cal_list_pop(&session->events);
    if (!first) return NULL;
    yamux_stream *stream = CAL_CONTAINER_OF(first, yamux_stream, event);
    *ret_events = stream->events;
    stream->events = 0;
    return stream;
}

void yamux_go_away(yamux *session, uint32_t code) {
    if (session->away_sent) return;
    session->away_sent = true;
    control(session, GO_AWAY, 0, 0, code);
}

/* --- receiving --- */

/* The peer opens a stream. It may be refused (*ret_stream stays NULL). */
static int on_syn(yamux *session, uint32_t id, yamux_stream **ret_stream) {
    bool peers_side = (id % 2 == 1) == !session->client;
    if (id == 0 || !peers_side || find(session, id)) return CAL_EDECODE;
    session->opened++;
    if (session->stream_count >= session->streams_max || session->away_sent) {
        session->refused++;
        return control(session, WINDOW_UPDATE, RST, id, 0);
    }
    yamux_stream *stream = add(session, id, true);
    if (!stream) return CAL_ENOMEM;
    happened(stream, YAMUX_NEW);
    *ret_stream = stream;
    return 0;
}

static void on_flags(yamux_stream *stream, uint16_t flags) {
    if (flags & RST) {
        kill_stream(stream);
        happened(stream, YAMUX_RESET);
    } else if (flags & FIN && !stream->peer_finished) {
        stream->peer_finished = true;
        happened(stream, YAMUX_READABLE);
        check_done(stream);
    }
}

static int on_window(yamux_stream *stream, uint32_t more) {
    if (more > UINT32_MAX - stream->send_window) return CAL_EDECODE;
    stream->send_window += more;
    if (stream->sending.len && !stream->reset) sends(stream);
    return 0;
}

static int on_data(yamux *session, yamux_stream *stream, uint32_t len, uint16_t flags) {
    session->body_left = len;
    session->body_of = NULL;
    if (!stream || stream->reset) return 0; /* of a stream that is gone here: let it pass */
    if (stream->peer_finished && len) return CAL_EDECODE;
    if (len > stream->receive_window) return CAL_ELIMIT;
    stream->receive_window -= len;
    if (len && !(flags & RST)) session->body_of = stream;
    return 0;
}

static int on_frame(yamux *session) {
    const uint8_t *p = session->header;
    uint8_t type = p[1];
    uint16_t flags = cal_read_u16be(p + 2);
    uint32_t id = cal_read_u32be(p + 4), len = cal_read_u32be(p + 8);
    yamux_stream *stream = NULL;
    int result = 0;
    if (p[0] != 0 || type > GO_AWAY || flags > (SYN | ACK | FIN | RST)) return CAL_EDECODE;
    if (type == PING) return flags & SYN ? control(session, PING, ACK, 0, len) : 0;
    if (type == GO_AWAY) {
        session->away = true;
        return 0;
    }
    if (flags & SYN)
        result = on_syn(session, id, &stream);
    else
        stream = find(session, id);
    if (result) return result;
    if (!stream || stream->reset) session->ignored++;
    if (type == DATA)
        result = on_data(session, stream, len, flags);
    else if (stream && !stream->reset)
        result = on_window(stream, len);
    /* The end that comes with a body is told after it. */
    if (!result && stream && !stream->reset && !(type == DATA && len && !(flags & RST)))
        on_flags(stream, flags);
    return result;
}

static int on_body(yamux *session, const uint8_t *bytes, size_t len) {
    yamux_stream *stream = session->body_of;
    session->body_left -= (uint32_t)len;
    if (!stream) return 0;
    if (*session->unread + len > session->unread_max &&
        session->unread_own + len > YAMUX_UNREAD_SURE) {
        /* Too much is unread in all sessions, and here: this stream gives way. */
        session->refused++;
        yamux_reset(stream);
        happened(stream, YAMUX_RESET);
        return 0;
    }
    if (net_queue_append(&stream->received, bytes, len)) return CAL_ENOMEM;
    count_unread(session, len, 0);
    happened(stream, YAMUX_READABLE);
    if (session->body_left == 0) {
        session->body_of = NULL;
        on_flags(stream, cal_read_u16be(session->header + 2));
    }
    return 0;
}

int yamux_feed(yamux *session, const uint8_t *bytes, size_t len) {
    int result = 0;
    while (len > 0 && !result) {
        size_t part;
        if (session->body_left) {
            part = len < session->body_left ? len : session->body_left;
            result = on_body(session, bytes, part);
        } else {
            part = YAMUX_HEADER - session->header_have;
            if (part > len) part = len;
            memcpy(session->header + session->header_have, bytes, part);
            session->header_have += part;
            if (session->header_have == YAMUX_HEADER) {
                session->header_have = 0;
                result = on_frame(session);
            }
        }
        bytes += part;
        len -= part;
    }
    if (!result && session->control.error) result = session->control.error;
    return result == CAL_ELIMIT && session->control.error == CAL_ELIMIT ? CAL_EOVERLOAD : result;
}

/* --- sending --- */

static uint16_t open_flag(yamux_stream *stream) {
    if (!stream->say_open) return 0;
    stream->say_open = false;
    return stream->incoming ? ACK : SYN;
}

static int append_header(cal_buffer *out, uint8_t type, uint16_t flags, uint32_t id, uint32_t len) {
    uint8_t header[YAMUX_HEADER];
    put_header(header, type, flags, id, len);
    return cal_buffer_append(out, header, sizeof header);
}

/* One frame's worth of what the stream has; *ret_more: there is more that could go now. */
static int send_some(yamux_stream *stream, cal_buffer *out, bool *ret_more) {
    *ret_more = false;
    if (stream->consumed >= YAMUX_GIVE_BACK && !stream->peer_finished) {
        uint32_t back = stream->consumed;
        stream->consumed = 0;
        stream->receive_window += back;
        int result = append_header(out, WINDOW_UPDATE, open_flag(stream), stream->id, back);
        if (result) return result;
    }
    size_t part = stream->sending.len;
    if (part > stream->send_window) part = stream->send_window;
    if (part > YAMUX_FRAME_MAX) part = YAMUX_FRAME_MAX;
    if (part || (stream->say_open && !stream->finish)) {
        uint16_t flags = open_flag(stream);
        uint8_t *to = cal_buffer_reserve(out, YAMUX_HEADER + part);
        if (!to) return out->error;
        put_header(to, part ? DATA : WINDOW_UPDATE, flags, stream->id, (uint32_t)part);
        net_queue_take(&stream->sending, to + YAMUX_HEADER, part);
        *stream->session->unsent -= part;
        out->len += YAMUX_HEADER + part;
        stream->send_window -= (uint32_t)part;
    }
    /* The end goes in a frame of its own: js-libp2p loses data that comes in the same one. And in a
     * data frame: the Yamux of rust-libp2p that the network's nodes use (0.12) does not wake who
     * waits to read when it comes with a window. */
    if (stream->finish && !stream->finish_sent && stream->sending.len == 0) {
        int result = append_header(out, DATA, (uint16_t)(open_flag(stream) | FIN), stream->id, 0);
        if (result) return result;
        stream->finish_sent = true;
        check_done(stream);
    }
    if (stream->short_write && !stream->finish && stream->sending.len <= YAMUX_SEND_MAX / 2) {
        stream->short_write = false;
        happened(stream, YAMUX_WRITABLE);
    }
    *ret_more = stream->sending.len > 0 && stream->send_window > 0;
    return 0;
}

int yamux_drain(yamux *session, cal_buffer *out, size_t max) {
    int result = 0;
    if (session->control.len && out->len < max) {
        result = cal_buffer_append_slice(out, cal_buffer_slice(&session->control));
        if (result) return result;
        cal_buffer_deinit(&session->control);
    }
    while (out->len < max && !result) {
        cal_list *first = cal_list_pop(&session->sends);
        if (!first) break;
        yamux_stream *stream = CAL_CONTAINER_OF(first, yamux_stream, sends);
        bool more;
        result = send_some(stream, out, &more);
        if (more) sends(stream);
    }
    return result;
}
