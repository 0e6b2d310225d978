/* Contexts that this node takes no part in though it may: a row for each, which holds until they
 * are joined again (governance.md 8, "Auto-follow"; 12): include/calimero/share.h. */
#include "calimero/share.h"
#include "node/change.h"

static const char prefix[] = "node/left/";
enum { LEFT_KEY_SIZE = sizeof prefix - 1 + CAL_ID_SIZE };
static char marked[1]; /* what the ids map to */

static cal_slice row_key(const cal_context_id *id, uint8_t key[LEFT_KEY_SIZE]) {
    memcpy(key, prefix, sizeof prefix - 1);
    memcpy(key + sizeof prefix - 1, id->bytes, sizeof id->bytes);
    return cal_slice_of(key, LEFT_KEY_SIZE);
}

int node_left_open(cal_node *node) {
    cal_snapshot *snapshot;
    cal_cursor *cursor;
    cal_slice key, value;
    uint8_t end[sizeof prefix - 1];
    memcpy(end, prefix, sizeof end);
    end[sizeof end - 1]++;
    int rc = cal_store_snapshot(node->store, &snapshot);
    if (rc != 0) return rc;
    rc = cal_cursor_open(snapshot, CAL_COLUMN_NODE, cal_slice_text(prefix),
                         cal_slice_of(end, sizeof end), false, &cursor);
    if (rc == 0) {
        while ((rc = cal_cursor_next(cursor, &key, &value)) == 0)
            if (key.len != LEFT_KEY_SIZE ||
                cal_map_put(&node->left, cal_slice_of(key.data + sizeof prefix - 1, CAL_ID_SIZE),
                            marked) != 0)
                break;
        cal_cursor_free(cursor);
        rc = rc == CAL_ENOTFOUND ? 0 : rc == 0 ? CAL_ECORRUPT : rc;
    }
    cal_snapshot_free(snapshot);
    return rc;
}

void node_left_close(cal_node *node) { cal_map_deinit(&node->left); }

bool node_context_left(void *user, const cal_context_id *id) {
    cal_node *node = user;
    return cal_map_get(&node->left, cal_slice_of(id->bytes, sizeof id->bytes)) != NULL;
}

struct taking_part {
    node_change base;
    cal_context_id context;
};

static bool is_here(cal_node *node, const cal_context_id *id) {
    cal_arena arena;
    cal_context_record record;
    cal_arena_init(&arena, NODE_ARENA_MAX);
    int rc = cal_contexts_get(node->contexts, id, &arena, &record);
    cal_arena_deinit(&arena);
    return rc == 0;
}

static struct taking_part *begin(const cal_context_id *context,
                                 int (*prepare)(node_change *, cal_error *),
                                 void (*answer)(node_change *, const cal_error *),
                                 cal_simple_done done, void *user) {
    struct taking_part *part = node_change_new(sizeof *part, NULL, prepare, done, user);
    if (!part) return NULL;
    part->context = *context;
    part->base.rows_only = true;
    part->base.answer = answer;
    return part;
}

static int unknown(cal_error *err) {
    return cal_fail(err, CAL_ENOTFOUND,
                    "no such context on this node: join its namespace first, or wait until the "
                    "namespace's history is here");
}

/* --- leaving --- */

static int prepare_leave(node_change *base, cal_error *err) {
    struct taking_part *part = CAL_CONTAINER_OF(base, struct taking_part, base);
    cal_node *node = base->operation.node;
    uint8_t key[LEFT_KEY_SIZE];
    if (!is_here(node, &part->context)) return unknown(err);
    cal_batch *batch = cal_batch_new();
    if (batch && cal_batch_put(batch, CAL_COLUMN_NODE, row_key(&part->context, key),
                               cal_slice_text("1")) == 0) {
        base->commit.batch = batch;
        return 0;
    }
    cal_batch_free(batch);
    return cal_fail(err, CAL_ENOMEM, "out of memory");
}

static void answer_leave(node_change *base, const cal_error *err) {
    struct taking_part *part = CAL_CONTAINER_OF(base, struct taking_part, base);
    cal_node *node = base->operation.node;
    cal_slice id = cal_slice_of(part->context.bytes, sizeof part->context.bytes);
    if (!err && cal_map_put(&node->left, id, marked) != 0)
        cal_log(CAL_LOG_WARN, "node", "no memory to leave a context before the next start");
    if (!err) {
        cal_sync_context(node->sync, &part->context, false);
        node_hear_context(node, &part->context, false);
    }
    base->done(base->user, err);
}

void cal_context_leave(cal_node *node, const cal_context_id *context, cal_simple_done done,
                       void *user) {
    struct taking_part *part = begin(context, prepare_leave, answer_leave, done, user);
    if (part) node_change_run(node, &part->base);
}

/* --- joining --- */

static int prepare_join(node_change *base, cal_error *err) {
    struct taking_part *part = CAL_CONTAINER_OF(base, struct taking_part, base);
    cal_node *node = base->operation.node;
    cal_account_id account;
    uint8_t key[LEFT_KEY_SIZE];
    int rc = gov_context_read(node->gov, &part->context, &account, err);
    if (rc == CAL_ENOTFOUND) return is_here(node, &part->context) ? 0 : unknown(err);
    if (rc != 0) return rc;
    if (!node_context_left(node, &part->context)) return 0;
    cal_batch *batch = cal_batch_new();
    if (batch && cal_batch_delete(batch, CAL_COLUMN_NODE, row_key(&part->context, key)) == 0) {
        base->commit.batch = batch;
        return 0;
    }
    cal_batch_free(batch);
    return cal_fail(err, CAL_ENOMEM, "out of memory");
}

static void answer_join(node_change *base, const cal_error *err) {
    struct taking_part *part = CAL_CONTAINER_OF(base, struct taking_part, base);
    cal_node *node = base->operation.node;
    if (!err) {
        cal_map_remove(&node->left, cal_slice_of(part->context.bytes, sizeof part->context.bytes));
        cal_sync_follow(node->sync, &part->context);
    }
    base->done(base->user, err);
}

void cal_context_join(cal_node *node, const cal_context_id *context, cal_simple_done done,
                      void *user) {
    struct taking_part *part = begin(context, prepare_join, answer_join, done, user);
    if (part) node_change_run(node, &part->base);
}

int cal_context_join_wait(cal_node *node, const cal_context_id *context, cal_error *err) {
    node_wait wait;
    if (!node_wait_begin(&wait, node, err)) return CAL_ESTATE;
    cal_context_join(node, context, node_wait_done, &wait);
    return node_wait_end(&wait);
}
