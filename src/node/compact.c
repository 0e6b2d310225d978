/* Keeps the tables of deltas within bounds (context/compact.h), a round through all contexts every
 * interval: a slow worker looks for the next context whose table has grown too long and makes the
 * plan, then its steps take turns of that context, with a pass of the loop between two of them.
 *
 * A context of which somebody is just fetching deltas, or that is catching up itself, waits until
 * that is over, unless its table has twice what it may have. What no other member is known to have
 * stays as long as the table has not eight times as much: once it was taken away others get it from
 * trees alone, which bring less than deltas do (tree.h). */
#include <stdlib.h>

#include "context/compact.h"
#include "node/internal.h"

enum {
    ABOVE = 10000,
    KEEP = 1000,
    INTERVAL_S = 3600,
    FIRST_S = 60, /* after the start at the latest; a node that is started often compacts, too */
    UNSENT_TIMES = 8, /* of what a table may have: then that, too, goes which no other member has */
    AGAIN_S = 10,     /* when something was put off or failed */
};

typedef struct node_compaction {
    cal_task task;
    cal_node *node;
    bool busy, again;
    uint64_t due_ms;
    cal_compact_bounds bounds;
    uint32_t interval_s;
    bool started; /* of a round: `at` is the context that was looked at last */
    cal_context_id at;
    cal_hash mark; /* of its record */
    uint64_t rows; /* of its table */
    cal_hash common[CAL_SYNC_COMMON_MAX];
    int common_count; /* cal_sync_common */
    cal_compact *plan;
    cal_map seen; /* context id -> hash of the heads at which its table was short enough */
    int result;
} compaction;

static uint64_t now_ms(const cal_node *node) { return node->os->mono_ns(node->os->user) / 1000000; }

/* --- the next one: worker --- */

static int next_context(compaction *c) {
    cal_snapshot *snapshot = NULL;
    cal_cursor *cursor = NULL;
    cal_slice key, value;
    uint8_t from[CAL_ID_SIZE + 1] = {0};
    memcpy(from, c->at.bytes, CAL_ID_SIZE); /* and a 0: the next key */
    int rc = cal_store_snapshot(c->node->store, &snapshot);
    if (rc == 0)
        rc = cal_cursor_open(snapshot, CAL_COLUMN_CONTEXT,
                             cal_slice_of(from, c->started ? sizeof from : 0), (cal_slice){0},
                             false, &cursor);
    if (rc == 0) rc = cal_cursor_next(cursor, &key, &value);
    if (rc == 0 && key.len != CAL_ID_SIZE) rc = CAL_ECORRUPT;
    if (rc == 0) {
        memcpy(c->at.bytes, key.data, CAL_ID_SIZE);
        c->started = true;
        cal_sha256(value, c->mark.bytes);
    }
    cal_cursor_free(cursor);
    cal_snapshot_free(snapshot);
    return rc;
}

/* Its record has changed since its table was found short enough: something may have been added. */
static bool has_moved(const compaction *c) {
    const cal_hash *seen = cal_map_get(&c->seen, cal_slice_of(c->at.bytes, CAL_ID_SIZE));
    return !seen || memcmp(seen, &c->mark, sizeof *seen) != 0;
}

static void note_seen(compaction *c) {
    cal_slice key = cal_slice_of(c->at.bytes, CAL_ID_SIZE);
    cal_hash *copy = malloc(sizeof *copy);
    free(cal_map_remove(&c->seen, key));
    if (copy) *copy = c->mark;
    if (copy && cal_map_put(&c->seen, key, copy)) free(copy);
}

static void looked(cal_task *task);

static void look(cal_task *task) { /* worker */
    compaction *c = CAL_CONTAINER_OF(task, compaction, task);
    int rc = 0;
    c->rows = 0;
    while (rc == 0 && c->rows <= c->bounds.above && !cal_node_stopping(c->node)) {
        c->rows = 0;
        rc = next_context(c);
        if (rc == 0 && has_moved(c)) rc = cal_compact_count(c->node->store, &c->at, &c->rows);
        if (rc == 0 && c->rows > 0 && c->rows <= c->bounds.above) note_seen(c);
    }
    c->result = rc;
    task->run = looked;
    node_post(c->node, task);
}

static void planned(cal_task *task);

/* What no other member is known to have is let to stand for longer. */
static void make_plan(cal_task *task) { /* worker */
    compaction *c = CAL_CONTAINER_OF(task, compaction, task);
    cal_store *store = c->node->store;
    bool far_too_long = c->rows > UNSENT_TIMES * (uint64_t)c->bounds.above;
    int rc = 0;
    c->bounds.before = c->common_count == 0 ? 0 : UINT64_MAX;
    if (c->common_count == CAL_SYNC_ALONE_HERE || far_too_long)
        c->bounds.before = UINT64_MAX;
    else if (c->common_count > 0)
        rc = cal_sync_unsent(store, &c->at, c->common, (size_t)c->common_count, &c->bounds.before);
    if (rc == 0) rc = cal_compact_plan(store, &c->at, &c->bounds, &c->plan);
    if (rc == CAL_ENOTFOUND && c->bounds.before == UINT64_MAX) note_seen(c);
    c->result = rc == CAL_ENOTFOUND ? 0 : rc;
    task->run = planned;
    node_post(c->node, task);
}

/* --- steps: loop --- */

static void to_worker(compaction *c, void (*run)(cal_task *task)) {
    cal_compact_free(c->plan);
    c->plan = NULL;
    c->task.run = run;
    node_slow(c->node, &c->task);
}

static void end_round(compaction *c) {
    bool failed = c->result != 0 && c->result != CAL_ENOTFOUND; /* the latter: no context is left */
    if (failed)
        cal_log(CAL_LOG_WARN, "node", "old deltas cannot be taken away now (%s), it is tried again",
                cal_error_text(c->result));
    cal_compact_free(c->plan);
    c->plan = NULL;
    c->busy = c->started = false;
    bool soon = (c->again || failed) && c->interval_s > AGAIN_S;
    c->due_ms = now_ms(c->node) + 1000 * (uint64_t)(soon ? AGAIN_S : c->interval_s);
    c->again = false;
    node_end(c->node);
}

static void looked(cal_task *task) {
    compaction *c = CAL_CONTAINER_OF(task, compaction, task);
    if (c->result != 0 || c->node->stopping) {
        end_round(c);
    } else if (cal_sync_moves(c->node->sync, &c->at) && c->rows <= 2 * (uint64_t)c->bounds.above) {
        c->again = true;
        to_worker(c, look);
    } else {
        c->common_count = cal_sync_common(c->node->sync, &c->at, c->common);
        to_worker(c, make_plan);
    }
}

static void stepped(void *user, int error, uint32_t compacted) {
    compaction *c = user;
    (void)compacted;
    c->again = c->again || (error != 0 && error != CAL_ENOTFOUND) ||
               (error == 0 && cal_compact_more(c->plan));
    if (error != 0 || cal_compact_left(c->plan) == 0) {
        cal_sync_compacted(c->node->sync, &c->at);
        cal_compact_free(c->plan);
        c->plan = NULL;
    }
    node_post(c->node, &c->task); /* others come in between */
}

static void planned(cal_task *task) {
    compaction *c = CAL_CONTAINER_OF(task, compaction, task);
    if (c->result != 0 || c->node->stopping)
        end_round(c);
    else if (!c->plan)
        to_worker(c, look);
    else
        cal_contexts_compact(c->node->contexts, &c->at, c->plan, stepped, c);
}

/* --- when --- */

void node_compact_tick(cal_node *node) {
    compaction *c = node->compaction;
    if (!c || c->busy || node->stopping || now_ms(node) < c->due_ms) return;
    c->busy = true;
    c->result = 0;
    node->operations++;
    to_worker(c, look);
}

int node_compact_open(cal_node *node, cal_error *err) {
    const cal_compaction_options *options = &node->options.compaction;
    compaction *c = calloc(1, sizeof *c);
    if (!c) return cal_fail(err, CAL_ENOMEM, "out of memory while starting the node");
    node->compaction = c;
    c->node = node;
    c->bounds.above = options->above ? options->above : ABOVE;
    c->bounds.keep = options->keep ? options->keep : KEEP;
    c->interval_s = options->interval_s ? options->interval_s : INTERVAL_S;
    c->due_ms = now_ms(node) + 1000 * (uint64_t)(c->interval_s < FIRST_S ? c->interval_s : FIRST_S);
    if (options->off || node->options.read_only) c->due_ms = UINT64_MAX;
    cal_map_init(&c->seen, cal_random_seed(node->os));
    if (options->off || c->bounds.keep < c->bounds.above) return 0;
    return cal_fail(err, CAL_EINVAL,
                    "of %u deltas of a context %u are kept, but that must be less, or nothing "
                    "would be compacted",
                    c->bounds.above, c->bounds.keep);
}

void node_compact_close(cal_node *node) {
    compaction *c = node->compaction;
    cal_map_cursor cursor = {0};
    void *value;
    if (!c) return;
    while (cal_map_next(&c->seen, &cursor, NULL, &value)) free(value);
    cal_map_deinit(&c->seen);
    cal_compact_free(c->plan);
    free(c);
    node->compaction = NULL;
}
