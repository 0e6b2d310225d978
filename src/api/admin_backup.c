/* Copying the running node on a thread of libuv's pool, see admin_backup.h.
 *
 * The copy reads a snapshot: calls go on meanwhile. The exchange stays valid until it is answered,
 * whether or not its client waits, so the copy is always finished. One at a time in a process: a
 * second only makes both slower. */
#include "api/admin_backup.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "api/api.h"

enum { BACKUP_PATH_MAX = 4096 };

typedef struct backup {
    uv_work_t work;
    http_exchange *exchange;
    cal_node *node;
    int error;
    cal_error err;
    char folder[BACKUP_PATH_MAX];
} backup;

static atomic_flag busy = ATOMIC_FLAG_INIT;

static void copy(uv_work_t *work) {
    backup *b = work->data;
    b->error = cal_node_backup(b->node, b->folder, NULL, NULL, &b->err);
}

static void copied(uv_work_t *work, int status) {
    backup *b = work->data;
    atomic_flag_clear(&busy);
    if (status != 0)
        json_reply_code(b->exchange, CAL_ECANCELED);
    else if (b->error != 0)
        json_reply_refusal(b->exchange, &b->err);
    else
        json_reply_data_null(b->exchange);
    free(b);
}

static void start(http_exchange *exchange, const char *path) {
    backup *b = calloc(1, sizeof *b);
    if (!b) {
        json_reply_code(exchange, CAL_ENOMEM);
        return;
    }
    if (atomic_flag_test_and_set(&busy)) {
        free(b);
        json_reply_error(exchange, 503, "another backup is being made: wait for it");
        return;
    }
    b->exchange = exchange;
    b->node = api_node(exchange);
    b->work.data = b;
    snprintf(b->folder, sizeof b->folder, "%s", path);
    if (uv_queue_work(cal_node_loop(b->node), &b->work, copy, copied) == 0) return;
    atomic_flag_clear(&busy);
    free(b);
    json_reply_code(exchange, CAL_EINTERNAL);
}

void admin_backup(http_exchange *exchange) {
    json_in in;
    if (!json_open(&in, exchange, JSON_VALIDATED, false)) return;
    const char *path = json_text(&in, json_top(&in), "path", true);
    json_check_length(&in, "path", path, BACKUP_PATH_MAX - 1);
    if (path && path[0] != '/')
        json_invalid(&in, "Field 'path' has invalid format: path must be absolute");
    if (!json_ok(&in)) return;
    char folder[BACKUP_PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    json_close(&in);
    start(exchange, folder);
}
