/* Opening, closing, and the figures of a store.
 *
 * A folder holds `store.db` (and SQLite's log beside it), `key.json` and `lock`. Creation makes the
 * database under another name and key.json, and gives the database its name last: a folder with
 * store.db is a whole store, one without was never used, and creating again there is safe. The lock
 * file is held from before the first look at the folder until everything is closed. */
#include "store/internal.h"

#include "base/log.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

int store_note(cal_store *store, int error) {
    if (error != CAL_ECORRUPT) return error;
    pthread_mutex_lock(&store->stats_mutex);
    bool first = store->stats.damaged++ == 0;
    pthread_mutex_unlock(&store->stats_mutex);
    if (first)
        cal_log(CAL_LOG_ERROR, "store", "damage met in %s: run a check and restore a backup",
                store->folder);
    return error;
}

int store_path(const char *folder, const char *name, char ret_path[STORE_PATH_MAX]) {
    int len = snprintf(ret_path, STORE_PATH_MAX, "%s/%s", folder, name);
    return len < STORE_PATH_MAX ? 0 : CAL_EINVAL;
}

static const cal_os *store_os(const cal_store_options *options) {
    return options->os ? options->os : cal_os_posix();
}

int store_exists(const cal_os *os, const char *folder, const char *name, bool *ret_exists,
                 cal_error *err) {
    char path[STORE_PATH_MAX];
    cal_os_stat stat;
    int error = store_path(folder, name, path);
    if (error) return cal_fail(err, error, "the path of the folder %.60s... is too long", folder);
    error = os->stat(os->user, path, &stat);
    if (error && error != CAL_ENOTFOUND)
        return cal_fail(err, error, "cannot look at %s: %s", path, cal_error_text(error));
    *ret_exists = !error;
    return 0;
}

int store_lock(const cal_os *os, const char *folder, cal_os_file **ret_lock, cal_error *err) {
    char path[STORE_PATH_MAX];
    int error = store_path(folder, STORE_LOCK, path);
    if (error) return cal_fail(err, error, "the path of the folder %.60s... is too long", folder);
    cal_os_file *lock;
    error = os->open(os->user, path, CAL_OS_WRITE | CAL_OS_CREATE, &lock);
    if (error) return cal_fail(err, error, "cannot open %s: %s", path, cal_error_text(error));
    error = os->lock(lock);
    if (error) {
        os->close(lock);
        if (error == CAL_EBUSY)
            return cal_fail(err, error, "%s is in use by another process: stop that one first",
                            folder);
        return cal_fail(err, error, "cannot lock %s: %s", path, cal_error_text(error));
    }
    *ret_lock = lock;
    return 0;
}

/* --- creating --- */

static int store_remove_new(const cal_os *os, const char *folder, cal_error *err) {
    for (const char *const *suffix = cal_engine_suffixes; *suffix; suffix++) {
        char name[64], path[STORE_PATH_MAX];
        snprintf(name, sizeof name, STORE_DATABASE_NEW "%s", *suffix);
        int error = store_path(folder, name, path);
        if (!error) error = os->remove(os->user, path);
        if (error && error != CAL_ENOTFOUND)
            return cal_fail(err, error, "cannot remove %s: %s", path, cal_error_text(error));
    }
    return 0;
}

static int store_build(const cal_os *os, const char *path, const cal_secret *key, cal_error *err) {
    const cal_engine *engine = cal_engine_sqlcipher();
    cal_engine_config config = {.os = os,
                                .path = path,
                                .key = key,
                                .sync_full = true,
                                .cache_kib = STORE_CACHE_KIB_DEFAULT};
    cal_engine_db *db;
    cal_engine_conn *conn;
    int error = engine->attach(&config, &db, err);
    if (error) return error;
    error = engine->connect(db, CAL_ENGINE_WRITER, &conn, err);
    if (!error) {
        uint32_t from;
        error = engine->migrate(conn, true, &from, err);
        engine->disconnect(
            conn); /* the last connection moves the log into the file and removes it */
    }
    engine->detach(db);
    return error;
}

/* The last steps of a new store or copy: the key file, then the database's name. */
int store_publish(const cal_os *os, const char *folder, cal_slice key_json, cal_error *err) {
    char from[STORE_PATH_MAX], to[STORE_PATH_MAX], key_path[STORE_PATH_MAX];
    int error = store_path(folder, STORE_DATABASE_NEW, from);
    if (!error) error = store_path(folder, STORE_DATABASE, to);
    if (!error) error = store_path(folder, STORE_KEY, key_path);
    if (error) return cal_fail(err, error, "the path of the folder %.60s... is too long", folder);
    error = cal_os_write_file(os, key_path, key_json, err);
    if (error) return error;
    error = os->rename(os->user, from, to);
    if (!error) error = os->sync_dir(os->user, folder);
    if (error)
        return cal_fail(err, error, "cannot give %s its name: %s", to, cal_error_text(error));
    return 0;
}

static int store_create_locked(const cal_os *os, const cal_store_options *options, cal_error *err) {
    bool database = false, key_file = false, unfinished = false;
    int error = store_exists(os, options->folder, STORE_DATABASE, &database, err);
    if (!error) error = store_exists(os, options->folder, STORE_KEY, &key_file, err);
    if (!error) error = store_exists(os, options->folder, STORE_DATABASE_NEW, &unfinished, err);
    if (error) return error;
    if (database || (key_file && !unfinished))
        return cal_fail(err, CAL_EEXISTS, "%s already holds a store: choose another folder",
                        options->folder);
    error = store_remove_new(os, options->folder, err);
    if (error) return error;

    char path[STORE_PATH_MAX];
    store_path(options->folder, STORE_DATABASE_NEW, path);
    cal_secret key;
    cal_buffer json;
    cal_buffer_init(&json, 4096);
    error = key_create(os, options->key, &key, &json, err);
    if (!error) error = store_build(os, path, &key, err);
    if (!error) error = store_publish(os, options->folder, cal_buffer_slice(&json), err);
    cal_secret_wipe(&key);
    cal_buffer_deinit(&json);
    return error;
}

int cal_store_create(const cal_store_options *options, cal_error *err) {
    const cal_os *os = store_os(options);
    if (cal_crypto_init())
        return cal_fail(err, CAL_EINTERNAL, "the cryptographic libraries refuse to start");
    cal_os_file *lock;
    int error = store_lock(os, options->folder, &lock, err);
    if (error) return error;
    error = store_create_locked(os, options, err);
    os->close(lock);
    return error;
}

/* --- opening --- */

static int store_find(const cal_os *os, const char *folder, cal_error *err) {
    cal_os_stat stat;
    bool database = false, key = false;
    int error = os->stat(os->user, folder, &stat);
    if (error) return cal_fail(err, error, "the folder %s: %s", folder, cal_error_text(error));
    error = store_exists(os, folder, STORE_DATABASE, &database, err);
    if (!error) error = store_exists(os, folder, STORE_KEY, &key, err);
    if (error) return error;
    if (!database)
        return cal_fail(err, CAL_ENOTFOUND, "%s holds no store: create one first", folder);
    if (!key) {
        return cal_fail(err, CAL_ECORRUPT,
                        "%s has a database but no %s: put the key file back from a backup", folder,
                        STORE_KEY);
    }
    return 0;
}

static int store_attach(cal_store *store, const cal_store_options *options, cal_error *err) {
    char path[STORE_PATH_MAX];
    store_path(store->folder, STORE_DATABASE, path);
    cal_secret key;
    int error = key_open(store->os, store->folder, options->key, &key, err);
    if (error) return error;
    cal_engine_config config = {
        .os = store->os,
        .path = path,
        .key = &key,
        .sync_full = options->durability == CAL_DURABLE_FULL,
        .cache_kib = options->cache_kib ? options->cache_kib : STORE_CACHE_KIB_DEFAULT,
    };
    error = store->engine->attach(&config, &store->db, err);
    cal_secret_wipe(&key);
    if (!error)
        error = store->engine->connect(store->db, CAL_ENGINE_WRITER, &store->writer_conn, err);
    uint32_t from = store->engine->version;
    if (!error) error = store->engine->migrate(store->writer_conn, false, &from, err);
    if (!error && from < store->engine->version) {
        cal_log(CAL_LOG_INFO, "store", "schema of %s brought from version %u to %u", store->folder,
                from, store->engine->version);
    }
    return error;
}

static void store_free(cal_store *store) {
    store_writer_stop(store);
    store_caretaker_stop(store);
    for (uint32_t i = 0; i < store->idle_count; i++) store->engine->disconnect(store->idle[i]);
    store->engine->disconnect(
        store->writer_conn); /* the last one moves the log into the database */
    store->engine->detach(store->db);
    if (store->lock) store->os->close(store->lock);
    pthread_mutex_destroy(&store->mutex);
    pthread_cond_destroy(&store->work);
    pthread_mutex_destroy(&store->care_mutex);
    pthread_cond_destroy(&store->care_work);
    pthread_mutex_destroy(&store->write_gate);
    pthread_mutex_destroy(&store->log_gate);
    pthread_mutex_destroy(&store->reader_mutex);
    pthread_mutex_destroy(&store->stats_mutex);
    free(store->folder);
    free(store->key_file);
    free(store);
}

static cal_store *store_new(const cal_store_options *options) {
    cal_store *store = calloc(1, sizeof *store);
    if (!store) return NULL;
    store->os = store_os(options);
    store->engine = cal_engine_sqlcipher();
    store->stepped = options->stepped;
    store->due = options->due;
    store->due_user = options->due_user;
    store->inline_checkpoints = store->stepped || store->os != cal_os_posix();
    store->readers_max = options->readers_max ? options->readers_max : STORE_READERS_DEFAULT;
    if (store->readers_max > STORE_READERS_LIMIT) store->readers_max = STORE_READERS_LIMIT;
    cal_list_init(&store->queue);
    cal_list_init(&store->answers);
    pthread_mutex_init(&store->mutex, NULL);
    pthread_cond_init(&store->work, NULL);
    pthread_mutex_init(&store->care_mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&store->care_work, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&store->write_gate, NULL);
    pthread_mutex_init(&store->log_gate, NULL);
    pthread_mutex_init(&store->reader_mutex, NULL);
    pthread_mutex_init(&store->stats_mutex, NULL);
    store->folder = strdup(options->folder);
    store->key_kind = options->key->kind;
    if (options->key->kind == CAL_KEY_FILE) store->key_file = strdup(options->key->text);
    if (!store->folder || (options->key->kind == CAL_KEY_FILE && !store->key_file)) {
        store_free(store);
        return NULL;
    }
    return store;
}

int cal_store_open(const cal_store_options *options, cal_store **ret_store, cal_error *err) {
    const cal_os *os = store_os(options);
    if (cal_crypto_init())
        return cal_fail(err, CAL_EINTERNAL, "the cryptographic libraries refuse to start");
    int error = store_find(os, options->folder, err);
    if (error == CAL_ENOTFOUND) return error; /* leaves nothing behind, not even a lock file */
    cal_store *store = store_new(options);
    if (!store) return cal_fail(err, CAL_ENOMEM, "no memory to open the store");
    error = store_lock(os, options->folder, &store->lock, err);
    if (!error) error = store_find(os, options->folder, err);
    if (!error) error = store_attach(store, options, err);
    if (!error && (store_writer_start(store) || store_caretaker_start(store)))
        error = cal_fail(err, CAL_ENOMEM, "cannot start the threads of the store");
    if (error) {
        store_free(store);
        return error;
    }
    *ret_store = store;
    return 0;
}

void cal_store_close(cal_store *store) {
    if (!store) return;
    assert(store->readers_used == 0);
    store_free(store);
}

/* --- figures --- */

static uint64_t store_file_size(const cal_store *store, const char *suffix) {
    char name[64], path[STORE_PATH_MAX];
    cal_os_stat stat;
    snprintf(name, sizeof name, STORE_DATABASE "%s", suffix);
    if (store_path(store->folder, name, path) || store->os->stat(store->os->user, path, &stat))
        return 0;
    return stat.size;
}

void cal_store_stats_get(cal_store *store, cal_store_stats *ret_stats) {
    pthread_mutex_lock(&store->stats_mutex);
    *ret_stats = store->stats;
    pthread_mutex_unlock(&store->stats_mutex);
    ret_stats->bytes = 0;
    for (const char *const *suffix = cal_engine_suffixes; *suffix; suffix++)
        ret_stats->bytes += store_file_size(store, *suffix);
}

int cal_store_health(cal_store *store) {
    pthread_mutex_lock(&store->stats_mutex);
    int health = store->stats.damaged ? CAL_ECORRUPT : store->ailing;
    pthread_mutex_unlock(&store->stats_mutex);
    return health;
}
