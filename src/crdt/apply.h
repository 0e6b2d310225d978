/* Applying actions to a context's rows, and writing entities locally (runtime-abi.md 9, 13;
 * network-sync.md 9.6).
 *
 * What actions and puts point to (data, types, signatures) must live until the flush.
 *
 * One crdt_store lives for one operation: a call of the guest, or one delta on the node. It keeps
 * records it has read and writes them, hashes recomputed from the leaves up, in crdt_store_flush.
 * Nothing is written when an operation is abandoned before flush. One thread. */
#ifndef CAL_CRDT_APPLY_H
#define CAL_CRDT_APPLY_H

#include "crdt/action.h"
#include "crdt/merkle.h"

typedef struct crdt_rows {
    void *user;
    crdt_read_fn read;                                                 /* 1, 0 or negative */
    int (*write)(void *user, const uint8_t key[32], crdt_bytes value); /* 0 or negative */
    int (*remove)(void *user, const uint8_t key[32]);                  /* 0 or negative */
    void (*clear_marker)(void *user,
                         const crdt_id *parent); /* the sorted index's marker; NULL: none is kept */
} crdt_rows;

/* Lax Ed25519 (traps.md 1) of a 32-byte payload. */
typedef bool (*crdt_verify_fn)(void *user, const uint8_t public_key[32], const uint8_t payload[32],
                               const uint8_t signature[64]);

/* What one delta brings besides its actions. */
typedef struct crdt_apply_context {
    uint64_t now_ns; /* wall clock; actions more than 5 s ahead are refused */
    void *verify_user;
    crdt_verify_fn verify;
    bool has_signer_account;
    crdt_id signer_account;
    const crdt_entity_writers *writers; /* effective writer sets, sorted by entity */
    uint32_t writer_count;
    bool has_delta; /* delta_id and delta_hlc are there: rotations are logged */
    crdt_hash delta_id;
    crdt_hlc delta_hlc;
} crdt_apply_context;

/* Why an action did not take. Those below CRDT_REFUSED_FATAL are dropped and the delta goes on; the
 * others fail the delta. */
typedef enum crdt_refusal {
    CRDT_APPLIED = 0, /* or changed nothing */
    CRDT_REFUSED_TIMESTAMP,
    CRDT_REFUSED_DATA,
    CRDT_REFUSED_SIGNATURE,
    CRDT_REFUSED_NONCE,
    CRDT_REFUSED_NOT_ALLOWED,
    CRDT_REFUSED_FATAL, /* not a result: the border */
    CRDT_REFUSED_INDEX_NOT_FOUND,
    CRDT_REFUSED_MERGE, /* a state root of a type that only the application merges */
} crdt_refusal;

typedef struct crdt_store crdt_store;

/* root: the context's id. The store lives in env's memory. CRDT_ENOMEM. */
int crdt_store_open(const crdt_env *env, const crdt_rows *rows, const crdt_id *root,
                    crdt_store **ret_store);
/* 0 and *ret_refusal, or a negative code (damaged rows, memory, the callbacks' own): then drop the
 * store. */
int crdt_store_apply(crdt_store *store, const crdt_action *action,
                     const crdt_apply_context *context, crdt_refusal *ret_refusal);
/* Recomputes the hashes above all that changed and writes the changed rows. Once. */
int crdt_store_flush(crdt_store *store);
/* The root's full hash as of the last flush. CRDT_ENOTFOUND when there is no root. */
int crdt_store_root_hash(crdt_store *store, crdt_hash *ret_hash);

/* What the author's node does when its delta has an id (runtime-abi.md 6, step 4f): logs each
 * signed change of a Shared entity's writers that is not the latest logged. Of `context`: now_ns,
 * delta_id, delta_hlc. *ret_changed: flush, and take the new root hash. */
int crdt_store_log_rotations(crdt_store *store, const crdt_action *actions, uint32_t count,
                             const crdt_apply_context *context, bool *ret_changed);

/* An entry of a Shared anchor's rotation log: the delta that changed who may write, and to whom. */
typedef struct crdt_rotation {
    crdt_hash delta_id;
    crdt_hlc hlc;
    bool has_signer; /* those without count for nothing */
    crdt_id signer;
    crdt_grants writers;
    uint64_t nonce;
} crdt_rotation;
/* Whether a stands before b: later clock; at equal clocks the smaller signer, then the larger id.
 */
bool crdt_rotation_supersedes(const crdt_rotation *a, const crdt_rotation *b);
/* The log, entries that do not read left out; none when there is no log. In env's memory. */
int crdt_store_rotations(crdt_store *store, const crdt_id *anchor,
                         const crdt_rotation **ret_rotations, uint32_t *ret_count);

/* Which bytes stand when two versions of a non-root entity meet (network-sync.md 9.6). The result
 * is one of the two. */
crdt_bytes crdt_merge_values(crdt_sha256_fn sha256, const crdt_type *type, crdt_bytes existing,
                             crdt_bytes incoming, uint64_t existing_updated_at,
                             uint64_t incoming_updated_at);
/* The part of it that the type alone decides. CRDT_EDECODE: bytes that such a value cannot have;
 * CRDT_EINVAL: CUSTOM. */
int crdt_merge_by_type(const crdt_type *type, crdt_bytes existing, crdt_bytes incoming,
                       crdt_bytes *ret_value);

/* --- reading and writing by the application itself (sdk/c) --- */

/* The live entity's Entry bytes. CRDT_ENOTFOUND when absent or deleted. */
int crdt_store_get(crdt_store *store, const crdt_id *id, crdt_bytes *ret_entry);
/* The live entity's record, valid until the next change; it is kept, for changes to come.
 * CRDT_ENOTFOUND. */
int crdt_store_index(crdt_store *store, const crdt_id *id, const crdt_index **ret_index);
/* The same for reading only: a record that is not kept anyway is decoded into `memory`. */
int crdt_store_view(crdt_store *store, const crdt_memory *memory, const crdt_id *id,
                    crdt_index *ret_index);
bool crdt_store_changed(const crdt_store *store); /* whether there were puts or deletes */

typedef struct crdt_put {
    crdt_id id;
    const crdt_id *parent; /* of a new entity; NULL only for the root */
    crdt_bytes data;
    const crdt_type *type;
    const char *field_name; /* NULL: none */
    uint64_t now_ns;     /* updated_at is this, or later where the entity's history asks for it */
    uint64_t created_at; /* of a new entity; 0: updated_at */
} crdt_put;

/* Writes a Public entity and records the action. Upserts have even times and deletes odd ones, so
 * that the two never meet in the same nanosecond (traps.md 4). */
int crdt_store_put(crdt_store *store, const crdt_put *put);
/* CRDT_ENOTFOUND when there is nothing live to delete. */
int crdt_store_delete(crdt_store *store, const crdt_id *id, uint64_t now_ns);
/* After flush: the actions of all puts and deletes in order, ancestors with their new hashes, as
 * StorageDelta::Actions; empty when there were none. */
int crdt_store_artifact(crdt_store *store, crdt_bytes *ret_artifact);

#endif
