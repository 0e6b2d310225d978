/* The rows at a cut of a namespace's graph, see graph.h. Every cut but the present one is folded
 * from the operations below it. Loop thread. */
#include <stdlib.h>

#include "dag/dag.h"
#include "gov/draft.h"

enum { CUT_ARENA_MAX = 1024 * 1024 * 1024 };

typedef struct {
    const gov_change *change;
    gov_view present; /* keys are read from here */
    cal_arena arena;
    cal_buffer nodes;   /* of dag_op */
    cal_buffer entries; /* of cut_op, the same ones */
} walker;

typedef struct {
    gov_signed_op op;
    gov_effect effect;
} cut_op;

static int add_op(walker *w, gov_effect effect, cal_slice bytes) {
    cut_op entry = {.effect = effect};
    const uint8_t *kept = cal_arena_copy(&w->arena, bytes.data, bytes.len);
    if (!kept) return CAL_ENOMEM;
    if (gov_signed_op_decode(cal_slice_of(kept, bytes.len), &w->arena, &entry.op))
        return CAL_ECORRUPT;
    dag_op node = {{{0}}, entry.op.parents.items, entry.op.parents.count};
    gov_signed_op_id(&entry.op, &node.id);
    cal_buffer_append(&w->nodes, &node, sizeof node);
    return cal_buffer_append(&w->entries, &entry, sizeof entry);
}

static int read_stored(walker *w, cal_snapshot *snapshot) {
    cal_slice prefix = cal_slice_of(w->change->ns->id.bytes, 32), key, value;
    cal_cursor *cursor;
    cal_buffer end;
    cal_buffer_init(&end, 64);
    cal_prefix_end(prefix, &end);
    int result = cal_cursor_open(snapshot, CAL_COLUMN_GOVERNANCE, prefix, cal_buffer_slice(&end),
                                 false, &cursor);
    cal_buffer_deinit(&end);
    if (result) return result;
    while ((result = cal_cursor_next(cursor, &key, &value)) == 0) {
        if (value.len < GOV_LOG_HEADER) result = CAL_ECORRUPT;
        if (!result)
            result = add_op(w, (gov_effect)value.data[8],
                            cal_slice_of(value.data + GOV_LOG_HEADER, value.len - GOV_LOG_HEADER));
        if (result) break;
    }
    cal_cursor_free(cursor);
    return result == CAL_ENOTFOUND ? 0 : result;
}

static int read_all(walker *w) {
    const gov_draft *draft = w->change->draft;
    cal_snapshot *snapshot;
    int result = cal_store_snapshot(w->change->gov->store, &snapshot);
    if (result) return result;
    result = read_stored(w, snapshot);
    cal_snapshot_free(snapshot);
    for (size_t i = 0; draft && i < draft->count && !result; i++)
        result =
            add_op(w, draft->ops[i].effect, cal_slice_of(draft->ops[i].bytes, draft->ops[i].len));
    return result;
}

static bool open_sealed(const walker *w, const gov_op *op, cal_arena *arena, gov_group_op *ret_op) {
    gov_group_key key;
    if (!gov_key_find(&w->present, &op->group_id, &op->key_id, &key) &&
        !gov_key_find(&w->present, &w->present.namespace_id, &op->key_id, &key))
        return false;
    int result = gov_group_op_open(op->sealed, op->nonce, &key.key, arena, ret_op);
    cal_secret_wipe(&key.key);
    return result == 0;
}

/* Parents come first, so the author of each is known from what lies below it. */
static void fold_op(walker *w, gov_fold *fold, const dag_entry *entry) {
    const dag_op *nodes = (const dag_op *)(const void *)w->nodes.data;
    const cut_op *entries = (const cut_op *)(const void *)w->entries.data, *found = NULL;
    for (size_t i = 0; i < w->nodes.len / sizeof *nodes && !found; i++)
        if (gov_id_equal(nodes[i].id.bytes, entry->id.bytes)) found = &entries[i];
    if (!found || found->effect == GOV_EFFECT_NONE) return;
    gov_view view = gov_fold_view(fold, 0);
    cal_account_id author;
    gov_group_op plain;
    gov_fold_op op = {.id = entry->id, .generation = entry->generation};
    if (gov_account_of_key(&view, found->op.signer, &author)) op.author = &author;
    if (!found->op.op.group)
        op.root = &found->op.op.root;
    else {
        op.group = found->op.op.group_id;
        op.key_id = &found->op.op.key_id;
        if (open_sealed(w, &found->op.op, &w->arena, &plain)) op.group_op = &plain;
    }
    gov_fold_add(fold, &op);
}

static int fold_ancestry(walker *w, const cal_hash *parents, uint32_t count, gov_fold *fold,
                         gov_wait *ret_wait) {
    const dag_op *nodes = (const dag_op *)(const void *)w->nodes.data;
    size_t total = w->nodes.len / sizeof *nodes, found;
    size_t *order = calloc(total + 1, sizeof *order);
    cal_dag *dag = dag_new(total, NULL);
    dag_entry *entries;
    int result = order && dag ? dag_sort(nodes, total, order) : CAL_ENOMEM;
    for (size_t i = 0; i < total && !result; i++) result = dag_apply(dag, &nodes[order[i]]);
    if (result == CAL_ESTATE || result == CAL_EDECODE) result = CAL_ECORRUPT;
    for (uint32_t i = 0; i < count && !result; i++) {
        if (gov_id_zero(parents[i].bytes) || dag_applied(dag, &parents[i]) == 0) continue;
        *ret_wait = (gov_wait){.kind = GOV_WAIT_PARENT, .id = parents[i]};
        result = CAL_ESTATE;
    }
    if (!result) result = dag_ancestry(dag, parents, count, &w->arena, &entries, &found);
    for (size_t i = 0; i < found && !result; i++) fold_op(w, fold, &entries[i]);
    dag_free(dag);
    free(order);
    return result;
}

static bool is_present(const gov_view *present, const cal_hash *parents, uint32_t count) {
    cal_slice heads = gov_heads_get(present);
    size_t found = 0;
    for (size_t at = 0; at < heads.len; at += 32)
        for (uint32_t i = 0; i < count; i++)
            if (gov_id_equal(heads.data + at, parents[i].bytes)) {
                found++;
                break;
            }
    return count == 0 || (found * 32 == heads.len && found == count);
}

static int keep_cut(gov_change *change, gov_fold *fold) {
    if (!change->draft && !(change->draft = calloc(1, sizeof *change->draft))) return CAL_ENOMEM;
    gov_draft *draft = change->draft;
    gov_fold **grown = realloc(draft->cuts, (draft->cut_count + 1) * sizeof *grown);
    if (!grown) return CAL_ENOMEM;
    draft->cuts = grown;
    draft->cuts[draft->cut_count++] = fold;
    return 0;
}

int gov_cut_view(gov_change *change, const cal_hash *parents, uint32_t count, gov_view *ret_view,
                 gov_wait *ret_wait) {
    walker w = {.change = change, .present = gov_change_view(change)};
    gov_meta meta;
    if (is_present(&w.present, parents, count)) {
        *ret_view = w.present;
        return 0;
    }
    gov_fold *fold = malloc(sizeof *fold);
    if (!fold) return CAL_ENOMEM;
    gov_fold_init(fold, &change->ns->id);
    cal_arena_init(&w.arena, CUT_ARENA_MAX);
    cal_buffer_init(&w.nodes, CUT_ARENA_MAX);
    cal_buffer_init(&w.entries, CUT_ARENA_MAX);
    int result = read_all(&w);
    if (!result) result = fold_ancestry(&w, parents, count, fold, ret_wait);
    bool founded = gov_meta_get(&w.present, &change->ns->id, &meta);
    gov_key defaults = gov_key_of(ROW_DEFAULTS, change->ns->id.bytes, NULL, NULL);
    cal_slice value;
    uint32_t base = gov_view_get(&w.present, &defaults, &value) ? cal_read_u32le(value.data) : 0;
    if (!result) result = gov_fold_finish(fold, founded ? &meta.admin : NULL);
    if (!result) result = keep_cut(change, fold);
    if (!result)
        *ret_view = gov_fold_view(fold, base);
    else {
        gov_fold_deinit(fold);
        free(fold);
    }
    cal_buffer_deinit(&w.nodes);
    cal_buffer_deinit(&w.entries);
    cal_arena_deinit(&w.arena);
    return result;
}

int gov_cut_readable(const gov_view *cut, const cal_group_id *group, gov_wait *ret_wait) {
    cal_group_id at = *group;
    for (int steps = 0; steps <= GOV_ROOT_WALK_MAX; steps++) {
        gov_walk walk = gov_walk_start(cut, ROW_OPAQUE, at.bytes, NULL);
        cal_slice id, key_id;
        if (gov_walk_next(&walk, &id, &key_id)) {
            *ret_wait = (gov_wait){.kind = GOV_WAIT_KEY, .group = at};
            memcpy(ret_wait->id.bytes, key_id.data, 32);
            return CAL_ESTATE;
        }
        if (!gov_group_parent(cut, &at, &at)) break;
    }
    return 0;
}
