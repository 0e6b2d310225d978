/* Which key of a group nobody has who is gone from it (governance.md 11; 18.2, G6).
 *
 * A rotation keeps out whom its author knew to be gone. Admins who act at once know nothing of one
 * another: each one's key is in the hands of whom the other removed. And who was an admin once may
 * go on making keys where it was one, above every other by generation. So the highest key is not
 * the one to seal with. A rotation is closed when every end of a membership that stands in the
 * present fold stands in the fold at the rotation too; the highest closed one brought the current
 * key (ROW_KEY_CLOSED), whatever lies above it. Where none is closed an admin owes one
 * (ROW_ROTATION_DUE), of whoever the highest one does not keep out.
 *
 * Both rows follow from the operations that are here and not from their order, and are settled with
 * each one that may change them. Most are the only head then, and closed at a glance. Loop thread.
 */
#include <stdlib.h>

#include "base/error.h"
#include "gov/draft.h"

typedef struct rotation {
    gov_group_key key; /* its id and epoch */
    uint64_t sequence;
    cal_account_id author;
} rotation;

typedef struct question {
    gov_change *change;
    const gov_fold *now;
    gov_view rows; /* of it */
    const cal_group_id *group;
    uint64_t since; /* number of the last operation that must be known; 0: nobody is gone */
} question;

static rotation rotation_read(cal_slice key_id, cal_slice value) {
    rotation r = {.key.epoch = cal_read_u64le(value.data)};
    memcpy(r.key.id.bytes, key_id.data, 32);
    if (value.len < GOV_EPOCH_ROW_SIZE) return r; /* of an older layout: nobody knows whose */
    r.sequence = cal_read_u64le(value.data + 8);
    memcpy(r.author.bytes, value.data + 16, 32);
    return r;
}

/* --- who is gone --- */

static bool is_member(const question *q, const cal_account_id *account) {
    return gov_member_get(&q->rows, q->group, account, NULL) ||
           gov_admin_direct(&q->rows, q->group, account);
}

/* A walk over accounts whose membership has ended, then over devices that were revoked. */
typedef struct gone {
    gov_walk accounts, devices;
    const uint8_t *id; /* of the one that was found */
    bool device;
    uint64_t sequence; /* of the device: of the first operation that revoked it */
} gone;

static gone gone_start(const question *q) {
    gov_view slots = gov_fold_slots(q->now), rows = gov_change_view(q->change);
    return (gone){.accounts = gov_walk_start(&slots, ROW_MEMBER, q->group->bytes, NULL),
                  .devices = gov_walk_start(&rows, ROW_DEVICE_GONE, q->group->bytes, NULL)};
}

static bool gone_next(const question *q, gone *g) {
    cal_slice id, value;
    while (!g->device && gov_walk_next(&g->accounts, &id, &value)) {
        cal_account_id account;
        memcpy(account.bytes, id.data, 32);
        g->id = id.data;
        if (!is_member(q, &account)) return true;
    }
    g->device = true;
    if (!gov_walk_next(&g->devices, &id, &value)) return false;
    g->id = id.data;
    g->sequence = cal_read_u64le(value.data);
    return true;
}

/* The slots that say so of an account. */
typedef struct ends {
    gov_key slots[2];
} ends;

static ends ends_of(const question *q, const gone *g) {
    return (ends){{gov_key_of(ROW_MEMBER, q->group->bytes, g->id, NULL),
                   gov_key_of((gov_row_kind)SLOT_LEFT, g->id, NULL, NULL)}};
}

static uint64_t last_end(const question *q) {
    uint64_t since = 0;
    gone g = gone_start(q);
    while (gone_next(q, &g)) {
        const ends e = ends_of(q, &g);
        gov_write write;
        for (size_t i = 0; i < 2 && !g.device; i++)
            if (gov_fold_slot(q->now, &e.slots[i], &write) && write.sequence > since)
                since = write.sequence;
        if (g.device && g.sequence > since) since = g.sequence;
    }
    return since;
}

/* --- what a rotation keeps out --- */

static bool same_slot(const gov_fold *now, const gov_fold *then, const gov_key *key) {
    gov_write here, there;
    bool is = gov_fold_slot(now, key, &here), was = gov_fold_slot(then, key, &there);
    return is == was && (!is || memcmp(here.rank, there.rank, GOV_RANK_SIZE) == 0);
}

static bool is_kept_out(const question *q, const gov_fold *then, const gone *g) {
    const ends e = ends_of(q, g);
    gov_key revoked = gov_key_of(ROW_REVOKED, g->id, NULL, NULL);
    gov_write write;
    return g->device ? gov_fold_slot(then, &revoked, &write)
                     : same_slot(q->now, then, &e.slots[0]) && same_slot(q->now, then, &e.slots[1]);
}

/* The first whom the rotation at this cut does not keep out. */
static bool let_in(const question *q, const gov_fold *then, gone *ret_gone) {
    *ret_gone = gone_start(q);
    while (gone_next(q, ret_gone))
        if (!then || !is_kept_out(q, then, ret_gone)) return true;
    return false;
}

/* The fold at the rotation. NULL: it is not known which operation it was. */
static int fold_at(const question *q, const rotation *r, const gov_fold **ret_fold) {
    *ret_fold = NULL;
    return r->sequence ? gov_cut_at(q->change, r->sequence, ret_fold) : 0;
}

/* Numbers grow upwards: who has a smaller one than an end does not know of it. And whoever made a
 * key has it. */
static bool may_be_closed(const question *q, const rotation *r) {
    return q->since == 0 || (r->sequence >= q->since && is_member(q, &r->author));
}

/* The highest rotation below `below` (NULL: of all); with `filter` of those that may be closed. */
static bool next_rotation(const question *q, const rotation *below, bool filter,
                          rotation *ret_rotation) {
    gov_view rows = gov_change_view(q->change);
    gov_walk walk = gov_walk_start(&rows, ROW_KEY_EPOCH, q->group->bytes, NULL);
    cal_slice id, value;
    bool found = false;
    while (gov_walk_next(&walk, &id, &value)) {
        rotation r = rotation_read(id, value);
        if ((below && gov_key_compare(&r.key, &below->key) >= 0) ||
            (found && gov_key_compare(&r.key, &ret_rotation->key) <= 0) ||
            (filter && !may_be_closed(q, &r)))
            continue;
        *ret_rotation = r;
        found = true;
    }
    return found;
}

/* It is the last operation and the only head: it knows whatever there is. */
static bool knows_all(const question *q, const rotation *r) {
    gov_view rows = gov_change_view(q->change);
    return gov_heads_get(&rows).len == 32 && r->sequence == gov_graph_top(q->change) &&
           is_member(q, &r->author);
}

static int find_closed(const question *q, rotation *ret_rotation, bool *ret_found) {
    rotation below;
    *ret_found = next_rotation(q, NULL, true, ret_rotation);
    while (*ret_found && q->since) {
        const gov_fold *then;
        gone g;
        int result = fold_at(q, ret_rotation, &then);
        if (result || then == q->now || !let_in(q, then, &g)) return result;
        below = *ret_rotation;
        *ret_found = next_rotation(q, &below, true, ret_rotation);
    }
    return 0;
}

/* --- the rows --- */

static void put(gov_change *change, gov_key key, cal_slice value) {
    gov_view rows = gov_change_view(change);
    cal_slice known;
    if (!gov_view_get(&rows, &key, &known) || !cal_slice_equal(known, value))
        gov_change_put(change, key, value);
}

static void drop_debts(gov_change *change, const cal_group_id *group, const uint8_t *but) {
    for (bool more = true; more && !change->error;) { /* deleting changes what is walked over */
        gov_view rows = gov_change_view(change);
        gov_walk walk = gov_walk_start(&rows, ROW_ROTATION_DUE, group->bytes, NULL);
        cal_slice id;
        do more = gov_walk_next(&walk, &id, NULL);
        while (more && but && gov_id_equal(id.data, but));
        if (more)
            gov_change_delete(change, gov_key_of(ROW_ROTATION_DUE, group->bytes, id.data, NULL));
    }
}

/* Of whoever the highest rotation lets in; of the first who is gone when there is none, or when it
 * is its author who should not have it. */
static int owe(const question *q) {
    rotation top;
    const gov_fold *then = NULL;
    uint8_t subject[32];
    gone g;
    int result = next_rotation(q, NULL, false, &top) ? fold_at(q, &top, &then) : 0;
    if (result) return result;
    if (!let_in(q, then, &g) && !let_in(q, NULL, &g)) return 0;
    memcpy(subject, g.id, sizeof subject);
    drop_debts(q->change, q->group, subject);
    put(q->change, gov_key_of(ROW_ROTATION_DUE, q->group->bytes, subject, NULL), (cal_slice){0});
    return 0;
}

static int settle(gov_change *change, const cal_group_id *group) {
    const gov_fold *now = &change->draft->fold;
    question q = {.change = change, .now = now, .rows = gov_cut_of_fold(now), .group = group};
    gov_key row = gov_key_of(ROW_KEY_CLOSED, group->bytes, NULL, NULL);
    gov_view rows = gov_change_view(change);
    rotation closed;
    int result = 0;
    if (!gov_meta_get(&rows, group, NULL)) return 0; /* deleted */
    bool found = next_rotation(&q, NULL, false, &closed) && knows_all(&q, &closed);
    if (!found) {
        q.since = last_end(&q);
        result = find_closed(&q, &closed, &found);
    }
    if (result) return result;
    if (found)
        put(change, row, cal_slice_of(closed.key.id.bytes, sizeof closed.key.id.bytes));
    else if (gov_view_get(&rows, &row, NULL))
        gov_change_delete(change, row);
    if (!found && q.since) return owe(&q);
    drop_debts(change, group, NULL);
    return 0;
}

static int settle_all(gov_change *change) {
    cal_buffer groups;
    cal_buffer_init(&groups, CAL_STORE_VALUE_MAX);
    gov_view rows = gov_change_view(change);
    gov_walk walk = gov_walk_start(&rows, ROW_META, NULL, NULL);
    cal_slice id, value;
    while (gov_walk_next(&walk, &id, &value)) cal_buffer_append(&groups, id.data, 32);
    int result = groups.error;
    for (size_t at = 0; at < groups.len && !result; at += 32) {
        cal_group_id group;
        memcpy(group.bytes, groups.data + at, 32);
        result = settle(change, &group);
    }
    cal_buffer_deinit(&groups);
    return result;
}

/* --- which operations change it --- */

/* The account has been in the group, or has left the namespace: that it comes now is a return. */
static bool was_there(const gov_apply *apply, const cal_group_id *group,
                      const cal_account_id *account) {
    const gov_change *change = apply->change;
    const gov_fold *fold = change->draft ? &change->draft->fold : &change->ns->graph->fold;
    gov_key member = gov_key_of(ROW_MEMBER, group->bytes, account->bytes, NULL),
            left = gov_key_of((gov_row_kind)SLOT_LEFT, account->bytes, NULL, NULL);
    gov_write write;
    return gov_fold_slot(fold, &member, &write) || gov_fold_slot(fold, &left, &write);
}

static gov_rekeying touches_one(const gov_apply *apply, const cal_group_id *group,
                                const cal_account_id *account) {
    return (gov_rekeying){.one = was_there(apply, group, account), .group = *group};
}

static gov_rekeying of_group_op(const gov_apply *apply, const gov_group_op *plain) {
    const gov_op *op = &apply->op->op;
    bool whole = gov_id_equal(op->group_id.bytes, apply->view.namespace_id.bytes);
    switch ((gov_group_kind)plain->kind) {
    case GOV_MEMBER_REMOVED:
    case GOV_KEY_ROTATED:
    case GOV_KEY_ROTATED_FOR_DEVICE:
        return (gov_rekeying){.one = true, .group = op->group_id};
    case GOV_MEMBER_LEFT:
        return (gov_rekeying){.one = true, .all = whole, .group = op->group_id};
    case GOV_DEVICE_UNLINKED:
        return (gov_rekeying){.all = true};
    case GOV_MEMBER_ADDED:
    case GOV_MEMBER_ROLE_SET:
    case GOV_OWNERSHIP_TRANSFERRED:
        return touches_one(apply, &op->group_id, &plain->account);
    default:
        return (gov_rekeying){.one = op->rotation.present, .group = op->group_id};
    }
}

gov_rekeying gov_rekeys(const gov_apply *apply, const gov_group_op *plain) {
    const gov_root_op *root = &apply->op->op.root;
    if (apply->op->op.group) return of_group_op(apply, plain);
    switch ((gov_root_kind)root->kind) {
    case GOV_MEMBER_JOINED:
    case GOV_MEMBER_JOINED_AT:
        return touches_one(apply, &root->invitation.group, &root->account);
    case GOV_ADMIN_CHANGED:
        return touches_one(apply, &apply->view.namespace_id, &root->account);
    case GOV_GROUP_CREATED:
        return touches_one(apply, &root->group, &apply->signer);
    default:
        return (gov_rekeying){.one = false};
    }
}

int gov_rekeying_settle(gov_change *change, const gov_rekeying *what) {
    return what->all ? settle_all(change) : what->one ? settle(change, &what->group) : 0;
}
