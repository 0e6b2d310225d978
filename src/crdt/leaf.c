/* Leaves and tombstones of another replica, see leaf.h. Freestanding. */
#include "crdt/leaf.h"

#include "crdt/internal.h"

enum { ANCESTORS_MAX = CRDT_TREE_DEPTH_MAX - 2 };

static bool has_entry(const crdt_node *node) {
    return node->exists && !node->index.is_deleted && node->entry_state == ENTRY_PRESENT;
}

static int load(crdt_store *store, const crdt_id *id, crdt_node **ret_node) {
    int result = crdt_node_get(store, id, ret_node);
    return result ? result : crdt_node_entry(store, *ret_node);
}

/* --- rotation logs --- */

static bool is_log_entry(const crdt_store *store, const crdt_node *node) {
    return node->entry_state == ENTRY_PRESENT &&
           crdt_rotation_reads(&store->env.memory, node->entry);
}

static bool is_log(const crdt_store *store, const crdt_node *node) {
    crdt_id log;
    if (!node->exists || !node->index.has_parent) return false;
    crdt_rotation_log_id(store, &node->index.parent, &log);
    return crdt_id_equal(&log, &node->index.id);
}

/* --- where it hangs --- */

/* Up to the first ancestor that is here. 1, 0 when that cannot be told, or negative. */
static int resolve_ancestors(crdt_store *store, const crdt_leaf *leaf, crdt_children *ret_list) {
    crdt_children list = leaf->ancestors;
    if (list.count > ANCESTORS_MAX) return 0;
    if (list.count && leaf->has_parent && !crdt_id_equal(&list.items[0].id, &leaf->parent))
        return 0;
    for (uint32_t i = 0; i < list.count; i++) {
        const crdt_child *at = &list.items[i];
        crdt_node *node;
        if (crdt_id_equal(&at->id, &leaf->id)) return 0;
        for (uint32_t k = 0; k < i; k++)
            if (crdt_id_equal(&at->id, &list.items[k].id)) return 0;
        int result = crdt_node_get(store, &at->id, &node);
        if (result) return result;
        if (node->exists) {
            *ret_list = (crdt_children){list.items, i + 1};
            return !node->index.is_deleted;
        }
        /* Who may write below an anchor is for the anchor's own leaf to say. */
        if (at->metadata.storage.kind != CRDT_PUBLIC) return 0;
    }
    return 0;
}

/* The parent alone, as it is here. */
static int known_parent(crdt_store *store, const crdt_id *id, crdt_children *ret_list) {
    crdt_node *node;
    int result = crdt_node_get(store, id, &node);
    if (result) return result;
    if (!node->exists || node->index.is_deleted) return 0;
    crdt_child *one = crdt_alloc_array(&store->env.memory, 1, sizeof *one);
    if (!one) return CRDT_ENOMEM;
    *one = (crdt_child){*id, node->index.full_hash, node->index.metadata};
    *ret_list = (crdt_children){one, 1};
    return 1;
}

static int find_place(crdt_store *store, const crdt_leaf *leaf, const crdt_node *node,
                      crdt_children *ret_list) {
    if (node->exists && !node->index.is_deleted) return 1; /* it stays where it is */
    if (node->exists && node->index.has_parent)
        return known_parent(store, &node->index.parent, ret_list);
    if (leaf->ancestors.count) return resolve_ancestors(store, leaf, ret_list);
    return leaf->has_parent ? known_parent(store, &leaf->parent, ret_list) : 0;
}

static bool is_collection(const crdt_metadata *metadata) {
    return metadata->type && metadata->type->kind >= CRDT_TYPE_UNORDERED_MAP &&
           metadata->type->kind <= CRDT_TYPE_SHARED_STORAGE;
}

/* A collection's bytes are its id: so one that is known only as an ancestor becomes as good as one
 * that came by itself, and hashes alike. */
static int fill_ancestors(crdt_store *store, crdt_children list) {
    for (uint32_t i = 0; i + 1 < list.count; i++) {
        const crdt_child *at = &list.items[i];
        crdt_node *node;
        int result = load(store, &at->id, &node);
        if (result) return result;
        if (!node->exists || node->entry_state == ENTRY_PRESENT || !is_collection(&at->metadata))
            continue;
        crdt_bytes bytes = crdt_bytes_of(at->id.bytes, 32);
        crdt_node_set_entry(node, bytes);
        crdt_own_hash(store->env.sha256, bytes, &node->index.own_hash);
        crdt_node_touch(node);
    }
    return 0;
}

/* --- leaves --- */

static bool is_signed(crdt_storage_kind kind) {
    return kind == CRDT_USER || kind == CRDT_SHARED || kind == CRDT_SHARED_MEMBER;
}

/* A map of frozen values has the same type as they do, and its own id as its value. */
static bool is_frozen(const crdt_leaf *leaf) {
    bool typed = leaf->type && leaf->type->kind == CRDT_TYPE_FROZEN_STORAGE;
    return typed && !crdt_bytes_equal(leaf->value, crdt_bytes_of(leaf->id.bytes, 32));
}

static crdt_storage_type storage_of(const crdt_leaf *leaf, const crdt_node *node) {
    if (leaf->authorization) return *leaf->authorization;
    if (node->exists) return node->index.metadata.storage;
    return (crdt_storage_type){.kind = is_frozen(leaf) ? CRDT_FROZEN : CRDT_PUBLIC};
}

/* The application's state: of equally new ones the larger hash stands, as with any value, so that
 * two replicas do not go on exchanging theirs. */
static int take_state(crdt_store *store, const crdt_leaf *leaf, const crdt_node *node,
                      const crdt_apply_context *context, crdt_leaf_result *ret_result) {
    const crdt_metadata *stored = &node->index.metadata;
    if (leaf->type || stored->type) {
        *ret_result = CRDT_LEAF_MERGES;
        return 0;
    }
    crdt_bytes value = crdt_merge_values(store->env.sha256, NULL, node->entry, leaf->value,
                                         stored->updated_at, leaf->updated_at);
    bool newer = leaf->updated_at >= stored->updated_at;
    bool ahead = leaf->updated_at > context->now_ns &&
                 leaf->updated_at - context->now_ns > CRDT_DRIFT_NS_SECONDS * 1000000000ull;
    *ret_result = ahead ? CRDT_LEAF_REFUSED : CRDT_LEAF_KEPT;
    if (ahead || !newer || !crdt_bytes_equal(value, leaf->value)) return 0;
    *ret_result = CRDT_LEAF_TAKEN;
    return crdt_store_put_state(store, &leaf->id, leaf->value, leaf->updated_at);
}

static int apply_leaf(crdt_store *store, const crdt_leaf *leaf, crdt_node *node,
                      const crdt_apply_context *context, crdt_leaf_result *ret_result) {
    crdt_action action = {.kind = CRDT_ACTION_ADD, .id = leaf->id, .data = leaf->value};
    crdt_refusal refusal;
    action.metadata = (crdt_metadata){.created_at = leaf->created_at,
                                      .updated_at = leaf->updated_at,
                                      .storage = storage_of(leaf, node),
                                      .type = leaf->type};
    crdt_metadata *metadata = &action.metadata;
    if (is_signed(metadata->storage.kind)) {
        *ret_result = CRDT_LEAF_REFUSED;
        if (!metadata->storage.signature) return 0;
        metadata->updated_at = metadata->storage.signature->nonce;
    }
    int result = find_place(store, leaf, node, &action.ancestors);
    *ret_result = CRDT_LEAF_DEFERRED;
    if (result <= 0) return result;
    if (node->exists && metadata->storage.kind != CRDT_FROZEN) action.kind = CRDT_ACTION_UPDATE;
    /* One known only as an ancestor has the times of its own Add, and none of its bytes. */
    bool bare = node->exists && !node->index.is_deleted && node->entry_state != ENTRY_PRESENT;
    if (bare && metadata->updated_at < node->index.metadata.updated_at)
        metadata->updated_at = node->index.metadata.updated_at;
    result = crdt_store_apply(store, &action, context, &refusal);
    if (result) return result;
    bool taken = has_entry(node) && crdt_bytes_equal(node->entry, leaf->value);
    *ret_result = refusal ? CRDT_LEAF_REFUSED : taken ? CRDT_LEAF_TAKEN : CRDT_LEAF_KEPT;
    return refusal ? 0 : fill_ancestors(store, action.ancestors);
}

int crdt_store_take_leaf(crdt_store *store, const crdt_leaf *leaf,
                         const crdt_apply_context *context, crdt_leaf_result *ret_result) {
    crdt_node *node;
    int result = load(store, &leaf->id, &node);
    if (result) return result;
    *ret_result = CRDT_LEAF_SAME;
    if (crdt_id_equal(&leaf->id, &store->root)) return 0; /* its bytes are its id */
    if (has_entry(node) && crdt_bytes_equal(node->entry, leaf->value)) return 0;
    *ret_result = CRDT_LEAF_REFUSED;
    if (is_log(store, node) || is_log_entry(store, node) ||
        crdt_rotation_reads(&store->env.memory, leaf->value))
        return 0;
    if (crdt_id_equal(&leaf->id, &CRDT_STATE_ID)) {
        if (leaf->authorization) return 0;
        if (has_entry(node)) return take_state(store, leaf, node, context, ret_result);
    }
    if (has_entry(node) && node->index.metadata.storage.kind == CRDT_FROZEN) return 0;
    return apply_leaf(store, leaf, node, context, ret_result);
}

/* --- deletions --- */

int crdt_store_take_deletion(crdt_store *store, const crdt_id *id, uint64_t deleted_at,
                             const crdt_metadata *metadata, const crdt_apply_context *context,
                             crdt_leaf_result *ret_result) {
    crdt_action action = {
        .kind = CRDT_ACTION_DELETE, .id = *id, .deleted_at = deleted_at, .metadata = *metadata};
    crdt_refusal refusal;
    crdt_node *node;
    *ret_result = CRDT_LEAF_REFUSED;
    if (crdt_is_state_root(store, id)) return 0;
    int result = load(store, id, &node);
    if (result) return result;
    if (is_log(store, node) || is_log_entry(store, node)) return 0;
    *ret_result = CRDT_LEAF_SAME;
    if (!node->exists || node->index.is_deleted) return 0;
    result = crdt_store_apply(store, &action, context, &refusal);
    if (result) return result;
    *ret_result = refusal                  ? CRDT_LEAF_REFUSED
                  : node->index.is_deleted ? CRDT_LEAF_TAKEN
                                           : CRDT_LEAF_KEPT;
    return 0;
}

/* --- the application's state --- */

int crdt_store_get_state(crdt_store *store, const crdt_id *id, crdt_state_entry *ret_state) {
    crdt_node *node;
    int result = load(store, id, &node);
    if (result) return result;
    if (!has_entry(node)) return CRDT_ENOTFOUND;
    *ret_state = (crdt_state_entry){node->entry, node->index.metadata.created_at,
                                    node->index.metadata.updated_at};
    return 0;
}

int crdt_store_put_state(crdt_store *store, const crdt_id *id, crdt_bytes value,
                         uint64_t updated_at) {
    crdt_node *node;
    int result = load(store, id, &node);
    if (result) return result;
    if (!has_entry(node)) return CRDT_ENOTFOUND;
    crdt_node_set_entry(node, value);
    crdt_own_hash(store->env.sha256, value, &node->index.own_hash);
    if (updated_at > node->index.metadata.updated_at) node->index.metadata.updated_at = updated_at;
    crdt_node_touch(node);
    return 0;
}
