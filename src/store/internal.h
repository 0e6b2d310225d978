/* What the files of the store share; nobody outside src/store includes it. */
#ifndef CAL_STORE_INTERNAL_H
#define CAL_STORE_INTERNAL_H

#include "base/list.h"
#include "store/engine.h"
#include "store/key.h"

#include <pthread.h>
#include <stdatomic.h>

#define STORE_DATABASE "store.db"
#define STORE_DATABASE_NEW "store.db.new" /* while a store or a copy is being made */
#define STORE_KEY "key.json"
#define STORE_LOCK "lock"

enum {
    STORE_PATH_MAX = 4096,
    STORE_READERS_DEFAULT = 4,
    STORE_READERS_LIMIT = 512, /* far above what the node's threads hold at once */
    STORE_CACHE_KIB_DEFAULT = 2048,
    STORE_PAGE_SIZE = 4096,
    STORE_TRANSACTION_BYTES_MAX =
        4 * 1024 * 1024, /* of a group: some 40 ms; a larger batch goes alone */
    STORE_QUEUE_BATCHES_MAX = 65536,
    STORE_CHECKPOINT_PAGES = 1000, /* 4 MiB of log: start moving pages */
    STORE_FINISH_PAGES =
        4000, /* 16 MiB: the writer helps with the last ones, so that the log starts over */
    STORE_TRUNCATE_PAGES = 4000, /* an idle log larger than this is given back to the file system */
    STORE_LOG_WARN_PAGES =
        64 * 1024, /* 256 MiB: somebody holds an old snapshot; said again at each doubling */
    STORE_IDLE_MS = 5000,
};

#define STORE_QUEUE_BYTES_MAX ((size_t)1 << 30)

/* --- batches --- */

typedef enum batch_kind {
    BATCH_PUT,
    BATCH_DELETE,
    BATCH_DELETE_PREFIX,
    BATCH_DELETE_SOME
} batch_kind;

typedef struct batch_op {
    uint32_t column : 8, kind : 8;
    uint32_t key_len, value_len;
    uint32_t max_rows; /* of BATCH_DELETE_SOME */
    size_t offset;     /* of the key in bytes; the value follows it */
} batch_op;

struct cal_batch {
    cal_list node; /* in the store's queue */
    cal_buffer bytes;
    batch_op *ops;
    size_t count, capacity;
    int error;  /* sticks */
    int result; /* once its turn has come */
    cal_store_lane *lane;
    cal_store_done done;
    void *user;
};

int batch_apply(const cal_batch *batch, const cal_engine *engine, cal_engine_conn *conn);

/* --- the store --- */

struct cal_store {
    const cal_os *os;
    const cal_engine *engine;
    cal_engine_db *db;
    cal_os_file *lock;
    char *folder;
    cal_key_kind key_kind;
    char *key_file; /* for CAL_KEY_FILE, where it lives; else NULL */

    /* The writer's queue. `mutex` guards all down to `stopping`, and every lane. */
    pthread_mutex_t mutex;
    pthread_cond_t work;
    cal_list queue;
    size_t queue_count, queue_bytes;
    bool stopping;

    bool stepped;
    bool stepping; /* the one thread of a stepped store is within a step or a wait */
    void (*due)(void *due_user);
    void *due_user;
    cal_list answers; /* batches whose result stands and whose answer is not given; the writer's */

    pthread_t writer;
    bool writer_started;
    cal_engine_conn *writer_conn; /* the writer thread's; NULL while it could not be opened again */
    bool unsettled;               /* the log may hold a commit that failed; the writer thread's */

    /* Checkpoints (checkpoint.c). `write_gate` is held by the writer during a transaction and by a
     * truncation, so that neither meets the other half way; `log_gate` by whoever moves pages or
     * needs them to stay. Order: write_gate, then log_gate. */
    pthread_t caretaker;
    bool caretaker_started, caretaker_stopping, caretaker_due;
    bool inline_checkpoints; /* on the writer thread: in a simulated world every run must repeat */
    bool checkpoint_due;     /* stepped: at the end of the step */
    pthread_mutex_t care_mutex;
    pthread_cond_t care_work;
    pthread_mutex_t write_gate, log_gate;
    cal_engine_conn *care_conn;
    _Atomic uint64_t log_pages; /* in the log after the last commit */
    _Atomic uint64_t log_moved; /* its length when a checkpoint last passed over it */
    uint64_t log_warned;
    atomic_bool finish_checkpoint;

    pthread_mutex_t reader_mutex;
    cal_engine_conn *idle[STORE_READERS_LIMIT];
    uint32_t idle_count, readers_max, readers_used;

    pthread_mutex_t stats_mutex;
    cal_store_stats stats;
    int ailing; /* CAL_EFULL or CAL_EIO until a batch succeeds */
};

/* Notes the outcome of an operation for stats and health, and returns it. */
int store_note(cal_store *store, int error);
int store_exists(const cal_os *os, const char *folder, const char *name, bool *ret_exists,
                 cal_error *err);
int store_lock(const cal_os *os, const char *folder, cal_os_file **ret_lock, cal_error *err);
int store_publish(const cal_os *os, const char *folder, cal_slice key_json, cal_error *err);
int store_path(const char *folder, const char *name, char ret_path[STORE_PATH_MAX]);

int store_writer_start(cal_store *store);
void store_writer_stop(cal_store *store); /* what is queued is committed and answered first */
/* The writer's work in two halves: the next group of the queue gets its results, then each of its
 * batches its answer. False: nothing there. */
bool store_writer_group(cal_store *store);
bool store_writer_answer(cal_store *store);

void store_step_drain(cal_store *store); /* step.c */

int store_caretaker_start(cal_store *store);
void store_caretaker_stop(cal_store *store);
void store_caretaker_poke(cal_store *store,
                          uint64_t log_pages);  /* from the writer, after a commit */
void store_checkpoint_inline(cal_store *store); /* stepped: what a poke has put off */
void store_checkpoint_finish(cal_store *store); /* from the writer, before a transaction */

int store_reader_take(cal_store *store, cal_engine_conn **ret_conn);
void store_reader_give(cal_store *store, cal_engine_conn *conn);

/* --- the wrapped key (key.c) --- */

/* Random database key, wrapped, as the content of a new key.json. */
int key_create(const cal_os *os, const cal_key_source *source, cal_secret *ret_key,
               cal_buffer *ret_json, cal_error *err);
int key_open(const cal_os *os, const char *folder, const cal_key_source *source,
             cal_secret *ret_key, cal_error *err);
int key_wrap(const cal_os *os, const cal_key_source *source, const cal_secret *key,
             cal_buffer *ret_json, cal_error *err);

#endif
