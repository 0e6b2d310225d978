/* What the files of node/ share: the node itself, its threads, and the shapes that its operations
 * take.
 *
 *   world.h      what a node asks of the system; real.c: libuv, threads; sim/: a simulated one
 *   node.c       start and stop, in any world
 *   runner.c     how operations come to the loop, and how others wait for it
 *   groups.c  contexts.c  apps.c  blobs.c  alias.c  events.c    the public API, one header each
 *   usage.c  purge.c  removal.c   what takes long: sums, deleting a namespace, what deletions leave
 *   network.c  network_key.c   its host, its key there
 *   compact.c    what becomes of old deltas
 *   fetch.c  code.c  blob_share.c   blobs of others: finding who has them; code; serving, the rest
 *   share.c    what it shares with others: the module sync, and joining
 *   change.h   one change of governance for the API; members.c group_change.c metadata.c devices.c
 *   ownership.c invite.c take_part.c watch.c debts.c    members.h and share.h
 *   lend.c       the tables through which lower modules reach each other: blobs for guests and
 * bundles, governance for contexts care.c check.c    backup, rekey; the walk of a stopped node */
#ifndef CAL_NODE_INTERNAL_H
#define CAL_NODE_INTERNAL_H

#include <stdatomic.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "blob/blob.h"
#include "calimero/blob.h"
#include "context/context.h"
#include "gov/commit.h"
#include "gov/gov.h"
#include "net/messages.h"
#include "net/net.h"
#include "node/node.h"
#include "node/world.h"
#include "store/key.h"
#include "store/store.h"
#include "sync/blobs.h"
#include "sync/sync.h"
#include "vm/vm.h"

enum {
    NODE_PARTS_MAX = 4,
    NODE_WORKERS_MAX = 64,
    NODE_SLOW_WORKERS = 2,
    NODE_TICK_MS = CAL_SYNC_TICK_MS,
    NODE_HOUSEKEEPING_MS = 60000,
    NODE_PATH_MAX = 4096,
    NODE_ARENA_MAX = 256 * 1024 * 1024,
    NODE_TOPIC_MAX = 80,
    NODE_MEETING_MAX = 96,
    NODE_DISTRUSTED_MAX = 16, /* peers, remembered for having sent something wrong */
};
#define NODE_VERSION "0.1.0"

/* The node's part in the network; loop thread, but for what is atomic. */
typedef struct node_network {
    net_transport *transport;
    cal_p2p *host; /* NULL: the node stops */
    cal_peer_id id;
    net_messages_protocol blobs;
    cal_network_stats stats;
    atomic_uint_fast64_t peers_unsaved;
    void (*closed)(void *user);
    void *closed_user;
} node_network;

/* Blobs between peers; loop thread. */
typedef struct node_code {
    sync_blob_server *server; /* NULL: before the start, or it is gone */
    cal_map wanted;           /* code that contexts run and that is not here: blob id -> code.c */
    cal_task look_task;       /* at what is wanted */
    bool look_posted;
    cal_list gets;          /* blobs being fetched for somebody: blob_share.c */
    cal_list announced;     /* the oldest first */
    size_t announced_count; /* in it */
    cal_peer_id distrusted[NODE_DISTRUSTED_MAX];
    size_t distrusted_at;
    uint32_t busy; /* fetches and installations of code */
    bool stopping;
    uint64_t fetched; /* blobs, since the start */
    void (*closed)(void *user);
    void *closed_user;
} node_code;

/* debts.c; loop thread */
typedef struct node_debts {
    uint64_t version; /* of governance, and 1, when it was looked at last; 0: look again */
    uint64_t due_ms;  /* monotonic: when to pay; 0: nothing known */
    bool busy;        /* a payment is under way */
    size_t failed;    /* that could not be paid since all were tried last */
} node_debts;

struct cal_node {
    const node_world *world; /* its own */
    cal_node_options options;
    char *home;
    const cal_os *os; /* the world's */
    cal_store *store;
    cal_vm *vm;
    cal_gov *gov;
    gov_committer committer;
    struct cal_blobs *blobs;
    cal_contexts *contexts;
    cal_sync *sync;
    cal_app_blobs app_blobs;
    cal_vm_blobs vm_blobs;
    cal_runner runner;
    node_network network;
    node_code code;

    cal_task stop;
    cal_task collection;     /* of chunks that no blob lists any more */
    bool collecting;         /* on a slow worker */
    bool swept;              /* modules of other engines are gone; the collecting worker's */
    cal_task removal, sweep; /* of what deletions left: rows, memory */
    bool removing;           /* on a slow worker */
    bool removal_due;        /* and once more when it has ended */
    bool removal_failed;     /* as it ended last: housekeeping tries again */
    bool sweeping;

    atomic_bool stopping; /* set by the loop; slow work looks at it to give up early */

    /* loop thread only */
    uint32_t stops_pending; /* parts and modules that still have to finish */
    uint32_t operations;    /* begun by the public API and not yet answered */
    cal_node_part parts[NODE_PARTS_MAX];
    size_t part_count;
    cal_list subscriptions;
    cal_list claims;          /* applications that an operation under way uses or removes */
    cal_list purges;          /* namespaces being deleted */
    uint64_t deletions_ended; /* counts them, to wake each waiting purge once */
    cal_list new_rows;        /* rows on their way that must not have been there */
    node_debts debts;
    struct node_compaction *compaction; /* compact.c */
    cal_list watches;                   /* of groups' members */
    uint64_t watched_version;
    bool telling;    /* watches are being told: removals are put off */
    cal_map left;    /* contexts that this node takes no part in */
    bool delivering; /* events are being handed out: removals are put off */
    uint64_t events;
    uint32_t ticks; /* since the last housekeeping */
};

/* node.c. The production node, in any world; `world` is the node's from now on, also when it fails.
 * As cal_node_start. */
int node_start_in(const node_world *world, const cal_node_options *options, cal_node **ret_node,
                  cal_error *err);
/* As cal_node_init; of the world, os and what the store needs. */
int node_init_in(const node_world *world, const cal_node_options *options, cal_peer_id *ret_peer_id,
                 cal_error *err);

/* runner.c */
void node_post(cal_node *node, cal_task *task); /* to the loop; any thread */
void node_slow(cal_node *node,
               cal_task *task); /* to a thread that may block for long; any thread */
void node_install(cal_node *node,
                  cal_task *task); /* the same, for downloads and installs: any thread */
void node_enter(cal_node *node,
                cal_task *task); /* on the loop: now when already there, posted otherwise */

/* An operation of the public API between its call and its answer; embedded first in the operation's
 * own struct. */
typedef struct node_operation {
    cal_task task;
    cal_node *node;
    void (*start)(struct node_operation *operation);
} node_operation;
/* Counts it and runs `start` on the loop thread. While the node stops, what `start` needs refuses
 * it. */
void node_begin(cal_node *node, node_operation *operation,
                void (*start)(node_operation *operation));
void node_end(cal_node *node); /* loop thread: an operation was answered */

/* Waiting for an asynchronous operation from another thread. */
int node_no_waiting(
    cal_error *err); /* fails with CAL_ESTATE: on the loop thread that would wait for ever */
void node_waiter_init(node_waiter *waiter, cal_node *node);
void node_waiter_finish(node_waiter *waiter);
void node_waiter_wait(node_waiter *waiter);

/* apps.c: an application that an operation under way relies on, or removes; committed rows do not
 * show either yet. Loop thread. */
typedef struct node_claim {
    cal_list link;
    cal_application_id application;
    bool removal;
} node_claim;
/* CAL_ESTATE: the application is being removed (or, for a removal, being used). Unclaim also what
 * was refused or never claimed. */
int node_claim_application(cal_node *node, node_claim *claim, const cal_application_id *application,
                           bool removal, cal_error *err);
void node_unclaim(node_claim *claim);

/* purge.c: whether the namespace is being deleted; that a context's own deletion has ended; the
 * store may take more again; the node stops. Loop thread. */
bool node_namespace_closing(const cal_node *node, const cal_group_id *namespace_id);
void node_deletion_ended(cal_node *node);
void node_purges_retry(cal_node *node);
void node_purges_stop(cal_node *node);

/* removal.c: takes away what deletions left, rows and memory, in the background. Loop thread. */
void node_remove(cal_node *node);
void node_sweep(cal_node *node);
/* Completes the deletions of namespaces that were decided; before anything else is read. */
int node_removals_recover(cal_store *store, cal_error *err);

/* One governance change, with rows of others in the same transaction; `owner` is the node. Loop
 * thread. */
static inline cal_node *node_of(const gov_commit *commit) { return commit->owner; }
static inline void node_commit(gov_commit *commit) {
    commit->committer = &node_of(commit)->committer;
    gov_commit_run(commit);
}

/* network.c */
int node_network_open(cal_node *node, cal_error *err); /* before the loop runs */
/* Says goodbye to the peers, then calls done. */
void node_network_close(cal_node *node, void (*done)(void *user), void *user);
/* Instead, when the loop never ran, or when the power went and nobody hears a goodbye. */
void node_network_free(cal_node *node);
/* A namespace or context is here, or no longer. */
void node_hear_namespace(cal_node *node, const cal_group_id *id, bool hears);
void node_hear_context(cal_node *node, const cal_context_id *id, bool hears);

void node_namespace_topic(const cal_group_id *id, char ret_topic[NODE_TOPIC_MAX]);
void node_context_topic(const cal_context_id *id, char ret_topic[NODE_TOPIC_MAX]);

/* fetch.c: one blob of a context, from whoever has it */
typedef struct node_fetch node_fetch;
typedef struct node_fetch_wanted {
    cal_blob_id blob;
    cal_context_id context;
    uint64_t size_max; /* bytes */
    /* May be NULL. size 0: not known. May start again from 0, with another peer. */
    void (*progress)(void *user, uint64_t received, uint64_t size);
    /* Once, never inside a call, as sync_blob_wanted.done. */
    void (*done)(void *user, int result, const cal_blobs_info *info, const cal_error *err);
    void *user;
} node_fetch_wanted;
/* CAL_ECANCELED the node stops; CAL_ENOMEM. */
int node_fetch_start(cal_node *node, const node_fetch_wanted *wanted, node_fetch **ret_fetch);
void node_fetch_cancel(node_fetch *fetch); /* `done` follows, with CAL_ECANCELED; not after it */

/* code.c: the code of contexts, wanted until it is installed */
void node_code_want(cal_node *node, const cal_context_id *context,
                    const cal_application_id *application, const cal_blob_id *code);
/* Whether this version of the application is installed. */
bool node_code_here(cal_node *node, const cal_application_id *application, const cal_blob_id *code);
void node_code_installed(cal_node *node, const cal_blob_id *code); /* by somebody else */
void node_code_heard(cal_node *node, const char *topic);           /* by a peer, from now on */
void node_code_tick(cal_node *node);
void node_code_cancel(cal_node *node);
void node_code_free(cal_node *node);

/* blob_share.c: serving blobs, announcing them, fetching them for whoever asks */
int node_blobs_open(cal_node *node); /* the host is there */
/* Asks nobody any more, and answers nobody; also twice. While the host is there still. */
void node_blobs_quit(cal_node *node);
void node_blobs_close(cal_node *node, void (*done)(void *user), void *user);
void node_blobs_closed(cal_node *node); /* perhaps: something of it has ended */
void node_blobs_free(cal_node *node);
void node_blob_key(const cal_context_id *context, const cal_blob_id *blob,
                   uint8_t ret_key[CAL_P2P_KEY_SIZE]);
/* CAL_EDENIED this node is no member of the context, and what cal_p2p_provide says. */
int node_blob_announce(cal_node *node, const cal_blob_id *blob, uint64_t size,
                       const cal_context_id *context);
void node_blob_withdraw(cal_node *node, const cal_blob_id *blob); /* it is gone from here */

/* network_key.c: the one of the options, which is then kept, or the one of the store, made when
 * there is none. CAL_EINVAL, CAL_ECORRUPT and what the store says. */
int node_network_key(cal_store *store, const cal_os *os, const cal_network_options *options,
                     cal_secret *ret_seed, cal_error *err);

/* share.c: what the node lends to sync, and passes on to it */
int node_share_start(cal_node *node); /* the host is there; before gossip */
void node_share_heard(void *user, const cal_p2p_message *message);
void node_share_subscribed(void *user, const char *topic, const cal_peer_id *peer, bool hears);
void node_share_authored(void *user, const cal_authored_delta *delta);

/* compact.c: keeps the tables of deltas within bounds. open: before the loop runs. */
int node_compact_open(cal_node *node, cal_error *err);
void node_compact_tick(cal_node *node);
void node_compact_close(cal_node *node); /* after the loop */

/* debts.c: pays what an admin owes, after a while */
void node_debts_tick(cal_node *node);

/* watch.c */
void node_watch_tick(cal_node *node);
void node_watch_close(cal_node *node);

/* take_part.c: contexts that this node takes no part in though it may */
int node_left_open(cal_node *node); /* before sync opens */
void node_left_close(cal_node *node);
bool node_context_left(void *node, const cal_context_id *id);

/* lend.c */
void node_lend(cal_node *node); /* fills app_blobs, vm_blobs */
cal_context_authority node_authority(cal_node *node);

/* blobs.c */
cal_blob_info node_blob_info(const cal_blobs_info *record);
void node_collect(cal_node *node); /* loop thread: starts a collection unless one runs */

/* apps.c: the installed version that has this code, in the arena; NULL: unknown. Loop thread. */
const char *node_code_version(cal_node *node, const cal_application_id *application,
                              const cal_blob_id *code, cal_arena *arena);

/* apps.c: compiled now, so that a module that cannot run is refused and the first call is quick. On
 * a worker. */
int node_compile(cal_node *node, const cal_application *application, cal_error *err);

/* events.c */
void node_event(void *user, const cal_event *event);
void node_events_close(cal_node *node);

/* node.c: opening the store alone, for maintenance; of the world, os and what the store needs */
int node_open_store(const node_world *world, const cal_node_options *options, cal_store **ret_store,
                    cal_error *err);
int node_store_options(const node_world *world, const cal_node_options *options,
                       char folder[NODE_PATH_MAX], char key_path[NODE_PATH_MAX],
                       cal_key_source *ret_key, cal_store_options *ret_options, cal_error *err);

/* check.c */
int node_check_store(cal_store *store, const cal_os *os,
                     void (*report)(void *user, const char *finding), void *user,
                     cal_check_summary *ret_summary, cal_error *err);

#endif
