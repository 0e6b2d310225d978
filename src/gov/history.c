/* The operations of a namespace as others ask for them, and what this node's graph holds (share.h).
 *
 * Reading is of the store, on any thread: an index row leads from an id to a number, the number to
 * the bytes as they were received. Ids ascend in the index, so what the reference gives without ids
 * (network-sync.md 7: the smallest ids first) is a walk over it. */
#include "gov/share.h"

#include "base/error.h"
#include "gov/draft.h"

typedef struct {
    cal_snapshot *snapshot;
    const cal_group_id *ns;
    size_t left, bytes_left;
    int (*visit)(void *user, const cal_hash *id, cal_slice bytes);
    void *user;
    cal_buffer body;
} reading;

/* Below a namespace that is being removed bodies go before the index does: such an operation is not
 * here any more. */
static int read_one(reading *r, const cal_hash *id, cal_slice index) {
    uint8_t key[GOV_GRAPH_KEY_MAX];
    uint64_t sequence;
    uint32_t generation;
    int result = gov_index_read(index, &sequence, &generation);
    if (result) return result;
    cal_buffer_reset(&r->body);
    result = cal_snapshot_get(r->snapshot, CAL_COLUMN_GOVERNANCE,
                              gov_graph_number_key(r->ns, GRAPH_BODY, sequence, key), &r->body);
    if (result == CAL_ENOTFOUND) return 0;
    if (result) return result == CAL_ELIMIT ? CAL_ECORRUPT : result;
    size_t len = r->body.len;
    if ((result = r->visit(r->user, id, cal_buffer_slice(&r->body)))) return result;
    r->left--;
    r->bytes_left -= len < r->bytes_left ? len : r->bytes_left;
    return 0;
}

static bool more(const reading *r) { return r->left > 0 && r->bytes_left > 0; }

static int read_named(reading *r, const cal_hash *ids, size_t count) {
    uint8_t key[GOV_GRAPH_KEY_MAX];
    cal_buffer index;
    int result = 0;
    cal_buffer_init(&index, 64);
    for (size_t i = 0; i < count && !result && more(r); i++) {
        cal_buffer_reset(&index);
        result = cal_snapshot_get(r->snapshot, CAL_COLUMN_GOVERNANCE,
                                  gov_graph_key(r->ns, GRAPH_INDEX, ids[i].bytes, 32, key), &index);
        if (result == CAL_ENOTFOUND)
            result = 0;
        else if (!result)
            result = read_one(r, &ids[i], cal_buffer_slice(&index));
    }
    cal_buffer_deinit(&index);
    return result;
}

static int read_first(reading *r, const cal_hash *after) {
    uint8_t low[GOV_GRAPH_KEY_MAX], prefix[GOV_GRAPH_KEY_MAX];
    cal_slice from = gov_graph_key(r->ns, GRAPH_INDEX, after ? after->bytes : NULL, after ? 32 : 0,
                                   low),
              key, value;
    cal_cursor *cursor = NULL;
    cal_buffer end;
    cal_buffer_init(&end, 64);
    cal_prefix_end(gov_graph_key(r->ns, GRAPH_INDEX, NULL, 0, prefix), &end);
    int result = end.error ? end.error
                           : cal_cursor_open(r->snapshot, CAL_COLUMN_GOVERNANCE, from,
                                             cal_buffer_slice(&end), false, &cursor);
    while (!result && more(r) && (result = cal_cursor_next(cursor, &key, &value)) == 0) {
        cal_hash id;
        if (key.len != 33 + 32) continue; /* of layout 0: an id that begins like an index key */
        memcpy(id.bytes, key.data + 33, 32);
        if (!after || !gov_id_equal(id.bytes, after->bytes)) result = read_one(r, &id, value);
    }
    cal_cursor_free(cursor);
    cal_buffer_deinit(&end);
    return result == CAL_ENOTFOUND ? 0 : result;
}

int gov_history_read(cal_store *store, const cal_group_id *namespace_id, const cal_hash *ids,
                     size_t count, const cal_hash *after, size_t max, size_t bytes_max,
                     int (*visit)(void *user, const cal_hash *id, cal_slice bytes), void *user) {
    reading r = {
        .ns = namespace_id, .left = max, .bytes_left = bytes_max, .visit = visit, .user = user};
    int result = cal_store_snapshot(store, &r.snapshot);
    if (result) return result;
    cal_buffer_init(&r.body, GOV_OP_MAX);
    result = count ? read_named(&r, ids, count) : read_first(&r, after);
    cal_buffer_deinit(&r.body);
    cal_snapshot_free(r.snapshot);
    return result;
}

/* --- the graph --- */

size_t gov_heads(cal_gov *gov, const cal_group_id *namespace_id, cal_hash *ret_heads, size_t max) {
    const gov_namespace *ns = gov_namespace_find(gov, namespace_id);
    if (!ns) return 0;
    gov_view view = gov_view_of(ns);
    cal_slice heads = gov_heads_get(&view);
    size_t count = heads.len / 32 < max ? heads.len / 32 : max;
    if (count) memcpy(ret_heads, heads.data, count * 32);
    return count;
}

int gov_has_op(cal_gov *gov, const cal_group_id *namespace_id, const cal_hash *id) {
    gov_namespace *ns = gov_namespace_find(gov, namespace_id);
    uint64_t sequence;
    uint32_t generation;
    if (!ns) return CAL_ENOTFOUND;
    gov_change look;
    gov_look_begin(gov, ns, &look);
    int result = gov_graph_locate(&look, id, &sequence, &generation);
    gov_look_end(&look);
    return result;
}

int gov_knows_op(cal_gov *gov, const cal_group_id *namespace_id, const cal_hash *id) {
    const gov_namespace *ns = gov_namespace_find(gov, namespace_id);
    if (ns && !ns->retired && gov_parking_holds(&ns->parking, id)) return 0;
    return gov_has_op(gov, namespace_id, id);
}

uint64_t gov_op_count(cal_gov *gov, const cal_group_id *namespace_id) {
    const gov_namespace *ns = gov_namespace_find(gov, namespace_id);
    return ns ? ns->graph->count : 0;
}
