/* A delta as it is served on a stream: borsh CausalDelta (network-sync.md 6.1). */
#include "sync/field.h"

enum { HLC_SIZE = 8 + 16 };

static bool zero(const uint8_t *bytes, size_t len) {
    while (len && !bytes[len - 1]) len--;
    return len == 0;
}

int sync_causal_delta_decode(cal_slice bytes, cal_arena *arena, sync_causal_delta *ret_delta) {
    static const sync_field parents_field[] = {{FIELD_IDS, 0, DAG_PARENTS_MAX, false, 0},
                                               {FIELD_END, 0, 0, false, 0}};
    cal_borsh in = cal_borsh_read(bytes);
    sync_causal_delta delta = {0};
    sync_ids parents = {0};
    if (bytes.len > SYNC_DELTA_MAX) return CAL_ELIMIT;
    cal_borsh_fixed(&in, delta.id.bytes, 32);
    sync_fields_read(parents_field, &in, arena, &parents);
    if (!in.error && in.left < HLC_SIZE + 4) cal_borsh_fail(&in, CAL_EDECODE);
    if (!in.error) delta.actions = cal_borsh_take(&in, in.left - HLC_SIZE);
    delta.hlc_time = cal_borsh_u64(&in);
    cal_borsh_fixed(&in, delta.hlc_id, sizeof delta.hlc_id);
    if (!in.error && zero(delta.hlc_id, sizeof delta.hlc_id)) cal_borsh_fail(&in, CAL_EDECODE);
    if (cal_borsh_end(&in)) return in.error;
    delta.parents = parents.items;
    delta.parent_count = parents.count;
    *ret_delta = delta;
    return 0;
}

int sync_causal_delta_write(const sync_causal_delta *delta, cal_buffer *out) {
    if (!sync_within(delta->parent_count, DAG_PARENTS_MAX, out)) return out->error;
    cal_buffer_append(out, delta->id.bytes, 32);
    cal_buffer_append_u32le(out, delta->parent_count);
    cal_buffer_append(out, delta->parents, delta->parent_count * sizeof *delta->parents);
    cal_buffer_append_slice(out, delta->actions);
    cal_buffer_append_u64le(out, delta->hlc_time);
    return cal_buffer_append(out, delta->hlc_id, sizeof delta->hlc_id);
}
