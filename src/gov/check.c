/* Checking what is stored: the operations of each namespace against themselves and the rows against
 * one another. See gov.h. */
#include <stdlib.h>

#include "codec/text.h"
#include "dag/dag.h"
#include "gov/internal.h"

enum { LOG_HEADER = 9, CHECK_ARENA_MAX = 1024 * 1024 * 1024 };

typedef struct {
    const gov_namespace *ns;
    gov_view view;
    void (*report)(void *user, const char *finding);
    void *user;
    size_t findings;
    cal_arena arena;  /* parents of all operations */
    cal_buffer ops;   /* of dag_op */
    uint64_t highest; /* sequence */
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

/* --- operations --- */

static void check_op(checker *c, cal_slice key, cal_slice value) {
    cal_arena scratch;
    gov_signed_op op;
    cal_hash id;
    if (key.len != 64 || value.len < LOG_HEADER) {
        finding(c, "an operation's record is damaged", NULL);
        return;
    }
    cal_arena_init(&scratch, 8 * GOV_OP_MAX);
    if (gov_signed_op_decode(cal_slice_of(value.data + LOG_HEADER, value.len - LOG_HEADER),
                             &scratch, &op))
        finding(c, "an operation does not decode:", key.data + 32);
    else if (gov_signed_op_check(&op, NULL))
        finding(c, "an operation does not verify:", key.data + 32);
    else {
        gov_signed_op_id(&op, &id);
        if (!gov_id_equal(id.bytes, key.data + 32))
            finding(c, "an operation stands under another's id:", key.data + 32);
        if (!gov_id_equal(op.namespace_id.bytes, c->ns->id.bytes))
            finding(c, "an operation is of another namespace:", key.data + 32);
        const cal_hash *parents =
            cal_arena_copy(&c->arena, op.parents.items, op.parents.count * sizeof(cal_hash));
        dag_op entry = {id, parents, parents ? op.parents.count : 0};
        cal_buffer_append(&c->ops, &entry, sizeof entry);
        uint64_t sequence = cal_read_u64le(value.data);
        if (sequence > c->highest) c->highest = sequence;
    }
    cal_arena_deinit(&scratch);
}

static int read_ops(checker *c, cal_snapshot *snapshot) {
    cal_slice prefix = cal_slice_of(c->ns->id.bytes, 32), key, value;
    cal_cursor *cursor;
    cal_buffer end;
    cal_buffer_init(&end, 64);
    cal_prefix_end(prefix, &end);
    int result = cal_cursor_open(snapshot, CAL_COLUMN_GOVERNANCE, prefix, cal_buffer_slice(&end),
                                 false, &cursor);
    if (!result) {
        while ((result = cal_cursor_next(cursor, &key, &value)) == 0) check_op(c, key, value);
        if (result == CAL_ENOTFOUND) result = 0;
        cal_cursor_free(cursor);
    }
    cal_buffer_deinit(&end);
    return result;
}

/* Sequence and heads must be what the operations say. */
static int check_order(checker *c) {
    const dag_op *ops = (const dag_op *)(const void *)c->ops.data;
    size_t count = c->ops.len / sizeof *ops;
    size_t *order = calloc(count + 1, sizeof *order);
    cal_dag *dag = dag_new(count, NULL);
    int result = order && dag ? dag_sort(ops, count, order) : CAL_ENOMEM;
    if (result == CAL_EDECODE) finding(c, "the operations cite one another in a circle", NULL);
    for (size_t i = 0; i < count && !result; i++) {
        int applied = dag_apply(dag, &ops[order[i]]);
        if (applied == CAL_ESTATE)
            finding(c, "a parent is missing of operation", ops[order[i]].id.bytes);
        else if (applied == CAL_ENOMEM)
            result = applied;
    }
    if (!result) {
        const cal_hash *heads;
        size_t head_count = dag_heads(dag, &heads);
        cal_slice stored = gov_heads_get(&c->view);
        bool same = stored.len == head_count * sizeof *heads;
        for (size_t i = 0; i < head_count && same; i++) {
            same = false;
            for (size_t at = 0; at < stored.len && !same; at += 32)
                same = gov_id_equal(heads[i].bytes, stored.data + at);
        }
        if (!same) finding(c, "the heads are not those of the operations", NULL);
        if (gov_sequence_get(&c->view) != count || c->highest != count)
            finding(c, "operations are missing, or counted wrong", NULL);
    }
    dag_free(dag);
    free(order);
    return result == CAL_EDECODE ? 0 : result;
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

int gov_check(cal_gov *gov, cal_snapshot *snapshot, void (*report)(void *user, const char *finding),
              void *user) {
    size_t findings = 0;
    int result = 0;
    cal_sorted_node *node = cal_sorted_from(&gov->namespaces, (cal_slice){0});
    for (; node && !result; node = node->next[0]) {
        checker c = {.ns = node->value, .report = report, .user = user};
        c.view = gov_view_of(c.ns);
        cal_arena_init(&c.arena, CHECK_ARENA_MAX);
        cal_buffer_init(&c.ops, CHECK_ARENA_MAX);
        if (!has(&c, ROW_META, c.ns->id.bytes, NULL)) finding(&c, "its record is missing", NULL);
        result = read_ops(&c, snapshot);
        if (!result) result = c.ops.error;
        if (!result) result = check_order(&c);
        if (!result) check_rows(&c);
        findings += c.findings;
        cal_arena_deinit(&c.arena);
        cal_buffer_deinit(&c.ops);
    }
    return result ? result : findings ? CAL_ECORRUPT : 0;
}
