/* Care of the SQLCipher database: schema steps, checkpoints, the running copy, verification.
 *
 * The schema's version is SQLite's user_version. A step never changes once released: a new column
 * or a new shape of rows is a new step at the end of the table, run in one transaction together
 * with the version's change. */
#include "store/engine_internal.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

/* Small rows live in the key's own tree (WITHOUT ROWID: one tree, one search). Chunks, modules
 * and deltas are big: their values sit in a tree by row number, the keys in a slim index beside it,
 * so that a search never touches pages full of values, and deltas, whose keys come in no order,
 * fill one page after the other: a third less work for a call that writes. */
#define SMALL(table)                                                                               \
    "CREATE TABLE " table " (k BLOB NOT NULL PRIMARY KEY, v BLOB NOT NULL) STRICT, WITHOUT ROWID;"
#define BIG(table) "CREATE TABLE " table " (k BLOB NOT NULL PRIMARY KEY, v BLOB NOT NULL) STRICT;"

#define ENGINE_APPLICATION "1128353869" /* "CALM" */

static const char *const engine_steps[] = {
    /* 1: the columns of the first release */
    "PRAGMA application_id = " ENGINE_APPLICATION ";" SMALL("node") SMALL("application")
        SMALL("alias") SMALL("blob") BIG("blob_chunk") BIG("module") SMALL("context") SMALL("state")
            SMALL("private_state") SMALL("sorted_index") SMALL("sorted_index_meta") BIG("delta")
                SMALL("governance") SMALL("group_row"),
};

enum {
    ENGINE_STEPS = sizeof engine_steps / sizeof *engine_steps,
    ENGINE_COPY_PAGES = 256,
    ENGINE_FINDINGS_MAX = 100
};

_Static_assert((int)ENGINE_STEPS == (int)ENGINE_SCHEMA_VERSION, "a new step is a new version");

int engine_migrate(cal_engine_conn *conn, bool fresh, uint32_t *ret_from, cal_error *err) {
    int64_t version = 0, application = 0;
    int error = engine_number(conn, "PRAGMA user_version", &version);
    if (!error) error = engine_number(conn, "PRAGMA application_id", &application);
    if (error)
        return cal_fail(err, error, "cannot read the version of the database: %s", conn->why);
    if (version < 0 || version > ENGINE_STEPS) {
        return cal_fail(
            err, CAL_EVERSION,
            "the database has schema version %lld and this program knows %d: use a newer program",
            (long long)version, (int)ENGINE_STEPS);
    }
    if (version == 0 && !fresh)
        return cal_fail(err, CAL_ECORRUPT,
                        "the database %s is damaged: it is empty; restore a backup",
                        conn->db->path);
    if (version > 0 && application != strtoll(ENGINE_APPLICATION, NULL, 10))
        return cal_fail(err, CAL_ECORRUPT,
                        "the database %s is damaged: it is another program's; restore a backup",
                        conn->db->path);
    for (int64_t step = version; step < ENGINE_STEPS && !error; step++) {
        char sql[64];
        snprintf(sql, sizeof sql, "PRAGMA user_version = %lld", (long long)step + 1);
        error = engine_exec(conn, "BEGIN IMMEDIATE");
        if (!error) error = engine_exec(conn, engine_steps[step]);
        if (!error) error = engine_exec(conn, sql);
        if (!error) error = engine_exec(conn, "COMMIT");
        if (error) {
            cal_fail(err, error, "cannot bring the database to schema version %lld: %s",
                     (long long)step + 1, conn->why);
            if (!sqlite3_get_autocommit(conn->sqlite)) engine_exec(conn, "ROLLBACK");
        }
    }
    if (!error) *ret_from = (uint32_t)version;
    return error;
}

/* A commit whose flush failed is rolled back, but its frames stand in the log, whole, and a
 * recovery would take them for committed. The next transaction begins where they do: writing the
 * version anew, which is there already, makes one of a single page, and the frames behind it no
 * longer follow from what is before them. */
int engine_settle(cal_engine_conn *conn) {
    int64_t version = 0;
    char sql[64];
    int error = engine_number(conn, "PRAGMA user_version", &version);
    snprintf(sql, sizeof sql, "PRAGMA user_version = %lld", (long long)version);
    return error ? error : engine_exec(conn, sql);
}

int engine_checkpoint(cal_engine_conn *conn, bool truncate, cal_engine_checkpoint *ret_result) {
    int log = 0, moved = 0;
    int mode = truncate ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE;
    int error =
        engine_error(conn, sqlite3_wal_checkpoint_v2(conn->sqlite, "main", mode, &log, &moved));
    if (error) return error;
    ret_result->log_pages = log > 0 ? (uint64_t)log : 0;
    ret_result->moved_pages = moved > 0 ? (uint64_t)moved : 0;
    return 0;
}

static int engine_copy_pages(cal_engine_conn *conn, sqlite3 *target, cal_progress progress,
                             void *user) {
    sqlite3_backup *backup = sqlite3_backup_init(target, "main", conn->sqlite, "main");
    if (!backup) {
        snprintf(conn->why, sizeof conn->why, "%s", sqlite3_errmsg(target));
        return CAL_EINTERNAL;
    }
    int rc = SQLITE_OK;
    while (rc == SQLITE_OK) {
        rc = sqlite3_backup_step(backup, ENGINE_COPY_PAGES);
        uint64_t total = (uint64_t)sqlite3_backup_pagecount(backup);
        if (progress) progress(user, total - (uint64_t)sqlite3_backup_remaining(backup), total);
    }
    int end = sqlite3_backup_finish(backup);
    if (rc == SQLITE_DONE) rc = end;
    if (rc == SQLITE_OK) return 0;
    snprintf(conn->why, sizeof conn->why, "%s", sqlite3_errstr(rc));
    if ((rc & 0xff) == SQLITE_FULL) return CAL_EFULL;
    return (rc & 0xff) == SQLITE_IOERR ? CAL_EIO : engine_error(conn, rc);
}

int engine_copy(cal_engine_conn *conn, const char *path, cal_progress progress, void *user,
                cal_error *err) {
    sqlite3 *target = NULL;
    int rc = 0;
    int error =
        engine_open(conn->db, path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &target, &rc);
    if (error)
        return cal_fail(err, error, "cannot create the copy %s: %s", path, sqlite3_errstr(rc));
    sqlite3_exec(target, "PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY", NULL, NULL, NULL);
    /* The read transaction spans all steps: one moment is copied, and no writer makes it start
     * again. */
    error = engine_exec(conn, "BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1");
    if (!error) error = engine_copy_pages(conn, target, progress, user);
    if (!sqlite3_get_autocommit(conn->sqlite)) {
        char why[ENGINE_WHY_MAX];
        memcpy(why, conn->why, sizeof why);
        engine_exec(conn, "ROLLBACK");
        memcpy(conn->why, why, sizeof why);
    }
    sqlite3_close(target);
    if (error) return cal_fail(err, error, "cannot copy the database to %s: %s", path, conn->why);
    return 0;
}

/* Each row's first column is a finding; `clean` is the one that is none. */
static int engine_findings(cal_engine_conn *conn, const char *sql, const char *clean,
                           const char *prefix, cal_engine_report report, void *user,
                           uint32_t *count) {
    sqlite3_stmt *stmt = NULL;
    char line[512];
    int rc = sqlite3_prepare_v2(conn->sqlite, sql, -1, &stmt, NULL);
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(stmt);
        if (rc != SQLITE_ROW) break;
        const char *text = (const char *)sqlite3_column_text(stmt, 0);
        if (!text || (clean && strcmp(text, clean) == 0)) continue;
        if ((*count)++ < ENGINE_FINDINGS_MAX && report) {
            snprintf(line, sizeof line, "%s%s", prefix, text);
            for (char *at = line; *at; at++) {
                if (*at == '\n') *at = ' ';
            }
            report(user, line);
        }
    }
    int error = rc == SQLITE_DONE ? 0 : engine_error(conn, rc);
    sqlite3_finalize(stmt);
    return error;
}

int engine_verify(cal_engine_conn *conn, cal_engine_report report, void *user, cal_error *err) {
    uint32_t count = 0;
    /* The page check reads the database file alone. After a crash that file may hold torn pages
     * whose whole copies are in the log, so the log is moved first; while a snapshot keeps part of
     * it back, only the walk, which reads through the log, says the truth. */
    cal_engine_checkpoint log = {0};
    int error = engine_checkpoint(conn, false, &log);
    if (!error && log.moved_pages >= log.log_pages)
        error = engine_findings(conn, "PRAGMA cipher_integrity_check", NULL,
                                "page authentication: ", report, user, &count);
    if (!error)
        error = engine_findings(conn, "PRAGMA integrity_check(100)", "ok", "structure: ", report,
                                user, &count);
    if (error == CAL_ECORRUPT) {
        char line[ENGINE_WHY_MAX + 64];
        snprintf(line, sizeof line, "the walk over the database stopped: %s", conn->why);
        if (report) report(user, line);
        count++;
        error = 0;
    }
    if (error) return cal_fail(err, error, "cannot verify the database: %s", conn->why);
    if (count)
        return cal_fail(err, CAL_ECORRUPT, "the database has %u findings: restore a backup", count);
    return 0;
}
