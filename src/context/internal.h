/* What the files of context/ share: a context in memory, a call on its way, and who does what on
 * which thread.
 *
 *   contexts.c  loop    the table of contexts, their queues, delete
 *   call.c      worker  one call: module, snapshot, guest, outcome
 *   commit.c    worker  what a call changed, as one batch: rows, signed delta, heads, root
 *   finish.c    loop    after it is durable: answer, events, xcalls, the next writer
 *   create.c    both    a new context's init and genesis */
#ifndef CAL_CONTEXT_INTERNAL_H
#define CAL_CONTEXT_INTERNAL_H

#include <pthread.h>

#include "base/limits.h"
#include "base/list.h"
#include "base/map.h"
#include "context/cache.h"
#include "context/context.h"
#include "context/modules.h"
#include "context/overlay.h"
#include "crdt/crdt.h"

struct context {
    cal_list recent; /* in cal_contexts.recent */
    cal_context_id id;
    cal_context_record record; /* strings and heads are its own (malloc) */
    cal_context_cache *cache;
    size_t cache_bytes; /* as last counted */
    cal_list waiting;   /* writers, by call.link */
    uint32_t waiting_count;
    uint32_t views; /* running */
    bool writer;    /* running, or a removal holds its place */
    bool deleting;  /* being removed: takes no calls */
    bool deleted;   /* removed: goes when its last view has left */
    cal_context_delete_ready delete_ready;
    void *delete_user;
};

struct cal_contexts {
    cal_contexts_options options;
    cal_modules *modules;
    cal_map table;   /* context id -> context */
    cal_list recent; /* least recently used first */
    size_t loaded, cache_bytes;
    uint64_t calls_open; /* accepted and not yet answered */
    bool draining;
    void (*idle)(void *user);
    void *idle_user;
    pthread_mutex_t clock_lock;
    crdt_clock clock;         /* of this node's deltas */
    cal_contexts_stats stats; /* loop thread */
};

enum {
    CONTEXT_CACHE_MAX = 1024 * 1024, /* bytes of hot entities of one context */
    CONTEXTS_CACHE_MAX =
        32 * 1024 * 1024,       /* of all; beyond it those least recently used lose theirs */
    CONTEXTS_LOADED_MAX = 1024, /* kept in memory while idle */
    CALL_ARENA_MAX = 64 * 1024 * 1024,
};

struct call {
    cal_task task;
    cal_list link; /* in context.waiting */
    cal_contexts *contexts;
    struct context *context; /* NULL while a context is created */
    cal_context_id id;
    bool view;

    char *method;
    cal_buffer args;
    bool is_xcall;
    cal_context_id origin;
    cal_application_id origin_application;
    uint32_t depth;
    cal_executor executor;
    cal_blob_id code;
    cal_buffer position; /* governance heads */

    cal_loaded_module module;
    cal_snapshot *snapshot;
    cal_overlay overlay;
    cal_vm_storage storage; /* the overlay, as the guest sees it */
    cal_vm_outcome outcome;
    bool ran;
    cal_arena arena;
    cal_batch *batch;
    bool committing; /* the cache is closed for this call's commit */
    int store_result;

    cal_call_status status;
    int error;
    char message[CAL_ERROR_MESSAGE_MAX];
    cal_slice guest_error;
    const char *denied; /* of an xcall: why it was not run */
    bool changed;
    cal_hash root, head; /* after the change */
    uint64_t began_ns;
    cal_call_done done;
    void *user;

    /* creation only */
    cal_context_genesis genesis;
    char *service;
    cal_context_genesis_done genesis_done;
};

/* contexts.c */
struct call *call_new(cal_contexts *contexts, const cal_context_id *id, const char *method,
                      cal_slice args); /* NULL: out of memory */
void call_free(struct call *call);
int contexts_find(cal_contexts *contexts, const cal_context_id *id,
                  struct context **ret_context); /* loads it; CAL_ENOTFOUND */
void contexts_submit(cal_contexts *contexts,
                     struct call *call); /* queues or starts it; answers at once when it cannot */
void contexts_left(cal_contexts *contexts, struct context *context,
                   bool view);                     /* a call has left the context */
void contexts_call_closed(cal_contexts *contexts); /* a call was answered */
int context_record_copy(const cal_context_record *from, cal_context_record *ret_record);
void context_record_deinit(cal_context_record *record);

/* call.c */
void call_run(cal_task *task); /* worker */
void call_fail(struct call *call, cal_call_status status, int error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
int call_prepare_guest(struct call *call,
                       cal_vm_call *ret_call); /* overlay and tables; shared with creation */
void call_take_failure(struct call *call); /* status and message from the outcome, when it failed or
                                              returned an error */

/* commit.c */
int commit_build(struct call *call, bool genesis); /* fills call->batch, head and root. CAL_E* */

/* finish.c */
void call_post_finish(struct call *call);  /* any thread */
void call_durable(void *user, int result); /* the store's done callback */
void call_reply(struct call *call);        /* loop: statistics, then the caller's callback */
void call_close(struct call *call);        /* loop: frees it; a drain may end here */

/* create.c */
void create_run(cal_task *task);

#endif
