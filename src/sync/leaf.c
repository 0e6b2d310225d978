/* Leaves and deletions of a context's tree (network-sync.md 3, "Tree types").
 *
 * Metadata, storage types, types and ancestors belong to crdt and stay encoded here: they are read
 * through once, into memory that is dropped at once, to find where they end and to know that they
 * decode. */
#include "context/record.h"
#include "crdt/entity.h"
#include "sync/field.h"

/* Reads one thing of crdt at the cursor; what it took. */
static cal_slice read_encoded(cal_borsh *in, void (*read)(crdt_reader *reader, void *ret_count),
                              void *ret_count) {
    cal_arena scratch;
    cal_slice taken = {0};
    if (in->error) return taken;
    cal_arena_init(&scratch, SYNC_MEMORY_MAX);
    crdt_memory memory = cal_crdt_memory(&scratch);
    crdt_reader reader = crdt_reader_of(crdt_bytes_of(in->at, in->left), &memory);
    read(&reader, ret_count);
    if (reader.error)
        cal_borsh_fail(in, reader.error);
    else
        taken = cal_borsh_take(in, in->left - reader.len);
    cal_arena_deinit(&scratch);
    return taken;
}

static void read_type(crdt_reader *reader, void *unused) {
    crdt_type type;
    (void)unused;
    crdt_read_type(reader, &type);
}

static void read_metadata(crdt_reader *reader, void *unused) {
    crdt_metadata metadata;
    (void)unused;
    crdt_read_metadata(reader, &metadata);
}

/* Public and frozen entities need no authorization, so there is none to send. */
static void read_authorization(crdt_reader *reader, void *unused) {
    crdt_storage_type type;
    (void)unused;
    crdt_read_storage_type(reader, &type);
    if (!reader->error && (type.kind == CRDT_PUBLIC || type.kind == CRDT_FROZEN))
        crdt_read_fail(reader, CRDT_EDECODE);
}

static void read_ancestors(crdt_reader *reader, void *ret_count) {
    enum { CHILD_SIZE_MIN = 32 + 32 + 8 + 8 + 4 };
    uint32_t count = crdt_read_count(reader, CHILD_SIZE_MIN);
    if (count > SYNC_ANCESTORS_MAX) crdt_read_fail(reader, CRDT_ELIMIT);
    for (uint32_t i = 0; i < count && !reader->error; i++) {
        crdt_child child;
        crdt_read_child(reader, &child);
    }
    *(uint32_t *)ret_count = reader->error ? 0 : count;
}

static void read_option_id(cal_borsh *in, bool *ret_present, uint8_t ret_id[32]) {
    *ret_present = cal_borsh_bool(in);
    if (*ret_present) cal_borsh_fixed(in, ret_id, 32);
}

void sync_leaf_read(cal_borsh *in, sync_leaf *leaf) {
    *leaf = (sync_leaf){0};
    cal_borsh_fixed(in, leaf->id.bytes, 32);
    leaf->value = cal_borsh_bytes(in, SYNC_LEAF_VALUE_MAX);
    leaf->type = read_encoded(in, read_type, NULL);
    leaf->updated_at = cal_borsh_u64(in);
    leaf->created_at = cal_borsh_u64(in);
    leaf->version = cal_borsh_u64(in);
    cal_borsh_fixed(in, leaf->collection.bytes, 32);
    read_option_id(in, &leaf->has_parent, leaf->parent.bytes);
    leaf->ancestors = read_encoded(in, read_ancestors, &leaf->ancestor_count);
    leaf->has_authorization = cal_borsh_bool(in);
    if (leaf->has_authorization) leaf->authorization = read_encoded(in, read_authorization, NULL);
    read_option_id(in, &leaf->has_app_key, leaf->app_key.bytes);
}

static void write_option_id(bool present, const uint8_t id[32], cal_buffer *out) {
    cal_borsh_put_bool(out, present);
    if (present) cal_buffer_append(out, id, 32);
}

int sync_leaf_write(const sync_leaf *leaf, cal_buffer *out) {
    if (!sync_within(leaf->value.len, SYNC_LEAF_VALUE_MAX, out) ||
        !sync_within(leaf->ancestor_count, SYNC_ANCESTORS_MAX, out))
        return out->error;
    cal_buffer_append(out, leaf->id.bytes, 32);
    cal_borsh_put_bytes(out, leaf->value);
    cal_buffer_append_slice(out, leaf->type);
    cal_buffer_append_u64le(out, leaf->updated_at);
    cal_buffer_append_u64le(out, leaf->created_at);
    cal_buffer_append_u64le(out, leaf->version);
    cal_buffer_append(out, leaf->collection.bytes, 32);
    write_option_id(leaf->has_parent, leaf->parent.bytes, out);
    cal_buffer_append_slice(out, leaf->ancestors);
    cal_borsh_put_bool(out, leaf->has_authorization);
    if (leaf->has_authorization) cal_buffer_append_slice(out, leaf->authorization);
    write_option_id(leaf->has_app_key, leaf->app_key.bytes, out);
    return out->error;
}

void sync_leaves_read(cal_borsh *in, cal_arena *arena, uint32_t max, sync_leaves *leaves) {
    uint32_t count = cal_borsh_count(in, max, SYNC_LEAF_SIZE_MIN);
    sync_leaf *items = sync_list_alloc(in, arena, count, sizeof *items);
    if (!items) return;
    for (uint32_t i = 0; i < count; i++) sync_leaf_read(in, &items[i]);
    *leaves = (sync_leaves){items, count};
}

void sync_leaves_write(const sync_leaves *leaves, uint32_t max, cal_buffer *out) {
    if (!sync_within(leaves->count, max, out)) return;
    cal_buffer_append_u32le(out, leaves->count);
    for (uint32_t i = 0; i < leaves->count; i++) sync_leaf_write(&leaves->items[i], out);
}

void sync_deletion_read(cal_borsh *in, sync_deletion *deletion) {
    cal_borsh_fixed(in, deletion->id.bytes, 32);
    deletion->deleted_at = cal_borsh_u64(in);
    deletion->metadata = read_encoded(in, read_metadata, NULL);
}

int sync_deletion_write(const sync_deletion *deletion, cal_buffer *out) {
    cal_buffer_append(out, deletion->id.bytes, 32);
    cal_buffer_append_u64le(out, deletion->deleted_at);
    return cal_buffer_append_slice(out, deletion->metadata);
}

void sync_deletions_read(cal_borsh *in, cal_arena *arena, uint32_t max, sync_deletions *deletions) {
    uint32_t count = cal_borsh_count(in, max, SYNC_DELETION_SIZE_MIN);
    sync_deletion *items = sync_list_alloc(in, arena, count, sizeof *items);
    if (!items) return;
    for (uint32_t i = 0; i < count; i++) sync_deletion_read(in, &items[i]);
    *deletions = (sync_deletions){items, count};
}

void sync_deletions_write(const sync_deletions *deletions, uint32_t max, cal_buffer *out) {
    if (!sync_within(deletions->count, max, out)) return;
    cal_buffer_append_u32le(out, deletions->count);
    for (uint32_t i = 0; i < deletions->count; i++) sync_deletion_write(&deletions->items[i], out);
}
