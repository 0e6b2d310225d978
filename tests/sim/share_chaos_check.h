/* What must be true of the nodes of share_chaos_sim_test.c. */
#ifndef CAL_TESTS_SHARE_CHAOS_CHECK_H
#define CAL_TESTS_SHARE_CHAOS_CHECK_H

#include "gov/graph.h"
#include "share_chaos_world.h"

typedef struct seen {
    cal_hash root;
    cal_hash heads[64];
    size_t head_count;
    cal_hash ops[64];
    size_t op_heads;
    uint64_t op_count;
} seen;

static void note_state(void *user, const cal_context_info *info) {
    seen *s = user;
    s->root = info->root;
    s->head_count = info->head_count < 64 ? info->head_count : 64;
    memcpy(s->heads, info->heads, s->head_count * sizeof *s->heads);
}

static int compare_hashes(const void *a, const void *b) { return memcmp(a, b, sizeof(cal_hash)); }

static void state_of(place *p, const scope *of, seen *s) {
    memset(s, 0, sizeof *s);
    cal_context_get(node_at(p), &of->context, note_state, s);
    cal_gov *gov = node_at(p)->gov;
    s->op_heads = gov_heads(gov, &c.ns, s->ops, 64);
    s->op_count = gov_op_count(gov, &c.ns);
    qsort(s->heads, s->head_count, sizeof *s->heads, compare_hashes);
    qsort(s->ops, s->op_heads, sizeof *s->ops, compare_hashes);
}

/* As the founder, whose word it is, has it now; of the group and of the namespace. */
static bool is_member(place *p, const scope *of) {
    cal_gov *gov = node_at(&c.w->places[0])->gov;
    const cal_account_id *account = &c.account[p->index];
    return gov_member_path(gov, &of->group, account, NULL) != GOV_PATH_NONE &&
           gov_member_path(gov, &c.ns, account, NULL) != GOV_PATH_NONE;
}

/* --- the rows of a group: as they are now, and as its operations fold --- */

/* Not those that are a node's own: keys and what is known of them (K, d, n, L), its graph's heads
 * by its own numbers (H), what it counts of its own (W, J). */
static const char group_rows[] = "MRCDVPSXGETIQuyUgkow", namespace_rows[] = "ABOZYr";

/* Without the time at which the node heard of it. */
static cal_slice without_time(char kind, cal_slice value) {
    enum { META_TIME_AT = 4 * 32, DATA_TIME = 8 /* at the start */ };
    if (kind == ROW_META && value.len > META_TIME_AT) value.len = META_TIME_AT;
    if ((kind == ROW_GROUP_DATA || kind == ROW_MEMBER_DATA || kind == ROW_CONTEXT_DATA) &&
        value.len > DATA_TIME)
        value = cal_slice_of(value.data + DATA_TIME, value.len - DATA_TIME);
    return value;
}

/* A member's own row of capabilities that says what the group's default says: whether it is there
 * depends on the order in which a leave and a change of role beside it came, and it changes
 * nobody's rights while the default stays. */
static bool is_default(const gov_view *view, char kind, const cal_group_id *group,
                       cal_slice value) {
    gov_key key = gov_key_of(ROW_DEFAULTS, group ? group->bytes : NULL, NULL, NULL);
    cal_slice defaults;
    return kind == ROW_CAPABILITIES && gov_view_get(view, &key, &defaults) &&
           cal_slice_compare(defaults, value) == 0;
}

static void add_rows(cal_buffer *out, const gov_view *view, char kind, const cal_group_id *group) {
    gov_walk walk = gov_walk_start(view, (gov_row_kind)kind, group ? group->bytes : NULL, NULL);
    cal_slice rest, value;
    while (gov_walk_next(&walk, &rest, &value)) {
        if (is_default(view, kind, group, value)) continue;
        value = without_time(kind, value);
        cal_buffer_append_u8(out, (uint8_t)kind);
        cal_buffer_append_u32le(out, (uint32_t)rest.len);
        cal_buffer_append_u32le(out, (uint32_t)value.len);
        cal_buffer_append_slice(out, rest);
        cal_buffer_append_slice(out, value);
    }
}

static void add_all_rows(cal_buffer *out, const gov_view *view, const cal_group_id *group) {
    for (const char *kind = group_rows; *kind; kind++) add_rows(out, view, *kind, group);
    if (memcmp(group, &c.ns, sizeof c.ns) != 0) return;
    for (const char *kind = namespace_rows; *kind; kind++) add_rows(out, view, *kind, NULL);
}

static void rows_of(place *p, const cal_group_id *group, cal_buffer *ret_now,
                    cal_buffer *ret_fold) {
    cal_gov *gov = node_at(p)->gov;
    gov_namespace *ns = gov_namespace_find(gov, &c.ns);
    gov_change look;
    gov_wait wait;
    cal_buffer_init(ret_now, 1 << 20);
    cal_buffer_init(ret_fold, 1 << 20);
    if (!ns) return;
    gov_view view = gov_view_of(ns), fold;
    cal_slice heads = gov_heads_get(&view);
    add_all_rows(ret_now, &view, group);
    gov_look_begin(gov, ns, &look);
    int rc = gov_cut_view(&look, (const cal_hash *)(const void *)heads.data,
                          (uint32_t)(heads.len / 32), &fold, &wait);
    CHECK(c.w, rc == 0, "place %zu has no fold at its heads", p->index);
    if (heads.len > 0) add_all_rows(ret_fold, &fold, group);
    gov_look_end(&look);
    assert_int_equal(ret_now->error + ret_fold->error, 0);
}

static bool same_bytes(const cal_buffer *a, const cal_buffer *b) {
    return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/* What one has and the other has not. */
static void print_missing(const char *whose, const cal_buffer *rows, const cal_buffer *other) {
    for (size_t at = 0, len; at < rows->len; at += len) {
        const uint8_t *row = rows->data + at;
        bool found = false;
        uint32_t key = cal_read_u32le(row + 1), value = cal_read_u32le(row + 5);
        len = 9 + key + value;
        for (size_t i = 0, other_len; i < other->len && !found; i += other_len) {
            const uint8_t *theirs = other->data + i;
            other_len = 9 + cal_read_u32le(theirs + 1) + cal_read_u32le(theirs + 5);
            found = other_len == len && memcmp(row, theirs, len) == 0;
        }
        if (found) continue;
        print_error("  only %s: %c ", whose, row[0]);
        for (size_t i = 9; i < len && i < 9 + 140; i++)
            print_error("%s%02x", i == 9 + key ? " = " : (i - 9) % 32 ? "" : " ", row[i]);
        print_error("\n");
    }
}

static bool same_rows(place *one, place *other, const cal_group_id *group, bool explain) {
    cal_buffer rows[2][2];
    rows_of(one, group, &rows[0][0], &rows[0][1]);
    rows_of(other, group, &rows[1][0], &rows[1][1]);
    bool same = same_bytes(&rows[0][0], &rows[1][0]) && same_bytes(&rows[0][1], &rows[1][1]);
    for (int fold = 0; explain && !same && fold < 2; fold++) {
        print_error("%s of place %zu and %zu:\n", fold ? "fold" : "rows", one->index, other->index);
        print_missing("the first", &rows[0][fold], &rows[1][fold]);
        print_missing("the second", &rows[1][fold], &rows[0][fold]);
    }
    for (int i = 0; i < 4; i++) cal_buffer_deinit(&rows[i / 2][i % 2]);
    return same;
}

/* Heads may differ: who began with a whole state may have one more, below the others, until it
 * writes. */
static bool are_equal(place *one, place *other, const scope *of) {
    seen first, second;
    state_of(one, of, &first);
    state_of(other, of, &second);
    return memcmp(&first.root, &second.root, sizeof first.root) == 0 &&
           first.op_count == second.op_count && first.op_heads == second.op_heads &&
           memcmp(first.ops, second.ops, sizeof first.ops) == 0 &&
           same_rows(one, other, &of->group, false);
}

/* Every member of a scope and the founder, who is in all of them and knows of whoever joined. */
static bool all_equal(size_t *ret_other, size_t *ret_scope) {
    *ret_scope = 0;
    for (*ret_other = 1; *ret_other < c.members; ++*ret_other)
        if (c.standing[*ret_other] == MEMBER && !c.ever_gone[*ret_other][0] &&
            !is_member(&c.w->places[*ret_other], &c.scopes[0]))
            return false;
    for (size_t s = 0; s < c.scope_count; s++)
        for (size_t i = 1; i < c.members; i++) {
            *ret_other = i;
            *ret_scope = s;
            if (is_member(&c.w->places[i], &c.scopes[s]) &&
                !are_equal(&c.w->places[0], &c.w->places[i], &c.scopes[s]))
                return false;
        }
    return true;
}

#endif
