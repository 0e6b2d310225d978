/* Answers: MessagePayload (network-sync.md 3). */
#include <assert.h>

#include "sync/field.h"

typedef struct {
    const char *name;
    sync_field fields[7]; /* ends with FIELD_END */
} answer_variant;

#define A(type, member, max) FIELD(sync_answer, type, member, max)
#define A_OPTION(type, member, max, present) FIELD_OPTION(sync_answer, type, member, max, present)

static const answer_variant variants[SYNC_ANSWER_COUNT] = {
    [SYNC_ANSWER_BLOB] = {"BlobShare", {A(FIELD_BYTES, bytes, SYNC_BLOB_CHUNK_MAX)}},
    [SYNC_ANSWER_DELTA] = {"DeltaResponse",
                           {A(FIELD_BYTES, bytes, SYNC_DELTA_MAX), A(FIELD_ID, author, 0),
                            A_OPTION(FIELD_BYTES, position, SYNC_POSITION_MAX, has_position),
                            A_OPTION(FIELD_SIGNATURE, signature, 0, has_signature)}},
    [SYNC_ANSWER_DELTA_NOT_FOUND] = {"DeltaNotFound", {{FIELD_END, 0, 0, false, 0}}},
    [SYNC_ANSWER_HEADS] = {"DagHeadsResponse",
                           {A(FIELD_IDS, heads, SYNC_HEADS_MAX), A(FIELD_ID, root, 0),
                            A_OPTION(FIELD_ID, scope_root, 0, has_scope_root)}},
    [SYNC_ANSWER_BOUNDARY] = {"SnapshotBoundaryResponse",
                              {A(FIELD_U64, boundary_ns, 0), A(FIELD_ID, root, 0),
                               A(FIELD_IDS, heads, SYNC_HEADS_MAX)}},
    [SYNC_ANSWER_PAGE] = {"SnapshotPage",
                          {A(FIELD_BYTES, bytes, SYNC_PAGE_PAYLOAD_MAX),
                           A(FIELD_U32, uncompressed_len, SYNC_PAGE_MAX),
                           A_OPTION(FIELD_BYTES, cursor, SYNC_CURSOR_MAX, has_cursor),
                           A(FIELD_U64, page_count, SYNC_PAGE_COUNT_MAX),
                           A(FIELD_U64, sent_count, SYNC_PAGE_COUNT_MAX),
                           A(FIELD_U64, total_records, 0)}},
    [SYNC_ANSWER_SNAPSHOT_ERROR] = {"SnapshotError", {A(FIELD_SNAPSHOT_ERROR, error, 0)}},
    [SYNC_ANSWER_TREE] = {"TreeNodeResponse",
                          {A(FIELD_TREE_NODES, nodes, SYNC_TREE_NODES_MAX),
                           A(FIELD_BOOL, not_found, 0)}},
    [SYNC_ANSWER_LEVEL] = {"LevelWiseResponse",
                           {A(FIELD_U32, level, 0),
                            A(FIELD_LEVEL_NODES, level_nodes, SYNC_LEVEL_NODES_MAX),
                            A(FIELD_BOOL, more_levels, 0),
                            A(FIELD_DELETIONS, deleted, SYNC_DELETIONS_MAX)}},
    [SYNC_ANSWER_PUSHED] = {"EntityPushAck", {A(FIELD_U32, applied, 0)}},
    [SYNC_ANSWER_PUSHED_DELETIONS] = {"EntityDeletePushAck", {A(FIELD_U32, applied, 0)}},
    [SYNC_ANSWER_BACKFILL] = {"NamespaceBackfillResponse", {A(FIELD_OPS, ops, SYNC_OPS_MAX)}},
    [SYNC_ANSWER_JOIN] = {"NamespaceJoinResponse",
                          {A(FIELD_BYTES, bytes, SYNC_ENVELOPE_MAX),
                           A(FIELD_IDS, contexts, SYNC_CONTEXTS_MAX), A(FIELD_ID, application, 0),
                           A(FIELD_PARTS, op_bytes, SYNC_OPS_MAX),
                           A(FIELD_U32, default_capabilities, 0)}},
    [SYNC_ANSWER_JOIN_REJECTED] = {"NamespaceJoinRejected",
                                   {A(FIELD_TEXT, bytes, SYNC_REASON_MAX)}},
    [SYNC_ANSWER_JOIN_OPEN] = {"OpenSubgroupJoinResponse",
                               {A(FIELD_BYTES, bytes, SYNC_ENVELOPE_MAX)}},
    [SYNC_ANSWER_JOIN_OPEN_REJECTED] = {"OpenSubgroupJoinRejected",
                                        {A(FIELD_TEXT, bytes, SYNC_REASON_MAX)}},
    [SYNC_ANSWER_KEY] = {"GroupKeyResponse",
                         {A(FIELD_BYTES, bytes, SYNC_ENVELOPE_MAX), A(FIELD_ID, author, 0)}},
};

const char *sync_answer_name(uint8_t kind) {
    return kind < SYNC_ANSWER_COUNT ? variants[kind].name : "?";
}

void sync_answer_read(cal_borsh *in, cal_arena *arena, sync_answer *answer) {
    answer->kind = cal_borsh_tag(in, SYNC_ANSWER_COUNT);
    if (!in->error) sync_fields_read(variants[answer->kind].fields, in, arena, answer);
}

int sync_answer_write(const sync_answer *answer, cal_buffer *out) {
    assert(answer->kind < SYNC_ANSWER_COUNT);
    cal_buffer_append_u8(out, answer->kind);
    return sync_fields_write(variants[answer->kind].fields, answer, out);
}
