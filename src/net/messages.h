/* Messages over a stream, one frame each, with the limits and timeouts of network-sync.md 2: a u32
 * big-endian length and at most NET_MESSAGE_MAX bytes. What /calimero/stream and /calimero/blob
 * stand on; what the messages say is their owners' business.
 *
 * A message is given only to an owner that expects one, and awaited no longer than it said; then
 * nothing is read until it expects the next. So a peer that asks faster than it is answered fills
 * its window and no memory. Times are checked once a second. Loop thread. */
#ifndef CAL_NET_MESSAGES_H
#define CAL_NET_MESSAGES_H

#include "net/net.h"

#define NET_STREAM_PROTOCOL "/calimero/stream/0.0.2"
#define NET_BLOB_PROTOCOL "/calimero/blob/0.0.2"
#define NET_BLOB_REST_PROTOCOL "/calimero-c/blob-rest/1" /* ours: from an offset on */

/* Numbers of the network, network-sync.md 2 and 10. */
enum {
    NET_MESSAGE_MAX = 8 * 1024 * 1024,
    NET_MESSAGES_OUT_MAX = 64 * 1024 * 1024, /* of all streams, not yet taken: a bound of ours */
    NET_OPEN_TIMEOUT_MS = 3000,
    NET_REQUEST_TIMEOUT_MS = 10000,     /* a responder, for the next request */
    NET_ANSWER_TIMEOUT_MS = 30000,      /* inside a session, for the next message */
    NET_SESSION_TIMEOUT_MS = 30000,     /* all of a session, at its initiator */
    NET_BLOB_TIMEOUT_MS = 60000,        /* all of a blob, at its requester */
    NET_BLOB_SERVE_TIMEOUT_MS = 300000, /* and at its server */
};

typedef struct net_messages net_messages;

/* What the owner is told, never inside a call into this module. Any but `ended` may be NULL. */
typedef struct net_messages_events {
    void (*opened)(void *user, net_messages *messages); /* the protocol is agreed */
    /* Valid during the call. */
    void (*message)(void *user, net_messages *messages, cal_slice bytes);
    void (*sent)(void *user, net_messages *messages); /* the last message has been taken whole */
    /* It is gone. 0: both ends finished, between messages. CAL_ETIMEOUT, CAL_EDECODE (ended inside
     * a message), CAL_ELIMIT (a longer message, or no memory left for half-received ones),
     * CAL_ECANCELED reset, CAL_EUNREACHABLE, CAL_EUNSUPPORTED. */
    void (*ended)(void *user, net_messages *messages, int reason);
} net_messages_events;

/* Opens a stream to a connected peer; it is over after NET_OPEN_TIMEOUT_MS when the protocol is not
 * agreed by then, and after session_ms in any case. CAL_EUNREACHABLE, CAL_ELIMIT, CAL_ENOMEM. */
int net_messages_open(cal_p2p *host, const cal_peer_id *peer, const char *protocol,
                      uint32_t session_ms, const net_messages_events *events, void *user,
                      net_messages **ret_messages);

/* Serves a protocol: each accepted stream becomes messages with these events and `user`, expecting
 * its first message within NET_REQUEST_TIMEOUT_MS. */
typedef struct net_messages_protocol {
    const char *id;
    uint32_t session_ms;       /* of each stream; 0: as long as requests come in time */
    uint32_t peer_streams_max; /* as in cal_p2p_protocol */
    const net_messages_events *events;
    void *user;
} net_messages_protocol;
/* `protocol` is not copied. As cal_p2p_handle. */
int net_messages_serve(cal_p2p *host, const net_messages_protocol *protocol);
/* Accepts no more; what is open goes on. */
void net_messages_unserve(cal_p2p *host, const net_messages_protocol *protocol);

/* Sends one message; one at a time. CAL_EBUSY the last one is not taken yet (`sent`), CAL_ELIMIT,
 * CAL_ENOMEM, CAL_ESTATE finished or over, CAL_EOVERLOAD too much waits for peers that read slowly:
 * reset the stream, or try later. */
int net_messages_send(net_messages *messages, cal_slice bytes);
/* Ready for one more message, which may take so long from now. */
void net_messages_expect(net_messages *messages, uint32_t ms);
/* No more sending; what was sent still goes. By itself once the peer has finished and is heard. */
void net_messages_finish(net_messages *messages);
void net_messages_reset(net_messages *messages); /* `ended` follows with CAL_ECANCELED */

void net_messages_set_user(net_messages *messages, void *user);
void net_messages_peer(const net_messages *messages, cal_peer_id *ret_peer);

#endif
