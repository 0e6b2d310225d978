/* A node: everything that makes this process an actor of the network, on one event loop of its own.
 *
 * Threads. cal_node_start starts the loop thread. Every function that takes a node may be called
 * from any thread. An operation that takes time has two forms: one that takes a callback, which
 * runs on the loop thread (be brief, do not block, never call a _wait form from it), and a _wait
 * form that blocks the caller. Visitors run on the loop thread before the function returns.
 * Pointers handed to a callback or visitor are valid until it returns. Strings are UTF-8.
 *
 * Errors. 0 or a CAL_E* of error.h. A callback gets `err`: NULL on success. */
#ifndef CALIMERO_NODE_H
#define CALIMERO_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "calimero/error.h"
#include "calimero/identity.h"
#include "calimero/network.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where the master key that opens the store comes from. */
typedef enum cal_node_key_kind {
    CAL_NODE_KEY_FILE,       /* text: path of a file with mode 0600 */
    CAL_NODE_KEY_PASSPHRASE, /* text: the passphrase */
    CAL_NODE_KEY_COMMAND,    /* text: a shell command whose output is the key or passphrase */
} cal_node_key_kind;

typedef struct cal_node_key {
    cal_node_key_kind kind;
    const char *text; /* NULL with CAL_NODE_KEY_FILE: <home>/master.key */
} cal_node_key;

typedef enum cal_node_durability {
    CAL_NODE_DURABLE_FULL,    /* an acknowledged write survives power loss (default) */
    CAL_NODE_DURABLE_PROCESS, /* an acknowledged write survives the death of the process */
} cal_node_durability;

/* The deltas of a context are kept for members who missed them; its state does not need them. Above
 * `above` of them the oldest are taken away until `keep` are left, as is looked at once an interval;
 * whoever needs one that is gone takes the state instead. 0: the default. */
typedef struct cal_compaction_options {
    bool off;            /* all are kept for ever */
    uint32_t above;      /* default 10,000 */
    uint32_t keep;       /* less than `above`; default 1,000 */
    uint32_t interval_s; /* default 3,600 */
} cal_compaction_options;

/* Zero-initialise, then set what differs; 0 and NULL mean the default. */
typedef struct cal_node_options {
    const char *home; /* folder of the node; required */
    cal_node_key key;
    cal_node_durability durability;
    uint32_t
        workers; /* threads that run applications; default: the number of processors, at least 2 */
    uint64_t max_gas;          /* per call; default 1,000,000,000 */
    uint32_t max_logs;         /* per call; default 1024 */
    uint32_t max_log_size;     /* bytes; default 16384 */
    uint32_t call_deadline_ms; /* wall clock of a client's call; default 10,000 */
    uint64_t guest_memory_max; /* bytes; default 64 MiB */
    cal_network_options network;
    cal_compaction_options compaction;
    bool
        read_only; /* calls change nothing; servers refuse the rest: cal_server_options.read_only */
} cal_node_options;

/* Makes the home of a new node: its store, its keys. CAL_EEXISTS when there is one already.
 * ret_peer_id, who it will be in the network, may be NULL. Blocking. */
int cal_node_init(const cal_node_options *options, cal_peer_id *ret_peer_id, cal_error *err);
/* Opens the home and starts the loop thread. CAL_ENOTFOUND (not initialised), CAL_EKEY,
 * CAL_ECORRUPT, CAL_EINVAL or CAL_EIO (an address it cannot listen on), CAL_EBUSY (in use by
 * another process), CAL_EVERSION. Blocking. */
int cal_node_start(const cal_node_options *options, cal_node **ret_node, cal_error *err);
/* Refuses new work, finishes what runs, closes the store. Not from a callback. NULL allowed. */
void cal_node_stop(cal_node *node);

const char *cal_version(void);         /* of this library, "0.1.0" */
const char *cal_runtime_version(void); /* release line of the network that it follows, compared with
                                          a bundle's minRuntimeVersion */

/* Who this node is. */
typedef struct cal_node_identity {
    cal_account_id account;
    cal_device_id device;
    cal_public_key public_key; /* signs every operation and delta of this node */
    cal_public_key account_root_key;
} cal_node_identity;
void cal_node_identity_get(cal_node *node, cal_node_identity *ret_identity);

/* 0 when healthy, or the CAL_E* that keeps the store from working now: CAL_EFULL, CAL_ECORRUPT,
 * CAL_EIO. */
int cal_node_health(cal_node *node);

/* Runs fn on the loop thread and waits for it; at once when already there. */
void cal_node_run(cal_node *node, void (*fn)(void *arg), void *arg);

/* --- namespaces and groups --- */

typedef struct cal_namespace_info {
    cal_group_id id;
    cal_application_id application;
    cal_blob_id app_key;     /* the exact code version: blob id of the bundle or module */
    uint64_t created_at_s;   /* Unix */
    const char *name;        /* NULL: none */
    const char *app_version; /* NULL: unknown */
    uint64_t members, contexts, subgroups;
} cal_namespace_info;

typedef struct cal_group_info {
    cal_group_id id, namespace_id;
    const char *name; /* NULL: none */
    bool open;        /* visibility: open or restricted */
} cal_group_info;

typedef void (*cal_group_done)(void *user, const cal_error *err, const cal_group_id *id);

/* `app_key` NULL: the application's installed version. `name` NULL: none. */
void cal_namespace_create(cal_node *node, const cal_application_id *application,
                          const cal_blob_id *app_key, const char *name, cal_group_done done,
                          void *user);
int cal_namespace_create_wait(cal_node *node, const cal_application_id *application,
                              const char *name, cal_group_id *ret_id, cal_error *err);
typedef void (*cal_simple_done)(void *user, const cal_error *err);
void cal_namespace_delete(cal_node *node, const cal_group_id *id, cal_simple_done done,
                          void *user); /* local purge */
void cal_group_create(cal_node *node, const cal_group_id *namespace_id, const char *name, bool open,
                      cal_group_done done, void *user);
/* CAL_ENOTFOUND. */
int cal_namespace_get(cal_node *node, const cal_group_id *id,
                      void (*visit)(void *user, const cal_namespace_info *info), void *user);
/* In ascending id order; `application` NULL: all. */
int cal_namespace_each(cal_node *node, const cal_application_id *application,
                       void (*visit)(void *user, const cal_namespace_info *info), void *user);
/* Direct children of a namespace. CAL_ENOTFOUND. */
int cal_group_each(cal_node *node, const cal_group_id *namespace_id,
                   void (*visit)(void *user, const cal_group_info *info), void *user);

/* An invitation in the JSON form of http-api.md 2 (SignedInvitation). `valid_s`: seconds from now,
 * 0: 365 days. With `recursive` one for the namespace and one for each group below it. `visit` is
 * called for each before `done`. */
typedef void (*cal_invitation_visitor)(void *user, const cal_group_id *group,
                                       const char *group_name, const char *invitation_json);
void cal_namespace_invite(cal_node *node, const cal_group_id *id, uint64_t valid_s, bool recursive,
                          cal_invitation_visitor visit, cal_simple_done done, void *user);

/* Bytes a namespace holds, for /usage. */
typedef struct cal_namespace_usage {
    cal_group_id id;
    uint64_t contexts, members, subgroups;
    uint64_t state, private_state, delta, governance; /* bytes */
} cal_namespace_usage;
typedef void (*cal_usage_visitor)(void *user, const cal_namespace_usage *usage);
/* `visit` for each namespace, then `done`. Reads every row it counts, on a worker: seconds for
 * gigabytes. CAL_ECANCELED: the node stops. */
void cal_namespace_usage_each(cal_node *node, cal_usage_visitor visit, cal_simple_done done,
                              void *user);

/* --- aliases: names that only this node knows --- */
typedef enum cal_alias_kind { CAL_ALIAS_CONTEXT, CAL_ALIAS_APPLICATION } cal_alias_kind;
/* name: 1 to 50 bytes of [A-Za-z0-9._-]. CAL_EEXISTS. */
void cal_alias_create(cal_node *node, cal_alias_kind kind, const char *name,
                      const uint8_t id[CAL_ID_SIZE], cal_simple_done done, void *user);
void cal_alias_delete(cal_node *node, cal_alias_kind kind, const char *name, cal_simple_done done,
                      void *user); /* idempotent */
int cal_alias_lookup(cal_node *node, cal_alias_kind kind, const char *name,
                     uint8_t ret_id[CAL_ID_SIZE]); /* CAL_ENOTFOUND */
int cal_alias_each(cal_node *node, cal_alias_kind kind,
                   void (*visit)(void *user, const char *name, const uint8_t id[CAL_ID_SIZE]),
                   void *user);

/* --- figures for /metrics --- */
enum { CAL_LOOP_TURN_MS = 5 };
typedef struct cal_node_stats {
    uint64_t calls, calls_failed, calls_waiting, calls_refused; /* refused: a queue was full */
    uint64_t call_ns_total, guest_gas_total;
    uint64_t deltas_compacted; /* whose content was taken away */
    uint64_t modules_loaded, modules_compiled;
    uint64_t store_batches, store_transactions, store_flush_ns_total, store_bytes, store_damaged,
        store_failed;
    uint64_t events;
    /* Turns of the loop, from having waited for something to waiting again. Late: one of more than
     * CAL_LOOP_TURN_MS, in which everybody waited; by itself: it used as much processor time, so
     * that a busy machine is no excuse. The longest ones since the start. */
    uint64_t loop_turns, loop_busy_ns_total, loop_late, loop_late_by_itself, loop_longest_ns,
        loop_longest_processor_ns;
} cal_node_stats;
void cal_node_stats_get(cal_node *node, cal_node_stats *ret_stats);

#ifdef __cplusplus
}
#endif
#endif
