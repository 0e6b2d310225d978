/* Actions, the deltas they travel in, delta ids and what is signed of an action (runtime-abi.md 11,
 * 12).
 *
 * Decoded actions borrow from the bytes decoded. */
#ifndef CAL_CRDT_ACTION_H
#define CAL_CRDT_ACTION_H

#include "crdt/entity.h"
#include "crdt/hlc.h"

typedef enum crdt_action_kind {
    CRDT_ACTION_ADD = 0,
    CRDT_ACTION_DELETE = 2,
    CRDT_ACTION_UPDATE = 3,
} crdt_action_kind;

typedef struct crdt_action {
    crdt_action_kind kind;
    crdt_id id;
    crdt_bytes data;         /* ADD, UPDATE: the Entry's bytes */
    crdt_children ancestors; /* ADD, UPDATE: parent first, up to the root */
    uint64_t deleted_at;     /* DELETE */
    crdt_metadata metadata;
} crdt_action;

/* The writer set that holds for one entity at a delta's causal point. */
typedef struct crdt_entity_writers {
    crdt_id entity;
    crdt_grants writers;
} crdt_entity_writers;

typedef enum crdt_delta_kind {
    CRDT_DELTA_ACTIONS = 0,        /* the only one that may cross the network */
    CRDT_DELTA_CAUSAL_ACTIONS = 2, /* what a node hands to its own guest */
} crdt_delta_kind;

typedef struct crdt_delta {
    crdt_delta_kind kind;
    const crdt_action *actions;
    uint32_t action_count;
    /* CAUSAL_ACTIONS only: */
    crdt_hash id;
    crdt_hlc hlc;
    const crdt_entity_writers *writers; /* sorted by entity */
    uint32_t writer_count;
    bool has_signer_account;
    crdt_id signer_account;
} crdt_delta;

/* Zero bytes decode as no actions. CRDT_EDECODE, CRDT_ENOMEM. */
int crdt_delta_decode(const crdt_memory *memory, crdt_bytes bytes, crdt_delta *ret_delta);
int crdt_delta_encode(const crdt_memory *memory, const crdt_delta *delta, crdt_bytes *ret_bytes);
int crdt_action_decode(const crdt_memory *memory, crdt_bytes bytes, crdt_action *ret_action);
int crdt_action_encode(const crdt_memory *memory, const crdt_action *action, crdt_bytes *ret_bytes);
void crdt_read_action(crdt_reader *reader, crdt_action *ret_action);
void crdt_write_action(crdt_writer *writer, const crdt_action *action);

/* The content address. `parents` is 32 bytes each; a first delta has one parent of zeros.
 * CRDT_ENOMEM. */
int crdt_delta_id(const crdt_env *env, const uint8_t (*parents)[32], size_t parent_count,
                  const crdt_action *actions, size_t action_count, crdt_hash *ret_id);

/* The 32 bytes whose Ed25519 signature an action carries; covers nonce and signer, not the
 * signature. CRDT_ENOMEM. */
int crdt_action_payload(const crdt_env *env, const crdt_action *action, uint8_t ret_payload[32]);

/* Whether the guest left a placeholder for the node to sign: a signature of 64 zeros. */
bool crdt_action_is_placeholder(const crdt_action *action);

/* 0, or a negative code that ends crdt_delta_sign with it. */
typedef int (*crdt_sign_fn)(void *user, const uint8_t payload[32], uint8_t ret_signature[64]);

typedef struct crdt_signed_delta {
    crdt_delta delta;          /* placeholders replaced */
    const uint32_t *signed_at; /* positions in delta.actions of those that were signed */
    uint32_t signed_count;
    crdt_bytes artifact; /* the delta encoded: what is broadcast */
} crdt_signed_delta;

/* What the node does with an artifact after a call (runtime-abi.md 6, steps 4a-4c): every
 * placeholder gets nonce := updated_at (deleted_at) and a signature. For each position in signed_at
 * the caller then patches the Index row of actions[i].id with crdt_index_patch_signature(..,
 * &actions[i].metadata.storage, ..); rows of deleted entities included, rows that do not exist left
 * alone. CRDT_EDECODE also when the artifact is not of kind ACTIONS. */
int crdt_delta_sign(const crdt_env *env, crdt_bytes artifact, crdt_sign_fn sign, void *user,
                    crdt_signed_delta *ret_signed);

#endif
