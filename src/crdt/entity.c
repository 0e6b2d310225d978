/* Ids, storage keys and the codecs of Index records and their parts. Freestanding; see entity.h.
 * runtime-abi.md 9. */
#include "crdt/entity.h"

/* Smallest encodings, to refuse counts that the bytes left cannot hold. */
enum {
    GRANT_SIZE = 33,
    METADATA_MIN = 8 + 8 + 1 + 1 + 1 + 1,
    CHILD_MIN = 32 + 32 + METADATA_MIN,
};

const crdt_id CRDT_STATE_ID = {{
    0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76,
    0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76,
}};

/* --- ids and keys --- */

void crdt_storage_key(crdt_sha256_fn sha256, uint8_t tag, const crdt_id *id, uint8_t ret_key[32]) {
    uint8_t input[33];
    input[0] = tag;
    __builtin_memcpy(input + 1, id->bytes, 32);
    crdt_bytes part = crdt_bytes_of(input, sizeof input);
    sha256(&part, 1, ret_key);
}

void crdt_collection_id(crdt_sha256_fn sha256, const crdt_id *parent, crdt_bytes name,
                        crdt_id *ret_id) {
    static const char domain[] = "__calimero_collection__";
    crdt_bytes parts[3] = {
        parent ? crdt_bytes_of(parent->bytes, 32) : (crdt_bytes){0},
        crdt_bytes_of(domain, sizeof domain - 1),
        name,
    };
    sha256(parts, 3, ret_id->bytes);
}

void crdt_entry_id(crdt_sha256_fn sha256, const crdt_id *collection, crdt_bytes key,
                   crdt_id *ret_id) {
    static const char domain[] = "__calimero_entry__";
    crdt_bytes parts[3] = {
        crdt_bytes_of(collection->bytes, 32),
        crdt_bytes_of(domain, sizeof domain - 1),
        key,
    };
    sha256(parts, 3, ret_id->bytes);
}

/* --- storage types --- */

bool crdt_mask_valid(uint8_t mask) { return (mask & ~CRDT_MASK_FULL) == 0; }

static int grant_order(const void *a, const void *b) {
    return crdt_compare(&((const crdt_grant *)a)->account, &((const crdt_grant *)b)->account, 32);
}

void crdt_read_grants(crdt_reader *reader, crdt_grants *ret_grants) {
    uint32_t count = crdt_read_count(reader, GRANT_SIZE);
    *ret_grants = (crdt_grants){0};
    if (count == 0) return;
    crdt_grant *grants = crdt_alloc_array(reader->memory, count, sizeof *grants);
    if (!grants) {
        crdt_read_fail(reader, CRDT_ENOMEM);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        crdt_read_fixed(reader, &grants[i].account, 32);
        grants[i].mask = crdt_read_u8(reader);
        if (!crdt_mask_valid(grants[i].mask)) crdt_read_fail(reader, CRDT_EDECODE);
    }
    int result = crdt_sort(reader->memory, grants, count, sizeof *grants, grant_order);
    if (result) crdt_read_fail(reader, result);
    uint32_t kept = 0; /* of equal accounts the last one */
    for (uint32_t i = 0; i < count; i++) {
        if (kept && grant_order(&grants[kept - 1], &grants[i]) == 0) kept--;
        grants[kept++] = grants[i];
    }
    *ret_grants = (crdt_grants){grants, kept};
}

static const crdt_signature *read_signature(crdt_reader *reader) {
    if (!crdt_read_bool(reader)) return NULL;
    crdt_signature *signature = crdt_alloc_array(reader->memory, 1, sizeof *signature);
    if (!signature) {
        crdt_read_fail(reader, CRDT_ENOMEM);
        return NULL;
    }
    __builtin_memset(signature, 0, sizeof *signature);
    crdt_read_fixed(reader, signature->signature, 64);
    signature->nonce = crdt_read_u64(reader);
    signature->has_signer = crdt_read_bool(reader);
    if (signature->has_signer) crdt_read_fixed(reader, &signature->signer, 32);
    return signature;
}

void crdt_read_storage_type(crdt_reader *reader, crdt_storage_type *ret_type) {
    *ret_type = (crdt_storage_type){0};
    uint8_t tag = crdt_read_u8(reader);
    if (tag > CRDT_SHARED_MEMBER) {
        crdt_read_fail(reader, CRDT_EDECODE);
        return;
    }
    ret_type->kind = (crdt_storage_kind)tag;
    switch (ret_type->kind) {
    case CRDT_PUBLIC:
    case CRDT_FROZEN:
        return;
    case CRDT_USER:
    case CRDT_SHARED_MEMBER:
        crdt_read_fixed(reader, &ret_type->subject, 32);
        break;
    case CRDT_SHARED:
        crdt_read_grants(reader, &ret_type->writers);
        break;
    }
    ret_type->signature = read_signature(reader);
}

static void write_signature(crdt_writer *writer, const crdt_signature *signature) {
    crdt_write_u8(writer, signature != NULL);
    if (!signature) return;
    crdt_write_fixed(writer, signature->signature, 64);
    crdt_write_u64(writer, signature->nonce);
    crdt_write_u8(writer, signature->has_signer);
    if (signature->has_signer) crdt_write_fixed(writer, &signature->signer, 32);
}

void crdt_write_storage_type(crdt_writer *writer, const crdt_storage_type *type) {
    crdt_write_u8(writer, (uint8_t)type->kind);
    switch (type->kind) {
    case CRDT_PUBLIC:
    case CRDT_FROZEN:
        return;
    case CRDT_USER:
    case CRDT_SHARED_MEMBER:
        crdt_write_fixed(writer, &type->subject, 32);
        break;
    case CRDT_SHARED:
        crdt_write_u32(writer, type->writers.count);
        for (uint32_t i = 0; i < type->writers.count; i++) {
            crdt_write_fixed(writer, &type->writers.items[i].account, 32);
            crdt_write_u8(writer, type->writers.items[i].mask);
        }
        break;
    }
    write_signature(writer, type->signature);
}

bool crdt_storage_type_same(const crdt_storage_type *a, const crdt_storage_type *b) {
    if (a->kind != b->kind) return false;
    if (a->kind == CRDT_USER || a->kind == CRDT_SHARED_MEMBER)
        return crdt_id_equal(&a->subject, &b->subject);
    if (a->kind != CRDT_SHARED) return true;
    if (a->writers.count != b->writers.count) return false;
    for (uint32_t i = 0; i < a->writers.count; i++) {
        const crdt_grant *x = &a->writers.items[i], *y = &b->writers.items[i];
        if (x->mask != y->mask || !crdt_id_equal(&x->account, &y->account)) return false;
    }
    return true;
}

const crdt_grant *crdt_grants_find(crdt_grants grants, const crdt_id *account) {
    for (uint32_t i = 0; i < grants.count; i++)
        if (crdt_id_equal(&grants.items[i].account, account)) return &grants.items[i];
    return NULL;
}

/* --- CRDT types and metadata --- */

static unsigned type_name_count(crdt_type_kind kind) {
    switch (kind) {
    case CRDT_TYPE_UNORDERED_MAP:
    case CRDT_TYPE_SORTED_MAP:
        return 2;
    case CRDT_TYPE_LWW_REGISTER:
    case CRDT_TYPE_UNORDERED_SET:
    case CRDT_TYPE_SORTED_SET:
    case CRDT_TYPE_VECTOR:
    case CRDT_TYPE_CUSTOM:
        return 1;
    default:
        return 0;
    }
}

void crdt_read_type(crdt_reader *reader, crdt_type *ret_type) {
    *ret_type = (crdt_type){0};
    uint8_t tag = crdt_read_u8(reader);
    if (tag > CRDT_TYPE_ROTATION_LOG) {
        crdt_read_fail(reader, CRDT_EDECODE);
        return;
    }
    ret_type->kind = (crdt_type_kind)tag;
    for (unsigned i = 0; i < type_name_count(ret_type->kind); i++)
        ret_type->names[i] = crdt_read_string(reader);
}

void crdt_write_type(crdt_writer *writer, const crdt_type *type) {
    crdt_write_u8(writer, (uint8_t)type->kind);
    for (unsigned i = 0; i < type_name_count(type->kind); i++)
        crdt_write_bytes(writer, type->names[i]);
}

void crdt_read_metadata(crdt_reader *reader, crdt_metadata *ret_metadata) {
    *ret_metadata = (crdt_metadata){0};
    ret_metadata->created_at = crdt_read_u64(reader);
    ret_metadata->updated_at = crdt_read_u64(reader);
    crdt_read_storage_type(reader, &ret_metadata->storage);
    if (crdt_read_bool(reader)) {
        crdt_type *type = crdt_alloc_array(reader->memory, 1, sizeof *type);
        if (!type) {
            crdt_read_fail(reader, CRDT_ENOMEM);
            return;
        }
        crdt_read_type(reader, type);
        ret_metadata->type = type;
    }
    ret_metadata->has_field_name = crdt_read_bool(reader);
    if (ret_metadata->has_field_name) ret_metadata->field_name = crdt_read_string(reader);
    ret_metadata->has_schema_version = crdt_read_bool(reader);
    if (ret_metadata->has_schema_version) ret_metadata->schema_version = crdt_read_u32(reader);
}

void crdt_write_metadata(crdt_writer *writer, const crdt_metadata *metadata) {
    crdt_write_u64(writer, metadata->created_at);
    crdt_write_u64(writer, metadata->updated_at);
    crdt_write_storage_type(writer, &metadata->storage);
    crdt_write_u8(writer, metadata->type != NULL);
    if (metadata->type) crdt_write_type(writer, metadata->type);
    crdt_write_u8(writer, metadata->has_field_name);
    if (metadata->has_field_name) crdt_write_bytes(writer, metadata->field_name);
    crdt_write_u8(writer, metadata->has_schema_version);
    if (metadata->has_schema_version) crdt_write_u32(writer, metadata->schema_version);
}

/* --- children and the Index record --- */

void crdt_read_child(crdt_reader *reader, crdt_child *ret_child) {
    crdt_read_fixed(reader, &ret_child->id, 32);
    crdt_read_fixed(reader, &ret_child->merkle_hash, 32);
    crdt_read_metadata(reader, &ret_child->metadata);
}

void crdt_write_child(crdt_writer *writer, const crdt_child *child) {
    crdt_write_fixed(writer, &child->id, 32);
    crdt_write_fixed(writer, &child->merkle_hash, 32);
    crdt_write_metadata(writer, &child->metadata);
}

void crdt_read_children(crdt_reader *reader, crdt_children *ret_children) {
    uint32_t count = crdt_read_count(reader, CHILD_MIN);
    *ret_children = (crdt_children){0};
    if (count == 0) return;
    crdt_child *children = crdt_alloc_array(reader->memory, count, sizeof *children);
    if (!children) {
        crdt_read_fail(reader, CRDT_ENOMEM);
        return;
    }
    for (uint32_t i = 0; i < count && !reader->error; i++) crdt_read_child(reader, &children[i]);
    if (!reader->error) *ret_children = (crdt_children){children, count};
}

void crdt_write_children(crdt_writer *writer, crdt_children children) {
    crdt_write_u32(writer, children.count);
    for (uint32_t i = 0; i < children.count; i++) crdt_write_child(writer, &children.items[i]);
}

void crdt_read_index(crdt_reader *reader, crdt_index *ret_index) {
    *ret_index = (crdt_index){0};
    crdt_read_fixed(reader, &ret_index->id, 32);
    ret_index->has_parent = crdt_read_bool(reader);
    if (ret_index->has_parent) crdt_read_fixed(reader, &ret_index->parent, 32);
    ret_index->has_children = crdt_read_bool(reader);
    if (ret_index->has_children) crdt_read_children(reader, &ret_index->children);
    crdt_read_fixed(reader, &ret_index->full_hash, 32);
    crdt_read_fixed(reader, &ret_index->own_hash, 32);
    crdt_read_metadata(reader, &ret_index->metadata);
    ret_index->is_deleted = crdt_read_bool(reader);
    if (ret_index->is_deleted) ret_index->deleted_at = crdt_read_u64(reader);
    uint32_t count = crdt_read_count(reader, 32);
    if (count == 0) return;
    crdt_id *deleted = crdt_alloc_array(reader->memory, count, sizeof *deleted);
    if (!deleted) {
        crdt_read_fail(reader, CRDT_ENOMEM);
        return;
    }
    crdt_read_fixed(reader, deleted, (size_t)count * 32);
    ret_index->deleted_children = deleted;
    ret_index->deleted_child_count = count;
}

void crdt_write_index(crdt_writer *writer, const crdt_index *index) {
    crdt_write_fixed(writer, &index->id, 32);
    crdt_write_u8(writer, index->has_parent);
    if (index->has_parent) crdt_write_fixed(writer, &index->parent, 32);
    crdt_write_u8(writer, index->has_children);
    if (index->has_children) crdt_write_children(writer, index->children);
    crdt_write_fixed(writer, &index->full_hash, 32);
    crdt_write_fixed(writer, &index->own_hash, 32);
    crdt_write_metadata(writer, &index->metadata);
    crdt_write_u8(writer, index->is_deleted);
    if (index->is_deleted) crdt_write_u64(writer, index->deleted_at);
    crdt_write_u32(writer, index->deleted_child_count);
    crdt_write_fixed(writer, index->deleted_children, (size_t)index->deleted_child_count * 32);
}

/* --- whole values --- */

#define CRDT_DECODER(name, type, read)                                                             \
    int name(const crdt_memory *memory, crdt_bytes bytes, type *ret_value) {                       \
        crdt_reader reader = crdt_reader_of(bytes, memory);                                        \
        type value;                                                                                \
        read(&reader, &value);                                                                     \
        int result = crdt_read_end(&reader);                                                       \
        if (!result) *ret_value = value;                                                           \
        return result;                                                                             \
    }

CRDT_DECODER(crdt_index_decode, crdt_index, crdt_read_index)
CRDT_DECODER(crdt_metadata_decode, crdt_metadata, crdt_read_metadata)
CRDT_DECODER(crdt_child_decode, crdt_child, crdt_read_child)
CRDT_DECODER(crdt_storage_type_decode, crdt_storage_type, crdt_read_storage_type)
CRDT_DECODER(crdt_type_decode, crdt_type, crdt_read_type)

int crdt_index_encode(const crdt_memory *memory, const crdt_index *index, crdt_bytes *ret_record) {
    crdt_writer writer = crdt_writer_of(memory);
    crdt_write_index(&writer, index);
    return crdt_write_end(&writer, ret_record);
}

/* Steps over one metadata without keeping anything. */
static void skip_metadata(crdt_reader *reader) {
    crdt_read_take(reader, 16);
    uint8_t tag = crdt_read_u8(reader);
    if (tag > CRDT_SHARED_MEMBER) crdt_read_fail(reader, CRDT_EDECODE);
    if (tag == CRDT_USER || tag == CRDT_SHARED_MEMBER) crdt_read_take(reader, 32);
    if (tag == CRDT_SHARED)
        crdt_read_take(reader, (size_t)crdt_read_count(reader, GRANT_SIZE) * GRANT_SIZE);
    if (tag != CRDT_PUBLIC && tag != CRDT_FROZEN && crdt_read_bool(reader)) {
        crdt_read_take(reader, 64 + 8);
        if (crdt_read_bool(reader)) crdt_read_take(reader, 32);
    }
    crdt_type type;
    if (crdt_read_bool(reader)) crdt_read_type(reader, &type);
    if (crdt_read_bool(reader)) crdt_read_string(reader);
    if (crdt_read_bool(reader)) crdt_read_u32(reader);
}

int crdt_index_full_hash(crdt_bytes record, crdt_hash *ret_full_hash) {
    crdt_reader reader = crdt_reader_of(record, NULL);
    crdt_hash full_hash;
    crdt_read_take(&reader, 32);
    if (crdt_read_bool(&reader)) crdt_read_take(&reader, 32);
    uint32_t children = crdt_read_bool(&reader) ? crdt_read_count(&reader, CHILD_MIN) : 0;
    for (uint32_t i = 0; i < children && !reader.error; i++) {
        crdt_read_take(&reader, 64);
        skip_metadata(&reader);
    }
    crdt_read_fixed(&reader, &full_hash, 32);
    crdt_read_take(&reader, 32);
    skip_metadata(&reader);
    if (crdt_read_bool(&reader)) crdt_read_u64(&reader);
    crdt_read_take(&reader, (size_t)crdt_read_count(&reader, 32) * 32);
    int result = crdt_read_end(&reader);
    if (!result) *ret_full_hash = full_hash;
    return result;
}

int crdt_index_patch_signature(const crdt_memory *memory, crdt_bytes record,
                               const crdt_storage_type *signed_type, crdt_bytes *ret_record) {
    static const uint8_t placeholder[64];
    if (!signed_type->signature ||
        crdt_compare(signed_type->signature->signature, placeholder, 64) == 0)
        return CRDT_EINVAL;
    crdt_index index;
    int result = crdt_index_decode(memory, record, &index);
    if (result) return result;
    if (!crdt_storage_type_same(&index.metadata.storage, signed_type)) return CRDT_EINVAL;
    index.metadata.storage.signature = signed_type->signature;
    return crdt_index_encode(memory, &index, ret_record);
}
