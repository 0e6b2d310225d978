/* The embedded engine: SQLite in SQLCipher, each column one table.
 *
 * Why: one flush a commit (write-ahead log), readers that never wait, every page encrypted and
 * authenticated with its number, hot backup, and a file layer that can be replaced (vfs.c).
 * docs/design/store.md has the settings and their reasons.
 *
 * A page that does not authenticate makes SQLCipher refuse everything further on that connection,
 * and it reports it as SQLITE_ERROR or SQLITE_NOMEM. engine_error tells these from a real shortage
 * of memory by asking the connection once more, and marks the connection unusable; the store opens
 * another, so that one bad page fails only what needs it.
 *
 * A connection belongs to one thread at a time; the database object is read-only after attach. */
#include "store/engine_internal.h"

#include "base/log.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const engine_tables[CAL_COLUMN_COUNT] = {
#define ENGINE_TABLE(name, table) [CAL_COLUMN_##name] = table,
    CAL_COLUMNS(ENGINE_TABLE)
#undef ENGINE_TABLE
};

static const char *const engine_sql[ENGINE_STATEMENTS] = {
    [ENGINE_GET] = "SELECT v FROM %s WHERE k = ?1",
    [ENGINE_HAS] = "SELECT 1 FROM %s WHERE k = ?1",
    [ENGINE_PUT] = "INSERT INTO %s (k, v) VALUES (?1, ?2) ON CONFLICT (k) DO UPDATE SET v = ?2",
    [ENGINE_ERASE] = "DELETE FROM %s WHERE k = ?1",
    [ENGINE_ERASE_RANGE] = "DELETE FROM %s WHERE k >= ?1 AND k < ?2",
    [ENGINE_ERASE_FROM] = "DELETE FROM %s WHERE k >= ?1",
    [ENGINE_ERASE_SOME_RANGE] = ("DELETE FROM %1$s WHERE k IN (SELECT k FROM %1$s WHERE k >= ?1 "
                                 "AND k < ?2 ORDER BY k LIMIT ?3)"),
    [ENGINE_ERASE_SOME_FROM] =
        "DELETE FROM %1$s WHERE k IN (SELECT k FROM %1$s WHERE k >= ?1 ORDER BY k LIMIT ?3)",
    [ENGINE_SIZE_RANGE] =
        "SELECT coalesce(sum(length(k) + length(v)), 0) FROM %s WHERE k >= ?1 AND k < ?2",
    [ENGINE_SIZE_FROM] = "SELECT coalesce(sum(length(k) + length(v)), 0) FROM %s WHERE k >= ?1",
};

static const char *const engine_walk_sql[ENGINE_SHAPES] = {
    [0] = "SELECT k, v FROM %s WHERE k >= ?1 ORDER BY k",
    [ENGINE_BOUNDED] = "SELECT k, v FROM %s WHERE k >= ?1 AND k < ?2 ORDER BY k",
    [ENGINE_DESCENDING] = "SELECT k, v FROM %s WHERE k >= ?1 ORDER BY k DESC",
    [ENGINE_BOUNDED | ENGINE_DESCENDING] =
        "SELECT k, v FROM %s WHERE k >= ?1 AND k < ?2 ORDER BY k DESC",
};

const char *const cal_engine_suffixes[] = {"", "-wal", "-journal", NULL};

/* --- errors --- */

/* Whether the connection can still read its first page. */
static bool engine_alive(cal_engine_conn *conn) {
    int rc = sqlite3_exec(conn->sqlite, "SELECT 1 FROM sqlite_schema LIMIT 1", NULL, NULL, NULL);
    return rc == SQLITE_OK || rc == SQLITE_BUSY;
}

/* What looks like damage; a page that could not be read at all looks the same. */
static int engine_damage(cal_engine_conn *conn, int failure) {
    conn->unusable = true; /* its cache may hold what it should not */
    return failure ? failure : CAL_ECORRUPT;
}

int engine_error(cal_engine_conn *conn, int rc) {
    int primary = rc & 0xff, failure = cal_vfs_take_failure();
    if (primary == SQLITE_OK || primary == SQLITE_ROW || primary == SQLITE_DONE) return 0;
    snprintf(conn->why, sizeof conn->why, "%s (%d)", sqlite3_errmsg(conn->sqlite),
             sqlite3_extended_errcode(conn->sqlite));
    switch (primary) {
    case SQLITE_FULL:
        return CAL_EFULL;
    case SQLITE_TOOBIG:
        return CAL_ELIMIT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return CAL_EBUSY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return engine_damage(conn, failure);
    case SQLITE_NOMEM:
        return engine_alive(conn) ? CAL_ENOMEM : engine_damage(conn, failure);
    case SQLITE_ERROR:
        return engine_alive(conn) ? CAL_EINTERNAL : engine_damage(conn, failure);
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        if (rc == SQLITE_IOERR_NOMEM) return CAL_ENOMEM;
        conn->unusable = conn->unusable || !engine_alive(conn);
        cal_vfs_take_failure();
        return CAL_EIO;
    default:
        return CAL_EINTERNAL;
    }
}

int engine_exec(cal_engine_conn *conn, const char *sql) {
    return engine_error(conn, sqlite3_exec(conn->sqlite, sql, NULL, NULL, NULL));
}

int engine_number(cal_engine_conn *conn, const char *sql, int64_t *ret_number) {
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(conn->sqlite, sql, -1, &stmt, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(stmt);
    int64_t number = rc == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
    int error = rc == SQLITE_DONE ? CAL_EINTERNAL : engine_error(conn, rc);
    sqlite3_finalize(stmt);
    if (!error) *ret_number = number;
    return error;
}

/* --- opening --- */

static pthread_once_t engine_once = PTHREAD_ONCE_INIT;

/* SQLCipher writes to standard error unless told not to; what fails is reported by our own results.
 */
static void engine_quiet(void) {
    sqlite3 *sqlite = NULL;
    if (sqlite3_open(":memory:", &sqlite) == SQLITE_OK)
        sqlite3_exec(sqlite, "PRAGMA cipher_log_level = NONE", NULL, NULL, NULL);
    sqlite3_close(sqlite);
}

static int engine_attach(const cal_engine_config *config, cal_engine_db **ret_db, cal_error *err) {
    pthread_once(&engine_once, engine_quiet);
    cal_engine_db *db = calloc(1, sizeof *db);
    if (!db) return cal_fail(err, CAL_ENOMEM, "no memory to open the store");
    db->os = config->os;
    db->key = *config->key;
    db->sync_full = config->sync_full;
    db->cache_kib = config->cache_kib;
    db->path = strdup(config->path);
    int error = db->path ? cal_vfs_new(config->os, &db->vfs) : CAL_ENOMEM;
    if (error) {
        cal_secret_wipe(&db->key);
        free(db->path);
        free(db);
        return cal_fail(err, error, "cannot prepare the file layer of the store");
    }
    *ret_db = db;
    return 0;
}

static void engine_detach(cal_engine_db *db) {
    if (!db) return;
    cal_vfs_free(db->vfs);
    cal_secret_wipe(&db->key);
    free(db->path);
    free(db);
}

static void engine_key_text(const cal_secret *key, char ret_text[2 * CAL_KEY_SIZE + 4]) {
    static const char digits[] = "0123456789abcdef";
    char *at = ret_text;
    *at++ = 'x';
    *at++ = '\'';
    for (size_t i = 0; i < CAL_KEY_SIZE; i++) {
        *at++ = digits[key->bytes[i] >> 4];
        *at++ = digits[key->bytes[i] & 15];
    }
    *at++ = '\'';
    *at = 0;
}

/* SQLCipher 4's settings but for the digest: with the processor's SHA instructions a page costs a
 * fifth less than with SHA-512. They are part of the format of store.db. */
static const char engine_cipher[] =
    "PRAGMA cipher_page_size = 4096; PRAGMA cipher_hmac_algorithm = HMAC_SHA256";

int engine_open(cal_engine_db *db, const char *path, int flags, sqlite3 **ret_sqlite, int *ret_rc) {
    sqlite3 *sqlite = NULL;
    int rc = sqlite3_open_v2(path, &sqlite, flags | SQLITE_OPEN_NOMUTEX, cal_vfs_name(db->vfs));
    if (rc == SQLITE_OK) {
        char text[sizeof "PRAGMA key = \"x''\"" + 2 * CAL_KEY_SIZE] = "PRAGMA key = \"";
        size_t at = strlen(text);
        engine_key_text(&db->key, text + at);
        memcpy(text + strlen(text), "\"", 2);
        rc = sqlite3_exec(sqlite, text, NULL, NULL, NULL);
        cal_wipe(text, sizeof text);
        if (rc == SQLITE_OK) rc = sqlite3_exec(sqlite, engine_cipher, NULL, NULL, NULL);
    }
    *ret_rc = rc;
    if (rc != SQLITE_OK) {
        sqlite3_close(sqlite);
        return (rc & 0xff) == SQLITE_NOMEM  ? CAL_ENOMEM
               : (rc & 0xff) == SQLITE_FULL ? CAL_EFULL
                                            : CAL_EIO;
    }
    sqlite3_extended_result_codes(sqlite, 1);
    *ret_sqlite = sqlite;
    return 0;
}

static int engine_log_grew(void *user, sqlite3 *sqlite, const char *name, int pages) {
    cal_engine_conn *conn = user;
    (void)sqlite, (void)name;
    conn->log_pages = (uint64_t)pages;
    return SQLITE_OK;
}

static int engine_configure(cal_engine_conn *conn) {
    cal_engine_db *db = conn->db;
    char sql[256];
    snprintf(sql, sizeof sql,
             "PRAGMA temp_store = MEMORY; "
             "PRAGMA mmap_size = 0; PRAGMA cache_size = -%u; "
             "PRAGMA synchronous = %s; PRAGMA wal_autocheckpoint = 0;",
             db->cache_kib * (conn->role == CAL_ENGINE_WRITER ? ENGINE_WRITER_CACHE : 1),
             db->sync_full ? "FULL" : "NORMAL");
    int error = engine_exec(conn, sql);
    if (!error) error = engine_exec(conn, "SELECT count(*) FROM sqlite_schema"); /* the key fits */
    if (!error && conn->role == CAL_ENGINE_WRITER)
        error = engine_exec(conn, "PRAGMA journal_mode = WAL");
    if (!error && conn->role == CAL_ENGINE_READER)
        error = engine_exec(conn, "PRAGMA query_only = 1");
    if (!error) sqlite3_wal_hook(conn->sqlite, engine_log_grew, conn);
    return error;
}

static int engine_prepare(cal_engine_conn *conn, const char *sql, sqlite3_stmt **ret_stmt) {
    return engine_error(
        conn, sqlite3_prepare_v3(conn->sqlite, sql, -1, SQLITE_PREPARE_PERSISTENT, ret_stmt, NULL));
}

static void engine_disconnect(cal_engine_conn *conn) {
    if (!conn) return;
    sqlite3_stmt *fixed[] = {conn->begin_read, conn->begin_write, conn->pin, conn->commit,
                             conn->rollback};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) sqlite3_finalize(fixed[i]);
    for (int column = 0; column < CAL_COLUMN_COUNT; column++) {
        for (int i = 0; i < ENGINE_STATEMENTS; i++) sqlite3_finalize(conn->statements[column][i]);
        for (int i = 0; i < ENGINE_SHAPES; i++) sqlite3_finalize(conn->walks[column][i]);
    }
    int rc = sqlite3_close(conn->sqlite);
    assert(rc == SQLITE_OK); /* cursors are closed first */
    (void)rc;
    free(conn);
}

static int engine_connect(cal_engine_db *db, cal_engine_role role, cal_engine_conn **ret_conn,
                          cal_error *err) {
    cal_engine_conn *conn = calloc(1, sizeof *conn);
    if (!conn) return cal_fail(err, CAL_ENOMEM, "no memory to open the database");
    conn->db = db;
    conn->role = role;
    int flags = SQLITE_OPEN_READWRITE | (role == CAL_ENGINE_WRITER ? SQLITE_OPEN_CREATE : 0),
        rc = 0;
    int error = engine_open(db, db->path, flags, &conn->sqlite, &rc);
    if (error) {
        free(conn);
        return cal_fail(err, error, "cannot open the database %s: %s", db->path,
                        sqlite3_errstr(rc));
    }
    error = engine_configure(conn);
    if (!error) error = engine_prepare(conn, "BEGIN", &conn->begin_read);
    if (!error) error = engine_prepare(conn, "BEGIN IMMEDIATE", &conn->begin_write);
    if (!error) error = engine_prepare(conn, "SELECT 1 FROM sqlite_schema LIMIT 1", &conn->pin);
    if (!error) error = engine_prepare(conn, "COMMIT", &conn->commit);
    if (!error) error = engine_prepare(conn, "ROLLBACK", &conn->rollback);
    if (error) {
        cal_fail(err, error,
                 error == CAL_ECORRUPT ? "the database %s is damaged: %s; restore a backup"
                                       : "cannot open the database %s: %s",
                 db->path, conn->why);
        engine_disconnect(conn);
        return error;
    }
    *ret_conn = conn;
    return 0;
}

static void engine_cache(cal_engine_conn *conn, uint32_t kib) {
    char sql[64];
    snprintf(sql, sizeof sql, "PRAGMA cache_size = -%u", kib ? kib : conn->db->cache_kib);
    engine_exec(conn, sql); /* only slower if it fails */
}

static bool engine_usable(const cal_engine_conn *conn) { return !conn->unusable; }
static const char *engine_why(const cal_engine_conn *conn) { return conn->why; }
static uint64_t engine_log_pages(const cal_engine_conn *conn) { return conn->log_pages; }

/* --- transactions --- */

static int engine_run(cal_engine_conn *conn, sqlite3_stmt *stmt) {
    int rc = sqlite3_step(stmt);
    int error = engine_error(conn, rc);
    sqlite3_reset(stmt);
    return error;
}

static void engine_rollback(cal_engine_conn *conn) {
    if (!sqlite3_get_autocommit(conn->sqlite)) engine_run(conn, conn->rollback);
}

static int engine_begin(cal_engine_conn *conn, bool write) {
    int error = engine_run(conn, write ? conn->begin_write : conn->begin_read);
    if (error || write) return error;
    error = engine_run(conn, conn->pin); /* BEGIN alone takes no snapshot: the first read does */
    if (error) engine_rollback(conn);
    return error;
}

static int engine_commit(cal_engine_conn *conn) { return engine_run(conn, conn->commit); }

/* --- operations --- */

static int engine_statement_for(cal_engine_conn *conn, cal_column column, engine_statement which,
                                sqlite3_stmt **ret_stmt) {
    sqlite3_stmt **slot = &conn->statements[column][which];
    if (!*slot) {
        char sql[192];
        snprintf(sql, sizeof sql, engine_sql[which], engine_tables[column]);
        int error = engine_prepare(conn, sql, slot);
        if (error) return error;
    }
    *ret_stmt = *slot;
    return 0;
}

/* The bytes must live until the statement is reset. */
static int engine_bind(sqlite3_stmt *stmt, int index, cal_slice bytes) {
    return sqlite3_bind_blob64(stmt, index, bytes.len ? (const void *)bytes.data : "", bytes.len,
                               SQLITE_STATIC);
}

static int engine_write(cal_engine_conn *conn, cal_column column, engine_statement which,
                        cal_slice first, const cal_slice *second) {
    sqlite3_stmt *stmt;
    int error = engine_statement_for(conn, column, which, &stmt);
    if (error) return error;
    int rc = engine_bind(stmt, 1, first);
    if (rc == SQLITE_OK && second) rc = engine_bind(stmt, 2, *second);
    if (rc == SQLITE_OK) rc = sqlite3_step(stmt);
    error = engine_error(conn, rc);
    sqlite3_reset(stmt);
    return error;
}

static int engine_put(cal_engine_conn *conn, cal_column column, cal_slice key, cal_slice value) {
    return engine_write(conn, column, ENGINE_PUT, key, &value);
}

static int engine_erase(cal_engine_conn *conn, cal_column column, cal_slice key) {
    return engine_write(conn, column, ENGINE_ERASE, key, NULL);
}

static int engine_erase_range(cal_engine_conn *conn, cal_column column, cal_slice lo, cal_slice hi,
                              uint32_t max_rows) {
    bool bounded = hi.len > 0;
    engine_statement which = bounded ? ENGINE_ERASE_RANGE : ENGINE_ERASE_FROM;
    if (max_rows) {
        which = bounded ? ENGINE_ERASE_SOME_RANGE : ENGINE_ERASE_SOME_FROM;
        sqlite3_stmt *stmt;
        int error = engine_statement_for(conn, column, which, &stmt);
        if (!error) error = engine_error(conn, sqlite3_bind_int64(stmt, 3, max_rows));
        if (error) return error;
    }
    return engine_write(conn, column, which, lo, bounded ? &hi : NULL);
}

static int engine_get(cal_engine_conn *conn, cal_column column, cal_slice key,
                      cal_buffer *ret_value) {
    sqlite3_stmt *stmt;
    int error = engine_statement_for(conn, column, ret_value ? ENGINE_GET : ENGINE_HAS, &stmt);
    if (error) return error;
    int rc = engine_bind(stmt, 1, key);
    if (rc == SQLITE_OK) rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW && ret_value) {
        /* In this order: the pointer first, since asking for it is what reads the value. */
        const void *data = sqlite3_column_blob(stmt, 0);
        int len = sqlite3_column_bytes(stmt, 0);
        int read_rc = sqlite3_errcode(conn->sqlite);
        if (!data && len == 0 && read_rc != SQLITE_ROW && read_rc != SQLITE_OK)
            error = engine_error(conn, read_rc);
        else
            error = cal_buffer_append(ret_value, data, (size_t)len);
    } else if (rc == SQLITE_DONE) {
        error = CAL_ENOTFOUND;
    } else if (rc != SQLITE_ROW) {
        error = engine_error(conn, rc);
    }
    sqlite3_reset(stmt);
    return error;
}

static int engine_size(cal_engine_conn *conn, cal_column column, cal_slice lo, cal_slice hi,
                       uint64_t *ret_bytes) {
    sqlite3_stmt *stmt;
    int error =
        engine_statement_for(conn, column, hi.len ? ENGINE_SIZE_RANGE : ENGINE_SIZE_FROM, &stmt);
    if (error) return error;
    int rc = engine_bind(stmt, 1, lo);
    if (rc == SQLITE_OK && hi.len) rc = engine_bind(stmt, 2, hi);
    if (rc == SQLITE_OK) rc = sqlite3_step(stmt);
    error = rc == SQLITE_DONE ? CAL_EINTERNAL : engine_error(conn, rc);
    if (!error) *ret_bytes = (uint64_t)sqlite3_column_int64(stmt, 0);
    sqlite3_reset(stmt);
    return error;
}

/* --- cursors --- */

struct cal_engine_cursor {
    cal_engine_conn *conn;
    sqlite3_stmt *stmt;
    cal_column column;
    int shape;
    bool done;
};

static int engine_cursor_open(cal_engine_conn *conn, cal_column column, cal_slice lo, cal_slice hi,
                              bool descending, cal_engine_cursor **ret_cursor) {
    cal_engine_cursor *cursor = calloc(1, sizeof *cursor);
    if (!cursor) return CAL_ENOMEM;
    int shape = (hi.len ? ENGINE_BOUNDED : 0) | (descending ? ENGINE_DESCENDING : 0);
    *cursor = (cal_engine_cursor){.conn = conn, .column = column, .shape = shape};
    cursor->stmt = conn->walks[column][shape];
    conn->walks[column][shape] = NULL;
    int error = 0;
    if (!cursor->stmt) {
        char sql[192];
        snprintf(sql, sizeof sql, engine_walk_sql[shape], engine_tables[column]);
        error = engine_prepare(conn, sql, &cursor->stmt);
    }
    if (!error) { /* the bounds outlive the caller's slices: SQLite copies them */
        int rc = sqlite3_bind_blob64(cursor->stmt, 1, lo.len ? (const void *)lo.data : "", lo.len,
                                     SQLITE_TRANSIENT);
        if (rc == SQLITE_OK && hi.len)
            rc = sqlite3_bind_blob64(cursor->stmt, 2, hi.data, hi.len, SQLITE_TRANSIENT);
        error = engine_error(conn, rc);
    }
    if (error) {
        sqlite3_finalize(cursor->stmt);
        free(cursor);
        return error;
    }
    *ret_cursor = cursor;
    return 0;
}

static int engine_cursor_column(cal_engine_cursor *cursor, int index, cal_slice *ret_bytes) {
    const void *data = sqlite3_column_blob(cursor->stmt, index);
    int len = sqlite3_column_bytes(cursor->stmt, index);
    int rc = sqlite3_errcode(cursor->conn->sqlite);
    if (!data && len == 0 && rc != SQLITE_ROW && rc != SQLITE_OK)
        return engine_error(cursor->conn, rc);
    *ret_bytes = cal_slice_of(data, (size_t)len);
    return 0;
}

static int engine_cursor_next(cal_engine_cursor *cursor, cal_slice *ret_key, cal_slice *ret_value) {
    if (cursor->done) return CAL_ENOTFOUND;
    int rc = sqlite3_step(cursor->stmt);
    if (rc != SQLITE_ROW) {
        cursor->done = true;
        return rc == SQLITE_DONE ? CAL_ENOTFOUND : engine_error(cursor->conn, rc);
    }
    cal_slice key, value = {0};
    int error = engine_cursor_column(cursor, 0, &key);
    if (!error && ret_value) error = engine_cursor_column(cursor, 1, &value);
    if (error) {
        cursor->done = true;
        return error;
    }
    *ret_key = key;
    if (ret_value) *ret_value = value;
    return 0;
}

static void engine_cursor_close(cal_engine_cursor *cursor) {
    if (!cursor) return;
    sqlite3_reset(cursor->stmt);
    sqlite3_clear_bindings(cursor->stmt);
    sqlite3_stmt **slot = &cursor->conn->walks[cursor->column][cursor->shape];
    if (*slot)
        sqlite3_finalize(cursor->stmt);
    else
        *slot = cursor->stmt;
    free(cursor);
}

const cal_engine *cal_engine_sqlcipher(void) {
    static const cal_engine engine = {
        .name = "sqlcipher",
        .version = ENGINE_SCHEMA_VERSION,
        .attach = engine_attach,
        .detach = engine_detach,
        .connect = engine_connect,
        .disconnect = engine_disconnect,
        .usable = engine_usable,
        .cache = engine_cache,
        .why = engine_why,
        .migrate = engine_migrate,
        .begin = engine_begin,
        .commit = engine_commit,
        .rollback = engine_rollback,
        .settle = engine_settle,
        .put = engine_put,
        .erase = engine_erase,
        .erase_range = engine_erase_range,
        .get = engine_get,
        .size = engine_size,
        .cursor_open = engine_cursor_open,
        .cursor_next = engine_cursor_next,
        .cursor_close = engine_cursor_close,
        .log_pages = engine_log_pages,
        .checkpoint = engine_checkpoint,
        .copy = engine_copy,
        .verify = engine_verify,
    };
    return &engine;
}
