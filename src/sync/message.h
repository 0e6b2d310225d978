/* What nodes say to each other on streams of /calimero/stream/0.0.2, one message a frame, and the
 * two gossip messages of a context that are not a delta (network-sync.md 2, 3, 5;
 * governance.md 5.4).
 *
 * One flat structure for all variants of a kind: `kind` says which fields mean something. What is
 * decoded borrows from the bytes and the arena. Decoding checks the bounds below before it
 * allocates, and takes nothing after the end. Pure; any thread. */
#ifndef CAL_SYNC_MESSAGE_H
#define CAL_SYNC_MESSAGE_H

#include "base/arena.h"
#include "base/buffer.h"
#include "calimero/error.h"
#include "calimero/identity.h"
#include "calimero/p2p.h"
#include "crypto/crypto.h"
#include "dag/dag.h"

enum {
    SYNC_OPS_MAX = 500,         /* governance operations in one answer */
    SYNC_PUSH_MAX = 500,        /* leaves or deletions in one push */
    SYNC_TREE_NODES_MAX = 1000, /* of one answer; and parents of one LevelWise question */
    SYNC_LEVEL_NODES_MAX = 10000,
    SYNC_CHILDREN_MAX = 256,         /* of a tree node, towards nodes of the reference */
    SYNC_TREE_CHILDREN_MAX = 262144, /* of one that is decoded: what fits a frame */
    SYNC_DELETIONS_MAX = 131072,     /* of a node or level: what fits a frame */
    SYNC_LEAF_VALUE_MAX = 1024 * 1024,
    SYNC_ANCESTORS_MAX = 64,
    SYNC_HEADS_MAX = DAG_HEADS_MAX,
    SYNC_CONTEXTS_MAX = 65536,        /* ids in a join's answer */
    SYNC_REASON_MAX = 4096,           /* bytes of a refusal's words */
    SYNC_CREDENTIAL_MAX = 256 * 1024, /* bytes of a joiner's credential: 1,024 handoffs fit */
    SYNC_INVITATION_MAX = 4096,
    SYNC_ENVELOPE_MAX = 1024,         /* of an encoded KeyEnvelope */
    SYNC_BACKFILL_IDS_MAX = 65536,    /* asked for at once; SYNC_OPS_MAX are answered */
    SYNC_DELTA_MAX = 4 * 1024 * 1024, /* an encoded CausalDelta */
    SYNC_POSITION_MAX = 4 + 32 * 32,  /* an encoded GovernanceParentEdge */
    SYNC_PRESENCE_MAX = 64 * 1024,    /* sealed; 16 KiB of state fit (http-api.md 1) */
    SYNC_BLOB_CHUNK_MAX = 1024 * 1024,
    SYNC_PAGE_MAX = 4 * 1024 * 1024, /* a snapshot page, uncompressed */
    /* as it travels: what LZ4 makes of it at worst, and its length */
    SYNC_PAGE_PAYLOAD_MAX = SYNC_PAGE_MAX + SYNC_PAGE_MAX / 255 + 16 + 4,
    SYNC_CURSOR_MAX = 64,
    SYNC_PAGE_COUNT_MAX = 65536,
};

typedef struct sync_ids { /* Vec<[u8; 32]>, in the arena */
    const cal_hash *items;
    uint32_t count;
} sync_ids;

typedef struct sync_parts { /* Vec<Vec<u8>> */
    const cal_slice *items;
    uint32_t count;
} sync_parts;

/* --- trees (network-sync.md 3, "Tree types"); metadata, storage types and child infos stay
 * encoded: src/crdt reads them --- */

typedef struct sync_deletion { /* EntityDeletion */
    cal_hash id;
    uint64_t deleted_at; /* ns */
    cal_slice metadata;  /* borsh Metadata */
} sync_deletion;
typedef struct sync_deletions {
    const sync_deletion *items;
    uint32_t count;
} sync_deletions;

typedef struct sync_leaf { /* TreeLeafData, its LeafMetadata flat */
    cal_hash id;
    cal_slice value;     /* Entry bytes */
    cal_slice type;      /* borsh CrdtType */
    uint64_t updated_at; /* ns; the reference calls it hlc_timestamp */
    uint64_t created_at; /* ns */
    uint64_t version;    /* always 0 */
    cal_hash collection; /* always zero */
    bool has_parent, has_authorization, has_app_key;
    cal_hash parent;
    cal_slice ancestors; /* borsh Vec<ChildInfo>, nearest first, the count included */
    uint32_t ancestor_count;
    cal_slice authorization; /* borsh StorageType: User, Shared or SharedMember */
    cal_blob_id app_key;     /* schema_app_key */
} sync_leaf;
typedef struct sync_leaves {
    const sync_leaf *items;
    uint32_t count;
} sync_leaves;

typedef struct sync_tree_node { /* TreeNode */
    cal_hash id, hash;          /* the full hash */
    sync_ids children;
    bool has_leaf;
    sync_leaf leaf;
    sync_deletions deleted;
} sync_tree_node;
typedef struct sync_tree_nodes {
    const sync_tree_node *items;
    uint32_t count;
} sync_tree_nodes;

typedef struct sync_level_node { /* LevelNode */
    cal_hash id, hash;
    bool has_parent, has_leaf;
    cal_hash parent;
    sync_leaf leaf;
} sync_level_node;
typedef struct sync_level_nodes {
    const sync_level_node *items;
    uint32_t count;
} sync_level_nodes;

/* --- snapshots --- */

typedef enum sync_snapshot_problem { /* SnapshotError */
                                     SYNC_SNAPSHOT_REQUIRED,
                                     SYNC_SNAPSHOT_BOUNDARY,
                                     SYNC_SNAPSHOT_CURSOR,
                                     SYNC_SNAPSHOT_INITIALISED,
                                     SYNC_SNAPSHOT_ROOT,
                                     SYNC_SNAPSHOT_INTERRUPTED,
                                     SYNC_SNAPSHOT_DECOMPRESSION,
                                     SYNC_SNAPSHOT_COUNT,
                                     SYNC_SNAPSHOT_PAGES,
                                     SYNC_SNAPSHOT_PROBLEM_COUNT,
} sync_snapshot_problem;

typedef struct sync_snapshot_error {
    uint8_t kind; /* sync_snapshot_problem */
    cal_hash expected_root, computed_root;
    uint64_t first, second; /* what the two u64 of a kind say; of one: first */
    const uint64_t *pages;  /* SYNC_SNAPSHOT_PAGES */
    uint32_t page_count;
} sync_snapshot_error;

typedef enum sync_record_kind { SYNC_RECORD_ENTITY, SYNC_RECORD_AUXILIARY } sync_record_kind;
typedef struct sync_record { /* SnapshotRecord */
    uint8_t kind;            /* sync_record_kind */
    uint8_t auxiliary;       /* AUXILIARY: what it is */
    cal_hash id;
    cal_slice entry, index; /* ENTITY: the rows; AUXILIARY: `entry` is its value */
    bool has_app_key;
    cal_blob_id app_key;
} sync_record;
/* Appends a record with its length. */
int sync_record_write(const sync_record *record, cal_buffer *out);
/* The records of an uncompressed page, the legacy form without a marker too: the next one at
 * *offset (0: the first), which moves on. CAL_ENOTFOUND at the end, CAL_EDECODE. */
int sync_record_next(cal_slice page, size_t *offset, sync_record *ret_record);
enum { SYNC_PAGE_MARKER = 0xFF };
/* A page as it travels: u32le length, LZ4 block. CAL_ELIMIT, CAL_EDECODE, CAL_ENOMEM. */
int sync_page_compress(cal_slice page, cal_buffer *ret_payload);
int sync_page_expand(cal_slice payload, uint32_t uncompressed_len, cal_buffer *ret_page);

/* --- requests: InitPayload --- */

typedef enum sync_request_kind {
    SYNC_BLOB_SHARE,
    SYNC_DELTA,
    SYNC_HEADS,
    SYNC_SNAPSHOT_BOUNDARY_OF,
    SYNC_SNAPSHOT_STREAM,
    SYNC_TREE_NODE,
    SYNC_LEVEL,
    SYNC_PUSH,
    SYNC_PUSH_DELETIONS,
    SYNC_BACKFILL,
    SYNC_JOIN,
    SYNC_JOIN_OPEN,
    SYNC_KEY,
    SYNC_REQUEST_COUNT,
} sync_request_kind;

typedef struct sync_request {
    uint8_t kind;           /* sync_request_kind */
    cal_context_id context; /* DELTA to PUSH_DELETIONS */
    cal_blob_id blob;       /* BLOB_SHARE */
    cal_hash id;            /* DELTA: of the delta; SNAPSHOT_STREAM: boundary root; TREE_NODE */
    bool has_cutoff;        /* SNAPSHOT_BOUNDARY_OF */
    uint64_t cutoff;
    uint16_t page_limit; /* SNAPSHOT_STREAM */
    uint32_t byte_limit;
    bool has_cursor;
    cal_slice cursor;
    bool has_depth; /* TREE_NODE */
    uint8_t depth;
    uint32_t level; /* LEVEL */
    bool has_ids;
    sync_ids ids;              /* LEVEL: parents, when has_ids; BACKFILL: operations */
    sync_leaves leaves;        /* PUSH */
    sync_deletions deletions;  /* PUSH_DELETIONS */
    cal_group_id namespace_id; /* BACKFILL, JOIN, JOIN_OPEN, KEY */
    cal_group_id group;        /* JOIN_OPEN: the subgroup; KEY */
    cal_slice invitation;      /* JOIN: borsh SignedGroupOpenInvitation */
    cal_slice credential;      /* JOIN: borsh JoinAccountCredential */
    cal_public_key key;        /* JOIN, JOIN_OPEN: the joiner's; KEY: the requester's */
    bool has_device, has_key_id;
    cal_device_id device; /* KEY */
    cal_hash key_id;      /* KEY */
} sync_request;

typedef struct sync_init {
    cal_context_id context; /* zero for a request about a namespace */
    cal_public_key party;
    sync_request request;
    uint8_t next_nonce[CAL_AEAD_NONCE_SIZE];
    bool has_proof;
    uint8_t proof[CAL_SIGNATURE_SIZE];
} sync_init;

/* --- answers: MessagePayload --- */

typedef enum sync_answer_kind {
    SYNC_ANSWER_BLOB,
    SYNC_ANSWER_DELTA,
    SYNC_ANSWER_DELTA_NOT_FOUND,
    SYNC_ANSWER_HEADS,
    SYNC_ANSWER_BOUNDARY,
    SYNC_ANSWER_PAGE,
    SYNC_ANSWER_SNAPSHOT_ERROR,
    SYNC_ANSWER_TREE,
    SYNC_ANSWER_LEVEL,
    SYNC_ANSWER_PUSHED,
    SYNC_ANSWER_PUSHED_DELETIONS,
    SYNC_ANSWER_BACKFILL,
    SYNC_ANSWER_JOIN,
    SYNC_ANSWER_JOIN_REJECTED,
    SYNC_ANSWER_JOIN_OPEN,
    SYNC_ANSWER_JOIN_OPEN_REJECTED,
    SYNC_ANSWER_KEY,
    SYNC_ANSWER_COUNT,
} sync_answer_kind;

typedef struct sync_op { /* of a backfill */
    cal_hash id;
    cal_slice bytes; /* borsh SignedNamespaceOp */
} sync_op;
typedef struct sync_ops {
    const sync_op *items;
    uint32_t count;
} sync_ops;

typedef struct sync_answer {
    uint8_t kind;    /* sync_answer_kind */
    cal_slice bytes; /* BLOB: the chunk; DELTA: borsh CausalDelta; PAGE: payload; JOIN, JOIN_OPEN,
                        KEY: borsh KeyEnvelope or nothing; *_REJECTED: the words */
    cal_public_key author;            /* DELTA; KEY: the responder */
    bool has_position, has_signature; /* DELTA */
    cal_slice position;               /* borsh GovernanceParentEdge */
    uint8_t signature[CAL_SIGNATURE_SIZE];
    sync_ids heads; /* HEADS, BOUNDARY */
    cal_hash root;  /* HEADS, BOUNDARY */
    bool has_scope_root;
    cal_hash scope_root;
    uint64_t boundary_ns;      /* BOUNDARY */
    uint32_t uncompressed_len; /* PAGE */
    bool has_cursor;
    cal_slice cursor;
    uint64_t page_count, sent_count, total_records;
    sync_snapshot_error error; /* SNAPSHOT_ERROR */
    sync_tree_nodes nodes;     /* TREE */
    bool not_found;
    uint32_t level; /* LEVEL */
    sync_level_nodes level_nodes;
    bool more_levels;
    sync_deletions deleted;
    uint32_t applied;  /* PUSHED, PUSHED_DELETIONS */
    sync_ops ops;      /* BACKFILL */
    sync_ids contexts; /* JOIN */
    cal_application_id application;
    sync_parts op_bytes; /* JOIN */
    uint32_t default_capabilities;
} sync_answer;

/* --- the envelope: StreamMessage --- */

typedef enum sync_message_kind {
    SYNC_INIT,
    SYNC_MESSAGE,
    SYNC_OPAQUE_ERROR,
    SYNC_NOT_MATERIALIZED, /* benign: not here, or not now */
    SYNC_MESSAGE_COUNT,
} sync_message_kind;

typedef struct sync_message {
    uint8_t kind; /* sync_message_kind */
    sync_init init;
    uint64_t sequence;
    sync_answer answer;
    uint8_t next_nonce[CAL_AEAD_NONCE_SIZE]; /* of an answer; an init has its own */
} sync_message;

int sync_message_decode(cal_slice bytes, cal_arena *arena,
                        sync_message *ret_message); /* CAL_EDECODE, CAL_ELIMIT, CAL_ENOMEM */
int sync_message_write(const sync_message *message, cal_buffer *out);
const char *sync_request_name(uint8_t kind); /* "DeltaRequest" */
const char *sync_answer_name(uint8_t kind);

/* --- proof of possession (network-sync.md 2, InitProof) --- */
bool sync_request_needs_proof(uint8_t kind);
/* What the proof binds: the namespace for the two joins, else the init's context. */
int sync_proof_sign(const sync_init *init, const cal_peer_id *dialer,
                    void (*sign)(void *user, cal_slice message,
                                 uint8_t ret_signature[CAL_SIGNATURE_SIZE]),
                    void *user, uint8_t ret_proof[CAL_SIGNATURE_SIZE]);
bool sync_proof_verify(const sync_init *init,
                       const cal_peer_id *dialer); /* false when there is none */

/* --- a delta as it is served: borsh CausalDelta {id, parents, actions, hlc} (network-sync.md 6.1)
 * --- */
typedef struct sync_causal_delta {
    cal_hash id;
    const cal_hash *parents;
    uint32_t parent_count;
    cal_slice actions; /* borsh Vec<Action>, the count included: an artifact without its tag; not
                        looked into */
    uint64_t hlc_time;
    uint8_t hlc_id[16]; /* u128 le */
} sync_causal_delta;
int sync_causal_delta_decode(cal_slice bytes, cal_arena *arena, sync_causal_delta *ret_delta);
int sync_causal_delta_write(const sync_causal_delta *delta, cal_buffer *out);

/* --- gossip on a context's topic beside deltas (network-sync.md 5) --- */
typedef struct sync_heartbeat { /* BroadcastMessage 1, HashHeartbeat */
    cal_context_id context;
    cal_hash root;
    sync_ids heads;
} sync_heartbeat;
int sync_heartbeat_decode(cal_slice bytes, cal_arena *arena,
                          sync_heartbeat *ret_heartbeat); /* CAL_EUNSUPPORTED: another variant */
int sync_heartbeat_write(const sync_heartbeat *heartbeat, cal_buffer *out);

typedef struct sync_presence { /* BroadcastMessage 5, Ephemeral */
    cal_context_id context;
    cal_public_key author;
    uint64_t seq;
    cal_hash key_id;
    uint64_t sent_at_ms;
    uint8_t nonce[CAL_AEAD_NONCE_SIZE];
    cal_slice sealed;
    uint8_t signature[CAL_SIGNATURE_SIZE];
} sync_presence;
int sync_presence_decode(cal_slice bytes, sync_presence *ret_presence);
int sync_presence_write(const sync_presence *presence, cal_buffer *out);
int sync_presence_signable(const sync_presence *presence, cal_buffer *out);

/* --- blobs on /calimero/blob/0.0.2 (network-sync.md 10, path B) --- */
typedef struct sync_blob_request {
    cal_blob_id blob;
    cal_context_id context;
    bool has_auth;
    cal_public_key key;
    uint8_t signature[CAL_SIGNATURE_SIZE];
    uint64_t timestamp_s;
} sync_blob_request;
int sync_blob_request_decode(cal_slice json, sync_blob_request *ret_request);
int sync_blob_request_write(const sync_blob_request *request, cal_buffer *out);
int sync_blob_request_signable(const sync_blob_request *request, cal_buffer *out);
typedef struct sync_blob_response {
    bool found, has_size;
    uint64_t size;
} sync_blob_response;
int sync_blob_response_decode(cal_slice json, sync_blob_response *ret_response);
int sync_blob_response_write(const sync_blob_response *response, cal_buffer *out);
int sync_blob_chunk_decode(cal_slice frame, cal_slice *ret_chunk); /* borrows; empty: the end */
int sync_blob_chunk_write(cal_slice chunk, cal_buffer *out);

#endif
