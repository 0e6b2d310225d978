/* Answers about trees: to nodes of the reference as network-sync.md 8.3 has it, to nodes of ours by
 * ranges (tree_view.h). */
#include <string.h>

#include "sync/tree_view.h"

enum { NODE_BYTES = 128 };

/* An answer under construction; nothing is added once it is `full`. */
typedef struct answering {
    sync_tree_view *view;
    cal_arena *arena;
    const cal_blob_id *code;
    bool full;
    size_t bytes;
    sync_tree_node *nodes;
    sync_level_node *level;
    size_t count, max;
    sync_deletion *deleted;
    size_t deleted_count;
} answering;

static size_t leaf_bytes(const sync_leaf *leaf) {
    return leaf->value.len + leaf->ancestors.len + leaf->type.len + leaf->authorization.len +
           NODE_BYTES;
}

static int add_tombstones(answering *a, const cal_hash *ids, size_t count) {
    for (size_t i = 0; i < count && a->deleted_count < SYNC_TREE_TOMBSTONES_MAX; i++) {
        int hit =
            sync_tree_view_deletion(a->view, &ids[i], a->arena, &a->deleted[a->deleted_count]);
        if (hit < 0) return hit;
        if (hit == 0) continue;
        a->bytes += a->deleted[a->deleted_count++].metadata.len + NODE_BYTES;
    }
    return 0;
}

/* --- for nodes of the reference --- */

/* No more children than it takes; which of them moves on with time, so that a few comparisons meet
 * all. */
static int list_children(answering *a, sync_tree_node *node) {
    const sync_tree_view *view = a->view;
    size_t count = view->child_count, first = 0;
    if (count > SYNC_CHILDREN_MAX) {
        first = (size_t)(view->made_ms / 1000) * SYNC_CHILDREN_MAX % count;
        count = SYNC_CHILDREN_MAX;
    }
    cal_hash *ids = cal_arena_alloc_array(a->arena, count + 1, sizeof *ids);
    if (!ids) return CAL_ENOMEM;
    for (size_t i = 0; i < count; i++) ids[i] = view->children[(first + i) % view->child_count].id;
    node->children = (sync_ids){ids, (uint32_t)count};
    return 0;
}

/* 1, 0: not here, or neither leaf nor inner node. */
static int make_node(answering *a, const cal_hash *id, sync_tree_node *ret_node) {
    size_t before = a->deleted_count;
    int rc = sync_tree_view_load(a->view, id);
    if (rc != 0 || !a->view->live) return rc;
    *ret_node = (sync_tree_node){.id = *id, .hash = a->view->hash};
    rc = list_children(a, ret_node);
    if (rc == 0) rc = add_tombstones(a, a->view->deleted, a->view->deleted_count);
    if (rc != 0) return rc;
    ret_node->deleted =
        (sync_deletions){a->deleted + before, (uint32_t)(a->deleted_count - before)};
    a->bytes += NODE_BYTES + ret_node->children.count * sizeof(cal_hash);
    if (ret_node->children.count || ret_node->deleted.count) return 1;
    int hit = sync_tree_view_leaf(a->view, id, a->code, a->arena, &ret_node->leaf);
    ret_node->has_leaf = hit == 1;
    if (hit == 1) a->bytes += leaf_bytes(&ret_node->leaf);
    return hit;
}

static int answer_nodes(answering *a, const cal_hash *id, bool below) {
    int hit = make_node(a, id, &a->nodes[0]);
    if (hit != 1) return hit < 0 ? hit : 0;
    a->count = 1;
    sync_ids children = a->nodes[0].children;
    for (uint32_t i = 0; below && i < children.count && a->count < a->max; i++) {
        if (a->bytes > SYNC_TREE_ANSWER_BYTES_MAX) break;
        hit = make_node(a, &children.items[i], &a->nodes[a->count]);
        if (hit < 0) return hit;
        a->count += hit == 1;
    }
    return 0;
}

/* --- for nodes of ours --- */

static void add(answering *a, const cal_hash *id, const cal_hash *hash, const cal_hash *parent) {
    if (a->count >= a->max) {
        a->full = true;
        return;
    }
    sync_level_node *node = &a->level[a->count++];
    *node = (sync_level_node){.id = *id, .hash = *hash, .has_parent = parent != NULL};
    if (parent) node->parent = *parent;
    a->bytes += NODE_BYTES;
}

static unsigned split_bits(size_t count, unsigned bits) {
    unsigned more = 1;
    while (more < SYNC_TREE_SPLIT_MAX && count >> more > SYNC_TREE_LIST_MAX) more++;
    return bits + more > SYNC_TREE_BITS_MAX ? SYNC_TREE_BITS_MAX : bits + more;
}

/* Ranges with anything in them, tombstones too: who has something there that is gone here must hear
 * of it. */
static void add_ranges(answering *a, const cal_hash *range, size_t count) {
    static const cal_hash none;
    const sync_tree_view *view = a->view;
    unsigned bits = split_bits(count, sync_range_bits(range));
    size_t child, dead, children = sync_tree_view_span(view, range, &child) + child;
    size_t tombstones = sync_tree_view_deleted_span(view, range, &dead) + dead;
    while (!a->full && (child < children || dead < tombstones)) {
        bool from_child =
            dead >= tombstones ||
            (child < children && memcmp(&view->children[child].id, &view->deleted[dead], 32) < 0);
        cal_hash part, hash;
        sync_range_of(from_child ? &view->children[child].id : &view->deleted[dead], bits, &part);
        sync_tree_view_range_hash(view, &part, &hash);
        add(a, &part, &hash, &none);
        while (child < children && sync_range_has(&part, &view->children[child].id)) child++;
        while (dead < tombstones && sync_range_has(&part, &view->deleted[dead])) dead++;
    }
}

static int add_own(answering *a, sync_level_node *head) {
    int hit = sync_tree_view_leaf(a->view, &head->id, a->code, a->arena, &head->leaf);
    head->has_leaf = hit == 1;
    if (hit == 1) a->bytes += leaf_bytes(&head->leaf);
    return hit < 0 ? hit : 0;
}

/* A head that says what was asked, with the entity's own bytes when it was asked for whole; then
 * its children in the range, or ranges of them. */
static int expand(answering *a, const cal_hash *id, const cal_hash *range) {
    size_t first, dead, count, tombstones, head = a->count;
    int rc = sync_tree_view_load(a->view, id);
    if (rc != 0) return rc;
    count = sync_tree_view_span(a->view, range, &first);
    tombstones = sync_tree_view_deleted_span(a->view, range, &dead);
    add(a, id, range, NULL);
    if (a->full || !a->view->loaded) return 0;
    if (sync_range_bits(range) == 0 && a->view->live) rc = add_own(a, &a->level[head]);
    if (rc != 0) return rc;
    bool last = sync_range_bits(range) >= SYNC_TREE_BITS_MAX;
    if (!last && count + tombstones > SYNC_TREE_LIST_MAX) {
        add_ranges(a, range, count + tombstones);
        return 0;
    }
    for (size_t i = 0; i < count && !a->full; i++)
        add(a, &a->view->children[first + i].id, &a->view->children[first + i].hash, id);
    return a->full ? 0 : add_tombstones(a, a->view->deleted + dead, tombstones);
}

static int answer_ranges(answering *a, sync_ids asked) {
    for (uint32_t i = 0; i + 1 < asked.count; i += 2) {
        size_t count = a->count, deleted = a->deleted_count;
        if (!sync_range_valid(&asked.items[i + 1])) return CAL_EDECODE;
        int rc = expand(a, &asked.items[i], &asked.items[i + 1]);
        if (rc != 0) return rc;
        if (a->full && i > 0) { /* the last one is not whole: it is asked for again */
            a->count = count;
            a->deleted_count = deleted;
        }
        a->full = a->full || a->bytes > SYNC_TREE_ANSWER_BYTES_MAX ||
                  a->deleted_count >= SYNC_TREE_TOMBSTONES_MAX;
        if (a->full) break;
    }
    return 0;
}

/* --- the face --- */

static int begin(sync_tree_view *view, bool ranges, const cal_blob_id *code, cal_arena *arena,
                 answering *ret_a) {
    *ret_a = (answering){.view = view,
                         .arena = arena,
                         .code = code,
                         .max = ranges ? SYNC_LEVEL_NODES_MAX : SYNC_TREE_NODES_MAX};
    ret_a->deleted = cal_arena_alloc_array(arena, SYNC_TREE_TOMBSTONES_MAX, sizeof *ret_a->deleted);
    if (ranges)
        ret_a->level = cal_arena_alloc_array(arena, ret_a->max, sizeof *ret_a->level);
    else
        ret_a->nodes = cal_arena_alloc_array(arena, ret_a->max, sizeof *ret_a->nodes);
    return ret_a->deleted && (ret_a->level || ret_a->nodes) ? 0 : CAL_ENOMEM;
}

int sync_tree_answer_nodes(sync_tree_view *view, const cal_hash *asked, uint8_t depth,
                           const cal_blob_id *code, cal_arena *arena, sync_answer *ret_answer) {
    answering a = {0};
    cal_hash id = *asked;
    int rc = begin(view, false, code, arena, &a);
    if (memcmp(asked, &view->root, sizeof *asked) == 0) memcpy(&id, &view->context, sizeof id);
    if (rc == 0 && depth == SYNC_TREE_DEPTH) {
        /* A bare node: whoever asks like this knows what it means. */
        rc = sync_tree_view_load(view, &id);
        a.nodes[0] = (sync_tree_node){.id = id, .hash = view->hash};
        a.count = rc == 0 && view->live;
    } else if (rc == 0) {
        rc = answer_nodes(&a, &id, depth > 0);
    }
    *ret_answer = (sync_answer){
        .kind = SYNC_ANSWER_TREE, .nodes = {a.nodes, (uint32_t)a.count}, .not_found = a.count == 0};
    return rc;
}

int sync_tree_answer_ranges(sync_tree_view *view, sync_ids asked, const cal_blob_id *code,
                            cal_arena *arena, sync_answer *ret_answer) {
    answering a = {0};
    int rc = begin(view, true, code, arena, &a);
    if (rc == 0) rc = answer_ranges(&a, asked);
    *ret_answer = (sync_answer){.kind = SYNC_ANSWER_LEVEL,
                                .level = SYNC_TREE_LEVEL,
                                .level_nodes = {a.level, (uint32_t)a.count},
                                .more_levels = a.full,
                                .deleted = {a.deleted, (uint32_t)a.deleted_count}};
    return rc;
}
