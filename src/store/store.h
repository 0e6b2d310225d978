/* The node's durable state: columns of sorted byte keys, atomic batches, snapshots. Encrypted and
 * authenticated on disk.
 *
 * Behind it stands one engine table (src/store/engine.h), whose embedded default is SQLite in
 * SQLCipher; nothing outside this folder knows which engine it is.
 *
 * Promises:
 *  - a batch is applied whole or not at all; with CAL_DURABLE_FULL a batch whose done callback got
 * 0 survives power loss, and one whose callback got anything else is not there after it, unless the
 * disk failed the flush and then the attempt to take the batch back, too;
 *  - one writer thread commits everything that became ready while the last flush ran as one
 * transaction (group commit); if such a transaction fails as a whole (disk full), each of its
 * batches is tried alone, so one batch never fails another for a reason of its own, unless they
 * are of one lane;
 *  - batches become visible and durable in the order in which they were submitted;
 *  - a snapshot sees all batches acknowledged before it was taken and none after; snapshots never
 * block the writer;
 *  - damage is an error of the operation that met it (CAL_ECORRUPT) and shows in cal_store_health.
 * Any thread, unless said otherwise.
 *
 * A stepped store (cal_store_options.stepped) makes no thread: the simulated world, where one
 * thread runs everything and a seed repeats its run, does the writer's work by cal_store_step. All
 * its calls come from one thread, and every promise above holds. */
#ifndef CAL_STORE_H
#define CAL_STORE_H

#include "base/buffer.h"
#include "base/bytes.h"
#include "calimero/error.h"
#include "crypto/crypto.h"
#include "os/os.h"

#include <pthread.h>

/* X(NAME, table): what a column holds and how its keys begin is written where it is used. */
#define CAL_COLUMNS(X)                                                                             \
    X(NODE, "node")               /* the node's own rows: identity, secrets, sessions, settings */ \
    X(APPLICATION, "application") /* application id -> record */                                   \
    X(ALIAS, "alias")             /* kind byte || name -> id */                                    \
    X(BLOB, "blob")               /* blob id -> record */                                          \
    X(BLOB_CHUNK, "blob_chunk")   /* chunk id -> bytes */                                          \
    X(MODULE,                                                                                      \
      "module") /* compiled modules: engine fingerprint || blob id || service -> artefact */       \
    X(CONTEXT, "context")             /* context id -> record */                                   \
    X(STATE, "state")                 /* context id || 32-byte key */                              \
    X(PRIVATE_STATE, "private_state") /* context id || 32-byte key */                              \
    X(INDEX, "sorted_index")          /* context id || key */                                      \
    X(INDEX_META, "sorted_index_meta")                                                             \
    X(DELTA, "delta")           /* context id || delta id -> record */                             \
    X(GOVERNANCE, "governance") /* namespace id || op id -> signed op and its local record */      \
    X(GROUP, "group_row")       /* namespace and group rows, keyring */

typedef enum cal_column {
#define CAL_COLUMN_ENUM(name, table) CAL_COLUMN_##name,
    CAL_COLUMNS(CAL_COLUMN_ENUM)
#undef CAL_COLUMN_ENUM
        CAL_COLUMN_COUNT
} cal_column;

enum { CAL_STORE_KEY_MAX = 2 * 1024 * 1024, CAL_STORE_VALUE_MAX = 64 * 1024 * 1024 };

typedef enum cal_durability {
    CAL_DURABLE_FULL,    /* an acknowledged batch survives power loss */
    CAL_DURABLE_PROCESS, /* an acknowledged batch survives the death of the process */
} cal_durability;

typedef struct cal_store cal_store;
typedef struct cal_batch cal_batch;
typedef struct cal_snapshot cal_snapshot;
typedef struct cal_cursor cal_cursor;

/* --- the master key --- (store/key.h: where it comes from, how it wraps the database key) */
struct cal_key_source;

typedef struct cal_store_options {
    const cal_os *os;   /* NULL: posix */
    const char *folder; /* exists; holds the database, the wrapped key and the lock */
    cal_durability durability;
    uint32_t readers_max; /* idle read connections kept, more are opened when needed; 0: 4 */
    uint32_t cache_kib;   /* page cache of each connection; 0: 2048 */
    const struct cal_key_source *key;
    bool stepped; /* no threads: nothing is committed but by cal_store_step and by who waits */
    /* Stepped: called from submit when the queue was empty, to have cal_store_step called soon.
     * What it asks for may come late and may find nothing to do. NULL: the caller sees to it. */
    void (*due)(void *due_user);
    void *due_user;
} cal_store_options;

/* Makes a new store in an empty folder: a random database key, wrapped by the master key.
 * CAL_EEXISTS. */
int cal_store_create(const cal_store_options *options, cal_error *err);
/* Opens and migrates forward. CAL_EKEY wrong key, CAL_ECORRUPT damage, CAL_EBUSY a second process,
 * CAL_EVERSION written by a newer version, CAL_ENOTFOUND nothing there. Never half open. */
int cal_store_open(const cal_store_options *options, cal_store **ret_store, cal_error *err);
void cal_store_close(
    cal_store *store); /* waits for submitted batches; no snapshot may be left; NULL allowed */
/* Stepped: commits the next group, calls its done callbacks in order, then makes the checkpoint
 * when one is due. Returns whether more is queued. Not from a done callback. */
bool cal_store_step(cal_store *store);

/* --- writing --- */
cal_batch *cal_batch_new(void); /* NULL when out of memory */
void cal_batch_free(cal_batch *batch);
/* Operations apply in the order they were added. Keys and values are copied. A failure (CAL_ELIMIT,
 * CAL_ENOMEM) sticks to the batch and is what submitting it answers, so callers need not check each
 * one. */
int cal_batch_put(cal_batch *batch, cal_column column, cal_slice key, cal_slice value);
int cal_batch_delete(cal_batch *batch, cal_column column, cal_slice key);
int cal_batch_delete_prefix(cal_batch *batch, cal_column column,
                            cal_slice prefix); /* prefix.len > 0 */
/* At most max_rows rows (> 0) of those, the smallest keys first, so that emptying a large prefix is
 * many short transactions and other writers come in between: repeat until a snapshot shows none. */
int cal_batch_delete_some(cal_batch *batch, cal_column column, cal_slice prefix, uint32_t max_rows);
size_t cal_batch_count(const cal_batch *batch);
/* Appends the operations of `other` and empties it. */
int cal_batch_merge(cal_batch *batch, cal_batch *other);

/* `result` is 0 or a CAL_E*. Runs on the writer thread (stepped: within a step or a wait): be
 * brief, do not call back into the store except to submit. */
typedef void (*cal_store_done)(void *user, int result);
/* Takes the batch. done (may be NULL) is called exactly once, after the batch is durable or has
 * failed. */
void cal_store_submit(cal_store *store, cal_batch *batch, cal_store_done done, void *user);
/* Blocking form; not in a done callback. Takes the batch. */
int cal_store_commit(cal_store *store, cal_batch *batch, cal_error *err);

/* A lane: batches that build on one another, for an owner who goes on before the last one is
 * durable. When a batch of a lane fails, in whatever way, every later one of the lane is answered
 * CAL_ECANCELED in its turn without being applied, also those submitted afterwards, until the owner
 * mends it. Other lanes and batches without one are not concerned. Zeroed is a whole lane; it must
 * outlive its answers. The fields are the store's. */
typedef struct cal_store_lane {
    uint32_t waiting; /* batches without an answer yet */
    bool broken;
} cal_store_lane;
/* As cal_store_submit, in a lane; NULL: in none. */
void cal_store_submit_on(cal_store *store, cal_store_lane *lane, cal_batch *batch,
                         cal_store_done done, void *user);
/* Makes a broken lane whole, once every batch submitted to it is answered (the last one's done
 * callback may do it). */
void cal_store_lane_mend(cal_store *store, cal_store_lane *lane);

/* How everything above waits for what done callbacks bring about; cal_store_commit waits so, too.
 * `mutex` is held and guards what `reached` reads; the callbacks lock it and signal `changed`. A
 * stepped store commits and answers, one batch after the other, until `reached`: to wait there for
 * what no queued batch brings about is a mistake and asserts. Not in a done callback. */
void cal_store_wait(cal_store *store, pthread_mutex_t *mutex, pthread_cond_t *changed,
                    bool (*reached)(const void *user), const void *user);

/* --- reading --- A snapshot, its cursors and what they return belong to one thread at a time. */
/* Never waits for another snapshot to end: CAL_EOVERLOAD when far too many are open. CAL_ENOMEM,
 * CAL_EIO, CAL_ECORRUPT. */
int cal_store_snapshot(cal_store *store, cal_snapshot **ret_snapshot);
void cal_snapshot_free(
    cal_snapshot *snapshot); /* NULL allowed; frees no cursors: free those first */
/* Pages that it keeps in memory, for who reads much in no order; 0: as before. */
void cal_snapshot_cache(cal_snapshot *snapshot, uint32_t kib);
/* Appends the value. CAL_ENOTFOUND, CAL_ECORRUPT, CAL_EIO, CAL_ELIMIT, CAL_ENOMEM. ret_value NULL:
 * only asks. */
int cal_snapshot_get(cal_snapshot *snapshot, cal_column column, cal_slice key,
                     cal_buffer *ret_value);
/* A walk over lo <= key < hi in byte order, or backwards; hi.len 0 means no upper bound. */
int cal_cursor_open(cal_snapshot *snapshot, cal_column column, cal_slice lo, cal_slice hi,
                    bool descending, cal_cursor **ret_cursor);
/* The next pair, valid until the next call on the cursor. CAL_ENOTFOUND at the end. ret_value may
 * be NULL. */
int cal_cursor_next(cal_cursor *cursor, cal_slice *ret_key, cal_slice *ret_value);
void cal_cursor_free(cal_cursor *cursor); /* NULL allowed */
/* The smallest key greater than every key that starts with prefix; empty when there is none. */
void cal_prefix_end(cal_slice prefix, cal_buffer *ret_end);
/* One value through a snapshot of its own. */
int cal_store_get(cal_store *store, cal_column column, cal_slice key, cal_buffer *ret_value);

/* --- care --- */
typedef struct cal_store_stats {
    uint64_t batches, transactions, flush_ns_total; /* since open */
    uint64_t bytes;                                 /* database and log on disk */
    uint64_t damaged, failed; /* operations that met damage; batches that failed */
    int last_error;           /* of the last batch that was tried: 0 or why it failed */
} cal_store_stats;
void cal_store_stats_get(cal_store *store, cal_store_stats *ret_stats);
/* 0, or the CAL_E* that keeps the store from doing its work now (CAL_EFULL until a batch succeeds,
 * CAL_ECORRUPT for good). */
int cal_store_health(cal_store *store);

/* Sum of key and value bytes under a prefix. Reads every page that a row of it begins on, some 10
 * us each: for a worker when there may be many. */
int cal_snapshot_size(cal_snapshot *snapshot, cal_column column, cal_slice prefix,
                      uint64_t *ret_bytes);

typedef void (*cal_progress)(void *user, uint64_t done, uint64_t total);
/* Copies the running store into an empty or missing folder, openable with the same master key.
 * Blocking, from a worker; writers go on meanwhile. */
int cal_store_backup(cal_store *store, const char *folder, cal_progress progress, void *user,
                     cal_error *err);
/* Verifies every page of an open store. `report` gets one line for each finding. 0 when clean,
 * CAL_ECORRUPT otherwise. */
int cal_store_verify(cal_store *store, void (*report)(void *user, const char *finding), void *user,
                     cal_error *err);
/* Changes the master key of a closed store without rewriting the data. */
int cal_store_rekey(const cal_store_options *options, const struct cal_key_source *new_key,
                    cal_error *err);

#endif
