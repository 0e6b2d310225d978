/* What the store keeps of a context besides its rows: the record (column CONTEXT, key: context id)
 * and the signed deltas (column DELTA, key: context id || delta id). Pure. Layouts are ours
 * (architecture.md, Formats); what stands inside a delta record is the wire's. */
#ifndef CAL_CONTEXT_RECORD_H
#define CAL_CONTEXT_RECORD_H

#include "base/arena.h"
#include "base/buffer.h"
#include "calimero/identity.h"
#include "crdt/base.h"
#include "crdt/hlc.h"
#include "dag/dag.h"
#include "gov/delta.h"

typedef struct cal_context_record {
    cal_application_id application;
    cal_group_id group;
    const char *service; /* NULL: none */
    cal_hash root;       /* zero: not initialised */
    cal_hash *heads;
    size_t head_count;
    uint64_t created_at_ms;
    uint64_t latest; /* no delta of the context has a later time (hlc); 0: not recorded, as in rows
                        written before it was: the heads' own times must do */
} cal_context_record;

enum { CAL_CONTEXT_HEADS_MAX = DAG_HEADS_MAX };

/* Both encoders append, and refuse with CAL_ELIMIT what their decoders would refuse. */
int cal_context_record_encode(const cal_context_record *record, cal_buffer *ret_bytes);
int cal_context_record_decode(cal_slice bytes, cal_arena *arena,
                              cal_context_record *ret_record); /* CAL_ECORRUPT, CAL_ENOMEM */

/* A delta with all that a peer will be served of it (network-sync.md 6.1, 6.5). */
typedef struct cal_delta_record {
    cal_hash id;
    const uint8_t (*parents)[32];
    size_t parent_count;
    cal_slice artifact; /* borsh StorageDelta::Actions, signed */
    crdt_hlc hlc;
    bool has_author; /* false: a genesis delta; then no position and no signature either */
    cal_public_key author;
    bool has_position;
    const uint8_t (*position)[32]; /* governance heads it was authored at */
    size_t position_count;
    uint8_t signature[64]; /* of the envelope */
    cal_hash root;         /* the author's root after it */
    cal_slice events;      /* JSON as on the wire; len 0: none */
    bool has_app_key;
    cal_blob_id app_key;
} cal_delta_record;

enum { CAL_DELTA_PARENTS_MAX = DAG_PARENTS_MAX, CAL_DELTA_POSITION_MAX = GOV_POSITION_HEADS_MAX };

int cal_delta_record_encode(const cal_delta_record *record, cal_buffer *ret_bytes);
int cal_delta_record_decode(cal_slice bytes,
                            cal_delta_record *ret_record); /* borrows; CAL_ECORRUPT */

/* A head that came with a state as a whole: it stands for all below it, and has no actions that
 * could be served (network-sync.md 8.4). */
void cal_delta_checkpoint(const cal_hash *head, uint64_t time, cal_delta_record *ret_record);
bool cal_delta_is_checkpoint(const cal_delta_record *record);

/* What the author signs besides the ids, in the form that gov takes. */
void cal_delta_envelope(const cal_delta_record *record, gov_position *ret_position,
                        gov_hlc *ret_hlc);

/* Memory of an arena, and SHA-256, for the functions of crdt. The arena outlives what they give. */
crdt_memory cal_crdt_memory(cal_arena *arena);
crdt_env cal_crdt_env(cal_arena *arena);

#endif
