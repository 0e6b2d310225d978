/* A context that this node shares, and the deltas of it that have come and are not applied yet.
 *
 *     came --prove--> its author signed it --judge--> who may write, key is here
 *          --open--> content-addressed --> parents are here --apply--> durable
 *
 * Each step either goes on or names what it waits for: governance (lists `governed` and, of authors
 * that are no members as far as is known here, `strangers`), a key (`governed`), a parent (buckets
 * by its id), the context's first state or its code (list `stateless`). Steps `prove`, `open` and
 * `apply` work on many at once; while one step of a context proves or opens another one applies.
 * What comes unasked is known by its id, and keeps others of that id away, only when it is proved
 * and no stranger's. How much may wait is room.c's business. Loop thread. */
#ifndef CAL_SYNC_CONTEXT_H
#define CAL_SYNC_CONTEXT_H

#include "context/past.h"
#include "context/record.h"
#include "sync/internal.h"
#include "sync/message.h"

enum {
    SYNC_WAITING_MAX = 20000, /* deltas of a context that are not applied yet */
    SYNC_WAITING_BYTES_MAX = 64 * 1024 * 1024,
    SYNC_UNPROVED_MAX = 1024, /* that came unasked, and whose author's signature is not verified */
    SYNC_UNPROVED_BYTES_MAX = 16 * 1024 * 1024,
    SYNC_STRANGERS_MAX = 2048, /* of authors that are no members as far as is known */
    SYNC_STRANGERS_BYTES_MAX = 8 * 1024 * 1024,
    SYNC_STRANGERS_MS = 5 * 60 * 1000, /* for so long */
    SYNC_REFUSED_MAX = 64,
    SYNC_COVERED_MAX = 65536,
    SYNC_MET_MAX = 64,
    SYNC_HELD_MAX = 4,
    SYNC_SHOWN_MAX = 16,      /* peers that this node shows itself to in SHOW_AGAIN_MS */
    SYNC_LEVEL_PEERS_MAX = 8, /* whose heads are remembered as those of this node */
};

typedef struct sync_delta sync_delta;
typedef struct sync_absent { /* a parent that is not stored, in its bucket */
    cal_list link;
    sync_delta *delta; /* NULL: in no bucket */
    uint32_t parent;   /* which of the record's */
} sync_absent;

typedef enum sync_room { /* what a delta takes room of */
                         SYNC_ROOM_NONE,
                         SYNC_ROOM_UNPROVED,
                         SYNC_ROOM_STRANGERS,
                         SYNC_ROOM_WAITING,
                         SYNC_ROOM_COUNT
} sync_room;
typedef struct sync_step sync_step; /* pipeline.c: deltas on their way */

struct sync_delta {
    cal_list link; /* in one of the context's lists, or in the step under way */
    struct sync_context *context;
    cal_peer_id peer;     /* who brought it */
    bool sealed;          /* by gossip: under a group key */
    bool fetched;         /* asked for: replaces one of its id yet to be opened */
    gov_state_delta wire; /* what is not in `record`; borrows from bytes */
    cal_delta_record record;
    cal_account_id signer;
    bool proved; /* its author has signed it, or nobody need have */
    bool keyed;  /* the key is here; or it is not sealed */
    bool listed; /* in by_id */
    bool opened;
    bool doubted;   /* in the list `doubtful` */
    bool ready;     /* in the list of that name: its children may follow it there */
    bool compacted; /* it was here, and its row was taken away */
    bool shared;    /* it touches entities with writers of their own: applied alone */
    int result;     /* of the step on a worker */
    const char *why;
    cal_secret key;
    cal_arena arena; /* parents, plain text, writers */
    sync_absent *absent;
    size_t absent_count; /* as located; waited for is `lacking` of them */
    size_t lacking;
    const crdt_entity_writers *writers;
    uint32_t writer_count;
    size_t cost;
    sync_room room;
    sync_share *shares[2]; /* NULL: none */
    uint64_t came_ms;
    size_t len;
    uint8_t bytes[];
};

/* What of cal_sync_status is kept, of each of many contexts. */
typedef struct sync_standing {
    cal_sync_state state;
    cal_peer_id peer;
    uint64_t compared_ms, failures;
    char why[160];
} sync_standing;

typedef struct sync_context {
    cal_sync *sync;
    cal_context_id id;
    char topic[CAL_ID_TEXT_MAX];
    bool gone;
    bool codeless;          /* follow.c: what it runs is not here; then */
    cal_blob_id code;       /* that is this */
    cal_list codeless_link; /* in sync.follow.codeless, or in .recoded once that has come */
    cal_map by_id;          /* delta id -> sync_delta, known and not applied: see above */
    sync_usage used[SYNC_ROOM_COUNT];
    cal_map shares;     /* of them: room, author or peer -> sync_share */
    cal_list unproved;  /* came unasked */
    cal_list came;      /* was asked for, and is not proved */
    cal_list judged;    /* is to be judged again */
    cal_list governed;  /* wait for governance or a key */
    cal_list strangers; /* the same, of authors that may be nobody; oldest first */
    cal_list stateless; /* wait for the context's state */
    cal_list to_open;
    cal_list doubtful; /* cover.c: the state that was taken may have them */
    cal_list ready;    /* in causal order */
    cal_map buckets;   /* parent id -> sync_bucket */
    cal_map covered; /* ids of deltas that the state is known to have, though they are not stored */
    cal_list governed_link;             /* in sync.governed while something waits for governance */
    cal_hash refused[SYNC_REFUSED_MAX]; /* the last ones: not fetched again */
    size_t refused_at;
    cal_blob_id foreign_code; /* foreign.c: what a member runs that this node does not; 0: none */
    cal_public_key foreign_author;
    sync_step *intake; /* of deltas being proved or opened */
    sync_step *applying;
    uint64_t heartbeat_due_ms;
    cal_list due_link; /* due.c: in a slot, or with those that are due */

    cal_past past; /* past.c: as read last, if it was */
    bool past_read;
    cal_hash common[CAL_SYNC_COMMON_MAX]; /* heads that a member said it has, all of them here */
    uint32_t common_count;
    uint64_t fetched_ms; /* until then a peer that fetches deltas is let to */

    /* compare.c */
    struct sync_compare *compare;
    struct sync_cover *cover;    /* cover.c: of the state that came whole; NULL: none did, or */
    bool cover_read;             /* not read yet */
    struct sync_take *kept_take; /* take.c: a transfer that broke off */
    cal_peer_id helper;          /* is asked before all others, once; len 0: nobody */
    cal_peer_id ahead;           /* who is to be asked next; len 0: anybody */
    cal_peer_id declined;        /* whose comparison of trees was, last */
    uint64_t declined_ms;
    struct { /* peers that named every head that this node had then, the latest */
        cal_peer_id peer;
        cal_hash heads; /* all of them in one */
    } level[SYNC_LEVEL_PEERS_MAX];
    size_t level_at;
    struct { /* whom this node has shown that it is a member, and when */
        cal_peer_id peer;
        uint64_t at_ms;
    } shown[SYNC_SHOWN_MAX];
    cal_peer_id tried; /* the last one that was of no use */
    bool compare_wanted;
    uint64_t compare_due_ms, compare_began_ms;
    bool awaits_member; /* to take a state from: whoever shows it is one is asked at once */
    uint32_t failures;
    sync_standing status;
    cal_list waiters; /* of cal_sync_now */

    struct { /* tree.h: peers that have proved keys, the latest */
        cal_peer_id peer;
        cal_public_key party;
    } met[SYNC_MET_MAX];
    size_t met_at;
    cal_peer_id held[SYNC_HELD_MAX]; /* held.c: whose state was taken, the latest */
    size_t held_at;
} sync_context;

/* held.c */
/* Something of a state of the peer's is taken, or is about to be. */
void sync_context_took(sync_context *context, const cal_peer_id *peer);
/* What was taken from another peer must not go on to `to` yet. */
bool sync_context_held(const sync_context *context, const cal_peer_id *to);

/* delta.c: from gossip, or from an answer to DeltaRequest. NULL: malformed, not this context's, or
 * no memory. */
sync_delta *sync_delta_of_gossip(sync_context *context, const cal_p2p_message *message);
sync_delta *sync_delta_of_answer(sync_context *context, const cal_peer_id *peer,
                                 const sync_answer *answer);
/* What DeltaResponse lacks. false: out of memory. */
bool sync_delta_add(sync_delta *delta, cal_hash root, cal_slice events, const cal_blob_id *app_key);
void sync_delta_free(sync_delta *delta);
/* Whether a delta, or all of these, have a row. CAL_ENOTFOUND, and what the store says. */
int sync_delta_stored(cal_snapshot *snapshot, const cal_context_id *context, const uint8_t id[32]);
bool sync_deltas_stored(const sync_context *context, sync_ids ids); /* past.c; not: false */
/* On a worker: the author's signature. 0, CAL_EEXISTS (it is stored already), or why it is refused
 * (`why`). snapshot NULL: it is not known what is stored. */
int sync_delta_prove(sync_delta *delta, cal_snapshot *snapshot);
/* On a worker: seal, content address. 0 or why it is refused. */
int sync_delta_open(sync_delta *delta);
/* On a worker: which of its parents the store does not have (absent), and whether it has the delta
 * itself, or had it and compacted it away (CAL_EEXISTS). */
int sync_delta_locate(sync_delta *delta, cal_snapshot *snapshot, const cal_past *past);
/* On a worker, when all that it builds on is stored: the writers that hold for it. */
int sync_delta_writers(sync_delta *delta);

/* room.c: into another room, out of the one that it was in. false: no room there, or no memory; it
 * is in none then. */
bool sync_room_enter(sync_delta *delta, sync_room room);
void sync_room_leave(sync_delta *delta);

/* pipeline.c */
/* Takes it over. false: it is known, or there is no room. */
bool sync_context_take(sync_context *context, sync_delta *delta);
void sync_context_go(sync_context *context); /* whatever can go on does */
/* One of that id is here and not applied, or was refused not long ago; so it need not be fetched.
 */
bool sync_context_holds(const sync_context *context, const cal_hash *id);
/* Parents that are waited for and not here at all, up to max. */
size_t sync_context_missing(const sync_context *context, cal_hash *ret_ids, size_t max);
/* The state is known to have that delta, though it is not stored. One that is doubtful goes. */
void sync_context_cover(sync_context *context, const cal_hash *id);
/* Nobody has that delta: what waits for it, and for what waits for it, goes. */
void sync_context_orphans(sync_context *context, const cal_hash *parent);
/* The context has got a state, or another one. */
void sync_context_stated(sync_context *context);
bool sync_context_idle(const sync_context *context); /* nothing of what came can go on */
size_t sync_context_waiting(const sync_context *context);
/* Those of strangers that have waited for long enough. */
void sync_context_forget_strangers(sync_context *context, uint64_t now_ms);
void sync_delta_drop(sync_delta *delta); /* it leaves, whatever it waits for */

/* context.c */
void sync_context_heartbeat(sync_context *context); /* soon */
/* Something of it may be due. */
void sync_context_look(sync_context *context, uint64_t now_ms);

/* due.c: what is due of it has changed, or when. */
void sync_context_alarm(sync_context *context);

/* past.c: whether it was compacted away here, going by what it says. */
bool sync_past_has(sync_context *context, const cal_delta_record *delta);
void sync_past_fetched(sync_context *context); /* a peer is fetching deltas */
void sync_past_free(sync_context *context);
/* A member says that it has these. */
void sync_past_common(sync_context *context, const cal_peer_id *peer, sync_ids heads);

/* follow.c: whether what the context runs is not here; then it is wanted. */
bool sync_context_codeless(sync_context *context);
const char *sync_context_code_why(const sync_context *context); /* how it stands with the code */

/* foreign.c: whether its author runs other code */
void sync_foreign_code(const sync_delta *delta);
/* Adds to `why` what of others does not fit. */
void sync_foreign_tell(const sync_context *context, cal_sync_status *status);

/* compare.c */
void sync_compare_want(sync_context *context, const cal_peer_id *peer);
/* The same, after a moment: what is missing may be on its way by itself. */
void sync_compare_soon(sync_context *context, const cal_peer_id *peer);
void sync_compare_met(sync_context *context, const cal_peer_id *peer); /* it proved its key */
/* Shows the peer that this node is a member, by asking it what only a member may ask. */
void sync_compare_show(sync_context *context, const cal_peer_id *peer);
/* UINT64_MAX: not before something else happens. */
uint64_t sync_compare_due(const sync_context *context);
/* Whether the peer, as far as it said, has every delta that is here. */
bool sync_compare_level(const sync_context *context, const cal_peer_id *peer);
void sync_compare_tick(sync_context *context, uint64_t now_ms);
void sync_compare_moved(sync_context *context); /* deltas were applied, or can go no further */
void sync_compare_free(sync_context *context);
void sync_compare_heard(sync_context *context, const sync_heartbeat *heartbeat,
                        const cal_peer_id *peer);

#endif
