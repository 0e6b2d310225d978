/* Rows of the node's own: aliases, and the small rows of the program above (node.h). Column ALIAS:
 * kind byte || name -> id. */
#include <stdio.h>
#include <stdlib.h>

#include "node/internal.h"

enum { ALIAS_NAME_MAX = 50, ROW_KEY_MAX = 256, ROW_VALUE_MAX = 1024 * 1024 };

static int check_name(const char *name, cal_error *err) {
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t len = strlen(name);
    if (len == 0 || len > ALIAS_NAME_MAX || strspn(name, allowed) != len)
        return cal_fail(err, CAL_EINVAL, "an alias has 1 to %d characters of A-Z a-z 0-9 . _ -",
                        ALIAS_NAME_MAX);
    return 0;
}

static cal_slice alias_key(cal_alias_kind kind, const char *name,
                           uint8_t buffer[1 + ALIAS_NAME_MAX]) {
    size_t len = strlen(name);
    buffer[0] = (uint8_t)kind;
    memcpy(buffer + 1, name, len);
    return cal_slice_of(buffer, len + 1);
}

/* A batch on its way to the disk, and who waits for it. */
struct row_operation {
    node_operation operation;
    cal_task done_task;
    cal_batch *batch;
    bool must_be_new;  /* the key may not exist */
    cal_list new_link; /* in cal_node.new_rows while it is on its way */
    cal_column column;
    uint8_t key[ROW_KEY_MAX + 8];
    size_t key_len;
    int result;
    cal_simple_done done;
    void *user;
};

static void row_answer(struct row_operation *op, int code, const char *message) {
    cal_node *node = op->operation.node;
    cal_list_remove(&op->new_link);
    cal_error err;
    if (code != 0) cal_fail(&err, code, "%s", message);
    if (op->done) op->done(op->user, code == 0 ? NULL : &err);
    cal_batch_free(op->batch);
    free(op);
    node_end(node);
}

static void row_durable(cal_task *task) {
    struct row_operation *op = CAL_CONTAINER_OF(task, struct row_operation, done_task);
    row_answer(op, op->result, cal_error_text(op->result));
}

static void row_stored(void *user, int result) { /* the store's writer thread */
    struct row_operation *op = user;
    op->result = result;
    op->done_task.run = row_durable;
    node_post(op->operation.node, &op->done_task);
}

/* Whether another operation is writing the same new row: not durable yet, but taken. */
static bool on_its_way(const cal_node *node, const struct row_operation *op) {
    for (const cal_list *at = node->new_rows.next; at != &node->new_rows; at = at->next) {
        const struct row_operation *other =
            CAL_CONTAINER_OF((cal_list *)(uintptr_t)at, struct row_operation, new_link);
        if (other->column == op->column && other->key_len == op->key_len &&
            memcmp(other->key, op->key, op->key_len) == 0)
            return true;
    }
    return false;
}

static void start_row(node_operation *operation) {
    struct row_operation *op = CAL_CONTAINER_OF(operation, struct row_operation, operation);
    if (op->must_be_new) {
        int found = cal_store_get(operation->node->store, op->column,
                                  cal_slice_of(op->key, op->key_len), NULL);
        if (found == CAL_ENOTFOUND && on_its_way(operation->node, op)) found = 0;
        if (found != CAL_ENOTFOUND) {
            int code = found == 0 ? CAL_EEXISTS : found;
            row_answer(op, code, found == 0 ? "alias already exists" : cal_error_text(found));
            return;
        }
    }
    if (op->must_be_new) cal_list_push(&operation->node->new_rows, &op->new_link);
    cal_batch *batch = op->batch;
    op->batch = NULL;
    cal_store_submit(operation->node->store, batch, row_stored, op);
}

/* Starts writing one row (value NULL: removing it). */
static void write_row(cal_node *node, cal_column column, cal_slice key, const cal_slice *value,
                      bool must_be_new, cal_simple_done done, void *user) {
    struct row_operation *op = calloc(1, sizeof *op);
    cal_batch *batch = cal_batch_new();
    if (!op || !batch || key.len > sizeof op->key) {
        free(op);
        cal_batch_free(batch);
        cal_error err;
        cal_fail(&err, CAL_ENOMEM, "out of memory");
        if (done) done(user, &err);
        return;
    }
    *op = (struct row_operation){.batch = batch,
                                 .must_be_new = must_be_new,
                                 .column = column,
                                 .key_len = key.len,
                                 .done = done,
                                 .user = user};
    memcpy(op->key, key.data, key.len);
    cal_list_init(&op->new_link);
    if (value)
        cal_batch_put(batch, column, key, *value);
    else
        cal_batch_delete(batch, column, key);
    node_begin(node, &op->operation, start_row);
}

void cal_alias_create(cal_node *node, cal_alias_kind kind, const char *name,
                      const uint8_t id[CAL_ID_SIZE], cal_simple_done done, void *user) {
    cal_error err;
    if (check_name(name, &err) != 0) {
        done(user, &err);
        return;
    }
    uint8_t key[1 + ALIAS_NAME_MAX];
    cal_slice value = cal_slice_of(id, CAL_ID_SIZE);
    write_row(node, CAL_COLUMN_ALIAS, alias_key(kind, name, key), &value, true, done, user);
}

void cal_alias_delete(cal_node *node, cal_alias_kind kind, const char *name, cal_simple_done done,
                      void *user) {
    if (check_name(name, NULL) != 0) { /* no such alias can be: deleting is idempotent */
        done(user, NULL);
        return;
    }
    uint8_t key[1 + ALIAS_NAME_MAX];
    write_row(node, CAL_COLUMN_ALIAS, alias_key(kind, name, key), NULL, false, done, user);
}

int cal_alias_lookup(cal_node *node, cal_alias_kind kind, const char *name,
                     uint8_t ret_id[CAL_ID_SIZE]) {
    if (check_name(name, NULL) != 0) return CAL_ENOTFOUND;
    uint8_t key[1 + ALIAS_NAME_MAX];
    cal_buffer value;
    cal_buffer_init(&value, CAL_ID_SIZE);
    int rc = cal_store_get(node->store, CAL_COLUMN_ALIAS, alias_key(kind, name, key), &value);
    if (rc == 0 && value.len != CAL_ID_SIZE) rc = CAL_ECORRUPT;
    if (rc == 0) memcpy(ret_id, value.data, CAL_ID_SIZE);
    cal_buffer_deinit(&value);
    return rc;
}

/* Walks the rows of a column whose key starts with prefix; the key is handed over without it,
 * NUL-terminated. */
struct row_walk {
    cal_node *node;
    cal_column column;
    cal_slice prefix;
    void (*alias)(void *user, const char *name, const uint8_t id[CAL_ID_SIZE]);
    void (*row)(void *user, const char *key, cal_slice value);
    void *user;
    int result;
};

static void hand_over(const struct row_walk *walk, cal_slice key, cal_slice value) {
    char name[ROW_KEY_MAX + 1];
    if (key.len < walk->prefix.len || key.len - walk->prefix.len > ROW_KEY_MAX) return;
    size_t len = key.len - walk->prefix.len;
    memcpy(name, key.data + walk->prefix.len, len);
    name[len] = 0;
    if (walk->row)
        walk->row(walk->user, name, value);
    else if (value.len == CAL_ID_SIZE)
        walk->alias(walk->user, name, value.data);
}

static void walk_rows(void *arg) {
    struct row_walk *walk = arg;
    cal_snapshot *snapshot = NULL;
    cal_cursor *cursor = NULL;
    cal_buffer end;
    cal_buffer_init(&end, CAL_STORE_KEY_MAX);
    cal_prefix_end(walk->prefix, &end);
    int rc = cal_store_snapshot(walk->node->store, &snapshot);
    if (rc == 0)
        rc = cal_cursor_open(snapshot, walk->column, walk->prefix, cal_buffer_slice(&end), false,
                             &cursor);
    cal_slice key, value;
    while (rc == 0 && (rc = cal_cursor_next(cursor, &key, &value)) == 0)
        hand_over(walk, key, value);
    walk->result = rc == CAL_ENOTFOUND ? 0 : rc;
    cal_cursor_free(cursor);
    cal_snapshot_free(snapshot);
    cal_buffer_deinit(&end);
}

int cal_alias_each(cal_node *node, cal_alias_kind kind,
                   void (*visit)(void *user, const char *name, const uint8_t id[CAL_ID_SIZE]),
                   void *user) {
    uint8_t prefix = (uint8_t)kind;
    struct row_walk walk = {.node = node,
                            .column = CAL_COLUMN_ALIAS,
                            .prefix = cal_slice_of(&prefix, 1),
                            .alias = visit,
                            .user = user};
    cal_node_run(node, walk_rows, &walk);
    return walk.result;
}

/* --- rows of the program above --- */

static bool row_key(const char *key, char ret_key[ROW_KEY_MAX + 8]) {
    int len = snprintf(ret_key, ROW_KEY_MAX + 8, "api/%s", key);
    return len > 0 && len <= ROW_KEY_MAX + 4;
}

int cal_node_row_get(cal_node *node, const char *key, cal_buffer *ret_value) {
    char full[ROW_KEY_MAX + 8];
    if (!row_key(key, full)) return CAL_EINVAL;
    return cal_store_get(node->store, CAL_COLUMN_NODE, cal_slice_text(full), ret_value);
}

void cal_node_row_put(cal_node *node, const char *key, cal_slice value, cal_simple_done done,
                      void *user) {
    char full[ROW_KEY_MAX + 8];
    cal_error err;
    if (!row_key(key, full) || value.len > ROW_VALUE_MAX) {
        cal_fail(&err, CAL_EINVAL, "a row's key or value is too long");
        if (done) done(user, &err);
        return;
    }
    write_row(node, CAL_COLUMN_NODE, cal_slice_text(full), value.len ? &value : NULL, false, done,
              user);
}

int cal_node_row_each(cal_node *node, const char *prefix,
                      void (*visit)(void *user, const char *key, cal_slice value), void *user) {
    char full[ROW_KEY_MAX + 8];
    if (!row_key(prefix, full)) return CAL_EINVAL;
    struct row_walk walk = {.node = node,
                            .column = CAL_COLUMN_NODE,
                            .prefix = cal_slice_text(full),
                            .row = visit,
                            .user = user};
    cal_node_run(node, walk_rows, &walk);
    return walk.result;
}
