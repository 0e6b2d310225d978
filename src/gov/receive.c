/* Operations of others: a batch of them becomes one change (gov.h).
 *
 * Each has a savepoint of its own (apply.c), so one that is refused or waits leaves nothing behind
 * and those after it go on. They are judged causally; what waited for one of them, or for a key
 * that one of them brought, is judged in the same change. What still waits is parked (parking.h).
 *
 * Loop thread; gov_verify is what comes before, on any. */
#include <stdlib.h>

#include "base/error.h"
#include "dag/dag.h"
#include "gov/draft.h"

typedef struct {
    gov_change *change;
    gov_parking *parking;
    size_t judged, bytes; /* in this call, whatever became of it */
    size_t keys;          /* of the change, that have been looked at */
    bool founded;         /* the namespace has its founder since this call */
    cal_error *err;
} receiver;

/* --- receipts --- */

static int reserve_receipts(gov_change *change, size_t more) {
    size_t capacity = change->receipt_capacity ? change->receipt_capacity : 16;
    while (capacity < change->receipt_count + more) capacity *= 2;
    if (capacity == change->receipt_capacity) return 0;
    gov_receipt *grown = realloc(change->receipts, capacity * sizeof *grown);
    if (!grown) return CAL_ENOMEM;
    change->receipts = grown;
    change->receipt_capacity = capacity;
    return 0;
}

static gov_receipt receipt_of(const gov_verified *op, const gov_judgement *judgement,
                              uint64_t sender) {
    return (gov_receipt){.id = op->id,
                         .verdict = gov_reason_verdict(judgement->reason),
                         .reason = judgement->reason,
                         .wait = judgement->wait,
                         .known = judgement->known,
                         .sender = sender};
}

/* --- what became possible --- */

/* Keys that came with the last operation: what was sealed under them, and what waited for them. */
static int take_keys(receiver *r) {
    cal_slice prefix = cal_slice_of((const uint8_t[]){ROW_KEY}, 1);
    size_t count = 0;
    for (cal_sorted_node *node = cal_sorted_from(&r->change->changed, prefix);
         node && node->key.data[0] == ROW_KEY; node = node->next[0])
        count++;
    if (count == r->keys) return 0;
    r->keys = count;
    cal_buffer ids; /* of cal_hash: judging changes the rows walked over */
    cal_buffer_init(&ids, CAL_STORE_VALUE_MAX);
    for (cal_sorted_node *node = cal_sorted_from(&r->change->changed, prefix);
         node && node->key.data[0] == ROW_KEY; node = node->next[0])
        cal_buffer_append(&ids, node->key.data + 33, 32);
    int result = ids.error;
    if (result) cal_fail(r->err, result, "no memory for the keys of a change");
    for (size_t at = 0; at < ids.len && !result; at += 32)
        gov_parking_wake(r->parking, GOV_WAIT_KEY, (const cal_hash *)(const void *)(ids.data + at));
    if (!result) result = gov_apply_unsealed(r->change, r->err);
    cal_buffer_deinit(&ids);
    return result;
}

/* Judges one; what it makes possible becomes ready. */
static int judge(receiver *r, gov_verified *op, uint64_t sender, gov_judgement *ret_judgement) {
    int result = gov_apply_op(r->change, op, ret_judgement, r->err);
    r->judged++;
    r->bytes += op->len;
    gov_verdict verdict = gov_reason_verdict(ret_judgement->reason);
    if (!result && reserve_receipts(r->change, 1))
        result = cal_fail(r->err, CAL_ENOMEM, "no memory for what became of an operation");
    if (result) return result;
    r->change->receipts[r->change->receipt_count++] = receipt_of(op, ret_judgement, sender);
    if (ret_judgement->known || (verdict != GOV_APPLIED && verdict != GOV_KEPT)) return 0;
    gov_parking_wake(r->parking, GOV_WAIT_PARENT, &op->id);
    if (verdict == GOV_APPLIED && !op->op.op.group &&
        op->op.op.root.kind == GOV_NAMESPACE_CREATED) {
        r->founded = true;
        gov_parking_wake(r->parking, GOV_WAIT_HISTORY, &(cal_hash){{0}});
    }
    return take_keys(r);
}

/* Beyond the bound of a call the next one goes on (gov_receive_pending). */
static int judge_parked(receiver *r) {
    while (r->judged < GOV_RECEIVE_OPS_MAX && r->bytes < GOV_RECEIVE_BYTES_MAX) {
        gov_judgement judgement;
        gov_parked *parked = gov_parking_next(r->parking);
        if (!parked) return 0;
        int result = judge(r, parked->op, parked->sender, &judgement);
        if (!result && gov_reason_verdict(judgement.reason) == GOV_WAITING) {
            r->change->receipt_count--; /* nothing new about it */
            result = gov_parking_add(r->parking, parked->op, &judgement.wait, parked->sender);
            if (!result) {
                parked->op = NULL;
                gov_parked_free(parked);
                continue;
            }
            cal_fail(r->err, result, "no memory for an operation that waits");
        }
        cal_list_push(&r->change->taken, &parked->queue);
        if (result) return result;
    }
    return 0;
}

/* --- a batch --- */

/* Causal order. Operations that do not decode have no place in it, and need none. */
static int sort_ops(gov_verified *const *ops, size_t count, size_t *ret_order) {
    dag_op *nodes = calloc(count + 1, sizeof *nodes);
    if (!nodes) return CAL_ENOMEM;
    for (size_t i = 0; i < count; i++) {
        nodes[i].id = ops[i]->id;
        if (ops[i]->reason != GOV_WHY_FINE) continue;
        nodes[i].parents = ops[i]->op.parents.items;
        nodes[i].parent_count = ops[i]->op.parents.count;
    }
    int result = dag_sort(nodes, count, ret_order);
    for (size_t i = 0; result == CAL_EDECODE && i < count; i++) ret_order[i] = i;
    free(nodes);
    return result == CAL_EDECODE ? 0 : result;
}

/* Judges those given, then what they made possible. Receipts come in the order of judging and are
 * put in the order of the operations. */
static int judge_batch(receiver *r, gov_verified **ops, const size_t *order, size_t count,
                       uint64_t sender, gov_judgement *judgements) {
    int result = reserve_receipts(r->change, count);
    if (result) return cal_fail(r->err, result, "no memory for what becomes of operations");
    for (size_t i = 0; i < count && !result; i++) {
        size_t at = order[i];
        bool waits = ops[at]->reason == GOV_WHY_FINE && gov_parking_holds(r->parking, &ops[at]->id);
        result = judge(r, ops[at], sender, &judgements[at]);
        if (!result && waits && gov_reason_verdict(judgements[at].reason) == GOV_WAITING)
            judgements[at].known = true;
    }
    for (size_t i = 0; i < count && !result; i++)
        r->change->receipts[i] = receipt_of(ops[i], &judgements[i], sender);
    return result ? result : judge_parked(r);
}

/* What it waits for came in the same call, after it was judged and before it was parked. */
static void wake_late(receiver *r, const gov_wait *wait) {
    uint64_t sequence;
    uint32_t generation;
    if (wait->kind == GOV_WAIT_PARENT
            ? gov_graph_locate(r->change, &wait->id, &sequence, &generation) == 0
            : wait->kind == GOV_WAIT_HISTORY && r->founded)
        gov_parking_wake(r->parking, wait->kind, &wait->id);
}

/* Those that wait are parked, the others are done with. */
static void let_go(receiver *r, gov_verified **ops, size_t count, uint64_t sender,
                   const gov_judgement *judgements) {
    for (size_t i = 0; i < count; i++) {
        bool waits = gov_reason_verdict(judgements[i].reason) == GOV_WAITING &&
                     !gov_parking_holds(r->parking, &ops[i]->id);
        /* without room it is as if it had not come: whoever needs it fetches it again */
        if (!waits || gov_parking_add(r->parking, ops[i], &judgements[i].wait, sender))
            gov_verified_free(ops[i]);
        else
            wake_late(r, &judgements[i].wait);
        ops[i] = NULL;
    }
}

static int check_batch(const cal_gov *gov, const cal_group_id *namespace_id,
                       gov_verified *const *ops, size_t count, cal_error *err) {
    const gov_namespace *ns = cal_map_get(&gov->groups, cal_slice_of(namespace_id->bytes, 32));
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) bytes += ops[i]->len;
    if (count > GOV_RECEIVE_OPS_MAX || bytes > GOV_RECEIVE_BYTES_MAX)
        return cal_fail(err, CAL_EINVAL, "more operations at once than one change may hold");
    if (ns && !ns->retired && !gov_id_equal(ns->id.bytes, namespace_id->bytes))
        return cal_fail(err, CAL_EEXISTS, "the id is that of another namespace's group");
    return 0;
}

int gov_receive(cal_gov *gov, const cal_group_id *namespace_id, gov_verified **ops, size_t count,
                uint64_t sender, gov_change **ret_change, cal_error *err) {
    gov_change *change;
    int result = check_batch(gov, namespace_id, ops, count, err);
    if (!result) result = gov_change_begin(gov, namespace_id, &change, err);
    if (result) return result;
    receiver r = {.change = change, .parking = &change->ns->parking, .err = err};
    size_t *order = calloc(count + 1, sizeof *order);
    gov_judgement *judgements = calloc(count + 1, sizeof *judgements);
    if (!order || !judgements || sort_ops(ops, count, order))
        result = cal_fail(err, CAL_ENOMEM, "no memory to judge operations");
    if (!result) result = judge_batch(&r, ops, order, count, sender, judgements);
    if (!result) result = gov_unseal_step(change, err);
    if (!result) gov_keys_settle(change);
    result = gov_change_finish(change, result, ret_change, err);
    if (!result) let_go(&r, ops, count, sender, judgements);
    free(order);
    free(judgements);
    return result;
}

const gov_receipt *gov_change_receipts(const gov_change *change, size_t *ret_count) {
    *ret_count = change->receipt_count;
    return change->receipts;
}

bool gov_change_empty(const gov_change *change) { return cal_batch_count(change->batch) == 0; }

/* --- what waits --- */

bool gov_receive_pending(cal_gov *gov, const cal_group_id *namespace_id) {
    const gov_namespace *ns = gov_namespace_find(gov, namespace_id);
    return ns && (!cal_list_empty(&ns->parking.ready) || ns->unsealing || ns->unseal_due);
}

void gov_history_complete(cal_gov *gov, const cal_group_id *namespace_id) {
    gov_namespace *ns = gov_namespace_find(gov, namespace_id);
    if (ns) gov_parking_wake(&ns->parking, GOV_WAIT_HISTORY, &(cal_hash){{0}});
}

gov_waiting_info gov_waiting(cal_gov *gov, const cal_group_id *namespace_id) {
    const gov_namespace *ns = gov_namespace_find(gov, namespace_id);
    if (!ns) return (gov_waiting_info){0};
    return (gov_waiting_info){ns->parking.count, ns->parking.bytes, ns->parking.evicted};
}

size_t gov_missing(cal_gov *gov, const cal_group_id *namespace_id, cal_hash *ret_ids, size_t max) {
    const gov_namespace *ns = gov_namespace_find(gov, namespace_id);
    return ns ? gov_parking_missing(&ns->parking, ret_ids, max) : 0;
}
