/* Serving a context's tree, and taking what a peer pushes. One moment of the store serves a stream
 * for as long as it is young. */
#include <stdlib.h>
#include <string.h>

#include "sync/tree.h"

enum {
    VIEW_AGE_MS = 30 * 1000,
    VIEWS_MAX = 16, /* kept between requests, of all streams */
};

static void drop_view(sync_serving *serving) {
    if (!serving->tree) return;
    sync_tree_view_free(serving->tree);
    serving->tree = NULL;
    serving->sync->tree_views -= serving->tree_kept;
    serving->tree_kept = false;
}

void sync_serving_tree_free(sync_serving *serving) { drop_view(serving); }

/* --- requests --- */

/* What is to be read from, on the worker. */
static int find_view(sync_serving *serving) {
    return serving->tree
               ? 0
               : sync_tree_view_open(serving->sync->options.store, &serving->request.context,
                                     serving->tree_now_ms, &serving->tree);
}

static int read_nodes(sync_serving *serving) {
    const sync_request *request = &serving->request;
    const cal_blob_id *code = serving->has_code ? &serving->code : NULL;
    int rc = find_view(serving);
    if (rc != 0) return rc;
    return sync_tree_answer_nodes(serving->tree, &request->id,
                                  request->has_depth ? request->depth : 0, code, &serving->arena,
                                  &serving->tree_answer);
}

static int read_ranges(sync_serving *serving) {
    const cal_blob_id *code = serving->has_code ? &serving->code : NULL;
    int rc = find_view(serving);
    if (rc != 0) return rc;
    return sync_tree_answer_ranges(serving->tree, serving->request.ids, code, &serving->arena,
                                   &serving->tree_answer);
}

static void answer_tree(sync_serving *serving) {
    cal_sync *sync = serving->sync;
    serving->tree_kept = serving->tree && serving->result == 0 && sync->tree_views < VIEWS_MAX;
    sync->tree_views += serving->tree_kept;
    if (!serving->tree_kept) drop_view(serving);
    if (serving->result != 0) {
        sync_serving_decline(serving, false);
        return;
    }
    sync->stats.trees_served++;
    sync->stats.tree_hashes_served += serving->tree_answer.level_nodes.count;
    for (uint32_t i = 0; i < serving->tree_answer.nodes.count; i++)
        sync->stats.tree_hashes_served += 1 + serving->tree_answer.nodes.items[i].children.count;
    sync_serving_answer(serving, &serving->tree_answer);
}

static void read_tree(sync_serving *serving, int (*fn)(sync_serving *serving)) {
    cal_sync *sync = serving->sync;
    const sync_request *request = &serving->request;
    cal_group_id group, ns;
    cal_context_record record;
    sync_tree_view *view = serving->tree;
    serving->tree_now_ms = sync_now_ms(sync);
    int rc = cal_contexts_get(sync->options.contexts, &request->context, &serving->arena, &record);
    if (rc != 0) {
        sync_serving_decline(serving, true);
        return;
    }
    bool asks_root = request->kind == SYNC_TREE_NODE &&
                     memcmp(&request->id, &record.root, sizeof record.root) == 0;
    if (view && (memcmp(&view->context, &request->context, sizeof view->context) != 0 ||
                 serving->tree_now_ms - view->made_ms > VIEW_AGE_MS ||
                 (asks_root && memcmp(&view->root, &record.root, sizeof record.root) != 0)))
        drop_view(serving);
    sync->tree_views -= serving->tree_kept;
    serving->tree_kept = false;
    serving->has_code = gov_context_group(sync->options.gov, &request->context, &group, &ns) == 0 &&
                        gov_group_code(sync->options.gov, &group, &serving->code) == 0;
    sync_serving_work(serving, fn, answer_tree);
}

/* --- pushes --- */

static void note_push(sync_serving *serving) {
    sync_context *context = sync_context_get(serving->sync, &serving->request.context);
    cal_peer_id peer;
    net_messages_peer(serving->messages, &peer);
    if (context) sync_context_took(context, &peer);
}

typedef struct pushed {
    sync_serving *serving;
    cal_merge_item *items;
    size_t count;
    uint8_t kind;
} pushed;

static void on_merged(void *user, int error, const cal_merge_outcome *outcomes, size_t count) {
    pushed *push = user;
    sync_serving *serving = push->serving;
    sync_answer answer = {.kind = push->kind};
    if (!sync_serving_back(serving)) return;
    for (size_t i = 0; i < count; i++) answer.applied += outcomes[i].result <= CRDT_LEAF_KEPT;
    if (error != 0) {
        sync_serving_decline(serving, error == CAL_ESTATE);
        return;
    }
    serving->sync->stats.leaves_taken += answer.applied;
    if (answer.applied > 0) note_push(serving);
    sync_serving_answer(serving, &answer);
}

static void take_push(sync_serving *serving) {
    const sync_request *request = &serving->request;
    bool leaves = request->kind == SYNC_PUSH;
    size_t count = leaves ? request->leaves.count : request->deletions.count;
    pushed *push = cal_arena_alloc(&serving->arena, sizeof *push);
    sync_judge judge;
    if (push) push->items = cal_arena_alloc_array(&serving->arena, count + 1, sizeof *push->items);
    if (!push || !push->items || sync_judge_begin(serving->sync, &request->context, &judge) != 0 ||
        !sync_judge_key(&judge, &serving->party, NULL)) {
        sync_serving_decline(serving, false);
        return;
    }
    note_push(serving);
    push->serving = serving;
    push->kind = leaves ? SYNC_ANSWER_PUSHED : SYNC_ANSWER_PUSHED_DELETIONS;
    for (size_t i = 0; i < count; i++) {
        cal_merge_item *item = &push->items[push->count];
        push->count +=
            leaves
                ? sync_judge_leaf(&judge, &request->leaves.items[i], &serving->arena, item)
                : sync_judge_deletion(&judge, &request->deletions.items[i], &serving->arena, item);
    }
    sync_serving_hold(serving);
    cal_contexts_merge(serving->sync->options.contexts, &request->context, push->items, push->count,
                       on_merged, push);
}

/* Nodes of the reference compare trees where deltas would do, and end apart when one has more
 * children than a node may list. Declined, they go on with deltas in the same session
 * (network-sync.md 8.3). Who has all that is here, as its heads say or because it comes back at
 * once, is not helped by deltas: a read-only node of the reference counts them as applied and
 * changes nothing. */
static bool better_by_deltas(sync_serving *serving) {
    enum { AT_ONCE_MS = 25000 };
    sync_context *context = sync_context_get(serving->sync, &serving->request.context);
    uint64_t now = sync_now_ms(serving->sync);
    cal_peer_id peer;
    if (!context || serving->request.depth == SYNC_TREE_DEPTH || serving->compares_trees)
        return false;
    net_messages_peer(serving->messages, &peer);
    serving->compares_trees = sync_compare_level(context, &peer);
    if (serving->compares_trees) return false;
    bool back =
        cal_peer_id_equal(&context->declined, &peer) && now < context->declined_ms + AT_ONCE_MS;
    context->declined = peer;
    context->declined_ms = back ? 0 : now;
    serving->compares_trees = back;
    return !back;
}

void sync_serve_tree(sync_serving *serving) {
    const sync_request *request = &serving->request;
    if (request->kind == SYNC_TREE_NODE && better_by_deltas(serving))
        sync_serving_decline(serving, false);
    else if (request->kind == SYNC_TREE_NODE)
        read_tree(serving, read_nodes);
    else if (request->kind == SYNC_LEVEL && request->level == SYNC_TREE_LEVEL && request->has_ids)
        read_tree(serving, read_ranges);
    else if (request->kind == SYNC_LEVEL)
        sync_serving_decline(serving, false); /* the reference goes on with deltas */
    else
        take_push(serving);
}
