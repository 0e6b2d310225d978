/* What the files of the SQLCipher engine share. */
#ifndef CAL_STORE_ENGINE_INTERNAL_H
#define CAL_STORE_ENGINE_INTERNAL_H

#include "store/engine.h"
#include "store/vfs.h"

#include <sqlite3.h>

enum {
    ENGINE_BOUNDED = 1,
    ENGINE_DESCENDING = 2,
    ENGINE_SHAPES = 4,
    ENGINE_WHY_MAX = 256,
    ENGINE_SCHEMA_VERSION = 1,
    /* The writer's page cache is so many times a reader's: every commit empties a reader's, while
     * the writer's keeps the pages that the next commits change, each saved from a read, a
     * decryption and an authentication. */
    ENGINE_WRITER_CACHE = 8,
};

typedef enum engine_statement {
    ENGINE_GET,
    ENGINE_HAS,
    ENGINE_PUT,
    ENGINE_ERASE,
    ENGINE_ERASE_RANGE,
    ENGINE_ERASE_FROM,
    ENGINE_ERASE_SOME_RANGE,
    ENGINE_ERASE_SOME_FROM,
    ENGINE_SIZE_RANGE,
    ENGINE_SIZE_FROM,
    ENGINE_STATEMENTS
} engine_statement;

struct cal_engine_db {
    const cal_os *os;
    cal_vfs *vfs;
    char *path;
    cal_secret key;
    bool sync_full;
    uint32_t cache_kib;
};

struct cal_engine_conn {
    cal_engine_db *db;
    sqlite3 *sqlite;
    cal_engine_role role;
    bool unusable;
    bool in_transaction;
    uint64_t log_pages;
    char why[ENGINE_WHY_MAX];
    sqlite3_stmt *begin_read, *begin_write, *pin, *commit, *rollback;
    sqlite3_stmt *statements[CAL_COLUMN_COUNT][ENGINE_STATEMENTS];
    sqlite3_stmt
        *walks[CAL_COLUMN_COUNT][ENGINE_SHAPES]; /* a finished cursor's, kept for the next one */
};

/* Opens a keyed SQLite handle on any file with the engine's settings. */
int engine_open(cal_engine_db *db, const char *path, int flags, sqlite3 **ret_sqlite, int *ret_rc);
/* A SQLite result as a CAL_E*; remembers the words, and whether the connection survived. */
int engine_error(cal_engine_conn *conn, int rc);
int engine_exec(cal_engine_conn *conn, const char *sql);
int engine_number(cal_engine_conn *conn, const char *sql, int64_t *ret_number);

/* engine_care.c */
int engine_migrate(cal_engine_conn *conn, bool fresh, uint32_t *ret_from, cal_error *err);
int engine_settle(cal_engine_conn *conn);
int engine_checkpoint(cal_engine_conn *conn, bool truncate, cal_engine_checkpoint *ret_result);
int engine_copy(cal_engine_conn *conn, const char *path, cal_progress progress, void *user,
                cal_error *err);
int engine_verify(cal_engine_conn *conn, cal_engine_report report, void *user, cal_error *err);

#endif
