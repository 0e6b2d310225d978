/* Governance operations: what travels (SignedNamespaceOp) and what is sealed inside it (GroupOp).
 * governance.md 4.
 *
 * One flat structure for all variants of a plane: `kind` says which fields mean something, in the
 * order of the tables in op.c, from which both the decoder and the encoder work. Decoded slices
 * point into the input, lists into the arena. Decoding accepts what the reference decodes;
 * gov_signed_op_check adds the bounds and the version that make it refuse. Pure; any thread. */
#ifndef CAL_GOV_OP_H
#define CAL_GOV_OP_H

#include "dag/dag.h"
#include "gov/account.h"
#include "gov/delta.h"
#include "gov/invitation.h"
#include "gov/keyring.h"

enum {
    GOV_NAMESPACE_OP_VERSION = 7,
    GOV_GROUP_OP_VERSION = 10, /* the reference's local log; never on the wire */
    GOV_PARENTS_MAX = DAG_PARENTS_MAX,
    GOV_SEALED_OP_MAX = 1024 * 1024,
    GOV_BLOB_MAX = 1024 * 1024,
    GOV_ENVELOPES_MAX = 65536,
    GOV_ID_LIST_MAX = 65536,
    GOV_TEE_LIST_MAX = 1024,
    GOV_TEE_TEXT_MAX = 1024,
    GOV_METADATA_LIST_MAX = 1024,
    GOV_METADATA_TEXT_MAX = 8192,
    GOV_OP_MAX = 32 * 1024 * 1024, /* of an encoded operation; backfill has no cap of its own */
    GOV_OP_GOSSIP_MAX = 64 * 1024, /* of an encoded topic message */
};

typedef enum gov_root_kind {
    GOV_GROUP_CREATED,
    GOV_GROUP_REPARENTED,
    GOV_GROUP_DELETED,
    GOV_ADMIN_CHANGED,
    GOV_POLICY_UPDATED,
    GOV_MEMBER_JOINED,
    GOV_KEY_DELIVERY,
    GOV_MEMBER_JOINED_OPEN,
    GOV_MEMBER_JOINED_AT,
    GOV_NAMESPACE_CREATED,
    GOV_MEMBER_JOINED_TEE,
    GOV_ROOT_KIND_COUNT,
} gov_root_kind;

typedef enum gov_group_kind {
    GOV_NOOP,
    GOV_MEMBER_ADDED,
    GOV_MEMBER_REMOVED,
    GOV_MEMBER_LEFT,
    GOV_MEMBER_ROLE_SET,
    GOV_MEMBER_CAPABILITY_SET,
    GOV_DEFAULT_CAPABILITIES_SET,
    GOV_TARGET_APPLICATION_SET,
    GOV_CONTEXT_REGISTERED,
    GOV_CONTEXT_DETACHED,
    GOV_VISIBILITY_SET,
    GOV_GROUP_METADATA_SET,
    GOV_MEMBER_METADATA_SET,
    GOV_CONTEXT_METADATA_SET,
    GOV_GROUP_DELETE,
    GOV_MIGRATION_SET,
    GOV_CONTEXT_CAPABILITY_GRANTED,
    GOV_CONTEXT_CAPABILITY_REVOKED,
    GOV_TEE_POLICY_SET,
    GOV_GROUP_MEMBER_JOINED_TEE,
    GOV_AUTO_FOLLOW_SET,
    GOV_OWNERSHIP_TRANSFERRED,
    GOV_CASCADE_UPGRADE,
    GOV_KEY_ROTATED,
    GOV_DEVICE_LINKED,
    GOV_DEVICE_UNLINKED,
    GOV_ACCOUNT_KEYS_ROTATED,
    GOV_KEY_ROTATED_FOR_DEVICE,
    GOV_GROUP_KIND_COUNT,
} gov_group_kind;

typedef struct gov_optional { /* Option<String> or Option<Vec<u8>> */
    bool present;
    cal_slice bytes;
} gov_optional;

typedef struct gov_ids { /* Vec<[u8; 32]> */
    const cal_hash *items;
    uint32_t count;
} gov_ids;

typedef struct gov_context_root {
    cal_context_id context;
    cal_hash root;
} gov_context_root;

typedef struct gov_context_roots {
    const gov_context_root *items;
    uint32_t count;
} gov_context_roots;

typedef struct gov_entry {
    cal_slice key, value;
} gov_entry;

typedef struct gov_entries { /* sorted by key, unique: a map that came unsorted is put in order */
    const gov_entry *items;
    uint32_t count;
} gov_entries;

typedef struct gov_texts { /* Vec<String> */
    const cal_slice *items;
    uint32_t count;
} gov_texts;

typedef struct gov_tee_claims {
    cal_slice mrtd, rtmr0, rtmr1, rtmr2, rtmr3, tcb_status;
} gov_tee_claims;
typedef struct gov_tee_policy {
    gov_texts mrtd, rtmr0, rtmr1, rtmr2, rtmr3, tcb_status;
    bool accept_mock;
} gov_tee_policy;

typedef struct gov_root_op {
    uint8_t kind;        /* gov_root_kind */
    cal_group_id group;  /* created, moved, deleted, joined, or whose key is delivered */
    cal_group_id parent; /* of a created group; the new one of a moved group */
    bool restricted;
    cal_account_id account;   /* admin, new admin, member or founder */
    gov_ids groups, contexts; /* a deletion's cascade, children first */
    cal_slice policy;
    gov_invitation invitation;
    gov_credential credential;
    gov_envelope envelope;
    uint64_t joined_at_s;
    uint8_t member_key[32]; /* TEE */
    cal_hash quote;
    gov_tee_claims claims;
    uint8_t role;
} gov_root_op;

typedef struct gov_group_op {
    uint8_t kind; /* gov_group_kind */
    cal_account_id account;
    uint8_t role;
    cal_hash group_hash; /* all zero: no claim */
    gov_context_roots roots;
    uint32_t capabilities;
    cal_blob_id from_app_key, app_key;
    cal_application_id application;
    cal_context_id context;
    cal_blob_id blob;
    cal_slice source;
    gov_optional service_name, name, migration;
    uint8_t visibility; /* 0 open, 1 restricted */
    gov_entries data;
    uint8_t mask; /* of a context capability; never 0 */
    gov_tee_policy tee_policy;
    cal_hash quote;
    gov_tee_claims claims;
    bool follow_contexts, follow_subgroups;
    uint32_t to_state_version;
    gov_hlc hlc;
    gov_genesis genesis;
    gov_chain chain;
    gov_cert cert;
    gov_endorsement endorsement;
    cal_device_id device;
    bool has_proof;
    gov_revocation_proof proof;
    gov_handoff handoff;
} gov_group_op;

typedef struct gov_rotation { /* beside a sealed group op: the next key, for whoever stays */
    bool present;
    cal_hash new_key_id;
    const gov_envelope *envelopes;
    uint32_t count;
} gov_rotation;

typedef struct gov_op { /* NamespaceOp */
    bool group;
    gov_root_op root; /* group == false */
    cal_group_id group_id;
    cal_hash key_id;
    uint8_t nonce[CAL_AEAD_NONCE_SIZE];
    cal_slice sealed;
    gov_rotation rotation;
} gov_op;

typedef struct gov_signed_op {
    uint8_t version;
    cal_group_id namespace_id;
    gov_ids parents;
    uint8_t signer[32];
    uint64_t nonce;
    gov_op op;
    uint8_t signature[CAL_SIGNATURE_SIZE];
    cal_slice body; /* of the input: what is signed, without the domain */
} gov_signed_op;

/* --- codec: CAL_EDECODE, CAL_ELIMIT, CAL_ENOMEM --- The result borrows from the input and the
 * arena. */
int gov_root_op_decode(cal_slice bytes, cal_arena *arena, gov_root_op *ret_op);
int gov_group_op_decode(cal_slice bytes, cal_arena *arena, gov_group_op *ret_op);
int gov_op_decode(cal_slice bytes, cal_arena *arena, gov_op *ret_op);
int gov_signed_op_decode(cal_slice bytes, cal_arena *arena, gov_signed_op *ret_op);
int gov_root_op_write(const gov_root_op *op, cal_buffer *out);
int gov_group_op_write(const gov_group_op *op, cal_buffer *out);
int gov_op_write(const gov_op *op, cal_buffer *out);
int gov_signed_op_write(const gov_signed_op *op, cal_buffer *out);

/* --- sealing a group op under a group key --- */
int gov_group_op_seal(const gov_group_op *op, const cal_secret *group_key,
                      const uint8_t nonce[CAL_AEAD_NONCE_SIZE], cal_buffer *ret_sealed);
/* CAL_EVERIFY: not this key; CAL_EUNSUPPORTED: of no kind known here. The plaintext is kept in the
 * arena. */
int gov_group_op_open(cal_slice sealed, const uint8_t nonce[CAL_AEAD_NONCE_SIZE],
                      const cal_secret *group_key, cal_arena *arena, gov_group_op *ret_op);

/* --- signing --- */
/* Bounds of a group op's plaintext beyond its decoding (governance.md 4). CAL_ELIMIT. */
int gov_group_op_check(const gov_group_op *op);
/* Version, bounds, signature, in this order: CAL_EVERSION, CAL_ELIMIT, CAL_EVERIFY. The op must
 * have been decoded (body). */
int gov_signed_op_check(const gov_signed_op *op, cal_error *err);
void gov_signed_op_id(const gov_signed_op *op, cal_hash *ret_id); /* of a decoded op */
/* Encodes and signs; signer, version and signature of `op` are filled in. ret_bytes: appended
 * SignedNamespaceOp. */
int gov_signed_op_sign(gov_signed_op *op, const cal_secret *signer, cal_buffer *ret_bytes,
                       cal_hash *ret_id);

/* The signed form of the reference's local log: `version || group || parents || signer || nonce ||
 * GroupOp`. */
int gov_group_op_signable(const cal_group_id *group, const gov_ids *parents,
                          const uint8_t signer[32], uint64_t nonce, const gov_group_op *op,
                          cal_buffer *out);

const char *gov_root_kind_text(uint8_t kind); /* "GroupCreated" */
const char *gov_group_kind_text(uint8_t kind);

#endif
