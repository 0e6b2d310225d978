/* A context's tree at one moment, see tree_view.h. */
#include "sync/tree_view.h"

#include <stdlib.h>
#include <string.h>

enum { CHAINS_ARENA_MAX = 16 * 1024 * 1024, ENTRY_MAX = 2 * SYNC_LEAF_VALUE_MAX };

static cal_slice key_of(const cal_hash *id) { return cal_slice_of(id->bytes, sizeof id->bytes); }

/* --- opening --- */

static int read_root(sync_tree_view *view) {
    cal_arena arena;
    cal_buffer row;
    cal_context_record record;
    cal_arena_init(&arena, CAL_CONTEXT_HEADS_MAX * 32 + 4096);
    cal_buffer_init(&row, CAL_CONTEXT_HEADS_MAX * 32 + 4096);
    int rc = cal_snapshot_get(view->snapshot, CAL_COLUMN_CONTEXT,
                              cal_slice_of(view->context.bytes, 32), &row);
    if (rc == 0) rc = cal_context_record_decode(cal_buffer_slice(&row), &arena, &record);
    if (rc == 0) view->root = record.root;
    cal_buffer_deinit(&row);
    cal_arena_deinit(&arena);
    return rc;
}

int sync_tree_view_open(cal_store *store, const cal_context_id *context, uint64_t now_ms,
                        sync_tree_view **ret_view) {
    sync_tree_view *view = calloc(1, sizeof *view);
    if (!view) return CAL_ENOMEM;
    view->context = *context;
    view->made_ms = now_ms;
    cal_arena_init(&view->chains_arena, CHAINS_ARENA_MAX);
    cal_map_init(&view->chains, now_ms);
    int rc = cal_store_snapshot(store, &view->snapshot);
    if (rc == 0) rc = read_root(view);
    if (rc == 0)
        *ret_view = view;
    else
        sync_tree_view_free(view);
    return rc;
}

static void unload(sync_tree_view *view) {
    free(view->children);
    free(view->deleted);
    view->children = NULL;
    view->deleted = NULL;
    view->child_count = view->deleted_count = 0;
    view->loaded = view->live = false;
}

void sync_tree_view_free(sync_tree_view *view) {
    if (!view) return;
    unload(view);
    cal_map_deinit(&view->chains);
    cal_arena_deinit(&view->chains_arena);
    cal_snapshot_free(view->snapshot);
    free(view);
}

/* --- rows --- */

static int read_row(sync_tree_view *view, uint8_t tag, const cal_hash *id, size_t max,
                    cal_arena *arena, crdt_bytes *ret_value) {
    uint8_t key[64];
    crdt_id entity;
    cal_buffer row;
    memcpy(entity.bytes, id->bytes, 32);
    memcpy(key, view->context.bytes, 32);
    crdt_storage_key(cal_crdt_env(arena).sha256, tag, &entity, key + 32);
    cal_buffer_init(&row, max);
    int rc = cal_snapshot_get(view->snapshot, CAL_COLUMN_STATE, cal_slice_of(key, 64), &row);
    if (rc == 0) {
        uint8_t *copy = cal_arena_copy(arena, row.data, row.len);
        *ret_value = crdt_bytes_of(copy, row.len);
        if (!copy) rc = CAL_ENOMEM;
    }
    cal_buffer_deinit(&row);
    return rc == 0 ? 1 : rc == CAL_ENOTFOUND ? 0 : rc;
}

int sync_tree_view_index(sync_tree_view *view, const cal_hash *id, cal_arena *arena,
                         crdt_index *ret_index) {
    crdt_bytes row;
    crdt_memory memory = cal_crdt_memory(arena);
    int hit = read_row(view, CRDT_KEY_INDEX, id, CAL_STORE_VALUE_MAX, arena, &row);
    if (hit != 1) return hit;
    int rc = crdt_index_decode(&memory, row, ret_index);
    if (rc == CAL_EDECODE || (rc == 0 && memcmp(&ret_index->id, id, sizeof *id) != 0))
        rc = CAL_ECORRUPT;
    return rc == 0 ? 1 : rc;
}

static int by_id(const void *a, const void *b) { return memcmp(a, b, sizeof(cal_hash)); }

static int take_lists(sync_tree_view *view, const crdt_index *index) {
    size_t children = index->children.count, deleted = index->deleted_child_count;
    view->children = calloc(children + 1, sizeof *view->children);
    view->deleted = calloc(deleted + 1, sizeof *view->deleted);
    if (!view->children || !view->deleted) return CAL_ENOMEM;
    for (size_t i = 0; i < children; i++) {
        memcpy(&view->children[i].id, &index->children.items[i].id, 32);
        memcpy(&view->children[i].hash, &index->children.items[i].merkle_hash, 32);
    }
    if (deleted) memcpy(view->deleted, index->deleted_children, deleted * sizeof *view->deleted);
    qsort(view->children, children, sizeof *view->children, by_id);
    qsort(view->deleted, deleted, sizeof *view->deleted, by_id);
    view->child_count = children;
    view->deleted_count = deleted;
    view->live = !index->is_deleted;
    memcpy(&view->hash, &index->full_hash, 32);
    memcpy(&view->own, &index->own_hash, 32);
    return 0;
}

int sync_tree_view_load(sync_tree_view *view, const cal_hash *parent) {
    crdt_index index;
    cal_arena arena;
    if (view->loaded && memcmp(&view->parent, parent, sizeof *parent) == 0) return 0;
    unload(view);
    cal_arena_init(&arena, SYNC_TREE_ROW_ARENA_MAX);
    int hit = sync_tree_view_index(view, parent, &arena, &index);
    int rc = hit < 0 ? hit : hit == 1 ? take_lists(view, &index) : 0;
    cal_arena_deinit(&arena);
    view->parent = *parent;
    view->loaded = rc == 0;
    if (rc != 0) unload(view);
    return rc;
}

/* --- leaves --- */

typedef struct chain {
    cal_slice bytes;
    uint32_t count;
} chain;

/* Nearest first, the root last; none when they do not reach it. The hash beside each is that of its
 * own bytes: a node of the reference that does not have the ancestor takes what stands here for
 * just that, and a full hash would leave it with another root for good. */
static int write_chain(sync_tree_view *view, const cal_hash *parent, crdt_writer *ret_writer,
                       uint32_t *ret_count) {
    cal_hash at = *parent;
    int rc = 0;
    *ret_count = 0;
    while (rc == 0 && *ret_count < SYNC_ANCESTORS_MAX) {
        crdt_index index;
        cal_arena arena;
        cal_arena_init(&arena, SYNC_TREE_ROW_ARENA_MAX);
        int hit = sync_tree_view_index(view, &at, &arena, &index);
        bool up = hit == 1 && index.has_parent;
        if (hit == 1) {
            crdt_child child = {index.id, index.own_hash, index.metadata};
            crdt_write_child(ret_writer, &child);
            ++*ret_count;
        }
        if (up) memcpy(&at, &index.parent, sizeof at);
        cal_arena_deinit(&arena);
        rc = hit < 0 ? hit : ret_writer->error;
        if (!up) break;
    }
    if (memcmp(at.bytes, view->context.bytes, 32) != 0) *ret_count = 0;
    return rc;
}

static int find_chain(sync_tree_view *view, const cal_hash *parent, const chain **ret_chain) {
    chain *known = cal_map_get(&view->chains, key_of(parent));
    uint32_t count = 0;
    *ret_chain = known;
    if (known) return 0;
    crdt_memory memory = cal_crdt_memory(&view->chains_arena);
    crdt_writer writer = crdt_writer_of(&memory);
    crdt_write_u32(&writer, 0);
    int rc = write_chain(view, parent, &writer, &count);
    known = cal_arena_alloc(&view->chains_arena, sizeof *known);
    if (rc == 0 && !known) rc = CAL_ENOMEM;
    if (rc != 0) return rc;
    cal_write_u32le(writer.data, count);
    *known = (chain){cal_slice_of(writer.data, count ? writer.len : 4), count};
    *ret_chain = known;
    return cal_map_put(&view->chains, key_of(parent), known);
}

static int write_types(const crdt_index *index, cal_arena *arena, sync_leaf *leaf) {
    static const crdt_type opaque = {.kind = CRDT_TYPE_LWW_REGISTER,
                                     .names = {{(const uint8_t *)"Opaque", 6}}};
    const crdt_metadata *metadata = &index->metadata;
    crdt_memory memory = cal_crdt_memory(arena);
    crdt_writer writer = crdt_writer_of(&memory);
    crdt_bytes bytes;
    crdt_write_type(&writer, metadata->type ? metadata->type : &opaque);
    int rc = crdt_write_end(&writer, &bytes);
    if (rc != 0) return rc;
    leaf->type = cal_slice_of(bytes.data, bytes.len);
    crdt_storage_kind kind = metadata->storage.kind;
    leaf->has_authorization = kind != CRDT_PUBLIC && kind != CRDT_FROZEN;
    if (!leaf->has_authorization) return 0;
    writer = crdt_writer_of(&memory);
    crdt_write_storage_type(&writer, &metadata->storage);
    rc = crdt_write_end(&writer, &bytes);
    if (rc == 0) leaf->authorization = cal_slice_of(bytes.data, bytes.len);
    return rc;
}

static int make_leaf(sync_tree_view *view, const crdt_index *index, const cal_blob_id *code,
                     cal_arena *arena, sync_leaf *ret_leaf) {
    static const uint8_t none[4];
    crdt_bytes value;
    const chain *above = NULL;
    cal_hash id;
    memcpy(&id, &index->id, sizeof id);
    int hit = read_row(view, CRDT_KEY_ENTRY, &id, CAL_STORE_VALUE_MAX, arena, &value);
    if (hit != 1 || value.len > SYNC_LEAF_VALUE_MAX) return hit < 0 ? hit : 0;
    *ret_leaf = (sync_leaf){.id = id,
                            .value = cal_slice_of(value.data, value.len),
                            .updated_at = index->metadata.updated_at,
                            .created_at = index->metadata.created_at,
                            .has_parent = index->has_parent,
                            .ancestors = cal_slice_of(none, sizeof none),
                            .has_app_key = code != NULL};
    if (code) ret_leaf->app_key = *code;
    if (index->has_parent) {
        memcpy(&ret_leaf->parent, &index->parent, 32);
        int rc = find_chain(view, &ret_leaf->parent, &above);
        if (rc != 0) return rc;
        ret_leaf->ancestors = above->bytes;
        ret_leaf->ancestor_count = above->count;
    }
    int rc = write_types(index, arena, ret_leaf);
    return rc == 0 ? 1 : rc;
}

/* A collection's record may be large, and little of it is wanted. */
int sync_tree_view_leaf(sync_tree_view *view, const cal_hash *id, const cal_blob_id *code,
                        cal_arena *arena, sync_leaf *ret_leaf) {
    crdt_index index;
    cal_arena scratch;
    cal_arena_init(&scratch, SYNC_TREE_ROW_ARENA_MAX);
    int hit = sync_tree_view_index(view, id, &scratch, &index);
    if (hit == 1) hit = index.is_deleted ? 0 : make_leaf(view, &index, code, arena, ret_leaf);
    cal_arena_deinit(&scratch);
    return hit;
}

static int make_deletion(const crdt_index *index, cal_arena *arena, sync_deletion *ret_deletion) {
    crdt_bytes bytes;
    crdt_memory memory = cal_crdt_memory(arena);
    crdt_writer writer = crdt_writer_of(&memory);
    crdt_write_metadata(&writer, &index->metadata);
    int rc = crdt_write_end(&writer, &bytes);
    if (rc != 0) return rc;
    memcpy(&ret_deletion->id, &index->id, 32);
    ret_deletion->deleted_at = index->deleted_at;
    ret_deletion->metadata = cal_slice_of(bytes.data, bytes.len);
    return 1;
}

int sync_tree_view_deletion(sync_tree_view *view, const cal_hash *id, cal_arena *arena,
                            sync_deletion *ret_deletion) {
    crdt_index index;
    cal_arena scratch;
    cal_arena_init(&scratch, SYNC_TREE_ROW_ARENA_MAX);
    int hit = sync_tree_view_index(view, id, &scratch, &index);
    if (hit == 1) hit = index.is_deleted ? make_deletion(&index, arena, ret_deletion) : 0;
    cal_arena_deinit(&scratch);
    return hit;
}

/* --- ranges --- */

static bool bits_equal(const cal_hash *a, const cal_hash *b, unsigned bits) {
    unsigned bytes = bits / 8, rest = bits % 8;
    if (memcmp(a, b, bytes) != 0) return false;
    return rest == 0 || (a->bytes[bytes] ^ b->bytes[bytes]) >> (8 - rest) == 0;
}

void sync_range_of(const cal_hash *id, unsigned bits, cal_hash *ret_range) {
    unsigned bytes = bits / 8, rest = bits % 8;
    *ret_range = (cal_hash){0};
    memcpy(ret_range, id, bytes);
    if (rest) ret_range->bytes[bytes] = (uint8_t)(id->bytes[bytes] & (0xff00u >> rest));
    ret_range->bytes[31] = (uint8_t)bits;
}

bool sync_range_valid(const cal_hash *range) {
    cal_hash same;
    if (sync_range_bits(range) > SYNC_TREE_BITS_MAX) return false;
    sync_range_of(range, sync_range_bits(range), &same);
    return memcmp(&same, range, sizeof same) == 0;
}

bool sync_range_has(const cal_hash *range, const cal_hash *id) {
    return bits_equal(range, id, sync_range_bits(range));
}

bool sync_range_within(const cal_hash *inner, const cal_hash *outer) {
    return sync_range_bits(inner) > sync_range_bits(outer) && sync_range_has(outer, inner);
}

/* Items begin with their ids and are ordered by them. */
static size_t span(const void *items, size_t count, size_t size, const cal_hash *range,
                   size_t *ret_first) {
    const uint8_t *bytes = items;
    cal_hash first = *range;
    size_t low = 0, high = count;
    first.bytes[31] = 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (memcmp(bytes + middle * size, &first, sizeof first) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_first = low;
    for (high = count; low < high;) { /* after the last that it has */
        size_t middle = low + (high - low) / 2;
        if (sync_range_has(range, (const cal_hash *)(const void *)(bytes + middle * size)))
            low = middle + 1;
        else
            high = middle;
    }
    return low - *ret_first;
}

size_t sync_tree_view_span(const sync_tree_view *view, const cal_hash *range, size_t *ret_first) {
    return span(view->children, view->child_count, sizeof *view->children, range, ret_first);
}

size_t sync_tree_view_deleted_span(const sync_tree_view *view, const cal_hash *range,
                                   size_t *ret_first) {
    return span(view->deleted, view->deleted_count, sizeof *view->deleted, range, ret_first);
}

void sync_tree_view_range_hash(const sync_tree_view *view, const cal_hash *range,
                               cal_hash *ret_hash) {
    size_t first, count = sync_tree_view_span(view, range, &first);
    cal_slice all = cal_slice_of(view->children + first, count * sizeof *view->children);
    cal_sha256_parts(&all, 1, ret_hash->bytes);
}

/* --- what crdt calls them --- */

static bool is_opaque(const crdt_type *type) {
    static const char name[] = "Opaque";
    return type->kind == CRDT_TYPE_LWW_REGISTER && type->names[0].len == sizeof name - 1 &&
           memcmp(type->names[0].data, name, sizeof name - 1) == 0;
}

static crdt_bytes bytes_of(cal_slice slice) { return crdt_bytes_of(slice.data, slice.len); }

static int open_types(const sync_leaf *leaf, const crdt_memory *memory, crdt_leaf *ret_leaf) {
    crdt_type *type = crdt_alloc_array(memory, 1, sizeof *type);
    crdt_storage_type *storage = crdt_alloc_array(memory, 1, sizeof *storage);
    if (!type || !storage) return CAL_ENOMEM;
    int rc = crdt_type_decode(memory, bytes_of(leaf->type), type);
    if (rc == 0 && !is_opaque(type)) ret_leaf->type = type;
    if (rc != 0 || !leaf->has_authorization) return rc;
    ret_leaf->authorization = storage;
    return crdt_storage_type_decode(memory, bytes_of(leaf->authorization), storage);
}

int sync_leaf_open(const sync_leaf *leaf, cal_arena *arena, crdt_leaf *ret_leaf) {
    crdt_memory memory = cal_crdt_memory(arena);
    *ret_leaf = (crdt_leaf){.value = bytes_of(leaf->value),
                            .updated_at = leaf->updated_at,
                            .created_at = leaf->created_at,
                            .has_parent = leaf->has_parent};
    memcpy(&ret_leaf->id, &leaf->id, 32);
    memcpy(&ret_leaf->parent, &leaf->parent, 32);
    int rc = open_types(leaf, &memory, ret_leaf);
    if (rc != 0) return rc;
    crdt_reader reader = crdt_reader_of(bytes_of(leaf->ancestors), &memory);
    crdt_read_children(&reader, &ret_leaf->ancestors);
    return crdt_read_end(&reader);
}

int sync_deletion_open(const sync_deletion *deletion, cal_arena *arena,
                       crdt_metadata *ret_metadata) {
    crdt_memory memory = cal_crdt_memory(arena);
    return crdt_metadata_decode(&memory, bytes_of(deletion->metadata), ret_metadata);
}
