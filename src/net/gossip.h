/* gossipsub: who hears which topic, and how a message gets to all of them.
 *
 * A state machine without I/O: RPCs of peers, the application's wishes and times go in; bytes for
 * peers (gossip_output) and news for the application (gossip_next_event) come out. The owner calls
 * gossip_expire when gossip_deadline has passed, and after every call takes the events and the
 * peers that have output. Nothing calls back. One thread.
 *
 * Speaks /meshsub/1.0.0 to 1.2.0 with strict signing and Ed25519 authors (network-sync.md 1; the
 * libp2p specifications of pubsub and gossipsub 1.0, 1.1, 1.2). What a peer can make it keep or do
 * is bounded below; what goes over a bound is dropped and counted, and the peer stays: behind one
 * address may be an honest node with a large backlog. docs/design/gossip.md says why. */
#ifndef CAL_NET_GOSSIP_H
#define CAL_NET_GOSSIP_H

#include "base/bytes.h"
#include "calimero/error.h"
#include "calimero/p2p.h"
#include "crypto/crypto.h"

/* Numbers of the network, network-sync.md 1. */
enum {
    GOSSIP_RPC_MAX =
        CAL_P2P_MESSAGE_MAX, /* bytes of one RPC without its length; so the limit of messages */
    GOSSIP_MESH_LOW = 2,
    GOSSIP_MESH = 4,
    GOSSIP_MESH_HIGH = 8,
    GOSSIP_MESH_OUTGOING = 1, /* of them dialled by us, at least, where there are any */
    GOSSIP_MESH_BEST = 4,     /* kept for their score when a mesh is cut down */
    GOSSIP_LAZY = 6,          /* peers outside the mesh that hear what there is, at least */
    GOSSIP_HISTORY = 5,       /* heartbeats that a message can be asked for */
    GOSSIP_HISTORY_TOLD = 3,  /* heartbeats that its id is told */
    GOSSIP_LARGE = 1000,      /* bytes of data from which IDONTWANT is worth sending */
    GOSSIP_BACKOFF_S = 1,     /* after PRUNE, also after leaving a topic */
};
#define GOSSIP_HEARTBEAT_NS UINT64_C(1000000000)
#define GOSSIP_FIRST_HEARTBEAT_NS UINT64_C(5000000000)
/* Duplicates are known for so long. Twice as long as others know them, which nobody notices: a copy
 * can wait on a connection that stalls until three pings have failed, 80 seconds. */
#define GOSSIP_SEEN_NS UINT64_C(120000000000)
#define GOSSIP_FANOUT_NS UINT64_C(60000000000) /* fan-out peers are kept for so long */
#define GOSSIP_WANT_NS UINT64_C(2000000000)    /* then the next peer that has it is asked */
#define GOSSIP_QUEUED_NS UINT64_C(5000000000)  /* a message waits for a slow peer so long */
/* A copy waits so long for an IDONTWANT of a peer that has such messages from elsewhere: a round
 * trip, and what the other way takes longer. */
#define GOSSIP_HOLD_NS UINT64_C(200000000)
#define GOSSIP_VALIDATE_NS UINT64_C(30000000000) /* a verdict may take so long */

/* Bounds. */
enum {
    GOSSIP_PEERS_MAX = 1024,
    GOSSIP_TOPIC_MAX = CAL_P2P_TOPIC_MAX,
    GOSSIP_ID_MAX = 256, /* bytes of a message id that others may tell us */
    GOSSIP_OWN_TOPICS_MAX = 4096,
    GOSSIP_PEER_TOPICS_MAX = 4096,              /* subscriptions of one peer */
    GOSSIP_FOREIGN_TOPICS_MAX = 131072,         /* subscriptions, all peers, to topics not ours */
    GOSSIP_RPC_MEMORY_MAX = 4 * GOSSIP_RPC_MAX, /* decoding one RPC */
    GOSSIP_RPC_MESSAGES_MAX = 1024,             /* in one RPC */
    GOSSIP_QUEUE_BYTES_MAX = 4 * 1024 * 1024,   /* messages waiting for one peer */
    GOSSIP_QUEUE_MAX = 4096,
    GOSSIP_CONTROL_BYTES_MAX =
        2 * 1024 * 1024,                       /* control waiting for one peer: then it is closed */
    GOSSIP_CONTROL_IDLE_MAX = 1024 * 1024,     /* beyond, gossip about ids is left out */
    GOSSIP_CONTROL_ALL_MAX = 64 * 1024 * 1024, /* control waiting for all peers: beyond, each one */
    GOSSIP_CONTROL_SHARE = 64 * 1024,          /* has no more than this */
    GOSSIP_RPC_CONTROL_MAX = 512 * 1024, /* of one RPC: go-libp2p ends a stream that brings more */
    GOSSIP_MESSAGE_BYTES_MAX = 64 * 1024 * 1024, /* all messages in memory */
    GOSSIP_CACHE_BYTES_MAX = 32 * 1024 * 1024,   /* of them for IWANT */
    GOSSIP_CACHE_MAX = 16384,
    GOSSIP_SEEN_MAX = 65536,
    GOSSIP_WANTS_MAX = 16384,     /* ids asked for, all peers */
    GOSSIP_WANTS_SHARE = 8,       /* ... of one peer, once half of them are taken */
    GOSSIP_PEER_WANTS_MAX = 2048, /* of them asked of one peer */
    GOSSIP_WANT_SOURCES_MAX = 4,  /* peers remembered that have one of them */
    GOSSIP_EVENTS_MAX = 256,      /* then gossip_ready says no */
    GOSSIP_VALIDATIONS_MAX = 1024,
    GOSSIP_VALIDATION_BYTES_MAX = 16 * 1024 * 1024,
    GOSSIP_BACKOFFS_MAX = 1024, /* one topic */
    GOSSIP_BACKOFFS_ALL_MAX = 65536,
    GOSSIP_SERVED_MAX = 256, /* peers that one message was sent to because they asked */
    /* one peer between two heartbeats: */
    GOSSIP_IHAVES_MAX = 10,
    GOSSIP_IHAVE_IDS_MAX = 5000,
    GOSSIP_IWANT_IDS_MAX = 5000,
    GOSSIP_IWANT_REPEAT_MAX = 3, /* the same message, as long as it is kept */
    GOSSIP_IDONTWANT_IDS_MAX = 1024,
    GOSSIP_GRAFTS_MAX = 4096, /* GRAFT and PRUNE */
    GOSSIP_SUBSCRIBES_MAX = 8192,
    GOSSIP_RPCS_MAX = 16384,    /* an empty one is a single byte; then as with signatures */
    GOSSIP_VERIFIES_MAX = 4096, /* signatures; then gossip_ready says no until the heartbeat */
    GOSSIP_FORGED_MAX = 64, /* that do not verify: likewise, and the rest of the RPC is dropped */
    /* all peers between two heartbeats: */
    GOSSIP_VERIFIES_ALL_MAX = 8192, /* beyond, none may have more than its equal part */
};

typedef enum gossip_version { GOSSIP_1_0 = 10, GOSSIP_1_1 = 11, GOSSIP_1_2 = 12 } gossip_version;
/* Protocol ids, best first, and the version of one: 0 when it is none of them. */
#define GOSSIP_PROTOCOLS                                                                           \
    { "/meshsub/1.2.0", "/meshsub/1.1.0", "/meshsub/1.0.0" }
gossip_version gossip_version_of(const char *protocol);

typedef struct cal_gossip cal_gossip;
typedef struct gossip_peer gossip_peer; /* a connected peer; valid until gossip_peer_remove */

typedef struct gossip_options {
    const cal_secret *key; /* Ed25519 seed: authors and signs what is published; copied */
    uint64_t random;       /* seeds the choice of peers: unpredictable, or fixed in a simulation */
    uint64_t first_seqno;  /* greater than every one this key used before: wall clock, ns */
    bool plain_ids;        /* message ids of libp2p's default, from || seqno; else Calimero's */
    bool mesh_publish;     /* publishes go to mesh or fan-out only, not to every subscriber */
} gossip_options;

/* CAL_ENOMEM. */
int gossip_new(const gossip_options *options, uint64_t now_ns, cal_gossip **ret_gossip);
void gossip_free(cal_gossip *gossip); /* also its peers; NULL allowed */

/* --- the application's side --- */

/* Joins. With `validate` each message waits for gossip_validated before it is passed on, else it is
 * passed on and delivered at once. CAL_EINVAL (empty, too long, not UTF-8), CAL_EEXISTS,
 * CAL_ELIMIT, CAL_ENOMEM. */
int gossip_subscribe(cal_gossip *gossip, cal_slice topic, bool validate, uint64_t now_ns,
                     cal_error *err);
int gossip_unsubscribe(cal_gossip *gossip, cal_slice topic, uint64_t now_ns); /* CAL_ENOTFOUND */
/* Signs and sends to those who hear the topic, subscribed or not; ret_peers (may be NULL): how many
 * it goes to now, others may still ask for it. Own messages are not delivered to oneself.
 * CAL_EINVAL a bad topic, CAL_ELIMIT too long for an RPC, CAL_EOVERLOAD, CAL_ENOMEM. */
int gossip_publish(cal_gossip *gossip, cal_slice topic, cal_slice data, uint64_t now_ns,
                   size_t *ret_peers, cal_error *err);

int gossip_validated(cal_gossip *gossip, uint64_t ticket, cal_p2p_verdict verdict,
                     uint64_t now_ns); /* CAL_ENOTFOUND: answered or given up before */

typedef enum gossip_event_kind {
    GOSSIP_MESSAGE,      /* a message of a topic; seen for the first time, signature checked */
    GOSSIP_VALIDATE,     /* the same, and it waits for gossip_validated(ticket) */
    GOSSIP_SUBSCRIBED,   /* peer hears one of our topics */
    GOSSIP_UNSUBSCRIBED, /* and no longer, or it is gone */
    GOSSIP_READY,        /* gossip_ready says yes again for this peer */
    GOSSIP_CLOSE,        /* does not take what must not be lost: reset its streams */
} gossip_event_kind;

/* Borrowed until the next gossip_next_event, gossip_free. */
typedef struct gossip_event {
    gossip_event_kind kind;
    gossip_peer *peer; /* who it came from or is about; NULL when that peer has gone since */
    cal_slice topic;
    cal_peer_id from; /* of a message its author, proven by the signature; else the peer */
    uint64_t seqno;
    cal_slice data;
    cal_slice id;
    uint64_t ticket;
} gossip_event;
bool gossip_next_event(cal_gossip *gossip, gossip_event *ret_event);

/* --- the peers' side --- */

/* A connection is there. `outgoing`: we dialled. CAL_ELIMIT, CAL_EEXISTS, CAL_ENOMEM. */
int gossip_peer_add(cal_gossip *gossip, const cal_peer_id *id, bool outgoing, void *user,
                    uint64_t now_ns, gossip_peer **ret_peer);
void gossip_peer_remove(gossip_peer *peer, uint64_t now_ns);
/* Our stream to the peer is agreed: greets it with our topics; what was queued before is gone. RPCs
 * from it may come before. When no stream can be opened, remove the peer. */
void gossip_peer_open(gossip_peer *peer, gossip_version version, uint64_t now_ns);
/* That stream is lost: nothing is queued until it is opened again. */
void gossip_peer_shut(gossip_peer *peer, uint64_t now_ns);
/* Higher is preferred for meshes (members); 0, a stranger, is where every peer starts and the
 * least there is: none is ever excluded. */
void gossip_peer_score(gossip_peer *peer, uint32_t score);
void *gossip_peer_user(const gossip_peer *peer);
const cal_peer_id *gossip_peer_id(const gossip_peer *peer);

/* May the next RPC be given? No while too many events wait to be taken (take them), or when the
 * peer has used up its signatures: leave the bytes unread until GOSSIP_READY, so that its window
 * closes.
 */
bool gossip_ready(const gossip_peer *peer);
/* One whole RPC, without its length. CAL_EDECODE, CAL_ELIMIT (length, or what it decodes to):
 * reset the stream. What is merely unwelcome inside an RPC is dropped, counted, and 0. */
int gossip_receive(gossip_peer *peer, cal_slice rpc, uint64_t now_ns);

/* A peer that got output since it was returned last; NULL: none. */
gossip_peer *gossip_next_output(cal_gossip *gossip);
/* The next bytes for our stream to it, lengths included (empty: none), valid until the next call
 * on this gossip; and how many of them the stream took. */
cal_slice gossip_output(gossip_peer *peer, uint64_t now_ns);
void gossip_sent(gossip_peer *peer, size_t len);

uint64_t gossip_deadline(const cal_gossip *gossip);
void gossip_expire(cal_gossip *gossip, uint64_t now_ns);

/* --- figures --- */

void gossip_stats_get(const cal_gossip *gossip, cal_p2p_gossip_stats *ret_stats);

/* Peers that hear a topic, and those of them in its mesh. */
void gossip_topic_count(const cal_gossip *gossip, cal_slice topic, size_t *ret_peers,
                        size_t *ret_mesh);
/* Visits the topics subscribed to; names are NUL-terminated. */
void gossip_topics(const cal_gossip *gossip,
                   void (*visit)(void *user, const char *topic, size_t peers, size_t mesh),
                   void *user);
bool gossip_in_mesh(const gossip_peer *peer, cal_slice topic);
/* Visits the peers that hear a topic. */
void gossip_topic_peers(const cal_gossip *gossip, cal_slice topic,
                        void (*visit)(void *user, gossip_peer *peer, bool mesh), void *user);

#endif
