/* Applying one action: who may, what is older, and where the entity hangs. Freestanding; see
 * apply.h. runtime-abi.md 13, network-sync.md 9.6; the odd corners are traps.md 4 to 8, kept on
 * purpose. */
#include "crdt/internal.h"

static const uint64_t DRIFT_NS = 5000000000u;

/* --- saving a value --- */

/* The bytes to keep when the entity has a record already; it is not newer than metadata unless a
 * rotation log. */
static int resolve_value(crdt_store *store, crdt_node *node, crdt_bytes data,
                         const crdt_metadata *metadata, crdt_bytes *ret_value,
                         crdt_refusal *ret_refusal) {
    int result = crdt_node_entry(store, node);
    if (result) return result;
    *ret_value = data;
    if (node->entry_state != ENTRY_PRESENT) return 0;
    bool rotation = metadata->type && metadata->type->kind == CRDT_TYPE_ROTATION_LOG;
    if (!rotation && crdt_is_state_root(store, &node->index.id)) {
        /* Opaque roots take the newer bytes; a typed one asks for a merge function that this side
         * does not have. */
        if (node->index.metadata.type &&
            node->index.metadata.created_at != node->index.metadata.updated_at)
            *ret_refusal = CRDT_REFUSED_MERGE;
        return 0;
    }
    *ret_value = crdt_merge_values(store->env.sha256, metadata->type, node->entry, data,
                                   node->index.metadata.updated_at, metadata->updated_at);
    return 0;
}

int crdt_save(crdt_store *store, const crdt_id *id, crdt_bytes data, const crdt_metadata *metadata,
              bool *ret_changed, crdt_refusal *ret_refusal) {
    crdt_node *node;
    int result = crdt_node_get(store, id, &node);
    if (result) return result;
    crdt_bytes value = data;
    *ret_changed = false;
    if (node->exists) {
        bool rotation = metadata->type && metadata->type->kind == CRDT_TYPE_ROTATION_LOG;
        if (!rotation && node->index.metadata.updated_at > metadata->updated_at) return 0;
        result = resolve_value(store, node, data, metadata, &value, ret_refusal);
        if (result || *ret_refusal) return result;
    } else if (crdt_id_equal(id, &store->root)) {
        crdt_node_create(node, metadata);
    } else {
        crdt_node_set_entry(
            node, data); /* the reference writes it before it notices; the delta fails anyway */
        *ret_refusal = CRDT_REFUSED_INDEX_NOT_FOUND;
        return 0;
    }
    crdt_node_set_entry(node, value);
    crdt_own_hash(store->env.sha256, value, &node->index.own_hash);
    node->index.metadata.updated_at = metadata->updated_at;
    if (crdt_is_state_root(store, id) && metadata->type) node->index.metadata.type = metadata->type;
    if (node->index.is_deleted && metadata->updated_at > node->index.deleted_at)
        node->index.is_deleted = false;
    crdt_node_touch(node);
    *ret_changed = true;
    return 0;
}

/* --- authorization --- */

typedef struct apply_run {
    crdt_store *store;
    const crdt_action *action;
    const crdt_apply_context *context;
    crdt_node *node; /* of the action's entity; may not exist */
    bool is_stale;   /* authentic, but older than what is stored: no write */
    bool has_payload;
    uint8_t payload[32];
} apply_run;

static int read_payload(apply_run *run) {
    if (run->has_payload) return 0;
    int result = crdt_action_payload(&run->store->env, run->action, run->payload);
    run->has_payload = !result;
    return result;
}

static const crdt_grants *effective_writers(const apply_run *run) {
    for (uint32_t i = 0; i < run->context->writer_count; i++)
        if (crdt_id_equal(&run->context->writers[i].entity, &run->action->id))
            return &run->context->writers[i].writers;
    return NULL;
}

static bool signature_verifies(const apply_run *run) {
    const crdt_signature *signature = run->action->metadata.storage.signature;
    return signature->has_signer &&
           run->context->verify(run->context->verify_user, signature->signer.bytes, run->payload,
                                signature->signature);
}

/* USER: signed by a key that speaks for the owner. */
static crdt_refusal check_owner(const apply_run *run) {
    const crdt_storage_type *storage = &run->action->metadata.storage;
    if (crdt_action_is_placeholder(run->action) || !signature_verifies(run))
        return CRDT_REFUSED_SIGNATURE;
    bool owned = run->context->has_signer_account &&
                 crdt_id_equal(&run->context->signer_account, &storage->subject);
    return owned ? CRDT_APPLIED : CRDT_REFUSED_SIGNATURE;
}

/* SHARED and SHARED_MEMBER: signed by a key that speaks for a writer who may do this. */
static crdt_refusal check_writer(const apply_run *run, crdt_grants writers, uint8_t mask) {
    const crdt_signature *signature = run->action->metadata.storage.signature;
    if (!signature->has_signer || !run->context->has_signer_account) return CRDT_REFUSED_SIGNATURE;
    const crdt_grant *grant = crdt_grants_find(writers, &run->context->signer_account);
    if (!grant || !signature_verifies(run)) return CRDT_REFUSED_SIGNATURE;
    return (grant->mask & mask) == mask ? CRDT_APPLIED : CRDT_REFUSED_NOT_ALLOWED;
}

/* The writers that hold for an upsert or delete of a Shared entity or a member. */
static int find_writers(const apply_run *run, crdt_grants *ret_writers) {
    const crdt_storage_type *claimed = &run->action->metadata.storage;
    const crdt_grants *effective = effective_writers(run);
    bool stored_shared = run->node->exists && run->node->index.metadata.storage.kind == CRDT_SHARED;
    if (claimed->kind == CRDT_SHARED) {
        /* A delete is no rotation: it goes by the stored set, which the caller has compared with
         * the claimed one. */
        if (run->action->kind == CRDT_ACTION_DELETE)
            *ret_writers = run->node->index.metadata.storage.writers;
        else if (effective)
            *ret_writers = *effective;
        else
            *ret_writers =
                stored_shared ? run->node->index.metadata.storage.writers : claimed->writers;
        return 0;
    }
    if (effective) {
        *ret_writers = *effective;
        return 0;
    }
    return crdt_rotation_writers(run->store, &claimed->subject, claimed->signature->nonce,
                                 ret_writers);
}

static int check_signed(apply_run *run, crdt_refusal *ret_refusal) {
    const crdt_storage_type *storage = &run->action->metadata.storage;
    bool is_delete = run->action->kind == CRDT_ACTION_DELETE;
    if (!storage->signature) {
        *ret_refusal = CRDT_REFUSED_DATA;
        return 0;
    }
    int result = read_payload(run);
    if (result) return result;
    if (storage->kind == CRDT_USER) {
        *ret_refusal = check_owner(run);
    } else {
        crdt_grants writers;
        result = find_writers(run, &writers);
        if (result) return result;
        *ret_refusal = check_writer(run, writers, is_delete ? CRDT_MASK_DELETE : CRDT_MASK_WRITE);
    }
    if (*ret_refusal) return 0;
    uint64_t stored = run->node->exists ? run->node->index.metadata.updated_at : 0;
    if (storage->signature->nonce < stored) {
        if (is_delete)
            *ret_refusal = CRDT_REFUSED_NONCE;
        else
            run->is_stale = true;
    }
    return 0;
}

/* A Frozen entity's bytes: hash of the value, the value, the entity's id. */
static crdt_refusal check_frozen(const apply_run *run) {
    if (run->action->kind == CRDT_ACTION_UPDATE) return CRDT_REFUSED_NOT_ALLOWED;
    crdt_bytes data = run->action->data;
    if (data.len < 64) return CRDT_REFUSED_DATA;
    crdt_bytes value = crdt_bytes_of(data.data + 32, data.len - 64);
    uint8_t hash[32];
    run->store->env.sha256(&value, 1, hash);
    return crdt_compare(hash, data.data, 32) == 0 ? CRDT_APPLIED : CRDT_REFUSED_DATA;
}

static int authorize_upsert(apply_run *run, crdt_refusal *ret_refusal) {
    const crdt_storage_type *storage = &run->action->metadata.storage;
    if (run->node->exists) {
        const crdt_storage_type *stored = &run->node->index.metadata.storage;
        bool fixed = storage->kind == CRDT_USER || storage->kind == CRDT_SHARED_MEMBER;
        if (stored->kind != storage->kind ||
            (fixed && !crdt_id_equal(&stored->subject, &storage->subject))) {
            *ret_refusal = CRDT_REFUSED_NOT_ALLOWED;
            return 0;
        }
    }
    if (storage->kind == CRDT_PUBLIC) return 0;
    if (storage->kind == CRDT_FROZEN) {
        *ret_refusal = check_frozen(run);
        return 0;
    }
    return check_signed(run, ret_refusal);
}

static int authorize_delete(apply_run *run, crdt_refusal *ret_refusal) {
    if (!run->node->exists) {
        *ret_refusal = CRDT_REFUSED_INDEX_NOT_FOUND;
        return 0;
    }
    const crdt_storage_type *stored = &run->node->index.metadata.storage;
    if (stored->kind == CRDT_PUBLIC) return 0;
    if (stored->kind == CRDT_FROZEN) {
        *ret_refusal = CRDT_REFUSED_NOT_ALLOWED;
        return 0;
    }
    if (!crdt_storage_type_same(stored, &run->action->metadata.storage)) {
        *ret_refusal = CRDT_REFUSED_SIGNATURE;
        return 0;
    }
    return check_signed(run, ret_refusal);
}

/* --- the change itself --- */

/* Makes records for ancestors that are not known yet, from the root down (traps.md 8). */
static int create_ancestors(crdt_store *store, crdt_children ancestors) {
    const crdt_child *parent = NULL;
    for (uint32_t i = ancestors.count; i > 0; i--) {
        const crdt_child *at = &ancestors.items[i - 1];
        crdt_node *node;
        int result = crdt_node_get(store, &at->id, &node);
        if (result) return result;
        if (!node->exists && parent) {
            result = crdt_node_link(store, &parent->id, &at->id, &at->merkle_hash, &at->metadata);
            if (result) return result;
        } else if (!node->exists) {
            crdt_node_create(node, &at->metadata);
            node->index.own_hash = at->merkle_hash;
        }
        parent = at;
    }
    return 0;
}

static bool is_rotation(const apply_run *run) {
    const crdt_storage_type *storage = &run->action->metadata.storage;
    if (storage->kind != CRDT_SHARED || !run->context->has_delta) return false;
    const crdt_storage_type *stored = &run->node->index.metadata.storage;
    return !run->node->exists || stored->kind != CRDT_SHARED ||
           !crdt_storage_type_same(stored, storage);
}

/* After a value was taken: signature and schema version follow it, and the parent lists the entity.
 */
static int settle(apply_run *run, const crdt_child *parent) {
    const crdt_action *action = run->action;
    crdt_node *node = run->node;
    const crdt_storage_type *storage = &action->metadata.storage;
    bool coupled = storage->kind == CRDT_USER || storage->kind == CRDT_SHARED_MEMBER;
    if (coupled && storage->signature && !crdt_action_is_placeholder(action) &&
        node->entry_state == ENTRY_PRESENT && crdt_bytes_equal(node->entry, action->data) &&
        crdt_storage_type_same(&node->index.metadata.storage, storage)) {
        node->index.metadata.storage.signature = storage->signature;
        node->row_dirty = true;
    }
    uint32_t stored_schema =
        node->index.metadata.has_schema_version ? node->index.metadata.schema_version : 0;
    if (action->metadata.has_schema_version && action->metadata.schema_version > stored_schema) {
        node->index.metadata.has_schema_version = true;
        node->index.metadata.schema_version = action->metadata.schema_version;
        node->row_dirty = true;
    }
    if (!parent) return 0;
    crdt_hash own_hash = node->index.own_hash;
    return crdt_node_link(run->store, &parent->id, &action->id, &own_hash, &action->metadata);
}

static int apply_upsert(apply_run *run, bool rotation, crdt_refusal *ret_refusal) {
    const crdt_action *action = run->action;
    crdt_store *store = run->store;
    int result = create_ancestors(store, action->ancestors);
    if (result) return result;
    const crdt_child *parent = action->ancestors.count ? &action->ancestors.items[0] : NULL;
    if (!run->node->exists && parent && !crdt_id_equal(&action->id, &store->root)) {
        crdt_hash own_hash;
        crdt_own_hash(store->env.sha256, action->data, &own_hash);
        crdt_node_set_entry(run->node, action->data);
        result = crdt_node_link(store, &parent->id, &action->id, &own_hash, &action->metadata);
        if (result) return result;
    }
    if (parent && store->rows.clear_marker) store->rows.clear_marker(store->rows.user, &parent->id);
    bool changed;
    result = crdt_save(store, &action->id, action->data, &action->metadata, &changed, ret_refusal);
    if (result || *ret_refusal) return result;
    if (rotation) {
        result = crdt_rotation_append(store, action, run->payload, run->context);
        if (result) return result;
    }
    return changed ? settle(run, parent) : 0;
}

static int apply_delete(apply_run *run, crdt_refusal *ret_refusal) {
    crdt_node *node = run->node;
    uint64_t deleted_at = run->action->deleted_at;
    if (node->index.is_deleted) {
        crdt_node_mark_deleted(node, deleted_at);
        return 0;
    }
    if (deleted_at < node->index.metadata.updated_at) return 0;
    int result = crdt_node_tombstone_below(run->store, node, deleted_at);
    if (result) return result;
    crdt_node_remove_entry(node);
    crdt_node_mark_deleted(node, deleted_at);
    if (!node->index.has_parent) return 0;
    crdt_node *parent;
    result = crdt_node_get(run->store, &node->index.parent, &parent);
    if (result) return result;
    if (!parent->exists) {
        *ret_refusal = CRDT_REFUSED_INDEX_NOT_FOUND;
        return 0;
    }
    result = crdt_node_unlink(run->store, parent, &node->index.id);
    if (result) return result;
    if (run->store->rows.clear_marker)
        run->store->rows.clear_marker(run->store->rows.user, &parent->index.id);
    return 0;
}

int crdt_store_apply(crdt_store *store, const crdt_action *action,
                     const crdt_apply_context *context, crdt_refusal *ret_refusal) {
    apply_run run = {.store = store, .action = action, .context = context};
    bool is_delete = action->kind == CRDT_ACTION_DELETE;
    uint64_t latest =
        context->now_ns > UINT64_MAX - DRIFT_NS ? UINT64_MAX : context->now_ns + DRIFT_NS;
    *ret_refusal = CRDT_APPLIED;
    if ((is_delete ? action->deleted_at : action->metadata.updated_at) > latest) {
        *ret_refusal = CRDT_REFUSED_TIMESTAMP;
        return 0;
    }
    int result = crdt_node_get(store, &action->id, &run.node);
    if (!result)
        result =
            is_delete ? authorize_delete(&run, ret_refusal) : authorize_upsert(&run, ret_refusal);
    if (result || *ret_refusal) return result;
    if (is_delete) return apply_delete(&run, ret_refusal);
    bool rotation = is_rotation(&run);
    if (run.is_stale) /* the writer set is a fact even where the value is too old (runtime-abi.md
                         13) */
        return rotation ? crdt_rotation_append(store, action, run.payload, context) : 0;
    return apply_upsert(&run, rotation, ret_refusal);
}
