/* One signed operation into a namespace: the frame around the handlers (governance.md 6).
 *
 * Order: is it known, the rows at its parents, who signs, the key it is sealed with, whether those
 * rows can be read for its group, the handler's gate and effect, and last its place in the graph.
 * An operation of a group whose key we lack is kept for causality; its effect follows when the key
 * arrives. Whatever a handler put is undone unless its verdict is that the operation applies, so a
 * change holds nothing of operations that were refused, wait, or are kept without effect.
 *
 * Loop thread. */
#include <assert.h>
#include <stdlib.h>

#include "base/error.h"
#include "gov/draft.h"

/* --- who signs --- */

static bool in_group(const gov_apply *apply, const cal_group_id *group) {
    return apply->attributed && gov_path_of(&apply->cut, group, &apply->signer, NULL);
}

/* Of the group or of one above it, whatever their visibility: somebody who may well have a say. */
static bool in_group_or_above(const gov_apply *apply, cal_group_id group) {
    for (int steps = 0; steps <= GOV_ROOT_WALK_MAX; steps++) {
        if (in_group(apply, &group)) return true;
        if (!gov_group_parent(&apply->cut, &group, &group)) break;
    }
    return in_group(apply, &apply->view.namespace_id);
}

/* The group that the operation's gates ask about; the namespace for most of the clear ones. */
static cal_group_id group_of_op(const gov_op *op, const cal_group_id *namespace_id) {
    if (op->group) return op->group_id;
    switch ((gov_root_kind)op->root.kind) {
    case GOV_MEMBER_JOINED:
    case GOV_MEMBER_JOINED_AT:
        return op->root.invitation.group;
    case GOV_MEMBER_JOINED_OPEN:
    case GOV_KEY_DELIVERY:
    case GOV_GROUP_DELETED:
        return op->root.group;
    default:
        return *namespace_id;
    }
}

static cal_group_id asked_group(const gov_apply *apply) {
    return group_of_op(&apply->op->op, &apply->view.namespace_id);
}

static bool group_known(const gov_view *view, const cal_group_id *group) {
    return gov_id_equal(group->bytes, view->namespace_id.bytes) || gov_meta_get(view, group, NULL);
}

/* --- sealed operations --- */

static bool find_key(const gov_apply *apply, const cal_group_id *group, const cal_hash *key_id,
                     gov_group_key *ret_key) {
    return gov_key_find(&apply->view, group, key_id, ret_key) ||
           gov_key_find(&apply->view, &apply->view.namespace_id, key_id, ret_key);
}

/* A member's operation was opened with the key: members have it (governance.md 18.2, G1). */
static void confirm_key(const gov_apply *apply) {
    const gov_op *op = &apply->op->op;
    if (!in_group_or_above(apply, op->group_id)) return;
    gov_key_confirm(apply->change, &op->group_id, &op->key_id);
    gov_key_confirm(apply->change, &apply->view.namespace_id, &op->key_id);
}

/* First of the numbers in a window's row that is not smaller; all are above the floor. */
static size_t number_place(cal_slice row, uint64_t nonce) {
    size_t low = 1, high = row.len / 8;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (cal_read_u64le(row.data + 8 * middle) < nonce)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The number that continues the floor: what it joins is found by the window itself. */
static int join_floor(cal_slice row, uint64_t nonce, cal_buffer *ret_row) {
    gov_nonce_window window = {.floor = cal_read_u64le(row.data)};
    bool ignored;
    int result = 0;
    for (size_t at = 8; at < row.len && !result; at += 8)
        result = gov_nonce_record(&window, cal_read_u64le(row.data + at), &ignored);
    if (!result) result = gov_nonce_record(&window, nonce, &ignored);
    cal_buffer_append_u64le(ret_row, window.floor);
    for (size_t i = 0; i < window.count; i++) cal_buffer_append_u64le(ret_row, window.above[i]);
    gov_nonce_window_deinit(&window);
    return result ? result : ret_row->error;
}

/* Nonces of others' group operations; our own cannot repeat, and their identity is the log's. The
 * row is a gov_nonce_window, and long where a signer's numbers go to several groups: so a number is
 * put into it as it stands. */
static int check_nonce(gov_apply *apply, const cal_group_id *group, bool *ret_seen) {
    static const uint8_t none[8];
    const uint64_t nonce = apply->op->nonce;
    gov_key key = gov_key_of(ROW_NONCES, group->bytes, apply->op->signer, NULL);
    cal_slice row = cal_slice_of(none, sizeof none);
    cal_buffer value;
    *ret_seen = false;
    if (gov_id_equal(apply->op->signer, apply->change->gov->identity.sign_key.bytes)) return 0;
    gov_view_get(&apply->view, &key, &row);
    uint64_t floor = cal_read_u64le(row.data);
    size_t at = 8 * number_place(row, nonce);
    *ret_seen = nonce <= floor || (at < row.len && cal_read_u64le(row.data + at) == nonce);
    if (*ret_seen) return 0;
    bool next = nonce == floor + 1;
    bool full = nonce - floor > GOV_NONCE_GAP_MAX || row.len / 8 - 1 >= GOV_NONCE_SET_MAX;
    cal_buffer_init(&value, 8 * (GOV_NONCE_SET_MAX + 1));
    int result = next ? join_floor(row, nonce, &value) : 0;
    if (!next && full) cal_buffer_append_slice(&value, row);
    if (!next && !full) {
        cal_buffer_append(&value, row.data, at);
        cal_buffer_append_u64le(&value, nonce);
        cal_buffer_append(&value, row.data + at, row.len - at);
    }
    if (!result) result = value.error;
    if (!result) gov_change_put(apply->change, key, cal_buffer_slice(&value));
    cal_buffer_deinit(&value);
    return result;
}

/* The key is not here. An operation of somebody who has no say in the group cannot make the cuts
 * above it unreadable (governance.md 18.2, G3); whether that is so must itself be readable. */
static gov_reason keep_sealed(const gov_apply *apply) {
    const cal_group_id *group = &apply->op->op.group_id;
    gov_wait ignored;
    if (gov_cut_readable(&apply->cut, group, &ignored)) return GOV_WHY_SEALED;
    if (!group_known(&apply->cut, group)) return GOV_WHY_NO_GROUP;
    return in_group_or_above(apply, *group) ? GOV_WHY_SEALED : GOV_WHY_STRANGER;
}

void gov_change_put_sealed(gov_change *change, const gov_signed_op *op, const cal_hash *id) {
    uint8_t value[32 + 32 + 8 + 8];
    memcpy(value, op->op.key_id.bytes, 32);
    memcpy(value + 32, op->signer, 32);
    cal_write_u64le(value + 64, op->nonce);
    cal_write_u64le(value + 72, gov_graph_top(change) + 1); /* the place that it is about to get */
    gov_change_put(change, gov_key_of(ROW_SEALED, op->op.group_id.bytes, id->bytes, NULL),
                   cal_slice_of(value, sizeof value));
}

static gov_reason opened_wrong(int result) {
    return result == CAL_EVERIFY        ? GOV_WHY_SEAL_WRONG
           : result == CAL_EUNSUPPORTED ? GOV_WHY_SEALED_UNKNOWN
           : result == CAL_ELIMIT       ? GOV_WHY_SEALED_BOUNDS
                                        : GOV_WHY_SEALED_MALFORMED;
}

static int apply_sealed(gov_apply *apply, cal_arena *arena, gov_group_op *ret_plain,
                        gov_judgement *judgement) {
    const gov_op *op = &apply->op->op;
    gov_group_key key;
    apply->opened = false;
    if (!find_key(apply, &op->group_id, &op->key_id, &key)) {
        judgement->reason = keep_sealed(apply);
        return 0;
    }
    int result = gov_group_op_open(op->sealed, op->nonce, &key.key, arena, ret_plain);
    cal_secret_wipe(&key.key);
    if (!result) result = gov_group_op_check(ret_plain);
    if (result == CAL_ENOMEM) return result;
    if (result) {
        judgement->reason = opened_wrong(result);
        return 0;
    }
    apply->opened = true;
    if (!group_known(&apply->view, &op->group_id)) {
        judgement->reason = GOV_WHY_NO_GROUP;
        return 0;
    }
    if (gov_cut_readable(&apply->cut, &op->group_id, &judgement->wait)) {
        /* What is below it cannot be read: as if it could not itself. It must not keep aside what
         * others say in other groups on top of it. */
        apply->opened = false;
        judgement->reason = GOV_WHY_SEALED;
        return 0;
    }
    bool seen;
    if ((result = check_nonce(apply, &op->group_id, &seen))) return result;
    judgement->reason =
        seen ? GOV_WHY_NUMBER_USED : gov_apply_group(apply, &op->group_id, ret_plain);
    if (judgement->reason == GOV_WHY_FINE) gov_take_rotation(apply, &op->group_id, &op->rotation);
    return 0;
}

/* --- judging --- */

static int apply_root(gov_apply *apply, gov_judgement *judgement) {
    const gov_root_op *op = &apply->op->op.root;
    cal_group_id group = asked_group(apply);
    bool asks = op->kind != GOV_NAMESPACE_CREATED && !gov_joins_itself(apply) &&
                op->kind != GOV_KEY_DELIVERY; /* which brings what makes the rest readable */
    if (asks && (gov_cut_readable(&apply->cut, &group, &judgement->wait) ||
                 gov_cut_readable(&apply->cut, &apply->view.namespace_id, &judgement->wait)))
        judgement->reason = GOV_WHY_KEY_LACKS;
    else
        judgement->reason = gov_apply_root(apply, op);
    return 0;
}

static gov_reason waits_for(const gov_wait *wait) {
    return wait->kind == GOV_WAIT_PARENT ? GOV_WHY_PARENT_LACKS
           : wait->kind == GOV_WAIT_KEY  ? GOV_WHY_KEY_LACKS
                                         : GOV_WHY_HISTORY_LACKS;
}

/* Without parents it would be judged by the present rows, of which there are none before the
 * founder's operation: what a joiner receives comes in any order. */
static bool before_founder(const gov_apply *apply) {
    const gov_ids *parents = &apply->op->parents;
    const gov_op *op = &apply->op->op;
    gov_meta meta;
    if (!op->group && op->root.kind == GOV_NAMESPACE_CREATED) return false;
    for (uint32_t i = 0; i < parents->count; i++)
        if (!gov_id_zero(parents->items[i].bytes)) return false;
    return !gov_meta_get(&apply->view, &apply->view.namespace_id, &meta) ||
           gov_id_zero(meta.admin.bytes);
}

/* What it waits for when another namespace is storing the object that it makes. */
static void wait_for_object(const gov_apply *apply, const gov_group_op *plain, gov_wait *ret_wait) {
    ret_wait->kind = GOV_WAIT_OBJECT;
    memcpy(ret_wait->id.bytes, plain ? plain->context.bytes : apply->op->op.root.group.bytes, 32);
}

/* The rows at the operation's parents. */
static int find_cut(gov_apply *apply, gov_judgement *judgement, cal_error *err) {
    const gov_ids *parents = &apply->op->parents;
    int result =
        gov_cut_view(apply->change, parents->items, parents->count, &apply->cut, &judgement->wait);
    if (result == CAL_ESTATE) {
        judgement->reason = waits_for(&judgement->wait);
        return 0;
    }
    if (result)
        return cal_fail(err, result, "the rows at an operation's parents: %s",
                        cal_error_text(result));
    if (before_founder(apply)) {
        judgement->reason = GOV_WHY_HISTORY_LACKS;
        judgement->wait = (gov_wait){.kind = GOV_WAIT_HISTORY};
    }
    return 0;
}

/* Asks what is to be asked of the cut. The rows put stand in an open savepoint. */
static int judge_at(gov_apply *apply, gov_verified *op, gov_group_op *ret_plain,
                    gov_judgement *judgement, cal_error *err) {
    apply->attributed = gov_account_of_key(&apply->cut, op->op.signer, &apply->signer);
    int result = op->op.op.group ? apply_sealed(apply, &op->arena, ret_plain, judgement)
                                 : apply_root(apply, judgement);
    if (!result) result = apply->change->error;
    if (!result && judgement->reason == GOV_WHY_OBJECT_OPEN)
        wait_for_object(apply, op->op.op.group ? ret_plain : NULL, &judgement->wait);
    return result ? cal_fail(err, result, "an operation could not be judged: %s",
                             cal_error_text(result))
                  : 0;
}

static int judge(gov_apply *apply, gov_verified *op, gov_group_op *ret_plain,
                 gov_judgement *judgement, cal_error *err) {
    judgement->reason = GOV_WHY_FINE;
    int result = find_cut(apply, judgement, err);
    if (result || judgement->reason != GOV_WHY_FINE) return result;
    return judge_at(apply, op, ret_plain, judgement, err);
}

static gov_effect effect_of(gov_reason reason) {
    return reason == GOV_WHY_FINE     ? GOV_EFFECT_FULL
           : reason == GOV_WHY_SEALED ? GOV_EFFECT_OPAQUE
                                      : GOV_EFFECT_NONE;
}

static gov_noted noted_of(const gov_apply *apply, const gov_verified *op, gov_reason reason,
                          const gov_group_op *plain) {
    bool kept = gov_reason_verdict(reason) == GOV_KEPT;
    return (gov_noted){
        .id = op->id,
        .op = &op->op,
        .bytes = cal_slice_of(op->bytes, op->len),
        .effect = effect_of(reason),
        .aside =
            kept && (!gov_reason_cited(reason) || !in_group_or_above(apply, asked_group(apply))),
        .plain = op->op.op.group && reason == GOV_WHY_FINE ? plain : NULL,
        .author = apply->attributed ? &apply->signer : NULL,
    };
}

static gov_reason known_reason(gov_effect effect) {
    return effect == GOV_EFFECT_FULL     ? GOV_WHY_FINE
           : effect == GOV_EFFECT_OPAQUE ? GOV_WHY_SEALED
                                         : GOV_WHY_BEFORE;
}

/* --- beside others --- */

/* It cites every head: nothing here is concurrent with it, and nothing comes after it. */
static bool is_last(const gov_apply *apply) {
    cal_slice heads = gov_heads_get(&apply->view);
    for (size_t at = 0; at < heads.len; at += 32) {
        bool cited = false;
        for (uint32_t i = 0; i < apply->op->parents.count && !cited; i++)
            cited = gov_id_equal(apply->op->parents.items[i].bytes, heads.data + at);
        if (!cited) return false;
    }
    return true;
}

/* Whether the operation's write stands in the fold's slot. */
static bool holds(const gov_apply *apply, gov_key slot, uint64_t sequence) {
    gov_write write;
    return !gov_fold_slot(&apply->change->draft->fold, &slot, &write) || write.sequence == sequence;
}

/* The membership that the operation leaves in its savepoint is the one of the present fold. */
static bool holds_member(const gov_apply *apply, const uint8_t group[32],
                         const uint8_t account[32]) {
    gov_view fold = gov_fold_view(&apply->change->draft->fold, 0);
    gov_key key = gov_key_of(ROW_MEMBER, group, account, NULL);
    cal_slice there, here;
    bool is = gov_view_get(&fold, &key, &there), was = gov_view_get(&apply->view, &key, &here);
    return is == was && (!is || there.data[0] == here.data[0]);
}

/* With a row of its own in the present fold, whatever its role. */
static bool is_member_now(const gov_apply *apply, const uint8_t group[32],
                          const uint8_t account[32]) {
    gov_view fold = gov_fold_view(&apply->change->draft->fold, 0);
    gov_key key = gov_key_of(ROW_MEMBER, group, account, NULL);
    return gov_view_get(&fold, &key, NULL);
}

/* It was a member with a row of its own at the cut, and is none now. */
static bool gone_since(const gov_apply *apply, const uint8_t group[32], const uint8_t account[32]) {
    gov_key key = gov_key_of(ROW_MEMBER, group, account, NULL);
    return gov_view_get(&apply->cut, &key, NULL) && !is_member_now(apply, group, account);
}

/* When the namespace was left the account had a row of its own in the group. */
static bool was_member_at(const gov_apply *apply, const gov_write *left, const gov_key *member) {
    gov_change *change = apply->change;
    const gov_fold *then;
    gov_write write;
    int result = gov_cut_at(change, left->sequence, &then);
    if (result && !change->error) change->error = result;
    return !result && gov_fold_slot(then, member, &write) && write.present;
}

/* Of a removal and a leave, also one of the whole namespace, the last by rank says how it ended. */
static bool ended_it(const gov_apply *apply, const uint8_t group[32], const uint8_t account[32],
                     uint64_t sequence) {
    const gov_fold *fold = &apply->change->draft->fold;
    gov_key member = gov_key_of(ROW_MEMBER, group, account, NULL),
            left = gov_key_of((gov_row_kind)SLOT_LEFT, account, NULL, NULL);
    gov_write one, all;
    bool has_one = gov_fold_slot(fold, &member, &one), has_all = gov_fold_slot(fold, &left, &all);
    bool later = has_all && (!has_one || memcmp(one.rank, all.rank, GOV_RANK_SIZE) < 0);
    if (later && (!has_one || was_member_at(apply, &all, &member))) return all.sequence == sequence;
    return has_one && one.sequence == sequence;
}

static bool ends_membership(const gov_group_op *plain) {
    return plain && (plain->kind == GOV_MEMBER_REMOVED || plain->kind == GOV_MEMBER_LEFT);
}

/* A group that goes takes all its rows with it. */
static bool ends_group(const gov_apply *apply, const gov_group_op *plain) {
    return plain ? plain->kind == GOV_GROUP_DELETE : apply->op->op.root.kind == GOV_GROUP_DELETED;
}

/* Whether a row that the operation put is overruled by an operation beside or above it. What has
 * no slot in the fold stays. */
static bool overruled(const gov_apply *apply, const gov_group_op *plain, cal_slice row,
                      uint64_t sequence) {
    const uint8_t *a = row.data + 1, *b = a + 32;
    gov_key same = {.len = row.len};
    memcpy(same.bytes, row.data, row.len);
    bool ends = ends_membership(plain);
    if (ends_group(apply, plain)) return false;
    switch ((gov_row_kind)row.data[0]) {
    case ROW_MEMBER:
        if (!plain && apply->op->op.root.kind == GOV_GROUP_CREATED) return false; /* the first */
        return plain && plain->kind == GOV_AUTO_FOLLOW_SET
                   ? !holds(apply, gov_key_of((gov_row_kind)SLOT_FOLLOW, a, b, NULL), sequence)
                   : !holds_member(apply, a, b);
    case ROW_CAPABILITIES:
    case ROW_MEMBER_DATA:
        if (ends) return !holds_member(apply, a, b);
        if (plain && plain->kind == GOV_MEMBER_ADDED) return !is_member_now(apply, a, b);
        return gone_since(apply, a, b) || !holds(apply, same, sequence);
    case ROW_REENTRY:
        return !holds_member(apply, a, b) || (ends && !ended_it(apply, a, b, sequence));
    case ROW_DEFAULTS:
    case ROW_VISIBILITY:
    case ROW_PARENT:
    case ROW_GROUP_DATA:
    case ROW_CONTEXT_DATA:
    case ROW_MIGRATION:
        return !holds(apply, same, sequence);
    case ROW_CHILD: /* with the group's parent */
        return !holds(apply, gov_key_of(ROW_PARENT, b, NULL, NULL), sequence);
    case ROW_META:
        if (plain && plain->kind == GOV_TARGET_APPLICATION_SET)
            return !holds(apply, gov_key_of((gov_row_kind)SLOT_TARGET, a, NULL, NULL), sequence);
        if (plain && plain->kind == GOV_OWNERSHIP_TRANSFERRED)
            return !holds(apply, gov_key_of(ROW_OWNER, a, NULL, NULL), sequence);
        return !plain && apply->op->op.root.kind == GOV_ADMIN_CHANGED &&
               !holds(apply, gov_key_of((gov_row_kind)SLOT_FOUNDER, NULL, NULL, NULL), sequence);
    case ROW_ROOT_ADMIN:
        return !holds(apply, gov_key_of((gov_row_kind)SLOT_FOUNDER, NULL, NULL, NULL), sequence);
    default:
        return false;
    }
}

/* Rows of accounts stand as the fold has them: of two certificates or root keys at once every node
 * takes the same. */
static void follow_fold(gov_apply *apply, cal_slice row) {
    gov_view fold = gov_fold_view(&apply->change->draft->fold, 0);
    gov_key key = {.len = row.len};
    cal_slice value;
    memcpy(key.bytes, row.data, row.len);
    if ((row.data[0] == ROW_BINDING || row.data[0] == ROW_ROOT_KEY) &&
        gov_view_get(&fold, &key, &value))
        gov_change_put(apply->change, key, value);
}

/* A membership that could be read only after the account had left the namespace with it: that it
 * left is said as when the membership comes first. */
static void note_left(gov_apply *apply, const gov_key *row) {
    const uint8_t *group = row->bytes + 1, *account = group + 32, reason = GOV_REENTRY_LEFT;
    gov_key left = gov_key_of((gov_row_kind)SLOT_LEFT, account, NULL, NULL),
            reentry = gov_key_of(ROW_REENTRY, group, account, NULL);
    gov_write write;
    if (row->bytes[0] == ROW_MEMBER && !is_member_now(apply, group, account) &&
        gov_fold_slot(&apply->change->draft->fold, &left, &write) &&
        !gov_view_get(&apply->view, &reentry, NULL) && was_member_at(apply, &write, row))
        gov_change_put(apply->change, reentry, cal_slice_of(&reason, sizeof reason));
}

/* An operation that others are beside of, or that comes late: its rows give way where another's
 * write stands in the fold, so the rows do not depend on the order of arrival. */
static int settle_beside(gov_apply *apply, const gov_group_op *plain) {
    gov_change *change = apply->change;
    uint64_t sequence;
    uint32_t generation;
    cal_buffer keys, lost; /* of gov_key: judging changes the rows walked over */
    int result = gov_graph_locate(change, &apply->id, &sequence, &generation);
    cal_buffer_init(&keys, CAL_STORE_VALUE_MAX);
    cal_buffer_init(&lost, CAL_STORE_VALUE_MAX);
    cal_sorted_node *node = cal_sorted_from(&change->covered, (cal_slice){0});
    for (; node && !result; node = node->next[0]) {
        gov_key key = {.len = node->key.len};
        memcpy(key.bytes, node->key.data, node->key.len);
        result = cal_buffer_append(overruled(apply, plain, node->key, sequence) ? &lost : &keys,
                                   &key, sizeof key);
    }
    for (size_t at = 0; at < lost.len && !result; at += sizeof(gov_key)) {
        const gov_key *key = (const gov_key *)(const void *)(lost.data + at);
        gov_savepoint_revert(change, cal_slice_of(key->bytes, key->len));
        note_left(apply, key);
    }
    for (size_t at = 0; at < keys.len && !result; at += sizeof(gov_key)) {
        const gov_key *key = (const gov_key *)(const void *)(keys.data + at);
        follow_fold(apply, cal_slice_of(key->bytes, key->len));
    }
    cal_buffer_deinit(&keys);
    cal_buffer_deinit(&lost);
    return result ? result : change->error;
}

/* --- one operation --- */

/* What was judged gets its place, or the place it has is settled. The savepoint ends. */
static int place(gov_apply *apply, const gov_verified *op, gov_judgement *judgement,
                 const gov_group_op *plain, bool late, cal_error *err) {
    gov_change *change = apply->change;
    gov_reason reason = judgement->reason;
    bool last = !late && is_last(apply);
    if (reason != GOV_WHY_FINE) {
        gov_savepoint_undo(change);
        gov_savepoint(change);
        if (reason == GOV_WHY_SEALED) gov_change_put_sealed(apply->change, apply->op, &apply->id);
    }
    if (apply->opened) confirm_key(apply);
    gov_noted noted = noted_of(apply, op, reason, plain);
    gov_rekeying rekeying = {.one = false};
    size_t placed = change->draft ? change->draft->count : 0;
    if (reason == GOV_WHY_FINE) rekeying = gov_rekeys(apply, noted.plain);
    int result = late ? gov_graph_settle(change, &noted, err) : gov_graph_note(change, &noted, err);
    if (!result && reason == GOV_WHY_FINE && !last && settle_beside(apply, noted.plain))
        result = cal_fail(err, CAL_ENOMEM, "no memory to settle an operation beside others");
    int settled = result ? 0 : gov_rekeying_settle(change, &rekeying);
    if (settled)
        result = cal_fail(err, settled, "which key counts could not be told: %s",
                          cal_error_text(settled));
    if (!result && change->error)
        result = cal_fail(err, change->error, "an operation could not be kept");
    if (!result) {
        gov_savepoint_keep(change);
        return 0;
    }
    gov_savepoint_undo(change);
    bool crowded = result == CAL_ELIMIT && !late && !change->error &&
                   (!change->draft || change->draft->count == placed);
    if (!crowded) return result; /* the graph may have part of it: the change goes */
    judgement->reason = GOV_WHY_CROWDED;
    judgement->wait = (gov_wait){.kind = GOV_WAIT_HISTORY};
    return 0;
}

int gov_apply_op(gov_change *change, gov_verified *op, gov_judgement *ret_judgement,
                 cal_error *err) {
    gov_apply apply = {
        .change = change, .op = &op->op, .id = op->id, .view = gov_change_view(change)};
    gov_effect known;
    gov_group_op plain;
    *ret_judgement = (gov_judgement){.reason = op->reason};
    if (op->reason == GOV_WHY_FINE &&
        !gov_id_equal(op->op.namespace_id.bytes, change->ns->id.bytes))
        ret_judgement->reason = GOV_WHY_NAMESPACE;
    if (ret_judgement->reason != GOV_WHY_FINE) return 0;
    int result = gov_graph_find(change, &op->id, &known);
    if (result == 0) {
        *ret_judgement = (gov_judgement){.reason = known_reason(known), .known = true};
        return 0;
    }
    if (result != CAL_ENOTFOUND)
        return cal_fail(err, result, "an operation could not be looked up: %s",
                        cal_error_text(result));
    gov_proofs_join(&change->gov->proofs, &op->proofs);
    gov_savepoint(change);
    result = judge(&apply, op, &plain, ret_judgement, err);
    if (!result && gov_reason_verdict(ret_judgement->reason) != GOV_WAITING)
        return place(&apply, op, ret_judgement, &plain, false, err);
    gov_savepoint_undo(change);
    return result;
}

/* --- what was sealed --- */

int gov_apply_late(gov_change *change, gov_verified *op, const gov_view *cut,
                   gov_group_op *ret_plain, gov_late *ret_late, cal_error *err) {
    gov_judgement judgement = {.reason = GOV_WHY_FINE};
    gov_apply apply = {
        .change = change, .op = &op->op, .id = op->id, .view = gov_change_view(change)};
    *ret_late = (gov_late){.effect = GOV_EFFECT_OPAQUE};
    if (cut) apply.cut = *cut;
    gov_savepoint(change);
    int result = cut ? judge_at(&apply, op, ret_plain, &judgement, err)
                     : judge(&apply, op, ret_plain, &judgement, err);
    if (result || gov_reason_verdict(judgement.reason) == GOV_WAITING ||
        judgement.reason == GOV_WHY_SEALED) {
        gov_savepoint_undo(change);
        return result;
    }
    if ((result = place(&apply, op, &judgement, ret_plain, true, err))) return result;
    *ret_late = (gov_late){true, effect_of(judgement.reason), apply.attributed, apply.signer};
    gov_change_delete(change, gov_key_of(ROW_SEALED, op->op.op.group_id.bytes, op->id.bytes, NULL));
    return 0;
}

/* --- authoring --- */

/* Our own operations pass where everybody's do; for them anything but an effect is an error, and
 * the change goes with it. */
static int apply_own(gov_change *change, cal_slice bytes, cal_error *err) {
    gov_verified *op;
    gov_judgement judgement;
    int result = gov_verify(bytes, &op);
    if (result) return cal_fail(err, result, "no memory for a governance operation");
    result = gov_apply_op(change, op, &judgement, err);
    gov_verified_free(op);
    if (!result && judgement.reason != GOV_WHY_FINE)
        result = cal_fail(err, gov_reason_code(judgement.reason), "%s",
                          gov_reason_text(judgement.reason));
    return result;
}

/* The operation's bytes, for gossip after the commit. */
static int keep_bytes(gov_change *change, cal_slice bytes) {
    gov_logged *kept = malloc(sizeof *kept + bytes.len);
    if (!kept) return CAL_ENOMEM;
    kept->len = bytes.len;
    memcpy(kept->bytes, bytes.data, bytes.len);
    cal_list_push(&change->ops, &kept->link);
    change->op_count++;
    return 0;
}

static int cite(gov_change *change, const gov_op *op, gov_ids *ret_ids, cal_error *err) {
    cal_group_id group = group_of_op(op, &change->ns->id);
    bool joins = !op->group && op->root.kind == GOV_MEMBER_JOINED_AT;
    cal_buffer ids;
    cal_buffer_init(&ids, GOV_HEADS_MAX * 32);
    int result = gov_citable(change, &group, joins ? GOV_CITES_JOIN : GOV_CITES_GOVERN, &ids);
    cal_hash *items = cal_arena_copy(&change->arena, ids.data, ids.len);
    if (!result && !items) result = CAL_ENOMEM;
    *ret_ids = (gov_ids){items, (uint32_t)(ids.len / 32)};
    cal_buffer_deinit(&ids);
    return result ? cal_fail(err, result, "the namespace's history could not be read: %s",
                             cal_error_text(result))
                  : 0;
}

static int author(gov_change *change, gov_op op, cal_error *err) {
    gov_view view = gov_change_view(change);
    gov_ids parents = change->beside;
    int result = parents.count ? 0 : cite(change, &op, &parents, err);
    if (result) return result;
    gov_signed_op signed_op = {
        .namespace_id = change->ns->id,
        .parents = parents,
        .nonce = gov_sequence_get(&view) + 1,
        .op = op,
    };
    cal_buffer bytes;
    cal_hash id;
    cal_buffer_init(&bytes, GOV_OP_MAX);
    result = gov_signed_op_sign(&signed_op, &change->gov->identity.sign_seed, &bytes, &id);
    if (!result) result = keep_bytes(change, cal_buffer_slice(&bytes));
    if (result)
        cal_fail(err, result, "the governance operation could not be encoded: %s",
                 cal_error_text(result));
    else
        result = apply_own(change, cal_buffer_slice(&bytes), err);
    cal_buffer_deinit(&bytes);
    return result;
}

int gov_author_root(gov_change *change, const gov_root_op *op, cal_error *err) {
    return author(change, (gov_op){.root = *op}, err);
}

int gov_author_group(gov_change *change, const cal_group_id *group, const gov_group_op *op,
                     cal_error *err) {
    return gov_author_sealed(change, group, op, &(gov_rotation){0}, err);
}

/* Sealed under the group's own key or, on an open chain, the namespace's. A change of visibility is
 * judged from the parent, so that those who lose sight of the group still read why (governance.md
 * 6). */
int gov_author_sealed(gov_change *change, const cal_group_id *group, const gov_group_op *op,
                      const gov_rotation *rotation, cal_error *err) {
    gov_view view = gov_change_view(change);
    cal_group_id from = *group, sealing;
    gov_group_key key;
    gov_op sealed = {.group = true, .group_id = *group, .rotation = *rotation};
    bool from_parent = op->kind == GOV_VISIBILITY_SET && gov_group_parent(&view, group, &from);
    sealing = gov_key_group(&view, &from);
    if (from_parent && !gov_id_equal(sealing.bytes, view.namespace_id.bytes)) sealing = *group;
    if (!gov_key_current(&view, &sealing, &key))
        return cal_fail(err, CAL_ESTATE,
                        "this node has no key of the group yet; wait until a member delivers it");
    sealed.key_id = key.id;
    cal_random(change->gov->os, sealed.nonce, sizeof sealed.nonce);
    cal_buffer ciphertext;
    cal_buffer_init(&ciphertext, GOV_SEALED_OP_MAX);
    int result = gov_group_op_seal(op, &key.key, sealed.nonce, &ciphertext);
    sealed.sealed = cal_buffer_slice(&ciphertext);
    if (result)
        cal_fail(err, result, "the governance operation could not be sealed: %s",
                 cal_error_text(result));
    else
        result = author(change, sealed, err);
    cal_secret_wipe(&key.key);
    cal_buffer_deinit(&ciphertext);
    return result;
}
