/* Reading and writing by the application itself, and the artifact that tells others. Freestanding;
 * see apply.h. runtime-abi.md 9, 11. */
#include "crdt/internal.h"

int crdt_store_get(crdt_store *store, const crdt_id *id, crdt_bytes *ret_entry) {
    crdt_node *node = crdt_node_find(store, id);
    if (!node || node->entry_state == ENTRY_UNREAD) {
        int hit = crdt_row_read(store, CRDT_KEY_ENTRY, id, ret_entry);
        return hit < 0 ? hit : hit ? 0 : CRDT_ENOTFOUND;
    }
    if (node->entry_state != ENTRY_PRESENT) return CRDT_ENOTFOUND;
    *ret_entry = node->entry;
    return 0;
}

int crdt_store_index(crdt_store *store, const crdt_id *id, const crdt_index **ret_index) {
    crdt_node *node;
    int result = crdt_node_get(store, id, &node);
    if (result) return result;
    if (!node->exists || node->index.is_deleted) return CRDT_ENOTFOUND;
    *ret_index = &node->index;
    return 0;
}

int crdt_store_view(crdt_store *store, const crdt_memory *memory, const crdt_id *id,
                    crdt_index *ret_index) {
    crdt_node *node = crdt_node_find(store, id);
    if (node && node->index_read) {
        if (!node->exists || node->index.is_deleted) return CRDT_ENOTFOUND;
        *ret_index = node->index;
        return 0;
    }
    crdt_bytes row;
    int hit = crdt_row_read(store, CRDT_KEY_INDEX, id, &row);
    if (hit <= 0) return hit < 0 ? hit : CRDT_ENOTFOUND;
    int result = crdt_index_decode(memory, row, ret_index);
    if (result == CRDT_EDECODE) return CRDT_ECORRUPT;
    return result || !ret_index->is_deleted ? result : CRDT_ENOTFOUND;
}

bool crdt_store_changed(const crdt_store *store) { return store->record_count > 0; }

static int record(crdt_store *store, crdt_node *node, const crdt_action *action) {
    crdt_record *entry = crdt_alloc_array(&store->env.memory, 1, sizeof *entry);
    if (!entry) return CRDT_ENOMEM;
    *entry = (crdt_record){.action = *action, .node = node};
    if (store->last)
        store->last->next = entry;
    else
        store->first = entry;
    store->last = entry;
    store->record_count++;
    return 0;
}

/* The next time after all this entity has seen: even for values, odd for deletions (traps.md 4). */
static uint64_t next_time(const crdt_node *node, uint64_t now_ns, uint64_t parity) {
    uint64_t time = now_ns;
    if (node->exists && node->index.metadata.updated_at >= time)
        time = node->index.metadata.updated_at + 1;
    return (time & 1) == parity ? time : time + 1;
}

static crdt_metadata put_metadata(const crdt_node *node, const crdt_put *put) {
    crdt_metadata metadata = {.type = put->type};
    bool live = node->exists && !node->index.is_deleted;
    metadata.updated_at = next_time(node, put->now_ns, 0);
    metadata.created_at = live ? node->index.metadata.created_at : metadata.updated_at;
    if (!node->exists && put->created_at)
        metadata.created_at = metadata.updated_at = put->created_at;
    if (put->field_name) {
        metadata.has_field_name = true;
        metadata.field_name = crdt_bytes_of(put->field_name, __builtin_strlen(put->field_name));
    }
    return metadata;
}

int crdt_store_put(crdt_store *store, const crdt_put *put) {
    crdt_node *node;
    int result = crdt_node_get(store, &put->id, &node);
    if (result) return result;
    crdt_metadata metadata = put_metadata(node, put);
    uint8_t *data = crdt_alloc_array(&store->env.memory, put->data.len, 1);
    if (!data) return CRDT_ENOMEM;
    if (put->data.len) __builtin_memcpy(data, put->data.data, put->data.len);
    crdt_action action = {
        .kind = metadata.created_at == metadata.updated_at ? CRDT_ACTION_ADD : CRDT_ACTION_UPDATE,
        .id = put->id,
        .data = crdt_bytes_of(data, put->data.len),
        .metadata = metadata,
    };
    crdt_hash own_hash;
    crdt_own_hash(store->env.sha256, action.data, &own_hash);
    if (!node->exists) crdt_node_create(node, &metadata);
    crdt_node_set_entry(node, action.data);
    node->index.own_hash = own_hash;
    node->index.metadata.updated_at = metadata.updated_at;
    node->index.is_deleted = false;
    crdt_node_touch(node);
    if (put->parent) {
        result = crdt_node_link(store, put->parent, &put->id, &own_hash, &metadata);
        if (result) return result;
    }
    return record(store, node, &action);
}

int crdt_store_delete(crdt_store *store, const crdt_id *id, uint64_t now_ns) {
    crdt_node *node, *parent;
    int result = crdt_node_get(store, id, &node);
    if (result) return result;
    if (!node->exists || node->index.is_deleted) return CRDT_ENOTFOUND;
    crdt_action action = {
        .kind = CRDT_ACTION_DELETE,
        .id = *id,
        .deleted_at = next_time(node, now_ns, 1),
        .metadata = node->index.metadata,
    };
    result = crdt_node_tombstone_below(store, node, action.deleted_at);
    if (result) return result;
    crdt_node_mark_deleted(node, action.deleted_at);
    crdt_node_remove_entry(node);
    if (node->index.has_parent) {
        result = crdt_node_get(store, &node->index.parent, &parent);
        if (result) return result;
        if (!parent->exists) return CRDT_ECORRUPT;
        result = crdt_node_unlink(store, parent, id);
        if (result) return result;
    }
    return record(store, node, &action);
}

/* --- the artifact --- */

static void write_ancestors(crdt_store *store, crdt_writer *writer, crdt_node *node) {
    crdt_node *chain[CRDT_TREE_DEPTH_MAX];
    uint32_t count = 0;
    while (node->index.has_parent && count < CRDT_TREE_DEPTH_MAX && !writer->error) {
        int result = crdt_node_get(store, &node->index.parent, &node);
        if (result)
            writer->error = result;
        else
            chain[count++] = node;
    }
    if (writer->error) return;
    crdt_write_u32(writer, count);
    for (uint32_t i = 0; i < count; i++) {
        crdt_child ancestor = {.id = chain[i]->index.id,
                               .merkle_hash = chain[i]->index.full_hash,
                               .metadata = chain[i]->index.metadata};
        crdt_write_child(writer, &ancestor);
    }
}

int crdt_store_artifact(crdt_store *store, crdt_bytes *ret_artifact) {
    *ret_artifact = (crdt_bytes){0};
    if (!store->record_count) return 0;
    crdt_writer writer = crdt_writer_of(&store->env.memory);
    crdt_write_u8(&writer, CRDT_DELTA_ACTIONS);
    crdt_write_u32(&writer, store->record_count);
    for (crdt_record *at = store->first; at; at = at->next) {
        const crdt_action *action = &at->action;
        crdt_write_u8(&writer, (uint8_t)action->kind);
        crdt_write_fixed(&writer, &action->id, 32);
        if (action->kind == CRDT_ACTION_DELETE) {
            crdt_write_u64(&writer, action->deleted_at);
        } else {
            crdt_write_bytes(&writer, action->data);
            write_ancestors(store, &writer, at->node);
        }
        crdt_write_metadata(&writer, &action->metadata);
    }
    return crdt_write_end(&writer, ret_artifact);
}
