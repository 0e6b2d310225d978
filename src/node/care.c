/* Backup of a running node, change of the master key, and the walk of a stopped one:
 * include/calimero/maintenance.h. Blocking; the caller's thread. */
#include <stdio.h>

#include "calimero/maintenance.h"
#include "node/internal.h"

/* A file beside the store that a started node needs: copied when it is there. */
static int copy_beside(const cal_os *os, const char *home, const char *folder, const char *name,
                       cal_error *err) {
    enum { FILE_MAX = 1024 * 1024 };
    char from[NODE_PATH_MAX], to[NODE_PATH_MAX];
    if ((size_t)snprintf(from, sizeof from, "%s/%s", home, name) >= sizeof from ||
        (size_t)snprintf(to, sizeof to, "%s/%s", folder, name) >= sizeof to)
        return cal_fail(err, CAL_EINVAL, "the backup's path is too long");
    cal_os_stat stat;
    int rc = os->stat(os->user, from, &stat);
    if (rc == CAL_ENOTFOUND) return 0;
    cal_buffer content;
    cal_buffer_init(&content, FILE_MAX);
    rc = cal_os_read_file(os, from, FILE_MAX, &content, err);
    if (rc == 0) rc = cal_os_write_file(os, to, cal_buffer_slice(&content), err);
    cal_buffer_deinit(&content);
    return rc;
}

int cal_node_backup(cal_node *node, const char *folder, cal_maintenance_progress progress,
                    void *user, cal_error *err) {
    char data[NODE_PATH_MAX];
    if ((size_t)snprintf(data, sizeof data, "%s/data", folder) >= sizeof data)
        return cal_fail(err, CAL_EINVAL, "the backup's path is too long");
    int rc = cal_os_make_dirs(node->os, folder, err);
    if (rc == 0) rc = cal_store_backup(node->store, data, progress, user, err);
    /* The master key stays where it is: a backup that carried it would be no safer than plain text.
     */
    if (rc == 0) rc = copy_beside(node->os, node->home, folder, "config.toml", err);
    return rc;
}

int cal_node_rekey(const cal_node_options *options, const cal_node_key *new_key, cal_error *err) {
    char folder[NODE_PATH_MAX], key_path[NODE_PATH_MAX], new_path[NODE_PATH_MAX];
    cal_key_source key, replacement;
    cal_store_options store, unused;
    cal_node_options wanted = *options;
    wanted.key = *new_key;
    node_world home;
    node_real_home(&home);
    int rc = cal_crypto_init();
    if (rc != 0) return cal_fail(err, rc, "the cryptographic libraries refuse to start");
    rc = node_store_options(&home, options, folder, key_path, &key, &store, err);
    if (rc == 0)
        rc = node_store_options(&home, &wanted, folder, new_path, &replacement, &unused, err);
    return rc == 0 ? cal_store_rekey(&store, &replacement, err) : rc;
}

int cal_node_check(const cal_node_options *options, void (*report)(void *user, const char *finding),
                   void *user, cal_check_summary *ret_summary, cal_error *err) {
    cal_store *store = NULL;
    node_world home;
    node_real_home(&home);
    int rc = node_open_store(&home, options, &store, err);
    if (rc != 0) return rc;
    rc = node_check_store(store, home.os, report, user, ret_summary, err);
    cal_store_close(store);
    return rc;
}
