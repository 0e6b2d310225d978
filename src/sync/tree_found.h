/* What a comparison of trees has found so far: what is to be asked for, taken and pushed. On a
 * worker, or on the loop between its tasks. */
#ifndef CAL_SYNC_TREE_FOUND_H
#define CAL_SYNC_TREE_FOUND_H

#include "sync/tree_view.h"

enum {
    SYNC_TREE_ASKS_MAX = 1000000, /* in all, of one comparison */
    SYNC_TREE_PUSHES_MAX = 4000000,
};

typedef struct sync_tree_ask {
    cal_hash id, range;
} sync_tree_ask;
typedef struct sync_tree_push {
    cal_hash id;
    bool deep; /* with what is below */
} sync_tree_push;

typedef struct sync_tree_found {
    cal_store *store;
    sync_tree_view *view; /* of this side */
    sync_tree_ask *asks;  /* those from ask_at on have not been answered */
    size_t ask_at, ask_count, ask_capacity;
    sync_tree_push *pushes; /* last first */
    size_t push_count, push_capacity;
    cal_hash *gone; /* tombstones to push */
    size_t gone_count, gone_capacity;
    /* Of the present answer, and in its memory. */
    const sync_leaf **leaves;
    size_t leaf_count, leaf_capacity;
    const sync_deletion **deletions;
    size_t deletion_count, deletion_capacity;
} sync_tree_found;

int sync_tree_found_init(sync_tree_found *found, cal_store *store, const cal_context_id *context,
                         uint64_t now_ms);
void sync_tree_found_deinit(sync_tree_found *found);
void sync_tree_found_reset(sync_tree_found *found);                 /* the answer is dealt with */
int sync_tree_found_renew(sync_tree_found *found, uint64_t now_ms); /* the view is as of now */

/* CAL_ENOMEM, CAL_ELIMIT. */
int sync_tree_found_ask(sync_tree_found *found, const cal_hash *id, const cal_hash *range);
int sync_tree_found_push(sync_tree_found *found, const cal_hash *id, bool deep);
int sync_tree_found_push_below(sync_tree_found *found, const cal_hash *id);
int sync_tree_found_gone(sync_tree_found *found, const cal_hash *id);

/* The answer to the first `asked` ranges that are open, or to fewer; or a node and some of its
 * children. CAL_EDECODE: that is not what was asked for. */
int sync_tree_compare_ranges(sync_tree_found *found, size_t asked, const sync_answer *answer);
int sync_tree_compare_nodes(sync_tree_found *found, const cal_hash *id, sync_tree_nodes nodes);

#endif
