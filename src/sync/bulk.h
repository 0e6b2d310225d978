/* Much at once between nodes of this kind, on a protocol of ours, /calimero-c/sync/1: deltas and
 * governance operations oldest first, many to a frame, where the network's own requests go
 * backwards and bring one or a few in each round trip; and which deltas lie below a state that was
 * taken whole. Whoever does not speak it is asked the network's way.
 *
 * One request a stream, then frames until the last one. Who asks about a context proves the key
 * that it names as in InitProof, and is answered when that key speaks for a member of the context's
 * group; a namespace is asked as the reference's backfill asks.
 *
 *   bulk_message.c  what is said (pure)        bulk_walk.c   what lies between two sets of deltas
 *   bulk.c          asking                     bulk_serve.c  answering
 *   gap.c           deltas of a context        cover.c       what a state covers
 */
#ifndef CAL_SYNC_BULK_H
#define CAL_SYNC_BULK_H

#include "sync/context.h"
#include "sync/serve.h"

#define SYNC_BULK_PROTOCOL "/calimero-c/sync/1"

enum {
    SYNC_BULK_IDS_MAX = 4096,           /* in each list of a request */
    SYNC_BULK_WALK_MAX = 1000000,       /* deltas that a server looks at for one request */
    SYNC_BULK_ITEMS_MAX = 1024,         /* in one frame */
    SYNC_BULK_FRAME_BYTES = 256 * 1024, /* no item is added to a frame that has so many */
    SYNC_BULK_EVENTS_MAX = 1024 * 1024, /* of one delta; longer ones stay behind */
    SYNC_BULK_OP_MAX = 7 * 1024 * 1024, /* of one operation; a longer one is fetched otherwise */
};

/* --- what is said --- */

typedef enum sync_bulk_kind {
    SYNC_BULK_DELTAS,  /* what `ids` descend from, and they themselves, without what `known` are or
                          descend from, as far as the server has it */
    SYNC_BULK_COVERED, /* which of `ids` the state with this root and these heads (`known`) covers,
                          that is, which are or lie below its heads; a root may come again */
    SYNC_BULK_HISTORY, /* operations that are not below `ids` and not these */
    SYNC_BULK_KIND_COUNT,
} sync_bulk_kind;

typedef struct sync_bulk_request {
    uint8_t kind;              /* sync_bulk_kind */
    cal_context_id context;    /* DELTAS, COVERED */
    cal_public_key party;      /* DELTAS, COVERED */
    cal_hash root;             /* COVERED */
    cal_group_id namespace_id; /* HISTORY */
    sync_ids ids, known;
    /* Forty bytes each, an author and a time. DELTAS: what the asker has had and compacted away, as
     * cal_past_decode has it: known, too. COVERED: one for each id, of zeros when only the id is
     * known, or none at all: whose it is and when it was made, for whoever compacted it away. */
    cal_slice marks;
    uint32_t max; /* DELTAS: the server need not look at more */
    uint8_t proof[CAL_SIGNATURE_SIZE];
} sync_bulk_request;

/* A delta with all that is stored of it: DeltaResponse has neither events nor its author's root. */
typedef struct sync_bulk_delta {
    cal_slice bytes; /* borsh CausalDelta */
    cal_public_key author;
    bool has_position, has_signature, has_app_key;
    cal_slice position; /* borsh GovernanceParentEdge */
    uint8_t signature[CAL_SIGNATURE_SIZE];
    cal_hash root;
    cal_slice events;
    cal_blob_id app_key;
} sync_bulk_delta;

typedef enum sync_bulk_end {
    SYNC_BULK_MORE,    /* another frame follows */
    SYNC_BULK_WHOLE,   /* all of it has come */
    SYNC_BULK_PART,    /* something of it cannot be had this way */
    SYNC_BULK_REFUSED, /* to this asker, or now */
    SYNC_BULK_END_COUNT,
} sync_bulk_end;

typedef struct sync_bulk_answer {
    uint8_t kind; /* sync_bulk_kind: of the request */
    uint8_t end;  /* sync_bulk_end */
    const sync_bulk_delta *deltas;
    uint32_t delta_count;
    sync_ops ops;
    cal_slice covered; /* one byte for each id asked about: 1, or 0 */
} sync_bulk_answer;

/* CAL_EDECODE, CAL_ELIMIT, CAL_ENOMEM; what is decoded borrows from the bytes and the arena. */
int sync_bulk_request_decode(cal_slice bytes, cal_arena *arena, sync_bulk_request *ret_request);
int sync_bulk_request_write(const sync_bulk_request *request, cal_buffer *out);
int sync_bulk_answer_decode(cal_slice bytes, cal_arena *arena, sync_bulk_answer *ret_answer);
int sync_bulk_answer_write(const sync_bulk_answer *answer, cal_buffer *out);
/* Items of an answer as they are made, one at a time: begin, add up to SYNC_BULK_ITEMS_MAX, end. */
void sync_bulk_frame_begin(uint8_t kind, cal_buffer *out);
int sync_bulk_frame_delta(const sync_bulk_delta *delta, cal_buffer *out);
int sync_bulk_frame_op(const sync_op *op, cal_buffer *out);
int sync_bulk_frame_end(uint32_t count, uint8_t end, cal_buffer *out);

/* --- a walk over deltas: what lies below some and not below others --- */

typedef struct sync_walk sync_walk;
sync_walk *sync_walk_new(uint64_t seed, uint32_t max); /* NULL: out of memory */
void sync_walk_free(sync_walk *walk);                  /* NULL allowed */
/* Blocking, on a worker; each reads at most `rows` and the rest of a delta's parents. 0: it is
 * over, CAL_EBUSY: go on; CAL_ELIMIT: too much lies there; and what the store answers. */
int sync_walk_step(sync_walk *walk, cal_store *store, const cal_context_id *context, uint32_t rows);
/* Before the first step: whatever these marks say is known, when it is met. They stay where they
 * are. */
void sync_walk_past(sync_walk *walk, const cal_past *past);
/* Before the first step. CAL_ENOMEM, CAL_ELIMIT. */
int sync_walk_add(sync_walk *walk, const cal_hash *id, bool known);
/* What was found, in the order of their times: parents before children, unless authors lied. */
size_t sync_walk_count(const sync_walk *walk);
const cal_hash *sync_walk_at(const sync_walk *walk, size_t i); /* NULL: not one after all */
/* When the oldest of them was made; UINT64_MAX: none was found. */
uint64_t sync_walk_oldest(const sync_walk *walk);
/* Whether a delta was found to lie below what was added as known, or to be one of them. */
bool sync_walk_knows(const sync_walk *walk, const cal_hash *id);
/* What was added as known is here, and more than a checkpoint. */
bool sync_walk_knows_all(const sync_walk *walk);
/* The first that are missing below what was walked: a checkpoint, or nothing. */
bool sync_walk_ended_short(const sync_walk *walk);

/* --- asking --- */

typedef struct sync_bulk sync_bulk;
typedef struct sync_bulk_events {
    /* Valid during the call. true: the next frame may come; false: after sync_bulk_resume. */
    bool (*answer)(void *user, const sync_bulk_answer *answer);
    /* Exactly once, never inside a call. 0: all came; CAL_ELIMIT part of it cannot be had this way;
     * CAL_EDENIED refused; CAL_EUNSUPPORTED the peer does not speak it; and how streams end. */
    void (*ended)(void *user, int result);
} sync_bulk_events;
/* Signs and sends. */
int sync_bulk_ask(cal_sync *sync, const cal_peer_id *peer, sync_bulk_request *request,
                  const sync_bulk_events *events, void *user, sync_bulk **ret_bulk);
void sync_bulk_resume(sync_bulk *bulk);
void sync_bulk_cut(sync_bulk *bulk, int result); /* `ended` comes with this */
void sync_bulk_leave(sync_bulk *bulk);           /* `ended` is not called */

int sync_bulk_serve(cal_sync *sync); /* bulk_serve.c */

/* --- gap.c: deltas of a context that are missing, from a peer --- */

typedef struct sync_gap sync_gap;
/* What came went to sync_context_take. done comes once, on the loop, never inside a call: the
 * result as above, and how many deltas came. CAL_ENOMEM. */
int sync_gap_new(sync_context *context, const cal_peer_id *peer, const cal_hash *wanted,
                 size_t count, void (*done)(void *user, int result, size_t taken), void *user,
                 sync_gap **ret_gap);
void sync_gap_moved(sync_gap *gap); /* what came has been applied, or can go no further */
void sync_gap_leave(sync_gap *gap);

/* --- cover.c: deltas below a state that was taken whole --- */

/* The context's state came from this peer, just now. */
void sync_cover_note(sync_context *context, const cal_peer_id *peer);
/* Whether the delta, which is not stored, may be one of the state's all the same: whoever heard of
 * it while the state was on its way must not apply it again, above what it lies below. */
bool sync_cover_doubts(sync_delta *delta);
void sync_cover_look(sync_context *context); /* asks about the doubtful ones */
/* Asks which of these are covered, those that were not asked about before: the peer that the state
 * came from while it is there, else this one. They are covered (sync_context_cover) when done
 * comes. false: there is nothing to ask, or nobody. */
bool sync_cover_ask(sync_context *context, const cal_peer_id *peer, const cal_hash *ids,
                    size_t count, void (*done)(void *user), void *user);
/* The heads of the state that was taken; none: it was not. */
sync_ids sync_cover_heads(sync_context *context);
void sync_cover_leave(sync_context *context); /* done is not called */
void sync_cover_free(sync_context *context);

#endif
