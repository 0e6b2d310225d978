/* The graph's fold into memory when the node starts, and graphs of an older layout brought forward.
 * See draft.h.
 *
 * Starting reads the slots, as many as there are members, groups and devices, however many
 * operations made them. Layout 0 (up to the release that judged its own operations only) had one
 * row for each operation, namespace id || operation id -> number, whether it was opaque, bytes, and
 * no fold. Its rows are turned into today's in the order of their numbers, some at a time, each
 * batch durable before the next; a node that stops in between goes on where it was. Blocks. */
#include <stdlib.h>

#include "base/error.h"
#include "gov/draft.h"

enum {
    OLD_KEY = 64,
    OLD_HEADER = 8 + 1, /* number, opaque */
    OLD_STEP = 512,     /* operations of a batch */
    OLD_MAX = 64 * 1024 * 1024,
};

static int damaged(cal_error *err, const char *what) {
    return cal_fail(err, CAL_ECORRUPT, "the governance log is damaged (%s); restore a backup",
                    what);
}

/* --- slots --- */

static int load_slot(gov_graph *graph, cal_slice key, cal_slice value, cal_error *err) {
    cal_slice slot = {key.data + 33, key.len - 33};
    gov_write write;
    if (key.len == OLD_KEY) return 0; /* of layout 0: an id that begins like a slot's key */
    if (!gov_slot_fits(slot, value)) return damaged(err, "a slot");
    gov_slot_read(slot, value, &write);
    if (write.sequence == 0 || write.sequence > graph->count)
        return damaged(err, "a slot's number");
    gov_fold_set(&graph->fold, &write.key, &write);
    return graph->fold.error ? cal_fail(err, graph->fold.error, "no memory for governance") : 0;
}

static int load_slots(gov_graph *graph, cal_snapshot *snapshot, cal_error *err) {
    uint8_t prefix[GOV_GRAPH_KEY_MAX];
    cal_slice low = gov_graph_key(&graph->fold.namespace_id, GRAPH_SLOT, NULL, 0, prefix), key,
              value;
    cal_cursor *cursor = NULL;
    cal_buffer end;
    cal_buffer_init(&end, GOV_GRAPH_KEY_MAX);
    cal_prefix_end(low, &end);
    int result = end.error;
    if (!result)
        result = cal_cursor_open(snapshot, CAL_COLUMN_GOVERNANCE, low, cal_buffer_slice(&end),
                                 false, &cursor);
    if (result) cal_fail(err, result, "governance could not be read: %s", cal_error_text(result));
    while (!result) {
        result = cal_cursor_next(cursor, &key, &value);
        if (result == CAL_ENOTFOUND) break;
        result = result ? cal_fail(err, result, "governance could not be read: %s",
                                   cal_error_text(result))
                        : load_slot(graph, key, value, err);
    }
    cal_cursor_free(cursor);
    cal_buffer_deinit(&end);
    if (result != CAL_ENOTFOUND) return result;
    cal_sorted_node *node = cal_sorted_from(&graph->fold.slots, (cal_slice){0});
    for (; node && !graph->fold.error; node = node->next[0]) {
        gov_key slot = {.len = node->key.len};
        memcpy(slot.bytes, node->key.data, node->key.len);
        gov_fold_settle(&graph->fold, &slot);
    }
    return graph->fold.error ? cal_fail(err, graph->fold.error, "no memory for governance") : 0;
}

/* --- layout 0 --- */

typedef struct {
    uint64_t sequence;
    cal_hash id;
} old_op;

static int compare_old(const void *a, const void *b) {
    const old_op *x = a, *y = b;
    return (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

static int list_old(const cal_group_id *ns, cal_snapshot *snapshot, cal_buffer *ret_ops,
                    cal_error *err) {
    cal_slice low = cal_slice_of(ns->bytes, 32), key, value;
    cal_cursor *cursor = NULL;
    cal_buffer end;
    cal_buffer_init(&end, 64);
    cal_prefix_end(low, &end);
    int result = end.error ? end.error
                           : cal_cursor_open(snapshot, CAL_COLUMN_GOVERNANCE, low,
                                             cal_buffer_slice(&end), false, &cursor);
    while (!result && (result = cal_cursor_next(cursor, &key, &value)) == 0) {
        old_op op;
        if (key.len != OLD_KEY) continue;
        if (value.len < OLD_HEADER || value.data[8] > 1) {
            result = damaged(err, "an operation's record");
            break;
        }
        op.sequence = cal_read_u64le(value.data);
        memcpy(op.id.bytes, key.data + 32, 32);
        result = cal_buffer_append(ret_ops, &op, sizeof op);
    }
    cal_cursor_free(cursor);
    cal_buffer_deinit(&end);
    if (result == CAL_ENOTFOUND) result = 0;
    if (result && !(err && err->code == result))
        cal_fail(err, result, "governance could not be read: %s", cal_error_text(result));
    if (!result && ret_ops->len)
        qsort(ret_ops->data, ret_ops->len / sizeof(old_op), sizeof(old_op), compare_old);
    return result;
}

static bool open_old(const gov_view *present, const gov_op *op, cal_arena *arena,
                     gov_group_op *ret_plain) {
    gov_group_key key;
    if (!gov_key_find(present, &op->group_id, &op->key_id, &key) &&
        !gov_key_find(present, &present->namespace_id, &op->key_id, &key))
        return false;
    int result = gov_group_op_open(op->sealed, op->nonce, &key.key, arena, ret_plain);
    cal_secret_wipe(&key.key);
    return result == 0;
}

/* What was applied then had its effect, unless its key was missing; so it has it in the fold. */
static int place_old(gov_change *change, const old_op *old, cal_slice value, cal_error *err) {
    gov_view present = gov_change_view(change);
    gov_signed_op op;
    gov_group_op plain;
    cal_account_id author;
    cal_hash id;
    cal_arena arena;
    gov_draft *draft = gov_draft_of(change);
    if (!draft) return cal_fail(err, CAL_ENOMEM, "no memory for governance");
    cal_arena_init(&arena, 8 * GOV_OP_MAX);
    cal_slice bytes = {value.data + OLD_HEADER, value.len - OLD_HEADER};
    int result = gov_signed_op_decode(bytes, &arena, &op);
    if (!result) result = gov_signed_op_check(&op, NULL);
    if (!result) gov_signed_op_id(&op, &id);
    if (result || !gov_id_equal(id.bytes, old->id.bytes) ||
        !gov_id_equal(op.namespace_id.bytes, change->ns->id.bytes) ||
        old->sequence != gov_graph_top(change) + 1)
        result = damaged(err, "an operation");
    if (!result) {
        gov_view folded = gov_fold_view(&draft->fold, 0);
        gov_noted noted = {.id = id, .op = &op, .bytes = bytes};
        if (gov_account_of_key(&folded, op.signer, &author)) noted.author = &author;
        bool readable =
            !op.op.group || (!value.data[8] && open_old(&present, &op.op, &arena, &plain));
        if (!readable) /* found again when its key arrives */
            gov_change_put_sealed(change, &op, &id);
        noted.effect = readable ? GOV_EFFECT_FULL : GOV_EFFECT_OPAQUE;
        noted.plain = readable && op.op.group ? &plain : NULL;
        result = gov_graph_place(change, &noted, old->sequence, err);
    }
    cal_arena_deinit(&arena);
    return result;
}

static int step_old(cal_gov *gov, const cal_group_id *ns, cal_snapshot *snapshot, const old_op *ops,
                    size_t count, cal_error *err) {
    gov_change *change;
    cal_buffer value;
    uint8_t key[OLD_KEY];
    int result = gov_change_begin(gov, ns, &change, err);
    if (result) return result;
    memcpy(key, ns->bytes, 32);
    cal_buffer_init(&value, GOV_OP_MAX + OLD_HEADER);
    for (size_t i = 0; i < count && !result; i++) {
        memcpy(key + 32, ops[i].id.bytes, 32);
        cal_buffer_reset(&value);
        result =
            cal_snapshot_get(snapshot, CAL_COLUMN_GOVERNANCE, cal_slice_of(key, OLD_KEY), &value);
        if (result)
            cal_fail(err, result, "governance could not be read: %s", cal_error_text(result));
        else
            result = place_old(change, &ops[i], cal_buffer_slice(&value), err);
        if (!result)
            cal_batch_delete(change->batch, CAL_COLUMN_GOVERNANCE, cal_slice_of(key, OLD_KEY));
    }
    cal_buffer_deinit(&value);
    result = gov_change_finish(change, result, &change, err);
    if (result) return result;
    cal_batch *batch = cal_batch_new();
    if (!batch) result = cal_fail(err, CAL_ENOMEM, "no memory for governance");
    if (batch) cal_batch_merge(batch, gov_change_batch(change));
    if (batch) result = cal_store_commit(gov->store, batch, err);
    if (result)
        gov_change_abort(change);
    else
        gov_change_commit(change);
    return result;
}

static int bring_forward(cal_gov *gov, gov_namespace *ns, cal_snapshot *snapshot, cal_error *err) {
    cal_buffer list;
    cal_group_id id = ns->id;
    cal_buffer_init(&list, OLD_MAX);
    int result = list_old(&id, snapshot, &list, err);
    const old_op *ops = (const old_op *)(const void *)list.data;
    size_t count = list.len / sizeof *ops;
    uint64_t total = ns->graph->count;
    if (!result && count > total) result = damaged(err, "more operations than were counted");
    if (!result) ns->graph->count = total - count; /* those that had their turn before a stop */
    if (!result) result = load_slots(ns->graph, snapshot, err);
    for (size_t at = 0; at < count && !result; at += OLD_STEP)
        result = step_old(gov, &id, snapshot, ops + at,
                          count - at < OLD_STEP ? count - at : OLD_STEP, err);
    cal_buffer_deinit(&list);
    return result;
}

int gov_graph_load(cal_gov *gov, gov_namespace *ns, cal_snapshot *snapshot, cal_error *err) {
    gov_view view = gov_view_of(ns);
    uint8_t key[GOV_GRAPH_KEY_MAX];
    cal_buffer version;
    ns->graph->count = gov_sequence_get(&view);
    if (ns->graph->count == 0) return 0; /* no operation yet, or the namespace is on its way out */
    cal_buffer_init(&version, 64);
    int result = cal_snapshot_get(snapshot, CAL_COLUMN_GOVERNANCE,
                                  gov_graph_key(&ns->id, GRAPH_LAYOUT, NULL, 0, key), &version);
    uint8_t found = version.len == 1 ? version.data[0] : 0;
    cal_buffer_deinit(&version);
    if (result == 0 && found > GOV_LAYOUT_VERSION)
        return cal_fail(err, CAL_EVERSION, "governance was written by a newer version");
    if (result == 0 && found != GOV_LAYOUT_VERSION) return damaged(err, "its version");
    if (result && result != CAL_ENOTFOUND)
        return cal_fail(err, result, "governance could not be read: %s", cal_error_text(result));
    return result == 0 ? load_slots(ns->graph, snapshot, err)
                       : bring_forward(gov, ns, snapshot, err);
}
