/* Checking what is stored: the operations of each namespace against themselves, their places in the
 * graph, the fold against one made anew, and the rows against one another. See gov.h and draft.h.
 */
#include <stdlib.h>

#include "codec/text.h"
#include "gov/draft.h"

enum { CHECK_MAX = 1024 * 1024 * 1024 };

typedef struct {
    cal_hash id;
    uint32_t generation;
    bool cited; /* by one that is not kept aside */
    bool aside;
} checked_op;

typedef struct {
    const cal_gov *gov;
    const gov_namespace *ns;
    gov_view view;
    cal_snapshot *snapshot;
    void (*report)(void *user, const char *finding);
    void *user;
    size_t findings;
    cal_buffer ops;    /* of checked_op, by number - 1 */
    gov_fold fold;     /* of the operations as they are read */
    cal_sorted writes; /* slot, rank -> gov_row: all that they write */
    int error;         /* no memory */
} checker;

static void finding(checker *c, const char *what, const uint8_t *id) {
    char ns[CAL_ID_TEXT_MAX], text[CAL_ID_TEXT_MAX] = "";
    cal_buffer line;
    cal_buffer_init(&line, 1024);
    cal_id_to_hex(c->ns->id.bytes, ns);
    if (id) cal_id_to_hex(id, text);
    cal_buffer_printf(&line, "namespace %s: %s%s%s", ns, what, id ? " " : "", text);
    const char *ready = cal_buffer_cstr(&line);
    c->report(c->user, ready ? ready : what);
    c->findings++;
    cal_buffer_deinit(&line);
}

typedef int (*row_visitor)(checker *c, cal_slice rest, cal_slice value);

/* Every row of a kind; what its key says behind the kind. */
static int each_row(checker *c, const uint8_t *kind, row_visitor visit) {
    uint8_t prefix[GOV_GRAPH_KEY_MAX];
    cal_slice key, value, low = cal_slice_of(c->ns->id.bytes, 32);
    cal_cursor *cursor = NULL;
    cal_buffer end;
    if (kind) low = gov_graph_key(&c->ns->id, (gov_graph_row)*kind, NULL, 0, prefix);
    cal_buffer_init(&end, GOV_GRAPH_KEY_MAX);
    cal_prefix_end(low, &end);
    int result = end.error ? end.error
                           : cal_cursor_open(c->snapshot, CAL_COLUMN_GOVERNANCE, low,
                                             cal_buffer_slice(&end), false, &cursor);
    while (!result && (result = cal_cursor_next(cursor, &key, &value)) == 0)
        result = visit(c, cal_slice_of(key.data + low.len, key.len - low.len), value);
    cal_cursor_free(cursor);
    cal_buffer_deinit(&end);
    return result == CAL_ENOTFOUND ? 0 : result;
}

/* --- operations --- */

static void keep_write(void *user, const gov_write *write) {
    checker *c = user;
    uint8_t key[GOV_KEY_MAX + GOV_RANK_SIZE];
    gov_row *slot = gov_slot_new(write);
    void *old = NULL;
    memcpy(key, write->key.bytes, write->key.len);
    memcpy(key + write->key.len, write->rank, GOV_RANK_SIZE);
    if (!slot ||
        cal_sorted_put(&c->writes, cal_slice_of(key, write->key.len + GOV_RANK_SIZE), slot, &old)) {
        free(slot);
        c->error = CAL_ENOMEM;
    }
    free(old);
}

static void fold_op(checker *c, const gov_node *node, const gov_op *op, cal_arena *arena) {
    gov_group_op plain;
    gov_group_key key;
    gov_fold_op fold_op = {.id = node->id,
                           .generation = node->generation,
                           .sequence = node->sequence,
                           .author = node->has_author ? &node->author : NULL,
                           .group = op->group_id,
                           .namespace_id = &c->ns->id,
                           .proofs = c->fold.proofs};
    if (node->effect == GOV_EFFECT_NONE) return;
    if (node->effect == GOV_EFFECT_OPAQUE) fold_op.key_id = &op->key_id;
    if (node->effect == GOV_EFFECT_FULL && !op->group) fold_op.root = &op->root;
    if (node->effect == GOV_EFFECT_FULL && op->group) {
        if (!gov_key_find(&c->view, &op->group_id, &op->key_id, &key) &&
            !gov_key_find(&c->view, &c->ns->id, &op->key_id, &key)) {
            finding(c, "the key is missing of operation", node->id.bytes);
            return;
        }
        int result = gov_group_op_open(op->sealed, op->nonce, &key.key, arena, &plain);
        cal_secret_wipe(&key.key);
        if (result) {
            finding(c, "its key does not open operation", node->id.bytes);
            return;
        }
        fold_op.group_op = &plain;
    }
    gov_fold_add(&c->fold, &fold_op);
    gov_fold_writes(&fold_op, keep_write, c);
}

/* The parents by number must be those by id, and the generation one above theirs. */
static void check_parents(checker *c, const gov_node *node, const gov_ids *parents) {
    checked_op *ops = (checked_op *)(void *)c->ops.data;
    uint32_t generation = 0, at = 0;
    for (uint32_t i = 0; i < parents->count; i++) {
        if (gov_id_zero(parents->items[i].bytes)) continue;
        if (at >= node->parent_count ||
            !gov_id_equal(ops[node->parents[at] - 1].id.bytes, parents->items[i].bytes)) {
            finding(c, "a parent is missing of operation", node->id.bytes);
            return;
        }
        checked_op *parent = &ops[node->parents[at++] - 1];
        if (parent->generation + 1 > generation) generation = parent->generation + 1;
        if (!node->aside) parent->cited = true;
    }
    if (at != node->parent_count || generation != node->generation)
        finding(c, "its place is wrong of operation", node->id.bytes);
}

static void check_body(checker *c, const gov_node *node, cal_slice body) {
    cal_arena arena;
    gov_signed_op op;
    cal_hash id;
    cal_arena_init(&arena, 8 * GOV_OP_MAX);
    if (gov_signed_op_decode(body, &arena, &op))
        finding(c, "an operation does not decode:", node->id.bytes);
    else if (gov_signed_op_check(&op, NULL))
        finding(c, "an operation does not verify:", node->id.bytes);
    else {
        gov_signed_op_id(&op, &id);
        if (!gov_id_equal(id.bytes, node->id.bytes))
            finding(c, "an operation stands under another's id:", node->id.bytes);
        if (!gov_id_equal(op.namespace_id.bytes, c->ns->id.bytes))
            finding(c, "an operation is of another namespace:", node->id.bytes);
        check_parents(c, node, &op.parents);
        fold_op(c, node, &op.op, &arena);
    }
    cal_arena_deinit(&arena);
}

static void check_index(checker *c, const gov_node *node) {
    uint8_t key[GOV_GRAPH_KEY_MAX];
    uint64_t sequence = 0;
    uint32_t generation = 0;
    cal_buffer value;
    cal_buffer_init(&value, 64);
    int result =
        cal_snapshot_get(c->snapshot, CAL_COLUMN_GOVERNANCE,
                         gov_graph_key(&c->ns->id, GRAPH_INDEX, node->id.bytes, 32, key), &value);
    if (!result) result = gov_index_read(cal_buffer_slice(&value), &sequence, &generation);
    if (result || sequence != node->sequence || generation != node->generation)
        finding(c, "is not found by its id: operation", node->id.bytes);
    cal_buffer_deinit(&value);
}

static int check_node(checker *c, cal_slice rest, cal_slice value) {
    uint8_t key[GOV_GRAPH_KEY_MAX];
    gov_node node;
    uint64_t expected = c->ops.len / sizeof(checked_op) + 1;
    if (rest.len != 8 || cal_read_u32be(rest.data) != (uint32_t)(expected >> 32) ||
        cal_read_u32be(rest.data + 4) != (uint32_t)expected) {
        finding(c, "operations are missing, or counted wrong", NULL);
        return CAL_ENOTFOUND; /* numbers say nothing from here on */
    }
    int result = gov_node_read(value, expected, &node);
    if (result == CAL_ECORRUPT) {
        finding(c, "an operation's record is damaged", NULL);
        return CAL_ENOTFOUND;
    }
    if (result) return result;
    cal_buffer body;
    cal_buffer_init(&body, GOV_OP_MAX);
    result = cal_snapshot_get(c->snapshot, CAL_COLUMN_GOVERNANCE,
                              gov_graph_number_key(&c->ns->id, GRAPH_BODY, expected, key), &body);
    if (result == CAL_ENOTFOUND || result == CAL_ELIMIT) {
        finding(c, "an operation's bytes are missing:", node.id.bytes);
        result = 0;
    } else if (!result)
        check_body(c, &node, cal_buffer_slice(&body));
    check_index(c, &node);
    checked_op op = {node.id, node.generation, false, node.aside};
    if (!result) result = cal_buffer_append(&c->ops, &op, sizeof op);
    if (!result) result = c->error ? c->error : c->fold.error;
    cal_buffer_deinit(&body);
    free(node.parents);
    return result;
}

/* The heads are whoever nobody cites. */
static void check_heads(checker *c) {
    const checked_op *ops = (const checked_op *)(const void *)c->ops.data;
    cal_slice stored = gov_heads_get(&c->view);
    size_t count = c->ops.len / sizeof *ops, heads = 0;
    bool same = true;
    for (size_t i = 0; i < count && same; i++) {
        if (ops[i].cited || ops[i].aside) continue;
        heads++;
        same = false;
        for (size_t at = 0; at < stored.len && !same; at += 32)
            same = gov_id_equal(ops[i].id.bytes, stored.data + at);
    }
    if (!same || stored.len != heads * 32)
        finding(c, "the heads are not those of the operations", NULL);
    if (gov_sequence_get(&c->view) != count)
        finding(c, "operations are missing, or counted wrong", NULL);
}

/* --- the fold --- */

/* An operation that was opaque once has left two writes that the operation itself does not say. */
static bool is_opaque_mark(cal_slice slot) { return slot.len > 0 && slot.data[0] == ROW_OPAQUE; }

static bool equals(const gov_row *row, cal_slice value) {
    return row && row != &gov_row_absent &&
           cal_slice_equal(cal_slice_of(row->bytes, row->len), value);
}

static int check_slot(checker *c, cal_slice rest, cal_slice value) {
    if (!gov_slot_fits(rest, value) ||
        !equals(cal_sorted_get(&c->ns->graph->fold.slots, rest), value))
        finding(c, "a slot of the fold is damaged", NULL);
    else if (!is_opaque_mark(rest) && !equals(cal_sorted_get(&c->fold.slots, rest), value))
        finding(c, "a slot of the fold is not what the operations say", NULL);
    return 0;
}

static int check_past(checker *c, cal_slice rest, cal_slice value) {
    if (is_opaque_mark(rest)) return 0;
    gov_row *write = cal_sorted_remove(&c->writes, rest);
    if (!equals(write, value)) finding(c, "a past write is not what the operations say", NULL);
    free(write);
    return 0;
}

static void check_fold(checker *c) {
    const cal_sorted *kept = &c->ns->graph->fold.rows;
    cal_sorted_node *a = cal_sorted_from(kept, (cal_slice){0}),
                    *b = cal_sorted_from(&c->fold.rows, (cal_slice){0});
    bool same = kept->count == c->fold.rows.count;
    for (; a && b && same; a = a->next[0], b = b->next[0]) {
        const gov_row *x = a->value, *y = b->value;
        same = cal_slice_equal(a->key, b->key) && equals(x, cal_slice_of(y->bytes, y->len));
    }
    if (!same) finding(c, "the fold is not that of the operations", NULL);
    /* what is left of the writes must be what stands in the slots */
    cal_sorted_node *node = cal_sorted_from(&c->writes, (cal_slice){0});
    for (; node; node = node->next[0]) {
        const gov_row *write = node->value;
        cal_slice slot = {node->key.data, node->key.len - GOV_RANK_SIZE};
        if (!is_opaque_mark(slot) &&
            !equals(cal_sorted_get(&c->fold.slots, slot), cal_slice_of(write->bytes, write->len))) {
            finding(c, "a past write is missing", NULL);
            break;
        }
    }
}

static int check_kind(checker *c, cal_slice rest, cal_slice value) {
    static const uint8_t kinds[] = {GRAPH_INDEX, GRAPH_NODE, GRAPH_BODY,
                                    GRAPH_SLOT,  GRAPH_PAST, GRAPH_LAYOUT};
    size_t count = c->ops.len / sizeof(checked_op);
    uint8_t key[8] = {0};
    (void)value;
    if (rest.len == 32) {
        finding(c, "an operation was left behind by an older version:", rest.data);
        return 0;
    }
    if (rest.len < 1 || !memchr(kinds, rest.data[0], sizeof kinds)) {
        finding(c, "a row of an unknown kind", NULL);
        return 0;
    }
    if (rest.data[0] != GRAPH_BODY) return 0;
    if (rest.len == 9) memcpy(key, rest.data + 1, 8);
    if (rest.len != 9 || cal_read_u32be(key + 4) > count || cal_read_u32be(key) > count >> 32)
        finding(c, "bytes of no operation", NULL);
    return 0;
}

static int check_graph(checker *c) {
    static const uint8_t node = GRAPH_NODE, slot = GRAPH_SLOT, past = GRAPH_PAST;
    int result = each_row(c, &node, check_node);
    if (!result) check_heads(c);
    if (!result) result = each_row(c, &slot, check_slot);
    if (!result) result = each_row(c, &past, check_past);
    if (!result) check_fold(c);
    return result ? result : each_row(c, NULL, check_kind);
}

/* --- rows --- */

static bool has(const checker *c, gov_row_kind kind, const void *a, const void *b) {
    gov_key key = gov_key_of(kind, a, b, NULL);
    return gov_view_get(&c->view, &key, NULL);
}

static void check_rows(checker *c) {
    cal_slice rest, value;
    gov_walk walk = gov_walk_start(&c->view, ROW_META, NULL, NULL);
    while (gov_walk_next(&walk, &rest, &value)) {
        bool root = gov_id_equal(rest.data, c->ns->id.bytes);
        if (!root && !has(c, ROW_PARENT, rest.data, NULL))
            finding(c, "a group has no parent:", rest.data);
    }
    walk = gov_walk_start(&c->view, ROW_PARENT, NULL, NULL);
    while (gov_walk_next(&walk, &rest, &value)) {
        if (!has(c, ROW_META, rest.data, NULL))
            finding(c, "a parent is noted for a missing group:", rest.data);
        if (!has(c, ROW_META, value.data, NULL))
            finding(c, "the parent does not exist of group", rest.data);
        if (!has(c, ROW_CHILD, value.data, rest.data))
            finding(c, "its parent does not list group", rest.data);
    }
    walk = gov_walk_start(&c->view, ROW_CHILD, NULL, NULL);
    while (gov_walk_next(&walk, &rest, &value)) {
        gov_key key = gov_key_of(ROW_PARENT, rest.data + 32, NULL, NULL);
        cal_slice parent;
        if (!gov_view_get(&c->view, &key, &parent) || !gov_id_equal(parent.data, rest.data))
            finding(c, "a group is listed under another than its parent:", rest.data + 32);
    }
    walk = gov_walk_start(&c->view, ROW_CONTEXT, NULL, NULL);
    while (gov_walk_next(&walk, &rest, &value)) {
        gov_key key = gov_key_of(ROW_CONTEXT_GROUP, rest.data + 32, NULL, NULL);
        cal_slice group;
        if (!has(c, ROW_META, rest.data, NULL))
            finding(c, "a context is registered in a missing group:", rest.data + 32);
        if (!gov_view_get(&c->view, &key, &group) || !gov_id_equal(group.data, rest.data))
            finding(c, "the group is not noted of context", rest.data + 32);
    }
    walk = gov_walk_start(&c->view, ROW_CONTEXT_GROUP, NULL, NULL);
    while (gov_walk_next(&walk, &rest, &value))
        if (!has(c, ROW_CONTEXT, value.data, rest.data))
            finding(c, "the registration is missing of context", rest.data);
    walk = gov_walk_start(&c->view, ROW_KEY, NULL, NULL);
    while (gov_walk_next(&walk, &rest, &value)) {
        uint8_t id[32];
        cal_sha256(cal_slice_of(value.data, 32), id);
        if (!gov_id_equal(id, rest.data + 32))
            finding(c, "a key does not have its id:", rest.data + 32);
    }
}

static void free_writes(cal_sorted *writes) {
    cal_sorted_node *node = cal_sorted_from(writes, (cal_slice){0});
    for (; node; node = node->next[0]) free(node->value);
    cal_sorted_deinit(writes);
}

int gov_check(cal_gov *gov, cal_snapshot *snapshot, void (*report)(void *user, const char *finding),
              void *user) {
    size_t findings = 0;
    int result = 0;
    cal_sorted_node *node = cal_sorted_from(&gov->namespaces, (cal_slice){0});
    for (; node && !result; node = node->next[0]) {
        checker c = {
            .gov = gov, .ns = node->value, .snapshot = snapshot, .report = report, .user = user};
        c.view = gov_view_of(c.ns);
        gov_fold_init(&c.fold, &c.ns->id, NULL);
        c.fold.judges = true;
        c.fold.proofs = &gov->proofs;
        cal_sorted_init(&c.writes);
        cal_buffer_init(&c.ops, CHECK_MAX);
        if (!has(&c, ROW_META, c.ns->id.bytes, NULL)) finding(&c, "its record is missing", NULL);
        result = check_graph(&c);
        if (!result) check_rows(&c);
        findings += c.findings;
        gov_fold_deinit(&c.fold);
        free_writes(&c.writes);
        cal_buffer_deinit(&c.ops);
    }
    return result ? result : findings ? CAL_ECORRUPT : 0;
}
