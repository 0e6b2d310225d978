/* State that comes from another replica without the delta it was written by: leaves of its tree and
 * its tombstones (network-sync.md 9.6).
 *
 * Stricter than what the reference takes, with the same outcome between honest replicas: the time
 * of a signed leaf is the one that was signed; rotation logs come by deltas and snapshots alone,
 * since nothing here shows that an entry is true; the root, and what is not below it, is not
 * touched. */
#ifndef CAL_CRDT_LEAF_H
#define CAL_CRDT_LEAF_H

#include "crdt/apply.h"

typedef struct crdt_leaf {
    crdt_id id;
    crdt_bytes value;      /* the Entry's bytes */
    const crdt_type *type; /* NULL: none */
    uint64_t updated_at, created_at;
    bool has_parent;
    crdt_id parent;
    crdt_children ancestors;                /* parent first; may be empty */
    const crdt_storage_type *authorization; /* NULL: none, the entity is Public or Frozen */
} crdt_leaf;

typedef enum crdt_leaf_result {
    CRDT_LEAF_TAKEN,
    CRDT_LEAF_SAME,     /* it is so here already */
    CRDT_LEAF_KEPT,     /* what is here is newer and stands */
    CRDT_LEAF_DEFERRED, /* where it hangs is not known here yet */
    CRDT_LEAF_REFUSED,
    CRDT_LEAF_MERGES, /* the state of an application that merges it: crdt_store_put_state */
} crdt_leaf_result;

/* 0, or a negative code: then drop the store. Of `context`: now_ns, verify, signer_account. */
int crdt_store_take_leaf(crdt_store *store, const crdt_leaf *leaf,
                         const crdt_apply_context *context, crdt_leaf_result *ret_result);
int crdt_store_take_deletion(crdt_store *store, const crdt_id *id, uint64_t deleted_at,
                             const crdt_metadata *metadata, const crdt_apply_context *context,
                             crdt_leaf_result *ret_result);

/* For CRDT_LEAF_MERGES: what is here, and what the application made of both. CRDT_ENOTFOUND. */
typedef struct crdt_state_entry {
    crdt_bytes value;
    uint64_t created_at, updated_at;
} crdt_state_entry;
int crdt_store_get_state(crdt_store *store, const crdt_id *id, crdt_state_entry *ret_state);
int crdt_store_put_state(crdt_store *store, const crdt_id *id, crdt_bytes value,
                         uint64_t updated_at);

#endif
