/* Which bytes stand when two versions of an entity meet. Freestanding; see apply.h.
 * network-sync.md 9.6.
 *
 * Collections are their own id in bytes: two versions of one are equal, and their contents are
 * entities that merge by themselves. So the types differ only in what happens to bytes that no
 * collection would have. */
#include "crdt/internal.h"

/* Newer wins; at equal times the larger hash does, on every replica alike. */
static crdt_bytes pick_last_writer(crdt_sha256_fn sha256, crdt_bytes existing, crdt_bytes incoming,
                                   uint64_t existing_updated_at, uint64_t incoming_updated_at) {
    if (incoming_updated_at != existing_updated_at)
        return incoming_updated_at > existing_updated_at ? incoming : existing;
    uint8_t existing_hash[32], incoming_hash[32];
    sha256(&existing, 1, existing_hash);
    sha256(&incoming, 1, incoming_hash);
    return crdt_compare(incoming_hash, existing_hash, 32) >= 0 ? incoming : existing;
}

int crdt_merge_by_type(const crdt_type *type, crdt_bytes existing, crdt_bytes incoming,
                       crdt_bytes *ret_value) {
    switch (type->kind) {
    case CRDT_TYPE_FROZEN_STORAGE:
        *ret_value = existing;
        return 0;
    case CRDT_TYPE_G_COUNTER:
    case CRDT_TYPE_RGA:
        /* The id of the inner collection: the union of children comes with the children. */
        if (existing.len != 32 || incoming.len != 32) return CRDT_EDECODE;
        *ret_value = existing;
        return 0;
    case CRDT_TYPE_PN_COUNTER:
        /* Two ids; one alone is what a counter was before it could count down. */
        if (existing.len != 64 && existing.len != 32) return CRDT_EDECODE;
        if (incoming.len != 64 && incoming.len != 32) return CRDT_EDECODE;
        *ret_value = existing;
        return 0;
    case CRDT_TYPE_CUSTOM:
        return CRDT_EINVAL; /* only the application can */
    case CRDT_TYPE_ROTATION_LOG:
        return CRDT_EDECODE;
    default:
        *ret_value = incoming;
        return 0;
    }
}

crdt_bytes crdt_merge_values(crdt_sha256_fn sha256, const crdt_type *type, crdt_bytes existing,
                             crdt_bytes incoming, uint64_t existing_updated_at,
                             uint64_t incoming_updated_at) {
    crdt_bytes merged;
    bool last_writer =
        !type || type->kind == CRDT_TYPE_LWW_REGISTER || type->kind == CRDT_TYPE_ROTATION_LOG;
    if (!last_writer && crdt_merge_by_type(type, existing, incoming, &merged) == 0) return merged;
    return pick_last_writer(sha256, existing, incoming, existing_updated_at, incoming_updated_at);
}
