/* The records of one operation: read once, changed in memory, hashed and written together in flush.
 * Freestanding; see apply.h and internal.h. runtime-abi.md 9, 10.
 *
 * Invariant: a node whose child list, own hash or parent changed is hash_dirty until flush; flush
 * visits dirty nodes from the deepest up, so that each full hash is computed once. */
#include "crdt/internal.h"

enum { TABLE_START = 64 };

int crdt_store_open(const crdt_env *env, const crdt_rows *rows, const crdt_id *root,
                    crdt_store **ret_store) {
    crdt_store *store = crdt_alloc_array(&env->memory, 1, sizeof *store);
    if (!store) return CRDT_ENOMEM;
    *store = (crdt_store){.env = *env, .rows = *rows, .root = *root};
    *ret_store = store;
    return 0;
}

bool crdt_is_state_root(const crdt_store *store, const crdt_id *id) {
    return crdt_id_equal(id, &store->root) || crdt_id_equal(id, &CRDT_STATE_ID);
}

/* --- the table of nodes --- */

static size_t id_slot(const crdt_id *id, size_t size) {
    uint64_t hash = 0;
    for (int i = 0; i < 32; i += 8) {
        uint64_t word;
        __builtin_memcpy(&word, id->bytes + i, 8);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 29;
    }
    return (size_t)hash & (size - 1);
}

static crdt_node **table_find(crdt_node **table, size_t size, const crdt_id *id) {
    size_t at = id_slot(id, size);
    while (table[at] && !crdt_id_equal(&table[at]->index.id, id)) at = (at + 1) & (size - 1);
    return &table[at];
}

static int table_grow(crdt_store *store) {
    size_t size = store->table_size ? store->table_size * 2 : TABLE_START;
    crdt_node **table = crdt_alloc_array(&store->env.memory, size, sizeof(crdt_node *));
    if (!table) return CRDT_ENOMEM;
    for (size_t i = 0; i < size; i++) table[i] = NULL;
    for (crdt_node *node = store->nodes; node; node = node->next)
        *table_find(table, size, &node->index.id) = node;
    store->table = table;
    store->table_size = size;
    return 0;
}

int crdt_row_read(crdt_store *store, uint8_t tag, const crdt_id *id, crdt_bytes *ret_value) {
    uint8_t key[32];
    crdt_storage_key(store->env.sha256, tag, id, key);
    return store->rows.read(store->rows.user, key, ret_value);
}

static int load(crdt_store *store, crdt_node *node) {
    crdt_bytes record;
    crdt_id id = node->index.id;
    int hit = crdt_row_read(store, CRDT_KEY_INDEX, &id, &record);
    if (hit < 0) return hit;
    node->index_read = true;
    if (hit == 0) return 0;
    int result = crdt_index_decode(&store->env.memory, record, &node->index);
    if (result == CRDT_EDECODE || (!result && !crdt_id_equal(&node->index.id, &id)))
        result = CRDT_ECORRUPT;
    if (result) {
        node->index.id = id;
        return result;
    }
    node->exists = true;
    /* The decoder has just made these arrays; nobody else sees them. */
    node->children = (crdt_child *)(uintptr_t)node->index.children.items;
    node->child_capacity = node->index.children.count;
    node->deleted = (crdt_id *)(uintptr_t)node->index.deleted_children;
    node->deleted_capacity = node->index.deleted_child_count;
    return 0;
}

int crdt_node_peek(crdt_store *store, const crdt_id *id, crdt_node **ret_node) {
    if (store->node_count * 2 >= store->table_size) {
        int result = table_grow(store);
        if (result) return result;
    }
    crdt_node **slot = table_find(store->table, store->table_size, id);
    if (!*slot) {
        crdt_node *node = crdt_alloc_array(&store->env.memory, 1, sizeof *node);
        if (!node) return CRDT_ENOMEM;
        *node = (crdt_node){.index.id = *id, .next = store->nodes};
        store->nodes = node;
        store->node_count++;
        *slot = node;
    }
    *ret_node = *slot;
    return 0;
}

crdt_node *crdt_node_find(const crdt_store *store, const crdt_id *id) {
    return store->table_size ? *table_find(store->table, store->table_size, id) : NULL;
}

int crdt_node_get(crdt_store *store, const crdt_id *id, crdt_node **ret_node) {
    crdt_node *node;
    int result = crdt_node_peek(store, id, &node);
    if (!result && !node->index_read) result = load(store, node);
    if (!result) *ret_node = node;
    return result;
}

int crdt_node_entry(crdt_store *store, crdt_node *node) {
    if (node->entry_state != ENTRY_UNREAD) return 0;
    int hit = crdt_row_read(store, CRDT_KEY_ENTRY, &node->index.id, &node->entry);
    if (hit < 0) return hit;
    node->entry_state = hit ? ENTRY_PRESENT : ENTRY_ABSENT;
    return 0;
}

void crdt_node_set_entry(crdt_node *node, crdt_bytes entry) {
    node->entry = entry;
    node->entry_state = ENTRY_PRESENT;
    node->entry_dirty = true;
}

void crdt_node_remove_entry(crdt_node *node) {
    node->entry_state = ENTRY_ABSENT;
    node->entry_dirty = true;
}

void crdt_node_create(crdt_node *node, const crdt_metadata *metadata) {
    crdt_id id = node->index.id;
    node->index = (crdt_index){.id = id, .metadata = *metadata};
    node->exists = true;
    crdt_node_touch(node);
}

void crdt_node_touch(crdt_node *node) { node->row_dirty = node->hash_dirty = true; }

/* --- parents and children --- */

static int child_order(const crdt_child *a, const crdt_child *b) {
    if (a->metadata.created_at != b->metadata.created_at)
        return a->metadata.created_at < b->metadata.created_at ? -1 : 1;
    return crdt_compare(&a->id, &b->id, 32);
}

/* Where a child stands, or would stand, in a list ordered by (created_at, id). */
static uint32_t child_slot(const crdt_node *node, const crdt_child *child, bool *ret_found) {
    uint32_t low = 0, high = node->index.children.count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = child_order(&node->children[middle], child);
        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_found = false;
    return low;
}

static crdt_child *child_by_id(crdt_node *node, const crdt_id *id) {
    for (uint32_t i = 0; i < node->index.children.count; i++)
        if (crdt_id_equal(&node->children[i].id, id)) return &node->children[i];
    return NULL;
}

static void child_remove(crdt_node *node, crdt_child *child) {
    size_t after = (size_t)(node->children + node->index.children.count - (child + 1));
    __builtin_memmove(child, child + 1, after * sizeof *child);
    node->index.children.count--;
}

static int child_insert(crdt_store *store, crdt_node *node, const crdt_child *child) {
    bool found;
    uint32_t at = child_slot(node, child, &found);
    if (found) {
        node->children[at] = *child;
        return 0;
    }
    crdt_child *stale =
        child_by_id(node, &child->id); /* the same entity, created at another time */
    if (stale) {
        child_remove(node, stale);
        at = child_slot(node, child, &found);
    }
    uint32_t count = node->index.children.count;
    if (count == node->child_capacity) {
        uint32_t capacity = count < 4 ? 8 : count * 2;
        crdt_child *children = crdt_alloc_array(&store->env.memory, capacity, sizeof *children);
        if (!children || capacity < count) return CRDT_ENOMEM;
        if (count) __builtin_memcpy(children, node->children, count * sizeof *children);
        node->children = children;
        node->child_capacity = capacity;
    }
    __builtin_memmove(node->children + at + 1, node->children + at,
                      (count - at) * sizeof *node->children);
    node->children[at] = *child;
    node->index.children = (crdt_children){node->children, count + 1};
    return 0;
}

static void deleted_forget(crdt_node *node, const crdt_id *id) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < node->index.deleted_child_count; i++)
        if (!crdt_id_equal(&node->deleted[i], id)) node->deleted[kept++] = node->deleted[i];
    node->index.deleted_child_count = kept;
}

static int deleted_remember(crdt_store *store, crdt_node *node, const crdt_id *id) {
    uint32_t count = node->index.deleted_child_count;
    for (uint32_t i = 0; i < count; i++)
        if (crdt_id_equal(&node->deleted[i], id)) return 0;
    if (count == node->deleted_capacity) {
        uint32_t capacity = count < 4 ? 8 : count * 2;
        crdt_id *deleted = crdt_alloc_array(&store->env.memory, capacity, sizeof *deleted);
        if (!deleted || capacity < count) return CRDT_ENOMEM;
        if (count) __builtin_memcpy(deleted, node->deleted, count * sizeof *deleted);
        node->deleted = deleted;
        node->deleted_capacity = capacity;
    }
    node->deleted[count] = *id;
    node->index.deleted_children = node->deleted;
    node->index.deleted_child_count = count + 1;
    return 0;
}

/* The list of a parent that is about to lose the entity keeps it, with the hash it has now
 * (traps.md 6). */
static int leave_parent(crdt_store *store, crdt_node *node) {
    crdt_node *parent;
    crdt_hash hash;
    int result = crdt_node_get(store, &node->index.parent, &parent);
    if (!result)
        result = crdt_full_hash(&store->env, &node->index.own_hash, node->index.children, &hash);
    if (result) return result;
    crdt_child *listed = parent->exists ? child_by_id(parent, &node->index.id) : NULL;
    if (!listed || crdt_compare(&listed->merkle_hash, &hash, 32) == 0) return 0;
    listed->merkle_hash = hash;
    crdt_node_touch(parent);
    return 0;
}

int crdt_node_link(crdt_store *store, const crdt_id *parent, const crdt_id *child,
                   const crdt_hash *own_hash, const crdt_metadata *metadata) {
    static const crdt_metadata nothing;
    crdt_node *above, *below;
    int result = crdt_node_get(store, parent, &above);
    if (!result) result = crdt_node_get(store, child, &below);
    if (result) return result;
    if (!above->exists) crdt_node_create(above, &nothing);
    if (!below->exists) crdt_node_create(below, metadata);
    if (below->index.has_parent && !crdt_id_equal(&below->index.parent, parent)) {
        result = leave_parent(store, below);
        if (result) return result;
    }
    below->index.has_parent = true;
    below->index.parent = *parent;
    below->index.own_hash = *own_hash;
    below->index.is_deleted = false;
    crdt_node_touch(below);
    crdt_child listed = {.id = *child, .metadata = *metadata}; /* flush fills in the hash */
    result = child_insert(store, above, &listed);
    if (result) return result;
    above->index.has_children = true;
    deleted_forget(above, child);
    crdt_node_touch(above);
    return 0;
}

int crdt_node_unlink(crdt_store *store, crdt_node *parent, const crdt_id *child) {
    crdt_child *listed = child_by_id(parent, child);
    if (listed) child_remove(parent, listed);
    if (parent->index.children.count == 0) parent->index.has_children = false;
    crdt_node_touch(parent);
    return deleted_remember(store, parent, child);
}

/* --- tombstones --- */

void crdt_node_mark_deleted(crdt_node *node, uint64_t deleted_at) {
    if (node->index.is_deleted && node->index.deleted_at > deleted_at)
        deleted_at = node->index.deleted_at;
    node->index.is_deleted = true;
    node->index.deleted_at = deleted_at;
    if (node->index.metadata.updated_at < deleted_at) node->index.metadata.updated_at = deleted_at;
    node->row_dirty = true;
}

/* Deletes all that hangs below node, except Frozen entities (with what is below them) and newer
 * values. */
int crdt_node_tombstone_below(crdt_store *store, crdt_node *node, uint64_t deleted_at) {
    store->visit++;
    node->visit = store->visit;
    crdt_node *stack = node;
    node->chain = NULL;
    while (stack) {
        crdt_node *at = stack;
        stack = at->chain;
        if (!at->exists) continue;
        if (at != node && at->index.metadata.storage.kind == CRDT_FROZEN) continue;
        for (uint32_t i = 0; i < at->index.children.count; i++) {
            crdt_node *child;
            int result = crdt_node_get(store, &at->children[i].id, &child);
            if (result) return result;
            if (child->visit == store->visit) continue;
            child->visit = store->visit;
            child->chain = stack;
            stack = child;
        }
        if (at == node || deleted_at < at->index.metadata.updated_at) continue;
        crdt_node_mark_deleted(at, deleted_at);
        crdt_node_remove_entry(at);
    }
    return 0;
}

/* --- flush --- */

/* Marks the nodes above a dirty one dirty, and says how deep it hangs. */
static int mark_above(crdt_store *store, crdt_node *node) {
    uint32_t depth = 0;
    crdt_node *at = node;
    while (at->index.has_parent) {
        if (++depth > CRDT_TREE_DEPTH_MAX) return CRDT_ELIMIT;
        crdt_node *parent;
        int result = crdt_node_get(store, &at->index.parent, &parent);
        if (result) return result;
        if (!parent->exists) return CRDT_ENOTFOUND;
        parent->hash_dirty = true;
        at = parent;
    }
    node->depth = depth;
    return 0;
}

static int rehash(crdt_store *store, crdt_node *node) {
    crdt_hash hash;
    int result = crdt_full_hash(&store->env, &node->index.own_hash, node->index.children, &hash);
    if (result) return result;
    if (crdt_compare(&hash, &node->index.full_hash, 32) != 0) {
        node->index.full_hash = hash;
        node->row_dirty = true;
    }
    node->hash_dirty = false;
    if (!node->index.has_parent) return 0;
    crdt_node *parent;
    result = crdt_node_get(store, &node->index.parent, &parent);
    if (result) return result;
    crdt_child *listed = child_by_id(parent, &node->index.id);
    if (listed && crdt_compare(&listed->merkle_hash, &hash, 32) != 0) {
        listed->merkle_hash = hash;
        parent->row_dirty = true;
    }
    return 0;
}

static int rehash_all(crdt_store *store) {
    crdt_node *by_depth[CRDT_TREE_DEPTH_MAX + 1] = {0};
    /* Nodes read on the way up come to stand before the first: the second round finds them, marked.
     */
    for (crdt_node *node = store->nodes; node; node = node->next) {
        int result = node->hash_dirty && node->exists ? mark_above(store, node) : 0;
        if (result) return result;
    }
    for (crdt_node *node = store->nodes; node; node = node->next) {
        if (!node->hash_dirty || !node->exists) continue;
        int result = mark_above(store, node);
        if (result) return result;
        node->chain = by_depth[node->depth];
        by_depth[node->depth] = node;
    }
    for (int depth = CRDT_TREE_DEPTH_MAX; depth >= 0; depth--) {
        for (crdt_node *node = by_depth[depth]; node; node = node->chain) {
            int result = rehash(store, node);
            if (result) return result;
        }
    }
    return 0;
}

static int write_node(crdt_store *store, crdt_node *node) {
    uint8_t key[32];
    if (node->entry_dirty) {
        crdt_storage_key(store->env.sha256, CRDT_KEY_ENTRY, &node->index.id, key);
        int result = node->entry_state == ENTRY_PRESENT
                         ? store->rows.write(store->rows.user, key, node->entry)
                         : store->rows.remove(store->rows.user, key);
        if (result < 0) return result;
        node->entry_dirty = false;
    }
    if (node->row_dirty && node->exists) {
        crdt_bytes record;
        int result = crdt_index_encode(&store->env.memory, &node->index, &record);
        if (result) return result;
        crdt_storage_key(store->env.sha256, CRDT_KEY_INDEX, &node->index.id, key);
        result = store->rows.write(store->rows.user, key, record);
        if (result < 0) return result;
        node->row_dirty = false;
    }
    return 0;
}

int crdt_store_flush(crdt_store *store) {
    int result = rehash_all(store);
    for (crdt_node *node = store->nodes; node && !result; node = node->next)
        result = write_node(store, node);
    return result;
}

int crdt_store_root_hash(crdt_store *store, crdt_hash *ret_hash) {
    crdt_node *root;
    int result = crdt_node_get(store, &store->root, &root);
    if (result) return result;
    if (!root->exists) return CRDT_ENOTFOUND;
    *ret_hash = root->index.full_hash;
    return 0;
}
