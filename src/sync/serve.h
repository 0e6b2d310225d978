/* A stream on which a peer asks, for the files that answer. Loop thread, but for `work`. */
#ifndef CAL_SYNC_SERVE_H
#define CAL_SYNC_SERVE_H

#include "context/record.h"
#include "sync/internal.h"
#include "sync/message.h"

typedef struct sync_serving sync_serving;
struct sync_serving {
    cal_sync *sync;
    net_messages *messages;
    cal_list waiting; /* in sync.servings: for governance that may say who asks */
    uint64_t waits_until_ms;
    uint64_t sequence;
    bool gone, working; /* the stream is over; a worker has it */
    bool proven;
    uint32_t asked;      /* for heads */
    bool compares_trees; /* node by node, as the reference does */

    /* Of the present request; everything it points to is in the arena. */
    cal_arena arena;
    sync_request request;
    cal_public_key party;
    cal_buffer out;
    int result;
    sync_op *ops;
    size_t op_count;
    gov_join_answer join;
    cal_hash root; /* of the context, as the loop saw it */

    struct sync_tree_view *tree; /* tree_serve.c: what it reads from */
    bool tree_kept;              /* for the next request; counted in sync.tree_views */
    uint64_t tree_now_ms;
    bool has_code;
    cal_blob_id code; /* of the context, as the loop saw it */
    sync_answer tree_answer;
    bool has_met;       /* a key was proved on this stream: */
    cal_public_key met; /* of whoever may push */

    cal_task task;
    int (*work)(sync_serving *serving);
    void (*reply)(sync_serving *serving);
    /* Instead of awaiting the next request once an answer has gone: another answer to the present
     * one. NULL: none. */
    void (*more)(sync_serving *serving);
    void (*ended)(sync_serving *serving); /* the stream is over: drops `state`; NULL */
    void *state;                          /* of a request that goes on over several */
};

/* One of the following ends each request. */
void sync_serving_answer(sync_serving *serving, const sync_answer *answer);
void sync_serving_decline(sync_serving *serving, bool benign);
/* Or first: fn on a worker (serving->result), then reply on the loop, unless the stream ended. */
void sync_serving_work(sync_serving *serving, int (*fn)(sync_serving *serving),
                       void (*reply)(sync_serving *serving));

/* Or first: something else has it. back: false when the stream ended meanwhile, and it is gone. */
void sync_serving_hold(sync_serving *serving);
bool sync_serving_back(sync_serving *serving);

/* blob_session.c: BlobShare. */
void sync_serve_blob(sync_serving *serving, const cal_context_id *context);
/* state.c: SnapshotBoundaryRequest and SnapshotStreamRequest. */
void sync_serve_state(sync_serving *serving);

/* A stored delta as an answer; the buffers (initialised) keep what it points to. */
int sync_delta_answer(const cal_delta_record *record, cal_buffer *ret_bytes,
                      cal_buffer *ret_position, sync_answer *ret_answer);

#endif
