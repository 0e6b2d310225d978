/* Where two trees differ, see tree_found.h. What the peer says is only ever asked about, offered to
 * the context as a leaf or a tombstone, or answered with what is here: it decides nothing else. */
#include "sync/tree_found.h"

#include <stdlib.h>
#include <string.h>

/* --- lists --- */

static int room(void **items, size_t *capacity, size_t count, size_t size, size_t max) {
    if (count >= max) return CAL_ELIMIT;
    if (count < *capacity) return 0;
    size_t larger = *capacity ? 2 * *capacity : 64;
    void *grown = realloc(*items, larger * size);
    if (!grown) return CAL_ENOMEM;
    *items = grown;
    *capacity = larger;
    return 0;
}
#define ROOM(list, count, capacity, max)                                                           \
    room((void **)&(list), &(capacity), count, sizeof *(list), max)

int sync_tree_found_init(sync_tree_found *found, cal_store *store, const cal_context_id *context,
                         uint64_t now_ms) {
    *found = (sync_tree_found){.store = store};
    return sync_tree_view_open(store, context, now_ms, &found->view);
}

void sync_tree_found_deinit(sync_tree_found *found) {
    sync_tree_view_free(found->view);
    free(found->asks);
    free(found->pushes);
    free(found->gone);
    free(found->leaves);
    free(found->deletions);
}

void sync_tree_found_reset(sync_tree_found *found) {
    found->leaf_count = found->deletion_count = 0;
}

int sync_tree_found_renew(sync_tree_found *found, uint64_t now_ms) {
    cal_context_id context = found->view->context;
    sync_tree_view_free(found->view);
    found->view = NULL;
    return sync_tree_view_open(found->store, &context, now_ms, &found->view);
}

int sync_tree_found_ask(sync_tree_found *found, const cal_hash *id, const cal_hash *range) {
    int rc = ROOM(found->asks, found->ask_count, found->ask_capacity, SYNC_TREE_ASKS_MAX);
    if (rc == 0) found->asks[found->ask_count++] = (sync_tree_ask){*id, *range};
    return rc;
}

int sync_tree_found_push(sync_tree_found *found, const cal_hash *id, bool deep) {
    int rc = ROOM(found->pushes, found->push_count, found->push_capacity, SYNC_TREE_PUSHES_MAX);
    if (rc == 0) found->pushes[found->push_count++] = (sync_tree_push){*id, deep};
    return rc;
}

int sync_tree_found_gone(sync_tree_found *found, const cal_hash *id) {
    int rc = ROOM(found->gone, found->gone_count, found->gone_capacity, SYNC_TREE_PUSHES_MAX);
    if (rc == 0) found->gone[found->gone_count++] = *id;
    return rc;
}

int sync_tree_found_push_below(sync_tree_found *found, const cal_hash *id) {
    int rc = sync_tree_view_load(found->view, id);
    for (size_t i = 0; rc == 0 && i < found->view->child_count; i++)
        rc = sync_tree_found_push(found, &found->view->children[i].id, true);
    return rc;
}

static int found_leaf(sync_tree_found *found, const sync_leaf *leaf) {
    int rc = ROOM(found->leaves, found->leaf_count, found->leaf_capacity, SYNC_TREE_ASKS_MAX);
    if (rc == 0) found->leaves[found->leaf_count++] = leaf;
    return rc;
}

static int ask_whole(sync_tree_found *found, const cal_hash *id) {
    static const cal_hash all;
    return sync_tree_found_ask(found, id, &all);
}

/* --- tombstones of the peer --- */

static cal_slice key_of(const cal_hash *id) { return cal_slice_of(id->bytes, sizeof id->bytes); }

/* Those of what is here and alive. */
static int take_deletions(sync_tree_found *found, sync_deletions deletions, cal_map *ret_dead) {
    static char mark;
    int rc = 0;
    uint32_t count = deletions.count;
    if (count > SYNC_TREE_TOMBSTONES_MAX) count = SYNC_TREE_TOMBSTONES_MAX;
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        const sync_deletion *deletion = &deletions.items[i];
        rc = sync_tree_view_load(found->view, &deletion->id);
        if (rc != 0 || !found->view->live) continue;
        rc = cal_map_put(ret_dead, key_of(&deletion->id), &mark);
        if (rc == 0)
            rc = ROOM(found->deletions, found->deletion_count, found->deletion_capacity,
                      SYNC_TREE_ASKS_MAX);
        if (rc == 0) found->deletions[found->deletion_count++] = deletion;
    }
    return rc;
}

static int only_here(sync_tree_found *found, const cal_map *dead, const cal_hash *id) {
    return cal_map_get(dead, key_of(id)) ? 0 : sync_tree_found_push(found, id, true);
}

/* The entity's own bytes, when they are others here. */
static int take_own(sync_tree_found *found, const cal_hash *id, const sync_leaf *leaf) {
    cal_hash own;
    if (memcmp(&leaf->id, id, sizeof *id) != 0) return CAL_EDECODE;
    int rc = sync_tree_view_load(found->view, id);
    if (rc != 0) return rc;
    cal_sha256_parts(&leaf->value, 1, own.bytes);
    bool same = found->view->live && memcmp(&own, &found->view->own, sizeof own) == 0;
    return same ? 0 : found_leaf(found, leaf);
}

/* --- ranges --- */

/* One question and its answer; `at` moves over the children that are here. */
typedef struct range_walk {
    sync_tree_found *found;
    const cal_map *dead;
    const sync_tree_ask *ask;
    const sync_tree_child *here;
    size_t at, end;
} range_walk;

static int pass_until(range_walk *walk, const cal_hash *start) {
    int rc = 0;
    while (rc == 0 && walk->at < walk->end &&
           (!start || memcmp(&walk->here[walk->at].id, start, sizeof *start) < 0))
        rc = only_here(walk->found, walk->dead, &walk->here[walk->at++].id);
    return rc;
}

static int meet_child(range_walk *walk, const sync_level_node *child) {
    if (!sync_range_has(&walk->ask->range, &child->id)) return CAL_EDECODE;
    int rc = pass_until(walk, &child->id);
    if (rc != 0) return rc;
    bool both =
        walk->at < walk->end && memcmp(&walk->here[walk->at].id, &child->id, sizeof child->id) == 0;
    bool same = both && memcmp(&walk->here[walk->at].hash, &child->hash, sizeof child->hash) == 0;
    walk->at += both;
    return same ? 0 : ask_whole(walk->found, &child->id);
}

static int meet_range(range_walk *walk, const sync_level_node *node) {
    cal_hash start = node->id, hash;
    if (!sync_range_valid(&node->id) || !sync_range_within(&node->id, &walk->ask->range))
        return CAL_EDECODE;
    start.bytes[31] = 0;
    int rc = pass_until(walk, &start);
    if (rc != 0) return rc;
    size_t first = walk->at;
    while (walk->at < walk->end && sync_range_has(&node->id, &walk->here[walk->at].id)) walk->at++;
    cal_slice all = cal_slice_of(walk->here + first, (walk->at - first) * sizeof *walk->here);
    cal_sha256_parts(&all, 1, hash.bytes);
    if (memcmp(&hash, &node->hash, sizeof hash) == 0) return 0;
    return sync_tree_found_ask(walk->found, &walk->ask->id, &node->id);
}

static int compare_range(sync_tree_found *found, const sync_tree_ask *ask,
                         const sync_level_node *items, size_t count, const cal_map *dead) {
    static const cal_hash none;
    sync_tree_view *view = found->view;
    int rc = sync_tree_view_load(view, &ask->id);
    if (rc != 0) return rc;
    size_t first, have = sync_tree_view_span(view, &ask->range, &first);
    range_walk walk = {found, dead, ask, view->children, first, first + (view->live ? have : 0)};
    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (i > 0 && memcmp(&items[i - 1].id, &items[i].id, sizeof items[i].id) >= 0)
            return CAL_EDECODE;
        if (memcmp(&items[i].parent, &ask->id, sizeof ask->id) == 0)
            rc = meet_child(&walk, &items[i]);
        else if (memcmp(&items[i].parent, &none, sizeof none) == 0)
            rc = meet_range(&walk, &items[i]);
        else
            rc = CAL_EDECODE;
    }
    return rc == 0 ? pass_until(&walk, NULL) : rc;
}

int sync_tree_compare_ranges(sync_tree_found *found, size_t asked, const sync_answer *answer) {
    sync_level_nodes nodes = answer->level_nodes;
    size_t answered = 0;
    cal_map dead;
    cal_map_init(&dead, found->view->made_ms);
    int rc = take_deletions(found, answer->deleted, &dead);
    for (uint32_t i = 0; rc == 0 && i < nodes.count; answered++) {
        const sync_level_node *head = &nodes.items[i];
        sync_tree_ask at =
            answered < asked ? found->asks[found->ask_at + answered] : (sync_tree_ask){0};
        uint32_t from = ++i;
        while (i < nodes.count && nodes.items[i].has_parent) i++;
        if (answered >= asked || head->has_parent || memcmp(&head->id, &at.id, sizeof at.id) != 0 ||
            memcmp(&head->hash, &at.range, sizeof at.range) != 0)
            rc = CAL_EDECODE;
        if (rc == 0 && head->has_leaf) rc = take_own(found, &head->id, &head->leaf);
        if (rc == 0) rc = compare_range(found, &at, nodes.items + from, i - from, &dead);
    }
    cal_map_deinit(&dead);
    if (rc == 0 && answered == 0) rc = CAL_EDECODE;
    found->ask_at += answered;
    return rc;
}

/* --- nodes --- */

static int by_id(const void *a, const void *b) { return memcmp(a, b, sizeof(cal_hash)); }

/* A child that is not here, or whether it differs is not known yet. */
static int meet_node(sync_tree_found *found, const cal_map *nodes, const cal_hash *id,
                     const cal_hash *here) {
    const sync_tree_node *node = cal_map_get(nodes, key_of(id));
    if (node && here && memcmp(&node->hash, here, sizeof *here) == 0) return 0;
    if (!node || !node->has_leaf) return ask_whole(found, id);
    return memcmp(&node->leaf.id, id, sizeof *id) == 0 ? found_leaf(found, &node->leaf)
                                                       : CAL_EDECODE;
}

static int compare_children(sync_tree_found *found, const cal_hash *id, cal_hash *theirs,
                            size_t count, const cal_map *nodes, const cal_map *dead) {
    int rc = sync_tree_view_load(found->view, id);
    if (rc != 0) return rc;
    const sync_tree_child *here = found->view->children;
    size_t have = found->view->live ? found->view->child_count : 0, at = 0;
    qsort(theirs, count, sizeof *theirs, by_id);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        while (rc == 0 && at < have && by_id(&here[at].id, &theirs[i]) < 0)
            rc = only_here(found, dead, &here[at++].id);
        bool both = at < have && by_id(&here[at].id, &theirs[i]) == 0;
        if (rc == 0) rc = meet_node(found, nodes, &theirs[i], both ? &here[at].hash : NULL);
        at += both;
    }
    while (rc == 0 && at < have) rc = only_here(found, dead, &here[at++].id);
    return rc;
}

static size_t differences(const sync_tree_found *found) {
    return found->ask_count + found->push_count + found->leaf_count + found->deletion_count;
}

/* All that hangs below the loaded one is the same on both sides, and yet it differs: by its own
 * bytes, which the peer does not say of what has children. Nodes of the reference know containers
 * wrongly that they made of what a leaf of another one listed; ours make them right. */
static int push_own(sync_tree_found *found, const cal_hash *id, const cal_hash *hash) {
    const sync_tree_view *view = found->view;
    bool same = memcmp(&view->hash, hash, sizeof *hash) == 0;
    if (same || !view->live || memcmp(id, view->context.bytes, sizeof *id) == 0 ||
        memcmp(id, &CRDT_STATE_ID, sizeof *id) == 0)
        return 0;
    return sync_tree_found_push(found, id, false);
}

int sync_tree_compare_nodes(sync_tree_found *found, const cal_hash *id, sync_tree_nodes nodes) {
    cal_map by, dead;
    if (nodes.count == 0) return 0;
    const sync_tree_node *top = nodes.items;
    bool inner = top->children.count > 0 || top->deleted.count > 0;
    if (memcmp(&top->id, id, sizeof *id) != 0 || (top->has_leaf && inner)) return CAL_EDECODE;
    if (top->has_leaf) return take_own(found, id, &top->leaf);
    if (!inner) return 0; /* known only as an ancestor */
    cal_map_init(&by, found->view->made_ms);
    cal_map_init(&dead, found->view->made_ms);
    cal_hash *theirs = malloc((top->children.count + 1) * sizeof *theirs);
    int rc = theirs ? take_deletions(found, top->deleted, &dead) : CAL_ENOMEM;
    for (uint32_t i = 1; rc == 0 && i < nodes.count; i++)
        rc = cal_map_put(&by, key_of(&nodes.items[i].id), (void *)(uintptr_t)&nodes.items[i]);
    if (rc == 0 && top->children.count)
        memcpy(theirs, top->children.items, top->children.count * sizeof *theirs);
    size_t before = differences(found);
    if (rc == 0) rc = compare_children(found, id, theirs, top->children.count, &by, &dead);
    if (rc == 0 && before == differences(found) && dead.count == 0)
        rc = push_own(found, id, &top->hash);
    free(theirs);
    cal_map_deinit(&by);
    cal_map_deinit(&dead);
    return rc;
}
