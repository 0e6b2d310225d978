/* Care of a whole store: the running copy, verification, a new master key. Blocking; from a worker,
 * not from the loop. */
#include "store/internal.h"

#include <stdio.h>

/* --- copies --- */

static int care_copy_note(cal_store *store, const char *folder, cal_error *err) {
    char path[STORE_PATH_MAX];
    cal_buffer text;
    cal_buffer_init(&text, 2 * STORE_PATH_MAX);
    cal_buffer_printf(&text, "A copy of the store in %s.\nIt opens with the same master key",
                      store->folder);
    if (store->key_file)
        cal_buffer_printf(&text, ", the one in the file %s, which is not part of this copy",
                          store->key_file);
    cal_buffer_append_text(&text, ".\n");
    int error = text.error ? text.error : store_path(folder, "README.txt", path);
    if (!error)
        error = cal_os_write_file(store->os, path, cal_buffer_slice(&text), err);
    else
        cal_fail(err, error, "cannot describe the copy in %s", folder);
    cal_buffer_deinit(&text);
    return error;
}

/* The lock keeps a second copy from going into the same folder, as it keeps a second process from a
 * store. */
static int care_copy_target(const cal_os *os, const char *folder, cal_os_file **ret_lock,
                            cal_error *err) {
    static const char *const taken[] = {STORE_DATABASE, STORE_KEY, STORE_DATABASE_NEW};
    int error = cal_os_make_dirs(os, folder, err);
    if (!error) error = store_lock(os, folder, ret_lock, err);
    if (error) return error;
    for (size_t i = 0; i < sizeof taken / sizeof *taken && !error; i++) {
        bool exists = false;
        error = store_exists(os, folder, taken[i], &exists, err);
        if (!error && exists)
            error = cal_fail(err, CAL_EEXISTS, "%s already holds a %s: choose an empty folder",
                             folder, taken[i]);
    }
    if (error) os->close(*ret_lock);
    return error;
}

/* The copy itself, into the locked folder. */
static int care_copy(cal_store *store, const char *folder, const char *path, cal_progress progress,
                     void *user, cal_error *err) {
    const cal_os *os = store->os;
    char key_path[STORE_PATH_MAX];
    store_path(store->folder, STORE_KEY, key_path); /* it was not too long for opening the store */
    /* Not one of the pool's readers: a long copy must not make calls wait for theirs. */
    cal_engine_conn *conn;
    int error = store->engine->connect(store->db, CAL_ENGINE_READER, &conn, err);
    if (error) return store_note(store, error);
    error = store_note(store, store->engine->copy(conn, path, progress, user, err));
    store->engine->disconnect(conn);
    cal_buffer key;
    cal_buffer_init(&key, STORE_PATH_MAX);
    if (!error) error = cal_os_read_file(os, key_path, STORE_PATH_MAX, &key, err);
    if (!error) error = care_copy_note(store, folder, err);
    if (!error)
        error = store_publish(os, folder, cal_buffer_slice(&key),
                              err); /* last: with it the copy is whole */
    cal_buffer_deinit(&key);
    return error;
}

int cal_store_backup(cal_store *store, const char *folder, cal_progress progress, void *user,
                     cal_error *err) {
    const cal_os *os = store->os;
    char path[STORE_PATH_MAX];
    if (store_path(folder, STORE_DATABASE_NEW, path))
        return cal_fail(err, CAL_EINVAL, "the path of the folder %.60s... is too long", folder);
    cal_os_file *lock;
    int error = care_copy_target(os, folder, &lock, err);
    if (error) return error;
    error = care_copy(store, folder, path, progress, user, err);
    if (error) os->remove(os->user, path);
    os->close(lock);
    return error;
}

/* --- verification --- */

int cal_store_verify(cal_store *store, void (*report)(void *user, const char *finding), void *user,
                     cal_error *err) {
    cal_engine_conn *conn;
    int error = store->engine->connect(store->db, CAL_ENGINE_READER, &conn, err);
    if (error == CAL_ECORRUPT && report) report(user, "the database does not open");
    if (error) return store_note(store, error);
    /* Pages are read from the file itself: nobody may be moving pages into it. Commits go on, into
     * the log. */
    pthread_mutex_lock(&store->log_gate);
    error = store->engine->verify(conn, report, user, err);
    pthread_mutex_unlock(&store->log_gate);
    store->engine->disconnect(conn);
    return store_note(store, error);
}

/* --- the master key --- */

int cal_store_rekey(const cal_store_options *options, const struct cal_key_source *new_key,
                    cal_error *err) {
    const cal_os *os = options->os ? options->os : cal_os_posix();
    if (cal_crypto_init())
        return cal_fail(err, CAL_EINTERNAL, "the cryptographic libraries refuse to start");
    char path[STORE_PATH_MAX];
    int error = store_path(options->folder, STORE_KEY, path);
    if (error)
        return cal_fail(err, error, "the path of the folder %.60s... is too long", options->folder);
    bool exists = false;
    error = store_exists(os, options->folder, STORE_KEY, &exists, err);
    if (error) return error;
    if (!exists)
        return cal_fail(err, CAL_ENOTFOUND, "%s holds no store: create one first", options->folder);
    cal_os_file *lock;
    error = store_lock(os, options->folder, &lock, err);
    if (error) return error;
    cal_secret key;
    cal_buffer json;
    cal_buffer_init(&json, STORE_PATH_MAX);
    error = key_open(os, options->folder, options->key, &key, err);
    if (!error) error = key_wrap(os, new_key, &key, &json, err);
    if (!error) error = cal_os_write_file(os, path, cal_buffer_slice(&json), err);
    cal_secret_wipe(&key);
    cal_buffer_deinit(&json);
    os->close(lock);
    return error;
}
