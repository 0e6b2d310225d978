/* Comparing trees with a peer (network-sync.md 8.3).
 *
 *     root --> pull: ask, compare (worker), merge, ask .. --> push leaves --> push deletions
 *
 * The first answer tells whether the peer is one of ours: then differences are found by ranges,
 * many in one question (tree_view.h); else node by node. What comes is merged as it comes, so that
 * parents are here before their children. What only we have, and where ours is newer, is pushed.
 * Nothing is taken from a peer that has not shown that it may write. */
#include <stdlib.h>
#include <string.h>

#include "sync/tree.h"
#include "sync/tree_found.h"

enum {
    QUESTION_RANGES_MAX = SYNC_TREE_NODES_MAX / 2,
    PUSH_BYTES_MAX = 2 * 1024 * 1024,
};

typedef enum tree_phase { TREE_ROOT, TREE_PULL, TREE_PUSH, TREE_PUSH_DELETIONS } tree_phase;

struct sync_tree {
    cal_sync *sync;
    cal_context_id id;
    sync_session *session;
    cal_peer_id peer;
    sync_tree_done done;
    void *user;
    tree_phase phase;
    bool left, busy; /* nobody waits for it; a worker or the context has it */
    bool ours, may_take;
    bool has_code;
    cal_blob_id code;
    size_t asked; /* ranges of the present question */

    sync_tree_found found;
    cal_arena arena;    /* of the present answer, or push */
    sync_answer answer; /* a copy */
    cal_merge_item *items;
    size_t item_count, merged;
    sync_leaf *leaves; /* to be pushed now */
    sync_deletion *deletions;
    size_t push_count;

    cal_task task;
    int result;
    int (*work)(sync_tree *tree);
    void (*after)(sync_tree *tree);
};

/* --- life --- */

static void free_tree(sync_tree *tree) {
    cal_sync *sync = tree->sync;
    sync_tree_found_deinit(&tree->found);
    cal_arena_deinit(&tree->arena);
    free(tree);
    sync_release(sync);
}

static void end(sync_tree *tree, int result, const char *why) {
    sync_tree_done done = tree->done;
    void *user = tree->user;
    tree->sync->stats.trees_compared += result == 0;
    free_tree(tree);
    done(user, result, why);
}

void sync_tree_leave(sync_tree *tree) {
    tree->left = true;
    if (!tree->busy) free_tree(tree);
}

/* Whether somebody still waits; otherwise it is gone. */
static bool is_back(sync_tree *tree) {
    bool left = tree->left;
    tree->busy = false;
    if (left) free_tree(tree);
    return !left;
}

static void fresh_arena(sync_tree *tree) {
    cal_arena_deinit(&tree->arena);
    cal_arena_init(&tree->arena, SYNC_ARENA_MAX);
}

/* --- a worker --- */

static void worked(cal_task *task) {
    sync_tree *tree = CAL_CONTAINER_OF(task, sync_tree, task);
    if (!is_back(tree)) return;
    if (tree->result != 0)
        end(tree, tree->result,
            tree->result == CAL_EDECODE ? "the peer's tree makes no sense"
                                        : "the trees could not be compared");
    else
        tree->after(tree);
}

static void run_work(cal_task *task) {
    sync_tree *tree = CAL_CONTAINER_OF(task, sync_tree, task);
    const cal_runner *runner = tree->sync->options.runner;
    tree->result = tree->work(tree);
    tree->task.run = worked;
    runner->on_loop(runner->user, &tree->task);
}

static void start_work(sync_tree *tree, int (*work)(sync_tree *tree),
                       void (*after)(sync_tree *tree)) {
    const cal_runner *runner = tree->sync->options.runner;
    tree->busy = true;
    tree->work = work;
    tree->after = after;
    tree->task.run = run_work;
    runner->on_worker(runner->user, &tree->task);
}

/* --- asking --- */

static void ask(sync_tree *tree, const sync_request *request) {
    if (sync_session_ask(tree->session, &tree->id, request))
        end(tree, CAL_EUNREACHABLE, "the peer could not be asked for its tree");
}

static void push(sync_tree *tree);

static void ask_next(sync_tree *tree) {
    sync_tree_found *found = &tree->found;
    cal_hash pairs[2 * QUESTION_RANGES_MAX];
    sync_request request = {
        .kind = SYNC_LEVEL, .context = tree->id, .level = SYNC_TREE_LEVEL, .has_ids = true};
    size_t left = found->ask_count - found->ask_at;
    tree->phase = TREE_PULL;
    if (left == 0) {
        push(tree);
        return;
    }
    tree->asked = !tree->ours ? 1 : left < QUESTION_RANGES_MAX ? left : QUESTION_RANGES_MAX;
    for (size_t i = 0; i < tree->asked; i++) {
        pairs[2 * i] = found->asks[found->ask_at + i].id;
        pairs[2 * i + 1] = found->asks[found->ask_at + i].range;
    }
    request.ids = (sync_ids){pairs, (uint32_t)(2 * tree->asked)};
    if (!tree->ours)
        request = (sync_request){.kind = SYNC_TREE_NODE,
                                 .context = tree->id,
                                 .id = pairs[0],
                                 .has_depth = true,
                                 .depth = 1};
    ask(tree, &request);
}

/* --- merging what came --- */

static void judge(sync_tree *tree) {
    sync_tree_found *found = &tree->found;
    size_t all = found->leaf_count + found->deletion_count;
    sync_judge judge;
    tree->item_count = tree->merged = 0;
    tree->items = cal_arena_alloc_array(&tree->arena, all + 1, sizeof *tree->items);
    if (!tree->items || !tree->may_take || sync_judge_begin(tree->sync, &tree->id, &judge) != 0)
        return;
    for (size_t i = 0; i < found->leaf_count; i++)
        tree->item_count +=
            sync_judge_leaf(&judge, found->leaves[i], &tree->arena, &tree->items[tree->item_count]);
    for (size_t i = 0; i < found->deletion_count; i++)
        tree->item_count += sync_judge_deletion(&judge, found->deletions[i], &tree->arena,
                                                &tree->items[tree->item_count]);
}

/* How many of the items that are left fit one turn. */
static size_t fitting(const sync_tree *tree) {
    size_t bytes = 0, count = 0;
    while (tree->merged + count < tree->item_count && count < CAL_MERGE_ITEMS_MAX) {
        const cal_merge_item *item = &tree->items[tree->merged + count];
        bytes += item->is_deletion ? 0 : item->leaf.value.len;
        if (count > 0 && bytes > CAL_MERGE_BYTES_MAX) break;
        count++;
    }
    return count;
}

static void merge_next(sync_tree *tree);

/* Ours is newer: the peer is to have it, a tombstone too. */
static int note_outcomes(sync_tree *tree, const cal_merge_outcome *outcomes, size_t count) {
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const cal_merge_item *item = &tree->items[tree->merged + i];
        cal_hash id;
        memcpy(&id, item->is_deletion ? &item->id : &item->leaf.id, sizeof id);
        if (outcomes[i].result == CRDT_LEAF_KEPT)
            rc = sync_tree_found_push(&tree->found, &id, item->is_deletion);
        tree->sync->stats.leaves_taken += outcomes[i].result == CRDT_LEAF_TAKEN;
    }
    tree->merged += count;
    return rc;
}

static void on_merged(void *user, int error, const cal_merge_outcome *outcomes, size_t count) {
    sync_tree *tree = user;
    if (!is_back(tree)) return;
    if (error == 0) error = note_outcomes(tree, outcomes, count);
    if (error != 0)
        end(tree, error, "what the peer's tree has could not be taken");
    else
        merge_next(tree);
}

static void merge_next(sync_tree *tree) {
    size_t count = fitting(tree);
    if (count == 0) {
        sync_tree_found_reset(&tree->found);
        ask_next(tree);
        return;
    }
    tree->busy = true;
    cal_contexts_merge(tree->sync->options.contexts, &tree->id, tree->items + tree->merged, count,
                       on_merged, tree);
}

static void merge(sync_tree *tree) {
    judge(tree);
    merge_next(tree);
}

/* --- comparing: worker --- */

static int compare_root(sync_tree *tree) {
    sync_tree_nodes nodes = tree->answer.nodes;
    const sync_tree_node *root = nodes.items;
    cal_hash id, all;
    memcpy(&id, &tree->id, sizeof id);
    sync_range_of(&id, 0, &all);
    if (memcmp(&root->id, &id, sizeof id) != 0) return CAL_EDECODE;
    tree->ours = nodes.count == 1 && root->children.count == 0 && !root->has_leaf &&
                 root->deleted.count == 0;
    return tree->ours ? sync_tree_found_ask(&tree->found, &id, &all)
                      : sync_tree_compare_nodes(&tree->found, &id, nodes);
}

static int compare_nodes(sync_tree *tree) {
    sync_tree_found *found = &tree->found;
    cal_hash id = found->asks[found->ask_at++].id;
    return tree->answer.not_found ? 0 : sync_tree_compare_nodes(found, &id, tree->answer.nodes);
}

static int compare_ranges(sync_tree *tree) {
    return sync_tree_compare_ranges(&tree->found, tree->asked, &tree->answer);
}

/* The answer in memory of our own. */
static int keep(sync_tree *tree, const sync_message *message) {
    sync_message copy;
    cal_buffer bytes;
    fresh_arena(tree);
    cal_buffer_init(&bytes, NET_MESSAGE_MAX);
    int rc = sync_message_write(message, &bytes);
    uint8_t *data = rc == 0 ? cal_arena_copy(&tree->arena, bytes.data, bytes.len) : NULL;
    if (rc == 0 && !data) rc = CAL_ENOMEM;
    if (rc == 0) rc = sync_message_decode(cal_slice_of(data, bytes.len), &tree->arena, &copy);
    if (rc == 0) tree->answer = copy.answer;
    cal_buffer_deinit(&bytes);
    return rc;
}

static void on_tree(sync_tree *tree, const sync_message *message) {
    const sync_answer *answer = &message->answer;
    bool ranges = tree->phase == TREE_PULL && tree->ours;
    if (answer->kind != (ranges ? SYNC_ANSWER_LEVEL : SYNC_ANSWER_TREE)) {
        end(tree, CAL_EDECODE, "the peer answered with something else than its tree");
        return;
    }
    if (tree->phase == TREE_ROOT && (answer->not_found || answer->nodes.count == 0)) {
        end(tree, CAL_EBUSY, "the peer's state moved on while it was compared");
        return;
    }
    if (keep(tree, message) != 0)
        end(tree, CAL_ENOMEM, "out of memory");
    else
        start_work(tree,
                   tree->phase == TREE_ROOT ? compare_root
                   : ranges                 ? compare_ranges
                                            : compare_nodes,
                   merge);
}

/* --- pushing --- */

static int read_push(sync_tree *tree) {
    sync_tree_found *found = &tree->found;
    const cal_blob_id *code = tree->has_code ? &tree->code : NULL;
    size_t bytes = 0;
    tree->push_count = 0;
    tree->leaves = cal_arena_alloc_array(&tree->arena, SYNC_PUSH_MAX, sizeof *tree->leaves);
    if (!tree->leaves) return CAL_ENOMEM;
    while (found->push_count > 0 && tree->push_count < SYNC_PUSH_MAX && bytes < PUSH_BYTES_MAX) {
        sync_tree_push at = found->pushes[--found->push_count];
        sync_leaf *leaf = &tree->leaves[tree->push_count];
        int hit = sync_tree_view_leaf(found->view, &at.id, code, &tree->arena, leaf);
        if (hit == 1) {
            bytes += leaf->value.len + leaf->ancestors.len;
            tree->push_count++;
        } else if (hit == 0 && !at.deep) {
            hit = sync_tree_found_gone(found, &at.id);
        }
        if (hit >= 0 && at.deep) hit = sync_tree_found_push_below(found, &at.id);
        if (hit < 0) return hit;
    }
    return 0;
}

static int read_deletions(sync_tree *tree) {
    sync_tree_found *found = &tree->found;
    tree->push_count = 0;
    tree->deletions = cal_arena_alloc_array(&tree->arena, SYNC_PUSH_MAX, sizeof *tree->deletions);
    if (!tree->deletions) return CAL_ENOMEM;
    while (found->gone_count > 0 && tree->push_count < SYNC_PUSH_MAX) {
        int hit = sync_tree_view_deletion(found->view, &found->gone[--found->gone_count],
                                          &tree->arena, &tree->deletions[tree->push_count]);
        if (hit < 0) return hit;
        tree->push_count += hit == 1;
    }
    return 0;
}

static void send_push(sync_tree *tree) {
    bool leaves = tree->phase == TREE_PUSH;
    sync_request request = {.kind = leaves ? SYNC_PUSH : SYNC_PUSH_DELETIONS, .context = tree->id};
    if (leaves)
        request.leaves = (sync_leaves){tree->leaves, (uint32_t)tree->push_count};
    else
        request.deletions = (sync_deletions){tree->deletions, (uint32_t)tree->push_count};
    if (tree->push_count == 0) {
        push(tree);
        return;
    }
    tree->sync->stats.leaves_sent += tree->push_count;
    ask(tree, &request);
}

static void push(sync_tree *tree) {
    sync_tree_found *found = &tree->found;
    cal_sync *sync = tree->sync;
    int rc = 0;
    if (tree->phase == TREE_PULL) rc = sync_tree_found_renew(found, sync_now_ms(sync));
    tree->phase = found->push_count > 0 ? TREE_PUSH : TREE_PUSH_DELETIONS;
    fresh_arena(tree);
    if (rc != 0)
        end(tree, rc, "the store cannot be read");
    else if (found->push_count > 0)
        start_work(tree, read_push, send_push);
    else if (found->gone_count > 0)
        start_work(tree, read_deletions, send_push);
    else
        end(tree, 0, "");
}

static void on_pushed(sync_tree *tree, const sync_answer *answer) {
    bool leaves = tree->phase == TREE_PUSH;
    if (answer->kind != (leaves ? SYNC_ANSWER_PUSHED : SYNC_ANSWER_PUSHED_DELETIONS))
        end(tree, CAL_EDECODE, "the peer answered a push with something else");
    else
        push(tree);
}

/* --- the face --- */

void sync_tree_answer(sync_tree *tree, const sync_message *message) {
    if (tree->busy) return;
    if (message->kind != SYNC_MESSAGE)
        end(tree, message->kind == SYNC_NOT_MATERIALIZED ? CAL_ESTATE : CAL_EDENIED,
            "the peer does not compare trees");
    else if (tree->phase >= TREE_PUSH)
        on_pushed(tree, &message->answer);
    else
        on_tree(tree, message);
}

int sync_tree_new(sync_context *context, sync_session *session, const cal_hash *root,
                  sync_tree_done done, void *user, sync_tree **ret_tree) {
    cal_sync *sync = context->sync;
    cal_group_id group, ns;
    sync_tree *tree = calloc(1, sizeof *tree);
    if (!tree) return CAL_ENOMEM;
    *tree = (sync_tree){
        .sync = sync, .id = context->id, .session = session, .done = done, .user = user};
    sync_session_peer(session, &tree->peer);
    tree->may_take = sync_met_writer(context, &tree->peer);
    tree->has_code = gov_context_group(sync->options.gov, &context->id, &group, &ns) == 0 &&
                     gov_group_code(sync->options.gov, &group, &tree->code) == 0;
    cal_arena_init(&tree->arena, SYNC_ARENA_MAX);
    sync_request request = {.kind = SYNC_TREE_NODE,
                            .context = context->id,
                            .id = *root,
                            .has_depth = true,
                            .depth = SYNC_TREE_DEPTH};
    int rc =
        sync_tree_found_init(&tree->found, sync->options.store, &context->id, sync_now_ms(sync));
    if (rc == 0) rc = sync_session_ask(session, &context->id, &request);
    sync_hold(sync);
    if (rc == 0)
        *ret_tree = tree;
    else
        free_tree(tree);
    return rc;
}
