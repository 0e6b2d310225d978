/* What the files of sync/ share.
 *
 *   message.h    what is said on streams and topics (pure)
 *   session.c    asking a peer                serve.c      answering peers
 *   namespace.c  governance on a topic        history.c    fetching operations that are missing
 *   keys.c       fetching keys                join.c       joining a namespace
 *   context.c    a context on its topic       delta.c      a received delta
 *   pipeline.c   its way until it is applied  due.c        when each context is looked at
 *   bulk.h       many deltas or operations at once, between nodes of this kind
 *   past.c       deltas that were compacted away   rejoin.h  heads that none leads to any more
 *   compare.c    catching up with a peer      take.c  state.c    a whole state, taken, handed out
 *   snapshot.h   the machines of both         blobs.c      blobs, on a protocol of their own
 *   tree_*.c     comparing trees, both sides   foreign.c   whose version does not fit
 *   follow.c     contexts that others made    held.c       states whose history is not here yet
 *   sync.c       the module's face, drain, tick
 */
#ifndef CAL_SYNC_INTERNAL_H
#define CAL_SYNC_INTERNAL_H

#include "base/error.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "gov/share.h"
#include "gov/topic.h"
#include "net/messages.h"
#include "sync/sync.h"

enum {
    SYNC_ARENA_MAX = 64 * 1024 * 1024,
    SYNC_INTAKE_MAX = 4096, /* operations of a namespace that are not judged yet */
    SYNC_INTAKE_BYTES_MAX = 32 * 1024 * 1024,
    SYNC_PEERS_ASKED_MAX = 16,
    SYNC_HEARTBEAT_MS = 30000,
    SYNC_RETRY_MIN_MS = 500, /* pause before asking again; doubles up to: */
    SYNC_RETRY_MAX_MS = 60000,
    SYNC_OWED_MAX = 8,      /* peers whose history is still asked for */
    SYNC_ANSWERED_MAX = 64, /* joiners who are no members yet */
    SYNC_MUTE_MAX = 32,     /* peers without our streams that are remembered */
    SYNC_DUE_SLOTS = 256,   /* of CAL_SYNC_TICK_MS each: longer than any of those pauses */
};

struct sync_namespace;
struct sync_context;

struct cal_sync {
    cal_sync_options options;
    cal_map namespaces; /* id -> sync_namespace */
    cal_map contexts;   /* id -> sync_context */
    struct {
        cal_list slots[SYNC_DUE_SLOTS];
        cal_list now;
        uint64_t tick; /* whose slot was taken last */
        cal_task task;
        bool posted;
    } due; /* due.c */
    cal_list joins;
    cal_list governed; /* contexts of which something waits for governance */
    cal_map adoptions; /* context id -> what is being stored of it */
    struct {
        cal_list namespaces; /* whose contexts are looked at in turn */
        cal_list recoded;    /* contexts whose code has come */
        cal_list codeless;   /* contexts whose code is not here */
        cal_map codes;       /* blob id of such code -> how it stands with it */
        cal_task task;
        bool posted;
    } follow;                 /* follow.c */
    cal_list servings;        /* streams whose asker may turn out to be a member */
    struct sync_views *views; /* of contexts whose state is handed out */
    uint64_t views_due_ms;
    size_t tree_views; /* that streams keep between requests */
    net_messages_protocol requests, bulk;
    uint32_t bulk_servings, bulk_walks;
    struct {
        cal_group_id namespace_id;
        gov_joiner joiner;
        uint64_t until_ms;
    } answered[SYNC_ANSWERED_MAX]; /* serve.c: they read the history until they are members */
    size_t answered_at;
    cal_peer_id mute[SYNC_MUTE_MAX]; /* foreign.c: they speak no version of our streams */
    size_t mute_at;
    uint64_t seed;
    uint64_t under_way; /* what must end before it may be freed */
    bool followed;      /* since the start */
    bool stopping;
    void (*drained)(void *user);
    void *drained_user;
    cal_sync_stats stats;
};

/* sync.c: something that ends on its own is under way, or has ended (which may end a drain: then
 * nothing may be touched afterwards). */
void sync_hold(cal_sync *sync);
void sync_release(cal_sync *sync);
uint64_t sync_now_ms(const cal_sync *sync);    /* monotonic */
uint64_t sync_wall_ms(const cal_sync *sync);   /* Unix */
uint64_t sync_sender(const cal_peer_id *peer); /* whose room something takes */
uint32_t sync_random(const cal_sync *sync, uint32_t below);
void sync_sign(void *user, cal_slice message, uint8_t ret_signature[CAL_SIGNATURE_SIZE]);
/* Publishes; the number of peers it went to. */
size_t sync_publish(cal_sync *sync, const char *topic, cal_slice message);
/* Connected peers that hear the topic; at most max, in an order that differs each time. */
size_t sync_hearers(cal_sync *sync, const char *topic, cal_peer_id *ret_peers, size_t max);

/* serve.c */
int sync_serve(cal_sync *sync);
void sync_servings_look(cal_sync *sync, uint64_t now_ms); /* at those that wait for governance */

/* --- namespace.c --- */
/* room.c: what waits, and how much of it is one sender's: `shares` has a sync_share for each that
 * has anything there. A sender has room for as much as is still free, so alone it may take half of
 * it, and however many there are the next one finds room. */
typedef struct sync_usage {
    size_t count, bytes;
} sync_usage;
typedef struct sync_share sync_share;
/* Made when it is not there; NULL: no memory. */
sync_share *sync_share_of(cal_map *shares, cal_slice sender);
bool sync_share_fits(const sync_share *share, const sync_usage *used, const sync_usage *limit,
                     size_t bytes);
void sync_share_enter(sync_share *share, size_t bytes);
void sync_share_leave(cal_map *shares, sync_share *share, size_t bytes); /* an empty one goes */
void sync_share_unused(cal_map *shares, sync_share *share); /* NULL: nothing. Empty: it goes */

typedef struct sync_intake { /* an operation that came */
    cal_list link;
    cal_peer_id peer;
    sync_share *share; /* its peer's, while it is in the intake */
    bool gossip;       /* its author waits for acks */
    gov_verified *op;
    size_t len;
    uint8_t bytes[];
} sync_intake;

typedef struct sync_owed { /* held.c: a peer whose state was taken */
    cal_peer_id peer;
    uint64_t until_ms;
    bool asked; /* for its history, since then */
} sync_owed;

typedef struct sync_namespace {
    cal_sync *sync;
    cal_group_id id;
    char topic[GOV_TOPIC_TEXT_MAX];
    cal_list intake;             /* waits for its turn */
    cal_list follow_link;        /* in sync.follow.namespaces while its contexts are looked at, */
    gov_context_place follow_at; /* up to here; */
    bool follow_again;           /* and something has changed for those before */
    sync_usage intake_used;
    cal_map shares;           /* of it: peer -> sync_share */
    struct sync_batch *batch; /* being judged */
    struct sync_batch *ahead; /* the next one: being verified, or it waits for its turn */
    uint64_t beacon_due_ms, beacon_sent_ms;
    uint64_t batch_due_ms;                /* after a failure */
    uint8_t newer_version, older_version; /* of operations that were refused for it; 0: none */
    cal_peer_id newer_peer;
    bool gone; /* purged: goes when nothing of it is under way */

    cal_peer_id helper; /* who answered this node's join; len 0: nobody since the start */

    /* history.c */
    struct sync_history *history; /* a peer is being asked */
    cal_peer_id behind;           /* who is known to have more; len 0: nobody */
    bool behind_all;              /* and not known what */
    cal_peer_id history_tried;    /* who was of no use, last; len 0: nobody */
    uint64_t history_due_ms;
    uint32_t history_failures;
    sync_owed owed[SYNC_OWED_MAX];
    size_t owed_count;
    /* keys.c */
    struct sync_key_pull *pull;
    bool pull_wanted; /* there may be keys to fetch */
    uint64_t pull_due_ms;
    uint32_t pull_failures;
    cal_peer_id pull_peer; /* who was asked last; the next one is asked next */
    uint64_t pull_turn;    /* of what is asked for first */
} sync_namespace;

sync_namespace *sync_namespace_get(cal_sync *sync, const cal_group_id *id, bool make);
sync_namespace *sync_namespace_of(cal_sync *sync, const cal_context_id *context); /* NULL: none */
void sync_namespaces_free(cal_sync *sync);
void sync_namespace_gossip(sync_namespace *ns, const cal_p2p_message *message);
void sync_namespace_hearer(sync_namespace *ns, const cal_peer_id *peer);
void sync_namespace_tick(sync_namespace *ns, uint64_t now_ms);
/* Takes a copy. false: no room, or no memory. */
bool sync_namespace_take(sync_namespace *ns, const cal_peer_id *peer, bool gossip, cal_slice op);
bool sync_namespace_busy(const sync_namespace *ns); /* something that came is not judged yet */
void sync_namespace_beacon(sync_namespace *ns);     /* soon */
void sync_namespace_started(const gov_observer **ret_observer);

/* foreign.c: versions of others that do not fit */
void sync_foreign_op(sync_namespace *ns, const cal_peer_id *peer, uint8_t version);
void sync_foreign_mute(cal_sync *sync, const cal_peer_id *peer); /* no stream of ours */
void sync_foreign_speaks(cal_sync *sync, const cal_peer_id *peer);

/* history.c: the peer has operations that are not here. all: nothing is known of what is missing.
 */
void sync_history_want(sync_namespace *ns, const cal_peer_id *peer, bool all);
void sync_history_tick(sync_namespace *ns, uint64_t now_ms);
void sync_history_judged(sync_namespace *ns); /* what it brought has been judged */
void sync_history_free(sync_namespace *ns);

/* held.c, for history.c: of whom it is to be asked (NULL: nobody), is being, has been */
const cal_peer_id *sync_owed_next(sync_namespace *ns, uint64_t now_ms);
void sync_owed_asked(sync_namespace *ns, const cal_peer_id *peer);
void sync_owed_answered(sync_namespace *ns, const cal_peer_id *peer, bool success);

/* keys.c */
void sync_keys_tick(sync_namespace *ns, uint64_t now_ms);
void sync_keys_soon(sync_namespace *ns);
void sync_keys_again(sync_namespace *ns); /* soon, whatever others said before */
void sync_keys_free(sync_namespace *ns);

/* join.c */
void sync_joins_tick(cal_sync *sync, uint64_t now_ms);
void sync_joins_judged(sync_namespace *ns);
void sync_joins_drain(cal_sync *sync);

/* --- context.c --- */
struct sync_context *sync_context_get(cal_sync *sync, const cal_context_id *id);
int sync_context_add(cal_sync *sync, const cal_context_id *id);
void sync_context_drop(cal_sync *sync, const cal_context_id *id);
void sync_contexts_free(cal_sync *sync);
void sync_context_gossip(struct sync_context *context, const cal_p2p_message *message);
void sync_context_hearer(struct sync_context *context, const cal_peer_id *peer, bool hears);
/* Governance has moved: what waited for it is judged again. */
void sync_contexts_governed(cal_sync *sync);
void sync_contexts_quit(cal_sync *sync); /* what is kept for later goes */

/* due.c */
void sync_due_init(cal_sync *sync);
void sync_contexts_tick(cal_sync *sync, uint64_t now_ms);

/* follow.c: contexts that others made, and that this node may have. */
void sync_follow_init(cal_sync *sync);
void sync_follow_free(cal_sync *sync);
void sync_follow_change(cal_sync *sync, const gov_change *change);
void sync_follow_namespace(cal_sync *sync, const cal_group_id *namespace_id);
/* Those that are here already: nothing is stored. */
void sync_follow_stored(cal_sync *sync, const cal_group_id *namespace_id);

#endif
