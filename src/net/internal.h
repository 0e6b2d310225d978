/* What the files of a host share.
 *
 *   host.c        making and freeing, timers, the order in which things happen
 *   accept.c      which incoming connections and streams are taken
 *   connection.c  one connection as a stack of filters: security, noise, muxer, yamux
 *   stream.c      streams over it: negotiation, events, the public calls
 *   peer.c        who is known and connected; which of two connections is kept
 *   dial.c        addresses in the order they are tried, several at a time
 *   identify.c  ping.c   the two protocols every host speaks
 *
 * Order. Whatever enters the host is bracketed: the transport's events by host_enter and
 * host_leave, public calls by host_enter and host_leave_quietly. Inside, things are only noted:
 * streams on `ready`, peers on `notices`, finished dials on `answers`, connections on `dirty`. The
 * outermost host_leave tells them, sends, and frees what is dead; a public call from outside only
 * sends, and has the transport wake the host for the rest. So no callback runs inside the call that
 * causes it, and nothing is freed while it is in use. */
#ifndef CAL_NET_INTERNAL_H
#define CAL_NET_INTERNAL_H

#include "base/error.h"
#include "base/log.h"
#include "base/map.h"
#include "net/multiaddr.h"
#include "net/multistream.h"
#include "net/net.h"
#include "net/noise.h"
#include "net/rate.h"
#include "net/yamux.h"

enum {
    NET_LISTENS_MAX = 16,
    NET_BOOTSTRAP_MAX = 64,
    NET_PROTOCOLS_MAX = 64, /* that one host handles */
    NET_OBSERVERS_MAX = 8,
    NET_DIAL_TARGETS = 32, /* endpoints of one dial */
    NET_DIAL_QUERIES = 4,  /* names of one dial */
    NET_DIAL_PARALLEL = 3, /* network-sync.md 1 */
    NET_DIAL_STAGGER_MS = 250,
    NET_TICK_MS = 1000,
    NET_LEAP_MS = 10000, /* a tick that is so late is counted: this machine slept */
    NET_RETRY_MIN_MS = 1000,
    NET_RETRY_MAX_MS = 300000,
    NET_SEEKS_MAX = 4,       /* dials under way because too few are connected */
    NET_ADDRESSES_MS = 5000, /* between two looks at this machine's addresses */
    NET_INTERFACES_MAX = 256,
    NET_DRAIN_MS = 5000,
    NET_DOUBT_MS = 3000,        /* an unanswered ping, when the peer has another connection */
    NET_SIMULTANEOUS_MS = 3000, /* a peer's dial may be later than ours, and have begun before */
    NET_SOURCES = 512,          /* addresses whose rates are known */
    NET_GOODBYE_MS = 2000,      /* that a stop waits for what finished streams still send */
    NET_SEND_CHUNK = 2 * (YAMUX_HEADER + YAMUX_FRAME_MAX), /* sealed as one message */
    NET_SEND_ROUNDS = 16, /* chunks that one connection sends before others have their turn */
    NET_PAUSE_CONTROL = 32 * 1024, /* unsent answers over which a peer is not heard */
    NET_STREAM_BURST_S = 4,        /* streams opened at once: those of so many seconds */
    NET_STREAM_HELD_MS = 5000,     /* one who opens too many is not heard, at most so long */
    NET_FRAMES_SURE = 1088 * 1024, /* half received of one peer also when all is taken: a
                                       gossip RPC */
    NET_PING_SIZE = 32,
    NET_PING_FAILURES = 3,
    NET_ECHO_BYTES = 64 * 1024, /* pings answered in a second, one connection */
    NET_ECHO_QUEUE = 4 * 1024,  /* answers unsent of one stream */
    NET_IDENTIFY_RATE = 1,      /* messages a second to one connection, and from it */
    NET_IDENTIFY_BURST = 32,
    NET_TEXT_MAX = 128, /* of a peer's agent and protocol version */
};

#define NET_SEQNOS                                                                                 \
    (UINT64_C(1) << 32) /* messages that gossip publishes until it is started anew                 \
                         */

enum stream_event {
    STREAM_OPENED = 1,
    STREAM_READABLE = 2,
    STREAM_WRITABLE = 4,
    STREAM_CLOSED = 8,
};

typedef struct net_protocol {
    cal_list link;
    unsigned refs; /* the host's while handled, and one for each stream */
    cal_p2p_protocol options;
    char id[CAL_P2P_PROTOCOL_MAX];
} net_protocol;

typedef struct net_connection net_connection;
typedef struct net_peer net_peer;
typedef struct net_dial net_dial;

struct cal_p2p_stream {
    yamux_stream mux; /* first: yamux allocates it */
    cal_list ready, negotiating, starved;
    net_connection *connection;
    multistream *negotiation; /* NULL once agreed */
    uint64_t negotiate_by_ns;
    net_queue held;        /* written before the protocol was agreed */
    net_protocol *handler; /* incoming, agreed */
    char *names;           /* outgoing: what was proposed */
    const char *protocol;  /* agreed; NULL before */
    const cal_p2p_stream_events *events;
    void *user;
    unsigned pending; /* stream_event bits to tell */
    int reason;
    bool background, held_finish, held_short, done, closed;
    bool finishing; /* its owner writes what is left, then finishes */
};

enum connection_phase {
    CONNECTION_CONNECTING,
    CONNECTION_SECURITY,
    CONNECTION_NOISE,
    CONNECTION_MUXER,
    CONNECTION_OPEN,
    CONNECTION_CLOSED,
};

/* What a peer's half-received messages take; its connections share it. It outlives them as long as
 * one of the messages is kept; the host outlives both. */
typedef struct net_account {
    cal_p2p *host;
    unsigned refs;
    size_t frame_bytes;
} net_account;

/* Each connection has its own, so that a half-open one is found also beside one that works, and
 * that the failures of one never end another. */
typedef struct net_ping {
    cal_p2p_stream *stream;
    uint8_t sent[NET_PING_SIZE], got[NET_PING_SIZE];
    size_t have;
    bool waiting, unsupported;
    uint64_t at_ns;       /* sent, or to be sent */
    uint64_t answered_ns; /* last; 0: never */
    uint32_t failures;
} net_ping;

struct net_connection {
    cal_list link;    /* host->pending, then host->connections */
    cal_list of_peer; /* peer->connections */
    cal_list dirty;
    cal_p2p *host;
    net_wire *wire; /* NULL once gone */
    net_endpoint remote, local;
    enum connection_phase phase;
    bool outgoing, blocked, paused, draining, away;
    multistream *negotiation;
    noise channel;
    yamux mux;
    cal_buffer out;
    net_peer *peer; /* proven */
    net_dial *dial;
    net_ping ping;
    uint64_t made_ns, handshake_by_ns, since_ns, used_ns;
    net_account *account;
    net_rate streams, identify_said, identify_heard, kad;
    uint32_t echoed; /* bytes since the last tick */
    bool echo_held;
    bool identify_asked;
    uint64_t held_until_ns; /* not read before: it opened streams too fast */
};

typedef struct known_address {
    cal_list link;
    bool was_good;     /* in this run */
    bool announced;    /* by a peer, or from the shelf: not by who made the host */
    uint32_t failures; /* attempts since it was good */
    uint16_t len;
    uint8_t bytes[];
} known_address;

struct net_peer {
    cal_peer_id id;
    cal_list addresses; /* best first: those with failures come after the others */
    size_t address_count;
    cal_list connections; /* the active one first */
    size_t connection_count;
    cal_list notice;
    bool told, gone, tell_identified, keep, telling;
    bool unsaved;        /* since the shelf has it */
    bool shelved;        /* the shelf has a record of it */
    uint64_t save_at_ns; /* not before */
    net_dial *dial;
    uint32_t failures;
    uint64_t retry_at_ns, seen_ns;
    /* identify */
    bool identified;
    char agent[NET_TEXT_MAX], version[NET_TEXT_MAX];
    char **protocols;
    size_t protocol_count;
    uint64_t rtt_ns; /* of the last ping on the active connection */
};

typedef struct dial_query {
    net_dial *dial; /* NULL: free */
    uint16_t port;
    enum multiaddr_code host;
    bool announced; /* what it leads to on this machine is not dialled */
} dial_query;

struct net_dial {
    cal_list link;
    cal_p2p *host;
    cal_peer_id peer; /* len 0: whoever answers */
    net_endpoint targets[NET_DIAL_TARGETS];
    size_t target_count, next, attempts, query_count;
    dial_query queries[NET_DIAL_QUERIES];
    uint64_t next_at_ns, deadline_ns;
    cal_list waiters;
    int failure;
    char detail[160];
};

typedef struct dial_waiter {
    cal_list link;
    cal_p2p_connected done;
    void *user;
    int result;
    cal_peer_id peer;
    char detail[160];
} dial_waiter;

typedef struct net_bootstrap {
    cal_multiaddr address;
    cal_peer_id peer; /* in the address, or who answered there last; len 0: nobody yet */
    bool named;       /* in the address */
    bool dialling;
    uint32_t failures;
    uint64_t retry_at_ns;
    cal_p2p *host;
} net_bootstrap;

struct net_observer {
    const cal_p2p_peer_events *events;
    void *user;
};

/* How fast connections come from one address. */
typedef struct net_source {
    net_endpoint endpoint;
    net_rate rate;
} net_source;

struct cal_p2p {
    net_transport *transport;
    net_transport_events transport_events;
    const cal_os *os;
    cal_p2p_shelf shelf;
    cal_secret seed;
    cal_peer_id id;
    noise_identity identity;
    cal_p2p_limits limits;
    uint32_t peers_wanted;
    char agent[NET_TEXT_MAX], version[NET_TEXT_MAX];
    net_endpoint listens[NET_LISTENS_MAX];
    size_t listen_count;
    cal_multiaddr external[NET_LISTENS_MAX];
    size_t external_count;
    net_bootstrap bootstrap[NET_BOOTSTRAP_MAX];
    size_t bootstrap_count;

    cal_list protocols; /* net_protocol */
    size_t protocol_count;
    struct net_observer observers[NET_OBSERVERS_MAX];
    size_t observer_count;
    cal_map peers; /* id bytes -> net_peer */
    cal_list pending, connections, dials, timers, messages;
    size_t pending_in, pending_out, connection_count, stream_count, unread, unsent, frame_bytes,
        message_bytes; /* of messages that streams have not taken */

    net_source sources[NET_SOURCES];
    net_rate accepts; /* of all */
    uint64_t source_seed;

    cal_list starved; /* streams that wait for others to send */
    cal_list ready, negotiating, notices, answers, dirty, later, dead;
    unsigned depth;
    uint64_t now_ns, tick_at_ns, wake_ns;
    uint64_t seqnos_used;                     /* gossip's, up to this */
    uint64_t addresses_at_ns, addresses_mark; /* of those that were announced */
    cal_buffer plain, frames, sealed;         /* scratch, shared by all connections */
    net_pool pool;                            /* of all streams' queues */
    bool announce, stopping, stopped;
    uint64_t stop_by_ns; /* what finished streams have not sent by then is lost */
    void (*stop_done)(void *user);
    void *stop_user;
    struct p2p_loop *loop;      /* of cal_p2p_new; NULL otherwise */
    struct gossip_host *gossip; /* gossip_host.c; NULL: not started */
    struct mdns_host *mdns;     /* likewise */
    size_t mdns_dials;          /* to peers that it found */
    struct kad_host *kad;
    struct rendezvous_host *rendezvous;
    cal_p2p_stats stats;
};

/* gossip_host.c */
void gossip_moved(cal_p2p *host, const cal_peer_id *peer); /* another connection is in use */

/* messages.c */
void messages_tick(cal_p2p *host); /* ends those that are late */

/* host.c */
void host_enter(cal_p2p *host);
void host_leave(cal_p2p *host);
void host_leave_quietly(cal_p2p *host);
/* Those of its addresses that are on loopback, or those that are not; returns how many. */
size_t host_addresses_on(const cal_p2p *host, bool loopback, cal_multiaddr *ret_addresses,
                         size_t max);

/* accept.c */
bool accept_allowed(cal_p2p *host, const net_endpoint *remote); /* counts what is over a limit */
/* Whether a stream that the peer opened stays, itself counted already. Counts when not. */
bool accept_stream(const net_connection *connection);

/* connection.c */
net_connection *connection_new(cal_p2p *host, bool outgoing, const net_endpoint *remote);
void connection_start(net_connection *connection); /* the wire is up */
void connection_feed(net_connection *connection, const uint8_t *bytes, size_t len);
void connection_flush(net_connection *connection);
void connection_dirty(net_connection *connection);
/* Ends it now. reason: 0 or a CAL_E*, what its dial is told. */
void connection_close(net_connection *connection, int reason);
/* Tells the peer, then closes; when the host stops, once its finished streams have sent all. */
void connection_goodbye(net_connection *connection);
void connection_tick(net_connection *connection);
void connection_free(net_connection *connection);

/* frames.c */
void account_unref(net_account *account);      /* NULL allowed */
void account_join(net_connection *connection); /* its peer's, from now on */
/* What was returned last goes now, not with the next call. */
void frames_drop_given(cal_p2p_frames *frames, cal_p2p_stream *stream);

/* stream.c */
void stream_pump(net_connection *connection); /* notes what happened to its streams */
void stream_dispatch(cal_p2p_stream *stream);
void stream_lost(cal_p2p_stream *stream, int reason); /* ends here; `closed` will be told */
void stream_expire(cal_p2p *host);
void stream_tick(cal_p2p *host);
void stream_tell(cal_p2p_stream *stream, unsigned events); /* its owner, soon */
void stream_want_room(cal_p2p_stream *stream);             /* tells `writable` when there is some */
void stream_free(cal_p2p_stream *stream);                  /* without a word to its owner */
bool stream_counts(const net_connection *connection);      /* one that keeps it open */
int stream_open(net_connection *connection, const char *const *protocols, size_t count,
                const cal_p2p_stream_events *events, void *user, bool background,
                cal_p2p_stream **ret_stream);
net_protocol *protocol_find(const cal_p2p *host, cal_slice id);
void protocol_unref(net_protocol *protocol);

/* peer.c */
net_peer *peer_find(const cal_p2p *host, const cal_peer_id *id);
net_peer *peer_get(cal_p2p *host, const cal_peer_id *id); /* makes it; NULL: no memory or room */
net_connection *peer_active(const net_peer *peer);        /* NULL: not connected */
/* Whether it is connected from this machine: loopback addresses are of use to it, and from it. */
bool peer_near(const cal_p2p *host, const cal_peer_id *id);
enum learned { LEARNED_GIVEN, LEARNED_ANNOUNCED, LEARNED_GOOD /* connected there */ };
void peer_learn(net_peer *peer, const cal_multiaddr *address, enum learned how);
/* As cal_p2p_learn, addresses that came from another peer. */
int peer_learn_announced(cal_p2p *host, const cal_peer_id *id, const cal_multiaddr *addresses,
                         size_t count);
void peer_blame(net_peer *peer, const net_endpoint *endpoint); /* it was not reached there */
/* Whether the proven peer is one to go on with: CAL_EVERIFY another was dialled, CAL_EINVAL it is
 * this host. */
int peer_check(const net_connection *connection);
/* A secured connection joins its peer, or is refused: CAL_E*. */
int peer_join(cal_p2p *host, net_connection *connection);
void peer_leave(cal_p2p *host, net_connection *connection);
/* The peer takes no more streams on it: it drains, and is not the active one any more. */
void peer_away(cal_p2p *host, net_connection *connection);
void peer_notice(cal_p2p *host, net_peer *peer);
/* A connection does not answer: another one of its peer that does takes its place. */
void peer_doubt(net_connection *silent);
void peer_tell(cal_p2p *host, net_peer *peer); /* calls the observers */
void peer_tick(cal_p2p *host);
void peer_retry_all(cal_p2p *host); /* those that are kept, at the next tick */
void peer_forget_identity(net_peer *peer);
void peer_free(cal_p2p *host, net_peer *peer);
void peer_save_all(cal_p2p *host);
void peer_save_self(cal_p2p *host); /* what this host must not use again */

/* dial.c */
void dial_step(net_dial *dial);
void dial_attempt_over(net_connection *connection, int reason);
void dial_won(net_dial *dial, net_connection *connection);
void dial_resolved(void *query, int result, const cal_os_address *addresses, size_t count);
void dial_fail(net_dial *dial, int failure, const char *detail);
void dial_expire(cal_p2p *host);
uint64_t dial_deadline(const cal_p2p *host);
uint64_t dial_pause_ns(cal_p2p *host, uint32_t failures); /* before a dial is tried again */
/* As cal_p2p_connect, at addresses that came from another peer. */
int dial_announced(cal_p2p *host, const cal_peer_id *id, const cal_multiaddr *addresses,
                   size_t count, cal_p2p_connected done, void *user);
bool endpoint_loopback(const net_endpoint *endpoint);
bool endpoint_wildcard(const net_endpoint *endpoint);
bool address_loopback(const cal_multiaddr *address);

/* identify.c, ping.c */
int identify_start(cal_p2p *host);
void identify_ask(net_connection *connection); /* once: a peer may come back as something else */
void identify_announce(cal_p2p *host);
int ping_start(cal_p2p *host);
void ping_tick(net_connection *connection); /* may close it */

/* mdns_host.c */
void mdns_datagram(cal_p2p *host, const uint8_t *bytes, size_t len);

/* p2p.c */
void p2p_loop_free(struct p2p_loop *loop);

#endif
