/* Yamux: many streams over one ordered channel (yamux specification). A filter: takes bytes, gives
 * bytes when asked, does no I/O and calls nobody.
 *
 * Each direction of a stream has a window of 256 KiB: a sender stops when it is used up, and a
 * receiver reopens it only as its owner consumes, so neither end can make the other keep more.
 * Streams are looked after by the owner: yamux_next tells which one something happened to, and
 * yamux_release ends its life. */
#ifndef CAL_NET_YAMUX_H
#define CAL_NET_YAMUX_H

#include "base/buffer.h"
#include "base/list.h"
#include "net/queue.h"

enum {
    YAMUX_WINDOW = 256 * 1024,
    YAMUX_GIVE_BACK = YAMUX_WINDOW / 4, /* consumed bytes from which a peer is told */
    YAMUX_HEADER = 12,
    YAMUX_SEND_MAX = 1024 * 1024 + 16, /* bytes of one stream that wait to be sent */
    YAMUX_SEND_SHARE = 16 * 1024,      /* ... once too many wait in all streams */
    YAMUX_UNREAD_SURE =
        256 * 1024, /* unread bytes of a session, also when all others' are too many */
    YAMUX_FRAME_MAX = 32 * 1024 - 32, /* bytes of one data frame of ours, so that streams share;
                                         two with their headers fit a Noise message */
    YAMUX_CONTROL_MAX = 192 * 1024,   /* answers to a peer that waits for none of them */
    YAMUX_BUCKET_BITS = 5,
    YAMUX_BUCKETS = 1 << YAMUX_BUCKET_BITS,
};

enum yamux_event {
    YAMUX_NEW = 1,      /* the peer opened it */
    YAMUX_READABLE = 2, /* more bytes, or the peer's end of them */
    YAMUX_WRITABLE = 4, /* after a short write: there is room */
    YAMUX_RESET = 8,    /* by the peer */
    YAMUX_DONE = 16,    /* both ends finished and everything was sent */
};

typedef struct yamux yamux;

/* Embedded first in what the owner keeps for a stream. */
typedef struct yamux_stream {
    cal_list link;  /* of the session's streams */
    cal_list event; /* of those something happened to */
    cal_list sends; /* of those with something to send */
    struct yamux_stream *chain;
    yamux *session; /* NULL once released */
    uint32_t id;
    unsigned events;
    net_queue received, sending;
    uint32_t send_window;    /* what the peer still takes */
    uint32_t receive_window; /* what the peer may still send */
    uint32_t consumed;       /* not yet given back to it */
    bool incoming, say_open /* SYN or ACK not sent yet */, finish, finish_sent, peer_finished,
        reset;
    bool short_write;
} yamux_stream;

struct yamux {
    bool client, away /* the peer takes no new streams */, away_sent;
    uint32_t next_id, streams_max, stream_count;
    size_t stream_size;
    size_t *unread, unread_max; /* shared by sessions: bytes received and not consumed */
    size_t *unsent, unsent_max; /* likewise: written and not sent. Set after yamux_init, or none */
    uint32_t spread; /* odd; over the buckets. Set after yamux_init where peers may choose ids */
    net_pool *pool;  /* of the streams' queues; NULL, or set before the first stream */
    cal_list streams, events, sends;
    yamux_stream *buckets[YAMUX_BUCKETS];
    cal_buffer control;
    uint8_t header[YAMUX_HEADER];
    size_t header_have;
    uint32_t body_left;    /* of the data frame under way */
    yamux_stream *body_of; /* NULL: nobody wants it */
    /* Streams opened by the peer, refused at a limit; frames for no stream. */
    uint64_t opened, refused, ignored;
    size_t unsent_own, unread_own;
};

/* stream_size: bytes to allocate for each stream, its yamux_stream first. */
void yamux_init(yamux *session, bool client, uint32_t streams_max, size_t stream_size,
                size_t *unread, size_t unread_max);
/* Frees what is left of it, streams that were not released included. */
void yamux_deinit(yamux *session);

/* Takes all bytes. CAL_EDECODE a bad frame, CAL_ELIMIT a window exceeded, CAL_EOVERLOAD too many
 * answers asked for, CAL_ENOMEM: the session is over. */
int yamux_feed(yamux *session, const uint8_t *bytes, size_t len);
/* Appends frames to out until it holds about `max` bytes or nothing is left to send. Frames, once
 * begun, are whole. CAL_ENOMEM, CAL_ELIMIT. */
int yamux_drain(yamux *session, cal_buffer *out, size_t max);
/* The next stream something happened to, and what; NULL: none. */
yamux_stream *yamux_next(yamux *session, unsigned *ret_events);

/* CAL_ELIMIT too many streams, CAL_ECANCELED the peer went away, CAL_ENOMEM. */
int yamux_open(yamux *session, yamux_stream **ret_stream);
size_t yamux_write(yamux_stream *stream, const void *bytes, size_t len);
/* Takes all of the queue, which may be empty; tells of room when `short_write`. */
void yamux_write_queue(yamux_stream *stream, net_queue *from, bool short_write);
size_t yamux_room(const yamux_stream *stream);
void yamux_consume(yamux_stream *stream, size_t len);
void yamux_finish(yamux_stream *stream);
void yamux_reset(yamux_stream *stream); /* tells the peer; nothing more happens to it */
/* Takes it out of the session and frees it; resets it first when it is not done. */
void yamux_release(yamux_stream *stream);
/* Tells the peer that no new streams are taken. 0 normal, 1 protocol error, 2 internal error. */
void yamux_go_away(yamux *session, uint32_t code);

#endif
