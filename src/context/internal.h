/* What the files of context/ share: a context in memory, and who does what on which thread.
 *
 *   contexts.c  loop    the table of contexts, and the module's face
 *   turn.c      both    queue, hand-over, settling: whatever takes a context's turn (turn.h)
 *   tip.c       holder  what turns have left and the store does not have yet (tip.h)
 *   grant.c     loop    what governance says of this node in a context, asked once a version
 *   guest.c     worker  one run of a guest: module, overlay, outcome (guest.h)
 *   commit.c    worker  what a run changed, as one batch: rows, signed delta, heads, root
 *   call.c      both    a client's call, as a turn or as a view (call.h)
 *   answer.c    loop    answers, events, xcalls
 *   apply.c     both    the turn of received deltas
 *   handler.c   loop    handlers of the events that received deltas bring
 *   merge.c     both    the turn of leaves and tombstones of another replica
 *   install.c   both    the turn that installs a snapshot
 *   rejoin.c    both    the turn that takes over the heads of a peer with the same state
 *   compact.c   both    the turns that take the oldest deltas away (compact.h, past.h)
 *   create.c    both    a new context's init and genesis
 *   delete.c    loop    the turn of a removal
 *   writers.c   worker  who may write to Shared entities at a delta's parents
 *   removal.c   any     what is left of a deleted context, and goes in steps */
#ifndef CAL_CONTEXT_INTERNAL_H
#define CAL_CONTEXT_INTERNAL_H

#include <stdatomic.h>

#include "base/limits.h"
#include "base/list.h"
#include "base/map.h"
#include "context/cache.h"
#include "context/context.h"
#include "context/modules.h"
#include "context/tip.h"
#include "context/turn.h"
#include "crdt/crdt.h"

/* What governance says of this node in a context: holds while its version does. */
typedef struct cal_grant {
    bool known;
    uint64_t version;
    int result; /* of executor and code; CAL_EDENIED: this node is no member */
    cal_executor executor;
    cal_blob_id code;
    int position_result;
    cal_buffer position; /* governance heads */
    bool seals;          /* what is written is heard, and so is sealed: */
    int seal_result;     /* of the key */
    cal_secret key;
    cal_hash key_id;
} cal_grant;

/* Who has the context's place between hand-over and return (turn.c). */
enum { PLACE_LOOP, PLACE_WORKER, PLACE_WORKER_CALLED, PLACE_LEFT };

struct context {
    cal_contexts *contexts;
    cal_list recent; /* in cal_contexts.recent */
    cal_context_id id;
    cal_context_record record; /* durable; strings and heads are its own (malloc) */
    cal_context_cache *cache;
    size_t cache_bytes; /* as last counted */
    uint32_t views;     /* running */
    uint32_t pins;      /* reasons to stay in memory */
    bool deleting;      /* being removed: takes no calls */
    bool deleted;       /* removed: goes when its last view has left */

    cal_list handlers; /* of received events, that have not entered the queue yet */
    uint32_t handlers_open;

    cal_list waiting; /* turns, by link */
    uint32_t waiting_count;
    size_t waiting_bytes;
    cal_list flight; /* turns handed over and not yet settled, in order */
    uint32_t flight_count;
    atomic_size_t flight_bytes; /* that those which have run keep */
    bool settling;              /* settle_task is on its way: more of them are answered */
    cal_task settle_task;
    uint64_t durable;    /* number of the last turn whose rows are */
    bool broken;         /* a batch has failed: all in flight do */
    struct turn *holder; /* an exclusive turn has the place */
    cal_store_lane lane; /* of its batches */

    /* Who has it: the place. Below it, what belongs to the loop or, during a run, to the worker. */
    atomic_int place;
    atomic_bool halt; /* the run ends after the present turn */
    cal_task run_task, left_task;
    struct turn *run;       /* the next of the run; what is left of it when it has ended */
    cal_snapshot *snapshot; /* of the run; NULL until a turn wants it */
    cal_tip tip;
    crdt_clock clock; /* of its deltas (network-sync.md 6.4); never behind the record's latest */
    cal_grant grant;  /* read by the worker, written between runs */
};

/* Where another thread may come between: tests do. */
typedef enum context_point {
    CONTEXT_AT_VIEW_VERSION,  /* a view has the cache's version, and no snapshot yet */
    CONTEXT_AT_VIEW_SNAPSHOT, /* both, and has not looked at the version again */
} context_point;

struct cal_contexts {
    cal_contexts_options options;
    cal_modules *modules;
    cal_map table;   /* context id -> context */
    cal_map heard;   /* ids of contexts whose changes are published */
    cal_list recent; /* least recently used first */
    size_t loaded, cache_bytes;
    uint64_t open;       /* accepted and not yet answered */
    uint64_t open_bytes; /* that they keep */
    size_t handlers_waiting, handlers_bytes;
    uint64_t held; /* other reasons not to come to rest: runs, and functions on the stack */
    bool draining;
    void (*idle)(void *user);
    void *idle_user;
    uint8_t clock_id[16];                        /* of the clocks of all contexts */
    cal_contexts_stats stats;                    /* loop thread */
    void (*at)(void *user, context_point point); /* NULL outside tests */
    void *at_user;
};

static inline void contexts_at(cal_contexts *contexts, context_point point) {
    if (contexts->at) contexts->at(contexts->at_user, point);
}

enum {
    CONTEXT_CACHE_MAX = 1024 * 1024, /* bytes of hot entities of one context */
    CONTEXTS_CACHE_MAX =
        32 * 1024 * 1024,       /* of all; beyond it those least recently used lose theirs */
    CONTEXTS_LOADED_MAX = 1024, /* kept in memory while idle */
    CALL_ARENA_MAX = 64 * 1024 * 1024,
    HANDLERS_DROPPED_LOG = 1024, /* of so many that are left out one is logged */
};

/* contexts.c */
int contexts_find(cal_contexts *contexts, const cal_context_id *id,
                  struct context **ret_context); /* loads it; CAL_ENOTFOUND */
/* Something that will be answered, and keeps so many bytes, is taken in, or has been answered. And
 * whatever else a drain must wait for begins, or is over. Closing and releasing may end a drain:
 * then nothing may be touched afterwards. */
void contexts_opened(cal_contexts *contexts, size_t bytes);
void contexts_closed(cal_contexts *contexts, size_t bytes);
void contexts_hold(cal_contexts *contexts);
void contexts_release(cal_contexts *contexts);
/* 0, or why the node takes no more work that keeps so many bytes: CAL_ECANCELED, CAL_EOVERLOAD. */
int contexts_admit(const cal_contexts *contexts, size_t bytes, const char **ret_why);
/* Whether anybody hears what the context publishes. */
bool contexts_heard(const cal_contexts *contexts, const cal_context_id *id);
void contexts_tell(const cal_contexts *contexts, const cal_authored_delta *delta);
void contexts_used(struct context *context); /* after work in it: balances the caches, unloads what
                                                is idle for long or was removed */
int context_record_copy(const cal_context_record *from, cal_context_record *ret_record);
void context_record_deinit(cal_context_record *record);

/* Names that the node calls itself, never a client, a guest or a peer (runtime-abi.md 7, hardening
 * notes). */
static inline bool method_is_reserved(const char *method) {
    return strncmp(method, "__calimero", 10) == 0;
}

/* handler.c. Loop. Its words and data are copied; handlers_go, after whatever the loop does in a
 * context, lets them into its queue; handlers_drop: those that wait will not run. */
void handlers_add(struct context *context, const char *method, cal_slice data);
void handlers_go(struct context *context);
void handlers_drop(struct context *context);

/* install.c. Worker. What was installed, or taken over: see cal_context_boundary. */
int context_put_boundary(const struct context *context, const cal_context_state *state,
                         cal_batch *batch);
uint64_t context_now_hlc(const cal_contexts *contexts); /* by the wall clock */

/* removal.c. Any thread: 1 when the snapshot shows state, index or deltas of the context, 0 when it
 * does not, or CAL_E*. */
int context_has_rows(cal_snapshot *snapshot, const cal_context_id *id);

/* grant.c */
/* Between runs: asks again when governance has moved on. */
void grant_refresh(struct context *context);
/* For a view, at any time on the loop: 0 or why not. */
int grant_view(struct context *context, cal_executor *ret_executor, cal_blob_id *ret_code);
/* Any thread: whether what was asked last still holds. */
bool grant_holds(const struct context *context);
void grant_deinit(cal_grant *grant);

#endif
