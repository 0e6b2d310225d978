/* The table behind the store: what a storage engine must do for it. The store decides who calls
 * when (one writer, several readers, one caretaker); the engine keeps columns of sorted keys,
 * transactions and the bytes on disk.
 *
 * A database is opened once per process; every connection belongs to one thread at a time.
 * Functions return 0 or a CAL_E*; after any failure inside a transaction the caller rolls back. A
 * connection that met damage may have become unusable as a whole (`usable` answers false): the
 * caller then disconnects it and connects anew, so that damage stays with the operation that met
 * it. */
#ifndef CAL_STORE_ENGINE_H
#define CAL_STORE_ENGINE_H

#include "base/buffer.h"
#include "base/error.h"
#include "store/store.h"

typedef struct cal_engine_db cal_engine_db;
typedef struct cal_engine_conn cal_engine_conn;
typedef struct cal_engine_cursor cal_engine_cursor;

typedef enum cal_engine_role { CAL_ENGINE_WRITER, CAL_ENGINE_READER } cal_engine_role;

typedef struct cal_engine_config {
    const cal_os *os;
    const char *path;      /* of the database file */
    const cal_secret *key; /* copied */
    bool sync_full;        /* flush at every commit */
    uint32_t cache_kib;    /* page cache of a connection */
} cal_engine_config;

typedef struct cal_engine_checkpoint {
    uint64_t log_pages;   /* pages in the write-ahead log */
    uint64_t moved_pages; /* of these, how many are also in the database file */
} cal_engine_checkpoint;

typedef void (*cal_engine_report)(void *user, const char *finding);

typedef struct cal_engine {
    const char *name;
    uint32_t version; /* of the schema that this program writes */

    int (*attach)(const cal_engine_config *config, cal_engine_db **ret_db, cal_error *err);
    void (*detach)(cal_engine_db *db); /* NULL allowed; all connections are closed */
    /* A writer creates the file when it is missing. CAL_ECORRUPT when the first page does not open.
     */
    int (*connect)(cal_engine_db *db, cal_engine_role role, cal_engine_conn **ret_conn,
                   cal_error *err);
    void (*disconnect)(cal_engine_conn *conn); /* NULL allowed */
    bool (*usable)(const cal_engine_conn *conn);
    /* Pages kept in memory; 0: as the configuration says. */
    void (*cache)(cal_engine_conn *conn, uint32_t kib);
    const char *(*why)(const cal_engine_conn *conn); /* the last failure in the engine's words */

    /* Brings an older schema forward, one transaction a step. CAL_EVERSION for a newer one;
     * CAL_ECORRUPT for none at all, unless the database is `fresh`: then that is where it starts.
     */
    int (*migrate)(cal_engine_conn *conn, bool fresh, uint32_t *ret_from, cal_error *err);

    int (*begin)(cal_engine_conn *conn,
                 bool write); /* read: what is seen is fixed when this returns */
    int (*commit)(cal_engine_conn *conn);
    void (*rollback)(cal_engine_conn *conn);
    /* After a commit that failed: what it left in the log must not count after a crash. Durable
     * when this returns 0, or when a later commit does. */
    int (*settle)(cal_engine_conn *conn);

    int (*put)(cal_engine_conn *conn, cal_column column, cal_slice key, cal_slice value);
    int (*erase)(cal_engine_conn *conn, cal_column column, cal_slice key);
    /* lo <= key < hi, hi.len 0: no upper bound. At most max_rows of them, the smallest keys first;
     * 0: all. */
    int (*erase_range)(cal_engine_conn *conn, cal_column column, cal_slice lo, cal_slice hi,
                       uint32_t max_rows);

    int (*get)(cal_engine_conn *conn, cal_column column, cal_slice key,
               cal_buffer *ret_value); /* ret_value may be NULL */
    int (*size)(cal_engine_conn *conn, cal_column column, cal_slice lo, cal_slice hi,
                uint64_t *ret_bytes);
    int (*cursor_open)(cal_engine_conn *conn, cal_column column, cal_slice lo, cal_slice hi,
                       bool descending, cal_engine_cursor **ret_cursor);
    int (*cursor_next)(cal_engine_cursor *cursor, cal_slice *ret_key, cal_slice *ret_value);
    void (*cursor_close)(cal_engine_cursor *cursor);

    uint64_t (*log_pages)(
        const cal_engine_conn *conn); /* in the write-ahead log, after this writer's last commit */
    /* Moves pages from the log to the database file without stopping anybody. With `truncate` also
     * empties the log file, which needs the writer and all readers to be away: CAL_EBUSY otherwise.
     */
    int (*checkpoint)(cal_engine_conn *conn, bool truncate, cal_engine_checkpoint *ret_result);
    /* Copies what a new read transaction on `conn` sees into a new file, under the same key. */
    int (*copy)(cal_engine_conn *conn, const char *path, cal_progress progress, void *user,
                cal_error *err);
    /* No checkpoint may run meanwhile. */
    int (*verify)(cal_engine_conn *conn, cal_engine_report report, void *user, cal_error *err);
} cal_engine;

/* SQLite in SQLCipher (engine_sqlcipher.c). */
const cal_engine *cal_engine_sqlcipher(void);

/* The neighbours of a database file that belong to it; NULL ends. */
extern const char *const cal_engine_suffixes[];

#endif
