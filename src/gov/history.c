/* The operations of a namespace as others ask for them, and what this node's graph holds (share.h).
 *
 * Reading is of the store, on any thread: an index row leads from an id to a number, the number to
 * the bytes as they were received. Ids ascend in the index, so what the reference gives without ids
 * (network-sync.md 7: the smallest ids first) is a walk over it. */
#include "gov/share.h"

#include <stdlib.h>

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

/* --- what some others are not, and are not above --- */

int gov_past_init(cal_gov *gov, const cal_group_id *namespace_id, const cal_hash *ids, size_t count,
                  gov_past *ret_past) {
    const gov_namespace *ns = gov_namespace_find(gov, namespace_id);
    if (!ns) return CAL_ENOTFOUND;
    if (ns->graph->count > GOV_PAST_MAX) return CAL_ELIMIT;
    gov_past past = {
        .namespace_id = *namespace_id, .top = ns->graph->count, .next = 1, .count = count};
    past.ids = malloc((count + 1) * sizeof *past.ids);
    past.below = calloc((size_t)past.top / 8 + 1, 1);
    if (!past.ids || !past.below) {
        gov_past_deinit(&past);
        return CAL_ENOMEM;
    }
    if (count) memcpy(past.ids, ids, count * sizeof *ids);
    *ret_past = past;
    return 0;
}

void gov_past_deinit(gov_past *past) {
    free(past->ids);
    free(past->below);
    *past = (gov_past){0};
}

static bool is_below(const gov_past *past, uint64_t number) {
    return past->below[number / 8] & (1 << number % 8);
}

static void set_below(gov_past *past, uint64_t number) {
    if (number <= past->top) past->below[number / 8] |= (uint8_t)(1 << number % 8);
}

static int locate_ids(cal_snapshot *snapshot, gov_past *past) {
    uint8_t key[GOV_GRAPH_KEY_MAX];
    cal_buffer index;
    int result = 0;
    cal_buffer_init(&index, 64);
    for (size_t i = 0; i < past->count && !result; i++) {
        uint64_t sequence = 0;
        uint32_t generation;
        cal_buffer_reset(&index);
        result = cal_snapshot_get(
            snapshot, CAL_COLUMN_GOVERNANCE,
            gov_graph_key(&past->namespace_id, GRAPH_INDEX, past->ids[i].bytes, 32, key), &index);
        if (!result) result = gov_index_read(cal_buffer_slice(&index), &sequence, &generation);
        if (result == CAL_ENOTFOUND) result = 0; /* what it is below is not known here */
        if (result || sequence == 0 || sequence > past->top) continue;
        set_below(past, sequence);
        if (sequence > past->at) past->at = sequence;
    }
    cal_buffer_deinit(&index);
    return result;
}

static int read_node(cal_snapshot *snapshot, const gov_past *past, uint64_t number,
                     gov_node *ret_node) {
    uint8_t key[GOV_GRAPH_KEY_MAX];
    cal_buffer row;
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int result =
        cal_snapshot_get(snapshot, CAL_COLUMN_GOVERNANCE,
                         gov_graph_number_key(&past->namespace_id, GRAPH_NODE, number, key), &row);
    if (!result) result = gov_node_read(cal_buffer_slice(&row), number, ret_node);
    cal_buffer_deinit(&row);
    return result;
}

int gov_past_step(cal_store *store, gov_past *past, size_t max) {
    cal_snapshot *snapshot;
    int result = cal_store_snapshot(store, &snapshot);
    if (result) return result;
    if (!past->located) result = locate_ids(snapshot, past);
    past->located = result == 0;
    for (; !result && past->at > 0 && max > 0; past->at--, max--) {
        gov_node node;
        if (!is_below(past, past->at)) continue;
        result = read_node(snapshot, past, past->at, &node);
        if (result) break;
        for (uint32_t i = 0; i < node.parent_count; i++) set_below(past, node.parents[i]);
        free(node.parents);
    }
    cal_snapshot_free(snapshot);
    return result ? result : past->at > 0 ? CAL_EBUSY : 0;
}

/* CAL_ENOTFOUND: the namespace is being removed. */
static int read_number(cal_snapshot *snapshot, const gov_past *past, uint64_t number,
                       cal_buffer *body, cal_hash *ret_id) {
    uint8_t key[GOV_GRAPH_KEY_MAX];
    gov_node node;
    int result = read_node(snapshot, past, number, &node);
    if (result) return result;
    *ret_id = node.id;
    free(node.parents);
    cal_buffer_reset(body);
    return cal_snapshot_get(snapshot, CAL_COLUMN_GOVERNANCE,
                            gov_graph_number_key(&past->namespace_id, GRAPH_BODY, number, key),
                            body);
}

int gov_past_read(cal_store *store, gov_past *past, size_t max, size_t bytes_max,
                  int (*visit)(void *user, const cal_hash *id, cal_slice bytes), void *user,
                  bool *ret_more) {
    cal_snapshot *snapshot;
    cal_buffer body;
    size_t bytes = 0;
    int result = cal_store_snapshot(store, &snapshot);
    if (result) return result;
    cal_buffer_init(&body, GOV_OP_MAX);
    for (; !result && past->next <= past->top && max > 0 && bytes < bytes_max; past->next++) {
        cal_hash id;
        if (is_below(past, past->next)) continue;
        result = read_number(snapshot, past, past->next, &body, &id);
        if (!result) result = visit(user, &id, cal_buffer_slice(&body));
        if (result) break;
        bytes += body.len;
        max--;
    }
    cal_buffer_deinit(&body);
    cal_snapshot_free(snapshot);
    *ret_more = past->next <= past->top;
    return result == CAL_ELIMIT ? 0 : result;
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

size_t gov_history_sample(cal_gov *gov, const cal_group_id *namespace_id, cal_hash *ret_ids,
                          size_t max) {
    enum { NEAR = 16 };
    const gov_namespace *ns = gov_namespace_find(gov, namespace_id);
    cal_snapshot *snapshot;
    size_t count = gov_heads(gov, namespace_id, ret_ids, max);
    if (!ns || cal_store_snapshot(gov->store, &snapshot)) return count;
    gov_past past = {.namespace_id = *namespace_id};
    uint64_t top = ns->graph->count;
    for (uint64_t i = 0; i < top && count < max; i += i < NEAR ? 1 : i / 4) {
        gov_node node;
        if (read_node(snapshot, &past, top - i, &node)) break;
        ret_ids[count++] = node.id;
        free(node.parents);
    }
    cal_snapshot_free(snapshot);
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
