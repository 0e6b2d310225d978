/* The graph of a namespace's operations, see graph.h.
 *
 * Column GOVERNANCE, namespace id || operation id: the operation's number here, its effect, its
 * bytes. The heads and the number of operations are a row of the namespace. Loop thread. */
#include "gov/graph.h"

#include <stdlib.h>

#include "base/error.h"
#include "gov/draft.h"

static bool cites(const gov_ids *parents, const uint8_t id[32]) {
    for (uint32_t i = 0; i < parents->count; i++)
        if (gov_id_equal(parents->items[i].bytes, id)) return true;
    return false;
}

static gov_draft *draft_of(gov_change *change) {
    if (!change->draft) change->draft = calloc(1, sizeof *change->draft);
    return change->draft;
}

void gov_graph_forget(gov_change *change) {
    gov_draft *draft = change->draft;
    if (!draft) return;
    for (size_t i = 0; i < draft->count; i++) free(draft->ops[i].bytes);
    free(draft->ops);
    for (size_t i = 0; i < draft->cut_count; i++) gov_fold_deinit(draft->cuts[i]);
    for (size_t i = 0; i < draft->cut_count; i++) free(draft->cuts[i]);
    free(draft->cuts);
    free(draft);
    change->draft = NULL;
}

const gov_draft_op *gov_draft_find(const gov_change *change, const cal_hash *id) {
    const gov_draft *draft = change->draft;
    for (size_t i = 0; draft && i < draft->count; i++)
        if (gov_id_equal(draft->ops[i].id.bytes, id->bytes)) return &draft->ops[i];
    return NULL;
}

static int remember(gov_change *change, const gov_noted *noted) {
    gov_draft *draft = draft_of(change);
    gov_draft_op op = {.id = noted->id, .effect = noted->effect, .len = noted->bytes.len};
    if (!draft) return CAL_ENOMEM;
    gov_draft_op *grown = realloc(draft->ops, (draft->count + 1) * sizeof *grown);
    if (!grown) return CAL_ENOMEM;
    draft->ops = grown;
    op.bytes = malloc(noted->bytes.len + 1);
    if (!op.bytes) return CAL_ENOMEM;
    memcpy(op.bytes, noted->bytes.data, noted->bytes.len);
    draft->ops[draft->count++] = op;
    return 0;
}

static void key_of(const gov_change *change, const cal_hash *id, uint8_t ret_key[64]) {
    memcpy(ret_key, change->ns->id.bytes, 32);
    memcpy(ret_key + 32, id->bytes, 32);
}

static int put_op(gov_change *change, const cal_hash *id, uint64_t sequence, gov_effect effect,
                  cal_slice bytes) {
    cal_buffer value;
    uint8_t key[64];
    cal_buffer_init(&value, GOV_OP_MAX + GOV_LOG_HEADER);
    cal_buffer_append_u64le(&value, sequence);
    cal_buffer_append_u8(&value, (uint8_t)effect);
    cal_buffer_append_slice(&value, bytes);
    key_of(change, id, key);
    int result = value.error;
    if (!result)
        result = cal_batch_put(change->batch, CAL_COLUMN_GOVERNANCE, cal_slice_of(key, sizeof key),
                               cal_buffer_slice(&value));
    cal_buffer_deinit(&value);
    return result;
}

/* governance.md 6: cited heads go, the operation becomes one; it and its number are stored. */
int gov_graph_note(gov_change *change, const gov_noted *noted, cal_error *err) {
    gov_view view = gov_change_view(change);
    cal_slice heads = gov_heads_get(&view);
    uint64_t sequence = gov_sequence_get(&view) + 1;
    cal_buffer left;
    cal_buffer_init(&left, GOV_HEADS_MAX * 32);
    for (size_t at = 0; at < heads.len; at += 32)
        if (!cites(&noted->op->parents, heads.data + at))
            cal_buffer_append(&left, heads.data + at, 32);
    cal_buffer_append(&left, noted->id.bytes, 32);
    int result = left.error;
    if (!result) result = put_op(change, &noted->id, sequence, noted->effect, noted->bytes);
    if (!result) result = remember(change, noted);
    if (!result) gov_put_heads(change, sequence, cal_buffer_slice(&left));
    cal_buffer_deinit(&left);
    return result ? cal_fail(err, result, "the operation could not be kept") : 0;
}

static int stored(const gov_change *change, const cal_hash *id, cal_buffer *ret_value) {
    uint8_t key[64];
    key_of(change, id, key);
    return cal_store_get(change->gov->store, CAL_COLUMN_GOVERNANCE, cal_slice_of(key, sizeof key),
                         ret_value);
}

int gov_graph_settle(gov_change *change, const gov_noted *noted, cal_error *err) {
    cal_buffer value;
    cal_buffer_init(&value, GOV_OP_MAX + GOV_LOG_HEADER);
    gov_draft_op *own = (gov_draft_op *)gov_draft_find(change, &noted->id);
    int result = own ? 0 : stored(change, &noted->id, &value);
    if (!result && !own && value.len < GOV_LOG_HEADER) result = CAL_ECORRUPT;
    if (!result && own) own->effect = noted->effect;
    if (!result && !own)
        result = put_op(change, &noted->id, cal_read_u64le(value.data), noted->effect,
                        cal_slice_of(value.data + GOV_LOG_HEADER, value.len - GOV_LOG_HEADER));
    cal_buffer_deinit(&value);
    return result ? cal_fail(err, result, "the operation could not be settled") : 0;
}

int gov_graph_find(const gov_change *change, const cal_hash *id, gov_effect *ret_effect) {
    const gov_draft_op *own = gov_draft_find(change, id);
    cal_buffer value;
    cal_buffer_init(&value, GOV_OP_MAX + GOV_LOG_HEADER);
    int result = own ? 0 : stored(change, id, &value);
    if (!result && !own && value.len < GOV_LOG_HEADER) result = CAL_ECORRUPT;
    if (!result && ret_effect) *ret_effect = own ? own->effect : (gov_effect)value.data[8];
    cal_buffer_deinit(&value);
    return result;
}

int gov_graph_read(const gov_change *change, const cal_hash *id, cal_buffer *ret_bytes) {
    const gov_draft_op *own = gov_draft_find(change, id);
    cal_buffer value;
    if (own) return cal_buffer_append(ret_bytes, own->bytes, own->len);
    cal_buffer_init(&value, GOV_OP_MAX + GOV_LOG_HEADER);
    int result = stored(change, id, &value);
    if (!result && value.len < GOV_LOG_HEADER) result = CAL_ECORRUPT;
    if (!result)
        result =
            cal_buffer_append(ret_bytes, value.data + GOV_LOG_HEADER, value.len - GOV_LOG_HEADER);
    cal_buffer_deinit(&value);
    return result;
}
