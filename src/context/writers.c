/* Who may write to the Shared entities of a delta, at its parents (runtime-abi.md 13).
 *
 * The rotation log of an anchor names for each change the delta that brought it. A change counts
 * when that delta is one of the parents or an ancestor of one; among those that count the latest
 * stands. What was rotated beside the delta or after it does not count, in whatever order it came,
 * so all nodes find the same set.
 *
 * Whatever is logged is an ancestor of the heads. So two colours run down the stored deltas at
 * once, from the heads and from the parents, latest first, until nothing is left that has the
 * heads' colour only: what has been met with that colour alone is beside the delta, and all else,
 * met or not, lies below its parents. That costs what stands beside the delta, not its history.
 * Clocks only order the walk; since a parent may be a little later than its child (network-sync.md
 * 6.4), it goes on below a logged delta for as long as clocks may differ. What is not stored came
 * with an installed state or was compacted away, and hides nothing that is logged beside it. But
 * what was made after all parents, and cannot be met any more, is below none of them. */
#include <string.h>

#include "base/sorted.h"
#include "context/internal.h"

enum { WALK_NODES_MAX = 16384, ROTATIONS_MAX = 4096 };
#define WALK_SLOP (UINT64_C(10) << 32) /* twice the bound by which a clock may be ahead */

/* --- the walk --- */

enum { OF_PARENTS = 1, OF_HEADS = 2 };

struct node {
    unsigned colour;
    bool stored, logged, waiting;
    uint64_t time;
    const uint8_t (*parents)[32];
    size_t parent_count;
    uint8_t place[8 + 32]; /* key in front: time, id */
};

struct walk {
    cal_snapshot *snapshot;
    const cal_context_id *id;
    cal_arena *arena;
    cal_sorted logged; /* ids whose fate is asked */
    cal_sorted nodes;  /* what was met: id -> node */
    cal_sorted front;  /* to go on from: time and id -> node */
    size_t beside;     /* of those in front, that have the heads' colour only */
    bool cut;          /* met so many that it ends */
    uint64_t until;    /* no ancestor of the parents was made later */
};

static void walk_init(struct walk *walk, cal_snapshot *snapshot, const cal_context_id *id,
                      cal_arena *arena) {
    *walk = (struct walk){.snapshot = snapshot, .id = id, .arena = arena};
    cal_sorted_init(&walk->logged);
    cal_sorted_init(&walk->nodes);
    cal_sorted_init(&walk->front);
}

static void walk_deinit(struct walk *walk) {
    cal_sorted_deinit(&walk->logged);
    cal_sorted_deinit(&walk->nodes);
    cal_sorted_deinit(&walk->front);
}

static int read_node(struct walk *walk, const uint8_t id[32], struct node *node) {
    uint8_t key[64];
    cal_buffer row;
    cal_delta_record delta;
    memcpy(key, walk->id->bytes, 32);
    memcpy(key + 32, id, 32);
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int rc = cal_snapshot_get(walk->snapshot, CAL_COLUMN_DELTA, cal_slice_of(key, 64), &row);
    if (rc == 0) rc = cal_delta_record_decode(cal_buffer_slice(&row), &delta);
    if (rc == 0) {
        node->stored = true;
        node->time = delta.hlc.time;
        node->parents = cal_arena_copy(walk->arena, delta.parents, delta.parent_count * 32);
        node->parent_count = delta.parent_count;
        if (!node->parents) rc = CAL_ENOMEM;
    }
    cal_buffer_deinit(&row);
    for (int i = 0; i < 8; i++) node->place[i] = (uint8_t)(node->time >> (56 - 8 * i));
    memcpy(node->place + 8, id, 32);
    return rc == CAL_ENOTFOUND ? 0 : rc;
}

/* The node of an id, made when it is met for the first time; NULL when there are too many. */
static int meet(struct walk *walk, const uint8_t id[32], struct node **ret_node) {
    cal_slice key = cal_slice_of(id, 32);
    *ret_node = cal_sorted_get(&walk->nodes, key);
    if (*ret_node) return 0;
    walk->cut = walk->nodes.count >= WALK_NODES_MAX;
    if (walk->cut) return 0;
    struct node *node = cal_arena_alloc(walk->arena, sizeof *node);
    if (!node) return CAL_ENOMEM;
    *node = (struct node){.logged = cal_sorted_get(&walk->logged, key) != NULL};
    int rc = read_node(walk, id, node);
    if (rc == 0) rc = cal_sorted_put(&walk->nodes, key, node, NULL);
    if (rc == 0) *ret_node = node;
    return rc;
}

/* Gives it a colour more; what is new in it runs on from there. */
static int paint(struct walk *walk, const uint8_t id[32], unsigned colour) {
    static const uint8_t zero[32];
    struct node *node;
    if (memcmp(id, zero, 32) == 0) return 0;
    int rc = meet(walk, id, &node);
    if (rc != 0 || !node || (node->colour | colour) == node->colour) return rc;
    if (node->waiting) walk->beside -= node->colour == OF_HEADS;
    node->colour |= colour;
    if (!node->stored) return 0;
    walk->beside += node->colour == OF_HEADS;
    if (node->waiting) return 0;
    node->waiting = true;
    return cal_sorted_put(&walk->front, cal_slice_of(node->place, sizeof node->place), node, NULL);
}

/* The oldest time of a logged delta that so far has the heads' colour only; 0: there is none. */
static uint64_t oldest_beside(const struct walk *walk) {
    uint64_t oldest = 0;
    const cal_sorted_node *at = cal_sorted_from(&walk->logged, (cal_slice){0});
    for (; at; at = at->next[0]) {
        const struct node *node = cal_sorted_get(&walk->nodes, at->key);
        if (node && node->colour == OF_HEADS && (oldest == 0 || node->time < oldest))
            oldest = node->time;
    }
    return oldest;
}

static bool goes_on(const struct walk *walk, const struct node *latest, bool look,
                    uint64_t *oldest) {
    if (walk->cut) return false;
    if (walk->beside > 0) return true;
    if (look) *oldest = oldest_beside(walk);
    return *oldest != 0 && latest->time + WALK_SLOP >= *oldest;
}

static int walk_down(struct walk *walk) {
    uint64_t oldest = 0;
    bool look = true; /* colours of logged ones have changed */
    const cal_sorted_node *last;
    while ((last = cal_sorted_before(&walk->front, NULL)) != NULL) {
        struct node *node = last->value;
        if (!goes_on(walk, node, look, &oldest)) return 0;
        look = walk->beside > 0 || node->logged;
        walk->beside -= node->colour == OF_HEADS;
        node->waiting = false;
        cal_sorted_remove(&walk->front, last->key);
        for (size_t i = 0; i < node->parent_count; i++) {
            int rc = paint(walk, node->parents[i], node->colour);
            if (rc != 0) return rc;
            const struct node *parent =
                cal_sorted_get(&walk->nodes, cal_slice_of(node->parents[i], 32));
            look = look || (parent && parent->logged);
        }
    }
    return 0;
}

static uint64_t parents_until(const struct walk *walk, const cal_delta_record *delta) {
    uint64_t latest = 0;
    for (size_t i = 0; i < delta->parent_count; i++) {
        const struct node *node = cal_sorted_get(&walk->nodes, cal_slice_of(delta->parents[i], 32));
        if (!node || !node->stored) return UINT64_MAX;
        if (node->time > latest) latest = node->time;
    }
    return latest + WALK_SLOP;
}

/* Tells for all that is logged whether it stands beside the delta. */
static int walk_run(struct walk *walk, const cal_delta_record *delta) {
    cal_buffer row;
    cal_context_record record = {.head_count = 0};
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int rc = cal_snapshot_get(walk->snapshot, CAL_COLUMN_CONTEXT,
                              cal_slice_of(walk->id->bytes, CAL_ID_SIZE), &row);
    if (rc == 0) rc = cal_context_record_decode(cal_buffer_slice(&row), walk->arena, &record);
    cal_buffer_deinit(&row);
    for (size_t i = 0; rc == 0 && i < delta->parent_count; i++)
        rc = paint(walk, delta->parents[i], OF_PARENTS);
    walk->until = parents_until(walk, delta);
    for (size_t i = 0; rc == 0 && i < record.head_count; i++)
        rc = paint(walk, record.heads[i].bytes, OF_HEADS);
    return rc == 0 ? walk_down(walk) : rc;
}

static bool counts(const struct walk *walk, const crdt_rotation *rotation) {
    const struct node *node =
        cal_sorted_get(&walk->nodes, cal_slice_of(rotation->delta_id.bytes, 32));
    return node ? node->colour != OF_HEADS : rotation->hlc.time <= walk->until;
}

/* --- the entities --- */

struct touched { /* an entity of the delta's actions, and what is logged of its anchor */
    crdt_id entity, anchor;
    const crdt_rotation *rotations;
    uint32_t rotation_count;
};

static const crdt_id *anchor_of(const crdt_action *action) {
    const crdt_storage_type *storage = &action->metadata.storage;
    return storage->kind == CRDT_SHARED          ? &action->id
           : storage->kind == CRDT_SHARED_MEMBER ? &storage->subject
                                                 : NULL;
}

static int decode_actions(const cal_delta_record *delta, cal_arena *arena, crdt_delta *ret_delta) {
    crdt_memory memory = cal_crdt_memory(arena);
    int rc = crdt_delta_decode(&memory, crdt_bytes_of(delta->artifact.data, delta->artifact.len),
                               ret_delta);
    return rc == 0 && ret_delta->kind != CRDT_DELTA_ACTIONS ? CAL_EDECODE : rc;
}

int cal_context_needs_writers(const cal_delta_record *delta, cal_arena *arena) {
    crdt_delta actions;
    int rc = decode_actions(delta, arena, &actions);
    for (uint32_t i = 0; rc == 0 && i < actions.action_count; i++)
        if (anchor_of(&actions.actions[i])) return 1;
    return rc;
}

static int by_entity(const void *a, const void *b) { return memcmp(a, b, sizeof(crdt_id)); }

/* Sorted by entity, each once. */
static int list_touched(const crdt_delta *delta, cal_arena *arena, struct touched **ret_touched,
                        uint32_t *ret_count) {
    crdt_memory memory = cal_crdt_memory(arena);
    struct touched *touched = cal_arena_alloc_array(arena, delta->action_count, sizeof *touched);
    uint32_t count = 0, kept = 0;
    if (!touched) return CAL_ENOMEM;
    for (uint32_t i = 0; i < delta->action_count; i++) {
        const crdt_id *anchor = anchor_of(&delta->actions[i]);
        if (anchor)
            touched[count++] = (struct touched){.entity = delta->actions[i].id, .anchor = *anchor};
    }
    int rc = crdt_sort(&memory, touched, count, sizeof *touched, by_entity);
    for (uint32_t i = 0; i < count; i++)
        if (kept == 0 || by_entity(&touched[kept - 1], &touched[i]) != 0)
            touched[kept++] = touched[i];
    *ret_touched = touched;
    *ret_count = kept;
    return rc;
}

struct source {
    cal_snapshot *snapshot;
    const cal_context_id *id;
    cal_arena *arena;
};

static int read_row(void *user, const uint8_t row_key[32], crdt_bytes *ret_value) {
    const struct source *source = user;
    uint8_t key[64];
    cal_buffer row;
    memcpy(key, source->id->bytes, 32);
    memcpy(key + 32, row_key, 32);
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int rc = cal_snapshot_get(source->snapshot, CAL_COLUMN_STATE, cal_slice_of(key, 64), &row);
    uint8_t *copy = rc == 0 ? cal_arena_copy(source->arena, row.data, row.len) : NULL;
    if (rc == 0 && !copy) rc = CAL_ENOMEM;
    if (rc == 0) *ret_value = crdt_bytes_of(copy, row.len);
    cal_buffer_deinit(&row);
    return rc == 0 ? 1 : rc == CAL_ENOTFOUND ? 0 : rc;
}

static int read_logs(struct source *source, struct touched *touched, uint32_t count,
                     struct walk *walk) {
    crdt_env env = cal_crdt_env(source->arena);
    crdt_rows rows = {.user = source, .read = read_row};
    crdt_id root;
    crdt_store *store;
    memcpy(root.bytes, source->id->bytes, 32);
    int rc = crdt_store_open(&env, &rows, &root, &store);
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        struct touched *one = &touched[i];
        rc = crdt_store_rotations(store, &one->anchor, &one->rotations, &one->rotation_count);
        for (uint32_t k = 0; rc == 0 && k < one->rotation_count; k++)
            rc = cal_sorted_put(&walk->logged, cal_slice_of(one->rotations[k].delta_id.bytes, 32),
                                walk, NULL);
        if (rc == 0 && walk->logged.count > ROTATIONS_MAX) rc = CAL_ELIMIT;
    }
    return rc;
}

/* The entities of whose anchors some change counts. */
static int choose(const struct touched *touched, uint32_t count, const struct walk *walk,
                  const crdt_entity_writers **ret_writers, uint32_t *ret_count) {
    crdt_entity_writers *writers = cal_arena_alloc_array(walk->arena, count, sizeof *writers);
    uint32_t used = 0;
    if (!writers) return CAL_ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        const crdt_rotation *best = NULL;
        for (uint32_t k = 0; k < touched[i].rotation_count; k++) {
            const crdt_rotation *one = &touched[i].rotations[k];
            if (one->has_signer && counts(walk, one) &&
                (!best || crdt_rotation_supersedes(one, best)))
                best = one;
        }
        if (best) writers[used++] = (crdt_entity_writers){touched[i].entity, best->writers};
    }
    *ret_writers = writers;
    *ret_count = used;
    return 0;
}

int cal_context_writers(cal_store *store, const cal_context_id *id, const cal_delta_record *delta,
                        cal_arena *arena, const crdt_entity_writers **ret_writers,
                        uint32_t *ret_count) {
    crdt_delta actions;
    struct touched *touched;
    uint32_t count = 0;
    struct source source = {.id = id, .arena = arena};
    int rc = decode_actions(delta, arena, &actions);
    if (rc == 0) rc = list_touched(&actions, arena, &touched, &count);
    if (rc == 0 && count == 0) {
        *ret_writers = NULL;
        *ret_count = 0;
        return 0;
    }
    if (rc == 0) rc = cal_store_snapshot(store, &source.snapshot);
    if (rc != 0) return rc;
    struct walk walk;
    walk_init(&walk, source.snapshot, id, arena);
    rc = read_logs(&source, touched, count, &walk);
    if (rc == 0 && walk.logged.count > 0) rc = walk_run(&walk, delta);
    if (rc == 0) rc = choose(touched, count, &walk, ret_writers, ret_count);
    walk_deinit(&walk);
    cal_snapshot_free(source.snapshot);
    return rc;
}
