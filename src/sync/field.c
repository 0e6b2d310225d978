/* Reading and writing one field of a message, see field.h. */
#include "sync/field.h"

#include <assert.h>

void *sync_list_alloc(cal_borsh *in, cal_arena *arena, uint32_t count, size_t size) {
    if (in->error || count == 0) return NULL;
    void *items = cal_arena_alloc_array(arena, count, size);
    if (!items) cal_borsh_fail(in, CAL_ENOMEM);
    return items;
}

bool sync_within(size_t count, uint32_t max, cal_buffer *out) {
    if (max == 0 || count <= max) return true;
    if (!out->error) out->error = CAL_ELIMIT;
    return false;
}

/* --- reading --- */

/* Ids are bytes without alignment: the list stays where it came from. */
static void read_ids(cal_borsh *in, uint32_t max, sync_ids *ids) {
    uint32_t count = cal_borsh_count(in, max, sizeof *ids->items);
    cal_slice bytes = cal_borsh_take(in, count * sizeof *ids->items);
    if (bytes.len) *ids = (sync_ids){(const cal_hash *)(const void *)bytes.data, count};
}

static void read_parts(cal_borsh *in, cal_arena *arena, uint32_t max, sync_parts *parts) {
    uint32_t count = cal_borsh_count(in, max, 4);
    cal_slice *items = sync_list_alloc(in, arena, count, sizeof *items);
    if (!items) return;
    for (uint32_t i = 0; i < count; i++) items[i] = cal_borsh_bytes(in, SYNC_PART_MAX);
    *parts = (sync_parts){items, count};
}

static void read_ops(cal_borsh *in, cal_arena *arena, uint32_t max, sync_ops *ops) {
    uint32_t count = cal_borsh_count(in, max, 32 + 4);
    sync_op *items = sync_list_alloc(in, arena, count, sizeof *items);
    if (!items) return;
    for (uint32_t i = 0; i < count; i++) {
        cal_borsh_fixed(in, items[i].id.bytes, sizeof items[i].id.bytes);
        items[i].bytes = cal_borsh_bytes(in, SYNC_PART_MAX);
    }
    *ops = (sync_ops){items, count};
}

static uint64_t checked(cal_borsh *in, uint64_t value, uint32_t max) {
    if (max && value > max) cal_borsh_fail(in, CAL_ELIMIT);
    return value;
}

static bool read_scalar(const sync_field *field, cal_borsh *in, void *at) {
    switch (field->type) {
    case FIELD_ID:
        cal_borsh_fixed(in, at, 32);
        return true;
    case FIELD_NONCE:
        cal_borsh_fixed(in, at, CAL_AEAD_NONCE_SIZE);
        return true;
    case FIELD_SIGNATURE:
        cal_borsh_fixed(in, at, CAL_SIGNATURE_SIZE);
        return true;
    case FIELD_BOOL:
        *(bool *)at = cal_borsh_bool(in);
        return true;
    case FIELD_U8:
        *(uint8_t *)at = cal_borsh_u8(in);
        return true;
    case FIELD_U16:
        *(uint16_t *)at = cal_borsh_u16(in);
        return true;
    case FIELD_U32:
        *(uint32_t *)at = (uint32_t)checked(in, cal_borsh_u32(in), field->max);
        return true;
    case FIELD_U64:
        *(uint64_t *)at = checked(in, cal_borsh_u64(in), field->max);
        return true;
    default:
        return false;
    }
}

static void read_list(const sync_field *field, cal_borsh *in, cal_arena *arena, void *at) {
    switch (field->type) {
    case FIELD_BYTES:
        *(cal_slice *)at = cal_borsh_bytes(in, field->max);
        break;
    case FIELD_TEXT:
        *(cal_slice *)at = cal_borsh_text(in, field->max);
        break;
    case FIELD_IDS:
        read_ids(in, field->max, at);
        break;
    case FIELD_PARTS:
        read_parts(in, arena, field->max, at);
        break;
    case FIELD_OPS:
        read_ops(in, arena, field->max, at);
        break;
    case FIELD_LEAF:
        sync_leaf_read(in, at);
        break;
    case FIELD_LEAVES:
        sync_leaves_read(in, arena, field->max, at);
        break;
    case FIELD_DELETIONS:
        sync_deletions_read(in, arena, field->max, at);
        break;
    case FIELD_TREE_NODES:
        sync_tree_nodes_read(in, arena, field->max, at);
        break;
    case FIELD_LEVEL_NODES:
        sync_level_nodes_read(in, arena, field->max, at);
        break;
    case FIELD_SNAPSHOT_ERROR:
        sync_snapshot_error_read(in, arena, at);
        break;
    default:
        assert(false); /* a field that nobody reads */
    }
}

void sync_fields_read(const sync_field *fields, cal_borsh *in, cal_arena *arena, void *object) {
    for (const sync_field *field = fields; field->type != FIELD_END; field++) {
        void *at = (char *)object + field->offset;
        if (field->optional) {
            bool present = cal_borsh_bool(in);
            *(bool *)((char *)object + field->present) = present;
            if (!present) continue;
        }
        if (!read_scalar(field, in, at)) read_list(field, in, arena, at);
    }
}

/* --- writing --- */

static void write_ids(const sync_ids *ids, uint32_t max, cal_buffer *out) {
    if (!sync_within(ids->count, max, out)) return;
    cal_buffer_append_u32le(out, ids->count);
    cal_buffer_append(out, ids->items, ids->count * sizeof *ids->items);
}

static void write_parts(const sync_parts *parts, uint32_t max, cal_buffer *out) {
    if (!sync_within(parts->count, max, out)) return;
    cal_buffer_append_u32le(out, parts->count);
    for (uint32_t i = 0; i < parts->count; i++) cal_borsh_put_bytes(out, parts->items[i]);
}

static void write_ops(const sync_ops *ops, uint32_t max, cal_buffer *out) {
    if (!sync_within(ops->count, max, out)) return;
    cal_buffer_append_u32le(out, ops->count);
    for (uint32_t i = 0; i < ops->count; i++) {
        cal_buffer_append(out, ops->items[i].id.bytes, sizeof ops->items[i].id.bytes);
        cal_borsh_put_bytes(out, ops->items[i].bytes);
    }
}

static bool write_scalar(const sync_field *field, const void *at, cal_buffer *out) {
    switch (field->type) {
    case FIELD_ID:
        cal_buffer_append(out, at, 32);
        return true;
    case FIELD_NONCE:
        cal_buffer_append(out, at, CAL_AEAD_NONCE_SIZE);
        return true;
    case FIELD_SIGNATURE:
        cal_buffer_append(out, at, CAL_SIGNATURE_SIZE);
        return true;
    case FIELD_BOOL:
        cal_borsh_put_bool(out, *(const bool *)at);
        return true;
    case FIELD_U8:
        cal_buffer_append_u8(out, *(const uint8_t *)at);
        return true;
    case FIELD_U16:
        cal_borsh_put_u16(out, *(const uint16_t *)at);
        return true;
    case FIELD_U32:
        if (sync_within(*(const uint32_t *)at, field->max, out))
            cal_buffer_append_u32le(out, *(const uint32_t *)at);
        return true;
    case FIELD_U64:
        if (sync_within(*(const uint64_t *)at, field->max, out))
            cal_buffer_append_u64le(out, *(const uint64_t *)at);
        return true;
    default:
        return false;
    }
}

static void write_list(const sync_field *field, const void *at, cal_buffer *out) {
    const cal_slice *bytes = at;
    switch (field->type) {
    case FIELD_BYTES:
    case FIELD_TEXT:
        if (sync_within(bytes->len, field->max, out)) cal_borsh_put_bytes(out, *bytes);
        break;
    case FIELD_IDS:
        write_ids(at, field->max, out);
        break;
    case FIELD_PARTS:
        write_parts(at, field->max, out);
        break;
    case FIELD_OPS:
        write_ops(at, field->max, out);
        break;
    case FIELD_LEAF:
        sync_leaf_write(at, out);
        break;
    case FIELD_LEAVES:
        sync_leaves_write(at, field->max, out);
        break;
    case FIELD_DELETIONS:
        sync_deletions_write(at, field->max, out);
        break;
    case FIELD_TREE_NODES:
        sync_tree_nodes_write(at, field->max, out);
        break;
    case FIELD_LEVEL_NODES:
        sync_level_nodes_write(at, field->max, out);
        break;
    case FIELD_SNAPSHOT_ERROR:
        sync_snapshot_error_write(at, out);
        break;
    default:
        assert(false); /* a field that nobody writes */
    }
}

int sync_fields_write(const sync_field *fields, const void *object, cal_buffer *out) {
    for (const sync_field *field = fields; field->type != FIELD_END; field++) {
        const void *at = (const char *)object + field->offset;
        if (field->optional) {
            bool present = *(const bool *)((const char *)object + field->present);
            cal_borsh_put_bool(out, present);
            if (!present) continue;
        }
        if (!write_scalar(field, at, out)) write_list(field, at, out);
    }
    return out->error;
}
