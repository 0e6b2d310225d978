/* Contexts: calling their applications and keeping what the calls change.
 *
 * A context's writers run one at a time, in the order they came; its views run in parallel on
 * snapshots and wait for nobody; contexts are independent of each other. A call is one store
 * transaction: state, private state, index, delta, heads and root together, or nothing. Its answer
 * comes after that transaction is durable. Protocol: runtime-abi.md 5, 6, 11, 12, 20-22;
 * network-sync.md 6.
 *
 * Threads: all functions on the loop thread; guests run on workers. */
#ifndef CAL_CONTEXT_H
#define CAL_CONTEXT_H

#include "app/app.h"
#include "base/task.h"
#include "calimero/context.h"
#include "context/record.h"
#include "crdt/crdt.h"
#include "store/removal.h"
#include "store/store.h"
#include "vm/vm.h"

typedef struct cal_contexts cal_contexts;

enum { CAL_APPLY_MESSAGE_MAX = 256 };

/* Who executes in a group, on this node. */
typedef struct cal_executor {
    cal_account_id account;
    cal_public_key device; /* the node's signing key: what the guest sees as device id, and the
                              author of deltas */
    bool read_only;        /* a read-only member: a call that changes the state is refused */
} cal_executor;

/* What the contexts need to know of governance; filled in by the node. Loop thread, except `sign`
 * and `version`. */
typedef struct cal_context_authority {
    void *user;
    /* Moves on whenever another answer of those below could change. Any thread. */
    uint64_t (*version)(void *user);
    /* CAL_ENOTFOUND: the group is not known; CAL_EDENIED: this node is no member. */
    int (*executor)(void *user, const cal_group_id *group, cal_executor *ret_executor);
    /* The code that the group runs now. */
    int (*code)(void *user, const cal_group_id *group, cal_blob_id *ret_code);
    /* Heads of the namespace's governance DAG, 32 bytes each, appended: the position a delta is
     * authored at. CAL_ELIMIT above 32. */
    int (*position)(void *user, const cal_context_id *context, cal_buffer *ret_heads);
    /* Ed25519 by the node's signing key. Any thread. */
    void (*sign)(void *user, cal_slice message, uint8_t ret_signature[64]);
    /* The key that seals the context's deltas now, and its id. CAL_ESTATE: this node has none. */
    int (*seal_key)(void *user, const cal_context_id *context, cal_secret *ret_key,
                    cal_hash *ret_key_id);
} cal_context_authority;

/* A delta that this node made, once it is durable. */
typedef struct cal_authored_delta {
    cal_context_id context;
    cal_hash id;
    /* As it is published: borsh BroadcastMessage::StateDelta, sealed. Empty while nobody listens
     * (cal_contexts_listen). Valid during the call. */
    cal_slice message;
} cal_authored_delta;

typedef struct cal_contexts_options {
    const cal_os *os;
    cal_store *store;
    cal_vm *vm;
    const cal_runner *runner;
    const cal_app_blobs *code; /* where bundles and modules are read from */
    const cal_vm_blobs *blobs; /* what guests may do with blobs; NULL: nothing */
    cal_context_authority authority;
    void (*event)(void *user, const cal_event *event); /* after it is durable */
    void *event_user;
    /* Loop, in the order of turns, after the caller's answer. NULL: nobody publishes. */
    void (*authored)(void *user, const cal_authored_delta *delta);
    void *authored_user;
    uint32_t deadline_ms; /* of a client's call */
    uint64_t memory_max;  /* of a guest, bytes */
    bool read_only;
} cal_contexts_options;

int cal_contexts_new(const cal_contexts_options *options, cal_contexts **ret_contexts);
/* Refuses new calls; `idle` once nothing runs or waits any more, on the loop thread (perhaps at
 * once). */
void cal_contexts_drain(cal_contexts *contexts, void (*idle)(void *user), void *user);
void cal_contexts_free(cal_contexts *contexts); /* after drain; NULL allowed */

/* A client's call. Always answers through `done`, on the loop thread, perhaps at once. Copies its
 * arguments. */
void cal_contexts_execute(cal_contexts *contexts, const cal_context_id *id, const char *method,
                          cal_slice args, cal_call_done done, void *user);

/* Runs `init` of a new context. On success `done` gets a batch with its state, genesis delta and
 * record, for the node to commit together with the operation that registers it; err is NULL then.
 * The context exists for this module once the batch is durable. */
typedef struct cal_context_genesis {
    cal_context_id id;
    cal_group_id group;
    cal_application_id application;
    cal_blob_id code;
    const char *service; /* NULL: none */
    cal_hash delta;      /* the genesis delta, of a context that was made here */
} cal_context_genesis;
typedef void (*cal_context_genesis_done)(void *user, const cal_error *err,
                                         const cal_context_genesis *genesis, cal_batch *batch);
void cal_contexts_create(cal_contexts *contexts, const cal_context_create_options *options,
                         cal_context_genesis_done done, void *user);
/* Loop: the batch that `done` got is durable. Tells options.authored of the genesis delta, which is
 * served, and never broadcast. */
void cal_contexts_created(cal_contexts *contexts, const cal_context_genesis *genesis);

/* A delta of another node, decoded, and judged by whoever received it: its author may write at the
 * position it cites, its envelope and its content address verify (network-sync.md 6.6). */
typedef struct cal_received_delta {
    cal_delta_record record;
    const crdt_entity_writers *writers; /* that hold at its parents; sorted by entity */
    uint32_t writer_count;
    const cal_account_id *signer; /* the account that its author speaks for; NULL: none */
} cal_received_delta;

typedef struct cal_apply_outcome {
    int error;   /* 0: applied, and durable. CAL_EGUEST: the application refused it; CAL_ELIMIT: its
                    time is more than 5 s ahead; CAL_EDECODE: not a list of actions; CAL_EINVAL: no
                    parents, or no author and the context has its genesis; CAL_ESTATE: the context
                    has no state, and this is no genesis; CAL_ECANCELED: one that it descends from was
                    not applied, or an earlier   turn could not be stored; and what the node or the
                    store says */
    bool before; /* it had been applied before: nothing was done */
    cal_hash root;                       /* after it, when it was applied now */
    char message[CAL_APPLY_MESSAGE_MAX]; /* why not; "" */
} cal_apply_outcome;

/* One for each delta, in their order; they live until it returns. count 0: there was no memory. */
typedef void (*cal_apply_done)(void *user, const cal_apply_outcome *outcomes, size_t count);
/* Takes a turn of the context in which the deltas are applied one after the other, each alone: one
 * that fails leaves no trace and takes only its descendants with it. All that are applied become
 * durable in one transaction. The deltas stand in causal order, their parents are applied or among
 * them, and all of it stays where it is until `done`. A context that was adopted and has no state
 * yet takes the genesis delta (no author, one parent of zeros), and there is only one of those
 * (governance.md 18.2, G10). After `done`, the handlers that the events of applied deltas name run
 * as calls of this node, but for deltas that it authored itself (runtime-abi.md 21). At most
 * CAL_APPLY_DELTAS_MAX of them; those that together have more than CAL_APPLY_BYTES_MAX of artifacts
 * go alone. */
void cal_contexts_apply(cal_contexts *contexts, const cal_context_id *id,
                        const cal_received_delta *deltas, size_t count, cal_apply_done done,
                        void *user);

/* A state that was received whole, and judged by whoever received it: its rows make the root. */
typedef struct cal_context_state {
    void *user;
    /* The next row: a key of 32 bytes and a value, valid until the next call. CAL_ENOTFOUND at the
     * end; another CAL_E* ends the installation with it. On workers, one after the other. */
    int (*next)(void *user, cal_slice *ret_key, cal_slice *ret_value);
    cal_hash root;
    const cal_hash *heads;
    size_t head_count;
    uint64_t latest; /* time of its newest delta (hlc); 0: not known */
} cal_context_state;
/* 0 once all of it is durable. Otherwise the context is as it was, or not initialised any more:
 * then it has neither root nor heads, and takes nothing but another installation. A stop
 * (CAL_ECANCELED) and a removal (CAL_ENOTFOUND) end it after its present step. */
typedef void (*cal_install_done)(void *user, int error);
/* Takes a turn that replaces the context's state by this one; its index is dropped. What the state
 * points to stays where it is until `done`. */
void cal_contexts_install(cal_contexts *contexts, const cal_context_id *id,
                          const cal_context_state *state, cal_install_done done, void *user);

/* Takes a turn in which the heads of a peer become heads here: its state has the root that the
 * context has, so what they stand for is in it. Of our own heads those go that are known to lie
 * below the peer's. root, heads and `below` stay where they are until `done`: 0 once it is durable;
 * CAL_EBUSY: the root is another one by now, and nothing was changed. */
void cal_contexts_rejoin(cal_contexts *contexts, const cal_context_id *id,
                         const cal_context_state *state, const cal_hash *below, size_t below_count,
                         cal_install_done done, void *user);

/* A leaf or a tombstone of another replica's tree, judged by whoever received it: its author, or
 * who brought it, may write. */
typedef struct cal_merge_item {
    bool is_deletion;
    crdt_leaf leaf;
    crdt_id id; /* of a deletion, and what follows */
    uint64_t deleted_at;
    crdt_metadata metadata;
    bool has_signer;
    cal_account_id signer; /* the account that its signer speaks for */
    bool has_app_key;      /* of a leaf: deferred when the context runs something else */
    cal_blob_id app_key;
} cal_merge_item;
typedef struct cal_merge_outcome {
    crdt_leaf_result result;
} cal_merge_outcome;
/* One for each item, durable; or an error and none: nothing was changed. CAL_ESTATE: the context
 * has no state to merge into; and what the node or the store says. */
typedef void (*cal_merge_done)(void *user, int error, const cal_merge_outcome *outcomes,
                               size_t count);
/* Takes a turn in which they are applied in their order, by the node itself; the root changes and
 * the heads do not. The items stay where they are until `done`. At most CAL_MERGE_ITEMS_MAX, with
 * CAL_MERGE_BYTES_MAX of values. */
void cal_contexts_merge(cal_contexts *contexts, const cal_context_id *id,
                        const cal_merge_item *items, size_t count, cal_merge_done done, void *user);

/* Whether anybody hears what the context publishes: if not, nothing is sealed. For contexts in
 * memory and those loaded later; NULL-safe for unknown ones. */
void cal_contexts_listen(cal_contexts *contexts, const cal_context_id *id, bool heard);

/* A context that others made: adds its record, not initialised, to a batch of the caller's, once.
 * It takes an installation, or, while it has no state, the genesis delta and those after it.
 * CAL_EEXISTS: it is here already. CAL_EBUSY: its removal is not over yet. Loop. */
int cal_contexts_adopt(cal_contexts *contexts, const cal_context_genesis *context,
                       uint64_t created_at_ms, cal_batch *batch);

/* The context's state, which came whole, is known to have these deltas, though they did not come
 * and are not on their way: rows like those of its heads stand for them from now on, if the store
 * takes them. */
void cal_contexts_cover(cal_contexts *contexts, const cal_context_id *id, const cal_hash *deltas,
                        size_t count);

/* A stored delta's row (cal_delta_record_decode). CAL_ENOTFOUND. Any thread. */
int cal_context_delta_read(cal_store *store, const cal_context_id *id, const cal_hash *delta,
                           cal_buffer *ret_row);
/* Of a context whose state came whole: a row (cal_delta_record_decode) whose parents are the heads
 * that it came with; `root` is its root, and no delta below it has a later time. CAL_ENOTFOUND. */
int cal_context_boundary(cal_store *store, const cal_context_id *id, cal_buffer *ret_row);
void cal_context_boundary_id(const cal_context_id *id, cal_hash *ret_id); /* of that row */
/* Whether its actions touch Shared entities: 1, 0, CAL_EDECODE, CAL_ENOMEM. Pure. */
int cal_context_needs_writers(const cal_delta_record *delta, cal_arena *arena);
/* The writer sets that hold at a delta's parents for the Shared entities that its actions touch
 * (runtime-abi.md 13): from the context's rotation logs, where a change counts when it was made by
 * a parent or an ancestor of one. Its parents must be applied and durable: so a delta that needs
 * writers goes after the turn of its parents, not along with them. In the arena, sorted. On a
 * worker. CAL_EDECODE, CAL_ELIMIT (the logs are too long), and what the store says. */
int cal_context_writers(cal_store *store, const cal_context_id *id, const cal_delta_record *delta,
                        cal_arena *arena, const crdt_entity_writers **ret_writers,
                        uint32_t *ret_count);

/* The record as it stands. CAL_ENOTFOUND. Strings live in the arena. */
int cal_contexts_get(cal_contexts *contexts, const cal_context_id *id, cal_arena *arena,
                     cal_context_record *ret_record);
/* Walks the records in id order; visit returns 0 to go on. The record is valid during the visit. */
int cal_contexts_each(cal_contexts *contexts,
                      int (*visit)(void *user, const cal_context_id *id,
                                   const cal_context_record *record),
                      void *user);
/* Removal in two steps. `ready` comes when no writer runs, with a batch that removes all rows, for
 * the node to commit together with the operation that detaches the context; err says why not
 * (CAL_ENOTFOUND; CAL_EBUSY: it is being removed already). Then the node says how that ended. */
typedef void (*cal_context_delete_ready)(void *user, const cal_error *err, cal_batch *batch);
void cal_contexts_delete(cal_contexts *contexts, const cal_context_id *id,
                         cal_context_delete_ready ready, void *user);
void cal_contexts_delete_end(cal_contexts *contexts, const cal_context_id *id, bool deleted);

/* The rows of deleted contexts go in steps, but for the record: remove adds to the batch that it
 * goes and that the rest shall. Any thread. */
extern const cal_removal cal_context_removal;
int cal_context_remove(cal_batch *batch, const cal_context_id *id);

/* Compiles a module and keeps the artefact, so that the first call need not. On a worker. */
int cal_contexts_prepare_code(cal_contexts *contexts, const cal_blob_id *code, const char *service,
                              cal_error *err);

/* Adds the removal of a code's compiled modules to the batch; any thread. And removes those that
 * another engine made: on a worker. */
void cal_contexts_forget_code(cal_contexts *contexts, const cal_blob_id *code, cal_batch *batch);
int cal_contexts_sweep(cal_contexts *contexts, cal_error *err);

typedef struct cal_contexts_stats {
    uint64_t calls, failed, waiting, refused, call_ns, gas, modules_loaded, modules_compiled;
    uint64_t applied, apply_failed;                       /* received deltas */
    uint64_t compacted;                                   /* deltas of which no actions are left */
    uint64_t handlers, handlers_failed, handlers_dropped; /* of their events */
} cal_contexts_stats;
void cal_contexts_stats_get(cal_contexts *contexts, cal_contexts_stats *ret_stats);

#endif
