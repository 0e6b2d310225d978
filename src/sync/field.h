/* Inside sync/: messages as rows of fields. Each kind of field is read and written in field.c,
 * leaf.c and tree.c, and only there; one walk over a row decodes a variant and another encodes it,
 * so that the two cannot drift apart. The bounds stand in the rows and hold both ways: what nobody
 * would take is not sent either. */
#ifndef CAL_SYNC_FIELD_H
#define CAL_SYNC_FIELD_H

#include "codec/borsh.h"
#include "sync/message.h"

typedef enum sync_field_type {
    FIELD_END,
    FIELD_ID, /* any 32 bytes */
    FIELD_NONCE,
    FIELD_SIGNATURE,
    FIELD_BOOL,
    FIELD_U8,
    FIELD_U16,
    FIELD_U32,
    FIELD_U64,
    FIELD_BYTES,
    FIELD_TEXT,
    FIELD_IDS,
    FIELD_PARTS,
    FIELD_OPS,
    FIELD_LEAF,
    FIELD_LEAVES,
    FIELD_DELETIONS,
    FIELD_TREE_NODES,
    FIELD_LEVEL_NODES,
    FIELD_SNAPSHOT_ERROR,
} sync_field_type;

typedef struct sync_field {
    sync_field_type type;
    size_t offset;
    uint32_t max; /* items, bytes, or the value of an integer; 0: whatever fits the type */
    bool optional;
    size_t present; /* optional: offset of the bool that says whether it is there */
} sync_field;

/* The members of an object: FIELD(sync_request, FIELD_U32, level, 0). */
#define FIELD(object, type, member, max)                                                           \
    { type, offsetof(object, member), max, false, 0 }
#define FIELD_OPTION(object, type, member, max, present)                                           \
    { type, offsetof(object, member), max, true, offsetof(object, present) }

enum {
    SYNC_PART_MAX = 8 * 1024 * 1024, /* an operation: nothing longer fits a frame */
    SYNC_MEMORY_MAX = 64 * 1024 * 1024,
};

void sync_fields_read(const sync_field *fields, cal_borsh *in, cal_arena *arena, void *object);
int sync_fields_write(const sync_field *fields, const void *object, cal_buffer *out);

/* Room for count items of a list, or NULL with the cursor failed (for count 0: nothing is needed).
 */
void *sync_list_alloc(cal_borsh *in, cal_arena *arena, uint32_t count, size_t size);
/* count is within max (0: any); otherwise the buffer fails. */
bool sync_within(size_t count, uint32_t max, cal_buffer *out);

/* leaf.c: what stays encoded is read through crdt, so that it decodes for whoever reads it next. */
enum { SYNC_LEAF_SIZE_MIN = 32 + 4 + 1 + 3 * 8 + 32 + 1 + 4 + 1 + 1, SYNC_DELETION_SIZE_MIN = 60 };
void sync_leaf_read(cal_borsh *in, sync_leaf *leaf);
int sync_leaf_write(const sync_leaf *leaf, cal_buffer *out);
void sync_deletion_read(cal_borsh *in, sync_deletion *deletion);
int sync_deletion_write(const sync_deletion *deletion, cal_buffer *out);
void sync_leaves_read(cal_borsh *in, cal_arena *arena, uint32_t max, sync_leaves *leaves);
void sync_leaves_write(const sync_leaves *leaves, uint32_t max, cal_buffer *out);
void sync_deletions_read(cal_borsh *in, cal_arena *arena, uint32_t max, sync_deletions *deletions);
void sync_deletions_write(const sync_deletions *deletions, uint32_t max, cal_buffer *out);

/* tree.c */
void sync_tree_nodes_read(cal_borsh *in, cal_arena *arena, uint32_t max, sync_tree_nodes *nodes);
void sync_tree_nodes_write(const sync_tree_nodes *nodes, uint32_t max, cal_buffer *out);
void sync_level_nodes_read(cal_borsh *in, cal_arena *arena, uint32_t max, sync_level_nodes *nodes);
void sync_level_nodes_write(const sync_level_nodes *nodes, uint32_t max, cal_buffer *out);

/* snapshot_error.c */
void sync_snapshot_error_read(cal_borsh *in, cal_arena *arena, sync_snapshot_error *error);
int sync_snapshot_error_write(const sync_snapshot_error *error, cal_buffer *out);

/* request.c, answer.c: a variant with its index. */
void sync_request_read(cal_borsh *in, cal_arena *arena, sync_request *request);
int sync_request_write(const sync_request *request, cal_buffer *out);
void sync_answer_read(cal_borsh *in, cal_arena *arena, sync_answer *answer);
int sync_answer_write(const sync_answer *answer, cal_buffer *out);

#endif
