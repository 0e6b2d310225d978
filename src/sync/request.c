/* Requests: InitPayload (network-sync.md 3). */
#include <assert.h>

#include "sync/field.h"

typedef struct {
    const char *name;
    bool proof;           /* needs an InitProof */
    sync_field fields[7]; /* ends with FIELD_END */
} request_variant;

#define R(type, member, max) FIELD(sync_request, type, member, max)
#define R_OPTION(type, member, max, present) FIELD_OPTION(sync_request, type, member, max, present)

static const request_variant variants[SYNC_REQUEST_COUNT] = {
    [SYNC_BLOB_SHARE] = {"BlobShare", false, {R(FIELD_ID, blob, 0)}},
    [SYNC_DELTA] = {"DeltaRequest", true, {R(FIELD_ID, context, 0), R(FIELD_ID, id, 0)}},
    [SYNC_HEADS] = {"DagHeadsRequest", true, {R(FIELD_ID, context, 0)}},
    [SYNC_SNAPSHOT_BOUNDARY_OF] = {"SnapshotBoundaryRequest",
                                   true,
                                   {R(FIELD_ID, context, 0),
                                    R_OPTION(FIELD_U64, cutoff, 0, has_cutoff)}},
    [SYNC_SNAPSHOT_STREAM] = {"SnapshotStreamRequest",
                              true,
                              {R(FIELD_ID, context, 0), R(FIELD_ID, id, 0),
                               R(FIELD_U16, page_limit, 0), R(FIELD_U32, byte_limit, 0),
                               R_OPTION(FIELD_BYTES, cursor, SYNC_CURSOR_MAX, has_cursor)}},
    [SYNC_TREE_NODE] = {"TreeNodeRequest",
                        true,
                        {R(FIELD_ID, context, 0), R(FIELD_ID, id, 0),
                         R_OPTION(FIELD_U8, depth, 0, has_depth)}},
    [SYNC_LEVEL] = {"LevelWiseRequest",
                    true,
                    {R(FIELD_ID, context, 0), R(FIELD_U32, level, 0),
                     R_OPTION(FIELD_IDS, ids, SYNC_TREE_NODES_MAX, has_ids)}},
    [SYNC_PUSH] = {"EntityPush",
                   false,
                   {R(FIELD_ID, context, 0), R(FIELD_LEAVES, leaves, SYNC_PUSH_MAX)}},
    [SYNC_PUSH_DELETIONS] = {"EntityDeletePush",
                             false,
                             {R(FIELD_ID, context, 0),
                              R(FIELD_DELETIONS, deletions, SYNC_PUSH_MAX)}},
    [SYNC_BACKFILL] = {"NamespaceBackfillRequest",
                       false,
                       {R(FIELD_ID, namespace_id, 0), R(FIELD_IDS, ids, SYNC_BACKFILL_IDS_MAX)}},
    [SYNC_JOIN] = {"NamespaceJoinRequest",
                   true,
                   {R(FIELD_ID, namespace_id, 0), R(FIELD_BYTES, invitation, SYNC_INVITATION_MAX),
                    R(FIELD_ID, key, 0), R(FIELD_BYTES, credential, SYNC_CREDENTIAL_MAX)}},
    [SYNC_JOIN_OPEN] = {"OpenSubgroupJoinRequest",
                        true,
                        {R(FIELD_ID, namespace_id, 0), R(FIELD_ID, group, 0), R(FIELD_ID, key, 0)}},
    [SYNC_KEY] = {"GroupKeyRequest",
                  false,
                  {R(FIELD_ID, namespace_id, 0), R(FIELD_ID, group, 0), R(FIELD_ID, key, 0),
                   R_OPTION(FIELD_ID, device, 0, has_device),
                   R_OPTION(FIELD_ID, key_id, 0, has_key_id)}},
};

const char *sync_request_name(uint8_t kind) {
    return kind < SYNC_REQUEST_COUNT ? variants[kind].name : "?";
}

bool sync_request_needs_proof(uint8_t kind) {
    return kind < SYNC_REQUEST_COUNT && variants[kind].proof;
}

void sync_request_read(cal_borsh *in, cal_arena *arena, sync_request *request) {
    request->kind = cal_borsh_tag(in, SYNC_REQUEST_COUNT);
    if (!in->error) sync_fields_read(variants[request->kind].fields, in, arena, request);
}

int sync_request_write(const sync_request *request, cal_buffer *out) {
    assert(request->kind < SYNC_REQUEST_COUNT);
    cal_buffer_append_u8(out, request->kind);
    return sync_fields_write(variants[request->kind].fields, request, out);
}
