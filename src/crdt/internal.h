/* What the files of crdt/ share behind apply.h: the records of one operation, cached and changed in
 * memory. */
#ifndef CAL_CRDT_INTERNAL_H
#define CAL_CRDT_INTERNAL_H

#include "crdt/apply.h"

enum { CRDT_DRIFT_NS_SECONDS = 5 };

typedef enum entry_state { ENTRY_UNREAD, ENTRY_ABSENT, ENTRY_PRESENT } entry_state;

/* One entity: its Index record and its Entry row. The record's child and tombstone lists point into
 * arrays of the node. */
typedef struct crdt_node {
    crdt_index index; /* meaningful while exists */
    bool index_read, exists;
    bool row_dirty;   /* the record must be written */
    bool hash_dirty;  /* the full hash must be recomputed and told to the parent */
    bool entry_dirty; /* the Entry row must be written or removed */
    entry_state entry_state;
    crdt_bytes entry;
    crdt_child *children;
    crdt_id *deleted;
    uint32_t child_capacity, deleted_capacity;
    uint32_t depth, visit;          /* scratch of flush and of subtree walks */
    struct crdt_node *next, *chain; /* all nodes, newest first; those of one depth */
} crdt_node;

typedef struct crdt_record {
    crdt_action action; /* ancestors filled in by crdt_store_artifact */
    crdt_node *node;
    struct crdt_record *next;
} crdt_record;

struct crdt_store {
    crdt_env env;
    crdt_rows rows;
    crdt_id root;
    crdt_node *nodes;
    crdt_node **table; /* open addressing by id */
    size_t table_size, node_count;
    uint32_t visit;
    crdt_record *first, *last; /* actions of puts and deletes */
    uint32_t record_count;
};

/* The node of an id, made when new; peek leaves its record unread. 0 or negative. */
int crdt_node_peek(crdt_store *store, const crdt_id *id, crdt_node **ret_node);
crdt_node *crdt_node_find(const crdt_store *store, const crdt_id *id); /* NULL: not met yet */
int crdt_row_read(crdt_store *store, uint8_t tag, const crdt_id *id, crdt_bytes *ret_value);
int crdt_node_get(crdt_store *store, const crdt_id *id, crdt_node **ret_node);
int crdt_node_entry(crdt_store *store, crdt_node *node); /* makes entry_state known */
void crdt_node_set_entry(crdt_node *node, crdt_bytes entry);
void crdt_node_remove_entry(crdt_node *node);
void crdt_node_create(crdt_node *node, const crdt_metadata *metadata);
void crdt_node_touch(crdt_node *node); /* record changed and its hash may have */
int crdt_node_link(crdt_store *store, const crdt_id *parent, const crdt_id *child,
                   const crdt_hash *own_hash, const crdt_metadata *metadata);
int crdt_node_unlink(crdt_store *store, crdt_node *parent, const crdt_id *child);
void crdt_node_mark_deleted(crdt_node *node, uint64_t deleted_at);
int crdt_node_tombstone_below(crdt_store *store, crdt_node *node, uint64_t deleted_at);

/* Stores a value over whatever is there (runtime-abi.md 13). *ret_changed false: an older value,
 * ignored. */
int crdt_save(crdt_store *store, const crdt_id *id, crdt_bytes data, const crdt_metadata *metadata,
              bool *ret_changed, crdt_refusal *ret_refusal);

bool crdt_is_state_root(const crdt_store *store, const crdt_id *id);

/* The rotation log of a Shared anchor (runtime-abi.md 9). */
int crdt_rotation_append(crdt_store *store, const crdt_action *action, const uint8_t payload[32],
                         const crdt_apply_context *context);
void crdt_rotation_log_id(const crdt_store *store, const crdt_id *anchor, crdt_id *ret_id);
bool crdt_rotation_reads(const crdt_memory *memory, crdt_bytes entry); /* as one of a log */
/* The anchor's writers as of a time: from its log, else from its record, else none. */
int crdt_rotation_writers(crdt_store *store, const crdt_id *anchor, uint64_t at,
                          crdt_grants *ret_writers);

#endif
