/* Nodes of a context's tree, as TreeNodeResponse and LevelWiseResponse carry them (network-sync.md
 * 3). Whether a node makes sense (network-sync.md 3: a leaf or an inner node) is for whoever
 * compares trees: one that does not is skipped, and costs no other node of the answer. */
#include "sync/field.h"

#define TREE(type, member, max) FIELD(sync_tree_node, type, member, max)
#define LEVEL(type, member, max) FIELD(sync_level_node, type, member, max)

static const sync_field tree_fields[] = {
    TREE(FIELD_ID, id, 0),
    TREE(FIELD_ID, hash, 0),
    TREE(FIELD_IDS, children, SYNC_TREE_CHILDREN_MAX),
    FIELD_OPTION(sync_tree_node, FIELD_LEAF, leaf, 0, has_leaf),
    TREE(FIELD_DELETIONS, deleted, SYNC_DELETIONS_MAX),
    {FIELD_END, 0, 0, false, 0},
};

static const sync_field level_fields[] = {
    LEVEL(FIELD_ID, id, 0),
    LEVEL(FIELD_ID, hash, 0),
    FIELD_OPTION(sync_level_node, FIELD_ID, parent, 0, has_parent),
    FIELD_OPTION(sync_level_node, FIELD_LEAF, leaf, 0, has_leaf),
    {FIELD_END, 0, 0, false, 0},
};

enum { TREE_NODE_SIZE_MIN = 32 + 32 + 4 + 1 + 4, LEVEL_NODE_SIZE_MIN = 32 + 32 + 1 + 1 };

void sync_tree_nodes_read(cal_borsh *in, cal_arena *arena, uint32_t max, sync_tree_nodes *nodes) {
    uint32_t count = cal_borsh_count(in, max, TREE_NODE_SIZE_MIN);
    sync_tree_node *items = sync_list_alloc(in, arena, count, sizeof *items);
    if (!items) return;
    for (uint32_t i = 0; i < count && !in->error; i++)
        sync_fields_read(tree_fields, in, arena, &items[i]);
    *nodes = (sync_tree_nodes){items, count};
}

void sync_tree_nodes_write(const sync_tree_nodes *nodes, uint32_t max, cal_buffer *out) {
    if (!sync_within(nodes->count, max, out)) return;
    cal_buffer_append_u32le(out, nodes->count);
    for (uint32_t i = 0; i < nodes->count; i++)
        sync_fields_write(tree_fields, &nodes->items[i], out);
}

void sync_level_nodes_read(cal_borsh *in, cal_arena *arena, uint32_t max, sync_level_nodes *nodes) {
    uint32_t count = cal_borsh_count(in, max, LEVEL_NODE_SIZE_MIN);
    sync_level_node *items = sync_list_alloc(in, arena, count, sizeof *items);
    if (!items) return;
    for (uint32_t i = 0; i < count && !in->error; i++)
        sync_fields_read(level_fields, in, arena, &items[i]);
    *nodes = (sync_level_nodes){items, count};
}

void sync_level_nodes_write(const sync_level_nodes *nodes, uint32_t max, cal_buffer *out) {
    if (!sync_within(nodes->count, max, out)) return;
    cal_buffer_append_u32le(out, nodes->count);
    for (uint32_t i = 0; i < nodes->count; i++)
        sync_fields_write(level_fields, &nodes->items[i], out);
}
