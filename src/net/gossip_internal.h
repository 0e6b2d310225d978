/* What the files of gossip share; see gossip.h. Nobody else includes this. */
#ifndef CAL_NET_GOSSIP_INTERNAL_H
#define CAL_NET_GOSSIP_INTERNAL_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/list.h"
#include "base/map.h"
#include "gossip.pb-c.h"
#include "net/gossip.h"

/* One message, framed as it is sent: length, RPC, message. Shared by queues, cache and events. */
typedef struct gossip_message {
    size_t refs;
    cal_gossip *gossip;
    size_t size; /* of this block, counted in message_bytes */
    cal_peer_id from;
    uint64_t seqno;
    cal_slice topic_name, data, id; /* inside bytes */
    cal_slice frame;
    uint64_t brief, hash; /* of the id; the second is seeded */
    uint8_t brief_key[8];
    uint32_t via; /* who it came from first (gossip_via); 0: it is our own */
    /* while cached: */
    struct gossip_topic *topic; /* NULL: not cached */
    cal_list cache_link, topic_link;
    uint64_t tick;
    struct gossip_served {
        uint64_t serial;
        uint8_t count;
    } * served; /* who asked for it how often */
    size_t served_count;
    uint8_t bytes[];
} gossip_message;

enum { GOSSIP_ELSEWHERE = 16, GOSSIP_DOUBT = 10 /* heartbeats */ };

/* A peer hears a topic. In both lists. */
typedef struct gossip_sub {
    cal_list topic_link;
    struct gossip_topic *topic;
    gossip_peer *peer;
    bool mesh, fanout;
    uint64_t owed_tick; /* until then tell it ids though it is in the mesh; 0: nothing owed */
    uint64_t told_tick; /* when it was told ids last */
    uint64_t order;     /* scratch of sorting */
    /* Messages that come from these it has from elsewhere (gossip_hold.c); none until then. */
    uint32_t elsewhere[GOSSIP_ELSEWHERE], elsewhere_at;
    uint64_t doubt_tick;
} gossip_sub;

typedef struct gossip_pause {
    uint64_t until;
} gossip_pause;

typedef struct gossip_topic {
    cal_list subs, recent; /* recent: cached messages, oldest first */
    cal_slice name;        /* inside the block */
    bool own, validate;
    size_t sub_count, mesh_count, cached;
    uint64_t fanout_until;
    cal_map backoffs; /* peer id -> gossip_pause */
    uint8_t bytes[];
} gossip_topic;

typedef struct gossip_queued {
    cal_list link;
    gossip_message *message;
    uint64_t expires;
    bool asked; /* by IWANT: sent even when the peer said it has it */
} gossip_queued;

/* Ids that a peer has, by hash, in sets of which the oldest gives way. */
enum { GOSSIP_HAS_SETS = 512, GOSSIP_HAS_WAYS = 4 };

struct gossip_peer {
    cal_list link, output_link;
    cal_gossip *gossip;
    cal_peer_id id;
    void *user;
    uint64_t serial;
    bool outgoing, open, paused, closing;
    bool brief; /* it understands the IDONTWANT of ours */
    gossip_version version;
    uint32_t score;
    cal_map subs;   /* topic name -> gossip_sub */
    size_t foreign; /* subs to topics that are not ours */
    size_t wants;   /* ids asked of it */
    size_t held;    /* copies held back for it */
    /* output */
    cal_buffer control; /* whole frames; goes before messages */
    size_t control_sent;
    cal_buffer ihave;   /* IHAVEs of this heartbeat, packed, to become one RPC */
    size_t counted;     /* of both, in gossip->control_bytes */
    uint64_t owed_tick; /* until then ids are told again: some were left out */
    cal_list queue;
    size_t queue_count, queue_bytes, head_sent;
    /* since the last heartbeat */
    uint32_t ihaves, ihave_ids, iwant_ids, idontwant_ids, grafts, subscribes, verifies, forged,
        rpcs;
    /* what it has: it said so, sent it, or was sent it. 48 bits of the id's hash, 16 of the tick */
    uint64_t has[GOSSIP_HAS_SETS][GOSSIP_HAS_WAYS];
};

typedef struct gossip_seen {
    cal_list link;
    uint64_t expires;
    cal_slice id;
    uint8_t bytes[];
} gossip_seen;

typedef struct gossip_want {
    cal_list link; /* oldest request first */
    uint64_t deadline;
    gossip_peer *sources[GOSSIP_WANT_SOURCES_MAX]; /* the first was asked */
    size_t source_count;
    cal_slice id;
    uint8_t bytes[];
} gossip_want;

typedef struct gossip_news {
    cal_list link;
    gossip_event_kind kind;
    gossip_peer *peer;       /* NULL: it has gone since */
    cal_peer_id from;        /* who it was */
    gossip_message *message; /* or NULL */
    uint64_t ticket;
    size_t topic_len;
    uint8_t topic[];
} gossip_news;

typedef struct gossip_waiting { /* for a verdict */
    cal_list link;
    uint64_t ticket, deadline;
    cal_peer_id source;
    gossip_message *message;
} gossip_waiting;

struct cal_gossip {
    cal_secret key;
    cal_peer_id self;
    uint64_t random, hash_seed, seqno, now, tick, next_heartbeat, next_serial, next_ticket;
    bool plain_ids, mesh_publish;
    bool sweeping; /* more has expired than was freed at once */
    cal_map peers, topics, seen, cache, wants;
    cal_map briefs; /* of what is in cache */
    cal_list peer_list, seen_list, cache_list, want_list, news, waiting, output, held;
    size_t news_count, waiting_count, waiting_bytes, cache_bytes, own_topics, foreign;
    size_t message_bytes, control_bytes, backoffs, held_count, held_bytes;
    uint32_t verifies;    /* since the last heartbeat */
    gossip_news *current; /* lent out by gossip_next_event */
    cal_p2p_gossip_stats stats;
    gossip_sub *chosen[GOSSIP_PEERS_MAX]; /* scratch of the mesh's choices */
};

/* gossip.c */
uint64_t gossip_random(cal_gossip *gossip);
uint64_t gossip_hash(const cal_gossip *gossip, cal_slice bytes);
uint64_t gossip_brief(cal_slice id);                                  /* the same at every node */
uint64_t gossip_brief_hash(const cal_gossip *gossip, uint64_t brief); /* at ours only */
void gossip_clock(cal_gossip *gossip, uint64_t now_ns);
gossip_topic *gossip_topic_find(const cal_gossip *gossip, cal_slice name);
gossip_topic *gossip_topic_make(cal_gossip *gossip, cal_slice name);
void gossip_topic_release(cal_gossip *gossip, gossip_topic *topic); /* frees it when unused */
gossip_sub *gossip_sub_find(const gossip_peer *peer, cal_slice topic);
int gossip_sub_add(gossip_peer *peer, cal_slice topic, gossip_sub **ret_sub);
void gossip_sub_remove(gossip_sub *sub);
bool gossip_topic_name_valid(cal_slice name);

/* gossip_event.c */
int gossip_tell(cal_gossip *gossip, gossip_event_kind kind, gossip_peer *peer, cal_slice topic,
                gossip_message *message, uint64_t ticket);
void gossip_events_forget(gossip_peer *peer);
void gossip_events_free(cal_gossip *gossip);
int gossip_wait(gossip_peer *source, gossip_message *message);
void gossip_waiting_expire(cal_gossip *gossip);

/* gossip_message.c */
int gossip_message_make(cal_gossip *gossip, const GossipPb__Message *message, cal_slice id,
                        gossip_message **ret_message);
void gossip_message_unref(gossip_message *message);
int gossip_message_sign(cal_gossip *gossip, GossipPb__Message *message,
                        uint8_t ret_signature[CAL_SIGNATURE_SIZE]);
/* Author, number and signature; CAL_EDECODE, CAL_EVERIFY, CAL_ENOMEM. */
int gossip_message_check(const GossipPb__Message *message, cal_peer_id *ret_from,
                         uint64_t *ret_seqno);
int gossip_message_verify(GossipPb__Message *message, const cal_peer_id *from);
size_t gossip_message_id(const cal_gossip *gossip, const cal_peer_id *from, uint64_t seqno,
                         uint8_t ret_id[GOSSIP_ID_MAX]);

/* gossip_cache.c */
bool gossip_seen_has(const cal_gossip *gossip, cal_slice id);
int gossip_seen_add(cal_gossip *gossip, cal_slice id);
size_t gossip_seen_expire(cal_gossip *gossip, size_t most); /* how many were freed */
int gossip_cache_add(cal_gossip *gossip, gossip_message *message, gossip_topic *topic);
void gossip_cache_drop(gossip_message *message);
size_t gossip_cache_expire(cal_gossip *gossip, size_t most);
bool gossip_make_room(cal_gossip *gossip, size_t size);  /* for a message of this size */
bool gossip_want_add(gossip_peer *source, cal_slice id); /* true: ask source for it now */
void gossip_want_done(cal_gossip *gossip, cal_slice id);
void gossip_want_forget(gossip_peer *peer);
void gossip_want_expire(cal_gossip *gossip);
void gossip_caches_free(cal_gossip *gossip);

/* gossip_queue.c */
bool gossip_queue_message(gossip_peer *peer, gossip_message *message, bool asked);
bool gossip_queue_shed(gossip_peer *peer); /* drops what waits longest; false: nothing waits */
void gossip_queue_clear(gossip_peer *peer);
void gossip_has(gossip_peer *peer, uint64_t hash);
bool gossip_peer_has(const gossip_peer *peer, uint64_t hash);
void gossip_send_subscriptions(gossip_peer *peer);
void gossip_send_subscription(gossip_peer *peer, const gossip_topic *topic, bool subscribe);
void gossip_send_graft(gossip_peer *peer, const gossip_topic *topic);
void gossip_send_prune(gossip_peer *peer, const gossip_topic *topic);
void gossip_send_iwant(gossip_peer *peer, const cal_slice *ids, size_t count);
void gossip_send_idontwant(gossip_peer *peer, const gossip_message *message);
bool gossip_add_ihave(gossip_peer *peer, const gossip_topic *topic, const cal_slice *ids,
                      size_t count); /* false: no room for all of them */
void gossip_flush_ihave(gossip_peer *peer);

/* gossip_mesh.c */
void gossip_mesh_join(cal_gossip *gossip, gossip_topic *topic);
void gossip_mesh_leave(cal_gossip *gossip, gossip_topic *topic);
void gossip_mesh_met(gossip_sub *sub); /* a peer began to hear the topic */
void gossip_mesh_grafted(gossip_sub *sub);
void gossip_mesh_remove(gossip_sub *sub);
void gossip_backoff(cal_gossip *gossip, gossip_topic *topic, const cal_peer_id *id,
                    uint64_t seconds);
bool gossip_backing_off(const cal_gossip *gossip, const gossip_topic *topic, const cal_peer_id *id,
                        uint64_t slack_ns);
size_t gossip_fanout(cal_gossip *gossip, gossip_topic *topic); /* into chosen */
void gossip_backoffs_free(cal_gossip *gossip, gossip_topic *topic);
void gossip_heartbeat(cal_gossip *gossip);

/* gossip_hold.c */
uint32_t gossip_via(const cal_gossip *gossip, const cal_peer_id *source);
bool gossip_hold(gossip_sub *sub, gossip_message *message); /* false: it is to be sent now */
void gossip_hold_learn(gossip_sub *sub, const gossip_message *message); /* it has it already */
void gossip_hold_note(gossip_peer *peer, uint64_t brief);
void gossip_hold_expire(cal_gossip *gossip);
uint64_t gossip_hold_deadline(const cal_gossip *gossip);
void gossip_hold_forget(gossip_peer *peer);

/* gossip_receive.c */
void gossip_accept(cal_gossip *gossip, gossip_message *message, gossip_topic *topic,
                   const cal_peer_id *source);

#endif
