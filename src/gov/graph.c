/* The graph of a namespace's operations, see graph.h and draft.h.
 *
 * An operation that is placed becomes an index row, a slim node, its body, and its writes: those
 * that win stand in their slots, the others, and what they push out, are kept as past writes, so
 * that a cut that leaves the winner out finds what was there. Its cost depends on its own size, not
 * on history. Everything goes into the change's batch and into a fold laid over the graph's, which
 * joins it when the change is committed. Loop thread. */
#include "gov/graph.h"

#include <assert.h>
#include <stdlib.h>

#include "base/error.h"
#include "gov/draft.h"

enum { INDEX_SIZE = 8 + 4, NODE_MIN = 32 + 4 + 1 + 1 + 4 };
enum { NODE_AUTHOR = 1, NODE_ASIDE = 2 }; /* flags */

/* --- keys and rows --- */

cal_slice gov_graph_key(const cal_group_id *namespace_id, gov_graph_row row, const void *rest,
                        size_t len, uint8_t ret_key[GOV_GRAPH_KEY_MAX]) {
    assert(33 + len <= GOV_GRAPH_KEY_MAX);
    memcpy(ret_key, namespace_id->bytes, 32);
    ret_key[32] = (uint8_t)row;
    if (len) memcpy(ret_key + 33, rest, len);
    return cal_slice_of(ret_key, 33 + len);
}

cal_slice gov_graph_number_key(const cal_group_id *namespace_id, gov_graph_row row,
                               uint64_t sequence, uint8_t ret_key[GOV_GRAPH_KEY_MAX]) {
    uint8_t number[8];
    cal_write_u32be(number, (uint32_t)(sequence >> 32));
    cal_write_u32be(number + 4, (uint32_t)sequence);
    return gov_graph_key(namespace_id, row, number, sizeof number, ret_key);
}

int gov_node_write(const gov_node *node, cal_buffer *out) {
    cal_buffer_append(out, node->id.bytes, 32);
    cal_buffer_append_u32le(out, node->generation);
    cal_buffer_append_u8(out, (uint8_t)node->effect);
    cal_buffer_append_u8(
        out, (uint8_t)((node->has_author ? NODE_AUTHOR : 0) | (node->aside ? NODE_ASIDE : 0)));
    if (node->has_author) cal_buffer_append(out, node->author.bytes, 32);
    cal_buffer_append_u32le(out, node->parent_count);
    for (uint32_t i = 0; i < node->parent_count; i++)
        cal_buffer_append_u64le(out, node->parents[i]);
    return out->error;
}

int gov_node_read(cal_slice bytes, uint64_t sequence, gov_node *ret_node) {
    gov_node node = {.sequence = sequence};
    cal_borsh in = cal_borsh_read(bytes);
    cal_borsh_fixed(&in, node.id.bytes, 32);
    node.generation = cal_borsh_u32(&in);
    uint8_t effect = cal_borsh_u8(&in), flags = cal_borsh_u8(&in);
    node.effect = (gov_effect)effect;
    node.has_author = flags & NODE_AUTHOR;
    node.aside = flags & NODE_ASIDE;
    if (node.has_author) cal_borsh_fixed(&in, node.author.bytes, 32);
    node.parent_count = cal_borsh_count(&in, GOV_PARENTS_MAX, 8);
    cal_slice parents = cal_borsh_take(&in, (size_t)node.parent_count * 8);
    if (cal_borsh_end(&in) || effect > GOV_EFFECT_NONE || flags > (NODE_AUTHOR | NODE_ASIDE))
        return CAL_ECORRUPT;
    node.parents = malloc(node.parent_count * sizeof *node.parents + 1);
    if (!node.parents) return CAL_ENOMEM;
    for (uint32_t i = 0; i < node.parent_count; i++) {
        node.parents[i] = cal_read_u64le(parents.data + (size_t)i * 8);
        if (node.parents[i] > 0 && node.parents[i] < sequence) continue;
        free(node.parents);
        return CAL_ECORRUPT;
    }
    *ret_node = node;
    return 0;
}

int gov_index_read(cal_slice bytes, uint64_t *ret_sequence, uint32_t *ret_generation) {
    if (bytes.len != INDEX_SIZE) return CAL_ECORRUPT;
    *ret_sequence = cal_read_u64le(bytes.data);
    *ret_generation = cal_read_u32le(bytes.data + 8);
    return *ret_sequence ? 0 : CAL_ECORRUPT;
}

static int stored(const gov_change *change, cal_slice key, cal_buffer *ret_value) {
    return cal_store_get(change->gov->store, CAL_COLUMN_GOVERNANCE, key, ret_value);
}

/* --- what a change adds --- */

gov_draft *gov_draft_of(gov_change *change) {
    uint64_t seed;
    gov_draft *draft = change->draft;
    if (draft) return draft;
    draft = calloc(1, sizeof *draft);
    if (!draft) return NULL;
    change->gov->os->random(change->gov->os->user, &seed, sizeof seed);
    cal_map_init(&draft->index, seed);
    cal_map_init(&draft->effects, seed + 1);
    cal_list_init(&draft->cuts);
    gov_fold_init(&draft->fold, &change->ns->id, &change->ns->graph->fold);
    return change->draft = draft;
}

/* Places that were reserved and not taken. */
static void give_back(cal_sorted *base, const cal_sorted *over) {
    cal_sorted_node *node = cal_sorted_from(over, (cal_slice){0});
    for (; node; node = node->next[0])
        if (cal_sorted_get(base, node->key) == &gov_row_absent) cal_sorted_remove(base, node->key);
}

void gov_graph_forget(gov_change *change) {
    gov_draft *draft = change->draft;
    if (!draft) return;
    if (draft->reserved) {
        give_back(&change->ns->graph->fold.slots, &draft->fold.slots);
        give_back(&change->ns->graph->fold.rows, &draft->fold.rows);
    }
    for (size_t i = 0; i < draft->count; i++) {
        free(draft->ops[i].bytes);
        free(draft->ops[i].node.parents);
    }
    for (size_t i = 0; i < draft->write_count; i++) free(draft->writes[i].slot);
    free(draft->ops);
    free(draft->writes);
    cal_map_deinit(&draft->index);
    cal_map_deinit(&draft->effects);
    gov_cuts_free(&draft->cuts, &draft->cut_count);
    gov_fold_deinit(&draft->fold);
    free(draft);
    change->draft = NULL;
}

static gov_draft_op *draft_find(const gov_change *change, const cal_hash *id) {
    gov_draft *draft = change->draft;
    size_t at =
        draft ? (size_t)(uintptr_t)cal_map_get(&draft->index, cal_slice_of(id->bytes, 32)) : 0;
    return at ? &draft->ops[at - 1] : NULL;
}

static int grow(void *array_pointer, size_t *capacity, size_t needed, size_t size) {
    void **array = array_pointer;
    if (needed <= *capacity) return 0;
    size_t next = *capacity ? *capacity * 2 : 8;
    void *grown = realloc(*array, next * size);
    if (!grown) return CAL_ENOMEM;
    *array = grown;
    *capacity = next;
    return 0;
}

/* --- looking up --- */

uint64_t gov_graph_top(const gov_change *change) {
    const gov_draft *draft = change->draft;
    return draft && draft->count ? draft->ops[draft->count - 1].node.sequence
                                 : change->ns->graph->count;
}

int gov_graph_locate(const gov_change *change, const cal_hash *id, uint64_t *ret_sequence,
                     uint32_t *ret_generation) {
    const gov_graph *graph = change->ns->graph;
    const gov_draft_op *own = draft_find(change, id);
    uint8_t key[GOV_GRAPH_KEY_MAX];
    cal_buffer value;
    if (own) {
        *ret_sequence = own->node.sequence;
        *ret_generation = own->node.generation;
        return 0;
    }
    if (change->at_hand.sequence && gov_id_equal(change->at_hand.id.bytes, id->bytes)) {
        *ret_sequence = change->at_hand.sequence;
        *ret_generation = change->at_hand.generation;
        return 0;
    }
    for (size_t i = 0; i < GOV_RECENT_MAX; i++) {
        const gov_recent *recent =
            &graph->recent[(graph->recent_at + GOV_RECENT_MAX - 1 - i) % GOV_RECENT_MAX];
        if (!recent->sequence || !gov_id_equal(recent->id.bytes, id->bytes)) continue;
        *ret_sequence = recent->sequence;
        *ret_generation = recent->generation;
        return 0;
    }
    cal_buffer_init(&value, INDEX_SIZE);
    int result =
        stored(change, gov_graph_key(&change->ns->id, GRAPH_INDEX, id->bytes, 32, key), &value);
    if (result == CAL_ELIMIT) result = CAL_ECORRUPT;
    if (!result) result = gov_index_read(cal_buffer_slice(&value), ret_sequence, ret_generation);
    cal_buffer_deinit(&value);
    /* The store has it already, and the change that placed it is not visible yet. */
    return !result && *ret_sequence > gov_graph_top(change) ? CAL_ENOTFOUND : result;
}

static int node_at(const gov_change *change, uint64_t sequence, gov_node *ret_node) {
    uint8_t key[GOV_GRAPH_KEY_MAX];
    cal_buffer value;
    cal_buffer_init(&value, NODE_MIN + 32 + GOV_PARENTS_MAX * 8);
    int result =
        stored(change, gov_graph_number_key(&change->ns->id, GRAPH_NODE, sequence, key), &value);
    if (result == CAL_ENOTFOUND || result == CAL_ELIMIT) result = CAL_ECORRUPT;
    if (!result) result = gov_node_read(cal_buffer_slice(&value), sequence, ret_node);
    cal_buffer_deinit(&value);
    return result;
}

int gov_graph_find(const gov_change *change, const cal_hash *id, gov_effect *ret_effect) {
    const gov_draft_op *own = draft_find(change, id);
    uint64_t sequence;
    uint32_t generation;
    gov_node node;
    int result = gov_graph_locate(change, id, &sequence, &generation);
    if (result || !ret_effect) return result;
    uintptr_t settled =
        change->draft ? (uintptr_t)cal_map_get(&change->draft->effects, cal_slice_of(id->bytes, 32))
                      : 0;
    if (own || settled) {
        *ret_effect = settled ? (gov_effect)(settled - 1) : own->node.effect;
        return 0;
    }
    if ((result = node_at(change, sequence, &node))) return result;
    free(node.parents);
    *ret_effect = node.effect;
    return 0;
}

int gov_graph_node(const gov_change *change, uint64_t sequence, gov_node *ret_node,
                   cal_buffer *ret_bytes) {
    uint8_t key[GOV_GRAPH_KEY_MAX];
    uint64_t committed = change->ns->graph->count;
    if (sequence > committed) {
        const gov_draft_op *own = &change->draft->ops[sequence - committed - 1];
        gov_node node = own->node;
        node.parents = malloc(node.parent_count * sizeof *node.parents + 1);
        if (!node.parents) return CAL_ENOMEM;
        memcpy(node.parents, own->node.parents, node.parent_count * sizeof *node.parents);
        int result = ret_bytes ? cal_buffer_append(ret_bytes, own->bytes, own->len) : 0;
        if (result)
            free(node.parents);
        else
            *ret_node = node;
        return result;
    }
    int result = node_at(change, sequence, ret_node);
    if (result || !ret_bytes) return result;
    result =
        stored(change, gov_graph_number_key(&change->ns->id, GRAPH_BODY, sequence, key), ret_bytes);
    if (result) free(ret_node->parents);
    return result == CAL_ENOTFOUND || result == CAL_ELIMIT ? CAL_ECORRUPT : result;
}

/* --- writes --- */

typedef struct {
    gov_change *change;
    int error;
} writer;

static int put_slot(writer *w, gov_graph_row row, const gov_write *write) {
    uint8_t key[GOV_GRAPH_KEY_MAX], rest[GOV_KEY_MAX + GOV_RANK_SIZE];
    size_t len = write->key.len;
    gov_row *slot = gov_slot_new(write);
    if (!slot) return CAL_ENOMEM;
    memcpy(rest, write->key.bytes, len);
    if (row == GRAPH_PAST) {
        memcpy(rest + len, write->rank, GOV_RANK_SIZE);
        len += GOV_RANK_SIZE;
    }
    int result = cal_batch_put(w->change->batch, CAL_COLUMN_GOVERNANCE,
                               gov_graph_key(&w->change->ns->id, row, rest, len, key),
                               cal_slice_of(slot->bytes, slot->len));
    free(slot);
    return result;
}

static int remember_write(gov_draft *draft, const gov_write *write) {
    gov_draft_write kept = {write->key, NULL};
    if (grow(&draft->writes, &draft->write_capacity, draft->write_count + 1, sizeof kept))
        return CAL_ENOMEM;
    if (!(kept.slot = gov_slot_new(write))) return CAL_ENOMEM;
    draft->writes[draft->write_count++] = kept;
    return 0;
}

static void take_write(void *user, const gov_write *write) {
    writer *w = user;
    gov_draft *draft = w->change->draft;
    gov_write known;
    if (w->error) return;
    bool had = gov_fold_slot(&draft->fold, &write->key, &known);
    int order = had ? memcmp(write->rank, known.rank, GOV_RANK_SIZE) : 1;
    if (order == 0) return; /* one operation that says the same twice */
    if ((w->error = remember_write(draft, write))) return;
    if (order < 0) {
        w->error = put_slot(w, GRAPH_PAST, write);
        return;
    }
    if (had) w->error = put_slot(w, GRAPH_PAST, &known);
    if (!w->error) w->error = put_slot(w, GRAPH_SLOT, write);
    gov_fold_set(&draft->fold, &write->key, write);
    if (!draft->fold.error) gov_fold_settle(&draft->fold, &write->key);
    if (!w->error) w->error = draft->fold.error;
}

static int write_effect(gov_change *change, const gov_noted *noted, const gov_node *node,
                        bool was_opaque) {
    const gov_op *op = &noted->op->op;
    writer w = {change, 0};
    gov_fold_op fold_op = {.id = node->id,
                           .generation = node->generation,
                           .sequence = node->sequence,
                           .author = node->has_author ? &node->author : NULL,
                           .group = op->group_id,
                           .was_opaque = was_opaque,
                           .namespace_id = &change->ns->id,
                           .proofs = &change->gov->proofs};
    if (node->effect == GOV_EFFECT_FULL && op->group) fold_op.group_op = noted->plain;
    if (node->effect == GOV_EFFECT_FULL && !op->group) fold_op.root = &op->root;
    if (node->effect == GOV_EFFECT_OPAQUE) fold_op.key_id = &op->key_id;
    gov_fold_writes(&fold_op, take_write, &w);
    return w.error;
}

/* --- placing --- */

static bool cites(const gov_ids *parents, const uint8_t id[32]) {
    for (uint32_t i = 0; i < parents->count; i++)
        if (gov_id_equal(parents->items[i].bytes, id)) return true;
    return false;
}

static int node_of(const gov_change *change, const gov_noted *noted, uint64_t sequence,
                   gov_node *ret_node) {
    const gov_ids *parents = &noted->op->parents;
    gov_node node = {.id = noted->id,
                     .sequence = sequence,
                     .effect = noted->effect,
                     .has_author = noted->author != NULL};
    if (noted->author) node.author = *noted->author;
    node.parents = malloc(parents->count * sizeof *node.parents + 1);
    if (!node.parents) return CAL_ENOMEM;
    int result = 0;
    for (uint32_t i = 0; i < parents->count && !result; i++) {
        uint32_t generation = 0;
        if (gov_id_zero(parents->items[i].bytes)) continue;
        result = gov_graph_locate(change, &parents->items[i], &node.parents[node.parent_count++],
                                  &generation);
        if (result == CAL_ENOTFOUND) result = CAL_ESTATE;
        if (!result && generation == UINT32_MAX) result = CAL_ELIMIT;
        if (!result && generation + 1 > node.generation) node.generation = generation + 1;
    }
    if (result)
        free(node.parents);
    else
        *ret_node = node;
    return result;
}

static int put_node(gov_change *change, const gov_node *node) {
    uint8_t key[GOV_GRAPH_KEY_MAX];
    cal_buffer value;
    cal_buffer_init(&value, NODE_MIN + 32 + GOV_PARENTS_MAX * 8);
    int result = gov_node_write(node, &value);
    if (!result)
        result =
            cal_batch_put(change->batch, CAL_COLUMN_GOVERNANCE,
                          gov_graph_number_key(&change->ns->id, GRAPH_NODE, node->sequence, key),
                          cal_buffer_slice(&value));
    cal_buffer_deinit(&value);
    return result;
}

static int put_op(gov_change *change, const gov_node *node, cal_slice bytes) {
    uint8_t key[GOV_GRAPH_KEY_MAX], index[INDEX_SIZE];
    const cal_group_id *ns = &change->ns->id;
    cal_write_u64le(index, node->sequence);
    cal_write_u32le(index + 8, node->generation);
    int result = cal_batch_put(change->batch, CAL_COLUMN_GOVERNANCE,
                               gov_graph_key(ns, GRAPH_INDEX, node->id.bytes, 32, key),
                               cal_slice_of(index, sizeof index));
    if (!result) result = put_node(change, node);
    if (!result)
        result = cal_batch_put(change->batch, CAL_COLUMN_GOVERNANCE,
                               gov_graph_number_key(ns, GRAPH_BODY, node->sequence, key), bytes);
    if (result || node->sequence > 1) return result;
    const uint8_t version = GOV_LAYOUT_VERSION;
    return cal_batch_put(change->batch, CAL_COLUMN_GOVERNANCE,
                         gov_graph_key(ns, GRAPH_LAYOUT, NULL, 0, key), cal_slice_of(&version, 1));
}

/* Takes the node. */
static int remember_op(gov_draft *draft, gov_node *node, cal_slice bytes) {
    gov_draft_op op = {.node = *node, .len = bytes.len};
    if (grow(&draft->ops, &draft->capacity, draft->count + 1, sizeof op) ||
        !(op.bytes = malloc(bytes.len + 1)) ||
        cal_map_put(&draft->index, cal_slice_of(node->id.bytes, 32),
                    (void *)(uintptr_t)(draft->count + 1))) {
        free(op.bytes);
        free(node->parents);
        return CAL_ENOMEM;
    }
    memcpy(op.bytes, bytes.data, bytes.len);
    draft->ops[draft->count++] = op;
    return 0;
}

int gov_graph_place(gov_change *change, const gov_noted *noted, uint64_t sequence, cal_error *err) {
    gov_draft *draft = gov_draft_of(change);
    gov_node node;
    if (!draft) return cal_fail(err, CAL_ENOMEM, "no memory for an operation's place");
    size_t first = draft->write_count;
    int result = node_of(change, noted, sequence, &node);
    if (!result) {
        node.aside = noted->aside && noted->effect == GOV_EFFECT_NONE;
        result = remember_op(draft, &node, noted->bytes);
    }
    if (!result) result = put_op(change, &node, noted->bytes);
    if (!result) result = write_effect(change, noted, &node, false);
    if (result) return cal_fail(err, result, "the operation could not be kept");
    gov_cut_follow(change, noted, first);
    return 0;
}

/* governance.md 6: cited heads go, the operation becomes one. One that is kept aside leaves them
 * as they are. */
int gov_graph_note(gov_change *change, const gov_noted *noted, cal_error *err) {
    gov_view view = gov_change_view(change);
    cal_slice heads = gov_heads_get(&view);
    uint64_t sequence = gov_sequence_get(&view) + 1;
    bool aside = noted->aside && noted->effect == GOV_EFFECT_NONE;
    cal_buffer left;
    assert(!draft_find(change, &noted->id));
    cal_buffer_init(&left, GOV_HEADS_MAX * 32);
    for (size_t at = 0; at < heads.len; at += 32)
        if (aside || !cites(&noted->op->parents, heads.data + at))
            cal_buffer_append(&left, heads.data + at, 32);
    if (!aside) cal_buffer_append(&left, noted->id.bytes, 32);
    int result = left.error == CAL_ELIMIT
                     ? cal_fail(err, CAL_ELIMIT, "the namespace would have more than %d heads",
                                GOV_HEADS_MAX)
                 : left.error ? cal_fail(err, left.error, "the operation could not be kept")
                              : gov_graph_place(change, noted, sequence, err);
    if (!result) gov_put_heads(change, sequence, cal_buffer_slice(&left));
    cal_buffer_deinit(&left);
    return result;
}

int gov_graph_settle(gov_change *change, const gov_noted *noted, cal_error *err) {
    gov_draft *draft = gov_draft_of(change);
    gov_draft_op *own = draft_find(change, &noted->id);
    uint64_t sequence = 0;
    uint32_t generation;
    gov_node node = {.parents = NULL};
    int result = draft ? gov_graph_locate(change, &noted->id, &sequence, &generation) : CAL_ENOMEM;
    if (!result && own) node = own->node;
    if (!result && !own) result = node_at(change, sequence, &node);
    cal_slice id = cal_slice_of(noted->id.bytes, 32);
    if (!result && (node.effect != GOV_EFFECT_OPAQUE || noted->effect == GOV_EFFECT_OPAQUE ||
                    cal_map_get(&draft->effects, id)))
        result = CAL_ESTATE;
    if (!result) result = cal_map_put(&draft->effects, id, (void *)((uintptr_t)noted->effect + 1));
    if (!result) {
        node.effect = noted->effect;
        node.has_author = noted->author != NULL;
        if (noted->author) node.author = *noted->author;
        draft->settled = true;
        gov_cuts_free(&draft->cuts, &draft->cut_count);
        result = put_node(change, &node);
    }
    if (!result) result = write_effect(change, noted, &node, true);
    if (!result && own) own->node = node;
    if (!own) free(node.parents);
    return result ? cal_fail(err, result, "the operation could not be settled") : 0;
}

/* --- the end of a change --- */

static int reserve(cal_sorted *base, const cal_sorted *over) {
    cal_sorted_node *node = cal_sorted_from(over, (cal_slice){0});
    for (; node; node = node->next[0])
        if (!cal_sorted_get(base, node->key) &&
            cal_sorted_put(base, node->key, &gov_row_absent, NULL))
            return CAL_ENOMEM;
    return 0;
}

int gov_graph_reserve(gov_change *change) {
    gov_graph *graph = change->ns->graph;
    gov_draft *draft = change->draft;
    if (!draft) return 0;
    draft->reserved = true;
    int result = reserve(&graph->fold.slots, &draft->fold.slots);
    return result ? result : reserve(&graph->fold.rows, &draft->fold.rows);
}

/* Every key has its place, so nothing here allocates. */
static void join(cal_sorted *base, cal_sorted *over) {
    cal_sorted_node *node = cal_sorted_from(over, (cal_slice){0});
    for (; node; node = node->next[0]) {
        void *old = NULL;
        if (node->value == &gov_row_absent)
            old = cal_sorted_remove(base, node->key);
        else {
            int result = cal_sorted_put(base, node->key, node->value, &old);
            assert(result == 0);
            (void)result;
            node->value = &gov_row_absent;
        }
        if (old != &gov_row_absent) free(old);
    }
}

void gov_graph_commit(gov_change *change) {
    gov_graph *graph = change->ns->graph;
    gov_draft *draft = change->draft;
    if (!draft) return;
    assert(draft->reserved);
    gov_cuts_commit(graph, draft);
    join(&graph->fold.slots, &draft->fold.slots);
    join(&graph->fold.rows, &draft->fold.rows);
    for (size_t i = 0; i < draft->count; i++) {
        const gov_node *node = &draft->ops[i].node;
        graph->recent[graph->recent_at] = (gov_recent){node->id, node->sequence, node->generation};
        graph->recent_at = (graph->recent_at + 1) % GOV_RECENT_MAX;
        graph->count = node->sequence;
    }
}

/* --- a namespace's --- */

gov_graph *gov_graph_new(const cal_group_id *namespace_id, gov_proofs *proofs) {
    gov_graph *graph = calloc(1, sizeof *graph);
    if (!graph) return NULL;
    gov_fold_init(&graph->fold, namespace_id, NULL);
    graph->fold.judges = true;
    graph->fold.proofs = proofs;
    cal_list_init(&graph->cuts);
    return graph;
}

void gov_graph_free(gov_graph *graph) {
    if (!graph) return;
    gov_cuts_free(&graph->cuts, &graph->cut_count);
    gov_fold_deinit(&graph->fold);
    free(graph);
}

bool gov_graph_shrink(gov_graph *graph, size_t max) {
    cal_sorted *maps[] = {&graph->fold.slots, &graph->fold.rows};
    for (size_t i = 0; i < 2; i++) {
        cal_sorted_node *node;
        for (; max > 0 && (node = cal_sorted_from(maps[i], (cal_slice){0})); max--) {
            void *row = cal_sorted_remove(maps[i], node->key);
            if (row != &gov_row_absent) free(row);
        }
    }
    return maps[0]->count > 0 || maps[1]->count > 0;
}
