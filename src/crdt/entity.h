/* Entities: ids, storage keys, and the Index record that hangs an entity into the tree
 * (runtime-abi.md 9).
 *
 * A decoded record borrows its texts from the bytes it came from. Encoding what was decoded gives
 * the same bytes, except that writer maps come out sorted by account, last duplicate kept (traps.md
 * 10). */
#ifndef CAL_CRDT_ENTITY_H
#define CAL_CRDT_ENTITY_H

#include "crdt/borsh.h"

/* --- ids and keys --- */

enum { CRDT_KEY_INDEX = 0, CRDT_KEY_ENTRY = 1, CRDT_KEY_SYNC_STATE = 2 };

extern const crdt_id CRDT_STATE_ID; /* the application's state: 32 times 'v' */

void crdt_storage_key(crdt_sha256_fn sha256, uint8_t tag, const crdt_id *id, uint8_t ret_key[32]);
/* parent NULL: a field of the state. */
void crdt_collection_id(crdt_sha256_fn sha256, const crdt_id *parent, crdt_bytes name,
                        crdt_id *ret_id);
void crdt_entry_id(crdt_sha256_fn sha256, const crdt_id *collection, crdt_bytes key,
                   crdt_id *ret_id);

/* --- metadata --- */

enum { CRDT_MASK_WRITE = 1, CRDT_MASK_DELETE = 2, CRDT_MASK_ADMIN = 4, CRDT_MASK_FULL = 7 };

typedef struct crdt_grant {
    crdt_id account;
    uint8_t mask;
} crdt_grant;

typedef struct crdt_grants { /* sorted by account, no duplicates */
    const crdt_grant *items;
    uint32_t count;
} crdt_grants;

typedef struct crdt_signature {
    uint8_t signature[64];
    uint64_t nonce;
    bool has_signer;
    crdt_id signer;
} crdt_signature;

/* The numbers are those of borsh; what is signed uses others (traps.md 12). */
typedef enum crdt_storage_kind {
    CRDT_PUBLIC = 0,
    CRDT_USER = 1,
    CRDT_FROZEN = 2,
    CRDT_SHARED = 3,
    CRDT_SHARED_MEMBER = 4,
} crdt_storage_kind;

typedef struct crdt_storage_type {
    crdt_storage_kind kind;
    crdt_id subject;                 /* USER: the owner; SHARED_MEMBER: the anchor */
    crdt_grants writers;             /* SHARED */
    const crdt_signature *signature; /* NULL: none */
} crdt_storage_type;

typedef enum crdt_type_kind {
    CRDT_TYPE_LWW_REGISTER = 0,
    CRDT_TYPE_G_COUNTER,
    CRDT_TYPE_PN_COUNTER,
    CRDT_TYPE_RGA,
    CRDT_TYPE_UNORDERED_MAP,
    CRDT_TYPE_SORTED_MAP,
    CRDT_TYPE_UNORDERED_SET,
    CRDT_TYPE_SORTED_SET,
    CRDT_TYPE_VECTOR,
    CRDT_TYPE_USER_STORAGE,
    CRDT_TYPE_FROZEN_STORAGE,
    CRDT_TYPE_SHARED_STORAGE,
    CRDT_TYPE_CUSTOM,
    CRDT_TYPE_ROTATION_LOG,
} crdt_type_kind;

typedef struct crdt_type {
    crdt_type_kind kind;
    crdt_bytes names[2]; /* type names, as many as the kind has; they mean nothing to merging */
} crdt_type;

typedef struct crdt_metadata {
    uint64_t created_at, updated_at; /* nanoseconds since the epoch */
    crdt_storage_type storage;
    const crdt_type *type; /* NULL: none */
    bool has_field_name, has_schema_version;
    crdt_bytes field_name;
    uint32_t schema_version;
} crdt_metadata;

/* An entity as its parent lists it, or as an ancestor in an action. */
typedef struct crdt_child {
    crdt_id id;
    crdt_hash merkle_hash; /* the child's full hash */
    crdt_metadata metadata;
} crdt_child;

typedef struct crdt_children {
    const crdt_child *items;
    uint32_t count;
} crdt_children;

/* The Index record. */
typedef struct crdt_index {
    crdt_id id;
    bool has_parent, has_children, is_deleted;
    crdt_id parent;
    crdt_children children; /* ordered by (created_at, id) */
    crdt_hash full_hash, own_hash;
    crdt_metadata metadata;
    uint64_t deleted_at;
    const crdt_id *deleted_children;
    uint32_t deleted_child_count;
} crdt_index;

/* --- codecs --- decode: 0, CRDT_EDECODE, CRDT_ENOMEM; all bytes must be used. */

int crdt_index_decode(const crdt_memory *memory, crdt_bytes record, crdt_index *ret_index);
int crdt_index_encode(const crdt_memory *memory, const crdt_index *index, crdt_bytes *ret_record);
/* Only the full hash, without decoding what stands around it into memory. For the root entity it is
 * the context's root hash. */
int crdt_index_full_hash(crdt_bytes record, crdt_hash *ret_full_hash);
/* The record with only its signature replaced (runtime-abi.md 6, step 4b); hashes stay. CRDT_EINVAL
 * when the stored storage type is another one than `signed_type` (kind, owner, anchor or writers)
 * or signed_type has no real signature. */
int crdt_index_patch_signature(const crdt_memory *memory, crdt_bytes record,
                               const crdt_storage_type *signed_type, crdt_bytes *ret_record);

int crdt_metadata_decode(const crdt_memory *memory, crdt_bytes bytes, crdt_metadata *ret_metadata);
int crdt_child_decode(const crdt_memory *memory, crdt_bytes bytes, crdt_child *ret_child);
int crdt_storage_type_decode(const crdt_memory *memory, crdt_bytes bytes,
                             crdt_storage_type *ret_type);
int crdt_type_decode(const crdt_memory *memory, crdt_bytes bytes, crdt_type *ret_type);
bool crdt_mask_valid(uint8_t mask);

/* --- parts, for whoever embeds these in its own structures --- */

void crdt_read_index(crdt_reader *reader, crdt_index *ret_index);
void crdt_read_metadata(crdt_reader *reader, crdt_metadata *ret_metadata);
void crdt_read_child(crdt_reader *reader, crdt_child *ret_child);
void crdt_read_children(crdt_reader *reader, crdt_children *ret_children);
void crdt_read_storage_type(crdt_reader *reader, crdt_storage_type *ret_type);
void crdt_read_grants(crdt_reader *reader, crdt_grants *ret_grants);
void crdt_read_type(crdt_reader *reader, crdt_type *ret_type);
void crdt_write_index(crdt_writer *writer, const crdt_index *index);
void crdt_write_metadata(crdt_writer *writer, const crdt_metadata *metadata);
void crdt_write_child(crdt_writer *writer, const crdt_child *child);
void crdt_write_children(crdt_writer *writer, crdt_children children);
void crdt_write_storage_type(crdt_writer *writer, const crdt_storage_type *type);
void crdt_write_type(crdt_writer *writer, const crdt_type *type);

bool crdt_storage_type_same(const crdt_storage_type *a,
                            const crdt_storage_type *b); /* signature aside */
const crdt_grant *crdt_grants_find(crdt_grants grants,
                                   const crdt_id *account); /* NULL: not there */

#endif
