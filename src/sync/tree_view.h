/* A context's tree at one moment of the store: what nodes, leaves and ranges of children are made
 * of (network-sync.md 3, "Tree types"; 8.3).
 *
 * Between nodes of ours children are compared by ranges of their ids, so that a collection of any
 * size costs a few hashes for each difference: a range is the first `bits` bits of an id, its hash
 * covers id and full hash of each child in it, in the order of ids. On workers, one after the
 * other.
 */
#ifndef CAL_SYNC_TREE_VIEW_H
#define CAL_SYNC_TREE_VIEW_H

#include "base/map.h"
#include "context/context.h"
#include "sync/message.h"

enum {
    SYNC_TREE_LEVEL = 0x43414c31,    /* of a LevelWise question between nodes of ours */
    SYNC_TREE_DEPTH = 255,           /* and of a TreeNode one: the reference clamps it */
    SYNC_TREE_LIST_MAX = 64,         /* children of a range that are listed and not split */
    SYNC_TREE_BITS_MAX = 240,        /* of a range */
    SYNC_TREE_SPLIT_MAX = 8,         /* bits that one answer adds */
    SYNC_TREE_TOMBSTONES_MAX = 2000, /* in one answer */
    SYNC_TREE_ANSWER_BYTES_MAX = 4 * 1024 * 1024,
    SYNC_TREE_ROW_ARENA_MAX = 512 * 1024 * 1024, /* a decoded Index record of the largest kind */
};

typedef struct sync_tree_child {
    cal_hash id, hash;
} sync_tree_child;

typedef struct sync_tree_view {
    cal_context_id context;
    cal_snapshot *snapshot;
    cal_hash root;
    uint64_t made_ms;
    bool loaded; /* the following is of: */
    cal_hash parent;
    bool live;                 /* it is here and not deleted */
    cal_hash hash, own;        /* its full hash, and that of its bytes */
    sync_tree_child *children; /* by id */
    size_t child_count;
    cal_hash *deleted; /* by id */
    size_t deleted_count;
    cal_arena chains_arena; /* ancestors of leaves, encoded, by parent */
    cal_map chains;
} sync_tree_view;

/* CAL_ENOTFOUND: the context is not here. */
int sync_tree_view_open(cal_store *store, const cal_context_id *context, uint64_t now_ms,
                        sync_tree_view **ret_view);
void sync_tree_view_free(sync_tree_view *view); /* NULL allowed */

/* 1, 0: no such record; or CAL_E*. What it points to is in the arena. */
int sync_tree_view_index(sync_tree_view *view, const cal_hash *id, cal_arena *arena,
                         crdt_index *ret_index);
/* Makes the lists those of this parent. */
int sync_tree_view_load(sync_tree_view *view, const cal_hash *parent);
/* 1: it is here with its bytes, and can travel. */
int sync_tree_view_leaf(sync_tree_view *view, const cal_hash *id, const cal_blob_id *code,
                        cal_arena *arena, sync_leaf *ret_leaf);
/* 1: it is a tombstone. */
int sync_tree_view_deletion(sync_tree_view *view, const cal_hash *id, cal_arena *arena,
                            sync_deletion *ret_deletion);

/* --- ranges: the last byte says how many bits count, those before it are the id's --- */
static inline unsigned sync_range_bits(const cal_hash *range) { return range->bytes[31]; }
bool sync_range_valid(const cal_hash *range); /* what does not count is zero */
void sync_range_of(const cal_hash *id, unsigned bits, cal_hash *ret_range);
bool sync_range_has(const cal_hash *range, const cal_hash *id);
bool sync_range_within(const cal_hash *inner, const cal_hash *outer); /* and smaller */
/* The children (tombstones) of the loaded parent in it: the first one's place and how many. */
size_t sync_tree_view_span(const sync_tree_view *view, const cal_hash *range, size_t *ret_first);
size_t sync_tree_view_deleted_span(const sync_tree_view *view, const cal_hash *range,
                                   size_t *ret_first);
void sync_tree_view_range_hash(const sync_tree_view *view, const cal_hash *range,
                               cal_hash *ret_hash);

/* --- tree_answer.c: answers, in the arena --- code: of the context, or NULL. */
int sync_tree_answer_nodes(sync_tree_view *view, const cal_hash *asked, uint8_t depth,
                           const cal_blob_id *code, cal_arena *arena, sync_answer *ret_answer);
/* asked: pairs of an id and a range. CAL_EDECODE: one that is no range. */
int sync_tree_answer_ranges(sync_tree_view *view, sync_ids asked, const cal_blob_id *code,
                            cal_arena *arena, sync_answer *ret_answer);

/* --- what crdt calls them --- In the arena; CAL_EDECODE, CAL_ENOMEM. */
int sync_leaf_open(const sync_leaf *leaf, cal_arena *arena, crdt_leaf *ret_leaf);
int sync_deletion_open(const sync_deletion *deletion, cal_arena *arena,
                       crdt_metadata *ret_metadata);

#endif
