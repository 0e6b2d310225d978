/* What is said on /calimero-c/sync/1, see bulk.h. The format is ours: borsh, as everything around
 * it. A request: kind, its fields. An answer: kind, what its kind holds, then how it goes on. */
#include <assert.h>

#include "net/messages.h"
#include "sync/bulk.h"
#include "sync/field.h"

enum { DELTA_SIZE_MIN = 4 + 32 + 1 + 1 + 32 + 4 + 1, COUNT_AT = 1 };

#define R(type, member, max) FIELD(sync_bulk_request, type, member, max)
enum { MARKS_MAX = SYNC_BULK_IDS_MAX * CAL_PAST_MARK_SIZE };
static const sync_field request_fields[SYNC_BULK_KIND_COUNT][8] = {
    [SYNC_BULK_DELTAS] = {R(FIELD_ID, context, 0), R(FIELD_ID, party, 0),
                          R(FIELD_IDS, ids, SYNC_BULK_IDS_MAX),
                          R(FIELD_IDS, known, SYNC_BULK_IDS_MAX), R(FIELD_BYTES, marks, MARKS_MAX),
                          R(FIELD_U32, max, 0), R(FIELD_SIGNATURE, proof, 0)},
    [SYNC_BULK_COVERED] = {R(FIELD_ID, context, 0), R(FIELD_ID, party, 0), R(FIELD_ID, root, 0),
                           R(FIELD_IDS, ids, SYNC_BULK_IDS_MAX),
                           R(FIELD_IDS, known, SYNC_BULK_IDS_MAX), R(FIELD_BYTES, marks, MARKS_MAX),
                           R(FIELD_SIGNATURE, proof, 0)},
    [SYNC_BULK_HISTORY] = {R(FIELD_ID, namespace_id, 0), R(FIELD_IDS, ids, SYNC_BULK_IDS_MAX)},
};

#define D(type, member, max) FIELD(sync_bulk_delta, type, member, max)
#define D_OPTION(type, member, max, present)                                                       \
    FIELD_OPTION(sync_bulk_delta, type, member, max, present)
static const sync_field delta_fields[] = {
    D(FIELD_BYTES, bytes, SYNC_DELTA_MAX),
    D(FIELD_ID, author, 0),
    D_OPTION(FIELD_BYTES, position, SYNC_POSITION_MAX, has_position),
    D_OPTION(FIELD_SIGNATURE, signature, 0, has_signature),
    D(FIELD_ID, root, 0),
    D(FIELD_BYTES, events, SYNC_BULK_EVENTS_MAX),
    D_OPTION(FIELD_ID, app_key, 0, has_app_key),
    {FIELD_END, 0, 0, false, 0},
};

int sync_bulk_request_decode(cal_slice bytes, cal_arena *arena, sync_bulk_request *ret_request) {
    if (bytes.len > NET_MESSAGE_MAX) return CAL_ELIMIT;
    cal_borsh in = cal_borsh_read(bytes);
    sync_bulk_request request = {.kind = cal_borsh_tag(&in, SYNC_BULK_KIND_COUNT)};
    if (!in.error) sync_fields_read(request_fields[request.kind], &in, arena, &request);
    bool covered = request.kind == SYNC_BULK_COVERED && request.marks.len > 0;
    if (covered && request.marks.len != (size_t)request.ids.count * CAL_PAST_MARK_SIZE)
        cal_borsh_fail(&in, CAL_EDECODE);
    if (cal_borsh_end(&in)) return in.error;
    *ret_request = request;
    return 0;
}

int sync_bulk_request_write(const sync_bulk_request *request, cal_buffer *out) {
    assert(request->kind < SYNC_BULK_KIND_COUNT);
    cal_buffer_append_u8(out, request->kind);
    return sync_fields_write(request_fields[request->kind], request, out);
}

/* --- frames --- */

void sync_bulk_frame_begin(uint8_t kind, cal_buffer *out) {
    cal_buffer_append_u8(out, kind);
    cal_buffer_append_u32le(out, 0); /* until it is known */
}

int sync_bulk_frame_delta(const sync_bulk_delta *delta, cal_buffer *out) {
    return sync_fields_write(delta_fields, delta, out);
}

int sync_bulk_frame_op(const sync_op *op, cal_buffer *out) {
    sync_within(op->bytes.len, SYNC_BULK_OP_MAX, out);
    cal_buffer_append(out, op->id.bytes, sizeof op->id.bytes);
    return cal_borsh_put_bytes(out, op->bytes);
}

int sync_bulk_frame_end(uint32_t count, uint8_t end, cal_buffer *out) {
    sync_within(count, SYNC_BULK_ITEMS_MAX, out);
    cal_buffer_append_u8(out, end);
    if (!out->error) cal_write_u32le(out->data + COUNT_AT, count);
    return out->error;
}

int sync_bulk_answer_write(const sync_bulk_answer *answer, cal_buffer *out) {
    uint32_t count = 0;
    if (answer->kind == SYNC_BULK_COVERED) {
        sync_within(answer->covered.len, SYNC_BULK_IDS_MAX, out);
        cal_buffer_append_u8(out, answer->kind);
        cal_borsh_put_bytes(out, answer->covered);
        return cal_buffer_append_u8(out, answer->end);
    }
    sync_bulk_frame_begin(answer->kind, out);
    if (answer->kind == SYNC_BULK_DELTAS)
        for (; count < answer->delta_count; count++)
            sync_bulk_frame_delta(&answer->deltas[count], out);
    else
        for (; count < answer->ops.count; count++)
            sync_bulk_frame_op(&answer->ops.items[count], out);
    return sync_bulk_frame_end(count, answer->end, out);
}

static void read_deltas(cal_borsh *in, cal_arena *arena, sync_bulk_answer *answer) {
    uint32_t count = cal_borsh_count(in, SYNC_BULK_ITEMS_MAX, DELTA_SIZE_MIN);
    sync_bulk_delta *deltas = sync_list_alloc(in, arena, count, sizeof *deltas);
    if (!deltas) return;
    for (uint32_t i = 0; i < count; i++) {
        deltas[i] = (sync_bulk_delta){0};
        sync_fields_read(delta_fields, in, arena, &deltas[i]);
    }
    answer->deltas = deltas;
    answer->delta_count = count;
}

static void read_ops(cal_borsh *in, cal_arena *arena, sync_bulk_answer *answer) {
    uint32_t count = cal_borsh_count(in, SYNC_BULK_ITEMS_MAX, 32 + 4);
    sync_op *ops = sync_list_alloc(in, arena, count, sizeof *ops);
    if (!ops) return;
    for (uint32_t i = 0; i < count; i++) {
        cal_borsh_fixed(in, ops[i].id.bytes, sizeof ops[i].id.bytes);
        ops[i].bytes = cal_borsh_bytes(in, SYNC_BULK_OP_MAX);
    }
    answer->ops = (sync_ops){ops, count};
}

static void read_covered(cal_borsh *in, sync_bulk_answer *answer) {
    answer->covered = cal_borsh_bytes(in, SYNC_BULK_IDS_MAX);
    for (size_t i = 0; i < answer->covered.len; i++)
        if (answer->covered.data[i] > 1) cal_borsh_fail(in, CAL_EDECODE);
}

int sync_bulk_answer_decode(cal_slice bytes, cal_arena *arena, sync_bulk_answer *ret_answer) {
    if (bytes.len > NET_MESSAGE_MAX) return CAL_ELIMIT;
    cal_borsh in = cal_borsh_read(bytes);
    sync_bulk_answer answer = {.kind = cal_borsh_tag(&in, SYNC_BULK_KIND_COUNT)};
    if (!in.error && answer.kind == SYNC_BULK_DELTAS) read_deltas(&in, arena, &answer);
    if (!in.error && answer.kind == SYNC_BULK_COVERED) read_covered(&in, &answer);
    if (!in.error && answer.kind == SYNC_BULK_HISTORY) read_ops(&in, arena, &answer);
    answer.end = cal_borsh_tag(&in, SYNC_BULK_END_COUNT);
    if (cal_borsh_end(&in)) return in.error;
    *ret_answer = answer;
    return 0;
}
