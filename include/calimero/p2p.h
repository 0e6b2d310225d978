/* A small libp2p: peers that prove who they are, encrypted connections between them, and streams.
 *
 * It speaks TCP, multistream-select 1.0, Noise (XX), Yamux, identify, identify-push, ping,
 * gossipsub, Kademlia, mDNS and rendezvous (as a client), as the public libp2p specifications
 * describe them, and talks to every other implementation that offers these.
 *
 * A host is one peer. It belongs to one thread, its loop thread: the one inside cal_p2p_run. Every
 * function that takes a host or a stream is called there (from a callback, or from a function given
 * to cal_p2p_post) or before cal_p2p_run begins, except the two that say "any thread". Callbacks
 * run there too and may call everything except cal_p2p_free. No callback runs inside the call that
 * causes it.
 *
 * The peer id of a connection or stream is always the one that the peer proved in the handshake.
 * Everything a peer can make the host keep is bounded (cal_p2p_limits); reaching a bound closes
 * what went over it and counts in cal_p2p_stats. */
#ifndef CALIMERO_P2P_H
#define CALIMERO_P2P_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "calimero/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- peer ids and addresses; any thread --- */

enum {
    CAL_PEER_ID_MAX = 44,      /* bytes: an identity multihash of a 42-byte key at most */
    CAL_PEER_ID_TEXT_MAX = 64, /* base58 and its NUL */
    CAL_MULTIADDR_MAX = 400,   /* bytes of the binary form that the host keeps */
    CAL_MULTIADDR_TEXT_MAX = 640,
};

/* A multihash of the peer's public key. Bytes after len are zero, so that ids compare as memory. */
typedef struct cal_peer_id {
    uint8_t len;
    uint8_t bytes[CAL_PEER_ID_MAX];
} cal_peer_id;

/* The id of an Ed25519 key: 38 bytes. */
void cal_peer_id_of_key(const uint8_t ed25519[32], cal_peer_id *ret_id);
/* The Ed25519 key in an id. CAL_ENOTFOUND when it holds only a hash, or a key of another kind. */
int cal_peer_id_key(const cal_peer_id *id, uint8_t ret_ed25519[32]);
/* "12D3KooW..." or "Qm..." or a CIDv1 in base32 ("bafz..."). CAL_EDECODE. */
int cal_peer_id_parse(const char *text, cal_peer_id *ret_id);
int cal_peer_id_from_bytes(const void *bytes, size_t len, cal_peer_id *ret_id);    /* CAL_EDECODE */
void cal_peer_id_text(const cal_peer_id *id, char ret_text[CAL_PEER_ID_TEXT_MAX]); /* base58 */
bool cal_peer_id_equal(const cal_peer_id *a, const cal_peer_id *b);

/* A multiaddr in its binary form, checked: "/ip4/10.0.0.1/tcp/2428/p2p/12D3KooW...". */
typedef struct cal_multiaddr {
    uint16_t len;
    uint8_t bytes[CAL_MULTIADDR_MAX];
} cal_multiaddr;

/* CAL_EDECODE malformed, CAL_EUNSUPPORTED a protocol not known here, CAL_ELIMIT too long. */
int cal_multiaddr_parse(const char *text, cal_multiaddr *ret_address);
int cal_multiaddr_from_bytes(const void *bytes, size_t len, cal_multiaddr *ret_address);
/* Whether a host can dial it: 0. CAL_EINVAL and err says which part is wrong; CAL_EUNSUPPORTED it
 * is well formed, but no /ip4, /ip6 or /dns with /tcp (QUIC, relays, dnsaddr). */
int cal_multiaddr_dialable(const char *text, cal_error *err);
void cal_multiaddr_text(const cal_multiaddr *address, char ret_text[CAL_MULTIADDR_TEXT_MAX]);
bool cal_multiaddr_equal(const cal_multiaddr *a, const cal_multiaddr *b);
/* The /p2p part at its end. CAL_ENOTFOUND. */
int cal_multiaddr_peer(const cal_multiaddr *address, cal_peer_id *ret_id);
/* Replaces or adds the /p2p part; NULL takes it off. CAL_ELIMIT. */
int cal_multiaddr_set_peer(cal_multiaddr *address, const cal_peer_id *id);

/* --- a host --- */

typedef struct cal_p2p cal_p2p;
typedef struct cal_p2p_stream cal_p2p_stream;

/* Bounds on what others can make this host spend; 0 means the default. */
typedef struct cal_p2p_limits {
    uint32_t connections_max;      /* established, all peers; 1024 */
    uint32_t peer_connections_max; /* established, one peer, while duplicates drain; 8 */
    uint32_t pending_in_max; /* accepted and not yet secured, a quarter from one address; 128 */
    /* Incoming ones that are not from this machine: */
    uint32_t accepts_max;             /* a second, and twice as many at once; 512 */
    uint32_t address_accepts_max;     /* of them from one address; 64 */
    uint32_t address_connections_max; /* pending and established, from one address; 256 */
    uint32_t pending_out_max;         /* dial attempts; 128 */
    uint32_t streams_max;             /* one connection, both directions; 256 */
    uint32_t streams_total_max;       /* all connections; 16384 */
    uint32_t known_peers_max;         /* in the peer store; 1024 */
    uint32_t frame_bytes_max;         /* in all half-received frames of cal_p2p_frames; 64 MiB */
    uint32_t frame_bytes_each_max;    /* of them of one peer; 32 MiB, and a third of it
                                      once half of all is taken */
    uint32_t unread_bytes_max;        /* received and not consumed, all streams; 256 MiB */
    uint32_t unsent_bytes_max;        /* written and not sent, all streams; 256 MiB */
    uint32_t stream_rate_max;         /* opened by the peer, one connection, a second; 512 */
    uint32_t handshake_timeout_ms;    /* accepted, or dialled, to multiplexed; 10,000 */
    uint32_t dial_timeout_ms;         /* one whole dial, all its addresses; 30,000 */
    uint32_t negotiate_timeout_ms;    /* one stream's protocol; 10,000 */
    uint32_t idle_timeout_ms;         /* no stream that counts; 30,000 */
    uint32_t ping_interval_ms;        /* 15,000 */
    uint32_t ping_timeout_ms;         /* 20,000; three in a row close the connection */
} cal_p2p_limits;

/* Where a host keeps what it should know again in its next run: the peers whose addresses it knows,
 * and under its own id what it must not use again (give it the same seed). `save` gets a record to
 * keep under that peer's id, replacing the one before, for cal_p2p_restore; `drop` forgets one that
 * was saved or restored. At most 16 records a second, one peer's not again within seconds, and the
 * rest when the host stops. Either may be NULL. */
typedef struct cal_p2p_shelf {
    void *user;
    void (*save)(void *user, const cal_peer_id *peer, const uint8_t *record, size_t len);
    void (*drop)(void *user, const cal_peer_id *peer);
} cal_p2p_shelf;

/* Zero-initialise, then set what differs. Everything is copied. */
typedef struct cal_p2p_options {
    const uint8_t *seed;       /* 32 bytes, the Ed25519 identity; NULL: a new one */
    const char *const *listen; /* multiaddrs; "/ip4/0.0.0.0/tcp/0" picks a port */
    size_t listen_count;
    const char *const *external; /* multiaddrs others reach this host at, announced as they are */
    size_t external_count;
    const char *const *bootstrap; /* multiaddrs with /p2p or without: dialled and kept connected */
    size_t bootstrap_count;
    uint32_t
        peers_wanted;  /* while fewer are connected, known ones are dialled; 0: kept ones only */
    const char *agent; /* default "calimero-c" */
    const char *protocol_version; /* default "/calimero-network/0.0.0" */
    cal_p2p_limits limits;
    cal_p2p_shelf shelf;
} cal_p2p_options;

/* A host on a loop of its own. CAL_EINVAL a bad address, CAL_EIO or CAL_EUNSUPPORTED one that this
 * machine cannot listen on, CAL_ELIMIT too many of them, CAL_ENOMEM. */
int cal_p2p_new(const cal_p2p_options *options, cal_p2p **ret_host, cal_error *err);
/* Gives back what the shelf got in an earlier run, before cal_p2p_run and before gossip is started.
 * CAL_EDECODE it is damaged, CAL_ELIMIT as many peers are known as may be. */
int cal_p2p_restore(cal_p2p *host, const cal_peer_id *peer, const uint8_t *record, size_t len);
/* Serves until cal_p2p_stop, then says goodbye to its peers and returns: once what was written to
 * finished streams has left, after two seconds at most. The calling thread keeps SIGPIPE blocked
 * from then on. */
int cal_p2p_run(cal_p2p *host);
void cal_p2p_stop(cal_p2p *host); /* any thread */
/* Runs fn(arg) soon on the loop thread, at the latest before cal_p2p_run returns or, where that is
 * not called, inside cal_p2p_free; any thread. CAL_ENOMEM, CAL_ESTATE cal_p2p_run is over. */
int cal_p2p_post(cal_p2p *host, void (*fn)(void *arg), void *arg);
void cal_p2p_free(cal_p2p *host); /* after cal_p2p_run returned, or instead of it; NULL allowed */

void cal_p2p_id(const cal_p2p *host, cal_peer_id *ret_id);
/* The addresses it can be reached at, without /p2p; at most max. Returns how many there are. The
 * first cal_p2p_external_count ones are those of the options. */
size_t cal_p2p_addresses(const cal_p2p *host, cal_multiaddr *ret_addresses, size_t max);
size_t cal_p2p_external_count(const cal_p2p *host);
uint64_t cal_p2p_now_ns(const cal_p2p *host); /* the host's clock: never goes back */

/* --- peers --- */

enum { CAL_P2P_ADDRESSES_MAX = 16, CAL_P2P_PROTOCOLS_MAX = 64, CAL_P2P_PROTOCOL_MAX = 140 };

/* What is known of a connected peer. */
typedef struct cal_p2p_peer {
    cal_peer_id id;
    cal_multiaddr address; /* of the other end of the connection, without /p2p */
    bool outgoing;         /* this host dialled */
    uint64_t since_ns;     /* clock of the host */
    uint64_t rtt_ns;       /* of the last ping; 0 before the first */
    uint32_t streams;
    /* from identify; empty until it answered */
    bool identified;
    const char *agent, *protocol_version;
    const char *const *protocols;
    size_t protocol_count;
} cal_p2p_peer;

/* Observers of connections. Any function may be NULL. */
typedef struct cal_p2p_peer_events {
    void (*connected)(void *user, const cal_peer_id *peer);    /* its first connection is up */
    void (*disconnected)(void *user, const cal_peer_id *peer); /* its last one is gone */
    /* It said, or said anew, who it is and what it speaks. */
    void (*identified)(void *user, const cal_p2p_peer *peer);
} cal_p2p_peer_events;
/* CAL_ELIMIT more than 8, the host's own parts included. `events` is not copied. */
int cal_p2p_observe(cal_p2p *host, const cal_p2p_peer_events *events, void *user);
void cal_p2p_unobserve(cal_p2p *host, const cal_p2p_peer_events *events, void *user);

typedef void (*cal_p2p_connected)(void *user, const cal_error *err, const cal_peer_id *peer);
/* Connects to a peer at these addresses and the ones known of it; at once when connected. `peer`
 * NULL: whoever answers there (or the id in the addresses). done may be NULL; it is told
 * CAL_EUNREACHABLE, CAL_ETIMEOUT, CAL_EVERIFY another peer answered, CAL_EINVAL it is this host,
 * CAL_EOVERLOAD too many dials or peers, CAL_ECANCELED the host stops. Returns CAL_ENOMEM
 * when there is no memory to remember `done`: then it is never called. */
int cal_p2p_connect(cal_p2p *host, const cal_peer_id *peer, const cal_multiaddr *addresses,
                    size_t count, cal_p2p_connected done, void *user);
void cal_p2p_disconnect(cal_p2p *host, const cal_peer_id *peer);
bool cal_p2p_is_connected(const cal_p2p *host, const cal_peer_id *peer);
/* Keeps the connection open when idle, and dials again, with growing pauses, when it is lost. */
int cal_p2p_keep(cal_p2p *host, const cal_peer_id *peer, bool keep);
/* Adds to what is known of a peer, for later dials. */
int cal_p2p_learn(cal_p2p *host, const cal_peer_id *peer, const cal_multiaddr *addresses,
                  size_t count);
/* Addresses known of a peer, best first; returns how many were written. */
size_t cal_p2p_known(const cal_p2p *host, const cal_peer_id *peer, cal_multiaddr *ret_addresses,
                     size_t max);
/* Visits the connected peers. The visitor does not connect, learn or keep others. */
void cal_p2p_peers(const cal_p2p *host, void (*visit)(void *user, const cal_p2p_peer *peer),
                   void *user);
int cal_p2p_peer_get(const cal_p2p *host, const cal_peer_id *peer,
                     void (*visit)(void *user, const cal_p2p_peer *peer),
                     void *user); /* CAL_ENOTFOUND: not connected */

/* --- streams --- */

/* What a stream's owner is told; any function may be NULL. After `closed` the stream is gone.
 * Without `readable` nobody reads it: what is unread then does not keep it once both finished. */
typedef struct cal_p2p_stream_events {
    /* The protocol is agreed: for streams of a handler the first call. */
    void (*opened)(void *user, cal_p2p_stream *stream);
    /* There is more to read, or the peer finished writing (cal_p2p_stream_ended). */
    void (*readable)(void *user, cal_p2p_stream *stream);
    /* After a write took less than all: there is room again. */
    void (*writable)(void *user, cal_p2p_stream *stream);
    /* Both sides finished (reason 0), or: CAL_ECANCELED reset by the peer or by this host,
     * CAL_EUNREACHABLE the connection is gone, CAL_EUNSUPPORTED the peer does not speak the
     * protocol, CAL_ETIMEOUT it was not agreed in time. */
    void (*closed)(void *user, cal_p2p_stream *stream, int reason);
} cal_p2p_stream_events;

typedef struct cal_p2p_protocol {
    const char *id;                      /* "/chat/1.0.0"; 1 to CAL_P2P_PROTOCOL_MAX - 1 bytes */
    const cal_p2p_stream_events *events; /* not copied */
    void *user;                          /* of each stream, until cal_p2p_stream_set_user */
    uint32_t peer_streams_max;           /* incoming, on one connection; 0: 64 */
    bool background; /* its streams, both ways, do not keep an idle connection open */
} cal_p2p_protocol;

/* Accepts streams of a protocol, and announces it. CAL_EEXISTS, CAL_EINVAL, CAL_ELIMIT more than
 * 64, CAL_ENOMEM. */
int cal_p2p_handle(cal_p2p *host, const cal_p2p_protocol *protocol);
/* Accepts no more. Streams that were told `opened` go on, with their events. */
void cal_p2p_unhandle(cal_p2p *host, const char *id);

/* Opens a stream to a connected peer, for the first of the protocols that it speaks, in this order.
 * Bytes may be written at once; they leave when the protocol is agreed. CAL_EUNREACHABLE not
 * connected, CAL_ELIMIT too many streams, CAL_EINVAL no protocol, more than 8 or a name too long,
 * CAL_ENOMEM. */
int cal_p2p_open(cal_p2p *host, const cal_peer_id *peer, const char *const *protocols, size_t count,
                 const cal_p2p_stream_events *events, void *user, cal_p2p_stream **ret_stream);

/* The bytes that came and were not consumed, in pieces: the first piece. Valid until the next call
 * on the stream. A peer can be ahead by 256 KiB; consuming lets it go on. */
size_t cal_p2p_stream_peek(const cal_p2p_stream *stream, const uint8_t **ret_bytes);
void cal_p2p_stream_consume(cal_p2p_stream *stream, size_t len); /* len <= what is there */
size_t cal_p2p_stream_waiting(const cal_p2p_stream *stream);     /* unread bytes, all pieces */
bool cal_p2p_stream_ended(const cal_p2p_stream *stream); /* the peer finished, all is consumed */

/* Takes as many bytes as there is room for; returns how many. After less than len, wait for
 * `writable`. 0 also when the stream is finished or reset. */
size_t cal_p2p_stream_write(cal_p2p_stream *stream, const void *bytes, size_t len);
size_t cal_p2p_stream_room(const cal_p2p_stream *stream); /* bytes a write would take now */
void cal_p2p_stream_finish(
    cal_p2p_stream *stream); /* no more writes; what was written still goes */
/* Drops everything; `closed` follows with CAL_ECANCELED. */
void cal_p2p_stream_reset(cal_p2p_stream *stream);

void cal_p2p_stream_set_events(cal_p2p_stream *stream, const cal_p2p_stream_events *events,
                               void *user);
void *cal_p2p_stream_user(const cal_p2p_stream *stream);
void cal_p2p_stream_peer(const cal_p2p_stream *stream, cal_peer_id *ret_id);
const char *cal_p2p_stream_protocol(const cal_p2p_stream *stream); /* "" before it is agreed */
bool cal_p2p_stream_incoming(const cal_p2p_stream *stream);
cal_p2p *cal_p2p_stream_host(const cal_p2p_stream *stream);

/* --- messages on a stream --- */

typedef enum cal_p2p_framing {
    CAL_P2P_FRAME_U32BE,  /* 4 bytes, big endian (Calimero's own protocols) */
    CAL_P2P_FRAME_VARINT, /* unsigned LEB128 (libp2p's) */
} cal_p2p_framing;

/* Cuts a stream into messages. Embed it in what the stream's owner keeps. */
typedef struct cal_p2p_frames {
    cal_p2p_framing framing;
    uint32_t max; /* a longer message is refused */
    uint8_t *partial;
    uint32_t have, capacity;
    size_t given; /* bytes of the message that was returned last, still to be dropped */
    struct net_account *account;
} cal_p2p_frames;

void cal_p2p_frames_init(cal_p2p_frames *frames, cal_p2p_framing framing, uint32_t max);
void cal_p2p_frames_deinit(cal_p2p_frames *frames);
/* The next whole message of the stream, valid until the next call: 0. CAL_ESTATE: not yet all here.
 * CAL_ENOTFOUND: the peer finished, between two messages. CAL_EDECODE: it finished inside one, or a
 * bad length. CAL_ELIMIT: longer than max, or too much is half-received in this host. On the latter
 * two reset the stream. */
int cal_p2p_frames_next(cal_p2p_frames *frames, cal_p2p_stream *stream, const uint8_t **ret_bytes,
                        size_t *ret_len);
/* Writes one message whole, or nothing of it. CAL_EBUSY: no room now, wait for `writable`.
 * CAL_ESTATE: the stream is finished or gone. CAL_ENOMEM. CAL_ELIMIT: longer than
 * CAL_P2P_WRITE_MAX, write it in pieces behind cal_p2p_frames_header. */
int cal_p2p_frames_write(cal_p2p_stream *stream, cal_p2p_framing framing, const void *bytes,
                         size_t len);
/* The length before a message of len bytes; returns how many of the bytes it takes. */
size_t cal_p2p_frames_header(cal_p2p_framing framing, uint32_t len, uint8_t ret_bytes[5]);

enum { CAL_P2P_WRITE_MAX = 1024 * 1024 + 16 /* bytes that one stream keeps for sending */ };

/* --- gossip: messages to everybody who hears a topic --- */

/* gossipsub 1.0 to 1.2 (network-sync.md 1). Every message is signed by its author (Ed25519) and
 * checked before it is delivered: once, as long as its id is known (two minutes; whoever plays it
 * back later than that is heard again). One's own are not delivered. Topics are 1 to
 * CAL_P2P_TOPIC_MAX bytes of UTF-8. */
enum {
    CAL_P2P_TOPIC_MAX = 256,
    CAL_P2P_MESSAGE_MAX = 1024 * 1024, /* a message with its topic, author and signature */
};

typedef struct cal_p2p_message {
    const char *topic;
    cal_peer_id author; /* proven by the signature */
    cal_peer_id via;    /* the peer it came from; len 0: gone since */
    uint64_t seqno;     /* the author's own number of it */
    const uint8_t *data, *id;
    size_t len, id_len;
    uint64_t ticket; /* for cal_p2p_judge; 0: of a topic without judgement */
} cal_p2p_message;

typedef struct cal_p2p_gossip_options {
    /* Any may be NULL. What is pointed to is valid during the call. */
    void (*message)(void *user, const cal_p2p_message *message);
    /* A connected peer hears a topic that this host hears: since it was connected, it or this host
     * subscribed (told again when it says so again: it came anew, before it was missed); or it does
     * no longer, also because it is gone. Not told of topics left here. */
    void (*subscribed)(void *user, const char *topic, const cal_peer_id *peer, bool hears);
    void *user;
    bool plain_ids;    /* message ids of libp2p's default (author, number); else Calimero's */
    bool mesh_publish; /* publish to the mesh only, not to everybody who hears the topic */
} cal_p2p_gossip_options;

/* Begins to speak gossip with the peers there are and those to come. CAL_EEXISTS it does already,
 * CAL_ECANCELED the host stops, CAL_ELIMIT, CAL_ENOMEM. Ends with the host, or: */
int cal_p2p_gossip_start(cal_p2p *host, const cal_p2p_gossip_options *options);
void cal_p2p_gossip_stop(cal_p2p *host); /* not from a callback of gossip */

/* The functions below: CAL_ESTATE before cal_p2p_gossip_start. */

/* Hears a topic. With `judged`, each message waits for cal_p2p_judge (30 s at most) before it is
 * passed on; else it is passed on at once. CAL_EINVAL a bad name, CAL_EEXISTS, CAL_ELIMIT,
 * CAL_ENOMEM. */
int cal_p2p_subscribe(cal_p2p *host, const char *topic, bool judged, cal_error *err);
int cal_p2p_unsubscribe(cal_p2p *host, const char *topic); /* CAL_ENOTFOUND */
/* Signs a message and sends it to those who hear the topic, whether this host does or not.
 * ret_peers (may be NULL): how many it goes to now; others may still ask for it, for five seconds.
 * CAL_ELIMIT longer than CAL_P2P_MESSAGE_MAX as a whole, CAL_EINVAL a bad topic, CAL_EOVERLOAD too
 * much waits for slow peers, CAL_ENOMEM. */
int cal_p2p_publish(cal_p2p *host, const char *topic, const void *data, size_t len,
                    size_t *ret_peers, cal_error *err);

typedef enum cal_p2p_verdict {
    CAL_P2P_ACCEPT, /* pass it on */
    CAL_P2P_REJECT, /* bad: drop it and count it */
    CAL_P2P_IGNORE, /* neither good nor bad: drop it */
} cal_p2p_verdict;
int cal_p2p_judge(cal_p2p *host, uint64_t ticket, cal_p2p_verdict verdict); /* CAL_ENOTFOUND */

/* How much a peer is preferred for meshes (members over strangers). 0, where every connection
 * begins, is the least: nobody is ever excluded. CAL_ENOTFOUND: not connected. */
int cal_p2p_prefer(cal_p2p *host, const cal_peer_id *peer, uint32_t score);

/* Visits the topics that this host hears: how many connected peers do, and how many of them
 * messages go to first. */
int cal_p2p_topics(const cal_p2p *host,
                   void (*visit)(void *user, const char *topic, size_t peers, size_t mesh),
                   void *user);
/* Visits the connected peers that hear a topic of ours; `mesh`: those that messages go to first. */
int cal_p2p_topic_peers(const cal_p2p *host, const char *topic,
                        void (*visit)(void *user, const cal_peer_id *peer, bool mesh), void *user);

/* --- discovery: peers whose address nobody gave --- */

/* Three ways to find them, each started for itself; each ends with the host or with its stop, which
 * is not called from a callback of the same part. The peers they find are learned (cal_p2p_learn)
 * and dialled unless connected. Starting twice is CAL_EEXISTS; a host that stops starts nothing any
 * more, CAL_ECANCELED. The other functions are CAL_ESTATE before their part was started. */

/* mDNS: peers of the local network (IPv4). CAL_EIO no socket on UDP port 5353, CAL_EUNSUPPORTED the
 * host's transport has no multicast, CAL_ENOMEM. */
int cal_p2p_mdns_start(cal_p2p *host, cal_error *err);
void cal_p2p_mdns_stop(cal_p2p *host);

/* Kademlia under /calimero/kad/1.0.0, client and server: who is near a key, and signed records
 * "this peer holds what the key names" (network-sync.md 10: key = context id, blob id). Records of
 * others are kept for twelve hours, and only when the peer that they name signed them. */
enum { CAL_P2P_KEY_SIZE = 64 };
int cal_p2p_kad_start(cal_p2p *host); /* CAL_ENOMEM, CAL_ELIMIT */
/* Forgets what was provided. What was asked and is not answered yet is answered with CAL_ECANCELED:
 * soon after, or before cal_p2p_free returns. */
void cal_p2p_kad_stop(cal_p2p *host);

/* How a search ended, exactly once, never from inside the call that began it. err NULL: it came to
 * its end, with `count` results. CAL_EUNREACHABLE: no peer answered, CAL_ECANCELED. */
typedef void (*cal_p2p_searched)(void *user, const cal_error *err, size_t count);

/* Says that this host holds what `key` names, `size` bytes: now, and every six hours until it is
 * withdrawn; and again within minutes while nobody could be told. done (may be NULL): the first
 * time is over, `count` peers keep the record. CAL_EEXISTS it says so already, CAL_ELIMIT more than
 * 1,024 keys, CAL_ENOMEM. */
int cal_p2p_provide(cal_p2p *host, const uint8_t key[CAL_P2P_KEY_SIZE], uint64_t size,
                    cal_p2p_searched done, void *user);
/* Says it no more (CAL_ECANCELED to a `done` whose first time had not begun); the records that
 * others keep run out by themselves. CAL_ENOTFOUND. */
int cal_p2p_withdraw(cal_p2p *host, const uint8_t key[CAL_P2P_KEY_SIZE]);

typedef struct cal_p2p_provider {
    cal_peer_id peer;               /* proven by its signature; this host itself too */
    uint64_t size;                  /* of what it holds, as it says */
    const cal_multiaddr *addresses; /* known of it; none: cal_p2p_find */
    size_t address_count;
} cal_p2p_provider;
/* Who holds what `key` names: each one found, then done (count: how many). Any number of searches
 * may run at once, up to CAL_EOVERLOAD. found may be NULL. CAL_ENOMEM. */
int cal_p2p_providers(cal_p2p *host, const uint8_t key[CAL_P2P_KEY_SIZE],
                      void (*found)(void *user, const cal_p2p_provider *provider),
                      cal_p2p_searched done, void *user);
/* Where a peer is, as others tell; the addresses are learned too. err also CAL_ENOTFOUND. */
int cal_p2p_find(cal_p2p *host, const cal_peer_id *peer,
                 void (*done)(void *user, const cal_error *err, const cal_multiaddr *addresses,
                              size_t count),
                 void *user);

/* Rendezvous: points, where peers register under names and ask who else did. Every connected peer
 * that says it speaks /rendezvous/1.0.0 may serve as a point; up to points_max do at a time, and
 * one that goes is replaced. */
typedef struct cal_p2p_rendezvous_options {
    uint32_t points_max; /* 0: 3; at most 16 */
} cal_p2p_rendezvous_options;
/* options NULL: the defaults. CAL_EINVAL, CAL_ENOMEM, CAL_ELIMIT. */
int cal_p2p_rendezvous_start(cal_p2p *host, const cal_p2p_rendezvous_options *options);
void cal_p2p_rendezvous_stop(cal_p2p *host);
/* Registers under a name (1 to 255 bytes) at the points, and asks there every 15 s, less often with
 * more than eight names. CAL_EINVAL,
 * CAL_EEXISTS, CAL_ELIMIT more than 1,000 names, CAL_ENOMEM. */
int cal_p2p_rendezvous_join(cal_p2p *host, const char *name);
int cal_p2p_rendezvous_leave(cal_p2p *host, const char *name); /* CAL_ENOTFOUND */

typedef enum cal_p2p_point_state {
    CAL_P2P_POINT_DISCOVERED, /* it could serve */
    CAL_P2P_POINT_REQUESTED,  /* asked to register this host */
    CAL_P2P_POINT_REGISTERED, /* it did, under one name or more */
    CAL_P2P_POINT_EXPIRED,    /* the registrations there are over: gone, refused or not renewed */
} cal_p2p_point_state;
typedef struct cal_p2p_point {
    cal_peer_id peer;
    cal_p2p_point_state state;
    uint64_t age_ns;      /* how long it has been in this state */
    size_t registrations; /* names that it keeps now */
} cal_p2p_point;
int cal_p2p_rendezvous_points(const cal_p2p *host,
                              void (*visit)(void *user, const cal_p2p_point *point), void *user);

/* --- figures --- */

/* X(name, what it counts). */
#define CAL_P2P_COUNTERS(X)                                                                        \
    X(connections_in, "incoming connections secured")                                              \
    X(connections_out, "outgoing connections secured")                                             \
    X(connections_refused, "connections refused at a limit")                                       \
    X(accepts_refused, "incoming connections refused because they came too fast")                  \
    X(accepts_failed, "accepts that failed for want of memory or descriptors")                     \
    X(connections_duplicate, "connections given up for another to the same peer")                  \
    X(connections_idle, "connections closed because nothing used them")                            \
    X(handshakes_failed, "connections that failed before they were secured")                       \
    X(handshakes_timed_out, "connections that were not secured in time")                           \
    X(identities_refused, "static keys whose signature did not verify")                            \
    X(identities_unexpected, "dials answered by another peer")                                     \
    X(frames_refused, "connections closed for bytes that fail to decrypt or to decode")            \
    X(frames_ignored, "frames for streams there are not, or no more")                              \
    X(windows_exceeded, "connections closed for sending past a window")                            \
    X(floods_closed, "connections closed for control frames that nothing asked for")               \
    X(streams_in, "incoming streams")                                                              \
    X(streams_out, "outgoing streams")                                                             \
    X(streams_refused, "streams refused at a limit")                                               \
    X(streams_held, "times a peer was not heard for a while because it opened too many streams")   \
    X(streams_reset, "streams reset by peers")                                                     \
    X(streams_timed_out, "incoming streams whose protocol was not agreed in time")                 \
    X(streams_unsupported, "streams for protocols not spoken")                                     \
    X(messages_refused, "messages refused for their length, or because too much is half received") \
    X(writes_short, "writes that found no room because a peer reads slowly")                       \
    X(sends_refused, "messages not sent because too much waits for peers")                         \
    X(peers_forgotten, "peers forgotten to make room for others")                                  \
    X(dials, "dials begun")                                                                        \
    X(dials_failed, "dials that failed")                                                           \
    X(identifies_refused, "identify messages, asked for or pushed, that came too fast")            \
    X(pings_held, "times pings waited because they came too fast, or answers were not read")       \
    X(pings_failed, "pings without an answer in time")                                             \
    X(clock_leaps, "times the clock had moved on by ten seconds or more at once")                  \
    X(wall_behind, "times gossip began with the wall clock behind its own numbers")                \
    X(bytes_in, "bytes received")                                                                  \
    X(bytes_out, "bytes sent")

typedef struct cal_p2p_stats {
#define CAL_P2P_COUNTER_FIELD(name, text) uint64_t name;
    CAL_P2P_COUNTERS(CAL_P2P_COUNTER_FIELD)
#undef CAL_P2P_COUNTER_FIELD
    /* present values */
    uint64_t connections, pending, streams, known_peers, frame_bytes, unread_bytes, unsent_bytes;
} cal_p2p_stats;
void cal_p2p_stats_get(const cal_p2p *host, cal_p2p_stats *ret_stats);

/* Of gossip. */
#define CAL_P2P_GOSSIP_COUNTERS(X)                                                                 \
    X(published, "own messages published")                                                         \
    X(published_bytes, "bytes of own messages published, bare")                                    \
    X(publish_refused, "own messages over the size limit")                                         \
    X(received, "messages received")                                                               \
    X(delivered, "messages delivered, once each")                                                  \
    X(forwarded, "copies queued for other peers")                                                  \
    X(duplicates, "messages received again")                                                       \
    X(invalid, "messages without a valid author, number or signature")                             \
    X(foreign, "messages of topics not subscribed to")                                             \
    X(echoes, "own messages received from others")                                                 \
    X(rejected, "messages the application rejected")                                               \
    X(ignored, "messages the application ignored")                                                 \
    X(validations_refused, "messages dropped because too many waited for a verdict")               \
    X(validations_expired, "messages dropped because no verdict came")                             \
    X(rpcs, "RPCs received")                                                                       \
    X(rpcs_malformed, "RPCs that do not decode")                                                   \
    X(rpcs_refused, "RPCs over the limit of length or memory")                                     \
    X(messages_refused, "messages over the limit of one RPC, or of memory")                        \
    X(subscriptions_refused, "subscriptions over a limit, or with a bad name")                     \
    X(grafts, "GRAFTs accepted")                                                                   \
    X(grafts_refused, "GRAFTs answered with PRUNE or dropped")                                     \
    X(prunes, "PRUNEs received")                                                                   \
    X(backoffs_refused, "backoffs not remembered because there are too many")                      \
    X(exchange_ignored, "peers offered in PRUNEs, ignored")                                        \
    X(control_refused, "GRAFTs and PRUNEs over the limit between heartbeats")                      \
    X(ihave_refused, "ids told over the limit between heartbeats")                                 \
    X(iwant_refused, "ids asked for over the limit between heartbeats, or too often")              \
    X(iwant_served, "messages sent because they were asked for")                                   \
    X(iwant_lost, "ids asked for that no peer sent")                                               \
    X(idontwant_refused, "ids refused over the limit between heartbeats")                          \
    X(idontwant_spared, "copies not sent because the peer has them")                               \
    X(held_sent, "copies held back in vain for an IDONTWANT, then sent")                           \
    X(queue_dropped, "copies dropped because too much waited for a peer")                          \
    X(queue_expired, "copies dropped because a peer took too long")                                \
    X(gossip_dropped, "control left out because too much waited for a peer")                       \
    X(peers_closed, "peers given up because control waited too long")                              \
    X(peers_paused, "times a peer was not read until the next heartbeat")                          \
    X(seen_evicted, "ids forgotten early because too many were remembered")                        \
    X(cache_evicted, "messages forgotten early because too much was cached")

typedef struct cal_p2p_gossip_stats {
#define CAL_P2P_COUNTER_FIELD(name, text) uint64_t name;
    CAL_P2P_GOSSIP_COUNTERS(CAL_P2P_COUNTER_FIELD)
#undef CAL_P2P_COUNTER_FIELD
    /* present values */
    uint64_t peers, own_topics, foreign_topics, seen, cached, wants, message_bytes, control_bytes,
        backoffs;
} cal_p2p_gossip_stats;
int cal_p2p_gossip_stats_get(const cal_p2p *host, cal_p2p_gossip_stats *ret_stats);

/* Of discovery. */
#define CAL_P2P_MDNS_COUNTERS(X)                                                                   \
    X(queries, "questions sent")                                                                   \
    X(answers, "answers sent")                                                                     \
    X(packets, "packets received")                                                                 \
    X(malformed, "packets that are not DNS")                                                       \
    X(refused, "addresses refused: malformed, without a peer, or too many")                        \
    X(discovered, "addresses discovered")

typedef struct cal_p2p_mdns_stats {
#define CAL_P2P_COUNTER_FIELD(name, text) uint64_t name;
    CAL_P2P_MDNS_COUNTERS(CAL_P2P_COUNTER_FIELD)
#undef CAL_P2P_COUNTER_FIELD
} cal_p2p_mdns_stats;
int cal_p2p_mdns_stats_get(const cal_p2p *host, cal_p2p_mdns_stats *ret_stats);

#define CAL_P2P_KAD_COUNTERS(X)                                                                    \
    X(requests_in, "requests answered")                                                            \
    X(requests_refused, "requests that came too fast")                                             \
    X(requests_out, "requests sent")                                                               \
    X(malformed, "messages that do not decode, or are too long")                                   \
    X(records_taken, "records of others stored")                                                   \
    X(records_refused, "records refused: signature, length, or no room")                           \
    X(records_put, "copies of own records that others keep")                                       \
    X(peers_refused, "peers not taken up because their distance is full")                          \
    X(peers_dropped, "peers dropped because they did not answer")                                  \
    X(failed, "requests without an answer")                                                        \
    X(results_dropped, "results nobody took in time")

typedef struct cal_p2p_kad_stats {
#define CAL_P2P_COUNTER_FIELD(name, text) uint64_t name;
    CAL_P2P_KAD_COUNTERS(CAL_P2P_COUNTER_FIELD)
#undef CAL_P2P_COUNTER_FIELD
    uint64_t peers, records, own, walks; /* present values */
} cal_p2p_kad_stats;
int cal_p2p_kad_stats_get(const cal_p2p *host, cal_p2p_kad_stats *ret_stats);

#define CAL_P2P_RENDEZVOUS_COUNTERS(X)                                                             \
    X(requests, "requests sent")                                                                   \
    X(unanswered, "requests without an answer")                                                    \
    X(malformed, "answers that do not decode")                                                     \
    X(refused, "registrations and questions that were refused")                                    \
    X(records_refused, "peer records with a bad signature or shape")                               \
    X(found, "peers found")                                                                        \
    X(found_dropped, "peers found that nobody took in time")

typedef struct cal_p2p_rendezvous_stats {
#define CAL_P2P_COUNTER_FIELD(name, text) uint64_t name;
    CAL_P2P_RENDEZVOUS_COUNTERS(CAL_P2P_COUNTER_FIELD)
#undef CAL_P2P_COUNTER_FIELD
    uint64_t points, registrations, names; /* present values */
} cal_p2p_rendezvous_stats;
int cal_p2p_rendezvous_stats_get(const cal_p2p *host, cal_p2p_rendezvous_stats *ret_stats);

#ifdef __cplusplus
}
#endif
#endif
