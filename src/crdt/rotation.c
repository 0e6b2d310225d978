/* The rotation log of a Shared anchor: a map below it, an entry for each delta that changed the
 * writer set. It is hashed with the anchor, so that replicas which disagree on who may write have
 * different roots. Freestanding. runtime-abi.md 9, 13. */
#include "crdt/internal.h"

static crdt_bytes text(const char *value) { return crdt_bytes_of(value, __builtin_strlen(value)); }

void crdt_rotation_log_id(const crdt_store *store, const crdt_id *anchor, crdt_id *ret_id) {
    crdt_entry_id(store->env.sha256, anchor, text("__calimero_rotation_log__"), ret_id);
}

/* The map that holds the log, made when missing; its times are 0 so that every replica makes the
 * same one. */
static int open_log(crdt_store *store, const crdt_id *anchor, crdt_id *ret_map) {
    static const crdt_type type = {
        .kind = CRDT_TYPE_UNORDERED_MAP,
        .names = {{(const uint8_t *)"[u8; 32]", 8},
                  {(const uint8_t *)"calimero_storage::rotation_log::RotationLogEntry", 48}},
    };
    static const crdt_metadata metadata = {.type = &type};
    crdt_rotation_log_id(store, anchor, ret_map);
    crdt_node *node;
    int result = crdt_node_get(store, ret_map, &node);
    if (!result) result = crdt_node_entry(store, node);
    if (result || node->entry_state == ENTRY_PRESENT) return result;
    uint8_t *bytes = crdt_alloc_array(&store->env.memory, 32, 1);
    if (!bytes) return CRDT_ENOMEM;
    __builtin_memcpy(bytes, ret_map->bytes, 32);
    crdt_hash own_hash;
    crdt_own_hash(store->env.sha256, crdt_bytes_of(bytes, 32), &own_hash);
    result = crdt_node_link(store, anchor, ret_map, &own_hash, &metadata);
    if (!result) crdt_node_set_entry(node, crdt_bytes_of(bytes, 32));
    return result;
}

int crdt_rotation_append(crdt_store *store, const crdt_action *action, const uint8_t payload[32],
                         const crdt_apply_context *context) {
    const crdt_storage_type *storage = &action->metadata.storage;
    const crdt_signature *signature = storage->signature;
    if (!signature || !signature->has_signer) return 0;
    crdt_id map, id;
    int result = open_log(store, &action->id, &map);
    if (result) return result;
    crdt_entry_id(store->env.sha256, &map, crdt_bytes_of(context->delta_id.bytes, 32), &id);
    crdt_writer writer = crdt_writer_of(&store->env.memory);
    crdt_write_fixed(&writer, &context->delta_id, 32); /* the map's key */
    crdt_write_fixed(&writer, &context->delta_id, 32); /* the value's first field */
    crdt_write_hlc(&writer, &context->delta_hlc);
    crdt_write_u8(&writer, 1);
    crdt_write_fixed(&writer, &signature->signer, 32);
    crdt_write_u8(&writer, 1);
    crdt_write_fixed(&writer, signature->signature, 64);
    crdt_write_u8(&writer, 1);
    crdt_write_fixed(&writer, payload, 32);
    crdt_write_u32(&writer, storage->writers.count);
    for (uint32_t i = 0; i < storage->writers.count; i++) {
        crdt_write_fixed(&writer, &storage->writers.items[i].account, 32);
        crdt_write_u8(&writer, storage->writers.items[i].mask);
    }
    crdt_write_u64(&writer, signature->nonce);
    crdt_write_fixed(&writer, &id, 32);
    crdt_bytes entry;
    result = crdt_write_end(&writer, &entry);
    if (result) return result;
    crdt_hash own_hash;
    crdt_own_hash(store->env.sha256, entry, &own_hash);
    crdt_metadata metadata = {.created_at = context->now_ns, .updated_at = context->now_ns};
    result = crdt_node_link(store, &map, &id, &own_hash, &metadata);
    crdt_node *node;
    if (!result) result = crdt_node_get(store, &id, &node);
    if (!result) crdt_node_set_entry(node, entry);
    return result;
}

/* --- reading the log --- */

static int decode_entry(const crdt_memory *memory, crdt_bytes bytes, crdt_rotation *ret_entry) {
    crdt_reader reader = crdt_reader_of(bytes, memory);
    crdt_rotation entry = {0};
    crdt_read_take(&reader, 32);
    crdt_read_fixed(&reader, &entry.delta_id, 32);
    crdt_read_hlc(&reader, &entry.hlc);
    entry.has_signer = crdt_read_bool(&reader);
    if (entry.has_signer) crdt_read_fixed(&reader, &entry.signer, 32);
    if (crdt_read_bool(&reader)) crdt_read_take(&reader, 64); /* signature */
    if (crdt_read_bool(&reader)) crdt_read_take(&reader, 32); /* payload */
    crdt_read_grants(&reader, &entry.writers);
    entry.nonce = crdt_read_u64(&reader);
    crdt_read_take(&reader, 32);
    int result = crdt_read_end(&reader);
    if (!result) *ret_entry = entry;
    return result;
}

bool crdt_rotation_reads(const crdt_memory *memory, crdt_bytes entry) {
    crdt_rotation rotation;
    /* both keys, clock, three options, count and nonce, id: so nothing small is decoded */
    bool shaped = entry.len >= 32 + 32 + 24 + 3 + 4 + 8 + 32 &&
                  crdt_compare(entry.data, entry.data + 32, 32) == 0;
    return shaped && decode_entry(memory, entry, &rotation) == 0;
}

bool crdt_rotation_supersedes(const crdt_rotation *a, const crdt_rotation *b) {
    int order = crdt_hlc_compare(&a->hlc, &b->hlc);
    if (!order) order = crdt_compare(&b->signer, &a->signer, 32);
    if (!order) order = crdt_compare(&a->delta_id, &b->delta_id, 32);
    return order > 0;
}

/* The map of an anchor's log; it may not exist. */
static int find_log(crdt_store *store, const crdt_id *anchor, crdt_node **ret_map) {
    crdt_id map;
    crdt_rotation_log_id(store, anchor, &map);
    return crdt_node_get(store, &map, ret_map);
}

static uint32_t entries_of(const crdt_node *map) {
    return map->exists ? map->index.children.count : 0;
}

/* 1 and the entry at a place of the map, 0 when it does not read (the reference would not list it
 * either), or negative. */
static int read_entry(crdt_store *store, const crdt_node *map, uint32_t at,
                      crdt_rotation *ret_entry) {
    crdt_node *child;
    int result = crdt_node_get(store, &map->children[at].id, &child);
    if (!result) result = crdt_node_entry(store, child);
    if (result) return result;
    if (child->entry_state != ENTRY_PRESENT) return 0;
    result = decode_entry(&store->env.memory, child->entry, ret_entry);
    return result == CRDT_EDECODE ? 0 : result ? result : 1;
}

/* The entry that stands in an anchor's log, among those not later than `at`. *ret_found: whether
 * there is one; *ret_logged: whether there is one for `delta` (may be NULL). */
static int find_entry(crdt_store *store, const crdt_id *anchor, uint64_t at, const crdt_hash *delta,
                      crdt_rotation *ret_entry, bool *ret_found, bool *ret_logged) {
    crdt_node *map;
    *ret_found = *ret_logged = false;
    int result = find_log(store, anchor, &map);
    if (result) return result;
    for (uint32_t i = 0; i < entries_of(map); i++) {
        crdt_rotation entry;
        result = read_entry(store, map, i, &entry);
        if (result < 0) return result;
        if (result == 0) continue;
        if (delta && crdt_compare(&entry.delta_id, delta, 32) == 0) *ret_logged = true;
        if (!entry.has_signer || entry.nonce > at) continue;
        if (!*ret_found || crdt_rotation_supersedes(&entry, ret_entry)) *ret_entry = entry;
        *ret_found = true;
    }
    return 0;
}

int crdt_store_rotations(crdt_store *store, const crdt_id *anchor,
                         const crdt_rotation **ret_rotations, uint32_t *ret_count) {
    crdt_node *map;
    uint32_t used = 0;
    int result = find_log(store, anchor, &map);
    if (result) return result;
    uint32_t count = entries_of(map);
    crdt_rotation *rotations = crdt_alloc_array(&store->env.memory, count, sizeof *rotations);
    if (count > 0 && !rotations) return CRDT_ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        result = read_entry(store, map, i, &rotations[used]);
        if (result < 0) return result;
        used += (uint32_t)result;
    }
    *ret_rotations = rotations;
    *ret_count = used;
    return 0;
}

int crdt_rotation_writers(crdt_store *store, const crdt_id *anchor, uint64_t at,
                          crdt_grants *ret_writers) {
    crdt_rotation entry = {0};
    bool found, logged;
    crdt_node *node;
    *ret_writers = (crdt_grants){0};
    int result = find_entry(store, anchor, at, NULL, &entry, &found, &logged);
    if (result) return result;
    if (found) {
        *ret_writers = entry.writers;
        return 0;
    }
    result = crdt_node_get(store, anchor, &node);
    if (!result && node->exists && node->index.metadata.storage.kind == CRDT_SHARED)
        *ret_writers = node->index.metadata.storage.writers;
    return result;
}

int crdt_store_log_rotations(crdt_store *store, const crdt_action *actions, uint32_t count,
                             const crdt_apply_context *context, bool *ret_changed) {
    *ret_changed = false;
    for (uint32_t i = 0; i < count; i++) {
        const crdt_storage_type *storage = &actions[i].metadata.storage;
        if (actions[i].kind == CRDT_ACTION_DELETE || storage->kind != CRDT_SHARED) continue;
        if (!storage->signature || !storage->signature->has_signer) continue;
        crdt_rotation entry = {0};
        bool found, logged;
        int result = find_entry(store, &actions[i].id, UINT64_MAX, &context->delta_id, &entry,
                                &found, &logged);
        if (result) return result;
        crdt_storage_type latest = {.kind = CRDT_SHARED, .writers = entry.writers};
        if (logged || (found && crdt_storage_type_same(&latest, storage))) continue;
        uint8_t payload[32];
        result = crdt_action_payload(&store->env, &actions[i], payload);
        if (!result) result = crdt_rotation_append(store, &actions[i], payload, context);
        if (result) return result;
        *ret_changed = true;
    }
    return 0;
}
